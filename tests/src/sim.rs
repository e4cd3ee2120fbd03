//! Runs histories on a database over any file system, against the oracle.
//!
//! With no background threads a run is a function of its history and seed: every job runs on the
//! thread that needs it, and time stands still.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lignite::internals::clock::{Clock, ManualClock, SystemClock};
use lignite::internals::fs::Fs;
use lignite::{
    Builder, CfOptions, Codec, ColumnFamily, Compression, Db, Durability, FilterPolicy, Iter, Options, Reader,
    Snapshot, WriteBatch,
};

use crate::checks;
use crate::model::{self, Change, Content, Model, ModelSnapshot, Records};
use crate::ops::{FAMILIES, ITERATORS, Op, SNAPSHOTS, Write};
use crate::rng::Rng;

/// Where and how a database is opened.
#[derive(Clone)]
pub struct Setup {
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// The directory of the database.
    pub dir: PathBuf,
    /// Where salts and, after a reopen, options come from.
    pub seed: u64,
    /// Background threads; 0 makes the run deterministic.
    pub threads: usize,
    /// How it is opened.
    pub options: Options,
}

impl Setup {
    /// A deterministic database in the directory `/db`, with options made from the seed.
    pub fn new(fs: Arc<dyn Fs>, seed: u64) -> Setup {
        Setup { fs, dir: PathBuf::from("/db"), seed, threads: 0, options: options(seed, 0) }
    }

    /// The same with real background threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Setup {
        Setup { threads, options: options(self.seed, threads), ..self }
    }

    /// The same on another file system.
    #[must_use]
    pub fn on(&self, fs: Arc<dyn Fs>) -> Setup {
        Setup { fs, ..self.clone() }
    }

    /// What opens it.
    pub fn builder(&self) -> Builder {
        let clock: Arc<dyn Clock> =
            if self.threads == 0 { Arc::new(ManualClock::new()) } else { Arc::new(SystemClock::new()) };
        Builder::new(self.options.clone()).fs(self.fs.clone()).clock(clock).seed(self.seed)
    }

    /// Opens it.
    pub fn open(&self) -> lignite::Result<Db> {
        self.builder().open(&self.dir)
    }
}

/// Database options made from a seed: small, so that little data makes much happen.
pub fn options(seed: u64, threads: usize) -> Options {
    let mut rng = Rng::new(seed);
    let segment = rng.pick(&[16 << 10, 32 << 10, 256 << 10]);
    Options::new()
        .background_threads(threads)
        .decode_threads(if threads == 0 { 0 } else { 1 })
        .sync_interval(if threads == 0 { Duration::ZERO } else { Duration::from_millis(50) })
        .memory_budget(rng.pick(&[1 << 20, 4 << 20, 64 << 20]))
        .memtable_size(rng.pick(&[16 << 10, 24 << 10, 64 << 10, 1 << 20]))
        .log_segment_size(segment)
        .log_size_max(segment * rng.within(1, 8))
        .open_tables_max(rng.pick(&[16, 20, 1000]))
}

/// Family options made from a seed.
pub fn cf_options(seed: u64) -> CfOptions {
    let mut rng = Rng::new(seed ^ 0xcf);
    let filter = match rng.below(3) {
        0 => FilterPolicy::None,
        1 => FilterPolicy::Auto { bits_per_key: rng.within(4, 16) as u8 },
        _ => FilterPolicy::Bloom { bits_per_key: rng.within(4, 16) as u8 },
    };
    let mut compression = Compression::default()
        .young(random_codec(&mut rng))
        .deep(random_codec(&mut rng))
        .bottom(random_codec(&mut rng))
        .min_saving(rng.pick(&[0, 16, 64, 255]));
    if rng.chance(30) {
        compression = compression.keys(random_codec(&mut rng));
    }
    CfOptions::new()
        .compression(compression)
        .filter(filter)
        .block_size(rng.pick(&[512, 1024, 4096, 16 << 10]))
        .table_size(rng.pick(&[4 << 10, 8 << 10, 64 << 10, 1 << 20]))
        .level0_trigger(rng.within(1, 6) as usize)
        .base_level_size(rng.pick(&[4 << 10, 16 << 10, 256 << 10]))
        .fan_out(rng.pick(&[2, 3, 10]))
        .tombstone_percent(rng.pick(&[0, 10, 50, 100]))
}

