//! Zstandard by `zstd-safe`, with contexts kept by the thread and digested dictionaries shared.
//!
//! A block is one *magicless* frame whose header holds nothing but the window's size: no magic, no
//! content size, no checksum, no dictionary id, for the table's trailer has all of these already.
//!
//! ```text
//! descriptor  u8   0: no content size, several segments, no checksum, no dictionary id
//! window      u8   exponent and mantissa of the window's size
//! blocks ..
//! ```
//!
//! A dictionary's digest can only be shared between threads through zstd's one-shot call, which
//! always writes a full header; so [`shorten_header`] rewrites that one to the form above.
//!
//! Decoding is one-shot, straight into the destination: the destination itself is the window, so
//! whatever window a hostile header asks for, nothing is allocated (a limit on the window would
//! only matter to streams). A thread keeps one decoding context of fixed size, about 100 KiB, and
//! a compression context of at most [`KEPT_CONTEXT_LEN_MAX`].

use std::cell::Cell;
use std::io::Cursor;

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat, zstd_sys::ZSTD_ErrorCode};

use crate::dict::Dictionary;
use crate::error::CodecError;
use crate::scratch::{self, Slot};

const NAME: &str = "zstd";

/// The greatest compression context that a thread keeps for its next block. High levels on large
/// blocks need hundreds of megabytes, and the time they take makes a fresh context no matter.
const KEPT_CONTEXT_LEN_MAX: usize = 16 << 20;

thread_local! {
    static COMPRESSOR: Slot<CCtx<'static>> = const { Cell::new(None) };
    static DECOMPRESSOR: Slot<DCtx<'static>> = const { Cell::new(None) };
}

pub(crate) fn compress(
    src: &[u8],
    level: i32,
    dictionary: Option<&Dictionary>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let start = out.len();
    let bound = zstd_safe::compress_bound(src.len());
    out.try_reserve(bound).map_err(|_| CodecError::out_of_memory(bound))?;
    let mut context = match scratch::take(&COMPRESSOR) {
        Some(context) => context,
        None => new_compressor()?,
    };
    let mut tail = Cursor::new(&mut *out);
    tail.set_position(start as u64);
    match dictionary {
        None => {
            // The size of the input is known to a one-shot call, so the window shrinks to it.
            context.set_parameter(CParameter::CompressionLevel(level)).map_err(encoder_error)?;
            context.compress2(&mut tail, src).map_err(encoder_error)?;
        }
        Some(dictionary) => {
            context.compress_using_cdict(&mut tail, src, dictionary.for_compression(level)?).map_err(encoder_error)?;
            shorten_header(out, start, src.len())?;
        }
    }
    if context.sizeof() <= KEPT_CONTEXT_LEN_MAX {
        scratch::keep(&COMPRESSOR, context);
    }
    Ok(())
}

pub(crate) fn decompress(src: &[u8], dst: &mut [u8], dictionary: Option<&Dictionary>) -> Result<(), CodecError> {
    let expected = dst.len();
    if src.is_empty() {
        return Err(CodecError::malformed(NAME, "there is no frame"));
    }
    let mut context = match scratch::take(&DECOMPRESSOR) {
        Some(context) => context,
        None => new_decompressor()?,
    };
    let decoded = match dictionary {
        None => context.decompress(dst, src),
        Some(dictionary) => context.decompress_using_ddict(dst, src, dictionary.for_decompression()?),
    };
    scratch::keep(&DECOMPRESSOR, context);
    match decoded {
        Ok(actual) if actual == expected => Ok(()),
        Ok(actual) => Err(CodecError::WrongLength { expected, actual: Some(actual) }),
        Err(code) if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
            Err(CodecError::WrongLength { expected, actual: None })
        }
        Err(code) => Err(CodecError::malformed(NAME, zstd_safe::get_error_name(code))),
    }
}

fn new_compressor() -> Result<Box<CCtx<'static>>, CodecError> {
    let mut context = CCtx::try_create().ok_or_else(no_context)?;
    for parameter in [
        CParameter::Format(FrameFormat::Magicless),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ] {
        context.set_parameter(parameter).map_err(encoder_error)?;
    }
    Ok(Box::new(context))
}

fn new_decompressor() -> Result<Box<DCtx<'static>>, CodecError> {
    let mut context = DCtx::try_create().ok_or_else(no_context)?;
    context.set_parameter(DParameter::Format(FrameFormat::Magicless)).map_err(encoder_error)?;
    Ok(Box::new(context))
}

