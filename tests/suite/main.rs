//! The one test binary of the workspace. Unit tests stand near the code; here stands what needs a
//! whole database.
//!
//! `LIGNITE_TEST_SCALE` makes the bulk tests longer or shorter, `LIGNITE_TEST_SEED` gives them other
//! seeds, `LIGNITE_REWRITE=1` writes golden files anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the ban list is the engine's; tests use the real system too")]

mod alloc;
mod api;
mod behaviour;
mod cli;
mod cli_codec;
mod cli_damage;
mod compaction;
mod compression;
mod crash;
mod damage;
mod docs;
mod faults;
mod fuzz_replay;
mod golden;
mod guarantees;
mod hostile;
mod locks;
mod model;
mod ownership;
mod readme;
mod recovery;
mod repair;
mod schedules;
mod simulation;
mod sync;
mod system;
mod tidy;

#[global_allocator]
static ALLOCATOR: lignite_tests::alloc::Counting = lignite_tests::alloc::Counting;
