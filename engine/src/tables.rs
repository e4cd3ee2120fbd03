//! The tables that are open: each is opened once and shared, at most so many at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::cache::{BlockCache, Loading};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::pool::Pool;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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
    blocks: Arc<BlockCache<Block>>,
    open: Mutex<Open>,
    /// How many open tables are kept here, and up to how many are open when a view may hold on to one.
    /// Together they are what was allowed: a table that has to go from here may still be held there.
    open_max: usize,
    held_max: usize,
    /// How many are open. Written under the lock.
    n_open: AtomicUsize,
    opening: Loading,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    pool: Option<Arc<Pool>>,
    /// Tables whose filter is damaged, and how.
    bad_filters: Mutex<BTreeMap<u64, Error>>,
}

/// The open tables by number.
#[derive(Default)]
struct Open {
    by_number: BTreeMap<u64, Opened>,
    /// The numbers in the order in which they are looked at when one has to go. May name some that went.
    queue: VecDeque<u64>,
}

struct Opened {
    table: Arc<Table>,
    /// Asked for since the queue came by.
    is_used: bool,
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
            open: Mutex::default(),
            open_max: (open_max - open_max / 3).max(1),
            held_max: open_max / 3,
            n_open: AtomicUsize::new(0),
            opening: Loading::default(),
            metrics,
            clock,
            pool,
            bad_filters: Mutex::default(),
        }
    }

    /// The table of this file, opened if it is not open. `level` is where codec times are counted.
    pub fn get_at(&self, file: &Arc<TableFile>, family: &Arc<FamilyMetrics>, level: usize) -> Result<Arc<Table>> {
        let number = file.meta.number;
        loop {
            if let Some(table) = self.opened(number) {
                return Ok(table);
            }
            // Without a turn, another thread has opened it meanwhile.
            let Some(turn) = self.opening.begin((number, 0), || self.opened(number)) else { continue };
            let table = Table::open(&*self.fs, &self.dir, &file.meta, &self.context(family, level));
            let table = table.map_err(|e| concerning(e, file))?;
            self.note_filter(&table);
            let mut open = self.open.lock();
            let closed = open.insert(number, table.clone(), self.open_max);
            self.n_open.store(open.by_number.len(), Relaxed);
            drop(open);
            drop(turn);
            drop(closed); // Closes files; not under the lock.
            return Ok(table);
        }
    }

    /// The table of this number, if it is open.
    pub fn opened(&self, number: u64) -> Option<Arc<Table>> {
        let mut open = self.open.lock();
        let opened = open.by_number.get_mut(&number)?;
        opened.is_used = true;
        Some(opened.table.clone())
    }

    /// True while so few tables are open that none need be closed soon: those who use one may hold on to it.
    pub fn has_room(&self) -> bool {
        self.len() <= self.held_max
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

    /// Who helps with blocks.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }

    /// As [`Tables::get_at`] where nobody knows the level: codec times count for level 0.
    pub fn get(&self, file: &Arc<TableFile>, family: &Arc<FamilyMetrics>) -> Result<Arc<Table>> {
        self.get_at(file, family, 0)
    }

    /// Closes a table that is about to be removed, and forgets its blocks.
    pub fn forget(&self, number: u64) {
        self.bad_filters.lock().remove(&number);
        let mut open = self.open.lock();
        let closed = open.by_number.remove(&number);
        self.n_open.store(open.by_number.len(), Relaxed);
        drop(open);
        if let Some(closed) = closed {
            // Somebody may hold it for longer.
            closed.table.forget_blocks();
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
    pub fn block_cache(&self) -> &Arc<BlockCache<Block>> {
        &self.blocks
    }

    /// How many tables are open.
    pub fn len(&self) -> usize {
        self.n_open.load(Relaxed)
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Open {
    /// Adds a table; returns those that have to go, because nobody asked for them lately.
    fn insert(&mut self, number: u64, table: Arc<Table>, open_max: usize) -> Vec<Opened> {
        let mut closed = Vec::new();
        closed.extend(self.by_number.insert(number, Opened { table, is_used: false }));
        self.queue.push_back(number);
        if self.queue.len() > 2 * open_max {
            self.queue = self.by_number.keys().copied().collect();
        }
        // Each table of the map is in the queue, so this ends.
        while self.by_number.len() > open_max {
            let Some(next) = self.queue.pop_front() else { break };
            match self.by_number.get_mut(&next) {
                Some(opened) if opened.is_used || next == number => {
                    opened.is_used = false;
                    self.queue.push_back(next);
                }
                Some(_) => closed.extend(self.by_number.remove(&next)),
                None => {}
            }
        }
        closed
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
