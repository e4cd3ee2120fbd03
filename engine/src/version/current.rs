//! CURRENT: which manifest is alive, and, after a clean close, the seal.
//!
//! ```text
//!  0  magic           8 bytes, "LGNTCUR1"
//!  8  format version  u32, 1
//! 12  flags           u32, bit 0: sealed
//! 16  database id     16 bytes
//! 32  manifest        u64, its number
//! 40  manifest length u64              \
//! 48  manifest hash   16 bytes         |  only if sealed
//! 64  log count       u64              |
//! 72  logs            each: number u64, length u64, xxh3-128 of the file 16 bytes   /
//!     crc32           u32, seed 0, of everything before
//! ```
//!
//! The file is replaced as a whole: `CURRENT.tmp` is made, synced and renamed, and the directory is
//! synced. So CURRENT is always whole, and anything else in it is damage.

use std::fmt;
use std::io;
use std::path::Path;

use crate::checksum::crc32;
use crate::coding::{Input, put_u32, put_u64};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{Fs, read_all};
use crate::header::FORMAT_VERSION;
use crate::sabotage::{self, Bug};

pub use crate::wal::{Seal, SealedLog};

const MAGIC: &[u8; 8] = b"LGNTCUR1";
const SEALED: u32 = 1;

/// More logs than anybody has, and few enough to hold in memory.
const LOGS_MAX: usize = 1 << 15;
const LEN_MAX: u64 = 1 << 20;

/// What CURRENT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The database.
    pub db_id: u128,
    /// The number of the live manifest.
    pub manifest: u64,
    /// What a clean close stated; none while the database is open or after a crash.
    pub seal: Option<Seal>,
}

impl Current {
    /// The bytes of the module head.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, if self.seal.is_some() { SEALED } else { 0 });
        out.extend_from_slice(&self.db_id.to_le_bytes());
        put_u64(&mut out, self.manifest);
        if let Some(seal) = &self.seal {
            put_u64(&mut out, seal.manifest_len);
            out.extend_from_slice(&seal.manifest_hash.to_le_bytes());
            put_u64(&mut out, seal.logs.len() as u64);
            for log in &seal.logs {
                put_u64(&mut out, log.number);
                put_u64(&mut out, log.len);
                out.extend_from_slice(&log.hash.to_le_bytes());
            }
        }
        let crc = crc32(0, &[&out]);
        put_u32(&mut out, crc);
        out
    }

    /// Reads what [`Current::encode`] wrote, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Current> {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(Error::corruption("the file is cut short"));
        };
        if !bytes.starts_with(MAGIC) {
            return Err(Error::corruption("the first bytes are not those of a CURRENT file"));
        }
        if crc32(0, &[body]) != u32::from_le_bytes(*crc) {
            return Err(Error::corruption("the file fails its checksum"));
        }
        let mut input = Input::new(&body[MAGIC.len()..]);
        let version = input.u32()?;
        if version != FORMAT_VERSION {
            return Err(Error::unsupported(format!(
                "the database has format version {version}; this version of Lignite reads {FORMAT_VERSION}"
            )));
        }
        let flags = input.u32()?;
        if flags & !SEALED != 0 {
            return Err(Error::unsupported(format!(
                "CURRENT has the flags {flags:#x}, which this version does not know"
            )));
        }
        let db_id = u128::from_le_bytes(input.array()?);
        let manifest = input.u64()?;
        let seal = if flags & SEALED != 0 { Some(decode_seal(&mut input)?) } else { None };
        input.finish()?;
        Ok(Current { db_id, manifest, seal })
    }
}

impl fmt::Display for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "current db={:032x} manifest={}", self.db_id, self.manifest)?;
        let Some(seal) = &self.seal else { return f.write_str(" open") };
        write!(f, " sealed(len={} hash={:032x}", seal.manifest_len, seal.manifest_hash)?;
        for log in &seal.logs {
            write!(f, " log({} len={} hash={:032x})", log.number, log.len, log.hash)?;
        }
        f.write_str(")")
    }
}

/// Reads CURRENT; none if there is no such file.
pub fn read_current(fs: &dyn Fs, dir: &Path) -> Result<Option<Current>> {
    let path = FileName::Current.path(dir);
    let file = match fs.open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open CURRENT", &path, e)),
    };
    let bytes = match read_all(&*file, LEN_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            return Err(Error::corruption("CURRENT is far too large").with_file(&path));
        }
        Err(e) => return Err(Error::io("read CURRENT", &path, e)),
    };
    // One checksum covers the whole file, so no place in it is better known than its beginning.
    Current::decode(&bytes).map(Some).map_err(|e| e.with_file(&path).with_offset(0))
}

