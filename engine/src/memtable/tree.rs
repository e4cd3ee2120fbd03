//! The memtable's index: a B+-tree over records of an arena, with one writer and readers that take
//! no lock.
//!
//! A node has at most [`SLOTS`] entries in internal order. Beside the address of each lies its *head*:
//! the eight bytes of its key behind the bytes that all keys of the node share, as a number. So a search
//! compares numbers that lie together, and looks at a record only where heads are equal. On each level
//! the nodes are a list; a node begins at its `low` record, which is its first, and the leftmost has
//! none. An inner node's entries are its children, and a child's `low` is what separates it from the
//! one before. Nothing is ever removed, so nodes are neither merged nor freed.
//!
//! **Changes.** Writers take turns behind a lock. A node's version is odd while the node changes. A
//! split makes the versions of all nodes up to the last one that changes odd before it makes the first
//! of them even again. Something that only comes behind the last entry of a leaf changes no version: its
//! slot is filled before the count says so.
//!
//! **Reads.** A reader takes a node's version (even), reads, and takes the version again: if it is the
//! same, what it read belonged together. Otherwise it starts over. On the way down the version of the
//! child is taken before that of the parent is compared: so the child, as it is at that version, is
//! where the key belongs. Every field that may change under a reader is atomic. Addresses are stored
//! with `Release` and loaded with `Acquire`, so what they lead to is complete, even where the version
//! says afterwards that it was not what the reader looked for.
//!
//! **Shared bytes.** A node with neighbours on both sides knows how much all its keys share: what its own
//! `low` and the next one's have in common. The nodes at the left and right edge have no such bounds. For
//! them the tree keeps one number for all its keys, `prefix_len`; a key with another prefix makes it
//! smaller, in the edge nodes first, then in the tree. A reader compares its key with that prefix once:
//! whoever differs lies before or behind all entries. Since the number only falls, what was read there
//! holds for any node met later.
//!
//! The idea of version-checked reads is from "The ART of Practical Synchronization" (Leis et al.,
//! 2016), the links to the right from Lehman and Yao.

#![allow(unsafe_code, reason = "nodes and records lie in an arena and name each other by address")]

use std::cmp::Ordering;
use std::fmt;
use std::ptr::{NonNull, null_mut};

use crate::arena::{Arena, Record, prefetch};
use crate::error::Result;
use crate::iter::Cursor;
use crate::iter::merge::head;
use crate::key::Tag;
use crate::slice::Slice;
use crate::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering as Memory, fence};
use crate::sync::{Arc, Mutex, MutexGuard, point, spin};

/// Entries of a node: with 61 it has 1 KiB, of which a search touches a few lines. Models and Miri want
/// splits after few inserts.
const SLOTS: usize = if cfg!(loom) {
    3
} else if cfg!(miri) {
    5
} else {
    61
};

/// How many entries ahead a walk asks for records.
const AHEAD: usize = 4;

/// A sorted set of records.
pub struct Tree {
    top: Top,
    arena: Apart<Mutex<Arena>>,
}

/// Where readers begin. Nothing here changes often.
#[repr(align(128))]
struct Top {
    /// None while the tree is empty.
    root: AtomicPtr<Node>,
    /// The leftmost leaf, which never changes.
    first: AtomicPtr<Node>,
    /// The rightmost leaf, or one that was it a moment ago.
    last: AtomicPtr<Node>,
    /// The record that came first: all keys begin with the first `prefix_len` bytes of its key.
    witness: AtomicPtr<u8>,
    prefix_len: AtomicU32,
}

/// Keeps what one writes off the cache lines that others read.
#[repr(align(128))]
struct Apart<T>(T);

#[repr(C, align(64))]
struct Node {
    /// Odd while the node changes.
    version: AtomicU64,
    /// Zero only in the first leaf before the first insert.
    count: AtomicU16,
    /// Zero for a leaf.
    level: u16,
    /// How many bytes of their keys the heads leave out, since all keys here share them.
    skip: AtomicU32,
    /// The record where the node begins: its first, or the first below it. Null at the left edge.
    low: AtomicPtr<u8>,
    next: AtomicPtr<Node>,
    prev: AtomicPtr<Node>,
    /// Ascending; `u64::MAX` from the count on.
    heads: [AtomicU64; SLOTS],
    /// Records or, above level 0, nodes. From the count on null, or something that lay there once.
    slots: [AtomicPtr<u8>; SLOTS],
}

/// What a search looks for.
#[derive(Clone, Copy)]
struct Probe<'a> {
    key: &'a [u8],
    tag: Tag,
}

/// Where a record lies, as long as the leaf has that version.
#[derive(Clone, Copy)]
struct Place {
    leaf: NonNull<Node>,
    version: u64,
    at: usize,
    record: NonNull<u8>,
}

/// The entries of a full node and one more.
struct Entries {
    heads: [u64; SLOTS + 1],
    slots: [*mut u8; SLOTS + 1],
}

impl Tree {
    /// An empty tree, which has no memory yet.
    pub fn new() -> Tree {
        let top = Top {
            root: AtomicPtr::default(),
            first: AtomicPtr::default(),
            last: AtomicPtr::default(),
            witness: AtomicPtr::default(),
            prefix_len: AtomicU32::new(0),
        };
        Tree { top, arena: Apart(Mutex::new(Arena::new())) }
    }

