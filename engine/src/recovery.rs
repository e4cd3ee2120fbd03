//! From a directory to a store: read CURRENT, the manifest and the logs, and take over.
//!
//! Order: lock, CURRENT, manifest, existence and size of every table, logs oldest first. Up to here
//! nothing has been written, so an open that fails leaves every file as it was. Then, if the last
//! stop was not clean, what was replayed is rewritten into new tables and synced; recovery never
//! relies on bytes that it found in the page cache. A new manifest is written in full, and replacing
//! CURRENT is the one commit point: it withdraws the seal, names the new manifest and lets the old
//! logs go. A crash at any moment before it leaves the old state, complete.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::batch::{self, BatchEntry};
use crate::checksum;
use crate::compaction::job::{JobContext, NoHelpers};
use crate::error::{Error, ErrorKind, Result};
use crate::field::UnknownFields;
use crate::filename::{FileName, next_number};
use crate::flush;
use crate::fs::{FileLock, Fs, LockedBy, find};
use crate::key::{FamilyId, SeqNo};
use crate::memtable::Memtable;
use crate::options::LogRecovery;
use crate::record::{LogPosition, RecordHeader, RecordKind};
use crate::sabotage::{self, Bug};
use crate::store::log::{Appending, Segment};
use crate::store::obsolete::Obsolete;
use crate::store::reserve::Reserve;
use crate::store::{self, Context, Family, LiveLog, Parts};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::version::current::{self, Current, Seal};
use crate::version::edit::{FamilyRecord, VersionEdit, decode_family_operation, decode_ingest};
use crate::version::manifest::{self, ManifestScan, ManifestWriter};
use crate::version::{Reaper, TableFile, TableMeta, Version};
use crate::wal::{self, LogScan, ReplayRules};

/// Features that this version can read.
pub const FEATURES: &[&str] = &["base/1"];

/// How often a read-only open begins again when files change under it.
const READ_ONLY_TRIES: usize = 10;

/// What recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryStats {
    /// True if the database had been closed properly.
    pub clean: bool,
    /// Batches replayed.
    pub batches: u64,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// Bytes of a torn tail that were dropped. Zeros at the end of a segment, which are space written
    /// ahead, do not count.
    pub torn_tail_bytes: u64,
    /// Bytes of log from damage on that [`LogRecovery::SalvagePrefix`](crate::LogRecovery) gave up. What
    /// they held is lost to the database.
    pub salvage_lost_bytes: u64,
    /// Log segments that were set aside for it, under their name with `.damaged` behind it.
    pub salvage_segments: u64,
    /// How long the open took, in nanoseconds.
    pub nanos: u64,
}

/// Opens for reading and writing.
pub fn open(context: Context) -> Result<(Parts, RecoveryStats)> {
    let begun = context.clock.now();
    let fs = &*context.fs;
    let dir = &context.dir;
    prepare_directory(&context)?;
    let lock = take_lock(fs, dir)?;
    let (found, mut stats) = match current::read_current(fs, dir)? {
        Some(_) if context.options.error_if_exists => {
            return Err(Error::new(ErrorKind::AlreadyExists, "the database exists already").with_file(dir));
        }
        Some(current) => Found::read(&context, &current, false)?,
        None => {
            refuse_headless(&context)?;
            Found::empty(&context)?
        }
    };
    let parts = take_over(context, found, lock)?;
    stats.nanos = parts.context.clock.now().saturating_sub(begun).as_nanos() as u64;
    Ok((parts, stats))
}

/// Opens for reading only: takes no lock and writes nothing, also beside a live writer. The store
/// is a snapshot of this moment, logs included.
pub fn open_read_only(context: Context) -> Result<(Parts, RecoveryStats)> {
    let begun = context.clock.now();
    let mut last = None;
    for _ in 0..READ_ONLY_TRIES {
        match try_read_only(&context) {
            Ok((parts, mut stats)) => {
                stats.nanos = context.clock.now().saturating_sub(begun).as_nanos() as u64;
                return Ok((parts, stats));
            }
            // The log grew under the eyes of the reader.
            Err(e) if e.kind() == ErrorKind::Busy => last = None,
            Err(e) => {
                // Something may have vanished because a live writer replaced it. It is a verdict
                // only if the directory still says the same.
                let now = fingerprint(&context);
                match (now, last.replace(fingerprint(&context))) {
                    (Ok(now), Some(Ok(before))) if now == before => return Err(e),
                    (Err(e), Some(Err(_))) => return Err(e),
                    _ if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::Unsupported => return Err(e),
                    _ => {}
                }
            }
        }
    }
    Err(Error::new(
        ErrorKind::Busy,
        format!("the files changed during each of {READ_ONLY_TRIES} attempts to read them"),
    )
    .with_file(&context.dir))
}

