//! T8: The whole engine under the baton scheduler.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
