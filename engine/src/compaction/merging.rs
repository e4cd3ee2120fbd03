//! Merging the inputs of a compaction into its outputs, on one thread or on several.
//!
//! A merge begins on one thread. Whenever there is another that has nothing to do, a part that is large enough is cut
//! in two: the thread goes on with the lower keys, and the other begins with the upper ones. Threads that merge
//! different keys share nothing but the inputs, so that no step of one waits for another (RocksDB's subcompactions,
//! cut while they run and not before). What all parts read and wrote is counted together, against what the
//! inputs promise, and all of it or nothing becomes the edit.

use std::ops::Bound;

use crate::compaction::Plan;
use crate::compaction::job::{Helpers, JobContext, is_cancelled, sync_dir};
use crate::compaction::outputs::{How, Outputs};
use crate::compaction::parts::Places;
use crate::compaction::retain::{Decision, LastKey, Retain, retain_tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::iter::Cursor;
use crate::iter::merge::Merge;
use crate::key::{KeyRange, SEQ_MAX, Tag, upper_contains};
use crate::read::source::{LevelCursor, Source};
use crate::sabotage::{self, Bug};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{self, Arc};
use crate::table::{CursorOptions, Table, TableWriteOptions};
use crate::tombstone::Fragments;
use crate::version::TableMeta;

/// How often a running merge looks whether it has been cancelled and whether there is help, in entries.
const LOOK_UP: u64 = if cfg!(test) { 32 } else { 1024 };
/// Values from so many bytes on are worth it that their blocks pass.
const PASSED_VALUE_MIN: u64 = if cfg!(test) { 8 } else { 200 };
/// A part is no smaller than the size of its tables divided by this.
const PARTS_A_TABLE: u64 = 4;

/// Merges the inputs and proves the outputs. They are durable when this returns, and gone if it fails.
pub fn run(context: &JobContext<'_>, plan: &Plan, options: TableWriteOptions, owes: bool) -> Result<Vec<TableMeta>> {
    let tables = open_inputs(context, plan)?;
    let tombstones = Fragments::build(tables.iter().flat_map(|table| table.tombstones().to_tombstones()));
    let bottom = plan.bottom || sabotage::is(Bug::RangeTombstonesDropEarly);
    let (kept, dropped) = retain_tombstones(&tombstones, &context.snapshots, context.visible, bottom);
    let how = How { options, owes, tombstones: kept };
    let merging = Merging {
        context,
        plan,
        how: &how,
        tombstones: &tombstones,
        places: if is_divisible(plan) { Places::of(&tables) } else { Places::default() },
        passable: passable(&tables, &how.options),
        stop: AtomicBool::new(false),
    };
    drop(tables);
    let done = merging.run(Work::Range(KeyRange::ALL), None);
    let mut all = Vec::new();
    let mut counts = Ok(Counts::default());
    for (outputs, of_part) in done {
        all.push(outputs);
        counts = match (counts, of_part) {
            (Ok(sum), Ok(more)) => Ok(sum.plus(&more)),
            (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e),
            // Why one stopped says more than that the others stopped with it.
            (Err(e), Err(f)) => Err(if e.kind() == ErrorKind::Cancelled { f } else { e }),
        };
    }
    let checked = counts.and_then(|counts| counts.check(plan).map(|()| counts));
    match checked.and_then(|counts| sync_dir(context.fs, context.dir).map(|()| counts)) {
        Ok(counts) => {
            context.metrics.compaction_splits.add(all.len() as u64 - 1);
            context.metrics.versions_dropped.add(counts.older);
            context.metrics.range_deleted_entries.add(counts.range_deleted);
            context.metrics.tombstones_dropped.add(counts.tombstones);
            context.metrics.range_tombstones_dropped.add(dropped);
            Ok(all.into_iter().flat_map(Outputs::done).collect())
        }
        Err(e) => {
            all.iter_mut().for_each(Outputs::remove);
            Err(e)
        }
    }
}

/// False for a table that is written anew and stays one, and for level 0, which is a list by age.
fn is_divisible(plan: &Plan) -> bool {
    plan.order.is_none() && plan.to_level > 0
}

/// Numbers of the inputs whose blocks may be stored again as they are: those that were written as the outputs will be,
/// if values are so long that only a few share a block.
fn passable(tables: &[Arc<Table>], options: &TableWriteOptions) -> Vec<u64> {
    let sum = |of: fn(&Table) -> u64| tables.iter().map(|table| of(table)).sum::<u64>();
    if sum(|t| t.properties().raw_value_bytes) < PASSED_VALUE_MIN * sum(|t| t.properties().entries).max(1) {
        return Vec::new();
    }
    tables.iter().filter(|table| options.is_that_of(table.properties())).map(|table| table.meta().number).collect()
}

/// Every input, open.
fn open_inputs(context: &JobContext<'_>, plan: &Plan) -> Result<Vec<Arc<Table>>> {
    let mut tables = Vec::new();
    for (level, files) in &plan.inputs {
        for file in files {
            match context.tables.get_at(file, context.family, *level) {
                Err(_) if sabotage::is(Bug::UnopenableInputSkipped) => {}
                opened => tables.push(opened?),
            }
        }
    }
    Ok(tables)
}

/// What the parts of a merge share.
struct Merging<'a> {
    context: &'a JobContext<'a>,
    plan: &'a Plan,
    how: &'a How,
    /// Those of the inputs.
    tombstones: &'a Fragments,
    /// Where the merge may be cut.
    places: Places,
    /// Numbers of the inputs whose blocks may pass as they are stored.
    passable: Vec<u64>,
    /// Set once a part has failed.
    stop: AtomicBool,
}

