//! What a read of something in memory costs: nothing from the allocator.

use std::sync::Arc;

use lignite::internals::fs::mem::MemFs;
use lignite::{ColumnFamily, Db, Options, Reader};
use lignite_tests::alloc::measure;
use lignite_tests::sim::Setup;

fn database() -> Db {
    let options = Options::new().background_threads(0).decode_threads(0).memory_budget(16 << 20);
    let setup = Setup { options, ..Setup::new(Arc::new(MemFs::new()), 1) };
    let db = setup.open().unwrap();
    for n in 0..2000 {
        db.put(format!("key{n:05}"), format!("value {n}").repeat(4)).unwrap();
    }
    db
}

fn read_all(family: &ColumnFamily, keys: &[String]) -> usize {
    let mut len = 0;
    for key in keys {
        len += family.get_with(key, <[u8]>::len).unwrap().unwrap_or(0);
        len += family.get(key).unwrap().map_or(0, |v| v.len());
        len += usize::from(family.contains_key(key).unwrap());
    }
    len
}

fn assert_free(db: &Db, what: &str) {
    let family = db.default_family();
    let keys: Vec<String> = (0..2000).map(|n| format!("key{n:05}")).collect();
    let absent: Vec<String> = (0..2000).map(|n| format!("no{n:05}")).collect();
    let warm = read_all(&family, &keys) + read_all(&family, &absent);
    let (cold, usage) = measure(|| read_all(&family, &keys) + read_all(&family, &absent));
    assert_eq!(warm, cold);
    assert_eq!(usage.allocations, 0, "{what}: {usage:?}");
    let snapshot = db.snapshot();
    let (_, usage) = measure(|| snapshot.get(&family, "key00077").unwrap().unwrap().len());
    assert_eq!(usage.allocations, 0, "{what}, in a snapshot: {usage:?}");
}

#[test]
fn a_cached_get_allocates_nothing() {
    let db = database();
    assert_free(&db, "memtable hits");
    db.flush().unwrap();
    assert_free(&db, "block hits at level 0");
    db.compact().unwrap();
    assert_free(&db, "block hits at the bottom");
    db.delete_range("key00100".."key00200").unwrap();
    db.delete("key00300").unwrap();
    assert_free(&db, "under a range tombstone in the memtable");
    db.flush().unwrap();
    assert_free(&db, "under a range tombstone in a table");
    let before = db.stats().counters.cache_misses;
    assert_free(&db, "again");
    assert_eq!(db.stats().counters.cache_misses, before, "these were no hits");
}
