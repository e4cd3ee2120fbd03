//! What a child process does to a database until it dies, and what must be found afterwards.
//!
//! Several threads each follow a [`Script`], a list of steps without end that is a function of a
//! seed. They write to three families that all of them share, in batches that also put the number
//! of the step under the thread's key in the family `marks`; and each has a family of its own, which
//! it makes, fills, renames and drops. The child says when a step is acknowledged, and the sequence
//! number of its batch, by which the batches of all threads are put in order (see [`Heard`]).
//!
//! [`Judge`] does the same steps to the oracle. As in RocksDB's stress test, at most one step of each
//! thread is pending: begun perhaps, and not acknowledged. What is found must be the state after
//! so many steps of each thread that
//!
//! - everything that was promised is among them;
//! - they are a prefix of the commit order: nothing that is missing has a smaller sequence number
//!   than something that is there;
//! - a pending step is there wholly, at some place in the order, or not at all.

use std::collections::BTreeMap;
use std::ops::Bound;

use lignite::{CfOptions, Codec, Compression, Options};

use crate::model::{Change, Content, Records, difference, within};
use crate::ops::{Value, Write};
use crate::rng::Rng;
use crate::sim::LOG_MODES;

/// The families that all threads write to.
pub const SHARED: [&str; 3] = ["default", "left", "right"];
/// The family in which each thread counts its steps. Nothing in it is ever deleted.
pub const MARKS: &str = "marks";
const KEYS: u64 = 150;

/// What a round of the workload is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where everything random comes from.
    pub seed: u64,
    /// Marks carry this, so that those of an earlier round in the same directory do not count.
    pub round: u64,
    /// Threads that write.
    pub threads: usize,
    /// Batches that wait for the device, in a hundred.
    pub sync_percent: u64,
}

impl Plan {
    /// Options so small that little data makes much happen.
    pub fn options(&self) -> Options {
        let mut rng = Rng::new(self.seed ^ 0x0b5e);
        let segment = rng.pick(&[16 << 10, 32 << 10, 128 << 10]);
        Options::new()
            .background_threads(2)
            .decode_threads(1)
            .sync_interval(std::time::Duration::from_millis(rng.pick(&[1, 20, 1000])))
            .stall_timeout(std::time::Duration::from_secs(20))
            .memory_budget(4 << 20)
            .memtable_size(rng.pick(&[16 << 10, 32 << 10, 64 << 10]))
            .log_segment_size(segment)
            .log_size_max(segment * rng.within(2, 8))
            .open_tables_max(rng.pick(&[16, 1000]))
            .log_mode(rng.pick(&LOG_MODES))
    }

    /// Options of its families.
    pub fn cf_options(&self) -> CfOptions {
        let mut rng = Rng::new(self.seed ^ 0xcf);
        let codec = rng.pick(&[Codec::None, Codec::Lz4, Codec::Snappy, Codec::Zstd { level: 1 }]);
        CfOptions::new()
            .compression(Compression::all(codec))
            .block_size(rng.pick(&[512, 4096]))
            .table_size(rng.pick(&[8 << 10, 32 << 10]))
            .base_level_size(rng.pick(&[16 << 10, 64 << 10]))
            .level0_trigger(2)
            .fan_out(3)
    }

    fn script_seed(&self, thread: usize) -> u64 {
        Rng::new(self.seed ^ self.round.wrapping_mul(0x1_0001) ^ ((thread as u64) << 48)).next_u64()
    }
}

/// One step of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Changes in shared families and (`None`) in the thread's own one, and the mark; `true` waits
    /// for the device.
    Batch(Vec<(Option<usize>, Write)>, bool),
    /// One change in the own family, past any batch and without a mark.
    Own(Write, bool),
    /// Makes the own family under this name.
    Create(String),
    /// Renames it.
    Rename(String, String),
    /// Drops it.
    Drop(String),
    /// Adds sorted records to it.
    Ingest(Vec<(Vec<u8>, Value)>),
    /// Gives it other options.
    SetOptions(String, u64),
    /// Makes everything durable that was acknowledged before.
    Sync,
    /// Flushes a shared family.
    Flush(usize),
    /// Compacts one.
    Compact(usize),
    /// Takes a snapshot, or reads again what an earlier one holds.
    Snapshot,
    /// Reads a few keys.
    Read(Vec<Vec<u8>>),
    /// Copies the database.
    Checkpoint,
}

