//! Compaction: what to merge next ([`picker`]), what of it survives ([`retain`]), and doing it
//! ([`executor`], [`merging`]).
//!
//! A [`Plan`] is plain data. The picker makes one from a version; the executor turns it into tables
//! and an edit; neither knows the store.

use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use crate::clock::Clock;
use crate::key::{self, FamilyId};
use crate::options::Depth;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{self, Arc, Mutex};
use crate::table::TableWriteOptions;
use crate::version::{TableFile, max_upper};

pub mod executor;
pub mod job;
mod merging;
mod outputs;
mod parts;
pub mod picker;
pub mod retain;
#[cfg(test)]
mod tests;

/// Why a compaction was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Level 0 has too many tables.
    Level0,
    /// A level is larger than it should be.
    Size,
    /// A table is mostly tombstones.
    Tombstones,
    /// Tables lie wholly under a range tombstone.
    Covered,
    /// A table was moved to a level that wants another codec.
    Codec,
    /// Nothing is written, and readers are better off with fewer tables.
    Idle,
    /// Somebody asked for it.
    Manual,
    /// Somebody asked for another codec, dictionary or block size.
    Recompress,
}

impl Reason {
    /// The stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Level0 => "level0",
            Reason::Size => "size",
            Reason::Tombstones => "tombstones",
            Reason::Covered => "covered",
            Reason::Codec => "codec",
            Reason::Idle => "idle",
            Reason::Manual => "manual",
            Reason::Recompress => "recompress",
        }
    }

    /// True if it was picked to get rid of tombstones.
    pub fn is_for_tombstones(self) -> bool {
        self == Reason::Tombstones
    }
}

/// What to do, in full.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of which family.
    pub family: FamilyId,
    /// Why.
    pub reason: Reason,
    /// Level of the upper inputs.
    pub from_level: usize,
    /// Level of the outputs.
    pub to_level: usize,
    /// Tables to merge, by level, uppermost first; those of level 0 newest first.
    pub inputs: Vec<(usize, Vec<Arc<TableFile>>)>,
    /// Tables below the target level that overlap, in order.
    pub grandparents: Vec<Arc<TableFile>>,
    /// True if nothing deeper than the target level overlaps.
    pub bottom: bool,
    /// True if the inputs are only to be moved.
    pub trivial_move: bool,
    /// Tables to drop unread.
    pub drop_only: Vec<(usize, Arc<TableFile>)>,
    /// How deep the inputs lie.
    pub from_depth: Depth,
    /// How deep the outputs will lie.
    pub depth: Depth,
    /// Size at which an output ends, in bytes on disk.
    pub target_size: u64,
    /// How somebody has asked for it to be done; none for as the options say.
    pub order: Option<Arc<Order>>,
}

/// How tables are to be written, whatever the family's options say, and how fast.
#[derive(Debug)]
pub struct Order {
    /// How.
    pub write: TableWriteOptions,
    /// How fast, and whether still.
    pub limits: Arc<Limits>,
}

/// What holds a job back. Shared by jobs that belong together.
#[derive(Debug, Default)]
pub struct Limits {
    /// Bytes of keys and values a second; 0 for no limit.
    pub rate: u64,
    /// Set to end the jobs.
    pub cancelled: AtomicBool,
    /// Bytes of keys and values read so far.
    pub read: AtomicU64,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    since: Option<Duration>,
    bytes: u64,
}

impl Limits {
    /// With so many bytes a second.
    pub fn new(rate: u64) -> Limits {
        Limits { rate, ..Limits::default() }
    }

    /// Counts bytes that were read, and sleeps as long as they are more than may have been by now.
    pub fn spend(&self, clock: &dyn Clock, bytes: u64) {
        /// So that who cancels need not wait long.
        const STEP_MAX: Duration = Duration::from_millis(20);
        self.read.fetch_add(bytes, Ordering::Relaxed);
        if self.rate == 0 {
            return;
        }
        let now = clock.now();
        let due = {
            let mut spent = self.spent.lock();
            let since = *spent.since.get_or_insert(now);
            spent.bytes += bytes;
            since + Duration::from_secs_f64(spent.bytes as f64 / self.rate as f64)
        };
        let mut left = due.saturating_sub(now);
        while !left.is_zero() && !self.cancelled.load(Ordering::Relaxed) {
            let step = left.min(STEP_MAX);
            sync::sleep(step);
            left -= step;
        }
    }
}

impl Plan {
    /// The smallest range that holds all inputs; none for a plan that only drops tables.
    pub fn running_range(&self) -> Option<RunningRange> {
        let mut tables = self.inputs.iter().flat_map(|(_, t)| t);
        let first = tables.next()?;
        let mut smallest = &first.meta.smallest;
        let mut largest = &first.meta.largest;
        for table in tables {
            smallest = smallest.min(&table.meta.smallest);
            largest = max_upper(largest, &table.meta.largest);
        }
        let (smallest, largest): (Vec<u8>, Bound<Vec<u8>>) = (smallest.clone(), largest.clone());
        Some(RunningRange { from_level: self.from_level, to_level: self.to_level, smallest, largest })
    }

    /// The oldest data time of the inputs, in seconds since 1970.
    pub fn oldest_data(&self) -> u64 {
        self.inputs.iter().flat_map(|(_, t)| t).map(|t| t.meta.oldest_data).min().unwrap_or(0)
    }
}

/// The range that a running job reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningRange {
    /// Level of its upper inputs.
    pub from_level: usize,
    /// Level of its outputs.
    pub to_level: usize,
    /// Its smallest key.
    pub smallest: Vec<u8>,
    /// Where its keys end.
    pub largest: Bound<Vec<u8>>,
}

impl RunningRange {
    /// True if a key lies in both ranges.
    pub fn overlaps(&self, smallest: &[u8], largest: &Bound<Vec<u8>>) -> bool {
        key::upper_contains(&self.largest, smallest) && key::upper_contains(largest, &self.smallest)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} L{}->L{}", self.reason.name(), self.from_level, self.to_level)?;
        for (level, tables) in &self.inputs {
            write!(f, " L{level}:{}", Numbers(tables))?;
        }
        for (level, table) in &self.drop_only {
            write!(f, " drop L{level}:{}", table.number())?;
        }
        if self.inputs.is_empty() {
            return Ok(());
        }
        let depth = match self.depth {
            Depth::Young => "young",
            Depth::Deep => "deep",
            Depth::Bottom => "bottom",
        };
        write!(f, " depth={depth}")?;
        if self.bottom {
            f.write_str(" nothing-below")?;
        }
        if self.trivial_move {
            f.write_str(" move")?;
        }
        if !self.grandparents.is_empty() {
            write!(f, " grandparents={}", Numbers(&self.grandparents))?;
        }
        Ok(())
    }
}

/// The numbers of some tables, with commas.
struct Numbers<'a>(&'a [Arc<TableFile>]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, table) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{}", table.number())?;
        }
        Ok(())
    }
}
