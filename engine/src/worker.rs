//! Background work: which job comes next, the threads that run them, and running one by hand.
//!
//! A job is a value: write space ahead of the log, flush a family, compact by a plan, remove files. In
//! production a few threads take jobs as they come; with no background threads whoever needs work done
//! runs it by [`Worker::step`]. The log's space comes first (a writer is about to need it, and it is soon
//! done), then flushes, then files nobody needs, then the compaction with the highest score. When nothing
//! is left to do and nothing has been written for a while, level 0 is merged for the readers' sake; no wait
//! for idleness waits for that. One thread is kept free of compactions if there are two or more, so that a
//! flush never waits behind one.
//!
//! Always true: a table is the input of at most one running job, and no two running jobs write into
//! overlapping ranges of one level. A job that fails leaves its inputs as they were and its outputs
//! removed, and is tried again after a pause; a table whose bytes are damaged is left out of compactions
//! from then on. Whoever waits for jobs gives up when none has succeeded for `Options::stall_timeout`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::compaction::picker::{self, PickerState};
use crate::compaction::{Order, Plan, Reason, RunningRange, executor, job};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::flush;
use crate::key::{FamilyId, KeyRange, SeqNo};
use crate::metrics::LEVELS;
use crate::sabotage::{self, Bug};
use crate::store::{Change, Family, LiveLog, Store, WeakStore, pressure};
use crate::sync::{self, Arc, Condvar, JoinHandle, Mutex, Weak};
use crate::version::Version;
use crate::version::edit::VersionEdit;

/// The first pause after a failed job; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause after a failed job, and every pause after one that met damage.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest pause after a job that found no space: space comes back without a word.
const RETRY_NO_SPACE_MAX: Duration = Duration::from_secs(1);
/// How long a wait for other jobs lasts before it looks around.
const LOOK: Duration = Duration::from_millis(100);
/// How long nothing must have been written and no job have ended before one begins that no limit asks for.
const IDLE: Duration = Duration::from_secs(1);

/// Who has written nothing for so long does not need a processor.
const WRITERS_REST: Duration = Duration::from_millis(20);
/// From this debt on families with an objective take what is quick to encode.
const PRESSED: f64 = pressure::SLOWDOWN;
/// The most bytes of tables that may owe the codec that their level wants.
const OWED_MAX: u64 = 1 << 30;

/// Schedules and runs background jobs of one store.
pub struct Worker {
    store: WeakStore,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    shutdown: bool,
    paused: usize,
    running: usize,
    /// Threads that running compactions use beside their own.
    helping: usize,
    compactions: usize,
    threads: usize,
    flushing: BTreeSet<FamilyId>,
    busy: BTreeSet<u64>,
    ranges: Vec<(FamilyId, RunningRange)>,
    /// Tables with damaged bytes, and what is wrong: inputs of no compaction.
    excluded: BTreeMap<u64, Error>,
    /// Where the last compaction of a level ended, so that the next goes on from there.
    cursors: BTreeMap<FamilyId, [Vec<u8>; LEVELS]>,
    /// Jobs that failed and have not succeeded since.
    retry: BTreeMap<(FamilyId, Task), Retry>,
    /// Jobs that succeeded: what those who wait see of progress.
    succeeded: u64,
    /// The last sequence number seen, and since when nothing has been written and no job has ended.
    quiet: (SeqNo, Duration),
    /// The last sequence number that a compaction saw, and when it saw it first.
    written: (SeqNo, Duration),
    /// Tables wholly under a range tombstone, by family, with the version they were found in.
    covered: BTreeMap<FamilyId, (Weak<Version>, SeqNo, BTreeSet<u64>)>,
}

#[derive(Clone)]
struct Retry {
    at: Duration,
    pause: Duration,
    /// When it failed first.
    since: Duration,
    times: u64,
    error: Error,
}

impl State {
    /// Fails once the threads were told to end: from then on no job begins, on whatever thread, because
    /// the directory is about to be sealed.
    fn check_open(&self) -> Result<()> {
        if self.shutdown {
            return Err(Error::new(ErrorKind::Closed, "the database has been closed"));
        }
        Ok(())
    }
}

/// What is tried again on its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Flush,
    Compaction,
}

/// What goes wrong in the background.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Failed attempts of the jobs that have not succeeded since.
    pub times: u64,
    /// How long it has been so.
    pub lasting: Duration,
    /// Tables that are left out of compactions, and why.
    pub excluded: Vec<(u64, Error)>,
}

enum Job {
    PrepareLog,
    Flush(Arc<Family>),
    Compact(Arc<Family>, Plan),
    Clean,
}

