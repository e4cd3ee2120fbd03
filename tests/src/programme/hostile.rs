//! T13: whole directories that somebody made up, with every checksum right.
//!
//! The story: bytes come from somebody who knows the format. A sample's directory is changed in the
//! fields of its manifest, in its log, in its tables, or in CURRENT, and then all checksums, sizes and
//! hashes are made right. Whatever is there, opening, reading, checking, writing, compacting, closing,
//! repairing and salvaging work or fail with an error that has a kind and a file: nothing panics,
//! overflows or hangs (G30), nothing takes memory beyond the stated limits (G13), and an open that fails
//! changes nothing (G22). What was mended opens. What such a database contains is the forger's affair.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use lignite::internals::check::{self, CheckOptions};
use lignite::internals::checksum::FileHasher;
use lignite::internals::clock::{Clock, ManualClock};
use lignite::internals::filename::FileName;
use lignite::internals::fs::mem::MemFs;
use lignite::internals::fs::{Fs, read_all};
use lignite::internals::key::{FamilyId, SEQ_MAX};
use lignite::internals::record::LogPosition;
use lignite::internals::repair::{self as mending, salvage::salvage};
use lignite::internals::version::current::{Current, Seal, SealedLog};
use lignite::internals::version::edit::{FamilyRecord, VersionEdit};
use lignite::internals::version::manifest::{self, ManifestWriter};
use lignite::{CfOptions, Db, Durability, Error, ErrorKind};

use super::{Kind, Tally};
use crate::alloc::measure;
use crate::fuzz::{mutate, repair};
use crate::rng::Rng;
use crate::sample::{Files, Sample};
use crate::sim::{Setup, files, put_files};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "hostile",
    id: "T13",
    about: "opens and uses made-up directories whose checksums are right: no panic, no hang, bounded memory",
    ci_units: 200,
    suite_units: 8,
    at_once: usize::MAX,
    ci_targets: &[("hostile_directories", 20_000)],
    long_targets: &[("hostile_directories", 3_000_000)],
    run,
}];

/// Directories of a unit.
const DIRECTORIES: u64 = 100;
/// What one block may take, of which a cursor holds a few (FORMAT.md: 64 MiB a part).
const MEMORY_MAX: i64 = 600 << 20;

fn run(unit: u64, tally: &mut Tally) {
    let sample = Sample::new(unit % 40);
    for n in 0..DIRECTORIES {
        let seed = unit * DIRECTORIES + n;
        let mut rng = Rng::new(seed ^ 0x4057);
        let mut forgery = Forgery::new(&sample);
        let mut story = format!("directory {seed}:");
        for _ in 0..rng.within(1, 3) {
            let what = forgery.change(&mut rng);
            story.push_str(&format!(" {what};"));
        }
        let made = forgery.finish(&mut rng);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let ((), usage) = measure(|| {
                use_it(&sample.setup, &made, &story, tally);
                mend_it(&sample.setup, &made, &story, tally);
            });
            assert!(usage.peak_bytes < MEMORY_MAX, "{} bytes at once", usage.peak_bytes);
        }));
        if let Err(panic) = outcome {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default();
            panic!("{story} {words}");
        }
    }
    tally.add("hostile_directories", DIRECTORIES);
}

/// A directory being made up.
struct Forgery {
    setup: Setup,
    sealed: bool,
    files: Files,
    current: Current,
    edits: Vec<VersionEdit>,
    /// If the manifest is changed as bytes, not as edits.
    raw_manifest: bool,
}

impl Forgery {
    fn new(sample: &Sample) -> Forgery {
        let files = sample.files.clone();
        let current = Current::decode(&files["CURRENT"]).unwrap();
        let dir = &sample.setup.dir;
        let scan = manifest::read_manifest(&**sample.fs(), dir, current.manifest, None).unwrap();
        Forgery {
            setup: sample.setup.clone(),
            sealed: sample.sealed,
            files,
            current,
            edits: scan.edits,
            raw_manifest: false,
        }
    }

    fn change(&mut self, rng: &mut Rng) -> String {
        match rng.below(10) {
            0..4 => self.change_edit(rng),
            4 => self.change_edits(rng),
            5..7 => self.change_file(rng, ".sst"),
            7 => self.change_file(rng, ".wal"),
            8 => {
                self.raw_manifest = true;
                self.change_file(rng, "MANIFEST")
            }
            _ => self.change_current(rng),
        }
    }

