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
//! suffixes are what is left of each key. In memory a [`Block`] is one shared buffer with all keys in
//! full, back to back, and the values behind them, so that keys and values are handed out without
//! copying; offsets of fixed width make entry i an O(1) matter in both directions; heads
//! (see [`super::heads`]) carry searches; and a block that is looked into again and again gets a hash
//! table from keys to entries, so that such a look costs four cache misses: table, offsets, key, value.
//!
//! Always true of a decoded block: entries are in strict internal order, every offset lies in the
//! buffer, every kind is known. Under one sequence number for all entries, as an ingested table has it,
//! that leaves room for one version of each key: a second is refused.

mod part;

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::arena::prefetch;
use crate::buffer::{Buffer, BufferMut};
use crate::cache::Value;
use crate::checksum::hash_key;
use crate::coding::Input;
use crate::error::{Error, Result};
use crate::frame::PART_LEN_MAX;
use crate::key::{KEY_LEN_MAX, Kind, SEQ_MAX, SeqNo, Tag, VALUE_LEN_MAX, cmp_internal};
use crate::sabotage::{self, Bug};
use crate::slice::Slice;
use crate::table::column::{self, Column};
use crate::table::heads;

/// Most entries in a block.
pub const BLOCK_ENTRIES_MAX: usize = 1 << 20;
/// Longest sum of the full keys of a block, in bytes.
pub const EXPANDED_KEYS_LEN_MAX: usize = 64 << 20;

/// What an entry costs in the columns, roughly, in bytes.
const ENTRY_OVERHEAD: usize = 4;

/// A decoded block, or a part of one. Cloning costs one atomic increment.
///
/// Its words (see [`words`]) are followed by its bytes, in this order:
///
/// ```text
/// heads   n x u64            see [`super::heads`]
/// rows    (n + 1) x 2 x u32  where key and value of an entry begin; at the end, where the last ones end
/// tags    n x u64            unless all entries have the same
/// keys    in full, back to back
/// values  back to back
/// ```
#[derive(Clone)]
pub struct Block(Buffer);

/// The words of a block.
mod words {
    /// How many entries there are, and shifted by 32, how many leading bytes all keys share.
    pub const SHAPE: usize = 0;
    /// What else is true of it.
    pub const FLAGS: usize = 1;
    /// The tag of every entry, if they have none of their own.
    pub const TAG: usize = 2;
    /// Which entries were looked up, and which again (see [`super::part`]).
    pub const USES: usize = 3;
    pub const USES_AGAIN: usize = 4;
    /// How far the table of rows is: searches so far, or [`super::TABLE_READY`].
    pub const TABLE_STATE: usize = 5;
    /// Where the first entry of each key is, four to a word; made when a block is searched for the second time.
    pub const TABLE: usize = 6;
}

/// Each entry has a tag of its own.
const HAS_TAGS: u64 = 1;
/// Some key has several versions.
const HAS_REPEATS: u64 = 2;
/// This is not all of the block (see [`part`]).
const IS_PART: u64 = 4;
/// The state of a table of rows that can be used.
const TABLE_READY: u64 = u64::MAX;

