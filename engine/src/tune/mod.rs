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

use crate::clock::Clock;
use crate::error::Result;
use crate::frame::{Codec, Dictionary, FrameOptions};
use crate::options::{CfOptions, Compression, Depth, DictionaryPolicy, Objective};
use crate::sync::{Arc, Mutex};
use crate::table::properties::Promise;
use crate::table::{Table, TableWriteOptions};
use crate::tune::calibrate::within_budget;
use crate::tune::compare::{Wanted, compare};
use crate::tune::dictionary::{GAIN_MIN, Judge, Judged};
use crate::tune::measure::{Candidate, Measured, frame_options, measure, stored_len};
use crate::tune::sample::{RawBlock, Sample, Split, user_bytes};

pub mod calibrate;
pub mod compare;
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
/// A choice stands until so many times the data has been written that it was made for.
const STANDS_FOR: u64 = 8;
/// A dictionary whose gain has fallen below this share of what it was is made anew.
const GAIN_KEPT: f64 = 2.0 / 3.0;
/// The block sizes that are tried where the family names none, each with how much more space it may take than
/// the usual one: a half and a quarter of it are what a point read has to decode.
const SMALL_BLOCKS: [(usize, f64); 2] = [(4 << 10, 0.06), (8 << 10, 0.08)];

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

    /// Forgets what was found out, so that the next job looks anew.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        *state = State::default();
    }

    /// Makes this the family's dictionary, with what it was found to save.
    pub fn adopt(&self, options: &CfOptions, dictionary: Dictionary, gain: f64) {
        let mut state = self.state.lock().take(options);
        state.dictionary = Some(Current { dictionary, gain });
        state.standing = Default::default();
        *self.state.lock() = state;
    }
}

impl State {
    /// A copy to work on without the lock: jobs of one family that overlap find out the same twice at worst.
    fn take(&self, o: &CfOptions) -> State {
        let under = Some((o.compression, o.block_size, o.dictionary, o.transpose, o.objective));
        if self.under != under {
            return State { under, ..State::default() };
        }
        State {
            under,
            dictionary: self.dictionary.clone(),
            dictionary_pause: self.dictionary_pause,
            standing: self.standing.clone(),
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
            // The dictionary is made of blocks of the size that most families end with.
            sizes.splice(0..0, SMALL_BLOCKS.iter().rev().map(|small| small.0));
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
        let large = ways.pop()?;
        let is_small_enough = |way: &Way| {
            let size = way.write.block_size;
            let cost = SMALL_BLOCKS.iter().find(|small| small.0 == size).map_or(0.0, |small| small.1);
            let tolerance = match was {
                Some(was) if was == size as u64 => cost * 1.2,
                Some(_) => cost / 1.2,
                None => cost,
            };
            way.share <= large.share * (1.0 + tolerance)
        };
        ways.sort_by_key(|way| way.write.block_size);
        let small = ways.into_iter().find(is_small_enough);
        let Way { write: mut best, blocks, share, gain, .. } = small.unwrap_or(large);
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
            (_, Some(made)) => Some(made),
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
        let compared = compare(request.clock, &sample, &wanted, &mut |_| true).ok()?;
        let picked = compared.rows[objective::pick(objective, &compared.rows)?];
        let dictionary = compared.dictionary.filter(|_| picked.candidate.dictionary);
        if let Some(dictionary) = &dictionary {
            self.dictionary = Some(Current { dictionary: dictionary.clone(), gain: compared.dictionary_gain });
        }
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

fn promise(measured: &Measured) -> Promise {
    Promise {
        stored_per_mib: (measured.stored_share() * MIB) as u64,
        decode_nanos: measured.decode_nanos,
        decode_nanos_p99: measured.decode_nanos_p99,
        dictionary_gain: 0,
    }
}
