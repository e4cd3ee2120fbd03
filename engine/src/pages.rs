//! Memory straight from the system: aligned pieces of 2 MiB in huge pages.
//!
//! What is larger than the processor's caches and read at random costs, beside the miss itself, a walk through
//! the page tables, which in a virtual machine is another miss or two. Huge pages save most of those.

#![allow(unsafe_code, reason = "mappings have no safe interface that aligns them")]

use std::ptr::NonNull;

/// How long a piece is, and how it is aligned.
pub const HUGE_LEN: usize = 2 << 20;

/// A piece of zeros with huge pages if the system has them; none if it refuses.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub fn map_huge() -> Option<NonNull<u8>> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // Twice the length holds an aligned piece; what lies around it is given back.
    // SAFETY: an anonymous mapping at an address of the system's choice touches nothing of ours.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), 2 * HUGE_LEN, protection, MapFlags::PRIVATE) };
    let start = NonNull::new(start.ok()?.cast::<u8>())?;
    let before = start.align_offset(HUGE_LEN);
    // SAFETY: the piece lies within the mapping, since `before` is less than its alignment, and what lies around
    // it nobody knows.
    let base = unsafe {
        let (base, end) = (start.add(before), start.add(before + HUGE_LEN));
        unmap(start, before);
        unmap(end, HUGE_LEN - before);
        base
    };
    // SAFETY: advice about our own mapping; a system without huge pages refuses it, and that is fine.
    let _ = unsafe { madvise(base.as_ptr().cast(), HUGE_LEN, Advice::LinuxHugepage) };
    Some(base)
}

/// As on other systems: none.
#[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
pub fn map_huge() -> Option<NonNull<u8>> {
    None
}

/// Gives a part of a mapping back.
///
/// # Safety
///
/// It is part of what [`map_huge`] returned, and nobody uses it any more.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub unsafe fn unmap(at: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: promised by the caller. If the system refuses, the memory stays mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(at.as_ptr().cast(), len) };
    }
}

/// Nothing to give back.
///
/// # Safety
///
/// As on Linux.
#[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
pub unsafe fn unmap(_: NonNull<u8>, _: usize) {}
