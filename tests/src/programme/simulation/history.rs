//! What clients did and saw between an open and the end of that handle, and whether it can be true.
//!
//! Every write has a place in the order of sequence numbers: its ticket tells, or, if the call failed
//! after the write was logged, the note that the engine leaves for simulations. So the writes form a
//! chain of states, and each look of a reader must fit one of them, between what was acknowledged
//! before the look began and what had not yet begun when it ended (G24), no earlier than what a look
//! saw that had ended before (G24), and exactly the state of its number for a snapshot (G25).

use std::collections::BTreeMap;

use crate::model::{Change, Content, Range, Records, within};

/// Everything in a database, by the number of the family.
#[derive(Clone, Debug, Default)]
pub struct State(pub BTreeMap<u32, (String, Records)>);

/// What a write does.
#[derive(Clone, Debug)]
pub enum What {
    /// Changes to families, all at once.
    Batch(Vec<(u32, Change)>),
    /// A new family; its number is known once it is there.
    Create(String, Option<u32>),
    /// A family goes.
    Drop(u32),
    /// A family gets another name.
    Rename(u32, String),
    /// Nothing that a reader could see, but it has a sequence number.
    Options,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet.
    Running,
    /// The call returned success.
    Acknowledged,
    /// The call failed in a way that says that nothing was written.
    Absent,
    /// The call failed and says nothing.
    Unknown,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Who.
    pub client: usize,
    /// When it began, on the history's clock.
    pub begun: u64,
    /// What it does.
    pub what: What,
    /// Its last sequence number, if it has one.
    pub seq: Option<u64>,
    /// How many sequence numbers it has.
    pub count: u64,
    /// How it ended.
    pub verdict: Verdict,
}

