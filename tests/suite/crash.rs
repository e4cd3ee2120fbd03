//! Power cuts and killed processes at every call of the file system, and again inside recovery.
//!
//! The work is done by the kinds `crash` and `recrash` of the test programme, of which a few units run
//! here; see `tests/src/programme`.

use lignite_tests::disk::{Disk, POLICIES};
use lignite_tests::ops::Op;
use lignite_tests::programme::run_in_suite;
use lignite_tests::stage::{Stage, workload};

/// Whatever a crash leaves is one state of the history over all families (G2), at least the last one
/// acknowledged at its level (G1); families, ingests and options are logged like puts (G5), a
/// checkpoint that returned is one state and durable (G7), and what an open has shown stays (G3).
#[test]
fn the_machine_stops_at_every_call() {
    let tally = run_in_suite("crash");
    assert!(tally.get("crash_states") > 1000, "{:?}", tally.0);
}

/// The workloads above append to the log in both ways: some by stores into a mapping, some by writes.
#[test]
fn both_ways_of_appending_are_stopped() {
    let (mut mapped, mut positioned) = (0, 0);
    for n in 0..12 {
        let disk = Disk::new();
        let faults = disk.faults();
        let workload = workload(n, 20);
        let mut stage = Stage::open(workload.setup(faults.fs())).unwrap();
        for op in workload.ops.iter().filter(|op| !matches!(op, Op::Reopen(..))) {
            stage.step(op).unwrap();
        }
        match faults.control.counts().stores {
            0 => positioned += 1,
            _ => mapped += 1,
        }
    }
    assert!(mapped >= 3 && positioned >= 3, "{mapped} mapped, {positioned} positioned");
}

/// The machine stops, starts, and stops again inside the recovery, three times over. Whatever was
/// shown once is never taken back (G3), also where recovery read it from the page cache only (G10).
#[test]
fn the_machine_stops_again_while_it_recovers() {
    let tally = run_in_suite("recrash");
    assert!(tally.get("recovery_crash_states") > 1000, "{:?}", tally.0);
}

/// The machine stops while a database is made, at every call: the next open makes it or finds it
/// empty, and it works (G2).
#[test]
fn the_machine_stops_while_a_database_is_made() {
    for n in 1.. {
        let disk = Disk::new();
        let faults = disk.faults();
        faults.control.stop_at(n);
        let opened = workload(0, 0).setup(faults.fs()).open();
        let made = opened.is_ok();
        for policy in 0..POLICIES {
            for seed in 0..8 {
                let crashed = disk.crash(policy, seed);
                let story = format!("stopped at call {n}, policy P{policy}, seed {seed}");
                let setup = workload(2, 0).setup(crashed.fs());
                let db = setup.open().unwrap_or_else(|e| panic!("{story}: {e:?}"));
                db.put("a", "1").unwrap();
                db.sync().unwrap();
                let crashed = crashed.crash(0, seed);
                drop(db);
                let db = setup.on(crashed.fs()).open().unwrap_or_else(|e| panic!("{story}, second open: {e:?}"));
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

/// A creation or checkpoint that was cut short left no database: who asks for one that exists is told
/// so, and no byte changes (G7, G22).
#[test]
fn what_was_never_finished_is_not_a_database() {
    let mut refused = 0;
    for n in 1.. {
        let disk = Disk::new();
        let faults = disk.faults();
        faults.control.stop_at(n);
        let mut setup = workload(0, 0).setup(faults.fs());
        let made = setup.open().is_ok();
        let has_current = disk.fs().metadata(&setup.dir.join("CURRENT")).is_ok();
        let before = disk.memory().image_hash("");
        setup.options = setup.options.create_if_missing(false);
        if !has_current {
            let kind = setup.on(disk.fs()).open().map(drop).unwrap_err().kind();
            assert_eq!(kind, lignite::ErrorKind::NotFound, "stopped at call {n}");
            assert_eq!(disk.memory().image_hash(""), before, "stopped at call {n}: something changed");
            refused += 1;
        }
        if made {
            break;
        }
    }
    assert!(refused > 5);
}
