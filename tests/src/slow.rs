//! A file system whose syncs take a while.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lignite::internals::fs::{File, FileLock, Fs, LockedBy, Metadata};

/// Another file system, with a pause before every sync of a file.
pub struct SlowSync {
    inner: Arc<dyn Fs>,
    pause: Duration,
}

struct SlowFile {
    inner: Arc<dyn File>,
    pause: Duration,
}

impl SlowSync {
    /// Slows `inner` down.
    pub fn new(inner: Arc<dyn Fs>, pause: Duration) -> SlowSync {
        SlowSync { inner, pause }
    }

    fn slow(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SlowFile { inner, pause: self.pause })
    }
}

impl Fs for SlowSync {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.open(path).map(|f| self.slow(f))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.create_new(path).map(|f| self.slow(f))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.inner.metadata(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn FileLock>, LockedBy>> {
        self.inner.lock(path)
    }
}

impl File for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.pause);
        self.inner.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }
}