impl Worker {
    /// A worker for `store`; with `threads` of 0 nothing runs until [`Worker::step`] is called.
    pub fn start(store: &Arc<Store>, threads: usize) -> Result<Arc<Worker>> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { threads, ..State::default() }),
            work: Condvar::new(),
            changed: Condvar::new(),
        });
        let worker =
            Arc::new(Worker { store: Arc::downgrade(store), shared: shared.clone(), threads: Mutex::new(Vec::new()) });
        if threads == 0 {
            let stepping = Arc::downgrade(&worker);
            store.set_stepper(Box::new(move || stepping.upgrade().map_or(Ok(false), |w| w.step())));
        } else {
            let waking = shared.clone();
            store.set_waker(Box::new(move || {
                let _state = waking.state.lock();
                waking.work.notify_all();
            }));
        }
        for n in 0..threads {
            let weak = Arc::downgrade(store);
            let shared = shared.clone();
            let handle = sync::spawn(&format!("lignite-{n}"), move || run_thread(&weak, &shared))
                .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a background thread: {e}")))?;
            worker.threads.lock().push(handle);
        }
        Ok(worker)
    }

    fn store(&self) -> Result<Arc<Store>> {
        self.store.upgrade().ok_or_else(|| Error::new(ErrorKind::Closed, "the database has been closed"))
    }

    /// Runs one job on this thread; false if there is none.
    pub fn step(&self) -> Result<bool> {
        let store = self.store()?;
        let Some(job) = take_job(&store, &self.shared) else { return Ok(false) };
        run_job(&store, &self.shared, job)?;
        Ok(true)
    }

    /// What goes wrong now.
    pub fn failures(&self) -> Failures {
        let Ok(store) = self.store() else { return Failures::default() };
        let now = store.context.clock.now();
        let state = self.shared.state.lock();
        Failures {
            times: state.retry.values().map(|r| r.times).sum(),
            lasting: state.retry.values().map(|r| now.saturating_sub(r.since)).max().unwrap_or_default(),
            excluded: state.excluded.iter().map(|(n, e)| (*n, e.clone())).collect(),
        }
    }

    /// Waits until nothing runs and nothing is left to do. Jobs that wait for a retry count as work.
    pub fn wait_for_idle(&self) -> Result<()> {
        let store = self.store()?;
        let mut patience = Patience::new(&store, "background work has not come to its end");
        loop {
            if store.is_stepped() {
                while self.step()? {}
                return Ok(());
            }
            if let Some(e) = store.poisoned() {
                return Err(e.clone());
            }
            refresh_covered(&store, &self.shared);
            let mut state = self.shared.state.lock();
            forget_moot_failures(&store, &mut state);
            if state.running == 0 && (state.paused > 0 || !has_work(&store, &state)) {
                return Ok(());
            }
            self.shared.work.notify_all();
            patience.spend(&state)?;
            let _ = self.shared.changed.wait_timeout(state, LOOK);
        }
    }

    /// Begins no new background job until [`Worker::resume`]; returns when the running ones are done,
    /// or when that takes too long.
    pub fn pause(&self) {
        let mut state = self.shared.state.lock();
        state.paused += 1;
        let Ok(store) = self.store() else { return };
        let mut patience = Patience::new(&store, "");
        while state.running > 0 && patience.spend(&state).is_ok() {
            (state, _) = self.shared.changed.wait_timeout(state, LOOK);
        }
    }

    /// Undoes one [`Worker::pause`].
    pub fn resume(&self) {
        let mut state = self.shared.state.lock();
        state.paused = state.paused.saturating_sub(1);
        self.shared.work.notify_all();
    }

    /// Flushes the memtables of a family that are sealed now, on this thread if nobody does it already.
    pub fn flush(&self, family: &Arc<Family>) -> Result<()> {
        let store = self.store()?;
        let mut patience = Patience::new(&store, "another flush has not come to its end");
        // Not those that are sealed meanwhile: there may be no end of them.
        let Some(last) = family.sealed().last().and_then(|m| m.last_seq()) else { return Ok(()) };
        loop {
            let done = family.sealed().first().and_then(|m| m.first_seq()).is_none_or(|first| first > last);
            if family.is_dropped() || done {
                return Ok(());
            }
            if let Some(e) = store.poisoned() {
                return Err(e.clone());
            }
            {
                let mut state = self.shared.state.lock();
                state.check_open()?;
                if !state.flushing.insert(family.id) {
                    patience.spend(&state)?;
                    let _ = self.shared.changed.wait_timeout(state, LOOK);
                    continue;
                }
                state.running += 1;
            }
            run_job(&store, &self.shared, Job::Flush(family.clone()))?;
        }
    }

    /// Compacts a range of a family down to its last level, on this thread: every table that is
    /// there now and touches the range is rewritten once at least.
    pub fn compact_range(&self, family: &Arc<Family>, range: &KeyRange) -> Result<()> {
        self.compact_levels(family, range, LEVELS)
    }

    /// As [`Worker::compact_range`], for no levels but those down to `last`.
    pub fn compact_levels(&self, family: &Arc<Family>, range: &KeyRange, last: usize) -> Result<()> {
        let store = self.store()?;
        let mut patience = Patience::new(&store, "other compactions have not come to their end");
        let begun = store.next_file();
        let bottom = family.view().version.last_level().max(1).min(last);
        for level in 0..=bottom {
            // What came from above is to go on down; what others write meanwhile is not our affair.
            let is_last = |version: &Version| level >= version.last_level();
            let arrived = store.next_file();
            loop {
                if family.is_dropped() {
                    return Ok(());
                }
                if let Some(e) = store.poisoned() {
                    return Err(e.clone());
                }
                let mut state = self.shared.state.lock();
                state.check_open()?;
                let version = family.view().version.clone();
                // A job may also be about to write where none of its inputs lies.
                let writes_here = state.ranges.iter().any(|(id, r)| *id == family.id && r.to_level >= level);
                let in_the_way =
                    writes_here || version.tables().any(|(l, t)| l >= level && state.busy.contains(&t.number()));
                if in_the_way && !store.is_stepped() {
                    patience.spend(&state)?;
                    let _ = self.shared.changed.wait_timeout(state, LOOK);
                    continue;
                }
                let older_than = if is_last(&version) { begun } else { arrived };
                let options = family.options();
                let plan = picker::plan_range(&version, &options, &state.busy, range, level, older_than);
                let Some(mut plan) = plan else { break };
                plan.family = family.id;
                claim(&mut state, family.id, &plan);
                state.running += 1;
                state.compactions += 1;
                drop(state);
                run_job(&store, &self.shared, Job::Compact(family.clone(), plan))?;
            }
        }
        Ok(())
    }

    /// Writes one table anew, on this thread, as `order` says for its depth; false if that has to wait for
    /// other jobs. A table that is gone needs it no more.
    pub fn rewrite(&self, family: &Arc<Family>, number: u64, order: impl FnOnce(&Plan) -> Arc<Order>) -> Result<bool> {
        let store = self.store()?;
        if let Some(e) = store.poisoned() {
            return Err(e.clone());
        }
        let mut state = self.shared.state.lock();
        state.check_open()?;
        let version = family.view().version.clone();
        let Some((level, table)) = version.tables().find(|(_, t)| t.number() == number) else { return Ok(true) };
        let busy: BTreeSet<u64> = state.busy.iter().chain(state.excluded.keys()).copied().collect();
        if let Some(e) = state.excluded.get(&number) {
            return Err(e.clone());
        }
        let running: Vec<RunningRange> =
            state.ranges.iter().filter(|(id, _)| *id == family.id).map(|(_, r)| r.clone()).collect();
        let plan = picker::plan_rewrite(&version, &family.options(), &busy, &running, level, table);
        let Some(mut plan) = plan else { return Ok(false) };
        plan.family = family.id;
        plan.order = Some(order(&plan));
        claim(&mut state, family.id, &plan);
        // It counts as no compaction: those that the levels want are not to wait for it.
        state.running += 1;
        drop(state);
        run_job(&store, &self.shared, Job::Compact(family.clone(), plan)).map(|()| true)
    }

    /// Waits a little for other jobs.
    pub fn wait_a_little(&self) {
        let state = self.shared.state.lock();
        let _ = self.shared.changed.wait_timeout(state, LOOK);
    }

    /// Numbers of tables that are the input of a running job.
    pub fn busy_tables(&self) -> BTreeSet<u64> {
        self.shared.state.lock().busy.clone()
    }

    /// Waits until no compaction of the family writes into the range, and keeps new ones from
    /// beginning while `body` runs.
    pub fn with_range_at_rest<R>(
        &self,
        family: &Family,
        smallest: &[u8],
        largest: &Bound<Vec<u8>>,
        body: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let store = self.store()?;
        let mut patience = Patience::new(&store, "a compaction of the same keys has not come to its end");
        let mut state = self.shared.state.lock();
        while state.ranges.iter().any(|(id, r)| *id == family.id && r.overlaps(smallest, largest)) {
            patience.spend(&state)?;
            (state, _) = self.shared.changed.wait_timeout(state, LOOK);
        }
        let claimed = (0..LEVELS).map(|level| RunningRange {
            from_level: level,
            to_level: level,
            smallest: smallest.to_vec(),
            largest: largest.clone(),
        });
        let claimed: Vec<RunningRange> = claimed.collect();
        state.ranges.extend(claimed.iter().map(|r| (family.id, r.clone())));
        drop(state);
        let _release = Release { shared: &self.shared, family: family.id, claimed };
        body()
    }

    /// Ends the threads: running flushes finish, running compactions are cancelled.
    pub fn shutdown(&self) {
        {
            let mut state = self.shared.state.lock();
            state.shutdown = true;
            self.shared.work.notify_all();
        }
        for handle in std::mem::take(&mut *self.threads.lock()) {
            if !handle.is_current() {
                handle.join();
            }
        }
        let mut state = self.shared.state.lock();
        while state.running > 0 {
            state = self.shared.changed.wait(state);
        }
    }
}

