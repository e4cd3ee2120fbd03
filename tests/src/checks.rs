//! The structural truths of a database at rest, in one place for every test.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use lignite::internals::cache::BlockCache;
use lignite::internals::clock::ManualClock;
use lignite::internals::filename::FileName;
use lignite::internals::fs::Fs;
use lignite::internals::metrics::{FamilyMetrics, Metrics};
use lignite::internals::table::reader::{Table, TableContext};
use lignite::{ColumnFamily, Db, TableInfo};

/// Checks everything that is true of a database whenever no job runs and no iterator or snapshot of
/// an old state is left:
///
/// - tables of levels below 0 are disjoint and in order;
/// - every table that the manifest names is there, at its size;
/// - tables of level 0 are searched from the newest to the oldest;
/// - of each key, what lies in a table that is searched earlier is newer than what lies in a later one;
/// - `Db::check` finds nothing, down to every record.
///
/// Files that nobody names are found by [`no_orphans`], since an iterator may hold some.
pub fn database(db: &Db, fs: &dyn Fs) -> Result<(), String> {
    db.wait_for_idle().map_err(|e| e.to_string())?;
    for name in db.column_family_names() {
        let family = db.column_family(&name).map_err(|e| e.to_string())?;
        let mut tables = family.tables();
        tables.sort_by(|a, b| (a.level, &a.smallest).cmp(&(b.level, &b.smallest)));
        for table in &tables {
            let metadata = fs.metadata(&table.path).map_err(|e| format!("table {} is missing: {e}", table.number))?;
            if metadata.len != table.size {
                return Err(format!("table {} has {} bytes, expected {}", table.number, metadata.len, table.size));
            }
            if table.seq_min > table.seq_max {
                return Err(format!("table {} has sequence numbers upside down", table.number));
            }
        }
        for pair in tables.windows(2).filter(|p| p[0].level == p[1].level && p[0].level > 0) {
            let apart = match &pair[0].largest {
                Bound::Included(largest) => *largest < pair[1].smallest,
                Bound::Excluded(largest) => *largest <= pair[1].smallest,
                Bound::Unbounded => false,
            };
            if !apart {
                return Err(format!(
                    "family {name}: tables {} and {} of level {} overlap",
                    pair[0].number, pair[1].number, pair[0].level
                ));
            }
        }
        order_of_versions(&family, fs).map_err(|what| format!("family {name}: {what}"))?;
    }
    let report = db.check(true, &mut |_| {}).map_err(|e| format!("check failed: {e:?}"))?;
    if !report.problems.is_empty() {
        return Err(format!("check found: {:?}", report.problems));
    }
    Ok(())
}

/// Checks that a reader that goes from table to table meets the versions of each key from the newest
/// to the oldest.
fn order_of_versions(family: &ColumnFamily, fs: &dyn Fs) -> Result<(), String> {
    let tables = family.tables();
    let level0: Vec<&TableInfo> = tables.iter().filter(|t| t.level == 0).collect();
    // The tables of one ingest share their number and no key.
    if let Some(pair) = level0.windows(2).find(|p| p[0].seq_min < p[1].seq_max) {
        return Err(format!("in level 0, table {} is not newer than table {}", pair[0].number, pair[1].number));
    }
    let context = TableContext {
        cache: Arc::new(BlockCache::new(1 << 20)),
        metrics: Arc::new(Metrics::default()),
        family: Arc::new(FamilyMetrics::default()),
        level: 0,
        clock: Arc::new(ManualClock::new()),
        pool: None,
    };
    // By key: the oldest version met so far, and the table it lies in.
    let mut oldest: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for info in &tables {
        let (table, _) = Table::open_file(fs, &info.path, &context).map_err(|e| format!("{e:?}"))?;
        let mut here: Vec<(Vec<u8>, u64)> = Vec::new();
        for number in 0..table.index().len() {
            let block = table.read_block(number).map_err(|e| format!("{e:?}"))?;
            for i in 0..block.len() {
                // The entries of an ingested table have the number that its description says.
                let seq = if info.seq_min == info.seq_max { info.seq_max } else { block.tag(i).seq() };
                let key = block.key(i);
                if let Some((above, number)) = oldest.get(key)
                    && *above <= seq
                {
                    return Err(format!(
                        "{} has version {seq} in table {} but {above} in table {number}, which is searched first",
                        key.escape_ascii(),
                        info.number
                    ));
                }
                match here.last_mut() {
                    Some((last, oldest)) if last.as_slice() == key => *oldest = seq,
                    _ => here.push((key.to_vec(), seq)),
                }
            }
        }
        oldest.extend(here.into_iter().map(|(key, seq)| (key, (seq, info.number))));
    }
    Ok(())
}

/// Checks that no file of ours is there that nobody needs: one manifest, no temporary file, only
/// live tables. For a database at rest without iterators or snapshots.
///
/// A background thread that looks for work holds the version it looks at for a moment longer than the
/// last job takes, and so its tables; what nobody names must be gone within five seconds.
pub fn no_orphans(db: &Db, fs: &dyn Fs) -> Result<(), String> {
    let begun = std::time::Instant::now();
    loop {
        let found = find_orphans(db, fs);
        if found.is_ok() || begun.elapsed() > std::time::Duration::from_secs(5) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn find_orphans(db: &Db, fs: &dyn Fs) -> Result<(), String> {
    db.wait_for_idle().map_err(|e| e.to_string())?;
    let mut live = BTreeSet::new();
    for name in db.column_family_names() {
        let family = db.column_family(&name).map_err(|e| e.to_string())?;
        live.extend(family.tables().iter().map(|t| t.number));
    }
    let names = fs.list(db.path()).map_err(|e| e.to_string())?;
    let mut manifests = 0;
    for name in names {
        match FileName::parse(&name) {
            Some(FileName::Table(n)) if !live.contains(&n) => return Err(format!("nobody names {name}")),
            Some(FileName::CurrentTemp) => return Err(format!("{name} was left behind")),
            Some(FileName::Manifest(_)) => manifests += 1,
            _ => {}
        }
    }
    if manifests != 1 {
        return Err(format!("there are {manifests} manifests"));
    }
    let logs = db.stats().log.segments;
    let found = fs
        .list(db.path())
        .map_err(|e| e.to_string())?
        .iter()
        .filter(|n| matches!(FileName::parse(n), Some(FileName::Wal(_))))
        .count();
    if found != logs {
        return Err(format!("there are {found} log segments, but {logs} are live"));
    }
    Ok(())
}
