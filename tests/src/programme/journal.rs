//! The journal of long runs, `tests/night.jsonl`: one line a kind and run, and what they add up to.
//!
//! A line says which code it ran on: the commit, and a hash over the code of engine and codecs without
//! comments and unit tests. Sums are over the lines of one such hash; lines of other code stay as
//! history. A run that goes on where the last one of the same code stopped prolongs that line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::runner::Done;
use super::{Tally, kinds};
use crate::source::{rust_files, workspace};

/// One line: some units of one kind on one state of the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The kind.
    pub kind: String,
    /// The commit that was checked out.
    pub commit: String,
    /// Hash of the code of engine and codecs.
    pub engine: String,
    /// The first unit.
    pub first: u64,
    /// The unit behind the last.
    pub next: u64,
    /// What they counted.
    pub tally: Tally,
    /// Seconds of all its units together, on whatever many threads.
    pub seconds: f64,
    /// Units that failed.
    pub failed: Vec<String>,
}

/// The journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    /// Its lines, oldest first.
    pub lines: Vec<Line>,
}

/// Where it lies.
pub fn path() -> PathBuf {
    workspace().join("tests/night.jsonl")
}

impl Journal {
    /// Reads it; an absent file is an empty journal.
    pub fn read(path: &Path) -> Result<Journal, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Journal::default()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        let line = |(n, text): (usize, &str)| {
            Line::parse(text).ok_or(format!("{}:{}: no line of a journal", path.display(), n + 1))
        };
        let lines =
            text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(line).collect::<Result<_, _>>()?;
        Ok(Journal { lines })
    }

    /// Replaces the file.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text: String = self.lines.iter().map(|line| format!("{}\n", line.to_json())).collect();
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, text)?;
        std::fs::rename(temporary, path)
    }

    /// Adds what a run has done.
    pub fn add(&mut self, commit: &str, engine: &str, done: &Done) {
        if done.next == done.first {
            return;
        }
        let goes_on = |l: &&mut Line| {
            l.kind == done.kind.name && l.engine == engine && l.commit == commit && l.next == done.first
        };
        if let Some(line) = self.lines.iter_mut().rev().find(goes_on) {
            line.next = done.next;
            line.tally.merge(&done.tally);
            line.seconds += done.seconds;
            line.failed.extend(done.failures.iter().cloned());
            return;
        }
        self.lines.push(Line {
            kind: done.kind.name.to_string(),
            commit: commit.to_string(),
            engine: engine.to_string(),
            first: done.first,
            next: done.next,
            tally: done.tally.clone(),
            seconds: done.seconds,
            failed: done.failures.clone(),
        });
    }

    /// The unit of a kind that comes next on this code.
    pub fn next_unit(&self, kind: &str, engine: &str) -> u64 {
        self.of(engine).filter(|l| l.kind == kind).map(|l| l.next).max().unwrap_or(0)
    }

    /// What all lines of this code count, by kind.
    pub fn sums(&self, engine: &str) -> BTreeMap<String, Line> {
        let mut sums: BTreeMap<String, Line> = BTreeMap::new();
        for line in self.of(engine) {
            match sums.get_mut(&line.kind) {
                None => drop(sums.insert(line.kind.clone(), line.clone())),
                Some(sum) => {
                    sum.first = sum.first.min(line.first);
                    sum.next = sum.next.max(line.next);
                    sum.tally.merge(&line.tally);
                    sum.seconds += line.seconds;
                    sum.failed.extend(line.failed.iter().cloned());
                    sum.commit.clone_from(&line.commit);
                }
            }
        }
        sums
    }

    /// The code of the newest line.
    pub fn newest_engine(&self) -> Option<&str> {
        self.lines.last().map(|l| l.engine.as_str())
    }

    fn of<'a>(&'a self, engine: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |l| l.engine == engine)
    }
}

impl Line {
    fn to_json(&self) -> Value {
        json!({
            "kind": self.kind,
            "commit": self.commit,
            "engine": self.engine,
            "first": self.first,
            "next": self.next,
            "counts": self.tally.0,
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "failed": self.failed,
        })
    }

    fn parse(text: &str) -> Option<Line> {
        let value: Value = serde_json::from_str(text).ok()?;
        let word = |name: &str| value.get(name)?.as_str().map(str::to_string);
        let number = |name: &str| value.get(name)?.as_u64();
        let counts = value.get("counts")?.as_object()?;
        Some(Line {
            kind: word("kind")?,
            commit: word("commit")?,
            engine: word("engine")?,
            first: number("first")?,
            next: number("next")?,
            tally: Tally(counts.iter().map(|(name, n)| Some((name.clone(), n.as_u64()?))).collect::<Option<_>>()?),
            seconds: value.get("seconds")?.as_f64()?,
            failed: value.get("failed")?.as_array()?.iter().filter_map(|w| w.as_str().map(str::to_string)).collect(),
        })
    }
}

