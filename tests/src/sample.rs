//! Small whole databases to be damaged, and the judge of what is left of them.
//!
//! A [`Sample`] is a function of its seed: some kilobytes with every kind of file and block, two user
//! families, tables on several levels, and a log with records; closed in good order (*sealed*) or left
//! behind by a process that died (*open*). It knows every state of its history, so the judge can say
//! of any damage whether what was read is the truth, a truth that a torn tail explains, or a lie.
//!
//! Always true of the judge: it never asks the engine what is right. It panics at a lie, and gives back
//! what the engine said of the damage.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use lignite::internals::filename::FileName;
use lignite::internals::fs::mem::{CrashPolicy, MemFs};
use lignite::internals::fs::{File, Fs};
use lignite::internals::header::HEADER_LEN;
use lignite::internals::record::{LogPosition, RecordKind, record_len};
use lignite::internals::version::current::Current;
use lignite::internals::version::edit::VersionEdit;
use lignite::internals::version::manifest;
use lignite::internals::wal::{self, FIRST_RECORD, ScanItem};
use lignite::{
    CfOptions, Codec, ColumnFamily, Compression, Db, Durability, Error, ErrorKind, FilterPolicy, Options, Problem,
};

use crate::model::{Content, Records};
use crate::ops::Value;
use crate::rng::Rng;
use crate::sim::{LOG_MODES, Setup, files, put_files};

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// In a list of files that errors may blame: whichever they like.
pub const ANY: &str = "*";

/// The codecs, each of which has samples.
pub const CODECS: [Codec; 5] =
    [Codec::None, Codec::Lz4, Codec::Snappy, Codec::Zstd { level: 3 }, Codec::Brotli { quality: 4 }];

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord {
    /// Where it begins.
    pub at: LogPosition,
    /// Where it ends in its segment.
    pub end: u64,
    /// What it promises to be durable.
    pub synced: LogPosition,
    /// False for an end mark, which changes nothing.
    pub changes: bool,
}

/// A database to be damaged.
pub struct Sample {
    /// How it is opened.
    pub setup: Setup,
    /// True if it was closed in good order.
    pub sealed: bool,
    /// Its files.
    pub files: Files,
    /// What each of its files held earlier, oldest first, where that was something else.
    pub older: BTreeMap<String, Vec<Vec<u8>>>,
    /// Every state of its history; the last one is what it holds.
    pub states: Vec<Content>,
    /// The records of its log, in their order. The last ones of the history are here.
    pub log: Vec<LogRecord>,
    /// How far the manifest says that the log is durable.
    pub hint: LogPosition,
    /// The tables that belong to it; others await their removal.
    pub live: BTreeSet<String>,
    fs: Arc<MemFs>,
    handles: BTreeMap<String, Arc<dyn File>>,
    /// Peak of memory that judging the sound database takes.
    peak: i64,
}

/// What the engine said of a damaged directory.
#[derive(Debug)]
pub enum Verdict {
    /// The open failed.
    Refused(Error),
    /// It opened.
    Opened {
        /// What `check` found.
        problems: Vec<Problem>,
        /// Errors of reads.
        errors: Vec<Error>,
        /// Keys that could not be read, with their families.
        unreadable: Vec<(String, Vec<u8>)>,
        /// Bytes of a torn tail that were dropped.
        torn: u64,
        /// The index of the state that it shows.
        state: usize,
    },
}

/// What the damage makes right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// An error that names the file; reading the last state, with errors here and there, or whole if
    /// `check` says nothing.
    Detected,
    /// As [`Allowed::Detected`], or nothing at all: every byte that anybody reads is as before.
    DetectedOrHarmless,
    /// This state, without an error, and word that bytes were dropped.
    Torn(usize),
    /// This state, without an error.
    Cut(usize),
    /// An error that names the file, or a state from this one on.
    DetectedOrFrom(usize),
}

struct Writer {
    db: Db,
    now: Content,
    states: Vec<Content>,
    /// The states that were acknowledged as durable.
    synced: Vec<usize>,
}

