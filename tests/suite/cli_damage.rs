//! The command line when something is wrong: damage, other people's arguments, closed pipes, signals
//! (T22; G15, G23, G28, G30).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{Bench, binary, golden, kv, placeholders, words};

/// Every file below a directory.
fn dump(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

/// A database `db` with 2000 records in two families and a few in the log.
fn filled() -> Bench {
    let bench = Bench::with_database();
    bench.write("words.kv", &kv(words(2000)));
    bench.ok(&["import", "db", "--cf", "words", "--input", "words.kv", "-q"]);
    bench.ok(&["compact", "db"]);
    bench.ok(&["put", "db", "in the log", "of default"]);
    bench
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checksums depend on the database's random identity, numbers of files on how many jobs ran.
fn scrub(value: &mut Value, key: &str) {
    match value {
        Value::Object(object) => object.iter_mut().for_each(|(name, value)| scrub(value, name)),
        Value::Array(list) => list.iter_mut().for_each(|v| scrub(v, key)),
        Value::String(text) if ["file", "message", "warnings"].contains(&key) => {
            let is_checksum = |w: &str| (w.len() == 8 || w.len() == 32) && w.bytes().all(|b| b.is_ascii_hexdigit());
            let words: Vec<String> = text
                .split(' ')
                .map(|w| if is_checksum(w.trim_end_matches(',')) { "<hex>".to_string() } else { w.to_string() })
                .collect();
            *text = words.join(" ").chars().map(|c| if c.is_ascii_digit() { 'n' } else { c }).collect();
        }
        _ => {}
    }
}

fn golden_json(bench: &Bench, name: &str, output: &[u8]) {
    let mut document: Value = serde_json::from_slice(output).unwrap();
    placeholders(&mut document, "", bench.dir.path().to_str().unwrap());
    scrub(&mut document, "");
    golden(&format!("{name}.json"), &format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
}

/// Data commands say which keys a damaged block concerns.
#[test]
fn errors_of_data_commands_name_the_keys() {
    let bench = filled();
    flip(&bench.file_of("db", ".sst"), 5000);
    for args in [
        &["scan", "db", "--cf", "words"][..],
        &["scan", "db", "--cf", "words", "--reverse"],
        &["count", "db", "--cf", "words"],
        &["export", "db", "--cf", "words", "--format", "kv"],
    ] {
        let message = stderr(&bench.exits(3, args));
        for part in [".sst", "offset ", "column family words", "(keys \"word/0"] {
            assert!(message.contains(part), "{args:?}: {part} in {message}");
        }
    }
    // The key that the message names first lies behind a whole block; the next one cannot be read.
    let message = stderr(&bench.exits(3, &["scan", "db", "--cf", "words"]));
    let last = message.split(".. \"").nth(1).unwrap().split('"').next().unwrap();
    let message = stderr(&bench.exits(3, &["get", "db", "--cf", "words", last]));
    assert!(message.contains("(keys "), "{message}");
    bench.ok(&["get", "db", "--cf", "words", "word/00000"]);
}

/// A check goes on behind every defect, also where nothing can be opened.
#[test]
fn check_names_everything_that_is_wrong() {
    let bench = filled();
    let table = bench.file_of("db", ".sst");
    let len = std::fs::metadata(&table).unwrap().len() as usize;
    for offset in [4000, 9000, len - 20] {
        flip(&table, offset);
    }
    flip(&bench.file_of("db", ".wal"), 150);
    flip(&bench.path("db/CURRENT"), 20);
    let before = dump(&bench.path("db"));
    for args in [&["check", "db", "--json"][..], &["check", "db", "--deep", "--workers", "1", "--json"]] {
        let output = bench.exits(3, args);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = document["problems"].as_array().unwrap();
        let named = |ending: &str| problems.iter().filter(|p| p["file"].as_str().unwrap().ends_with(ending)).count();
        assert!(named("CURRENT") == 1 && named(".wal") == 1 && named(".sst") >= 3, "{problems:#?}");
        let lines = stderr(&output);
        assert_eq!(lines.lines().filter(|l| l.starts_with("corrupt: ")).count(), problems.len(), "{lines}");
        for problem in problems.iter().filter(|p| p["file"].as_str().unwrap().ends_with(".sst")) {
            assert!(problem["offset"].is_u64() && problem["cf"] == "words", "{problem}");
            assert!(problem["first"].is_string() && problem["last"].is_string(), "{problem}");
        }
    }
    golden_json(&bench, "check-damaged", &bench.exits(3, &["check", "db", "--deep", "--json"]).stdout);
    assert!(dump(&bench.path("db")) == before, "a check has written");
    let text = String::from_utf8(bench.exits(3, &["check", "db"]).stdout).unwrap();
    assert!(text.contains("damaged: ") && text.contains("lignite repair db --to NEW"), "{text}");
}

#[test]
fn repair_makes_a_sound_database_of_what_is_left() {
    let bench = filled();
    // Sound: a copy.
    golden_json(&bench, "repair-sound", &bench.ok(&["repair", "db", "--to", "copy", "--json"]));
    assert_eq!(bench.ok(&["export", "copy", "--cf", "words", "--format", "kv"]), kv(words(2000)));
    // Damaged: what is left.
    let table = bench.file_of("db", ".sst");
    flip(&table, 5000);
    flip(&bench.path("db/CURRENT"), 20);
    let before = dump(&bench.path("db"));
    let output = bench.exits(3, &["repair", "db", "--to", "new", "--json"]);
    golden_json(&bench, "repair", &output.stdout);
    let lines = stderr(&output);
    for part in ["corrupt: ", "CURRENT", "lost: ", " entries ", "cf words", "keys word/0"] {
        assert!(lines.contains(part), "{part} in {lines}");
    }
    assert!(dump(&bench.path("db")) == before, "the source has changed");
    bench.ok(&["check", "new", "--deep"]);
    assert_eq!(bench.text(&["get", "new", "in the log"]), "of default\n");
    let left: u64 = bench.text(&["count", "new", "--cf", "words"]).trim().parse().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(left + document["losses"][0]["entries"].as_u64().unwrap(), 2000);
    // Again: nothing changes, and nothing is said to be wrong.
    let text = bench.text(&["repair", "new", "--to", "again"]);
    assert!(text.starts_with("nothing is wrong; again is a copy\n"), "{text}");
    let names = |db: &str| dump(&bench.path(db)).into_iter().map(|(p, b)| (p.file_name().unwrap().to_owned(), b));
    assert!(names("new").eq(names("again")));
    // Refusals.
    bench.exits(7, &["repair", "db", "--to", "new"]);
    bench.exits(3, &["repair", "db", "--to", "new", "--yes"]);
    bench.exits(2, &["repair", "db", "--to", "db", "--yes"]);
    bench.exits(2, &["repair", "db", "--to", "db/inside"]);
    bench.exits(2, &["repair", "db"]);
    bench.exits(5, &["repair", "missing", "--to", "other"]);
    bench.write("a file", b"");
    bench.exits(2, &["repair", "db", "--to", "a file"]);
    std::fs::create_dir(bench.path("mine")).unwrap();
    std::fs::write(bench.path("mine/letter"), b"precious").unwrap();
    bench.exits(7, &["repair", "db", "--to", "mine", "--yes"]);
    assert_eq!(bench.read("mine/letter"), b"precious");
    let left: Vec<_> = std::fs::read_dir(bench.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().contains("tmp")), "{left:?}");
    assert!(!bench.path("other").exists() && !bench.path("db/inside").exists());
    assert!(dump(&bench.path("db")) == before);
}

/// Every manifest is gone: families cannot be told, and records are in families of other names.
#[test]
fn repair_without_a_manifest_keeps_every_record() {
    let bench = filled();
    for name in ["CURRENT", "MANIFEST"] {
        for path in dump(&bench.path("db")).into_keys() {
            if path.file_name().unwrap().to_str().unwrap().starts_with(name) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    bench.exits(3, &["info", "db"]);
    let output = bench.exits(3, &["repair", "db", "--to", "new", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = document["families"].as_array().unwrap().iter().map(|f| f["cf"].as_str().unwrap().to_string());
    let found = found.filter(|cf| cf.starts_with("lost+found/")).collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{document:#}");
    assert_eq!(bench.ok(&["export", "new", "--cf", &found[0], "--format", "kv"]), kv(words(2000)));
    assert_eq!(bench.text(&["get", "new", "in the log"]), "of default\n");
    assert!(stderr(&output).contains("warning: "));
}

#[test]
fn salvage_reads_single_files() {
    let bench = filled();
    let table = bench.file_of("db", ".sst").to_str().unwrap().to_string();
    let log = bench.file_of("db", ".wal").to_str().unwrap().to_string();
    golden_json(&bench, "salvage", &bench.ok(&["salvage", &table, "--output", "out.kv", "--json"]));
    assert_eq!(bench.read("out.kv"), kv(words(2000)));
    // A log beside it: newer versions win, deletes count.
    bench.ok(&["delete", "db", "--cf", "words", "word/00007"]);
    bench.ok(&["put", "db", "--cf", "words", "word/00008", "newer"]);
    let logs: Vec<PathBuf> =
        dump(&bench.path("db")).into_keys().filter(|p| p.extension().is_some_and(|e| e == "wal")).collect();
    let logs: Vec<&str> = logs.iter().map(|p| p.to_str().unwrap()).collect();
    let salvage = |more: &[&'static str]| -> Vec<String> {
        let all = [&["salvage", &table][..], &logs].concat();
        all.into_iter().chain(more.iter().copied()).map(str::to_string).collect()
    };

    let refused = stderr(&bench.exits(2, &borrowed(&salvage(&["--output", "both.kv"]))));
    assert!(refused.contains("several column families (0, 1)") && refused.contains("--cf-id"), "{refused}");
    assert!(!bench.path("both.kv").exists());
    bench.ok(&borrowed(&salvage(&["--output", "both.kv", "--cf-id", "1"])));
    let mut expected = words(2000);
    expected.remove(&b"word/00007"[..]);
    expected.insert(b"word/00008".to_vec(), b"newer".to_vec());
    assert_eq!(bench.read("both.kv"), kv(expected));
    // To standard output, in any format that a name tells.
    let output = bench.exits(0, &["salvage", &log, "--cf-id", "0", "--output", "-"]);
    assert_eq!(output.stdout, kv([(b"in the log".to_vec(), b"of default".to_vec())]));
    bench.ok(&["salvage", &log, "--cf-id", "0", "--output", "out.csv"]);
    assert_eq!(bench.read("out.csv"), b"k,v\nin the log,of default\n");
    // Damaged: the rest, with what is lost and where.
    let whole = std::fs::read(&table).unwrap();
    flip(Path::new(&table), 5000);
    let output = bench.exits(3, &["salvage", &table, "--output", "rest.kv", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let loss = &document["losses"][0];
    assert!(loss["offset"].is_u64() && loss["first"].is_string(), "{loss}");
    assert_eq!(document["records"].as_u64().unwrap() + loss["entries"].as_u64().unwrap(), 2000);
    assert!(stderr(&output).contains("lost: "));
    // Without footer and index, and without a header.
    std::fs::write(&table, &whole[..whole.len() / 2]).unwrap();
    bench.exits(3, &["salvage", &table, "--output", "half.kv"]);
    assert!(bench.read("half.kv").len() > kv(words(2000)).len() / 3);
    assert!(kv(words(2000)).starts_with(&bench.read("half.kv")));
    let headless = [&[0; 48], &whole[48..]].concat();
    std::fs::write(&table, headless).unwrap();
    bench.exits(3, &["salvage", &table, &log, "--cf-id", "1", "--output", "headless.kv"]);
    assert_eq!(bench.read("headless.kv"), kv(words(2000)));
    // Refusals.
    bench.exits(7, &["salvage", &log, "--cf-id", "0", "--output", "out.kv"]);
    bench.exits(5, &["salvage", "missing.sst", "--output", "new.kv"]);
    bench.exits(2, &["salvage", "db/CURRENT", "--output", "new.kv"]);
    bench.exits(2, &["salvage", "words.kv", "--output", "new.kv"]);
    bench.exits(2, &["salvage", "--output", "new.kv"]);
    bench.exits(2, &["salvage", &log]);
    bench.write("000099.blob", b"LGNTBLB1");
    bench.exits(6, &["salvage", "000099.blob", "--output", "new.kv"]);
    assert!(!bench.path("new.kv").exists());
}

/// Every row of the table of exit codes, by commands that reach it.
#[test]
fn every_exit_code_is_reached() {
    let bench = filled();
    let manifest = bench.file_of("db", ".sst");
    for (code, args) in [
        (0, "check db"),
        (0, "check db --deep --rate 100MB/s --workers 3"),
        (1, "get db absent"),
        (2, "check"),
        (2, "check db --rate 0"),
        (2, "check db --rate fast"),
        (2, "check db --workers x"),
        (5, "check missing"),
        (5, "repair missing --to new"),
        (6, "cf create db more --codec lzma"),
        (7, "delete-range db --prefix k"),
    ] {
        bench.exits(code, &args.split_whitespace().collect::<Vec<_>>());
    }
    // 4, with the id of the process; reading goes on beside it.
    let db = lignite::Db::open(bench.path("db")).unwrap();
    let message = stderr(&bench.exits(4, &["put", "db", "k", "v"]));
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    bench.ok(&["check", "db", "--deep"]);
    db.close().unwrap();
    // 6: whole, but of a later version.
    let whole = std::fs::read(&manifest).unwrap();
    let mut later = whole.clone();
    later[8] = 9;
    let crc = lignite::internals::checksum::crc32(0, &[&later[..44]]);
    later[44..48].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&manifest, &later).unwrap();
    bench.exits(6, &["salvage", manifest.to_str().unwrap(), "--output", "out.kv"]);
    bench.exits(6, &["repair", "db", "--to", "new"]);
    assert!(!bench.path("new").exists() && !bench.path("out.kv").exists());
    // 3.
    std::fs::write(&manifest, &whole[..whole.len() - 1]).unwrap();
    for args in ["check db", "check db --deep --json", "repair db --to new", "info db", "scan db --cf words"] {
        bench.exits(3, &args.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn closed_pipes_end_the_commands_of_trust_quietly() {
    let bench = filled();
    let table = bench.file_of("db", ".sst");
    let table = table.to_str().unwrap();
    for args in [&["salvage", table, "--output", "-"][..], &["check", "db", "--json"], &["help", "keys"]] {
        let mut child = bench.start(args);
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_and_huge_ones() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bench = filled();
    let strange = OsStr::from_bytes(b"d\xff\xfe b");
    let run = |args: &[&OsStr]| {
        let output =
            Command::new(binary()).args(args).current_dir(bench.dir.path()).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let text = |s: &'static str| OsStr::new(s);
    // As paths they are as good as any.
    assert_eq!(run(&[text("create"), strange]).0, Some(0));
    assert_eq!(run(&[text("put"), strange, text("k"), text("v")]).0, Some(0));
    assert_eq!(run(&[text("check"), strange, text("--deep")]).0, Some(0));
    let other = OsStr::from_bytes(b"new\xff");
    assert_eq!(run(&[text("repair"), strange, text("--to"), other]).0, Some(0));
    assert_eq!(run(&[text("get"), other, text("k")]).0, Some(0));
    // As keys, names and numbers they are wrong arguments, and the message says so.
    for args in [
        &[text("get"), text("db"), strange][..],
        &[text("put"), text("db"), text("k"), strange],
        &[text("get"), text("db"), text("k"), text("--cf"), strange],
        &[text("scan"), text("db"), text("--limit"), strange],
        &[strange],
        &[text("salvage"), text("x.sst"), text("--output"), strange],
    ] {
        let (code, message) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
    // The longest arguments that the system passes on.
    let huge = "x".repeat(120_000);
    bench.ok(&["put", "db", "huge", &huge]);
    assert_eq!(bench.ok(&["get", "db", "huge", "--raw"]), huge.as_bytes());
    for args in [
        &["get", "db", &huge][..],
        &["put", "db", &huge, "v"],
        &["cf", "create", "db", &huge],
        &["scan", "db", "--limit", &huge],
        &["check", "db", "--rate", &huge],
        &["get", "db", &format!("hex:{huge}")],
    ] {
        let output = bench.run(args);
        let code = output.status.code();
        assert!(code == Some(1) || code == Some(2), "{code:?}: {}", stderr(&output));
    }
    bench.exits(5, &["check", &huge]);
    bench.exits(5, &["salvage", &huge, "--output", "out.kv"]);
    let many: Vec<&str> = std::iter::repeat_n("db/CURRENT", 5000).collect();
    bench.exits(2, &[&["salvage"][..], &many, &["--output", "out.kv"]].concat());
    bench.ok(&["check", "db", "--deep"]);
}

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn interrupts_are_code_130_and_leave_whole_lines_and_files() {
    let bench = filled();
    // In the middle of a call of the engine.
    let before = dump(&bench.path("db"));
    let child = bench.start(&["check", "db", "--deep", "--rate", "1kB/s"]);
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(dump(&bench.path("db")) == before);
    // In the middle of output: what came is whole lines.
    bench.write("many.kv", &kv(words(60_000)));
    bench.ok(&["import", "db", "--cf", "words", "--input", "many.kv", "-q"]);
    bench.ok(&["compact", "db"]);
    let tables = dump(&bench.path("db")).into_iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "sst"));
    let table = tables.max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    for args in [
        &["scan", "db", "--cf", "words"][..],
        &["export", "db", "--cf", "words", "--format", "csv"],
        &["inspect", table.to_str().unwrap(), "--entries"],
    ] {
        let mut child = bench.start(args);
        let mut out = vec![0; 4096];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut out).unwrap();
        interrupt(&child);
        // The pipe is full, so it waits; until its handler has seen the signal on a busy machine, too.
        std::thread::sleep(Duration::from_millis(200));
        stdout.read_to_end(&mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args:?}");
        assert_eq!(out.last(), Some(&b'\n'), "{args:?}");
    }
    // An output file that is not complete does not appear; it cannot be told when the signal comes, so
    // either it came too late or nothing is there.
    let mut child = bench.start(&["salvage", table.to_str().unwrap(), "--output", "out.kv"]);
    std::thread::sleep(Duration::from_millis(400)); // Until it has come to handle signals at all.
    interrupt(&child);
    let code = child.wait().unwrap().code();
    assert!(code == Some(130) && !bench.path("out.kv").exists() || code == Some(0), "{code:?}");
    bench.ok(&["check", "db", "--deep"]);
}
