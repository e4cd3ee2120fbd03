//! T14: memory that runs out.
//!
//! The story: a buffer whose length comes from the disk cannot be had. The call fails with an error that
//! says so, is not taken for damage, spoils nothing that others use, and works when it is tried again
//! (G8, G13). The allocator fails the first, the second, .. of the larger buffers that opening, reading
//! and checking reserve, until a run gets by without a failure. Rust aborts where a reservation cannot
//! fail, so a buffer that forgot to ask nicely ends the process, and the test with it.

use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::{CfOptions, Compression, Db, Error, ErrorKind, Options};

use super::{Kind, Tally};
use crate::alloc::{fail_nth, has_failed};
use crate::model::{Content, Records};
use crate::ops::Value;
use crate::rng::Rng;
use crate::sample::CODECS;
use crate::sim::Setup;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "exhaustion",
    id: "T14",
    about: "fails every larger reservation of memory that opening, reading and checking make",
    ci_units: 30,
    suite_units: 5,
    at_once: usize::MAX,
    ci_targets: &[("allocation_failures", 400)],
    long_targets: &[("allocation_failures", 400)],
    run,
}];

/// Requests below this are not failed: they are of strings and keys, which are never large.
const LARGE: usize = 4096;

fn run(unit: u64, tally: &mut Tally) {
    let mut rng = Rng::new(unit ^ 0xeaea);
    let options = Options::new().background_threads(0).decode_threads(0).memory_budget(1 << 20);
    let setup = Setup { options, ..Setup::new(Arc::new(MemFs::new()), unit) };
    let mut expected = Content::from([("default".to_string(), Records::new()), ("a".to_string(), Records::new())]);
    let db = setup.open().unwrap();
    let options =
        CfOptions::new().compression(Compression::all(CODECS[(unit % 5) as usize]).min_saving(0)).block_size(8 << 10);
    let family = db.open_column_family("a", options).unwrap();
    for _ in 0..rng.within(2, 4) {
        for _ in 0..rng.within(3, 6) {
            let key = format!("key{:02}", rng.below(40)).into_bytes();
            let value = Value { seed: rng.next_u64() as u32, len: rng.within(10_000, 40_000) as u32 }.bytes();
            family.put(&key, &value).unwrap();
            expected.get_mut("a").unwrap().insert(key, value);
        }
        db.flush().unwrap();
    }
    drop(family);
    db.close().unwrap();
    let mut failures = 0;
    for n in 1.. {
        let (setup, expected) = (setup.clone(), &expected);
        // A fresh thread has no buffers from before.
        let failed = std::thread::scope(|scope| {
            let attempt = scope.spawn(move || {
                let story = format!("unit {unit}, failure {n}");
                fail_nth(n, LARGE);
                let first = attempt(&setup, expected, &story);
                let failed = has_failed();
                if let Err(e) = first {
                    assert!(failed, "{story}: nothing failed, but there is {e:?}");
                    assert!(!e.is_corruption(), "{story}: lack of memory is taken for damage: {e:?}");
                    assert!(matches!(e.kind(), ErrorKind::Io), "{story}: {e:?}");
                    attempt(&setup, expected, &story).unwrap_or_else(|e| panic!("{story}, once more: {e:?}"));
                }
                failed
            });
            attempt.join()
        });
        match failed {
            Ok(true) => failures += 1,
            Ok(false) => break,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    assert!(failures > 0, "unit {unit}: no reservation failed; is the allocator installed?");
    tally.add("allocation_failures", failures);
}

/// Opens read-only, asks for every key, scans both ways, and checks. An error must not hide what is
/// behind it: the same handle reads the same thing right afterwards.
fn attempt(setup: &Setup, expected: &Content, story: &str) -> Result<(), Error> {
    let db = setup.builder().open_read_only(&setup.dir)?;
    let mut first = None;
    let mut note = |e: Error| {
        first.get_or_insert(e);
    };
    for (name, records) in expected {
        let family = db.column_family(name)?;
        for (key, value) in records {
            let read = || family.get_with(key, |found| found == value.as_slice());
            let found = read().or_else(|e| {
                note(e);
                read()
            })?;
            assert!(found == Some(true), "{story}: {} is another one", key.escape_ascii());
        }
    }
    if let Err(e) = scan(&db, expected, story) {
        note(e);
        scan(&db, expected, story)?;
    }
    match db.check(true, &mut |_| {}) {
        Ok(report) => assert!(
            report.problems.iter().all(|p| p.message.contains("memory")),
            "{story}: lack of memory is taken for damage: {:?}",
            report.problems
        ),
        Err(e) => note(e),
    }
    first.map_or(Ok(()), Err)
}

fn scan(db: &Db, expected: &Content, story: &str) -> Result<(), Error> {
    for (name, records) in expected {
        let family = db.column_family(name)?;
        let mut right = records.iter();
        for entry in family.iter() {
            let entry = entry?;
            assert!(
                right.next().is_some_and(|(k, v)| k == entry.key() && v == entry.value().unwrap()),
                "{story}: scan"
            );
        }
        assert!(right.next().is_none(), "{story}: a scan ends early");
        for entry in family.iter().rev() {
            entry?;
        }
    }
    Ok(())
}
