//! Shared buffers: what a decoded block and a value on its own are made of.
//!
//! A [`Buffer`] is one piece of memory that several may hold: a head with their number, *words*, which may change
//! while it is shared, and *bytes*, which do not once it was frozen.
//!
//! ```text
//! holders u32 | span u32 | n words u32 | n bytes u32 | words | bytes
//! ```
//!
//! One piece means one miss where a structure with a pointer to its bytes costs two. And the memory of short ones
//! comes from a pool of the process that lies in huge pages, which saves the misses of the address translation:
//!
//! * the system gives *chunks* of 2 MiB, each of which is cut into *spans*: of 32 KiB for frames of up to 8 KiB, of
//!   128 KiB for longer ones, each kind in a pool of its own;
//! * a span serves one class of sizes, a new one every sixteenth of a doubling, so little is lost; short spans are
//!   soon empty when sizes change, so little is held for nothing;
//! * a span whose frames are all free serves any class again, and a chunk of such spans goes back to the
//!   system, but for a reserve of one.
//!
//! Longer ones are allocated one by one.
//!
//! Always true: a frame belongs to one buffer at a time; its memory was written before (by the system, if by nobody
//! else), so bytes that are not set yet are some bytes, not undefined; bytes are not written once there may be a
//! second holder; what the last holder lets go is free.

#![allow(unsafe_code, reason = "one piece of memory with a count, words and bytes has no safe form")]
#![allow(clippy::disallowed_types, reason = "the pool's lock is held for a few instructions, never over a wait")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::arena::prefetch;
use crate::pages::{HUGE_LEN, map_huge, unmap};

// Miri is slow: small spans let small tests fill them.
const CHUNK_LEN: usize = if cfg!(miri) { 16 << 10 } else { HUGE_LEN };
/// How many spans a chunk has, in the pool for short and in that for long frames.
const SHORT_SPANS: usize = 64;
const LONG_SPANS: usize = 16;
/// A span holds four frames at least, so a pool serves up to these sizes.
const SHORT_LEN_MAX: usize = CHUNK_LEN / SHORT_SPANS / 4;
const LONG_LEN_MAX: usize = CHUNK_LEN / LONG_SPANS / 4;

/// Sizes are multiples of this, and so are addresses.
const UNIT: usize = 64;
/// So many sizes are multiples of [`UNIT`]; from there on there are sixteen to a doubling.
const EVEN_CLASSES: usize = 32;
const CLASSES: usize = EVEN_CLASSES + 16 * 4;
/// No frame, or no span.
const NONE: u32 = u32::MAX;
/// Set in the number of a span of the pool for long frames.
const IS_LONG: u32 = 1 << 31;
/// Before the words.
const HEAD_LEN: usize = size_of::<Head>();
/// More holders than this are a mistake: `forget` in a loop.
const HOLDERS_MAX: u32 = u32::MAX / 2;

/// Memory with words and bytes that several hold. Cloning costs one atomic increment.
pub struct Buffer {
    head: NonNull<Head>,
}

#[repr(C, align(8))]
struct Head {
    holders: AtomicU32,
    /// Where the memory is from; [`NONE`] if from the allocator.
    span: u32,
    n_words: u32,
    n_bytes: u32,
}

