//! The index of a table: where each block lies and up to which key it reaches.
//!
//! Per block there is a separator: a key at or above the block's last key and below the next
//! block's first key, as short as can be; the last block has its last key in full. Where the versions
//! of one user key span blocks, the separator is that key, so that the first block whose separator
//! is not below a key is always the first that can hold it.
//!
//! ```text
//! block count varint | columns (see super::column), one number a block:
//!   stored length of the frame, stored length of its keys part, raw length of the keys part, raw length
//!   of the values part, entries, codec of the keys, codec of the values, smallest sequence number,
//!   largest less smallest, shared length and full length of the separator
//! | separator suffixes
//! ```
//!
//! Blocks lie back to back behind the file header, so lengths give offsets. In memory an [`Index`]
//! keeps what reads need: separators with heads (see [`super::heads`]), offsets, lengths and codecs.

use crate::coding::{Input, put_varint, shared_prefix_len};
use crate::error::{Error, Result};
use crate::frame::{FrameHandle, PART_LEN_MAX, TRAILER_LEN_MAX};
use crate::key::{KEY_LEN_MAX, SEQ_MAX, SeqNo};
use crate::table::block::BLOCK_ENTRIES_MAX;
use crate::table::column::{self, Column};
use crate::table::heads;

/// What the index knows about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Byte offset of the frame.
    pub offset: u64,
    /// Length of the whole frame.
    pub stored_len: u32,
    /// Length of its keys part as stored.
    pub keys_stored: u32,
    /// Length of the keys part before compression.
    pub keys_raw: u32,
    /// Length of both parts before compression.
    pub raw_len: u32,
    /// Number of entries.
    pub entries: u32,
    /// Codec id of the keys part.
    pub codec_k: u8,
    /// Codec id of the values part.
    pub codec_v: u8,
    /// Smallest sequence number.
    pub seq_min: SeqNo,
    /// Largest sequence number.
    pub seq_max: SeqNo,
    /// The separator: not below the block's last key, below the next block's first.
    pub last_key: Vec<u8>,
}

impl BlockInfo {
    /// Where the frame lies.
    pub fn handle(&self) -> FrameHandle {
        FrameHandle { offset: self.offset, stored_len: self.stored_len, keys_stored: self.keys_stored }
    }
}

impl std::fmt::Display for BlockInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "offset={} stored={} raw={} keys={}/{} codecs={}/{} entries={} seq={}..={} last=\"{}\"",
            self.offset,
            self.stored_len,
            self.raw_len,
            self.keys_stored,
            self.keys_raw,
            crate::frame::codec_name(self.codec_k),
            crate::frame::codec_name(self.codec_v),
            self.entries,
            self.seq_min,
            self.seq_max,
            self.last_key.escape_ascii()
        )
    }
}

/// The shortest key at or above `last` and below `next`; `last` itself where none is shorter.
pub fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let shared = shared_prefix_len(last, next);
    if shared < last.len() && shared < next.len() && shared + 1 < last.len() {
        // One byte of `next` past what they share is above `last`, and below `next` if it goes on.
        if shared + 1 < next.len() {
            return next[..shared + 1].to_vec();
        }
        if last[shared] + 1 < next[shared] {
            let mut out = last[..shared + 1].to_vec();
            out[shared] += 1;
            return out;
        }
    }
    last.to_vec()
}

/// Appends the index of `blocks`, which lie back to back.
pub fn encode(blocks: &[BlockInfo], out: &mut Vec<u8>) {
    let put = |out: &mut Vec<u8>, of: fn(&BlockInfo) -> u64| column::put(out, blocks.iter().map(of));
    put_varint(out, blocks.len() as u64);
    put(out, |b| u64::from(b.stored_len));
    put(out, |b| u64::from(b.keys_stored));
    put(out, |b| u64::from(b.keys_raw));
    put(out, |b| u64::from(b.raw_len - b.keys_raw));
    put(out, |b| u64::from(b.entries));
    put(out, |b| u64::from(b.codec_k));
    put(out, |b| u64::from(b.codec_v));
    put(out, |b| b.seq_min);
    put(out, |b| b.seq_max - b.seq_min);
    let before = |i: usize| if i == 0 { &[][..] } else { &blocks[i - 1].last_key };
    let shared = |(i, b): (usize, &BlockInfo)| shared_prefix_len(before(i), &b.last_key);
    column::put(out, blocks.iter().enumerate().map(|b| shared(b) as u64));
    put(out, |b| b.last_key.len() as u64);
    for (i, b) in blocks.iter().enumerate() {
        out.extend_from_slice(&b.last_key[shared((i, b))..]);
    }
}

