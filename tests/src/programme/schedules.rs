//! T9: Schedules of the concurrent parts.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
