//! Carries a plan out: merges the inputs, writes what survives into new tables, checks them, and
//! returns the edit.
//!
//! Outputs are cut between user keys only: at the target size, and at table borders of the level
//! below the target, so that the next compaction of an output overlaps few tables. Range tombstones
//! are cut at the same places. Every output is read back and compared (count, order, a hash over all
//! keys, tags and values, and the range tombstones) before anybody may rely on it, and every key must
//! pass its filter and be found by its index. On any error the outputs begun are removed; inputs are
//! never touched.

use std::ops::Bound;
use std::path::Path;

use crate::checksum::hash_key;
use crate::clock::Clock;
use crate::compaction::retain::{Decision, LastKey, Retain, retain_tombstones};
use crate::compaction::{Plan, Reason};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::Fs;
use crate::iter::Cursor;
use crate::iter::merge::Merge;
use crate::key::{KeyRange, SeqNo, Tag};
use crate::metrics::{FamilyMetrics, Metrics};
use crate::options::{CfOptions, Depth};
use crate::read::cursor::{LevelCursor, Source};
use crate::sabotage::{self, Bug};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::table::CursorOptions;
use crate::table::block::Block;
use crate::table::{Table, TableBuilder, TableWriteOptions};
use crate::tables::Tables;
use crate::tombstone::Fragments;
use crate::tune::{self, Request, Tuning};
use crate::version::{TableFile, TableMeta};

/// How often a running compaction looks whether it has been cancelled, in entries.
const CANCEL_CHECK: u64 = 1024;
/// An output is cut once the tables below it that it overlaps are this many times its target size.
const GRANDPARENT_OVERLAP_MAX: u64 = 10;

/// What a background job is given.
pub struct JobContext<'a> {
    /// The file system.
    pub fs: &'a dyn Fs,
    /// Where tables are written.
    pub dir: &'a Path,
    /// The identity that new tables carry.
    pub db_id: u128,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Open tables.
    pub tables: &'a Arc<Tables>,
    /// Counters of the database.
    pub metrics: &'a Arc<Metrics>,
    /// Counters of the family.
    pub family: &'a Arc<FamilyMetrics>,
    /// The family's options.
    pub options: &'a CfOptions,
    /// What the family has found out about its data.
    pub tuning: &'a Tuning,
    /// True if writers wait, so that what is written now had better be quick to encode.
    pub pressed: bool,
    /// The published sequence number, read before `snapshots`.
    pub visible: SeqNo,
    /// Live snapshots, ascending.
    pub snapshots: Vec<SeqNo>,
    /// Gives numbers for new files.
    pub next_file: &'a dyn Fn() -> u64,
    /// True once the job should stop.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// What a compaction did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// New tables and those described anew, by level.
    pub added: Vec<(usize, TableMeta)>,
    /// Tables taken out, by level.
    pub deleted: Vec<(usize, u64)>,
    /// Bytes of tables read.
    pub read_bytes: u64,
    /// Bytes of tables written.
    pub write_bytes: u64,
}

/// Carries `plan` out.
pub fn run(context: &JobContext<'_>, plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (level, tables) in &plan.inputs {
        outcome.deleted.extend(tables.iter().map(|t| (*level, t.number())));
    }
    for (level, table) in &plan.drop_only {
        outcome.deleted.push((*level, table.number()));
        context.metrics.tables_dropped.inc();
        context.metrics.range_deleted_entries.add(table.meta.entries);
    }
    if plan.trivial_move {
        move_tables(context, plan, &mut outcome);
        return Ok(outcome);
    }
    if plan.inputs.iter().all(|(_, tables)| tables.is_empty()) {
        return Ok(outcome);
    }
    let mut outputs = Outputs::new(context, plan);
    outputs.options = write_options(context, plan, outputs.owes);
    if plan.reason == Reason::Codec && is_written_so(context, plan, &outputs.options) {
        settle_tables(plan, &mut outcome);
        return Ok(outcome);
    }
    let sync = || sync_dir(context.fs, context.dir);
    let merged = merge(context, plan, &mut outputs).and_then(|()| outputs.verify()).and_then(|()| sync());
    match merged {
        Ok(()) => {
            outcome.read_bytes = plan.inputs.iter().flat_map(|(_, t)| t.iter().map(|t| t.meta.size)).sum();
            outcome.write_bytes = outputs.done.iter().map(|o| o.meta.size).sum();
            outcome.added = outputs.done.into_iter().map(|o| (plan.to_level, o.meta)).collect();
            context.metrics.compactions.inc();
            context.metrics.compaction_read_bytes.add(outcome.read_bytes);
            context.metrics.compaction_write_bytes.add(outcome.write_bytes);
            if plan.reason.is_for_tombstones() {
                context.metrics.tombstone_compactions.inc();
            }
            Ok(outcome)
        }
        Err(e) => {
            outputs.remove();
            Err(e)
        }
    }
}

