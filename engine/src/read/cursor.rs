//! All the sources of a family together, as what a reader sees: the [`ReadCursor`].

use crate::error::Result;
use crate::iter::cover::{Cover, HasFragments};
use crate::iter::merge::Merge;
use crate::iter::visible::Visible;
use crate::key::{KeyRange, SeqNo};
use crate::metrics::LEVELS;
use crate::read::run::{Finder, Run};
use crate::read::source::{Files, LevelCursor, Source};
use crate::read::view::{ReadOptions, View};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::cursor::CursorOptions;
use crate::table::reader::Table;
use crate::tombstone::Fragments;
use crate::version::TableFile;

/// A cursor over the keys and values of a family that a reader at one sequence number sees.
///
/// Keeps its view, and with it every table and memtable it may need, for as long as it lives.
pub struct ReadCursor {
    view: Arc<View>,
    visible: Visible<Merge<Source>, Tombstones>,
    /// Where it stands, if it is within a run; `visible` stands somewhere in it then.
    pub(super) run: Option<Run>,
    finder: Finder,
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
            sources.push(Source::Level(LevelCursor::over(&view.tables, files, &view.family, level, options)));
        }
        let visible = Visible::new(Merge::new(sources), visible, cover, range);
        Ok(ReadCursor { view: view.clone(), visible, run: None, finder: Finder::default() })
    }

    /// The view it reads.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// True while it stands on a key.
    #[inline]
    pub fn valid(&self) -> bool {
        self.run.is_some() || self.visible.valid()
    }

    /// Goes to the first key of the range.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.run = None;
        self.visible.seek_to_first().map_err(|e| self.view.named(e))
    }

    /// Goes to the last key of the range.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.run = None;
        self.visible.seek_to_last().map_err(|e| self.view.named(e))
    }

    /// Goes to the first key of the range at or behind `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.run = None;
        self.visible.seek(key).map_err(|e| self.view.named(e))
    }

    /// Goes to the last key of the range at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.run = None;
        self.visible.seek_for_prev(key).map_err(|e| self.view.named(e))
    }

    /// Goes to the next key; does nothing when invalid.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "the field's name for it; it is not an iterator")]
    pub fn next(&mut self) -> Result<()> {
        if self.run.as_mut().is_some_and(Run::next) {
            return Ok(());
        }
        self.next_outside()
    }

    /// Goes to the previous key; does nothing when invalid.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        if self.run.as_mut().is_some_and(Run::prev) {
            return Ok(());
        }
        self.prev_outside()
    }

    fn next_outside(&mut self) -> Result<()> {
        self.leave();
        self.visible.next().map_err(|e| self.view.named(e))?;
        self.run = self.finder.find(&self.visible);
        Ok(())
    }

    fn prev_outside(&mut self) -> Result<()> {
        self.leave();
        self.visible.prev().map_err(|e| self.view.named(e))?;
        self.run = self.finder.find(&self.visible);
        Ok(())
    }

    /// Ends the run: `visible` stands where the cursor stands.
    fn leave(&mut self) {
        if let Some(run) = self.run.take() {
            self.visible.inner_mut().move_current(|source| source.move_in_block(run.at));
        }
    }

    /// The key. Only while valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match &self.run {
            Some(run) => run.block.key(run.at),
            None => self.visible.key(),
        }
    }

    /// The value. Only while valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match &self.run {
            Some(run) => run.block.value(run.at),
            None => self.visible.value(),
        }
    }

    /// The key, kept alive. Only while valid.
    #[inline]
    pub fn key_slice(&self) -> Slice {
        match &self.run {
            Some(run) => run.block.key_slice(run.at),
            None => self.visible.key_slice(),
        }
    }

    /// The value, kept alive. Only while valid.
    #[inline]
    pub fn value_slice(&self) -> Slice {
        match &self.run {
            Some(run) => run.block.value_slice(run.at),
            None => self.visible.value_slice(),
        }
    }
}

impl std::fmt::Debug for ReadCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadCursor({})", self.view.name)
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
