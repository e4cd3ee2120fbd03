//! Blocks of which only some entries are kept.
//!
//! Popular keys are seldom neighbours, so a cache of whole blocks mostly holds what nobody asks for. A block
//! therefore remembers which of its entries were looked up, and once the cache wants room, a block of which a
//! few are looked up again and again gives way to a block of just those. The other way round, a key that is
//! missed twice while its block is not worth its place gets a block of its own. Such a part stands in the slot of
//! the whole: it costs no further table, and dies with its file.
//!
//! Always true: an entry of a part is the newest of its key in the whole block. So what is found in a part and
//! may be seen is what the whole block would have said; what is not found there says nothing.

use std::sync::atomic::Ordering::Relaxed;

use super::{Block, HAS_TAGS, IS_PART, ROW_LEN, row, words};
use crate::buffer::BufferMut;
use crate::coding::shared_prefix_len;
use crate::key::Tag;
use crate::table::heads;

/// How many bits of an entry's position tell neighbours apart that share a bit.
#[inline]
fn run_shift(len: usize) -> u32 {
    (usize::BITS - len.saturating_sub(1).leading_zeros()).saturating_sub(u64::BITS.trailing_zeros())
}

impl Block {
    /// True if entries of the whole block are missing.
    #[inline]
    pub fn is_part(&self) -> bool {
        self.has(IS_PART)
    }

    /// Notes a look at entry `at`, with a bit for it or for a run of neighbours. Two at once may count as one.
    #[inline]
    pub(super) fn note_use_of(&self, at: usize) {
        let bit = 1 << (at >> run_shift(self.len()));
        for word in [words::USES, words::USES_AGAIN].map(|at| self.word(at)) {
            let noted = word.load(Relaxed);
            if noted & bit == 0 {
                word.store(noted | bit, Relaxed);
                return;
            }
        }
    }

    /// Notes a use of everything.
    #[inline]
    pub(super) fn note_use_of_all(&self) {
        let uses = self.word(words::USES);
        if uses.load(Relaxed) != u64::MAX {
            uses.store(u64::MAX, Relaxed);
        }
    }

    /// The entry of `key` that a reader at `tag` sees, in a part; nothing if only the whole block can say.
    #[inline]
    pub fn look_up_in_part(&self, key: &[u8], tag: Tag) -> Option<usize> {
        let at = self.lower_bound(key, Tag::NEWEST);
        if at == self.len() || self.key(at) != key || self.tag(at) > tag {
            return None;
        }
        self.note_use_of(at);
        Some(at)
    }

    /// A part with the entries of `held`, if there is one already, and one more, which is the newest of `key` in
    /// the block.
    pub fn part_with(held: Option<&Block>, key: &[u8], tag: Tag, value: &[u8]) -> Block {
        let mut entries: Vec<(&[u8], Tag, &[u8])> = Vec::new();
        if let Some(held) = held {
            entries.extend((0..held.len()).map(|i| held.entry(i)).filter(|entry| entry.0 != key));
        }
        let place = entries.partition_point(|entry| entry.0 < key);
        entries.insert(place, (key, tag, value));
        Block::part_of(&entries)
    }

    /// A part with the entries that were looked up since this was last asked, if clearly more of them were
    /// looked up again than chance would have it: a lookup here and there says nothing about the next.
    pub fn part_in_use(&self) -> Option<Block> {
        let once = self.word(words::USES).swap(0, Relaxed);
        let again = self.word(words::USES_AGAIN).swap(0, Relaxed);
        if once == 0 || once == u64::MAX {
            return None;
        }
        let shift = run_shift(self.len());
        let n_runs = (self.len().saturating_sub(1) >> shift) as u32 + 1;
        let (n_once, n_again) = (once.count_ones(), again.count_ones());
        // Were all as popular, so many lookups would meet again in one entry half as often as this.
        let n_looks = n_once + n_again;
        let is_sparse = n_again * n_runs > n_looks * n_looks;
        if !(is_sparse || self.is_part() && n_once < n_runs) {
            return None;
        }
        let is_first = |i: usize| !self.has_repeats() || i == 0 || self.key(i - 1) != self.key(i);
        let entries: Vec<_> =
            (0..self.len()).filter(|i| once >> (i >> shift) & 1 == 1 && is_first(*i)).map(|i| self.entry(i)).collect();
        let part = (!entries.is_empty()).then(|| Block::part_of(&entries))?;
        (2 * part.memory_size() <= self.memory_size() || self.is_part()).then_some(part)
    }

    #[inline]
    fn entry(&self, i: usize) -> (&[u8], Tag, &[u8]) {
        (self.key(i), self.tag(i), self.value(i))
    }

