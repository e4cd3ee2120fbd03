//! The commit pipeline: group, make room, log, apply, publish.
//!
//! A caller that finds nobody at work becomes the *leader* at once and commits its own batch without
//! waiting and without an allocation. Whoever comes meanwhile queues up. The leader, when it is done
//! with its own, commits what has queued up as groups (one write to the log, one pass into the
//! memtables): a leadership handed to a thread that sleeps stands still until that thread is awake. After
//! a few groups it hands the rest to the first in the queue, so that nobody works for others for ever.
//! Syncs happen after the leadership has been given back, so that the next group collects
//! while the device works, and one sync serves everybody who waits.
//!
//! Always true: sequence numbers are given in the order of the log and are dense; a batch becomes
//! visible as a whole, in that order, only after it is logged and applied; memtables are sealed
//! only between batches, by the leader. A batch that gets no space or waits too long is in neither log
//! nor memtable. Batches that only delete have a right to the reserve of a full disk; others wait for
//! better times.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use crate::batch::{self, BatchEntry, WriteBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::key::{BATCH_LEN_MAX, FamilyId, SEQ_MAX, SeqNo};
use crate::memtable::Memtable;
use crate::options::Durability;
use crate::record::{LogPosition, RecordHeader, RecordKind};
use crate::sabotage::{self, Bug};
use crate::store::pressure::{self, Pace};
use crate::store::{Family, LiveLog, Store};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{self, Arc, Condvar, Mutex, sleep};
use crate::wal::FIRST_RECORD;

/// Memtables are sealed, the largest first, when they take this share of the memory budget, and may take half of it: so
/// while one is flushed there is room for three more. With two of twice the size, a writer that was faster than the
/// flush filled both (peak of `fillrandom` 156 MB for 122) and then waited for a whole flush (longest put of 8 KiB 163 ms for 7).
const SEALING_SHARE: usize = 8;
/// Batches in one group, at most.
const GROUP_BATCHES_MAX: usize = 256;
/// Bytes in one group, unless a single batch is larger.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Groups that a leader commits for others before it hands the leadership on.
const GROUPS_FOR_OTHERS_MAX: usize = 4;
/// How often a follower looks whether it is served before it goes to sleep: about 2 us, the time of a
/// commit or two, where a sleep and a wake-up cost 5 to 50.
const LOOKS_BEFORE_SLEEP: u32 = 60;

/// The commit pipeline of one store.
pub struct Writer {
    store: Arc<Store>,
    queue: Mutex<Queue>,
    /// Touched by the leader only.
    leader: Mutex<Leader>,
}

#[derive(Default)]
struct Queue {
    led: bool,
    waiting: Vec<Arc<Waiter>>,
}

struct Leader {
    last_seq: SeqNo,
    /// How fast it may go while the controller limits it.
    pace: Pace,
    targets: Targets,
}

/// Every family with the memtable that takes its writes, by number; none after anything that may have
/// changed them.
#[derive(Default)]
struct Targets {
    known: Vec<Target>,
    /// Bytes of those memtables.
    bytes: usize,
    /// True if one of them is as large as it may get.
    full: bool,
}

struct Target {
    family: FamilyId,
    active: Arc<Memtable>,
}

struct Waiter {
    /// None for one who wants the leadership itself.
    request: Option<OwnRequest>,
    /// When it came: it waits for its turn and for background work together.
    since: Duration,
    /// True once it need not wait any more, for who looks before it sleeps.
    served: AtomicBool,
    state: Mutex<WaiterState>,
    changed: Condvar,
}

enum WaiterState {
    Waiting,
    Leading,
    Done(Result<Committed>),
}

/// A batch to commit.
#[derive(Clone, Copy)]
struct Request<'a> {
    payload: &'a [u8],
    families: &'a [FamilyId],
    count: u32,
}

/// A batch that another thread commits.
struct OwnRequest {
    payload: Box<[u8]>,
    families: Box<[FamilyId]>,
    count: u32,
}

