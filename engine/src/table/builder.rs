//! Writing a table: entries in, blocks out, metadata at the end.
//!
//! The caller adds entries in strict internal order and may add range tombstones; [`TableBuilder::finish`]
//! writes filter, properties, index and footer, syncs the file and says what the manifest needs to
//! know. Bytes go out in pieces of a megabyte, hashed on the way. The directory is the caller's to sync.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::checksum::{FileHasher, hash_key, place_salt};
use crate::clock::Clock;
use crate::coding::shared_prefix_len;
use crate::error::{Error, Result};
use crate::field::UnknownFields;
use crate::filename::FileName;
use crate::frame::{self, Codec, Dictionary, Filter, FrameHandle, FrameOptions, Meter, PART_LEN_MAX};
use crate::fs::{File, Fs};
use crate::header::{FileHeader, FileKind};
use crate::key::{SeqNo, Tag, check_key, check_value};
use crate::metrics::{FamilyMetrics, LEVELS};
use crate::options::{CfOptions, Depth, FilterPolicy};
use crate::sabotage::{self, Bug};
use crate::sync::Arc;
use crate::table::block::BlockBuilder;
use crate::table::filter::{self, TableFilter};
use crate::table::footer::{DictionaryEntry, FEATURE_BASE, FEATURE_DICTIONARY, FEATURE_FILTERS, Footer};
use crate::table::index::{self, BlockInfo};
use crate::table::properties::{Promise, Properties};
use crate::tombstone::Fragments;
use crate::version::{Origin, TableMeta, max_upper};

/// Bytes are handed to the file in pieces of at least this size.
const WRITE_LEN: usize = 1 << 20;
/// How index, properties and dictionaries are compressed, whatever the family wants.
pub const META_CODEC: Codec = Codec::Zstd { level: 3 };

/// Values of fewer bytes say too little about a filter.
const PROBE_LEN_MIN: usize = 512;
/// After how many blocks a filter that is of use is asked about again.
const PROBE_INTERVAL: u32 = 16;
/// The same where none is: at first, and at most, after doubling each time.
const PROBE_INTERVAL_VAIN: std::ops::RangeInclusive<u32> = 4..=256;

/// How to write a table.
#[derive(Clone, Debug)]
pub struct TableWriteOptions {
    /// Codec of the keys parts.
    pub keys: Codec,
    /// Codec of the values parts.
    pub values: Codec,
    /// A part is stored raw if compression saves less than this many 1/256 of it.
    pub min_saving: u8,
    /// Target size of a block before compression.
    pub block_size: usize,
    /// Which filter.
    pub filter: TableFilter,
    /// A dictionary for blocks; a copy goes into the table.
    pub dictionary: Option<Dictionary>,
    /// Lets values pass through a byte transpose where a sample says that it pays.
    pub transpose: bool,
    /// What whoever chose all this has promised.
    pub promise: Promise,
    /// The objective that it was chosen for by measuring; empty for none.
    pub chosen_for: String,
}

impl TableWriteOptions {
    /// What a family's options say for tables of this depth.
    pub fn for_depth(cf: &CfOptions, depth: Depth) -> TableWriteOptions {
        let values = cf.compression.codec_at(depth);
        let filter = match cf.filter {
            FilterPolicy::None => TableFilter::None,
            FilterPolicy::Bloom { bits_per_key } => TableFilter::Bloom { bits: bits_per_key },
            FilterPolicy::Auto { bits_per_key } if depth == Depth::Young => TableFilter::Bloom { bits: bits_per_key },
            FilterPolicy::Auto { .. } => TableFilter::Fuse8,
        };
        TableWriteOptions {
            keys: cf.compression.keys.unwrap_or(values),
            values,
            min_saving: cf.compression.min_saving,
            block_size: cf.plain_block_size(),
            filter,
            dictionary: None,
            transpose: cf.transpose,
            promise: Promise::default(),
            chosen_for: String::new(),
        }
    }

    /// The one-line description that the properties keep.
    pub fn compression_name(&self) -> String {
        let mut out = self.values.to_string();
        if self.keys != self.values {
            out.push_str(&format!(" keys {}", self.keys));
        }
        if self.dictionary.is_some() {
            out.push_str(" with dictionary");
        }
        out
    }
}

/// When to ask which filter the values should pass through. A block that is asked about costs up to
/// three compressions, so it is the first of a table and then one in 16; where no filter is of use, ever fewer.
struct Probes {
    /// Blocks to go.
    wait: u32,
    interval: u32,
}