    /// A part of entries with different keys in ascending order.
    fn part_of(entries: &[(&[u8], Tag, &[u8])]) -> Block {
        let len = entries.len();
        let tag = entries.first().map_or(Tag(0), |entry| entry.1);
        let has_tags = entries.iter().any(|entry| entry.1 != tag);
        let prefix_len = match entries {
            [first, .., last] => shared_prefix_len(first.0, last.0),
            [only] => only.0.len(),
            [] => 0,
        };
        let mut key_at = ROW_LEN * (2 * len + 1) + if has_tags { 8 * len } else { 0 };
        let mut value_at = key_at + entries.iter().map(|entry| entry.0.len()).sum::<usize>();
        let size = value_at + entries.iter().map(|entry| entry.2.len()).sum::<usize>();
        let mut buffer = BufferMut::new(words::TABLE, size);
        let mut rest = buffer.bytes_mut();
        let mut put = |bytes: &[u8]| {
            if let Some((place, behind)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
                place.copy_from_slice(bytes);
                rest = behind;
            }
        };
        entries.iter().for_each(|entry| put(&heads::head(&entry.0[prefix_len..]).to_le_bytes()));
        for entry in entries {
            put(&row(key_at as u32, value_at as u32));
            key_at += entry.0.len();
            value_at += entry.2.len();
        }
        put(&row(key_at as u32, value_at as u32));
        if has_tags {
            entries.iter().for_each(|entry| put(&entry.1.0.to_le_bytes()));
        }
        entries.iter().for_each(|entry| put(entry.0));
        entries.iter().for_each(|entry| put(entry.2));
        let flags = IS_PART | if has_tags { HAS_TAGS } else { 0 };
        Block::from_parts(buffer, len, prefix_len, flags, tag)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checksum::hash_key;
    use crate::table::block::tests::{Entry, Random, build, entries};

    fn whole(list: &[Entry]) -> Block {
        let (keys, values) = build(list);
        let fill = |out: &mut [u8]| {
            out.copy_from_slice(&values);
            Ok(())
        };
        Block::decode(&keys, list.len(), values.len(), None, fill).unwrap()
    }

    #[test]
    fn what_a_part_finds_is_what_the_whole_would_say() {
        let mut random = Random(0x9a27);
        let (mut n_found, mut n_parts) = (0, 0);
        for round in 0..300 {
            let n = 1 + random.below(if round % 10 == 0 { 300 } else { 60 });
            let list = entries(&mut random, n, round % 3 == 0);
            let block = whole(&list);
            // By hand, one key after the other.
            let mut part: Option<Block> = None;
            for _ in 0..random.below(6) {
                let entry = &list[random.below(list.len())];
                let newest = block.find(&entry.0, Tag::NEWEST).unwrap();
                part = Some(Block::part_with(part.as_ref(), &entry.0, block.tag(newest), block.value(newest)));
            }
            // By use.
            let popular = &list[random.below(list.len())];
            (0..9).for_each(|_| _ = block.look_up(&popular.0, hash_key(&popular.0), Tag::visible_at(500)));
            let in_use = block.part_in_use();
            assert!(block.part_in_use().is_none(), "nothing was looked up since");
            for part in part.iter().chain(&in_use) {
                n_parts += 1;
                assert!(part.is_part() && !block.is_part());
                for (key, ..) in &list {
                    for seq in [0, 250, 500, 1000] {
                        let tag = Tag::visible_at(seq);
                        let Some(at) = part.look_up_in_part(key, tag) else { continue };
                        n_found += 1;
                        let there = block.look_up(key, hash_key(key), tag);
                        let by_whole = there.entry.unwrap();
                        assert!(!there.is_newer_there);
                        assert_eq!((part.key(at), part.tag(at)), (&key[..], block.tag(by_whole)));
                        assert_eq!(part.value(at), block.value(by_whole));
                    }
                }
            }
        }
        assert!(n_parts > 200 && n_found > 1000, "{n_parts} parts, {n_found} found");
    }

    #[test]
    fn a_few_popular_entries_make_a_part_and_many_do_not() {
        let list: Vec<Entry> =
            (0..150u32).map(|i| (format!("key {i:05}").into_bytes(), Tag(7 << 8 | 1), vec![b'v'; 40])).collect();
        let look_up = |block: &Block, i: usize| {
            let key = &list[i].0;
            assert_eq!(block.look_up(key, hash_key(key), Tag::NEWEST).entry, Some(i));
        };
        let block = whole(&list);
        assert!(block.part_in_use().is_none());
        [70, 70, 140, 140, 140, 3].into_iter().for_each(|i| look_up(&block, i));
        let part = block.part_in_use().unwrap();
        assert!([70, 140, 3].into_iter().all(|i| part.look_up_in_part(&list[i].0, Tag::NEWEST).is_some()));
        assert!(part.len() <= 12, "{} entries, each with three neighbours at most", part.len());
        // A part gets smaller as less of it is used.
        drop(part.part_in_use());
        part.look_up_in_part(&list[3].0, Tag::NEWEST).unwrap();
        let rest = part.part_in_use().unwrap();
        assert_eq!((rest.len(), rest.key(0)), (1, &list[3].0[..]));
        assert!(rest.part_in_use().is_none());

        (0..150).step_by(3).for_each(|i| look_up(&block, i));
        assert!(block.part_in_use().is_none(), "every third was looked up");
        (0..150).step_by(25).for_each(|i| look_up(&block, i));
        assert!(block.part_in_use().is_none(), "nothing was looked up again");
        crate::cache::Value::note_use(&block);
        assert!(block.part_in_use().is_none(), "all of it is in use");
    }
}
