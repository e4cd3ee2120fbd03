//! Random histories: what is likely, and what is likely in the company of what.

use std::ops::Bound;

use super::{CURSORS, FAMILIES, ITERATORS, Op, SLICES, SNAPSHOTS, Value, Write};
use crate::model::{ALL, Range};
use crate::rng::Rng;

/// What a history has more of than others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Nothing.
    #[default]
    Plain,
    /// Few keys with many versions, snapshots among them.
    Versions,
    /// Range deletes over data that lies in many levels.
    RangeDeletes,
    /// Snapshots, and iterators and cursors kept open.
    Snapshots,
    /// Families that come, go and change names.
    Families,
    /// Long keys with long parts in common.
    LongPrefixes,
    /// Ingests between and below other data.
    Ingests,
    /// Ends of all kinds, and what comes after them.
    Reopens,
    /// Much data in long runs, so that levels fill.
    Volume,
    /// Deletes, singly and by ranges, that compactions carry down.
    Tombstones,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Flavour; 10] = [
        Flavour::Plain,
        Flavour::Versions,
        Flavour::RangeDeletes,
        Flavour::Snapshots,
        Flavour::Families,
        Flavour::LongPrefixes,
        Flavour::Ingests,
        Flavour::Reopens,
        Flavour::Volume,
        Flavour::Tombstones,
    ];
}

/// How a random history is made.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Operations.
    pub ops: usize,
    /// How many different keys there are, roughly.
    pub keys: u64,
    /// Longest usual value; now and then there is one thirty times as long.
    pub value_len: u32,
    /// Chance of a write to wait for the device, in percent.
    pub sync_percent: u64,
    /// What it has more of.
    pub flavour: Flavour,
}

/// A history that is a function of `seed` and `mix`.
pub fn generate(seed: u64, mix: Mix) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let weights: Vec<(Group, u64)> = GROUPS.iter().map(|(g, w)| (*g, weight(*g, *w, mix.flavour))).collect();
    let total = weights.iter().map(|(_, w)| w).sum();
    let mut make = Maker { rng: &mut rng, mix };
    let mut ops = Vec::with_capacity(mix.ops);
    // Something to work on: most operations do nothing on an empty slot.
    for slot in 1..FAMILIES {
        ops.push(Op::Create(slot, make.rng.next_u64()));
    }
    while ops.len() < mix.ops {
        let mut at = make.rng.below(total);
        let group = weights.iter().find(|(_, w)| {
            let here = at < *w;
            at = at.wrapping_sub(*w);
            here
        });
        ops.push(make.op(group.expect("the weights add up to the total").0));
    }
    ops
}

/// What is chosen first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Write,
    WriteThen,
    Batch,
    Fill,
    Clear,
    Sync,
    Get,
    MultiGet,
    Slice,
    Scan,
    Ends,
    Prefix,
    Walk,
    IterOpen,
    IterStep,
    IterDrop,
    CursorOpen,
    CursorMove,
    CursorDrop,
    SnapshotTake,
    SnapshotDrop,
    Flush,
    Compact,
    CompactAll,
    Pause,
    Step,
    Reopen,
    Copy,
    ReadOnly,
    Create,
    Drop,
    Rename,
    Families,
    Ingest,
    SetOptions,
    Ask,
    Misuse,
    Check,
}

const GROUPS: &[(Group, u64)] = &[
    (Group::Write, 3800),
    (Group::WriteThen, 40),
    (Group::Batch, 300),
    (Group::Fill, 30),
    (Group::Clear, 3),
    (Group::Sync, 30),
    (Group::Get, 2400),
    (Group::MultiGet, 150),
    (Group::Slice, 150),
    (Group::Scan, 250),
    (Group::Ends, 100),
    (Group::Prefix, 100),
    (Group::Walk, 200),
    (Group::IterOpen, 150),
    (Group::IterStep, 900),
    (Group::IterDrop, 50),
    (Group::CursorOpen, 70),
    (Group::CursorMove, 900),
    (Group::CursorDrop, 20),
    (Group::SnapshotTake, 130),
    (Group::SnapshotDrop, 100),
    (Group::Flush, 80),
    (Group::Compact, 30),
    (Group::CompactAll, 3),
    (Group::Pause, 20),
    (Group::Step, 50),
    (Group::Reopen, 18),
    (Group::Copy, 2),
    (Group::ReadOnly, 7),
    (Group::Create, 60),
    (Group::Drop, 12),
    (Group::Rename, 20),
    (Group::Families, 10),
    (Group::Ingest, 40),
    (Group::SetOptions, 25),
    (Group::Ask, 60),
    (Group::Misuse, 60),
    (Group::Check, 5),
];

