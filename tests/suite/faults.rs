//! Calls of the file system that fail once.
//!
//! The story: a program writes to two column families; one call fails with an input/output error or
//! a full disk, or writes in part and then fails, and the device works again from then on. The
//! program carries on. No write that was acknowledged may be lost, no batch may be there in part,
//! and a write that failed is wholly there or wholly absent, absent for certain when the disk was
//! full (G4). A read that fails says so, and the next one works (G8).

use lignite::ErrorKind;
use lignite_tests::disk::{CHANGE_FAULTS, Disk, Faults, look_fails};
use lignite_tests::model::{Content, difference};
use lignite_tests::ops::Op;
use lignite_tests::rng::{base_seed, scale};
use lignite_tests::sim::{Expected, Failure, Machine, Setup, content};

use crate::crash::{makes_durable, small, workload};

/// What the database may contain: one world for every way in which the failed writes may have gone.
#[derive(Clone)]
struct Worlds(Vec<Expected>);

impl Worlds {
    fn acked(&mut self, op: &Op) {
        for world in &mut self.0 {
            world.apply(op);
        }
    }

    fn indeterminate(&mut self, op: &Op) {
        let mut other = self.clone();
        other.acked(op);
        self.0.extend(other.0);
    }

    fn find(&self, content: &Content) -> Result<(), String> {
        let mut first = None;
        for world in &self.0 {
            match difference(&world.model.content(), content) {
                None => return Ok(()),
                Some(difference) => drop(first.get_or_insert(difference)),
            }
        }
        Err(format!("none of {} possible contents; the first differs: {}", self.0.len(), first.unwrap_or_default()))
    }
}

struct Run {
    machine: Option<Machine>,
    worlds: Worlds,
    /// What is allowed after a loss of power: everything from the last durable state on.
    since_durable: Vec<Worlds>,
    failures: Vec<String>,
}

/// Runs the workload, going on after errors, and leaves the database open.
fn run(setup: Setup, ops: &[Op]) -> Result<Run, String> {
    let fresh = Worlds(vec![Expected::default()]);
    let mut run = Run { machine: None, worlds: fresh.clone(), since_durable: vec![fresh], failures: Vec::new() };
    let machine = match Machine::new(setup.clone()) {
        Ok(machine) => machine,
        Err(e) => {
            run.failures.push(format!("open: {e}"));
            // The fault is over: it opens now.
            Machine::new(setup).map_err(|e| format!("the second open: {e}"))?
        }
    };
    let machine = run.machine.insert(machine);
    for (i, op) in ops.iter().enumerate() {
        if matches!(op, Op::Reopen(..)) {
            continue;
        }
        let changes = Expected::changes(op);
        let refused = machine.db().health().poisoned.is_some();
        match machine.step(op) {
            Ok(()) => {
                if refused && changes && touches(machine, op) {
                    return Err(format!("operation {i} ({op}) was acknowledged by a poisoned handle"));
                }
                run.worlds.acked(op);
                if makes_durable(op) && (touches(machine, op) || *op == Op::Sync) {
                    run.since_durable.clear();
                }
            }
            Err(Failure::Wrong(what)) => return Err(format!("operation {i} ({op}): {what}; {:?}", run.failures)),
            Err(Failure::Engine(error)) => {
                run.failures.push(format!("operation {i} ({op}): {error:?}"));
                match error.kind() {
                    // Certainly absent.
                    ErrorKind::NoSpace | ErrorKind::Stalled => {}
                    // A handle that was poisoned before refuses without doing anything.
                    ErrorKind::Io | ErrorKind::Poisoned | ErrorKind::Background if changes && !refused => {
                        run.worlds.indeterminate(op);
                    }
                    ErrorKind::Io | ErrorKind::Poisoned | ErrorKind::Background => {}
                    kind => return Err(format!("operation {i} ({op}) failed with {kind:?}: {error:?}")),
                }
                // Which of the worlds it is, the database itself says.
                let found = content(machine.db()).or_else(|_| content(machine.db()));
                let found = found.map_err(|e| format!("a read after the fault fails twice: {e:?}"))?;
                run.worlds.find(&found).map_err(|e| format!("visible after operation {i}: {e}; {:?}", run.failures))?;
                let visible = run.worlds.0.iter().find(|w| w.model.content() == found);
                machine.expected = visible.expect("it was found").clone();
                machine.take_families().expect("the families that are visible can be had");
                // What later operations write to is what this handle sees.
                for world in &mut run.worlds.0 {
                    world.slots = machine.expected.slots;
                }
            }
        }
        run.since_durable.push(run.worlds.clone());
        if run.worlds.0.len() > 64 {
            return Err(format!("too many writes failed: {:?}", run.failures));
        }
    }
    let found = content(machine.db()).or_else(|_| content(machine.db())).map_err(|e| format!("{e:?}"))?;
    run.worlds.find(&found).map_err(|e| format!("visible at the end: {e}; {:?}", run.failures))?;
    Ok(run)
}

