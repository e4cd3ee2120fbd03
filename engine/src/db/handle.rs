//! The handle of a database.

use std::ops::RangeBounds;
use std::path::Path;

use super::batch::WriteBatch;
use super::commit::Commit;
use super::family::{self, ColumnFamily};
use super::inner::{Inner, check_family_name, no_family};
use super::iter::{Cursor, Iter};
use super::snapshot::{Reader, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRange;
use crate::options::{CfOptions, Durability};
use crate::slice::Slice;
use crate::store::Family;
use crate::sync::Arc;
use crate::version::edit::{FamilyRecord, VersionEdit};

/// A database.
///
/// A handle: cloning is cheap, all clones are the same open database, and the last one to go
/// closes it. Use [`Db::close`] to see the errors that a drop must swallow. One process at a time
/// can have a database open for writing; any number may read it beside that
/// ([`Db::open_read_only`]).
///
/// The calls that name no family act on the one named `default`.
///
/// ```
/// let db = lignite::Db::temporary()?;
/// db.put(b"key", b"value")?;
/// assert_eq!(db.get(b"key")?.unwrap(), b"value");
/// db.delete(b"key")?;
/// assert_eq!(db.get(b"key")?, None);
/// db.close()?;
/// # Ok::<(), lignite::Error>(())
/// ```
#[derive(Clone)]
pub struct Db {
    pub(super) inner: Arc<Inner>,
    default: Arc<Family>,
}

impl Db {
    pub(super) fn new(inner: Arc<Inner>, default: Arc<Family>) -> Db {
        Db { inner, default }
    }

    /// Closes the database: stops background work, makes everything durable and seals the
    /// directory, so that the next open need not replay or repair anything. Other handles of it
    /// fail with `Closed` from then on.
    ///
    /// # Errors
    /// Whatever stood in the way; the data is as after a crash then. `Busy` if iterators or
    /// snapshots are still alive: everything is closed and sealed, but the lock goes with the last
    /// of them.
    pub fn close(self) -> Result<()> {
        self.inner.shutdown()?;
        if !self.inner.store.release_lock() {
            return Err(Error::new(ErrorKind::Busy, "iterators or snapshots are still alive; the lock goes with them"));
        }
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.store.context.dir
    }

    /// The database's identity, made at random when it was created.
    pub fn id(&self) -> u128 {
        self.inner.store.db_id
    }

    // Column families.

    /// The family named `default`.
    pub fn default_family(&self) -> ColumnFamily {
        ColumnFamily::new(self.inner.clone(), self.default.clone())
    }

    /// The family of this name, made with `options` if it is not there. If it is there it keeps its
    /// options; a difference is reported by [`Db::option_differences`] and as an event.
    pub fn open_column_family(&self, name: &str, options: CfOptions) -> Result<ColumnFamily> {
        match self.inner.store.family_named(name) {
            Some(family) => {
                self.inner.note_difference(&family, &options);
                Ok(ColumnFamily::new(self.inner.clone(), family))
            }
            None => match self.create_column_family(name, options) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => self.column_family(name),
                other => other,
            },
        }
    }

    /// Makes a family. Durable when this returns.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidArgument` for an empty name, one longer than 255 bytes, or options
    /// out of range.
    pub fn create_column_family(&self, name: &str, options: CfOptions) -> Result<ColumnFamily> {
        check_family_name(name)?;
        options.validate()?;
        self.inner.writer.exclusive(|x| {
            let store = &self.inner.store;
            if store.family_named(name).is_some() {
                return Err(
                    Error::new(ErrorKind::AlreadyExists, "the column family exists already").with_column_family(name)
                );
            }
            let id = store.next_family_id();
            let record = FamilyRecord::new(id, name, options, x.last_seq() + 1);
            let edit = VersionEdit { families_created: vec![record], ..VersionEdit::default() };
            self.inner.family_operation(x, &edit)
        })?;
        self.column_family(name)
    }

    /// The family of this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn column_family(&self, name: &str) -> Result<ColumnFamily> {
        let family = self.inner.store.family_named(name).ok_or_else(|| no_family(name))?;
        Ok(ColumnFamily::new(self.inner.clone(), family))
    }

    /// Removes a family and everything in it. Snapshots and iterators that read it go on; handles of
    /// it fail with `Closed`. Its files go when the last reader does.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for `default`, which always exists.
    pub fn drop_column_family(&self, name: &str) -> Result<()> {
        if name == "default" {
            return Err(Error::invalid("the column family \"default\" cannot be dropped").with_column_family(name));
        }
        self.inner.writer.exclusive(|x| {
            let family = self.inner.store.family_named(name).ok_or_else(|| no_family(name))?;
            let edit = VersionEdit { families_dropped: vec![family.id], ..VersionEdit::default() };
            self.inner.family_operation(x, &edit)
        })
    }

    /// Gives a family another name. Handles of it stay good.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`; `InvalidArgument` for `default`.
    pub fn rename_column_family(&self, from: &str, to: &str) -> Result<()> {
        check_family_name(to)?;
        if from == "default" {
            return Err(Error::invalid("the column family \"default\" cannot be renamed").with_column_family(from));
        }
        self.inner.writer.exclusive(|x| {
            let store = &self.inner.store;
            let family = store.family_named(from).ok_or_else(|| no_family(from))?;
            if store.family_named(to).is_some() {
                return Err(
                    Error::new(ErrorKind::AlreadyExists, "the column family exists already").with_column_family(to)
                );
            }
            let edit = VersionEdit { families_renamed: vec![(family.id, to.to_string())], ..VersionEdit::default() };
            self.inner.family_operation(x, &edit)
        })
    }

    /// Gives a family other options. They hold for blocks and tables written from now on; nothing
    /// is rewritten at once and everything stays readable.
    pub fn set_options(&self, name: &str, options: CfOptions) -> Result<()> {
        self.inner.set_options(name, options)
    }

    /// The names of all families, in the order they were made.
    pub fn column_family_names(&self) -> Vec<String> {
        self.inner.store.families().iter().map(|f| f.name().to_string()).collect()
    }

    /// Families that were opened with other options than are kept: name and a line about the
    /// difference.
    pub fn option_differences(&self) -> Vec<(String, String)> {
        self.inner.differences.lock().clone()
    }

    // Data of the default family.

    /// Sets a key's value in the default family; see [`ColumnFamily::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Commit> {
        family::put(
            &self.inner,
            &self.default,
            key.as_ref(),
            value.as_ref(),
            self.inner.store.context.options.durability,
        )
    }

    /// Removes a key from the default family; see [`ColumnFamily::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Commit> {
        self.default_family().delete(key)
    }

    /// Removes a range of keys from the default family; see [`ColumnFamily::delete_range`].
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Commit> {
        self.default_family().delete_range(range)
    }

    /// The value of a key of the default family; see [`ColumnFamily::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        family::get(&self.inner.store, &self.default, key.as_ref())
    }

    /// Lends the value of a key of the default family to `body`; see [`ColumnFamily::get_with`].
    pub fn get_with<R>(&self, key: impl AsRef<[u8]>, body: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.get(key)?.map(|value| body(&value)))
    }

    /// The values of several keys of the default family; see [`ColumnFamily::multi_get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Slice>>> {
        self.default_family().multi_get(keys)
    }

    /// True if the key has a value in the default family.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// All entries of the default family, in order of keys.
    pub fn iter(&self) -> Iter {
        self.default_family().iter()
    }

    /// The entries of a range of the default family; see [`ColumnFamily::range`].
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.default_family().range(range)
    }

    /// The entries of the default family whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.default_family().prefix(prefix)
    }

    // Batches and durability.

    /// An empty batch.
    pub fn batch(&self) -> WriteBatch {
        WriteBatch::new()
    }

    /// Commits a batch, whole or not at all, over all families it touches, with the durability of
    /// the options.
    ///
    /// ```
    /// use lignite::{CfOptions, Db};
    /// let db = Db::temporary()?;
    /// let users = db.open_column_family("users", CfOptions::new())?;
    /// let mails = db.open_column_family("mails", CfOptions::new())?;
    /// let mut batch = db.batch();
    /// batch.put(&users, b"1", b"ada@example.org").put(&mails, b"ada@example.org", b"1");
    /// db.write(batch)?.wait_durable()?;
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn write(&self, batch: WriteBatch) -> Result<Commit> {
        self.write_with(batch, self.inner.store.context.options.durability)
    }

    /// As [`Db::write`], with this durability.
    ///
    /// # Errors
    /// `InvalidArgument` for a key, value or batch over its limit or a family of another database;
    /// `Closed` if a family was dropped; `NoSpace` and `Stalled` (nothing was written); `Io` and
    /// `Poisoned` (the batch is wholly there or wholly absent after the next open).
    pub fn write_with(&self, batch: WriteBatch, durability: Durability) -> Result<Commit> {
        self.inner.commit(&batch.finish(&self.inner.store)?, durability)
    }

    /// Makes everything that was acknowledged so far durable.
    pub fn sync(&self) -> Result<()> {
        self.inner.store.check_writable()?;
        self.inner.store.log()?.sync_all().inspect_err(|e| self.inner.store.poison(e))
    }

    /// What the database holds now, over all families, for as long as the snapshot lives.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.inner.clone())
    }

    // Maintenance.

    /// Writes all memtables to tables.
    pub fn flush(&self) -> Result<()> {
        self.inner.store.check_writable()?;
        let families = self.inner.store.families();
        self.inner.writer.exclusive(|x| {
            for family in &families {
                x.seal(family);
            }
            Ok(())
        })?;
        families.iter().try_for_each(|f| self.inner.worker.flush(f))
    }

    /// Compacts every family to its last level. Takes time and space in proportion to the data.
    pub fn compact(&self) -> Result<()> {
        self.flush()?;
        self.inner.store.families().iter().try_for_each(|f| self.inner.worker.compact_range(f, &KeyRange::ALL))
    }

    /// Waits until flush and compaction have nothing left to do.
    pub fn wait_for_idle(&self) -> Result<()> {
        self.inner.worker.wait_for_idle()
    }

    /// Begins no new background job until [`Db::resume_background`]; returns when the running ones
    /// are done. Writes go on until memtables are full and then fail with `Stalled`.
    pub fn pause_background(&self) {
        self.inner.worker.pause();
    }

    /// Undoes one [`Db::pause_background`].
    pub fn resume_background(&self) {
        self.inner.worker.resume();
    }

    /// Runs one background job on this thread if there is one; for databases that were opened with
    /// no background threads.
    pub fn step(&self) -> Result<bool> {
        self.inner.worker.step()
    }
}

impl Reader for Db {
    fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        family.get(key)
    }

    fn multi_get<K: AsRef<[u8]>>(&self, family: &ColumnFamily, keys: &[K]) -> Result<Vec<Option<Slice>>> {
        family.multi_get(keys)
    }

    fn range<K: AsRef<[u8]>>(&self, family: &ColumnFamily, range: impl RangeBounds<K>) -> Iter {
        family.range(range)
    }

    fn prefix(&self, family: &ColumnFamily, prefix: impl AsRef<[u8]>) -> Iter {
        family.prefix(prefix)
    }

    fn cursor(&self, family: &ColumnFamily) -> Result<Cursor> {
        family.cursor()
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.path()).finish_non_exhaustive()
    }
}
