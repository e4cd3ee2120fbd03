//! LZ4 raw blocks by `lz4_flex`, in its safe variant (within 2 % of the unsafe one when decoding).
//!
//! A block is the bare sequence of the LZ4 block format: no magic, no length, no checksum. A
//! dictionary is used by its last 64 KiB, all that an LZ4 offset can reach; for a trained
//! dictionary that includes its tables, which are harmless as history.
//!
//! Decoding allocates nothing. Compression without a dictionary uses a table kept by the thread;
//! with one, `lz4_flex` builds its table from the dictionary for each block.

use std::cell::Cell;

use lz4_flex::block::{self, CompressTable, DecompressError};

use crate::dict::Dictionary;
use crate::error::CodecError;
use crate::output;
use crate::scratch::{self, Slot};

const NAME: &str = "lz4";

/// How far back an offset reaches, and so how much of a dictionary is of use.
const HISTORY_LEN_MAX: usize = 64 << 10;

thread_local! {
    static TABLE: Slot<CompressTable> = const { Cell::new(None) };
}

pub(crate) fn compress(src: &[u8], dictionary: Option<&Dictionary>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    output::append(out, block::get_maximum_output_size(src.len()), |dst| {
        let written = match dictionary {
            Some(dictionary) => block::compress_into_with_dict(src, dst, history(dictionary)),
            None => {
                let mut table = scratch::take(&TABLE).unwrap_or_else(|| Box::new(CompressTable::large()));
                let written = block::compress_into_with_table(src, dst, &mut table);
                scratch::keep(&TABLE, table);
                written
            }
        };
        written.map_err(|error| CodecError::malformed(NAME, error.to_string()))
    })
}

pub(crate) fn decompress(src: &[u8], dst: &mut [u8], dictionary: Option<&Dictionary>) -> Result<(), CodecError> {
    let expected = dst.len();
    let decoded = match dictionary {
        Some(dictionary) => block::decompress_into_with_dict(src, dst, history(dictionary)),
        None => block::decompress_into(src, dst),
    };
    match decoded {
        Ok(actual) if actual == expected => Ok(()),
        Ok(actual) => Err(CodecError::WrongLength { expected, actual: Some(actual) }),
        Err(DecompressError::OutputTooSmall { .. }) => Err(CodecError::WrongLength { expected, actual: None }),
        Err(error) => Err(CodecError::malformed(NAME, error.to_string())),
    }
}

fn history(dictionary: &Dictionary) -> &[u8] {
    let bytes = dictionary.bytes();
    &bytes[bytes.len().saturating_sub(HISTORY_LEN_MAX)..]
}