/// How the outputs are to be written: as somebody ordered, or as looking at the inputs suggests. An input that
/// cannot be opened is not looked at; the merge will say what is wrong with it.
fn write_options(context: &JobContext<'_>, plan: &Plan, pressed: bool) -> TableWriteOptions {
    if let Some(order) = &plan.order {
        return order.write.clone();
    }
    context.tuning.table_options(&Request {
        options: context.options,
        depth: plan.depth,
        zeroed: plan.bottom,
        inputs: &inputs(context, plan),
        clock: &*context.clock,
        pressed,
    })
}

fn inputs(context: &JobContext<'_>, plan: &Plan) -> Vec<Arc<Table>> {
    let all = plan.inputs.iter().flat_map(|(level, files)| files.iter().map(move |file| (*level, file)));
    all.filter_map(|(level, file)| context.tables.get_at(file, context.family, level).ok()).collect()
}

/// True if the tables that owe a codec would come out as they are.
fn is_written_so(context: &JobContext<'_>, plan: &Plan, options: &TableWriteOptions) -> bool {
    let count: usize = plan.inputs.iter().map(|(_, files)| files.len()).sum();
    let tables = inputs(context, plan);
    tables.len() == count && tables.iter().all(|table| options.is_that_of(table.properties()))
}

/// They owe nothing, after all.
fn settle_tables(plan: &Plan, outcome: &mut Outcome) {
    for (level, tables) in &plan.inputs {
        for table in tables {
            let meta = TableMeta { owes_codec: false, ..table.meta.clone() };
            outcome.added.push((*level, meta));
        }
    }
}

/// Makes the names of new tables durable. A failure is `Poisoned`: nobody knows which names of which
/// files the directory would have after a crash, and a second attempt would not tell.
pub(crate) fn sync_dir(fs: &dyn Fs, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e).with_kind(ErrorKind::Poisoned))
}

/// A move is an edit only. A table whose codec is not the one its new depth wants is marked, to be
/// rewritten when there is nothing better to do.
fn move_tables(context: &JobContext<'_>, plan: &Plan, outcome: &mut Outcome) {
    for (level, tables) in &plan.inputs {
        for table in tables {
            let mut meta = table.meta.clone();
            let from = if *level == 0 { Depth::Young } else { plan.from_depth };
            let (options, raw) = (context.options, meta.raw_bytes);
            meta.owes_codec |= tune::owes(options, from, plan.depth, raw);
            outcome.added.push((plan.to_level, meta));
            context.metrics.trivial_moves.inc();
        }
    }
}

fn merge<'a>(context: &'a JobContext<'a>, plan: &'a Plan, outputs: &mut Outputs<'a>) -> Result<()> {
    let mut sources = Vec::new();
    let mut all = Vec::new();
    let options = CursorOptions { fill_cache: false, read_ahead: true };
    for (level, tables) in &plan.inputs {
        for file in tables {
            let table = match context.tables.get_at(file, context.family, *level) {
                Err(_) if sabotage::is(Bug::UnopenableInputSkipped) => continue,
                opened => opened?,
            };
            all.extend(table.tombstones().to_tombstones());
            if *level == 0 {
                sources.push(Source::Table(table.cursor(options)));
            }
        }
        if *level > 0 && !tables.is_empty() {
            let files: Vec<Arc<TableFile>> = tables.clone();
            let cursor = LevelCursor::new(context.tables.clone(), files, context.family.clone(), options);
            sources.push(Source::Level(cursor.at_level(*level)));
        }
    }
    let tombstones = Fragments::build(all);
    let bottom = plan.bottom || sabotage::is(Bug::RangeTombstonesDropEarly);
    let (kept, dropped) = retain_tombstones(&tombstones, &context.snapshots, context.visible, bottom);
    context.metrics.range_tombstones_dropped.add(dropped);
    outputs.tombstones = kept;

    let bottom = plan.bottom || sabotage::is(Bug::TombstonesDropEarly);
    let mut retain = Retain::new(&context.snapshots, context.visible, bottom, &tombstones);
    let mut counts = Counts::default();
    let mut merge = Merge::new(sources);
    merge.seek_to_first()?;
    let mut last_key = LastKey::new();
    while merge.valid() {
        counts.read += 1;
        if counts.read % CANCEL_CHECK == 0 {
            if is_cancelled(context, plan) {
                return Err(Error::new(ErrorKind::Cancelled, "the compaction was cancelled"));
            }
            if let Some(order) = &plan.order {
                order.limits.spend(&*context.clock, std::mem::take(&mut counts.unpaid));
            }
        }
        let (key, tag, value) = merge.entry();
        counts.unpaid += (key.len() + value.len()) as u64;
        let repeats = last_key.is_repeated_by(key);
        match retain.decide(repeats, key, tag) {
            Decision::Keep(tag) => {
                outputs.add(repeats, key, tag, value)?;
                counts.written += 1;
            }
            Decision::DropOlder => counts.older += 1,
            Decision::DropRangeDeleted => counts.range_deleted += 1,
            Decision::DropTombstone => counts.tombstones += 1,
        }
        last_key.leave(&merge);
        merge.next()?;
    }
    outputs.finish(None)?;
    if let Some(order) = &plan.order {
        order.limits.spend(&*context.clock, std::mem::take(&mut counts.unpaid));
    }
    counts.check(plan)?;
    context.metrics.versions_dropped.add(counts.older);
    context.metrics.range_deleted_entries.add(counts.range_deleted);
    context.metrics.tombstones_dropped.add(counts.tombstones);
    Ok(())
}

