//! Chains of positions whose next four bytes have one hash, and the search along them.
//!
//! `heads` names the newest position of each hash, `links` for each of the last 65,536 positions how
//! far before it the one lies that was newest then; 0 ends a chain. Nothing is cleared between
//! blocks: positions are stored plus a base that grows by every window, so that what an earlier
//! block left in `heads` lies below it; `links` are only followed from positions of this block.
//!
//! A dictionary has chains of its own, never changed. Where a chain of the block ends, it goes on
//! in them: the block's first position of a hash is linked to the dictionary's newest.
//!
//! A candidate is compared before it is believed, so a wrong link could cost bytes and never
//! correctness.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sequence::{LAST_LITERALS, LAST_MATCH_MARGIN, MATCH_LEN_MIN, Match, OFFSET_MAX};

const HASH_BITS: u32 = 15;
const HASH_BITS_MIN: u32 = 10;
const HEADS: usize = 1 << HASH_BITS;
const LINKS: usize = 1 << 16;

/// The chains of a thread's blocks.
pub(super) struct Chains {
    heads: Box<[u32; HEADS]>,
    links: Box<[u16; LINKS]>,
    /// What is added to the positions of the next window.
    base: u32,
}

impl Default for Chains {
    fn default() -> Chains {
        Chains { heads: boxed(), links: boxed(), base: 1 }
    }
}

/// An array of zeros that was never on the stack.
fn boxed<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the vector has the length of the array"),
    }
}

/// What the encoder knows of a dictionary: where each hash of four bytes lies in its last 64 KiB.
pub(crate) struct Digest {
    /// Tells digests apart for as long as the process lives.
    pub(super) number: u64,
    pub(super) content: Box<[u8]>,
    pub(super) chains: DigestChains,
}

impl Digest {
    pub(crate) fn new(dictionary: &[u8]) -> Digest {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let content = &dictionary[dictionary.len().saturating_sub(OFFSET_MAX)..];
        Digest {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            content: content.into(),
            chains: DigestChains::new(content),
        }
    }

    pub(crate) fn memory_size(&self) -> usize {
        size_of::<Digest>() + self.content.len() + self.chains.memory_size()
    }
}

/// The chains of a dictionary's content.
pub(super) struct DigestChains {
    /// The newest position of each hash, plus one; 0 for none.
    heads: Box<[u16; HEADS]>,
    links: Box<[u16]>,
}

impl DigestChains {
    /// Of at most 65,535 bytes.
    pub(super) fn new(content: &[u8]) -> DigestChains {
        debug_assert!(content.len() <= OFFSET_MAX);
        let (mut heads, mut links) = (boxed::<u16, HEADS>(), vec![0; content.len()].into_boxed_slice());
        for (at, word) in content.windows(MATCH_LEN_MIN).enumerate() {
            let head = &mut heads[(product_at(word, 0) >> (u32::BITS - HASH_BITS)) as usize];
            let place = at as u16 + 1;
            links[at] = if *head == 0 { 0 } else { place - *head };
            *head = place;
        }
        DigestChains { heads, links }
    }

    pub(super) fn memory_size(&self) -> usize {
        size_of_val(&*self.heads) + size_of_val(&*self.links)
    }

    /// How far before `at` the newest position of a word with this product lies; 0 for nowhere.
    #[inline(always)]
    fn distance(&self, product: u32, at: u32) -> u32 {
        match self.heads[(product >> (u32::BITS - HASH_BITS)) as usize] {
            0 => 0,
            place => at + 1 - u32::from(place),
        }
    }

    #[inline(always)]
    fn link(&self, at: u32) -> u16 {
        self.links.get(at as usize).copied().unwrap_or(0)
    }
}

/// Finds matches for one block, with a dictionary before it or without one.
pub(super) struct Finder<'a, const DICTIONARY: bool> {
    heads: &'a mut [u32; HEADS],
    links: &'a mut [u16; LINKS],
    window: &'a [u8],
    digest: Option<&'a DigestChains>,
    /// Where the block begins in the window.
    begin: usize,
    /// The next position that is not in its chain.
    next: usize,
    /// What is added to positions in `heads`, and the least number there that is of this block.
    base: u32,
    floor: u32,
    /// Bits of a word's product that are not of its hash.
    shift: u32,
    depth: u32,
}

