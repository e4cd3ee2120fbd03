//! Checking a whole table, past every cache: what is damaged, and which keys that concerns.
//!
//! A check goes on behind a bad block, so that a report names all of them. Blocks are read, decoded and looked
//! through by whoever has time; what holds between blocks is looked at in order, by who asked.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;

use crate::checksum::{FileHasher, hash_key};
use crate::error::{Error, Result};
use crate::fs::read_exact_at;
use crate::header::{FileHeader, FileKind, HEADER_LEN};
use crate::key::{SeqNo, Tag, cmp_internal, cmp_upper};
use crate::sync::Arc;
use crate::table::ahead::decode_nanos;
use crate::table::block::Block;
use crate::table::filter::Filter;
use crate::table::footer::Footer;
use crate::table::index::BlockInfo;
use crate::table::line::{By, Line, Task};
use crate::table::properties::Properties;
use crate::table::reader::Table;
use crate::tombstone::Fragments;
use crate::version::{Origin, ShownKey, max_upper};

/// How much of a file is hashed at a time.
const PIECE_LEN: u64 = 1 << 20;
/// Blocks in line at a time, and their bytes before compression.
const LINE_LEN: usize = 16;
const LINE_BYTES: usize = 4 << 20;
/// What reading a block from the page cache and comparing its checksums takes, and looking at one entry.
const BLOCK_NANOS: u64 = 2_000;
const ENTRY_NANOS: u64 = 20;

/// Something wrong with a table.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The table's file.
    pub file: PathBuf,
    /// Where, as a byte offset.
    pub offset: u64,
    /// The keys that it concerns, `after < key <= up to`; none if that is all of them or nobody knows.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
    /// What is wrong.
    pub error: Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}: {}", self.file.display(), self.offset, self.error.message())?;
        if let Some((after, up_to)) = &self.keys {
            write!(f, " (keys after {} up to {})", ShownKey(after), ShownKey(up_to))?;
        }
        Ok(())
    }
}

/// What a check of a table found.
#[derive(Clone, Debug, Default)]
pub struct TableReport {
    /// Bytes of the file that were read for its hash.
    pub bytes: u64,
    /// xxh3-128 of the whole file.
    pub hash: u128,
    /// Data blocks looked at.
    pub blocks: u64,
    /// Point entries seen; only a deep check decodes them.
    pub entries: u64,
    /// All that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl TableReport {
    /// True if nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What the entries add up to, of a block or of several.
#[derive(Default)]
struct Totals {
    entries: u64,
    deletes: u64,
    key_bytes: u64,
    value_bytes: u64,
    first: Option<(Vec<u8>, Tag)>,
    last: Option<(Vec<u8>, Tag)>,
    seqs: Option<(SeqNo, SeqNo)>,
}

impl Totals {
    fn of(block: &Block) -> Totals {
        let end = |i: usize| (block.key(i).to_vec(), block.tag(i));
        let mut totals = Totals { entries: block.len() as u64, ..Totals::default() };
        let Some(last) = block.len().checked_sub(1) else { return totals };
        (totals.first, totals.last) = (Some(end(0)), Some(end(last)));
        let mut seqs = (SeqNo::MAX, 0);
        for i in 0..block.len() {
            let tag = block.tag(i);
            seqs = (seqs.0.min(tag.seq()), seqs.1.max(tag.seq()));
            totals.deletes += u64::from(tag.is_delete());
            totals.key_bytes += block.key(i).len() as u64;
            totals.value_bytes += block.value(i).len() as u64;
        }
        totals.seqs = Some(seqs);
        totals
    }

    /// Adds those of the next block.
    fn append(&mut self, next: Totals) {
        self.entries += next.entries;
        self.deletes += next.deletes;
        self.key_bytes += next.key_bytes;
        self.value_bytes += next.value_bytes;
        if self.first.is_none() {
            self.first = next.first;
        }
        self.last = next.last.or(self.last.take());
        self.seqs = self.seqs.into_iter().chain(next.seqs).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    }
}

/// A block to be checked by itself.
struct Checking {
    table: Arc<Table>,
    blocks: Arc<[BlockInfo]>,
    number: usize,
    is_deep: bool,
    /// What it adds up to, if it was decoded and nothing is wrong.
    outcome: Option<Result<Totals>>,
}

impl Checking {
    fn info(&self) -> &BlockInfo {
        &self.blocks[self.number]
    }