impl Writer {
    fn write(&mut self, changes: &[(&ColumnFamily, &str, Option<Vec<u8>>)], durability: Durability) {
        let mut batch = self.db.batch();
        for (family, key, value) in changes {
            let records = self.now.get_mut(&*family.name()).unwrap();
            match value {
                Some(value) => {
                    batch.put(family, key, value);
                    records.insert(key.as_bytes().to_vec(), value.clone());
                }
                None => {
                    batch.delete(family, key);
                    records.remove(key.as_bytes());
                }
            }
        }
        self.db.write_with(batch, durability).unwrap();
        if durability == Durability::Sync {
            self.synced.push(self.states.len());
        }
        self.states.push(self.now.clone());
    }

    fn family(&mut self, name: &str, options: CfOptions) -> ColumnFamily {
        let family = self.db.open_column_family(name, options).unwrap();
        self.now.insert(name.to_string(), Records::new());
        self.states.push(self.now.clone());
        family
    }
}

impl Sample {
    /// Makes the sample of this seed: the codec is that of `seed % 5`; every other five are left open.
    pub fn new(seed: u64) -> Sample {
        let codec = CODECS[(seed % 5) as usize];
        let sealed = (seed / 5).is_multiple_of(2);
        let mut rng = Rng::new(seed ^ 0x5a3b);
        let fs = Arc::new(MemFs::new());
        let options = Options::new()
            .background_threads(0)
            .decode_threads(0)
            .sync_interval(std::time::Duration::ZERO)
            .memory_budget(1 << 20)
            .log_segment_size(16 << 10)
            .log_size_max(64 << 10)
            .log_mode(rng.pick(&LOG_MODES));
        let setup = Setup { options, ..Setup::new(fs.clone(), seed ^ 9) };
        let mut older: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        let mut remember = |fs: &MemFs| {
            for (name, bytes) in files(fs, &setup.dir) {
                let versions = older.entry(name).or_default();
                if versions.last() != Some(&bytes) {
                    versions.push(bytes);
                }
            }
        };
        let db = setup.open().unwrap();
        let now = Content::from([("default".to_string(), Records::new())]);
        let mut w = Writer { db, states: vec![now.clone()], now, synced: Vec::new() };
        let mut compression = Compression::all(codec).min_saving(0);
        if rng.chance(40) {
            compression = compression.keys(CODECS[rng.below(5) as usize]);
        }
        let family = CfOptions::new()
            .compression(compression)
            .filter(FilterPolicy::Bloom { bits_per_key: 10 })
            .block_size(rng.pick(&[512, 600, 1024]));
        let a = w.family("a", family.clone());
        let b = w.family("b", family.filter(FilterPolicy::Auto { bits_per_key: 8 }));
        let text = |n: u64| format!("value {n} value {n} value {n} value {n}").into_bytes();
        for n in 0..rng.within(14, 26) {
            let value = if rng.chance(20) { noise(n, 50) } else { text(n) };
            w.write(&[(&a, &format!("key{n:04}"), Some(value))], Durability::Buffered);
        }
        w.db.flush().unwrap();
        remember(&fs);
        a.compact().unwrap();
        remember(&fs);
        for n in 0..5 {
            w.write(&[(&a, &format!("key{:04}", n * 2), None)], Durability::Buffered);
            let value = noise(n, 60);
            w.write(&[(&b, &format!("b{n}"), Some(value))], Durability::Buffered);
        }
        a.delete_range::<&str>((Bound::Included("key0009"), Bound::Excluded("key0012"))).unwrap();
        w.now.get_mut("a").unwrap().retain(|k, _| !(&b"key0009"[..]..&b"key0012"[..]).contains(&k.as_slice()));
        w.states.push(w.now.clone());
        w.db.flush().unwrap();
        remember(&fs);
        let ingested: Vec<(String, Vec<u8>)> = (0..4).map(|n| (format!("i{n}"), text(n))).collect();
        b.ingest(ingested.iter().map(|(k, v)| (k, v))).unwrap();
        w.now.get_mut("b").unwrap().extend(ingested.into_iter().map(|(k, v)| (k.into_bytes(), v)));
        w.states.push(w.now.clone());
        w.write(&[(&b, "b1", Some(text(7))), (&a, "key0001", None)], Durability::Buffered);
        b.flush().unwrap();
        remember(&fs);
        // What stays in the log. Here and there a write is synced, so that later records promise.
        let long = if rng.chance(25) { 7000 } else { 0 };
        for n in 0..7 {
            let durability = if rng.chance(25) { Durability::Sync } else { Durability::Buffered };
            let value = noise(100 + n, 20 + (n % 3) as u32 * (20 + long));
            w.write(&[(&a, &format!("log{n}"), Some(value)), (&b, "last", Some(text(n)))], durability);
            if n == 3 {
                w.write(&[(&a, "log1", None)], Durability::Buffered);
                remember(&fs);
            }
        }
        drop((a, b));
        let Writer { db, states, synced, .. } = w;
        let fs = if sealed {
            db.close().unwrap();
            (*fs).clone()
        } else {
            // As the death of the process leaves it.
            let left = fs.crash(CrashPolicy::ALL[crate::disk::PROCESS_DEATH as usize], seed);
            drop(db);
            left
        };
        let found = files(&fs, &setup.dir);
        remember(&fs);
        for versions in older.values_mut() {
            versions.pop();
        }
        older.retain(|name, versions| found.contains_key(name) && !versions.is_empty());
        let mut sample = Sample::from_files(setup, sealed, found, states);
        sample.older = older;
        synced.into_iter().for_each(|state| sample.assert_promised(state));
        sample
    }

