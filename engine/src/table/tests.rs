#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use super::block::tests::{Random, sort};
use super::properties::Promise;
use super::*;
use crate::cache::BlockCache;
use crate::checksum::hash_key;
use crate::clock::{ManualClock, SystemClock};
use crate::error::ErrorKind;
use crate::filename::FileName;
use crate::fs::Fs;
use crate::fs::mem::MemFs;
use crate::iter::Cursor;
use crate::key::{Kind, SEQ_MAX, SeqNo, Tag, cmp_internal};
use crate::metrics::{FamilyMetrics, Metrics};
use crate::options::{BlockCodec, Codec, CodecError, Dictionary, register_codec};
use crate::pool::Pool;
use crate::slice::Slice;
use crate::sync::{Arc, spin};
use crate::tombstone::{Fragments, RangeTombstone};
use crate::version::TableMeta;

type Entry = (Vec<u8>, Tag, Vec<u8>);

const DIR: &str = "/db";
const DB_ID: u128 = 0x00c0_ffee;

fn context(pool: Option<Arc<Pool>>) -> TableContext {
    TableContext {
        cache: Arc::new(BlockCache::new(8 << 20)),
        metrics: Arc::new(Metrics::default()),
        family: Arc::new(FamilyMetrics::default()),
        level: 1,
        clock: Arc::new(ManualClock::new()),
        pool,
    }
}

fn options(codec: Codec) -> TableWriteOptions {
    TableWriteOptions {
        keys: codec,
        values: codec,
        min_saving: 8,
        block_size: 1024,
        filter: TableFilter::Bloom { bits: 10 },
        dictionary: None,
        transpose: true,
        promise: Promise::default(),
        chosen_for: String::new(),
    }
}

fn fs() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new(DIR)).unwrap();
    fs
}

fn write(fs: &MemFs, options: TableWriteOptions, entries: &[Entry], tombstones: &Fragments) -> TableMeta {
    let (metrics, clock) = (Arc::new(FamilyMetrics::default()), Arc::new(ManualClock::new()));
    let mut builder = TableBuilder::create(fs, Path::new(DIR), 7, DB_ID, options, 1000, metrics, 1, clock).unwrap();
    for (key, tag, value) in entries {
        builder.add(key, *tag, value).unwrap();
    }
    builder.add_tombstones(tombstones);
    assert_eq!(builder.entries(), entries.len() as u64);
    builder.finish().unwrap()
}

fn sample(seed: u64, n: usize) -> Vec<Entry> {
    let mut random = Random(seed);
    let mut out: Vec<Entry> = (0..n)
        .map(|_| {
            let key = format!("user/{:06}/{}", random.below(n), if random.below(3) == 0 { "name" } else { "mail" });
            let seq = 1 + random.below(500) as u64;
            match random.below(6) {
                0 => (key.into_bytes(), Tag::new(seq, Kind::Delete), vec![]),
                _ => {
                    let value = format!("value {} of {}, {}", random.below(50), n, "=".repeat(random.below(60)));
                    (key.into_bytes(), Tag::new(seq, Kind::Put), value.into_bytes())
                }
            }
        })
        .collect();
    // One key with so many versions that they span blocks, one empty key, one large value.
    out.extend((1..300).map(|seq| (b"user/000100/versions".to_vec(), Tag::new(seq, Kind::Put), vec![b'v'; 20])));
    out.push((vec![], Tag::new(4, Kind::Put), b"at the empty key".to_vec()));
    out.push((b"user/large".to_vec(), Tag::new(4, Kind::Put), vec![b'L'; 5000]));
    sort(&mut out);
    out
}

fn expected(entries: &[Entry], key: &[u8], visible: SeqNo) -> Option<(Tag, Vec<u8>)> {
    let target = Tag::visible_at(visible);
    let at = entries.partition_point(|e| cmp_internal(&e.0, e.1, key, target).is_lt());
    entries.get(at).filter(|e| e.0 == key).map(|e| (e.1, e.2.clone()))
}

fn collect(cursor: &mut TableCursor, forward: bool) -> Vec<Entry> {
    let mut out = Vec::new();
    if forward {
        cursor.seek_to_first().unwrap()
    } else {
        cursor.seek_to_last().unwrap()
    }
    while cursor.valid() {
        assert_eq!((&*cursor.key_slice(), &*cursor.value_slice()), (cursor.key(), cursor.value()));
        out.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        if forward { cursor.next().unwrap() } else { cursor.prev().unwrap() }
    }
    out
}

fn codecs() -> [Codec; 5] {
    [Codec::None, Codec::Lz4, Codec::Snappy, Codec::Zstd { level: 1 }, Codec::Brotli { quality: 2 }]
}

