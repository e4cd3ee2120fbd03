//! A small family with a random history, for tests of reads, flushes and compactions: real tables on
//! a file system in memory, memtables above them, and the history itself as oracle.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use crate::batch::{WriteBatch, walk};
use crate::clock::ManualClock;
use crate::fs::Fs;
use crate::fs::mem::MemFs;
use crate::key::{FamilyId, KeyRange, Kind, SeqNo, Tag, cmp_internal};
use crate::memtable::Memtable;
use crate::metrics::{FamilyMetrics, LEVELS, Metrics};
use crate::options::{CfOptions, Compression, Depth};
use crate::read::{ReadOptions, View};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table::{TableBuilder, TableWriteOptions};
use crate::tables::Tables;
use crate::tombstone::{Fragments, RangeTombstone};
use crate::version::{TableFile, Version};

pub(crate) const DB_ID: u128 = 7;
pub(crate) const DIR: &str = "/db";

/// A seeded source of choices.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    pub(crate) fn key(&mut self) -> Vec<u8> {
        format!("key {:03}", self.below(150)).into_bytes()
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }
}

/// One step of history; its sequence number is its position, counted from 1.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
}

/// The family.
pub(crate) struct World {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) family: Arc<FamilyMetrics>,
    pub(crate) options: CfOptions,
    pub(crate) history: Vec<Op>,
    pub(crate) next_file: AtomicU64,
}

impl World {
    /// An empty family on an empty file system.
    pub(crate) fn new() -> World {
        let fs = MemFs::new();
        fs.create_dir_all(Path::new(DIR)).unwrap();
        World::on(Arc::new(fs))
    }

    pub(crate) fn on(fs: Arc<dyn Fs>) -> World {
        let metrics = Arc::new(Metrics::default());
        let clock = Arc::new(ManualClock::new());
        let tables = Tables::new(fs.clone(), Path::new(DIR), 1 << 20, 100, metrics.clone(), clock, None);
        World {
            fs,
            tables: Arc::new(tables),
            metrics,
            family: Arc::new(FamilyMetrics::default()),
            options: CfOptions::new().compression(Compression::lz4()).block_size(512),
            history: Vec::new(),
            next_file: AtomicU64::new(1),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// The last sequence number.
    pub(crate) fn last_seq(&self) -> SeqNo {
        self.history.len() as SeqNo
    }

    /// Writes more history: puts, deletes and range deletes. Returns the first new number.
    pub(crate) fn write(&mut self, n: u64, random: &mut Random) -> SeqNo {
        let first = self.last_seq() + 1;
        for _ in 0..n {
            let key = random.key();
            self.history.push(match random.below(30) {
                0 => {
                    // Mostly narrow; sometimes empty, the wrong way round or without an end.
                    let end = format!(
                        "key {:03}",
                        random.below(10) + key[4..].iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))
                    );
                    let end = match random.below(10) {
                        0 => None,
                        1 => Some(random.key()),
                        _ => Some(end.into_bytes()),
                    };
                    Op::DeleteRange(key, end)
                }
                1..=6 => Op::Delete(key),
                _ => {
                    let seq = self.history.len() + 1;
                    let mut value = format!("value {seq} ").into_bytes();
                    value.resize(value.len() + random.below(60) as usize, b'.');
                    Op::Put(key, value)
                }
            });
        }
        first
    }

    /// A memtable with the history from `from` to before `to`.
    pub(crate) fn memtable(&self, from: SeqNo, to: SeqNo) -> Arc<Memtable> {
        let memtable = Memtable::new(from);
        let family = FamilyId::DEFAULT;
        for seq in from..to {
            let mut batch = WriteBatch::new();
            match &self.history[seq as usize - 1] {
                Op::Put(key, value) => batch.put_id(family, key, value),
                Op::Delete(key) => batch.delete_id(family, key),
                Op::DeleteRange(start, end) => {
                    if end.as_ref().is_some_and(|end| end <= start) {
                        continue;
                    }
                    batch.delete_range_id(family, start, end.as_deref())
                }
            };
            for entry in walk(batch.as_bytes()) {
                memtable.add(&entry.unwrap(), seq);
            }
        }
        Arc::new(memtable)
    }

