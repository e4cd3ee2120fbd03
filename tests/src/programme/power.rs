//! T16: Power cuts on a real file system.
//!
//! The story of a unit: a database lies on ext4 in an image file behind a loop device. A child works
//! on it; a thread beside it syncs random single files, so that what gets to the device is out of
//! order. Then the file system is shut down by its ioctl, either with what the journal holds in
//! memory lost or with the journal written and the data of the files lost. It is mounted again and
//! the database opened: every step that waited for the device and was acknowledged *before* the cut is
//! there, and all is a prefix of the commit order.
//!
//! Needs root, loop devices and mkfs.ext4; where one of these is missing a unit says so and counts
//! nothing. It tears no sectors and reorders nothing inside a device: that only the simulated disk
//! does.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::kills::{folder, read};
use super::{Kind, Tally};
use crate::child::{self, Running, lifetime};
use crate::model::{Content, difference};
use crate::rng::{Rng, base_seed};
use crate::watchdog::guard;
use crate::workload::{Judge, Plan};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "power",
    id: "T16",
    about: "shut ext4 down under a writing process, some ten times, mount it again and check what is left",
    ci_units: 6,
    suite_units: 2,
    at_once: 2,
    // None: a machine without root counts nothing.
    ci_targets: &[],
    long_targets: &[("power_cuts", 500)],
    run,
}];

const ROUNDS: u64 = 6;

fn run(unit: u64, tally: &mut Tally) {
    let seed = base_seed().wrapping_mul(0x0cc9_e2d5) ^ unit;
    let mut rng = Rng::new(seed ^ 0x9047);
    let mount_options =
        rng.pick(&["defaults", "data=writeback", "commit=1", "nodelalloc", "data=writeback,nodelalloc"]);
    let folder = folder(unit % 4 != 3);
    let mut disk = match Disk::new(folder.path(), mount_options) {
        Ok(disk) => disk,
        Err(why) => {
            println!("power: skipped: {why}");
            tally.add("power_skipped", 1);
            return;
        }
    };
    let mut base = Content::new();
    for round in 0..ROUNDS {
        let plan = Plan { seed, round, threads: rng.within(1, 3) as usize, sync_percent: rng.pick(&[5, 20, 50, 100]) };
        base = one_round(&mut disk, plan, &base, &mut rng, tally)
            .unwrap_or_else(|words| panic!("seed {seed}, {mount_options}, round {round}, {plan:?}: {words}"));
    }
}

/// One life of a child, which ends with a cut; the content afterwards.
fn one_round(disk: &mut Disk, plan: Plan, base: &Content, rng: &mut Rng, tally: &mut Tally) -> Result<Content, String> {
    let dir = disk.dir.join("db");
    let text = |e: io::Error| e.to_string();
    let running = Running::start(&dir, &plan, 0);
    let life = lifetime(rng, Duration::from_millis(300));
    with_random_syncs(&dir, rng.next_u64(), || running.live_until(life));
    // What has been said by now was said before the cut.
    let before = running.heard();
    disk.cut(rng).map_err(text)?;
    let heard = running.kill_anyhow();
    disk.mount_again().map_err(text)?;
    tally.add("power_cuts", 1);
    if rng.chance(30) {
        // And again, while it recovers.
        let running = Running::start(&dir, &Plan { threads: 0, ..plan }, 0);
        running.live_until(lifetime(rng, Duration::from_millis(20)));
        disk.cut(rng).map_err(text)?;
        running.kill_anyhow();
        disk.mount_again().map_err(text)?;
        tally.add("power_cuts", 1);
    }
    let judge = Judge::new(plan, base, &heard);
    let must = judge.durable(&before.counts());
    let open = || guard("open", || child::builder(&plan).open(&dir)).map_err(|e| format!("it does not open: {e:?}"));
    let db = open()?;
    let found = read(&db)?;
    judge.find(&found, &must).map_err(|e| format!("durable {must:?} of {:?}: {e}", before.counts()))?;
    tally.add("rounds", 1);
    tally.add("durable_writes_checked", must.iter().sum::<usize>() as u64);
    let report = guard("check", || db.check(true, &mut |_| {})).map_err(|e| format!("check: {e:?}"))?;
    if !report.is_clean() {
        return Err(format!("check found {:?}", report.problems));
    }
    match rng.below(3) {
        // What an open has shown stays, even if the power goes at once (G3).
        0 => {
            disk.cut(rng).map_err(text)?;
            drop(db);
            disk.mount_again().map_err(text)?;
            tally.add("power_cuts", 1);
            let again = read(&open()?)?;
            if let Some(words) = difference(&found, &again) {
                return Err(format!("a cut took back what an open had shown: {words}"));
            }
        }
        // A closed database is there whole.
        1 => {
            guard("close", || db.close()).map_err(|e| format!("close: {e:?}"))?;
            disk.cut(rng).map_err(text)?;
            disk.mount_again().map_err(text)?;
            tally.add("power_cuts", 1);
            let db = open()?;
            if !db.stats().recovered.clean {
                return Err("a cut took the seal of a closed database".to_string());
            }
            if let Some(words) = difference(&found, &read(&db)?) {
                return Err(format!("a cut changed a closed database: {words}"));
            }
        }
        _ => drop(db),
    }
    Ok(found)
}

