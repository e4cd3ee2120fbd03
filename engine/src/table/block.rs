//! Data blocks: a small form to store, a fast form to search.
//!
//! Stored, the keys are front-coded and everything else lies in columns (see [`super::column`]):
//!
//! ```text
//! keys part    flags u8 (0) | kinds | sequence numbers | shared lengths | key lengths | value lengths | suffixes
//! values part  the values back to back
//! ```
//!
//! The shared length is what a key has in common with the key before it (0 for the first); the
//! suffixes are what is left of each key. In memory a [`Block`] holds all keys in full, back to back,
//! and the values behind them in one shared buffer, so that keys and values are handed out without
//! copying; offsets of fixed width make entry i an O(1) matter in both directions; heads
//! (see [`super::heads`]) carry the search.
//!
//! Always true of a decoded block: entries are in strict internal order, every offset lies in the
//! buffer, every kind is known. Under one sequence number for all entries, as an ingested table has it,
//! that leaves room for one version of each key: a second is refused.

use std::cmp::Ordering;

use crate::coding::Input;
use crate::error::{Error, Result};
use crate::frame::PART_LEN_MAX;
use crate::key::{KEY_LEN_MAX, Kind, SEQ_MAX, SeqNo, Tag, VALUE_LEN_MAX, cmp_internal};
use crate::sabotage::{self, Bug};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::column::{self, Column};
use crate::table::heads;

/// Most entries in a block.
pub const BLOCK_ENTRIES_MAX: usize = 1 << 20;
/// Longest sum of the full keys of a block, in bytes.
pub const EXPANDED_KEYS_LEN_MAX: usize = 64 << 20;

/// What an entry costs in the columns, roughly, in bytes.
const ENTRY_OVERHEAD: usize = 4;

/// A decoded block.
pub struct Block {
    /// The full keys, then the values.
    buffer: Arc<[u8]>,
    /// Where each key begins and the last one ends (n + 1), then the same of the values (n + 1).
    offsets: Box<[u32]>,
    /// Heads (n), then tags (n) unless all tags are the same.
    words: Box<[u64]>,
    /// The tag of every entry, if all are the same.
    uniform: Option<Tag>,
    /// How many leading bytes all keys share.
    prefix_len: usize,
    len: usize,
    /// True if some key has several versions.
    has_repeats: bool,
}

