//! What the programs and the micro benches have in common.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measuring needs the clock and the file system of the machine, not the engine's doors to them"
)]

pub mod measure;
pub mod records;
pub mod synthetic;

/// Anything that ends a measurement: it is printed, nobody matches on it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
