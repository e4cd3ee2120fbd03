//! Every byte of every file flipped, every file cut at every length.
//!
//! The story: a database is closed in good order. Later one byte of one file is another one, or a
//! file is shorter or gone. Opening it, or `check` on it, says which file and where; or the change
//! makes no difference to anything that can be read. No damage makes the library panic, and none
//! makes it ask for more memory than the files' own sizes justify (G13, G15, G30).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::internals::fs::{File, Fs};
use lignite::{CfOptions, Codec, Compression, ErrorKind, FilterPolicy, Options};
use lignite_tests::alloc::measure;
use lignite_tests::model::Content;
use lignite_tests::ops::Value;
use lignite_tests::rng::{Rng, scale};
use lignite_tests::sim::{Setup, content, files, put_files};

const CODECS: [Codec; 5] =
    [Codec::None, Codec::Lz4, Codec::Snappy, Codec::Zstd { level: 3 }, Codec::Brotli { quality: 4 }];

/// A small database with every kind of file: tables with every kind of block, on two levels, and a
/// log with records, in two families.
struct Sample {
    setup: Setup,
    fs: Arc<MemFs>,
    files: BTreeMap<String, Vec<u8>>,
    /// To write into them.
    handles: BTreeMap<String, Arc<dyn File>>,
    content: Content,
    /// Peak of memory that open, check and export of the sound database need.
    peak: i64,
}

fn sample(codec: Codec) -> Sample {
    let fs = Arc::new(MemFs::new());
    let options = Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(std::time::Duration::ZERO)
        .memory_budget(1 << 20)
        .log_segment_size(16 << 10)
        .log_size_max(64 << 10);
    let setup = Setup { options, ..Setup::new(fs.clone(), 9) };
    let db = setup.open().unwrap();
    let family = CfOptions::new()
        .compression(Compression::all(codec).min_saving(0))
        .filter(FilterPolicy::Bloom { bits_per_key: 10 })
        .block_size(512);
    let a = db.open_column_family("a", family.clone()).unwrap();
    let b = db.open_column_family("b", family.filter(FilterPolicy::Auto { bits_per_key: 8 })).unwrap();
    let text = |n: u32| format!("value {n} value {n} value {n} value {n}");
    for n in 0..24 {
        a.put(format!("key{n:04}"), text(n)).unwrap();
    }
    db.flush().unwrap();
    a.compact().unwrap();
    for n in 0..6 {
        a.delete(format!("key{:04}", n * 2)).unwrap();
        b.put(format!("b{n}"), Value { seed: n, len: 60 }.bytes()).unwrap();
    }
    a.delete_range::<&str>((Bound::Included("key0015"), Bound::Excluded("key0018"))).unwrap();
    db.flush().unwrap();
    // What stays in the log.
    for n in 0..4 {
        a.put(format!("log{n}"), text(n)).unwrap();
    }
    let mut batch = db.batch();
    batch.put(&a, "x", "1").put(&b, "y", "2").delete(&a, "log0");
    db.write(batch).unwrap();
    let content = content(&db).unwrap();
    drop((a, b));
    db.close().unwrap();
    let files = files(&*fs, &setup.dir);
    // The same files once more, with handles that can write.
    let fs = Arc::new(MemFs::new());
    let setup = setup.on(fs.clone());
    let handles = put_files(&*fs, &setup.dir, &files);
    let mut sample = Sample { setup, fs, files, handles, content, peak: 0 };
    let (verdict, usage) = measure(|| sample.judge());
    assert_eq!(verdict, Verdict::Unchanged);
    sample.peak = usage.peak_bytes;
    sample
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Open or check named these places.
    Detected(Vec<(Option<String>, Option<u64>, String)>),
    /// Everything can be read as before.
    Unchanged,
    /// Everything opens and is "clean", but the content is another one.
    Lied(String),
}

impl Sample {
    /// Opens it read-only, checks it and exports it.
    fn judge(&self) -> Verdict {
        let name = |path: Option<&Path>| path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        let db = match self.setup.builder().open_read_only(&self.setup.dir) {
            Ok(db) => db,
            Err(e) => {
                assert!(
                    matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported | ErrorKind::NotFound),
                    "open failed with {e:?}"
                );
                return Verdict::Detected(vec![(name(e.file()), e.offset(), e.to_string())]);
            }
        };
        let found = content(&db);
        let report = db.check(true, &mut |_| {});
        let problems = match report {
            Ok(report) => report.problems,
            Err(e) => return Verdict::Detected(vec![(name(e.file()), e.offset(), e.to_string())]),
        };
        if !problems.is_empty() {
            let place = |p: &lignite::Problem| (name(Some(&p.file)), p.offset, p.message.clone());
            return Verdict::Detected(problems.iter().map(place).collect());
        }
        match found {
            Ok(found) if found == self.content => Verdict::Unchanged,
            Ok(_) => Verdict::Lied("the content is another one".to_string()),
            Err(e) => Verdict::Lied(format!("check found nothing, but reading fails: {e:?}")),
        }
    }

    /// Judges with a limit on memory: nothing that a damaged length says may cost more than twice
    /// what the sound database costs, and some.
    fn judge_within_limits(&self, story: &str) -> Verdict {
        let (verdict, usage) = measure(|| self.judge());
        let limit = self.peak * 2 + (1 << 20);
        assert!(usage.peak_bytes < limit, "{story}: {} bytes at once, the limit is {limit}", usage.peak_bytes);
        verdict
    }

    fn must_be_detected(&self, story: &str, file: &str, offset_too: bool) {
        match self.judge_within_limits(story) {
            Verdict::Detected(places) => {
                let named = places.iter().any(|(f, o, _)| f.as_deref() == Some(file) && (o.is_some() || !offset_too));
                assert!(named, "{story}: detected, but the place is not named: {places:?}");
            }
            Verdict::Unchanged => panic!("{story}: nobody noticed"),
            Verdict::Lied(what) => panic!("{story}: {what}"),
        }
    }
}