    /// Changes one field of one edit.
    fn change_edit(&mut self, rng: &mut Rng) -> String {
        let number =
            rng.pick(&[0, 1, 2, 7, 255, 1 << 20, u64::from(u32::MAX), SEQ_MAX - 1, SEQ_MAX, 1 << 55, u64::MAX]);
        let at = rng.below(self.edits.len() as u64) as usize;
        let tables: Vec<_> = self.edits.iter().flat_map(|e| e.added.clone()).collect();
        let edit = &mut self.edits[at];
        let which = rng.below(20);
        match which {
            0 => edit.next_file = Some(number),
            1 => edit.next_family = Some(number as u32),
            2 => edit.last_seq = Some(number.min(SEQ_MAX)),
            3 => edit.log_synced = Some(LogPosition { segment: number % 20, offset: number }),
            4 => edit.log_first = Some(number),
            5 => edit.flushed.push((FamilyId(rng.below(4) as u32), number.min(SEQ_MAX))),
            6 => edit.families_dropped.push(FamilyId(rng.below(4) as u32)),
            7 => {
                edit.families_renamed.push((FamilyId(rng.below(4) as u32), rng.pick(&["a", "", "b", "x"]).to_string()))
            }
            8 => {
                let name = rng.pick(&["a", "../x", "default", "new"]);
                edit.families_created.push(FamilyRecord::new(FamilyId(number as u32), name, CfOptions::new(), number));
            }
            9 => edit.deleted.push((FamilyId(rng.below(3) as u32), rng.below(8) as u8, number)),
            10 => edit.features = Some(vec![rng.pick(&["base/1", "subframes", ""]).to_string()]),
            11 => edit.db_id = Some(u128::from(number)),
            12 if !tables.is_empty() => {
                let mut table = tables[rng.below(tables.len() as u64) as usize].clone();
                table.0 = FamilyId(rng.below(4) as u32);
                table.1 = rng.below(9) as u8;
                edit.added.push(table);
            }
            13 => drop(edit.added.pop()),
            14 => drop(edit.families_created.pop()),
            _ => {
                let Some((_, level, meta)) = edit.added.last_mut() else { return "nothing".to_string() };
                match which {
                    15 => *level = rng.below(8) as u8,
                    16 => {
                        meta.number = number;
                        meta.origin.number = rng.pick(&[number, meta.origin.number]);
                    }
                    17 => {
                        meta.smallest = rng.pick(&[&b""[..], b"key0010", b"zz"]).to_vec();
                        meta.largest = match rng.below(4) {
                            0 => Bound::Unbounded,
                            1 => Bound::Excluded(meta.smallest.clone()),
                            2 => Bound::Included(meta.smallest.clone()),
                            _ => Bound::Included(b"zzz".to_vec()),
                        };
                    }
                    18 => match rng.below(5) {
                        0 => meta.entries = number,
                        1 => meta.deletes = number,
                        2 => meta.range_deletes = number,
                        3 => meta.raw_bytes = number,
                        _ => (meta.created, meta.oldest_data) = (number, u64::MAX),
                    },
                    _ => match rng.below(4) {
                        0 => meta.seq_min = number,
                        1 => meta.seq_max = number,
                        2 => meta.seq_override = Some(number.min(SEQ_MAX)),
                        _ => meta.size = number,
                    },
                }
            }
        }
        format!("edit {at} changed in way {which} with {number}")
    }

    /// Changes the order or number of edits.
    fn change_edits(&mut self, rng: &mut Rng) -> String {
        let n = self.edits.len() as u64;
        let (a, b) = (rng.below(n) as usize, rng.below(n) as usize);
        match rng.below(3) {
            0 if n > 1 => drop(self.edits.remove(a)),
            1 => self.edits.insert(a, self.edits[b].clone()),
            _ => self.edits.swap(a, b),
        }
        format!("edits {a} and {b} moved")
    }

