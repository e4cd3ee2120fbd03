//! Who may have a database open, and which files it touches: on real files, with other processes.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lignite::internals::filename::FileName;
use lignite::{CfOptions, Db, ErrorKind, Options};

/// A directory with a closed database of some records.
fn closed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("db");
    let db = options().open(&dir).unwrap();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    db.put("b", "2").unwrap();
    db.close().unwrap();
    (folder, dir)
}

fn options() -> Options {
    Options::new().reserve_size(1 << 20).background_threads(1)
}

fn names(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn assert_locked(dir: &Path, pid: Option<u32>) {
    let begun = Instant::now();
    let error = Db::open(dir).expect_err("a second open must fail");
    assert!(begun.elapsed() < Duration::from_millis(100), "it took {:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Locked, "{error:?}");
    let by = pid.map_or("this process".to_string(), |pid| format!("process {pid}"));
    assert!(error.message().contains(&by), "{error:?}");
}

/// What [`Holder`] runs: opens the database, says so, and waits to be killed.
#[test]
#[ignore = "a child process of the tests of this file"]
fn holds_a_database() {
    let Some(dir) = std::env::var_os("LIGNITE_TEST_HOLD") else { return };
    match options().open(dir) {
        Ok(_db) => {
            println!("\nhas it");
            std::thread::sleep(Duration::from_secs(60));
        }
        Err(e) => println!("\n{:?}", e.kind()),
    }
}

struct Holder(Child);

impl Holder {
    /// Another process that opens the database, and how that went.
    fn start(dir: &Path) -> (Holder, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ownership::holds_a_database", "--ignored", "--nocapture"])
            .env("LIGNITE_TEST_HOLD", dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let known = ["has it", "Locked", "Corruption", "Io"];
        let said = lines.into_iter().find(|l| known.contains(&l.as_str())).unwrap_or_default();
        (Holder(child), said)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One owner: within this process, through whatever path, and among processes. G27.
#[test]
fn a_second_owner_is_refused() {
    let (folder, dir) = closed();
    let db = options().open(&dir).unwrap();
    let link = folder.path().join("link");
    symlink(&dir, &link).unwrap();
    let roundabout = dir.join("../db/./../db");
    for path in [&dir, &link, &roundabout] {
        assert_locked(path, None);
    }
    // The refused opens have closed descriptors of the lock file: that gives nothing back.
    let (_child, said) = Holder::start(&dir);
    assert_eq!(said, "Locked");
    // A clone keeps it, and so does a reader; a read-only open needs no lock.
    let other = db.clone();
    drop(db);
    assert_locked(&dir, None);
    let mut iter = other.iter();
    assert!(iter.next().unwrap().is_ok());
    assert_eq!(other.close().unwrap_err().kind(), ErrorKind::Busy);
    assert_locked(&link, None);
    assert_eq!(Db::open_read_only(&dir).unwrap().iter().count(), 2);
    drop(iter);
    let lock = std::fs::metadata(dir.join("LOCK")).unwrap();
    let (child, said) = Holder::start(&dir);
    assert_eq!(said, "has it");
    let pid = child.0.id();
    for path in [&dir, &link, &roundabout] {
        assert_locked(path, Some(pid));
    }
    drop(child);
    let db = options().open(&link).unwrap();
    assert_eq!(db.iter().count(), 2);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(dir.join("LOCK")).unwrap().ino(), lock.ino(), "LOCK was replaced");
}

/// Nobody but the owner may look: modes are 0700 and 0600. G28.
#[test]
fn files_are_private() {
    let (_folder, dir) = closed();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for name in names(&dir) {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
    let copy = dir.with_file_name("deep/er/copy");
    let db = options().open(&dir).unwrap();
    db.checkpoint(&copy).unwrap();
    assert_eq!((mode(&copy), mode(copy.parent().unwrap())), (0o700, 0o700));
    for name in names(&copy) {
        assert_eq!(mode(&copy.join(&name)), 0o600, "{name}");
    }
}

/// A link in the place of any file is refused, and what it leads to is not touched. G22, G28.
#[test]
fn no_link_is_followed() {
    let (folder, dir) = closed();
    let mut all = names(&dir);
    assert!(all.contains("RESERVE") && all.contains("LOCK"));
    all.insert("000099.wal".to_string());
    for name in all {
        let path = dir.join(&name);
        let aside = folder.path().join("aside");
        if path.exists() {
            std::fs::rename(&path, &aside).unwrap();
        } else {
            std::fs::write(&aside, "somebody's letters").unwrap();
        }
        let content = std::fs::read(&aside).unwrap();
        symlink(&aside, &path).unwrap();
        let before = names(&dir);
        let error = options().open(&dir).err().unwrap_or_else(|| panic!("{name} was followed"));
        assert!(error.message().contains("symbolic link"), "{name}: {error:?}");
        assert!(error.file().unwrap().ends_with(&name), "{name}: {error:?}");
        assert_eq!(names(&dir), before, "{name}");
        assert!(path.is_symlink(), "{name}");
        assert_eq!(std::fs::read(&aside).unwrap(), content, "{name}");
        std::fs::remove_file(&path).unwrap();
        if name == "000099.wal" {
            std::fs::remove_file(&aside).unwrap();
        } else {
            std::fs::rename(&aside, &path).unwrap();
        }
    }
    assert_eq!(options().open(&dir).unwrap().iter().count(), 2);
}

/// Names of families are no paths, and files that are not ours are nobody's business. G28.
#[test]
fn nothing_but_our_own_files_is_touched() {
    let (folder, dir) = closed();
    let foreign = ["notes.txt", "12.sst", "000012.sst.tmp", "CURRENT.bak", "manifest-000001", "00000a.wal"];
    for name in foreign {
        std::fs::write(dir.join(name), name).unwrap();
    }
    std::fs::create_dir(dir.join("folder")).unwrap();
    let outside = names(folder.path());
    let db = options().open(&dir).unwrap();
    let hostile = ["../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "LOCK", "\0", "000001.sst"];
    for name in hostile {
        let family = db.create_column_family(name, CfOptions::new()).unwrap();
        family.put(name, name).unwrap();
        family.flush().unwrap();
    }
    db.rename_column_family("a/b", "../c").unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    let db = options().open(&dir).unwrap();
    for name in hostile {
        let family = db.column_family(if name == "a/b" { "../c" } else { name }).unwrap();
        assert_eq!(family.get(name).unwrap().unwrap(), name.as_bytes());
    }
    db.close().unwrap();
    assert_eq!(names(folder.path()), outside);
    let is_foreign = |n: &String| foreign.contains(&n.as_str()) || n == "folder";
    for name in names(&dir) {
        assert!(is_foreign(&name) || FileName::parse(&name).is_some(), "{name}");
    }
    Db::destroy(&dir).unwrap();
    assert_eq!(names(&dir), names(&dir).into_iter().filter(is_foreign).collect());
    assert_eq!(names(&dir).len(), foreign.len() + 1);
    for name in foreign {
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), name.as_bytes());
    }
}