/// What changes whenever a live writer changes the set of files.
fn fingerprint(context: &Context) -> Result<(Option<Current>, BTreeSet<String>, u64)> {
    let current = current::read_current(&*context.fs, &context.dir)?;
    let names = list(&*context.fs, &context.dir)?.into_iter().collect();
    let len = current.as_ref().map_or(0, |c| {
        let path = FileName::Manifest(c.manifest).path(&context.dir);
        context.fs.metadata(&path).map_or(0, |m| m.len)
    });
    Ok((current, names, len))
}

fn try_read_only(context: &Context) -> Result<(Parts, RecoveryStats)> {
    let Some(current) = current::read_current(&*context.fs, &context.dir)? else {
        // A directory that is not there at all cannot be listed, and is no database.
        if context.fs.metadata(&context.dir).is_ok_and(|m| m.is_dir) {
            refuse_headless(context)?;
        }
        return Err(missing(&context.dir));
    };
    let (found, stats) = Found::read(context, &current, true)?;
    for family in found.families.values() {
        for (_, table) in family.view().version.tables() {
            context.tables.get(table, &family.metrics)?;
        }
    }
    let parts = Parts {
        context: context.clone(),
        db_id: found.db_id,
        families: found.families.into_values().collect(),
        next_family: found.next_family,
        next_file: found.next_file,
        last_seq: found.last_seq,
        log: None,
        manifest: None,
        reserve: Reserve::none(context.fs.clone(), &context.dir),
        obsolete: found.obsolete,
        lock: None,
        created: found.created,
    };
    Ok((parts, stats))
}

/// The error for a directory without a database.
pub fn missing(dir: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "there is no database here").with_file(dir)
}

fn prepare_directory(context: &Context) -> Result<()> {
    let dir = &context.dir;
    let fs = &*context.fs;
    let exists = find(fs, dir).map_err(|e| Error::io("look for the database", dir, e))?.is_some();
    let current = FileName::Current.path(dir);
    if exists && find(fs, &current).map_err(|e| Error::io("look for the database", &current, e))?.is_some() {
        return Ok(());
    }
    if !context.options.create_if_missing {
        // What an interrupted creation or checkpoint left is no database; logs and tables without
        // CURRENT are a damaged one, which is said further on.
        if !exists || !has_data_files(fs, dir)? {
            return Err(missing(dir));
        }
        return Ok(());
    }
    // Without CURRENT nothing was ever acknowledged, and an earlier attempt may have failed between
    // the directory and its entry.
    make_directory(fs, dir)
}

