#![allow(clippy::unwrap_used)]
use super::*;
use crate::sync::{Condvar, Mutex, RwLock, sleep, spawn};

fn plan(seed: u64) -> Plan {
    Plan { events_max: 200_000, ..Plan::new(seed, 300) }
}

/// Four threads that count to a hundred in turns, wait for each other and sleep.
fn busy() {
    let shared = Arc::new((Mutex::new(0u32), Condvar::new(), RwLock::new(Vec::new())));
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let shared = shared.clone();
            spawn(&format!("counter {n}"), move || {
                for _ in 0..25 {
                    *shared.0.lock() += 1;
                    shared.2.write().push(n);
                    shared.1.notify_all();
                    if n == 2 {
                        sleep(Duration::from_millis(1));
                    }
                }
            })
            .unwrap()
        })
        .collect();
    let mut count = shared.0.lock();
    while *count < 100 {
        count = shared.1.wait(count);
    }
    drop(count);
    assert!(threads.into_iter().all(|t| t.join()));
    assert_eq!(shared.2.read().len(), 100);
}

#[test]
fn the_same_seed_is_the_same_trace() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let first = run(plan(seed), busy).unwrap();
        assert_eq!(run(plan(seed), busy).unwrap(), first);
        assert!(first.time >= Duration::from_millis(25), "counter 2 slept 25 times");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 20, "other seeds are other traces");
}

#[test]
fn a_deadlock_is_found_and_explained() {
    let body = || {
        let never = Arc::new((Mutex::new(()), Condvar::new()));
        let other = never.clone();
        let waits = spawn("waits for ever", move || drop(other.1.wait(other.0.lock()))).unwrap();
        waits.join();
    };
    let words = run(plan(1), body).unwrap_err();
    assert!(words.contains("deadlock") && words.contains("waits for ever waits for the condition variable"), "{words}");
    assert!(words.contains("root waits for the end of waits for ever"), "{words}");
}

#[test]
fn a_lost_wakeup_is_found() {
    // The flag is looked at, the lock given back, and only then the wait begins.
    let body = || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let other = shared.clone();
        let sets = spawn("sets", move || {
            *other.0.lock() = true;
            other.1.notify_all();
        });
        if !*shared.0.lock() {
            drop(shared.1.wait(shared.0.lock()));
        }
        sets.unwrap().join();
    };
    let found = (0..200).filter(|&seed| run(plan(seed), body).is_err()).count();
    assert!(found > 5 && found < 200, "{found} of 200 seeds");
}

#[test]
fn a_wait_without_a_loop_is_found() {
    let body = || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let other = shared.clone();
        let adds = spawn("adds", move || {
            for _ in 0..30 {
                *other.0.lock() += 1;
            }
            other.1.notify_all();
        });
        let mut count = shared.0.lock();
        if *count < 30 {
            count = shared.1.wait(count);
        }
        assert_eq!(*count, 30);
        drop(count);
        adds.unwrap().join();
    };
    let found = (0..200).filter(|&seed| run(plan(seed), body).is_err()).count();
    assert!(found > 0 && found < 200, "{found} of 200 seeds");
}

#[test]
fn a_watch_that_runs_out_fails() {
    let body = || {
        watch(Some((Duration::from_secs(60), "a short nap")));
        sleep(Duration::from_secs(59));
        watch(Some((Duration::from_secs(60), "a long nap")));
        sleep(Duration::from_secs(61));
        sleep(Duration::from_secs(1));
        point();
    };
    let words = run(plan(1), body).unwrap_err();
    assert!(words.contains("a long nap"), "{words}");
}

#[test]
fn a_panic_in_any_thread_fails() {
    let body = || {
        let _ = spawn("bad", || panic!("on purpose")).map(|t| t.join());
    };
    assert!(run(plan(1), body).unwrap_err().contains("thread bad panicked: on purpose"));
}

#[test]
fn the_baton_stays_while_a_foreign_lock_is_held() {
    let body = || {
        let shared = Arc::new(std::sync::Mutex::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let shared = shared.clone();
                spawn("foreign", move || {
                    for _ in 0..50 {
                        crate::sync::foreign(|| {
                            let mut count = shared.lock().unwrap();
                            point();
                            *count += 1;
                        });
                        point();
                    }
                })
                .unwrap()
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join()));
        assert_eq!(*shared.lock().unwrap(), 150);
    };
    for seed in 0..5 {
        run(plan(seed), body).unwrap();
    }
}
