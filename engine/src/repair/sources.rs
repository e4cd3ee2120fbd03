//! What is left, as one sorted sequence: wrecks of tables and records of logs, merged.

use crate::error::{Error, Result};
use crate::iter::Cursor;
use crate::iter::merge::Merge;
use crate::key::{SEQ_MAX, Tag};
use crate::memtable::{Memtable, MemtableCursor};
use crate::slice::Slice;
use crate::sync::Arc;
use crate::table::wreck::{Wreck, WreckCursor};
use crate::tombstone::Fragments;

/// Where entries come from.
pub enum Source {
    /// What is left of a table.
    Table(Arc<Wreck>),
    /// Records of a log.
    Log(Arc<Memtable>),
}

impl Source {
    fn tombstones(&self) -> Vec<crate::tombstone::RangeTombstone> {
        match self {
            Source::Table(wreck) => wreck.tombstones.to_tombstones(),
            Source::Log(memtable) => memtable.tombstones().to_tombstones(),
        }
    }

    fn cursor(&self) -> SourceCursor {
        match self {
            Source::Table(wreck) => SourceCursor::Table(wreck.cursor()),
            Source::Log(memtable) => SourceCursor::Log(memtable.cursor()),
        }
    }
}

/// Visits the newest version of every key that is not deleted, in order of the keys. Deletes count only
/// as far as they are in the sources themselves.
pub fn visit_live(sources: &[Source], visit: &mut dyn FnMut(&[u8], Tag, &[u8]) -> Result<()>) -> Result<()> {
    let tombstones = Fragments::build(sources.iter().flat_map(Source::tombstones));
    let mut merge = Merge::new(sources.iter().map(Source::cursor).collect());
    merge.seek_to_first()?;
    let mut decided: Option<Vec<u8>> = None;
    while merge.valid() {
        let (key, tag) = (merge.key(), merge.tag());
        if decided.as_deref() != Some(key) {
            let hidden = tombstones.covering(key, SEQ_MAX).is_some_and(|seq| seq > tag.seq());
            if tag.is_put() && !hidden {
                visit(key, tag, merge.value())?;
            } else if !tag.is_put() && !tag.is_delete() {
                return Err(Error::unsupported(format!("an entry is {tag:?}, which this version does not know")));
            }
            let mut buffer = decided.take().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(key);
            decided = Some(buffer);
        }
        merge.next()?;
    }
    Ok(())
}

enum SourceCursor {
    Table(WreckCursor),
    Log(MemtableCursor),
}

macro_rules! each {
    ($self:ident, $cursor:ident => $body:expr) => {
        match $self {
            SourceCursor::Table($cursor) => $body,
            SourceCursor::Log($cursor) => $body,
        }
    };
}

impl Cursor for SourceCursor {
    fn valid(&self) -> bool {
        each!(self, c => c.valid())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        each!(self, c => c.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        each!(self, c => c.seek_to_last())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, c => c.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, c => c.seek_for_prev(key, tag))
    }

    fn next(&mut self) -> Result<()> {
        each!(self, c => c.next())
    }

    fn prev(&mut self) -> Result<()> {
        each!(self, c => c.prev())
    }

    fn key(&self) -> &[u8] {
        each!(self, c => c.key())
    }

    fn tag(&self) -> Tag {
        each!(self, c => c.tag())
    }

    fn value(&self) -> &[u8] {
        each!(self, c => c.value())
    }

    fn key_slice(&self) -> Slice {
        each!(self, c => c.key_slice())
    }

    fn value_slice(&self) -> Slice {
        each!(self, c => c.value_slice())
    }
}
