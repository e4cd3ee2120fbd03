//! Statistics as plain data.

use std::ops::Bound;
use std::path::PathBuf;
use std::time::Duration;

use super::family::ColumnFamily;
use super::handle::Db;
use crate::compaction::picker;
use crate::error::Error;
use crate::filename::FileName;
use crate::metrics::{CODEC_SLOTS, CodecCounters, Counters, LEVELS};
use crate::options::CfOptions;
use crate::recovery::RecoveryStats;
use crate::store::Family;

/// Everything about a database in numbers, of one moment. Sizes are bytes, times nanoseconds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The directory.
    pub path: PathBuf,
    /// The database's identity.
    pub db_id: u128,
    /// Version of the file format.
    pub format: u32,
    /// True if opened read-only.
    pub read_only: bool,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The last sequence number.
    pub sequence: u64,
    /// Counters since the open.
    pub counters: Counters,
    /// By family, in the order they were made.
    pub families: Vec<FamilyStats>,
    /// The log.
    pub log: LogStats,
    /// The manifest.
    pub manifest: ManifestStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Snapshots.
    pub snapshots: SnapshotStats,
    /// What is wrong, if anything.
    pub health: Health,
    /// What the open did.
    pub recovered: RecoveryStats,
    /// Threads of the decode pool.
    pub decode_threads: usize,
}

/// One family in numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FamilyStats {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Its options.
    pub options: CfOptions,
    /// Bytes of its memtables.
    pub memtable_bytes: u64,
    /// Entries of its memtables.
    pub memtable_entries: u64,
    /// Memtables that wait for a flush.
    pub sealed_memtables: usize,
    /// By level, 0 to 6.
    pub levels: Vec<LevelStats>,
    /// The level that level 0 is compacted into.
    pub base_level: usize,
    /// Bytes that compactions have yet to rewrite.
    pub pending_compaction_bytes: u64,
    /// Entries in tables and memtables, with older versions and tombstones.
    pub entries: u64,
    /// Bytes of keys and values in tables.
    pub raw_bytes: u64,
    /// Bytes of tables.
    pub stored_bytes: u64,
}

/// One level of one family in numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LevelStats {
    /// Its number.
    pub level: usize,
    /// Tables.
    pub tables: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of keys and values in them.
    pub raw_bytes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Point tombstones among the entries.
    pub deletes: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// How large it should be; 0 above the base level.
    pub target_bytes: u64,
    /// How urgently it needs compaction: from 1 on it does.
    pub score: f64,
    /// Work of each codec since the open, by name; codecs that did nothing are left out.
    pub codecs: Vec<(String, CodecCounters)>,
}

/// The log in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Segments that recovery would need.
    pub segments: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// The family that keeps the oldest of them alive.
    pub pinned_by: Option<String>,
}

/// The manifest in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestStats {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Memory in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The budget for all of it.
    pub budget: u64,
    /// Bytes of blocks, indexes and filters in the cache.
    pub cache_used: u64,
    /// Bytes it may take.
    pub cache_capacity: u64,
    /// Bytes of memtables.
    pub memtables: u64,
    /// Bytes of indexes and filters, part of the cache's.
    pub index_and_filter: u64,
}

/// Snapshots in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// How many live.
    pub count: usize,
    /// The sequence number of the oldest.
    pub oldest_seq: Option<u64>,
}

/// What is wrong with a database, if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why writes are refused for good.
    pub poisoned: Option<String>,
    /// The last failure of a background job that has not succeeded since.
    pub background_error: Option<String>,
    /// Attempts that failed of the background jobs that have not succeeded since.
    pub background_failures: u64,
    /// How long the oldest of them has been failing.
    pub background_failing: Duration,
    /// True while a write is stopped for background work.
    pub stalled: bool,
    /// Bytes of disk that are set aside for the day when there are no others; see
    /// [`Options::reserve_size`](crate::Options::reserve_size).
    pub reserve_bytes: u64,
    /// True after the reserve was given back and before it could be made again: writes that need
    /// space are refused.
    pub short_of_space: bool,
    /// Tables with damaged bytes. They are left out of compactions; what is sound in them can be read.
    pub damaged_tables: Vec<DamagedFile>,
    /// Tables whose filter is damaged. Nothing is lost: they are searched without it.
    pub damaged_filters: Vec<DamagedFile>,
}

/// A damaged file, as far as the database has met the damage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

impl Health {
    /// True if nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.poisoned.is_none()
            && self.background_error.is_none()
            && !self.stalled
            && !self.short_of_space
            && self.damaged_tables.is_empty()
            && self.damaged_filters.is_empty()
    }
}

/// One table of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableInfo {
    /// Number in the file's name.
    pub number: u64,
    /// The level it lies in.
    pub level: usize,
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of keys and values.
    pub raw_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Point tombstones among the entries.
    pub deletes: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// The smallest key.
    pub smallest: Vec<u8>,
    /// Where its keys end.
    pub largest: Bound<Vec<u8>>,
    /// The smallest sequence number.
    pub seq_min: u64,
    /// The largest sequence number.
    pub seq_max: u64,
    /// True if it was moved to a level that wants another codec and will be rewritten when idle.
    pub owes_codec: bool,
}

