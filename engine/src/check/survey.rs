//! What a directory says about its database, as far as it can be read: CURRENT, manifests, logs.
//!
//! An open stops at the first defect. A survey goes on behind it, since a check wants to name all
//! defects and a repair wants all that is left:
//!
//! * Without a readable CURRENT the one complete manifest is taken (of several the newest, which is said).
//! * Of a damaged manifest, the edits up to the first defect are the state. Whole edits behind it are
//!   applied where they still make sense; then levels and marks may not fit together any more, which
//!   [`Survey::is_patched`] says.
//! * The log gets its verdict by the rule of [`wal`].
//!
//! What is `complete` is the whole truth: a table that it does not name is garbage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::log::{Ingested, LogJudge};
use super::report::{Problem, TableJob};
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::fs::Fs;
use crate::header::{FileHeader, HEADER_LEN};
use crate::key::FamilyId;
use crate::record::reader::RecordReader;
use crate::record::{LogPosition, Place, RecordKind};
use crate::recovery::{self, ManifestFamily, ManifestState};
use crate::sync::Arc;
use crate::table::wreck::forgivable;
use crate::version::current::{self, Current};
use crate::version::edit::VersionEdit;
use crate::version::manifest::{self, ManifestScan};
use crate::wal::{self, ReplayRules, ScanItem};

/// So many databases are tried for a file that does not say whose it is.
const IDS_MAX: usize = 16;

/// What a directory says.
pub struct Survey {
    /// The directory.
    pub dir: PathBuf,
    /// Our files in it.
    pub files: BTreeSet<FileName>,
    /// CURRENT, if it can be read.
    pub current: Option<Current>,
    /// The number of the manifest that was read.
    pub manifest: Option<u64>,
    /// The database, as far as anything says so.
    pub db_id: u128,
    /// What the manifest adds up to; none if nothing of any manifest can be read.
    pub state: Option<ManifestState>,
    /// True if `state` is the whole truth.
    pub complete: bool,
    /// True if edits behind a defect were applied.
    pub is_patched: bool,
    /// Families that were dropped, as far as edits say so.
    pub dropped: BTreeSet<FamilyId>,
    /// Tables that edits took away.
    pub deleted: BTreeSet<u64>,
    /// The live log segments, ascending.
    pub logs: Vec<u64>,
    /// Tables that only the log names, in the order in which it does.
    pub ingested: Vec<Ingested>,
    /// True if the log is sound, up to a torn tail.
    pub log_is_sound: bool,
    /// Bytes of a torn tail of manifest and log.
    pub torn_tail_bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Survey {
    /// Checks of the tables that only the log names.
    pub fn ingested_jobs(&self) -> impl Iterator<Item = TableJob> {
        let name = |id: &FamilyId| self.state.as_ref().and_then(|s| s.families.get(id)).map(|f| f.record.name.as_str());
        self.ingested.iter().map(move |t| TableJob {
            family: Arc::from(name(&t.family).unwrap_or_default()),
            level: t.level,
            file: t.file.clone(),
        })
    }

    /// The families, as far as the manifest tells.
    pub fn families(&self) -> impl Iterator<Item = &ManifestFamily> {
        self.state.iter().flat_map(|s| s.families.values())
    }

    /// The databases that files here say they belong to; of many, some.
    pub fn db_ids(&self, fs: &dyn Fs) -> Vec<u128> {
        let mut ids: Vec<u128> = self.current.iter().map(|c| c.db_id).chain([self.db_id]).collect();
        ids.extend(self.files.iter().filter_map(|f| read_header(fs, &f.path(&self.dir))).map(|h| h.db_id));
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(IDS_MAX);
        ids
    }

    /// The database that most files say they belong to.
    fn common_db_id(&self, fs: &dyn Fs) -> u128 {
        let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
        for header in self.files.iter().filter_map(|f| read_header(fs, &f.path(&self.dir))) {
            *counts.entry(header.db_id).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, n)| *n).map_or(0, |(id, _)| id)
    }

    /// Files that nothing names. Empty where nobody knows what is named.
    pub fn garbage(&self) -> Vec<PathBuf> {
        if !self.complete {
            return Vec::new();
        }
        let live: BTreeSet<u64> = self.families().flat_map(|f| f.tables.keys().map(|(_, n)| *n)).collect();
        let is_garbage = |file: &FileName| match *file {
            FileName::Table(n) => !live.contains(&n),
            FileName::Manifest(n) => Some(n) != self.manifest,
            FileName::Wal(n) => !self.logs.contains(&n),
            FileName::CurrentTemp => true,
            _ => false,
        };
        self.files.iter().filter(|f| is_garbage(f)).map(|f| f.path(&self.dir)).collect()
    }

    fn problem(&mut self, error: Error, file: FileName) {
        let problem = Problem::of(&error, file.path(&self.dir));
        self.problems.push(problem);
    }
}