    /// Waits for the turn to write.
    #[inline]
    pub fn writer(&self) -> TreeWriter<'_> {
        TreeWriter { tree: self, arena: self.arena.0.lock() }
    }

    /// The newest record of `key` at or behind `tag`.
    #[inline]
    pub fn get(&self, key: &[u8], tag: Tag) -> Option<Record<'_>> {
        if self.side(key)? != Ordering::Equal {
            return None;
        }
        let probe = Probe { key, tag };
        let mut turn = 0;
        loop {
            let (leaf, version) = self.leaf(probe);
            if let Some(found) = self.get_in(leaf, probe)
                && leaf.is_at(version)
            {
                point();
                return found.filter(|record| record.key() == key);
            }
            spin(turn);
            turn += 1;
        }
    }

    /// The first record at or behind `(key, tag)`.
    pub fn at_or_behind(&self, key: &[u8], tag: Tag) -> Option<Record<'_>> {
        self.record(self.place_behind(Probe { key, tag }, false)?.record.as_ptr())
    }

    // Searching, for readers.

    /// How `key` lies to the prefix of all keys; none while there are no keys. Equal is a key that
    /// begins with it.
    #[inline]
    fn side(&self, key: &[u8]) -> Option<Ordering> {
        // The root is stored last, when the first record comes.
        if self.top.root.load(Memory::Acquire).is_null() {
            return None;
        }
        let len = self.top.prefix_len.load(Memory::Acquire) as usize;
        let prefix = self.witness()?.key().get(..len)?;
        Some(key[..key.len().min(len)].cmp(prefix))
    }

    /// The leaf where `probe` belongs, and its version.
    #[inline]
    fn leaf(&self, probe: Probe<'_>) -> (&Node, u64) {
        let mut turn = 0;
        loop {
            if let Some(found) = self.try_leaf(probe) {
                return found;
            }
            spin(turn);
            turn += 1;
        }
    }

    /// As [`Tree::leaf`]; none if something changed on the way.
    #[inline]
    fn try_leaf(&self, probe: Probe<'_>) -> Option<(&Node, u64)> {
        let root = self.top.root.load(Memory::Acquire);
        let mut node = self.node(root)?;
        let mut version = node.version();
        // Once it was the root and had this version, at the same time.
        if self.top.root.load(Memory::Acquire) != root {
            return None;
        }
        while node.level > 0 {
            let child = self.child_for(node, probe)?;
            let child_version = child.version();
            if !node.is_at(version) {
                return None;
            }
            (node, version) = (child, child_version);
        }
        Some((node, version))
    }

    /// The child of an inner node where `probe` belongs; none if the node is changing.
    #[inline]
    fn child_for(&self, node: &Node, probe: Probe<'_>) -> Option<&Node> {
        let rank = self.rank(node, node.count(), probe, true)?;
        let child = self.node(node.slot(rank.saturating_sub(1)).cast())?;
        child.prefetch();
        Some(child)
    }

    /// How many of the first `count` entries of `node` lie before `probe`, or at it if `or_equal`; none
    /// if the node is changing. Whoever asks for the count again may find a later one, which would not
    /// fit the rank.
    #[inline]
    fn rank(&self, node: &Node, count: usize, probe: Probe<'_>, or_equal: bool) -> Option<usize> {
        let head = head_behind(probe.key, node.skip());
        let rank = node.rank_of_head(head);
        if rank >= count || node.head(rank) != head {
            return Some(rank.min(count));
        }
        self.rank_in_run(node, rank, count, probe, or_equal)
    }

    /// As [`Tree::rank`] in a node whose entry `first` is the first with the head of `probe`.
    fn rank_in_run(&self, node: &Node, first: usize, count: usize, probe: Probe<'_>, or_equal: bool) -> Option<usize> {
        let is_before = |at: usize| {
            let order = self.compare(node, at, probe)?;
            Some(order == Ordering::Less || or_equal && order == Ordering::Equal)
        };
        // Mostly the one looked for is the newest version of the only key with this head.
        if !is_before(first)? {
            return Some(first);
        }
        let head = node.head(first);
        let (mut from, mut to) = (first + 1, first + 1);
        while to < count && node.head(to) == head {
            to += 1;
        }
        while from < to {
            let middle = from.midpoint(to);
            if is_before(middle)? {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        Some(from)
    }

    /// Compares the record where entry `at` begins with `probe`; none if the node is changing.
    #[inline]
    fn compare(&self, node: &Node, at: usize, probe: Probe<'_>) -> Option<Ordering> {
        let record = if node.level == 0 {
            self.record(node.slot(at))?
        } else {
            match self.record(self.node(node.slot(at).cast())?.low()) {
                Some(record) => record,
                // At the left edge there is nothing before.
                None => return Some(Ordering::Less),
            }
        };
        Some(record.key().cmp(probe.key).then_with(|| probe.tag.0.cmp(&record.tag())))
    }

    /// The first record at or behind `probe` if it may have the key of `probe`; the outer none if the
    /// leaf is changing.
    #[inline]
    fn get_in(&self, leaf: &Node, probe: Probe<'_>) -> Option<Option<Record<'_>>> {
        let count = leaf.count();
        let head = head_behind(probe.key, leaf.skip());
        let mut rank = leaf.rank_of_head(head);
        if rank < count && leaf.head(rank) == head {
            rank = self.rank_in_run(leaf, rank, count, probe, false)?;
        }
        if rank >= count {
            // The next leaf begins with the first record behind, whatever has come since.
            return Some(self.node(leaf.next()).and_then(|next| self.record(next.low())));
        }
        // Another head is another key.
        if leaf.head(rank) != head {
            return Some(None);
        }
        self.record(leaf.slot(rank)).map(Some)
    }

    // Places, for readers.

    fn first_place(&self) -> Option<Place> {
        self.first_of(self.node(self.top.first.load(Memory::Acquire))?)
    }

    fn last_place(&self) -> Option<Place> {
        let mut leaf = self.node(self.top.last.load(Memory::Acquire))?;
        let mut turn = 0;
        loop {
            let version = leaf.version();
            let (next, last) = (leaf.next(), leaf.count().checked_sub(1)?);
            let slot = leaf.slot(last);
            if leaf.is_at(version) {
                match self.node(next) {
                    None => return Place::new(leaf, version, last, slot),
                    Some(next) => leaf = next,
                }
            }
            spin(turn);
            turn += 1;
        }
    }

    /// The first place behind `probe`, or at it unless `or_equal`.
    fn place_behind(&self, probe: Probe<'_>, or_equal: bool) -> Option<Place> {
        match self.side(probe.key)? {
            Ordering::Less => return self.first_place(),
            Ordering::Greater => return None,
            Ordering::Equal => {}
        }
        let mut turn = 0;
        loop {
            let (leaf, version) = self.leaf(probe);
            let (count, next) = (leaf.count(), leaf.next());
            let rank = self.rank(leaf, count, probe, or_equal);
            let slot = leaf.slot(rank.unwrap_or(0).min(SLOTS - 1));
            if let Some(rank) = rank
                && leaf.is_at(version)
            {
                point();
                if rank < count {
                    return Place::new(leaf, version, rank, slot);
                }
                return self.first_of(self.node(next)?);
            }
            spin(turn);
            turn += 1;
        }
    }

    /// The last place before `probe`, or at it if `or_equal`.
    fn place_before(&self, probe: Probe<'_>, or_equal: bool) -> Option<Place> {
        match self.side(probe.key)? {
            Ordering::Less => return None,
            Ordering::Greater => return self.last_place(),
            Ordering::Equal => {}
        }
        let mut turn = 0;
        loop {
            let (leaf, version) = self.leaf(probe);
            let rank = self.rank(leaf, leaf.count(), probe, or_equal);
            let slot = leaf.slot(rank.unwrap_or(0).saturating_sub(1));
            if let Some(rank) = rank
                && leaf.is_at(version)
            {
                point();
                if rank > 0 {
                    return Place::new(leaf, version, rank - 1, slot);
                }
                return self.last_before(leaf);
            }
            spin(turn);
            turn += 1;
        }
    }

    /// The place behind `place`.
    #[inline]
    fn next(&self, place: Place) -> Option<Place> {
        let leaf = self.node(place.leaf.as_ptr())?;
        let (at, next) = (place.at + 1, leaf.next());
        if at < leaf.count() {
            let slot = leaf.slot(at);
            leaf.prefetch_record(at + AHEAD);
            if leaf.is_at(place.version) {
                return Place::new(leaf, place.version, at, slot);
            }
        } else if leaf.is_at(place.version) {
            return self.first_of(self.node(next)?);
        }
        self.place_behind(self.probe_at(place)?, true)
    }

    /// The place before `place`.
    #[inline]
    fn prev(&self, place: Place) -> Option<Place> {
        let leaf = self.node(place.leaf.as_ptr())?;
        if let Some(at) = place.at.checked_sub(1) {
            let slot = leaf.slot(at);
            leaf.prefetch_record(at.saturating_sub(AHEAD));
            if leaf.is_at(place.version) {
                return Place::new(leaf, place.version, at, slot);
            }
        } else if leaf.is_at(place.version) {
            return self.last_before(leaf);
        }
        self.place_before(self.probe_at(place)?, false)
    }

    /// The first place of a leaf.
    fn first_of(&self, leaf: &Node) -> Option<Place> {
        leaf.prefetch();
        if let Some(next) = self.node(leaf.next()) {
            next.prefetch();
        }
        let mut turn = 0;
        loop {
            let version = leaf.version();
            let slot = leaf.slot(0);
            if leaf.is_at(version) {
                (1..AHEAD).for_each(|at| leaf.prefetch_record(at));
                return Place::new(leaf, version, 0, slot);
            }
            spin(turn);
            turn += 1;
        }
    }

    /// The last place before a leaf.
    fn last_before(&self, leaf: &Node) -> Option<Place> {
        let mut before = self.node(leaf.prev())?;
        let mut turn = 0;
        loop {
            let version = before.version();
            let (next, last) = (before.next(), before.count().saturating_sub(1));
            let slot = before.slot(last);
            if before.is_at(version) {
                if std::ptr::eq(next, leaf) {
                    (1..AHEAD).for_each(|n| before.prefetch_record(last.saturating_sub(n)));
                    return Place::new(before, version, last, slot);
                }
                // It was split since: its new neighbour lies between.
                before = self.node(next)?;
            }
            spin(turn);
            turn += 1;
        }
    }

    fn probe_at(&self, place: Place) -> Option<Probe<'_>> {
        let record = self.record(place.record.as_ptr())?;
        Some(Probe { key: record.key(), tag: Tag(record.tag()) })
    }

    // What addresses mean.

    #[inline]
    fn node(&self, at: *mut Node) -> Option<&Node> {
        // SAFETY: every address of a node comes from this tree: from `Top`, from a node, or from a place
        // in one, which only cursors over this tree keep. All of them were stored with `Release` after
        // the node was complete, and loaded with `Acquire`. What a slot holds depends on the level,
        // which never changes. The arena keeps the node as long as the tree lives, and nobody makes an
        // exclusive reference to it.
        unsafe { at.as_ref() }
    }

    #[inline]
    fn record(&self, at: *mut u8) -> Option<Record<'_>> {
        // SAFETY: as for nodes: every address of a record comes from this tree, was stored with
        // `Release` after the arena had made the record, and loaded with `Acquire`.
        NonNull::new(at).map(|at| unsafe { Record::from_raw(at) })
    }

    #[inline]
    fn witness(&self) -> Option<Record<'_>> {
        self.record(self.top.witness.load(Memory::Acquire))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let height = self.node(self.top.root.load(Memory::Acquire)).map_or(0, |root| root.level + 1);
        write!(f, "Tree(height {height})")
    }
}

