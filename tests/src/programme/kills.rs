//! T15: A real process that is killed.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
