//! The ticket of a committed batch.

use crate::error::Result;
use crate::store::Store;
use crate::sync::Arc;
use crate::write::Committed;

/// A batch that has been committed: visible to readers, and as durable as was asked for.
#[derive(Clone)]
pub struct Commit {
    store: Arc<Store>,
    committed: Committed,
}

impl Commit {
    pub(super) fn new(store: Arc<Store>, committed: Committed) -> Commit {
        Commit { store, committed }
    }

    /// The sequence number of the batch's last entry. Later batches have larger ones.
    pub fn seq(&self) -> u64 {
        self.committed.seq
    }

    /// Waits until the batch is on the device. One sync serves everybody who waits.
    ///
    /// # Errors
    /// `Poisoned` if a sync of the log failed.
    ///
    /// ```
    /// let db = lignite::Db::temporary()?;
    /// db.put(b"vote", b"1")?.wait_durable()?;
    /// # Ok::<(), lignite::Error>(())
    /// ```
    pub fn wait_durable(&self) -> Result<()> {
        self.store.log()?.sync_to(self.committed.position).inspect_err(|e| self.store.poison(e))
    }

    /// Calls `callback` once, when the batch is on the device or can never be. It runs on a thread
    /// of the database without any of its locks; it must not block for long.
    pub fn on_durable(&self, callback: impl FnOnce(Result<()>) + Send + 'static) {
        let callback = Box::new(callback);
        let log = match self.store.log() {
            Ok(log) => log,
            Err(e) => return callback(Err(e)),
        };
        match log.on_durable(self.committed.position, callback) {
            Ok(()) if self.store.is_stepped() => {
                // No thread of ours will sync: do it here. A failure reaches the callback.
                let _ = log.sync_to(self.committed.position).inspect_err(|e| self.store.poison(e));
            }
            Ok(()) => {}
            Err((callback, outcome)) => callback(outcome),
        }
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commit({})", self.seq())
    }
}
