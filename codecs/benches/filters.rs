//! What filters save on the values of the record sets and on made-up integers that grow, and what they cost.
//!
//! `cargo bench -p lignite-codecs --bench filters -- [--data DIR]` cuts the values of each set into blocks
//! of 4 and 16 KiB, back to back as tables hold them, and compresses 3 MB of them as they are and with the
//! filter that a probe finds (again every 16th block). Sizes are exact; speeds are of processor time, medians
//! of seven.

#![allow(clippy::unwrap_used, reason = "a bench that fails has nothing better to do than to stop")]

use std::path::{Path, PathBuf};

use lignite_codecs::{Codec, Filter, compress_filtered, decompress_filtered};

#[path = "../tests/support/c_lz4.rs"]
mod c_lz4;
#[path = "../tests/support/sets.rs"]
mod sets;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--data").skip(1);
    let directory =
        arguments.next().map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    kernels();
    println!(
        "set KiB codec | plain B  filtered B  ratio | blocks filtered, widths | decode MB/s plain, filtered | probe us"
    );
    for (name, bytes) in integers() {
        for kib in [4, 16] {
            let blocks: Vec<Vec<u8>> = bytes.chunks(kib << 10).map(<[u8]>::to_vec).collect();
            for codec in [Codec::Lz4, Codec::Zstd { level: 1 }, Codec::Zstd { level: 3 }] {
                measure(name, kib, codec, &blocks);
            }
        }
    }
    for set in sets::SETS {
        let records = sets::read(&directory, set);
        for kib in [4, 16] {
            let blocks = values(&records, kib << 10);
            for codec in [Codec::Lz4, Codec::Lz4hc { level: 9 }, Codec::Zstd { level: 1 }, Codec::Zstd { level: 3 }] {
                measure(set, kib, codec, &blocks);
            }
        }
    }
}

/// The filters alone.
fn kernels() {
    let src: Vec<u8> = (0..16_384u32).map(|i| ((i * i) >> 3) as u8).collect();
    let (mut there, mut back) = (vec![0; src.len()], vec![0; src.len()]);
    let transposes = [2, 3, 4, 6, 8, 12, 16, 24, 56, 64, 72, 100, 255].map(|width| Filter::Transpose { width });
    let deltas = [2, 4, 6, 8].map(|width| Filter::Delta { width, big_endian: width == 6 });
    for filter in transposes.into_iter().chain(deltas) {
        let rate = |micros: u64| 2000.0 * src.len() as f64 / micros as f64 / 1000.0;
        let apply = median(|| (0..2000).for_each(|_| filter.apply(std::hint::black_box(&src), &mut there)));
        let revert = median(|| (0..2000).for_each(|_| filter.revert(std::hint::black_box(&there), &mut back)));
        println!("{filter}: apply {:5.2} GB/s, revert {:5.2} GB/s", rate(apply), rate(revert));
    }
}

/// Times in milliseconds, about one a second; a counter with steps below a thousand; offsets with steps below 4000.
fn integers() -> [(&'static str, Vec<u8>); 3] {
    let step = |i: u64, below: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) % below;
    let sum = |start: u64, least: u64, below: u64| {
        (0..400_000).scan(start, move |now, i| {
            *now += least + step(i, below);
            Some(*now)
        })
    };
    [
        ("times", sum(1_700_000_000_000, 950, 100).flat_map(u64::to_be_bytes).collect()),
        ("counters", sum(1_700_000_000, 0, 1000).flat_map(u64::to_le_bytes).collect()),
        ("offsets", sum(0, 40, 3960).flat_map(|n| (n as u32).to_le_bytes()).collect()),
    ]
}

fn measure(set: &str, kib: usize, codec: Codec, blocks: &[Vec<u8>]) {
    let mut filter = None;
    let (mut plain, mut filtered, mut widths) = (Vec::new(), Vec::new(), std::collections::BTreeMap::new());
    let mut probe_us = 0;
    for (i, block) in blocks.iter().enumerate() {
        if i % 16 == 0 {
            probe_us += c_lz4::timed(|| filter = Filter::probe(codec, block, None).unwrap());
        }
        let pack = |filter: Option<Filter>| {
            let mut out = Vec::new();
            compress_filtered(codec, filter, block, None, &mut out).unwrap();
            (filter, out)
        };
        plain.push(pack(None));
        filtered.push(pack(filter));
        if let Some(filter) = filter {
            *widths.entry(filter.to_string()).or_insert(0) += 1;
        }
    }
    let len = |packed: &[(Option<Filter>, Vec<u8>)]| packed.iter().map(|(_, out)| out.len()).sum::<usize>();
    let raw: usize = blocks.iter().map(Vec::len).sum();
    let mut back = vec![0; blocks.iter().map(Vec::len).max().unwrap_or(0)];
    let mut decode = |packed: &[(Option<Filter>, Vec<u8>)]| {
        let us = median(|| {
            for (block, (filter, out)) in blocks.iter().zip(packed) {
                decompress_filtered(codec.id(), *filter, out, &mut back[..block.len()], None).unwrap();
            }
        });
        raw as f64 / us as f64
    };
    let (before, after) = (decode(&plain), decode(&filtered));
    println!(
        "{set:9} {kib:2} {codec:7} | {:8} {:8} {:.4} | {widths:?} of {} | {before:5.0} {after:5.0} | {:.1}",
        len(&plain),
        len(&filtered),
        len(&filtered) as f64 / len(&plain) as f64,
        blocks.len(),
        probe_us as f64 / blocks.len().div_ceil(16) as f64,
    );
}

fn median(mut run: impl FnMut()) -> u64 {
    let mut times: Vec<u64> = (0..7).map(|_| c_lz4::timed(&mut run)).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// 3 MB of blocks of values, in eight runs.
fn values(records: &[u8], block_len: usize) -> Vec<Vec<u8>> {
    let (mut blocks, mut block) = (Vec::new(), Vec::new());
    for (_, value) in sets::records(records) {
        block.extend_from_slice(value);
        if block.len() >= block_len {
            blocks.push(std::mem::take(&mut block));
        }
    }
    sets::runs(blocks)
}
