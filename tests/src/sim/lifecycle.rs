//! The ends of a database and what comes after: closing, dying, copies, and readers beside it.

use std::sync::Arc;

use lignite::internals::fs::mem::CrashPolicy;
use lignite::{ErrorKind, Reader};

use super::kept::ReadOnly;
use super::machine::{Machine, compare_content, same};
use super::misuse::refused;
use super::{Expected, Failure, Setup, Step};
use crate::checks;
use crate::model::Content;
use crate::ops::Op;

impl Machine {
    /// Does an operation on the database as a whole; true if it did something.
    pub(super) fn live_and_die(&mut self, op: &Op) -> Result<bool, Failure> {
        match op {
            Op::Reopen(seed, dropped) => {
                self.release();
                let db = self.take_db();
                if *dropped {
                    drop(db)
                } else {
                    db.close()?
                }
                self.open_again(*seed)?;
            }
            Op::CloseBusy(seed) => self.close_busy(*seed)?,
            Op::Die(seed) => {
                self.crash(CrashPolicy::Everything, *seed)?;
                self.compare()?;
            }
            Op::PowerLoss(seed) => {
                // Everything is durable, so whatever a policy loses was not needed.
                self.db().sync()?;
                let policy = CrashPolicy::ALL[*seed as usize % CrashPolicy::ALL.len()];
                self.crash(policy, *seed)?;
                self.compare()?;
            }
            Op::Destroy(seed) => self.destroy(*seed)?,
            Op::Checkpoint => {
                let copy = self.copy(self.setup.seed)?;
                let db = copy.open()?;
                compare_content("a checkpoint", &db, &self.expected.model.content())?;
                checks::database(&db, &*copy.fs).map_err(Failure::Wrong)?;
                db.close()?;
                remove_all(&copy);
            }
            Op::CheckpointUse(seed) => self.use_copy(*seed)?,
            Op::Move(seed) => {
                let copy = self.copy(*seed)?;
                self.release();
                self.take_db().close()?;
                remove_all(&self.setup);
                self.setup.dir = copy.dir;
                self.open_again(*seed)?;
                self.compare()?;
            }
            Op::ReadOnly => {
                let Some(read_only) = self.open_read_only()? else { return Ok(false) };
                compare_read_only(&read_only)?;
            }
            Op::ReaderOpen => {
                self.reader = None;
                self.reader = self.open_read_only()?;
                return Ok(self.reader.is_some());
            }
            Op::ReaderCheck => {
                let Some(read_only) = self.reader.take() else { return Ok(false) };
                compare_read_only(&read_only)?;
                self.meet("readers_kept", 1);
            }
            _ => return Err(Failure::Wrong(format!("{op} is no end"))),
        }
        Ok(true)
    }

    /// What every history ends with: the structural truths, a last reopen, and nothing left over.
    pub(super) fn end(&mut self) -> Step {
        self.resume();
        self.compare()?;
        checks::database(self.db(), &*self.setup.fs).map_err(Failure::Wrong)?;
        self.step(&Op::ReaderCheck)?;
        self.step(&Op::Reopen(self.setup.seed, false))?;
        checks::database(self.db(), &*self.setup.fs).map_err(Failure::Wrong)?;
        checks::no_orphans(self.db(), &*self.setup.fs).map_err(Failure::Wrong)
    }

    fn open_again(&mut self, seed: u64) -> Step {
        self.setup.seed = seed;
        self.setup.options = self.setup.options_for(seed);
        self.db = Some(self.setup.open()?);
        self.take_families()?;
        self.count_numbers(0)
    }

    fn close_busy(&mut self, seed: u64) -> Step {
        let busy = self.kept.is_reading();
        self.meet("closes_under_readers", u64::from(busy));
        let family = self.db().default_family();
        self.families = Default::default();
        self.ghost = None;
        self.paused = false;
        let closed = self.take_db().close();
        if busy {
            refused("closing while somebody reads", ErrorKind::Busy, closed)?;
            refused("opening what somebody reads", ErrorKind::Locked, self.setup.open())?;
        } else {
            closed?;
        }
        refused("a get after the close", ErrorKind::Closed, family.get(b"k"))?;
        refused("a put after the close", ErrorKind::Closed, family.put(b"k", b"v"))?;
        refused("a flush after the close", ErrorKind::Closed, family.flush())?;
        refused("a scan after the close", ErrorKind::Closed, family.iter().next().transpose())?;
        if let Some((snapshot, _)) = self.kept.snapshot(0) {
            refused("a snapshot's get after the close", ErrorKind::Closed, snapshot.get(&family, b"k"))?;
        }
        self.kept.exhaust()?;
        drop(family);
        self.release();
        self.open_again(seed)?;
        self.compare()
    }

