//! The README's command lines do what the README shows.
//!
//! Each `console` block is a session in one directory: lines that begin with `$ ` are run by the
//! shell, the lines behind them are what stands on the terminal then; `[..]` in a line stands for
//! anything, and measured sizes and times may differ. `LIGNITE_REWRITE=1` writes the output into the README, keeping lines that match.

use std::process::Command;

use lignite_tests::source::workspace;

use crate::cli::binary;

#[test]
fn the_sessions_of_the_readme_are_real() {
    let path = workspace().join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut actual = String::new();
    let mut sessions = 0;
    let mut rest = text.as_str();
    while let Some(begin) = rest.find("```console\n") {
        let (before, session) = rest.split_at(begin + "```console\n".len());
        let end = session.find("```").expect("the block ends");
        actual.push_str(before);
        actual.push_str(&run(&session[..end]));
        rest = &session[end..];
        sessions += 1;
    }
    actual.push_str(rest);
    assert!(sessions > 0, "the README shows no session");
    if std::env::var_os("LIGNITE_REWRITE").is_some() {
        std::fs::write(&path, &actual).unwrap();
    } else {
        assert_eq!(actual, text, "LIGNITE_REWRITE=1 writes the README anew");
    }
}

/// The session as it really goes; expected lines that match what came are kept as they are.
fn run(session: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut out = String::new();
    let mut lines = session.lines().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("not a command: {line}"));
        let mut expected = Vec::new();
        while let Some(shown) = lines.next_if(|l| !l.starts_with("$ ")) {
            expected.push(shown);
        }
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(dir.path())
            .env("PATH", &path)
            .env("COLUMNS", "100")
            .output()
            .unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        out.push_str(line);
        out.push('\n');
        for (i, actual) in shown.lines().enumerate() {
            let kept = expected.get(i).filter(|e| matches(e, actual));
            out.push_str(kept.unwrap_or(&actual));
            out.push('\n');
        }
    }
    out
}

/// True if `pattern`, in which `[..]` stands for anything, is `line`. Sizes and times may differ.
fn matches(pattern: &str, line: &str) -> bool {
    if unmeasured(pattern) == unmeasured(line) {
        return true;
    }
    let mut parts = pattern.split("[..]");
    let first = parts.next().unwrap();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        None => rest.is_empty(),
        Some(last) => line.ends_with(last),
    }
}

/// A line without its numbers if it has sizes or times in it, with single spaces.
fn unmeasured(line: &str) -> String {
    let measured = line.split_whitespace().any(|word| word == "B" || word == "s");
    let words = line.split_whitespace().filter(|w| !(measured && w.starts_with(|c: char| c.is_ascii_digit())));
    words.collect::<Vec<_>>().join(" ")
}
