//! Walking through a table.

use crate::error::Result;
use crate::iter::Cursor;
use crate::key::Tag;
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::ahead::Ahead;
use crate::table::block::Block;
use crate::table::reader::Table;

/// Blocks taken one after the other before a cursor reads ahead.
const SEQUENTIAL_MIN: u32 = 2;

/// How a cursor treats blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorOptions {
    /// Keep the blocks it loads in the cache. Off for compactions and for scans of everything.
    pub fill_cache: bool,
    /// After two blocks in a row, read many at once and decode them ahead.
    pub read_ahead: bool,
}

impl Default for CursorOptions {
    fn default() -> CursorOptions {
        CursorOptions { fill_cache: true, read_ahead: true }
    }
}

/// A cursor over the point entries of a table. Steps inside a block are O(1) both ways.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<Table>,
    options: CursorOptions,
    /// The block it stands in; none while invalid.
    block: Option<Block>,
    /// The number of that block, and the position in it.
    number: usize,
    at: usize,
    /// How many blocks were taken one after the other.
    sequential: u32,
    /// Stands behind block `number`.
    ahead: Option<Ahead>,
}

impl Table {
    /// A cursor over the point entries.
    pub fn cursor(self: &Arc<Self>, options: CursorOptions) -> TableCursor {
        TableCursor::new(self.clone(), options)
    }
}

impl TableCursor {
    pub(super) fn new(table: Arc<Table>, options: CursorOptions) -> TableCursor {
        TableCursor { table, options, block: None, number: 0, at: 0, sequential: 0, ahead: None }
    }

    /// The table it walks through.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// True if a lookup of the key it stands on, whose [`hash_key`](crate::checksum::hash_key) is `hash`,
    /// would come by here: the filter lets it through, and the index sends it to this block or, if the
    /// entry in front has the same key (`repeats`), to one before it from which its versions go on.
    pub fn is_findable(&self, hash: u64, repeats: bool) -> bool {
        let (key, index) = (self.here().key(self.at), self.table.index());
        let first = index.find(key);
        // Only the versions of one key may lie behind a separator that is the key.
        let reached = first == self.number
            || repeats && first <= self.number && (first..self.number).all(|n| index.separator(n) == key);
        reached && self.table.filter().is_none_or(|f| f.may_contain(hash))
    }

    /// The block it stands in; none while invalid.
    pub fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    /// The block it stands in, and the position in it; none while invalid.
    #[inline]
    pub fn place(&self) -> Option<(&Block, usize)> {
        Some((self.block.as_ref()?, self.at))
    }

    /// The number of the block it stands in. Only while valid.
    #[inline]
    pub fn block_number(&self) -> usize {
        self.number
    }

    /// Moves to entry `at` of the block it stands in, which has one. Does nothing when invalid.
    pub fn move_in_block(&mut self, at: usize) {
        debug_assert!(self.block.as_ref().is_none_or(|block| at < block.len()));
        self.at = at;
    }

    /// Moves to the first entry of the next block; invalid behind the last. Does nothing when invalid.
    pub fn next_block(&mut self) -> Result<()> {
        if self.block.is_none() {
            return Ok(());
        }
        self.step_block()
    }

    /// As [`TableCursor::is_findable`] for every entry of the block it stands in, of whose keys `hashes`
    /// are the hashes; `repeats` if the block in front ends with the key that this one begins with.
    ///
    /// The index is asked for the first and the last key only: what lies between them in order lies
    /// between the same separators.
    pub fn is_block_findable(&self, hashes: &[u64], repeats: bool) -> bool {
        let (block, index) = (self.here(), self.table.index());
        let Some(last) = block.len().checked_sub(1) else { return true };
        let reached = |key: &[u8], repeats: bool| {
            let first = index.find(key);
            first == self.number
                || repeats && first <= self.number && (first..self.number).all(|n| index.separator(n) == key)
        };
        let one_key = block.key(0) == block.key(last);
        reached(block.key(0), repeats)
            && reached(block.key(last), repeats && one_key)
            && self.table.filter().is_none_or(|f| hashes.iter().all(|&hash| f.may_contain(hash)))
    }