// SAFETY: words are atomic, bytes are only read, the count is atomic.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Buffer {
        let mut buffer = BufferMut::new(0, bytes.len());
        buffer.bytes_mut().copy_from_slice(bytes);
        buffer.freeze()
    }

    /// The words.
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        let n = self.head().n_words as usize;
        // SAFETY: so many words, set since the beginning, lie behind the head; they are aligned as it is.
        unsafe { NonNull::slice_from_raw_parts(self.head.add(1).cast::<AtomicU64>(), n).as_ref() }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the piece is as long as the head says, and while this can be called nobody writes its bytes.
        unsafe { self.raw_bytes().as_ref() }
    }

    /// Asks for the `n` cache lines behind the first.
    #[inline]
    pub fn prefetch(&self, n: usize) {
        for i in 1..=n {
            prefetch(self.head.as_ptr().cast::<u8>().wrapping_add(i * UNIT));
        }
    }

    /// What it takes of memory.
    pub fn memory_size(&self) -> usize {
        let size = self.size();
        if self.head().span == NONE { size + 16 } else { class_size(class_of(size)) }
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: a head was written there, and only its count, an atomic, changes while there is a holder.
        unsafe { self.head.as_ref() }
    }

    #[inline]
    fn raw_bytes(&self) -> NonNull<[u8]> {
        let head = self.head();
        // SAFETY: the words and then the bytes lie behind the head.
        let at = unsafe { self.head.add(1).cast::<u64>().add(head.n_words as usize).cast::<u8>() };
        NonNull::slice_from_raw_parts(at, head.n_bytes as usize)
    }

    fn size(&self) -> usize {
        piece_len(self.head().n_words as usize, self.head().n_bytes as usize)
    }
}

impl Clone for Buffer {
    #[inline]
    fn clone(&self) -> Buffer {
        if self.head().holders.fetch_add(1, Ordering::Relaxed) > HOLDERS_MAX {
            std::process::abort();
        }
        Buffer { head: self.head }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.head().holders.fetch_sub(1, Ordering::Release) == 1 {
            // Whatever others did with it happens before it is used again.
            fence(Ordering::Acquire);
            give_back(self.head.cast(), self.head().span, self.size());
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} words, {} bytes)", self.words().len(), self.bytes().len())
    }
}

/// A buffer with one holder, who may write its bytes.
pub struct BufferMut(Buffer);

impl BufferMut {
    /// A buffer of `n_words` words that are 0 and `n_bytes` bytes that are anything.
    ///
    /// # Panics
    ///
    /// If one of the numbers is 4 GiB or more.
    pub fn new(n_words: usize, n_bytes: usize) -> BufferMut {
        let too_many = "a buffer is smaller than 4 GiB";
        let (words, bytes) = (u32::try_from(n_words).expect(too_many), u32::try_from(n_bytes).expect(too_many));
        let size = piece_len(n_words, n_bytes);
        let (at, span) = take(size);
        let head = at.cast::<Head>();
        // SAFETY: these are `size` bytes, aligned for words, that were handed out just now.
        unsafe {
            head.write(Head { holders: AtomicU32::new(1), span, n_words: words, n_bytes: bytes });
            head.add(1).cast::<u64>().write_bytes(0, n_words);
        }
        BufferMut(Buffer { head })
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }

    /// The bytes.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the piece is as long as the head says, all of it was written before, and nobody else has it.
        unsafe { self.0.raw_bytes().as_mut() }
    }

    /// From now on it can be shared.
    pub fn freeze(self) -> Buffer {
        self.0
    }
}

#[inline]
fn piece_len(n_words: usize, n_bytes: usize) -> usize {
    HEAD_LEN + 8 * n_words + n_bytes
}

/// The class that serves a size.
#[inline]
fn class_of(size: usize) -> usize {
    if size <= EVEN_CLASSES * UNIT {
        return size.div_ceil(UNIT) - 1;
    }
    let last = size - 1;
    let doublings = last.ilog2() as usize;
    EVEN_CLASSES + 16 * (doublings - 11) + (last >> (doublings - 4)) - 16
}

/// The size that a class serves.
#[inline]
fn class_size(class: usize) -> usize {
    match class.checked_sub(EVEN_CLASSES) {
        None => (class + 1) * UNIT,
        Some(n) => (n % 16 + 17) << (n / 16 + 7),
    }
}

/// A piece of memory that was written before, and the span it is from.
fn take(size: usize) -> (NonNull<u8>, u32) {
    let class = class_of(size);
    let frame = if class <= class_of(SHORT_LEN_MAX) {
        short_frames().take(class)
    } else if size <= LONG_LEN_MAX {
        long_frames().take(class).map(|(at, span)| (at, span | IS_LONG))
    } else {
        None
    };
    if let Some(frame) = frame {
        return frame;
    }
    let layout = layout(size);
    // SAFETY: the layout's size is not zero.
    let at = unsafe { alloc_zeroed(layout) };
    (NonNull::new(at).unwrap_or_else(|| handle_alloc_error(layout)), NONE)
}

