//! What the facade promises, call by call.

use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lignite::internals::clock::ManualClock;
use lignite::internals::fs::mem::MemFs;
use lignite::{
    Builder, CfOptions, Codec, ColumnFamily, Commit, Compression, Cursor, Db, Durability, ErrorKind, Event,
    EventListener, FilterPolicy, Iter, Options, Reader, Slice, Snapshot, WriteBatch,
};
use lignite_tests::disk::Disk;
use lignite_tests::sim::{Setup, content};

fn quiet() -> Options {
    Options::new().background_threads(0).decode_threads(0).sync_interval(Duration::ZERO)
}

fn database() -> (Setup, Db) {
    let setup = Setup { options: quiet(), ..Setup::new(Arc::new(MemFs::new()), 2) };
    let db = setup.open().unwrap();
    (setup, db)
}

#[test]
fn handles_go_anywhere() {
    fn send<T: Send + 'static>() {}
    fn share<T: Send + Sync + Clone + 'static>() {}
    share::<Db>();
    share::<ColumnFamily>();
    share::<Slice>();
    share::<Commit>();
    share::<lignite::Error>();
    share::<Options>();
    share::<CfOptions>();
    share::<lignite::Stats>();
    send::<Snapshot>();
    send::<Iter>();
    send::<Cursor>();
    send::<WriteBatch>();
    send::<Builder>();
}

