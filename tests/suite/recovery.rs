//! What opening a database after an accident does, on real files too.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use lignite::internals::fs::Fs;
use lignite::internals::fs::mem::MemFs;
use lignite::{Db, ErrorKind, Options};
use lignite_tests::checks;
use lignite_tests::rng::{Rng, base_seed, scaled};
use lignite_tests::sim::{Setup, content, files, put_files};

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
        let mut left = files(&*fs, &setup.dir);
        left.insert("LOCK".to_string(), damaged["LOCK"].clone());
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
                let mut left = files(&*fs, &setup.dir);
                left.insert("LOCK".to_string(), damaged["LOCK"].clone());
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

/// The story: a child process writes batches to two families and says which are acknowledged. It is
/// killed at a random moment. What it said is there, in both families alike, with no batch in part
/// (G2); and the next child goes on where it stopped.
#[test]
fn a_killed_process_loses_nothing_that_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("db");
    let seed = base_seed();
    let mut rng = Rng::new(seed);
    let mut first = 0;
    for round in 0..scaled(12) {
        let acked = write_and_kill(&dir, first, round % 3 == 0, rng.within(20, 250));
        let db = Db::open(&dir).unwrap_or_else(|e| panic!("round {round}, seed {seed}: {e:?}"));
        let found = content(&db).unwrap();
        let none = Default::default();
        let (left, right) = (found.get("left").unwrap_or(&none), found.get("right").unwrap_or(&none));
        assert!(left == right, "round {round}: the families disagree");
        let Some(last) = left.keys().next_back().map(|k| u64::from_be_bytes(k[..].try_into().unwrap())) else {
            assert_eq!(acked, None, "round {round}: something was acknowledged, nothing is there");
            continue;
        };
        if let Some(acked) = acked {
            assert!(last >= acked, "round {round}: {acked} was acknowledged, {last} is the last one there");
        }
        for n in 0..=last {
            // Batch 3m+2 deletes what batch 3m+1 put.
            let gone = n % 3 == 1 && n < last;
            let value = left.get(&n.to_be_bytes()[..]);
            assert_eq!(value.is_some(), !gone, "round {round}: batch {n} of {last}");
            if let Some(value) = value {
                assert_eq!(*value, format!("value {n} ").repeat(1 + n as usize % 40).into_bytes());
            }
        }
        if round % 4 == 3 {
            db.compact().unwrap();
            checks::database(&db, &lignite::internals::fs::disk::DiskFs::new()).unwrap();
        }
        if round % 2 == 0 {
            db.close().unwrap();
        }
        first = last + 1;
    }
    println!("{first} batches over {} kills", scaled(12));
    assert!(first > 100);
}

/// Starts the writer, kills it after a while, and says the last number that it acknowledged.
fn write_and_kill(dir: &Path, first: u64, sync: bool, millis: u64) -> Option<u64> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["crash-writer", dir.to_str().unwrap(), &first.to_string(), if sync { "1" } else { "0" }])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut last = None;
        for line in out.lines() {
            // The last line may be cut short by the kill.
            match line.ok().and_then(|l| l.parse().ok()) {
                Some(n) => last = Some(n),
                None => break,
            }
        }
        last
    });
    std::thread::sleep(std::time::Duration::from_millis(millis));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
