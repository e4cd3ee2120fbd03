//! canopydb. What differs from its defaults, and why:
//!
//! * Half of the budget is the page cache; checkpoints begin when a quarter of it has changed, and writers are
//!   held back at the other half.
//! * It compresses only what overflows a page. Its log is not synced in the class `buffered`, and survives the
//!   death of the process.

use std::path::Path;

use ::canopydb::{Database, DbOptions, EnvOptions};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

const TREE: &[u8] = b"records";

/// One tree of one database.
pub struct Canopydb {
    db: Database,
    is_synced: bool,
}

impl Canopydb {
    /// Opens the database, or makes it.
    pub fn open(directory: &Path, setup: &Setup) -> Result<Canopydb> {
        let mut env = EnvOptions::new(directory);
        env.page_cache_size = usize::try_from(setup.cache())?;
        let mut options = DbOptions::new();
        let buffers = usize::try_from(setup.write_buffers())?;
        options.checkpoint_target_size = buffers / 2;
        options.throttle_memory_limit = buffers;
        options.stall_memory_limit = buffers;
        options.write_txn_memory_limit = options.write_txn_memory_limit.min(buffers);
        let db = Database::with_options(env, options)?;
        let transaction = db.begin_write()?;
        transaction.get_or_create_tree(TREE)?;
        transaction.commit()?;
        Ok(Canopydb { db, is_synced: setup.class == Class::Sync })
    }
}

impl Engine for Canopydb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let transaction = self.db.begin_write()?;
        transaction.get_or_create_tree(TREE)?.insert(key, value)?;
        transaction.commit_with(self.is_synced)?;
        Ok(())
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let transaction = self.db.begin_write()?;
        let mut tree = transaction.get_or_create_tree(TREE)?;
        for (key, value) in records {
            tree.insert(key, value)?;
        }
        drop(tree);
        transaction.commit_with(self.is_synced)?;
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let transaction = self.db.begin_read()?;
        let tree = transaction.get_tree(TREE)?.ok_or("the tree is missing")?;
        if let Some(value) = tree.get(key)? {
            visit(value.as_ref());
        }
        Ok(())
    }

    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let transaction = self.db.begin_read()?;
        let tree = transaction.get_tree(TREE)?.ok_or("the tree is missing")?;
        for (place, key) in keys.iter().enumerate() {
            if let Some(value) = tree.get(key)? {
                visit(place, value.as_ref());
            }
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let transaction = self.db.begin_read()?;
        let tree = transaction.get_tree(TREE)?.ok_or("the tree is missing")?;
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        let range = match (scan.from, scan.backward) {
            (None, _) => tree.iter()?,
            (Some(key), false) => tree.range(key..)?,
            (Some(key), true) => tree.range(..=key)?,
        };
        if scan.backward {
            for entry in range.rev().take(limit) {
                let (key, value) = entry?;
                visit(key.as_ref(), value.as_ref());
            }
        } else {
            for entry in range.take(limit) {
                let (key, value) = entry?;
                visit(key.as_ref(), value.as_ref());
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(self.db.checkpoint()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.checkpoint()?)
    }
}
