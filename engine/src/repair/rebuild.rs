//! The new database: tables copied, rewritten or merged, the log on top, one manifest, a seal.
//!
//! Nothing names a file here before it is synced, and CURRENT comes last: a crash leaves a directory
//! without a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::report::{GoOn, RepairProgress, RepairReport, cancelled};
use crate::check::survey::Survey;
use crate::check::{self, TableJob};
use crate::checksum::FileHasher;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::field::UnknownFields;
use crate::filename::{FileName, NUMBER_GIVEN_MAX};
use crate::fs::Fs;
use crate::key::{FAMILY_NAME_LEN_MAX, FamilyId, SEQ_MAX, SeqNo};
use crate::memtable::Memtable;
use crate::metrics::FamilyMetrics;
use crate::options::CfOptions;
use crate::store::snapshot_edit_of;
use crate::sync::Arc;
use crate::sync::atomic::AtomicU64;
use crate::version::current::{Current, Seal, write_current};
use crate::version::edit::FamilyRecord;
use crate::version::manifest::ManifestWriter;
use crate::version::{Origin, TableFile, TableMeta};

/// A number above this is nobody's honest one, and leaves too few behind it: such a table gets another.
const NUMBER_KEPT_MAX: u64 = NUMBER_GIVEN_MAX / 2;

/// How much is copied at a time.
const PIECE_LEN: usize = 1 << 20;

/// A family of the new database.
pub(super) struct Family {
    pub(super) record: FamilyRecord,
    /// Everything up to here is in the tables that the manifest names.
    pub(super) flushed: SeqNo,
    /// Tables of the source.
    pub(super) old: Vec<(usize, TableMeta)>,
    /// Tables of the result.
    pub(super) new: Vec<(usize, TableMeta)>,
    pub(super) memtable: Arc<Memtable>,
    /// True if levels say nothing about what is newer.
    pub(super) merge: bool,
}

impl Family {
    pub(super) fn new(record: FamilyRecord) -> Family {
        Family {
            record,
            flushed: 0,
            old: Vec::new(),
            new: Vec::new(),
            memtable: Arc::new(Memtable::new(0)),
            merge: false,
        }
    }
}

pub(super) struct Rebuild<'a> {
    pub(super) fs: &'a Arc<dyn Fs>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) source: &'a Survey,
    pub(super) to: &'a Path,
    pub(super) db_id: u128,
    pub(super) next_file: AtomicU64,
    pub(super) next_family: u32,
    pub(super) last_seq: SeqNo,
    pub(super) families: BTreeMap<FamilyId, Family>,
    /// Where the tables of each origin lie; a file may have got another's name.
    pub(super) places: BTreeMap<u64, Origin>,
    /// Databases that files of the source say they belong to.
    pub(super) ids: Vec<u128>,
    pub(super) metrics: Arc<FamilyMetrics>,
    pub(super) progress: RepairProgress,
    pub(super) report: RepairReport,
}

/// Makes the new database in the empty directory `to`.
pub fn run(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    source: &Survey,
    to: &Path,
    go_on: GoOn<'_>,
) -> Result<RepairReport> {
    let last_seq = source.state.as_ref().map_or(0, |s| s.last_seq);
    let on_disk = source.files.iter().filter_map(|f| f.number());
    let named = source.families().flat_map(|f| f.tables.keys().map(|(_, number)| *number));
    let known = source.state.as_ref().map_or(0, |s| s.next_file);
    let next_file = on_disk.chain(named).map(|n| n.saturating_add(1)).chain([known]);
    let next_file = next_file.filter(|n| *n <= NUMBER_KEPT_MAX).max().unwrap_or(0).max(1);
    let mut hasher = FileHasher::new();
    hasher.update(b"repair");
    hasher.update(&source.db_id.to_le_bytes());
    hasher.update(&last_seq.to_le_bytes());
    hasher.update(&next_file.to_le_bytes());
    let mut rebuild = Rebuild {
        fs,
        clock,
        source,
        to,
        db_id: hasher.digest(),
        next_file: AtomicU64::new(next_file),
        next_family: source.state.as_ref().map_or(1, |s| s.next_family).max(1),
        last_seq,
        families: BTreeMap::new(),
        places: BTreeMap::new(),
        ids: source.db_ids(&**fs),
        metrics: Arc::new(FamilyMetrics::default()),
        progress: RepairProgress::default(),
        report: RepairReport {
            problems: source.problems.clone(),
            torn_tail_bytes: source.torn_tail_bytes,
            garbage: source.garbage(),
            ..RepairReport::default()
        },
    };
    rebuild.all(go_on)?;
    Ok(rebuild.report)
}