/// What an entry takes of the buffer beside key, value and tag.
const ROW_LEN: usize = 8;
/// So many times a block is searched; after that it has a table of rows.
const SEARCHES_MIN: u64 = 1;
/// A place in the table of rows that is free.
const FREE: u16 = u16::MAX;

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
        thread_local! {
            static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { lens: Vec::new(), tags: Vec::new() }) };
        }
        let part = KeysPart::read(keys, len, values_len)?;
        // Taken rather than borrowed: a codec of the user's own may read the database.
        let mut scratch = SCRATCH.take();
        let block = Block::build(part, len, values_len, seq_override, &mut scratch, fill_values);
        if scratch.lens.len() <= SCRATCH_ENTRIES_KEPT {
            SCRATCH.set(scratch);
        }
        block
    }

    fn build(
        part: KeysPart<'_>,
        len: usize,
        values_len: usize,
        seq_override: Option<SeqNo>,
        scratch: &mut Scratch,
        fill_values: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Block> {
        let (lens, tags) = scratch.room(len);
        let (key_lens, others) = lens.split_at_mut(len);
        let (shared_lens, value_lens) = others.split_at_mut(len);
        part.key_lens.fill_u32(key_lens, KEY_LEN_MAX as u64)?;
        part.shared_lens.fill_u32(shared_lens, KEY_LEN_MAX as u64)?;
        part.value_lens.fill_u32(value_lens, VALUE_LEN_MAX as u64)?;
        let keys_len = expanded_len(key_lens)?;
        let (tag, tags) = part.tags(tags)?;

        let tags_at = ROW_LEN * (2 * len + 1);
        let keys_at = tags_at + 8 * tags.len();
        let values_at = keys_at + keys_len;
        let mut buffer = BufferMut::new(words::TABLE + rows_len(len) / 4, values_at + values_len);
        let (columns, bytes) = buffer.bytes_mut().split_at_mut(keys_at);
        let (columns, tag_column) = columns.split_at_mut(tags_at);
        let (heads, rows) = columns.split_at_mut(8 * len);
        let (heads, rows) = (heads.as_chunks_mut::<8>().0, rows.as_chunks_mut::<8>().0);

        let override_tag = |tag: Tag| seq_override.map_or(tag, |seq| tag.with_seq(seq));
        for (out, &tag) in tag_column.as_chunks_mut::<8>().0.iter_mut().zip(tags) {
            *out = override_tag(Tag(tag)).0.to_le_bytes();
        }
        // Tags that are all replaced by one put no two versions of a key in order.
        let tags = if seq_override.is_some() { &[] } else { tags };

        // What all keys share is the least that two neighbours share.
        let prefix_len = match len {
            0 => 0,
            1 => key_lens[0],
            _ => shared_lens[1..].iter().copied().min().unwrap_or(0),
        } as usize;
        let mut has_repeats = false;
        let mut value_end = values_at as u64;
        let (mut at, mut from, mut previous, mut previous_len, mut head) = (0, 0, 0, 0, 0);
        let suffixes = part.suffixes;
        // Copies run in steps of 16 bytes where there is room, so bytes behind the keys are scratch so far.
        for i in 0..len {
            let (key_len, shared) = (key_lens[i] as usize, shared_lens[i] as usize);
            if shared > previous_len || shared > key_len || key_len - shared > suffixes.len() - from {
                return Err(Error::corruption(format!("the lengths of key {i} of a block do not fit")));
            }
            let fresh = key_len - shared;
            let suffix = &suffixes[from..];
            // One byte tells the order, since the suffix begins where the two keys differ.
            let ascends = if fresh == 0 {
                has_repeats |= i > 0;
                i == 0 || (shared == previous_len && tags.get(i).is_some_and(|tag| *tag < tags[i - 1]))
            } else {
                shared == previous_len || suffix[0] > bytes[previous + shared]
            };
            if !ascends {
                return Err(Error::corruption(format!("key {i} of a block is out of order")));
            }
            copy_shared(bytes, previous, at, shared);
            copy_suffix(suffix, &mut bytes[at + shared..], fresh);
            head = match shared.checked_sub(prefix_len) {
                Some(shared) if i > 0 => heads::head_after(head, shared, suffix, fresh),
                // The first key, in front of which the prefix lies.
                _ => heads::head(&suffix[prefix_len.min(fresh)..fresh]),
            };
            heads[i] = head.to_le_bytes();
            rows[i] = row((keys_at + at) as u32, value_end as u32);
            value_end += u64::from(value_lens[i]);
            previous = at;
            previous_len = key_len;
            at += key_len;
            from += fresh;
        }
        if from != suffixes.len() {
            return Err(Error::corruption(format!("a block has {} key bytes too many", suffixes.len() - from)));
        }
        if value_end != (values_at + values_len) as u64 && !sabotage::is(Bug::ValuesUnchecked) {
            return Err(Error::corruption("the value lengths of a block do not add up"));
        }
        rows[len] = row(values_at as u32, value_end as u32);
        // Last, since the copies may have written past the keys.
        fill_values(&mut bytes[keys_len..])?;

        let flags = if tag.is_none() { HAS_TAGS } else { 0 } | if has_repeats { HAS_REPEATS } else { 0 };
        Ok(Block::from_parts(buffer, len, prefix_len, flags, override_tag(tag.unwrap_or(Tag(0)))))
    }

    /// A block of a buffer whose bytes are complete.
    fn from_parts(buffer: BufferMut, len: usize, prefix_len: usize, flags: u64, tag: Tag) -> Block {
        let all = buffer.words();
        all[words::SHAPE].store(len as u64 | (prefix_len as u64) << 32, Relaxed);
        all[words::FLAGS].store(flags, Relaxed);
        all[words::TAG].store(tag.0, Relaxed);
        Block(buffer.freeze())
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.0.words()[at]
    }

    #[inline]
    fn has(&self, flag: u64) -> bool {
        self.word(words::FLAGS).load(Relaxed) & flag != 0
    }

    #[inline]
    fn prefix_len(&self) -> usize {
        (self.word(words::SHAPE).load(Relaxed) >> 32) as usize
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.word(words::SHAPE).load(Relaxed) as u32 as usize
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if some key has several versions here.
    #[inline]
    pub fn has_repeats(&self) -> bool {
        self.has(HAS_REPEATS)
    }

    /// True if entries have tags of their own; else all have that of the first.
    #[inline]
    pub fn has_tags(&self) -> bool {
        self.has(HAS_TAGS)
    }

    /// Bytes of memory.
    pub fn memory_size(&self) -> usize {
        self.0.memory_size()
    }

    /// Where key and value of entry `i` begin and end.
    #[inline]
    fn places(&self, i: usize) -> [u32; 4] {
        debug_assert!(i < self.len());
        let at = ROW_LEN * (self.len() + i);
        let bytes = &self.0.bytes()[at..at + 2 * ROW_LEN];
        let place = |n: usize| u32::from_le_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
        [place(0), place(8), place(4), place(12)]
    }

    /// The user key of entry `i`.
    #[inline]
    pub fn key(&self, i: usize) -> &[u8] {
        let [start, end, ..] = self.places(i);
        &self.0.bytes()[start as usize..end as usize]
    }

    /// Sequence number and kind of entry `i`.
    #[inline]
    pub fn tag(&self, i: usize) -> Tag {
        if self.has(HAS_TAGS) {
            let at = ROW_LEN * (2 * self.len() + 1) + 8 * i;
            if let Some(bytes) = self.0.bytes()[at..].first_chunk() {
                return Tag(u64::from_le_bytes(*bytes));
            }
        }
        Tag(self.word(words::TAG).load(Relaxed))
    }

    /// The value of entry `i`; empty for a tombstone.
    #[inline]
    pub fn value(&self, i: usize) -> &[u8] {
        let [.., start, end] = self.places(i);
        &self.0.bytes()[start as usize..end as usize]
    }

    /// The user key of entry `i`, sharing the block's memory.
    #[inline]
    pub fn key_slice(&self, i: usize) -> Slice {
        let [start, end, ..] = self.places(i);
        Slice::new(self.0.clone(), start as usize, (end - start) as usize)
    }

    /// The value of entry `i`, sharing the block's memory.
    #[inline]
    pub fn value_slice(&self, i: usize) -> Slice {
        let [.., start, end] = self.places(i);
        Slice::new(self.0.clone(), start as usize, (end - start) as usize)
    }

    /// The position of the first entry at or behind `(key, tag)`; [`Block::len`] if there is none.
    #[inline]
    pub fn lower_bound(&self, key: &[u8], tag: Tag) -> usize {
        if self.is_empty() {
            return 0;
        }
        let prefix = &self.key(0)[..self.prefix_len()];
        let rest = match key.strip_prefix(prefix) {
            Some(rest) => rest,
            None if key < prefix => return 0,
            None => return self.len(),
        };
        let heads = self.0.bytes()[..8 * self.len()].as_chunks::<8>().0;
        heads::search(heads, heads::head(rest), |i| cmp_internal(self.key(i), self.tag(i), key, tag) == Ordering::Less)
    }

    /// What the block has of one key for a reader at `tag`; `hash` is
    /// [`hash_key`](crate::checksum::hash_key) of it. From the second time on without a search.
    #[inline]
    pub fn look_up(&self, key: &[u8], hash: u64, tag: Tag) -> LookedUp {
        let mut at = match self.first_row(key, hash) {
            Some(Some(first)) => first,
            Some(None) => {
                let is_behind_all = self.is_empty() || self.key(self.len() - 1) < key;
                return LookedUp { entry: None, is_newer_there: false, is_behind_all };
            }
            None => self.lower_bound(key, Tag::NEWEST),
        };
        let is_wanted = |at: usize| at < self.len() && self.key(at) == key;
        let mut is_newer_there = false;
        let mut is_there = is_wanted(at);
        if is_there && self.tag(at) > tag {
            is_newer_there = true;
            at = if self.has_repeats() { self.lower_bound(key, tag) } else { at + 1 };
            is_there = is_wanted(at);
        }
        if is_there {
            self.note_use_of(at);
        }
        LookedUp { entry: is_there.then_some(at), is_newer_there, is_behind_all: at == self.len() }
    }

    /// The first entry of `key` by the table of rows, or that there is none; nothing if there is no table yet.
    #[inline]
    fn first_row(&self, key: &[u8], hash: u64) -> Option<Option<usize>> {
        let all = self.0.words();
        if all[words::TABLE_STATE].load(Acquire) != TABLE_READY && !self.make_table() {
            return None;
        }
        let (table, row_bits) = (&all[words::TABLE..], row_bits(self.len()));
        let (mask, check) = (4 * table.len() - 1, row_check(hash, row_bits));
        let mut place = hash as usize & mask;
        loop {
            let entry = (table[place / 4].load(Relaxed) >> (16 * (place % 4))) as u16;
            if entry == FREE {
                return Some(None);
            }
            let row = usize::from(entry & ((1 << row_bits) - 1));
            if entry >> row_bits == check {
                let [start, end, value, _] = self.places(row);
                let bytes = self.0.bytes();
                // The value comes while the key is compared.
                prefetch(bytes.as_ptr().wrapping_add(value as usize));
                prefetch(bytes.as_ptr().wrapping_add(value as usize + 64));
                if bytes[start as usize..end as usize] == *key {
                    return Some(Some(row));
                }
            }
            place = (place + 1) & mask;
        }
    }

    #[cfg(test)]
    fn has_table(&self) -> bool {
        self.word(words::TABLE_STATE).load(Acquire) == TABLE_READY
    }

    /// Makes the table of rows if it is time for it and there is room; whether there is one.
    #[cold]
    fn make_table(&self) -> bool {
        let all = self.0.words();
        let (state, table) = (&all[words::TABLE_STATE], &all[words::TABLE..]);
        let searches = state.load(Relaxed);
        if searches < SEARCHES_MIN || table.is_empty() {
            // Two at once may count as one; a table that another thread has made meanwhile is made again.
            state.store(searches.saturating_add(1).min(SEARCHES_MIN), Relaxed);
            return false;
        }
        let row_bits = row_bits(self.len());
        let mut rows = vec![FREE; 4 * table.len()];
        let mask = rows.len() - 1;
        for row in 0..self.len() {
            let key = self.key(row);
            if self.has_repeats() && row > 0 && self.key(row - 1) == key {
                continue;
            }
            let hash = hash_key(key);
            let mut place = hash as usize & mask;
            while rows[place] != FREE {
                place = (place + 1) & mask;
            }
            rows[place] = row_check(hash, row_bits) << row_bits | row as u16;
        }
        // Another thread may have been faster, with the same.
        for (word, rows) in table.iter().zip(rows.as_chunks::<4>().0) {
            word.store((0..4).map(|i| u64::from(rows[i]) << (16 * i)).sum(), Relaxed);
        }
        state.store(TABLE_READY, Release);
        true
    }

    /// The first entry of `key` at or behind `tag`.
    #[inline]
    pub fn find(&self, key: &[u8], tag: Tag) -> Option<usize> {
        let i = self.lower_bound(key, tag);
        (i < self.len() && self.key(i) == key).then_some(i)
    }
}

/// What a block has of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookedUp {
    /// The newest entry that the reader may see.
    pub entry: Option<usize>,
    /// True if there is one that is too new for it.
    pub is_newer_there: bool,
    /// True if the block ends before the place of the key.
    pub is_behind_all: bool,
}

