//! The locks over `std`, with the places where a simulation takes part.

use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use super::order::{self, Class};
#[cfg(feature = "sim")]
use super::sim::{self, Event, Object};

/// What a lock or condition variable is beside its `std` part: nothing in production.
#[derive(Debug)]
struct Site {
    class: Class,
    #[cfg(feature = "sim")]
    object: Object,
}

impl Site {
    #[track_caller]
    const fn here() -> Site {
        let class = Class::here();
        Site {
            class,
            #[cfg(feature = "sim")]
            object: Object::new(class),
        }
    }

    fn leave(&self) {
        order::leave(self.class);
        #[cfg(feature = "sim")]
        sim::released(&self.object);
    }
}

/// A mutual exclusion lock.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    site: Site,
    inner: std::sync::Mutex<T>,
}

/// Access to the value in a [`Mutex`].
pub struct MutexGuard<'a, T: ?Sized> {
    /// None only while a condition variable has it, and while dropping.
    inner: Option<std::sync::MutexGuard<'a, T>>,
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// A new lock around a value.
    #[track_caller]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { site: Site::here(), inner: std::sync::Mutex::new(value) }
    }

    /// Takes the value out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        order::about_to_wait(self.site.class);
        #[cfg(feature = "sim")]
        if let Some(inner) = sim::acquire(Event::Lock, &self.site.object, || self.attempt()) {
            return self.guard(inner);
        }
        self.guard(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        #[cfg(feature = "sim")]
        sim::arrive(Event::TryLock, &self.site.object);
        self.attempt().map(|inner| self.guard(inner))
    }

    fn attempt(&self) -> Option<std::sync::MutexGuard<'_, T>> {
        match self.inner.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(p)) => Some(p.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn guard<'a>(&'a self, inner: std::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        order::enter(self.site.class);
        MutexGuard { inner: Some(inner), lock: self }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.inner.as_deref().expect("a guard is empty only while a condition variable holds it")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_deref_mut().expect("a guard is empty only while a condition variable holds it")
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            drop(inner);
            self.lock.site.leave();
        }
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug)]
pub struct Condvar {
    #[cfg(feature = "sim")]
    object: Object,
    inner: std::sync::Condvar,
}

impl Default for Condvar {
    #[track_caller]
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl Condvar {
    /// A new condition variable.
    #[track_caller]
    pub const fn new() -> Condvar {
        Condvar {
            #[cfg(feature = "sim")]
            object: Object::new(Class::here()),
            inner: std::sync::Condvar::new(),
        }
    }

    /// Releases the lock, waits for a notification, takes the lock again.
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let inner = guard.inner.take().expect("a guard is empty only while a condition variable holds it");
        let lock = guard.lock;
        order::leave(lock.site.class);
        #[cfg(feature = "sim")]
        if sim::is_simulated() {
            sim::wait(&self.object, &lock.site.object, inner, None);
            return lock.lock();
        }
        lock.guard(self.inner.wait(inner).unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Condvar::wait`], for at most `timeout`; the flag is true if the time ran out.
    pub fn wait_timeout<'a, T>(&self, mut guard: MutexGuard<'a, T>, timeout: Duration) -> (MutexGuard<'a, T>, bool) {
        let inner = guard.inner.take().expect("a guard is empty only while a condition variable holds it");
        let lock = guard.lock;
        order::leave(lock.site.class);
        #[cfg(feature = "sim")]
        if sim::is_simulated() {
            let timed_out = sim::wait(&self.object, &lock.site.object, inner, Some(timeout));
            return (lock.lock(), timed_out);
        }
        let (inner, out) = self.inner.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner);
        (lock.guard(inner), out.timed_out())
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        #[cfg(feature = "sim")]
        if sim::is_simulated() {
            return sim::notify(&self.object, false);
        }
        self.inner.notify_one();
    }

    /// Wakes every waiter.
    pub fn notify_all(&self) {
        #[cfg(feature = "sim")]
        if sim::is_simulated() {
            return sim::notify(&self.object, true);
        }
        self.inner.notify_all();
    }
}

/// A lock that many may read or one may write.
#[derive(Debug)]
pub struct RwLock<T: ?Sized> {
    site: Site,
    inner: std::sync::RwLock<T>,
}

/// Shared access to the value in a [`RwLock`].
pub struct ReadGuard<'a, T: ?Sized> {
    inner: std::sync::RwLockReadGuard<'a, T>,
    /// Dropped after the lock was given back.
    _leave: Leave<'a>,
}

/// Exclusive access to the value in a [`RwLock`].
pub struct WriteGuard<'a, T: ?Sized> {
    inner: std::sync::RwLockWriteGuard<'a, T>,
    /// Dropped after the lock was given back.
    _leave: Leave<'a>,
}

impl<T> RwLock<T> {
    /// A new lock around a value.
    #[track_caller]
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { site: Site::here(), inner: std::sync::RwLock::new(value) }
    }
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for shared access.
    #[cfg_attr(not(feature = "sim"), expect(clippy::unnecessary_literal_unwrap, reason = "only a simulation has one"))]
    pub fn read(&self) -> ReadGuard<'_, T> {
        order::about_to_wait(self.site.class);
        #[cfg(feature = "sim")]
        let inner = sim::acquire(Event::Read, &self.site.object, || match self.inner.try_read() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(p)) => Some(p.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        #[cfg(not(feature = "sim"))]
        let inner = None;
        let inner = inner.unwrap_or_else(|| self.inner.read().unwrap_or_else(PoisonError::into_inner));
        order::enter(self.site.class);
        ReadGuard { inner, _leave: Leave(&self.site) }
    }

    /// Waits for exclusive access.
    #[cfg_attr(not(feature = "sim"), expect(clippy::unnecessary_literal_unwrap, reason = "only a simulation has one"))]
    pub fn write(&self) -> WriteGuard<'_, T> {
        order::about_to_wait(self.site.class);
        #[cfg(feature = "sim")]
        let inner = sim::acquire(Event::Write, &self.site.object, || match self.inner.try_write() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(p)) => Some(p.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        #[cfg(not(feature = "sim"))]
        let inner = None;
        let inner = inner.unwrap_or_else(|| self.inner.write().unwrap_or_else(PoisonError::into_inner));
        order::enter(self.site.class);
        WriteGuard { inner, _leave: Leave(&self.site) }
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Says that a lock was given back.
struct Leave<'a>(&'a Site);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