impl Db {
    /// Statistics of this moment.
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// db.put(b"k", b"v")?;
    /// let stats = db.stats();
    /// assert_eq!(stats.counters.commits, 1);
    /// assert_eq!(stats.families[0].memtable_entries, 1);
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let store = &self.inner.store;
        let context = &store.context;
        let (snapshots, oldest_seq) = store.snapshots.summary();
        let (number, bytes) = store.manifest_info();
        let log = store.log().map_or_else(
            |_| LogStats::default(),
            |log| LogStats {
                segments: log.segments().len(),
                bytes: log.live_bytes(),
                pinned_by: store.log_pinned_by().map(|f| f.name().to_string()),
            },
        );
        Stats {
            path: context.dir.clone(),
            db_id: store.db_id,
            format: crate::header::FORMAT_VERSION,
            read_only: store.is_read_only(),
            created: store.created,
            sequence: self.inner.sequence(),
            counters: context.metrics.snapshot(),
            families: store.families().iter().map(|f| family_stats(f)).collect(),
            log,
            manifest: ManifestStats { number, bytes },
            memory: MemoryStats {
                budget: context.options.memory_budget as u64,
                cache_used: context.tables.cache_usage(),
                cache_capacity: context.tables.block_cache().capacity(),
                memtables: store.memtable_bytes(),
                index_and_filter: context.tables.index_and_filter_bytes(),
            },
            snapshots: SnapshotStats { count: snapshots, oldest_seq },
            health: self.health(),
            recovered: self.inner.recovered,
            decode_threads: context.pool.as_ref().map_or(0, |p| p.threads()),
        }
    }

    /// What is wrong, if anything.
    pub fn health(&self) -> Health {
        let store = &self.inner.store;
        let failures = self.inner.worker.failures();
        let views: Vec<_> = store.families().iter().map(|f| f.view()).collect();
        let is_live = |n: u64| views.iter().any(|v| v.version.tables().any(|(_, t)| t.number() == n));
        let damaged = |found: Vec<(u64, Error)>| {
            let live = found.into_iter().filter(|(n, _)| is_live(*n));
            live.map(|(n, e)| DamagedFile { path: FileName::Table(n).path(self.path()), reason: e.to_string() })
                .collect()
        };
        Health {
            poisoned: store.poisoned().map(ToString::to_string),
            background_error: store.background_error().map(|e| e.to_string()),
            background_failures: failures.times,
            background_failing: failures.lasting,
            stalled: store.is_stalled(),
            reserve_bytes: store.reserve.bytes(),
            short_of_space: store.reserve.is_short(),
            damaged_tables: damaged(failures.excluded),
            damaged_filters: damaged(store.context.tables.bad_filters()),
        }
    }
}

impl ColumnFamily {
    /// The family's statistics of this moment.
    pub fn stats(&self) -> FamilyStats {
        family_stats(&self.family)
    }

    /// The family's tables of this moment, by level, in the order in which they are searched.
    pub fn tables(&self) -> Vec<TableInfo> {
        let dir = &self.inner.store.context.dir;
        let view = self.family.view();
        let info = |(level, table): (usize, &crate::sync::Arc<crate::version::TableFile>)| {
            let m = &table.meta;
            TableInfo {
                number: m.number,
                level,
                path: FileName::Table(m.number).path(dir),
                size: m.size,
                raw_bytes: m.raw_bytes,
                entries: m.entries,
                deletes: m.deletes,
                range_deletes: m.range_deletes,
                smallest: m.smallest.clone(),
                largest: m.largest.clone(),
                seq_min: m.seq_min,
                seq_max: m.seq_max,
                owes_codec: m.owes_codec,
            }
        };
        view.version.tables().map(info).collect()
    }
}

fn family_stats(family: &Family) -> FamilyStats {
    let options = family.options();
    let view = family.view();
    let shape = picker::shape(&view.version, &options);
    let levels: Vec<LevelStats> = (0..LEVELS)
        .map(|level| {
            let tables = &view.version.levels[level];
            let sum = |f: fn(&crate::version::TableMeta) -> u64| tables.iter().map(|t| f(&t.meta)).sum();
            LevelStats {
                level,
                tables: tables.len(),
                bytes: sum(|m| m.size),
                raw_bytes: sum(|m| m.raw_bytes),
                entries: sum(|m| m.entries),
                deletes: sum(|m| m.deletes),
                range_deletes: sum(|m| m.range_deletes),
                target_bytes: shape.targets[level],
                score: shape.scores[level],
                codecs: codec_counters(family, level),
            }
        })
        .collect();
    let memtable_entries = view.memtables.iter().map(|m| m.entries()).sum();
    FamilyStats {
        name: family.name().to_string(),
        id: family.id.0,
        memtable_bytes: family.memtable_bytes(),
        memtable_entries,
        sealed_memtables: view.memtables.len() - 1,
        base_level: shape.base_level,
        pending_compaction_bytes: picker::pending_bytes(&view.version, &options),
        entries: memtable_entries + levels.iter().map(|l| l.entries).sum::<u64>(),
        raw_bytes: levels.iter().map(|l| l.raw_bytes).sum(),
        stored_bytes: levels.iter().map(|l| l.bytes).sum(),
        options: CfOptions::clone(&options),
        levels,
    }
}

fn codec_counters(family: &Family, level: usize) -> Vec<(String, CodecCounters)> {
    (0..CODEC_SLOTS)
        .map(|slot| (crate::frame::codec_slot_name(slot), family.metrics.codec(level, slot)))
        .filter(|(_, c)| *c != CodecCounters::default())
        .collect()
}
