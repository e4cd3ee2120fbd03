//! What the engine does when the disk is full, reads fail, syncs fail, jobs fail, or the log is damaged.
//!
//! One story each. The sweeps over every call are the programme's; here stands what a user relies on
//! by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lignite::internals::filename::FileName;
use lignite::internals::fs::Fs;
use lignite::internals::fs::fault::{CallKind, Errno, Fault, Rule};
use lignite::internals::fs::mem::MemFs;
use lignite::{CfOptions, Compression, Db, Durability, ErrorKind, LogMode, LogRecovery, Options};
use lignite_tests::checks;
use lignite_tests::disk::{Disk, Faults, POLICIES};
use lignite_tests::sim::{Setup, content, files, put_files};

fn quiet() -> Options {
    Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(Duration::ZERO)
        .memory_budget(1 << 20)
        .memtable_size(32 << 10)
        .log_segment_size(64 << 10)
        .log_size_max(256 << 10)
        .reserve_size(1 << 20)
}

fn setup(fs: Arc<dyn Fs>) -> Setup {
    Setup { options: quiet(), ..Setup::new(fs, 11) }
}

/// With real threads, which give up soon.
fn threaded(fs: Arc<dyn Fs>) -> Setup {
    let options = quiet().background_threads(2).stall_timeout(Duration::from_millis(300));
    Setup { options, ..Setup::new(fs, 11).threads(2) }
}

fn key(n: u32) -> String {
    format!("key{n:06}")
}

/// A kilobyte that no codec makes smaller.
fn value(n: u32) -> Vec<u8> {
    lignite_tests::ops::Value { seed: n, len: 1000 }.bytes()
}

/// Puts keys until there is no space; how many there are.
fn fill(db: &Db) -> u32 {
    for n in 0..20_000 {
        match db.put(key(n), value(n)) {
            Ok(_) => {}
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::NoSpace | ErrorKind::Stalled), "{e:?}");
                assert_eq!(db.get(key(n)).unwrap(), None, "a write without space was applied");
                return n;
            }
        }
    }
    panic!("the disk is not full");
}

fn assert_holds(db: &Db, keys: std::ops::Range<u32>) {
    let found: Vec<Vec<u8>> = db.iter().map(|e| e.unwrap().key().to_vec()).collect();
    assert_eq!(found, keys.map(|n| key(n).into_bytes()).collect::<Vec<_>>());
}

