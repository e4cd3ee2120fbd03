//! Contexts and tables kept by each thread, so that a block does not pay for making them.
//!
//! A fresh Zstandard context costs a third to a half of the decode speed of a small block. A kept
//! one is *taken out* of its slot while it is used: a codec that (through a user's codec) comes
//! back into this crate on the same thread finds an empty slot and makes another, and a context
//! that was in use when something unwound is dropped rather than used again.

use std::cell::Cell;
use std::thread::LocalKey;

/// A thread's place for one kept `T`.
pub(crate) type Slot<T> = Cell<Option<Box<T>>>;

/// Takes the kept value, if there is one and the thread is not being torn down.
pub(crate) fn take<T>(slot: &'static LocalKey<Slot<T>>) -> Option<Box<T>> {
    slot.try_with(Cell::take).ok().flatten()
}

/// Keeps `value` for the thread's next block; during thread exit it is dropped.
pub(crate) fn keep<T>(slot: &'static LocalKey<Slot<T>>, value: Box<T>) {
    let _ = slot.try_with(|slot| slot.set(Some(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! { static NUMBER: Slot<u32> = const { Cell::new(None) }; }

    #[test]
    fn a_taken_value_is_gone_until_it_is_kept_again() {
        assert_eq!(take(&NUMBER), None);
        keep(&NUMBER, Box::new(7));
        assert_eq!(take(&NUMBER), Some(Box::new(7)));
        assert_eq!(take(&NUMBER), None);
    }
}
