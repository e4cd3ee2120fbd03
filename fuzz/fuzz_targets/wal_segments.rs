//! Segments of the log, replayed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::log::segments(data));
