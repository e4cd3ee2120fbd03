//! What a check looks at, and what it says.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::sync::Arc;
use crate::version::TableFile;

/// What a check found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Tables checked.
    pub tables: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Entries decoded; only by a deep check.
    pub entries: u64,
    /// Defects: of CURRENT, manifest and log first, then of the tables in the order of the manifest.
    pub problems: Vec<Problem>,
    /// Bytes of a torn log tail that the open dropped. Not a defect: they were never acknowledged
    /// as durable.
    pub torn_tail_bytes: u64,
    /// Files of ours that nothing names. Not a defect: the next open for writing removes them.
    pub garbage: Vec<PathBuf>,
}

impl CheckReport {
    /// True if there is no defect.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One defect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, if known.
    pub offset: Option<u64>,
    /// The column family.
    pub column_family: Option<String>,
    /// The level of the table.
    pub level: Option<usize>,
    /// The first key that may be affected.
    pub first_key: Option<Vec<u8>>,
    /// The last key that may be affected.
    pub last_key: Option<Vec<u8>>,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// What an error says; it happened to `file` unless it says otherwise.
    pub fn of(error: &Error, file: impl AsRef<Path>) -> Problem {
        Problem {
            file: error.file().unwrap_or(file.as_ref()).to_path_buf(),
            offset: error.offset(),
            column_family: error.column_family().map(str::to_string),
            level: None,
            first_key: None,
            last_key: None,
            message: error.message().to_string(),
        }
    }
}

/// A table to check.
#[derive(Clone)]
pub struct TableJob {
    /// The name of its family.
    pub family: Arc<str>,
    /// Its level.
    pub level: usize,
    /// The table.
    pub file: Arc<TableFile>,
}
