//! The short histories of the crash and fault tests, and what runs them.
//!
//! The fixed ones each stand for one thing that a database does to its files; the random ones mix
//! them all. Keys are few and values small, so that a run takes a millisecond and a recovery less.

use std::ops::Bound;
use std::path::PathBuf;
use std::time::Duration;

use lignite::internals::fs::Fs;
use lignite::{CfOptions, Codec, ColumnFamily, Compression, Db, Durability, FilterPolicy, Options, Result, WriteBatch};

use crate::model::ALL;
use crate::ops::{FAMILIES, Op, Value, Write};
use crate::oracle::World;
use crate::recompress;
use crate::rng::Rng;
use crate::sim::{LOG_MODES, Setup, created_name, renamed_name};

/// A history with what it is called.
#[derive(Clone, Debug)]
pub struct Workload {
    /// For a person.
    pub name: String,
    /// The operations.
    pub ops: Vec<Op>,
    /// Where options and salts come from.
    pub seed: u64,
}

/// How many fixed workloads there are.
pub const FIXED: u64 = 15;

/// Workload `n` of the crash tests: first the fixed ones, then random ones of at most `len`
/// operations.
pub fn workload(n: u64, len: u64) -> Workload {
    let mut b = Builder { rng: Rng::new(n.wrapping_mul(0x5851_f42d_4c95_7f2d)), ops: Vec::new() };
    let name = match n {
        0 => b.creation(),
        1 => b.families(),
        2 => b.rotation(),
        3 => b.ingest(),
        4 => b.checkpoints(),
        5 => b.range_deletes(),
        6 => b.batches(),
        7 => b.reopens(),
        8 => b.options(),
        9 => b.compaction(),
        10 => b.buffered_only(),
        11 => b.synced_only(),
        12 => b.deletes(),
        13 => b.family_ends_in_log(),
        14 => b.rotation_after_close(),
        _ => b.random(len),
    };
    Workload { name: name.to_string(), ops: b.ops, seed: n }
}

impl Workload {
    /// How its database is opened first, on this file system.
    pub fn setup(&self, fs: std::sync::Arc<dyn Fs>) -> Setup {
        Setup { options: options(self.seed), ..Setup::new(fs, self.seed) }
    }
}

struct Builder {
    rng: Rng,
    ops: Vec<Op>,
}

impl Builder {
    fn key(&mut self) -> Vec<u8> {
        format!("key{:02}", self.rng.below(24)).into_bytes()
    }

    fn value(&mut self) -> Value {
        let len = match self.rng.below(20) {
            0 => 0,
            1 => self.rng.within(1000, 5000),
            2..6 => self.rng.within(100, 700),
            _ => self.rng.below(40),
        };
        Value { seed: self.rng.next_u64() as u32, len: len as u32 }
    }

    fn put(&mut self) -> Write {
        Write::Put(self.key(), self.value())
    }

    fn change(&mut self) -> Write {
        match self.rng.below(10) {
            0..7 => self.put(),
            7..9 => Write::Delete(self.key()),
            _ => {
                let from = self.rng.below(24);
                let key = |n: u64| format!("key{n:02}").into_bytes();
                Write::DeleteRange((Bound::Included(key(from)), Bound::Excluded(key(from + self.rng.below(8)))))
            }
        }
    }

    fn write(&mut self, slot: u8, sync: bool) {
        let write = self.put();
        self.ops.push(Op::Write(slot, write, sync));
    }

    fn batch(&mut self, slots: u8, sync: bool) {
        let n = self.rng.within(2, 6);
        let writes = (0..n).map(|i| (i as u8 % slots, self.change())).collect();
        self.ops.push(Op::Batch(writes, sync));
    }

    fn records(&mut self) -> Vec<(Vec<u8>, Value)> {
        let from = self.rng.below(20);
        let to = from + self.rng.within(1, 8);
        (from..to).map(|n| (format!("key{n:02}").into_bytes(), self.value())).collect()
    }

