//! T8: the whole engine under the baton scheduler.
//!
//! A unit is a seed. Four to eight clients work on one database with one to three background threads,
//! the notifier and perhaps a decoding worker, each a thread of the simulation, on a disk in memory whose
//! calls may fail. A seed has several *lives*: each begins with an open, which must show a state that the
//! life before allows, and ends with a close, with the death of the process or with the loss of power.
//! At the end the faults stop: all calls must finish, the database must become idle and healthy, and what
//! it holds must be what was written. Every look of every reader is checked against the order of
//! sequence numbers (`history`). Every eighth unit runs twice and must leave the same trace.

pub(super) mod client;
pub(super) mod history;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lignite::internals::clock::Clock;
use lignite::internals::fs::Fs;
use lignite::internals::fs::fault::{CallKind, Errno, Fault, FaultControl, Rule};
use lignite::internals::fs::mem::SyncFailure;
use lignite::internals::sync::sim::{self, Plan, Trace};
use lignite::internals::sync::spawn;
use lignite::{Builder, CfOptions, Codec, Compression, Db, Durability, ErrorKind, FilterPolicy, Options};

use super::{Kind, Tally};
use crate::checks;
use crate::disk::{Disk, PROCESS_DEATH};
use crate::model::{Content, Records};
use crate::rng::Rng;
use crate::sim::LOG_MODES;
use client::{Client, Shared};
use history::{History, State};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "simulation",
    id: "T8",
    about: "clients, background jobs and faults of a whole database on one seeded baton, with crashes and restarts",
    ci_units: 600,
    suite_units: 8,
    at_once: usize::MAX,
    ci_targets: &[("simulations", 600)],
    long_targets: &[("simulations", 35_000)],
    run,
}];

/// Where the database lies.
const DIR: &str = "/db";
/// After the faults have stopped all must be well within this time.
const HEALED_WITHIN: Duration = Duration::from_secs(300);

/// Runs one seed, every eighth twice.
fn run(unit: u64, tally: &mut Tally) {
    let (trace, counts) = simulate(unit).unwrap_or_else(|words| panic!("{words}"));
    if unit.is_multiple_of(8) {
        let (again, _) = simulate(unit).unwrap_or_else(|words| panic!("the second run: {words}"));
        assert_eq!(trace, again, "the same seed left another trace");
        tally.add("simulations_twice", 1);
    }
    tally.add("simulations", 1);
    tally.add("switches", trace.switches);
    tally.add("simulated_events", trace.events);
    tally.add("simulated_calls", trace.calls);
    tally.merge(&counts);
}

fn simulate(unit: u64) -> Result<(Trace, Tally), String> {
    let seed = unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7e8;
    let mut plan = Plan::new(seed, 20_000);
    let mut rng = Rng::new(seed);
    plan.slow = rng.pick(&[0, 50, 500]);
    plan.slow_max = Duration::from_millis(rng.pick(&[1, 100, 800]));
    let counts = Arc::new(Mutex::new(Tally::default()));
    let counting = counts.clone();
    let trace = sim::run(plan, move || World::new(rng, counting).run())?;
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((trace, counts))
}

/// The clock of the simulation.
pub(super) struct VirtualClock;

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        sim::now()
    }

    fn unix_seconds(&self) -> u64 {
        1_700_000_000 + sim::now().as_secs()
    }
}

/// What happens at the end of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The handle is closed, or dropped if it is poisoned.
    Close,
    /// Every call fails from some change on, and the disk is as this policy leaves it.
    Crash(u8),
}

/// What a life leaves to the next open.
struct Legacy {
    history: History,
    floor: u64,
    /// The floor once the power has failed, too: what was only in the cache is then gone.
    floor_without_power: u64,
    exact: bool,
}

struct World {
    rng: Rng,
    counts: Arc<Mutex<Tally>>,
    disk: Disk,
    options: Options,
    legacy: Option<Legacy>,
    unique: Arc<AtomicU64>,
    story: Vec<String>,
}

impl World {
    fn new(mut rng: Rng, counts: Arc<Mutex<Tally>>) -> World {
        let options = database_options(&mut rng);
        let disk = Disk::new();
        World { rng, counts, disk, options, legacy: None, unique: Arc::default(), story: Vec::new() }
    }

