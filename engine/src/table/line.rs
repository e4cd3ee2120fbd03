//! Tasks in a line: put in at the end, done by whoever has time, taken out at the front, in order.
//!
//! Who owns the line does the work; a worker of the pool helps where what waits in the line is worth waking it.
//! Both take the first task that nobody has begun and that costs something. The owner never waits while there is
//! such a task, so with all workers busy, or without any, it does all of them itself. No lock is held while a
//! task runs.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind, Result};
use crate::pool::Pool;
use crate::sync::{Arc, Condvar, Mutex};

/// Work in the line that is worth waking a worker, which costs a quarter of it.
pub const WAKE_NANOS: u64 = 20_000;

/// What stands in a line. It holds what it needs, and afterwards what it made.
pub trait Task: Send + 'static {
    /// Does the work, on any thread.
    fn run(&mut self);
}

/// Who did a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The owner of the line.
    Owner,
    /// A worker of the pool.
    Worker,
    /// It is yet to be done.
    Nobody,
}

/// The line. Its owner bounds how many tasks are in it.
pub struct Line<T: Task> {
    shared: Arc<Shared<T>>,
    pool: Option<Arc<Pool>>,
    n_wakeups: u64,
}

struct Shared<T> {
    ring: Mutex<Ring<T>>,
    done: Condvar,
}

struct Ring<T> {
    slots: VecDeque<Slot<T>>,
    /// The number of the first slot, counted from the beginning.
    first: u64,
    /// What the tasks that nobody has begun will take.
    waiting_nanos: u64,
    workers: u64,
}

struct Slot<T> {
    nanos: u64,
    state: State<T>,
}

enum State<T> {
    /// Nobody has begun.
    Waiting(T),
    /// Somebody is at it.
    Running,
    Done(T, By),
    /// Who was at it panicked.
    Lost,
}

impl<T: Task> Line<T> {
    /// An empty line, with help by `pool`.
    pub fn new(pool: Option<Arc<Pool>>) -> Line<T> {
        let ring = Ring { slots: VecDeque::new(), first: 0, waiting_nanos: 0, workers: 0 };
        Line { shared: Arc::new(Shared { ring: Mutex::new(ring), done: Condvar::new() }), pool, n_wakeups: 0 }
    }

    /// Puts a task at the end, which will take about so long; one of no time is left to the owner.
    pub fn push(&mut self, task: T, nanos: u64) {
        let mut ring = self.shared.ring.lock();
        ring.slots.push_back(Slot { nanos, state: State::Waiting(task) });
        ring.waiting_nanos += nanos;
        let Some(pool) = &self.pool else { return };
        if ring.waiting_nanos < WAKE_NANOS * (ring.workers + 1) || pool.idle() == 0 {
            return;
        }
        ring.workers += 1;
        drop(ring);
        let shared = self.shared.clone();
        match pool.try_run(Box::new(move || shared.work())) {
            Ok(()) => self.n_wakeups += 1,
            Err(_) => self.shared.ring.lock().workers -= 1,
        }
    }

    /// True if the task at the front costs nothing.
    pub fn is_first_free(&self) -> bool {
        self.shared.ring.lock().slots.front().is_some_and(|slot| slot.nanos == 0)
    }

    /// Takes the task at the front, done, or by [`By::Nobody`]: then the owner does it, as it likes. None from an
    /// empty line. Fails if the worker who was at it panicked.
    pub fn pop(&mut self) -> Result<Option<(T, By)>> {
        let mut ring = self.shared.ring.lock();
        loop {
            match ring.slots.front().map(|slot| &slot.state) {
                None => return Ok(None),
                Some(State::Running) => match ring.claim() {
                    Some((number, mut task)) => {
                        drop(ring);
                        task.run();
                        ring = self.shared.ring.lock();
                        ring.settle(number, State::Done(task, By::Owner));
                    }
                    None => ring = self.shared.done.wait(ring),
                },
                Some(_) => break,
            }
        }
        let Some(slot) = ring.slots.pop_front() else { return Ok(None) };
        ring.first += 1;
        match slot.state {
            State::Done(task, by) => Ok(Some((task, by))),
            State::Waiting(task) => {
                ring.waiting_nanos -= slot.nanos;
                Ok(Some((task, By::Nobody)))
            }
            State::Running | State::Lost => {
                Err(Error::new(ErrorKind::Background, "a thread that helped with the blocks of a table panicked"))
            }
        }
    }

