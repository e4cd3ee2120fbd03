//! T5: Damaged bytes, sectors, blocks and memory.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
