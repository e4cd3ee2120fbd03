//! The test programme of RELIABILITY 4: every kind of bulk test as an endless list of numbered units.
//!
//! A *kind* is one of T1 to T22; a *unit* is a piece of its work, some tenths of a second to a few
//! seconds long, and a function of its number alone: `cargo xtask unit crash 17` does again what unit
//! 17 of `crash` did in CI, at night, or while a deliberate bug was being hunted. CI runs the first so
//! many units of each kind, a night goes on where the last one stopped, and the suite runs a few.
//!
//! A unit fails by panicking; its words say the seed and the story. What it did it adds to a [`Tally`].

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub mod crash;
pub mod cuts;
pub mod damage;
pub mod exhaustion;
pub mod faults;
pub mod flips;
pub mod fuzz;
pub mod hostile;
pub mod journal;
pub mod kills;
pub mod limits;
pub mod metamorphic;
pub mod power;
pub mod recrash;
pub mod runner;
pub mod sabotage;
pub mod schedules;
pub mod simulation;

/// One kind of bulk test.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name on the command line and in the counters, such as `crash`.
    pub name: &'static str,
    /// Its number in RELIABILITY 4.2, such as `T1`.
    pub id: &'static str,
    /// One line about what a unit does.
    pub about: &'static str,
    /// How many units CI runs, from unit 0 on.
    pub ci_units: u64,
    /// How many units `cargo test` runs, in a build that is several times slower.
    pub suite_units: u64,
    /// How many of its units may run at once: 1 for those that time something or use the machine as
    /// a whole, `usize::MAX` for those that stay in memory.
    pub at_once: usize,
    /// What the CI units must have counted at least: counter and number.
    pub ci_targets: &'static [(&'static str, u64)],
    /// What all long runs together shall count: counter and number.
    pub long_targets: &'static [(&'static str, u64)],
    /// Runs a unit. Panics if something is wrong.
    pub run: fn(unit: u64, tally: &mut Tally),
}

/// What units have done: counter by counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub BTreeMap<String, u64>);

impl Tally {
    /// Adds to a counter.
    pub fn add(&mut self, counter: &str, n: u64) {
        match self.0.get_mut(counter) {
            Some(sum) => *sum += n,
            None => drop(self.0.insert(counter.to_string(), n)),
        }
    }

    /// The value of a counter; 0 if nothing was added to it.
    pub fn get(&self, counter: &str) -> u64 {
        self.0.get(counter).copied().unwrap_or(0)
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Tally) {
        for (counter, n) in &other.0 {
            self.add(counter, *n);
        }
    }
}

/// Every kind, in the order of the programme.
pub fn kinds() -> Vec<Kind> {
    [
        crash::KINDS,
        recrash::KINDS,
        faults::KINDS,
        damage::KINDS,
        cuts::KINDS,
        metamorphic::KINDS,
        simulation::KINDS,
        schedules::KINDS,
        fuzz::KINDS,
        hostile::KINDS,
        exhaustion::KINDS,
        kills::KINDS,
        power::KINDS,
        limits::KINDS,
    ]
    .concat()
}

/// The kind of this name.
pub fn kind(name: &str) -> Option<Kind> {
    kinds().into_iter().find(|k| k.name == name)
}

/// Runs one unit; the words of its panic if it fails.
pub fn run_unit(kind: &Kind, unit: u64, tally: &mut Tally) -> Result<(), String> {
    let attempt = catch_unwind(AssertUnwindSafe(|| (kind.run)(unit, tally)));
    attempt.map_err(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "a panic without words".to_string());
        format!("{} unit {unit} (cargo xtask unit {} {unit}): {words}", kind.name, kind.name)
    })
}

/// Runs the few units of a kind that `cargo test` has time for, times `LIGNITE_TEST_SCALE`.
pub fn run_in_suite(name: &str) -> Tally {
    let kind = kind(name).unwrap_or_else(|| panic!("there is no kind {name}"));
    let mut tally = Tally::default();
    for unit in 0..crate::rng::scaled(kind.suite_units) {
        run_unit(&kind, unit, &mut tally).unwrap_or_else(|words| panic!("{words}"));
    }
    println!("{name}: {:?}", tally.0);
    tally
}
