//! Directories that somebody made up, with every checksum right; and memory that runs out.

use std::path::Path;
use std::sync::Arc;

use lignite::internals::check::{self, CheckOptions};
use lignite::internals::clock::{Clock, ManualClock};
use lignite::internals::fs::Fs;
use lignite::internals::fs::mem::MemFs;
use lignite::internals::key::FamilyId;
use lignite::internals::repair;
use lignite::internals::version::current::Current;
use lignite::internals::version::edit::VersionEdit;
use lignite::internals::version::manifest::{self, ManifestWriter};
use lignite::{CfOptions, ErrorKind};
use lignite_tests::programme::run_in_suite;
use lignite_tests::sim::{Setup, content, files, put_files};

/// Whatever the files say, nothing panics, hangs or takes memory without bound, and errors name a file:
/// G13, G22, G30.
#[test]
fn made_up_directories_do_no_harm() {
    let tally = run_in_suite("hostile");
    assert!(tally.get("hostile_opened") > 50 && tally.get("hostile_repaired") > 50);
}

/// A buffer that cannot be had is an error, no damage, and no harm to later calls: G8, G13.
#[test]
fn memory_that_runs_out_is_an_error() {
    assert!(run_in_suite("exhaustion").get("allocation_failures") > 50);
}

/// The story: two families name one table, with every checksum right. A compaction of one would remove it
/// under the other, so an open refuses; a check says so, and a repair gives every record once. G22, G30.
#[test]
fn a_table_that_two_families_name_is_damage() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let setup = Setup::new(fs.clone(), 3);
    let db = setup.open().unwrap();
    db.create_column_family("other", CfOptions::new()).unwrap();
    db.put("key", "value").unwrap();
    db.flush().unwrap();
    db.close().unwrap();

    let mut made = files(&*fs, &setup.dir);
    let current = Current::decode(&made["CURRENT"]).unwrap();
    let mut edits = manifest::read_manifest(&*fs, &setup.dir, current.manifest, None).unwrap().edits;
    let (_, level, table) = edits.iter().flat_map(|e| &e.added).last().unwrap().clone();
    edits.push(VersionEdit { added: vec![(FamilyId(1), level, table)], ..VersionEdit::default() });
    let scratch = MemFs::new();
    scratch.create_dir_all(&setup.dir).unwrap();
    let mut writer = ManifestWriter::create(&scratch, &setup.dir, current.manifest, current.db_id, &edits[0]).unwrap();
    edits[1..].iter().for_each(|edit| writer.append(edit).unwrap());
    for (name, bytes) in files(&scratch, &setup.dir) {
        made.insert(name, bytes);
    }
    made.insert("CURRENT".to_string(), Current { seal: None, ..current }.encode());

    let forged: Arc<dyn Fs> = Arc::new(MemFs::new());
    put_files(&*forged, &setup.dir, &made);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let error = setup.on(forged.clone()).open().unwrap_err();
    assert!(error.kind() == ErrorKind::Corruption && error.message().contains("twice"), "{error:?}");
    let deep = CheckOptions::new().deep(true);
    let report = check::check_directory(&forged, &clock, &setup.dir, &deep, &mut |_| {}).unwrap();
    assert!(report.problems.iter().any(|p| p.message.contains("twice")), "{report:?}");
    repair::repair(&forged, &clock, &setup.dir, Path::new("/mended"), &mut |_| true).unwrap();
    let mended = Setup { dir: "/mended".into(), ..setup.on(forged) };
    let found = content(&mended.open().unwrap()).unwrap();
    assert_eq!(found.values().map(|records| records.len()).sum::<usize>(), 1, "{found:?}");
}
