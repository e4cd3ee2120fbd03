//! Blocks of the record sets through high-effort LZ4 and its reference, C LZ4HC.
//!
//! `cargo bench -p lignite-codecs -- [SETS] [--data DIR] [--levels 1,9] [--dictionary]` cuts 3 MB of each set, in
//! eight runs, into blocks as a table would hold them (keys front-coded, values inline), and prints exact
//! sizes and the processor time, the two taking turns. Medians of seven rounds.

#![allow(clippy::unwrap_used, reason = "a bench that fails has nothing better to do than to stop")]

use std::path::{Path, PathBuf};

use lignite_codecs::{Codec, Dictionary, compress, decompress, id};

#[path = "../tests/support/c_lz4.rs"]
mod c_lz4;
#[path = "../tests/support/sets.rs"]
mod sets;

const ROUNDS: usize = 7;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.remove(at);
        Some(arguments.remove(at))
    };
    let directory =
        option("--data").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let levels = option("--levels").unwrap_or_else(|| "3,6,9,10,12".to_owned());
    let levels: Vec<u8> = levels.split(',').map(|level| level.parse().unwrap()).collect();
    let dictionary = arguments.iter().any(|argument| argument == "--dictionary");
    arguments.retain(|argument| argument != "--dictionary");
    let sets = sets::SETS.iter().filter(|set| arguments.is_empty() || arguments.iter().any(|wanted| wanted == *set));
    let sets: Vec<(&str, Vec<u8>)> = sets.map(|set| (*set, sets::read(&directory, set))).collect();

    println!("set KiB level | ours B  C B  ratio | ours MB/s  C MB/s  ratio | decode ours MB/s  C-encoded MB/s");
    for kib in [4, 16] {
        for &level in &levels {
            let (mut sizes, mut speeds) = (Vec::new(), Vec::new());
            for (set, records) in &sets {
                let (size, speed) = measure(set, records, kib, level, dictionary);
                sizes.push(size);
                speeds.push(speed);
            }
            let mean = |values: &[f64]| (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp();
            println!("geometric means, {kib} KiB, level {level}: size {:.4}, speed {:.2}", mean(&sizes), mean(&speeds));
        }
    }
}

fn measure(set: &str, records: &[u8], kib: usize, level: u8, with_dictionary: bool) -> (f64, f64) {
    let (blocks, samples) = cut(records, kib << 10);
    let raw_len: usize = blocks.iter().map(Vec::len).sum();
    let dictionary = with_dictionary.then(|| {
        let samples: Vec<&[u8]> = samples.iter().map(Vec::as_slice).collect();
        Dictionary::train(&samples, 64 << 10).unwrap()
    });
    let mut c = c_lz4::Encoder::new(i32::from(level), dictionary.as_ref().map(Dictionary::bytes));
    let codec = Codec::Lz4hc { level };
    let (mut ours_len, mut c_len) = (0, 0);
    let (mut ours_us, mut c_us, mut decode_us, mut decode_c_us) = (vec![], vec![], vec![], vec![]);
    let mut stored: Vec<Vec<u8>> = vec![Vec::new(); blocks.len()];
    let mut stored_c: Vec<Vec<u8>> = vec![Vec::new(); blocks.len()];
    for _ in 0..ROUNDS {
        ours_us.push(c_lz4::timed(|| {
            for (block, out) in blocks.iter().zip(&mut stored) {
                out.clear();
                compress(codec, block, dictionary.as_ref(), out).unwrap();
            }
        }));
        c_us.push(c_lz4::timed(|| {
            for (block, out) in blocks.iter().zip(&mut stored_c) {
                c.compress(block, out);
            }
        }));
        ours_len = stored.iter().map(Vec::len).sum();
        c_len = stored_c.iter().map(Vec::len).sum();
        let mut back = vec![0; blocks.iter().map(Vec::len).max().unwrap_or(0)];
        let mut decode = |stored: &[Vec<u8>]| {
            c_lz4::timed(|| {
                for (block, stored) in blocks.iter().zip(stored) {
                    decompress(id::LZ4, stored, &mut back[..block.len()], dictionary.as_ref()).unwrap();
                }
            })
        };
        decode_us.push(decode(&stored));
        decode_c_us.push(decode(&stored_c));
    }
    let rate = |us: &mut Vec<u64>| {
        us.sort_unstable();
        raw_len as f64 / us[us.len() / 2] as f64
    };
    let (ours, reference) = (rate(&mut ours_us), rate(&mut c_us));
    println!(
        "{set:9} {kib:2} {level:2} | {ours_len:8} {c_len:8} {:.4} | {ours:6.1} {reference:6.1} {:.2} | {:6.0} {:6.0}",
        ours_len as f64 / c_len as f64,
        ours / reference,
        rate(&mut decode_us),
        rate(&mut decode_c_us),
    );
    (ours_len as f64 / c_len as f64, ours / reference)
}

/// The blocks to be measured, and others of 16 KiB to train a dictionary on.
fn cut(records: &[u8], block_len: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    (sets::runs(blocks(records, block_len)), sets::between_runs(blocks(records, 16 << 10)))
}

fn blocks(records: &[u8], block_len: usize) -> Vec<Vec<u8>> {
    let (mut blocks, mut block, mut previous, mut n): (_, _, &[u8], _) = (Vec::new(), Vec::new(), &[], 0);
    for (key, value) in sets::records(records) {
        let shared = match n % 16 {
            0 => 0,
            _ => key.iter().zip(previous).take_while(|(a, b)| a == b).count(),
        };
        for mut number in [shared, key.len() - shared, value.len()] {
            while number >= 128 {
                block.push(number as u8 | 128);
                number >>= 7;
            }
            block.push(number as u8);
        }
        block.extend_from_slice(&key[shared..]);
        block.extend_from_slice(value);
        (previous, n) = (key, n + 1);
        if block.len() >= block_len {
            blocks.push(std::mem::take(&mut block));
            n = 0;
        }
    }
    blocks
}
