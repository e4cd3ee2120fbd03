//! The memtable: recent entries of one family, sorted, in memory.
//!
//! Entries are added in sequence order by the commit leader and are visible to concurrent readers
//! at once; who may see them is decided by the published sequence number. Keys and values are not
//! copied: an entry keeps the buffer of its write batch. Range deletes are kept beside the sorted
//! entries, in the fragmented form that reads ask.
//!
//! The index is a skip list over arrays rather than `crossbeam-skiplist`: cursors must own what they
//! walk (an iterator outlives every lock and pin), and the entries of that crate borrow their map.

mod chunks;
mod skiplist;

use crate::batch::BatchEntry;
use crate::error::Result;
use crate::iter::Cursor;
use crate::key::{KeyRange, Kind, SeqNo, Tag};
use crate::memtable::skiplist::{Entry, NONE, SkipList};
use crate::slice::Slice;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, RwLock};
use crate::tombstone::{Fragments, RangeTombstone};

/// What an entry costs beside its key and value: its node, links and share of the batch.
const ENTRY_OVERHEAD: usize = 100;

/// Recent entries of one family.
#[derive(Debug)]
pub struct Memtable {
    id: u64,
    list: SkipList,
    ranges: RwLock<Ranges>,
    /// Read without the lock by those who hope that there are none.
    n_ranges: AtomicUsize,
    n_points: AtomicUsize,
    size: AtomicUsize,
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
    /// An empty memtable. The id tells the memtables of a family apart.
    pub fn new(id: u64) -> Memtable {
        Memtable {
            id,
            list: SkipList::new(),
            ranges: RwLock::new(Ranges::default()),
            n_ranges: AtomicUsize::new(0),
            n_points: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
            first_seq: AtomicU64::new(SeqNo::MAX),
            last_seq: AtomicU64::new(0),
        }
    }

    /// The number given at its making.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Adds an entry of a batch. The positions in `entry` are positions in `buffer`, which is kept.
    pub fn add(&self, buffer: &Arc<[u8]>, entry: &BatchEntry<'_>, seq: SeqNo) {
        let size = match *entry {
            BatchEntry::Put { key, value, key_at, value_at, .. } => {
                let tag = Tag::new(seq, Kind::Put);
                self.list.insert(Entry::new(buffer, tag, key_at, key.len(), value_at, value.len()));
                self.n_points.fetch_add(1, Ordering::Relaxed);
                key.len() + value.len()
            }
            BatchEntry::Delete { key, key_at, .. } => {
                let tag = Tag::new(seq, Kind::Delete);
                self.list.insert(Entry::new(buffer, tag, key_at, key.len(), key_at, 0));
                self.n_points.fetch_add(1, Ordering::Relaxed);
                key.len()
            }
            BatchEntry::DeleteRange { start, end, .. } => {
                let tombstone = RangeTombstone { start: start.to_vec(), end: end.map(<[u8]>::to_vec), seq };
                self.ranges.write().list.push(tombstone);
                self.n_ranges.fetch_add(1, Ordering::Release);
                start.len() + end.map_or(0, <[u8]>::len)
            }
        };
        self.size.fetch_add(size + ENTRY_OVERHEAD, Ordering::Relaxed);
        self.first_seq.fetch_min(seq, Ordering::Relaxed);
        self.last_seq.fetch_max(seq, Ordering::Relaxed);
    }

    /// Bytes of memory, roughly.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// True if nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.first_seq().is_none()
    }

    /// The number of entries, range deletes included.
    pub fn entries(&self) -> u64 {
        (self.n_points.load(Ordering::Relaxed) + self.n_ranges.load(Ordering::Relaxed)) as u64
    }

    /// The smallest sequence number; none while empty.
    pub fn first_seq(&self) -> Option<SeqNo> {
        Some(self.first_seq.load(Ordering::Relaxed)).filter(|&seq| seq != SeqNo::MAX)
    }

    /// The largest sequence number; none while empty.
    pub fn last_seq(&self) -> Option<SeqNo> {
        self.first_seq().map(|_| self.last_seq.load(Ordering::Relaxed))
    }

    /// The newest entry of `key` with a sequence number of at most `visible`; range deletes are not
    /// looked at. Allocates nothing.
    #[inline]
    pub fn get(&self, key: &[u8], visible: SeqNo) -> Option<(Tag, Slice)> {
        let node = self.list.at_or_behind(key, Tag::visible_at(visible));
        if node == NONE {
            return None;
        }
        let entry = self.list.entry(node);
        (entry.key() == key).then(|| (entry.tag, entry.value_slice()))
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
        let node = self.list.at_or_behind(&first, Tag::NEWEST);
        if node != NONE && before_limit(self.list.entry(node).key()) {
            return true;
        }
        let ranges = self.ranges.read();
        ranges.list.iter().any(|t| before_limit(&t.start) && t.end.as_deref().is_none_or(|end| end > first.as_slice()))
    }

    /// A cursor over the point entries.
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor { memtable: self.clone(), node: NONE }
    }
}

