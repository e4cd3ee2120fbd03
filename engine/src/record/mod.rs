//! Records: the frames that the log and the manifest are made of.
//!
//! ```text
//!  0  crc32           u32, of everything behind it, payload and padding included
//!  4  payload length  u32
//!  8  kind            u8
//!  9  flags           u8, 0 (bit 0 reserved: payload is compressed)
//! 10  reserved        u16, 0
//! 12  count           u32, how many sequence numbers the record takes
//! 16  first sequence  u64
//! 24  synced segment  u64 \ up to where the log was durable when
//! 32  synced offset   u64 / the record was written
//! 40  payload, then zeros up to the next multiple of 8
//! ```
//!
//! Records begin at multiples of 8. The crc starts from a seed made of database, file number,
//! offset and the file's own salt ([`Place`]): bytes that are right but in the wrong place fail.

use std::fmt;

use crate::checksum::place_salt;
use crate::error::{Error, Result};
use crate::key::SeqNo;

pub mod reader;
pub mod writer;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_LEN: usize = 40;

/// Records begin at multiples of this.
pub const RECORD_ALIGN: u64 = 8;

/// A place in the log: everything before it is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPosition {
    /// The number of the segment; 0 for no log at all.
    pub segment: u64,
    /// The byte in the segment.
    pub offset: u64,
}

impl LogPosition {
    /// Before every log.
    pub const START: LogPosition = LogPosition { segment: 0, offset: 0 };
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// What a record holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A write batch.
    Batch = 1,
    /// A column family made, dropped, renamed or given other options.
    FamilyOperation = 2,
    /// Tables taken in.
    Ingest = 3,
    /// The last record of a segment.
    End = 4,
    /// Reserved.
    Prepare = 5,
    /// Reserved.
    Commit = 6,
    /// Reserved.
    Rollback = 7,
    /// A version edit; in manifests only.
    Edit = 16,
}

impl RecordKind {
    /// The kind with this number; reserved ones included.
    fn from_u8(n: u8) -> Option<RecordKind> {
        Some(match n {
            1 => RecordKind::Batch,
            2 => RecordKind::FamilyOperation,
            3 => RecordKind::Ingest,
            4 => RecordKind::End,
            5 => RecordKind::Prepare,
            6 => RecordKind::Commit,
            7 => RecordKind::Rollback,
            16 => RecordKind::Edit,
            _ => return None,
        })
    }

    /// The stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Batch => "batch",
            RecordKind::FamilyOperation => "family-operation",
            RecordKind::Ingest => "ingest",
            RecordKind::End => "end",
            RecordKind::Prepare => "prepare",
            RecordKind::Commit => "commit",
            RecordKind::Rollback => "rollback",
            RecordKind::Edit => "edit",
        }
    }

    /// Fails for kinds that this version cannot act on.
    fn check_supported(self) -> Result<()> {
        match self {
            RecordKind::Prepare | RecordKind::Commit | RecordKind::Rollback => {
                Err(Error::unsupported(format!("{} records are not supported by this version", self.name())))
            }
            _ => Ok(()),
        }
    }
}

/// What a record says before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the payload is.
    pub kind: RecordKind,
    /// The first sequence number that it takes; in a manifest the edit's index.
    pub first_seq: SeqNo,
    /// How many sequence numbers it takes.
    pub count: u32,
    /// Up to where the log (or this manifest) was durable when the record was written.
    pub synced: LogPosition,
}

impl fmt::Display for RecordHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seq={} count={} synced={}", self.kind.name(), self.first_seq, self.count, self.synced)
    }
}

/// What binds records to the file they lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The database.
    pub db_id: u128,
    /// The file's number.
    pub number: u64,
    /// The file's own random salt; 0 for manifests.
    pub salt: u64,
}

impl Place {
    /// The seed of the crc of a record at `offset`.
    pub fn seed(&self, offset: u64) -> u64 {
        place_salt(self.db_id, self.number, offset) ^ self.salt
    }
}

/// Bytes that a record with this payload takes in the file.
pub fn record_len(payload_len: usize) -> u64 {
    (RECORD_HEADER_LEN as u64 + payload_len as u64).next_multiple_of(RECORD_ALIGN)
}
