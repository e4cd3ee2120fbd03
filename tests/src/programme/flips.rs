//! Memory that flips a bit while a compaction writes a table (part of T5).
//!
//! The story is RocksDB's issue 14354: what the checksums were made of was wrong already. A compaction
//! reads back what it wrote and compares it with what it meant to write (G18), so it fails, keeps its
//! inputs, and nothing is lost; tried once more, it works.

use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::internals::table::strike::{self, Target};
use lignite::{CfOptions, Compression, ErrorKind, FilterPolicy, Options};

use super::Tally;
use crate::model::{Content, Records};
use crate::ops::Value;
use crate::rng::Rng;
use crate::sample::CODECS;
use crate::sim::{Setup, content};

/// Strikes once at every target. Each is caught, or changed nothing that can be read.
pub fn run(rng: &mut Rng, tally: &mut Tally) {
    for target in Target::ALL {
        let seed = rng.next_u64();
        strike_one(target, seed, tally);
    }
}

fn strike_one(target: Target, seed: u64, tally: &mut Tally) {
    let story = format!("{target:?} struck under seed {seed}");
    let mut rng = Rng::new(seed);
    let options = Options::new().background_threads(0).decode_threads(0).memory_budget(1 << 20);
    let setup = Setup { options, ..Setup::new(Arc::new(MemFs::new()), seed) };
    let db = setup.open().unwrap();
    let options = CfOptions::new()
        .compression(Compression::all(rng.pick(&CODECS)))
        .filter(rng.pick(&[FilterPolicy::Bloom { bits_per_key: 10 }, FilterPolicy::Auto { bits_per_key: 10 }]))
        .block_size(512);
    let family = db.open_column_family("a", options).unwrap();
    let mut records = Records::new();
    for _ in 0..2 {
        for _ in 0..rng.within(10, 60) {
            let key = format!("key{:04}", rng.below(80));
            if rng.chance(10) {
                family.delete(&key).unwrap();
                records.remove(key.as_bytes());
                continue;
            }
            let value = Value { seed: rng.next_u64() as u32, len: rng.below(60) as u32 }.bytes();
            family.put(&key, &value).unwrap();
            records.insert(key.into_bytes(), value);
        }
        db.flush().unwrap();
    }
    let expected = Content::from([("a".to_string(), records), ("default".to_string(), Records::new())]);
    let read = |when: &str| {
        let found = content(&db).unwrap_or_else(|e| panic!("{story}, {when}: {e:?}"));
        assert!(found == expected, "{story}, {when}: the content is another one");
        for (key, value) in &expected["a"] {
            let found = family.get(key).unwrap();
            assert!(found.as_deref() == Some(value.as_slice()), "{story}, {when}: {} differs", key.escape_ascii());
        }
        let report = db.check(true, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{story}, {when}: {:?}", report.problems);
    };
    strike::arm(target, rng.next_u64());
    let outcome = family.compact();
    let missed = strike::disarm();
    if missed {
        outcome.unwrap_or_else(|e| panic!("{story}: nothing was struck, but the compaction failed: {e:?}"));
    } else if let Err(e) = outcome {
        tally.add("memory_flips_caught", 1);
        let refused = e.is_corruption() || e.kind() == ErrorKind::Unsupported;
        assert!(refused, "{story}: the compaction failed with {e:?}");
        read("after the compaction failed");
        family.compact().unwrap_or_else(|e| panic!("{story}: once more, without a flip: {e:?}"));
    }
    tally.add("memory_flips", u64::from(!missed));
    read("in the end");
    drop(family);
    db.close().unwrap();
}
