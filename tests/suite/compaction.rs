//! The real compaction: 200 MB of writes, overwrites, deletes and range deletes through tiny
//! memtables and tables until five levels are populated, under live snapshots, equal to the model
//! after every reopen.

use std::collections::BTreeMap;
use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::{CfOptions, ColumnFamily, Compression, Counters, Db, Options, Reader, Snapshot};
use lignite_tests::checks;
use lignite_tests::ops::Value;
use lignite_tests::rng::{Rng, base_seed, scale};
use lignite_tests::sim::Setup;

/// Key number to the seed of its value.
type Map = BTreeMap<u32, u32>;

const KEYS: u64 = 24_000;
const VALUE_LEN: u64 = 2_000;

fn key(n: u32) -> [u8; 8] {
    // Spread over the key space in runs of 16, as real keys are.
    let mut out = *b"k0000000";
    for (i, digit) in format!("{n:07}").bytes().enumerate() {
        out[i + 1] = digit;
    }
    out
}

fn value(seed: u32) -> Vec<u8> {
    Value { seed, len: VALUE_LEN as u32 / 2 + seed % VALUE_LEN as u32 }.bytes()
}

fn family_options() -> CfOptions {
    CfOptions::new()
        .compression(Compression::lz4())
        .table_size(64 << 10)
        .base_level_size(256 << 10)
        .fan_out(4)
        .block_size(4 << 10)
        .tombstone_percent(30)
}

struct Load {
    db: Db,
    family: ColumnFamily,
    setup: Setup,
    map: Arc<Map>,
    snapshots: Vec<(Snapshot, Arc<Map>)>,
    rng: Rng,
    written: u64,
    counters: Vec<Counters>,
    next_new: u32,
}

impl Load {
    fn new(seed: u64) -> Load {
        let options = Options::new()
            .background_threads(2)
            .decode_threads(1)
            .memory_budget(4 << 20)
            .memtable_size(64 << 10)
            .log_segment_size(256 << 10)
            .log_size_max(1 << 20);
        let setup = Setup { options, ..Setup::new(Arc::new(MemFs::new()), seed).threads(2) };
        let db = setup.open().unwrap();
        let family = db.open_column_family("data", family_options()).unwrap();
        Load {
            db,
            family,
            setup,
            map: Arc::default(),
            snapshots: Vec::new(),
            rng: Rng::new(seed),
            written: 0,
            counters: Vec::new(),
            next_new: 0,
        }
    }

    fn step(&mut self) {
        let n = self.rng.below(KEYS) as u32;
        let map = Arc::make_mut(&mut self.map);
        match self.rng.below(1000) {
            // Ascending keys behind all others: their tables move down without being rewritten.
            0..150 => {
                let n = KEYS as u32 + self.next_new % KEYS as u32;
                self.next_new += 1;
                let seed = self.rng.next_u64() as u32;
                self.written += self.put(n, seed);
            }
            150..700 => {
                let seed = self.rng.next_u64() as u32;
                self.written += self.put(n, seed);
            }
            // Deletes come in swarms, so that some tables are full of tombstones.
            700..995 => {
                let start = n / 1000 * 1000;
                let n = start + self.rng.below(200) as u32;
                self.family.delete(key(n)).unwrap();
                map.remove(&n);
                self.written += 8;
            }
            // A wide range every now and then, over many tables, else a short one.
            k => {
                let len = if k == 999 && self.rng.chance(20) { 3000 } else { 60 };
                let end = n + self.rng.below(len) as u32;
                self.family.delete_range(key(n)..key(end)).unwrap();
                let gone: Vec<u32> = if n < end { map.range(n..end).map(|(k, _)| *k).collect() } else { Vec::new() };
                for k in gone {
                    map.remove(&k);
                }
                self.written += 16;
            }
        }
    }

    fn put(&mut self, n: u32, seed: u32) -> u64 {
        let bytes = value(seed);
        let len = bytes.len() as u64 + 8;
        self.family.put(key(n), bytes).unwrap();
        Arc::make_mut(&mut self.map).insert(n, seed);
        len
    }

