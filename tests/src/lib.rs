//! The harness behind Lignite's test suite: an oracle, operation histories, a simulated machine to
//! run them on, and the structural truths that every test may ask for.
//!
//! The suite itself is one binary, `tests/suite`. Everything random here is a function of a seed,
//! and whatever fails prints the seed that makes it fail again.
#![allow(clippy::disallowed_methods, reason = "the ban list is the engine's; tests use the real system too")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a harness fails by panicking")]

pub mod alloc;
pub mod checks;
pub mod child;
pub mod codecs;
pub mod disk;
pub mod fuzz;
pub mod guarantees;
pub mod limited;
pub mod model;
pub mod ops;
pub mod oracle;
pub mod programme;
pub mod recompress;
pub mod reduce;
pub mod rng;
pub mod sample;
pub mod sim;
pub mod slow;
pub mod source;
pub mod stage;
pub mod watchdog;
pub mod workload;

// The unit tests of the command line's module that `fuzz` borrows look for it here.
#[cfg(test)]
#[path = "../../cli/src/seeded.rs"]
#[allow(dead_code, reason = "the command line's own module; not all of it is asked for here")]
mod seeded;
