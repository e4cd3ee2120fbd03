//! Brotli streams by the `brotli` crate, decoded under a budget.
//!
//! A block is one bare stream of RFC 7932 (no large windows, no dictionary but the format's own).
//! The encoder sizes the window to its input, 1 KiB at least, so that the decoder's ring buffer is
//! no larger than the block.
//!
//! What a decoder may allocate is enforced by its allocators, not trusted to the stream:
//!
//! | for | at most |
//! |---|---|
//! | the ring buffer, old and new while it grows, and context maps | 2 x the power of two above the block's length (1 KiB at least), and 32 KiB |
//! | prefix codes | 8 MiB; blocks of this encoder take tens of KiB |
//!
//! A stream that asks for more is malformed. Neither side has a state that can be reset, so each
//! block makes its own; what that costs is little beside what Brotli itself costs.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderDestroyInstance, BrotliEncoderOperation, BrotliEncoderStateStruct};
use brotli::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, SliceWrapper, SliceWrapperMut,
};

use crate::error::CodecError;

const NAME: &str = "brotli";

/// The highest quality.
pub(crate) const QUALITY_MAX: u8 = 11;

/// Window sizes as powers of two; a window reaches 16 bytes less far than its size.
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = 24;
const WINDOW_GAP: usize = 16;

/// Context maps, their modes, and the slack behind a ring buffer.
const MAPS_LEN_MAX: usize = 32 << 10;
/// The prefix codes of the three kinds of symbols, 256 of each kind, old and new while they grow.
const CODES_LEN_MAX: usize = 8 << 20;
/// The offsets of those prefix codes.
const OFFSETS_LEN_MAX: usize = 16 << 10;

pub(crate) fn compress(src: &[u8], quality: u8, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    let mut encoder = BrotliEncoderStateStruct::new(StandardAlloc::default());
    encoder.params.quality = i32::from(quality);
    encoder.params.lgwin = window_log(src.len()) as i32;
    encoder.params.size_hint = src.len();
    let (mut in_left, mut in_at, mut out_at) = (src.len(), 0, start);
    let mut result = Ok(());
    while !encoder.is_finished() {
        // Mostly one turn: what does not fit into a little more than the input is rare.
        let room = (src.len() + src.len() / 64 + 64).max(out_at - start);
        if out.try_reserve(room).is_err() {
            result = Err(CodecError::out_of_memory(room));
            break;
        }
        out.resize(out_at + room, 0);
        let mut out_left = room;
        let advanced = encoder.compress_stream(
            BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
            &mut in_left,
            src,
            &mut in_at,
            &mut out_left,
            out,
            &mut out_at,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !advanced {
            result = Err(CodecError::Unavailable("the brotli encoder failed".into()));
            break;
        }
    }
    BrotliEncoderDestroyInstance(&mut encoder);
    out.truncate(out_at);
    result
}

pub(crate) fn decompress(src: &[u8], dst: &mut [u8]) -> Result<(), CodecError> {
    let expected = dst.len();
    let ring_len = expected.next_power_of_two().max(1 << WINDOW_LOG_MIN);
    let mut state = BrotliState::new_strict(
        Bounded::new(2 * ring_len + MAPS_LEN_MAX),
        Bounded::new(OFFSETS_LEN_MAX),
        Bounded::<HuffmanCode>::new(CODES_LEN_MAX),
    );
    let (mut in_left, mut in_at) = (src.len(), 0);
    let (mut out_left, mut out_at, mut total) = (expected, 0, 0);
    let result =
        BrotliDecompressStream(&mut in_left, &mut in_at, src, &mut out_left, &mut out_at, dst, &mut total, &mut state);
    #[cfg(test)]
    tests::PEAK.set((state.alloc_u8.peak, state.alloc_u32.peak, state.alloc_hc.peak));
    match result {
        BrotliResult::ResultSuccess if in_left != 0 => {
            Err(CodecError::malformed(NAME, format!("{in_left} bytes follow the end of the stream")))
        }
        BrotliResult::ResultSuccess if out_at != expected => {
            Err(CodecError::WrongLength { expected, actual: Some(out_at) })
        }
        BrotliResult::ResultSuccess => Ok(()),
        BrotliResult::NeedsMoreInput => Err(CodecError::malformed(NAME, "the stream ends too early")),
        BrotliResult::NeedsMoreOutput => Err(CodecError::WrongLength { expected, actual: None }),
        BrotliResult::ResultFailure if state.alloc_u8.refused || state.alloc_u32.refused || state.alloc_hc.refused => {
            Err(CodecError::malformed(NAME, "the stream asks for more memory than its length allows"))
        }
        BrotliResult::ResultFailure => Err(CodecError::malformed(NAME, "the stream breaks the rules of the format")),
    }
}

/// The smallest window that reaches from the last byte of the input to the first.
fn window_log(len: usize) -> u32 {
    (len + WINDOW_GAP).next_power_of_two().trailing_zeros().clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
}

/// An allocator with a budget in bytes. What it cannot give it answers with an empty cell, which
/// the decoder takes for a failed allocation.
struct Bounded<T> {
    live: usize,
    limit: usize,
    peak: usize,
    refused: bool,
    element: std::marker::PhantomData<T>,
}

impl<T> Bounded<T> {
    fn new(limit: usize) -> Bounded<T> {
        Bounded { live: 0, limit, peak: 0, refused: false, element: std::marker::PhantomData }
    }
}

impl<T: Clone + Default> Allocator<T> for Bounded<T> {
    type AllocatedMemory = Memory<T>;

    fn alloc_cell(&mut self, len: usize) -> Memory<T> {
        let mut cells = Vec::new();
        let size = len.saturating_mul(size_of::<T>());
        if size > self.limit - self.live || cells.try_reserve_exact(len).is_err() {
            self.refused = true;
            return Memory(Vec::new());
        }
        cells.resize(len, T::default());
        self.live += size;
        self.peak = self.peak.max(self.live);
        Memory(cells)
    }

    fn free_cell(&mut self, memory: Memory<T>) {
        self.live = self.live.saturating_sub(memory.0.len() * size_of::<T>());
    }
}

struct Memory<T>(Vec<T>);

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory(Vec::new())
    }
}