    fn count(&self, counter: &str, n: u64) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(counter, n);
    }

    fn fail(&self, words: &str) -> ! {
        sim::fail(&format!("{words}\nlives so far: {}", self.story.join("; ")))
    }

    fn run(mut self) {
        let lives = self.rng.within(2, 4);
        for life in 1..=lives {
            self.live(life == lives);
        }
    }

    /// From an open to the end of the handle.
    fn live(&mut self, last: bool) {
        let end = if last || self.rng.chance(30) {
            End::Close
        } else if self.rng.chance(40) {
            End::Crash(PROCESS_DEATH)
        } else {
            End::Crash(self.rng.below(u64::from(crate::disk::POLICIES)) as u8)
        };
        let faulty = end != End::Close || self.rng.chance(60);
        self.story.push(format!("{end:?}{}", if faulty { " with faults" } else { "" }));
        let (db, control) = self.open();
        let families: Vec<_> = db.column_family_names().iter().filter_map(|name| db.column_family(name).ok()).collect();
        let base = State(families.iter().map(|f| (f.id(), (f.name(), records(f)))).collect());
        let history = History::new(base, db.snapshot().seq());
        let unique = self.unique.clone();
        let shared = Arc::new(Shared {
            db,
            control: control.clone(),
            disk: self.disk.fs(),
            history: Mutex::new(history),
            families: Mutex::new(families),
            faulty,
            over: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            unique,
            keys: 90,
            repeat_max: 40,
        });
        let mut reverts = false;
        if faulty {
            reverts = self.arm(&control, end);
        }
        let clients = self.rng.within(4, 8);
        let operations = self.rng.within(10, 100);
        let threads: Vec<_> = (0..clients)
            .map(|n| {
                let client = Client::new(shared.clone(), n as usize, self.rng.next_u64());
                spawn(&format!("client {n}"), move || client.run(operations))
            })
            .collect();
        for thread in threads {
            thread.unwrap_or_else(|e| self.fail(&format!("no thread: {e}"))).join();
        }
        self.count("simulated_ops", shared.operations.load(Ordering::Relaxed));
        self.end(shared, &control, end, reverts, last);
    }

    /// Opens the database and checks what is there. Some opens are disturbed at first.
    fn open(&mut self) -> (Db, FaultControl) {
        loop {
            let faults = self.disk.faults();
            let control = faults.control.clone();
            let crash = self.rng.chance(15);
            if crash {
                control.stop_at(self.rng.below(30));
            } else if self.rng.chance(20) {
                control.add(random_rule(&mut self.rng, 40));
            }
            sim::watch(Some((HEALED_WITHIN, "an open")));
            let opened = builder(&self.options, faults.fs()).open(DIR);
            sim::watch(None);
            match opened {
                Ok(db) => {
                    control.heal();
                    if control.is_stopped() {
                        self.fail("a heal did not heal");
                    }
                    // A thread of its own may have met the disturbance behind the open's back.
                    if db.health().poisoned.is_none() {
                        self.check_open(&db);
                        return (db, control);
                    }
                    drop(db);
                    self.count("simulated_poisoned_opens", 1);
                }
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned) {
                        self.fail(&format!("an open failed with {error:?}"));
                    }
                    self.count("simulated_failed_opens", 1);
                }
            }
            if crash {
                let policy = self.rng.below(u64::from(crate::disk::POLICIES)) as u8;
                self.disk = self.disk.crash(policy, self.rng.next_u64());
                self.count("simulated_crashes", 1);
                if let Some(legacy) = self.legacy.as_mut().filter(|_| policy != PROCESS_DEATH) {
                    legacy.floor = legacy.floor_without_power;
                }
            }
        }
    }

    fn check_open(&mut self, db: &Db) {
        let found = content(db).unwrap_or_else(|e| self.fail(&format!("a scan after an open failed: {e:?}")));
        let Some(legacy) = self.legacy.take() else {
            if found.len() != 1 || !found.contains_key("default") || !found["default"].is_empty() {
                self.fail(&format!("a new database has {found:?}"));
            }
            return;
        };
        if let Err(words) = legacy.history.check_recovered(&found, legacy.floor, legacy.exact) {
            self.fail(&words);
        }
    }

    /// Chooses what fails in a life; true if a failed sync may take back what was written.
    fn arm(&mut self, control: &FaultControl, end: End) -> bool {
        if let End::Crash(_) = end {
            let soon = control.counts().changes;
            control.stop_at(soon + self.rng.within(1, 400));
            if self.rng.chance(50) {
                return false;
            }
        }
        let mut reverts = false;
        for _ in 0..self.rng.within(1, 5) {
            match self.rng.below(10) {
                0 => {
                    let flavours = [SyncFailure::PagesClean, SyncFailure::CacheReverts, SyncFailure::Sticky];
                    self.disk.memory().fail_sync(self.rng.below(30), self.rng.pick(&flavours));
                    reverts = true;
                }
                1 | 2 => control.set_free_bytes(Some(self.rng.below(60_000))),
                _ => control.add(random_rule(&mut self.rng, 150)),
            }
        }
        reverts
    }

    /// Ends a life and checks what its readers saw.
    fn end(&mut self, shared: Arc<Shared>, control: &FaultControl, end: End, reverts: bool, last: bool) {
        let stopped = control.is_stopped();
        if end == End::Close {
            control.heal();
            self.disk.memory().fail_sync(u64::MAX, SyncFailure::PagesClean);
        }
        let poisoned = shared.db.health().poisoned.is_some();
        if end == End::Close && !poisoned {
            self.prove_alive(&shared, last);
        }
        // A callback may be under way on the notifier's thread.
        for _ in 0..1000 {
            if Arc::strong_count(&shared) == 1 {
                break;
            }
            lignite::internals::sync::sleep(Duration::from_millis(1));
        }
        let Ok(Shared { db, history, families, .. }) = Arc::try_unwrap(shared).map_err(|_| ()) else {
            self.fail("a client or a callback outlives its life");
        };
        drop(families);
        sim::watch(Some((HEALED_WITHIN, "a close")));
        let closed = if poisoned {
            drop(db);
            Ok(())
        } else {
            db.close()
        };
        sim::watch(None);
        let history = history.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Err(words) = history.check_looks() {
            self.fail(&words);
        }
        self.count("simulated_looks", history.looks.len() as u64);
        let durable = history.durable;
        let (floor, exact) = match end {
            End::Close => {
                if let Err(error) = &closed {
                    self.fail(&format!("a close failed after the faults had stopped: {error:?}"));
                }
                (if reverts { durable } else { history.acknowledged }, !poisoned)
            }
            End::Crash(policy) => {
                let acknowledged = history.acknowledged;
                self.disk = self.disk.crash(policy, self.rng.next_u64());
                self.count("simulated_crashes", 1);
                if !stopped && closed.is_ok() && !poisoned {
                    self.count("simulated_crashes_after_close", 1);
                }
                (if policy == PROCESS_DEATH && !reverts { acknowledged } else { durable }, false)
            }
        };
        // A handle that is only dropped leaves in the cache what was not synced; any other end settles the disk.
        let floor_without_power = if end == End::Close && poisoned { durable } else { floor };
        self.legacy = Some(Legacy { history, floor, floor_without_power, exact });
        if last {
            self.final_check();
        }
    }

    /// The faults have stopped: everything must work, finish, and be well.
    fn prove_alive(&mut self, shared: &Shared, thorough: bool) {
        sim::watch(Some((HEALED_WITHIN, "the end of all work after the faults have stopped")));
        sim::take_note();
        let family = shared.db.default_family();
        if let Err(error) = family.put_with("alive", "yes", Durability::Sync) {
            self.fail(&format!("a write failed after the faults had stopped: {error:?}"));
        }
        let seq = sim::take_note();
        shared.history(|h| {
            let begun = h.tick();
            let change = crate::model::Change::Put(b"alive".to_vec(), b"yes".to_vec());
            let what = history::What::Batch(vec![(0, change)]);
            let verdict = history::Verdict::Acknowledged;
            h.writes.push(history::Write { client: 99, begun, what, seq, count: 1, verdict });
            h.acknowledged = h.acknowledged.max(seq.unwrap_or(0));
            h.durable = h.durable.max(seq.unwrap_or(0));
        });
        // Its patience may be shorter than the pause before a failed job is tried again; the watch decides.
        while let Err(error) = shared.db.wait_for_idle() {
            if error.kind() != ErrorKind::Stalled {
                self.fail(&format!("the database did not become idle: {error:?}"));
            }
        }
        let health = shared.db.health();
        if health.background_error.is_some() || health.stalled {
            self.fail(&format!("the database is idle but not well: {health:?}"));
        }
        if thorough && let Err(words) = checks::database(&shared.db, &*self.disk.fs()) {
            self.fail(&words);
        }
        sim::watch(None);
    }

    /// Opens once more, without faults, and looks at everything.
    fn final_check(&mut self) {
        let db = builder(&self.options, self.disk.fs()).open(DIR);
        let db = db.unwrap_or_else(|e| self.fail(&format!("the last open failed: {e:?}")));
        self.check_open(&db);
        sim::watch(Some((HEALED_WITHIN, "the last work")));
        if let Err(words) = checks::database(&db, &*self.disk.fs()) {
            self.fail(&words);
        }
        // A thread that just looks for work may hold a view of before, whose tables go a little later.
        if checks::no_orphans(&db, &*self.disk.fs()).is_err() {
            lignite::internals::sync::sleep(Duration::from_secs(1));
            if let Err(words) = checks::no_orphans(&db, &*self.disk.fs()) {
                self.fail(&words);
            }
        }
        if let Err(error) = db.close() {
            self.fail(&format!("the last close failed: {error:?}"));
        }
        sim::watch(None);
    }
}

