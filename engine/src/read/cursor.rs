//! Cursors for reading a family: a table, a level or a memtable as one [`Source`], and all of them
//! together as what a reader sees, the [`ReadCursor`].

use crate::error::Result;
use crate::iter::Cursor;
use crate::iter::cover::{Cover, HasFragments};
use crate::iter::merge::Merge;
use crate::iter::visible::Visible;
use crate::key::{KeyRange, SeqNo, Tag, upper_contains};
use crate::memtable::MemtableCursor;
use crate::metrics::{FamilyMetrics, LEVELS};
use crate::read::view::{ReadOptions, View};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::cursor::{CursorOptions, TableCursor};
use crate::table::reader::Table;
use crate::tables::Tables;
use crate::tombstone::Fragments;
use crate::version::{TableFile, Version};

/// A cursor over the keys and values of a family that a reader at one sequence number sees.
///
/// Keeps its view, and with it every table and memtable it may need, for as long as it lives.
pub struct ReadCursor {
    view: Arc<View>,
    visible: Visible<Merge<Source>, Tombstones>,
}

impl View {
    /// A cursor over what a reader at `visible` sees of `range`. Opens what lies in level 0 and the
    /// tables with range tombstones; the others when it gets there.
    pub fn cursor(self: &Arc<Self>, range: KeyRange, visible: SeqNo, options: ReadOptions) -> Result<ReadCursor> {
        ReadCursor::new(self, &range, visible, options).map_err(|e| self.named(e))
    }
}

impl ReadCursor {
    pub(super) fn new(
        view: &Arc<View>,
        range: &KeyRange,
        visible: SeqNo,
        options: CursorOptions,
    ) -> Result<ReadCursor> {
        let mut sources = Vec::new();
        let mut cover = Cover::new();
        let first = range.first();
        for memtable in &view.memtables {
            if memtable.first_seq().is_some_and(|seq| seq <= visible) {
                sources.push(Source::Memtable(memtable.cursor()));
                let tombstones = memtable.tombstones();
                if !tombstones.is_empty() {
                    cover.push_run(vec![Tombstones::Memtable(tombstones)]);
                }
            }
        }
        let open = |file: &Arc<TableFile>, level| view.tables.get_at(file, &view.family, level);
        for file in &view.version.levels[0] {
            if !file.meta.overlaps(&first, &range.end) || seq_min(file) > visible {
                continue;
            }
            let table = open(file, 0)?;
            if file.meta.entries > 0 {
                sources.push(Source::Table(table.cursor(options)));
            }
            if file.meta.range_deletes > 0 {
                cover.push_run(vec![Tombstones::Table(table)]);
            }
        }
        for level in 1..LEVELS {
            let files = Files::of_level(&view.version, level, range);
            if files.list().is_empty() {
                continue;
            }
            let mut run = Vec::new();
            if view.version.has_range_deletes(level) {
                for file in files.list().iter().filter(|file| file.meta.range_deletes > 0) {
                    run.push(Tombstones::Table(open(file, level)?));
                }
                cover.push_run(run);
            }
            sources.push(Source::Level(LevelCursor {
                tables: view.tables.clone(),
                family: view.family.clone(),
                files,
                level,
                options,
                at: 0,
                cursor: None,
            }));
        }
        Ok(ReadCursor { view: view.clone(), visible: Visible::new(Merge::new(sources), visible, cover, range) })
    }

    /// The view it reads.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// True while it stands on a key.
    #[inline]
    pub fn valid(&self) -> bool {
        self.visible.valid()
    }

    /// Goes to the first key of the range.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.visible.seek_to_first().map_err(|e| self.view.named(e))
    }

    /// Goes to the last key of the range.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.visible.seek_to_last().map_err(|e| self.view.named(e))
    }

    /// Goes to the first key of the range at or behind `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.visible.seek(key).map_err(|e| self.view.named(e))
    }

    /// Goes to the last key of the range at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.visible.seek_for_prev(key).map_err(|e| self.view.named(e))
    }

    /// Goes to the next key; does nothing when invalid.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "the field's name for it; it is not an iterator")]
    pub fn next(&mut self) -> Result<()> {
        self.visible.next().map_err(|e| self.view.named(e))
    }

    /// Goes to the previous key; does nothing when invalid.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        self.visible.prev().map_err(|e| self.view.named(e))
    }

    /// The key. Only while valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.visible.key()
    }

    /// The value. Only while valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.visible.value()
    }

    /// The key, kept alive. Only while valid.
    #[inline]
    pub fn key_slice(&self) -> Slice {
        self.visible.key_slice()
    }

    /// The value, kept alive. Only while valid.
    #[inline]
    pub fn value_slice(&self) -> Slice {
        self.visible.value_slice()
    }
}

impl std::fmt::Debug for ReadCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadCursor({})", self.view.name)
    }
}

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
        LevelCursor { tables, family, files: Files::List(files), level: 0, options, at: 0, cursor: None }
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
enum Files {
    List(Vec<Arc<TableFile>>),
    Level { version: Arc<Version>, level: usize, from: usize, to: usize },
}

impl Files {
    /// Those that overlap `range`.
    fn of_level(version: &Arc<Version>, level: usize, range: &KeyRange) -> Files {
        let files = &version.levels[level];
        let first = range.first();
        let from = files.partition_point(|file| !upper_contains(&file.meta.largest, &first));
        let to = files.partition_point(|file| upper_contains(&range.end, &file.meta.smallest));
        Files::Level { version: version.clone(), level, from, to: to.max(from) }
    }

    #[inline]
    fn list(&self) -> &[Arc<TableFile>] {
        match self {
            Files::List(files) => files,
            Files::Level { version, level, from, to } => &version.levels[*level][*from..*to],
        }
    }
}

/// Somebody's range tombstones, kept alive.
#[derive(Debug)]
enum Tombstones {
    Memtable(Arc<Fragments>),
    Table(Arc<Table>),
}

impl HasFragments for Tombstones {
    fn fragments(&self) -> &Fragments {
        match self {
            Tombstones::Memtable(fragments) => fragments,
            Tombstones::Table(table) => table.tombstones(),
        }
    }
}

/// The smallest number of an entry of the table.
fn seq_min(file: &TableFile) -> SeqNo {
    file.meta.seq_override.unwrap_or(file.meta.seq_min)
}