/// Surveys a directory.
///
/// # Errors
/// `NotFound` if there is no database; `Unsupported`; `Io` for anything but damage.
pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Survey> {
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(recovery::missing(dir)),
        Err(e) => return Err(Error::io("list the directory", dir, e)),
    };
    let files: BTreeSet<FileName> = names.iter().filter_map(|n| FileName::parse(n)).collect();
    if !files.iter().any(|f| f.number().is_some() || *f == FileName::Current) {
        return Err(recovery::missing(dir));
    }
    let mut survey = Survey {
        dir: dir.to_path_buf(),
        files,
        current: None,
        manifest: None,
        db_id: 0,
        state: None,
        complete: false,
        is_patched: false,
        dropped: BTreeSet::new(),
        deleted: BTreeSet::new(),
        logs: Vec::new(),
        ingested: Vec::new(),
        log_is_sound: true,
        torn_tail_bytes: 0,
        problems: Vec::new(),
    };
    match current::read_current(fs, dir) {
        Ok(Some(current)) => {
            survey.db_id = current.db_id;
            survey.current = Some(current);
        }
        Ok(None) => survey.problem(Error::corruption("CURRENT is missing").with_offset(0), FileName::Current),
        Err(e) => {
            let e = forgivable(e)?;
            survey.problem(e, FileName::Current);
        }
    }
    survey.read_manifests(fs)?;
    if survey.state.is_none() && survey.current.is_none() {
        survey.db_id = survey.common_db_id(fs);
    }
    survey.check_families();
    survey.check_log(fs)?;
    Ok(survey)
}

impl Survey {
    fn read_manifests(&mut self, fs: &dyn Fs) -> Result<()> {
        let numbers: Vec<u64> =
            self.files.iter().filter_map(|f| if let FileName::Manifest(n) = *f { Some(n) } else { None }).collect();
        if let Some(current) = self.current.clone() {
            let seal = current.seal.as_ref().map(|s| (s.manifest_len, s.manifest_hash));
            match self.read_complete(fs, current.manifest, seal) {
                Ok(()) => return Ok(()),
                Err(e) => {
                    let e = forgivable(recovery::missing_is_damage(e))?;
                    self.problem(e, FileName::Manifest(current.manifest));
                }
            }
            if self.read_damaged(fs, current.manifest)? {
                return Ok(());
            }
        }
        // Newest first. The one that CURRENT names, if it does, is known to be of no use.
        let named = self.current.as_ref().map(|c| c.manifest);
        let others: Vec<u64> = numbers.into_iter().rev().filter(|n| Some(*n) != named).collect();
        let mut taken = false;
        for &number in &others {
            match self.fold(fs, number, None) {
                Ok(_) if taken => {
                    let e = Error::corruption("this manifest is complete as well; the newest one was taken");
                    self.problem(e, FileName::Manifest(number));
                }
                Ok(_) => {
                    self.read_complete(fs, number, None)?;
                    taken = true;
                }
                Err(e) => drop(forgivable(e)?),
            }
        }
        // An older manifest than the one that was lost does not know everything.
        self.complete &= named.is_none();
        if taken {
            return Ok(());
        }
        for &number in &others {
            let why = manifest::read_manifest(fs, &self.dir, number, None).err();
            if self.read_damaged(fs, number)? {
                if let Some(e) = why {
                    self.problem(e, FileName::Manifest(number));
                }
                return Ok(());
            }
        }
        if self.current.is_none() {
            self.problem(Error::corruption("no manifest can be read"), FileName::Current);
        }
        Ok(())
    }

    /// What a manifest adds up to.
    fn fold(&self, fs: &dyn Fs, number: u64, seal: Option<(u64, u128)>) -> Result<(ManifestScan, ManifestState)> {
        let scan = manifest::read_manifest(fs, &self.dir, number, seal)?;
        let state = recovery::fold(&scan).map_err(|e| e.with_file(FileName::Manifest(number).path(&self.dir)))?;
        Ok((scan, state))
    }

    /// Takes a manifest in which nothing is wrong, up to a torn last edit.
    fn read_complete(&mut self, fs: &dyn Fs, number: u64, seal: Option<(u64, u128)>) -> Result<()> {
        let (scan, state) = self.fold(fs, number, seal)?;
        if self.current.as_ref().is_some_and(|c| c.manifest == number && c.db_id != scan.db_id) {
            return Err(Error::corruption("the manifest belongs to another database").with_offset(0));
        }
        self.state = Some(state);
        self.torn_tail_bytes += scan.torn_tail_bytes;
        (self.manifest, self.db_id, self.complete) = (Some(number), scan.db_id, true);
        Ok(())
    }

