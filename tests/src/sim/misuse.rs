//! What must be refused, with the right kind of error, and change nothing.

use lignite::{CfOptions, ErrorKind, KEY_LEN_MAX, Reader};

use super::machine::{Machine, same};
use super::{Failure, Step};
use crate::ops::Value;

/// How many kinds of misuse there are.
pub const MISUSES: u8 = 14;

use ErrorKind::{AlreadyExists, Closed, InvalidArgument, Locked, NotFound};

impl Machine {
    /// Does something that must be refused; true if there was occasion.
    pub(super) fn misuse(&mut self, which: u8, slot: u8) -> Result<bool, Failure> {
        let Some(family) = self.family(slot) else { return Ok(false) };
        let db = self.db();
        let name = family.name();
        let long = || vec![b'x'; KEY_LEN_MAX + 1];
        match which % MISUSES {
            0 => {
                refused("a put of a long key", InvalidArgument, family.put(long(), b"v"))?;
                refused("a delete of a long key", InvalidArgument, family.delete(long()))?;
            }
            1 => {
                refused("a get of a long key", InvalidArgument, family.get(long()))?;
                refused("a multi_get of a long key", InvalidArgument, family.multi_get(&[b"a".to_vec(), long()]))?;
                if let Some((snapshot, _)) = self.kept.snapshot(0) {
                    refused("a snapshot's get of a long key", InvalidArgument, snapshot.get(family, long()))?;
                }
            }
            2 => {
                let mut batch = db.batch();
                batch.put(family, b"before", b"1").put(family, long(), b"2").delete(family, b"key000001");
                batch.delete_range::<&[u8]>(family, ..);
                refused("a batch with a long key", InvalidArgument, db.write(batch))?;
            }
            3 => {
                let mut end = long();
                end.push(b'x');
                refused("a range with a long end", InvalidArgument, family.delete_range(b"a".to_vec()..end))?;
            }
            4 => {
                refused("a family without a name", InvalidArgument, db.create_column_family("", CfOptions::new()))?;
                let long = "x".repeat(256);
                refused(
                    "a family with a long name",
                    InvalidArgument,
                    db.create_column_family(&long, CfOptions::new()),
                )?;
                refused(
                    "opening a family without a name",
                    InvalidArgument,
                    db.open_column_family("", CfOptions::new()),
                )?;
            }
            5 => {
                let options = CfOptions::new();
                refused("a family that is there", AlreadyExists, db.create_column_family(&name, options))?;
                let options = CfOptions::new().fan_out(1);
                refused("a family with bad options", InvalidArgument, db.create_column_family("bad", options))?;
            }
            6 => {
                refused("dropping default", InvalidArgument, db.drop_column_family("default"))?;
                refused("dropping what is not there", NotFound, db.drop_column_family("nobody"))?;
            }
            7 => {
                refused("renaming default", InvalidArgument, db.rename_column_family("default", "other"))?;
                refused("renaming what is not there", NotFound, db.rename_column_family("nobody", "other"))?;
                if slot > 0 {
                    refused("a name that is taken", AlreadyExists, db.rename_column_family(&name, "default"))?;
                    refused("an empty name", InvalidArgument, db.rename_column_family(&name, ""))?;
                }
            }
            8 => {
                refused("a family that is not there", NotFound, db.column_family("nobody"))?;
                refused("options of nobody", NotFound, db.set_options("nobody", CfOptions::new()))?;
            }
            9 => {
                let kept = family.options();
                let bad = |options: CfOptions| refused("bad options", InvalidArgument, db.set_options(&name, options));
                bad(CfOptions::new().fan_out(1))?;
                bad(CfOptions::new().block_size(1))?;
                bad(CfOptions::new().tombstone_percent(101))?;
                same("the options after bad ones", &kept, &family.options())?;
            }
            10 => {
                let Some(ghost) = &self.ghost else { return Ok(false) };
                refused("a put into a dropped family", Closed, ghost.put(b"k", b"v"))?;
                refused("a get from a dropped family", Closed, ghost.get(b"k"))?;
                refused("a flush of a dropped family", Closed, ghost.flush())?;
                refused("a scan of a dropped family", Closed, ghost.iter().next().transpose())?;
                refused("a cursor of a dropped family", Closed, ghost.cursor())?;
                refused("an ingest into a dropped family", Closed, ghost.ingest([(b"k", b"v")]))?;
                let mut batch = db.batch();
                batch.put(family, b"before", b"1").put(ghost, b"k", b"v");
                refused("a batch with a dropped family", Closed, db.write(batch))?;
                if let Some((snapshot, _)) = self.kept.snapshot(0) {
                    refused("a dropped family in a snapshot", Closed, snapshot.get(ghost, b"k"))?;
                }
            }
            11 => {
                refused("opening twice", Locked, self.setup.open())?;
                let nowhere = self.setup.dir.with_file_name("nowhere");
                let options = self.setup.options.clone().create_if_missing(false);
                let builder = super::Setup { options, ..self.setup.clone() }.builder();
                refused("opening what is not there", NotFound, builder.open(&nowhere))?;
                refused("reading what is not there", NotFound, self.setup.builder().open_read_only(&nowhere))?;
                if self.setup.fs.metadata(&nowhere).is_ok() {
                    return Err(Failure::Wrong("a failed open made a directory".to_string()));
                }
            }
            12 => refused("a checkpoint into itself", AlreadyExists, db.checkpoint(db.path()))?,
            _ => {
                let Some(reader) = &self.reader else { return Ok(false) };
                let foreign = reader.db.default_family();
                let mut batch = db.batch();
                batch.put(family, b"before", b"1").put(&foreign, b"k", b"v");
                refused("a batch over two databases", InvalidArgument, db.write(batch))?;
                let mut batch = db.batch();
                batch.put(&foreign, b"k", b"v");
                refused("a batch of another database", InvalidArgument, db.write(batch))?;
                let kind = ErrorKind::ReadOnly;
                refused("a put by a reader", kind, foreign.put(b"k", b"v"))?;
                refused("a flush by a reader", kind, foreign.flush())?;
                refused("a sync by a reader", kind, reader.db.sync())?;
                refused("a family by a reader", kind, reader.db.create_column_family("x", CfOptions::new()))?;
                refused("options by a reader", kind, reader.db.set_options("default", CfOptions::new()))?;
                refused("an ingest by a reader", kind, foreign.ingest([(b"k", b"v")]))?;
                refused("a compaction by a reader", kind, foreign.compact())?;
            }
        }
        self.count_numbers(0)?;
        Ok(true)
    }