/// Values that are taken over as they are stored must be those that were added.
#[test]
fn values_taken_over_are_held_to_what_was_added() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd { level: 3 }] {
        let fs = fs();
        let value = |c: u8| format!("{}{}", "x".repeat(300), char::from(c).to_string().repeat(400)).into_bytes();
        let entry = |n: u8| (vec![n], Tag::new(5, Kind::Put), value(n));
        let entries: Vec<Entry> = (b'a'..b'f').map(entry).collect();
        let table = |meta: &TableMeta| Table::open(&fs, Path::new(DIR), meta, &context(None)).unwrap();
        let source = table(&write(&fs, options(codec), &entries, &Fragments::default()));
        let (metrics, clock) = (Arc::new(FamilyMetrics::default()), Arc::new(ManualClock::new()));
        let mut builder =
            TableBuilder::create(&fs, Path::new(DIR), 8, DB_ID, options(codec), 0, metrics, 1, clock).unwrap();
        for (n, (key, tag, value)) in entries.iter().enumerate() {
            assert!(builder.begin_block(key).unwrap());
            builder.add(key, *tag, value).unwrap();
            assert!(!builder.take_values(source.stored_values((n + 1) % entries.len()).unwrap()).unwrap());
            assert!(builder.take_values(source.stored_values(n).unwrap()).unwrap());
        }
        let copy = table(&builder.finish().unwrap());
        assert_eq!(copy.index().len(), entries.len());
        for (n, (_, _, value)) in entries.iter().enumerate() {
            assert_eq!(copy.read_block(n).unwrap().value(0), value);
        }
    }
}

#[test]
fn tables_read_like_a_sorted_list_under_every_codec() {
    for (round, codec) in codecs().into_iter().enumerate() {
        let fs = fs();
        let entries = sample(round as u64 + 1, 1500);
        let filter = if round % 2 == 0 { TableFilter::Fuse8 } else { TableFilter::Bloom { bits: 10 } };
        let meta = write(&fs, TableWriteOptions { filter, ..options(codec) }, &entries, &Fragments::default());
        let context = context(None);
        let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
        assert!(table.index().len() > 20);
        assert_eq!(meta.smallest, b"");
        assert_eq!(meta.largest, Bound::Included(entries.last().unwrap().0.clone()));
        let report = table.verify(true).unwrap();
        assert!(report.is_ok(), "{codec}: {:?}", report.problems);
        assert_eq!((report.hash, report.entries), (meta.hash, entries.len() as u64));
        for read_ahead in [false, true] {
            let mut cursor = table.cursor(CursorOptions { fill_cache: false, read_ahead });
            assert_eq!(collect(&mut cursor, true), entries, "{codec}");
            let reversed: Vec<Entry> = entries.iter().rev().cloned().collect();
            assert_eq!(collect(&mut cursor, false), reversed, "{codec}");
        }
        let mut random = Random(99 + round as u64);
        let mut cursor = table.cursor(CursorOptions::default());
        for _ in 0..1500 {
            let mut key = entries[random.below(entries.len())].0.clone();
            if random.below(3) == 0 {
                key.push(b'a' + random.below(26) as u8);
            }
            let visible = random.below(520) as u64;
            let found = table.get(&key, hash_key(&key), visible).unwrap().map(|(tag, v)| (tag, v.to_vec()));
            assert_eq!(found, expected(&entries, &key, visible), "{codec} {key:?} at {visible}");

            let target = Tag::visible_at(visible);
            let at = entries.partition_point(|e| cmp_internal(&e.0, e.1, &key, target).is_lt());
            cursor.seek(&key, target).unwrap();
            assert_eq!(cursor.valid().then(|| (cursor.key(), cursor.tag())), entries.get(at).map(|e| (&e.0[..], e.1)));
            cursor.seek_for_prev(&key, target).unwrap();
            let before = at.checked_sub(1).map(|i| (&entries[i].0[..], entries[i].1));
            assert_eq!(cursor.valid().then(|| (cursor.key(), cursor.tag())), before);
            // Random steps from there, both ways.
            let mut here = at as i64 - 1;
            for _ in 0..random.below(4) {
                if !cursor.valid() {
                    break;
                }
                if random.below(2) == 0 {
                    cursor.next().unwrap();
                    here += 1;
                } else {
                    cursor.prev().unwrap();
                    here -= 1;
                }
                let wanted = usize::try_from(here).ok().and_then(|i| entries.get(i));
                assert_eq!(cursor.valid().then(|| (cursor.key(), cursor.tag())), wanted.map(|e| (&e.0[..], e.1)));
            }
        }
        let counters = context.metrics.snapshot();
        assert!(counters.cache_hits > 0 && counters.filter_negatives > 0, "{counters:?}");
        assert!(context.cache.charged() > 0);
        drop(cursor);
        drop(table);
        assert_eq!(context.cache.charged(), 0);
    }
}

#[test]
fn multi_get_answers_like_get_with_and_without_a_pool() {
    let fs = fs();
    let entries = sample(5, 1500);
    let meta = write(&fs, options(Codec::Zstd { level: 1 }), &entries, &Fragments::default());
    for pool in [None, Some(Pool::new(2))] {
        let context = context(pool);
        let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
        let mut random = Random(8);
        for _ in 0..20 {
            let mut keys: Vec<Vec<u8>> = (0..80).map(|_| entries[random.below(entries.len())].0.clone()).collect();
            keys.push(b"user/absent".to_vec());
            keys.sort();
            let asked: Vec<(usize, &[u8], u64)> =
                keys.iter().enumerate().map(|(i, k)| (i, &k[..], hash_key(k))).collect();
            let visible = random.below(520) as u64;
            let mut out = vec![None; keys.len()];
            table.multi_get(&asked, visible, &mut out).unwrap();
            for (key, found) in keys.iter().zip(out) {
                assert_eq!(found.map(|(tag, v)| (tag, v.to_vec())), expected(&entries, key, visible));
            }
            context.cache.clear();
        }
    }
}

