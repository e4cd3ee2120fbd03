//! The snapshots that readers hold: which sequence numbers compaction must keep visible.
//!
//! A snapshot registers itself and reads the published number under one lock, so a job that has
//! read the published number before it collects the list can never drop what a snapshot may see.

use std::collections::BTreeMap;

use crate::key::SeqNo;
use crate::sabotage::{self, Bug};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Live snapshots: how many stand at each sequence number.
#[derive(Debug, Default)]
pub struct Snapshots {
    live: Mutex<BTreeMap<SeqNo, usize>>,
}

impl Snapshots {
    /// Registers a snapshot of what is published now.
    pub fn register(&self, published: &AtomicU64) -> SeqNo {
        let mut live = self.live.lock();
        let seq = published.load(Ordering::Acquire) + u64::from(sabotage::is(Bug::SnapshotSeesNext));
        *live.entry(seq).or_default() += 1;
        seq
    }

    /// Registers another snapshot at the number of one that lives.
    pub fn register_at(&self, seq: SeqNo) {
        *self.live.lock().entry(seq).or_default() += 1;
    }

    /// Gives a snapshot back.
    pub fn release(&self, seq: SeqNo) {
        let mut live = self.live.lock();
        if let Some(count) = live.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                live.remove(&seq);
            }
        }
    }

    /// The distinct sequence numbers, ascending.
    pub fn list(&self) -> Vec<SeqNo> {
        self.live.lock().keys().copied().collect()
    }

    /// How many snapshots live, and the oldest one's number.
    pub fn summary(&self) -> (usize, Option<SeqNo>) {
        let live = self.live.lock();
        (live.values().sum(), live.keys().next().copied())
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, RwLock, spawn};

    /// A job that reads the published number first and the list second keeps what every snapshot sees.
    #[test]
    fn loom_a_snapshot_is_listed_or_no_older_than_the_job() {
        loom::model(|| {
            let shared = Arc::new((Snapshots::default(), AtomicU64::new(1)));
            let publishing = shared.clone();
            let publisher = spawn("publisher", move || publishing.1.store(2, Ordering::Release));
            let registering = shared.clone();
            let seen = Arc::new(AtomicU64::new(0));
            let tell = seen.clone();
            let reader = spawn("reader", move || {
                let seq = registering.0.register(&registering.1);
                tell.store(seq, Ordering::Release);
            });
            let visible = shared.1.load(Ordering::Acquire);
            let listed = shared.0.list();
            assert!(publisher.is_ok_and(|t| t.join()) && reader.is_ok_and(|t| t.join()));
            let seq = seen.load(Ordering::Acquire);
            assert!(seq >= visible || listed.contains(&seq), "{seq} of {visible}, {listed:?}");
        });
    }

    /// A reader that takes the view first and the published number second never reads below what the
    /// job that made the view has dropped.
    #[test]
    fn loom_view_first_number_second() {
        loom::model(|| {
            // The view is told apart by the number below which it keeps one version of each key.
            let shared = Arc::new((RwLock::new(0), AtomicU64::new(1)));
            let publishing = shared.clone();
            let publisher = spawn("publisher", move || publishing.1.store(2, Ordering::Release));
            let installing = shared.clone();
            let job = spawn("job", move || {
                let visible = installing.1.load(Ordering::Acquire);
                *installing.0.write() = visible;
            });
            let kept_from = *shared.0.read();
            let number = shared.1.load(Ordering::Acquire);
            assert!(number >= kept_from, "reads at {number} what was dropped below {kept_from}");
            assert!(publisher.is_ok_and(|t| t.join()) && job.is_ok_and(|t| t.join()));
        });
    }
}
