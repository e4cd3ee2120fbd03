//! The living store: families, versions, the live log and the manifest, and the one place where an
//! edit is applied.
//!
//! Lock order, outermost first: commit leadership (in `write`) > `manifest` > `families` > a
//! family's view > everything in `log`. Only `manifest` and the log's writer are held across file
//! system calls; no reader ever waits for either.
//!
//! Always true: the manifest is never ahead of the log (an edit is written only after the log is
//! durable past every sequence number that the edit reflects), and a table is referenced only after
//! it and its directory entry are durable.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventListener};
use crate::filename::FileName;
use crate::fs::{FileLock, Fs};
use crate::key::{FamilyId, SeqNo};
use crate::memtable::Memtable;
use crate::metrics::{LEVELS, Metrics};
use crate::options::{CfOptions, Options};
use crate::pool::Pool;
use crate::sabotage::{self, Bug};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{self, Arc, Condvar, Mutex, OnceLock, RwLock, Weak, still};
use crate::tables::Tables;
use crate::version::current::{self, Current, Seal, SealedLog};
use crate::version::edit::{FamilyRecord, VersionEdit};
use crate::version::manifest::ManifestWriter;
use crate::version::{Reaper, TableFile, TableMeta, Version};

pub mod family;
pub mod log;
pub mod obsolete;
pub mod pressure;
pub mod reserve;
pub mod snapshots;

pub use family::Family;
pub use log::LiveLog;
use obsolete::Obsolete;
use pressure::{Load, Rate};
use reserve::Reserve;
use snapshots::Snapshots;

/// Level 0 may grow to this many times its trigger before writes stop.
const LEVEL0_STOP_FACTOR: usize = 6;

/// What an edit may need in the manifest beside its own bytes: the record, and the numbers of log and
/// sequence that are filled in last.
const EDIT_EXTRA: u64 = 1 << 10;

/// What every part of a store is given: the doors and the identity.
#[derive(Clone)]
pub struct Context {
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// The database's directory.
    pub dir: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who wants to know what happens.
    pub listener: Option<Arc<dyn EventListener>>,
    /// Options as given at open.
    pub options: Options,
    /// Options that the family `default` gets if the database is made now.
    pub default_family: CfOptions,
    /// Where random salts come from.
    pub seed: u64,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Open tables and the block cache.
    pub tables: Arc<Tables>,
    /// The decode pool.
    pub pool: Option<Arc<Pool>>,
}

/// What recovery found, from which a store begins.
pub struct Parts {
    /// Doors and identity.
    pub context: Context,
    /// The database's identity.
    pub db_id: u128,
    /// The families.
    pub families: Vec<Arc<Family>>,
    /// Number of the next family.
    pub next_family: u32,
    /// Number of the next file.
    pub next_file: u64,
    /// The last sequence number in use.
    pub last_seq: SeqNo,
    /// The log; none for a read-only store.
    pub log: Option<LiveLog>,
    /// The manifest; none for a read-only store.
    pub manifest: Option<ManifestWriter>,
    /// Space for the day when the disk is full.
    pub reserve: Reserve,
    /// Queue of tables to remove, which the versions' tables report to.
    pub obsolete: Arc<Obsolete>,
    /// Held as long as the store lives.
    pub lock: Option<Box<dyn FileLock>>,
    /// When the database was made, in seconds since 1970.
    pub created: u64,
}

/// A change to one family, to be made durable and visible at once.
pub struct Change {
    /// The family.
    pub family: Arc<Family>,
    /// What the manifest will say. `added` and `deleted` are of this family only.
    pub edit: VersionEdit,
    /// Memtables whose content the added tables hold.
    pub flushed: Vec<Arc<Memtable>>,
}

