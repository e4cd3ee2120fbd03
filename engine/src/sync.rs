//! The door to locks and threads.
//!
//! Thin wrappers over `std` that differ in two ways. A panic never leaves a lock poisoned behind a
//! caller's back: the next holder goes on, and the engine's own poison flag says what happened.
//! And every thread counts the locks it holds ([`locks_held`]), so that a test file system can fail
//! a read-path call that arrives with one.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door")]

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

pub use std::sync::atomic;
pub use std::sync::{Arc, OnceLock, Weak};

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// How many locks of this module the calling thread holds.
pub fn locks_held() -> usize {
    HELD.with(Cell::get)
}

fn enter() {
    HELD.with(|h| h.set(h.get() + 1));
}

fn leave() {
    HELD.with(|h| h.set(h.get() - 1));
}

/// A mutual exclusion lock.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

/// Access to the value in a [`Mutex`].
pub struct MutexGuard<'a, T: ?Sized>(Option<std::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    /// A new lock around a value.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(std::sync::Mutex::new(value))
    }

    /// Takes the value out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        enter();
        MutexGuard(Some(guard))
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(p)) => p.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        enter();
        Some(MutexGuard(Some(guard)))
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().expect("a guard is empty only while a condition variable holds it")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect("a guard is empty only while a condition variable holds it")
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            leave();
        }
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(std::sync::Condvar);

impl Condvar {
    /// A new condition variable.
    pub const fn new() -> Condvar {
        Condvar(std::sync::Condvar::new())
    }

    /// Releases the lock, waits for a notification, takes the lock again.
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let inner = guard.0.take().expect("a guard is empty only while a condition variable holds it");
        leave();
        let inner = self.0.wait(inner).unwrap_or_else(PoisonError::into_inner);
        enter();
        MutexGuard(Some(inner))
    }

    /// As [`Condvar::wait`], for at most `timeout`; the flag is true if the time ran out.
    pub fn wait_timeout<'a, T>(&self, mut guard: MutexGuard<'a, T>, timeout: Duration) -> (MutexGuard<'a, T>, bool) {
        let inner = guard.0.take().expect("a guard is empty only while a condition variable holds it");
        leave();
        let (inner, out) = self.0.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner);
        enter();
        (MutexGuard(Some(inner)), out.timed_out())
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes every waiter.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock that many may read or one may write.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized>(std::sync::RwLock<T>);

/// Shared access to the value in a [`RwLock`].
pub struct ReadGuard<'a, T: ?Sized>(std::sync::RwLockReadGuard<'a, T>);

/// Exclusive access to the value in a [`RwLock`].
pub struct WriteGuard<'a, T: ?Sized>(std::sync::RwLockWriteGuard<'a, T>);

impl<T> RwLock<T> {
    /// A new lock around a value.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(std::sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for shared access.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        enter();
        ReadGuard(guard)
    }

    /// Waits for exclusive access.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        enter();
        WriteGuard(guard)
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        leave();
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        leave();
    }
}

/// A thread started by [`spawn`].
#[derive(Debug)]
pub struct JoinHandle(std::thread::JoinHandle<()>);

impl JoinHandle {
    /// Waits for the thread; false if it panicked.
    pub fn join(self) -> bool {
        self.0.join().is_ok()
    }

    /// True when called from the thread itself.
    pub fn is_current(&self) -> bool {
        self.0.thread().id() == std::thread::current().id()
    }
}

/// Starts a named thread: the only place of the engine that does.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle> {
    std::thread::Builder::new().name(name.to_string()).spawn(body).map(JoinHandle)
}

/// Lets the calling thread sleep: the only place of the engine that does.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// How many threads the machine runs at once.
pub fn available_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
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
}
