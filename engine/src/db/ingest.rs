//! Sorted records straight into tables.
//!
//! The tables are written and synced first, with sequence number 0 in every entry; only then does
//! the ingest take its one sequence number, as the leader, in a log record of its own. The number
//! goes into the tables' description and overrides what their entries say. So an ingest is atomic,
//! takes its place in the history like any write, and is replayed from the log if the manifest
//! lacks it.

use crate::compaction::job::sync_dir;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::key::{self, Kind, Tag};
use crate::metrics::LEVELS;
use crate::options::{CfOptions, Depth};
use crate::record::RecordKind;
use crate::sabotage::{self, Bug};
use crate::store::Change;
use crate::table::TableBuilder;
use crate::tune::{self, Request};
use crate::version::edit::{VersionEdit, encode_ingest};
use crate::version::{TableMeta, Version};

use super::family::ColumnFamily;

/// What an ingest wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestReport {
    /// Records.
    pub records: u64,
    /// Bytes of keys and values.
    pub raw_bytes: u64,
    /// Bytes of tables.
    pub stored_bytes: u64,
    /// Tables.
    pub tables: u64,
}

impl ColumnFamily {
    /// Writes records that come in strictly ascending order of keys straight into tables, past log
    /// and memtable, as one atomic step: all of them or none. They are newer than everything
    /// written before and durable when this returns. The fastest way to load data.
    ///
    /// Other writers go on while the tables are written; they wait only for the last step.
    ///
    /// # Errors
    /// `InvalidArgument` if a key is not greater than the one before, or a key or value is over its
    /// limit; nothing is changed then. Otherwise as for any write.
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// let cf = db.default_family();
    /// let report = cf.ingest((0..1000u32).map(|n| (n.to_be_bytes(), b"value")))?;
    /// assert_eq!(report.records, 1000);
    /// assert_eq!(cf.get(7u32.to_be_bytes())?.unwrap(), b"value");
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<IngestReport> {
        self.inner.store.check_writable()?;
        self.inner.store.check_space()?;
        self.family.check_open()?;
        let mut tables = Vec::new();
        let outcome = self.write_tables(records, &mut tables).and_then(|report| {
            if !tables.is_empty() {
                self.install(&tables)?;
                self.inner.store.context.metrics.ingested_tables.add(report.tables);
            }
            Ok(report)
        });
        if let Err(e) = &outcome {
            // If the log may hold the record already, the tables must stay for the next open.
            if self.inner.store.poisoned().is_none() {
                self.remove(&tables);
            }
            tracing::debug!(error = %e, "ingest failed");
        }
        outcome
    }

    fn write_tables<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        records: impl IntoIterator<Item = (K, V)>,
        tables: &mut Vec<TableMeta>,
    ) -> Result<IngestReport> {
        let store = &self.inner.store;
        let options = self.family.options();
        let tag = Tag::new(0, Kind::Put);
        let mut report = IngestReport::default();
        let mut builder: Option<TableBuilder> = None;
        let mut last: Option<Vec<u8>> = None;
        for (n, (k, v)) in records.into_iter().enumerate() {
            let (k, v) = (k.as_ref(), v.as_ref());
            let checked = key::check_key(k).and_then(|()| key::check_value(v)).and_then(|()| match &last {
                Some(last) if k <= last.as_slice() => {
                    Err(Error::invalid(format!("record {n} does not have a greater key than the one before")))
                }
                _ => Ok(()),
            });
            if let Err(e) = checked {
                if let Some(b) = builder {
                    b.abandon();
                }
                return Err(e);
            }
            if builder.as_ref().is_some_and(|b| b.estimated_size() >= options.table_size)
                && let Some(full) = builder.take()
            {
                tables.push(finish(full, &options)?);
            }
            let current = match &mut builder {
                Some(current) => current,
                none => {
                    let mut fresh = TableBuilder::create(
                        &*store.context.fs,
                        &store.context.dir,
                        store.next_file(),
                        store.db_id,
                        self.family.tuning.table_options(&Request {
                            options: &options,
                            depth: Depth::Bottom,
                            zeroed: true,
                            inputs: &[],
                            clock: &*store.context.clock,
                            pressed: false,
                        }),
                        store.context.clock.unix_seconds(),
                        self.family.metrics.clone(),
                        LEVELS - 1,
                        store.context.clock.clone(),
                    )?;
                    fresh.assist(store.context.tables.pool(), &store.context.metrics);
                    none.insert(fresh)
                }
            };
            if let Err(e) = current.add(k, tag, v) {
                if let Some(b) = builder {
                    b.abandon();
                }
                return Err(e);
            }
            report.records += 1;
            report.raw_bytes += (k.len() + v.len()) as u64;
            let last = last.get_or_insert_with(Vec::new);
            last.clear();
            last.extend_from_slice(k);
        }
        if let Some(rest) = builder {
            tables.push(finish(rest, &options)?);
        }
        if !tables.is_empty() {
            sync_dir(&*store.context.fs, &store.context.dir).inspect_err(|e| store.poison(e))?;
        }
        report.tables = tables.len() as u64;
        report.stored_bytes = tables.iter().map(|t| t.size).sum();
        Ok(report)
    }

    fn install(&self, tables: &[TableMeta]) -> Result<()> {
        let (Some(first), Some(last)) = (tables.first(), tables.last()) else { return Ok(()) };
        let store = &self.inner.store;
        let family = &self.family;
        self.inner.writer.exclusive(|x| {
            family.check_open()?;
            // Everything older of this family goes to tables first, so that levels alone decide
            // what is newer, and the family's flush mark can pass the ingest.
            x.seal(family);
            self.inner.worker.flush(family)?;
            self.inner.worker.with_range_at_rest(family, &first.smallest, &last.largest, || {
                let level = ingest_level(&family.view().version, first, last);
                let seq = x.last_seq() + 1;
                let mut edit = VersionEdit::default();
                for table in tables {
                    edit.added.push((family.id, level as u8, table.clone().ingested_at(seq)));
                }
                let payload = encode_ingest(&edit)?;
                store.make_space_for_edit(payload.len())?;
                x.log_edit(RecordKind::Ingest, &payload)?;
                edit.flushed.push((family.id, seq));
                let applied = store.apply(Change { family: family.clone(), edit, flushed: Vec::new() });
                // The record is in the log: if the manifest could not follow, the store is poisoned
                // and the next open decides.
                let applied = applied.map_err(|e| store.after_logged(e))?;
                x.publish();
                if applied { Ok(()) } else { family.check_open() }
            })
        })
    }

    fn remove(&self, tables: &[TableMeta]) {
        let store = &self.inner.store;
        for table in tables {
            store.context.tables.forget(table.number);
            let _ = store.context.fs.remove_file(&FileName::Table(table.number).path(&store.context.dir));
        }
    }
}

/// Nothing could be measured on records that were yet to come, so the table is marked where that might have
/// found something: it is looked at, and written anew if it did, when there is time.
fn finish(builder: TableBuilder<'_>, options: &CfOptions) -> Result<TableMeta> {
    let is_measured = builder.is_measured();
    let meta = builder.finish()?;
    Ok(TableMeta { owes_codec: !is_measured && tune::is_worth_a_look(options, meta.raw_bytes), ..meta })
}

/// The deepest level such that nothing overlaps there and above.
fn ingest_level(version: &Version, first: &TableMeta, last: &TableMeta) -> usize {
    (0..LEVELS)
        .take_while(|level| {
            sabotage::is(Bug::IngestTooDeep) && *level < 2
                || version.overlapping(*level, &first.smallest, &last.largest).is_empty()
        })
        .last()
        .unwrap_or(0)
}
