//! T2: crashes inside recovery, three deep.
//!
//! A unit is one workload. Some of the images that its crashes leave are opened, and before every
//! change that a recovery makes the disk is photographed again; so are some of those images in turn,
//! and again. Every image must open in a state that its ancestors allow (G2); once an open has
//! returned, what it has shown is the least that any later crash may leave (G3). Where only the
//! process died, the page cache lives on: recovery must not take what it reads there for durable
//! (G10).

use std::sync::{Arc, Mutex};

use super::crash::{Album, LOCK, Progress, Shot, calls_before, watch};
use super::{Kind, Tally};
use crate::checks;
use crate::disk::Disk;
use crate::ops;
use crate::oracle::Prefixes;
use crate::rng::Rng;
use crate::sim::Setup;
use crate::stage::{Workload, workload};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "recrash",
    id: "T2",
    about: "one workload, crashes inside recovery at every call, to depth 3",
    ci_units: 200,
    suite_units: 8,
    at_once: usize::MAX,
    ci_targets: &[("recovery_crash_states", 150_000)],
    long_targets: &[("recovery_crash_states", 5_000_000)],
    run,
}];

/// Longest random workload.
const OPS_MAX: u64 = 40;

/// How many recoveries of each depth are photographed.
const WIDTH: usize = 10;

/// The label of a crash that keeps the page cache: the process died, the machine goes on.
const CACHE_KEPT: u8 = 9;

/// A state with the crashes that led to it.
struct Node {
    shot: Shot,
    /// What was visible to the process, durable or not, for a crash of the process alone.
    visible: usize,
    story: Arc<str>,
}

fn run(unit: u64, tally: &mut Tally) {
    let workload = workload(unit, OPS_MAX);
    let states = Prefixes::of(&workload.ops);
    let mut rng = Rng::new(unit ^ 0x7ec4a5);
    let (roots, log) = roots(unit, &workload, &mut rng);
    let context = |node: &Node| {
        let before = calls_before(&log, node.shot.call);
        format!(
            "workload {unit} ({}){}\ncalls of the workload up to the crash, if it is the first:\n{before}history:\n{}",
            workload.name,
            node.story,
            ops::print(&workload.ops)
        )
    };
    // Images of the first crashes are T1's; those of recoveries count once over the whole unit.
    let mut album = Album::default();
    let mut level = roots;
    for depth in 1..=4 {
        let chosen = if depth == 4 { Vec::new() } else { choose(level.len(), WIDTH, &mut rng) };
        let mut next = Vec::new();
        for (i, node) in level.iter().enumerate() {
            let watched = chosen.contains(&i).then_some(&mut album);
            let seed = rng.next_u64();
            let deep = depth == 4 && node.shot.image.is_multiple_of(16);
            match recover(node, &workload, &states, seed, watched, deep) {
                Ok(shots) => next.extend(shots),
                Err(what) => panic!("{what}\n{}", context(node)),
            }
            if depth > 1 {
                tally.add("recovery_crash_states", node.shot.fresh.into());
            }
            tally.add("recrash_recoveries", 1);
        }
        level = next;
    }
}

/// Up to `n` different numbers below `len`.
fn choose(len: usize, n: usize, rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..len).collect();
    for i in 0..n.min(len) {
        let j = i + rng.below((len - i) as u64) as usize;
        all.swap(i, j);
    }
    all.truncate(n);
    all
}

