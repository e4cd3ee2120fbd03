//! One family at one moment, and point reads of it.
//!
//! Sources are asked from the newest to the oldest; the first point entry met decides, together with
//! the greatest range tombstone over the key met so far. That is enough, because of one key newer
//! entries never lie below older ones.

use std::ops::Bound;

use crate::checksum::hash_key;
use crate::error::{Error, Result};
use crate::key::{KeyRange, SeqNo, Tag, upper_contains};
use crate::memtable::Memtable;
use crate::metrics::{FamilyMetrics, LEVELS, Metrics};
use crate::sabotage::{self, Bug};
use crate::slice::Slice;
use crate::sync::{Arc, OnceLock};
use crate::table::reader::Table;
use crate::tables::Tables;
use crate::version::{TableMeta, Version};

/// How a scan treats blocks: whether those it loads stay in the cache, and whether blocks ahead are
/// decoded by the pool.
pub type ReadOptions = crate::table::cursor::CursorOptions;

/// One family at one moment.
#[derive(Debug)]
pub struct View {
    /// Newest first: the active one, then the sealed ones.
    pub memtables: Vec<Arc<Memtable>>,
    /// The tables.
    pub version: Arc<Version>,
    /// Opens them.
    pub tables: Arc<Tables>,
    /// Counters of the database.
    pub metrics: Arc<Metrics>,
    /// Counters of the family.
    pub family: Arc<FamilyMetrics>,
    /// The family's name, for errors.
    pub name: Arc<str>,
    /// Tables that were opened through this view, as long as not too many are open: a place for each, level by
    /// level. Finding one here takes no lock and counts no reference.
    opened: Box<[OnceLock<Arc<Table>>]>,
}

impl View {
    /// These memtables, newest first, above the tables of `version`.
    pub fn new(
        memtables: Vec<Arc<Memtable>>,
        version: Arc<Version>,
        tables: Arc<Tables>,
        metrics: Arc<Metrics>,
        family: Arc<FamilyMetrics>,
        name: Arc<str>,
    ) -> View {
        let opened = version.tables().map(|_| OnceLock::new()).collect();
        View { memtables, version, tables, metrics, family, name, opened }
    }

    /// As this one, with these memtables and tables.
    #[must_use]
    pub fn with(&self, memtables: Vec<Arc<Memtable>>, version: Arc<Version>) -> View {
        let (tables, metrics) = (self.tables.clone(), self.metrics.clone());
        View::new(memtables, version, tables, metrics, self.family.clone(), self.name.clone())
    }

    /// The table at position `at` of a level; `held` keeps it where the view does not.
    #[inline]
    fn table<'a>(&'a self, level: usize, at: usize, held: &'a mut Option<Arc<Table>>) -> Result<&'a Arc<Table>> {
        let first: usize = self.version.levels[..level].iter().map(Vec::len).sum();
        let place = &self.opened[first + at];
        if let Some(table) = place.get() {
            return Ok(table);
        }
        let table = self.tables.get_at(&self.version.levels[level][at], &self.family, level)?;
        if self.tables.has_room() {
            // Another thread may have been faster, with the same.
            let _ = place.set(table.clone());
        }
        Ok(held.insert(table))
    }

    /// The value of `key` for a reader at `visible`. From memtables and cached blocks without an
    /// allocation.
    pub fn get(&self, key: &[u8], visible: SeqNo) -> Result<Option<Slice>> {
        self.metrics.gets.inc();
        // The greatest number of a range tombstone over the key so far; 0 is none, and hides nothing.
        let mut cover = 0;
        for memtable in &self.memtables {
            cover = cover.max(memtable.covering(key, visible).unwrap_or(0));
            if let Some((tag, value)) = memtable.get(key, visible) {
                self.metrics.memtable_hits.inc();
                return Ok(shown(tag, value, cover));
            }
        }
        self.get_from_tables(key, visible, cover).map_err(|e| self.named(e))
    }

