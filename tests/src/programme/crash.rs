//! T1: Crashes at every call of the file system.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
