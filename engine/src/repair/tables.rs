//! The tables of the new database: copied, written anew from what is left, merged, or found.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::PathBuf;

use super::rebuild::{Family, Rebuild};
use super::report::{GoOn, Loss, cancelled};
use super::sources::{Source, visit_live};
use crate::check::Problem;
use crate::compaction::job::{JobContext, NoHelpers};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::flush;
use crate::iter::Cursor;
use crate::key::{FamilyId, SEQ_MAX};
use crate::memtable::Memtable;
use crate::metrics::{LEVELS, Metrics};
use crate::options::{CfOptions, Depth};
use crate::recovery;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::table::wreck::{Wreck, forgivable};
use crate::table::{TableBuilder, TableWriteOptions};
use crate::tables::Tables;
use crate::tune::Tuning;
use crate::version::edit::FamilyRecord;
use crate::version::{Origin, TableFile, TableMeta, Version};

impl Rebuild<'_> {
    pub(super) fn rebuild_family(&mut self, id: FamilyId, sound: &BTreeSet<u64>, go_on: GoOn<'_>) -> Result<()> {
        let Some(mut family) = self.families.remove(&id) else { return Ok(()) };
        let result = self.rebuild_tables(&mut family, sound, go_on);
        self.families.insert(id, family);
        result
    }

    fn rebuild_tables(&mut self, family: &mut Family, sound: &BTreeSet<u64>, go_on: GoOn<'_>) -> Result<()> {
        let mut wrecks = Vec::new();
        let first_new = self.next_file.load(Ordering::Relaxed);
        for (level, meta) in family.old.clone() {
            self.last_seq = self.last_seq.max(meta.seq_max).max(meta.seq_override.unwrap_or(0));
            if sound.contains(&meta.number) && !family.merge && meta.number < first_new {
                if self.copy(FileName::Table(meta.number))? != meta.hash {
                    return Err(Error::new(ErrorKind::Io, "the table reads differently each time")
                        .with_file(FileName::Table(meta.number).path(&self.source.dir)));
                }
                self.report.tables_copied += 1;
                family.new.push((level, meta));
            } else if let Some(wreck) = self.read_wreck(family, level, &meta)? {
                let bottom = level + 1 == LEVELS;
                let depth = if bottom {
                    Depth::Bottom
                } else if level == 0 {
                    Depth::Young
                } else {
                    Depth::Deep
                };
                if family.merge {
                    wrecks.push(wreck);
                } else if let Some(meta) = self.rewrite(&wreck, &family.record.options, level, depth)? {
                    self.report.tables_rebuilt += 1;
                    family.new.push((level, meta));
                }
            }
            if !go_on(self.progress) {
                return Err(cancelled());
            }
        }
        let tables: Vec<_> = family.new.iter().map(|(l, m)| (*l, TableFile::unmanaged(m.clone()))).collect();
        if !family.merge && Version::new().apply(&tables, &[]).is_err() {
            // The manifest itself says what cannot be. Sequence numbers decide.
            for (_, meta) in std::mem::take(&mut family.new) {
                let path = FileName::Table(meta.number).path(self.to);
                wrecks.push(Arc::new(Wreck::read(&**self.fs, &path, Some(&meta), &[])?));
            }
            family.merge = true;
        }
        if family.merge {
            self.merge(family, wrecks)?;
        } else if !family.memtable.is_empty() {
            self.flush(family)?;
        }
        Ok(())
    }

    /// What is left of a table that the manifest names; reports what is not.
    fn read_wreck(&mut self, family: &Family, level: usize, meta: &TableMeta) -> Result<Option<Arc<Wreck>>> {
        let own = FileName::Table(meta.number);
        // Its own file, unless that says that it is another one and another file says that it is this one.
        let says = self.places.get(&meta.number);
        let elsewhere = self.places.iter().find(|(_, o)| **o == meta.origin).map(|(n, _)| FileName::Table(*n));
        let file = if says.is_some_and(|o| *o != meta.origin) { elsewhere.unwrap_or(own) } else { own };
        let path = file.path(&self.source.dir);
        let name = family.record.name.as_str();
        let wreck = match Wreck::read(&**self.fs, &path, Some(meta), &[]) {
            Ok(wreck) => wreck,
            Err(e) => {
                let e = forgivable(recovery::missing_is_damage(e))?.with_file(&path);
                self.report.tables_lost += 1;
                self.report.losses.push(Loss::whole(&e, &path, name, meta));
                self.warn_of_deletes(family, level, meta, 0, meta.range_deletes > 0);
                return Ok(None);
            }
        };
        let lost_entries = meta.entries.saturating_sub(wreck.entries);
        if !wreck.is_complete() {
            let before = self.report.losses.len();
            self.report.losses.extend(wreck.defects.iter().filter(|d| d.lost).map(|d| Loss::of_defect(d, &path, name)));
            if self.report.losses[before..].iter().all(|l| l.first_key.is_none()) && lost_entries > 0 {
                let e = Error::corruption(format!("{lost_entries} entries of the table cannot be read"));
                self.report.losses.push(Loss { entries: Some(lost_entries), ..Loss::whole(&e, &path, name, meta) });
            }
            self.warn_of_deletes(family, level, meta, wreck.deletes, wreck.tombstones_lost);
        } else if lost_entries > 0 {
            let e = Error::corruption(format!(
                "the manifest says {} entries, the table has {}",
                meta.entries, wreck.entries
            ));
            self.report.losses.push(Loss { entries: Some(lost_entries), ..Loss::whole(&e, &path, name, meta) });
        }
        if wreck.is_empty() {
            self.report.tables_lost += 1;
            return Ok(None);
        }
        Ok(Some(Arc::new(wreck)))
    }

    /// Lost deletes let deleted keys come back, and lost versions let older ones show. Whoever uses the
    /// result has to know.
    fn warn_of_deletes(&mut self, family: &Family, level: usize, meta: &TableMeta, deletes: u64, ranges: bool) {
        let keys = match &meta.largest {
            Bound::Included(k) | Bound::Excluded(k) => format!("{} to {}", shown(&meta.smallest), shown(k)),
            Bound::Unbounded => format!("{} on", shown(&meta.smallest)),
        };
        let name = &family.record.name;
        let lost = meta.deletes.saturating_sub(deletes);
        if lost > 0 {
            let what = format!("table {} of {name}: {lost} deletes are lost", meta.number);
            self.report.warnings.push(format!("{what}; keys from {keys} that were deleted may be back"));
        }
        if ranges && meta.range_deletes > 0 {
            let what = format!("table {} of {name}: range deletes are lost", meta.number);
            self.report.warnings.push(format!("{what}; keys from {keys} that were deleted may be back"));
        }
        let older = |(l, m): &&(usize, TableMeta)| {
            (*l > level || *l == 0 && m.seq_max < meta.seq_min) && m.overlaps(&meta.smallest, &meta.largest)
        };
        if family.old.iter().any(|t| older(&t)) {
            let what = format!("table {} of {name}: newer versions are lost", meta.number);
            self.report.warnings.push(format!("{what}; older values of keys from {keys} may show"));
        }
    }

    fn builder(&self, options: &CfOptions, depth: Depth, level: usize) -> Result<TableBuilder<'_>> {
        let options = TableWriteOptions::for_depth(options, depth);
        let created = self.clock.unix_seconds();
        let (metrics, clock) = (self.metrics.clone(), self.clock.clone());
        TableBuilder::create(&**self.fs, self.to, self.number(), self.db_id, options, created, metrics, level, clock)
    }

    pub(super) fn number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// All that is left of a table, every version, as a new table.
    fn rewrite(
        &self,
        wreck: &Arc<Wreck>,
        options: &CfOptions,
        level: usize,
        depth: Depth,
    ) -> Result<Option<TableMeta>> {
        if wreck.is_empty() {
            return Ok(None);
        }
        let mut builder = self.builder(options, depth, level)?;
        if let Some(p) = wreck.properties.as_ref().filter(|p| p.oldest_data > 0) {
            builder.set_oldest_data(p.oldest_data);
        }
        let mut cursor = wreck.cursor();
        cursor.seek_to_first()?;
        while cursor.valid() {
            // A delete that somebody gave a value is one all the same.
            let value = if cursor.tag().is_delete() { &[] } else { cursor.value() };
            builder.add(cursor.key(), cursor.tag(), value)?;
            cursor.next()?;
        }
        builder.add_tombstones(&wreck.tombstones);
        builder.finish().map(Some)
    }

    /// Everything of a family, the newest version of each key, in tables of the last level.
    fn merge(&mut self, family: &mut Family, wrecks: Vec<Arc<Wreck>>) -> Result<()> {
        self.report.tables_rebuilt += wrecks.len() as u64;
        let old: Vec<PathBuf> =
            wrecks.iter().map(|w| w.path().to_path_buf()).filter(|p| p.starts_with(self.to)).collect();
        let mut sources: Vec<Source> = wrecks.into_iter().map(Source::Table).collect();
        sources.push(Source::Log(std::mem::replace(&mut family.memtable, Arc::new(Memtable::new(0)))));
        let level = LEVELS - 1;
        let options = family.record.options.clone();
        let mut open: Option<TableBuilder<'_>> = None;
        let mut done = Vec::new();
        visit_live(&sources, &mut |key, tag, value| {
            if open.as_ref().is_some_and(|b| b.estimated_size() >= options.table_size)
                && let Some(full) = open.take()
            {
                done.push(full.finish()?);
            }
            let builder = match &mut open {
                Some(builder) => builder,
                none => none.insert(self.builder(&options, Depth::Bottom, level)?),
            };
            builder.add(key, tag, value)
        })?;
        if let Some(last) = open {
            done.push(last.finish()?);
        }
        family.new = done.into_iter().map(|meta| (level, meta)).collect();
        drop(sources);
        for path in old {
            self.fs.remove_file(&path).map_err(|e| Error::io("remove a table", &path, e))?;
        }
        Ok(())
    }

    /// What the log gave, as a table of level 0.
    fn flush(&mut self, family: &mut Family) -> Result<()> {
        let metrics = Arc::new(Metrics::default());
        let tables =
            Arc::new(Tables::new(self.fs.clone(), self.to, 1 << 20, 16, metrics.clone(), self.clock.clone(), None));
        let job = JobContext {
            fs: &**self.fs,
            dir: self.to,
            db_id: self.db_id,
            clock: self.clock.clone(),
            tables: &tables,
            metrics: &metrics,
            family: &self.metrics,
            options: &family.record.options,
            tuning: &Tuning::default(),
            pressed: false,
            visible: SEQ_MAX,
            snapshots: Vec::new(),
            next_file: &|| self.number(),
            cancelled: &|| false,
            helpers: &NoHelpers,
        };
        if let Some(meta) = flush::run(&job, std::slice::from_ref(&family.memtable))? {
            family.new.push((0, meta));
        }
        Ok(())
    }

    /// Makes a family of a table that nothing names.
    pub(super) fn adopt(&mut self, number: u64, go_on: GoOn<'_>) -> Result<()> {
        let path = FileName::Table(number).path(&self.source.dir);
        let guesses: Vec<Origin> = self.ids.iter().map(|&db_id| Origin { db_id, number }).collect();
        let name = self.free_name(&format!("lost+found/{number:06}"));
        let wreck = match Wreck::read(&**self.fs, &path, None, &guesses) {
            Ok(wreck) => Arc::new(wreck),
            Err(e) => {
                let e = forgivable(e)?;
                self.report.tables_lost += 1;
                self.report.losses.push(Loss::of(&e.with_file(&path), None));
                return Ok(());
            }
        };
        for defect in &wreck.defects {
            let error = defect.error.clone().with_file(&path).with_offset(defect.offset);
            self.report.problems.push(Problem::of(&error, &path));
        }
        let lost = wreck.defects.iter().filter(|d| d.lost);
        self.report.losses.extend(lost.map(|d| Loss::of_defect(d, &path, &name)));
        if wreck.is_empty() {
            self.report.tables_lost += 1;
            return Ok(());
        }
        self.last_seq = self.last_seq.max(wreck.seq_max);
        self.report.warnings.push(format!(
            "table {number} is named by nothing that can be read; its content is in the column family {name}, and what \
             was deleted or replaced elsewhere may be in it"
        ));
        let options = CfOptions::default();
        let id = FamilyId(self.next_family);
        self.next_family = self.next_family.saturating_add(1);
        let mut family = Family::new(FamilyRecord::new(id, name, options.clone(), 0));
        family.new.extend(self.rewrite(&wreck, &options, 0, Depth::Young)?.map(|meta| (0, meta)));
        self.families.insert(id, family);
        self.report.tables_found += 1;
        if go_on(self.progress) { Ok(()) } else { Err(cancelled()) }
    }
}

fn shown(key: &[u8]) -> String {
    crate::version::ShownKey(key).to_string()
}
