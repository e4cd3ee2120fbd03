//! Decoders of the log, the manifest and CURRENT.
//!
//! The first byte of the data is the mode: with bit 0 checksums are repaired first.

use std::path::Path;
use std::sync::Arc;

use lignite::internals::batch;
use lignite::internals::filename::FileName;
use lignite::internals::fs::mem::MemFs;
use lignite::internals::fs::{Fs, read_all};
use lignite::internals::header::{FileHeader, FileKind};
use lignite::internals::record::reader::{Found, RecordReader};
use lignite::internals::record::{LogPosition, Place, RecordHeader, RecordKind, writer};
use lignite::internals::version::current::{Current, Seal, SealedLog};
use lignite::internals::version::edit::{self, VersionEdit};
use lignite::internals::version::manifest::{self, ManifestWriter};
use lignite::internals::wal::{self, FIRST_RECORD, ReplayRules, SegmentWriter};

use super::shelf::{Bytes, Shelf};
use super::{repair, small};
use crate::rng::Rng;

const DB: u128 = 0xd1;
const NUMBER: u64 = 2;

fn dir() -> &'static Path {
    Path::new("/db")
}

fn split_mode(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(&mode, rest)| (mode, rest))
}

/// Records, one behind the other: what is found is what would be written.
pub fn record(data: &[u8]) {
    let Some((mode, rest)) = split_mode(data) else { return };
    let place = Place { db_id: DB, number: NUMBER, salt: u64::from(mode >> 1) };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        repair::records(&mut bytes, 0, place);
    }
    let file = Arc::new(Bytes(bytes));
    let Ok(mut reader) = RecordReader::new(file.clone(), dir(), place) else { return };
    let mut offset = 0;
    loop {
        match reader.read(offset) {
            Ok(Found::Record(record)) => {
                let mut again = Vec::new();
                writer::encode(&mut again, &place, offset, &record.header, record.payload).unwrap();
                assert_eq!(again, file.0[offset as usize..record.end as usize], "a record is written otherwise");
                assert!(record.header.synced <= LogPosition { segment: NUMBER, offset });
                let _ = record.header.to_string();
                offset = record.end;
            }
            Ok(Found::Defect(_)) => match reader.find(offset + 1, u64::MAX) {
                Ok(Some((at, end, _))) => {
                    assert!(at > offset && end > at && end <= file.0.len() as u64);
                    offset = at;
                }
                _ => return,
            },
            Ok(Found::End) | Err(_) => return,
        }
    }
}

/// Up to three segments of a log: what is replayed is dense, and what is left is counted.
pub fn segments(data: &[u8]) {
    let Some((&[mode, first_len, second_len, hint], rest)) = data.split_first_chunk::<4>() else { return };
    let borders = [usize::from(first_len) * 8, usize::from(second_len) * 8];
    let mut left = rest;
    let mut shelf = Shelf::default();
    let mut numbers = Vec::new();
    let mut total = 0;
    for (i, len) in borders.into_iter().chain([usize::MAX]).enumerate() {
        let (bytes, behind) = left.split_at(len.min(left.len()));
        left = behind;
        if bytes.is_empty() {
            continue;
        }
        let number = NUMBER + i as u64;
        let mut bytes = bytes.to_vec();
        if mode & 1 == 1 {
            repair::segment(&mut bytes, DB, number);
        }
        total += bytes.len() as u64;
        numbers.push(number);
        shelf = shelf.with(FileName::Wal(number).path(dir()), bytes);
    }
    let rules = ReplayRules {
        log_first: u64::from(mode >> 1 & 3),
        durable_hint: LogPosition { segment: u64::from(hint >> 6), offset: u64::from(hint & 63) * 8 },
        live: mode & 8 != 0,
        ..ReplayRules::new(DB)
    };
    let mut next = None;
    let mut seen = 0;
    let mut visit = |header: &RecordHeader, payload: &[u8], at: LogPosition| {
        assert!(next.is_none_or(|next| next == header.first_seq), "a gap in front of {header} at {at}");
        next = Some(header.first_seq + u64::from(header.count));
        seen += payload.len() as u64;
        match header.kind {
            RecordKind::Batch => drop(batch::count_entries(payload)),
            _ => drop(VersionEdit::decode(payload)),
        }
        Ok(())
    };
    if let Ok(scan) = wal::replay(&shelf, dir(), &numbers, &rules, &mut visit) {
        assert!(seen + scan.torn_tail_bytes <= total, "more was found than is there");
        for s in &scan.segments {
            assert!(FIRST_RECORD <= s.valid_len && s.valid_len <= s.file_len);
        }
        if let (Some(next), Some(end)) = (next, scan.next_seq) {
            assert!(end >= next);
        }
    }
    for number in numbers {
        let mut at = 0;
        let _ = wal::scan_file(&shelf, &FileName::Wal(number).path(dir()), &mut |item| {
            let (offset, len) = match item {
                wal::ScanItem::Record { offset, payload, .. } => (*offset, payload.len() as u64),
                wal::ScanItem::Defect { offset, len, .. } => (*offset, *len),
            };
            assert!(offset >= at, "a scan goes back");
            at = offset + len;
            Ok(())
        });
    }
}

