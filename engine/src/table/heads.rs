//! Heads: the first eight bytes of a key behind the prefix that all keys of a list share, as one
//! big-endian number. Comparing heads settles nearly every step of a search without touching keys.
//!
//! Always true: `head(a) < head(b)` implies `a < b`; equal heads say nothing.

/// The head of `key`: its first eight bytes, zeros where it is shorter.
#[inline]
pub fn head(key: &[u8]) -> u64 {
    if let Some(bytes) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(bytes)
}

/// As [`head`] of `buffer[start..end]`; reads past `end` where the buffer allows it.
#[inline]
pub fn head_within(buffer: &[u8], start: usize, end: usize) -> u64 {
    match buffer[start..].first_chunk::<8>() {
        Some(bytes) => {
            let word = u64::from_be_bytes(*bytes);
            let len = end - start;
            if len >= 8 { word } else { word & !(u64::MAX >> (8 * len)) }
        }
        None => head(&buffer[start..end]),
    }
}

/// The head of a key that has the first `shared` bytes, counted from where the head begins, in common with
/// one whose head is `before`, and goes on with `suffix[..fresh]`.
#[inline]
pub fn head_after(before: u64, shared: usize, suffix: &[u8], fresh: usize) -> u64 {
    if shared >= 8 {
        return before;
    }
    let kept = before & !(u64::MAX >> (8 * shared));
    kept | head_within(suffix, 0, fresh) >> (8 * shared)
}

/// A head as a list holds it.
pub trait Head {
    /// The head.
    fn head(&self) -> u64;
}

impl Head for u64 {
    #[inline]
    fn head(&self) -> u64 {
        *self
    }
}

/// A head among bytes, little-endian.
impl Head for [u8; 8] {
    #[inline]
    fn head(&self) -> u64 {
        u64::from_le_bytes(*self)
    }
}

/// The position of the first item for which `is_before` is false, in a list ordered as `heads`.
/// `is_before` is asked only where the head is equal to `wanted`.
#[inline]
pub fn search<H: Head>(heads: &[H], wanted: u64, is_before: impl Fn(usize) -> bool) -> usize {
    let first = heads.partition_point(|h| h.head() < wanted);
    settle(heads, first, wanted, is_before)
}

/// The rest of a [`search`] that has found the first head that is not below the wanted one.
#[inline]
pub fn settle<H: Head>(heads: &[H], first: usize, wanted: u64, is_before: impl Fn(usize) -> bool) -> usize {
    if heads.get(first).map(Head::head) != Some(wanted) || !is_before(first) {
        return first;
    }
    let (mut low, mut high) = (first + 1, first + heads[first..].partition_point(|h| h.head() == wanted));
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_order_like_keys() {
        assert!(head(b"a") < head(b"ab"));
        assert_eq!(head(b"a"), head(b"a\0"));
        assert!(head(b"abcdefgh") < head(b"b"));
        let buffer = b"abcdefghij";
        for start in 0..=10 {
            for end in start..=10 {
                assert_eq!(head_within(buffer, start, end), head(&buffer[start..end]), "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_head_follows_from_the_one_before() {
        let keys: [&[u8]; 7] = [b"", b"a", b"ab", b"abcdefgh", b"abcdefghi", b"abcdefgz", b"b"];
        for pair in keys.windows(2) {
            let shared = crate::coding::shared_prefix_len(pair[0], pair[1]);
            let mut suffix = pair[1][shared..].to_vec();
            let fresh = suffix.len();
            suffix.extend_from_slice(b"more to come");
            assert_eq!(head_after(head(pair[0]), shared, &suffix, fresh), head(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn ties_are_settled_by_the_caller() {
        let heads = [1, 5, 5, 5, 5, 9];
        for border in 1..=5 {
            assert_eq!(search(&heads, 5, |i| i < border), border);
        }
        assert_eq!(search(&heads, 0, |_| true), 0);
        assert_eq!(search(&heads, 10, |_| true), 6);
        assert_eq!(search(&heads, 6, |_| true), 5);
    }
}
