//! A cheap look at bytes, before a codec is set on them: are they noise?
//!
//! What is measured is the chance that two bytes of a sample are equal, which is `2^-H` for the Rényi
//! entropy H of order 2: sums of squares, no logarithms. It says nothing about repetitions, and is never more
//! than Shannon's entropy: bytes that it takes for noise have at most an eighth to gain from
//! their frequencies.

/// Shorter ones are not looked at: there is little to gain from not compressing them.
const LEN_MIN: usize = 512;
/// A sample is made of pieces of this length: from 16 to 32 of them, one byte of 8, and one byte of 64 of what is
/// longer than 128 KiB.
const PIECE_LEN: usize = 64;
const PIECES_MIN: usize = 16;
const PIECES_USUAL: usize = 32;
const PIECES_MAX: usize = 1000;
const SHARE: usize = 8;
const SHARE_BEYOND: usize = 64;
/// From 7 bits a byte on, bytes are noise. Measured in blocks of 16 KiB: pictures and packed fonts have 7.37 and
/// more, all else (text, JSON, records of numbers, digests with their lengths) 6.75 and less.
const NOISE_CHANCE: u64 = 1 << 7;
/// From 6 bits on, and below 7, it is worth looking at the whole sample, not at every other piece.
const DOUBT_CHANCE: u64 = 1 << 6;

/// True if a sample of `src` has the byte frequencies of noise. Then only repetitions could make it smaller,
/// and it takes a codec to find them. Costs half a microsecond for 16 KiB.
///
/// ```
/// use lignite_codecs::looks_random;
/// assert!(!looks_random(&b"How vexingly quick daft zebras jump! ".repeat(100)));
/// ```
pub fn looks_random(src: &[u8]) -> bool {
    if src.len() < LEN_MIN {
        return false;
    }
    let n_pieces = (src.len() / (SHARE * PIECE_LEN)).clamp(PIECES_MIN, PIECES_USUAL);
    let n_pieces = n_pieces.max(src.len() / (SHARE_BEYOND * PIECE_LEN)).min(PIECES_MAX);
    let mut sample = Sample { counts: [[0; 256]; 4], len: 0 };
    sample.count(src, n_pieces, 0);
    let (equal, pairs) = sample.pairs();
    if equal * NOISE_CHANCE > pairs && equal * DOUBT_CHANCE <= pairs {
        sample.count(src, n_pieces, 1);
        let (equal, pairs) = sample.pairs();
        return equal * NOISE_CHANCE <= pairs;
    }
    equal * NOISE_CHANCE <= pairs
}

/// How often each byte stands in the pieces that were counted: a table for each of four neighbours, so that a
/// count is not waited for from byte to byte.
struct Sample {
    counts: [[u16; 256]; 4],
    len: u64,
}

impl Sample {
    /// Counts every other one of so many pieces.
    fn count(&mut self, src: &[u8], n_pieces: usize, first: usize) {
        let stride = src.len() / n_pieces;
        let room = stride.saturating_sub(PIECE_LEN) + 1;
        for i in (first..n_pieces).step_by(2) {
            // Off the stride by various distances, which is not to keep step with rows of the same width.
            let at = i * stride + i * 197 % room;
            let piece = &src[at..(at + PIECE_LEN).min(src.len())];
            for quad in piece.as_chunks::<4>().0 {
                for (counts, &byte) in self.counts.iter_mut().zip(quad) {
                    counts[usize::from(byte)] += 1;
                }
            }
            self.len += piece.len() as u64 / 4 * 4;
        }
    }

    /// How many pairs of bytes of different places are equal, and how many pairs there are. (Of different places, since
    /// each byte equals itself; with few bytes that matters.)
    fn pairs(&self) -> (u64, u64) {
        let [a, b, c, d] = &self.counts;
        let counts = a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| u32::from(a + b + c + d));
        // Fits, since a sample has fewer than 2^16 bytes.
        let squares: u32 = counts.map(|n| n * n).sum();
        (u64::from(squares).saturating_sub(self.len), self.len * self.len.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn noise_of_any_length_is_seen() {
        for len in [512, 513, 700, 1000, 4096, 5001, 16 << 10, 100_003, 1 << 20] {
            for seed in 1..20 {
                assert!(looks_random(&noise(len, seed)), "{len} bytes of seed {seed}");
            }
        }
    }

    #[test]
    fn what_a_codec_shrinks_by_its_frequencies_is_no_noise() {
        let digits = |bits: u8| noise(16 << 10, 5).into_iter().map(move |b| b >> (8 - bits)).collect::<Vec<_>>();
        for bits in 1..7 {
            assert!(!looks_random(&digits(bits)), "{bits} bits a byte");
        }
        let base64: Vec<u8> = digits(6).into_iter().map(|b| b + 40).collect();
        assert!(!looks_random(&base64));
        assert!(!looks_random(&vec![7; 1 << 20]));
        // Digests with a length in front, of which most bytes are 0.
        let rows: Vec<u8> =
            noise(16 << 10, 9).chunks(48).flat_map(|row| [&[9, 7, 1, 0, 0, 0, 0, 0], row].concat()).collect();
        assert!(!looks_random(&rows));
    }

    #[test]
    fn what_is_short_is_not_looked_at() {
        for len in [0, 1, 64, 511] {
            assert!(!looks_random(&noise(len, 1)));
        }
    }

    #[test]
    fn rows_as_wide_as_the_stride_do_not_hide_what_is_between() {
        // Every row of 512 bytes begins with 128 of noise; the rest is one letter.
        let mut rows = vec![b'a'; 16 << 10];
        for (row, noise) in rows.chunks_mut(512).zip(noise(4096, 3).chunks(128)) {
            row[..128].copy_from_slice(noise);
        }
        assert!(!looks_random(&rows));
    }
}
