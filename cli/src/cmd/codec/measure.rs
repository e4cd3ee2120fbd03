//! Tries candidates on blocks: how small they make them, and how long both directions take.
//!
//! All candidates see the same blocks, in turns of a few: whatever the machine does meanwhile, it does to all
//! of them, and when the time is up, all have the same sample, only a smaller one. Blocks come in an order
//! that is spread over the whole, so that any beginning of it is a fair sample. When everything was seen once
//! and there is time left, it is seen again, and the median of a block's times counts.
//!
//! What is decoded is compared with what went in.

use std::time::{Duration, Instant};

use lignite::Compression;
use lignite_codecs::{Dictionary, Filter, compress_filtered, decompress_filtered};

use super::material::Block;
use crate::choice::Choice;
use crate::exit::{Exit, Failure};
use crate::interrupt;

/// What is tried: blocks of one size under one codec.
pub struct Candidate {
    /// The codec, perhaps with a dictionary.
    pub choice: Choice,
    /// Which of the block lists.
    pub list: usize,
    /// Trained on other blocks than those that are measured.
    pub dictionary: Option<Dictionary>,
}

/// What came of a candidate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Blocks measured.
    pub blocks: u64,
    /// Blocks of which a part stayed raw, since it did not shrink enough.
    pub raw_blocks: u64,
    /// Bytes of blocks before.
    pub raw_bytes: u64,
    /// Bytes after.
    pub stored_bytes: u64,
    /// Time to compress all of them.
    pub encode_nanos: u64,
    /// Time to decompress all of them.
    pub decode_nanos: u64,
    /// The median block.
    pub decode_p50_nanos: u64,
    /// One block of a hundred takes longer.
    pub decode_p99_nanos: u64,
}

/// Times that each block is seen, if the time allows.
const REPEATS: usize = 5;
/// Turns into which a list of blocks is cut, at most.
const TURNS: usize = 64;
/// Blocks that share a choice of filter, as the engine probes for one now and then.
const FILTER_EVERY: usize = 16;

/// Tries all candidates until `deadline`, or until all is known well enough. `tick` is told the share that is done.
pub fn measure(
    candidates: &[Candidate],
    lists: &[Vec<Block>],
    deadline: Instant,
    mut tick: impl FnMut(f64),
) -> Result<Vec<Measured>, Failure> {
    let orders: Vec<Vec<usize>> = lists.iter().map(|list| spread(list.len())).collect();
    let mut trials: Vec<Trial> = candidates.iter().map(|c| Trial::new(lists[c.list].len())).collect();
    let begun = Instant::now();
    let turns = turns();
    let (mut turns_done, mut blocks_done) = (0, 0);
    'all: for _ in 0..REPEATS {
        for &(from, to) in &turns {
            let cut = |order: &[usize]| share_of(order.len(), from)..share_of(order.len(), to);
            let blocks: usize = candidates.iter().map(|c| cut(&orders[c.list]).len()).sum();
            // One turn is needed; another begins only if it will likely end in time.
            let expected = begun.elapsed().mul_f64(blocks as f64 / f64::max(blocks_done as f64, 1.0));
            if blocks_done > 0 && Instant::now() + expected > deadline {
                break 'all;
            }
            for (candidate, trial) in candidates.iter().zip(&mut trials) {
                let (order, list) = (&orders[candidate.list], &lists[candidate.list]);
                for &at in &order[cut(order)] {
                    interrupt::check()?;
                    trial.see(candidate, at, &list[at])?;
                }
            }
            blocks_done += blocks;
            turns_done += 1;
            let by_count = turns_done as f64 / (REPEATS * turns.len()) as f64;
            let by_time =
                begun.elapsed().as_secs_f64() / deadline.saturating_duration_since(begun).as_secs_f64().max(1e-9);
            tick(by_count.max(by_time).min(1.0));
        }
    }
    Ok(trials.into_iter().map(Trial::finish).collect())
}

