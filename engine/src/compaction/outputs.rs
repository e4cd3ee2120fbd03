//! The tables that one part of a compaction writes, and the proof that they hold what was written.

use std::ops::Bound;

use crate::checksum::hash_key;
use crate::compaction::Plan;
use crate::compaction::job::{JobContext, is_cancelled};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::iter::Cursor;
use crate::key::{KeyRange, Tag, upper_contains};
use crate::sabotage::{self, Bug};
use crate::table::block::Block;
use crate::table::{CursorOptions, Table, TableBuilder, TableWriteOptions};
use crate::tombstone::Fragments;
use crate::version::{TableFile, TableMeta};

/// An output is cut once the tables below it that it overlaps are this many times its target size.
const GRANDPARENT_OVERLAP_MAX: u64 = 10;

/// One finished output, and what went into it.
struct Output {
    meta: TableMeta,
    sum: Sum,
    tombstones: Fragments,
}

/// The outputs of one part of a compaction.
pub struct Outputs<'a> {
    context: &'a JobContext<'a>,
    plan: &'a Plan,
    how: &'a How,
    builder: Option<(TableBuilder<'a>, Sum)>,
    /// Numbers of files begun, for removal if the compaction fails.
    begun: Vec<u64>,
    done: Vec<Output>,
    /// Where the output being written begins.
    from: Bound<Vec<u8>>,
    /// Where the last one ends.
    end: Bound<Vec<u8>>,
    /// The grandparent that the last key lies in or before.
    grandparent: usize,
    grandparent_bytes: u64,
}

/// How outputs are written, the same for all parts.
pub struct How {
    /// Codecs, block size, filter.
    pub options: TableWriteOptions,
    /// True if what the level wants takes too long now: the tables are marked, to be rewritten later.
    pub owes: bool,
    /// The range tombstones that survive.
    pub tombstones: Fragments,
}