    /// Tables with the history from `from` to before `to`, cut at every `cut`th entry or so.
    pub(crate) fn tables(&self, from: SeqNo, to: SeqNo, level: usize, cut: usize) -> Vec<(usize, Arc<TableFile>)> {
        let mut entries: Vec<(&[u8], Tag, &[u8])> = Vec::new();
        let mut tombstones = Vec::new();
        for seq in from..to {
            match &self.history[seq as usize - 1] {
                Op::Put(key, value) => entries.push((key, Tag::new(seq, Kind::Put), value)),
                Op::Delete(key) => entries.push((key, Tag::new(seq, Kind::Delete), b"")),
                Op::DeleteRange(start, end) => {
                    tombstones.push(RangeTombstone { start: start.clone(), end: end.clone(), seq });
                }
            }
        }
        entries.sort_by(|a, b| cmp_internal(a.0, a.1, b.0, b.1));
        let fragments = Fragments::build(tombstones);
        let mut out = Vec::new();
        let mut rest = &entries[..];
        let mut start = Bound::Unbounded;
        loop {
            let mut n = cut.min(rest.len());
            while n > 0 && n < rest.len() && rest[n].0 == rest[n - 1].0 {
                n += 1;
            }
            let (these, others) = rest.split_at(n);
            let end = others.first().map_or(Bound::Unbounded, |e| Bound::Excluded(e.0.to_vec()));
            let clipped = fragments.clip(&KeyRange { start, end: end.clone() });
            if !these.is_empty() || !clipped.is_empty() {
                let clock = Arc::new(ManualClock::new());
                let options = TableWriteOptions::for_depth(&self.options, Depth::Young);
                let (number, dir) = (self.number(), Path::new(DIR));
                let family = self.family.clone();
                let mut builder =
                    TableBuilder::create(&*self.fs, dir, number, DB_ID, options, 0, family, level, clock).unwrap();
                for (key, tag, value) in these {
                    builder.add(key, *tag, value).unwrap();
                }
                builder.add_tombstones(&clipped);
                out.push((level, TableFile::unmanaged(builder.finish().unwrap())));
            }
            if others.is_empty() {
                return out;
            }
            start = match end {
                Bound::Excluded(key) => Bound::Included(key),
                other => other,
            };
            rest = others;
        }
    }

    pub(crate) fn view(&self, memtables: Vec<Arc<Memtable>>, version: &Version) -> Arc<View> {
        Arc::new(View::new(
            memtables,
            Arc::new(version.clone()),
            self.tables.clone(),
            self.metrics.clone(),
            self.family.clone(),
            Arc::from("test"),
        ))
    }

    /// What a reader at `visible` must see.
    pub(crate) fn oracle(&self, visible: SeqNo) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut map = BTreeMap::new();
        for op in &self.history[..visible as usize] {
            match op {
                Op::Put(key, value) => {
                    map.insert(key.clone(), value.clone());
                }
                Op::Delete(key) => {
                    map.remove(key);
                }
                Op::DeleteRange(start, end) => {
                    map.retain(|k, _| k < start || end.as_ref().is_some_and(|end| k >= end));
                }
            }
        }
        map
    }

    /// A whole family with new history in every place: levels, level 0, memtables.
    pub(crate) fn populate(&mut self, random: &mut Random) -> (Vec<Arc<Memtable>>, Version) {
        let mut version = Version::new();
        let mut memtables = Vec::new();
        // The deeper the older.
        for level in (1..LEVELS).rev().filter(|level| level % 2 == 0) {
            let n = 20 + random.below(200);
            let first = self.write(n, random);
            let cut = 10 + random.below(60) as usize;
            version = version.apply(&self.tables(first, self.last_seq() + 1, level, cut), &[]).unwrap();
        }
        for _ in 0..random.below(4) {
            let n = 1 + random.below(60);
            let first = self.write(n, random);
            version = version.apply(&self.tables(first, self.last_seq() + 1, 0, usize::MAX), &[]).unwrap();
        }
        for _ in 0..random.below(4) {
            let n = random.below(60);
            let first = self.write(n, random);
            memtables.insert(0, self.memtable(first, self.last_seq() + 1));
        }
        (memtables, version)
    }
}

