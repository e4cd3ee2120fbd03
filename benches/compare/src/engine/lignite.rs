//! Lignite. What differs from its defaults, and why:
//!
//! * LZ4 in every level: the rules. The row with Zstandard has what a family has if nobody chooses: LZ4, then
//!   Zstandard 1, 3 in the last level, there with a dictionary and blocks of 8 or 4 KiB where that pays.
//! * One memory budget, the budget of the comparison: half of it is the cache, half is for memtables, which are sealed
//!   at an eighth of the budget (its default at 256 MiB).
//! * Blocks of 4 KiB with LZ4 everywhere, which halves what a get from a small cache costs for the same files of the
//!   small records (RocksDB is shown with 4 and 16 KiB as well).
//! * Bloom filters of 10 bits a key in every level, as RocksDB's rows have them.
//! * Background threads: as many as the rules give.

use std::path::Path;

use ::lignite::{CfOptions, ColumnFamily, Compression, Db, Durability, FilterPolicy, Options};
use serde_json::{Value, json};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

/// The default family of one database.
pub struct Lignite {
    db: Db,
    family: ColumnFamily,
    durability: Durability,
}

/// The codec of the last level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottom {
    /// As in the others.
    Lz4,
    /// As a family has it that nobody has chosen for: Zstandard 3, the level that RocksDB means by its default.
    Zstd,
}

impl Lignite {
    /// Opens the database, or makes it.
    pub fn open(directory: &Path, setup: &Setup, bottom: Bottom) -> Result<Lignite> {
        let durability = match setup.class {
            Class::Buffered => Durability::Buffered,
            Class::Sync => Durability::Sync,
        };
        let budget = usize::try_from(setup.budget)?;
        let options = Options::new()
            .durability(durability)
            .memory_budget(budget)
            .memtable_size(budget / 8)
            .background_threads(setup.background_threads);
        let wanted = match bottom {
            Bottom::Lz4 => CfOptions::new().compression(Compression::lz4()).block_size(4 << 10),
            Bottom::Zstd => CfOptions::new(),
        };
        let wanted = wanted.filter(FilterPolicy::Bloom { bits_per_key: 10 });
        let db = options.open(directory)?;
        let family = db.default_family();
        // The default family is there from the start, with options of its own.
        if family.options() != wanted {
            db.set_options("default", wanted)?;
        }
        Ok(Lignite { db, family, durability })
    }
}

impl Engine for Lignite {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.family.put(key, value)?;
        Ok(())
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in records {
            batch.put(&self.family, key, value);
        }
        self.db.write_with(batch, self.durability)?;
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.family.get_with(key, visit)?;
        Ok(())
    }

    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (place, value) in self.family.multi_get(keys)?.into_iter().enumerate() {
            if let Some(value) = value {
                visit(place, &value);
            }
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut cursor = self.family.cursor()?;
        match (scan.from, scan.backward) {
            (None, false) => cursor.seek_to_first()?,
            (None, true) => cursor.seek_to_last()?,
            (Some(key), false) => cursor.seek(key)?,
            (Some(key), true) => cursor.seek_for_prev(key)?,
        }
        let mut rest = scan.limit;
        while rest > 0 && cursor.valid() {
            visit(cursor.key(), cursor.value());
            rest -= 1;
            if scan.backward { cursor.prev()? } else { cursor.next()? }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        self.db.wait_for_idle()?;
        Ok(())
    }

    fn compact(&self) -> Result<bool> {
        self.db.compact()?;
        Ok(true)
    }

    fn facts(&self) -> Result<Value> {
        let stats = self.db.stats();
        let counters: serde_json::Map<String, Value> = stats
            .counters
            .entries()
            .into_iter()
            .filter(|&(_, n)| n > 0)
            .map(|(name, n)| (name.to_owned(), json!(n)))
            .collect();
        let tables: Vec<usize> =
            stats.families.iter().flat_map(|family| family.levels.iter().map(|level| level.tables)).collect();
        Ok(json!({
            "cache_capacity": stats.memory.cache_capacity,
            "cache_used": stats.memory.cache_used,
            "index_and_filters": stats.memory.index_and_filter,
            "tables_by_level": tables,
            "counters": counters,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Lignite { db, family, .. } = *self;
        drop(family);
        db.close()?;
        Ok(())
    }
}
