//! Would sub-frames pay? Large blocks cut into small independent frames, against small blocks.
//!
//! The idea (DESIGN 5 reserves a flag for it): a block of 32 to 64 KiB holds frames of 2 to 4 KiB that share a
//! dictionary, so that a point read decodes one of them while scans and ratio keep the large block. The figure to
//! beat is what the format has already: small blocks with the dictionary.
//!
//! Everything is built as files would hold it and measured in memory:
//!
//! ```text
//! small   blocks of 2, 4 and 8 KiB: the engine's own frames and index, with the dictionary
//! sub     the same frames without their trailers, many a block:
//!           parts of every frame, keys | values | keys | values ..
//!           table    columns: keys and values stored and raw, entries, codecs, filters, dictionary bits, separators;
//!                    then the separators, then 4 x u32 checksums a frame (keys and values, raw and stored)
//!           trailer  flags u8 | dictionary varint | frames varint | length of the table varint | its checksum u32 | length u8
//! lean    sub with 2 x u32 checksums a frame, over keys and values together: the least that still finds damage
//! whole   blocks of 32 and 64 KiB as frames, with the dictionary; and of 16 KiB without, which is the default
//! ```
//!
//! A point read finds its block by the index, checks what is stored, decodes the keys, walks them, decodes the values.
//! In a block of sub-frames it first checks the table and walks its separators. The parts of a frame are the same bytes
//! in `small` and `sub`: they are compressed once. A dictionary is trained on every eighth stretch of a set, and the
//! records of those are left out of what is measured.

use std::path::PathBuf;
use std::time::Instant;

use lignite::internals::checksum::{place_salt, xxh32};
use lignite::internals::coding::{Input, put_u32, put_varint, shared_prefix_len};
use lignite::internals::frame::{self, Frame, FrameOptions, Trailer, probe_filter};
use lignite::internals::key::{Kind, Tag};
use lignite::internals::table::block::{Block, BlockBuilder};
use lignite::internals::table::column::{self, Column};
use lignite::internals::table::index::{self, BlockInfo, Index};
use lignite::internals::table::lookup::Walk;
use lignite_bench::Result;
use lignite_bench::measure::Table;
use lignite_bench::records::{self, RecordSet, SETS};
use lignite_codecs::{Codec, Dictionary, Filter, decompress_filtered};

/// Options of `subframes`.
#[derive(Debug, clap::Args)]
pub struct SubframeOptions {
    /// Directory of the record sets
    #[arg(long, default_value_os_t = records::default_directory())]
    data: PathBuf,
    /// Only these sets
    #[arg(long, value_delimiter = ',')]
    sets: Vec<String>,
    /// Codecs
    #[arg(long, value_delimiter = ',', default_value = "lz4hc:9,zstd:3")]
    codecs: Vec<Codec>,
    /// Point reads of a round
    #[arg(long, default_value_t = 4000)]
    reads: usize,
    /// Rounds; the fastest counts, for what the others had more is the machine's
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Where the picture goes
    #[arg(long)]
    out: Option<PathBuf>,
}

const DICTIONARY_LEN: usize = 64 << 10;
/// The most bytes that a dictionary is trained on.
const TRAINING_LEN: usize = 4 << 20;
/// Consecutive records of about so many bytes are trained on or measured together.
const STRETCH_LEN: usize = 64 << 10;
/// Every so many blocks the engine looks whether a filter pays.
const FILTER_EVERY: usize = 16;
/// What is held against all others.
const YARDSTICK: &str = "small 4";

/// Measures every form under every codec on every set.
pub fn run(options: &SubframeOptions) -> Result<()> {
    let mut outcomes = Vec::new();
    for name in SETS {
        if !options.sets.is_empty() && !options.sets.iter().any(|set| set == name) {
            continue;
        }
        let set = RecordSet::read(&options.data, name)?;
        let records = Records::split(&set)?;
        for &codec in &options.codecs {
            let forms = forms(&records, codec)?;
            outcomes.extend(measure(options, name, codec, &records, &forms)?);
            eprintln!("{name} {codec} is done");
        }
    }
    for &codec in &options.codecs {
        println!("\n{codec}, every set:\n\n{}", details(&outcomes, codec));
        println!(
            "\n{codec}, all sets (geometric means, relative to blocks of 4 KiB):\n\n{}",
            summary(&outcomes, codec)
        );
    }
    if let Some(path) = &options.out {
        std::fs::write(path, picture(&outcomes, &options.codecs))?;
    }
    Ok(())
}

/// The records to measure, and a dictionary from others.
struct Records<'a> {
    records: Vec<(&'a [u8], &'a [u8])>,
    raw_bytes: u64,
    dictionary: Dictionary,
}

