//! The data formats of `import` and `export`: `kv`, `ndjson` and `csv`.
//!
//! All three are identity for all bytes: `kv` is binary, the other two use the text rules of
//! [`text`](crate::text). A reader never allocates for a length before it has checked it, and says
//! where it stands when the input is malformed.

use std::io::{self, BufRead, Read};

use clap::ValueEnum;
use lignite::{KEY_LEN_MAX, VALUE_LEN_MAX};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::output;
use crate::text::{self, Style};

/// A data format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataFormat {
    /// u32le key length, u32le value length, key, value, repeated.
    Kv,
    /// {"k":..,"v":..} on each line.
    Ndjson,
    /// A header k,v and a line a record.
    Csv,
}

impl DataFormat {
    /// The format that a file's name promises; a `.zst` behind it is skipped.
    pub fn of_name(name: &str) -> Option<DataFormat> {
        let name = name.strip_suffix(".zst").unwrap_or(name);
        match name.rsplit_once('.')?.1 {
            "kv" => Some(DataFormat::Kv),
            "ndjson" | "jsonl" => Some(DataFormat::Ndjson),
            "csv" => Some(DataFormat::Csv),
            _ => None,
        }
    }
}

/// One record of ndjson.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    k: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    v: std::borrow::Cow<'a, str>,
}

/// Reads records one after another.
pub struct RecordReader<R> {
    format: DataFormat,
    input: Source<R>,
    source: String,
    /// Records read so far.
    records: u64,
    /// Bytes of input read so far, for `kv`.
    offset: u64,
    /// Lines read so far, for `ndjson`.
    lines: u64,
    line: Vec<u8>,
    csv_record: csv::StringRecord,
}

enum Source<R> {
    Plain(R),
    Csv(Box<csv::Reader<R>>),
}

/// The longest line of ndjson: a key and a value of greatest length, as `esc:` in JSON.
const LINE_LEN_MAX: u64 = 5 * (KEY_LEN_MAX + VALUE_LEN_MAX) as u64 + 1024;

impl<R: BufRead> RecordReader<R> {
    /// Reads `input`, called `source` in messages.
    pub fn new(format: DataFormat, input: R, source: impl Into<String>) -> Result<RecordReader<R>, Failure> {
        let mut reader = RecordReader {
            format,
            input: match format {
                DataFormat::Csv => {
                    Source::Csv(Box::new(csv::ReaderBuilder::new().has_headers(true).from_reader(input)))
                }
                DataFormat::Kv | DataFormat::Ndjson => Source::Plain(input),
            },
            source: source.into(),
            records: 0,
            offset: 0,
            lines: 0,
            line: Vec::new(),
            csv_record: csv::StringRecord::new(),
        };
        reader.check_header()?;
        Ok(reader)
    }

    /// Reads the next record into `key` and `value`; false at the end of the input.
    pub fn read(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, Failure> {
        let more = match self.format {
            DataFormat::Kv => self.read_kv(key, value)?,
            DataFormat::Ndjson => self.read_ndjson(key, value)?,
            DataFormat::Csv => self.read_csv(key, value)?,
        };
        if more {
            if key.len() > KEY_LEN_MAX || value.len() > VALUE_LEN_MAX {
                return Err(self.too_long(key.len() as u64, value.len() as u64));
            }
            self.records += 1;
        }
        Ok(more)
    }

    /// Where the record that is being read begins, for messages.
    fn place(&self) -> String {
        match self.format {
            DataFormat::Kv => format!("offset {}", self.offset),
            DataFormat::Ndjson => format!("line {}", self.lines),
            DataFormat::Csv => {
                let line = self.csv_record.position().map_or(1, csv::Position::line);
                format!("line {line}")
            }
        }
    }

    fn malformed(&self, what: impl std::fmt::Display) -> Failure {
        self.malformed_at(self.place(), what)
    }

    fn malformed_at(&self, place: String, what: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{}: record {} ({place}): {what}", self.source, self.records + 1))
    }

    fn too_long(&self, key_len: u64, value_len: u64) -> Failure {
        self.malformed(format!(
            "the key has {key_len} bytes and the value {value_len}; at most {KEY_LEN_MAX} and {VALUE_LEN_MAX} are allowed"
        ))
    }

    /// A failed read: broken content is the input's fault, anything else the machine's.
    fn failed(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => self.malformed(error),
            _ => Failure::new(Exit::Io, format!("cannot read {}: {error}", self.source)),
        }
    }

