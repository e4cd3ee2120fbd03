//! Deliberate bugs, for testing the tests (RELIABILITY T21).
//!
//! Each is a way in which an engine of this field has really lost data, or nearly so, built into the
//! place where it would stand here. None is there unless the crate is compiled with the feature
//! `sabotage`: without it [`is`] is false when the compiler runs, and nothing of them is left in the
//! program. With it, [`activate`] switches on one at a time, for the whole process, and the suite must
//! then fail.
//!
//! A `row` is the number of the real bug in section 2 of RELIABILITY that it was made after.

use std::sync::atomic::{AtomicU32, Ordering};

/// One deliberate bug, for lists.
#[derive(Clone, Copy, Debug)]
pub struct Sabotage {
    /// Which one.
    pub bug: Bug,
    /// Its name on the command line.
    pub name: &'static str,
    /// The row of the real bug it was made after.
    pub row: Option<u32>,
    /// What it does wrong.
    pub what: &'static str,
}

macro_rules! bugs {
    ($($bug:ident $name:literal $row:expr, $what:literal;)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Bug {
            $(#[doc = $what] $bug,)*
        }

        /// All of them.
        pub const ALL: &[Sabotage] = &[$(Sabotage { bug: Bug::$bug, name: $name, row: $row, what: $what },)*];
    };
}

bugs! {
    RecoverySkipsFamily "recovery-skips-family" Some(1), "Recovery makes all families durable but the last.";
    RecoveryDirNotSynced "recovery-dir-not-synced" Some(2), "Recovery lets the log go before its tables' names are durable.";
    CurrentDirNotSynced "current-dir-not-synced" Some(3), "The directory is not synced after CURRENT was replaced.";
    ManifestSyncIgnored "manifest-sync-ignored" Some(4), "A failed sync of the manifest counts as done.";
    FlushMarksAllFamilies "flush-marks-all-families" Some(5), "A flush of one family marks every family as flushed.";
    FailedAppendForgiven "failed-append-forgiven" Some(6), "The log goes on after an append that failed in an unknown way.";
    ReadErrorIsEnd "read-error-is-end" Some(7), "An error while the log is read counts as its end.";
    GapReplayed "gap-replayed" Some(8), "A log that ends too early is followed by the next one.";
    LogReleasedEarly "log-released-early" Some(10), "Log segments go before the edit that lets them go.";
    ManifestAheadOfLog "manifest-ahead-of-log" Some(11), "An edit is written before the log that it reflects is durable.";
    DamageIsTail "damage-is-tail" Some(12), "Damage in the middle of the log ends the replay in silence.";
    OlderDamageSkipped "older-damage-skipped" Some(13), "Damage in an older segment is skipped, newer ones are replayed.";
    UncleanTailIsDamage "unclean-tail-is-damage" Some(14), "A torn tail with a younger segment behind it counts as damage.";
    RecordsUnchecked "records-unchecked" Some(15), "The checksums of log records are not compared.";
    PromiseNeverAdvances "promise-never-advances" Some(16), "Log records never say how far the log was durable.";
    ReplayBelow "replay-below" Some(18), "A replay puts newer entries below older ones.";
    RotateWithoutSync "rotate-without-sync" Some(19), "A sync skips the segments before the newest.";
    ManifestNotSynced "manifest-not-synced" Some(21), "CURRENT names a manifest that is not durable.";
    CurrentNotSynced "current-not-synced" Some(22), "CURRENT is put in place before its bytes are durable.";
    FlushNotSynced "flush-not-synced" Some(24), "A flushed table is referenced before it is durable.";
    WriteErrorDiscarded "write-error-discarded" Some(25), "An error of a write to the log is discarded.";
    GarbageBetweenRecords "garbage-between-records" Some(26), "A partial write is left in the log, and records follow it.";
    RangeDeleteNotReplayed "range-delete-not-replayed" Some(27), "A replay leaves out range deletes.";
    NewLogIgnored "new-log-ignored" Some(28), "The next open ignores the log that a recovery began.";
    BadNamePanics "bad-name-panics" Some(30), "A family name that is not UTF-8 panics.";
    ReplayStopsEarly "replay-stops-early" Some(32), "Recovery makes only the oldest memtable of a family durable.";
    FlushMarkTooHigh "flush-mark-too-high" Some(33), "A flush marks as durable what is still in the memtable.";
    LogsGoneBeforeCurrent "logs-gone-before-current" Some(35), "Recovery removes old logs before CURRENT names the new state.";
    ZerosSkipped "zeros-skipped" Some(36), "A run of zeros in the log is skipped.";
    StaleTempBlocks "stale-temp-blocks" Some(37), "A half-written CURRENT.tmp stands in the way for ever.";
    HalfMadeRefused "half-made-refused" Some(38), "A database whose making was interrupted is refused.";
    CompactionNotSynced "compaction-not-synced" Some(39), "A compacted table is referenced before it is durable.";
    TornTailRefused "torn-tail-refused" Some(40), "Every torn tail is refused as damage.";
    TornHeaderRefused "torn-header-refused" Some(42), "A torn header of a segment makes the database unopenable.";
    CutInsideKey "cut-inside-key" Some(44), "A compaction cuts between the versions of a key.";
    TombstonesDropEarly "tombstones-drop-early" Some(45), "Compactions above the bottom drop tombstones.";
    RangeTombstonesDropEarly "range-tombstones-drop-early" Some(46), "Compactions above the bottom drop range tombstones.";
    FragmentLosesNumbers "fragment-loses-numbers" Some(47), "A fragment keeps only its newest range tombstone.";
    RangeTombstoneNotCut "range-tombstone-not-cut" Some(48), "Range tombstones are not cut at the borders of tables.";
    SnapshotsIgnored "snapshots-ignored" Some(49), "Flushes and compactions do not ask for snapshots.";
    IngestTooDeep "ingest-too-deep" Some(51), "An ingest goes below what it is newer than.";
    FileNumberReused "file-number-reused" Some(52), "Numbers of files that were left over are given again.";
    BottomByUpperOnly "bottom-by-upper-only" Some(53), "Whether a compaction is at the bottom is asked for one input only.";
    BaseLevelSkipped "base-level-skipped" Some(54), "Level 0 is compacted past a level that has data.";
    OldestFirst "oldest-first" Some(57), "Tables of level 0 are searched oldest first.";
    StoredAsRaw "stored-as-raw" Some(58), "Compressed values are described as raw.";
    DroppedFamilyEdited "dropped-family-edited" Some(59), "A job's edit is written although its family was dropped.";
    CoveredUnderSnapshot "covered-under-snapshot" Some(60), "Tables under a range tombstone go although a snapshot sees them.";
    InputsNotClaimed "inputs-not-claimed" Some(61), "Two compactions may take the same tables.";
    FullManifestGoesOn "full-manifest-goes-on" Some(65), "The manifest goes on behind a write that failed.";
    FullDiskPoisons "full-disk-poisons" Some(66), "A full disk refuses writes for ever.";
    DebtNeverFalls "debt-never-falls" Some(68), "Finished jobs do not lift a stop of writes.";
    LogUnbounded "log-unbounded" Some(69), "Nobody flushes the family that pins the log.";
    FailureTakesNumber "failure-takes-number" Some(70), "A write that fails uses up its sequence numbers.";
    UnopenableInputSkipped "unopenable-input-skipped" Some(71), "A compaction leaves out inputs that it cannot open.";
    LockNotTaken "lock-not-taken" Some(72), "The directory is not locked.";
    OutputNotVerified "output-not-verified" Some(73), "A compaction does not read back what it wrote.";
    LengthNotHeld "length-not-held" Some(74), "Lengths of blocks are not held against their limit.";
    ValuesUnchecked "values-unchecked" Some(75), "The lengths of a block's values are not checked.";
    AckBeforeSync "ack-before-sync" None, "A write that is to wait for the device does not.";
    SyncRetried "sync-retried" None, "A sync that failed is tried again, and the second answer counts.";
    PublishBeforeApply "publish-before-apply" None, "Readers may see a batch before it is in the memtables.";
    FilterDenies "filter-denies" None, "A filter denies one key in 256 that is there.";
    SealKept "seal-kept" None, "An open after a clean close does not withdraw the seal.";
    LastNumberForgotten "last-number-forgotten" None, "Recovery does not count the numbers in the log as used.";
    SnapshotSeesNext "snapshot-sees-next" None, "A snapshot sees the write that follows it.";
    BackwardUncovered "backward-uncovered" None, "Going backward, range deletes hide nothing.";
    SpaceNotWritten "space-not-written" Some(67), "Records are stored into a mapped log where no space was written.";
    SpaceOverRecords "space-over-records" None, "Space ahead of the log is written from too early a place.";
    MultiGetUncovered "multi-get-uncovered" None, "Range deletes in tables hide nothing from multi_get.";
}

static ACTIVE: AtomicU32 = AtomicU32::new(0);

/// Switches one bug on for the whole process, or all off. Without the feature `sabotage` it does nothing.
pub fn activate(bug: Option<Bug>) {
    ACTIVE.store(bug.map_or(0, |bug| bug as u32 + 1), Ordering::SeqCst);
}

/// True if this bug is switched on.
#[inline(always)]
pub fn is(bug: Bug) -> bool {
    cfg!(feature = "sabotage") && ACTIVE.load(Ordering::Relaxed) == bug as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_are_made_after_real_bugs_and_no_name_is_there_twice() {
        let mut names: Vec<&str> = ALL.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.len() >= 40 && ALL.iter().filter(|s| s.row.is_some()).count() >= 30);
    }

    #[test]
    fn nothing_is_active_from_the_start() {
        assert!(!ALL.iter().any(|s| is(s.bug)));
    }
}