/// Where a committed batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Sequence number of its last entry.
    pub seq: SeqNo,
    /// The end of its log record.
    pub position: LogPosition,
}

/// Outcomes of a group, which nearly always has one member.
type Outcomes = SmallVec<[Result<Committed>; 1]>;

impl Request<'_> {
    fn to_own(self) -> OwnRequest {
        OwnRequest { payload: self.payload.into(), families: self.families.into(), count: self.count }
    }
}

impl OwnRequest {
    fn lend(&self) -> Request<'_> {
        Request { payload: &self.payload, families: &self.families, count: self.count }
    }
}

impl Waiter {
    fn serve(&self, state: WaiterState) {
        *self.state.lock() = state;
        self.served.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until it leads or is done.
    fn wait(&self) -> Option<Result<Committed>> {
        if !sync::is_simulated() {
            for _ in 0..LOOKS_BEFORE_SLEEP {
                if self.served.load(Ordering::Acquire) {
                    break;
                }
                std::hint::spin_loop();
            }
        }
        let mut state = self.state.lock();
        loop {
            match &*state {
                WaiterState::Waiting => state = self.changed.wait(state),
                WaiterState::Done(outcome) => return Some(outcome.clone()),
                WaiterState::Leading => return None,
            }
        }
    }
}

impl Writer {
    /// The pipeline of `store`.
    pub fn new(store: Arc<Store>) -> Writer {
        let last_seq = store.published();
        let leader = Leader { last_seq, pace: Pace::default(), targets: Targets::default() };
        Writer { store, queue: Mutex::new(Queue::default()), leader: Mutex::new(leader) }
    }

    /// Commits a batch; with [`Durability::Sync`] it is durable when this returns.
    pub fn commit(&self, batch: &WriteBatch, durability: Durability) -> Result<Committed> {
        if let Some(e) = batch.error() {
            return Err(e.clone());
        }
        self.store.check_writable()?;
        let count = u32::try_from(batch.len()).map_err(|_| Error::invalid("a batch has at most 2^32 entries"))?;
        if batch.byte_len() > BATCH_LEN_MAX {
            return Err(Error::invalid(format!(
                "the batch has {} bytes; at most {BATCH_LEN_MAX} are allowed",
                batch.byte_len()
            )));
        }
        let committed = if count == 0 {
            Committed { seq: self.store.published(), position: self.store.log()?.end() }
        } else {
            let request = Request { payload: batch.as_bytes(), families: batch.families(), count };
            self.enter(Some(request))?
        };
        sync::note(committed.seq);
        if durability == Durability::Sync && !sabotage::is(Bug::AckBeforeSync) {
            self.store.context.metrics.sync_commits.inc();
            self.wait_durable(committed.position)?;
        }
        Ok(committed)
    }

    /// Waits until the log is durable up to `position`.
    pub fn wait_durable(&self, position: LogPosition) -> Result<()> {
        let log = self.store.log()?;
        log.sync_to(position).inspect_err(|e| self.store.poison(e))
    }

