//! Worker threads for decoding blocks ahead.
//!
//! The pool never makes anybody wait: a job is taken only if a worker is idle or the queue is short,
//! else the caller gets it back and does the work itself. A panic in a job is caught and counted; who
//! waits for the job's result learns of it because the job's end of the channel is dropped.
//!
//! Waking a thread that sleeps takes as long as decoding several blocks, tens of microseconds in a virtual machine. So
//! a worker that was of use looks for the next job for about as long before it goes to sleep, as long as it
//! keeps finding one that way: two threads that hand work to each other by the microsecond meet awake.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, JoinHandle, Mutex, MutexGuard, is_simulated, locks_held, spawn, spin, still};

/// So many turns a worker looks for a job before it sleeps: 50 us or so.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 1200 };
/// A worker that has looked in vain so often tries again after so many jobs only.
const VAIN_MAX: u32 = 4;
const TRY_AGAIN: u32 = 16;

/// A piece of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Worker threads with a short queue.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    handles: Vec<JoinHandle>,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    /// Workers without a job, less the jobs that wait for one of them.
    idle: AtomicUsize,
    /// Workers that look for a job.
    looking: AtomicUsize,
    /// Jobs that wait, and one more if all is to end.
    waiting: AtomicUsize,
    panics: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Workers without a job; those that look for one among them.
    idle: usize,
    looking: usize,
    stop: bool,
}

impl Pool {
    /// A pool of so many threads; fewer if the system does not give them. With none every job is
    /// handed back.
    pub fn new(threads: usize) -> Arc<Pool> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            ready: Condvar::new(),
            idle: AtomicUsize::new(0),
            looking: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            panics: AtomicU64::new(0),
        });
        let mut handles = Vec::new();
        for n in 0..threads {
            let worker = shared.clone();
            match spawn(&format!("lignite-decode-{n}"), move || worker.work()) {
                Ok(handle) => handles.push(handle),
                Err(_) => break,
            }
        }
        Arc::new(Pool { shared, threads: handles.len(), handles })
    }

    /// The pool of the process. The first caller decides how many threads it has. A simulation, which
    /// starts and ends with its threads, gets a pool of its own each time.
    pub fn shared(threads: usize) -> Arc<Pool> {
        static SHARED: still::OnceLock<Arc<Pool>> = still::OnceLock::new();
        if is_simulated() {
            return Pool::new(threads);
        }
        SHARED.get_or_init(|| Pool::new(threads)).clone()
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How many of them have nothing to do. A hint: it may be old when the caller reads it.
    pub fn idle(&self) -> usize {
        self.shared.idle.load(Ordering::Relaxed)
    }

    /// True if a worker looks for a job just now, so that it costs nothing to hand it one. A hint as well.
    pub fn is_awake(&self) -> bool {
        self.shared.looking.load(Ordering::Relaxed) > 0
    }

    /// How many jobs panicked.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Gives the job to a worker, or back to the caller if all are busy and the queue is full.
    pub fn try_run(&self, job: Job) -> Result<(), Job> {
        if self.threads == 0 {
            return Err(job);
        }
        let mut queue = self.shared.queue.lock();
        if queue.jobs.len() >= queue.idle + self.threads {
            return Err(job);
        }
        queue.jobs.push_back(job);
        self.shared.note(&queue);
        let is_seen = queue.jobs.len() <= queue.looking;
        drop(queue);
        if !is_seen {
            self.shared.ready.notify_one();
        }
        Ok(())
    }
}

