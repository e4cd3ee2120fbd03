//! Snappy raw blocks by `snap`.
//!
//! A block begins with its own length as a varint. It must agree with the length the caller
//! expects, and is compared before anything else is read. Decoding allocates nothing; the encoder
//! with its tables is kept by the thread. Snappy has no dictionaries.

use std::cell::Cell;

use snap::raw::{Decoder, Encoder};

use crate::error::CodecError;
use crate::output;
use crate::scratch::{self, Slot};

const NAME: &str = "snappy";

thread_local! {
    static ENCODER: Slot<Encoder> = const { Cell::new(None) };
}

pub(crate) fn compress(src: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    output::append(out, snap::raw::max_compress_len(src.len()), |dst| {
        let mut encoder = scratch::take(&ENCODER).unwrap_or_else(|| Box::new(Encoder::new()));
        let written = encoder.compress(src, dst);
        scratch::keep(&ENCODER, encoder);
        written.map_err(malformed)
    })
}

pub(crate) fn decompress(src: &[u8], dst: &mut [u8]) -> Result<(), CodecError> {
    let expected = dst.len();
    if src.is_empty() {
        return Err(malformed(snap::Error::Empty));
    }
    let stated = snap::raw::decompress_len(src).map_err(malformed)?;
    if stated != expected {
        return Err(CodecError::WrongLength { expected, actual: Some(stated) });
    }
    match Decoder::new().decompress(src, dst).map_err(malformed)? {
        actual if actual == expected => Ok(()),
        actual => Err(CodecError::WrongLength { expected, actual: Some(actual) }),
    }
}

fn malformed(error: snap::Error) -> CodecError {
    CodecError::malformed(NAME, error.to_string())
}
