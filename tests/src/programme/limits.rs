//! T17: Real limits: full disks, inodes, file sizes, descriptors.
//!
//! What happens in a unit is told in [`limited`], the child that lives through it;
//! here is what the child cannot do for itself: its small disk, a tmpfs or ext4 in an image, which
//! needs root. Where that is missing a unit says so and counts nothing. Quotas are not among the
//! limits: root, who alone could set them here, is exempt from them.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use super::kills::folder;
use super::power::command;
use super::{Kind, Tally};
use crate::child::binary;
use crate::limited::{self, Limit};
use crate::rng::{Rng, base_seed};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "limits",
    id: "T17",
    about: "meet a full disk, or a limit of inodes, file sizes or descriptors, and go on when it is lifted",
    ci_units: 42,
    suite_units: 7,
    at_once: 2,
    // None: a machine without root has no small disks.
    ci_targets: &[],
    long_targets: &[("limit_scenarios", 400)],
    run,
}];

/// The child of a unit.
pub fn child(args: &[&str]) -> ExitCode {
    limited::main(args)
}

fn run(unit: u64, tally: &mut Tally) {
    let seed = base_seed().wrapping_mul(0x1b87_3593) ^ unit;
    let mut rng = Rng::new(seed ^ 0x1197);
    let number = unit as usize % Limit::ALL.len();
    let limit = Limit::ALL[number];
    let turn = unit / Limit::ALL.len() as u64 % 3;
    let folder = folder(true);
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = match limit.is_of_a_disk().then(|| Mount::new(folder.path(), &disk, limit, &mut rng)).transpose() {
        Ok(mount) => mount,
        Err(why) => {
            println!("limits: skipped {limit:?}: {why}");
            tally.add("limits_skipped", 1);
            return;
        }
    };
    let model = folder.path().join("model");
    let words = |words: String| -> ! {
        let kind = mount.as_ref().map_or("no disk of its own", |m| m.kind);
        panic!("seed {seed}, {limit:?}, turn {turn}, {kind}: {words}")
    };
    let first = start(number, turn, seed, &disk, &model, false).unwrap_or_else(|e| words(e));
    let done = match first {
        Some(done) => done,
        None => match start(number, turn, seed, &disk, &model, true) {
            Ok(Some(done)) => done,
            Ok(None) => words("it died twice".to_string()),
            Err(e) => words(format!("the process that came after: {e}")),
        },
    };
    tally.add("limit_scenarios", 1);
    tally.add("limit_refusals", done.0);
    tally.add("limit_writes", done.1);
}

/// Runs the child; what it counted, or nothing if it died as it should.
fn start(
    limit: usize,
    turn: u64,
    seed: u64,
    disk: &Path,
    model: &Path,
    resumed: bool,
) -> Result<Option<(u64, u64)>, String> {
    // A limit of file sizes comes with a signal, and a shell can make a child ignore it.
    let out = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -c 0; exec \"$0\" \"$@\""])
        .arg(binary())
        .arg("child-limits")
        .args([limit.to_string(), turn.to_string(), seed.to_string()])
        .arg(disk)
        .arg(model)
        .args(resumed.then_some("resumed"))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    let numbers = last.strip_prefix("done ").and_then(|rest| {
        let (refused, written) = rest.split_once(' ')?;
        Some((refused.parse().ok()?, written.parse().ok()?))
    });
    match numbers {
        Some(numbers) if out.status.success() => Ok(Some(numbers)),
        _ if last == "dies" && aborted(out.status) => Ok(None),
        _ => Err(format!("{}: {text} {}", out.status, String::from_utf8_lossy(&out.stderr))),
    }
}

fn aborted(status: ExitStatus) -> bool {
    status.signal() == Some(6)
}

/// A small disk.
struct Mount<'a> {
    dir: &'a Path,
    kind: &'static str,
}

impl<'a> Mount<'a> {
    fn new(folder: &Path, dir: &'a Path, limit: Limit, rng: &mut Rng) -> Result<Mount<'a>, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".to_string());
        }
        let inodes = if limit == Limit::Inodes { rng.within(350, 500) } else { 5000 };
        if limit != Limit::Inodes && rng.chance(40) {
            let image = folder.join("image");
            std::fs::File::create(&image)
                .and_then(|f| f.set_len(rng.within(16, 40) << 20))
                .map_err(|e| e.to_string())?;
            command("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), image.as_ref()])?;
            command("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), dir.as_ref()])?;
            return Ok(Mount { dir, kind: "ext4" });
        }
        let options = format!("size={}m,nr_inodes={inodes}", rng.within(10, 32));
        command(
            "mount",
            &["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), options.as_ref(), "tmpfs".as_ref(), dir.as_ref()],
        )?;
        Ok(Mount { dir, kind: "tmpfs" })
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = command("umount", &["-l".as_ref(), self.dir.as_ref()]);
    }
}
