//! [`Slice`]: bytes that somebody else owns, kept alive.

use std::fmt;
use std::ops::Deref;

use crate::arena::Bytes;
use crate::buffer::Buffer;

/// A byte string that shares its memory with the block or memtable it came from.
///
/// Derefs to `[u8]`. Cloning costs one atomic increment. As long as a `Slice` lives, the whole
/// buffer behind it (a decoded block of typically 16 KiB; for a recent write the piece of the memtable
/// that holds it, of 2 MiB at most, or of its own length if it is larger than 512 KiB) stays in
/// memory: keep a long-lived value with [`Slice::detach`], which copies just its own bytes.
///
/// ```
/// let slice = lignite::Slice::from(&b"value"[..]);
/// assert_eq!(&*slice, b"value");
/// assert_eq!(slice.detach(), slice);
/// ```
#[derive(Clone)]
pub struct Slice(Owner);

/// Who keeps the bytes.
#[derive(Clone)]
enum Owner {
    /// A buffer, and where in it.
    Buffer { buffer: Buffer, start: u32, len: u32 },
    /// A memtable's arena.
    Arena(Bytes),
}

impl Slice {
    /// The bytes `start..start + len` of `buffer`, which must contain them.
    #[inline]
    pub(crate) fn new(buffer: Buffer, start: usize, len: usize) -> Slice {
        debug_assert!(start + len <= buffer.bytes().len());
        Slice(Owner::Buffer { buffer, start: start as u32, len: len as u32 })
    }

    /// These bytes of a memtable.
    #[inline]
    pub(crate) fn from_arena(bytes: Bytes) -> Slice {
        Slice(Owner::Arena(bytes))
    }

    /// A copy of just these bytes, which pins nothing else.
    #[must_use]
    pub fn detach(&self) -> Slice {
        Slice::from(&**self)
    }
}

impl Deref for Slice {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Owner::Buffer { buffer, start, len } => &buffer.bytes()[*start as usize..*start as usize + *len as usize],
            Owner::Arena(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Copies.
///
/// # Panics
///
/// If there are 4 GiB or more of them; a value has 32 MiB at most.
impl From<&[u8]> for Slice {
    fn from(bytes: &[u8]) -> Slice {
        Slice::new(Buffer::from_bytes(bytes), 0, bytes.len())
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        Slice::from(&bytes[..])
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Slice) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

impl PartialEq<[u8]> for Slice {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Slice {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Slice {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == **other
    }
}

impl PartialEq<Vec<u8>> for Slice {
    fn eq(&self, other: &Vec<u8>) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