    /// The machine stops now; what is left of its disk is opened.
    fn crash(&mut self, policy: CrashPolicy, seed: u64) -> Step {
        if let Some(memory) = &self.setup.memory {
            let left = memory.crash(policy, seed);
            self.release();
            drop(self.take_db());
            self.setup.fs = Arc::new(left.clone());
            self.setup.memory = Some(left);
        } else {
            self.release();
            drop(self.take_db());
        }
        self.open_again(seed)
    }

    fn destroy(&mut self, seed: u64) -> Step {
        let fs = self.setup.fs.clone();
        let locked = lignite::internals::destroy(&*fs, &self.setup.dir);
        refused("destroying what is open", ErrorKind::Locked, locked)?;
        self.release();
        self.take_db().close()?;
        lignite::internals::destroy(&*fs, &self.setup.dir)?;
        let left = fs.list(&self.setup.dir).unwrap_or_default();
        same("what is left of a destroyed database", &Vec::<String>::new(), &left)?;
        let again = lignite::internals::destroy(&*fs, &self.setup.dir);
        refused("destroying what is gone", ErrorKind::NotFound, again)?;
        self.forget_numbers();
        self.expected = Expected::default();
        self.setup.seed = seed;
        self.setup.options = self.setup.options_for(seed);
        self.db = Some(self.setup.create()?);
        self.take_families()?;
        self.compare()
    }

    fn copy(&mut self, seed: u64) -> Result<Setup, Failure> {
        self.copies += 1;
        let dir = self.setup.dir.with_file_name(format!("copy-{}", self.copies));
        self.db().checkpoint(&dir)?;
        Ok(Setup { dir, seed, options: self.setup.options_for(seed), ..self.setup.clone() })
    }

    fn use_copy(&mut self, seed: u64) -> Step {
        let copy = self.copy(seed)?;
        let mut content: Content = self.expected.model.content();
        let db = copy.open()?;
        compare_content("a checkpoint", &db, &content)?;
        for (name, records) in &mut content {
            let family = db.column_family(name)?;
            // Something new, something replaced, something gone.
            let first = records.keys().next().cloned().unwrap_or_default();
            family.put(b"only in the copy", seed.to_le_bytes())?;
            records.insert(b"only in the copy".to_vec(), seed.to_le_bytes().to_vec());
            if let Some(last) = records.keys().next_back().cloned() {
                family.put(&last, b"another")?;
                records.insert(last, b"another".to_vec());
            }
            family.delete(&first)?;
            records.remove(&first);
        }
        if seed.is_multiple_of(2) {
            db.flush()?;
        }
        compare_content("a checkpoint that was written to", &db, &content)?;
        db.close()?;
        let db = copy.open()?;
        compare_content("a reopened checkpoint", &db, &content)?;
        checks::database(&db, &*copy.fs).map_err(Failure::Wrong)?;
        db.close()?;
        remove_all(&copy);
        // The source knows nothing of it.
        self.compare()
    }

    /// A read-only handle; none if the files kept changing.
    fn open_read_only(&self) -> Result<Option<ReadOnly>, Failure> {
        let shows =
            self.expected.model.families().map(|(_, name, records)| (name.to_string(), records.clone())).collect();
        match self.setup.builder().open_read_only(&self.setup.dir) {
            Ok(db) => Ok(Some(ReadOnly { db, shows })),
            Err(e) if e.kind() == ErrorKind::Busy && self.setup.threads > 0 => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

fn compare_read_only(read_only: &ReadOnly) -> Step {
    let names = read_only.db.column_family_names();
    let expected: Vec<&String> = read_only.shows.iter().map(|(name, _)| name).collect();
    if names.iter().collect::<Vec<_>>() != expected {
        return Err(Failure::Wrong(format!("a reader sees the families {names:?}, expected {expected:?}")));
    }
    for (name, records) in &read_only.shows {
        let family = read_only.db.column_family(name)?;
        super::machine::compare_all(&family, records)?;
        let keys: Vec<&[u8]> = records.keys().step_by(7).map(Vec::as_slice).collect();
        for (key, found) in keys.iter().zip(family.multi_get(&keys)?) {
            super::reads::same_value("a reader's multi_get", key, records, found.as_deref())?;
            super::reads::same_value("a reader's get", key, records, family.get(key)?.as_deref())?;
        }
    }
    Ok(())
}

fn remove_all(setup: &Setup) {
    for name in setup.fs.list(&setup.dir).unwrap_or_default() {
        let _ = setup.fs.remove_file(&setup.dir.join(name));
    }
    let _ = setup.fs.remove_dir(&setup.dir);
}
