//! Properties: what a table says about its content, for people, for statistics, and so that a table
//! can be read without its manifest.
//!
//! Tagged fields (see [`crate::field`]); a reader that does not know a field skips it.

use std::fmt;
use std::ops::Bound;

use crate::coding::{Input, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::field::{Fields, UnknownFields, put_field, put_varint_field};
use crate::key::SeqNo;
use crate::version::ShownKey;

/// Bytes of parts under one codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodecBytes {
    /// Codec id.
    pub codec: u8,
    /// Number of parts.
    pub parts: u64,
    /// Bytes before compression.
    pub raw: u64,
    /// Bytes as stored.
    pub stored: u64,
}

/// What was promised of a table's blocks when they were written. Zeros promise nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Stored bytes for each MiB of keys and values.
    pub stored_per_mib: u64,
    /// Nanoseconds of decoding a block, on the average.
    pub decode_nanos: u64,
    /// The same that 99 blocks of a hundred stay within.
    pub decode_nanos_p99: u64,
    /// What the dictionary saves, in thousandths.
    pub dictionary_gain: u64,
}

/// What a table says about its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Point entries, point tombstones included.
    pub entries: u64,
    /// Point tombstones.
    pub deletes: u64,
    /// Fragments of range tombstones.
    pub range_deletes: u64,
    /// Bytes of keys before compression and front coding.
    pub raw_key_bytes: u64,
    /// Bytes of values before compression.
    pub raw_value_bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// Target size of a block.
    pub block_size: u64,
    /// The smallest user key, range tombstones included.
    pub smallest: Vec<u8>,
    /// The upper end of the user keys, range tombstones included.
    pub largest: Bound<Vec<u8>>,
    /// The smallest sequence number.
    pub seq_min: SeqNo,
    /// The largest sequence number.
    pub seq_max: SeqNo,
    /// When the table was written, in seconds since 1970.
    pub created: u64,
    /// When its oldest entry came into the database, in seconds since 1970.
    pub oldest_data: u64,
    /// How it was compressed.
    pub compression: String,
    /// Which filter it has.
    pub filter: String,
    /// The seed of the hash of user keys that filters use.
    pub hash_seed: u64,
    /// The hash of its dictionary; 0 for none.
    pub dictionary: u64,
    /// What was promised of its blocks when they were written.
    pub promise: Promise,
    /// The objective that codec, block size and dictionary were chosen for by measuring; empty for none.
    pub chosen_for: String,
    /// Parts of data blocks, by codec.
    pub codecs: Vec<CodecBytes>,
}

impl Default for Properties {
    fn default() -> Properties {
        Properties {
            entries: 0,
            deletes: 0,
            range_deletes: 0,
            raw_key_bytes: 0,
            raw_value_bytes: 0,
            blocks: 0,
            block_size: 0,
            smallest: Vec::new(),
            largest: Bound::Unbounded,
            seq_min: 0,
            seq_max: 0,
            created: 0,
            oldest_data: 0,
            compression: String::new(),
            filter: String::new(),
            hash_seed: 0,
            dictionary: 0,
            promise: Promise::default(),
            chosen_for: String::new(),
            codecs: Vec::new(),
        }
    }
}

/// Field numbers of the plain counts, in the order of [`Properties::numbers`].
const NUMBERS: [(u64, &str); 17] = [
    (1, "entries"),
    (2, "deletes"),
    (3, "range_deletes"),
    (4, "raw_key_bytes"),
    (5, "raw_value_bytes"),
    (6, "blocks"),
    (7, "block_size"),
    (8, "seq_min"),
    (9, "seq_max"),
    (10, "created"),
    (11, "oldest_data"),
    (12, "hash_seed"),
    (13, "dictionary"),
    (14, "promised_stored_per_mib"),
    (15, "promised_decode_nanos"),
    (16, "promised_decode_nanos_p99"),
    (17, "dictionary_gain"),
];
/// From this one on they are left out where they are 0.
const PROMISES: u64 = 14;
const SMALLEST: u64 = 20;
const LARGEST: u64 = 21;
const COMPRESSION: u64 = 22;
const FILTER: u64 = 23;
const CODEC: u64 = 24;
const CHOSEN_FOR: u64 = 25;

impl Properties {
    /// Counts a part of a data block.
    pub fn count_part(&mut self, codec: u8, raw: u64, stored: u64) {
        let at = match self.codecs.iter().position(|c| c.codec == codec) {
            Some(at) => at,
            None => {
                self.codecs.push(CodecBytes { codec, ..CodecBytes::default() });
                self.codecs.len() - 1
            }
        };
        let c = &mut self.codecs[at];
        c.parts += 1;
        c.raw += raw;
        c.stored += stored;
    }

