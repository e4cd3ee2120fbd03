//! Power cuts and killed processes at every call of the file system.
//!
//! The story of every test here: a program writes to two column families. At call n of the file
//! system the machine stops. What the disk then holds is up to the policy: only what was synced, all
//! of it, or any mixture that POSIX permits, torn at 512 bytes. The program starts again. It must
//! find state k of its history for one k over all families together (G2), with k at least the last
//! write that was acknowledged as durable; and whatever it found it must find again, whatever
//! happens next (G3).

use std::collections::HashMap;

use lignite::{Db, Options};
use lignite_tests::checks;
use lignite_tests::disk::{Disk, POLICIES, PROCESS_DEATH};
use lignite_tests::model::{Content, difference, fingerprint};
use lignite_tests::ops::{self, Op, Value, Write};
use lignite_tests::rng::{Rng, base_seed, scaled};
use lignite_tests::sim::{Expected, Failure, Machine, Setup, content};

/// Everything a history may leave behind: state 0 is the empty database.
struct States {
    contents: Vec<Content>,
    by_print: HashMap<u64, Vec<usize>>,
}

impl States {
    fn of(ops: &[Op]) -> States {
        let mut expected = Expected::default();
        let mut contents = vec![expected.model.content()];
        for op in ops.iter().filter(|op| Expected::changes(op)) {
            expected.apply(op);
            contents.push(expected.model.content());
        }
        let mut by_print: HashMap<u64, Vec<usize>> = HashMap::new();
        for (k, content) in contents.iter().enumerate() {
            by_print.entry(fingerprint(content)).or_default().push(k);
        }
        States { contents, by_print }
    }

    /// The smallest k within the range whose state this is.
    fn find(&self, content: &Content, low: usize, high: usize) -> Result<usize, String> {
        let found = self.by_print.get(&fingerprint(content)).map(Vec::as_slice).unwrap_or_default();
        if let Some(k) = found.iter().find(|k| (low..=high).contains(*k)) {
            return Ok(*k);
        }
        if let Some(k) = found.first() {
            return Err(format!("state {k} was found, allowed are {low}..={high}"));
        }
        // Which state is it nearest to?
        let nearest = (low..=high)
            .map(|k| (k, difference(&self.contents[k], content).unwrap_or_default()))
            .min_by_key(|(_, d)| d.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(u64::MAX));
        let (k, difference) = nearest.unwrap_or_default();
        Err(format!("no state of the history; compared with state {k} of {low}..={high}: {difference}"))
    }
}

/// How far a run came before the machine stopped.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// States whose operations were acknowledged.
    acked: usize,
    /// States that were acknowledged as durable.
    durable: usize,
    /// States that were begun.
    begun: usize,
    finished: bool,
}

/// Runs a history until its end or until the first error.
fn run(setup: Setup, ops: &[Op]) -> Progress {
    let mut progress = Progress::default();
    let mut machine = match Machine::new(setup) {
        Ok(machine) => machine,
        Err(Failure::Engine(_)) => return progress,
        Err(Failure::Wrong(what)) => panic!("{what}"),
    };
    for op in ops {
        let changes = Expected::changes(op);
        progress.begun += usize::from(changes);
        match machine.step(op) {
            Ok(()) => progress.acked = progress.begun,
            Err(Failure::Engine(_)) => {
                machine.abandon();
                return progress;
            }
            Err(Failure::Wrong(what)) => panic!("{op}: {what}"),
        }
        if makes_durable(op) {
            progress.durable = progress.acked;
        }
    }
    progress.finished = machine.db().clone().close().is_ok();
    if progress.finished {
        progress.durable = progress.acked;
    }
    machine.abandon();
    progress
}

/// True if an acknowledgement of the operation says that it and everything before it is durable.
pub(crate) fn makes_durable(op: &Op) -> bool {
    matches!(
        op,
        Op::Write(.., true)
            | Op::Batch(_, true)
            | Op::Sync
            | Op::Create(..)
            | Op::Drop(..)
            | Op::Rename(..)
            | Op::Reopen(_, false)
    ) || matches!(op, Op::Ingest(_, records) if !records.is_empty())
}

