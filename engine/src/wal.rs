//! The write-ahead log: a chain of segments, each a file of records.
//!
//! ```text
//! segment         file header (48), segment header (40), the same again (40), records
//! segment header   0 previous segment  u64, its number; 0 for the first
//!                  8 previous end      u64, where its last record ended
//!                 16 first sequence    u64, of the first record
//!                 24 salt              u64, random
//!                 32 crc32             u32, of the 32 bytes before, seeded with the place
//!                 36 zero              u32
//! ```
//!
//! Without the salt no record can be told from garbage, and no promise of one counts. That is why the
//! segment header is there twice: one copy is enough to judge what lies behind a damaged other one.
//!
//! Always true of a log: sequence numbers are dense over all segments, each record begins where the
//! one before ended, and each segment says where the one before it ended. What lies behind that end
//! (a write that failed and was cut off), and a segment that the chain jumps over, is no part of it.
//!
//! **Torn tail or damage.** Each record says how far the log was durable when it was written. A
//! defect at position x is damage only if such a record behind x, the manifest or a seal promises
//! durability beyond x. Otherwise the log ends at x: everything behind it, later records and segments
//! included, was never promised to anybody, and is dropped and counted. An end mark promises nothing.
//! Zeros from a record's end to the end of the file are neither: space is written ahead of the records,
//! and a process that dies leaves it. The segment ends where they begin, as if the file did.
//!
//! **Two ways to append.** By positioned writes; or, once [`SegmentWriter::map`] was asked for it, by stores
//! into a mapping of the file. Nothing is stored where no zeros were written before ([`Room`]), so a
//! full disk shows before a record is begun, and a store cannot fail. Where each record is synced at once, even
//! a mapped segment is written to ([`SegmentWriter::prefer_writes`]).
//!
//! [`replay`] writes nothing, and holds one record in memory at a time.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::checksum::{FileHasher, crc32};
use crate::coding::{Input, put_u32, put_u64};
use crate::error::{Error, ErrorKind, Result, is_no_space};
use crate::filename::FileName;
use crate::fs::{File, Fs, Mapping, allocate_ahead};
use crate::header::{FileHeader, FileKind, HEADER_LEN};
use crate::key::{SEQ_MAX, SeqNo};
use crate::options::LogMode;
use crate::record::reader::{Found, RecordReader, len_without_zeros};
use crate::record::writer::{check_payload, encode, encode_into};
use crate::record::{Place, RecordHeader, RecordKind, record_len};
use crate::sabotage::{self, Bug};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

pub use crate::record::LogPosition;

/// Bytes of each of the two segment headers, behind the file header.
pub const SEGMENT_HEADER_LEN: usize = 40;

/// Where the first record of a segment begins.
pub const FIRST_RECORD: u64 = (HEADER_LEN + 2 * SEGMENT_HEADER_LEN) as u64;

/// Space is reserved ahead of the records in steps of at most this, so that a full disk shows before
/// a record is half written.
const ALLOCATE_STEP_MAX: u64 = 4 << 20;
const ALLOCATE_STEP_MIN: u64 = 64 << 10;

/// How many bytes are written ahead at once by whoever has time, and by a writer who cannot wait; less in a
/// segment that stays small.
const ROOM_STEP: u64 = 1 << 20;
const ROOM_STEP_LATE: u64 = 64 << 10;
const ROOM_STEP_MIN: u64 = 4 << 10;

/// What is mapped beyond the expected length of a segment, for the group that fills it.
const MAPPED_BEYOND: u64 = 2 << 20;

/// Writes one segment. Not shared: the one who commits owns it.
pub struct SegmentWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    place: Place,
    end: u64,
    next_seq: SeqNo,
    allocated: u64,
    state: WriterState,
    buffer: Vec<u8>,
    /// See [`SegmentWriter::take_cut`].
    is_cut: bool,
    /// None where records are appended by positioned writes.
    mapped: Option<Mapped>,
}

struct Mapped {
    mapping: Box<dyn Mapping>,
    room: Arc<Room>,
    /// Records are written into the room, not stored.
    writes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriterState {
    Open,
    Finished,
    /// A failed write could not be cut off: what the file holds is unknown.
    Broken,
}

impl SegmentWriter {
    /// Makes segment `number`, which follows the segment that ended at `previous`
    /// ([`LogPosition::START`] for the first) and is finished, and writes its headers. Syncs neither
    /// file nor directory.
    /// On failure the file is removed again as far as that works.
    pub fn create(
        fs: &dyn Fs,
        dir: &Path,
        number: u64,
        db_id: u128,
        previous: LogPosition,
        first_seq: SeqNo,
        salt: u64,
    ) -> Result<SegmentWriter> {
        let path = FileName::Wal(number).path(dir);
        let place = Place { db_id, number, salt };
        let header = SegmentHeader { previous, first_seq, salt };
        let mut bytes = FileHeader { kind: FileKind::Wal, number, db_id }.encode().to_vec();
        bytes.extend_from_slice(&header.encode(place, HEADER_LEN));
        bytes.extend_from_slice(&header.encode(place, HEADER_LEN + SEGMENT_HEADER_LEN));
        let file = fs.create_new(&path).map_err(|e| Error::io("create a log segment", &path, e))?;
        if let Err(e) = file.write_all_at(&bytes, 0) {
            // Best effort: replay ignores a segment that the chain jumps over.
            let _ = fs.remove_file(&path);
            return Err(Error::io("write the header of a log segment", &path, e));
        }
        Ok(SegmentWriter {
            file,
            path,
            place,
            end: FIRST_RECORD,
            next_seq: first_seq,
            allocated: 0,
            state: WriterState::Open,
            buffer: Vec::new(),
            is_cut: false,
            mapped: None,
        })
    }

    /// Maps the segment, which is expected to become `expected_len` bytes long, if `mode` says so and the
    /// file can be mapped. Otherwise it goes on by positioned writes, as it does whenever a mapping does
    /// not reach far enough.
    pub fn map(&mut self, mode: LogMode, expected_len: u64) {
        let wanted = match mode {
            LogMode::Auto => self.file.is_mappable(),
            LogMode::Mapped => true,
            LogMode::Positioned => false,
        };
        if !wanted {
            return;
        }
        match self.file.map(expected_len.saturating_add(MAPPED_BEYOND)) {
            Ok(mapping) => {
                let room = Arc::new(Room::new(self.file.clone(), self.end, expected_len));
                self.mapped = Some(Mapped { mapping, room, writes: false });
            }
            Err(error) => tracing::debug!(%error, path = %self.path.display(), "the log is not mapped"),
        }
    }

    /// Says whether the records from here on are written even if the segment is mapped. For who syncs after each of
    /// them: a page that was synced faults when it is stored into, which dirties the whole piece that the system's
    /// cache keeps it in, as large as what was written at once. A store and a sync take 97 us where zeros were written
    /// by 16 KiB, 115 by 64 KiB, and 336 by 1 MiB; a positioned write and a sync 91 each time, as a page that is
    /// written again and again does (a raw program, ext4 of Linux 6.18). But small pieces make each other store dearer.
    #[inline]
    pub fn prefer_writes(&mut self, writes: bool) {
        if let Some(mapped) = &mut self.mapped {
            mapped.writes = writes;
        }
    }

    /// True, once, after a write found no space and was cut off. Some of its records may lie on the device whole: the cut
    /// must be durable before the caller goes on and says that nothing was written.
    pub fn take_cut(&mut self) -> bool {
        std::mem::take(&mut self.is_cut)
    }

    /// True while the segment has a mapping.
    pub fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// The space behind the end of a mapped segment, for who writes it ahead.
    pub fn room(&self) -> Option<Arc<Room>> {
        self.mapped.as_ref().map(|mapped| mapped.room.clone())
    }

    /// True, once, when it is time to write more of the space ahead.
    #[inline]
    pub fn wants_room(&self) -> bool {
        self.mapped.as_ref().is_some_and(|mapped| mapped.room.is_wanted(self.end))
    }