impl Place {
    #[inline]
    fn new(leaf: &Node, version: u64, at: usize, slot: *mut u8) -> Option<Place> {
        Some(Place { leaf: NonNull::from(leaf), version, at, record: NonNull::new(slot)? })
    }
}

/// The turn to write.
pub struct TreeWriter<'a> {
    tree: &'a Tree,
    arena: MutexGuard<'a, Arena>,
}

impl<'a> TreeWriter<'a> {
    /// Bytes of memory that the tree takes.
    #[inline]
    pub fn size(&self) -> usize {
        self.arena.size()
    }

    /// Adds a record, behind any that has the same key and tag.
    pub fn insert(&mut self, tag: Tag, key: &[u8], value: &[u8]) {
        let tree = self.tree;
        let record = self.arena.add_record(tag.0, key, value).as_ptr();
        let Some(last) = tree.node(tree.top.last.load(Memory::Relaxed)) else {
            self.plant(key, record);
            return;
        };
        self.fit_prefix(key);
        let probe = Probe { key, tag };
        let count = last.count();
        let (leaf, at) = if is_now(tree.compare(last, count - 1, probe)).is_lt() {
            (last, count)
        } else {
            let leaf = self.leaf(probe);
            (leaf, is_now(tree.rank(leaf, leaf.count(), probe, true)))
        };
        let count = leaf.count();
        if count == SLOTS {
            self.split_for(leaf, at, probe, record);
        } else if at == count {
            leaf.append(head_behind(key, leaf.skip()), record);
        } else {
            leaf.lock();
            leaf.insert(at, head_behind(key, leaf.skip()), record);
            leaf.unlock();
        }
        point();
    }