/// The turns as shares of a list: tiny ones first, for candidates that are very slow.
fn turns() -> Vec<(f64, f64)> {
    let unit = 1.0 / TURNS as f64;
    let mut ends = vec![unit / 64.0, unit / 16.0, unit / 4.0];
    ends.extend((1..=TURNS).map(|n| n as f64 * unit));
    let begins = std::iter::once(0.0).chain(ends.iter().copied());
    begins.zip(ends.iter().copied()).collect()
}

/// A place in a list; the first turn has one block at least.
fn share_of(len: usize, share: f64) -> usize {
    if share == 0.0 { 0 } else { ((len as f64 * share).ceil() as usize).min(len) }
}

/// All numbers below `n`, each beginning of them spread over the whole.
fn spread(n: usize) -> Vec<usize> {
    let bits = usize::BITS - n.saturating_sub(1).leading_zeros();
    let reversed = |i: usize| if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
    (0..1usize << bits).map(reversed).filter(|&i| i < n).collect()
}

/// One candidate at work.
struct Trial {
    seen: Vec<Option<Seen>>,
    filters: Vec<Option<Option<Filter>>>,
    stored: Vec<u8>,
    back: Vec<u8>,
}

/// What is known about one block.
struct Seen {
    raw_len: usize,
    stored_len: usize,
    is_raw: bool,
    encode_nanos: Vec<u64>,
    decode_nanos: Vec<u64>,
}

impl Trial {
    fn new(n_blocks: usize) -> Trial {
        Trial {
            seen: (0..n_blocks).map(|_| None).collect(),
            filters: vec![None; n_blocks.div_ceil(FILTER_EVERY)],
            stored: Vec::new(),
            back: Vec::new(),
        }
    }

    fn see(&mut self, candidate: &Candidate, at: usize, block: &Block) -> Result<(), Failure> {
        let codec = candidate.choice.codec;
        let dictionary = candidate.dictionary.as_ref();
        let failed = |e: lignite_codecs::CodecError| Failure::new(Exit::Unsupported, format!("{codec}: {e}"));
        let filter = self.filter(candidate, at, block).map_err(failed)?;

        let (mut stored_len, mut is_raw) = (0, false);
        let (mut encode, mut decode) = (Duration::ZERO, Duration::ZERO);
        for (n, part) in block.parts().enumerate() {
            let filter = if n + 1 == block.parts().count() { filter } else { None };
            self.stored.clear();
            let begun = Instant::now();
            if codec == lignite::Codec::None {
                self.stored.extend_from_slice(part);
            } else {
                compress_filtered(codec, filter, part, dictionary, &mut self.stored).map_err(failed)?;
            }
            encode += begun.elapsed();
            let saving_min = (part.len() * usize::from(Compression::default().min_saving)).div_ceil(256);
            let keep_raw = codec == lignite::Codec::None || self.stored.len() + saving_min > part.len();
            self.back.resize(part.len(), 0);
            if keep_raw {
                stored_len += part.len();
                is_raw |= codec != lignite::Codec::None;
                let begun = Instant::now();
                self.back.copy_from_slice(std::hint::black_box(part));
                decode += begun.elapsed();
            } else {
                stored_len += self.stored.len();
                let begun = Instant::now();
                decompress_filtered(codec.id(), filter, &self.stored, &mut self.back, dictionary).map_err(failed)?;
                decode += begun.elapsed();
            }
            if self.back != part {
                return Err(Failure::new(Exit::Corruption, format!("{codec} does not read back what it wrote")));
            }
        }
        let seen = self.seen[at].get_or_insert_with(|| Seen {
            raw_len: block.len(),
            stored_len,
            is_raw,
            encode_nanos: Vec::new(),
            decode_nanos: Vec::new(),
        });
        seen.encode_nanos.push(encode.as_nanos() as u64);
        seen.decode_nanos.push(decode.as_nanos() as u64);
        Ok(())
    }

