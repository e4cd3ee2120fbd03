//! What a record is: a user key, a sequence number and a kind.
//!
//! Internal order is user key ascending (bytewise), then sequence number **descending**, so the
//! newest version of a key comes first. Sequence numbers are 56 bits, one per entry, dense; the
//! kind takes 8 bits; together they are a [`Tag`].

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;

use crate::error::{Error, Result};

/// A sequence number: the position of an entry in the history of the whole database.
pub type SeqNo = u64;

/// The largest sequence number.
pub const SEQ_MAX: SeqNo = (1 << 56) - 1;

/// Longest user key, in bytes.
pub const KEY_LEN_MAX: usize = 64 << 10;
/// Longest value, in bytes.
pub const VALUE_LEN_MAX: usize = 32 << 20;
/// Largest write batch in its encoded form, in bytes.
pub const BATCH_LEN_MAX: usize = 256 << 20;
/// Longest column family name, in bytes of UTF-8.
pub const FAMILY_NAME_LEN_MAX: usize = 255;

/// Which column family, by number. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyId(pub u32);

impl FamilyId {
    /// The family named `default`, which always exists.
    pub const DEFAULT: FamilyId = FamilyId(0);
}

impl fmt::Display for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What an entry does. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The key has no value from here on.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// No key of a range has a value from here on. Lives in a block of its own.
    RangeDelete = 2,
    /// Reserved: an operand for the family's merge operator.
    Merge = 3,
    /// Reserved: deletes exactly one older put.
    SingleDelete = 4,
    /// Reserved: the value lies in a blob file.
    BlobRef = 5,
    /// Reserved: a put with an expiry time.
    PutExpiring = 6,
}

impl Kind {
    /// The kind with this number. Reserved kinds are refused by name: this version cannot read them.
    pub fn from_u8(n: u8) -> Result<Kind> {
        match n {
            0 => Ok(Kind::Delete),
            1 => Ok(Kind::Put),
            2 => Ok(Kind::RangeDelete),
            3 => Err(Error::unsupported("merge entries are not supported by this version")),
            4 => Err(Error::unsupported("single-delete entries are not supported by this version")),
            5 => Err(Error::unsupported("blob references are not supported by this version")),
            6 => Err(Error::unsupported("puts with an expiry time are not supported by this version")),
            _ => Err(Error::corruption(format!("unknown entry kind {n}"))),
        }
    }

    /// The stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Delete => "delete",
            Kind::Put => "put",
            Kind::RangeDelete => "range-delete",
            Kind::Merge => "merge",
            Kind::SingleDelete => "single-delete",
            Kind::BlobRef => "blob-ref",
            Kind::PutExpiring => "put-expiring",
        }
    }
}

/// Sequence number and kind in one word: `seq << 8 | kind`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl Tag {
    /// Sorts before every entry of the same user key.
    pub const NEWEST: Tag = Tag(u64::MAX);
    /// Sorts after every entry of the same user key.
    pub const OLDEST: Tag = Tag(0);

    /// Joins the two.
    #[inline]
    pub fn new(seq: SeqNo, kind: Kind) -> Tag {
        debug_assert!(seq <= SEQ_MAX);
        Tag(seq << 8 | kind as u64)
    }

    /// The first tag in internal order that a reader at `seq` may see.
    #[inline]
    pub fn visible_at(seq: SeqNo) -> Tag {
        Tag(seq << 8 | 0xff)
    }

    /// The sequence number.
    #[inline]
    pub fn seq(self) -> SeqNo {
        self.0 >> 8
    }

    /// The kind as it is stored, unchecked.
    #[inline]
    pub fn kind_byte(self) -> u8 {
        self.0 as u8
    }

    /// True for a put.
    #[inline]
    pub fn is_put(self) -> bool {
        self.kind_byte() == Kind::Put as u8
    }

    /// True for a point tombstone.
    #[inline]
    pub fn is_delete(self) -> bool {
        self.kind_byte() == Kind::Delete as u8
    }

    /// The same kind under another sequence number.
    #[inline]
    pub fn with_seq(self, seq: SeqNo) -> Tag {
        Tag(seq << 8 | self.0 & 0xff)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = Kind::from_u8(self.kind_byte()).map_or("reserved", Kind::name);
        write!(f, "{}#{}", kind, self.seq())
    }
}

/// Internal order: user key ascending, then tag descending.
#[inline]
pub fn cmp_internal(a_key: &[u8], a_tag: Tag, b_key: &[u8], b_tag: Tag) -> Ordering {
    a_key.cmp(b_key).then(b_tag.cmp(&a_tag))
}