    /// Runs `body` as the leader: no batch is committed meanwhile, and every earlier one is applied
    /// and published.
    pub fn exclusive<R>(&self, body: impl FnOnce(&mut Exclusive<'_>) -> Result<R>) -> Result<R> {
        self.enter(None)?;
        let _hand_over = HandOver(self);
        let mut leader = self.leader.lock();
        // The body may seal memtables, and make and drop families.
        leader.targets.forget();
        body(&mut Exclusive { writer: self, leader: &mut leader })
    }

    /// Commits the request as leader or through one; without a request, returns as the leader.
    fn enter(&self, request: Option<Request<'_>>) -> Result<Committed> {
        let nothing = Committed { seq: 0, position: LogPosition { segment: 0, offset: 0 } };
        let waiter = {
            let mut queue = self.queue.lock();
            if !queue.led {
                queue.led = true;
                drop(queue);
                let Some(request) = request else { return Ok(nothing) };
                let hand_over = HandOver(self);
                let own = self.commit_group(&[request], None).pop().unwrap_or_else(lost);
                self.commit_for_others(hand_over);
                return own;
            }
            let since = self.store.context.clock.now();
            let waiter = Arc::new(Waiter {
                request: request.map(Request::to_own),
                since,
                served: AtomicBool::new(false),
                state: Mutex::new(WaiterState::Waiting),
                changed: Condvar::new(),
            });
            queue.waiting.push(waiter.clone());
            waiter
        };
        if let Some(outcome) = waiter.wait() {
            return outcome;
        }
        let Some(own) = &waiter.request else { return Ok(nothing) };
        let hand_over = HandOver(self);
        let own = self.commit_with_followers(Some((own.lend(), waiter.since))).unwrap_or_else(lost);
        self.commit_for_others(hand_over);
        own
    }

    /// Commits what has queued up meanwhile, within bounds, and gives the leadership back or on. Where
    /// writers have to wait for the background, each does so itself.
    fn commit_for_others(&self, hand_over: HandOver<'_>) {
        for _ in 0..GROUPS_FOR_OTHERS_MAX {
            if self.give_back() {
                // Nothing is left to hand over.
                std::mem::forget(hand_over);
                return;
            }
            if self.may_have_to_wait() || self.commit_with_followers(None).is_none() {
                return;
            }
        }
    }

    /// True if the next group may be held back, or seals a memtable, after which it may be.
    fn may_have_to_wait(&self) -> bool {
        let sealing = self.store.context.options.memory_budget / SEALING_SHARE;
        // Under a small budget no group has room for the largest there may be.
        let next = GROUP_BYTES_MAX.min(sealing / 4);
        self.store.debt() >= pressure::SLOWDOWN || self.leader.lock().targets.may_be_full(next, sealing)
    }

    /// Gives the leadership back if nobody waits for it.
    fn give_back(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.led = !queue.waiting.is_empty();
        !queue.led
    }

    /// Commits one group: the leader's own request, if it has one, and those from the queue. Returns the
    /// outcome of the first of them; none if there was nobody.
    fn commit_with_followers(&self, own: Option<(Request<'_>, Duration)>) -> Option<Result<Committed>> {
        let followers = self.collect(own.map_or(0, |(request, _)| request.payload.len()));
        let since = own.map(|(_, since)| since).or_else(|| Some(followers.first()?.since))?;
        let own_request = own.map(|(request, _)| request);
        let others = followers.iter().filter_map(|w| w.request.as_ref()).map(OwnRequest::lend);
        let requests: SmallVec<[Request<'_>; 8]> = own_request.into_iter().chain(others).collect();
        let mut serving = Serving { followers: &followers };
        let mut outcomes = self.commit_group(&requests, Some(since)).into_iter();
        let own_outcome = own.and_then(|_| outcomes.next());
        let mut first = None;
        for outcome in outcomes {
            first.get_or_insert_with(|| outcome.clone());
            serving.next(outcome);
        }
        own_outcome.or(first)
    }

    /// Takes those from the front of the queue who bring a batch, up to a group's limits.
    fn collect(&self, mut bytes: usize) -> Vec<Arc<Waiter>> {
        let mut queue = self.queue.lock();
        let mut n = 0;
        for waiter in queue.waiting.iter().take(GROUP_BATCHES_MAX - 1) {
            let Some(request) = &waiter.request else { break };
            bytes += request.payload.len();
            if bytes > GROUP_BYTES_MAX {
                break;
            }
            n += 1;
        }
        queue.waiting.drain(..n).collect()
    }

    /// Gives the leadership to the first in the queue, or back.
    fn hand_over(&self) {
        if self.give_back() {
            return;
        }
        // Only the leader takes anybody out.
        let next = self.queue.lock().waiting.remove(0);
        next.serve(WaiterState::Leading);
    }

    /// Commits a group: outcomes in the order of the requests. `since` is when the first of them came,
    /// unless that was just now.
    fn commit_group(&self, requests: &[Request<'_>], since: Option<Duration>) -> Outcomes {
        let mut leader = self.leader.lock();
        let bytes: usize = requests.iter().map(|r| r.payload.len()).sum();
        if let Err(e) = self.make_room(&mut leader, bytes, since) {
            return requests.iter().map(|_| Err(e.clone())).collect();
        }
        leader.targets.fill(&self.store);
        let mut checks: Checks = requests.iter().map(|r| leader.targets.check(r)).collect();
        if self.store.reserve.is_short()
            && let Err(e) = self.store.check_space()
        {
            refuse_puts(requests, &mut checks, &e);
        }
        let releases = self.store.reserve.releases();
        let mut written = self.log_and_apply(&mut leader, &accepted(requests, &checks));
        if let Err(e) = &written
            && e.kind() == ErrorKind::NoSpace
            && accepted(requests, &checks).into_iter().any(|r| only_deletes(&r))
            && let Some(_in_use) = self.store.reserve.use_since(releases)
        {
            refuse_puts(requests, &mut checks, e);
            written = self.log_and_apply(&mut leader, &accepted(requests, &checks));
        }
        let mut written = written.map(|v| v.into_iter());
        checks
            .into_iter()
            .map(|check| {
                check?;
                match &mut written {
                    Ok(committed) => committed.next().ok_or_else(lost_error),
                    Err(e) => Err(e.clone()),
                }
            })
            .collect()
    }

    fn log_and_apply(&self, leader: &mut Leader, requests: &[Request<'_>]) -> Result<SmallVec<[Committed; 1]>> {
        if requests.is_empty() {
            return Ok(SmallVec::new());
        }
        let log = self.store.log()?;
        let nowhere = LogPosition { segment: 0, offset: 0 };
        let mut seq = leader.last_seq;
        let total: u64 = requests.iter().map(|r| u64::from(r.count)).sum();
        if SEQ_MAX - seq < total {
            return Err(Error::unsupported("the database has used up its 2^56 sequence numbers"));
        }
        let mut records: SmallVec<[(RecordHeader, &[u8]); 1]> = SmallVec::with_capacity(requests.len());
        for request in requests {
            let header =
                RecordHeader { kind: RecordKind::Batch, first_seq: seq + 1, count: request.count, synced: nowhere };
            records.push((header, request.payload));
            seq += u64::from(request.count);
        }
        let end = self.append(log, leader, &mut records).inspect_err(|_| {
            if sabotage::is(Bug::FailureTakesNumber) {
                leader.last_seq = seq;
            }
        })?;
        if sabotage::is(Bug::PublishBeforeApply) {
            self.store.publish(seq);
        }

        let memtable_size = self.store.context.options.memtable_size;
        let mut committed = smallvec![];
        let mut bytes = 0;
        for request in requests {
            bytes += request.payload.len() as u64;
            for entry in batch::walk(request.payload) {
                leader.last_seq += 1;
                // A batch is built by nobody but us, so this cannot fail.
                let entry = entry.inspect_err(|e| self.store.poison(e))?;
                leader.targets.add(&entry, leader.last_seq, memtable_size);
            }
            committed.push(Committed { seq: leader.last_seq, position: end });
        }
        self.store.publish(leader.last_seq);
        let metrics = &self.store.context.metrics;
        metrics.commits.add(requests.len() as u64);
        metrics.commit_groups.inc();
        metrics.entries_written.add(total);
        metrics.bytes_written.add(bytes);
        Ok(committed)
    }

    /// Appends to the log; behind a segment that may not grow, to the next one.
    fn append(&self, log: &LiveLog, leader: &Leader, records: &mut [(RecordHeader, &[u8])]) -> Result<LogPosition> {
        let outcome = match log.append(records) {
            Err(e) if e.is_file_too_long() && log.current_len() > FIRST_RECORD => {
                self.begin_segment(leader).and_then(|()| log.append(records))
            }
            outcome => outcome,
        };
        if log.wants_room() {
            self.store.wake();
        }
        outcome.inspect_err(|e| self.after_failed_append(e))
    }

    /// Neither a full disk nor a want of descriptors changes the log; any other failure leaves it in
    /// doubt.
    fn after_failed_append(&self, error: &Error) {
        let unchanged = error.kind() == ErrorKind::NoSpace || error.is_out_of_descriptors();
        if (!unchanged || sabotage::is(Bug::FullDiskPoisons)) && !sabotage::is(Bug::FailedAppendForgiven) {
            self.store.poison(error);
        }
    }

    // Making room.

    /// Seals memtables and begins segments where it is time, and holds the group back as the
    /// controller says.
    fn make_room(&self, leader: &mut Leader, bytes: usize, since: Option<Duration>) -> Result<()> {
        self.store.check_writable()?;
        // Before the debt is looked at: what is not sealed nobody can pay off.
        if leader.targets.may_be_full(bytes, self.store.context.options.memory_budget / SEALING_SHARE) {
            leader.targets.forget();
            self.seal_full(bytes);
        }
        self.hold_back(leader, bytes, since)?;
        self.bound_log(leader)
    }

    fn seal_full(&self, bytes: usize) {
        let options = &self.store.context.options;
        let sealing = options.memory_budget / SEALING_SHARE;
        let mut total = 0;
        let mut largest: Option<(usize, Arc<Family>)> = None;
        for family in self.store.families() {
            let size = family.active().size();
            total += size;
            if size >= options.memtable_size {
                self.store.seal(&family);
            } else if largest.as_ref().is_none_or(|(most, _)| size > *most) {
                largest = Some((size, family));
            }
        }
        if total + bytes > sealing
            && let Some((size, family)) = largest
        {
            self.store.seal(&family);
            if total - size > sealing {
                // One batch has filled many families.
                for family in self.store.families() {
                    self.store.seal(&family);
                }
            }
        }
    }

    /// Begins a new segment when the current one is full, and flushes the family that pins the
    /// oldest when there are too many bytes of log.
    fn bound_log(&self, leader: &mut Leader) -> Result<()> {
        self.replace_full_segment(leader)?;
        self.flush_pinning(leader)
    }

    /// Begins a new segment when the current one is full. One whose successor could not be made is
    /// full as well, and nothing more may be appended to it.
    fn replace_full_segment(&self, leader: &Leader) -> Result<()> {
        let store = &self.store;
        let log = store.log()?;
        if log.current_len() >= store.context.options.log_segment_size {
            self.begin_segment(leader).inspect_err(|e| self.after_failed_append(e))?;
        }
        Ok(())
    }

    fn begin_segment(&self, leader: &Leader) -> Result<()> {
        let log = self.store.log()?;
        self.store.with_reserve(|| log.rotate(self.store.next_file(), leader.last_seq + 1))
    }

    /// Seals the memtable of the family that pins the oldest segment, if the log is too long.
    fn flush_pinning(&self, leader: &mut Leader) -> Result<()> {
        let store = &self.store;
        let log = store.log()?;
        let log_size_max = store.context.options.log_size_max;
        if log.live_bytes() <= log_size_max || sabotage::is(Bug::LogUnbounded) {
            return Ok(());
        }
        leader.targets.forget();
        if let Some(family) = store.log_pinned_by()
            && family.sealed().is_empty()
            && store.seal(&family)
        {
            store.context.metrics.forced_flushes.inc();
        }
        store.update_debt();
        // Without background threads nobody else would flush before memory runs short.
        while store.is_stepped() && log.live_bytes() > log_size_max && self.step() {}
        Ok(())
    }

    /// Does a background job here; false if there is none or it failed, which is not the writer's
    /// affair before the debt stops it.
    fn step(&self) -> bool {
        self.store.step().unwrap_or(false)
    }

    fn hold_back(&self, leader: &mut Leader, bytes: usize, since: Option<Duration>) -> Result<()> {
        let store = &self.store;
        if store.debt() < pressure::SLOWDOWN {
            leader.pace.forgive();
            return Ok(());
        }
        let metrics = &store.context.metrics;
        if store.is_stepped() {
            // Without background threads the writer does the work itself.
            metrics.slowdowns.inc();
            let mut step = store.step();
            while store.debt() >= pressure::SLOWDOWN && matches!(step, Ok(true)) {
                step = store.step();
            }
            // A job that fails stops nobody before the debt does; then there is nothing to wait for.
            let stopped = step.is_err() && store.debt() >= 1.0;
            return if stopped { Err(stalled(store, Duration::ZERO)) } else { Ok(()) };
        }
        if let Some(rate) = store.allowed_rate()
            && leader.pace.owe(bytes, rate)
        {
            let mut now = store.context.clock.now();
            // The memtable has grown since; a flush may have ended.
            store.update_debt();
            let begun = now;
            while store.debt() >= pressure::SLOWDOWN
                && let Some(step) = leader.pace.pay(now)
            {
                sleep(step);
                now = store.context.clock.now();
            }
            let slept = now.saturating_sub(begun);
            if !slept.is_zero() {
                metrics.slowdowns.inc();
                metrics.slowdown_nanos.add(slept.as_nanos() as u64);
            }
        }
        if store.debt() >= 1.0 {
            self.stall(leader, since)?;
        }
        Ok(())
    }

    /// Stops until the debt is below its limit again, or the time is up that began at `since`.
    fn stall(&self, leader: &mut Leader, since: Option<Duration>) -> Result<()> {
        let store = &self.store;
        let metrics = &store.context.metrics;
        let begun = store.context.clock.now();
        let since = since.unwrap_or(begun);
        metrics.stalls.inc();
        store.set_stalled(true);
        store.wake();
        let mut outcome = Ok(());
        while store.debt() >= 1.0 {
            if let Err(e) = store.check_writable() {
                outcome = Err(e);
                break;
            }
            let waited = store.context.clock.now().saturating_sub(since);
            let Some(left) = store.context.options.stall_timeout.checked_sub(waited).filter(|d| !d.is_zero()) else {
                outcome = Err(stalled(store, waited));
                break;
            };
            store.wait_progress(left.min(Duration::from_millis(100)), || store.debt() < 1.0);
            // What a flush has not let go may be pinned by the memtable that came after.
            if let Err(e) = self.flush_pinning(leader) {
                outcome = Err(e);
                break;
            }
        }
        store.set_stalled(false);
        let took = store.context.clock.now().saturating_sub(begun);
        metrics.stall_nanos.add(took.as_nanos() as u64);
        store.event(&Event::Stall { took });
        outcome
    }
}

fn stalled(store: &Store, waited: Duration) -> Error {
    store.stalled(&format!("writes waited {:.1} s for flush and compaction", waited.as_secs_f64()))
}

type Checks = SmallVec<[Result<()>; 1]>;

/// The requests that passed their checks.
fn accepted<'a>(requests: &[Request<'a>], checks: &Checks) -> SmallVec<[Request<'a>; 1]> {
    requests.iter().zip(checks).filter(|(_, ok)| ok.is_ok()).map(|(r, _)| *r).collect()
}

/// True for a request that makes room sooner or later.
fn only_deletes(request: &Request<'_>) -> bool {
    batch::walk(request.payload).all(|entry| !matches!(entry, Ok(BatchEntry::Put { .. }) | Err(_)))
}

/// Refuses the requests that need space for good.
fn refuse_puts(requests: &[Request<'_>], checks: &mut Checks, error: &Error) {
    for (request, check) in requests.iter().zip(checks) {
        if check.is_ok() && !only_deletes(request) {
            *check = Err(error.clone());
        }
    }
}

fn lost_error() -> Error {
    Error::new(ErrorKind::Background, "a commit was lost: its leader panicked")
}

fn lost() -> Result<Committed> {
    Err(lost_error())
}

/// Tells followers their outcomes, in order; those who are left when it goes out of scope, because the
/// leader panicked, that their commit was lost.
struct Serving<'a> {
    followers: &'a [Arc<Waiter>],
}

impl Serving<'_> {
    fn next(&mut self, outcome: Result<Committed>) {
        if let Some((first, rest)) = self.followers.split_first() {
            self.followers = rest;
            first.serve(WaiterState::Done(outcome));
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        while !self.followers.is_empty() {
            self.next(lost());
        }
    }
}

/// Gives the leadership on, also when the leader panics or returns early.
struct HandOver<'a>(&'a Writer);

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

/// What the leader may do alone.
pub struct Exclusive<'a> {
    writer: &'a Writer,
    leader: &'a mut Leader,
}

impl Exclusive<'_> {
    /// The last sequence number in use.
    pub fn last_seq(&self) -> SeqNo {
        self.leader.last_seq
    }