    fn compare(&self, snapshot: Option<&Snapshot>, map: &Map, back: bool) {
        let mut entries = match snapshot {
            Some(snapshot) => snapshot.iter(&self.family),
            None => self.family.iter(),
        };
        let mut expected = map.iter();
        loop {
            let (found, want) =
                if back { (entries.next_back(), expected.next_back()) } else { (entries.next(), expected.next()) };
            let Some((n, seed)) = want else {
                assert!(found.is_none(), "there is more than the model has");
                return;
            };
            let found = found.unwrap_or_else(|| panic!("key {n} is missing")).unwrap();
            assert_eq!(found.key(), key(*n), "at key {n}");
            assert!(found.value().unwrap() == value(*seed), "the value of key {n} is another one");
        }
    }

    fn reopen(&mut self) {
        self.compare_snapshots();
        self.snapshots.clear();
        self.counters.push(self.db.stats().counters);
        // Handles go before the database, or the close would find it in use.
        let (db, family) = (self.db.clone(), self.family.clone());
        let replacement = lignite::Db::temporary().unwrap();
        self.family = replacement.default_family();
        self.db = replacement;
        drop(family);
        db.close().unwrap();
        self.db = self.setup.open().unwrap();
        self.family = self.db.column_family("data").unwrap();
        self.compare(None, &self.map, self.counters.len().is_multiple_of(2));
        checks::database(&self.db, &*self.setup.fs).unwrap();
    }

    fn compare_snapshots(&self) {
        for (i, (snapshot, map)) in self.snapshots.iter().enumerate() {
            self.compare(Some(snapshot), map, i % 2 == 1);
        }
    }

    fn populated(&self) -> usize {
        self.db
            .stats()
            .families
            .iter()
            .find(|f| f.name == "data")
            .map_or(0, |f| f.levels.iter().filter(|l| l.tables > 0).count())
    }
}

#[test]
fn five_levels_equal_the_model() {
    let seed = base_seed();
    println!("seed {seed}");
    let total = (200.0 * 1e6 * scale()) as u64;
    let mut load = Load::new(seed);
    let mut steps = 0u64;
    let mut most_levels = 0;
    let mut next_reopen = total / 6;
    while load.written < total || most_levels < 5 && load.written < total * 2 {
        load.step();
        steps += 1;
        if steps.is_multiple_of(9_000) {
            if load.snapshots.len() == 3 {
                let gone = load.rng.below(3) as usize;
                let (snapshot, map) = load.snapshots.remove(gone);
                load.compare(Some(&snapshot), &map, gone == 1);
            }
            let taken = (load.db.snapshot(), load.map.clone());
            load.snapshots.push(taken);
        }
        if steps.is_multiple_of(500) {
            most_levels = most_levels.max(load.populated());
        }
        if load.written > next_reopen {
            next_reopen += total / 6;
            load.reopen();
        }
    }
    load.reopen();
    // Everything to the bottom: nothing but the live records is left.
    load.db.compact().unwrap();
    load.compare(None, &load.map, false);
    load.counters.push(load.db.stats().counters);
    checks::no_orphans(&load.db, &*load.setup.fs).unwrap();
    assert!(most_levels >= 5, "only {most_levels} levels were populated at once");

    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for counters in &load.counters {
        for (name, count) in counters.entries() {
            *sums.entry(name).or_default() += count;
        }
    }
    println!("{} bytes written in {steps} steps, {} live keys; {sums:?}", load.written, load.map.len());
    for name in [
        "trivial_moves",
        "grandparent_cuts",
        "tombstone_compactions",
        "tombstones_dropped",
        "range_tombstone_splits",
        "range_tombstones_dropped",
        "range_deleted_entries",
        "versions_dropped",
        "slowdowns",
        "flushes",
        "compactions",
    ] {
        assert!(sums[name] > 0, "{name} did not happen: {sums:?}");
    }
}
