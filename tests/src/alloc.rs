//! An allocator that counts, per thread, so that tests which run side by side do not see each other.
//!
//! A test binary installs [`Counting`] as its global allocator. [`measure`] then says what a closure
//! allocated on the calling thread, and [`fail_nth`] lets one of its larger requests for bytes fail.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a closure allocated on its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls that allocated or grew.
    pub allocations: u64,
    /// The most bytes that were live at once, above what was live at the start.
    pub peak_bytes: i64,
    /// The largest single request.
    pub largest_bytes: usize,
}

thread_local! {
    // Constant initialisers without destructors: safe to touch from inside the allocator.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Runs `body` and says what it allocated on this thread. Calls do not nest.
pub fn measure<R>(body: impl FnOnce() -> R) -> (R, Usage) {
    let start = LIVE.get();
    ALLOCATIONS.set(0);
    PEAK.set(start);
    LARGEST.set(0);
    let result = body();
    let usage = Usage { allocations: ALLOCATIONS.get(), peak_bytes: PEAK.get() - start, largest_bytes: LARGEST.get() };
    (result, usage)
}

fn grew(bytes: usize, by: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    let live = LIVE.get() + by;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    LARGEST.set(LARGEST.get().max(bytes));
}

thread_local! {
    static FAIL_IN: Cell<u64> = const { Cell::new(0) };
    static FAIL_MIN: Cell<usize> = const { Cell::new(0) };
}

/// Lets the `n`-th request from now for at least `min` plain bytes fail on this thread, once; 0 for none.
/// Requests for memory that is to be zeroed, or aligned, are not counted: only what a buffer reserves.
pub fn fail_nth(n: u64, min: usize) {
    FAIL_IN.set(n);
    FAIL_MIN.set(min);
}

/// Takes the failure back; true if it had struck.
pub fn has_failed() -> bool {
    FAIL_IN.replace(0) == 0
}

fn fails(layout: Layout, bytes: usize) -> bool {
    let n = FAIL_IN.get();
    if n == 0 || layout.align() != 1 || bytes < FAIL_MIN.get() {
        return false;
    }
    FAIL_IN.set(n - 1);
    n == 1
}

/// The system's allocator with the counters of this module in front.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is handed to `System` unchanged, whose contract is the same; the counters touch
// thread-local cells that need neither allocation nor destructor.
#[expect(unsafe_code, reason = "a global allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout, layout.size()) {
            return std::ptr::null_mut();
        }
        grew(layout.size(), layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grew(layout.size(), layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails(layout, size) {
            return std::ptr::null_mut();
        }
        grew(size, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
