//! parity-db. What differs from its defaults, and why:
//!
//! * One column with the hash index: its fast form, which has no order, so the workloads that scan leave it out.
//! * Values from 64 bytes on are compressed with LZ4 (by default from 4 KiB, and not at all).
//! * It has no cache, only the system's: marked. A commit goes to memory and reaches its log a little later, so
//!   it has neither class; `sync_wal` and `sync_data` are on for `sync`, off for `buffered`, and it is marked.

use std::path::Path;

use parity_db::{CompressionType, Db, Options};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

/// One column of one database.
pub struct ParityDb {
    db: Db,
}

impl ParityDb {
    /// Opens the database, or makes it.
    pub fn open(directory: &Path, setup: &Setup) -> Result<ParityDb> {
        let mut options = Options::with_columns(directory, 1);
        options.stats = false;
        options.sync_wal = setup.class == Class::Sync;
        options.sync_data = setup.class == Class::Sync;
        options.columns[0].compression = CompressionType::Lz4;
        options.compression_threshold.insert(0, 64);
        Ok(ParityDb { db: Db::open_or_create(&options)? })
    }
}

impl Engine for ParityDb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.commit([(0, key, Some(value.to_vec()))])?)
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        Ok(self.db.commit(records.iter().map(|(key, value)| (0, key.as_slice(), Some(value.clone()))))?)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.db.get(0, key)? {
            visit(&value);
        }
        Ok(())
    }

    fn scan(&self, _: Scan<'_>, _: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        Err("parity-db has no order".into())
    }

    fn settle(&self) -> Result<()> {
        super::wait_until_quiet();
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
