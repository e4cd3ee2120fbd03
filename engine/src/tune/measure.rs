//! What a way of storing blocks costs: bytes, and time.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::frame::{self, Codec, Dictionary, Frame, FrameOptions};
use crate::table::block::Block;
use crate::tune::sample::RawBlock;

/// What a block's entry in the index takes on disk, about.
const INDEX_ENTRY_LEN: u64 = 16;
/// A block is decoded so often, and the shortest time counts: what the others had more is not the codec's.
const DECODES: usize = 3;
/// Blocks that are looked at for a filter of their values.
const PROBED: usize = 4;

/// One way of storing blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The codec of both parts.
    pub codec: Codec,
    /// Target size of a block before compression, in bytes.
    pub block_size: usize,
    /// With a dictionary, if the codec takes one.
    pub dictionary: bool,
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}{} {} KiB",
            self.codec,
            if self.dictionary { "+dict" } else { "" },
            self.block_size as f64 / 1024.0
        )
    }
}

/// What a candidate makes of sampled blocks. Times are of one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// Which.
    pub candidate: Candidate,
    /// Blocks measured.
    pub blocks: u64,
    /// Bytes of keys in full and values in them.
    pub user_bytes: u64,
    /// Bytes that they take on disk, with trailers, their entries in the index, and the share of the copy of
    /// the dictionary in each table.
    pub stored_bytes: u64,
    /// Time of encoding them all.
    pub encode_nanos: u64,
    /// Time of decoding one, on the average: what a point read outside the cache pays beside the read itself.
    pub decode_nanos: u64,
    /// The same that half of the blocks stay within.
    pub decode_nanos_p50: u64,
    /// The same that 99 blocks of a hundred stay within.
    pub decode_nanos_p99: u64,
}

impl Measured {
    /// Stored bytes for each byte of keys and values.
    pub fn stored_share(&self) -> f64 {
        self.stored_bytes as f64 / self.user_bytes.max(1) as f64
    }
}

/// The options of frames like these, with the filter that the first blocks ask for.
pub fn frame_options(
    keys: Codec,
    values: Codec,
    min_saving: u8,
    transpose: bool,
    dictionary: Option<&Dictionary>,
    blocks: &[RawBlock],
) -> FrameOptions {
    let mut options =
        FrameOptions { keys, values, min_saving, dictionary: dictionary.map(|d| (0, d.clone())), values_filter: None };
    if transpose {
        let step = (blocks.len() / PROBED).max(1);
        let probed = blocks.iter().step_by(step).take(PROBED);
        options.values_filter = probed.filter_map(|b| frame::probe_filter(&options, &b.values).ok().flatten()).next();
    }
    options
}

/// The bytes of these blocks on disk.
pub fn stored_len(options: &FrameOptions, blocks: &[RawBlock]) -> Result<u64> {
    let mut out = Vec::new();
    let mut total = 0;
    for block in blocks {
        out.clear();
        frame::encode(options, 0, &block.keys, &block.values, block.entries, None, &mut out)?;
        total += out.len() as u64 + INDEX_ENTRY_LEN;
    }
    Ok(total)
}

/// Encodes and decodes the blocks; those that time is left for, at least one.
pub fn measure(
    clock: &dyn Clock,
    candidate: Candidate,
    options: &FrameOptions,
    blocks: &[RawBlock],
    until: Option<Duration>,
) -> Result<Measured> {
    let dictionaries: Vec<Dictionary> = options.dictionary.iter().map(|d| d.1.clone()).collect();
    let (mut user_bytes, mut stored_bytes, mut encode_nanos) = (0, 0, 0);
    let mut times = Vec::with_capacity(blocks.len());
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    // Digesting the dictionary and making contexts is no block's affair.
    if let Some(block) = blocks.first() {
        frame::encode(options, 0, &block.keys, &block.values, block.entries, None, &mut out)?;
    }
    for block in blocks {
        out.clear();
        let begun = clock.now();
        let trailer = frame::encode(options, 0, &block.keys, &block.values, block.entries, None, &mut out)?;
        encode_nanos += nanos_since(clock, begun);
        let mut shortest = u64::MAX;
        for _ in 0..DECODES {
            let begun = clock.now();
            let frame = Frame::open(&out, trailer.keys.stored_len, 0)?;
            let values_len = trailer.values.raw_len as usize;
            let keys = frame.keys(&dictionaries, None, &mut scratch)?;
            let decoded = Block::decode(keys, block.entries as usize, values_len, None, |values| {
                frame.values_into(&dictionaries, None, values)
            })?;
            shortest = shortest.min(nanos_since(clock, begun));
            drop(decoded);
        }
        times.push(shortest);
        user_bytes += block.user_bytes;
        stored_bytes += out.len() as u64 + INDEX_ENTRY_LEN;
        if until.is_some_and(|until| clock.now() >= until) {
            break;
        }
    }
    let blocks = times.len() as u64;
    let decode_nanos = times.iter().sum::<u64>() / blocks.max(1);
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    Ok(Measured {
        candidate,
        blocks,
        user_bytes,
        stored_bytes,
        encode_nanos,
        decode_nanos,
        decode_nanos_p50: at(0.5).copied().unwrap_or(0),
        decode_nanos_p99: at(0.99).copied().unwrap_or(0),
    })
}

fn nanos_since(clock: &dyn Clock, begun: Duration) -> u64 {
    clock.now().saturating_sub(begun).as_nanos() as u64
}
