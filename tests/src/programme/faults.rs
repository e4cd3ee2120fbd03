//! T3 and T4: a fault at every call of the file system, and what comes after it.
//!
//! A unit is one workload and one way of failing. The workload runs once for every call that can fail
//! so: call 1 fails, then call 2, and so on until no call is left. After the operation that met the
//! fault the disk is copied: one copy is opened as a new process would (G8, G10), others are what the
//! crash policies leave; the original carries on to its end and is looked at again.
//!
//! A write that was acknowledged is there; one that failed is wholly there or wholly absent, absent
//! for certain when the disk was full (G4, G12). A read that fails says so and works the next time
//! (G8). After a failed sync of log, manifest or directory no later write is acknowledged, nothing is
//! synced again that failed, and reads go on (G9). A device that lies (lost writes, writes in the
//! wrong place, syncs that did nothing, wrong bytes read) can lose what was acknowledged; what is then
//! found is a state of the history or a refusal, never anything else (G15, G20).

use std::collections::HashSet;

use lignite::internals::fs::fault::{Call, CallKind, Errno, Fault, Rule};
use lignite::internals::fs::mem::SyncFailure;
use lignite::{Db, Error, ErrorKind};

use super::crash::LOCK;
use super::{Kind, Tally};
use crate::disk::{Disk, Faults, POLICIES, PROCESS_DEATH};
use crate::model;
use crate::ops::{self, Op};
use crate::oracle::{World, hash_database};
use crate::rng::Rng;
use crate::sim::{Setup, content};
use crate::stage::{FIXED, Stage, Workload, workload};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "faults",
    id: "T3",
    about: "one workload, one way of failing at every call, then carrying on, reopening or a crash (T4: syncs)",
    ci_units: 20 * MODES.len() as u64,
    suite_units: MODES.len() as u64,
    at_once: usize::MAX,
    ci_targets: &[("fault_states", 200_000), ("failed_sync_states", 5_000)],
    long_targets: &[("fault_states", 7_000_000)],
    run,
}];

/// Longest random workload.
const OPS_MAX: u64 = 24;

/// A way of failing.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// One change fails.
    Change(Fault),
    /// One write fails.
    Write(Fault),
    /// Every change fails from some call on, until three operations later.
    Changes(Errno),
    /// One call that changes nothing fails.
    Look(Fault),
    /// Every call that changes nothing fails from some call on, until three operations later.
    Looks(Errno),
    /// One sync of a file or directory fails.
    Sync(SyncFailure),
    /// One sync of a file reports success and does nothing.
    LostSync,
}

const MODES: &[Mode] = &[
    Mode::Change(Fault::Error(Errno::Eio)),
    Mode::Change(Fault::Error(Errno::Enospc)),
    Mode::Change(Fault::Error(Errno::Edquot)),
    Mode::Change(Fault::Error(Errno::Efbig)),
    Mode::Change(Fault::Error(Errno::Emfile)),
    Mode::Change(Fault::Error(Errno::Erofs)),
    Mode::Change(Fault::Error(Errno::Eacces)),
    Mode::Change(Fault::Error(Errno::Eintr)),
    Mode::Changes(Errno::Eio),
    Mode::Changes(Errno::Enospc),
    Mode::Changes(Errno::Erofs),
    Mode::Sync(SyncFailure::PagesClean),
    Mode::Sync(SyncFailure::CacheReverts),
    Mode::Sync(SyncFailure::Sticky),
    Mode::Write(Fault::ShortWrite { keep: 1, error: Errno::Enospc }),
    Mode::Write(Fault::ShortWrite { keep: 21, error: Errno::Enospc }),
    Mode::Write(Fault::ShortWrite { keep: 21, error: Errno::Eio }),
    Mode::Write(Fault::ShortWrite { keep: 512, error: Errno::Eio }),
    Mode::Write(Fault::ShortWrite { keep: usize::MAX, error: Errno::Eio }),
    Mode::Write(Fault::TornWrite(Errno::Eio)),
    Mode::Write(Fault::TornWrite(Errno::Enospc)),
    Mode::Write(Fault::Lost),
    Mode::Write(Fault::Misdirected(512)),
    Mode::Write(Fault::Misdirected(4096)),
    Mode::LostSync,
    Mode::Look(Fault::Error(Errno::Eio)),
    Mode::Look(Fault::Error(Errno::Emfile)),
    Mode::Look(Fault::Error(Errno::Eacces)),
    Mode::Look(Fault::Error(Errno::Eintr)),
    Mode::Looks(Errno::Eio),
    Mode::Looks(Errno::Emfile),
    Mode::Look(Fault::WrongRead),
    Mode::Look(Fault::Misdirected(512)),
    Mode::Look(Fault::ShortRead(5)),
];

