//! Decoders of tables: footer, properties, index, filter, blocks, frames, and all of them together.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use lignite::internals::cache::BlockCache;
use lignite::internals::checksum::{hash_key, xxh32, xxh32_pair};
use lignite::internals::clock::ManualClock;
use lignite::internals::coding::{put_u32, put_varint};
use lignite::internals::frame::{self, Filter as PartFilter, Frame, FrameHandle, FrameOptions};
use lignite::internals::fs::mem::MemFs;
use lignite::internals::fs::{Fs, read_all};
use lignite::internals::iter::Cursor as _;
use lignite::internals::key::{Kind, SEQ_MAX, Tag};
use lignite::internals::metrics::{FamilyMetrics, Metrics};
use lignite::internals::table::block::{Block, BlockBuilder};
use lignite::internals::table::filter::{self, Filter};
use lignite::internals::table::footer::{DictionaryEntry, FEATURE_BASE, Footer};
use lignite::internals::table::index::{self, BlockInfo, Index};
use lignite::internals::table::lookup::Walk;
use lignite::internals::table::properties::{Promise, Properties};
use lignite::internals::table::{CursorOptions, Table, TableBuilder, TableContext, TableFilter, TableWriteOptions};
use lignite_codecs::{Codec, Dictionary};

use super::shelf::Shelf;
use super::{repair, small};
use crate::rng::Rng;
use crate::sample::CODECS;

const DB: u128 = 0xd1;
const NUMBER: u64 = 7;
const SALT: u64 = 99;

/// A footer: with bit 0 of the mode its checksum, length and magic are made right.
pub fn footer(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        repair::footer(&mut bytes, SALT);
    }
    if let Ok(read) = Footer::decode(&bytes, SALT) {
        let mut again = Vec::new();
        read.encode(SALT, &mut again);
        assert!(Footer::decode(&again, SALT).unwrap() == read);
        for (_, handle) in read.frames() {
            let _ = handle.end();
        }
    }
}

/// Properties.
pub fn properties(data: &[u8]) {
    if let Ok(read) = Properties::decode(data) {
        let mut bytes = Vec::new();
        read.encode(&mut bytes);
        assert!(Properties::decode(&bytes).unwrap() == read);
        let _ = read.to_string();
    }
}

/// An index: two bytes say where its blocks end, in units of 64 bytes.
pub fn table_index(data: &[u8]) {
    let Some((&[low, high], rest)) = data.split_first_chunk::<2>() else { return };
    let end = 48 + u64::from(u16::from_le_bytes([low, high]));
    if let Ok(blocks) = index::decode(rest, 48, end) {
        let mut bytes = Vec::new();
        index::encode(&blocks, &mut bytes);
        assert!(index::decode(&bytes, 48, end).unwrap() == blocks);
        let index = Index::new(&blocks);
        assert_eq!(index.len(), blocks.len());
        for (i, block) in blocks.iter().enumerate() {
            assert_eq!(index.handle(i), block.handle());
            let found = index.find(&block.last_key);
            assert!(found <= i && blocks[found].last_key == block.last_key, "block {i} is not found");
        }
        let _ = index.find(&[0xff; 9]);
    }
}

