//! One opaque error for the whole engine.
//!
//! An [`Error`] says what failed, where (file, offset, column family) and what to do, in words for
//! a person. Programs decide by [`Error::kind`]. It is cheap to clone, since one background failure
//! is reported to every writer that meets it. This module knows no type of an upper floor.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of every fallible call of Lignite.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure an [`Error`] is. New kinds may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a call on a file or directory.
    Io,
    /// There is no space left on the device, or a quota or file-size limit is met. The write was
    /// not applied; free some space and try again.
    NoSpace,
    /// Bytes on disk are not what was written. `file` and `offset` say where.
    Corruption,
    /// The database is open elsewhere, in this process or another one.
    Locked,
    /// The handle was opened read-only.
    ReadOnly,
    /// The database or the column family has been closed or dropped.
    Closed,
    /// An argument is out of its documented range.
    InvalidArgument,
    /// The database or the column family does not exist.
    NotFound,
    /// The database or the column family exists already.
    AlreadyExists,
    /// The files need a format version, feature or codec that this version does not have.
    Unsupported,
    /// Writes wait for flush or compaction for longer than `Options::stall_timeout`.
    Stalled,
    /// A sync of the log or the manifest failed once: what is on disk is uncertain, so every later
    /// write is refused. Close and open the database to recover.
    Poisoned,
    /// Something is still in use; try again.
    Busy,
    /// The operation was cancelled by the caller.
    Cancelled,
    /// A background job panicked or failed for good.
    Background,
}

impl ErrorKind {
    /// The stable lower-case name, used in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Io => "io",
            ErrorKind::NoSpace => "no-space",
            ErrorKind::Corruption => "corruption",
            ErrorKind::Locked => "locked",
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::Closed => "closed",
            ErrorKind::InvalidArgument => "invalid-argument",
            ErrorKind::NotFound => "not-found",
            ErrorKind::AlreadyExists => "already-exists",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Stalled => "stalled",
            ErrorKind::Poisoned => "poisoned",
            ErrorKind::Busy => "busy",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Background => "background",
        }
    }
}

/// Why an operation failed.
///
/// ```
/// let err = lignite::Db::options().create_if_missing(false).open("/nonexistent/db").unwrap_err();
/// assert_eq!(err.kind(), lignite::ErrorKind::NotFound);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    file: Option<PathBuf>,
    offset: Option<u64>,
    family: Option<String>,
    keys: Option<(Vec<u8>, Vec<u8>)>,
    source: Option<Arc<std::io::Error>>,
}

