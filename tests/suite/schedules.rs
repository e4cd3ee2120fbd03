//! Short scripts under many schedules.

use lignite_tests::programme::run_in_suite;

/// Readers see states in the order of sequence numbers whatever meets whatever; what was promised
/// survives. Holds G1, G2, G6, G7, G14, G24, G25.
#[test]
fn scripts_under_many_schedules() {
    let tally = run_in_suite("schedules");
    assert!(tally.get("schedules") >= 200, "{tally:?}");
}