impl<'a> Records<'a> {
    fn split(set: &'a RecordSet) -> Result<Records<'a>> {
        let (mut records, mut training) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (key, value) in set.iter() {
            let stretch = at / STRETCH_LEN;
            at += key.len() + value.len();
            if stretch % 8 == 3 { training.push((key, value)) } else { records.push((key, value)) }
        }
        let frames = Frames::build(&training, 4 << 10, &FrameOptions::new(Codec::None, 0), true)?;
        let step = frames.raw_parts.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>().div_ceil(TRAINING_LEN).max(1);
        let parts: Vec<&[u8]> = frames.raw_parts.iter().step_by(step).flat_map(|(k, v)| [k.as_slice(), v]).collect();
        let dictionary = Dictionary::train(&parts, DICTIONARY_LEN)?;
        let raw_bytes = records.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum();
        Ok(Records { records, raw_bytes, dictionary })
    }
}

/// One way to lay the records out.
struct Form {
    name: String,
    layout: Layout,
    /// Blocks with everything that belongs to them.
    data_bytes: u64,
    /// The index as a table holds it.
    index_bytes: u64,
    /// What is read for a point read: bytes on average, in so many requests.
    read_bytes: f64,
    requests: u32,
    dictionary_bytes: u64,
}

/// What can be read.
enum Layout {
    Frames {
        bytes: Vec<u8>,
        index: Index,
        dictionaries: Vec<Dictionary>,
    },
    Subframes {
        bytes: Vec<u8>,
        index: Index,
        dictionary: Dictionary,
    },
    /// A size only.
    Lean,
}

fn forms(records: &Records<'_>, codec: Codec) -> Result<Vec<Form>> {
    let with = FrameOptions { dictionary: Some((0, records.dictionary.clone())), ..FrameOptions::new(codec, 16) };
    let dictionary_bytes = records.dictionary.bytes().len() as u64;
    let mut forms = Vec::new();
    for kib in [2, 4, 8] {
        let frames = Frames::build(&records.records, kib << 10, &with, false)?;
        if kib < 8 {
            for large in [32, 64] {
                for is_lean in [false, true] {
                    let block = Subframes::build(&frames, large << 10, is_lean);
                    let read_bytes = block.read_bytes;
                    let index_bytes = index_bytes(&block.blocks)?;
                    let layout = match is_lean {
                        true => Layout::Lean,
                        false => Layout::Subframes {
                            index: Index::new(&block.blocks),
                            bytes: block.bytes.clone(),
                            dictionary: records.dictionary.clone(),
                        },
                    };
                    forms.push(Form {
                        name: format!("{} {large}/{kib}", if is_lean { "lean" } else { "sub" }),
                        layout,
                        data_bytes: block.bytes.len() as u64,
                        index_bytes,
                        read_bytes,
                        requests: 2,
                        dictionary_bytes,
                    });
                }
            }
        }
        forms.push(frames.into_form(format!("small {kib}"), vec![records.dictionary.clone()])?);
    }
    for kib in [32, 64] {
        let frames = Frames::build(&records.records, kib << 10, &with, false)?;
        forms.push(frames.into_form(format!("whole {kib}"), vec![records.dictionary.clone()])?);
    }
    let plain = Frames::build(&records.records, 16 << 10, &FrameOptions::new(codec, 16), false)?;
    forms.push(plain.into_form("no dictionary 16".to_owned(), Vec::new())?);
    forms.sort_by_key(|f| order(&f.name));
    Ok(forms)
}

fn order(name: &str) -> usize {
    const KINDS: [&str; 5] = ["small", "sub", "lean", "whole", "no dictionary"];
    KINDS.iter().position(|kind| name.starts_with(kind)).unwrap_or(KINDS.len())
}

fn salt(offset: u64) -> u64 {
    place_salt(1, 1, offset)
}

/// The index of these blocks as it would lie in a table.
fn index_bytes(blocks: &[BlockInfo]) -> Result<u64> {
    let (mut payload, mut stored) = (Vec::new(), Vec::new());
    index::encode(blocks, &mut payload);
    frame::encode(&FrameOptions::new(Codec::Zstd { level: 3 }, 0), salt(0), &payload, &[], 0, None, &mut stored)?;
    Ok(stored.len() as u64)
}

/// Blocks of one size as the engine writes them, back to back from offset 0.
struct Frames {
    bytes: Vec<u8>,
    blocks: Vec<BlockInfo>,
    trailers: Vec<Trailer>,
    /// First and last key of each block.
    bounds: Vec<(Vec<u8>, Vec<u8>)>,
    /// Before compression; only if they were asked for.
    raw_parts: Vec<(Vec<u8>, Vec<u8>)>,
    raw_checksums: Vec<[u32; 2]>,
}

impl Frames {
    fn build(records: &[(&[u8], &[u8])], block_size: usize, options: &FrameOptions, keep_raw: bool) -> Result<Frames> {
        let mut frames = Frames {
            bytes: Vec::new(),
            blocks: Vec::new(),
            trailers: Vec::new(),
            bounds: Vec::new(),
            raw_parts: Vec::new(),
            raw_checksums: Vec::new(),
        };
        let mut options = options.clone();
        let mut builder = BlockBuilder::new();
        let (mut first, mut last): (&[u8], &[u8]) = (&[], &[]);
        for &(key, value) in records {
            let shared = shared_prefix_len(last, key);
            if builder.is_full_for(key.len() - shared, key.len(), value.len(), block_size) {
                frames.close(&mut builder, &mut options, (first, last), Some(key), keep_raw)?;
            }
            if builder.is_empty() {
                first = key;
            }
            builder.add(if builder.is_empty() { 0 } else { shared }, key, Tag::new(1, Kind::Put), value);
            last = key;
        }
        if !builder.is_empty() {
            frames.close(&mut builder, &mut options, (first, last), None, keep_raw)?;
        }
        Ok(frames)
    }