impl Drop for Pool {
    /// Queued jobs are still done. Waits for the workers, unless the caller holds a lock that a job
    /// may want or is a worker itself; then they end on their own.
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.stop = true;
        self.shared.note(&queue);
        drop(queue);
        self.shared.ready.notify_all();
        if locks_held() > 0 {
            return;
        }
        for handle in self.handles.drain(..) {
            if !handle.is_current() {
                handle.join();
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        // Jobs since the last look, and looks in vain since the last one that found something.
        let (mut n_jobs, mut n_vain) = (0, 0);
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                self.note(&queue);
                drop(queue);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    self.panics.fetch_add(1, Ordering::Relaxed);
                }
                n_jobs += 1;
                queue = self.queue.lock();
                continue;
            }
            if queue.stop {
                return;
            }
            queue.idle += 1;
            let is_hopeful = n_vain < VAIN_MAX || n_jobs >= TRY_AGAIN;
            if n_jobs > 0 && is_hopeful && !is_simulated() {
                n_jobs = 0;
                queue = self.look(queue);
                let is_found = !queue.jobs.is_empty();
                n_vain = if is_found { 0 } else { n_vain + 1 };
            }
            if queue.jobs.is_empty() && !queue.stop {
                self.note(&queue);
                queue = self.ready.wait(queue);
            }
            queue.idle -= 1;
            self.note(&queue);
        }
    }

    /// Waits awake for a job, for a while.
    fn look<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.looking += 1;
        self.note(&queue);
        drop(queue);
        for turn in 0..LOOKS {
            if self.waiting.load(Ordering::Relaxed) > 0 {
                break;
            }
            spin(turn);
        }
        let mut queue = self.queue.lock();
        queue.looking -= 1;
        self.note(&queue);
        queue
    }

    /// Makes the hints true.
    fn note(&self, queue: &Queue) {
        self.idle.store(queue.idle.saturating_sub(queue.jobs.len()), Ordering::Relaxed);
        self.looking.store(queue.looking.saturating_sub(queue.jobs.len()), Ordering::Relaxed);
        self.waiting.store(queue.jobs.len() + usize::from(queue.stop), Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;

    /// What was taken is done, the hint never exceeds the threads, and nobody waits for ever.
    #[test]
    fn loom_what_was_taken_is_done() {
        loom::model(|| {
            let done = Arc::new(AtomicUsize::new(0));
            let pool = Pool::new(1);
            let mut taken = 0;
            for _ in 0..2 {
                let done = done.clone();
                let job = move || {
                    done.fetch_add(1, Ordering::Relaxed);
                };
                taken += usize::from(pool.try_run(Box::new(job)).is_ok());
                assert!(pool.idle() <= 1);
            }
            assert!(taken > 0);
            drop(pool);
            assert_eq!(done.load(Ordering::Relaxed), taken);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A job that says when it began and ends when it is told to.
    fn held_job(began: &Sender<()>, end: Receiver<()>) -> Job {
        let began = began.clone();
        Box::new(move || {
            let _ = began.send(());
            let _ = end.recv();
        })
    }

    #[test]
    fn jobs_run_until_the_queue_is_full() {
        let pool = Pool::new(1);
        let (began, has_begun) = channel();
        let (go, end) = channel::<()>();
        assert!(pool.try_run(held_job(&began, end)).is_ok());
        has_begun.recv().unwrap();
        assert_eq!((pool.threads(), pool.idle()), (1, 0));
        let (done, is_done) = channel();
        let queued = done.clone();
        assert!(pool.try_run(Box::new(move || queued.send(1).unwrap())).is_ok());
        let refused = pool.try_run(Box::new(move || done.send(2).unwrap())).expect_err("the queue is full");
        refused();
        assert_eq!(is_done.recv().unwrap(), 2, "done by the caller while the worker is busy");
        drop(go);
        assert_eq!(is_done.recv().unwrap(), 1);
    }

    #[test]
    fn a_panic_is_counted_and_the_worker_goes_on() {
        let pool = Pool::new(1);
        let (tx, rx) = channel::<()>();
        assert!(
            pool.try_run(Box::new(move || {
                let _tx = tx;
                panic!("on purpose");
            }))
            .is_ok()
        );
        assert!(rx.recv().is_err(), "the consumer learns of it");
        let (tx, rx) = channel();
        let mut job: Job = Box::new(move || tx.send(5).unwrap());
        while let Err(back) = pool.try_run(job) {
            job = back;
        }
        assert_eq!(rx.recv().unwrap(), 5);
        assert_eq!(pool.panics(), 1);
    }

    #[test]
    fn dropping_finishes_what_was_queued() {
        let done = Arc::new(AtomicU64::new(0));
        let pool = Pool::new(2);
        let mut taken = 0;
        for _ in 0..4 {
            let done = done.clone();
            let job = move || {
                done.fetch_add(1, Ordering::Relaxed);
            };
            taken += u64::from(pool.try_run(Box::new(job)).is_ok());
        }
        assert!(taken >= 2);
        drop(pool);
        assert_eq!(done.load(Ordering::Relaxed), taken);
    }

    #[test]
    fn a_worker_of_use_stays_awake_for_a_while() {
        let pool = Pool::new(1);
        assert!(!pool.is_awake());
        let (tx, rx) = channel();
        let mut n_awake = 0;
        for _ in 0..2000 {
            let tx = tx.clone();
            assert!(pool.try_run(Box::new(move || tx.send(()).unwrap())).is_ok());
            rx.recv().unwrap();
            // It is about to look, or does already, unless something else takes the processor.
            n_awake += u32::from((0..200).any(|turn| {
                spin(turn);
                pool.is_awake()
            }));
        }
        assert!(n_awake > 100, "{n_awake} of 2000");
        // Then it sleeps, and is there all the same.
        for turn in 0.. {
            if pool.idle() == 1 && !pool.is_awake() {
                break;
            }
            spin(turn);
        }
        assert!(pool.try_run(Box::new(move || tx.send(()).unwrap())).is_ok());
        rx.recv().unwrap();
    }

    #[test]
    fn without_threads_the_caller_works() {
        let pool = Pool::new(0);
        assert!(pool.try_run(Box::new(|| ())).is_err());
        assert_eq!((pool.idle(), pool.threads()), (0, 0));
    }

    #[test]
    fn the_last_owner_may_be_a_worker() {
        let pool = Pool::new(1);
        let (tx, rx) = channel::<()>();
        let (go, wait) = channel::<()>();
        let inner = pool.clone();
        let job = move || {
            let _ = wait.recv();
            drop(inner);
            drop(tx);
        };
        assert!(pool.try_run(Box::new(job)).is_ok());
        drop(pool);
        drop(go);
        assert!(rx.recv().is_err());
    }
}
