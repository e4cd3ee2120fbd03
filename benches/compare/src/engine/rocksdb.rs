//! RocksDB. What differs from its defaults, and why:
//!
//! * LZ4 in every level (or LZ4 with Zstandard in the last, at its default level); blocks of 16 KiB, or of
//!   4 KiB in a form of its own, of which the better counts; filters of 10 bits a key in every level: the rules.
//! * Half of the budget is the cache, a quarter each of the two write buffers that may be full.
//! * `level_compaction_dynamic_level_bytes`: level targets from the bottom up, least space and write
//!   amplification (its default since 8.x; said here since older advice differs).
//! * `format_version` 7, the newest of release 11 that needs nothing else switched on; XXH3 checksums (default).
//! * The cache is a hyper clock cache, which its authors recommend over LRU. Index and filters are charged to it
//!   with high priority and pinned, as Lignite's come out of its budget.
//! * `optimize_filters_for_memory`: filter sizes that fit the allocator. Not `optimize_filters_for_hits`, which
//!   would leave the last level without filters.
//! * `max_subcompactions`: as many as there are background threads, so that one large compaction uses all.
//! * `bytes_per_sync` and `wal_bytes_per_sync` 1 MiB: writeback goes on steadily rather than in bursts.
//! * `max_open_files` -1: every table stays open (default). Statistics are off: they cost time.
//!
//! Reads verify checksums (default), as Lignite's do.

use std::path::Path;

use ::rocksdb::{
    BlockBasedOptions, BlockBasedTablePinningTier, BottommostLevelCompaction, Cache, CompactOptions, DB,
    DBCompressionType, Options, ReadOptions, WaitForCompactOptions, WriteBatch, WriteOptions,
};
use serde_json::{Value, json};

use super::{Class, Engine, Scan, Setup};
use crate::Result;

/// The default family of one database.
pub struct RocksDb {
    db: DB,
    write_options: WriteOptions,
}

/// Block size and codec of the last level.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    block_size: usize,
    bottom: DBCompressionType,
}

impl Form {
    /// LZ4 in every level.
    pub const LZ4: Form = Form { block_size: 16 << 10, bottom: DBCompressionType::Lz4 };
    /// LZ4 in every level, with small blocks.
    pub const LZ4_SMALL: Form = Form { block_size: 4 << 10, bottom: DBCompressionType::Lz4 };
    /// LZ4, and Zstandard in the last level.
    pub const ZSTD: Form = Form { block_size: 16 << 10, bottom: DBCompressionType::Zstd };
}

impl RocksDb {
    /// Opens the database, or makes it.
    pub fn open(directory: &Path, setup: &Setup, form: Form) -> Result<RocksDb> {
        let mut table = BlockBasedOptions::default();
        table.set_block_size(form.block_size);
        table.set_format_version(7);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        table.set_optimize_filters_for_memory(true);
        table.set_block_cache(&Cache::new_hyper_clock_cache(usize::try_from(setup.cache())?, 0));
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_unpartitioned_pinning_tier(BlockBasedTablePinningTier::All);

        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(form.bottom);
        options.set_write_buffer_size(usize::try_from(setup.write_buffers() / 2)?);
        options.set_max_write_buffer_number(2);
        options.set_max_background_jobs(i32::try_from(setup.background_threads)?);
        options.set_max_subcompactions(u32::try_from(setup.background_threads)?);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_bytes_per_sync(1 << 20);
        options.set_wal_bytes_per_sync(1 << 20);
        options.set_max_open_files(-1);
        options.set_block_based_table_factory(&table);

        let mut write_options = WriteOptions::default();
        write_options.set_sync(setup.class == Class::Sync);
        write_options.disable_wal(false);
        // By name, since the batched multi-get wants a handle of the family.
        let family = (::rocksdb::DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        Ok(RocksDb { db: DB::open_cf_with_opts(&options, directory, [family])?, write_options })
    }

    fn number(&self, property: &str) -> Result<Value> {
        Ok(json!(self.db.property_int_value(property)?))
    }
}

impl Engine for RocksDb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write_options)?)
    }

    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, &self.write_options)?)
    }

    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.db.get_pinned(key)? {
            visit(&value);
        }
        Ok(())
    }

    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        // The batched form: by table, with filters and blocks looked at together.
        let family = self.db.cf_handle(::rocksdb::DEFAULT_COLUMN_FAMILY_NAME).ok_or("there is no default family")?;
        for (place, value) in self.db.batched_multi_get_cf(&family, keys, false).into_iter().enumerate() {
            if let Some(value) = value? {
                visit(place, &value);
            }
        }
        Ok(())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut options = ReadOptions::default();
        // Reads ahead as it goes, which is its advice for long scans; short ones do not reach the second block.
        options.set_auto_readahead_size(true);
        let mut iterator = self.db.raw_iterator_opt(options);
        match (scan.from, scan.backward) {
            (None, false) => iterator.seek_to_first(),
            (None, true) => iterator.seek_to_last(),
            (Some(key), false) => iterator.seek(key),
            (Some(key), true) => iterator.seek_for_prev(key),
        }
        let mut rest = scan.limit;
        while rest > 0
            && let Some((key, value)) = iterator.item()
        {
            visit(key, value);
            rest -= 1;
            if scan.backward { iterator.prev() } else { iterator.next() }
        }
        Ok(iterator.status()?)
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn compact(&self) -> Result<bool> {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(true)
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
            "tables_by_level": tables,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}
