//! What a column family's tables look like at one moment: plain data and pure functions.
//!
//! A [`Version`] is immutable. A flush or a compaction describes its outcome as tables added and
//! deleted; [`Version::apply`] makes the next version from that, and refuses an outcome that does
//! not fit. Always true, and checked by [`Version::check_invariants`] alone:
//!
//! * level 0 lists its tables newest first; they may overlap;
//! * every deeper level is sorted by smallest key and its tables are disjoint;
//! * a table's number appears once, its bounds are not empty, its sequence bounds are in order.
//!
//! A [`TableFile`] lives as long as somebody can still read the table. The last one to let go of a
//! table that no version needs any more tells the [`Reaper`], which only queues: dropping never
//! touches the file system.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;

use crate::error::{Error, Result};
use crate::field::UnknownFields;
use crate::key::{SEQ_MAX, SeqNo, cmp_upper, upper_contains};
use crate::metrics::LEVELS;
use crate::options::CfOptions;
use crate::sabotage::{self, Bug};
use crate::sync::atomic::{AtomicBool, Ordering as Memory};
use crate::sync::{Arc, Weak};

pub mod current;
pub mod edit;
pub mod manifest;

/// Where a file was made: what its header says and its checksums are salted with. A checkpoint or a
/// restore may give the file another name; its origin stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The database that wrote the file.
    pub db_id: u128,
    /// The number it had there.
    pub number: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}/{}", self.db_id, self.number)
    }
}

/// What the manifest knows about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// The number in its file name.
    pub number: u64,
    /// What its header and salts say.
    pub origin: Origin,
    /// Length of the file in bytes.
    pub size: u64,
    /// xxh3-128 of the whole file.
    pub hash: u128,
    /// The smallest user key, range tombstones included.
    pub smallest: Vec<u8>,
    /// The upper end of the user keys, range tombstones included.
    pub largest: Bound<Vec<u8>>,
    /// The smallest sequence number of an entry.
    pub seq_min: SeqNo,
    /// The largest sequence number of an entry.
    pub seq_max: SeqNo,
    /// Point entries, point tombstones included.
    pub entries: u64,
    /// Point tombstones.
    pub deletes: u64,
    /// Fragments of range tombstones.
    pub range_deletes: u64,
    /// Bytes of keys and values before compression.
    pub raw_bytes: u64,
    /// When the table was written, in seconds since 1970.
    pub created: u64,
    /// When its oldest entry came into the database, in seconds since 1970.
    pub oldest_data: u64,
    /// The sequence number of every entry, in place of the stored ones: set for ingested tables.
    pub seq_override: Option<SeqNo>,
    /// A trivial move left blocks in another codec than the level wants; rewritten when idle.
    pub owes_codec: bool,
    /// What a later version of Lignite wrote about the table and this one hands on.
    pub unknown: UnknownFields,
}

/// What no size, count or time of a table comes near. It leaves room to add up those of all tables.
const COUNT_MAX: u64 = 1 << 48;

impl TableMeta {
    /// True if some key can lie both in the table and in `first ..last`.
    pub fn overlaps(&self, first: &[u8], last: &Bound<Vec<u8>>) -> bool {
        upper_contains(last, &self.smallest) && upper_contains(&self.largest, first)
    }

