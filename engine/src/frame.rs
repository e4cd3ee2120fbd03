//! Frames: the envelope of a block, and the unit of compression, checksum and caching.
//!
//! A frame has two parts, each with a codec byte of its own, so that any mix of codecs in one file
//! is legal. A data block has keys in the one and values in the other; other blocks lie wholly in
//! the keys part.
//!
//! ```text
//! frame    keys part as stored | values part as stored | trailer
//! trailer  flags u8 | codec of the keys u8 | codec of the values u8
//!          [filter and its parameter, of the keys 2 x u8, of the values 2 x u8]   with flag 1
//!          [dictionary index varint]                                  with flag 2 or 8
//!          keys stored, keys raw, values stored, values raw, entries  varints
//!          raw checksums: keys u32, values u32
//!          stored checksums: keys u32, values u32
//!          length of the trailer u8, this byte included
//! flags    1 a part went through a filter before its codec, 4 sub-frames (reserved: refused by name),
//!          2 the values part was made with the dictionary, 8 the keys part was
//! ```
//!
//! A raw checksum covers the part as its codec is given it, and so as the codec gives it back; a stored checksum covers
//! the part as stored and then the trailer up to the raw checksums. So every byte of the trailer is covered, and no byte
//! reaches a decoder before its checksum was found right. Stored checksums are salted with where the frame lies
//! ([`crate::checksum::place_salt`]; the values part adds one), raw ones are not. A filter stands before the codec, and
//! before the raw checksum: a point read checks what was decoded and puts back through the filter the one value that it
//! is for. A part that is stored raw has no filter.

use std::ops::Range;
use std::time::Duration;

use lignite_codecs::CodecError;
pub use lignite_codecs::{Codec, Dictionary, Filter, codec_name, looks_random};

use crate::checksum::{xxh32, xxh32_pair};
use crate::clock::Clock;
use crate::coding::{Input, put_u32, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{LevelMetrics, codec_slot};
use crate::sabotage::{self, Bug};

/// Longest part, before compression and stored.
pub const PART_LEN_MAX: usize = 64 << 20;
/// Longest trailer: 3 bytes, 4 of filters, 6 varints of at most 5 bytes, 4 checksums, its length.
pub const TRAILER_LEN_MAX: usize = 3 + 4 + 6 * 5 + 16 + 1;
/// Shortest trailer.
pub const TRAILER_LEN_MIN: usize = 3 + 5 + 16 + 1;

/// Looking at the clock takes as long as decoding a hundred bytes, so one part of so many is timed. Odd,
/// since keys and values take turns.
const TIMED_EVERY: u64 = 15;

const FLAG_FILTERS: u8 = 1;
const FLAG_VALUES_DICTIONARY: u8 = 2;
const FLAG_SUBFRAMES: u8 = 4;
const FLAG_KEYS_DICTIONARY: u8 = 8;

/// Seed of the raw checksums, which say nothing of the place: the stored ones do, and cover them.
const RAW_SEED: u64 = 0;
const NO_FILTER: [u8; 2] = [0, 0];

/// How to compress a frame.
#[derive(Clone, Debug)]
pub struct FrameOptions {
    /// Codec of the keys part.
    pub keys: Codec,
    /// Codec of the values part.
    pub values: Codec,
    /// A part is stored raw if compression saves less than this many 1/256 of it.
    pub min_saving: u8,
    /// A dictionary with its index in the table's directory, for the codecs that take one.
    pub dictionary: Option<(u32, Dictionary)>,
    /// What the values pass through before their codec.
    pub values_filter: Option<Filter>,
}

impl FrameOptions {
    /// One codec for both parts, no dictionary.
    pub fn new(codec: Codec, min_saving: u8) -> FrameOptions {
        FrameOptions { keys: codec, values: codec, min_saving, dictionary: None, values_filter: None }
    }
}

/// The filter that [`Filter::probe`] finds worth its price for values like these, under the options' codec and
/// dictionary. It costs up to five compressions, so it is for a block now and then.
pub fn probe_filter(options: &FrameOptions, values: &[u8]) -> Result<Option<Filter>> {
    let dictionary = options.dictionary.as_ref().filter(|_| options.values.takes_dictionary());
    Filter::probe(options.values, values, dictionary.map(|d| &d.1)).map_err(codec_error)
}

/// True if `codec` does not make `part` smaller by a tenth, with the options' dictionary if it takes one. `scratch`
/// is for reuse.
pub fn gains_little(options: &FrameOptions, codec: Codec, part: &[u8], scratch: &mut Vec<u8>) -> Result<bool> {
    let dictionary = options.dictionary.as_ref().filter(|_| codec.takes_dictionary());
    scratch.clear();
    lignite_codecs::compress(codec, part, dictionary.map(|d| &d.1), scratch).map_err(codec_error)?;
    Ok(scratch.len() > part.len() - part.len() / 10)
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHandle {
    /// Byte offset in the file.
    pub offset: u64,
    /// Length of the whole frame.
    pub stored_len: u32,
    /// Length of its keys part as stored.
    pub keys_stored: u32,
}

impl FrameHandle {
    /// The first byte behind the frame.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.stored_len))
    }

    /// Appends offset, length and keys length as varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, u64::from(self.stored_len));
        put_varint(out, u64::from(self.keys_stored));
    }

    /// Reads what [`FrameHandle::encode`] wrote.
    pub fn decode(input: &mut Input<'_>) -> Result<FrameHandle> {
        Ok(FrameHandle { offset: input.varint()?, stored_len: input.varint32()?, keys_stored: input.varint32()? })
    }
}

