//! Databases that were written once and must be readable for ever.
//!
//! `tests/data/format/v1/CODEC/` holds the files of one small database per codec, closed in good
//! order; `tests/data/format/v1-shapes/` holds directories that were left in other ways.
//! `LIGNITE_REWRITE=1 cargo test -p lignite-tests golden` writes them anew; until the first release
//! that is allowed together with a change of the format, afterwards never.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::{CfOptions, Codec, Compression, Db, FilterPolicy, Options, RecompressDictionary, RecompressOptions};
use lignite_tests::checks;
use lignite_tests::model::{Content, difference};
use lignite_tests::rng::Rng;
use lignite_tests::sim::{Setup, content, files, put_files};
use lignite_tests::source::workspace;

type Files = BTreeMap<String, Vec<u8>>;

const CODECS: [&str; 8] = ["none", "lz4", "lz4hc:9", "snappy", "zstd:3", "brotli:4", "zstd:3+dict", "lz4hc:9+dict"];

fn folder(codec: &str) -> PathBuf {
    workspace().join("tests/data/format/v1").join(codec.replace(':', "-"))
}

/// A value that is always the same for the same numbers. It stands here because golden files outlive
/// the generators of other tests.
fn value(seed: u32, len: u32) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(seed));
    let mut out = Vec::new();
    while out.len() < len as usize {
        let n = rng.next_u64();
        if n & 1 == 0 {
            out.extend_from_slice(b"lignite lignite ");
        } else {
            out.extend_from_slice(&n.to_le_bytes());
            out.extend_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        }
    }
    out.truncate(len as usize);
    out
}

/// Makes the database: every kind of entry, several levels, both filters, a log with records.
fn make(codec: &str) -> (Files, Content) {
    let with_dictionary = codec.ends_with("+dict");
    let codec: Codec = codec.trim_end_matches("+dict").parse().unwrap();
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
            batch.put(&numbers, n.to_be_bytes(), value(n, n % 30));
        }
        db.write(batch).unwrap();
    }
    db.flush().unwrap();
    db.compact().unwrap();
    if with_dictionary {
        // Numbers of fixed width, which go through a filter, and words with a dictionary.
        let options = CfOptions::new().compression(Compression::all(codec)).block_size(4096);
        let series = db.create_column_family("series", options).unwrap();
        for n in 0..600u64 {
            series.put(n.to_be_bytes(), (1_700_000_000_000 + n * n % 977).to_le_bytes()).unwrap();
        }
        db.compact().unwrap();
        let mut wanted = RecompressOptions::new(words.options());
        wanted.dictionary = RecompressDictionary::Bytes(b"the th word of the text word/0 another ".repeat(8));
        let report = words.recompress(&wanted, &mut |_| true).unwrap();
        assert!(report.tables_rewritten > 0);
        for (table, with) in [(&series.tables()[0], "filters/1"), (&words.tables()[0], "dictionary/1")] {
            let file = files(&*fs, &setup.dir).remove(table.path.file_name().unwrap().to_str().unwrap()).unwrap();
            assert!(file.windows(with.len()).any(|w| w == with.as_bytes()), "{codec}: no table with {with}");
        }
    }
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
    assert!(size < 160 << 10, "the golden files have {size} bytes");
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

/// Databases of other shapes than one that was closed in good order, under `tests/data/format/v1-shapes`.
/// Each was made once; beside its files stands what they hold, so that a later build, which may write
/// them differently, can prove that it reads the same.
const SHAPES: [&str; 6] = ["fresh", "unsealed", "range-tombstones", "ingested", "families", "checkpoint"];

fn shape_folder(shape: &str) -> PathBuf {
    workspace().join("tests/data/format/v1-shapes").join(shape)
}