    /// True if `key` lies within the table's bounds.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.smallest.as_slice() <= key && upper_contains(&self.largest, key)
    }

    /// True if every key of the table is smaller than `key`.
    fn is_before(&self, key: &[u8]) -> bool {
        !upper_contains(&self.largest, key)
    }

    /// The same table, ingested under the number `seq`, which all its entries show from then on.
    #[must_use]
    pub fn ingested_at(self, seq: SeqNo) -> TableMeta {
        TableMeta { seq_override: Some(seq), seq_min: seq, seq_max: seq, ..self }
    }

    /// Fails if a bound makes no sense.
    pub fn check(&self) -> Result<()> {
        let fail = |what: &str| Err(Error::corruption(format!("table {}: {what}", self.number)));
        if !upper_contains(&self.largest, &self.smallest) {
            return fail("its smallest key lies above its largest");
        }
        if self.seq_min > self.seq_max || self.seq_max > SEQ_MAX {
            return fail("its sequence bounds are out of order");
        }
        if self.seq_override.is_some_and(|seq| seq > SEQ_MAX) {
            return fail("its sequence override is out of range");
        }
        let counts = [self.size, self.entries, self.range_deletes, self.raw_bytes, self.created, self.oldest_data];
        if counts.iter().any(|&n| n > COUNT_MAX) {
            return fail("its numbers are beyond everything that a table can have");
        }
        if self.deletes > self.entries {
            return fail("it has more tombstones than entries");
        }
        Ok(())
    }
}

impl fmt::Display for TableMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} size={} keys={}..", self.number, self.size, ShownKey(&self.smallest))?;
        match &self.largest {
            Bound::Included(key) => write!(f, "={}", ShownKey(key))?,
            Bound::Excluded(key) => write!(f, "{}", ShownKey(key))?,
            Bound::Unbounded => {}
        }
        write!(f, " seq={}..={} entries={} deletes={}", self.seq_min, self.seq_max, self.entries, self.deletes)?;
        write!(f, " range_deletes={} raw={}", self.range_deletes, self.raw_bytes)?;
        write!(f, " created={} oldest={}", self.created, self.oldest_data)?;
        write!(f, " hash={:032x} origin={}", self.hash, self.origin)?;
        if let Some(seq) = self.seq_override {
            write!(f, " seq_override={seq}")?;
        }
        if self.owes_codec {
            f.write_str(" owes-codec")?;
        }
        Ok(())
    }
}

/// A user key in a line of text: quoted, escaped, and cut after 32 bytes.
pub struct ShownKey<'a>(pub &'a [u8]);

impl fmt::Display for ShownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let cut = self.0.len().min(SHOWN);
        write!(f, "\"{}\"", self.0[..cut].escape_ascii())?;
        if self.0.len() > cut {
            write!(f, "+{}", self.0.len() - cut)?;
        }
        Ok(())
    }
}

/// Is told the numbers of table files that nobody needs any more.
pub trait Reaper: Send + Sync {
    /// Queues the removal of table `number`. Called from destructors: must not block or touch files.
    fn reap(&self, number: u64);
}

/// A table that versions, iterators and jobs share.
#[derive(Debug)]
pub struct TableFile {
    /// What the manifest knows about it.
    pub meta: TableMeta,
    life: Arc<Life>,
}

/// The file itself, shared by every [`TableFile`] that describes it.
struct Life {
    number: u64,
    obsolete: AtomicBool,
    reaper: Option<Weak<dyn Reaper>>,
}

impl TableFile {
    /// A table whose file `reaper` removes once it is obsolete and out of use. If the reaper is gone
    /// by then, the next open finds the file and removes it.
    pub fn new(meta: TableMeta, reaper: Weak<dyn Reaper>) -> Arc<TableFile> {
        TableFile::with_life(meta, Some(reaper))
    }

    /// A table whose file nobody removes.
    pub fn unmanaged(meta: TableMeta) -> Arc<TableFile> {
        TableFile::with_life(meta, None)
    }

    fn with_life(meta: TableMeta, reaper: Option<Weak<dyn Reaper>>) -> Arc<TableFile> {
        let life = Life { number: meta.number, obsolete: AtomicBool::new(false), reaper };
        Arc::new(TableFile { meta, life: Arc::new(life) })
    }

    /// The same file under changed words, such as after a trivial move: the file goes only when both
    /// descriptions are out of use.
    pub fn described_as(&self, meta: TableMeta) -> Arc<TableFile> {
        debug_assert_eq!(meta.number, self.meta.number);
        Arc::new(TableFile { meta, life: self.life.clone() })
    }

