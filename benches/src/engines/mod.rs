//! The engines that are compared, behind the few calls that the workloads need.

mod lignite;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::Result;

/// What a workload asks of an engine. Calls go through a table of functions for every engine, which
/// costs each the same nanosecond or two.
pub trait Engine {
    /// Writes one record in a batch of its own: in the log, without a sync.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Hands the value of `key` to `visit`, if there is one.
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Hands every record to `visit`, in order.
    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;

    /// Brings memtables into tables and waits until no compaction is left to do.
    fn settle(&self) -> Result<()>;

    /// What the engine tells about itself, for the report.
    fn facts(&self) -> Result<Value>;

    /// Closes the database and returns what went wrong.
    fn close(self: Box<Self>) -> Result<()>;
}

/// An engine by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// This one.
    Lignite,
    /// RocksDB; needs the feature `rocksdb`.
    Rocksdb,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Lignite => "lignite",
            EngineKind::Rocksdb => "rocksdb",
        })
    }
}

/// Which phase a database is opened for: an engine whose memory is one budget gets what the phase
/// calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Load an empty database.
    Load,
    /// Read a loaded one.
    Read,
}

/// Sizes that every engine gets alike.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Setup {
    /// Write buffer, in MiB
    #[arg(long, default_value_t = 64)]
    pub write_buffer_mib: usize,
    /// Block cache, in MiB
    #[arg(long, default_value_t = 64)]
    pub cache_mib: usize,
    /// Block size, in KiB
    #[arg(long, default_value_t = 16)]
    pub block_kib: usize,
    /// Bits a key of the filters
    #[arg(long, default_value_t = 10)]
    pub filter_bits: u8,
    /// Background jobs at a time
    #[arg(long, default_value_t = 2)]
    pub background_jobs: usize,
    /// Lignite's memory budget while loading, in MiB; by default the block cache and two write
    /// buffers, which is what RocksDB may use
    #[arg(long)]
    pub load_budget_mib: Option<usize>,
    /// Lignite's memory budget while reading, in MiB; by default twice the block cache, as half of
    /// the budget is the cache
    #[arg(long)]
    pub read_budget_mib: Option<usize>,
}

impl Setup {
    /// The options that repeat this setup in another process of this program.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--write-buffer-mib={}", self.write_buffer_mib),
            format!("--cache-mib={}", self.cache_mib),
            format!("--block-kib={}", self.block_kib),
            format!("--filter-bits={}", self.filter_bits),
            format!("--background-jobs={}", self.background_jobs),
        ];
        arguments.extend(self.load_budget_mib.map(|mib| format!("--load-budget-mib={mib}")));
        arguments.extend(self.read_budget_mib.map(|mib| format!("--read-budget-mib={mib}")));
        arguments
    }

    /// Bytes of the one budget of an engine that has one.
    pub fn memory_budget(&self, phase: Phase) -> usize {
        let mib = match phase {
            Phase::Load => self.load_budget_mib.unwrap_or(self.cache_mib + 2 * self.write_buffer_mib),
            Phase::Read => self.read_budget_mib.unwrap_or(2 * self.cache_mib),
        };
        mib << 20
    }
}

/// Opens the database in `directory`, or makes it.
pub fn open(kind: EngineKind, directory: &Path, setup: &Setup, phase: Phase) -> Result<Box<dyn Engine>> {
    match kind {
        EngineKind::Lignite => Ok(Box::new(lignite::Lignite::open(directory, setup, phase)?)),
        #[cfg(feature = "rocksdb")]
        EngineKind::Rocksdb => Ok(Box::new(rocksdb::RocksDb::open(directory, setup, phase)?)),
        #[cfg(not(feature = "rocksdb"))]
        EngineKind::Rocksdb => {
            Err("this build has no RocksDB: build with --features rocksdb (see benches/README.md)".into())
        }
    }
}