    /// The separator in front of the block.
    fn after(&self) -> &[u8] {
        match self.number {
            0 => &[],
            n => &self.blocks[n - 1].last_key,
        }
    }

    fn nanos(&self) -> u64 {
        let info = self.info();
        match self.is_deep {
            true => {
                BLOCK_NANOS + decode_nanos(info.codec_v, info.raw_len as usize) + ENTRY_NANOS * u64::from(info.entries)
            }
            false => BLOCK_NANOS,
        }
    }
}

impl Task for Checking {
    fn run(&mut self) {
        self.outcome = Some(self.table.verify_block(self.info(), self.is_deep));
    }
}

impl Table {
    /// Checks the file: every checksum and the hash that the manifest states; a deep check decodes
    /// every block too, and checks order, bounds, counts and that the filter has every key. Fails
    /// only if the file cannot be read at all.
    pub fn verify(self: &Arc<Self>, deep: bool) -> Result<TableReport> {
        self.verify_paced(deep, &mut |_| {})
    }

    /// As [`Table::verify`]; `pace` is told the bytes read, as often as some have been, and may take its time.
    pub fn verify_paced(self: &Arc<Self>, deep: bool, pace: &mut dyn FnMut(u64)) -> Result<TableReport> {
        let mut report = TableReport::default();
        self.verify_hash(&mut report, pace)?;
        self.verify_ends(&mut report);
        let tombstones = self.verify_meta(&mut report);
        if let Some(e) = self.filter_error() {
            self.problem(&mut report, self.footer().filter.map_or(0, |h| h.offset), None, e.clone());
        }
        let blocks: Arc<[BlockInfo]> = match self.blocks() {
            Ok(blocks) => blocks.collect(),
            Err(e) => {
                self.problem(&mut report, self.footer().index.offset, None, e);
                return Ok(report);
            }
        };
        let mut totals = Totals::default();
        let mut complete = true;
        let mut line = Line::new(self.pool().cloned());
        let (mut coming, mut in_line, mut in_line_bytes) = (0, 0, 0);
        loop {
            while coming < blocks.len() && in_line < LINE_LEN && (in_line == 0 || in_line_bytes < LINE_BYTES) {
                let (table, blocks) = (self.clone(), blocks.clone());
                let checking = Checking { table, blocks, number: coming, is_deep: deep, outcome: None };
                pace(u64::from(checking.info().stored_len));
                coming += 1;
                in_line += 1;
                in_line_bytes += checking.info().raw_len as usize;
                let nanos = checking.nanos();
                line.push(checking, nanos);
            }
            let Some((mut checking, by)) = line.pop()? else { break };
            in_line -= 1;
            in_line_bytes -= checking.info().raw_len as usize;
            report.blocks += 1;
            if by == By::Nobody {
                checking.run();
            }
            if deep {
                let metrics = self.metrics();
                if by == By::Worker { metrics.decodes_assisted.inc() } else { metrics.decodes_inline.inc() }
            }
            let outcome = checking.outcome.take().unwrap_or_else(|| Ok(Totals::default()));
            let (info, after) = (checking.info(), checking.after());
            let outcome = outcome.and_then(|of_block| verify_order(&totals, &of_block, after).map(|()| of_block));
            match outcome {
                Ok(of_block) => totals.append(of_block),
                Err(e) => {
                    complete = false;
                    self.problem(&mut report, info.offset, Some((after.to_vec(), info.last_key.clone())), e);
                }
            }
        }
        self.metrics().decode_wakeups.add(line.n_wakeups());
        report.entries = totals.entries;
        // After a bad block the sums cannot be right, and saying so would only hide the cause.
        if let Some(tombstones) = tombstones.filter(|_| deep && complete)
            && let Err(e) = self.verify_totals(&totals, &tombstones, blocks.len())
        {
            self.problem(&mut report, self.footer().properties.offset, None, e);
        }
        report.problems.sort_by_key(|p| p.offset);
        Ok(report)
    }

    fn problem(&self, report: &mut TableReport, offset: u64, keys: Option<(Vec<u8>, Vec<u8>)>, error: Error) {
        report.problems.push(Problem { file: self.path().to_path_buf(), offset, keys, error });
    }

