//! What survives a merge: a pure decision for each entry, in internal order.
//!
//! Snapshots cut history into *stripes*: two versions of a key that no snapshot lies between look
//! the same to every reader, so only the newer one is kept. The published number is the upper end
//! of the youngest stripe; entries above it are not visible to anybody yet and are kept as they are.
//!
//! At the bottom (nothing deeper overlaps), in the oldest stripe, a tombstone has nothing left to
//! hide and goes; a put is seen by every reader there will ever be and its number becomes 0, which
//! costs no space. No range tombstone with a lower number can be kept over such a put: it would lie
//! in the oldest stripe itself, and at the bottom those go.

use crate::iter::Cursor;
use crate::key::{SeqNo, Tag};
use crate::tombstone::{Fragments, RangeTombstone};

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write it, under this tag.
    Keep(Tag),
    /// A newer version of the key hides it from every reader.
    DropOlder,
    /// A range tombstone hides it from every reader.
    DropRangeDeleted,
    /// A tombstone that has nothing left to hide.
    DropTombstone,
}

/// Decides entry by entry; entries must come in internal order.
#[derive(Debug)]
pub struct Retain<'a> {
    stripes: Stripes<'a>,
    bottom: bool,
    tombstones: &'a Fragments,
    /// The stripe of the last entry of the current key that was seen; none before the first.
    last_stripe: Option<usize>,
}

/// The key of the entry before, kept only where the next one may repeat it.
#[derive(Debug, Default)]
pub struct LastKey {
    key: Vec<u8>,
    may_repeat: bool,
}

impl LastKey {
    /// No entry yet.
    pub fn new() -> LastKey {
        LastKey::default()
    }

    /// True if `key` is that of the entry before.
    #[inline]
    pub fn is_repeated_by(&self, key: &[u8]) -> bool {
        self.may_repeat && self.key == key
    }

    /// To be called before `cursor` steps on.
    #[inline]
    pub fn leave(&mut self, cursor: &impl Cursor) {
        self.may_repeat = !cursor.is_last_version();
        if self.may_repeat {
            self.key.clear();
            self.key.extend_from_slice(cursor.key());
        }
    }
}

/// History, cut at the snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Stripes<'a> {
    /// Ascending.
    snapshots: &'a [SeqNo],
    visible: SeqNo,
}

impl<'a> Stripes<'a> {
    /// Stripes between `snapshots` (ascending), with `visible` as the upper end of the youngest.
    pub fn new(snapshots: &'a [SeqNo], visible: SeqNo) -> Stripes<'a> {
        debug_assert!(snapshots.windows(2).all(|w| w[0] < w[1]));
        Stripes { snapshots, visible }
    }

    /// The number of the stripe, 0 for the oldest; none for what is not visible yet.
    pub fn of(&self, seq: SeqNo) -> Option<usize> {
        let index = self.snapshots.partition_point(|s| *s < seq);
        (index < self.snapshots.len() || seq <= self.visible).then_some(index)
    }

    /// The largest number in a stripe.
    pub fn top(&self, stripe: usize) -> SeqNo {
        self.snapshots.get(stripe).copied().unwrap_or(self.visible)
    }
}

impl<'a> Retain<'a> {
    /// Decides for a merge whose inputs have these range tombstones.
    pub fn new(snapshots: &'a [SeqNo], visible: SeqNo, bottom: bool, tombstones: &'a Fragments) -> Retain<'a> {
        Retain { stripes: Stripes::new(snapshots, visible), bottom, tombstones, last_stripe: None }
    }

    /// What to do with the next entry; `repeats` if it has the key of the one before.
    #[inline]
    pub fn decide(&mut self, repeats: bool, key: &[u8], tag: Tag) -> Decision {
        if !repeats {
            self.last_stripe = None;
        }
        let seq = tag.seq();
        let Some(stripe) = self.stripes.of(seq) else { return Decision::Keep(tag) };
        if self.last_stripe == Some(stripe) {
            return Decision::DropOlder;
        }
        self.last_stripe = Some(stripe);
        if !self.tombstones.is_empty() {
            // Strictly greater: a tombstone hides only what is older than itself.
            let cover = self.tombstones.covering(key, self.stripes.top(stripe));
            if cover.is_some_and(|t| t > seq) {
                return Decision::DropRangeDeleted;
            }
        }
        if self.bottom && stripe == 0 {
            if tag.is_delete() {
                return Decision::DropTombstone;
            }
            return Decision::Keep(tag.with_seq(0));
        }
        Decision::Keep(tag)
    }
}