impl Mode {
    /// Lets call `n` (from 0) of those that can fail this way fail.
    fn plan(self, n: u64, disk: &Disk, faults: &Faults) {
        let mut rule = match self {
            Mode::Change(fault) | Mode::Write(fault) | Mode::Look(fault) => Rule::new(fault).skip(n),
            Mode::Changes(errno) | Mode::Looks(errno) => Rule::new(Fault::Error(errno)).skip(n).sticky(),
            Mode::LostSync => Rule::new(Fault::Lost).kind(CallKind::Sync).skip(n),
            Mode::Sync(failure) => return disk.memory().fail_any_sync(n, failure),
        };
        match self {
            Mode::Change(_) | Mode::Changes(_) => rule.change = Some(true),
            Mode::Look(Fault::WrongRead | Fault::Misdirected(_) | Fault::ShortRead(_)) => {
                rule.kind = Some(CallKind::Read);
            }
            Mode::Look(_) | Mode::Looks(_) => rule.change = Some(false),
            Mode::Write(_) => rule.kind = Some(CallKind::Write),
            Mode::LostSync | Mode::Sync(_) => {}
        }
        faults.control.add(rule);
    }

    /// True if the device reports success for what it did not do, or gives bytes that are not there.
    fn lies(self) -> bool {
        matches!(
            self,
            Mode::LostSync
                | Mode::Write(Fault::Lost | Fault::Misdirected(_))
                | Mode::Look(Fault::WrongRead | Fault::Misdirected(_) | Fault::ShortRead(_))
        )
    }

    fn is_sync(self) -> bool {
        matches!(self, Mode::Sync(_))
    }
}

fn run(unit: u64, tally: &mut Tally) {
    let modes = MODES.len() as u64;
    let (round, place) = (unit / modes, unit % modes);
    let mode = MODES[place as usize];
    // Every way meets every fixed workload, and the first round already meets all of them.
    let number = if round < FIXED { (round + place) % FIXED } else { round };
    let workload = workload(number, OPS_MAX);
    for n in 0.. {
        let disk = Disk::new();
        let faults = disk.faults();
        mode.plan(n, &disk, &faults);
        let mut run = Run::new(&workload, mode, &disk, &faults, unit << 20 | n);
        let outcome = run.go();
        if let Err(what) = outcome {
            let (errors, history) = (run.errors.join("\n  "), ops::print(&workload.ops));
            let name = &workload.name;
            panic!(
                "workload {number} ({name}), call {n} of those that fail by {mode:?}: {what}\nerrors:\n  {errors}\n\
                 failed calls:\n{}history:\n{history}",
                describe(&run.log)
            );
        }
        let states = run.states;
        if faults.control.counts().faults == 0 {
            return;
        }
        tally.add("fault_runs", 1);
        tally.add("fault_states", states);
        if mode.is_sync() {
            tally.add("failed_sync_states", states);
        }
    }
}

/// The calls that failed, with a few before each.
fn describe(log: &[Call]) -> String {
    let near = |i: usize| log[i..log.len().min(i + 5)].iter().any(|c| c.failed);
    let shown = log.iter().enumerate().filter(|(i, _)| near(*i)).map(|(_, c)| c);
    shown
        .take(60)
        .map(|c| {
            let failed = if c.failed { " FAILED" } else { "" };
            format!("  {} {:?} {} at {} len {}{failed}\n", c.number, c.kind, c.name, c.offset, c.len)
        })
        .collect()
}