/// The story: a disk runs full under a writer. Reads go on; deletes and compactions live on the reserve
/// and make room; then writes work again, on the same handle. Nothing that was refused is ever there.
/// G4, G12.
#[test]
fn a_full_disk_is_emptied_by_deletes() {
    let disk = Disk::new();
    let faults = disk.faults();
    let db = setup(faults.fs()).open().unwrap();
    assert_eq!(db.health().reserve_bytes, 1 << 20);
    faults.control.set_free_bytes(Some(2 << 20));
    let snapshot = db.snapshot();
    let n = fill(&db);
    assert!(n > 300, "only {n} fitted");
    assert_holds(&db, 0..n);
    // Another process of no concern to us takes what the reserve gives back. But not all of it.
    for step in 0..n / 10 {
        db.delete_range(key(step * 10)..key(step * 10 + 10)).unwrap();
    }
    // What is refused is refused whole, as long as the reserve is out.
    if db.health().short_of_space {
        assert_eq!(db.health().reserve_bytes, 0);
        let error = db.put("more", value(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    }
    drop(snapshot);
    db.flush().unwrap();
    db.compact().unwrap();
    while db.step().unwrap() {}
    db.put("again", "1").unwrap();
    assert!(db.health().is_good(), "{:?}", db.health());
    assert_eq!(db.health().reserve_bytes, 1 << 20);
    let mut kept = content(&db).unwrap();
    assert_eq!(kept["default"].len() as u32, n % 10 + 1);
    checks::database(&db, &*faults.fs()).unwrap();
    drop(db);
    for policy in [1, 0] {
        let db = setup(disk.crash(policy, 1).fs()).open().unwrap();
        if policy == 1 {
            assert_eq!(content(&db).unwrap(), kept);
        }
    }
    kept.clear();
}

/// As above with background threads, and nobody deletes: somebody else makes room. G11, G12, G14.
#[test]
fn a_full_disk_that_others_empty_is_used_again_at_once() {
    let disk = Disk::new();
    let faults = disk.faults();
    let db = threaded(faults.fs()).open().unwrap();
    faults.control.set_free_bytes(Some(3 << 20));
    let n = fill(&db);
    assert_eq!(db.iter().count() as u32, n);
    faults.control.set_free_bytes(Some(64 << 20));
    let begun = Instant::now();
    // Stalled writes wait for the next attempt of the flush, which comes within a second.
    while let Err(e) = db.put("again", value(1)) {
        assert!(matches!(e.kind(), ErrorKind::Stalled | ErrorKind::NoSpace), "{e:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{e:?}");
    }
    let idle = |db: &Db| {
        while let Err(e) = db.wait_for_idle() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{e:?}");
        }
    };
    idle(&db);
    assert!(db.health().is_good(), "{:?}", db.health());
    assert_eq!(db.iter().count() as u32, n + 1);
    db.close().unwrap();
}

/// The same, one call at a time: whatever says that there is no space, and wherever it says so, the
/// write is certainly absent and the next one works. G4, G12.
#[test]
fn no_space_in_any_words_refuses_one_write() {
    for errno in [Errno::Enospc, Errno::Edquot, Errno::Efbig] {
        for fault in [Fault::Error(errno), Fault::ShortWrite { keep: 4096, error: errno }] {
            for kind in [CallKind::Allocate, CallKind::Write, CallKind::Create] {
                let disk = Disk::new();
                let faults = disk.faults();
                let mut setup = setup(faults.fs());
                setup.options = setup.options.reserve_size(0).memtable_size(1 << 20).log_segment_size(16 << 10);
                let db = setup.open().unwrap();
                let mut refused = Vec::new();
                for n in 0..120 {
                    let rule = Rule::new(fault).kind(kind).suffix(".wal");
                    // A full step and what is needed at least are both tried.
                    let rule = if n % 3 == 1 { Some(rule.sticky()) } else { None };
                    rule.into_iter().for_each(|r| faults.control.add(r));
                    match db.put(key(n), value(n)) {
                        Ok(_) => {}
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::NoSpace, "{e:?}");
                            refused.push(n);
                        }
                    }
                    faults.control.heal();
                }
                let story = format!("{errno:?} {fault:?} {kind:?}");
                // The log goes on in a new segment where a file may not grow.
                assert!(!refused.is_empty() || errno == Errno::Efbig, "{story}");
                assert!(db.health().is_good(), "{story}: {:?}", db.health());
                let expected = content(&db).unwrap();
                assert_eq!(expected["default"].len(), 120 - refused.len(), "{story}");
                for policy in 0..POLICIES {
                    let after = setup.on(disk.crash(policy, 3).fs()).open().unwrap();
                    for n in &refused {
                        assert_eq!(after.get(key(*n)).unwrap(), None, "{story}, policy {policy}");
                    }
                    if policy == 1 {
                        assert_eq!(content(&after).unwrap(), expected, "{story}");
                    }
                }
            }
        }
    }
}