/// How long somebody waits for jobs without seeing one succeed.
struct Patience<'a> {
    store: &'a Store,
    what: &'static str,
    since: Duration,
    succeeded: Option<u64>,
}

impl<'a> Patience<'a> {
    fn new(store: &'a Store, what: &'static str) -> Patience<'a> {
        Patience { store, what, since: store.context.clock.now(), succeeded: None }
    }

    /// Fails with `Stalled` once it is used up.
    fn spend(&mut self, state: &State) -> Result<()> {
        let now = self.store.context.clock.now();
        if self.succeeded.replace(state.succeeded) != Some(state.succeeded) {
            self.since = now;
        }
        if now.saturating_sub(self.since) < self.store.context.options.stall_timeout {
            return Ok(());
        }
        Err(self.store.stalled(self.what))
    }
}

/// Gives claimed ranges back, also when the body panics.
struct Release<'a> {
    shared: &'a Shared,
    family: FamilyId,
    claimed: Vec<RunningRange>,
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.ranges.retain(|(id, r)| *id != self.family || !self.claimed.contains(r));
        self.shared.changed.notify_all();
        self.shared.work.notify_all();
    }
}

fn run_thread(weak: &WeakStore, shared: &Arc<Shared>) {
    loop {
        {
            let state = shared.state.lock();
            if state.shutdown {
                return;
            }
        }
        let Some(store) = weak.upgrade() else { return };
        match take_job(&store, shared) {
            // A failure has been recorded; the pause before the retry is kept by `take_job`.
            Some(job) => drop(run_job(&store, shared, job)),
            None => {
                drop(store);
                let state = shared.state.lock();
                if state.shutdown {
                    return;
                }
                // Wakes up by itself now and then, since a retry may be due.
                let _ = shared.work.wait_timeout(state, Duration::from_millis(200));
            }
        }
    }
}

