//! Write batches.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::small::write_batch(data));
