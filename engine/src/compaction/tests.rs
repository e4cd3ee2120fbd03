//! Compactions of random families: whatever is merged, every reader sees the same as before.

#![allow(clippy::unwrap_used)]

use std::ops::Bound;
use std::path::Path;

use crate::clock::ManualClock;
use crate::compaction::executor::{Outcome, run};
use crate::compaction::job::{Helpers, JobContext};
use crate::compaction::{Plan, Reason};
use crate::error::{ErrorKind, Result};
use crate::fs::Fs;
use crate::fs::fault::{CallKind, Errno, Fault, FaultFs, Rule};
use crate::fs::mem::MemFs;
use crate::iter::Cursor;
use crate::key::{FamilyId, SeqNo};
use crate::metrics::LEVELS;
use crate::options::Depth;
use crate::read::testing::{DB_ID, DIR, Op, Random, World, check_view};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::tune::Tuning;
use crate::version::{TableFile, Version};

/// All of levels `from..=to` into `to`.
fn plan(version: &Version, from: usize, to: usize, target_size: u64) -> Plan {
    let inputs = (from..=to).map(|level| (level, version.levels[level].clone())).collect();
    let grandparents = version.levels.get(to + 1).cloned().unwrap_or_default();
    let bottom = !version.overlaps_at_or_below(to + 1, b"", &Bound::Unbounded);
    Plan {
        family: FamilyId::DEFAULT,
        reason: Reason::Manual,
        from_level: from,
        to_level: to,
        inputs,
        grandparents,
        bottom,
        trivial_move: false,
        drop_only: Vec::new(),
        from_depth: Depth::Deep,
        depth: if bottom { Depth::Bottom } else { Depth::Deep },
        target_size,
        order: None,
    }
}

/// So many threads that come and go.
struct Crew {
    idle: AtomicUsize,
    /// How often they were asked for before there were any.
    late: AtomicUsize,
}

impl Crew {
    fn of(threads: usize, late: usize) -> Crew {
        Crew { idle: AtomicUsize::new(threads - 1), late: AtomicUsize::new(late) }
    }
}

impl Helpers for Crew {
    fn claim(&self, most: usize) -> usize {
        if self.late.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |late| late.checked_sub(1)).is_ok() {
            return 0;
        }
        let mut count = 0;
        let take = |idle: usize| Some(idle - idle.min(most));
        if let Ok(before) = self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            count = before.min(most);
        }
        count
    }

    fn release(&self) {
        self.idle.fetch_add(1, Ordering::Relaxed);
    }
}

fn execute(
    world: &World,
    plan: &Plan,
    published: SeqNo,
    snapshots: &[SeqNo],
    cancelled: &(dyn Fn() -> bool + Sync),
    threads: usize,
) -> Result<Outcome> {
    let next_file = || world.number();
    let crew = Crew::of(threads, plan.target_size as usize % 3);
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
        cancelled,
        helpers: &crew,
    };
    let outcome = run(&context, plan);
    assert_eq!(crew.idle.into_inner(), threads - 1, "all helpers were given back");
    outcome
}

fn apply(version: &Version, outcome: Outcome) -> Version {
    let added: Vec<_> = outcome.added.into_iter().map(|(level, meta)| (level, TableFile::unmanaged(meta))).collect();
    let next = version.apply(&added, &outcome.deleted).unwrap();
    next.check_invariants().unwrap();
    next
}

#[test]
fn every_reader_sees_the_same_afterwards() {
    let (mut cuts, mut splits, mut zeroed, mut dropped, mut ranges_dropped) = (0, 0, 0, 0, 0);
    let (mut parts, mut passed) = (0, 0);
    for seed in 1..60 {
        let mut random = Random::new(seed);
        let mut world = World::new();
        let (memtables, mut version) = world.populate(&mut random);
        let last = world.last_seq();
        // Not everything is published; what is not may be seen by readers to come.
        let published = last - random.below(last / 4);
        let mut snapshots: Vec<SeqNo> = (0..random.below(4)).map(|_| random.below(published + 1)).collect();
        snapshots.sort_unstable();
        snapshots.dedup();
        for round in 0..3 {
            let from = random.below(LEVELS as u64 - 1) as usize;
            let to = from + 1 + random.below((LEVELS - 1 - from) as u64) as usize;
            let plan = plan(&version, from, to, 1500 + random.below(6000));
            let outcome = execute(&world, &plan, published, &snapshots, &|| false, 1 + seed as usize % 4).unwrap();
            zeroed += outcome.added.iter().filter(|(_, meta)| meta.entries > 0 && meta.seq_min == 0).count();
            version = apply(&version, outcome);
            let view = world.view(memtables.clone(), &version);
            let about = format!("seed {seed}, round {round}, {from} to {to}");
            for &visible in snapshots.iter().chain([&published, &((published + last) / 2), &last]) {
                check_view(&world, &view, visible, &mut random, &about);
            }
        }
        let counters = world.metrics.snapshot();
        parts += counters.compaction_splits;
        passed += counters.passed_blocks;
        cuts += counters.grandparent_cuts;
        splits += counters.range_tombstone_splits;
        dropped += counters.versions_dropped.min(counters.tombstones_dropped).min(counters.range_deleted_entries);
        ranges_dropped += counters.range_tombstones_dropped;
    }
    assert!(parts > 50 && passed > 50, "{parts} parts, {passed} passed blocks");
    assert!(cuts > 0 && splits > 0 && zeroed > 0 && dropped > 0 && ranges_dropped > 0);
}

