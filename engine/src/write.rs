//! The commit pipeline: group, make room, log, apply, publish.
//!
//! A caller that finds nobody at work becomes the *leader* at once and commits its own batch without
//! waiting. Whoever comes meanwhile queues up; when the leader is done it hands the queue to the
//! first in it, who commits all of it as one group: one write to the log, one pass into the
//! memtables. Syncs happen after the leadership has been given back, so that the next group collects
//! while the device works, and one sync serves everybody who waits.
//!
//! Always true: sequence numbers are given in the order of the log and are dense; a batch becomes
//! visible as a whole, in that order, only after it is logged and applied; memtables are sealed
//! only between batches, by the leader. A batch that gets no space or waits too long is in neither log
//! nor memtable. Batches that only delete have a right to the reserve of a full disk; others wait for
//! better times.

use std::time::Duration;

use crate::batch::{self, BatchEntry, WriteBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::key::{BATCH_LEN_MAX, FamilyId, SEQ_MAX, SeqNo};
use crate::options::Durability;
use crate::record::{LogPosition, RecordHeader, RecordKind};
use crate::sabotage::{self, Bug};
use crate::store::{Family, LiveLog, Store, pressure};
use crate::sync::{self, Arc, Condvar, Mutex, sleep};
use crate::wal::FIRST_RECORD;

/// Batches in one group, at most.
const GROUP_BATCHES_MAX: usize = 256;
/// Bytes in one group, unless a single batch is larger.
const GROUP_BYTES_MAX: usize = 1 << 20;

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
    /// Time that may be written without delay, from what the controller allowed and nobody used.
    owed: Duration,
}

struct Waiter {
    /// None for one who wants the leadership itself.
    request: Option<Request>,
    /// When it came: it waits for its turn and for background work together.
    since: Duration,
    state: Mutex<WaiterState>,
    changed: Condvar,
}

enum WaiterState {
    Waiting,
    Leading,
    Done(Result<Committed>),
}

struct Request {
    payload: Arc<[u8]>,
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

impl Writer {
    /// The pipeline of `store`.
    pub fn new(store: Arc<Store>) -> Writer {
        let last_seq = store.published();
        Writer {
            store,
            queue: Mutex::new(Queue::default()),
            leader: Mutex::new(Leader { last_seq, owed: Duration::ZERO }),
        }
    }

    /// Commits a batch; with [`Durability::Sync`] it is durable when this returns.
    pub fn commit(&self, batch: WriteBatch, durability: Durability) -> Result<Committed> {
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
            self.enter(Some(Request { payload: Arc::from(batch.into_bytes()), count }))?
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
        body(&mut Exclusive { writer: self, leader: &mut leader })
    }

    /// Commits the request as leader or through one; without a request, returns as the leader.
    fn enter(&self, request: Option<Request>) -> Result<Committed> {
        let nothing = Committed { seq: 0, position: LogPosition { segment: 0, offset: 0 } };
        let waiter = {
            let mut queue = self.queue.lock();
            if !queue.led {
                queue.led = true;
                drop(queue);
                let Some(request) = request else { return Ok(nothing) };
                let _hand_over = HandOver(self);
                let committed = self.commit_group(&[&request], None).pop();
                return committed.unwrap_or_else(|| Err(Error::new(ErrorKind::Background, "a commit was lost")));
            }
            let since = self.store.context.clock.now();
            let state = Mutex::new(WaiterState::Waiting);
            let waiter = Arc::new(Waiter { request, since, state, changed: Condvar::new() });
            queue.waiting.push(waiter.clone());
            waiter
        };
        let mut state = waiter.state.lock();
        loop {
            match &*state {
                WaiterState::Waiting => state = waiter.changed.wait(state),
                WaiterState::Done(outcome) => return outcome.clone(),
                WaiterState::Leading => break,
            }
        }
        drop(state);
        let Some(own) = &waiter.request else { return Ok(nothing) };
        let _hand_over = HandOver(self);
        let followers = self.collect(own.payload.len());
        let requests: Vec<&Request> =
            [own].into_iter().chain(followers.iter().filter_map(|w| w.request.as_ref())).collect();
        let mut outcomes = self.commit_group(&requests, Some(waiter.since)).into_iter();
        let own_outcome = outcomes.next();
        for follower in &followers {
            let outcome = outcomes.next().unwrap_or_else(lost);
            *follower.state.lock() = WaiterState::Done(outcome);
            follower.changed.notify_one();
        }
        own_outcome.unwrap_or_else(lost)
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
        let next = {
            let mut queue = self.queue.lock();
            if queue.waiting.is_empty() {
                queue.led = false;
                return;
            }
            queue.waiting.remove(0)
        };
        *next.state.lock() = WaiterState::Leading;
        next.changed.notify_one();
    }

