//! Tagged fields: how manifest edits, family options and table properties grow without breaking.
//!
//! ```text
//! field   tag << 1 | required varint, length varint, value
//! ```
//!
//! A reader that does not know a tag refuses the whole when the field is required, and keeps the
//! field as it is, to be written again, when it is optional. Always true: a tag that may appear once
//! is refused the second time.

use crate::coding::{Input, put_bytes, put_varint};
use crate::error::{Error, Result};

/// A field as it lies in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which field.
    pub tag: u64,
    /// True if a reader that does not know the tag must refuse the whole.
    pub required: bool,
    /// The bytes, whose meaning depends on the tag.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The value as one varint and nothing else.
    pub fn varint(&self) -> Result<u64> {
        self.parse(|input| input.varint())
    }

    /// The value as read by `read`, which must consume all of it.
    pub fn parse<T>(&self, read: impl FnOnce(&mut Input<'a>) -> Result<T>) -> Result<T> {
        let mut input = Input::new(self.value);
        let value = read(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

/// Reads fields one after the other from hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(Input<'a>);

impl<'a> Fields<'a> {
    /// Starts at the first field.
    pub fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields(Input::new(bytes))
    }

    /// The next field; none at the end.
    pub fn read(&mut self) -> Result<Option<Field<'a>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let head = self.0.varint()?;
        let value = self.0.bytes()?;
        Ok(Some(Field { tag: head >> 1, required: head & 1 == 1, value }))
    }
}

/// Optional fields of a later version: kept, and written again behind the known ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownFields(Vec<(u64, Vec<u8>)>);

impl UnknownFields {
    /// Keeps a field that nobody knows; fails with `Unsupported` if it is required. `whole` names
    /// what the field belongs to.
    pub fn keep(&mut self, field: &Field<'_>, whole: &str) -> Result<()> {
        if field.required {
            return Err(Error::unsupported(format!(
                "{whole} has the required field {}, which this version does not know",
                field.tag
            )));
        }
        self.0.push((field.tag, field.value.to_vec()));
        Ok(())
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tags, in the order in which they were read.
    pub fn tags(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|(tag, _)| *tag)
    }

    /// Adds the fields of another one, such as of a later edit.
    pub fn extend(&mut self, other: &UnknownFields) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Appends them all.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (tag, value) in &self.0 {
            put_field(out, *tag, false, value);
        }
    }
}

/// Appends a field.
pub fn put_field(out: &mut Vec<u8>, tag: u64, required: bool, value: &[u8]) {
    put_varint(out, (tag << 1) | u64::from(required));
    put_bytes(out, value);
}

/// Appends a field that holds one varint.
pub fn put_varint_field(out: &mut Vec<u8>, tag: u64, required: bool, value: u64) {
    let mut bytes = Vec::with_capacity(10);
    put_varint(&mut bytes, value);
    put_field(out, tag, required, &bytes);
}

/// Fills a slot that must be empty: a field that may appear once came again.
pub fn set_once<T>(slot: &mut Option<T>, value: T, name: &str) -> Result<()> {
    if slot.is_some() {
        return Err(Error::corruption(format!("the field {name} appears twice")));
    }
    *slot = Some(value);
    Ok(())
}

/// The value of a slot that must have been filled.
pub fn required<T>(slot: Option<T>, name: &str) -> Result<T> {
    slot.ok_or_else(|| Error::corruption(format!("the field {name} is missing")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn unknown_fields_are_kept_or_refused() {
        let mut bytes = Vec::new();
        put_varint_field(&mut bytes, 900, false, 5);
        put_field(&mut bytes, 901, false, b"abc");
        let mut fields = Fields::new(&bytes);
        let mut unknown = UnknownFields::default();
        while let Some(field) = fields.read().unwrap() {
            unknown.keep(&field, "a test").unwrap();
        }
        let mut again = Vec::new();
        unknown.encode(&mut again);
        assert_eq!(again, bytes);
        let refused = unknown.keep(&Field { tag: 7, required: true, value: b"" }, "a test").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert_eq!(refused.message(), "a test has the required field 7, which this version does not know");
    }

    #[test]
    fn hostile_lengths_are_refused() {
        assert!(Fields::new(&[2, 0xff, 0xff, 0xff, 0x7f]).read().is_err());
        assert!(Fields::new(&[2]).read().is_err());
        let mut slot = Some(1);
        assert!(set_once(&mut slot, 2, "x").is_err());
        assert!(required::<u8>(None, "x").is_err());
    }
}
