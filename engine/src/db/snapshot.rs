//! Snapshots, and reading in general.

use std::ops::RangeBounds;

use super::family::{ColumnFamily, multi_get};
use super::inner::{Inner, check_readable};
use super::iter::{Cursor, Iter};
use crate::error::Result;
use crate::key::{self, KeyRange, SeqNo};
use crate::slice::Slice;
use crate::store::Reading;
use crate::sync::Arc;

/// What can be read from: the database as it is, or a [`Snapshot`] of it.
///
/// ```
/// use lignite::{ColumnFamily, Db, Reader, Result};
/// fn total(reader: &impl Reader, cf: &ColumnFamily) -> Result<usize> {
///     reader.iter(cf).map(|e| Ok(e?.value()?.len())).sum()
/// }
/// let db = Db::temporary()?;
/// let cf = db.default_family();
/// db.put(b"a", b"12345")?;
/// let snapshot = db.snapshot();
/// db.put(b"b", b"678")?;
/// assert_eq!(total(&snapshot, &cf)?, 5);
/// assert_eq!(total(&db, &cf)?, 8);
/// # Ok::<(), lignite::Error>(())
/// ```
pub trait Reader {
    /// The value of a key.
    fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<Option<Slice>>;
    /// The values of several keys, in the order of the keys.
    fn multi_get<K: AsRef<[u8]>>(&self, family: &ColumnFamily, keys: &[K]) -> Result<Vec<Option<Slice>>>;
    /// The entries of a range.
    fn range<K: AsRef<[u8]>>(&self, family: &ColumnFamily, range: impl RangeBounds<K>) -> Iter;
    /// The entries whose keys begin with `prefix`.
    fn prefix(&self, family: &ColumnFamily, prefix: impl AsRef<[u8]>) -> Iter;
    /// A cursor over everything.
    fn cursor(&self, family: &ColumnFamily) -> Result<Cursor>;

    /// True if the key has a value.
    fn contains_key(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(family, key)?.is_some())
    }

    /// All entries.
    fn iter(&self, family: &ColumnFamily) -> Iter {
        self.range::<&[u8]>(family, ..)
    }
}

/// The state of all families at one moment, for as long as it lives. Costs nothing to take; while
/// it lives, versions that it sees are kept on disk.
///
/// ```
/// use lignite::{Db, Reader};
/// let db = Db::temporary()?;
/// let cf = db.default_family();
/// db.put(b"k", b"old")?;
/// let snapshot = db.snapshot();
/// db.put(b"k", b"new")?;
/// assert_eq!(snapshot.get(&cf, b"k")?.unwrap(), b"old");
/// # Ok::<(), lignite::Error>(())
/// ```
pub struct Snapshot {
    /// The store alone, not the handle: a snapshot keeps the lock but does not keep the database
    /// from being closed.
    store: Arc<crate::store::Store>,
    seq: SeqNo,
    _reading: Reading,
}

impl Snapshot {
    pub(super) fn new(inner: Arc<Inner>) -> Snapshot {
        let store = inner.store.clone();
        let seq = store.register_snapshot();
        Snapshot { _reading: Reading::new(&store), store, seq }
    }

    /// The sequence number up to which it sees.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Snapshot {
        self.store.snapshots.register_at(self.seq);
        Snapshot { store: self.store.clone(), seq: self.seq, _reading: Reading::new(&self.store) }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.store.snapshots.release(self.seq);
    }
}

impl Reader for Snapshot {
    fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        check_readable(&self.store, &family.family)?;
        key::check_key(key.as_ref())?;
        family.family.lend_view().get(key.as_ref(), self.seq)
    }

    fn multi_get<K: AsRef<[u8]>>(&self, family: &ColumnFamily, keys: &[K]) -> Result<Vec<Option<Slice>>> {
        multi_get(&self.store, &family.family, keys, Some(self.seq))
    }

    fn range<K: AsRef<[u8]>>(&self, family: &ColumnFamily, range: impl RangeBounds<K>) -> Iter {
        Iter::new(self.store.clone(), &family.family, KeyRange::from_bounds(&range), Some(self.seq))
    }

    fn prefix(&self, family: &ColumnFamily, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::new(self.store.clone(), &family.family, KeyRange::prefix(prefix.as_ref()), Some(self.seq))
    }

    fn cursor(&self, family: &ColumnFamily) -> Result<Cursor> {
        Cursor::new(self.store.clone(), &family.family, KeyRange::ALL, Some(self.seq))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.seq)
    }
}