fn random_codec(rng: &mut Rng) -> Codec {
    match rng.below(6) {
        0 => Codec::None,
        1 | 2 => Codec::Lz4,
        3 => Codec::Snappy,
        4 => Codec::Zstd { level: rng.pick(&[-3, 1, 3]) },
        _ => Codec::Brotli { quality: rng.within(0, 4) as u8 },
    }
}

/// Everything in a database.
pub fn content(db: &Db) -> lignite::Result<Content> {
    let mut out = Content::new();
    for name in db.column_family_names() {
        let family = db.column_family(&name)?;
        let mut records = Records::new();
        for entry in family.iter() {
            let entry = entry?;
            records.insert(entry.key().to_vec(), entry.value()?.to_vec());
        }
        out.insert(name, records);
    }
    Ok(out)
}

/// Every file of a directory, by name.
pub fn files(fs: &dyn Fs, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = fs.list(dir).unwrap();
    names.sort();
    names
        .into_iter()
        .filter(|n| fs.metadata(&dir.join(n)).is_ok_and(|m| m.is_file))
        .map(|n| {
            let file = fs.open(&dir.join(&n)).unwrap();
            let bytes = lignite::internals::fs::read_all(&*file, 1 << 32).unwrap();
            (n, bytes)
        })
        .collect()
}

/// Makes a directory with these files, all durable; gives handles that can write to them.
pub fn put_files(
    fs: &dyn Fs,
    dir: &Path,
    files: &BTreeMap<String, Vec<u8>>,
) -> BTreeMap<String, Arc<dyn lignite::internals::fs::File>> {
    fs.create_dir_all(dir).unwrap();
    let mut handles = BTreeMap::new();
    for (name, bytes) in files {
        let path = dir.join(name);
        let _ = fs.remove_file(&path);
        let file = fs.create_new(&path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        handles.insert(name.clone(), file);
    }
    fs.sync_dir(dir).unwrap();
    handles
}

/// Why a step failed.
#[derive(Debug)]
pub enum Failure {
    /// The engine returned an error.
    Engine(lignite::Error),
    /// The engine did something else than the oracle says.
    Wrong(String),
}

impl From<lignite::Error> for Failure {
    fn from(error: lignite::Error) -> Failure {
        Failure::Engine(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) => write!(f, "the engine failed: {error:?}"),
            Failure::Wrong(what) => f.write_str(what),
        }
    }
}

type Step = Result<(), Failure>;
type Pair = (Vec<u8>, Vec<u8>);

/// The oracle with the slots of a history.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the database must contain.
    pub model: Model,
    /// The model's family in each slot.
    pub slots: [Option<u32>; FAMILIES as usize],
}

impl Default for Expected {
    fn default() -> Expected {
        let model = Model::new();
        let mut slots = [None; FAMILIES as usize];
        slots[0] = model.id("default");
        Expected { model, slots }
    }
}

impl Expected {
    /// Does what the operation must do.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(slot, write, _) => self.write(*slot, &write.change()),
            Op::Batch(writes, _) => {
                for (slot, write) in writes {
                    self.write(*slot, &write.change());
                }
            }
            Op::Ingest(slot, records) => {
                for (key, value) in records {
                    self.write(*slot, &Change::Put(key.clone(), value.bytes()));
                }
            }
            Op::Create(slot, seed) => {
                let name = created_name(*slot, *seed);
                if self.slots[*slot as usize].is_none() && self.model.id(&name).is_none() {
                    self.slots[*slot as usize] = Some(self.model.create(&name));
                }
            }
            Op::Drop(slot) if *slot > 0 => {
                if let Some(id) = self.slots[*slot as usize].take() {
                    self.model.remove(id);
                }
            }
            Op::Rename(slot, n) if *slot > 0 => {
                let name = renamed_name(*n);
                if let Some(id) = self.slots[*slot as usize]
                    && self.model.id(&name).is_none()
                {
                    self.model.rename(id, &name);
                }
            }
            _ => {}
        }
    }

    /// True if the operation changes what the database contains or names.
    pub fn changes(op: &Op) -> bool {
        matches!(op, Op::Write(..) | Op::Batch(..) | Op::Ingest(..) | Op::Create(..) | Op::Drop(..) | Op::Rename(..))
    }

    fn write(&mut self, slot: u8, change: &Change) {
        if let Some(id) = self.slots[slot as usize] {
            self.model.apply(id, change);
        }
    }
}