/// The living store.
pub struct Store {
    /// Doors and options.
    pub context: Context,
    /// The database's identity.
    pub db_id: u128,
    /// Tells the stores that this process has opened apart, also those of copied directories.
    pub instance: u64,
    /// When the database was made, in seconds since 1970.
    pub created: u64,
    /// Live snapshots.
    pub snapshots: Snapshots,
    /// Tables to remove.
    pub obsolete: Arc<Obsolete>,
    /// Space for the day when the disk is full.
    pub reserve: Reserve,
    log: Option<LiveLog>,
    manifest: Mutex<Option<ManifestWriter>>,
    families: RwLock<BTreeMap<FamilyId, Arc<Family>>>,
    next_file: AtomicU64,
    next_family: AtomicU64,
    published: AtomicU64,
    /// Bits of an f64: see [`pressure`].
    debt: AtomicU64,
    rates: Mutex<Rates>,
    poisoned: OnceLock<Error>,
    background_error: Mutex<Option<Error>>,
    closed: AtomicBool,
    stalled: AtomicBool,
    progress: Mutex<u64>,
    progressed: Condvar,
    /// Tells the background that there may be work; set once by whoever runs it.
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Runs one background job on the calling thread, where there are no background threads.
    stepper: OnceLock<Box<dyn Fn() -> Result<bool> + Send + Sync>>,
    /// Iterators, cursors and snapshots that live.
    readers: AtomicU64,
    lock: Mutex<Option<Box<dyn FileLock>>>,
}

/// Kept by iterators, cursors and snapshots: they may outlive the handles, and as long as they read
/// files the directory stays locked.
pub struct Reading(Arc<Store>);

impl Reading {
    /// One more reader.
    pub fn new(store: &Arc<Store>) -> Reading {
        store.readers.fetch_add(1, Ordering::AcqRel);
        Reading(store.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.0.readers.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.is_closed() {
            self.0.release_lock();
        }
    }
}

#[derive(Default)]
struct Rates {
    flush: Rate,
    level0: Rate,
}

impl Store {
    /// A store over what recovery found.
    pub fn new(parts: Parts) -> Arc<Store> {
        static INSTANCES: still::AtomicU64 = still::AtomicU64::new(0);
        let store = Store {
            context: parts.context,
            db_id: parts.db_id,
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            created: parts.created,
            snapshots: Snapshots::default(),
            obsolete: parts.obsolete,
            reserve: parts.reserve,
            log: parts.log,
            manifest: Mutex::new(parts.manifest),
            families: RwLock::new(parts.families.into_iter().map(|f| (f.id, f)).collect()),
            next_file: AtomicU64::new(parts.next_file),
            next_family: AtomicU64::new(u64::from(parts.next_family)),
            published: AtomicU64::new(parts.last_seq),
            debt: AtomicU64::new(0f64.to_bits()),
            rates: Mutex::new(Rates::default()),
            poisoned: OnceLock::new(),
            background_error: Mutex::new(None),
            closed: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            progress: Mutex::new(0),
            progressed: Condvar::new(),
            waker: OnceLock::new(),
            stepper: OnceLock::new(),
            readers: AtomicU64::new(0),
            lock: Mutex::new(parts.lock),
        };
        store.update_debt();
        Arc::new(store)
    }

    // Families.

    /// The family with this number, dropped ones excluded.
    pub fn family(&self, id: FamilyId) -> Option<Arc<Family>> {
        self.families.read().get(&id).cloned()
    }

    /// The family with this name.
    pub fn family_named(&self, name: &str) -> Option<Arc<Family>> {
        self.families.read().values().find(|f| &*f.name() == name).cloned()
    }

    /// All families, by number.
    pub fn families(&self) -> Vec<Arc<Family>> {
        self.families.read().values().cloned().collect()
    }

    /// The number for the next family.
    pub fn next_family_id(&self) -> FamilyId {
        FamilyId(self.next_family.load(Ordering::Acquire) as u32)
    }

