//! What a history keeps open: iterators, cursors, snapshots and values.

use std::collections::VecDeque;
use std::sync::Arc;

use lignite::{Cursor, Db, Iter, Reader, Slice, Snapshot};

use super::machine::{Machine, same};
use super::reads::{Borrowed, same_entry};
use super::{Failure, Pair, Step};
use crate::model::{self, ModelSnapshot, Records};
use crate::ops::{CURSORS, ITERATORS, Op, SLICES, SNAPSHOTS};

/// Everything that is kept, in slots.
#[derive(Default)]
pub(super) struct Kept {
    snapshots: [Option<(Snapshot, ModelSnapshot)>; SNAPSHOTS as usize],
    iterators: [Option<OpenIter>; ITERATORS as usize],
    cursors: [Option<OpenCursor>; CURSORS as usize],
    /// They keep nothing open but memory, so they live on when all else is let go.
    slices: [Option<(Slice, Vec<u8>)>; SLICES as usize],
}

/// A read-only handle and what it shows: families in the order in which they were made.
pub(super) struct ReadOnly {
    pub(super) db: Db,
    pub(super) shows: Vec<(String, Arc<Records>)>,
}

struct OpenIter {
    iterator: Iter,
    left: VecDeque<Pair>,
}

struct OpenCursor {
    cursor: Cursor,
    records: Vec<Pair>,
    position: Option<usize>,
}

impl OpenIter {
    fn step(&mut self, back: bool) -> Result<bool, Failure> {
        let found = if back { self.iterator.next_back() } else { self.iterator.next() };
        let found = found.transpose()?;
        let want = if back { self.left.pop_back() } else { self.left.pop_front() };
        let pair = match &found {
            Some(entry) => Some((entry.key(), entry.value()?)),
            None => None,
        };
        same_entry("an open iterator's entry", want.as_ref().map(|(k, v)| (k.as_slice(), v.as_slice())), pair)?;
        Ok(found.is_some())
    }
}

impl OpenCursor {
    fn compare(&self) -> Step {
        let want = self.position.map(|at| (self.records[at].0.as_slice(), self.records[at].1.as_slice()));
        let cursor = &self.cursor;
        let found: Borrowed<'_> = cursor.valid().then(|| (cursor.key(), cursor.value()));
        same_entry("an open cursor's entry", want, found)
    }

    fn seek(&mut self, key: &[u8], back: bool) -> Step {
        if back {
            self.cursor.seek_for_prev(key)?;
            self.position = self.records.partition_point(|(k, _)| k.as_slice() <= key).checked_sub(1);
        } else {
            self.cursor.seek(key)?;
            let at = self.records.partition_point(|(k, _)| k.as_slice() < key);
            self.position = (at < self.records.len()).then_some(at);
        }
        self.compare()
    }

    fn end(&mut self, last: bool) -> Step {
        if last {
            self.cursor.seek_to_last()?;
            self.position = self.records.len().checked_sub(1);
        } else {
            self.cursor.seek_to_first()?;
            self.position = (!self.records.is_empty()).then_some(0);
        }
        self.compare()
    }

    fn steps(&mut self, steps: &[bool]) -> Step {
        for forwards in steps {
            if *forwards {
                self.cursor.next()?;
                self.position = self.position.map(|at| at + 1).filter(|at| *at < self.records.len());
            } else {
                self.cursor.prev()?;
                self.position = self.position.and_then(|at| at.checked_sub(1));
            }
            self.compare()?;
        }
        Ok(())
    }

    fn chunk(&mut self, n: usize) -> Step {
        let mut out = Vec::new();
        let found = self.cursor.next_chunk(n, &mut out)?;
        let from = self.position.unwrap_or(self.records.len());
        let to = (from + n).min(self.records.len());
        same("the length of a chunk", &(to - from), &found)?;
        same("the entries of a chunk", &found, &out.len())?;
        for ((key, value), (k, v)) in self.records[from..to].iter().zip(&out) {
            same_entry("a chunk's entry", Some((key, value)), Some((k, v)))?;
        }
        if self.position.is_some() {
            self.position = (to < self.records.len()).then_some(to);
        }
        self.compare()
    }
}

impl Kept {
    /// Lets go of all that keeps a database open.
    pub(super) fn release(&mut self) {
        self.iterators = Default::default();
        self.cursors = Default::default();
        self.snapshots = Default::default();
    }

    /// True if anything keeps the database's lock.
    pub(super) fn is_reading(&self) -> bool {
        self.iterators.iter().any(Option::is_some)
            || self.cursors.iter().any(Option::is_some)
            || self.snapshots.iter().any(Option::is_some)
    }

    /// A snapshot and what it shows.
    pub(super) fn snapshot(&self, slot: u8) -> Option<(&Snapshot, &ModelSnapshot)> {
        self.snapshots[slot as usize].as_ref().map(|(s, r)| (s, r))
    }

