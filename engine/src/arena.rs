//! A bump arena: bytes that are written once, never move and are given back together.
//!
//! Memory comes in chunks that double from 64 KiB to 2 MiB; those of 2 MiB are aligned mappings for
//! which huge pages are asked, so that a walk through a large arena misses the cache, but not the
//! address translation too. What is large gets a chunk of its own. The arena itself serves one thread
//! at a time; what it has handed out may be read by all, once its address was passed on with
//! `Release` and taken with `Acquire`.
//!
//! Two things lie in an arena: values of any type ([`Arena::add`]), which are never dropped, and
//! *records* ([`Arena::add_record`]):
//!
//! ```text
//! tag u64 | lengths u64 | key | value | up to 7 bytes that nobody reads
//! lengths: key length, 17 bits | value length, 26 bits | distance to the chunk's begin in units of 8 bytes
//! ```
//!
//! The distance leads from any record to its chunk, whose first word is the address of its [`Chunk`]:
//! so bytes of a record can be kept alive ([`Bytes`]) for one increment, without keeping the arena.
//!
//! Always true: a record is complete before its address is known outside, and its bytes are not
//! written again. A chunk is freed when neither its arena nor any [`Bytes`] has it. When memory runs
//! out the process ends, as with every allocation.

#![allow(unsafe_code, reason = "records of any length lie back to back, and readers need no bounds to find them")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::pages::{HUGE_LEN, map_huge, unmap};
use crate::sync::Arc;

/// The longest key of a record, in bytes.
pub const KEY_LEN_MAX: usize = (1 << KEY_LEN_BITS) - 1;
/// The longest value of a record, in bytes.
pub const VALUE_LEN_MAX: usize = (1 << VALUE_LEN_BITS) - 1;

const KEY_LEN_BITS: u32 = 17;
const VALUE_LEN_BITS: u32 = 26;
const DISTANCE_SHIFT: u32 = KEY_LEN_BITS + VALUE_LEN_BITS;

/// Records lie at multiples of this.
const UNIT: usize = 8;
/// Chunks lie at multiples of this.
const CHUNK_ALIGN: usize = 64;
// Miri is slow: small chunks let small tests cross their borders.
const CHUNK_LEN_MIN: usize = if cfg!(miri) { 4 << 10 } else { 64 << 10 };
const CHUNK_LEN_MAX: usize = if cfg!(miri) { 16 << 10 } else { HUGE_LEN };
/// Anything longer has a chunk of its own.
const SHARED_LEN_MAX: usize = CHUNK_LEN_MAX / 4;
/// At the begin of a chunk: the address of its [`Chunk`].
const CHUNK_HEAD_LEN: usize = UNIT;
/// Tag and lengths.
const RECORD_HEAD_LEN: usize = 2 * UNIT;

/// A growing heap of records and values.
#[derive(Debug)]
pub struct Arena {
    /// Every chunk, to keep it.
    chunks: Vec<Arc<Chunk>>,
    open: Option<Open>,
    next_len: usize,
    /// Bytes of the chunks that are not open.
    closed_len: usize,
}

/// The chunk that takes what fits, and how much of it is in use.
#[derive(Debug)]
struct Open {
    chunk: Arc<Chunk>,
    used: usize,
}

impl Arena {
    /// An empty arena, which has no memory yet.
    pub fn new() -> Arena {
        Arena { chunks: Vec::new(), open: None, next_len: CHUNK_LEN_MIN, closed_len: 0 }
    }

    /// Bytes in use, with what is lost at the ends of chunks; of the open chunk only what has been
    /// handed out, since the system gives no memory for pages that nobody has touched.
    pub fn size(&self) -> usize {
        self.closed_len + self.open.as_ref().map_or(0, |open| open.used)
    }