    /// Appends one record; see [`SegmentWriter::append_many`].
    pub fn append(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<LogPosition> {
        self.append_many(&[(*header, payload)])
    }

    /// Appends records with one write, or one store, and says where the log ends then.
    ///
    /// On failure the segment is cut back to its old end, so none of the records is in the log, and goes on
    /// by positioned writes. If that fails too, the writer is broken: this and every later call fails with
    /// `Poisoned`. Where records are stored only the space ahead can fail, which changes nothing that counts.
    pub fn append_many(&mut self, records: &[(RecordHeader, &[u8])]) -> Result<LogPosition> {
        match self.state {
            WriterState::Open => {}
            WriterState::Finished => return Err(Error::invalid("the log segment is finished").with_file(&self.path)),
            WriterState::Broken => {
                return Err(Error::new(ErrorKind::Poisoned, "an earlier write to the log failed").with_file(&self.path));
            }
        }
        let (len, next_seq) = self.check_group(records)?;
        if self.store_group(records, len, next_seq)? {
            return Ok(self.end());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let outcome = self.write_group(&mut buffer, records, next_seq);
        // A huge batch is rare; its memory is not kept.
        if buffer.capacity() <= 4 << 20 {
            self.buffer = buffer;
        }
        outcome?;
        Ok(self.end())
    }

    /// Appends the end mark and says where the segment ends; later appends are refused.
    pub fn finish(&mut self, synced: LogPosition) -> Result<LogPosition> {
        let mark = RecordHeader { kind: RecordKind::End, first_seq: self.next_seq, count: 0, synced };
        let end = self.append(&mark, &[])?;
        self.state = WriterState::Finished;
        self.give_back_room();
        Ok(end)
    }

    /// Ends the mapping and cuts off the space that was written ahead. If that fails, zeros stay behind
    /// the end, where they say nothing.
    pub fn give_back_room(&mut self) {
        if let Some(Mapped { mapping, room, .. }) = self.mapped.take() {
            room.close();
            drop(mapping);
            if let Err(error) = self.file.set_len(self.end) {
                tracing::debug!(%error, path = %self.path.display(), "the log keeps space that it does not need");
            }
        }
    }

    /// True once it has its end mark.
    pub fn is_finished(&self) -> bool {
        self.state == WriterState::Finished
    }

    /// Where the log ends.
    pub fn end(&self) -> LogPosition {
        LogPosition { segment: self.place.number, offset: self.end }
    }

    /// The file, for who syncs it.
    pub fn file(&self) -> Arc<dyn File> {
        self.file.clone()
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The segment's number.
    pub fn number(&self) -> u64 {
        self.place.number
    }

    /// The sequence number that the next record begins with.
    pub fn next_seq(&self) -> SeqNo {
        self.next_seq
    }

    /// How many bytes the records take, and the sequence number behind them.
    fn check_group(&self, records: &[(RecordHeader, &[u8])]) -> Result<(u64, SeqNo)> {
        let (mut len, mut next_seq) = (0, self.next_seq);
        for (header, payload) in records {
            // Numbers are dense: a hole written now is a log that cannot be replayed later.
            if header.first_seq != next_seq || u64::from(header.count) > SEQ_MAX.saturating_sub(next_seq) {
                return Err(Error::invalid(format!(
                    "a log record begins with sequence number {}, but {next_seq} is next",
                    header.first_seq
                )));
            }
            next_seq += u64::from(header.count);
            check_payload(payload)?;
            len += record_len(payload.len());
        }
        Ok((len, next_seq))
    }

    /// Stores the records through the mapping; false if there is none that reaches so far, or writes are
    /// preferred: then their space is there.
    fn store_group(&mut self, records: &[(RecordHeader, &[u8])], len: u64, next_seq: SeqNo) -> Result<bool> {
        let Some(mapped) = &mut self.mapped else { return Ok(false) };
        let (begin, end) = (self.end, self.end + len);
        if end > mapped.mapping.len() {
            // The zeros that are there are written over.
            mapped.room.close();
            self.mapped = None;
            return Ok(false);
        }
        if !sabotage::is(Bug::SpaceNotWritten) {
            mapped.room.reach(end).map_err(|e| Error::io("reserve space for the log", &self.path, e))?;
        }
        if mapped.writes {
            // The room is there: nothing is left to allocate.
            self.allocated = self.allocated.max(end);
            return Ok(false);
        }
        let place = &self.place;
        let stored = mapped.mapping.store(begin, len as usize, &mut |mut out| {
            let mut offset = begin;
            for (header, payload) in records {
                let len = record_len(payload.len());
                let (record, rest) = std::mem::take(&mut out).split_at_mut(len as usize);
                encode_into(record, place, offset, header, payload);
                (out, offset) = (rest, offset + len);
            }
        });
        if let Err(e) = stored {
            // No real mapping fails so.
            self.state = WriterState::Broken;
            let error = Error::io("store into the log", &self.path, e).with_offset(begin);
            return Err(error.with_kind(ErrorKind::Poisoned));
        }
        self.end = end;
        self.next_seq = next_seq;
        Ok(true)
    }

    fn write_group(&mut self, buffer: &mut Vec<u8>, records: &[(RecordHeader, &[u8])], next_seq: SeqNo) -> Result<()> {
        for (header, payload) in records {
            encode(buffer, &self.place, self.end + buffer.len() as u64, header, payload)?;
        }
        let end = self.end + buffer.len() as u64;
        if end > self.allocated {
            let step = self.allocated.clamp(ALLOCATE_STEP_MIN, ALLOCATE_STEP_MAX);
            let outcome = allocate_ahead(&*self.file, self.end, end, step);
            self.allocated = *outcome.as_ref().unwrap_or(&self.end);
            outcome.map_err(|e| Error::io("reserve space for the log", &self.path, e))?;
        }
        if let Err(e) = self.file.write_all_at(buffer, self.end)
            && !sabotage::is(Bug::WriteErrorDiscarded)
        {
            let error = Error::io("write to the log", &self.path, e).with_offset(self.end);
            if sabotage::is(Bug::GarbageBetweenRecords) {
                self.end = end;
                return Err(error);
            }
            self.allocated = self.end;
            // Nobody stores, or writes zeros, behind where the file is cut.
            if let Some(mapped) = self.mapped.take() {
                mapped.room.close();
            }
            return Err(match self.file.set_len(self.end) {
                Ok(()) => {
                    self.is_cut = error.kind() == ErrorKind::NoSpace;
                    error
                }
                Err(_) => {
                    self.state = WriterState::Broken;
                    error.with_kind(ErrorKind::Poisoned)
                }
            });
        }
        self.end = end;
        self.next_seq = next_seq;
        Ok(())
    }
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentWriter(end {}, next {}, {:?})", self.end(), self.next_seq, self.state)
    }
}

/// The space behind the end of a mapped segment, which is written with zeros before it is used: then the
/// disk has a block for each byte, and a store needs none.
///
/// Whoever has time writes it ahead; a writer who comes too late does a little of it himself. They take
/// turns, so that nobody writes zeros over records.
pub struct Room {
    file: Arc<dyn File>,
    /// Zeros, or records, are written up to here; so long is the file.
    ready: AtomicU64,
    /// It has been asked for more.
    asked: AtomicBool,
    /// As long as the segment is expected to become: nothing is written ahead beyond it.
    expected_len: u64,
    step: u64,
    step_late: u64,
    turn: Mutex<Turn>,
}

struct Turn {
    /// The segment is no longer stored into, and may have been cut.
    closed: bool,
}

impl Room {
    /// The room of a segment that is written up to `len`.
    fn new(file: Arc<dyn File>, len: u64, expected_len: u64) -> Room {
        Room {
            file,
            ready: AtomicU64::new(len),
            asked: AtomicBool::new(false),
            expected_len,
            step: (expected_len / 4).clamp(ROOM_STEP_MIN, ROOM_STEP),
            step_late: (expected_len / 8).clamp(ROOM_STEP_MIN, ROOM_STEP_LATE),
            turn: Mutex::new(Turn { closed: false }),
        }
    }

    /// Makes sure that the room reaches up to `end`. If it cannot, nothing has changed.
    fn reach(&self, end: u64) -> io::Result<()> {
        if end <= self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self.turn.lock();
        let ready = self.ready.load(Ordering::Acquire);
        if end <= ready {
            return Ok(());
        }
        let wanted = end.next_multiple_of(self.step_late).min(self.expected_len.max(end));
        match self.write(ready, wanted) {
            Err(e) if is_no_space(e.kind()) && wanted > end => self.write(ready, end)?,
            outcome => outcome?,
        }
        self.asked.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// True, once, when less than half a step is ready behind `end`.
    #[inline]
    fn is_wanted(&self, end: u64) -> bool {
        let ready = self.ready.load(Ordering::Relaxed);
        ready < end + self.step / 2
            && ready < self.expected_len
            && !self.asked.load(Ordering::Relaxed)
            && !self.asked.swap(true, Ordering::Relaxed)
    }

    /// Writes the next step ahead. If it fails, the writer meets the reason when he needs the space, and
    /// asks again when there was some.
    pub fn prepare(&self) {
        let turn = self.turn.lock();
        let mut ready = self.ready.load(Ordering::Acquire);
        if turn.closed || ready >= self.expected_len {
            return;
        }
        if sabotage::is(Bug::SpaceOverRecords) {
            ready = FIRST_RECORD.max(ready.saturating_sub(self.step));
        }
        if self.write(ready, (ready + self.step).min(self.expected_len)).is_ok() {
            self.asked.store(false, Ordering::Relaxed);
        }
    }

    /// Nothing is written ahead any more.
    fn close(&self) {
        self.turn.lock().closed = true;
    }

    /// Writes zeros, whose space is set aside first. The caller has the turn.
    fn write(&self, from: u64, to: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let written = self.file.allocate(to).and_then(|()| {
            let mut at = from;
            while at < to {
                let n = (to - at).min(ZEROS.len() as u64);
                self.file.write_all_at(&ZEROS[..n as usize], at)?;
                at += n;
            }
            Ok(())
        });
        match written {
            Ok(()) => self.ready.store(to, Ordering::Release),
            // What a failed call has got stays with the file, and would be missed elsewhere.
            Err(_) => drop(self.file.set_len(from)),
        }
        written
    }
}

/// What a clean close states about manifest and log: under a seal every change is damage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// Length of the manifest.
    pub manifest_len: u64,
    /// xxh3-128 of the manifest.
    pub manifest_hash: u128,
    /// Every live segment, ascending.
    pub logs: Vec<SealedLog>,
}

/// What a seal states about one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedLog {
    /// The segment's number.
    pub number: u64,
    /// Its length.
    pub len: u64,
    /// xxh3-128 of the whole file.
    pub hash: u128,
}

/// The length and hash of a segment, for a seal or against one.
pub fn hash_segment(fs: &dyn Fs, dir: &Path, number: u64) -> Result<SealedLog> {
    let path = FileName::Wal(number).path(dir);
    let file = fs.open(&path).map_err(|e| cannot_open(&path, e))?;
    let mut hasher = FileHasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        let n = file.read_at(&mut buffer, len).map_err(|e| Error::io("read", &path, e).with_offset(len))?;
        if n == 0 {
            return Ok(SealedLog { number, len, hash: hasher.digest() });
        }
        hasher.update(&buffer[..n]);
        len += n as u64;
    }
}

/// What [`replay`] holds the log against.
#[derive(Clone, Copy, Debug)]
pub struct ReplayRules<'a> {
    /// The database.
    pub db_id: u128,
    /// The smallest live segment that the manifest names. Smaller ones are garbage and not read; if
    /// it is missing, so is the whole log. 0 if the manifest names none: then the log begins with
    /// whatever segment comes first, and nobody misses an earlier one.
    pub log_first: u64,
    /// The highest position that the manifest says is durable; [`LogPosition::START`] if none.
    pub durable_hint: LogPosition,
    /// The seal, if the database was closed cleanly and the seal still holds.
    pub seal: Option<&'a Seal>,
    /// A writer may be at work: no verdict, stop at the first record that does not parse.
    pub live: bool,
    /// A writer may be at work, and a verdict is wanted all the same: what looks like a defect is read
    /// once more, and damage that has become a record meanwhile is `Busy`.
    pub shared: bool,
    /// Damage ends the log where it lies instead of failing; [`LogScan::damage`] says what it is.
    pub salvage: bool,
}

