//! The structural truths of a database at rest, in one place for every test.

use std::collections::BTreeSet;
use std::ops::Bound;

use lignite::Db;
use lignite::internals::filename::FileName;
use lignite::internals::fs::Fs;

/// Checks everything that is true of a database whenever no job runs and no iterator or snapshot of
/// an old state is left:
///
/// - tables of levels below 0 are disjoint and in order;
/// - every table that the manifest names is there, at its size;
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
    }
    let report = db.check(true, &mut |_| {}).map_err(|e| format!("check failed: {e:?}"))?;
    if !report.problems.is_empty() {
        return Err(format!("check found: {:?}", report.problems));
    }
    Ok(())
}

/// Checks that no file of ours is there that nobody needs: one manifest, no temporary file, only
/// live tables. For a database at rest without iterators or snapshots.
pub fn no_orphans(db: &Db, fs: &dyn Fs) -> Result<(), String> {
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
