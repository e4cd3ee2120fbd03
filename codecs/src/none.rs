//! The codec that stores bytes as they are.
//!
//! A dictionary is accepted and plays no part, so that a caller may hand the same arguments to a
//! block that turned out to be incompressible.

use crate::error::CodecError;

pub(crate) fn compress(src: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.try_reserve(src.len()).map_err(|_| CodecError::out_of_memory(src.len()))?;
    out.extend_from_slice(src);
    Ok(())
}

pub(crate) fn decompress(src: &[u8], dst: &mut [u8]) -> Result<(), CodecError> {
    if src.len() != dst.len() {
        return Err(CodecError::WrongLength { expected: dst.len(), actual: Some(src.len()) });
    }
    dst.copy_from_slice(src);
    Ok(())
}