/// A filter: whatever it says, it says it without a panic.
pub fn table_filter(data: &[u8]) {
    if let Ok(read) = Filter::decode(data) {
        assert!(read.memory_size() <= data.len() + 128);
        for n in 0..16u64 {
            let _ = read.may_contain(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let _ = read.may_contain(u64::MAX);
    }
}

/// The keys part of a block: entries (u8), bytes of values (u16), then the part. With bit 7 of the first
/// byte all entries get one sequence number.
pub fn block(data: &[u8]) {
    let Some((&[entries, low, high], keys)) = data.split_first_chunk::<3>() else { return };
    let values_len = usize::from(u16::from_le_bytes([low, high]));
    let seq = (entries & 0x80 != 0).then_some(5);
    let fill = |values: &mut [u8]| {
        values.fill(7);
        Ok(())
    };
    let len = usize::from(entries & 0x7f);
    let decoded = Block::decode(keys, len, values_len, seq, fill);
    let mut walk = Walk::default();
    let mut walked = |key: &[u8], tag: Tag| walk.find(keys, len, values_len, seq, key, tag);
    let Ok(read) = decoded else {
        assert!(walked(b"k", Tag::NEWEST).is_err(), "a walk lets pass what decoding refuses");
        return;
    };
    assert!(walked(&[0xff; 20], Tag::NEWEST).is_ok_and(|found| found.entry.is_none()));
    let mut again = BlockBuilder::new();
    let mut before: Option<(&[u8], Tag)> = None;
    let mut values = 0;
    for i in 0..read.len() {
        let (key, tag) = (read.key(i), read.tag(i));
        if let Some((last, last_tag)) = before {
            // Under one sequence number there is one version of each key.
            assert!(last < key || (last == key && last_tag > tag), "entries out of order");
        }
        assert_eq!(seq.unwrap_or_else(|| tag.seq()), tag.seq());
        assert_eq!(read.lower_bound(key, tag), i);
        let entry = walked(key, tag).unwrap().entry.unwrap();
        assert!(entry.0 == tag && entry.1.len() == read.value(i).len());
        assert_eq!(read.look_up(key, hash_key(key), tag).entry, Some(i));
        let shared = before.map_or(0, |(last, _)| last.iter().zip(key).take_while(|(a, b)| a == b).count());
        again.add(shared, key, tag, read.value(i));
        values += read.value(i).len();
        before = Some((key, tag));
    }
    assert_eq!(values, values_len);
    assert_eq!(read.lower_bound(&[0xff; 20], Tag::visible_at(SEQ_MAX)), read.len());
    if seq.is_none() {
        let mut bytes = Vec::new();
        again.encode_keys(&mut bytes);
        let same = Block::decode(&bytes, read.len(), values_len, None, fill).unwrap();
        for i in 0..read.len() {
            assert!(same.key(i) == read.key(i) && same.tag(i) == read.tag(i) && same.value(i) == read.value(i));
        }
    }
}

/// A frame. Mode bit 0: the bytes are taken apart into a frame's fields, lengths and stored checksums
/// are made right, and, with bit 1, the raw ones too. With bit 7 the raw lengths are claimed in MiB.
pub fn any_frame(data: &[u8]) {
    let Some((&[mode, keys_stored], rest)) = data.split_first_chunk::<2>() else { return };
    if mode & 1 == 0 {
        open_frame(rest, u32::from(keys_stored));
        return;
    }
    let Some((&[flags, codec_k, codec_v, split, raw_k, raw_v, entries], parts)) = rest.split_first_chunk::<7>() else {
        return;
    };
    let (keys, values) = parts.split_at(usize::from(split).min(parts.len()));
    let (codec_k, codec_v) = (codec_k % 7, codec_v % 7);
    let shift = if mode & 0x80 != 0 { 20 } else { 0 };
    let raw_len = |codec: u8, raw: u8, part: &[u8]| if codec == 0 { part.len() } else { usize::from(raw) << shift };
    let mut bytes = parts.to_vec();
    let begin = bytes.len();
    bytes.extend_from_slice(&[flags & 0x1f, codec_k, codec_v]);
    // Widths of 0 and 1, filters of raw parts and unknown filters are among them.
    let filters = match flags & 1 {
        0 => [[0, 0]; 2],
        _ => [[u8::from(codec_k != 0), raw_k], [if entries % 16 == 15 { 9 } else { 1 }, entries]],
    };
    if flags & 1 != 0 {
        bytes.extend_from_slice(filters.as_flattened());
    }
    if flags & (2 | 8) != 0 {
        bytes.push((mode & 0x7f) >> 2);
    }
    let (raw_k, raw_v) = (raw_len(codec_k, raw_k, keys), raw_len(codec_v, raw_v, values));
    for n in [keys.len(), raw_k, values.len(), raw_v, usize::from(entries)] {
        put_varint(&mut bytes, n as u64);
    }
    let [keys_filter, values_filter] = filters.map(|bytes| PartFilter::from_bytes(bytes).unwrap_or_default());
    for (codec, filter, part, raw, salt) in
        [(codec_k, keys_filter, keys, raw_k, SALT), (codec_v, values_filter, values, raw_v, SALT + 1)]
    {
        let mut out = vec![0; if shift == 0 { raw } else { 0 }];
        let decoded = mode & 2 != 0 && lignite_codecs::decompress_filtered(codec, filter, part, &mut out, None).is_ok();
        put_u32(&mut bytes, if decoded { xxh32(&out, salt) } else { 0 });
    }
    let covered = bytes.len();
    let k = xxh32_pair(keys, &bytes[begin..covered], SALT);
    let v = xxh32(&bytes[keys.len()..covered], SALT + 1);
    put_u32(&mut bytes, k);
    put_u32(&mut bytes, v);
    bytes.push((bytes.len() + 1 - begin) as u8);
    open_frame(&bytes, keys.len() as u32);
}

fn open_frame(bytes: &[u8], keys_stored: u32) {
    thread_local! {
        static DICTIONARY: Vec<Dictionary> = vec![Dictionary::from_bytes(b"a dictionary of text".repeat(9)).unwrap()];
    }
    let Ok(frame) = Frame::open(bytes, keys_stored, SALT) else { return };
    assert!(frame.trailer.keys.raw_len <= 64 << 20, "keys are longer than FORMAT.md allows");
    assert!(frame.trailer.values.raw_len <= 64 << 20, "values are longer than FORMAT.md allows");
    // So much is allowed, but not worth its time here.
    if frame.trailer.keys.raw_len > 1 << 20 || frame.trailer.values.raw_len > 1 << 20 {
        return;
    }
    DICTIONARY.with(|dictionaries| {
        let mut scratch = Vec::new();
        if let Ok(keys) = frame.keys(dictionaries, None, &mut scratch) {
            assert_eq!(keys.len(), frame.trailer.keys.raw_len as usize);
        }
        let mut values = vec![0xa5; frame.trailer.values.raw_len as usize];
        let done = frame.values_into(dictionaries, None, &mut values);
        if done.is_err() && frame.trailer.values.codec != 0 {
            let stale = values.iter().any(|&b| b != 0 && b != 0xa5);
            assert!(!stale, "a decoder that failed left bytes behind");
        }
    });
}

/// A whole table. Mode bit 0: every checksum that can be found is made right.
pub fn whole_table(data: &[u8]) {
    thread_local! {
        static CONTEXT: RefCell<Option<TableContext>> = const { RefCell::new(None) };
    }
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        repair::table(&mut bytes, DB, NUMBER);
    }
    let path = Path::new("/db/000007.sst");
    let shelf = Shelf::default().with(path.to_path_buf(), bytes);
    let context = CONTEXT.with(|cell| cell.borrow_mut().get_or_insert_with(table_context).clone());
    let Ok((table, meta)) = Table::open_file(&shelf, path, &context) else { return };
    let Ok(report) = table.verify(true) else { return };
    let sound = report.is_ok();
    let mut cursor = table.cursor(CursorOptions { fill_cache: false, read_ahead: false });
    let mut before: Option<Vec<u8>> = None;
    let mut seen = 0;
    let mut walk = || -> lignite::Result<()> {
        cursor.seek_to_first()?;
        while cursor.valid() {
            seen += 1;
            if sound {
                assert!(before.as_deref().is_none_or(|b| b <= cursor.key()), "a sound table is out of order");
                let repeats = before.as_deref() == Some(cursor.key());
                assert!(cursor.is_findable(hash_key(cursor.key()), repeats), "a sound table hides a key");
            }
            before = Some(cursor.key().to_vec());
            cursor.next()?;
        }
        cursor.seek(b"key05", Tag::visible_at(SEQ_MAX))?;
        cursor.seek_for_prev(b"key03", Tag::visible_at(7))
    };
    let walked = walk();
    assert!(!sound || (walked.is_ok() && seen == meta.entries), "verify finds nothing, reading does: {walked:?}");
}

fn table_context() -> TableContext {
    TableContext {
        cache: Arc::new(BlockCache::new(1 << 20)),
        metrics: Arc::new(Metrics::default()),
        family: Arc::new(FamilyMetrics::default()),
        level: 1,
        clock: Arc::new(ManualClock::new()),
        pool: None,
    }
}

/// Valid footers.
pub fn footer_seeds() -> Vec<Vec<u8>> {
    let handle = |offset: u64| FrameHandle { offset, stored_len: 70, keys_stored: 40 };
    (0..4u64)
        .map(|n| {
            let footer = Footer {
                features: vec![FEATURE_BASE.into()],
                index: handle(900),
                properties: handle(800),
                filter: (n & 1 == 1).then(|| handle(600)),
                tombstones: (n & 2 == 2).then(|| handle(500)),
                dictionaries: (0..n).map(|i| DictionaryEntry { hash: i, codec: 3, handle: handle(700) }).collect(),
            };
            let mut bytes = vec![0];
            let mut encoded = Vec::new();
            footer.encode(SALT, &mut encoded);
            bytes.extend(encoded);
            bytes
        })
        .flat_map(small::in_both_modes)
        .collect()
}

/// Valid properties.
pub fn property_seeds() -> Vec<Vec<u8>> {
    (0..4u64)
        .map(|n| {
            let mut p =
                Properties { entries: n * 1000, smallest: b"a".to_vec(), created: 1 << 32, ..Default::default() };
            p.largest = std::ops::Bound::Included(b"z".repeat(n as usize + 1));
            (0..n).for_each(|codec| p.count_part(codec as u8, 100, 50));
            let mut bytes = Vec::new();
            p.encode(&mut bytes);
            bytes
        })
        .collect()
}

/// Valid indexes.
pub fn index_seeds() -> Vec<Vec<u8>> {
    (0..6u64)
        .map(|n| {
            let mut offset = 48;
            let blocks: Vec<BlockInfo> = (0..n * 2)
                .map(|i| {
                    let stored_len = 100 + (i as u32 % 3) * 200;
                    let at = offset;
                    offset += u64::from(stored_len);
                    BlockInfo {
                        offset: at,
                        stored_len,
                        keys_stored: 20,
                        keys_raw: 60,
                        raw_len: 300,
                        entries: 3,
                        codec_k: 1,
                        codec_v: 3,
                        seq_min: 5,
                        seq_max: 5 + i * 100,
                        last_key: format!("key{i:04}").into_bytes(),
                    }
                })
                .collect();
            let mut bytes = ((offset - 48) as u16).to_le_bytes().to_vec();
            index::encode(&blocks, &mut bytes);
            bytes
        })
        .collect()
}

/// Valid filters.
pub fn filter_seeds() -> Vec<Vec<u8>> {
    [
        (TableFilter::Bloom { bits: 10 }, 3),
        (TableFilter::Bloom { bits: 4 }, 60),
        (TableFilter::Fuse8, 3),
        (TableFilter::Fuse8, 90),
    ]
    .into_iter()
    .map(|(kind, n)| {
        let mut hashes: Vec<u64> = (0..n).map(|i: u64| hash_key(&i.to_le_bytes())).collect();
        let mut bytes = Vec::new();
        filter::build(kind, &mut hashes, &mut bytes);
        bytes
    })
    .collect()
}

fn entries(rng: &mut Rng, n: usize) -> Vec<(Vec<u8>, Tag, Vec<u8>)> {
    let mut out: Vec<_> = (0..n)
        .map(|_| {
            let key = format!("key{:02}", rng.below(n as u64)).into_bytes();
            let put = rng.chance(80);
            let tag = Tag::new(rng.within(1, 400), if put { Kind::Put } else { Kind::Delete });
            (key, tag, if put { vec![b'v'; rng.below(12) as usize] } else { Vec::new() })
        })
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    out.dedup_by(|a, b| a.0 == b.0 && a.1.seq() == b.1.seq());
    out
}

/// Valid blocks.
pub fn block_seeds() -> Vec<Vec<u8>> {
    (0..8)
        .map(|n| {
            let mut rng = Rng::new(n);
            let mut builder = BlockBuilder::new();
            let mut before: Vec<u8> = Vec::new();
            for (key, tag, value) in entries(&mut rng, n as usize * 3) {
                let shared =
                    if builder.is_empty() { 0 } else { before.iter().zip(&key).take_while(|(a, b)| a == b).count() };
                builder.add(shared, &key, tag, &value);
                before = key;
            }
            let mut bytes = vec![builder.len() as u8];
            bytes.extend_from_slice(&(builder.values().len() as u16).to_le_bytes());
            builder.encode_keys(&mut bytes);
            bytes
        })
        .collect()
}

/// Valid frames, as they lie there and as fields.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let text = b"row 17 of 100; row 18 of 100; row 19 of 100; ";
    let mut out = Vec::new();
    for codec in CODECS {
        let mut bytes = Vec::new();
        let trailer =
            frame::encode(&FrameOptions::new(codec, 0), SALT, &text[..30], text, 3, None, &mut bytes).unwrap();
        out.push([&[0, trailer.keys.stored_len as u8][..], &bytes].concat());
        let rows: Vec<u8> = (0..60u32).flat_map(|i| (70_000 + i * i % 41).to_le_bytes()).collect();
        let options =
            FrameOptions { values_filter: PartFilter::from_bytes([1, 4]).unwrap(), ..FrameOptions::new(codec, 0) };
        let mut bytes = Vec::new();
        let trailer = frame::encode(&options, SALT, b"keys", &rows, 60, None, &mut bytes).unwrap();
        out.push([&[0, trailer.keys.stored_len as u8][..], &bytes].concat());
        let mut part = Vec::new();
        lignite_codecs::compress(codec, text, None, &mut part).unwrap();
        let fields = [0, codec.id(), codec.id(), part.len() as u8, text.len() as u8, text.len() as u8, 4];
        out.push([&[3, 0][..], &fields, &part, &part].concat());
        let fields = [1, codec.id(), codec.id(), part.len() as u8, text.len() as u8, text.len() as u8, 4];
        out.push([&[3, 0][..], &fields, &part, &part].concat());
    }
    out
}