/// Runs `body` while a thread syncs one random file of `dir` after the other.
fn with_random_syncs(dir: &Path, seed: u64, body: impl FnOnce()) {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(seed);
            while !end.load(Ordering::Relaxed) {
                let files: Vec<PathBuf> =
                    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
                if !files.is_empty()
                    && let Ok(file) = File::open(&files[rng.below(files.len() as u64) as usize])
                {
                    let _ = file.sync_data();
                }
                std::thread::sleep(Duration::from_micros(rng.within(100, 10_000)));
            }
        });
        body();
        end.store(true, Ordering::Relaxed);
    });
}

/// An ext4 file system in an image, that can be shut down.
struct Disk {
    image: PathBuf,
    dir: PathBuf,
    options: String,
}

impl Disk {
    /// Makes one under `folder` and mounts it; says what is missing if that is not possible.
    fn new(folder: &Path, options: &str) -> Result<Disk, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".to_string());
        }
        let disk = Disk { image: folder.join("image"), dir: folder.join("mount"), options: format!("loop,{options}") };
        let file = File::create(&disk.image).map_err(|e| e.to_string())?;
        file.set_len(96 << 20).map_err(|e| e.to_string())?;
        std::fs::create_dir(&disk.dir).map_err(|e| e.to_string())?;
        command("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), disk.image.as_ref()])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        command("mount", &["-o".as_ref(), self.options.as_ref(), self.image.as_ref(), self.dir.as_ref()])
    }

    /// Takes the power away.
    fn cut(&self, rng: &mut Rng) -> io::Result<()> {
        // 2: the journal in memory is lost; 1: it is written, and the data it speaks of may be lost.
        shut_down(&self.dir, if rng.chance(70) { 2 } else { 1 })
    }

    /// Mounts it again, which replays its journal.
    fn mount_again(&mut self) -> io::Result<()> {
        // The child's last descriptors may be closing still.
        for _ in 0..100 {
            if command("umount", &[self.dir.as_ref()]).is_ok() {
                return self.mount().map_err(io::Error::other);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        command("umount", &[self.dir.as_ref()]).and_then(|()| self.mount()).map_err(io::Error::other)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = command("umount", &["-l".as_ref(), self.dir.as_ref()]);
    }
}

/// Runs a command of the system; what it says if it fails or is not there.
pub(super) fn command(name: &str, args: &[&std::ffi::OsStr]) -> Result<(), String> {
    let done = Command::new(name).args(args).stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {} {}", done.status, String::from_utf8_lossy(&done.stderr).trim()))
}

/// The ioctl by which ext4, like XFS, stops as if the power had gone.
#[expect(unsafe_code, reason = "there is no safe call for it")]
fn shut_down(dir: &Path, how: u32) -> io::Result<()> {
    const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
    let dir = File::open(dir)?;
    // SAFETY: the kernel reads 32 bits through the argument, which `Setter` points at `how`, and
    // writes nothing.
    unsafe { rustix::ioctl::ioctl(&dir, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(how)) }?;
    Ok(())
}