/// A workload with a fault in it.
struct Run<'a> {
    workload: &'a Workload,
    mode: Mode,
    disk: &'a Disk,
    faults: &'a Faults,
    seed: u64,
    /// Everything that the database may contain: one world for every way in which the failed writes
    /// may have gone.
    worlds: Vec<World>,
    /// What a loss of power may leave: everything from the last durable state on.
    since_durable: HashSet<u64>,
    /// Everything that ever was allowed.
    history: HashSet<u64>,
    errors: Vec<String>,
    log: Vec<Call>,
    images: HashSet<u64>,
    /// Endings that were looked at.
    states: u64,
    /// The stick is let go at this operation.
    heal_at: Option<usize>,
    over: bool,
}

type Checked<T = ()> = Result<T, String>;

impl<'a> Run<'a> {
    fn new(workload: &'a Workload, mode: Mode, disk: &'a Disk, faults: &'a Faults, seed: u64) -> Run<'a> {
        let fresh = World::new();
        Run {
            workload,
            mode,
            disk,
            faults,
            seed,
            since_durable: HashSet::from([fresh.hash()]),
            history: HashSet::from([fresh.hash()]),
            worlds: vec![fresh],
            errors: Vec::new(),
            log: Vec::new(),
            images: HashSet::new(),
            states: 0,
            heal_at: None,
            over: false,
        }
    }

    fn go(&mut self) -> Checked {
        let setup = self.workload.setup(self.faults.fs());
        let mut stage = None;
        for _ in 0..3 {
            match Stage::open(setup.clone()) {
                Ok(opened) => {
                    stage = Some(opened);
                    break;
                }
                Err(e) => {
                    self.note("the first open", &e)?;
                    self.heal();
                }
            }
        }
        let Some(mut stage) = stage else {
            return if self.mode.lies() { Ok(()) } else { Err("it does not open when the fault is over".to_string()) };
        };
        self.log.extend(self.faults.control.take_log());
        // A parent that may not be opened is left alone: not all directories above are ours to sync.
        let unopened = |call: &Call| call.failed && call.kind == CallKind::SyncDir && call.name.is_empty();
        if matches!(self.mode, Mode::Change(Fault::Error(Errno::Eacces))) && self.log.iter().any(unopened) {
            return Ok(());
        }
        let mut forked = false;
        for (i, op) in self.workload.ops.iter().enumerate() {
            if self.heal_at == Some(i) {
                self.heal();
            }
            // A handle that met a failed sync is watched to its end.
            if self.mode.is_sync() && matches!(op, Op::Reopen(..)) {
                continue;
            }
            self.step(&mut stage, i, op).map_err(|what| format!("operation {i} ({op}): {what}"))?;
            if self.over {
                break;
            }
            if self.fired() && !forked {
                forked = true;
                self.heal_at = Some(i + 4);
                self.endings(&format!("after operation {i}"))?;
            }
        }
        self.heal();
        if !self.over && self.fired() {
            self.carried_on(&mut stage)?;
        }
        stage.abandon();
        if self.fired() {
            self.endings("at the end")?;
        }
        Ok(())
    }

    fn fired(&self) -> bool {
        self.faults.control.counts().faults > 0
    }

    fn heal(&mut self) {
        self.faults.control.heal();
        self.disk.memory().heal();
    }

    /// Notes an error, and fails if no fault explains it.
    fn note(&mut self, during: &str, error: &Error) -> Checked {
        self.errors.push(format!("{during}: {error:?}"));
        match error.kind() {
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Stalled | ErrorKind::Poisoned | ErrorKind::Background
                if self.fired() =>
            {
                Ok(())
            }
            ErrorKind::Corruption if self.mode.lies() => Ok(()),
            kind => Err(format!("{during} failed with {kind:?}: {error:?}")),
        }
    }

    fn step(&mut self, stage: &mut Stage, i: usize, op: &Op) -> Checked {
        let refused = stage.db().is_some_and(|db| db.health().poisoned.is_some());
        let changes = stage.world.changes(op);
        let durable = stage.world.makes_durable(op);
        let before = self.faults.control.counts().faults;
        match stage.step(op) {
            Ok(()) => {
                if refused && changes {
                    return Err("it was acknowledged by a poisoned handle".to_string());
                }
                // What this handle had no family for it did to none.
                if changes {
                    self.worlds.iter_mut().for_each(|world| world.apply(op));
                }
                self.remember();
                if matches!(op, Op::Reopen(..)) {
                    self.settle(stage)?;
                }
                if durable {
                    self.since_durable = self.worlds.iter().map(World::hash).collect();
                }
            }
            Err(error) => {
                self.note(&format!("operation {i} ({op})"), &error)?;
                let absent = matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Stalled);
                // A handle that was poisoned before refuses without doing anything.
                if changes && !absent && !refused {
                    let mut others = self.worlds.clone();
                    others.iter_mut().for_each(|world| world.apply(op));
                    self.worlds.extend(others);
                    self.remember();
                }
                self.settle(stage)?;
            }
        }
        if self.worlds.len() > 256 {
            return Err("too many writes failed".to_string());
        }
        if self.mode.is_sync() && before == 0 && self.fired() {
            self.after_failed_sync(stage, op)?;
        }
        Ok(())
    }