#[test]
fn keys_that_are_kept_alone_answer_like_their_blocks() {
    for (round, codec) in codecs().into_iter().enumerate() {
        let fs = fs();
        let entries = sample(round as u64 + 40, 3000);
        let meta = write(&fs, options(codec), &entries, &Fragments::default());
        let mut context = context(None);
        context.cache = Arc::new(BlockCache::new(200 << 10));
        let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
        let mut random = Random(7 + round as u64);
        let popular: Vec<&[u8]> = (0..60).map(|_| &entries[random.below(entries.len())].0[..]).collect();
        let mut n_parts = 0;
        for turn in 0..20_000 {
            let key = if random.below(4) > 0 { popular[random.below(60)] } else { &entries[random.below(3000)].0 };
            // Old readers as well, who may not see what is kept.
            let visible = if random.below(3) == 0 { random.below(520) as u64 } else { 1000 };
            let found = table.get(key, hash_key(key), visible).unwrap().map(|(tag, v)| (tag, v.to_vec()));
            assert_eq!(found, expected(&entries, key, visible), "{codec} {key:?} at {visible}");
            if turn % 50 == 0 {
                let number = table.index().find(key);
                n_parts += u32::from(table.peek(number).is_some_and(|b| b.is_part()));
                let mut keys: Vec<&[u8]> = popular.iter().take(9).copied().collect();
                keys.sort_unstable();
                let asked: Vec<(usize, &[u8], u64)> =
                    keys.iter().enumerate().map(|(i, k)| (i, *k, hash_key(k))).collect();
                let mut found = vec![None; keys.len()];
                table.multi_get(&asked, visible, &mut found).unwrap();
                for (key, found) in keys.iter().zip(found) {
                    let found = found.map(|(tag, v): (Tag, Slice)| (tag, v.to_vec()));
                    assert_eq!(found, expected(&entries, key, visible), "{codec} {key:?} at {visible}");
                }
            }
        }
        assert!(n_parts > 20, "{n_parts}");
        let mut cursor = table.cursor(CursorOptions::default());
        assert_eq!(collect(&mut cursor, true), entries, "parts are no blocks");
    }
}

#[test]
fn scans_with_helpers_see_the_same_and_can_be_dropped_at_any_time() {
    let fs = fs();
    let entries = sample(6, 6000);
    let mut options = options(Codec::Zstd { level: 1 });
    options.block_size = 8 << 10;
    let meta = write(&fs, options, &entries, &Fragments::default());
    let pool = Pool::new(2);
    let context = context(Some(pool));
    let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
    for round in 0..20 {
        let mut cursor = table.cursor(CursorOptions { fill_cache: round % 2 == 0, read_ahead: true });
        context.cache.clear();
        assert_eq!(collect(&mut cursor, true), entries);
        context.cache.clear();
        cursor.seek_to_first().unwrap();
        (0..round * 100).for_each(|_| cursor.next().unwrap());
    }
    let c = context.metrics.snapshot();
    assert!(c.decodes_inline > 0, "{c:?}");
}

#[test]
fn range_tombstones_and_bounds() {
    let tombstone = |start: &str, end: Option<&str>, seq| RangeTombstone {
        start: start.into(),
        end: end.map(|e| e.as_bytes().to_vec()),
        seq,
    };
    let entries = vec![(b"k".to_vec(), Tag::new(5, Kind::Put), b"v".to_vec())];
    for (end, largest) in [(Some("z"), Bound::Excluded(b"z".to_vec())), (None, Bound::Unbounded)] {
        let fs = fs();
        let fragments = Fragments::build([tombstone("a", Some("c"), 9), tombstone("b", end, 3)]);
        let meta = write(&fs, options(Codec::Lz4), &entries, &fragments);
        assert_eq!((&meta.smallest[..], &meta.largest), (&b"a"[..], &largest));
        assert_eq!((meta.seq_min, meta.seq_max, meta.range_deletes), (3, 9, fragments.len() as u64));
        let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
        assert_eq!(table.tombstones(), &fragments);
        assert!(table.verify(true).unwrap().is_ok());
    }
    let fs = fs();
    let fragments = Fragments::build([tombstone("a", Some("c"), 9)]);
    let meta = write(&fs, options(Codec::Lz4), &[], &fragments);
    let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
    assert!(table.verify(true).unwrap().is_ok());
    assert!(table.get(b"b", hash_key(b"b"), SEQ_MAX).unwrap().is_none());
    assert_eq!(collect(&mut table.cursor(CursorOptions::default()), true), []);
}

#[test]
fn a_sequence_override_replaces_what_is_stored() {
    let fs = fs();
    let mut entries: Vec<Entry> = sample(3, 200).into_iter().map(|e| (e.0, e.1.with_seq(0), e.2)).collect();
    entries.dedup_by(|a, b| a.0 == b.0);
    let fragments = Fragments::build([RangeTombstone { start: b"x".to_vec(), end: None, seq: 0 }]);
    let mut meta = write(&fs, options(Codec::Lz4), &entries, &fragments);
    meta.seq_override = Some(77);
    let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
    let all = collect(&mut table.cursor(CursorOptions::default()), true);
    assert!(all.iter().all(|e| e.1.seq() == 77) && all.len() == entries.len());
    assert_eq!(table.tombstones().covering(b"y", SEQ_MAX), Some(77));
    let key = &entries[9].0;
    assert_eq!(table.get(key, hash_key(key), 76).unwrap(), None);
    assert!(table.get(key, hash_key(key), 77).unwrap().is_some());
    assert!(table.verify(true).unwrap().is_ok());
}

