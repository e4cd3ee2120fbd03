//! Compressed bytes that nobody compressed: an error or the stated length, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::codecs::hostile(data));
