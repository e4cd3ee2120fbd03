//! What opening a database after an accident does, on real files too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use lignite::internals::fs::Fs;
use lignite::internals::fs::mem::MemFs;
use lignite::internals::record::record_len;
use lignite::internals::wal;
use lignite::{CheckOptions, Db, ErrorKind, LogMode, Options};
use lignite_tests::sim::{Setup, files, put_files};
use lignite_tests::{child, programme};

fn quiet() -> Options {
    Options::new().background_threads(0).decode_threads(0).sync_interval(std::time::Duration::ZERO)
}

fn setup(fs: Arc<dyn Fs>) -> Setup {
    Setup { options: quiet(), ..Setup::new(fs, 4) }
}

/// A database that was not closed, with ten records in its log of which the first `durable` are
/// promised to be so by a later record; and the name of its log.
fn unclosed(durable: usize) -> (Setup, BTreeMap<String, Vec<u8>>, String) {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let db = setup.open().unwrap();
    for n in 0..10 {
        db.put(format!("key{n}"), format!("value {n}").repeat(5)).unwrap();
        if n + 1 == durable {
            db.sync().unwrap();
        }
    }
    let files = files(&*fs, &setup.dir);
    let log = files.iter().filter(|(n, _)| n.ends_with(".wal")).max_by_key(|(_, b)| b.len()).unwrap().0.clone();
    drop(db);
    (setup, files, log)
}

fn open_with(setup: &Setup, files: &BTreeMap<String, Vec<u8>>) -> (Arc<MemFs>, lignite::Result<Db>) {
    let fs = Arc::new(MemFs::new());
    put_files(&*fs, &setup.dir, files);
    let db = setup.on(fs.clone()).open();
    (fs, db)
}

/// Records end behind one another; the last one ends where the file does.
fn position_of(log: &[u8], text: &str) -> usize {
    log.windows(text.len()).position(|w| w == text.as_bytes()).unwrap()
}

#[test]
fn a_torn_tail_is_cut_and_counted() {
    let (setup, sound, log) = unclosed(0);
    for n in [9, 7] {
        let mut torn = sound.clone();
        let bytes = torn.get_mut(&log).unwrap();
        // The machine stopped inside record n.
        let cut = position_of(bytes, &format!("value {n}")) + 3;
        bytes.truncate(cut);
        let (fs, db) = open_with(&setup, &torn);
        let db = db.unwrap();
        assert_eq!(db.default_family().iter().count(), n);
        let stats = db.stats();
        assert!(stats.recovered.torn_tail_bytes > 0 && !stats.recovered.clean, "{:?}", stats.recovered);
        // The next open finds nothing to mend.
        drop(db);
        let db = setup.on(fs).open().unwrap();
        assert_eq!(db.default_family().iter().count(), n);
        assert_eq!(db.stats().recovered.torn_tail_bytes, 0);
    }
}

