//! What the records of a log say, held against the manifest as a replay would, without applying them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::batch;
use crate::error::Result;
use crate::fs::Fs;
use crate::key::{FamilyId, SeqNo};
use crate::record::{RecordHeader, RecordKind};
use crate::recovery::{self, ManifestState};
use crate::sync::Arc;
use crate::version::edit::{decode_family_operation, decode_ingest};
use crate::version::{TableFile, Version};

/// Judges one record after the other.
pub(super) struct LogJudge<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    /// What the log goes on from; none if that is not the whole truth.
    state: Option<&'a ManifestState>,
    next_family: u32,
    /// Families that an ingest has changed: how far they are flushed, and their tables.
    changed: BTreeMap<FamilyId, (SeqNo, Version)>,
    /// Tables that a replay would install.
    pub(super) ingested: Vec<Ingested>,
}

/// A table that only the log names.
pub struct Ingested {
    /// Whose it is.
    pub family: FamilyId,
    /// Its level.
    pub level: usize,
    /// The table.
    pub file: Arc<TableFile>,
}

impl<'a> LogJudge<'a> {
    pub(super) fn new(fs: &'a dyn Fs, dir: &'a Path, state: Option<&'a ManifestState>) -> LogJudge<'a> {
        let next_family = state.map_or(u32::MAX, |s| s.next_family);
        LogJudge { fs, dir, state, next_family, changed: BTreeMap::new(), ingested: Vec::new() }
    }

    /// Fails as a replay would.
    pub(super) fn judge(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<()> {
        match header.kind {
            RecordKind::Batch => self.batch(header, payload),
            RecordKind::FamilyOperation => {
                let edit = decode_family_operation(payload)?;
                if self.state.is_some() {
                    let next = edit.families_created.iter().map(|r| r.id.0.saturating_add(1)).max();
                    self.next_family = self.next_family.max(next.unwrap_or(0));
                }
                Ok(())
            }
            RecordKind::Ingest => self.ingest(header.first_seq, payload),
            _ => Ok(()),
        }
    }

    fn batch(&self, header: &RecordHeader, payload: &[u8]) -> Result<()> {
        let mut count = 0u64;
        for entry in batch::walk(payload) {
            recovery::check_batch_family(entry?.family(), self.next_family)?;
            count += 1;
        }
        recovery::check_batch_count(header, count)
    }

    fn ingest(&mut self, seq: SeqNo, payload: &[u8]) -> Result<()> {
        let edit = decode_ingest(payload)?;
        let Some(state) = self.state else { return Ok(()) };
        let mut by_family: BTreeMap<FamilyId, Vec<(usize, Arc<TableFile>)>> = BTreeMap::new();
        for (id, level, meta) in edit.added {
            let file = TableFile::unmanaged(meta.ingested_at(seq));
            by_family.entry(id).or_default().push((usize::from(level), file));
        }
        for (id, tables) in by_family {
            let Some(family) = state.families.get(&id) else { continue };
            let (flushed, version) = match self.changed.remove(&id) {
                Some(known) => known,
                None => {
                    let old: Vec<_> = family
                        .tables
                        .iter()
                        .map(|((l, _), m)| (usize::from(*l), TableFile::unmanaged(m.clone())))
                        .collect();
                    (family.flushed, Version::new().apply(&old, &[])?)
                }
            };
            if flushed >= seq {
                self.changed.insert(id, (flushed, version));
                continue;
            }
            for (level, file) in &tables {
                recovery::check_table_file(self.fs, self.dir, &file.meta)?;
                self.ingested.push(Ingested { family: id, level: *level, file: file.clone() });
            }
            self.changed.insert(id, (seq, version.apply(&tables, &[])?));
        }
        Ok(())
    }
}
