//! How a command ends: the exit codes of the contract, and what goes to standard error.
//!
//! Every failure of every command is a [`Failure`] by the time it reaches `main`. The kind of an
//! engine error decides the code; only a missing database needs the place where it happened (it is
//! code 5, a missing column family is code 2), so [`open_failure`] exists for opening.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use lignite::{Error, ErrorKind};

/// The exit codes. Scripts depend on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A negative answer: the key is absent.
    Negative = 1,
    /// A wrong command line, or input that cannot be understood.
    Usage = 2,
    /// Corruption was found.
    Corruption = 3,
    /// Another process has the database open.
    Locked = 4,
    /// Input or output failed, no permission, the disk is full, there is no database.
    Io = 5,
    /// The format or feature needs another version.
    Unsupported = 6,
    /// Refused for safety.
    Refused = 7,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// All of them, with what they mean, for `help exit-codes`.
    pub const TABLE: [(Exit, &'static str); 9] = [
        (Exit::Done, "done"),
        (Exit::Negative, "negative answer: key absent, difference found, threshold not met"),
        (Exit::Usage, "usage: wrong arguments, malformed input, no such column family, it exists already"),
        (Exit::Corruption, "corruption found (file, offset, family and key range on standard error)"),
        (Exit::Locked, "locked by another process (its id is printed)"),
        (Exit::Io, "input/output, permission, disk full, no such database"),
        (Exit::Unsupported, "format or feature not supported by this version"),
        (Exit::Refused, "refused for safety, --yes missing"),
        (Exit::Interrupted, "interrupted; the database is intact, partial output is whole lines"),
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// What every command returns.
pub type Outcome = Result<Exit, Failure>;

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Something to say on standard error, and the code.
    Message {
        /// The exit code.
        exit: Exit,
        /// For a person.
        message: String,
    },
    /// The reader of standard output has gone. Not a failure at all: the command ends with success.
    PipeClosed,
    /// Ctrl-C.
    Interrupted,
}

impl Failure {
    /// A failure with this code and message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure::Message { exit, message: message.into() }
    }

    /// A wrong argument or malformed input.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Something that needs `--yes`.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Refused, message)
    }

    /// A failed call of the operating system on a file of the user's.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::new(Exit::Io, format!("cannot {action} {}: {error}", path.display()))
    }

    /// A failed write to standard output: a closed pipe is the quiet end.
    pub fn output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::PipeClosed
        } else {
            Failure::new(Exit::Io, format!("cannot write standard output: {error}"))
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Message { exit, .. } => *exit,
            Failure::PipeClosed => Exit::Done,
            Failure::Interrupted => Exit::Interrupted,
        }
    }

    /// The same failure with words behind it.
    #[must_use]
    pub fn and(self, more: impl fmt::Display) -> Failure {
        match self {
            Failure::Message { exit, message } => Failure::Message { exit, message: format!("{message}; {more}") },
            other => other,
        }
    }

    /// What goes to standard error; none for the quiet ends.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Message { message, .. } => Some(message),
            Failure::PipeClosed => None,
            Failure::Interrupted => Some("interrupted"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = exit_of(error.kind());
        match exit {
            Exit::Interrupted => Failure::Interrupted,
            _ => Failure::new(exit, error.to_string()),
        }
    }
}

/// The failure of opening a database: here "not found" means the database, which is code 5.
pub fn open_failure(path: &Path, error: Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Exit::Io,
            format!("there is no database at {} (make one with: lignite create {0})", path.display()),
        ),
        _ => Failure::from(error),
    }
}

/// The code for each kind of engine error.
fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Corruption => Exit::Corruption,
        ErrorKind::Locked => Exit::Locked,
        ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::AlreadyExists => Exit::Usage,
        ErrorKind::Unsupported => Exit::Unsupported,
        ErrorKind::Cancelled => Exit::Interrupted,
        // Everything else is the machine or the moment: a disk, a permission, a stall, a poisoned
        // handle, a background job.
        _ => Exit::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        let code = |kind| Failure::from(Error::new(kind, "m")).exit().code();
        assert_eq!(code(ErrorKind::Corruption), 3);
        assert_eq!(code(ErrorKind::Locked), 4);
        assert_eq!(code(ErrorKind::Io), 5);
        assert_eq!(code(ErrorKind::NoSpace), 5);
        assert_eq!(code(ErrorKind::Unsupported), 6);
        assert_eq!(code(ErrorKind::NotFound), 2);
        assert_eq!(code(ErrorKind::AlreadyExists), 2);
        assert_eq!(code(ErrorKind::Cancelled), 130);
        let missing = open_failure(Path::new("db"), Error::new(ErrorKind::NotFound, "m"));
        assert_eq!(missing.exit(), Exit::Io);
    }

    #[test]
    fn a_closed_pipe_is_success() {
        let closed = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit(), Exit::Done);
        assert!(closed.message().is_none());
    }
}
