//! The engines, behind the few calls that the workloads need.
//!
//! Every adapter does what somebody who knows its engine would do under the rules of the comparison; the head
//! of its file lists what differs from the engine's defaults, and why.

#[cfg(feature = "canopydb")]
mod canopydb;
#[cfg(feature = "fjall")]
mod fjall;
mod lignite;
#[cfg(feature = "lmdb")]
mod lmdb;
mod none;
#[cfg(feature = "parity-db")]
mod paritydb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "surrealkv")]
mod surrealkv;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;

/// What a workload asks of an engine. Calls go through a table of functions for every engine, which costs each
/// the same nanosecond or two.
pub trait Engine: Send + Sync {
    /// Writes one record, in a batch or transaction of its own.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Writes records, all at once.
    fn put_batch(&self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Hands the value of `key` to `visit`, if there is one.
    fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Hands the values of `keys`, with the places of their keys, to `visit`, in any order.
    fn multi_get(&self, keys: &[Vec<u8>], visit: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (place, key) in keys.iter().enumerate() {
            self.get(key, &mut |value| visit(place, value))?;
        }
        Ok(())
    }

    /// Hands records to `visit` as `scan` says.
    fn scan(&self, scan: Scan<'_>, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;

    /// Brings what is in memory to where it stays, and waits until nothing is left to do in the background.
    fn settle(&self) -> Result<()>;

    /// Rewrites everything into its final form; false if the engine has no such call.
    fn compact(&self) -> Result<bool> {
        Ok(false)
    }

    /// What the engine tells about itself.
    fn facts(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Closes the database and returns what went wrong.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Records in order.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The first key at or behind this (before, when going backward); without it, from the end.
    pub from: Option<&'a [u8]>,
    /// From the last key to the first.
    pub backward: bool,
    /// At most so many.
    pub limit: u64,
}

impl Scan<'_> {
    /// All of it, in order.
    pub const ALL: Scan<'static> = Scan { from: None, backward: false, limit: u64::MAX };
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The death of the process.
    Buffered,
    /// The loss of power.
    Sync,
}

/// What every engine gets alike.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Bytes for cache and write buffers together. Where they are told apart each gets half.
    pub budget: u64,
    /// What an acknowledged write survives.
    pub class: Class,
    /// Threads for work in the background.
    pub background_threads: usize,
}

impl Setup {
    /// Bytes of the cache, where an engine has one of its own.
    pub fn cache(&self) -> u64 {
        self.budget / 2
    }

    /// Bytes of all write buffers, where an engine has them of their own.
    pub fn write_buffers(&self) -> u64 {
        self.budget - self.cache()
    }
}

/// An engine in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Lignite with LZ4 in every level.
    Lignite,
    /// Lignite's defaults: LZ4, and Zstandard in the last level.
    LigniteZstd,
    /// RocksDB with LZ4 in every level, blocks of 16 KiB.
    RocksdbLz4,
    /// The same with blocks of 4 KiB.
    RocksdbLz4Small,
    /// RocksDB with LZ4, and Zstandard in the last level.
    RocksdbZstd,
    /// fjall 3.
    Fjall,
    /// redb 4.
    Redb,
    /// LMDB through heed.
    Lmdb,
    /// canopydb.
    Canopydb,
    /// SurrealKV.
    Surrealkv,
    /// parity-db, with its hash index: without order.
    ParityDb,
    /// Nothing: what the harness itself costs.
    None,
}