fn weight(group: Group, usual: u64, flavour: Flavour) -> u64 {
    let times = match (flavour, group) {
        (Flavour::Versions | Flavour::Snapshots, Group::SnapshotTake | Group::SnapshotDrop) => 3,
        (Flavour::Snapshots, Group::IterOpen | Group::CursorOpen) => 2,
        (Flavour::Snapshots, Group::Flush | Group::Compact) => 2,
        (Flavour::Tombstones | Flavour::RangeDeletes, Group::Compact | Group::Fill | Group::Clear) => 2,
        (Flavour::Families, Group::Create | Group::Drop | Group::Rename | Group::Families) => 6,
        (Flavour::Ingests, Group::Ingest) => 6,
        (Flavour::Reopens, Group::Reopen | Group::ReadOnly | Group::Copy) => 4,
        (Flavour::Volume, Group::Fill) => 10,
        (Flavour::Volume, Group::Scan) => 0,
        _ => 1,
    };
    usual * times
}

/// The key of a number in the form that most keys have.
pub(super) fn number_key(n: u64) -> Vec<u8> {
    let mut key = *b"key000000";
    let mut n = n;
    for digit in key[3..].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    key.to_vec()
}

struct Maker<'a> {
    rng: &'a mut Rng,
    mix: Mix,
}