    fn close(
        &mut self,
        builder: &mut BlockBuilder,
        options: &mut FrameOptions,
        (first, last): (&[u8], &[u8]),
        next: Option<&[u8]>,
        keep_raw: bool,
    ) -> Result<()> {
        if self.blocks.len().is_multiple_of(FILTER_EVERY) && options.values != Codec::None {
            options.values_filter = probe_filter(options, builder.values())?;
        }
        let mut keys = Vec::new();
        builder.encode_keys(&mut keys);
        let offset = self.bytes.len() as u64;
        let salt = salt(offset);
        let trailer =
            frame::encode(options, salt, &keys, builder.values(), builder.len() as u32, None, &mut self.bytes)?;
        self.blocks.push(BlockInfo {
            offset,
            stored_len: (self.bytes.len() as u64 - offset) as u32,
            keys_stored: trailer.keys.stored_len,
            keys_raw: trailer.keys.raw_len,
            raw_len: trailer.keys.raw_len + trailer.values.raw_len,
            entries: trailer.entries,
            codec_k: trailer.keys.codec,
            codec_v: trailer.values.codec,
            seq_min: 1,
            seq_max: 1,
            last_key: next.map_or_else(|| last.to_vec(), |next| index::separator(last, next)),
        });
        self.trailers.push(trailer);
        self.bounds.push((first.to_vec(), last.to_vec()));
        self.raw_checksums.push([xxh32(&keys, 0), xxh32(builder.values(), 0)]);
        if keep_raw {
            self.raw_parts.push((keys, builder.values().to_vec()));
        }
        builder.clear();
        Ok(())
    }

    fn into_form(self, name: String, dictionaries: Vec<Dictionary>) -> Result<Form> {
        let index_bytes = index_bytes(&self.blocks)?;
        Ok(Form {
            name,
            data_bytes: self.bytes.len() as u64,
            index_bytes,
            read_bytes: mean_by_entries(self.blocks.iter().map(|b| (b.entries, f64::from(b.stored_len)))),
            requests: 1,
            dictionary_bytes: dictionaries.iter().map(|d| d.bytes().len() as u64).sum(),
            layout: Layout::Frames { index: Index::new(&self.blocks), bytes: self.bytes, dictionaries },
        })
    }
}

/// What a random key costs: blocks count by their entries.
fn mean_by_entries(blocks: impl Iterator<Item = (u32, f64)>) -> f64 {
    let (entries, sum) =
        blocks.fold((0.0, 0.0), |(n, sum), (entries, cost)| (n + f64::from(entries), sum + f64::from(entries) * cost));
    sum / f64::max(entries, 1.0)
}

/// Large blocks made of the frames of small ones.
struct Subframes {
    bytes: Vec<u8>,
    blocks: Vec<BlockInfo>,
    read_bytes: f64,
}

/// What the columns of a table are, in their order.
const COLUMNS: usize = 11;

impl Subframes {
    fn build(frames: &Frames, block_size: usize, is_lean: bool) -> Subframes {
        let mut out = Subframes { bytes: Vec::new(), blocks: Vec::new(), read_bytes: 0.0 };
        let mut reads = Vec::new();
        let mut from = 0;
        while from < frames.blocks.len() {
            let mut raw = frames.blocks[from].raw_len as usize;
            let mut to = from + 1;
            while to < frames.blocks.len() && raw + frames.blocks[to].raw_len as usize <= block_size {
                raw += frames.blocks[to].raw_len as usize;
                to += 1;
            }
            out.put(frames, from, to, is_lean, &mut reads);
            from = to;
        }
        out.read_bytes = mean_by_entries(reads.into_iter());
        out
    }

