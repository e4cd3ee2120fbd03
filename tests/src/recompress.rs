//! Recompressions for histories: another codec, half of the time with a dictionary that is given.

use lignite::{CfOptions, Codec, Compression, Objective, RecompressDictionary, RecompressOptions};

use crate::rng::Rng;

/// The one with this seed, from these options.
pub fn options(from: CfOptions, seed: u64) -> RecompressOptions {
    let mut rng = Rng::new(seed);
    let codec = rng.pick(&[
        Codec::None,
        Codec::Lz4,
        Codec::Lz4hc { level: 9 },
        Codec::Snappy,
        Codec::Zstd { level: 3 },
        Codec::Zstd { level: 1 },
        Codec::Brotli { quality: 2 },
    ]);
    let mut wanted = from.compression(Compression::all(codec)).block_size(rng.pick(&[0, 512, 4096]));
    wanted.objective = rng.pick(&[None, None, None, Some(Objective::Smallest), Some(Objective::FastestReads)]);
    wanted.transpose = rng.chance(80);
    let mut options = RecompressOptions::new(wanted);
    if rng.chance(50) {
        let words = b"lignite and words that values of histories are made of; ".repeat(1 + rng.below(20) as usize);
        options.dictionary = RecompressDictionary::Bytes(words);
    }
    options
}