impl Step {
    /// True if it changes what the database contains.
    pub fn changes(&self) -> bool {
        self.is_marked()
            || matches!(self, Step::Own(..) | Step::Create(_) | Step::Rename(..) | Step::Drop(_))
            || matches!(self, Step::Ingest(records) if !records.is_empty())
    }

    /// How many sequence numbers a batch takes: an empty range delete takes none, the mark one.
    fn numbers(&self) -> u64 {
        let Step::Batch(writes, _) = self else { return 0 };
        let is_empty = |w: &Write| matches!(w, Write::DeleteRange((Bound::Included(a), Bound::Excluded(b))) if a >= b);
        1 + writes.iter().filter(|(_, w)| !is_empty(w)).count() as u64
    }

    /// True if it leaves its number in the database.
    pub fn is_marked(&self) -> bool {
        matches!(self, Step::Batch(..))
    }

    /// True if its acknowledgement means that it and all before it are on the device.
    pub fn is_durable(&self) -> bool {
        match self {
            Step::Batch(_, sync) | Step::Own(_, sync) => *sync,
            Step::Create(_) | Step::Rename(..) | Step::Drop(_) | Step::SetOptions(..) | Step::Sync => true,
            Step::Ingest(records) => !records.is_empty(),
            _ => false,
        }
    }
}

/// The steps of one thread.
pub struct Script {
    rng: Rng,
    sync_percent: u64,
    thread: usize,
    /// The name of its own family, if it has one.
    pub own: Option<String>,
}

impl Script {
    /// The script of a thread in a round, given its own family at the beginning.
    pub fn new(plan: &Plan, thread: usize, own: Option<String>) -> Script {
        Script { rng: Rng::new(plan.script_seed(thread)), sync_percent: plan.sync_percent, thread, own }
    }

    /// The family of this thread among these.
    pub fn own_among<'a>(thread: usize, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let prefix = format!("own{thread}-");
        names.into_iter().find(|n| n.starts_with(&prefix)).map(str::to_string)
    }

    fn name(&mut self) -> String {
        format!("own{}-{}", self.thread, self.rng.below(1000))
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key{:03}", self.rng.below(KEYS)).into_bytes()
    }

    fn value(&mut self) -> Value {
        let len = if self.rng.chance(3) { self.rng.below(6000) } else { self.rng.below(120) };
        Value { seed: self.rng.next_u64() as u32, len: len as u32 }
    }

    fn write(&mut self) -> Write {
        match self.rng.below(100) {
            0..72 => Write::Put(self.key(), self.value()),
            72..94 => Write::Delete(self.key()),
            _ => {
                let n = self.rng.below(KEYS);
                let end = n + self.rng.below(12);
                let key = |n: u64| format!("key{n:03}").into_bytes();
                Write::DeleteRange((Bound::Included(key(n)), Bound::Excluded(key(end))))
            }
        }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let sync = self.rng.chance(self.sync_percent);
        match self.rng.below(1000) {
            0..700 => {
                let own = self.own.is_some();
                let n = if self.rng.chance(4) { self.rng.within(20, 60) } else { self.rng.below(6) };
                let writes = (0..n).map(|_| {
                    let family = if own && self.rng.chance(25) { None } else { Some(self.rng.below(3) as usize) };
                    (family, self.write())
                });
                Step::Batch(writes.collect(), sync)
            }
            700..770 if self.own.is_some() => Step::Own(self.write(), sync),
            770..785 => match self.own.take() {
                None => {
                    let name = self.name();
                    self.own = Some(name.clone());
                    Step::Create(name)
                }
                Some(name) => Step::Drop(name),
            },
            785..790 => match self.own.take() {
                Some(old) => {
                    let mut new = self.name();
                    if new == old {
                        new.push('x');
                    }
                    self.own = Some(new.clone());
                    Step::Rename(old, new)
                }
                None => Step::Sync,
            },
            790..810 if self.own.is_some() => {
                let n = self.rng.below(40);
                let records: BTreeMap<_, _> =
                    (0..n).map(|_| (self.key(), self.value())).map(|(k, v)| (k, (v.seed, v.len))).collect();
                Step::Ingest(records.into_iter().map(|(k, (seed, len))| (k, Value { seed, len })).collect())
            }
            810..813 => match &self.own {
                Some(name) => Step::SetOptions(name.clone(), self.rng.next_u64()),
                None => Step::Sync,
            },
            813..820 => Step::Sync,
            820..830 => Step::Flush(self.rng.below(3) as usize),
            830..835 => Step::Compact(self.rng.below(3) as usize),
            835..860 => Step::Snapshot,
            860..862 => Step::Checkpoint,
            _ => Step::Read((0..self.rng.below(4)).map(|_| self.key()).collect()),
        }
    }
}

