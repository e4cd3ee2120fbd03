//! The command line as scripts see it: the binary, its exit codes, its formats.
//!
//! Golden files are in `tests/data/cli`; numbers and names that differ from run to run are replaced
//! by placeholders. `LIGNITE_REWRITE=1` writes them anew.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use lignite::{Db, Options};
use lignite_tests::rng::{Rng, base_seed};
use lignite_tests::source::workspace;
use serde_json::Value;
use tempfile::TempDir;

/// The binary, built once in the profile of this test.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/PROFILE/deps/suite-HASH
        let this = std::env::current_exe().unwrap();
        let profile = this.parent().and_then(Path::parent).unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "lignite-cli", "--target-dir"]).arg(profile.parent().unwrap());
        match profile.file_name().and_then(|n| n.to_str()) {
            Some("debug") | None => {}
            Some(name) => drop(build.args(["--profile", name])),
        }
        let status = build.current_dir(workspace()).status().unwrap();
        assert!(status.success(), "the command line does not build");
        let binary = profile.join(format!("lignite{}", std::env::consts::EXE_SUFFIX));
        assert!(binary.is_file(), "{} is missing", binary.display());
        binary
    })
}

/// A directory of its own for one test.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    /// With a database `db`, family `words`.
    pub(crate) fn with_database() -> Bench {
        let bench = Bench::new();
        bench.ok(&["create", "db"]);
        bench.ok(&["cf", "create", "db", "words", "--codec", "zstd:3", "--block-size", "1KiB"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.dir.path()).env_remove("NO_COLOR").env("COLUMNS", "100");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    pub(crate) fn exits(&self, code: i32, args: &[&str]) -> Output {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Standard output of a run that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Vec<u8> {
        self.exits(0, args).stdout
    }

    #[track_caller]
    pub(crate) fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.ok(args)).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.ok(args)).unwrap()
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(args);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The one file of the database whose name ends so.
    pub(crate) fn file_of(&self, db: &str, ending: &str) -> PathBuf {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.path(db))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.to_str().unwrap().ends_with(ending))
            .collect();
        found.sort();
        found.pop().unwrap_or_else(|| panic!("no file {ending} in {db}"))
    }
}

pub(crate) fn kv(records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (k, v) in records {
        out.extend_from_slice(&(k.len() as u32).to_le_bytes());
        out.extend_from_slice(&(v.len() as u32).to_le_bytes());
        out.extend_from_slice(&k);
        out.extend_from_slice(&v);
    }
    out
}

/// Records of all bytes, quotes, prefixes and line ends, sorted and unique.
fn random_records(seed: u64, n: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut bytes = |limit: u64| {
        let kind = rng.below(4);
        let len = rng.below(limit);
        let some = |rng: &mut Rng, from: &[u8]| from[rng.below(from.len() as u64) as usize];
        (0..len)
            .map(|_| match kind {
                0 => rng.below(256) as u8,
                1 => some(&mut rng, b"\",\\ \r\n\tx:'"),
                2 => some(&mut rng, b"hexb64txu:\xc3\xa9"),
                _ => b'a' + rng.below(26) as u8,
            })
            .collect::<Vec<u8>>()
    };
    (0..n).map(|_| (bytes(40), bytes(300))).collect()
}

pub(crate) fn words(n: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..n).map(|i| (format!("word/{i:05}").into_bytes(), format!("the {i}th word of the text").into_bytes())).collect()
}

// Golden files.

pub(crate) fn golden(name: &str, found: &str) {
    let path = workspace().join("tests/data/cli").join(name);
    if std::env::var_os("LIGNITE_REWRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; LIGNITE_REWRITE=1 writes it anew", path.display());
}

