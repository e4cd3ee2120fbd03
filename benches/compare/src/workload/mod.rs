//! The workloads: what each needs, and what one operation of it is.

pub mod clock;
mod fill;
mod mixed;
mod open;
mod read;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;
use crate::data::Data;
use crate::engine::{Class, Engine, EngineKind, Setup};
use clock::Costs;

pub use open::write_until_killed;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Workload {
    /// Every record by one put, in the order of keys, into a new database.
    Fillseq,
    /// The same in random order, 100 records a batch.
    Fillbatch,
    /// Every record by one put, in random order, into a new database.
    Fillrandom,
    /// As many puts as there are records, of keys that are there.
    Overwrite,
    /// One thread; every put waits for the device.
    Fillsync,
    /// Eight threads; every put waits for the device.
    Fillsync8,
    /// A full compaction right after a load in random order.
    Compact,
    /// Gets of keys that are there; all of the data fits the cache.
    Readrandom,
    /// The same with a cache of a tenth of the data.
    ReadrandomTenth,
    /// Gets by Zipf's law (0.99), cache of a tenth.
    ReadzipfTenth,
    /// Gets of keys that are not there.
    Readmissing,
    /// 32 keys a call, cache of a tenth; an operation is a key.
    MultigetTenth,
    /// One scan of everything, the first after the open.
    ReadseqFirst,
    /// Scans of everything, cached.
    Readseq,
    /// The same from the last key to the first.
    Readreverse,
    /// A seek to a random key and the 50 records from there.
    Seek50,
    /// Gets while another thread puts 20,000 records a second; cache of half of the data.
    Readwhilewriting,
    /// 50 % reads, 50 % updates, Zipf; two threads, cache of half of the data, as the other YCSB loads.
    YcsbA,
    /// 95 % reads, 5 % updates, Zipf.
    YcsbB,
    /// Reads, Zipf.
    YcsbC,
    /// 95 % reads of the newest, 5 % inserts.
    YcsbD,
    /// 95 % scans of up to 100 records, 5 % inserts.
    YcsbE,
    /// 50 % reads, 50 % read-modify-writes, Zipf.
    YcsbF,
    /// Opens of a closed database, each with a get.
    Open,
    /// The open after the process was killed with 64 MiB in the log, with a get.
    OpenKilled,
}

/// What a workload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// An empty directory.
    Empty,
    /// The loaded database, which it only reads.
    Loaded,
    /// A copy of the loaded database.
    Copy,
    /// A database whose process was killed while it wrote.
    Killed,
}

/// How much memory an engine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// 256 MiB: 128 MiB of cache, two write buffers of 64 MiB.
    Fixed,
    /// A cache twice as large as the data.
    All,
    /// A cache half as large.
    Half,
    /// A cache of a tenth.
    Tenth,
}

impl Workload {
    /// What it begins with.
    pub fn start(self) -> Start {
        use Workload::*;
        match self {
            Fillseq | Fillbatch | Fillrandom | Fillsync | Fillsync8 | Compact => Start::Empty,
            Overwrite | Readwhilewriting | YcsbA | YcsbB | YcsbD | YcsbE | YcsbF => Start::Copy,
            OpenKilled => Start::Killed,
            _ => Start::Loaded,
        }
    }

    /// Whether it needs records in order.
    pub fn needs_order(self) -> bool {
        use Workload::*;
        matches!(self, ReadseqFirst | Readseq | Readreverse | Seek50 | YcsbE)
    }

    /// Whether it needs records behind the last one, which a set does not have.
    pub fn inserts(self) -> bool {
        matches!(self, Workload::YcsbD | Workload::YcsbE)
    }

    /// What its writes survive.
    pub fn class(self) -> Class {
        match self {
            Workload::Fillsync | Workload::Fillsync8 => Class::Sync,
            _ => Class::Buffered,
        }
    }

