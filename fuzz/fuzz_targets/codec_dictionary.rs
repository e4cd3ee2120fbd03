//! Dictionaries of any bytes, trained and raw, right and wrong.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::codecs::dictionary(data));