pub(super) fn builder(options: &Options, fs: Arc<dyn Fs>) -> Builder {
    Builder::new(options.clone()).fs(fs).clock(Arc::new(VirtualClock)).seed(7)
}

fn database_options(rng: &mut Rng) -> Options {
    let segment = rng.pick(&[16 << 10, 32 << 10]);
    Options::new()
        .background_threads(rng.within(1, 3) as usize)
        .decode_threads(rng.below(2) as usize)
        .sync_interval(Duration::from_millis(rng.pick(&[0, 50, 1000])))
        .stall_timeout(Duration::from_secs(20))
        .memory_budget(rng.pick(&[1 << 20, 4 << 20]))
        .memtable_size(rng.pick(&[16 << 10, 16 << 10, 32 << 10]))
        .log_segment_size(segment)
        .log_size_max(segment * rng.within(1, 4))
        .open_tables_max(rng.pick(&[16, 1000]))
        .log_mode(rng.pick(&LOG_MODES))
}

/// Options of a family: small tables, mostly cheap codecs.
fn family_options(seed: u64) -> CfOptions {
    let mut rng = Rng::new(seed);
    let mut codec = || rng.pick(&[Codec::None, Codec::Lz4, Codec::Lz4, Codec::Snappy, Codec::Zstd { level: 1 }]);
    let compression = Compression::default().young(codec()).deep(codec()).bottom(codec());
    CfOptions::new()
        .compression(compression)
        .filter(rng.pick(&[FilterPolicy::None, FilterPolicy::Auto { bits_per_key: 10 }]))
        .block_size(rng.pick(&[512, 4096]))
        .table_size(rng.pick(&[4 << 10, 16 << 10]))
        .level0_trigger(rng.within(1, 4) as usize)
        .base_level_size(rng.pick(&[8 << 10, 64 << 10]))
        .fan_out(rng.pick(&[2, 10]))
        .tombstone_percent(rng.pick(&[0, 50]))
}