    fn verify_hash(&self, report: &mut TableReport, pace: &mut dyn FnMut(u64)) -> Result<()> {
        let size = self.file().len().map_err(|e| Error::io("measure a table", self.path(), e))?;
        let mut hasher = FileHasher::new();
        let mut piece = vec![0; PIECE_LEN.min(size) as usize];
        while report.bytes < size {
            let piece = &mut piece[..PIECE_LEN.min(size - report.bytes) as usize];
            if let Err(e) = read_exact_at(self.file(), piece, report.bytes) {
                let e = Error::io("read a table", self.path(), e);
                self.problem(report, report.bytes, None, e);
                return Ok(());
            }
            hasher.update(piece);
            report.bytes += piece.len() as u64;
            pace(piece.len() as u64);
        }
        report.hash = hasher.digest();
        if size != self.meta().size {
            let e = Error::corruption(format!("the table has {size} bytes, expected {}", self.meta().size));
            self.problem(report, 0, None, e);
        }
        if self.hash_known() && report.hash != self.meta().hash {
            let e = Error::corruption(format!(
                "the hash of the whole file is {:032x}, the manifest says {:032x}",
                report.hash,
                self.meta().hash
            ));
            self.problem(report, 0, None, e);
        }
        Ok(())
    }

    /// Header and footer were checked when the table was opened; they may have changed since.
    fn verify_ends(&self, report: &mut TableReport) {
        let mut header = [0; HEADER_LEN];
        let read = |out: &mut [u8], at| {
            read_exact_at(self.file(), out, at).map_err(|e| Error::io("read a table", self.path(), e))
        };
        let found = read(&mut header, 0).and_then(|()| FileHeader::decode(&header, FileKind::Table));
        match found {
            Ok(h) if Origin { db_id: h.db_id, number: h.number } == self.meta().origin => {}
            Ok(h) => self.problem(report, 0, None, Error::corruption(format!("the header says {h}"))),
            Err(e) => self.problem(report, 0, None, e),
        }
        let at = self.footer().frames().last().map_or(0, |(_, handle)| handle.end());
        let mut bytes = vec![0; self.meta().size.saturating_sub(at) as usize];
        let salt = crate::checksum::place_salt(self.meta().origin.db_id, self.meta().origin.number, at);
        match read(&mut bytes, at).and_then(|()| Footer::decode(&bytes, salt)) {
            Ok(footer) if footer == *self.footer() => {}
            Ok(_) => self.problem(report, at, None, Error::corruption("the footer has changed")),
            Err(e) => self.problem(report, at, None, e),
        }
    }

    /// The blocks behind the data. Returns the tombstones as they are stored, if they can be read.
    fn verify_meta(&self, report: &mut TableReport) -> Option<Fragments> {
        let mut tombstones = Some(Fragments::default());
        for (name, handle) in self.footer().frames() {
            let payload = self.read_meta(handle);
            let result = match name {
                "range tombstones" => payload.and_then(|p| Fragments::decode(&p)).map(|t| tombstones = Some(t)),
                "properties" => payload.and_then(|p| Properties::decode(&p)).map(drop),
                "filter" => payload.and_then(|p| Filter::decode(&p)).map(drop),
                _ => payload.map(drop),
            };
            if let Err(e) = result {
                if name == "range tombstones" {
                    tombstones = None;
                }
                if name != "index" && (name != "filter" || self.filter_error().is_none()) {
                    self.problem(report, handle.offset, None, e.context(name));
                }
            }
        }
        tombstones
    }

    /// Checks what can be known from one block; if `deep`, says what it adds up to.
    fn verify_block(&self, info: &BlockInfo, deep: bool) -> Result<Totals> {
        let handle = info.handle();
        let block = self.read_frame(handle, |table, bytes| {
            let trailer = table.open_frame(handle, bytes)?.trailer;
            let told = (info.entries, info.codec_k, info.codec_v, info.keys_raw, info.raw_len - info.keys_raw);
            let (keys, values) = (trailer.keys, trailer.values);
            let found = (trailer.entries, keys.codec, values.codec, keys.raw_len, values.raw_len);
            if told != found {
                return Err(Error::corruption(format!("the index says {told:?} of a block that says {found:?}")));
            }
            deep.then(|| table.decode_block_as(handle, bytes, None)).transpose()
        })?;
        match block {
            Some(block) => self.verify_entries(info, &block),
            None => Ok(Totals::default()),
        }
    }