    fn read_kv(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, Failure> {
        let Source::Plain(input) = &mut self.input else { return Ok(false) };
        let mut head = Vec::with_capacity(8);
        let result = input.by_ref().take(8).read_to_end(&mut head);
        let n = result.map_err(|e| self.failed(&e))?;
        if n == 0 {
            return Ok(false);
        }
        let Ok([k0, k1, k2, k3, v0, v1, v2, v3]) = <[u8; 8]>::try_from(head.as_slice()) else {
            return Err(self.malformed(format!("the input ends inside the lengths, after {n} of 8 bytes")));
        };
        let key_len = u32::from_le_bytes([k0, k1, k2, k3]);
        let value_len = u32::from_le_bytes([v0, v1, v2, v3]);
        if key_len as usize > KEY_LEN_MAX || value_len as usize > VALUE_LEN_MAX {
            return Err(self.too_long(u64::from(key_len), u64::from(value_len)));
        }
        for (part, len, name) in [(key, key_len, "key"), (value, value_len, "value")] {
            let Source::Plain(input) = &mut self.input else { return Ok(false) };
            part.clear();
            let result = input.by_ref().take(u64::from(len)).read_to_end(part);
            let n = result.map_err(|e| self.failed(&e))?;
            if n < len as usize {
                return Err(self.malformed(format!("the input ends inside the {name}, after {n} of {len} bytes")));
            }
        }
        self.offset += 8 + u64::from(key_len) + u64::from(value_len);
        Ok(true)
    }

    fn read_ndjson(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut line = std::mem::take(&mut self.line);
        loop {
            let Source::Plain(input) = &mut self.input else { return Ok(false) };
            line.clear();
            let result = input.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut line);
            let n = result.map_err(|e| self.failed(&e))?;
            if n == 0 {
                return Ok(false);
            }
            self.lines += 1;
            if n as u64 == LINE_LEN_MAX && line.last() != Some(&b'\n') {
                return Err(self.malformed(format!("the line has more than {LINE_LEN_MAX} bytes")));
            }
            if !line.trim_ascii().is_empty() {
                break;
            }
        }
        let record: Record<'_> = serde_json::from_slice(&line)
            .map_err(|e| self.malformed(format!("expected {{\"k\":..,\"v\":..}} with two texts: {e}")))?;
        *key = text::parse(&record.k).map_err(|e| self.malformed(format!("key: {e}")))?;
        *value = text::parse(&record.v).map_err(|e| self.malformed(format!("value: {e}")))?;
        drop(record);
        self.line = line;
        Ok(true)
    }

