//! A memtable, a table or a level as one sorted [`Source`].

use crate::error::Result;
use crate::iter::Cursor;
use crate::key::{KeyRange, Tag, upper_contains};
use crate::memtable::MemtableCursor;
use crate::metrics::FamilyMetrics;
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::block::Block;
use crate::table::cursor::{CursorOptions, TableCursor};
use crate::tables::Tables;
use crate::version::{TableFile, Version};

/// One sorted source of entries: what a merge is made of, in reads and in compactions.
#[derive(Debug)]
pub enum Source {
    /// A memtable.
    Memtable(MemtableCursor),
    /// One table, of level 0.
    Table(TableCursor),
    /// Tables that follow each other.
    Level(LevelCursor),
}

impl Source {
    /// The block it stands in, and where; none in a memtable and while invalid.
    #[inline]
    pub fn block(&self) -> Option<(&Block, usize)> {
        self.table_cursor()?.place()
    }

    /// The cursor over the table it stands in; none in a memtable and while invalid.
    #[inline]
    pub fn table_cursor(&self) -> Option<&TableCursor> {
        match self {
            Source::Memtable(_) => None,
            Source::Table(cursor) => Some(cursor),
            Source::Level(cursor) => cursor.cursor.as_ref(),
        }
    }

    /// Moves within the block it stands in.
    pub fn move_in_block(&mut self, at: usize) {
        match self {
            Source::Memtable(_) => {}
            Source::Table(cursor) => cursor.move_in_block(at),
            Source::Level(cursor) => cursor.cursor.iter_mut().for_each(|cursor| cursor.move_in_block(at)),
        }
    }
}

macro_rules! each {
    ($source:expr, $cursor:ident => $body:expr) => {
        match $source {
            Source::Memtable($cursor) => $body,
            Source::Table($cursor) => $body,
            Source::Level($cursor) => $body,
        }
    };
}

impl Cursor for Source {
    #[inline]
    fn valid(&self) -> bool {
        each!(self, cursor => cursor.valid())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_to_last())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, cursor => cursor.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, cursor => cursor.seek_for_prev(key, tag))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        each!(self, cursor => cursor.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, cursor => cursor.prev())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        each!(self, cursor => cursor.key())
    }

    #[inline]
    fn tag(&self) -> Tag {
        each!(self, cursor => cursor.tag())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        each!(self, cursor => cursor.value())
    }

    #[inline]
    fn key_slice(&self) -> Slice {
        each!(self, cursor => cursor.key_slice())
    }

    #[inline]
    fn value_slice(&self) -> Slice {
        each!(self, cursor => cursor.value_slice())
    }

    #[inline]
    fn entry(&self) -> (&[u8], Tag, &[u8]) {
        each!(self, cursor => cursor.entry())
    }

    #[inline]
    fn is_last_version(&self) -> bool {
        each!(self, cursor => cursor.is_last_version())
    }

    #[inline]
    fn is_first_version(&self) -> bool {
        each!(self, cursor => cursor.is_first_version())
    }
}

/// A cursor over tables that are disjoint and sorted. Opens them one at a time, when it gets there.
pub struct LevelCursor {
    tables: Arc<Tables>,
    family: Arc<FamilyMetrics>,
    files: Files,
    level: usize,
    options: CursorOptions,
    /// The table that `cursor` walks; none while invalid.
    at: usize,
    cursor: Option<TableCursor>,
}

impl LevelCursor {
    /// A cursor over `files`, which are disjoint and sorted by key.
    pub fn new(
        tables: Arc<Tables>,
        files: Vec<Arc<TableFile>>,
        family: Arc<FamilyMetrics>,
        options: CursorOptions,
    ) -> LevelCursor {
        LevelCursor { tables, family, files: Files(Repr::List(files)), level: 0, options, at: 0, cursor: None }
    }

    /// A cursor over `files` of a level.
    pub fn over(
        tables: &Arc<Tables>,
        files: Files,
        family: &Arc<FamilyMetrics>,
        level: usize,
        options: CursorOptions,
    ) -> LevelCursor {
        LevelCursor { tables: tables.clone(), family: family.clone(), files, level, options, at: 0, cursor: None }
    }

    /// The same, counting codec times for `level`.
    #[must_use]
    pub fn at_level(mut self, level: usize) -> LevelCursor {
        self.level = level;
        self
    }

