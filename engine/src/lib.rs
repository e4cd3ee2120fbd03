//! Lignite: an embedded log-structured key-value store whose speciality is compression that does
//! not cost random access.
//!
//! Keys and values are byte strings; keys are kept in bytewise order, in *column families* that
//! share one log. Each family chooses its codecs by the depth of the data (LZ4 where it is young,
//! Zstandard at the bottom, say), and the choice can change at any time: every block names its own.
//!
//! ```
//! use lignite::{CfOptions, Codec, Compression, Db, Durability};
//!
//! let db = Db::temporary()?;                                  // or Db::open("data")?
//! let logs = db.open_column_family("logs", CfOptions::new().compression(Compression::zstd(3)))?;
//! let hot = db.open_column_family("hot", CfOptions::new().compression(Compression::lz4()))?;
//!
//! let mut batch = db.batch();                                 // atomic over families
//! batch.put(&logs, b"2026-11-23/0001", b"GET / 200").put(&hot, b"last", b"0001");
//! db.write_with(batch, Durability::Sync)?;                    // on the device when this returns
//!
//! assert_eq!(hot.get(b"last")?.unwrap(), b"0001");
//! for entry in logs.prefix(b"2026-11-23") {
//!     let entry = entry?;
//!     println!("{} bytes under {}", entry.value()?.len(), entry.key().escape_ascii());
//! }
//! logs.delete_range("2026-11-22".."2026-11-23")?;             // one small write, however many keys
//!
//! let snapshot = db.snapshot();                               // one moment over all families
//! # drop(snapshot);
//! db.set_options("logs", CfOptions::new().compression(Compression::default().bottom(Codec::Zstd { level: 9 })))?;
//! db.close()?;                                                // or drop it
//! # Ok::<(), lignite::Error>(())
//! ```
//!
//! # Durability
//!
//! By default a write is in the operating system's memory before the call returns
//! ([`Durability::Buffered`]): it survives the death of the process, and the loss of power once the
//! background sync has run, at most a second later. [`Durability::Sync`] waits for the device.
//! After any crash the database holds a prefix of the history: everything up to some batch, over
//! all families together, and nothing of any later one.
//!
//! # Where to read on
//!
//! - [`Options`] and [`CfOptions`]: few, each with its default and when to touch it.
//! - [`architecture`]: the map of the code. [`format`](mod@format): every byte on disk.
//! - The README: the command line, memory use, choosing a codec, limits.

// Without the door nobody uses some of what only tests, benches and the command line need.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]
// The door shows docs that were written for those inside.
#![cfg_attr(feature = "internals", allow(rustdoc::private_intra_doc_links))]
#![deny(unsafe_code)]

#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

#[doc = include_str!("../FORMAT.md")]
pub mod format {}

pub mod fs;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;

mod arena;
mod batch;
mod buffer;
mod cache;
mod check;
mod checksum;
mod clock;
mod coding;
mod compaction;
mod db;
mod error;
mod event;
mod field;
mod filename;
mod flush;
#[cfg(test)]
mod format_examples;
mod frame;
mod header;
mod iter;
mod key;
mod memtable;
mod metrics;
mod options;
mod pages;
mod pool;
mod read;
mod record;
mod recovery;
mod repair;
mod sabotage;
mod slice;
mod store;
mod sync;
mod table;
mod tables;
mod tombstone;
mod tune;
mod version;
mod wal;
mod worker;
mod write;

pub use check::{CheckOptions, CheckProgress, CheckReport, Problem};
pub use clock::{Clock, ManualClock, SystemClock};
pub use db::{
    Advice, Builder, ColumnFamily, Commit, CompareOptions, Comparison, CompressionReport, Cursor, DamagedFile, Db,
    DictionaryUse, Entry, FamilyStats, Health, IngestReport, Iter, LevelStats, LogStats, ManifestStats, MemoryStats,
    Reader, RecompressDictionary, RecompressOptions, RecompressPlan, RecompressProgress, RecompressReport, Snapshot,
    SnapshotStats, Stats, TableInfo, TrainedDictionary, WriteBatch,
};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventListener};
pub use key::{BATCH_LEN_MAX, FAMILY_NAME_LEN_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};
pub use metrics::{CodecCounters, Counters};
pub use options::{
    BlockCodec, CfOptions, Codec, Compression, DictionaryPolicy, Durability, FilterPolicy, LogMode, LogRecovery,
    Objective, Options, register_codec,
};
pub use recovery::RecoveryStats;
pub use repair::salvage::SalvageReport;
pub use repair::{Loss, RepairProgress, RepairReport};
pub use slice::Slice;
pub use tune::compare::CompareProgress;
pub use tune::measure::{Candidate, Measured};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_can_be_sent_and_shared() {
        fn shared<T: Send + Sync + 'static>() {}
        fn sent<T: Send + 'static>() {}
        shared::<Db>();
        shared::<ColumnFamily>();
        shared::<Snapshot>();
        shared::<WriteBatch>();
        shared::<Slice>();
        shared::<Error>();
        shared::<Commit>();
        sent::<Iter>();
        sent::<Cursor>();
    }
}
