//! Choosing how a table's blocks are stored: dictionary, codec, block size; by measuring on the entries that
//! are about to be written.
//!
//! A compaction below the young levels samples its inputs ([`sample`]) and asks here. Without an objective
//! the family's options say which codec, and what is found out is whether a dictionary pays
//! ([`dictionary`]): if it does, it is the family's until what it saves has fallen off, then another one is
//! made. With an objective ([`objective`]) all candidates are encoded and decoded ([`measure`]), and the best
//! one stands until eight times as much data has been written as it was chosen for. Each table carries what
//! was promised of it (see [`Promise`]), and a copy of its dictionary, so nothing is kept elsewhere: after an
//! open the family's dictionary is the one in the tables that are compacted.
//!
//! Whatever goes wrong while measuring (a damaged block, say) makes the choice that would have been made
//! without: the job itself will meet it, and say so.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::frame::{Codec, Dictionary, FrameOptions};
use crate::key::{Kind, Tag};
use crate::options::{BLOCK_SIZE_DEFAULT, CfOptions, Compression, Depth, DictionaryPolicy, Objective};
use crate::sync::{Arc, Mutex, still};
use crate::table::block::BlockBuilder;
use crate::table::properties::Promise;
use crate::table::{Table, TableWriteOptions};
use crate::tune::dictionary::{GAIN_MIN, Judge, Judged};
use crate::tune::measure::{Candidate, Measured, frame_options, measure, stored_len};
use crate::tune::sample::{RawBlock, Sample, Split};

pub mod dictionary;
pub mod measure;
pub mod objective;
pub mod sample;

/// Less data than this is written as it would be without looking.
const TUNED_MIN: u64 = 2 << 20;
/// From so much data on a dictionary is trained; below it is made the cheap way.
const TRAINED_MIN: u64 = 4 << 20;
/// What is looked at before anything is tried: noise wants no dictionary, and no small blocks.
const PEEK_LEN: u64 = 512 << 10;
/// What is sampled.
const SAMPLE_LEN: u64 = 3 << 20;
/// The most bytes of blocks that a dictionary is judged by, or a candidate measured on.
const HELD_LEN_MAX: u64 = 512 << 10;
/// A choice stands until so many times the data has been written that it was made for.
const STANDS_FOR: u64 = 8;
/// A dictionary whose gain has fallen below this share of what it was is made anew.
const GAIN_KEPT: f64 = 2.0 / 3.0;
/// The block size that is tried where the family names none: it halves what a point read has to decode.
const BLOCK_SIZE_SMALL: usize = 8 << 10;
/// Small blocks are taken if they take at most so much more space.
const SMALL_COST_MAX: f64 = 0.08;

/// What is about to be written.
pub struct Request<'a> {
    /// The family's options.
    pub options: &'a CfOptions,
    /// How deep it will lie.
    pub depth: Depth,
    /// True if sequence numbers become zero.
    pub zeroed: bool,
    /// Where it comes from.
    pub inputs: &'a [Arc<Table>],
    /// The clock.
    pub clock: &'a dyn Clock,
    /// True if writers wait: take what is quick.
    pub pressed: bool,
}

/// What a family has found out about its data.
#[derive(Default)]
pub struct Tuning {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The options that all this was found out under.
    under: Option<(Compression, usize, DictionaryPolicy, bool, Option<Objective>)>,
    dictionary: Option<Current>,
    /// After a dictionary that saved nothing: not before so much data has come along, or far more at once than
    /// it was tried on.
    dictionary_pause: (u64, u64),
    /// By depth: what stands, and for how much data still.
    standing: [Option<(TableWriteOptions, u64)>; 3],
    /// Dictionaries made so far.
    made: u64,
}

/// One block size, with what it takes.
struct Way {
    write: TableWriteOptions,
    blocks: Split,
    /// Stored bytes for each byte of keys and values.
    share: f64,
    /// What the dictionary saves, if one is used.
    gain: f64,
    /// True if one saves enough at this size, whether or not the copy pays this time.
    helps: bool,
}

