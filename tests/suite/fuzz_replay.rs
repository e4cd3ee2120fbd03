//! The fuzz targets' bodies over their corpora, in every test run (G13, G30).
//!
//! Each seed runs as it is, cut at every length (at 64 places if it is longer), and changed by
//! seeded mutations; the bulk is the programme's kind `fuzz`. A crash that a fuzzer finds becomes a
//! file in the corpus, and so a test. `LIGNITE_REWRITE=1` writes the seeds that are made by code.
#![allow(clippy::disallowed_methods, reason = "the corpora are plain files, outside of any store")]

use std::fs;
use std::path::{Path, PathBuf};

use lignite_tests::fuzz::{TARGETS, corpus, hex};
use lignite_tests::programme::Tally;
use lignite_tests::programme::fuzz::run_some;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

#[test]
fn every_corpus_is_replayed() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let folder = folder(target.name);
        if std::env::var_os("LIGNITE_REWRITE").is_some() && !seeds.is_empty() {
            fs::create_dir_all(&folder).unwrap();
            for (n, seed) in seeds.iter().enumerate() {
                fs::write(folder.join(format!("seed_{n:02}")), seed).unwrap();
            }
        }
        for (n, seed) in seeds.iter().enumerate() {
            let written = fs::read(folder.join(format!("seed_{n:02}"))).unwrap_or_default();
            assert!(written == *seed, "seed {n} of {} has changed; LIGNITE_REWRITE=1 writes it", target.name);
        }
        for data in corpus(target) {
            (target.body)(&data);
            (0..data.len()).step_by(data.len() / 64 + 1).for_each(|cut| (target.body)(&data[..cut]));
        }
    }
}

#[test]
fn mutations_find_nothing() {
    let mut tally = Tally::default();
    for unit in 0..TARGETS.len() as u64 {
        run_some(unit, 40, &mut tally);
    }
    assert!(tally.get("fuzz_executions") > 100_000);
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest = fs::read_to_string(folder("../Cargo.toml")).unwrap();
    for target in TARGETS {
        let path = folder("../fuzz_targets").join(format!("{}.rs", target.name));
        let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(source.contains("fuzz_target!"), "{}", path.display());
        assert!(manifest.contains(&format!("fuzz_targets/{}.rs", target.name)), "{} is not built", target.name);
    }
    assert_eq!(hex(&[0, 0xff]), "00ff");
}
