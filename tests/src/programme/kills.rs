//! T15: A real process that is killed.
//!
//! The story of a unit: a child works on a database with several threads (see
//! [`workload`](crate::workload)) and dies after 1 to 200 ms, by SIGKILL, by `abort`, or stopped
//! first and killed then. Sometimes others follow that die while they open. Then the parent opens:
//! every acknowledged step is there, a pending one wholly or not at all, and all is a prefix of the
//! commit order. Another child goes on in the same directory, ten kills in all.
//!
//! Both levels of durability must survive the death of the process alike, so where the files lie
//! makes no difference to what must hold; most units lie in memory, where a sync costs nothing.

use std::path::{Path, PathBuf};

use lignite::internals::fs::disk::DiskFs;
use lignite::{Db, ErrorKind, Options};

use super::{Kind, Tally};
use crate::checks;
use crate::child::{self, Death, Running, lifetime};
use crate::model::{Content, difference};
use crate::rng::{Rng, base_seed};
use crate::sim::content;
use crate::watchdog::guard;
use crate::workload::{Judge, Plan};

/// The kinds of this module.
pub const KINDS: &[Kind] = &[Kind {
    name: "kills",
    id: "T15",
    about: "kill a process with several writing threads some ten times in one directory and check what is left",
    ci_units: 30,
    suite_units: 4,
    at_once: 2,
    ci_targets: &[("kills", 300), ("acked_writes_checked", 5000)],
    long_targets: &[("kills", 5000)],
    run,
}];

const ROUNDS: u64 = 8;

fn run(unit: u64, tally: &mut Tally) {
    let seed = base_seed().wrapping_mul(0x5bd1_e995) ^ unit;
    let mut rng = Rng::new(seed ^ 0x6b11);
    // Every fourth unit is on the real file system, where files take longer and order is another.
    let folder = folder(unit % 4 != 3);
    let dir = folder.path().join("db");
    let mut base = Content::new();
    for round in 0..ROUNDS {
        let plan = Plan { seed, round, threads: rng.within(1, 3) as usize, sync_percent: rng.pick(&[0, 10, 50, 100]) };
        base = one_round(&dir, plan, &base, &mut rng, tally)
            .unwrap_or_else(|words| panic!("seed {seed}, round {round}, {plan:?}: {words}"));
    }
}

