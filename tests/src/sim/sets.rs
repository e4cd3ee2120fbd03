//! Option sets: the same history must be the same history under each of them.
//!
//! Fixed ones stand at the ends of what the options allow, one end at a time and some together; the
//! others draw new options from the seed of every open and of every family that is made or changed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lignite::{CfOptions, Codec, Compression, Durability, FilterPolicy, LogMode, Options};

use crate::rng::Rng;

/// How many sets draw their options at random.
const RANDOM: u64 = 40;

/// Options for a database and its families.
#[derive(Clone, Debug)]
pub struct OptionSet {
    /// What it is called in a report and in a kept history.
    pub name: String,
    /// Background threads; with any a run is not a function of its history.
    pub threads: usize,
    database: Options,
    family: CfOptions,
    /// Draws anew at every occasion, from its seed and this.
    random: Option<u64>,
}

impl OptionSet {
    /// Database options for one open.
    pub fn options(&self, seed: u64) -> Options {
        match self.random {
            Some(salt) => options(seed ^ salt, self.threads),
            None => self.database.clone().log_mode(LOG_MODES[(seed % 2) as usize]),
        }
    }

    /// Options for one family.
    pub fn family(&self, seed: u64) -> CfOptions {
        match self.random {
            Some(salt) => cf_options(seed ^ salt),
            None => self.family.clone(),
        }
    }

    /// The set of this name.
    pub fn named(name: &str) -> Option<Arc<OptionSet>> {
        sets().iter().find(|s| s.name == name).cloned()
    }
}

/// Every set: the plainest first, then the other fixed ones, the random ones, and those with
/// background threads.
pub fn sets() -> &'static [Arc<OptionSet>] {
    static SETS: OnceLock<Vec<Arc<OptionSet>>> = OnceLock::new();
    SETS.get_or_init(|| {
        let random = (0..RANDOM).map(|n| OptionSet {
            name: format!("random-{n}"),
            threads: 0,
            database: stepped(),
            family: small_family(),
            random: Some(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        });
        fixed().into_iter().chain(random).chain(threaded()).map(Arc::new).collect()
    })
}

/// Database options with no background threads and nothing else of note.
fn stepped() -> Options {
    base().background_threads(0).decode_threads(0).sync_interval(Duration::ZERO)
}

/// The defaults. Asking the machine for its cores is not free, so they are made once.
fn base() -> Options {
    static BASE: OnceLock<Options> = OnceLock::new();
    BASE.get_or_init(Options::new).clone()
}

/// Database options that make little data go through everything.
fn small() -> Options {
    stepped()
        .memory_budget(1 << 20)
        .memtable_size(16 << 10)
        .log_segment_size(16 << 10)
        .log_size_max(64 << 10)
        .open_tables_max(16)
}

/// Family options that make levels fill.
fn small_family() -> CfOptions {
    CfOptions::new()
        .compression(Compression::none())
        .block_size(512)
        .table_size(4 << 10)
        .level0_trigger(2)
        .base_level_size(4 << 10)
        .fan_out(2)
}

fn fixed() -> Vec<OptionSet> {
    let set = |name: &str, database: Options, family: CfOptions| OptionSet {
        name: name.to_string(),
        threads: 0,
        database,
        family,
        random: None,
    };
    let codecs = |c: Compression| small_family().compression(c).table_size(8 << 10).block_size(1024);
    let by_depth = |young, deep, bottom| Compression::default().young(young).deep(deep).bottom(bottom);
    vec![
        set("plain", stepped(), CfOptions::new()),
        set("smallest", small(), small_family()),
        set("memtable-smallest", stepped().memtable_size(16 << 10), CfOptions::new()),
        set("tables-smallest", stepped(), small_family().table_size(4 << 10)),
        set("level0-one", small(), small_family().level0_trigger(1)),
        set("level0-many", small(), small_family().level0_trigger(1000)),
        set("fan-out-two", small(), small_family().fan_out(2).table_size(8 << 10).base_level_size(16 << 10)),
        set("fan-out-hundred", small(), small_family().fan_out(100)),
        set("base-huge", small(), small_family().base_level_size(1 << 50)),
        set("blocks-smallest", small(), small_family().block_size(512).table_size(64 << 10)),
        set("blocks-largest", small(), small_family().block_size(16 << 20).table_size(64 << 10)),
        set("cache-smallest", small().memtable_size(64 << 10), small_family().block_size(16 << 10)),
        set("tables-few-open", small().open_tables_max(16), small_family().level0_trigger(8)),
        set("log-shortest", small().log_size_max(16 << 10).memtable_size(1 << 20), small_family()),
        set("log-longest", small().log_size_max(1 << 40), small_family()),
        set("durable", small().durability(Durability::Sync), small_family()),
        set("lz4", small(), codecs(Compression::lz4())),
        set("lz4hc", small(), codecs(Compression::lz4hc(9).young(Codec::Lz4))),
        set("snappy", small(), codecs(Compression::snappy())),
        set("zstd-fast", small(), codecs(Compression::zstd(-7))),
        set("zstd", small(), codecs(Compression::zstd(3))),
        set("brotli", small(), codecs(Compression::brotli(1))),
        set("by-depth", small(), codecs(by_depth(Codec::None, Codec::Lz4, Codec::Zstd { level: 1 }))),
        set("by-depth-turned", small(), codecs(by_depth(Codec::Zstd { level: 1 }, Codec::Snappy, Codec::None))),
        set("keys-packed", small(), codecs(Compression::none().keys(Codec::Zstd { level: 1 }))),
        set("keys-raw", small(), codecs(Compression::lz4().keys(Codec::None))),
        set("saving-any", small(), codecs(Compression::snappy().min_saving(0))),
        set("saving-all", small(), codecs(Compression::lz4().min_saving(255))),
        set("filter-none", small(), small_family().filter(FilterPolicy::None)),
        set("filter-bloom-least", small(), small_family().filter(FilterPolicy::Bloom { bits_per_key: 4 })),
        set("filter-bloom-most", small(), small_family().filter(FilterPolicy::Bloom { bits_per_key: 30 })),
        set("filter-auto-least", small(), small_family().filter(FilterPolicy::Auto { bits_per_key: 4 })),
        set("tombstones-off", small(), small_family().tombstone_percent(0)),
        set("tombstones-one", small(), small_family().tombstone_percent(1)),
        set("tombstones-all", small(), small_family().tombstone_percent(100)),
    ]
}