/// A write that could not be cut off again poisons wherever it was made, also where it was the end mark
/// of a segment that may not grow: nobody is told later that "an earlier write failed". G4, G6.
#[test]
fn a_write_that_can_not_be_cut_off_poisons_at_once() {
    let mut poisoned = 0;
    for (n, errno) in (0..24).flat_map(|n| [(n, Errno::Efbig), (n, Errno::Emfile), (n, Errno::Enospc)]) {
        let disk = Disk::new();
        let faults = disk.faults();
        let mut setup = setup(faults.fs());
        setup.options = setup.options.reserve_size(0).memtable_size(1 << 20).log_segment_size(16 << 10);
        let db = setup.open().unwrap();
        (0..n).for_each(|n| drop(db.put(key(n), value(n)).unwrap()));
        for (kind, errno) in
            [(CallKind::Write, errno), (CallKind::SetLen, Errno::Eio), (CallKind::Create, Errno::Enospc)]
        {
            let mut rule = Rule::new(Fault::Error(errno)).kind(kind).suffix(".wal");
            rule.times = 1;
            faults.control.add(rule);
        }
        let outcome = db.put(key(n), value(n));
        faults.control.heal();
        let health = db.health();
        match outcome {
            Err(e) if e.kind() == ErrorKind::Poisoned => assert!(health.poisoned.is_some(), "{n} {errno:?}: {e}"),
            outcome => assert!(health.is_good(), "{n} {errno:?}: {outcome:?} {health:?}"),
        }
        if health.is_good() {
            db.put(key(n), value(n)).unwrap();
        } else {
            poisoned += 1;
        }
    }
    assert!(poisoned > 10, "{poisoned}");
}

/// A database is opened, read and closed on a disk without a byte left, and when that cannot be it is
/// as it was. G12, G22.
#[test]
fn a_full_disk_opens_and_closes() {
    for clean in [true, false] {
        let disk = Disk::new();
        let faults = disk.faults();
        let setup = setup(faults.fs());
        let db = setup.open().unwrap();
        (0..50).for_each(|n| drop(db.put(key(n), value(n)).unwrap()));
        if clean {
            db.close().unwrap();
        } else {
            drop((disk.crash(1, 1), db));
        }
        faults.control.set_free_bytes(Some(0));
        let db = setup.open().unwrap();
        assert_holds(&db, 0..50);
        db.delete(key(0)).unwrap();
        db.close().unwrap();
        // Without a reserve there is no space, and nothing is changed.
        faults.control.heal();
        let mut bare = setup.clone();
        bare.options = bare.options.reserve_size(0);
        bare.open().unwrap().close().unwrap();
        let before = files(&*faults.fs(), &setup.dir);
        faults.control.set_free_bytes(Some(0));
        assert_eq!(bare.open().err().unwrap().kind(), ErrorKind::NoSpace);
        assert!(files(&*faults.fs(), &setup.dir) == before, "a failed open changed something");
        assert_eq!(bare.builder().open_read_only(&setup.dir).unwrap().iter().count(), 49);
        faults.control.heal();
        assert_holds(&bare.open().unwrap(), 1..50);
    }
}

/// Too many open files: the call fails, and works when there are fewer. G13.
#[test]
fn out_of_descriptors_is_a_passing_state() {
    let disk = Disk::new();
    let faults = disk.faults();
    let db = setup(faults.fs()).open().unwrap();
    for kind in [CallKind::Create, CallKind::Open] {
        for n in 0..200 {
            if n % 40 == 7 {
                faults.control.add(Rule::new(Fault::Error(Errno::Emfile)).kind(kind).sticky());
                let _ = db.put(key(n), value(n));
                let _ = db.flush();
                let _ = db.iter().count();
                faults.control.heal();
            }
            db.put(key(n), value(n)).unwrap();
        }
        db.flush().unwrap();
        assert_holds(&db, 0..200);
    }
    while db.step().unwrap() {}
    assert!(db.health().is_good(), "{:?}", db.health());
    db.close().unwrap();
    faults.control.add(Rule::new(Fault::Error(Errno::Emfile)).kind(CallKind::Create).skip(1).sticky());
    assert_eq!(setup(faults.fs()).open().err().unwrap().kind(), ErrorKind::Io);
    faults.control.heal();
    assert_holds(&setup(faults.fs()).open().unwrap(), 0..200);
}

/// A database with one table of many blocks, opened anew: nothing is cached.
fn one_table(disk: &Disk) -> (Setup, Faults, String) {
    let faults = disk.faults();
    let mut setup = setup(faults.fs());
    setup.options = setup.options.memtable_size(1 << 20).memory_budget(64 << 20);
    let plain = CfOptions::new().compression(Compression::none()).block_size(512);
    let db = setup.builder().column_family("default", plain).open(&setup.dir).unwrap();
    (0..200).for_each(|n| drop(db.put(key(n), format!("value {n:04}")).unwrap()));
    db.flush().unwrap();
    db.close().unwrap();
    let name = files(&*disk.fs(), &setup.dir).into_keys().find(|n| n.ends_with(".sst")).unwrap();
    (setup, faults, name)
}

