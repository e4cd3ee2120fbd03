//! T1: crashes at every call of the file system.
//!
//! A unit is one workload. It runs once; before every change of the file system the disk is
//! photographed as each crash policy could leave it at that moment, together with how far the
//! workload had come. Then every image that differs is opened and compared with the history: it must
//! be state k for one k over all families (G2), at least the last operation that was acknowledged as
//! durable, or simply acknowledged where only the process died (G1). A sample is looked at closely:
//! opened a second time after everything not synced is lost (G3), checked down to every record, and
//! written to. Checkpoints whose call returned are opened as well (G7).

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lignite::{ErrorKind, Result};

use super::{Kind, Tally};
use crate::checks;
use crate::disk::{Disk, POLICIES, PROCESS_DEATH};
use crate::ops;
use crate::oracle::Prefixes;
use crate::rng::Rng;
use crate::sim::Setup;
use crate::stage::{Stage, Workload, workload};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "crash",
    id: "T1",
    about: "one workload, a crash at every call under every policy, recovery compared with its history",
    ci_units: 1400,
    suite_units: 12,
    at_once: usize::MAX,
    ci_targets: &[("crash_states", 300_000), ("crash_stores", 10_000)],
    long_targets: &[("crash_states", 10_000_000)],
    run,
}];

/// Longest random workload.
const OPS_MAX: u64 = 60;

/// The name of the file that says nothing about the data: it would make equal images differ.
pub(super) const LOCK: &str = "LOCK";

/// How far a workload has come. Numbers count operations.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub acked: usize,
    pub durable: usize,
    pub begun: usize,
    /// Checkpoints: where, and which states they may hold; begun ones, and true if the call returned.
    pub copies: Vec<(PathBuf, usize, usize, bool)>,
}

/// What a crash left, and what it may contain.
#[derive(Clone)]
pub(super) struct Shot {
    pub disk: Disk,
    pub call: u64,
    pub policy: u8,
    pub seed: u64,
    pub image: u64,
    /// The states that are allowed.
    pub low: usize,
    pub high: usize,
    /// True for the first shot of this image.
    pub fresh: bool,
    pub copies: Arc<Vec<(PathBuf, usize, usize, bool)>>,
}

impl Shot {
    /// A shot of this disk that says nothing yet.
    pub fn of(disk: Disk) -> Shot {
        Shot { disk, call: 0, policy: 0, seed: 0, image: 0, low: 0, high: 0, fresh: false, copies: Arc::default() }
    }

    pub fn story(&self) -> String {
        format!(
            "crash at call {}, policy P{}, crash seed {}, states {}..={} are allowed",
            self.call, self.policy, self.seed, self.low, self.high
        )
    }
}

/// Takes pictures of a disk and keeps those that differ.
#[derive(Default)]
pub(super) struct Album {
    pub shots: Vec<Shot>,
    images: HashSet<u64>,
    examined: HashSet<(u64, usize, usize, usize)>,
}

impl Album {
    /// Crashes the disk under every policy, those that roll dice `dice` times.
    pub fn shoot(&mut self, disk: &Disk, call: u64, seed: u64, dice: u64, progress: &Progress) {
        let copies = Arc::new(progress.copies.clone());
        for policy in 0..POLICIES {
            let low = if policy == PROCESS_DEATH { progress.acked } else { progress.durable };
            let rolls = if matches!(policy, 0 | 1 | 6) { 1 } else { dice };
            for roll in 0..rolls {
                let seed = Rng::new(seed ^ (call << 24 | u64::from(policy) << 16 | roll)).next_u64();
                let disk = disk.crash(policy, seed);
                let image = disk.memory().image_hash(LOCK);
                let done = copies.iter().filter(|c| c.3).count();
                let fresh = self.images.insert(image);
                if self.examined.insert((image, low, progress.begun, done)) {
                    let copies = copies.clone();
                    self.shots.push(Shot { disk, call, policy, seed, image, low, high: progress.begun, fresh, copies });
                }
            }
        }
    }
}

/// Runs a workload to its end, calling `at` before every change with its number and the progress.
/// Gives how many calls there were and what was called.
pub(super) fn watch(
    disk: &Disk,
    workload: &Workload,
    at: impl Fn(u64, &Progress) + Send + Sync + 'static,
) -> Result<(u64, Vec<String>)> {
    let faults = disk.faults();
    let progress = Arc::new(Mutex::new(Progress::default()));
    let at = Arc::new(at);
    let (hook, seen) = (at.clone(), progress.clone());
    faults.control.set_hook(Some(Arc::new(move |call| {
        let progress = seen.lock().unwrap().clone();
        hook(call.number, &progress);
    })));
    let update = |change: &dyn Fn(&mut Progress)| change(&mut progress.lock().unwrap());
    let mut stage = Stage::open(workload.setup(faults.fs()))?;
    for (i, op) in workload.ops.iter().enumerate() {
        let changes = stage.world.changes(op);
        let durable = stage.world.makes_durable(op);
        let copy = matches!(op, ops::Op::Checkpoint).then(|| Stage::copy_dir(stage.copies + 1));
        update(&|p| {
            p.begun = if changes { i + 1 } else { p.begun.max(i) };
            p.copies.extend(copy.clone().map(|dir| (dir, i, i, false)));
        });
        stage.step(op)?;
        update(&|p| {
            p.begun = i + 1;
            p.acked = i + 1;
            p.durable = if durable { i + 1 } else { p.durable };
            if let Some(copy) = p.copies.last_mut().filter(|_| copy.is_some()) {
                copy.3 = true;
            }
        });
    }
    stage.close()?;
    update(&|p| p.durable = p.acked);
    let calls = faults.control.counts().changes;
    at(calls + 1, &progress.lock().unwrap());
    faults.control.set_hook(None);
    let log = faults.control.take_log().into_iter().filter(|c| c.kind.is_change());
    Ok((
        calls,
        log.map(|c| format!("  {} {:?} {} at {} len {}\n", c.number, c.kind, c.name, c.offset, c.len)).collect(),
    ))
}

