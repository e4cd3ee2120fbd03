//! Checking a database, open or not: every checksum, order, bound and count, and the manifest against
//! the directory. The work is done in [`check`](crate::check).

use std::path::Path;

use super::builder::Builder;
use super::handle::Db;
use crate::check::{self, CheckOptions, CheckProgress, CheckReport, Opener, Problem, TableJob};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::recovery;
use crate::sync::Arc;
use crate::version::current::read_current;
use crate::version::manifest;
use crate::wal::{self, ReplayRules};

impl Db {
    /// Checks every table against its checksums, its order, its bounds and the manifest; with
    /// `deep`, decodes every block and asks every filter for every key. Reads all files once; goes
    /// on after a defect. Writes nothing.
    ///
    /// # Errors
    /// `Io` if a file cannot be read at all; defects are in the report.
    pub fn check(&self, deep: bool, progress: &mut dyn FnMut(CheckProgress)) -> Result<CheckReport> {
        self.check_with(&CheckOptions::new().deep(deep), progress)
    }

    /// As [`Db::check`], with all options. See [`Builder::check`] for a database that does not open.
    ///
    /// # Errors
    /// As [`Db::check`].
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// db.put(b"k", b"v")?;
    /// db.flush()?;
    /// let report = db.check_with(&lignite::CheckOptions::new().deep(true).threads(2), &mut |_| {})?;
    /// assert!(report.is_clean());
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn check_with(&self, options: &CheckOptions, progress: &mut dyn FnMut(CheckProgress)) -> Result<CheckReport> {
        let store = &self.inner.store;
        let context = &store.context;
        let mut report =
            CheckReport { torn_tail_bytes: self.inner.recovered.torn_tail_bytes, ..CheckReport::default() };
        // The log first: what is in it now was there before anything that is done meanwhile.
        self.check_log(&mut report)?;
        self.check_manifest(&mut report);
        let mut jobs = Vec::new();
        let mut metrics = std::collections::BTreeMap::new();
        for family in store.families() {
            let view = family.view();
            if let Err(e) = view.version.check_invariants() {
                let e = e.with_column_family(&*family.name());
                report.problems.push(Problem::of(&e, FileName::Current.path(self.path())));
            }
            for (level, file) in view.version.tables() {
                metrics.insert(file.number(), family.metrics.clone());
                jobs.push(TableJob { family: family.name(), level, file: file.clone() });
            }
        }
        let tables = context.tables.clone();
        let open: Opener = Arc::new(move |file| {
            let metrics = metrics.get(&file.number()).cloned().unwrap_or_default();
            // A handle of its own: what is in the cache was checked when it was read, what is on disk is to
            // be checked now. Only a table that somebody else has removed is read through the old one.
            match tables.open_fresh(file, &metrics) {
                Err(e) if e.io_kind() == Some(std::io::ErrorKind::NotFound) => match tables.opened(file.number()) {
                    Some(table) => Ok(table),
                    None => Err(e),
                },
                other => other,
            }
        });
        check::check_tables(&context.fs, &context.clock, self.path(), jobs, &open, options, progress, &mut report)?;
        self.find_garbage(&mut report)?;
        Ok(report)
    }

    /// Checks the log of a database that is open for writing, up to where it ends now. A read-only handle
    /// has checked it when it was opened.
    fn check_log(&self, report: &mut CheckReport) -> Result<()> {
        let store = &self.inner.store;
        let Ok(log) = store.log() else { return Ok(()) };
        let end = log.end();
        let numbers: Vec<u64> = log.segments().iter().map(|s| s.number).collect();
        let rules = ReplayRules { live: true, ..ReplayRules::new(store.db_id) };
        let error = match wal::replay(&*store.context.fs, self.path(), &numbers, &rules, &mut |_, _, _| Ok(())) {
            Ok(scan) if scan.end >= end || numbers.is_empty() => return Ok(()),
            Ok(scan) => Error::corruption(scan.stopped.unwrap_or_else(|| "the log ends too early".to_string()))
                .with_file(FileName::Wal(scan.end.segment).path(self.path()))
                .with_offset(scan.end.offset),
            Err(e) if e.is_corruption() => e,
            Err(e) => return Err(e),
        };
        // A flush may have made segments superfluous meanwhile; then nobody needs what was in them.
        if numbers.iter().all(|n| log.segments().iter().any(|s| s.number == *n)) {
            report.problems.push(Problem::of(&error, self.path()));
        }
        Ok(())
    }

    fn check_manifest(&self, report: &mut CheckReport) {
        let store = &self.inner.store;
        let fs = &*store.context.fs;
        let path = FileName::Current.path(self.path());
        let current = match read_current(fs, self.path()) {
            Ok(Some(current)) => current,
            Ok(None) => {
                report.problems.push(Problem::of(&Error::corruption("CURRENT is missing").with_offset(0), path));
                return;
            }
            Err(e) => {
                report.problems.push(Problem::of(&e, path));
                return;
            }
        };
        let seal = current.seal.as_ref().map(|s| (s.manifest_len, s.manifest_hash));
        if let Err(e) = manifest::read_manifest(fs, self.path(), current.manifest, seal) {
            report.problems.push(Problem::of(&e, FileName::Manifest(current.manifest).path(self.path())));
        }
    }

    fn find_garbage(&self, report: &mut CheckReport) -> Result<()> {
        let store = &self.inner.store;
        if !store.is_read_only() {
            return Ok(()); // Files come and go while jobs run.
        }
        let fs = &*store.context.fs;
        let Ok(Some(current)) = read_current(fs, self.path()) else { return Ok(()) };
        let live: Vec<u64> = store
            .families()
            .iter()
            .flat_map(|f| f.view().version.tables().map(|(_, t)| t.number()).collect::<Vec<_>>())
            .collect();
        for name in recovery::list(fs, self.path())? {
            let garbage = match FileName::parse(&name) {
                Some(FileName::Table(n)) => !live.contains(&n),
                Some(FileName::Manifest(n)) => n != current.manifest,
                Some(FileName::CurrentTemp) => true,
                Some(FileName::Wal(n)) => {
                    current.seal.as_ref().is_some_and(|seal| seal.logs.iter().all(|log| log.number != n))
                }
                _ => false,
            };
            if garbage {
                report.garbage.push(self.path().join(name));
            }
        }
        Ok(())
    }
}

impl Builder {
    /// Checks the database in the directory `path`, whether or not it can be opened. If it can, this is
    /// [`Db::check_with`] on a read-only handle; if it is too damaged, CURRENT, manifest, logs and tables
    /// are checked one by one, and all that is wrong is in the report. Writes nothing.
    ///
    /// # Errors
    /// `NotFound` if there is no database, `Unsupported`, `Io`; defects are in the report.
    pub fn check(
        self,
        path: impl AsRef<Path>,
        options: &CheckOptions,
        progress: &mut dyn FnMut(CheckProgress),
    ) -> Result<CheckReport> {
        let (fs, clock) = self.doors();
        match self.open_read_only(path.as_ref()) {
            Ok(db) => db.check_with(options, progress),
            Err(e) if matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Io | ErrorKind::NotFound) => {
                check::check_directory(&fs, &clock, path.as_ref(), options, progress)
            }
            Err(e) => Err(e),
        }
    }
}
