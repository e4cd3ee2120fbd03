//! RocksDB as somebody who knows it would run it under the rules of the comparison.
//!
//! What differs from its defaults, and why:
//!
//! * LZ4 in every level, 64 MiB write buffers of which two may be full, 10-bit filters for whole
//!   keys in every level, 16 KiB blocks, 64 MiB of block cache, two background jobs: the rules.
//! * `level_compaction_dynamic_level_bytes`: level targets from the bottom up, least space and write
//!   amplification (its default since 8.x; said here since older advice differs).
//! * `format_version` 7, the newest of release 11 that needs nothing else switched on; XXH3 checksums
//!   (default).
//! * The cache is a hyper clock cache, which its authors recommend over LRU. Index and filters are
//!   charged to it with high priority and pinned, as Lignite's come out of its budget: never read
//!   twice, and the same memory for both engines.
//! * `optimize_filters_for_memory`: filter sizes that fit the allocator. Not `optimize_filters_for_hits`,
//!   which would leave the last level without the 10-bit filters.
//! * `bytes_per_sync` and `wal_bytes_per_sync` 1 MiB: writeback goes on steadily rather than in bursts.
//! * `max_open_files` -1: every table stays open (default), `compaction_readahead_size` 2 MiB (default).
//! * Table 64 MiB, base level 256 MiB, fan-out 10, level-0 triggers 4, 20, 36: all default.
//! * `wait_for_compact` tells when background work is done. Statistics are off: they cost time.
//!
//! Reads verify checksums (default), as Lignite's do.

use std::path::Path;

use ::rocksdb::{
    BlockBasedOptions, BlockBasedTablePinningTier, Cache, DB, DBCompressionType, Options, WaitForCompactOptions,
    WriteOptions,
};
use serde_json::{Value, json};

use super::{Engine, Phase, Setup};
use crate::Result;

/// The default family of one database.
pub struct RocksDb {
    db: DB,
    write_options: WriteOptions,
}

impl RocksDb {
    /// The phase makes no difference: cache and write buffers have their own sizes.
    pub fn open(directory: &Path, setup: &Setup, _: Phase) -> Result<RocksDb> {
        let mut table = BlockBasedOptions::default();
        table.set_block_size(setup.block_kib << 10);
        table.set_format_version(7);
        table.set_bloom_filter(f64::from(setup.filter_bits), false);
        table.set_whole_key_filtering(true);
        table.set_optimize_filters_for_memory(true);
        table.set_block_cache(&Cache::new_hyper_clock_cache(setup.cache_mib << 20, 0));
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_unpartitioned_pinning_tier(BlockBasedTablePinningTier::All);

        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(setup.write_buffer_mib << 20);
        options.set_max_write_buffer_number(2);
        options.set_max_background_jobs(i32::try_from(setup.background_jobs)?);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_bytes_per_sync(1 << 20);
        options.set_wal_bytes_per_sync(1 << 20);
        options.set_max_open_files(-1);
        options.set_block_based_table_factory(&table);

        let mut write_options = WriteOptions::default();
        write_options.set_sync(false);
        write_options.disable_wal(false);
        Ok(RocksDb { db: DB::open(&options, directory)?, write_options })
    }

    fn number(&self, property: &str) -> Result<Value> {
        Ok(json!(self.db.property_int_value(property)?))
    }
}

impl Engine for RocksDb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write_options)?)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.db.get_pinned(key)? {
            visit(&value);
        }
        Ok(())
    }

    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            visit(key, value);
            iterator.next();
        }
        Ok(iterator.status()?)
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn facts(&self) -> Result<Value> {
        let mut tables = Vec::new();
        for level in 0..7 {
            let n = self.db.property_value(&format!("rocksdb.num-files-at-level{level}"))?;
            tables.push(n.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0));
        }
        Ok(json!({
            "cache_capacity": self.number("rocksdb.block-cache-capacity")?,
            "cache_used": self.number("rocksdb.block-cache-usage")?,
            "cache_pinned": self.number("rocksdb.block-cache-pinned-usage")?,
            "tables_by_level": tables,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}
