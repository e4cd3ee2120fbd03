//! What holds on a real system: when the power goes, when something runs out, and which calls of the
//! system a promise consists of. A test whose means are missing (root, loop devices, mkfs.ext4, strace)
//! says so and passes.

use std::process::Command;

use lignite_tests::{child, programme};

/// The story: ext4 is shut down under a process that writes, and mounted again. What was acknowledged
/// with `Sync` before is there (G1), as a prefix of the commit order (G2); what an open has shown stays
/// through the next cut (G3); a closed database is as it was.
#[test]
fn a_power_cut_on_a_real_file_system_loses_nothing_that_was_synced() {
    child::set_binary(env!("CARGO_BIN_EXE_xtask"));
    let tally = programme::run_in_suite("power");
    assert!(tally.get("power_cuts") > 0 || tally.get("power_skipped") > 0, "{:?}", tally.0);
}

/// The story: the disk is full, inodes or descriptors are gone, or files may not grow. Calls fail as
/// they may and leave nothing (G4); reads, deletes, compaction, close and open go on (G12); once the
/// limit is lifted writes work again without an open (G12, G13); and no call takes longer than 30 s
/// (G14).
#[test]
fn writes_work_again_when_a_limit_is_lifted() {
    child::set_binary(env!("CARGO_BIN_EXE_xtask"));
    let tally = programme::run_in_suite("limits");
    assert!(tally.get("limit_scenarios") > 0, "those of the process need no root: {:?}", tally.0);
}

/// The story: strace watches a process that makes a database, writes once with `Sync`, and closes (G1).
/// Before each word that something is done, the calls that make it durable have been made, in the
/// order that a power cut between any two of them demands: data before the name that refers to it,
/// names before what relies on them.
#[test]
fn syncs_really_reach_the_system_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let strace = |program: &str, arguments: &[&str]| {
        let calls = "trace=openat,fsync,fdatasync,rename,renameat,renameat2,pwrite64,write,mkdir";
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "16", "-e", calls, "-o"]).arg(&trace).arg(program).args(arguments);
        command.output().map_err(|e| e.to_string()).and_then(|out| match out.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        })
    };
    if let Err(why) = strace("true", &[]) {
        println!("skipped: strace does not work here: {why}");
        return;
    }
    for mode in ["mapped", "positioned"] {
        // The directory's own name must become durable too.
        let dir = folder.path().join(mode).join("parent/db");
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        strace(env!("CARGO_BIN_EXE_xtask"), &["child-sync", dir.to_str().unwrap(), mode]).unwrap();
        check_order(mode, &std::fs::read_to_string(&trace).unwrap());
    }
}

fn check_order(mode: &str, trace: &str) {
    let calls = Calls(trace.lines().collect());
    let opened = calls.first("write(1", "opened", 0);
    let acknowledged = calls.first("write(1", "acknowledged", opened);
    let closed = calls.first("write(1", "closed", acknowledged);
    // Creation: the manifest, then CURRENT, then its name, each durable before the next.
    let manifest = calls.first("fdatasync", "/db/MANIFEST-", 0);
    let renamed = calls.first("rename", "CURRENT.tmp", manifest);
    let current = calls.last("fdatasync", "/db/CURRENT.tmp", renamed);
    let named = calls.first("fsync", "/parent/db>", renamed);
    assert!(manifest < current && current < renamed && renamed < named && named < opened, "{}", calls.0.join("\n"));
    // The manifest's name, before CURRENT says it.
    let manifest_named = calls.last("fsync", "/parent/db>", renamed);
    assert!(manifest < manifest_named, "{}", calls.0.join("\n"));
    // And the name of the database itself, at last when the open returns.
    assert!(calls.last("fsync", "/parent>", opened) < opened);
    // The write: record, sync of the log, and only then the word; the log's name before.
    let record = match mode {
        // A store into a mapping is no call. (On a file system that is not trusted with it there is one.)
        "mapped" => opened + 1,
        _ => calls.last("pwrite64", ".wal>", acknowledged),
    };
    let synced = calls.last("fdatasync", ".wal>", acknowledged);
    let log_made = calls.first("openat", ".wal", 0);
    let log_named = calls.first("fsync", "/parent/db>", log_made);
    assert!(opened < record && record < synced && synced < acknowledged, "{}", calls.0.join("\n"));
    assert!(log_named < acknowledged, "the log's name was not durable when the write was acknowledged");
    // The close: the log ends durably before CURRENT seals it.
    let end = calls.last("fdatasync", ".wal>", closed);
    let sealed = calls.last("rename", "CURRENT.tmp", closed);
    let seal_named = calls.last("fsync", "/parent/db>", closed);
    assert!(acknowledged < sealed && end < sealed && sealed < seal_named, "{}", calls.0.join("\n"));
    println!("{} calls were watched", calls.0.len());
}

/// Calls of the system, in their order.
struct Calls<'a>(Vec<&'a str>);

impl Calls<'_> {
    fn is(line: &str, call: &str, about: &str) -> bool {
        // A process id, the call, and after a call that was interrupted the rest of its line.
        let text = line.split_once(' ').map_or("", |(_, text)| text.trim_start());
        let text = text.strip_prefix("<... ").unwrap_or(text);
        text.starts_with(call) && line.contains(about)
    }

    /// The first such call from `from` on.
    fn first(&self, call: &str, about: &str, from: usize) -> usize {
        let found = self.0[from..].iter().position(|l| Calls::is(l, call, about));
        from + found.unwrap_or_else(|| panic!("no {call} of {about} from {from} on:\n{}", self.0.join("\n")))
    }

    /// The last such call before `before`.
    fn last(&self, call: &str, about: &str, before: usize) -> usize {
        let found = self.0[..before].iter().rposition(|l| Calls::is(l, call, about));
        found.unwrap_or_else(|| panic!("no {call} of {about} before {before}:\n{}", self.0.join("\n")))
    }
}
