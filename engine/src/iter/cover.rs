//! Which range tombstone covers a key, asked for one key after another.
//!
//! A [`Cover`] holds *runs*: the fragments of a memtable or of a level-0 table are a run of one
//! list, those of a level are a run of many lists that are disjoint and sorted. It remembers in each
//! run the fragment that it looked at last, so a scan pays for a search only when it leaves one.

use crate::key::SeqNo;
use crate::sync::Arc;
use crate::tombstone::{Fragment, Fragments};

/// Somebody who keeps fragments alive.
pub trait HasFragments {
    /// The fragments.
    fn fragments(&self) -> &Fragments;
}

impl HasFragments for Arc<Fragments> {
    fn fragments(&self) -> &Fragments {
        self
    }
}

impl HasFragments for Fragments {
    fn fragments(&self) -> &Fragments {
        self
    }
}

/// Range tombstones of many sources.
#[derive(Debug)]
pub struct Cover<H> {
    runs: Vec<Run<H>>,
}

#[derive(Debug)]
struct Run<H> {
    /// Sorted, disjoint, none of them empty.
    lists: Vec<H>,
    /// The list and the fragment that end behind the key asked last; either may be one too far.
    list: usize,
    slot: usize,
}

impl<H: HasFragments> Cover<H> {
    /// No tombstones.
    pub fn new() -> Cover<H> {
        Cover { runs: Vec::new() }
    }

    /// Each of `lists` by itself, in any order and with any overlaps.
    pub fn from_lists(lists: impl IntoIterator<Item = H>) -> Cover<H> {
        let mut cover = Cover::new();
        for list in lists {
            cover.push_run(vec![list]);
        }
        cover
    }

    /// Adds lists that are disjoint and sorted by key. Empty ones are left out.
    pub fn push_run(&mut self, mut lists: Vec<H>) {
        lists.retain(|list| !list.fragments().is_empty());
        if !lists.is_empty() {
            self.runs.push(Run { lists, list: 0, slot: 0 });
        }
    }

    /// True if nothing is covered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The greatest sequence number, at most `visible`, of a tombstone over `key`.
    #[inline]
    pub fn covering(&mut self, key: &[u8], visible: SeqNo) -> Option<SeqNo> {
        if self.runs.is_empty() {
            return None;
        }
        self.runs.iter_mut().filter_map(|run| run.fragment(key)?.newest_visible(visible)).max()
    }

    /// True if a reader at `visible` does not see the entry of `key` with number `seq`.
    #[inline]
    pub fn hides(&mut self, key: &[u8], seq: SeqNo, visible: SeqNo) -> bool {
        !self.runs.is_empty() && self.covering(key, visible).is_some_and(|over| over > seq)
    }
}

impl<H: HasFragments> Default for Cover<H> {
    fn default() -> Cover<H> {
        Cover::new()
    }
}

impl<H: HasFragments> Run<H> {
    /// The fragment that contains `key`.
    #[inline]
    fn fragment(&mut self, key: &[u8]) -> Option<&Fragment> {
        if !self.stands_at(key) {
            self.find(key);
        }
        let fragment = slice(self.lists.get(self.list)?).get(self.slot)?;
        (fragment.start.as_slice() <= key).then_some(fragment)
    }

    /// True if the remembered place is the first fragment that ends behind `key`.
    fn stands_at(&self, key: &[u8]) -> bool {
        let here = self.lists.get(self.list).map(|list| slice(list));
        if let Some(fragment) = here.and_then(|fragments| fragments.get(self.slot)) {
            if !ends_behind(fragment, key) {
                return false;
            }
            if fragment.start.as_slice() <= key {
                return true;
            }
        }
        let before = match (self.slot.checked_sub(1), here) {
            (Some(slot), Some(fragments)) => fragments.get(slot),
            _ => self.list.checked_sub(1).and_then(|list| slice(&self.lists[list]).last()),
        };
        before.is_none_or(|fragment| !ends_behind(fragment, key))
    }

    fn find(&mut self, key: &[u8]) {
        // The next fragment first: that is where a scan goes.
        self.slot += 1;
        if self.lists.get(self.list).is_some_and(|list| self.slot < slice(list).len()) && self.stands_at(key) {
            return;
        }
        self.list = self.lists.partition_point(|list| slice(list).last().is_none_or(|last| !ends_behind(last, key)));
        self.slot = match self.lists.get(self.list) {
            Some(list) => slice(list).partition_point(|fragment| !ends_behind(fragment, key)),
            None => 0,
        };
    }
}

fn slice<H: HasFragments>(list: &H) -> &[Fragment] {
    list.fragments().iter().as_slice()
}

fn ends_behind(fragment: &Fragment, key: &[u8]) -> bool {
    fragment.end.as_deref().is_none_or(|end| key < end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyRange;
    use crate::tombstone::RangeTombstone;
    use std::ops::Bound;

    #[test]
    fn agrees_with_the_fragments_in_any_order_of_questions() {
        let mut state = 0x1234_5678_9abcu64;
        let mut below = move |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        for round in 0..300 {
            let whole = Fragments::build((0..below(12)).map(|_| {
                let start = below(20) as u8;
                let end = (below(8) > 0).then(|| vec![start + 1 + below(5) as u8]);
                RangeTombstone { start: vec![start], end, seq: below(50) + 1 }
            }));
            // The same fragments cut into a run of several lists.
            let cut = |from: Bound<Vec<u8>>, to: Bound<Vec<u8>>| whole.clip(&KeyRange { start: from, end: to });
            let key = |n: u8| vec![n];
            let mut cover: Cover<Arc<Fragments>> = Cover::new();
            cover.push_run(
                [
                    cut(Bound::Unbounded, Bound::Excluded(key(6))),
                    cut(Bound::Included(key(6)), Bound::Excluded(key(7))),
                    cut(Bound::Included(key(7)), Bound::Excluded(key(15))),
                    cut(Bound::Included(key(15)), Bound::Unbounded),
                ]
                .map(Arc::new)
                .to_vec(),
            );
            let mut at = 0u8;
            for _ in 0..100 {
                at = if below(5) == 0 { below(27) as u8 } else { (at + 1) % 27 };
                let visible = below(60);
                assert_eq!(cover.covering(&[at], visible), whole.covering(&[at], visible), "round {round}");
            }
        }
    }
}
