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
    batch, cache, checksum, clock, coding, compaction, error, event, field, filename, flush, frame, fs, header, iter,
    key, memtable, metrics, options, pool, read, record, recovery, sabotage, slice, store, sync, table, tables, tombstone,
    version, wal, worker, write,
}