    /// Takes what is left of a manifest; false if nothing is.
    fn read_damaged(&mut self, fs: &dyn Fs, number: u64) -> Result<bool> {
        let path = FileName::Manifest(number).path(&self.dir);
        let mut ids: Vec<u128> = read_header(fs, &path).map(|h| h.db_id).into_iter().collect();
        ids.extend(self.current.as_ref().map(|c| c.db_id));
        ids.extend(self.db_ids(fs));
        for db_id in ids {
            let (edits, later) = match read_edits(fs, &path, db_id, number) {
                Ok(found) => found,
                Err(e) => {
                    forgivable(e)?;
                    return Ok(false);
                }
            };
            let (state, used, why) = recovery::fold_prefix(&edits);
            let Some(mut state) = state else { continue };
            if let Some(e) = why {
                self.problem(e, FileName::Manifest(number));
            }
            for edit in edits[used..].iter().chain(&later) {
                self.is_patched = true;
                self.patch(&mut state, edit);
            }
            (self.state, self.manifest, self.db_id, self.complete) = (Some(state), Some(number), db_id, false);
            return Ok(true);
        }
        Ok(false)
    }

    /// Applies what still makes sense of an edit behind a defect.
    fn patch(&mut self, state: &mut ManifestState, edit: &VersionEdit) {
        state.next_file = state.next_file.max(edit.next_file.unwrap_or(0));
        state.next_family = state.next_family.max(edit.next_family.unwrap_or(0));
        state.last_seq = state.last_seq.max(edit.last_seq.unwrap_or(0));
        state.log_first = state.log_first.max(edit.log_first.unwrap_or(0));
        for record in &edit.families_created {
            let family =
                ManifestFamily { record: record.clone(), flushed: record.created_seq, tables: BTreeMap::new() };
            state.families.entry(record.id).or_insert(family);
            state.next_family = state.next_family.max(record.id.0.saturating_add(1));
        }
        for (id, name) in &edit.families_renamed {
            if let Some(family) = state.families.get_mut(id) {
                family.record.name.clone_from(name);
            }
        }
        for (id, options) in &edit.options_changed {
            if let Some(family) = state.families.get_mut(id) {
                family.record.options = options.clone();
            }
        }
        for (id, seq) in &edit.flushed {
            if let Some(family) = state.families.get_mut(id) {
                family.flushed = family.flushed.max(*seq);
            }
        }
        for (id, level, number) in &edit.deleted {
            self.deleted.insert(*number);
            if let Some(family) = state.families.get_mut(id) {
                family.tables.remove(&(*level, *number));
            }
        }
        for (id, level, meta) in &edit.added {
            // Where it was named last is where it belongs, even if the edit that took it away is lost.
            for family in state.families.values_mut() {
                family.tables.retain(|(_, number), _| *number != meta.number);
            }
            // The family may have been made in the edit that is lost.
            let family = state.families.entry(*id).or_insert_with(|| ManifestFamily {
                record: crate::version::edit::FamilyRecord::new(
                    *id,
                    format!("lost+found/cf-{id}"),
                    Default::default(),
                    0,
                ),
                flushed: 0,
                tables: BTreeMap::new(),
            });
            self.deleted.remove(&meta.number); // A move takes it away and puts it back.
            family.tables.insert((*level, meta.number), meta.clone());
        }
        for id in &edit.families_dropped {
            self.dropped.insert(*id);
            if let Some(family) = state.families.remove(id) {
                self.deleted.extend(family.tables.keys().map(|(_, number)| *number));
            }
        }
    }

    fn check_families(&mut self) {
        let Some(state) = &self.state else { return };
        let manifest = FileName::Manifest(self.manifest.unwrap_or(0)).path(&self.dir);
        let mut problems = Vec::new();
        if !state.families.contains_key(&FamilyId::DEFAULT) {
            problems.push(Problem::of(&Error::corruption("the column family \"default\" is missing"), &manifest));
        }
        // What is patched is known not to fit, and says so by the defect that made it necessary.
        for family in state.families.values().filter(|_| !self.is_patched) {
            let tables: Vec<_> = family
                .tables
                .iter()
                .map(|((level, _), meta)| (usize::from(*level), crate::version::TableFile::unmanaged(meta.clone())))
                .collect();
            if let Err(e) = crate::version::Version::new().apply(&tables, &[]) {
                problems.push(Problem::of(&e.with_column_family(&family.record.name), &manifest));
            }
        }
        self.problems.extend(problems);
    }

