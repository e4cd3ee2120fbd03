//! The memtable: recent entries of one family, sorted, in memory.
//!
//! Entries are added in sequence order by the commit leader and are visible to concurrent readers
//! at once; who may see them is decided by the published sequence number. Keys and values are copied
//! into an arena that the memtable fills from one end; the [`tree`] over them lies there as well. Range
//! deletes are kept beside the sorted entries, in the fragmented form that reads ask.
//!
//! The tree is one of our own rather than `crossbeam-skiplist` or a skip list over arrays, which stood
//! here before: a search touches four or five nodes instead of twenty. And a cursor must own what it
//! walks, since an iterator outlives every lock and pin.

mod tree;

use crate::batch::BatchEntry;
use crate::key::{KeyRange, Kind, SeqNo, Tag};
use crate::memtable::tree::{Tree, TreeCursor};
use crate::slice::Slice;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, RwLock};
use crate::tombstone::{Fragments, RangeTombstone};

/// What a range delete costs beside its ends.
const RANGE_OVERHEAD: usize = 100;

/// Recent entries of one family.
#[derive(Debug)]
pub struct Memtable {
    id: u64,
    tree: Arc<Tree>,
    ranges: RwLock<Ranges>,
    /// Read without the lock by those who hope that there are none.
    n_ranges: AtomicUsize,
    counts: Counts,
}

/// What every added entry changes. Only who has the turn to write stores here.
#[derive(Debug)]
#[repr(align(128))] // Off the cache lines that readers need.
struct Counts {
    n_points: AtomicUsize,
    size: AtomicUsize,
    ranges_size: AtomicUsize,
    /// `SeqNo::MAX` while empty.
    first_seq: AtomicU64,
    last_seq: AtomicU64,
}

/// Range deletes: `fragments` holds the first `n_built` of `list`.
#[derive(Debug, Default)]
struct Ranges {
    list: Vec<RangeTombstone>,
    fragments: Arc<Fragments>,
    n_built: usize,
}

impl Memtable {
    /// An empty memtable, which has no memory yet. The id tells the memtables of a family apart.
    pub fn new(id: u64) -> Memtable {
        Memtable {
            id,
            tree: Arc::new(Tree::new()),
            ranges: RwLock::new(Ranges::default()),
            n_ranges: AtomicUsize::new(0),
            counts: Counts {
                n_points: AtomicUsize::new(0),
                size: AtomicUsize::new(0),
                ranges_size: AtomicUsize::new(0),
                first_seq: AtomicU64::new(SeqNo::MAX),
                last_seq: AtomicU64::new(0),
            },
        }
    }

    /// The number given at its making.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Adds an entry of a batch: copies key and value. It cannot fail: there is no limit to a memtable
    /// but memory, and when that runs out the process ends, as with every allocation.
    pub fn add(&self, entry: &BatchEntry<'_>, seq: SeqNo) {
        // Stores below need no read-modify-write: this is the turn to write.
        let mut writer = self.tree.writer();
        let counts = &self.counts;
        let add = |count: &AtomicUsize, n| count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        match *entry {
            BatchEntry::Put { key, value, .. } => {
                writer.insert(Tag::new(seq, Kind::Put), key, value);
                add(&counts.n_points, 1);
            }
            BatchEntry::Delete { key, .. } => {
                writer.insert(Tag::new(seq, Kind::Delete), key, &[]);
                add(&counts.n_points, 1);
            }
            BatchEntry::DeleteRange { start, end, .. } => {
                let tombstone = RangeTombstone { start: start.to_vec(), end: end.map(<[u8]>::to_vec), seq };
                self.ranges.write().list.push(tombstone);
                self.n_ranges.fetch_add(1, Ordering::Release);
                add(&counts.ranges_size, start.len() + end.map_or(0, <[u8]>::len) + RANGE_OVERHEAD);
            }
        }
        counts.size.store(writer.size() + counts.ranges_size.load(Ordering::Relaxed), Ordering::Relaxed);
        if seq < counts.first_seq.load(Ordering::Relaxed) {
            counts.first_seq.store(seq, Ordering::Relaxed);
        }
        if seq > counts.last_seq.load(Ordering::Relaxed) {
            counts.last_seq.store(seq, Ordering::Relaxed);
        }
    }

    /// Bytes of memory: those of the arena that are in use, and the range deletes roughly.
    pub fn size(&self) -> usize {
        self.counts.size.load(Ordering::Relaxed)
    }

