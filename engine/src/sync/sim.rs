//! The baton: threads of a simulation run one at a time, and a seed decides who is next.
//!
//! [`run`] starts a thread that takes part in a simulation; every thread that it or its descendants
//! start through [`crate::sync`] takes part as well. Each is a thread of the operating system, and
//! exactly one of them runs: the one that holds the baton. At every lock, unlock, wait, notification,
//! spawn, join, sleep and call of the file system for tests the holder arrives at a *point*, where a
//! seeded scheduler may give the baton to somebody else. So what happens is a function of the seed, and
//! the hash over the sequence of events ([`Trace::hash`]) proves it.
//!
//! Time is virtual. Each event takes a little, sleeps and waits end when their time has come, and when
//! nobody can run the clock jumps to the first of them. If there is none, that is a deadlock, and the
//! report says who waits for what.
//!
//! Always true: a thread that waits in here holds no lock that another simulated thread would have to
//! wait for outside of here. Locks of other libraries are held only inside [`crate::sync::foreign`],
//! where the baton stays. A simulation that failed lets its threads stand for good: unwinding a
//! deadlocked program is not worth the risk of hanging in it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::order::Class;

/// Events kept for the report of a failure.
const STORY_LEN: usize = 60;
/// After so many points in a row a thread is thought to spin, and one with priority loses it.
const RUN_MAX: u32 = 3_000;
/// Real time without any event after which a simulation counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// How a simulation is scheduled.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything here is drawn from.
    pub seed: u64,
    /// Who runs next.
    pub policy: Policy,
    /// What an event takes, in nanoseconds of virtual time.
    pub tick: u64,
    /// How many of 65,536 points wake somebody from a condition variable for no reason.
    pub spurious: u32,
    /// How many of 65,536 calls of the file system are slow.
    pub slow: u32,
    /// The longest that a slow call takes.
    pub slow_max: Duration,
    /// More events than this are a failure.
    pub events_max: u64,
}

/// Who runs next.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// At each point somebody drawn evenly, but with a chance of one in `stay` only.
    Walk {
        /// How rarely the baton is passed.
        stay: u64,
    },
    /// Whoever has the highest priority, drawn at the start; at `changes` moments within the first
    /// `within` events the one that runs gets the lowest. Finds what needs few changes of turn.
    Priorities {
        /// How many moments.
        changes: u64,
        /// How many events there will be, roughly.
        within: u64,
    },
}

impl Plan {
    /// A plan whose policy, pace and disturbances are drawn from the seed. `within` is how many events
    /// there will be, roughly.
    pub fn new(seed: u64, within: u64) -> Plan {
        let mut random = Random::new(seed ^ 0x5eed);
        let policy = match random.below(3) {
            0 => Policy::Priorities { changes: 3 + random.below(3), within },
            _ => Policy::Walk { stay: [1, 2, 5, 20][random.below(4) as usize] },
        };
        Plan {
            seed,
            policy,
            tick: [200, 2_000, 50_000][random.below(3) as usize],
            spurious: [0, 64, 512][random.below(3) as usize],
            slow: 0,
            slow_max: Duration::ZERO,
            events_max: 20_000_000,
        }
    }
}

/// What a simulation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Over the sequence of events.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How often the baton went to another thread.
    pub switches: u64,
    /// How many of the events were calls of the file system.
    pub calls: u64,
    /// Virtual time.
    pub time: Duration,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Event {
    Lock = 1,
    TryLock,
    Read,
    Write,
    Unlock,
    Wait,
    Notify,
    Spawn,
    Join,
    Sleep,
    Point,
    Call,
    Done,
}

/// A lock or condition variable, as the trace knows it: numbered when a simulation first meets it.
#[derive(Debug)]
pub(super) struct Object {
    class: Class,
    /// The simulation's number, and the object's in it.
    number: AtomicU64,
}

impl Object {
    pub(super) const fn new(class: Class) -> Object {
        Object { class, number: AtomicU64::new(0) }
    }
}