    /// Every record behind one that was acknowledged as durable says so, or damage could pass for a torn
    /// tail (G20). `state` is what the acknowledged write led to.
    fn assert_promised(&self, state: usize) {
        let leads_to = |n: usize| self.states.len() - 1 - self.log[n + 1..].iter().filter(|r| r.changes).count();
        let Some(n) = (0..self.log.len()).find(|&n| self.log[n].changes && leads_to(n) == state) else { return };
        let durable = LogPosition { segment: self.log[n].at.segment, offset: self.log[n].end };
        for later in self.log[n + 1..].iter().filter(|r| r.changes) {
            assert!(
                later.synced >= durable,
                "the record at {} says that the log was durable up to {}, but {durable} was acknowledged before it",
                later.at,
                later.synced
            );
        }
    }

    /// A sample of these files, which are sound.
    pub fn from_files(setup: Setup, sealed: bool, files: Files, states: Vec<Content>) -> Sample {
        let fs = Arc::new(MemFs::new());
        let setup = setup.on(fs.clone());
        let handles = put_files(&*fs, &setup.dir, &files);
        let (log, hint, live) = read_promises(&fs, &setup.dir, &files);
        let older = BTreeMap::new();
        let mut sample = Sample { setup, sealed, files, older, states, log, hint, live, fs, handles, peak: 0 };
        let (verdict, usage) = crate::alloc::measure(|| sample.judge_read_only("the sound database"));
        sample.peak = usage.peak_bytes;
        sample.check(&verdict, "the sound database", &[], Allowed::DetectedOrHarmless);
        let problems =
            matches!(&verdict, Verdict::Opened { problems, errors, .. } if problems.is_empty() && errors.is_empty());
        assert!(problems, "the sound database is not sound: {verdict:?}");
        sample
    }

