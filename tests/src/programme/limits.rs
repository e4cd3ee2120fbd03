//! T17: Real limits: full disks, descriptors, file sizes.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];

/// The child of a scenario.
pub fn child(_args: &[&str]) -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