    fn check_log(&mut self, fs: &dyn Fs) -> Result<()> {
        let on_disk = self.files.iter().filter_map(|f| if let FileName::Wal(n) = *f { Some(n) } else { None });
        let first = self.state.as_ref().map_or(0, |s| s.log_first);
        self.logs = on_disk.filter(|n| *n >= first).collect();
        let seal = self.current.as_ref().and_then(|c| c.seal.clone()).filter(|_| self.complete);
        let mut promised = None;
        if let Some(seal) = &seal {
            self.logs = seal.logs.iter().map(|l| l.number).collect();
        }
        // Under a seal without logs, a checkpoint's, all of it is in tables.
        if self.complete && (seal.is_none() || !self.logs.is_empty()) {
            promised = self.state.as_ref().and_then(|s| s.log_synced).filter(|p| p.segment >= first && p.offset > 0);
        }
        if let Some(p) = promised.filter(|p| !self.logs.contains(&p.segment)) {
            let e = Error::corruption("a log segment is missing that the manifest says is durable").with_offset(0);
            self.problem(e, FileName::Wal(p.segment));
            self.log_is_sound = false;
        }
        if self.logs.is_empty() {
            return Ok(());
        }
        let rules = ReplayRules {
            db_id: self.db_id,
            // A damaged manifest may not know that its first segments are gone.
            log_first: if self.complete { first } else { 0 },
            durable_hint: promised.unwrap_or(LogPosition::START),
            seal: seal.as_ref(),
            live: false,
            shared: false,
            salvage: false,
        };
        let mut judge = LogJudge::new(fs, &self.dir, self.state.as_ref().filter(|_| self.complete));
        let replayed =
            wal::replay(fs, &self.dir, &self.logs, &rules, &mut |header, payload, _| judge.judge(header, payload));
        self.ingested = judge.ingested;
        match replayed.map_err(recovery::missing_is_damage) {
            Ok(scan) => {
                self.torn_tail_bytes += scan.torn_tail_bytes;
                Ok(())
            }
            Err(e) => {
                let e = forgivable(e)?;
                self.log_is_sound = false;
                let named = e.file().and_then(Path::file_name).and_then(|n| n.to_str()).and_then(FileName::parse);
                self.problem(e, named.unwrap_or(FileName::Wal(self.logs[0])));
                self.list_log_defects(fs)
            }
        }
    }

    /// A replay stops at the first defect; this names those in other segments.
    fn list_log_defects(&mut self, fs: &dyn Fs) -> Result<()> {
        for number in self.logs.clone() {
            let path = FileName::Wal(number).path(&self.dir);
            let mut defects = Vec::new();
            let scanned = wal::scan_file_as(fs, &path, self.db_id, number, &mut |item| {
                if let ScanItem::Defect { offset, len, reason } = item {
                    let what = format!("{reason} ({len} bytes up to the next whole record or the end)");
                    defects.push(Error::corruption(what).with_offset(*offset));
                }
                Ok(())
            });
            if let Err(e) = scanned {
                defects.push(forgivable(e)?);
            }
            for e in defects {
                // At the end of the last segment that is a torn tail, which is no defect.
                let last = self.logs.last() == Some(&number);
                let known = |p: &Problem| p.file == path && (p.offset == e.offset() || last);
                if !self.problems.iter().any(known) {
                    self.problem(e, FileName::Wal(number));
                }
            }
        }
        Ok(())
    }
}

/// The edits of a manifest up to its first defect, and those behind it.
fn read_edits(fs: &dyn Fs, path: &Path, db_id: u128, number: u64) -> Result<(Vec<VersionEdit>, Vec<VersionEdit>)> {
    let file = fs.open(path).map_err(|e| Error::io("open the manifest", path, e))?;
    let mut reader = RecordReader::new(file, path, Place { db_id, number, salt: 0 })?;
    let (mut edits, mut later) = (Vec::new(), Vec::new());
    let mut broken = false;
    let scanned = wal::scan_records(&mut reader, HEADER_LEN as u64, &mut |item| {
        let ScanItem::Record { header, payload, .. } = item else {
            broken = true;
            return Ok(());
        };
        let edit = match VersionEdit::decode(payload) {
            Ok(edit) if header.kind == RecordKind::Edit && edit.snapshot == (header.first_seq == 0) => edit,
            Ok(_) => {
                broken = true;
                return Ok(());
            }
            Err(e) => {
                forgivable(e.with_file(path))?;
                broken = true;
                return Ok(());
            }
        };
        broken |= header.first_seq != edits.len() as u64;
        if broken {
            later.push(edit)
        } else {
            edits.push(edit)
        }
        Ok(())
    });
    if let Err(e) = scanned {
        // What was read before it stays true.
        forgivable(e)?;
    }
    // A state from nothing is no change.
    later.retain(|edit| !edit.snapshot);
    Ok((edits, later))
}

/// A file's own header, if it can be read.
pub fn read_header(fs: &dyn Fs, path: &Path) -> Option<FileHeader> {
    let file = fs.open(path).ok()?;
    let mut bytes = [0; HEADER_LEN];
    let n = file.read_at(&mut bytes, 0).ok()?;
    FileHeader::decode_any(&bytes[..n]).ok()
}