    fn get_from_tables(&self, key: &[u8], visible: SeqNo, mut cover: SeqNo) -> Result<Option<Slice>> {
        let hash = hash_key(key);
        for (level, at) in self.candidates(key) {
            let file = &self.version.levels[level][at];
            let (seq_min, seq_max) = seq_bounds(&file.meta);
            if seq_min > visible || cover > seq_max {
                continue;
            }
            let mut held = None;
            let table = self.table(level, at, &mut held)?;
            if file.meta.range_deletes > 0 {
                cover = cover.max(table.tombstones().covering(key, visible).unwrap_or(0));
            }
            if let Some((tag, value)) = table.get(key, hash, visible)? {
                return Ok(shown(tag, value, cover));
            }
        }
        Ok(None)
    }

    /// Level and position of the tables whose bounds contain `key`, newest first.
    fn candidates(&self, key: &[u8]) -> impl Iterator<Item = (usize, usize)> {
        let level0 = self.version.levels[0].iter().enumerate();
        let level0 = level0.filter(move |(_, file)| file.meta.contains(key)).map(|(at, _)| (0, at));
        let deeper = (1..LEVELS).filter_map(move |level| Some((level, self.version.position_for_key(level, key)?)));
        level0.chain(deeper)
    }

    /// As [`View::get`] for many keys, in any order and with repetitions; answers in the same order.
    /// Keys that share a block decode it once, and several blocks are decoded at a time.
    pub fn multi_get(&self, keys: &[&[u8]], visible: SeqNo) -> Result<Vec<Option<Slice>>> {
        self.metrics.gets.add(keys.len() as u64);
        let mut many = Many::new(keys, visible);
        for memtable in &self.memtables {
            many.ask_memtable(memtable, &self.metrics);
        }
        if !many.open.is_empty() {
            self.multi_get_from_tables(&mut many).map_err(|e| self.named(e))?;
        }
        Ok(many.answers)
    }

    fn multi_get_from_tables(&self, many: &mut Many<'_>) -> Result<()> {
        many.hash_and_sort();
        for (table, file) in self.version.levels[0].iter().enumerate() {
            let from = many.open.partition_point(|q| q.key < file.meta.smallest.as_slice());
            many.ask_table(self, 0, table, from)?;
        }
        for level in 1..LEVELS {
            let files = &self.version.levels[level];
            let mut at = 0;
            // Tables and open questions are both sorted: one pass over the shorter of the two.
            while let Some(question) = many.open.get(at) {
                let table = files.partition_point(|file| !upper_contains(&file.meta.largest, question.key));
                let Some(file) = files.get(table) else { break };
                at += many.open[at..].partition_point(|q| q.key < file.meta.smallest.as_slice());
                at = many.ask_table(self, level, table, at)?;
            }
        }
        Ok(())
    }

    /// About how many bytes of tables `range` takes. Reads indexes only; memtables are left out.
    pub fn approximate_size(&self, range: &KeyRange) -> Result<u64> {
        if range.is_empty() {
            return Ok(0);
        }
        let (first, limit) = (range.first(), range.limit());
        let mut size = 0;
        for (level, file) in self.version.tables() {
            let meta = &file.meta;
            if !meta.overlaps(&first, &range.end) {
                continue;
            }
            let begins_inside = first <= meta.smallest;
            let ends_inside = match (&limit, &meta.largest) {
                (None, _) => true,
                (Some(limit), Bound::Included(largest)) => largest < limit,
                (Some(limit), Bound::Excluded(largest)) => largest <= limit,
                (Some(_), Bound::Unbounded) => false,
            };
            size += if begins_inside && ends_inside {
                meta.size
            } else {
                let table = self.tables.get_at(file, &self.family, level).map_err(|e| self.named(e))?;
                let from = if begins_inside { 0 } else { table.approximate_offset(&first) };
                let to = match &limit {
                    Some(limit) if !ends_inside => table.approximate_offset(limit),
                    _ => meta.size,
                };
                to.saturating_sub(from)
            };
        }
        Ok(size)
    }

