//! Range tombstones: what `delete_range` leaves behind, and the form in which reads ask it.
//!
//! A [`RangeTombstone`] hides every entry of its keys with a **smaller** sequence number.
//! [`Fragments`] is a set of them cut at each other's borders, so that one binary search answers
//! what covers a key. Always true: fragments are sorted, disjoint and not empty; their sequence
//! numbers are strictly descending; neighbours that touch differ in their numbers.
//!
//! ```text
//! block     fragment count varint, then per fragment
//! fragment  flags varint        bit 0: starts where the one before ends, bit 1: has no end
//!           [start len varint, start]        without bit 0
//!           [end len varint, end]            without bit 1
//!           count varint (>= 1), greatest sequence number varint, then the steps down (>= 1) varint each
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::coding::{Input, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::key::{KEY_LEN_MAX, KeyRange, SEQ_MAX, SeqNo};
use crate::sabotage::{self, Bug};

/// Longest end of a range: one byte more than a key, since the key behind the longest key is an end.
pub const RANGE_END_LEN_MAX: usize = KEY_LEN_MAX + 1;

const TOUCHES: u64 = 1;
const UNBOUNDED: u64 = 2;

/// One `delete_range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTombstone {
    /// The first key it covers.
    pub start: Vec<u8>,
    /// The first key behind it; none if it covers all keys from `start` on.
    pub end: Option<Vec<u8>>,
    /// Its sequence number: entries with smaller ones are hidden.
    pub seq: SeqNo,
}

/// A range of keys with the tombstones that cover all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key behind it; none for no end.
    pub end: Option<Vec<u8>>,
    /// The tombstones' sequence numbers, strictly descending, at least one.
    pub seqs: Vec<SeqNo>,
}

impl Fragment {
    /// True if `key` lies in the fragment.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.ends_after(key)
    }

    fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_deref().is_none_or(|end| key < end)
    }

    /// The greatest sequence number that a reader at `visible` may see.
    pub fn newest_visible(&self, visible: SeqNo) -> Option<SeqNo> {
        let at = self.seqs.partition_point(|&seq| seq > visible);
        self.seqs.get(at).copied()
    }
}

/// Range tombstones, cut at each other's borders and sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragments {
    list: Vec<Fragment>,
}

impl Fragments {
    /// Cuts tombstones, in any order and with any overlaps, into fragments. Empty ranges vanish.
    pub fn build(tombstones: impl IntoIterator<Item = RangeTombstone>) -> Fragments {
        let mut starts: Vec<RangeTombstone> =
            tombstones.into_iter().filter(|t| t.end.as_deref().is_none_or(|end| t.start.as_slice() < end)).collect();
        starts.sort_by(|a, b| a.start.cmp(&b.start));
        let mut ends: Vec<(&[u8], SeqNo)> =
            starts.iter().filter_map(|t| t.end.as_deref().map(|end| (end, t.seq))).collect();
        ends.sort_unstable();
        let (mut next_start, mut next_end) = (0, 0);
        // How many tombstones of each number cover the keys from `at` on.
        let mut active: BTreeMap<SeqNo, usize> = BTreeMap::new();
        let mut out = Fragments::default();
        // Each round begins a fragment at the next border and ends it at the one behind.
        while next_start < starts.len() || next_end < ends.len() {
            let at = border(&starts, &ends, next_start, next_end).unwrap_or_default();
            while next_end < ends.len() && ends[next_end].0 == at {
                let seq = ends[next_end].1;
                if let Some(count) = active.get_mut(&seq) {
                    *count -= 1;
                    if *count == 0 {
                        active.remove(&seq);
                    }
                }
                next_end += 1;
            }
            while next_start < starts.len() && starts[next_start].start == at {
                *active.entry(starts[next_start].seq).or_insert(0) += 1;
                next_start += 1;
            }
            if !active.is_empty() {
                let end = border(&starts, &ends, next_start, next_end).map(<[u8]>::to_vec);
                let kept = if sabotage::is(Bug::FragmentLosesNumbers) { 1 } else { usize::MAX };
                let seqs = active.keys().rev().copied().take(kept).collect();
                out.push(Fragment { start: at.to_vec(), end, seqs });
            }
        }
        out
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The number of fragments.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The fragments in key order.
    pub fn iter(&self) -> std::slice::Iter<'_, Fragment> {
        self.list.iter()
    }