    /// The leaf where `probe` belongs. Nobody else writes, so no version is looked at.
    fn leaf(&self, probe: Probe<'_>) -> &'a Node {
        let tree = self.tree;
        let mut node = is_now(tree.node(tree.top.root.load(Memory::Relaxed)));
        while node.level > 0 {
            node = is_now(tree.child_for(node, probe));
        }
        node
    }

    /// The first record.
    fn plant(&mut self, key: &[u8], record: *mut u8) {
        let leaf = self.add_node(0, key.len(), null_mut());
        let top = &self.tree.top;
        top.witness.store(record, Memory::Release);
        top.prefix_len.store(key.len() as u32, Memory::Release);
        is_now(self.tree.node(leaf)).append(0, record);
        top.first.store(leaf, Memory::Release);
        top.last.store(leaf, Memory::Release);
        top.root.store(leaf, Memory::Release);
    }

    /// Lets the prefix of all keys be one of `key` as well.
    #[inline]
    fn fit_prefix(&mut self, key: &[u8]) {
        let len = self.tree.top.prefix_len.load(Memory::Relaxed) as usize;
        let prefix = &is_now(self.tree.witness()).key()[..len];
        if !key.starts_with(prefix) {
            self.shorten_prefix(shared_len(key, prefix));
        }
    }

    #[cold]
    fn shorten_prefix(&mut self, len: usize) {
        let tree = self.tree;
        for is_left in [true, false] {
            let mut node = is_now(tree.node(tree.top.root.load(Memory::Relaxed)));
            loop {
                node.lock();
                self.set_skip(node, len);
                node.unlock();
                if node.level == 0 {
                    break;
                }
                let edge = if is_left { 0 } else { node.count() - 1 };
                node = is_now(tree.node(node.slot(edge).cast()));
            }
        }
        tree.top.prefix_len.store(len as u32, Memory::Release);
    }

    /// Makes the heads of a locked node anew.
    fn set_skip(&self, node: &Node, skip: usize) {
        node.skip.store(skip as u32, Memory::Relaxed);
        for at in 0..node.count() {
            let head = self.key_of(node.level, node.slot(at)).map_or(0, |key| head_behind(key, skip));
            node.heads[at].store(head, Memory::Relaxed);
        }
    }

    /// The key where an entry of a level begins; none at the left edge.
    fn key_of(&self, level: u16, slot: *mut u8) -> Option<&'a [u8]> {
        let record = if level == 0 { slot } else { is_now(self.tree.node(slot.cast())).low() };
        self.tree.record(record).map(Record::key)
    }

    /// Inserts into a full leaf.
    #[cold]
    fn split_for(&mut self, leaf: &'a Node, at: usize, probe: Probe<'_>, record: *mut u8) {
        let tree = self.tree;
        let mut above = Vec::new();
        let mut node = is_now(tree.node(tree.top.root.load(Memory::Relaxed)));
        while node.level > 0 {
            let rank = is_now(tree.rank(node, node.count(), probe, true)).max(1);
            above.push((node, rank));
            node = is_now(tree.node(node.slot(rank - 1).cast()));
        }
        debug_assert!(std::ptr::eq(node, leaf));

        let mut changing = Vec::with_capacity(above.len() + 1);
        let (mut node, mut at, mut slot, mut key) = (leaf, at, record, probe.key);
        loop {
            node.lock();
            changing.push(node);
            if node.count() < SLOTS {
                node.insert(at, head_behind(key, node.skip()), slot);
                break;
            }
            let right = self.split(node, at, head_behind(key, node.skip()), slot);
            slot = right.cast();
            key = is_now(self.key_of(1, slot));
            match above.pop() {
                Some(parent) => (node, at) = parent,
                None => {
                    self.add_root(node, key, slot);
                    break;
                }
            }
        }
        for node in changing {
            node.unlock();
        }
    }

    fn add_root(&mut self, left: &Node, right_key: &[u8], right: *mut u8) {
        let top = &self.tree.top;
        let prefix_len = top.prefix_len.load(Memory::Relaxed) as usize;
        let root = self.add_node(left.level + 1, prefix_len, null_mut());
        let node = is_now(self.tree.node(root));
        node.append(0, left.address().cast());
        node.append(head_behind(right_key, prefix_len), right);
        top.root.store(root, Memory::Release);
    }

    /// Moves a part of a full and locked node into a new one on its right, where one more entry is
    /// added at `at` on the way.
    fn split(&mut self, node: &'a Node, at: usize, head: u64, slot: *mut u8) -> *mut Node {
        let entries = Entries::of(node, at, head, slot);
        let next = node.next();
        let middle = if at == SLOTS && next.is_null() {
            SLOTS // Keys come in order: what is full stays full.
        } else if at == 0 && node.low().is_null() {
            1 // They come in reverse order.
        } else {
            entries.heads.len() / 2
        };
        let low = match node.level {
            0 => entries.slots[middle],
            _ => is_now(self.tree.node(entries.slots[middle].cast())).low(),
        };

        // The right node is complete before anybody can find it.
        let right = self.add_node(node.level, node.skip(), low);
        let filled = is_now(self.tree.node(right));
        for i in middle..entries.heads.len() {
            filled.append(entries.heads[i], entries.slots[i]);
        }
        let next_low = self.tree.node(next).map_or(null_mut(), Node::low);
        self.fit_skip(filled, next_low);
        filled.next.store(next, Memory::Relaxed);
        filled.prev.store(node.address(), Memory::Relaxed);

        node.keep(&entries, middle);
        self.fit_skip(node, low);
        if let Some(next) = self.tree.node(next) {
            next.prev.store(right, Memory::Release);
        }
        node.next.store(right, Memory::Release);
        if node.level == 0 && next.is_null() {
            self.tree.top.last.store(right, Memory::Release);
        }
        right
    }