#[derive(Default)]
struct Counts {
    read: u64,
    written: u64,
    older: u64,
    range_deleted: u64,
    tombstones: u64,
    /// Bytes of keys and values that no limit has counted yet.
    unpaid: u64,
}

/// True once somebody wants the job to end.
fn is_cancelled(context: &JobContext<'_>, plan: &Plan) -> bool {
    (context.cancelled)() || plan.order.as_ref().is_some_and(|o| o.limits.cancelled.load(Ordering::Relaxed))
}

impl Counts {
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

/// One finished output, and what went into it.
struct Output {
    meta: TableMeta,
    sum: Sum,
    tombstones: Fragments,
}

/// The outputs of one compaction.
struct Outputs<'a> {
    context: &'a JobContext<'a>,
    plan: &'a Plan,
    options: TableWriteOptions,
    /// True if what the level wants takes too long now: the tables are marked, to be rewritten later.
    owes: bool,
    builder: Option<(TableBuilder<'a>, Sum)>,
    /// Numbers of files begun, for removal if the compaction fails.
    begun: Vec<u64>,
    done: Vec<Output>,
    tombstones: Fragments,
    /// Where the output being written begins; none for the first.
    from: Option<Vec<u8>>,
    /// The grandparent that the last key lies in or before.
    grandparent: usize,
    grandparent_bytes: u64,
}

impl<'a> Outputs<'a> {
    fn new(context: &'a JobContext<'a>, plan: &'a Plan) -> Outputs<'a> {
        Outputs {
            context,
            plan,
            options: TableWriteOptions::for_depth(context.options, plan.depth),
            // Who pays a debt makes no new one, or it would never end.
            owes: plan.order.is_none()
                && plan.reason != Reason::Codec
                && context.pressed
                && context.options.objective.is_some()
                && plan.depth != Depth::Bottom,
            builder: None,
            begun: Vec::new(),
            done: Vec::new(),
            tombstones: Fragments::default(),
            from: None,
            grandparent: 0,
            grandparent_bytes: 0,
        }
    }

    /// Adds an entry; `repeats` if it has the key of the one read before.
    #[inline]
    fn add(&mut self, repeats: bool, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
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

    /// True if the current output should end before `key`, which is another key than the last.
    #[inline]
    fn is_cut_before(&mut self, key: &[u8]) -> bool {
        let mut crossed = false;
        let grandparents = &self.plan.grandparents;
        while let Some(table) = grandparents.get(self.grandparent) {
            if crate::key::upper_contains(&table.meta.largest, key) {
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
        let mut builder = TableBuilder::create(
            context.fs,
            context.dir,
            number,
            context.db_id,
            self.options.clone(),
            context.clock.unix_seconds(),
            context.family.clone(),
            self.plan.to_level,
            context.clock.clone(),
        )?;
        builder.assist(context.tables.pool(), context.metrics);
        self.begun.push(number);
        self.builder = Some((builder, Sum::default()));
        Ok(())
    }

    /// Ends the current output before `cut` (none: at the end of everything).
    fn finish(&mut self, cut: Option<&[u8]>) -> Result<()> {
        let range = KeyRange {
            start: self.from.take().map_or(Bound::Unbounded, Bound::Included),
            end: cut.map_or(Bound::Unbounded, |k| Bound::Excluded(k.to_vec())),
        };
        let tombstones = self.tombstones.clip(&range);
        if cut.is_some_and(|cut| self.tombstones.iter().any(|f| f.start.as_slice() < cut && f.contains(cut))) {
            self.context.metrics.range_tombstone_splits.inc();
        }
        self.from = cut.map(<[u8]>::to_vec);
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
        meta.owes_codec = self.owes;
        self.done.push(Output { meta, sum, tombstones });
        Ok(())
    }

    /// Reads every output back and compares it with what was written.
    fn verify(&self) -> Result<()> {
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

    fn remove(&mut self) {
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