    /// The greatest sequence number, at most `visible`, of a tombstone over `key`. It hides entries
    /// of the key with smaller numbers.
    #[inline]
    pub fn covering(&self, key: &[u8], visible: SeqNo) -> Option<SeqNo> {
        if self.list.is_empty() {
            return None;
        }
        let at = self.list.partition_point(|f| f.start.as_slice() <= key).checked_sub(1)?;
        let fragment = &self.list[at];
        if fragment.ends_after(key) { fragment.newest_visible(visible) } else { None }
    }

    /// One tombstone per fragment and number; building from them gives the same fragments.
    pub fn to_tombstones(&self) -> Vec<RangeTombstone> {
        let mut out = Vec::new();
        for f in &self.list {
            out.extend(f.seqs.iter().map(|&seq| RangeTombstone { start: f.start.clone(), end: f.end.clone(), seq }));
        }
        out
    }

    /// What lies within `range`: fragments are cut at its ends, which are user keys.
    #[must_use]
    pub fn clip(&self, range: &KeyRange) -> Fragments {
        let first = range.first();
        let limit = range.limit();
        let mut out = Fragments::default();
        let from = self.list.partition_point(|f| !f.ends_after(&first));
        for f in &self.list[from..] {
            let start = f.start.as_slice().max(first.as_slice());
            if limit.as_deref().is_some_and(|limit| start >= limit) {
                break;
            }
            let end = match (f.end.as_deref(), limit.as_deref()) {
                (Some(a), Some(_)) if sabotage::is(Bug::RangeTombstoneNotCut) => Some(a),
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            out.list.push(Fragment { start: start.to_vec(), end: end.map(<[u8]>::to_vec), seqs: f.seqs.clone() });
        }
        out
    }

    /// True if every key of `first ..last` is covered by a tombstone numbered above `newer_than` and
    /// at most `visible`, without a hole.
    pub fn covers_range(&self, first: &[u8], last: &Bound<Vec<u8>>, newer_than: SeqNo, visible: SeqNo) -> bool {
        let from = self.list.partition_point(|f| !f.ends_after(first));
        // The keys before this one are known to be covered.
        let mut covered = first;
        for f in &self.list[from..] {
            if f.start.as_slice() > covered || f.newest_visible(visible).is_none_or(|seq| seq <= newer_than) {
                return false;
            }
            let Some(end) = f.end.as_deref() else { return true };
            let reached = match last {
                Bound::Included(last) => end > last.as_slice(),
                Bound::Excluded(last) => end >= last.as_slice(),
                Bound::Unbounded => false,
            };
            if reached {
                return true;
            }
            covered = end;
        }
        false
    }

    /// The same ranges, all under one sequence number.
    #[must_use]
    pub fn with_seq(&self, seq: SeqNo) -> Fragments {
        let mut out = Fragments::default();
        for f in &self.list {
            out.push(Fragment { start: f.start.clone(), end: f.end.clone(), seqs: vec![seq] });
        }
        out
    }

    /// The smallest and the greatest sequence number; none if there are no fragments.
    pub fn seq_bounds(&self) -> Option<(SeqNo, SeqNo)> {
        let min = self.list.iter().filter_map(|f| f.seqs.last().copied()).min()?;
        let max = self.list.iter().filter_map(|f| f.seqs.first().copied()).max()?;
        Some((min, max))
    }

    /// Bytes of memory, roughly.
    pub fn memory_size(&self) -> usize {
        let one = |f: &Fragment| f.start.len() + f.end.as_ref().map_or(0, Vec::len) + 8 * f.seqs.len() + 72;
        self.list.iter().map(one).sum()
    }

    /// Appends the block of the module head.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.list.len() as u64);
        let mut previous_end: Option<&[u8]> = None;
        for f in &self.list {
            let touches = previous_end == Some(f.start.as_slice());
            put_varint(out, (u64::from(touches) * TOUCHES) | (u64::from(f.end.is_none()) * UNBOUNDED));
            if !touches {
                put_bytes(out, &f.start);
            }
            if let Some(end) = &f.end {
                put_bytes(out, end);
            }
            put_varint(out, f.seqs.len() as u64);
            let mut above: Option<SeqNo> = None;
            for &seq in &f.seqs {
                put_varint(out, above.map_or(seq, |above| above - seq));
                above = Some(seq);
            }
            previous_end = f.end.as_deref();
        }
    }

