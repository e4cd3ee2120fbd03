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
