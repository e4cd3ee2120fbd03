//! The live log: the segment being written, those still needed, and how far they are durable.
//!
//! Appending belongs to the commit leader alone. Syncing does not: whoever waits for durability
//! either waits for the sync that is running or starts the next one, which then covers everything
//! appended so far. No lock is held while the device works, so the next group collects meanwhile.
//!
//! Writers who write again as soon as they may would fall into two halves that wait for each other: while
//! one half is synced the other collects, and each sync serves half of them. So who begins a sync waits a
//! little for those whom the last one let go, as long as that has been worth it lately.
//!
//! An append takes no lock that a sync holds: how far the current segment is appended and durable are
//! numbers that the leader reads and writes by himself.
//!
//! Always true: segments become durable oldest first, and nothing in a segment counts as durable
//! before the segment's directory entry and all earlier segments are. After one failed sync nothing
//! is ever synced again: the log is poisoned.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use crate::checksum;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{File, Fs};
use crate::key::SeqNo;
use crate::metrics::Metrics;
use crate::options::LogMode;
use crate::record::{LogPosition, RecordHeader, RecordKind};
use crate::sabotage::{self, Bug};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};
use crate::wal::{Room, SegmentWriter};

/// The longest wait for others before a sync begins; never more than a quarter of what the last one took.
const GATHER_MAX: Duration = Duration::from_micros(200);
/// So many syncs begin at once after a wait for nobody.
const GATHER_PAUSE: u32 = 16;

/// Up to so many appends between two syncs, they are written, not stored: each costs less than a microsecond more, and
/// the sync some 24 less; see [`SegmentWriter::prefer_writes`].
const FEW_APPENDS: u32 = 32;

/// Called once, when the position it was given for is durable or can never be.
pub type DurableCallback = Box<dyn FnOnce(Result<()>) + Send>;

/// A log segment that recovery would need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number in the file's name.
    pub number: u64,
    /// Bytes in it.
    pub len: u64,
    /// The largest sequence number in it, or that of the segment before if it has no record.
    pub last_seq: SeqNo,
}

/// How segments are written.
#[derive(Clone, Copy, Debug)]
pub struct Appending {
    /// Mapped or by positioned writes.
    pub mode: LogMode,
    /// How long a segment is expected to become.
    pub segment_size: u64,
}

/// The live log.
pub struct LiveLog {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    db_id: u128,
    seed: u64,
    appending: Appending,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    writer: Mutex<Leader>,
    state: Mutex<State>,
    synced: Condvar,
    /// Wakes the one who waits for others before a sync.
    gathered: Condvar,
    /// Wakes the notifier thread.
    wanted: Condvar,
    /// Bytes in all live segments, for the decision to rotate or flush without a lock.
    live_bytes: AtomicU64,
    /// Bytes of the current segment and the last number in it. The commit leader sets them, in a new
    /// segment under the lock of the state; see [`LiveLog::state`].
    appended: AtomicU64,
    last_seq: AtomicU64,
    /// Goes up whenever `durable` changes in the state, under its lock.
    durable_version: AtomicU64,
    /// Goes up with each sync that a writer waited for.
    awaited_syncs: AtomicU64,
    /// True once `failed` is set in the state.
    has_failed: AtomicBool,
    /// Somebody should write space ahead.
    room_wanted: AtomicBool,
}

/// What the commit leader owns.
struct Leader {
    segment: SegmentWriter,
    /// How far the log is durable, and the version of that.
    promise: LogPosition,
    promise_version: u64,
    /// Syncs that writers waited for up to now, appends since the last of them, and whether those before it were few.
    awaited_syncs: u64,
    appends: u32,
    were_few: bool,
}

