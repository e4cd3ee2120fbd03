//! A client of the simulation: random operations, each written into the history with what it returned.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lignite::internals::fs::Fs;
use lignite::internals::fs::fault::FaultControl;
use lignite::internals::sync::sim;
use lignite::{ColumnFamily, Db, Durability, Error, ErrorKind, Iter, Reader, Snapshot};

use super::history::{History, Look, Seen, Verdict, What, Write};
use crate::model::{Change, Range};
use crate::rng::Rng;

/// No call may take longer, in virtual time.
const CALL_MAX: Duration = Duration::from_secs(60);
/// Families beside `default`, at most.
const FAMILIES_MAX: usize = 3;

/// What the clients of one handle share. None of these locks is held where the baton may pass.
pub struct Shared {
    /// The handle.
    pub db: Db,
    /// What fails.
    pub control: FaultControl,
    /// The disk itself, on which copies are looked at.
    pub disk: Arc<dyn Fs>,
    /// What was done.
    pub history: Mutex<History>,
    /// Live families.
    pub families: Mutex<Vec<ColumnFamily>>,
    /// True if calls of the file system may fail.
    pub faulty: bool,
    /// Set when somebody met the end of the world.
    pub over: AtomicBool,
    /// Operations that were done.
    pub operations: AtomicU64,
    /// Makes values, names and directories unique.
    pub unique: Arc<AtomicU64>,
    /// How many keys there are.
    pub keys: u64,
    /// How often a value repeats itself, at most.
    pub repeat_max: u64,
}