/// Memory for what is needed only while a block is decoded.
#[derive(Default)]
struct Scratch {
    lens: Vec<u32>,
    tags: Vec<u64>,
}

/// A [`Scratch`] for a third as many entries is kept between blocks.
const SCRATCH_ENTRIES_KEPT: usize = 1 << 16;

impl Scratch {
    /// Three lengths and two words for each entry.
    fn room(&mut self, len: usize) -> (&mut [u32], &mut [u64]) {
        if self.lens.len() < 3 * len {
            self.lens.resize(3 * len, 0);
            self.tags.resize(2 * len, 0);
        }
        (&mut self.lens[..3 * len], &mut self.tags[..2 * len])
    }
}

fn row(key: u32, value: u32) -> [u8; ROW_LEN] {
    (u64::from(value) << 32 | u64::from(key)).to_le_bytes()
}

/// How long the table of rows is for so many entries: a power of two, at most six tenths full. 0 if an
/// entry of it has no room for a row and some bits to check.
#[inline]
fn rows_len(len: usize) -> usize {
    if len == 0 || len > ROWS_MAX { 0 } else { (len * 5).div_ceil(3).next_power_of_two().max(4) }
}

/// Most entries of a block with a table of rows.
const ROWS_MAX: usize = 1 << 12;

/// The bits that a row takes in an entry of the table. Never all of them are set at once in a row that there
/// is, so that no entry looks [`FREE`].
#[inline]
fn row_bits(len: usize) -> u32 {
    usize::BITS - len.leading_zeros()
}

