//! Appending what a codec writes.

use crate::error::CodecError;

/// Lets `write` fill up to `len_max` bytes behind the end of `out`, and keeps what it reports.
pub(crate) fn append(
    out: &mut Vec<u8>,
    len_max: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, CodecError>,
) -> Result<(), CodecError> {
    let start = out.len();
    out.try_reserve(len_max).map_err(|_| CodecError::out_of_memory(len_max))?;
    out.resize(start + len_max, 0);
    let written = write(&mut out[start..])?;
    out.truncate(start + written);
    Ok(())
}
