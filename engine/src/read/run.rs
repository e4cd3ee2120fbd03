//! Steps that ask nobody.
//!
//! Most steps of a scan lead from an entry of a block to the one beside it, and nothing else is near: no other
//! source has a key in between, no range tombstone lies over it, it is no deletion and not too new. A [`Run`] is a
//! stretch of a block of which all that was found out once, so that a step within it is an addition.

use crate::iter::Cursor;
use crate::iter::cover::HasFragments;
use crate::iter::merge::Merge;
use crate::iter::visible::Visible;
use crate::key::{SeqNo, Tag};
use crate::read::source::Source;
use crate::table::block::Block;

/// A stretch that another source may end is taken if it is longer than this.
const LEN_MIN: usize = 4;
/// So many steps are made before the next attempt to find one, after one that found none.
const PATIENCE: u32 = 8;
/// So many entries with tags of their own are looked at.
const TAGS_MAX: usize = 64;

/// Entries `start ..end` of a block, and the one that is shown.
#[derive(Debug)]
pub struct Run {
    /// The block.
    pub block: Block,
    start: usize,
    /// The entry that is shown.
    pub at: usize,
    end: usize,
}

impl Run {
    /// To the next entry; false if that lies outside.
    #[inline]
    pub fn next(&mut self) -> bool {
        let is_inside = self.at + 1 < self.end;
        self.at += usize::from(is_inside);
        is_inside
    }

    /// To the entry before; false if that lies outside.
    #[inline]
    pub fn prev(&mut self) -> bool {
        let is_inside = self.at > self.start;
        self.at -= usize::from(is_inside);
        is_inside
    }
}

/// When to look for a run.
#[derive(Debug, Default)]
pub struct Finder {
    wait: u32,
}

impl Finder {
    /// The run that begins where `visible` stands and goes the way it has come, if it is worth it.
    #[inline]
    pub fn find<H: HasFragments>(&mut self, visible: &Visible<Merge<Source>, H>) -> Option<Run> {
        if self.wait > 0 {
            self.wait -= 1;
            return None;
        }
        let run = find(visible);
        self.wait = if run.is_none() { PATIENCE } else { 0 };
        run
    }
}

fn find<H: HasFragments>(visible: &Visible<Merge<Source>, H>) -> Option<Run> {
    let merge = visible.uncovered()?;
    let (block, at) = merge.current()?.block()?;
    if block.has_repeats() {
        return None;
    }
    let other = merge.runner_up();
    if merge.is_backward() {
        // What lies in the block in front of the first entry is not known here.
        let mut start = 1;
        if let Some(other) = other {
            let key = other.key();
            if at < start + LEN_MIN || block.key(at - LEN_MIN) <= key {
                return None;
            }
            start = start.max(behind(block, key));
        }
        if !visible.first().is_empty() && block.key(0) < visible.first() {
            start = start.max(block.lower_bound(visible.first(), Tag::NEWEST));
        }
        let start = start.max(first_plain(block, at, visible.seq()));
        return (start < at).then(|| Run { block: block.clone(), start, at, end: at + 1 });
    }
    let mut end = block.len();
    for (bound, len_min) in [(other.map(Cursor::key), LEN_MIN), (visible.limit(), 0)] {
        let Some(bound) = bound else { continue };
        if at + len_min >= end || block.key(at + len_min) >= bound {
            return None;
        }
        if block.key(end - 1) >= bound {
            end = block.lower_bound(bound, Tag::NEWEST);
        }
    }
    let end = end.min(plain_end(block, at, visible.seq()));
    (at + 1 < end).then(|| Run { block: block.clone(), start: at, at, end })
}

/// The first entry whose key is greater than `key`.
fn behind(block: &Block, key: &[u8]) -> usize {
    let at = block.lower_bound(key, Tag::OLDEST);
    if at < block.len() && block.key(at) == key { at + 1 } else { at }
}

/// True if a reader at `seq` sees the entry, if nothing lies over it.
#[inline]
fn is_plain(tag: Tag, seq: SeqNo) -> bool {
    tag.is_put() && tag.seq() <= seq
}

/// Behind `at`, which is plain, the first entry that may not be.
fn plain_end(block: &Block, at: usize, seq: SeqNo) -> usize {
    if !block.has_tags() {
        return block.len();
    }
    let looked_at = block.len().min(at + TAGS_MAX);
    (at + 1..looked_at).find(|&i| !is_plain(block.tag(i), seq)).unwrap_or(looked_at)
}

/// The mirror image: the first entry from which on all up to `at` are plain.
fn first_plain(block: &Block, at: usize, seq: SeqNo) -> usize {
    if !block.has_tags() {
        return 0;
    }
    let looked_at = at.saturating_sub(TAGS_MAX);
    (looked_at..at).rev().find(|&i| !is_plain(block.tag(i), seq)).map_or(looked_at, |i| i + 1)
}
