//! Keys as they are typed on the command line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lignite_tests::fuzz::small::typed_text(data));
