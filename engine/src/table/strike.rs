//! For tests: memory that flips a bit while a table is written, in what the builder holds and no
//! checksum covers yet.
//!
//! A test arms one strike on its thread; the next builder that closes a block with enough of the
//! target in it takes the strike, once. Nothing is armed unless a test does it.

use std::cell::Cell;

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Bytes of keys.
    Keys,
    /// Bytes of values.
    Values,
    /// The length of a key.
    KeyLengths,
    /// How much of a key is shared with the one before.
    SharedLengths,
    /// The length of a value.
    ValueLengths,
    /// A sequence number.
    Sequences,
    /// A kind.
    Kinds,
    /// The key that separates two blocks.
    Separators,
    /// A hash that goes into the filter.
    FilterHashes,
    /// A finished block that waits to be written.
    Finished,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 10] = [
        Target::Keys,
        Target::Values,
        Target::KeyLengths,
        Target::SharedLengths,
        Target::ValueLengths,
        Target::Sequences,
        Target::Kinds,
        Target::Separators,
        Target::FilterHashes,
        Target::Finished,
    ];
}

thread_local! {
    static ARMED: Cell<Option<(Target, u64)>> = const { Cell::new(None) };
}

/// Arms a strike on this thread: bit `bit` of the target, modulo the bits that it has.
pub fn arm(target: Target, bit: u64) {
    ARMED.set(Some((target, bit)));
}

/// Takes the strike back; true if it had not hit yet.
pub fn disarm() -> bool {
    ARMED.take().is_some()
}

/// Flips the bit in `bytes` if `target` is armed and there are any.
pub(super) fn bytes(target: Target, bytes: &mut [u8]) {
    if let Some((armed, bit)) = ARMED.get()
        && armed == target
        && !bytes.is_empty()
    {
        let bit = bit % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        ARMED.set(None);
    }
}

/// As [`bytes`] for numbers.
pub(super) fn numbers<T: Copy + TryFrom<u64> + Into<u64>>(target: Target, numbers: &mut [T]) {
    if let Some((armed, bit)) = ARMED.get()
        && armed == target
        && !numbers.is_empty()
    {
        let width = size_of::<T>() as u64 * 8;
        let bit = bit % (numbers.len() as u64 * width);
        let number = &mut numbers[(bit / width) as usize];
        let flipped = (*number).into() ^ 1 << (bit % width);
        if let Ok(flipped) = T::try_from(flipped) {
            *number = flipped;
        }
        ARMED.set(None);
    }
}