/// Makes a database of this shape; its directory as it was left.
fn make_shape(shape: &str) -> (Files, Content) {
    let fs = Arc::new(MemFs::new());
    let options = Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(std::time::Duration::ZERO)
        .reserve_size(0)
        .memtable_size(16 << 10)
        .log_segment_size(16 << 10)
        .log_size_max(1 << 20);
    let setup = Setup { options, ..Setup::new(fs.clone(), 20_261_125) };
    let db = setup.open().unwrap();
    let small = CfOptions::new().table_size(4 << 10).base_level_size(8 << 10).level0_trigger(2).fan_out(2);
    let value = |n: u32| value(n, 40 + n % 90);
    let mut dir = setup.dir.clone();
    match shape {
        "fresh" => {}
        // The process died with records in several segments of the log, most of them in no table.
        "unsealed" => {
            let other = db.create_column_family("other", small).unwrap();
            for n in 0..260u32 {
                let mut batch = db.batch();
                batch.put(&db.default_family(), n.to_be_bytes(), value(n)).put(&other, (n / 3).to_be_bytes(), value(n));
                if n % 7 == 6 {
                    batch.delete(&other, (n / 6).to_be_bytes());
                }
                db.write(batch).unwrap();
                if n == 100 {
                    db.sync().unwrap();
                }
            }
        }
        "range-tombstones" => {
            let family = db.create_column_family("ranges", small).unwrap();
            for round in 0..4u32 {
                for n in 0..120u32 {
                    family.put(format!("key{:03}", (n * 7 + round * 31) % 240), value(n + round)).unwrap();
                }
                let (start, end) = (round * 50, round * 50 + 70);
                family.delete_range(format!("key{start:03}")..format!("key{end:03}")).unwrap();
                family.delete_range((Bound::Excluded(format!("key{:03}", 235 - round)), Bound::Unbounded)).unwrap();
                family.flush().unwrap();
            }
            family.compact_range("key000".to_string().."key100".to_string()).unwrap();
            family.delete_range("key010".."key150").unwrap();
            family.put("key100", "put back").unwrap();
            family.flush().unwrap();
        }
        // The numbers in the tables are 0; that of the ingest overrides them.
        "ingested" => {
            let family = db.create_column_family("loads", small).unwrap();
            let records = |from: u32, step: usize| (from..from + 150).step_by(step).map(|n| (format!("key{n:03}"), n));
            for (from, step) in [(0, 1), (50, 2), (25, 3)] {
                family.put(format!("key{:03}", from + 60), "older than what comes").unwrap();
                family.ingest(records(from, step).map(|(k, n)| (k, value(n + from)))).unwrap();
                family.delete(format!("key{:03}", from + 10)).unwrap();
            }
            family.delete_range("key120".."key130").unwrap();
        }
        // Not closed: what was done to families is in the log and in the manifest.
        "families" => {
            for name in ["a", "b", "c"] {
                let family = db.create_column_family(name, small.clone()).unwrap();
                for n in 0..20u32 {
                    family.put(n.to_be_bytes(), format!("{name}{n}")).unwrap();
                }
            }
            db.flush().unwrap();
            db.rename_column_family("a", "renamed").unwrap();
            db.drop_column_family("b").unwrap();
            let again = db.create_column_family("b", small.clone()).unwrap();
            again.put("only", "this").unwrap();
            db.rename_column_family("c", "a").unwrap();
            db.set_options("a", small.compression(Compression::zstd(3))).unwrap();
            db.column_family("a").unwrap().put("with", "other options").unwrap();
        }
        "checkpoint" => {
            let family = db.create_column_family("copied", small).unwrap();
            for n in 0..200u32 {
                family.put(n.to_be_bytes(), value(n)).unwrap();
            }
            family.flush().unwrap();
            family.delete_range(20u32.to_be_bytes()..40u32.to_be_bytes()).unwrap();
            dir = setup.dir.with_file_name("copy");
            db.checkpoint(&dir).unwrap();
        }
        other => panic!("there is no shape {other}"),
    }
    let content = content(&db).unwrap();
    let sealed = matches!(shape, "fresh" | "range-tombstones" | "ingested");
    // A killed process leaves what is there now.
    let unsealed = files(&*fs, &dir);
    if sealed {
        db.close().unwrap();
    }
    let mut files = if sealed { files(&*fs, &dir) } else { unsealed };
    files.insert("LOCK".to_string(), Vec::new());
    (files, content)
}

/// What a database holds, a line a family: its name, its records, and a number made from all of them
/// (FNV-1a over lengths and bytes, which no later library does differently).
fn describe(content: &Content) -> String {
    let mut out = String::new();
    for (name, records) in content {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for (key, value) in records {
            for part in [key, value] {
                let len = (part.len() as u64).to_le_bytes();
                for byte in len.iter().chain(part) {
                    hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                }
            }
        }
        out.push_str(&format!("{name}: {} records, {hash:016x}\n", records.len()));
    }
    out
}

/// G31: what this version has written, every later one reads, in every shape in which a directory can be
/// left, and as the same content.
#[test]
fn golden_shapes_hold_what_they_held() {
    let mut size = 0;
    for shape in SHAPES {
        let folder = shape_folder(shape);
        let described = folder.with_extension("content");
        if rewrite() {
            let (files, content) = make_shape(shape);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in &files {
                std::fs::write(folder.join(name), bytes).unwrap();
            }
            std::fs::write(&described, describe(&content)).unwrap();
        }
        let expected = std::fs::read_to_string(&described).unwrap_or_else(|e| panic!("{}: {e}", described.display()));
        let read = || -> Files {
            let entries = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
            entries
                .map(|p| (p.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(&p).unwrap()))
                .collect()
        };
        let kept = read();
        size += kept.values().map(Vec::len).sum::<usize>();
        let db = Db::open_read_only(&folder).unwrap_or_else(|e| panic!("{shape}: {e:?}"));
        assert_eq!(describe(&content(&db).unwrap()), expected, "{shape}, read only");
        assert!(db.check(true, &mut |_| {}).unwrap().is_clean(), "{shape}");
        drop(db);
        assert!(read() == kept, "{shape}: a read-only open changed the golden files");
        // To go on with, twice: what an open makes of an old directory is read by the next.
        let fs = Arc::new(MemFs::new());
        let setup = Setup::new(fs.clone(), 1);
        put_files(&*fs, &setup.dir, &kept);
        for compact in [false, true] {
            let db = setup.open().unwrap_or_else(|e| panic!("{shape}: {e:?}"));
            assert_eq!(describe(&content(&db).unwrap()), expected, "{shape}");
            if compact {
                db.compact().unwrap();
                assert_eq!(describe(&content(&db).unwrap()), expected, "{shape}, compacted");
            }
            checks::database(&db, &*fs).unwrap();
            db.close().unwrap();
        }
    }
    let logs = std::fs::read_dir(shape_folder("unsealed")).unwrap();
    let logs = logs.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".wal")).count();
    assert!(logs >= 3, "the unsealed directory has {logs} log segments");
    assert!(size < 200 << 10, "the golden shapes have {size} bytes");
}
