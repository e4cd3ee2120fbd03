//! Checking a database: every checksum, order, bound and count, and the manifest against the
//! directory.

use std::ops::Bound;
use std::path::PathBuf;

use super::handle::Db;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::recovery;
use crate::store::Family;
use crate::version::current::read_current;
use crate::version::{TableFile, manifest};

/// What [`Db::check`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Tables checked.
    pub tables: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Entries decoded; only by a deep check.
    pub entries: u64,
    /// Defects, in the order they were found.
    pub problems: Vec<Problem>,
    /// Bytes of a torn log tail that the open dropped. Not a defect: they were never acknowledged
    /// as durable.
    pub torn_tail_bytes: u64,
    /// Files of ours that nothing names. Not a defect: the next open for writing removes them.
    pub garbage: Vec<PathBuf>,
}

impl CheckReport {
    /// True if there is no defect.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One defect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, if known.
    pub offset: Option<u64>,
    /// The column family.
    pub column_family: Option<String>,
    /// The level of the table.
    pub level: Option<usize>,
    /// The first key that may be affected.
    pub first_key: Option<Vec<u8>>,
    /// The last key that may be affected.
    pub last_key: Option<Vec<u8>>,
    /// What is wrong.
    pub message: String,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProgress {
    /// Tables done.
    pub tables_done: u64,
    /// Tables in all.
    pub tables: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

impl Db {
    /// Checks every table against its checksums, its order, its bounds and the manifest; with
    /// `deep`, decodes every block and asks every filter for every key. Reads all files once; goes
    /// on after a defect. Writes nothing.
    ///
    /// # Errors
    /// `Io` if a file cannot be read at all; defects are in the report.
    pub fn check(&self, deep: bool, progress: &mut dyn FnMut(CheckProgress)) -> Result<CheckReport> {
        let store = &self.inner.store;
        let mut report =
            CheckReport { torn_tail_bytes: self.inner.recovered.torn_tail_bytes, ..CheckReport::default() };
        let views: Vec<_> = store.families().into_iter().map(|f| (f.clone(), f.view())).collect();
        let all = || views.iter().flat_map(|(_, v)| v.version.tables().map(|(_, t)| t));
        let mut done = CheckProgress {
            tables: all().count() as u64,
            bytes: all().map(|t| t.meta.size).sum(),
            ..Default::default()
        };
        progress(done);
        for (family, view) in &views {
            if let Err(e) = view.version.check_invariants() {
                report.problems.push(problem(&e, FileName::Current.path(self.path()), Some(family), None));
            }
            for (level, table) in view.version.tables() {
                self.check_table(family, level, table, deep, &mut report);
                done.tables_done += 1;
                done.bytes_done += table.meta.size;
                progress(done);
            }
        }
        self.check_manifest(&mut report);
        self.find_garbage(&mut report)?;
        Ok(report)
    }

    fn check_table(&self, family: &Family, level: usize, file: &TableFile, deep: bool, report: &mut CheckReport) {
        let context = &self.inner.store.context;
        let path = FileName::Table(file.number()).path(self.path());
        report.tables += 1;
        report.bytes += file.meta.size;
        // A handle of its own: what is in the cache was checked when it was read, what is on disk
        // is to be checked now.
        let outcome = context.tables.open_fresh(file, &family.metrics).and_then(|table| table.verify(deep));
        match outcome {
            Ok(found) => {
                report.entries += found.entries;
                for defect in found.problems {
                    report.problems.push(Problem {
                        file: path.clone(),
                        offset: Some(defect.offset),
                        column_family: Some(family.name().to_string()),
                        level: Some(level),
                        first_key: defect.keys.as_ref().map(|(after, _)| after.clone()),
                        last_key: defect.keys.map(|(_, up_to)| up_to),
                        message: defect.error.message().to_string(),
                    });
                }
            }
            Err(e) => {
                let mut p = problem(&e, path, Some(family), Some(level));
                p.first_key = Some(file.meta.smallest.clone());
                p.last_key = match &file.meta.largest {
                    Bound::Included(k) | Bound::Excluded(k) => Some(k.clone()),
                    Bound::Unbounded => None,
                };
                report.problems.push(p);
            }
        }
    }

    fn check_manifest(&self, report: &mut CheckReport) {
        let store = &self.inner.store;
        let fs = &*store.context.fs;
        let path = FileName::Current.path(self.path());
        let current = match read_current(fs, self.path()) {
            Ok(Some(current)) => current,
            Ok(None) => {
                let gone = Error::corruption("CURRENT is missing");
                report.problems.push(problem(&gone, path, None, None));
                return;
            }
            Err(e) => {
                report.problems.push(problem(&e, path, None, None));
                return;
            }
        };
        let seal = current.seal.as_ref().map(|s| (s.manifest_len, s.manifest_hash));
        if let Err(e) = manifest::read_manifest(fs, self.path(), current.manifest, seal) {
            report.problems.push(problem(&e, FileName::Manifest(current.manifest).path(self.path()), None, None));
        }
    }

    fn find_garbage(&self, report: &mut CheckReport) -> Result<()> {
        let store = &self.inner.store;
        if !store.is_read_only() {
            return Ok(()); // Files come and go while jobs run.
        }
        let live: Vec<u64> = store
            .families()
            .iter()
            .flat_map(|f| f.view().version.tables().map(|(_, t)| t.number()).collect::<Vec<_>>())
            .collect();
        for name in recovery::list(&*store.context.fs, self.path())? {
            if let Some(FileName::Table(n)) = FileName::parse(&name)
                && !live.contains(&n)
            {
                report.garbage.push(self.path().join(name));
            }
        }
        Ok(())
    }
}

fn problem(e: &Error, file: PathBuf, family: Option<&Family>, level: Option<usize>) -> Problem {
    Problem {
        file: e.file().map_or(file, ToOwned::to_owned),
        offset: e.offset(),
        column_family: family.map(|f| f.name().to_string()),
        level,
        first_key: None,
        last_key: None,
        message: e.message().to_string(),
    }
}