/// Replaces what differs from run to run or with the smallest change of the format.
pub(crate) fn placeholders(value: &mut Value, key: &str, dir: &str) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if key == "counters" || key == "memory" {
                    *value = Value::from("<n>");
                }
                placeholders(value, name, dir);
            }
        }
        // They name the neighbours of what was chosen, which depend on times.
        Value::Array(_) if key == "reasons" => *value = Value::from("<texts>"),
        Value::Array(list) => list.iter_mut().for_each(|v| placeholders(v, key, dir)),
        Value::Number(_) => {
            const EXACT: [&str; 6] =
                ["torn_tail_bytes", "key_bytes", "value_bytes", "raw_bytes", "raw_key_bytes", "raw_value_bytes"];
            const VARIES: [&str; 20] = [
                "at",
                "created_unix",
                "decode_threads",
                "dictionary_gain",
                "edits_count",
                "gain",
                "keys_raw",
                "keys_stored",
                "len",
                "log",
                "manifest",
                "manifest_len",
                "number",
                "offset",
                "payload",
                "ratio",
                "raw",
                "score",
                "stored",
                "synced",
            ];
            let is_size = key.contains("bytes") && !EXACT.contains(&key);
            let varies = is_size || key.ends_with("nanos") || VARIES.contains(&key);
            if varies {
                *value = Value::from("<n>");
            }
        }
        Value::String(text) => {
            *text = text.replace(dir, "<dir>");
            if key == "path" {
                // Numbers of files depend on how many jobs ran before.
                *text = text.chars().map(|c| if c.is_ascii_digit() { 'n' } else { c }).collect();
            }
            let is_hash = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
            // The command of an advice goes by measured speeds.
            if is_hash || ["id", "db_id", "edit", "synced", "previous", "command"].contains(&key) {
                *value = Value::from("<text>");
            }
        }
        // Whether a candidate is beaten in time depends on the machine.
        Value::Bool(_) if key == "pareto" => *value = Value::from("<bool>"),
        Value::Bool(_) | Value::Null => {}
    }
}

