//! Reading one family: a [`View`] is everything a reader needs, immutable and shared: the memtables
//! and the version of one moment. Point reads are in [`view`], scans in [`cursor`] over [`source`]s, and where
//! nothing is in the way, in a [`run`].

pub mod cursor;
mod run;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod view;

pub use cursor::ReadCursor;
pub use view::{ReadOptions, View};