    /// The number in the file's name.
    pub fn number(&self) -> u64 {
        self.meta.number
    }

    /// Says that no version from here on names the file: it goes when the last user lets go.
    pub fn mark_obsolete(&self) {
        self.life.obsolete.store(true, Memory::Release);
    }

    /// True after [`TableFile::mark_obsolete`].
    pub fn is_obsolete(&self) -> bool {
        self.life.obsolete.load(Memory::Acquire)
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Life({}, obsolete: {:?})", self.number, self.obsolete)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if !self.obsolete.load(Memory::Acquire) {
            return;
        }
        if let Some(reaper) = self.reaper.as_ref().and_then(Weak::upgrade) {
            reaper.reap(self.number);
        }
    }
}

/// The tables of one column family.
#[derive(Clone, Debug, Default)]
pub struct Version {
    /// Level 0 newest first (by largest sequence number, then number); the others by smallest key.
    pub levels: [Vec<Arc<TableFile>>; LEVELS],
    /// By level, whether one of its tables has range tombstones.
    range_deletes: [bool; LEVELS],
}

impl Version {
    /// No tables.
    pub fn new() -> Version {
        Version::default()
    }

    /// The version after `deleted` (level, number) went and `added` (level, table) came. A table may
    /// be deleted from one level and added to another in the same step.
    pub fn apply(&self, added: &[(usize, Arc<TableFile>)], deleted: &[(usize, u64)]) -> Result<Version> {
        let mut next = self.clone();
        for &(level, number) in deleted {
            let tables = next.level_mut(level)?;
            let Some(at) = tables.iter().position(|t| t.meta.number == number) else {
                return Err(Error::corruption(format!("table {number} is to go from level {level}, but is not there")));
            };
            tables.remove(at);
        }
        for (level, table) in added {
            next.level_mut(*level)?.push(table.clone());
        }
        let (level0, deeper) = next.levels.split_at_mut(1);
        level0[0].sort_by(|a, b| newest_first(&a.meta, &b.meta));
        for tables in deeper {
            tables.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
        }
        next.check_invariants()?;
        for (tables, has) in next.levels.iter().zip(&mut next.range_deletes) {
            *has = tables.iter().any(|t| t.meta.range_deletes > 0);
        }
        Ok(next)
    }

    /// True if a table of the level has range tombstones.
    pub fn has_range_deletes(&self, level: usize) -> bool {
        self.range_deletes[level]
    }