/// The next job, claimed.
fn take_job(store: &Arc<Store>, shared: &Shared) -> Option<Job> {
    refresh_covered(store, shared);
    let mut state = shared.state.lock();
    if state.paused > 0 || state.shutdown || store.poisoned().is_some() {
        return None;
    }
    // Whoever steps by hand asks for what is left, if only failed jobs are.
    let again = || choose(store, &state, true).filter(|_| store.is_stepped());
    let required = choose(store, &state, false).or_else(again);
    let Some(job) = required.or_else(|| choose_idle(store, &mut state)) else {
        forget_moot_failures(store, &mut state);
        return None;
    };
    match &job {
        Job::Flush(family) => {
            state.flushing.insert(family.id);
        }
        Job::Compact(family, plan) => {
            claim(&mut state, family.id, plan);
            state.compactions += 1;
        }
        Job::PrepareLog | Job::Clean => {}
    }
    state.running += 1;
    Some(job)
}

fn has_work(store: &Arc<Store>, state: &State) -> bool {
    choose(store, state, true).is_some()
}

/// A failure is over when nothing is left to do: what failed was done by hand since, or is of no use any
/// more. Damage stays a failure.
fn forget_moot_failures(store: &Arc<Store>, state: &mut State) {
    let is_moot = |retry: &Retry| !retry.error.is_corruption();
    if state.running == 0 && state.retry.values().any(is_moot) && !has_work(store, state) {
        state.retry.retain(|_, retry| !is_moot(retry));
        store.set_background_error(failing(state));
    }
}

/// The failure that health reports: that of the job which is tried again last.
fn failing(state: &State) -> Option<Error> {
    state.retry.values().max_by_key(|r| r.at).map(|r| r.error.clone())
}

/// A job that makes reads cheaper, once nothing has been written for a while and nothing is left to do.
/// Nobody waits for one that has not begun.
fn choose_idle(store: &Arc<Store>, state: &mut State) -> Option<Job> {
    let (now, published) = (store.context.clock.now(), store.published());
    if state.quiet.0 != published || state.running > 0 {
        state.quiet = (published, now);
    }
    if now.saturating_sub(state.quiet.1) < IDLE || store.is_stepped() || store.reserve.is_short() {
        return None;
    }
    let busy: BTreeSet<u64> = state.busy.iter().chain(state.excluded.keys()).copied().collect();
    let (none, cursors) = (BTreeSet::new(), Default::default());
    let oldest_snapshot = store.snapshots.summary().1.unwrap_or(published);
    let picker_state = PickerState { busy: &busy, running: &[], covered: &none, cursors: &cursors, oldest_snapshot };
    store.families().into_iter().find_map(|family| {
        let failed = state.retry.contains_key(&(family.id, Task::Compaction));
        let claimed = state.ranges.iter().any(|(id, _)| *id == family.id);
        if failed || claimed {
            return None;
        }
        let mut plan = picker::pick_idle(&family.view().version, &family.options(), &picker_state)?;
        plan.family = family.id;
        Some(Job::Compact(family, plan))
    })
}

