//! The public surface: thin handles over the store.
//!
//! A [`Db`] and a [`ColumnFamily`] are cheap to clone, `Send`, `Sync` and `'static`. Reads take a
//! family's view and the published sequence number and need nothing else; writes go through the
//! commit pipeline. The last handle closes the database.

mod batch;
mod builder;
mod check;
mod checkpoint;
mod commit;
mod compression;
mod family;
mod handle;
mod ingest;
mod inner;
mod iter;
mod repair;
mod snapshot;
mod stats;

pub use batch::WriteBatch;
pub use builder::Builder;
pub use commit::Commit;
pub use compression::{
    Advice, CompareOptions, Comparison, CompressionReport, DictionaryUse, RecompressDictionary, RecompressOptions,
    RecompressPlan, RecompressProgress, RecompressReport, TrainedDictionary,
};
pub use family::ColumnFamily;
pub use handle::Db;
pub use ingest::IngestReport;
pub(crate) use inner::destroy;
pub use iter::{Cursor, Entry, Iter};
pub use snapshot::{Reader, Snapshot};
pub use stats::{
    DamagedFile, FamilyStats, Health, LevelStats, LogStats, ManifestStats, MemoryStats, SnapshotStats, Stats, TableInfo,
};