/// Compares everything a view can be asked with the oracle.
pub(crate) fn check_view(world: &World, view: &Arc<View>, visible: SeqNo, random: &mut Random, about: &str) {
    let map = world.oracle(visible);
    let about = format!("{about} at {visible}");
    let keys: Vec<Vec<u8>> = (0..151).map(|n| format!("key {n:03}").into_bytes()).collect();
    for key in &keys {
        let found = view.get(key, visible).unwrap().map(|v| v.to_vec());
        assert_eq!(found.as_ref(), map.get(key), "{about}: get {}", key.escape_ascii());
    }
    let asked: Vec<&[u8]> = (0..random.below(80)).map(|_| keys[random.below(151) as usize].as_slice()).collect();
    let found = view.multi_get(&asked, visible).unwrap();
    for (key, value) in asked.iter().zip(found) {
        assert_eq!(value.map(|v| v.to_vec()).as_ref(), map.get(*key), "{about}: multi_get");
    }

    let range = KeyRange { start: random.bound(), end: random.bound() };
    for range in [KeyRange::ALL, range] {
        let expected: Vec<_> = map.iter().filter(|(k, _)| range.contains(k)).collect();
        let options = ReadOptions { fill_cache: random.below(2) == 0, read_ahead: random.below(2) == 0 };
        let mut cursor = view.cursor(range.clone(), visible, options).unwrap();
        let mut forward = Vec::new();
        cursor.seek_to_first().unwrap();
        while cursor.valid() {
            forward.push((cursor.key().to_vec(), cursor.value().to_vec()));
            cursor.next().unwrap();
        }
        assert!(forward.iter().map(|(k, v)| (k, v)).eq(expected.iter().copied()), "{about}: forward in {range:?}");
        cursor.seek_to_last().unwrap();
        for (key, value) in expected.iter().rev() {
            assert!(cursor.valid(), "{about}: backward in {range:?} ends early");
            assert_eq!((&cursor.key_slice().to_vec(), &cursor.value_slice().to_vec()), (*key, *value), "{about}");
            cursor.prev().unwrap();
        }
        assert!(!cursor.valid(), "{about}: backward in {range:?} does not end");
        let mut at: Option<usize> = None;
        for _ in 0..40 {
            let key = random.key();
            match if random.below(4) == 0 { 2 + random.below(2) } else { random.below(2) } {
                0 => {
                    cursor.next().unwrap();
                    at = at.map(|at| at + 1);
                }
                1 => {
                    cursor.prev().unwrap();
                    at = at.and_then(|at| at.checked_sub(1));
                }
                2 => {
                    cursor.seek(&key).unwrap();
                    at = Some(expected.partition_point(|(k, _)| **k < key));
                }
                _ => {
                    cursor.seek_for_prev(&key).unwrap();
                    at = expected.partition_point(|(k, _)| **k <= key).checked_sub(1);
                }
            }
            at = at.filter(|&at| at < expected.len());
            let here = cursor.valid().then(|| (cursor.key().to_vec(), cursor.value().to_vec()));
            assert_eq!(
                here,
                at.map(|at| (expected[at].0.clone(), expected[at].1.clone())),
                "{about}: walk in {range:?}"
            );
        }
    }
}
