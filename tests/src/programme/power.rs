//! T16: Power cuts on a real file system.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