    fn put(&mut self, frames: &Frames, from: usize, to: usize, is_lean: bool, reads: &mut Vec<(u32, f64)>) {
        let offset = self.bytes.len();
        let salt = salt(offset as u64);
        let trailers = &frames.trailers[from..to];
        let parts_len = |t: &Trailer| (t.keys.stored_len + t.values.stored_len) as usize;
        let mut checksums = Vec::new();
        for (i, trailer) in (from..to).zip(trailers) {
            let at = frames.blocks[i].offset as usize;
            let (keys, values) = frames.bytes[at..at + parts_len(trailer)].split_at(trailer.keys.stored_len as usize);
            self.bytes.extend_from_slice(keys);
            self.bytes.extend_from_slice(values);
            let raw = frames.raw_checksums[i];
            let four = [raw[0], raw[1], xxh32(keys, salt), xxh32(values, salt)];
            // How the two of a lean table would be computed does not matter here: only their size does.
            checksums.extend_from_slice(if is_lean { &four[..2] } else { &four });
        }
        let table_at = self.bytes.len();
        let mut separators: Vec<&[u8]> = frames.blocks[from..to].iter().map(|b| b.last_key.as_slice()).collect();
        // The last frame is bounded by the index.
        if let Some(last) = separators.last_mut() {
            *last = &[];
        }
        let before = |i: usize| if i == 0 { &[][..] } else { separators[i - 1] };
        let shared: Vec<usize> = (0..separators.len()).map(|i| shared_prefix_len(before(i), separators[i])).collect();
        let put = |out: &mut Vec<u8>, of: fn(&Trailer) -> u64| column::put(out, trailers.iter().map(of));
        put(&mut self.bytes, |t| u64::from(t.keys.stored_len));
        put(&mut self.bytes, |t| u64::from(t.keys.raw_len));
        put(&mut self.bytes, |t| u64::from(t.values.stored_len));
        put(&mut self.bytes, |t| u64::from(t.values.raw_len));
        put(&mut self.bytes, |t| u64::from(t.entries));
        put(&mut self.bytes, |t| u64::from(t.keys.codec));
        put(&mut self.bytes, |t| u64::from(t.values.codec));
        put(&mut self.bytes, filter_number);
        put(&mut self.bytes, |t| {
            u64::from(t.keys.dictionary.is_some()) | u64::from(t.values.dictionary.is_some()) << 1
        });
        column::put(&mut self.bytes, shared.iter().map(|&n| n as u64));
        column::put(&mut self.bytes, separators.iter().map(|s| s.len() as u64));
        for (separator, &shared) in separators.iter().zip(&shared) {
            self.bytes.extend_from_slice(&separator[shared..]);
        }
        checksums.iter().for_each(|&n| put_u32(&mut self.bytes, n));
        let table_len = self.bytes.len() - table_at;
        let checksum = xxh32(&self.bytes[table_at..], salt);
        let trailer_at = self.bytes.len();
        self.bytes.push(4);
        put_varint(&mut self.bytes, 0);
        put_varint(&mut self.bytes, trailers.len() as u64);
        put_varint(&mut self.bytes, table_len as u64);
        put_u32(&mut self.bytes, checksum);
        self.bytes.push((self.bytes.len() + 1 - trailer_at) as u8);
        let head_len = self.bytes.len() - table_at;
        reads.extend(trailers.iter().map(|t| (t.entries, (head_len + parts_len(t)) as f64)));

        self.blocks.push(BlockInfo {
            offset: offset as u64,
            stored_len: (self.bytes.len() - offset) as u32,
            keys_stored: 0,
            keys_raw: 0,
            raw_len: trailers.iter().map(|t| t.keys.raw_len + t.values.raw_len).sum(),
            entries: trailers.iter().map(|t| t.entries).sum(),
            codec_k: 0,
            codec_v: 0,
            seq_min: 1,
            seq_max: 1,
            last_key: frames.blocks[to - 1].last_key.clone(),
        });
    }
}

/// A filter of the values as one number: 0 for none.
fn filter_number(trailer: &Trailer) -> u64 {
    match trailer.values.filter() {
        Ok(Some(filter)) => u64::from(Filter::to_bytes(Some(filter))[1]),
        _ => 0,
    }
}

/// A block of sub-frames, its table checked.
struct Opened<'a> {
    parts: &'a [u8],
    n: usize,
    columns: [Column<'a>; COLUMNS],
    separators: &'a [u8],
    checksums: &'a [u8],
}

/// Where one sub-frame lies in its block.
struct Place {
    i: usize,
    offset: usize,
}

impl<'a> Opened<'a> {
    fn open(bytes: &'a [u8], salt: u64) -> Result<Opened<'a>> {
        const BAD: &str = "a block of sub-frames is damaged";
        let trailer_len = usize::from(*bytes.last().ok_or(BAD)?);
        let at = bytes.len().checked_sub(trailer_len).ok_or(BAD)?;
        let mut trailer = Input::new(&bytes[at..]);
        let _flags = trailer.u8()?;
        let _dictionary = trailer.varint()?;
        let n = trailer.varint()? as usize;
        let table_len = trailer.varint()? as usize;
        let checksum = trailer.u32()?;
        let table_at = at.checked_sub(table_len).ok_or(BAD)?;
        let table = &bytes[table_at..at];
        if xxh32(table, salt) != checksum {
            return Err(BAD.into());
        }
        let mut input = Input::new(table);
        let mut read = || Column::read(&mut input, n);
        let columns =
            [read()?, read()?, read()?, read()?, read()?, read()?, read()?, read()?, read()?, read()?, read()?];
        let rest = input.rest();
        let (separators, checksums) = rest.split_at(rest.len().checked_sub(16 * n).ok_or(BAD)?);
        Ok(Opened { parts: &bytes[..table_at], n, columns, separators, checksums })
    }

    fn number(&self, column: usize, i: usize) -> usize {
        self.columns[column].at(i) as usize
    }

    /// The sub-frame that can hold `key`; `separator` is room for a key.
    fn find(&self, key: &[u8], separator: &mut Vec<u8>) -> Place {
        separator.clear();
        let mut place = Place { i: 0, offset: 0 };
        let mut from = 0;
        while place.i + 1 < self.n {
            let (shared, len) = (self.number(9, place.i), self.number(10, place.i));
            separator.truncate(shared);
            separator.extend_from_slice(&self.separators[from..from + len - shared]);
            from += len - shared;
            if separator.as_slice() >= key {
                break;
            }
            place = self.behind(&place);
        }
        place
    }

    fn behind(&self, place: &Place) -> Place {
        Place { i: place.i + 1, offset: place.offset + self.number(0, place.i) + self.number(2, place.i) }
    }

    fn checksum(&self, place: &Place, which: usize) -> u32 {
        let at = 16 * place.i + 4 * which;
        u32::from_le_bytes(self.checksums[at..at + 4].first_chunk().copied().unwrap_or_default())
    }

    /// Checks both parts as stored.
    fn check(&self, place: &Place, salt: u64) -> Result<(&'a [u8], &'a [u8])> {
        let (keys_len, values_len) = (self.number(0, place.i), self.number(2, place.i));
        let (keys, values) = self.parts[place.offset..place.offset + keys_len + values_len].split_at(keys_len);
        if xxh32(keys, salt) != self.checksum(place, 2) || xxh32(values, salt) != self.checksum(place, 3) {
            return Err("a sub-frame is damaged".into());
        }
        Ok((keys, values))
    }

    fn keys<'b>(
        &self,
        place: &Place,
        stored: &'b [u8],
        dictionary: &Dictionary,
        scratch: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]> {
        let codec = self.number(5, place.i) as u8;
        if codec == 0 {
            return Ok(stored);
        }
        let len = self.number(1, place.i);
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        let dictionary = (self.number(8, place.i) & 1 != 0).then_some(dictionary);
        decompress_filtered(codec, None, stored, &mut scratch[..len], dictionary)?;
        self.check_raw(place, 0, &scratch[..len])?;
        Ok(&scratch[..len])
    }