struct State {
    /// Closed segments that are still needed, oldest first.
    closed: VecDeque<Segment>,
    current: Segment,
    /// Segments with bytes that are not durable yet, oldest first; the last is the current one.
    unsynced: VecDeque<Unsynced>,
    durable: LogPosition,
    end: LogPosition,
    syncing: bool,
    /// A writer waits for the sync that runs or comes next.
    is_awaited: bool,
    /// How many syncs have begun.
    begun: u64,
    /// Threads that wait for a sync or do it, and how many are waited for before it begins (0: for none).
    waiting: usize,
    gathering: usize,
    /// What the last sync let go and how long it took, and how many more begin without a wait.
    served: usize,
    /// Who came while it ran.
    stayed: usize,
    took: Duration,
    hasty: u32,
    failed: Option<Error>,
    callbacks: Vec<(LogPosition, DurableCallback)>,
    /// Space ahead of the current segment, if it is mapped.
    room: Option<Arc<Room>>,
    /// Callbacks whose outcome is known, for the notifier thread.
    ready: Ready,
    /// True while a notifier thread runs; without one, callbacks run where the sync was done.
    notified: bool,
    stopping: bool,
}

#[derive(Clone)]
struct Unsynced {
    number: u64,
    file: Arc<dyn File>,
    end: u64,
    named: bool,
}

impl LiveLog {
    /// Begins the log with a new segment `number` behind `closed`, which recovery found sealed.
    /// `previous` is where the segment before ended, `last_seq` the last sequence number in use.
    pub fn create(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        db_id: u128,
        seed: u64,
        appending: Appending,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        number: u64,
        closed: Vec<Segment>,
        previous: LogPosition,
        last_seq: SeqNo,
    ) -> Result<LiveLog> {
        let salt = checksum::place_salt(db_id, number, seed);
        let mut writer = SegmentWriter::create(&*fs, &dir, number, db_id, previous, last_seq + 1, salt)?;
        writer.map(appending.mode, appending.segment_size);
        metrics.log_segments.inc();
        let end = writer.end();
        let unsynced = Unsynced { number, file: writer.file(), end: end.offset, named: false };
        let live = closed.iter().map(|s| s.len).sum::<u64>() + end.offset;
        // Nothing of this segment is durable, not even its name; all before it is. Behind kept segments
        // the promise ends where they do: one of this segment's beginning would say that it is there.
        let durable = if closed.is_empty() { LogPosition { segment: number, offset: 0 } } else { previous };
        Ok(LiveLog {
            fs,
            dir,
            db_id,
            seed,
            appending,
            clock,
            metrics,
            state: Mutex::new(State {
                closed: closed.into(),
                current: Segment { number, len: end.offset, last_seq },
                unsynced: VecDeque::from([unsynced]),
                durable,
                end,
                syncing: false,
                is_awaited: false,
                begun: 0,
                waiting: 0,
                gathering: 0,
                served: 0,
                stayed: 0,
                took: Duration::ZERO,
                hasty: 0,
                failed: None,
                callbacks: Vec::new(),
                room: writer.room(),
                ready: Vec::new(),
                notified: false,
                stopping: false,
            }),
            writer: Mutex::new(Leader {
                segment: writer,
                promise: durable,
                promise_version: 0,
                awaited_syncs: 0,
                appends: 0,
                were_few: false,
            }),
            synced: Condvar::new(),
            gathered: Condvar::new(),
            wanted: Condvar::new(),
            live_bytes: AtomicU64::new(live),
            appended: AtomicU64::new(end.offset),
            last_seq: AtomicU64::new(last_seq),
            durable_version: AtomicU64::new(0),
            awaited_syncs: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            room_wanted: AtomicBool::new(false),
        })
    }