/// A read that fails once says so, is not remembered, and is never an end or an absence. Wrong bytes
/// are read once more. G8, G16.
#[test]
fn a_read_that_fails_once_works_the_next_time() {
    let disk = Disk::new();
    let (setup, faults, _) = one_table(&disk);
    let db = setup.open().unwrap();
    for kind in [CallKind::Open, CallKind::Metadata, CallKind::Read, CallKind::Read] {
        faults.control.add(Rule::new(Fault::Error(Errno::Eio)).kind(kind).suffix(".sst"));
        let error = db.get(key(7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{kind:?}: {error:?}");
        faults.control.heal();
    }
    assert_eq!(db.get(key(7)).unwrap().unwrap(), b"value 0007");
    for n in (0..200).step_by(9) {
        faults.control.add(Rule::new(Fault::WrongRead).kind(CallKind::Read).suffix(".sst"));
        assert_eq!(db.get(key(n)).unwrap().unwrap(), format!("value {n:04}").as_bytes());
        faults.control.heal();
    }
    drop(db);
    // A scan: it fails, and does not end.
    for skip in 0..12 {
        let db = setup.open().unwrap();
        let mut cursor = db.default_family().cursor().unwrap();
        faults.control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Read).suffix(".sst").skip(skip).sticky());
        let mut seen = 0;
        let mut outcome = cursor.seek_to_first();
        while outcome.is_ok() && cursor.valid() {
            seen += 1;
            outcome = cursor.next();
        }
        let failed = outcome.is_err();
        assert!(failed || seen == 200, "the scan ended after {seen}");
        faults.control.heal();
        if failed {
            // It stays failed, whatever the disk does now, until it is sent somewhere.
            assert!(!cursor.valid());
            assert_eq!(cursor.next().unwrap_err().kind(), ErrorKind::Io);
            assert_eq!(cursor.prev().unwrap_err().kind(), ErrorKind::Io);
            assert!(cursor.next_chunk(9, &mut Vec::new()).is_err());
            cursor.seek(key(100)).unwrap();
            assert_eq!(cursor.key(), key(100).as_bytes());
        }
        assert_eq!(db.iter().map(Result::unwrap).count(), 200);
    }
}

/// Into a mapped log records are stored, and where writers wait for the device after each they are written; syncs that
/// nobody waits for change nothing.
#[test]
fn who_waits_for_the_device_writes_into_the_mapped_log() {
    let disk = Disk::new();
    let faults = disk.faults();
    let mut setup = setup(faults.fs());
    setup.options = setup.options.log_mode(LogMode::Mapped).memtable_size(1 << 20).memory_budget(16 << 20);
    let db = setup.open().unwrap();
    let put = |n: u32, durability| {
        let before = faults.control.counts().stores;
        db.default_family().put_with(key(n), "value", durability).unwrap();
        faults.control.counts().stores > before
    };
    for n in 0..100 {
        assert!(put(n, Durability::Buffered), "put {n}");
        db.sync().unwrap();
    }
    // Before it shows that each waits.
    assert!(put(100, Durability::Sync) && put(101, Durability::Sync));
    for n in 102..150 {
        assert!(!put(n, Durability::Sync), "put {n}");
    }
    // Some more are written before it shows that nobody waits any more.
    let stored = (150..250).filter(|&n| put(n, Durability::Buffered)).count();
    assert!((60..80).contains(&stored), "{stored}");
    drop(db);
    assert_holds(&setup.open().unwrap(), 0..250);
}

