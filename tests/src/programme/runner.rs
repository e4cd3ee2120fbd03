//! Runs units on several threads: CI's fixed lists, and long runs against the clock.
//!
//! Each thread takes the next unit of the kind that is furthest behind. Units of one kind are begun in
//! their order, and a run ends only when every unit that was begun has ended: so what a run has done
//! of a kind is always a range of units.

use std::cell::RefCell;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Kind, Tally, run_unit};

/// What shall be run of one kind.
#[derive(Clone)]
pub struct Task {
    /// The kind.
    pub kind: Kind,
    /// The first unit.
    pub first: u64,
    /// How many units at the most.
    pub units: u64,
    /// How far the kind was before this run, as a share of what it is to reach; what is furthest
    /// behind goes first.
    pub done_before: f64,
    /// By how much one unit moves that share.
    pub share_of_unit: f64,
}

/// What was run of one kind.
#[derive(Clone)]
pub struct Done {
    /// The kind.
    pub kind: Kind,
    /// The first unit.
    pub first: u64,
    /// The unit behind the last.
    pub next: u64,
    /// What the units counted.
    pub tally: Tally,
    /// Seconds of all its units together.
    pub seconds: f64,
    /// The words of units that failed.
    pub failures: Vec<String>,
}

struct State {
    tasks: Vec<(Task, Done, usize)>,
    stop: bool,
}

thread_local! {
    static IN_UNIT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics of units off the terminal, since they are caught and told in their place.
pub fn quiet_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let caught = IN_UNIT.with(|unit| unit.try_borrow().is_ok_and(|unit| unit.is_some()));
        if !caught {
            before(info);
        }
    }));
}

/// Runs tasks on `threads` threads until they are done, a failure if `stop_at_failure`, or `deadline`.
pub fn run(tasks: Vec<Task>, threads: usize, deadline: Option<Instant>, stop_at_failure: bool) -> Vec<Done> {
    let tasks = tasks.into_iter().map(|task| {
        let (kind, first) = (task.kind, task.first);
        (task, Done { kind, first, next: first, tally: Tally::default(), seconds: 0.0, failures: Vec::new() }, 0)
    });
    let state = Mutex::new(State { tasks: tasks.collect(), stop: false });
    std::thread::scope(|scope| {
        for n in 0..threads.max(1) {
            let state = &state;
            let body = move || {
                work(state, deadline, stop_at_failure);
            };
            // Deep recursions of a debug build and big frames of generated code want more than 2 MiB.
            let builder = std::thread::Builder::new().name(format!("units-{n}")).stack_size(16 << 20);
            builder.spawn_scoped(scope, body).expect("a thread can be started");
        }
    });
    let state = state.into_inner().unwrap_or_else(|e| e.into_inner());
    state.tasks.into_iter().map(|(_, done, _)| done).collect()
}

fn work(state: &Mutex<State>, deadline: Option<Instant>, stop_at_failure: bool) {
    loop {
        let (at, kind, unit) = {
            let mut state = lock(state);
            if state.stop || deadline.is_some_and(|d| Instant::now() >= d) {
                return;
            }
            let share =
                |task: &Task, done: &Done| task.done_before + (done.next - done.first) as f64 * task.share_of_unit;
            let left = |(task, done, _): &(Task, Done, usize)| done.next - done.first < task.units;
            if !state.tasks.iter().any(left) {
                return;
            }
            let free = state.tasks.iter().enumerate().filter(|(_, t)| left(t) && t.2 < t.0.kind.at_once);
            let next = free.min_by(|(_, a), (_, b)| share(&a.0, &a.1).total_cmp(&share(&b.0, &b.1))).map(|(at, _)| at);
            let Some(at) = next else {
                drop(state);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let (task, done, running) = &mut state.tasks[at];
            let unit = done.next;
            done.next += 1;
            *running += 1;
            (at, task.kind, unit)
        };
        IN_UNIT.with(|current| *current.borrow_mut() = Some(format!("{} {unit}", kind.name)));
        let mut tally = Tally::default();
        let begun = Instant::now();
        let outcome = run_unit(&kind, unit, &mut tally);
        let took = begun.elapsed();
        IN_UNIT.with(|current| *current.borrow_mut() = None);
        let mut state = lock(state);
        let (_, done, running) = &mut state.tasks[at];
        *running -= 1;
        done.tally.merge(&tally);
        done.seconds += took.as_secs_f64();
        if let Err(words) = outcome {
            eprintln!("FAILED {words}");
            done.failures.push(words);
            state.stop |= stop_at_failure;
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|e| e.into_inner())
}

/// The CI list of a kind as a task.
pub fn ci_task(kind: Kind) -> Task {
    let units = kind.ci_units;
    Task { kind, first: 0, units, done_before: 0.0, share_of_unit: 1.0 / units.max(1) as f64 }
}

/// A table of what was done, for a person.
pub fn table(done: &[Done]) -> String {
    let mut out = format!("{:<5} {:<13} {:>8} {:>9}  counted\n", "id", "kind", "units", "seconds");
    for d in done {
        let counted: Vec<String> = d.tally.0.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let failed = if d.failures.is_empty() { String::new() } else { format!("  {} FAILED", d.failures.len()) };
        out.push_str(&format!(
            "{:<5} {:<13} {:>8} {:>9.1}  {}{failed}\n",
            d.kind.id,
            d.kind.name,
            d.next - d.first,
            d.seconds,
            counted.join(", ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Kind = Kind {
        name: "sound",
        id: "T0",
        about: "",
        ci_units: 10,
        suite_units: 1,
        at_once: 1,
        ci_targets: &[],
        long_targets: &[],
        run: |unit, tally| tally.add("sum", unit),
    };

    #[test]
    fn units_are_a_range_and_a_failure_says_how_to_run_it_again() {
        quiet_panics();
        let failing = Kind { name: "failing", at_once: 2, run: |unit, _| assert!(unit != 3, "three"), ..SOUND };
        let done = run(vec![ci_task(SOUND), ci_task(failing)], 2, None, false);
        assert_eq!((done[0].next, done[0].tally.get("sum"), done[0].failures.len()), (10, 45, 0));
        assert_eq!(done[1].failures, ["failing unit 3 (cargo xtask unit failing 3): three"]);
        let first = run(vec![ci_task(failing)], 1, None, true);
        assert_eq!(first[0].next, 4, "it stops at the failure");
    }
}