#[test]
fn a_dictionary_travels_with_its_table() {
    let entries = sample(4, 800);
    let samples: Vec<&[u8]> = entries.iter().map(|e| &e.2[..]).filter(|v| v.len() > 8).collect();
    let dictionary = Dictionary::train(&samples, 4096).unwrap();
    for codec in [Codec::Lz4, Codec::Zstd { level: 3 }] {
        let fs = fs();
        let with = TableWriteOptions { dictionary: Some(dictionary.clone()), ..options(codec) };
        let meta = write(&fs, with, &entries, &Fragments::default());
        let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
        assert_eq!(table.dictionaries()[0].hash(), dictionary.hash());
        assert_eq!(table.properties().dictionary, dictionary.hash());
        assert!(table.footer().features.contains(&"dictionary/1".to_string()));
        assert_eq!(collect(&mut table.cursor(CursorOptions::default()), true), entries);
        assert!(table.verify(true).unwrap().is_ok());
    }
}

#[test]
fn values_of_fixed_width_are_filtered_where_they_shrink() {
    let rows: Vec<Entry> = (0..4000u64)
        .map(|i| {
            let row = [1_700_000_000 + i * 60, i * i % 89, 20_000 - i % 7].map(u64::to_le_bytes).concat();
            (format!("sensor/{i:06}").into_bytes(), Tag::new(9, Kind::Put), row)
        })
        .collect();
    let mut text = rows.clone();
    for (i, entry) in text.iter_mut().enumerate() {
        entry.2 = format!("{} of {}", "a reading ".repeat(i * 7919 % 97 % 5), i * 31 % 1700).into_bytes();
    }
    for codec in codecs() {
        for (entries, is_filtered) in [(&rows, codec != Codec::None), (&text, false)] {
            let fs = fs();
            let meta = write(&fs, options(codec), entries, &Fragments::default());
            let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
            assert_eq!(table.footer().features.contains(&"filters/1".to_string()), is_filtered, "{codec}");
            assert_eq!(&collect(&mut table.cursor(CursorOptions::default()), true), entries);
            assert!(table.verify(true).unwrap().is_ok());
            let key = &entries[2345].0;
            let found = table.get(key, hash_key(key), SEQ_MAX).unwrap();
            assert_eq!(found.map(|(_, value)| value.to_vec()), Some(entries[2345].2.clone()));
        }
    }
}

#[test]
fn a_table_reads_without_its_manifest() {
    let fs = fs();
    let entries = sample(2, 300);
    let meta = write(&fs, options(Codec::Lz4), &entries, &Fragments::default());
    let path = FileName::Table(7).path(Path::new(DIR));
    let (table, told) = Table::open_file(&fs, &path, &context(None)).unwrap();
    assert_eq!(TableMeta { hash: meta.hash, ..told }, meta);
    assert!(table.verify(true).unwrap().is_ok());
    let blocks: Vec<BlockInfo> = table.blocks().unwrap().collect();
    assert_eq!(blocks.iter().map(|b| u64::from(b.entries)).sum::<u64>(), meta.entries);
    assert!(table.read_block(blocks.len()).is_err());
    assert_eq!(table.approximate_offset(b""), 48);
    assert!(table.approximate_offset(b"user/0001") < table.approximate_offset(b"zzz"));
}

fn small() -> (MemFs, TableMeta) {
    let fs = fs();
    let mut entries: Vec<Entry> =
        (0..12).map(|i| (format!("key {i}").into_bytes(), Tag::new(i + 1, Kind::Put), vec![b'v'; 30])).collect();
    sort(&mut entries);
    let fragments = Fragments::build([RangeTombstone { start: b"m".to_vec(), end: Some(b"n".to_vec()), seq: 3 }]);
    let meta = write(&fs, TableWriteOptions { block_size: 200, ..options(Codec::Lz4) }, &entries, &fragments);
    (fs, meta)
}

#[test]
fn every_flip_is_reported_even_without_the_whole_file_hash() {
    let (fs, meta) = small();
    let path = FileName::Table(7).path(Path::new(DIR));
    for offset in 0..meta.size {
        for bit in [0, 3, 7] {
            let bad = fs.deep_clone();
            bad.flip_bit(&path, offset, bit).unwrap();
            let found = Table::open_file(&bad, &path, &context(None)).and_then(|(table, _)| table.verify(true));
            assert!(found.is_err_and(|e| e.file().is_some()) || !found_ok(&bad, &path), "byte {offset} bit {bit}");
            let deep = Table::open(&bad, Path::new(DIR), &meta, &context(None)).and_then(|table| table.verify(false));
            assert!(deep.is_err() || deep.is_ok_and(|r| !r.is_ok()), "byte {offset} bit {bit}");
        }
    }
}

fn found_ok(fs: &MemFs, path: &Path) -> bool {
    Table::open_file(fs, path, &context(None)).and_then(|(table, _)| table.verify(true)).is_ok_and(|r| r.is_ok())
}

#[test]
fn every_cut_is_reported() {
    let (fs, meta) = small();
    let path = FileName::Table(7).path(Path::new(DIR));
    for len in 0..meta.size {
        let bad = fs.deep_clone();
        let whole = crate::fs::read_all(&*bad.open(&path).unwrap(), 1 << 20).unwrap();
        bad.remove_file(&path).unwrap();
        bad.create_new(&path).unwrap().write_all_at(&whole[..len as usize], 0).unwrap();
        assert!(Table::open(&bad, Path::new(DIR), &meta, &context(None)).unwrap_err().is_corruption());
        assert!(Table::open_file(&bad, &path, &context(None)).is_err(), "cut to {len}");
    }
}