/// The key of a thread's mark.
pub fn mark_key(thread: usize) -> Vec<u8> {
    format!("thread {thread}").into_bytes()
}

/// The value of a mark: the round, and how many steps are done with this one.
pub fn mark_value(round: u64, steps: usize) -> Vec<u8> {
    format!("{round} {steps}").into_bytes()
}

/// What a child said, in the order in which it said it: a line a word.
///
/// - `o`: the database is open.
/// - `a THREAD SEQ`: the thread's next step is acknowledged; SEQ is 0 for one without a batch.
/// - `c THREAD`: the thread begins to copy the database.
/// - `w WORDS`: something is wrong.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The database was open.
    pub opened: bool,
    /// By thread, by step: its sequence number, 0 if it has none.
    pub acks: Vec<Vec<u64>>,
    /// Copies that were begun: the thread, its step, and how many steps of each thread were
    /// acknowledged before.
    pub copies: Vec<(usize, usize, Vec<usize>)>,
    /// What the child found wrong.
    pub wrong: Option<String>,
}

impl Heard {
    /// Takes in a line. One that the child's death cut short counts for nothing.
    pub fn line(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("o"), None, None) => self.opened = true,
            (Some("a"), Some(thread), Some(seq)) => {
                if let (Ok(thread), Ok(seq)) = (thread.parse::<usize>(), seq.parse()) {
                    self.grow(thread);
                    self.acks[thread].push(seq);
                }
            }
            (Some("c"), Some(thread), None) => {
                if let Ok(thread) = thread.parse::<usize>() {
                    self.grow(thread);
                    self.copies.push((thread, self.acks[thread].len(), self.counts()));
                }
            }
            (Some("w"), ..) => self.wrong = self.wrong.take().or(Some(line[1..].to_string())),
            _ => {}
        }
    }

    /// Steps that were acknowledged, by thread.
    pub fn counts(&self) -> Vec<usize> {
        self.acks.iter().map(Vec::len).collect()
    }

    fn grow(&mut self, thread: usize) {
        while self.acks.len() <= thread {
            self.acks.push(Vec::new());
        }
    }
}

/// Says whether what is found is a state that may be there.
pub struct Judge {
    plan: Plan,
    base: Content,
    /// By thread: its steps, each with its sequence number if it is known. The last one is pending.
    steps: Vec<Vec<(Step, u64)>>,
}

/// An allowed state that equals what was found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How many steps of each thread are in it.
    pub counts: Vec<usize>,
    /// How many of those were batches over families.
    pub batches: u64,
}

/// More places for pending batches than this are not tried; never met so far.
const TRIES_MAX: usize = 20_000;

impl Judge {
    /// A judge of a round that began with the content `base`.
    pub fn new(plan: Plan, base: &Content, heard: &Heard) -> Judge {
        let steps = (0..plan.threads).map(|thread| {
            let own = Script::own_among(thread, base.keys().map(String::as_str));
            let mut script = Script::new(&plan, thread, own);
            let acks = heard.acks.get(thread).map_or(&[][..], Vec::as_slice);
            acks.iter().copied().chain([0]).map(|seq| (script.step(), seq)).collect()
        });
        Judge { plan, base: normal(base.clone()), steps: steps.collect() }
    }

    /// Steps that must survive the loss of power, of so many that were acknowledged: by thread, up to
    /// the last that waited for the device.
    pub fn durable(&self, acked: &[usize]) -> Vec<usize> {
        let durable =
            |steps: &[(Step, u64)]| steps.iter().rposition(|(step, _)| step.is_durable()).map_or(0, |n| n + 1);
        let acked = |thread: usize| acked.get(thread).copied().unwrap_or(0);
        self.steps.iter().enumerate().map(|(thread, steps)| durable(&steps[..acked(thread)])).collect()
    }

