//! What a background job that writes tables is given, and what all of them do.

use std::path::Path;

use crate::clock::Clock;
use crate::compaction::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Fs;
use crate::key::SeqNo;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::options::CfOptions;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::table::{TableBuilder, TableWriteOptions};
use crate::tables::Tables;
use crate::tune::Tuning;

/// Threads that a job may use beside its own.
pub trait Helpers: Sync {
    /// As many as there are, at most `most`; to be given back one by one.
    fn claim(&self, most: usize) -> usize;
    /// Gives one back.
    fn release(&self);
}

/// Nobody helps.
pub struct NoHelpers;

impl Helpers for NoHelpers {
    fn claim(&self, _: usize) -> usize {
        0
    }

    fn release(&self) {}
}

/// What a background job is given.
pub struct JobContext<'a> {
    /// The file system.
    pub fs: &'a dyn Fs,
    /// Where tables are written.
    pub dir: &'a Path,
    /// The identity that new tables carry.
    pub db_id: u128,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Open tables.
    pub tables: &'a Arc<Tables>,
    /// Counters of the database.
    pub metrics: &'a Arc<Metrics>,
    /// Counters of the family.
    pub family: &'a Arc<FamilyMetrics>,
    /// The family's options.
    pub options: &'a CfOptions,
    /// What the family has found out about its data.
    pub tuning: &'a Tuning,
    /// True if writers wait, so that what is written now had better be quick to encode.
    pub pressed: bool,
    /// The published sequence number, read before `snapshots`.
    pub visible: SeqNo,
    /// Live snapshots, ascending.
    pub snapshots: Vec<SeqNo>,
    /// Gives numbers for new files.
    pub next_file: &'a (dyn Fn() -> u64 + Sync),
    /// True once the job should stop.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Other threads, for large jobs.
    pub helpers: &'a dyn Helpers,
}

impl<'a> JobContext<'a> {
    /// Begins table `number` of a level; workers of the pool may help with slow codecs.
    pub fn create_table(&self, number: u64, options: TableWriteOptions, level: usize) -> Result<TableBuilder<'a>> {
        let mut builder = TableBuilder::create(
            self.fs,
            self.dir,
            number,
            self.db_id,
            options,
            self.clock.unix_seconds(),
            self.family.clone(),
            level,
            self.clock.clone(),
        )?;
        builder.assist(self.tables.pool(), self.metrics);
        Ok(builder)
    }
}

/// Makes the names of new tables durable. A failure is `Poisoned`: nobody knows which names of which
/// files the directory would have after a crash, and a second attempt would not tell.
pub fn sync_dir(fs: &dyn Fs, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e).with_kind(ErrorKind::Poisoned))
}

/// True once somebody wants the job to end.
pub fn is_cancelled(context: &JobContext<'_>, plan: &Plan) -> bool {
    (context.cancelled)() || plan.order.as_ref().is_some_and(|o| o.limits.cancelled.load(Ordering::Relaxed))
}
