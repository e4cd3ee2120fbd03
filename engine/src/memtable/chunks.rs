//! An append-only array that readers may use while it grows.
//!
//! Elements never move: they live in chunks of equal size, found through a directory whose parts
//! double. So growing costs one small allocation, however large the array is, and a reader needs no
//! lock. Which elements are in use is the caller's business.

use crate::sync::OnceLock;

// Models are small, so that few inserts cross the borders.
const CHUNK_BITS: u32 = if cfg!(loom) { 1 } else { 10 };
const CHUNK_LEN: usize = 1 << CHUNK_BITS;
/// Enough parts for every 32-bit index.
const PARTS: usize = if cfg!(loom) { 4 } else { 23 };

type Chunk<T> = OnceLock<Box<[T]>>;

/// The array. Elements begin as their default and are changed through shared references.
#[derive(Debug)]
pub struct Chunks<T> {
    parts: [OnceLock<Box<[Chunk<T>]>>; PARTS],
}

impl<T: Default> Chunks<T> {
    /// An empty array.
    pub fn new() -> Chunks<T> {
        Chunks { parts: std::array::from_fn(|_| OnceLock::new()) }
    }

    /// The element at `index`, which must have been made with [`Chunks::reserve`].
    #[inline]
    pub fn get(&self, index: u32) -> &T {
        let (part, chunk, slot) = place(index);
        let chunks = self.parts[part].get().expect("only reserved elements are asked for");
        &chunks[chunk].get().expect("only reserved elements are asked for")[slot]
    }

    /// Makes room for the element at `index`.
    pub fn reserve(&self, index: u32) -> &T {
        let (part, chunk, slot) = place(index);
        let chunks = self.parts[part].get_or_init(|| (0..1usize << part).map(|_| Chunk::new()).collect());
        &chunks[chunk].get_or_init(|| (0..CHUNK_LEN).map(|_| T::default()).collect())[slot]
    }
}

/// Part `p` of the directory has `1 << p` chunks.
#[inline]
fn place(index: u32) -> (usize, usize, usize) {
    let chunk = (index >> CHUNK_BITS) + 1;
    let part = chunk.ilog2();
    (part as usize, (chunk - (1 << part)) as usize, index as usize & (CHUNK_LEN - 1))
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::atomic::{AtomicU32, Ordering};
    use crate::sync::{Arc, spawn};

    /// Whoever sees a length sees the elements below it, over the borders of chunks and parts.
    #[test]
    fn loom_elements_below_a_published_length_are_there() {
        loom::model(|| {
            let shared = Arc::new((Chunks::<AtomicU32>::new(), AtomicU32::new(0)));
            let writer = shared.clone();
            let writing = spawn("writer", move || {
                for index in 0..3 {
                    writer.0.reserve(index).store(index + 7, Ordering::Relaxed);
                    writer.1.store(index + 1, Ordering::Release);
                }
            });
            for _ in 0..2 {
                let len = shared.1.load(Ordering::Acquire);
                assert!((0..len).all(|i| shared.0.get(i).load(Ordering::Relaxed) == i + 7));
            }
            assert!(writing.is_ok_and(|w| w.join()));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn places_are_dense() {
        let mut expected = (0, 0, 0);
        for index in 0..20_000 {
            assert_eq!(place(index), expected);
            expected.2 += 1;
            if expected.2 == CHUNK_LEN {
                expected = (expected.0, expected.1 + 1, 0);
                if expected.1 == 1 << expected.0 {
                    expected = (expected.0 + 1, 0, 0);
                }
            }
        }
        assert!(place(u32::MAX).0 < PARTS);
    }

    #[test]
    fn elements_stay_where_they_are() {
        let chunks: Chunks<AtomicU32> = Chunks::new();
        for i in 0..10_000 {
            chunks.reserve(i).store(i, Relaxed);
        }
        assert!((0..10_000).all(|i| chunks.get(i).load(Relaxed) == i));
    }
}
