//! A file in memory: the one place where Lignite maps one, for the log.
//!
//! A store into a shared mapping is in the kernel's memory when it has been made, as after a write: it
//! survives the death of the process, and the next sync of the file takes it along. It costs no call.
//!
//! What can go wrong, and who sees to it:
//!
//! - A store behind the end of the file, or into a block that the disk has no space for, kills the
//!   process (`SIGBUS`). The log writes zeros before it stores; the range of the mapping itself is
//!   checked here.
//! - A device that fails when a page is to be read back in kills it as well. That is a stated limit of
//!   the mode; pages that were written just now are in memory.
//! - Somebody else who cuts the file would do the same. The lock of the directory keeps other
//!   databases away; nothing keeps away a hostile owner of the files.
//!
//! Which file systems are trusted is a list: ext4 and XFS, which write a mapped page to where its block
//! is. On those that copy on write, a block that was written takes a new one when it is stored into.

#![allow(unsafe_code, reason = "a mapping is a pointer")]

use std::fs::File as OsFile;
use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::Mapping;

/// ext2, ext3 and ext4 share a number.
const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;

/// True on a file system whose mapped pages, once written, need no space again.
pub(super) fn is_trusted(file: &OsFile) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| [EXT4, XFS].contains(&(found.f_type as u64 & 0xffff_ffff)))
}

/// So many bytes that lie behind are let go at once: the system counts what is mapped as memory of the
/// process, although it is the kernel's.
const RELEASE_STEP: usize = 4 << 20;

/// The first bytes of a file, whether or not it is that long yet.
pub(super) struct FileMapping {
    region: Region,
    /// Up to here the pages were let go: a multiple of the step.
    released: usize,
}

impl FileMapping {
    /// Maps `len` bytes from the start of the file, which must be open for reading and writing.
    pub(super) fn new(file: &OsFile, len: u64) -> io::Result<FileMapping> {
        let len = usize::try_from(len).ok().filter(|len| *len > 0 && *len <= isize::MAX as usize);
        let len = len.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a null hint without MAP_FIXED lets the kernel choose a free range, so no memory that
        // anybody uses is replaced.
        let base =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the `len` bytes from `base` were mapped just now, readable and writable, they stay so
        // until `drop`, and nobody else knows of them.
        Ok(FileMapping { region: unsafe { Region::new(base, len) }, released: 0 })
    }
}

impl FileMapping {
    /// Lets the pages go that lie whole steps before `offset`. Whoever stores there again gets them back.
    #[cold]
    fn release_before(&mut self, offset: usize) {
        let end = offset / RELEASE_STEP * RELEASE_STEP;
        let len = end.min(self.region.len).saturating_sub(self.released);
        // SAFETY: the range lies in the mapping, which `drop` alone takes away, and begins at a page. Nobody
        // holds a reference into it, since `store` lends one no longer than for a call. A shared mapping of a
        // file loses nothing by this: its bytes are the page cache's, which remembers what is to be written.
        let _ = unsafe { madvise(self.region.base.as_ptr().add(self.released).cast(), len, Advice::LinuxDontNeed) };
        self.released = end;
    }
}

impl Mapping for FileMapping {
    fn len(&self) -> u64 {
        self.region.len as u64
    }

    fn store(&mut self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        let Some(bytes) = self.region.bytes(offset, len) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        fill(bytes);
        // Within the region, so it fits.
        let begin = offset as usize;
        if begin >= self.released + 2 * RELEASE_STEP {
            self.release_before(begin);
        }
        Ok(())
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `new` mapped, whole, and the region that pointed into it
        // ends with `self`; `store` lent it no longer than for a call.
        let _ = unsafe { munmap(self.region.base.as_ptr().cast(), self.region.len) };
    }
}

/// Bytes that belong to nobody but their region.
struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is the only way to its bytes, like a boxed slice: which thread uses it does not matter.
unsafe impl Send for Region {}

impl Region {
    /// The region of `len` bytes from `base`.
    ///
    /// # Safety
    /// The bytes are initialized, readable and writable for as long as the region lives, are used
    /// through it alone, and `len` is at most `isize::MAX`.
    unsafe fn new(base: NonNull<u8>, len: usize) -> Region {
        Region { base, len }
    }

    /// Some of the bytes; none if they do not lie in the region.
    fn bytes(&mut self, offset: u64, len: usize) -> Option<&mut [u8]> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset + len` lies within the region, whose bytes are initialized and used through it
        // alone (the contract of `new`); the borrow of `self` keeps everybody else away meanwhile. Other
        // processes, and the kernel, read the pages; nobody else writes to a file of a locked database.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), len) })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sync::spawn;

    /// Pages that were let go are in the file, and come back when they are stored into again.
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn what_is_let_go_is_in_the_file() {
        use std::io::{Read as _, Seek as _, Write as _};
        const LEN: usize = 5 * RELEASE_STEP;
        let mut file = tempfile();
        file.write_all(&vec![0; LEN]).unwrap();
        let mut mapping = FileMapping::new(&file, LEN as u64).unwrap();
        let mut twin = vec![0u8; LEN];
        let piece = 100_003;
        for (n, begin) in (0..LEN - piece).step_by(piece).chain([17, RELEASE_STEP - 5]).enumerate() {
            mapping.store(begin as u64, piece, &mut |bytes| bytes.fill(n as u8 + 1)).unwrap();
            twin[begin..begin + piece].fill(n as u8 + 1);
        }
        assert_eq!(mapping.released, 4 * RELEASE_STEP);
        let mut found = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut found).unwrap();
        assert!(found == twin);
        drop(mapping);
    }

    /// A file without a name.
    #[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real file is what this is about")]
    fn tempfile() -> OsFile {
        let path = std::env::temp_dir().join(format!("lignite-mapped-{}", std::process::id()));
        let file = OsFile::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }

    /// Against a safe twin; this is what Miri can look at.
    #[test]
    fn a_region_lends_what_lies_in_it() {
        let mut memory = vec![0u8; 64];
        let mut twin = vec![0u8; 64];
        let base = NonNull::new(memory.as_mut_ptr()).unwrap();
        // SAFETY: the vector outlives the region and is not touched while it lives.
        let mut region = unsafe { Region::new(base, 64) };
        for offset in 0..70usize {
            for len in [0, 1, 7, 63, 64, 65, usize::MAX] {
                let n = (offset * 31 + len % 100) as u8;
                let there = offset.checked_add(len).and_then(|end| twin.get_mut(offset..end));
                match (region.bytes(offset as u64, len), there) {
                    (Some(bytes), Some(expected)) => {
                        assert_eq!(bytes, expected);
                        bytes.fill(n);
                        expected.fill(n);
                    }
                    (found, expected) => assert_eq!(found.is_some(), expected.is_some(), "{offset} {len}"),
                }
            }
        }
        assert!(region.bytes(u64::MAX, 1).is_none());
        let expected = twin.clone();
        let elsewhere = spawn("region", move || assert_eq!(region.bytes(0, 64).unwrap(), expected)).unwrap();
        assert!(elsewhere.join());
        assert_eq!(memory, twin);
    }
}
