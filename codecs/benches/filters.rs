//! What the byte transpose saves on the values of the record sets, and what it costs.
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

/// The transposition alone.
fn kernels() {
    let src: Vec<u8> = (0..16_384u32).map(|i| ((i * i) >> 3) as u8).collect();
    let (mut there, mut back) = (vec![0; src.len()], vec![0; src.len()]);
    for width in [2, 3, 4, 6, 8, 12, 16, 24, 56, 64, 72, 100, 255] {
        let filter = Filter::Transpose { width };
        let rate = |micros: u64| 2000.0 * src.len() as f64 / micros as f64 / 1000.0;
        let apply = median(|| (0..2000).for_each(|_| filter.apply(std::hint::black_box(&src), &mut there)));
        let revert = median(|| (0..2000).for_each(|_| filter.revert(std::hint::black_box(&there), &mut back)));
        println!("width {width:3}: apply {:5.2} GB/s, revert {:5.2} GB/s", rate(apply), rate(revert));
    }
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
