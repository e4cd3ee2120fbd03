//! Which test holds which guarantee of RELIABILITY 3: read off the doc comments of the tests.
//!
//! A test holds a guarantee if the doc comment right above its `#[test]` names it, such as `G15`; a
//! kind of the programme does if the head of its module does, or the comment above its `Kind`.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{rust_files, workspace};

/// The guarantees, by number.
pub const ALL: std::ops::RangeInclusive<u32> = 1..=31;

/// Guarantees of features that do not exist yet: transactions, and restore. This list may only shrink.
/// The parts of G5 about `clear` and of G7 about backups wait for those features too.
pub const NOT_BUILT: [u32; 2] = [26, 29];

/// The tests that name each guarantee, as `file: test`.
pub fn map() -> BTreeMap<u32, BTreeSet<String>> {
    let mut map: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for folder in ["tests/suite", "tests/src/programme", "engine/src", "cli/src", "codecs/src"] {
        for file in rust_files(&workspace().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let name = file.strip_prefix(workspace()).unwrap_or(&file).display().to_string();
            for (guarantee, test) in named(&text, folder == "tests/src/programme") {
                map.entry(guarantee).or_default().insert(format!("{name}: {test}"));
            }
        }
    }
    map
}

/// The guarantees that a file's tests name.
fn named(text: &str, is_kind: bool) -> Vec<(u32, String)> {
    let mut out = Vec::new();
    let mut docs = String::new();
    let mut is_test = false;
    if is_kind && text.contains("Kind {") {
        let head: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        out.extend(numbers(&head).into_iter().map(|n| (n, "the kind".to_string())));
    }
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
            docs.push(' ');
        } else if line.starts_with("#[test]") {
            is_test = true;
        } else if line.starts_with("#[") {
        } else {
            if is_test && let Some(name) = line.strip_prefix("fn ").and_then(|l| l.split('(').next()) {
                out.extend(numbers(&docs).into_iter().map(|n| (n, name.to_string())));
            }
            docs.clear();
            is_test = false;
        }
    }
    out
}

/// The guarantees that words name: `G` and a number, ranges such as `G24-G25` by their ends.
fn numbers(words: &str) -> Vec<u32> {
    let parts = words.split(|c: char| !c.is_ascii_alphanumeric());
    parts.filter_map(|w| w.strip_prefix('G')?.parse().ok()).filter(|n| ALL.contains(n)).collect()
}

/// The table of TESTING.md.
pub fn table() -> String {
    let map = map();
    let mut out = "| guarantee | tests that name it |\n|---|---|\n".to_string();
    for n in ALL {
        let tests = match map.get(&n) {
            Some(tests) => {
                let shown: Vec<String> = tests.iter().map(|t| format!("`{t}`")).collect();
                let more = if shown.len() > 6 { format!(" and {} more", shown.len() - 6) } else { String::new() };
                format!("{}{more}", shown[..shown.len().min(6)].join(", "))
            }
            None if NOT_BUILT.contains(&n) => "not built: its feature does not exist yet".to_string(),
            None => "NONE".to_string(),
        };
        out.push_str(&format!("| G{n} | {tests} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_above_tests_only() {
        let text = "/// Holds G3 and (G4).\n#[test]\nfn a() {}\n/// G5\nfn helper() {}\n/// G6\n#[test]\n#[cfg(unix)]\nfn b() {}\n";
        assert_eq!(named(text, false), [(3, "a".into()), (4, "a".into()), (6, "b".into())]);
        assert_eq!(named("//! T1 (G2, G99).\nKind { }\n", true), [(2, "the kind".into())]);
    }
}