/// Some of the images that crashes of the workload leave.
fn roots(unit: u64, workload: &Workload, rng: &mut Rng) -> (Vec<Node>, Vec<String>) {
    let disk = Disk::new();
    let film = Arc::new(Mutex::new((Album::default(), Vec::new())));
    let (camera, roll) = (disk.clone(), film.clone());
    let watched = watch(&disk, workload, move |call, progress| {
        let (album, deaths) = &mut *roll.lock().unwrap();
        album.shoot(&camera, call, unit, 1, progress);
        if call % 3 == 1 {
            deaths.push(death(&camera, call, progress.durable, progress.acked, progress.begun));
        }
    });
    let (_, log) = watched.unwrap_or_else(|e| panic!("workload {unit} ({}) fails: {e:?}", workload.name));
    let (album, mut deaths) = std::mem::take(&mut *film.lock().unwrap());
    let node =
        |shot: &Shot| Node { shot: shot.clone(), visible: shot.low, story: format!("; {}", shot.story()).into() };
    let mut nodes: Vec<Node> =
        choose(album.shots.len(), WIDTH - 4, rng).into_iter().map(|i| node(&album.shots[i])).collect();
    for i in choose(deaths.len(), 4, rng).into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().rev() {
        let (shot, visible) = deaths.swap_remove(i);
        let story = format!("; the process dies at call {}, {visible} were acknowledged", shot.call).into();
        nodes.push(Node { shot, visible, story });
    }
    (nodes, log)
}

/// The disk with everything that is not synced still in the cache.
fn death(disk: &Disk, call: u64, durable: usize, visible: usize, begun: usize) -> (Shot, usize) {
    let disk = disk.process_death();
    let image = disk.memory().image_hash(LOCK);
    let shot = Shot { call, policy: CACHE_KEPT, image, low: durable, high: begun, ..Shot::of(disk) };
    (shot, visible)
}

/// Opens what a crash left and compares it; gives what crashes inside this recovery would leave.
fn recover(
    node: &Node,
    workload: &Workload,
    states: &Prefixes,
    seed: u64,
    album: Option<&mut Album>,
    deep: bool,
) -> Result<Vec<Node>, String> {
    let Node { shot, visible, story } = node;
    let setup = Setup { seed, ..workload.setup(shot.disk.fs()) };
    let Some(album) = album else {
        let db = setup.open().map_err(|e| format!("it does not open: {e:?}"))?;
        states.find(&db, *visible, shot.high)?;
        if deep {
            checks::database(&db, &*setup.fs)?;
            checks::no_orphans(&db, &*setup.fs)?;
        }
        return Ok(Vec::new());
    };
    let faults = shot.disk.faults();
    let film = Arc::new(Mutex::new((std::mem::take(album), Vec::new())));
    let (camera, roll) = (shot.disk.clone(), film.clone());
    let inside = Progress { acked: *visible, durable: shot.low, begun: shot.high, ..Progress::default() };
    faults.control.set_hook(Some(Arc::new(move |call| {
        let (album, deaths) = &mut *roll.lock().unwrap();
        album.shoot(&camera, call.number, seed, 2, &inside);
        if call.number % 4 == 2 {
            deaths.push(death(&camera, call.number, inside.durable, inside.acked, inside.begun));
        }
    })));
    let opened = setup.on(faults.fs()).open();
    faults.control.set_hook(None);
    let (mut seen, mut deaths) = std::mem::take(&mut *film.lock().unwrap());
    let outcome = opened.map_err(|e| format!("it does not open: {e:?}")).and_then(|db| {
        let k = states.find(&db, *visible, shot.high)?;
        // The open has returned: this is what every later crash must leave.
        let shown = Progress { acked: k, durable: k, begun: k, ..Progress::default() };
        seen.shoot(&shot.disk, faults.control.counts().changes + 1, seed, 2, &shown);
        deaths.push(death(&shot.disk, faults.control.counts().changes + 1, k, k, k));
        Ok(())
    });
    let mut shots: Vec<(Shot, usize)> = seen.shots.drain(..).map(|s| (s.clone(), s.low)).collect();
    shots.extend(deaths.into_iter().map(|(mut s, visible)| {
        s.fresh = false; // The same bytes as under P1.
        (s, visible)
    }));
    *album = seen;
    outcome?;
    Ok(shots
        .into_iter()
        .map(|(shot, visible)| {
            let story = format!("{story}; recovery with seed {seed}: {}", shot.story()).into();
            Node { shot, visible, story }
        })
        .collect())
}