#[test]
fn every_json_document_is_as_promised() {
    let bench = Bench::new();
    let check = |name: &str, args: &[&str]| {
        let mut document = bench.json(args);
        let schema = document["schema"].as_str().unwrap_or_default().to_string();
        assert!(schema.starts_with("lignite.") && schema.ends_with("/1"), "{args:?}: {schema}");
        placeholders(&mut document, "", bench.dir.path().to_str().unwrap());
        golden(&format!("{name}.json"), &format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
    };
    check("create", &["create", "db", "--json"]);
    check("cf-create", &["cf", "create", "db", "words", "--codec", "lz4", "--bottom-codec", "zstd:3", "--json"]);
    bench.write("words.kv", &kv(words(300)));
    bench.ok(&["import", "db", "--cf", "words", "--input", "words.kv", "-q"]);
    check("put", &["put", "db", "user:1", "hello", "--json"]);
    bench.ok(&["put", "db", "hex:00ff", "b64:AAEC"]);
    check("get", &["get", "db", "hex:00ff", "--json"]);
    check("delete", &["delete", "db", "user:1", "--json"]);
    check("delete-range", &["delete-range", "db", "--cf", "words", "--from", "word/00290", "--yes", "--json"]);
    check("scan", &["scan", "db", "--cf", "words", "--from", "word/00288", "--json"]);
    check("count", &["count", "db", "--cf", "words", "--json"]);
    check("flush", &["flush", "db", "--json"]);
    check("cf-set", &["cf", "set", "db", "words", "--block-size", "4KiB", "--json"]);
    check("cf-list", &["cf", "list", "db", "--json"]);
    check("compact-dry-run", &["compact", "db", "--dry-run", "--json"]);
    check("compact", &["compact", "db", "--json"]);
    check("info", &["info", "db", "--json"]);
    check("stats", &["stats", "db", "--json"]);
    check("tree", &["tree", "db", "--cf", "words", "--tables", "--json"]);
    check("check", &["check", "db", "--deep", "--json"]);
    let inspect = |name: &str, file: &Path, more: &[&str]| {
        let path = file.to_str().unwrap();
        check(name, &[&["inspect", path, "--json"], more].concat());
    };
    bench.ok(&["create", "small", "--codec", "lz4"]);
    bench.ok(&["put", "small", "hello", "world"]);
    inspect("inspect-log", &bench.file_of("small", ".wal"), &["--blocks", "--entries", "--values", "len"]);
    bench.ok(&["put", "small", "hex:00", ""]);
    bench.ok(&["compact", "small"]);
    inspect("inspect-table", &bench.file_of("small", ".sst"), &["--blocks", "--entries"]);
    inspect("inspect-current", &bench.path("small/CURRENT"), &[]);
    let manifest = bench.json(&["inspect", "small/CURRENT", "--json"])["files"][0]["manifest"].as_u64().unwrap();
    inspect("inspect-manifest", &bench.path(&format!("small/MANIFEST-{manifest:06}")), &[]);
    check("codec-list", &["codec", "list", "--json"]);
    bench.write("more.kv", &kv(words(3000)));
    let codecs = ["--codecs", "none,zstd:1..2,lz4+dict:4KiB", "--block-size", "1KiB", "--timeout", "1h"];
    check("codec-bench", &[&["codec", "bench", "more.kv", "--json"], &codecs[..]].concat());
    bench.ok(&["create", "tuned", "--codec", "zstd:1", "--block-size", "1KiB"]);
    bench.ok(&["import", "tuned", "--input", "more.kv", "-q"]);
    bench.ok(&["compact", "tuned", "-q"]);
    let codecs = ["--codecs", "none,lz4,zstd:1..2+dict", "--block-size", "1KiB,4KiB", "--timeout", "1h"];
    check("codec-compare", &[&["codec", "compare", "tuned", "--json"], &codecs[..]].concat());
    let objective = ["--objective", "decode:1s", "--timeout", "1h"];
    check("codec-advise", &[&["codec", "advise", "tuned", "--json"], &objective[..]].concat());
    check("codec-train", &["codec", "train", "tuned", "--size", "4KiB", "--json"]);
    check("recompress", &["recompress", "tuned", "--codec", "lz4hc:9+dict:4KiB", "--workers", "2", "--json"]);
    check("cf-set-objective", &["cf", "set", "tuned", "default", "--objective", "decode:20us", "--json"]);
    check("checkpoint", &["checkpoint", "db", "copy", "--json"]);
    check("cf-drop", &["cf", "drop", "db", "words", "--yes", "--json"]);
}

#[test]
fn help_is_as_promised() {
    let bench = Bench::new();
    golden("help.txt", &bench.text(&["help"]));
    for topic in ["formats", "keys", "exit-codes"] {
        golden(&format!("help-{topic}.txt"), &bench.text(&["help", topic]));
    }
    assert_eq!(bench.text(&["help", "cf", "create"]), bench.text(&["cf", "create", "-h"]));
    assert!(bench.text(&["completions", "bash"]).contains("lignite"));
    assert!(bench.text(&["--version"]).starts_with("lignite "));
}

// Exit codes.

#[test]
fn exit_codes_are_as_promised() {
    let bench = Bench::with_database();
    bench.ok(&["put", "db", "k", "v"]);
    for (code, args) in [
        (1, "get db absent"),
        (1, "get db absent --json"),
        (2, ""),
        (2, "nonsense"),
        (2, "get db"),
        (2, "get db hex:0"),
        (2, "get db k --cf nowhere"),
        (2, "scan db --cf nowhere"),
        (2, "export db --cf nowhere --format kv"),
        (2, "cf drop db nowhere --yes"),
        (2, "cf create db words"),
        (0, "cf create db words --if-missing"),
        (2, "cf create db more --codec zstd:99"),
        (2, "cf create db more --block-size 1"),
        (2, "cf create db more --codec lz4hc:13"),
        (0, "cf create db more --codec lz4hc:9"),
        (0, "cf drop db more --yes"),
        (0, "cf create db more --codec zstd:3+dict:16KiB --objective none"),
        (0, "cf drop db more --yes"),
        (2, "cf create db more --codec snappy+dict"),
        (2, "cf create db more --young-codec lz4+dict"),
        (2, "cf create db more --dictionary 5"),
        (2, "cf create db more --block-size 0"),
        (2, "cf create db more --objective fast"),
        (2, "cf create db more --objective smallest --codec lz4"),
        (6, "cf create db more --codec lzma"),
        (2, "create db"),
        (0, "create db --if-missing"),
        (2, "delete-range db"),
        (7, "delete-range db --prefix k"),
        (0, "delete-range db --prefix k --dry-run"),
        (7, "cf drop db words"),
        (0, "cf drop db words --dry-run"),
        (7, "demo db"),
        (5, "info missing"),
        (5, "get missing k"),
        (5, "put missing k v"),
        (5, "check missing"),
        (5, "inspect missing.sst"),
        (5, "import db --input missing.kv"),
        (2, "import db --input -"),
        (2, "export db --format kv --values len"),
        (2, "scan db --limit x"),
    ] {
        let args: Vec<&str> = args.split_whitespace().collect();
        bench.exits(code, &args);
    }
    assert_eq!(bench.text(&["count", "db"]), "1\n");
    bench.write("other", b"not ours");
    bench.exits(2, &["inspect", "other"]);
    assert_eq!(bench.ok(&["get", "db", "k"]), b"v\n");
    assert_eq!(bench.ok(&["get", "db", "k", "--raw"]), b"v");
}

#[test]
fn a_database_that_is_open_elsewhere_is_locked_for_writing_only() {
    let bench = Bench::with_database();
    let db = Db::open(bench.path("db")).unwrap();
    db.put("k", "v").unwrap();
    let output = bench.exits(4, &["put", "db", "k", "w"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    assert_eq!(bench.ok(&["get", "db", "k"]), b"v\n");
    for command in ["info", "stats", "tree", "check", "count"] {
        bench.ok(&[command, "db"]);
    }
    db.close().unwrap();
    bench.ok(&["put", "db", "k", "w"]);
}

#[test]
fn damage_is_code_3_with_its_place() {
    let bench = Bench::with_database();
    bench.write("words.kv", &kv(words(2000)));
    bench.ok(&["import", "db", "--cf", "words", "--input", "words.kv", "-q"]);
    bench.ok(&["compact", "db"]);
    bench.ok(&["check", "db", "--deep"]);
    let table = bench.file_of("db", ".sst");
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let name = table.file_name().unwrap().to_str().unwrap();
    let output = bench.exits(3, &["check", "db", "--json"]);
    let message = String::from_utf8(output.stderr).unwrap();
    for part in [name, "offset ", "cf words", "keys "] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ok"], false);
    assert!(document["problems"][0]["offset"].is_u64());
    let output = bench.exits(3, &["inspect", table.to_str().unwrap(), "--blocks", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["files"][0]["defects"][0]["damage"], true);
    bench.exits(3, &["export", "db", "--cf", "words", "--format", "kv", "--output", "out.kv"]);
    assert!(!bench.path("out.kv").exists());
    std::fs::write(bench.path("db/CURRENT"), b"LGNTCUR1 but no more").unwrap();
    let output = bench.exits(3, &["check", "db", "--json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("CURRENT"));
    bench.exits(3, &["info", "db"]);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let bench = Bench::with_database();
    {
        let db = Options::new().open(bench.path("db")).unwrap();
        for n in 0..50u32 {
            db.put(n.to_be_bytes(), "value").unwrap();
        }
        // A copy of the files as they lie now is what a killed process leaves.
        std::fs::create_dir(bench.path("copy")).unwrap();
        for entry in std::fs::read_dir(bench.path("db")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, bench.path("copy").join(path.file_name().unwrap())).unwrap();
        }
        db.close().unwrap();
    }
    let log = bench.file_of("copy", ".wal");
    let len = std::fs::metadata(&log).unwrap().len();
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    // The segment may have been allocated ahead: cut inside the records, found by what they say.
    let inspected = bench.json(&["inspect", log.to_str().unwrap(), "--blocks", "--json"]);
    let records = inspected["files"][0]["records"].as_array().unwrap();
    let last = records.last().unwrap()["offset"].as_u64().unwrap();
    assert!(last < len);
    // Behind the first byte of its number, since zeros at the end do not count.
    file.set_len(last + 17).unwrap();
    let document = bench.json(&["check", "copy", "--json"]);
    assert_eq!(document["ok"], true);
    assert_eq!(document["torn_tail_bytes"], 17);
    bench.ok(&["inspect", log.to_str().unwrap()]);
    assert_eq!(bench.text(&["count", "copy"]), "49\n");
}

// Data in and out.

#[test]
fn export_then_import_is_identity_for_all_bytes() {
    for round in 0..3 {
        let seed = base_seed() + round;
        let records = random_records(seed, 400);
        let bench = Bench::with_database();
        let input = kv(records.clone());
        bench.write("in.kv", &input);
        bench.ok(&["import", "db", "--cf", "words", "--format", "kv", "--input", "in.kv"]);
        bench.ok(&["export", "db", "--cf", "words", "--output", "out.kv"]);
        assert_eq!(bench.read("out.kv"), input, "seed {seed}");
        for format in ["kv", "ndjson", "csv"] {
            for style in ["auto", "hex", "b64", "esc", "u64"] {
                if format == "kv" && style != "auto" {
                    continue;
                }
                let family = format!("{format}-{style}");
                let styles = ["--keys", style, "--values", style];
                let exported =
                    bench.ok(&[&["export", "db", "--cf", "words", "--format", format], &styles[..]].concat());
                bench.ok(&["cf", "create", "db", &family]);
                let output =
                    bench.feed(&["import", "db", "--cf", &family, "--format", format, "--input", "-"], &exported);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let again = bench.ok(&["export", "db", "--cf", &family, "--format", "kv"]);
                assert_eq!(again, input, "{format} {style}, seed {seed}");
            }
        }
        // What a scan shows can be pasted back.
        for line in bench.text(&["scan", "db", "--cf", "words", "--limit", "40"]).lines() {
            let (key, value) = line.split_once('\t').unwrap();
            if !key.starts_with('-') {
                assert_eq!(bench.text(&["get", "db", "--cf", "words", key]), format!("{value}\n"));
            }
        }
    }
}

#[test]
fn zstandard_is_read_and_written_directly() {
    let bench = Bench::with_database();
    let input = kv(words(5000));
    bench.write("in.kv", &input);
    bench.ok(&["import", "db", "--cf", "words", "--input", "in.kv"]);
    bench.ok(&["export", "db", "--cf", "words", "--output", "out.kv.zst"]);
    let packed = bench.read("out.kv.zst");
    assert!(packed.len() < input.len() / 3);
    for (family, pipe) in [("from-file", false), ("from-pipe", true)] {
        bench.ok(&["cf", "create", "db", family]);
        if pipe {
            let output = bench.feed(&["import", "db", "--cf", family, "--format", "kv", "--input", "-"], &packed);
            assert!(output.status.success());
        } else {
            bench.ok(&["import", "db", "--cf", family, "--input", "out.kv.zst"]);
        }
        assert_eq!(bench.ok(&["export", "db", "--cf", family, "--format", "kv"]), input);
    }
    bench.write("cut.kv.zst", &packed[..packed.len() / 2]);
    let output = bench.exits(2, &["import", "db", "--input", "cut.kv.zst"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cut off"));
}

#[test]
fn any_order_and_any_repetition_can_be_imported() {
    let bench = Bench::with_database();
    let sorted = words(3000);
    let mut rng = Rng::new(base_seed());
    let mut mixed: Vec<_> = sorted.clone().into_iter().collect();
    for i in (1..mixed.len()).rev() {
        mixed.swap(i, rng.below(i as u64 + 1) as usize);
    }
    // An old value of every seventh key goes before all others.
    let old = sorted.keys().step_by(7).map(|k| (k.clone(), b"old".to_vec()));
    bench.write("mixed.kv", &kv(old.chain(mixed)));
    bench.write("sorted.kv", &kv(sorted.clone()));
    for _ in 0..2 {
        for file in ["mixed.kv", "sorted.kv"] {
            bench.ok(&["import", "db", "--cf", "words", "--input", file]);
            assert_eq!(bench.ok(&["export", "db", "--cf", "words", "--format", "kv"]), kv(sorted.clone()));
        }
    }
    bench.ok(&["check", "db", "--deep"]);
}

/// Five steps of about 8 MiB.
fn large() -> (Vec<u8>, Vec<usize>) {
    let mut rng = Rng::new(7);
    let mut input = Vec::new();
    let (mut borders, mut in_step) = (vec![0], 0);
    for i in 0..40u32 {
        let (key, value) = (format!("{i:03}").into_bytes(), vec![rng.below(256) as u8; 1 << 20]);
        if in_step + key.len() + value.len() > 8 << 20 {
            borders.push(input.len());
            in_step = 0;
        }
        in_step += key.len() + value.len();
        input.extend(kv([(key, value)]));
    }
    borders.push(input.len());
    (input, borders)
}

#[test]
fn what_is_malformed_is_named_and_what_came_before_stays() {
    let (input, borders) = large();
    let bench = Bench::with_database();
    let cut = borders[2] + 3_000_000;
    bench.write("cut.kv", &input[..cut]);
    let output = bench.exits(2, &["import", "db", "--cf", "words", "--input", "cut.kv"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("cut.kv: record ") && message.contains("(offset "), "{message}");
    assert!(message.contains("2 steps before it are imported"), "{message}");
    assert_eq!(bench.ok(&["export", "db", "--cf", "words", "--format", "kv"]), &input[..borders[2]]);
    bench.exits(2, &["import", "db", "--cf", "words", "--input", "cut.kv", "--dry-run"]);
}

/// The story: an import is killed in the middle; the database opens, holds a prefix of whole steps,
/// and the same import again completes it.
#[test]
fn a_killed_import_leaves_a_prefix_of_whole_steps() {
    let (input, borders) = large();
    let bench = Bench::with_database();
    let args = ["import", "db", "--cf", "words", "--format", "kv", "--input", "-"];
    let mut child = bench.start(&args);
    child.stdin.as_mut().unwrap().write_all(&input[..borders[4] + 100]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let got = bench.ok(&["export", "db", "--cf", "words", "--format", "kv"]);
    assert!(borders.contains(&got.len()), "{} is no border of {borders:?}", got.len());
    assert!(got.len() <= borders[4] && input.starts_with(&got));
    bench.ok(&["check", "db", "--deep"]);
    assert!(bench.feed(&args, &input).status.success());
    assert_eq!(bench.ok(&["export", "db", "--cf", "words", "--format", "kv"]), input);
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_code_130_and_leaves_the_database_intact() {
    let (input, borders) = large();
    let bench = Bench::with_database();
    let mut child = bench.start(&["import", "db", "--cf", "words", "--format", "kv", "--input", "-"]);
    child.stdin.as_mut().unwrap().write_all(&input[..borders[3] + 100]).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    // The pipe stays open: the interrupt alone must end it.
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
    let got = bench.ok(&["export", "db", "--cf", "words", "--format", "kv"]);
    assert!(borders.contains(&got.len()) && input.starts_with(&got));
    bench.ok(&["check", "db"]);
}

// Streams.

#[test]
fn a_closed_pipe_ends_quietly_with_success() {
    let bench = Bench::with_database();
    bench.write("words.kv", &kv(words(60_000)));
    bench.ok(&["import", "db", "--cf", "words", "--input", "words.kv"]);
    for args in [
        &["scan", "db", "--cf", "words"][..],
        &["scan", "db", "--cf", "words", "--json"],
        &["export", "db", "--cf", "words", "--format", "csv"],
        &["inspect", bench.file_of("db", ".sst").to_str().unwrap(), "--entries"],
    ] {
        let mut child = bench.start(args);
        let mut first = [0; 10];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn output_files_are_replaced_only_with_yes_and_only_when_complete() {
    let bench = Bench::with_database();
    bench.ok(&["put", "db", "k", "v"]);
    bench.write("out.csv", b"precious");
    bench.exits(7, &["export", "db", "--output", "out.csv"]);
    assert_eq!(bench.read("out.csv"), b"precious");
    bench.ok(&["export", "db", "--output", "out.csv", "--yes"]);
    assert_eq!(bench.read("out.csv"), b"k,v\nk,v\n");
    let left: Vec<_> = std::fs::read_dir(bench.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_checkpoint_is_replaced_only_with_yes() {
    let bench = Bench::with_database();
    bench.ok(&["put", "db", "k", "v"]);
    bench.ok(&["checkpoint", "db", "copy"]);
    bench.ok(&["put", "db", "k", "w"]);
    bench.exits(7, &["checkpoint", "db", "copy"]);
    assert_eq!(bench.text(&["get", "copy", "k"]), "v\n");
    bench.ok(&["checkpoint", "db", "copy", "--yes"]);
    assert_eq!(bench.text(&["get", "copy", "k"]), "w\n");
    bench.exits(2, &["checkpoint", "db", "db", "--yes"]);
    bench.ok(&["check", "copy", "--deep"]);
}

#[test]
fn ranges_limits_and_formats_of_scan() {
    let bench = Bench::with_database();
    for key in ["a", "b", "ba", "bb", "c"] {
        bench.ok(&["put", "db", key, &format!("<{key}>")]);
    }
    let scan = |args: &[&str]| bench.text(&[&["scan", "db"], args].concat());
    assert_eq!(scan(&["--prefix", "b"]), "b\t<b>\nba\t<ba>\nbb\t<bb>\n");
    assert_eq!(scan(&["--from", "b", "--to", "bb", "--values", "none"]), "b\nba\n");
    assert_eq!(scan(&["--reverse", "--limit", "2", "--values", "len"]), "c\t3\nbb\t4\n");
    assert_eq!(scan(&["--from", "c", "--to", "a"]), "");
    assert_eq!(scan(&["--limit", "1", "--format", "csv"]), "k,v\na,<a>\n");
    assert_eq!(scan(&["--limit", "1", "--keys", "hex", "--format", "ndjson"]), "{\"k\":\"hex:61\",\"v\":\"<a>\"}\n");
    assert_eq!(bench.text(&["count", "db", "--prefix", "b"]), "3\n");
    bench.ok(&["delete-range", "db", "--from", "b", "--to", "bb", "--yes"]);
    assert_eq!(scan(&["--values", "none"]), "a\nbb\nc\n");
}

#[test]
fn colour_is_only_where_it_is_wanted() {
    let bench = Bench::with_database();
    assert!(!bench.text(&["info", "db"]).contains('\u{1b}'));
    assert!(bench.text(&["info", "db", "--color", "always"]).contains('\u{1b}'));
    let output = bench.exits(5, &["info", "missing"]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: there is no database at missing"));
}

#[test]
fn progress_for_wrappers_is_json_on_standard_error() {
    let bench = Bench::with_database();
    bench.write("words.kv", &kv(words(100)));
    let output = bench.exits(0, &["import", "db", "--cf", "words", "--input", "words.kv", "--progress", "json"]);
    let lines: Vec<Value> =
        String::from_utf8(output.stderr).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let summary = lines.last().unwrap();
    assert_eq!(summary["schema"], "lignite.import/1");
    assert_eq!(summary["records"], 100);
    assert!(lines.iter().any(|l| l["schema"] == "lignite.progress/1" && l["finished"] == true));
}

#[test]
fn demo_makes_a_database_and_says_what_to_try_next() {
    let bench = Bench::new();
    let mut document = bench.json(&["demo", "sample", "--json", "--progress", "none"]);
    assert_eq!(document["families"].as_array().unwrap().len(), 6);
    let next: Vec<String> =
        document["next"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_string()).collect();
    for command in &next {
        let args: Vec<&str> = command.split(' ').skip(1).collect();
        assert!(!bench.ok(&args).is_empty(), "{command}");
    }
    bench.exits(7, &["demo", "sample"]);
    placeholders(&mut document, "", bench.dir.path().to_str().unwrap());
    golden("demo.json", &format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
}
