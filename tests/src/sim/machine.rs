//! A database under test with its oracle, and the operations that write and maintain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lignite::internals::key::KeyRange;
use lignite::{ColumnFamily, Commit, Db, Durability, ErrorKind, WriteBatch};

use super::kept::{Kept, ReadOnly};
use super::{Expected, Failure, Setup, Step, content, created_name, renamed_name};
use crate::checks;
use crate::model::{self, Change};
use crate::ops::{FAMILIES, Op};
use crate::recompress;

/// A database under test and its oracle.
pub struct Machine {
    /// How it is opened next.
    pub setup: Setup,
    /// What it must contain.
    pub expected: Expected,
    /// How many operations did something.
    pub done: u64,
    pub(super) db: Option<Db>,
    pub(super) families: [Option<ColumnFamily>; FAMILIES as usize],
    /// A handle of a family that was dropped.
    pub(super) ghost: Option<ColumnFamily>,
    pub(super) kept: Kept,
    /// A read-only handle, and what it must show.
    pub(super) reader: Option<ReadOnly>,
    pub(super) paused: bool,
    pub(super) copies: u32,
    /// The last sequence number, if it is known.
    seq: Option<u64>,
    results: u64,
    reached: BTreeMap<&'static str, u64>,
}

/// What a history ended in.
pub struct Outcome {
    /// What the database contains.
    pub expected: Expected,
    /// A number made of every result: equal for the same history, whatever the options.
    pub results: u64,
    /// How many operations did something.
    pub done: u64,
    /// The situations that it met, and how often: the engine's counters, summed over all opens, and
    /// what the machine saw.
    pub reached: BTreeMap<&'static str, u64>,
}

impl Machine {
    /// Opens a fresh database.
    pub fn new(setup: Setup) -> Result<Machine, Failure> {
        let mut machine = Machine {
            setup,
            expected: Expected::default(),
            done: 0,
            db: None,
            families: Default::default(),
            ghost: None,
            kept: Kept::default(),
            reader: None,
            paused: false,
            copies: 0,
            seq: None,
            results: 0,
            reached: BTreeMap::new(),
        };
        machine.db = Some(machine.setup.create()?);
        machine.take_families()?;
        Ok(machine)
    }

    /// The open database.
    pub fn db(&self) -> &Db {
        self.db.as_ref().expect("a machine is without a database only inside a reopen")
    }

    /// The family in a slot.
    pub fn family(&self, slot: u8) -> Option<&ColumnFamily> {
        self.families[slot as usize].as_ref()
    }

    /// Lets everything go without closing.
    pub fn abandon(&mut self) {
        self.release();
        self.reader = None;
        self.db = None;
    }

    /// Takes the open database out, to end it.
    pub(super) fn take_db(&mut self) -> Db {
        self.gather();
        self.db.take().expect("a machine is without a database only inside a reopen")
    }

    /// Adds what the open database has counted to what was reached.
    fn gather(&mut self) {
        let stats = self.db().stats();
        for (name, n) in stats.counters.entries() {
            *self.reached.entry(name).or_default() += n;
        }
        self.meet("replayed_batches", stats.recovered.batches);
        let deepest = stats.families.iter().flat_map(|f| &f.levels).filter(|l| l.tables > 0).map(|l| l.level).max();
        self.meet("four_levels_deep", u64::from(deepest >= Some(4)));
    }

    /// Takes note of a situation.
    pub(super) fn meet(&mut self, situation: &'static str, times: u64) {
        if times > 0 {
            *self.reached.entry(situation).or_default() += times;
        }
    }

    /// Lets go of what keeps the database open or its files alive.
    pub fn release(&mut self) {
        self.kept.release();
        self.ghost = None;
        self.families = Default::default();
        self.paused = false;
    }

