//! Many cursors as one.
//!
//! The source with the least entry (the greatest when going backward) is the *current* one and
//! stands outside the heap of the others. The top of that heap is therefore the runner-up: as long
//! as the current source stays ahead of it, a step costs one comparison, and with a single source
//! left none at all. Comparisons look at the first sixteen bytes of the keys as one number first.
//!
//! Always true while valid and going forward: every other source stands on its first entry behind
//! the current one, or has none; going backward: on its last entry before it. Equal entries of
//! several sources, which the engine does not make, are told apart by the sources' order.

use std::cmp::Ordering;

use crate::error::Result;
use crate::iter::Cursor;
use crate::key::{Tag, cmp_internal};
use crate::slice::Slice;

/// A cursor over the union of its sources.
#[derive(Debug)]
pub struct Merge<C> {
    sources: Vec<C>,
    /// By source: the head of the key it stands on; stale while the source is invalid.
    heads: Vec<u128>,
    /// The valid sources other than the current one, as a binary heap.
    heap: Vec<u32>,
    current: Option<u32>,
    backward: bool,
}

impl<C: Cursor> Merge<C> {
    /// Merges `sources`; invalid until the first seek.
    pub fn new(sources: Vec<C>) -> Merge<C> {
        let n = sources.len();
        Merge { sources, heads: vec![0; n], heap: Vec::with_capacity(n), current: None, backward: false }
    }

    /// Positions every source with `place` and starts over.
    fn restart(&mut self, backward: bool, mut place: impl FnMut(&mut C) -> Result<()>) -> Result<()> {
        self.current = None;
        for source in &mut self.sources {
            place(source)?;
        }
        self.backward = backward;
        self.rebuild();
        Ok(())
    }

    /// Makes heap and current source from where the sources stand.
    fn rebuild(&mut self) {
        self.heap.clear();
        for i in 0..self.sources.len() {
            if self.sources[i].valid() {
                self.heads[i] = wide_head(self.sources[i].key());
                self.heap.push(i as u32);
            }
        }
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        self.current = self.pop();
    }

    fn pop(&mut self) -> Option<u32> {
        if self.heap.is_empty() {
            return None;
        }
        let top = self.heap.swap_remove(0);
        self.sift_down(0);
        Some(top)
    }

    /// Puts the current source, which has just moved, where it belongs.
    #[inline]
    fn settle(&mut self, current: u32) {
        let i = current as usize;
        if self.heap.is_empty() {
            // The bare loop: nobody to compare with, so the head is not needed either.
            self.current = self.sources[i].valid().then_some(current);
            return;
        }
        if !self.sources[i].valid() {
            self.current = self.pop();
            return;
        }
        self.heads[i] = wide_head(self.sources[i].key());
        let runner_up = self.heap[0];
        if self.comes_before(current, runner_up) {
            self.current = Some(current);
        } else {
            self.heap[0] = current;
            self.sift_down(0);
            self.current = Some(runner_up);
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.comes_before(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if self.comes_before(self.heap[at], self.heap[child]) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }

    /// True if source `a` is to be visited before source `b`.
    #[inline]
    fn comes_before(&self, a: u32, b: u32) -> bool {
        let (i, j) = (a as usize, b as usize);
        let order = match self.heads[i].cmp(&self.heads[j]) {
            Ordering::Equal => {
                let (x, y) = (&self.sources[i], &self.sources[j]);
                cmp_internal(x.key(), x.tag(), y.key(), y.tag()).then(i.cmp(&j))
            }
            unequal => unequal,
        };
        order.is_lt() != self.backward
    }

    /// Turns round: the current source stays, the others step over to its other side.
    ///
    /// A source may have grown since it took its place, and then a step, or its own end, may still
    /// lie on the side that it should leave: it is placed by the current entry instead.
    fn turn(&mut self, current: u32) -> Result<()> {
        let to_backward = !self.backward;
        self.current = None;
        let stays = &self.sources[current as usize];
        let (key, tag) = (stays.key_slice(), stays.tag());
        for (i, source) in self.sources.iter_mut().enumerate() {
            if i == current as usize {
                continue;
            }
            match (source.valid(), to_backward) {
                (true, true) => source.prev()?,
                (true, false) => source.next()?,
                // It had run out, so all it had then lies on the other side.
                (false, true) => source.seek_to_last()?,
                (false, false) => source.seek_to_first()?,
            }
            if !source.valid() {
                continue;
            }
            match (cmp_internal(source.key(), source.tag(), &key, tag), to_backward) {
                (Ordering::Greater, true) => source.seek_for_prev(&key, tag)?,
                (Ordering::Less, false) => source.seek(&key, tag)?,
                _ => {}
            }
        }
        self.backward = to_backward;
        Ok(())
    }

    /// The source it stands on; none while invalid.
    #[inline]
    pub fn current(&self) -> Option<&C> {
        self.current.map(|current| &self.sources[current as usize])
    }

    /// The source whose entry comes next, if the current one has none before it.
    #[inline]
    pub fn runner_up(&self) -> Option<&C> {
        self.heap.first().map(|&i| &self.sources[i as usize])
    }

    /// True if it goes backward.
    #[inline]
    pub fn is_backward(&self) -> bool {
        self.backward
    }

    /// Lets `step` move the current source, which then still stands in front of the runner-up, and is valid.
    pub fn move_current(&mut self, step: impl FnOnce(&mut C)) {
        let Some(current) = self.current else { return };
        let source = &mut self.sources[current as usize];
        step(source);
        self.heads[current as usize] = wide_head(source.key());
    }

    /// True if no other source stands on the current key, as far as heads tell.
    #[inline]
    fn stands_alone(&self) -> bool {
        match (self.current, self.heap.first()) {
            (Some(current), Some(&runner_up)) => self.heads[current as usize] != self.heads[runner_up as usize],
            _ => true,
        }
    }

    #[inline]
    fn source(&self) -> &C {
        let current = self.current.expect("an accessor needs a valid cursor");
        &self.sources[current as usize]
    }
}

impl<C: Cursor> Cursor for Merge<C> {
    #[inline]
    fn valid(&self) -> bool {
        self.current.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.restart(false, |source| source.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.restart(true, |source| source.seek_to_last())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.restart(false, |source| source.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.restart(true, |source| source.seek_for_prev(key, tag))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        if self.backward {
            self.turn(current)?;
            self.sources[current as usize].next()?;
            self.rebuild();
        } else {
            self.sources[current as usize].next()?;
            self.settle(current);
        }
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        if self.backward {
            self.sources[current as usize].prev()?;
            self.settle(current);
        } else {
            self.turn(current)?;
            self.sources[current as usize].prev()?;
            self.rebuild();
        }
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.source().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.source().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.source().value()
    }

    #[inline]
    fn key_slice(&self) -> Slice {
        self.source().key_slice()
    }

    #[inline]
    fn value_slice(&self) -> Slice {
        self.source().value_slice()
    }

    #[inline]
    fn entry(&self) -> (&[u8], Tag, &[u8]) {
        self.source().entry()
    }

    #[inline]
    fn is_last_version(&self) -> bool {
        !self.backward && self.stands_alone() && self.source().is_last_version()
    }

    #[inline]
    fn is_first_version(&self) -> bool {
        self.backward && self.stands_alone() && self.source().is_first_version()
    }
}

/// The first sixteen bytes of a key as a number: different numbers order as their keys do.
#[inline]
fn wide_head(key: &[u8]) -> u128 {
    match key.first_chunk::<16>() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 16];
            bytes[..key.len()].copy_from_slice(key);
            u128::from_be_bytes(bytes)
        }
    }
}

/// The first eight bytes of a key as a number: different numbers order as their keys do.
#[inline]
pub fn head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::iter::VecCursor;
    use crate::key::Kind;