    fn values_into(&self, place: &Place, stored: &[u8], dictionary: &Dictionary, out: &mut [u8]) -> Result<()> {
        let codec = self.number(6, place.i) as u8;
        if codec == 0 {
            out.copy_from_slice(stored);
            return Ok(());
        }
        let filter = match self.number(7, place.i) {
            0 => None,
            width => Filter::from_bytes([1, width as u8])?,
        };
        let dictionary = (self.number(8, place.i) & 2 != 0).then_some(dictionary);
        decompress_filtered(codec, filter, stored, out, dictionary)?;
        self.check_raw(place, 1, out)
    }

    /// Checks a decoded part: 0 is the keys, 1 the values.
    fn check_raw(&self, place: &Place, which: usize, raw: &[u8]) -> Result<()> {
        if xxh32(raw, 0) == self.checksum(place, which) { Ok(()) } else { Err("a sub-frame is damaged".into()) }
    }
}

/// Memory that reads share.
#[derive(Default)]
struct Room {
    walk: Walk,
    keys: Vec<u8>,
    values: Vec<u8>,
    separator: Vec<u8>,
}

impl Layout {
    /// The length of a key's value, once all was checked and decoded that a read needs.
    fn get(&self, key: &[u8], room: &mut Room) -> Result<usize> {
        const ABSENT: &str = "a record is missing";
        match self {
            Layout::Lean => Err("a lean table is a size only".into()),
            Layout::Frames { bytes, index, dictionaries, .. } => {
                let handle = index.handle(index.find(key));
                let stored = &bytes[handle.offset as usize..handle.end() as usize];
                let frame = Frame::open(stored, handle.keys_stored, salt(handle.offset))?;
                let (entries, values_len) = (frame.trailer.entries as usize, frame.trailer.values.raw_len as usize);
                let keys = frame.keys(dictionaries, None, &mut room.keys)?;
                let found = room.walk.find(keys, entries, values_len, None, key, Tag::NEWEST)?;
                let (_, range) = found.entry.ok_or(ABSENT)?;
                let values = frame.values(dictionaries, None, &mut room.values)?;
                Ok(values[range].len())
            }
            Layout::Subframes { bytes, index, dictionary } => {
                let handle = index.handle(index.find(key));
                let salt = salt(handle.offset);
                let block = Opened::open(&bytes[handle.offset as usize..handle.end() as usize], salt)?;
                let place = block.find(key, &mut room.separator);
                let (keys, values) = block.check(&place, salt)?;
                let (entries, values_len) = (block.number(4, place.i), block.number(3, place.i));
                let keys = block.keys(&place, keys, dictionary, &mut room.keys)?;
                let found = room.walk.find(keys, entries, values_len, None, key, Tag::NEWEST)?;
                let (_, range) = found.entry.ok_or(ABSENT)?;
                if room.values.len() < values_len {
                    room.values.resize(values_len, 0);
                }
                let out = &mut room.values[..values_len];
                block.values_into(&place, values, dictionary, out)?;
                Ok(out[range].len())
            }
        }
    }

