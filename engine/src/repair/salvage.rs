//! Salvage: the live records of single files, without a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::report::{GoOn, Loss, RepairProgress, cancelled};
use super::sources::{Source, visit_live};
use crate::batch;
use crate::check::Problem;
use crate::check::survey::read_header;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::fs::Fs;
use crate::header::FileKind;
use crate::key::FamilyId;
use crate::memtable::Memtable;
use crate::record::RecordKind;
use crate::sync::Arc;
use crate::table::wreck::{Wreck, forgivable};
use crate::version::Origin;
use crate::wal::{self, ScanItem};

/// What a salvage found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SalvageReport {
    /// The files, with the whole entries (puts, deletes and range deletes) that each holds.
    pub files: Vec<(PathBuf, u64)>,
    /// Live records written.
    pub records: u64,
    /// Bytes of their keys and values.
    pub raw_bytes: u64,
    /// Families that the logs among the files name. Tables do not say whose they are.
    pub families: Vec<u32>,
    /// What is damaged without a record being lost by it.
    pub problems: Vec<Problem>,
    /// What is lost, or may be.
    pub losses: Vec<Loss>,
    /// What whoever uses the records should know.
    pub warnings: Vec<String>,
}

impl SalvageReport {
    /// True if nothing was damaged.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.losses.is_empty()
    }
}