/// Makes the directory and its missing parents, durably; what cannot be made durable is taken away
/// again.
pub fn make_directory(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let missing = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && fs.metadata(d).is_err()).count();
    fs.create_dir_all(dir).map_err(|e| Error::io("create the directory", dir, e))?;
    for parent in dir.ancestors().skip(1).take(missing.max(1)).filter(|p| !p.as_os_str().is_empty()) {
        match fs.sync_dir(parent) {
            // Where the parent cannot be opened, its entry is the file system's affair.
            Err(e) if !matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {
                // The next attempt must not find a directory whose entry no sync will ever write.
                for made in dir.ancestors().take(missing) {
                    let _ = fs.remove_dir(made);
                }
                return Err(Error::io("sync the directory", parent, e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn FileLock>> {
    if sabotage::is(Bug::LockNotTaken) {
        struct Nothing;
        impl FileLock for Nothing {
            fn sign(&self) {}
        }
        return Ok(Box::new(Nothing));
    }
    let path = FileName::Lock.path(dir);
    match fs.lock(&path).map_err(|e| Error::io("lock the database", &path, e))? {
        Ok(lock) => Ok(lock),
        Err(LockedBy { pid }) => {
            let by = if pid == std::process::id() { "this process".to_string() } else { format!("process {pid}") };
            Err(Error::new(ErrorKind::Locked, format!("the database is open already, by {by}")).with_file(&path))
        }
    }
}

/// The names in the database's directory.
pub fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>> {
    fs.list(dir).map_err(|e| Error::io("list the directory", dir, e))
}

fn files(fs: &dyn Fs, dir: &Path) -> Result<Vec<FileName>> {
    Ok(list(fs, dir)?.iter().filter_map(|n| FileName::parse(n)).collect())
}

fn has_data_files(fs: &dyn Fs, dir: &Path) -> Result<bool> {
    Ok(files(fs, dir)?.into_iter().any(is_data))
}

/// True for files that are made only once CURRENT is durable.
fn is_data(file: FileName) -> bool {
    matches!(file, FileName::Table(_) | FileName::Wal(_) | FileName::Blob(_))
}

/// Without CURRENT there is nothing here yet, unless there are logs or tables: those are made only
/// after CURRENT is durable, so then CURRENT was lost.
fn refuse_headless(context: &Context) -> Result<()> {
    let lost = files(&*context.fs, &context.dir)?.into_iter().find(|f| match f {
        FileName::Manifest(_) => sabotage::is(Bug::HalfMadeRefused),
        _ => is_data(*f),
    });
    match lost {
        Some(file) => Err(Error::corruption(format!("CURRENT is missing, but {file} is there"))
            .with_file(FileName::Current.path(&context.dir))),
        None => Ok(()),
    }
}

/// What the directory holds.
struct Found {
    db_id: u128,
    created: u64,
    unknown: UnknownFields,
    families: BTreeMap<FamilyId, Arc<Family>>,
    next_family: u32,
    next_file: u64,
    last_seq: SeqNo,
    obsolete: Arc<Obsolete>,
    /// Log segments to keep, oldest first: those of a sealed directory.
    kept: Vec<Segment>,
    /// Where the log ended.
    log_end: LogPosition,
    /// Files there were, for cleaning.
    files: Vec<FileName>,
    /// Log segments that a salvage gives up, to be set aside.
    damaged: Vec<u64>,
}

impl Found {
    fn empty(context: &Context) -> Result<(Found, RecoveryStats)> {
        let files = files(&*context.fs, &context.dir)?;
        refuse_irregular(context, &files)?;
        let created = context.clock.unix_seconds();
        let mut hasher = checksum::FileHasher::new();
        hasher.update(&context.seed.to_le_bytes());
        hasher.update(&created.to_le_bytes());
        hasher.update(context.dir.to_string_lossy().as_bytes());
        let mut found = Found {
            db_id: hasher.digest(),
            created,
            unknown: UnknownFields::default(),
            families: BTreeMap::new(),
            next_family: 1,
            next_file: 1,
            last_seq: 0,
            obsolete: Arc::new(Obsolete::default()),
            kept: Vec::new(),
            log_end: LogPosition { segment: 0, offset: 0 },
            files,
            damaged: Vec::new(),
        };
        found.next_file = next_number(&found.files);
        let default = FamilyRecord::new(FamilyId::DEFAULT, "default", context.default_family.clone(), 0);
        found.add_family(context, default, 0, Version::new());
        Ok((found, RecoveryStats { clean: true, ..RecoveryStats::default() }))
    }

    /// Reads the state; a second time, if there is damage and the options ask for what lies before it.
    /// `shared`: somebody may be writing meanwhile.
    fn read(context: &Context, current: &Current, shared: bool) -> Result<(Found, RecoveryStats)> {
        match Found::try_read(context, current, shared, false) {
            Err(e) if e.is_corruption() && context.options.log_recovery == LogRecovery::SalvagePrefix => {
                tracing::warn!(error = %e, "salvaging what lies before the damage");
                Found::try_read(context, current, shared, true)
            }
            outcome => outcome,
        }
    }

    fn try_read(context: &Context, current: &Current, shared: bool, salvage: bool) -> Result<(Found, RecoveryStats)> {
        let fs = &*context.fs;
        let dir = &context.dir;
        let seal = current.seal.as_ref();
        let scan = manifest::read_manifest(fs, dir, current.manifest, seal.map(|s| (s.manifest_len, s.manifest_hash)))
            .map_err(missing_is_damage)?;
        let manifest_path = FileName::Manifest(current.manifest).path(dir);
        if scan.db_id != current.db_id {
            return Err(Error::corruption("the manifest belongs to another database").with_file(manifest_path));
        }
        let state = fold(&scan).map_err(|e| e.with_file(&manifest_path))?;
        let files = files(fs, dir)?;
        refuse_irregular(context, &files)?;
        let mut above = next_number(&files);
        if sabotage::is(Bug::FileNumberReused) {
            above = 1;
        }
        let mut found = Found {
            db_id: scan.db_id,
            created: state.created,
            unknown: state.unknown,
            families: BTreeMap::new(),
            next_family: state.next_family,
            next_file: state.next_file.max(above),
            last_seq: state.last_seq,
            obsolete: Arc::new(Obsolete::default()),
            kept: Vec::new(),
            log_end: LogPosition { segment: 0, offset: 0 },
            files,
            damaged: Vec::new(),
        };
        for family in state.families.into_values() {
            let mut tables = Vec::new();
            for ((level, _), meta) in family.tables {
                check_table_file(&*context.fs, &context.dir, &meta)
                    .map_err(|e| e.with_column_family(&*family.record.name))?;
                tables.push((usize::from(level), found.table_file(meta)));
            }
            let version = Version::new().apply(&tables, &[]).map_err(|e| e.with_file(&manifest_path))?;
            version.check_invariants().map_err(|e| e.with_file(&manifest_path))?;
            found.add_family(context, family.record, family.flushed, version);
        }
        let mut stats = RecoveryStats {
            clean: seal.is_some() && !salvage,
            torn_tail_bytes: scan.torn_tail_bytes,
            ..RecoveryStats::default()
        };
        let seal = seal.filter(|_| !salvage);
        found.replay(context, seal, state.log_first, state.log_synced, shared, salvage, &mut stats)?;
        // Nobody can drop it; who opens the database relies on it.
        if !found.families.contains_key(&FamilyId::DEFAULT) {
            return Err(Error::corruption("the column family \"default\" is missing").with_file(&manifest_path));
        }
        Ok((found, stats))
    }

    fn add_family(&mut self, context: &Context, record: FamilyRecord, flushed: SeqNo, version: Version) {
        let (tables, metrics) = (context.tables.clone(), context.metrics.clone());
        let id = record.id;
        let family = Family::new(record, flushed, version, tables, metrics);
        self.families.insert(id, Arc::new(family));
    }

    fn table_file(&self, meta: TableMeta) -> Arc<TableFile> {
        let reaper: Arc<dyn Reaper> = self.obsolete.clone();
        TableFile::new(meta, Arc::downgrade(&reaper))
    }

    fn replay(
        &mut self,
        context: &Context,
        seal: Option<&Seal>,
        log_first: u64,
        log_synced: Option<LogPosition>,
        shared: bool,
        salvage: bool,
        stats: &mut RecoveryStats,
    ) -> Result<()> {
        let mut numbers: Vec<u64> = self
            .files
            .iter()
            .filter_map(|f| match f {
                FileName::Wal(n) if *n >= log_first => Some(*n),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        if let Some(seal) = seal {
            // Under a seal the list of logs is exact; a file that it does not name is none of ours.
            numbers = seal.logs.iter().map(|l| l.number).collect();
            if numbers.is_empty() {
                return Ok(()); // A checkpoint: all of it is in tables.
            }
        }
        let promised = log_synced.filter(|p| p.segment >= log_first && p.offset > 0);
        if let Some(p) = promised.filter(|p| !salvage && !numbers.contains(&p.segment)) {
            return Err(Error::corruption("a log segment is missing that the manifest says is durable")
                .with_file(FileName::Wal(p.segment).path(&context.dir)));
        }
        let hint = promised.unwrap_or(LogPosition { segment: 0, offset: 0 });
        let mut batches = 0;
        let memtable_size = context.options.memtable_size;
        let db_id = self.db_id;
        let fs = context.fs.clone();
        let scan: LogScan = {
            let mut visit = |header: &RecordHeader, payload: &[u8], _at: LogPosition| -> Result<()> {
                batches += 1;
                self.replay_record(context, header, payload, memtable_size)
            };
            let rules = ReplayRules { db_id, log_first, durable_hint: hint, seal, live: false, shared, salvage };
            wal::replay(&*fs, &context.dir, &numbers, &rules, &mut visit).map_err(missing_is_damage)?
        };
        stats.batches = batches;
        if let Some(damage) = &scan.damage {
            tracing::warn!(%damage, bytes = scan.torn_tail_bytes, "the log is given up from here on");
            stats.salvage_lost_bytes = scan.torn_tail_bytes;
            self.damaged = numbers.iter().copied().filter(|n| *n >= scan.end.segment).collect();
            stats.salvage_segments = self.damaged.len() as u64;
        } else {
            stats.torn_tail_bytes += scan.torn_tail_bytes;
        }
        stats.log_bytes = scan.segments.iter().map(|s| s.valid_len).sum();
        if !sabotage::is(Bug::LastNumberForgotten) {
            self.last_seq = self.last_seq.max(scan.next_seq.map_or(0, |next| next - 1));
        }
        self.log_end = scan.end;
        if seal.is_some() {
            let mut last_seq = 0;
            for (i, segment) in scan.segments.iter().enumerate() {
                last_seq = match scan.segments.get(i + 1) {
                    Some(next) => next.first_seq - 1,
                    None => self.last_seq.max(last_seq),
                };
                self.kept.push(Segment { number: segment.number, len: segment.file_len, last_seq });
            }
            // Segments in front whose batches are all in tables may go, so that the next open does not
            // read them again.
            let needed = self.families.values().filter_map(|f| f.first_unflushed()).min().unwrap_or(SeqNo::MAX);
            let n_flushed = self.kept.iter().take_while(|s| s.last_seq < needed).count();
            self.kept.drain(..n_flushed);
        }
        Ok(())
    }

    fn replay_record(
        &mut self,
        context: &Context,
        header: &RecordHeader,
        payload: &[u8],
        memtable_size: usize,
    ) -> Result<()> {
        match header.kind {
            RecordKind::Batch => self.replay_batch(header, payload, memtable_size),
            RecordKind::FamilyOperation => {
                let edit = decode_family_operation(payload)?;
                self.replay_family_operation(context, &edit, header.first_seq);
                Ok(())
            }
            RecordKind::Ingest => {
                let edit = decode_ingest(payload)?;
                self.replay_ingest(context, &edit, header.first_seq)
            }
            _ => Ok(()),
        }
    }

    fn replay_batch(&mut self, header: &RecordHeader, payload: &[u8], memtable_size: usize) -> Result<()> {
        // All of it is checked before any of it is applied.
        let mut count = 0u64;
        for entry in batch::walk(payload) {
            check_batch_family(entry?.family(), self.next_family)?;
            count += 1;
        }
        check_batch_count(header, count)?;
        for (seq, entry) in (header.first_seq..).zip(batch::walk(payload)) {
            let entry = entry?;
            match self.families.get(&entry.family()) {
                Some(_)
                    if matches!(entry, BatchEntry::DeleteRange { .. }) && sabotage::is(Bug::RangeDeleteNotReplayed) => {
                }
                Some(family) if seq > family.flushed() => {
                    let oldest = family.sealed().into_iter().next();
                    if let Some(oldest) = oldest.filter(|_| seq % 2 == 0 && sabotage::is(Bug::ReplayBelow)) {
                        oldest.add(&entry, seq);
                        continue;
                    }
                    let active = family.active();
                    if active.size() >= memtable_size {
                        family.seal();
                        family.active().add(&entry, seq);
                    } else {
                        active.add(&entry, seq);
                    }
                }
                // In tables already, or of a family that was dropped later.
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Applies a family operation that the manifest may or may not contain. Every operation is
    /// idempotent, and the log holds all of them from some moment on in their order.
    fn replay_family_operation(&mut self, context: &Context, edit: &VersionEdit, seq: SeqNo) {
        for record in &edit.families_created {
            if record.id.0 >= self.next_family {
                self.next_family = record.id.0 + 1;
                self.add_family(context, FamilyRecord { created_seq: seq, ..record.clone() }, seq, Version::new());
            }
        }
        for (id, name) in &edit.families_renamed {
            if let Some(family) = self.families.get(id) {
                family.rename(name);
            }
        }
        for (id, options) in &edit.options_changed {
            if let Some(family) = self.families.get(id) {
                family.set_options(options.clone());
            }
        }
        for id in &edit.families_dropped {
            self.families.remove(id);
        }
    }

    /// Installs ingested tables if the manifest lacks them. An ingest flushes its family first and
    /// counts as flushed itself, so the family's mark tells.
    fn replay_ingest(&mut self, context: &Context, edit: &VersionEdit, seq: SeqNo) -> Result<()> {
        let mut by_family: BTreeMap<FamilyId, Vec<(usize, Arc<TableFile>)>> = BTreeMap::new();
        for (id, level, meta) in &edit.added {
            let file = self.table_file(meta.clone().ingested_at(seq));
            by_family.entry(*id).or_default().push((usize::from(*level), file));
        }
        for (id, tables) in by_family {
            let Some(family) = self.families.get(&id).filter(|f| f.flushed() < seq) else { continue };
            for (_, table) in &tables {
                check_table_file(&*context.fs, &context.dir, &table.meta)?;
            }
            let version = family.view().version.apply(&tables, &[])?;
            family.install(version, &[], Some(seq));
        }
        Ok(())
    }
}

/// Fails if a batch of the log names a family that was not made before it.
pub fn check_batch_family(id: FamilyId, next_family: u32) -> Result<()> {
    if id.0 >= next_family {
        return Err(Error::corruption(format!("a batch names column family {id}, which never was")));
    }
    Ok(())
}

/// Fails if the record of a batch says another number of entries than it has.
pub fn check_batch_count(header: &RecordHeader, count: u64) -> Result<()> {
    if count != u64::from(header.count) {
        return Err(Error::corruption("a batch has another number of entries than its log record says"));
    }
    Ok(())
}

/// Fails if something with one of our names is no regular file: a symbolic link, say, which might lead
/// anywhere. Tables are looked at as the manifest names them.
fn refuse_irregular(context: &Context, files: &[FileName]) -> Result<()> {
    for file in files.iter().filter(|f| !matches!(f, FileName::Table(_))) {
        let path = file.path(&context.dir);
        let found = find(&*context.fs, &path).map_err(|e| Error::io("look at a file", &path, e))?;
        if found.is_some_and(|m| !m.is_file) {
            return Err(irregular(&path));
        }
    }
    Ok(())
}

fn irregular(path: &Path) -> Error {
    Error::corruption("it is a symbolic link or something else that is no regular file; none is followed here")
        .with_file(path)
}

/// A manifest or log segment that is named and not there has been lost.
pub fn missing_is_damage(e: Error) -> Error {
    match e.io_kind() {
        Some(std::io::ErrorKind::NotFound) => e.with_kind(ErrorKind::Corruption).with_offset(0),
        _ => e,
    }
}

/// Fails if a table's file is not there or has another size than the manifest says.
pub fn check_table_file(fs: &dyn Fs, dir: &Path, meta: &TableMeta) -> Result<()> {
    let path = FileName::Table(meta.number).path(dir);
    match fs.metadata(&path) {
        Ok(m) if !m.is_file => Err(irregular(&path).with_offset(0)),
        Ok(m) if m.len == meta.size => Ok(()),
        Ok(m) => Err(Error::corruption(format!("the table has {} bytes; the manifest says {}", m.len, meta.size))
            .with_file(path)
            .with_offset(m.len.min(meta.size))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::corruption("a table is missing that the manifest names").with_file(path).with_offset(0))
        }
        Err(e) => Err(Error::io("look at the table", &path, e)),
    }
}

/// Makes what was found the live state. On a full disk the reserve is given back for it.
fn take_over(context: Context, mut found: Found, lock: Box<dyn FileLock>) -> Result<Parts> {
    let fs = &*context.fs;
    let reserve = FileName::Reserve.path(&context.dir);
    let released = |e: &Error| e.kind() == ErrorKind::NoSpace && fs.remove_file(&reserve).is_ok();
    let first_new = found.next_file;
    let committed = match commit(&context, &mut found) {
        Err(e) if released(&e) => commit(&context, &mut found),
        outcome => outcome,
    };
    let (manifest, segment_number) = committed.inspect_err(|_| undo(&context, &found, first_new))?;
    let begin_log = || {
        LiveLog::create(
            context.fs.clone(),
            context.dir.clone(),
            found.db_id,
            context.seed,
            Appending { mode: context.options.log_mode, segment_size: context.options.log_segment_size },
            context.clock.clone(),
            context.metrics.clone(),
            segment_number,
            found.kept.clone(),
            found.log_end,
            found.last_seq,
        )
    };
    // The manifest names the first segment: another attempt must make the same one.
    let log = match begin_log() {
        Err(e) if released(&e) => begin_log(),
        outcome => outcome,
    }?;
    let first_segment = found.kept.first().map_or(segment_number, |s| s.number);
    remove_garbage(&context, &found, manifest.number(), first_segment);
    lock.sign();
    Ok(Parts {
        reserve: Reserve::make(context.fs.clone(), &context.dir, context.options.reserve_size),
        context,
        db_id: found.db_id,
        families: found.families.into_values().collect(),
        next_family: found.next_family,
        next_file: found.next_file,
        last_seq: found.last_seq,
        log: Some(log),
        manifest: Some(manifest),
        obsolete: found.obsolete,
        lock: Some(lock),
        created: found.created,
    })
}

/// Removes what a failed [`commit`] has made, unless CURRENT may name it.
fn undo(context: &Context, found: &Found, first_new: u64) {
    let fs = &*context.fs;
    let unnamed = current::read_current(fs, &context.dir).is_ok_and(|c| c.is_none_or(|c| c.manifest < first_new));
    if !unnamed {
        return;
    }
    for n in first_new..found.next_file {
        context.tables.forget(n);
        for file in [FileName::Table(n), FileName::Manifest(n)] {
            let _ = fs.remove_file(&file.path(&context.dir)); // Most were never made.
        }
    }
    for &n in &found.damaged {
        let _ = fs.remove_file(&FileName::Wal(n).set_aside_path(&context.dir));
    }
    // What was given back for the attempt.
    if find(fs, &FileName::Reserve.path(&context.dir)).is_ok_and(|f| f.is_none())
        && found.files.contains(&FileName::Reserve)
    {
        drop(Reserve::make(context.fs.clone(), &context.dir, context.options.reserve_size));
    }
}

/// Makes the new state durable, up to the moment when CURRENT names it: its manifest, and the number of
/// the log segment to begin. It may be called again after a failure.
fn commit(context: &Context, found: &mut Found) -> Result<(ManifestWriter, u64)> {
    let clean = !found.kept.is_empty();
    if !clean {
        flush_replayed(context, found)?;
    }
    for &n in &found.damaged {
        set_aside(context, FileName::Wal(n))?;
    }
    let manifest_number = found.next_file;
    let segment_number = found.next_file + 1;
    found.next_file += 2;
    let views: Vec<(Arc<Family>, Arc<Version>)> =
        found.families.values().map(|f| (f.clone(), f.view().version.clone())).collect();
    let mut edit = store::snapshot_edit(
        found.db_id,
        found.created,
        views.iter().map(|(f, v)| (&**f, &**v)),
        found.next_family,
        found.next_file,
        found.last_seq,
    );
    let first_segment = found.kept.first().map_or(segment_number, |s| s.number);
    edit.unknown = found.unknown.clone();
    edit.log_first = Some(first_segment + u64::from(sabotage::is(Bug::NewLogIgnored)));
    edit.log_synced = clean.then_some(found.log_end);
    let fs = &*context.fs;
    let manifest = ManifestWriter::create(fs, &context.dir, manifest_number, found.db_id, &edit)?;
    if !sabotage::is(Bug::RecoveryDirNotSynced) {
        fs.sync_dir(&context.dir).map_err(|e| Error::io("sync the directory", &context.dir, e))?;
    }
    if sabotage::is(Bug::LogsGoneBeforeCurrent) {
        remove_garbage(context, found, manifest_number, first_segment);
    }
    let current = Current { db_id: found.db_id, manifest: manifest_number, seal: None };
    if !(sabotage::is(Bug::SealKept) && clean) {
        current::write_current(fs, &context.dir, &current).inspect_err(|e| {
            // Then CURRENT is as it was, and another attempt makes another manifest.
            if e.kind() == ErrorKind::NoSpace {
                let _ = fs.remove_file(&FileName::Manifest(manifest_number).path(&context.dir));
            }
        })?;
    }
    Ok((manifest, segment_number))
}

/// Gives a file its second name, before the new state lets the first one go.
fn set_aside(context: &Context, file: FileName) -> Result<()> {
    let (from, to) = (file.path(&context.dir), file.set_aside_path(&context.dir));
    match context.fs.hard_link(&from, &to) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("set the damaged log aside", &to, e)),
        // By an attempt that did not come to its end: numbers are never used again.
        _ => Ok(()),
    }
}

/// Writes what an unclean log gave into new, synced tables.
fn flush_replayed(context: &Context, found: &mut Found) -> Result<()> {
    let outcome = flush_families(context, found);
    // A failed sync of the directory poisons a handle; here there is none yet.
    outcome.map_err(|e| if e.kind() == ErrorKind::Poisoned { e.with_kind(ErrorKind::Io) } else { e })
}

fn flush_families(context: &Context, found: &mut Found) -> Result<()> {
    let next = AtomicU64::new(found.next_file);
    let next_file = || next.fetch_add(1, Ordering::Relaxed);
    let last = found.families.keys().next_back().copied();
    for (id, family) in &found.families {
        family.seal();
        let mut memtables: Vec<Arc<Memtable>> = family.sealed();
        if sabotage::is(Bug::RecoverySkipsFamily) && found.families.len() > 1 && Some(*id) == last {
            continue;
        }
        if sabotage::is(Bug::ReplayStopsEarly) {
            memtables.truncate(1);
        }
        if memtables.is_empty() {
            continue;
        }
        let options = family.options();
        let job = JobContext {
            fs: &*context.fs,
            dir: &context.dir,
            db_id: found.db_id,
            clock: context.clock.clone(),
            tables: &context.tables,
            metrics: &context.metrics,
            family: &family.metrics,
            options: &options,
            tuning: &family.tuning,
            pressed: false,
            visible: found.last_seq,
            snapshots: Vec::new(),
            next_file: &next_file,
            cancelled: &|| false,
            helpers: &NoHelpers,
        };
        let meta = flush::run(&job, &memtables).map_err(|e| e.with_column_family(&*family.name()));
        found.next_file = next.load(Ordering::Relaxed);
        let meta = meta?;
        let added: Vec<(usize, Arc<TableFile>)> = meta.into_iter().map(|m| (0, found.table_file(m))).collect();
        let version = family.view().version.apply(&added, &[])?;
        family.install(version, &memtables, Some(found.last_seq));
    }
    Ok(())
}

/// Removes files of ours that nothing names. What cannot be removed is tried again next time.
fn remove_garbage(context: &Context, found: &Found, manifest: u64, first_segment: u64) {
    let live: BTreeSet<u64> = found
        .families
        .values()
        .flat_map(|f| f.view().version.tables().map(|(_, t)| t.number()).collect::<Vec<_>>())
        .collect();
    for file in &found.files {
        let garbage = match *file {
            FileName::Table(n) => !live.contains(&n),
            FileName::Wal(n) => n < first_segment || !found.kept.iter().any(|s| s.number == n),
            FileName::Manifest(n) => n != manifest,
            FileName::CurrentTemp => true,
            FileName::Current | FileName::Lock | FileName::Reserve | FileName::Blob(_) => false,
        };
        let path = file.path(&context.dir);
        let ours = || context.fs.metadata(&path).is_ok_and(|m| m.is_file);
        if garbage && ours() && context.fs.remove_file(&path).is_ok() {
            context.metrics.files_deleted.inc();
        }
    }
}

/// The state that a manifest's edits add up to.
pub struct ManifestState {
    /// When the database was made.
    pub created: u64,
    /// Which version of Lignite wrote the manifest.
    pub creator: String,
    /// Number of the next file.
    pub next_file: u64,
    /// Number of the next family.
    pub next_family: u32,
    /// The last sequence number it knows of.
    pub last_seq: SeqNo,
    /// The smallest live log segment.
    pub log_first: u64,
    /// How far the log was durable.
    pub log_synced: Option<LogPosition>,
    /// The families.
    pub families: BTreeMap<FamilyId, ManifestFamily>,
    /// The numbers of all their tables: each is there once.
    numbers: BTreeSet<u64>,
    /// Optional words of a later version, handed on.
    pub unknown: UnknownFields,
}

/// One family as a manifest describes it.
pub struct ManifestFamily {
    /// Number, name, options and what a later version may have added.
    pub record: FamilyRecord,
    /// Everything up to here is in tables.
    pub flushed: SeqNo,
    /// Its tables, by level and number.
    pub tables: BTreeMap<(u8, u64), TableMeta>,
}

/// Adds up the edits of a manifest.
pub fn fold(scan: &ManifestScan) -> Result<ManifestState> {
    fold_edits(&scan.edits).map_err(|(_, e)| e)
}

/// As [`fold`]; a failure comes with the number of the edit.
fn fold_edits(edits: &[VersionEdit]) -> std::result::Result<ManifestState, (usize, Error)> {
    let mut state = ManifestState {
        created: 0,
        creator: String::new(),
        next_file: 1,
        next_family: 1,
        last_seq: 0,
        log_first: 0,
        log_synced: None,
        families: BTreeMap::new(),
        numbers: BTreeSet::new(),
        unknown: UnknownFields::default(),
    };
    if !edits.first().is_some_and(|e| e.snapshot) {
        return Err((0, Error::corruption("the manifest does not begin with a full state")));
    }
    for (i, edit) in edits.iter().enumerate() {
        state.add(edit).map_err(|e| (i, e))?;
    }
    Ok(state)
}

/// Adds up the edits of a manifest as far as they make sense; says how many did, and why no more. None
/// if not even the first one does.
pub fn fold_prefix(edits: &[VersionEdit]) -> (Option<ManifestState>, usize, Option<Error>) {
    let mut why = None;
    let mut n = edits.len();
    while n > 0 {
        // An edit that fails may have been added in part, so those before it are added up once more.
        match fold_edits(&edits[..n]) {
            Ok(state) => return (Some(state), n, why),
            Err((at, e)) => (n, why) = (at, Some(e)),
        }
    }
    (None, 0, why)
}

impl ManifestState {
    fn add(&mut self, edit: &VersionEdit) -> Result<()> {
        if let Some(unknown) = edit.features.iter().flatten().find(|f| !FEATURES.contains(&f.as_str())) {
            return Err(Error::unsupported(format!(
                "the database needs the feature {unknown:?}, which this version does not have"
            )));
        }
        self.unknown.extend(&edit.unknown);
        self.created = edit.created_unix.unwrap_or(self.created);
        if let Some(creator) = &edit.creator {
            self.creator.clone_from(creator);
        }
        self.next_file = self.next_file.max(edit.next_file.unwrap_or(0));
        self.next_family = self.next_family.max(edit.next_family.unwrap_or(0));
        self.last_seq = self.last_seq.max(edit.last_seq.unwrap_or(0));
        self.log_first = self.log_first.max(edit.log_first.unwrap_or(0));
        self.log_synced = self.log_synced.max(edit.log_synced);
        for record in &edit.families_created {
            let family =
                ManifestFamily { record: record.clone(), flushed: record.created_seq, tables: BTreeMap::new() };
            if self.families.insert(record.id, family).is_some() {
                return Err(Error::corruption(format!("column family {} is created twice", record.id)));
            }
            self.next_family = self.next_family.max(record.id.0 + 1);
        }
        for (id, name) in &edit.families_renamed {
            self.family(*id)?.record.name.clone_from(name);
        }
        for (id, options) in &edit.options_changed {
            self.family(*id)?.record.options = options.clone();
        }
        for (id, seq) in &edit.flushed {
            let family = self.family(*id)?;
            family.flushed = family.flushed.max(*seq);
        }
        for (id, level, number) in &edit.deleted {
            if self.family(*id)?.tables.remove(&(*level, *number)).is_none() {
                return Err(Error::corruption(format!(
                    "table {number} is removed from level {level}, where it is not"
                )));
            }
            self.numbers.remove(number);
        }
        for (id, level, meta) in &edit.added {
            if !self.numbers.insert(meta.number) {
                return Err(Error::corruption(format!("table {} is added twice", meta.number)));
            }
            self.family(*id)?.tables.insert((*level, meta.number), meta.clone());
        }
        for id in &edit.families_dropped {
            let Some(family) = self.families.remove(id) else {
                return Err(Error::corruption(format!("column family {id} is dropped, which is not there")));
            };
            for (_, number) in family.tables.keys() {
                self.numbers.remove(number);
            }
        }
        Ok(())
    }

    fn family(&mut self, id: FamilyId) -> Result<&mut ManifestFamily> {
        self.families
            .get_mut(&id)
            .ok_or_else(|| Error::corruption(format!("an edit names column family {id}, which is not there")))
    }
}
