//! Repair: a new database from what is left of a damaged one; and salvage: records from single files.
//!
//! Both read, and never write, the damaged files. What they give was written like that: every byte of it was
//! under a checksum that is right. What cannot be read is named, with its keys as far as they are known.
//!
//! **Repair** surveys the directory ([`crate::check::survey`]) and makes a database elsewhere:
//!
//! * A sound database that was closed cleanly is copied byte for byte. So repairing a repaired one changes
//!   nothing.
//! * A sound table is copied. Of a damaged one everything readable is written into a new table at its level.
//! * Where the manifest is damaged, edits behind the defect may say where a table belongs. Such families are
//!   merged by sequence number into new tables, since levels that are known in part cannot be trusted.
//! * A table that nothing names becomes a family of its own, `lost+found/NUMBER`: tables do not say which family
//!   they belong to, and a tombstone of one family must not hide another's keys.
//! * The log is applied up to its first gap in sequence numbers; see [`log`].
//!
//! Its result has an identity of its own, needs no log, is sealed like after a clean close, and is checked
//! deeply before the call returns.

use std::path::Path;

use crate::check::{self, CheckOptions, survey};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Fs;
use crate::sync::Arc;

pub mod log;
mod rebuild;
mod replay;
mod report;
pub mod salvage;
pub mod sources;
mod tables;

pub use report::{GoOn, Loss, RepairProgress, RepairReport};

/// Makes a database in `to` from what is left of the one in `from`, which nothing writes to. `to` must not
/// exist or be empty. Nobody should have `from` open for writing meanwhile.
///
/// # Errors
/// `AlreadyExists` if `to` holds anything; `InvalidArgument` if it lies within `from`; `NotFound` if there
/// is no database; `Unsupported` if a whole file needs a later version; `Cancelled` if `go_on` said so;
/// `Io`, `NoSpace`. What was begun is removed.
pub fn repair(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    from: &Path,
    to: &Path,
    go_on: GoOn<'_>,
) -> Result<RepairReport> {
    if to.starts_with(from) {
        return Err(Error::invalid("the result of a repair cannot lie within what is repaired").with_file(to));
    }
    let found = survey::read(&**fs, from)?;
    let existed = prepare(&**fs, to)?;
    let outcome = rebuild::run(fs, clock, &found, to, go_on).and_then(|report| {
        let checked = check::check_directory(fs, clock, to, &CheckOptions::new().deep(true), &mut |_| {})?;
        match checked.problems.first() {
            None => Ok(report),
            Some(p) => Err(Error::corruption(format!("the result is not sound: {}", p.message)).with_file(&p.file)),
        }
    });
    if outcome.is_err() {
        // The error that counts is the first one.
        for name in fs.list(to).unwrap_or_default() {
            let _ = fs.remove_file(&to.join(name));
        }
        if !existed {
            let _ = fs.remove_dir(to);
        }
    }
    outcome
}

/// Makes the directory; true if it was there, empty.
fn prepare(fs: &dyn Fs, to: &Path) -> Result<bool> {
    match fs.list(to) {
        Ok(names) if !names.is_empty() => {
            Err(Error::new(ErrorKind::AlreadyExists, "the directory is not empty").with_file(to))
        }
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs.create_dir_all(to).map_err(|e| Error::io("create the directory", to, e))?;
            Ok(false)
        }
        Err(e) => Err(Error::io("list the directory", to, e)),
    }
}