/// The other bits: they rule out most rows of other keys.
#[inline]
fn row_check(hash: u64, row_bits: u32) -> u16 {
    (hash >> 48) as u16 >> row_bits
}

impl Value for Block {
    fn weight(&self) -> u64 {
        self.memory_size() as u64
    }

    #[inline]
    fn is_whole(&self) -> bool {
        !self.is_part()
    }

    #[inline]
    fn prefetch(&self) {
        // The table of rows, or heads.
        self.0.prefetch(2);
    }

    #[inline]
    fn note_use(&self) {
        self.note_use_of_all();
    }

    fn part_in_use(&self) -> Option<Block> {
        Block::part_in_use(self)
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} entries, {} bytes)", self.len(), self.0.bytes().len())
    }
}

/// The stored form of a keys part, taken apart: the columns are as long as they should be, what lies in them
/// was not looked at.
pub(super) struct KeysPart<'a> {
    pub(super) kinds: Column<'a>,
    pub(super) seqs: Column<'a>,
    pub(super) shared_lens: Column<'a>,
    pub(super) key_lens: Column<'a>,
    pub(super) value_lens: Column<'a>,
    pub(super) suffixes: &'a [u8],
}

impl<'a> KeysPart<'a> {
    /// Takes a part of `len` entries, whose values have `values_len` bytes together, apart.
    pub(super) fn read(keys: &'a [u8], len: usize, values_len: usize) -> Result<KeysPart<'a>> {
        // Strict order costs every entry but the first at least one byte.
        if len > BLOCK_ENTRIES_MAX || len > keys.len() || values_len > PART_LEN_MAX {
            return Err(Error::corruption(format!("a block of {} bytes claims {len} entries", keys.len())));
        }
        let mut input = Input::new(keys);
        let flags = input.u8()?;
        if flags != 0 {
            return Err(Error::unsupported(format!("block flags {flags:#x} are not supported by this version")));
        }
        Ok(KeysPart {
            kinds: Column::read(&mut input, len)?,
            seqs: Column::read(&mut input, len)?,
            shared_lens: Column::read(&mut input, len)?,
            key_lens: Column::read(&mut input, len)?,
            value_lens: Column::read(&mut input, len)?,
            suffixes: input.rest(),
        })
    }

    /// The one tag of all entries, or the tags, for which there is room twice.
    fn tags<'b>(&self, room: &'b mut [u64]) -> Result<(Option<Tag>, &'b [u64])> {
        if let (Some(kind), Some(seq)) = (self.kinds.constant(), self.seqs.constant()) {
            check_kind(kind)?;
            if seq > SEQ_MAX {
                return Err(Error::corruption(format!("sequence number {seq} is out of range")));
            }
            return Ok((Some(Tag(seq << 8 | kind)), &[]));
        }
        let (kinds, tags) = room.split_at_mut(room.len() / 2);
        self.seqs.fill_u64(tags, SEQ_MAX)?;
        self.kinds.fill_u64(kinds, 0xff)?;
        let mut largest = 0;
        for (tag, &kind) in tags.iter_mut().zip(kinds.iter()) {
            largest = largest.max(kind);
            *tag = *tag << 8 | kind;
        }
        check_kind(largest)?;
        Ok((None, tags))
    }
}

