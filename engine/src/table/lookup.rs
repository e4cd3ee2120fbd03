//! One key in a block that is not going to stay: found in the stored form, without building the other.
//!
//! The keys part is walked once from its first entry to its last. As keys are front-coded, most entries
//! are told apart from the key looked for by their shared length alone: an entry that shares more with the
//! one before it than that one shares with the key is on the same side of it. What a walk checks is what
//! [`Block::decode`](super::block::Block::decode) checks: strict order, lengths, kinds. It costs a third of it,
//! allocates nothing, and the values need not be decoded for a key that is not there.

use std::ops::Range;

use crate::coding::shared_prefix_len;
use crate::error::{Error, Result};
use crate::key::{KEY_LEN_MAX, SEQ_MAX, SeqNo, Tag, VALUE_LEN_MAX};
use crate::table::block::{KeysPart, check_kind, copy_suffix, expanded_len};

/// What a lookup in one block came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first entry of the key at or behind the tag: its tag, and where its value lies in the values part.
    pub entry: Option<(Tag, Range<usize>)>,
    /// True if the block has a newer entry of the key.
    pub is_newer_there: bool,
    /// True if the block ends before the key and the tag do: the next one decides.
    pub is_behind_all: bool,
}

/// Memory for walks.
#[derive(Debug, Default)]
pub struct Walk {
    /// Lengths of keys, what they share, lengths of values.
    lens: Vec<u32>,
    key: Vec<u8>,
}