/// A hash over the code of engine and codecs: comments, empty lines and unit tests left out, so that
/// writing about the code does not make it other code.
pub fn engine_hash() -> String {
    let mut hasher = lignite::internals::checksum::FileHasher::new();
    for krate in ["codecs", "engine"] {
        let folder = workspace().join(krate).join("src");
        for file in rust_files(&folder) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines = text.lines().take_while(|l| l.trim() != "#[cfg(test)]");
            let code: Vec<&str> = lines.map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).collect();
            let name = file.strip_prefix(&folder).unwrap_or(&file).to_string_lossy().into_owned();
            // A file of nothing but unit tests is no code of the engine.
            if !code.is_empty() && !name.ends_with("tests.rs") {
                hasher.update(krate.as_bytes());
                hasher.update(name.as_bytes());
                hasher.update(code.join("\n").as_bytes());
            }
        }
    }
    format!("{:016x}", hasher.digest() as u64)
}

/// The commit that is checked out, with a mark if files differ from it.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).current_dir(workspace()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_string());
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "engine", "codecs", "tests/src"]);
    if changed.is_some_and(|c| !c.is_empty()) { format!("{commit}+") } else { commit }
}

/// How many commits lead to the one that is checked out; 0 if git does not say.
pub fn commit_count() -> usize {
    let output =
        std::process::Command::new("git").args(["rev-list", "--count", "HEAD"]).current_dir(workspace()).output();
    output.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).trim().parse().ok()).unwrap_or(0)
}

/// The table of TESTING.md.
pub fn counters_table(journal: &Journal) -> String {
    let Some(engine) = journal.newest_engine() else { return "No long run has been made yet.\n".to_string() };
    let sums = journal.sums(engine);
    let mut out = format!(
        "Code `{engine}` of engine and codecs (`cargo xtask report` says whether that is the code you have).\n\n"
    );
    out.push_str("| kind | counter | so far | of | failures | thread-seconds | do it again |\n|---|---|---:|---:|---:|---:|---|\n");
    for kind in kinds() {
        let Some(sum) = sums.get(kind.name) else { continue };
        for (n, (counter, count)) in sum.tally.0.iter().enumerate() {
            let target = kind.long_targets.iter().find(|(name, _)| name == counter);
            let of = target.map_or(String::new(), |(_, t)| grouped(*t));
            let (failures, seconds, again) = if n == 0 {
                let again = format!("`cargo xtask unit {} {} {}`", kind.name, sum.first, sum.next - sum.first);
                (sum.failed.len().to_string(), format!("{:.0}", sum.seconds), again)
            } else {
                (String::new(), String::new(), String::new())
            };
            let name = if n == 0 { format!("{} {}", kind.id, kind.name) } else { String::new() };
            out.push_str(&format!(
                "| {name} | {counter} | {} | {of} | {failures} | {seconds} | {again} |\n",
                grouped(*count)
            ));
        }
    }
    out
}

/// A number with its digits in threes.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programme::Kind;

    fn done(first: u64, next: u64) -> Done {
        let kind = Kind {
            name: "sound",
            id: "T0",
            about: "",
            ci_units: 1,
            suite_units: 1,
            at_once: 1,
            ci_targets: &[],
            long_targets: &[],
            run: |_, _| {},
        };
        let mut tally = Tally::default();
        tally.add("states", next - first);
        Done { kind, first, next, tally, seconds: 1.5, failures: vec![format!("unit {first}")] }
    }

    #[test]
    fn a_journal_comes_back_and_adds_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("night.jsonl");
        let mut journal = Journal::read(&path).unwrap();
        journal.add("c1", "e1", &done(0, 5));
        journal.add("c1", "e1", &done(5, 9));
        journal.add("c2", "e1", &done(9, 10));
        journal.add("c2", "e2", &done(0, 3));
        journal.add("c2", "e2", &done(3, 3));
        assert_eq!(journal.lines.len(), 3, "a run that goes on prolongs its line");
        journal.write(&path).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), journal);
        assert_eq!((journal.next_unit("sound", "e1"), journal.next_unit("other", "e1")), (10, 0));
        let sum = &journal.sums("e1")["sound"];
        assert_eq!((sum.tally.get("states"), sum.failed.len(), sum.seconds), (10, 3, 4.5));
        std::fs::write(&path, "{}\n").unwrap();
        assert!(Journal::read(&path).unwrap_err().contains(":1:"));
    }

    #[test]
    fn digits_in_threes() {
        assert_eq!((grouped(7), grouped(1234), grouped(10_000_000)), ("7".into(), "1 234".into(), "10 000 000".into()));
    }
}