/// The range tombstones that survive, and how many did not: of each stripe the newest over each
/// range, and at the bottom none of the oldest stripe.
pub fn retain_tombstones(fragments: &Fragments, snapshots: &[SeqNo], visible: SeqNo, bottom: bool) -> (Fragments, u64) {
    let stripes = Stripes::new(snapshots, visible);
    let mut kept = Vec::new();
    let mut dropped = 0;
    for fragment in fragments.iter() {
        let mut last = None;
        for &seq in &fragment.seqs {
            let stripe = stripes.of(seq);
            let repeats = stripe.is_some() && stripe == last;
            last = stripe;
            if repeats || bottom && stripe == Some(0) {
                dropped += 1;
            } else {
                kept.push(RangeTombstone { start: fragment.start.clone(), end: fragment.end.clone(), seq });
            }
        }
    }
    (Fragments::build(kept), dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;

    fn put(seq: SeqNo) -> Tag {
        Tag::new(seq, Kind::Put)
    }

    fn delete(seq: SeqNo) -> Tag {
        Tag::new(seq, Kind::Delete)
    }

    fn decide(
        snapshots: &[SeqNo],
        visible: SeqNo,
        bottom: bool,
        tombstones: &Fragments,
        tags: &[Tag],
    ) -> Vec<Decision> {
        let mut retain = Retain::new(snapshots, visible, bottom, tombstones);
        tags.iter().enumerate().map(|(i, t)| retain.decide(i > 0, b"k", *t)).collect()
    }

    #[test]
    fn one_version_a_stripe_survives() {
        use Decision::{DropOlder, Keep};
        let none = Fragments::default();
        let tags = [put(9), put(8), put(5), put(4), put(3), put(2)];
        assert_eq!(
            decide(&[4], 8, false, &none, &tags),
            [Keep(put(9)), Keep(put(8)), DropOlder, Keep(put(4)), DropOlder, DropOlder]
        );
    }

    #[test]
    fn tombstones_go_only_at_the_bottom_in_the_oldest_stripe() {
        use Decision::{DropOlder, DropTombstone, Keep};
        let none = Fragments::default();
        assert_eq!(decide(&[], 9, false, &none, &[delete(9), put(3)]), [Keep(delete(9)), DropOlder]);
        assert_eq!(decide(&[], 9, true, &none, &[delete(9), put(3)]), [DropTombstone, DropOlder]);
        // A snapshot at 5 still sees the put, so the tombstone must go on hiding it.
        assert_eq!(decide(&[5], 9, true, &none, &[delete(9), put(3)]), [Keep(delete(9)), Keep(put(0))]);
        // Not visible yet: kept as it is, and what is newest at the published number stays too.
        assert_eq!(decide(&[], 4, true, &none, &[delete(9), put(3)]), [Keep(delete(9)), Keep(put(0))]);
    }

    #[test]
    fn range_tombstones_drop_what_no_snapshot_sees() {
        use Decision::{DropOlder, DropRangeDeleted, Keep};
        let cover = Fragments::build([RangeTombstone { start: b"a".to_vec(), end: Some(b"z".to_vec()), seq: 7 }]);
        assert_eq!(decide(&[], 9, false, &cover, &[put(8), put(6)]), [Keep(put(8)), DropOlder]);
        assert_eq!(decide(&[], 9, false, &cover, &[put(6), put(5)]), [DropRangeDeleted, DropOlder]);
        // The snapshot at 6 lies between them.
        assert_eq!(decide(&[6], 9, false, &cover, &[put(6)]), [Keep(put(6))]);
        // A tombstone does not hide an entry of its own number.
        assert_eq!(decide(&[], 9, false, &cover, &[put(7)]), [Keep(put(7))]);
    }

    #[test]
    fn range_tombstones_themselves() {
        let three = |seqs: [SeqNo; 3]| {
            Fragments::build(seqs.map(|seq| RangeTombstone { start: b"a".to_vec(), end: None, seq }))
        };
        let seqs = |f: &Fragments| f.iter().flat_map(|f| f.seqs.clone()).collect::<Vec<_>>();
        let (kept, dropped) = retain_tombstones(&three([9, 6, 3]), &[4], 8, false);
        assert_eq!((seqs(&kept), dropped), (vec![9, 6, 3], 0));
        let (kept, dropped) = retain_tombstones(&three([8, 6, 3]), &[4], 8, false);
        assert_eq!((seqs(&kept), dropped), (vec![8, 3], 1));
        let (kept, dropped) = retain_tombstones(&three([8, 6, 3]), &[4], 8, true);
        assert_eq!((seqs(&kept), dropped), (vec![8], 2));
    }
}
