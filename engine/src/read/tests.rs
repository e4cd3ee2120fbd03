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

/// Long strides to and fro where most steps stay within a run: what was found out once must hold for all of it.
#[test]
fn runs_show_what_single_steps_show() {
    let (mut in_runs, mut back_in_runs, mut steps) = (0, 0, 0);
    for seed in 1..60 {
        let mut random = Random::new(seed);
        let mut world = World::new();
        let key = |n: u64| format!("key {n:04}").into_bytes();
        let keys = 200 + random.below(300);
        let mut order: Vec<u64> = (0..keys).collect();
        order.sort_by_cached_key(|_| random.below(1 << 30));
        for n in order {
            world.history.push(Op::Put(key(n), format!("old {n}").into_bytes()));
        }
        let mut version = Version::new().apply(&world.tables(1, keys + 1, 4, 120), &[]).unwrap();
        // Few and far between, above it: newer versions, deletions, keys of their own; some are too new to be seen.
        let mut memtables = Vec::new();
        for place in 0..3 {
            let first = world.last_seq() + 1;
            for _ in 0..random.below(12) {
                let at = random.below(keys + 20);
                world.history.push(match random.below(3) {
                    0 => Op::Delete(key(at)),
                    1 => Op::Put(key(at), b"new".to_vec()),
                    _ => Op::Put([key(at), b"+".to_vec()].concat(), b"between".to_vec()),
                });
            }
            let end = world.last_seq() + 1;
            match place {
                0 => version = version.apply(&world.tables(first, end, 2, 8), &[]).unwrap(),
                1 => version = version.apply(&world.tables(first, end, 0, usize::MAX), &[]).unwrap(),
                _ => memtables.push(world.memtable(first, end)),
            }
        }
        let view = world.view(memtables, &version);
        // All is seen, or not quite all, or nothing of above and not quite all below.
        let last = world.last_seq();
        let visible = [last, last - random.below(last - keys + 1), keys - random.below(20)][seed as usize % 3];
        let (low, high) = (key(random.below(40)), key(keys - random.below(40)));
        let narrow = KeyRange { start: Bound::Included(low), end: Bound::Excluded(high) };
        for range in [KeyRange::ALL, narrow] {
            let expected: Vec<_> = world.oracle(visible).into_iter().filter(|(k, _)| range.contains(k)).collect();
            let mut cursor = view.cursor(range, visible, Default::default()).unwrap();
            for _ in 0..20 {
                let from = key(random.below(keys));
                let mut at = expected.partition_point(|(k, _)| *k < from);
                cursor.seek(&from).unwrap();
                for _ in 0..3 + random.below(4) {
                    let forward = random.below(2) == 0;
                    for _ in 0..random.below(70) {
                        if at >= expected.len() {
                            break;
                        }
                        let here = cursor.valid().then(|| (cursor.key(), cursor.value()));
                        assert_eq!(here, Some((&expected[at].0[..], &expected[at].1[..])), "seed {seed}");
                        assert_eq!(&*cursor.key_slice(), &expected[at].0[..]);
                        assert_eq!(&*cursor.value_slice(), &expected[at].1[..]);
                        let is_in_run = u32::from(cursor.run.is_some());
                        steps += 1;
                        in_runs += is_in_run;
                        if forward {
                            cursor.next().unwrap();
                            at += 1;
                        } else {
                            cursor.prev().unwrap();
                            back_in_runs += is_in_run;
                            at = at.wrapping_sub(1);
                        }
                    }
                }
                assert_eq!(cursor.valid(), at < expected.len(), "seed {seed}");
            }
        }
    }
    assert!(in_runs > steps / 3 && back_in_runs > steps / 12, "{in_runs} and {back_in_runs} of {steps} steps");
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