impl<'a> ReplayRules<'a> {
    /// A database that nobody writes and whose manifest promises nothing.
    pub fn new(db_id: u128) -> ReplayRules<'a> {
        ReplayRules {
            db_id,
            log_first: 0,
            durable_hint: LogPosition::START,
            seal: None,
            live: false,
            shared: false,
            salvage: false,
        }
    }
}

/// A segment that [`replay`] has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedSegment {
    /// Its number.
    pub number: u64,
    /// Where the segment before it ended.
    pub previous: LogPosition,
    /// The sequence number that it begins with.
    pub first_seq: SeqNo,
    /// Where its last whole record ends.
    pub valid_len: u64,
    /// The length of the file.
    pub file_len: u64,
    /// True if its last record is an end mark.
    pub has_end_mark: bool,
}

/// What [`replay`] found.
#[derive(Clone, Debug, Default)]
pub struct LogScan {
    /// The segments of the chain, up to the one in which the log ends.
    pub segments: Vec<ScannedSegment>,
    /// Segments that the chain jumps over: nothing in them was ever part of the log.
    pub orphans: Vec<u64>,
    /// Where the log ends; [`LogPosition::START`] if there is none.
    pub end: LogPosition,
    /// The sequence number behind the last record; none if no segment header was whole.
    pub next_seq: Option<SeqNo>,
    /// Bytes behind the end that were dropped, without the zeros at the end of each file.
    pub torn_tail_bytes: u64,
    /// Why the log ends there, unless it ends where the last file does.
    pub stopped: Option<String>,
    /// The damage at which a salvaging replay ended the log.
    pub damage: Option<Error>,
}

/// Hands every record of the log to `visit`, in order, with its position; end marks are left out.
///
/// `numbers` are the segments in the directory, ascending. Fails with `Corruption` where the rule of
/// the module head says damage, where sequence numbers have a hole, and, under a seal, at any
/// difference. `visit` may have seen records by then: act on them only after `Ok`.
pub fn replay(
    fs: &dyn Fs,
    dir: &Path,
    numbers: &[u64],
    rules: &ReplayRules<'_>,
    visit: &mut dyn FnMut(&RecordHeader, &[u8], LogPosition) -> Result<()>,
) -> Result<LogScan> {
    let mut numbers: Vec<u64> = numbers.iter().copied().filter(|&n| n >= rules.log_first).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if let Some(seal) = rules.seal {
        check_seal(fs, dir, &numbers, seal)?;
    }
    let mut scan = LogScan::default();
    if rules.seal.is_some_and(|seal| seal.logs.is_empty()) {
        return Ok(scan); // A checkpoint has everything in tables.
    }
    let mut segments = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        segments.push(Segment::open(fs, dir, number, rules.db_id)?);
    }
    remove_orphans(&mut segments, &mut scan.orphans);
    let defect = scan_chain(&mut segments, rules, &mut scan, visit)?;
    let Some(Defect { at, reason, damage: found }) = defect else {
        if rules.durable_hint > scan.end && !rules.live {
            scan.judge(damage(dir, scan.end, "the log ends here", rules.durable_hint), rules)?;
        }
        return Ok(scan);
    };
    scan.end = at;
    if let Some(error) = found {
        scan.judge(error, rules)?;
    } else if !rules.live {
        if rules.seal.is_some() {
            let error = Error::corruption(format!("{reason}, in a log that was closed cleanly"))
                .with_file(FileName::Wal(at.segment).path(dir))
                .with_offset(at.offset);
            scan.judge(error, rules)?;
        }
        let mut promised = promise_beyond(&mut segments, at)?.max(rules.durable_hint);
        if sabotage::is(Bug::DamageIsTail) {
            promised = LogPosition::START;
        }
        let follows = segments.last().is_some_and(|s| s.number > at.segment);
        if promised > at || sabotage::is(Bug::TornTailRefused) || follows && sabotage::is(Bug::UncleanTailIsDamage) {
            if rules.shared && is_record(&mut segments, at)? {
                // What was promised beyond it was written after it, so it is there to be seen now.
                return Err(Error::new(ErrorKind::Busy, "the log was written while it was read")
                    .with_file(FileName::Wal(at.segment).path(dir))
                    .with_offset(at.offset));
            }
            scan.judge(damage(dir, at, &reason, promised), rules)?;
        }
    }
    for segment in segments.iter().filter(|s| s.number >= at.segment) {
        let from = if segment.number == at.segment { at.offset } else { 0 };
        let len = len_without_zeros(&*segment.file, &segment.path, segment.file_len)?;
        scan.torn_tail_bytes += len.saturating_sub(from);
    }
    scan.stopped = Some(reason);
    Ok(scan)
}

impl LogScan {
    /// Damage is an error, or what a salvaging replay notes.
    fn judge(&mut self, error: Error, rules: &ReplayRules<'_>) -> Result<()> {
        if !rules.salvage {
            return Err(error);
        }
        self.damage = Some(error);
        Ok(())
    }
}

/// What lies in a segment, as [`scan_file`] and [`manifest::scan_file`](crate::version::manifest::scan_file)
/// tell it.
#[derive(Clone, Copy, Debug)]
pub enum ScanItem<'a> {
    /// A whole record.
    Record {
        /// Where it begins.
        offset: u64,
        /// What it says before its payload.
        header: RecordHeader,
        /// The payload.
        payload: &'a [u8],
    },
    /// Bytes that are no record, up to the next whole one or the end of the file.
    Defect {
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
        /// What is wrong with the first of them.
        reason: &'a str,
    },
}

impl fmt::Display for ScanItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanItem::Record { offset, header, payload } => write!(f, "{offset}: {header} payload={}", payload.len()),
            ScanItem::Defect { offset, len, reason } => write!(f, "{offset}: defect of {len} bytes: {reason}"),
        }
    }
}