/// A record finds no space halfway: it is cut off, and the cut is durable before the writer is told. Written into a
/// mapped log, and into any other.
#[test]
fn what_finds_no_space_is_cut_off_durably() {
    for mode in [LogMode::Mapped, LogMode::Positioned] {
        let disk = Disk::new();
        let faults = disk.faults();
        let mut setup = setup(faults.fs());
        setup.options = setup.options.log_mode(mode).reserve_size(0).memtable_size(1 << 20).memory_budget(16 << 20);
        let db = setup.open().unwrap();
        let put = |n: u32, durability| db.default_family().put_with(key(n), "value", durability);
        (0..10).for_each(|n| drop(put(n, Durability::Sync).unwrap()));
        let fault = Fault::ShortWrite { keep: 60, error: Errno::Enospc };
        faults.control.add(Rule::new(fault).kind(CallKind::Write));
        let before = faults.control.counts();
        assert_eq!(put(10, Durability::Buffered).unwrap_err().kind(), ErrorKind::NoSpace, "{mode:?}");
        let after = faults.control.counts();
        assert_eq!((after.syncs - before.syncs, after.faults - before.faults), (1, 1), "{mode:?}");
        assert_eq!(db.get(key(10)).unwrap(), None);
        for n in 10..20 {
            put(n, Durability::Sync).unwrap();
        }
        drop(db);
        assert_holds(&setup.open().unwrap(), 0..20);
    }
}

/// Damage that stays: the error names file, place, family and keys; other keys can be read; compaction
/// leaves the table alone and says so; writes go on. G16, G17.
#[test]
fn a_damaged_block_is_named_and_left_alone() {
    let disk = Disk::new();
    let (mut setup, faults, name) = one_table(&disk);
    disk.memory().flip_bit(&setup.dir.join(&name), 2000, 3).unwrap();
    setup.options = setup.options.memtable_size(32 << 10);
    let db = setup.open().unwrap();
    let mut bad = Vec::new();
    for n in 0..200 {
        match db.get(key(n)) {
            Ok(found) => assert_eq!(found.unwrap(), format!("value {n:04}").as_bytes()),
            Err(e) => {
                assert!(e.is_corruption() && e.file().unwrap().ends_with(&name), "{e:?}");
                assert!(e.offset().is_some_and(|o| (1400..2001).contains(&o)), "{e:?}");
                assert_eq!(e.column_family(), Some("default"));
                let (first, last) = e.keys().expect("the keys are named");
                assert!(first <= key(n).as_bytes() && key(n).as_bytes() <= last, "{e:?}");
                bad.push(n);
            }
        }
    }
    assert!(!bad.is_empty() && bad.len() < 50, "{bad:?}");
    let outcomes: Vec<bool> = db.iter().map(|e| e.is_ok()).collect();
    assert_eq!(outcomes.iter().filter(|ok| !**ok).count(), 1);
    assert!(!outcomes[outcomes.len() - 1], "a scan over damage ended like any other");
    // Writes call for compactions of that table: one is tried, no more.
    for n in 0..2500 {
        db.put(key(n), value(n)).unwrap();
    }
    db.flush().unwrap();
    while db.step().is_ok_and(|did| did) {}
    let health = db.health();
    assert_eq!(health.damaged_tables.len(), 1, "{health:?}");
    assert!(health.damaged_tables[0].path.ends_with(&name) && !health.is_good(), "{health:?}");
    let errors = db.stats().counters.background_errors;
    assert_eq!(errors, 1);
    for n in 0..200 {
        db.put(key(n), value(n)).unwrap();
    }
    while db.step().is_ok_and(|did| did) {}
    assert_eq!(db.stats().counters.background_errors, errors);
    // On demand it is tried, and fails again.
    assert!(db.compact().unwrap_err().is_corruption());
    assert!(faults.control.counts().reads > 0);
    // What was written over it is there.
    assert_eq!(db.get(key(bad[0])).unwrap().unwrap(), value(bad[0]));
}

