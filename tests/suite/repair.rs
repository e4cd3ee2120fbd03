//! Repair and salvage of damaged databases (G19, G20, G23, G30).
//!
//! The story: somewhere in a database a byte is another one, a file is cut or gone. `repair` makes a new
//! database from what is left. Whatever the damage, it never touches the source, never panics and never
//! invents a record; its result is sound; what lies in blocks that are whole is there; and repairing
//! the result changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lignite::internals::check;
use lignite::internals::clock::{Clock, ManualClock};
use lignite::internals::fs::Fs;
use lignite::internals::fs::mem::MemFs;
use lignite::internals::repair;
use lignite::{CfOptions, CheckOptions, Codec, Compression, ErrorKind, FilterPolicy, Options, RepairReport};
use lignite_tests::model::Content;
use lignite_tests::ops::Value;
use lignite_tests::rng::{Rng, scale};
use lignite_tests::sim::{Setup, content, files, put_files};

type Files = BTreeMap<String, Vec<u8>>;

/// A database with everything in it, and all that was ever written to it.
struct Sample {
    files: Files,
    content: Content,
    /// Family, key, value: everything that was ever put.
    history: BTreeSet<(String, Vec<u8>, Vec<u8>)>,
}

const OLD: &str = "/db";
const NEW: &str = "/new";

fn setup(fs: Arc<MemFs>) -> Setup {
    let options = Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(std::time::Duration::ZERO)
        .memory_budget(1 << 20)
        .log_segment_size(16 << 10)
        .log_size_max(64 << 10);
    Setup { options, ..Setup::new(fs, 9) }
}

/// `clean`: closed in good order; else as after a crash of the process.
fn sample(codec: Codec, clean: bool) -> Sample {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let db = setup.open().unwrap();
    let family = CfOptions::new()
        .compression(Compression::all(codec).min_saving(0))
        .filter(FilterPolicy::Bloom { bits_per_key: 10 })
        .block_size(512);
    let a = db.open_column_family("a", family.clone()).unwrap();
    let b = db.open_column_family("b", family.filter(FilterPolicy::Auto { bits_per_key: 8 })).unwrap();
    let mut history = BTreeSet::new();
    let mut put = |f: &lignite::ColumnFamily, name: &str, key: String, value: Vec<u8>| {
        f.put(&key, &value).unwrap();
        history.insert((name.to_string(), key.into_bytes(), value));
    };
    let text = |n: u32| format!("value {n} value {n} value {n} value {n}").into_bytes();
    for n in 0..90 {
        put(&a, "a", format!("key{n:04}"), text(n));
    }
    db.flush().unwrap();
    a.compact().unwrap();
    for n in 0..8 {
        a.delete(format!("key{:04}", n * 2)).unwrap();
        put(&a, "a", format!("key{:04}", n * 3 + 1), text(n + 100));
        put(&b, "b", format!("b{n}"), Value { seed: n, len: 60 }.bytes());
    }
    a.delete_range::<&str>((Bound::Included("key0025"), Bound::Excluded("key0030"))).unwrap();
    db.flush().unwrap();
    for n in 0..5 {
        put(&a, "a", format!("log{n}"), text(n));
        put(&b, "b", format!("b{}", n * 3), Value { seed: n + 50, len: 40 }.bytes());
    }
    a.delete("log0").unwrap();
    let content = content(&db).unwrap();
    drop((a, b));
    let files = if clean {
        db.close().unwrap();
        files(&*fs, &setup.dir)
    } else {
        let files = files(&*fs, &setup.dir);
        drop(db);
        files
    };
    Sample { files, content, history }
}

/// Nothing trusts what is in these.
fn is_advisory(name: &str) -> bool {
    name == "LOCK" || name == "RESERVE"
}

fn disk(files: &Files) -> (Arc<MemFs>, Arc<dyn Fs>) {
    let fs = Arc::new(MemFs::new());
    put_files(&*fs, Path::new(OLD), files);
    (fs.clone(), fs)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new())
}

fn repair(fs: &Arc<dyn Fs>, from: &str, to: &str) -> lignite::Result<RepairReport> {
    repair::repair(fs, &clock(), Path::new(from), Path::new(to), &mut |_| true)
}

