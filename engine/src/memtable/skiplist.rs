//! The memtable's index: a skip list without pointers, so without unsafe code.
//!
//! Nodes lie in an append-only array and name each other by index; node 0 is the sentinel that
//! stands before the first and behind the last entry. Keys and values stay in the buffer of the
//! write batch that brought them. Writers take turns behind a lock; readers take none. A node is
//! complete before the first link to it is stored, links are stored with `Release` and loaded with
//! `Acquire`, and nothing is ever removed: so a cursor is an index that stays good, steps cost one
//! load both ways, and it borrows nothing.
//!
//! A backward link may for a moment lead past a node that is just being inserted. No reader can
//! need that node yet: its sequence number is not published.

use std::cmp::Ordering;

use crate::iter::merge::head;
use crate::key::Tag;
use crate::memtable::chunks::Chunks;
use crate::slice::Slice;
use crate::sync::atomic::{AtomicU32, Ordering as Memory};
use crate::sync::{Arc, Mutex, OnceLock, point};

/// The sentinel, and "none".
pub const NONE: u32 = 0;

/// With one node in four going a level up, good for 16 million entries.
const HEIGHT_MAX: usize = if cfg!(loom) { 2 } else { 12 };

/// A sorted set of entries.
#[derive(Debug)]
pub struct SkipList {
    nodes: Chunks<Node>,
    /// The links above the lowest level: `HEIGHT_MAX - 1` of the sentinel, then those of each node.
    towers: Chunks<AtomicU32>,
    height: AtomicU32,
    writer: Mutex<Writer>,
}

/// An entry and where it lies.
#[derive(Debug)]
pub struct Entry {
    buffer: Arc<[u8]>,
    head: u64,
    /// Sequence number and kind.
    pub tag: Tag,
    key_at: u32,
    key_len: u32,
    value_at: u32,
    value_len: u32,
    /// Index of its link on level 1, if it is that high.
    tower: u32,
}

#[derive(Debug, Default)]
struct Node {
    entry: OnceLock<Entry>,
    next: AtomicU32,
    prev: AtomicU32,
}

#[derive(Debug)]
struct Writer {
    n_nodes: u32,
    n_links: u32,
    random: u64,
    /// The entry inserted last, and on each level the last node not behind it: where the next entry
    /// goes if keys come in order.
    last: u32,
    path: [u32; HEIGHT_MAX],
}

impl Entry {
    /// An entry whose key and value are ranges of `buffer`.
    pub fn new(
        buffer: &Arc<[u8]>,
        tag: Tag,
        key_at: usize,
        key_len: usize,
        value_at: usize,
        value_len: usize,
    ) -> Entry {
        let key = &buffer[key_at..key_at + key_len];
        let (head, buffer) = (head(key), buffer.clone());
        debug_assert!(value_at + value_len <= buffer.len() && buffer.len() <= u32::MAX as usize);
        Entry {
            buffer,
            head,
            tag,
            key_at: key_at as u32,
            key_len: key_len as u32,
            value_at: value_at as u32,
            value_len: value_len as u32,
            tower: 0,
        }
    }

    /// The user key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.buffer[self.key_at as usize..][..self.key_len as usize]
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.buffer[self.value_at as usize..][..self.value_len as usize]
    }

    /// The user key, kept alive.
    pub fn key_slice(&self) -> Slice {
        Slice::new(self.buffer.clone(), self.key_at as usize, self.key_len as usize)
    }

    /// The value, kept alive.
    #[inline]
    pub fn value_slice(&self) -> Slice {
        Slice::new(self.buffer.clone(), self.value_at as usize, self.value_len as usize)
    }

    #[inline]
    fn cmp(&self, other: &Probe<'_>) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.key().cmp(other.key)).then_with(|| other.tag.cmp(&self.tag))
    }
}

/// What a search looks for.
struct Probe<'a> {
    head: u64,
    key: &'a [u8],
    tag: Tag,
}

impl SkipList {
    /// An empty list.
    pub fn new() -> SkipList {
        let (nodes, towers) = (Chunks::new(), Chunks::new());
        nodes.reserve(NONE);
        let n_links = HEIGHT_MAX as u32 - 1;
        for link in 0..n_links {
            towers.reserve(link);
        }
        let writer =
            Writer { n_nodes: 1, n_links, random: 0x9e37_79b9_7f4a_7c15, last: NONE, path: [NONE; HEIGHT_MAX] };
        SkipList { nodes, towers, height: AtomicU32::new(1), writer: Mutex::new(writer) }
    }

