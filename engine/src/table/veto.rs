//! Which parts of blocks no codec is set on, because they are noise.
//!
//! A part is given up where two witnesses agree: a sample of its bytes has the frequencies of noise
//! ([`frame::looks_random`]), and fast LZ4, which finds repetitions and knows no frequencies, does not make it
//! smaller by a tenth. Either alone would be wrong: LZ4 finds nothing in hexadecimal digests, of which Zstandard
//! makes half, and frequencies say nothing of noise that comes twice.
//!
//! Where the parts before were noise too, the first witness is enough. A codec is heard again every 16th part, and
//! ever more seldom in vain, since its word counts for more than both: the one that would do the work or, if
//! that is slower, Zstandard 1, which sees all that the slow ones see, if less well. (Brotli 5 takes a
//! thousand times as long as Zstandard 1 to find nothing in 16 KiB of noise.)

use crate::error::Result;
use crate::frame::{self, Codec, FrameOptions};

/// After so many parts of noise in a row, the frequencies alone decide.
const RUN_MIN: u32 = 2;
/// Every how many parts of noise a codec is heard all the same: at first, and at most, after doubling each time.
const INTERVAL: std::ops::RangeInclusive<u32> = 16..=256;

/// What is to be done with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is compressed.
    Compress,
    /// It looks like noise and is compressed all the same, to see.
    Doubt,
    /// It is stored raw.
    Raw,
}

/// Judges the keys parts, or the values parts, of one table in their order.
#[derive(Debug)]
pub struct Veto {
    /// Parts of noise in a row.
    run: u32,
    /// Parts of noise to go until a codec is heard.
    wait: u32,
    interval: u32,
    scratch: Vec<u8>,
}

impl Default for Veto {
    /// No part has been seen.
    fn default() -> Veto {
        Veto { run: 0, wait: *INTERVAL.start(), interval: *INTERVAL.start(), scratch: Vec::new() }
    }
}

impl Veto {
    /// The verdict on the next part, which `codec` would compress. Users' own codecs may find what no other
    /// does, so they are always asked.
    pub fn judge(&mut self, options: &FrameOptions, codec: Codec, part: &[u8]) -> Result<Verdict> {
        if matches!(codec, Codec::None | Codec::Custom { .. }) || !frame::looks_random(part) {
            return Ok(Verdict::Compress);
        }
        if self.run >= RUN_MIN {
            if self.wait > 1 {
                self.wait -= 1;
                return Ok(Verdict::Raw);
            }
            self.interval = (self.interval * 2).min(*INTERVAL.end());
            self.wait = self.interval;
        }
        let witness = match codec {
            // They are their own second witness.
            Codec::Lz4 | Codec::Snappy => return Ok(Verdict::Doubt),
            Codec::Lz4hc { .. } => Codec::Lz4,
            _ if self.run < RUN_MIN => Codec::Lz4,
            Codec::Zstd { level } if level < 0 || level == 1 => return Ok(Verdict::Doubt),
            _ => Codec::Zstd { level: 1 },
        };
        let is_noise = frame::gains_little(options, witness, part, &mut self.scratch)?;
        Ok(if is_noise { Verdict::Raw } else { Verdict::Doubt })
    }

    /// What became of a part that was judged: `is_raw` if it is stored so. Parts are reported in their order, any
    /// number of verdicts later.
    pub fn learn(&mut self, verdict: Verdict, is_raw: bool) {
        if verdict == Verdict::Compress || !is_raw {
            *self = Veto { scratch: std::mem::take(&mut self.scratch), ..Veto::default() };
        } else {
            self.run = self.run.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::table::block::tests::Random;

    const ZSTD: Codec = Codec::Zstd { level: 3 };

    fn noise(seed: u64) -> Vec<u8> {
        let mut random = Random(seed);
        (0..4096).map(|_| random.below(256) as u8).collect()
    }

    fn text() -> Vec<u8> {
        (0..400).flat_map(|i| format!("row {};", i * 7919 % 1000).into_bytes()).collect()
    }

    /// The same noise again and again.
    fn echo() -> Vec<u8> {
        noise(77).repeat(2)
    }

    /// What the builder does.
    fn pass(veto: &mut Veto, codec: Codec, part: &[u8]) -> Verdict {
        let options = FrameOptions::new(codec, 16);
        let verdict = veto.judge(&options, codec, part).unwrap();
        let made_smaller = || !frame::gains_little(&options, codec, part, &mut Vec::new()).unwrap();
        veto.learn(verdict, verdict == Verdict::Raw || !made_smaller());
        verdict
    }

    #[test]
    fn noise_is_given_up_and_fast_codecs_are_heard_ever_more_seldom() {
        for codec in [Codec::Zstd { level: 1 }, Codec::Lz4, Codec::Snappy] {
            let mut veto = Veto::default();
            let heard: Vec<u64> =
                (0..700).filter(|&i| pass(&mut veto, codec, &noise(i + 1)) == Verdict::Doubt).collect();
            let first: &[u64] = if codec == (Codec::Zstd { level: 1 }) { &[] } else { &[0, 1] };
            assert_eq!(heard, [first, &[17, 49, 113, 241, 497]].concat(), "{codec}");
        }
    }

    #[test]
    fn slow_codecs_are_never_set_on_noise() {
        for codec in [ZSTD, Codec::Brotli { quality: 5 }, Codec::Lz4hc { level: 9 }] {
            let mut veto = Veto::default();
            assert!((0..700).all(|i| pass(&mut veto, codec, &noise(i + 1)) == Verdict::Raw), "{codec}");
        }
    }

    #[test]
    fn noise_that_repeats_is_compressed() {
        for codec in [ZSTD, Codec::Lz4] {
            let mut veto = Veto::default();
            assert!(frame::looks_random(&echo()));
            assert!((0..50).all(|_| pass(&mut veto, codec, &echo()) == Verdict::Doubt), "{codec}");
        }
    }

    #[test]
    fn the_codec_is_heard_again_when_noise_begins_to_repeat() {
        let mut veto = Veto::default();
        assert!((0..5).all(|i| pass(&mut veto, ZSTD, &noise(i + 1)) == Verdict::Raw));
        let given_up = (0..100).take_while(|_| pass(&mut veto, ZSTD, &echo()) == Verdict::Raw).count();
        assert!((1..16).contains(&given_up), "{given_up}");
        assert_eq!(pass(&mut veto, ZSTD, &echo()), Verdict::Doubt, "from then on each");
    }

    #[test]
    fn text_among_noise_is_compressed_and_both_witnesses_are_heard_after_it() {
        let mut veto = Veto::default();
        assert!((0..5).all(|i| pass(&mut veto, ZSTD, &noise(i + 1)) == Verdict::Raw));
        assert_eq!(pass(&mut veto, ZSTD, &text()), Verdict::Compress);
        assert_eq!(pass(&mut veto, ZSTD, &echo()), Verdict::Doubt);
        assert_eq!(pass(&mut veto, ZSTD, &noise(9)), Verdict::Raw);
    }

    #[test]
    fn users_codecs_are_always_asked() {
        let codec = Codec::Custom { id: 200, level: 0 };
        let verdict = Veto::default().judge(&FrameOptions::new(codec, 16), codec, &noise(1)).unwrap();
        assert_eq!(verdict, Verdict::Compress);
    }
}