/// True if the operation has something to write.
fn touches(machine: &Machine, op: &Op) -> bool {
    match op {
        Op::Write(slot, ..) => machine.family(*slot).is_some(),
        Op::Ingest(slot, _) => machine.family(*slot).is_some(),
        Op::Batch(writes, _) => writes.iter().any(|(slot, _)| machine.family(*slot).is_some()),
        _ => false,
    }
}

fn examine(disk: &Disk, faults: &Faults) -> Result<(), String> {
    let seed = base_seed();
    let ops = workload(seed);
    let setup = Setup { options: small(), ..Setup::new(faults.fs(), seed) };
    let mut out = run(setup.clone(), &ops)?;
    // The power goes: everything acknowledged as durable is there.
    let crashed = disk.crash(0, seed);
    let db = setup.on(crashed.fs()).open().map_err(|e| format!("after the loss of power it does not open: {e:?}"))?;
    let found = content(&db).map_err(|e| format!("{e:?}"))?;
    if !out.since_durable.iter().any(|worlds| worlds.find(&found).is_ok()) {
        let last = out.since_durable.last().unwrap().find(&found).unwrap_err();
        return Err(format!("after the loss of power: no allowed state; the last: {last}; {:?}", out.failures));
    }
    drop(db);
    // The process ends: everything acknowledged is there.
    let dead = disk.crash(1, seed);
    let db = setup.on(dead.fs()).open().map_err(|e| format!("after the end of the process it does not open: {e:?}"))?;
    let found = content(&db).map_err(|e| format!("{e:?}"))?;
    out.worlds.find(&found).map_err(|e| format!("after the end of the process: {e}; {:?}", out.failures))?;
    drop(db);
    // The handle is dropped and the database opened again; and it works.
    if let Some(machine) = &mut out.machine {
        machine.abandon();
    }
    let db = setup.on(disk.fs()).open().map_err(|e| format!("it does not open again: {e:?}; {:?}", out.failures))?;
    let found = content(&db).map_err(|e| format!("{e:?}"))?;
    out.worlds.find(&found).map_err(|e| format!("after reopening: {e}; {:?}", out.failures))?;
    db.put("again", "yes").and_then(|_| db.sync()).map_err(|e| format!("it stays broken: {e:?}"))?;
    db.close().map_err(|e| format!("it does not close: {e:?}"))
}

/// Every so manieth call fails, each kind of fault at other ones, all of them at scale.
fn step() -> usize {
    if scale() > 1.0 { 1 } else { 2 }
}

#[test]
fn every_change_fails_once() {
    for (first, fault) in CHANGE_FAULTS.into_iter().enumerate() {
        let mut runs = 0;
        for n in (first as u64 + 1..).step_by(step()) {
            let disk = Disk::new();
            let faults = disk.faults();
            faults.control.fail_change(n, fault);
            let outcome = examine(&disk, &faults);
            if let Err(what) = outcome {
                panic!("change {n} fails once with {fault:?} (seed {}): {what}\n{}", base_seed(), faults.failures());
            }
            if faults.control.counts().changes < n {
                break;
            }
            runs += 1;
        }
        println!("{fault:?}: {runs} runs");
        assert!(runs * step() > 200, "only {runs} runs");
    }
}

#[test]
fn every_look_fails_once() {
    let mut runs = 0;
    for n in (0..).step_by(step() * 2) {
        let disk = Disk::new();
        let faults = disk.faults();
        faults.control.add(look_fails(n));
        if let Err(what) = examine(&disk, &faults) {
            panic!("look {n} fails once (seed {}): {what}\n{}", base_seed(), faults.failures());
        }
        if faults.control.counts().looks < n {
            break;
        }
        runs += 1;
    }
    println!("{runs} runs");
    assert!(runs > 15, "only {runs} runs");
}
