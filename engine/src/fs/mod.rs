//! The door to files: everything that touches a disk goes through [`Fs`] and [`File`].
//!
//! The fewest calls that work, all with explicit positions, so that a simulated disk can number,
//! fail, tear and lose each of them. Implementations: [`disk`] (real files), [`mem`] (memory that
//! remembers what was synced and can be cloned as a crash would leave it), [`fault`] (wraps another
//! one and fails calls on demand).
//!
//! A log file may also be appended to through memory ([`File::map`]): what is stored so is in the file as
//! if it had been written, and becomes durable by the same sync.
//!
//! Contract: `create_new` and `rename` and `remove_file` and `hard_link` become durable only with
//! [`Fs::sync_dir`] of the parent; written bytes become durable only with [`File::sync_data`].

use std::io;
use std::path::Path;

use crate::error::is_no_space;
use crate::sync::Arc;

pub mod disk;
pub mod fault;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod mapped;
pub mod mem;

/// What [`Fs::metadata`] says about a path. Symbolic links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// True for a directory.
    pub is_dir: bool,
    /// True for a regular file.
    pub is_file: bool,
}

/// Who holds the lock that [`Fs::lock`] did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedBy {
    /// The process id that the holder wrote into the lock file; 0 if unknown.
    pub pid: u32,
}

/// An exclusive lock, given back when dropped.
pub trait FileLock: Send + Sync {
    /// Writes the process id into the lock file, for those who do not get the lock. Its failure is
    /// nobody's: the id is for messages only, and a database on a full disk must open.
    fn sign(&self);
}

/// A file system.
pub trait Fs: Send + Sync + 'static {
    /// Creates a directory (mode 0700) and its missing parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens an existing regular file for reading. Follows no symbolic link.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates a file (mode 0600) that must not exist yet, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` by `from` atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The names in a directory, in no particular order; names that are not UTF-8 are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// What a path is; `NotFound` if it is nothing.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of the file `path`, creating it if need be and changing no byte of
    /// it; `Ok(Err(..))` when somebody else, in this process or another, holds it.
    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn FileLock>, LockedBy>>;
}

/// An open file. Shared: all calls take `&self` and an explicit offset.
pub trait File: Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, extending the file if need be. After an error any prefix
    /// may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable. After one failure nothing is known.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves space for `len` bytes from the start without changing the length, where the file
    /// system can; a full disk shows here, before a record is half written.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// True if the file lies where a block that was written can be stored into through memory without
    /// ever needing space again.
    fn is_mappable(&self) -> bool {
        false
    }
    /// Maps the first `len` bytes for storing, whether or not the file is that long yet. Only what has
    /// been written may be stored into: elsewhere a store can kill the process. `Unsupported` where
    /// files cannot be mapped.
    fn map(&self, len: u64) -> io::Result<Box<dyn Mapping>> {
        let _ = len;
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// The first bytes of a file, mapped into memory. It keeps to the file whatever happens to its names, and
/// must be dropped before the file is cut to less than what is stored.
#[expect(clippy::len_without_is_empty, reason = "none is empty")]
pub trait Mapping: Send + 'static {
    /// How many bytes are mapped.
    fn len(&self) -> u64;
    /// Lets `fill` store `len` bytes at `offset`. They are in the file when this returns, as after a
    /// write; whoever reads the file meanwhile may see some of them. On a real file only a range that
    /// is not mapped is an error, and then nothing has happened.
    fn store(&mut self, offset: u64, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> io::Result<()>;
}

/// What lies at a path; none if it is nothing. Any other failure is an error: a device that cannot
/// be read must not pass for an empty one.
pub fn find(fs: &dyn Fs, path: &Path) -> io::Result<Option<Metadata>> {
    match fs.metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sets space aside for a file of `len` bytes up to `end`, and in steps of `step` beyond it if there
/// is that much; says up to where.
pub fn allocate_ahead(file: &dyn File, len: u64, end: u64, step: u64) -> io::Result<u64> {
    // What a failed call has got stays with the file, and would be missed elsewhere.
    let allocate = |up_to| file.allocate(up_to).inspect_err(|_| drop(file.set_len(len)));
    let wanted = end.next_multiple_of(step);
    match allocate(wanted) {
        Ok(()) => Ok(wanted),
        Err(e) if is_no_space(e.kind()) && wanted > end => allocate(end).map(|()| end),
        Err(e) => Err(e),
    }
}

/// Fills `buf` from `offset`; `UnexpectedEof` if the file ends first.
pub fn read_exact_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    let n = file.read_at(buf, offset)?;
    if n < buf.len() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(())
}

/// The whole content of a file of at most `limit` bytes.
pub fn read_all(file: &dyn File, limit: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes exceed the limit of {limit}")));
    }
    let mut out = Vec::new();
    out.try_reserve_exact(len as usize).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    out.resize(len as usize, 0);
    let n = file.read_at(&mut out, 0)?;
    out.truncate(n);
    Ok(out)
}

/// Length and xxh3-128 of a file, read in pieces.
pub fn hash_file(fs: &dyn Fs, path: &Path) -> io::Result<(u64, u128)> {
    let file = fs.open(path)?;
    let mut hasher = crate::checksum::FileHasher::new();
    let mut piece = vec![0; 256 << 10];
    let mut offset = 0;
    loop {
        let n = file.read_at(&mut piece, offset)?;
        if n == 0 {
            return Ok((offset, hasher.digest()));
        }
        hasher.update(&piece[..n]);
        offset += n as u64;
    }
}
