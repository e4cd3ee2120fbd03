//! Chores of the workspace: `cargo xtask CHORE`.
//!
//! It is also the process that tests start and kill; see [`lignite_tests::child`].
#![allow(clippy::disallowed_methods, reason = "the ban list is the engine's; a chore uses the real system")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use lignite::internals::sabotage as sabotage_list;
use lignite_tests::child;
use lignite_tests::programme::journal::{self, Journal, grouped};
use lignite_tests::programme::runner::{self, Done, Task};
use lignite_tests::programme::{self, Kind, sabotage};

// Units say what memory they took, and let requests for it fail.
#[global_allocator]
static ALLOCATOR: lignite_tests::alloc::Counting = lignite_tests::alloc::Counting;

const USAGE: &str = "usage: cargo xtask CHORE

kinds                         lists the kinds of tests and how many units of each CI runs
unit KIND [FIRST [COUNT]]     runs COUNT units (1 if not given) from FIRST (0) on, on this thread
ci [--only KIND,..] [--threads N]
                              runs every kind's CI units and holds the counts against their targets
night --hours N [--only KIND,..] [--threads N]
                              goes on with every kind where the last run of the same code stopped,
                              furthest behind first; adds to tests/night.jsonl every minute
report                        writes the counters of tests/night.jsonl into TESTING.md
sabotage [--bugs NAME,..] [--sample N] [--only KIND,..] [--threads N] [--write yes]
                              hunts the deliberate bugs of the engine with CI's units, and fails if one
                              is not caught; --write puts the table into TESTING.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(words) = sabotage::activate_from_environment() {
        eprintln!("error: {words}");
        return ExitCode::FAILURE;
    }
    if let Some(code) = child::main(&arguments) {
        return code;
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["kinds"] => list_kinds(),
        ["unit", kind] => run_units(kind, "0", "1"),
        ["unit", kind, first] => run_units(kind, first, "1"),
        ["unit", kind, first, count] => run_units(kind, first, count),
        ["ci", ref rest @ ..] => Flags::parse(rest).and_then(|flags| run_ci(&flags)),
        ["night", ref rest @ ..] => Flags::parse(rest).and_then(|flags| run_night(&flags)),
        ["report"] => write_report(),
        ["sabotage", ref rest @ ..] => Flags::parse(rest).and_then(|flags| run_sabotage(&flags, &arguments)),
        ["hunt", only] => hunt(only),
        _ => Err(Trouble::Usage),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Usage) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(Trouble::Failed(words)) => {
            eprintln!("error: {words}");
            ExitCode::FAILURE
        }
    }
}

enum Trouble {
    Usage,
    Failed(String),
}

impl From<String> for Trouble {
    fn from(words: String) -> Trouble {
        Trouble::Failed(words)
    }
}

type Chore = Result<(), Trouble>;

/// What may follow `ci` and `night`.
struct Flags {
    only: Vec<String>,
    threads: usize,
    hours: Option<f64>,
    bugs: Vec<String>,
    write: bool,
    sample: Option<usize>,
}

impl Flags {
    fn parse(mut rest: &[&str]) -> Result<Flags, Trouble> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut flags = Flags { only: Vec::new(), threads, hours: None, bugs: Vec::new(), write: false, sample: None };
        while let [name, value, more @ ..] = rest {
            match *name {
                "--only" => flags.only = value.split(',').map(str::to_string).collect(),
                "--bugs" => flags.bugs = value.split(',').map(str::to_string).collect(),
                "--sample" => flags.sample = Some(value.parse().map_err(|_| Trouble::Usage)?),
                "--write" => flags.write = *value == "yes",
                "--threads" => flags.threads = value.parse().map_err(|_| Trouble::Usage)?,
                "--hours" => flags.hours = Some(value.parse().map_err(|_| Trouble::Usage)?),
                _ => return Err(Trouble::Usage),
            }
            rest = more;
        }
        if !rest.is_empty() {
            return Err(Trouble::Usage);
        }
        if let Some(unknown) = flags.only.iter().find(|name| programme::kind(name).is_none()) {
            return Err(format!("there is no kind {unknown}; see cargo xtask kinds").into());
        }
        Ok(flags)
    }

    fn kinds(&self) -> Vec<Kind> {
        let wanted = |k: &Kind| self.only.is_empty() || self.only.iter().any(|name| name == k.name);
        programme::kinds().into_iter().filter(wanted).collect()
    }
}