/// A directory that is removed with its value, in memory if the system has such a place.
pub(super) fn folder(memory: bool) -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if memory && let Ok(folder) = tempfile::tempdir_in(shm) {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

/// One life of a child; the content afterwards.
fn one_round(dir: &Path, plan: Plan, base: &Content, rng: &mut Rng, tally: &mut Tally) -> Result<Content, String> {
    let death = match rng.below(10) {
        0..7 => Death::Kill,
        7 => Death::Abort,
        _ => Death::Stop,
    };
    let life = lifetime(rng, std::time::Duration::from_millis(200));
    let running = Running::start(dir, &plan, if death == Death::Abort { life.as_micros() as u64 } else { 0 });
    // What a reader beside the living child sees, and what was acknowledged before it looked.
    let mut seen: Vec<(&str, Vec<usize>, Content)> = Vec::new();
    if rng.chance(30) {
        running.live_until(life / 2);
        seen.extend(look(dir, "a reader beside the living child", &running, false)?);
    }
    running.live_until(life);
    if death == Death::Stop {
        running.stop();
        seen.extend(look(dir, "a reader beside the stopped child", &running, true)?);
    }
    let heard = if death == Death::Abort { running.end()? } else { running.kill()? };
    tally.add("kills", 1);

    // Some that die while they open, or soon after.
    if rng.chance(30) {
        for _ in 0..rng.within(1, 3) {
            let idle = Plan { threads: 0, ..plan };
            let running = Running::start(dir, &idle, 0);
            running.live_until(lifetime(rng, std::time::Duration::from_millis(16)));
            running.kill()?;
            tally.add("kills", 1);
            tally.add("kills_while_opening", 1);
        }
    }

    let judge = Judge::new(plan, base, &heard);
    let must = heard.counts();
    if heard.opened && rng.chance(25) {
        let db = guard("open read-only", || Options::new().decode_threads(0).open_read_only(dir));
        let db = db.map_err(|e| format!("the read-only open of a dead database failed: {e:?}"))?;
        seen.push(("a reader after death", must.clone(), read(&db)?));
        tally.add("read_only_opens", 1);
    }
    let db = guard("open", || child::builder(&plan).open(dir)).map_err(|e| format!("it does not open: {e:?}"))?;
    let found = read(&db)?;
    let verdict = judge.find(&found, &must).map_err(|e| format!("acknowledged {must:?}: {e}"))?;
    tally.add("rounds", 1);
    tally.add("acked_writes_checked", must.iter().sum::<usize>() as u64);
    tally.add("batches_checked", verdict.batches);
    tally.add("pending_found", verdict.counts.iter().zip(&must).filter(|(c, m)| c > m).count() as u64);
    for (who, must, content) in seen {
        judge.find(&content, &must).map_err(|e| format!("{who} (acknowledged {must:?}): {e}"))?;
        tally.add("live_reads_checked", 1);
    }
    check_copies(dir, &judge, &heard.copies, &heard.acks, plan, tally)?;

    if rng.chance(25) {
        let report = guard("check", || db.check(true, &mut |_| {})).map_err(|e| format!("check: {e:?}"))?;
        if !report.is_clean() {
            return Err(format!("check found {:?}", report.problems));
        }
        tally.add("deep_checks", 1);
    }
    if rng.chance(20) {
        guard("compact", || db.compact()).map_err(|e| format!("compact: {e:?}"))?;
        guard("check", || {
            checks::database(&db, &DiskFs::new()).and_then(|()| checks::no_orphans(&db, &DiskFs::new()))
        })?;
        if let Some(words) = difference(&found, &read(&db)?) {
            return Err(format!("compaction changed the content: {words}"));
        }
    }
    if rng.chance(50) {
        guard("close", || db.close()).map_err(|e| format!("close: {e:?}"))?;
    }
    Ok(found)
}

pub(super) fn read(db: &Db) -> Result<Content, String> {
    guard("scan", || content(db)).map_err(|e| format!("a scan failed: {e:?}"))
}

/// Opens beside the child. `still`: its files do not change, so it must succeed if the database is
/// there.
fn look<'a>(
    dir: &Path,
    who: &'a str,
    running: &Running,
    still: bool,
) -> Result<Option<(&'a str, Vec<usize>, Content)>, String> {
    let heard = running.heard();
    match guard("open read-only", || Options::new().decode_threads(0).open_read_only(dir)) {
        Ok(db) => Ok(Some((who, heard.counts(), read(&db)?))),
        Err(e) if e.kind() == ErrorKind::NotFound && !heard.opened => Ok(None),
        Err(e) if e.kind() == ErrorKind::Busy && !still => Ok(None),
        Err(e) => Err(format!("{who} (it said that it was open: {}) cannot open: {e:?}", heard.opened)),
    }
}

/// Checks what the child copied (G7): a copy that was acknowledged is a state with everything that
/// was acknowledged before it began; one that was not is such a state too, or does not open.
fn check_copies(
    dir: &Path,
    judge: &Judge,
    copies: &[(usize, usize, Vec<usize>)],
    acks: &[Vec<u64>],
    plan: Plan,
    tally: &mut Tally,
) -> Result<(), String> {
    let folder = dir.with_file_name("copies");
    for (thread, step, must) in copies {
        let copy: PathBuf = folder.join(child::copy_name(plan.round, *thread, *step));
        let done = acks.get(*thread).is_some_and(|a| a.len() > *step);
        match guard("open a copy", || Options::new().decode_threads(0).open_read_only(&copy)) {
            Ok(db) => {
                let found = read(&db)?;
                judge.find(&found, must).map_err(|e| format!("the copy {}: {e}", copy.display()))?;
                if !guard("check", || db.check(true, &mut |_| {})).is_ok_and(|r| r.is_clean()) {
                    return Err(format!("the copy {} is damaged", copy.display()));
                }
                tally.add("copies_checked", 1);
            }
            Err(e) if done => return Err(format!("the finished copy {} does not open: {e:?}", copy.display())),
            Err(_) => {}
        }
    }
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
