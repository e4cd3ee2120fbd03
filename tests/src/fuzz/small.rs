//! Small decoders, and valid structures made from numbers.

use std::ops::Bound;

use lignite::internals::batch::{self, BatchEntry, WriteBatch};
use lignite::internals::filename::{FileName, NUMBER_MAX};
use lignite::internals::key::{FamilyId, SEQ_MAX};
use lignite::internals::record::LogPosition;
use lignite::internals::tombstone::{Fragments, RangeTombstone};
use lignite::internals::version::edit::{FamilyRecord, VersionEdit};
use lignite::internals::version::{Origin, TableMeta};
use lignite::{CfOptions, Codec, Compression};

use super::text;
use crate::rng::Rng;

/// A write batch: what is read is what would be written, byte for byte.
pub fn write_batch(data: &[u8]) {
    let mut again = WriteBatch::new();
    for entry in batch::walk(data) {
        let Ok(entry) = entry else { return };
        match entry {
            BatchEntry::Put { family, key, value, key_at, value_at } => {
                assert!(&data[key_at..key_at + key.len()] == key && &data[value_at..value_at + value.len()] == value);
                again.put_id(family, key, value);
            }
            BatchEntry::Delete { family, key, key_at } => {
                assert!(&data[key_at..key_at + key.len()] == key);
                again.delete_id(family, key);
            }
            BatchEntry::DeleteRange { family, start, end } => {
                again.delete_range_id(family, start, end);
            }
        }
    }
    assert!(again.error().is_none(), "{:?}", again.error());
    assert_eq!(again.as_bytes(), data);
    assert_eq!(batch::count_entries(data).unwrap() as usize, again.len());
}

/// Range tombstones: sorted and disjoint, and never two ways to write the same.
pub fn tombstones(data: &[u8]) {
    let Ok(read) = Fragments::decode(data) else { return };
    let mut bytes = Vec::new();
    read.encode(&mut bytes);
    assert_eq!(bytes, data);
    let mut before: Option<Option<&[u8]>> = None;
    for f in read.iter() {
        assert!(before.is_none_or(|end| end.is_some_and(|end| end <= f.start.as_slice())));
        assert!(f.end.as_ref().is_none_or(|end| *end > f.start));
        assert!(f.seqs.windows(2).all(|w| w[0] > w[1]));
        assert_eq!(read.covering(&f.start, SEQ_MAX), f.seqs.first().copied());
        before = Some(f.end.as_deref());
    }
    // Built from its own tombstones it is the same.
    assert!(Fragments::build(read.to_tombstones()) == read);
}

/// A file's name: one name a number, and no path.
pub fn file_name(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    if let Some(parsed) = FileName::parse(name) {
        assert_eq!(parsed.to_string(), name);
        assert!(parsed.number().is_none_or(|n| n <= NUMBER_MAX));
        assert!(name.is_ascii() && !name.contains('/'));
    }
}

/// Keys as they are typed: what is shown is read back.
pub fn typed_text(data: &[u8]) {
    use text::Style;
    if let Ok(typed) = std::str::from_utf8(data) {
        let _ = text::parse(typed);
    }
    for style in [Style::Auto, Style::Text, Style::Hex, Style::B64, Style::Esc, Style::U64, Style::Len, Style::None] {
        let shown = text::show(data, style);
        if style.reads_back() {
            assert_eq!(text::parse(&shown).as_deref(), Ok(data), "{shown:?}");
        }
    }
}

/// The data with repair off and on; its first byte is the mode.
pub fn in_both_modes(data: Vec<u8>) -> [Vec<u8>; 2] {
    let mut repaired = data.clone();
    repaired[0] |= 1;
    [data, repaired]
}

fn key(rng: &mut Rng) -> Vec<u8> {
    let len = rng.below(9);
    (0..len).map(|_| b"abz\0\xff"[rng.below(5) as usize]).collect()
}

/// Some writes.
pub fn batch(rng: &mut Rng) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..rng.within(1, 5) {
        let family = FamilyId(rng.pick(&[0, 1, 200]));
        match rng.below(4) {
            0 => batch.delete_id(family, &key(rng)),
            1 => {
                let (a, b) = (key(rng), key(rng));
                let end = if rng.chance(20) { None } else { Some(b.as_slice()) };
                if end.is_some_and(|end| end <= a.as_slice()) {
                    &mut batch
                } else {
                    batch.delete_range_id(family, &a, end)
                }
            }
            _ => {
                let value = key(rng).repeat(3);
                batch.put_id(family, &key(rng), &value)
            }
        };
    }
    if batch.is_empty() {
        batch.put_id(FamilyId(0), b"k", b"v");
    }
    batch
}