/// A fault that leaves no lie on the disk: the caller is told of everything that did not happen.
fn random_rule(rng: &mut Rng, skip_max: u64) -> Rule {
    use CallKind::*;
    let error = rng.pick(&[Errno::Eio, Errno::Eio, Errno::Enospc, Errno::Emfile, Errno::Edquot, Errno::Efbig]);
    let fault = match rng.below(6) {
        0 => Fault::ShortWrite { keep: rng.below(200) as usize, error },
        1 => Fault::TornWrite(error),
        _ => Fault::Error(error),
    };
    let mut rule = Rule::new(fault).skip(rng.below(skip_max));
    rule.times = rng.pick(&[1, 1, 2, 10, 60]);
    let kinds = [
        Write, Write, Write, Create, Sync, SyncDir, Open, Read, Read, Rename, Remove, SetLen, Allocate, Link, Metadata,
        Store, Store, Map,
    ];
    rule.kind = Some(rng.pick(&kinds));
    rule.suffix = rng.pick(&[None, None, Some(".wal"), Some(".sst"), Some(".sst")]).map(str::to_string);
    rule
}

pub(super) fn records(family: &lignite::ColumnFamily) -> Records {
    let entries = family.iter().map(|entry| {
        let entry = entry.unwrap_or_else(|e| sim::fail(&format!("a scan failed: {e:?}")));
        let value = entry.value().unwrap_or_else(|e| sim::fail(&format!("a value failed: {e:?}"))).to_vec();
        (entry.key().to_vec(), value)
    });
    entries.collect()
}

pub(super) fn content(db: &Db) -> lignite::Result<Content> {
    crate::sim::content(db)
}

/// What is in a checkpoint; the copy goes afterwards.
fn content_of_copy(shared: &Shared, path: &Path) -> lignite::Result<Content> {
    let options = Options::new().background_threads(0).decode_threads(0).memory_budget(1 << 20);
    let fs: Arc<dyn Fs> = shared.disk.clone();
    let db = builder(&options, fs.clone()).open_read_only(path)?;
    let found = content(&db);
    drop(db);
    for name in fs.list(path).unwrap_or_default() {
        let _ = fs.remove_file(&path.join(name)); // The copy is of no use any more.
    }
    found
}