/// A hundred operations over two families, among them every kind that changes anything.
pub(crate) fn workload(seed: u64) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut ops = vec![Op::Create(1, seed % 1000)];
    let key = |rng: &mut Rng| format!("key{:03}", rng.below(60)).into_bytes();
    let value = |rng: &mut Rng| {
        let len = if rng.chance(10) { rng.within(2000, 6000) } else { rng.below(400) };
        Value { seed: rng.next_u64() as u32, len: len as u32 }
    };
    let change = |rng: &mut Rng| match rng.below(10) {
        0..7 => Write::Put(key(rng), value(rng)),
        7..9 => Write::Delete(key(rng)),
        _ => {
            let from = rng.below(60);
            let range = |n: u64| std::ops::Bound::Included(format!("key{n:03}").into_bytes());
            Write::DeleteRange((range(from), range(from + rng.below(8))))
        }
    };
    while ops.len() < 97 {
        let family = rng.below(2) as u8;
        let sync = rng.chance(20);
        ops.push(match rng.below(100) {
            0..55 => Op::Write(family, change(&mut rng), sync),
            55..75 => Op::Batch((0..rng.within(1, 6)).map(|i| (i as u8 % 2, change(&mut rng))).collect(), sync),
            75..79 => Op::Sync,
            79..85 => Op::Flush(family),
            85..89 => Op::Compact(family, (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)),
            89..92 => {
                let from = rng.below(50);
                let records = from..from + rng.within(1, 9);
                Op::Ingest(family, records.map(|n| (format!("key{n:03}").into_bytes(), value(&mut rng))).collect())
            }
            92..94 => Op::SetOptions(family, rng.next_u64()),
            94..96 => Op::Rename(1, rng.below(50)),
            _ => Op::Reopen(rng.next_u64(), rng.chance(50)),
        });
    }
    // A family comes and goes as well.
    ops.insert(40, Op::Create(2, 5));
    ops.insert(45, Op::Write(2, Write::Put(b"short".to_vec(), Value { seed: 1, len: 90 }), false));
    ops.insert(60, Op::Drop(2));
    ops
}

/// Small log segments and memtables, so that a hundred operations cross every border.
pub(crate) fn small() -> Options {
    Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(std::time::Duration::ZERO)
        .memory_budget(1 << 20)
        .memtable_size(16 << 10)
        .log_segment_size(16 << 10)
        .log_size_max(32 << 10)
}

fn setup(disk: &Disk, seed: u64) -> Setup {
    Setup { options: small(), ..Setup::new(disk.fs(), seed) }
}

/// Opens what a crash left and checks it; gives back the database and the state it is in.
fn open_after(disk: &Disk, seed: u64, states: &States, low: usize, high: usize) -> Result<(Db, usize), String> {
    let db = setup(disk, seed).open().map_err(|e| format!("it does not open: {e:?}"))?;
    let found = content(&db).map_err(|e| format!("it cannot be read: {e:?}"))?;
    let k = states.find(&found, low, high)?;
    Ok((db, k))
}

/// The whole examination of one crash.
fn examine(disk: &Disk, policy: u8, seed: u64, states: &States, progress: Progress, deep: bool) -> Result<(), String> {
    let low = if policy == PROCESS_DEATH { progress.acked } else { progress.durable };
    let high = progress.begun;
    let crashed = disk.crash(policy, seed);
    let (db, k) = open_after(&crashed, seed, states, low, high)?;
    if deep {
        checks::database(&db, &*crashed.fs())?;
        checks::no_orphans(&db, &*crashed.fs())?;
    }
    // The power goes again at once, and nothing that was not synced is kept.
    let again = crashed.crash(0, seed);
    drop(db);
    let (db, _) = open_after(&again, seed, states, k, k).map_err(|e| format!("after the second crash: {e}"))?;
    if deep {
        // Life goes on: a durable write behind a torn tail is there after the next crash.
        db.put("zz", "after").map_err(|e| e.to_string())?;
        db.sync().map_err(|e| e.to_string())?;
        let third = again.crash((seed % POLICIES as u64) as u8, seed);
        drop(db);
        let db = setup(&third, seed).open().map_err(|e| format!("after the third crash: {e:?}"))?;
        let mut found = content(&db).map_err(|e| e.to_string())?;
        let new = found.get_mut("default").and_then(|records| records.remove(&b"zz"[..]));
        if new.as_deref() != Some(b"after") {
            return Err("a durable write after a recovery is gone".to_string());
        }
        states.find(&found, k, k).map_err(|e| format!("after the third crash: {e}"))?;
    }
    Ok(())
}

/// The machine stops at call n of the workload, for every n, and the disk keeps what each policy
/// says.
#[test]
fn the_machine_stops_at_every_call() {
    for n in 0..scaled(3) {
        stop_at_every_call(base_seed() + n);
    }
}