/// Valid tables.
pub fn table_seeds() -> Vec<Vec<u8>> {
    (0..8u64)
        .map(|n| {
            let mut rng = Rng::new(n);
            let fs = MemFs::new();
            let dir = Path::new("/db");
            fs.create_dir_all(dir).unwrap();
            let codec = if n < 4 { Codec::None } else { CODECS[(n % 5) as usize] };
            let filter = rng.pick(&[TableFilter::None, TableFilter::Bloom { bits: 8 }, TableFilter::Fuse8]);
            let dictionary = (n == 7).then(|| Dictionary::from_bytes(b"key00key01key02vvvvvvvvvvv".repeat(4)).unwrap());
            let options = TableWriteOptions {
                keys: codec,
                values: codec,
                min_saving: 0,
                block_size: 512,
                filter,
                dictionary,
                transpose: true,
                promise: Promise::default(),
                chosen_for: String::new(),
            };
            let metrics = Arc::new(FamilyMetrics::default());
            let clock = Arc::new(ManualClock::new());
            let mut builder = TableBuilder::create(&fs, dir, NUMBER, DB, options, 1000, metrics, 1, clock).unwrap();
            for (key, tag, value) in entries(&mut rng, 10 + n as usize * 6) {
                builder.add(&key, tag, &value.repeat(1 + n as usize % 3)).unwrap();
            }
            builder.add_tombstones(&small::fragments(&mut rng, n % 3));
            builder.finish().unwrap();
            let file = fs.open(Path::new("/db/000007.sst")).unwrap();
            [vec![0], read_all(&*file, 1 << 20).unwrap()].concat()
        })
        .flat_map(small::in_both_modes)
        .collect()
}
