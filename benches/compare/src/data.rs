//! The records that engines are given: three made up from a seed, and the sets of `shared/data`.
//!
//! A made-up record depends on the seed, its number and its version alone, so nothing is kept, nothing is
//! drawn from a pool that repeats itself, and what is read can be held against what was written. The cost of
//! making records is part of every figure and the same for every engine; the engine `none` shows it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use lignite_bench::records::{self, RecordSet};
use lignite_bench::synthetic::{Generator, Random};

use crate::Result;

/// Which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Keys of 16 digits, values of 100 bytes of which half can be compressed away.
    Small,
    /// Objects of 300 to 600 bytes under `user:000000000042`.
    Json,
    /// Texts of 8 KiB under `doc/000000042`.
    Text,
    /// A set of `shared/data`, by its place in the list of their names.
    Set(usize),
}

impl DataKind {
    /// Records unless another number is asked for.
    pub fn records_default(self) -> u64 {
        match self {
            DataKind::Small => 2_000_000,
            DataKind::Json => 500_000,
            DataKind::Text => 50_000,
            DataKind::Set(_) => u64::MAX,
        }
    }
}

impl FromStr for DataKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<DataKind, String> {
        match text {
            "small" => Ok(DataKind::Small),
            "json" => Ok(DataKind::Json),
            "text" => Ok(DataKind::Text),
            name => match records::SETS.iter().position(|set| *set == name) {
                Some(set) => Ok(DataKind::Set(set)),
                None => Err(format!("no such records; there are small, json, text, {}", records::SETS.join(", "))),
            },
        }
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataKind::Small => "small",
            DataKind::Json => "json",
            DataKind::Text => "text",
            DataKind::Set(set) => records::SETS[*set],
        })
    }
}

/// Length of a text.
const TEXT_LEN: usize = 8 << 10;

/// Records by number; their keys ascend with it.
pub struct Data {
    source: Source,
    n_records: u64,
    seed: u64,
}

enum Source {
    Small(Generator),
    Json,
    Text,
    Set { set: RecordSet, starts: Vec<usize> },
}

impl Data {
    /// The records of a kind: `n_records`, or as many as a set has if that is fewer.
    pub fn open(kind: DataKind, n_records: Option<u64>, seed: u64, sets: &Path) -> Result<Data> {
        let wanted = n_records.unwrap_or(kind.records_default());
        let (source, n_records) = match kind {
            DataKind::Small => (Source::Small(Generator::new(seed, 100)), wanted),
            DataKind::Json => (Source::Json, wanted),
            DataKind::Text => (Source::Text, wanted),
            DataKind::Set(set) => {
                let set = RecordSet::read(sets, records::SETS[set])?;
                let starts = set.starts();
                let n_records = wanted.min(starts.len() as u64);
                (Source::Set { set, starts }, n_records)
            }
        };
        if n_records == 0 {
            return Err("there are no records to work with".into());
        }
        Ok(Data { source, n_records, seed })
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.n_records
    }

    /// Puts the key of record `number` into `out`, in place of what is there.
    pub fn key_into(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        match &self.source {
            Source::Small(generator) => out.extend_from_slice(&generator.key(number)),
            Source::Json => put_decimal(out, b"user:", number, 12),
            Source::Text => put_decimal(out, b"doc/", number, 9),
            Source::Set { set, starts } => out.extend_from_slice(set.at(starts[number as usize]).0),
        }
    }

    /// Puts a key that no record has, right behind that of record `number`, into `out`.
    pub fn missing_key_into(&self, number: u64, out: &mut Vec<u8>) {
        self.key_into(number, out);
        out.push(b'~');
    }

    /// Puts a value of record `number` into `out`, in place of what is there. Version 0 is what a load writes.
    pub fn value_into(&self, number: u64, version: u32, out: &mut Vec<u8>) {
        match &self.source {
            Source::Small(generator) => {
                generator.value_into(number, out);
                // The first half repeats in the second: a version changes both, and neither's start.
                if version != 0 {
                    let half = out.len().div_ceil(2);
                    for at in [10, half + 10] {
                        out[at..at + 4].copy_from_slice(&version.to_le_bytes());
                    }
                }
            }
            Source::Json => json_into(self.random(number, version), number, version, out),
            Source::Text => text_into(self.random(number, version), number, out),
            Source::Set { set, starts } => {
                // Another record's value has the same look.
                let other = (number + u64::from(version) * 7919) % self.n_records;
                out.clear();
                out.extend_from_slice(set.at(starts[other as usize]).1);
            }
        }
    }

    /// Whether `value` can be one of record `number`: a check cheap enough for a measured loop. `changed` says
    /// that records were overwritten, which a set cannot tell apart.
    pub fn is_right(&self, number: u64, value: &[u8], changed: bool) -> bool {
        match &self.source {
            Source::Small(generator) => generator.value_begins_right(number, value),
            Source::Json => {
                let mut start = [0; 26];
                let n = write_start(&mut start, b"{\"id\":", number, b",");
                value.len() >= 300 && value.starts_with(&start[..n])
            }
            Source::Text => {
                let mut start = [0; 26];
                let n = write_start(&mut start, b"# ", number, b"\n");
                value.len() == TEXT_LEN && value.starts_with(&start[..n])
            }
            Source::Set { set, starts } => changed || set.at(starts[number as usize]).1 == value,
        }
    }