    /// Bytes of all files.
    pub fn len(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// True if there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names of the files that count: all but the lock and the reserve.
    pub fn names(&self) -> Vec<String> {
        self.files.keys().filter(|n| *n != "LOCK" && *n != "RESERVE").cloned().collect()
    }

    /// What the database holds.
    pub fn content(&self) -> &Content {
        self.states.last().unwrap()
    }

    /// The file system with the files, for changes that [`Sample::put`] cannot make.
    pub fn fs(&self) -> &Arc<MemFs> {
        &self.fs
    }

    /// Overwrites bytes of a file in place.
    pub fn poke(&self, name: &str, offset: u64, bytes: &[u8]) {
        self.handles[name].write_all_at(bytes, offset).unwrap();
    }

    /// Gives a file another content.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let file = &self.handles[name];
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    /// Puts a file back.
    pub fn restore(&self, name: &str) {
        self.put(name, &self.files[name]);
    }

    /// Removes every file, and puts all of them back.
    pub fn restore_all(&mut self) {
        for name in self.fs.list(&self.setup.dir).unwrap() {
            let path = self.setup.dir.join(&name);
            let _ = self.fs.remove_file(&path);
            let _ = self.fs.remove_dir(&path);
        }
        self.handles = put_files(&*self.fs, &self.setup.dir, &self.files);
    }

    /// What a change of the bytes `from..to` of a file makes right. The change is a change: the bytes
    /// are not what they were.
    pub fn allowed(&self, name: &str, from: u64, to: u64) -> Allowed {
        if name == "LOCK" || name == "RESERVE" || (name.ends_with(".sst") && !self.live.contains(name)) {
            return Allowed::DetectedOrHarmless;
        }
        if self.sealed {
            return Allowed::Detected;
        }
        if let Some(FileName::Wal(number)) = FileName::parse(name) {
            return self.allowed_in_log(&[(number, from, to)]);
        }
        if name.starts_with("MANIFEST") {
            // Its last edit may be torn. What that edit did is in the log too, or a file is missing.
            return Allowed::DetectedOrHarmless;
        }
        Allowed::Detected
    }

    /// The torn-tail rule of DESIGN 12, told once more: what changes of bytes of the log's segments make
    /// right, each given as segment, from, and to.
    pub fn allowed_in_log(&self, changes: &[(u64, u64, u64)]) -> Allowed {
        let hit = |r: &LogRecord| {
            changes.iter().any(|&(number, from, to)| {
                r.at.segment == number && ((r.at.offset < to && from < r.end) || from < FIRST_RECORD)
            })
        };
        let Some(first) = self.log.iter().position(hit) else {
            // Headers of a segment without records, or bytes behind the log's end.
            return Allowed::DetectedOrHarmless;
        };
        let segment = self.log[first].at.segment;
        let in_header = changes.iter().any(|&(number, from, _)| number == segment && from < FIRST_RECORD);
        let x = if in_header { LogPosition { segment, offset: 0 } } else { self.log[first].at };
        // Of which records the promises can still be read: those that are whole, in segments of which one
        // copy of the header is.
        let readable = |r: &&LogRecord| {
            let touched = changes.iter().any(|&(number, from, to)| {
                let second = (HEADER_LEN + wal::SEGMENT_HEADER_LEN) as u64;
                let both = from < second && to > second;
                r.at.segment == number && (both || (r.at.offset < to && from < r.end))
            });
            !touched
        };
        let promised = self.log[first..].iter().filter(readable).map(|r| r.synced).max().unwrap_or_default();
        if promised.max(self.hint) > x { Allowed::Detected } else { Allowed::Torn(self.state_before(first)) }
    }

    /// What it makes right that a segment of the log is gone.
    pub fn allowed_without_segment(&self, gone: u64) -> Allowed {
        let Some(first) = self.log.iter().position(|r| r.at.segment == gone) else {
            return Allowed::DetectedOrHarmless;
        };
        let x = match self.log[..first].last() {
            Some(before) => LogPosition { segment: before.at.segment, offset: before.end },
            None => LogPosition { segment: gone, offset: 0 },
        };
        let promised = self.log[first..].iter().filter(|r| r.at.segment != gone).map(|r| r.synced).max();
        if promised.unwrap_or_default().max(self.hint) > x {
            Allowed::Detected
        } else {
            Allowed::Cut(self.state_before(first))
        }
    }

    /// The state that the log's records before number `first` lead to.
    fn state_before(&self, first: usize) -> usize {
        self.states.len() - 1 - self.log[first..].iter().filter(|r| r.changes).count()
    }

    /// Opens it read-only, reads all there is in every way, and checks it.
    pub fn judge_read_only(&self, story: &str) -> Verdict {
        match self.setup.builder().open_read_only(&self.setup.dir) {
            Ok(db) => self.judge_open(&db, story, true),
            Err(e) => Verdict::Refused(e),
        }
    }

    /// As [`Sample::judge_read_only`], with a limit on memory: nothing that a damaged length says may
    /// cost more than twice what the sound database costs, and some.
    pub fn judge_within_limits(&self, story: &str) -> Verdict {
        let (verdict, usage) = crate::alloc::measure(|| self.judge_read_only(story));
        let limit = self.peak * 2 + (1 << 20);
        assert!(usage.peak_bytes < limit, "{story}: {} bytes at once, the limit is {limit}", usage.peak_bytes);
        verdict
    }

    /// Opens a copy of it for writing, reads all, and, if `work`, compacts and reads all once more. If
    /// the open fails, nothing has changed (G22).
    pub fn judge_writing(&self, story: &str, work: bool) -> Verdict {
        let before = files(&*self.fs, &self.setup.dir);
        let fs = Arc::new(self.fs.deep_clone());
        let db = match self.setup.on(fs.clone()).open() {
            Ok(db) => db,
            Err(e) => {
                let mut left = files(&*fs, &self.setup.dir);
                if !before.contains_key("LOCK") {
                    left.remove("LOCK"); // Made to be locked; it stays empty.
                }
                assert!(left == before, "{story}: an open that failed with {e} changed the directory");
                return Verdict::Refused(e);
            }
        };
        let verdict = self.judge_open(&db, story, true);
        if work {
            let Verdict::Opened { state, .. } = &verdict else { return verdict };
            // Compaction meets the damage: it fails, or it writes what is true.
            let mut first = None;
            for name in self.states[*state].keys() {
                first = first.or(db.column_family(name).and_then(|f| f.compact()).err());
            }
            if let Some(e) = first {
                assert!(
                    matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported),
                    "{story}: a compaction failed with {e:?}"
                );
            }
            self.judge_open(&db, &format!("{story}, after a compaction"), false);
        }
        verdict
    }