fn created_name(slot: u8, seed: u64) -> String {
    format!("family-{slot}-{}", seed % 1000)
}

fn renamed_name(n: u64) -> String {
    format!("renamed {n} é")
}

/// A database under test and its oracle.
pub struct Machine {
    /// How it is opened next.
    pub setup: Setup,
    /// What it must contain.
    pub expected: Expected,
    db: Option<Db>,
    families: [Option<ColumnFamily>; FAMILIES as usize],
    snapshots: [Option<(Snapshot, ModelSnapshot)>; SNAPSHOTS as usize],
    iterators: [Option<(Iter, VecDeque<Pair>)>; ITERATORS as usize],
    copies: u32,
}

impl Machine {
    /// Opens a fresh database.
    pub fn new(setup: Setup) -> Result<Machine, Failure> {
        let mut machine = Machine {
            setup,
            expected: Expected::default(),
            db: None,
            families: Default::default(),
            snapshots: Default::default(),
            iterators: Default::default(),
            copies: 0,
        };
        machine.open()?;
        Ok(machine)
    }

    /// The open database.
    pub fn db(&self) -> &Db {
        self.db.as_ref().expect("a machine is without a database only inside a reopen")
    }

    /// The family in a slot.
    pub fn family(&self, slot: u8) -> Option<&ColumnFamily> {
        self.families[slot as usize].as_ref()
    }

    /// Lets everything go without closing.
    pub fn abandon(&mut self) {
        self.release();
        self.db = None;
    }

    /// Compares the whole content with the oracle.
    pub fn compare(&self) -> Step {
        let found = content(self.db())?;
        match model::difference(&self.expected.model.content(), &found) {
            Some(difference) => Err(Failure::Wrong(difference)),
            None => Ok(()),
        }
    }

    /// Does one operation and compares what it returns.
    pub fn step(&mut self, op: &Op) -> Step {
        let done = self.run(op);
        if done.is_ok() {
            self.expected.apply(op);
        }
        if done.is_ok() && matches!(op, Op::Reopen(..)) {
            self.compare()?;
        }
        done
    }