    /// Bytes of keys and values; of made-up records an estimate from every thousandth, good to a percent.
    pub fn raw_bytes(&self) -> u64 {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let step = if let Source::Set { .. } = self.source { 1 } else { (self.n_records / 1000).max(1) };
        let (mut bytes, mut n) = (0u64, 0u64);
        for number in (0..self.n_records).step_by(step as usize) {
            self.key_into(number, &mut key);
            self.value_into(number, 0, &mut value);
            bytes += (key.len() + value.len()) as u64;
            n += 1;
        }
        (u128::from(bytes) * u128::from(self.n_records) / u128::from(n)) as u64
    }

    fn random(&self, number: u64, version: u32) -> Random {
        let place = number.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ u64::from(version).wrapping_mul(0xa076_1d64_78bd_642f);
        Random::new(self.seed ^ place)
    }
}

fn put_decimal(out: &mut Vec<u8>, prefix: &[u8], number: u64, digits: usize) {
    out.extend_from_slice(prefix);
    let begin = out.len();
    out.resize(begin + digits, b'0');
    let mut rest = number;
    for digit in out[begin..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Writes prefix, number and suffix; how many bytes those are.
fn write_start(out: &mut [u8; 26], prefix: &[u8], number: u64, suffix: &[u8]) -> usize {
    let mut digits = [0; 16];
    let mut n_digits = 0;
    let mut rest = number;
    loop {
        digits[n_digits] = b'0' + (rest % 10) as u8;
        n_digits += 1;
        rest /= 10;
        if rest == 0 || n_digits == digits.len() {
            break;
        }
    }
    let mut n = 0;
    for byte in prefix.iter().chain(digits[..n_digits].iter().rev()).chain(suffix) {
        out[n] = *byte;
        n += 1;
    }
    n
}

const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with", "they", "be", "at",
    "one", "have", "this", "from", "by", "hot", "word", "but", "what", "some", "we", "can", "out", "other", "were",
    "all", "there", "when", "up", "use", "your", "how", "said", "an", "each", "she", "which", "do", "their", "time",
    "if", "will", "way", "about", "many", "then", "them", "write", "would", "like", "so", "these", "her", "long",
    "make", "thing", "river",
];
const CITIES: [&str; 8] = ["Aalborg", "Braga", "Cork", "Dresden", "Espoo", "Faro", "Gdynia", "Haarlem"];

fn json_into(mut random: Random, number: u64, version: u32, out: &mut Vec<u8>) {
    use std::io::Write as _;
    out.clear();
    let (a, b) = (random.next(), random.next());
    let name = |n: u64| [WORDS[(n % 64) as usize], WORDS[(n >> 6 & 63) as usize]];
    let [first, last] = name(a >> 8);
    let city = CITIES[(a % 8) as usize];
    // Writing into a vector cannot fail.
    let _ = write!(
        out,
        "{{\"id\":{number},\"version\":{version},\"name\":\"{first} {last}\",\"email\":\"{first}.{last}.{:x}@example.org\",\
         \"active\":{},\"balance\":{}.{:02},\"city\":\"{city}\",\"created\":\"20{:02}-{:02}-{:02}T{:02}:{:02}:00Z\",\
         \"token\":\"{b:016x}\",\"tags\":[\"{}\",\"{}\"],\"about\":\"",
        b >> 40,
        a & 16 != 0,
        a >> 20 & 0xffff,
        (a >> 36) % 100,
        10 + (b >> 8) % 16,
        1 + (b >> 12) % 12,
        1 + (b >> 16) % 28,
        (b >> 21) % 24,
        (b >> 26) % 60,
        name(b)[0],
        name(b)[1],
    );
    let len = 300 + (a >> 44) as usize % 300;
    while out.len() < len - 2 {
        push_words(random.next(), len - 2, out);
    }
    out.extend_from_slice(b"\"}");
}

fn text_into(mut random: Random, number: u64, out: &mut Vec<u8>) {
    out.clear();
    let mut start = [0; 26];
    let n = write_start(&mut start, b"# ", number, b"\n");
    out.extend_from_slice(&start[..n]);
    while out.len() < TEXT_LEN {
        push_words(random.next(), TEXT_LEN, out);
        // Texts have numbers and names in them too.
        let n = random.next();
        if n.is_multiple_of(4) && out.len() + 20 < TEXT_LEN {
            put_decimal(out, b"", n >> 8, 8);
            out.push(b' ');
        }
    }
}

/// Eight words of a skewed choice, cut at `len_max`.
fn push_words(mut bits: u64, len_max: usize, out: &mut Vec<u8>) {
    for _ in 0..8 {
        let (a, b) = (bits & 63, bits >> 6 & 3);
        bits >>= 8;
        // One in four is any word, the others are of the first half, third and so on.
        let word = WORDS[(a as usize) >> b];
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
    }
    out.truncate(len_max);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_right_and_in_order() {
        for kind in [DataKind::Small, DataKind::Json, DataKind::Text] {
            let data = Data::open(kind, Some(1000), 7, Path::new("")).unwrap();
            let (mut key, mut last, mut value, mut other) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for number in 0..1000 {
                data.key_into(number, &mut key);
                assert!(last < key, "{kind} {number}");
                data.missing_key_into(number, &mut last);
                assert!(last > key);
                data.value_into(number, 0, &mut value);
                data.value_into(number, 3, &mut other);
                assert_ne!(value, other);
                for value in [&value, &other] {
                    assert!(data.is_right(number, value, true), "{kind} {number}");
                    assert!(!data.is_right(number + 1, value, true), "{kind} {number}");
                }
                if kind == DataKind::Json {
                    serde_json::from_slice::<serde_json::Value>(&value).unwrap();
                    assert!((300..=600).contains(&value.len()), "{}", value.len());
                }
            }
            let bytes = data.raw_bytes();
            assert!(bytes > 1000 * 110, "{bytes}");
        }
    }
}