    /// Compares the whole content with the oracle.
    pub fn compare(&self) -> Step {
        let mut names = self.db().column_family_names();
        names.sort();
        let mut expected: Vec<&str> = self.expected.model.families().map(|(_, name, _)| name).collect();
        expected.sort();
        if names != expected {
            return Err(Failure::Wrong(format!("the families are {names:?}, expected {expected:?}")));
        }
        for (_, name, records) in self.expected.model.families() {
            let family = self.db().column_family(name)?;
            compare_all(&family, records)?;
        }
        Ok(())
    }

    /// Does one operation and compares what it returns.
    pub fn step(&mut self, op: &Op) -> Step {
        // A writer must not wait for background work that was told to wait.
        if self.setup.threads > 0 && self.paused && !is_read(op) {
            self.resume();
        }
        let did = match self.expected.changes_of(op) {
            Some(changes) => match self.write_or_resume(op, &changes) {
                Ok(did) => {
                    self.expected.write_all(changes);
                    Ok(did)
                }
                Err(failure) => Err(failure),
            },
            None => self.run(op).inspect(|_| self.expected.apply(op)),
        };
        match did {
            Ok(did) => self.done += u64::from(did),
            Err(failure) => {
                self.seq = None;
                return Err(failure);
            }
        }
        if matches!(op, Op::Reopen(..)) {
            self.compare()?;
        }
        Ok(())
    }

