//! Histories: lists of operations that are a function of a seed, print as text, one a line, and can
//! be read back, so that a failing one can be cut down by hand or by [`reduce`](crate::reduce).
//!
//! Families, snapshots and iterators live in numbered slots. An operation on an empty slot does
//! nothing, so any part of a history is a history.

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use crate::model::{Change, Range};
use crate::rng::Rng;

/// Slots for families; slot 0 is the family `default` and never empty.
pub const FAMILIES: u8 = 4;
/// Slots for snapshots.
pub const SNAPSHOTS: u8 = 3;
/// Slots for iterators.
pub const ITERATORS: u8 = 3;

/// A value, as seed and length: long ones stay short in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it is made from.
    pub seed: u32,
    /// Bytes.
    pub len: u32,
}

impl Value {
    /// The bytes; about half of them can be compressed away.
    pub fn bytes(self) -> Vec<u8> {
        let mut rng = Rng::new(u64::from(self.seed));
        let mut out = Vec::with_capacity(self.len as usize + 8);
        while out.len() < self.len as usize {
            if rng.chance(50) {
                out.extend_from_slice(b"lignite ");
            } else {
                out.extend_from_slice(&rng.next_u64().to_le_bytes());
            }
        }
        out.truncate(self.len as usize);
        out
    }
}

/// One change, with its value in short form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key gets this value.
    Put(Vec<u8>, Value),
    /// The key goes.
    Delete(Vec<u8>),
    /// Every key of the range goes.
    DeleteRange(Range),
}

impl Write {
    /// The same for the oracle.
    pub fn change(&self) -> Change {
        match self {
            Write::Put(key, value) => Change::Put(key.clone(), value.bytes()),
            Write::Delete(key) => Change::Delete(key.clone()),
            Write::DeleteRange(range) => Change::DeleteRange(range.clone()),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// One change in one family; `true` waits for the device.
    Write(u8, Write, bool),
    /// Changes in several families, all or none.
    Batch(Vec<(u8, Write)>, bool),
    /// Everything acknowledged so far becomes durable.
    Sync,
    /// Point read, now or in a snapshot.
    Get(u8, Option<u8>, Vec<u8>),
    /// Several point reads.
    MultiGet(u8, Option<u8>, Vec<Vec<u8>>),
    /// Reads a whole range, forwards or (`true`) backwards.
    Scan(u8, Option<u8>, Range, bool),
    /// Reads the keys with a prefix.
    Prefix(u8, Option<u8>, Vec<u8>),
    /// Moves a cursor about: seek to the key, then steps, `>` forward and `<` backward.
    Walk(u8, Vec<u8>, Vec<bool>),
    /// Opens an iterator over a range.
    IterOpen(u8, u8, Range),
    /// Takes so many entries from its front or (`true`) back.
    IterStep(u8, u8, bool),
    /// Lets it go.
    IterDrop(u8),
    /// Takes a snapshot.
    SnapshotTake(u8),
    /// Lets it go.
    SnapshotDrop(u8),
    /// Flushes a family.
    Flush(u8),
    /// Compacts a range of a family.
    Compact(u8, Range),
    /// Compacts everything.
    CompactAll,
    /// Closes and opens with options made from the seed; `true` drops the handle instead of closing.
    Reopen(u64, bool),
    /// Copies the database and compares the copy.
    Checkpoint,
    /// Makes a family in an empty slot.
    Create(u8, u64),
    /// Drops a family.
    Drop(u8),
    /// Gives a family a new name, made from the number.
    Rename(u8, u64),
    /// Adds sorted records from outside.
    Ingest(u8, Vec<(Vec<u8>, Value)>),
    /// Changes a family's options (codecs among them) to those made from the seed.
    SetOptions(u8, u64),
    /// Checks the structural truths.
    Check,
}

/// How a random history is made.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Operations.
    pub ops: usize,
    /// How many different keys there are, roughly.
    pub keys: u64,
    /// Longest usual value; now and then there is one forty times as long.
    pub value_len: u32,
    /// Chance of a write to wait for the device, in percent.
    pub sync_percent: u64,
}

/// A history that is a function of `seed` and `mix`.
pub fn generate(seed: u64, mix: Mix) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    (0..mix.ops).map(|_| random_op(&mut rng, mix)).collect()
}

