//! The types of the model checker `loom` under the names of this module.
//!
//! Only the models (tests named `loom_..` beside lock-free code) run like this. Reference counts stay
//! those of `std`: none of our own making is lock-free. Nobody counts held locks: the threads of a model
//! share one thread of the system.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

pub use loom::sync::atomic;

/// A mutual exclusion lock.
#[derive(Debug)]
pub struct Mutex<T: ?Sized>(loom::sync::Mutex<T>);

/// Access to the value in a [`Mutex`].
pub struct MutexGuard<'a, T: ?Sized>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    /// A new lock around a value.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    /// Takes the value out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard(Some(guard))
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.0.try_lock().ok()?;
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

/// A condition variable for [`Mutex`].
#[derive(Debug)]
pub struct Condvar(loom::sync::Condvar);

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl Condvar {
    /// A new condition variable.
    pub fn new() -> Condvar {
        Condvar(loom::sync::Condvar::new())
    }

    /// Releases the lock, waits for a notification, takes the lock again.
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let inner = guard.0.take().expect("a guard is empty only while a condition variable holds it");
        MutexGuard(Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner)))
    }

    /// As [`Condvar::wait`]. In a model time never runs out.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, _: Duration) -> (MutexGuard<'a, T>, bool) {
        (self.wait(guard), false)
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
#[derive(Debug)]
pub struct RwLock<T>(loom::sync::RwLock<T>);

/// Shared access to the value in a [`RwLock`].
pub struct ReadGuard<'a, T>(loom::sync::RwLockReadGuard<'a, T>);

/// Exclusive access to the value in a [`RwLock`].
pub struct WriteGuard<'a, T>(loom::sync::RwLockWriteGuard<'a, T>);

impl<T> RwLock<T> {
    /// A new lock around a value.
    pub fn new(value: T) -> RwLock<T> {
        RwLock(loom::sync::RwLock::new(value))
    }

    /// Waits for shared access.
    pub fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for exclusive access.
    pub fn write(&self) -> WriteGuard<'_, T> {
        WriteGuard(self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A cell that is written once. The flag carries the ordering, so that the checker sees who may have
/// seen the value.
#[derive(Debug)]
pub struct OnceLock<T> {
    ready: atomic::AtomicBool,
    turn: loom::sync::Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// An empty cell.
    pub fn new() -> OnceLock<T> {
        let (ready, turn) = (atomic::AtomicBool::new(false), loom::sync::Mutex::new(()));
        OnceLock { ready, turn, value: std::sync::OnceLock::new() }
    }

    /// The value, if the calling thread can see that there is one.
    pub fn get(&self) -> Option<&T> {
        if self.ready.load(atomic::Ordering::Acquire) { self.value.get() } else { None }
    }

    /// The value, made by `make` if there is none.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let value = self.value.get_or_init(make);
        self.ready.store(true, atomic::Ordering::Release);
        value
    }

    /// Gives the cell its value; the value back if it has one.
    pub fn set(&self, value: T) -> Result<(), T> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.value.set(value)?;
        self.ready.store(true, atomic::Ordering::Release);
        Ok(())
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

/// A thread started by [`spawn`].
#[derive(Debug)]
pub struct JoinHandle(loom::thread::JoinHandle<()>);

impl JoinHandle {
    /// Waits for the thread; false if it panicked.
    pub fn join(self) -> bool {
        self.0.join().is_ok()
    }

    /// True when called from the thread itself.
    pub fn is_current(&self) -> bool {
        self.0.thread().id() == loom::thread::current().id()
    }
}

/// Starts a named thread.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle> {
    loom::thread::Builder::new().name(name.to_string()).spawn(body).map(JoinHandle)
}

/// One after the other: no model is about it.
pub fn in_parallel<T, R>(_: &str, items: Vec<T>, work: impl Fn(T) -> R) -> Vec<R> {
    items.into_iter().map(work).collect()
}

/// Lets others go on.
pub fn sleep(_: Duration) {
    loom::thread::yield_now();
}

/// A model has few threads.
pub fn available_parallelism() -> usize {
    2
}
