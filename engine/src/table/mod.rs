//! Tables: immutable sorted files.
//!
//! ```text
//! header (48) | data blocks | range tombstones | filter | dictionaries | properties | index | footer
//! ```
//!
//! Everything between header and footer is a frame (see [`crate::frame`]), one behind the other
//! without gaps. The byte-level description is FORMAT.md, section "Tables".

pub mod ahead;
pub mod block;
pub mod builder;
pub mod column;
pub mod cursor;
pub mod encoding;
pub mod filter;
pub mod footer;
pub mod heads;
pub mod index;
pub mod line;
pub mod lookup;
pub mod multi;
pub mod properties;
pub mod reader;
#[cfg(feature = "internals")]
pub mod strike;
pub mod verify;
pub mod veto;
pub mod wreck;

pub use builder::{TableBuilder, TableWriteOptions};
pub use cursor::{CursorOptions, TableCursor};
pub use filter::TableFilter;
pub use index::BlockInfo;
pub use reader::{Table, TableContext};
pub use verify::{Problem, TableReport};

#[cfg(test)]
mod tests;
