//! What happens in the background, for those who want to watch.

use std::time::Duration;

/// Something that happened. New variants and fields may be added.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A memtable was written to a table of level 0.
    Flush {
        /// Name of the column family.
        family: String,
        /// Number of the new table; none if nothing was left to write.
        table: Option<u64>,
        /// Bytes of the table.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A compaction is done.
    Compaction {
        /// Name of the column family.
        family: String,
        /// Why it was picked.
        reason: &'static str,
        /// Level of its upper inputs.
        from_level: usize,
        /// Level of its outputs.
        to_level: usize,
        /// Tables read.
        inputs: usize,
        /// Tables written.
        outputs: usize,
        /// Bytes read.
        read_bytes: u64,
        /// Bytes written.
        write_bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// Writes had to stop for background work. One event a stall, when it is over.
    Stall {
        /// How long it took.
        took: Duration,
    },
    /// A background job failed; it will be tried again unless the database is poisoned.
    BackgroundError {
        /// Which job.
        job: &'static str,
        /// The message.
        message: String,
    },
    /// Recovery has replayed the logs.
    Recovered {
        /// Batches replayed.
        batches: u64,
        /// Bytes of a torn tail that were dropped.
        torn_tail_bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// Options given at open differ from those kept with the database.
    OptionsDiffer {
        /// Name of the column family.
        family: String,
        /// One line: which option, kept and given.
        difference: String,
    },
}

/// Receives events, on the thread where they happen and without engine locks held. Must not block
/// for long and must not call back into the database.
pub trait EventListener: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: &Event);
}
