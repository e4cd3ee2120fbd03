//! T17: Real limits: full disks, descriptors, file sizes.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