/// The last calls before one, for a person.
pub(super) fn calls_before(log: &[String], call: u64) -> String {
    let end = (call as usize).min(log.len());
    log[end.saturating_sub(14)..end].concat()
}

fn run(unit: u64, tally: &mut Tally) {
    let workload = workload(unit, OPS_MAX);
    let disk = Disk::new();
    let album = Arc::new(Mutex::new(Album::default()));
    let (camera, film) = (disk.clone(), album.clone());
    let dice = 3;
    let watched = watch(&disk, &workload, move |call, progress| {
        film.lock().unwrap().shoot(&camera, call, unit, dice, progress);
    });
    let name = &workload.name;
    let (calls, log) = watched.unwrap_or_else(|e| panic!("workload {unit} ({name}) fails without a fault: {e:?}"));
    let shots = std::mem::take(&mut album.lock().unwrap().shots);
    let states = Prefixes::of(&workload.ops);
    tally.add("crash_calls", calls);
    let stores = log.iter().filter(|call| call.contains(" Store ")).count() as u64;
    tally.add("crash_stores", stores);
    for shot in &shots {
        if let Err(what) = examine(shot, &workload, &states) {
            let story = shot.story();
            let before = calls_before(&log, shot.call);
            let history = ops::print(&workload.ops);
            panic!("workload {unit} ({name}), {story}: {what}\ncalls up to the crash:\n{before}history:\n{history}");
        }
        tally.add("crash_states", shot.fresh.into());
        tally.add("crash_recoveries", 1);
    }
}

fn examine(shot: &Shot, workload: &Workload, states: &Prefixes) -> std::result::Result<(), String> {
    let setup = workload.setup(shot.disk.fs());
    let setup = Setup { seed: shot.seed, ..setup };
    let db = setup.open().map_err(|e| format!("it does not open: {e:?}"))?;
    let k = states.find(&db, shot.low, shot.high)?;
    for (dir, low, high, done) in shot.copies.iter() {
        examine_copy(&setup, dir, *done, states, *low, *high)
            .map_err(|e| format!("the checkpoint {}: {e}", dir.display()))?;
    }
    let sample = shot.image >> 8;
    if sample.is_multiple_of(16) {
        checks::database(&db, &*setup.fs)?;
        checks::no_orphans(&db, &*setup.fs)?;
    }
    if sample % 8 == 1 {
        // The power goes again at once, and nothing that was not synced is kept.
        let again = setup.on(shot.disk.crash(0, shot.seed).fs());
        drop(db);
        let db = again.open().map_err(|e| format!("it does not open after a second crash: {e:?}"))?;
        states.find(&db, k, k).map_err(|e| format!("after a second crash: {e}"))?;
    } else if sample % 16 == 2 {
        // Life goes on: a durable write behind a torn tail is there after the next crash.
        db.put("zz", "after").and_then(|_| db.sync()).map_err(|e| format!("it cannot be written to: {e:?}"))?;
        let policy = (shot.seed % u64::from(POLICIES)) as u8;
        let third = setup.on(shot.disk.crash(policy, shot.seed).fs());
        drop(db);
        let db = third.open().map_err(|e| format!("it does not open after a write and a crash: {e:?}"))?;
        let found = db.get("zz").map_err(|e| format!("{e:?}"))?;
        if found.as_deref() != Some(b"after") {
            return Err("a durable write after a recovery is gone".to_string());
        }
        db.delete("zz").map_err(|e| format!("{e:?}"))?;
        states.find(&db, k, k).map_err(|e| format!("after a write and a crash: {e}"))?;
        db.close().map_err(|e| format!("it does not close: {e:?}"))?;
        let db = third.open().map_err(|e| format!("it does not open after a close: {e:?}"))?;
        states.find(&db, k, k).map_err(|e| format!("after a close: {e}"))?;
    }
    Ok(())
}

/// A checkpoint that was begun may be unusable; one that opens is right, and one whose call returned
/// opens.
fn examine_copy(
    setup: &Setup,
    dir: &std::path::Path,
    done: bool,
    states: &Prefixes,
    low: usize,
    high: usize,
) -> std::result::Result<(), String> {
    let options = setup.options.clone().create_if_missing(false);
    let copy = Setup { dir: dir.to_path_buf(), options, ..setup.clone() };
    match copy.open() {
        Ok(db) => states.find(&db, low, high).map(drop),
        Err(e) if !done && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corruption) => Ok(()),
        Err(e) => Err(format!("it does not open: {e:?}")),
    }
}
