//! Bytes, sectors and files that are other ones; files that are cut, longer, gone, or foreign.
//!
//! The stories are those of the programme's kinds `damage` and `cuts`; the bulk runs there.

use lignite_tests::programme::run_in_suite;

/// Every change of a byte, sector or file is detected with the right file named, or is harmless; a
/// failed open changes nothing: G13, G15, G16, G18, G19, G20, G21, G22, G30.
#[test]
fn damage_is_noticed() {
    assert!(run_in_suite("damage").get("damage_cases") > 1000);
}

/// Every cut, extension, removal and foreign file is an error by name, a torn tail by the rule, or no
/// matter: G20, G21, G22, G28, G30.
#[test]
fn cuts_are_noticed() {
    assert!(run_in_suite("cuts").get("damage_cases") > 1000);
}
