//! Sealed memtables to one table of level 0.
//!
//! Memtables are merged; versions that no reader can tell from a newer one are dropped on the way,
//! tombstones are kept. The table is synced, and so is the directory, before its description is
//! returned: whoever puts it into the manifest may rely on it.

use crate::compaction::job::{JobContext, sync_dir};
use crate::compaction::retain::{Decision, LastKey, Retain, retain_tombstones};
use crate::error::Result;
use crate::filename::FileName;
use crate::iter::Cursor;
use crate::iter::merge::Merge;
use crate::memtable::Memtable;
use crate::options::Depth;
use crate::sync::Arc;
use crate::table::TableBuilder;
use crate::tombstone::Fragments;
use crate::tune::Request;
use crate::version::TableMeta;

/// Writes `memtables` (oldest first) into one table; none if nothing of them is left.
pub fn run(context: &JobContext<'_>, memtables: &[Arc<Memtable>]) -> Result<Option<TableMeta>> {
    let tombstones = Fragments::build(memtables.iter().flat_map(|m| m.tombstones().to_tombstones()));
    let mut merge = Merge::new(memtables.iter().map(Memtable::cursor).collect());
    merge.seek_to_first()?;
    if !merge.valid() && tombstones.is_empty() {
        return Ok(None);
    }
    let number = (context.next_file)();
    let options = context.tuning.table_options(&Request {
        options: context.options,
        depth: Depth::Young,
        zeroed: false,
        inputs: &[],
        clock: &*context.clock,
        pressed: context.pressed,
    });
    let mut builder = context.create_table(number, options, 0)?;
    let mut retain = Retain::new(&context.snapshots, context.visible, false, &tombstones);
    let outcome = fill(context, &mut merge, &mut retain, &mut builder);
    if let Err(e) = outcome {
        builder.abandon();
        return Err(e);
    }
    let (kept, _) = retain_tombstones(&tombstones, &context.snapshots, context.visible, false);
    if builder.entries() == 0 && kept.is_empty() {
        builder.abandon();
        return Ok(None);
    }
    builder.add_tombstones(&kept);
    let sync = || sync_dir(context.fs, context.dir);
    let finished = builder.finish().and_then(|meta| sync().map(|()| meta));
    let meta = finished.inspect_err(|_| {
        // The flush is tried again under another number; what is left of this one is in the way.
        let _ = context.fs.remove_file(&FileName::Table(number).path(context.dir));
    })?;
    context.metrics.flushes.inc();
    context.metrics.flush_bytes.add(meta.size);
    Ok(Some(meta))
}

fn fill<C: Cursor>(
    context: &JobContext<'_>,
    merge: &mut Merge<C>,
    retain: &mut Retain<'_>,
    builder: &mut TableBuilder<'_>,
) -> Result<()> {
    let mut dropped_versions = 0;
    let mut dropped_under_ranges = 0;
    let mut last_key = LastKey::new();
    while merge.valid() {
        let (key, tag, value) = merge.entry();
        match retain.decide(last_key.is_repeated_by(key), key, tag) {
            Decision::Keep(tag) => builder.add(key, tag, value)?,
            Decision::DropRangeDeleted => dropped_under_ranges += 1,
            Decision::DropOlder | Decision::DropTombstone => dropped_versions += 1,
        }
        last_key.leave(merge);
        merge.next()?;
    }
    context.metrics.versions_dropped.add(dropped_versions);
    context.metrics.range_deleted_entries.add(dropped_under_ranges);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::clock::ManualClock;
    use crate::compaction::job::NoHelpers;
    use crate::fs::Fs;
    use crate::fs::fault::{CallKind, Errno, Fault, FaultFs, Rule};
    use crate::fs::mem::MemFs;
    use crate::key::SeqNo;
    use crate::read::testing::{DB_ID, DIR, Random, World, check_view};
    use crate::tune::Tuning;
    use crate::version::{TableFile, Version};

    fn flush(
        world: &World,
        memtables: &[Arc<Memtable>],
        published: SeqNo,
        snapshots: &[SeqNo],
    ) -> Result<Option<TableMeta>> {
        let next_file = || world.number();
        let context = JobContext {
            fs: &*world.fs,
            dir: Path::new(DIR),
            db_id: DB_ID,
            clock: Arc::new(ManualClock::new()),
            tables: &world.tables,
            metrics: &world.metrics,
            family: &world.family,
            options: &world.options,
            tuning: &Tuning::default(),
            pressed: false,
            visible: published,
            snapshots: snapshots.to_vec(),
            next_file: &next_file,
            helpers: &NoHelpers,
            cancelled: &|| false,
        };
        run(&context, memtables)
    }

    #[test]
    fn every_reader_sees_the_same_in_the_table() {
        for seed in 1..40 {
            let mut random = Random::new(seed);
            let mut world = World::new();
            let (_, mut version) = world.populate(&mut random);
            let below = version.seq_max();
            let first = world.write(1 + random.below(400), &mut random);
            let middle = first + random.below(world.last_seq() + 1 - first);
            let last = world.last_seq();
            // `populate` left newer memtables behind: their history is flushed along.
            let memtables = [world.memtable(below + 1, middle), world.memtable(middle, last + 1)];
            let published = last - random.below(last - below);
            let mut snapshots: Vec<SeqNo> = (0..random.below(4)).map(|_| random.below(published + 1)).collect();
            snapshots.sort_unstable();
            snapshots.dedup();
            let meta = flush(&world, &memtables, published, &snapshots).unwrap().unwrap();
            assert!(meta.entries <= memtables.iter().map(|m| m.entries()).sum());
            version = version.apply(&[(0, TableFile::unmanaged(meta))], &[]).unwrap();
            let view = world.view(Vec::new(), &version);
            for &visible in snapshots.iter().chain([&published, &last]) {
                check_view(&world, &view, visible, &mut random, &format!("seed {seed}"));
            }
        }
    }

    #[test]
    fn nothing_makes_no_table() {
        let world = World::new();
        assert_eq!(flush(&world, &[world.memtable(1, 1)], 0, &[]).unwrap(), None);
        assert!(world.fs.list(Path::new(DIR)).unwrap().is_empty());
    }

    #[test]
    fn a_failure_leaves_no_table() {
        let memory = MemFs::new();
        memory.create_dir_all(Path::new(DIR)).unwrap();
        let (fs, control) = FaultFs::new(Arc::new(memory.clone()));
        let mut world = World::on(fs);
        world.write(500, &mut Random::new(1));
        let memtables = [world.memtable(1, 501)];
        for kind in [CallKind::Create, CallKind::Write, CallKind::Sync, CallKind::SyncDir] {
            control.add(Rule::new(Fault::Error(Errno::Enospc)).kind(kind));
            assert!(flush(&world, &memtables, 500, &[]).is_err());
            control.heal();
            assert!(memory.list(Path::new(DIR)).unwrap().is_empty(), "{kind:?}");
        }
        let version = Version::new();
        let meta = flush(&world, &memtables, 500, &[]).unwrap().unwrap();
        let version = version.apply(&[(0, TableFile::unmanaged(meta))], &[]).unwrap();
        check_view(&world, &world.view(Vec::new(), &version), 500, &mut Random::new(2), "after failures");
    }
}
