//! The first 48 bytes of every numbered file: what it is, which version wrote it, whose it is.
//!
//! ```text
//!  0  magic          8 bytes, one for each kind of file
//!  8  format version u32, 1
//! 12  reserved       u32, 0
//! 16  file number    u64
//! 24  database id    16 bytes
//! 40  reserved       u32, 0
//! 44  crc32          u32, seed 0, of the 44 bytes before
//! ```
//!
//! The form of these bytes is the same in every format version, so that an old reader can say which
//! version it would need.

use std::fmt;

use crate::checksum;
use crate::coding::{Input, put_u32, put_u64};
use crate::error::{Error, Result};

/// Bytes of a file header.
pub const HEADER_LEN: usize = 48;

/// The format version that this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The kinds of files that begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A sorted table.
    Table,
    /// A segment of the write-ahead log.
    Wal,
    /// A manifest.
    Manifest,
    /// Reserved: large values.
    Blob,
}

impl FileKind {
    /// Every kind.
    pub const ALL: [FileKind; 4] = [FileKind::Table, FileKind::Wal, FileKind::Manifest, FileKind::Blob];

    /// The first eight bytes of such a file.
    pub fn magic(self) -> [u8; 8] {
        *match self {
            FileKind::Table => b"LGNTSST1",
            FileKind::Wal => b"LGNTWAL1",
            FileKind::Manifest => b"LGNTMAN1",
            FileKind::Blob => b"LGNTBLB1",
        }
    }

    /// The kind with this magic.
    pub fn from_magic(magic: &[u8]) -> Option<FileKind> {
        FileKind::ALL.into_iter().find(|kind| kind.magic() == magic)
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Table => "table",
            FileKind::Wal => "log segment",
            FileKind::Manifest => "manifest",
            FileKind::Blob => "blob file",
        }
    }
}

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// What it holds.
    pub kind: FileKind,
    /// Its number in the database that wrote it.
    pub number: u64,
    /// The database that wrote it.
    pub db_id: u128,
}

impl FileHeader {
    /// The bytes of the module head.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&self.kind.magic());
        put_u32(&mut bytes, FORMAT_VERSION);
        put_u32(&mut bytes, 0);
        put_u64(&mut bytes, self.number);
        bytes.extend_from_slice(&self.db_id.to_le_bytes());
        put_u32(&mut bytes, 0);
        let crc = checksum::crc32(0, &[&bytes]);
        put_u32(&mut bytes, crc);
        let mut out = [0; HEADER_LEN];
        out.copy_from_slice(&bytes);
        out
    }

    /// Reads a header that must be of kind `expected`. `Unsupported` for another format version.
    pub fn decode(bytes: &[u8], expected: FileKind) -> Result<FileHeader> {
        let header = FileHeader::decode_any(bytes)?;
        if header.kind != expected {
            return Err(Error::corruption(format!("it is a {}, not a {}", header.kind.name(), expected.name())));
        }
        Ok(header)
    }

    /// Reads a header of any kind.
    pub fn decode_any(bytes: &[u8]) -> Result<FileHeader> {
        let Some(bytes) = bytes.get(..HEADER_LEN) else {
            return Err(Error::corruption(format!("the file header is cut short at {} bytes", bytes.len())));
        };
        let mut input = Input::new(bytes);
        let kind = FileKind::from_magic(input.take(8)?)
            .ok_or_else(|| Error::corruption("the first bytes are not those of a Lignite file"))?;
        let version = input.u32()?;
        let reserved = input.u32()?;
        let number = input.u64()?;
        let db_id = u128::from_le_bytes(input.array()?);
        let reserved_too = input.u32()?;
        if input.u32()? != checksum::crc32(0, &[&bytes[..HEADER_LEN - 4]]) {
            return Err(Error::corruption("the file header fails its checksum"));
        }
        if version != FORMAT_VERSION {
            return Err(Error::unsupported(format!(
                "the {} has format version {version}; this version of Lignite reads {FORMAT_VERSION}",
                kind.name()
            )));
        }
        if reserved != 0 || reserved_too != 0 {
            return Err(Error::corruption("reserved bytes of the file header are not zero"));
        }
        Ok(FileHeader { kind, number, db_id })
    }
}

impl fmt::Display for FileHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} number={} db={:032x}", self.kind.name(), self.number, self.db_id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_bit_counts() {
        let header = FileHeader { kind: FileKind::Wal, number: 7, db_id: 1 << 100 };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes, FileKind::Wal).unwrap(), header);
        assert!(FileHeader::decode(&bytes, FileKind::Table).unwrap_err().is_corruption());
        for bit in 0..HEADER_LEN * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&changed, FileKind::Wal).unwrap_err().is_corruption());
        }
        for cut in 0..HEADER_LEN {
            assert!(FileHeader::decode(&bytes[..cut], FileKind::Wal).unwrap_err().is_corruption());
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = FileHeader { kind: FileKind::Manifest, number: 7, db_id: 9 }.encode();
        bytes[8] = 2;
        let crc = checksum::crc32(0, &[&bytes[..44]]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        let error = FileHeader::decode(&bytes, FileKind::Manifest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.message(), "the manifest has format version 2; this version of Lignite reads 1");
    }
}