    /// Lets the heads of a node that ends before the record `end` leave out what its keys share, if
    /// they tell too few of them apart as they are. Looking at all the keys has its price.
    fn fit_skip(&mut self, node: &Node, end: *mut u8) {
        let (Some(low), Some(end)) = (self.tree.record(node.low()), self.tree.record(end)) else { return };
        let count = node.count();
        let n_equal = (1..count).filter(|&at| node.head(at - 1) == node.head(at)).count();
        if n_equal * 4 < count {
            return;
        }
        let shared = shared_len(low.key(), end.key());
        if shared > node.skip() {
            self.set_skip(node, shared);
        }
    }

    fn add_node(&mut self, level: u16, skip: usize, low: *mut u8) -> *mut Node {
        self.arena.add(Node::new(level, skip, low)).as_ptr()
    }
}

/// What a reader may find to be changing, but the writer never does.
#[inline]
fn is_now<T>(found: Option<T>) -> T {
    found.expect("only the writer changes nodes, and it is here")
}

impl Entries {
    /// The entries of `node` with one more at `at`.
    fn of(node: &Node, at: usize, head: u64, slot: *mut u8) -> Entries {
        let from = |i: usize| if i < at { i } else { i - 1 };
        Entries {
            heads: std::array::from_fn(|i| if i == at { head } else { node.head(from(i)) }),
            slots: std::array::from_fn(|i| if i == at { slot } else { node.slot(from(i)) }),
        }
    }
}

impl Node {
    fn new(level: u16, skip: usize, low: *mut u8) -> Node {
        Node {
            version: AtomicU64::new(0),
            count: AtomicU16::new(0),
            level,
            skip: AtomicU32::new(skip as u32),
            low: AtomicPtr::new(low),
            next: AtomicPtr::default(),
            prev: AtomicPtr::default(),
            heads: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            slots: std::array::from_fn(|_| AtomicPtr::default()),
        }
    }

    /// Where it lies, for other nodes to name it. Good for reading only, which is all that is done.
    fn address(&self) -> *mut Node {
        std::ptr::from_ref(self).cast_mut()
    }

    // For readers.

    /// The version, once it is even.
    #[inline]
    fn version(&self) -> u64 {
        let mut turn = 0;
        loop {
            let version = self.version.load(Memory::Acquire);
            if version.is_multiple_of(2) {
                return version;
            }
            spin(turn);
            turn += 1;
        }
    }

    /// True if nothing that was read since `version` was taken has changed meanwhile.
    #[inline]
    fn is_at(&self, version: u64) -> bool {
        fence(Memory::Acquire);
        self.version.load(Memory::Relaxed) == version
    }

    #[inline]
    fn count(&self) -> usize {
        self.count.load(Memory::Acquire) as usize
    }

    #[inline]
    fn skip(&self) -> usize {
        self.skip.load(Memory::Relaxed) as usize
    }

    #[inline]
    fn low(&self) -> *mut u8 {
        self.low.load(Memory::Acquire)
    }

    #[inline]
    fn next(&self) -> *mut Node {
        self.next.load(Memory::Acquire)
    }

    #[inline]
    fn prev(&self) -> *mut Node {
        self.prev.load(Memory::Acquire)
    }

    #[inline]
    fn head(&self, at: usize) -> u64 {
        self.heads[at].load(Memory::Relaxed)
    }

    #[inline]
    fn slot(&self, at: usize) -> *mut u8 {
        self.slots[at].load(Memory::Acquire)
    }

    /// How many heads are smaller. Those behind the count are never smaller than any, so the number of
    /// steps is always the same and there is no branch to guess.
    #[inline]
    fn rank_of_head(&self, head: u64) -> usize {
        let (mut from, mut len) = (0, SLOTS);
        while len > 1 {
            let half = len / 2;
            from += if self.head(from + half - 1) < head { half } else { 0 };
            len -= half;
        }
        from + usize::from(self.head(from) < head)
    }

    /// Asks for the node.
    #[inline]
    fn prefetch(&self) {
        let at = std::ptr::from_ref(self).cast::<u8>();
        for line in 0..size_of::<Node>().div_ceil(64) {
            prefetch(at.wrapping_add(line * 64));
        }
    }

    /// Asks for the begin of the record at `at`, if the node has so many.
    #[inline]
    fn prefetch_record(&self, at: usize) {
        if let Some(slot) = self.slots.get(at) {
            let record = slot.load(Memory::Relaxed);
            prefetch(record);
            prefetch(record.wrapping_add(64));
        }
    }

    // For the writer.

    /// Begins a change.
    fn lock(&self) {
        let version = self.version.load(Memory::Relaxed);
        debug_assert!(version.is_multiple_of(2));
        self.version.store(version + 1, Memory::Relaxed);
        fence(Memory::Release);
    }

    /// Ends a change.
    fn unlock(&self) {
        let version = self.version.load(Memory::Relaxed);
        self.version.store(version + 1, Memory::Release);
    }

    /// Adds an entry behind the last. In a leaf no lock is needed: readers do not look behind the count.
    #[inline]
    fn append(&self, head: u64, slot: *mut u8) {
        let count = self.count();
        self.slots[count].store(slot, Memory::Release);
        self.heads[count].store(head, Memory::Relaxed);
        self.count.store(count as u16 + 1, Memory::Release);
    }

    /// Adds an entry at `at` to a locked node that is not full.
    fn insert(&self, at: usize, head: u64, slot: *mut u8) {
        let count = self.count();
        for i in (at..count).rev() {
            self.slots[i + 1].store(self.slot(i), Memory::Release);
            self.heads[i + 1].store(self.head(i), Memory::Relaxed);
        }
        self.slots[at].store(slot, Memory::Release);
        self.heads[at].store(head, Memory::Relaxed);
        self.count.store(count as u16 + 1, Memory::Release);
    }