    /// Reads everything there is in every way. Panics at a lie.
    fn judge_open(&self, db: &Db, story: &str, check: bool) -> Verdict {
        let Some(state) = self.state_shown(db) else {
            panic!("{story}: what can be read is no state of the history");
        };
        let expected = &self.states[state];
        let names: BTreeSet<String> = db.column_family_names().into_iter().collect();
        assert!(names.iter().eq(expected.keys()), "{story}: the families are {names:?}");
        let mut errors = Vec::new();
        let mut unreadable = Vec::new();
        for (name, records) in expected {
            let family = db.column_family(name).unwrap();
            read_family(&family, records, story, &mut errors, &mut unreadable);
        }
        let (problems, torn) = match check.then(|| db.check(true, &mut |_| {})) {
            Some(Ok(report)) => (report.problems, report.torn_tail_bytes),
            Some(Err(e)) => panic!("{story}: check fails with {e:?}"),
            None => (Vec::new(), 0),
        };
        Verdict::Opened { problems, errors, unreadable, torn, state }
    }

    /// Which state the readable part of the database can be: the newest one that agrees with all that
    /// can be scanned. Reads of single keys are held against it later.
    fn state_shown(&self, db: &Db) -> Option<usize> {
        let mut seen: Vec<(String, Vec<(Vec<u8>, Vec<u8>)>, bool)> = Vec::new();
        for name in db.column_family_names() {
            let Ok(family) = db.column_family(&name) else { continue };
            let mut pairs = Vec::new();
            let mut whole = true;
            for entry in family.iter() {
                match entry.and_then(|e| Ok((e.key().to_vec(), e.value()?.to_vec()))) {
                    Ok(pair) => pairs.push(pair),
                    Err(_) => whole = false,
                }
            }
            seen.push((name, pairs, whole));
        }
        (0..self.states.len()).rev().find(|&i| {
            self.states[i].len() == seen.len()
                && seen.iter().all(|(name, pairs, whole)| {
                    self.states[i].get(name).is_some_and(|records| {
                        let agree = pairs.iter().map(|(k, v)| (k, v)).eq(records.iter().take(pairs.len()));
                        agree && (!whole || pairs.len() == records.len())
                    })
                })
        })
    }

