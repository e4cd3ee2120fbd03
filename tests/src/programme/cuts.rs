//! T6: Files cut, extended, removed, exchanged and added.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
