//! T12: Decoders fed with hostile bytes.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
