//! Reads of all kinds, each compared with the oracle as it goes.

use std::ops::Bound;

use lignite::{ColumnFamily, Iter, Reader, Slice, Snapshot};

use super::machine::{Machine, same};
use super::{Failure, Step};
use crate::model::{self, Range, Records};
use crate::ops::Op;

/// An entry of either side.
pub(super) type Borrowed<'a> = Option<(&'a [u8], &'a [u8])>;

impl Machine {
    /// Does an operation that reads; true if it did something.
    pub(super) fn read(&mut self, op: &Op) -> Result<bool, Failure> {
        let result = match op {
            Op::Get(slot, at, key) => self.get(*slot, *at, key)?,
            Op::GetWith(slot, key) => self.get_with(*slot, key)?,
            Op::Contains(slot, at, key) => self.contains(*slot, *at, key)?,
            Op::MultiGet(slot, at, keys) => self.multi_get(*slot, *at, keys)?,
            Op::Scan(slot, at, range, back) => {
                let Some((family, snapshot, records)) = self.pair(*slot, *at) else { return Ok(false) };
                let iterator = match snapshot {
                    None => family.range(range.clone()),
                    Some(snapshot) => snapshot.range(family, range.clone()),
                };
                Some(compare_scan(iterator, model::within(records, range), *back)?)
            }
            Op::Ends(slot, at, range, ends) => self.ends(*slot, *at, range, ends)?,
            Op::Prefix(slot, at, prefix) => {
                let Some((family, snapshot, records)) = self.pair(*slot, *at) else { return Ok(false) };
                let iterator = match snapshot {
                    None => family.prefix(prefix),
                    Some(snapshot) => snapshot.prefix(family, prefix),
                };
                // Keys with a prefix are neighbours, so both ends are found without a scan.
                let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
                let n = records.range::<[u8], _>(from).take_while(|(k, _)| k.starts_with(prefix)).count();
                let end = records.range::<[u8], _>(from).nth(n).map(|(k, _)| k.as_slice());
                let to = end.map_or(Bound::Unbounded, Bound::Excluded);
                let want = records.range::<[u8], _>((Bound::Included(prefix.as_slice()), to));
                Some(compare_scan(iterator, want, prefix.len() % 2 == 1)?)
            }
            Op::Walk(slot, key, steps) => self.walk(*slot, key, steps)?,
            Op::Size(slot, range) => self.size(*slot, range)?,
            Op::Stats => Some(self.stats()?),
            _ => return self.keep(op),
        };
        if let Some(result) = result {
            self.note(result);
        }
        Ok(result.is_some())
    }

    /// A family, a snapshot and the records there, now or in the snapshot.
    pub(super) fn pair(&self, slot: u8, at: Option<u8>) -> Option<(&ColumnFamily, Option<&Snapshot>, &Records)> {
        let id = self.expected.slots[slot as usize]?;
        let family = self.family(slot)?;
        match at {
            None => Some((family, None, self.expected.model.records(id))),
            Some(at) => {
                let (snapshot, records) = self.kept.snapshot(at)?;
                Some((family, Some(snapshot), records.records(id)))
            }
        }
    }

    fn get(&self, slot: u8, at: Option<u8>, key: &[u8]) -> Result<Option<u64>, Failure> {
        let Some((family, snapshot, records)) = self.pair(slot, at) else { return Ok(None) };
        let found = match snapshot {
            None => family.get(key)?,
            Some(snapshot) => snapshot.get(family, key)?,
        };
        same_value("get", key, records, found.as_deref())?;
        Ok(Some(length(found.as_ref())))
    }

    fn get_with(&self, slot: u8, key: &[u8]) -> Result<Option<u64>, Failure> {
        let Some((family, _, records)) = self.pair(slot, None) else { return Ok(None) };
        let want = records.get(key);
        let equal = family.get_with(key, |value| want.is_some_and(|want| want == value))?;
        if equal != want.map(|_| true) {
            return Err(Failure::Wrong(format!("get_with {} found another value than expected", key.escape_ascii())));
        }
        Ok(Some(u64::from(equal.is_some())))
    }

    fn contains(&self, slot: u8, at: Option<u8>, key: &[u8]) -> Result<Option<u64>, Failure> {
        let Some((family, snapshot, records)) = self.pair(slot, at) else { return Ok(None) };
        let found = match snapshot {
            None => family.contains_key(key)?,
            Some(snapshot) => snapshot.contains_key(family, key)?,
        };
        same("contains_key", &records.contains_key(key), &found)?;
        Ok(Some(found.into()))
    }

    fn multi_get(&self, slot: u8, at: Option<u8>, keys: &[Vec<u8>]) -> Result<Option<u64>, Failure> {
        let Some((family, snapshot, records)) = self.pair(slot, at) else { return Ok(None) };
        let found = match snapshot {
            None => family.multi_get(keys)?,
            Some(snapshot) => snapshot.multi_get(family, keys)?,
        };
        same("the number of answers", &keys.len(), &found.len())?;
        let mut sum = 0;
        for (key, found) in keys.iter().zip(&found) {
            same_value("multi_get", key, records, found.as_deref())?;
            sum += length(found.as_ref());
        }
        Ok(Some(sum))
    }

    fn ends(&self, slot: u8, at: Option<u8>, range: &Range, ends: &[bool]) -> Result<Option<u64>, Failure> {
        let Some((family, snapshot, records)) = self.pair(slot, at) else { return Ok(None) };
        let mut iterator = match snapshot {
            None => family.range(range.clone()),
            Some(snapshot) => snapshot.range(family, range.clone()),
        };
        let mut want = model::within(records, range);
        let mut taken = 0;
        for front in ends {
            let (found, want) =
                if *front { (iterator.next(), want.next()) } else { (iterator.next_back(), want.next_back()) };
            let found = found.transpose()?;
            let pair = match &found {
                Some(entry) => Some((entry.key(), entry.value()?)),
                None => None,
            };
            same_entry("an entry from one of two ends", borrow(want), pair)?;
            taken += u64::from(found.is_some());
        }
        Ok(Some(taken))
    }

