//! Makes checksums right again over bytes that were changed, so that what lies behind them is reached.
//!
//! Nothing here is an oracle: a repair that cannot make sense of the bytes leaves them as they are.

use lignite::internals::checksum::{crc32, place_salt, xxh32, xxh32_pair};
use lignite::internals::header::HEADER_LEN;
use lignite::internals::record::{Place, RECORD_HEADER_LEN, record_len};
use lignite::internals::table::footer::{FOOTER_MAGIC, FOOTER_TAIL_LEN, Footer};
use lignite::internals::table::index;
use lignite::internals::wal::{FIRST_RECORD, SEGMENT_HEADER_LEN};

/// The first 48 bytes of a file.
pub fn header(bytes: &mut [u8]) {
    if let Some(head) = bytes.get_mut(..HEADER_LEN) {
        let crc = crc32(0, &[&head[..HEADER_LEN - 4]]);
        head[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Records one behind the other from `from` on. A length that does not fit is made to.
pub fn records(bytes: &mut [u8], from: usize, place: Place) {
    let mut at = from;
    while let Some(left) = bytes.len().checked_sub(at).filter(|&left| left >= RECORD_HEADER_LEN) {
        let field =
            |o: usize| u32::from_le_bytes([bytes[at + o], bytes[at + o + 1], bytes[at + o + 2], bytes[at + o + 3]]);
        let mut len = field(4) as usize;
        if record_len(len) > left as u64 {
            len = (left & !7) - RECORD_HEADER_LEN;
            bytes[at + 4..at + 8].copy_from_slice(&(len as u32).to_le_bytes());
        }
        let end = at + record_len(len) as usize;
        let crc = crc32(place.seed(at as u64), &[&bytes[at + 4..end]]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// A whole segment of the log: header, both copies of the segment header, records.
pub fn segment(bytes: &mut [u8], db_id: u128, number: u64) {
    header(bytes);
    let place = Place { db_id, number, salt: 0 };
    if bytes.len() < FIRST_RECORD as usize {
        return;
    }
    for at in [HEADER_LEN, HEADER_LEN + SEGMENT_HEADER_LEN] {
        let crc = crc32(place.seed(at as u64), &[&bytes[at..at + 32]]);
        bytes[at + 32..at + 36].copy_from_slice(&crc.to_le_bytes());
        bytes[at + 36..at + 40].fill(0);
    }
    let mut salt = [0; 8];
    salt.copy_from_slice(&bytes[HEADER_LEN + 24..HEADER_LEN + 32]);
    records(bytes, FIRST_RECORD as usize, Place { salt: u64::from_le_bytes(salt), ..place });
}

/// A whole manifest: header and records.
pub fn manifest(bytes: &mut [u8], db_id: u128, number: u64) {
    header(bytes);
    records(bytes, HEADER_LEN, Place { db_id, number, salt: 0 });
}

/// CURRENT.
pub fn current(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32(0, &[body]).to_le_bytes();
    }
}

/// A footer that begins where `salt` belongs and fills `bytes`.
pub fn footer(bytes: &mut [u8], salt: u64) {
    let Some(payload) = bytes.len().checked_sub(FOOTER_TAIL_LEN) else { return };
    bytes[payload..payload + 4].copy_from_slice(&(payload as u32).to_le_bytes());
    let sum = xxh32(&bytes[..payload + 4], salt);
    bytes[payload + 4..payload + 8].copy_from_slice(&sum.to_le_bytes());
    bytes[payload + 8..].copy_from_slice(&FOOTER_MAGIC);
}

/// The stored checksums of a frame.
pub fn frame(bytes: &mut [u8], keys_stored: usize, salt: u64) {
    let trailer = usize::from(bytes.last().copied().unwrap_or(0));
    if trailer < 25 || trailer > bytes.len() || keys_stored > bytes.len() - trailer {
        return;
    }
    let parts = bytes.len() - trailer;
    let covered = bytes.len() - 9;
    let keys = xxh32_pair(&bytes[..keys_stored], &bytes[parts..covered], salt);
    let values = xxh32(&bytes[keys_stored..covered], salt.wrapping_add(1));
    bytes[covered..covered + 4].copy_from_slice(&keys.to_le_bytes());
    bytes[covered + 4..covered + 8].copy_from_slice(&values.to_le_bytes());
}

/// A whole table: header, footer, every frame that footer and index name.
pub fn table(bytes: &mut [u8], db_id: u128, number: u64) {
    header(bytes);
    let Some(tail) = bytes.last_chunk::<FOOTER_TAIL_LEN>() else { return };
    let Ok(payload) = Footer::payload_len(tail) else { return };
    let Some(at) = bytes.len().checked_sub(payload + FOOTER_TAIL_LEN) else { return };
    let salt = |offset: u64| place_salt(db_id, number, offset);
    footer(&mut bytes[at..], salt(at as u64));
    let Ok(footer) = Footer::decode(&bytes[at..], salt(at as u64)) else { return };
    let mut fix = |offset: u64, len: u32, keys: u32| {
        let Ok(from) = usize::try_from(offset) else { return };
        if let Some(frame_bytes) = from.checked_add(len as usize).and_then(|to| bytes.get_mut(from..to)) {
            frame(frame_bytes, keys as usize, salt(offset));
        }
    };
    let frames = footer.frames();
    for (_, handle) in &frames {
        fix(handle.offset, handle.stored_len, handle.keys_stored);
    }
    // Where the index is compressed it says what it said before.
    let Ok(open) = usize::try_from(footer.index.offset) else { return };
    let Some(index_bytes) = bytes.get(open..open.saturating_add(footer.index.stored_len as usize)) else { return };
    let opened =
        lignite::internals::frame::Frame::open(index_bytes, footer.index.keys_stored, salt(footer.index.offset));
    let mut scratch = Vec::new();
    let Ok(frame_of_index) = opened else { return };
    if frame_of_index.trailer.keys.raw_len > 1 << 20 {
        return;
    }
    let Ok(raw) = frame_of_index.keys(&[], None, &mut scratch) else { return };
    let end = frames.first().map_or(0, |(_, h)| h.offset);
    let Ok(blocks) = index::decode(raw, HEADER_LEN as u64, end) else { return };
    for block in blocks {
        let from = block.offset as usize;
        if let Some(frame_bytes) = bytes.get_mut(from..from + block.stored_len as usize) {
            frame(frame_bytes, block.keys_stored as usize, salt(block.offset));
        }
    }
}