    /// Seals a family's memtable if it has entries.
    pub fn seal(&self, family: &Family) -> bool {
        self.writer.store.seal(family)
    }

    /// Logs an operation that is not a batch under a number of its own and publishes it. It is not
    /// durable yet.
    pub fn log_edit(&mut self, kind: RecordKind, payload: &[u8]) -> Result<SeqNo> {
        let store = &self.writer.store;
        store.check_writable()?;
        self.writer.replace_full_segment(self.leader)?;
        let seq = self.leader.last_seq + 1;
        let log = store.log()?;
        store
            .with_reserve(|| log.append_edit(kind, seq, payload))
            .inspect_err(|e| self.writer.after_failed_append(e))?;
        self.leader.last_seq = seq;
        sync::note(seq);
        Ok(seq)
    }

    /// Lets readers see everything up to the last number in use.
    pub fn publish(&self) {
        self.writer.store.publish(self.leader.last_seq);
    }
}

impl Targets {
    fn forget(&mut self) {
        *self = Targets::default();
    }

    /// Looks the families up, if that is not done.
    fn fill(&mut self, store: &Store) {
        if self.known.is_empty() {
            let target = |f: Arc<Family>| Target { family: f.id, active: f.active() };
            self.known = store.families().into_iter().map(target).collect();
            self.bytes = self.known.iter().map(|t| t.active.size()).sum();
        }
    }

    /// True if a memtable may have to be sealed before `bytes` more come.
    fn may_be_full(&self, bytes: usize, bytes_max: usize) -> bool {
        self.known.is_empty() || self.full || self.bytes + bytes > bytes_max
    }

    fn get(&self, id: FamilyId) -> Option<&Target> {
        Some(&self.known[self.known.binary_search_by_key(&id, |t| t.family).ok()?])
    }

    /// The families of a batch must exist before it is logged.
    fn check(&self, request: &Request<'_>) -> Result<()> {
        match request.families.iter().find(|id| self.get(**id).is_none()) {
            Some(id) => Err(Error::new(ErrorKind::Closed, format!("column family number {id} has been dropped"))),
            None => Ok(()),
        }
    }

    /// Puts an entry into the memtable of its family, which may have at most `size_max` bytes before it is
    /// to be sealed.
    fn add(&mut self, entry: &BatchEntry<'_>, seq: SeqNo, size_max: usize) {
        let Some(target) = self.get(entry.family()) else { return };
        let before = target.active.size();
        target.active.add(entry, seq);
        let after = target.active.size();
        self.full |= after >= size_max;
        self.bytes += after - before;
    }
}
