//! Random histories against the oracle.
//!
//! Every history runs under options made from its seed, over a file system in memory, once with
//! every job on the caller's thread and for some seeds with real background threads. What fails is
//! cut down and printed; put the lines into `tests/data/histories/NAME` and it runs for ever.

use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite_tests::ops::{self, Mix, Op};
use lignite_tests::reduce::reduce;
use lignite_tests::rng::{Rng, base_seed, scaled};
use lignite_tests::sim::{Setup, run};
use lignite_tests::source::workspace;

fn fresh(seed: u64, threads: usize) -> Setup {
    Setup::new(Arc::new(MemFs::new()), seed).threads(threads)
}

fn mix(seed: u64, ops: usize) -> Mix {
    let mut rng = Rng::new(seed ^ 0x3153);
    Mix { ops, keys: rng.pick(&[20, 200, 1000]), value_len: rng.pick(&[10, 100, 400]), sync_percent: 5 }
}

fn try_seed(seed: u64, ops: usize, threads: usize) {
    let history = ops::generate(seed, mix(seed, ops));
    let Err(what) = run(&fresh(seed, threads), &history) else { return };
    // Real threads may not fail the same way twice: then the whole history is the report.
    let tries = if threads == 0 { 400 } else { 0 };
    let short: Vec<Op> = reduce(&history, tries, |ops| run(&fresh(seed, threads), ops).is_err());
    let what_now = run(&fresh(seed, threads), &short).err().unwrap_or_default();
    let shown = if short.len() < 200 { ops::print(&short) } else { format!("{} operations\n", short.len()) };
    panic!("seed {seed}, {threads} threads: {what}\ncut down to: {what_now}\n# seed {seed}\n{shown}");
}

#[test]
fn random_histories_equal_the_model() {
    for n in 0..scaled(80) {
        try_seed(base_seed().wrapping_mul(100_003).wrapping_add(n), 2000, 0);
    }
}

#[test]
fn random_histories_with_background_threads_equal_the_model() {
    for n in 0..scaled(12) {
        try_seed(base_seed().wrapping_mul(200_003).wrapping_add(n), 1500, 2);
    }
}

/// The same history under other options ends in the same content.
#[test]
fn options_change_no_content() {
    let seed = base_seed() + 77;
    let history: Vec<Op> = ops::generate(seed, mix(seed, 600));
    let mut contents = Vec::new();
    for n in 0..scaled(10) {
        let model =
            run(&fresh(seed * 31 + n, 0), &history).unwrap_or_else(|e| panic!("options seed {}: {e}", seed * 31 + n));
        contents.push(model.content());
    }
    assert!(contents.windows(2).all(|pair| pair[0] == pair[1]));
}

/// With no background threads a run is a function of its history: every file is byte-equal.
#[test]
fn the_same_history_leaves_the_same_files() {
    let seed = base_seed() + 5;
    let history = ops::generate(seed, mix(seed, 400));
    let leave = || {
        let fs = Arc::new(MemFs::new());
        let setup = Setup::new(fs.clone(), seed);
        run(&setup, &history).unwrap();
        let mut files = lignite_tests::sim::files(&*fs, &setup.dir);
        files.remove("LOCK");
        files
    };
    let (a, b) = (leave(), leave());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

/// Histories that failed once.
#[test]
fn kept_histories_equal_the_model() {
    let folder = workspace().join("tests/data/histories");
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let seed =
            text.lines().find_map(|l| l.strip_prefix("# seed ")).and_then(|s| s.trim().parse().ok()).unwrap_or(1);
        let history = ops::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if let Err(what) = run(&fresh(seed, 0), &history) {
            panic!("{}: {what}", path.display());
        }
    }
}
