//! The least file system that a decoder needs: files that are there and can be read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lignite::internals::fs::{File, FileLock, Fs, LockedBy, Metadata};

/// A file's bytes.
pub struct Bytes(pub Vec<u8>);

impl File for Bytes {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let n = buf.len().min(self.0.len() - from);
        buf[..n].copy_from_slice(&self.0[from..from + n]);
        Ok(n)
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(refused())
    }
    fn sync_data(&self) -> io::Result<()> {
        Err(refused())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(refused())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(refused())
    }
}

/// Files that can only be read.
#[derive(Default)]
pub struct Shelf(BTreeMap<PathBuf, Arc<Bytes>>);

impl Shelf {
    /// Adds a file.
    #[must_use]
    pub fn with(mut self, path: PathBuf, bytes: Vec<u8>) -> Shelf {
        self.0.insert(path, Arc::new(Bytes(bytes)));
        self
    }
}

fn refused() -> io::Error {
    io::Error::from(io::ErrorKind::ReadOnlyFilesystem)
}

impl Fs for Shelf {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match self.0.get(path) {
            Some(file) => Ok(file.clone()),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
    fn create_new(&self, _: &Path) -> io::Result<Arc<dyn File>> {
        Err(refused())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(self.0.keys().filter_map(name).collect())
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let file = self.0.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Metadata { len: file.0.len() as u64, is_dir: false, is_file: true })
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }
    fn lock(&self, _: &Path) -> io::Result<Result<Box<dyn FileLock>, LockedBy>> {
        Err(refused())
    }
}