    /// Changes bytes of one file of a kind; its checksums are made right.
    fn change_file(&mut self, rng: &mut Rng, kind: &str) -> String {
        let names: Vec<String> = self.files.keys().filter(|n| n.contains(kind)).cloned().collect();
        if names.is_empty() {
            return "nothing".to_string();
        }
        let name = names[rng.below(names.len() as u64) as usize].clone();
        let bytes = self.files.get_mut(&name).unwrap();
        if bytes.len() > 60 && kind == ".sst" && rng.chance(50) {
            // The end of a table says most.
            let mut tail = bytes.split_off(bytes.len() - 60);
            mutate(&mut tail, rng);
            bytes.extend_from_slice(&tail);
        } else {
            for _ in 0..rng.within(1, 4) {
                mutate(bytes, rng);
            }
        }
        let db_id = self.current.db_id;
        match FileName::parse(&name) {
            Some(FileName::Table(number)) => {
                repair::table(bytes, db_id, number);
                let (size, hash) = size_and_hash(bytes);
                for (_, _, meta) in self.edits.iter_mut().flat_map(|e| &mut e.added).filter(|t| t.2.number == number) {
                    (meta.size, meta.hash) = (size, hash);
                }
            }
            Some(FileName::Wal(number)) => repair::segment(bytes, db_id, number),
            Some(FileName::Manifest(number)) => repair::manifest(bytes, db_id, number),
            _ => {}
        }
        format!("bytes of {name} changed")
    }

    fn change_current(&mut self, rng: &mut Rng) -> String {
        let what = rng.below(5);
        match what {
            0 => self.current.manifest = rng.pick(&[0, 1, 2, 3, u64::MAX]),
            1 => self.current.db_id ^= 1 << rng.below(128),
            2 => self.sealed = !self.sealed,
            3 => {
                // Not made right again below.
                let bytes = self.files.get_mut("CURRENT").unwrap();
                mutate(bytes, rng);
                repair::current(bytes);
                if let Ok(current) = Current::decode(bytes) {
                    self.current = current;
                }
            }
            _ => drop(self.files.remove(&FileName::Manifest(self.current.manifest).to_string())),
        }
        format!("CURRENT changed in way {what}")
    }

    /// Writes manifest and CURRENT, and states what is there.
    fn finish(mut self, rng: &mut Rng) -> Files {
        let name = FileName::Manifest(self.current.manifest).to_string();
        // The writer refuses what no manifest can be.
        self.edits.iter_mut().enumerate().for_each(|(i, edit)| edit.snapshot = i == 0);
        if !self.raw_manifest
            && let Some((first, rest)) = self.edits.split_first()
        {
            let fs = MemFs::new();
            let dir = &self.setup.dir;
            fs.create_dir_all(dir).unwrap();
            let mut writer =
                ManifestWriter::create(&fs, dir, self.current.manifest, self.current.db_id, first).unwrap();
            for edit in rest {
                writer.append(edit).unwrap();
            }
            let file = fs.open(&dir.join(&name)).unwrap();
            self.files.insert(name.clone(), read_all(&*file, 1 << 20).unwrap());
        }
        if self.sealed {
            let (manifest_len, manifest_hash) = size_and_hash(self.files.get(&name).map_or(&[][..], |b| b));
            let logs = self.files.iter().filter_map(|(n, bytes)| match FileName::parse(n) {
                Some(FileName::Wal(number)) => {
                    let (len, hash) = size_and_hash(bytes);
                    Some(SealedLog { number, len, hash })
                }
                _ => None,
            });
            let mut logs: Vec<SealedLog> = logs.collect();
            if rng.chance(5) {
                logs.push(SealedLog { number: u64::MAX, len: u64::MAX, hash: 0 });
            }
            self.current.seal = Some(Seal { manifest_len, manifest_hash, logs });
        } else {
            self.current.seal = None;
        }
        self.files.insert("CURRENT".to_string(), self.current.encode());
        self.files
    }
}

fn size_and_hash(bytes: &[u8]) -> (u64, u128) {
    let mut hasher = FileHasher::new();
    hasher.update(bytes);
    (bytes.len() as u64, hasher.digest())
}

/// Uses the directory in every way.
fn use_it(setup: &Setup, made: &Files, story: &str, tally: &mut Tally) {
    let fs = Arc::new(MemFs::new());
    put_files(&*fs, &setup.dir, made);
    let setup = setup.on(fs.clone());
    match setup.builder().open_read_only(&setup.dir) {
        Ok(db) => {
            read(&db);
            if let Err(e) = db.check(true, &mut |_| {}) {
                has_kind_and_file(&e, story);
            }
            tally.add("hostile_opened", 1);
        }
        Err(e) => has_kind_and_file(&e, story),
    }
    assert!(files(&*fs, &setup.dir) == *made, "a read-only open changed something");
    let db = match setup.open() {
        Ok(db) => db,
        Err(e) => {
            has_kind_and_file(&e, story);
            let mut left = files(&*fs, &setup.dir);
            left.insert("LOCK".to_string(), made["LOCK"].clone());
            assert!(left == *made, "an open that failed with {e} changed something");
            return;
        }
    };
    read(&db);
    if let Err(e) = work(&db) {
        assert!(!e.message().is_empty());
    }
    read(&db);
    let _ = db.check(true, &mut |_| {});
    if db.close().is_err() {
        return;
    }
    // What was closed in good order opens, unless a table in it is bad.
    match setup.open() {
        Ok(db) => read(&db),
        Err(e) => has_kind_and_file(&e, story),
    }
}