#[test]
fn a_bad_block_costs_its_keys_only() {
    let fs = fs();
    let entries = sample(9, 400);
    let meta = write(&fs, options(Codec::Lz4), &entries, &Fragments::default());
    let path = FileName::Table(7).path(Path::new(DIR));
    let info = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap().blocks().unwrap().rev().nth(4).unwrap();
    fs.flip_bit(&path, info.offset + 9, 2).unwrap();
    let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
    let report = table.verify(true).unwrap();
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    let problem = &report.problems[1];
    assert_eq!((problem.offset, &problem.keys.as_ref().unwrap().1), (info.offset, &info.last_key));
    let mut failures = 0;
    for (key, ..) in &entries {
        match table.get(key, hash_key(key), SEQ_MAX) {
            Ok(found) => assert!(found.is_some()),
            Err(e) => {
                assert_eq!((e.kind(), e.offset(), e.file()), (ErrorKind::Corruption, Some(info.offset), Some(&*path)));
                failures += 1;
            }
        }
    }
    assert!(failures > 0 && failures < entries.len() / 2);
    for read_ahead in [false, true] {
        let mut cursor = table.cursor(CursorOptions { fill_cache: false, read_ahead });
        cursor.seek_to_first().unwrap();
        let e = std::iter::from_fn(|| Some(cursor.next())).find_map(|r| r.err()).unwrap();
        assert_eq!(e.offset(), Some(info.offset));
        assert!(!cursor.valid());
    }
}

#[test]
fn a_bad_filter_is_left_out_and_counted() {
    let fs = fs();
    let entries = sample(9, 400);
    let meta = write(&fs, options(Codec::Lz4), &entries, &Fragments::default());
    let path = FileName::Table(7).path(Path::new(DIR));
    let handle = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap().footer().filter.unwrap();
    fs.flip_bit(&path, handle.offset + 30, 0).unwrap();
    let context = context(None);
    let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
    assert_eq!(context.metrics.snapshot().filter_errors, 1);
    assert!(entries.iter().all(|(key, ..)| table.get(key, hash_key(key), SEQ_MAX).unwrap().is_some()));
    let report = table.verify(true).unwrap();
    assert!(report.problems.iter().any(|p| p.offset == handle.offset), "{:?}", report.problems);
}

