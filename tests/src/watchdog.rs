//! No hang (G14), in real time: every call that a test makes into the engine must end.
//!
//! A call that runs under [`guard`] and is not back after [`LIMIT`] ends the process, with the name
//! of the call on standard error and, in a child, on standard output, where its parent listens. A
//! thread that hangs cannot be ended by itself, and a test that waits for ever says nothing.
//!
//! Virtual time has its own watch, in the simulation.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// How long a call may take. The engine's own bound for a stalled write is the option
/// `stall_timeout`, which tests under the watch set well below.
pub const LIMIT: Duration = Duration::from_secs(30);

static CALLS: Mutex<Calls> = Mutex::new(Calls { next: 0, running: BTreeMap::new() });
static START: Once = Once::new();

struct Calls {
    next: u64,
    running: BTreeMap<u64, (Instant, &'static str)>,
}

/// Runs `body`, which is called `what`; ends the process if that takes longer than [`LIMIT`].
pub fn guard<R>(what: &'static str, body: impl FnOnce() -> R) -> R {
    START.call_once(|| drop(std::thread::Builder::new().name("watchdog".into()).spawn(watch).unwrap()));
    let id = {
        let mut calls = CALLS.lock().unwrap();
        calls.next += 1;
        let id = calls.next;
        calls.running.insert(id, (Instant::now(), what));
        id
    };
    // A panic in `body` ends the call too.
    struct Ended(u64);
    impl Drop for Ended {
        fn drop(&mut self) {
            if let Ok(mut calls) = CALLS.lock() {
                calls.running.remove(&self.0);
            }
        }
    }
    let _ended = Ended(id);
    body()
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if let Some(words) = overdue(LIMIT) {
            let words = format!("hang: {words}");
            eprintln!("{words}");
            // As a child says it to its parent; see `child`.
            println!("w {words}");
            let _ = std::io::stdout().flush();
            std::process::abort();
        }
    }
}

/// What has been running for longer than `limit`, and what else is running: calls that hang, hang
/// on one another.
fn overdue(limit: Duration) -> Option<String> {
    let calls = CALLS.lock().unwrap();
    let mut all: Vec<_> = calls.running.values().map(|(begun, what)| (begun.elapsed(), *what)).collect();
    all.sort_by(|a, b| b.cmp(a));
    let (longest, what) = all.first().filter(|(time, _)| *time > limit)?;
    let others: Vec<_> = all[1..].iter().map(|(t, w)| format!("{w} ({:.1} s)", t.as_secs_f64())).collect();
    Some(format!("{what} has been running for {:.0} s; beside it: [{}]", longest.as_secs_f64(), others.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_overdue_while_it_runs_and_not_afterwards() {
        let words = guard("a slow call of this test", || {
            std::thread::sleep(Duration::from_millis(5));
            overdue(Duration::from_millis(1))
        });
        assert!(words.unwrap().contains("a slow call of this test"));
        assert!(!overdue(Duration::ZERO).is_some_and(|w| w.contains("a slow call of this test")));
    }
}