/// Checks, repairs and salvages what is there. The files stay as they are; what a repair makes is sound.
fn mend_it(setup: &Setup, made: &Files, story: &str, tally: &mut Tally) {
    let memory = Arc::new(MemFs::new());
    put_files(&*memory, &setup.dir, made);
    let (fs, clock): (Arc<dyn Fs>, Arc<dyn Clock>) = (memory.clone(), Arc::new(ManualClock::new()));
    let deep = CheckOptions::new().deep(true);
    if let Err(e) = check::check_directory(&fs, &clock, &setup.dir, &deep, &mut |_| {}) {
        has_kind_and_file(&e, story);
    }
    match mending::repair(&fs, &clock, &setup.dir, Path::new("/mended"), &mut |_| true) {
        Ok(_) => {
            let mended = Setup { dir: "/mended".into(), ..setup.on(memory.clone()) };
            match mended.builder().open_read_only(&mended.dir) {
                Ok(db) => read(&db),
                Err(e) => panic!("{story} what was mended does not open: {e:?}"),
            }
            tally.add("hostile_repaired", 1);
        }
        Err(e) => has_kind_and_file(&e, story),
    }
    let (tables, logs): (Vec<_>, Vec<_>) = made
        .keys()
        .filter(|n| n.ends_with(".sst") || n.ends_with(".wal"))
        .map(|n| setup.dir.join(n))
        .partition(|p| p.extension().is_some_and(|e| e == "sst"));
    for (paths, family) in [(tables, None), (logs, Some(0))] {
        let mut last: Option<Vec<u8>> = None;
        let outcome = salvage(&*fs, &paths, family, &mut |_| true, &mut |key, _| {
            assert!(last.as_deref().is_none_or(|last| last < key), "{story} salvage is out of order");
            last = Some(key.to_vec());
            Ok(())
        });
        if let Err(e) = outcome {
            let foreign = e.kind() == ErrorKind::InvalidArgument && e.file().is_some();
            assert!(foreign || e.kind() == ErrorKind::Unsupported, "{story} {e:?}");
        }
    }
    assert!(files(&*memory, &setup.dir) == *made, "{story} a repair or a salvage changed something");
}

fn has_kind_and_file(e: &Error, story: &str) {
    let kinds = [ErrorKind::Corruption, ErrorKind::Unsupported, ErrorKind::NotFound];
    assert!(kinds.contains(&e.kind()) && e.file().is_some_and(|f| f.starts_with(Path::new("/db"))), "{story} {e:?}");
}

/// Reads in every way; errors are fine.
fn read(db: &Db) {
    let _ = db.stats();
    let snapshot = db.snapshot();
    for name in db.column_family_names() {
        let Ok(family) = db.column_family(&name) else { continue };
        for entry in family.iter().take(2000) {
            let Ok(entry) = entry else { break };
            let _ = entry.value().map(<[u8]>::len);
        }
        let _ = family.iter().rev().take(2000).take_while(Result::is_ok).count();
        for key in ["", "key0001", "key0012", "b3", "i2", "log4", "zzz"] {
            let _ = family.get(key);
            let _ = lignite::Reader::get(&snapshot, &family, key);
        }
        let _ = family.multi_get(&["a", "key0003", "key0009"]);
        let _ = family.prefix("key").take(100).take_while(Result::is_ok).count();
    }
}

/// Writes, flushes and compacts, up to the first error.
fn work(db: &Db) -> lignite::Result<()> {
    let family = db.open_column_family("more", CfOptions::new())?;
    let mut batch = db.batch();
    for n in 0..10u32 {
        batch.put(&family, n.to_be_bytes(), b"value").put(&db.default_family(), n.to_be_bytes(), b"value");
    }
    db.write_with(batch, Durability::Sync)?;
    db.delete_range("a".."c")?;
    db.flush()?;
    for name in db.column_family_names() {
        let _ = db.column_family(&name).and_then(|f| {
            f.put("key0005", "x")?;
            f.compact()
        });
    }
    db.drop_column_family("more")?;
    db.wait_for_idle()
}