/// An edit, which a family operation is too if `families`.
pub fn edit(rng: &mut Rng, families: bool) -> VersionEdit {
    let mut edit = VersionEdit::default();
    let options = CfOptions::new().compression(Compression::all(Codec::Zstd { level: -3 }).keys(Codec::Lz4));
    if families || rng.chance(50) {
        let id = FamilyId(1 + rng.below(4) as u32);
        edit.families_created.push(FamilyRecord::new(id, "näme", options.clone(), rng.below(99)));
        edit.families_renamed.push((id, "other".to_string()));
        edit.options_changed.push((id, options));
        if rng.chance(50) {
            edit.families_dropped.push(id);
        }
    }
    if families {
        return edit;
    }
    edit.next_file = Some(rng.below(1000));
    edit.next_family = rng.chance(50).then_some(7);
    edit.last_seq = Some(rng.below(1 << 40));
    edit.log_synced = Some(LogPosition { segment: 3, offset: rng.below(1 << 20) });
    edit.log_first = rng.chance(50).then_some(3);
    edit.creator = rng.chance(50).then(|| "lignite".to_string());
    edit.features = rng.chance(50).then(|| vec!["base/1".to_string()]);
    edit.created_unix = rng.chance(50).then_some(1 << 33);
    edit.flushed.push((FamilyId(0), rng.below(100)));
    for _ in 0..rng.below(3) {
        edit.added.push((FamilyId(0), rng.below(4) as u8, table_meta(rng)));
    }
    if rng.chance(50) {
        edit.deleted.push((FamilyId(0), 1, rng.below(20)));
    }
    edit
}

fn table_meta(rng: &mut Rng) -> TableMeta {
    let number = rng.within(1, 500);
    let smallest = key(rng);
    let above = [smallest.clone(), vec![0]].concat();
    TableMeta {
        number,
        origin: Origin { db_id: 0xd1, number },
        size: rng.below(1 << 30),
        hash: u128::from(rng.next_u64()),
        largest: match rng.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(above),
            _ => Bound::Excluded(above),
        },
        smallest,
        seq_min: 3,
        seq_max: 3 + rng.below(99),
        entries: 20,
        deletes: rng.below(5),
        range_deletes: rng.below(5),
        raw_bytes: 1000,
        created: 1,
        oldest_data: 1,
        seq_override: rng.chance(20).then_some(8),
        owes_codec: rng.chance(20),
        unknown: Default::default(),
    }
}

/// Valid batches.
pub fn batch_seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(1);
    (0..10).map(|_| batch(&mut rng).into_bytes()).collect()
}

/// Valid tombstones.
pub fn tombstone_seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(2);
    (0..10).map(|n| fragments(&mut rng, n)).map(|f| encoded(&f)).collect()
}

/// Some tombstones.
pub fn fragments(rng: &mut Rng, n: u64) -> Fragments {
    Fragments::build((0..n).map(|_| {
        let end = if rng.chance(10) { None } else { Some(key(rng)) };
        RangeTombstone { start: key(rng), end, seq: rng.within(1, 300) }
    }))
}

fn encoded(f: &Fragments) -> Vec<u8> {
    let mut bytes = Vec::new();
    f.encode(&mut bytes);
    bytes
}

/// Names, right and nearly right.
pub fn name_seeds() -> Vec<Vec<u8>> {
    let names =
        ["CURRENT", "CURRENT.tmp", "LOCK", "MANIFEST-000001", "000012.wal", "1234567.sst", "000003.blob", "7.sst"];
    names.iter().map(|n| n.as_bytes().to_vec()).collect()
}

/// Typed keys.
pub fn text_seeds() -> Vec<Vec<u8>> {
    let typed =
        ["plain", "hex:00ff", "b64:AAECAw==", "u64:17", "i64:-5", "u32:4294967295", "esc:a\\x00\\n\\\\", "text:hex:"];
    typed.iter().map(|n| n.as_bytes().to_vec()).chain([vec![0xff, 0, 0x80], 7u64.to_be_bytes().to_vec()]).collect()
}