    fn creation(&mut self) -> &'static str {
        self.write(0, true);
        "creation"
    }

    fn families(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 1));
        self.write(1, false);
        self.ops.push(Op::Create(2, 2));
        self.write(2, false);
        self.ops.push(Op::Rename(1, 7));
        self.write(1, false);
        self.ops.push(Op::Flush(1));
        self.ops.push(Op::Rename(2, 8));
        self.ops.push(Op::Drop(1));
        self.write(2, false);
        self.ops.push(Op::Create(1, 1));
        self.write(1, false);
        self.ops.push(Op::Rename(1, 7));
        self.ops.push(Op::SetOptions(1, 5));
        self.write(1, true);
        self.ops.push(Op::Drop(2));
        self.write(0, false);
        "family operations"
    }

    fn rotation(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 3));
        for i in 0..24 {
            let write = Write::Put(self.key(), Value { seed: i, len: 2500 });
            self.ops.push(Op::Write((i % 5 == 0).into(), write, i % 6 == 5));
        }
        "rotation of the log"
    }

    fn ingest(&mut self) -> &'static str {
        self.write(0, false);
        for i in 0..5 {
            let records = self.records();
            self.ops.push(Op::Ingest(0, records));
            self.write(0, i == 2);
            self.batch(1, false);
        }
        self.ops.push(Op::Compact(0, ALL));
        let records = self.records();
        self.ops.push(Op::Ingest(0, records));
        "ingest"
    }

    fn checkpoints(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 4));
        self.batch(2, false);
        self.ops.push(Op::Checkpoint);
        self.batch(2, true);
        self.ops.push(Op::Flush(0));
        self.batch(2, false);
        self.ops.push(Op::Checkpoint);
        self.write(1, false);
        "checkpoints"
    }

    fn range_deletes(&mut self) -> &'static str {
        for round in 0..4 {
            for _ in 0..4 {
                self.write(0, false);
            }
            if round % 2 == 0 {
                self.ops.push(Op::Flush(0));
            }
            let from = self.rng.below(16);
            let key = |n: u64| Bound::Included(format!("key{n:02}").into_bytes());
            self.ops.push(Op::Write(0, Write::DeleteRange((key(from), key(from + 9))), round == 1));
            self.write(0, false);
            self.ops.push(Op::Flush(0));
        }
        self.ops.push(Op::Compact(0, ALL));
        "range deletes over flushes"
    }

    fn batches(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 1));
        self.ops.push(Op::Create(2, 2));
        for i in 0..12 {
            self.batch(3, i % 4 == 3);
            if i % 3 == 1 {
                self.ops.push(Op::Flush((i / 3 % 3) as u8));
            }
        }
        "batches over three families"
    }

    fn reopens(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 9));
        for i in 0..5u64 {
            self.batch(2, false);
            self.write(0, i == 1);
            self.ops.push(Op::Reopen(i, i % 2 == 0));
        }
        self.write(0, false);
        "reopens, clean and not"
    }

    fn options(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 1));
        for i in 0..5 {
            self.batch(2, false);
            self.ops.push(Op::SetOptions((i % 2) as u8, i));
            self.batch(2, false);
            self.ops.push(Op::Flush((i % 2) as u8));
        }
        self.ops.push(Op::Compact(0, ALL));
        "changes of options and codecs"
    }

    fn compaction(&mut self) -> &'static str {
        for i in 0..8 {
            self.write(0, false);
            self.batch(1, i == 5);
            self.ops.push(Op::Flush(0));
        }
        self.ops.push(Op::Compact(0, ALL));
        self.write(0, false);
        self.ops.push(Op::CompactAll);
        self.write(0, false);
        self.ops.push(Op::Recompress(0, 5));
        "compaction"
    }

    fn buffered_only(&mut self) -> &'static str {
        for _ in 0..30 {
            self.write(0, false);
        }
        self.ops.push(Op::Sync);
        for _ in 0..10 {
            self.write(0, false);
        }
        "buffered writes only"
    }

    fn synced_only(&mut self) -> &'static str {
        self.ops.push(Op::Create(1, 4));
        for _ in 0..12 {
            self.batch(2, true);
        }
        "synced writes only"
    }

    fn deletes(&mut self) -> &'static str {
        for i in 0..12 {
            self.write(0, false);
            let key = self.key();
            self.ops.push(Op::Write(0, Write::Delete(key), i % 5 == 4));
            if i % 4 == 3 {
                self.ops.push(Op::Flush(0));
            }
        }
        let every: Vec<(u8, Write)> = (0..24).map(|n| (0, Write::Delete(format!("key{n:02}").into_bytes()))).collect();
        self.ops.push(Op::Batch(every, false));
        self.ops.push(Op::Compact(0, ALL));
        self.write(0, false);
        "deletes"
    }

    /// The first segment after a clean close ends before anything in it was synced.
    fn rotation_after_close(&mut self) -> &'static str {
        self.write(0, false);
        self.ops.push(Op::Reopen(0, false));
        for i in 0..18 {
            let write = Write::Put(self.key(), Value { seed: i, len: 900 });
            self.ops.push(Op::Write(0, write, false));
        }
        // Larger than what is left of the memtable and the segment.
        let large = |n: u8| (0, Write::Put(vec![b'k', n], Value { seed: n.into(), len: 5000 }));
        self.ops.push(Op::Batch((0..4).map(large).collect(), false));
        self.ops.push(Op::Batch((0..4).map(large).collect(), false));
        self.write(0, false);
        "rotation after a clean close"
    }

    /// Family operations whose records are the last ones in the log.
    fn family_ends_in_log(&mut self) -> &'static str {
        self.write(0, false);
        self.ops.push(Op::Create(1, 1));
        self.ops.push(Op::Reopen(1, true));
        self.write(1, false);
        self.ops.push(Op::Rename(1, 3));
        self.ops.push(Op::Reopen(2, true));
        self.write(1, false);
        self.ops.push(Op::SetOptions(1, 4));
        self.ops.push(Op::Reopen(3, true));
        self.write(1, false);
        self.ops.push(Op::Drop(1));
        self.ops.push(Op::Reopen(4, true));
        self.ops.push(Op::Create(1, 1));
        "family operations at the end of the log"
    }

    fn random(&mut self, len: u64) -> &'static str {
        let syncs = self.rng.pick(&[0, 5, 20, 60]);
        self.ops.push(Op::Create(1, self.rng.below(100)));
        let len = self.rng.within(len / 3, len) as usize;
        while self.ops.len() < len {
            let slot = self.rng.below(3) as u8;
            let sync = self.rng.chance(syncs);
            let op = match self.rng.below(100) {
                0..45 => Op::Write(slot, self.change(), sync),
                45..63 => {
                    self.batch(3, sync);
                    continue;
                }
                63..67 => Op::Sync,
                67..75 => Op::Flush(slot),
                75..79 => Op::Compact(slot, ALL),
                79..83 => Op::Ingest(slot, self.records()),
                83..85 => Op::SetOptions(slot, self.rng.next_u64()),
                85..86 => Op::Recompress(slot, self.rng.next_u64()),
                86..89 => Op::Rename(slot, self.rng.below(50)),
                89..92 => Op::Create(slot.max(1), self.rng.below(100)),
                92..94 => Op::Drop(slot),
                94..95 => Op::Checkpoint,
                95..96 => Op::SnapshotTake(0),
                _ => Op::Reopen(self.rng.next_u64(), self.rng.chance(50)),
            };
            self.ops.push(op);
        }
        "random"
    }
}

