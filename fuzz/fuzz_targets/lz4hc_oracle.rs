//! Our LZ4 encoder against a plain decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::oracle::lz4hc(data));
