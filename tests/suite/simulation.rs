//! The whole engine as a function of a seed.

use lignite_tests::programme::run_in_suite;

/// Clients, background jobs, faults, crashes and restarts under the baton scheduler; the same seed is
/// the same run. Holds G1, G2, G3, G4, G5, G6, G7, G9, G11, G12, G13, G14, G24, G25.
#[test]
fn whole_databases_under_the_baton() {
    let tally = run_in_suite("simulation");
    assert!(tally.get("simulated_ops") > 100 && tally.get("switches") > 1000, "{tally:?}");
}
