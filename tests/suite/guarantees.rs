//! Every guarantee is named by a test, and TESTING.md says what the tests and the journal say.

use lignite_tests::guarantees::{self, ALL, NOT_BUILT};
use lignite_tests::programme::journal::{self, Journal};
use lignite_tests::source::workspace;

/// A guarantee that no test names is a promise that nobody keeps. What is not built may not be named as
/// if it were, and the list of it may only shrink.
#[test]
fn every_guarantee_is_named_by_a_test() {
    let map = guarantees::map();
    let unnamed: Vec<u32> = ALL.filter(|n| !map.contains_key(n) && !NOT_BUILT.contains(n)).collect();
    assert!(unnamed.is_empty(), "no test names {unnamed:?}");
    let built: Vec<&u32> = NOT_BUILT.iter().filter(|n| map.contains_key(n)).collect();
    assert!(built.is_empty(), "{built:?} are held by tests: take them off the list of what is not built");
    assert!(NOT_BUILT.len() <= 2, "the list of what is not built may only shrink");
}

#[test]
fn testing_md_says_what_tests_and_journal_say() {
    let text = std::fs::read_to_string(workspace().join("TESTING.md")).unwrap();
    let journal = Journal::read(&journal::path()).unwrap();
    for (name, part) in [("counters", journal::counters_table(&journal)), ("guarantees", guarantees::table())] {
        assert!(text.contains(&part), "the {name} in TESTING.md are old: cargo xtask report writes them");
    }
}