/// The most urgent job; `again` also takes those whose pause after a failure is not over.
fn choose(store: &Arc<Store>, state: &State, again: bool) -> Option<Job> {
    if store.log().is_ok_and(LiveLog::wants_room) {
        return Some(Job::PrepareLog);
    }
    let now = store.context.clock.now();
    let is_due = |family: &Family, task| again || state.retry.get(&(family.id, task)).is_none_or(|r| r.at <= now);
    let families = store.families();
    // The family whose oldest sealed memtable is oldest pins the log: it goes first.
    let flush = families
        .iter()
        .filter(|f| !state.flushing.contains(&f.id) && is_due(f, Task::Flush))
        .filter_map(|f| Some((f.sealed().first()?.first_seq(), f)))
        .min_by_key(|(seq, _)| *seq);
    if let Some((_, family)) = flush {
        return Some(Job::Flush(family.clone()));
    }
    if !store.obsolete.is_empty() {
        return Some(Job::Clean);
    }
    if state.threads > 1 && state.compactions + 1 >= state.threads.max(2) {
        return None;
    }
    let busy: BTreeSet<u64> = state.busy.iter().chain(state.excluded.keys()).copied().collect();
    let none = BTreeSet::new();
    let oldest_snapshot = store.snapshots.summary().1.unwrap_or_else(|| store.published());
    let mut best: Option<(f64, Arc<Family>, Plan)> = None;
    for family in families {
        if !is_due(&family, Task::Compaction) {
            continue;
        }
        let view = family.view();
        let options = family.options();
        let running: Vec<RunningRange> =
            state.ranges.iter().filter(|(id, _)| *id == family.id).map(|(_, r)| r.clone()).collect();
        let covered = state.covered.get(&family.id).map_or(&none, |(_, _, numbers)| numbers);
        let empty: [Vec<u8>; LEVELS] = Default::default();
        let cursors = state.cursors.get(&family.id).unwrap_or(&empty);
        let picker_state = PickerState { busy: &busy, running: &running, covered, cursors, oldest_snapshot };
        let shape = picker::shape(&view.version, &options);
        let score = shape.scores.iter().copied().fold(0.0, f64::max);
        if best.as_ref().is_some_and(|(most, ..)| *most >= score) {
            continue;
        }
        let plan = picker::pick(&view.version, &options, &picker_state);
        // What owes a codec can wait until writers need not.
        let can_wait = |plan: &Plan| plan.reason == Reason::Codec && store.debt() >= PRESSED && !store.is_stepped();
        if let Some(mut plan) = plan.filter(|plan| !can_wait(plan)) {
            plan.family = family.id;
            best = Some((score, family, plan));
        }
    }
    best.map(|(_, family, plan)| Job::Compact(family, plan))
}

fn claim(state: &mut State, family: FamilyId, plan: &Plan) {
    if sabotage::is(Bug::InputsNotClaimed) {
        return;
    }
    for (_, tables) in &plan.inputs {
        state.busy.extend(tables.iter().map(|t| t.number()));
    }
    state.busy.extend(plan.drop_only.iter().map(|(_, t)| t.number()));
    if let Some(range) = plan.running_range() {
        state.ranges.push((family, range));
    }
}

fn unclaim(state: &mut State, family: FamilyId, plan: &Plan) {
    for (_, tables) in &plan.inputs {
        for table in tables {
            state.busy.remove(&table.number());
        }
    }
    for (_, table) in &plan.drop_only {
        state.busy.remove(&table.number());
    }
    if let Some(range) = plan.running_range()
        && let Some(at) = state.ranges.iter().position(|(id, r)| *id == family && *r == range)
    {
        state.ranges.swap_remove(at);
    }
}

