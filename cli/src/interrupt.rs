//! Ctrl-C: the command ends with code 130, the database intact, partial output in whole lines.
//!
//! A loop that writes lines or steps takes a [`Polling`] guard and asks [`check`] between two of
//! them. Everywhere else (inside one long call of the engine) the process simply ends: the engine
//! is made to survive worse than that, and standard output holds whole lines only, since `output`
//! writes nothing else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::exit::{Exit, Failure};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static POLLERS: AtomicUsize = AtomicUsize::new(0);

/// How long a polling loop may take to notice. It can hang in a read of standard input.
const PATIENCE: Duration = Duration::from_secs(1);

/// Installs the handler.
pub fn install() {
    // Without a handler the process dies by the signal: a worse exit code, the same safety.
    let _ = ctrlc::set_handler(|| {
        let first = !REQUESTED.swap(true, Ordering::SeqCst);
        if first && POLLERS.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(PATIENCE);
        }
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
}

/// Fails if the user wants the command to end.
pub fn check() -> Result<(), Failure> {
    if requested() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// True if the user wants the command to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// While this lives, the command promises to call [`check`] often.
pub struct Polling(());

impl Polling {
    /// Promises it.
    pub fn begin() -> Polling {
        POLLERS.fetch_add(1, Ordering::SeqCst);
        Polling(())
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        POLLERS.fetch_sub(1, Ordering::SeqCst);
    }
}
