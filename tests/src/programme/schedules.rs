//! T9: schedules of the commit pipeline, of jobs that meet drops and renames, of snapshots, closes and
//! the decode pool.
//!
//! Each schedule plays one of a few short scripts on a database in memory, three or four clients with
//! two to four operations each, on the baton scheduler of [`crate::programme::simulation`], mostly with
//! priorities that change three to five times: that finds what needs few changes of turn, with a known
//! chance. What the readers saw and what survives a loss of power afterwards is held against the order
//! of sequence numbers, as in the simulation. A unit is a hundred schedules of one script.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lignite::internals::sync::sim::{self, Plan, Policy};
use lignite::internals::sync::spawn;
use lignite::{CfOptions, Codec, Compression, Options};

use super::simulation::client::{Client, Shared, Step, Step::*};
use super::simulation::history::{History, State};
use super::simulation::{builder, content, records};
use super::{Kind, Tally};
use crate::disk::Disk;
use crate::rng::Rng;
use crate::sim::LOG_MODES;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "schedules",
    id: "T9",
    about: "short scripts of a few clients under a hundred schedules a unit, checked like the simulation",
    ci_units: 80,
    suite_units: 8,
    at_once: usize::MAX,
    ci_targets: &[("schedules", 8_000)],
    long_targets: &[("schedules", 2_500_000)],
    run,
}];

/// Schedules in a unit.
const SCHEDULES: u64 = 100;

/// A script.
struct Script {
    name: &'static str,
    clients: &'static [&'static [Step]],
    /// Threads of the decode pool; then there are blocks worth handing to them.
    decode_threads: usize,
    /// Values fill memtables after a few writes.
    large: bool,
}

const SCRIPTS: &[Script] = &[
    Script {
        name: "writers who share syncs, and a reader",
        clients: &[&[PutSync, Put], &[Batch, PutSync], &[Put, Sync], &[Get, Snapshot, MultiGet, ReadSnapshot]],
        decode_threads: 0,
        large: false,
    },
    Script {
        name: "flushes and compactions under readers",
        clients: &[&[Put, Flush, Put], &[Batch, Compact], &[Snapshot, Get, ReadSnapshot, Scan], &[Iterator, Get]],
        decode_threads: 0,
        large: false,
    },
    Script {
        name: "families that come and go under writers and jobs",
        clients: &[&[Batch, Flush], &[Families, Families], &[Put, Families, Compact], &[Scan, Snapshot, Scan]],
        decode_threads: 0,
        large: false,
    },
    Script {
        name: "memtables that fill while readers look",
        clients: &[&[Put, Put, Put], &[Batch, Put], &[Get, Scan, Get], &[Snapshot, DeleteRange, ReadSnapshot]],
        decode_threads: 0,
        large: true,
    },
    Script {
        name: "an ingest among writers and compactions",
        clients: &[&[Ingest, Get], &[Put, Compact], &[DeleteRange, Scan], &[Snapshot, Scan, ReadSnapshot]],
        decode_threads: 0,
        large: false,
    },
    Script {
        name: "a checkpoint among changes of everything",
        clients: &[&[Checkpoint], &[Batch, Families], &[Options, Flush], &[Put, PutSync]],
        decode_threads: 0,
        large: false,
    },
    Script {
        name: "pause and close against everybody",
        clients: &[&[Put, Close], &[Pause, PutSync], &[Flush, Get], &[Snapshot, Batch, ReadSnapshot]],
        decode_threads: 0,
        large: false,
    },
    Script {
        name: "scans that are helped by the pool, and one loader for each block",
        clients: &[&[Scan, Get], &[MultiGet, Scan], &[Put, Compact, Scan]],
        decode_threads: 2,
        large: true,
    },
];

fn run(unit: u64, tally: &mut Tally) {
    let script = &SCRIPTS[(unit % SCRIPTS.len() as u64) as usize];
    for n in 0..SCHEDULES {
        let seed = unit * SCHEDULES + n;
        let (trace, operations) =
            schedule(script, seed).unwrap_or_else(|words| panic!("{}, schedule {n}: {words}", script.name));
        if n == 0 {
            let again = schedule(script, seed).map(|(trace, _)| trace);
            assert_eq!(again.as_ref(), Ok(&trace), "{}: the same seed left another trace", script.name);
        }
        tally.add("schedules", 1);
        tally.add("schedule_ops", operations);
        tally.add("switches", trace.switches);
    }
}