/// A version edit, and the parts of it that stand alone.
pub fn version_edit(data: &[u8]) {
    if let Ok(read) = VersionEdit::decode(data) {
        let bytes = read.to_bytes();
        let again = VersionEdit::decode(&bytes).unwrap_or_else(|e| panic!("{read}: {e}"));
        assert!(again.to_bytes() == bytes && again.snapshot == read.snapshot, "{read} and {again}");
        let _ = read.to_string();
        assert_eq!(edit::decode_family_operation(data).is_ok(), read.is_family_operation());
        assert_eq!(edit::decode_ingest(data).is_ok(), read.is_ingest());
    }
    if let Ok((options, unknown)) = edit::decode_cf_options(data) {
        let mut bytes = Vec::new();
        edit::encode_cf_options(&options, &unknown, &mut bytes);
        let again = edit::decode_cf_options(&bytes).unwrap();
        assert!(again == (options, unknown), "options are read otherwise");
    }
}

/// A manifest: what is read is what was written, one edit behind the other.
pub fn manifest_file(data: &[u8]) {
    let Some((mode, rest)) = split_mode(data) else { return };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        repair::manifest(&mut bytes, DB, NUMBER);
    }
    let len = bytes.len() as u64;
    let path = FileName::Manifest(NUMBER).path(dir());
    let shelf = Shelf::default().with(path.clone(), bytes);
    let seal = (mode & 6 == 6).then_some((len, 7));
    if let Ok(scan) = manifest::read_manifest(&shelf, dir(), NUMBER, seal) {
        assert!(scan.edits[0].snapshot && scan.edits[1..].iter().all(|e| !e.snapshot));
        assert_eq!(scan.valid_len + scan.torn_tail_bytes, len);
    }
    let _ = manifest::scan_file(&shelf, &path, &mut |item| {
        let _ = item.to_string();
        Ok(())
    });
}

/// CURRENT: read or refused, and never two ways to write the same.
pub fn current(data: &[u8]) {
    let Some((mode, rest)) = split_mode(data) else { return };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        repair::current(&mut bytes);
    }
    if let Ok(read) = Current::decode(&bytes) {
        assert_eq!(read.encode(), bytes);
        let _ = read.to_string();
    }
}

/// The header of a file.
pub fn header(data: &[u8]) {
    let Some((mode, rest)) = split_mode(data) else { return };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        repair::header(&mut bytes);
    }
    if let Ok(read) = FileHeader::decode_any(&bytes) {
        assert_eq!(read.encode(), bytes[..48]);
        assert!(FileKind::ALL.iter().filter(|&&kind| FileHeader::decode(&bytes, kind).is_ok()).count() == 1);
    }
}