/// Counts the time that codecs take, by codec, on one level of a family.
#[derive(Clone, Copy)]
pub struct Meter<'a> {
    /// Where time comes from.
    pub clock: &'a dyn Clock,
    /// Where it is counted.
    pub level: &'a LevelMetrics,
}

impl Meter<'_> {
    fn encoded(&self, codec: u8, raw: usize, stored: usize, begun: Duration) {
        let m = &self.level.codecs[codec_slot(codec)];
        m.encoded_parts.inc();
        m.encoded_raw_bytes.add(raw as u64);
        m.encoded_stored_bytes.add(stored as u64);
        m.encode_nanos.add(self.clock.now().saturating_sub(begun).as_nanos() as u64);
    }

    /// The time, if the next part is one of those whose decoding is timed.
    fn begin_decode(&self, codec: u8) -> Option<Duration> {
        let m = &self.level.codecs[codec_slot(codec)];
        m.decoded_parts.get().is_multiple_of(TIMED_EVERY).then(|| self.clock.now())
    }

    fn decoded(&self, codec: u8, raw: usize, stored: usize, begun: Option<Duration>) {
        let m = &self.level.codecs[codec_slot(codec)];
        m.decoded_parts.inc();
        m.decoded_raw_bytes.add(raw as u64);
        m.decoded_stored_bytes.add(stored as u64);
        if let Some(begun) = begun {
            m.decode_nanos.add(self.clock.now().saturating_sub(begun).as_nanos() as u64 * TIMED_EVERY);
        }
    }
}

/// What a trailer says about one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Codec id.
    pub codec: u8,
    /// Index of the dictionary it was made with.
    pub dictionary: Option<u32>,
    /// Length as stored.
    pub stored_len: u32,
    /// Length before compression.
    pub raw_len: u32,
    /// The filter it went through, as its bytes are; known once the frame is open.
    filter: [u8; 2],
    raw_checksum: u32,
    stored_checksum: u32,
}

impl Part {
    /// The filter that it went through before its codec. Fails if this version does not know it.
    pub fn filter(&self) -> Result<Option<Filter>> {
        Filter::from_bytes(self.filter).map_err(codec_error)
    }
}

/// A frame's trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The keys part.
    pub keys: Part,
    /// The values part.
    pub values: Part,
    /// Entries of a data block; 0 for other blocks.
    pub entries: u32,
}

impl std::fmt::Display for Trailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |p: &Part| {
            let filter = match p.filter() {
                Ok(None) => String::new(),
                Ok(Some(filter)) => format!("{filter} "),
                Err(_) => format!("filter {} ", p.filter[0]),
            };
            format!("{filter}{} {}/{}", codec_name(p.codec), p.stored_len, p.raw_len)
        };
        write!(f, "keys {} values {} entries {}", part(&self.keys), part(&self.values), self.entries)
    }
}

/// The parts of a frame as they are stored, before anybody knows where: what [`compress`] made and [`seal`] takes.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed {
    keys: Part,
    values: Part,
}

impl Unsealed {
    /// Length of both parts as stored.
    pub fn stored_len(&self) -> usize {
        self.keys.stored_len as usize + self.values.stored_len as usize
    }
}

/// Appends a frame that will lie where `salt` belongs. `keys` and `values` are the raw parts.
pub fn encode(
    options: &FrameOptions,
    salt: u64,
    keys: &[u8],
    values: &[u8],
    entries: u32,
    meter: Option<Meter<'_>>,
    out: &mut Vec<u8>,
) -> Result<Trailer> {
    let unsealed = compress(options, keys, values, meter, out)?;
    Ok(seal(unsealed, salt, entries, out))
}

