//! T12: every decoder on millions of inputs, in-process and seeded.
//!
//! A unit takes one target (by its number, in turn) and runs its body so many thousand times on its
//! corpus, mutated and spliced. No input makes a decoder panic, overflow, or take more memory than its
//! data justify (G13, G30); whoever finds one prints it, and it becomes a file of the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Kind, Tally};
use crate::alloc::measure;
use crate::fuzz::{TARGETS, corpus, hex, next};
use crate::rng::Rng;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "fuzz",
    id: "T12",
    about: "runs the body of one fuzz target on mutations of its corpus",
    ci_units: 4 * TARGETS.len() as u64,
    suite_units: 1,
    at_once: usize::MAX,
    ci_targets: &[("fuzz_executions", 20_000_000)],
    long_targets: &[("fuzz_executions", 200_000_000)],
    run,
}];

fn run(unit: u64, tally: &mut Tally) {
    run_some(unit, 1, tally);
}

/// Runs a unit, or one `divisor`-th of it.
pub fn run_some(unit: u64, divisor: u64, tally: &mut Tally) {
    let target = &TARGETS[(unit % TARGETS.len() as u64) as usize];
    let corpus = corpus(target);
    let mut rng = Rng::new(unit ^ 0xf022);
    let executions = (target.thousands * 1000).div_ceil(divisor);
    // Outside of what may panic, so that it can be told.
    let mut data = Vec::with_capacity(4096);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..executions {
            next(&corpus, &mut rng, &mut data);
            let ((), usage) = measure(|| (target.body)(&data));
            let limit = target.memory + 64 * data.len() as i64;
            assert!(usage.peak_bytes <= limit, "{} bytes at once, the limit is {limit}", usage.peak_bytes);
        }
    }));
    if let Err(panic) = outcome {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default();
        panic!("{}: {words}\ninput: {}", target.name, hex(&data));
    }
    tally.add("fuzz_executions", executions);
    tally.add(&format!("fuzz:{}", target.name), executions);
}