impl Error {
    /// A new error of this kind with a message for a person.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            file: None,
            offset: None,
            family: None,
            keys: None,
            source: None,
        }))
    }

    /// Bytes that are not what was written.
    pub fn corruption(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corruption, message)
    }

    /// An argument out of range.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// A format, feature or codec that this version does not have.
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// A failed call of the operating system: `action` is a phrase such as "write the log".
    /// The kind becomes [`ErrorKind::NoSpace`] for a full disk, a quota or a file-size limit,
    /// [`ErrorKind::Io`] otherwise.
    pub fn io(action: &str, path: &Path, source: std::io::Error) -> Error {
        let kind = if is_no_space(source.kind()) { ErrorKind::NoSpace } else { ErrorKind::Io };
        Error(Arc::new(Inner {
            kind,
            message: format!("cannot {action}: {source}"),
            file: Some(path.to_path_buf()),
            offset: None,
            family: None,
            keys: None,
            source: Some(Arc::new(source)),
        }))
    }

    /// The same error, with the file where it happened (kept if there is one already).
    #[must_use]
    pub fn with_file(mut self, path: impl AsRef<Path>) -> Error {
        let inner = Arc::make_mut(&mut self.0);
        if inner.file.is_none() {
            inner.file = Some(path.as_ref().to_path_buf());
        }
        self
    }

    /// The same error, with the byte offset in the file (kept if there is one already).
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Error {
        let inner = Arc::make_mut(&mut self.0);
        if inner.offset.is_none() {
            inner.offset = Some(offset);
        }
        self
    }

    /// The same error, with the column family it concerns (kept if there is one already).
    #[must_use]
    pub fn with_column_family(mut self, name: impl Into<String>) -> Error {
        let inner = Arc::make_mut(&mut self.0);
        if inner.family.is_none() {
            inner.family = Some(name.into());
        }
        self
    }

    /// The same error, with the first and the last key that it may concern (kept if there are some already).
    #[must_use]
    pub fn with_keys(mut self, first: &[u8], last: &[u8]) -> Error {
        let inner = Arc::make_mut(&mut self.0);
        if inner.keys.is_none() {
            inner.keys = Some((first.to_vec(), last.to_vec()));
        }
        self
    }

    /// The same error under another kind, its words kept.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        Arc::make_mut(&mut self.0).kind = kind;
        self
    }

    /// The same error with words in front: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Error {
        let inner = Arc::make_mut(&mut self.0);
        inner.message = format!("{context}: {}", inner.message);
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file where it happened.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in [`Error::file`].
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The column family it concerns.
    pub fn column_family(&self) -> Option<&str> {
        self.0.family.as_deref()
    }

    /// The first and the last key that it may concern, if known: reads of other keys need not meet it.
    pub fn keys(&self) -> Option<(&[u8], &[u8])> {
        self.0.keys.as_ref().map(|(first, last)| (first.as_slice(), last.as_slice()))
    }

    /// True for [`ErrorKind::Corruption`].
    pub fn is_corruption(&self) -> bool {
        self.kind() == ErrorKind::Corruption
    }

    /// True if the process or the system has too many files open: nothing is wrong with any file,
    /// and the call works again once there are fewer. Not if the handle is poisoned.
    pub fn is_out_of_descriptors(&self) -> bool {
        #[cfg(unix)]
        {
            use rustix::io::Errno;
            let code = self.os_code().filter(|_| self.kind() != ErrorKind::Poisoned);
            code.is_some_and(|n| n == Errno::MFILE.raw_os_error() || n == Errno::NFILE.raw_os_error())
        }
        #[cfg(not(unix))]
        false
    }

    /// True if the file may not be that long, and is as long as it was. Not if a write that failed so
    /// could not be cut off again: that poisons.
    pub fn is_file_too_long(&self) -> bool {
        self.kind() == ErrorKind::NoSpace && self.io_kind() == Some(std::io::ErrorKind::FileTooLarge)
    }

    /// The error of memory that is not there: no file is to blame.
    pub fn out_of_memory(what: &str) -> Error {
        let source = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let mut error = Error::new(ErrorKind::Io, format!("cannot hold {what} in memory: {source}"));
        Arc::make_mut(&mut error.0).source = Some(Arc::new(source));
        error
    }

    /// The raw error number of the operating system, if there is one.
    pub fn os_code(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(|e| e.raw_os_error())
    }

    /// The kind of the operating system's error, if there is one.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.0.source.as_ref().map(|e| e.kind())
    }
}

/// True for what a full disk, a quota or a limit on the size of files says.
pub fn is_no_space(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind as Io;
    matches!(kind, Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(file) = &self.0.file {
            write!(f, " (file {}", file.display())?;
            if let Some(offset) = self.0.offset {
                write!(f, ", offset {offset}")?;
            }
            f.write_str(")")?;
        }
        if let Some(family) = &self.0.family {
            write!(f, " (column family {family})")?;
        }
        if let Some((first, last)) = &self.0.keys {
            write!(f, " (keys {} .. {})", Shown(first), Shown(last))?;
        }
        Ok(())
    }
}

/// A key in a message: quoted, escaped, and cut after 32 bytes.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.len().min(32);
        let more = if self.0.len() > cut { ".." } else { "" };
        write!(f, "\"{}\"{more}", self.0[..cut].escape_ascii())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_and_where() {
        let e = Error::corruption("block checksum is 1, expected 2")
            .with_file("/db/000004.sst")
            .with_offset(4096)
            .with_column_family("logs");
        assert_eq!(
            e.to_string(),
            "block checksum is 1, expected 2 (file /db/000004.sst, offset 4096) (column family logs)"
        );
        let with_keys = e.clone().with_keys(b"a\n", &[b'b'; 40]);
        assert!(
            with_keys.to_string().ends_with("(keys \"a\\n\" .. \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"..)"),
            "{with_keys}"
        );
        assert_eq!(e.offset(), Some(4096));
        assert!(e.is_corruption());
    }

    #[test]
    fn a_full_disk_has_its_own_kind() {
        let e = Error::io("write", Path::new("x"), std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(e.kind(), ErrorKind::NoSpace);
    }
}
