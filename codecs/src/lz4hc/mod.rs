//! High-effort LZ4: smaller blocks in the standard block format, which every LZ4 decoder reads.
//!
//! The ideas are those of LZ4HC by Yann Collet (hash chains, and a choice among three overlapping
//! matches); the code is our own, and safe.
//!
//! | level | parse | candidates a search |
//! |---|---|---|
//! | 1, 2 | greedy: the longest match here | 2, 4 |
//! | 3 to 9 | lazy: two matches further on may change this one | 4, 8, .. 256 |
//! | 10 to 12 | optimal: the cheapest way through each 16 KiB | 256, 1024, 4096 |
//!
//! Everything works on one *window*: the bytes of the dictionary that an offset can reach, and the
//! block behind them. A match may begin in the one and end in the other, and nothing asks where it
//! lies. Without a dictionary the block is its own window; with one, the thread keeps a window
//! whose dictionary is in place already, and copies the block behind it. What the encoder must know
//! of the dictionary's content is made once, a [`Digest`], and shared by all threads.
//!
//! A thread keeps 256 KiB of tables, with a dictionary its window, and for levels from 10 on 200 KiB
//! more; no block clears any of them.

pub(crate) mod chains;
mod lazy;
mod optimal;
mod sequence;

use std::cell::Cell;

use crate::dict::Dictionary;
use crate::error::CodecError;
use crate::scratch::{self, Slot};
use chains::{Chains, Digest, Finder};
use optimal::Plan;
use sequence::LAST_MATCH_MARGIN;

/// The lowest level.
pub(crate) const LEVEL_MIN: u8 = 1;
/// The highest level.
pub(crate) const LEVEL_MAX: u8 = 12;

/// The longest window that a thread keeps for its next block.
const KEPT_WINDOW_LEN_MAX: usize = 512 << 10;

thread_local! {
    static SCRATCH: Slot<Scratch> = const { Cell::new(None) };
}

/// Appends `src` as an LZ4 block. Fails only if there is no memory.
pub(crate) fn compress(
    src: &[u8],
    level: u8,
    dictionary: Option<&Dictionary>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let bound = sequence::len_max(src.len());
    out.try_reserve(bound).map_err(|_| CodecError::out_of_memory(bound))?;
    let mut scratch = scratch::take(&SCRATCH).unwrap_or_default();
    let result = scratch.compress(src, level, dictionary.map(Dictionary::for_lz4hc), out);
    scratch::keep(&SCRATCH, scratch);
    result
}

/// How a level looks for matches and chooses among them.
#[derive(Clone, Copy)]
struct Effort {
    parse: Parse,
    /// How many candidates a search compares.
    depth: u32,
}

#[derive(Clone, Copy)]
enum Parse {
    Greedy,
    Lazy,
    /// Matches of so many bytes are taken unseen.
    Optimal {
        nice_len: usize,
    },
}

impl Effort {
    fn of(level: u8) -> Effort {
        match level {
            ..=2 => Effort { parse: Parse::Greedy, depth: 2 << (level - LEVEL_MIN) },
            3..=9 => Effort { parse: Parse::Lazy, depth: 4 << (level - 3) },
            10 => Effort { parse: Parse::Optimal { nice_len: 64 }, depth: 256 },
            11 => Effort { parse: Parse::Optimal { nice_len: 128 }, depth: 1024 },
            _ => Effort { parse: Parse::Optimal { nice_len: 512 }, depth: 4096 },
        }
    }
}

/// What a thread keeps.
#[derive(Default)]
struct Scratch {
    chains: Chains,
    plan: Plan,
    window: Vec<u8>,
    /// The digest whose content is the window's beginning, or 0.
    window_of: u64,
}

impl Scratch {
    fn compress(
        &mut self,
        src: &[u8],
        level: u8,
        digest: Option<&Digest>,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let Some(digest) = digest else {
            encode(&mut self.chains, &mut self.plan, src, None, level, out);
            return Ok(());
        };
        let begin = digest.content.len();
        if self.window_of != digest.number {
            self.window_of = 0;
            self.window.clear();
        }
        self.window.truncate(begin);
        let missing = begin + src.len() - self.window.len();
        self.window.try_reserve(missing).map_err(|_| CodecError::out_of_memory(missing))?;
        if self.window_of == 0 {
            self.window.extend_from_slice(&digest.content);
            self.window_of = digest.number;
        }
        self.window.extend_from_slice(src);
        encode(&mut self.chains, &mut self.plan, &self.window, Some(digest), level, out);
        if self.window.capacity() > KEPT_WINDOW_LEN_MAX {
            (self.window, self.window_of) = (Vec::new(), 0);
        }
        Ok(())
    }
}

fn encode(chains: &mut Chains, plan: &mut Plan, window: &[u8], digest: Option<&Digest>, level: u8, out: &mut Vec<u8>) {
    let begin = digest.map_or(0, |digest| digest.content.len());
    let mut writer = sequence::Writer::new(window, begin, out);
    if window.len() - begin > LAST_MATCH_MARGIN {
        let effort = Effort::of(level);
        match digest.map(|digest| &digest.chains) {
            None => parse(Finder::<false>::new(chains, window, None, begin, effort.depth), effort, plan, &mut writer),
            digest => {
                parse(Finder::<true>::new(chains, window, digest, begin, effort.depth), effort, plan, &mut writer)
            }
        }
    }
    writer.finish();
}

fn parse<const DICTIONARY: bool>(
    finder: Finder<'_, DICTIONARY>,
    effort: Effort,
    plan: &mut Plan,
    writer: &mut sequence::Writer<'_>,
) {
    match effort.parse {
        Parse::Greedy => lazy::parse_greedily(finder, writer),
        Parse::Lazy => lazy::parse(finder, writer),
        Parse::Optimal { nice_len } => optimal::parse(finder, plan, nice_len, writer),
    }
}