fn give_back(at: NonNull<u8>, span: u32, size: usize) {
    if span == NONE {
        // SAFETY: it was allocated with this layout, and its last holder lets it go.
        unsafe { dealloc(at.as_ptr(), layout(size)) };
    } else if span & IS_LONG == 0 {
        short_frames().give_back(at, span);
    } else {
        long_frames().give_back(at, span & !IS_LONG);
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, UNIT).expect("a block is far smaller than the address space")
}

fn short_frames() -> MutexGuard<'static, Pool> {
    static POOL: Mutex<Pool> = Mutex::new(Pool::new(SHORT_SPANS));
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn long_frames() -> MutexGuard<'static, Pool> {
    static POOL: Mutex<Pool> = Mutex::new(Pool::new(LONG_SPANS));
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where short buffers come from.
struct Pool {
    /// How many spans a chunk has, and how long they are.
    n_spans: usize,
    span_len: usize,
    /// By number, those of a chunk in a row.
    spans: Vec<Span>,
    /// By number.
    chunks: Vec<Chunk>,
    /// Numbers of chunks that went back.
    gone: Vec<usize>,
    /// For each class the spans that serve it and have room.
    open: [Vec<u32>; CLASSES],
    /// Spans that serve no class.
    empty: Vec<u32>,
}

/// Frames of one size.
struct Span {
    base: NonNull<u8>,
    class: usize,
    /// The first of its free frames that were in use before. Each begins with the number of the next.
    free: u32,
    /// How many frames were ever in use; the others are free.
    n_begun: u32,
    n_used: u32,
    /// Its place among the open spans of its class, if it is one.
    place: usize,
}

struct Chunk {
    /// None if it went back.
    base: Option<NonNull<u8>>,
    is_mapped: bool,
    /// Spans that serve a class.
    n_used: usize,
}

// SAFETY: addresses of free memory, which nobody else has.
unsafe impl Send for Pool {}

impl Pool {
    const fn new(n_spans: usize) -> Pool {
        Pool {
            n_spans,
            span_len: CHUNK_LEN / n_spans,
            spans: Vec::new(),
            chunks: Vec::new(),
            gone: Vec::new(),
            open: [const { Vec::new() }; CLASSES],
            empty: Vec::new(),
        }
    }

    /// A free frame of a class and its span; none if the system has no memory.
    fn take(&mut self, class: usize) -> Option<(NonNull<u8>, u32)> {
        let number = match self.open[class].last() {
            Some(&number) => number,
            None => self.open_span(class)?,
        };
        let size = class_size(class);
        let span = &mut self.spans[number as usize];
        let frame = if span.free == NONE {
            span.n_begun += 1;
            span.n_begun - 1
        } else {
            let frame = span.free;
            // SAFETY: a free frame of the span that was in use before begins with the number of the next one.
            span.free = unsafe { span.base.add(frame as usize * size).cast::<u32>().read() };
            frame
        };
        span.n_used += 1;
        // SAFETY: the span has so many frames.
        let at = unsafe { span.base.add(frame as usize * size) };
        if span.n_used as usize == self.span_len / size {
            self.open[class].pop();
        }
        Some((at, number))
    }

    fn give_back(&mut self, at: NonNull<u8>, number: u32) {
        let span = &mut self.spans[number as usize];
        let (class, size) = (span.class, class_size(span.class));
        let was_full = span.n_used as usize == self.span_len / size;
        // SAFETY: the frame is one of this span, and free now.
        let frame = unsafe {
            at.cast::<u32>().write(span.free);
            at.offset_from_unsigned(span.base) / size
        };
        span.free = frame as u32;
        span.n_used -= 1;
        let is_empty = span.n_used == 0;
        if is_empty {
            if !was_full {
                self.close_span(number, class);
            }
            self.retire_span(number);
        } else if was_full {
            span.place = self.open[class].len();
            self.open[class].push(number);
        }
    }