    /// The state, with what the leader has appended up to now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        self.refresh(&mut state);
        state
    }

    fn refresh(&self, state: &mut State) {
        // Within one segment both only grow; a number that is ahead of the bytes keeps them longer.
        let end = self.appended.load(Ordering::Acquire);
        state.end.offset = end;
        state.current.len = end;
        state.current.last_seq = self.last_seq.load(Ordering::Relaxed);
        if let Some(current) = state.unsynced.back_mut() {
            current.end = end;
        }
    }

    /// How far the log is durable, as the leader finds it.
    fn promise(&self, leader: &mut Leader) -> LogPosition {
        if leader.promise_version != self.durable_version.load(Ordering::Acquire) {
            let state = self.state.lock();
            leader.promise = state.durable;
            leader.promise_version = self.durable_version.load(Ordering::Relaxed);
        }
        leader.promise
    }

    /// Fails if a sync has failed, or something else that leaves the log in doubt.
    fn check(&self) -> Result<()> {
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.state.lock();
        state.failed.clone().map_or(Ok(()), Err)
    }

    /// Appends the records of one group with one write; the position behind the last of them.
    /// Only the commit leader calls this. On error nothing was appended.
    pub fn append(&self, records: &mut [(RecordHeader, &[u8])]) -> Result<LogPosition> {
        self.check()?;
        let mut leader = self.writer.lock();
        let promise = self.promise(&mut leader);
        let mut last_seq = 0;
        for (header, _) in records.iter_mut() {
            header.synced = if sabotage::is(Bug::PromiseNeverAdvances) { LogPosition::START } else { promise };
            last_seq = header.first_seq + u64::from(header.count) - 1;
        }
        let before = leader.segment.end().offset;
        let synced_often = self.is_synced_often(&mut leader);
        leader.segment.prefer_writes(synced_often);
        let end = match leader.segment.append_many(records) {
            Err(e) if leader.segment.take_cut() => return Err(self.sync_cut(&leader.segment).err().unwrap_or(e)),
            outcome => outcome?,
        };
        if leader.segment.wants_room() {
            self.room_wanted.store(true, Ordering::Release);
        }
        self.last_seq.store(last_seq, Ordering::Relaxed);
        self.appended.store(end.offset, Ordering::Release);
        drop(leader);
        self.metrics.log_bytes.add(end.offset - before);
        self.live_bytes.fetch_add(end.offset - before, Ordering::Relaxed);
        Ok(end)
    }

    /// True if the record that comes next is likely to be synced for itself or with few others. Of the syncs those count that
    /// writers wait for: what the background does from time to time changes nothing for who does not wait.
    fn is_synced_often(&self, leader: &mut Leader) -> bool {
        let awaited = self.awaited_syncs.load(Ordering::Acquire);
        if leader.awaited_syncs != awaited {
            leader.were_few = leader.appends <= FEW_APPENDS;
            (leader.awaited_syncs, leader.appends) = (awaited, 0);
        }
        leader.appends = leader.appends.saturating_add(1);
        leader.were_few && leader.appends <= FEW_APPENDS
    }

    /// Makes durable that records of a failed write were cut off, as soon as no other sync runs.
    fn sync_cut(&self, segment: &SegmentWriter) -> Result<()> {
        let mut state = self.state.lock();
        while state.syncing {
            state = self.synced.wait(state);
        }
        if let Some(e) = &state.failed {
            return Err(e.clone());
        }
        let (file, number) = (segment.file(), segment.number());
        let unsynced = Unsynced { number, file, end: segment.end().offset, named: false };
        self.sync_alone(state, &[unsynced])
    }

    /// Syncs files, and counts nothing as durable. Nobody else syncs meanwhile: the system tells a failure once, and
    /// whoever else syncs must not be the one who is told that all is well.
    fn sync_alone(&self, mut state: MutexGuard<'_, State>, work: &[Unsynced]) -> Result<()> {
        state.syncing = true;
        drop(state);
        let outcome = work.iter().try_for_each(|segment| self.sync_data(segment));
        let mut state = self.state.lock();
        state.syncing = false;
        if let Err(e) = &outcome {
            state.failed = Some(e.clone());
            self.has_failed.store(true, Ordering::Release);
        }
        let here = self.settle(&mut state);
        self.synced.notify_all();
        drop(state);
        run_callbacks(here);
        outcome
    }

    /// True if space should be written ahead: a job for the background.
    #[inline]
    pub fn wants_room(&self) -> bool {
        self.room_wanted.load(Ordering::Relaxed)
    }

    /// Writes space ahead, if somebody wants it.
    pub fn prepare_room(&self) {
        if !self.room_wanted.swap(false, Ordering::AcqRel) {
            return;
        }
        let room = self.state.lock().room.clone();
        if let Some(room) = room {
            room.prepare();
        }
    }

    /// Closes the current segment and begins segment `number`. Only the commit leader calls this.
    pub fn rotate(&self, number: u64, next_seq: SeqNo) -> Result<()> {
        let mut leader = self.writer.lock();
        let previous = self.finish(&mut leader)?;
        let salt = checksum::place_salt(self.db_id, number, self.seed);
        let mut next = SegmentWriter::create(&*self.fs, &self.dir, number, self.db_id, previous, next_seq, salt)?;
        next.map(self.appending.mode, self.appending.segment_size);
        self.metrics.log_segments.inc();
        let end = next.end();
        let (file, room) = (next.file(), next.room());
        leader.segment = next;
        drop(leader);
        self.live_bytes.fetch_add(end.offset, Ordering::Relaxed);
        let mut state = self.state();
        let closed = state.current;
        state.closed.push_back(closed);
        state.current = Segment { number, len: end.offset, last_seq: closed.last_seq };
        state.unsynced.push_back(Unsynced { number, file, end: end.offset, named: false });
        state.end = end;
        state.room = room;
        self.appended.store(end.offset, Ordering::Release);
        Ok(())
    }

    /// Where the next record will begin.
    pub fn end(&self) -> LogPosition {
        self.state().end
    }

    /// How far the log is durable.
    pub fn durable(&self) -> LogPosition {
        self.state.lock().durable
    }

    /// Bytes in the current segment.
    pub fn current_len(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Bytes in all live segments.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// Bytes appended and not durable yet.
    pub fn has_unsynced(&self) -> bool {
        let state = self.state();
        state.durable < state.end && state.failed.is_none()
    }

    /// All live segments, oldest first; the last one is being written.
    pub fn segments(&self) -> Vec<Segment> {
        let state = self.state();
        state.closed.iter().copied().chain([state.current]).collect()
    }

    /// The first live segment if every closed one whose numbers are all below `needed` may go.
    pub fn first_needed(&self, needed: SeqNo) -> u64 {
        let state = self.state();
        state.closed.iter().find(|s| s.last_seq >= needed).map_or(state.current.number, |s| s.number)
    }

    /// Bytes of the segments from that with `needed` on.
    pub fn bytes_from(&self, needed: SeqNo) -> u64 {
        let state = self.state();
        state.closed.iter().chain([&state.current]).filter(|s| s.last_seq >= needed).map(|s| s.len).sum()
    }

    /// Forgets and removes the segments below `first`, which the manifest has let go durably.
    pub fn release_below(&self, first: u64) {
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            while state.closed.front().is_some_and(|s| s.number < first) {
                gone.extend(state.closed.pop_front());
            }
        }
        for segment in gone {
            self.live_bytes.fetch_sub(segment.len, Ordering::Relaxed);
            self.remove(segment);
        }
    }

    /// Removes the segments below `first`, the current one included, of a log that has been closed.
    pub fn remove_below(&self, first: u64) {
        self.segments().into_iter().filter(|s| s.number < first).for_each(|s| self.remove(s));
    }

    /// A file that cannot be removed now is garbage below the manifest's first segment: the next open
    /// removes it.
    fn remove(&self, segment: Segment) {
        if self.fs.remove_file(&FileName::Wal(segment.number).path(&self.dir)).is_ok() {
            self.metrics.files_deleted.inc();
        }
    }

    /// Waits until everything up to `position` is durable, syncing if nobody else does: for who has written it.
    pub fn sync_to(&self, position: LogPosition) -> Result<()> {
        self.make_durable(position, true)
    }

    fn make_durable(&self, position: LogPosition, is_writer: bool) -> Result<()> {
        let mut state = self.state.lock();
        if state.durable >= position {
            return Ok(());
        }
        state.is_awaited |= is_writer;
        let came_in = state.begun;
        state.waiting += 1;
        if state.waiting == state.gathering {
            self.gathered.notify_one();
        }
        loop {
            if state.durable >= position {
                if state.begun == came_in {
                    state.waiting -= 1; // Served by one that had begun before, and did not count it.
                }
                return Ok(());
            }
            if let Some(e) = &state.failed {
                return Err(e.clone());
            }
            if state.syncing {
                state = self.synced.wait(state);
                continue;
            }
            state.syncing = true;
            state = self.gather(state);
            if state.failed.is_some() {
                state.syncing = false;
                self.synced.notify_all();
                continue;
            }
            state.begun += 1;
            let (serves, begun) = (state.waiting, self.clock.now());
            self.refresh(&mut state);
            let work: Vec<Unsynced> = state.unsynced.iter().cloned().collect();
            drop(state);
            let mut outcome = self.sync_segments(&work);
            if outcome.is_err() && sabotage::is(Bug::SyncRetried) {
                outcome = self.sync_segments(&work);
            }
            state = self.state.lock();
            state.syncing = false;
            state.took = self.clock.now().saturating_sub(begun);
            state.waiting -= serves;
            (state.served, state.stayed) = (serves, state.waiting);
            match outcome {
                Ok(()) => {
                    if let Some(last) = work.last() {
                        state.durable = LogPosition { segment: last.number, offset: last.end };
                        self.durable_version.fetch_add(1, Ordering::Release);
                        if std::mem::take(&mut state.is_awaited) {
                            self.awaited_syncs.fetch_add(1, Ordering::Release);
                        }
                        state.unsynced.retain(|s| s.number >= last.number);
                        if let Some(first) = state.unsynced.front_mut() {
                            first.named = true;
                        }
                    }
                }
                Err(e) => {
                    state.failed = Some(e);
                    self.has_failed.store(true, Ordering::Release);
                }
            }
            let here = self.settle(&mut state);
            self.synced.notify_all();
            if !here.is_empty() {
                drop(state);
                run_callbacks(here);
                state = self.state.lock();
            }
        }
    }

    /// Waits for those whom the last sync let go: they are about to write again.
    fn gather<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let longest = (state.took / 4).min(GATHER_MAX);
        if state.hasty > 0 || longest.is_zero() {
            state.hasty = state.hasty.saturating_sub(1);
            return state;
        }
        // Those who came while it ran are still there; `waiting` counts both.
        state.gathering = state.stayed + state.served;
        let before = state.waiting;
        if state.waiting < state.gathering {
            (state, _) = self.gathered.wait_timeout(state, longest);
            if state.waiting == before {
                state.hasty = GATHER_PAUSE;
            }
        }
        state.gathering = 0;
        state
    }

    /// Waits until everything appended so far is durable. It does not count as a wait of a writer.
    pub fn sync_all(&self) -> Result<()> {
        self.make_durable(self.end(), false)
    }

    /// Lets the device have what was appended so far, unless somebody does just now: the next sync finds little left
    /// to do. Nothing is durable by this, since names are left out: the directory is synced by whoever needs it to
    /// be, and by nobody beside.
    pub fn sync_ahead(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.syncing || state.failed.is_some() {
            return Ok(());
        }
        self.refresh(&mut state);
        let work: Vec<Unsynced> = state.unsynced.iter().cloned().collect();
        self.sync_alone(state, &work)
    }

    fn sync_data(&self, segment: &Unsynced) -> Result<()> {
        let path = FileName::Wal(segment.number).path(&self.dir);
        self.metrics.log_syncs.inc();
        segment.file.sync_data().map_err(|e| poison(Error::io("sync the log", &path, e)))
    }

    fn sync_segments(&self, segments: &[Unsynced]) -> Result<()> {
        let newest = segments.last().map(|s| s.number);
        for segment in segments {
            if sabotage::is(Bug::RotateWithoutSync) && Some(segment.number) != newest {
                continue;
            }
            self.sync_data(segment)?;
            if !segment.named {
                self.fs.sync_dir(&self.dir).map_err(|e| poison(Error::io("sync the directory", &self.dir, e)))?;
            }
        }
        Ok(())
    }

    /// Registers a callback for when `position` is durable; gives it back with the outcome if that
    /// is known already.
    pub fn on_durable(
        &self,
        position: LogPosition,
        callback: DurableCallback,
    ) -> std::result::Result<(), (DurableCallback, Result<()>)> {
        let mut state = self.state.lock();
        if let Some(e) = &state.failed {
            return Err((callback, Err(e.clone())));
        }
        if state.durable >= position {
            return Err((callback, Ok(())));
        }
        state.callbacks.push((position, callback));
        self.wanted.notify_all();
        Ok(())
    }

    /// Refuses every later append and sync.
    pub fn poison(&self, error: Error) {
        let mut state = self.state.lock();
        state.failed.get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
        let here = self.settle(&mut state);
        self.synced.notify_all();
        drop(state);
        run_callbacks(here);
    }

    /// Moves the callbacks whose outcome is known to the notifier thread; without one, returns them
    /// for the caller to run when it holds no lock.
    fn settle(&self, state: &mut State) -> Ready {
        let ready = take_ready(state);
        if !state.notified {
            return ready;
        }
        if !ready.is_empty() {
            state.ready.extend(ready);
            self.wanted.notify_all();
        }
        Vec::new()
    }

    /// The body of the notifier thread: syncs what is older than `interval` (zero for never) and
    /// whenever a callback waits, and runs callbacks. Returns after [`LiveLog::stop_notifier`].
    pub fn run_notifier(&self, interval: Duration, failed: impl Fn(&Error)) {
        let pause = if interval.is_zero() { Duration::from_secs(3600) } else { interval };
        let mut state = self.state.lock();
        state.notified = true;
        loop {
            if !state.ready.is_empty() {
                let ready = std::mem::take(&mut state.ready);
                drop(state);
                run_callbacks(ready);
                state = self.state.lock();
                continue;
            }
            if state.stopping {
                state.notified = false;
                return;
            }
            let mut sync = !state.callbacks.is_empty() && state.failed.is_none();
            if !sync {
                let (after, timed_out) = self.wanted.wait_timeout(state, pause);
                state = after;
                self.refresh(&mut state);
                sync = timed_out && !interval.is_zero() && state.durable < state.end && state.failed.is_none();
            }
            if sync {
                self.refresh(&mut state);
                let end = state.end;
                drop(state);
                if let Err(e) = self.make_durable(end, false) {
                    failed(&e);
                }
                state = self.state.lock();
            }
        }
    }

    /// Ends [`LiveLog::run_notifier`].
    pub fn stop_notifier(&self) {
        self.state.lock().stopping = true;
        self.wanted.notify_all();
    }

    /// Writes the end mark and makes all of it durable; nothing is appended after this.
    pub fn close(&self) -> Result<Vec<Segment>> {
        let end = self.finish(&mut self.writer.lock())?;
        self.sync_to(end)?;
        Ok(self.segments())
    }

    /// Writes the end mark of the current segment, if an earlier attempt to begin the next one, on a
    /// full disk say, has not done so; says where the segment ends.
    fn finish(&self, leader: &mut Leader) -> Result<LogPosition> {
        let promise = self.promise(leader);
        let writer = &mut leader.segment;
        if writer.is_finished() {
            return Ok(writer.end());
        }
        let before = writer.end().offset;
        let finished = writer.finish(promise);
        if writer.take_cut() {
            self.sync_cut(writer)?;
        }
        let end = match finished {
            // A segment that may not grow ends without a mark: the next one says where.
            Err(e) if e.is_file_too_long() => {
                writer.give_back_room();
                writer.end()
            }
            outcome => outcome?,
        };
        self.live_bytes.fetch_add(end.offset - before, Ordering::Relaxed);
        self.appended.store(end.offset, Ordering::Release);
        Ok(end)
    }

    /// Appends the record of something that is not a batch: a family operation or an ingest.
    pub fn append_edit(&self, kind: RecordKind, seq: SeqNo, payload: &[u8]) -> Result<LogPosition> {
        let header = RecordHeader { kind, first_seq: seq, count: 1, synced: LogPosition { segment: 0, offset: 0 } };
        self.append(&mut [(header, payload)])
    }
}

fn poison(cause: Error) -> Error {
    cause.with_kind(ErrorKind::Poisoned).context(
        "the database is poisoned, because a sync failed and what is on disk is uncertain; \
         close and open it again",
    )
}

type Ready = Vec<(DurableCallback, Result<()>)>;

fn take_ready(state: &mut State) -> Ready {
    let mut ready = Vec::new();
    let (durable, failed) = (state.durable, state.failed.clone());
    let waiting = std::mem::take(&mut state.callbacks);
    for (position, callback) in waiting {
        if position <= durable {
            ready.push((callback, Ok(())));
        } else if let Some(e) = &failed {
            ready.push((callback, Err(e.clone())));
        } else {
            state.callbacks.push((position, callback));
        }
    }
    ready
}

/// Runs callbacks without any lock of ours; a panic in one is its own affair.
pub fn run_callbacks(ready: Ready) {
    for (callback, outcome) in ready {
        let call = std::panic::AssertUnwindSafe(move || callback(outcome));
        if std::panic::catch_unwind(call).is_err() {
            tracing::error!("a durability callback panicked");
        }
    }
}
