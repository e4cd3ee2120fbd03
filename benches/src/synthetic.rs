//! Synthetic records: 16-byte keys, values of which half can be compressed away.
//!
//! A record is a function of a seed and its number; nothing is drawn from a pool that comes round
//! again, so no window of a codec and no cache profits from the making of the data. The key is the
//! number in 16 decimal digits, the value is random bytes for its first half, which the second half
//! repeats.

/// Bytes of a key.
pub const KEY_LEN: usize = 16;

/// Makes records from their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    seed: u64,
    value_len: usize,
}

impl Generator {
    /// Records of `value_len` bytes of value.
    pub fn new(seed: u64, value_len: usize) -> Generator {
        Generator { seed, value_len }
    }

    /// The key of record `number`; keys ascend with it.
    pub fn key(&self, number: u64) -> [u8; KEY_LEN] {
        let mut key = [b'0'; KEY_LEN];
        let mut rest = number;
        for digit in key.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key
    }

    /// Puts the value of record `number` into `out`, in place of what is there.
    pub fn value_into(&self, number: u64, out: &mut Vec<u8>) {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let half = self.value_len.div_ceil(2);
        out.clear();
        while out.len() < half {
            out.extend_from_slice(&random.next().to_le_bytes());
        }
        out.truncate(half);
        out.extend_from_within(..self.value_len - half);
    }

    /// Whether `value` begins as the value of record `number` does: a check cheap enough for a
    /// measured loop.
    pub fn value_begins_right(&self, number: u64, value: &[u8]) -> bool {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let first = random.next().to_le_bytes();
        let n = first.len().min(self.value_len.div_ceil(2));
        value.len() == self.value_len && value[..n] == first[..n]
    }
}

/// splitmix64: fast, passes the usual tests, good for any seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on `seed` alone.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// A random order of `0..n` without memory: four rounds of a Feistel network over the next power
/// of four, walked until the result is below `n`.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    round_keys: [u64; 4],
}

impl Permutation {
    /// The order of `0..n` that `seed` gives.
    pub fn new(n: u64, seed: u64) -> Permutation {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut random = Random::new(seed);
        Permutation { n, half_bits: bits.div_ceil(2).max(1), round_keys: std::array::from_fn(|_| random.next()) }
    }

    /// The number at `place`, which is below `n`.
    pub fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.n);
        let mut number = place;
        loop {
            number = self.step(number);
            if number < self.n {
                return number;
            }
        }
    }

    fn step(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(unused_imports, reason = "the micro bench takes this file in without a test harness")]
    use super::*;

    #[test]
    fn permutation_visits_every_number_once() {
        for n in [1, 2, 3, 1000, 1024, 4097] {
            let permutation = Permutation::new(n, 7);
            let mut seen: Vec<u64> = (0..n).map(|place| permutation.at(place)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn records_depend_on_seed_and_number_alone() {
        let generator = Generator::new(1, 100);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        generator.value_into(5, &mut a);
        generator.value_into(6, &mut b);
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[..50]), (100, &a[50..]));
        assert!(generator.value_begins_right(5, &a) && !generator.value_begins_right(6, &a));
        assert_eq!(&generator.key(42), b"0000000000000042");
    }
}