/// Appends the parts of a frame. This is what takes time, and it does not depend on where the frame will lie.
pub fn compress(
    options: &FrameOptions,
    keys: &[u8],
    values: &[u8],
    meter: Option<Meter<'_>>,
    out: &mut Vec<u8>,
) -> Result<Unsealed> {
    if keys.len() > PART_LEN_MAX || values.len() > PART_LEN_MAX {
        return Err(Error::invalid(format!("a block of {} bytes exceeds the limit", keys.len() + values.len())));
    }
    Ok(Unsealed {
        keys: put_part(options, options.keys, None, keys, meter, out)?,
        values: put_part(options, options.values, options.values_filter, values, meter, out)?,
    })
}

/// As [`compress`], with a values part that need not be made anew.
pub fn compress_beside(
    options: &FrameOptions,
    keys: &[u8],
    values: &StoredValues,
    meter: Option<Meter<'_>>,
    out: &mut Vec<u8>,
) -> Result<Unsealed> {
    let keys = put_part(options, options.keys, None, keys, meter, out)?;
    out.extend_from_slice(&values.bytes);
    Ok(Unsealed { keys, values: values.part })
}

/// A values part as a frame has it, for another frame with the same values.
#[derive(Clone, Debug)]
pub struct StoredValues {
    bytes: Vec<u8>,
    part: Part,
}

impl StoredValues {
    /// True if `values` are what it holds, by length and checksum. Never of values that went through a filter.
    pub fn holds(&self, values: &[u8]) -> bool {
        self.part.filter == NO_FILTER
            && self.part.raw_len as usize == values.len()
            && self.part.raw_checksum == xxh32(values, RAW_SEED)
    }

    /// What its trailer says of it. The checksums are those of its old place.
    pub fn part(&self) -> &Part {
        &self.part
    }
}

/// Appends the trailer to the parts that `out` ends with, of a frame that will lie where `salt` belongs.
pub fn seal(unsealed: Unsealed, salt: u64, entries: u32, out: &mut Vec<u8>) -> Trailer {
    let (mut key_part, mut value_part) = (unsealed.keys, unsealed.values);
    let end = out.len();
    let middle = end - value_part.stored_len as usize;
    let begin = middle - key_part.stored_len as usize;

    let mut flags = 0;
    if value_part.dictionary.is_some() {
        flags |= FLAG_VALUES_DICTIONARY;
    }
    if key_part.dictionary.is_some() {
        flags |= FLAG_KEYS_DICTIONARY;
    }
    let filters = [key_part.filter, value_part.filter];
    if filters != [NO_FILTER; 2] {
        flags |= FLAG_FILTERS;
    }
    out.extend_from_slice(&[flags, key_part.codec, value_part.codec]);
    if flags & FLAG_FILTERS != 0 {
        out.extend_from_slice(filters.as_flattened());
    }
    if let Some(index) = key_part.dictionary.or(value_part.dictionary) {
        put_varint(out, u64::from(index));
    }
    for n in [key_part.stored_len, key_part.raw_len, value_part.stored_len, value_part.raw_len, entries] {
        put_varint(out, u64::from(n));
    }
    put_u32(out, key_part.raw_checksum);
    put_u32(out, value_part.raw_checksum);
    key_part.stored_checksum = xxh32_pair(&out[begin..middle], &out[end..], salt);
    value_part.stored_checksum = xxh32(&out[middle..], salt.wrapping_add(1));
    put_u32(out, key_part.stored_checksum);
    put_u32(out, value_part.stored_checksum);
    out.push((out.len() + 1 - end) as u8);
    Trailer { keys: key_part, values: value_part, entries }
}

