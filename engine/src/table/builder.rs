//! Writing a table: entries in, blocks out, metadata at the end.
//!
//! The caller adds entries in strict internal order and may add range tombstones; [`TableBuilder::finish`]
//! writes filter, properties, index and footer, syncs the file and says what the manifest needs to
//! know. Bytes go out in pieces of a megabyte, hashed on the way. The directory is the caller's to sync.
//!
//! ```text
//! entries -> block -> what becomes of its parts -> compressed -> sealed where it lies -> file
//!                     (filter, veto; in order)     (any thread)  (checksums; in order)
//! ```
//!
//! Where a compaction finds all entries of one block of an input again in its output, and the block was stored as
//! it would be now, its values are taken over as they are stored ([`TableBuilder::take_values`]).
//!
//! Always true: the bytes of a table depend on its entries, options, identity and such blocks alone, not on who
//! compressed which block when. So under slow codecs blocks wait in line between closing and sealing, up to a bound that
//! counts blocks and bytes, also where nobody helps; and all that is decided, filters, vetoes and the estimated
//! size, is decided from the blocks that were sealed at that count.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::checksum::{FileHasher, hash_key, place_salt};
use crate::clock::Clock;
use crate::coding::shared_prefix_len;
use crate::error::{Error, ErrorKind, Result};
use crate::field::UnknownFields;
use crate::filename::FileName;
use crate::frame::{self, Codec, Dictionary, Filter, FrameHandle, FrameOptions, PART_LEN_MAX, StoredValues, Unsealed};
use crate::fs::{File, Fs};
use crate::header::{FileHeader, FileKind};
use crate::key::{SeqNo, Tag, check_key, check_value};
use crate::metrics::{FamilyMetrics, LEVELS, Metrics, codec_slot};
use crate::options::{CfOptions, Depth, FilterPolicy};
use crate::pool::Pool;
use crate::sabotage::{self, Bug};
use crate::sync::{Arc, is_simulated};
use crate::table::block::BlockBuilder;
use crate::table::encoding::{Closed, Encoding, is_slow};
use crate::table::filter::{self, TableFilter};
use crate::table::footer::{DictionaryEntry, FEATURE_BASE, FEATURE_DICTIONARY, FEATURE_FILTERS, Footer};
use crate::table::index::{self, BlockInfo};
use crate::table::line::{By, Line};
use crate::table::properties::{Promise, Properties};
use crate::table::veto::{Verdict, Veto};
use crate::tombstone::Fragments;
use crate::version::{Origin, TableMeta, max_upper};

/// Bytes are handed to the file in pieces of at least this size.
const WRITE_LEN: usize = 1 << 20;
/// How index, properties and dictionaries are compressed, whatever the family wants.
pub const META_CODEC: Codec = Codec::Zstd { level: 3 };

/// Blocks that wait in line to be compressed, and their bytes before.
const LINE_LEN: usize = 16;
const LINE_BYTES: usize = 1 << 20;

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

    /// True if a table with these properties was written so.
    pub fn is_that_of(&self, p: &Properties) -> bool {
        p.compression == self.compression_name()
            && p.block_size == self.block_size as u64
            && p.dictionary == self.dictionary.as_ref().map_or(0, Dictionary::hash)
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
/// five compressions, so it is the first of a table and then one in 16; where no filter is of use, ever fewer.
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
    /// Of the keys parts and of the values parts.
    vetoes: [Veto; 2],
    has_filters: bool,
    metrics: Arc<FamilyMetrics>,
    /// Where it is counted who encodes.
    assisted: Option<Arc<Metrics>>,
    level: usize,
    clock: Arc<dyn Clock>,
    /// Bytes that the file holds, and those still to be written behind them.
    written: u64,
    pending: Vec<u8>,
    hasher: FileHasher,
    block: BlockBuilder,
    /// The values of the block that is being built, as they are stored elsewhere; it gets no more entries then.
    known: Option<StoredValues>,
    /// Closed blocks on their way, where the codecs are slow enough for that.
    line: Option<Line<Encoding>>,
    in_line: InLine,
    /// Blocks that were sealed.
    blocks: Vec<BlockInfo>,
    /// Their bytes before compression, and in the file.
    sealed_raw: u64,
    sealed_stored: u64,
    /// Memory for the next blocks: keys, values, both as stored.
    spare: Vec<[Vec<u8>; 3]>,
    hashes: Vec<u64>,
    last_key: Vec<u8>,
    last_tag: Tag,
    smallest: Option<Vec<u8>>,
    tombstones: Fragments,
    properties: Properties,
}

/// What stands in the line.
#[derive(Default)]
struct InLine {
    blocks: usize,
    raw_bytes: usize,
    /// What they are taken to be in the file.
    expected_bytes: u64,
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
        let line = is_slow(options.keys, options.values, options.block_size).then(|| Line::new(None));
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
            vetoes: Default::default(),
            has_filters: false,
            metrics,
            assisted: None,
            level: level.min(LEVELS - 1),
            clock,
            written: 0,
            pending,
            hasher: FileHasher::new(),
            block: BlockBuilder::new(),
            known: None,
            line,
            in_line: InLine::default(),
            blocks: Vec::new(),
            sealed_raw: 0,
            sealed_stored: 0,
            spare: Vec::new(),
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