    /// Adds a result to those of the history.
    pub(super) fn note(&mut self, result: u64) {
        self.results = (self.results.rotate_left(7) ^ result).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Takes note of a sequence number, which must be so many behind the last one.
    fn advance(&mut self, seq: u64, by: u64) -> Step {
        if let Some(last) = self.seq
            && seq != last + by
        {
            let what = format!("the sequence number is {seq}, expected {} after {by} entries", last + by);
            return Err(Failure::Wrong(what));
        }
        self.seq = Some(seq);
        self.note(seq);
        Ok(())
    }

    /// Checks that so many sequence numbers were taken since the last look.
    pub(super) fn count_numbers(&mut self, by: u64) -> Step {
        let seq = self.db().snapshot().seq();
        self.advance(seq, by)
    }

    /// Another database is open from now on, with numbers of its own.
    pub(super) fn forget_numbers(&mut self) {
        self.seq = None;
    }

    pub(super) fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.db().resume_background();
        }
    }

    /// Does an operation that stands for these changes. While background work is paused it may be
    /// refused, whole, for the debt that has come together; then it is done when work goes on.
    fn write_or_resume(&mut self, op: &Op, changes: &[(u8, Change)]) -> Result<bool, Failure> {
        match self.write(op, changes) {
            Err(Failure::Engine(e)) if e.kind() == ErrorKind::Stalled && self.paused => {
                let seq = self.db().snapshot().seq();
                if self.seq.is_some_and(|last| last != seq) {
                    return Err(Failure::Wrong(format!("a write that stalled left the number {seq}")));
                }
                self.meet("stalls_while_paused", 1);
                self.resume();
                self.write(op, changes)
            }
            done => done,
        }
    }

    /// Does an operation that stands for these changes.
    fn write(&mut self, op: &Op, changes: &[(u8, Change)]) -> Result<bool, Failure> {
        let commit = match (op, changes) {
            (Op::Batch(_, sync), _) => {
                let batch = self.batch(changes);
                let n = batch.len() as u64;
                let commit = self.db().write_with(batch, durability(*sync))?;
                self.advance_to(&commit, n)?;
                return Ok(true);
            }
            (_, []) => return Ok(false),
            (Op::Fill(..), _) => {
                let mut batch = self.batch(changes);
                if changes.len() % 2 == 1 {
                    // A batch can be used again.
                    batch.clear();
                    batch = self.add_all(batch, changes);
                }
                let commit = self.db().write(batch)?;
                self.advance_to(&commit, changes.len() as u64)?;
                return Ok(true);
            }
            (Op::Ingest(slot, records), _) => {
                let Some(family) = self.family(*slot) else { return Ok(false) };
                let pairs = changes.iter().filter_map(|(_, change)| match change {
                    Change::Put(key, value) => Some((key, value)),
                    _ => None,
                });
                let report = family.ingest(pairs)?;
                same("the number of ingested records", &(records.len() as u64), &report.records)?;
                let value_bytes: u64 = records.iter().map(|(k, v)| k.len() as u64 + u64::from(v.len)).sum();
                same("the bytes of ingested records", &value_bytes, &report.raw_bytes)?;
                let tables = family.tables();
                self.count_numbers(1)?;
                let is_new = |t: &&lignite::TableInfo| Some(t.seq_min) == self.seq && t.seq_min == t.seq_max;
                let level = tables.iter().find(is_new).map(|t| t.level);
                let above = level.is_some_and(|level| tables.iter().any(|t| t.level < level));
                self.meet("ingests_to_level_0", u64::from(level == Some(0)));
                self.meet("ingests_below_level_0", u64::from(level > Some(0)));
                self.meet("ingests_below_other_tables", u64::from(above));
                return Ok(true);
            }
            (Op::Write(slot, _, sync), [(_, change)]) => {
                let Some(family) = self.family(*slot) else { return Ok(false) };
                match change {
                    Change::Put(key, value) if *sync => family.put_with(key, value, Durability::Sync)?,
                    Change::Put(key, value) => family.put(key, value)?,
                    Change::Delete(key) if !*sync => family.delete(key)?,
                    Change::DeleteRange(range) if !*sync => family.delete_range(range.clone())?,
                    _ => self.db().write_with(self.batch(changes), Durability::Sync)?,
                }
            }
            (Op::WriteThen(_, _, callback), _) => {
                let commit = self.db().write(self.batch(changes))?;
                if *callback {
                    await_callback(&commit)?
                } else {
                    commit.wait_durable()?
                }
                commit
            }
            (Op::Clear(slot), _) => {
                let Some(family) = self.family(*slot) else { return Ok(false) };
                family.delete_range::<&[u8]>(..)?
            }
            _ => return Err(Failure::Wrong(format!("{op} is no write"))),
        };
        let n = changes.iter().map(|(_, change)| entries(change)).sum();
        self.advance_to(&commit, n)?;
        Ok(true)
    }

    fn advance_to(&mut self, commit: &Commit, entries: u64) -> Step {
        // An empty batch takes no number and has none of its own.
        if entries == 0 { self.count_numbers(0) } else { self.advance(commit.seq(), entries) }
    }

    fn batch(&self, changes: &[(u8, Change)]) -> WriteBatch {
        self.add_all(self.db().batch(), changes)
    }

    fn add_all(&self, mut batch: WriteBatch, changes: &[(u8, Change)]) -> WriteBatch {
        for (slot, change) in changes {
            let Some(family) = self.family(*slot) else { continue };
            match change {
                Change::Put(key, value) => batch.put(family, key, value),
                Change::Delete(key) => batch.delete(family, key),
                Change::DeleteRange(range) => batch.delete_range(family, range.clone()),
            };
        }
        batch
    }

    /// Does any other operation; true if it did something.
    fn run(&mut self, op: &Op) -> Result<bool, Failure> {
        let maintains =
            matches!(op, Op::Compact(..) | Op::CompactFamily(_) | Op::CompactAll | Op::Recompress(..) | Op::Flush(_));
        if maintains && self.kept.snapshots_alive() > 0 {
            self.meet("maintenance_under_snapshots", 1);
        }
        match op {
            Op::Sync => self.db().sync()?,
            Op::Flush(slot) => match self.family(*slot) {
                Some(family) => family.flush()?,
                None => return Ok(false),
            },
            Op::FlushAll => self.db().flush()?,
            Op::Compact(slot, range) => match self.family(*slot) {
                Some(family) => family.compact_range(range.clone())?,
                None => return Ok(false),
            },
            Op::CompactFamily(slot) => match self.family(*slot) {
                Some(family) => family.compact()?,
                None => return Ok(false),
            },
            Op::CompactAll => self.db().compact()?,
            Op::Recompress(slot, seed) => {
                // Each table is a job of its own, which thousands of tiny ones would make a matter of minutes.
                const TABLES_MAX: usize = 200;
                let Some(family) = self.family(*slot).cloned() else { return Ok(false) };
                let wanted = recompress::options(family.options(), *seed);
                // How many tables there are, and whether the options are others than before, is a matter of the
                // option set: so that every set has the same numbers, they are set in any case.
                self.db().set_options(&family.name(), wanted.options.clone())?;
                if family.tables().len() <= TABLES_MAX {
                    family.recompress(&wanted, &mut |_| true)?;
                }
                same("the options of a family", &wanted.options, &family.options())?;
                self.count_numbers(1)?;
            }
            Op::Pause if self.paused => return Ok(false),
            Op::Pause => {
                self.db().pause_background();
                self.paused = true;
            }
            Op::Resume if !self.paused => return Ok(false),
            Op::Resume => self.resume(),
            Op::Step(n) => {
                for _ in 0..*n {
                    if !self.db().step()? {
                        break;
                    }
                }
            }
            Op::WaitIdle => self.db().wait_for_idle()?,
            Op::Reopen(..)
            | Op::CloseBusy(_)
            | Op::Die(_)
            | Op::PowerLoss(_)
            | Op::Destroy(_)
            | Op::Checkpoint
            | Op::CheckpointUse(_)
            | Op::Move(_)
            | Op::ReadOnly
            | Op::ReaderOpen
            | Op::ReaderCheck => return self.live_and_die(op),
            Op::Create(slot, seed) => return self.create(*slot, *seed),
            Op::Drop(slot) => return self.drop_family(*slot, None),
            Op::Recreate(slot, seed) => return self.drop_family(*slot, Some(*seed)),
            Op::Rename(slot, n) => return self.rename(*slot, *n),
            Op::OpenFamily(slot, seed) => return self.open_family(*slot, *seed),
            Op::Families => self.compare_families()?,
            Op::SetOptions(slot, seed) => {
                let options = self.setup.cf_options_for(*seed);
                let Some(family) = self.family(*slot) else { return Ok(false) };
                self.db().set_options(&family.name(), options.clone())?;
                same("the options of a family", &options, &family.options())?;
                self.count_numbers(1)?;
            }
            Op::IngestBad(slot, records, flaw) => return self.ingest_bad(*slot, records, *flaw),
            Op::Misuse(which, slot) => return self.misuse(*which, *slot),
            Op::Compare => self.compare()?,
            Op::Check => {
                self.resume();
                checks::database(self.db(), &*self.setup.fs).map_err(Failure::Wrong)?;
            }
            _ => return self.read(op),
        }
        Ok(true)
    }

    fn create(&mut self, slot: u8, seed: u64) -> Result<bool, Failure> {
        let name = created_name(slot, seed);
        if self.family(slot).is_some() || self.expected.model.id(&name).is_some() {
            return Ok(false);
        }
        let family = self.db().create_column_family(&name, self.setup.cf_options_for(seed))?;
        self.families[slot as usize] = Some(family);
        self.count_numbers(1)?;
        Ok(true)
    }

    fn drop_family(&mut self, slot: u8, again: Option<u64>) -> Result<bool, Failure> {
        let id = self.expected.slots[slot as usize];
        let (Some(id), 1..) = (id, slot) else { return Ok(false) };
        let name = self.expected.model.name(id).unwrap_or_default().to_string();
        self.db().drop_column_family(&name)?;
        self.meet("families_dropped_under_readers", u64::from(self.kept.is_reading()));
        self.ghost = self.families[slot as usize].take();
        if let Some(seed) = again {
            let family = self.db().create_column_family(&name, self.setup.cf_options_for(seed))?;
            if family.iter().next().is_some() {
                return Err(Failure::Wrong(format!("the new family {name} holds something")));
            }
            self.families[slot as usize] = Some(family);
        }
        self.count_numbers(if again.is_some() { 2 } else { 1 })?;
        Ok(true)
    }

    fn rename(&mut self, slot: u8, n: u64) -> Result<bool, Failure> {
        let new = renamed_name(n);
        let id = self.expected.slots[slot as usize];
        let (Some(id), 1.., None) = (id, slot, self.expected.model.id(&new)) else { return Ok(false) };
        let old = self.expected.model.name(id).unwrap_or_default().to_string();
        self.db().rename_column_family(&old, &new)?;
        let now = self.family(slot).map(ColumnFamily::name);
        same("the name of a renamed family", &Some(new), &now)?;
        self.count_numbers(1)?;
        Ok(true)
    }

    fn open_family(&mut self, slot: u8, seed: u64) -> Result<bool, Failure> {
        let given = self.setup.cf_options_for(seed);
        let Some(family) = self.family(slot) else {
            let name = created_name(slot, seed);
            if self.expected.model.id(&name).is_some() {
                return Ok(false);
            }
            let family = self.db().open_column_family(&name, given.clone())?;
            same("the options of a new family", &given, &family.options())?;
            self.families[slot as usize] = Some(family);
            self.count_numbers(1)?;
            return Ok(true);
        };
        let (name, kept) = (family.name(), family.options());
        let opened = self.db().open_column_family(&name, given.clone())?;
        same("the number of a family", &family.id(), &opened.id())?;
        same("the options of a family that was there", &kept, &opened.options())?;
        let differences = self.db().option_differences();
        if kept != given && !differences.contains(&(name.clone(), kept.difference(&given))) {
            return Err(Failure::Wrong(format!("the other options of {name} are not among {differences:?}")));
        }
        self.count_numbers(0)?;
        Ok(true)
    }

    fn compare_families(&self) -> Step {
        let found: Vec<String> = self.db().column_family_names();
        let expected: Vec<&str> = self.expected.model.families().map(|(_, name, _)| name).collect();
        if found != expected {
            return Err(Failure::Wrong(format!("the families are {found:?}, expected {expected:?}")));
        }
        for (id, name, _) in self.expected.model.families() {
            let family = self.db().column_family(name)?;
            same("the number of a family", &id, &family.id())?;
            same("the name of a family", &name, &family.name().as_str())?;
        }
        same("the number of the default family", &0, &self.db().default_family().id())
    }

    /// Fills the slots with the families that the oracle has in them.
    pub fn take_families(&mut self) -> Step {
        for (slot, id) in self.expected.slots.iter().enumerate() {
            self.families[slot] = match id.and_then(|id| self.expected.model.name(id)) {
                Some(name) => Some(self.db().column_family(name)?),
                None => None,
            };
        }
        Ok(())
    }
}

