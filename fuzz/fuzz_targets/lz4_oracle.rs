//! LZ4 against a plain decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::oracle::lz4(data));
