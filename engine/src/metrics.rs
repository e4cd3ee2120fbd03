//! Counters. Always on, relaxed atomics, read as plain numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
            /// Name and number of every counter, in the order of declaration.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Counters of a whole database since it was opened.
    Metrics => Counters {
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
        /// Times a pool worker was woken.
        decode_wakeups,
        /// Memtables flushed.
        flushes,
        /// Bytes of tables written by flushes.
        flush_bytes,
        /// Compactions finished (trivial moves not counted).
        compactions,
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
        /// Parts decoded.
        decoded_parts,
        /// Bytes before decoding, as stored.
        decoded_stored_bytes,
        /// Bytes after decoding.
        decoded_raw_bytes,
        /// Nanoseconds spent decoding.
        decode_nanos,
    }
}

/// Counters of one level of one family, by codec slot.
#[derive(Debug, Default)]
pub struct LevelMetrics {
    /// By [`codec_slot`].
    pub codecs: [CodecMetrics; CODEC_SLOTS],
}

/// Counters of one family, by level.
#[derive(Debug, Default)]
pub struct FamilyMetrics {
    /// Level 0 to 6.
    pub levels: [LevelMetrics; LEVELS],
}

/// The slot of a codec id: the id itself for standard codecs, the last slot for the others.
pub fn codec_slot(id: u8) -> usize {
    usize::from(id).min(CODEC_SLOTS - 1)
}
