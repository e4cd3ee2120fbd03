//! The footer: the last bytes of a table, where a reader begins.
//!
//! ```text
//! payload          tagged fields (see crate::field), all required:
//!                  1 features: count varint, then each a length and a name
//!                  2 index, 3 properties, 4 filter, 5 range tombstones: handles; 4 and 5 only if there
//!                  6 dictionaries: count varint, then each hash u64, codec id u8, handle
//!                  handle: offset varint, length of the frame varint, length of its keys part varint
//! payload length   u32
//! checksum         u32, low half of xxh3-64 over payload and length, salted with the payload's offset
//! magic            "LGNTFTR1"
//! ```

use crate::checksum::xxh32;
use crate::coding::{Input, put_bytes, put_u32, put_u64, put_varint};
use crate::error::{Error, Result};
use crate::field::{Fields, put_field, required, set_once};
use crate::frame::FrameHandle;

/// The last eight bytes of a table.
pub const FOOTER_MAGIC: [u8; 8] = *b"LGNTFTR1";
/// What follows the footer's payload.
pub const FOOTER_TAIL_LEN: usize = 16;
/// Longest payload.
pub const FOOTER_PAYLOAD_LEN_MAX: usize = 64 << 10;

/// Every table needs this feature.
pub const FEATURE_BASE: &str = "base/1";
/// Tables with a dictionary need this one.
pub const FEATURE_DICTIONARY: &str = "dictionary/1";

/// Tables with a block whose values went through a filter need this one.
pub const FEATURE_FILTERS: &str = "filters/1";

const FEATURES: u64 = 1;
const INDEX: u64 = 2;
const PROPERTIES: u64 = 3;
const FILTER: u64 = 4;
const TOMBSTONES: u64 = 5;
const DICTIONARIES: u64 = 6;

/// A dictionary that lies in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DictionaryEntry {
    /// xxh3-64 of its bytes.
    pub hash: u64,
    /// The codec id it was made for.
    pub codec: u8,
    /// Where its frame lies.
    pub handle: FrameHandle,
}

/// Where everything lies, and what a reader must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Names of the features that reading needs.
    pub features: Vec<String>,
    /// The index.
    pub index: FrameHandle,
    /// The properties.
    pub properties: FrameHandle,
    /// The filter, if there is one.
    pub filter: Option<FrameHandle>,
    /// The range tombstones, if there are any.
    pub tombstones: Option<FrameHandle>,
    /// The dictionaries that frames name by position.
    pub dictionaries: Vec<DictionaryEntry>,
}

impl Default for Footer {
    fn default() -> Footer {
        let none = FrameHandle { offset: 0, stored_len: 0, keys_stored: 0 };
        Footer {
            features: Vec::new(),
            index: none,
            properties: none,
            filter: None,
            tombstones: None,
            dictionaries: Vec::new(),
        }
    }
}

impl Footer {
    /// Appends the footer, which begins where `salt` belongs.
    pub fn encode(&self, salt: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut value = Vec::new();
        put_varint(&mut value, self.features.len() as u64);
        self.features.iter().for_each(|f| put_bytes(&mut value, f.as_bytes()));
        put_field(out, FEATURES, true, &value);
        let handles = [(INDEX, Some(self.index)), (PROPERTIES, Some(self.properties))];
        for (tag, handle) in handles.into_iter().chain([(FILTER, self.filter), (TOMBSTONES, self.tombstones)]) {
            if let Some(handle) = handle {
                value.clear();
                handle.encode(&mut value);
                put_field(out, tag, true, &value);
            }
        }
        if !self.dictionaries.is_empty() {
            value.clear();
            put_varint(&mut value, self.dictionaries.len() as u64);
            for d in &self.dictionaries {
                put_u64(&mut value, d.hash);
                value.push(d.codec);
                d.handle.encode(&mut value);
            }
            put_field(out, DICTIONARIES, true, &value);
        }
        let len = out.len() - begin;
        put_u32(out, len as u32);
        let checksum = xxh32(&out[begin..], salt);
        put_u32(out, checksum);
        out.extend_from_slice(&FOOTER_MAGIC);
    }

    /// The length of the payload that these last bytes of a file end.
    pub fn payload_len(tail: &[u8; FOOTER_TAIL_LEN]) -> Result<usize> {
        let mut input = Input::new(tail);
        let len = input.u32()? as usize;
        input.u32()?;
        if input.array()? != FOOTER_MAGIC {
            return Err(Error::corruption("the file does not end like a table"));
        }
        if len > FOOTER_PAYLOAD_LEN_MAX {
            return Err(Error::corruption(format!("the footer has {len} bytes, more than the limit")));
        }
        Ok(len)
    }