    /// Lets idle workers of `pool` compress blocks, where the codecs are slow enough for that; for before the
    /// first entry. In a simulation nobody helps.
    pub fn assist(&mut self, pool: Option<&Arc<Pool>>, metrics: &Arc<Metrics>) {
        if let Some(line) = &mut self.line {
            *line = Line::new(pool.filter(|_| !is_simulated()).cloned());
            self.assisted = Some(metrics.clone());
        }
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
        let block_size = self.options.block_size;
        if self.known.is_some() || self.block.is_full_for(key.len() - shared, key.len(), value.len(), block_size) {
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

    /// True if a new block may begin here: none has begun, or one that is nearly full, which is closed then in front
    /// of `next`.
    pub fn begin_block(&mut self, next: &[u8]) -> Result<bool> {
        if self.block.is_empty() {
            return Ok(true);
        }
        if self.known.is_none() && self.block.size() < self.options.block_size / 4 * 3 {
            return Ok(false);
        }
        self.close_block(Some(next)).map(|()| true)
    }

    /// Offers the values of the block that is being built as a table has stored them that was written with the same
    /// options. They are taken if they are those that were added, and the block ends with them; true if so.
    pub fn take_values(&mut self, values: StoredValues) -> Result<bool> {
        let part = values.part();
        // Filters are looked for anew now and then, and a dictionary is the first wherever there is one.
        let may_stay = part.filter()?.is_none() && part.dictionary.is_none_or(|n| n == 0);
        let is_taken = may_stay && values.holds(self.block.values());
        if is_taken {
            self.known = Some(values);
        }
        Ok(is_taken)
    }

    /// Sets the table's range tombstones. They count for its bounds.
    pub fn add_tombstones(&mut self, fragments: &Fragments) {
        self.tombstones = fragments.clone();
    }

    /// Bytes written and waiting, before the metadata; roughly what the file will have. Blocks in the line count as
    /// if they shrank like those before them.
    pub fn estimated_size(&self) -> u64 {
        let block = if self.block.is_empty() { 0 } else { self.block.size() as u64 };
        let n_blocks = self.blocks.len() + self.in_line.blocks;
        self.position() + self.in_line.expected_bytes + block + self.hashes.len() as u64 * 5 / 4 + n_blocks as u64 * 16
    }

    /// True if how it is written was found out by measuring.
    pub fn is_measured(&self) -> bool {
        self.options.promise != Promise::default()
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
        while self.in_line.blocks > 0 {
            self.seal_first()?;
        }
        if let (Some(metrics), Some(line)) = (&self.assisted, &self.line) {
            metrics.encode_wakeups.add(line.n_wakeups());
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
        let [mut keys, values, stored] = self.spare.pop().unwrap_or_default();
        keys.clear();
        self.block.encode_keys(&mut keys);
        let values = self.block.replace_values(values);
        let (seq_min, seq_max) = self.block.seq_bounds();
        let entries = self.block.len() as u32;
        self.block.clear();
        let last_key = match next {
            Some(next) => index::separator(&self.last_key, next),
            None => self.last_key.clone(),
        };
        let known = self.known.take();
        let decided = match &known {
            Some(known) => self.decide_beside(&keys, known),
            None => self.decide(&keys, &values),
        };
        let (frame, verdicts) = decided.map_err(|e| self.at_end(e))?;
        let expected_len = match self.sealed_raw {
            0 => (keys.len() + values.len()) as u64,
            raw => (u128::from(self.sealed_stored) * (keys.len() + values.len()) as u128 / u128::from(raw)) as u64,
        };
        let encoding = Encoding {
            frame,
            keys,
            values,
            known,
            stored,
            closed: Closed { entries, seq_min, seq_max, last_key, verdicts, expected_len },
            metrics: self.metrics.clone(),
            level: self.level,
            clock: self.clock.clone(),
            outcome: None,
        };
        let Some(line) = &mut self.line else {
            let unsealed = encoding.compress(&mut self.pending).map_err(|e| self.at_end(e))?;
            return self.seal(encoding, unsealed);
        };
        self.in_line.blocks += 1;
        self.in_line.raw_bytes += encoding.raw_len();
        self.in_line.expected_bytes += expected_len;
        let nanos = encoding.nanos();
        line.push(encoding, nanos);
        // The first one at once: it says what to expect of the others.
        let len_max = if self.blocks.is_empty() { 0 } else { LINE_LEN };
        while self.in_line.blocks > len_max
            || self.in_line.raw_bytes > LINE_BYTES
            || self.line.as_ref().is_some_and(Line::is_first_free)
        {
            self.seal_first()?;
        }
        Ok(())
    }

    /// What becomes of the parts of the block that was closed last.
    fn decide(&mut self, keys: &[u8], values: &[u8]) -> Result<(FrameOptions, [Verdict; 2])> {
        let [keys_veto, values_veto] = &mut self.vetoes;
        // Where a filter is in use it was found so by the codec itself. Where the values are noise none is looked
        // for: it would only lay the same bytes out in another order.
        let mut values_verdict = match self.frame.values_filter {
            Some(_) => Verdict::Compress,
            None => values_veto.judge(&self.frame, self.frame.values, values)?,
        };
        if values_verdict != Verdict::Raw && self.options.transpose {
            self.frame.values_filter = self.probes.next(&self.frame, values)?;
            if self.frame.values_filter.is_some() {
                values_verdict = Verdict::Compress;
            }
        }
        let mut frame = self.frame.clone();
        // Beside values that are noise, so few keys cannot save of the block what a part has to save of itself.
        let keys_len_min = values.len() as u64 * u64::from(frame.min_saving) / 256;
        let keys_verdict = match values_verdict {
            Verdict::Raw if (keys.len() as u64) < keys_len_min => Verdict::Raw,
            _ => keys_veto.judge(&self.frame, frame.keys, keys)?,
        };
        for (verdict, codec) in [(keys_verdict, &mut frame.keys), (values_verdict, &mut frame.values)] {
            if verdict == Verdict::Raw && *codec != Codec::None {
                self.metrics.levels[self.level].codecs[codec_slot(codec.id())].vetoed_parts.inc();
                *codec = Codec::None;
            }
        }
        Ok((frame, [keys_verdict, values_verdict]))
    }

    /// The same where it is known how the values are stored.
    fn decide_beside(&mut self, keys: &[u8], values: &StoredValues) -> Result<(FrameOptions, [Verdict; 2])> {
        let is_raw = values.part().codec == Codec::None.id();
        let values_verdict = if is_raw { Verdict::Raw } else { Verdict::Compress };
        let mut frame = self.frame.clone();
        let keys_verdict = self.vetoes[0].judge(&self.frame, frame.keys, keys)?;
        if keys_verdict == Verdict::Raw {
            frame.keys = Codec::None;
        }
        Ok((frame, [keys_verdict, values_verdict]))
    }

    /// Seals the block at the front of the line, once it is compressed.
    fn seal_first(&mut self) -> Result<()> {
        let popped = self.line.as_mut().map_or(Ok(None), Line::pop).map_err(|e| self.at_end(e))?;
        let lost = || Error::new(ErrorKind::Background, "a block got lost on the way to its table");
        let Some((mut encoding, by)) = popped else { return Err(self.at_end(lost())) };
        self.in_line.blocks -= 1;
        self.in_line.raw_bytes -= encoding.raw_len();
        self.in_line.expected_bytes -= encoding.closed.expected_len;
        if let Some(metrics) = self.assisted.as_ref().filter(|_| encoding.nanos() > 0) {
            if by == By::Worker { metrics.encodes_assisted.inc() } else { metrics.encodes_inline.inc() }
        }
        let outcome = match by {
            By::Nobody => encoding.compress(&mut self.pending),
            By::Owner | By::Worker => {
                self.pending.extend_from_slice(&encoding.stored);
                encoding.outcome.take().unwrap_or_else(|| Err(lost()))
            }
        };
        let unsealed = outcome.map_err(|e| self.at_end(e))?;
        self.seal(encoding, unsealed)
    }

    /// Makes a frame of the parts that the pending bytes end with.
    fn seal(&mut self, encoding: Encoding, unsealed: Unsealed) -> Result<()> {
        let Encoding { keys, values, stored, closed, .. } = encoding;
        let offset = self.position() - unsealed.stored_len() as u64;
        let salt = place_salt(self.origin.db_id, self.origin.number, offset);
        let trailer = frame::seal(unsealed, salt, closed.entries, &mut self.pending);
        self.has_filters |= trailer.values.filter()?.is_some();
        let stored_len = self.position() - offset;
        self.blocks.push(BlockInfo {
            offset,
            stored_len: stored_len as u32,
            keys_stored: trailer.keys.stored_len,
            keys_raw: trailer.keys.raw_len,
            raw_len: trailer.keys.raw_len + trailer.values.raw_len,
            entries: closed.entries,
            codec_k: trailer.keys.codec,
            codec_v: trailer.values.codec,
            seq_min: closed.seq_min,
            seq_max: closed.seq_max,
            last_key: closed.last_key,
        });
        #[cfg(feature = "internals")]
        self.strike();
        let parts = [trailer.keys, trailer.values];
        for ((part, veto), verdict) in parts.into_iter().zip(&mut self.vetoes).zip(closed.verdicts) {
            self.properties.count_part(part.codec, u64::from(part.raw_len), u64::from(part.stored_len));
            veto.learn(verdict, part.codec == Codec::None.id());
        }
        self.sealed_raw += (keys.len() + values.len()) as u64;
        self.sealed_stored += stored_len;
        self.spare.push([keys, values, stored]);
        if self.pending.len() >= WRITE_LEN {
            self.flush()?;
        }
        Ok(())
    }

    /// The same error, of what would come next in the file.
    fn at_end(&self, error: Error) -> Error {
        error.with_file(&self.path).with_offset(self.position())
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