/// Runs a history on a fresh database, closes it, and says which operation failed and why.
pub fn run(setup: &Setup, ops: &[Op]) -> Result<model::Model, String> {
    run_fully(setup, ops).map(|outcome| outcome.expected.model)
}

/// The same, with all that is to be known of the run.
pub fn run_fully(setup: &Setup, ops: &[Op]) -> Result<Outcome, String> {
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut machine = Machine::new(setup.clone()).map_err(|e| format!("open: {e}"))?;
        for (i, op) in ops.iter().enumerate() {
            machine.step(op).map_err(|e| format!("operation {i} ({op}): {e}"))?;
        }
        machine.end().map_err(|e| format!("at the end: {e}"))?;
        machine.gather();
        let outcome = Outcome {
            expected: std::mem::take(&mut machine.expected),
            results: machine.results,
            done: machine.done,
            reached: std::mem::take(&mut machine.reached),
        };
        machine.abandon();
        Ok(outcome)
    }));
    attempt.unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_default();
        Err(format!("panic: {words}"))
    })
}

/// How many sequence numbers a change takes.
fn entries(change: &Change) -> u64 {
    match change {
        Change::DeleteRange((start, end)) => u64::from(!KeyRange { start: start.clone(), end: end.clone() }.is_empty()),
        _ => 1,
    }
}

