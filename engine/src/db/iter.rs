//! Iterators and cursors over what a reader sees.

use super::inner::check_readable;
use crate::error::{Error, Result};
use crate::key::{KeyRange, SeqNo};
use crate::read::{ReadCursor, ReadOptions};
use crate::slice::Slice;
use crate::store::{Family, Reading, Store};
use crate::sync::Arc;

/// One entry of an [`Iter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    key: Slice,
    value: Slice,
}

impl Entry {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value. Never fails today; values kept apart from their keys will be read here.
    pub fn value(&self) -> Result<&[u8]> {
        Ok(&self.value)
    }

    /// The key, sharing the memory of its block.
    pub fn key_slice(&self) -> Slice {
        self.key.clone()
    }

    /// The value, sharing the memory of its block.
    pub fn value_slice(&self) -> Result<Slice> {
        Ok(self.value.clone())
    }

    /// Key and value.
    pub fn into_pair(self) -> Result<(Slice, Slice)> {
        Ok((self.key, self.value))
    }
}

/// Entries in order of keys, from both ends. Sees one state, that of the moment it was made. After
/// the first error it ends.
///
/// ```
/// let db = lignite::Db::temporary()?;
/// for n in 0u8..10 {
///     db.put([n], [n])?;
/// }
/// let last: Vec<_> = db.range([3u8]..[6u8]).rev().collect::<Result<_, _>>()?;
/// assert_eq!(last.iter().map(|e| e.key()[0]).collect::<Vec<_>>(), [5, 4, 3]);
/// # Ok::<(), lignite::Error>(())
/// ```
pub struct Iter {
    source: Source,
    front: Option<ReadCursor>,
    back: Option<ReadCursor>,
    done: bool,
    /// Keeps the database's lock; dropped last.
    _reading: Reading,
}

struct Source {
    view: Result<Arc<crate::read::View>>,
    range: KeyRange,
    visible: SeqNo,
}

impl Source {
    fn cursor(&self) -> Result<ReadCursor> {
        let view = self.view.as_ref().map_err(Clone::clone)?;
        view.cursor(self.range.clone(), self.visible, ReadOptions { fill_cache: true, read_ahead: true })
    }
}

impl Iter {
    pub(super) fn new(store: Arc<Store>, family: &Family, range: KeyRange, at: Option<SeqNo>) -> Iter {
        let view = check_readable(&store, family).map(|()| family.view());
        let visible = at.unwrap_or_else(|| store.published());
        Iter {
            source: Source { view, range, visible },
            front: None,
            back: None,
            done: false,
            _reading: Reading::new(&store),
        }
    }

    fn step_front(&mut self) -> Result<Option<Entry>> {
        let cursor = match &mut self.front {
            Some(cursor) => {
                cursor.next()?;
                cursor
            }
            None => {
                let mut cursor = self.source.cursor()?;
                cursor.seek_to_first()?;
                self.front.insert(cursor)
            }
        };
        if !cursor.valid() || self.back.as_ref().is_some_and(|b| !b.valid() || b.key() <= cursor.key()) {
            return Ok(None);
        }
        Ok(Some(Entry { key: cursor.key_slice(), value: cursor.value_slice() }))
    }

    fn step_back(&mut self) -> Result<Option<Entry>> {
        let cursor = match &mut self.back {
            Some(cursor) => {
                cursor.prev()?;
                cursor
            }
            None => {
                let mut cursor = self.source.cursor()?;
                cursor.seek_to_last()?;
                self.back.insert(cursor)
            }
        };
        if !cursor.valid() || self.front.as_ref().is_some_and(|f| !f.valid() || f.key() >= cursor.key()) {
            return Ok(None);
        }
        Ok(Some(Entry { key: cursor.key_slice(), value: cursor.value_slice() }))
    }

    fn settle(&mut self, outcome: Result<Option<Entry>>) -> Option<Result<Entry>> {
        match outcome {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(e) => {
                self.done = true;
                Some(Err(e))
            }
        }
    }
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.done {
            return None;
        }
        let outcome = self.step_front();
        self.settle(outcome)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Result<Entry>> {
        if self.done {
            return None;
        }
        let outcome = self.step_back();
        self.settle(outcome)
    }
}