#[derive(Clone)]
struct Current {
    dictionary: Dictionary,
    gain: f64,
}

impl Tuning {
    /// How to write a table.
    pub fn table_options(&self, request: &Request<'_>) -> TableWriteOptions {
        let plain = plain(request);
        if request.depth == Depth::Young || request.pressed {
            return plain;
        }
        let raw: u64 = request.inputs.iter().map(|t| t.meta().raw_bytes).sum();
        let o = request.options;
        let mut state = self.state.lock().take(o);
        let chosen = match o.objective {
            Some(objective) => state.choose(request, &plain, objective, raw),
            None => state.with_given_codec(request, &plain, raw),
        };
        *self.state.lock() = state;
        chosen.unwrap_or(plain)
    }

    /// The family's dictionary, if it has one now.
    pub fn dictionary(&self) -> Option<Dictionary> {
        self.state.lock().dictionary.as_ref().map(|c| c.dictionary.clone())
    }

    /// Forgets what was found out, so that the next job looks anew.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        *state = State { made: state.made, ..State::default() };
    }

    /// Makes this the family's dictionary, with what it was found to save.
    pub fn adopt(&self, options: &CfOptions, dictionary: Dictionary, gain: f64) {
        let mut state = self.state.lock().take(options);
        state.dictionary = Some(Current { dictionary, gain });
        state.standing = Default::default();
        *self.state.lock() = state;
    }

    /// How many dictionaries were made since the open.
    pub fn made(&self) -> u64 {
        self.state.lock().made
    }
}

impl State {
    /// A copy to work on without the lock: jobs of one family that overlap find out the same twice at worst.
    fn take(&self, o: &CfOptions) -> State {
        let under = Some((o.compression, o.block_size, o.dictionary, o.transpose, o.objective));
        if self.under != under {
            return State { under, made: self.made, ..State::default() };
        }
        State {
            under,
            dictionary: self.dictionary.clone(),
            dictionary_pause: self.dictionary_pause,
            standing: self.standing.clone(),
            made: self.made,
        }
    }