    fn remember(&mut self) {
        for world in &self.worlds {
            let hash = world.hash();
            self.since_durable.insert(hash);
            self.history.insert(hash);
        }
        self.log.extend(self.faults.control.take_log());
    }

    /// Asks the database which of the worlds it is, and goes on from there.
    fn settle(&mut self, stage: &mut Stage) -> Checked {
        if stage.db().is_none() {
            // A reopen failed. The next open is a new process: what it shows is what there is.
            if let Err(e) = stage.open_again() {
                self.note("opening again", &e)?;
                self.heal();
                if let Err(e) = stage.open_again() {
                    self.note("opening again without a fault", &e)?;
                    self.over = true;
                    let stays = "it does not open when the fault is over".to_string();
                    return if self.mode.lies() { Ok(()) } else { Err(stays) };
                }
            }
        }
        let Some(db) = stage.db().cloned() else { return Ok(()) };
        let found = match hash_database(&db).or_else(|_| hash_database(&db)) {
            Ok(found) => found,
            Err(e) => {
                self.note("a read", &e)?;
                if self.mode.lies() {
                    self.over = true;
                    return Ok(());
                }
                self.heal();
                hash_database(&db).map_err(|e| format!("reads do not work when the fault is over: {e:?}"))?
            }
        };
        let Some(visible) = self.worlds.iter().find(|world| world.hash() == found).cloned() else {
            if self.mode.lies() && self.history.contains(&found) {
                self.over = true; // A device that lies took something; from here on nothing is promised.
                return Ok(());
            }
            return Err(self.report(&db, "what is visible"));
        };
        // What later operations write to is what this handle sees.
        for world in &mut self.worlds {
            world.slots = visible.slots;
        }
        stage.world = visible;
        match stage.take_families() {
            Ok(()) => Ok(()),
            Err(e) => Err(format!("the families that are visible cannot be had: {e:?}")),
        }
    }

    fn report(&self, db: &Db, what: &str) -> String {
        let allowed = self.worlds.len();
        let found = match content(db) {
            Ok(found) => found,
            Err(e) => return format!("{what} is none of {allowed} worlds and cannot be read again: {e:?}"),
        };
        let mut expected = crate::sim::Expected::default();
        let done = self.workload.ops.iter().scan(0, |_, op| {
            expected.apply(op);
            Some(model::difference(&expected.model.content(), &found))
        });
        let nearest = done.flatten().min_by_key(String::len).unwrap_or_default();
        format!("{what} is none of {allowed} possible worlds; nearest state of a run without faults: {nearest}")
    }

    /// G9: the handle refuses writes from now on, and still reads.
    fn after_failed_sync(&mut self, stage: &Stage, op: &Op) -> Checked {
        self.log.extend(self.faults.control.take_log());
        let Some(call) = self.log.iter().find(|call| call.failed).cloned() else { return Ok(()) };
        let of_the_database = call.name.ends_with(".wal")
            || (call.name.starts_with("MANIFEST") || call.name == "db") && !matches!(op, Op::Checkpoint);
        let Some(db) = stage.db() else { return Ok(()) };
        if of_the_database && db.health().poisoned.is_none() {
            return Err(format!("a sync of {} failed and the handle is not poisoned", call.name));
        }
        Ok(())
    }