    /// Ingests records with a flaw, which must be seen.
    pub(super) fn ingest_bad(&mut self, slot: u8, records: &[(Vec<u8>, Value)], flaw: u8) -> Result<bool, Failure> {
        let Some(family) = self.family(slot) else { return Ok(false) };
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = records.iter().map(|(k, v)| (k.clone(), v.bytes())).collect();
        match flaw % 4 {
            0 if pairs.len() > 1 => pairs.swap(0, 1),
            1 if pairs.len() > 1 => {
                let middle = pairs.len() / 2;
                pairs.swap(middle - 1, middle);
            }
            2 => pairs.push((vec![0xff; KEY_LEN_MAX + 1], Vec::new())),
            // Twice the same key, the last one if there is any.
            _ => {
                let last = pairs.last().cloned().unwrap_or_default();
                pairs.push(last.clone());
                pairs.push(last);
            }
        }
        refused("an ingest with a flaw", InvalidArgument, family.ingest(pairs))?;
        self.count_numbers(0)?;
        Ok(true)
    }
}

/// Fails unless the call failed with an error of this kind.
pub(super) fn refused<T>(what: &str, kind: ErrorKind, outcome: lignite::Result<T>) -> Step {
    match outcome {
        Ok(_) => Err(Failure::Wrong(format!("{what} succeeded, expected {}", kind.name()))),
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(Failure::Wrong(format!("{what} failed with {e:?}, expected {}", kind.name()))),
    }
}