/// Tells everything that lies in one segment, also behind defects, without a verdict. The file's own
/// header is believed.
pub fn scan_file(
    fs: &dyn Fs,
    path: &Path,
    visit: &mut dyn FnMut(&ScanItem<'_>) -> Result<()>,
) -> Result<(FileHeader, SegmentHeader)> {
    let file = fs.open(path).map_err(|e| Error::io("open a log segment", path, e))?;
    let headers = Headers::read(&*file, path)?;
    let header = headers.file.clone().map_err(|e| e.with_file(path))?;
    let segment = scan_headers(file, path, &headers, header.db_id, header.number, visit)?;
    Ok((header, segment))
}

/// As [`scan_file`], for a file whose own header is damaged: it is taken for the segment `number` of
/// database `db_id`. Fails with `Corruption` if that is not what it is.
pub fn scan_file_as(
    fs: &dyn Fs,
    path: &Path,
    db_id: u128,
    number: u64,
    visit: &mut dyn FnMut(&ScanItem<'_>) -> Result<()>,
) -> Result<SegmentHeader> {
    let file = fs.open(path).map_err(|e| Error::io("open a log segment", path, e))?;
    let headers = Headers::read(&*file, path)?;
    scan_headers(file, path, &headers, db_id, number, visit)
}

fn scan_headers(
    file: Arc<dyn File>,
    path: &Path,
    headers: &Headers,
    db_id: u128,
    number: u64,
    visit: &mut dyn FnMut(&ScanItem<'_>) -> Result<()>,
) -> Result<SegmentHeader> {
    let (first, second) = headers.segment(db_id, number);
    let segment = first.clone().or(second.clone()).map_err(|e| e.with_file(path).with_offset(HEADER_LEN as u64))?;
    for (offset, copy) in [(HEADER_LEN, &first), (HEADER_LEN + SEGMENT_HEADER_LEN, &second)] {
        if let Err(e) = copy {
            visit(&ScanItem::Defect { offset: offset as u64, len: SEGMENT_HEADER_LEN as u64, reason: e.message() })?;
        }
    }
    let place = Place { db_id, number, salt: segment.salt };
    let mut reader = RecordReader::new(file, path, place)?.with_zeros_as_end();
    scan_records(&mut reader, FIRST_RECORD, visit)?;
    Ok(segment)
}

/// The header of a segment, from whichever copy of it is whole.
pub fn read_segment_header(fs: &dyn Fs, path: &Path, db_id: u128, number: u64) -> Result<SegmentHeader> {
    let file = fs.open(path).map_err(|e| Error::io("open a log segment", path, e))?;
    let (first, second) = Headers::read(&*file, path)?.segment(db_id, number);
    first.or(second).map_err(|e| e.with_file(path).with_offset(HEADER_LEN as u64))
}

/// Tells everything from `offset` on that a reader finds.
pub(crate) fn scan_records(
    reader: &mut RecordReader,
    mut offset: u64,
    visit: &mut dyn FnMut(&ScanItem<'_>) -> Result<()>,
) -> Result<()> {
    loop {
        let reason = match reader.read(offset)? {
            Found::End => return Ok(()),
            Found::Record(record) => {
                visit(&ScanItem::Record { offset, header: record.header, payload: record.payload })?;
                offset = record.end;
                continue;
            }
            Found::Defect(reason) => reason,
        };
        let next = reader.find(offset + 1, u64::MAX)?.map_or(reader.file_len(), |(next, _, _)| next);
        visit(&ScanItem::Defect { offset, len: next - offset, reason: &reason })?;
        offset = next;
    }
}

/// What a segment says about its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Where the segment before it ended; [`LogPosition::START`] for the first.
    pub previous: LogPosition,
    /// The sequence number of its first record.
    pub first_seq: SeqNo,
    /// What its records' checksums are seeded with.
    pub salt: u64,
}

impl SegmentHeader {
    /// The bytes of the module head, as they lie at `offset`.
    fn encode(&self, place: Place, offset: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
        put_u64(&mut bytes, self.previous.segment);
        put_u64(&mut bytes, self.previous.offset);
        put_u64(&mut bytes, self.first_seq);
        put_u64(&mut bytes, self.salt);
        let crc = crc32(Place { salt: 0, ..place }.seed(offset as u64), &[&bytes]);
        put_u32(&mut bytes, crc);
        put_u32(&mut bytes, 0);
        bytes
    }

    fn decode(bytes: &[u8], place: Place, offset: usize) -> Result<SegmentHeader> {
        let mut input = Input::new(bytes);
        let header = SegmentHeader {
            previous: LogPosition { segment: input.u64()?, offset: input.u64()? },
            first_seq: input.u64()?,
            salt: input.u64()?,
        };
        if header.encode(place, offset) != bytes {
            return Err(Error::corruption("the segment header fails its checksum"));
        }
        if header.first_seq == 0 || header.first_seq > SEQ_MAX || header.previous.segment >= place.number {
            return Err(Error::corruption("the segment header makes no sense"));
        }
        Ok(header)
    }
}

impl fmt::Display for SegmentHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment previous={} first_seq={} salt={:016x}", self.previous, self.first_seq, self.salt)
    }
}

/// A place where the log does not go on as it should.
struct Defect {
    at: LogPosition,
    reason: String,
    /// Set if it is damage whatever was promised: whole records that do not fit together.
    damage: Option<Error>,
}

impl Defect {
    fn new(at: LogPosition, reason: String) -> Defect {
        Defect { at, reason, damage: None }
    }

    /// Damage at `at`; other errors are not the log's.
    fn damage(at: LogPosition, error: Error) -> Result<Option<Defect>> {
        if !error.is_corruption() {
            return Err(error);
        }
        Ok(Some(Defect { at, reason: error.message().to_string(), damage: Some(error) }))
    }
}

/// A segment on its way through [`replay`].
struct Segment {
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    file_len: u64,
    /// The header and what reads the records, as far as one copy of the header is whole.
    body: Option<(SegmentHeader, RecordReader)>,
    /// What is wrong with the headers; then the segment's records count only for their promises.
    defect: Option<String>,
}

impl Segment {
    fn open(fs: &dyn Fs, dir: &Path, number: u64, db_id: u128) -> Result<Segment> {
        let path = FileName::Wal(number).path(dir);
        let file = fs.open(&path).map_err(|e| cannot_open(&path, e))?;
        let file_len = file.len().map_err(|e| Error::io("read the length", &path, e))?;
        let headers = Headers::read(&*file, &path)?;
        let mut defect = None;
        match &headers.file {
            // After a crash a new file may show what its blocks held before: another file's bytes.
            Ok(header) if header.number != number || header.db_id != db_id => {
                defect = Some(format!("the file belongs to another place: {header}"));
            }
            Ok(_) => {}
            Err(e) if e.is_corruption() => defect = Some(e.message().to_string()),
            Err(e) => return Err(e.clone().with_file(&path)),
        }
        let (first, second) = headers.segment(db_id, number);
        for copy in [&first, &second] {
            if let Err(e) = copy {
                if sabotage::is(Bug::TornHeaderRefused) {
                    return Err(e.clone().with_file(&path).with_offset(HEADER_LEN as u64));
                }
                defect.get_or_insert(e.message().to_string());
            }
        }
        let body = match first.or(second) {
            Ok(header) => {
                let place = Place { db_id, number, salt: header.salt };
                Some((header, RecordReader::new(file.clone(), &path, place)?.with_zeros_as_end()))
            }
            Err(_) => None,
        };
        Ok(Segment { number, path, file, file_len, body, defect })
    }

    /// The header, if all that is written of it is whole.
    fn header(&self) -> Option<&SegmentHeader> {
        if self.defect.is_some() { None } else { self.body.as_ref().map(|(header, _)| header) }
    }
}

/// What lies before the first record of a segment.
struct Headers {
    file: Result<FileHeader>,
    bytes: Vec<u8>,
}

impl Headers {
    fn read(file: &dyn File, path: &Path) -> Result<Headers> {
        let mut bytes = vec![0; FIRST_RECORD as usize];
        let n = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", path, e).with_offset(0))?;
        bytes.truncate(n);
        Ok(Headers { file: FileHeader::decode(&bytes, FileKind::Wal), bytes })
    }

    /// Both copies of the segment header.
    fn segment(&self, db_id: u128, number: u64) -> (Result<SegmentHeader>, Result<SegmentHeader>) {
        let place = Place { db_id, number, salt: 0 };
        let copy = |offset: usize| match self.bytes.get(offset..offset + SEGMENT_HEADER_LEN) {
            Some(bytes) => SegmentHeader::decode(bytes, place, offset),
            None => Err(Error::corruption(format!("the segment header is cut short at {} bytes", self.bytes.len()))),
        };
        (copy(HEADER_LEN), copy(HEADER_LEN + SEGMENT_HEADER_LEN))
    }
}

/// Drops the segments that a later one's header jumps over: a writer made them and failed before
/// the first record counted.
fn remove_orphans(segments: &mut Vec<Segment>, orphans: &mut Vec<u64>) {
    // From the last one down: what the chain expects next.
    let mut expected: Option<u64> = None;
    for i in (0..segments.len()).rev() {
        let number = segments[i].number;
        if expected.is_some_and(|expected| number > expected) {
            orphans.push(number);
            segments.remove(i);
            continue;
        }
        if let Some(header) = segments[i].header() {
            expected = Some(header.previous.segment);
        }
    }
    orphans.reverse();
}

/// Reads the chain from its beginning to its end or to the first defect.
fn scan_chain(
    segments: &mut [Segment],
    rules: &ReplayRules<'_>,
    scan: &mut LogScan,
    visit: &mut dyn FnMut(&RecordHeader, &[u8], LogPosition) -> Result<()>,
) -> Result<Option<Defect>> {
    if rules.log_first > 0 && segments.first().is_none_or(|s| s.number != rules.log_first) {
        let at = LogPosition { segment: rules.log_first, offset: 0 };
        return Ok(Some(Defect::new(at, format!("log segment {} is missing", rules.log_first))));
    }
    for i in 0..segments.len() {
        let number = segments[i].number;
        let before = scan.segments.last().copied();
        // A later header knows where this segment ended.
        let next = segments.get(i + 1).and_then(Segment::header).map(|h| h.previous);
        let stated_end = next.filter(|p| p.segment == number).map(|p| p.offset);
        let Segment { path, file_len, body, defect, .. } = &mut segments[i];
        let (header, reader) = match (body, defect) {
            (Some((header, reader)), None) => (*header, reader),
            (_, defect) => {
                let reason = defect.take().unwrap_or_default();
                return Ok(Some(Defect::new(LogPosition { segment: number, offset: 0 }, reason)));
            }
        };
        if before.is_some_and(|before| header.previous.segment != before.number) {
            let reason = format!("log segment {} is missing", header.previous.segment);
            return Ok(Some(Defect::new(scan.end, reason)));
        }
        let mut expected_seq = scan.next_seq.unwrap_or(header.first_seq);
        if sabotage::is(Bug::GapReplayed) || sabotage::is(Bug::OlderDamageSkipped) {
            expected_seq = header.first_seq;
        }
        if let Err(e) = check_sequence(expected_seq, header.first_seq) {
            let at = LogPosition { segment: number, offset: 0 };
            return Defect::damage(at, e.with_file(&*path).with_offset(HEADER_LEN as u64));
        }
        scan.segments.push(ScannedSegment {
            number,
            previous: header.previous,
            first_seq: header.first_seq,
            valid_len: FIRST_RECORD,
            file_len: *file_len,
            has_end_mark: false,
        });
        let mut offset = FIRST_RECORD;
        let mut has_end_mark = false;
        let mut read_again = false;
        let defect = loop {
            scan.end = LogPosition { segment: number, offset };
            scan.next_seq = Some(expected_seq);
            if stated_end == Some(offset) {
                break None;
            }
            let record = match reader.read(offset) {
                Err(e) => return Defect::damage(scan.end, e),
                Ok(Found::Record(record)) => record,
                Ok(Found::Defect(_)) if sabotage::is(Bug::ZerosSkipped) => match reader.find(offset + 8, u64::MAX)? {
                    Some((next, _, header)) => {
                        (offset, expected_seq) = (next, header.first_seq);
                        continue;
                    }
                    None => break None,
                },
                Ok(Found::Defect(_)) if rules.shared && !read_again => {
                    read_again = true;
                    reader.forget();
                    continue;
                }
                Ok(Found::Defect(reason)) => break Some(reason),
                Ok(Found::End) if sabotage::is(Bug::GapReplayed) => break None,
                Ok(Found::End) => match stated_end {
                    None => break None,
                    Some(end) => {
                        break Some(format!("the segment ends here; the next one says that it ended at {end}"));
                    }
                },
            };
            if has_end_mark || stated_end.is_some_and(|end| record.end > end) {
                break Some("there is a record behind the segment's end".to_string());
            }
            if let Err(e) = check_sequence(expected_seq, record.header.first_seq) {
                return Defect::damage(scan.end, e.with_file(&*path).with_offset(offset));
            }
            let count = record.header.count;
            let counts = match record.header.kind {
                RecordKind::Batch => count > 0,
                RecordKind::End => count == 0,
                _ => count == 1,
            };
            if !counts {
                let error = Error::corruption(format!("a record cannot be {}", record.header));
                return Defect::damage(scan.end, error.with_file(&*path).with_offset(offset));
            }
            match record.header.kind {
                RecordKind::Batch | RecordKind::FamilyOperation | RecordKind::Ingest => {
                    if let Err(e) = visit(&record.header, record.payload, scan.end) {
                        return Defect::damage(scan.end, e.with_file(&*path).with_offset(offset));
                    }
                }
                RecordKind::End => has_end_mark = true,
                kind => {
                    let error = Error::corruption(format!("a record of kind {} has no place in the log", kind.name()));
                    return Defect::damage(scan.end, error.with_file(&*path).with_offset(offset));
                }
            }
            expected_seq += u64::from(count);
            offset = record.end;
            read_again = false;
            if let Some(segment) = scan.segments.last_mut() {
                (segment.valid_len, segment.has_end_mark) = (offset, has_end_mark);
            }
        };
        if let Some(reason) = defect
            && !(sabotage::is(Bug::OlderDamageSkipped) && i + 1 < segments.len())
        {
            return Ok(Some(Defect::new(scan.end, reason)));
        }
    }
    Ok(None)
}

fn check_sequence(expected: SeqNo, found: SeqNo) -> Result<()> {
    if found == expected || sabotage::is(Bug::GapReplayed) || sabotage::is(Bug::OlderDamageSkipped) {
        return Ok(());
    }
    Err(Error::corruption(format!("the log has a gap: sequence number {expected} should come next, {found} does")))
}

/// True if there is a whole record now, after all.
fn is_record(segments: &mut [Segment], at: LogPosition) -> Result<bool> {
    let segment = segments.iter_mut().find(|s| s.number == at.segment && at.offset >= FIRST_RECORD);
    let Some((_, reader)) = segment.and_then(|s| s.body.as_mut()) else { return Ok(false) };
    reader.forget();
    Ok(matches!(reader.read(at.offset)?, Found::Record(_)))
}

/// The greatest promise of all whole records behind a defect.
fn promise_beyond(segments: &mut [Segment], at: LogPosition) -> Result<LogPosition> {
    let mut promised = LogPosition::START;
    for segment in segments.iter_mut().filter(|s| s.number >= at.segment) {
        let Some((_, reader)) = &mut segment.body else { continue };
        let mut from = if segment.number == at.segment { at.offset } else { 0 }.max(FIRST_RECORD);
        while let Some((_, end, header)) = reader.find(from, u64::MAX)? {
            promised = promised.max(header.synced);
            from = end;
        }
    }
    Ok(promised)
}

/// Fails unless the segments are exactly the sealed ones.
fn check_seal(fs: &dyn Fs, dir: &Path, numbers: &[u64], seal: &Seal) -> Result<()> {
    let sealed: Vec<u64> = seal.logs.iter().map(|log| log.number).collect();
    if sealed != numbers {
        return Err(Error::corruption(format!(
            "the database was closed cleanly with log segments {sealed:?}, but {numbers:?} are here"
        ))
        .with_file(dir));
    }
    for log in &seal.logs {
        let found = hash_segment(fs, dir, log.number)?;
        if found != *log {
            return Err(Error::corruption(format!(
                "the log segment changed after a clean close: it had {} bytes with hash {:032x}, now {} with {:032x}",
                log.len, log.hash, found.len, found.hash
            ))
            .with_file(FileName::Wal(log.number).path(dir))
            .with_offset(first_defect(fs, dir, log.number).unwrap_or(found.len.min(log.len))));
        }
    }
    Ok(())
}

/// Where a segment that is known to be damaged stops making sense; none if it makes sense to its end.
fn first_defect(fs: &dyn Fs, dir: &Path, number: u64) -> Option<u64> {
    let mut first = None;
    let scanned = scan_file(fs, &FileName::Wal(number).path(dir), &mut |item| {
        if let ScanItem::Defect { offset, .. } = item {
            first.get_or_insert(*offset);
        }
        Ok(())
    });
    scanned.map_or(Some(0), |_| first)
}

fn cannot_open(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => Error::corruption("the log segment is missing").with_file(path).with_offset(0),
        _ => Error::io("open a log segment", path, e),
    }
}