fn list_kinds() -> Chore {
    for kind in programme::kinds() {
        println!("{:<4} {:<14} {:>6} units in CI  {}", kind.id, kind.name, kind.ci_units, kind.about);
    }
    Ok(())
}

fn run_units(kind: &str, first: &str, count: &str) -> Chore {
    let kind = programme::kind(kind).ok_or(format!("there is no kind {kind}; see cargo xtask kinds"))?;
    let (Ok(first), Ok(units)) = (first.parse(), count.parse()) else { return Err(Trouble::Usage) };
    let task = Task { kind, first, units, done_before: 0.0, share_of_unit: 1.0 };
    let begun = Instant::now();
    let done = runner::run(vec![task], 1, None, true);
    print!("{}", runner::table(&done));
    verdict(&done, begun)
}

/// Says how it went; fails if any unit failed.
fn verdict(done: &[Done], begun: Instant) -> Chore {
    let failed: usize = done.iter().map(|d| d.failures.len()).sum();
    let units: u64 = done.iter().map(|d| d.next - d.first).sum();
    println!("{:.0} s", begun.elapsed().as_secs_f64());
    println!("{} passed, {failed} failed", units - failed as u64);
    if failed > 0 { Err(format!("{failed} units failed").into()) } else { Ok(()) }
}

fn run_ci(flags: &Flags) -> Chore {
    runner::quiet_panics();
    let begun = Instant::now();
    let tasks = flags.kinds().into_iter().map(runner::ci_task).collect();
    let done = runner::run(tasks, flags.threads, None, false);
    print!("{}", runner::table(&done));
    let mut missed = Vec::new();
    for d in &done {
        for (counter, target) in d.kind.ci_targets {
            let found = d.tally.get(counter);
            println!("{:<22} {:>12} of {:>12}", counter, grouped(found), grouped(*target));
            if found < *target {
                missed.push(format!("{} counted {found} {counter}; {target} were to be counted", d.kind.name));
            }
        }
    }
    verdict(&done, begun)?;
    if missed.is_empty() { Ok(()) } else { Err(missed.join("\n").into()) }
}