fn read(fs: Arc<MemFs>, dir: &str) -> Content {
    let mut setup = setup(fs);
    setup.dir = PathBuf::from(dir);
    let db = setup.builder().open_read_only(dir).unwrap();
    content(&db).unwrap()
}

/// What a repair of these files gives, after all that must hold whatever is wrong with them.
fn judge(sample: &Sample, damaged: &Files, story: &str) -> Option<(RepairReport, Content)> {
    let (memory, fs) = disk(damaged);
    let outcome = repair(&fs, OLD, NEW);
    assert!(files(&*memory, Path::new(OLD)) == *damaged, "{story}: the source has changed");
    let report = match outcome {
        Ok(report) => report,
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unsupported), "{story}: {e:?}");
            assert!(memory.list(Path::new(NEW)).is_err(), "{story}: something is left");
            return None;
        }
    };
    let checked = check::check_directory(&fs, &clock(), Path::new(NEW), &CheckOptions::new().deep(true), &mut |_| {});
    let checked = checked.unwrap();
    assert!(checked.is_clean() && checked.garbage.is_empty(), "{story}: {checked:?}");
    let found = read(memory.clone(), NEW);
    // Without what names families, records are in families of other names.
    let anonymous: BTreeSet<(&[u8], &[u8])> = sample.history.iter().map(|(_, k, v)| (&k[..], &v[..])).collect();
    for (family, records) in &found {
        for (key, value) in records {
            let known = if family.starts_with("lost+found") {
                anonymous.contains(&(&key[..], &value[..]))
            } else {
                sample.history.contains(&(family.clone(), key.clone(), value.clone()))
            };
            assert!(known, "{story}: {family} has {:?}, which nobody wrote", key.escape_ascii().to_string());
        }
    }
    let again = repair(&fs, NEW, "/again").unwrap_or_else(|e| panic!("{story}: once more: {e:?}"));
    assert!(again.unchanged && again.problems.is_empty() && again.losses.is_empty(), "{story}: {again:?}");
    let mut once = files(&*memory, Path::new(NEW));
    once.retain(|name, _| !is_advisory(name));
    assert!(files(&*memory, Path::new("/again")) == once, "{story}: repairing twice is not repairing once");
    Some((report, found))
}

/// Everything that a table's whole blocks hold has to be there, and everything that is not damaged as it was.
fn must_keep(sample: &Sample, file: &str, report: &RepairReport, found: &Content, story: &str) {
    let lost = |key: &[u8]| {
        report.losses.iter().any(|l| match (&l.first_key, &l.last_key) {
            (Some(first), Some(last)) => first.as_slice() <= key && key <= last.as_slice(),
            (Some(first), None) => first.as_slice() <= key,
            _ => true,
        })
    };
    for (family, records) in &sample.content {
        for (key, value) in records.iter().filter(|(key, _)| !lost(key)) {
            let here = found.get(family).and_then(|r| r.get(key));
            assert!(here == Some(value), "{story}: {family}/{} is not as it was: {report:?}", key.escape_ascii());
        }
    }
    if file.ends_with(".sst") || file == "CURRENT" {
        let extra = |(family, records): (&String, &lignite_tests::model::Records)| {
            records.keys().any(|k| !sample.content[family].contains_key(k) && !lost(k))
        };
        let more = found.iter().any(extra);
        assert!(!more || !report.warnings.is_empty(), "{story}: deleted keys are back, and nobody says so");
    }
}

/// Without damage, repair is a copy (G23).
#[test]
fn a_sound_database_is_copied() {
    for clean in [true, false] {
        let sample = sample(Codec::Lz4, clean);
        let (report, found) = judge(&sample, &sample.files, "sound").unwrap();
        assert_eq!(found, sample.content);
        assert!(report.problems.is_empty() && report.losses.is_empty() && report.warnings.is_empty(), "{report:?}");
        assert_eq!(report.unchanged, clean);
    }
}