impl<'a, const DICTIONARY: bool> Finder<'a, DICTIONARY> {
    /// For the block `window[begin..]`, which is longer than the margin of the last match.
    pub(super) fn new(
        chains: &'a mut Chains,
        window: &'a [u8],
        digest: Option<&'a DigestChains>,
        begin: usize,
        depth: u32,
    ) -> Finder<'a, DICTIONARY> {
        debug_assert!(window.len() - begin > LAST_MATCH_MARGIN && digest.is_some() == DICTIONARY);
        let window_len = window.len() as u32;
        if chains.base.checked_add(window_len).is_none() {
            chains.heads.fill(0);
            chains.base = 1;
        }
        let base = chains.base;
        chains.base += window_len;
        // A small block keeps to as much of the table as it can fill, which stays in the cache. The
        // dictionary's hashes have all bits, so that the block's must have them too.
        let bits = if DICTIONARY { HASH_BITS } else { (window_len.ilog2() + 1).clamp(HASH_BITS_MIN, HASH_BITS) };
        Finder {
            heads: &mut chains.heads,
            links: &mut chains.links,
            window,
            digest,
            begin,
            next: begin,
            base,
            floor: base + begin as u32,
            shift: u32::BITS - bits,
            depth,
        }
    }

    /// Where the block begins.
    pub(super) fn begin(&self) -> usize {
        self.begin
    }

    /// The last position at which a match may begin.
    pub(super) fn start_max(&self) -> usize {
        self.window.len() - LAST_MATCH_MARGIN
    }

    /// The last position at which a match may end.
    pub(super) fn end_max(&self) -> usize {
        self.window.len() - LAST_LITERALS
    }

    /// The longest match at `at` of more than `len_min` bytes, at least 3; of equal ones the nearest.
    #[inline]
    pub(super) fn longest(&mut self, at: usize, len_min: usize) -> Option<Match> {
        match self.first_link(at) {
            0 => None,
            link => self.search::<false>(at, at, len_min, link),
        }
    }

    /// The longest match that holds `at` and three bytes more, begins at `low` or behind, and is
    /// longer than `len_min`; `low + len_min` lies behind `at`.
    #[inline]
    pub(super) fn wider(&mut self, at: usize, low: usize, len_min: usize) -> Option<Match> {
        match self.first_link(at) {
            0 => None,
            link => self.search::<true>(at, low, len_min, link),
        }
    }

    /// Along the chain of `at`, whose next position lies `link` before it.
    fn search<const BACKWARDS: bool>(&self, at: usize, low: usize, len_min: usize, mut link: u16) -> Option<Match> {
        debug_assert!(low <= at && at < low + len_min && at <= self.start_max());
        let window = self.window;
        let end = self.end_max();
        let word = word_at(window, at as u32);
        let (mut best, mut longest) = (None, len_min);
        // What a longer match has at its end, and how far behind the candidate.
        let tail_of = |longest: usize| {
            let reach = (low + longest - 1 - at) as u32;
            (reach, half_at(window, at as u32 + reach))
        };
        let (mut reach, mut tail) = tail_of(longest);
        let lowest = at.saturating_sub(OFFSET_MAX) as u32;
        let mut candidate = at as u32;
        for _ in 0..self.depth {
            candidate = match candidate.checked_sub(u32::from(link)) {
                Some(earlier) if link != 0 && earlier >= lowest => earlier,
                _ => break,
            };
            if half_at(window, candidate + reach) == tail && word_at(window, candidate) == word {
                let earlier = candidate as usize;
                let forward = MATCH_LEN_MIN + common_len(window, earlier + MATCH_LEN_MIN, at + MATCH_LEN_MIN, end);
                let back = if BACKWARDS { common_len_back(window, earlier, at, at - low) } else { 0 };
                if forward + back > longest {
                    longest = forward + back;
                    best = Some(Match { start: at - back, len: longest, offset: at - earlier });
                    if at + forward == end && at - back == low {
                        break;
                    }
                    (reach, tail) = tail_of(longest);
                }
            }
            link = match self.digest {
                Some(digest) if DICTIONARY && (candidate as usize) < self.begin => digest.link(candidate),
                _ => self.links[candidate as usize % LINKS],
            };
        }
        best
    }

    /// Puts every position up to `at` into its chain; how far before `at` the next one of its chain
    /// lies, or 0.
    #[inline(always)]
    fn first_link(&mut self, at: usize) -> u16 {
        if self.next > at {
            return self.links[at % LINKS];
        }
        while self.next < at {
            self.insert(self.next);
            self.next += 1;
        }
        self.next += 1;
        self.insert(at)
    }

    #[inline(always)]
    fn insert(&mut self, position: usize) -> u16 {
        let product = product_at(self.window, position as u32);
        let head = &mut self.heads[(product >> self.shift) as usize % HEADS];
        let (newest, place) = (*head, self.base + position as u32);
        *head = place;
        let distance = match self.digest {
            _ if newest >= self.floor => place - newest,
            Some(digest) if DICTIONARY => digest.distance(product, position as u32),
            _ => 0,
        };
        let link = u16::try_from(distance).unwrap_or(0);
        self.links[position % LINKS] = link;
        link
    }
}