thread_local! {
    static ME: RefCell<Option<Me>> = const { RefCell::new(None) };
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    static QUIET: Cell<usize> = const { Cell::new(0) };
    static NOTE: Cell<u64> = const { Cell::new(0) };
}

/// The calling thread's part in a simulation.
#[derive(Clone)]
struct Me {
    world: Arc<World>,
    number: usize,
}

struct World {
    serial: u64,
    plan: Plan,
    /// Who holds the baton.
    turn: AtomicUsize,
    state: Mutex<State>,
    /// Tells the host of an end.
    ended: Condvar,
}

struct State {
    random: Random,
    threads: Vec<Member>,
    now: u64,
    events: u64,
    switches: u64,
    calls: u64,
    hash: u64,
    objects: u64,
    /// Where each object was made.
    places: BTreeMap<u64, &'static Location<'static>>,
    /// At which events priorities change, the last one first.
    changes: Vec<u64>,
    lowest: u64,
    /// Points in a row that one thread has had the baton.
    run: u32,
    failure: Option<String>,
    ended: bool,
    story: VecDeque<(usize, Event, u64)>,
}

struct Member {
    name: String,
    handle: Option<Thread>,
    status: Status,
    woken: Woken,
    priority: u64,
    watch: Option<(u64, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Able,
    Waits { on: On, until: Option<u64> },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Lock(u64),
    Condvar(u64),
    Thread(usize),
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Told,
    Late,
}

/// Runs `body` as the first thread of a simulation, until that and all threads it started have ended.
///
/// # Errors
/// What went wrong, with the last events: a panic in one of the threads, a deadlock, an operation that
/// took longer than [`watch`] allows, too many events, or what [`fail`] was given.
pub fn run(plan: Plan, body: impl FnOnce() + Send + 'static) -> Result<Trace, String> {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let mut random = Random::new(plan.seed);
    let mut changes = Vec::new();
    if let Policy::Priorities { changes: n, within } = plan.policy {
        changes = (0..n).map(|_| random.below(within.max(1))).collect();
        changes.sort_unstable_by(|a, b| b.cmp(a));
    }
    let state = State {
        random,
        threads: Vec::new(),
        now: 0,
        events: 0,
        switches: 0,
        calls: 0,
        hash: plan.seed,
        objects: 0,
        places: BTreeMap::new(),
        changes,
        lowest: 1 << 20,
        run: 0,
        failure: None,
        ended: false,
        story: VecDeque::new(),
    };
    let world = Arc::new(World {
        serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        plan,
        turn: AtomicUsize::new(0),
        state: Mutex::new(state),
        ended: Condvar::new(),
    });
    let builder = std::thread::Builder::new().name("sim-root".to_string());
    let root = world.start(builder, "root", body).map_err(|e| format!("cannot start a thread: {e}"))?.0;
    let mut seen = 0;
    let mut state = world.lock();
    loop {
        if let Some(failure) = &state.failure {
            return Err(format!("{failure}\n{}", state.story()));
        }
        if state.ended {
            break;
        }
        let (after, out) = world.ended.wait_timeout(state, STUCK).unwrap_or_else(PoisonError::into_inner);
        state = after;
        if out.timed_out() && !state.ended && state.failure.is_none() {
            if seen == state.events {
                let name = &state.threads[world.turn.load(Ordering::Acquire)].name;
                return Err(format!("thread {name} has run for a minute without an event\n{}", state.story()));
            }
            seen = state.events;
        }
    }
    let State { hash, events, switches, calls, now, .. } = *state;
    drop(state);
    let _ = root.join();
    Ok(Trace { hash, events, switches, calls, time: Duration::from_nanos(now) })
}

/// True on a thread of a simulation.
#[inline]
pub fn is_simulated() -> bool {
    SIMULATED.with(Cell::get)
}

/// Virtual time; zero outside of simulations.
pub fn now() -> Duration {
    me().map_or(Duration::ZERO, |me| Duration::from_nanos(me.world.lock().now))
}

/// How many events there were so far; 0 outside of simulations.
pub fn events() -> u64 {
    me().map_or(0, |me| me.world.lock().events)
}

/// A point outside of locks.
#[inline]
pub fn point() {
    if let Some(me) = active() {
        me.point(Event::Point, 0);
    }
}

/// Keeps a number for [`take_note`].
#[inline]
pub fn note(number: u64) {
    if is_simulated() {
        NOTE.with(|n| n.set(number));
    }
}

/// The number that the calling thread noted last, if any since this was asked last.
pub fn take_note() -> Option<u64> {
    Some(NOTE.with(|n| n.replace(0))).filter(|n| *n != 0)
}

/// Fails the simulation if the calling thread has not asked for something else by the time `limit` has
/// passed; none takes the last watch away.
pub fn watch(limit: Option<(Duration, &'static str)>) {
    if let Some(me) = me() {
        let mut state = me.world.lock();
        let now = state.now;
        state.threads[me.number].watch = limit.map(|(time, what)| (now + time.as_nanos() as u64, what));
    }
}

/// Fails the simulation that the calling thread is part of. Outside of one it panics.
pub fn fail(words: &str) -> ! {
    match me() {
        Some(me) => me.fail(me.world.lock(), words.to_string()),
        None => panic!("{words}"),
    }
}

/// A call of the file system: an event with the call's name and place, sometimes a slow one.
pub fn call(kind: u64, name: &str, offset: u64, len: u64) {
    let Some(me) = active() else { return };
    let mut sum = kind;
    for byte in name.bytes() {
        sum = mix(sum ^ u64::from(byte));
    }
    sum = mix(mix(sum ^ offset) ^ len);
    let pause = {
        let mut state = me.world.lock();
        state.calls += 1;
        let plan = &me.world.plan;
        let slow = plan.slow > 0 && state.random.below(65_536) < u64::from(plan.slow);
        slow.then(|| state.random.below(plan.slow_max.as_nanos() as u64 + 1))
    };
    me.point(Event::Call, sum);
    if let Some(nanos) = pause {
        sleep(Duration::from_nanos(nanos));
    }
}

/// While this lives the calling thread keeps the baton.
pub(super) struct Quiet;

pub(super) fn quiet() -> Quiet {
    QUIET.with(|q| q.set(q.get() + 1));
    Quiet
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.with(|q| q.set(q.get() - 1));
    }
}

/// In a simulation, takes a lock by `attempt`; none elsewhere.
pub(super) fn acquire<G>(event: Event, object: &Object, attempt: impl Fn() -> Option<G>) -> Option<G> {
    let me = me()?;
    let id = me.identify(object);
    if QUIET.with(Cell::get) > 0 {
        return attempt().or_else(|| {
            let words = format!("a lock made at {} is wanted where the baton cannot pass", object.class.place());
            me.fail(me.world.lock(), words)
        });
    }
    me.point(event, id);
    loop {
        if let Some(guard) = attempt() {
            return Some(guard);
        }
        me.block(me.world.lock(), On::Lock(id), None);
    }
}

/// Before an attempt that does not wait.
pub(super) fn arrive(event: Event, object: &Object) {
    if let Some(me) = active() {
        let id = me.identify(object);
        me.point(event, id);
    }
}

/// After a lock was given back.
pub(super) fn released(object: &Object) {
    let Some(me) = me() else { return };
    let id = me.identify(object);
    me.world.lock().wake(On::Lock(id), true);
    if QUIET.with(Cell::get) == 0 && !std::thread::panicking() {
        me.point(Event::Unlock, id);
    }
}

/// Gives `guard` back and waits to be told; true if the time ran out first.
pub(super) fn wait<G>(condvar: &Object, lock: &Object, guard: G, timeout: Option<Duration>) -> bool {
    let Some(me) = me() else { return false };
    let (id, lock) = (me.identify(condvar), me.identify(lock));
    drop(guard);
    let mut state = me.world.lock();
    state.event(me.number, Event::Wait, id, me.world.plan.tick);
    state.wake(On::Lock(lock), true);
    let until = timeout.map(|t| state.now.saturating_add(t.as_nanos() as u64));
    me.block(state, On::Condvar(id), until) == Woken::Late
}

/// Wakes one or all of those that wait.
pub(super) fn notify(condvar: &Object, all: bool) {
    let Some(me) = me() else { return };
    let id = me.identify(condvar);
    me.world.lock().wake(On::Condvar(id), all);
    if QUIET.with(Cell::get) == 0 {
        me.point(Event::Notify, id);
    }
}

/// Starts another thread of the simulation.
pub(super) fn spawn(
    builder: std::thread::Builder,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<(std::thread::JoinHandle<()>, usize)> {
    let Some(me) = me() else { return Err(io::Error::other("not in a simulation")) };
    let started = me.world.start(builder, name, body)?;
    me.point(Event::Spawn, started.1 as u64);
    Ok(started)
}

/// Waits for a thread to end.
pub(super) fn join(number: usize) {
    let Some(me) = me() else { return };
    me.point(Event::Join, number as u64);
    loop {
        let state = me.world.lock();
        if state.threads[number].status == Status::Done {
            return;
        }
        me.block(state, On::Thread(number), None);
    }
}

/// Lets virtual time pass.
pub(super) fn sleep(time: Duration) {
    let Some(me) = active() else { return };
    let mut state = me.world.lock();
    state.event(me.number, Event::Sleep, time.as_nanos() as u64, me.world.plan.tick);
    let until = state.now.saturating_add(time.as_nanos() as u64);
    me.block(state, On::Time, Some(until));
}

fn me() -> Option<Me> {
    if !is_simulated() {
        return None;
    }
    ME.with_borrow(Clone::clone)
}

/// The calling thread, if it may pass the baton.
fn active() -> Option<Me> {
    if QUIET.with(Cell::get) > 0 { None } else { me() }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(
        self: &Arc<World>,
        builder: std::thread::Builder,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<(std::thread::JoinHandle<()>, usize)> {
        let number = {
            let mut state = self.lock();
            let priority = state.random.next() | 1 << 63;
            let (status, woken) = (Status::Able, Woken::Told);
            let member = Member { name: name.to_string(), handle: None, status, woken, priority, watch: None };
            state.threads.push(member);
            state.threads.len() - 1
        };
        let me = Me { world: self.clone(), number };
        let started = builder.spawn(move || {
            SIMULATED.with(|s| s.set(true));
            ME.with_borrow_mut(|slot| *slot = Some(me.clone()));
            // Whoever passes the baton before this need not wake anybody.
            me.world.lock().threads[number].handle = Some(std::thread::current());
            me.await_turn();
            let outcome = catch_unwind(AssertUnwindSafe(body));
            if let Err(panic) = outcome {
                let words = panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                let state = me.world.lock();
                let name = state.threads[me.number].name.clone();
                me.fail(state, format!("thread {name} panicked: {words}"));
            }
            me.end();
        });
        match started {
            Ok(handle) => Ok((handle, number)),
            Err(e) => {
                self.lock().threads[number].status = Status::Done;
                Err(e)
            }
        }
    }
}

impl Me {
    /// The number of an object in this simulation.
    fn identify(&self, object: &Object) -> u64 {
        let serial = self.world.serial << 32;
        let known = object.number.load(Ordering::Relaxed);
        if known & !0xffff_ffff == serial {
            return known & 0xffff_ffff;
        }
        let mut state = self.world.lock();
        state.objects += 1;
        let id = state.objects;
        state.places.insert(id, object.class.place());
        object.number.store(serial | id, Ordering::Relaxed);
        id
    }

    /// An event, at which the baton may pass.
    fn point(&self, event: Event, object: u64) {
        let mut state = self.world.lock();
        state.event(self.number, event, object, self.world.plan.tick);
        if let Some(words) = state.overdue(&self.world.plan) {
            self.fail(state, words);
        }
        self.pass(state, true);
    }

    /// Waits until somebody wakes this thread and it has the baton again.
    fn block(&self, mut state: MutexGuard<'_, State>, on: On, until: Option<u64>) -> Woken {
        if QUIET.with(Cell::get) > 0 {
            self.fail(state, format!("a wait for {on:?} where the baton cannot pass"));
        }
        state.threads[self.number].status = Status::Waits { on, until };
        self.pass(state, false);
        self.world.lock().threads[self.number].woken
    }

    /// Gives the baton to whoever is next, and comes back when it is this thread's turn.
    fn pass(&self, mut state: MutexGuard<'_, State>, may_stay: bool) {
        match state.choose(self.number, may_stay, &self.world.plan) {
            Some(next) if next == self.number => {}
            Some(next) => {
                self.hand_to(state, next);
                self.await_turn();
            }
            None => {
                let words = state.deadlock();
                self.fail(state, words);
            }
        }
    }

    fn hand_to(&self, mut state: MutexGuard<'_, State>, next: usize) {
        state.switches += 1;
        state.run = 0;
        let handle = state.threads[next].handle.clone();
        self.world.turn.store(next, Ordering::Release);
        drop(state);
        if let Some(handle) = handle {
            handle.unpark();
        }
    }

    fn await_turn(&self) {
        while self.world.turn.load(Ordering::Acquire) != self.number {
            std::thread::park();
        }
    }

    fn end(&self) {
        let mut state = self.world.lock();
        state.event(self.number, Event::Done, 0, self.world.plan.tick);
        state.threads[self.number].status = Status::Done;
        state.wake(On::Thread(self.number), true);
        SIMULATED.with(|s| s.set(false));
        ME.with_borrow_mut(Option::take);
        if state.threads.iter().all(|t| t.status == Status::Done) {
            state.ended = true;
            self.world.ended.notify_all();
            return;
        }
        match state.choose(self.number, false, &self.world.plan) {
            Some(next) => self.hand_to(state, next),
            None => {
                let words = state.deadlock();
                self.fail(state, words);
            }
        }
    }

    /// Ends the simulation. Nobody gets the baton again.
    fn fail(&self, mut state: MutexGuard<'_, State>, words: String) -> ! {
        let time = Duration::from_nanos(state.now);
        let words = format!("{words}\n(after {} events, {time:?} of virtual time)", state.events);
        state.failure.get_or_insert(words);
        self.world.ended.notify_all();
        drop(state);
        loop {
            std::thread::park();
        }
    }
}

impl State {
    fn event(&mut self, thread: usize, event: Event, object: u64, tick: u64) {
        self.events += 1;
        self.now += tick;
        self.hash = mix(self.hash ^ (thread as u64) << 56 ^ (event as u64) << 48 ^ object);
        if self.story.len() == STORY_LEN {
            self.story.pop_front();
        }
        self.story.push_back((thread, event, object));
    }

    /// Makes those able to run who wait for this.
    fn wake(&mut self, on: On, all: bool) {
        let fits = |m: &Member| matches!(m.status, Status::Waits { on: waits_on, .. } if waits_on == on);
        let mut waiting: Vec<usize> = (0..self.threads.len()).filter(|&n| fits(&self.threads[n])).collect();
        if !all && waiting.len() > 1 {
            // Which one is nobody's promise.
            waiting = vec![waiting[self.random.below(waiting.len() as u64) as usize]];
        }
        for n in waiting {
            self.threads[n].status = Status::Able;
            self.threads[n].woken = Woken::Told;
        }
    }

    /// Makes those able to run whose time has come.
    fn expire(&mut self) {
        let now = self.now;
        for member in &mut self.threads {
            if matches!(member.status, Status::Waits { until: Some(until), .. } if until <= now) {
                member.status = Status::Able;
                member.woken = Woken::Late;
            }
        }
    }

    /// Who is next; none if nobody can ever run again.
    fn choose(&mut self, current: usize, may_stay: bool, plan: &Plan) -> Option<usize> {
        self.expire();
        if plan.spurious > 0 && self.random.below(65_536) < u64::from(plan.spurious) {
            let waits = |m: &Member| matches!(m.status, Status::Waits { on: On::Condvar(_), .. });
            let waiting: Vec<usize> = (0..self.threads.len()).filter(|&n| waits(&self.threads[n])).collect();
            if !waiting.is_empty() && self.threads.iter().any(|m| m.status == Status::Able) {
                let n = waiting[self.random.below(waiting.len() as u64) as usize];
                self.threads[n].status = Status::Able;
                self.threads[n].woken = Woken::Told;
            }
        }
        let mut able = self.able();
        if able.is_empty() {
            let until = |m: &Member| match m.status {
                Status::Waits { until, .. } => until,
                _ => None,
            };
            self.now = self.threads.iter().filter_map(until).min()?;
            self.expire();
            able = self.able();
        }
        self.run += 1;
        match plan.policy {
            Policy::Walk { stay } => {
                if may_stay && stay > 1 && self.random.below(stay) != 0 {
                    return Some(current);
                }
                Some(able[self.random.below(able.len() as u64) as usize])
            }
            Policy::Priorities { .. } => {
                let due = self.changes.last().is_some_and(|at| *at <= self.events);
                if due {
                    self.changes.pop();
                }
                if due || self.run >= RUN_MAX {
                    self.run = 0;
                    self.lowest -= 1;
                    self.threads[current].priority = self.lowest;
                }
                able.into_iter().max_by_key(|&n| self.threads[n].priority)
            }
        }
    }

    fn able(&self) -> Vec<usize> {
        (0..self.threads.len()).filter(|&n| self.threads[n].status == Status::Able).collect()
    }

    fn overdue(&self, plan: &Plan) -> Option<String> {
        if self.events > plan.events_max {
            return Some(format!(
                "more than {} events: nothing comes to an end\n{}",
                plan.events_max,
                self.everybody()
            ));
        }
        let late = |m: &&Member| m.watch.is_some_and(|(at, _)| at < self.now);
        let member = self.threads.iter().find(late)?;
        let (_, what) = member.watch?;
        Some(format!("{what} on thread {} did not end in time\n{}", member.name, self.everybody()))
    }

    fn deadlock(&self) -> String {
        format!("deadlock: nobody can run\n{}", self.everybody())
    }

    fn everybody(&self) -> String {
        let lines: Vec<String> = self
            .threads
            .iter()
            .filter(|m| m.status != Status::Done)
            .map(|m| match m.status {
                Status::Waits { on, until } => {
                    let on = match on {
                        On::Lock(id) => format!("the lock {}", self.place(id)),
                        On::Condvar(id) => format!("the condition variable {}", self.place(id)),
                        On::Thread(n) => format!("the end of {}", self.threads[n].name),
                        On::Time => "time to pass".to_string(),
                    };
                    let until = until.map_or(String::new(), |t| format!(" until {:?}", Duration::from_nanos(t)));
                    format!("  {} waits for {on}{until}", m.name)
                }
                _ => format!("  {} can run", m.name),
            })
            .collect();
        lines.join("\n")
    }

    fn place(&self, id: u64) -> String {
        self.places.get(&id).map_or_else(|| format!("{id}"), |at| format!("{id} made at {}:{}", at.file(), at.line()))
    }

    /// The last events, for a person.
    fn story(&self) -> String {
        let line = |(thread, event, object): &(usize, Event, u64)| {
            let object = match event {
                Event::Lock
                | Event::TryLock
                | Event::Read
                | Event::Write
                | Event::Unlock
                | Event::Wait
                | Event::Notify => self.place(*object),
                Event::Call | Event::Point => String::new(),
                _ => object.to_string(),
            };
            format!("  {}: {event:?} {object}", self.threads[*thread].name)
        };
        format!("the last events:\n{}", self.story.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// A splitmix64 generator.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(mix(seed ^ 0xba70))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(all(test, not(loom)))]
mod tests;