impl Walk {
    /// Gives memory back if it is more than so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        if 4 * self.lens.len() + self.key.len() > bytes {
            *self = Walk::default();
        }
    }

    /// Looks for the first entry of `wanted` at or behind `target` in a keys part of `len` entries whose
    /// values take `values_len` bytes.
    pub fn find(
        &mut self,
        keys: &[u8],
        len: usize,
        values_len: usize,
        seq_override: Option<SeqNo>,
        wanted: &[u8],
        target: Tag,
    ) -> Result<Found> {
        let part = KeysPart::read(keys, len, values_len)?;
        part.seqs.check_max(SEQ_MAX)?;
        part.kinds.check_max(0xff)?;
        if part.kinds.check_max(1).is_err() {
            // Whichever it is, it has no business here; but a column of nothing may begin anywhere.
            let constant = part.kinds.constant().filter(|_| part.seqs.constant().is_some());
            check_kind(constant.unwrap_or_else(|| (0..len).map(|i| part.kinds.at(i)).max().unwrap_or(0)))?;
        }
        if self.lens.len() < 3 * len {
            self.lens.resize(3 * len, 0);
        }
        let (key_lens, others) = self.lens[..3 * len].split_at_mut(len);
        let (shared_lens, value_lens) = others.split_at_mut(len);
        part.key_lens.fill_u32(key_lens, KEY_LEN_MAX as u64)?;
        part.shared_lens.fill_u32(shared_lens, KEY_LEN_MAX as u64)?;
        part.value_lens.fill_u32(value_lens, VALUE_LEN_MAX as u64)?;
        expanded_len(key_lens)?;
        if value_lens.iter().map(|&n| u64::from(n)).sum::<u64>() != values_len as u64 {
            return Err(Error::corruption("the value lengths of a block do not add up"));
        }
        let key_room = key_lens.iter().copied().max().unwrap_or(0) as usize + 16;
        if self.key.len() < key_room {
            self.key.resize(key_room, 0);
        }

        // The stored tag, which orders the versions of a key, unless all have one number.
        let stored_tag = |i: usize| Tag(part.seqs.at(i) << 8 | part.kinds.at(i));
        let key = &mut self.key[..];
        let suffixes = part.suffixes;
        // The entry where the search ends. While there is none, `matched` is what the last key and the
        // wanted one share.
        let (mut place, mut matched) = (None, 0);
        let (mut from, mut previous_len) = (0, 0);
        let mut found = Found { entry: None, is_newer_there: false, is_behind_all: false };
        for i in 0..len {
            let (key_len, shared) = (key_lens[i] as usize, shared_lens[i] as usize);
            if shared > previous_len || shared > key_len || key_len - shared > suffixes.len() - from {
                return Err(Error::corruption(format!("the lengths of key {i} of a block do not fit")));
            }
            let fresh = key_len - shared;
            // One byte tells the order, since the suffix begins where the two keys differ.
            let ascends = if fresh == 0 {
                i == 0 || (shared == previous_len && seq_override.is_none() && stored_tag(i) < stored_tag(i - 1))
            } else {
                shared == previous_len || suffixes[from] > key[shared]
            };
            if !ascends {
                return Err(Error::corruption(format!("key {i} of a block is out of order")));
            }
            copy_suffix(&suffixes[from..], &mut key[shared..], fresh);
            if place.is_some() || shared > matched {
                // Past the place, or on the same side of the wanted key as the last one.
            } else if shared < matched {
                place = Some(i);
            } else {
                matched += shared_prefix_len(&suffixes[from..from + fresh], &wanted[matched..]);
                if matched == wanted.len() && matched == key_len {
                    let tag = seq_override.map_or(stored_tag(i), |seq| stored_tag(i).with_seq(seq));
                    if tag > target {
                        found.is_newer_there = true;
                    } else {
                        place = Some(i);
                        found.entry = Some((tag, 0..0));
                    }
                } else if matched == wanted.len() || matched < key_len && key[matched] > wanted[matched] {
                    place = Some(i);
                }
            }
            previous_len = key_len;
            from += fresh;
        }
        if from != suffixes.len() {
            return Err(Error::corruption(format!("a block has {} key bytes too many", suffixes.len() - from)));
        }
        found.is_behind_all = place.is_none();
        if let (Some(at), Some((_, range))) = (place, &mut found.entry) {
            let start = value_lens[..at].iter().map(|&n| n as usize).sum();
            *range = start..start + value_lens[at] as usize;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::Kind;
    use crate::table::block::Block;
    use crate::table::block::tests::{Entry, Random, build, entries};

    /// What a search of the decoded block says.
    fn by_block(block: &Block, key: &[u8], target: Tag) -> Found {
        let at = block.lower_bound(key, target);
        let is_there = at < block.len() && block.key(at) == key;
        let start = |i: usize| (0..i).map(|i| block.value(i).len()).sum::<usize>();
        Found {
            entry: is_there.then(|| (block.tag(at), start(at)..start(at) + block.value(at).len())),
            is_newer_there: at > 0 && block.key(at - 1) == key,
            is_behind_all: at == block.len(),
        }
    }

    fn decode(keys: &[u8], values_len: usize, len: usize, seq: Option<SeqNo>) -> Result<Block> {
        Block::decode(keys, len, values_len, seq, |_| Ok(()))
    }

    #[test]
    fn a_walk_finds_what_a_search_finds() {
        let mut random = Random(0x10ca7e);
        let mut walk = Walk::default();
        for round in 0..200 {
            let n = random.below(60);
            let list: Vec<Entry> = entries(&mut random, n, round % 3 == 0);
            let (keys, values) = build(&list);
            let block = decode(&keys, values.len(), list.len(), None).unwrap();
            let mut wanted: Vec<(Vec<u8>, Tag)> = list.iter().map(|e| (e.0.clone(), e.1)).collect();
            wanted.extend(list.iter().map(|e| (e.0.clone(), Tag::visible_at(random.below(1000) as u64))));
            wanted.extend(entries(&mut random, 40, false).into_iter().map(|e| (e.0, e.1)));
            wanted.extend([(vec![], Tag::NEWEST), (vec![0xff; 40], Tag::NEWEST)]);
            for (key, tag) in wanted {
                let found = walk.find(&keys, list.len(), values.len(), None, &key, tag).unwrap();
                assert_eq!(found, by_block(&block, &key, tag), "{key:?} {tag:?}");
            }
        }
    }

    #[test]
    fn a_walk_refuses_what_decoding_refuses() {
        let mut random = Random(0xbad5eed);
        let list = entries(&mut random, 30, false);
        let (keys, values) = build(&list);
        let mut walk = Walk::default();
        let mut n_right = 0;
        for _ in 0..20_000 {
            let mut bad = keys.clone();
            for _ in 0..random.below(3) {
                let at = random.below(bad.len());
                bad[at] = random.next() as u8;
            }
            let n = if random.below(4) == 0 { random.below(200) } else { list.len() };
            let seq = (random.below(2) == 0).then_some(7);
            let key = &list[random.below(list.len())].0;
            let tag = Tag::visible_at(random.below(1000) as u64);
            let decoded = decode(&bad, values.len(), n, seq);
            let found = walk.find(&bad, n, values.len(), seq, key, tag);
            match (decoded, found) {
                (Ok(block), Ok(found)) => {
                    n_right += 1;
                    assert_eq!(found, by_block(&block, key, tag));
                }
                (Err(_), Err(_)) => {}
                (a, b) => panic!("decoding says {a:?}, a walk says {b:?}"),
            }
        }
        assert!(n_right > 100);
    }

    #[test]
    fn of_an_empty_part_a_walk_and_decoding_say_the_same() {
        for kind in [0u8, 1, 8, 0x20] {
            for (kind_width, seq_width) in [(0u8, 0u8), (0, 2), (1, 0), (1, 8)] {
                let keys = [&[0, kind, kind_width, 0, seq_width][..], &[0; 6]].concat();
                let decoded = decode(&keys, 0, 0, None);
                let found = Walk::default().find(&keys, 0, 0, None, b"k", Tag::NEWEST);
                assert_eq!(decoded.is_ok(), found.is_ok(), "{keys:?}: {decoded:?}, {found:?}");
            }
        }
    }

    #[test]
    fn reserved_kinds_are_refused_by_name() {
        let (keys, values) = build(&[(b"k".to_vec(), Tag(7 << 8 | 3), b"v".to_vec())]);
        let e = Walk::default().find(&keys, 1, values.len(), None, b"k", Tag::NEWEST).unwrap_err();
        assert_eq!(e.kind(), crate::error::ErrorKind::Unsupported);
    }

    #[test]
    fn the_newest_visible_version_is_found() {
        let list: Vec<Entry> =
            (1..50).rev().map(|seq| (b"k".to_vec(), Tag::new(seq, Kind::Put), vec![seq as u8; seq as usize])).collect();
        let (keys, values) = build(&list);
        let mut walk = Walk::default();
        let found = walk.find(&keys, list.len(), values.len(), None, b"k", Tag::visible_at(20)).unwrap();
        let (tag, range) = found.entry.unwrap();
        assert_eq!((tag.seq(), &values[range]), (20, &[20; 20][..]));
        let found = walk.find(&keys, list.len(), values.len(), None, b"k", Tag::visible_at(0)).unwrap();
        assert_eq!(found, Found { entry: None, is_newer_there: true, is_behind_all: true });
    }
}