    fn run(&mut self, op: &Op) -> Step {
        match op {
            Op::Write(slot, write, sync) => {
                let Some(family) = self.family(*slot) else { return Ok(()) };
                let how = durability(*sync);
                match write {
                    Write::Put(key, value) if *sync => drop(family.put_with(key, value.bytes(), how)?),
                    Write::Put(key, value) => drop(family.put(key, value.bytes())?),
                    Write::Delete(key) if !*sync => drop(family.delete(key)?),
                    Write::DeleteRange(range) if !*sync => drop(family.delete_range(range.clone())?),
                    _ => {
                        let mut batch = self.db().batch();
                        add(&mut batch, family, write);
                        self.db().write_with(batch, how)?;
                    }
                }
                Ok(())
            }
            Op::Batch(writes, sync) => {
                let mut batch = self.db().batch();
                for (slot, write) in writes {
                    if let Some(family) = self.family(*slot) {
                        add(&mut batch, family, write);
                    }
                }
                self.db().write_with(batch, durability(*sync))?;
                Ok(())
            }
            Op::Sync => Ok(self.db().sync()?),
            Op::Get(slot, at, key) => self.get(*slot, *at, key),
            Op::MultiGet(slot, at, keys) => self.multi_get(*slot, *at, keys),
            Op::Scan(slot, at, range, back) => self.scan(*slot, *at, range, *back),
            Op::Prefix(slot, at, prefix) => self.prefix(*slot, *at, prefix),
            Op::Walk(slot, key, steps) => self.walk(*slot, key, steps),
            Op::IterOpen(slot, family, range) => {
                let Some((handle, records)) = self.pair(*family, None) else { return Ok(()) };
                let expected = model::within(records, range).map(|(k, v)| (k.clone(), v.clone())).collect();
                let iterator = handle.range(range.clone());
                self.iterators[*slot as usize] = Some((iterator, expected));
                Ok(())
            }
            Op::IterStep(slot, n, back) => {
                let Some((iterator, expected)) = &mut self.iterators[*slot as usize] else { return Ok(()) };
                for _ in 0..*n {
                    let found = if *back { iterator.next_back() } else { iterator.next() };
                    let found = found.transpose()?;
                    let want = if *back { expected.pop_back() } else { expected.pop_front() };
                    let found = match &found {
                        Some(entry) => Some((entry.key().to_vec(), entry.value()?.to_vec())),
                        None => None,
                    };
                    same("an open iterator", &want, &found)?;
                }
                Ok(())
            }
            Op::IterDrop(slot) => {
                self.iterators[*slot as usize] = None;
                Ok(())
            }
            Op::SnapshotTake(slot) => {
                let taken = (self.db().snapshot(), self.expected.model.snapshot());
                self.snapshots[*slot as usize] = Some(taken);
                Ok(())
            }
            Op::SnapshotDrop(slot) => {
                self.snapshots[*slot as usize] = None;
                Ok(())
            }
            Op::Flush(slot) => match self.family(*slot) {
                Some(family) => Ok(family.flush()?),
                None => Ok(()),
            },
            Op::Compact(slot, range) => match self.family(*slot) {
                Some(family) => Ok(family.compact_range(range.clone())?),
                None => Ok(()),
            },
            Op::CompactAll => Ok(self.db().compact()?),
            Op::Reopen(seed, dropped) => {
                self.release();
                let db = self.db.take().expect("it was open");
                if *dropped {
                    drop(db);
                } else {
                    db.close()?;
                }
                self.setup.seed = *seed;
                self.setup.options = options(*seed, self.setup.threads);
                self.open()
            }
            Op::Checkpoint => self.checkpoint(),
            Op::Create(slot, seed) => {
                let name = created_name(*slot, *seed);
                if self.family(*slot).is_none() && self.expected.model.id(&name).is_none() {
                    let family = self.db().create_column_family(&name, cf_options(*seed))?;
                    self.families[*slot as usize] = Some(family);
                }
                Ok(())
            }
            Op::Drop(slot) => {
                let id = self.expected.slots[*slot as usize];
                if let (Some(id), 1..) = (id, *slot) {
                    let name = self.expected.model.name(id).unwrap_or_default().to_string();
                    self.db().drop_column_family(&name)?;
                    self.families[*slot as usize] = None;
                }
                Ok(())
            }
            Op::Rename(slot, n) => {
                let new = renamed_name(*n);
                let id = self.expected.slots[*slot as usize];
                if let (Some(id), 1.., None) = (id, *slot, self.expected.model.id(&new)) {
                    let old = self.expected.model.name(id).unwrap_or_default().to_string();
                    self.db().rename_column_family(&old, &new)?;
                    let now = self.family(*slot).map(ColumnFamily::name);
                    same("the name of a renamed family", &Some(new), &now)?;
                }
                Ok(())
            }
            Op::Ingest(slot, records) => match self.family(*slot) {
                Some(family) => {
                    let report = family.ingest(records.iter().map(|(k, v)| (k.clone(), v.bytes())))?;
                    same("the number of ingested records", &(records.len() as u64), &report.records)
                }
                None => Ok(()),
            },
            Op::SetOptions(slot, seed) => {
                if let Some(family) = self.family(*slot) {
                    self.db().set_options(&family.name(), cf_options(*seed))?;
                    same("the options of a family", &cf_options(*seed), &family.options())?;
                }
                Ok(())
            }
            Op::Check => checks::database(self.db(), &*self.setup.fs).map_err(Failure::Wrong),
        }
    }

