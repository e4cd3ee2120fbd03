//! Filters.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::table::table_filter(data));
