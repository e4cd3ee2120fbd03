//! Runs histories on a database over any file system, against the oracle.
//!
//! With no background threads a run is a function of its history and seed: every job runs on the
//! thread that needs it, and time stands still.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lignite::internals::clock::{Clock, ManualClock, SystemClock};
use lignite::internals::fs::Fs;
use lignite::internals::fs::mem::MemFs;
use lignite::{Builder, CfOptions, Db, Options};

use crate::model::{Change, Content, Model, Records};
use crate::ops::{FAMILIES, Op, Write};

mod kept;
mod lifecycle;
mod machine;
mod misuse;
mod reads;
mod sets;

pub use machine::{Machine, Outcome, run, run_fully};
pub use misuse::MISUSES;
pub use sets::{LOG_MODES, OptionSet, cf_options, options, sets};

/// Where and how a database is opened.
#[derive(Clone)]
pub struct Setup {
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// The same if it is one in memory that can crash.
    pub memory: Option<MemFs>,
    /// The directory of the database.
    pub dir: PathBuf,
    /// Where salts and, after a reopen, options come from.
    pub seed: u64,
    /// Background threads; 0 makes the run deterministic.
    pub threads: usize,
    /// How it is opened.
    pub options: Options,
    /// What gives the options for opens and families to come; none for those made from seeds.
    pub set: Option<Arc<OptionSet>>,
}

impl Setup {
    /// A deterministic database in the directory `/db`, with options made from the seed.
    pub fn new(fs: Arc<dyn Fs>, seed: u64) -> Setup {
        let dir = PathBuf::from("/db");
        Setup { fs, memory: None, dir, seed, threads: 0, options: options(seed, 0), set: None }
    }

    /// A fresh database in memory whose file system can crash, with the options of a set.
    pub fn of_set(set: Arc<OptionSet>, seed: u64) -> Setup {
        let memory = MemFs::new();
        Setup {
            fs: Arc::new(memory.clone()),
            memory: Some(memory),
            dir: PathBuf::from("/db"),
            seed,
            threads: set.threads,
            options: set.options(seed),
            set: Some(set),
        }
    }

    /// The same with real background threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Setup {
        Setup { threads, options: options(self.seed, threads), ..self }
    }

    /// The same on another file system.
    #[must_use]
    pub fn on(&self, fs: Arc<dyn Fs>) -> Setup {
        Setup { fs, memory: None, ..self.clone() }
    }

    /// Database options for a later open.
    pub fn options_for(&self, seed: u64) -> Options {
        self.set.as_ref().map_or_else(|| options(seed, self.threads), |set| set.options(seed))
    }

    /// Family options for one that is made or changed.
    pub fn cf_options_for(&self, seed: u64) -> CfOptions {
        self.set.as_ref().map_or_else(|| cf_options(seed), |set| set.family(seed))
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

    /// Makes it; the family `default` gets the options of the set, if there is one.
    pub fn create(&self) -> lignite::Result<Db> {
        let builder = self.builder();
        let builder = match &self.set {
            Some(set) => builder.column_family("default", set.family(self.seed)),
            None => builder,
        };
        builder.open(&self.dir)
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

/// How a step went.
pub type Step = Result<(), Failure>;

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
        if let Some(changes) = self.changes_of(op) {
            return self.write_all(changes);
        }
        match op {
            Op::Create(slot, seed) | Op::OpenFamily(slot, seed) => {
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
            Op::Recreate(slot, _) if *slot > 0 => {
                if let Some(id) = self.slots[*slot as usize]
                    && let Some(name) = self.model.name(id).map(str::to_string)
                {
                    self.model.remove(id);
                    self.slots[*slot as usize] = Some(self.model.create(&name));
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
            Op::Destroy(_) => *self = Expected::default(),
            _ => {}
        }
    }

    /// True if the operation changes what the database contains or names.
    pub fn changes(op: &Op) -> bool {
        matches!(
            op,
            Op::Write(..)
                | Op::WriteThen(..)
                | Op::Batch(..)
                | Op::Fill(..)
                | Op::Clear(_)
                | Op::Ingest(..)
                | Op::Create(..)
                | Op::OpenFamily(..)
                | Op::Drop(..)
                | Op::Recreate(..)
                | Op::Rename(..)
                | Op::Destroy(_)
        )
    }

    /// The changes of records that an operation stands for, in families that are there; none for an
    /// operation of another kind.
    fn changes_of(&self, op: &Op) -> Option<Vec<(u8, Change)>> {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let is_there = |slot: &u8| self.slots[*slot as usize].is_some();
        let one = |slot: &u8, change: &dyn Fn() -> Change| {
            if is_there(slot) { vec![(*slot, change())] } else { Vec::new() }
        };
        Some(match op {
            Op::Write(slot, write, _) | Op::WriteThen(slot, write, _) => one(slot, &|| write.change()),
            Op::Clear(slot) => one(slot, &|| Change::DeleteRange(all.clone())),
            Op::Batch(writes, _) => {
                let there = writes.iter().filter(|(slot, _)| is_there(slot));
                there.map(|(slot, write): &(u8, Write)| (*slot, write.change())).collect()
            }
            Op::Fill(slot, first, count, step, value) if is_there(slot) => (0..*count)
                .map(|n| {
                    let (key, value) = Op::fill(*first, *step, *value, n);
                    (*slot, Change::Put(key, value.bytes()))
                })
                .collect(),
            Op::Fill(..) => Vec::new(),
            Op::Ingest(slot, records) if is_there(slot) => {
                records.iter().map(|(key, value)| (*slot, Change::Put(key.clone(), value.bytes()))).collect()
            }
            Op::Ingest(..) => Vec::new(),
            _ => return None,
        })
    }

    fn write_all(&mut self, changes: Vec<(u8, Change)>) {
        for (slot, change) in changes {
            if let Some(id) = self.slots[slot as usize] {
                self.model.apply(id, change);
            }
        }
    }
}

/// The name of the family that `create` makes.
pub fn created_name(slot: u8, seed: u64) -> String {
    format!("family-{slot}-{}", seed % 1000)
}

/// The name that `rename` gives.
pub fn renamed_name(n: u64) -> String {
    format!("renamed {n} é")
}