    /// Decodes everything in order; returns the entries and the bytes of their values.
    fn scan(&self, room: &mut Room) -> Result<(u64, u64)> {
        let (mut entries, mut bytes_of_values) = (0, 0);
        let mut see = |block: &Block| {
            entries += block.len() as u64;
            bytes_of_values += (0..block.len()).map(|i| block.value(i).len() as u64).sum::<u64>();
        };
        match self {
            Layout::Lean => {}
            Layout::Frames { bytes, index, dictionaries, .. } => {
                for i in 0..index.len() {
                    let handle = index.handle(i);
                    let stored = &bytes[handle.offset as usize..handle.end() as usize];
                    let frame = Frame::open(stored, handle.keys_stored, salt(handle.offset))?;
                    let (n, values_len) = (frame.trailer.entries as usize, frame.trailer.values.raw_len as usize);
                    let keys = frame.keys(dictionaries, None, &mut room.keys)?;
                    see(&Block::decode(keys, n, values_len, None, |out| frame.values_into(dictionaries, None, out))?);
                }
            }
            Layout::Subframes { bytes, index, dictionary } => {
                for i in 0..index.len() {
                    let handle = index.handle(i);
                    let salt = salt(handle.offset);
                    let block = Opened::open(&bytes[handle.offset as usize..handle.end() as usize], salt)?;
                    let mut place = Place { i: 0, offset: 0 };
                    while place.i < block.n {
                        let (keys, values) = block.check(&place, salt)?;
                        let (n, values_len) = (block.number(4, place.i), block.number(3, place.i));
                        let keys = block.keys(&place, keys, dictionary, &mut room.keys)?;
                        let mut outcome = Ok(());
                        see(&Block::decode(keys, n, values_len, None, |out| {
                            outcome = block.values_into(&place, values, dictionary, out);
                            Ok(())
                        })?);
                        outcome?;
                        place = block.behind(&place);
                    }
                }
            }
        }
        Ok((entries, bytes_of_values))
    }
}

/// What came of one form on one set under one codec.
struct Outcome {
    set: String,
    codec: Codec,
    form: String,
    raw_bytes: u64,
    data_bytes: u64,
    index_bytes: u64,
    total_bytes: u64,
    index_memory: u64,
    read_bytes: f64,
    requests: u32,
    point_nanos: Option<f64>,
    scan_mb: Option<f64>,
}

fn measure(
    options: &SubframeOptions,
    set: &str,
    codec: Codec,
    records: &Records<'_>,
    forms: &[Form],
) -> Result<Vec<Outcome>> {
    let mut room = Room::default();
    let mut points: Vec<Vec<f64>> = vec![Vec::new(); forms.len()];
    let mut scans: Vec<Vec<f64>> = vec![Vec::new(); forms.len()];
    let n = records.records.len();
    // A step that is prime to nearly every length: keys far apart, none twice.
    let picked: Vec<usize> = (0..options.reads).map(|i| (i as u64 * 2_654_435_761 % n as u64) as usize).collect();
    let expected: usize = picked.iter().map(|&i| records.records[i].1.len()).sum();
    let values: u64 = records.records.iter().map(|(_, v)| v.len() as u64).sum();
    for round in 0..=options.rounds {
        for (i, form) in forms.iter().enumerate() {
            if matches!(form.layout, Layout::Lean) {
                continue;
            }
            let begun = Instant::now();
            let mut found = 0;
            for &at in &picked {
                found +=
                    form.layout.get(records.records[at].0, &mut room).map_err(|e| format!("{}: {e}", form.name))?;
            }
            let point = begun.elapsed().as_nanos() as f64 / options.reads as f64;
            let begun = Instant::now();
            let scanned = form.layout.scan(&mut room).map_err(|e| format!("{}: {e}", form.name))?;
            let scan = records.raw_bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
            if found != expected || scanned != (n as u64, values) {
                return Err(format!("{} does not read back what was written", form.name).into());
            }
            // The first round warms up.
            if round > 0 {
                points[i].push(point);
                scans[i].push(scan);
            }
        }
    }
    let outcome = |(i, form): (usize, &Form)| Outcome {
        set: set.to_owned(),
        codec,
        form: form.name.clone(),
        raw_bytes: records.raw_bytes,
        data_bytes: form.data_bytes,
        index_bytes: form.index_bytes,
        total_bytes: form.data_bytes + form.index_bytes + form.dictionary_bytes,
        index_memory: match &form.layout {
            Layout::Frames { index, .. } | Layout::Subframes { index, .. } => index.memory_size() as u64,
            Layout::Lean => 0,
        },
        read_bytes: form.read_bytes,
        requests: form.requests,
        point_nanos: points[i].iter().copied().reduce(f64::min),
        scan_mb: scans[i].iter().copied().reduce(f64::max),
    };
    Ok(forms.iter().enumerate().map(outcome).collect())
}

fn details(outcomes: &[Outcome], codec: Codec) -> Table {
    let mut table = Table::new(&[
        "set",
        "form, KiB",
        "blocks B",
        "index B",
        "all B",
        "of raw",
        "index memory B",
        "read B",
        "requests",
        "point us",
        "scan MB/s",
    ]);
    for o in outcomes.iter().filter(|o| o.codec == codec) {
        table.row(vec![
            o.set.clone(),
            o.form.clone(),
            o.data_bytes.to_string(),
            o.index_bytes.to_string(),
            o.total_bytes.to_string(),
            format!("{:.4}", o.total_bytes as f64 / o.raw_bytes as f64),
            if o.index_memory > 0 { o.index_memory.to_string() } else { "-".to_owned() },
            format!("{:.0}", o.read_bytes),
            o.requests.to_string(),
            o.point_nanos.map_or("-".to_owned(), |n| format!("{:.2}", n / 1e3)),
            o.scan_mb.map_or("-".to_owned(), |n| format!("{n:.0}")),
        ]);
    }
    table
}

/// Forms in the order in which they came, with their mean over all sets.
fn means(outcomes: &[Outcome], codec: Codec) -> Vec<(String, [f64; 5])> {
    let mut names: Vec<&str> = Vec::new();
    for o in outcomes.iter().filter(|o| o.codec == codec) {
        if !names.contains(&o.form.as_str()) {
            names.push(&o.form);
        }
    }
    let of = |set: &str, form: &str| outcomes.iter().find(|o| o.codec == codec && o.set == set && o.form == form);
    let mean = |form: &str, figure: &dyn Fn(&Outcome, &Outcome) -> Option<f64>| {
        let all: Vec<f64> = outcomes
            .iter()
            .filter(|o| o.codec == codec && o.form == form)
            .filter_map(|o| figure(o, of(&o.set, YARDSTICK)?))
            .collect();
        (all.iter().map(|n| n.ln()).sum::<f64>() / all.len() as f64).exp()
    };
    names
        .iter()
        .map(|form| {
            let figures = [
                mean(form, &|o, yard| Some(o.total_bytes as f64 / yard.total_bytes as f64)),
                mean(form, &|o, _| Some(o.point_nanos? / 1e3)),
                mean(form, &|o, yard| Some(o.point_nanos? / yard.point_nanos?)),
                mean(form, &|o, yard| Some(o.scan_mb? / yard.scan_mb?)),
                mean(form, &|o, yard| (o.index_memory > 0).then(|| o.index_memory as f64 / yard.index_memory as f64)),
            ];
            ((*form).to_owned(), figures)
        })
        .collect()
}

fn summary(outcomes: &[Outcome], codec: Codec) -> Table {
    let mut table = Table::new(&["form, KiB", "size", "point us", "point", "scan", "index memory"]);
    let shown = |n: f64, digits: usize| if n.is_finite() { format!("{n:.digits$}") } else { "-".to_owned() };
    for (form, [size, micros, point, scan, memory]) in means(outcomes, codec) {
        table.row(vec![form, shown(size, 3), shown(micros, 2), shown(point, 2), shown(scan, 2), shown(memory, 2)]);
    }
    table
}

const PANEL: f64 = 420.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;

/// A panel for each codec: time of a point read against size.
fn picture(outcomes: &[Outcome], codecs: &[Codec]) -> String {
    let width = PANEL * codecs.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let all: Vec<(String, [f64; 5])> = codecs.iter().flat_map(|&codec| means(outcomes, codec)).collect();
    let sizes = || all.iter().map(|(_, f)| f[0]).filter(|n| n.is_finite());
    let (low, high) = (sizes().fold(1.0, f64::min) - 0.02, sizes().fold(1.0, f64::max) + 0.02);
    for (n, &codec) in codecs.iter().enumerate() {
        let marks: Vec<(String, f64, f64)> = means(outcomes, codec)
            .into_iter()
            .filter(|(_, f)| f[1].is_finite())
            .map(|(name, f)| (name, f[1], f[0]))
            .collect();
        panel(&mut out, PANEL * n as f64, codec, &marks, (low, high));
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, left: f64, codec: Codec, marks: &[(String, f64, f64)], (low, high): (f64, f64)) {
    let times = || marks.iter().map(|m| m.1.log2());
    let (fast, slow) = (times().fold(f64::INFINITY, f64::min) - 0.4, times().fold(f64::NEG_INFINITY, f64::max) + 0.9);
    let x = |micros: f64| left + LEFT + (micros.log2() - fast) / (slow - fast) * (PANEL - LEFT - RIGHT);
    let y = |size: f64| HEIGHT - BOTTOM - (size - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut put = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    put(format!("<text x=\"{}\" y=\"24\" font-size=\"14\">{codec}</text>", left + LEFT));
    for power in fast.ceil() as i32..=slow.floor() as i32 {
        let micros = 2f64.powi(power);
        put(format!(
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1}\" stroke=\"#ddd\"/>",
            x(micros),
            HEIGHT - BOTTOM
        ));
        put(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{micros} us</text>",
            x(micros),
            HEIGHT - BOTTOM + 16.0
        ));
    }
    let step = if high - low > 0.5 { 0.1 } else { 0.05 };
    for n in (low / step).ceil() as i32..=(high / step).floor() as i32 {
        let size = f64::from(n) * step;
        put(format!(
            "<line x1=\"{}\" x2=\"{}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/>",
            left + LEFT,
            left + PANEL - RIGHT,
            y(size)
        ));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{size:.2}</text>",
            left + LEFT - 6.0,
            y(size) + 4.0
        ));
    }
    put(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">point read, mean of the sets</text>",
        left + (LEFT + PANEL - RIGHT) / 2.0,
        HEIGHT - 10.0
    ));
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    put(format!(
        "<text transform=\"translate({} {middle}) rotate(-90)\" text-anchor=\"middle\">size, small 4 = 1</text>",
        left + 16.0
    ));
    for (name, micros, size) in marks {
        const COLOURS: [&str; 5] = ["#1b6ca8", "#c0392b", "#c0392b", "#2e8b57", "#7f8c8d"];
        let colour = COLOURS[order(name).min(4)];
        put(format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>", x(*micros), y(*size)));
        // Sub-frames and small blocks lie close together: their names go in other directions.
        let (dx, dy, anchor) = match name.as_str() {
            name if name.starts_with("sub 32") => (-6.0, -5.0, "end"),
            name if name.starts_with("sub") => (6.0, -5.0, "start"),
            name if name.starts_with("whole") => (-6.0, 12.0, "end"),
            _ => (2.0, 16.0, "start"),
        };
        let (x, y) = (x(*micros) + dx, y(*size) + dy);
        put(format!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{name}</text>"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_reads_back_what_was_written() {
        let texts: Vec<(Vec<u8>, Vec<u8>)> = (0..4000u32)
            .map(|i| {
                (
                    format!("key/{i:06}").into_bytes(),
                    format!("value {} of record {i}, {}", i * 7919 % 1000, i % 3).into_bytes(),
                )
            })
            .collect();
        let records: Vec<(&[u8], &[u8])> = texts.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
        let samples: Vec<&[u8]> = records.iter().map(|r| r.1).collect();
        let dictionary = Dictionary::train(&samples, 2048).unwrap();
        let raw_bytes = records.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum();
        let records = Records { records, raw_bytes, dictionary };
        let forms = forms(&records, Codec::Zstd { level: 3 }).unwrap();
        assert_eq!(forms.len(), 3 + 4 + 4 + 2 + 1);
        let mut room = Room::default();
        for form in forms.iter().filter(|f| !matches!(f.layout, Layout::Lean)) {
            let (n, _) = form.layout.scan(&mut room).unwrap();
            assert_eq!(n, 4000, "{}", form.name);
            for (key, value) in &records.records {
                assert_eq!(form.layout.get(key, &mut room).unwrap(), value.len(), "{}", form.name);
            }
        }
        let size = |name: &str| forms.iter().find(|f| f.name == name).map(|f| f.data_bytes).unwrap();
        assert!(size("lean 64/2") < size("sub 64/2") && size("sub 64/2") < size("small 2"));
    }
}