/// True for operations that neither write nor wait for background work.
fn is_read(op: &Op) -> bool {
    matches!(
        op,
        Op::Get(..)
            | Op::GetWith(..)
            | Op::Contains(..)
            | Op::MultiGet(..)
            | Op::SliceKeep(..)
            | Op::SliceCheck(_)
            | Op::Scan(..)
            | Op::Ends(..)
            | Op::Prefix(..)
            | Op::Walk(..)
            | Op::IterOpen(..)
            | Op::IterOpenAt(..)
            | Op::IterStep(..)
            | Op::IterDrop(_)
            | Op::CursorOpen(..)
            | Op::CursorSeek(..)
            | Op::CursorEnd(..)
            | Op::CursorStep(..)
            | Op::CursorChunk(..)
            | Op::CursorDrop(_)
            | Op::SnapshotTake(_)
            | Op::SnapshotClone(..)
            | Op::SnapshotDrop(_)
            | Op::Size(..)
            | Op::Pause
            | Op::Resume
    )
}

fn durability(sync: bool) -> Durability {
    if sync { Durability::Sync } else { Durability::Buffered }
}

/// Asks to be told when a commit is durable, and is told so exactly once.
fn await_callback(commit: &Commit) -> Step {
    let calls = Arc::new(AtomicU64::new(0));
    let told = calls.clone();
    commit.on_durable(move |outcome| {
        told.fetch_add(if outcome.is_ok() { 1 } else { 1 << 32 }, Ordering::SeqCst);
    });
    // With background threads the call comes from one of them; behind this sync it is due at once.
    commit.wait_durable()?;
    for _ in 0..10_000 {
        match calls.load(Ordering::SeqCst) {
            0 => std::thread::sleep(std::time::Duration::from_millis(1)),
            1 => return Ok(()),
            n => return Err(Failure::Wrong(format!("a durability callback was called wrongly: {n:x}"))),
        }
    }
    Err(Failure::Wrong("a durability callback was not called in ten seconds".to_string()))
}