    /// Keeps the first `n` of `entries` in a locked node.
    fn keep(&self, entries: &Entries, n: usize) {
        for i in 0..n {
            self.slots[i].store(entries.slots[i], Memory::Release);
            self.heads[i].store(entries.heads[i], Memory::Relaxed);
        }
        self.heads[n..].iter().for_each(|head| head.store(u64::MAX, Memory::Relaxed));
        self.count.store(n as u16, Memory::Release);
    }
}

/// The eight bytes of a key behind the first `skip`, as a number that orders as they do.
#[inline]
fn head_behind(key: &[u8], skip: usize) -> u64 {
    match key.get(skip..) {
        Some(rest) if rest.len() < 8 => match key.last_chunk::<8>() {
            Some(_) if rest.is_empty() => 0,
            // Cheaper than a copy of few bytes.
            Some(last) => u64::from_be_bytes(*last) << (8 * (8 - rest.len())),
            None => head(rest),
        },
        Some(rest) => head(rest),
        None => 0,
    }
}

/// How many bytes two keys have in common at their begin.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A cursor over the records of a tree. It keeps the tree and nothing else, and sees records added later
/// as well: a step costs a few loads, or a search if the leaf has changed since the last one.
#[derive(Debug)]
pub struct TreeCursor {
    tree: Arc<Tree>,
    place: Option<Place>,
}

// SAFETY: a place is addresses of a leaf and a record of the tree, which is shared anyway and kept by the
// cursor; leaves are atomics throughout and records are not written again.
unsafe impl Send for TreeCursor {}
// SAFETY: as above.
unsafe impl Sync for TreeCursor {}

impl TreeCursor {
    /// A cursor that stands nowhere.
    pub fn new(tree: Arc<Tree>) -> TreeCursor {
        TreeCursor { tree, place: None }
    }

    #[inline]
    fn record(&self) -> Record<'_> {
        let place = self.place.expect("an accessor needs a valid cursor");
        self.tree.record(place.record.as_ptr()).expect("a place is the place of a record")
    }
}

