//! Frames, as they lie and put together from fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::table::any_frame(data));
