//! Threads over `std`, with the places where a simulation takes part.

use std::time::Duration;

#[cfg(feature = "sim")]
use super::sim;

/// A thread started by [`spawn`].
#[derive(Debug)]
pub struct JoinHandle {
    inner: std::thread::JoinHandle<()>,
    /// Its number in a simulation.
    #[cfg(feature = "sim")]
    simulated: Option<usize>,
}

impl JoinHandle {
    /// Waits for the thread; false if it panicked.
    pub fn join(self) -> bool {
        #[cfg(feature = "sim")]
        if let Some(number) = self.simulated {
            sim::join(number);
        }
        self.inner.join().is_ok()
    }

    /// True when called from the thread itself.
    pub fn is_current(&self) -> bool {
        self.inner.thread().id() == std::thread::current().id()
    }
}

/// Starts a named thread: the only place of the engine that does.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle> {
    let builder = std::thread::Builder::new().name(name.to_string());
    #[cfg(feature = "sim")]
    if sim::is_simulated() {
        let (inner, number) = sim::spawn(builder, name, body)?;
        return Ok(JoinHandle { inner, simulated: Some(number) });
    }
    let inner = builder.spawn(body)?;
    Ok(JoinHandle {
        inner,
        #[cfg(feature = "sim")]
        simulated: None,
    })
}

/// Lets the calling thread sleep: the only place of the engine that does.
pub fn sleep(time: Duration) {
    #[cfg(feature = "sim")]
    if sim::is_simulated() {
        return sim::sleep(time);
    }
    std::thread::sleep(time);
}

/// How many threads the machine runs at once.
pub fn available_parallelism() -> usize {
    // A simulated machine is the same on every machine.
    #[cfg(feature = "sim")]
    if sim::is_simulated() {
        return 4;
    }
    // Asked once: the system answers by reading files.
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