    /// True if nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.first_seq().is_none()
    }

    /// The number of entries, range deletes included.
    pub fn entries(&self) -> u64 {
        (self.counts.n_points.load(Ordering::Relaxed) + self.n_ranges.load(Ordering::Relaxed)) as u64
    }

    /// The smallest sequence number; none while empty.
    pub fn first_seq(&self) -> Option<SeqNo> {
        Some(self.counts.first_seq.load(Ordering::Relaxed)).filter(|&seq| seq != SeqNo::MAX)
    }

    /// The largest sequence number; none while empty.
    pub fn last_seq(&self) -> Option<SeqNo> {
        self.first_seq().map(|_| self.counts.last_seq.load(Ordering::Relaxed))
    }

    /// The newest entry of `key` with a sequence number of at most `visible`; range deletes are not
    /// looked at. Allocates nothing.
    #[inline]
    pub fn get(&self, key: &[u8], visible: SeqNo) -> Option<(Tag, Slice)> {
        let record = self.tree.get(key, Tag::visible_at(visible))?;
        Some((Tag(record.tag()), Slice::from_arena(record.value_bytes())))
    }

    /// The greatest sequence number, at most `visible`, of a range delete over `key`.
    #[inline]
    pub fn covering(&self, key: &[u8], visible: SeqNo) -> Option<SeqNo> {
        if self.n_ranges.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.covering_slow(key, visible)
    }

    fn covering_slow(&self, key: &[u8], visible: SeqNo) -> Option<SeqNo> {
        {
            let ranges = self.ranges.read();
            let fresh = &ranges.list[ranges.n_built..];
            // A few fresh ones are looked through, so that a reader between range deletes does not
            // cut all of them anew each time; the bound balances the two costs.
            if fresh.len() <= 16 + ranges.list.len().isqrt() {
                let covers = |t: &&RangeTombstone| {
                    t.seq <= visible && t.start.as_slice() <= key && t.end.as_deref().is_none_or(|end| key < end)
                };
                let newest = fresh.iter().filter(covers).map(|t| t.seq).max();
                return newest.max(ranges.fragments.covering(key, visible));
            }
        }
        self.tombstones().covering(key, visible)
    }

    /// All range deletes, fragmented; made when first asked for after a range delete.
    pub fn tombstones(&self) -> Arc<Fragments> {
        {
            let ranges = self.ranges.read();
            if ranges.n_built == ranges.list.len() {
                return ranges.fragments.clone();
            }
        }
        let mut ranges = self.ranges.write();
        if ranges.n_built < ranges.list.len() {
            ranges.fragments = Arc::new(Fragments::build(ranges.list.iter().cloned()));
            ranges.n_built = ranges.list.len();
        }
        ranges.fragments.clone()
    }

    /// True if an entry or a range delete touches a key of `range`.
    pub fn has_overlap(&self, range: &KeyRange) -> bool {
        if range.is_empty() {
            return false;
        }
        let (first, limit) = (range.first(), range.limit());
        let before_limit = |key: &[u8]| limit.as_deref().is_none_or(|limit| key < limit);
        if self.tree.at_or_behind(&first, Tag::NEWEST).is_some_and(|record| before_limit(record.key())) {
            return true;
        }
        let ranges = self.ranges.read();
        ranges.list.iter().any(|t| before_limit(&t.start) && t.end.as_deref().is_none_or(|end| end > first.as_slice()))
    }

    /// A cursor over the point entries. It keeps them, and sees entries added later as well.
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        TreeCursor::new(self.tree.clone())
    }
}

