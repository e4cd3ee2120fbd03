//! The tables that are open: each is opened once and shared, at most so many at a time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::cache::{BlockCache, CacheKey};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::pool::Pool;
use crate::sync::{Arc, Mutex};
use crate::table::block::Block;
use crate::table::reader::{Table, TableContext};
use crate::version::TableFile;

/// Opens tables and keeps them open.
///
/// Always true: no lock is held while a file is opened or read, and a table that is given out stays
/// usable however many others are opened.
pub struct Tables {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    blocks: Arc<BlockCache<Arc<Block>>>,
    open: BlockCache<Arc<Table>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    pool: Option<Arc<Pool>>,
    /// Tables whose filter is damaged, and how.
    bad_filters: Mutex<BTreeMap<u64, Error>>,
}

impl Tables {
    /// No tables yet: those of directory `dir`, with `cache_bytes` for blocks, indexes and filters, and
    /// about `open_max` files open at a time.
    pub fn new(
        fs: Arc<dyn Fs>,
        dir: &Path,
        cache_bytes: u64,
        open_max: usize,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        pool: Option<Arc<Pool>>,
    ) -> Tables {
        Tables {
            fs,
            dir: dir.to_path_buf(),
            blocks: Arc::new(BlockCache::new(cache_bytes)),
            open: BlockCache::with_average(open_max as u64, 1),
            metrics,
            clock,
            pool,
            bad_filters: Mutex::default(),
        }
    }

    /// The table of this file, opened if it is not open. `level` is where codec times are counted.
    pub fn get_at(&self, file: &Arc<TableFile>, family: &Arc<FamilyMetrics>, level: usize) -> Result<Arc<Table>> {
        let key = CacheKey { file: file.meta.number, block: 0 };
        if let Some(table) = self.open.get(&key) {
            return Ok(table);
        }
        self.open.get_or_insert_with(&key, || {
            let table = Table::open(&*self.fs, &self.dir, &file.meta, &self.context(family, level));
            let table = table.map_err(|e| concerning(e, file))?;
            self.note_filter(&table);
            Ok((table, 1))
        })
    }

    /// The table of this number, if it is open.
    pub fn opened(&self, number: u64) -> Option<Arc<Table>> {
        self.open.get(&CacheKey { file: number, block: 0 })
    }

    /// Opens a table anew, past the open ones, so that its index, filter and footer are read from
    /// disk and checked now.
    pub fn open_fresh(&self, file: &TableFile, family: &Arc<FamilyMetrics>) -> Result<Arc<Table>> {
        let table = Table::open(&*self.fs, &self.dir, &file.meta, &self.context(family, 0))?;
        self.note_filter(&table);
        Ok(table)
    }

    fn note_filter(&self, table: &Table) {
        if let Some(error) = table.filter_error() {
            tracing::warn!(%error, "a damaged filter is left out");
            self.bad_filters.lock().insert(table.meta().number, error.clone());
        } else if !self.bad_filters.lock().is_empty() {
            self.bad_filters.lock().remove(&table.meta().number);
        }
    }

    /// Tables whose filter was found damaged, and how. They are searched without it.
    pub fn bad_filters(&self) -> Vec<(u64, Error)> {
        self.bad_filters.lock().iter().map(|(n, e)| (*n, e.clone())).collect()
    }

    fn context(&self, family: &Arc<FamilyMetrics>, level: usize) -> TableContext {
        TableContext {
            cache: self.blocks.clone(),
            metrics: self.metrics.clone(),
            family: family.clone(),
            level,
            clock: self.clock.clone(),
            pool: self.pool.clone(),
        }
    }

    /// As [`Tables::get_at`] where nobody knows the level: codec times count for level 0.
    pub fn get(&self, file: &Arc<TableFile>, family: &Arc<FamilyMetrics>) -> Result<Arc<Table>> {
        self.get_at(file, family, 0)
    }

    /// Closes a table that is about to be removed, and forgets its blocks.
    pub fn forget(&self, number: u64) {
        self.bad_filters.lock().remove(&number);
        let key = CacheKey { file: number, block: 0 };
        if let Some(table) = self.open.get(&key) {
            self.open.remove(&key);
            self.blocks.remove_file(number, table.index().len() as u32);
        }
    }

    /// Bytes of blocks in the cache.
    pub fn cache_usage(&self) -> u64 {
        self.blocks.usage()
    }

    /// Bytes of indexes, filters, dictionaries and range tombstones of open tables.
    pub fn index_and_filter_bytes(&self) -> u64 {
        self.blocks.charged()
    }

    /// The cache of blocks.
    pub fn block_cache(&self) -> &Arc<BlockCache<Arc<Block>>> {
        &self.blocks
    }

    /// How many tables are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

/// The same error, saying which keys a table that cannot be opened concerns.
fn concerning(e: Error, file: &TableFile) -> Error {
    match &file.meta.largest {
        Bound::Included(last) | Bound::Excluded(last) => e.with_keys(&file.meta.smallest, last),
        Bound::Unbounded => e,
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tables({} open in {})", self.len(), self.dir.display())
    }
}
