//! The record sets of `shared/data`, cut for measurement.

#![allow(dead_code, clippy::unwrap_used, reason = "each bench takes a part of it, and may stop where it fails")]

use std::path::Path;

pub const SETS: [&str; 6] = ["packages", "contents", "mdn", "flights", "digests", "blobs"];

const MEASURED_LEN: usize = 3 << 20;
const TRAINING_LEN: usize = 1536 << 10;
const RUNS: usize = 8;

/// One set, decompressed.
pub fn read(directory: &Path, set: &str) -> Vec<u8> {
    let stored = std::fs::read(directory.join(format!("{set}.kv.zst"))).unwrap();
    let mut bytes = Vec::with_capacity(128 << 20);
    zstd_safe::decompress(&mut bytes, &stored).unwrap();
    bytes
}

/// Its keys and values.
pub fn records(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (key_len, behind) = rest.split_first_chunk::<4>()?;
        let (value_len, behind) = behind.split_first_chunk::<4>()?;
        let (key, behind) = behind.split_at(u32::from_le_bytes(*key_len) as usize);
        let (value, behind) = behind.split_at(u32::from_le_bytes(*value_len) as usize);
        rest = behind;
        Some((key, value))
    })
}

/// 3 MB of the blocks, in eight runs at even distance.
pub fn runs(blocks: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    kept(blocks, |place, gap| place < (MEASURED_LEN / RUNS).min(gap / 2))
}

/// 1.5 MB of the blocks, none of which is in a run.
pub fn between_runs(blocks: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    kept(blocks, |place, gap| place > gap * 6 / 10 && place < gap * 6 / 10 + TRAINING_LEN / RUNS)
}

fn kept(blocks: Vec<Vec<u8>>, is_wanted: impl Fn(usize, usize) -> bool) -> Vec<Vec<u8>> {
    let gap = blocks.iter().map(Vec::len).sum::<usize>() / RUNS;
    let mut at = 0;
    let mut wanted = |block: &Vec<u8>| {
        let place = at % gap;
        at += block.len();
        is_wanted(place, gap)
    };
    blocks.into_iter().filter(|block| wanted(block)).collect()
}
