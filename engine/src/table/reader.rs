//! Reading a table: open, point lookups, blocks for cursors.
//!
//! Opening reads header, footer, index, properties, range tombstones, dictionaries and filter, most of
//! it with one read of the file's end; they stay in memory. A block is one read, two decodes and a
//! place in the cache. Nothing is trusted before its checksum was found right, lengths are bounded by
//! the file before anything is allocated, and every error says file and offset. A block that fails is
//! read once more, since memory and cables fail as well as disks. A filter that cannot be read is left
//! out and counted: it only ever saved work.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{BlockCache, Keep, Shelf};
use crate::checksum::place_salt;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::field::UnknownFields;
use crate::filename::FileName;
use crate::frame::{Dictionary, Frame, FrameHandle, Meter, StoredValues};
use crate::fs::{File, Fs, read_exact_at};
use crate::header::{FileHeader, FileKind, HEADER_LEN};
use crate::key::{SeqNo, Tag};
use crate::metrics::{Counter, FamilyMetrics, LEVELS, Metrics};
use crate::pool::Pool;
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::block::Block;
use crate::table::filter::Filter;
use crate::table::footer::{FOOTER_TAIL_LEN, Footer};
use crate::table::index::{self, BlockInfo, Index};
use crate::table::lookup::Walk;
use crate::table::properties::Properties;
use crate::tombstone::Fragments;
use crate::version::{Origin, TableMeta};

/// How much of a file's end is read at once when it is opened.
const TAIL_LEN: u64 = 32 << 10;
/// Scratch memory that a thread keeps between blocks.
const SCRATCH_KEPT: usize = 1 << 20;

/// What open tables share with their surroundings.
#[derive(Clone)]
pub struct TableContext {
    /// Decoded blocks; indexes and filters are charged to it.
    pub cache: Arc<BlockCache<Block>>,
    /// Counters of the database.
    pub metrics: Arc<Metrics>,
    /// Counters of the family.
    pub family: Arc<FamilyMetrics>,
    /// The level whose codec times the table counts for.
    pub level: usize,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Who helps decoding.
    pub pool: Option<Arc<Pool>>,
}

/// An open table.
pub struct Table {
    file: Arc<dyn File>,
    path: PathBuf,
    meta: TableMeta,
    /// False if there is no manifest to take the whole-file hash from.
    hash_known: bool,
    context: TableContext,
    footer: Footer,
    index: Index,
    properties: Properties,
    filter: Option<Filter>,
    filter_error: Option<Error>,
    tombstones: Fragments,
    dictionaries: Vec<Dictionary>,
    /// A slot of the cache for each block.
    shelf: Arc<Shelf<Block>>,
    charged: u64,
}

impl Table {
    /// Opens the table that the manifest describes as `meta`.
    pub fn open(fs: &dyn Fs, dir: &Path, meta: &TableMeta, context: &TableContext) -> Result<Arc<Table>> {
        let path = FileName::Table(meta.number).path(dir);
        open(fs, &path, Some(meta), context).map_err(|e| e.with_file(&path))
    }

    /// Opens a table without a manifest, by what it says about itself. The hash in the description is
    /// 0, since only [`Table::verify`] reads the whole file.
    pub fn open_file(fs: &dyn Fs, path: &Path, context: &TableContext) -> Result<(Arc<Table>, TableMeta)> {
        let table = open(fs, path, None, context).map_err(|e| e.with_file(path))?;
        let meta = table.meta.clone();
        Ok((table, meta))
    }

    /// The newest point entry of `key` that a reader at `visible` may see; `hash` is
    /// [`crate::checksum::hash_key`] of it. The value of a tombstone is empty.
    pub fn get(&self, key: &[u8], hash: u64, visible: SeqNo) -> Result<Option<(Tag, Slice)>> {
        if !self.may_contain(hash) {
            return Ok(None);
        }
        let Some(first) = self.find_block(key) else { return Ok(None) };
        self.get_from(first, None, key, hash, visible, &self.context.metrics.decodes_inline)
    }

