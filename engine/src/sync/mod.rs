//! The door to locks and threads.
//!
//! Thin wrappers over `std` that differ in two ways. A panic never leaves a lock poisoned behind a
//! caller's back: the next holder goes on, and the engine's own poison flag says what happened.
//! And every thread counts the locks it holds ([`locks_held`]), so that a test file system can fail
//! a read-path call that arrives with one.
//!
//! Behind the same names stand three back ends. `std` is what ships, and costs what `std` costs. With
//! the feature `sim` (the workspace's tests) a thread that takes part in a simulation passes the baton
//! of [`sim`] at every lock, wait, notification, spawn, join and sleep, so that a whole database is a
//! function of a seed; any other thread behaves as without it. Under `cfg(loom)` the same names mean
//! the types of the model checker, for the models that lie beside the lock-free parts.
//!
//! Builds with debug assertions, and simulations, also watch the order in which locks are taken
//! ([`order`]): two orders that contradict each other are a panic, whether or not they ever met.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door")]

#[cfg(not(loom))]
mod lock;
#[cfg(loom)]
mod model;
pub mod order;
#[cfg(feature = "sim")]
pub mod sim;
pub mod still;
#[cfg(not(loom))]
mod thread;

#[cfg(not(loom))]
pub use lock::{Condvar, Mutex, MutexGuard, ReadGuard, RwLock, WriteGuard};
#[cfg(loom)]
pub use model::{
    Condvar, JoinHandle, Mutex, MutexGuard, OnceLock, ReadGuard, RwLock, WriteGuard, atomic, available_parallelism,
    in_parallel, sleep, spawn,
};
pub use order::locks_held;
pub use std::sync::{Arc, Weak};
#[cfg(not(loom))]
pub use std::sync::{OnceLock, atomic};
#[cfg(not(loom))]
pub use thread::{JoinHandle, available_parallelism, in_parallel, sleep, spawn};

/// How many copies there are of what threads would otherwise all write to; see [`lane`].
pub const LANES: usize = 8;

/// The copy that the calling thread uses: threads are dealt out over the lanes as they come, so that two
/// seldom write to the same cache line. In a simulation all use the first.
#[inline]
pub fn lane() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    if is_simulated() {
        return 0;
    }
    LANE.with(|lane| {
        if lane.get() == usize::MAX {
            lane.set(NEXT.fetch_add(1, Relaxed) % LANES);
        }
        lane.get()
    })
}

/// A moment between two loads or stores of shared memory that are no locks: in a simulation somebody
/// else may go on here. Elsewhere nothing.
#[inline]
pub fn point() {
    #[cfg(feature = "sim")]
    sim::point();
}

/// One turn of a loop that waits for another thread to end a few stores; `turn` counts from 0. After
/// some turns the processor is given away, since the other may have lost its own.
#[inline]
pub fn spin(turn: u32) {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    if turn % 64 == 63 {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
    #[cfg(loom)]
    let _ = turn;
}

/// Tells a simulation something that only the inside knows, such as the sequence number that the
/// calling thread's write got before it failed. Elsewhere nothing.
#[inline]
pub fn note(number: u64) {
    #[cfg(feature = "sim")]
    sim::note(number);
    #[cfg(not(feature = "sim"))]
    let _ = number;
}

/// Runs `body`, which may hold a lock of somebody else's making: a simulation does not pass the baton
/// meanwhile, since whoever gets it could not wait for that lock. Elsewhere just runs it.
#[inline]
pub fn foreign<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(feature = "sim")]
    let _quiet = sim::quiet();
    body()
}

/// True on a thread of a simulation.
#[inline]
pub fn is_simulated() -> bool {
    #[cfg(feature = "sim")]
    return sim::is_simulated();
    #[cfg(not(feature = "sim"))]
    false
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn locks_are_counted_per_thread() {
        let a = Mutex::new(1);
        let b = RwLock::new(2);
        assert_eq!(locks_held(), 0);
        let ga = a.lock();
        let gb = b.read();
        assert_eq!(locks_held(), 2);
        drop(ga);
        drop(gb);
        assert_eq!(locks_held(), 0);
        let (guard, timed_out) = Condvar::new().wait_timeout(a.lock(), Duration::from_millis(1));
        assert!(timed_out);
        assert_eq!(locks_held(), 1);
        drop(guard);
        assert_eq!(locks_held(), 0);
    }

    #[test]
    fn a_panic_leaves_no_lock_poisoned() {
        let m = Arc::new(Mutex::new(5));
        let m2 = m.clone();
        let handle = spawn("panics", move || {
            let _guard = m2.lock();
            panic!("on purpose");
        })
        .unwrap();
        assert!(!handle.join());
        assert_eq!(*m.lock(), 5);
    }

    #[test]
    fn parallel_results_keep_their_order_and_a_panic_goes_on() {
        assert_eq!(in_parallel("none", Vec::<u8>::new(), |n| n), [0; 0]);
        let both = Arc::new(atomic::AtomicUsize::new(0));
        // Neither ends before the other has begun.
        let meet = |n: usize| {
            both.fetch_add(1, atomic::Ordering::Relaxed);
            while both.load(atomic::Ordering::Relaxed) < 2 {
                std::thread::yield_now();
            }
            n * 10
        };
        assert_eq!(in_parallel("two", vec![1, 2], meet), [10, 20]);
        let panics = || in_parallel("three", vec![1, 2, 3], |n| assert!(n != 2, "on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
    }

    #[test]
    fn two_orders_are_a_panic_even_if_they_never_meet() {
        let a = Arc::new(Mutex::new(()));
        let b = Arc::new(RwLock::new(()));
        let c = Arc::new(Mutex::new(()));
        let run = |body: Box<dyn FnOnce() + Send>| spawn("orders", body).unwrap().join();
        let (a1, b1) = (a.clone(), b.clone());
        assert!(run(Box::new(move || drop((a1.lock(), b1.read())))));
        let (b2, c2) = (b.clone(), c.clone());
        assert!(run(Box::new(move || drop((b2.write(), c2.lock())))));
        let (a3, c3) = (a.clone(), c.clone());
        assert!(run(Box::new(move || drop((c3.lock(), a3.try_lock())))), "who does not wait breaks no order");
        let (a4, c4) = (a.clone(), c.clone());
        let contradicts = !run(Box::new(move || drop((c4.lock(), a4.lock()))));
        assert_eq!(contradicts, cfg!(any(debug_assertions, feature = "sim")));
    }
}
