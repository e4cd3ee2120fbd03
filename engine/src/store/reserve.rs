//! The reserve: space on disk that is kept for the day when there is no other.
//!
//! A file without content for which the file system has set space aside. The first call that gets no
//! space and has a right to the reserve (a delete, a flush, a compaction, the log and manifest they
//! need, the open and the close) gives it back and is done once more. From then on the store is
//! *short*: writes that need space are refused, so that they cannot use up what deletes and
//! compactions live on, until the reserve can be made again, which every such write and every
//! finished background job tries.
//!
//! Whether there is a reserve is never a reason for any other call to fail. On a disk that has not
//! room for all of it, an open takes a part of what there is.

use std::path::{Path, PathBuf};

use crate::error::{ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::Fs;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

/// Less than this helps nobody.
const SIZE_MIN: u64 = 64 << 10;

/// The reserve of one store.
pub struct Reserve {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    state: Mutex<State>,
    /// As in `state`, to be asked without a lock.
    short: AtomicBool,
    /// How often it was given back.
    releases: AtomicU64,
}

struct State {
    /// What there is to be; 0 for no reserve.
    size: u64,
    /// True while the file has its space.
    held: bool,
    /// Calls that live on what was given back; while there are any it is not made again.
    users: usize,
}

/// A call that may use what the reserve has given back, for as long as this lives.
pub struct InUse<'a>(&'a Reserve);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.state.lock().users -= 1;
    }
}

impl Reserve {
    /// Makes the reserve of a database that was opened: anew, because nobody can tell whether a file
    /// that was found still has its space.
    pub fn make(fs: Arc<dyn Fs>, dir: &Path, size: u64) -> Reserve {
        let path = FileName::Reserve.path(dir);
        let _ = fs.remove_file(&path); // It need not be there.
        let mut state = State { size, held: size > 0 && allocate(&*fs, &path, size), users: 0 };
        while !state.held && state.size > SIZE_MIN {
            // Of what is left on a small disk it takes half at most, and a quarter at least.
            state.size = (state.size / 2).max(SIZE_MIN);
            if allocate(&*fs, &path, state.size) {
                let _ = fs.remove_file(&path);
                state.size = (state.size / 2).max(SIZE_MIN);
                state.held = allocate(&*fs, &path, state.size);
            }
        }
        let short = AtomicBool::new(size > 0 && !state.held);
        Reserve { fs, path, state: Mutex::new(state), short, releases: AtomicU64::new(0) }
    }

    /// None, for a store that is only read.
    pub fn none(fs: Arc<dyn Fs>, dir: &Path) -> Reserve {
        let state = Mutex::new(State { size: 0, held: false, users: 0 });
        Reserve {
            fs,
            path: FileName::Reserve.path(dir),
            state,
            short: AtomicBool::new(false),
            releases: AtomicU64::new(0),
        }
    }

    /// Does `body`, and once more if it gets no space and the reserve was given back, by this call or
    /// meanwhile by another one.
    pub fn with<R>(&self, mut body: impl FnMut() -> Result<R>) -> Result<R> {
        let before = self.releases();
        match body() {
            Err(e) if e.kind() == ErrorKind::NoSpace => match self.use_since(before) {
                Some(_in_use) => body(),
                None => Err(e),
            },
            outcome => outcome,
        }
    }

    /// How often it was given back; for [`Reserve::use_since`].
    pub fn releases(&self) -> u64 {
        self.releases.load(Ordering::Acquire)
    }

    /// Gives the space back, if nobody has since [`Reserve::releases`] said `before`, for the caller to
    /// use; none if there is nothing to give.
    pub fn use_since(&self, before: u64) -> Option<InUse<'_>> {
        let mut state = self.state.lock();
        if state.held && self.fs.remove_file(&self.path).is_ok() {
            state.held = false;
            self.releases.fetch_add(1, Ordering::AcqRel);
            self.short.store(true, Ordering::Release);
            tracing::warn!(bytes = state.size, "the disk is full: the reserve was given back");
        }
        if self.releases() == before {
            return None;
        }
        state.users += 1;
        Some(InUse(self))
    }

    /// Makes the reserve again if it was given back; false if there is still no space for it.
    pub fn restore(&self) -> bool {
        if !self.is_short() {
            return true;
        }
        let mut state = self.state.lock();
        if !state.held && state.users == 0 {
            state.held = allocate(&*self.fs, &self.path, state.size);
            self.short.store(!state.held, Ordering::Release);
        }
        state.held
    }

    /// True after the reserve was given back and before it was made again.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Bytes that are set aside now.
    pub fn bytes(&self) -> u64 {
        let state = self.state.lock();
        if state.held { state.size } else { 0 }
    }

    /// How large it is to be; 0 for none.
    pub fn size(&self) -> u64 {
        self.state.lock().size
    }
}