fn random_op(rng: &mut Rng, mix: Mix) -> Op {
    let family = random_family(rng);
    let sync = rng.chance(mix.sync_percent);
    let at = rng.chance(35).then(|| rng.below(SNAPSHOTS.into()) as u8);
    match rng.below(1000) {
        0..440 => Op::Write(family, random_write(rng, mix), sync),
        440..520 => {
            let n = if rng.chance(5) { rng.within(50, 200) } else { rng.below(6) };
            Op::Batch((0..n).map(|_| (random_family(rng), random_write(rng, mix))).collect(), sync)
        }
        520..530 => Op::Sync,
        530..640 => Op::Get(family, at, random_key(rng, mix)),
        640..670 => {
            let n = if rng.chance(10) { 100 } else { 8 };
            Op::MultiGet(family, at, (0..rng.below(n)).map(|_| random_key(rng, mix)).collect())
        }
        670..730 => Op::Scan(family, at, random_range(rng, mix), rng.chance(50)),
        730..750 => {
            let mut key = random_key(rng, mix);
            key.truncate(rng.below(4) as usize);
            Op::Prefix(family, at, key)
        }
        750..780 => {
            let steps = (0..rng.below(20)).map(|_| rng.chance(50)).collect();
            Op::Walk(family, random_key(rng, mix), steps)
        }
        780..800 => Op::IterOpen(rng.below(ITERATORS.into()) as u8, family, random_range(rng, mix)),
        800..840 => Op::IterStep(rng.below(ITERATORS.into()) as u8, rng.within(1, 9) as u8, rng.chance(40)),
        840..850 => Op::IterDrop(rng.below(ITERATORS.into()) as u8),
        850..870 => Op::SnapshotTake(rng.below(SNAPSHOTS.into()) as u8),
        870..890 => Op::SnapshotDrop(rng.below(SNAPSHOTS.into()) as u8),
        890..915 => Op::Flush(family),
        915..930 => Op::Compact(family, random_range(rng, mix)),
        930..936 => Op::CompactAll,
        936..948 => Op::Reopen(rng.next_u64(), rng.chance(30)),
        948..950 => Op::Checkpoint,
        950..962 => Op::Create(rng.within(1, u64::from(FAMILIES) - 1) as u8, rng.next_u64()),
        962..965 => Op::Drop(family),
        965..970 => Op::Rename(family, rng.below(1000)),
        970..985 => {
            let mut records: Vec<_> =
                (0..rng.below(40)).map(|_| (random_key(rng, mix), random_value(rng, mix))).collect();
            records.sort_by(|a, b| a.0.cmp(&b.0));
            records.dedup_by(|a, b| a.0 == b.0);
            Op::Ingest(family, records)
        }
        985..995 => Op::SetOptions(family, rng.next_u64()),
        _ => Op::Check,
    }
}

fn random_family(rng: &mut Rng) -> u8 {
    // The default family gets half of the work, so that its levels fill.
    if rng.chance(50) { 0 } else { rng.below(FAMILIES.into()) as u8 }
}

fn random_write(rng: &mut Rng, mix: Mix) -> Write {
    match rng.below(100) {
        0..68 => Write::Put(random_key(rng, mix), random_value(rng, mix)),
        68..92 => Write::Delete(random_key(rng, mix)),
        _ => Write::DeleteRange(random_range(rng, mix)),
    }
}

fn random_value(rng: &mut Rng, mix: Mix) -> Value {
    let len = match rng.below(100) {
        0..5 => 0,
        5..97 => rng.below(u64::from(mix.value_len) + 1),
        _ => rng.below(u64::from(mix.value_len) * 40 + 1),
    };
    Value { seed: rng.next_u64() as u32, len: len as u32 }
}

fn random_key(rng: &mut Rng, mix: Mix) -> Vec<u8> {
    let n = rng.below(mix.keys);
    match rng.below(100) {
        // Empty, and bytes at both ends of the order.
        0 => Vec::new(),
        1 => vec![0; rng.below(4) as usize],
        2 => vec![0xff; rng.below(4) as usize],
        // Long, with a long part in common.
        3 => {
            let mut key = vec![b'k'; rng.below(600) as usize];
            key.extend_from_slice(&n.to_be_bytes());
            key
        }
        4..30 => format!("{n}").into_bytes(),
        _ => format!("key{n:06}").into_bytes(),
    }
}

fn random_range(rng: &mut Rng, mix: Mix) -> Range {
    let bound = |rng: &mut Rng| match rng.below(10) {
        0 => Bound::Unbounded,
        1..5 => Bound::Excluded(random_key(rng, mix)),
        _ => Bound::Included(random_key(rng, mix)),
    };
    // Mostly short ranges, so that range deletes leave something over.
    if rng.chance(80) {
        let n = rng.below(mix.keys);
        let end = n + rng.below(mix.keys / 20 + 2);
        let (start, end) = (format!("key{n:06}").into_bytes(), format!("key{end:06}").into_bytes());
        let start = if rng.chance(80) { Bound::Included(start) } else { Bound::Excluded(start) };
        let end = if rng.chance(80) { Bound::Excluded(end) } else { Bound::Included(end) };
        return (start, end);
    }
    (bound(rng), bound(rng))
}

// The text form. Fields are separated by single spaces; bytes are printed as they are where they
// are letters, digits or marks, else as `\xNN`; nothing is `\e`.

