//! What every command is given: the global options, and how databases are opened and left.

use std::path::Path;
use std::time::Duration;

use lignite::{ColumnFamily, Db, ErrorKind, Options};

use crate::args::Global;
use crate::exit::{Failure, open_failure};
use crate::output::{Output, error_line};
use crate::progress::{Progress, Unit};

/// The surroundings of one command.
pub struct Context {
    /// The global options.
    pub global: Global,
}

impl Context {
    /// Standard output.
    pub fn output(&self) -> Output {
        Output::new(self.global.color)
    }

    /// Begins to tell how far a command is.
    pub fn progress(&self, command: &'static str, total: Option<u64>) -> Progress {
        Progress::begin(self.global.progress, self.global.quiet, command, Unit::Bytes, total)
    }

    /// The same of a command that goes by steps, whose number becomes known.
    pub fn steps(&self, command: &'static str) -> Progress {
        Progress::begin(self.global.progress, self.global.quiet, command, Unit::Steps, None)
    }

    /// A line on standard error, unless the user wants quiet.
    pub fn note(&self, text: &str) {
        if !self.global.quiet {
            error_line(text);
        }
    }
}

/// Opens a database to look at it: nothing is written, not even a lock file.
pub fn open_read(path: &Path) -> Result<Db, Failure> {
    Options::new().open_read_only(path).map_err(|e| open_failure(path, e))
}

/// Opens a database to change it.
pub fn open_write(path: &Path) -> Result<Db, Failure> {
    Options::new().create_if_missing(false).open(path).map_err(|e| open_failure(path, e))
}

/// The families that a command is about: the named one, or all.
pub fn families(db: &Db, name: Option<&str>) -> Result<Vec<ColumnFamily>, Failure> {
    let names = name.map_or_else(|| db.column_family_names(), |name| vec![name.to_string()]);
    names.iter().map(|name| Ok(db.column_family(name)?)).collect()
}

/// Makes everything durable and leaves the directory sealed: what every writing command does before
/// it exits 0. Handles of families, iterators and snapshots must be gone.
pub fn close(db: Db) -> Result<(), Failure> {
    db.sync()?;
    match db.close() {
        // A background job may hold on for a moment; everything is synced, only the seal waits for it.
        Err(e) if e.kind() == ErrorKind::Busy => Ok(()),
        other => Ok(other?),
    }
}

/// Bytes in a second, in MB (1 000 000), as rates are usually given.
pub fn megabytes_per_second(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}