    /// How many times a worker was woken.
    pub fn n_wakeups(&self) -> u64 {
        self.n_wakeups
    }
}

impl<T: Task> Drop for Line<T> {
    /// Waits for nobody: a worker finds nothing left when it is done with its task.
    fn drop(&mut self) {
        let slots = std::mem::take(&mut self.shared.ring.lock().slots);
        drop(slots);
    }
}

impl<T> Ring<T> {
    /// Begins the first task that nobody has begun and that costs something; with its number.
    fn claim(&mut self) -> Option<(u64, T)> {
        let at = self.slots.iter().position(|s| s.nanos > 0 && matches!(s.state, State::Waiting(_)))?;
        let slot = &mut self.slots[at];
        match std::mem::replace(&mut slot.state, State::Running) {
            State::Waiting(task) => {
                self.waiting_nanos -= slot.nanos;
                Some((self.first + at as u64, task))
            }
            state => {
                slot.state = state;
                None
            }
        }
    }

    /// Says what became of a task that was begun. The owner takes none out before, but may give up all.
    fn settle(&mut self, number: u64, state: State<T>) -> Option<State<T>> {
        let slot = number.checked_sub(self.first).and_then(|at| self.slots.get_mut(at as usize));
        match slot {
            Some(slot) => {
                slot.state = state;
                None
            }
            None => Some(state),
        }
    }
}

impl<T: Task> Shared<T> {
    /// What a worker does: all that nobody has begun.
    fn work(&self) {
        let mut ring = self.ring.lock();
        while let Some((number, mut task)) = ring.claim() {
            drop(ring);
            // If the task panics, the owner gets an error instead of waiting for ever.
            let mut finish = Finish { shared: self, number, task: None };
            task.run();
            finish.task = Some(task);
            drop(finish);
            ring = self.ring.lock();
        }
        ring.workers -= 1;
    }
}

/// Delivers a worker's task when it goes out of scope, however that happens.
struct Finish<'a, T: Task> {
    shared: &'a Shared<T>,
    number: u64,
    task: Option<T>,
}

