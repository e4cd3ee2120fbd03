//! Real files: [`Fs`] over the operating system.
//!
//! What it adds to the bare calls: short reads and writes are continued and interrupted calls are
//! repeated; nothing but regular files is opened and no symbolic link is followed; new files and
//! directories are for their owner only. Descriptors are closed on exec, as std does it.
//!
//! The lock is the operating system's advisory lock plus a table of this process, because some file
//! systems grant the former twice to one process. The table goes by the identity of the file, not
//! by its path. The lock file is never removed: a lock on a removed file would exclude nobody.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door")]

use std::collections::BTreeSet;
use std::fs::{File as OsFile, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::fs::{File, FileLock, Fs, LockedBy, Metadata};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::still::Mutex;

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFs;

impl DiskFs {
    /// The file system of the operating system.
    pub fn new() -> DiskFs {
        DiskFs
    }
}

/// Where the system keeps temporary files.
pub fn temp_dir() -> PathBuf {
    std::env::temp_dir()
}

impl Fs for DiskFs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        platform::owner_only_dir(&mut builder);
        builder.create(here_if_empty(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        let file = open_regular(path, &mut options)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = open_regular(path, &mut options)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(here_if_empty(path))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = std::fs::symlink_metadata(here_if_empty(path))?;
        let len = if found.is_dir() { 0 } else { found.len() };
        Ok(Metadata { len, is_dir: found.is_dir(), is_file: found.is_file() })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = here_if_empty(path);
        match platform::identity_of_dir(path).ok().and_then(|identity| OpenDir::find(&identity)) {
            Some(dir) => platform::sync_dir(&dir),
            None => platform::sync_dir(&platform::open_dir(path)?),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn FileLock>, LockedBy>> {
        Ok(take_lock(path)?.map(|lock| -> Box<dyn FileLock> { Box::new(lock) }))
    }
}

fn take_lock(path: &Path) -> io::Result<Result<DiskLock, LockedBy>> {
    // The path may be given to another file between open and lock; then we would hold a lock that
    // excludes nobody, so look again.
    for _ in 0..8 {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_regular(path, &mut options)?;
        let identity = platform::identity(&file, path)?;
        let Some(entry) = HeldEntry::enter(identity) else {
            return Ok(Err(LockedBy { pid: std::process::id() }));
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(LockedBy { pid: read_pid(&file) })),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        if platform::identity_of_path(path).is_ok_and(|now| now == entry.0) {
            let dir = path.parent().map(|dir| OpenDir::open(here_if_empty(dir))).transpose()?;
            return Ok(Ok(DiskLock { _entry: entry, _dir: dir, file, signed: AtomicBool::new(false) }));
        }
    }
    Err(io::Error::other("the lock file is replaced again and again"))
}

struct DiskFile(OsFile);

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match platform::read_at(&self.0, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match platform::write_at(&self.0, &buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero)),
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        platform::allocate(&self.0, len)
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn is_mappable(&self) -> bool {
        super::mapped::is_trusted(&self.0)
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn map(&self, len: u64) -> io::Result<Box<dyn super::Mapping>> {
        Ok(Box::new(super::mapped::FileMapping::new(&self.0, len)?))
    }
}

/// The lock is given back first. Fields are dropped in this order: while the file is open its identity
/// cannot be given to another file, so the entry goes before it.
struct DiskLock {
    _entry: HeldEntry,
    _dir: Option<OpenDir>,
    file: OsFile,
    signed: AtomicBool,
}

impl FileLock for DiskLock {
    fn sign(&self) {
        let text = format!("{:<15}\n", std::process::id());
        let _ = platform::write_at(&self.file, text.as_bytes(), 0);
        self.signed.store(true, Ordering::Release);
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // The next holder signs only when it has opened the database; until then nobody is better
        // than the wrong one.
        if self.signed.load(Ordering::Acquire) {
            let _ = self.file.set_len(0);
        }
        // Closing would not do while another thread is between fork and exec: the lock lives as long as
        // the child's copy of the descriptor.
        let _ = self.file.unlock();
    }
}

/// The identities of the lock files that this process holds.
static HELD: Mutex<BTreeSet<platform::Identity>> = Mutex::new(BTreeSet::new());

/// A place in [`HELD`].
struct HeldEntry(platform::Identity);

impl HeldEntry {
    fn enter(identity: platform::Identity) -> Option<HeldEntry> {
        let entered = HELD.lock().insert(identity.clone());
        entered.then(|| HeldEntry(identity))
    }
}

impl Drop for HeldEntry {
    fn drop(&mut self) {
        HELD.lock().remove(&self.0);
    }
}

/// Directories in which this process holds a lock, open for as long: to sync one takes no descriptor
/// then. A want of descriptors would look like a failed sync otherwise, and that is for ever.
static OPEN_DIRS: Mutex<Vec<(platform::Identity, Arc<platform::Dir>)>> = Mutex::new(Vec::new());

/// A place in [`OPEN_DIRS`].
struct OpenDir(platform::Identity);

impl OpenDir {
    fn open(path: &Path) -> io::Result<OpenDir> {
        let dir = platform::open_dir(path)?;
        let identity = platform::identity_of_dir(path)?;
        OPEN_DIRS.lock().push((identity.clone(), Arc::new(dir)));
        Ok(OpenDir(identity))
    }

    fn find(identity: &platform::Identity) -> Option<Arc<platform::Dir>> {
        OPEN_DIRS.lock().iter().find(|open| open.0 == *identity).map(|open| open.1.clone())
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        let mut dirs = OPEN_DIRS.lock();
        if let Some(place) = dirs.iter().position(|(identity, _)| *identity == self.0) {
            dirs.swap_remove(place);
        }
    }
}

fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<OsFile> {
    let file = platform::open_no_follow(path, options)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// The process id that the holder left in its lock file; 0 if there is none.
fn read_pid(file: &OsFile) -> u32 {
    let mut buf = [0; 16];
    let n = platform::read_at(file, &mut buf, 0).unwrap_or(0);
    std::str::from_utf8(&buf[..n]).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The parent of a relative path of one part is the empty path, which the system does not know.
fn here_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(unix)]
mod platform {
    use std::fs::{DirBuilder, File, Metadata, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;

    use rustix::fs::OFlags;

    /// What makes two paths the same file.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) struct Identity {
        device: u64,
        inode: u64,
    }

    pub(super) fn identity(file: &File, _path: &Path) -> io::Result<Identity> {
        file.metadata().map(|found| of(&found))
    }

    pub(super) fn identity_of_path(path: &Path) -> io::Result<Identity> {
        std::fs::symlink_metadata(path).map(|found| of(&found))
    }

    fn of(found: &Metadata) -> Identity {
        Identity { device: found.dev(), inode: found.ino() }
    }

    pub(super) fn owner_only_dir(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    /// `NONBLOCK` so that a named pipe in the file's place is refused instead of waited for; it
    /// means nothing for regular files.
    pub(super) fn open_no_follow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        options.mode(0o600).custom_flags(flags.bits() as i32).open(path).map_err(|e| {
            if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
                return io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link, and none is followed here");
            }
            e
        })
    }

    pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(buf, offset)
    }

    pub(super) fn identity_of_dir(path: &Path) -> io::Result<Identity> {
        std::fs::metadata(path).map(|found| of(&found))
    }

    /// An open directory.
    pub(super) type Dir = File;

    pub(super) fn open_dir(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
    }

    pub(super) fn sync_dir(dir: &Dir) -> io::Result<()> {
        match dir.sync_all() {
            // Some network file systems have no such call; there is nothing better to do on them.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        loop {
            match fallocate(file, FallocateFlags::KEEP_SIZE, 0, len) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn allocate(_file: &File, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(windows)]
mod platform {
    use std::fs::{DirBuilder, File, OpenOptions};
    use std::io;
    use std::os::windows::fs::FileExt;
    use std::path::{Path, PathBuf};

    /// The canonical path: std does not offer the file's index.
    pub(super) type Identity = PathBuf;

    pub(super) fn identity(_file: &File, path: &Path) -> io::Result<Identity> {
        path.canonicalize()
    }

    pub(super) fn identity_of_path(path: &Path) -> io::Result<Identity> {
        path.canonicalize()
    }

    pub(super) fn identity_of_dir(path: &Path) -> io::Result<Identity> {
        path.canonicalize()
    }

    pub(super) fn owner_only_dir(_builder: &mut DirBuilder) {}

    pub(super) fn open_no_follow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a symbolic link"));
        }
        options.open(path)
    }

    pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buf, offset)
    }

    pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.seek_write(buf, offset)
    }

    /// Directories cannot be synced here; NTFS journals names in order.
    pub(super) struct Dir;

    pub(super) fn open_dir(_path: &Path) -> io::Result<Dir> {
        Ok(Dir)
    }

    pub(super) fn sync_dir(_dir: &Dir) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn allocate(_file: &File, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::fs) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::fs::{read_all, read_exact_at};

    /// A directory of the test's own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Scratch {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("lignite-fs-{}-{n}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What every file system must do, run over each of them.
    pub(in crate::fs) fn behaves(fs: &dyn Fs, dir: &Path) {
        files(fs, &dir.join("files"));
        names(fs, &dir.join("names"));
        locks(fs, &dir.join("locks"));
        mappings(fs, &dir.join("mappings"));
    }

    fn kind<T>(result: io::Result<T>) -> ErrorKind {
        result.err().expect("the call must fail").kind()
    }

    fn files(fs: &dyn Fs, dir: &Path) {
        fs.create_dir_all(&dir.join("deep/er")).unwrap();
        fs.create_dir_all(&dir.join("deep/er")).unwrap();
        let path = dir.join("f");
        let file = fs.create_new(&path).unwrap();
        assert_eq!(kind(fs.create_new(&path)), ErrorKind::AlreadyExists);
        assert!(file.is_empty().unwrap());
        file.allocate(100_000).unwrap();
        file.allocate(0).unwrap();
        assert_eq!(file.len().unwrap(), 0, "allocation keeps the length");
        file.write_all_at(b"hello", 0).unwrap();
        file.write_all_at(b"world", 70_000).unwrap();
        assert_eq!(file.len().unwrap(), 70_005);
        let mut buf = [9; 8];
        assert_eq!(file.read_at(&mut buf, 3).unwrap(), 8);
        assert_eq!(&buf, b"lo\0\0\0\0\0\0");
        assert_eq!(file.read_at(&mut buf, 70_003).unwrap(), 2);
        assert_eq!(&buf[..2], b"ld");
        assert_eq!(file.read_at(&mut buf, 1 << 30).unwrap(), 0);
        assert_eq!(kind(read_exact_at(&*file, &mut buf, 70_000)), ErrorKind::UnexpectedEof);
        file.set_len(3).unwrap();
        file.set_len(6).unwrap();
        assert_eq!(read_all(&*file, 100).unwrap(), b"hel\0\0\0");
        assert!(read_all(&*file, 5).is_err());
        file.sync_data().unwrap();
        fs.sync_dir(dir).unwrap();
        let reader = fs.open(&path).unwrap();
        assert_eq!(reader.len().unwrap(), 6);
        assert!(reader.write_all_at(b"x", 0).is_err(), "opened for reading");
        assert!(fs.open(dir).is_err(), "a directory is no file");
        assert_eq!(kind(fs.open(&dir.join("none"))), ErrorKind::NotFound);
        assert_eq!(fs.metadata(&path).unwrap(), Metadata { len: 6, is_dir: false, is_file: true });
        assert_eq!(fs.metadata(dir).unwrap(), Metadata { len: 0, is_dir: true, is_file: false });
        fs.remove_file(&path).unwrap();
        assert_eq!(kind(fs.metadata(&path)), ErrorKind::NotFound);
        assert_eq!(read_all(&*reader, 100).unwrap(), b"hel\0\0\0", "an open file outlives its name");
    }

    fn names(fs: &dyn Fs, dir: &Path) {
        fs.create_dir_all(dir).unwrap();
        let (a, b, c) = (dir.join("a"), dir.join("b"), dir.join("c"));
        for (path, text) in [(&a, b"A"), (&b, b"B")] {
            fs.create_new(path).unwrap().write_all_at(text, 0).unwrap();
        }
        let content = |path: &Path| read_all(&*fs.open(path).unwrap(), 10).unwrap();
        fs.hard_link(&a, &c).unwrap();
        assert_eq!(kind(fs.hard_link(&a, &c)), ErrorKind::AlreadyExists);
        fs.rename(&a, &b).unwrap();
        assert_eq!((content(&b), content(&c)), (b"A".to_vec(), b"A".to_vec()));
        let mut listed = fs.list(dir).unwrap();
        listed.sort();
        assert_eq!(listed, ["b", "c"]);
        assert_eq!(kind(fs.rename(&a, &b)), ErrorKind::NotFound);
        assert_eq!(kind(fs.remove_file(&a)), ErrorKind::NotFound);
        assert_eq!(kind(fs.list(&a)), ErrorKind::NotFound);
        assert_eq!(kind(fs.create_new(&a.join("x"))), ErrorKind::NotFound);
        assert!(fs.remove_dir(dir).is_err(), "not empty");
        fs.remove_file(&b).unwrap();
        assert_eq!(content(&c), b"A", "the other name keeps the file");
        fs.remove_file(&c).unwrap();
        fs.remove_dir(dir).unwrap();
        assert_eq!(kind(fs.metadata(dir)), ErrorKind::NotFound);
    }

    fn locks(fs: &dyn Fs, dir: &Path) {
        fs.create_dir_all(dir).unwrap();
        let (path, other) = (dir.join("LOCK"), dir.join("OTHER"));
        let lock = fs.lock(&path).unwrap().ok().unwrap();
        assert_eq!(fs.metadata(&path).unwrap().len, 0, "taking the lock writes nothing");
        lock.sign();
        assert!(fs.metadata(&path).unwrap().len > 0);
        fs.hard_link(&path, &other).unwrap();
        for name in [&path, &other] {
            assert_eq!(fs.lock(name).unwrap().err().unwrap().pid, std::process::id());
        }
        drop(lock);
        let left = fs.metadata(&path).unwrap();
        assert!(left.is_file && left.len == 0, "the lock file stays, unsigned");
        let again = fs.lock(&other).unwrap().ok().unwrap();
        assert!(fs.lock(&path).unwrap().is_err());
        drop(again);
    }

    fn mappings(fs: &dyn Fs, dir: &Path) {
        fs.create_dir_all(dir).unwrap();
        let path = dir.join("f");
        let file = fs.create_new(&path).unwrap();
        assert!(file.map(0).is_err());
        // Mapped before it is written, as far as it will grow.
        let mut mapping = file.map(100_000).unwrap();
        assert_eq!((mapping.len(), file.len().unwrap()), (100_000, 0), "mapping changes nothing");
        file.write_all_at(&[0; 70_000], 0).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        for (offset, text) in [(4, "one"), (7, "two"), (69_995, "three"), (4090, "over a page"), (0, "")] {
            let store = &mut |bytes: &mut [u8]| bytes.copy_from_slice(text.as_bytes());
            mapping.store(offset, text.len(), store).unwrap();
            let mut seen = vec![1; text.len()];
            read_exact_at(&*fs.open(&path).unwrap(), &mut seen, offset).unwrap();
            assert_eq!(seen, text.as_bytes(), "a reader sees it at once");
        }
        for (offset, len) in [(99_999, 2), (100_000, 1), (u64::MAX, 1), (0, 100_001)] {
            assert!(mapping.store(offset, len, &mut |_| panic!("out of range")).is_err());
        }
        // A written byte is a stored one.
        file.write_all_at(b"T", 7).unwrap();
        mapping.store(4, 6, &mut |bytes| assert_eq!(bytes, b"oneTwo")).unwrap();
        file.sync_data().unwrap();
        drop(mapping);
        file.set_len(10).unwrap();
        assert_eq!(read_all(&*file, 100).unwrap(), b"headoneTwo");
        assert!(fs.open(&path).unwrap().map(10).is_err(), "opened for reading");
    }

    #[test]
    fn the_disk_behaves() {
        let scratch = Scratch::new();
        behaves(&DiskFs::new(), &scratch.0);
    }

    /// A child between fork and exec has a copy of every descriptor (G27).
    #[test]
    fn a_lock_that_is_given_back_is_free_although_a_copy_of_its_descriptor_lives() {
        let scratch = Scratch::new();
        let path = scratch.0.join("LOCK");
        let lock = take_lock(&path).unwrap().ok().unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert!(take_lock(&path).unwrap().is_err());
        drop(lock);
        assert!(take_lock(&path).unwrap().is_ok());
        drop(copy);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_refused_and_modes_are_private() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let scratch = Scratch::new();
        let fs = DiskFs::new();
        let dir = scratch.0.join("db");
        fs.create_dir_all(&dir).unwrap();
        fs.create_new(&dir.join("f")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("f"))), (0o700, 0o600));
        symlink(dir.join("f"), dir.join("link")).unwrap();
        assert!(fs.open(&dir.join("link")).is_err());
        assert!(fs.create_new(&dir.join("link")).is_err());
        assert!(fs.lock(&dir.join("link")).is_err());
        let found = fs.metadata(&dir.join("link")).unwrap();
        assert!(!found.is_file && !found.is_dir);
        assert!(fs.open(Path::new("/dev/null")).is_err());
    }
}
