//! A handle of a column family.

use std::ops::RangeBounds;

use super::commit::Commit;
use super::inner::{Inner, check_readable};
use super::iter::{Cursor, Iter};
use crate::batch;
use crate::error::Result;
use crate::key::{self, KeyRange, SeqNo};
use crate::options::{CfOptions, Durability};
use crate::slice::Slice;
use crate::store::{Family, Store};
use crate::sync::Arc;

/// A column family: a key space of its own, with its own codecs, block size and levels. All
/// families of a database share its log, so one [`WriteBatch`](crate::WriteBatch) can change several at once.
///
/// A handle: cloning is cheap, and it keeps the database open.
///
/// ```
/// use lignite::{CfOptions, Compression, Db};
/// let db = Db::temporary()?;
/// let logs = db.open_column_family("logs", CfOptions::new().compression(Compression::zstd(3)))?;
/// logs.put(b"2026-11-23/0001", b"GET / 200")?;
/// for entry in logs.prefix(b"2026-11-23") {
///     let entry = entry?;
///     assert_eq!(entry.value()?, b"GET / 200");
/// }
/// # Ok::<(), lignite::Error>(())
/// ```
#[derive(Clone)]
pub struct ColumnFamily {
    pub(super) inner: Arc<Inner>,
    pub(super) family: Arc<Family>,
}

impl ColumnFamily {
    pub(super) fn new(inner: Arc<Inner>, family: Arc<Family>) -> ColumnFamily {
        ColumnFamily { inner, family }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.family.name().to_string()
    }

    /// Its number, never used again for another family.
    pub fn id(&self) -> u32 {
        self.family.id.0
    }

    /// Its options now.
    pub fn options(&self) -> CfOptions {
        CfOptions::clone(&self.family.options())
    }

    /// Sets a key's value. Keys have at most 64 KiB, values at most 32 MiB.
    ///
    /// # Errors
    /// See [`Db::write_with`](crate::Db::write_with).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Commit> {
        self.put_with(key, value, self.inner.store.context.options.durability)
    }

    /// As [`ColumnFamily::put`], with this durability.
    pub fn put_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, durability: Durability) -> Result<Commit> {
        put(&self.inner, &self.family, key.as_ref(), value.as_ref(), durability)
    }

    /// Removes a key. Removing one that is not there is no error.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Commit> {
        batch::with_scratch(|batch| {
            batch.delete_id(self.family.id, key.as_ref());
            self.inner.commit(batch, self.inner.store.context.options.durability)
        })
    }

    /// Removes every key of a range with one small write, however many there are.
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// let cf = db.default_family();
    /// for day in ["2026-11-21", "2026-11-22", "2026-11-23"] {
    ///     cf.put(day, "...")?;
    /// }
    /// cf.delete_range("2026-11-21".."2026-11-23")?;
    /// assert_eq!(cf.iter().count(), 1);
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Commit> {
        let mut batch = batch::WriteBatch::new();
        add_range(&mut batch, &self.family, &KeyRange::from_bounds(&range));
        self.inner.commit(&batch, self.inner.store.context.options.durability)
    }

    /// The value of a key. It shares the memory of the block it was found in; see [`Slice`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        get(&self.inner.store, &self.family, key.as_ref())
    }

    /// Lends the value of a key to `body`, and returns what it makes of it.
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// let cf = db.default_family();
    /// cf.put(b"n", 7u32.to_le_bytes())?;
    /// let n = cf.get_with(b"n", |v| v.first().copied())?.flatten();
    /// assert_eq!(n, Some(7));
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn get_with<R>(&self, key: impl AsRef<[u8]>, body: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.get(key)?.map(|value| body(&value)))
    }

    /// The values of several keys, all of one moment, in the order of the keys. Blocks that several
    /// keys lie in are read and decoded once; several blocks are decoded in parallel where it pays.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Slice>>> {
        multi_get(&self.inner.store, &self.family, keys, None)
    }

    /// True if the key has a value.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// All entries, in order of keys, of the moment of the call.
    pub fn iter(&self) -> Iter {
        self.iter_range(KeyRange::ALL)
    }

    /// The entries of a range, in order of keys, of the moment of the call.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.iter_range(KeyRange::from_bounds(&range))
    }

    /// The entries whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.iter_range(KeyRange::prefix(prefix.as_ref()))
    }

    fn iter_range(&self, range: KeyRange) -> Iter {
        Iter::new(self.inner.store.clone(), &self.family, range, None)
    }

    /// A cursor over everything, of this moment.
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(self.inner.store.clone(), &self.family, KeyRange::ALL, None)
    }

    /// A cursor over a range, of this moment.
    pub fn cursor_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Cursor> {
        Cursor::new(self.inner.store.clone(), &self.family, KeyRange::from_bounds(&range), None)
    }

    /// Writes the family's memtables to a table.
    pub fn flush(&self) -> Result<()> {
        self.inner.store.check_writable()?;
        self.family.check_open()?;
        self.inner.writer.exclusive(|x| {
            x.seal(&self.family);
            Ok(())
        })?;
        self.inner.worker.flush(&self.family)
    }

    /// Compacts the whole family to its last level.
    pub fn compact(&self) -> Result<()> {
        self.flush()?;
        self.inner.worker.compact_range(&self.family, &KeyRange::ALL)
    }

    /// Compacts the tables that a range touches to the last level.
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.flush()?;
        self.inner.worker.compact_range(&self.family, &KeyRange::from_bounds(&range))
    }

    /// About how many bytes on disk a range takes. Reads indexes only.
    pub fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.family.check_open()?;
        self.family.view().approximate_size(&KeyRange::from_bounds(&range))
    }
}

impl std::fmt::Debug for ColumnFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnFamily").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Adds the removal of a range, which an empty one does not need.
pub(super) fn add_range(batch: &mut batch::WriteBatch, family: &Family, range: &KeyRange) {
    if !range.is_empty() {
        batch.delete_range_id(family.id, &range.first(), range.limit().as_deref());
    }
}

pub(super) fn put(inner: &Inner, family: &Family, key: &[u8], value: &[u8], durability: Durability) -> Result<Commit> {
    batch::with_scratch(|batch| {
        batch.put_id(family.id, key, value);
        inner.commit(batch, durability)
    })
}

pub(super) fn get(store: &Store, family: &Family, key: &[u8]) -> Result<Option<Slice>> {
    check_readable(store, family)?;
    key::check_key(key)?;
    // The view first, the number second: a compaction that finishes in between can then not drop
    // what the number would still show.
    let view = family.lend_view();
    view.get(key, store.published())
}

pub(super) fn multi_get<K: AsRef<[u8]>>(
    store: &Store,
    family: &Family,
    keys: &[K],
    at: Option<SeqNo>,
) -> Result<Vec<Option<Slice>>> {
    check_readable(store, family)?;
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    keys.iter().try_for_each(|k| key::check_key(k))?;
    let view = family.lend_view();
    view.multi_get(&keys, at.unwrap_or_else(|| store.published()))
}