    /// Fails if one of the truths of the module head does not hold.
    pub fn check_invariants(&self) -> Result<()> {
        let mut numbers: Vec<u64> = Vec::with_capacity(self.table_count());
        for (level, tables) in self.levels.iter().enumerate() {
            for table in tables {
                table.meta.check().map_err(|e| e.context(format!("level {level}")))?;
                numbers.push(table.meta.number);
            }
            for pair in tables.windows(2) {
                let (a, b) = (&pair[0].meta, &pair[1].meta);
                if level == 0 {
                    if newest_first(a, b) != Ordering::Less {
                        return Err(Error::corruption(format!(
                            "level 0: tables {} and {} are not newest first",
                            a.number, b.number
                        )));
                    }
                } else if !a.is_before(&b.smallest) {
                    return Err(Error::corruption(format!(
                        "level {level}: tables {} and {} overlap or are out of order",
                        a.number, b.number
                    )));
                }
            }
        }
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::corruption(format!("table {} is listed twice", pair[0])));
        }
        Ok(())
    }

    /// The table of `level` (1 or deeper) whose bounds contain `key`; there is at most one.
    pub fn table_for_key(&self, level: usize, key: &[u8]) -> Option<&Arc<TableFile>> {
        Some(&self.levels[level][self.position_for_key(level, key)?])
    }

    /// The position of that table in its level.
    #[inline]
    pub fn position_for_key(&self, level: usize, key: &[u8]) -> Option<usize> {
        debug_assert!(level > 0, "level 0 may have several");
        let tables = &self.levels[level];
        let at = tables.partition_point(|t| t.meta.is_before(key));
        tables.get(at).filter(|t| t.meta.smallest.as_slice() <= key).map(|_| at)
    }

    /// The tables of `level` that overlap `first ..last`, in the level's order.
    pub fn overlapping(&self, level: usize, first: &[u8], last: &Bound<Vec<u8>>) -> Vec<Arc<TableFile>> {
        let tables = &self.levels[level];
        if level == 0 {
            return tables.iter().filter(|t| t.meta.overlaps(first, last)).cloned().collect();
        }
        let from = tables.partition_point(|t| t.meta.is_before(first));
        let to = tables.partition_point(|t| upper_contains(last, &t.meta.smallest));
        tables.get(from..to).unwrap_or_default().to_vec()
    }

    /// True if a table of `level` or deeper overlaps `first ..last`.
    pub fn overlaps_at_or_below(&self, level: usize, first: &[u8], last: &Bound<Vec<u8>>) -> bool {
        (level..LEVELS).any(|l| {
            if l == 0 {
                return self.levels[0].iter().any(|t| t.meta.overlaps(first, last));
            }
            let from = self.levels[l].partition_point(|t| t.meta.is_before(first));
            self.levels[l].get(from).is_some_and(|t| upper_contains(last, &t.meta.smallest))
        })
    }

    /// Bytes on disk of a level.
    pub fn level_size(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|t| t.meta.size).sum()
    }

    /// Bytes of keys and values of a level before compression.
    pub fn level_raw_bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|t| t.meta.raw_bytes).sum()
    }

    /// Bytes on disk of all tables.
    pub fn total_size(&self) -> u64 {
        (0..LEVELS).map(|level| self.level_size(level)).sum()
    }

    /// The number of tables.
    pub fn table_count(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }

    /// True if there are no tables.
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(Vec::is_empty)
    }

    /// Every table with its level, from the top down.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Arc<TableFile>)> {
        self.levels.iter().enumerate().flat_map(|(level, tables)| tables.iter().map(move |t| (level, t)))
    }

    /// The largest sequence number in a table; 0 if there are none.
    pub fn seq_max(&self) -> SeqNo {
        self.tables().map(|(_, t)| t.meta.seq_override.unwrap_or(t.meta.seq_max)).max().unwrap_or(0)
    }

    /// The deepest level that holds a table; 0 if there are none.
    pub fn last_level(&self) -> usize {
        self.levels.iter().rposition(|tables| !tables.is_empty()).unwrap_or(0)
    }

    /// The level that level 0 is compacted into.
    ///
    /// Level sizes are counted from the bottom: the deepest level may hold what the largest level
    /// holds today, each level above it `fan_out` times less. The base level is the deepest one
    /// whose share is at most `base_level_size`; it is never below a level that holds data.
    pub fn base_level(&self, options: &CfOptions) -> usize {
        let largest = (1..LEVELS).map(|level| self.level_size(level)).max().unwrap_or(0);
        let mut level = (1..LEVELS).find(|&level| !self.levels[level].is_empty()).unwrap_or(LEVELS - 1);
        let fan_out = u64::from(options.fan_out.max(2));
        let mut target = (level..LEVELS - 1).fold(largest, |size, _| size / fan_out);
        while level > 1 && target > options.base_level_size {
            level -= 1;
            target /= fan_out;
        }
        level
    }

    fn level_mut(&mut self, level: usize) -> Result<&mut Vec<Arc<TableFile>>> {
        self.levels.get_mut(level).ok_or_else(|| Error::corruption(format!("there is no level {level}")))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, tables) in self.levels.iter().enumerate().filter(|(_, tables)| !tables.is_empty()) {
            writeln!(f, "level {level}: {} tables, {} bytes", tables.len(), self.level_size(level))?;
            for table in tables {
                writeln!(f, "  {}", table.meta)?;
            }
        }
        Ok(())
    }
}

