//! From what a family wants to how its blocks are stored.
//!
//! Everything is measured on the family's own blocks; what is fixed is only which candidates are looked at
//! and how two of them are compared. A block's decoding time is what a point read outside the cache pays,
//! so a smaller block counts as cheaper to read, and what it loses in size is measured too.

use crate::frame::Codec;
use crate::options::{BLOCK_SIZE_DEFAULT, Depth, Objective};
use crate::tune::measure::{Candidate, Measured};

/// What `balanced` gives for a nanosecond of decoding a block, in bytes that 16 KiB of records take. It decides
/// between block sizes as well as codecs, so it is below the tenth of a byte where LZ4 and Zstandard meet.
const BALANCED_BYTES_PER_NANO: f64 = 0.02;
/// The same where reads matter most.
const FAST_BYTES_PER_NANO: f64 = 0.3;
/// `fastest-reads` may be so much larger than Zstandard 1.
const FASTEST_SIZE_MAX: f64 = 1.03;
/// A measured time is this far from what other times and machines' moods make of it: a budget is kept with so
/// much to spare.
const BUDGET_SPARE: f64 = 0.7;
/// The slowest encoder that `smallest` takes, in bytes a second.
const SMALLEST_RATE_MIN: f64 = 15e6;

/// What `fastest-reads` is held against.
const REFERENCE: Candidate =
    Candidate { codec: Codec::Zstd { level: 1 }, block_size: BLOCK_SIZE_DEFAULT, dictionary: false };

/// The candidates that an objective looks at below the young levels.
pub fn candidates(objective: Objective) -> Vec<Candidate> {
    let zstd = |level| Codec::Zstd { level };
    let hc = Codec::Lz4hc { level: 9 };
    let (codecs, sizes): (Vec<Codec>, &[usize]) = match objective {
        Objective::Smallest => (vec![zstd(9), zstd(12)], &[16, 32, 64]),
        Objective::Balanced => (vec![Codec::Lz4, hc, zstd(1), zstd(3)], &[4, 8, 16]),
        Objective::FastestReads => (vec![Codec::Lz4, hc, zstd(1), zstd(3), zstd(9)], &[4, 8, 12, 16]),
        Objective::Decode(_) => (vec![Codec::None, Codec::Lz4, hc, zstd(1), zstd(3), zstd(9)], &[1, 2, 4, 8, 16, 32]),
    };
    let mut all: Vec<Candidate> = Vec::new();
    for codec in codecs {
        for &kib in sizes {
            for dictionary in [false, true] {
                if !dictionary || codec.takes_dictionary() {
                    all.push(Candidate { codec, block_size: kib << 10, dictionary });
                }
            }
        }
    }
    if objective == Objective::FastestReads && !all.contains(&REFERENCE) {
        all.push(REFERENCE);
    }
    all
}

/// The candidate that serves the objective best; none if there are no rows.
pub fn pick(objective: Objective, rows: &[Measured]) -> Option<usize> {
    let size = |m: &Measured| m.stored_share();
    let score = |m: &Measured, lambda: f64| size(m) * BLOCK_SIZE_DEFAULT as f64 + lambda * m.decode_nanos as f64;
    match objective {
        Objective::Smallest => {
            let rate = |m: &Measured| m.user_bytes as f64 / (m.encode_nanos as f64 / 1e9).max(1e-9);
            least(rows, |m| if rate(m) >= SMALLEST_RATE_MIN { size(m) } else { 10.0 + size(m) })
        }
        Objective::Balanced => least(rows, |m| score(m, BALANCED_BYTES_PER_NANO)),
        Objective::FastestReads => {
            let limit = rows.iter().find(|m| m.candidate == REFERENCE).map(|m| size(m) * FASTEST_SIZE_MAX);
            let within = |m: &Measured| limit.is_none_or(|limit| size(m) <= limit);
            least(rows, |m| if within(m) { m.decode_nanos as f64 } else { 1e12 + score(m, FAST_BYTES_PER_NANO) })
        }
        Objective::Decode(budget) => {
            let limit = budget.as_nanos() as f64 * BUDGET_SPARE;
            let within = |m: &Measured| (m.decode_nanos_p99 as f64) <= limit;
            least(rows, |m| if within(m) { size(m) } else { 1e3 + m.decode_nanos_p99 as f64 })
        }
    }
}