fn schedule(script: &'static Script, seed: u64) -> Result<(sim::Trace, u64), String> {
    let mut rng = Rng::new(seed ^ 0x5c4e);
    let mut plan = Plan::new(rng.next_u64(), 2_500);
    if rng.chance(75) {
        plan.policy = Policy::Priorities { changes: rng.within(3, 5), within: rng.pick(&[300, 1000, 2500]) };
    }
    plan.events_max = 2_000_000;
    let operations = Arc::new(AtomicU64::new(0));
    let done = operations.clone();
    let trace = sim::run(plan, move || play(script, rng, &done))?;
    Ok((trace, operations.load(Ordering::Relaxed)))
}

fn play(script: &'static Script, mut rng: Rng, done: &AtomicU64) {
    let disk = Disk::new();
    let faults = disk.faults();
    let options = Options::new()
        .background_threads(rng.within(1, 2) as usize)
        .decode_threads(script.decode_threads)
        .sync_interval(Duration::from_millis(rng.pick(&[0, 20])))
        .stall_timeout(Duration::from_secs(20))
        .memory_budget(1 << 20)
        .memtable_size(16 << 10)
        .log_segment_size(16 << 10)
        .log_size_max(64 << 10)
        .log_mode(rng.pick(&LOG_MODES));
    let codec = if script.decode_threads > 0 { Codec::Brotli { quality: 0 } } else { Codec::Lz4 };
    let family_options = CfOptions::new()
        .compression(Compression::all(codec))
        .block_size(if script.decode_threads > 0 { 16 << 10 } else { 1024 })
        .table_size(if script.decode_threads > 0 { 1 << 20 } else { 8 << 10 })
        .base_level_size(16 << 10)
        .level0_trigger(2);
    let db = builder(&options, faults.fs()).column_family("default", family_options.clone()).open("/db");
    let db = db.unwrap_or_else(|e| sim::fail(&format!("the open failed: {e:?}")));
    let other = db.open_column_family("other", family_options);
    let other = other.unwrap_or_else(|e| sim::fail(&format!("no family: {e:?}")));
    let repeat_max = if script.large { 600 } else { 4 };
    let keys = if script.decode_threads > 0 { 40 } else { 12 };
    for n in 0..keys {
        let value = format!("first {n} ").repeat(if script.decode_threads > 0 { 250 } else { 2 });
        if other.put(format!("key {n:02}"), value).is_err() {
            sim::fail("a first write failed");
        }
    }
    if db.flush().is_err() {
        sim::fail("the first flush failed");
    }
    let families = vec![db.default_family(), other];
    let base = State(families.iter().map(|f| (f.id(), (f.name(), records(f)))).collect());
    let history = History::new(base, db.snapshot().seq());
    let shared = Arc::new(Shared {
        db,
        control: faults.control.clone(),
        disk: disk.fs(),
        history: Mutex::new(history),
        families: Mutex::new(families),
        faulty: false,
        over: AtomicBool::new(false),
        operations: AtomicU64::new(0),
        unique: Arc::default(),
        keys,
        repeat_max,
    });
    let clients: Vec<_> = script
        .clients
        .iter()
        .enumerate()
        .map(|(n, steps)| {
            let client = Client::new(shared.clone(), n, rng.next_u64());
            spawn(&format!("client {n}"), move || client.play(steps))
        })
        .collect();
    for client in clients {
        client.unwrap_or_else(|e| sim::fail(&format!("no thread: {e}"))).join();
    }
    done.fetch_add(shared.operations.load(Ordering::Relaxed), Ordering::Relaxed);
    let crashed = disk.crash(0, rng.next_u64());
    let (floor, looks) = shared.history(|h| (h.durable, h.check_looks()));
    if let Err(words) = looks {
        sim::fail(&words);
    }
    // After a loss of power now: everything that was promised is there, and nothing is there in part.
    let stepped = options.background_threads(0).decode_threads(0);
    let found = builder(&stepped, crashed.fs()).open("/db").and_then(|db| content(&db));
    let found = found.unwrap_or_else(|e| sim::fail(&format!("the open after a crash failed: {e:?}")));
    let history = shared.history.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(words) = history.check_recovered(&found, floor, false) {
        sim::fail(&words);
    }
    drop(history);
    drop(shared);
}