    /// A number for a new file, never given out before.
    pub fn next_file(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    // Sequence numbers.

    /// The last sequence number that readers may see.
    #[inline]
    pub fn published(&self) -> SeqNo {
        sync::point();
        self.published.load(Ordering::Acquire)
    }

    /// Lets readers see everything up to `seq`. Only the commit leader calls this.
    pub fn publish(&self, seq: SeqNo) {
        sync::point();
        self.published.store(seq, Ordering::Release);
        sync::point();
    }

    /// The published number, registered as a snapshot.
    pub fn register_snapshot(&self) -> SeqNo {
        self.snapshots.register(&self.published)
    }

    // Health.

    /// The live log; fails on a read-only store.
    pub fn log(&self) -> Result<&LiveLog> {
        self.log.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::ReadOnly, "the database is open read-only").with_file(&self.context.dir)
        })
    }

    /// True if opened read-only.
    pub fn is_read_only(&self) -> bool {
        self.log.is_none()
    }

    /// Fails if no write may begin: read-only, closed or poisoned.
    pub fn check_writable(&self) -> Result<()> {
        self.log()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the database has been closed"));
        }
        match self.poisoned.get() {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    /// Refuses every later write.
    pub fn poison(&self, cause: &Error) {
        let error = if cause.message().starts_with("the database is poisoned") {
            cause.clone()
        } else {
            cause.clone().with_kind(ErrorKind::Poisoned).context(
                "the database is poisoned, because a write failed half-way and what is on disk is uncertain; \
                 close and open it again",
            )
        };
        tracing::error!(%error, "poisoned");
        if let Some(log) = &self.log {
            log.poison(error.clone());
        }
        let _ = self.poisoned.set(error);
        self.notify_progress();
    }

    /// Poisons, since something that is in the log could not be done; the error to return. It is never
    /// one that says that nothing was written.
    pub fn after_logged(&self, cause: Error) -> Error {
        self.poison(&cause);
        self.poisoned.get().cloned().unwrap_or(cause)
    }

    /// Why writes are refused, if they are.
    pub fn poisoned(&self) -> Option<&Error> {
        self.poisoned.get()
    }

    /// The last failure of a background job that has not succeeded since.
    pub fn background_error(&self) -> Option<Error> {
        self.background_error.lock().clone()
    }

    /// Remembers or forgets the failure of a background job.
    pub fn set_background_error(&self, error: Option<Error>) {
        *self.background_error.lock() = error;
    }

    /// True while a write is stopped.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Says whether a write is stopped.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Refuses writes from now on; true if it was open until now.
    pub fn set_closed(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Gives the directory's lock back, once closed, unless somebody reads: then the last reader
    /// does. False if somebody reads.
    pub fn release_lock(&self) -> bool {
        let unread = self.readers.load(Ordering::Acquire) == 0;
        if unread {
            let lock = self.lock.lock().take();
            drop(lock);
        }
        unread
    }

    /// True once closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    // Space.

    /// Runs what has a right to the reserve: if it gets no space, the reserve is given back and it is
    /// run once more.
    pub fn with_reserve<R>(&self, body: impl FnMut() -> Result<R>) -> Result<R> {
        self.reserve.with(body)
    }

    /// Fails if what needs space and has no right to the reserve may not begin.
    pub fn check_space(&self) -> Result<()> {
        if self.reserve.restore() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NoSpace,
            format!(
                "the disk is full: the reserve of {} bytes was given back for deletes and compactions; \
                 writes go on when there is space for it again",
                self.reserve.size()
            ),
        )
        .with_file(&self.context.dir))
    }

    /// Makes sure that the manifest has space for an edit of about `len` bytes that is about to be
    /// logged: once it is, the manifest must be able to follow.
    pub fn make_space_for_edit(&self, len: usize) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let Some(writer) = manifest.as_mut() else { return Ok(()) };
        self.with_reserve(|| writer.make_space(len as u64 + EDIT_EXTRA))
    }

    /// Tells the listener.
    pub fn event(&self, event: &Event) {
        tracing::debug!(?event);
        if let Some(listener) = &self.context.listener {
            listener.event(event);
        }
    }

    // The background's hooks. `write` and `worker` do not know each other; they meet here.

    /// Sets how to wake the background.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        let _ = self.waker.set(waker);
    }

    /// Sets how to run a background job on the caller's thread.
    pub fn set_stepper(&self, stepper: Box<dyn Fn() -> Result<bool> + Send + Sync>) {
        let _ = self.stepper.set(stepper);
    }

    /// Tells the background that there may be work.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    /// Runs one job on this thread if the store has no background threads; true if one was run.
    pub fn step(&self) -> Result<bool> {
        self.stepper.get().map_or(Ok(false), |step| step())
    }

    /// True if jobs run on the threads that need them.
    pub fn is_stepped(&self) -> bool {
        self.stepper.get().is_some()
    }

    /// The error of a wait for background work that came to no end.
    pub fn stalled(&self, what: &str) -> Error {
        match self.background_error() {
            Some(cause) => Error::new(ErrorKind::Stalled, format!("{what}; the last background job failed: {cause}")),
            None => Error::new(ErrorKind::Stalled, what),
        }
    }

    /// Tells those who wait for background work that some of it is done.
    pub fn notify_progress(&self) {
        *self.progress.lock() += 1;
        self.progressed.notify_all();
    }

    /// Waits until background work makes progress, for at most `timeout`, unless `done` says that
    /// there is nothing to wait for.
    pub fn wait_progress(&self, timeout: Duration, done: impl Fn() -> bool) {
        let seen = self.progress.lock();
        if done() {
            return;
        }
        let _ = self.progressed.wait_timeout(seen, timeout);
    }

    // Memtables and debt.

    /// Bytes of all memtables of all families.
    pub fn memtable_bytes(&self) -> u64 {
        self.families.read().values().map(|f| f.memtable_bytes()).sum()
    }

    /// Seals a family's memtable if it has entries. Only the commit leader calls this, so that
    /// memtables switch at batch borders.
    pub fn seal(&self, family: &Family) -> bool {
        let sealed = family.seal();
        if sealed {
            self.update_debt();
            self.wake();
        }
        sealed
    }

    /// The debt: 0 for none, 1 for a full stop.
    #[inline]
    pub fn debt(&self) -> f64 {
        f64::from_bits(self.debt.load(Ordering::Relaxed))
    }

    /// Bytes a second that writers may write now; none for no limit.
    pub fn allowed_rate(&self) -> Option<f64> {
        let rates = self.rates.lock();
        let drain = match (rates.flush.get(), rates.level0.get()) {
            (f, 0.0) => f,
            (0.0, l) => l,
            (f, l) => f.min(l),
        };
        pressure::allowed_rate(self.debt(), drain)
    }

    /// Adds a measurement of how fast flushes drain memtables.
    pub fn measure_flush(&self, bytes: u64, took: Duration) {
        self.rates.lock().flush.add(bytes, took);
    }

    /// Adds a measurement of how fast compactions drain level 0.
    pub fn measure_level0(&self, bytes: u64, took: Duration) {
        self.rates.lock().level0.add(bytes, took);
    }

    /// Computes the debt anew.
    pub fn update_debt(&self) {
        let mut load = Load {
            memtable_limit: self.context.options.memory_budget as u64 / 2,
            pending_limit: 1,
            level0_limit: 1,
            // At its limit the log forces flushes and writers slow down; at twice that they stop.
            log_limit: self.context.options.log_size_max * 2,
            ..Load::default()
        };
        if let (Some(log), Some((pinned, _))) = (&self.log, self.log_pin()) {
            load.log_bytes = log.bytes_from(pinned);
        }
        let mut debt = load.debt();
        for family in self.families() {
            let options = family.options();
            let view = family.view();
            load.memtable_bytes += family.memtable_bytes();
            load.level0_tables = view.version.levels[0].len();
            load.level0_limit = options.level0_trigger * LEVEL0_STOP_FACTOR;
            load.pending_bytes = crate::compaction::picker::pending_bytes(&view.version, &options);
            // Eight full base levels may wait: enough for a burst of several minutes, a bounded
            // amount of extra space.
            load.pending_limit = (options.base_level_size * 8).max(1);
            debt = debt.max(load.debt());
        }
        if sabotage::is(Bug::DebtNeverFalls) {
            debt = debt.max(self.debt());
        }
        self.debt.store(debt.to_bits(), Ordering::Relaxed);
    }

    // The manifest.

    /// Makes a change durable and then visible: the log is synced, the edit is written and synced,
    /// the version is put in place, and what became obsolete is queued.
    ///
    /// Returns false if the family was dropped meanwhile; nothing is changed then.
    pub fn apply(&self, change: Change) -> Result<bool> {
        let mut manifest = self.manifest.lock();
        if change.family.is_dropped() && !sabotage::is(Bug::DroppedFamilyEdited) {
            return Ok(false);
        }
        if let Some(e) = self.poisoned.get() {
            return Err(e.clone());
        }
        let Change { family, mut edit, flushed } = change;
        let old = family.view().version.clone();
        let added: Vec<(usize, Arc<TableFile>)> = edit
            .added
            .iter()
            .map(|(_, level, meta)| (usize::from(*level), self.table_file(meta.clone(), &old)))
            .collect();
        let deleted: Vec<(usize, u64)> =
            edit.deleted.iter().map(|(_, level, number)| (usize::from(*level), *number)).collect();
        let version = old.apply(&added, &deleted)?;
        let mut flushed_to = flushed.iter().filter_map(|m| m.last_seq()).max();
        if flushed_to.is_some() && sabotage::is(Bug::FlushMarkTooHigh) {
            flushed_to = Some(self.published());
        }
        match flushed_to {
            Some(seq) => edit.flushed.push((family.id, seq)),
            None => flushed_to = edit.flushed.iter().filter(|(id, _)| *id == family.id).map(|(_, seq)| *seq).max(),
        }
        let log = self.log()?;
        // Read before the sync, so that the edit claims nothing that the log may still lose.
        let last_seq = self.published();
        if !sabotage::is(Bug::ManifestAheadOfLog) {
            log.sync_all().inspect_err(|e| self.poison(e))?;
        }
        let needed = self.first_needed(Some((&family, &flushed)));
        let first_segment = log.first_needed(needed);
        if sabotage::is(Bug::LogReleasedEarly) {
            log.release_below(first_segment);
        }
        if let (true, Some(seq)) = (sabotage::is(Bug::FlushMarksAllFamilies) && !flushed.is_empty(), flushed_to) {
            edit.flushed.extend(self.families().iter().filter(|f| f.id != family.id).map(|f| (f.id, seq)));
        }
        edit.log_first = Some(first_segment);
        edit.log_synced = Some(log.durable());
        edit.next_file = Some(self.next_file.load(Ordering::Relaxed));
        edit.last_seq = Some(last_seq);
        self.append_edit(&mut manifest, &edit)?;

        family.install(version, &flushed, flushed_to);
        for (level, number) in &deleted {
            if added.iter().any(|(_, t)| t.number() == *number) {
                continue; // Moved to another level, or described anew.
            }
            if let Some(table) = old.levels.get(*level).and_then(|l| l.iter().find(|t| t.number() == *number)) {
                table.mark_obsolete();
            }
        }
        drop(manifest);
        drop(old);
        log.release_below(first_segment);
        self.update_debt();
        self.notify_progress();
        self.wake();
        Ok(true)
    }

    /// Applies an operation on families, whose log record has been appended under `seq`.
    pub fn apply_family_edit(&self, edit: &VersionEdit, seq: SeqNo) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let log = self.log()?;
        log.sync_all().inspect_err(|e| self.poison(e))?;
        let mut durable = edit.clone();
        // So that a log which a lying device has lost is missed.
        durable.log_synced = Some(log.durable());
        durable.next_family = Some(self.next_family_after(edit));
        durable.next_file = Some(self.next_file.load(Ordering::Relaxed));
        durable.last_seq = Some(seq);
        self.append_edit(&mut manifest, &durable)?;
        self.install_family_edit(edit, seq);
        drop(manifest);
        self.update_debt();
        self.wake();
        Ok(())
    }

    fn next_family_after(&self, edit: &VersionEdit) -> u32 {
        let next = self.next_family_id().0;
        edit.families_created.iter().map(|f| f.id.0 + 1).fold(next, u32::max)
    }

    fn install_family_edit(&self, edit: &VersionEdit, seq: SeqNo) {
        self.next_family.store(u64::from(self.next_family_after(edit)), Ordering::Release);
        let mut families = self.families.write();
        for record in &edit.families_created {
            let record = FamilyRecord { created_seq: seq, ..record.clone() };
            let context = &self.context;
            let family =
                Family::new(record.clone(), seq, Version::new(), context.tables.clone(), context.metrics.clone());
            families.insert(record.id, Arc::new(family));
        }
        for (id, name) in &edit.families_renamed {
            if let Some(family) = families.get(id) {
                family.rename(name);
            }
        }
        for (id, options) in &edit.options_changed {
            if let Some(family) = families.get(id) {
                family.set_options(options.clone());
            }
        }
        for id in &edit.families_dropped {
            if let Some(family) = families.remove(id) {
                family.mark_dropped();
                for (_, table) in family.view().version.tables() {
                    table.mark_obsolete();
                }
            }
        }
    }

    fn append_edit(&self, manifest: &mut Option<ManifestWriter>, edit: &VersionEdit) -> Result<()> {
        let Some(writer) = manifest.as_mut() else {
            return Err(Error::new(ErrorKind::ReadOnly, "the database is open read-only"));
        };
        self.context.metrics.manifest_edits.inc();
        // Without space the edit is certainly not in the manifest; any other failure leaves it in doubt.
        self.with_reserve(|| writer.append(edit)).inspect_err(|e| {
            if e.kind() != ErrorKind::NoSpace {
                self.poison(e);
            }
        })
    }

    /// The table file for `meta`: a new one, or the one that a move keeps.
    fn table_file(&self, meta: TableMeta, old: &Version) -> Arc<TableFile> {
        match old.tables().find(|(_, t)| t.number() == meta.number) {
            Some((_, table)) if table.meta == meta => table.clone(),
            Some((_, table)) => table.described_as(meta),
            None => {
                let obsolete: Arc<dyn Reaper> = self.obsolete.clone();
                TableFile::new(meta, Arc::downgrade(&obsolete))
            }
        }
    }

    /// The smallest sequence number that some family has only in memtables, given that `flushed`
    /// are about to leave the memtables of one family.
    fn first_needed(&self, flushed: Option<(&Arc<Family>, &[Arc<Memtable>])>) -> SeqNo {
        let mut first = self.published() + 1;
        for family in self.families() {
            let leaving = match flushed {
                Some((f, memtables)) if Arc::ptr_eq(f, &family) => memtables,
                _ => &[],
            };
            for memtable in &family.view().memtables {
                if !leaving.iter().any(|l| Arc::ptr_eq(l, memtable)) {
                    first = first.min(memtable.first_seq().unwrap_or(SeqNo::MAX));
                }
            }
        }
        first
    }

    /// The family that keeps the oldest log segment alive.
    pub fn log_pinned_by(&self) -> Option<Arc<Family>> {
        self.log_pin().map(|(_, family)| family)
    }

    fn log_pin(&self) -> Option<(SeqNo, Arc<Family>)> {
        self.families().into_iter().filter_map(|f| Some((f.first_unflushed()?, f))).min_by_key(|(seq, _)| *seq)
    }

    /// Number and length of the manifest.
    pub fn manifest_info(&self) -> (u64, u64) {
        self.manifest.lock().as_ref().map_or((0, 0), |m| (m.number(), m.len()))
    }

    /// The state from nothing, as the first record of a new manifest says it.
    pub fn snapshot_edit(&self) -> VersionEdit {
        let views = self.families().into_iter().map(|f| (f.clone(), f.view().version.clone())).collect::<Vec<_>>();
        snapshot_edit(
            self.db_id,
            self.created,
            views.iter().map(|(f, v)| (&**f, &**v)),
            self.next_family_id().0,
            self.next_file.load(Ordering::Relaxed),
            self.published(),
        )
    }

    /// Removes the files that nobody needs any more.
    pub fn clean(&self) -> usize {
        let numbers = self.obsolete.take();
        for number in &numbers {
            self.context.tables.forget(*number);
            // What cannot be removed now is removed by the next open: the manifest does not name it.
            if self.context.fs.remove_file(&FileName::Table(*number).path(&self.context.dir)).is_ok() {
                self.context.metrics.files_deleted.inc();
            }
        }
        numbers.len()
    }

    /// Seals the directory: the log ends with a mark, everything is durable, and CURRENT states the
    /// exact length and hash of manifest and logs. If all of it is in tables, the log goes, and the next
    /// open reads none.
    pub fn seal_directory(&self) -> Result<()> {
        if let Some(e) = self.poisoned.get() {
            return Err(e.clone());
        }
        let mut manifest = self.manifest.lock();
        let log = self.log()?;
        let segments = self.with_reserve(|| log.close()).inspect_err(|e| self.poison(e))?;
        let let_go = self.let_log_go(&mut manifest)?;
        let Some(writer) = manifest.as_ref() else { return Ok(()) };
        let mut logs = Vec::new();
        for segment in segments.iter().filter(|s| let_go.is_none_or(|first| s.number >= first)) {
            let path = FileName::Wal(segment.number).path(&self.context.dir);
            let (len, hash) =
                crate::fs::hash_file(&*self.context.fs, &path).map_err(|e| Error::io("read back the log", &path, e))?;
            logs.push(SealedLog { number: segment.number, len, hash });
        }
        let seal = Seal { manifest_len: writer.len(), manifest_hash: writer.hash(), logs };
        let sealed = Current { db_id: self.db_id, manifest: writer.number(), seal: Some(seal) };
        self.with_reserve(|| current::write_current(&*self.context.fs, &self.context.dir, &sealed))?;
        if let Some(first) = let_go {
            log.remove_below(first);
        }
        Ok(())
    }

    /// Says in the manifest that the log begins with a segment that is still to be made, if no memtable
    /// holds anything; the number of that segment.
    fn let_log_go(&self, manifest: &mut Option<ManifestWriter>) -> Result<Option<u64>> {
        if self.first_needed(None) <= self.published() {
            return Ok(None);
        }
        let first = self.next_file();
        let edit = VersionEdit {
            log_first: Some(first),
            next_file: Some(first + 1),
            last_seq: Some(self.published()),
            ..VersionEdit::default()
        };
        match self.append_edit(manifest, &edit) {
            Ok(()) => Ok(Some(first)),
            // Then the log stays: it costs the next open some time.
            Err(e) if e.kind() == ErrorKind::NoSpace => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The state from nothing.
pub fn snapshot_edit<'a>(
    db_id: u128,
    created: u64,
    families: impl Iterator<Item = (&'a Family, &'a Version)>,
    next_family: u32,
    next_file: u64,
    last_seq: SeqNo,
) -> VersionEdit {
    let mut edit = snapshot_edit_of(db_id, created, &["base/1"], next_family, next_file, last_seq);
    for (family, version) in families {
        edit.families_created.push(family.record());
        edit.flushed.push((family.id, family.flushed()));
        for level in 0..LEVELS {
            for table in &version.levels[level] {
                edit.added.push((family.id, level as u8, table.meta.clone()));
            }
        }
    }
    edit
}

/// A full state without families.
pub fn snapshot_edit_of(
    db_id: u128,
    created: u64,
    features: &[&str],
    next_family: u32,
    next_file: u64,
    last_seq: SeqNo,
) -> VersionEdit {
    VersionEdit {
        snapshot: true,
        db_id: Some(db_id),
        features: Some(features.iter().map(|f| (*f).to_string()).collect()),
        next_file: Some(next_file),
        next_family: Some(next_family),
        last_seq: Some(last_seq),
        created_unix: Some(created),
        creator: Some(concat!("lignite ", env!("CARGO_PKG_VERSION")).to_string()),
        ..VersionEdit::default()
    }
}

/// A weak handle that does not keep the store alive.
pub type WeakStore = Weak<Store>;
