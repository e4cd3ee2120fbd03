//! Reads of a whole view against its history.

#![allow(clippy::unwrap_used)]

use std::ops::Bound;

use crate::key::KeyRange;
use crate::read::testing::{Op, Random, World, check_view};
use crate::version::Version;

#[test]
fn a_view_agrees_with_its_history() {
    for seed in 1..40 {
        let mut random = Random::new(seed);
        let mut world = World::new();
        let (memtables, version) = world.populate(&mut random);
        version.check_invariants().unwrap();
        let view = world.view(memtables, &version);
        let last = world.last_seq();
        for visible in [last, random.below(last + 1), random.below(last + 1), 0] {
            check_view(&world, &view, visible, &mut random, &format!("seed {seed}"));
        }
    }
}

#[test]
fn an_empty_view_has_nothing() {
    let world = World::new();
    let view = world.view(vec![world.memtable(1, 1)], &Version::new());
    check_view(&world, &view, 0, &mut Random::new(1), "empty");
    assert_eq!(view.approximate_size(&KeyRange::ALL).unwrap(), 0);
}

#[test]
fn sizes_of_parts_add_up_roughly() {
    let mut world = World::new();
    for n in 0..3000u32 {
        world.history.push(Op::Put(format!("key {:06}", n * 7919 % 3000).into_bytes(), vec![n as u8; 50]));
    }
    let version = Version::new().apply(&world.tables(1, 3001, 3, 500), &[]).unwrap();
    let view = world.view(Vec::new(), &version);
    let size = |start: Bound<&[u8]>, end: Bound<&[u8]>| {
        view.approximate_size(&KeyRange { start: start.map(<[u8]>::to_vec), end: end.map(<[u8]>::to_vec) }).unwrap()
    };
    let whole = size(Bound::Unbounded, Bound::Unbounded);
    assert_eq!(whole, version.total_size());
    let (a, b): (&[u8], &[u8]) = (b"key 001000", b"key 001700");
    let (low, middle, high) = (
        size(Bound::Unbounded, Bound::Excluded(a)),
        size(Bound::Included(a), Bound::Excluded(b)),
        size(Bound::Included(b), Bound::Unbounded),
    );
    assert!(low > 0 && middle > 0 && high > 0 && (low + middle + high).abs_diff(whole) < whole / 10);
    assert!(low > middle && high > middle);
    assert_eq!(size(Bound::Included(b), Bound::Excluded(a)), 0);
}

#[test]
fn a_cursor_outlives_its_view_and_version() {
    let mut random = Random::new(5);
    let mut world = World::new();
    let (memtables, version) = world.populate(&mut random);
    let map = world.oracle(world.last_seq());
    let mut cursor =
        world.view(memtables, &version).cursor(KeyRange::ALL, world.last_seq(), Default::default()).unwrap();
    drop(version);
    cursor.seek_to_first().unwrap();
    let mut n = 0;
    while cursor.valid() {
        n += 1;
        cursor.next().unwrap();
    }
    assert_eq!(n, map.len());
}
