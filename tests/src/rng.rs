//! A small seeded generator: the same numbers on every machine and in every version.

/// A splitmix64 generator. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that is a function of `seed` alone.
    pub fn new(seed: u64) -> Rng {
        Rng(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }

    /// A number within `low..=high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True with a chance of `percent` in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several values.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How much larger than usual the suite's bulk tests run: `LIGNITE_TEST_SCALE`, a factor such as
/// `10` or `0.1`; 1 if unset.
pub fn scale() -> f64 {
    std::env::var("LIGNITE_TEST_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0)
}

/// `n` times [`scale`], at least 1.
pub fn scaled(n: u64) -> u64 {
    ((n as f64 * scale()) as u64).max(1)
}

/// The base of the seeds: `LIGNITE_TEST_SEED`, or a fixed one, so that a plain run decides the same
/// way every time.
pub fn base_seed() -> u64 {
    std::env::var("LIGNITE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}