fn damage(dir: &Path, at: LogPosition, reason: &str, promised: LogPosition) -> Error {
    Error::corruption(format!("{reason}, but the log was durable up to {promised}"))
        .with_file(FileName::Wal(at.segment).path(dir))
        .with_offset(at.offset)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::coding::put_bytes;
    use crate::fs::fault::{CallKind, Errno, Fault, FaultFs, Rule};
    use crate::fs::mem::{CrashPolicy, MemFs};
    use crate::fs::{read_all, read_exact_at};

    const DB: u128 = 0xd1;

    fn dir() -> &'static Path {
        Path::new("/db")
    }

    fn new_fs() -> MemFs {
        let fs = MemFs::new();
        fs.create_dir_all(dir()).unwrap();
        fs
    }

    fn at(segment: u64, offset: u64) -> LogPosition {
        LogPosition { segment, offset }
    }

    fn batch(first_seq: SeqNo, count: u32, synced: LogPosition) -> RecordHeader {
        RecordHeader { kind: RecordKind::Batch, first_seq, count, synced }
    }

    /// Some segments as bytes, to be changed and replayed.
    #[derive(Clone)]
    struct Log {
        files: Vec<(u64, Vec<u8>)>,
        /// Where each record begins, end marks included, and where the last one ends.
        borders: Vec<LogPosition>,
    }

    impl Log {
        /// Segments `numbers` of three records each; `promise` says what a record at a place claims
        /// to be durable. All but the last segment are finished.
        fn build(numbers: &[u64], promise: &dyn Fn(LogPosition) -> LogPosition) -> Log {
            let fs = new_fs();
            let mut borders = Vec::new();
            let (mut previous, mut seq) = (LogPosition::START, 1);
            for (i, &number) in numbers.iter().enumerate() {
                let mut w = SegmentWriter::create(&fs, dir(), number, DB, previous, seq, 0x5a17 + number).unwrap();
                for len in [5usize, 0, 16] {
                    borders.push(w.end());
                    let synced = promise(w.end());
                    w.append(&batch(seq, 2, synced), &vec![len as u8; len]).unwrap();
                    seq += 2;
                }
                if i + 1 < numbers.len() {
                    borders.push(w.end());
                    let synced = promise(w.end());
                    w.finish(synced).unwrap();
                }
                previous = w.end();
            }
            borders.push(previous);
            Log { files: numbers.iter().map(|&n| (n, read_file(&fs, n))).collect(), borders }
        }

        fn replay<'a>(&self, change: impl FnOnce(&mut ReplayRules<'a>)) -> Result<(LogScan, Vec<SeqNo>)> {
            let fs = new_fs();
            for (number, bytes) in &self.files {
                fs.create_new(&FileName::Wal(*number).path(dir())).unwrap().write_all_at(bytes, 0).unwrap();
            }
            let numbers: Vec<u64> = self.files.iter().map(|f| f.0).collect();
            let mut rules = ReplayRules::new(DB);
            change(&mut rules);
            replay_seqs(&fs, &numbers, &rules)
        }

        /// Where the last record that begins at or before a place begins: what a flip there hits.
        fn hit(&self, place: LogPosition) -> LogPosition {
            let first = at(place.segment, FIRST_RECORD);
            if place < first {
                return at(place.segment, 0);
            }
            *self.borders.iter().rfind(|&&b| b <= place).unwrap()
        }

        fn seqs_before(&self, place: LogPosition) -> Vec<SeqNo> {
            // Three batches a segment; the fourth border of a finished one is its end mark.
            let batches = self.borders[..self.borders.len() - 1]
                .iter()
                .filter(|b| **b < place)
                .filter(|b| self.borders.iter().filter(|o| o.segment == b.segment && *o < b).count() < 3)
                .count() as u64;
            (0..batches).map(|i| 1 + 2 * i).collect()
        }

        fn seal(&self) -> Seal {
            let logs = self.files.iter().map(|(number, bytes)| {
                let mut hasher = FileHasher::new();
                hasher.update(bytes);
                SealedLog { number: *number, len: bytes.len() as u64, hash: hasher.digest() }
            });
            Seal { manifest_len: 0, manifest_hash: 0, logs: logs.collect() }
        }
    }

    fn read_file(fs: &dyn Fs, number: u64) -> Vec<u8> {
        read_all(&*fs.open(&FileName::Wal(number).path(dir())).unwrap(), 1 << 30).unwrap()
    }

    fn replay_seqs(fs: &dyn Fs, numbers: &[u64], rules: &ReplayRules<'_>) -> Result<(LogScan, Vec<SeqNo>)> {
        let mut seqs = Vec::new();
        let scan = replay(fs, dir(), numbers, rules, &mut |header, _, _| {
            seqs.push(header.first_seq);
            Ok(())
        })?;
        Ok((scan, seqs))
    }

    /// The length without the zeros at the end: what counts as torn.
    fn without_zeros(bytes: &[u8]) -> u64 {
        bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last as u64 + 1)
    }

    fn nothing(_: LogPosition) -> LogPosition {
        LogPosition::START
    }

    fn all_before(place: LogPosition) -> LogPosition {
        place
    }

    #[test]
    fn a_chain_of_segments_comes_back() {
        let log = Log::build(&[3, 7, 8], &all_before);
        let (scan, seqs) = log.replay(|rules| (rules.log_first, rules.durable_hint) = (3, at(8, 100))).unwrap();
        assert_eq!(seqs, (0..9).map(|i| 1 + 2 * i).collect::<Vec<_>>());
        assert_eq!((scan.end, scan.next_seq), (*log.borders.last().unwrap(), Some(19)));
        assert_eq!((scan.torn_tail_bytes, scan.stopped, scan.orphans), (0, None, vec![]));
        let ends: Vec<bool> = scan.segments.iter().map(|s| s.has_end_mark).collect();
        assert_eq!(ends, [true, true, false]);
        let (scan, seqs) = log.replay(|rules| rules.log_first = 8).unwrap();
        assert_eq!((seqs.len(), scan.segments[0].previous.segment), (3, 7));
        let (scan, seqs) = Log { files: vec![], borders: vec![] }.replay(|_| ()).unwrap();
        assert!(scan.segments.is_empty() && scan.stopped.is_none() && seqs.is_empty());
        assert_eq!((scan.end, scan.next_seq), (LogPosition::START, None));
    }

    /// The story: any one byte of the log is not what was written. If a later record says that the
    /// log was durable beyond that place, this is damage; otherwise the log ends there.
    #[test]
    fn every_flipped_byte_is_a_torn_tail_or_damage_by_the_rule() {
        for promise in [&nothing as &dyn Fn(LogPosition) -> LogPosition, &all_before] {
            let log = Log::build(&[3, 7], promise);
            for (i, (number, bytes)) in log.files.iter().enumerate() {
                for offset in 0..bytes.len() {
                    let mut changed = log.clone();
                    changed.files[i].1[offset] ^= 0x10;
                    let hit = log.hit(at(*number, offset as u64));
                    let promised =
                        log.borders[..log.borders.len() - 1].iter().filter(|b| **b > hit).map(|b| promise(*b)).max();
                    let outcome = changed.replay(|_| ());
                    if promised.is_some_and(|p| p > hit) {
                        let e = outcome.unwrap_err();
                        assert!(e.is_corruption());
                        assert_eq!(e.offset(), Some(hit.offset), "{e}");
                        continue;
                    }
                    let (scan, seqs) = outcome.unwrap();
                    assert_eq!(scan.end, hit, "byte {offset} of {number}");
                    assert_eq!(seqs, log.seqs_before(hit));
                    let behind: u64 = log.files[i + 1..].iter().map(|f| without_zeros(&f.1)).sum();
                    assert_eq!(scan.torn_tail_bytes, without_zeros(&changed.files[i].1) - hit.offset + behind);
                }
            }
        }
    }

    #[test]
    fn every_truncation_is_a_torn_tail_unless_the_manifest_promised_more() {
        let log = Log::build(&[3], &all_before);
        let bytes = &log.files[0].1;
        for len in 0..=bytes.len() as u64 {
            let mut cut = log.clone();
            cut.files[0].1.truncate(len as usize);
            let end = if len < FIRST_RECORD { at(3, 0) } else { log.hit(at(3, len)) };
            let (scan, seqs) = cut.replay(|rules| rules.log_first = 3).unwrap();
            let torn = without_zeros(&cut.files[0].1).saturating_sub(end.offset);
            assert_eq!((scan.end, scan.torn_tail_bytes), (end, torn), "cut to {len}");
            assert_eq!(seqs, log.seqs_before(end));
            for hint in &log.borders {
                let outcome = cut.replay(|rules| rules.durable_hint = *hint);
                assert_eq!(outcome.is_ok(), *hint <= end, "cut to {len}, promised {hint}");
            }
        }
    }

    #[test]
    fn a_segment_cut_at_a_record_border_is_missed_by_the_next_one() {
        let mut log = Log::build(&[3, 7], &nothing);
        log.files[0].1.truncate(log.borders[2].offset as usize);
        let (scan, seqs) = log.replay(|_| ()).unwrap();
        assert_eq!((scan.end, seqs), (log.borders[2], vec![1, 3]));
        assert_eq!(scan.torn_tail_bytes, without_zeros(&log.files[1].1));
        let mut log = Log::build(&[3, 7], &all_before);
        log.files[0].1.truncate(log.borders[2].offset as usize);
        assert!(log.replay(|_| ()).unwrap_err().is_corruption());
    }

    #[test]
    fn what_lies_behind_the_stated_end_is_no_part_of_the_log() {
        let mut log = Log::build(&[3, 7], &all_before);
        log.files[0].1.extend_from_slice(&[0xaa; 50]);
        let (scan, seqs) = log.replay(|_| ()).unwrap();
        assert_eq!((seqs.len(), scan.torn_tail_bytes), (6, 0));
        // Without a next segment nobody states the end: the bytes are a torn tail.
        log.files.truncate(1);
        let (scan, seqs) = log.replay(|_| ()).unwrap();
        assert_eq!((seqs.len(), scan.torn_tail_bytes), (3, 50));
    }

    #[test]
    fn a_missing_segment_is_damage_if_promised_else_the_end() {
        for (promise, damaged) in [(&nothing as &dyn Fn(LogPosition) -> LogPosition, false), (&all_before, true)] {
            let mut log = Log::build(&[3, 7, 8], promise);
            log.files.remove(1);
            let outcome = log.replay(|_| ());
            assert_eq!(outcome.is_err(), damaged);
            if let Ok((scan, seqs)) = outcome {
                assert_eq!((seqs.len(), scan.stopped.unwrap()), (3, "log segment 7 is missing".to_string()));
            }
            let mut log = Log::build(&[3, 7, 8], promise);
            log.files.remove(0);
            assert_eq!(log.replay(|rules| rules.log_first = 3).is_err(), damaged);
            log.files.pop();
            assert!(log.replay(|rules| rules.durable_hint = at(8, 200)).is_err(), "the last one is missing");
        }
    }

    #[test]
    fn a_segment_that_the_chain_jumps_over_is_an_orphan() {
        for part in [10, FIRST_RECORD as usize] {
            let mut log = Log::build(&[3, 7], &all_before);
            let orphan = Log::build(&[3, 5], &nothing).files[1].1[..part].to_vec();
            log.files.insert(1, (5, orphan));
            let (scan, seqs) = log.replay(|_| ()).unwrap();
            assert_eq!((scan.orphans, seqs.len(), scan.torn_tail_bytes), (vec![5], 6, 0));
        }
    }

    #[test]
    fn a_gap_in_the_numbers_is_refused_whatever_was_promised() {
        let fs = new_fs();
        let mut w = SegmentWriter::create(&fs, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
        w.append(&batch(1, 2, LogPosition::START), b"x").unwrap();
        assert!(w.append(&batch(4, 1, LogPosition::START), b"x").is_err(), "the writer writes no hole");
        w.next_seq = 4;
        w.append(&batch(4, 1, LogPosition::START), b"x").unwrap();
        let e = replay_seqs(&fs, &[3], &ReplayRules::new(DB)).unwrap_err();
        assert_eq!(e.message(), "the log has a gap: sequence number 3 should come next, 4 does");
    }

    #[test]
    fn records_from_elsewhere_are_no_records() {
        let log = Log::build(&[3, 7], &nothing);
        // The first record of segment 7 in the place of that of segment 3: equal length, other place.
        let mut moved = log.clone();
        let first = FIRST_RECORD as usize..log.borders[1].offset as usize;
        let foreign = log.files[1].1[first.clone()].to_vec();
        moved.files[0].1[first.clone()].copy_from_slice(&foreign);
        assert_eq!(moved.replay(|_| ()).unwrap().0.end, at(3, FIRST_RECORD));
        // The second record once more behind the last: right file, wrong offset.
        let mut again = log.clone();
        let second = log.files[1].1[first.end..first.end + 40].to_vec();
        again.files[1].1.extend_from_slice(&second);
        assert_eq!(again.replay(|_| ()).unwrap().0.torn_tail_bytes, without_zeros(&second));
        // A whole segment under another number, or of another database: what was promised is missed.
        let mut renamed = log.clone();
        renamed.files[1].0 = 9;
        let (scan, seqs) = renamed.replay(|_| ()).unwrap();
        assert_eq!((scan.end, seqs.len()), (at(9, 0), 3));
        assert!(scan.stopped.unwrap().starts_with("the file belongs to another place"));
        assert!(renamed.replay(|rules| rules.durable_hint = at(9, 200)).unwrap_err().is_corruption());
        assert!(log.replay(|rules| (rules.db_id, rules.durable_hint) = (2, at(3, 200))).unwrap_err().is_corruption());
    }

    #[test]
    fn under_a_seal_every_change_is_damage() {
        let log = Log::build(&[3, 7], &nothing);
        let seal = log.seal();
        let sealed = |log: &Log| log.replay(|rules| rules.seal = Some(&seal)).is_ok();
        assert!(sealed(&log));
        for i in 0..2 {
            for offset in 0..log.files[i].1.len() {
                let mut changed = log.clone();
                changed.files[i].1[offset] ^= 1;
                assert!(!sealed(&changed));
                changed.files[i].1 = log.files[i].1[..offset].to_vec();
                assert!(!sealed(&changed));
            }
            let mut longer = log.clone();
            longer.files[i].1.push(0);
            assert!(!sealed(&longer));
            let mut fewer = log.clone();
            fewer.files.remove(i);
            assert!(!sealed(&fewer));
        }
        let mut more = log.clone();
        more.files.push((9, vec![]));
        assert!(!sealed(&more));
    }

    #[test]
    fn beside_a_writer_there_is_no_verdict() {
        let mut log = Log::build(&[3, 7], &all_before);
        log.files[0].1[FIRST_RECORD as usize + 45] ^= 1;
        assert!(log.replay(|_| ()).is_err());
        let (scan, seqs) = log.replay(|rules| (rules.live, rules.durable_hint) = (true, at(9, 9))).unwrap();
        assert_eq!((scan.end, seqs), (at(3, FIRST_RECORD), vec![]));
        assert_eq!(scan.stopped.unwrap(), "the record fails its checksum");
    }

    /// The story: space was written ahead, and the process died. That is no tail; what was begun in it is.
    #[test]
    fn zeros_behind_the_end_are_space_and_what_lies_in_them_is_a_tail() {
        let log = Log::build(&[3], &all_before);
        let len = log.files[0].1.len() as u64;
        for room in [1, 8, 39, 40, 4096, 300_000] {
            let mut zeros = log.clone();
            zeros.files[0].1.resize(len as usize + room, 0);
            let (scan, seqs) = zeros.replay(|rules| rules.durable_hint = at(3, len)).unwrap();
            assert_eq!((scan.end, scan.torn_tail_bytes, scan.stopped, seqs.len()), (at(3, len), 0, None, 3));
            // What was promised beyond is missed all the same.
            assert!(zeros.replay(|rules| rules.durable_hint = at(3, len + 1)).unwrap_err().is_corruption());
            // A record that was begun: counted up to its last byte that is there.
            if room > 40 {
                zeros.files[0].1[len as usize + 20] = 1;
                let (scan, seqs) = zeros.replay(|_| ()).unwrap();
                assert_eq!((scan.end, scan.torn_tail_bytes, seqs.len()), (at(3, len), 21, 3));
                assert!(scan.stopped.is_some());
            }
        }
    }

    /// The last records became zeros: a tail like any other, damage if a later segment or the manifest
    /// promised them.
    #[test]
    fn zeros_in_place_of_records_are_judged_by_the_promises() {
        for (promise, damaged) in [(&nothing as &dyn Fn(LogPosition) -> LogPosition, false), (&all_before, true)] {
            let mut log = Log::build(&[3, 7], promise);
            let from = log.borders[1].offset;
            log.files[0].1[from as usize..].fill(0);
            let outcome = log.replay(|_| ());
            assert_eq!(outcome.is_err(), damaged);
            if let Ok((scan, seqs)) = outcome {
                assert_eq!((scan.end, seqs.len()), (at(3, from), 1));
                assert_eq!(scan.torn_tail_bytes, without_zeros(&log.files[1].1));
            }
            let alone = Log { files: log.files[..1].to_vec(), borders: log.borders.clone() };
            assert_eq!(alone.replay(|_| ()).unwrap().1.len(), 1);
            assert!(alone.replay(|rules| rules.durable_hint = at(3, from + 1)).is_err());
        }
        // Zeros with a record behind them are a hole, not an end.
        let mut log = Log::build(&[3], &all_before);
        let (from, to) = (log.borders[1].offset as usize, log.borders[2].offset as usize);
        log.files[0].1[from..to].fill(0);
        assert!(log.replay(|_| ()).unwrap_err().is_corruption());
    }

    #[test]
    fn hostile_lengths_are_a_torn_tail() {
        let log = Log::build(&[3], &all_before);
        let mut hostile = log.clone();
        let last = log.borders[2].offset as usize;
        hostile.files[0].1[last + 4..last + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(hostile.replay(|_| ()).unwrap().0.end, log.borders[2]);
    }

    /// The story: a reader finds a record half written, then the writer finishes it, syncs, and writes one
    /// that says so. That is no damage: the reader begins again.
    #[test]
    fn a_record_that_is_finished_under_the_eyes_of_a_reader_is_no_damage() {
        let log = Log::build(&[3], &all_before);
        let fs = new_fs();
        let path = FileName::Wal(3).path(dir());
        let file = fs.create_new(&path).unwrap();
        let (whole, begun) = (&log.files[0].1, log.borders[1].offset as usize + 20);
        let mut torn = whole.clone();
        torn[begun] ^= 1;
        file.write_all_at(&torn, 0).unwrap();
        for shared in [false, true] {
            let rules = ReplayRules { shared, ..ReplayRules::new(DB) };
            assert!(replay_seqs(&fs, &[3], &rules).unwrap_err().is_corruption(), "nobody finishes it");
        }
        let rules = ReplayRules { shared: true, ..ReplayRules::new(DB) };
        let mut visited = 0;
        let outcome = replay(&fs, dir(), &[3], &rules, &mut |_, _, _| {
            visited += 1;
            file.write_all_at(whole, 0).unwrap();
            Ok(())
        });
        assert_eq!((outcome.unwrap().end, visited), (*log.borders.last().unwrap(), 3), "the second look suffices");
        // Finished only when its promise has been found: it is whole when it is looked at for the third time.
        let (faults, control) = FaultFs::new(Arc::new(fs));
        for (shared, kind) in [(true, ErrorKind::Busy), (false, ErrorKind::Corruption)] {
            let mut rule = Rule::new(Fault::WrongRead).kind(CallKind::Read).skip(1);
            rule.times = 2;
            control.add(rule);
            let rules = ReplayRules { shared, ..ReplayRules::new(DB) };
            assert_eq!(replay_seqs(&*faults, &[3], &rules).unwrap_err().kind(), kind);
            control.heal();
        }
    }

    #[test]
    fn a_tail_full_of_pretended_records_is_judged_in_bounded_time() {
        let mut log = Log::build(&[3], &nothing);
        log.files[0].1.extend_from_slice(&[0xff; 40]);
        let n = 25_000;
        for i in 0..n {
            let mut pretended = [0; 40];
            pretended[4..8].copy_from_slice(&((n - i - 1) * 40u32).to_le_bytes());
            pretended[8] = RecordKind::Batch as u8;
            log.files[0].1.extend_from_slice(&pretended);
        }
        let e = log.replay(|_| ()).unwrap_err();
        assert!(e.message().contains("too much that looks like records"), "{e}");
    }

    #[test]
    fn a_failed_write_is_cut_off_and_a_failed_cut_breaks_the_writer() {
        let memory = new_fs();
        let (fs, control) = FaultFs::new(Arc::new(memory.clone()));
        let mut w = SegmentWriter::create(&*fs, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
        w.append(&batch(1, 1, LogPosition::START), b"first").unwrap();
        let end = w.end();
        control.add(Rule::new(Fault::ShortWrite { keep: 20, error: Errno::Enospc }).kind(CallKind::Write));
        let e = w.append(&batch(2, 1, LogPosition::START), b"second").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NoSpace);
        assert_eq!((w.end(), read_file(&memory, 3).len() as u64), (end, end.offset));
        w.append(&batch(2, 1, LogPosition::START), b"again").unwrap();
        control.add(Rule::new(Fault::ShortWrite { keep: 20, error: Errno::Eio }).kind(CallKind::Write));
        control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::SetLen));
        let e = w.append(&batch(3, 1, LogPosition::START), b"third").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Poisoned);
        control.heal();
        assert_eq!(w.append(&batch(3, 1, LogPosition::START), b"").unwrap_err().kind(), ErrorKind::Poisoned);
        let (scan, seqs) = replay_seqs(&memory, &[3], &ReplayRules::new(DB)).unwrap();
        // Twenty bytes, of which the last three are zeros.
        assert_eq!((seqs, scan.torn_tail_bytes), (vec![1, 2], 17));
    }

    /// A segment that is mapped and expected to have so many bytes.
    fn mapped(fs: &dyn Fs, expected_len: u64) -> SegmentWriter {
        let mut w = SegmentWriter::create(fs, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
        w.map(LogMode::Mapped, expected_len);
        assert!(w.is_mapped());
        w
    }

    #[test]
    fn both_ways_of_appending_make_the_same_file() {
        let mut files = Vec::new();
        for (mode, mixed) in
            [(LogMode::Mapped, false), (LogMode::Mapped, true), (LogMode::Positioned, false), (LogMode::Auto, false)]
        {
            let fs = new_fs();
            let mut w = SegmentWriter::create(&fs, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
            w.map(mode, 300_000);
            assert_eq!(w.is_mapped(), mode == LogMode::Mapped, "memory is on no list of trusted file systems");
            let payloads: Vec<Vec<u8>> = (0..40).map(|n| vec![n as u8; n * n]).collect();
            for (n, pair) in payloads.chunks(2).enumerate() {
                let seq = 1 + 2 * n as u64;
                let records = [(batch(seq, 1, at(3, 0)), &pair[0][..]), (batch(seq + 1, 1, at(3, 0)), &pair[1][..])];
                w.prefer_writes(mixed && n % 3 > 0);
                w.append_many(&records).unwrap();
                let torn = replay_seqs(&fs, &[3], &ReplayRules::new(DB)).unwrap().0;
                assert_eq!((torn.end, torn.torn_tail_bytes, torn.stopped), (w.end(), 0, None), "{mode:?}");
            }
            w.finish(at(3, 0)).unwrap();
            assert!(!w.is_mapped());
            files.push(read_file(&fs, 3));
            assert_eq!(files[0].len() as u64, w.end().offset, "cut to its end");
        }
        assert!(files.iter().all(|file| *file == files[0]));
    }

    #[test]
    fn space_is_written_ahead_in_steps_and_not_beyond_what_is_expected() {
        let fs = new_fs();
        let (faults, control) = FaultFs::new(Arc::new(fs.clone()));
        let mut w = mapped(&*faults, 5 << 20);
        let room = w.room().unwrap();
        let len = || read_file(&fs, 3).len() as u64;
        assert_eq!(len(), FIRST_RECORD);
        w.append(&batch(1, 1, LogPosition::START), b"a").unwrap();
        assert_eq!(len(), ROOM_STEP_LATE, "a late writer takes little");
        assert!(w.wants_room() && !w.wants_room(), "asked for once");
        room.prepare();
        assert_eq!(len(), ROOM_STEP_LATE + ROOM_STEP);
        assert!(!w.wants_room());
        let writes = control.counts().writes;
        w.append(&batch(2, 1, LogPosition::START), &[1; 500 << 10]).unwrap();
        assert_eq!(control.counts().writes, writes, "a store and nothing else");
        assert!(!w.wants_room());
        w.append(&batch(3, 1, LogPosition::START), &[1; 100 << 10]).unwrap();
        assert!(w.wants_room());
        (0..10).for_each(|_| room.prepare());
        assert_eq!(len(), 5 << 20);
        assert!(!w.wants_room());
        // The last records of a segment may reach beyond, and one may be larger than what is mapped.
        w.append(&batch(4, 1, LogPosition::START), &[1; 5 << 20]).unwrap();
        assert!(w.is_mapped() && len() == w.end().offset);
        w.append(&batch(5, 1, LogPosition::START), &[1; 2 << 20]).unwrap();
        assert!(!w.is_mapped());
        room.prepare();
        w.append(&batch(6, 1, LogPosition::START), b"b").unwrap();
        w.finish(LogPosition::START).unwrap();
        room.prepare();
        assert_eq!(len(), w.end().offset);
        assert_eq!(replay_seqs(&fs, &[3], &ReplayRules::new(DB)).unwrap().1, [1, 2, 3, 4, 5, 6]);
    }

    /// The story: the disk is full. It shows before a record is begun; what fits is used, what a failed
    /// attempt has got is given back, and writes go on when there is space again.
    #[test]
    fn a_full_disk_shows_before_a_record_is_begun() {
        for ahead in [false, true] {
            let fs = new_fs();
            let (faults, control) = FaultFs::new(Arc::new(fs.clone()));
            let mut w = mapped(&*faults, 1 << 20);
            control.set_free_bytes(Some(100_000));
            let mut seqs = Vec::new();
            let mut refused = 0;
            for n in 1..400 {
                if n == 300 {
                    control.set_free_bytes(None);
                }
                if let Some(room) = w.room().filter(|_| ahead && w.wants_room()) {
                    room.prepare();
                }
                match w.append(&batch(seqs.len() as u64 + 1, 1, LogPosition::START), &[7; 960]) {
                    Ok(_) => seqs.push(seqs.len() as u64 + 1),
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::NoSpace, "{e}");
                        refused += 1;
                    }
                }
                assert_eq!(replay_seqs(&fs, &[3], &ReplayRules::new(DB)).unwrap().1, seqs);
            }
            assert_eq!((refused, seqs.len()), (199, 200), "a hundred records fit");
            assert!(w.is_mapped());
            w.finish(LogPosition::START).unwrap();
            assert_eq!(read_file(&fs, 3).len() as u64, w.end().offset);
        }
    }

    /// The story: one call fails, whichever. What was acknowledged is there, what was refused is not (or
    /// the writer is broken and nothing follows), and a crash at that moment leaves a log.
    #[test]
    fn every_call_of_a_mapped_segment_fails() {
        let faults = [
            Fault::Error(Errno::Eio),
            Fault::Error(Errno::Enospc),
            Fault::ShortWrite { keep: 50, error: Errno::Enospc },
            Fault::ShortWrite { keep: 50, error: Errno::Eio },
            Fault::TornWrite(Errno::Eio),
        ];
        let (mut broken, mut refused, mut unmapped) = (0, 0, 0);
        for (fault, mixed) in faults.iter().flat_map(|fault| [(*fault, false), (*fault, true)]) {
            for n in 1.. {
                let fs = new_fs();
                let (wrapped, control) = FaultFs::new(Arc::new(fs.clone()));
                let mut w = mapped(&*wrapped, 40_000);
                let before = control.counts().changes;
                control.fail_change(before + n, fault);
                let (mut acked, mut tried) = (Vec::new(), 0);
                for _ in 0..12 {
                    let seq = acked.len() as u64 + 1;
                    tried = tried.max(seq);
                    w.prefer_writes(mixed && seq % 4 > 1);
                    match w.append(&batch(seq, 1, LogPosition::START), &vec![seq as u8; 5000]) {
                        Ok(_) => acked.push(seq),
                        Err(e) if e.kind() == ErrorKind::Poisoned => broken += 1,
                        Err(_) => refused += 1,
                    }
                }
                unmapped += usize::from(!w.is_mapped());
                let finished = w.finish(LogPosition::START).is_ok();
                for policy in [CrashPolicy::Everything, CrashPolicy::Torn, CrashPolicy::Prefix, CrashPolicy::Subset] {
                    let after = fs.crash(policy, n);
                    let Ok(names) = after.list(dir()) else { continue };
                    let numbers: Vec<u64> = names.iter().filter_map(|n| FileName::parse(n)?.number()).collect();
                    let (_, seqs) = replay_seqs(&after, &numbers, &ReplayRules::new(DB)).unwrap();
                    let known = (1..=tried).collect::<Vec<_>>();
                    assert_eq!(seqs, known[..seqs.len()], "{fault:?} at call {n}");
                    if policy == CrashPolicy::Everything {
                        // A record of a broken writer may be there although it was refused.
                        assert!(seqs == acked || !finished && seqs.starts_with(&acked), "{fault:?} at call {n}");
                    }
                }
                if control.counts().faults == 0 {
                    break;
                }
            }
        }
        assert!(broken > 0 && refused > 0 && unmapped > 0, "{broken} {refused} {unmapped}");
    }

    #[test]
    fn a_segment_that_cannot_be_mapped_is_written() {
        let fs = new_fs();
        let (faults, control) = FaultFs::new(Arc::new(fs.clone()));
        control.add(Rule::new(Fault::Error(Errno::Emfile)).kind(CallKind::Map));
        let mut w = SegmentWriter::create(&*faults, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
        w.map(LogMode::Mapped, 1 << 20);
        assert!(!w.is_mapped());
        w.append(&batch(1, 1, LogPosition::START), b"a").unwrap();
        assert_eq!(replay_seqs(&fs, &[3], &ReplayRules::new(DB)).unwrap().1, [1]);
    }

    #[test]
    fn a_failed_read_is_an_error_not_an_end() {
        let memory = new_fs();
        let mut w = SegmentWriter::create(&memory, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
        w.append(&batch(1, 1, LogPosition::START), b"first").unwrap();
        let (fs, control) = FaultFs::new(Arc::new(memory));
        for skip in 0..2 {
            control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Read).skip(skip));
            assert_eq!(replay_seqs(&*fs, &[3], &ReplayRules::new(DB)).unwrap_err().kind(), ErrorKind::Io);
            control.heal();
        }
        assert_eq!(replay_seqs(&*fs, &[3], &ReplayRules::new(DB)).unwrap().1, [1]);
    }

    #[test]
    fn a_finished_segment_takes_no_more() {
        let fs = new_fs();
        let mut w = SegmentWriter::create(&fs, dir(), 3, DB, LogPosition::START, 1, 9).unwrap();
        w.finish(LogPosition::START).unwrap();
        assert!(w.append(&batch(1, 1, LogPosition::START), b"").is_err());
        assert!(SegmentWriter::create(&fs, dir(), 3, DB, LogPosition::START, 1, 9).is_err(), "made exclusively");
        let mut first = [0; 8];
        read_exact_at(&*w.file(), &mut first, 0).unwrap();
        assert_eq!(&first, b"LGNTWAL1");
    }

    /// The story: power fails at a random moment of writing, syncing and changing segments. What
    /// comes back is a prefix of what was written, at least up to what was synced, and never an error.
    #[test]
    fn after_a_crash_a_prefix_comes_back_with_all_that_was_synced() {
        for seed in 1..150u64 {
            for policy in CrashPolicy::ALL {
                let mut random = seed;
                let mut below = move |n: u64| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random % n
                };
                let fs = new_fs();
                fs.sync_all();
                let (mut seq, mut synced, mut synced_seq) = (1, LogPosition::START, 1);
                let mode = [LogMode::Mapped, LogMode::Positioned][seed as usize % 2];
                let mut w = SegmentWriter::create(&fs, dir(), 3, DB, LogPosition::START, seq, seed).unwrap();
                w.map(mode, 8 << 10);
                let mut unsynced = vec![w.file()];
                for _ in 0..below(25) {
                    match below(8) {
                        0 => {
                            w.finish(synced).unwrap();
                            let number = w.number() + 1 + below(2);
                            w = SegmentWriter::create(&fs, dir(), number, DB, w.end(), seq, seed + number).unwrap();
                            w.map(mode, 8 << 10);
                            unsynced.push(w.file());
                        }
                        1 => {
                            unsynced.iter().for_each(|file| file.sync_data().unwrap());
                            unsynced = vec![w.file()];
                            fs.sync_dir(dir()).unwrap();
                            (synced, synced_seq) = (w.end(), seq);
                        }
                        _ => {
                            let payload = vec![seq as u8; below(1500) as usize];
                            w.prefer_writes(below(2) == 0);
                            w.append(&batch(seq, 2, synced), &payload).unwrap();
                            seq += 2;
                            if let Some(room) = w.room().filter(|_| w.wants_room()) {
                                room.prepare();
                            }
                        }
                    }
                }
                let after = fs.crash(policy, seed);
                let names = after.list(dir()).unwrap();
                let numbers: Vec<u64> = names.iter().filter_map(|n| FileName::parse(n)?.number()).collect();
                let rules = ReplayRules { log_first: 3, durable_hint: synced, ..ReplayRules::new(DB) };
                let mut next = 1;
                let scan = replay(&after, dir(), &numbers, &rules, &mut |header, payload, _| {
                    assert!(header.first_seq == next && payload.iter().all(|&b| b == next as u8));
                    next += 2;
                    Ok(())
                });
                let scan = scan.unwrap_or_else(|e| panic!("seed {seed} {policy:?}: {e}"));
                assert!((synced_seq..=seq).contains(&next) && scan.end >= synced, "seed {seed} {policy:?}");
                assert!(policy != CrashPolicy::Everything || next == seq, "seed {seed}");
            }
        }
    }

    #[test]
    fn everything_in_a_file_is_told() {
        let fs = new_fs();
        let mut bytes = Log::build(&[3], &all_before).files[0].1.clone();
        bytes[FIRST_RECORD as usize + 48 + 8] ^= 1;
        put_bytes(&mut bytes, b"rest");
        let path = FileName::Wal(3).path(dir());
        fs.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
        let mut lines = Vec::new();
        let (header, segment) = scan_file(&fs, &path, &mut |item| {
            lines.push(item.to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(header.to_string(), "log segment number=3 db=000000000000000000000000000000d1");
        assert_eq!(segment.to_string(), "segment previous=0:0 first_seq=1 salt=0000000000005a1a");
        assert_eq!(
            lines,
            [
                "128: batch seq=1 count=2 synced=3:128 payload=5",
                "176: defect of 40 bytes: the record fails its checksum",
                "216: batch seq=5 count=2 synced=3:216 payload=16",
                "272: defect of 5 bytes: 5 bytes are too few for a record",
            ]
        );
    }
}
