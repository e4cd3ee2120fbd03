//! T14: Allocations that fail.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
