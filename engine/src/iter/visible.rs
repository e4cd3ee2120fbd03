//! What a reader at one sequence number sees: the newest visible value of each key of a range.
//!
//! Forward, the inner cursor stands on the entry that is shown, so key and value are borrowed from
//! it. Backward as well, where it knows that a key has one version. Else versions come oldest first, so
//! the newest one so far is kept as two slices while the inner cursor goes on to the key before; it then
//! stands in front of the shown key.
//!
//! Entries with numbers above the reader's may turn up or vanish from sight at any time, since
//! memtables grow; they are passed over wherever they are met.

use crate::error::Result;
use crate::iter::Cursor;
use crate::iter::cover::{Cover, HasFragments};
use crate::key::{KeyRange, SeqNo, Tag};
use crate::sabotage::{self, Bug};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::tombstone::Fragments;

/// After so many versions of one key the cursor seeks past the rest.
const STEPS_MAX: u32 = 8;

/// A cursor over user keys and values.
#[derive(Debug)]
pub struct Visible<C, H = Arc<Fragments>> {
    cursor: C,
    visible: SeqNo,
    cover: Cover<H>,
    /// The range: `first ..limit`.
    first: Vec<u8>,
    limit: Option<Vec<u8>>,
    place: Place,
    /// Key and value of an entry that was kept.
    kept: Option<(Slice, Slice)>,
    /// The key last shown or found dead, while its other versions are passed over.
    passed: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    /// The inner cursor stands on the entry.
    Here,
    /// The entry was kept, and the inner cursor stands somewhere before its key.
    Kept,
}

impl<C: Cursor, H: HasFragments> Visible<C, H> {
    /// What a reader at `visible` sees of `cursor` under the tombstones of `cover`, within `range`.
    pub fn new(cursor: C, visible: SeqNo, cover: Cover<H>, range: &KeyRange) -> Visible<C, H> {
        let (first, limit) = (range.first(), range.limit());
        Visible { cursor, visible, cover, first, limit, place: Place::Nowhere, kept: None, passed: Vec::new() }
    }

    /// True while the cursor stands on a key.
    #[inline]
    pub fn valid(&self) -> bool {
        self.place != Place::Nowhere
    }

    /// The inner cursor, if it stands on the entry that is shown and there are no tombstones anywhere.
    #[inline]
    pub fn uncovered(&self) -> Option<&C> {
        (self.place == Place::Here && self.cover.is_empty()).then_some(&self.cursor)
    }

    /// The inner cursor; to be moved to no entry but such as it may show, while it stands on one.
    pub fn inner_mut(&mut self) -> &mut C {
        &mut self.cursor
    }

    /// The reader's sequence number.
    pub fn seq(&self) -> SeqNo {
        self.visible
    }

    /// Where the range begins.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// Where the range ends: before this key.
    pub fn limit(&self) -> Option<&[u8]> {
        self.limit.as_deref()
    }