impl Shared {
    /// The history, for a moment.
    pub fn history<R>(&self, body: impl FnOnce(&mut History) -> R) -> R {
        body(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn unique(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    /// Fails the simulation unless the error is one that may come.
    fn allow(&self, call: &str, error: &Error) {
        let usage = matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound | ErrorKind::AlreadyExists);
        let fault = self.faulty
            && matches!(
                error.kind(),
                ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned | ErrorKind::Stalled | ErrorKind::ReadOnly
            );
        if !(usage || fault) || error.to_string().contains("panicked") {
            sim::fail(&format!("{call} returned {error:?} (faults: {})", self.faulty));
        }
        if error.kind() == ErrorKind::Poisoned {
            self.history(|h| {
                let now = h.tick();
                h.poisoned.get_or_insert(now);
            });
            self.over.store(true, Ordering::Relaxed);
        }
        if self.control.is_stopped() {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

/// An operation of a script.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Put,
    PutSync,
    Batch,
    DeleteRange,
    Get,
    MultiGet,
    Scan,
    Snapshot,
    ReadSnapshot,
    Iterator,
    Flush,
    Compact,
    Ingest,
    Families,
    Options,
    Checkpoint,
    Pause,
    Sync,
    Close,
}

/// One client.
pub struct Client {
    shared: Arc<Shared>,
    number: usize,
    rng: Rng,
    snapshot: Option<(Snapshot, u64)>,
    iterator: Option<(Iter, Look)>,
}

impl Client {
    /// A client with a number and a seed of its own.
    pub fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Client {
        Client { shared, number, rng: Rng::new(seed), snapshot: None, iterator: None }
    }

    /// Does so many operations, or fewer if the world ends.
    pub fn run(mut self, operations: u64) {
        for _ in 0..operations {
            if self.shared.over.load(Ordering::Relaxed) {
                break;
            }
            self.step();
            self.shared.operations.fetch_add(1, Ordering::Relaxed);
        }
        self.call("the last reads", |c| {
            c.read_iterator();
            c.read_snapshot();
        });
    }

    /// Does these operations, one after the other.
    pub fn play(mut self, script: &[Step]) {
        for step in script {
            self.call("a step of a script", |c| c.act(*step));
            self.shared.operations.fetch_add(1, Ordering::Relaxed);
        }
        self.call("the last reads", |c| {
            c.read_iterator();
            c.read_snapshot();
        });
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Put => self.put_with(Durability::Buffered),
            Step::PutSync => self.put_with(Durability::Sync),
            Step::Batch => self.batch(),
            Step::DeleteRange => self.delete_range(),
            Step::Get => self.get(),
            Step::MultiGet => self.multi_get(),
            Step::Scan => self.scan(),
            Step::Snapshot => self.take_snapshot(),
            Step::ReadSnapshot => self.read_snapshot(),
            Step::Iterator => self.take_iterator(),
            Step::Flush => self.flush(),
            Step::Compact => self.compact(),
            Step::Ingest => self.ingest(),
            Step::Families => self.change_families(),
            Step::Options => self.set_options(),
            Step::Checkpoint => self.checkpoint(),
            Step::Pause => self.pause(),
            Step::Sync => self.sync(),
            Step::Close => {
                let acknowledged = self.shared.history(|h| h.acknowledged);
                match self.shared.db.clone().close() {
                    Ok(()) => self.shared.history(|h| h.durable = h.durable.max(acknowledged)),
                    Err(error) if error.kind() == ErrorKind::Busy => {}
                    Err(error) => self.shared.allow("close", &error),
                }
            }
        }
    }

    fn call(&mut self, name: &'static str, body: impl FnOnce(&mut Client)) {
        sim::watch(Some((CALL_MAX, name)));
        sim::take_note();
        body(self);
        sim::watch(None);
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..26 => self.call("a put", Client::put),
            26..38 => self.call("a batch", Client::batch),
            38..43 => self.call("a delete", Client::delete),
            43..47 => self.call("a range delete", Client::delete_range),
            47..61 => self.call("a get", Client::get),
            61..65 => self.call("a multi-get", Client::multi_get),
            65..73 => self.call("a scan", Client::scan),
            73..77 => self.call("a snapshot", Client::take_snapshot),
            77..82 => self.call("a read of a snapshot", Client::read_snapshot),
            82..84 => self.call("an iterator", Client::take_iterator),
            84..86 => self.call("a read of an iterator", Client::read_iterator),
            86..89 => self.call("a flush", Client::flush),
            89..91 => self.call("a compaction", Client::compact),
            91..93 => self.call("an ingest", Client::ingest),
            93..94 => self.call("a checkpoint", Client::checkpoint),
            94..96 => self.call("a change of families", Client::change_families),
            96..97 => self.call("a change of options", Client::set_options),
            97..98 => self.call("a pause", Client::pause),
            _ => self.call("a sync", Client::sync),
        }
    }

    // Writes.

    fn put(&mut self) {
        let durability = self.durability();
        self.put_with(durability);
    }

    fn put_with(&mut self, durability: Durability) {
        let family = self.family();
        let (key, value) = (self.key(), self.value());
        let what = What::Batch(vec![(family.id(), Change::Put(key.clone(), value.clone()))]);
        self.write("put", what, 1, durability, || family.put_with(&key, &value, durability).map(Some));
    }

    fn delete(&mut self) {
        let family = self.family();
        let key = self.key();
        let what = What::Batch(vec![(family.id(), Change::Delete(key.clone()))]);
        self.write("delete", what, 1, Durability::Buffered, || family.delete(&key).map(Some));
    }

    fn delete_range(&mut self) {
        let family = self.family();
        let range = self.range();
        let what = What::Batch(vec![(family.id(), Change::DeleteRange(range.clone()))]);
        self.write("delete_range", what, 1, Durability::Buffered, || family.delete_range::<Vec<u8>>(range).map(Some));
    }

    fn batch(&mut self) {
        let mut batch = self.shared.db.batch();
        let mut changes = Vec::new();
        for _ in 0..self.rng.within(2, 6) {
            let family = self.family();
            let change = match self.rng.below(8) {
                0 => Change::DeleteRange(self.range()),
                1 | 2 => Change::Delete(self.key()),
                _ => Change::Put(self.key(), self.value()),
            };
            match &change {
                Change::Put(key, value) => drop(batch.put(&family, key, value)),
                Change::Delete(key) => drop(batch.delete(&family, key)),
                Change::DeleteRange(range) => drop(batch.delete_range::<Vec<u8>>(&family, range.clone())),
            }
            changes.push((family.id(), change));
        }
        let (count, durability) = (changes.len() as u64, self.durability());
        let db = self.shared.db.clone();
        self.write("write", What::Batch(changes), count, durability, || db.write_with(batch, durability).map(Some));
    }

    fn ingest(&mut self) {
        let family = self.family();
        let mut keys: Vec<Vec<u8>> = (0..self.rng.within(1, 20)).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        let records: Vec<(Vec<u8>, Vec<u8>)> = keys.into_iter().map(|k| (k, self.value())).collect();
        let changes = records.iter().map(|(k, v)| (family.id(), Change::Put(k.clone(), v.clone()))).collect();
        self.write("ingest", What::Batch(changes), 1, Durability::Sync, || family.ingest(records).map(|_| None));
    }

    fn change_families(&mut self) {
        let db = self.shared.db.clone();
        let name = format!("family {}", self.shared.unique());
        let others = self.shared.families.lock().unwrap_or_else(PoisonError::into_inner).len() - 1;
        let chance = self.rng.below(3);
        if others == 0 || chance == 0 && others < FAMILIES_MAX {
            let options = super::family_options(self.rng.next_u64());
            let what = What::Create(name.clone(), None);
            let mut made = None;
            let n = self.write("create_column_family", what, 1, Durability::Sync, || {
                made = Some(db.create_column_family(&name, options)?);
                Ok(None)
            });
            if let Some(family) = made {
                self.shared.history(|h| h.writes[n].what = What::Create(name, Some(family.id())));
                self.shared.families.lock().unwrap_or_else(PoisonError::into_inner).push(family);
            }
            return;
        }
        let family = {
            let families = self.shared.families.lock().unwrap_or_else(PoisonError::into_inner);
            families[1 + self.rng.below(others as u64) as usize].clone()
        };
        let (id, old) = (family.id(), family.name());
        if chance == 1 {
            let what = What::Rename(id, name.clone());
            self.write("rename_column_family", what, 1, Durability::Sync, || {
                db.rename_column_family(&old, &name).map(|()| None)
            });
        } else {
            // Nobody begins to use it from now on.
            self.shared.families.lock().unwrap_or_else(PoisonError::into_inner).retain(|f| f.id() != id);
            self.write("drop_column_family", What::Drop(id), 1, Durability::Sync, || {
                db.drop_column_family(&old).map(|()| None)
            });
            // If it is still there, because it could not be dropped or was just given another name, it is used again.
            let names = db.column_family_names();
            if names.contains(&family.name()) && db.column_family(&family.name()).is_ok_and(|f| f.id() == id) {
                self.shared.families.lock().unwrap_or_else(PoisonError::into_inner).push(family);
            }
        }
    }

    fn set_options(&mut self) {
        let db = self.shared.db.clone();
        let name = self.family().name();
        let options = super::family_options(self.rng.next_u64());
        self.write("set_options", What::Options, 1, Durability::Sync, || db.set_options(&name, options).map(|()| None));
    }

    /// Writes the call into the history, makes it, and writes down how it ended. The write's number.
    fn write(
        &mut self,
        name: &'static str,
        what: What,
        count: u64,
        durability: Durability,
        call: impl FnOnce() -> lignite::Result<Option<lignite::Commit>>,
    ) -> usize {
        let client = self.number;
        let n = self.shared.history(|h| {
            let begun = h.tick();
            h.writes.push(Write { client, begun, what, seq: None, count, verdict: Verdict::Running });
            h.writes.len() - 1
        });
        sim::take_note();
        let outcome = call();
        let noted = sim::take_note();
        let mut commit = None;
        match outcome {
            Ok(ticket) => {
                let Some(seq) = ticket.as_ref().map_or(noted, |t| Some(t.seq())) else {
                    sim::fail(&format!("{name} succeeded without a sequence number"));
                };
                self.shared.history(|h| {
                    h.tick();
                    h.writes[n].seq = Some(seq);
                    h.writes[n].verdict = Verdict::Acknowledged;
                    h.acknowledged = h.acknowledged.max(seq);
                    if durability == Durability::Sync {
                        h.durable = h.durable.max(seq);
                    }
                });
                commit = ticket;
            }
            Err(error) => {
                self.shared.allow(name, &error);
                // An error that says "not written" must be true: then no number was given out.
                let absent = !matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned);
                if absent && noted.is_some() {
                    sim::fail(&format!("{name} was logged under {noted:?}, but returned {error:?}"));
                }
                self.shared.history(|h| {
                    h.tick();
                    h.writes[n].seq = noted;
                    h.writes[n].verdict = if absent { Verdict::Absent } else { Verdict::Unknown };
                });
            }
        }
        if let Some(commit) = commit.filter(|_| durability == Durability::Buffered) {
            self.follow(commit);
        }
        n
    }

    /// Waits for a write to be durable, or asks to be told.
    fn follow(&mut self, commit: lignite::Commit) {
        let seq = commit.seq();
        match self.rng.below(12) {
            0 => match commit.wait_durable() {
                Ok(()) => self.shared.history(|h| h.durable = h.durable.max(seq)),
                Err(error) => self.shared.allow("wait_durable", &error),
            },
            1 => {
                // A callback may come after the clients are gone.
                let shared = Arc::downgrade(&self.shared);
                commit.on_durable(move |outcome| {
                    let Some(shared) = shared.upgrade() else { return };
                    match outcome {
                        Ok(()) => shared.history(|h| h.durable = h.durable.max(seq)),
                        Err(error) => shared.allow("on_durable", &error),
                    }
                });
            }
            _ => {}
        }
    }

    // Reads.

    fn get(&mut self) {
        let (family, key) = (self.family(), self.key());
        let look = self.begin("get");
        match family.get(&key) {
            Ok(value) => {
                let value = value.map(|v| v.to_vec());
                self.end(look, Seen::Values(family.id(), vec![(key, value)]));
            }
            Err(error) => self.shared.allow("get", &error),
        }
    }

    fn multi_get(&mut self) {
        let family = self.family();
        let keys: Vec<Vec<u8>> = (0..self.rng.within(2, 8)).map(|_| self.key()).collect();
        let look = self.begin("multi_get");
        match family.multi_get(&keys) {
            Ok(values) => {
                let values = values.into_iter().map(|v| v.map(|v| v.to_vec()));
                self.end(look, Seen::Values(family.id(), keys.into_iter().zip(values).collect()));
            }
            Err(error) => self.shared.allow("multi_get", &error),
        }
    }

    fn scan(&mut self) {
        let (family, range) = (self.family(), self.range());
        let mut look = self.begin("scan");
        let iterator = family.range::<Vec<u8>>(range.clone());
        look.ended = self.shared.history(History::tick);
        self.collect(look, iterator, family.id(), range);
    }

    fn collect(&mut self, mut look: Look, iterator: Iter, family: u32, range: Range) {
        let backward = self.rng.chance(50);
        let limit = if self.rng.chance(50) { usize::MAX } else { self.rng.within(1, 12) as usize };
        let taken: lignite::Result<Vec<_>> = if backward {
            iterator.rev().take(limit).map(pair).collect()
        } else {
            iterator.take(limit).map(pair).collect()
        };
        match taken {
            Ok(records) => {
                look.seen = Seen::Records { family, range, backward, limit, records };
                self.shared.history(|h| h.looks.push(look));
            }
            Err(error) => self.shared.allow("scan", &error),
        }
    }

    fn take_snapshot(&mut self) {
        let look = self.begin("snapshot");
        let snapshot = self.shared.db.snapshot();
        let seq = snapshot.seq();
        let look = Look { exactly: Some(seq), ..look };
        self.end(look, Seen::Number);
        self.snapshot = Some((snapshot, seq));
    }

    fn read_snapshot(&mut self) {
        let Some((snapshot, seq)) = self.snapshot.take() else { return };
        let family = self.family();
        let look = Look { exactly: Some(seq), ..self.begin("a read of a snapshot") };
        if self.rng.chance(40) {
            let key = self.key();
            match snapshot.get(&family, &key) {
                Ok(value) => self.end(look, Seen::Values(family.id(), vec![(key, value.map(|v| v.to_vec()))])),
                Err(error) => self.shared.allow("a read of a snapshot", &error),
            }
        } else {
            let range = self.range();
            let iterator = snapshot.range::<Vec<u8>>(&family, range.clone());
            self.collect(look, iterator, family.id(), range);
        }
        if self.rng.chance(70) {
            self.snapshot = Some((snapshot, seq));
        }
    }

    fn take_iterator(&mut self) {
        let (family, range) = (self.family(), self.range());
        let mut look = self.begin("iterator");
        let iterator = family.range::<Vec<u8>>(range.clone());
        look.ended = self.shared.history(History::tick);
        // What it will see is told when it is read.
        let (family, limit) = (family.id(), usize::MAX);
        look.seen = Seen::Records { family, range, backward: false, limit, records: Vec::new() };
        self.iterator = Some((iterator, look));
    }

    fn read_iterator(&mut self) {
        let Some((iterator, look)) = self.iterator.take() else { return };
        if let Seen::Records { family, range, .. } = &look.seen {
            let (family, range) = (*family, range.clone());
            self.collect(look, iterator, family, range);
        }
    }

    fn checkpoint(&mut self) {
        let db = self.shared.db.clone();
        let path = format!("/copy-{}", self.shared.unique());
        let look = self.begin("checkpoint");
        match db.checkpoint(&path) {
            Ok(()) => match super::content_of_copy(&self.shared, Path::new(&path)) {
                Ok(content) => self.end(look, Seen::All(content)),
                Err(error) => self.shared.allow("opening a checkpoint", &error),
            },
            Err(error) => self.shared.allow("checkpoint", &error),
        }
    }

    fn begin(&mut self, name: &'static str) -> Look {
        let client = self.number;
        self.shared.history(|h| {
            let begun = h.tick();
            let at_least = h.acknowledged;
            Look { client, name, begun, ended: begun, at_least, exactly: None, seen: Seen::Number }
        })
    }

    fn end(&mut self, look: Look, seen: Seen) {
        self.shared.history(|h| {
            let ended = h.tick();
            h.looks.push(Look { ended, seen, ..look });
        });
    }

    // Maintenance.

    fn flush(&mut self) {
        let outcome = if self.rng.chance(50) { self.shared.db.flush() } else { self.family().flush() };
        self.settle("flush", outcome);
    }

    fn compact(&mut self) {
        let (family, range) = (self.family(), self.range());
        match family.compact_range::<Vec<u8>>(range) {
            // Its family was dropped meanwhile.
            Err(error) if error.kind() == ErrorKind::Cancelled && family.flush().is_err() => {}
            outcome => self.settle("compact_range", outcome),
        }
    }

    fn pause(&mut self) {
        self.shared.db.pause_background();
        self.get();
        self.shared.db.resume_background();
    }

    fn sync(&mut self) {
        let seq = self.shared.history(|h| h.acknowledged);
        match self.shared.db.sync() {
            Ok(()) => self.shared.history(|h| h.durable = h.durable.max(seq)),
            Err(error) => self.shared.allow("sync", &error),
        }
    }

    fn settle(&mut self, call: &str, outcome: lignite::Result<()>) {
        if let Err(error) = outcome {
            self.shared.allow(call, &error);
        }
    }

    // Random material.

    fn family(&mut self) -> ColumnFamily {
        let families = self.shared.families.lock().unwrap_or_else(PoisonError::into_inner);
        families[self.rng.below(families.len() as u64) as usize].clone()
    }

    fn key(&mut self) -> Vec<u8> {
        // Most of what is done meets on a few keys.
        let keys = if self.rng.chance(70) { self.shared.keys / 4 } else { self.shared.keys };
        let n = self.rng.below(keys.max(1));
        format!("key {n:02}").into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let n = self.shared.unique();
        let repeat = if self.rng.chance(50) { 1 } else { self.rng.within(1, self.shared.repeat_max) };
        format!("{}/{n} ", self.number).repeat(repeat as usize).into_bytes()
    }

    fn range(&mut self) -> Range {
        let (a, b) = (self.key(), self.key());
        match self.rng.below(6) {
            0 => (Bound::Unbounded, Bound::Unbounded),
            1 => (Bound::Included(a), Bound::Unbounded),
            2 => (Bound::Unbounded, Bound::Excluded(a)),
            _ if a == b => (Bound::Included(a), Bound::Included(b)),
            _ if a < b => (Bound::Included(a), Bound::Excluded(b)),
            _ => (Bound::Excluded(b), Bound::Included(a)),
        }
    }

    fn durability(&mut self) -> Durability {
        if self.rng.chance(20) { Durability::Sync } else { Durability::Buffered }
    }
}

fn pair(entry: lignite::Result<lignite::Entry>) -> lignite::Result<(Vec<u8>, Vec<u8>)> {
    let entry = entry?;
    Ok((entry.key().to_vec(), entry.value()?.to_vec()))
}