impl Block {
    /// Decodes a keys part of `len` entries and lets `fill_values` write the values part, which has
    /// `values_len` bytes, to its place. Order, limits and form are checked.
    pub fn decode(
        keys: &[u8],
        len: usize,
        values_len: usize,
        seq_override: Option<SeqNo>,
        fill_values: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Block> {
        // Strict order costs every entry but the first at least one byte.
        if len > BLOCK_ENTRIES_MAX || len > keys.len() || values_len > PART_LEN_MAX {
            return Err(Error::corruption(format!("a block of {} bytes claims {len} entries", keys.len())));
        }
        let mut input = Input::new(keys);
        let flags = input.u8()?;
        if flags != 0 {
            return Err(Error::unsupported(format!("block flags {flags:#x} are not supported by this version")));
        }
        let kinds = Column::read(&mut input, len)?;
        let seqs = Column::read(&mut input, len)?;
        let shared_lens = Column::read(&mut input, len)?;
        let key_lens = Column::read(&mut input, len)?;
        let value_lens = Column::read(&mut input, len)?;
        let suffixes = input.rest();

        // The lengths of the keys and what they share lie where the offsets will.
        let mut offsets = vec![0u32; 2 * (len + 1)].into_boxed_slice();
        let (key_offsets, value_offsets) = offsets.split_at_mut(len + 1);
        key_lens.fill_u32(&mut key_offsets[..len], KEY_LEN_MAX as u64)?;
        shared_lens.fill_u32(&mut value_offsets[..len], KEY_LEN_MAX as u64)?;
        let keys_len: u64 = key_offsets[..len].iter().map(|&n| u64::from(n)).sum();
        if keys_len > EXPANDED_KEYS_LEN_MAX as u64 {
            return Err(Error::corruption(format!("the keys of a block take {keys_len} bytes")));
        }
        let keys_len = keys_len as usize;

        let (mut words, uniform) = decode_tags(kinds, seqs, len)?;
        let mut buffer: Arc<[u8]> = std::iter::repeat_n(0u8, keys_len + values_len).collect();
        let bytes = Arc::get_mut(&mut buffer).ok_or_else(|| Error::corruption("a new buffer is shared"))?;
        // Tags that are all replaced by one put no two versions of a key in order.
        let tags = if seq_override.is_some() { &[] } else { words.get(len..).unwrap_or_default() };
        let has_repeats = expand_keys(bytes, key_offsets, value_offsets, suffixes, tags)?;

        value_lens.fill_u32(&mut value_offsets[..len], VALUE_LEN_MAX as u64)?;
        let mut at = keys_len as u64;
        for offset in value_offsets.iter_mut() {
            let n = *offset;
            *offset = at as u32;
            at += u64::from(n);
        }
        if at != (keys_len + values_len) as u64 && !sabotage::is(Bug::ValuesUnchecked) {
            return Err(Error::corruption("the value lengths of a block do not add up"));
        }

        let prefix_len = if len == 0 {
            0
        } else {
            let last = &bytes[key_offsets[len - 1] as usize..keys_len];
            crate::coding::shared_prefix_len(&bytes[..key_offsets[1] as usize], last)
        };
        for (head, ends) in words.iter_mut().zip(key_offsets.windows(2)) {
            *head = heads::head_within(bytes, ends[0] as usize + prefix_len, ends[1] as usize);
        }
        // Last, since the two steps above may have written past the keys.
        fill_values(&mut bytes[keys_len..])?;

        let mut uniform = uniform;
        if let Some(seq) = seq_override {
            uniform = uniform.map(|tag| tag.with_seq(seq));
            if uniform.is_none() {
                words[len..].iter_mut().for_each(|tag| *tag = Tag(*tag).with_seq(seq).0);
            }
        }
        Ok(Block { buffer, offsets, words, uniform, prefix_len, len, has_repeats })
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if some key has several versions here.
    #[inline]
    pub fn has_repeats(&self) -> bool {
        self.has_repeats
    }

    /// Bytes of memory.
    pub fn memory_size(&self) -> usize {
        size_of::<Block>() + self.buffer.len() + 4 * self.offsets.len() + 8 * self.words.len() + 32
    }

    /// The user key of entry `i`.
    #[inline]
    pub fn key(&self, i: usize) -> &[u8] {
        &self.buffer[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    /// Sequence number and kind of entry `i`.
    #[inline]
    pub fn tag(&self, i: usize) -> Tag {
        match self.uniform {
            Some(tag) => tag,
            None => Tag(self.words[self.len + i]),
        }
    }

    /// The value of entry `i`; empty for a tombstone.
    #[inline]
    pub fn value(&self, i: usize) -> &[u8] {
        let at = self.len + 1 + i;
        &self.buffer[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }

    /// The user key of entry `i`, sharing the block's memory.
    #[inline]
    pub fn key_slice(&self, i: usize) -> Slice {
        let start = self.offsets[i] as usize;
        Slice::new(self.buffer.clone(), start, self.offsets[i + 1] as usize - start)
    }

    /// The value of entry `i`, sharing the block's memory.
    #[inline]
    pub fn value_slice(&self, i: usize) -> Slice {
        let at = self.len + 1 + i;
        let start = self.offsets[at] as usize;
        Slice::new(self.buffer.clone(), start, self.offsets[at + 1] as usize - start)
    }

    /// The position of the first entry at or behind `(key, tag)`; [`Block::len`] if there is none.
    #[inline]
    pub fn lower_bound(&self, key: &[u8], tag: Tag) -> usize {
        if self.len == 0 {
            return 0;
        }
        let prefix = &self.buffer[..self.prefix_len];
        let rest = match key.strip_prefix(prefix) {
            Some(rest) => rest,
            None if key < prefix => return 0,
            None => return self.len,
        };
        heads::search(&self.words[..self.len], heads::head(rest), |i| {
            cmp_internal(self.key(i), self.tag(i), key, tag) == Ordering::Less
        })
    }

    /// The first entry of `key` at or behind `tag`.
    #[inline]
    pub fn find(&self, key: &[u8], tag: Tag) -> Option<usize> {
        let i = self.lower_bound(key, tag);
        (i < self.len && self.key(i) == key).then_some(i)
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} entries, {} bytes)", self.len, self.buffer.len())
    }
}

/// Gathers the entries of one block; used again after [`BlockBuilder::clear`].
#[derive(Debug, Default)]
pub struct BlockBuilder {
    rows: Vec<Row>,
    suffixes: Vec<u8>,
    values: Vec<u8>,
    expanded: usize,
}

/// What an entry puts into the columns.
#[derive(Clone, Copy, Debug)]
struct Row {
    seq: SeqNo,
    shared_len: u32,
    key_len: u32,
    value_len: u32,
    kind: u8,
}

impl BlockBuilder {
    /// No entries yet.
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// Appends an entry that shares `shared` leading bytes with the one before. The caller sees to
    /// strict order, and to `shared` being 0 for the first entry and as large as can be otherwise.
    #[inline]
    pub fn add(&mut self, shared: usize, key: &[u8], tag: Tag, value: &[u8]) {
        debug_assert!(shared == 0 || !self.is_empty());
        self.rows.push(Row {
            seq: tag.seq(),
            shared_len: shared as u32,
            key_len: key.len() as u32,
            value_len: value.len() as u32,
            kind: tag.kind_byte(),
        });
        self.suffixes.extend_from_slice(&key[shared..]);
        self.values.extend_from_slice(value);
        self.expanded += key.len();
    }

    /// Lets a test's flipped bit hit what is gathered.
    #[cfg(feature = "internals")]
    pub(super) fn strike(&mut self) {
        use super::strike::{Target, bytes, numbers};
        bytes(Target::Keys, &mut self.suffixes);
        bytes(Target::Values, &mut self.values);
        let rows = &mut self.rows;
        strike_column(rows, |column| bytes(Target::Kinds, column), |row| &mut row.kind);
        strike_column(rows, |column| numbers(Target::Sequences, column), |row| &mut row.seq);
        strike_column(rows, |column| numbers(Target::SharedLengths, column), |row| &mut row.shared_len);
        strike_column(rows, |column| numbers(Target::KeyLengths, column), |row| &mut row.key_len);
        strike_column(rows, |column| numbers(Target::ValueLengths, column), |row| &mut row.value_len);
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The size of both parts before compression, within a few bytes an entry.
    #[inline]
    pub fn size(&self) -> usize {
        self.suffixes.len() + self.values.len() + ENTRY_OVERHEAD * self.len()
    }

    /// True if the next entry, of which `fresh` key bytes are not shared, should go into another
    /// block: this one would exceed `block_size`, or a limit of the format, or four times the block
    /// size in memory.
    #[inline]
    pub fn is_full_for(&self, fresh: usize, key_len: usize, value_len: usize, block_size: usize) -> bool {
        let added = fresh + value_len + ENTRY_OVERHEAD;
        !self.is_empty()
            && (self.size() + added > block_size
                || self.expanded + key_len > (4 * block_size).min(EXPANDED_KEYS_LEN_MAX)
                || self.len() >= BLOCK_ENTRIES_MAX)
    }

    /// The smallest and largest sequence number.
    pub fn seq_bounds(&self) -> (SeqNo, SeqNo) {
        let seqs = self.rows.iter().map(|row| (row.seq, row.seq));
        seqs.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
    }

    /// Appends the keys part.
    pub fn encode_keys(&self, out: &mut Vec<u8>) {
        out.push(0);
        column::put(out, self.rows.iter().map(|row| u64::from(row.kind)));
        column::put(out, self.rows.iter().map(|row| row.seq));
        column::put(out, self.rows.iter().map(|row| u64::from(row.shared_len)));
        column::put(out, self.rows.iter().map(|row| u64::from(row.key_len)));
        column::put(out, self.rows.iter().map(|row| u64::from(row.value_len)));
        out.extend_from_slice(&self.suffixes);
    }

    /// The values part.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Forgets the entries, keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.suffixes.clear();
        self.values.clear();
        self.expanded = 0;
    }
}

/// Lets a strike hit one column of the rows.
#[cfg(feature = "internals")]
fn strike_column<T: Copy>(rows: &mut [Row], strike: impl Fn(&mut [T]), of: impl Fn(&mut Row) -> &mut T) {
    let mut column: Vec<T> = rows.iter_mut().map(|row| *of(row)).collect();
    strike(&mut column);
    rows.iter_mut().zip(column).for_each(|(row, n)| *of(row) = n);
}

/// Room for the heads, then the tags unless all are the same.
fn decode_tags(kinds: Column<'_>, seqs: Column<'_>, len: usize) -> Result<(Box<[u64]>, Option<Tag>)> {
    if let (Some(kind), Some(seq)) = (kinds.constant(), seqs.constant()) {
        check_kind(kind)?;
        if seq > SEQ_MAX {
            return Err(Error::corruption(format!("sequence number {seq} is out of range")));
        }
        return Ok((vec![0; len].into_boxed_slice(), Some(Tag(seq << 8 | kind))));
    }
    let mut words = vec![0; 2 * len].into_boxed_slice();
    let (scratch, tags) = words.split_at_mut(len);
    seqs.fill_u64(tags, SEQ_MAX)?;
    kinds.fill_u64(scratch, 0xff)?;
    let mut largest = 0;
    for (tag, &kind) in tags.iter_mut().zip(scratch.iter()) {
        largest = largest.max(kind);
        *tag = *tag << 8 | kind;
    }
    check_kind(largest)?;
    Ok((words, None))
}

/// Data blocks hold deletes (0) and puts (1); larger kinds live elsewhere or are not known.
fn check_kind(largest: u64) -> Result<()> {
    if largest <= Kind::Put as u64 {
        return Ok(());
    }
    let kind = Kind::from_u8(largest.min(0xff) as u8)?;
    Err(Error::corruption(format!("a data block has an entry of kind {}", kind.name())))
}

/// Writes the full keys to the front of `bytes` and turns their lengths into offsets; true if a key
/// follows itself. Copies run in steps of 16 bytes where there is room, so bytes behind the keys are
/// scratch.
fn expand_keys(
    bytes: &mut [u8],
    key_offsets: &mut [u32],
    shared_lens: &[u32],
    suffixes: &[u8],
    tags: &[u64],
) -> Result<bool> {
    let (mut at, mut from, mut previous, mut previous_len) = (0, 0, 0, 0);
    let mut has_repeats = false;
    let len = key_offsets.len() - 1;
    for (i, (offset, &shared)) in key_offsets.iter_mut().zip(&shared_lens[..len]).enumerate() {
        let (key_len, shared) = (*offset as usize, shared as usize);
        if shared > previous_len || shared > key_len || key_len - shared > suffixes.len() - from {
            return Err(Error::corruption(format!("the lengths of key {i} of a block do not fit")));
        }
        let fresh = key_len - shared;
        // One byte tells the order, since the suffix begins where the two keys differ.
        let ascends = if fresh == 0 {
            has_repeats |= i > 0;
            i == 0 || (shared == previous_len && tags.get(i).is_some_and(|tag| *tag < tags[i - 1]))
        } else {
            shared == previous_len || suffixes[from] > bytes[previous + shared]
        };
        if !ascends {
            return Err(Error::corruption(format!("key {i} of a block is out of order")));
        }
        copy_shared(bytes, previous, at, shared);
        copy_suffix(&suffixes[from..], &mut bytes[at + shared..], fresh);
        *offset = at as u32;
        previous = at;
        previous_len = key_len;
        at += key_len;
        from += fresh;
    }
    key_offsets[len] = at as u32;
    if from != suffixes.len() {
        return Err(Error::corruption(format!("a block has {} key bytes too many", suffixes.len() - from)));
    }
    Ok(has_repeats)
}

#[inline]
fn copy_shared(bytes: &mut [u8], from: usize, to: usize, len: usize) {
    if len <= 32 && to + 32 <= bytes.len() {
        let mut chunk = [0; 16];
        chunk.copy_from_slice(&bytes[from..from + 16]);
        bytes[to..to + 16].copy_from_slice(&chunk);
        if len > 16 {
            chunk.copy_from_slice(&bytes[from + 16..from + 32]);
            bytes[to + 16..to + 32].copy_from_slice(&chunk);
        }
    } else {
        bytes.copy_within(from..from + len, to);
    }
}

#[inline]
fn copy_suffix(from: &[u8], to: &mut [u8], len: usize) {
    match (from.first_chunk::<16>(), to.first_chunk_mut::<16>()) {
        (Some(from), Some(to)) if len <= 16 => *to = *from,
        _ => to[..len].copy_from_slice(&from[..len]),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::coding::shared_prefix_len;

    /// A small generator, so that tests repeat.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        pub(crate) fn below(&mut self, n: usize) -> usize {
            (self.next() % n as u64) as usize
        }

        pub(crate) fn bytes(&mut self, len_below: usize, alphabet: usize) -> Vec<u8> {
            let n = self.below(len_below);
            (0..n).map(|_| b'a' + self.below(alphabet) as u8).collect()
        }
    }

    type Entry = (Vec<u8>, Tag, Vec<u8>);

    pub(crate) fn sort(entries: &mut Vec<Entry>) {
        entries.sort_by(|a, b| cmp_internal(&a.0, a.1, &b.0, b.1));
        entries.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    }

    fn entries(random: &mut Random, n: usize, uniform: bool) -> Vec<Entry> {
        let mut out: Vec<Entry> = (0..n)
            .map(|_| {
                let mut key = if random.below(2) == 0 { b"a long prefix that is shared/".to_vec() } else { vec![] };
                key.extend(random.bytes(20, 3));
                let kind = if uniform || random.below(4) > 0 { Kind::Put } else { Kind::Delete };
                let seq = if uniform { 7 } else { random.below(1000) as u64 };
                let value = if kind == Kind::Put { random.bytes(40, 26) } else { vec![] };
                (key, Tag::new(seq, kind), value)
            })
            .collect();
        sort(&mut out);
        out
    }

    fn build(entries: &[Entry]) -> (Vec<u8>, Vec<u8>) {
        let mut builder = BlockBuilder::new();
        let mut last: &[u8] = &[];
        for (key, tag, value) in entries {
            builder.add(shared_prefix_len(last, key), key, *tag, value);
            last = key;
        }
        let mut keys = Vec::new();
        builder.encode_keys(&mut keys);
        (keys, builder.values().to_vec())
    }

    fn decode(keys: &[u8], values: &[u8], n: usize) -> Result<Block> {
        Block::decode(keys, n, values.len(), None, |out| {
            out.copy_from_slice(values);
            Ok(())
        })
    }

    #[test]
    fn blocks_round_trip_and_search_like_a_sorted_list() {
        let mut random = Random(0x5eed);
        for round in 0..120 {
            let n = random.below(60);
            let list = entries(&mut random, n, round % 3 == 0);
            let (keys, values) = build(&list);
            let block = decode(&keys, &values, list.len()).unwrap();
            assert_eq!(block.len(), list.len());
            for (i, (key, tag, value)) in list.iter().enumerate() {
                assert_eq!((block.key(i), block.tag(i), block.value(i)), (&key[..], *tag, &value[..]));
                assert_eq!((&*block.key_slice(i), &*block.value_slice(i)), (&key[..], &value[..]));
                assert_eq!(block.lower_bound(key, *tag), i);
                assert_eq!(block.find(key, *tag), Some(i));
            }
            for (key, tag, _) in entries(&mut random, 40, false) {
                let expected = list.partition_point(|e| cmp_internal(&e.0, e.1, &key, tag) == Ordering::Less);
                assert_eq!(block.lower_bound(&key, tag), expected);
            }
        }
    }

    #[test]
    fn empty_keys_and_values_and_many_versions() {
        let mut list: Vec<Entry> = (1..50).map(|seq| (vec![], Tag::new(seq, Kind::Put), vec![])).collect();
        list.push((b"\0".to_vec(), Tag::new(3, Kind::Delete), vec![]));
        list.push((b"\0\0".to_vec(), Tag::new(3, Kind::Put), b"v".to_vec()));
        sort(&mut list);
        let (keys, values) = build(&list);
        let block = decode(&keys, &values, list.len()).unwrap();
        assert_eq!(block.find(b"", Tag::visible_at(20)), Some(29));
        assert_eq!(block.tag(29).seq(), 20);
        assert_eq!(block.find(b"", Tag::visible_at(0)), None);
        assert_eq!(block.find(b"\0\0", Tag::visible_at(9)), Some(50));
    }

    #[test]
    fn an_override_replaces_every_sequence_number() {
        for kinds in [[Kind::Put, Kind::Put], [Kind::Put, Kind::Delete]] {
            let list =
                vec![(b"a".to_vec(), Tag::new(0, kinds[0]), vec![]), (b"b".to_vec(), Tag::new(0, kinds[1]), vec![])];
            let (keys, _) = build(&list);
            let block = Block::decode(&keys, 2, 0, Some(99), |_| Ok(())).unwrap();
            assert_eq!([block.tag(0), block.tag(1)], kinds.map(|k| Tag::new(99, k)));
            let twins: Vec<Entry> =
                vec![(b"a".to_vec(), Tag::new(2, kinds[0]), vec![]), (b"a".to_vec(), Tag::new(1, kinds[1]), vec![])];
            let (keys, _) = build(&twins);
            assert!(Block::decode(&keys, 2, 0, None, |_| Ok(())).is_ok());
            assert!(Block::decode(&keys, 2, 0, Some(99), |_| Ok(())).unwrap_err().is_corruption());
        }
    }

    #[test]
    fn hostile_bytes_never_panic_and_keep_the_order() {
        let mut random = Random(0xbad);
        let list = entries(&mut random, 30, false);
        let (keys, values) = build(&list);
        for _ in 0..20_000 {
            let mut bad = keys.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bad.len());
                bad[at] = random.next() as u8;
            }
            let n = if random.below(4) == 0 { random.below(200) } else { list.len() };
            if let Ok(block) = decode(&bad, &values, n) {
                for i in 1..block.len() {
                    let order = cmp_internal(block.key(i - 1), block.tag(i - 1), block.key(i), block.tag(i));
                    assert_eq!(order, Ordering::Less);
                }
            }
        }
    }

    #[test]
    fn reserved_kinds_are_refused_by_name() {
        let (keys, values) = build(&[(b"k".to_vec(), Tag(7 << 8 | 3), b"v".to_vec())]);
        let e = decode(&keys, &values, 1).unwrap_err();
        assert_eq!(e.kind(), crate::error::ErrorKind::Unsupported);
        assert!(e.message().contains("merge"), "{e}");
    }
}
