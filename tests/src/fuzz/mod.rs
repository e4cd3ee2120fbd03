//! Fuzz targets: one body for each decoder, with seeds that are valid.
//!
//! A body takes any bytes and panics if a promise is broken: no panic from inside, no overflow, what is
//! read can be written and is read the same, and where there is one form only it is the same bytes.
//! Many take a *mode* as their first byte: then the checksums over the rest are repaired first, so that
//! what lies behind them is reached. The same bodies run under libFuzzer (`fuzz/`), over the corpora in
//! every test run, and by millions in the programme's kind `fuzz`.

pub mod log;
pub mod oracle;
pub mod repair;
pub mod shelf;
pub mod small;
pub mod table;

#[path = "../../../cli/src/text.rs"]
#[allow(dead_code, reason = "the command line's own module; not all of it is asked for here")]
mod text;

use std::path::Path;

use crate::codecs;
use crate::rng::Rng;

/// A decoder and its seeds.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What runs.
    pub body: fn(&[u8]),
    /// Valid data.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Executions of a unit of the programme, in thousands: some bodies are slow.
    pub thousands: u64,
    /// What an execution may allocate beyond 64 bytes for each one of the data.
    pub memory: i64,
}

const fn target(
    name: &'static str,
    body: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    thousands: u64,
    memory: i64,
) -> Target {
    Target { name, body, seeds, thousands, memory }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("wal_record", log::record, log::record_seeds, 300, 64 << 10),
    target("wal_segments", log::segments, log::segment_seeds, 100, 128 << 10),
    target("version_edit", log::version_edit, log::edit_seeds, 200, 64 << 10),
    target("manifest", log::manifest_file, log::manifest_seeds, 100, 128 << 10),
    target("current", log::current, log::current_seeds, 500, 64 << 10),
    target("header", log::header, log::header_seeds, 1000, 16 << 10),
    target("batch", small::write_batch, small::batch_seeds, 500, 64 << 10),
    target("tombstones", small::tombstones, small::tombstone_seeds, 200, 64 << 10),
    target("file_name", small::file_name, small::name_seeds, 1000, 16 << 10),
    target("typed_text", small::typed_text, small::text_seeds, 100, 64 << 10),
    target("footer", table::footer, table::footer_seeds, 300, 64 << 10),
    target("properties", table::properties, table::property_seeds, 200, 64 << 10),
    // Separators share what lies before them, so an index may be far larger in memory.
    target("index", table::table_index, table::index_seeds, 100, 64 << 20),
    target("filter", table::table_filter, table::filter_seeds, 500, 64 << 10),
    // As may the keys of a block.
    target("block", table::block, table::block_seeds, 200, 64 << 20),
    target("frame", table::any_frame, table::frame_seeds, 100, 4 << 20),
    target("table", table::whole_table, table::table_seeds, 20, 200 << 20),
    target("lz4_oracle", oracle::lz4, oracle::lz4_seeds, 500, 64 << 10),
    target("lz4hc_oracle", oracle::lz4hc, oracle::lz4hc_seeds, 50, 512 << 20),
    target("snappy_oracle", oracle::snappy, oracle::snappy_seeds, 500, 64 << 10),
    target("codec_round_trip", codecs::round_trip, none, 2, 512 << 20),
    target("codec_hostile", codecs::hostile, none, 20, 512 << 20),
    target("codec_dictionary", codecs::dictionary, none, 2, 512 << 20),
];

/// The seeds of targets whose corpus was made by hand.
fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Longest data that mutations make.
const DATA_LEN_MAX: usize = 4096;

/// The corpus of a target as it lies in `fuzz/corpus`, by names; what it makes itself if there is none.
pub fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    // Folders list in any order; the mutations must not depend on it.
    paths.sort();
    let mut out: Vec<Vec<u8>> = paths.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    out.extend((target.seeds)());
    if out.is_empty() {
        out.push(Vec::new());
    }
    out
}

/// Makes the next data out of a corpus, into `data`: one of it, or two spliced, with some changes.
pub fn next(corpus: &[Vec<u8>], rng: &mut Rng, data: &mut Vec<u8>) {
    let pick = |rng: &mut Rng| &corpus[rng.below(corpus.len() as u64) as usize];
    data.clear();
    data.extend_from_slice(pick(rng));
    if rng.below(8) == 0 {
        let other = pick(rng);
        let from = rng.below(other.len() as u64 + 1) as usize;
        data.truncate(rng.below(data.len() as u64 + 1) as usize);
        data.extend_from_slice(&other[from..]);
    }
    for _ in 0..1 + rng.below(4) {
        mutate(data, rng);
    }
    data.truncate(DATA_LEN_MAX);
}

/// One change as fuzzers make them: a bit, a byte, a number, a copy within, a cut, or growth.
pub fn mutate(data: &mut Vec<u8>, rng: &mut Rng) {
    const TELLING: [u8; 8] = [0x00, 0x01, 0x02, 0x7f, 0x80, 0xfe, 0xff, 0x20];
    if data.is_empty() {
        data.push(rng.next_u64() as u8);
        return;
    }
    let random = rng.next_u64();
    let at = (random >> 32) as usize % data.len();
    let byte = (random >> 8) as u8;
    match random & 7 {
        0 | 1 => data[at] ^= 1 << (byte & 7),
        2 => data[at] = byte,
        3 => data[at] = TELLING[usize::from(byte & 7)],
        4 => {
            let to = rng.below(data.len() as u64) as usize;
            let len = rng.below((data.len() - at.max(to)) as u64) as usize + 1;
            data.copy_within(at..at + len, to);
        }
        5 => {
            let end = at + (usize::from(byte) % 16 + 1).min(data.len() - at);
            data.drain(at..end);
        }
        6 => {
            // A number that is one more, one less, or far too large, in any width.
            let width = [1, 2, 4, 8][usize::from(byte & 3)];
            if let Some(bytes) = data.get_mut(at..at + width) {
                let mut number = [0; 8];
                number[..width].copy_from_slice(bytes);
                let number = u64::from_le_bytes(number);
                let changed = match byte >> 2 & 3 {
                    0 => number.wrapping_add(1),
                    1 => number.wrapping_sub(1),
                    2 => u64::MAX >> (byte >> 4),
                    _ => number << 1,
                };
                bytes.copy_from_slice(&changed.to_le_bytes()[..width]);
            }
        }
        _ => {
            let grown = random.to_le_bytes();
            let n = usize::from(byte & 7) + 1;
            data.splice(at..at, grown[..n.min(8)].iter().copied());
        }
    }
}

/// The bytes as hexadecimal digits.
pub fn hex(data: &[u8]) -> String {
    data.iter().map(|b| format!("{b:02x}")).collect()
}