    /// Commits a group: outcomes in the order of the requests. `since` is when the first of them came,
    /// unless that was just now.
    fn commit_group(&self, requests: &[&Request], since: Option<Duration>) -> Vec<Result<Committed>> {
        let mut leader = self.leader.lock();
        let bytes: usize = requests.iter().map(|r| r.payload.len()).sum();
        if let Err(e) = self.make_room(&mut leader, bytes, since) {
            return requests.iter().map(|_| Err(e.clone())).collect();
        }
        let mut families = Families::new(&self.store);
        let mut checks: Vec<Result<()>> = requests.iter().map(|r| families.check(&r.payload)).collect();
        if self.store.reserve.is_short()
            && let Err(e) = self.store.check_space()
        {
            refuse_puts(requests, &mut checks, &e);
        }
        let releases = self.store.reserve.releases();
        let mut written = self.log_and_apply(&mut leader, &accepted(requests, &checks), &mut families);
        if let Err(e) = &written
            && e.kind() == ErrorKind::NoSpace
            && accepted(requests, &checks).into_iter().any(only_deletes)
            && let Some(_in_use) = self.store.reserve.use_since(releases)
        {
            refuse_puts(requests, &mut checks, e);
            written = self.log_and_apply(&mut leader, &accepted(requests, &checks), &mut families);
        }
        let mut written = written.map(|v| v.into_iter());
        checks
            .into_iter()
            .map(|check| {
                check?;
                match &mut written {
                    Ok(committed) => {
                        committed.next().ok_or_else(|| Error::new(ErrorKind::Background, "a commit was lost"))
                    }
                    Err(e) => Err(e.clone()),
                }
            })
            .collect()
    }