/// Replaces CURRENT, durably once this returns.
///
/// A failure before the rename changes nothing. If the directory cannot be synced after it, nobody
/// knows which CURRENT a crash would leave: that failure is `Poisoned`.
pub fn write_current(fs: &dyn Fs, dir: &Path, current: &Current) -> Result<()> {
    let temp = FileName::CurrentTemp.path(dir);
    let path = FileName::Current.path(dir);
    let removed = if sabotage::is(Bug::StaleTempBlocks) { Ok(()) } else { fs.remove_file(&temp) };
    match removed {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("remove a stale CURRENT.tmp", &temp, e)),
    }
    let written = fs
        .create_new(&temp)
        .and_then(|file| {
            file.write_all_at(&current.encode(), 0)?;
            if sabotage::is(Bug::CurrentNotSynced) { Ok(()) } else { file.sync_data() }
        })
        .map_err(|e| Error::io("write CURRENT.tmp", &temp, e))
        .and_then(|()| fs.rename(&temp, &path).map_err(|e| Error::io("replace CURRENT", &path, e)));
    if let Err(e) = written {
        let _ = fs.remove_file(&temp);
        return Err(e);
    }
    if sabotage::is(Bug::CurrentDirNotSynced) {
        return Ok(());
    }
    fs.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e).with_kind(ErrorKind::Poisoned))
}

fn decode_seal(input: &mut Input<'_>) -> Result<Seal> {
    let manifest_len = input.u64()?;
    let manifest_hash = u128::from_le_bytes(input.array()?);
    let count = input.u64()?;
    if count > LOGS_MAX as u64 {
        return Err(Error::corruption(format!("CURRENT claims {count} logs")));
    }
    let mut logs: Vec<SealedLog> = Vec::new();
    for _ in 0..count {
        let log = SealedLog { number: input.u64()?, len: input.u64()?, hash: u128::from_le_bytes(input.array()?) };
        if logs.last().is_some_and(|last| last.number >= log.number) {
            return Err(Error::corruption("the logs in CURRENT are out of order"));
        }
        logs.push(log);
    }
    Ok(Seal { manifest_len, manifest_hash, logs })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fs::fault::{CallKind, Errno, Fault, FaultFs, Rule};
    use crate::fs::mem::MemFs;
    use crate::sync::Arc;

    fn dir() -> &'static Path {
        Path::new("/db")
    }

    fn sealed() -> Current {
        let logs = vec![SealedLog { number: 4, len: 900, hash: 77 }, SealedLog { number: 9, len: 128, hash: 78 }];
        Current { db_id: 5, manifest: 3, seal: Some(Seal { manifest_len: 400, manifest_hash: 1 << 99, logs }) }
    }

    #[test]
    fn every_bit_and_every_cut_counts() {
        for current in [sealed(), Current { seal: None, ..sealed() }] {
            let bytes = current.encode();
            assert_eq!(Current::decode(&bytes).unwrap(), current);
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(Current::decode(&changed).unwrap_err().is_corruption());
            }
            for cut in 0..bytes.len() {
                assert!(Current::decode(&bytes[..cut]).unwrap_err().is_corruption());
            }
        }
    }

    #[test]
    fn a_hostile_count_is_refused() {
        let mut bytes = sealed().encode();
        bytes.truncate(bytes.len() - 4);
        bytes[64..72].copy_from_slice(&u64::MAX.to_le_bytes());
        let crc = crc32(0, &[&bytes]);
        put_u32(&mut bytes, crc);
        assert!(Current::decode(&bytes).unwrap_err().message().contains("claims"));
    }

    #[test]
    fn replacing_is_all_or_nothing() {
        let memory = MemFs::new();
        memory.create_dir_all(dir()).unwrap();
        let (fs, control) = FaultFs::new(Arc::new(memory.clone()));
        assert_eq!(read_current(&*fs, dir()).unwrap(), None);
        let old = Current { seal: None, ..sealed() };
        write_current(&*fs, dir(), &old).unwrap();
        for kind in [CallKind::Create, CallKind::Write, CallKind::Sync, CallKind::Rename] {
            control.add(Rule::new(Fault::Error(Errno::Eio)).kind(kind));
            assert_eq!(write_current(&*fs, dir(), &sealed()).unwrap_err().kind(), ErrorKind::Io, "{kind:?}");
            control.heal();
            assert_eq!(read_current(&*fs, dir()).unwrap(), Some(old.clone()));
        }
        control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::SyncDir));
        assert_eq!(write_current(&*fs, dir(), &sealed()).unwrap_err().kind(), ErrorKind::Poisoned);
        control.heal();
        memory.create_new(&FileName::CurrentTemp.path(dir())).unwrap();
        write_current(&*fs, dir(), &sealed()).unwrap();
        assert_eq!(read_current(&*fs, dir()).unwrap(), Some(sealed()));
        assert!(memory.metadata(&FileName::CurrentTemp.path(dir())).is_err());
    }

    #[test]
    fn one_line() {
        assert_eq!(
            sealed().to_string(),
            "current db=00000000000000000000000000000005 manifest=3 sealed(len=400 \
             hash=00000008000000000000000000000000 log(4 len=900 hash=0000000000000000000000000000004d) \
             log(9 len=128 hash=0000000000000000000000000000004e))"
        );
    }
}
