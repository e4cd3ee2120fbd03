//! T13: Whole hostile directories.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