    fn open(&mut self) -> Step {
        self.db = Some(self.setup.open()?);
        self.take_families()
    }

    /// Fills the slots with the families that the oracle has in them.
    pub fn take_families(&mut self) -> Step {
        for (slot, id) in self.expected.slots.iter().enumerate() {
            self.families[slot] = match id.and_then(|id| self.expected.model.name(id)) {
                Some(name) => Some(self.db().column_family(name)?),
                None => None,
            };
        }
        Ok(())
    }

    fn release(&mut self) {
        self.iterators = Default::default();
        self.snapshots = Default::default();
        self.families = Default::default();
    }

    /// A family and its records, now or in a snapshot.
    fn pair(&self, slot: u8, at: Option<u8>) -> Option<(&ColumnFamily, &Records)> {
        let id = self.expected.slots[slot as usize]?;
        let records = match at {
            None => self.expected.model.records(id),
            Some(at) => self.snapshots[at as usize].as_ref()?.1.records(id),
        };
        Some((self.family(slot)?, records))
    }

    fn snapshot(&self, at: u8) -> &Snapshot {
        &self.snapshots[at as usize].as_ref().expect("its records were found").0
    }

    fn get(&self, slot: u8, at: Option<u8>, key: &[u8]) -> Step {
        let Some((family, records)) = self.pair(slot, at) else { return Ok(()) };
        let want = records.get(key).cloned();
        let found = match at {
            None => family.get(key)?.map(|v| v.to_vec()),
            Some(at) => self.snapshot(at).get(family, key)?.map(|v| v.to_vec()),
        };
        same(&format!("get {}", key.escape_ascii()), &want, &found)?;
        if at.is_none() {
            same("contains_key", &want.is_some(), &family.contains_key(key)?)?;
            same("get_with", &want.map(|v| v.len()), &family.get_with(key, <[u8]>::len)?)?;
        }
        Ok(())
    }

    fn multi_get(&self, slot: u8, at: Option<u8>, keys: &[Vec<u8>]) -> Step {
        let Some((family, records)) = self.pair(slot, at) else { return Ok(()) };
        let found = match at {
            None => family.multi_get(keys)?,
            Some(at) => self.snapshot(at).multi_get(family, keys)?,
        };
        same("the number of answers", &keys.len(), &found.len())?;
        for (key, found) in keys.iter().zip(found) {
            same(&format!("multi_get {}", key.escape_ascii()), &records.get(key).cloned(), &found.map(|v| v.to_vec()))?;
        }
        Ok(())
    }

    fn scan(&self, slot: u8, at: Option<u8>, range: &model::Range, back: bool) -> Step {
        let Some((family, records)) = self.pair(slot, at) else { return Ok(()) };
        let iterator = match at {
            None => family.range(range.clone()),
            Some(at) => self.snapshot(at).range(family, range.clone()),
        };
        let want: Vec<Pair> = model::within(records, range).map(|(k, v)| (k.clone(), v.clone())).collect();
        compare_scan(iterator, want, back)
    }

    fn prefix(&self, slot: u8, at: Option<u8>, prefix: &[u8]) -> Step {
        let Some((family, records)) = self.pair(slot, at) else { return Ok(()) };
        let iterator = match at {
            None => family.prefix(prefix),
            Some(at) => self.snapshot(at).prefix(family, prefix),
        };
        let want = records.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect();
        compare_scan(iterator, want, prefix.len() % 2 == 1)
    }