impl Rebuild<'_> {
    fn all(&mut self, go_on: GoOn<'_>) -> Result<()> {
        let tables = self.source.files.iter().filter(|f| matches!(f, FileName::Table(_)));
        let sizes = tables.filter_map(|f| self.fs.metadata(&f.path(&self.source.dir)).ok()).map(|m| m.len);
        self.progress.bytes = sizes.sum();
        self.begin_families();
        let sound = self.judge_tables(go_on)?;
        let sealed = self.source.current.as_ref().is_some_and(|c| c.seal.is_some());
        if self.report.problems.is_empty() && sealed && self.source.complete {
            return self.copy_everything();
        }
        self.find_places();
        let lost_found = self.unnamed_tables();
        self.apply_log(&lost_found)?;
        let ids: Vec<FamilyId> = self.families.keys().copied().collect();
        for id in ids {
            self.rebuild_family(id, &sound, go_on)?;
        }
        for number in lost_found.into_keys() {
            self.adopt(number, go_on)?;
        }
        self.finish()
    }

    fn begin_families(&mut self) {
        for found in self.source.families() {
            let mut family = Family::new(found.record.clone());
            family.flushed = found.flushed;
            family.merge = self.source.is_patched;
            family.old = found.tables.iter().map(|((level, _), meta)| (usize::from(*level), meta.clone())).collect();
            self.families.insert(found.record.id, family);
        }
        self.families
            .entry(FamilyId::DEFAULT)
            .or_insert_with(|| Family::new(FamilyRecord::new(FamilyId::DEFAULT, "default", CfOptions::default(), 0)));
        let next = self.families.keys().map(|id| id.0.saturating_add(1)).max().unwrap_or(1);
        self.next_family = self.next_family.max(next);
    }

    /// Checks every named table deeply; the numbers of those in which nothing is wrong.
    fn judge_tables(&mut self, go_on: GoOn<'_>) -> Result<BTreeSet<u64>> {
        let mut jobs = Vec::new();
        for family in self.families.values() {
            let name: Arc<str> = Arc::from(family.record.name.as_str());
            for (level, meta) in &family.old {
                jobs.push(TableJob { family: name.clone(), level: *level, file: TableFile::unmanaged(meta.clone()) });
            }
        }
        jobs.extend(self.source.ingested_jobs());
        let open = check::opener(self.fs, self.clock, &self.source.dir);
        let mut sound = BTreeSet::new();
        for job in jobs {
            let (number, size) = (job.file.number(), job.file.meta.size);
            let mut found = check::CheckReport::default();
            let options = check::CheckOptions::new().deep(true);
            let (dir, jobs) = (&self.source.dir, vec![job]);
            check::check_tables(self.fs, self.clock, dir, jobs, &open, &options, &mut |_| {}, &mut found)?;
            if found.is_clean() {
                sound.insert(number);
            }
            self.report.problems.extend(found.problems);
            self.progress.bytes_done += size;
            if !go_on(self.progress) {
                return Err(cancelled());
            }
        }
        Ok(sound)
    }

    /// Nothing is wrong: the result is the same, byte for byte.
    fn copy_everything(&mut self) -> Result<()> {
        let manifest = self.source.manifest.map(FileName::Manifest);
        let logs = self.source.logs.iter().map(|n| FileName::Wal(*n));
        let tables = self.families.values().flat_map(|f| f.old.iter().map(|(_, m)| FileName::Table(m.number)));
        let ingested = self.source.ingested.iter().map(|t| FileName::Table(t.file.number()));
        let files: Vec<FileName> = tables.chain(ingested).chain(logs).chain(manifest).collect();
        for file in files {
            self.copy(file)?;
            self.report.tables_copied += u64::from(matches!(file, FileName::Table(_)));
        }
        sync_dir(&**self.fs, self.to)?;
        if let Some(current) = &self.source.current {
            write_current(&**self.fs, self.to, current)?;
        }
        self.sync_parent()?;
        self.report.unchanged = true;
        let entries = |f: &Family| f.old.iter().map(|(_, m)| m.entries).sum();
        self.report.families = self.families.values().map(|f| (f.record.name.clone(), entries(f))).collect();
        Ok(())
    }

    /// Copies a file under its name; its hash.
    pub(super) fn copy(&self, name: FileName) -> Result<u128> {
        let (from, to) = (name.path(&self.source.dir), name.path(self.to));
        let read = |e| Error::io("read", &from, e);
        let write = |e| Error::io("write the copy", &to, e);
        let source = self.fs.open(&from).map_err(read)?;
        let copy = self.fs.create_new(&to).map_err(write)?;
        let mut hasher = FileHasher::new();
        let mut piece = vec![0; PIECE_LEN];
        let mut offset = 0;
        loop {
            let n = source.read_at(&mut piece, offset).map_err(read)?;
            if n == 0 {
                break;
            }
            hasher.update(&piece[..n]);
            copy.write_all_at(&piece[..n], offset).map_err(write)?;
            offset += n as u64;
        }
        copy.sync_data().map_err(write)?;
        Ok(hasher.digest())
    }

    /// Reads whose tables the files say they are.
    fn find_places(&mut self) {
        for file in &self.source.files {
            if let FileName::Table(number) = *file
                && let Some(header) = check::survey::read_header(&**self.fs, &file.path(&self.source.dir))
            {
                self.places.insert(number, Origin { db_id: header.db_id, number: header.number });
            }
        }
    }

    /// Tables that nothing named, with the sequence numbers that they hold; none if the manifest is complete,
    /// since then they are garbage.
    fn unnamed_tables(&self) -> BTreeMap<u64, (SeqNo, SeqNo)> {
        let mut out = BTreeMap::new();
        if self.source.complete {
            return out;
        }
        let named: BTreeSet<u64> = self.families.values().flat_map(|f| f.old.iter().map(|(_, m)| m.number)).collect();
        for file in &self.source.files {
            if let FileName::Table(number) = *file
                && !named.contains(&number)
                && !self.source.deleted.contains(&number)
            {
                let path = file.path(&self.source.dir);
                let seqs = crate::table::Table::open_file(&**self.fs, &path, &check::table_context(self.clock))
                    .map_or((SEQ_MAX, 0), |(_, meta)| (meta.seq_min, meta.seq_max));
                out.insert(number, seqs);
            }
        }
        out
    }

    pub(super) fn free_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.families.values().any(|f| f.record.name == name);
        let mut name = wanted.to_string();
        name.truncate(FAMILY_NAME_LEN_MAX - 8);
        let base = name.clone();
        let mut n = 1;
        while taken(&name) {
            n += 1;
            name = format!("{base}-{n}");
        }
        name
    }

    fn finish(&mut self) -> Result<()> {
        let fs = &**self.fs;
        let number = self.number();
        let state = self.source.state.as_ref();
        let created = state.map(|s| s.created).filter(|c| *c > 0).unwrap_or_else(|| self.clock.unix_seconds());
        let last_seq = self.last_seq.min(SEQ_MAX);
        let mut edit =
            snapshot_edit_of(self.db_id, created, &["base/1"], self.next_family, number.saturating_add(1), last_seq);
        edit.unknown = state.map_or_else(UnknownFields::default, |s| s.unknown.clone());
        edit.log_first = Some(number.saturating_add(1));
        for family in self.families.values() {
            edit.families_created.push(family.record.clone());
            edit.flushed.push((family.record.id, last_seq.max(family.record.created_seq)));
            edit.added.extend(family.new.iter().map(|(level, m)| (family.record.id, *level as u8, m.clone())));
            let entries = family.new.iter().map(|(_, m)| m.entries).sum();
            self.report.families.push((family.record.name.clone(), entries));
        }
        let manifest = ManifestWriter::create(fs, self.to, number, self.db_id, &edit)?;
        sync_dir(fs, self.to)?;
        let seal = Seal { manifest_len: manifest.len(), manifest_hash: manifest.hash(), logs: Vec::new() };
        write_current(fs, self.to, &Current { db_id: self.db_id, manifest: number, seal: Some(seal) })?;
        self.sync_parent()
    }

    fn sync_parent(&self) -> Result<()> {
        match self.to.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(parent) => sync_dir(&**self.fs, parent),
            None => Ok(()),
        }
    }
}

fn sync_dir(fs: &dyn Fs, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e))
}
