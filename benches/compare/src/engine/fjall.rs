//! fjall 3. What differs from its defaults, and why:
//!
//! * Half of the budget is the cache; a memtable is sealed at a quarter. (Its limit for all write buffers is
//!   deprecated and does nothing; sealed memtables that wait come on top.)
//! * Worker threads: as many as the rules give.
//! * Its journal may grow to its default, 512 MiB.
//!
//! Its defaults otherwise: LZ4 from level 2 on (0 and 1 are not compressed), blocks of 4 KiB, filters of 10 bits
//! a key and more above. In the class `sync` every write is followed by `persist(SyncData)`.

use std::path::Path;
use std::time::Duration;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde_json::{Value, json};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

/// One keyspace of one database.
pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
    is_synced: bool,
}

impl Fjall {
    /// Opens the database, or makes it.
    pub fn open(directory: &Path, setup: &Setup) -> Result<Fjall> {
        let db =
            Database::builder(directory).cache_size(setup.cache()).worker_threads(setup.background_threads).open()?;
        let memtable = setup.write_buffers() / 2;
        let keyspace = db.keyspace("records", || KeyspaceCreateOptions::default().max_memtable_size(memtable))?;
        Ok(Fjall { db, keyspace, is_synced: setup.class == Class::Sync })
    }
}

impl Engine for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        if self.is_synced {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in records {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        batch.commit()?;
        if self.is_synced {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.keyspace.get(key)? {
            visit(&value);
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        let iterator = match (scan.from, scan.backward) {
            (None, _) => self.keyspace.iter(),
            (Some(key), false) => self.keyspace.range(key..),
            (Some(key), true) => self.keyspace.range(..=key),
        };
        if scan.backward {
            for guard in iterator.rev().take(limit) {
                let (key, value) = guard.into_inner()?;
                visit(&key, &value);
            }
        } else {
            for guard in iterator.take(limit) {
                let (key, value) = guard.into_inner()?;
                visit(&key, &value);
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        // It has no call for this; it is idle when nothing has run and nothing has finished for a while.
        let mut last = usize::MAX;
        let mut quiet = 0;
        while quiet < 10 {
            let busy = self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0;
            let done = self.db.compactions_completed();
            quiet = if busy || done != last { 0 } else { quiet + 1 };
            last = done;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn compact(&self) -> Result<bool> {
        self.keyspace.rotate_memtable_and_wait()?;
        self.keyspace.major_compact()?;
        Ok(true)
    }

    fn facts(&self) -> Result<Value> {
        Ok(json!({
            "cache_used": self.db.cache_size(),
            "tables": self.keyspace.table_count(),
            "journal_bytes": self.db.journal_disk_space()?,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}