    /// Adds an entry.
    pub fn insert(&self, mut entry: Entry) {
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        let node = writer.n_nodes;
        assert!(node < u32::MAX, "a memtable is sealed long before it has 4 billion entries");
        self.find_place(writer, &entry);
        let height = writer.draw_height();
        self.height.fetch_max(height as u32, Memory::Relaxed);
        entry.tower = writer.n_links;
        for link in 1..height {
            self.towers.reserve(entry.tower + link as u32 - 1);
        }
        writer.n_links += height as u32 - 1;
        writer.n_nodes += 1;

        let new = self.nodes.reserve(node);
        new.entry.get_or_init(|| entry);
        let behind = self.link(writer.path[0], 0).load(Memory::Relaxed);
        new.prev.store(writer.path[0], Memory::Relaxed);
        for level in 0..height {
            let before = self.link(writer.path[level], level);
            self.link(node, level).store(before.load(Memory::Relaxed), Memory::Relaxed);
            before.store(node, Memory::Release);
            writer.path[level] = node;
            point();
        }
        self.nodes.get(behind).prev.store(node, Memory::Release);
        writer.last = node;
    }

    /// The first entry at or behind `(key, tag)`.
    #[inline]
    pub fn at_or_behind(&self, key: &[u8], tag: Tag) -> u32 {
        let probe = Probe { head: head(key), key, tag };
        // Not the link as it is now: an entry that came since would lie before the place looked for.
        self.search(|entry| entry.cmp(&probe).is_lt(), |_, _| {}).1
    }

    /// The last entry at or before `(key, tag)`.
    pub fn at_or_before(&self, key: &[u8], tag: Tag) -> u32 {
        let probe = Probe { head: head(key), key, tag };
        self.search(|entry| entry.cmp(&probe).is_le(), |_, _| {}).0
    }

    /// The entry behind `node`; the first one behind [`NONE`].
    #[inline]
    pub fn next(&self, node: u32) -> u32 {
        self.nodes.get(node).next.load(Memory::Acquire)
    }

    /// The entry before `node`; the last one before [`NONE`].
    #[inline]
    pub fn prev(&self, node: u32) -> u32 {
        self.nodes.get(node).prev.load(Memory::Acquire)
    }

    /// The entry of a node other than [`NONE`].
    #[inline]
    pub fn entry(&self, node: u32) -> &Entry {
        self.nodes.get(node).entry.get().expect("a linked node is complete")
    }

    /// The last node for which `is_before` holds (it holds for all nodes before that one), and the node
    /// behind it, for which it does not, as both were met.
    #[inline]
    fn search(&self, is_before: impl Fn(&Entry) -> bool, mut passes: impl FnMut(usize, u32)) -> (u32, u32) {
        let mut node = NONE;
        // The node that ended the walk one level up: it need not be compared again.
        let mut known = NONE;
        for level in (0..self.height.load(Memory::Relaxed) as usize).rev() {
            loop {
                let next = self.link(node, level).load(Memory::Acquire);
                if next == NONE || next == known || !is_before(self.entry(next)) {
                    known = next;
                    break;
                }
                node = next;
            }
            passes(level, node);
        }
        point();
        (node, known)
    }

    /// Fills the writer's path with the last nodes before `entry`.
    fn find_place(&self, writer: &mut Writer, entry: &Entry) {
        let probe = Probe { head: entry.head, key: entry.key(), tag: entry.tag };
        if writer.last != NONE && self.entry(writer.last).cmp(&probe).is_lt() {
            let next = self.next(writer.last);
            if next == NONE || self.entry(next).cmp(&probe).is_gt() {
                return; // Right behind the last one: the path is good already.
            }
        }
        writer.path = [NONE; HEIGHT_MAX];
        let path = &mut writer.path;
        self.search(|other| other.cmp(&probe).is_lt(), |level, node| path[level] = node);
    }

    #[inline]
    fn link(&self, node: u32, level: usize) -> &AtomicU32 {
        if level == 0 {
            return &self.nodes.get(node).next;
        }
        let tower = if node == NONE { 0 } else { self.entry(node).tower };
        self.towers.get(tower + level as u32 - 1)
    }
}