/// Reads what [`encode`] wrote; the first block lies at `first_offset`. The blocks must end at
/// `end`, which bounds their number and every length.
pub fn decode(bytes: &[u8], first_offset: u64, end: u64) -> Result<Vec<BlockInfo>> {
    let mut input = Input::new(bytes);
    // The smallest frame bounds the number of blocks by the length of the file.
    let room = end.checked_sub(first_offset).ok_or_else(|| Error::corruption("the blocks end before they begin"))?;
    let n = input.length((room / crate::frame::TRAILER_LEN_MIN as u64).min(1 << 31) as usize)?;
    let mut columns = Vec::with_capacity(11);
    for _ in 0..11 {
        columns.push(Column::read(&mut input, n)?);
    }
    let suffixes = input.rest();
    let mut numbers = vec![0u64; n];
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(n).map_err(|_| Error::out_of_memory("an index"))?;
    let empty = BlockInfo {
        offset: 0,
        stored_len: 0,
        keys_stored: 0,
        keys_raw: 0,
        raw_len: 0,
        entries: 0,
        codec_k: 0,
        codec_v: 0,
        seq_min: 0,
        seq_max: 0,
        last_key: Vec::new(),
    };
    blocks.resize(n, empty);
    let frame_max = (2 * PART_LEN_MAX + TRAILER_LEN_MAX) as u64;
    let part_max = PART_LEN_MAX as u64;
    let mut fill = |i: usize, max: u64, set: fn(&mut BlockInfo, u64)| -> Result<()> {
        columns[i].fill_u64(&mut numbers, max)?;
        blocks.iter_mut().zip(&numbers).for_each(|(b, &v)| set(b, v));
        Ok(())
    };
    fill(0, frame_max, |b, v| b.stored_len = v as u32)?;
    fill(1, part_max, |b, v| b.keys_stored = v as u32)?;
    fill(2, part_max, |b, v| b.keys_raw = v as u32)?;
    fill(3, part_max, |b, v| b.raw_len = b.keys_raw + v as u32)?;
    fill(4, BLOCK_ENTRIES_MAX as u64, |b, v| b.entries = v as u32)?;
    fill(5, 0xff, |b, v| b.codec_k = v as u8)?;
    fill(6, 0xff, |b, v| b.codec_v = v as u8)?;
    fill(7, SEQ_MAX, |b, v| b.seq_min = v)?;
    fill(8, SEQ_MAX, |b, v| b.seq_max = b.seq_min.saturating_add(v))?;
    let mut shared_lens = vec![0u64; n];
    columns[9].fill_u64(&mut shared_lens, KEY_LEN_MAX as u64)?;
    columns[10].fill_u64(&mut numbers, KEY_LEN_MAX as u64)?;

    // Full separators may be longer than what is stored, but no more than sorted keys can make them.
    let expanded: u64 = numbers.iter().sum();
    if expanded > (1 << 30) {
        return Err(Error::corruption(format!("the separators of an index take {expanded} bytes")));
    }
    let (mut offset, mut from) = (first_offset, 0);
    for i in 0..n {
        let (shared, len) = (shared_lens[i] as usize, numbers[i] as usize);
        let (done, left) = blocks.split_at_mut(i);
        let before = done.last().map_or(&[][..], |b| &b.last_key);
        let block = &mut left[0];
        if shared > len || shared > before.len() || len - shared > suffixes.len() - from {
            return Err(Error::corruption(format!("the lengths of separator {i} do not fit")));
        }
        block.last_key.reserve_exact(len);
        block.last_key.extend_from_slice(&before[..shared]);
        block.last_key.extend_from_slice(&suffixes[from..from + len - shared]);
        from += len - shared;
        if i > 0 && block.last_key.as_slice() < before {
            return Err(Error::corruption(format!("separator {i} is out of order")));
        }
        let shortest = crate::frame::TRAILER_LEN_MIN as u64 + u64::from(block.keys_stored);
        if block.entries == 0 || u64::from(block.stored_len) < shortest || block.seq_max > SEQ_MAX {
            return Err(Error::corruption(format!("the numbers of block {i} make no sense")));
        }
        block.offset = offset;
        offset += u64::from(block.stored_len);
    }
    if from != suffixes.len() || offset != end {
        return Err(Error::corruption(format!("the blocks of an index end at {offset}, expected {end}")));
    }
    Ok(blocks)
}

