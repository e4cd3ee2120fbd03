//! An open database behind its handles, and its end.

use std::path::{Path, PathBuf};

use super::commit::Commit;
use crate::batch;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{Fs, LockedBy, find};
use crate::key::{FAMILY_NAME_LEN_MAX, SeqNo};
use crate::options::{CfOptions, Durability};
use crate::record::RecordKind;
use crate::recovery::{self, RecoveryStats};
use crate::store::{Family, Store};
use crate::sync::{Arc, JoinHandle, Mutex};
use crate::version::edit::{VersionEdit, encode_family_operation};
use crate::worker::Worker;
use crate::write::Writer;

/// An open database, shared by its handles.
pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: Writer,
    pub(crate) worker: Arc<Worker>,
    pub(super) notifier: Mutex<Option<JoinHandle>>,
    pub(super) recovered: RecoveryStats,
    pub(super) differences: Mutex<Vec<(String, String)>>,
    /// Removed with everything of ours in it when the last handle goes.
    pub(super) temporary: Option<PathBuf>,
}

impl Inner {
    pub(super) fn commit(&self, batch: &batch::WriteBatch, durability: Durability) -> Result<Commit> {
        let committed = self.writer.commit(batch, durability)?;
        Ok(Commit::new(self.store.clone(), committed))
    }

    /// Logs an operation on families, makes it durable in log and manifest, and publishes it.
    pub(super) fn family_operation(&self, x: &mut crate::write::Exclusive<'_>, edit: &VersionEdit) -> Result<()> {
        let payload = encode_family_operation(edit)?;
        self.store.make_space_for_edit(payload.len())?;
        let seq = x.log_edit(RecordKind::FamilyOperation, &payload)?;
        // The record is in the log: if the manifest cannot follow, the next open decides.
        self.store.apply_family_edit(edit, seq).map_err(|e| self.store.after_logged(e))?;
        x.publish();
        Ok(())
    }

    /// Gives a family other options.
    pub(super) fn set_options(&self, name: &str, options: CfOptions) -> Result<()> {
        options.validate()?;
        self.writer.exclusive(|x| {
            let family = self.store.family_named(name).ok_or_else(|| no_family(name))?;
            let edit = VersionEdit { options_changed: vec![(family.id, options)], ..VersionEdit::default() };
            self.family_operation(x, &edit)
        })
    }

    pub(super) fn note_difference(&self, family: &Family, given: &CfOptions) {
        let kept = family.options();
        if *kept == *given {
            return;
        }
        let difference = kept.difference(given);
        let entry = (family.name().to_string(), difference);
        let mut known = self.differences.lock();
        if !known.contains(&entry) {
            known.push(entry.clone());
            drop(known);
            let (family, difference) = entry;
            self.store.event(&crate::event::Event::OptionsDiffer { family, difference });
        }
    }

    /// Stops writes and background work, syncs, seals. Only the first call does anything.
    pub(super) fn shutdown(&self) -> Result<()> {
        if !self.store.set_closed() {
            return Ok(());
        }
        if self.store.is_read_only() {
            return Ok(());
        }
        // Behind the last commit that began before the flag.
        self.writer.exclusive(|_| Ok(()))?;
        self.worker.shutdown();
        if let Ok(log) = self.store.log() {
            log.stop_notifier();
        }
        if let Some(notifier) = self.notifier.lock().take()
            && !notifier.is_current()
        {
            notifier.join();
        }
        self.store.clean();
        self.store.seal_directory()
    }

    pub(super) fn sequence(&self) -> SeqNo {
        self.store.published()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown() {
            tracing::warn!(%error, "closing the database failed; the next open recovers it");
        }
        self.store.release_lock();
        if let Some(dir) = &self.temporary {
            let fs = &*self.store.context.fs;
            let _ = remove_files(fs, dir); // Nothing depends on it.
        }
    }
}

/// Fails if reads are refused.
pub(super) fn check_readable(store: &Store, family: &Family) -> Result<()> {
    if store.is_closed() {
        return Err(Error::new(ErrorKind::Closed, "the database has been closed"));
    }
    family.check_open()
}

pub(super) fn check_family_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > FAMILY_NAME_LEN_MAX {
        return Err(Error::invalid(format!(
            "a column family's name has 1 to {FAMILY_NAME_LEN_MAX} bytes, not {}",
            name.len()
        )));
    }
    Ok(())
}

pub(crate) fn destroy(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let current = FileName::Current.path(dir);
    if find(fs, &current).map_err(|e| Error::io("look for the database", &current, e))?.is_none() {
        return Err(recovery::missing(dir));
    }
    let lock = FileName::Lock.path(dir);
    match fs.lock(&lock).map_err(|e| Error::io("lock the database", &lock, e))? {
        Err(LockedBy { pid }) => {
            Err(Error::new(ErrorKind::Locked, format!("the database is open, by process {pid}")).with_file(lock))
        }
        Ok(_held) => remove_files(fs, dir),
    }
}

fn remove_files(fs: &dyn Fs, dir: &Path) -> Result<()> {
    // CURRENT first: a half-removed database must not look like a damaged one for longer than need be.
    let mut names: Vec<FileName> = recovery::list(fs, dir)?.iter().filter_map(|n| FileName::parse(n)).collect();
    names.sort_by_key(|n| (*n != FileName::Current, *n == FileName::Lock));
    for name in names {
        let path = name.path(dir);
        fs.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    // Other people's files may be there.
    let _ = fs.remove_dir(dir);
    Ok(())
}

pub(super) fn no_family(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such column family").with_column_family(name)
}