/// Any byte: the source stays as it is, nothing is invented, what is whole is there, and repairing the
/// result changes nothing (G23, G30).
#[test]
fn whatever_byte_is_damaged_the_rest_is_kept() {
    let mut states = 0;
    for (codec, clean) in [(Codec::None, true), (Codec::Zstd { level: 3 }, false), (Codec::Lz4, true)] {
        let sample = sample(codec, clean);
        let mut rng = Rng::new(11);
        let step = if scale() > 1.0 { 1 } else { 9 };
        for name in sample.files.keys().filter(|n| !is_advisory(n)) {
            let from = rng.below(step) as usize;
            for offset in (from..sample.files[name].len()).step_by(step as usize) {
                let mut damaged = sample.files.clone();
                let byte = &mut damaged.get_mut(name).unwrap()[offset];
                *byte ^= 1 << rng.below(8);
                let story = format!("{codec} clean={clean}: byte {offset} of {name} is {byte}");
                let (report, found) = judge(&sample, &damaged, &story).unwrap_or_else(|| panic!("{story}: no result"));
                let is_log = name.ends_with(".wal");
                if name.ends_with(".sst") || name == "CURRENT" || is_log && report.losses.is_empty() && clean {
                    must_keep(&sample, name, &report, &found, &story);
                }
                if name.starts_with("MANIFEST") {
                    must_be_somewhere(&sample, &found, &story);
                }
                if clean {
                    assert!(!report.problems.is_empty(), "{story}: nothing is said to be wrong");
                }
                states += 1;
            }
        }
    }
    println!("{states} damaged bytes");
}

/// Any length, and files that are gone (G19, G23, G30).
#[test]
fn whatever_is_cut_or_gone_the_rest_is_kept() {
    let mut rng = Rng::new(3);
    for clean in [true, false] {
        let sample = sample(Codec::Snappy, clean);
        for name in sample.files.keys().filter(|n| !is_advisory(n)) {
            let mut damaged = sample.files.clone();
            damaged.remove(name);
            judge(&sample, &damaged, &format!("clean={clean}: {name} is gone"));
            let len = sample.files[name].len();
            let lens = (0..12).map(|_| rng.below(len as u64) as usize).chain([0, 1, 47, 48, 49, len - 1]);
            for cut in lens.filter(|c| *c < len).collect::<Vec<_>>() {
                let mut damaged = sample.files.clone();
                damaged.get_mut(name).unwrap().truncate(cut);
                judge(&sample, &damaged, &format!("clean={clean}: {name} is cut to {cut}"));
            }
            let mut damaged = sample.files.clone();
            damaged.get_mut(name).unwrap().extend_from_slice(&[0; 77]);
            judge(&sample, &damaged, &format!("clean={clean}: {name} is longer"));
        }
    }
}

/// Several at once (G23, G30).
#[test]
fn many_damages_at_once() {
    let rounds = (60.0 * scale()) as u64;
    let samples: Vec<Sample> =
        [(Codec::None, true), (Codec::Zstd { level: 3 }, false)].map(|(c, clean)| sample(c, clean)).into();
    for seed in 0..rounds {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let sample = &samples[rng.below(2) as usize];
        let mut damaged = sample.files.clone();
        let names: Vec<String> = damaged.keys().filter(|n| !is_advisory(n)).cloned().collect();
        for _ in 0..rng.within(1, 6) {
            let name = names[rng.below(names.len() as u64) as usize].clone();
            let other = damaged.get(&names[rng.below(names.len() as u64) as usize]).cloned();
            let Some(bytes) = damaged.get_mut(&name).filter(|b| !b.is_empty()) else { continue };
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(7) {
                0 => drop(damaged.remove(&name)),
                1 => bytes.truncate(at),
                2 => {
                    let end = (at + 100).min(bytes.len());
                    bytes[at..end].fill(0);
                }
                3 => *bytes = other.unwrap_or_default(),
                4 => bytes.extend((0..50).map(|n| n as u8)),
                _ => bytes[at] ^= 1 << rng.below(8),
            }
        }
        judge(sample, &damaged, &format!("seed {seed}"));
    }
}

/// Where the manifest is damaged, families may have other names, but nothing that is whole is lost.
fn must_be_somewhere(sample: &Sample, found: &Content, story: &str) {
    for (family, records) in &sample.content {
        for (key, value) in records {
            let own = found.get(family).and_then(|r| r.get(key)) == Some(value);
            let here = own || found.iter().any(|(name, r)| name.starts_with("lost+found") && r.get(key) == Some(value));
            assert!(here, "{story}: {family}/{} is nowhere", key.escape_ascii());
        }
    }
}

