//! Databases that were written once and must be readable for ever.
//!
//! `tests/data/format/v1/CODEC/` holds the files of one small database per codec, closed in good
//! order. `LIGNITE_REWRITE=1 cargo test -p lignite-tests golden` writes them anew; until the first
//! release that is allowed together with a change of the format, afterwards never.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::{CfOptions, Codec, Compression, Db, FilterPolicy, Options};
use lignite_tests::checks;
use lignite_tests::model::{Content, difference};
use lignite_tests::ops::Value;
use lignite_tests::sim::{Setup, content, files, put_files};
use lignite_tests::source::workspace;

type Files = BTreeMap<String, Vec<u8>>;

const CODECS: [&str; 5] = ["none", "lz4", "snappy", "zstd:3", "brotli:4"];

fn folder(codec: &str) -> PathBuf {
    workspace().join("tests/data/format/v1").join(codec.replace(':', "-"))
}

/// Makes the database: every kind of entry, several levels, both filters, a log with records.
fn make(codec: &str) -> (Files, Content) {
    let codec: Codec = codec.parse().unwrap();
    let fs = Arc::new(MemFs::new());
    let options = Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(std::time::Duration::ZERO)
        .reserve_size(0)
        .log_segment_size(16 << 10)
        .log_size_max(64 << 10);
    let setup = Setup { options, ..Setup::new(fs.clone(), 20_261_123) };
    let db = setup.open().unwrap();
    let family = CfOptions::new().compression(Compression::all(codec).min_saving(0)).block_size(768);
    let words = db.create_column_family("words", family.clone()).unwrap();
    let numbers =
        db.create_column_family("numbers é", family.filter(FilterPolicy::Bloom { bits_per_key: 10 })).unwrap();
    for tens in 0..8u32 {
        let mut batch = db.batch();
        for n in tens * 10..tens * 10 + 10 {
            batch.put(&words, format!("word/{:04}", n * 7), format!("the {n}th word of the text"));
            batch.put(&numbers, n.to_be_bytes(), Value { seed: n, len: n % 30 }.bytes());
        }
        db.write(batch).unwrap();
    }
    db.flush().unwrap();
    db.compact().unwrap();
    for n in 0..10u32 {
        words.put(format!("word/{:04}", n * 21), "another").unwrap();
        words.delete(format!("word/{:04}", n * 35)).unwrap();
    }
    words.delete_range("word/0300".."word/0400").unwrap();
    numbers.delete_range((Bound::Excluded(70u32.to_be_bytes()), Bound::Unbounded)).unwrap();
    db.flush().unwrap();
    let records = (0..15u32).map(|n| (format!("zoo/{n:03}"), format!("animal {n}")));
    words.ingest(records).unwrap();
    // This stays in the log.
    let mut batch = db.batch();
    batch.put(&words, "in", "the log").put(&numbers, "in", "the log").delete(&numbers, 7u32.to_be_bytes());
    db.write(batch).unwrap();
    words.delete_range("zoo/005".."zoo/007").unwrap();
    db.rename_column_family("numbers é", "numbers").unwrap();
    words.put("last", "record").unwrap();
    let content = content(&db).unwrap();
    drop((words, numbers));
    db.close().unwrap();
    let mut files = files(&*fs, &setup.dir);
    // Its content is advisory: the number of the process.
    files.insert("LOCK".to_string(), Vec::new());
    (files, content)
}

fn kept(codec: &str) -> Files {
    let mut out = Files::new();
    let entries = std::fs::read_dir(folder(codec))
        .unwrap_or_else(|e| panic!("{}: {e}; LIGNITE_REWRITE=1 makes the golden files", folder(codec).display()));
    for entry in entries {
        let path = entry.unwrap().path();
        out.insert(path.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(&path).unwrap());
    }
    out
}

fn rewrite() -> bool {
    std::env::var_os("LIGNITE_REWRITE").is_some_and(|v| v == "1")
}

#[test]
fn golden_databases_open_and_hold_what_they_held() {
    let mut size = 0;
    for codec in CODECS {
        let (fresh, expected) = make(codec);
        if rewrite() {
            let folder = folder(codec);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in &fresh {
                std::fs::write(folder.join(name), bytes).unwrap();
            }
        }
        let files = kept(codec);
        size += files.values().map(Vec::len).sum::<usize>();
        // Read-only, on the real disk, where nothing may change.
        let db = Db::open_read_only(folder(codec)).unwrap_or_else(|e| panic!("{codec}: {e:?}"));
        assert_eq!(difference(&expected, &content(&db).unwrap()), None, "{codec}");
        assert!(db.check(true, &mut |_| {}).unwrap().is_clean(), "{codec}");
        assert!(db.stats().recovered.clean, "{codec}");
        drop(db);
        assert!(kept(codec) == files, "{codec}: a read-only open changed the golden files");
        // And as a database to go on with.
        let fs = Arc::new(MemFs::new());
        let setup = Setup::new(fs.clone(), 1);
        put_files(&*fs, &setup.dir, &files);
        let db = setup.open().unwrap_or_else(|e| panic!("{codec}: {e:?}"));
        assert_eq!(difference(&expected, &content(&db).unwrap()), None, "{codec}");
        db.compact().unwrap();
        assert_eq!(difference(&expected, &content(&db).unwrap()), None, "{codec}");
        checks::database(&db, &*fs).unwrap();
        db.close().unwrap();
    }
    assert!(size < 100 << 10, "the golden files have {size} bytes");
}

#[test]
fn the_same_history_makes_the_golden_files() {
    if rewrite() {
        return; // The other test is writing them.
    }
    for codec in CODECS {
        let (fresh, _) = make(codec);
        let kept = kept(codec);
        assert_eq!(fresh.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>(), "{codec}");
        for (name, bytes) in &fresh {
            assert!(
                bytes == &kept[name],
                "{codec}: {name} is written differently now, first at byte {:?}. If the format changed on purpose, \
                 LIGNITE_REWRITE=1 writes the golden files anew",
                bytes.iter().zip(&kept[name]).position(|(a, b)| a != b)
            );
        }
    }
}
