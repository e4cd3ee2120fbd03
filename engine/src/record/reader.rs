//! Reads records from hostile files.
//!
//! The reader tells three things apart: a whole record, the exact end of the file, and a *defect*,
//! which is anything else. What a defect means (a torn tail, damage, a writer at work) is for the
//! caller to judge; [`RecordReader::find`] looks for whole records behind one. Failed system calls
//! are errors, never defects. No length is trusted before it is held against the file's length.

use std::io;
use std::path::{Path, PathBuf};

use super::{LogPosition, Place, RECORD_ALIGN, RECORD_HEADER_LEN, RecordHeader, RecordKind, record_len};
use crate::checksum::crc32;
use crate::coding::Input;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::key::{BATCH_LEN_MAX, SEQ_MAX};
use crate::sabotage::{self, Bug};
use crate::sync::Arc;

/// How much is read at once, at least.
const WINDOW_LEN: usize = 256 << 10;

/// A whole record whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one would begin.
    pub end: u64,
    /// What it says before its payload.
    pub header: RecordHeader,
    /// The payload.
    pub payload: &'a [u8],
}

/// What lies at an offset.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// A whole record.
    Record(Record<'a>),
    /// The end of the file.
    End,
    /// Something else, in words.
    Defect(String),
}

/// Reads the records of one file, up to the length that it had when it was opened.
pub struct RecordReader {
    file: Arc<dyn File>,
    path: PathBuf,
    len: u64,
    place: Place,
    /// Bytes of the file from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    /// Bytes that [`RecordReader::find`] may still hold against a checksum.
    find_budget: u64,
    /// True if zeros up to the end of the file are its end.
    zeros_end_it: bool,
    /// From here on there are only zeros, as far as that is known.
    zero_from: Option<u64>,
}

impl RecordReader {
    /// Reads the records that `place` binds to `file`.
    pub fn new(file: Arc<dyn File>, path: &Path, place: Place) -> Result<RecordReader> {
        let len = file.len().map_err(|e| Error::io("read the length", path, e))?;
        // Honest files need their own length once. The rest is for payloads that look like records.
        let find_budget = len.saturating_mul(8).saturating_add(64 << 20);
        Ok(RecordReader {
            file,
            path: path.to_path_buf(),
            len,
            place,
            window: Vec::new(),
            window_at: 0,
            find_budget,
            zeros_end_it: false,
            zero_from: None,
        })
    }

    /// Takes zeros that reach to the end of the file for its end: space that was written ahead of the
    /// records, as in a log segment, and that the process did not live to use.
    #[must_use]
    pub fn with_zeros_as_end(mut self) -> RecordReader {
        self.zeros_end_it = true;
        self
    }

    /// Forgets what was read, so that the next call sees what the file holds then.
    pub fn forget(&mut self) {
        self.window.clear();
        self.zero_from = None;
    }