/// Reads tables and log segments of any origin, and hands the live records to `sink` in order of their keys:
/// of each key the newest version by sequence number, over all files, unless a delete among them is newer. Of logs only the entries of
/// `family` count, if one is given; else they must be of one family, since sequences of several would be mixed up.
///
/// # Errors
/// `InvalidArgument` if a file is neither a table nor a log, or the logs hold several families and none was
/// chosen; `Unsupported`; `Io`; `Cancelled`; whatever `sink` fails with.
pub fn salvage(
    fs: &dyn Fs,
    files: &[PathBuf],
    family: Option<u32>,
    go_on: GoOn<'_>,
    sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<SalvageReport> {
    let mut report = SalvageReport::default();
    let bytes = files.iter().filter_map(|f| fs.metadata(f).ok()).map(|m| m.len).sum();
    let mut progress = RepairProgress { bytes_done: 0, bytes };
    let ids: BTreeSet<u128> = files.iter().filter_map(|f| read_header(fs, f)).map(|h| h.db_id).collect();
    let mut sources = Vec::new();
    let mut families = BTreeMap::new();
    for path in files {
        let number = number_of(path);
        let guesses: Vec<Origin> =
            ids.iter().filter_map(|&db_id| number.map(|number| Origin { db_id, number })).collect();
        let entries = match kind_of(fs, path)? {
            FileKind::Table => read_table(fs, path, &guesses, &mut sources, &mut report)?,
            FileKind::Wal => read_log(fs, path, &guesses, family, &mut families, &mut report)?,
            kind => {
                let e = if kind == FileKind::Blob {
                    Error::unsupported("blob files are not supported by this version")
                } else {
                    Error::invalid(format!("a {} holds no records", kind.name()))
                };
                return Err(e.with_file(path));
            }
        };
        report.files.push((path.clone(), entries));
        progress.bytes_done += fs.metadata(path).map_or(0, |m| m.len);
        if !go_on(progress) {
            return Err(cancelled());
        }
    }
    report.families = families.keys().map(|id: &FamilyId| id.0).collect();
    if families.len() > 1 {
        let list: Vec<String> = report.families.iter().map(u32::to_string).collect();
        return Err(Error::invalid(format!(
            "the logs hold entries of several column families ({}); choose one by its number",
            list.join(", ")
        )));
    }
    sources.extend(families.into_values().map(Source::Log));
    let mut seen = 0u64;
    visit_live(&sources, &mut |key, _, value| {
        seen += 1;
        if seen.is_multiple_of(1024) && !go_on(progress) {
            return Err(cancelled());
        }
        report.records += 1;
        report.raw_bytes += (key.len() + value.len()) as u64;
        sink(key, value)
    })?;
    Ok(report)
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name().and_then(|n| n.to_str()).and_then(FileName::parse).and_then(FileName::number)
}

/// The kind of a file by its first bytes, else (they may be what is damaged) by its name.
fn kind_of(fs: &dyn Fs, path: &Path) -> Result<FileKind> {
    let file = fs.open(path).map_err(|e| Error::io("open", path, e))?;
    let mut magic = [0; 8];
    let n = match file.read_at(&mut magic, 0) {
        Ok(n) => n,
        Err(e) => {
            forgivable(Error::io("read", path, e))?;
            0
        }
    };
    if let Some(kind) = FileKind::from_magic(&magic[..n]) {
        return Ok(kind);
    }
    match path.file_name().and_then(|n| n.to_str()).and_then(FileName::parse) {
        Some(FileName::Table(_)) => Ok(FileKind::Table),
        Some(FileName::Wal(_)) => Ok(FileKind::Wal),
        Some(FileName::Manifest(_)) => Ok(FileKind::Manifest),
        Some(FileName::Blob(_)) => Ok(FileKind::Blob),
        _ => {
            Err(Error::invalid("neither its first bytes nor its name say that this is a table or a log")
                .with_file(path))
        }
    }
}

fn read_table(
    fs: &dyn Fs,
    path: &Path,
    guesses: &[Origin],
    sources: &mut Vec<Source>,
    report: &mut SalvageReport,
) -> Result<u64> {
    let wreck = Wreck::read(fs, path, None, guesses)?;
    for defect in &wreck.defects {
        if defect.lost {
            report.losses.push(Loss::of_defect(defect, path, ""));
        } else {
            let error = defect.error.clone().with_file(path).with_offset(defect.offset);
            report.problems.push(Problem::of(&error, path));
        }
    }
    let deletes = wreck.properties.as_ref().map_or(0, |p| p.deletes.saturating_sub(wreck.deletes));
    if wreck.tombstones_lost || deletes > 0 {
        let what = if wreck.tombstones_lost { "range deletes".to_string() } else { format!("{deletes} deletes") };
        report.warnings.push(format!("{}: {what} are lost; keys that were deleted may be back", path.display()));
    }
    let entries = wreck.entries + wreck.tombstones.len() as u64;
    sources.push(Source::Table(Arc::new(wreck)));
    Ok(entries)
}

fn read_log(
    fs: &dyn Fs,
    path: &Path,
    guesses: &[Origin],
    chosen: Option<u32>,
    families: &mut BTreeMap<FamilyId, Arc<Memtable>>,
    report: &mut SalvageReport,
) -> Result<u64> {
    let header = read_header(fs, path).filter(|h| h.kind == FileKind::Wal);
    let mut tries: Vec<Origin> = header.iter().map(|h| Origin { db_id: h.db_id, number: h.number }).collect();
    tries.extend(guesses);
    let damaged = |offset, bytes, message: &str| Loss {
        bytes,
        ..Loss::of(&Error::corruption(message).with_file(path).with_offset(offset), None)
    };
    if header.is_none() {
        let error = Error::corruption("the file header cannot be read").with_offset(0);
        report.problems.push(Problem::of(&error, path));
    }
    let mut entries = 0;
    let mut why = None;
    for origin in tries {
        let mut losses = Vec::new();
        let scanned = wal::scan_file_as(fs, path, origin.db_id, origin.number, &mut |item| {
            match item {
                ScanItem::Defect { offset, len, reason } => losses.push(damaged(*offset, Some(*len), reason)),
                ScanItem::Record { offset, header, payload } => match header.kind {
                    RecordKind::Batch => match take_batch(header.first_seq, payload, chosen, families) {
                        Ok(n) => entries += n,
                        Err(e) => losses.push(damaged(*offset, None, forgivable(e)?.message())),
                    },
                    RecordKind::Ingest => report.warnings.push(format!(
                        "{}: the log names ingested tables, whose entries are in files of their own",
                        path.display()
                    )),
                    _ => {}
                },
            }
            Ok(())
        });
        report.losses.append(&mut losses);
        match scanned {
            Ok(_) => return Ok(entries),
            Err(e) if entries > 0 => {
                let e = forgivable(e)?;
                report.losses.push(damaged(e.offset().unwrap_or(0), None, e.message()));
                return Ok(entries);
            }
            Err(e) => why = Some(forgivable(e)?),
        }
    }
    let why = why.unwrap_or_else(|| Error::corruption("nothing says whose log it is"));
    report.losses.push(damaged(why.offset().unwrap_or(0), None, why.message()));
    Ok(entries)
}

/// Takes the entries of a whole batch; how many there were.
fn take_batch(
    first_seq: u64,
    payload: &[u8],
    chosen: Option<u32>,
    families: &mut BTreeMap<FamilyId, Arc<Memtable>>,
) -> Result<u64> {
    // All of it or nothing: a batch that makes no sense was not written by us.
    let n = batch::count_entries(payload)?;
    for (seq, entry) in (first_seq..).zip(batch::walk(payload)) {
        let entry = entry?;
        let id = entry.family();
        if chosen.is_none_or(|c| c == id.0) {
            families.entry(id).or_insert_with(|| Arc::new(Memtable::new(0))).add(&entry, seq);
        }
    }
    Ok(u64::from(n))
}
