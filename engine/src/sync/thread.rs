//! Threads over `std`, with the places where a simulation takes part.

use std::time::Duration;

use super::lock::Mutex;
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

/// Starts a named thread. This and [`in_parallel`] are the only places of the engine that do.
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

/// Does `work` for every item, on a thread each, the first on the calling one, and returns the results in order.
/// In a simulation, and where the system gives no thread, one after the other. A panic goes on in the caller
/// once all have ended.
pub fn in_parallel<T: Send, R: Send>(name: &str, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    #[cfg(feature = "sim")]
    if sim::is_simulated() {
        return items.into_iter().map(work).collect();
    }
    // A thread that is not to be had leaves its item where it is.
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let run = &|item: &Mutex<Option<T>>| {
        let item = item.lock().take();
        item.map(&work)
    };
    let Some((first, others)) = items.split_first() else { return Vec::new() };
    std::thread::scope(|scope| {
        let builder = || std::thread::Builder::new().name(name.to_string());
        let start = |item| (item, builder().spawn_scoped(scope, move || run(item)));
        let threads: Vec<_> = others.iter().map(start).collect();
        let own = run(first);
        let others = threads.into_iter().map(|(item, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => run(item),
        });
        let results: Vec<_> = std::iter::once(own).chain(others).collect();
        results.into_iter().flatten().collect()
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