/// A cursor over the point entries of a memtable.
pub type MemtableCursor = TreeCursor;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::batch::{WriteBatch, walk};
    use crate::iter::Cursor;
    use crate::key::FamilyId;
    use std::ops::Bound;

    fn fill(memtable: &Memtable, batch: &WriteBatch, first_seq: SeqNo) {
        for (i, entry) in walk(batch.as_bytes()).enumerate() {
            memtable.add(&entry.unwrap(), first_seq + i as u64);
        }
    }

    fn sample() -> Arc<Memtable> {
        let memtable = Arc::new(Memtable::new(1));
        let mut batch = WriteBatch::new();
        let family = FamilyId::DEFAULT;
        batch.put_id(family, b"b", b"one").put_id(family, b"d", b"two").delete_id(family, b"b");
        batch.delete_range_id(family, b"c", Some(b"e")).put_id(family, b"d", b"three");
        fill(&memtable, &batch, 10);
        memtable
    }

    #[test]
    fn gets_see_the_newest_visible_version() {
        let memtable = sample();
        let get = |key: &[u8], visible| memtable.get(key, visible).map(|(tag, value)| (tag.seq(), value.to_vec()));
        assert_eq!(get(b"b", 9), None);
        assert_eq!(get(b"b", 10), Some((10, b"one".to_vec())));
        assert_eq!(get(b"b", 99), Some((12, Vec::new())));
        assert_eq!(get(b"d", 13), Some((11, b"two".to_vec())));
        assert_eq!(get(b"d", 14), Some((14, b"three".to_vec())));
        assert_eq!(get(b"c", 99), None);
        assert_eq!(memtable.covering(b"d", 13), Some(13));
        assert_eq!(memtable.covering(b"d", 12), None);
        assert_eq!(memtable.tombstones().covering(b"d", 99), Some(13));
        assert_eq!(memtable.covering(b"e", 99), None);
        assert_eq!((memtable.first_seq(), memtable.last_seq(), memtable.entries()), (Some(10), Some(14), 5));
        assert!(memtable.size() > RANGE_OVERHEAD && memtable.size() < 2000 && Memtable::new(1).size() == 0);
    }

    #[test]
    fn overlap_counts_entries_and_range_deletes() {
        let memtable = sample();
        let range = |a: &[u8], b: &[u8]| KeyRange { start: Bound::Included(a.into()), end: Bound::Excluded(b.into()) };
        assert!(memtable.has_overlap(&range(b"a", b"bb")));
        assert!(!memtable.has_overlap(&range(b"a", b"b")));
        assert!(memtable.has_overlap(&range(b"ca", b"cb")), "a range delete lies there");
        assert!(!memtable.has_overlap(&range(b"e", b"z")));
        assert!(memtable.has_overlap(&KeyRange::ALL) && !Memtable::new(0).has_overlap(&KeyRange::ALL));
    }

    #[test]
    fn range_deletes_are_seen_at_once_however_many() {
        let memtable = Memtable::new(1);
        // Miri is slow.
        for i in 0..if cfg!(miri) { 60 } else { 2000u64 } {
            let mut batch = WriteBatch::new();
            let start = (i * 7919 % 500).to_be_bytes();
            let end = (i * 7919 % 500 + 3).to_be_bytes();
            batch.delete_range_id(FamilyId::DEFAULT, &start, Some(&end));
            fill(&memtable, &batch, i + 1);
            assert_eq!(memtable.covering(&start, SeqNo::MAX), Some(i + 1));
            if i % 100 == 0 {
                assert_eq!(memtable.covering(&start, i), memtable.tombstones().covering(&start, i));
            }
        }
    }

    #[test]
    fn readers_see_whole_entries_while_a_writer_adds() {
        let (n, n_keys) = if cfg!(miri) { (300, 50) } else { (20_000u64, 5000) };
        let memtable = Arc::new(Memtable::new(1));
        let published = Arc::new(AtomicU64::new(0));
        let (writer, done) = (memtable.clone(), published.clone());
        let handle = crate::sync::spawn("writer", move || {
            for seq in 1..=n {
                let mut batch = WriteBatch::new();
                let key = (seq * 7919 % n_keys).to_be_bytes();
                batch.put_id(FamilyId::DEFAULT, &key, &seq.to_be_bytes());
                fill(&writer, &batch, seq);
                done.store(seq, Ordering::Release);
            }
        })
        .unwrap();
        loop {
            let visible = published.load(Ordering::Acquire);
            let expected = visible.min(n_keys) as usize;
            let mut cursor = memtable.cursor();
            let mut keys = 0;
            let mut last: Option<Vec<u8>> = None;
            cursor.seek_to_last().unwrap();
            while cursor.valid() {
                assert_eq!(cursor.value(), cursor.tag().seq().to_be_bytes());
                if cursor.tag().seq() <= visible && last.as_deref() != Some(cursor.key()) {
                    keys += 1;
                    last = Some(cursor.key().to_vec());
                }
                cursor.prev().unwrap();
            }
            assert_eq!(keys, expected, "backward at {visible}");
            if visible == n {
                break;
            }
        }
        assert!(handle.join());
    }
}