    fn read_csv(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, Failure> {
        let Source::Csv(input) = &mut self.input else { return Ok(false) };
        let result = input.read_record(&mut self.csv_record);
        if !result.map_err(|e| self.csv_failure(e))? {
            return Ok(false);
        }
        if self.csv_record.len() != 2 {
            return Err(self.malformed(format!("{} fields; expected 2", self.csv_record.len())));
        }
        *key = text::parse(&self.csv_record[0]).map_err(|e| self.malformed(format!("key: {e}")))?;
        *value = text::parse(&self.csv_record[1]).map_err(|e| self.malformed(format!("value: {e}")))?;
        Ok(true)
    }

    fn check_header(&mut self) -> Result<(), Failure> {
        let Source::Csv(input) = &mut self.input else { return Ok(()) };
        let result = input.headers().map(|header| header.iter().eq(["k", "v"]));
        if result.map_err(|e| self.csv_failure(e))? {
            return Ok(());
        }
        Err(Failure::usage(format!("{}: a csv file must begin with the line k,v", self.source)))
    }

    fn csv_failure(&self, error: csv::Error) -> Failure {
        match error.kind() {
            csv::ErrorKind::Io(e) => self.failed(e),
            // The error knows its line; the reader stands behind it already.
            csv::ErrorKind::UnequalLengths { pos: Some(pos), len, .. } => {
                self.malformed_at(format!("line {}", pos.line()), format!("{len} fields; expected 2"))
            }
            csv::ErrorKind::Utf8 { pos: Some(pos), .. } => {
                self.malformed_at(format!("line {}", pos.line()), "not UTF-8")
            }
            _ => self.malformed(error),
        }
    }
}

/// Appends the lines before the first record.
pub fn push_header(format: DataFormat, out: &mut Vec<u8>) {
    if format == DataFormat::Csv {
        out.extend_from_slice(b"k,v\n");
    }
}

/// Appends one record.
pub fn push_record(format: DataFormat, key: &[u8], value: &[u8], keys: Style, values: Style, out: &mut Vec<u8>) {
    match format {
        DataFormat::Kv => {
            out.extend_from_slice(&(key.len() as u32).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        DataFormat::Ndjson => {
            let record = Record { k: text::show(key, keys).into(), v: text::show(value, values).into() };
            output::push_json(out, &record);
            out.push(b'\n');
        }
        DataFormat::Csv => output::push_csv(out, [text::show(key, keys), text::show(value, values)].iter()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::seeded::Seeded;

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn random_records(seed: u64, n: usize) -> Records {
        let mut random = Seeded::new(seed);
        let mut bytes = |limit| {
            let len = random.below(limit);
            let kind = random.below(3);
            (0..len)
                .map(|_| match kind {
                    0 => random.below(256) as u8,
                    1 => b"\",\\ \r\n\tx:"[random.below(9) as usize],
                    _ => b"hexb64text:u \""[random.below(14) as usize],
                })
                .collect::<Vec<u8>>()
        };
        (0..n).map(|_| (bytes(30), bytes(90))).collect()
    }

    fn write(format: DataFormat, records: &Records) -> Vec<u8> {
        let mut out = Vec::new();
        push_header(format, &mut out);
        for (k, v) in records {
            push_record(format, k, v, Style::Auto, Style::Auto, &mut out);
        }
        out
    }

    fn read(format: DataFormat, bytes: &[u8]) -> Result<Records, Failure> {
        let mut reader = RecordReader::new(format, bytes, "test")?;
        let (mut k, mut v) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        while reader.read(&mut k, &mut v)? {
            out.push((k.clone(), v.clone()));
        }
        Ok(out)
    }

    #[test]
    fn every_format_is_identity_for_all_bytes() {
        for format in [DataFormat::Kv, DataFormat::Ndjson, DataFormat::Csv] {
            for seed in 0..20 {
                let mut records = random_records(seed, 60);
                records.extend((0..=255u8).map(|b| (vec![b], vec![b, b'x', b])));
                records.push((Vec::new(), Vec::new()));
                assert_eq!(read(format, &write(format, &records)).unwrap(), records, "{format:?} seed {seed}");
            }
        }
    }

    #[test]
    fn every_cut_of_kv_is_a_prefix_or_an_error_with_its_place() {
        let records = random_records(3, 5);
        let bytes = write(DataFormat::Kv, &records);
        let mut borders = vec![0];
        for (k, v) in &records {
            borders.push(borders.last().unwrap() + 8 + k.len() + v.len());
        }
        for cut in 0..bytes.len() {
            match read(DataFormat::Kv, &bytes[..cut]) {
                Ok(got) => {
                    assert!(borders.contains(&cut));
                    assert_eq!(got, records[..got.len()]);
                }
                Err(e) => {
                    assert!(!borders.contains(&cut));
                    assert_eq!(e.exit(), Exit::Usage);
                    let begun = borders.iter().filter(|b| **b <= cut).count();
                    let place = format!("test: record {begun} (offset {})", borders[begun - 1]);
                    assert!(e.message().unwrap().starts_with(&place), "{e:?}");
                }
            }
        }
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_allocated() {
        let e = read(DataFormat::Kv, &[0xff; 8]).unwrap_err();
        assert!(e.message().unwrap().contains("4294967295"), "{e:?}");
    }

    #[test]
    fn malformed_lines_are_named() {
        let message = |format, text: &str| read(format, text.as_bytes()).unwrap_err().message().unwrap().to_string();
        let e = message(DataFormat::Ndjson, "{\"k\":\"a\",\"v\":\"b\"}\n\n{\"k\":\"a\"}\n");
        assert!(e.starts_with("test: record 2 (line 3): expected"), "{e}");
        let e = message(DataFormat::Ndjson, "{\"k\":\"hex:0\",\"v\":\"\"}");
        assert!(e.starts_with("test: record 1 (line 1): key: an odd"), "{e}");
        assert!(message(DataFormat::Csv, "a,b\n1,2\n").contains("must begin with the line k,v"));
        assert!(message(DataFormat::Csv, "k,v\n1,2\n1,2,3\n").starts_with("test: record 2 (line 3)"));
        assert!(message(DataFormat::Csv, "k,v\n1,u32:x\n").contains("value: \"x\" is not a number"));
    }

    #[test]
    fn names_promise_formats() {
        assert_eq!(DataFormat::of_name("a/packages.kv.zst"), Some(DataFormat::Kv));
        assert_eq!(DataFormat::of_name("x.jsonl"), Some(DataFormat::Ndjson));
        assert_eq!(DataFormat::of_name("-"), None);
    }
}