    /// Finds the state that `found` equals, if it is allowed: with at least `must` steps of each
    /// thread, and with everything that comes before those in the commit order.
    pub fn find(&self, found: &Content, must: &[usize]) -> Result<Verdict, String> {
        let found = normal(found.clone());
        let must = self.closure(must);
        let mut ranges = Vec::new();
        for (thread, steps) in self.steps.iter().enumerate() {
            let marked = self.mark(&found, thread)?;
            if marked > steps.len() {
                return Err(format!("thread {thread} has a mark of step {marked}, but only {} can be", steps.len()));
            }
            // From the last marked step to just before the next one: those between leave no mark.
            let low = marked.max(must[thread]);
            let next = steps[marked..].iter().position(|(s, _)| s.is_marked()).map_or(steps.len(), |n| marked + n);
            if low > next {
                return Err(format!(
                    "thread {thread} was promised {} steps; only {marked} are marked, and step {next} ({:?}) is marked",
                    must[thread],
                    short(&steps[next].0)
                ));
            }
            // Steps that change nothing make no difference.
            let counts: Vec<usize> = (low..=next).filter(|c| *c == low || steps[*c - 1].0.changes()).collect();
            ranges.push(counts);
        }
        let mut first = None;
        let mut tries = 0;
        for counts in product(&ranges) {
            if let Err(words) = self.check_prefix(&counts) {
                first.get_or_insert(words);
                continue;
            }
            for order in self.orders(&counts) {
                tries += 1;
                if tries > TRIES_MAX {
                    return Err(format!("no state among {tries} is it; first: {}", first.unwrap_or_default()));
                }
                match difference(&self.state(&order), &found) {
                    None => {
                        let batches = counts.iter().zip(&self.steps);
                        let batches =
                            batches.map(|(c, s)| s[..*c].iter().filter(|(s, _)| s.is_marked()).count() as u64);
                        return Ok(Verdict { batches: batches.sum(), counts });
                    }
                    Some(words) => drop(first.get_or_insert_with(|| format!("with steps {counts:?}: {words}"))),
                }
            }
        }
        Err(format!("{tries} states were tried; first: {}", first.unwrap_or_default()))
    }

    /// `must`, and all that comes before it in the commit order.
    fn closure(&self, must: &[usize]) -> Vec<usize> {
        let must = |thread: usize| must.get(thread).copied().unwrap_or(0);
        let last = self.steps.iter().enumerate().flat_map(|(t, s)| s[..must(t)].iter().map(|(_, seq)| *seq)).max();
        let last = last.unwrap_or(0);
        let before =
            |steps: &[(Step, u64)]| steps.iter().rposition(|(_, seq)| *seq != 0 && *seq <= last).map_or(0, |n| n + 1);
        self.steps.iter().enumerate().map(|(t, steps)| before(steps).max(must(t))).collect()
    }

    fn mark(&self, found: &Content, thread: usize) -> Result<usize, String> {
        let Some(value) = found[MARKS].get(&mark_key(thread)) else { return Ok(0) };
        let text = String::from_utf8_lossy(value);
        let parsed = text.split_once(' ').and_then(|(r, n)| Some((r.parse::<u64>().ok()?, n.parse::<usize>().ok()?)));
        let (round, steps) = parsed.ok_or_else(|| format!("thread {thread} has the mark {text:?}"))?;
        Ok(if round == self.plan.round { steps } else { 0 })
    }

    /// Nothing that is missing was committed before something that is there.
    fn check_prefix(&self, counts: &[usize]) -> Result<(), String> {
        let split = || self.steps.iter().zip(counts).enumerate();
        let inside = split().flat_map(|(t, (s, c))| s[..*c].iter().map(move |(_, seq)| (*seq, t))).max();
        let outside =
            split().flat_map(|(t, (s, c))| s[*c..].iter().map(move |(_, seq)| (*seq, t))).filter(|x| x.0 != 0).min();
        match (inside, outside) {
            (Some((there, a)), Some((missing, b))) if there > missing => Err(format!(
                "a hole: batch {there} of thread {a} is there, batch {missing} of thread {b} is not (steps {counts:?})"
            )),
            _ => Ok(()),
        }
    }

