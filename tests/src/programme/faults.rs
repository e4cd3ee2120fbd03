//! T3: A fault at every call, then going on, reopening, or a crash; failed syncs (T4).

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