/// The sum of the lengths of the keys of a block.
pub(super) fn expanded_len(key_lens: &[u32]) -> Result<usize> {
    let len: u64 = key_lens.iter().map(|&n| u64::from(n)).sum();
    if len > EXPANDED_KEYS_LEN_MAX as u64 {
        return Err(Error::corruption(format!("the keys of a block take {len} bytes")));
    }
    Ok(len as usize)
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

    /// Takes the values part out and leaves the memory of `buffer` for the next one.
    pub fn replace_values(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        std::mem::replace(&mut self.values, buffer)
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

/// Data blocks hold deletes (0) and puts (1); larger kinds live elsewhere or are not known.
pub(super) fn check_kind(largest: u64) -> Result<()> {
    if largest <= Kind::Put as u64 {
        return Ok(());
    }
    let kind = Kind::from_u8(largest.min(0xff) as u8)?;
    Err(Error::corruption(format!("a data block has an entry of kind {}", kind.name())))
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
pub(super) fn copy_suffix(from: &[u8], to: &mut [u8], len: usize) {
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

    pub(crate) type Entry = (Vec<u8>, Tag, Vec<u8>);

    pub(crate) fn sort(entries: &mut Vec<Entry>) {
        entries.sort_by(|a, b| cmp_internal(&a.0, a.1, &b.0, b.1));
        entries.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    }

    pub(crate) fn entries(random: &mut Random, n: usize, uniform: bool) -> Vec<Entry> {
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

    pub(crate) fn build(entries: &[Entry]) -> (Vec<u8>, Vec<u8>) {
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
            // By search at first, then by the table of rows.
            let others = entries(&mut random, 40, false);
            for (key, tag, _) in list.iter().chain(&others).chain(&list).chain(&others) {
                for tag in [*tag, Tag::visible_at(random.below(1000) as u64), Tag::NEWEST] {
                    let at = block.lower_bound(key, tag);
                    let expected = LookedUp {
                        entry: block.find(key, tag),
                        is_newer_there: at > 0 && block.key(at - 1) == key,
                        is_behind_all: at == block.len(),
                    };
                    assert_eq!(block.look_up(key, hash_key(key), tag), expected, "{key:?} {tag:?}");
                }
            }
            assert_eq!(block.has_table(), !list.is_empty());
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
    fn a_block_of_thousands_has_a_table_and_one_of_more_has_none() {
        for len in [1, 255, 256, 4095, ROWS_MAX, ROWS_MAX + 1] {
            let list: Vec<Entry> =
                (0..len).map(|i| (format!("{i:05}").into_bytes(), Tag::new(0, Kind::Put), vec![])).collect();
            let (keys, _) = build(&list);
            let block = Block::decode(&keys, len, 0, None, |_| Ok(())).unwrap();
            for _ in 0..2 {
                for (i, (key, ..)) in list.iter().enumerate().step_by(len.div_ceil(300)) {
                    assert_eq!(block.look_up(key, hash_key(key), Tag::NEWEST).entry, Some(i));
                    let absent = [key, &b"-"[..]].concat();
                    assert_eq!(block.look_up(&absent, hash_key(&absent), Tag::NEWEST).entry, None);
                }
            }
            assert_eq!(block.has_table(), len <= ROWS_MAX);
            assert!(!block.has_table() || rows_len(len) > len);
        }
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