    /// Appends the fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut copy = self.clone();
        for ((tag, _), value) in NUMBERS.into_iter().zip(copy.numbers()) {
            if tag < PROMISES || *value != 0 {
                put_varint_field(out, tag, false, *value);
            }
        }
        put_field(out, SMALLEST, false, &self.smallest);
        let mut value = Vec::new();
        match &self.largest {
            Bound::Unbounded => value.push(0),
            Bound::Included(key) => {
                value.push(1);
                put_bytes(&mut value, key);
            }
            Bound::Excluded(key) => {
                value.push(2);
                put_bytes(&mut value, key);
            }
        }
        put_field(out, LARGEST, false, &value);
        put_field(out, COMPRESSION, false, self.compression.as_bytes());
        put_field(out, FILTER, false, self.filter.as_bytes());
        if !self.chosen_for.is_empty() {
            put_field(out, CHOSEN_FOR, false, self.chosen_for.as_bytes());
        }
        for c in &self.codecs {
            value.clear();
            value.push(c.codec);
            [c.parts, c.raw, c.stored].into_iter().for_each(|n| put_varint(&mut value, n));
            put_field(out, CODEC, false, &value);
        }
    }

    /// Reads what [`Properties::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Properties> {
        let mut out = Properties::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.read()? {
            match field.tag {
                SMALLEST => out.smallest = field.value.to_vec(),
                LARGEST => out.largest = field.parse(read_upper)?,
                COMPRESSION => out.compression = text(field.value)?,
                FILTER => out.filter = text(field.value)?,
                CHOSEN_FOR => out.chosen_for = text(field.value)?,
                CODEC => out.codecs.push(field.parse(|input| {
                    let codec = input.u8()?;
                    Ok(CodecBytes { codec, parts: input.varint()?, raw: input.varint()?, stored: input.varint()? })
                })?),
                tag => match NUMBERS.iter().position(|(known, _)| *known == tag) {
                    Some(at) => *out.numbers()[at] = field.varint()?,
                    None => UnknownFields::default().keep(&field, "the properties of a table")?,
                },
            }
        }
        Ok(out)
    }

    /// Name and value of every property, for people.
    pub fn entries(&self) -> Vec<(String, String)> {
        let mut copy = self.clone();
        let mut out: Vec<(String, String)> = NUMBERS
            .into_iter()
            .zip(copy.numbers())
            .map(|((_, name), value)| (name.to_string(), value.to_string()))
            .collect();
        out.push(("smallest".into(), ShownKey(&self.smallest).to_string()));
        out.push(("largest".into(), shown_upper(&self.largest)));
        out.push(("compression".into(), self.compression.clone()));
        out.push(("filter".into(), self.filter.clone()));
        if !self.chosen_for.is_empty() {
            out.push(("chosen_for".into(), self.chosen_for.clone()));
        }
        for c in &self.codecs {
            let name = crate::frame::codec_name(c.codec);
            out.push((format!("codec {name}"), format!("{} parts, {} of {} bytes", c.parts, c.stored, c.raw)));
        }
        out
    }

    fn numbers(&mut self) -> [&mut u64; 17] {
        [
            &mut self.entries,
            &mut self.deletes,
            &mut self.range_deletes,
            &mut self.raw_key_bytes,
            &mut self.raw_value_bytes,
            &mut self.blocks,
            &mut self.block_size,
            &mut self.seq_min,
            &mut self.seq_max,
            &mut self.created,
            &mut self.oldest_data,
            &mut self.hash_seed,
            &mut self.dictionary,
            &mut self.promise.stored_per_mib,
            &mut self.promise.decode_nanos,
            &mut self.promise.decode_nanos_p99,
            &mut self.promise.dictionary_gain,
        ]
    }
}

impl fmt::Display for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.entries().into_iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}={}", name.replace(' ', ":"), value.replace(' ', "_"))?;
        }
        Ok(())
    }
}

fn read_upper(input: &mut Input<'_>) -> Result<Bound<Vec<u8>>> {
    Ok(match input.u8()? {
        0 => Bound::Unbounded,
        1 => Bound::Included(input.bytes()?.to_vec()),
        2 => Bound::Excluded(input.bytes()?.to_vec()),
        n => return Err(Error::corruption(format!("unknown kind {n} of an upper end"))),
    })
}

fn shown_upper(upper: &Bound<Vec<u8>>) -> String {
    match upper {
        Bound::Unbounded => "none".into(),
        Bound::Included(key) => ShownKey(key).to_string(),
        Bound::Excluded(key) => format!("below {}", ShownKey(key)),
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::corruption("a property is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn properties_round_trip_and_unknown_ones_are_skipped() {
        let mut p = Properties {
            entries: 9,
            smallest: b"a\xff".to_vec(),
            compression: "lz4".into(),
            chosen_for: "balanced".into(),
            ..Properties::default()
        };
        p.count_part(1, 100, 50);
        p.count_part(0, 10, 10);
        p.count_part(1, 100, 40);
        for largest in [Bound::Unbounded, Bound::Included(b"z".to_vec()), Bound::Excluded(vec![])] {
            p.largest = largest;
            let mut bytes = Vec::new();
            p.encode(&mut bytes);
            put_field(&mut bytes, 99, false, b"later");
            assert_eq!(Properties::decode(&bytes).unwrap(), p);
            put_field(&mut bytes, 98, true, b"later");
            assert_eq!(Properties::decode(&bytes).unwrap_err().kind(), crate::error::ErrorKind::Unsupported);
        }
        let line = p.to_string();
        assert!(
            line.starts_with("entries=9 deletes=0 ") && line.contains("codec:lz4=2_parts,_90_of_200_bytes"),
            "{line}"
        );
    }
}
