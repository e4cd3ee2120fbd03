//! The inside, for the command line, the tests and the benches of this workspace. No promise holds
//! for anything here.

macro_rules! door {
    ($($module:ident),* $(,)?) => {
        $(
            /// The inner module of this name.
            pub mod $module {
                pub use crate::$module::*;
            }
        )*
    };
}

door! {
    batch, cache, check, checksum, clock, coding, compaction, error, event, field, filename, flush, frame, fs, header, iter,
    key, memtable, metrics, options, pool, read, record, recovery, repair, sabotage, slice, store, sync, table, tables,
    tombstone, tune,
    version, wal, worker, write,
}

/// Removes a database on any file system; see [`Db::destroy`](crate::Db::destroy).
pub fn destroy(fs: &dyn crate::fs::Fs, dir: &std::path::Path) -> crate::Result<()> {
    crate::db::destroy(fs, dir)
}