    type Entry = (Vec<u8>, Tag, Vec<u8>);

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n as u64) as usize
        }

        fn key(&mut self) -> Vec<u8> {
            // Short and long keys, with and without a common head.
            match self.below(3) {
                0 => vec![b'a' + self.below(5) as u8; self.below(3)],
                1 => format!("long prefix {:02}", self.below(20)).into_bytes(),
                _ => format!("{:03}", self.below(30)).into_bytes(),
            }
        }
    }

    #[test]
    fn heads_order_as_keys() {
        assert!(head(b"a") < head(b"b"));
        assert_eq!(head(b"a"), head(b"a\0"), "equal heads decide nothing");
        assert!(head(b"12345678z") == head(b"12345678"));
        assert!(head(b"") <= head(b"\0"));
        assert!(wide_head(b"0123456789abcdee") < wide_head(b"0123456789abcdef"));
        assert!(wide_head(b"0123456789abcdef") == wide_head(b"0123456789abcdefg"));
        assert!(wide_head(b"0123456789") < wide_head(b"0123456789a"));
    }

    /// Against one sorted list, with random walks in both directions.
    #[test]
    fn agrees_with_one_list() {
        for seed in 1..400u64 {
            let mut random = Random(seed * 0x9e37_79b9);
            let n_sources = random.below(6);
            let mut lists: Vec<Vec<Entry>> = vec![Vec::new(); n_sources];
            let mut all: Vec<Entry> = Vec::new();
            if n_sources > 0 {
                for seq in 0..random.below(60) {
                    let entry = (random.key(), Tag::new(seq as u64, Kind::Put), vec![seq as u8]);
                    lists[random.below(n_sources)].push(entry.clone());
                    all.push(entry);
                }
            }
            all.sort_by(|a, b| cmp_internal(&a.0, a.1, &b.0, b.1));
            let mut merge = Merge::new(lists.into_iter().map(VecCursor::new).collect());
            let mut oracle = VecCursor::new(all);
            for _ in 0..200 {
                let (key, tag) = (random.key(), Tag::new(random.below(60) as u64, Kind::Put));
                let steps: [&dyn Fn(&mut dyn Cursor) -> Result<()>; 8] = [
                    &|c| c.next(),
                    &|c| c.prev(),
                    &|c| c.next(),
                    &|c| c.prev(),
                    &|c| c.seek_to_first(),
                    &|c| c.seek_to_last(),
                    &|c| c.seek(&key, tag),
                    &|c| c.seek_for_prev(&key, tag),
                ];
                // Mostly steps, so that runs in one direction are long enough.
                let which = if random.below(4) == 0 { random.below(8) } else { random.below(2) };
                steps[which](&mut merge).unwrap();
                steps[which](&mut oracle).unwrap();
                assert_eq!(merge.valid(), oracle.valid(), "seed {seed}");
                if oracle.valid() {
                    assert!(!merge.is_last_version() || oracle.is_last_version(), "seed {seed}");
                    assert!(!merge.is_first_version() || oracle.is_first_version(), "seed {seed}");
                }
                if oracle.valid() {
                    assert_eq!((merge.key(), merge.tag()), (oracle.key(), oracle.tag()), "seed {seed}");
                    assert_eq!(merge.value_slice(), oracle.value_slice());
                }
            }
        }
    }

    #[test]
    fn equal_entries_come_in_source_order_both_ways() {
        let one = |v: &str| VecCursor::new(vec![(b"k".to_vec(), Tag::new(1, Kind::Put), v.into())]);
        let mut merge = Merge::new(vec![one("a"), one("b"), one("c")]);
        let mut seen = Vec::new();
        merge.seek_to_first().unwrap();
        for step in [1, 1, -1, -1, 1, 1, -1, 1] {
            seen.extend_from_slice(merge.value());
            if step > 0 { merge.next().unwrap() } else { merge.prev().unwrap() }
        }
        assert_eq!(seen, b"abcbabcb");
    }

    /// A source with entries that turn up later, as a memtable has.
    struct Growing {
        inner: VecCursor,
        since: u64,
        grown: std::rc::Rc<std::cell::Cell<bool>>,
    }

    impl Growing {
        fn pass(&mut self, backward: bool) -> Result<()> {
            while self.inner.valid() && self.inner.tag().seq() >= self.since && !self.grown.get() {
                if backward { self.inner.prev()? } else { self.inner.next()? }
            }
            Ok(())
        }
    }

    impl Cursor for Growing {
        fn valid(&self) -> bool {
            self.inner.valid()
        }
        fn seek_to_first(&mut self) -> Result<()> {
            self.inner.seek_to_first()?;
            self.pass(false)
        }
        fn seek_to_last(&mut self) -> Result<()> {
            self.inner.seek_to_last()?;
            self.pass(true)
        }
        fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
            self.inner.seek(key, tag)?;
            self.pass(false)
        }
        fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
            self.inner.seek_for_prev(key, tag)?;
            self.pass(true)
        }
        fn next(&mut self) -> Result<()> {
            self.inner.next()?;
            self.pass(false)
        }
        fn prev(&mut self) -> Result<()> {
            self.inner.prev()?;
            self.pass(true)
        }
        fn key(&self) -> &[u8] {
            self.inner.key()
        }
        fn tag(&self) -> Tag {
            self.inner.tag()
        }
        fn value(&self) -> &[u8] {
            self.inner.value()
        }
        fn key_slice(&self) -> Slice {
            self.inner.key_slice()
        }
        fn value_slice(&self) -> Slice {
            self.inner.value_slice()
        }
    }

    /// Whatever turns up behind it, a cursor that turns goes to the other side of where it stands.
    #[test]
    fn a_source_that_grew_is_left_on_the_right_side() {
        let entry = |key: &str, seq| (key.as_bytes().to_vec(), Tag::new(seq, Kind::Put), Vec::new());
        let old = || vec![entry("b", 1), entry("d", 2), entry("f", 3)];
        let grows = || ["a", "c", "e", "g", "h"].map(|k| entry(k, 9)).to_vec();
        let with_one = || [vec![entry("cc", 4)], grows()].concat();
        for growing in [grows(), with_one()] {
            for (first, backward) in [("b", false), ("d", false), ("f", false), ("d", true), ("b", true), ("f", true)] {
                let mut growing = growing.clone();
                growing.sort_by(|a, b| cmp_internal(&a.0, a.1, &b.0, b.1));
                let grown = std::rc::Rc::new(std::cell::Cell::new(false));
                let source = |list, since| Growing { inner: VecCursor::new(list), since, grown: grown.clone() };
                let mut merge = Merge::new(vec![source(old(), 100), source(growing, 9)]);
                let key = first.as_bytes();
                if backward {
                    merge.seek_for_prev(key, Tag::OLDEST).unwrap();
                } else {
                    merge.seek(key, Tag::NEWEST).unwrap();
                }
                assert_eq!(merge.key(), key);
                grown.set(true);
                let mut last = key.to_vec();
                if backward {
                    merge.next().unwrap()
                } else {
                    merge.prev().unwrap()
                }
                while merge.valid() {
                    let ahead = if backward { merge.key() > last.as_slice() } else { merge.key() < last.as_slice() };
                    assert!(ahead, "from {first}, backward {backward}: {} after {}", merge.key()[0], last[0]);
                    last = merge.key().to_vec();
                    if backward { merge.next().unwrap() } else { merge.prev().unwrap() }
                }
            }
        }
    }
}