/// A damaged filter: reads do without it, and everybody is told. G8, G16.
#[test]
fn a_damaged_filter_is_done_without() {
    let disk = Disk::new();
    let (setup, _, name) = one_table(&disk);
    let path = setup.dir.join(&name);
    let len = disk.fs().metadata(&path).unwrap().len;
    let mut found = 0;
    for offset in (48..len).step_by(64) {
        disk.memory().flip_bit(&path, offset, 1).unwrap();
        if let Ok(db) = setup.builder().open_read_only(&setup.dir)
            && let Some(filter) = db.health().damaged_filters.first()
        {
            found += 1;
            assert!(filter.path.ends_with(&name) && !db.health().is_good());
            assert_eq!(db.iter().map(Result::unwrap).count(), 200);
            for n in 0..200 {
                assert!(db.get(key(n)).unwrap().is_some() && db.get(format!("{}x", key(n))).unwrap().is_none());
            }
            let report = db.check(false, &mut |_| {}).unwrap();
            assert!(report.problems.iter().any(|p| p.message.contains("checksum")), "{report:?}");
        }
        disk.memory().flip_bit(&path, offset, 1).unwrap();
    }
    assert!(found >= 2, "the filter was hit {found} times");
}

/// One failed sync, of whatever: every later write is refused with the reason, no sync of that file is
/// tried again, reads go on; the next open works. G4, G6, G9.
#[test]
fn one_failed_sync_poisons() {
    for errno in [Errno::Eio, Errno::Enospc] {
        for (kind, suffix) in [
            (CallKind::Sync, ".wal"),
            (CallKind::SyncDir, ""),
            (CallKind::Sync, "MANIFEST-"),
            (CallKind::SyncDir, "later"),
        ] {
            let disk = Disk::new();
            let faults = disk.faults();
            let setup = setup(faults.fs());
            let db = setup.open().unwrap();
            db.put("a", "1").unwrap();
            if suffix == "later" {
                db.sync().unwrap(); // The next sync of the directory is that of a table.
            }
            let manifest = files(&*disk.fs(), &setup.dir).into_keys().find(|n| n.starts_with("MANIFEST")).unwrap();
            let suffix = if suffix == "MANIFEST-" {
                &manifest
            } else if suffix == "later" {
                ""
            } else {
                suffix
            };
            faults.control.take_log();
            faults.control.add(Rule::new(Fault::Error(errno)).kind(kind).suffix(suffix));
            let error = db.flush().unwrap_err();
            let story = format!("{errno:?} {kind:?} {suffix}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{story}");
            for _ in 0..3 {
                let error = db.put("b", "2").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Poisoned, "{story}");
                assert!(error.message().contains("cannot sync"), "{story}: {error:?}");
                for refused in [db.sync(), db.flush(), db.compact(), db.drop_column_family("x")] {
                    assert!(refused.is_err(), "{story}");
                }
                assert_eq!(
                    db.default_family().put_with("c", "3", Durability::Sync).unwrap_err().kind(),
                    ErrorKind::Poisoned
                );
                assert_eq!(db.get("a").unwrap().unwrap(), b"1", "{story}");
            }
            assert!(db.health().poisoned.is_some(), "{story}");
            assert!(db.close().is_err(), "{story}");
            let log = faults.control.take_log();
            let failed = log.iter().position(|c| c.failed).unwrap();
            let again = log[failed + 1..].iter().find(|c| c.kind == kind && c.name == log[failed].name);
            assert_eq!(again, None, "{story}");
            let db = setup.open().unwrap();
            assert_eq!(db.get("a").unwrap().unwrap(), b"1");
            assert_eq!((db.get("b").unwrap(), db.get("c").unwrap()), (None, None));
            db.put("d", "4").unwrap();
        }
    }
}