impl<T> SliceWrapper<T> for Memory<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Memory<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::cell::Cell;

    thread_local! { pub(super) static PEAK: Cell<(usize, usize, usize)> = const { Cell::new((0, 0, 0)) }; }

    #[test]
    fn the_ring_buffer_is_no_larger_than_the_block() {
        for len in [0usize, 1, 500, 1008, 1009, 1024, 4096, 16 << 10, 65_537, 300_000] {
            let src: Vec<u8> = (0..len as u32).map(|i| ((i.wrapping_mul(i) >> 7) as u8) & 63).collect();
            for quality in [0, 1, 4, 9] {
                let mut frame = Vec::new();
                compress(&src, quality, &mut frame).unwrap();
                let mut back = vec![0; len];
                decompress(&frame, &mut back).unwrap();
                assert_eq!(back, src);
                let (bytes, offsets, codes) = PEAK.get();
                let ring_len = len.next_power_of_two().max(1024);
                assert!(bytes <= ring_len + ring_len / 2 + (4 << 10), "length {len}, quality {quality}: {bytes}");
                assert!(offsets <= 4 << 10 && codes <= 512 << 10, "length {len}, quality {quality}: {offsets} {codes}");
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_length_of_the_block() {
        let mut bomb = Vec::new();
        compress(&vec![0; 8 << 20], 9, &mut bomb).unwrap();
        assert!(bomb.len() < 100, "{}", bomb.len());
        let mut dst = [1; 100];
        assert!(decompress(&bomb, &mut dst).is_err());
        let (bytes, ..) = PEAK.get();
        assert!(bytes <= 2 * 1024 + MAPS_LEN_MAX, "{bytes}");
    }
}