impl EngineKind {
    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            EngineKind::Lignite | EngineKind::LigniteZstd | EngineKind::None => true,
            EngineKind::RocksdbLz4 | EngineKind::RocksdbLz4Small | EngineKind::RocksdbZstd => cfg!(feature = "rocksdb"),
            EngineKind::Fjall => cfg!(feature = "fjall"),
            EngineKind::Redb => cfg!(feature = "redb"),
            EngineKind::Lmdb => cfg!(feature = "lmdb"),
            EngineKind::Canopydb => cfg!(feature = "canopydb"),
            EngineKind::Surrealkv => cfg!(feature = "surrealkv"),
            EngineKind::ParityDb => cfg!(feature = "parity-db"),
        }
    }

    /// Whether it has records in order.
    pub fn is_ordered(self) -> bool {
        self != EngineKind::ParityDb
    }

    /// Whether a process can open a database again that it has closed.
    pub fn can_reopen(self) -> bool {
        self != EngineKind::Lmdb
    }

    /// How it departs from the rules, for the report; the mark stands behind its figures.
    pub fn marks(self, class: Class) -> &'static [Mark] {
        match (self, class) {
            (EngineKind::Redb, Class::Buffered) => &[Mark::Weaker],
            (EngineKind::ParityDb, Class::Buffered) => &[Mark::Weaker, Mark::Uncapped],
            (EngineKind::ParityDb, Class::Sync) => &[Mark::Weaker, Mark::Uncapped],
            (EngineKind::Lmdb, _) => &[Mark::Uncapped],
            _ => &[],
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |v| v.get_name()))
    }
}

/// How an engine departs from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What it acknowledges survives less than the class says.
    Weaker,
    /// Its cache is the system's, beside the budget.
    Uncapped,
}

impl Mark {
    /// The sign in tables.
    pub fn sign(self) -> &'static str {
        match self {
            Mark::Weaker => "w",
            Mark::Uncapped => "u",
        }
    }
}

/// Opens the database in `directory`, or makes it.
pub fn open(kind: EngineKind, directory: &Path, setup: &Setup) -> Result<Box<dyn Engine>> {
    Ok(match kind {
        EngineKind::Lignite => Box::new(lignite::Lignite::open(directory, setup, lignite::Bottom::Lz4)?),
        EngineKind::LigniteZstd => Box::new(lignite::Lignite::open(directory, setup, lignite::Bottom::Zstd)?),
        EngineKind::None => Box::new(none::Nothing::default()),
        #[cfg(feature = "rocksdb")]
        EngineKind::RocksdbLz4 => Box::new(rocksdb::RocksDb::open(directory, setup, rocksdb::Form::LZ4)?),
        #[cfg(feature = "rocksdb")]
        EngineKind::RocksdbLz4Small => Box::new(rocksdb::RocksDb::open(directory, setup, rocksdb::Form::LZ4_SMALL)?),
        #[cfg(feature = "rocksdb")]
        EngineKind::RocksdbZstd => Box::new(rocksdb::RocksDb::open(directory, setup, rocksdb::Form::ZSTD)?),
        #[cfg(feature = "fjall")]
        EngineKind::Fjall => Box::new(fjall::Fjall::open(directory, setup)?),
        #[cfg(feature = "redb")]
        EngineKind::Redb => Box::new(redb::Redb::open(directory, setup)?),
        #[cfg(feature = "lmdb")]
        EngineKind::Lmdb => Box::new(lmdb::Lmdb::open(directory, setup)?),
        #[cfg(feature = "canopydb")]
        EngineKind::Canopydb => Box::new(canopydb::Canopydb::open(directory, setup)?),
        #[cfg(feature = "surrealkv")]
        EngineKind::Surrealkv => Box::new(surrealkv::Surrealkv::open(directory, setup)?),
        #[cfg(feature = "parity-db")]
        EngineKind::ParityDb => Box::new(paritydb::ParityDb::open(directory, setup)?),
        #[allow(unreachable_patterns, reason = "with every feature there is nothing left")]
        other => return Err(format!("this build has no {other}: see benches/README.md for the features").into()),
    })
}

/// Waits, for an engine that has no call for it, until this process has used no processor for half a second;
/// at most ten minutes.
#[cfg(any(feature = "surrealkv", feature = "parity-db"))]
fn wait_until_quiet() {
    use lignite_bench::measure::cpu_seconds;
    let mut last = cpu_seconds().unwrap_or(0.0);
    let mut n_quiet = 0;
    for _ in 0..6000 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = cpu_seconds().unwrap_or(0.0);
        n_quiet = if now - last < 0.02 { n_quiet + 1 } else { 0 };
        last = now;
        if n_quiet == 5 {
            return;
        }
    }
}