/// Options of a database of these tests: the smallest memtables and segments there are.
pub fn options(seed: u64) -> Options {
    let mut rng = Rng::new(seed);
    let segment = rng.pick(&[16 << 10, 16 << 10, 32 << 10]);
    Options::new()
        .background_threads(0)
        .decode_threads(0)
        .sync_interval(Duration::ZERO)
        .memory_budget(1 << 20)
        .memtable_size(16 << 10)
        .log_segment_size(segment)
        .log_size_max(segment * rng.within(1, 3))
        .open_tables_max(16)
        .reserve_size(rng.pick(&[0, 64 << 10]))
        .log_mode(rng.pick(&LOG_MODES))
}

/// Options of a family of these tests: small tables, and codecs that are quick to set up.
pub fn family_options(seed: u64) -> CfOptions {
    let mut rng = Rng::new(seed ^ 0xcf);
    let mut codec = || rng.pick(&[Codec::None, Codec::Lz4, Codec::Lz4, Codec::Snappy]);
    let mut compression = Compression::default().young(codec()).deep(codec()).bottom(codec());
    if rng.chance(10) {
        compression = compression.young(Codec::Zstd { level: 1 });
    }
    CfOptions::new()
        .compression(compression)
        .filter(rng.pick(&[FilterPolicy::None, FilterPolicy::Auto { bits_per_key: 8 }]))
        .block_size(rng.pick(&[512, 4096]))
        .table_size(rng.pick(&[4 << 10, 64 << 10]))
        .level0_trigger(rng.within(1, 4) as usize)
        .base_level_size(4 << 10)
        .fan_out(2)
}

/// A database that a workload runs on, with what it must contain.
pub struct Stage {
    /// How it is opened next.
    pub setup: Setup,
    /// What it must contain.
    pub world: World,
    /// Checkpoints are made in `/copies/N/c`.
    pub copies: u32,
    db: Option<Db>,
    families: [Option<ColumnFamily>; FAMILIES as usize],
    snapshot: Option<lignite::Snapshot>,
}

impl Stage {
    /// Opens a fresh database.
    pub fn open(setup: Setup) -> Result<Stage> {
        let db = setup.open()?;
        let mut stage =
            Stage { setup, world: World::new(), copies: 0, db: Some(db), families: Default::default(), snapshot: None };
        stage.take_families()?;
        Ok(stage)
    }

    /// The open database; none after a reopen that failed.
    pub fn db(&self) -> Option<&Db> {
        self.db.as_ref()
    }