/// Compares all of a family with its records.
pub(super) fn compare_all(family: &ColumnFamily, records: &model::Records) -> Step {
    let mut want = records.iter();
    for entry in family.iter() {
        let entry = entry?;
        let expected = want.next();
        let found = (entry.key(), entry.value()?);
        if expected.is_none_or(|(key, value)| (key.as_slice(), value.as_slice()) != found) {
            return Err(differ(&family.name(), family, records));
        }
    }
    if want.next().is_some() {
        return Err(differ(&family.name(), family, records));
    }
    Ok(())
}

fn differ(name: &str, family: &ColumnFamily, records: &model::Records) -> Failure {
    let found =
        family.iter().filter_map(|e| e.ok()).map(|e| (e.key().to_vec(), e.value().unwrap_or_default().to_vec()));
    let one = |records| std::iter::once((name.to_string(), records)).collect();
    let difference = model::difference(&one(records.clone()), &one(found.collect()));
    Failure::Wrong(difference.unwrap_or_else(|| format!("{name} reads differently twice, or out of order")))
}

/// Compares the content of any database with a model's.
pub(super) fn compare_content(what: &str, db: &Db, expected: &model::Content) -> Step {
    match model::difference(expected, &content(db)?) {
        Some(difference) => Err(Failure::Wrong(format!("{what} differs: {difference}"))),
        None => Ok(()),
    }
}

/// Fails if two things differ, and says how.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Step {
    if expected == found {
        return Ok(());
    }
    let short = |value: &T| {
        let text = format!("{value:?}");
        if text.len() > 200 { format!("{}…", text.chars().take(200).collect::<String>()) } else { text }
    };
    Err(Failure::Wrong(format!("{what} is {}, expected {}", short(found), short(expected))))
}