fn put_part(
    options: &FrameOptions,
    codec: Codec,
    filter: Option<Filter>,
    raw: &[u8],
    meter: Option<Meter<'_>>,
    out: &mut Vec<u8>,
) -> Result<Part> {
    let begin = out.len();
    let mut part = Part {
        codec: Codec::None.id(),
        dictionary: None,
        stored_len: raw.len() as u32,
        raw_len: raw.len() as u32,
        filter: NO_FILTER,
        raw_checksum: 0,
        stored_checksum: 0,
    };
    if codec != Codec::None && !raw.is_empty() {
        let dictionary = options.dictionary.as_ref().filter(|_| codec.takes_dictionary());
        let begun = meter.map(|m| m.clock.now());
        let content = dictionary.map(|d| &d.1);
        let compressed = lignite_codecs::filtered(filter, raw, |bytes| {
            lignite_codecs::compress(codec, bytes, content, out)?;
            Ok(xxh32(bytes, RAW_SEED))
        });
        let checksum = compressed.map_err(codec_error)?;
        let stored = out.len() - begin;
        if let (Some(meter), Some(begun)) = (meter, begun) {
            meter.encoded(codec.id(), raw.len(), stored, begun);
        }
        if stored + (raw.len() * usize::from(options.min_saving)).div_ceil(256) <= raw.len() && stored < raw.len() {
            if sabotage::is(Bug::StoredAsRaw) {
                (part.stored_len, part.raw_len) = (stored as u32, stored as u32);
                return Ok(part);
            }
            part.raw_checksum = checksum;
            part.codec = codec.id();
            part.filter = Filter::to_bytes(filter);
            part.dictionary = dictionary.map(|d| d.0);
            part.stored_len = stored as u32;
            return Ok(part);
        }
        out.truncate(begin);
    }
    out.extend_from_slice(raw);
    part.raw_checksum = xxh32(raw, RAW_SEED);
    Ok(part)
}

/// A stored frame whose structure and stored checksums were found right.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    /// What the frame says about itself.
    pub trailer: Trailer,
}

impl<'a> Frame<'a> {
    /// Checks the bytes of a whole frame that lies where `salt` belongs.
    pub fn open(bytes: &'a [u8], keys_stored: u32, salt: u64) -> Result<Frame<'a>> {
        let trailer_len = usize::from(bytes.last().copied().unwrap_or(0));
        if !(TRAILER_LEN_MIN..=TRAILER_LEN_MAX).contains(&trailer_len) || trailer_len > bytes.len() {
            return Err(Error::corruption("a block's trailer has an impossible length"));
        }
        let (parts, trailer_bytes) = bytes.split_at(bytes.len() - trailer_len);
        let covered = trailer_len - 9;
        let trailer = parse(trailer_bytes)?;
        let keys_len = trailer.keys.stored_len as usize;
        if trailer.keys.stored_len != keys_stored || keys_len + trailer.values.stored_len as usize != parts.len() {
            return Err(Error::corruption("a block's parts are not as long as its trailer and index say"));
        }
        let (keys, values) = parts.split_at(keys_len);
        let found = xxh32_pair(keys, &trailer_bytes[..covered], salt);
        check("keys part as stored", found, trailer.keys.stored_checksum)?;
        let found = xxh32(&bytes[keys_len..parts.len() + covered], salt.wrapping_add(1));
        check("values part as stored", found, trailer.values.stored_checksum)?;
        if bytes[parts.len()] & FLAG_SUBFRAMES != 0 {
            return Err(Error::unsupported("sub-frames are not supported by this version"));
        }
        for part in [trailer.keys, trailer.values] {
            if !lignite_codecs::is_known(part.codec) {
                let name = codec_name(part.codec);
                return Err(Error::unsupported(format!("codec {name} (id {}) is not known here", part.codec)));
            }
            if part.filter()?.is_some() && part.codec == Codec::None.id() {
                return Err(Error::corruption("a block's raw part has a filter"));
            }
            // Before anybody makes room for it.
            if u64::from(part.raw_len) > raw_len_max(part.codec, part.stored_len) {
                return Err(Error::corruption(format!(
                    "a block's part of {} bytes claims to hold {}, more than its codec can make of it",
                    part.stored_len, part.raw_len
                )));
            }
        }
        Ok(Frame { keys, values, trailer })
    }

    /// The raw keys part: as stored if it is not compressed, else decoded into `scratch`.
    pub fn keys<'b>(
        &self,
        dictionaries: &[Dictionary],
        meter: Option<Meter<'_>>,
        scratch: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]>
    where
        'a: 'b,
    {
        raw_part(&self.trailer.keys, self.keys, scratch, |out| self.keys_into(dictionaries, meter, out))
    }

