//! Making a dictionary and judging it.
//!
//! The cheap kind first, content under statistics, which takes some 5 ms; training, which takes a hundred,
//! only if the cheap one saves a hundredth: measured on ten sets, the two disagree on whether a
//! dictionary helps only where it hardly matters. What judges is what blocks save that neither has seen.

use crate::error::Result;
use crate::frame::{self, Codec, Dictionary, FrameOptions};
use crate::table::builder::META_CODEC;
use crate::tune::measure::stored_len;
use crate::tune::sample::RawBlock;

/// A dictionary is worth its trouble if it saves this share, the copies in tables counted.
pub const GAIN_MIN: f64 = 0.03;
/// What the cheap kind must save for the expensive one to be tried.
const CHEAP_GAIN_MIN: f64 = 0.01;
/// The most bytes of samples that one is made of: more do not make it better.
const TRAINING_LEN_MAX: usize = 1536 << 10;

/// A dictionary that was judged.
#[derive(Clone)]
pub struct Judged {
    /// It.
    pub dictionary: Dictionary,
    /// The share of the blocks' bytes that it saves; negative if it costs.
    pub gain: f64,
    /// The same, less the copy in each table.
    pub net: f64,
    /// Stored bytes of the blocks held back, with it and their share of the copy.
    pub stored: u64,
}

/// How to judge.
pub struct Judge<'a> {
    /// How blocks are stored without a dictionary.
    pub plain: &'a FrameOptions,
    /// Blocks to judge by.
    pub held: &'a [RawBlock],
    /// What they take without one.
    pub plain_stored: u64,
    /// How many bytes before compression a table will have, for the copy's share.
    pub table_raw: u64,
}

impl Judge<'_> {
    /// What a dictionary saves.
    pub fn judge(&self, dictionary: &Dictionary) -> Result<Judged> {
        let options = FrameOptions { dictionary: Some((0, dictionary.clone())), ..self.plain.clone() };
        let held_raw: u64 = self.held.iter().map(|b| (b.keys.len() + b.values.len()) as u64).sum();
        let share = copy_len(dictionary)? as f64 * held_raw as f64 / self.table_raw.max(1) as f64;
        let blocks = stored_len(&options, self.held)?;
        let stored = blocks + share as u64;
        let saved = |stored: u64| 1.0 - stored as f64 / self.plain_stored.max(1) as f64;
        Ok(Judged { dictionary: dictionary.clone(), gain: saved(blocks), net: saved(stored), stored })
    }

    /// The best dictionary of at most `size` bytes that can be made of `training`; none if there is too little
    /// to learn from, or nothing in common. `train` allows the expensive kind.
    pub fn make(&self, training: &[RawBlock], size: usize, train: bool) -> Result<Option<Judged>> {
        let parts = training_parts(self.plain, training);
        let samples: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        // A dictionary as long as what it is made of would know it by heart and teach nothing.
        let total: usize = samples.iter().map(|s| s.len()).sum();
        let size = size.min(total / 8);
        let level = match self.plain.values {
            Codec::Zstd { level } => level,
            _ => 3,
        };
        let Ok(cheap) = Dictionary::finalize(&samples, size, level) else { return Ok(None) };
        let cheap = self.judge(&cheap)?;
        if !train || cheap.gain < CHEAP_GAIN_MIN {
            return Ok(Some(cheap));
        }
        let Ok(trained) = Dictionary::train(&samples, size) else { return Ok(Some(cheap)) };
        let trained = self.judge(&trained)?;
        Ok(Some(if trained.gain > cheap.gain { trained } else { cheap }))
    }
}

/// The parts of blocks, as a codec is given them, of so many blocks at even distances as are useful.
fn training_parts(options: &FrameOptions, blocks: &[RawBlock]) -> Vec<Vec<u8>> {
    let total: usize = blocks.iter().map(|b| b.keys.len() + b.values.len()).sum();
    let step = total.div_ceil(TRAINING_LEN_MAX).max(1);
    let mut parts = Vec::new();
    for block in blocks.iter().step_by(step) {
        parts.push(block.keys.clone());
        let mut values = block.values.clone();
        if let Some(filter) = options.values_filter {
            filter.apply(&block.values, &mut values);
        }
        parts.push(values);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// What the copy of a dictionary takes in each table.
pub fn copy_len(dictionary: &Dictionary) -> Result<u64> {
    let mut copy = Vec::new();
    frame::encode(&FrameOptions::new(META_CODEC, 0), 0, dictionary.bytes(), &[], 0, None, &mut copy)?;
    Ok(copy.len() as u64)
}