/// Rewrites the full frame header at `out[start..]` to the two bytes of the module's head.
///
/// ```text
/// magic 4 | descriptor | [window] | [dictionary id 1, 2 or 4] | [content size 1, 2, 4 or 8] | blocks
/// descriptor, from the high bit: content size flag 2, single segment 1, unused 1, reserved 1, checksum 1, dictionary id flag 2
/// ```
fn shorten_header(out: &mut Vec<u8>, start: usize, content_len: usize) -> Result<(), CodecError> {
    const MAGIC_LEN: usize = 4;
    let frame = &out[start..];
    let unexpected = || CodecError::malformed(NAME, "the encoder wrote a frame header of an unknown form");
    let descriptor = *frame.get(MAGIC_LEN).ok_or_else(unexpected)?;
    let single_segment = descriptor & 0b0010_0000 != 0;
    if frame[..MAGIC_LEN] != zstd_safe::MAGICNUMBER.to_le_bytes() || descriptor & 0b0000_1100 != 0 {
        return Err(unexpected());
    }
    // A single segment states no window: its content is its window.
    let window_len = usize::from(!single_segment);
    let dictionary_id_len = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let content_size_len = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (flag, _) => 1 << flag,
    };
    let header_len = MAGIC_LEN + 1 + window_len + dictionary_id_len + content_size_len;
    if frame.len() < header_len {
        return Err(unexpected());
    }
    let window = if single_segment { window_byte(content_len) } else { frame[MAGIC_LEN + 1] };
    out.splice(start..start + header_len, [0, window]);
    Ok(())
}

/// The header's window byte for the smallest power of two that holds `content_len` bytes.
fn window_byte(content_len: usize) -> u8 {
    const WINDOW_LOG_MIN: u32 = 10;
    let log = content_len.max(1).next_power_of_two().trailing_zeros().max(WINDOW_LOG_MIN);
    ((log - WINDOW_LOG_MIN) << 3) as u8
}

fn encoder_error(code: usize) -> CodecError {
    CodecError::Unavailable(format!("zstd failed: {}", zstd_safe::get_error_name(code)).into())
}

fn no_context() -> CodecError {
    CodecError::Unavailable("no memory for a zstd context".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_have_two_bytes_of_header() {
        let dictionary = Dictionary::from_bytes(b"the quick brown fox jumps over the lazy dog".repeat(8)).unwrap();
        for len in [0, 1, 255, 256, 257, 1000, 1024, 1025, 16 << 10, 65_791, 65_792, 70_000, 300_000] {
            let src: Vec<u8> = (0..len).map(|i| b"quick fox "[i % 10]).collect();
            for dictionary in [None, Some(&dictionary)] {
                for level in [-7, 1, 3, 9] {
                    let mut frame = b"before".to_vec();
                    compress(&src, level, dictionary, &mut frame).unwrap();
                    let frame = &frame[6..];
                    assert_eq!(frame[0], 0, "length {len}, level {level}");
                    let window = 1usize << (10 + (frame[1] >> 3));
                    assert!(window >= len.min(1 << 19), "length {len}, level {level}: window {window}");
                    // Short input has a short window, so no reader needs more memory than the block.
                    assert!(window <= (2 * len).max(1024) || dictionary.is_some(), "length {len}: window {window}");
                    let mut back = vec![1; len];
                    decompress(frame, &mut back, dictionary).unwrap();
                    assert_eq!(back, src);
                }
            }
        }
    }

    #[test]
    fn the_context_a_thread_keeps_is_bounded() {
        let src: Vec<u8> = (0u32..3 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut out = Vec::new();
        compress(&src, 12, None, &mut out).unwrap();
        let kept = scratch::take(&COMPRESSOR).map_or(0, |context| context.sizeof());
        assert!(kept <= KEPT_CONTEXT_LEN_MAX, "{kept}");
    }

    #[test]
    fn a_decoding_context_stays_small_whatever_window_is_asked_for() {
        // Window byte 0xff asks for 3.75 TiB; the block holds five raw bytes.
        let frame = [0x00, 0xff, 0x29, 0x00, 0x00, b'h', b'e', b'l', b'l', b'o'];
        let mut dst = [0; 5];
        let _ = decompress(&frame, &mut dst, None);
        let kept = scratch::take(&DECOMPRESSOR).unwrap().sizeof();
        assert!(kept < 256 << 10, "{kept}");
    }
}