    /// The same error, saying which family.
    pub(super) fn named(&self, error: Error) -> Error {
        error.with_column_family(&*self.name)
    }
}

/// What a reader sees of the newest entry under the tombstone `cover`.
#[inline]
fn shown(tag: Tag, value: Slice, cover: SeqNo) -> Option<Slice> {
    (tag.is_put() && cover <= tag.seq()).then_some(value)
}

/// The bounds of the sequence numbers that a table shows.
fn seq_bounds(meta: &TableMeta) -> (SeqNo, SeqNo) {
    match meta.seq_override {
        Some(seq) => (seq, seq),
        None => (meta.seq_min, meta.seq_max),
    }
}

/// A `multi_get` under way.
struct Many<'a> {
    visible: SeqNo,
    answers: Vec<Option<Slice>>,
    /// The keys without an answer so far.
    open: Vec<Question<'a>>,
    /// For one table at a time.
    asked: Vec<(usize, &'a [u8], u64)>,
    found: Vec<Option<(Tag, Slice)>>,
}

struct Question<'a> {
    key: &'a [u8],
    hash: u64,
    /// The greatest number of a range tombstone over the key so far.
    cover: SeqNo,
    /// Its place among the answers.
    place: usize,
}

impl<'a> Many<'a> {
    fn new(keys: &[&'a [u8]], visible: SeqNo) -> Many<'a> {
        let question = |(place, &key): (usize, &&'a [u8])| Question { key, hash: 0, cover: 0, place };
        Many {
            visible,
            answers: vec![None; keys.len()],
            open: keys.iter().enumerate().map(question).collect(),
            asked: Vec::new(),
            found: Vec::new(),
        }
    }

    fn ask_memtable(&mut self, memtable: &Memtable, metrics: &Metrics) {
        let (visible, answers) = (self.visible, &mut self.answers);
        self.open.retain_mut(|q| {
            q.cover = q.cover.max(memtable.covering(q.key, visible).unwrap_or(0));
            let Some((tag, value)) = memtable.get(q.key, visible) else { return true };
            metrics.memtable_hits.inc();
            answers[q.place] = shown(tag, value, q.cover);
            false
        });
    }

    fn hash_and_sort(&mut self) {
        self.open.sort_unstable_by(|a, b| a.key.cmp(b.key));
        for question in &mut self.open {
            question.hash = hash_key(question.key);
        }
    }

    /// Asks a table for the open keys from position `from` on that lie within its bounds; takes out
    /// those it answers. Returns the position behind them.
    fn ask_table(&mut self, view: &View, level: usize, table: usize, from: usize) -> Result<usize> {
        let file = &view.version.levels[level][table];
        let (seq_min, seq_max) = seq_bounds(&file.meta);
        let n = self.open[from..].partition_point(|q| upper_contains(&file.meta.largest, q.key));
        if n == 0 || seq_min > self.visible {
            return Ok(from + n);
        }
        let mut held = None;
        let table = view.table(level, table, &mut held)?;
        let questions = &mut self.open[from..from + n];
        if file.meta.range_deletes > 0 && !sabotage::is(Bug::MultiGetUncovered) {
            for q in questions.iter_mut() {
                q.cover = q.cover.max(table.tombstones().covering(q.key, self.visible).unwrap_or(0));
            }
        }
        self.asked.clear();
        let alive = questions.iter().enumerate().filter(|(_, q)| q.cover <= seq_max);
        self.asked.extend(alive.map(|(i, q)| (i, q.key, q.hash)));
        self.found.clear();
        self.found.resize(n, None);
        table.multi_get(&self.asked, self.visible, &mut self.found)?;

        let (answers, found) = (&mut self.answers, &mut self.found);
        let mut at = 0usize;
        let mut left = n;
        self.open.retain(|q| {
            let slot = at.checked_sub(from).and_then(|i| found.get_mut(i)).and_then(Option::take);
            at += 1;
            let Some((tag, value)) = slot else { return true };
            answers[q.place] = shown(tag, value, q.cover);
            left -= 1;
            false
        });
        Ok(from + left)
    }
}