    /// Adds a record: copies key and value. The address is good as long as the arena.
    ///
    /// # Panics
    ///
    /// If key or value is longer than a record can say.
    #[inline]
    pub fn add_record(&mut self, tag: u64, key: &[u8], value: &[u8]) -> NonNull<u8> {
        assert!(key.len() <= KEY_LEN_MAX && value.len() <= VALUE_LEN_MAX, "checked at the facade");
        let len = RECORD_HEAD_LEN + key.len() + value.len();
        let (at, offset) = self.take(len, UNIT);
        let lengths =
            key.len() as u64 | (value.len() as u64) << KEY_LEN_BITS | ((offset / UNIT) as u64) << DISTANCE_SHIFT;
        // SAFETY: `at` begins `len` bytes of a chunk, aligned for words, that were handed out just now,
        // so nobody else reads or writes them; neither key nor value can lie there.
        unsafe {
            at.cast::<u64>().write(tag);
            at.cast::<u64>().add(1).write(lengths);
            let bytes = at.add(RECORD_HEAD_LEN);
            bytes.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
            bytes.add(key.len()).copy_from_nonoverlapping(NonNull::from(value).cast(), value.len());
        }
        at
    }

    /// Adds a value, which is never dropped. The address is good as long as the arena.
    pub fn add<T>(&mut self, value: T) -> NonNull<T> {
        const { assert!(align_of::<T>() <= CHUNK_ALIGN) };
        let (at, _) = self.take(size_of::<T>(), align_of::<T>().max(UNIT));
        let at = at.cast::<T>();
        // SAFETY: these bytes are large enough, aligned for `T`, and were handed out just now.
        unsafe { at.write(value) };
        at
    }

    /// The next `len` bytes, and how far behind the begin of their chunk they lie.
    #[inline]
    fn take(&mut self, len: usize, align: usize) -> (NonNull<u8>, usize) {
        if let Some(open) = &mut self.open {
            let offset = open.used.next_multiple_of(align);
            if offset + len <= open.chunk.len {
                open.used = (offset + len).next_multiple_of(UNIT);
                // SAFETY: `offset` lies within the chunk.
                return (unsafe { open.chunk.base.add(offset) }, offset);
            }
        }
        self.take_slow(len, align)
    }

    #[cold]
    fn take_slow(&mut self, len: usize, align: usize) -> (NonNull<u8>, usize) {
        let offset = CHUNK_HEAD_LEN.next_multiple_of(align);
        let used = (offset + len).next_multiple_of(UNIT);
        let is_alone = used > SHARED_LEN_MAX;
        let chunk = Chunk::new(if is_alone { used } else { self.next_len.max(used.next_power_of_two()) });
        // SAFETY: `offset` lies within the chunk.
        let at = unsafe { chunk.base.add(offset) };
        self.chunks.push(chunk.clone());
        if is_alone {
            self.closed_len += used;
        } else {
            self.next_len = (2 * self.next_len).min(CHUNK_LEN_MAX);
            let before = self.open.replace(Open { chunk, used });
            self.closed_len += before.map_or(0, |open| open.chunk.len);
        }
        (at, offset)
    }
}

/// A record of an arena that lives for `'a`.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    at: NonNull<u8>,
    arena: PhantomData<&'a Arena>,
}

