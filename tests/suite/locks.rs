//! No read holds a lock while it waits for the disk.

use lignite::{CfOptions, Options, Reader};
use lignite_tests::disk::Disk;
use lignite_tests::sim::Setup;

#[test]
fn reads_reach_the_disk_without_locks() {
    for threads in [0, 1] {
        let disk = Disk::new();
        let faults = disk.faults();
        let options = Options::new()
            .background_threads(0)
            .decode_threads(threads)
            .memory_budget(1 << 20)
            .open_tables_max(16)
            .memtable_size(64 << 10);
        let setup = Setup { options, ..Setup::new(faults.fs(), 3) };
        let db = setup.open().unwrap();
        let family = db.open_column_family("f", CfOptions::new().block_size(1024).table_size(8 << 10)).unwrap();
        for n in 0..4000 {
            family.put(format!("key{n:05}"), format!("value {n}").repeat(30)).unwrap();
        }
        db.flush().unwrap();
        drop(family);
        db.close().unwrap();
        // A cold cache, and more tables than may be open at once.
        let db = setup.open().unwrap();
        let family = db.column_family("f").unwrap();
        let before = faults.control.counts();
        faults.control.forbid_locks(true);
        for n in (0..4000).step_by(37) {
            assert!(family.get(format!("key{n:05}")).unwrap().is_some());
            assert!(family.get(format!("key{n:05}x")).unwrap().is_none());
        }
        let keys: Vec<String> = (0..4000).step_by(53).map(|n| format!("key{n:05}")).collect();
        assert_eq!(family.multi_get(&keys).unwrap().iter().flatten().count(), keys.len());
        assert_eq!(family.iter().map(Result::unwrap).count(), 4000);
        assert_eq!(family.iter().rev().map(Result::unwrap).count(), 4000);
        let snapshot = db.snapshot();
        assert_eq!(snapshot.prefix(&family, "key01").map(Result::unwrap).count(), 1000);
        let mut cursor = family.cursor().unwrap();
        for n in (0..4000).step_by(391) {
            cursor.seek(format!("key{n:05}")).unwrap();
            cursor.prev().unwrap();
        }
        faults.control.forbid_locks(false);
        let after = faults.control.counts();
        assert_eq!(after.lock_violations, 0);
        assert!(after.reads > before.reads + 100, "the reads did not reach the disk");
    }
}