fn stop_at_every_call(seed: u64) {
    let ops = workload(seed);
    let states = States::of(&ops);
    let mut examined = 0;
    for n in 1.. {
        let disk = Disk::new();
        let faults = disk.faults();
        faults.control.stop_at(n);
        let progress = run(setup(&disk, seed).on(faults.fs()), &ops);
        for policy in 0..POLICIES {
            // A different mixture at every call.
            let crash_seed = seed.wrapping_mul(1_000_003).wrapping_add(n * 8 + u64::from(policy));
            let deep = (n + u64::from(policy)).is_multiple_of(9);
            if let Err(what) = examine(&disk, policy, crash_seed, &states, progress, deep) {
                panic!(
                    "workload seed {seed}, stopped at call {n}, policy P{policy}, crash seed {crash_seed}, \
                     {progress:?}: {what}\ncalls before the stop:\n{}\nhistory:\n{}",
                    faults.trace(12),
                    ops::print(&ops)
                );
            }
            examined += 1;
        }
        if progress.finished {
            println!("{n} calls, {examined} crashes examined");
            assert!(n > 300, "the workload makes only {n} calls");
            return;
        }
    }
}

/// The machine stops, starts, and stops again inside the recovery, three times over, at random
/// calls. Each recovery may end anywhere within the allowed states, and the last one that was
/// completed decides for ever.
#[test]
fn the_machine_stops_again_while_it_recovers() {
    let base = base_seed();
    for round in 0..scaled(400) {
        let seed = base.wrapping_mul(7919).wrapping_add(round);
        let mut rng = Rng::new(seed);
        let ops = workload(seed % 16);
        let states = States::of(&ops);
        let mut disk = Disk::new();
        let faults = disk.faults();
        let stop = rng.within(1, 700);
        faults.control.stop_at(stop);
        let progress = run(setup(&disk, seed).on(faults.fs()), &ops);
        let (mut low, high) = (progress.durable, progress.begun);
        let mut story = format!("seed {seed}, workload {}, stopped at call {stop}, {progress:?}", seed % 16);
        for depth in 0..3 {
            let policy = rng.below(u64::from(POLICIES)) as u8;
            let crash_seed = rng.next_u64();
            if policy == PROCESS_DEATH && depth == 0 {
                low = progress.acked;
            }
            disk = disk.crash(policy, crash_seed);
            let faults = disk.faults();
            let stop = rng.within(1, 60);
            faults.control.stop_at(stop);
            story.push_str(&format!("; crash P{policy} seed {crash_seed}, recovery stopped at call {stop}"));
            let opened = setup(&disk, crash_seed).on(faults.fs()).open();
            if let Ok(db) = opened {
                // Reading does not write: the content is what the open exposed.
                if let Ok(found) = content(&db) {
                    low = states.find(&found, low, high).unwrap_or_else(|e| panic!("{story}: {e}"));
                }
            }
        }
        let policy = rng.below(u64::from(POLICIES)) as u8;
        let last = disk.crash(policy, seed);
        story.push_str(&format!("; crash P{policy} seed {seed}"));
        let (db, k) = open_after(&last, seed, &states, low, high).unwrap_or_else(|e| panic!("{story}: {e}"));
        checks::no_orphans(&db, &*last.fs()).unwrap_or_else(|e| panic!("{story}: {e}"));
        drop(db);
        open_after(&last, seed, &states, k, k).unwrap_or_else(|e| panic!("{story}: reopened: {e}"));
    }
}

/// The machine stops while a database is made, at every call: the next open makes it or finds it
/// empty, and it works.
#[test]
fn the_machine_stops_while_a_database_is_made() {
    for n in 1.. {
        let disk = Disk::new();
        let faults = disk.faults();
        faults.control.stop_at(n);
        let opened = setup(&disk, 1).on(faults.fs()).open();
        let made = opened.is_ok();
        for policy in 0..POLICIES {
            for seed in 0..8 {
                let crashed = disk.crash(policy, seed);
                let story = format!("stopped at call {n}, policy P{policy}, seed {seed}");
                let db = setup(&crashed, 2).open().unwrap_or_else(|e| panic!("{story}: {e:?}"));
                db.put("a", "1").unwrap();
                db.sync().unwrap();
                let crashed = crashed.crash(0, seed);
                drop(db);
                let db = setup(&crashed, 3).open().unwrap_or_else(|e| panic!("{story}, second open: {e:?}"));
                assert_eq!(db.get("a").unwrap().unwrap(), b"1", "{story}");
            }
        }
        drop(opened);
        if made {
            assert!(n > 8, "a database is made in {n} calls");
            return;
        }
    }
}
