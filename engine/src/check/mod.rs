//! Checking files: what is wrong with a database, all of it, whether or not it can be opened.
//!
//! [`survey`] reads CURRENT, manifest and logs as far as they can be read and says what is wrong with
//! them; [`check_directory`] adds the tables. The tables of a database that is open are checked by the
//! same code ([`check_tables`]). Nothing here writes, and no defect ends a check.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::BlockCache;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::Fs;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{self, Arc, Condvar, Mutex};
use crate::table::wreck::{Wreck, forgivable};
use crate::table::{Table, TableContext};
use crate::version::TableFile;

mod log;
mod report;
pub mod survey;

pub use report::{CheckReport, Problem, TableJob};

/// How a check goes about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Decode every block and value, and ask every filter for every key. Default: no.
    pub deep: bool,
    /// At most so many bytes a second, for a database that is in use. Default: no limit.
    pub rate: Option<u64>,
    /// Tables checked at a time; 0, the default, and 1 check on the calling thread alone.
    pub threads: usize,
}

impl CheckOptions {
    /// The default.
    pub fn new() -> CheckOptions {
        CheckOptions::default()
    }

    /// Decode every block, or not.
    #[must_use]
    pub fn deep(mut self, deep: bool) -> CheckOptions {
        self.deep = deep;
        self
    }

    /// At most so many bytes a second.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: Option<u64>) -> CheckOptions {
        self.rate = bytes_per_second;
        self
    }

    /// So many tables at a time.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> CheckOptions {
        self.threads = threads;
        self
    }
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

/// Opens a table for a check, past every cache.
pub type Opener = Arc<dyn Fn(&Arc<TableFile>) -> Result<Arc<Table>> + Send + Sync>;

