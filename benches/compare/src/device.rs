//! What the machine itself does: syncs a second of the device, and the gaps it leaves a thread waiting.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Result;

/// Bytes of one write before a sync: a page, which is the least that reaches a device.
const PAGE: usize = 4096;
/// The file is written over and over in this many pages, as a log that is recycled is.
const PAGES: u64 = 1024;

/// Overwrites of one page followed by `fdatasync`, a second, on a file whose blocks are there already: the most
/// that one thread can have written durably on this device.
pub fn syncs_per_second(directory: &Path, secs: f64) -> Result<f64> {
    let path = directory.join("raw-device");
    let file = OpenOptions::new().create_new(true).write(true).open(&path)?;
    let page = [0x5a; PAGE];
    for n in 0..PAGES {
        file.write_all_at(&page, n * PAGE as u64)?;
    }
    file.sync_all()?;
    let begun = Instant::now();
    let mut n = 0;
    while n == 0 || begun.elapsed().as_secs_f64() < secs {
        file.write_all_at(&page, n % PAGES * PAGE as u64)?;
        file.sync_data()?;
        n += 1;
    }
    let rate = n as f64 / begun.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Notices how late the system wakes a thread that wants to run each millisecond: what of a long latency is
/// the machine's and not the engine's.
pub struct GapWatch {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Duration>>,
}

impl GapWatch {
    /// From now on.
    pub fn begin() -> GapWatch {
        const PAUSE: Duration = Duration::from_millis(1);
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !ends.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(PAUSE);
                longest = longest.max(begun.elapsed().saturating_sub(PAUSE));
            }
            longest
        });
        GapWatch { over, thread: Some(thread) }
    }

    /// The longest gap so far.
    pub fn end(mut self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}
