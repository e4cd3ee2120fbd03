//! The files in a database's directory, by kind.

use std::path::Path;

use lignite::internals::filename::FileName;
use serde::Serialize;

use crate::exit::Failure;

/// What lies in the directory.
#[derive(Default, Serialize)]
pub struct Files {
    /// Tables.
    pub tables: u64,
    /// Bytes of tables.
    pub table_bytes: u64,
    /// Segments of the log.
    pub logs: u64,
    /// Bytes of them.
    pub log_bytes: u64,
    /// Manifests.
    pub manifests: u64,
    /// Bytes of them.
    pub manifest_bytes: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of it.
    pub other_bytes: u64,
}

impl Files {
    /// Counts them. Files may come and go meanwhile beside a live process.
    pub fn in_directory(dir: &Path) -> Result<Files, Failure> {
        let mut files = Files::default();
        for entry in std::fs::read_dir(dir).map_err(|e| Failure::io("read", dir, &e))? {
            let entry = entry.map_err(|e| Failure::io("read", dir, &e))?;
            let Ok(metadata) = entry.metadata() else { continue };
            let (count, bytes) = match entry.file_name().to_str().and_then(FileName::parse) {
                Some(FileName::Table(_)) => (&mut files.tables, &mut files.table_bytes),
                Some(FileName::Wal(_)) => (&mut files.logs, &mut files.log_bytes),
                Some(FileName::Manifest(_)) => (&mut files.manifests, &mut files.manifest_bytes),
                _ => (&mut files.others, &mut files.other_bytes),
            };
            *count += 1;
            *bytes += metadata.len();
        }
        Ok(files)
    }
}