/// The text of a history.
pub fn print(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("{op}\n")).collect()
}

/// The history that a text stands for. Empty lines and lines that begin with `#` are skipped.
pub fn parse(text: &str) -> Result<Vec<Op>, String> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.parse().map_err(|e| format!("{e} in line: {l}")))
        .collect()
}

fn show(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\\e".to_string();
    }
    let mut out = String::new();
    for &b in bytes {
        if b.is_ascii_alphanumeric() || b == b'/' || b == b'-' || b == b'_' {
            out.push(b as char);
        } else {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

fn show_range(range: &Range) -> String {
    let bound = |b: &Bound<Vec<u8>>| match b {
        Bound::Included(k) => format!("={}", show(k)),
        Bound::Excluded(k) => format!("!{}", show(k)),
        Bound::Unbounded => "*".to_string(),
    };
    format!("{} {}", bound(&range.0), bound(&range.1))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.seed, self.len)
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::Put(key, value) => write!(f, "put {} {value}", show(key)),
            Write::Delete(key) => write!(f, "delete {}", show(key)),
            Write::DeleteRange(range) => write!(f, "delete-range {}", show_range(range)),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = |sync: &bool| if *sync { "sync" } else { "buffered" };
        let at = |at: &Option<u8>| at.map_or("now".to_string(), |s| s.to_string());
        let way = |back: &bool| if *back { "back" } else { "forth" };
        match self {
            Op::Write(family, write, sync) => write!(f, "write {family} {} {write}", how(sync)),
            Op::Batch(writes, sync) => {
                write!(f, "batch {}", how(sync))?;
                writes.iter().try_for_each(|(family, write)| write!(f, " {family} {write}"))
            }
            Op::Sync => write!(f, "sync"),
            Op::Get(family, s, key) => write!(f, "get {family} {} {}", at(s), show(key)),
            Op::MultiGet(family, s, keys) => {
                write!(f, "multi-get {family} {}", at(s))?;
                keys.iter().try_for_each(|k| write!(f, " {}", show(k)))
            }
            Op::Scan(family, s, range, back) => {
                write!(f, "scan {family} {} {} {}", at(s), way(back), show_range(range))
            }
            Op::Prefix(family, s, prefix) => write!(f, "prefix {family} {} {}", at(s), show(prefix)),
            Op::Walk(family, key, steps) => {
                let steps: String = steps.iter().map(|s| if *s { '>' } else { '<' }).collect();
                write!(f, "walk {family} {} |{steps}", show(key))
            }
            Op::IterOpen(slot, family, range) => write!(f, "iter-open {slot} {family} {}", show_range(range)),
            Op::IterStep(slot, n, back) => write!(f, "iter-step {slot} {n} {}", way(back)),
            Op::IterDrop(slot) => write!(f, "iter-drop {slot}"),
            Op::SnapshotTake(slot) => write!(f, "snapshot-take {slot}"),
            Op::SnapshotDrop(slot) => write!(f, "snapshot-drop {slot}"),
            Op::Flush(family) => write!(f, "flush {family}"),
            Op::Compact(family, range) => write!(f, "compact {family} {}", show_range(range)),
            Op::CompactAll => write!(f, "compact-all"),
            Op::Reopen(seed, dropped) => write!(f, "reopen {seed} {}", if *dropped { "drop" } else { "close" }),
            Op::Checkpoint => write!(f, "checkpoint"),
            Op::Create(slot, seed) => write!(f, "create {slot} {seed}"),
            Op::Drop(slot) => write!(f, "drop {slot}"),
            Op::Rename(slot, n) => write!(f, "rename {slot} {n}"),
            Op::Ingest(slot, records) => {
                write!(f, "ingest {slot}")?;
                records.iter().try_for_each(|(key, value)| write!(f, " {} {value}", show(key)))
            }
            Op::SetOptions(slot, seed) => write!(f, "set-options {slot} {seed}"),
            Op::Check => write!(f, "check"),
        }
    }
}

struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl Words<'_> {
    fn word(&mut self) -> Result<&str, String> {
        self.0.next().ok_or_else(|| "a field is missing".to_string())
    }

    fn is_empty(&mut self) -> bool {
        self.0.peek().is_none()
    }

    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("{word} is no number"))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, String> {
        unshow(self.word()?)
    }

    fn value(&mut self) -> Result<Value, String> {
        let word = self.word()?;
        let (seed, len) = word.split_once('x').ok_or_else(|| format!("{word} is no value"))?;
        let number = |s: &str| s.parse().map_err(|_| format!("{s} is no number"));
        Ok(Value { seed: number(seed)?, len: number(len)? })
    }

    fn bound(&mut self) -> Result<Bound<Vec<u8>>, String> {
        let word = self.word()?;
        match word.split_at(1) {
            ("=", key) => unshow(key).map(Bound::Included),
            ("!", key) => unshow(key).map(Bound::Excluded),
            ("*", "") => Ok(Bound::Unbounded),
            _ => Err(format!("{word} is no bound")),
        }
    }

    fn range(&mut self) -> Result<Range, String> {
        Ok((self.bound()?, self.bound()?))
    }

    fn one_of(&mut self, no: &str, yes: &str) -> Result<bool, String> {
        let word = self.word()?;
        if word == yes {
            Ok(true)
        } else if word == no {
            Ok(false)
        } else {
            Err(format!("{word} is neither {no} nor {yes}"))
        }
    }

    fn at(&mut self) -> Result<Option<u8>, String> {
        let word = self.word()?;
        if word == "now" {
            return Ok(None);
        }
        word.parse().map(Some).map_err(|_| format!("{word} is no snapshot"))
    }

    fn write(&mut self) -> Result<Write, String> {
        match self.word()? {
            "put" => Ok(Write::Put(self.bytes()?, self.value()?)),
            "delete" => Ok(Write::Delete(self.bytes()?)),
            "delete-range" => Ok(Write::DeleteRange(self.range()?)),
            word => Err(format!("{word} is no change")),
        }
    }
}

fn unshow(text: &str) -> Result<Vec<u8>, String> {
    if text == "\\e" {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            let digits = hex.get(..2).ok_or("a byte is cut short")?;
            out.push(u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?);
            rest = &hex[2..];
        } else {
            let mut buffer = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(out)
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Op, String> {
        let mut words = Words(line.split_whitespace().peekable());
        let w = &mut words;
        let verb = w.word()?.to_string();
        let op = match verb.as_str() {
            "write" => {
                let family = w.number()?;
                let sync = w.one_of("buffered", "sync")?;
                Op::Write(family, w.write()?, sync)
            }
            "batch" => {
                let sync = w.one_of("buffered", "sync")?;
                let mut writes = Vec::new();
                while !w.is_empty() {
                    writes.push((w.number()?, w.write()?));
                }
                Op::Batch(writes, sync)
            }
            "sync" => Op::Sync,
            "get" => Op::Get(w.number()?, w.at()?, w.bytes()?),
            "multi-get" => {
                let (family, at) = (w.number()?, w.at()?);
                let mut keys = Vec::new();
                while !w.is_empty() {
                    keys.push(w.bytes()?);
                }
                Op::MultiGet(family, at, keys)
            }
            "scan" => {
                let (family, at, back) = (w.number()?, w.at()?, w.one_of("forth", "back")?);
                Op::Scan(family, at, w.range()?, back)
            }
            "prefix" => Op::Prefix(w.number()?, w.at()?, w.bytes()?),
            "walk" => {
                let (family, key) = (w.number()?, w.bytes()?);
                Op::Walk(family, key, w.word()?.chars().skip(1).map(|c| c == '>').collect())
            }
            "iter-open" => Op::IterOpen(w.number()?, w.number()?, w.range()?),
            "iter-step" => Op::IterStep(w.number()?, w.number()?, w.one_of("forth", "back")?),
            "iter-drop" => Op::IterDrop(w.number()?),
            "snapshot-take" => Op::SnapshotTake(w.number()?),
            "snapshot-drop" => Op::SnapshotDrop(w.number()?),
            "flush" => Op::Flush(w.number()?),
            "compact" => Op::Compact(w.number()?, w.range()?),
            "compact-all" => Op::CompactAll,
            "reopen" => Op::Reopen(w.number()?, w.one_of("close", "drop")?),
            "checkpoint" => Op::Checkpoint,
            "create" => Op::Create(w.number()?, w.number()?),
            "drop" => Op::Drop(w.number()?),
            "rename" => Op::Rename(w.number()?, w.number()?),
            "ingest" => {
                let family = w.number()?;
                let mut records = Vec::new();
                while !w.is_empty() {
                    records.push((w.bytes()?, w.value()?));
                }
                Op::Ingest(family, records)
            }
            "set-options" => Op::SetOptions(w.number()?, w.number()?),
            "check" => Op::Check,
            word => return Err(format!("{word} is no operation")),
        };
        if w.is_empty() { Ok(op) } else { Err("there is more in the line than the operation takes".to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_history_can_be_read_back() {
        for seed in 0..20 {
            let ops = generate(seed, Mix { ops: 500, keys: 300, value_len: 50, sync_percent: 10 });
            assert_eq!(parse(&print(&ops)).unwrap(), ops, "seed {seed}");
        }
    }

    #[test]
    fn a_typing_error_is_named() {
        assert!(parse("put 0 a").unwrap_err().contains("put is no operation"));
        assert!(parse("flush").unwrap_err().contains("missing"));
        assert!(parse("sync now").unwrap_err().contains("more"));
    }
}