/// The greater of two upper ends.
pub fn max_upper<'a>(a: &'a Bound<Vec<u8>>, b: &'a Bound<Vec<u8>>) -> &'a Bound<Vec<u8>> {
    if cmp_upper(a, b) == Ordering::Less { b } else { a }
}

fn newest_first(a: &TableMeta, b: &TableMeta) -> Ordering {
    let newest = |m: &TableMeta| (m.seq_override.unwrap_or(m.seq_max), m.number);
    if sabotage::is(Bug::OldestFirst) {
        return newest(a).cmp(&newest(b));
    }
    newest(b).cmp(&newest(a))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sync::Mutex;

    fn meta(number: u64, smallest: &str, largest: &str, seq_max: u64) -> TableMeta {
        TableMeta {
            number,
            origin: Origin { db_id: 1, number },
            size: 1000,
            hash: 7,
            smallest: smallest.into(),
            largest: Bound::Included(largest.into()),
            seq_min: 1,
            seq_max,
            entries: 10,
            deletes: 0,
            range_deletes: 0,
            raw_bytes: 3000,
            created: 5,
            oldest_data: 4,
            seq_override: None,
            owes_codec: false,
            unknown: UnknownFields::default(),
        }
    }

    fn table(number: u64, smallest: &str, largest: &str) -> Arc<TableFile> {
        TableFile::unmanaged(meta(number, smallest, largest, number))
    }

    #[test]
    fn apply_sorts_moves_and_refuses() {
        let v = Version::new()
            .apply(
                &[(0, table(3, "a", "z")), (0, table(9, "c", "d")), (2, table(5, "m", "p")), (2, table(4, "a", "c"))],
                &[],
            )
            .unwrap();
        assert_eq!(v.levels[0].iter().map(|t| t.number()).collect::<Vec<_>>(), [9, 3]);
        assert_eq!(v.levels[2].iter().map(|t| t.number()).collect::<Vec<_>>(), [4, 5]);
        assert!(v.apply(&[(2, table(6, "c", "d"))], &[]).is_err(), "overlap in level 2");
        assert!(v.apply(&[(3, table(9, "c", "d"))], &[]).is_err(), "listed twice");
        assert!(v.apply(&[], &[(2, 9)]).is_err(), "not in that level");
        assert!(v.apply(&[(LEVELS, table(8, "c", "d"))], &[]).is_err());
        let moved = v.apply(&[(3, v.levels[2][0].clone())], &[(2, 4)]).unwrap();
        assert_eq!((moved.levels[2].len(), moved.levels[3].len()), (1, 1));
        assert_eq!(moved.last_level(), 3);
    }

    #[test]
    fn keys_and_ranges_find_their_tables() {
        let mut open_end = meta(7, "t", "t", 7);
        open_end.largest = Bound::Unbounded;
        let mut half_open = meta(6, "m", "q", 6);
        half_open.largest = Bound::Excluded(b"q".to_vec());
        let added = [
            (1, table(5, "a", "c")),
            (1, TableFile::unmanaged(half_open)),
            (1, TableFile::unmanaged(open_end)),
            (0, table(8, "b", "n")),
        ];
        let v = Version::new().apply(&added, &[]).unwrap();
        let found = |key: &str| v.table_for_key(1, key.as_bytes()).map(|t| t.number());
        assert_eq!([found("a"), found("c"), found("d"), found("m")], [Some(5), Some(5), None, Some(6)]);
        assert_eq!([found("p"), found("q"), found("t"), found("zz")], [Some(6), None, Some(7), Some(7)]);
        let over = |first: &str, last: Bound<&str>| -> Vec<u64> {
            let last = last.map(|k| k.as_bytes().to_vec());
            let tables = v.overlapping(1, first.as_bytes(), &last);
            assert_eq!(!tables.is_empty(), v.overlaps_at_or_below(1, first.as_bytes(), &last));
            tables.iter().map(|t| t.number()).collect()
        };
        assert_eq!(over("c", Bound::Excluded("m")), [5]);
        assert_eq!(over("c", Bound::Included("m")), [5, 6]);
        assert_eq!(over("q", Bound::Included("s")), []);
        assert_eq!(over("z", Bound::Unbounded), [7]);
        assert_eq!(over("d", Bound::Excluded("b")), [], "an empty range");
        assert_eq!(v.overlapping(0, b"o", &Bound::Unbounded).len(), 0);
    }

    #[test]
    fn the_base_level_rises_as_data_grows() {
        let options = CfOptions::new().base_level_size(4096).fan_out(10);
        assert_eq!(Version::new().base_level(&options), LEVELS - 1);
        let sized = |size: u64| {
            let mut m = meta(1, "a", "b", 1);
            m.size = size;
            Version::new().apply(&[(LEVELS - 1, TableFile::unmanaged(m))], &[]).unwrap().base_level(&options)
        };
        assert_eq!(sized(4096), 6);
        assert_eq!(sized(5000), 5);
        assert_eq!(sized(40_960), 5);
        assert_eq!(sized(400_000), 4);
        assert_eq!(sized(COUNT_MAX), 1);
    }

    #[test]
    fn bad_bounds_are_refused() {
        let refused = |change: &dyn Fn(&mut TableMeta)| {
            let mut m = meta(1, "b", "c", 9);
            change(&mut m);
            Version::new().apply(&[(1, TableFile::unmanaged(m))], &[]).is_err()
        };
        assert!(!refused(&|_| {}));
        assert!(refused(&|m| m.largest = Bound::Excluded(b"b".to_vec())));
        assert!(refused(&|m| m.seq_min = 10));
        assert!(refused(&|m| m.size = COUNT_MAX + 1));
        assert!(refused(&|m| m.raw_bytes = u64::MAX));
        assert!(refused(&|m| m.seq_max = SEQ_MAX + 1));
        assert!(refused(&|m| m.deletes = 11));
    }

    #[test]
    fn an_obsolete_file_is_reaped_by_the_last_user() {
        #[derive(Default)]
        struct Queue(Mutex<Vec<u64>>);
        impl Reaper for Queue {
            fn reap(&self, number: u64) {
                self.0.lock().push(number);
            }
        }
        let queue = Arc::new(Queue::default());
        let reaper: Arc<dyn Reaper> = queue.clone();
        let kept = TableFile::new(meta(1, "a", "b", 1), Arc::downgrade(&reaper));
        drop(kept);
        let table = TableFile::new(meta(2, "a", "b", 1), Arc::downgrade(&reaper));
        let moved = table.described_as(TableMeta { owes_codec: true, ..table.meta.clone() });
        moved.mark_obsolete();
        drop(moved);
        assert!(queue.0.lock().is_empty(), "the first description is still in use");
        drop(table);
        assert_eq!(*queue.0.lock(), [2]);
    }

    #[test]
    fn one_line_and_a_tree() {
        let mut m = meta(12, "a\n", "b", 9);
        m.seq_override = Some(9);
        m.owes_codec = true;
        assert_eq!(
            m.to_string(),
            "table 12 size=1000 keys=\"a\\n\"..=\"b\" seq=1..=9 entries=10 deletes=0 range_deletes=0 raw=3000 created=5 \
             oldest=4 hash=00000000000000000000000000000007 origin=00000000000000000000000000000001/12 seq_override=9 owes-codec"
        );
        let v = Version::new().apply(&[(2, TableFile::unmanaged(m.clone()))], &[]).unwrap();
        assert_eq!(v.to_string(), format!("level 2: 1 tables, 1000 bytes\n  {m}\n"));
    }
}
