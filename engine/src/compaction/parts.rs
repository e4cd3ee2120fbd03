//! Where the inputs of a merge may be cut into parts of about the same size. The indexes of the tables tell, which
//! are in memory.

use std::ops::Bound;

use crate::key::upper_contains;
use crate::sync::Arc;
use crate::table::Table;

/// So many places in each table are looked at.
const PLACES: usize = 64;

/// Keys at which some tables may be cut, with what lies before them.
#[derive(Debug, Default)]
pub struct Places {
    /// Ascending, each once; with the bytes of all tables up to there.
    list: Vec<(Vec<u8>, u64)>,
}

impl Places {
    /// Those of `tables`: ends of blocks.
    pub fn of(tables: &[Arc<Table>]) -> Places {
        let mut places = Vec::new();
        for table in tables {
            let index = table.index();
            let step = index.len().div_ceil(PLACES).max(1);
            let mut bytes = 0;
            for block in 0..index.len() {
                bytes += index.handle(block).stored_len as u64;
                if block % step == step - 1 || block + 1 == index.len() {
                    places.push((index.separator(block).to_vec(), std::mem::take(&mut bytes)));
                }
            }
        }
        places.sort_unstable();
        let mut list: Vec<(Vec<u8>, u64)> = Vec::with_capacity(places.len());
        let mut before = 0;
        for (key, bytes) in places {
            before += bytes;
            match list.last_mut() {
                Some(last) if last.0 == key => last.1 = before,
                _ => list.push((key, before)),
            }
        }
        Places { list }
    }

    /// The places behind `key` and before `end`.
    fn between(&self, key: &[u8], end: &Bound<Vec<u8>>) -> &[(Vec<u8>, u64)] {
        let from = self.list.partition_point(|(place, _)| place.as_slice() <= key);
        let to = self.list.partition_point(|(place, _)| upper_contains(end, place));
        &self.list[from..to.max(from)]
    }

    /// Roughly how many bytes of the tables lie between `key` and `end`.
    pub fn bytes_between(&self, key: &[u8], end: &Bound<Vec<u8>>) -> u64 {
        let places = self.between(key, end);
        places.first().zip(places.last()).map_or(0, |(first, last)| last.1 - first.1)
    }

    /// At most `count` places behind `key` and before `end`, ascending, with about the same between them.
    pub fn cut(&self, key: &[u8], end: &Bound<Vec<u8>>, count: usize) -> Vec<Vec<u8>> {
        // Behind the last there may be nothing.
        let Some((last, places)) = self.between(key, end).split_last() else { return Vec::new() };
        let Some(first) = places.first() else { return Vec::new() };
        let bytes = last.1 - first.1;
        let mut cuts: Vec<Vec<u8>> = Vec::with_capacity(count);
        for n in 1..=count as u64 {
            let due = first.1 + bytes / (count as u64 + 1) * n;
            let at = places.partition_point(|(_, before)| *before < due).min(places.len() - 1);
            if cuts.last().is_none_or(|cut| *cut < places[at].0) {
                cuts.push(places[at].0.clone());
            }
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(list: &[(&str, u64)]) -> Places {
        Places { list: list.iter().map(|(key, before)| (key.as_bytes().to_vec(), *before)).collect() }
    }

    fn cut(places: &Places, key: &str, end: Option<&str>, count: usize) -> Vec<String> {
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_bytes().to_vec()));
        let cuts = places.cut(key.as_bytes(), &end, count);
        cuts.into_iter().map(|key| String::from_utf8_lossy(&key).into_owned()).collect()
    }

    #[test]
    fn cuts_lie_strictly_inside_and_part_evenly() {
        let all = places(&[("b", 10), ("c", 20), ("d", 30), ("e", 40), ("f", 90), ("g", 100)]);
        assert_eq!(cut(&all, "", None, 1), ["f"]);
        assert_eq!(cut(&all, "", Some("f"), 1), ["d"]);
        assert_eq!(cut(&all, "", None, 2), ["e", "f"]);
        assert_eq!(cut(&all, "c", None, 9), ["e", "f"]);
        assert_eq!(cut(&all, "d", Some("f"), 3), [""; 0], "one place is the last");
        assert_eq!(cut(&all, "g", None, 3), [""; 0]);
        assert_eq!(cut(&all, "", None, 0), [""; 0]);
        assert_eq!(cut(&Places::default(), "", None, 3), [""; 0]);
        let unbounded = Bound::Unbounded;
        assert_eq!((all.bytes_between(b"", &unbounded), all.bytes_between(b"d", &unbounded)), (90, 60));
        assert_eq!(all.bytes_between(b"f", &Bound::Excluded(b"g".to_vec())), 0);
    }
}