    /// The codec that the options name, with a dictionary if that pays, in small blocks if they cost little.
    fn with_given_codec(
        &mut self,
        request: &Request<'_>,
        plain: &TableWriteOptions,
        raw: u64,
    ) -> Option<TableWriteOptions> {
        let size = request.options.dictionary.size_for(plain.values)?;
        if raw < TUNED_MIN {
            return None;
        }
        let slot = request.depth as usize;
        let (left, failed_on) = self.dictionary_pause;
        if left > raw && raw < failed_on.saturating_mul(STANDS_FOR / 2) {
            self.dictionary_pause.0 -= raw;
            return self.standing[slot].as_ref().map(|(standing, _)| standing.clone());
        }
        if Sample::take(request.inputs, PEEK_LEN, request.zeroed).ok()?.is_noise(plain.block_size) {
            self.standing[slot] = None;
            self.dictionary_pause = (raw.saturating_mul(STANDS_FOR), raw);
            return None;
        }
        let sample = Sample::take(request.inputs, SAMPLE_LEN, request.zeroed).ok()?;
        let table_raw = table_raw(request.options, raw);
        let mut sizes = vec![plain.block_size];
        if request.options.block_size == 0 {
            sizes.insert(0, BLOCK_SIZE_SMALL);
        }
        let mut ways: Vec<Way> = Vec::new();
        let mut found: Option<Judged> = None;
        for block_size in sizes {
            let blocks = sample.split(block_size).limited();
            let write = TableWriteOptions { block_size, ..plain.clone() };
            let frame = frame_of(&write, &blocks.held, None);
            let plain_stored = stored_len(&frame, &blocks.held).ok()?;
            let judge = Judge { plain: &frame, held: &blocks.held, plain_stored, table_raw };
            found = match &found {
                // Made of blocks of the first size, and judged at each.
                None if ways.is_empty() => self.dictionary(request, &judge, &blocks.training, size, raw).ok()?,
                None => None,
                Some(found) => Some(judge.judge(&found.dictionary).ok()?),
            };
            // Where little is written the copy may cost what the blocks save.
            let used = found.clone().filter(|judged| judged.gain >= GAIN_MIN && judged.net >= GAIN_MIN);
            let stored = used.as_ref().map_or(plain_stored, |judged| judged.stored);
            let share = stored as f64 / user_bytes(&blocks.held) as f64;
            let gain = used.as_ref().map_or(0.0, |judged| judged.gain);
            let write = TableWriteOptions { dictionary: used.map(|judged| judged.dictionary), ..write };
            ways.push(Way { write, blocks, share, gain, helps: found.as_ref().is_some_and(|f| f.gain >= GAIN_MIN) });
        }
        if ways.iter().all(|way| !way.helps) {
            self.dictionary_pause = (raw.saturating_mul(STANDS_FOR), raw);
        }
        // Not to and fro: what was so stays so.
        let was = request.inputs.iter().max_by_key(|t| t.meta().number).map(|t| t.properties());
        let was = was.filter(|p| p.promise.stored_per_mib > 0).map(|p| p.block_size);
        let tolerance = match was {
            Some(size) if size == BLOCK_SIZE_SMALL as u64 => SMALL_COST_MAX * 1.5,
            Some(_) => SMALL_COST_MAX / 1.5,
            None => SMALL_COST_MAX,
        };
        let large = ways.pop()?;
        let Way { write: mut best, blocks, share, gain, .. } = match ways.pop() {
            Some(small) if small.share <= large.share * (1.0 + tolerance) => small,
            _ => large,
        };
        let frame = frame_of(&best, &blocks.held, best.dictionary.as_ref());
        let dictionary = best.dictionary.is_some();
        let candidate = Candidate { codec: best.values, block_size: best.block_size, dictionary };
        let measured = measure(request.clock, candidate, &frame, &blocks.held, None).ok()?;
        best.promise = Promise {
            stored_per_mib: (share * MIB) as u64,
            dictionary_gain: (gain * 1000.0) as u64,
            ..promise(&measured)
        };
        self.standing[slot] = Some((best.clone(), 0));
        Some(best)
    }

    /// The dictionary to write with: the family's, if it still gains what it did, else a new one if that gains
    /// more.
    fn dictionary(
        &mut self,
        request: &Request<'_>,
        judge: &Judge<'_>,
        training: &[RawBlock],
        size: usize,
        raw: u64,
    ) -> Result<Option<Judged>> {
        let current = self.dictionary.clone().or_else(|| inherited(request.inputs));
        let kept = match &current {
            Some(current) => Some(judge.judge(&current.dictionary)?),
            None => None,
        };
        if let (Some(kept), Some(current)) = (&kept, &current)
            && kept.gain >= GAIN_MIN.max(current.gain * GAIN_KEPT)
        {
            self.dictionary = Some(current.clone());
            return Ok(Some(kept.clone()));
        }
        let made = judge.make(training, size, raw >= TRAINED_MIN)?;
        let better = match (kept, made) {
            (Some(kept), Some(made)) if made.gain <= kept.gain => Some(kept),
            (kept, None) => kept,
            (_, Some(made)) => {
                self.made += u64::from(made.gain >= GAIN_MIN);
                Some(made)
            }
        };
        if let Some(judged) = better.as_ref().filter(|j| j.gain >= GAIN_MIN) {
            self.dictionary = Some(Current { dictionary: judged.dictionary.clone(), gain: judged.gain });
        }
        Ok(better)
    }