/// A table that cannot be written: the attempt leaves nothing and its number is not used again; what it
/// held stays readable; it is tried again and `health` says what is wrong until it works. G11.
#[test]
fn a_failed_flush_is_tried_again_under_another_number() {
    let disk = Disk::new();
    let faults = disk.faults();
    let db = setup(faults.fs()).open().unwrap();
    db.put("a", "1").unwrap();
    faults.control.take_log();
    for kind in [CallKind::Write, CallKind::Sync, CallKind::Create] {
        faults.control.add(Rule::new(Fault::Error(Errno::Eio)).kind(kind).suffix(".sst"));
        assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Io);
        let health = db.health();
        assert!(health.background_error.is_some() && health.background_failures > 0 && !health.is_good());
        assert!(!files(&*disk.fs(), db.path()).keys().any(|n| n.ends_with(".sst")), "{kind:?} left a table");
        assert_eq!(db.get("a").unwrap().unwrap(), b"1");
    }
    assert_eq!(db.health().background_failures, 3);
    db.put("b", "2").unwrap();
    db.flush().unwrap();
    assert!(db.health().is_good(), "{:?}", db.health());
    let mut made: Vec<String> =
        faults.control.take_log().into_iter().filter(|c| c.kind == CallKind::Create).map(|c| c.name).collect();
    let all = made.len();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), all, "a number was used twice: {made:?}");
    drop(db);
    let db = setup(disk.crash(0, 1).fs()).open().unwrap();
    assert_eq!(db.iter().count(), 2);
}

/// Background work fails for ever, or is paused: every call ends, most with `Stalled`. G14.
#[test]
fn every_call_ends_when_background_work_does_not() {
    for paused in [false, true] {
        let disk = Disk::new();
        let faults = disk.faults();
        let db = threaded(faults.fs()).open().unwrap();
        for n in 0..100 {
            db.put(key(n), value(n)).unwrap();
        }
        if paused {
            db.pause_background();
        } else {
            faults.control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Write).suffix(".sst").sticky());
        }
        let within = |what: &str, begun: Instant| {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what} took {:?}", begun.elapsed());
        };
        let begun = Instant::now();
        let error = (0..5000).find_map(|n| db.put(key(n), value(n)).err()).expect("writes must stop");
        assert_eq!(error.kind(), ErrorKind::Stalled, "{error:?}");
        assert!(paused || error.message().contains("cannot write"), "{error:?}");
        within("put", begun);
        let begun = Instant::now();
        let outcomes = [("flush", db.flush()), ("compact", db.compact()), ("wait_for_idle", db.wait_for_idle())];
        within("flush, compact and wait_for_idle", begun);
        for (what, outcome) in outcomes {
            // A pause stops jobs of the background only.
            assert_eq!(outcome.is_ok(), paused, "{what}: {outcome:?}");
        }
        let begun = Instant::now();
        db.pause_background();
        db.resume_background();
        let before = content(&db).unwrap();
        let _ = db.close();
        within("close", begun);
        faults.control.heal();
        let db = threaded(faults.fs()).open().unwrap();
        assert!(content(&db).unwrap() == before, "something was lost");
    }
}