    /// Goes to the first key of the range.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.leave();
        self.cursor.seek(&self.first, Tag::visible_at(self.visible))?;
        self.find_forward(false)
    }

    /// Goes to the last key of the range.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.leave();
        match &self.limit {
            Some(limit) => self.cursor.seek_for_prev(limit, Tag::NEWEST)?,
            None => self.cursor.seek_to_last()?,
        }
        self.find_backward()
    }

    /// Goes to the first key of the range at or behind `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.leave();
        self.cursor.seek(key.max(self.first.as_slice()), Tag::visible_at(self.visible))?;
        self.find_forward(false)
    }

    /// Goes to the last key of the range at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        if self.limit.as_deref().is_some_and(|limit| key >= limit) {
            return self.seek_to_last();
        }
        self.leave();
        self.cursor.seek_for_prev(key, Tag::OLDEST)?;
        self.find_backward()
    }

    /// Goes to the next key; does nothing when invalid.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "the field's name for it; it is not an iterator")]
    pub fn next(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Nowhere => Ok(()),
            Place::Here => {
                let passing = self.pass();
                self.cursor.next()?;
                self.find_forward(passing)
            }
            Place::Kept => self.next_after_kept(),
        }
    }

    #[cold]
    fn next_after_kept(&mut self) -> Result<()> {
        let Some((key, _)) = self.kept.take() else { return Ok(()) };
        self.passed.clear();
        self.passed.extend_from_slice(&key);
        self.cursor.seek(&key, Tag::OLDEST)?;
        self.find_forward(true)
    }

    fn leave(&mut self) {
        (self.place, self.kept) = (Place::Nowhere, None);
    }

    /// Before a step forward: keeps the key in `passed` if its other versions are still to be passed
    /// over; true if so.
    #[inline]
    fn pass(&mut self) -> bool {
        if self.cursor.is_last_version() {
            return false;
        }
        self.passed.clear();
        self.passed.extend_from_slice(self.cursor.key());
        true
    }

    /// Goes to the previous key; does nothing when invalid.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Nowhere => return Ok(()),
            // The versions that lie before the shown one are too new, and are passed over.
            Place::Here => self.cursor.prev()?,
            Place::Kept => self.kept = None,
        }
        self.find_backward()
    }

    /// The key. Only while valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match &self.kept {
            Some((key, _)) if self.place == Place::Kept => key,
            _ => self.cursor.key(),
        }
    }

    /// The value. Only while valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match &self.kept {
            Some((_, value)) if self.place == Place::Kept => value,
            _ => self.cursor.value(),
        }
    }

    /// The key, kept alive. Only while valid.
    pub fn key_slice(&self) -> Slice {
        match &self.kept {
            Some((key, _)) if self.place == Place::Kept => key.clone(),
            _ => self.cursor.key_slice(),
        }
    }

    /// The value, kept alive. Only while valid.
    pub fn value_slice(&self) -> Slice {
        match &self.kept {
            Some((_, value)) if self.place == Place::Kept => value.clone(),
            _ => self.cursor.value_slice(),
        }
    }

    /// From where the inner cursor stands to the next entry to show. `passing`: the versions of the
    /// key in `passed` are not to be shown.
    #[inline]
    fn find_forward(&mut self, mut passing: bool) -> Result<()> {
        let mut steps = 0;
        while self.cursor.valid() {
            let (key, tag) = (self.cursor.key(), self.cursor.tag());
            if passing && key == self.passed.as_slice() {
                steps += 1;
                if steps > STEPS_MAX && tag.0 != 0 {
                    self.cursor.seek(&self.passed, Tag::OLDEST)?;
                } else {
                    self.cursor.next()?;
                }
                continue;
            }
            if self.limit.as_deref().is_some_and(|limit| key >= limit) {
                return Ok(());
            }
            if tag.seq() > self.visible {
                steps += 1;
                if steps > STEPS_MAX {
                    steps = 0;
                    let key = self.cursor.key_slice();
                    self.cursor.seek(&key, Tag::visible_at(self.visible))?;
                } else {
                    self.cursor.next()?;
                }
                continue;
            }
            if tag.is_put() && !self.cover.hides(key, tag.seq(), self.visible) {
                self.place = Place::Here;
                return Ok(());
            }
            passing = self.pass();
            steps = 0;
            self.cursor.next()?;
        }
        Ok(())
    }

    /// From where the inner cursor stands back to the next entry to show.
    fn find_backward(&mut self) -> Result<()> {
        let mut too_new = 0;
        while self.cursor.valid() {
            let (key, tag) = (self.cursor.key(), self.cursor.tag());
            if !self.first.is_empty() && key < self.first.as_slice() {
                return Ok(());
            }
            if tag.seq() > self.visible {
                too_new += 1;
                if too_new > STEPS_MAX {
                    // Either this key has visible versions, which lie behind and are done with, or
                    // it has none.
                    too_new = 0;
                    let key = self.cursor.key_slice();
                    self.cursor.seek_for_prev(&key, Tag::NEWEST)?;
                } else {
                    self.cursor.prev()?;
                }
                continue;
            }
            let uncovered = sabotage::is(Bug::BackwardUncovered);
            if self.cursor.is_first_version() {
                // Its only visible version: those behind were passed over before.
                if tag.is_put() && (uncovered || !self.cover.hides(key, tag.seq(), self.visible)) {
                    self.place = Place::Here;
                    return Ok(());
                }
                self.cursor.prev()?;
                continue;
            }
            let (key, newest, value) = self.newest_backward()?;
            if newest.is_put() && (uncovered || !self.cover.hides(&key, newest.seq(), self.visible)) {
                (self.kept, self.place) = (Some((key, value)), Place::Kept);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The newest visible version of the key that the inner cursor stands on, which moves before
    /// all of its visible versions.
    fn newest_backward(&mut self) -> Result<(Slice, Tag, Slice)> {
        let key = self.cursor.key_slice();
        let mut newest = (self.cursor.tag(), self.cursor.value_slice());
        let mut steps = 0;
        loop {
            self.cursor.prev()?;
            let same = self.cursor.valid() && self.cursor.tag().seq() <= self.visible && self.cursor.key() == &*key;
            if !same {
                return Ok((key, newest.0, newest.1));
            }
            steps += 1;
            if steps > STEPS_MAX {
                self.cursor.seek(&key, Tag::visible_at(self.visible))?;
                if self.cursor.valid() {
                    newest = (self.cursor.tag(), self.cursor.value_slice());
                }
                self.cursor.seek_for_prev(&key, Tag::NEWEST)?;
                return Ok((key, newest.0, newest.1));
            }
            newest = (self.cursor.tag(), self.cursor.value_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::iter::VecCursor;
    use crate::iter::merge::Merge;
    use crate::key::Kind;
    use crate::tombstone::RangeTombstone;
    use std::ops::Bound;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }

        fn key(&mut self) -> Vec<u8> {
            format!("{:02}", self.below(25)).into_bytes()
        }

        fn bound(&mut self) -> Bound<Vec<u8>> {
            match self.below(3) {
                0 => Bound::Unbounded,
                1 => Bound::Included(self.key()),
                _ => Bound::Excluded(self.key()),
            }
        }
    }

    /// What a reader sees, by replaying history up to its number.
    fn replay(history: &[Op], visible: SeqNo, range: &KeyRange) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut map = BTreeMap::new();
        for (i, op) in history.iter().enumerate().take(visible as usize) {
            match op {
                Op::Put(key) => {
                    map.insert(key.clone(), format!("v{}", i + 1).into_bytes());
                }
                Op::Delete(key) => {
                    map.remove(key);
                }
                Op::DeleteRange(start, end) => {
                    map.retain(|k, _| k < start || end.as_ref().is_some_and(|end| k >= end));
                }
            }
        }
        map.retain(|k, _| range.contains(k));
        map
    }

    enum Op {
        Put(Vec<u8>),
        Delete(Vec<u8>),
        DeleteRange(Vec<u8>, Option<Vec<u8>>),
    }

    /// Random history, snapshots, ranges and walks against a map.
    #[test]
    fn agrees_with_a_map_of_versions() {
        for seed in 1..500u64 {
            let mut random = Random(seed * 0x9e37_79b9_7f4a);
            let n_sources = 1 + random.below(4) as usize;
            let mut lists = vec![Vec::new(); n_sources];
            let mut tombstones = vec![Vec::new(); n_sources];
            let mut history = Vec::new();
            // One key gets many versions so that the seeks past them are used.
            let hot = random.key();
            for seq in 1..=random.below(150) {
                let source = random.below(n_sources as u64) as usize;
                let key = if random.below(3) == 0 { hot.clone() } else { random.key() };
                match random.below(12) {
                    0 => {
                        let end = (random.below(6) > 0).then(|| random.key());
                        tombstones[source].push(RangeTombstone { start: key.clone(), end: end.clone(), seq });
                        history.push(Op::DeleteRange(key, end));
                    }
                    1..=3 => {
                        lists[source].push((key.clone(), Tag::new(seq, Kind::Delete), Vec::new()));
                        history.push(Op::Delete(key));
                    }
                    _ => {
                        lists[source].push((key.clone(), Tag::new(seq, Kind::Put), format!("v{seq}").into_bytes()));
                        history.push(Op::Put(key));
                    }
                }
            }
            let visible = random.below(history.len() as u64 + 1);
            let range = KeyRange { start: random.bound(), end: random.bound() };
            let map: Vec<_> = replay(&history, visible, &range).into_iter().collect();
            let cover = Cover::from_lists(tombstones.into_iter().map(|list| Arc::new(Fragments::build(list))));
            let merge = Merge::new(lists.into_iter().map(VecCursor::new).collect());
            let mut cursor = Visible::new(merge, visible, cover, &range);
            let mut at: Option<usize> = None;
            for _ in 0..120 {
                let key = random.key();
                match if random.below(5) == 0 { random.below(6) } else { random.below(2) } {
                    0 => {
                        cursor.next().unwrap();
                        at = at.map(|at| at + 1);
                    }
                    1 => {
                        cursor.prev().unwrap();
                        at = at.and_then(|at| at.checked_sub(1));
                    }
                    2 => {
                        cursor.seek_to_first().unwrap();
                        at = Some(0);
                    }
                    3 => {
                        cursor.seek_to_last().unwrap();
                        at = map.len().checked_sub(1);
                    }
                    4 => {
                        cursor.seek(&key).unwrap();
                        at = Some(map.partition_point(|(k, _)| *k < key));
                    }
                    _ => {
                        cursor.seek_for_prev(&key).unwrap();
                        at = map.partition_point(|(k, _)| *k <= key).checked_sub(1);
                    }
                }
                at = at.filter(|&at| at < map.len());
                assert_eq!(cursor.valid(), at.is_some(), "seed {seed}");
                if let Some(at) = at {
                    assert_eq!((cursor.key(), cursor.value()), (&*map[at].0, &*map[at].1), "seed {seed}");
                    assert_eq!(cursor.key_slice(), map[at].0);
                    assert_eq!(cursor.value_slice(), map[at].1);
                }
            }
        }
    }
}