    /// Opens the database again after a reopen that failed.
    pub fn open_again(&mut self) -> Result<()> {
        self.db = Some(self.setup.open()?);
        for slot in 0..FAMILIES {
            // Which families there are is not certain after a fault: see `take_families`.
            self.families[slot as usize] = match (self.world.name(slot), &self.db) {
                (Some(name), Some(db)) => db.column_family(name).ok(),
                _ => None,
            };
        }
        Ok(())
    }

    /// Fills the slots with the families that must be in them.
    pub fn take_families(&mut self) -> Result<()> {
        for slot in 0..FAMILIES {
            self.families[slot as usize] = match (self.world.name(slot), &self.db) {
                (Some(name), Some(db)) => Some(db.column_family(name)?),
                _ => None,
            };
        }
        Ok(())
    }

    /// Lets everything go without closing.
    pub fn abandon(&mut self) {
        self.snapshot = None;
        self.families = Default::default();
        self.db = None;
    }

    /// Where the checkpoint with this number is.
    pub fn copy_dir(n: u32) -> PathBuf {
        PathBuf::from(format!("/copies/{n}/c"))
    }

    /// Closes the database.
    pub fn close(&mut self) -> Result<()> {
        self.snapshot = None;
        self.families = Default::default();
        match self.db.take() {
            Some(db) => db.close(),
            None => Ok(()),
        }
    }

    /// Does one operation; what must be there then is a matter of success.
    pub fn step(&mut self, op: &Op) -> Result<()> {
        self.run(op)?;
        self.world.apply(op);
        Ok(())
    }

    fn run(&mut self, op: &Op) -> Result<()> {
        if let Op::Reopen(seed, dropped) = op {
            if *dropped {
                self.abandon();
            } else {
                self.close()?;
            }
            self.setup.seed = *seed;
            self.setup.options = options(*seed);
            return self.open_again();
        }
        let Some(db) = self.db.clone() else { return self.open_again() };
        let how = |sync: bool| if sync { Durability::Sync } else { Durability::Buffered };
        let family = |slot: u8| self.families[slot as usize].as_ref();
        match op {
            Op::Write(slot, Write::Put(key, value), false) => {
                family(*slot).map_or(Ok(()), |f| f.put(key, value.bytes()).map(drop))
            }
            Op::Write(slot, write, sync) => {
                let Some(family) = family(*slot) else { return Ok(()) };
                let mut batch = db.batch();
                add(&mut batch, family, write);
                db.write_with(batch, how(*sync)).map(drop)
            }
            Op::Batch(writes, sync) => {
                let mut batch = db.batch();
                for (slot, write) in writes {
                    if let Some(family) = family(*slot) {
                        add(&mut batch, family, write);
                    }
                }
                db.write_with(batch, how(*sync)).map(drop)
            }
            Op::Ingest(slot, records) => match family(*slot) {
                Some(family) => family.ingest(records.iter().map(|(k, v)| (k.clone(), v.bytes()))).map(drop),
                None => Ok(()),
            },
            Op::Sync => db.sync(),
            Op::Flush(slot) => family(*slot).map_or(Ok(()), ColumnFamily::flush),
            Op::Compact(slot, range) => family(*slot).map_or(Ok(()), |f| f.compact_range(range.clone())),
            Op::CompactAll => db.compact(),
            Op::Recompress(slot, seed) => family(*slot)
                .map_or(Ok(()), |f| f.recompress(&recompress::options(f.options(), *seed), &mut |_| true).map(drop)),
            Op::SetOptions(slot, seed) => {
                family(*slot).map_or(Ok(()), |f| db.set_options(&f.name(), family_options(*seed)))
            }
            Op::Create(slot, seed) if self.world.changes(op) => {
                let made = db.create_column_family(&created_name(*slot, *seed), family_options(*seed))?;
                self.families[*slot as usize] = Some(made);
                Ok(())
            }
            Op::Drop(slot) if self.world.changes(op) => {
                db.drop_column_family(self.world.name(*slot).unwrap_or_default())?;
                self.families[*slot as usize] = None;
                Ok(())
            }
            Op::Rename(slot, n) if self.world.changes(op) => {
                db.rename_column_family(self.world.name(*slot).unwrap_or_default(), &renamed_name(*n))
            }
            Op::Checkpoint => {
                self.copies += 1;
                db.checkpoint(Stage::copy_dir(self.copies))
            }
            Op::SnapshotTake(_) => {
                self.snapshot = Some(db.snapshot());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn add(batch: &mut WriteBatch, family: &ColumnFamily, write: &Write) {
    match write {
        Write::Put(key, value) => batch.put(family, key, value.bytes()),
        Write::Delete(key) => batch.delete(family, key),
        Write::DeleteRange(range) => batch.delete_range(family, range.clone()),
    };
}