    /// Holds a verdict against what the damage of the files `blamed` makes right. True if the damage was
    /// detected, false if it did no harm.
    pub fn check(&self, verdict: &Verdict, story: &str, blamed: &[&str], allowed: Allowed) -> bool {
        let last = self.states.len() - 1;
        let is_blamed = |file: Option<&Path>| {
            let name = file.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
            blamed.contains(&ANY) || name.is_some_and(|name| blamed.contains(&name.as_str()))
        };
        match verdict {
            Verdict::Refused(e) => {
                assert!(
                    !matches!(allowed, Allowed::Torn(_) | Allowed::Cut(_)),
                    "{story}: a torn tail was refused: {e:?}"
                );
                assert!(
                    matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported | ErrorKind::NotFound),
                    "{story}: the open failed with {e:?}"
                );
                assert!(is_blamed(e.file()), "{story}: the open blames another file: {e:?}");
                true
            }
            Verdict::Opened { problems, errors, unreadable, torn, state } => {
                let found = !problems.is_empty();
                for p in problems {
                    assert!(is_blamed(Some(&p.file)), "{story}: check blames another file: {p:?}");
                }
                for e in errors {
                    assert!(
                        e.is_corruption() || e.kind() == ErrorKind::Unsupported,
                        "{story}: a read failed with {e:?}"
                    );
                    assert!(is_blamed(e.file()), "{story}: a read blames another file: {e:?}");
                    assert!(e.offset().is_some() || e.message().contains("bytes"), "{story}: no offset: {e:?}");
                }
                assert!(errors.is_empty() || found, "{story}: reads fail, but check finds nothing: {errors:?}");
                for (family, key) in unreadable {
                    let covered = problems.iter().any(|p| p.column_family.as_deref() == Some(family) && covers(p, key));
                    assert!(covered, "{story}: {family} {} fails, far from {problems:?}", key.escape_ascii());
                }
                match allowed {
                    Allowed::Detected => {
                        assert!(found, "{story}: nobody noticed");
                        assert_eq!(*state, last, "{story}: an older state is shown");
                    }
                    Allowed::DetectedOrHarmless => assert_eq!(*state, last, "{story}: an older state is shown"),
                    Allowed::Torn(n) | Allowed::Cut(n) => {
                        assert!(!found, "{story}: a torn tail is no problem: {problems:?}");
                        // States may be equal; then the newest one was taken.
                        assert!(self.states[*state] == self.states[n], "{story}: state {state} is shown, not {n}");
                        assert!(
                            *torn > 0 || matches!(allowed, Allowed::Cut(_)),
                            "{story}: nothing says that bytes were dropped"
                        );
                    }
                    Allowed::DetectedOrFrom(n) => {
                        assert!(*state >= n, "{story}: state {state} is shown, {n} or later is due")
                    }
                }
                found
            }
        }
    }
}

fn noise(seed: u64, len: u32) -> Vec<u8> {
    Value { seed: seed as u32, len }.bytes()
}

/// True if the key lies where the problem says that keys may be affected.
fn covers(problem: &Problem, key: &[u8]) -> bool {
    match (&problem.first_key, &problem.last_key) {
        (Some(first), Some(last)) => (first.as_slice()..=last.as_slice()).contains(&key),
        (Some(first), None) => first.as_slice() <= key,
        _ => true,
    }
}