impl<T: Task> Drop for Finish<'_, T> {
    fn drop(&mut self) {
        let mut ring = self.shared.ring.lock();
        let unwanted = match self.task.take() {
            Some(task) => ring.settle(self.number, State::Done(task, By::Worker)),
            None => {
                // It does not come back to say so.
                ring.workers -= 1;
                ring.settle(self.number, State::Lost)
            }
        };
        drop(ring);
        drop(unwanted);
        self.shared.done.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::sync::{spawn, spin};

    /// Says that it has begun, waits until it may end, and notes who did it.
    struct Step {
        number: u32,
        gate: Option<(Sender<u32>, Receiver<()>)>,
        was_helped: bool,
    }

    fn is_helper() -> bool {
        std::thread::current().name().is_some_and(|name| name.starts_with("lignite-decode"))
    }

    impl Task for Step {
        fn run(&mut self) {
            if let Some((began, end)) = &self.gate {
                began.send(self.number).unwrap();
                end.recv().unwrap();
            }
            self.was_helped = is_helper();
        }
    }

    fn step(number: u32) -> Step {
        Step { number, gate: None, was_helped: false }
    }

    #[test]
    fn without_help_the_owner_does_all_in_order() {
        for pool in [None, Some(Pool::new(0))] {
            let mut line = Line::new(pool);
            (0..5).for_each(|n| line.push(step(n), 1 << 40));
            for n in 0..5 {
                let (step, by) = line.pop().unwrap().unwrap();
                assert_eq!((step.number, by), (n, By::Nobody));
            }
            assert!(line.pop().unwrap().is_none());
            assert_eq!(line.n_wakeups(), 0);
        }
    }

    /// A worker that has nothing to do.
    fn idle_pool() -> Arc<Pool> {
        let pool = Pool::new(1);
        (0..).take_while(|_| pool.idle() == 0).for_each(spin);
        pool
    }

    #[test]
    fn cheap_work_wakes_nobody() {
        let mut line = Line::new(Some(idle_pool()));
        (0..9).for_each(|n| line.push(step(n), WAKE_NANOS / 10));
        assert_eq!(line.n_wakeups(), 0);
        line.push(step(9), WAKE_NANOS / 10);
        assert_eq!(line.n_wakeups(), 1, "together they are worth it");
    }

    #[test]
    fn the_owner_works_on_while_a_worker_is_at_the_front() {
        let mut line = Line::new(Some(idle_pool()));
        let (began, has_begun) = channel();
        let (go, end) = channel();
        line.push(Step { gate: Some((began, end)), ..step(0) }, WAKE_NANOS);
        assert_eq!(has_begun.recv().unwrap(), 0);
        (1..4).for_each(|n| line.push(step(n), 1));
        // The last of the others lets the worker go.
        let (last_began, last_has_begun) = channel();
        let (last_go, last_end) = channel();
        line.push(Step { gate: Some((last_began, last_end)), ..step(4) }, 1);
        let opener = spawn("opener", move || {
            last_has_begun.recv().unwrap();
            last_go.send(()).unwrap();
            go.send(()).unwrap();
        })
        .unwrap();
        let done: Vec<(u32, By, bool)> =
            std::iter::from_fn(|| line.pop().unwrap()).map(|(step, by)| (step.number, by, step.was_helped)).collect();
        opener.join();
        let owner = |n| (n, By::Owner, false);
        assert_eq!(done, [(0, By::Worker, true), owner(1), owner(2), owner(3), owner(4)]);
    }

    struct Failing;

    impl Task for Failing {
        fn run(&mut self) {
            assert!(!is_helper(), "on purpose");
        }
    }

    #[test]
    fn a_workers_panic_becomes_an_error() {
        let pool = idle_pool();
        let mut line = Line::new(Some(pool.clone()));
        line.push(Failing, WAKE_NANOS);
        (0..).take_while(|_| pool.panics() == 0).for_each(spin);
        assert_eq!(line.pop().err().unwrap().kind(), ErrorKind::Background);
        // The line goes on, and so does the worker.
        line.push(Failing, 0);
        assert!(matches!(line.pop().unwrap(), Some((Failing, By::Nobody))));
        assert_eq!(line.shared.ring.lock().workers, 0);
    }

    #[test]
    fn what_costs_nothing_is_left_to_the_owner() {
        let pool = idle_pool();
        let mut line = Line::new(Some(pool.clone()));
        line.push(step(0), 0);
        line.push(step(1), WAKE_NANOS);
        assert!(line.is_first_free());
        drop(pool);
        let (first, by) = line.pop().unwrap().unwrap();
        assert_eq!((first.number, by), (0, By::Nobody));
        assert!(!line.is_first_free());
    }

    #[test]
    fn who_gives_up_waits_for_nobody() {
        let pool = idle_pool();
        let mut line = Line::new(Some(pool.clone()));
        let (began, has_begun) = channel();
        let (go, end) = channel();
        line.push(Step { gate: Some((began, end)), ..step(0) }, WAKE_NANOS);
        line.push(step(1), 0);
        has_begun.recv().unwrap();
        drop(line);
        go.send(()).unwrap();
        drop(pool);
    }
}
