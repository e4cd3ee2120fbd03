//! Lignite as the comparison runs it.

use std::path::Path;

use ::lignite::{CfOptions, ColumnFamily, Compression, Db, Durability, FilterPolicy, Options};
use serde_json::{Value, json};

use super::{Engine, Phase, Setup};
use crate::Result;

/// The default family of one database.
pub struct Lignite {
    db: Db,
    family: ColumnFamily,
}

impl Lignite {
    /// LZ4 in every level, Bloom filters in every level as RocksDB has them, everything that the
    /// setup does not name at its default. The one memory budget, of which half is the cache, is
    ///
    /// * while loading: what RocksDB may take for its cache and its two write buffers, 192 MiB. A
    ///   memtable is sealed at a quarter of the budget, 48 MiB, before it reaches 64;
    /// * while reading, when there are no memtables: twice RocksDB's cache, so that the caches are
    ///   alike. Index and filters come out of the cache in both.
    pub fn open(directory: &Path, setup: &Setup, phase: Phase) -> Result<Lignite> {
        let options = Options::new()
            .durability(Durability::Buffered)
            .memory_budget(setup.memory_budget(phase))
            .memtable_size(setup.write_buffer_mib << 20)
            .background_threads(setup.background_jobs);
        let family_options = CfOptions::new()
            .compression(Compression::lz4())
            .block_size(setup.block_kib << 10)
            .filter(FilterPolicy::Bloom { bits_per_key: setup.filter_bits });
        let db = options.open(directory)?;
        let family = db.default_family();
        // The default family is there from the start, with options of its own.
        if family.options() != family_options {
            db.set_options("default", family_options)?;
        }
        Ok(Lignite { db, family })
    }
}

impl Engine for Lignite {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.family.put(key, value)?;
        Ok(())
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.family.get(key)? {
            visit(&value);
        }
        Ok(())
    }

    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut cursor = self.family.cursor()?;
        cursor.seek_to_first()?;
        while cursor.valid() {
            visit(cursor.key(), cursor.value());
            cursor.next()?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        self.db.wait_for_idle()?;
        Ok(())
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
        // Bytes that codecs have taken in: shows that blocks were written as they should be.
        let mut encoded = serde_json::Map::new();
        for (name, codec) in stats.families.iter().flat_map(|family| &family.levels).flat_map(|level| &level.codecs) {
            let sum = encoded.get(name).and_then(Value::as_u64).unwrap_or(0) + codec.encoded_raw_bytes;
            encoded.insert(name.clone(), json!(sum));
        }
        Ok(json!({
            "encoded_raw_bytes": encoded,
            "memory_budget": stats.memory.budget,
            "cache_capacity": stats.memory.cache_capacity,
            "cache_used": stats.memory.cache_used,
            "index_and_filters": stats.memory.index_and_filter,
            "tables_by_level": tables,
            "counters": counters,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Lignite { db, family } = *self;
        drop(family);
        db.close()?;
        Ok(())
    }
}
