//! Whatever goes in comes out, by every codec and level.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::codecs::round_trip(data));