impl<'a> Record<'a> {
    /// The record at an address.
    ///
    /// # Safety
    ///
    /// [`Arena::add_record`] has returned the address, what it did happens before this call, and the
    /// arena lives for `'a`.
    #[inline]
    pub unsafe fn from_raw(at: NonNull<u8>) -> Record<'a> {
        Record { at, arena: PhantomData }
    }

    /// Its address.
    #[inline]
    pub fn as_raw(self) -> NonNull<u8> {
        self.at
    }

    /// The tag it was given.
    #[inline]
    pub fn tag(self) -> u64 {
        // SAFETY: a record begins with this word, and nobody writes it again.
        unsafe { self.at.cast::<u64>().read() }
    }

    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        // SAFETY: the key lies behind the head, and nobody writes it again while the arena lives.
        unsafe { NonNull::slice_from_raw_parts(self.at.add(RECORD_HEAD_LEN), self.key_len()).as_ref() }
    }

    /// The value.
    #[inline]
    pub fn value(self) -> &'a [u8] {
        let at = RECORD_HEAD_LEN + self.key_len();
        // SAFETY: the value lies behind the key, and nobody writes it again while the arena lives.
        unsafe { NonNull::slice_from_raw_parts(self.at.add(at), self.value_len()).as_ref() }
    }

    /// The key, kept alive.
    pub fn key_bytes(self) -> Bytes {
        self.bytes(RECORD_HEAD_LEN, self.key_len())
    }

    /// The value, kept alive.
    #[inline]
    pub fn value_bytes(self) -> Bytes {
        self.bytes(RECORD_HEAD_LEN + self.key_len(), self.value_len())
    }

    /// `len` bytes from `from` on, which must be bytes of the key or the value.
    #[inline]
    fn bytes(self, from: usize, len: usize) -> Bytes {
        let distance = (self.lengths() >> DISTANCE_SHIFT) as usize * UNIT;
        // SAFETY: so far behind the begin of its chunk the record was put, and a chunk begins with the
        // address of a `Chunk` that its arena keeps in an `Arc` for `'a`.
        let chunk = unsafe {
            let chunk: *const Chunk = self.at.sub(distance).cast::<*const Chunk>().read();
            Arc::increment_strong_count(chunk);
            Arc::from_raw(chunk)
        };
        Bytes { chunk, start: (distance + from) as u32, len: len as u32 }
    }

    #[inline]
    fn lengths(self) -> u64 {
        // SAFETY: this is a record's second word, and nobody writes it again.
        unsafe { self.at.cast::<u64>().add(1).read() }
    }

    #[inline]
    fn key_len(self) -> usize {
        self.lengths() as usize & KEY_LEN_MAX
    }

    #[inline]
    fn value_len(self) -> usize {
        (self.lengths() >> KEY_LEN_BITS) as usize & VALUE_LEN_MAX
    }
}

/// Bytes of a record that keep their chunk. Cloning costs one atomic increment.
#[derive(Clone)]
pub struct Bytes {
    chunk: Arc<Chunk>,
    /// Within the chunk.
    start: u32,
    len: u32,
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: only `Record::bytes` makes one, of bytes that nobody writes again; the chunk is kept.
        unsafe {
            let at = self.chunk.base.add(self.start as usize);
            NonNull::slice_from_raw_parts(at, self.len as usize).as_ref()
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} of {:?})", self.len, self.chunk)
    }
}

/// A piece of memory.
struct Chunk {
    base: NonNull<u8>,
    len: usize,
    is_mapped: bool,
}

// SAFETY: a chunk is only an address and a length. Its bytes are written by the one arena that has it,
// before their address is passed on, and only read afterwards, from any thread.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// A chunk whose first word says where its `Chunk` is.
    fn new(len: usize) -> Arc<Chunk> {
        let mapped = if len == HUGE_LEN { map_huge() } else { None };
        let is_mapped = mapped.is_some();
        let base = mapped.unwrap_or_else(|| {
            let layout = Chunk::layout(len);
            // SAFETY: the layout's size is not zero.
            NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
        });
        let chunk = Arc::new(Chunk { base, len, is_mapped });
        // SAFETY: the chunk has room for a word, is aligned for it, and nobody else knows it yet.
        unsafe { base.cast::<*const Chunk>().write(Arc::as_ptr(&chunk)) };
        chunk
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, CHUNK_ALIGN).expect("a chunk is far smaller than the address space")
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.is_mapped {
            // SAFETY: it came from `map_huge`, and whoever could read it has let it go.
            unsafe { unmap(self.base, self.len) };
        } else {
            // SAFETY: it was allocated with this layout, and whoever could read it has let it go.
            unsafe { dealloc(self.base.as_ptr(), Chunk::layout(self.len)) };
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len)
    }
}