    /// The raw values part: as stored if it is not compressed, else decoded into `scratch`.
    pub fn values<'b>(
        &self,
        dictionaries: &[Dictionary],
        meter: Option<Meter<'_>>,
        scratch: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]>
    where
        'a: 'b,
    {
        let decode = |out: &mut [u8]| self.values_into(dictionaries, meter, out);
        raw_part(&self.trailer.values, self.values, scratch, decode)
    }

    /// The bytes of `range` in the raw values part, in a buffer of the caller's: what lies around them is decoded, but not
    /// put back through the part's filter.
    ///
    /// # Panics
    /// If the range does not lie in the part.
    pub fn value<'b>(
        &self,
        range: Range<usize>,
        dictionaries: &[Dictionary],
        meter: Option<Meter<'_>>,
        scratch: &'b mut Vec<u8>,
        value: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]>
    where
        'a: 'b,
    {
        let part = &self.trailer.values;
        let filter = part.filter()?;
        let decode = |out: &mut [u8]| decode_part("values part", part, self.values, dictionaries, meter, out, false);
        let bytes = raw_part(part, self.values, scratch, decode)?;
        let Some(filter) = filter else { return Ok(&bytes[range]) };
        value.clear();
        filter.revert_range(bytes, range, value);
        Ok(value)
    }

    /// The values part as it is stored.
    pub fn stored_values(&self) -> StoredValues {
        StoredValues { bytes: self.values.to_vec(), part: self.trailer.values }
    }

    /// Writes the raw keys part into `out`, which has its length.
    pub fn keys_into(&self, dictionaries: &[Dictionary], meter: Option<Meter<'_>>, out: &mut [u8]) -> Result<()> {
        decode_part("keys part", &self.trailer.keys, self.keys, dictionaries, meter, out, true)
    }

    /// Writes the raw values part into `out`, which has its length.
    pub fn values_into(&self, dictionaries: &[Dictionary], meter: Option<Meter<'_>>, out: &mut [u8]) -> Result<()> {
        decode_part("values part", &self.trailer.values, self.values, dictionaries, meter, out, true)
    }
}

/// The first `len` bytes of a buffer that is used again and again: what lies in them does not matter.
fn room(scratch: &mut Vec<u8>, len: usize) -> Result<&mut [u8]> {
    if scratch.len() < len {
        scratch.try_reserve(len - scratch.len()).map_err(|_| Error::out_of_memory("a block"))?;
        scratch.resize(len, 0);
    }
    Ok(&mut scratch[..len])
}

/// The most that a codec can make of so many bytes, as far as it has a limit below that of a part.
fn raw_len_max(codec: u8, stored_len: u32) -> u64 {
    let ratio = match codec {
        id if id == Codec::None.id() => 1,
        // A byte of length stands for 255 bytes.
        id if id == Codec::Lz4.id() => 255,
        // A copy of three bytes stands for 64.
        id if id == Codec::Snappy.id() => 22,
        _ if sabotage::is(Bug::LengthNotHeld) => return u64::MAX,
        _ => return PART_LEN_MAX as u64,
    };
    (64 << 10) + u64::from(stored_len) * ratio
}

/// A raw part: its own bytes if it is stored so (then it has one length, see [`parse`]), else what `decode` makes
/// of it in `scratch`.
fn raw_part<'b>(
    part: &Part,
    stored: &'b [u8],
    scratch: &'b mut Vec<u8>,
    decode: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<&'b [u8]> {
    if part.codec == Codec::None.id() {
        return Ok(stored);
    }
    let out = room(scratch, part.raw_len as usize)?;
    decode(out)?;
    Ok(out)
}

/// Decodes a part; as the codec saw it if it is not to be put back through its filter.
fn decode_part(
    name: &str,
    part: &Part,
    stored: &[u8],
    dictionaries: &[Dictionary],
    meter: Option<Meter<'_>>,
    out: &mut [u8],
    unfilter: bool,
) -> Result<()> {
    if part.codec == Codec::None.id() {
        // Its bytes are under the stored checksum already.
        if stored.len() != out.len() {
            return Err(Error::corruption(format!("the raw {name} has two lengths")));
        }
        out.copy_from_slice(stored);
        return Ok(());
    }
    let dictionary = match part.dictionary {
        None => None,
        Some(index) => match dictionaries.get(index as usize) {
            Some(dictionary) => Some(dictionary),
            None => return Err(Error::corruption(format!("the {name} needs dictionary {index}, which is not there"))),
        },
    };
    let begun = meter.and_then(|m| m.begin_decode(part.codec));
    let filter = part.filter()?.filter(|_| unfilter);
    let mut found = part.raw_checksum;
    let decoded = lignite_codecs::unfiltered(filter, out, |bytes| {
        lignite_codecs::decompress(part.codec, stored, bytes, dictionary)?;
        found = xxh32(bytes, RAW_SEED);
        if found == part.raw_checksum {
            return Ok(());
        }
        Err(CodecError::malformed(codec_name(part.codec), "what it holds fails its checksum"))
    });
    check(name, found, part.raw_checksum)?;
    decoded.map_err(codec_error)?;
    if let Some(meter) = meter {
        meter.decoded(part.codec, out.len(), stored.len(), begun);
    }
    Ok(())
}

