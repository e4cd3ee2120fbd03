//! The fuzz targets' bodies over their corpora, in every test run.
//!
//! Each seed runs as it is, cut at every length (at 64 places if it is longer), and changed by
//! seeded mutations. A crash that a fuzzer finds becomes a file in the corpus, and so a test.
#![allow(clippy::disallowed_methods, reason = "the corpora are plain files, outside of any store")]

use std::fs;
use std::path::Path;

use lignite_tests::codecs;

const MUTATIONS: usize = 2000;

#[test]
fn codec_round_trip() {
    replay("codec_round_trip", codecs::round_trip);
}

#[test]
fn codec_hostile() {
    replay("codec_hostile", codecs::hostile);
}

#[test]
fn codec_dictionary() {
    replay("codec_dictionary", codecs::dictionary);
}

fn replay(target: &str, body: fn(&[u8])) {
    let seeds = read_corpus(target);
    assert!(seeds.len() >= 12, "{target} has {} seeds", seeds.len());
    for seed in &seeds {
        body(seed);
        (0..seed.len()).step_by(seed.len() / 64 + 1).for_each(|cut| body(&seed[..cut]));
    }
    let mut random = 0x853c_49e6_748f_ea9b_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n as u64) as usize
    };
    for _ in 0..MUTATIONS {
        let mut data = seeds[below(seeds.len())].clone();
        for _ in 0..=below(4) {
            mutate(&mut data, &mut below);
        }
        body(&data);
    }
}

/// One change as fuzzers make them: a bit, a byte, a length, a copy within, a cut, or growth.
fn mutate(data: &mut Vec<u8>, below: &mut impl FnMut(usize) -> usize) {
    const TELLING: [u8; 6] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];
    if data.is_empty() {
        data.push(below(256) as u8);
        return;
    }
    let at = below(data.len());
    match below(6) {
        0 => data[at] ^= 1 << below(8),
        1 => data[at] = below(256) as u8,
        2 => data[at] = TELLING[below(TELLING.len())],
        3 => {
            let to = below(data.len());
            let len = below(data.len() - at.max(to)) + 1;
            data.copy_within(at..at + len, to);
        }
        4 => {
            let end = at + below((data.len() - at).min(16)) + 1;
            data.drain(at..end);
        }
        _ => {
            let grown: Vec<u8> = (0..=below(16)).map(|_| below(256) as u8).collect();
            data.splice(at..at, grown);
        }
    }
}

fn read_corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path()).unwrap_or_default()).collect();
    // Folders list in any order; the mutations must not depend on it.
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}