/// Runs a claimed job, records how it went, gives the claim back.
fn run_job(store: &Arc<Store>, shared: &Shared, job: Job) -> Result<()> {
    let outcome = catch_unwind(AssertUnwindSafe(|| match &job {
        Job::PrepareLog => store.log().map(LiveLog::prepare_room),
        Job::Flush(family) => run_flush(store, family),
        Job::Compact(family, plan) => run_compaction(store, shared, family, plan),
        Job::Clean => {
            store.clean();
            Ok(())
        }
    }));
    let outcome = outcome.unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let error = Error::new(ErrorKind::Background, format!("a background job panicked: {words}"));
        store.poison(&error);
        Err(error)
    });
    let (name, task) = match &job {
        Job::PrepareLog => ("log space", None),
        Job::Flush(family) => ("flush", Some((family.id, Task::Flush))),
        Job::Compact(family, _) => ("compaction", Some((family.id, Task::Compaction))),
        Job::Clean => ("clean", None),
    };
    match &outcome {
        Ok(()) => drop(store.reserve.restore()),
        // Of a sync that was not that of a table: what is on disk is uncertain.
        Err(e) if e.kind() == ErrorKind::Poisoned => store.poison(e),
        Err(_) => {}
    }
    let mut state = shared.state.lock();
    match &job {
        Job::Flush(family) => {
            state.flushing.remove(&family.id);
        }
        Job::Compact(family, plan) => {
            unclaim(&mut state, family.id, plan);
            state.compactions -= usize::from(plan.order.is_none());
            if outcome.is_ok() {
                if let Some(range) = plan.running_range() {
                    let cursors = state.cursors.entry(family.id).or_default();
                    cursors[plan.from_level] = match range.largest {
                        Bound::Included(k) | Bound::Excluded(k) => k,
                        Bound::Unbounded => Vec::new(),
                    };
                }
            } else if let Err(e) = &outcome
                && e.is_corruption()
            {
                exclude_damaged(store, &mut state, plan, e);
            }
        }
        Job::PrepareLog | Job::Clean => {}
    }
    if let Some(task) = task {
        match &outcome {
            Ok(()) => {
                state.succeeded += 1;
                state.retry.remove(&task);
            }
            Err(e) if e.kind() == ErrorKind::Cancelled => {}
            Err(e) => {
                let now = store.context.clock.now();
                let last = state.retry.remove(&task);
                let retry = retry_after(last, e, now);
                state.retry.insert(task, retry);
            }
        }
        let live: BTreeSet<FamilyId> = store.families().iter().map(|f| f.id).collect();
        state.retry.retain(|(family, _), _| live.contains(family));
    }
    store.set_background_error(failing(&state));
    shared.changed.notify_all();
    shared.work.notify_all();
    drop(state);
    match &outcome {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::Cancelled => {}
        Err(e) => {
            store.context.metrics.background_errors.inc();
            store.event(&Event::BackgroundError { job: name, message: e.to_string() });
        }
    }
    store.notify_progress();
    // Whoever waits for running jobs may rely on all of the above, and on the tables of the plan having
    // been let go.
    drop(job);
    let now = store.context.clock.now();
    let mut state = shared.state.lock();
    state.running -= 1;
    state.quiet.1 = now;
    shared.changed.notify_all();
    shared.work.notify_all();
    drop(state);
    outcome
}

/// When a job that failed is tried again.
fn retry_after(last: Option<Retry>, error: &Error, now: Duration) -> Retry {
    let longest = if error.kind() == ErrorKind::NoSpace { RETRY_NO_SPACE_MAX } else { RETRY_MAX };
    let pause = match &last {
        _ if error.is_corruption() => RETRY_MAX,
        Some(last) => (last.pause * 2).min(longest),
        None => RETRY_MIN,
    };
    let (since, times) = last.map_or((now, 0), |l| (l.since, l.times));
    Retry { at: now + pause, pause, since, times: times + 1, error: error.clone() }
}

/// Leaves out of compactions the input that the error names, or all of them if it names no file. Tables
/// that are gone are forgotten.
fn exclude_damaged(store: &Store, state: &mut State, plan: &Plan, error: &Error) {
    let views: Vec<_> = store.families().iter().map(|f| f.view()).collect();
    let live: BTreeSet<u64> = views.iter().flat_map(|v| v.version.tables().map(|(_, t)| t.number())).collect();
    state.excluded.retain(|n, _| live.contains(n));
    let named = error
        .file()
        .and_then(|f| f.file_name())
        .and_then(|n| n.to_str())
        .and_then(crate::filename::FileName::parse)
        .and_then(crate::filename::FileName::number);
    let inputs: Vec<u64> = plan.inputs.iter().flat_map(|(_, t)| t.iter().map(|t| t.number())).collect();
    let guilty: Vec<u64> = match named {
        // One that is no input is an output that could not be read back: the inputs are sound.
        Some(number) => inputs.into_iter().filter(|n| *n == number).collect(),
        None => inputs,
    };
    state.excluded.extend(guilty.into_iter().map(|n| (n, error.clone())));
}