    /// What serves the objective best.
    fn choose(
        &mut self,
        request: &Request<'_>,
        plain: &TableWriteOptions,
        objective: Objective,
        raw: u64,
    ) -> Option<TableWriteOptions> {
        let slot = request.depth as usize;
        if let Some((standing, left)) = &mut self.standing[slot]
            && *left >= raw
        {
            *left -= raw;
            return Some(standing.clone());
        }
        if raw < TUNED_MIN {
            return self.standing[slot].as_ref().map(|(standing, _)| standing.clone());
        }
        if self.standing[slot].is_none()
            && let Some(before) = chosen_before(request.inputs, plain, objective)
        {
            // By another process, or half a recompression ago.
            self.standing[slot] = Some((before.clone(), raw.saturating_mul(STANDS_FOR)));
            return Some(before);
        }
        let sample = Sample::take(request.inputs, SAMPLE_LEN, request.zeroed).ok()?;
        // The objective decides about the codec too, so here any codec may have one.
        let size = request.options.dictionary.size_for(Codec::Zstd { level: 3 });
        let current = self.dictionary.clone().or_else(|| inherited(request.inputs)).map(|c| c.dictionary);
        let wanted = Wanted {
            candidates: objective::candidates(objective),
            dictionary_size: size,
            dictionary: current,
            min_saving: plain.min_saving,
            transpose: plain.transpose,
            table_raw: table_raw(request.options, raw),
            until: None,
        };
        let compared = compare(request.clock, &sample, &wanted).ok()?;
        let picked = compared.rows[objective::pick(objective, &compared.rows)?];
        let dictionary = compared.dictionary.filter(|_| picked.candidate.dictionary);
        if let Some(dictionary) = &dictionary {
            self.dictionary = Some(Current { dictionary: dictionary.clone(), gain: compared.dictionary_gain });
        }
        self.made += u64::from(compared.made && dictionary.is_some());
        let chosen = TableWriteOptions {
            keys: picked.candidate.codec,
            values: picked.candidate.codec,
            block_size: picked.candidate.block_size,
            dictionary,
            promise: promise(&picked),
            chosen_for: objective.to_string(),
            ..plain.clone()
        };
        self.standing[slot] = Some((chosen.clone(), raw.saturating_mul(STANDS_FOR)));
        Some(chosen)
    }
}

const MIB: f64 = (1 << 20) as f64;

/// True if a table that was written for one depth should be written anew for another.
pub fn owes(options: &CfOptions, from: Depth, to: Depth, raw: u64) -> bool {
    if options.objective.is_some() {
        return from == Depth::Young && to != Depth::Young;
    }
    let (before, after) = (options.compression.codec_at(from), options.compression.codec_at(to));
    let dictionary = from == Depth::Young && to != Depth::Young && options.dictionary.size_for(after).is_some();
    before != after || dictionary && raw >= TUNED_MIN
}

/// True if measuring on the entries of a table of the last level might have found a better way to write it.
pub fn is_worth_a_look(options: &CfOptions, raw: u64) -> bool {
    let tuned = options.objective.is_some() || options.dictionary.size_for(options.compression.bottom).is_some();
    tuned && raw >= TUNED_MIN
}

/// What the options say without anything measured.
fn plain(request: &Request<'_>) -> TableWriteOptions {
    let o = request.options;
    let mut plain = TableWriteOptions::for_depth(o, request.depth);
    let Some(objective) = o.objective else { return plain };
    let mut candidate = objective::unmeasured(objective, request.depth);
    if let Objective::Decode(budget) = objective {
        candidate = within_budget(request.clock, budget);
    }
    if request.pressed {
        candidate = Candidate { codec: Codec::Lz4, ..candidate };
    }
    plain.keys = candidate.codec;
    plain.values = candidate.codec;
    plain.block_size = candidate.block_size;
    plain
}

/// The dictionary that the newest of the inputs was written with.
fn inherited(inputs: &[Arc<Table>]) -> Option<Current> {
    let newest = inputs.iter().filter(|t| !t.dictionaries().is_empty()).max_by_key(|t| t.meta().number)?;
    let gain = newest.properties().promise.dictionary_gain as f64 / 1000.0;
    newest.dictionaries().first().map(|d| Current { dictionary: d.clone(), gain })
}

