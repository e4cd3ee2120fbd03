//! Cursors over entries in internal order, and how they are put together.
//!
//! A [`Cursor`] walks (user key, tag, value) both ways; memtables, tables and levels have one each.
//! [`merge`] makes one cursor of many, [`visible`] turns entries into what a reader at a sequence
//! number sees, [`cover`] asks the range tombstones. Nothing here allocates per entry.

use crate::error::Result;
use crate::key::Tag;
use crate::slice::Slice;

pub mod cover;
pub mod merge;
pub mod visible;

/// A position in a sequence of entries sorted in internal order (user key ascending, tag
/// descending).
///
/// A new cursor is invalid until the first seek. After an error it is invalid again. `next` and
/// `prev` on an invalid cursor do nothing; walking off either end makes it invalid. The accessors
/// may only be called while it is valid.
pub trait Cursor {
    /// True while the cursor stands on an entry.
    fn valid(&self) -> bool;
    /// Goes to the first entry.
    fn seek_to_first(&mut self) -> Result<()>;
    /// Goes to the last entry.
    fn seek_to_last(&mut self) -> Result<()>;
    /// Goes to the first entry at or behind `(key, tag)` in internal order.
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()>;
    /// Goes to the last entry at or before `(key, tag)` in internal order.
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()>;
    /// Goes to the next entry.
    fn next(&mut self) -> Result<()>;
    /// Goes to the previous entry.
    fn prev(&mut self) -> Result<()>;
    /// The user key.
    fn key(&self) -> &[u8];
    /// Sequence number and kind.
    fn tag(&self) -> Tag;
    /// The value; empty for a deletion.
    fn value(&self) -> &[u8];
    /// The user key, kept alive.
    fn key_slice(&self) -> Slice;
    /// The value, kept alive.
    fn value_slice(&self) -> Slice;

    /// Key, tag and value in one call.
    #[inline]
    fn entry(&self) -> (&[u8], Tag, &[u8]) {
        (self.key(), self.tag(), self.value())
    }

    /// True if the entry behind this one, if there is one, certainly has another key: whoever passes
    /// over the versions of a key need not keep it then. False says nothing.
    #[inline]
    fn is_last_version(&self) -> bool {
        false
    }

    /// The same of the entry in front of this one.
    #[inline]
    fn is_first_version(&self) -> bool {
        false
    }
}

/// A cursor over a sorted list in memory, for tests.
#[cfg(any(test, feature = "internals"))]
#[derive(Clone, Debug)]
pub struct VecCursor {
    entries: Vec<(Vec<u8>, Tag, Vec<u8>)>,
    at: Option<usize>,
}

#[cfg(any(test, feature = "internals"))]
impl VecCursor {
    /// A cursor over `entries`, which are sorted here.
    pub fn new(mut entries: Vec<(Vec<u8>, Tag, Vec<u8>)>) -> VecCursor {
        entries.sort_by(|a, b| crate::key::cmp_internal(&a.0, a.1, &b.0, b.1));
        VecCursor { entries, at: None }
    }

    fn go(&mut self, at: Option<usize>) -> Result<()> {
        self.at = at.filter(|&at| at < self.entries.len());
        Ok(())
    }

    fn here(&self) -> &(Vec<u8>, Tag, Vec<u8>) {
        let at = self.at.expect("an accessor needs a valid cursor");
        &self.entries[at]
    }
}

#[cfg(any(test, feature = "internals"))]
impl Cursor for VecCursor {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.go(Some(0))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.go(self.entries.len().checked_sub(1))
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let at = self.entries.partition_point(|e| crate::key::cmp_internal(&e.0, e.1, key, tag).is_lt());
        self.go(Some(at))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let behind = self.entries.partition_point(|e| crate::key::cmp_internal(&e.0, e.1, key, tag).is_le());
        self.go(behind.checked_sub(1))
    }

    fn next(&mut self) -> Result<()> {
        self.go(self.at.map(|at| at + 1))
    }

    fn prev(&mut self) -> Result<()> {
        self.go(self.at.and_then(|at| at.checked_sub(1)))
    }

    fn key(&self) -> &[u8] {
        &self.here().0
    }

    fn tag(&self) -> Tag {
        self.here().1
    }

    fn value(&self) -> &[u8] {
        &self.here().2
    }

    fn key_slice(&self) -> Slice {
        Slice::from(self.key())
    }

    fn value_slice(&self) -> Slice {
        Slice::from(self.value())
    }

    fn is_last_version(&self) -> bool {
        let next = self.at.and_then(|at| self.entries.get(at + 1));
        next.is_none_or(|next| next.0 != self.here().0)
    }

    fn is_first_version(&self) -> bool {
        let previous = self.at.and_then(|at| self.entries.get(at.checked_sub(1)?));
        previous.is_none_or(|previous| previous.0 != self.here().0)
    }
}