impl Cursor for TreeCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.place.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.place = self.tree.first_place();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.place = self.tree.last_place();
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.place = self.tree.place_behind(Probe { key, tag }, false);
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.place = self.tree.place_before(Probe { key, tag }, true);
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.place = self.place.and_then(|place| self.tree.next(place));
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.place = self.place.and_then(|place| self.tree.prev(place));
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.record().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        Tag(self.record().tag())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.record().value()
    }

    fn key_slice(&self) -> Slice {
        Slice::from_arena(self.record().key_bytes())
    }

    fn value_slice(&self) -> Slice {
        Slice::from_arena(self.record().value_bytes())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place(entry {})", self.at)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::key::Kind;
    use crate::sync::spawn;

    /// The keys that a model's writer adds, and what is there before.
    #[derive(Clone, Copy)]
    struct Story {
        before: &'static [u8],
        added: [u8; 2],
    }

    /// The first key makes the prefix shorter, the second comes before it.
    const PREFIX: Story = Story { before: &[5], added: [7, 3] };
    /// A full leaf is split in the middle and gets a parent; then its left half takes another.
    const SPLIT: Story = Story { before: &[2, 5, 8], added: [6, 3] };
    /// A full last leaf stays full, and the new one takes another.
    const APPEND: Story = Story { before: &[2, 5, 8], added: [9, 10] };
    /// The root is full as well.
    const DEEP: Story = Story { before: &[2, 4, 6, 8, 10, 12, 14, 16, 18], added: [9, 11] };

    fn insert(tree: &Tree, key: u8, seq: u64) {
        tree.writer().insert(Tag::new(seq, Kind::Put), &[key], &[key]);
    }

    /// Runs `read` with a tree and the published number, while a writer adds to the tree.
    fn model(story: Story, read: impl Fn(&Arc<Tree>, &dyn Fn(u8) -> bool) + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.max_branches = 50_000;
        builder.check(move || {
            let first = story.before.len() as u64;
            let shared = Arc::new((Arc::new(Tree::new()), AtomicU64::new(first)));
            for (seq, &key) in (1..).zip(story.before) {
                insert(&shared.0, key, seq);
            }
            let writer = shared.clone();
            let added = story.added;
            let writing = spawn("writer", move || {
                for (seq, key) in (first + 1..).zip(added) {
                    insert(&writer.0, key, seq);
                    writer.1.store(seq, Memory::Release);
                }
            });
            let visible = shared.1.load(Memory::Acquire);
            let there = |key: u8| {
                story.before.contains(&key) || (first + 1..=visible).zip(added).any(|(_, published)| published == key)
            };
            read(&shared.0, &there);
            assert!(writing.is_ok_and(|w| w.join()));
        });
    }

    /// A reader that took the published number meets every entry up to it, in order.
    fn walk(story: Story, backward: bool) {
        model(story, move |tree, there| {
            let mut cursor = TreeCursor::new(tree.clone());
            let mut met = Vec::new();
            assert!(if backward { cursor.seek_to_last() } else { cursor.seek_to_first() }.is_ok());
            while cursor.valid() {
                met.push(cursor.key()[0]);
                assert_eq!(cursor.value(), cursor.key());
                assert!(if backward { cursor.prev() } else { cursor.next() }.is_ok());
            }
            assert!(met.is_sorted_by(|a, b| if backward { a > b } else { a < b }), "{met:?}");
            assert!((0..20).all(|key| !there(key) || met.contains(&key)), "{met:?}");
        });
    }

    /// A reader finds every entry up to the published number, and the places between.
    fn search(story: Story, key: u8) {
        let shown =
            |tree: &Tree, place: Option<Place>| place.and_then(|place| tree.probe_at(place)).map(|probe| probe.key[0]);
        // One question a model: together they would multiply what there is to explore.
        model(story, move |tree, there| {
            let found = tree.get(&[key], Tag::NEWEST).map(|record| record.key()[0]);
            assert!(found == Some(key) || found.is_none() && !there(key), "{key}: {found:?}");
        });
        model(story, move |tree, there| {
            let behind = shown(tree, tree.place_behind(Probe { key: &[key], tag: Tag::NEWEST }, false));
            assert!(behind.is_none_or(|behind| behind >= key));
            assert!((key..behind.unwrap_or(20)).all(|missed| !there(missed)), "{key}: {behind:?}");
        });
        model(story, move |tree, there| {
            let before = shown(tree, tree.place_before(Probe { key: &[key], tag: Tag::OLDEST }, true));
            assert!(before.is_none_or(|before| before <= key));
            assert!((before.map_or(0, |b| b + 1)..=key).all(|missed| !there(missed)), "{key}: {before:?}");
        });
    }

    #[test]
    fn loom_forward_while_the_prefix_is_cut() {
        walk(PREFIX, false);
    }

    #[test]
    fn loom_backward_while_the_prefix_is_cut() {
        walk(PREFIX, true);
    }

    #[test]
    fn loom_search_while_the_prefix_is_cut() {
        search(PREFIX, 3);
        search(PREFIX, 5);
    }

    #[test]
    fn loom_forward_while_a_leaf_is_split() {
        walk(SPLIT, false);
    }

    #[test]
    fn loom_backward_while_a_leaf_is_split() {
        walk(SPLIT, true);
    }

    #[test]
    fn loom_search_while_a_leaf_is_split() {
        search(SPLIT, 6);
        search(SPLIT, 5);
        search(SPLIT, 8);
    }

    #[test]
    fn loom_forward_while_the_last_leaf_overflows() {
        walk(APPEND, false);
    }

    #[test]
    fn loom_backward_while_the_last_leaf_overflows() {
        walk(APPEND, true);
    }

    #[test]
    fn loom_search_while_the_last_leaf_overflows() {
        search(APPEND, 9);
        search(APPEND, 8);
        search(APPEND, 10);
    }

    #[test]
    fn loom_search_while_the_root_is_split() {
        search(DEEP, 9);
        search(DEEP, 12);
        search(DEEP, 18);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cmp::Reverse;
    use std::collections::BTreeMap;

    use super::*;
    use crate::key::Kind;
    use crate::sync::spawn;

    /// The safe twin.
    type Twin = BTreeMap<(Vec<u8>, Reverse<u64>), Vec<u8>>;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % n
        }
    }

    /// So many under Miri, which is slow, and elsewhere.
    fn scaled(n: usize) -> usize {
        if cfg!(miri) { (n / 100).clamp(1, 60) } else { n }
    }

    fn entry(cursor: &TreeCursor) -> Option<(Vec<u8>, u64)> {
        cursor.valid().then(|| (cursor.key().to_vec(), cursor.tag().0))
    }

    fn expected(found: Option<(&(Vec<u8>, Reverse<u64>), &Vec<u8>)>) -> Option<(Vec<u8>, u64)> {
        found.map(|((key, Reverse(tag)), _)| (key.clone(), *tag))
    }

    /// Everything that can be asked, of both.
    fn compare(tree: &Arc<Tree>, twin: &Twin, probes: &[(Vec<u8>, u64)]) {
        let mut cursor = TreeCursor::new(tree.clone());
        cursor.seek_to_first().unwrap();
        for ((key, Reverse(tag)), value) in twin {
            assert_eq!((cursor.key(), cursor.tag().0, cursor.value()), (&key[..], *tag, &value[..]));
            assert_eq!((&*cursor.key_slice(), &*cursor.value_slice()), (&key[..], &value[..]));
            cursor.next().unwrap();
        }
        assert!(!cursor.valid());
        cursor.seek_to_last().unwrap();
        for ((key, Reverse(tag)), value) in twin.iter().rev() {
            assert_eq!((cursor.key(), cursor.tag().0, cursor.value()), (&key[..], *tag, &value[..]));
            cursor.prev().unwrap();
        }
        assert!(!cursor.valid());
        for (key, tag) in probes {
            let at = (key.clone(), Reverse(*tag));
            let behind = twin.range(at.clone()..).next();
            cursor.seek(key, Tag(*tag)).unwrap();
            assert_eq!(entry(&cursor), expected(behind));
            let found = tree.at_or_behind(key, Tag(*tag)).map(|record| (record.key().to_vec(), record.tag()));
            assert_eq!(found, expected(behind));
            let got = tree.get(key, Tag(*tag)).map(|record| (record.key().to_vec(), record.tag()));
            assert_eq!(got, expected(behind.filter(|((found, _), _)| found == key)));
            if cursor.valid() {
                cursor.prev().unwrap();
                assert_eq!(entry(&cursor), expected(twin.range(..at.clone()).next_back()));
            }
            cursor.seek_for_prev(key, Tag(*tag)).unwrap();
            assert_eq!(entry(&cursor), expected(twin.range(..=at.clone()).next_back()));
            if cursor.valid() {
                cursor.next().unwrap();
                let behind = twin.range((std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded)).next();
                assert_eq!(entry(&cursor), expected(behind));
            }
        }
    }

    /// Adds `n` entries with keys of `make` to a tree and its twin and compares them now and then.
    fn differ(n: usize, seed: u64, mut make: impl FnMut(usize, &mut Random) -> Vec<u8>) {
        let mut random = Random(seed);
        let (tree, mut twin) = (Arc::new(Tree::new()), Twin::new());
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let check_at = [1, 2, n / 50, n / 7, n / 2, n];
        for i in 1..=n {
            let key = make(i, &mut random);
            let kind = if random.below(5) == 0 { Kind::Delete } else { Kind::Put };
            let value = if kind == Kind::Put { vec![i as u8; random.below(120)] } else { Vec::new() };
            let tag = Tag::new(i as u64, kind);
            tree.writer().insert(tag, &key, &value);
            twin.insert((key.clone(), Reverse(tag.0)), value);
            keys.push(key);
            if check_at.contains(&i) {
                let mut probes: Vec<(Vec<u8>, u64)> = vec![(Vec::new(), u64::MAX), (vec![0xff; 20], 0)];
                for _ in 0..scaled(3000).min(2 * i) {
                    let mut key = keys[random.below(keys.len())].clone();
                    match random.below(6) {
                        0 => drop(key.pop()),
                        1 => key.push(0),
                        2 if !key.is_empty() => {
                            let at = random.below(key.len());
                            key[at] = key[at].wrapping_add(random.below(3) as u8);
                        }
                        _ => {}
                    }
                    probes.push((key, [0, u64::MAX, (random.below(i) as u64) << 8 | 0xff][random.below(3)]));
                }
                compare(&tree, &twin, &probes);
            }
        }
    }

    #[test]
    fn a_node_has_sixteen_cache_lines() {
        assert!(cfg!(miri) || size_of::<Node>() == 1024);
    }

    #[test]
    fn random_keys_of_all_lengths() {
        differ(scaled(20_000), 1, |_, random| {
            let len = random.below(24);
            (0..len).map(|_| random.below(256) as u8).collect()
        });
    }

    #[test]
    fn few_letters_make_many_equal_heads() {
        differ(scaled(20_000), 2, |_, random| {
            let len = random.below(30);
            (0..len).map(|_| [0, b'a', 0xff][random.below(3)]).collect()
        });
    }

    #[test]
    fn eight_bytes_in_every_order() {
        let n = scaled(10_000);
        let key = |i: usize| (i as u64).to_be_bytes().to_vec();
        differ(n, 3, |i, _| key(i));
        differ(n, 4, |i, _| key(n - i));
        differ(n, 5, |i, _| key(i * 7919 % n));
        differ(n, 6, |i, _| key(if i % 2 == 0 { i } else { 2 * n - i }));
        differ(n, 6, |i, _| key(if i < n / 2 { n - i } else { i * 7919 % n }));
    }

    #[test]
    fn decimal_keys_with_shared_prefixes() {
        differ(scaled(20_000), 7, |_, random| format!("{:016}", random.below(1_000_000)).into_bytes());
        differ(scaled(20_000), 8, |_, random| {
            let (tenant, user) = (random.below(20), random.below(40));
            format!("tenant/{tenant:010}/user/{user:010}/{:010}", random.below(100)).into_bytes()
        });
    }

    #[test]
    fn prefixes_that_shrink_step_by_step() {
        let n = scaled(2000);
        differ(n, 9, |i, random| [vec![b'x'; n - i], vec![b'a' + random.below(20) as u8; 9]].concat());
        differ(n, 10, |i, random| [vec![b'x'; n - i / 40 * 40], vec![random.below(256) as u8; 3]].concat());
    }

    #[test]
    fn two_hundred_shared_bytes() {
        let shared: Vec<u8> = (0..200).collect();
        differ(scaled(10_000), 11, |_, random| [&shared[..], &random.below(100_000).to_be_bytes()].concat());
    }

    #[test]
    fn many_versions_of_few_keys() {
        differ(scaled(20_000), 12, |_, _| b"one".to_vec());
        differ(scaled(20_000), 13, |_, random| format!("user{:09}", random.below(7)).into_bytes());
        differ(scaled(5000), 14, |_, _| Vec::new());
    }

    #[test]
    fn the_longest_keys() {
        let len = if cfg!(miri) { 300 } else { 64 << 10 };
        differ(scaled(300), 15, |_, random| {
            let mut key = vec![7; len];
            let at = random.below(len);
            key[at] = random.below(256) as u8;
            key
        });
    }

    #[test]
    fn keys_in_order_fill_their_nodes() {
        let entries = |order: &dyn Fn(u64) -> u64| {
            let tree = Tree::new();
            let n = scaled(50_000) as u64;
            (0..n).for_each(|i| tree.writer().insert(Tag::new(i, Kind::Put), &order(i).to_be_bytes(), &[]));
            (tree.writer().size() as u64 / n, n)
        };
        let record = 16 + 8;
        if !cfg!(miri) {
            assert!(entries(&|i| i).0 <= record + 20 && entries(&|i| u64::MAX - i).0 <= record + 20);
            assert!(entries(&|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).0 <= record + 32);
        }
    }

    #[test]
    fn readers_meet_what_is_published_while_others_come() {
        // Half of the keys cut the prefix now and then, so that edge nodes change too.
        let key_of = |seq: u64| {
            let n = seq * 7919 % 5003;
            format!("{}{n:06}", if n.is_multiple_of(2) { "" } else { &"00000000"[..(n % 8) as usize] }).into_bytes()
        };
        let n = scaled(60_000) as u64;
        let shared = Arc::new((Arc::new(Tree::new()), AtomicU64::new(0)));
        let writer = shared.clone();
        let writing = spawn("writer", move || {
            for seq in 1..=n {
                writer.0.writer().insert(Tag::new(seq, Kind::Put), &key_of(seq), &seq.to_le_bytes());
                writer.1.store(seq, Memory::Release);
            }
        });
        let reader = move |seed: u64, shared: Arc<(Arc<Tree>, AtomicU64)>| {
            let mut random = Random(seed);
            loop {
                let visible = shared.1.load(Memory::Acquire);
                for _ in 0..scaled(300).min(visible as usize) {
                    let seq = 1 + random.below(visible as usize) as u64;
                    let key = key_of(seq);
                    let record = shared.0.get(&key, Tag::visible_at(seq)).unwrap();
                    assert!(record.key() == key && record.value() == seq.to_le_bytes());
                }
                let backward = random.below(2) == 0;
                let mut cursor = TreeCursor::new(shared.0.clone());
                if backward { cursor.seek_to_last() } else { cursor.seek_to_first() }.unwrap();
                let mut met = 0;
                let mut last: Option<(Vec<u8>, Reverse<u64>)> = None;
                while cursor.valid() {
                    let here = (cursor.key().to_vec(), Reverse(cursor.tag().0));
                    assert!(last.is_none_or(|last| if backward { last > here } else { last < here }));
                    met += u64::from(cursor.tag().seq() <= visible);
                    last = Some(here);
                    if backward { cursor.prev() } else { cursor.next() }.unwrap();
                }
                assert_eq!(met, visible);
                if visible == n {
                    break;
                }
            }
        };
        let other = shared.clone();
        let second = spawn("reader", move || reader(2, other));
        reader(1, shared);
        assert!(writing.unwrap().join() && second.unwrap().join());
    }
}
