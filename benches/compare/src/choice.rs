//! Which record comes next: evenly, by Zipf's law, or the newest first.

use lignite_bench::synthetic::{Permutation, Random};

/// The exponent that YCSB uses.
const THETA: f64 = 0.99;

/// Draws numbers of records.
#[derive(Clone)]
pub enum Choice {
    /// Every record is as likely.
    Uniform {
        /// So many there are.
        n: u64,
    },
    /// Few are drawn often; those are spread over the keys.
    Zipf {
        /// The law.
        law: Zipf,
        /// Where the most popular, the second and so on lie.
        places: Permutation,
    },
    /// Those with the highest numbers are drawn most.
    Latest {
        /// The law.
        law: Zipf,
    },
}

impl Choice {
    /// By Zipf's law with exponent 0.99 over `n` records.
    pub fn zipf(n: u64, seed: u64) -> Choice {
        Choice::Zipf { law: Zipf::new(n), places: Permutation::new(n, seed ^ 0x21bf) }
    }

    /// The newest of records are the most popular.
    pub fn latest(n: u64) -> Choice {
        Choice::Latest { law: Zipf::new(n) }
    }

    /// The next record. `n_now` is how many there are by now, for [`Choice::Latest`].
    pub fn draw(&self, random: &mut Random, n_now: u64) -> u64 {
        match self {
            Choice::Uniform { n } => random.below(*n),
            Choice::Zipf { law, places } => places.at(law.draw(random)),
            Choice::Latest { law } => n_now.saturating_sub(1 + law.draw(random)),
        }
    }
}

/// Zipf's law over `0..n` by the method of Gray and others, "Quickly Generating Billion-Record Synthetic
/// Databases" (SIGMOD 1994), as YCSB uses it.
#[derive(Clone, Copy, Debug)]
pub struct Zipf {
    n: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    /// The law over `0..n`. Costs a power per number: 40 ms for 2 million.
    pub fn new(n: u64) -> Zipf {
        let zeta: f64 = (1..=n).map(|i| (i as f64).powf(-THETA)).sum();
        let zeta_two = 1.0 + 0.5f64.powf(THETA);
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - THETA)) / (1.0 - zeta_two / zeta);
        Zipf { n, zeta, alpha: 1.0 / (1.0 - THETA), eta }
    }

    /// A number; 0 is the most likely.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let u = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1.min(self.n - 1);
        }
        let rank = self.n as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_favours_the_first() {
        let law = Zipf::new(1000);
        let mut random = Random::new(1);
        let mut counts = [0u32; 1000];
        (0..100_000).for_each(|_| counts[law.draw(&mut random) as usize] += 1);
        // The law gives the first 1/zeta, a bit more than an eighth, and the second half of it.
        assert!((12_000..14_500).contains(&counts[0]), "{}", counts[0]);
        assert!((5_500..7_800).contains(&counts[1]), "{}", counts[1]);
        assert!(counts[500..].iter().sum::<u32>() > 5_000);
    }

    #[test]
    fn every_choice_stays_within_the_records() {
        let mut random = Random::new(2);
        for choice in [Choice::Uniform { n: 10 }, Choice::zipf(10, 3), Choice::latest(10)] {
            assert!((0..1000).all(|_| choice.draw(&mut random, 10) < 10));
        }
    }
}