impl std::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reserve({} of {} bytes)", self.bytes(), self.size())
    }
}

/// Makes the file with its space, or leaves nothing.
fn allocate(fs: &dyn Fs, path: &Path, size: u64) -> bool {
    let mut created = fs.create_new(path);
    if created.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists) {
        // An earlier attempt could not even remove what it had got.
        created = fs.remove_file(path).and_then(|()| fs.create_new(path));
    }
    let made = created.and_then(|file| file.allocate(size));
    if made.is_err() {
        let _ = fs.remove_file(path); // Also what a failed allocation has got.
    }
    made.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fs::fault::{CallKind, Errno, Fault, FaultControl, FaultFs, Rule};
    use crate::fs::mem::MemFs;

    fn disk(free: u64) -> (Arc<dyn Fs>, FaultControl) {
        let memory = MemFs::new();
        memory.create_dir_all(Path::new("/db")).unwrap();
        let (fs, control) = FaultFs::new(Arc::new(memory));
        control.set_free_bytes(Some(free));
        (fs, control)
    }

    /// G12. What a failed attempt could not remove is no reason to fail for ever.
    #[test]
    fn it_is_made_again_over_what_was_left() {
        let (fs, control) = disk(3 << 20);
        let reserve = Reserve::make(fs, Path::new("/db"), 2 << 20);
        assert!(reserve.use_since(0).is_some());
        control.add(Rule::new(Fault::Error(Errno::Enospc)).kind(CallKind::Allocate));
        control.add(Rule::new(Fault::Error(Errno::Eio)).kind(CallKind::Remove));
        assert!(!reserve.restore() && reserve.restore());
        assert_eq!(reserve.bytes(), 2 << 20);
    }

    /// G12.
    #[test]
    fn it_is_given_back_once_and_made_again() {
        let (fs, control) = disk(3 << 20);
        let reserve = Reserve::make(fs.clone(), Path::new("/db"), 2 << 20);
        assert_eq!((reserve.bytes(), control.free_bytes()), (2 << 20, Some(1 << 20)));
        assert!(reserve.restore() && !reserve.is_short());
        let before = reserve.releases();
        let in_use = reserve.use_since(before).unwrap();
        assert!(reserve.use_since(before + 1).is_none(), "there is nothing left to give");
        assert!(!reserve.restore(), "somebody lives on it");
        drop(in_use);
        assert_eq!((reserve.bytes(), control.free_bytes()), (0, Some(3 << 20)));
        control.set_free_bytes(Some((2 << 20) - 1));
        assert!(!reserve.restore() && reserve.is_short());
        assert_eq!(control.free_bytes(), Some((2 << 20) - 1), "a failed attempt keeps nothing");
        control.set_free_bytes(Some(2 << 20));
        assert!(reserve.restore() && !reserve.is_short());
        // The next open makes it anew.
        let reserve = Reserve::make(fs.clone(), Path::new("/db"), 1 << 20);
        assert_eq!((reserve.bytes(), control.free_bytes()), (1 << 20, Some(1 << 20)));
        let none = Reserve::make(fs.clone(), Path::new("/db"), 0);
        assert!(!none.is_short() && none.use_since(0).is_none() && none.restore());
        assert!(fs.metadata(&FileName::Reserve.path(Path::new("/db"))).is_err());
    }

    /// G12. Two jobs meet the full disk at once: the reserve that one gives back is there for both.
    #[test]
    fn what_another_gave_back_counts() {
        let (fs, _control) = disk(3 << 20);
        let reserve = Reserve::make(fs, Path::new("/db"), 1 << 20);
        let mut calls = 0;
        let outcome = reserve.with(|| {
            calls += 1;
            match calls {
                1 => {
                    drop(reserve.use_since(0).expect("the other one"));
                    Err(crate::error::Error::new(ErrorKind::NoSpace, "full"))
                }
                _ => Ok(()),
            }
        });
        assert!(outcome.is_ok() && calls == 2);
        // Nothing is left to give.
        let full = || Err::<(), _>(crate::error::Error::new(ErrorKind::NoSpace, "full"));
        assert_eq!(reserve.with(full).unwrap_err().kind(), ErrorKind::NoSpace);
    }

    /// G12.
    #[test]
    fn a_small_disk_gives_what_it_has() {
        let (fs, control) = disk(1 << 20);
        let reserve = Reserve::make(fs.clone(), Path::new("/db"), 16 << 20);
        assert!(reserve.bytes() == 512 << 10 && !reserve.is_short());
        assert!(reserve.use_since(0).is_some());
        control.set_free_bytes(Some(10));
        let reserve = Reserve::make(fs, Path::new("/db"), 16 << 20);
        assert!(reserve.bytes() == 0 && reserve.is_short() && reserve.size() == SIZE_MIN);
    }
}