    /// False if the filter denies a key with this hash.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let Some(filter) = &self.filter else { return true };
        self.context.metrics.filter_checks.inc();
        let maybe = filter.may_contain(hash);
        if !maybe {
            self.context.metrics.filter_negatives.inc();
        }
        maybe
    }

    /// The first block that can hold a key that the filter lets through; none if the index denies it.
    #[inline]
    pub(super) fn find_block(&self, key: &[u8]) -> Option<usize> {
        let number = self.index.find(key);
        if number < self.index.len() {
            return Some(number);
        }
        self.count_false_positive();
        None
    }

    /// The range tombstones, under the sequence override if there is one.
    pub fn tombstones(&self) -> &Fragments {
        &self.tombstones
    }

    /// What the table says about its content.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// What the manifest, or the table itself, says.
    pub fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where everything lies in the file.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The part of the index that is in memory.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The filter, if there is one that can be read.
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// Why the filter could not be read.
    pub fn filter_error(&self) -> Option<&Error> {
        self.filter_error.as_ref()
    }

    /// The dictionaries that frames name by position.
    pub fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }

    /// What the index says about each block, read from the file.
    pub fn blocks(&self) -> Result<std::vec::IntoIter<BlockInfo>> {
        let payload = self.read_meta(self.footer.index)?;
        let blocks = index::decode(&payload, HEADER_LEN as u64, self.data_end());
        Ok(blocks.map_err(|e| e.with_file(&self.path).with_offset(self.footer.index.offset))?.into_iter())
    }

    /// Reads and decodes a block, whatever the cache holds.
    pub fn read_block(&self, number: usize) -> Result<Block> {
        if number >= self.index.len() {
            return Err(Error::invalid(format!("there is no block {number}")).with_file(&self.path));
        }
        self.load_block(number)
    }

    /// The time that decoding a block takes on this thread, the shortest of `times` attempts, without that of
    /// reading it.
    pub fn time_block(&self, number: usize, times: usize) -> Result<Duration> {
        let clock = &*self.context.clock;
        let handle = self.index.handle(number);
        self.read_frame(handle, |table, bytes| {
            let mut shortest = Duration::MAX;
            for _ in 0..times.max(1) {
                let begun = clock.now();
                let block = table.decode_block(handle, bytes)?;
                shortest = shortest.min(clock.now().saturating_sub(begun));
                drop(block);
            }
            Ok(shortest)
        })
    }

    /// The values part of a block as it is stored.
    pub fn stored_values(&self, number: usize) -> Result<StoredValues> {
        let handle = self.index.handle(number);
        self.read_frame(handle, |table, bytes| Ok(table.open_frame(handle, bytes)?.stored_values()))
    }

    /// Roughly how many bytes of the file lie before `key`.
    pub fn approximate_offset(&self, key: &[u8]) -> u64 {
        let number = self.index.find(key);
        if number < self.index.len() { self.index.handle(number).offset } else { self.data_end() }
    }

    /// Bytes of memory that index, filter and range tombstones take.
    pub fn memory_size(&self) -> u64 {
        self.charged
    }

    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.context.metrics
    }

    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.context.pool.as_ref()
    }

    pub(super) fn hash_known(&self) -> bool {
        self.hash_known
    }

    /// Where the data blocks end.
    pub(super) fn data_end(&self) -> u64 {
        data_end(&self.footer)
    }

    /// A block that the cache holds.
    #[inline]
    pub(super) fn cached_block(&self, number: usize) -> Option<Block> {
        let found = self.context.cache.get(&self.shelf, number);
        let metrics = &self.context.metrics;
        if found.is_some() {
            metrics.cache_hits.inc()
        } else {
            metrics.cache_misses.inc()
        }
        found
    }

    /// Puts a block that was missed into the cache if it should be kept.
    pub(super) fn cache_block(&self, number: usize, block: &Block) {
        if self.context.cache.admits(&self.shelf, number, block.memory_size() as u64) {
            self.context.cache.insert(&self.shelf, number, block.clone());
        }
    }

    /// Takes the table's blocks out of the cache.
    pub fn forget_blocks(&self) {
        self.context.cache.clear_shelf(&self.shelf);
    }

    /// A block from the cache or the file; `fill` keeps it in the cache if that thinks it worth its place.
    #[inline]
    pub(super) fn block(&self, number: usize, fill: bool) -> Result<Block> {
        self.block_for(number, fill, &self.context.metrics.decodes_inline)
    }

    /// As [`Table::block`]; a block that has to be decoded is counted by `decodes`.
    #[inline]
    pub(super) fn block_for(&self, number: usize, fill: bool, decodes: &Counter) -> Result<Block> {
        if let Some(block) = self.cached_block(number) {
            return Ok(block);
        }
        decodes.inc();
        if !fill || !self.is_kept(number) {
            return self.load_block(number);
        }
        self.context.cache.get_or_insert_with(&self.shelf, number, || self.load_block(number))
    }

    /// Tells the cache of a miss; true if it would keep the block.
    fn is_kept(&self, number: usize) -> bool {
        self.context.cache.admits(&self.shelf, number, self.index.raw_len(number) as u64)
    }

    /// Reads and decodes a block; twice if need be.
    pub(super) fn load_block(&self, number: usize) -> Result<Block> {
        let handle = self.index.handle(number);
        let block = self.read_frame(handle, |table, bytes| table.decode_block(handle, bytes));
        block.map_err(|e| self.with_keys(e, number))
    }

    /// The same error, naming the keys of the block that is damaged.
    #[cold]
    fn with_keys(&self, error: Error, number: usize) -> Error {
        let before = if number == 0 { &self.meta.smallest[..] } else { self.index.separator(number - 1) };
        error.with_keys(before, self.index.separator(number))
    }

    /// Decodes a block from the bytes of its frame.
    pub(super) fn decode_block(&self, handle: FrameHandle, bytes: &[u8]) -> Result<Block> {
        self.decode_block_as(handle, bytes, self.meta.seq_override)
    }

    /// As [`Table::decode_block`], with another sequence override than the table's own.
    pub(super) fn decode_block_as(
        &self,
        handle: FrameHandle,
        bytes: &[u8],
        seq_override: Option<SeqNo>,
    ) -> Result<Block> {
        let frame = self.open_frame(handle, bytes)?;
        let meter = Some(self.meter());
        with_scratch(|scratch| {
            let keys = frame.keys(&self.dictionaries, meter, &mut scratch.keys)?;
            let (entries, values_len) = (frame.trailer.entries as usize, frame.trailer.values.raw_len as usize);
            Block::decode(keys, entries, values_len, seq_override, |values| {
                frame.values_into(&self.dictionaries, meter, values)
            })
        })
    }

    fn meter(&self) -> Meter<'_> {
        Meter { clock: &*self.context.clock, level: &self.context.family.levels[self.context.level] }
    }

    /// Checks a frame's structure and checksums.
    pub(super) fn open_frame<'a>(&self, handle: FrameHandle, bytes: &'a [u8]) -> Result<Frame<'a>> {
        Frame::open(bytes, handle.keys_stored, salt(self.meta.origin, handle.offset))
    }

    /// Reads the bytes of a frame and hands them to `use_bytes`; once more if they are corrupt.
    pub(super) fn read_frame<T>(
        &self,
        handle: FrameHandle,
        use_bytes: impl Fn(&Table, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let attempt = || {
            let mut stored = with_scratch(|scratch| std::mem::take(&mut scratch.stored));
            let result = self.read_into(handle, &mut stored).and_then(|bytes| use_bytes(self, bytes));
            if stored.len() <= SCRATCH_KEPT {
                with_scratch(|scratch| scratch.stored = stored);
            }
            result
        };
        let result = match attempt() {
            Err(e) if e.is_corruption() => attempt(),
            result => result,
        };
        result.map_err(|e| e.with_file(&self.path).with_offset(handle.offset))
    }

    /// Reads and decodes a frame that lies wholly in its keys part.
    pub(super) fn read_meta(&self, handle: FrameHandle) -> Result<Vec<u8>> {
        self.read_frame(handle, |table, bytes| {
            let mut out = Vec::new();
            Ok(table.open_frame(handle, bytes)?.keys(&[], None, &mut out)?.to_vec())
        })
    }

    fn read_into<'a>(&self, handle: FrameHandle, out: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let len = handle.stored_len as usize;
        if out.len() < len {
            out.try_reserve(len - out.len()).map_err(|_| Error::out_of_memory("a block"))?;
            out.resize(len, 0);
        }
        read(&*self.file, &self.path, &mut out[..len], handle.offset)?;
        self.context.metrics.table_read_bytes.add(len as u64);
        Ok(&out[..len])
    }

    /// Looks for `key` in one block, which is decoded for keeping only if the cache would keep it.
    fn look(&self, number: usize, key: &[u8], hash: u64, target: Tag, decodes: &Counter) -> Result<Look> {
        let (cache, metrics) = (&self.context.cache, &self.context.metrics);
        let held = cache.peek(&self.shelf, number);
        if let Some(look) = held.as_ref().and_then(|block| Look::in_cached(block, key, hash, target)) {
            metrics.cache_hits.inc();
            cache.note_hit(&self.shelf, number);
            return Ok(look);
        }
        metrics.cache_misses.inc();
        decodes.inc();
        let part = held.filter(|block| block.is_part());
        let raw_len = self.index.raw_len(number);
        let mut keep = cache.admits_for(&self.shelf, number, raw_len as u64, hash);
        if keep == Keep::Part && part.as_ref().is_some_and(|part| 2 * part.memory_size() > raw_len) {
            keep = Keep::Whole;
        }
        if keep == Keep::Whole {
            let block = cache.get_or_insert_with(&self.shelf, number, || self.load_block(number))?;
            return Ok(Look::in_block(&block, key, hash, target));
        }
        let handle = self.index.handle(number);
        let found = self.read_frame(handle, |table, bytes| table.look_in_frame(handle, bytes, key, target));
        let look = found.map_err(|e| self.with_keys(e, number))?;
        if let (Keep::Part, Some((tag, value)), false) = (keep, &look.entry, look.is_newer_there) {
            let part = Block::part_with(part.as_ref(), key, *tag, value);
            if 2 * part.memory_size() <= raw_len {
                cache.insert(&self.shelf, number, part);
            }
        }
        Ok(look)
    }

    fn look_in_frame(&self, handle: FrameHandle, bytes: &[u8], key: &[u8], target: Tag) -> Result<Look> {
        let frame = self.open_frame(handle, bytes)?;
        let meter = Some(self.meter());
        with_scratch(|scratch| {
            let keys = frame.keys(&self.dictionaries, meter, &mut scratch.keys)?;
            let (entries, values_len) = (frame.trailer.entries as usize, frame.trailer.values.raw_len as usize);
            let over = self.meta.seq_override;
            let found = scratch.walk.find(keys, entries, values_len, over, key, target)?;
            let entry = match found.entry {
                Some((tag, range)) if !range.is_empty() => {
                    let (values, row) = (&mut scratch.values, &mut scratch.row);
                    Some((tag, Slice::from(frame.value(range, &self.dictionaries, meter, values, row)?)))
                }
                Some((tag, _)) => Some((tag, Slice::from(&[][..]))),
                None => None,
            };
            Ok(Look { entry, is_newer_there: found.is_newer_there, is_behind_all: found.is_behind_all })
        })
    }

    /// Looks for `key` from block `number` on, which `held` is if the caller holds it. Blocks that have to
    /// be decoded are counted by `decodes`.
    pub(super) fn get_from(
        &self,
        mut number: usize,
        mut held: Option<&Block>,
        key: &[u8],
        hash: u64,
        visible: SeqNo,
        decodes: &Counter,
    ) -> Result<Option<(Tag, Slice)>> {
        let target = Tag::visible_at(visible);
        let mut versions = false;
        while number < self.index.len() {
            let look = match held.take() {
                Some(block) => Look::in_block(block, key, hash, target),
                None => self.look(number, key, hash, target, decodes)?,
            };
            if look.entry.is_some() {
                return Ok(look.entry);
            }
            versions |= look.is_newer_there;
            // Only a block whose separator is the key may leave versions of it to the next one.
            if !look.is_behind_all || self.index.separator(number) != key {
                break;
            }
            number += 1;
        }
        if !versions {
            self.count_false_positive();
        }
        Ok(None)
    }

    /// What the cache holds of a block.
    #[cfg(test)]
    pub(super) fn peek(&self, number: usize) -> Option<Block> {
        self.context.cache.peek(&self.shelf, number)
    }

    /// True if the cache holds what a lookup of `key` in a block needs.
    pub(super) fn is_cached(&self, number: usize, key: &[u8]) -> bool {
        let held = self.context.cache.peek(&self.shelf, number);
        held.is_some_and(|block| !block.is_part() || block.find(key, Tag::NEWEST).is_some())
    }

    fn count_false_positive(&self) {
        if self.filter.is_some() {
            self.context.metrics.filter_false_positives.inc();
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.forget_blocks();
        self.context.cache.uncharge(self.charged);
        self.dictionaries.iter().for_each(|d| self.context.cache.uncharge_shared(d.hash()));
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({}, {} blocks)", self.path.display(), self.index.len())
    }
}