impl Maker<'_> {
    fn op(&mut self, group: Group) -> Op {
        let family = self.family();
        match group {
            Group::Write => Op::Write(family, self.write(), self.sync()),
            Group::WriteThen => Op::WriteThen(family, self.write(), self.rng.chance(50)),
            Group::Batch => {
                let n = if self.rng.chance(4) { self.rng.within(50, 200) } else { self.rng.below(6) };
                Op::Batch((0..n).map(|_| (self.family(), self.write())).collect(), self.sync())
            }
            Group::Fill => {
                let first = self.rng.below(self.mix.keys);
                let (count, step) = (self.rng.within(10, 150) as u16, self.rng.within(1, 3) as u16);
                Op::Fill(family, first, count, step, self.value())
            }
            Group::Clear => Op::Clear(family),
            Group::Sync => Op::Sync,
            Group::Get => match self.rng.below(10) {
                0 => Op::GetWith(family, self.key()),
                1 | 2 => Op::Contains(family, self.at(), self.key()),
                _ => Op::Get(family, self.at(), self.key()),
            },
            Group::MultiGet => {
                let n = if self.rng.chance(8) { 80 } else { 8 };
                let at = self.at();
                Op::MultiGet(family, at, (0..self.rng.below(n)).map(|_| self.key()).collect())
            }
            Group::Slice => {
                let slot = self.slot(SLICES);
                match self.rng.below(2) {
                    0 => Op::SliceKeep(slot, family, self.at(), self.key()),
                    _ => Op::SliceCheck(slot),
                }
            }
            Group::Scan => Op::Scan(family, self.at(), self.range(), self.rng.chance(50)),
            Group::Ends => Op::Ends(family, self.at(), self.range(), self.steps(24)),
            Group::Prefix => {
                let mut key = self.key();
                let cut = match self.rng.below(4) {
                    0 => self.rng.below(4),
                    _ => (key.len() as u64).saturating_sub(self.rng.below(4)),
                };
                key.truncate(cut as usize);
                Op::Prefix(family, self.at(), key)
            }
            Group::Walk => Op::Walk(family, self.key(), self.steps(12)),
            Group::IterOpen => {
                let slot = self.slot(ITERATORS);
                match self.rng.chance(40) {
                    true => Op::IterOpenAt(slot, family, self.slot(SNAPSHOTS), self.range()),
                    false => Op::IterOpen(slot, family, self.range()),
                }
            }
            Group::IterStep => Op::IterStep(self.slot(ITERATORS), self.rng.within(1, 7) as u8, self.rng.chance(40)),
            Group::IterDrop => Op::IterDrop(self.slot(ITERATORS)),
            Group::CursorOpen => Op::CursorOpen(self.slot(CURSORS), family, self.at(), self.range()),
            Group::CursorMove => {
                let slot = self.slot(CURSORS);
                match self.rng.below(10) {
                    0 => Op::CursorEnd(slot, self.rng.chance(50)),
                    1 => Op::CursorChunk(slot, self.rng.within(0, 20) as u8),
                    2..5 => Op::CursorSeek(slot, self.key(), self.rng.chance(50)),
                    _ => Op::CursorStep(slot, self.steps(6)),
                }
            }
            Group::CursorDrop => Op::CursorDrop(self.slot(CURSORS)),
            Group::SnapshotTake => match self.rng.below(8) {
                0 => Op::SnapshotClone(self.slot(SNAPSHOTS), self.slot(SNAPSHOTS)),
                _ => Op::SnapshotTake(self.slot(SNAPSHOTS)),
            },
            Group::SnapshotDrop => Op::SnapshotDrop(self.slot(SNAPSHOTS)),
            Group::Flush => match self.rng.below(8) {
                0 => Op::FlushAll,
                _ => Op::Flush(family),
            },
            Group::Compact => match self.rng.below(64) {
                0..8 => Op::CompactFamily(family),
                8..11 => Op::Recompress(family, self.rng.next_u64()),
                _ => Op::Compact(family, self.range()),
            },
            Group::CompactAll => Op::CompactAll,
            Group::Pause => {
                if self.rng.chance(40) {
                    Op::Pause
                } else {
                    Op::Resume
                }
            }
            Group::Step => {
                if self.rng.chance(70) {
                    Op::Step(self.rng.within(1, 4) as u8)
                } else {
                    Op::WaitIdle
                }
            }
            Group::Reopen => {
                let seed = self.rng.next_u64();
                match self.rng.below(20) {
                    0..6 => Op::Reopen(seed, false),
                    6..9 => Op::Reopen(seed, true),
                    9..12 => Op::CloseBusy(seed),
                    12..16 => Op::Die(seed),
                    16..19 => Op::PowerLoss(seed),
                    _ if self.rng.chance(30) => Op::Destroy(seed),
                    _ => Op::Die(seed),
                }
            }
            Group::Copy => match self.rng.below(4) {
                0 => Op::Checkpoint,
                1 => Op::Move(self.rng.next_u64()),
                _ => Op::CheckpointUse(self.rng.next_u64()),
            },
            Group::ReadOnly => match self.rng.below(3) {
                0 => Op::ReadOnly,
                1 => Op::ReaderOpen,
                _ => Op::ReaderCheck,
            },
            Group::Create => Op::Create(self.other_family(), self.rng.next_u64()),
            Group::Drop => match self.rng.below(2) {
                0 => Op::Drop(family),
                _ => Op::Recreate(family, self.rng.next_u64()),
            },
            Group::Rename => Op::Rename(family, self.rng.below(1000)),
            Group::Families => match self.rng.below(2) {
                0 => Op::Families,
                _ => Op::OpenFamily(family, self.rng.next_u64()),
            },
            Group::Ingest => {
                let records = self.records();
                match self.rng.below(6) {
                    0 => Op::IngestBad(family, records, self.rng.below(4) as u8),
                    _ => Op::Ingest(family, records),
                }
            }
            Group::SetOptions => Op::SetOptions(family, self.rng.next_u64()),
            Group::Ask => match self.rng.below(5) {
                0 => Op::Stats,
                _ => Op::Size(family, self.range()),
            },
            Group::Misuse => Op::Misuse(self.rng.below(crate::sim::MISUSES.into()) as u8, family),
            Group::Check => match self.rng.below(3) {
                0 => Op::Check,
                _ => Op::Compare,
            },
        }
    }

    fn sync(&mut self) -> bool {
        self.rng.chance(self.mix.sync_percent)
    }

    fn at(&mut self) -> Option<u8> {
        self.rng.chance(35).then(|| self.slot(SNAPSHOTS))
    }

    fn slot(&mut self, of: u8) -> u8 {
        self.rng.below(of.into()) as u8
    }

    fn steps(&mut self, max: u64) -> Vec<bool> {
        // A trend, so that it gets somewhere.
        let trend = self.rng.pick(&[10, 50, 90]);
        (0..self.rng.below(max)).map(|_| self.rng.chance(trend)).collect()
    }

    fn family(&mut self) -> u8 {
        // The default family gets half of the work, so that its levels fill.
        if self.rng.chance(50) { 0 } else { self.slot(FAMILIES) }
    }

    fn other_family(&mut self) -> u8 {
        self.rng.within(1, u64::from(FAMILIES) - 1) as u8
    }

    fn records(&mut self) -> Vec<(Vec<u8>, Value)> {
        let mut records: Vec<(Vec<u8>, Value)> = match self.rng.below(4) {
            // A run of neighbours, which fits between other data.
            0 | 1 => {
                let first = self.rng.below(self.mix.keys);
                (0..self.rng.below(30)).map(|n| (number_key(first + n), self.value())).collect()
            }
            2 => (0..self.rng.below(20)).map(|_| (self.key(), self.value())).collect(),
            _ => (0..self.rng.below(150)).map(|_| (self.key(), self.value())).collect(),
        };
        records.sort_by(|a, b| a.0.cmp(&b.0));
        records.dedup_by(|a, b| a.0 == b.0);
        records
    }

    fn write(&mut self) -> Write {
        let (deletes, ranges) = match self.mix.flavour {
            Flavour::RangeDeletes => (10, 15),
            Flavour::Tombstones => (40, 8),
            Flavour::Volume => (5, 1),
            _ => (22, 5),
        };
        let n = self.rng.below(100);
        if n < ranges {
            Write::DeleteRange(self.range())
        } else if n < ranges + deletes {
            Write::Delete(self.key())
        } else {
            Write::Put(self.key(), self.value())
        }
    }

    fn value(&mut self) -> Value {
        let usual = u64::from(self.mix.value_len);
        let len = match self.rng.below(200) {
            0..10 => 0,
            10..198 => self.rng.below(usual + 1),
            _ => self.rng.below(usual * 30 + 1),
        };
        Value { seed: self.rng.next_u64() as u32, len: len as u32 }
    }

    fn key(&mut self) -> Vec<u8> {
        let n = self.rng.below(self.mix.keys);
        if self.mix.flavour == Flavour::LongPrefixes && self.rng.chance(70) {
            return self.long_key(n);
        }
        match self.rng.below(100) {
            // Empty, and bytes at both ends of the order.
            0 => Vec::new(),
            1 => vec![0; self.rng.below(4) as usize],
            2 => vec![0xff; self.rng.below(4) as usize],
            3 => self.long_key(n),
            4..20 => format!("{n}").into_bytes(),
            _ => number_key(n),
        }
    }

    fn long_key(&mut self, n: u64) -> Vec<u8> {
        // The length is a function of the number, else no key would come twice.
        let mut key = vec![b'k'; 40 * (n as usize % 12)];
        key.extend_from_slice(&n.to_be_bytes()[5..]);
        if n.is_multiple_of(5) {
            key.extend_from_slice(&vec![b'z'; n as usize % 300]);
        }
        key
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.rng.below(10) {
            0 => Bound::Unbounded,
            1..5 => Bound::Excluded(self.key()),
            _ => Bound::Included(self.key()),
        }
    }

    fn range(&mut self) -> Range {
        match self.rng.below(100) {
            // Everything, one key, nothing, and the wrong way round.
            0..2 => ALL,
            2..6 => {
                let key = self.key();
                (Bound::Included(key.clone()), Bound::Included(key))
            }
            6 => {
                let key = self.key();
                (Bound::Excluded(key.clone()), Bound::Excluded(key))
            }
            7..18 => (self.bound(), self.bound()),
            // Mostly short ranges, so that range deletes leave something over.
            _ => {
                let n = self.rng.below(self.mix.keys);
                let end = n + self.rng.below(self.mix.keys / 20 + 2);
                let (start, end) = match self.mix.flavour {
                    Flavour::LongPrefixes if self.rng.chance(70) => (self.long_key(n), self.long_key(end)),
                    _ => (number_key(n), number_key(end)),
                };
                let start = if self.rng.chance(80) { Bound::Included(start) } else { Bound::Excluded(start) };
                let end = if self.rng.chance(80) { Bound::Excluded(end) } else { Bound::Included(end) };
                (start, end)
            }
        }
    }
}
