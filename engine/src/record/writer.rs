//! Puts records together. The caller writes the bytes.

use super::{Place, RECORD_ALIGN, RecordHeader, record_len};
use crate::checksum::crc32;
use crate::coding::{put_u16, put_u32, put_u64};
use crate::error::{Error, Result};
use crate::key::BATCH_LEN_MAX;

/// Appends the record that will lie at `offset` of the file that `place` describes.
pub fn encode(out: &mut Vec<u8>, place: &Place, offset: u64, header: &RecordHeader, payload: &[u8]) -> Result<()> {
    debug_assert_eq!(offset % RECORD_ALIGN, 0);
    if payload.len() > BATCH_LEN_MAX {
        return Err(Error::invalid(format!(
            "a record of {} bytes is too large; at most {BATCH_LEN_MAX} are allowed",
            payload.len()
        )));
    }
    let len = record_len(payload.len()) as usize;
    out.reserve(len);
    let start = out.len();
    put_u32(out, 0);
    put_u32(out, payload.len() as u32);
    out.push(header.kind as u8);
    out.push(0);
    put_u16(out, 0);
    put_u32(out, header.count);
    put_u64(out, header.first_seq);
    put_u64(out, header.synced.segment);
    put_u64(out, header.synced.offset);
    out.extend_from_slice(payload);
    out.resize(start + len, 0);
    let crc = crc32(place.seed(offset), &[&out[start + 4..]]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}