/// What an objective takes where nothing has been measured: for young levels, and for little data.
pub fn unmeasured(objective: Objective, depth: Depth) -> Candidate {
    let kib = |codec, kib: usize| Candidate { codec, block_size: kib << 10, dictionary: false };
    match (objective, depth) {
        (Objective::Smallest, Depth::Young) => kib(Codec::Zstd { level: -1 }, 16),
        (Objective::Smallest, _) => kib(Codec::Zstd { level: 9 }, 16),
        (Objective::Balanced, Depth::Young) => kib(Codec::Lz4, 16),
        (Objective::Balanced, Depth::Deep) => kib(Codec::Zstd { level: 1 }, 16),
        (Objective::Balanced, Depth::Bottom) => kib(Codec::Zstd { level: 3 }, 16),
        (Objective::FastestReads, Depth::Young) => kib(Codec::Lz4, 8),
        (Objective::FastestReads, _) => kib(Codec::Lz4hc { level: 9 }, 8),
        (Objective::Decode(_), _) => kib(Codec::Lz4, 4),
    }
}

fn least(rows: &[Measured], cost: impl Fn(&Measured) -> f64) -> Option<usize> {
    rows.iter().enumerate().min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b))).map(|(i, _)| i)
}

/// The rows that no other beats in both size and decoding time.
pub fn pareto(rows: &[Measured]) -> Vec<bool> {
    let beats = |a: &Measured, b: &Measured| {
        let (x, y) = (a.stored_share(), b.stored_share());
        x <= y && a.decode_nanos <= b.decode_nanos && (x < y || a.decode_nanos < b.decode_nanos)
    };
    rows.iter().map(|row| !rows.iter().any(|other| beats(other, row))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn row(codec: Codec, kib: usize, stored: u64, decode: u64) -> Measured {
        Measured {
            candidate: Candidate { codec, block_size: kib << 10, dictionary: false },
            blocks: 100,
            user_bytes: 100_000,
            stored_bytes: stored,
            encode_nanos: 1_000_000,
            decode_nanos: decode,
            decode_nanos_p50: decode,
            decode_nanos_p99: decode * 2,
        }
    }

    fn rows() -> Vec<Measured> {
        let zstd = |level| Codec::Zstd { level };
        vec![
            row(Codec::None, 1, 100_000, 300),
            row(Codec::Lz4, 8, 40_000, 2_000),
            row(Codec::Lz4hc { level: 9 }, 8, 31_000, 2_100),
            row(zstd(1), 16, 30_500, 14_000),
            row(zstd(3), 16, 28_000, 15_000),
            row(zstd(9), 64, 20_000, 60_000),
        ]
    }

    fn picked(objective: Objective) -> Codec {
        let rows = rows();
        rows[pick(objective, &rows).unwrap()].candidate.codec
    }

    #[test]
    fn each_objective_picks_what_it_is_for() {
        assert_eq!(picked(Objective::Smallest), Codec::Zstd { level: 9 });
        // Within 3 % of Zstandard 1, and the fastest of those.
        assert_eq!(picked(Objective::FastestReads), Codec::Lz4hc { level: 9 });
        assert_eq!(picked(Objective::Balanced), Codec::Zstd { level: 9 });
        let within = |micros| picked(Objective::Decode(Duration::from_micros(micros)));
        assert_eq!(within(1000), Codec::Zstd { level: 9 });
        // Twice the average is what 99 of a hundred stay within, and some of the budget is kept to spare.
        assert_eq!(within(44), Codec::Zstd { level: 3 });
        assert_eq!(within(7), Codec::Lz4hc { level: 9 });
        assert_eq!(within(1), Codec::None);
        assert_eq!(pick(Objective::Smallest, &[]), None);
    }

    #[test]
    fn smallest_takes_no_encoder_that_crawls() {
        let mut rows = rows();
        rows[5].encode_nanos = 100_000_000;
        assert_eq!(rows[pick(Objective::Smallest, &rows).unwrap()].candidate.codec, Codec::Zstd { level: 3 });
    }

    #[test]
    fn every_candidate_is_one_that_can_be() {
        for objective in [
            Objective::Smallest,
            Objective::Balanced,
            Objective::FastestReads,
            Objective::Decode(Duration::from_micros(5)),
        ] {
            let all = candidates(objective);
            assert!(all.len() > 5);
            for (at, candidate) in all.iter().enumerate() {
                candidate.codec.validate().unwrap();
                assert!(!candidate.dictionary || candidate.codec.takes_dictionary());
                assert!(!all[..at].contains(candidate), "{candidate} stands twice");
            }
            for depth in [Depth::Young, Depth::Deep, Depth::Bottom] {
                unmeasured(objective, depth).codec.validate().unwrap();
            }
        }
        assert!(candidates(Objective::FastestReads).contains(&REFERENCE));
    }

    #[test]
    fn the_front_is_what_nothing_beats_in_both() {
        let rows = vec![
            row(Codec::None, 16, 100, 1),
            row(Codec::Lz4, 16, 50, 5),
            row(Codec::Snappy, 16, 55, 6),
            row(Codec::Lz4, 16, 50, 5),
        ];
        assert_eq!(pareto(&rows), [true, true, false, true]);
    }
}