impl Probes {
    fn new() -> Probes {
        Probes { wait: 0, interval: *PROBE_INTERVAL_VAIN.start() }
    }

    /// The filter from this block on.
    fn next(&mut self, options: &FrameOptions, values: &[u8]) -> Result<Option<Filter>> {
        if values.len() < PROBE_LEN_MIN {
            return Ok(options.values_filter);
        }
        if self.wait > 0 {
            self.wait -= 1;
            return Ok(options.values_filter);
        }
        let found = frame::probe_filter(options, values)?;
        match found {
            Some(_) => (self.wait, self.interval) = (PROBE_INTERVAL - 1, *PROBE_INTERVAL_VAIN.start()),
            None => {
                self.wait = self.interval - 1;
                self.interval = (self.interval * 2).min(*PROBE_INTERVAL_VAIN.end());
            }
        }
        Ok(found)
    }
}

/// A table being written.
pub struct TableBuilder<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    file: Arc<dyn File>,
    origin: Origin,
    options: TableWriteOptions,
    frame: FrameOptions,
    probes: Probes,
    has_filters: bool,
    metrics: Arc<FamilyMetrics>,
    level: usize,
    clock: Arc<dyn Clock>,
    /// Bytes that the file holds, and those still to be written behind them.
    written: u64,
    pending: Vec<u8>,
    hasher: FileHasher,
    block: BlockBuilder,
    /// The raw keys part of the block being written, for reuse.
    keys_raw: Vec<u8>,
    blocks: Vec<BlockInfo>,
    hashes: Vec<u64>,
    last_key: Vec<u8>,
    last_tag: Tag,
    smallest: Option<Vec<u8>>,
    tombstones: Fragments,
    properties: Properties,
}

impl<'a> TableBuilder<'a> {
    /// Creates the file of table `number`, which must not exist yet.
    pub fn create(
        fs: &'a dyn Fs,
        dir: &Path,
        number: u64,
        db_id: u128,
        options: TableWriteOptions,
        created: u64,
        metrics: Arc<FamilyMetrics>,
        level: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<TableBuilder<'a>> {
        let path = FileName::Table(number).path(dir);
        let file = fs.create_new(&path).map_err(|e| Error::io("create a table", &path, e))?;
        let frame = FrameOptions {
            keys: options.keys,
            values: options.values,
            min_saving: options.min_saving,
            dictionary: options.dictionary.clone().map(|d| (0, d)),
            values_filter: None,
        };
        let pending = FileHeader { kind: FileKind::Table, number, db_id }.encode().to_vec();
        let properties = Properties {
            created,
            oldest_data: created,
            compression: options.compression_name(),
            filter: TableFilter::None.to_string(),
            block_size: options.block_size as u64,
            dictionary: options.dictionary.as_ref().map_or(0, Dictionary::hash),
            promise: options.promise,
            chosen_for: options.chosen_for.clone(),
            ..Properties::default()
        };
        Ok(TableBuilder {
            fs,
            path,
            file,
            origin: Origin { db_id, number },
            options,
            frame,
            probes: Probes::new(),
            has_filters: false,
            metrics,
            level: level.min(LEVELS - 1),
            clock,
            written: 0,
            pending,
            hasher: FileHasher::new(),
            block: BlockBuilder::new(),
            keys_raw: Vec::new(),
            blocks: Vec::new(),
            hashes: Vec::new(),
            last_key: Vec::new(),
            last_tag: Tag::NEWEST,
            smallest: None,
            tombstones: Fragments::default(),
            properties,
        })
    }

    /// Says when the oldest of the entries came into the database, if not now.
    pub fn set_oldest_data(&mut self, unix_seconds: u64) {
        self.properties.oldest_data = unix_seconds;
    }

