//! What a repair or a salvage says.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::check::Problem;
use crate::error::{Error, ErrorKind};
use crate::table::wreck::Defect;
use crate::version::TableMeta;

/// What a repair did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// True if nothing was wrong and the files were copied as they are.
    pub unchanged: bool,
    /// Everything that is wrong with the source.
    pub problems: Vec<Problem>,
    /// What is lost.
    pub losses: Vec<Loss>,
    /// What whoever uses the result should know, such as deletes that may be undone.
    pub warnings: Vec<String>,
    /// Tables copied as they are.
    pub tables_copied: u64,
    /// Tables written anew from what is left.
    pub tables_rebuilt: u64,
    /// Tables of which nothing is left.
    pub tables_lost: u64,
    /// Tables that nothing named, each in a family of its own now.
    pub tables_found: u64,
    /// Records of the log that were applied.
    pub log_records: u64,
    /// Whole records of the log behind a gap, which were not.
    pub log_records_refused: u64,
    /// Bytes of a torn tail, which were never acknowledged as durable.
    pub torn_tail_bytes: u64,
    /// The families of the result, with how many entries each has in its tables.
    pub families: Vec<(String, u64)>,
    /// Files that nothing names, left behind.
    pub garbage: Vec<PathBuf>,
}

/// Something that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The file it was in.
    pub file: PathBuf,
    /// Where in the file, if known.
    pub offset: Option<u64>,
    /// How many bytes, if known.
    pub bytes: Option<u64>,
    /// The column family.
    pub column_family: Option<String>,
    /// The first key that may be lost.
    pub first_key: Option<Vec<u8>>,
    /// The last key that may be lost.
    pub last_key: Option<Vec<u8>>,
    /// How many entries, if known.
    pub entries: Option<u64>,
    /// What is wrong.
    pub message: String,
}

/// How far a repair or salvage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairProgress {
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes of the files to read.
    pub bytes: u64,
}

/// Is told how far a repair is, and says whether to go on.
pub type GoOn<'a> = &'a mut dyn FnMut(RepairProgress) -> bool;

impl Loss {
    /// What an error says.
    pub(super) fn of(error: &Error, entries: Option<u64>) -> Loss {
        Loss {
            file: error.file().unwrap_or(Path::new("")).to_path_buf(),
            offset: error.offset(),
            bytes: None,
            column_family: error.column_family().map(str::to_string),
            first_key: None,
            last_key: None,
            entries,
            message: error.message().to_string(),
        }
    }

    /// What a defect of a table takes with it.
    pub(super) fn of_defect(defect: &Defect, path: &Path, family: &str) -> Loss {
        let (first_key, last_key) = defect.keys.clone().unzip();
        Loss {
            file: path.to_path_buf(),
            offset: Some(defect.offset),
            bytes: defect.len,
            column_family: Some(family.to_string()).filter(|f| !f.is_empty()),
            first_key,
            last_key,
            entries: defect.entries,
            message: defect.error.message().to_string(),
        }
    }

    /// A whole table.
    pub(super) fn whole(error: &Error, path: &Path, family: &str, meta: &TableMeta) -> Loss {
        let last_key = match &meta.largest {
            Bound::Included(k) | Bound::Excluded(k) => Some(k.clone()),
            Bound::Unbounded => None,
        };
        Loss {
            file: path.to_path_buf(),
            column_family: Some(family.to_string()),
            first_key: Some(meta.smallest.clone()),
            last_key,
            bytes: Some(meta.size),
            ..Loss::of(error, Some(meta.entries))
        }
    }
}

/// The error for work that the caller has stopped.
pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "stopped by the caller; what was begun has been removed")
}