/// Damage in the middle of the log: refused, and nothing is changed; on demand the state before it is
/// kept and the rest set aside. G20, G22.
#[test]
fn a_damaged_log_is_salvaged_on_demand_only() {
    for sealed in [false, true] {
        let fs = Arc::new(MemFs::new());
        let setup = setup(fs.clone());
        let db = setup.open().unwrap();
        for n in 0..10 {
            db.put(key(n), format!("value {n}").repeat(5)).unwrap();
            db.sync().unwrap();
        }
        let sound = files(&*fs, &setup.dir);
        let sound = if sealed {
            db.close().unwrap();
            files(&*fs, &setup.dir)
        } else {
            drop(db);
            sound
        };
        let log = sound.iter().filter(|(n, _)| n.ends_with(".wal")).max_by_key(|(_, b)| b.len()).unwrap().0.clone();
        for n in [1usize, 4, 8] {
            let mut damaged = sound.clone();
            let bytes = damaged.get_mut(&log).unwrap();
            let text = format!("value {n}");
            let at = bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
            bytes[at] ^= 4;
            let fs = Arc::new(MemFs::new());
            put_files(&*fs, &setup.dir, &damaged);
            let mut setup = setup.on(fs.clone());
            assert!(setup.open().err().unwrap().is_corruption());
            assert!(files(&*fs, &setup.dir) == damaged, "a failed open changed something");
            setup.options = setup.options.log_recovery(LogRecovery::SalvagePrefix);
            let expect = |db: &Db| assert_holds(db, 0..n as u32);
            expect(&setup.builder().open_read_only(&setup.dir).unwrap());
            let db = setup.open().unwrap();
            expect(&db);
            let stats = db.stats().recovered;
            assert!(stats.salvage_segments == 1 && stats.salvage_lost_bytes > 0 && !stats.clean, "{stats:?}");
            let left = files(&*fs, &setup.dir);
            assert_eq!(left[&format!("{log}.damaged")], damaged[&log]);
            assert!(!left.contains_key(&log));
            db.put("new", "1").unwrap();
            db.close().unwrap();
            // From now on it is a database like any other, and what was set aside stays.
            setup.options = setup.options.log_recovery(LogRecovery::Strict);
            let db = setup.open().unwrap();
            assert_eq!((db.iter().count(), db.stats().recovered.salvage_segments), (n + 1, 0));
            assert_eq!(files(&*fs, &setup.dir)[&format!("{log}.damaged")], damaged[&log]);
        }
        // Damage elsewhere is none of its affair.
        let mut damaged: BTreeMap<String, Vec<u8>> = sound.clone();
        let manifest = sound.keys().find(|n| n.starts_with("MANIFEST")).unwrap();
        damaged.get_mut(manifest).unwrap()[60] ^= 1;
        let fs = Arc::new(MemFs::new());
        put_files(&*fs, &setup.dir, &damaged);
        let mut setup = setup.on(fs.clone());
        setup.options = setup.options.log_recovery(LogRecovery::SalvagePrefix);
        assert!(setup.open().err().unwrap().is_corruption());
        assert!(files(&*fs, &setup.dir) == damaged);
    }
}

/// An error of the device is no missing database. G8.
#[test]
fn a_database_that_cannot_be_looked_at_is_not_missing() {
    let disk = Disk::new();
    let (mut setup, faults, _) = one_table(&disk);
    setup.options = setup.options.create_if_missing(false);
    let before = files(&*disk.fs(), &setup.dir);
    for kind in [CallKind::Metadata, CallKind::List, CallKind::Open, CallKind::Read] {
        for skip in 0..8 {
            faults.control.add(Rule::new(Fault::Error(Errno::Eio)).kind(kind).skip(skip));
            match setup.open() {
                Ok(db) => drop(db),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "{kind:?} {skip}: {e:?}"),
            }
            faults.control.heal();
        }
    }
    assert!(before.contains_key(&FileName::Current.to_string()));
    let db = setup.open().unwrap();
    assert_eq!(db.iter().count(), 200);
    assert_eq!(db.path(), Path::new("/db"));
}

/// Close and open again: where everything is in tables, there is no log to read, and nothing of the
/// numbers is forgotten.
#[test]
fn a_flushed_database_closes_without_a_log() {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let logs = || files(&*fs, &setup.dir).into_keys().filter(|name| name.ends_with(".wal")).count();
    let db = setup.open().unwrap();
    let other = db.create_column_family("other", CfOptions::new()).unwrap();
    for n in 0..100 {
        db.put(key(n), value(n)).unwrap();
    }
    db.flush().unwrap();
    let last = db.stats().sequence;
    db.close().unwrap();
    drop(other);
    assert_eq!(logs(), 0);

    let db = setup.open().unwrap();
    assert_eq!((db.stats().sequence, db.stats().recovered.log_bytes), (last, 0));
    assert_eq!(db.put(key(100), value(100)).unwrap().seq(), last + 1);
    db.close().unwrap();
    assert_eq!(logs(), 1, "the last put is in no table");

    // An open after that keeps the log as long as it is needed, and no longer.
    for expected in [2, 1, 0] {
        let db = setup.open().unwrap();
        assert_eq!(db.get(key(100)).unwrap().unwrap(), value(100));
        assert_eq!(db.iter().map(Result::unwrap).count(), 101);
        match expected {
            2 => {}
            1 => db.flush().unwrap(),
            _ => assert_eq!(db.stats().recovered.log_bytes, 0),
        }
        db.close().unwrap();
        assert_eq!(logs(), if expected == 2 { 2 } else { 0 });
    }
}