fn job_context<'a>(
    store: &'a Arc<Store>,
    family: &'a Family,
    options: &'a crate::options::CfOptions,
    next_file: &'a (dyn Fn() -> u64 + Sync),
    cancelled: &'a (dyn Fn() -> bool + Sync),
) -> job::JobContext<'a> {
    // The published number first, the snapshots second: a snapshot taken in between is at least as
    // new as the published number and sees every version that is newest at it.
    let visible = store.published();
    job::JobContext {
        fs: &*store.context.fs,
        dir: &store.context.dir,
        db_id: store.db_id,
        clock: store.context.clock.clone(),
        tables: &store.context.tables,
        metrics: &store.context.metrics,
        family: &family.metrics,
        options,
        tuning: &family.tuning,
        pressed: may_hurry(store.debt(), owed_bytes(family)),
        visible,
        snapshots: if sabotage::is(Bug::SnapshotsIgnored) { Vec::new() } else { store.snapshots.list() },
        next_file,
        cancelled,
        helpers: &job::NoHelpers,
    }
}

/// Threads that a compaction may use beside its own.
struct Spare<'a> {
    store: &'a Store,
    shared: &'a Shared,
    /// True if somebody waits for it.
    is_asked_for: bool,
}

impl job::Helpers for Spare<'_> {
    /// As many as the options allow and as there are processors that, as far as the engine knows, have nothing to
    /// do: each job has one, each of its helpers, and the writers have one as long as they write. What somebody
    /// asked for and waits for gets that one too.
    fn claim(&self, most: usize) -> usize {
        let allowed = self.store.context.options.background_threads;
        let (published, now) = (self.store.published(), self.store.context.clock.now());
        let mut state = self.shared.state.lock();
        if state.written.0 != published {
            state.written = (published, now);
        }
        let is_written = now.saturating_sub(state.written.1) < WRITERS_REST;
        let writers = usize::from(is_written && !self.is_asked_for);
        let in_use = state.flushing.len() + state.compactions + state.helping;
        let idle = sync::available_parallelism().saturating_sub(in_use + writers);
        let count = most.min(idle).min(allowed.saturating_sub(in_use));
        state.helping += count;
        count
    }

    fn release(&self) {
        self.shared.state.lock().helping -= 1;
    }
}

/// True if a job takes the cheaper codec, to be written anew later: writers wait, and not too much is owed already.
fn may_hurry(debt: f64, owed: u64) -> bool {
    debt >= PRESSED && owed < OWED_MAX
}

/// Bytes of the family's tables that are to be written anew with the codec of their level.
pub fn owed_bytes(family: &Family) -> u64 {
    let view = family.lend_view();
    view.version.tables().filter(|(_, t)| t.meta.owes_codec).map(|(_, t)| t.meta.size).sum()
}

/// Writes a table, and meanwhile syncs what the log has until now: it has to be durable as far as the table goes
/// before the table counts, and little is left to wait for then.
fn beside_log<T: Send>(store: &Store, write: impl Fn() -> Result<T> + Sync) -> Result<T> {
    let run = |is_table: bool| {
        if is_table {
            return Some(write());
        }
        // A log that failed fails again where it has to be durable.
        let _ = store.log().and_then(|log| log.sync_ahead().inspect_err(|e| store.poison(e)));
        None
    };
    let done = sync::in_parallel("lignite-log", vec![true, false], run);
    let lost = || Error::new(ErrorKind::Background, "a flush has no outcome");
    done.into_iter().flatten().next().unwrap_or_else(|| Err(lost()))
}

fn run_flush(store: &Arc<Store>, family: &Arc<Family>) -> Result<()> {
    let memtables = family.sealed();
    if memtables.is_empty() || family.is_dropped() {
        return Ok(());
    }
    let begun = store.context.clock.now();
    let options = family.options();
    let next_file = || store.next_file();
    let cancelled = || false;
    let context = job_context(store, family, &options, &next_file, &cancelled);
    let named = |e: Error| e.with_column_family(&*family.name());
    let write = || store.with_reserve(|| flush::run(&context, &memtables));
    let meta = if store.is_stepped() { write() } else { beside_log(store, write) }.map_err(named)?;
    let bytes: u64 = memtables.iter().map(|m| m.size() as u64).sum();
    let edit =
        VersionEdit { added: meta.iter().map(|m| (family.id, 0, m.clone())).collect(), ..VersionEdit::default() };
    let applied = store.apply(Change { family: family.clone(), edit, flushed: memtables }).map_err(named);
    let took = store.context.clock.now().saturating_sub(begun);
    if is_out(store, &applied) {
        remove_outputs(store, meta.iter().map(|m| m.number));
    }
    if !applied? {
        return Ok(());
    }
    store.measure_flush(bytes, took);
    store.event(&Event::Flush {
        family: family.name().to_string(),
        table: meta.as_ref().map(|m| m.number),
        bytes: meta.as_ref().map_or(0, |m| m.size),
        took,
    });
    Ok(())
}