fn threaded() -> Vec<OptionSet> {
    let with = |threads: usize, decode: usize| {
        let database = small().background_threads(threads).decode_threads(decode);
        database.sync_interval(Duration::from_millis(20))
    };
    let set = |name: &str, threads: usize, database: Options, family: CfOptions| OptionSet {
        name: name.to_string(),
        threads,
        database,
        family,
        random: None,
    };
    vec![
        set("threads-one", 1, with(1, 0), small_family()),
        set("threads-three", 3, with(3, 2), small_family().compression(Compression::lz4())),
        set("threads-two-durable", 2, with(2, 1).durability(Durability::Sync), small_family().level0_trigger(1)),
        OptionSet {
            name: "threads-random".to_string(),
            threads: 2,
            database: with(2, 1),
            family: small_family(),
            random: Some(0x7478),
        },
    ]
}

/// Both ways of appending to the log, for options that choose one.
pub const LOG_MODES: [LogMode; 2] = [LogMode::Mapped, LogMode::Positioned];

/// Database options made from a seed: small, so that little data makes much happen.
pub fn options(seed: u64, threads: usize) -> Options {
    let mut rng = Rng::new(seed);
    let segment = rng.pick(&[16 << 10, 32 << 10, 256 << 10]);
    base()
        .background_threads(threads)
        .decode_threads(if threads == 0 { 0 } else { 1 })
        .sync_interval(if threads == 0 { Duration::ZERO } else { Duration::from_millis(50) })
        .memory_budget(rng.pick(&[1 << 20, 4 << 20, 64 << 20]))
        .memtable_size(rng.pick(&[16 << 10, 24 << 10, 64 << 10, 1 << 20]))
        .log_segment_size(segment)
        .log_size_max(segment * rng.within(1, 8))
        .open_tables_max(rng.pick(&[16, 20, 1000]))
        .log_mode(rng.pick(&LOG_MODES))
}

/// Family options made from a seed.
pub fn cf_options(seed: u64) -> CfOptions {
    let mut rng = Rng::new(seed ^ 0xcf);
    let filter = match rng.below(3) {
        0 => FilterPolicy::None,
        1 => FilterPolicy::Auto { bits_per_key: rng.within(4, 16) as u8 },
        _ => FilterPolicy::Bloom { bits_per_key: rng.within(4, 16) as u8 },
    };
    let mut compression = Compression::default()
        .young(random_codec(&mut rng))
        .deep(random_codec(&mut rng))
        .bottom(random_codec(&mut rng))
        .min_saving(rng.pick(&[0, 16, 64, 255]));
    if rng.chance(30) {
        compression = compression.keys(random_codec(&mut rng));
    }
    CfOptions::new()
        .compression(compression)
        .filter(filter)
        .block_size(rng.pick(&[512, 1024, 4096, 16 << 10]))
        .table_size(rng.pick(&[4 << 10, 8 << 10, 64 << 10, 1 << 20]))
        .level0_trigger(rng.within(1, 6) as usize)
        .base_level_size(rng.pick(&[4 << 10, 16 << 10, 256 << 10]))
        .fan_out(rng.pick(&[2, 3, 10]))
        .tombstone_percent(rng.pick(&[0, 10, 50, 100]))
}

fn random_codec(rng: &mut Rng) -> Codec {
    // The slow ones are rarer: they have sets of their own.
    match rng.below(16) {
        0..5 => Codec::None,
        5..10 => Codec::Lz4,
        10..13 => Codec::Snappy,
        13..15 => Codec::Zstd { level: rng.pick(&[-3, 1, 3]) },
        _ => Codec::Brotli { quality: rng.within(0, 4) as u8 },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_as_many_sets_as_were_asked_for_and_all_are_valid() {
        let names: BTreeSet<&str> = sets().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names.len(), sets().len());
        assert!(fixed().len() >= 24 && RANDOM >= 40);
        for set in sets() {
            for seed in 0..50 {
                set.options(seed).validate().unwrap();
                set.family(seed).validate().unwrap();
            }
        }
    }
}