    /// Lets an empty span serve a class.
    fn open_span(&mut self, class: usize) -> Option<u32> {
        if self.empty.is_empty() {
            self.add_chunk()?;
        }
        let number = self.empty.pop()?;
        let span = &mut self.spans[number as usize];
        (span.class, span.free, span.n_begun, span.place) = (class, NONE, 0, self.open[class].len());
        self.open[class].push(number);
        self.chunks[number as usize / self.n_spans].n_used += 1;
        Some(number)
    }

    /// Takes a span off the open ones of its class.
    fn close_span(&mut self, number: u32, class: usize) {
        let place = self.spans[number as usize].place;
        self.open[class].swap_remove(place);
        if let Some(&moved) = self.open[class].get(place) {
            self.spans[moved as usize].place = place;
        }
    }

    /// A span without frames in use serves no class; a chunk of such spans goes back if it is not the last.
    fn retire_span(&mut self, number: u32) {
        self.empty.push(number);
        let n = number as usize / self.n_spans;
        self.chunks[n].n_used -= 1;
        if self.chunks[n].n_used > 0 || self.empty.len() < 2 * self.n_spans {
            return;
        }
        self.empty.retain(|&number| number as usize / self.n_spans != n);
        if let Some(base) = self.chunks[n].base.take() {
            if self.chunks[n].is_mapped {
                // SAFETY: it came from `map_huge`, and none of its frames is in use.
                unsafe { unmap(base, CHUNK_LEN) };
            } else {
                // SAFETY: it was allocated with this layout, and none of its frames is in use.
                unsafe { dealloc(base.as_ptr(), layout(CHUNK_LEN)) };
            }
        }
        self.gone.push(n);
    }

    fn add_chunk(&mut self) -> Option<()> {
        let mapped = if CHUNK_LEN == HUGE_LEN { map_huge() } else { None };
        let is_mapped = mapped.is_some();
        // SAFETY: the layout's size is not zero.
        let base = mapped.or_else(|| NonNull::new(unsafe { alloc_zeroed(layout(CHUNK_LEN)) }))?;
        let n = self.gone.pop().unwrap_or(self.chunks.len());
        let chunk = Chunk { base: Some(base), is_mapped, n_used: 0 };
        if n == self.chunks.len() {
            self.chunks.push(chunk);
        } else {
            self.chunks[n] = chunk;
        }
        // The first one last, so that it is the first to be taken.
        for i in (0..self.n_spans).rev() {
            let number = n * self.n_spans + i;
            // SAFETY: the chunk is so long.
            let base = unsafe { base.add(i * self.span_len) };
            let unused = || Span { base, class: 0, free: NONE, n_begun: 0, n_used: 0, place: 0 };
            if self.spans.len() <= number {
                self.spans.resize_with(number + 1, unused);
            }
            self.spans[number] = unused();
            self.empty.push(number as u32);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_serve_their_sizes_with_little_loss() {
        let sizes = 1..=LONG_LEN_MAX;
        for size in sizes {
            let class = class_of(size);
            assert!(class_size(class) >= size && class_size(class).is_multiple_of(UNIT), "{size}");
            assert!(class == 0 || class_size(class - 1) < size, "{size}");
            assert!(size < 1024 || 16 * (class_size(class) - size) <= size, "{size}");
        }
        assert!(class_of(LONG_LEN_MAX) < CLASSES);
        assert_eq!(class_size(class_of(SHORT_LEN_MAX)), SHORT_LEN_MAX);
    }

    #[test]
    fn buffers_are_like_vectors() {
        // The twin: the same words and bytes as vectors.
        let mut kept: Vec<(Buffer, Vec<u64>, Vec<u8>)> = Vec::new();
        let mut random = 0x0b0f_fe25_u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) % n) as usize
        };
        for i in 0..if cfg!(miri) { 300 } else { 30_000 } {
            let n_words = below(9);
            let longest =
                if below(100) == 0 { 8 * LONG_LEN_MAX } else { [10, 100, SHORT_LEN_MAX, LONG_LEN_MAX][below(4)] };
            let bytes: Vec<u8> = (0..below(longest as u64)).map(|j| (i + j) as u8).collect();
            let mut buffer = BufferMut::new(n_words, bytes.len());
            assert!(buffer.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
            buffer.bytes_mut().copy_from_slice(&bytes);
            let buffer = buffer.freeze();
            assert!(buffer.memory_size() >= HEAD_LEN + 8 * n_words + bytes.len());
            let other = buffer.clone();
            let words: Vec<u64> = (0..n_words as u64).map(|word| word * i as u64).collect();
            words.iter().zip(buffer.words()).for_each(|(word, there)| there.store(*word, Ordering::Relaxed));
            kept.push((if below(2) == 0 { buffer } else { other }, words, bytes));
            // Now and then most go, so that spans empty and serve others.
            let rest = if i % 1000 == 999 { 20 } else { 2000 };
            while kept.len() > rest {
                let (buffer, words, bytes) = kept.swap_remove(below(kept.len() as u64));
                assert_eq!(buffer.bytes(), bytes);
                assert!(buffer.words().iter().map(|word| word.load(Ordering::Relaxed)).eq(words));
            }
        }
        assert_eq!(Buffer::from_bytes(b"bytes").bytes(), b"bytes");
        assert_eq!(Buffer::from_bytes(b"").bytes(), b"");
    }