fn run_night(flags: &Flags) -> Chore {
    let Some(hours) = flags.hours else { return Err(Trouble::Usage) };
    runner::quiet_panics();
    let (commit, engine, path) = (journal::commit(), journal::engine_hash(), journal::path());
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(hours * 3600.0);
    let mut all: Vec<Done> = Vec::new();
    println!("commit {commit}, code {engine}, {} threads, {hours} hours", flags.threads);
    while Instant::now() < end {
        // The journal is read anew each minute: another run may have added to it.
        let mut journal = Journal::read(&path)?;
        let tasks = flags.kinds().into_iter().map(|kind| night_task(kind, &journal, &engine)).collect();
        let round_end = end.min(Instant::now() + Duration::from_secs(60));
        let done = runner::run(tasks, flags.threads, Some(round_end), false);
        for d in &done {
            journal.add(&commit, &engine, d);
        }
        journal.write(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for d in done {
            match all.iter_mut().find(|a| a.kind.name == d.kind.name) {
                Some(sum) => {
                    sum.next = d.next;
                    sum.tally.merge(&d.tally);
                    sum.seconds += d.seconds;
                    sum.failures.extend(d.failures);
                }
                None => all.push(d),
            }
        }
        println!("-- {:.0} minutes\n{}", begun.elapsed().as_secs_f64() / 60.0, runner::table(&all));
    }
    verdict(&all, begun)
}

/// Goes on with a kind: how far it is, is the share of its long target that has been counted.
fn night_task(kind: Kind, journal: &Journal, engine: &str) -> Task {
    let first = journal.next_unit(kind.name, engine);
    let sums = journal.sums(engine);
    let (mut done_before, mut share_of_unit) = (1.0, 1.0 / kind.ci_units.max(1) as f64);
    if let Some((counter, target)) = kind.long_targets.first() {
        let counted = sums.get(kind.name).map_or(0, |sum| sum.tally.get(counter));
        done_before = counted as f64 / *target as f64;
        // The rate so far, or what CI's units are made for.
        let per_unit = if first > 0 {
            counted as f64 / first as f64
        } else {
            let of_ci = kind.ci_targets.iter().find(|(name, _)| name == counter).map_or(1, |(_, n)| *n);
            of_ci as f64 / kind.ci_units.max(1) as f64
        };
        share_of_unit = per_unit.max(1e-9) / *target as f64;
    } else if let Some(sum) = sums.get(kind.name) {
        // Without a target of its own a kind gets a quarter of the time that the others take.
        let others: f64 = sums.values().map(|s| s.seconds).sum::<f64>() - sum.seconds;
        done_before = 4.0 * sum.seconds / others.max(1.0);
    }
    Task { kind, first, units: u64::MAX - first, done_before, share_of_unit }
}

/// Seconds that the hunt for one bug may take.
const HUNT_LIMIT: Duration = Duration::from_secs(300);

fn run_sabotage(flags: &Flags, arguments: &[&str]) -> Chore {
    if !cfg!(feature = "sabotage") {
        // The same again, from a program that has the bugs.
        let mut cargo = std::process::Command::new("cargo");
        cargo.args(["run", "--release", "--locked", "-p", "lignite-tests", "--features", "sabotage", "--bin", "xtask"]);
        let status = cargo.arg("--").args(arguments).status().map_err(|e| format!("cargo does not run: {e}"))?;
        return if status.success() { Ok(()) } else { Err("the hunt failed".to_string().into()) };
    }
    let known = lignite::internals::sabotage::ALL;
    if let Some(unknown) = flags.bugs.iter().find(|name| !known.iter().any(|s| s.name == **name)) {
        return Err(format!("there is no deliberate bug {unknown}").into());
    }
    let wanted = |s: &&sabotage_list::Sabotage| flags.bugs.is_empty() || flags.bugs.iter().any(|name| name == s.name);
    let mut bugs: Vec<_> = known.iter().filter(wanted).copied().collect();
    if let Some(n) = flags.sample.filter(|n| (1..bugs.len()).contains(n)) {
        // A part of the list that moves on with every commit.
        let step = bugs.len().div_ceil(n);
        bugs = bugs.into_iter().skip(journal::commit_count() % step).step_by(step).collect();
    }
    let hunts = sabotage::hunt_all(&bugs, flags.threads, HUNT_LIMIT, &flags.only.join(","));
    let missed = hunts.iter().filter(|h| h.caught.is_none()).count();
    println!("sabotage score: {} of {} caught", hunts.len() - missed, hunts.len());
    if flags.write {
        write_part("sabotage", &sabotage::report(&hunts))?;
    }
    println!("{} passed, {missed} failed", hunts.len() - missed);
    if missed > 0 { Err(format!("{missed} deliberate bugs were not caught").into()) } else { Ok(()) }
}

fn hunt(only: &str) -> Chore {
    runner::quiet_panics();
    let only: Vec<String> = only.split(',').filter(|n| !n.is_empty()).map(str::to_string).collect();
    sabotage::hunt_here(&only);
    Ok(())
}

/// Replaces a part of TESTING.md that a chore writes.
fn write_part(name: &str, part: &str) -> Chore {
    let path = lignite_tests::source::workspace().join("TESTING.md");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (begin, end) = (format!("<!-- begin of {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (Some(from), Some(to)) = (text.find(&begin), text.find(&end)) else {
        return Err(format!("{} has lost its marks for {name}", path.display()).into());
    };
    let new = format!("{}{begin}\n{part}\n{}", &text[..from], &text[to..]);
    std::fs::write(&path, new).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn write_report() -> Chore {
    let journal = Journal::read(&journal::path())?;
    write_part("counters", &journal::counters_table(&journal))?;
    write_part("guarantees", &lignite_tests::guarantees::table())?;
    let (have, counted) = (journal::engine_hash(), journal.newest_engine().unwrap_or("none").to_string());
    println!("code here {have}, code that was counted {counted}");
    Ok(())
}