    /// How many live.
    pub(super) fn snapshots_alive(&self) -> usize {
        self.snapshots.iter().flatten().count()
    }

    /// The number of the oldest.
    pub(super) fn oldest_snapshot(&self) -> Option<u64> {
        self.snapshots.iter().flatten().map(|(s, _)| s.seq()).min()
    }

    /// Goes on with everything that was open when the database was closed.
    pub(super) fn exhaust(&mut self) -> Step {
        for open in self.iterators.iter_mut().flatten() {
            while open.step(false)? {}
        }
        for open in self.cursors.iter_mut().flatten() {
            open.compare()?;
            open.end(true)?;
            open.steps(&[false, false, true])?;
        }
        Ok(())
    }
}

impl Machine {
    /// Does an operation on something that is kept; true if it did something.
    pub(super) fn keep(&mut self, op: &Op) -> Result<bool, Failure> {
        match op {
            Op::IterOpen(slot, family, range) => {
                let Some((handle, _, records)) = self.pair(*family, None) else { return Ok(false) };
                let left = model::within(records, range).map(own).collect();
                let iterator = handle.range(range.clone());
                self.kept.iterators[*slot as usize] = Some(OpenIter { iterator, left });
            }
            Op::IterOpenAt(slot, family, at, range) => {
                let Some((handle, Some(snapshot), records)) = self.pair(*family, Some(*at)) else { return Ok(false) };
                let left = model::within(records, range).map(own).collect();
                let iterator = snapshot.range(handle, range.clone());
                self.kept.iterators[*slot as usize] = Some(OpenIter { iterator, left });
            }
            Op::IterStep(slot, n, back) => {
                let Some(open) = &mut self.kept.iterators[*slot as usize] else { return Ok(false) };
                for _ in 0..*n {
                    open.step(*back)?;
                }
                let left = open.left.len() as u64;
                self.note(left);
            }
            Op::IterDrop(slot) => return Ok(self.kept.iterators[*slot as usize].take().is_some()),
            Op::CursorOpen(slot, family, at, range) => {
                let Some((handle, snapshot, records)) = self.pair(*family, *at) else { return Ok(false) };
                let (cursor, records) = match snapshot {
                    None => (handle.cursor_range(range.clone())?, model::within(records, range).map(own).collect()),
                    Some(snapshot) => (snapshot.cursor(handle)?, records.iter().map(own).collect()),
                };
                let open = OpenCursor { cursor, records, position: None };
                open.compare()?;
                self.kept.cursors[*slot as usize] = Some(open);
            }
            Op::CursorSeek(slot, ..) | Op::CursorEnd(slot, _) | Op::CursorStep(slot, _) | Op::CursorChunk(slot, _) => {
                let Some(open) = &mut self.kept.cursors[*slot as usize] else { return Ok(false) };
                match op {
                    Op::CursorSeek(_, key, back) => open.seek(key, *back)?,
                    Op::CursorEnd(_, last) => open.end(*last)?,
                    Op::CursorStep(_, steps) => open.steps(steps)?,
                    Op::CursorChunk(_, n) => open.chunk((*n).into())?,
                    _ => {}
                }
                let position = open.position.map_or(0, |at| at as u64 + 1);
                self.note(position);
            }
            Op::CursorDrop(slot) => return Ok(self.kept.cursors[*slot as usize].take().is_some()),
            Op::SnapshotTake(slot) => {
                let taken = (self.db().snapshot(), self.expected.model.snapshot());
                self.note(taken.0.seq());
                self.kept.snapshots[*slot as usize] = Some(taken);
            }
            Op::SnapshotClone(from, to) => {
                let Some((snapshot, records)) = &self.kept.snapshots[*from as usize] else { return Ok(false) };
                let clone = (snapshot.clone(), records.clone());
                same("the number of a cloned snapshot", &snapshot.seq(), &clone.0.seq())?;
                self.kept.snapshots[*to as usize] = Some(clone);
            }
            Op::SnapshotDrop(slot) => return Ok(self.kept.snapshots[*slot as usize].take().is_some()),
            Op::SliceKeep(slot, family, at, key) => {
                let Some((handle, snapshot, records)) = self.pair(*family, *at) else { return Ok(false) };
                let found = match snapshot {
                    None => handle.get(key)?,
                    Some(snapshot) => snapshot.get(handle, key)?,
                };
                let want = records.get(key).cloned();
                same("a value to keep", &want.as_deref(), &found.as_deref())?;
                self.kept.slices[*slot as usize] = found.zip(want);
            }
            Op::SliceCheck(slot) => {
                let Some((slice, want)) = &self.kept.slices[*slot as usize] else { return Ok(false) };
                same("a kept value", &want.as_slice(), &&**slice)?;
            }
            _ => return Err(Failure::Wrong(format!("nobody knows how to do {op}"))),
        }
        Ok(true)
    }
}

fn own((key, value): (&Vec<u8>, &Vec<u8>)) -> Pair {
    (key.clone(), value.clone())
}