#[test]
fn the_builder_refuses_what_is_out_of_order() {
    let fs = fs();
    let (metrics, clock) = (Arc::new(FamilyMetrics::default()), Arc::new(SystemClock::new()));
    let create =
        || TableBuilder::create(&fs, Path::new(DIR), 7, 1, options(Codec::None), 0, metrics.clone(), 0, clock.clone());
    let put = |seq| Tag::new(seq, Kind::Put);
    let mut builder = create().unwrap();
    builder.add(b"k", put(5), b"").unwrap();
    for (key, tag) in [(&b"k"[..], put(5)), (b"k", put(6)), (b"j", put(1)), (b"", put(1))] {
        assert_eq!(builder.add(key, tag, b"").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    builder.add(b"k", Tag::new(5, Kind::Delete), b"").unwrap();
    builder.add(b"k", put(4), b"").unwrap();
    assert!(builder.add(b"l", Tag::new(4, Kind::RangeDelete), b"").is_err());
    assert!(builder.add(b"l", put(4), &vec![0; (32 << 20) + 1]).is_err());
    builder.add(b"l", put(4), b"").unwrap();
    assert_eq!((builder.entries(), builder.last_key()), (4, &b"l"[..]));
    assert!(create().is_err(), "the file is there");
    builder.abandon();
    assert!(fs.list(Path::new(DIR)).unwrap().is_empty());
    assert!(create().unwrap().finish().is_err(), "a table needs something in it");
}

#[test]
fn tables_are_opened_once_and_forgotten() {
    let fs = fs();
    let entries = sample(9, 100);
    let meta = write(&fs, options(Codec::Lz4), &entries, &Fragments::default());
    let (metrics, clock) = (Arc::new(Metrics::default()), Arc::new(ManualClock::new()));
    let tables = crate::tables::Tables::new(Arc::new(fs.clone()), Path::new(DIR), 4 << 20, 16, metrics, clock, None);
    let file = crate::version::TableFile::unmanaged(meta);
    let family = Arc::new(FamilyMetrics::default());
    let table = tables.get(&file, &family).unwrap();
    assert!(Arc::ptr_eq(&table, &tables.get(&file, &family).unwrap()));
    table.get(&entries[0].0, hash_key(&entries[0].0), SEQ_MAX).unwrap();
    assert!(tables.cache_usage() > 0 && tables.index_and_filter_bytes() > 0 && tables.len() == 1);
    tables.forget(7);
    assert_eq!((tables.cache_usage(), tables.len()), (0, 0));
    drop(table);
    assert_eq!(tables.index_and_filter_bytes(), 0);
    fs.remove_file(&FileName::Table(7).path(Path::new(DIR))).unwrap();
    assert_eq!(tables.get(&file, &family).unwrap_err().kind(), ErrorKind::Io);
    assert!(tables.is_empty());
}

#[test]
fn blocks_keep_to_their_size() {
    let fs = fs();
    let mut random = Random(31);
    let by_key: BTreeMap<Vec<u8>, Vec<u8>> = (0..2000)
        .map(|i| (format!("{i:05}").into_bytes(), vec![b'x'; if i % 500 == 7 { 3000 } else { random.below(100) }]))
        .collect();
    let entries: Vec<Entry> = by_key.into_iter().map(|(k, v)| (k, Tag::new(0, Kind::Put), v)).collect();
    let meta = write(&fs, options(Codec::None), &entries, &Fragments::default());
    let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
    for block in table.blocks().unwrap() {
        assert!(block.raw_len <= 1024 || block.entries == 1, "{block}");
        assert!(block.last_key.len() <= 5);
    }
}

/// Not a test of correctness: prints what a machine does. Run by hand in release mode.
#[test]
#[ignore = "a measurement"]
fn measure() {
    use crate::clock::Clock;
    let clock = SystemClock::new();
    let text: Vec<&str> =
        "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor".split(' ').collect();
    let mut random = Random(77);
    let entries: Vec<Entry> = (0..300_000u64)
        .map(|i| {
            let mut value = format!("{{\"id\":{i},\"name\":\"");
            (0..10).for_each(|_| value.push_str(text[random.below(text.len())]));
            (format!("user/{i:012}").into_bytes(), Tag::new(i % 1000, Kind::Put), value.into_bytes())
        })
        .collect();
    for codec in codecs() {
        let fs = fs();
        let begun = clock.now();
        let with = TableWriteOptions { block_size: 16 << 10, filter: TableFilter::Fuse8, ..options(codec) };
        let meta = write(&fs, with, &entries, &Fragments::default());
        let built = clock.now() - begun;
        let context = TableContext { cache: Arc::new(BlockCache::new(1 << 30)), ..context(None) };
        let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
        let mut nanos = [0u128; 3];
        for read_ahead in [false, true, true] {
            let begun = clock.now();
            let mut cursor = table.cursor(CursorOptions { fill_cache: false, read_ahead });
            cursor.seek_to_first().unwrap();
            let mut n = 0usize;
            while cursor.valid() {
                n += cursor.key().len() + cursor.value().len();
                cursor.next().unwrap();
            }
            assert!(n > 0);
            nanos[usize::from(read_ahead)] = (clock.now() - begun).as_nanos() / entries.len() as u128;
        }
        let mut gets = [0u128; 2];
        for warm in [0, 1] {
            let count = if warm == 0 { 2000 } else { 200_000 };
            if warm == 1 {
                entries.iter().step_by(20).for_each(|e| drop(table.get(&e.0, hash_key(&e.0), SEQ_MAX).unwrap()));
            }
            let keys: Vec<&[u8]> = (0..count).map(|_| &entries[random.below(entries.len())].0[..]).collect();
            let begun = clock.now();
            for key in &keys {
                assert!(table.get(key, hash_key(key), SEQ_MAX).unwrap().is_some());
            }
            gets[warm] = (clock.now() - begun).as_nanos() / count as u128;
        }
        eprintln!(
            "{codec}: {} bytes of {}, build {} ns/entry, scan {} ns/entry, ahead {}; get cold-ish {} ns, cached {} ns; index+filter {}",
            meta.size,
            meta.raw_bytes,
            built.as_nanos() / entries.len() as u128,
            nanos[0],
            nanos[1],
            gets[0],
            gets[1],
            table.memory_size()
        );
    }
}

/// A table with noise, text, rows of numbers, what is longer than the line may be, and blocks of one entry.
fn mixture() -> Vec<Entry> {
    let mut random = Random(5);
    let mut entries = Vec::new();
    for i in 0..4000u64 {
        let value = match i / 500 % 4 {
            0 => (0..1500).map(|_| random.below(256) as u8).collect(),
            1 => format!("{i} of some, {}", "text that says little, ".repeat(random.below(20))).into_bytes(),
            2 => [1_700_000_000 + i, i * i % 977, 0, i].map(u64::to_le_bytes).concat(),
            _ => vec![b'x'; if i % 100 == 0 { 50_000 } else { 30 }],
        };
        let value = if i == 3900 { vec![b'L'; 3 << 20] } else { value };
        entries.push((format!("key/{i:08}").into_bytes(), Tag::new(1 + i % 99, Kind::Put), value));
    }
    entries
}

/// A pool whose threads wait for work.
fn idle_pool() -> Arc<Pool> {
    let pool = Pool::new(2);
    (0..).take_while(|_| pool.idle() < pool.threads()).for_each(spin);
    pool
}

#[test]
fn a_table_is_the_same_whoever_compresses_it() {
    let entries = mixture();
    let slow =
        [Codec::Zstd { level: 1 }, Codec::Zstd { level: 9 }, Codec::Lz4hc { level: 9 }, Codec::Brotli { quality: 2 }];
    for codec in slow.into_iter().chain([Codec::Lz4, Codec::None]) {
        let mut tables = Vec::new();
        for pool in [None, Some(Pool::new(0)), Some(idle_pool())] {
            let fs = fs();
            let metrics = Arc::new(Metrics::default());
            let with = TableWriteOptions { block_size: 16 << 10, ..options(codec) };
            let (family, clock) = (Arc::new(FamilyMetrics::default()), Arc::new(ManualClock::new()));
            let mut builder =
                TableBuilder::create(&fs, Path::new(DIR), 7, DB_ID, with, 1000, family.clone(), 1, clock).unwrap();
            builder.assist(pool.as_ref(), &metrics);
            let mut sizes = Vec::new();
            for (key, tag, value) in &entries {
                builder.add(key, *tag, value).unwrap();
                sizes.push(builder.estimated_size());
            }
            let meta = builder.finish().unwrap();
            let bytes =
                crate::fs::read_all(&*fs.open(&FileName::Table(7).path(Path::new(DIR))).unwrap(), 64 << 20).unwrap();
            let counters = metrics.snapshot();
            let n_blocks = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap().index().len() as u64;
            let is_slow = slow.contains(&codec);
            // Of noise with few keys nothing is encoded.
            let n_encodes = counters.encodes_inline + counters.encodes_assisted;
            assert_eq!((1..n_blocks).contains(&n_encodes), is_slow, "{codec}: {n_encodes} of {n_blocks}");
            assert_eq!(counters.encode_wakeups > 0, pool.is_some_and(|p| p.threads() > 0) && is_slow);
            assert!(counters.encodes_assisted == 0 || counters.encode_wakeups > 0, "{codec} {counters:?}");
            assert_eq!(family.codec(1, usize::from(codec.id())).vetoed_parts > 0, codec != Codec::None, "{codec}");
            tables.push((meta, bytes, sizes));
        }
        assert!(tables[0] == tables[1], "{codec}: another table with a pool of nobody");
        assert!(tables[0] == tables[2], "{codec}: another table with help");
    }
}

#[test]
fn blocks_in_line_count_for_the_estimated_size() {
    let fs = fs();
    let (metrics, clock) = (Arc::new(FamilyMetrics::default()), Arc::new(ManualClock::new()));
    let with = TableWriteOptions { block_size: 16 << 10, ..options(Codec::Zstd { level: 3 }) };
    let mut builder = TableBuilder::create(&fs, Path::new(DIR), 7, DB_ID, with, 1000, metrics, 1, clock).unwrap();
    let mut random = Random(9);
    let mut estimates = Vec::new();
    for i in 0..2000 {
        let value = format!("{} {} {}", random.next(), random.next(), "text ".repeat(30));
        builder.add(format!("{i:08}").as_bytes(), Tag::new(1, Kind::Put), value.as_bytes()).unwrap();
        estimates.push(builder.estimated_size());
    }
    // The block that is being gathered counts as it is.
    assert!(estimates.is_sorted_by(|a, b| *a <= b + (16 << 10)), "{estimates:?}");
    let last = *estimates.last().unwrap();
    let size = builder.finish().unwrap().size;
    assert!(last.abs_diff(size) < size / 20 + (16 << 10), "estimated {last}, is {size}");
}

/// A codec that panics on the pool's threads, and takes its time on others.
struct PanickingEncoder;

impl BlockCodec for PanickingEncoder {
    fn id(&self) -> u8 {
        232
    }

    fn name(&self) -> &str {
        "panicking-encoder"
    }

    fn compress(&self, src: &[u8], _: i32, _: Option<&Dictionary>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let helper = std::thread::current().name().is_some_and(|name| name.starts_with("lignite-decode"));
        assert!(!helper, "on purpose");
        (0..1000).for_each(spin);
        out.extend_from_slice(&src[..src.len() / 2]);
        Ok(())
    }

    fn decompress(&self, _: &[u8], dst: &mut [u8], _: Option<&Dictionary>) -> Result<(), CodecError> {
        dst.fill(b'v');
        Ok(())
    }
}

#[test]
fn a_panic_of_who_helps_to_encode_fails_the_table() {
    register_codec(std::sync::Arc::new(PanickingEncoder)).unwrap();
    let pool = idle_pool();
    let fs = fs();
    let (family, clock) = (Arc::new(FamilyMetrics::default()), Arc::new(ManualClock::new()));
    let codec = Codec::Custom { id: 232, level: 0 };
    let with = TableWriteOptions { block_size: 32 << 10, ..options(codec) };
    let mut builder = TableBuilder::create(&fs, Path::new(DIR), 7, DB_ID, with, 0, family, 1, clock).unwrap();
    builder.assist(Some(&pool), &Arc::new(Metrics::default()));
    let add = |i: u32| builder.add(format!("{i:08}").as_bytes(), Tag::new(1, Kind::Put), &[b'v'; 1000]);
    let failed = (0..100_000).map(add).find_map(Result::err).expect("a worker gets hold of a block");
    assert_eq!((failed.kind(), failed.file().is_some()), (ErrorKind::Background, true), "{failed}");
    builder.abandon();
    assert!(fs.list(Path::new(DIR)).unwrap().is_empty());
}

#[test]
fn a_check_finds_the_same_with_help() {
    let fs = fs();
    let entries = mixture();
    let with = TableWriteOptions { block_size: 4 << 10, ..options(Codec::Zstd { level: 1 }) };
    let meta = write(&fs, with, &entries, &Fragments::default());
    let path = FileName::Table(7).path(Path::new(DIR));
    let infos: Vec<BlockInfo> =
        Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap().blocks().unwrap().collect();
    for info in infos.iter().step_by(infos.len() / 7) {
        fs.flip_bit(&path, info.offset + 20, 3).unwrap();
    }
    for deep in [false, true] {
        let mut found = Vec::new();
        for pool in [None, Some(idle_pool())] {
            let context = context(pool.clone());
            let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
            let report = table.verify(deep).unwrap();
            assert!(report.problems.len() >= 8, "{:?}", report.problems);
            let counters = context.metrics.snapshot();
            let n_decodes = if deep { infos.len() as u64 } else { 0 };
            assert_eq!(counters.decodes_inline + counters.decodes_assisted, n_decodes);
            // Whether a worker who was woken comes in time is up to the scheduler.
            assert_eq!(counters.decode_wakeups > 0, pool.is_some(), "{counters:?}");
            let problems: Vec<String> = report.problems.iter().map(Problem::to_string).collect();
            found.push((problems, report.bytes, report.hash, report.blocks, report.entries));
        }
        assert_eq!(found[0], found[1]);
    }
}

/// The worked example of the format description. `LIGNITE_REWRITE=1` writes it anew.
#[test]
#[allow(clippy::disallowed_methods, reason = "the page lies beside the code, not in a database")]
fn the_example_of_the_format_page_is_true() {
    let fs = fs();
    let entries = vec![
        (b"apple".to_vec(), Tag::new(3, Kind::Delete), vec![]),
        (b"apple".to_vec(), Tag::new(1, Kind::Put), b"red".to_vec()),
        (b"banana".to_vec(), Tag::new(2, Kind::Put), b"yellow".to_vec()),
    ];
    let fragments = Fragments::build([RangeTombstone { start: b"c".to_vec(), end: Some(b"d".to_vec()), seq: 4 }]);
    let meta = write(&fs, options(Codec::None), &entries, &fragments);
    let path = FileName::Table(7).path(Path::new(DIR));
    let bytes = crate::fs::read_all(&*fs.open(&path).unwrap(), 1 << 20).unwrap();
    let table = Table::open(&fs, Path::new(DIR), &meta, &context(None)).unwrap();
    let mut parts = vec![("file header", 0), ("data block", 48)];
    parts.extend(table.footer().frames().iter().map(|(name, handle)| (*name, handle.offset as usize)));
    let last = table.footer().frames().last().unwrap().1.end() as usize;
    parts.push(("footer", last));
    let mut shown = String::from("<!-- example:table -->\n\n```text\n");
    for (i, (name, start)) in parts.iter().enumerate() {
        let end = parts.get(i + 1).map_or(bytes.len(), |p| p.1);
        shown.push_str(&format!("{name}, {} bytes\n", end - start));
        for (line, chunk) in bytes[*start..end].chunks(16).enumerate() {
            let hex: Vec<String> = chunk.iter().map(|b| format!("{b:02x}")).collect();
            let text: String =
                chunk.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { b as char } else { '.' }).collect();
            shown.push_str(&format!("  {:04x}  {:<47}  {text}\n", start + 16 * line, hex.join(" ")));
        }
    }
    shown.push_str("```\n\n");

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has_example = |name: &&str| {
        std::fs::read_to_string(root.join(name)).is_ok_and(|page| page.contains("<!-- example:table -->"))
    };
    let name = ["FORMAT.md", "FORMAT-table.md"].into_iter().find(has_example).expect("a page with the example");
    let page = std::fs::read_to_string(root.join(name)).unwrap();
    let begin = page.find("<!-- example:table -->").unwrap();
    let end = begin + page[begin..].find("<!-- end -->").unwrap();
    if std::env::var_os("LIGNITE_REWRITE").is_some() {
        std::fs::write(root.join(name), format!("{}{shown}{}", &page[..begin], &page[end..])).unwrap();
        return;
    }
    assert_eq!(&page[begin..end], shown, "run with LIGNITE_REWRITE=1 if the format was meant to change");
}

/// A codec that panics on the pool's threads only.
struct Panicking;

impl BlockCodec for Panicking {
    fn id(&self) -> u8 {
        231
    }

    fn name(&self) -> &str {
        "panicking"
    }

    fn compress(&self, src: &[u8], _: i32, _: Option<&Dictionary>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&src[..src.len() / 2]);
        Ok(())
    }

    fn decompress(&self, _: &[u8], dst: &mut [u8], _: Option<&Dictionary>) -> Result<(), CodecError> {
        let helper = std::thread::current().name().is_some_and(|name| name.starts_with("lignite-decode"));
        assert!(!helper, "on purpose");
        dst.fill(b'v');
        Ok(())
    }
}

#[test]
fn a_panic_of_a_helper_becomes_an_error() {
    register_codec(std::sync::Arc::new(Panicking)).unwrap();
    let fs = fs();
    let entries: Vec<Entry> =
        (0..2000u32).map(|i| (format!("{i:06}").into_bytes(), Tag::new(1, Kind::Put), vec![b'v'; 1000])).collect();
    let with =
        TableWriteOptions { values: Codec::Custom { id: 231, level: 0 }, block_size: 32 << 10, ..options(Codec::None) };
    let meta = write(&fs, with, &entries, &Fragments::default());
    let context = context(Some(Pool::new(2)));
    let table = Table::open(&fs, Path::new(DIR), &meta, &context).unwrap();
    for _ in 0..20 {
        let mut cursor = table.cursor(CursorOptions { fill_cache: false, read_ahead: true });
        cursor.seek_to_first().unwrap();
        // Whether a helper gets hold of a block is up to the scheduler; nobody may wait for ever.
        while cursor.valid() {
            if let Err(e) = cursor.next() {
                assert_eq!(e.kind(), ErrorKind::Background);
                assert!(!cursor.valid());
            }
        }
    }
}