    fn log_and_apply(
        &self,
        leader: &mut Leader,
        requests: &[&Request],
        families: &mut Families<'_>,
    ) -> Result<Vec<Committed>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let log = self.store.log()?;
        let nowhere = LogPosition { segment: 0, offset: 0 };
        let mut seq = leader.last_seq;
        let total: u64 = requests.iter().map(|r| u64::from(r.count)).sum();
        if SEQ_MAX - seq < total {
            return Err(Error::unsupported("the database has used up its 2^56 sequence numbers"));
        }
        let mut records: Vec<(RecordHeader, &[u8])> = Vec::with_capacity(requests.len());
        for request in requests {
            let header =
                RecordHeader { kind: RecordKind::Batch, first_seq: seq + 1, count: request.count, synced: nowhere };
            records.push((header, &request.payload));
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

        let mut committed = Vec::with_capacity(requests.len());
        let mut bytes = 0;
        for request in requests {
            bytes += request.payload.len() as u64;
            for entry in batch::walk(&request.payload) {
                leader.last_seq += 1;
                // Checked before the record was logged, so this cannot fail here.
                let entry = entry.inspect_err(|e| self.store.poison(e))?;
                if let Some(family) = families.get(entry.family()) {
                    family.active.add(&request.payload, &entry, leader.last_seq);
                }
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
        self.seal_full(bytes);
        self.hold_back(leader, bytes, since)?;
        self.bound_log(leader)
    }

    fn seal_full(&self, bytes: usize) {
        let options = &self.store.context.options;
        let quarter = options.memory_budget / 4;
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
        if total + bytes > quarter
            && let Some((size, family)) = largest
        {
            self.store.seal(&family);
            if total - size > quarter {
                // One batch has filled many families.
                for family in self.store.families() {
                    self.store.seal(&family);
                }
            }
        }
    }

    /// Begins a new segment when the current one is full, and flushes the family that pins the
    /// oldest when there are too many bytes of log.
    fn bound_log(&self, leader: &Leader) -> Result<()> {
        self.replace_full_segment(leader)?;
        self.flush_pinning()
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
    fn flush_pinning(&self) -> Result<()> {
        let store = &self.store;
        let log = store.log()?;
        let log_size_max = store.context.options.log_size_max;
        if log.live_bytes() <= log_size_max || sabotage::is(Bug::LogUnbounded) {
            return Ok(());
        }
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
            leader.owed = Duration::ZERO;
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
        if let Some(rate) = store.allowed_rate() {
            leader.owed += Duration::from_secs_f64(bytes as f64 / rate);
            // Shorter sleeps than this are rounded up by the system anyway.
            if leader.owed >= Duration::from_micros(200) {
                metrics.slowdowns.inc();
                let begun = store.context.clock.now();
                sleep(leader.owed.min(pressure::STEP_MAX));
                let slept = store.context.clock.now().saturating_sub(begun);
                leader.owed = leader.owed.saturating_sub(slept).min(pressure::STEP_MAX);
                metrics.slowdown_nanos.add(slept.as_nanos() as u64);
            }
        }
        if store.debt() >= 1.0 {
            self.stall(since)?;
        }
        Ok(())
    }

    /// Stops until the debt is below its limit again, or the time is up that began at `since`.
    fn stall(&self, since: Option<Duration>) -> Result<()> {
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
            if let Err(e) = self.flush_pinning() {
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

/// The requests that passed their checks.
fn accepted<'a>(requests: &[&'a Request], checks: &[Result<()>]) -> Vec<&'a Request> {
    requests.iter().zip(checks).filter(|(_, ok)| ok.is_ok()).map(|(r, _)| *r).collect()
}

/// True for a request that makes room sooner or later.
fn only_deletes(request: &Request) -> bool {
    batch::walk(&request.payload).all(|entry| !matches!(entry, Ok(BatchEntry::Put { .. }) | Err(_)))
}

/// Refuses the requests that need space for good.
fn refuse_puts(requests: &[&Request], checks: &mut [Result<()>], error: &Error) {
    for (request, check) in requests.iter().zip(checks) {
        if check.is_ok() && !only_deletes(request) {
            *check = Err(error.clone());
        }
    }
}

fn lost() -> Result<Committed> {
    Err(Error::new(ErrorKind::Background, "a commit was lost: its leader panicked"))
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

/// The families that a group touches, looked up once each.
struct Families<'a> {
    store: &'a Store,
    known: Vec<Target>,
}

struct Target {
    family: Arc<Family>,
    active: Arc<crate::memtable::Memtable>,
}

impl<'a> Families<'a> {
    fn new(store: &'a Store) -> Families<'a> {
        Families { store, known: Vec::new() }
    }

    fn get(&mut self, id: FamilyId) -> Option<&Target> {
        if let Some(at) = self.known.iter().position(|t| t.family.id == id) {
            return Some(&self.known[at]);
        }
        let family = self.store.family(id)?;
        let active = family.active();
        self.known.push(Target { family, active });
        self.known.last()
    }

    /// Walks a batch before it is logged: its families must exist, its bytes must parse.
    fn check(&mut self, payload: &[u8]) -> Result<()> {
        for entry in batch::walk(payload) {
            let id = entry?.family();
            if self.get(id).is_none() {
                return Err(Error::new(ErrorKind::Closed, format!("column family number {id} has been dropped")));
            }
        }
        Ok(())
    }
}
