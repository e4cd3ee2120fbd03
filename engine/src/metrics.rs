//! Counters. Always on, relaxed atomics, read as plain numbers.
//!
//! Every read of the database counts several things, so the counters of a database exist once for each lane
//! of threads ([`crate::sync::lane`]): threads that read at the same time do not fight for a cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sync::{LANES, lane};

/// Levels a family has: level 0 to 6.
pub const LEVELS: usize = 7;
/// Codec slots: the standard ids 0 to 6, and one for all custom codecs.
pub const CODEC_SLOTS: usize = 8;

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds 1.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Overwrites the count, for values that are a state rather than a sum.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

macro_rules! counters {
    ($(#[$meta:meta])* $live:ident => $plain:ident { $($(#[$doc:meta])* $name:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $live {
            $($(#[$doc])* pub $name: Counter,)*
        }

        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $plain {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl $live {
            /// The numbers as they are now.
            pub fn snapshot(&self) -> $plain {
                $plain { $($name: self.$name.get(),)* }
            }
        }

        impl $plain {
            /// Adds the numbers of `other` to these.
            fn add(&mut self, other: &$plain) {
                $(self.$name += other.$name;)*
            }

            /// Name and number of every counter, in the order of declaration.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Counters of a whole database since it was opened, by the threads of one lane.
    LaneMetrics => Counters {
        /// Batches committed.
        commits,
        /// Groups they were logged in.
        commit_groups,
        /// Entries written.
        entries_written,
        /// Bytes of keys and values written by the caller.
        bytes_written,
        /// Bytes appended to the log.
        log_bytes,
        /// Syncs of the log.
        log_syncs,
        /// Commits that waited for a sync.
        sync_commits,
        /// Log segments begun.
        log_segments,
        /// Edits written to the manifest.
        manifest_edits,
        /// Point reads.
        gets,
        /// Point reads answered by a memtable.
        memtable_hits,
        /// Filters asked.
        filter_checks,
        /// Filters that said no.
        filter_negatives,
        /// Filters that said maybe where the key was not.
        filter_false_positives,
        /// Filters that could not be read and were ignored.
        filter_errors,
        /// Blocks found in the cache.
        cache_hits,
        /// Blocks not found in the cache.
        cache_misses,
        /// Bytes read from tables.
        table_read_bytes,
        /// Blocks decoded on the thread that needed them.
        decodes_inline,
        /// Blocks decoded ahead by the pool.
        decodes_assisted,
        /// Blocks decoded ahead and then not needed.
        decodes_wasted,
        /// Times a pool worker was woken to decode.
        decode_wakeups,
        /// Blocks of slow codecs encoded by who wrote the table.
        encodes_inline,
        /// The same, encoded by the pool.
        encodes_assisted,
        /// Times a pool worker was woken to encode.
        encode_wakeups,
        /// Memtables flushed.
        flushes,
        /// Bytes of tables written by flushes.
        flush_bytes,
        /// Compactions finished (trivial moves not counted).
        compactions,
        /// Ranges of keys that running compactions gave to other threads.
        compaction_splits,
        /// Blocks whose values compactions stored again without compressing them.
        passed_blocks,
        /// Bytes read by compactions.
        compaction_read_bytes,
        /// Bytes written by compactions.
        compaction_write_bytes,
        /// Tables moved to the next level without being rewritten.
        trivial_moves,
        /// Compaction outputs cut at a table border of the next level but one.
        grandparent_cuts,
        /// Compactions picked for their tombstones.
        tombstone_compactions,
        /// Point tombstones dropped at the bottom.
        tombstones_dropped,
        /// Older versions dropped.
        versions_dropped,
        /// Entries dropped under a range tombstone.
        range_deleted_entries,
        /// Whole tables dropped because a range tombstone covers them.
        tables_dropped,
        /// Range tombstones cut at an output's border.
        range_tombstone_splits,
        /// Range tombstones dropped at the bottom.
        range_tombstones_dropped,
        /// Writes that were slowed down.
        slowdowns,
        /// Nanoseconds that writes were slowed down.
        slowdown_nanos,
        /// Writes that had to stop until background work was done.
        stalls,
        /// Nanoseconds that writes were stopped.
        stall_nanos,
        /// Flushes forced because the log grew past its limit.
        forced_flushes,
        /// Tables added by ingest.
        ingested_tables,
        /// Files removed because nobody needs them.
        files_deleted,
        /// Background jobs that failed.
        background_errors,
    }
}

/// Counters of a whole database since it was opened. Derefs to those of the calling thread's lane.
#[derive(Debug, Default)]
pub struct Metrics {
    lanes: [Lane; LANES],
}

/// A lane, with two cache lines to itself at both ends: they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(LaneMetrics);

impl Metrics {
    /// The numbers of all lanes together as they are now.
    pub fn snapshot(&self) -> Counters {
        let mut sum = Counters::default();
        self.lanes.iter().for_each(|lane| sum.add(&lane.0.snapshot()));
        sum
    }
}

impl std::ops::Deref for Metrics {
    type Target = LaneMetrics;

    #[inline]
    fn deref(&self) -> &LaneMetrics {
        &self.lanes[lane()].0
    }
}

counters! {
    /// Work of one codec on one level of one family.
    CodecMetrics => CodecCounters {
        /// Parts encoded.
        encoded_parts,
        /// Bytes before encoding.
        encoded_raw_bytes,
        /// Bytes after encoding, as stored.
        encoded_stored_bytes,
        /// Nanoseconds spent encoding.
        encode_nanos,
        /// Parts stored raw without being encoded, since they, or the values that they lead to, look like noise.
        vetoed_parts,
        /// Parts decoded.
        decoded_parts,
        /// Bytes before decoding, as stored.
        decoded_stored_bytes,
        /// Bytes after decoding.
        decoded_raw_bytes,
        /// Nanoseconds spent decoding, from one part in fifteen.
        decode_nanos,
    }
}

/// Counters of one level of one family, by codec slot.
#[derive(Debug, Default)]
pub struct LevelMetrics {
    /// By [`codec_slot`].
    pub codecs: [CodecMetrics; CODEC_SLOTS],
}

/// Lanes that the counters of a family have: fewer, since there may be many families, and a part takes longer
/// to decode than a read to count.
const FAMILY_LANES: usize = 4;

/// Counters of one family. Derefs to those of the calling thread's lane.
#[derive(Debug, Default)]
pub struct FamilyMetrics {
    lanes: [FamilyLane; FAMILY_LANES],
}

/// Counters of one family by the threads of one lane.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct FamilyLane {
    /// Level 0 to 6.
    pub levels: [LevelMetrics; LEVELS],
}

impl FamilyMetrics {
    /// The numbers of one codec slot on one level, of all lanes together.
    pub fn codec(&self, level: usize, slot: usize) -> CodecCounters {
        let mut sum = CodecCounters::default();
        self.lanes.iter().for_each(|lane| sum.add(&lane.levels[level].codecs[slot].snapshot()));
        sum
    }
}

impl std::ops::Deref for FamilyMetrics {
    type Target = FamilyLane;

    #[inline]
    fn deref(&self) -> &FamilyLane {
        &self.lanes[lane() % FAMILY_LANES]
    }
}

/// The slot of a codec id: the id itself for standard codecs, the last slot for the others.
pub fn codec_slot(id: u8) -> usize {
    usize::from(id).min(CODEC_SLOTS - 1)
}