/// Checks a database whether or not it can be opened: CURRENT, the manifest, every log and every table, as
/// far as each can be read at all.
///
/// # Errors
/// `NotFound` if there is no database; `Unsupported` if it needs a later version; `Io` if a file cannot
/// be read for another reason than damage.
pub fn check_directory(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
    options: &CheckOptions,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport> {
    let survey = survey::read(&**fs, dir)?;
    let mut report = CheckReport {
        torn_tail_bytes: survey.torn_tail_bytes,
        garbage: survey.garbage(),
        problems: survey.problems.clone(),
        ..CheckReport::default()
    };
    let mut jobs = Vec::new();
    for family in survey.families() {
        let name: Arc<str> = Arc::from(family.record.name.as_str());
        for ((level, _), meta) in &family.tables {
            let file = TableFile::unmanaged(meta.clone());
            jobs.push(TableJob { family: name.clone(), level: usize::from(*level), file });
        }
    }
    jobs.extend(survey.ingested_jobs());
    let open = opener(fs, clock, dir);
    check_tables(fs, clock, dir, jobs, &open, options, progress, &mut report)?;
    Ok(report)
}

/// Opens tables of a directory by their descriptions alone.
pub fn opener(fs: &Arc<dyn Fs>, clock: &Arc<dyn Clock>, dir: &Path) -> Opener {
    let context = table_context(clock);
    let (fs, dir) = (fs.clone(), dir.to_path_buf());
    Arc::new(move |file| Table::open(&*fs, &dir, &file.meta, &context))
}

/// Surroundings for tables that are read once.
pub fn table_context(clock: &Arc<dyn Clock>) -> TableContext {
    TableContext {
        cache: Arc::new(BlockCache::new(1 << 20)),
        metrics: Arc::new(Metrics::default()),
        family: Arc::new(FamilyMetrics::default()),
        level: 0,
        clock: clock.clone(),
        pool: None,
    }
}

/// Checks tables, several at a time if `options` say so, and adds what is found to `report`, in the order
/// of `jobs`.
///
/// # Errors
/// As [`check_directory`].
#[expect(clippy::too_many_arguments, reason = "doors first, data next, options last")]
pub fn check_tables(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
    jobs: Vec<TableJob>,
    open: &Opener,
    options: &CheckOptions,
    progress: &mut dyn FnMut(CheckProgress),
    report: &mut CheckReport,
) -> Result<()> {
    let crew = Arc::new(Crew {
        fs: fs.clone(),
        dir: dir.to_path_buf(),
        open: open.clone(),
        deep: options.deep,
        pacer: Pacer { clock: clock.clone(), begun: clock.now(), rate: options.rate, bytes: AtomicU64::new(0) },
        next: AtomicUsize::new(0),
        results: Mutex::new(jobs.iter().map(|_| None).collect()),
        finished: Condvar::new(),
        jobs,
    });
    let mut done = CheckProgress {
        tables: crew.jobs.len() as u64,
        bytes: crew.jobs.iter().map(|j| j.file.meta.size).sum(),
        ..CheckProgress::default()
    };
    progress(done);
    let threads = options.threads.min(crew.jobs.len());
    if threads <= 1 {
        while let Some(number) = crew.work_once() {
            done.tables_done += 1;
            done.bytes_done += crew.jobs[number].file.meta.size;
            progress(done);
        }
    } else {
        let mut workers = Vec::new();
        for _ in 0..threads {
            let crew = crew.clone();
            let worker = sync::spawn("lignite-check", move || while crew.work_once().is_some() {});
            workers.push(worker.map_err(|e| Error::io("start a thread for the check", dir, e))?);
        }
        crew.wait(&mut done, progress);
        workers.into_iter().for_each(|w| {
            let _ = w.join(); // A panic has left a result behind, which says so.
        });
    }
    let results = std::mem::take(&mut *crew.results.lock());
    for result in results {
        let Some(found) = result.transpose()? else { continue };
        report.tables += 1;
        report.bytes += found.bytes;
        report.entries += found.entries;
        report.problems.extend(found.problems);
    }
    Ok(())
}

/// What one table contributes to a report.
struct Checked {
    bytes: u64,
    entries: u64,
    problems: Vec<Problem>,
}

/// Those who check, and what they share.
struct Crew {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    open: Opener,
    deep: bool,
    pacer: Pacer,
    jobs: Vec<TableJob>,
    next: AtomicUsize,
    results: Mutex<Vec<Option<Result<Checked>>>>,
    finished: Condvar,
}

impl Crew {
    /// Checks the next table; none if all are taken.
    fn work_once(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let job = self.jobs.get(number)?;
        // Whoever waits for this table must not wait for ever if the work panics.
        let _given = Given { crew: self, number };
        let outcome = self.check(job);
        self.results.lock()[number] = Some(outcome);
        Some(number)
    }

    fn check(&self, job: &TableJob) -> Result<Checked> {
        let meta = &job.file.meta;
        let path = FileName::Table(meta.number).path(&self.dir);
        let mut found = Checked { bytes: meta.size, entries: 0, problems: Vec::new() };
        let problem = |offset: Option<u64>, keys: Option<(Vec<u8>, Vec<u8>)>, error: &Error| {
            let (first_key, last_key) = keys.unzip();
            Problem {
                offset: error.offset().or(offset),
                column_family: Some(job.family.to_string()),
                level: Some(job.level),
                first_key,
                last_key,
                ..Problem::of(error, &path)
            }
        };
        let verified = (self.open)(&job.file).and_then(|t| t.verify_paced(self.deep, &mut |n| self.pacer.pace(n)));
        let error = match verified {
            Ok(report) => {
                found.entries = report.entries;
                found.problems =
                    report.problems.into_iter().map(|p| problem(Some(p.offset), p.keys, &p.error)).collect();
                return Ok(found);
            }
            Err(e) => forgivable(e)?,
        };
        // It does not even open. What is in it is looked at without its footer or index.
        match Wreck::read(&*self.fs, &path, Some(meta), &[]) {
            Ok(wreck) if !wreck.defects.is_empty() => {
                found.entries = if self.deep { wreck.entries } else { 0 };
                found.problems =
                    wreck.defects.iter().map(|d| problem(Some(d.offset), d.keys.clone(), &d.error)).collect();
            }
            Ok(_) => found.problems.push(problem(None, None, &error)),
            Err(e) => {
                forgivable(e)?;
                found.problems.push(problem(Some(0), None, &error));
            }
        }
        // Where nobody knows better, all keys of the table are concerned.
        for p in found.problems.iter_mut().filter(|p| p.first_key.is_none()) {
            p.first_key = Some(meta.smallest.clone());
            p.last_key = match &meta.largest {
                Bound::Included(k) | Bound::Excluded(k) => Some(k.clone()),
                Bound::Unbounded => None,
            };
        }
        Ok(found)
    }

    /// Waits until all jobs are done, and tells how far they are.
    fn wait(&self, done: &mut CheckProgress, progress: &mut dyn FnMut(CheckProgress)) {
        loop {
            let results = self.results.lock();
            let sizes = self.jobs.iter().zip(results.iter()).filter(|(_, r)| r.is_some());
            let sizes: Vec<u64> = sizes.map(|(job, _)| job.file.meta.size).collect();
            let all = sizes.len() == self.jobs.len();
            if !all && sizes.len() as u64 == done.tables_done {
                drop(self.finished.wait_timeout(results, Duration::from_millis(100)));
                continue;
            }
            drop(results);
            (done.tables_done, done.bytes_done) = (sizes.len() as u64, sizes.iter().sum());
            progress(*done);
            if all {
                return;
            }
        }
    }
}

/// A job that somebody has taken: it has a result when this goes, come what may.
struct Given<'a> {
    crew: &'a Crew,
    number: usize,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let missing = || Err(Error::new(ErrorKind::Background, "the check of a table panicked"));
        self.crew.results.lock()[self.number].get_or_insert_with(missing);
        self.crew.finished.notify_all();
    }
}

/// Holds reading to a rate.
struct Pacer {
    clock: Arc<dyn Clock>,
    begun: Duration,
    rate: Option<u64>,
    bytes: AtomicU64,
}

impl Pacer {
    fn pace(&self, bytes: u64) {
        let Some(rate) = self.rate.filter(|&r| r > 0) else { return };
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let due = Duration::from_secs_f64(total as f64 / rate as f64);
        let ahead = due.saturating_sub(self.clock.now().saturating_sub(self.begun));
        if ahead > Duration::from_millis(1) {
            sync::sleep(ahead);
        }
    }
}
