//! T7: One history under many option sets.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