fn check(what: &str, found: u32, expected: u32) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::corruption(format!("the checksum of a block's {what} is {found:08x}, expected {expected:08x}")))
}

/// The trailer whose last byte is the last of `bytes`, and its length, for who looks for frames where no
/// index tells. Only its form is checked: hold the frame that it describes against its checksums.
pub fn trailer_at_end(bytes: &[u8]) -> Option<(usize, Trailer)> {
    let len = usize::from(*bytes.last()?);
    if !(TRAILER_LEN_MIN..=TRAILER_LEN_MAX).contains(&len) {
        return None;
    }
    let trailer = parse(bytes.get(bytes.len().checked_sub(len)?..)?).ok()?;
    Some((len, trailer))
}

/// Reads a trailer from exactly its bytes. Lengths are within limits; nothing else is checked.
fn parse(bytes: &[u8]) -> Result<Trailer> {
    let mut input = Input::new(bytes);
    let [flags, keys_codec, values_codec] = input.array()?;
    if flags & !(FLAG_FILTERS | FLAG_SUBFRAMES | FLAG_KEYS_DICTIONARY | FLAG_VALUES_DICTIONARY) != 0 {
        return Err(Error::corruption(format!("a block has unknown flags {flags:#x}")));
    }
    // Looked at once the checksums are found right.
    let mut filters = [NO_FILTER; 2];
    if flags & FLAG_FILTERS != 0 {
        filters = [input.array()?, input.array()?];
        if filters == [NO_FILTER; 2] {
            return Err(Error::corruption("a block has a flag for filters and no filter"));
        }
    }
    let mut dictionary = None;
    if flags & (FLAG_KEYS_DICTIONARY | FLAG_VALUES_DICTIONARY) != 0 {
        dictionary = Some(input.varint32()?);
    }
    let part = |codec: u8, filter: [u8; 2], flag: u8, input: &mut Input<'_>| -> Result<Part> {
        let stored_len = input.length(PART_LEN_MAX)? as u32;
        let raw_len = match sabotage::is(Bug::LengthNotHeld) {
            false => input.length(PART_LEN_MAX)? as u32,
            true => input.varint32()?,
        };
        let dictionary = dictionary.filter(|_| flags & flag != 0);
        if codec == Codec::None.id() && (stored_len != raw_len || dictionary.is_some()) {
            return Err(Error::corruption("a block's raw part has two lengths or a dictionary"));
        }
        Ok(Part { codec, dictionary, stored_len, raw_len, filter, raw_checksum: 0, stored_checksum: 0 })
    };
    let mut keys = part(keys_codec, filters[0], FLAG_KEYS_DICTIONARY, &mut input)?;
    let mut values = part(values_codec, filters[1], FLAG_VALUES_DICTIONARY, &mut input)?;
    let entries = input.varint32()?;
    keys.raw_checksum = input.u32()?;
    values.raw_checksum = input.u32()?;
    keys.stored_checksum = input.u32()?;
    values.stored_checksum = input.u32()?;
    input.u8()?;
    input.finish()?;
    Ok(Trailer { keys, values, entries })
}

fn codec_error(e: CodecError) -> Error {
    match e {
        CodecError::UnknownId(_) | CodecError::UnknownFilter(_) => Error::unsupported(e.to_string()),
        CodecError::Unavailable(_) => Error::new(ErrorKind::Io, e.to_string()),
        CodecError::InvalidLevel { .. } => Error::invalid(e.to_string()),
        _ => Error::corruption(e.to_string()),
    }
}