/// Scans from both ends and asks for every key, and for some that are not there.
fn read_family(
    family: &ColumnFamily,
    records: &Records,
    story: &str,
    errors: &mut Vec<Error>,
    unreadable: &mut Vec<(String, Vec<u8>)>,
) {
    let name = family.name().to_string();
    for backwards in [false, true] {
        let mut iter = family.iter();
        let mut expected: Box<dyn Iterator<Item = (&Vec<u8>, &Vec<u8>)>> =
            if backwards { Box::new(records.iter().rev()) } else { Box::new(records.iter()) };
        loop {
            let next = if backwards { iter.next_back() } else { iter.next() };
            let entry = match next {
                None => {
                    let missing = expected.next().map(|(k, _)| k.escape_ascii().to_string());
                    assert!(missing.is_none(), "{story}: a scan of {name} ends normally before {missing:?}");
                    break;
                }
                Some(entry) => entry.and_then(|e| Ok((e.key().to_vec(), e.value()?.to_vec()))),
            };
            match entry {
                Ok((key, value)) => {
                    let right = expected.next();
                    assert!(
                        right == Some((&key, &value)),
                        "{story}: a scan of {name} gives {} with {} bytes",
                        key.escape_ascii(),
                        value.len()
                    );
                }
                Err(e) => {
                    errors.push(e);
                    let after = if backwards { iter.next_back() } else { iter.next() };
                    assert!(!matches!(after, Some(Ok(_))), "{story}: a scan of {name} goes on after an error");
                    break;
                }
            }
        }
    }
    for (key, value) in records {
        match family.get(key) {
            Ok(found) => assert!(
                found.as_deref() == Some(value.as_slice()),
                "{story}: {name} {} is {:?}",
                key.escape_ascii(),
                found.map(|v| v.len())
            ),
            Err(e) => {
                errors.push(e);
                unreadable.push((name.clone(), key.clone()));
            }
        }
    }
    for key in ["", "key0000", "key0005x", "log1", "zz", "b", "i9"].map(str::as_bytes) {
        if records.contains_key(key) || key.is_empty() {
            continue;
        }
        match family.get(key) {
            Ok(found) => assert!(found.is_none(), "{story}: {name} has {}", key.escape_ascii()),
            Err(e) => {
                errors.push(e);
                unreadable.push((name.clone(), key.to_vec()));
            }
        }
    }
}

/// The records of the log that count, how far the manifest says that it is durable, and the tables that
/// manifest and log name.
fn read_promises(fs: &MemFs, dir: &Path, files: &Files) -> (Vec<LogRecord>, LogPosition, BTreeSet<String>) {
    let mut log = Vec::new();
    let mut hint = LogPosition::START;
    let mut live = BTreeSet::new();
    let current = Current::decode(&files["CURRENT"]).unwrap();
    let mut visit = |item: &ScanItem<'_>| {
        if let ScanItem::Record { payload, .. } = item {
            let edit = VersionEdit::decode(payload)?;
            hint = hint.max(edit.log_synced.unwrap_or_default());
            // Deleted first: a table that moves is deleted and added under one number.
            for (_, _, number) in &edit.deleted {
                live.remove(&FileName::Table(*number).to_string());
            }
            live.extend(edit.added.iter().map(|(_, _, meta)| FileName::Table(meta.number).to_string()));
        }
        Ok(())
    };
    manifest::scan_file(fs, &FileName::Manifest(current.manifest).path(dir), &mut visit).unwrap();
    for name in files.keys() {
        let Some(FileName::Wal(segment)) = FileName::parse(name) else { continue };
        let mut visit = |item: &ScanItem<'_>| {
            if let ScanItem::Record { offset, header, payload } = item {
                let at = LogPosition { segment, offset: *offset };
                let changes = header.kind != RecordKind::End;
                log.push(LogRecord { at, end: offset + record_len(payload.len()), synced: header.synced, changes });
                if header.kind == RecordKind::Ingest {
                    let edit = VersionEdit::decode(payload)?;
                    live.extend(edit.added.iter().map(|(_, _, meta)| FileName::Table(meta.number).to_string()));
                }
            }
            Ok(())
        };
        wal::scan_file(fs, &dir.join(name), &mut visit).unwrap();
    }
    (log, hint, live)
}