/// Heads between two [`Index::tops`]: two cache lines.
const STEP: usize = 16;

/// The part of the index that stays in memory.
pub struct Index {
    /// Full separators back to back.
    keys: Box<[u8]>,
    /// Where each separator begins, and where the last one ends.
    key_offsets: Box<[u32]>,
    heads: Box<[u64]>,
    /// Every [`STEP`]th head: a search of them and of one step touches few cache lines.
    tops: Box<[u64]>,
    prefix_len: usize,
    /// Where each block begins, and where the last one ends.
    offsets: Box<[u64]>,
    places: Box<[Place]>,
}

#[derive(Clone, Copy)]
struct Place {
    keys_stored: u32,
    raw_len: u32,
    codec_v: u8,
}

impl Index {
    /// Lays blocks out for searching.
    pub fn new(blocks: &[BlockInfo]) -> Index {
        let mut keys = Vec::new();
        let mut key_offsets = vec![0];
        for b in blocks {
            keys.extend_from_slice(&b.last_key);
            key_offsets.push(keys.len() as u32);
        }
        let prefix_len = match (blocks.first(), blocks.last()) {
            (Some(first), Some(last)) => shared_prefix_len(&first.last_key, &last.last_key),
            _ => 0,
        };
        let end = blocks.last().map(|b| b.handle().end());
        let heads: Box<[u64]> = blocks.iter().map(|b| heads::head(&b.last_key[prefix_len..])).collect();
        Index {
            keys: keys.into(),
            key_offsets: key_offsets.into(),
            tops: heads.iter().copied().step_by(STEP).collect(),
            heads,
            prefix_len,
            offsets: blocks.iter().map(|b| b.offset).chain(end).collect(),
            places: blocks
                .iter()
                .map(|b| Place { keys_stored: b.keys_stored, raw_len: b.raw_len, codec_v: b.codec_v })
                .collect(),
        }
    }

    /// The number of blocks.
    #[inline]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The separator of block `i`.
    #[inline]
    pub fn separator(&self, i: usize) -> &[u8] {
        &self.keys[self.key_offsets[i] as usize..self.key_offsets[i + 1] as usize]
    }

    /// The first block that can hold `key`; [`Index::len`] if none can.
    #[inline]
    pub fn find(&self, key: &[u8]) -> usize {
        if self.is_empty() {
            return 0;
        }
        let prefix = &self.keys[..self.prefix_len];
        let rest = match key.strip_prefix(prefix) {
            Some(rest) => rest,
            None if key < prefix => return 0,
            None => return self.len(),
        };
        let wanted = heads::head(rest);
        // The first head that is not below lies behind the last top that is.
        let from = self.tops.partition_point(|&top| top < wanted).saturating_sub(1) * STEP;
        let to = (from + STEP + 1).min(self.len());
        let first = from + self.heads[from..to].partition_point(|&head| head < wanted);
        heads::settle(&self.heads, first, wanted, |i| self.separator(i) < key)
    }

    /// Where block `i` lies.
    #[inline]
    pub fn handle(&self, i: usize) -> FrameHandle {
        let offset = self.offsets[i];
        let stored_len = (self.offsets[i + 1] - offset) as u32;
        FrameHandle { offset, stored_len, keys_stored: self.places[i].keys_stored }
    }

    /// The length of both parts of block `i` before compression.
    pub fn raw_len(&self, i: usize) -> usize {
        self.places[i].raw_len as usize
    }