/// What was chosen for the newest of the inputs that were written for this objective.
fn chosen_before(inputs: &[Arc<Table>], plain: &TableWriteOptions, objective: Objective) -> Option<TableWriteOptions> {
    let name = objective.to_string();
    let newest = inputs.iter().filter(|t| t.properties().chosen_for == name).max_by_key(|t| t.meta().number)?;
    let p = newest.properties();
    let codec: Codec = p.compression.split(' ').next()?.parse().ok()?;
    Some(TableWriteOptions {
        keys: codec,
        values: codec,
        block_size: usize::try_from(p.block_size).ok()?,
        dictionary: newest.dictionaries().first().cloned(),
        promise: p.promise,
        chosen_for: name,
        ..plain.clone()
    })
}

/// How many bytes of keys and values one of the tables will have.
pub fn table_raw(options: &CfOptions, raw: u64) -> u64 {
    // Tables are cut by their size on disk; a factor of three is what compression makes of it, about.
    raw.min(options.table_size.saturating_mul(3)).max(1)
}

fn frame_of(options: &TableWriteOptions, blocks: &[RawBlock], dictionary: Option<&Dictionary>) -> FrameOptions {
    frame_options(options.keys, options.values, options.min_saving, options.transpose, dictionary, blocks)
}

fn user_bytes(blocks: &[RawBlock]) -> u64 {
    blocks.iter().map(|b| b.user_bytes).sum::<u64>().max(1)
}

fn promise(measured: &Measured) -> Promise {
    Promise {
        stored_per_mib: (measured.stored_share() * MIB) as u64,
        decode_nanos: measured.decode_nanos,
        decode_nanos_p99: measured.decode_nanos_p99,
        dictionary_gain: 0,
    }
}

/// What to compare.
pub struct Wanted {
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// The most bytes of a dictionary; none for no dictionaries.
    pub dictionary_size: Option<usize>,
    /// A dictionary that is there already.
    pub dictionary: Option<Dictionary>,
    /// As in [`Compression::min_saving`].
    pub min_saving: u8,
    /// As in [`CfOptions::transpose`].
    pub transpose: bool,
    /// Bytes before compression that a table will have.
    pub table_raw: u64,
    /// When to stop measuring.
    pub until: Option<Duration>,
}

/// What came of it.
pub struct Compared {
    /// One row a candidate; fewer if time ran out.
    pub rows: Vec<Measured>,
    /// The dictionary that those with one were measured with.
    pub dictionary: Option<Dictionary>,
    /// What it saves of Zstandard's or LZ4's bytes at the block size it was made for.
    pub dictionary_gain: f64,
    /// True if it was made for this.
    pub made: bool,
}

