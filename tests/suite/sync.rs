//! Durable writes: shared syncs, tickets, callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use lignite::internals::fs::fault::{CallKind, Errno, Fault, Rule};
use lignite::internals::fs::mem::MemFs;
use lignite::{Durability, Options};
use lignite_tests::disk::Disk;
use lignite_tests::sim::Setup;
use lignite_tests::slow::SlowSync;

fn setup(fs: Arc<dyn lignite::internals::fs::Fs>) -> Setup {
    let options = Options::new().background_threads(1).decode_threads(0).sync_interval(Duration::ZERO);
    Setup { options, ..Setup::new(fs, 1).threads(1) }
}

#[test]
fn eight_threads_share_their_syncs() {
    // A device that takes its time, as real ones do.
    let fs = Arc::new(SlowSync::new(Arc::new(MemFs::new()), Duration::from_millis(2)));
    let db = setup(fs).open().unwrap();
    let before = db.stats().counters;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let family = db.default_family();
            scope.spawn(move || {
                for n in 0..50 {
                    family.put_with(format!("{thread}/{n}"), b"value", Durability::Sync).unwrap();
                }
            });
        }
    });
    let after = db.stats().counters;
    let commits = after.sync_commits - before.sync_commits;
    let syncs = after.log_syncs - before.log_syncs;
    println!("{syncs} syncs for {commits} durable commits in {} groups", after.commit_groups - before.commit_groups);
    assert_eq!(commits, 400);
    assert!(syncs * 2 < commits, "{syncs} syncs for {commits} commits");
    assert_eq!(db.default_family().iter().count(), 400);
}

#[test]
fn a_ticket_says_when_a_write_is_durable() {
    let disk = Disk::new();
    let db = setup(disk.fs()).open().unwrap();
    let commit = db.put("a", "1").unwrap();
    let other = db.put("b", "2").unwrap();
    assert!(commit.seq() < other.seq());
    let syncs = db.stats().counters.log_syncs;
    commit.wait_durable().unwrap();
    assert!(db.stats().counters.log_syncs > syncs);
    // What was waited for survives the loss of power.
    let crashed = disk.crash(0, 1);
    let after = setup(crashed.fs()).open().unwrap();
    assert_eq!(after.get("a").unwrap().unwrap(), b"1");
    drop(after);
    // A write that is durable already is not synced again.
    let syncs = db.stats().counters.log_syncs;
    commit.wait_durable().unwrap();
    assert_eq!(db.stats().counters.log_syncs, syncs);
}

#[test]
fn callbacks_come_once_and_without_locks() {
    let db = setup(Arc::new(MemFs::new())).open().unwrap();
    let (tell, told) = mpsc::channel();
    let calls = Arc::new(AtomicUsize::new(0));
    for n in 0..20 {
        let commit = db.put(format!("{n}"), "value").unwrap();
        let (tell, calls, db) = (tell.clone(), calls.clone(), db.clone());
        commit.on_durable(move |result| {
            calls.fetch_add(1, Ordering::SeqCst);
            // The database may be used here: no engine lock is held.
            let found = db.get(format!("{n}")).unwrap().is_some();
            tell.send((n, result.is_ok() && found)).unwrap();
        });
    }
    // Somebody who panics does no harm to the others.
    db.put("panic", "value").unwrap().on_durable(|_| panic!("on purpose"));
    db.sync().unwrap();
    for _ in 0..20 {
        let (n, ok) = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(ok, "callback {n}");
    }
    let commit = db.put("last", "value").unwrap();
    let (tell, told) = mpsc::channel();
    commit.on_durable(move |result| tell.send(result.is_ok()).unwrap());
    db.sync().unwrap();
    assert!(told.recv_timeout(Duration::from_secs(20)).unwrap());
    assert_eq!(calls.load(Ordering::SeqCst), 20);
}

#[test]
fn the_background_syncs_buffered_writes() {
    let disk = Disk::new();
    let mut setup = setup(disk.fs());
    setup.options = setup.options.sync_interval(Duration::from_millis(20));
    let db = setup.open().unwrap();
    db.put("a", "1").unwrap();
    let begun = std::time::Instant::now();
    loop {
        let crashed = disk.crash(0, 1);
        let after = setup.on(crashed.fs()).open().unwrap();
        if after.get("a").unwrap().is_some() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no background sync");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_failed_sync_poisons_the_handle() {
    let disk = Disk::new();
    let faults = disk.faults();
    let db = setup(faults.fs()).open().unwrap();
    db.put("a", "1").unwrap();
    db.sync().unwrap();
    faults.control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Sync));
    let error = db.default_family().put_with("b", "2", Durability::Sync).unwrap_err();
    assert!(matches!(error.kind(), lignite::ErrorKind::Poisoned | lignite::ErrorKind::Io), "{error:?}");
    // Reads go on, writes do not, and no later sync makes it good again (G9).
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
    for _ in 0..3 {
        assert_eq!(db.put("c", "3").unwrap_err().kind(), lignite::ErrorKind::Poisoned);
        assert_eq!(db.sync().unwrap_err().kind(), lignite::ErrorKind::Poisoned);
    }
    assert!(db.health().poisoned.is_some());
    drop(db);
    let db = setup(disk.fs()).open().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
    assert_eq!(db.get("c").unwrap(), None);
    db.put("d", "4").unwrap();
}