/// A range of user keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Vec<u8>>,
    /// Where it ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: KeyRange = KeyRange { start: Bound::Unbounded, end: Bound::Unbounded };

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let end = match prefix_successor(prefix) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        KeyRange { start: Bound::Included(prefix.to_vec()), end }
    }

    /// Copies the ends of any range of byte strings.
    pub fn from_bounds<K: AsRef<[u8]>>(range: &impl std::ops::RangeBounds<K>) -> KeyRange {
        let own = |b: Bound<&K>| match b {
            Bound::Included(k) => Bound::Included(k.as_ref().to_vec()),
            Bound::Excluded(k) => Bound::Excluded(k.as_ref().to_vec()),
            Bound::Unbounded => Bound::Unbounded,
        };
        KeyRange { start: own(range.start_bound()), end: own(range.end_bound()) }
    }

    /// The smallest key that can lie in the range (inclusive).
    pub fn first(&self) -> Vec<u8> {
        match &self.start {
            Bound::Included(k) => k.clone(),
            Bound::Excluded(k) => key_after(k),
            Bound::Unbounded => Vec::new(),
        }
    }

    /// The smallest key behind the range; none if the range has no upper end.
    pub fn limit(&self) -> Option<Vec<u8>> {
        match &self.end {
            Bound::Included(k) => Some(key_after(k)),
            Bound::Excluded(k) => Some(k.clone()),
            Bound::Unbounded => None,
        }
    }

    /// True if no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.limit().is_some_and(|limit| limit <= self.first())
    }

    /// True if `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        let after_start = match &self.start {
            Bound::Included(k) => key >= k.as_slice(),
            Bound::Excluded(k) => key > k.as_slice(),
            Bound::Unbounded => true,
        };
        after_start && upper_contains(&self.end, key)
    }
}

/// True if `key` lies below the upper end `end`.
#[inline]
pub fn upper_contains(end: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match end {
        Bound::Included(k) => key <= k.as_slice(),
        Bound::Excluded(k) => key < k.as_slice(),
        Bound::Unbounded => true,
    }
}

/// Compares two upper ends: `Excluded(k) < Included(k)`, and `Unbounded` is the largest.
pub fn cmp_upper(a: &Bound<Vec<u8>>, b: &Bound<Vec<u8>>) -> Ordering {
    let rank = |b: &Bound<Vec<u8>>| matches!(b, Bound::Included(_));
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            x.cmp(y).then(rank(a).cmp(&rank(b)))
        }
    }
}

/// The smallest key greater than `key`.
pub fn key_after(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.extend_from_slice(key);
    out.push(0);
    out
}

/// The smallest key greater than every key that begins with `prefix`; none if there is none.
pub fn prefix_successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.last_mut() {
        if *last < 0xff {
            *last += 1;
            return Some(out);
        }
        out.pop();
    }
    None
}

/// Fails if a user key is too long.
pub fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > KEY_LEN_MAX {
        return Err(Error::invalid(format!("the key has {} bytes; at most {KEY_LEN_MAX} are allowed", key.len())));
    }
    Ok(())
}

/// Fails if a value is too long.
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > VALUE_LEN_MAX {
        return Err(Error::invalid(format!(
            "the value has {} bytes; at most {VALUE_LEN_MAX} are allowed",
            value.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_sorts_first() {
        let old = Tag::new(3, Kind::Put);
        let new = Tag::new(9, Kind::Delete);
        assert_eq!(cmp_internal(b"k", new, b"k", old), Ordering::Less);
        assert_eq!(cmp_internal(b"a", old, b"b", new), Ordering::Less);
        assert!(Tag::visible_at(9) > new && Tag::visible_at(8) < new);
    }

    #[test]
    fn prefix_ranges() {
        assert_eq!(prefix_successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_successor(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_successor(b"\xff"), None);
        let r = KeyRange::prefix(b"a\xff");
        assert!(r.contains(b"a\xff\xff\xff") && !r.contains(b"b") && !r.contains(b"a\xfe"));
    }

    #[test]
    fn upper_ends_are_ordered() {
        let inc = Bound::Included(b"k".to_vec());
        let exc = Bound::Excluded(b"k".to_vec());
        assert_eq!(cmp_upper(&exc, &inc), Ordering::Less);
        assert_eq!(cmp_upper(&Bound::Unbounded, &inc), Ordering::Greater);
    }
}
