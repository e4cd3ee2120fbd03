//! Reads the record sets for measuring (`shared/data`): `u32le key length, u32le value length, key,
//! value`, repeated to the end, the whole stream compressed with Zstandard.
//!
//! Records come sorted by key, without duplicates. A whole set is read into memory (the largest is
//! 85 MB): what is measured is never the reading of the set.

use std::path::{Path, PathBuf};

use crate::Result;

/// Names of the sets, in the order of every report.
pub const SETS: [&str; 6] = ["packages", "contents", "mdn", "flights", "digests", "blobs"];

/// Where the sets lie beside a checkout.
pub fn default_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

/// One set, decompressed.
pub struct RecordSet {
    bytes: Vec<u8>,
}

impl RecordSet {
    /// Reads `<directory>/<name>.kv.zst`.
    pub fn read(directory: &Path, name: &str) -> Result<RecordSet> {
        let path = directory.join(format!("{name}.kv.zst"));
        let stored = std::fs::read(&path).map_err(|e| format!("reading {}: {e}", path.display()))?;
        let bytes = decompress(&stored).map_err(|e| format!("decompressing {}: {e}", path.display()))?;
        let set = RecordSet { bytes };
        set.check().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(set)
    }

    /// The records in order.
    pub fn iter(&self) -> Records<'_> {
        Records { rest: &self.bytes }
    }

    /// Where each record begins, for [`RecordSet::at`].
    pub fn starts(&self) -> Vec<usize> {
        let mut records = self.iter();
        let mut starts = Vec::new();
        loop {
            let at = self.bytes.len() - records.rest.len();
            if records.next().is_none() {
                return starts;
            }
            starts.push(at);
        }
    }

    /// The record that begins there; an empty one if none does.
    pub fn at(&self, start: usize) -> (&[u8], &[u8]) {
        Records { rest: self.bytes.get(start..).unwrap_or_default() }.next().unwrap_or_default()
    }

    /// Bytes of keys and values, without the lengths between them.
    pub fn raw_bytes(&self) -> u64 {
        self.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn check(&self) -> Result<()> {
        let mut records = self.iter();
        let mut previous: Option<&[u8]> = None;
        for (key, _) in records.by_ref() {
            if previous.is_some_and(|previous| previous >= key) {
                return Err(format!("keys out of order at {}", key.escape_ascii()).into());
            }
            previous = Some(key);
        }
        if !records.rest.is_empty() {
            return Err(format!("{} bytes after the last whole record", records.rest.len()).into());
        }
        Ok(())
    }
}

/// Iterator over key and value; ends at the first record that is not whole.
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (key_len, rest) = self.rest.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        self.rest = rest;
        Some((key, value))
    }
}

fn decompress(stored: &[u8]) -> Result<Vec<u8>> {
    let mut context = zstd_safe::DCtx::create();
    let mut input = zstd_safe::InBuffer::around(stored);
    let mut bytes = Vec::with_capacity(stored.len() * 6);
    loop {
        bytes.reserve(1 << 20);
        let filled = bytes.len();
        let mut output = zstd_safe::OutBuffer::around_pos(&mut bytes, filled);
        let hint = context.decompress_stream(&mut output, &mut input).map_err(zstd_safe::get_error_name)?;
        let is_done = input.pos() == stored.len() && output.pos() < output.capacity();
        if is_done && hint == 0 {
            return Ok(bytes);
        }
        if is_done {
            return Err("the compressed stream ends early".into());
        }
    }
}