/// A process with a mapped log dies: the space that it had written ahead is no tail, for the next open, a
/// reader and a check, before its death and after. A closed log has none. G20.
#[test]
fn space_written_ahead_is_no_tail() {
    let fs = Arc::new(MemFs::new());
    let mut setup = setup(fs.clone());
    setup.options = setup.options.log_mode(LogMode::Mapped);
    let db = setup.open().unwrap();
    for n in 0..10 {
        db.put(format!("key{n}"), format!("value {n}").repeat(5)).unwrap();
    }
    let left = files(&*fs, &setup.dir);
    assert!(left.iter().any(|(name, bytes)| name.ends_with(".wal") && bytes.ends_with(&[0; 1000])));
    let look = |setup: &Setup| {
        let reader = setup.builder().open_read_only(&setup.dir).unwrap();
        assert_eq!((reader.iter().count(), reader.stats().recovered.torn_tail_bytes), (10, 0));
        let report = setup.builder().check(&setup.dir, &CheckOptions::new().deep(true), &mut |_| {}).unwrap();
        assert!(report.is_clean() && report.torn_tail_bytes == 0, "{report:?}");
    };
    look(&setup);
    assert!(db.check(true, &mut |_| {}).unwrap().is_clean());
    let dead = Arc::new(MemFs::new());
    put_files(&*dead, &setup.dir, &left);
    look(&setup.on(dead.clone()));
    let after = setup.on(dead).open().unwrap();
    let recovered = after.stats().recovered;
    assert_eq!((after.iter().count(), recovered.torn_tail_bytes, recovered.clean), (10, 0, false));
    db.close().unwrap();
    for (name, bytes) in files(&*fs, &setup.dir).iter().filter(|(name, _)| name.ends_with(".wal")) {
        let mut end = 0;
        wal::scan_file(&*fs, &setup.dir.join(name), &mut |item| {
            if let wal::ScanItem::Record { offset, payload, .. } = item {
                end = offset + record_len(payload.len());
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(end, bytes.len() as u64, "{name}");
    }
}

#[test]
fn damage_before_a_promise_is_refused_with_its_place() {
    let (setup, sound, log) = unclosed(8);
    // Record 9 says that everything up to record 7 was synced: a defect there is no torn tail.
    for n in [0, 3, 7] {
        let mut damaged = sound.clone();
        let bytes = damaged.get_mut(&log).unwrap();
        let at = position_of(bytes, &format!("value {n}"));
        bytes[at] ^= 1;
        let (fs, db) = open_with(&setup, &damaged);
        let error = db.err().unwrap_or_else(|| panic!("damage in record {n} was not noticed"));
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
        assert!(error.file().unwrap().ends_with(&log), "{error:?}");
        assert!(error.offset().is_some_and(|o| o as usize <= at), "{error:?}");
        let left = files(&*fs, &setup.dir);
        assert_eq!(left, damaged, "a failed open changed something");
    }
    // A log that is cut below the promise is no torn tail either.
    let mut cut = sound.clone();
    let bytes = cut.get_mut(&log).unwrap();
    let at = position_of(bytes, "value 2");
    // The last record, which carries the promise, is still there, behind zeros.
    let end = position_of(bytes, "value 8") - 80;
    bytes[at..end].fill(0);
    let (_, db) = open_with(&setup, &cut);
    assert_eq!(db.err().unwrap().kind(), ErrorKind::Corruption);
}

#[test]
fn damage_behind_every_promise_is_a_torn_tail() {
    let (setup, sound, log) = unclosed(5);
    // Nothing says that record 6 was durable, so from there on all is gone, later records included.
    let mut damaged = sound.clone();
    let bytes = damaged.get_mut(&log).unwrap();
    let at = position_of(bytes, "value 6");
    bytes[at] ^= 1;
    let (_, db) = open_with(&setup, &damaged);
    let db = db.unwrap();
    assert_eq!(db.default_family().iter().count(), 6);
    assert!(db.stats().recovered.torn_tail_bytes > 0);
}

#[test]
fn under_a_seal_nothing_is_a_torn_tail() {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let db = setup.open().unwrap();
    for n in 0..10 {
        db.put(format!("key{n}"), format!("value {n}").repeat(5)).unwrap();
    }
    db.close().unwrap();
    let sound = files(&*fs, &setup.dir);
    let (_, db) = open_with(&setup, &sound);
    assert!(db.unwrap().stats().recovered.clean);
    for (name, bytes) in sound.iter().filter(|(n, _)| n.ends_with(".wal") || n.starts_with("MANIFEST")) {
        let mut shorter = sound.clone();
        shorter.get_mut(name).unwrap().truncate(bytes.len() - 1);
        let (_, db) = open_with(&setup, &shorter);
        let error = db.err().unwrap_or_else(|| panic!("{name} was cut and nobody noticed"));
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
    }
}

#[test]
fn damage_in_the_manifest_is_refused_and_changes_nothing() {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let db = setup.open().unwrap();
    for n in 0..3 {
        db.put(format!("key{n}"), "value").unwrap();
        db.flush().unwrap();
    }
    // Not sealed: the process dies here.
    let sound = files(&*fs, &setup.dir);
    drop(db);
    let manifest = sound.keys().find(|n| n.starts_with("MANIFEST")).unwrap().clone();
    let len = sound[&manifest].len();
    let mut refused = 0;
    for offset in (0..len).step_by(3) {
        let mut damaged = sound.clone();
        damaged.get_mut(&manifest).unwrap()[offset] ^= 4;
        let (fs, db) = open_with(&setup, &damaged);
        match db {
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported),
                    "byte {offset}: {error:?}"
                );
                assert!(error.file().unwrap().ends_with(&manifest), "byte {offset}: {error:?}");
                let left = files(&*fs, &setup.dir);
                assert_eq!(left, damaged, "byte {offset}: a failed open changed something");
            }
            // Only the last edit may be taken for a torn one; what it said is in the log still.
            Ok(db) => assert_eq!(db.default_family().iter().count(), 3, "byte {offset}"),
        }
    }
    assert!(refused > len / 3 / 2, "{refused} of {} were refused", len / 3);
}

