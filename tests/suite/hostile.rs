//! Directories that somebody made up, with every checksum right; and memory that runs out.

use lignite_tests::programme::run_in_suite;

/// Whatever the files say, nothing panics, hangs or takes memory without bound, and errors name a file:
/// G13, G22, G30.
#[test]
fn made_up_directories_do_no_harm() {
    assert!(run_in_suite("hostile").get("hostile_opened") > 50);
}

/// A buffer that cannot be had is an error, no damage, and no harm to later calls: G8, G13.
#[test]
fn memory_that_runs_out_is_an_error() {
    assert!(run_in_suite("exhaustion").get("allocation_failures") > 50);
}