/// Measures every candidate on the sample. Candidates with a dictionary are left out where none is to be had.
pub fn compare(clock: &dyn Clock, sample: &Sample, wanted: &Wanted) -> Result<Compared> {
    let mut compared = Compared { rows: Vec::new(), dictionary: None, dictionary_gain: 0.0, made: false };
    let mut sizes: Vec<usize> = wanted.candidates.iter().map(|c| c.block_size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    // One dictionary for all of them, made of blocks of a middling size: which one hardly matters.
    let with_dictionary = wanted.candidates.iter().find(|c| c.dictionary);
    if let (Some(candidate), Some(size), Some(&middle)) =
        (with_dictionary, wanted.dictionary_size, sizes.get(sizes.len() / 2))
    {
        let split = sample.split(middle).limited();
        let plain =
            frame_options(candidate.codec, candidate.codec, wanted.min_saving, wanted.transpose, None, &split.held);
        let plain_stored = stored_len(&plain, &split.held)?;
        let judge = Judge { plain: &plain, held: &split.held, plain_stored, table_raw: wanted.table_raw };
        let kept = match &wanted.dictionary {
            Some(dictionary) => Some(judge.judge(dictionary)?).filter(|judged| judged.gain >= GAIN_MIN),
            None => None,
        };
        compared.made = kept.is_none();
        let judged = match kept {
            Some(judged) => Some(judged),
            None => judge.make(&split.training, size, true)?,
        };
        if let Some(judged) = judged {
            compared.dictionary_gain = judged.gain;
            compared.dictionary = Some(judged.dictionary);
        }
    }
    for size in sizes {
        let split = sample.split(size).limited();
        let held_user = user_bytes(&split.held);
        for candidate in wanted.candidates.iter().filter(|c| c.block_size == size) {
            if wanted.until.is_some_and(|until| clock.now() >= until) {
                return Ok(compared);
            }
            let dictionary = compared.dictionary.as_ref().filter(|_| candidate.dictionary);
            if candidate.dictionary && dictionary.is_none() || split.held.is_empty() {
                continue;
            }
            let codec = candidate.codec;
            let options = frame_options(codec, codec, wanted.min_saving, wanted.transpose, dictionary, &split.held);
            let mut row = measure(clock, *candidate, &options, &split.held, wanted.until)?;
            if let Some(dictionary) = dictionary {
                let copy = dictionary::copy_len(dictionary)?;
                row.stored_bytes += copy * held_user / wanted.table_raw.max(1);
            }
            compared.rows.push(row);
        }
    }
    Ok(compared)
}

impl Split {
    /// With no more blocks held back than are needed; one that was trained on if there would be none.
    fn limited(mut self) -> Split {
        let total: u64 = self.held.iter().map(|b| (b.keys.len() + b.values.len()) as u64).sum();
        let step = usize::try_from(total.div_ceil(HELD_LEN_MAX)).unwrap_or(usize::MAX).max(1);
        let mut number = 0;
        self.held.retain(|_| {
            number += 1;
            (number - 1) % step == 0
        });
        if self.held.is_empty() {
            self.held.extend(self.training.pop());
        }
        self
    }
}

/// What decoding blocks of LZ4 costs on this machine, in nanoseconds for a block of the default size.
/// Measured once in a process.
fn lz4_nanos(clock: &dyn Clock) -> Option<u64> {
    static COST: still::OnceLock<u64> = still::OnceLock::new();
    if let Some(cost) = COST.get() {
        return Some(*cost);
    }
    // Text of words, half of which come again soon.
    let mut state = 1u64;
    let mut text = Vec::new();
    while text.len() < BLOCK_SIZE_DEFAULT {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let word = if state >> 63 == 0 { state >> 58 } else { state >> 40 };
        text.extend_from_slice(format!("{word:x} ").as_bytes());
    }
    let mut keys = Vec::new();
    let mut builder = BlockBuilder::new();
    builder.add(0, b"key", Tag::new(0, Kind::Put), &text);
    builder.encode_keys(&mut keys);
    let block = RawBlock { keys, values: text, entries: 1, user_bytes: BLOCK_SIZE_DEFAULT as u64 };
    let blocks: Vec<RawBlock> = vec![block];
    let candidate = Candidate { codec: Codec::Lz4, block_size: BLOCK_SIZE_DEFAULT, dictionary: false };
    let options = FrameOptions::new(Codec::Lz4, 0);
    let nanos = measure(clock, candidate, &options, &blocks, None).ok()?.decode_nanos;
    // A clock that stands still measures nothing.
    if nanos > 0 {
        let _ = COST.set(nanos);
    }
    (nanos > 0).then_some(nanos)
}

/// What keeps a budget where nothing has been measured of the data itself: LZ4, in blocks small enough.
fn within_budget(clock: &dyn Clock, budget: Duration) -> Candidate {
    // A block of keys alone is decoded at half the speed of text.
    const SPARE: u64 = 3;
    let nanos = lz4_nanos(clock).unwrap_or(0);
    let mut block_size = BLOCK_SIZE_DEFAULT;
    while block_size > 1 << 10
        && nanos * SPARE * block_size as u64 / BLOCK_SIZE_DEFAULT as u64 > budget.as_nanos() as u64
    {
        block_size /= 2;
    }
    Candidate { codec: Codec::Lz4, block_size, dictionary: false }
}