    fn walk(&self, slot: u8, key: &[u8], steps: &[bool]) -> Step {
        let Some((family, records)) = self.pair(slot, None) else { return Ok(()) };
        let all: Vec<(&Vec<u8>, &Vec<u8>)> = records.iter().collect();
        let at_or_after = all.partition_point(|(k, _)| k.as_slice() < key);
        let at_or_before = all.partition_point(|(k, _)| k.as_slice() <= key).checked_sub(1);
        let mut cursor = family.cursor()?;
        for forwards in [true, false] {
            let mut position = if forwards { Some(at_or_after) } else { at_or_before };
            if forwards {
                cursor.seek(key)?;
            } else {
                cursor.seek_for_prev(key)?;
            }
            position = position.filter(|p| *p < all.len());
            for step in [None].into_iter().chain(steps.iter().copied().map(Some)) {
                match step {
                    None => {}
                    Some(true) => {
                        cursor.next()?;
                        position = position.map(|p| p + 1).filter(|p| *p < all.len());
                    }
                    Some(false) => {
                        cursor.prev()?;
                        position = position.and_then(|p| p.checked_sub(1));
                    }
                }
                let want = position.map(|p| (all[p].0.clone(), all[p].1.clone()));
                let found = cursor.valid().then(|| (cursor.key().to_vec(), cursor.value().to_vec()));
                same("a cursor's entry", &want, &found)?;
                if position.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Step {
        self.copies += 1;
        let dir = self.setup.dir.with_file_name(format!("copy-{}", self.copies));
        self.db().checkpoint(&dir)?;
        let copy = Setup { dir, ..self.setup.clone() };
        let db = copy.open()?;
        let found = content(&db)?;
        checks::database(&db, &*copy.fs).map_err(Failure::Wrong)?;
        db.close()?;
        for name in copy.fs.list(&copy.dir).unwrap() {
            let _ = copy.fs.remove_file(&copy.dir.join(name));
        }
        match model::difference(&self.expected.model.content(), &found) {
            Some(difference) => Err(Failure::Wrong(format!("a checkpoint differs: {difference}"))),
            None => Ok(()),
        }
    }
}

/// Runs a history on a fresh database, closes it, and says which operation failed and why.
pub fn run(setup: &Setup, ops: &[Op]) -> Result<Model, String> {
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut machine = Machine::new(setup.clone()).map_err(|e| format!("open: {e}"))?;
        for (i, op) in ops.iter().enumerate() {
            machine.step(op).map_err(|e| format!("operation {i} ({op}): {e}"))?;
        }
        machine.step(&Op::Check).map_err(|e| format!("at the end: {e}"))?;
        machine.step(&Op::Reopen(setup.seed, false)).map_err(|e| format!("the last reopen: {e}"))?;
        machine.step(&Op::Check).map_err(|e| format!("after the last reopen: {e}"))?;
        Ok(machine.expected.model.clone())
    }));
    attempt.unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_default();
        Err(format!("panic: {words}"))
    })
}

fn add(batch: &mut WriteBatch, family: &ColumnFamily, write: &Write) {
    match write {
        Write::Put(key, value) => batch.put(family, key, value.bytes()),
        Write::Delete(key) => batch.delete(family, key),
        Write::DeleteRange(range) => batch.delete_range(family, range.clone()),
    };
}

fn durability(sync: bool) -> Durability {
    if sync { Durability::Sync } else { Durability::Buffered }
}

fn compare_scan(mut iterator: Iter, mut want: Vec<Pair>, back: bool) -> Step {
    if back {
        want.reverse();
    }
    let mut want = want.into_iter();
    loop {
        let found = if back { iterator.next_back() } else { iterator.next() };
        let found = match found {
            Some(entry) => {
                let entry = entry?;
                Some((entry.key().to_vec(), entry.value()?.to_vec()))
            }
            None => None,
        };
        let expected = want.next();
        same("a scan's entry", &expected, &found)?;
        if expected.is_none() {
            return Ok(());
        }
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, expected: &T, found: &T) -> Step {
    if expected == found {
        return Ok(());
    }
    let short = |value: &T| {
        let text = format!("{value:?}");
        if text.len() > 200 { format!("{}…", text.chars().take(200).collect::<String>()) } else { text }
    };
    Err(Failure::Wrong(format!("{what} is {}, expected {}", short(found), short(expected))))
}