    /// Puts the cursor into table `at` with `place`; if it finds nothing there, onto the first entry
    /// of the tables behind.
    fn forward_from(&mut self, mut at: usize, place: impl FnOnce(&mut TableCursor) -> Result<()>) -> Result<()> {
        let mut place = Some(place);
        while at < self.files.list().len() {
            if let Some(mut cursor) = self.open(at)? {
                match place.take() {
                    Some(place) => place(&mut cursor)?,
                    None => cursor.seek_to_first()?,
                }
                if cursor.valid() {
                    self.cursor = Some(cursor);
                    return Ok(());
                }
            }
            place = None;
            at += 1;
        }
        Ok(())
    }

    /// The mirror image, where `behind` is the number behind the table to begin with.
    fn backward_from(&mut self, mut behind: usize, place: impl FnOnce(&mut TableCursor) -> Result<()>) -> Result<()> {
        let mut place = Some(place);
        while let Some(at) = behind.checked_sub(1) {
            if let Some(mut cursor) = self.open(at)? {
                match place.take() {
                    Some(place) => place(&mut cursor)?,
                    None => cursor.seek_to_last()?,
                }
                if cursor.valid() {
                    self.cursor = Some(cursor);
                    return Ok(());
                }
            }
            place = None;
            behind = at;
        }
        Ok(())
    }

    /// A cursor for table `at`, the one in hand if it is that table's; none if the table holds range
    /// tombstones only.
    fn open(&mut self, at: usize) -> Result<Option<TableCursor>> {
        let held = self.cursor.take();
        if self.at == at && held.is_some() {
            return Ok(held);
        }
        self.at = at;
        let file = &self.files.list()[at];
        if file.meta.entries == 0 {
            return Ok(None);
        }
        let table = self.tables.get_at(file, &self.family, self.level)?;
        Ok(Some(table.cursor(self.options)))
    }

    #[inline]
    fn here(&self) -> &TableCursor {
        self.cursor.as_ref().expect("an accessor needs a valid cursor")
    }
}

impl Cursor for LevelCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.cursor.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.forward_from(0, TableCursor::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.backward_from(self.files.list().len(), TableCursor::seek_to_last)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let at = self.files.list().partition_point(|file| !upper_contains(&file.meta.largest, key));
        if at == self.files.list().len() {
            self.cursor = None;
        }
        self.forward_from(at, |cursor| cursor.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let behind = self.files.list().partition_point(|file| file.meta.smallest.as_slice() <= key);
        if behind == 0 {
            self.cursor = None;
        }
        self.backward_from(behind, |cursor| cursor.seek_for_prev(key, tag))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        if let Err(e) = cursor.next() {
            self.cursor = None;
            return Err(e);
        }
        if cursor.valid() {
            return Ok(());
        }
        self.cursor = None;
        self.forward_from(self.at + 1, TableCursor::seek_to_first)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        if let Err(e) = cursor.prev() {
            self.cursor = None;
            return Err(e);
        }
        if cursor.valid() {
            return Ok(());
        }
        self.cursor = None;
        self.backward_from(self.at, TableCursor::seek_to_last)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.here().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.here().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.here().value()
    }

    #[inline]
    fn key_slice(&self) -> Slice {
        self.here().key_slice()
    }

    #[inline]
    fn value_slice(&self) -> Slice {
        self.here().value_slice()
    }

    #[inline]
    fn entry(&self) -> (&[u8], Tag, &[u8]) {
        self.here().entry()
    }

    #[inline]
    fn is_last_version(&self) -> bool {
        self.here().is_last_version()
    }

    #[inline]
    fn is_first_version(&self) -> bool {
        self.here().is_first_version()
    }
}

impl std::fmt::Debug for LevelCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LevelCursor({} of {} tables)", self.at, self.files.list().len())
    }
}

/// The tables of a [`LevelCursor`]. A level is not copied for each reader.
#[derive(Debug)]
pub struct Files(Repr);

#[derive(Debug)]
enum Repr {
    List(Vec<Arc<TableFile>>),
    Level { version: Arc<Version>, level: usize, from: usize, to: usize },
}

impl Files {
    /// Those of a level that overlap `range`.
    pub fn of_level(version: &Arc<Version>, level: usize, range: &KeyRange) -> Files {
        let files = &version.levels[level];
        let first = range.first();
        let from = files.partition_point(|file| !upper_contains(&file.meta.largest, &first));
        let to = files.partition_point(|file| upper_contains(&range.end, &file.meta.smallest));
        Files(Repr::Level { version: version.clone(), level, from, to: to.max(from) })
    }

    /// In order of their keys.
    #[inline]
    pub fn list(&self) -> &[Arc<TableFile>] {
        match &self.0 {
            Repr::List(files) => files,
            Repr::Level { version, level, from, to } => &version.levels[*level][*from..*to],
        }
    }
}
