//! T21: the suite hunts deliberate bugs, and must find every one.
//!
//! Each bug of the engine's `sabotage` module is switched on in a process of its own, which runs the
//! units that CI runs, the kinds taking turns by the time they have had, until a unit fails. A bug is caught if a unit
//! panics, if the process dies, or if a unit does not end within `UNIT_LIMIT`. No unit knows which
//! bug is on, and no kind was made for one.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lignite::internals::sabotage::{self, Sabotage};

use super::{Kind, Tally, kinds, run_unit};

/// The variable that names the bug to a child process.
pub const VARIABLE: &str = "LIGNITE_SABOTAGE";
/// A unit that takes longer hangs.
const UNIT_LIMIT: Duration = Duration::from_secs(60);

/// How the hunt for one bug went.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Sabotage,
    /// Kind and unit that caught it, and how; none if nothing did.
    pub caught: Option<(String, u64, String)>,
    /// Seconds until then.
    pub seconds: f64,
}

/// Switches on the bug that the environment names, if any: the first thing that a process does.
pub fn activate_from_environment() -> Result<(), String> {
    let Ok(name) = std::env::var(VARIABLE) else { return Ok(()) };
    if !cfg!(feature = "sabotage") {
        return Err(format!("{VARIABLE} is set, but this program was built without the feature sabotage"));
    }
    let known = sabotage::ALL.iter().find(|s| s.name == name).ok_or(format!("there is no deliberate bug {name}"))?;
    sabotage::activate(Some(known.bug));
    Ok(())
}

/// Runs CI's units in this process, saying which, until one fails: always the next unit of the kind that
/// has had the least time so far. True if one failed.
pub fn hunt_here(only: &[String]) -> bool {
    let wanted = |k: &Kind| only.is_empty() || only.iter().any(|n| n == k.name);
    // The kind, its next unit, and the time it has had.
    let mut hunters: Vec<(Kind, u64, Duration)> =
        kinds().into_iter().filter(wanted).map(|kind| (kind, 0, Duration::ZERO)).collect();
    while let Some((kind, next, spent)) =
        hunters.iter_mut().filter(|(kind, next, _)| *next < kind.ci_units).min_by_key(|(_, _, spent)| *spent)
    {
        println!("begin {} {next}", kind.name);
        let begun = Instant::now();
        if let Err(words) = run_unit(kind, *next, &mut Tally::default()) {
            let words: String = words.replace('\n', " ").chars().take(300).collect();
            println!("caught {} {next} {words}", kind.name);
            return true;
        }
        *spent += begun.elapsed();
        *next += 1;
    }
    println!("missed");
    false
}

/// Hunts each of `bugs` with `threads` processes at a time, for at most `limit` each.
pub fn hunt_all(bugs: &[Sabotage], threads: usize, limit: Duration, only: &str) -> Vec<Hunt> {
    let next = Mutex::new(0);
    let hunts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock().unwrap_or_else(|e| e.into_inner());
                        *next += 1;
                        *next - 1
                    };
                    let Some(bug) = bugs.get(at) else { return };
                    let hunt = hunt_one(*bug, limit, only);
                    println!("{}", line(&hunt));
                    hunts.lock().unwrap_or_else(|e| e.into_inner()).push((at, hunt));
                }
            });
        }
    });
    let mut hunts = hunts.into_inner().unwrap_or_else(|e| e.into_inner());
    hunts.sort_by_key(|(at, _)| *at);
    hunts.into_iter().map(|(_, hunt)| hunt).collect()
}

fn hunt_one(bug: Sabotage, limit: Duration, only: &str) -> Hunt {
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe().expect("a process knows its program"))
        .args(["hunt", only])
        .env(VARIABLE, bug.name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program of this process can be started");
    let (sender, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().expect("it was asked for"));
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut running = (String::new(), 0);
    let caught = loop {
        let left = limit.saturating_sub(begun.elapsed());
        match lines.recv_timeout(UNIT_LIMIT.min(left.max(Duration::from_millis(1)))) {
            Ok(line) => {
                let mut words = line.splitn(4, ' ');
                match (words.next(), words.next(), words.next().and_then(|n| n.parse().ok())) {
                    (Some("begin"), Some(kind), Some(unit)) => running = (kind.to_string(), unit),
                    (Some("caught"), Some(kind), Some(unit)) => {
                        break Some((kind.to_string(), unit, words.next().unwrap_or_default().to_string()));
                    }
                    (Some("missed"), ..) => break None,
                    _ => {}
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) if left > UNIT_LIMIT => {
                break Some((running.0, running.1, format!("no end within {} s", UNIT_LIMIT.as_secs())));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                break Some((running.0, running.1, "the process died".to_string()));
            }
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let _ = child.kill();
    let _ = child.wait();
    Hunt { bug, caught, seconds }
}

/// One hunt in a line, for a person.
pub fn line(hunt: &Hunt) -> String {
    let row = hunt.bug.row.map_or(String::from("   "), |row| format!("{row:>3}"));
    match &hunt.caught {
        Some((kind, unit, words)) => {
            let words: String = words.chars().take(100).collect();
            format!("{row} {:<28} {kind} unit {unit} after {:.1} s: {words}", hunt.bug.name, hunt.seconds)
        }
        None => format!("{row} {:<28} NOT CAUGHT in {:.0} s", hunt.bug.name, hunt.seconds),
    }
}

/// The table of TESTING.md.
pub fn report(hunts: &[Hunt]) -> String {
    let caught = hunts.iter().filter(|h| h.caught.is_some()).count();
    let rows = hunts.iter().filter(|h| h.bug.row.is_some()).count();
    let mut out =
        format!("{caught} of {} caught; {rows} of them name the real bug they were made after.\n\n", hunts.len());
    out.push_str("| row | bug | what it does wrong | caught by | unit | seconds |\n|---:|---|---|---|---:|---:|\n");
    for hunt in hunts {
        let row = hunt.bug.row.map_or(String::new(), |row| row.to_string());
        let (kind, unit) = match &hunt.caught {
            Some((kind, unit, _)) => {
                let id = super::kind(kind).map_or("", |k| k.id);
                (format!("{id} {kind}"), unit.to_string())
            }
            None => ("NOT CAUGHT".to_string(), String::new()),
        };
        out.push_str(&format!(
            "| {row} | {} | {} | {kind} | {unit} | {:.1} |\n",
            hunt.bug.name, hunt.bug.what, hunt.seconds
        ));
    }
    out
}
