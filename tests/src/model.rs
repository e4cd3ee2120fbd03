//! The oracle: what a database must contain, kept in ordered maps that are too simple to be wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

/// The live records of one column family.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;
/// The live records of every column family, by its name.
pub type Content = BTreeMap<String, Records>;
/// A range of keys.
pub type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Every key.
pub const ALL: Range = (Bound::Unbounded, Bound::Unbounded);

/// A database in ordered maps. Families have numbers that are never used again, so that a snapshot
/// knows which of two families of the same name it meant.
#[derive(Clone, Debug, Default)]
pub struct Model {
    families: BTreeMap<u32, ModelFamily>,
    next: u32,
}

#[derive(Clone, Debug)]
struct ModelFamily {
    name: String,
    // Shared with snapshots; the first write after a snapshot copies it.
    records: Arc<Records>,
}

/// What a [`Model`] contained at one moment.
#[derive(Clone, Debug)]
pub struct ModelSnapshot(BTreeMap<u32, Arc<Records>>);

/// One entry of a batch, for the oracle and the engine alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key gets this value.
    Put(Vec<u8>, Vec<u8>),
    /// The key goes.
    Delete(Vec<u8>),
    /// Every key of the range goes.
    DeleteRange(Range),
}

impl Model {
    /// A fresh database: the family `default`, number 0, and nothing in it.
    pub fn new() -> Model {
        let mut model = Model::default();
        model.create("default");
        model
    }

    /// Adds a family and says its number.
    pub fn create(&mut self, name: &str) -> u32 {
        let id = self.next;
        self.next += 1;
        self.families.insert(id, ModelFamily { name: name.to_string(), records: Arc::default() });
        id
    }

    /// Removes a family.
    pub fn remove(&mut self, id: u32) {
        self.families.remove(&id);
    }

    /// Renames a family.
    pub fn rename(&mut self, id: u32, name: &str) {
        if let Some(family) = self.families.get_mut(&id) {
            family.name = name.to_string();
        }
    }

    /// The number of the family of this name.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.families.iter().find(|(_, f)| f.name == name).map(|(id, _)| *id)
    }

    /// The name of a family.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.families.get(&id).map(|f| f.name.as_str())
    }

    /// The records of a family.
    pub fn records(&self, id: u32) -> &Records {
        &self.families[&id].records
    }

    /// Applies a change to a family.
    pub fn apply(&mut self, id: u32, change: Change) {
        let Some(family) = self.families.get_mut(&id) else { return };
        match change {
            Change::Put(key, value) => {
                Arc::make_mut(&mut family.records).insert(key, value);
            }
            // What changes nothing copies nothing.
            Change::Delete(key) => {
                if family.records.contains_key(&key) {
                    Arc::make_mut(&mut family.records).remove(&key);
                }
            }
            Change::DeleteRange(range) => {
                let keys: Vec<Vec<u8>> = within(&family.records, &range).map(|(k, _)| k.clone()).collect();
                if keys.len() == family.records.len() {
                    family.records = Arc::default();
                } else if !keys.is_empty() {
                    let records = Arc::make_mut(&mut family.records);
                    for key in keys {
                        records.remove(&key);
                    }
                }
            }
        }
    }

    /// Number, name and records of every family, in the order in which they were made.
    pub fn families(&self) -> impl Iterator<Item = (u32, &str, &Arc<Records>)> {
        self.families.iter().map(|(id, f)| (*id, f.name.as_str(), &f.records))
    }

    /// What is there now.
    pub fn snapshot(&self) -> ModelSnapshot {
        ModelSnapshot(self.families.iter().map(|(id, f)| (*id, f.records.clone())).collect())
    }

    /// Everything, by family name.
    pub fn content(&self) -> Content {
        self.families.values().map(|f| (f.name.clone(), Records::clone(&f.records))).collect()
    }
}

impl ModelSnapshot {
    /// The records of a family; none for one that did not exist yet.
    pub fn records(&self, id: u32) -> &Records {
        static NONE: Records = Records::new();
        self.0.get(&id).map_or(&NONE, |r| r)
    }
}

/// The records of a range, also of one whose ends are the wrong way round.
pub fn within<'a>(
    records: &'a Records,
    range: &'a Range,
) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    let empty = match (&range.0, &range.1) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
        _ => false,
    };
    let ends = if empty {
        // An empty range that `BTreeMap` accepts.
        (Bound::Included(&[][..]), Bound::Excluded(&[][..]))
    } else {
        (as_slice(&range.0), as_slice(&range.1))
    };
    records.range::<[u8], _>(ends)
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(k) => Bound::Included(k),
        Bound::Excluded(k) => Bound::Excluded(k),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// A number that is equal for equal content.
pub fn fingerprint(content: &Content) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// Where two contents differ, for a person: the first few records.
pub fn difference(expected: &Content, found: &Content) -> Option<String> {
    let mut out = String::new();
    let mut count = 0;
    let mut note = |line: String| {
        count += 1;
        if count <= 5 {
            let _ = writeln!(out, "  {line}");
        }
    };
    for (name, want) in expected {
        let Some(have) = found.get(name) else {
            note(format!("family {name} ({} records) is missing", want.len()));
            continue;
        };
        for (key, value) in want {
            match have.get(key) {
                None => note(format!("{name}: {} is missing", key.escape_ascii())),
                Some(v) if v != value => {
                    note(format!("{name}: {} is {}, expected {}", key.escape_ascii(), short(v), short(value)))
                }
                Some(_) => {}
            }
        }
        for (key, value) in have {
            if !want.contains_key(key) {
                note(format!("{name}: {} = {} should not be there", key.escape_ascii(), short(value)));
            }
        }
    }
    for name in found.keys().filter(|n| !expected.contains_key(*n)) {
        note(format!("family {name} should not be there"));
    }
    (count > 0).then(|| format!("{count} differences:\n{out}"))
}

fn short(value: &[u8]) -> String {
    let head = &value[..value.len().min(16)];
    format!("{}… ({} bytes)", head.escape_ascii(), value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_keeps_what_was_there() {
        let mut model = Model::new();
        model.apply(0, Change::Put(b"a".to_vec(), b"1".to_vec()));
        let before = model.snapshot();
        model.apply(0, Change::DeleteRange((Bound::Unbounded, Bound::Excluded(b"b".to_vec()))));
        assert_eq!(before.records(0).len(), 1);
        assert_eq!(model.records(0).len(), 0);
        let upside_down = (Bound::Included(b"z".to_vec()), Bound::Included(b"a".to_vec()));
        assert_eq!(within(before.records(0), &upside_down).count(), 0);
    }

    #[test]
    fn differences_are_found_both_ways() {
        let mut a = Model::new();
        let b = a.content();
        a.apply(0, Change::Put(b"a".to_vec(), b"1".to_vec()));
        assert!(difference(&a.content(), &b).unwrap().contains("a is missing"));
        assert!(difference(&b, &a.content()).unwrap().contains("should not be there"));
        assert_eq!(difference(&b, &b), None);
    }
}
