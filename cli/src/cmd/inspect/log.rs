//! Logs, manifests, CURRENT and LOCK for `inspect`.

use std::path::Path;

use lignite::Error;
use lignite::internals::batch::{self, BatchEntry};
use lignite::internals::fs::disk::DiskFs;
use lignite::internals::fs::{self, Fs};
use lignite::internals::record::RecordKind;
use lignite::internals::version::current::Current;
use lignite::internals::version::edit::{VersionEdit, decode_family_operation, decode_ingest};
use lignite::internals::version::manifest;
use lignite::internals::wal::{self, ScanItem};

use super::found::{Defect, Entry, Found, Visit, facts_of_header};
use crate::exit::Failure;
use crate::output::{Cell, Table};
use crate::text::{self, Style};

/// CURRENT and LOCK are never larger.
const SMALL_LEN_MAX: u64 = 1 << 20;

/// Reads a segment of the log.
pub(super) fn read_log(disk: &DiskFs, path: &Path, with_records: bool) -> Result<Found, Error> {
    let mut rows = Table::new(&["offset", "kind", "sequence", "entries", "payload", "synced", "text"]);
    let (mut records, mut entries, mut payload_bytes, mut ended) = (0, 0, 0, false);
    let mut defects = Vec::new();
    let (header, segment) = wal::scan_file(disk, path, &mut |item| {
        match item {
            ScanItem::Record { offset, header, payload } => {
                // A defect with a whole record behind it is no torn tail.
                defects.iter_mut().for_each(|d: &mut Defect| d.damage = true);
                records += 1;
                entries += u64::from(header.count);
                payload_bytes += payload.len() as u64;
                ended = header.kind == RecordKind::End;
                if with_records {
                    rows.row(vec![
                        Cell::Offset(*offset),
                        Cell::text(header.kind.name()),
                        Cell::Count(header.first_seq),
                        Cell::Count(u64::from(header.count)),
                        Cell::Bytes(payload.len() as u64),
                        Cell::text(header.synced.to_string()),
                        Cell::text(describe(header.kind, payload)),
                    ]);
                }
            }
            ScanItem::Defect { offset, len, reason } => {
                ended = false;
                defects.push(Defect {
                    offset: Some(*offset),
                    message: format!("{len} bytes: {reason}"),
                    damage: false,
                });
            }
        }
        Ok(())
    })?;
    let mut facts = facts_of_header(&header);
    facts.extend([
        ("previous", Cell::text(segment.previous.to_string())),
        ("first_sequence", Cell::Count(segment.first_seq)),
        ("records_count", Cell::Count(records)),
        ("entries_count", Cell::Count(entries)),
        ("payload_bytes", Cell::Bytes(payload_bytes)),
        ("end_mark", Cell::Flag(ended)),
    ]);
    Ok(Found { kind: "log", facts, items_name: "records", items: with_records.then_some(rows), defects })
}

/// What a record does, in a few words.
fn describe(kind: RecordKind, payload: &[u8]) -> String {
    let edit = |edit: Result<VersionEdit, Error>| edit.map_or_else(|e| e.to_string(), |e| e.to_string());
    match kind {
        RecordKind::FamilyOperation => edit(decode_family_operation(payload)),
        RecordKind::Ingest => edit(decode_ingest(payload)),
        _ => String::new(),
    }
}