/// What a reader saw.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Nothing but a number.
    Number,
    /// Values of keys of a family.
    Values(u32, Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// The first records of a range, in either direction; all of them if there were fewer.
    Records {
        /// The family.
        family: u32,
        /// The range.
        range: Range,
        /// From the end.
        backward: bool,
        /// How many were asked for.
        limit: usize,
        /// What came.
        records: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// All of it.
    All(Content),
}

/// One look of a reader.
#[derive(Clone, Debug)]
pub struct Look {
    /// Who.
    pub client: usize,
    /// What it was, for a person.
    pub name: &'static str,
    /// When it began, on the history's clock.
    pub begun: u64,
    /// When it ended.
    pub ended: u64,
    /// The largest sequence number that was acknowledged when it began.
    pub at_least: u64,
    /// The number of the snapshot it reads.
    pub exactly: Option<u64>,
    /// What it saw.
    pub seen: Seen,
}

/// What happened between an open and the end of the handle.
#[derive(Debug, Default)]
pub struct History {
    /// What was there after the open.
    pub base: State,
    /// The last sequence number then.
    pub base_seq: u64,
    /// All writes, in the order in which they began.
    pub writes: Vec<Write>,
    /// All looks.
    pub looks: Vec<Look>,
    /// The largest sequence number acknowledged so far.
    pub acknowledged: u64,
    /// The largest one that is promised to survive a loss of power.
    pub durable: u64,
    /// When somebody was first told that the handle is poisoned.
    pub poisoned: Option<u64>,
    clock: u64,
}

impl State {
    /// What is there, by name.
    pub fn content(&self) -> Content {
        self.0.values().map(|(name, records)| (name.clone(), records.clone())).collect()
    }

    fn is(&self, content: &Content) -> bool {
        self.0.len() == content.len() && self.0.values().all(|(name, records)| content.get(name) == Some(records))
    }

    fn apply(&mut self, what: &What, fresh: u32) -> Result<(), String> {
        match what {
            What::Batch(changes) => {
                for (family, change) in changes {
                    let Some((_, records)) = self.0.get_mut(family) else {
                        return Err(format!("a batch was accepted for family {family}, which is not there"));
                    };
                    match change {
                        Change::Put(key, value) => drop(records.insert(key.clone(), value.clone())),
                        Change::Delete(key) => drop(records.remove(key)),
                        Change::DeleteRange(range) => {
                            let keys: Vec<Vec<u8>> = within(records, range).map(|(k, _)| k.clone()).collect();
                            keys.iter().for_each(|k| drop(records.remove(k)));
                        }
                    }
                }
            }
            What::Create(name, id) => drop(self.0.insert(id.unwrap_or(fresh), (name.clone(), Records::new()))),
            What::Drop(id) => drop(self.0.remove(id)),
            What::Rename(id, name) => match self.0.get_mut(id) {
                Some((old, _)) => old.clone_from(name),
                None => return Err(format!("family {id} was renamed, but it is not there")),
            },
            What::Options => {}
        }
        Ok(())
    }
}

impl Seen {
    /// True if this is what one sees in that state. A snapshot taken before a family was made shows
    /// nothing in it.
    fn fits(&self, state: &State, of_snapshot: bool) -> bool {
        static NONE: Records = Records::new();
        let in_family = |id: &u32| match state.0.get(id) {
            Some((_, records)) => Some(records),
            None if of_snapshot => Some(&NONE),
            None => None,
        };
        match self {
            Seen::Number => true,
            Seen::Values(family, values) => {
                let Some(records) = in_family(family) else { return false };
                values.iter().all(|(key, value)| records.get(key) == value.as_ref())
            }
            Seen::Records { family, range, backward, limit, records: seen } => {
                let Some(records) = in_family(family) else { return false };
                let same = |a: (&Vec<u8>, &Vec<u8>), b: &(Vec<u8>, Vec<u8>)| *a.0 == b.0 && *a.1 == b.1;
                let mut n = 0;
                let equal = if *backward {
                    let mut all = within(records, range).rev().take(*limit);
                    let equal = seen.iter().all(|pair| all.next().is_some_and(|found| same(found, pair)));
                    n += all.count();
                    equal
                } else {
                    let mut all = within(records, range).take(*limit);
                    let equal = seen.iter().all(|pair| all.next().is_some_and(|found| same(found, pair)));
                    n += all.count();
                    equal
                };
                equal && n == 0
            }
            Seen::All(content) => state.is(content),
        }
    }
}

impl History {
    /// A history that begins with this.
    pub fn new(base: State, base_seq: u64) -> History {
        History { base, base_seq, acknowledged: base_seq, durable: base_seq, ..History::default() }
    }

    /// The next moment.
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The writes that have a number, in the order of their numbers, which must be dense.
    fn chain(&self) -> Result<Vec<&Write>, String> {
        let mut chain: Vec<&Write> = self.writes.iter().filter(|w| w.seq.is_some()).collect();
        chain.sort_by_key(|w| w.seq);
        let mut last = self.base_seq;
        for write in &chain {
            let first = write.seq.unwrap_or(0).wrapping_sub(write.count - 1);
            if first != last + 1 {
                let client = write.client;
                return Err(format!("sequence number {first} of client {client} follows {last}: {write:?}"));
            }
            last = write.seq.unwrap_or(0);
        }
        Ok(chain)
    }

    /// Checks every look against the chain of states.
    pub fn check_looks(&self) -> Result<(), String> {
        let chain = self.chain()?;
        // State `i` holds for the numbers from `starts[i]` up to, not including, `starts[i + 1]`.
        let starts: Vec<u64> = [self.base_seq].into_iter().chain(chain.iter().map(|w| w.seq.unwrap_or(0))).collect();
        let state_of = |seq: u64| starts.partition_point(|&start| start <= seq).saturating_sub(1);
        // The least number of the writes that began after a moment: what ended before saw less.
        let mut by_begin: Vec<(u64, u64)> =
            chain.iter().map(|w| (w.begun, w.seq.unwrap_or(0) - (w.count - 1))).collect();
        by_begin.sort_unstable();
        let mut least = u64::MAX;
        for entry in by_begin.iter_mut().rev() {
            least = least.min(entry.1);
            entry.1 = least;
        }
        let bounds: Vec<(usize, usize)> = self
            .looks
            .iter()
            .map(|look| match look.exactly {
                Some(seq) => (state_of(seq), state_of(seq)),
                None => {
                    let after = by_begin.partition_point(|(begun, _)| *begun < look.ended);
                    let limit = by_begin.get(after).map_or(u64::MAX, |(_, seq)| seq - 1);
                    (state_of(look.at_least), state_of(limit))
                }
            })
            .collect();
        let mut fitting: Vec<Vec<usize>> = vec![Vec::new(); self.looks.len()];
        let mut state = self.base.clone();
        for i in 0..starts.len() {
            if i > 0 {
                state.apply(&chain[i - 1].what, u32::MAX)?;
            }
            for (n, look) in self.looks.iter().enumerate() {
                if bounds[n].0 <= i && i <= bounds[n].1 && look.seen.fits(&state, look.exactly.is_some()) {
                    fitting[n].push(i);
                }
            }
        }
        // Each look gets the earliest state that is no earlier than those of the looks before it.
        let mut order: Vec<usize> = (0..self.looks.len()).collect();
        order.sort_by_key(|&n| self.looks[n].begun);
        let mut ended: Vec<(u64, usize)> = Vec::new();
        for n in order {
            let look = &self.looks[n];
            // A look at a snapshot of earlier says nothing about now; its number was checked when taken.
            let is_now = look.exactly.is_none() || look.name == "snapshot";
            let before = ended.iter().filter(|(at, _)| *at < look.begun).map(|(_, i)| *i).max().unwrap_or(0);
            let least = if is_now { before } else { 0 };
            let Some(&at) = fitting[n].iter().find(|&&i| i >= least) else {
                return Err(self.explain_look(look, bounds[n], least, &fitting[n], &chain));
            };
            if let Some(seq) = look.exactly.filter(|_| look.name == "snapshot")
                && seq < look.at_least
            {
                return Err(format!("a snapshot stands at {seq}, below what was acknowledged: {look:?}"));
            }
            if is_now {
                ended.push((look.ended, at));
            }
        }
        Ok(())
    }

    fn explain_look(
        &self,
        look: &Look,
        bounds: (usize, usize),
        least: usize,
        fitting: &[usize],
        chain: &[&Write],
    ) -> String {
        let from = bounds.0.saturating_sub(3);
        let to = (bounds.1 + 1).min(chain.len());
        let near: Vec<String> =
            (from..to).map(|i| format!("  state {}: {}", i + 1, short(&format!("{:?}", chain[i])))).collect();
        format!(
            "no state between {} and {} (and from {least} on) explains what client {} saw by {}: {}\nit fits states \
             {fitting:?}; the writes around:\n{}",
            bounds.0,
            bounds.1,
            look.client,
            look.name,
            short(&format!("{look:?}")),
            near.join("\n")
        )
    }

    /// Checks what a later open found. `floor` is the sequence number that must have survived;
    /// `exact` says that everything must have.
    pub fn check_recovered(&self, found: &Content, floor: u64, exact: bool) -> Result<(), String> {
        let chain = self.chain()?;
        let mut state = self.base.clone();
        let mut seq = self.base_seq;
        for i in 0..=chain.len() {
            if i > 0 {
                state.apply(&chain[i - 1].what, u32::MAX)?;
                seq = chain[i - 1].seq.unwrap_or(seq);
            }
            if seq >= floor && (!exact || i == chain.len()) && state.is(found) {
                return Ok(());
            }
        }
        // At most one append failed half-way; what came with it may be there in some order.
        let unknown: Vec<&Write> = self.writes.iter().filter(|w| w.seq.is_none() && self.may_have_come(w)).collect();
        if !exact && unknown.len() <= 8 && continues(&state, &unknown, found, u32::MAX) {
            return Ok(());
        }
        let mut words = crate::model::difference(&state.content(), found).unwrap_or_default();
        // The prefix that comes nearest says most.
        let mut state = self.base.clone();
        let mut nearest = (usize::MAX, 0, 0);
        for i in 0..=chain.len() {
            if i > 0 {
                state.apply(&chain[i - 1].what, u32::MAX)?;
            }
            let distance = distance(&state.content(), found);
            if distance <= nearest.0 {
                nearest = (distance, i, if i > 0 { chain[i - 1].seq.unwrap_or(0) } else { self.base_seq });
                words = crate::model::difference(&state.content(), found).unwrap_or("nothing".to_string());
            }
        }
        Err(format!(
            "what came back is no state of the history from {floor} on (exact: {exact}, {} writes up to {seq}, {} of \
             them unknown); nearest is state {} with number {}, from which it differs by {words}",
            chain.len(),
            unknown.len(),
            nearest.1,
            nearest.2
        ))
    }

    /// True if a write without a number may have reached the log. Not after somebody was told that the
    /// handle is poisoned.
    fn may_have_come(&self, write: &Write) -> bool {
        write.verdict != Verdict::Absent && self.poisoned.is_none_or(|at| write.begun < at)
    }
}

/// True if some of the writes, in some order, lead from the state to what was found.
fn continues(state: &State, unknown: &[&Write], found: &Content, fresh: u32) -> bool {
    unknown.iter().enumerate().any(|(n, write)| {
        let mut next = state.clone();
        if next.apply(&write.what, fresh).is_err() {
            return false;
        }
        let rest: Vec<&Write> = unknown.iter().enumerate().filter(|(i, _)| *i != n).map(|(_, w)| *w).collect();
        next.is(found) || continues(&next, &rest, found, fresh - 1)
    })
}

fn distance(a: &Content, b: &Content) -> usize {
    let one_way = |a: &Content, b: &Content| -> usize {
        a.iter()
            .map(|(name, records)| match b.get(name) {
                Some(other) => records.iter().filter(|(k, v)| other.get(*k) != Some(v)).count(),
                None => 1 + records.len(),
            })
            .sum()
    };
    one_way(a, b) + one_way(b, a)
}

fn short(words: &str) -> String {
    if words.len() <= 1500 { words.to_string() } else { format!("{}..", words.chars().take(1500).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    fn put(key: &str, value: &str) -> What {
        What::Batch(vec![(0, Change::Put(key.into(), value.into()))])
    }

    fn history() -> History {
        let mut base = State::default();
        base.0.insert(0, ("default".to_string(), Records::new()));
        let mut history = History::new(base, 10);
        for (n, value) in ["1", "2", "3"].iter().enumerate() {
            let begun = history.tick() * 10;
            let (seq, count, verdict) = (Some(11 + n as u64), 1, Verdict::Acknowledged);
            history.writes.push(Write { client: 0, begun, what: put("a", value), seq, count, verdict });
        }
        history
    }

    fn look(begun: u64, ended: u64, at_least: u64, value: Option<&str>) -> Look {
        let seen = Seen::Values(0, vec![("a".into(), value.map(Into::into))]);
        Look { client: 1, name: "get", begun, ended, at_least, exactly: None, seen }
    }

    #[test]
    fn a_look_fits_between_what_was_and_what_was_not_yet() {
        let mut history = history();
        history.looks = vec![look(11, 19, 11, Some("1")), look(15, 25, 11, Some("2"))];
        history.check_looks().unwrap();
        history.looks = vec![look(11, 19, 11, None)];
        assert!(history.check_looks().is_err(), "older than what was acknowledged");
        history.looks = vec![look(11, 19, 11, Some("2"))];
        assert!(history.check_looks().is_err(), "newer than what had begun");
        history.looks = vec![look(15, 45, 11, Some("3")), look(46, 47, 11, Some("2"))];
        assert!(history.check_looks().is_err(), "time does not go back");
        history.writes[1].seq = Some(15);
        assert!(history.check_looks().unwrap_err().contains("follows"), "numbers are dense");
    }

    #[test]
    fn what_comes_back_is_a_prefix_with_what_was_promised() {
        let mut history = history();
        let found = |value: Option<&str>| {
            let records: Records = value.map(|v| (b"a".to_vec(), v.into())).into_iter().collect();
            Content::from([("default".to_string(), records)])
        };
        history.check_recovered(&found(Some("1")), 11, false).unwrap();
        assert!(history.check_recovered(&found(Some("1")), 12, false).is_err());
        assert!(history.check_recovered(&found(Some("2")), 11, true).is_err());
        history.check_recovered(&found(Some("3")), 11, true).unwrap();
        assert!(history.check_recovered(&found(Some("4")), 11, false).is_err());
        let (begun, verdict) = (35, Verdict::Unknown);
        history.writes.push(Write { client: 0, begun, what: put("a", "4"), seq: None, count: 1, verdict });
        history.check_recovered(&found(Some("4")), 11, false).unwrap();
        history.poisoned = Some(34);
        assert!(history.check_recovered(&found(Some("4")), 11, false).is_err(), "it began after the end");
    }

    #[test]
    fn a_scan_that_ends_early_is_noticed() {
        let mut history = history();
        let seen = |records: Vec<(Vec<u8>, Vec<u8>)>, backward| Seen::Records {
            family: 0,
            range: (Bound::Unbounded, Bound::Unbounded),
            backward,
            limit: 5,
            records,
        };
        for backward in [false, true] {
            history.looks = vec![Look { seen: seen(Vec::new(), backward), ..look(50, 51, 13, None) }];
            assert!(history.check_looks().is_err());
            let records = vec![(b"a".to_vec(), b"3".to_vec())];
            history.looks = vec![Look { seen: seen(records, backward), ..look(50, 51, 13, None) }];
            history.check_looks().unwrap();
        }
    }
}