    /// Reads what [`Fragments::encode`] wrote, and nothing else: order, limits and form are checked.
    pub fn decode(bytes: &[u8]) -> Result<Fragments> {
        let mut input = Input::new(bytes);
        // A fragment takes at least four bytes.
        let count = input.length(bytes.len() / 4)?;
        let mut out = Fragments::default();
        for i in 0..count {
            let previous_end = out.list.last().map(|f| f.end.as_deref());
            let fragment = decode_fragment(&mut input, previous_end)
                .map_err(|e| e.context(format!("range tombstone fragment {i}")))?;
            if out
                .list
                .last()
                .is_some_and(|last| last.end.as_ref() == Some(&fragment.start) && last.seqs == fragment.seqs)
            {
                return Err(Error::corruption(format!("range tombstone fragment {i}: it belongs to the one before")));
            }
            out.list.push(fragment);
        }
        input.finish()?;
        Ok(out)
    }

    /// Appends a fragment that lies behind all others; joins it to its neighbour where nothing tells
    /// them apart.
    fn push(&mut self, fragment: Fragment) {
        if let Some(last) = self.list.last_mut() {
            debug_assert!(last.end.as_ref().is_some_and(|end| *end <= fragment.start));
            if last.end.as_ref() == Some(&fragment.start) && last.seqs == fragment.seqs {
                last.end = fragment.end;
                return;
            }
        }
        self.list.push(fragment);
    }
}

impl fmt::Display for Fragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fragment) in self.list.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}\"{}\"..", fragment.start.escape_ascii())?;
            if let Some(end) = &fragment.end {
                write!(f, "\"{}\"", end.escape_ascii())?;
            }
            write!(f, "#")?;
            for (j, seq) in fragment.seqs.iter().enumerate() {
                let comma = if j == 0 { "" } else { "," };
                write!(f, "{comma}{seq}")?;
            }
        }
        Ok(())
    }
}