/// Visits the entries of every batch of a log.
pub(super) fn visit_entries(disk: &DiskFs, path: &Path, visit: Visit<'_>) -> Result<(), Failure> {
    let mut failure = None;
    let scanned = wal::scan_file(disk, path, &mut |item| {
        let ScanItem::Record { offset, header, payload } = item else { return Ok(()) };
        if header.kind != RecordKind::Batch || failure.is_some() {
            return Ok(());
        }
        for (i, entry) in batch::walk(payload).enumerate() {
            let entry = entry.map_err(|e| e.with_file(path).with_offset(*offset))?;
            let (kind, key, value) = match &entry {
                BatchEntry::Put { key, value, .. } => ("put", *key, Some(*value)),
                BatchEntry::Delete { key, .. } => ("delete", *key, None),
                BatchEntry::DeleteRange { start, end, .. } => ("range-delete", *start, *end),
            };
            let shown = Entry {
                at: *offset,
                sequence: header.first_seq + i as u64,
                kind,
                family: Some(entry.family().0),
                key,
                value,
            };
            if let Err(e) = visit(&shown) {
                failure = Some(e);
                break;
            }
        }
        Ok(())
    });
    match (failure, scanned) {
        (Some(failure), _) => Err(failure),
        // Said already.
        (None, Err(e)) if e.is_corruption() && e.offset().is_none() => Ok(()),
        (None, scanned) => Ok(scanned.map(drop)?),
    }
}

/// Reads a manifest.
pub(super) fn read_manifest(disk: &DiskFs, path: &Path) -> Result<Found, Error> {
    let mut rows = Table::new(&["offset", "edit"]);
    let mut edits = 0;
    let mut defects = Vec::new();
    let header = manifest::scan_file(disk, path, &mut |item| {
        match item {
            ScanItem::Record { offset, payload, .. } => {
                defects.iter_mut().for_each(|d: &mut Defect| d.damage = true);
                edits += 1;
                match VersionEdit::decode(payload) {
                    Ok(edit) => rows.row(vec![Cell::Offset(*offset), Cell::text(edit.to_string())]),
                    Err(e) => defects.push(Defect::of(&e.with_offset(*offset))),
                }
            }
            ScanItem::Defect { offset, len, reason } => {
                defects.push(Defect {
                    offset: Some(*offset),
                    message: format!("{len} bytes: {reason}"),
                    damage: false,
                });
            }
        }
        Ok(())
    })?;
    // A manifest is synced with every edit: without its first one, its snapshot, there is nothing.
    if edits == 0 {
        defects.iter_mut().for_each(|d| d.damage = true);
    }
    let mut facts = facts_of_header(&header);
    facts.push(("edits_count", Cell::Count(edits)));
    Ok(Found { kind: "manifest", facts, items_name: "edits", items: Some(rows), defects })
}

/// Reads CURRENT.
pub(super) fn read_current(disk: &DiskFs, path: &Path) -> Result<Found, Error> {
    let bytes = small(disk, path)?;
    let current = Current::decode(&bytes).map_err(|e| e.with_file(path))?;
    let mut facts = vec![
        ("db_id", Cell::text(format!("{:032x}", current.db_id))),
        ("manifest", Cell::Count(current.manifest)),
        ("sealed", Cell::Flag(current.seal.is_some())),
    ];
    let items = current.seal.map(|seal| {
        facts.push(("manifest_len", Cell::Offset(seal.manifest_len)));
        facts.push(("manifest_hash", Cell::text(format!("{:032x}", seal.manifest_hash))));
        let mut rows = Table::new(&["log", "len", "hash"]);
        for log in &seal.logs {
            rows.row(vec![Cell::Count(log.number), Cell::Offset(log.len), Cell::text(format!("{:032x}", log.hash))]);
        }
        rows
    });
    Ok(Found { kind: "current", facts, items_name: "logs", items, defects: Vec::new() })
}

/// Reads LOCK, whose content is advisory.
pub(super) fn read_lock(disk: &DiskFs, path: &Path) -> Result<Found, Error> {
    let bytes = small(disk, path)?;
    let facts = vec![("content", Cell::text(text::show(bytes.trim_ascii(), Style::Auto)))];
    Ok(Found { kind: "lock", facts, items_name: "items", items: None, defects: Vec::new() })
}

fn small(disk: &DiskFs, path: &Path) -> Result<Vec<u8>, Error> {
    let file = disk.open(path).map_err(|e| Error::io("open", path, e))?;
    fs::read_all(&*file, SMALL_LEN_MAX).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::corruption("the file is far too large").with_file(path),
        _ => Error::io("read", path, e),
    })
}