    /// The file's length in bytes when it was opened.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// What lies at `offset`, a multiple of 8.
    pub fn read(&mut self, offset: u64) -> Result<Found<'_>> {
        if offset >= self.len || self.zeros_end_it && self.is_zero_from(offset)? {
            return Ok(Found::End);
        }
        let left = self.len - offset;
        let raw = match self.raw_header(offset)? {
            Some(raw) => raw,
            None => return Ok(Found::Defect(format!("{left} bytes are too few for a record"))),
        };
        if raw.payload_len > BATCH_LEN_MAX || record_len(raw.payload_len) > left {
            return Ok(Found::Defect(format!(
                "the record claims a payload of {} bytes; {left} bytes are left in the file",
                raw.payload_len
            )));
        }
        let len = record_len(raw.payload_len) as usize;
        self.load(offset, len)?;
        let bytes = self.view(offset, len);
        if bytes.len() < len {
            return Ok(Found::Defect("the file ends within the record".to_string()));
        }
        let unchecked = sabotage::is(Bug::RecordsUnchecked);
        if crc32(self.place.seed(offset), &[&bytes[4..len]]) != raw.crc && !unchecked {
            return Ok(Found::Defect("the record fails its checksum".to_string()));
        }
        // From here on these are the bytes that were written, so what is wrong is not a tear.
        let here = LogPosition { segment: self.place.number, offset };
        let header = raw
            .check(here, &bytes[RECORD_HEADER_LEN + raw.payload_len..])
            .map_err(|e| e.with_file(&self.path).with_offset(offset))?;
        let payload = &bytes[RECORD_HEADER_LEN..RECORD_HEADER_LEN + raw.payload_len];
        Ok(Found::Record(Record { offset, end: offset + len as u64, header, payload }))
    }

    /// The first whole record at or behind `from` that ends by `limit`, with its end.
    ///
    /// Tries every multiple of 8. A file made to look like records everywhere would cost the square
    /// of its length; past a bound the search gives up with `Corruption` instead.
    pub fn find(&mut self, from: u64, limit: u64) -> Result<Option<(u64, u64, RecordHeader)>> {
        let mut offset = from.next_multiple_of(RECORD_ALIGN);
        let limit = limit.min(self.len);
        while offset + RECORD_HEADER_LEN as u64 <= limit {
            let Some(raw) = self.raw_header(offset)? else { break };
            let end = offset.saturating_add(record_len(raw.payload_len));
            if raw.is_plausible(self.place.number, offset) && end <= limit {
                self.find_budget = self.find_budget.checked_sub(end - offset).ok_or_else(|| {
                    Error::corruption("behind a defect lies too much that looks like records to judge it")
                        .with_file(&self.path)
                        .with_offset(from)
                })?;
                if let Found::Record(record) = self.read(offset)? {
                    return Ok(Some((record.offset, record.end, record.header)));
                }
            }
            offset += RECORD_ALIGN;
        }
        Ok(None)
    }

    /// True if nothing but zeros follows. Reads forward, so that beside a writer, who writes in that
    /// direction as well, a record is not taken for zeros with something behind them.
    fn is_zero_from(&mut self, offset: u64) -> Result<bool> {
        if self.zero_from.is_some_and(|zero| offset >= zero) {
            return Ok(true);
        }
        let mut at = offset;
        while at < self.len {
            self.load(at, 1)?;
            let bytes = self.view(at, self.window.len());
            if bytes.is_empty() || bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        self.zero_from = Some(offset);
        Ok(true)
    }

    /// The header at `offset`, unchecked; none if the file ends within it.
    fn raw_header(&mut self, offset: u64) -> Result<Option<RawHeader>> {
        self.load(offset, RECORD_HEADER_LEN)?;
        let bytes = self.view(offset, RECORD_HEADER_LEN);
        if bytes.len() < RECORD_HEADER_LEN {
            return Ok(None);
        }
        RawHeader::parse(bytes).map(Some)
    }

    /// Makes sure that the window holds `len` bytes from `offset`, or all up to the end of the file.
    /// The caller has held `len` against the file's length.
    fn load(&mut self, offset: u64, len: usize) -> Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        if offset >= self.window_at && offset + len as u64 <= window_end {
            return Ok(());
        }
        let wanted = (len.max(WINDOW_LEN) as u64).min(self.len.saturating_sub(offset)) as usize;
        self.window.clear();
        self.window.try_reserve(wanted).map_err(|_| {
            Error::io("hold a record in memory", &self.path, io::Error::from(io::ErrorKind::OutOfMemory))
        })?;
        self.window.resize(wanted, 0);
        let n = self
            .file
            .read_at(&mut self.window, offset)
            .or_else(|e| if sabotage::is(Bug::ReadErrorIsEnd) { Ok(0) } else { Err(e) })
            .map_err(|e| Error::io("read", &self.path, e).with_offset(offset))?;
        self.window.truncate(n);
        self.window_at = offset;
        Ok(())
    }

    /// What [`RecordReader::load`] made sure of; shorter if the file ends first.
    fn view(&self, offset: u64, len: usize) -> &[u8] {
        let start = (offset - self.window_at) as usize;
        let end = (start + len).min(self.window.len());
        &self.window[start.min(end)..end]
    }
}

/// The length of a file of `len` bytes without the zeros at its end.
pub fn len_without_zeros(file: &dyn File, path: &Path, len: u64) -> Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut end = len;
    while end > 0 {
        let at = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - at) as usize];
        let n = file.read_at(piece, at).map_err(|e| Error::io("read", path, e).with_offset(at))?;
        if let Some(last) = piece[..n].iter().rposition(|&byte| byte != 0) {
            return Ok(at + last as u64 + 1);
        }
        end = at;
    }
    Ok(0)
}

/// The fields of a record header as they lie there.
struct RawHeader {
    crc: u32,
    payload_len: usize,
    kind: u8,
    flags: u8,
    reserved: u16,
    count: u32,
    first_seq: u64,
    synced: LogPosition,
}

impl RawHeader {
    fn parse(bytes: &[u8]) -> Result<RawHeader> {
        let mut input = Input::new(bytes);
        Ok(RawHeader {
            crc: input.u32()?,
            payload_len: input.u32()? as usize,
            kind: input.u8()?,
            flags: input.u8()?,
            reserved: input.u16()?,
            count: input.u32()?,
            first_seq: input.u64()?,
            synced: LogPosition { segment: input.u64()?, offset: input.u64()? },
        })
    }

    /// False for nearly everything that is not a record, at no cost.
    fn is_plausible(&self, number: u64, offset: u64) -> bool {
        self.payload_len <= BATCH_LEN_MAX
            && RecordKind::from_u8(self.kind).is_some()
            && self.flags == 0
            && self.reserved == 0
            && self.first_seq <= SEQ_MAX
            && self.synced <= LogPosition { segment: number, offset }
    }

    /// What it means, once the checksum is known to be right.
    fn check(&self, here: LogPosition, padding: &[u8]) -> Result<RecordHeader> {
        let kind = RecordKind::from_u8(self.kind)
            .ok_or_else(|| Error::unsupported(format!("record kind {} is not known to this version", self.kind)))?;
        kind.check_supported()?;
        if self.flags & 1 != 0 {
            return Err(Error::unsupported("compressed log records are not supported by this version"));
        }
        if self.flags != 0 || self.reserved != 0 {
            return Err(Error::unsupported("the record has flags that are not known to this version"));
        }
        if padding.iter().any(|&b| b != 0) {
            return Err(Error::corruption("the padding of the record is not zero"));
        }
        if self.first_seq > SEQ_MAX || u64::from(self.count) > SEQ_MAX - self.first_seq {
            return Err(Error::corruption("the record's sequence numbers are out of range"));
        }
        if self.synced > here {
            return Err(Error::corruption("the record claims that more is durable than lies before it"));
        }
        Ok(RecordHeader { kind, first_seq: self.first_seq, count: self.count, synced: self.synced })
    }
}