/// LOCK says who holds it, for people; nothing trusts it.
fn is_advisory(file: &str) -> bool {
    file == "LOCK"
}

#[test]
fn every_flipped_byte_is_noticed() {
    let mut flips = 0;
    for codec in CODECS {
        let sample = sample(codec);
        let mut rng = Rng::new(5);
        for (name, bytes) in &sample.files {
            let file = &sample.handles[name];
            for (offset, &byte) in bytes.iter().enumerate() {
                // One random bit of every byte; zeros and ones; at scale, every bit.
                let mut others = vec![byte ^ 1 << rng.below(8), 0, 0xff];
                if scale() > 1.0 {
                    others.extend((0..8).map(|bit| byte ^ 1 << bit));
                }
                for other in others.into_iter().filter(|o| *o != byte) {
                    file.write_all_at(&[other], offset as u64).unwrap();
                    let story = format!(
                        "{codec}: byte {offset} of {name} ({} bytes) is {other} instead of {byte}",
                        bytes.len()
                    );
                    if is_advisory(name) {
                        assert_eq!(sample.judge_within_limits(&story), Verdict::Unchanged, "{story}");
                    } else {
                        sample.must_be_detected(&story, name, true);
                    }
                    flips += 1;
                }
                file.write_all_at(&[byte], offset as u64).unwrap();
            }
        }
        assert_eq!(sample.judge(), Verdict::Unchanged, "the sweep put everything back");
    }
    println!("{flips} flips");
}

#[test]
fn every_cut_is_noticed() {
    let mut cuts = 0;
    for codec in [Codec::None, Codec::Zstd { level: 3 }] {
        let sample = sample(codec);
        for (name, bytes) in &sample.files {
            let file = &sample.handles[name];
            for len in (0..bytes.len()).rev() {
                file.set_len(len as u64).unwrap();
                let story = format!("{codec}: {name} is cut from {} to {len} bytes", bytes.len());
                if is_advisory(name) {
                    assert_eq!(sample.judge(), Verdict::Unchanged, "{story}");
                } else {
                    sample.must_be_detected(&story, name, false);
                }
                cuts += 1;
            }
            file.write_all_at(bytes, 0).unwrap();
            // Longer is as wrong as shorter.
            for more in [&b"\0"[..], &[0; 600], b"noise"] {
                file.write_all_at(more, bytes.len() as u64).unwrap();
                let story = format!("{codec}: {name} is longer by {} bytes", more.len());
                if !is_advisory(name) {
                    sample.must_be_detected(&story, name, false);
                }
                file.set_len(bytes.len() as u64).unwrap();
            }
        }
        assert_eq!(sample.judge(), Verdict::Unchanged, "the sweep put everything back");
    }
    println!("{cuts} cuts");
}

#[test]
fn a_missing_file_is_noticed() {
    let sample = sample(Codec::Lz4);
    for (name, bytes) in sample.files.iter().filter(|(n, _)| !is_advisory(n)) {
        let path = sample.setup.dir.join(name);
        sample.fs.remove_file(&path).unwrap();
        let verdict = sample.judge();
        assert!(matches!(verdict, Verdict::Detected(_)), "{name} is gone: {verdict:?}");
        put_files(&*sample.fs, &sample.setup.dir, &BTreeMap::from([(name.clone(), bytes.clone())]));
    }
    assert_eq!(sample.judge(), Verdict::Unchanged);
}

/// A table of another database, or of the same one under another number, is not taken for this one.
#[test]
fn files_that_changed_places_are_noticed() {
    let sample = sample(Codec::Lz4);
    let tables: Vec<&String> = sample.files.keys().filter(|n| n.ends_with(".sst")).collect();
    assert!(tables.len() >= 3, "{tables:?}");
    for a in &tables {
        for b in tables.iter().filter(|b| b != &a) {
            let mut swapped = sample.files.clone();
            swapped.insert((*a).clone(), sample.files[*b].clone());
            put_files(&*sample.fs, &sample.setup.dir, &swapped);
            sample.must_be_detected(&format!("{a} holds what {b} held"), a, false);
        }
    }
}

/// A normal open of a damaged database fails or works, and if it fails, nothing on disk has changed
/// (G22).
#[test]
fn a_failed_open_changes_nothing() {
    let sample = sample(Codec::Lz4);
    let mut failed = 0;
    for (name, bytes) in sample.files.iter().filter(|(n, _)| !is_advisory(n)) {
        for offset in (0..bytes.len()).step_by(7) {
            let mut damaged = sample.files.clone();
            damaged.get_mut(name).unwrap()[offset] ^= 0x10;
            let fs = Arc::new(MemFs::new());
            put_files(&*fs, &sample.setup.dir, &damaged);
            let opened = sample.setup.on(fs.clone()).open();
            if opened.is_err() {
                failed += 1;
                let mut left = files(&*fs, &sample.setup.dir);
                // Who tried to open is written into the lock file, which nothing trusts.
                left.insert("LOCK".to_string(), damaged["LOCK"].clone());
                assert_eq!(left, damaged, "byte {offset} of {name}: a failed open changed something");
            }
        }
    }
    assert!(failed > 50, "only {failed} opens failed");
}