    /// The orders in which so many steps can have been committed, likely ones first.
    fn orders(&self, counts: &[usize]) -> Vec<Vec<(usize, usize)>> {
        // Known numbers give the order; a step that touches only the own family follows the one
        // before it; a batch whose number is not known, the last of its thread, can be anywhere
        // behind the one before it.
        let mut order: Vec<(u64, usize, usize)> = Vec::new();
        let mut loose = Vec::new();
        for (thread, steps) in self.steps.iter().enumerate() {
            let mut last = 0;
            for (n, (step, seq)) in steps[..counts[thread]].iter().enumerate().filter(|(_, (s, _))| s.changes()) {
                if *seq == 0 && step.is_marked() {
                    loose.push((thread, n));
                    continue;
                }
                last = last.max(*seq);
                order.push((last, thread, n));
            }
        }
        order.sort();
        let mut orders = vec![order];
        for (thread, n) in loose {
            let mut more = Vec::new();
            for order in &orders {
                let first = order.iter().rposition(|o| o.1 == thread).map_or(0, |p| p + 1);
                // From the end backwards: what was pending last came last, mostly.
                for place in (first..=order.len()).rev() {
                    // Before or after a step in the own family of another thread is the same.
                    if order.get(place).is_some_and(|o| !self.steps[o.1][o.2].0.is_marked()) {
                        continue;
                    }
                    if !self.has_room(order, place, self.steps[thread][n].0.numbers()) {
                        continue;
                    }
                    let mut order = order.clone();
                    order.insert(place, (0, thread, n));
                    more.push(order);
                }
            }
            more.truncate(TRIES_MAX);
            orders = more;
        }
        orders.into_iter().map(|o| o.into_iter().map(|(_, t, n)| (t, n)).collect()).collect()
    }

    /// False if the batches around a place in the order leave fewer sequence numbers free than that.
    /// What else lies between them takes some too, so true proves nothing.
    fn has_room(&self, order: &[(u64, usize, usize)], place: usize, numbers: u64) -> bool {
        let known = |o: &&(u64, usize, usize)| o.0 > 0 && self.steps[o.1][o.2].0.is_marked();
        let Some(next) = order[place..].iter().find(known) else { return true };
        let before = order[..place].iter().rev().find(known).map_or(0, |o| o.0);
        next.0.saturating_sub(self.steps[next.1][next.2].0.numbers()) >= before + numbers
    }

    fn state(&self, order: &[(usize, usize)]) -> Content {
        let mut content = self.base.clone();
        let mut own: Vec<Option<String>> =
            (0..self.plan.threads).map(|t| Script::own_among(t, self.base.keys().map(String::as_str))).collect();
        for &(thread, n) in order {
            let name = &mut own[thread];
            let own_records = |content: &mut Content, name: &Option<String>, write: &Write| {
                let records = name.as_ref().and_then(|n| content.get_mut(n)).expect("the script knows its family");
                apply(records, &write.change());
            };
            match &self.steps[thread][n].0 {
                Step::Batch(writes, _) => {
                    for (family, write) in writes {
                        match family {
                            Some(f) => apply(content.get_mut(SHARED[*f]).expect("it is normal"), &write.change()),
                            None => own_records(&mut content, name, write),
                        }
                    }
                    let marks = content.get_mut(MARKS).expect("it is normal");
                    marks.insert(mark_key(thread), mark_value(self.plan.round, n + 1));
                }
                Step::Own(write, _) => own_records(&mut content, name, write),
                Step::Create(new) => {
                    content.insert(new.clone(), Records::new());
                    *name = Some(new.clone());
                }
                Step::Rename(old, new) => {
                    let records = content.remove(old).expect("the script knows its family");
                    content.insert(new.clone(), records);
                    *name = Some(new.clone());
                }
                Step::Drop(old) => {
                    content.remove(old);
                    *name = None;
                }
                Step::Ingest(records) => {
                    for (key, value) in records {
                        own_records(&mut content, name, &Write::Put(key.clone(), *value));
                    }
                }
                _ => {}
            }
        }
        content
    }
}

fn apply(records: &mut Records, change: &Change) {
    match change {
        Change::Put(key, value) => drop(records.insert(key.clone(), value.clone())),
        Change::Delete(key) => drop(records.remove(key)),
        Change::DeleteRange(range) => {
            let keys: Vec<Vec<u8>> = within(records, range).map(|(k, _)| k.clone()).collect();
            for key in keys {
                records.remove(&key);
            }
        }
    }
}

