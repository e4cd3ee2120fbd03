//! Which locks a thread holds, and whether all threads take them in one order.
//!
//! A *class* is the place in the source where a lock is made: every family's view is one class. In
//! builds with debug assertions or the feature `sim`, taking a lock of class B while holding one of
//! class A is remembered for the life of the process, and a contradiction (A is known to come after B)
//! is a panic that names both places, even if the two threads never met. Locks of the same class are
//! not ordered among each other, and an attempt that does not wait is no edge. Other builds count only.

#![cfg_attr(loom, expect(dead_code, reason = "a model does not count locks"))]

use std::cell::Cell;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// How many locks of this module the calling thread holds.
pub fn locks_held() -> usize {
    HELD.with(Cell::get)
}

/// Where a lock was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    #[cfg(any(debug_assertions, feature = "sim"))]
    made_at: &'static std::panic::Location<'static>,
}

impl Class {
    #[track_caller]
    pub(super) const fn here() -> Class {
        Class {
            #[cfg(any(debug_assertions, feature = "sim"))]
            made_at: std::panic::Location::caller(),
        }
    }

    #[cfg(feature = "sim")]
    pub(super) fn place(self) -> &'static std::panic::Location<'static> {
        self.made_at
    }
}

/// Before a thread waits for a lock: panics if the order is wrong.
#[inline]
pub(super) fn about_to_wait(class: Class) {
    #[cfg(any(debug_assertions, feature = "sim"))]
    graph::check(class.made_at);
    let _ = class;
}

/// A lock was taken.
#[inline]
pub(super) fn enter(class: Class) {
    HELD.with(|h| h.set(h.get() + 1));
    #[cfg(any(debug_assertions, feature = "sim"))]
    graph::push(class.made_at);
    let _ = class;
}

/// A lock was given back.
#[inline]
pub(super) fn leave(class: Class) {
    HELD.with(|h| h.set(h.get() - 1));
    #[cfg(any(debug_assertions, feature = "sim"))]
    graph::pop(class.made_at);
    let _ = class;
}

#[cfg(any(debug_assertions, feature = "sim"))]
mod graph {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::panic::Location;
    use std::sync::{Mutex, PoisonError};

    type Place = &'static Location<'static>;

    thread_local! {
        static STACK: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
        /// Edges this thread has reported already, so that the common case asks nobody.
        static KNOWN: RefCell<BTreeSet<(Place, Place)>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// From each class to those that were taken while it was held.
    static EDGES: Mutex<BTreeMap<Place, BTreeSet<Place>>> = Mutex::new(BTreeMap::new());

    pub(super) fn push(class: Place) {
        STACK.with_borrow_mut(|s| s.push(class));
    }

    pub(super) fn pop(class: Place) {
        STACK.with_borrow_mut(|s| {
            if let Some(at) = s.iter().rposition(|held| *held == class) {
                s.remove(at);
            }
        });
    }

    pub(super) fn check(wanted: Place) {
        let contradiction = STACK.with_borrow(|stack| {
            stack.iter().filter(|held| **held != wanted).find_map(|held| add(held, wanted).map(|path| (*held, path)))
        });
        if let Some((held, path)) = contradiction {
            // Once is enough, and unwinding takes locks as well.
            if !std::thread::panicking() {
                panic!("lock order: the lock made at {wanted} is wanted while that of {held} is held, but {path}");
            }
        }
    }

    /// Remembers an edge; says the path back if there is one.
    fn add(held: Place, wanted: Place) -> Option<String> {
        if KNOWN.with_borrow(|known| known.contains(&(held, wanted))) {
            return None;
        }
        let mut edges = EDGES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = path(&edges, wanted, held) {
            let places: Vec<String> = path.iter().map(|p| p.to_string()).collect();
            return Some(format!("elsewhere they are taken in the order {}", places.join(" > ")));
        }
        edges.entry(held).or_default().insert(wanted);
        KNOWN.with_borrow_mut(|known| known.insert((held, wanted)));
        None
    }

    fn path(edges: &BTreeMap<Place, BTreeSet<Place>>, from: Place, to: Place) -> Option<Vec<Place>> {
        let mut came_from: BTreeMap<Place, Place> = BTreeMap::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if at == to {
                let mut path = vec![to];
                while let Some(before) = came_from.get(path[path.len() - 1]).filter(|_| path[path.len() - 1] != from) {
                    path.push(before);
                }
                path.reverse();
                return Some(path);
            }
            for next in edges.get(at).into_iter().flatten() {
                if *next != from && !came_from.contains_key(next) {
                    came_from.insert(next, at);
                    open.push(next);
                }
            }
        }
        None
    }
}
