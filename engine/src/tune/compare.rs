//! Several ways of storing the same sample, side by side.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::frame::Dictionary;
use crate::tune::dictionary::{self, GAIN_MIN, Judge};
use crate::tune::measure::{Candidate, Measured, frame_options, measure, stored_len};
use crate::tune::sample::{Sample, user_bytes};

/// What to compare.
pub struct Wanted {
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// The most bytes of a dictionary; none for no dictionaries.
    pub dictionary_size: Option<usize>,
    /// A dictionary that is there already.
    pub dictionary: Option<Dictionary>,
    /// As in [`Compression::min_saving`](crate::options::Compression::min_saving).
    pub min_saving: u8,
    /// As in [`CfOptions::transpose`](crate::options::CfOptions::transpose).
    pub transpose: bool,
    /// Bytes before compression that a table will have.
    pub table_raw: u64,
    /// When to stop measuring.
    pub until: Option<Duration>,
}

/// How far a comparison has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompareProgress {
    /// Candidates that have been measured, or left out.
    pub candidates_done: usize,
    /// Candidates in all.
    pub candidates: usize,
}

/// What came of it.
pub struct Compared {
    /// One row a candidate; fewer if time ran out.
    pub rows: Vec<Measured>,
    /// The dictionary that those with one were measured with.
    pub dictionary: Option<Dictionary>,
    /// What it saves of Zstandard's or LZ4's bytes at the block size it was made for.
    pub dictionary_gain: f64,
    /// False if candidates were left out because time ran out or `progress` said so.
    pub complete: bool,
}

/// Measures every candidate on the sample. Candidates with a dictionary are left out where none is to be had.
/// `progress` is called before each, and says whether to go on.
pub fn compare(
    clock: &dyn Clock,
    sample: &Sample,
    wanted: &Wanted,
    progress: &mut dyn FnMut(&CompareProgress) -> bool,
) -> Result<Compared> {
    let mut compared = Compared { rows: Vec::new(), dictionary: None, dictionary_gain: 0.0, complete: true };
    let mut now = CompareProgress { candidates_done: 0, candidates: wanted.candidates.len() };
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
            if !progress(&now) || wanted.until.is_some_and(|until| clock.now() >= until) {
                compared.complete = false;
                return Ok(compared);
            }
            now.candidates_done += 1;
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
    progress(&now);
    Ok(compared)
}