#[test]
fn families_come_and_go() {
    let (setup, db) = database();
    assert_eq!(db.column_family_names(), ["default"]);
    let a = db.create_column_family("a", CfOptions::new()).unwrap();
    let b = db.open_column_family("b/../ü", CfOptions::new().block_size(4096)).unwrap();
    assert_eq!(db.create_column_family("a", CfOptions::new()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(db.column_family("c").unwrap_err().kind(), ErrorKind::NotFound);
    for bad in ["", &"x".repeat(256)] {
        assert_eq!(db.create_column_family(bad, CfOptions::new()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(db.drop_column_family("default").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.rename_column_family("default", "x").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.rename_column_family("a", "b/../ü").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(db.rename_column_family("none", "x").unwrap_err().kind(), ErrorKind::NotFound);
    a.put("k", "in a").unwrap();
    b.put("k", "in b").unwrap();
    db.put("k", "in default").unwrap();
    db.rename_column_family("a", "z").unwrap();
    assert_eq!((a.name().as_str(), a.get("k").unwrap().unwrap().to_vec()), ("z", b"in a".to_vec()));
    db.flush().unwrap();
    let iterator = b.iter();
    let number = b.id();
    db.drop_column_family("b/../ü").unwrap();
    // Handles are closed; who reads already reads on.
    assert_eq!(b.get("k").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(b.put("k", "v").unwrap_err().kind(), ErrorKind::Closed);
    let mut batch = db.batch();
    batch.put(&a, "half", "x").put(&b, "half", "y");
    assert_eq!(db.write(batch).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(a.get("half").unwrap(), None);
    assert_eq!(iterator.map(|e| e.unwrap().value().unwrap().to_vec()).collect::<Vec<_>>(), [b"in b"]);
    // The name may come again, the number never.
    let again = db.create_column_family("b/../ü", CfOptions::new()).unwrap();
    assert!(again.id() > number);
    assert_eq!(again.get("k").unwrap(), None);
    assert_eq!(db.column_family_names(), ["default", "z", "b/../ü"]);
    drop((a, b, again));
    db.close().unwrap();
    let db = setup.open().unwrap();
    assert_eq!(db.column_family_names(), ["default", "z", "b/../ü"]);
    assert_eq!(db.column_family("z").unwrap().get("k").unwrap().unwrap(), b"in a");
    assert_eq!(db.column_family("b/../ü").unwrap().iter().count(), 0);
}

struct Heard(Mutex<Vec<Event>>);

impl EventListener for Heard {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn a_difference_of_options_is_reported() {
    let (setup, db) = database();
    let kept = CfOptions::new().block_size(4096).compression(Compression::zstd(5));
    db.create_column_family("a", kept.clone()).unwrap();
    db.close().unwrap();
    let heard = Arc::new(Heard(Mutex::default()));
    let given = kept.clone().block_size(8192);
    let db = setup
        .builder()
        .listener(heard.clone())
        .column_family("a", given)
        .column_family("new", kept.clone())
        .open(&setup.dir)
        .unwrap();
    // What is kept holds, until it is changed on purpose.
    assert_eq!(db.column_family("a").unwrap().options(), kept);
    assert_eq!(db.column_family_names(), ["default", "a", "new"]);
    let differences = db.option_differences();
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].0, "a");
    assert!(differences[0].1.contains("block_size"), "{differences:?}");
    let told =
        heard.0.lock().unwrap().iter().any(|e| matches!(e, Event::OptionsDiffer { family, .. } if family == "a"));
    assert!(told);
    let changed = kept.compression(Compression::brotli(3)).filter(FilterPolicy::None);
    db.set_options("a", changed.clone()).unwrap();
    let wrong = CfOptions::new().compression(Compression::zstd(99));
    assert_eq!(db.set_options("a", wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    db.close().unwrap();
    let db = setup.open().unwrap();
    assert_eq!(db.column_family("a").unwrap().options(), changed);
    assert!(db.option_differences().is_empty());
}

#[test]
fn events_tell_what_happens() {
    let heard = Arc::new(Heard(Mutex::default()));
    let setup = Setup { options: quiet(), ..Setup::new(Arc::new(MemFs::new()), 2) };
    let db = setup.builder().listener(heard.clone()).open(&setup.dir).unwrap();
    for n in 0..3 {
        db.put(format!("{n}"), "v").unwrap();
        db.put("same", format!("{n}")).unwrap();
        db.flush().unwrap();
    }
    db.compact().unwrap();
    let events = heard.0.lock().unwrap();
    let count = |which: fn(&Event) -> bool| events.iter().filter(|e| which(e)).count();
    assert_eq!(count(|e| matches!(e, Event::Recovered { .. })), 1);
    assert_eq!(count(|e| matches!(e, Event::Flush { table: Some(_), .. })), 3);
    assert!(count(|e| matches!(e, Event::Compaction { .. })) >= 1);
}

#[test]
fn one_owner_at_a_time() {
    let (setup, db) = database();
    let error = setup.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("open already"), "{error}");
    // A reader, an iterator and a snapshot keep the lock; closing says so.
    db.put("a", "1").unwrap();
    let snapshot = db.snapshot();
    let family = db.default_family();
    assert_eq!(db.close().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(family.put("b", "2").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(family.get("a").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(setup.open().unwrap_err().kind(), ErrorKind::Locked);
    drop(family);
    drop(snapshot);
    let db = setup.open().unwrap();
    assert!(db.stats().recovered.clean);
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
}

#[test]
fn one_owner_at_a_time_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path().join("db")).unwrap();
    let error = Db::open(folder.path().join("db")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert_eq!(Db::destroy(folder.path().join("db")).unwrap_err().kind(), ErrorKind::Locked);
    // The same directory under another name is the same directory.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("db"), folder.path().join("link")).unwrap();
        assert!(Db::open(folder.path().join("link")).is_err());
    }
    db.put("a", "1").unwrap();
    db.close().unwrap();
    let db = Db::open(folder.path().join("db")).unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
}

#[test]
fn missing_and_existing_databases() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("db");
    assert_eq!(Db::options().create_if_missing(false).open(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!dir.exists(), "a failed open made the directory");
    assert_eq!(Db::open_read_only(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!dir.exists());
    assert_eq!(Db::destroy(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    let db = Db::open(&dir).unwrap();
    assert_eq!(db.path(), dir);
    let id = db.id();
    db.close().unwrap();
    assert_eq!(Db::options().error_if_exists(true).open(&dir).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let db = Db::options().create_if_missing(false).open(&dir).unwrap();
    assert_eq!(db.id(), id);
    db.close().unwrap();
    // Only our files go.
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    Db::destroy(&dir).unwrap();
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    assert_eq!(Db::open_read_only(&dir).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_temporary_database_goes_with_its_last_handle() {
    let db = Db::temporary().unwrap();
    let dir = db.path().to_path_buf();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    assert!(dir.join("CURRENT").exists());
    let family = db.default_family();
    drop(db);
    assert_eq!(family.get("a").unwrap().unwrap(), b"1");
    drop(family);
    assert!(!dir.exists());
}

#[test]
fn batches_are_all_or_nothing() {
    let (_, db) = database();
    let a = db.create_column_family("a", CfOptions::new()).unwrap();
    let mut batch = WriteBatch::new();
    assert!(batch.is_empty());
    batch.put(&a, "k", "1").put(&a, "k", "2").delete(&db.default_family(), "k").delete_range(&a, "x".."z");
    assert_eq!(batch.len(), 4);
    assert!(batch.byte_len() > 8);
    let first = db.write(batch.clone()).unwrap();
    // The later of two entries of one key wins.
    assert_eq!(a.get("k").unwrap().unwrap(), b"2");
    let second = db.write(batch.clone()).unwrap();
    assert_eq!(second.seq(), first.seq() + 4);
    batch.clear();
    assert!(batch.is_empty());
    db.write(batch).unwrap();
    // A bad entry anywhere refuses the whole.
    let long = vec![0; 65_537];
    let mut batch = WriteBatch::new();
    batch.put(&a, "good", "1").put(&a, &long, "2");
    assert_eq!(db.write(batch).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(a.get("good").unwrap(), None);
    // So does a family of another database.
    let other = Setup { options: quiet(), ..Setup::new(Arc::new(MemFs::new()), 3) }.open().unwrap();
    let foreign = other.default_family();
    let mut batch = WriteBatch::new();
    batch.put(&a, "good", "1").put(&foreign, "k", "2");
    assert_eq!(db.write(batch).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(a.get("good").unwrap(), None);
}

#[test]
fn limits_are_stated_and_checked() {
    let (_, db) = database();
    let longest = vec![7; 65_536];
    db.put(&longest, "v").unwrap();
    db.put("", "empty key").unwrap();
    assert_eq!(db.get(&longest).unwrap().unwrap(), b"v");
    assert_eq!(db.get("").unwrap().unwrap(), b"empty key");
    let longer = vec![7; 65_537];
    assert_eq!(db.put(&longer, "v").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.delete(&longer).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.get(&longer).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.put("k", vec![0; (32 << 20) + 1]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.get("k").unwrap(), None);
    let largest = vec![9; 32 << 20];
    db.put("large", &largest).unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert!(db.get("large").unwrap().unwrap() == largest);
    // Options too.
    for options in
        [Options::new().memory_budget(1), Options::new().memtable_size(0), Options::new().log_segment_size(1)]
    {
        assert_eq!(options.open("/nowhere").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    for options in [
        CfOptions::new().block_size(1),
        CfOptions::new().fan_out(1),
        CfOptions::new().level0_trigger(0),
        CfOptions::new().tombstone_percent(101),
        CfOptions::new().filter(FilterPolicy::Bloom { bits_per_key: 99 }),
        CfOptions::new().compression(Compression::all(Codec::Brotli { quality: 12 })),
    ] {
        assert_eq!(db.create_column_family("x", options).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

fn keys(iterator: impl Iterator<Item = lignite::Result<lignite::Entry>>) -> String {
    iterator.map(|e| String::from_utf8(e.unwrap().key().to_vec()).unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn iterators_run_both_ways_and_meet() {
    let (_, db) = database();
    for key in ["a", "b", "ba", "bb", "c", "d"] {
        db.put(key, key.to_uppercase()).unwrap();
        if key == "ba" {
            db.flush().unwrap();
        }
    }
    db.delete("c").unwrap();
    for round in 0..2 {
        assert_eq!(keys(db.iter()), "a b ba bb d");
        assert_eq!(keys(db.iter().rev()), "d bb ba b a");
        assert_eq!(keys(db.range("b".."c")), "b ba bb");
        assert_eq!(keys(db.range("b"..="bb").rev()), "bb ba b");
        assert_eq!(keys(db.range::<&str>((Bound::Excluded("b"), Bound::Unbounded))), "ba bb d");
        assert_eq!(keys(db.range::<&str>(..)), "a b ba bb d");
        assert_eq!(keys(db.range("c".."b")), "");
        assert_eq!(keys(db.prefix("b")), "b ba bb");
        assert_eq!(keys(db.prefix("x")), "");
        assert_eq!(keys(db.prefix("")), "a b ba bb d");
        let mut iterator = db.iter();
        let mut ends = Vec::new();
        while let Some(front) = iterator.next() {
            ends.push(front.unwrap().key().to_vec());
            ends.extend(iterator.next_back().map(|e| e.unwrap().key().to_vec()));
        }
        assert_eq!(ends.concat(), b"adbbbba");
        assert!(iterator.next().is_none() && iterator.next_back().is_none());
        let mut cursor = db.default_family().cursor().unwrap();
        assert!(!cursor.valid());
        cursor.seek("bz").unwrap();
        assert_eq!((cursor.key(), cursor.value()), (&b"d"[..], &b"D"[..]));
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), b"bb");
        cursor.seek_for_prev("bz").unwrap();
        assert_eq!(cursor.key(), b"bb");
        cursor.seek_to_last().unwrap();
        cursor.next().unwrap();
        assert!(!cursor.valid());
        cursor.seek_to_first().unwrap();
        let mut chunk = Vec::new();
        assert_eq!(cursor.next_chunk(3, &mut chunk).unwrap(), 3);
        assert_eq!(cursor.next_chunk(9, &mut chunk).unwrap(), 2);
        assert_eq!(chunk.iter().map(|(k, _)| k.to_vec()).collect::<Vec<_>>().concat(), b"abbabbd");
        if round == 0 {
            db.compact().unwrap();
        }
    }
}

#[test]
fn iterators_and_slices_outlive_what_they_read() {
    let (_, db) = database();
    for n in 0..500 {
        db.put(format!("key{n:03}"), format!("old {n}")).unwrap();
    }
    db.flush().unwrap();
    let slice = db.get("key007").unwrap().unwrap();
    let mut iterator = db.iter();
    iterator.next().unwrap().unwrap();
    let snapshot = db.snapshot();
    db.delete_range::<&str>(..).unwrap();
    for n in 0..10 {
        db.put(format!("key{n:03}"), "new").unwrap();
    }
    db.compact().unwrap();
    db.compact().unwrap();
    assert_eq!(db.iter().count(), 10);
    assert_eq!(iterator.by_ref().map(Result::unwrap).count(), 499);
    assert_eq!(snapshot.iter(&db.default_family()).count(), 500);
    assert_eq!(snapshot.get(&db.default_family(), "key007").unwrap().unwrap(), b"old 7");
    assert_eq!(slice, b"old 7");
    drop((iterator, snapshot));
    db.compact().unwrap();
    db.close().unwrap();
    assert_eq!(slice, b"old 7");
}

#[test]
fn ingest_is_one_step_over_everything_older() {
    let (setup, db) = database();
    let family = db.default_family();
    db.put("b", "old").unwrap();
    let report = family.ingest([("a", "1"), ("b", "2"), ("c", "3")]).unwrap();
    assert_eq!((report.records, report.tables), (3, 1));
    db.put("c", "newer").unwrap();
    let error = family.ingest([("x", "1"), ("x", "2")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(family.ingest([("x", "1"), ("w", "2")]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(family.ingest(Vec::<(&str, &str)>::new()).unwrap().records, 0);
    for _ in 0..2 {
        let db = db.clone();
        assert_eq!(content(&db).unwrap()["default"].values().map(|v| v.len()).collect::<Vec<_>>(), [1, 1, 5]);
        db.compact().unwrap();
    }
    assert_eq!(family.get("b").unwrap().unwrap(), b"2");
    drop(family);
    db.close().unwrap();
    let db = setup.open().unwrap();
    assert_eq!(keys(db.iter()), "a b c");
    let left = db.stats();
    assert_eq!(left.counters.stalls, 0);
}

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let db = quiet().open(folder.path().join("db")).unwrap();
    let a = db.create_column_family("a", CfOptions::new().compression(Compression::zstd(3))).unwrap();
    for n in 0..300 {
        a.put(format!("key{n:03}"), "in a table").unwrap();
    }
    db.flush().unwrap();
    a.put("in", "the memtable").unwrap();
    let copy = folder.path().join("copy");
    db.checkpoint(&copy).unwrap();
    let before = content(&db).unwrap();
    assert_eq!(db.checkpoint(&copy).unwrap_err().kind(), ErrorKind::AlreadyExists);
    a.delete_range::<&str>(..).unwrap();
    db.compact().unwrap();
    // Both live on, apart.
    let other = Db::open(&copy).unwrap();
    assert_ne!(other.id(), db.id());
    assert!(other.stats().recovered.clean);
    assert_eq!(content(&other).unwrap(), before);
    assert!(other.check(true, &mut |_| {}).unwrap().is_clean());
    other.column_family("a").unwrap().put("more", "x").unwrap();
    other.compact().unwrap();
    other.close().unwrap();
    drop(a);
    db.close().unwrap();
    std::fs::remove_dir_all(folder.path().join("db")).unwrap();
    let other = Db::open(&copy).unwrap();
    assert_eq!(other.column_family("a").unwrap().iter().count(), 302);
}

#[test]
fn a_read_only_handle_beside_a_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("db");
    let options = Options::new().memtable_size(64 << 10).log_segment_size(64 << 10).log_size_max(256 << 10);
    let db = options.open(&dir).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each pair is one batch, so a reader sees both or none.
            for n in 0u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let mut batch = db.batch();
                let family = db.default_family();
                let value = n.to_be_bytes().repeat(50);
                batch.put(&family, format!("left{:03}", n % 200), &value).put(
                    &family,
                    format!("right{:03}", n % 200),
                    &value,
                );
                db.write(batch).unwrap();
            }
        });
        let mut last = 0;
        for _ in 0..20 {
            let log = db.stats().log;
            assert!(log.bytes < 1 << 20, "the log is not bounded: {log:?}");
            let begun = std::time::Instant::now();
            let reader = Db::open_read_only(&dir).unwrap();
            let opened = begun.elapsed();
            let found = content(&reader).unwrap();
            eprintln!(
                "open {opened:?} read {:?} {:?} log {:?} wsegs {:?}",
                begun.elapsed(),
                reader.stats().recovered,
                reader.stats().log,
                db.stats().log
            );
            let side = |name: &str| {
                found["default"]
                    .iter()
                    .filter(|(k, _)| k.starts_with(name.as_bytes()))
                    .map(|(_, v)| v)
                    .collect::<Vec<_>>()
            };
            assert_eq!(side("left"), side("right"));
            // Later readers see later states.
            let newest = side("left").iter().map(|v| u64::from_be_bytes(v[..8].try_into().unwrap())).max().unwrap_or(0);
            assert!(newest >= last, "{newest} after {last}");
            last = newest;
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(last > 100);
    });
    assert!(db.check(true, &mut |_| {}).unwrap().is_clean());
}

#[test]
fn sizes_are_about_right() {
    let (_, db) = database();
    let family =
        db.create_column_family("a", CfOptions::new().compression(Compression::none()).block_size(1024)).unwrap();
    for n in 0..2000 {
        family.put(format!("key{n:04}"), [b'x'; 100]).unwrap();
    }
    family.flush().unwrap();
    let whole = family.approximate_size::<&str>(..).unwrap();
    let half = family.approximate_size("key0500".."key1500").unwrap();
    let none = family.approximate_size("x".."y").unwrap();
    assert!((200_000..260_000).contains(&whole), "{whole}");
    assert!((90_000..130_000).contains(&half), "{half}");
    assert!(none < 4096, "{none}");
}

#[test]
fn paused_background_work_waits() {
    let disk = Disk::new();
    let options = Options::new().background_threads(2).decode_threads(0).memtable_size(16 << 10);
    let setup = Setup { options, ..Setup::new(disk.fs(), 1).threads(2) };
    let db = setup.open().unwrap();
    db.pause_background();
    for n in 0..300 {
        db.put(format!("{n}"), [7; 200]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(db.stats().counters.flushes, 0);
    db.resume_background();
    db.wait_for_idle().unwrap();
    assert!(db.stats().counters.flushes > 0);
    assert_eq!(db.stats().families[0].sealed_memtables, 0);
    assert_eq!(db.iter().count(), 300);
}

#[test]
fn a_stall_ends_with_an_error_and_nothing_is_written() {
    let disk = Disk::new();
    let options = Options::new()
        .background_threads(1)
        .decode_threads(0)
        .memory_budget(1 << 20)
        .memtable_size(16 << 10)
        .stall_timeout(Duration::from_millis(100));
    let setup = Setup { options, ..Setup::new(disk.fs(), 1).threads(1) };
    let db = setup.open().unwrap();
    db.pause_background();
    let mut written = 0;
    let error = loop {
        match db.put(format!("{written:05}"), [7; 2000]) {
            Ok(_) => written += 1,
            Err(e) => break e,
        }
        assert!(written < 10_000, "nothing stops the writer");
    };
    assert_eq!(error.kind(), ErrorKind::Stalled, "{error:?}");
    assert_eq!(db.iter().count(), written);
    db.resume_background();
    db.wait_for_idle().unwrap();
    db.put("again", "yes").unwrap();
}

#[test]
fn in_quiet_times_level_0_becomes_one_run() {
    let clock = Arc::new(ManualClock::new());
    let options = quiet().background_threads(1);
    let builder = Builder::new(options).fs(Arc::new(MemFs::new())).clock(clock.clone()).seed(1);
    let db = builder.open("/db").unwrap();
    for round in 0..3 {
        (0..300).for_each(|n| drop(db.put(format!("{n:04}"), format!("{round}")).unwrap()));
        db.flush().unwrap();
    }
    db.wait_for_idle().unwrap();
    let tables = || db.stats().families[0].levels.iter().map(|l| l.tables).collect::<Vec<_>>();
    assert_eq!(tables()[0], 3, "nobody waits for what no limit asks for");
    while tables()[0] > 0 {
        // The thread looks whether the last second was quiet; resuming wakes it.
        clock.advance(Duration::from_millis(600));
        db.pause_background();
        db.resume_background();
    }
    assert_eq!(tables().iter().sum::<usize>(), 1);
    assert_eq!(db.iter().map(|e| e.unwrap().value().unwrap().to_vec()).collect::<Vec<_>>(), [b"2"; 300]);
}

#[test]
fn a_long_log_forces_the_pinning_family_to_flush() {
    let options =
        quiet().log_segment_size(16 << 10).log_size_max(64 << 10).memory_budget(16 << 20).memtable_size(8 << 20);
    let setup = Setup { options, ..Setup::new(Arc::new(MemFs::new()), 2) };
    let db = setup.open().unwrap();
    let quiet = db.create_column_family("quiet", CfOptions::new()).unwrap();
    quiet.put("one", "record").unwrap();
    for n in 0..2000 {
        db.put(format!("{n:05}"), [5; 400]).unwrap();
        let log = db.stats().log;
        assert!(log.bytes < 160 << 10, "after {n} writes the log has {log:?}");
    }
    let stats = db.stats();
    assert!(stats.counters.forced_flushes > 0);
    assert!(!quiet.tables().is_empty(), "the family that pinned the log was not flushed");
}

#[test]
fn blocks_are_decoded_ahead_where_it_pays() {
    let options = Options::new().background_threads(0).decode_threads(2).memory_budget(2 << 20);
    let setup = Setup { options, ..Setup::new(Arc::new(MemFs::new()), 2) };
    let db = setup.open().unwrap();
    // Large blocks of a slow codec: each takes far longer than to wake a worker.
    let slow = CfOptions::new().compression(Compression::brotli(5)).block_size(256 << 10);
    let family = db.create_column_family("slow", slow).unwrap();
    for n in 0..20_000 {
        family.put(format!("key{n:06}"), format!("{n} some text that repeats itself {} ", n * 7).repeat(8)).unwrap();
    }
    db.compact().unwrap();
    let before = db.stats().counters;
    assert_eq!(family.iter().map(Result::unwrap).count(), 20_000);
    let keys: Vec<String> = (0..20_000).step_by(700).map(|n| format!("key{n:06}")).collect();
    assert_eq!(family.multi_get(&keys).unwrap().iter().flatten().count(), keys.len());
    let after = db.stats().counters;
    assert!(after.decodes_assisted > before.decodes_assisted, "{after:?}");
    assert!(after.decodes_inline + after.decodes_assisted > before.decodes_inline + before.decodes_assisted + 10);
    // Letting go in the middle cancels what is not needed.
    for _ in 0..5 {
        family.iter().take(3).for_each(|e| drop(e.unwrap()));
    }
}

#[test]
fn statistics_add_up() {
    let (_, db) = database();
    let family = db.create_column_family("a", CfOptions::new().compression(Compression::zstd(3))).unwrap();
    for n in 0..1000 {
        family.put(format!("key{n:04}"), format!("value {n}").repeat(10)).unwrap();
    }
    family.delete("key0001").unwrap();
    let stats = db.stats();
    assert_eq!(stats.families.len(), 2);
    assert_eq!(stats.families[1].name, "a");
    assert_eq!(stats.families[1].memtable_entries, 1001);
    assert_eq!(stats.sequence, family.delete("none").unwrap().seq() - 1);
    assert!(stats.counters.commits >= 1001 && stats.log.bytes > 0 && stats.memory.memtables > 0);
    assert!(stats.health.is_good());
    let _snapshot = db.snapshot();
    assert_eq!(db.stats().snapshots.count, 1);
    family.compact().unwrap();
    family.get("key0500").unwrap();
    let stats = db.stats();
    let a = &stats.families[1];
    let bottom = a.levels.iter().rfind(|l| l.tables > 0).unwrap();
    assert_eq!(bottom.level, 6);
    assert!(a.stored_bytes > 0 && a.stored_bytes < a.raw_bytes, "{a:?}");
    let (name, codec) = bottom.codecs.iter().find(|(n, _)| n.starts_with("zstd")).unwrap();
    assert!(codec.encoded_parts > 0 && codec.encoded_stored_bytes < codec.encoded_raw_bytes, "{name} {codec:?}");
    assert!(codec.decoded_parts > 0);
    let tables = family.tables();
    assert_eq!(tables.iter().map(|t| t.size).sum::<u64>(), a.stored_bytes);
    assert_eq!(tables[0].smallest, b"key0000");
    let report = db.check(true, &mut |_| {}).unwrap();
    assert_eq!(report.tables, tables.len() as u64);
    assert!(report.is_clean() && report.entries >= 999);
}

#[test]
fn the_codec_can_change_at_any_time() {
    let (setup, db) = database();
    let family = db.create_column_family("a", CfOptions::new().compression(Compression::none())).unwrap();
    let codecs = ["none", "lz4", "lz4hc:9", "snappy", "zstd:3", "brotli:4"];
    for (n, codec) in codecs.into_iter().enumerate() {
        let codec: Codec = codec.parse().unwrap();
        db.set_options("a", CfOptions::new().compression(Compression::all(codec).min_saving(0))).unwrap();
        for k in 0..100 {
            family.put(format!("{n}/{k:03}"), "text text text text text text text text text ").unwrap();
        }
        family.flush().unwrap();
    }
    assert_eq!(family.iter().count(), 600);
    drop(family);
    db.close().unwrap();
    let db = setup.open().unwrap();
    let family = db.column_family("a").unwrap();
    assert_eq!(family.iter().count(), 600);
    assert!(db.check(true, &mut |_| {}).unwrap().is_clean());
    family.compact().unwrap();
    assert_eq!(family.iter().rev().count(), 600);
}

#[test]
fn durable_by_option() {
    let disk = Disk::new();
    let mut setup = Setup { options: quiet(), ..Setup::new(disk.fs(), 1) };
    setup.options = setup.options.durability(Durability::Sync);
    let db = setup.open().unwrap();
    db.put("a", "1").unwrap();
    db.delete_range("b".."c").unwrap();
    let crashed = disk.crash(0, 1);
    let after = setup.on(crashed.fs()).open().unwrap();
    assert_eq!(after.get("a").unwrap().unwrap(), b"1");
    assert_eq!(db.stats().counters.sync_commits, 2);
}

#[test]
fn the_builder_s_options_hold_for_the_default_family_of_a_new_database() {
    let options = lignite::CfOptions::new().compression(lignite::Compression::lz4()).block_size(4096);
    let db =
        lignite::Builder::new(lignite::Options::new()).column_family("default", options.clone()).temporary().unwrap();
    assert_eq!(db.default_family().options(), options);
    assert!(db.option_differences().is_empty());
}