/// Long values are stored again as they are, under every codec, where a table was written as the new one is; their
/// neighbours, older versions and tombstones are not in the way.
#[test]
fn blocks_of_long_values_pass() {
    use crate::options::{Codec, Compression};
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd { level: 3 }] {
        let mut world = World::new();
        world.options = world.options.compression(Compression::all(codec));
        let mut random = Random::new(11);
        for n in 0..200u64 {
            let text = (0..120).map(|_| ["lignite ", "coal ", "peat "][random.below(3) as usize]).collect::<String>();
            world.history.push(Op::Put(format!("key {:03}", n * 77 % 150).into_bytes(), text.into_bytes()));
        }
        world.history.push(Op::Delete(b"key 077".to_vec()));
        let lower = world.tables(1, 120, 3, usize::MAX);
        let upper = world.tables(120, world.last_seq() + 1, 0, usize::MAX);
        let version = Version::new().apply(&[lower, upper].concat(), &[]).unwrap();
        let newest = version.seq_max();
        for depth in [Depth::Bottom, Depth::Young] {
            let before = world.metrics.snapshot();
            let plan = Plan { depth, ..plan(&version, 0, 3, 64 << 10) };
            let outcome = execute(&world, &plan, newest, &[], &|| false, 1).unwrap();
            let passed = world.metrics.snapshot().passed_blocks - before.passed_blocks;
            assert!(passed > 50, "{codec} {depth:?}: {passed} blocks");
            let view = world.view(Vec::new(), &apply(&version, outcome));
            check_view(&world, &view, newest, &mut random, &format!("{codec}"));
        }
        // Under another codec nothing passes.
        let other = if codec == Codec::Lz4 { Codec::Snappy } else { Codec::Lz4 };
        world.options = world.options.clone().compression(Compression::all(other));
        let before = world.metrics.snapshot();
        let outcome = execute(&world, &plan(&version, 0, 3, 64 << 10), newest, &[], &|| false, 1).unwrap();
        assert_eq!(world.metrics.snapshot().passed_blocks, before.passed_blocks);
        check_view(&world, &world.view(Vec::new(), &apply(&version, outcome)), newest, &mut random, "other codec");
    }
}

/// The same tables, whether merged in one go or in parts, but for where they are cut.
#[test]
fn parts_add_up_to_the_whole() {
    let mut cut = 0;
    for seed in 100..130 {
        let mut random = Random::new(seed);
        let mut world = World::new();
        let (_, version) = world.populate(&mut random);
        let newest = version.seq_max();
        let snapshots = [newest / 2];
        let to = 1 + random.below(LEVELS as u64 - 1) as usize;
        let plan = plan(&version, 0, to, 1000 + random.below(3000));
        let content = |threads| {
            let before = world.metrics.snapshot();
            let outcome = execute(&world, &plan, newest, &snapshots, &|| false, threads).unwrap();
            let after = world.metrics.snapshot();
            let next = apply(&version, outcome);
            let mut entries = Vec::new();
            let mut tombstones = Vec::new();
            for file in &next.levels[to] {
                let table = world.tables.get(file, &world.family).unwrap();
                let mut cursor = table.cursor(crate::table::CursorOptions::default());
                cursor.seek_to_first().unwrap();
                while cursor.valid() {
                    entries.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
                    cursor.next().unwrap();
                }
                tombstones.extend(table.tombstones().to_tombstones());
            }
            let counted = after.versions_dropped + after.tombstones_dropped + after.range_deleted_entries
                - before.versions_dropped
                - before.tombstones_dropped
                - before.range_deleted_entries;
            // Tombstones that a cut has parted are one again.
            let joined = |from: &[u8], end: Option<&Vec<u8>>| end.is_some_and(|end| end == from);
            tombstones.sort_by(|a, b| (a.seq, &a.start).cmp(&(b.seq, &b.start)));
            tombstones.dedup_by(|b, a| {
                let follows = a.seq == b.seq && joined(&b.start, a.end.as_ref());
                if follows {
                    a.end.clone_from(&b.end);
                }
                follows
            });
            (after.compaction_splits - before.compaction_splits, (entries, tombstones, counted))
        };
        let (none, whole) = content(1);
        let (splits, together) = content(2 + seed as usize % 3);
        assert_eq!(none, 0);
        cut += u64::from(splits > 0);
        assert!(whole == together, "seed {seed}: the parts of {splits} splits differ from the whole");
    }
    assert!(cut > 10, "{cut}");
}