/// Valid logs: a byte of mode, lengths, then the segments.
pub fn segment_seeds() -> Vec<Vec<u8>> {
    (0..6u64)
        .map(|seed| {
            let mut rng = Rng::new(seed);
            let fs = MemFs::new();
            fs.create_dir_all(dir()).unwrap();
            let mut seq = 1;
            let mut previous = LogPosition::START;
            let mut data = vec![0, 0, 0, 0];
            for i in 0..=seed.min(2) {
                let number = NUMBER + i;
                let mut writer = SegmentWriter::create(&fs, dir(), number, DB, previous, seq, rng.next_u64()).unwrap();
                for _ in 0..rng.within(1, 4) {
                    let (payload, count, kind) = match rng.below(4) {
                        0 => (small::edit(&mut rng, true).to_bytes(), 1, RecordKind::FamilyOperation),
                        _ => {
                            let batch = small::batch(&mut rng);
                            (batch.as_bytes().to_vec(), batch.len() as u32, RecordKind::Batch)
                        }
                    };
                    let synced = if rng.chance(50) { writer.end() } else { previous };
                    writer.append(&RecordHeader { kind, first_seq: seq, count, synced }, &payload).unwrap();
                    seq += u64::from(count);
                }
                if i < seed.min(2) || rng.chance(50) {
                    writer.finish(writer.end()).unwrap();
                }
                previous = writer.end();
                let bytes = read_all(&*fs.open(writer.path()).unwrap(), 1 << 20).unwrap();
                if i < 2 {
                    data[1 + i as usize] = (bytes.len() / 8) as u8;
                }
                data.extend_from_slice(&bytes);
            }
            data
        })
        .flat_map(small::in_both_modes)
        .collect()
}

/// Valid records.
pub fn record_seeds() -> Vec<Vec<u8>> {
    (0..6)
        .map(|seed| {
            let mut rng = Rng::new(seed);
            let mut bytes = Vec::new();
            for _ in 0..=seed % 3 {
                let batch = small::batch(&mut rng);
                let offset = bytes.len() as u64;
                let synced = LogPosition { segment: NUMBER, offset };
                let header = RecordHeader { kind: RecordKind::Batch, first_seq: 5, count: batch.len() as u32, synced };
                writer::encode(
                    &mut bytes,
                    &Place { db_id: DB, number: NUMBER, salt: 0 },
                    offset,
                    &header,
                    batch.as_bytes(),
                )
                .unwrap();
            }
            [vec![0], bytes].concat()
        })
        .flat_map(small::in_both_modes)
        .collect()
}

/// Valid edits.
pub fn edit_seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(3);
    let edits = (0..12).map(|n| small::edit(&mut rng, n % 4 == 0).to_bytes());
    let mut options = Vec::new();
    edit::encode_cf_options(
        &lignite::CfOptions::new(),
        &lignite::internals::field::UnknownFields::default(),
        &mut options,
    );
    edits.chain([options]).collect()
}

/// Valid manifests.
pub fn manifest_seeds() -> Vec<Vec<u8>> {
    (0..6)
        .map(|seed| {
            let mut rng = Rng::new(seed);
            let fs = MemFs::new();
            fs.create_dir_all(dir()).unwrap();
            let snapshot = VersionEdit { snapshot: true, db_id: Some(DB), ..small::edit(&mut rng, false) };
            let mut writer = ManifestWriter::create(&fs, dir(), NUMBER, DB, &snapshot).unwrap();
            for _ in 0..seed {
                writer.append(&VersionEdit { snapshot: false, ..small::edit(&mut rng, false) }).unwrap();
            }
            let path = FileName::Manifest(NUMBER).path(dir());
            [vec![0], read_all(&*fs.open(&path).unwrap(), 1 << 20).unwrap()].concat()
        })
        .flat_map(small::in_both_modes)
        .collect()
}

/// Valid CURRENT files.
pub fn current_seeds() -> Vec<Vec<u8>> {
    (0..4)
        .map(|n| {
            let logs = (1..n).map(|i| SealedLog { number: i, len: i * 100, hash: 7 << i }).collect();
            let seal = (n > 0).then_some(Seal { manifest_len: 100, manifest_hash: 1 << 90, logs });
            [vec![0], Current { db_id: DB, manifest: n + 1, seal }.encode()].concat()
        })
        .flat_map(small::in_both_modes)
        .collect()
}

/// Valid headers.
pub fn header_seeds() -> Vec<Vec<u8>> {
    FileKind::ALL
        .into_iter()
        .map(|kind| [&[0][..], &FileHeader { kind, number: 9, db_id: DB }.encode(), b"more"].concat())
        .flat_map(small::in_both_modes)
        .collect()
}