    #[test]
    fn threads_share_and_let_go() {
        let n = if cfg!(miri) { 20 } else { 2000 };
        let buffers: Vec<Buffer> = (0..n).map(|i| Buffer::from_bytes(&vec![i as u8; i % 400])).collect();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let buffers = buffers.clone();
                let work = move || {
                    for (i, buffer) in buffers.into_iter().enumerate() {
                        assert_eq!(buffer.clone().bytes(), vec![i as u8; i % 400]);
                        drop(buffer);
                        drop(Buffer::from_bytes(&[7; 100]));
                    }
                };
                crate::sync::spawn("buffers", work)
            })
            .collect();
        drop(buffers);
        assert!(threads.into_iter().all(|thread| thread.is_ok_and(|thread| thread.join())));
    }

    #[test]
    fn what_is_free_goes_back() {
        // A pool of our own: others use that of the process.
        let mut pool = Pool::new(LONG_SPANS);
        let class = class_of(LONG_LEN_MAX);
        let n = 5 * LONG_SPANS * 4;
        let frames: Vec<_> = (0..n).filter_map(|_| pool.take(class)).collect();
        assert_eq!((frames.len(), pool.chunks.len(), pool.empty.len()), (n, 5, 0));
        frames.into_iter().for_each(|(at, span)| pool.give_back(at, span));
        let n_chunks = |pool: &Pool| pool.chunks.iter().filter(|chunk| chunk.base.is_some()).count();
        assert_eq!((n_chunks(&pool), pool.empty.len()), (1, LONG_SPANS));
        assert!(pool.open.iter().all(Vec::is_empty));
        // Its spans serve whoever comes next, and numbers of chunks come again.
        let frames: Vec<_> = (0..3 * LONG_SPANS * (pool.span_len / UNIT)).filter_map(|_| pool.take(0)).collect();
        assert_eq!((n_chunks(&pool), pool.chunks.len()), (3, 5));
        frames.into_iter().for_each(|(at, span)| pool.give_back(at, span));
        assert_eq!(n_chunks(&pool), 1);
        // The last chunk too, for Miri.
        let last = pool.chunks.iter_mut().find_map(|chunk| chunk.base.take().map(|base| (base, chunk.is_mapped)));
        let (base, is_mapped) = last.expect("there is one");
        // SAFETY: all frames are free, and the pool is not used again.
        unsafe {
            if is_mapped {
                unmap(base, CHUNK_LEN)
            } else {
                dealloc(base.as_ptr(), layout(CHUNK_LEN))
            };
        }
    }
}