impl std::iter::FusedIterator for Iter {}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("range", &self.source.range).finish_non_exhaustive()
    }
}

/// A position among the entries, moved explicitly in either direction. Sees one state, that of the
/// moment it was made. Lends keys and values without copying or counting references.
///
/// ```
/// let db = lignite::Db::temporary()?;
/// db.put(b"a", b"1")?;
/// db.put(b"c", b"3")?;
/// let mut cursor = db.default_family().cursor()?;
/// cursor.seek(b"b")?;
/// assert!(cursor.valid() && cursor.key() == b"c");
/// cursor.prev()?;
/// assert_eq!(cursor.value(), b"1");
/// # Ok::<(), lignite::Error>(())
/// ```
pub struct Cursor {
    cursor: ReadCursor,
    /// Why it could not be moved. It stands nowhere then, until it is sent somewhere.
    failed: Option<Error>,
    /// Keeps the database's lock; dropped last.
    _reading: Reading,
}

impl Cursor {
    pub(super) fn new(store: Arc<Store>, family: &Family, range: KeyRange, at: Option<SeqNo>) -> Result<Cursor> {
        check_readable(&store, family)?;
        let view = family.view();
        let visible = at.unwrap_or_else(|| store.published());
        let cursor = view.cursor(range, visible, ReadOptions { fill_cache: true, read_ahead: true })?;
        Ok(Cursor { cursor, failed: None, _reading: Reading::new(&store) })
    }

    /// True if it stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.failed.is_none() && self.cursor.valid()
    }

    /// Keeps a failure: a step from where a failed one has left off might leave entries out.
    fn keep(&mut self, outcome: Result<()>) -> Result<()> {
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }

    fn check_sound(&self) -> Result<()> {
        match &self.failed {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    /// To the first entry.
    pub fn seek_to_first(&mut self) -> Result<()> {
        let outcome = self.cursor.seek_to_first();
        self.keep(outcome)
    }

    /// To the last entry.
    pub fn seek_to_last(&mut self) -> Result<()> {
        let outcome = self.cursor.seek_to_last();
        self.keep(outcome)
    }

    /// To the first entry at or after `key`.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let outcome = self.cursor.seek(key.as_ref());
        self.keep(outcome)
    }

    /// To the last entry at or before `key`.
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let outcome = self.cursor.seek_for_prev(key.as_ref());
        self.keep(outcome)
    }

    /// To the next entry; from the last one off the end. Does nothing when not valid.
    ///
    /// # Errors
    /// After a failure the cursor is not valid and every step fails alike, until it is sent to a key.
    #[inline]
    pub fn next(&mut self) -> Result<()> {
        self.check_sound()?;
        let outcome = self.cursor.next();
        if outcome.is_err() { self.keep(outcome) } else { outcome }
    }

    /// To the entry before; from the first one off the end. Does nothing when not valid.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        self.check_sound()?;
        let outcome = self.cursor.prev();
        if outcome.is_err() { self.keep(outcome) } else { outcome }
    }

    /// The key; empty when not valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        if self.valid() { self.cursor.key() } else { &[] }
    }

    /// The value; empty when not valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        if self.valid() { self.cursor.value() } else { &[] }
    }

    /// Appends up to `entries_max` entries from here on to `out` and moves behind them; how many
    /// there were. For scans that work on many entries at a time.
    pub fn next_chunk(&mut self, entries_max: usize, out: &mut Vec<(Slice, Slice)>) -> Result<usize> {
        self.check_sound()?;
        let mut n = 0;
        while n < entries_max && self.cursor.valid() {
            out.push((self.cursor.key_slice(), self.cursor.value_slice()));
            n += 1;
            let outcome = self.cursor.next();
            if outcome.is_err() {
                self.keep(outcome)?;
            }
        }
        Ok(n)
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("valid", &self.valid()).finish_non_exhaustive()
    }
}