    fn walk(&self, slot: u8, key: &[u8], steps: &[bool]) -> Result<Option<u64>, Failure> {
        let Some((family, _, records)) = self.pair(slot, None) else { return Ok(None) };
        let mut cursor = family.cursor()?;
        let mut met = 0;
        for forwards in [true, false] {
            let mut position = if forwards {
                cursor.seek(key)?;
                records.range::<[u8], _>((Bound::Included(key), Bound::Unbounded)).next()
            } else {
                cursor.seek_for_prev(key)?;
                records.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()
            };
            for step in [None].into_iter().chain(steps.iter().copied().map(Some)) {
                position = match (step, position) {
                    (None, position) => position,
                    (Some(_), None) => break,
                    (Some(true), Some((at, _))) => {
                        cursor.next()?;
                        records.range::<[u8], _>((Bound::Excluded(at.as_slice()), Bound::Unbounded)).next()
                    }
                    (Some(false), Some((at, _))) => {
                        cursor.prev()?;
                        records.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(at.as_slice()))).next_back()
                    }
                };
                let found = cursor.valid().then(|| (cursor.key(), cursor.value()));
                same_entry("a cursor's entry", borrow(position), found)?;
                met += 1;
            }
        }
        Ok(Some(met))
    }

    /// Sizes depend on the options, so only what holds for all of them is compared.
    fn size(&self, slot: u8, range: &Range) -> Result<Option<u64>, Failure> {
        let Some((family, ..)) = self.pair(slot, None) else { return Ok(None) };
        let part = family.approximate_size(range.clone())?;
        let whole = family.approximate_size::<&[u8]>(..)?;
        if self.setup.threads == 0 {
            let stored: u64 = family.tables().iter().map(|t| t.size).sum();
            same("the size of everything", &stored, &whole)?;
            if part > whole {
                return Err(Failure::Wrong(format!("a range takes {part} bytes of {whole}")));
            }
        }
        let (start, end) = (range.0.clone(), range.1.clone());
        if (lignite::internals::key::KeyRange { start, end }).is_empty() && part != 0 {
            return Err(Failure::Wrong(format!("an empty range takes {part} bytes")));
        }
        Ok(Some(0))
    }

    fn stats(&self) -> Result<u64, Failure> {
        let stats = self.db().stats();
        let names: Vec<&str> = stats.families.iter().map(|f| f.name.as_str()).collect();
        let expected: Vec<&str> = self.expected.model.families().map(|(_, name, _)| name).collect();
        same("the families in the statistics", &expected, &names)?;
        same("the sequence number in the statistics", &self.db().snapshot().seq(), &stats.sequence)?;
        same("read_only", &false, &stats.read_only)?;
        same("the number of live snapshots", &self.kept.snapshots_alive(), &stats.snapshots.count)?;
        same("the oldest live snapshot", &self.kept.oldest_snapshot(), &stats.snapshots.oldest_seq)?;
        for (family, (_, name, records)) in stats.families.iter().zip(self.expected.model.families()) {
            if family.entries < records.len() as u64 {
                let what = format!("family {name} has {} entries but {} live keys", family.entries, records.len());
                return Err(Failure::Wrong(what));
            }
            let tables = family.levels.iter().map(|l| l.bytes).sum();
            same("the bytes of all levels", &family.stored_bytes, &tables)?;
        }
        let health = self.db().health();
        // With background threads a write may be about to wait at this very moment.
        if health.poisoned.is_some() || health.background_error.is_some() || (self.setup.threads == 0 && health.stalled)
        {
            return Err(Failure::Wrong(format!("something is wrong: {health:?}")));
        }
        Ok(stats.sequence)
    }
}

fn length(found: Option<&Slice>) -> u64 {
    found.map_or(0, |value| value.len() as u64 + 1)
}

/// Compares a value with that of the records.
pub(super) fn same_value(what: &str, key: &[u8], records: &Records, found: Option<&[u8]>) -> Step {
    let want = records.get(key).map(Vec::as_slice);
    if want == found {
        return Ok(());
    }
    same(&format!("{what} {}", key.escape_ascii()), &want, &found)
}

/// Compares an entry with what is expected.
pub(super) fn same_entry(what: &str, want: Borrowed<'_>, found: Borrowed<'_>) -> Step {
    if want == found { Ok(()) } else { same(what, &want, &found) }
}

pub(super) fn borrow<'a>(entry: Option<(&'a Vec<u8>, &'a Vec<u8>)>) -> Borrowed<'a> {
    entry.map(|(key, value)| (key.as_slice(), value.as_slice()))
}

/// Reads all of an iterator, from the front or the back; how many entries there were.
fn compare_scan<'a>(
    mut iterator: Iter,
    mut want: impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    back: bool,
) -> Result<u64, Failure> {
    let mut n = 0;
    loop {
        let found = if back { iterator.next_back() } else { iterator.next() };
        let expected = if back { want.next_back() } else { want.next() };
        let found = found.transpose()?;
        let pair = match &found {
            Some(entry) => Some((entry.key(), entry.value()?)),
            None => None,
        };
        same_entry("a scan's entry", borrow(expected), pair)?;
        if found.is_none() {
            return Ok(n);
        }
        n += 1;
    }
}
