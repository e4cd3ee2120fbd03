//! The write batch as callers build it.

use std::ops::RangeBounds;

use super::family::{ColumnFamily, add_range};
use crate::batch;
use crate::error::{Error, Result};
use crate::key::KeyRange;
use crate::store::Store;
use crate::sync::Arc;

/// Several writes that happen together or not at all, over any number of families.
///
/// Encoded as it is built, in the form in which it will be logged. At most 256 MiB. A key or value
/// over its limit is reported when the batch is written.
///
/// ```
/// let db = lignite::Db::temporary()?;
/// let cf = db.default_family();
/// let mut batch = lignite::WriteBatch::new();
/// batch.put(&cf, b"a", b"1").put(&cf, b"b", b"2").delete(&cf, b"a");
/// assert_eq!(batch.len(), 3);
/// db.write(batch)?;
/// assert_eq!(db.get(b"a")?, None);
/// # Ok::<(), lignite::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct WriteBatch {
    encoded: batch::WriteBatch,
    /// Which open database the families belong to.
    store: Option<u64>,
    error: Option<Error>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// An empty batch with room for `bytes` of encoded entries.
    pub fn with_capacity(bytes: usize) -> WriteBatch {
        WriteBatch { encoded: batch::WriteBatch::with_capacity(bytes), ..WriteBatch::default() }
    }

    /// Sets a key's value.
    pub fn put(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut WriteBatch {
        self.touch(family);
        self.encoded.put_id(family.family.id, key.as_ref(), value.as_ref());
        self
    }

    /// Removes a key.
    pub fn delete(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> &mut WriteBatch {
        self.touch(family);
        self.encoded.delete_id(family.family.id, key.as_ref());
        self
    }

    /// Removes every key of a range, at the cost of one write.
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        family: &ColumnFamily,
        range: impl RangeBounds<K>,
    ) -> &mut WriteBatch {
        self.touch(family);
        add_range(&mut self.encoded, &family.family, &KeyRange::from_bounds(&range));
        self
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Bytes of its encoded form.
    pub fn byte_len(&self) -> usize {
        self.encoded.byte_len()
    }

    /// Takes everything out, keeping the memory.
    pub fn clear(&mut self) {
        self.encoded.clear();
        self.store = None;
        self.error = None;
    }

    fn touch(&mut self, family: &ColumnFamily) {
        let id = family.inner.store.instance;
        if *self.store.get_or_insert(id) != id && self.error.is_none() {
            self.error = Some(Error::invalid("the batch holds column families of two databases"));
        }
    }

    pub(super) fn finish(self, store: &Arc<Store>) -> Result<batch::WriteBatch> {
        if let Some(e) = self.error {
            return Err(e);
        }
        if self.store.is_some_and(|id| id != store.instance) {
            return Err(Error::invalid("the batch holds column families of another database"));
        }
        Ok(self.encoded)
    }
}

impl std::fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriteBatch({} entries, {} bytes)", self.len(), self.byte_len())
    }
}