/// The smallest border that is not passed yet.
fn border<'a>(
    starts: &'a [RangeTombstone],
    ends: &[(&'a [u8], SeqNo)],
    next_start: usize,
    next_end: usize,
) -> Option<&'a [u8]> {
    let start = starts.get(next_start).map(|t| t.start.as_slice());
    let end = ends.get(next_end).map(|e| e.0);
    match (start, end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// `previous_end`: none for the first fragment, `Some(None)` if the one before has no end.
fn decode_fragment(input: &mut Input<'_>, previous_end: Option<Option<&[u8]>>) -> Result<Fragment> {
    let flags = input.varint()?;
    if flags & !(TOUCHES | UNBOUNDED) != 0 {
        return Err(Error::corruption(format!("unknown flags {flags:#x}")));
    }
    let before = match previous_end {
        None => None,
        Some(Some(end)) => Some(end),
        Some(None) => return Err(Error::corruption("it follows one without an end")),
    };
    let start = if flags & TOUCHES != 0 {
        before.ok_or_else(|| Error::corruption("it touches nothing"))?
    } else {
        let start = bound(input)?;
        if before.is_some_and(|end| start <= end) {
            return Err(Error::corruption("it is out of order"));
        }
        start
    };
    let end = if flags & UNBOUNDED != 0 { None } else { Some(bound(input)?) };
    if end.is_some_and(|end| end <= start) {
        return Err(Error::corruption("it is empty"));
    }
    let count = input.length(input.remaining())?;
    if count == 0 {
        return Err(Error::corruption("it has no sequence number"));
    }
    let mut seqs: Vec<SeqNo> = Vec::new();
    for _ in 0..count {
        let n = input.varint()?;
        let seq = match seqs.last() {
            None if n <= SEQ_MAX => n,
            Some(&above) if n > 0 && n <= above => above - n,
            _ => return Err(Error::corruption("its sequence numbers are out of order or range")),
        };
        seqs.push(seq);
    }
    Ok(Fragment { start: start.to_vec(), end: end.map(<[u8]>::to_vec), seqs })
}

fn bound<'a>(input: &mut Input<'a>) -> Result<&'a [u8]> {
    let n = input.length(RANGE_END_LEN_MAX)?;
    input.take(n)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tombstone(start: &str, end: &str, seq: SeqNo) -> RangeTombstone {
        let end = (end != "*").then(|| end.as_bytes().to_vec());
        RangeTombstone { start: start.into(), end, seq }
    }

    fn build(list: &[(&str, &str, SeqNo)]) -> Fragments {
        Fragments::build(list.iter().map(|&(start, end, seq)| tombstone(start, end, seq)))
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }

        fn tombstones(&mut self, n: u64) -> Vec<RangeTombstone> {
            let letter = |c: u64| vec![b'a' + c as u8];
            (0..n)
                .map(|_| {
                    let end = self.below(12);
                    let end = (end > 0).then(|| letter(end - 1));
                    RangeTombstone { start: letter(self.below(10)), end, seq: self.below(9) + 1 }
                })
                .collect()
        }
    }

    #[test]
    fn overlaps_are_cut() {
        assert_eq!(build(&[("a", "m", 3), ("f", "z", 7)]).to_string(), r##""a".."f"#3 "f".."m"#7,3 "m".."z"#7"##);
        assert_eq!(build(&[("a", "c", 5), ("c", "e", 5), ("b", "c", 5)]).to_string(), r##""a".."e"#5"##);
        assert_eq!(build(&[("a", "*", 2), ("b", "d", 9)]).to_string(), r##""a".."b"#2 "b".."d"#9,2 "d"..#2"##);
        assert_eq!(build(&[("b", "b", 2), ("c", "a", 9)]), Fragments::default());
        assert_eq!(build(&[("", "*", 2)]).to_string(), r##"""..#2"##);
    }

    #[test]
    fn covers_ranges_without_holes() {
        let f = build(&[("a", "m", 3), ("m", "t", 7), ("u", "*", 9)]);
        let covers = |first: &str, last: Bound<&str>, newer, visible| {
            f.covers_range(first.as_bytes(), &last.map(|k| k.as_bytes().to_vec()), newer, visible)
        };
        assert!(covers("a", Bound::Included("s"), 2, 9));
        assert!(!covers("a", Bound::Included("s"), 3, 9), "the first part is not newer than 3");
        assert!(!covers("a", Bound::Included("s"), 2, 6), "the second part is not visible at 6");
        assert!(!covers("a", Bound::Included("t"), 2, 9));
        assert!(covers("a", Bound::Excluded("t"), 2, 9));
        assert!(!covers("a", Bound::Included("v"), 2, 9), "a hole from t to u");
        assert!(covers("u", Bound::Unbounded, 2, 9) && !covers("m", Bound::Unbounded, 2, 9));
        assert!(!covers("A", Bound::Included("b"), 2, 9));
    }

    /// Against the plain list: whatever the overlaps, a key at a moment has the same newest cover.
    #[test]
    fn agrees_with_the_list() {
        for seed in 1..300u64 {
            let mut random = Random(seed);
            let n = random.below(8);
            let list = random.tombstones(n);
            let fragments = Fragments::build(list.clone());
            let range = KeyRange { start: Bound::Included(b"c".to_vec()), end: Bound::Included(b"f".to_vec()) };
            let clipped = fragments.clip(&range);
            let one = fragments.with_seq(4);
            for key in ["", "a", "b", "bb", "c", "d", "f", "f\0", "ff", "g", "i", "k", "z"] {
                let key = key.as_bytes();
                for visible in 0..11 {
                    let covers = |t: &&RangeTombstone| {
                        t.start.as_slice() <= key && t.end.as_deref().is_none_or(|end| key < end) && t.seq <= visible
                    };
                    let expected = list.iter().filter(covers).map(|t| t.seq).max();
                    assert_eq!(fragments.covering(key, visible), expected, "seed {seed}");
                    let within = if range.contains(key) { expected } else { None };
                    assert_eq!(clipped.covering(key, visible), within, "seed {seed}");
                }
                assert_eq!(one.covering(key, 9).is_some(), fragments.covering(key, 9).is_some(), "seed {seed}");
            }
            for f in [&fragments, &clipped, &one] {
                let mut bytes = Vec::new();
                f.encode(&mut bytes);
                assert_eq!(Fragments::decode(&bytes).unwrap(), *f, "seed {seed}");
                assert_eq!(Fragments::build(f.to_tombstones()), *f, "seed {seed}");
            }
        }
    }

    #[test]
    fn hostile_bytes_are_refused_or_have_one_form() {
        let f = build(&[("a", "m", 3), ("f", "z", 7), ("zz", "*", 200)]);
        let mut bytes = Vec::new();
        f.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Fragments::decode(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(read) = Fragments::decode(&changed) {
                    let mut again = Vec::new();
                    read.encode(&mut again);
                    assert_eq!(again, changed);
                }
            }
        }
        assert!(Fragments::decode(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(), "a hostile count");
        assert!(Fragments::decode(&[1, 2, 1, b'a', 0]).is_err(), "no sequence number");
    }
}
