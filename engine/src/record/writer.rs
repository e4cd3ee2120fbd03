//! Puts records together. The caller writes the bytes.

use super::{Place, RECORD_ALIGN, RECORD_HEADER_LEN, RecordHeader, record_len};
use crate::checksum::crc32;
use crate::error::{Error, Result};
use crate::key::BATCH_LEN_MAX;

/// Appends the record that will lie at `offset` of the file that `place` describes.
pub fn encode(out: &mut Vec<u8>, place: &Place, offset: u64, header: &RecordHeader, payload: &[u8]) -> Result<()> {
    check_payload(payload)?;
    let start = out.len();
    out.resize(start + record_len(payload.len()) as usize, 0);
    encode_into(&mut out[start..], place, offset, header, payload);
    Ok(())
}

/// Fails for a payload that no record can hold.
pub fn check_payload(payload: &[u8]) -> Result<()> {
    if payload.len() <= BATCH_LEN_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a record of {} bytes is too large; at most {BATCH_LEN_MAX} are allowed",
        payload.len()
    )))
}

/// As [`encode`], into the [`record_len`] bytes that the record takes. The checksum comes last: until then
/// the record is none, whatever was there before.
pub fn encode_into(out: &mut [u8], place: &Place, offset: u64, header: &RecordHeader, payload: &[u8]) {
    debug_assert_eq!(offset % RECORD_ALIGN, 0);
    debug_assert_eq!(out.len() as u64, record_len(payload.len()));
    // The padding, and what is about to be written over it.
    if let Some(last) = out.last_chunk_mut::<{ RECORD_ALIGN as usize }>() {
        last.fill(0);
    }
    let (head, body) = out.split_at_mut(RECORD_HEADER_LEN);
    let mut fields = [0; RECORD_HEADER_LEN];
    fields[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    fields[8] = header.kind as u8;
    fields[12..16].copy_from_slice(&header.count.to_le_bytes());
    fields[16..24].copy_from_slice(&header.first_seq.to_le_bytes());
    fields[24..32].copy_from_slice(&header.synced.segment.to_le_bytes());
    fields[32..40].copy_from_slice(&header.synced.offset.to_le_bytes());
    head.copy_from_slice(&fields);
    body[..payload.len()].copy_from_slice(payload);
    let crc = crc32(place.seed(offset), &[&out[4..]]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
}