#[test]
fn a_read_only_open_writes_nothing() {
    for closed in [true, false] {
        let fs = Arc::new(MemFs::new());
        let setup = setup(fs.clone());
        let db = setup.open().unwrap();
        for n in 0..50 {
            db.put(format!("key{n:02}"), "value").unwrap();
            if n % 20 == 19 {
                db.flush().unwrap();
            }
        }
        let mut before = files(&*fs, &setup.dir);
        if closed {
            db.close().unwrap();
            before = files(&*fs, &setup.dir);
        } else {
            // As a killed process leaves it: with a torn tail.
            drop(db);
            let log = before.keys().rfind(|n| n.ends_with(".wal")).unwrap().clone();
            before.get_mut(&log).unwrap().extend_from_slice(b"torn");
        }
        let fs = Arc::new(MemFs::new());
        put_files(&*fs, &setup.dir, &before);
        fs.sync_all();
        let setup = setup.on(fs.clone());
        let db = setup.builder().open_read_only(&setup.dir).unwrap_or_else(|e| panic!("closed {closed}: {e:?}"));
        assert_eq!(db.default_family().iter().count(), 50);
        assert_eq!(db.get("key07").unwrap().unwrap(), b"value");
        assert_eq!(db.put("a", "b").unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(db.compact().unwrap_err().kind(), ErrorKind::ReadOnly);
        assert!(db.create_column_family("x", lignite::CfOptions::new()).is_err());
        assert!(db.stats().read_only);
        drop(db);
        let after = files(&*fs, &setup.dir);
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        for (name, bytes) in &after {
            assert!(*bytes == before[name], "{name}: {} bytes, before {}", bytes.len(), before[name].len());
        }
        assert_eq!(fs.pending(), 0, "a read-only open wrote something");
    }
}

/// The story: a child process with several writing threads says what is acknowledged and dies at a
/// random moment. What it said is there (G1, both levels), all of it a prefix of the commit order with
/// no batch in part (G2), families that were made, renamed, dropped and ingested to included (G5);
/// what an open has shown stays (G3); a copy is one state (G7); a snapshot does not change (G25); a
/// reader beside the child sees one state (G27); and no call takes longer than 30 s (G14).
#[test]
fn a_killed_process_loses_nothing_that_it_said() {
    child::set_binary(env!("CARGO_BIN_EXE_xtask"));
    let tally = programme::run_in_suite("kills");
    assert!(tally.get("kills") >= 8 && tally.get("acked_writes_checked") > 100, "{:?}", tally.0);
}

/// The story: while a checkpoint is being made, another thread renames a family again and again, and
/// puts a number into it before each. The copy is one state (G7): the name in it is the one that goes
/// with the number in it, not a later one.
#[test]
fn a_copy_has_the_names_of_its_moment() {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let db = setup.open().unwrap();
    let done = AtomicBool::new(false);
    let turns = AtomicI64::new(0);
    // Also when an assertion fails.
    struct SetAtEnd<'a>(&'a AtomicBool);
    impl Drop for SetAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let renamed = std::thread::scope(|scope| {
        let end = SetAtEnd(&done);
        let renamer = scope.spawn(|| {
            let family = db.create_column_family("name 0", lignite::CfOptions::new()).unwrap();
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                family.put("number", format!("{n}")).unwrap();
                db.rename_column_family(&format!("name {n}"), &format!("name {}", n + 1)).unwrap();
                n += 1;
                turns.store(n, Ordering::Relaxed);
            }
            n
        });
        for copy in 0..60 {
            // On a busy machine either may be far ahead of the other.
            while turns.load(Ordering::Relaxed) <= copy && !renamer.is_finished() {
                std::thread::yield_now();
            }
            let dir = setup.dir.with_file_name(format!("copy-{copy}"));
            db.checkpoint(&dir).unwrap();
            let copy = Options::new().decode_threads(0);
            let copy = lignite::Builder::new(copy).fs(fs.clone()).open_read_only(&dir).unwrap();
            let names = copy.column_family_names();
            let Some(name) = names.iter().find_map(|n| n.strip_prefix("name ")) else { continue };
            let name: i64 = name.parse().unwrap();
            let family = copy.column_family(&format!("name {name}")).unwrap();
            let number = family.get("number").unwrap();
            let number = number.map_or(-1, |n| String::from_utf8_lossy(&n).parse::<i64>().unwrap());
            assert!(number == name || number == name - 1, "the name {name} beside the number {number}");
        }
        drop(end);
        renamer.join().unwrap()
    });
    assert!(renamed > 60, "{renamed}");
}