/// Asks for the cache line at `at`, which may be any address: it is needed soon.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that the program could see and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record made by hand.
    fn record(arena: &Arena, at: NonNull<u8>) -> Record<'_> {
        let _ = arena;
        // SAFETY: the tests pass addresses of that arena.
        unsafe { Record::from_raw(at) }
    }

    #[test]
    fn records_are_as_they_were_given() {
        // The twin: the same records as vectors.
        let mut arena = Arena::new();
        let mut twin = Vec::new();
        let n = if cfg!(miri) { 200 } else { 20_000 };
        for i in 0..n {
            let key = vec![i as u8; i * 7 % 40];
            let value = vec![!i as u8; if i % 50 == 7 { 5000 } else { i * 11 % 300 }];
            let at = arena.add_record(i as u64, &key, &value);
            twin.push((at, i as u64, key, value));
            if i % 20 == 3 {
                let number = arena.add(i);
                // SAFETY: the arena lives.
                assert_eq!(unsafe { *number.as_ref() }, i);
            }
        }
        let content: usize = twin.iter().map(|(_, _, key, value)| key.len() + value.len()).sum();
        assert!(arena.size() > content && arena.size() < 2 * content + n * 24);
        for (at, tag, key, value) in &twin {
            let record = record(&arena, *at);
            assert_eq!((record.tag(), record.key(), record.value()), (*tag, &key[..], &value[..]));
            assert_eq!((&*record.key_bytes(), &*record.value_bytes()), (&key[..], &value[..]));
        }
    }

    #[test]
    fn the_longest_and_the_shortest_fit() {
        let mut arena = Arena::new();
        let (key_len, value_len) = if cfg!(miri) { (9000, 70_000) } else { (64 << 10, 32 << 20) };
        let shapes = [(0, 0), (key_len, 0), (0, value_len), (1, 1), (key_len, value_len)];
        let records: Vec<_> = shapes
            .iter()
            .map(|&(key_len, value_len)| arena.add_record(7, &vec![b'k'; key_len], &vec![b'v'; value_len]))
            .collect();
        for (&(key_len, value_len), &at) in shapes.iter().zip(&records) {
            let record = record(&arena, at);
            assert!(record.key().len() == key_len && record.key().iter().all(|&b| b == b'k'));
            let value = record.value_bytes();
            assert!(value.len() == value_len && value.iter().all(|&b| b == b'v'));
        }
    }

    #[test]
    fn bytes_outlive_the_arena() {
        let mut arena = Arena::new();
        assert_eq!(arena.size(), 0);
        let n = if cfg!(miri) { 100 } else { 50_000 };
        let kept: Vec<Bytes> = (0..n)
            .map(|i| {
                let at = arena.add_record(i, b"key", &i.to_le_bytes().repeat(20));
                record(&arena, at).value_bytes()
            })
            .collect();
        let elsewhere = crate::sync::spawn("arena", move || drop(arena));
        assert!(elsewhere.is_ok_and(|thread| thread.join()));
        for (i, bytes) in (0..).zip(&kept) {
            assert_eq!(**bytes, u64::to_le_bytes(i).repeat(20));
            assert_eq!(bytes.clone().as_ptr(), bytes.as_ptr());
        }
    }

    #[test]
    fn small_arenas_are_small() {
        let mut arena = Arena::new();
        arena.add_record(1, b"key", b"value");
        assert_eq!(arena.size(), CHUNK_HEAD_LEN + RECORD_HEAD_LEN + 8);
        let value = vec![0; CHUNK_LEN_MAX];
        arena.add_record(1, b"", &value);
        arena.add_record(1, b"", b"");
        assert_eq!(arena.size(), 2 * (CHUNK_HEAD_LEN + RECORD_HEAD_LEN) + 8 + CHUNK_LEN_MAX + RECORD_HEAD_LEN);
    }
}