/// A cursor over the point entries of a memtable. It sees entries added later as well.
#[derive(Debug)]
pub struct MemtableCursor {
    memtable: Arc<Memtable>,
    node: u32,
}

impl MemtableCursor {
    #[inline]
    fn entry(&self) -> &Entry {
        self.memtable.list.entry(self.node)
    }
}

impl Cursor for MemtableCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.node != NONE
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.node = self.memtable.list.next(NONE);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.node = self.memtable.list.prev(NONE);
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.node = self.memtable.list.at_or_behind(key, tag);
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.node = self.memtable.list.at_or_before(key, tag);
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if self.node != NONE {
            self.node = self.memtable.list.next(self.node);
        }
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if self.node != NONE {
            self.node = self.memtable.list.prev(self.node);
        }
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.entry().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.entry().tag
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.entry().value()
    }

    fn key_slice(&self) -> Slice {
        self.entry().key_slice()
    }

    fn value_slice(&self) -> Slice {
        self.entry().value_slice()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::batch::{WriteBatch, walk};
    use crate::key::FamilyId;
    use std::ops::Bound;

    fn fill(memtable: &Memtable, batch: WriteBatch, first_seq: SeqNo) {
        let buffer: Arc<[u8]> = batch.into_bytes().into();
        for (i, entry) in walk(&buffer).enumerate() {
            memtable.add(&buffer, &entry.unwrap(), first_seq + i as u64);
        }
    }

    fn sample() -> Arc<Memtable> {
        let memtable = Arc::new(Memtable::new(1));
        let mut batch = WriteBatch::new();
        let family = FamilyId::DEFAULT;
        batch.put_id(family, b"b", b"one").put_id(family, b"d", b"two").delete_id(family, b"b");
        batch.delete_range_id(family, b"c", Some(b"e")).put_id(family, b"d", b"three");
        fill(&memtable, batch, 10);
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
        assert!(memtable.size() > 5 * ENTRY_OVERHEAD);
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
        for i in 0..2000u64 {
            let mut batch = WriteBatch::new();
            let start = (i * 7919 % 500).to_be_bytes();
            let end = (i * 7919 % 500 + 3).to_be_bytes();
            batch.delete_range_id(FamilyId::DEFAULT, &start, Some(&end));
            fill(&memtable, batch, i + 1);
            assert_eq!(memtable.covering(&start, SeqNo::MAX), Some(i + 1));
            if i % 100 == 0 {
                assert_eq!(memtable.covering(&start, i), memtable.tombstones().covering(&start, i));
            }
        }
    }

    #[test]
    fn readers_see_whole_entries_while_a_writer_adds() {
        let memtable = Arc::new(Memtable::new(1));
        let published = Arc::new(AtomicU64::new(0));
        let (writer, done) = (memtable.clone(), published.clone());
        let handle = crate::sync::spawn("writer", move || {
            for seq in 1..=20_000u64 {
                let mut batch = WriteBatch::new();
                let key = (seq * 7919 % 5000).to_be_bytes();
                batch.put_id(FamilyId::DEFAULT, &key, &seq.to_be_bytes());
                fill(&writer, batch, seq);
                done.store(seq, Ordering::Release);
            }
        })
        .unwrap();
        loop {
            let visible = published.load(Ordering::Acquire);
            let expected = visible.min(5000) as usize;
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
            if visible == 20_000 {
                break;
            }
        }
        assert!(handle.join());
    }
}