    fn carried_on(&mut self, stage: &mut Stage) -> Checked {
        if stage.db().is_none() {
            return Ok(());
        }
        self.settle(stage).map_err(|what| format!("at the end of the history: {what}"))?;
        self.log.extend(self.faults.control.take_log());
        self.states += 1;
        if self.mode.is_sync()
            && let Some(first) = self.log.iter().position(|call| call.failed)
        {
            let failed = &self.log[first];
            let again = self.log[first + 1..].iter().find(|c| c.kind == failed.kind && c.name == failed.name);
            // Checkpoints have directories and manifests of their own, which may have the same names.
            let copies = self.workload.ops.iter().any(|op| matches!(op, Op::Checkpoint));
            // An open that failed ends with its handle.
            let opened = self.errors.first().is_some_and(|e| e.starts_with("the first open"));
            if let Some(again) = again.filter(|_| !copies && !opened) {
                return Err(format!(
                    "{} was synced again (call {}) after its sync had failed",
                    again.name, again.number
                ));
            }
        }
        Ok(())
    }

    /// The database is opened again, and after every kind of crash.
    fn endings(&mut self, when: &str) -> Checked {
        self.reopen().map_err(|what| format!("reopened {when}: {what}"))?;
        for policy in 0..POLICIES {
            let seed = Rng::new(self.seed << 3 ^ u64::from(policy)).next_u64();
            let crashed = self.disk.crash(policy, seed);
            if !self.images.insert(crashed.memory().image_hash(LOCK)) {
                continue;
            }
            self.after_crash(&crashed, policy, seed)
                .map_err(|what| format!("crashed {when}, policy P{policy}, crash seed {seed}: {what}"))?;
            self.states += 1;
        }
        Ok(())
    }

    /// The process ends and another one begins: everything acknowledged is there, stays there when the
    /// power goes right after the open, and can be added to.
    fn reopen(&mut self) -> Checked {
        let disk = self.disk.process_death();
        let setup = self.workload.setup(disk.fs());
        let allowed = |run: &Run| -> HashSet<u64> {
            let now = run.worlds.iter().map(World::hash);
            match run.mode {
                // What was not synced is gone from the cache, and with it what a process left there.
                Mode::Sync(SyncFailure::CacheReverts) => run.since_durable.iter().copied().chain(now).collect(),
                _ => now.collect(),
            }
        };
        let Some((db, found)) = self.open(&setup, allowed)? else {
            self.states += 1;
            return Ok(());
        };
        let cut = setup.on(disk.crash(0, self.seed).fs());
        db.put("again", "yes").and_then(|_| db.sync()).map_err(|e| format!("it cannot be written to: {e:?}"))?;
        let later = setup.on(disk.crash(0, self.seed).fs());
        db.close().map_err(|e| format!("it does not close: {e:?}"))?;
        self.states += 1;
        let shown = |_: &Run| HashSet::from([found]);
        self.open(&cut, shown).map_err(|what| format!("and the power went: {what}"))?;
        let found = later.open().and_then(|db| db.get("again"));
        match found {
            Ok(Some(value)) if *value == *b"yes" => Ok(()),
            // What the device lost before may be missed only now.
            Err(e) if self.mode.lies() && e.kind() == ErrorKind::Corruption => Ok(()),
            other => Err(format!("a durable write after the fault is gone: {other:?}")),
        }
    }

    fn after_crash(&mut self, disk: &Disk, policy: u8, seed: u64) -> Checked {
        let setup = Setup { seed, ..self.workload.setup(disk.fs()) };
        let allowed = |run: &Run| -> HashSet<u64> {
            let now = run.worlds.iter().map(World::hash);
            if policy == PROCESS_DEATH && !run.mode.is_sync() {
                now.collect()
            } else {
                run.since_durable.iter().copied().chain(now).collect()
            }
        };
        self.open(&setup, allowed).map(drop)
    }

    /// Opens a database that must be in one of some states; none if a device that lied left damage.
    fn open(&self, setup: &Setup, allowed: impl Fn(&Run) -> HashSet<u64>) -> Checked<Option<(Db, u64)>> {
        let opened = setup.open().and_then(|db| hash_database(&db).map(|hash| (db, hash)));
        match opened {
            Ok((db, hash)) if allowed(self).contains(&hash) || self.mode.lies() && self.history.contains(&hash) => {
                Ok(Some((db, hash)))
            }
            Ok((db, _)) => Err(self.report(&db, "what is found")),
            Err(e) if self.mode.lies() && e.kind() == ErrorKind::Corruption => Ok(None),
            Err(e) => Err(format!("it does not open or cannot be read: {e:?}")),
        }
    }
}
