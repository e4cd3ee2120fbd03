//! What the program and the micro benches have in common.

pub mod synthetic;
