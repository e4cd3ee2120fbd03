//! LMDB through heed. What differs from its defaults, and why:
//!
//! * The map is 64 GiB: room for every set. Its cache is the system's page cache, which nothing caps: marked.
//! * It compresses nothing.
//! * In the class `buffered`, `NOSYNC`: a commit is in the page cache and survives the death of the process.
//!   One transaction a put, one read transaction a get. Without `WRITEMAP`, which would let a stray write of
//!   the process reach the file.

#![expect(unsafe_code, reason = "heed's open is unsafe: another process could change the file beneath the map")]

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

const MAP_SIZE: usize = 64 << 30;

/// The unnamed database of one environment, which lives as long as the process: handles borrow it.
pub struct Lmdb {
    env: &'static Env,
    db: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    /// Opens the environment, or makes it.
    pub fn open(directory: &Path, setup: &Setup) -> Result<Lmdb> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_SIZE).max_readers(64);
        // SAFETY: the directory is this run's own, and one process at a time opens it.
        let env = unsafe {
            if setup.class == Class::Buffered {
                options.flags(EnvFlags::NO_SYNC);
            }
            options.open(directory)?
        };
        let env: &'static Env = Box::leak(Box::new(env));
        let transaction = env.write_txn()?;
        let db = env
            .create_databases_and_commit(transaction, |opener, transaction| {
                opener.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Lmdb { env, db })
    }
}

impl Engine for Lmdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.db.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in records {
            self.db.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let transaction = self.env.read_txn()?;
        if let Some(value) = self.db.get(&transaction, key)? {
            visit(value);
        }
        Ok(())
    }

    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for (place, key) in keys.iter().enumerate() {
            if let Some(value) = self.db.get(&transaction, key)? {
                visit(place, value);
            }
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.env.read_txn()?;
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        let edge = scan.from.map_or(Bound::Unbounded, Bound::Included);
        if scan.backward {
            for entry in self.db.rev_range(&transaction, &(Bound::Unbounded, edge))?.take(limit) {
                let (key, value) = entry?;
                visit(key, value);
            }
        } else {
            for entry in self.db.range(&transaction, &(edge, Bound::Unbounded))?.take(limit) {
                let (key, value) = entry?;
                visit(key, value);
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.env.force_sync()?)
    }
}