/// A log is never applied over a gap (G20): of a log damaged in record n, exactly what came before n is there.
#[test]
fn the_log_counts_up_to_its_first_gap() {
    let fs = Arc::new(MemFs::new());
    let setup = setup(fs.clone());
    let db = setup.open().unwrap();
    db.put("table", "flushed").unwrap();
    db.flush().unwrap();
    for n in 0..20 {
        db.put(format!("log{n:02}"), format!("value {n}")).unwrap();
    }
    db.close().unwrap();
    let whole = files(&*fs, &setup.dir);
    let (name, log) = whole.iter().filter(|(n, _)| n.ends_with(".wal")).max_by_key(|(_, b)| b.len()).unwrap();
    let mut records = Vec::new();
    lignite::internals::wal::scan_file(&*fs, &setup.dir.join(name), &mut |item| {
        if let lignite::internals::wal::ScanItem::Record { offset, header, .. } = item
            && header.count > 0
        {
            records.push(*offset as usize);
        }
        Ok(())
    })
    .unwrap();
    let first = records.len() - 20;
    for (n, offset) in records[first..].iter().enumerate() {
        let mut damaged = whole.clone();
        damaged.get_mut(name).unwrap()[offset + 42] ^= 1;
        let (memory, fs) = disk(&damaged);
        let report = repair(&fs, OLD, NEW).unwrap();
        let found = read(memory, NEW);
        let keys: Vec<String> =
            found["default"].keys().map(|k| String::from_utf8(k.clone()).unwrap()).filter(|k| k != "table").collect();
        let expected: Vec<String> = (0..n).map(|n| format!("log{n:02}")).collect();
        assert_eq!(keys, expected, "record {n} is damaged");
        assert!(found["default"].contains_key(&b"table"[..]));
        assert_eq!(report.log_records_refused as usize, 19 - n, "{report:?}");
        assert_eq!(report.losses.len(), 1, "{report:?}");
        assert_eq!(report.warnings.is_empty(), n == 19, "{report:?}");
    }
    assert!(log.len() > 128);
}

/// Single files, damaged anywhere: what comes out was written, in order, and damage is said.
#[test]
fn salvage_invents_nothing() {
    let sample = sample(Codec::Lz4, true);
    let known: BTreeSet<(&[u8], &[u8])> = sample.history.iter().map(|(_, k, v)| (&k[..], &v[..])).collect();
    let mut rng = Rng::new(8);
    let step = if scale() > 1.0 { 1 } else { 3 };
    let salvage = |files: &Files, name: &str, family| {
        let (_, fs) = disk(files);
        let mut records = BTreeMap::new();
        let mut last: Option<Vec<u8>> = None;
        let path = [Path::new(OLD).join(name)];
        let report = repair::salvage::salvage(&*fs, &path, family, &mut |_| true, &mut |k, v| {
            assert!(last.as_deref().is_none_or(|last| last < k), "{name}: out of order");
            last = Some(k.to_vec());
            records.insert(k.to_vec(), v.to_vec());
            Ok(())
        });
        (report, records)
    };
    for name in sample.files.keys().filter(|n| n.ends_with(".sst") || n.ends_with(".wal")) {
        let family = name.ends_with(".wal").then_some(1);
        let (report, whole) = salvage(&sample.files, name, family);
        assert!(report.unwrap().is_clean(), "{name}");
        for offset in (0..sample.files[name].len()).step_by(step) {
            let mut damaged = sample.files.clone();
            let bytes = damaged.get_mut(name).unwrap();
            let flip = rng.chance(80);
            if flip {
                bytes[offset] ^= 1 << rng.below(8);
            } else {
                bytes.truncate(offset);
            }
            let (report, records) = salvage(&damaged, name, family);
            let story = format!("byte {offset} of {name}");
            match report {
                // A log that ends between two records may always have done so.
                Ok(report) if !flip && name.ends_with(".wal") => drop(report),
                Ok(report) => assert!(!report.is_clean(), "{story}: nothing is said to be wrong"),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{story}: {e:?}"),
            }
            for (k, v) in &records {
                assert!(known.contains(&(&k[..], &v[..])), "{story}: {:?} was never written", k.escape_ascii());
            }
            assert!(records.len() <= whole.len() + 9, "{story}");
        }
    }
}