    fn memory(self) -> Memory {
        use Workload::*;
        match self {
            Readrandom | Readmissing | ReadseqFirst | Readseq | Readreverse | Seek50 => Memory::All,
            ReadrandomTenth | ReadzipfTenth | MultigetTenth => Memory::Tenth,
            Readwhilewriting | YcsbA | YcsbB | YcsbC | YcsbD | YcsbE | YcsbF => Memory::Half,
            _ => Memory::Fixed,
        }
    }

    /// Bytes for cache and write buffers.
    pub fn budget(self, raw_bytes: u64) -> u64 {
        match self.memory() {
            Memory::Fixed => 256 << 20,
            Memory::All => (4 * raw_bytes).max(64 << 20),
            Memory::Half => raw_bytes.max(16 << 20),
            Memory::Tenth => (raw_bytes / 5).max(8 << 20),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |v| v.get_name()))
    }
}

/// One measurement, which a process of its own makes.
#[derive(Clone, Debug)]
pub struct Case {
    /// The engine.
    pub engine: EngineKind,
    /// The workload.
    pub workload: Workload,
    /// Seconds that a workload without a natural end lasts.
    pub secs: f64,
    /// Seconds after which a fill ends before all records are in.
    pub fill_secs_max: f64,
    /// Seed of orders and draws.
    pub seed: u64,
    /// Threads for work in the background.
    pub background_threads: usize,
    /// Compact the load in full.
    pub compacted: bool,
}

impl Case {
    /// What the engine gets for it.
    pub fn setup(&self, raw_bytes: u64) -> Setup {
        Setup {
            budget: self.workload.budget(raw_bytes),
            class: self.workload.class(),
            background_threads: self.background_threads,
        }
    }
}

/// What a workload works with.
struct Work<'a> {
    case: &'a Case,
    data: &'a Data,
    directory: &'a Path,
    setup: Setup,
}

impl Work<'_> {
    fn open(&self) -> Result<Box<dyn Engine>> {
        crate::engine::open(self.case.engine, self.directory, &self.setup)
    }
}

/// Runs a case in this process; its figures.
pub fn run(case: &Case, data: &Data, directory: &Path) -> Result<Value> {
    let setup = case.setup(data.raw_bytes());
    let work = Work { case, data, directory, setup };
    use Workload::*;
    match case.workload {
        Fillseq | Fillbatch | Fillrandom | Overwrite => fill::fill(&work),
        Fillsync => fill::fill_synced(&work, 1),
        Fillsync8 => fill::fill_synced(&work, 8),
        Compact => fill::compact(&work),
        Readrandom | ReadrandomTenth | ReadzipfTenth | Readmissing | MultigetTenth => read::points(&work),
        ReadseqFirst | Readseq | Readreverse | Seek50 => read::ranges(&work),
        Readwhilewriting | YcsbA | YcsbB | YcsbC | YcsbD | YcsbE | YcsbF => mixed::mixed(&work),
        Open | OpenKilled => open::open(&work),
    }
}

/// How long a load is left alone before it is closed: an engine may have work that it does only when nobody asks
/// anything of it.
const REST: std::time::Duration = std::time::Duration::from_secs(2);

/// Loads every record, in random order by batches, waits until nothing is left to do, leaves the engine alone for
/// [`REST`] and waits again: the database that reading workloads begin with.
pub fn load(case: &Case, data: &Data, directory: &Path) -> Result<Value> {
    let setup = Setup { budget: 256 << 20, class: Class::Buffered, background_threads: case.background_threads };
    let work = Work { case, data, directory, setup };
    let engine = work.open()?;
    let costs = Costs::begin();
    fill::put_batches(&work, &*engine, 1000, None)?;
    engine.settle()?;
    std::thread::sleep(REST);
    engine.settle()?;
    if case.compacted {
        engine.compact()?;
        engine.settle()?;
    }
    let facts = engine.facts()?;
    engine.close()?;
    costs.end(data.len(), None, json!({ "facts": facts }), directory)
}
