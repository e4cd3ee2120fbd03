//! The oracle of the crash and fault tests: a hash of everything that a database contains, kept
//! while a history goes on, so that a recovered database is compared with every state of its history
//! by one look-up, however long the history is.
//!
//! The hash of a family is the xor of a hash of each of its records; the hash of a database is the
//! sum, over its families, of a hash of name and family hash. A renamed family so changes the whole
//! without a look at its records. Full maps are made only to report a difference.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use lignite::Db;
use lignite::internals::checksum::hash_key;

use crate::model::{Change, Content, Range, Records, difference};
use crate::ops::{FAMILIES, Op};
use crate::sim::{Expected, content, created_name, renamed_name};

/// The hash of a record.
pub fn hash_record(key: &[u8], value: &[u8]) -> u64 {
    mix(hash_key(key) ^ mix(hash_key(value)))
}

/// What a family adds to the hash of its database.
fn hash_family(name: &str, records: u64) -> u64 {
    mix(hash_key(name.as_bytes()) ^ mix(records))
}

/// The hash of everything in a database.
pub fn hash_database(db: &Db) -> lignite::Result<u64> {
    let mut hash = 0u64;
    for name in db.column_family_names() {
        let family = db.column_family(&name)?;
        let mut records = 0;
        for entry in family.iter() {
            let entry = entry?;
            records ^= hash_record(entry.key(), entry.value()?);
        }
        hash = hash.wrapping_add(hash_family(&name, records));
    }
    Ok(hash)
}

/// The same of a content in maps.
pub fn hash_content(content: &Content) -> u64 {
    let records = |records: &Records| records.iter().fold(0, |sum, (k, v)| sum ^ hash_record(k, v));
    content.iter().fold(0, |sum: u64, (name, family)| sum.wrapping_add(hash_family(name, records(family))))
}

fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One thing that a database may contain, with hashes in place of records. It knows the operations
/// that the histories of [`stage`](crate::stage) are made of.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The family in each slot of the history.
    pub slots: [Option<u32>; FAMILIES as usize],
    families: BTreeMap<u32, WorldFamily>,
    next: u32,
}

#[derive(Clone, Debug, Default)]
struct WorldFamily {
    name: String,
    records: BTreeMap<Vec<u8>, u64>,
    hash: u64,
}

impl World {
    /// A fresh database with its family `default` in slot 0.
    pub fn new() -> World {
        let mut world = World::default();
        world.create(0, "default".to_string());
        world
    }

    /// The hash of it all.
    pub fn hash(&self) -> u64 {
        self.families.values().fold(0, |sum: u64, f| sum.wrapping_add(hash_family(&f.name, f.hash)))
    }

    /// The name of the family in a slot.
    pub fn name(&self, slot: u8) -> Option<&str> {
        let id = self.slots[slot as usize]?;
        self.families.get(&id).map(|f| f.name.as_str())
    }

    /// The keys of the family in a slot.
    pub fn keys(&self, slot: u8) -> impl Iterator<Item = &[u8]> {
        let family = self.slots[slot as usize].and_then(|id| self.families.get(&id));
        family.into_iter().flat_map(|f| f.records.keys().map(Vec::as_slice))
    }

    /// True if the family in a slot has this record.
    pub fn has(&self, slot: u8, key: &[u8], value: Option<&[u8]>) -> bool {
        let family = self.slots[slot as usize].and_then(|id| self.families.get(&id));
        family.is_some_and(|f| f.records.get(key).copied() == value.map(|v| hash_record(key, v)))
    }

    /// True if a family has this name.
    pub fn is_taken(&self, name: &str) -> bool {
        self.families.values().any(|f| f.name == name)
    }

    /// True if the operation changes what a database contains or names, given what is in the slots;
    /// one on an empty slot does nothing.
    pub fn changes(&self, op: &Op) -> bool {
        let filled = |slot: u8| self.name(slot).is_some();
        match op {
            Op::Write(slot, ..) => filled(*slot),
            Op::Batch(writes, _) => writes.iter().any(|(slot, _)| filled(*slot)),
            Op::Ingest(slot, records) => filled(*slot) && !records.is_empty(),
            Op::Create(slot, seed) => !filled(*slot) && !self.is_taken(&created_name(*slot, *seed)),
            Op::Drop(slot) => *slot > 0 && filled(*slot),
            Op::Rename(slot, n) => *slot > 0 && filled(*slot) && !self.is_taken(&renamed_name(*n)),
            _ => false,
        }
    }

    /// True if the acknowledgement of the operation says that it and all before it is durable.
    pub fn makes_durable(&self, op: &Op) -> bool {
        match op {
            Op::Write(.., sync) | Op::Batch(_, sync) => *sync && self.changes(op),
            Op::Create(..) | Op::Drop(..) | Op::Rename(..) | Op::Ingest(..) => self.changes(op),
            // What an open has shown stays, however the handle before it went (G3).
            Op::Sync | Op::Reopen(..) => true,
            _ => false,
        }
    }