impl Writer {
    fn draw_height(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // Two bits a level: each level has a quarter of the nodes of the one below.
        let zeros = (self.random >> 32 | 1 << 30).trailing_zeros() as usize;
        (1 + zeros / 2).min(HEIGHT_MAX)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::key::Kind;
    use crate::sync::atomic::AtomicU64;
    use crate::sync::spawn;

    fn entry(key: u8, seq: u64) -> Entry {
        let buffer: Arc<[u8]> = Arc::from([key]);
        Entry::new(&buffer, Tag::new(seq, Kind::Put), 0, 1, 1, 0)
    }

    /// What a walk from end to end meets: keys with sequence numbers.
    fn walk(list: &SkipList, step: impl Fn(u32) -> u32) -> Vec<(u8, u64)> {
        let mut met = Vec::new();
        let mut at = step(NONE);
        while at != NONE {
            let entry = list.entry(at);
            met.push((entry.key()[0], entry.tag.seq()));
            at = step(at);
        }
        met
    }

    /// A reader that took the published number meets every entry up to it, in order, both ways and by
    /// search, while others are inserted before, between and behind.
    fn model(first: u8, second: u8, backward: bool) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.max_branches = 20_000;
        builder.check(move || {
            let shared = Arc::new((SkipList::new(), AtomicU64::new(1)));
            shared.0.insert(entry(5, 1));
            let writer = shared.clone();
            let writing = spawn("writer", move || {
                for (n, key) in [first, second].into_iter().enumerate() {
                    let seq = n as u64 + 2;
                    writer.0.insert(entry(key, seq));
                    writer.1.store(seq, Memory::Release);
                }
            });
            let list = &shared.0;
            let visible = shared.1.load(Memory::Acquire);
            let met = if backward { walk(list, |n| list.prev(n)) } else { walk(list, |n| list.next(n)) };
            let keys: Vec<u8> = met.iter().map(|(key, _)| *key).collect();
            assert!(keys.is_sorted_by(|a, b| if backward { a > b } else { a < b }), "{met:?}");
            let there = |key: u8, seq: u64| seq > visible || met.contains(&(key, seq));
            assert!(there(5, 1) && there(first, 2) && there(second, 3), "{met:?} at {visible}");
            if visible >= 2 {
                let found = list.at_or_behind(&[first], Tag::visible_at(visible));
                assert!(found != NONE && list.entry(found).key() == [first]);
            }
            assert!(writing.is_ok_and(|w| w.join()));
        });
    }

    #[test]
    fn loom_forward_while_one_is_inserted_before_and_one_behind() {
        model(3, 7, false);
    }

    #[test]
    fn loom_backward_while_one_is_inserted_before_and_one_behind() {
        model(3, 7, true);
    }

    #[test]
    fn loom_forward_while_two_are_inserted_at_one_place() {
        model(7, 6, false);
    }

    #[test]
    fn loom_backward_while_two_are_inserted_at_one_place() {
        model(7, 6, true);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::key::{Kind, cmp_internal};

    fn entry(key: &[u8], seq: u64) -> Entry {
        let buffer: Arc<[u8]> = [key, b"value"].concat().into();
        Entry::new(&buffer, Tag::new(seq, Kind::Put), 0, key.len(), key.len(), 5)
    }

    #[test]
    fn sorted_both_ways_whatever_the_order_of_inserts() {
        for step in [1u64, 7919, 12_347, 19_999] {
            let list = SkipList::new();
            let n = 20_000u64;
            for i in 0..n {
                let k = i * step % n;
                list.insert(entry(format!("key {:06}", k / 2).as_bytes(), k % 2));
            }
            let (mut forward, mut at) = (Vec::new(), list.next(NONE));
            while at != NONE {
                forward.push(at);
                at = list.next(at);
            }
            assert_eq!(forward.len() as u64, n);
            for pair in forward.windows(2) {
                let (a, b) = (list.entry(pair[0]), list.entry(pair[1]));
                assert!(cmp_internal(a.key(), a.tag, b.key(), b.tag).is_lt());
                assert_eq!(list.prev(pair[1]), pair[0]);
            }
            assert_eq!(list.prev(forward[0]), NONE);
            assert_eq!(list.prev(NONE), forward[forward.len() - 1]);
            for k in (0..n).step_by(97) {
                let key = format!("key {:06}", k / 2).into_bytes();
                let tag = Tag::new(k % 2, Kind::Put);
                let found = list.entry(list.at_or_behind(&key, tag));
                assert_eq!((found.key(), found.tag), (&*key, tag));
                assert_eq!(list.at_or_before(&key, tag), list.at_or_behind(&key, tag));
                assert_eq!(list.at_or_behind(&key, Tag::OLDEST), list.next(list.at_or_before(&key, Tag::OLDEST)));
            }
        }
    }

    #[test]
    fn heights_fall_off_by_four() {
        let mut writer = Writer { n_nodes: 1, n_links: 0, random: 77, last: NONE, path: [NONE; HEIGHT_MAX] };
        let mut counts = [0u32; HEIGHT_MAX + 1];
        for _ in 0..100_000 {
            counts[writer.draw_height()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((73_000..77_000).contains(&counts[1]) && (17_000..20_500).contains(&counts[2]), "{counts:?}");
    }
}