    /// Appends an entry, which must lie behind all others in internal order.
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        self.add_hashed(key, hash_key(key), tag, value)
    }

    /// As [`TableBuilder::add`] for a key whose [`hash_key`] is known.
    #[inline]
    pub fn add_hashed(&mut self, key: &[u8], hash: u64, tag: Tag, value: &[u8]) -> Result<()> {
        let first = self.smallest.is_none();
        let shared = shared_prefix_len(&self.last_key, key);
        let same_key = !first && shared == key.len() && shared == self.last_key.len();
        // One byte tells the order, since the keys differ there or one of them ends.
        let ascends = first || if same_key { tag < self.last_tag } else { key.get(shared) > self.last_key.get(shared) };
        if !ascends {
            return Err(Error::invalid("the entries of a table are not in strict order").with_file(&self.path));
        }
        if !(tag.is_put() || tag.is_delete()) {
            return Err(Error::invalid(format!("a table cannot hold {tag:?}")).with_file(&self.path));
        }
        check_value(value)?;
        if !same_key {
            check_key(key)?;
            self.hashes.push(hash);
        }
        if self.block.is_full_for(key.len() - shared, key.len(), value.len(), self.options.block_size) {
            self.close_block(Some(key))?;
        }
        self.block.add(if self.block.is_empty() { 0 } else { shared }, key, tag, value);
        if first {
            self.smallest = Some(key.to_vec());
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.last_tag = tag;
        self.properties.entries += 1;
        self.properties.deletes += u64::from(tag.is_delete());
        self.properties.raw_key_bytes += key.len() as u64;
        self.properties.raw_value_bytes += value.len() as u64;
        Ok(())
    }

    /// Sets the table's range tombstones. They count for its bounds.
    pub fn add_tombstones(&mut self, fragments: &Fragments) {
        self.tombstones = fragments.clone();
    }

    /// Bytes written and waiting, before the metadata; roughly what the file will have.
    pub fn estimated_size(&self) -> u64 {
        let block = if self.block.is_empty() { 0 } else { self.block.size() as u64 };
        self.position() + block + self.hashes.len() as u64 * 5 / 4 + self.blocks.len() as u64 * 16
    }

    /// Entries added.
    pub fn entries(&self) -> u64 {
        self.properties.entries
    }

    /// The key added last.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Writes what is left, syncs the file and describes the table. The directory is not synced. On
    /// failure the file is removed if that is possible.
    pub fn finish(mut self) -> Result<TableMeta> {
        let outcome = self.complete();
        if outcome.is_err() {
            self.abandon();
        }
        outcome
    }

    fn complete(&mut self) -> Result<TableMeta> {
        if !self.block.is_empty() {
            self.close_block(None)?;
        }
        let mut footer = Footer { features: vec![FEATURE_BASE.into()], ..Footer::default() };
        let meta_options = FrameOptions::new(META_CODEC, 0);
        if !self.tombstones.is_empty() {
            let mut payload = Vec::new();
            self.tombstones.encode(&mut payload);
            footer.tombstones = Some(self.put_meta(&meta_options, &payload)?);
        }
        let mut payload = Vec::new();
        let mut hashes = std::mem::take(&mut self.hashes);
        let built = filter::build(self.options.filter, &mut hashes, &mut payload);
        if payload.len() <= PART_LEN_MAX && built != TableFilter::None {
            footer.filter = Some(self.put_meta(&FrameOptions::new(Codec::None, 0), &payload)?);
            self.properties.filter = built.to_string();
        }
        if let Some(dictionary) = self.options.dictionary.clone() {
            let handle = self.put_meta(&meta_options, dictionary.bytes())?;
            footer.features.push(FEATURE_DICTIONARY.into());
            let codec = self.options.values.id();
            footer.dictionaries.push(DictionaryEntry { hash: dictionary.hash(), codec, handle });
        }
        if self.has_filters {
            footer.features.push(FEATURE_FILTERS.into());
        }
        let bounds = self.bounds()?;
        self.properties.blocks = self.blocks.len() as u64;
        self.properties.range_deletes = self.tombstones.len() as u64;
        self.properties.smallest = bounds.0.clone();
        self.properties.largest = bounds.1.clone();
        (self.properties.seq_min, self.properties.seq_max) = self.seq_bounds();
        let mut payload = Vec::new();
        self.properties.encode(&mut payload);
        footer.properties = self.put_meta(&meta_options, &payload)?;
        payload.clear();
        index::encode(&self.blocks, &mut payload);
        footer.index = self.put_meta(&meta_options, &payload)?;
        footer.encode(self.salt(), &mut self.pending);
        self.flush()?;
        let bug = if self.level == 0 { Bug::FlushNotSynced } else { Bug::CompactionNotSynced };
        if !sabotage::is(bug) {
            self.file.sync_data().map_err(|e| Error::io("sync a table", &self.path, e))?;
        }
        let p = &self.properties;
        Ok(TableMeta {
            number: self.origin.number,
            origin: self.origin,
            size: self.written,
            hash: self.hasher.digest(),
            smallest: bounds.0,
            largest: bounds.1,
            seq_min: p.seq_min,
            seq_max: p.seq_max,
            entries: p.entries,
            deletes: p.deletes,
            range_deletes: p.range_deletes,
            raw_bytes: p.raw_key_bytes + p.raw_value_bytes,
            created: p.created,
            oldest_data: p.oldest_data,
            seq_override: None,
            owes_codec: false,
            unknown: UnknownFields::default(),
        })
    }

    /// Gives up: removes the file if it can.
    pub fn abandon(self) {
        let TableBuilder { fs, path, file, .. } = self;
        drop(file);
        let _ = fs.remove_file(&path);
    }

    fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn salt(&self) -> u64 {
        place_salt(self.origin.db_id, self.origin.number, self.position())
    }

    /// `next` is the first key of the block that follows.
    fn close_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        #[cfg(feature = "internals")]
        self.block.strike();
        self.keys_raw.clear();
        self.block.encode_keys(&mut self.keys_raw);
        let (offset, salt) = (self.position(), self.salt());
        let meter = Meter { clock: &*self.clock, level: &self.metrics.levels[self.level] };
        let values = self.block.values();
        let entries = self.block.len() as u32;
        let at_block = |e: Error| e.with_file(&self.path).with_offset(offset);
        if self.options.transpose {
            self.frame.values_filter = self.probes.next(&self.frame, values).map_err(at_block)?;
        }
        let out = &mut self.pending;
        let trailer =
            frame::encode(&self.frame, salt, &self.keys_raw, values, entries, Some(meter), out).map_err(at_block)?;
        self.has_filters |= trailer.values.filter()?.is_some();
        let (seq_min, seq_max) = self.block.seq_bounds();
        let last_key = match next {
            Some(next) => index::separator(&self.last_key, next),
            None => self.last_key.clone(),
        };
        self.blocks.push(BlockInfo {
            offset,
            stored_len: (self.position() - offset) as u32,
            keys_stored: trailer.keys.stored_len,
            keys_raw: trailer.keys.raw_len,
            raw_len: trailer.keys.raw_len + trailer.values.raw_len,
            entries,
            codec_k: trailer.keys.codec,
            codec_v: trailer.values.codec,
            seq_min,
            seq_max,
            last_key,
        });
        #[cfg(feature = "internals")]
        self.strike();
        for part in [trailer.keys, trailer.values] {
            self.properties.count_part(part.codec, u64::from(part.raw_len), u64::from(part.stored_len));
        }
        self.block.clear();
        if self.pending.len() >= WRITE_LEN {
            self.flush()?;
        }
        Ok(())
    }

    /// Lets a test's flipped bit hit what is kept for the end of the table.
    #[cfg(feature = "internals")]
    fn strike(&mut self) {
        use super::strike::{Target, bytes, numbers};
        bytes(Target::Finished, &mut self.pending);
        numbers(Target::FilterHashes, &mut self.hashes);
        if let Some(block) = self.blocks.last_mut() {
            bytes(Target::Separators, &mut block.last_key);
        }
    }

    fn put_meta(&mut self, options: &FrameOptions, payload: &[u8]) -> Result<FrameHandle> {
        let (offset, salt) = (self.position(), self.salt());
        let trailer = frame::encode(options, salt, payload, &[], 0, None, &mut self.pending)
            .map_err(|e| e.with_file(&self.path).with_offset(offset))?;
        let stored_len = (self.position() - offset) as u32;
        Ok(FrameHandle { offset, stored_len, keys_stored: trailer.keys.stored_len })
    }

    fn flush(&mut self) -> Result<()> {
        self.hasher.update(&self.pending);
        self.file
            .write_all_at(&self.pending, self.written)
            .map_err(|e| Error::io("write a table", &self.path, e).with_offset(self.written))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn bounds(&self) -> Result<(Vec<u8>, Bound<Vec<u8>>)> {
        let points = self.smallest.as_ref().map(|first| (first.clone(), Bound::Included(self.last_key.clone())));
        let ranges = match (self.tombstones.iter().next(), self.tombstones.iter().next_back()) {
            (Some(first), Some(last)) => {
                Some((first.start.clone(), last.end.clone().map_or(Bound::Unbounded, Bound::Excluded)))
            }
            _ => None,
        };
        match (points, ranges) {
            (Some(a), Some(b)) => Ok((a.0.min(b.0), max_upper(&a.1, &b.1).clone())),
            (Some(bounds), None) | (None, Some(bounds)) => Ok(bounds),
            (None, None) => Err(Error::invalid("a table would have no entries").with_file(&self.path)),
        }
    }

    fn seq_bounds(&self) -> (SeqNo, SeqNo) {
        let points = self.blocks.iter().map(|b| (b.seq_min, b.seq_max));
        let all = points.chain(self.tombstones.seq_bounds());
        all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0))
    }
}
