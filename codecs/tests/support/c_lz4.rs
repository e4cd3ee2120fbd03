//! C LZ4, the reference of the format, for tests and measurement.

#![allow(unsafe_code, dead_code, reason = "a foreign library behind safe functions; not every user needs them all")]

use std::ffi::{c_char, c_int, c_long, c_void};

// `lz4-sys` builds the library and declares only some of its functions.
use lz4_sys as _;

unsafe extern "C" {
    fn LZ4_createStreamHC() -> *mut c_void;
    fn LZ4_freeStreamHC(stream: *mut c_void) -> c_int;
    fn LZ4_resetStreamHC_fast(stream: *mut c_void, level: c_int);
    fn LZ4_loadDictHC(stream: *mut c_void, dictionary: *const c_char, len: c_int) -> c_int;
    fn LZ4_attach_HC_dictionary(working: *mut c_void, dictionary: *const c_void);
    fn LZ4_compress_HC_continue(
        stream: *mut c_void,
        src: *const c_char,
        dst: *mut c_char,
        src_len: c_int,
        dst_len: c_int,
    ) -> c_int;
    fn LZ4_decompress_safe_usingDict(
        src: *const c_char,
        dst: *mut c_char,
        src_len: c_int,
        dst_len: c_int,
        dictionary: *const c_char,
        dictionary_len: c_int,
    ) -> c_int;
    fn clock() -> c_long;
}

/// The processor time that `run` takes, in microseconds, as far as there is no other thread.
pub fn timed(run: impl FnOnce()) -> u64 {
    // SAFETY: it takes nothing and touches nothing.
    let now = || unsafe { clock() as u64 };
    let begun = now();
    run();
    (now() - begun).max(1)
}

/// LZ4HC at one level, with a dictionary attached or without one.
pub struct Encoder<'a> {
    working: *mut c_void,
    digested: Option<*mut c_void>,
    level: i32,
    dictionary: std::marker::PhantomData<&'a [u8]>,
}

impl<'a> Encoder<'a> {
    pub fn new(level: i32, dictionary: Option<&'a [u8]>) -> Encoder<'a> {
        // SAFETY: the stream is checked for null before use, freed once in `drop`, and the
        // dictionary's bytes outlive the encoder, which borrows them.
        unsafe {
            let working = LZ4_createStreamHC();
            assert!(!working.is_null());
            let digested = dictionary.map(|bytes| {
                let stream = LZ4_createStreamHC();
                assert!(!stream.is_null());
                LZ4_resetStreamHC_fast(stream, level);
                LZ4_loadDictHC(stream, bytes.as_ptr().cast(), bytes.len() as c_int);
                stream
            });
            Encoder { working, digested, level, dictionary: std::marker::PhantomData }
        }
    }

    pub fn compress(&mut self, src: &[u8], dst: &mut Vec<u8>) {
        dst.clear();
        dst.resize(src.len() + src.len() / 255 + 16, 0);
        // SAFETY: both buffers are as long as is said, the destination is as long as any block can
        // become, and the streams live.
        let written = unsafe {
            LZ4_resetStreamHC_fast(self.working, self.level);
            if let Some(digested) = self.digested {
                LZ4_attach_HC_dictionary(self.working, digested);
            }
            LZ4_compress_HC_continue(
                self.working,
                src.as_ptr().cast(),
                dst.as_mut_ptr().cast(),
                src.len() as c_int,
                dst.len() as c_int,
            )
        };
        assert!(written > 0);
        dst.truncate(written as usize);
    }
}

impl Drop for Encoder<'_> {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are freed once.
        unsafe {
            LZ4_freeStreamHC(self.working);
            if let Some(digested) = self.digested {
                LZ4_freeStreamHC(digested);
            }
        }
    }
}

/// What C LZ4 makes of a block that should hold `len` bytes; none if it refuses.
pub fn decompress(src: &[u8], len: usize, dictionary: &[u8]) -> Option<Vec<u8>> {
    // One byte more, so that the pointer is real for an empty block and a longer one is seen.
    let mut dst = vec![0; len + 1];
    // SAFETY: all three buffers are as long as is said.
    let written = unsafe {
        LZ4_decompress_safe_usingDict(
            src.as_ptr().cast(),
            dst.as_mut_ptr().cast(),
            src.len() as c_int,
            dst.len() as c_int,
            dictionary.as_ptr().cast(),
            dictionary.len() as c_int,
        )
    };
    dst.truncate(usize::try_from(written).ok()?);
    Some(dst)
}
