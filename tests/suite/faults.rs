//! Calls of the file system that fail.
//!
//! The work is done by the kind `faults` of the test programme, of which a few units run here; see
//! `tests/src/programme/faults.rs`.

use lignite_tests::programme::run_in_suite;

/// One call fails, once or for a while, by an error, in part, or by a lie; the program carries on, is
/// started again, or the power goes. Writes that failed are wholly there or absent (G4), reads work
/// again (G8), a failed sync poisons the handle (G9), nothing is taken from the page cache for durable
/// (G10), a failed job loses nothing (G11), a full disk is survived without reopening (G12), as is
/// running out of descriptors (G13), and a device that lies is found out (G15).
#[test]
fn every_call_fails_in_every_way() {
    let tally = run_in_suite("faults");
    assert!(tally.get("fault_states") > 3000, "{:?}", tally.0);
    assert!(tally.get("failed_sync_states") > 100, "{:?}", tally.0);
}
