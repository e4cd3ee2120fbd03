//! A copy of the database in another directory, of one moment, while it goes on working.
//!
//! Tables are linked, not copied (copied where links are impossible). What lies in memtables at the
//! moment of the checkpoint is written into tables of the copy, so the copy needs no log. It gets
//! an identity of its own and is sealed, like a database that was closed.

use std::io;
use std::path::Path;

use super::handle::Db;
use crate::compaction::job::{JobContext, NoHelpers};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::flush;
use crate::fs::Fs;
use crate::key::SeqNo;
use crate::options::CfOptions;
use crate::read::View;
use crate::recovery::make_directory;
use crate::store::{self, Family};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::version::current::{Current, Seal, write_current};
use crate::version::edit::FamilyRecord;
use crate::version::manifest::ManifestWriter;
use crate::version::{TableFile, TableMeta, Version};

/// One moment over all families: its number, and of each family its name, its options, and a view
/// whose memtables hold nothing newer.
struct Moment {
    seq: SeqNo,
    next_family: u32,
    families: Vec<(Arc<Family>, FamilyRecord, Arc<View>)>,
}

impl Db {
    /// Makes a copy of the database, of this moment and over all families, in the directory `dest`,
    /// which must not exist or be empty. On the same file system tables are linked, so it takes
    /// little time and space. The copy is durable when this returns.
    ///
    /// # Errors
    /// `AlreadyExists` if `dest` holds anything; `Io`, `NoSpace` (what was begun is removed).
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// db.put(b"k", b"v")?;
    /// let dest = std::env::temp_dir().join(format!("lignite-doc-checkpoint-{}", std::process::id()));
    /// db.checkpoint(&dest)?;
    /// let copy = lignite::Db::open(&dest)?;
    /// assert_eq!(copy.get(b"k")?.unwrap(), b"v");
    /// copy.close()?;
    /// lignite::Db::destroy(&dest)?;
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn checkpoint(&self, dest: impl AsRef<Path>) -> Result<()> {
        let dest = dest.as_ref();
        let store = &self.inner.store;
        let fs = &*store.context.fs;
        match fs.list(dest) {
            Ok(names) if !names.is_empty() => {
                return Err(Error::new(ErrorKind::AlreadyExists, "the directory is not empty").with_file(dest));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_directory(fs, dest)?,
            Err(e) => return Err(Error::io("list the directory", dest, e)),
        }
        let outcome = self.copy_to(dest);
        if outcome.is_err() {
            let names = fs.list(dest).unwrap_or_default();
            for name in names {
                let _ = fs.remove_file(&dest.join(name)); // The error that counts is the first one.
            }
            let _ = fs.remove_dir(dest);
        }
        outcome
    }

    fn copy_to(&self, dest: &Path) -> Result<()> {
        let store = &self.inner.store;
        let Moment { seq, next_family, families } = self.moment()?;
        let fs = &*store.context.fs;
        let db_id = copy_id(store.db_id, seq, dest);
        let next = AtomicU64::new(store.next_file());
        let next_file = || next.fetch_add(1, Ordering::Relaxed);
        let mut copies: Vec<(Arc<Family>, Version)> = Vec::new();
        for (family, record, view) in &families {
            for (_, table) in view.version.tables() {
                link_or_copy(fs, &store.context.dir, dest, &table.meta)?;
            }
            let mut added = Vec::new();
            if let Some(meta) = self.flush_to(dest, db_id, seq, family, &record.options, view, &next_file)? {
                added.push((0, TableFile::unmanaged(meta)));
            }
            copies.push((family.clone(), view.version.apply(&added, &[])?));
        }
        let number = next_file();
        let mut edit = store::snapshot_edit(
            db_id,
            store.context.clock.unix_seconds(),
            copies.iter().map(|(f, v)| (&**f, v)),
            next_family,
            number + 1,
            seq,
        );
        // As they were called at that moment: a rename may have come since.
        edit.families_created = families.into_iter().map(|(_, record, _)| record).collect();
        // All of it is in tables, up to this moment.
        for (_, flushed) in &mut edit.flushed {
            *flushed = seq;
        }
        edit.log_first = Some(number + 1);
        let manifest = ManifestWriter::create(fs, dest, number, db_id, &edit)?;
        fs.sync_dir(dest).map_err(|e| Error::io("sync the directory", dest, e))?;
        let seal = Seal { manifest_len: manifest.len(), manifest_hash: manifest.hash(), logs: Vec::new() };
        write_current(fs, dest, &Current { db_id, manifest: number, seal: Some(seal) })?;
        if let Some(parent) = dest.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs.sync_dir(parent).map_err(|e| Error::io("sync the directory", parent, e))?;
        }
        Ok(())
    }

    fn moment(&self) -> Result<Moment> {
        let store = &self.inner.store;
        let now = |seq| Moment {
            seq,
            next_family: store.next_family_id().0,
            families: store.families().into_iter().map(|f| (f.clone(), f.record(), f.view())).collect(),
        };
        if store.is_read_only() {
            return Ok(now(store.published()));
        }
        self.inner.writer.exclusive(|x| {
            for family in store.families() {
                // The active memtable is sealed, so the view taken now can get no more entries.
                x.seal(&family);
            }
            Ok(now(x.last_seq()))
        })
    }

    fn flush_to(
        &self,
        dest: &Path,
        db_id: u128,
        seq: SeqNo,
        family: &Family,
        options: &CfOptions,
        view: &View,
        next_file: &(dyn Fn() -> u64 + Sync),
    ) -> Result<Option<TableMeta>> {
        let store = &self.inner.store;
        let memtables: Vec<_> = view.memtables.iter().rev().filter(|m| !m.is_empty()).cloned().collect();
        if memtables.is_empty() {
            return Ok(None);
        }
        let job = JobContext {
            fs: &*store.context.fs,
            dir: dest,
            db_id,
            clock: store.context.clock.clone(),
            tables: &store.context.tables,
            metrics: &store.context.metrics,
            family: &family.metrics,
            options,
            tuning: &family.tuning,
            pressed: false,
            visible: seq,
            snapshots: Vec::new(),
            next_file,
            cancelled: &|| false,
            helpers: &NoHelpers,
        };
        flush::run(&job, &memtables)
    }
}

fn copy_id(db_id: u128, seq: SeqNo, dest: &Path) -> u128 {
    let mut hasher = crate::checksum::FileHasher::new();
    hasher.update(&db_id.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(dest.to_string_lossy().as_bytes());
    hasher.digest()
}

fn link_or_copy(fs: &dyn Fs, from_dir: &Path, to_dir: &Path, meta: &TableMeta) -> Result<()> {
    let name = FileName::Table(meta.number);
    let (from, to) = (name.path(from_dir), name.path(to_dir));
    if fs.hard_link(&from, &to).is_ok() {
        return Ok(());
    }
    let read = |e| Error::io("read the table", &from, e);
    let write = |e| Error::io("copy the table", &to, e);
    let source = fs.open(&from).map_err(read)?;
    let copy = fs.create_new(&to).map_err(write)?;
    let mut piece = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let n = source.read_at(&mut piece, offset).map_err(read)?;
        if n == 0 {
            break;
        }
        copy.write_all_at(&piece[..n], offset).map_err(write)?;
        offset += n as u64;
    }
    copy.sync_data().map_err(write)
}
