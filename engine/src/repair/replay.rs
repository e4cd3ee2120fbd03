//! The log on top of the tables: what [`log`](super::log) lets pass, applied as recovery would.

use std::collections::BTreeMap;

use super::log::replay_damaged;
use super::rebuild::{Family, Rebuild};
use super::report::Loss;
use crate::batch;
use crate::check::Problem;
use crate::error::Result;
use crate::key::{FamilyId, SeqNo};
use crate::options::CfOptions;
use crate::record::{RecordHeader, RecordKind};
use crate::recovery::check_batch_count;
use crate::table::wreck::forgivable;
use crate::version::edit::{FamilyRecord, decode_family_operation, decode_ingest};
use crate::wal::{self, ReplayRules};

impl Rebuild<'_> {
    pub(super) fn apply_log(&mut self, unnamed: &BTreeMap<u64, (SeqNo, SeqNo)>) -> Result<()> {
        let (fs, source) = (self.fs.clone(), self.source);
        if source.logs.is_empty() {
            return Ok(());
        }
        if source.log_is_sound {
            let seal = source.current.as_ref().and_then(|c| c.seal.as_ref()).filter(|_| source.complete);
            let log_first = source.state.as_ref().filter(|_| source.complete).map_or(0, |s| s.log_first);
            let rules = ReplayRules { log_first, seal, ..ReplayRules::new(source.db_id) };
            let mut applied = 0;
            let replayed = wal::replay(&*fs, &source.dir, &source.logs, &rules, &mut |header, payload, _| {
                self.apply(header, payload)?;
                applied += 1;
                Ok(())
            });
            self.report.log_records = applied;
            return match replayed {
                Ok(_) => Ok(()),
                // Each record is whole, yet one makes no sense: what is before it stays.
                Err(e) => {
                    let e = forgivable(e)?;
                    self.report.problems.push(Problem::of(&e, &source.dir));
                    self.report.losses.push(Loss::of(&e, None));
                    Ok(())
                }
            };
        }
        let mut covered = self.families.values().map(|f| f.flushed).min().unwrap_or(0);
        let mut ranges: Vec<(SeqNo, SeqNo)> = unnamed.values().copied().collect();
        ranges.sort_unstable();
        for (min, max) in ranges {
            if min <= covered.saturating_add(1) {
                covered = covered.max(max);
            }
        }
        let log_first = source.state.as_ref().filter(|_| source.complete).map_or(0, |s| s.log_first);
        let outcome = replay_damaged(
            &*fs,
            &source.dir,
            &source.logs,
            source.db_id,
            covered,
            log_first,
            &mut |header, payload| self.apply(header, payload),
        )?;
        self.report.log_records = outcome.applied;
        self.report.log_records_refused = outcome.refused_records;
        for (file, offset, bytes, reason) in outcome.defects {
            self.report.losses.push(Loss {
                file: file.path(&source.dir),
                offset: Some(offset),
                bytes: Some(bytes),
                column_family: None,
                first_key: None,
                last_key: None,
                entries: None,
                message: reason,
            });
        }
        if let Some((expected, found)) = outcome.gap {
            self.report.warnings.push(format!(
                "the log has a gap: sequence number {expected} should come next, {found} does; {} whole records with {} \
                 entries behind it were not applied (lignite salvage reads them)",
                outcome.refused_records, outcome.refused_entries
            ));
        }
        Ok(())
    }

    fn apply(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<()> {
        match header.kind {
            RecordKind::Batch => self.apply_batch(header, payload)?,
            RecordKind::FamilyOperation => self.apply_operation(header, payload)?,
            RecordKind::Ingest => {
                let edit = decode_ingest(payload)?;
                for (id, level, meta) in edit.added {
                    // A damaged manifest may have the table and lack the mark that says so.
                    if self.families.values().any(|f| f.old.iter().any(|(_, m)| m.number == meta.number)) {
                        continue;
                    }
                    let Some(family) = self.families.get_mut(&id).filter(|f| f.flushed < header.first_seq) else {
                        continue;
                    };
                    // What came before it in the log is older, wherever it lies.
                    family.merge |= !family.memtable.is_empty();
                    family.old.push((usize::from(level), meta.ingested_at(header.first_seq)));
                }
            }
            _ => {}
        }
        self.last_seq = self.last_seq.max(header.first_seq + u64::from(header.count).saturating_sub(1));
        Ok(())
    }

    fn apply_batch(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<()> {
        check_batch_count(header, batch::count_entries(payload)?.into())?;
        for (seq, entry) in (header.first_seq..).zip(batch::walk(payload)) {
            let entry = entry?;
            let id = entry.family();
            if !self.families.contains_key(&id) {
                let dropped = self.source.dropped.contains(&id) || self.source.complete && id.0 < self.next_family;
                if dropped {
                    continue;
                }
                // Made in an edit that is lost.
                let name = self.free_name(&format!("lost+found/cf-{id}"));
                self.families.insert(id, Family::new(FamilyRecord::new(id, name, CfOptions::default(), 0)));
                self.next_family = self.next_family.max(id.0.saturating_add(1));
            }
            if let Some(family) = self.families.get(&id).filter(|f| seq > f.flushed) {
                family.memtable.add(&entry, seq);
            }
        }
        Ok(())
    }

    /// As recovery does it: every operation is idempotent.
    fn apply_operation(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<()> {
        let edit = decode_family_operation(payload)?;
        for record in &edit.families_created {
            let known = self.families.contains_key(&record.id) || self.source.dropped.contains(&record.id);
            if record.id.0 >= self.next_family || !known && !self.source.complete {
                let record = FamilyRecord { created_seq: header.first_seq, ..record.clone() };
                self.next_family = self.next_family.max(record.id.0.saturating_add(1));
                self.families.insert(record.id, Family { flushed: header.first_seq, ..Family::new(record) });
            }
        }
        for (id, name) in &edit.families_renamed {
            if let Some(family) = self.families.get_mut(id) {
                family.record.name.clone_from(name);
            }
        }
        for (id, options) in &edit.options_changed {
            if let Some(family) = self.families.get_mut(id) {
                family.record.options = options.clone();
            }
        }
        for id in edit.families_dropped.iter().filter(|id| **id != FamilyId::DEFAULT) {
            self.families.remove(id);
        }
        Ok(())
    }
}