    #[inline]
    fn here(&self) -> &Block {
        self.block.as_ref().expect("a cursor is asked only while it is valid")
    }

    /// Loads a block that is not the next one; forgets what was read ahead.
    fn jump(&mut self, number: usize) -> Result<&Block> {
        self.ahead = None;
        self.sequential = 0;
        let kept = self.block.take().filter(|_| self.number == number);
        let block = match kept {
            Some(block) => block,
            None => self.table.block(number, self.options.fill_cache)?,
        };
        self.number = number;
        Ok(self.block.insert(block))
    }

    /// Moves to the next block; invalid behind the last.
    fn step_block(&mut self) -> Result<()> {
        self.block = None;
        self.at = 0;
        let next = self.number + 1;
        if next >= self.table.index().len() {
            return Ok(());
        }
        self.sequential += 1;
        // Nothing is gained by reading ahead of what the cache holds.
        let cached = if self.ahead.is_none() { self.table.cached_block(next) } else { None };
        let block = if cached.is_some() {
            cached
        } else if self.options.read_ahead && self.sequential >= SEQUENTIAL_MIN {
            let (table, fill) = (&self.table, self.options.fill_cache);
            let ahead = self.ahead.get_or_insert_with(|| Ahead::new(table.clone(), next, fill));
            match ahead.next_block() {
                Ok(block) => block,
                Err(e) => {
                    self.ahead = None;
                    return Err(e);
                }
            }
        } else {
            Some(self.table.block(next, self.options.fill_cache)?)
        };
        self.number = next;
        self.block = block;
        Ok(())
    }

    #[cold]
    fn step_block_back(&mut self) -> Result<()> {
        if self.number == 0 {
            self.block = None;
            return Ok(());
        }
        let len = self.jump(self.number - 1)?.len();
        self.at = len - 1;
        Ok(())
    }
}

impl Cursor for TableCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.block.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        if self.table.index().is_empty() {
            return Ok(());
        }
        self.jump(0)?;
        self.at = 0;
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let Some(last) = self.table.index().len().checked_sub(1) else { return Ok(()) };
        let len = self.jump(last)?.len();
        self.at = len - 1;
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let number = self.table.index().find(key);
        if number >= self.table.index().len() {
            self.block = None;
            return Ok(());
        }
        self.at = self.jump(number)?.lower_bound(key, tag);
        // Behind the last entry of a block the next one decides: the versions of a key may go on there.
        while self.block.as_ref().is_some_and(|b| self.at >= b.len()) {
            self.step_block()?;
            if let Some(block) = &self.block {
                self.at = block.lower_bound(key, tag);
            }
        }
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.seek(key, tag)?;
        match &self.block {
            None => self.seek_to_last(),
            Some(block) if block.key(self.at) == key && block.tag(self.at) == tag => Ok(()),
            Some(_) => self.prev(),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(block) = &self.block else { return Ok(()) };
        self.at += 1;
        if self.at < block.len() {
            return Ok(());
        }
        self.step_block()
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if self.block.is_none() {
            return Ok(());
        }
        if self.at > 0 {
            self.at -= 1;
            return Ok(());
        }
        self.step_block_back()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.here().key(self.at)
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.here().tag(self.at)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.here().value(self.at)
    }

    #[inline]
    fn key_slice(&self) -> Slice {
        self.here().key_slice(self.at)
    }

    #[inline]
    fn value_slice(&self) -> Slice {
        self.here().value_slice(self.at)
    }

    #[inline]
    fn entry(&self) -> (&[u8], Tag, &[u8]) {
        let block = self.here();
        (block.key(self.at), block.tag(self.at), block.value(self.at))
    }

    #[inline]
    fn is_last_version(&self) -> bool {
        let block = self.here();
        // What the next block begins with is not known here.
        self.at + 1 < block.len() && !block.has_repeats()
    }

    #[inline]
    fn is_first_version(&self) -> bool {
        self.at > 0 && !self.here().has_repeats()
    }
}
