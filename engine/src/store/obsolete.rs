//! Files that nobody needs any more, waiting to be removed.
//!
//! Destructors never touch the file system: the last holder of a table only queues its number
//! here, and the next background step removes the file.

use crate::sync::{Condvar, Mutex};
use crate::version::Reaper;

/// The queue of table numbers to remove.
#[derive(Debug, Default)]
pub struct Obsolete {
    queue: Mutex<Vec<u64>>,
    signal: Condvar,
}

impl Obsolete {
    /// Everything queued so far.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.queue.lock())
    }

    /// True if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }
}

impl Reaper for Obsolete {
    fn reap(&self, number: u64) {
        self.queue.lock().push(number);
        self.signal.notify_all();
    }
}