    /// What the values of this block pass through before their codec. Bytes that are no records have no rows.
    fn filter(
        &mut self,
        candidate: &Candidate,
        at: usize,
        block: &Block,
    ) -> Result<Option<Filter>, lignite_codecs::CodecError> {
        let codec = candidate.choice.codec;
        if block.keys.is_empty() || block.values.is_empty() || codec == lignite::Codec::None {
            return Ok(None);
        }
        let slot = &mut self.filters[at / FILTER_EVERY];
        if let Some(known) = slot {
            return Ok(*known);
        }
        let found = Filter::probe(codec, &block.values, candidate.dictionary.as_ref())?;
        *slot = Some(found);
        Ok(found)
    }

    fn finish(self) -> Measured {
        let mut sum = Measured::default();
        let mut decodes = Vec::new();
        for mut seen in self.seen.into_iter().flatten() {
            sum.blocks += 1;
            sum.raw_blocks += u64::from(seen.is_raw);
            sum.raw_bytes += seen.raw_len as u64;
            sum.stored_bytes += seen.stored_len as u64;
            sum.encode_nanos += median(&mut seen.encode_nanos);
            let decode = median(&mut seen.decode_nanos);
            sum.decode_nanos += decode;
            decodes.push(decode);
        }
        decodes.sort_unstable();
        let at = |percent: usize| decodes.get((decodes.len() * percent / 100).min(decodes.len().saturating_sub(1)));
        sum.decode_p50_nanos = at(50).copied().unwrap_or(0);
        sum.decode_p99_nanos = at(99).copied().unwrap_or(0);
        sum
    }
}

/// The lower of the middle ones: an interruption only ever adds.
fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::choice::parse_choices;

    #[test]
    fn an_order_that_is_spread_has_everything_once() {
        for n in [0, 1, 2, 3, 7, 8, 100] {
            let mut order = spread(n);
            if n == 8 {
                assert_eq!(order, [0, 4, 2, 6, 1, 5, 3, 7]);
            }
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn turns_cover_a_list_without_gaps() {
        let turns = turns();
        assert_eq!((turns[0].0, turns.last().unwrap().1), (0.0, 1.0));
        assert!(turns.windows(2).all(|w| w[0].1 == w[1].0));
        for len in [1, 5, 1000] {
            let covered: usize = turns.iter().map(|t| share_of(len, t.1) - share_of(len, t.0)).sum();
            assert_eq!((covered, share_of(len, turns[0].1)), (len, 1));
        }
    }

    #[test]
    fn everything_is_measured_where_there_is_time_and_something_where_there_is_none() {
        let text =
            |i: usize| format!("{i} lines of text, of which {i} are like all the others; ").repeat(20).into_bytes();
        let blocks: Vec<Block> = (0..90).map(|i| Block { keys: text(i)[..90].to_vec(), values: text(i) }).collect();
        let raw: usize = blocks.iter().map(Block::len).sum();
        let choices = parse_choices("none,lz4,zstd:1,brotli:2").unwrap();
        let candidates: Vec<Candidate> =
            choices.into_iter().map(|choice| Candidate { choice, list: 0, dictionary: None }).collect();
        let lists = [blocks];
        let measured =
            measure(&candidates, &lists, Instant::now() + Duration::from_secs(60), |share| assert!(share <= 1.0))
                .unwrap();
        for m in &measured {
            assert_eq!((m.blocks, m.raw_bytes), (90, raw as u64));
            assert!(m.decode_p50_nanos <= m.decode_p99_nanos && m.decode_nanos > 0);
        }
        assert_eq!(measured[0].stored_bytes, raw as u64);
        assert!(5 * measured[2].stored_bytes < raw as u64, "{:?}", measured[2]);

        let measured = measure(&candidates, &lists, Instant::now(), |_| ()).unwrap();
        assert!(measured.iter().all(|m| m.blocks == measured[0].blocks && m.blocks >= 1), "{measured:?}");
    }
}