#[test]
fn the_bottom_keeps_only_what_is_alive() {
    let mut random = Random::new(3);
    let mut world = World::new();
    let (_, version) = world.populate(&mut random);
    let newest = version.seq_max();
    let outcome = execute(&world, &plan(&version, 0, LEVELS - 1, 1000), newest, &[], &|| false, 1).unwrap();
    assert!(outcome.added.len() > 1, "cut at the target size");
    let alive = world.oracle(newest).len() as u64;
    assert_eq!(outcome.added.iter().map(|(_, meta)| meta.entries).sum::<u64>(), alive);
    for (_, meta) in &outcome.added {
        assert_eq!((meta.deletes, meta.range_deletes, meta.seq_min, meta.seq_max), (0, 0, 0, 0), "{meta}");
    }
}

#[test]
fn moves_and_drops_touch_no_file() {
    let mut random = Random::new(4);
    let mut world = World::new();
    world.options.compression.bottom = crate::options::Codec::Zstd { level: 3 };
    let (_, version) = world.populate(&mut random);
    let files = world.fs.list(Path::new(DIR)).unwrap().len();
    let mut plan = plan(&version, 2, 3, 4000);
    plan.depth = Depth::Bottom;
    plan.trivial_move = true;
    plan.drop_only = vec![(4, version.levels[4][0].clone())];
    let outcome = execute(&world, &plan, 0, &[], &|| false, 1).unwrap();
    assert_eq!(outcome.added.len(), version.levels[2].len());
    assert!(outcome.added.iter().all(|(level, meta)| *level == 3 && meta.owes_codec), "it is LZ4 and should be zstd");
    assert_eq!(outcome.deleted.len(), version.levels[2].len() + 1);
    assert_eq!(world.fs.list(Path::new(DIR)).unwrap().len(), files);
    let counters = world.metrics.snapshot();
    assert_eq!((counters.trivial_moves, counters.tables_dropped), (version.levels[2].len() as u64, 1));
    apply(&version, outcome);
}

/// Whatever call fails, and when it is cancelled: no output stays, and the inputs do.
#[test]
fn failures_leave_no_outputs() {
    let memory = MemFs::new();
    memory.create_dir_all(Path::new(DIR)).unwrap();
    let (fs, control) = FaultFs::new(Arc::new(memory.clone()));
    let mut world = World::on(fs);
    let mut random = Random::new(9);
    let (memtables, version) = world.populate(&mut random);
    let before = memory.list(Path::new(DIR)).unwrap().len();
    let whole = plan(&version, 0, LEVELS - 1, 2000);
    let last = world.last_seq();
    let mut failed = 0;
    let parts = |skip: u64| if skip.is_multiple_of(2) { 1 } else { 3 };
    let error = Fault::Error(Errno::Eio);
    // A write that the device loses shows when the output is read back.
    for (kind, fault, expected) in [
        (CallKind::Create, error, ErrorKind::Io),
        (CallKind::Write, error, ErrorKind::Io),
        (CallKind::Write, Fault::Lost, ErrorKind::Corruption),
        (CallKind::Sync, error, ErrorKind::Io),
        (CallKind::SyncDir, error, ErrorKind::Poisoned),
        (CallKind::Read, error, ErrorKind::Io),
    ] {
        for skip in 0..4 {
            control.add(Rule::new(fault).kind(kind).skip(skip));
            let outcome = execute(&world, &whole, last, &[], &|| false, parts(skip));
            control.heal();
            match outcome {
                Err(e) => {
                    failed += 1;
                    assert_eq!(e.kind(), expected, "{kind:?} after {skip}: {e}");
                    assert_eq!(memory.list(Path::new(DIR)).unwrap().len(), before, "{kind:?} after {skip}");
                }
                Ok(outcome) => outcome.added.iter().for_each(|(_, meta)| {
                    let path = crate::filename::FileName::Table(meta.number).path(Path::new(DIR));
                    memory.remove_file(&path).unwrap();
                }),
            }
        }
    }
    assert!(failed >= 12, "{failed}");
    for threads in [1, 3] {
        let error = execute(&world, &whole, last, &[], &|| true, threads).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(memory.list(Path::new(DIR)).unwrap().len(), before);
    }
    check_view(&world, &world.view(memtables, &version), last, &mut random, "after failures");
}