    /// The codec id of the values of block `i`.
    pub fn codec(&self, i: usize) -> u8 {
        self.places[i].codec_v
    }

    /// Bytes of memory.
    pub fn memory_size(&self) -> usize {
        self.keys.len()
            + 4 * self.key_offsets.len()
            + 8 * self.tops.len()
            + 16 * self.len()
            + size_of_val(&*self.places)
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} blocks)", self.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::table::block::tests::Random;

    fn blocks(keys: &[Vec<u8>], random: &mut Random) -> Vec<BlockInfo> {
        let mut offset = 48;
        keys.iter()
            .map(|key| {
                let keys_stored = random.below(500) as u32;
                let stored_len = keys_stored + 30 + random.below(500) as u32;
                let block = BlockInfo {
                    offset,
                    stored_len,
                    keys_stored,
                    keys_raw: keys_stored + 9,
                    raw_len: keys_stored + 10_000,
                    entries: 1 + random.below(100) as u32,
                    codec_k: 1,
                    codec_v: random.below(4) as u8,
                    seq_min: 5,
                    seq_max: 5 + random.below(3) as u64,
                    last_key: key.clone(),
                };
                offset += u64::from(stored_len);
                block
            })
            .collect()
    }

    #[test]
    fn separators_separate_and_are_short() {
        let cases: [(&[u8], &[u8], &[u8]); 9] = [
            (b"apple", b"banana", b"b"),
            (b"apple", b"b", b"apple"),
            (b"apple", b"c", b"b"),
            (b"abc", b"abcd", b"abc"),
            (b"abc", b"abd", b"abc"),
            (b"abcxyz", b"abdef", b"abd"),
            (b"same", b"same", b"same"),
            (b"", b"a", b""),
            (b"a\xff\xff", b"b", b"a\xff\xff"),
        ];
        for (last, next, expected) in cases {
            assert_eq!(separator(last, next), expected, "{last:?} {next:?}");
        }
        let mut random = Random(3);
        for _ in 0..5000 {
            let mut pair = [random.bytes(6, 3), random.bytes(6, 3)];
            pair.sort();
            let s = separator(&pair[0], &pair[1]);
            assert!(pair[0] <= s && (s < pair[1] || pair[0] == pair[1]) && s.len() <= pair[0].len());
        }
    }

    #[test]
    fn the_index_round_trips_and_finds_like_a_sorted_list() {
        let mut random = Random(11);
        for round in 0..60 {
            let prefix = if round % 2 == 0 { b"prefix/".to_vec() } else { vec![] };
            let n = random.below(40);
            let mut keys: Vec<Vec<u8>> = (0..n).map(|_| [prefix.clone(), random.bytes(12, 3)].concat()).collect();
            keys.sort();
            let list = blocks(&keys, &mut random);
            let end = list.last().map_or(48, |b| b.handle().end());
            let mut out = Vec::new();
            encode(&list, &mut out);
            assert_eq!(decode(&out, 48, end).unwrap(), list);
            assert!(decode(&out, 48, end + 1).is_err());
            let index = Index::new(&list);
            for (i, b) in list.iter().enumerate() {
                assert_eq!((index.handle(i), index.separator(i)), (b.handle(), &b.last_key[..]));
            }
            for _ in 0..60 {
                let key = [if random.below(5) > 0 { prefix.clone() } else { vec![] }, random.bytes(12, 3)].concat();
                assert_eq!(index.find(&key), keys.partition_point(|k| *k < key));
            }
        }
    }

    #[test]
    fn hostile_indexes_never_panic() {
        let mut random = Random(17);
        let mut keys: Vec<Vec<u8>> = (0..20).map(|_| random.bytes(12, 3)).collect();
        keys.sort();
        let list = blocks(&keys, &mut random);
        let end = list.last().unwrap().handle().end();
        let mut good = Vec::new();
        encode(&list, &mut good);
        for _ in 0..20_000 {
            let mut bad = good.clone();
            let at = random.below(bad.len());
            bad[at] = random.next() as u8;
            if let Ok(list) = decode(&bad, 48, end) {
                Index::new(&list).find(b"abc");
            }
        }
    }
}