/// What one block says about a key.
struct Look {
    /// The newest entry that a reader may see.
    entry: Option<(Tag, Slice)>,
    /// True if the block has one that is too new.
    is_newer_there: bool,
    /// True if the block ends before the place of the key.
    is_behind_all: bool,
}

impl Look {
    /// What a cached block says; nothing if it is a part that does not know.
    #[inline]
    fn in_cached(block: &Block, key: &[u8], hash: u64, target: Tag) -> Option<Look> {
        if !block.is_part() {
            return Some(Look::in_block(block, key, hash, target));
        }
        let at = block.look_up_in_part(key, target)?;
        let entry = Some((block.tag(at), block.value_slice(at)));
        Some(Look { entry, is_newer_there: false, is_behind_all: false })
    }

    #[inline]
    fn in_block(block: &Block, key: &[u8], hash: u64, target: Tag) -> Look {
        let found = block.look_up(key, hash, target);
        Look {
            entry: found.entry.map(|at| (block.tag(at), block.value_slice(at))),
            is_newer_there: found.is_newer_there,
            is_behind_all: found.is_behind_all,
        }
    }
}

/// The end of a file, read at once.
struct Tail {
    start: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

fn open(fs: &dyn Fs, path: &Path, meta: Option<&TableMeta>, context: &TableContext) -> Result<Arc<Table>> {
    let file = fs.open(path).map_err(|e| Error::io("open a table", path, e))?;
    let size = file.len().map_err(|e| Error::io("measure a table", path, e))?;
    if let Some(meta) = meta.filter(|m| m.size != size) {
        return Err(Error::corruption(format!("the table has {size} bytes, the manifest says {}", meta.size)));
    }
    if size < (HEADER_LEN + FOOTER_TAIL_LEN) as u64 {
        return Err(Error::corruption(format!("{size} bytes are too few for a table")));
    }
    // As with blocks, what fails is read once more.
    let result = match open_once(&file, size, path, meta, context) {
        Err(e) if e.is_corruption() => open_once(&file, size, path, meta, context),
        result => result,
    };
    result.map(Arc::new)
}

fn open_once(
    file: &Arc<dyn File>,
    size: u64,
    path: &Path,
    meta: Option<&TableMeta>,
    context: &TableContext,
) -> Result<Table> {
    let start = size.saturating_sub(TAIL_LEN);
    let tail = Tail { start, bytes: read_vec(&**file, path, start, (size - start) as usize)? };
    let header = match tail.get(0, HEADER_LEN) {
        Some(bytes) => FileHeader::decode(bytes, FileKind::Table),
        None => FileHeader::decode(&read_vec(&**file, path, 0, HEADER_LEN)?, FileKind::Table),
    };
    let header = header.map_err(|e| e.with_offset(0))?;
    let origin = Origin { db_id: header.db_id, number: header.number };
    if meta.is_some_and(|m| m.origin != origin) {
        return Err(Error::corruption(format!("the table says that it is {origin}")).with_offset(0));
    }
    let (footer, footer_at) = read_footer(&**file, path, size, &tail, origin)?;
    check_layout(&footer, footer_at).map_err(|e| e.with_offset(footer_at))?;
    let frame = |handle: FrameHandle| -> Result<Vec<u8>> {
        let read;
        let bytes = match tail.get(handle.offset, handle.stored_len as usize) {
            Some(bytes) => bytes,
            None => {
                read = read_vec(&**file, path, handle.offset, handle.stored_len as usize)?;
                context.metrics.table_read_bytes.add(read.len() as u64);
                &read
            }
        };
        let mut out = Vec::new();
        let frame = Frame::open(bytes, handle.keys_stored, salt(origin, handle.offset));
        let payload = frame.and_then(|f| f.keys(&[], None, &mut out).map(<[u8]>::to_vec));
        payload.map_err(|e| e.with_offset(handle.offset))
    };
    let at = |handle: FrameHandle| move |e: Error| e.with_offset(handle.offset);

    let blocks =
        index::decode(&frame(footer.index)?, HEADER_LEN as u64, data_end(&footer)).map_err(at(footer.index))?;
    let index = Index::new(&blocks);
    let properties = Properties::decode(&frame(footer.properties)?).map_err(at(footer.properties))?;
    let mut tombstones = match footer.tombstones {
        Some(handle) => Fragments::decode(&frame(handle)?).map_err(at(handle))?,
        None => Fragments::default(),
    };
    if let Some(seq) = meta.and_then(|m| m.seq_override) {
        tombstones = tombstones.with_seq(seq);
    }
    let mut dictionaries = Vec::new();
    for entry in &footer.dictionaries {
        let dictionary = Dictionary::from_bytes(frame(entry.handle)?)
            .map_err(|e| Error::corruption(e.to_string()).with_offset(entry.handle.offset))?;
        if dictionary.hash() != entry.hash {
            return Err(Error::corruption("a dictionary has another hash than the footer says")
                .with_offset(entry.handle.offset));
        }
        dictionaries.push(dictionary);
    }
    let decoded = |handle: FrameHandle| match frame(handle).and_then(|b| Filter::decode(&b).map_err(at(handle))) {
        // As any block, but past the tail that was read before.
        Err(e) if e.is_corruption() => {
            let bytes = read_vec(&**file, path, handle.offset, handle.stored_len as usize)?;
            let mut out = Vec::new();
            let frame = Frame::open(&bytes, handle.keys_stored, salt(origin, handle.offset));
            frame.and_then(|f| Filter::decode(f.keys(&[], None, &mut out)?)).map_err(at(handle))
        }
        outcome => outcome,
    };
    let (filter, filter_error) = match footer.filter.map(decoded) {
        None => (None, None),
        Some(Ok(filter)) => (Some(filter), None),
        Some(Err(e)) if e.is_corruption() => {
            context.metrics.filter_errors.inc();
            (None, Some(e.with_file(path)))
        }
        // A read that failed may work the next time: the table is not kept open without its filter.
        Some(Err(e)) => return Err(e),
    };
    let meta = match meta {
        Some(meta) => (meta.clone(), true),
        None => (meta_from(&properties, origin, size), false),
    };
    let mut context = context.clone();
    context.level = context.level.min(LEVELS - 1);
    let shelf = context.cache.shelf(index.len());
    let charged = index.memory_size()
        + filter.as_ref().map_or(0, Filter::memory_size)
        + tombstones.memory_size()
        + shelf.memory_size();
    context.cache.charge(charged as u64);
    // Tables of a family have theirs in common, and so is what is made of it in memory.
    dictionaries.iter().for_each(|d| context.cache.charge_shared(d.hash(), d.memory_size() as u64));
    Ok(Table {
        file: file.clone(),
        path: path.to_path_buf(),
        meta: meta.0,
        hash_known: meta.1,
        context,
        footer,
        index,
        properties,
        filter,
        filter_error,
        tombstones,
        dictionaries,
        shelf,
        charged: charged as u64,
    })
}

fn read_footer(file: &dyn File, path: &Path, size: u64, tail: &Tail, origin: Origin) -> Result<(Footer, u64)> {
    let last = tail.bytes.last_chunk::<FOOTER_TAIL_LEN>().ok_or_else(|| Error::corruption("the file is cut short"))?;
    let end_at = size - FOOTER_TAIL_LEN as u64;
    let len = Footer::payload_len(last).map_err(|e| e.with_offset(end_at))?;
    let Some(footer_at) = end_at.checked_sub(len as u64).filter(|&at| at >= HEADER_LEN as u64) else {
        return Err(Error::corruption("the footer is longer than the file").with_offset(end_at));
    };
    let read;
    let bytes = match tail.get(footer_at, len + FOOTER_TAIL_LEN) {
        Some(bytes) => bytes,
        None => {
            read = read_vec(file, path, footer_at, len + FOOTER_TAIL_LEN)?;
            &read
        }
    };
    let footer = Footer::decode(bytes, salt(origin, footer_at)).map_err(|e| e.with_offset(footer_at))?;
    Ok((footer, footer_at))
}

/// The frames behind the data blocks lie one behind the other, up to the footer.
fn check_layout(footer: &Footer, footer_at: u64) -> Result<()> {
    let mut at = data_end(footer);
    if at < HEADER_LEN as u64 {
        return Err(Error::corruption("the footer puts a block into the header"));
    }
    for (name, handle) in footer.frames() {
        if handle.offset != at {
            return Err(Error::corruption(format!("the {name} should begin at {at}, not at {}", handle.offset)));
        }
        at = handle.end();
    }
    if at != footer_at {
        return Err(Error::corruption(format!("the footer should begin at {at}, not at {footer_at}")));
    }
    Ok(())
}

fn data_end(footer: &Footer) -> u64 {
    footer.frames().first().map_or(0, |(_, handle)| handle.offset)
}

fn meta_from(p: &Properties, origin: Origin, size: u64) -> TableMeta {
    TableMeta {
        number: origin.number,
        origin,
        size,
        hash: 0,
        smallest: p.smallest.clone(),
        largest: p.largest.clone(),
        seq_min: p.seq_min,
        seq_max: p.seq_max,
        entries: p.entries,
        deletes: p.deletes,
        range_deletes: p.range_deletes,
        raw_bytes: p.raw_key_bytes.saturating_add(p.raw_value_bytes),
        created: p.created,
        oldest_data: p.oldest_data,
        seq_override: None,
        owes_codec: false,
        unknown: UnknownFields::default(),
    }
}

fn salt(origin: Origin, offset: u64) -> u64 {
    place_salt(origin.db_id, origin.number, offset)
}

fn read_vec(file: &dyn File, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Error::out_of_memory("a block").with_offset(offset))?;
    out.resize(len, 0);
    read(file, path, &mut out, offset)?;
    Ok(out)
}

fn read(file: &dyn File, path: &Path, out: &mut [u8], offset: u64) -> Result<()> {
    read_exact_at(file, out, offset).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::corruption("the file ends within a block").with_file(path).with_offset(offset)
        }
        _ => Error::io("read a table", path, e).with_offset(offset),
    })
}

/// Memory for what is needed only while a block is decoded.
#[derive(Default)]
struct Scratch {
    stored: Vec<u8>,
    keys: Vec<u8>,
    values: Vec<u8>,
    row: Vec<u8>,
    walk: Walk,
}

fn with_scratch<T>(body: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with(|cell| match cell.try_borrow_mut() {
        Ok(mut scratch) => {
            let out = body(&mut scratch);
            let scratch = &mut *scratch;
            for part in [&mut scratch.keys, &mut scratch.values, &mut scratch.row] {
                if part.len() > SCRATCH_KEPT {
                    *part = Vec::new();
                }
            }
            scratch.walk.shrink_to(SCRATCH_KEPT);
            out
        }
        // A codec of the user's own reads the database it is decoding for.
        Err(_) => body(&mut Scratch::default()),
    })
}
