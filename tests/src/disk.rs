//! A disk in memory that can die, and a file system over it whose calls can be made to fail.

use std::sync::Arc;

use lignite::internals::fs::Fs;
use lignite::internals::fs::fault::{FaultControl, FaultFs};
use lignite::internals::fs::mem::{CrashPolicy, MemFs};

/// How many crash policies there are: P0 to P7.
pub const POLICIES: u8 = CrashPolicy::ALL.len() as u8;
/// P1, which keeps everything: the process died, the machine did not.
pub const PROCESS_DEATH: u8 = 1;

/// A disk in memory.
#[derive(Clone, Default)]
pub struct Disk(MemFs);

/// A file system over a [`Disk`] with its control.
pub struct Faults {
    fs: Arc<FaultFs>,
    /// Says what fails and counts what is called.
    pub control: FaultControl,
}

impl Disk {
    /// An empty one.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// The file system on it.
    pub fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.0.clone())
    }

    /// The file system on it, as what it is.
    pub fn memory(&self) -> &MemFs {
        &self.0
    }

    /// What a crash now would leave.
    #[must_use]
    pub fn crash(&self, policy: u8, seed: u64) -> Disk {
        Disk(self.0.crash(CrashPolicy::ALL[policy as usize], seed))
    }

    /// What the end of the process now would leave: everything, with what is not synced still only
    /// in the cache.
    #[must_use]
    pub fn process_death(&self) -> Disk {
        Disk(self.0.deep_clone())
    }

    /// A file system on it whose calls can be made to fail.
    pub fn faults(&self) -> Faults {
        let (fs, control) = FaultFs::new(self.fs());
        control.set_log(true);
        Faults { fs, control }
    }
}

impl Faults {
    /// The file system.
    pub fn fs(&self) -> Arc<dyn Fs> {
        self.fs.clone()
    }

    /// The last calls, for a person.
    pub fn trace(&self, n: usize) -> String {
        let calls = self.control.take_log();
        let last = &calls[calls.len().saturating_sub(n)..];
        last.iter()
            .map(|c| {
                let failed = if c.failed { " FAILED" } else { "" };
                format!("  {} {:?} {} at {} len {}{failed}\n", c.number, c.kind, c.name, c.offset, c.len)
            })
            .collect()
    }
}
