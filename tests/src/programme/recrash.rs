//! T2: Crashes inside recovery, three deep.

use super::Kind;

/// The kinds of this module.
pub const KINDS: &[Kind] = &[];