impl<'a> Outputs<'a> {
    /// Outputs for the keys of `range`, which begins at a key or with all and ends before a key or with all.
    pub fn new(context: &'a JobContext<'a>, plan: &'a Plan, how: &'a How, range: KeyRange) -> Outputs<'a> {
        let first = range.first();
        Outputs {
            context,
            plan,
            how,
            builder: None,
            begun: Vec::new(),
            done: Vec::new(),
            from: range.start,
            end: range.end,
            grandparent: plan.grandparents.partition_point(|table| !upper_contains(&table.meta.largest, &first)),
            grandparent_bytes: 0,
        }
    }

    /// Adds an entry; `repeats` if it has the key of the one read before.
    #[inline]
    pub fn add(&mut self, repeats: bool, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        if (!repeats || sabotage::is(Bug::CutInsideKey)) && self.is_cut_before(key) {
            self.finish(Some(key))?;
        }
        if self.builder.is_none() {
            self.begin()?;
        }
        let Some((builder, sum)) = &mut self.builder else { return Ok(()) };
        let hash = hash_key(key);
        sum.add(hash, tag, value);
        builder.add_hashed(key, hash, tag, value)
    }

    /// True if a block can begin with `key`, the next to be added.
    pub fn begin_block(&mut self, key: &[u8]) -> Result<bool> {
        if self.is_cut_before(key) {
            self.finish(Some(key))?;
        }
        self.builder.as_mut().map_or(Ok(true), |(builder, _)| builder.begin_block(key))
    }

    /// The entries since then are those of a block of an input, unless a limit came in between: its values are
    /// stored again as they are (see [`TableBuilder::take_values`]).
    pub fn take_values(&mut self, table: &Table, block: usize) -> Result<()> {
        if let Some((builder, _)) = &mut self.builder
            && builder.take_values(table.stored_values(block)?)?
        {
            self.context.metrics.passed_blocks.inc();
        }
        Ok(())
    }

    /// True if the current output should end before `key`, which is another key than the last.
    #[inline]
    fn is_cut_before(&mut self, key: &[u8]) -> bool {
        let mut crossed = false;
        let grandparents = &self.plan.grandparents;
        while let Some(table) = grandparents.get(self.grandparent) {
            if upper_contains(&table.meta.largest, key) {
                break;
            }
            self.grandparent_bytes += table.meta.size;
            self.grandparent += 1;
            crossed = true;
        }
        let Some((builder, _)) = &self.builder else { return false };
        let size = builder.estimated_size();
        let target = self.plan.target_size;
        if size >= target {
            return true;
        }
        // At a border anyway: worth a smaller table, if it is not too small. Past too much overlap:
        // worth any table.
        let at_border = crossed && size >= target / 2;
        let too_wide = crossed && self.grandparent_bytes >= GRANDPARENT_OVERLAP_MAX * target;
        if at_border || too_wide {
            self.context.metrics.grandparent_cuts.inc();
            return true;
        }
        false
    }

    fn begin(&mut self) -> Result<()> {
        let context = self.context;
        let number = (context.next_file)();
        let builder = context.create_table(number, self.how.options.clone(), self.plan.to_level)?;
        self.begun.push(number);
        self.builder = Some((builder, Sum::default()));
        Ok(())
    }

    /// Where they end.
    #[inline]
    pub fn end_bound(&self) -> &Bound<Vec<u8>> {
        &self.end
    }

    /// Makes them end before `key`, which lies behind all that was added.
    pub fn end_before(&mut self, key: Vec<u8>) {
        self.end = Bound::Excluded(key);
    }

    /// Ends the last output.
    pub fn end(&mut self) -> Result<()> {
        match self.end.clone() {
            Bound::Excluded(end) | Bound::Included(end) => self.finish(Some(&end)),
            Bound::Unbounded => self.finish(None),
        }
    }

    /// Ends the current output before `cut` (none: at the end of everything).
    fn finish(&mut self, cut: Option<&[u8]>) -> Result<()> {
        let (from, to) = match cut {
            Some(cut) => (Bound::Included(cut.to_vec()), Bound::Excluded(cut.to_vec())),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let range = KeyRange { start: std::mem::replace(&mut self.from, from), end: to };
        let all = &self.how.tombstones;
        let tombstones = all.clip(&range);
        if cut.is_some_and(|cut| all.iter().any(|f| f.start.as_slice() < cut && f.contains(cut))) {
            self.context.metrics.range_tombstone_splits.inc();
        }
        self.grandparent_bytes = 0;
        if self.builder.is_none() {
            if tombstones.is_empty() {
                return Ok(());
            }
            self.begin()?;
        }
        let Some((mut builder, sum)) = self.builder.take() else { return Ok(()) };
        builder.add_tombstones(&tombstones);
        builder.set_oldest_data(self.plan.oldest_data());
        let mut meta = builder.finish()?;
        meta.owes_codec = self.how.owes;
        self.done.push(Output { meta, sum, tombstones });
        Ok(())
    }

    /// Reads every output back and compares it with what was written.
    pub fn verify(&self) -> Result<()> {
        if sabotage::is(Bug::OutputNotVerified) {
            return Ok(());
        }
        for output in &self.done {
            let file = TableFile::unmanaged(output.meta.clone());
            let table = self.context.tables.get_at(&file, self.context.family, self.plan.to_level)?;
            let mut cursor = table.cursor(CursorOptions { fill_cache: false, read_ahead: true });
            let mut sum = Sum::default();
            let mut findable = true;
            let mut hashes = Vec::new();
            let mut before: Option<Block> = None;
            cursor.seek_to_first()?;
            while let Some(block) = cursor.block().cloned() {
                if is_cancelled(self.context, self.plan) {
                    return Err(Error::new(ErrorKind::Cancelled, "the compaction was cancelled"));
                }
                hashes.clear();
                for i in 0..block.len() {
                    let hash = hash_key(block.key(i));
                    sum.add(hash, block.tag(i), block.value(i));
                    hashes.push(hash);
                }
                let repeats = before.is_some_and(|b| !b.is_empty() && b.key(b.len() - 1) == block.key(0));
                findable &= cursor.is_block_findable(&hashes, repeats);
                before = Some(block);
                cursor.next_block()?;
            }
            if !findable {
                return Err(Error::corruption("a new table holds keys that its filter or index denies")
                    .with_file(FileName::Table(output.meta.number).path(self.context.dir)));
            }
            if sum != output.sum || *table.tombstones() != output.tombstones {
                return Err(Error::corruption(format!(
                    "a new table does not hold what was written into it ({} entries of {})",
                    sum.entries, output.sum.entries
                ))
                .with_file(FileName::Table(output.meta.number).path(self.context.dir)));
            }
        }
        Ok(())
    }

    /// The tables written.
    pub fn done(self) -> Vec<TableMeta> {
        self.done.into_iter().map(|output| output.meta).collect()
    }

    /// Removes every file that was begun.
    pub fn remove(&mut self) {
        if let Some((builder, _)) = self.builder.take() {
            builder.abandon();
        }
        for number in &self.begun {
            self.context.tables.forget(*number);
            // Gone already if it was abandoned; otherwise the next open removes it.
            let _ = self.context.fs.remove_file(&FileName::Table(*number).path(self.context.dir));
        }
    }
}

/// A running sum over entries in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    entries: u64,
    hash: u64,
}

impl Sum {
    #[inline]
    fn add(&mut self, key_hash: u64, tag: Tag, value: &[u8]) {
        let entry = key_hash.rotate_left(17) ^ tag.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash_key(value);
        self.hash = (self.hash.rotate_left(5) ^ entry).wrapping_mul(0x2545_f491_4f6c_dd1d);
        self.entries += 1;
    }
}
