//! Histories against the oracle.
//!
//! Every operation of the public API, in random histories, under many option sets, over a file system
//! in memory; what each returns is compared as it goes. What fails is cut down and printed; put the
//! lines into `tests/data/histories/NAME` and it runs for ever.

use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite_tests::ops::{self, Flavour, Mix};
use lignite_tests::programme::{metamorphic, run_in_suite};
use lignite_tests::rng::{base_seed, scale};
use lignite_tests::sim::{Setup, run};
use lignite_tests::source::workspace;

/// One history under several option sets (T7): G2 and G5 over clean and unclean ends, G6 and G25 for
/// every read, G7 for copies, G22 for readers beside, G27 for second opens.
#[test]
fn histories_are_the_same_under_every_option_set() {
    let tally = run_in_suite("metamorphic");
    let missed: Vec<&&str> =
        metamorphic::SITUATIONS.iter().filter(|s| tally.get(&format!("reached_{s}")) == 0).collect();
    assert!(missed.is_empty() || scale() < 1.0, "the histories never reached {missed:?}");
}

/// The same with real background threads (T7): G6, G25.
#[test]
fn histories_with_background_threads_equal_the_model() {
    let tally = run_in_suite("metamorphic-threads");
    let missed = metamorphic::SITUATIONS_OF_THREADS.iter().filter(|s| tally.get(&format!("reached_{s}")) == 0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(missed.count() == 0 || scale() < 1.0 || cores < 2, "no compaction was ever done in parts");
}

/// With no background threads a run is a function of its history: every file is byte-equal.
#[test]
fn the_same_history_leaves_the_same_files() {
    let seed = base_seed() + 5;
    let mix = Mix { ops: 400, keys: 200, value_len: 100, sync_percent: 5, flavour: Flavour::Plain };
    let history = ops::generate(seed, mix);
    let leave = || {
        let fs = Arc::new(MemFs::new());
        let setup = Setup::new(fs.clone(), seed);
        run(&setup, &history).unwrap();
        let dirs = fs_dirs(&fs);
        dirs.into_iter()
            .flat_map(|dir| {
                let files = lignite_tests::sim::files(&*fs, &dir);
                files.into_iter().filter(|(name, _)| name != "LOCK").map(move |(name, bytes)| (dir.join(name), bytes))
            })
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (a, b) = (leave(), leave());
    assert!(a.len() > 3, "{:?}", a.keys());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{} differs", name.display());
    }
}

/// The directories that a history may have made.
fn fs_dirs(fs: &MemFs) -> Vec<std::path::PathBuf> {
    use lignite::internals::fs::Fs;
    let names = fs.list("/".as_ref()).unwrap();
    names.iter().map(|n| std::path::Path::new("/").join(n)).filter(|d| fs.metadata(d).is_ok_and(|m| m.is_dir)).collect()
}

/// Histories that failed once.
#[test]
fn kept_histories_equal_the_model() {
    let mut n = 0;
    for entry in std::fs::read_dir(workspace().join("tests/data/histories")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        metamorphic::run_kept(&text).unwrap_or_else(|what| panic!("{}: {what}", path.display()));
        n += 1;
    }
    assert!(n > 0);
}