    /// Reads a whole footer, payload and tail.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<Footer> {
        let Some((payload, tail)) = bytes.split_last_chunk::<FOOTER_TAIL_LEN>() else {
            return Err(Error::corruption("the footer is cut short"));
        };
        if Footer::payload_len(tail)? != payload.len() {
            return Err(Error::corruption("the footer has two lengths"));
        }
        let mut input = Input::new(&tail[4..]);
        let found = xxh32(&bytes[..payload.len() + 4], salt);
        let expected = input.u32()?;
        if found != expected {
            return Err(Error::corruption(format!("the footer's checksum is {found:08x}, expected {expected:08x}")));
        }
        let (mut features, mut index, mut properties) = (None, None, None);
        let (mut filter, mut tombstones, mut dictionaries) = (None, None, None);
        let mut fields = Fields::new(payload);
        let mut unknown = None;
        while let Some(field) = fields.read()? {
            match field.tag {
                FEATURES => set_once(&mut features, field.parse(read_features)?, "features")?,
                INDEX => set_once(&mut index, field.parse(FrameHandle::decode)?, "index")?,
                PROPERTIES => set_once(&mut properties, field.parse(FrameHandle::decode)?, "properties")?,
                FILTER => set_once(&mut filter, field.parse(FrameHandle::decode)?, "filter")?,
                TOMBSTONES => set_once(&mut tombstones, field.parse(FrameHandle::decode)?, "range tombstones")?,
                DICTIONARIES => set_once(&mut dictionaries, field.parse(read_dictionaries)?, "dictionaries")?,
                tag if field.required => unknown = unknown.or(Some(tag)),
                _ => {}
            }
        }
        let features = required(features, "features")?;
        // Names say more than numbers, so they are looked at first.
        for feature in &features {
            if ![FEATURE_BASE, FEATURE_DICTIONARY, FEATURE_FILTERS].contains(&feature.as_str()) {
                return Err(Error::unsupported(format!(
                    "the table needs the feature \"{}\", which this version of Lignite does not have",
                    feature.escape_debug()
                )));
            }
        }
        if let Some(tag) = unknown {
            return Err(Error::unsupported(format!(
                "the footer has the required field {tag}, which is not known here"
            )));
        }
        Ok(Footer {
            features,
            index: required(index, "index")?,
            properties: required(properties, "properties")?,
            filter,
            tombstones,
            dictionaries: dictionaries.unwrap_or_default(),
        })
    }

    /// Every frame behind the data blocks, in the order of the file, with a name.
    pub fn frames(&self) -> Vec<(&'static str, FrameHandle)> {
        let mut out = vec![("properties", self.properties), ("index", self.index)];
        out.extend(self.filter.map(|h| ("filter", h)));
        out.extend(self.tombstones.map(|h| ("range tombstones", h)));
        out.extend(self.dictionaries.iter().map(|d| ("dictionary", d.handle)));
        out.sort_by_key(|(_, h)| h.offset);
        out
    }
}

fn read_features(input: &mut Input<'_>) -> Result<Vec<String>> {
    let n = input.length(input.remaining())?;
    (0..n).map(|_| input.string().map(str::to_string)).collect()
}

fn read_dictionaries(input: &mut Input<'_>) -> Result<Vec<DictionaryEntry>> {
    let n = input.length(input.remaining() / 9)?;
    (0..n)
        .map(|_| Ok(DictionaryEntry { hash: input.u64()?, codec: input.u8()?, handle: FrameHandle::decode(input)? }))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    fn handle(offset: u64) -> FrameHandle {
        FrameHandle { offset, stored_len: 70, keys_stored: 40 }
    }

    fn sample() -> Footer {
        Footer {
            features: vec![FEATURE_BASE.into(), FEATURE_DICTIONARY.into(), FEATURE_FILTERS.into()],
            index: handle(900),
            properties: handle(800),
            filter: Some(handle(600)),
            tombstones: None,
            dictionaries: vec![DictionaryEntry { hash: 5, codec: 3, handle: handle(700) }],
        }
    }

    #[test]
    fn footers_round_trip_and_every_flip_is_detected() {
        let mut good = Vec::new();
        sample().encode(4, &mut good);
        assert_eq!(Footer::decode(&good, 4).unwrap(), sample());
        assert!(Footer::decode(&good, 5).unwrap_err().is_corruption());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(Footer::decode(&bad, 4).is_err(), "byte {at}");
            assert!(Footer::decode(&good[..at], 4).is_err());
        }
        let names: Vec<_> = sample().frames().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["filter", "dictionary", "properties", "index"]);
    }

    #[test]
    fn unknown_features_are_refused_by_name() {
        let mut footer = sample();
        footer.features.push("subframes".into());
        let mut bytes = Vec::new();
        footer.encode(4, &mut bytes);
        let e = Footer::decode(&bytes, 4).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("subframes"), "{e}");
    }
}