/// What a thread is given to do.
enum Work<'a> {
    /// These keys.
    Range(KeyRange),
    /// What is left of this part.
    Rest(Box<Part<'a>>),
}

/// A range of keys that is being merged.
struct Part<'a> {
    merge: Merge<Source>,
    retain: Retain<'a>,
    outputs: Outputs<'a>,
    last_key: LastKey,
    counts: Counts,
    passing: Option<Passing>,
}

/// A block of an input of which all entries so far, and nothing else, have become a block of the output.
struct Passing {
    table: Arc<Table>,
    block: usize,
    /// Its next entry, and how many there are.
    next: usize,
    len: usize,
}

/// A thread that helps; given back when this is dropped.
struct Helper<'a>(&'a dyn Helpers);

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Of each part, in the order of their keys: the outputs, and what went into them.
type Done<'a> = Vec<(Outputs<'a>, Result<Counts>)>;

impl<'a> Merging<'a> {
    /// Does the work, on this thread or, once cut, on several; `_me` is the thread.
    fn run(&'a self, work: Work<'a>, _me: Option<Helper<'a>>) -> Done<'a> {
        let mut part = match work {
            Work::Rest(part) => part,
            Work::Range(range) => {
                let mut part = Box::new(self.begin(&range));
                if let Err(e) = self.seek(&mut part, &range) {
                    return self.end(*part, Err(e));
                }
                part
            }
        };
        match self.advance(&mut part) {
            Ok(None) => {
                let checked = part.outputs.end().and_then(|()| part.outputs.verify());
                self.end(*part, checked)
            }
            Err(e) => self.end(*part, Err(e)),
            Ok(Some((ranges, helpers))) => {
                let others = ranges.into_iter().map(Work::Range).zip(helpers.into_iter().map(Some));
                let all = std::iter::once((Work::Rest(part), None)).chain(others).collect();
                let done = sync::in_parallel("lignite-part", all, |(work, helper)| self.run(work, helper));
                done.into_iter().flatten().collect()
            }
        }
    }

    fn begin(&'a self, range: &KeyRange) -> Part<'a> {
        let (context, plan) = (self.context, self.plan);
        let bottom = plan.bottom || sabotage::is(Bug::TombstonesDropEarly);
        Part {
            merge: Merge::new(Vec::new()),
            retain: Retain::new(&context.snapshots, context.visible, bottom, self.tombstones),
            outputs: Outputs::new(context, plan, self.how, range.clone()),
            last_key: LastKey::new(),
            counts: Counts::default(),
            passing: None,
        }
    }

    fn seek(&self, part: &mut Part<'_>, range: &KeyRange) -> Result<()> {
        part.merge = Merge::new(self.sources(range)?);
        match &range.start {
            Bound::Included(key) | Bound::Excluded(key) => part.merge.seek(key, Tag::visible_at(SEQ_MAX)),
            Bound::Unbounded => part.merge.seek_to_first(),
        }
    }

    fn end(&self, part: Part<'a>, outcome: Result<()>) -> Done<'a> {
        if let Some(order) = &self.plan.order {
            order.limits.spend(&*self.context.clock, part.counts.unpaid);
        }
        // One that fails is enough.
        self.stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
        vec![(part.outputs, outcome.map(|()| part.counts))]
    }

    /// Cursors over the inputs that have keys of the range.
    fn sources(&self, range: &KeyRange) -> Result<Vec<Source>> {
        let context = self.context;
        let first = range.first();
        let options = CursorOptions { fill_cache: false, read_ahead: true };
        let mut sources = Vec::new();
        for (level, files) in &self.plan.inputs {
            let files = files.iter().filter(|file| file.meta.overlaps(&first, &range.end));
            if *level > 0 {
                let cursor =
                    LevelCursor::new(context.tables.clone(), files.cloned().collect(), context.family.clone(), options);
                sources.push(Source::Level(cursor.at_level(*level)));
                continue;
            }
            for file in files {
                match context.tables.get_at(file, context.family, *level) {
                    Err(_) if sabotage::is(Bug::UnopenableInputSkipped) => {}
                    opened => sources.push(Source::Table(opened?.cursor(options))),
                }
            }
        }
        Ok(sources)
    }

    /// Merges up to the end of the part, or until somebody helps: then the keys from which on others do it,
    /// which are the part's no more.
    fn advance(&'a self, part: &mut Part<'a>) -> Result<Option<(Vec<KeyRange>, Vec<Helper<'a>>)>> {
        let Part { merge, retain, outputs, last_key, counts, passing } = part;
        while merge.valid() {
            let (key, tag, value) = merge.entry();
            if !upper_contains(outputs.end_bound(), key) {
                break;
            }
            if counts.read % LOOK_UP == 0 && !std::mem::replace(&mut counts.looked_up, true) {
                self.check(counts)?;
                if let Some((ranges, helpers)) = self.divide(key, outputs) {
                    return Ok(Some((ranges, helpers)));
                }
            }
            counts.looked_up = false;
            counts.read += 1;
            counts.unpaid += (key.len() + value.len()) as u64;
            let repeats = last_key.is_repeated_by(key);
            match retain.decide(repeats, key, tag) {
                Decision::Keep(tag) => {
                    if !self.passable.is_empty() {
                        *passing = self.pass(passing.take(), merge, repeats, outputs)?;
                    }
                    outputs.add(repeats, key, tag, value)?;
                    counts.written += 1;
                    if let Some(passed) = passing.take_if(|passing| passing.next == passing.len) {
                        outputs.take_values(&passed.table, passed.block)?;
                    }
                }
                Decision::DropOlder => counts.older += 1,
                Decision::DropRangeDeleted => counts.range_deleted += 1,
                Decision::DropTombstone => counts.tombstones += 1,
            }
            last_key.leave(merge);
            merge.next()?;
        }
        Ok(None)
    }

    /// The passing block with the entry that is about to be added: goes on with it, or begins one that will go
    /// through whole as far as the sources tell.
    fn pass(
        &self,
        passing: Option<Passing>,
        merge: &Merge<Source>,
        repeats: bool,
        outputs: &mut Outputs<'_>,
    ) -> Result<Option<Passing>> {
        let Some(cursor) = merge.current().and_then(Source::table_cursor) else { return Ok(None) };
        let Some((block, at)) = cursor.place() else { return Ok(None) };
        let number = cursor.block_number();
        if at > 0 {
            let goes_on =
                passing.filter(|p| p.next == at && p.block == number && Arc::ptr_eq(&p.table, cursor.table()));
            return Ok(goes_on.map(|passing| Passing { next: at + 1, ..passing }));
        }
        let is_alone = |other: &Source| block.key(block.len() - 1) < other.key();
        let may_pass = !repeats
            && merge.runner_up().is_none_or(is_alone)
            && self.passable.contains(&cursor.table().meta().number)
            && outputs.begin_block(block.key(0))?;
        Ok(may_pass.then(|| Passing { table: cursor.table().clone(), block: number, next: 1, len: block.len() }))
    }

    /// Ends the part if nobody wants it any more; waits if it goes too fast.
    fn check(&self, counts: &mut Counts) -> Result<()> {
        if is_cancelled(self.context, self.plan) || self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the compaction was cancelled"));
        }
        if let Some(order) = &self.plan.order {
            order.limits.spend(&*self.context.clock, std::mem::take(&mut counts.unpaid));
        }
        Ok(())
    }

    /// Ranges behind `key` for those who help now; `outputs` keep what lies before them.
    fn divide(&'a self, key: &[u8], outputs: &mut Outputs<'a>) -> Option<(Vec<KeyRange>, Vec<Helper<'a>>)> {
        let part_min = self.plan.target_size / PARTS_A_TABLE;
        let parts = self.places.bytes_between(key, outputs.end_bound()) / part_min.max(1);
        let most = usize::try_from(parts).unwrap_or(usize::MAX).saturating_sub(1);
        if most == 0 {
            return None;
        }
        let helpers = &self.context.helpers;
        let mut helpers: Vec<_> = (0..helpers.claim(most)).map(|_| Helper(*helpers)).collect();
        let cuts = self.places.cut(key, outputs.end_bound(), helpers.len());
        helpers.truncate(cuts.len());
        let ends = cuts.iter().skip(1).map(|key| Bound::Excluded(key.clone())).chain([outputs.end_bound().clone()]);
        let ranges: Vec<_> =
            cuts.iter().zip(ends).map(|(key, end)| KeyRange { start: Bound::Included(key.clone()), end }).collect();
        outputs.end_before(cuts.into_iter().next()?);
        Some((ranges, helpers))
    }
}

#[derive(Default)]
struct Counts {
    read: u64,
    /// True if it was looked up since.
    looked_up: bool,
    written: u64,
    older: u64,
    range_deleted: u64,
    tombstones: u64,
    /// Bytes of keys and values that no limit has counted yet.
    unpaid: u64,
}

impl Counts {
    fn plus(self, more: &Counts) -> Counts {
        Counts {
            read: self.read + more.read,
            written: self.written + more.written,
            older: self.older + more.older,
            range_deleted: self.range_deleted + more.range_deleted,
            tombstones: self.tombstones + more.tombstones,
            ..self
        }
    }

    /// Every entry that the inputs' descriptions promise was read, and went somewhere.
    fn check(&self, plan: &Plan) -> Result<()> {
        let promised: u64 = plan.inputs.iter().flat_map(|(_, t)| t.iter().map(|t| t.meta.entries)).sum();
        let gone = self.older + self.range_deleted + self.tombstones;
        if sabotage::is(Bug::UnopenableInputSkipped) {
            return Ok(());
        }
        if self.read != promised || self.read != self.written + gone {
            return Err(Error::corruption(format!(
                "a compaction read {} entries where its tables have {promised}, and wrote {} and dropped {gone}",
                self.read, self.written
            )));
        }
        Ok(())
    }
}