fn run_compaction(store: &Arc<Store>, shared: &Shared, family: &Arc<Family>, plan: &Plan) -> Result<()> {
    let begun = store.context.clock.now();
    let options = family.options();
    let next_file = || store.next_file();
    let cancelled = || shared.state.lock().shutdown || family.is_dropped();
    let mut context = job_context(store, family, &options, &next_file, &cancelled);
    let spare = Spare { store, shared, is_asked_for: plan.reason == Reason::Manual };
    context.helpers = &spare;
    let named = |e: Error| e.with_column_family(&*family.name());
    let outcome = store.with_reserve(|| executor::run(&context, plan)).map_err(named)?;
    let edit = VersionEdit {
        added: outcome.added.iter().map(|(level, meta)| (family.id, *level as u8, meta.clone())).collect(),
        deleted: outcome.deleted.iter().map(|(level, number)| (family.id, *level as u8, *number)).collect(),
        ..VersionEdit::default()
    };
    let old: BTreeSet<u64> = outcome.deleted.iter().map(|(_, n)| *n).collect();
    let applied = store.apply(Change { family: family.clone(), edit, flushed: Vec::new() }).map_err(named);
    let took = store.context.clock.now().saturating_sub(begun);
    if is_out(store, &applied) {
        let new = outcome.added.iter().map(|(_, m)| m.number).filter(|n| !old.contains(n));
        remove_outputs(store, new);
    }
    if !applied? {
        return Ok(());
    }
    if plan.from_level == 0 && !plan.trivial_move {
        let drained: u64 =
            plan.inputs.iter().filter(|(l, _)| *l == 0).flat_map(|(_, t)| t.iter().map(|t| t.meta.raw_bytes)).sum();
        store.measure_level0(drained, took);
    }
    store.event(&Event::Compaction {
        family: family.name().to_string(),
        reason: plan.reason.name(),
        from_level: plan.from_level,
        to_level: plan.to_level,
        inputs: outcome.deleted.len(),
        outputs: outcome.added.len(),
        read_bytes: outcome.read_bytes,
        write_bytes: outcome.write_bytes,
        took,
    });
    Ok(())
}

/// True if an edit is certainly not in the manifest. A poisoned store does not know.
fn is_out(store: &Store, applied: &Result<bool>) -> bool {
    match applied {
        Ok(applied) => !applied,
        Err(_) => store.poisoned().is_none(),
    }
}

fn remove_outputs(store: &Store, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        store.context.tables.forget(number);
        let path = crate::filename::FileName::Table(number).path(&store.context.dir);
        let _ = store.context.fs.remove_file(&path); // Else the next open removes it.
    }
}

/// Finds the tables that lie wholly under a range tombstone of the same or an upper level that no
/// snapshot is older than, wherever the version or the oldest snapshot changed.
fn refresh_covered(store: &Arc<Store>, shared: &Shared) {
    let mut oldest = store.snapshots.summary().1.unwrap_or_else(|| store.published());
    if sabotage::is(Bug::CoveredUnderSnapshot) {
        oldest = store.published();
    }
    for family in store.families() {
        let view = family.view();
        if !view.version.tables().any(|(_, t)| t.meta.range_deletes > 0) {
            continue;
        }
        // Held weakly, so that no other version can come to lie where it lay.
        let identity = Arc::downgrade(&view.version);
        let is_same = |(version, seq, _): &(Weak<Version>, SeqNo, _)| version.ptr_eq(&identity) && *seq == oldest;
        let known = shared.state.lock().covered.get(&family.id).is_some_and(is_same);
        if known {
            continue;
        }
        let covered = covered_tables(store, &family, &view.version, oldest);
        shared.state.lock().covered.insert(family.id, (identity, oldest, covered));
    }
}

fn covered_tables(store: &Store, family: &Family, version: &Version, visible: SeqNo) -> BTreeSet<u64> {
    let mut covered = BTreeSet::new();
    let with_tombstones = version.tables().filter(|(_, t)| t.meta.range_deletes > 0);
    for (upper_level, upper) in with_tombstones {
        // A table that cannot be opened covers nothing; whoever needs it will report it.
        let Ok(table) = store.context.tables.get(upper, &family.metrics) else { continue };
        let fragments = table.tombstones();
        for (level, lower) in version.tables() {
            let meta = &lower.meta;
            if level >= upper_level.max(1)
                && meta.number != upper.number()
                && upper.meta.overlaps(&meta.smallest, &meta.largest)
                && fragments.covers_range(&meta.smallest, &meta.largest, meta.seq_max, visible)
            {
                covered.insert(meta.number);
            }
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haste_ends_where_too_much_is_owed() {
        assert!(!may_hurry(PRESSED - 0.01, 0), "nobody waits");
        assert!(may_hurry(PRESSED, OWED_MAX - 1) && may_hurry(1.0, 0));
        assert!(!may_hurry(1.0, OWED_MAX) && !may_hurry(1.0, u64::MAX), "writers wait rather than owe more");
    }
}