    /// Does what the operation must do.
    pub fn apply(&mut self, op: &Op) {
        if !self.changes(op) {
            return;
        }
        match op {
            Op::Write(slot, write, _) => self.write(*slot, &write.change()),
            Op::Batch(writes, _) => writes.iter().for_each(|(slot, write)| self.write(*slot, &write.change())),
            Op::Ingest(slot, records) => {
                records.iter().for_each(|(k, v)| self.write(*slot, &Change::Put(k.clone(), v.bytes())));
            }
            Op::Create(slot, seed) => self.create(*slot, created_name(*slot, *seed)),
            Op::Drop(slot) => {
                if let Some(id) = self.slots[*slot as usize].take() {
                    self.families.remove(&id);
                }
            }
            Op::Rename(slot, n) => {
                if let Some(family) = self.slots[*slot as usize].and_then(|id| self.families.get_mut(&id)) {
                    family.name = renamed_name(*n);
                }
            }
            _ => {}
        }
    }

    fn create(&mut self, slot: u8, name: String) {
        self.families.insert(self.next, WorldFamily { name, ..WorldFamily::default() });
        self.slots[slot as usize] = Some(self.next);
        self.next += 1;
    }

    fn write(&mut self, slot: u8, change: &Change) {
        let Some(family) = self.slots[slot as usize].and_then(|id| self.families.get_mut(&id)) else { return };
        match change {
            Change::Put(key, value) => {
                let hash = hash_record(key, value);
                family.hash ^= hash ^ family.records.insert(key.clone(), hash).unwrap_or(0);
            }
            Change::Delete(key) => family.hash ^= family.records.remove(key).unwrap_or(0),
            Change::DeleteRange(range) => {
                let gone = &mut family.hash;
                family.records.retain(|key, hash| {
                    let inside = contains(range, key);
                    *gone ^= if inside { *hash } else { 0 };
                    !inside
                });
            }
        }
    }
}

fn contains(range: &Range, key: &[u8]) -> bool {
    let after = match &range.0 {
        Bound::Included(low) => key >= low.as_slice(),
        Bound::Excluded(low) => key > low.as_slice(),
        Bound::Unbounded => true,
    };
    after
        && match &range.1 {
            Bound::Included(high) => key <= high.as_slice(),
            Bound::Excluded(high) => key < high.as_slice(),
            Bound::Unbounded => true,
        }
}

/// Every state of a history: state 0 is the fresh database, state `n` the one after operation `n`.
#[derive(Debug)]
pub struct Prefixes {
    ops: Vec<Op>,
    by_hash: HashMap<u64, Vec<usize>>,
}

impl Prefixes {
    /// The states of a history of which every operation succeeds.
    pub fn of(ops: &[Op]) -> Prefixes {
        let mut world = World::new();
        let mut by_hash: HashMap<u64, Vec<usize>> = HashMap::from([(world.hash(), vec![0])]);
        for (i, op) in ops.iter().enumerate() {
            world.apply(op);
            by_hash.entry(world.hash()).or_default().push(i + 1);
        }
        Prefixes { ops: ops.to_vec(), by_hash }
    }

    /// The smallest state within the range that a database is in.
    pub fn find(&self, db: &Db, low: usize, high: usize) -> Result<usize, String> {
        let hash = hash_database(db).map_err(|e| format!("it cannot be read: {e:?}"))?;
        let found = self.by_hash.get(&hash).map(Vec::as_slice).unwrap_or_default();
        match found.iter().find(|k| (low..=high).contains(*k)) {
            Some(k) => Ok(*k),
            None => Err(self.report(db, found, low, high)),
        }
    }

    /// What is wrong, for a person.
    fn report(&self, db: &Db, found: &[usize], low: usize, high: usize) -> String {
        if !found.is_empty() {
            return format!("state {found:?} was found, allowed are {low}..={high}");
        }
        let found = match content(db) {
            Ok(found) => found,
            Err(e) => return format!("no state of the history, and the second read fails: {e:?}"),
        };
        let mut expected = Expected::default();
        let mut nearest: Option<(u64, usize, String)> = None;
        for k in 0..=self.ops.len().min(high) {
            if k > 0 {
                expected.apply(&self.ops[k - 1]);
            }
            let Some(difference) = difference(&expected.model.content(), &found).filter(|_| k >= low) else { continue };
            let n = difference.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
            if nearest.as_ref().is_none_or(|(least, ..)| n < *least) {
                nearest = Some((n, k, difference));
            }
        }
        match nearest {
            Some((_, k, difference)) => {
                format!("no state of the history; the nearest of {low}..={high} is {k}: {difference}")
            }
            None => format!("no state of the history within {low}..={high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::workload;

    /// The incremental hash and the one made from full maps agree at every step of random histories,
    /// whatever is created, dropped, renamed and deleted by ranges.
    #[test]
    fn the_incremental_hash_is_that_of_the_whole() {
        for seed in 0..20 {
            let ops = workload(1000 + seed, 400).ops;
            let (mut world, mut expected) = (World::new(), Expected::default());
            for op in &ops {
                let changes = world.changes(op);
                let before = hash_content(&expected.model.content());
                world.apply(op);
                expected.apply(op);
                let after = hash_content(&expected.model.content());
                assert_eq!(world.hash(), after, "seed {seed}, after {op}");
                assert!(changes || before == after, "seed {seed}: {op} changed something");
            }
        }
    }

    #[test]
    fn names_and_places_matter() {
        let records = |key: &str| Records::from([(key.as_bytes().to_vec(), b"v".to_vec())]);
        let a = Content::from([("a".to_string(), records("k")), ("b".to_string(), records("l"))]);
        let b = Content::from([("a".to_string(), records("l")), ("b".to_string(), records("k"))]);
        assert_ne!(hash_content(&a), hash_content(&b));
        assert_ne!(hash_record(b"ab", b"c"), hash_record(b"a", b"bc"));
    }
}