/// The name of the codec that counts in a slot of [`crate::metrics::CodecMetrics`].
pub fn codec_slot_name(slot: usize) -> String {
    if slot + 1 == crate::metrics::CODEC_SLOTS { "custom".to_string() } else { codec_name(slot as u8) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::ManualClock;
    use crate::metrics::FamilyMetrics;

    fn codecs() -> Vec<Codec> {
        let zstd = [-3, 1, 9].map(|level| Codec::Zstd { level });
        let brotli = [1, 5].map(|quality| Codec::Brotli { quality });
        [Codec::None, Codec::Lz4, Codec::Lz4hc { level: 9 }, Codec::Snappy]
            .into_iter()
            .chain(zstd)
            .chain(brotli)
            .collect()
    }

    fn text(n: usize) -> Vec<u8> {
        (0..n).flat_map(|i| format!("row {} of {n};", i * 7919 % 1000).into_bytes()).collect()
    }

    fn decode(bytes: &[u8], keys_stored: u32, salt: u64) -> Result<(Vec<u8>, Vec<u8>, u32)> {
        let frame = Frame::open(bytes, keys_stored, salt)?;
        let mut scratch = Vec::new();
        let keys = frame.keys(&[], None, &mut scratch)?.to_vec();
        let mut values = vec![0; frame.trailer.values.raw_len as usize];
        frame.values_into(&[], None, &mut values)?;
        Ok((keys, values, frame.trailer.entries))
    }

    #[test]
    fn frames_round_trip_with_every_pair_of_codecs() {
        let clock = ManualClock::new();
        let family = FamilyMetrics::default();
        let meter = Meter { clock: &clock, level: &family.levels[2] };
        for keys_codec in codecs() {
            for values_codec in codecs() {
                for (k, v) in [(0, 0), (30, 0), (0, 30), (300, 1000)] {
                    let options =
                        FrameOptions { keys: keys_codec, values: values_codec, ..FrameOptions::new(Codec::None, 16) };
                    let (keys, values) = (text(k), text(v));
                    let mut out = b"before".to_vec();
                    let trailer = encode(&options, 77, &keys, &values, 5, Some(meter), &mut out).unwrap();
                    let back = decode(&out[6..], trailer.keys.stored_len, 77).unwrap();
                    assert_eq!(back, (keys, values, 5));
                    if k == 300 {
                        assert_eq!(trailer.keys.codec, keys_codec.id());
                    }
                    let e = decode(&out[6..], trailer.keys.stored_len, 78).unwrap_err();
                    assert!(e.is_corruption(), "the wrong place must fail: {e}");
                }
            }
        }
        assert!(family.levels[2].codecs[usize::from(Codec::Lz4.id())].encoded_parts.get() > 0);
    }

    #[test]
    fn what_does_not_shrink_is_stored_raw() {
        let noise: Vec<u8> =
            (0..2000u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).rotate_left(i % 31).to_le_bytes()).collect();
        for codec in codecs() {
            let mut out = Vec::new();
            let trailer = encode(&FrameOptions::new(codec, 255), 1, &noise, b"", 0, None, &mut out).unwrap();
            assert_eq!(trailer.keys.codec, 0);
            assert_eq!(decode(&out, trailer.keys.stored_len, 1).unwrap().0, noise);
        }
    }

    #[test]
    fn every_flip_and_every_cut_is_detected() {
        for codec in codecs() {
            let mut good = Vec::new();
            let trailer = encode(&FrameOptions::new(codec, 1), 9, &text(8), &text(12), 3, None, &mut good).unwrap();
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    assert!(decode(&bad, trailer.keys.stored_len, 9).is_err(), "{codec} byte {at} bit {bit}");
                }
            }
            for len in 0..good.len() {
                assert!(decode(&good[..len], trailer.keys.stored_len, 9).is_err());
                assert!(decode(&good[good.len() - len..], trailer.keys.stored_len, 9).is_err());
            }
        }
    }

    #[test]
    fn hostile_trailers_under_right_checksums_are_refused() {
        // flags, codecs, then lengths; the parts are empty.
        let frame = |head: &[u8]| {
            let mut out = head.to_vec();
            put_u32(&mut out, xxh32(b"", RAW_SEED));
            put_u32(&mut out, xxh32(b"", RAW_SEED));
            let (k, v) = (xxh32(&out, 0), xxh32(&out, 1));
            put_u32(&mut out, k);
            put_u32(&mut out, v);
            out.push(out.len() as u8 + 1);
            out
        };
        let kind = |head: &[u8]| decode(&frame(head), 0, 0).unwrap_err().kind();
        use crate::error::ErrorKind::{Corruption, Unsupported};
        assert!(decode(&frame(&[0, 0, 0, 0, 0, 0, 0, 0]), 0, 0).is_ok());
        assert_eq!(kind(&[1, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0, 0]), Unsupported);
        // A filter that is not known, without its parameter, of a raw part, and none at all.
        assert_eq!(kind(&[1, 1, 1, 0, 0, 4, 5, 0, 0, 0, 0, 0]), Unsupported);
        assert_eq!(kind(&[1, 1, 1, 0, 0, 2, 9, 0, 0, 0, 0, 0]), Corruption);
        assert_eq!(kind(&[1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]), Corruption);
        assert_eq!(kind(&[1, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0]), Corruption);
        assert_eq!(kind(&[1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Corruption);
        assert_eq!(kind(&[4, 0, 0, 0, 0, 0, 0, 0]), Unsupported);
        assert_eq!(kind(&[0, 99, 0, 0, 0, 0, 0, 0]), Unsupported);
        assert_eq!(kind(&[16, 0, 0, 0, 0, 0, 0, 0]), Corruption);
        // No bytes that decode to 64 MiB and more.
        assert_eq!(kind(&[0, 1, 0, 0, 0x81, 0x80, 0x80, 0x20, 0, 0, 0]), Corruption);
        assert_eq!(kind(&[0, 1, 0, 0, 9, 0, 0, 0]), Corruption);
        // A dictionary that is not there.
        assert_eq!(kind(&[8, 3, 0, 7, 0, 9, 0, 0, 0]), Corruption);
    }

    fn rows(n: u64) -> Vec<u8> {
        (0..n).flat_map(|i| (1_700_000_000 + i * i % 977).to_le_bytes()).collect()
    }

    #[test]
    fn values_come_back_through_their_filter() {
        let dictionary = Dictionary::from_bytes(text(40)).unwrap();
        for codec in codecs().into_iter().filter(|codec| *codec != Codec::None) {
            let mut options = FrameOptions::new(codec, 1);
            if codec.takes_dictionary() {
                options.dictionary = Some((0, dictionary.clone()));
            }
            let (mut plain, mut filtered) = (Vec::new(), Vec::new());
            encode(&options, 5, &text(9), &rows(500), 500, None, &mut plain).unwrap();
            options.values_filter = probe_filter(&options, &rows(500)).unwrap();
            assert_eq!(options.values_filter, Some(Filter::Transpose { width: 8 }), "{codec}");
            let trailer = encode(&options, 5, &text(9), &rows(500), 500, None, &mut filtered).unwrap();
            assert_eq!(trailer.values.filter().unwrap(), options.values_filter);
            assert_eq!(trailer.keys.filter().unwrap(), None);
            assert!(filtered.len() < plain.len(), "{codec}");
            let frame = Frame::open(&filtered, trailer.keys.stored_len, 5).unwrap();
            assert_eq!(frame.trailer, trailer);
            let mut values = vec![0; 4000];
            frame.values_into(std::slice::from_ref(&dictionary), None, &mut values).unwrap();
            assert_eq!(values, rows(500), "{codec}");
            let (mut scratch, mut row) = (Vec::new(), Vec::new());
            for range in [0..8, 0..4000, 1000..1008, 3993..4000, 4000..4000] {
                let dictionaries = std::slice::from_ref(&dictionary);
                let found = frame.value(range.clone(), dictionaries, None, &mut scratch, &mut row).unwrap();
                assert_eq!(found, &values[range], "{codec}");
            }
            for at in 0..filtered.len() {
                let mut bad = filtered.clone();
                bad[at] ^= 1 << (at % 8);
                assert!(Frame::open(&bad, trailer.keys.stored_len, 5).is_err(), "{codec} byte {at}");
            }
        }
    }

    #[test]
    fn a_raw_part_has_no_filter() {
        let options =
            FrameOptions { values_filter: Some(Filter::Transpose { width: 3 }), ..FrameOptions::new(Codec::Lz4, 16) };
        let mut out = Vec::new();
        let trailer = encode(&options, 1, b"", b"too short to shrink", 1, None, &mut out).unwrap();
        assert_eq!((trailer.values.codec, trailer.values.filter().unwrap()), (0, None));
        assert_eq!(decode(&out, 0, 1).unwrap().1, b"too short to shrink");
    }

    #[test]
    fn dictionaries_are_found_by_index() {
        let dictionary = Dictionary::from_bytes(text(40)).unwrap();
        let other = Dictionary::from_bytes(b"quite another text that shares nothing".repeat(9)).unwrap();
        for codec in [Codec::Lz4, Codec::Lz4hc { level: 9 }, Codec::Zstd { level: 3 }] {
            let options = FrameOptions { dictionary: Some((1, dictionary.clone())), ..FrameOptions::new(codec, 1) };
            let mut out = Vec::new();
            let trailer = encode(&options, 3, &text(20), &text(25), 0, None, &mut out).unwrap();
            assert_eq!((trailer.keys.dictionary, trailer.values.dictionary), (Some(1), Some(1)));
            let frame = Frame::open(&out, trailer.keys.stored_len, 3).unwrap();
            let both = [other.clone(), dictionary.clone()];
            let mut values = vec![0; frame.trailer.values.raw_len as usize];
            frame.values_into(&both, None, &mut values).unwrap();
            assert_eq!(values, text(25));
            assert_eq!(frame.keys(&both, None, &mut Vec::new()).unwrap(), text(20));
            assert!(frame.values_into(&both[..1], None, &mut values).is_err());
        }
    }
}