/// With the shared families, which a child that died early has not made yet.
fn normal(mut content: Content) -> Content {
    for name in SHARED.into_iter().chain([MARKS]) {
        content.entry(name.to_string()).or_default();
    }
    content
}

/// Every choice of one of each.
fn product(ranges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    ranges.iter().fold(vec![Vec::new()], |choices, range| {
        choices.iter().flat_map(|choice| range.iter().map(|n| choice.iter().copied().chain([*n]).collect())).collect()
    })
}

fn short(step: &Step) -> String {
    let text = format!("{step:?}");
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { seed: 5, round: 3, threads: 2, sync_percent: 30 };

    /// Some steps of both threads, committed in turn, with the content after each.
    fn history(steps: usize) -> (Heard, Vec<(Vec<usize>, Content)>) {
        let mut heard = Heard::default();
        let mut seq = 10;
        let mut states = Vec::new();
        let mut scripts = [Script::new(&PLAN, 0, None), Script::new(&PLAN, 1, None)];
        for n in 0..steps {
            let thread = n % 2;
            let step = scripts[thread].step();
            seq += 5;
            heard.line(&format!("a {thread} {}", if step.is_marked() { seq } else { 0 }));
            let judge = Judge::new(PLAN, &Content::new(), &heard);
            let order = judge.orders(&heard_counts(&heard)).remove(0);
            states.push((heard_counts(&heard), judge.state(&order)));
        }
        (heard, states)
    }

    fn heard_counts(heard: &Heard) -> Vec<usize> {
        (0..2).map(|t| heard.acks.get(t).map_or(0, Vec::len)).collect()
    }

    #[test]
    fn every_prefix_is_found_and_nothing_else() {
        let (heard, states) = history(60);
        let judge = Judge::new(PLAN, &Content::new(), &heard);
        let mut seen = 0;
        for (counts, state) in &states {
            judge.find(state, &[0, 0]).unwrap_or_else(|e| panic!("{counts:?}: {e}"));
            // Without the last promised batch of a thread it is no state.
            seen += usize::from(judge.find(state, &heard_counts(&heard)).is_err());
            // A record more, or one less, makes none either.
            let mut more = state.clone();
            more.get_mut("left").unwrap().insert(b"stray".to_vec(), Vec::new());
            assert!(judge.find(&more, &[0, 0]).is_err());
            let mut less = state.clone();
            if less.get_mut("left").unwrap().pop_first().is_some() {
                assert!(judge.find(&less, &[0, 0]).is_err(), "{counts:?}");
            }
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn a_hole_between_threads_is_seen() {
        let (heard, _) = history(60);
        let judge = Judge::new(PLAN, &Content::new(), &heard);
        // All of thread 0, half of thread 1.
        let order: Vec<_> = judge.orders(&[30, 15]).remove(0);
        assert!(judge.find(&judge.state(&order), &[0, 0]).unwrap_err().contains("a hole"));
    }

    #[test]
    fn a_pending_batch_may_be_anywhere_behind_its_predecessor() {
        let (mut heard, states) = history(60);
        // The last batch of thread 0 was not acknowledged after all, though thread 1 went on.
        let all = states.last().unwrap().1.clone();
        while heard.acks[0].pop() == Some(0) {}
        let judge = Judge::new(PLAN, &Content::new(), &heard);
        let steps = &judge.steps[0];
        assert!(steps[steps.len() - 1].0.is_marked());
        let found = judge.find(&all, &heard_counts(&heard));
        if steps.len() == 30 {
            assert_eq!(found.unwrap().counts[0], 30);
        }
    }

    #[test]
    fn a_line_cut_short_counts_for_nothing() {
        let mut heard = Heard::default();
        for line in ["o", "a 1 17", "a 1", "a", "", "c 0", "c"] {
            heard.line(line);
        }
        assert!(heard.opened && heard.wrong.is_none());
        assert_eq!(heard.acks, [vec![], vec![17]]);
        assert_eq!(heard.copies, [(0, 0, vec![0, 1])]);
        heard.line("w it hangs");
        assert_eq!(heard.wrong.as_deref(), Some(" it hangs"));
    }
}
