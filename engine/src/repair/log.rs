//! The log of a damaged database: every whole record, in order, and what lies between them.
//!
//! A sound log is replayed as an open would. Of a damaged one the records up to the damage are the state,
//! and those behind it only as long as no sequence number is missing, or all that is missing is in tables
//! anyway. A log is never applied over a gap: a batch without the one before it is no state of the
//! database that ever was. What is not applied is counted, and `salvage` can read it.

use std::path::Path;

use crate::error::Result;
use crate::filename::FileName;
use crate::fs::Fs;
use crate::key::SeqNo;
use crate::record::{RecordHeader, RecordKind};
use crate::table::wreck::forgivable;
use crate::wal::{self, ScanItem, SegmentHeader};

/// What became of the records of a log.
#[derive(Clone, Debug, Default)]
pub struct LogOutcome {
    /// Records applied.
    pub applied: u64,
    /// Whole records behind a gap, not applied.
    pub refused_records: u64,
    /// Their entries.
    pub refused_entries: u64,
    /// The sequence number behind the last one applied, and the first one refused.
    pub gap: Option<(SeqNo, SeqNo)>,
    /// Stretches of bytes that are no records: file, offset, length, reason.
    pub defects: Vec<(FileName, u64, u64, String)>,
}

/// Hands the records of a damaged log to `apply` as far as they follow each other. `covered` is the sequence
/// number up to which everything is in tables; `log_first` the segment that the log is known to begin with,
/// 0 if nobody knows.
pub fn replay_damaged(
    fs: &dyn Fs,
    dir: &Path,
    logs: &[u64],
    db_id: u128,
    covered: SeqNo,
    log_first: u64,
    apply: &mut dyn FnMut(&RecordHeader, &[u8]) -> Result<()>,
) -> Result<LogOutcome> {
    let mut outcome = LogOutcome::default();
    let mut headers: Vec<(u64, Option<SegmentHeader>)> = Vec::new();
    for &number in logs {
        let path = FileName::Wal(number).path(dir);
        match wal::read_segment_header(fs, &path, db_id, number) {
            Ok(header) => headers.push((number, Some(header))),
            Err(e) => {
                let e = forgivable(e)?;
                let len = fs.metadata(&path).map_or(0, |m| m.len);
                outcome.defects.push((FileName::Wal(number), 0, len, e.message().to_string()));
                headers.push((number, None));
            }
        }
    }
    // A segment that a later one's header jumps over was never part of the log.
    let mut jumped = Vec::new();
    for (i, (number, _)) in headers.iter().enumerate() {
        let next = headers[i + 1..].iter().find_map(|(_, h)| h.as_ref());
        if next.is_some_and(|next| next.previous.segment < *number) {
            jumped.push(*number);
        }
    }
    headers.retain(|(number, _)| !jumped.contains(number));
    // A first segment that is not where the log began has a gap before it, unless tables have all of it.
    let begin = headers.first().and_then(|(number, header)| header.as_ref().map(|h| (*number, h.first_seq)));
    let mut expected = match begin {
        Some((number, first_seq)) if log_first == 0 || number == log_first => first_seq,
        _ => covered.saturating_add(1),
    };
    for i in 0..headers.len() {
        let (number, Some(_)) = headers[i] else { continue };
        let next = headers.get(i + 1).and_then(|(_, h)| h.as_ref());
        // What lies behind the end that the next segment states is no part of the log.
        let end = next.filter(|h| h.previous.segment == number).map_or(u64::MAX, |h| h.previous.offset);
        let path = FileName::Wal(number).path(dir);
        let scanned = wal::scan_file_as(fs, &path, db_id, number, &mut |item| match item {
            ScanItem::Defect { offset, len, reason } => {
                if *offset < end {
                    let len = (*len).min(end - offset);
                    outcome.defects.push((FileName::Wal(number), *offset, len, (*reason).to_string()));
                }
                Ok(())
            }
            ScanItem::Record { offset, header, payload } if *offset < end => {
                let taken = outcome.take(header, payload, &mut expected, covered, apply);
                taken.map_err(|e| e.with_file(&path).with_offset(*offset))
            }
            ScanItem::Record { .. } => Ok(()),
        });
        if let Err(e) = scanned {
            let e = forgivable(e)?;
            outcome.defects.push((FileName::Wal(number), e.offset().unwrap_or(0), 0, e.message().to_string()));
        }
    }
    Ok(outcome)
}

impl LogOutcome {
    fn take(
        &mut self,
        header: &RecordHeader,
        payload: &[u8],
        expected: &mut SeqNo,
        covered: SeqNo,
        apply: &mut dyn FnMut(&RecordHeader, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if !matches!(header.kind, RecordKind::Batch | RecordKind::FamilyOperation | RecordKind::Ingest) {
            return Ok(());
        }
        let begins = self.applied == 0 || header.first_seq > *expected;
        let is_covered = begins && header.first_seq <= covered.saturating_add(1);
        let follows = self.gap.is_none() && (header.first_seq == *expected || is_covered);
        if follows && apply(header, payload).map_or_else(|e| forgivable(e).map(|_| false), |()| Ok(true))? {
            *expected = header.first_seq.saturating_add(u64::from(header.count));
            self.applied += 1;
            return Ok(());
        }
        self.gap.get_or_insert((*expected, header.first_seq));
        self.refused_records += 1;
        self.refused_entries += u64::from(header.count);
        Ok(())
    }
}
