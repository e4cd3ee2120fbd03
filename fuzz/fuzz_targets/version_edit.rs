//! Version edits, family operations, ingests, options.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::log::version_edit(data));