/// Four bytes times a constant; the highest bits are their hash.
#[inline(always)]
fn product_at(bytes: &[u8], at: u32) -> u32 {
    word_at(bytes, at).wrapping_mul(0x9e37_79b1)
}

// Positions of 32 bits: their sums cannot overflow a `usize`, which saves a comparison each time.

#[inline(always)]
fn word_at(bytes: &[u8], at: u32) -> u32 {
    let word = bytes.get(at as usize..at as usize + 4).and_then(<[u8]>::first_chunk);
    debug_assert!(word.is_some());
    u32::from_le_bytes(word.copied().unwrap_or_default())
}

#[inline(always)]
fn half_at(bytes: &[u8], at: u32) -> u16 {
    let half = bytes.get(at as usize..at as usize + 2).and_then(<[u8]>::first_chunk);
    debug_assert!(half.is_some());
    u16::from_le_bytes(half.copied().unwrap_or_default())
}

/// How many bytes from `earlier` on are those from `later` on, which lie before `end`.
#[inline(always)]
fn common_len(bytes: &[u8], earlier: usize, later: usize, end: usize) -> usize {
    let later = bytes.get(later..end).unwrap_or_default();
    let earlier = bytes.get(earlier..earlier + later.len()).unwrap_or_default();
    let mut len = 0;
    for (a, b) in earlier.as_chunks::<8>().0.iter().zip(later.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + earlier[len..].iter().zip(&later[len..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes before `earlier` are those before `later`, `len_max` at most.
#[inline(always)]
fn common_len_back(bytes: &[u8], earlier: usize, later: usize, len_max: usize) -> usize {
    let (earlier, later) = (&bytes[..earlier], &bytes[later - len_max..later]);
    earlier.iter().rev().zip(later.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The plain search: every earlier position.
    fn plain(window: &[u8], at: usize) -> usize {
        let end = window.len() - LAST_LITERALS;
        let len = |earlier: usize| (at..end).take_while(|i| window[*i] == window[earlier + i - at]).count();
        (at.saturating_sub(OFFSET_MAX)..at).map(len).filter(|len| *len >= MATCH_LEN_MIN).max().unwrap_or(0)
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(i) >> 5) as u8 & 7).collect()
    }

    #[test]
    fn a_deep_search_finds_the_longest_match() {
        let window = content(3000);
        let mut chains = Chains::default();
        let mut finder = Finder::<false>::new(&mut chains, &window, None, 0, u32::MAX);
        for at in 0..=finder.start_max() {
            let found = finder.longest(at, 3);
            assert_eq!(found.map_or(0, |m| m.len), plain(&window, at), "{at}");
            assert!(found.is_none_or(|m| window[at..m.end()] == window[at - m.offset..m.end() - m.offset]));
        }
    }

    /// All but words that begin in the dictionary and end in the block, which are in no chain.
    #[test]
    fn a_deep_search_goes_on_in_the_dictionary() {
        let window = content(3000);
        let begin = 2900;
        let digest = DigestChains::new(&window[..begin]);
        let mut chains = Chains::default();
        let mut finder = Finder::<true>::new(&mut chains, &window, Some(&digest), begin, u32::MAX);
        let mut n_far = 0;
        for at in begin..=finder.start_max() {
            let found = finder.longest(at, 3);
            assert_eq!(found.map_or(0, |m| m.len), plain(&window, at), "{at}");
            n_far += usize::from(found.is_some_and(|m| at - m.offset < begin));
        }
        assert!(n_far > 50, "{n_far}");
    }

    #[test]
    fn positions_begin_again_before_they_overflow() {
        let mut chains = Chains { base: u32::MAX - 1500, ..Chains::default() };
        let window = content(1000);
        let mut bases = Vec::new();
        for _ in 0..3 {
            let mut finder = Finder::<false>::new(&mut chains, &window, None, 0, 64);
            assert!((0..=finder.start_max()).any(|at| finder.longest(at, 3).is_some()));
            bases.push(chains.base);
        }
        assert_eq!(bases, [u32::MAX - 500, 1001, 2001]);
    }

    #[test]
    fn wider_matches_reach_back() {
        let window = b"0123456789abcdefghij....456789abcdefghij,,,,,,,,,,,,,,,,,".to_vec();
        let mut chains = Chains::default();
        let mut finder = Finder::<false>::new(&mut chains, &window, None, 0, 8);
        let found = finder.wider(30, 22, 9).unwrap();
        assert_eq!(found, Match { start: 24, len: 16, offset: 20 });
        assert_eq!(finder.wider(31, 26, 13).unwrap(), Match { start: 26, len: 14, offset: 20 });
        assert_eq!(finder.wider(31, 26, 14), None);
    }
}