    fn verify_entries(&self, info: &BlockInfo, block: &Block) -> Result<Totals> {
        let fail = |what: &str| Err(Error::corruption(what.to_string()));
        if block.is_empty() {
            return fail("a block has no entries");
        }
        // The order within a block is checked by its decoder.
        if block.key(block.len() - 1) > info.last_key.as_slice() {
            return fail("a block ends behind its separator");
        }
        for i in 0..block.len() {
            if self.filter().is_some_and(|f| !f.may_contain(hash_key(block.key(i)))) {
                return fail("the filter denies a key that is there");
            }
            if block.tag(i).is_delete() && !block.value(i).is_empty() {
                return fail("a tombstone has a value");
            }
        }
        let totals = Totals::of(block);
        match totals.seqs {
            Some(seqs) if seqs != (info.seq_min, info.seq_max) => Err(Error::corruption(format!(
                "sequence numbers are {}..={}, the index says {}..={}",
                seqs.0, seqs.1, info.seq_min, info.seq_max
            ))),
            _ => Ok(totals),
        }
    }

    fn verify_totals(&self, totals: &Totals, tombstones: &Fragments, blocks: usize) -> Result<()> {
        let (p, m) = (self.properties(), self.meta());
        let differ = |what: &str, found: &dyn fmt::Display, told: &dyn fmt::Display| {
            Err(Error::corruption(format!("the table has {what} {found}, {told} is stated")))
        };
        let raw = totals.key_bytes + totals.value_bytes;
        let range_deletes = tombstones.len() as u64;
        for (what, found, told) in [
            ("entries", totals.entries, p.entries),
            ("entries", totals.entries, m.entries),
            ("tombstones", totals.deletes, p.deletes),
            ("tombstones", totals.deletes, m.deletes),
            ("range tombstones", range_deletes, p.range_deletes),
            ("range tombstones", range_deletes, m.range_deletes),
            ("bytes of keys", totals.key_bytes, p.raw_key_bytes),
            ("bytes of values", totals.value_bytes, p.raw_value_bytes),
            ("bytes before compression", raw, m.raw_bytes),
            ("blocks", blocks as u64, p.blocks),
        ] {
            if found != told {
                return differ(what, &found, &told);
            }
        }
        let seqs = totals.seqs.into_iter().chain(tombstones.seq_bounds());
        let seqs = seqs.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0));
        for told in [(p.seq_min, p.seq_max), (m.seq_min, m.seq_max)] {
            // Under an override the manifest may state the number that the reader sees.
            let overridden = m.seq_override.is_some_and(|seq| told == (seq, seq));
            if seqs != told && !overridden {
                return differ("sequence numbers", &format!("{seqs:?}"), &format!("{told:?}"));
            }
        }
        let key = |end: &Option<(Vec<u8>, Tag)>| end.as_ref().map(|(key, _)| key.clone());
        let points = key(&totals.first).zip(key(&totals.last).map(Bound::Included));
        let ranges = tombstones.iter().next().zip(tombstones.iter().next_back());
        let ranges = ranges.map(|(a, b)| (a.start.clone(), b.end.clone().map_or(Bound::Unbounded, Bound::Excluded)));
        let bounds = points.into_iter().chain(ranges).reduce(|a, b| (a.0.min(b.0), max_upper(&a.1, &b.1).clone()));
        let Some((smallest, largest)) = bounds else { return Err(Error::corruption("the table is empty")) };
        for (told_smallest, told_largest) in [(&p.smallest, &p.largest), (&m.smallest, &m.largest)] {
            if smallest != *told_smallest || cmp_upper(&largest, told_largest) != Ordering::Equal {
                return Err(Error::corruption("the table's keys are not within the bounds that are stated"));
            }
        }
        Ok(())
    }
}

/// Checks that a block lies behind those in front of it, of which the last separator is `after`.
fn verify_order(before: &Totals, block: &Totals, after: &[u8]) -> Result<()> {
    let (Some((key, tag)), Some((first, first_tag))) = (&before.last, &block.first) else { return Ok(()) };
    if cmp_internal(key, *tag, first, *first_tag) != Ordering::Less {
        return Err(Error::corruption("a block begins before the one in front of it ends"));
    }
    let spans = first == key && first.as_slice() == after;
    if first.as_slice() <= after && !spans {
        return Err(Error::corruption("a block begins before the separator in front of it"));
    }
    Ok(())
}
