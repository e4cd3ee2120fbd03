//! What this machine is like, for choices before any of a family's own blocks was seen.

use std::time::Duration;

use crate::clock::Clock;
use crate::frame::{Codec, FrameOptions};
use crate::key::{Kind, Tag};
use crate::options::BLOCK_SIZE_DEFAULT;
use crate::sync::still;
use crate::table::block::BlockBuilder;
use crate::tune::measure::{Candidate, measure};
use crate::tune::sample::RawBlock;

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
pub fn within_budget(clock: &dyn Clock, budget: Duration) -> Candidate {
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
