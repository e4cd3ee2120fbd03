//! Reads the workspace's own source: which module imports which, and what no file may contain.
//!
//! A module is a file. Its imports are the paths in its code that begin with `crate`, `super`,
//! `self` or the name of one of its own child modules, cut at the deepest file they lead to.
//! Comments and literals do not count; test modules do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The modules of one crate and their imports.
#[derive(Debug)]
pub struct Graph {
    /// Path of every module, such as `version::edit` (the root is `crate`), and its file.
    pub modules: BTreeMap<String, PathBuf>,
    /// Which modules each one imports, itself left out.
    pub imports: BTreeMap<String, BTreeSet<String>>,
    /// Files under the folder that no `mod` line leads to.
    pub dead: Vec<PathBuf>,
}

/// What an empty path stands for.
const ROOT: &str = "crate";

impl Graph {
    /// Reads the crate whose root file is `root`, for example `engine/src/lib.rs`.
    pub fn read(root: &Path) -> Graph {
        let mut files = BTreeMap::new();
        collect(root, &[], root.parent().unwrap(), &mut files);
        let modules: BTreeMap<String, PathBuf> = files.iter().map(|(p, f)| (join(p), f.clone())).collect();
        let imports = files
            .iter()
            .map(|(path, file)| {
                let tokens = tokens(&std::fs::read_to_string(file).unwrap());
                let mut found = BTreeSet::new();
                for target in paths(&tokens, path, &modules) {
                    let deepest = (0..=target.len())
                        .rev()
                        .map(|n| join(&target[..n]))
                        .find(|name| modules.contains_key(name))
                        .unwrap();
                    if deepest != join(path) {
                        found.insert(deepest);
                    }
                }
                (join(path), found)
            })
            .collect();
        let alive: BTreeSet<&PathBuf> = modules.values().collect();
        let dead = rust_files(root.parent().unwrap()).into_iter().filter(|f| !alive.contains(f)).collect();
        Graph { modules, imports, dead }
    }

    /// The import cycles: groups of modules each of which imports, over others, itself.
    pub fn cycles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&String, BTreeSet<&String>> = self.imports.keys().map(|m| (m, self.reachable(m))).collect();
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for module in self.imports.keys() {
            if !reach[module].contains(module) || seen.contains(module) {
                continue;
            }
            let knot: Vec<String> =
                reach[module].iter().filter(|m| reach[*m].contains(module)).map(|m| (*m).clone()).collect();
            seen.extend(knot.iter().cloned());
            out.push(knot);
        }
        out
    }

    /// The floor of every module: 0 if it imports none, else one above the highest it imports.
    /// Only for a graph without cycles.
    pub fn floors(&self) -> BTreeMap<String, usize> {
        fn floor(graph: &Graph, module: &String, floors: &mut BTreeMap<String, usize>) -> usize {
            if let Some(known) = floors.get(module) {
                return *known;
            }
            let n = graph.imports[module].iter().map(|m| floor(graph, m, floors) + 1).max().unwrap_or(0);
            floors.insert(module.clone(), n);
            n
        }
        let mut floors = BTreeMap::new();
        for module in self.imports.keys() {
            floor(self, module, &mut floors);
        }
        floors
    }

    fn reachable(&self, from: &String) -> BTreeSet<&String> {
        let mut todo: Vec<&String> = self.imports[from].iter().collect();
        let mut found = BTreeSet::new();
        while let Some(module) = todo.pop() {
            if found.insert(module) {
                todo.extend(&self.imports[module]);
            }
        }
        found
    }
}

/// Every Rust file under a folder.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// Lines of code in a file: neither empty nor comment, and none behind the first test module.
pub fn code_lines(text: &str) -> usize {
    text.lines()
        .take_while(|l| l.trim() != "#[cfg(test)]")
        .filter(|l| !l.trim().is_empty() && !l.trim().starts_with("//"))
        .count()
}

fn join(path: &[String]) -> String {
    if path.is_empty() { ROOT.to_string() } else { path.join("::") }
}

/// Follows the `mod x;` lines from a file.
fn collect(file: &Path, path: &[String], folder: &Path, out: &mut BTreeMap<Vec<String>, PathBuf>) {
    let Ok(text) = std::fs::read_to_string(file) else { return };
    out.insert(path.to_vec(), file.to_path_buf());
    let tokens = tokens(&text);
    for window in tokens.windows(3) {
        if window[0] != "mod" || window[2] != ";" {
            continue;
        }
        let name = window[1].clone();
        let mut child = path.to_vec();
        child.push(name.clone());
        let flat = folder.join(format!("{name}.rs"));
        let nested = folder.join(&name).join("mod.rs");
        let below = folder.join(&name);
        collect(if flat.exists() { &flat } else { &nested }, &child, &below, out);
    }
}

/// The absolute paths that the tokens of a module name.
fn paths(tokens: &[String], module: &[String], modules: &BTreeMap<String, PathBuf>) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    // Inline modules we are inside of: how deep in braces, and the name.
    let mut inline: Vec<(usize, String)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        let token = tokens[i].as_str();
        let after_path = i > 0 && tokens[i - 1] == "::";
        match token {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inline.last().is_some_and(|(d, _)| *d == depth) {
                    inline.pop();
                }
            }
            "mod" if tokens.get(i + 2).is_some_and(|t| t == "{") => inline.push((depth, tokens[i + 1].clone())),
            _ => {}
        }
        let here = || module.iter().cloned().chain(inline.iter().map(|(_, n)| n.clone())).collect::<Vec<_>>();
        let is_child = |name: &str| {
            let mut child = module.to_vec();
            child.push(name.to_string());
            modules.contains_key(&child.join("::"))
        };
        let followed = tokens.get(i + 1).is_some_and(|t| t == "::");
        let start = match token {
            _ if after_path || !followed => None,
            "crate" => Some(Vec::new()),
            "self" => Some(here()),
            "super" => {
                let mut up = here();
                up.pop();
                Some(up)
            }
            name if inline.is_empty() && is_child(name) => {
                let mut child = module.to_vec();
                child.push(name.to_string());
                Some(child)
            }
            _ => None,
        };
        if let Some(start) = start {
            i = tree(tokens, i + 1, start, &mut out);
        } else {
            i += 1;
        }
    }
    out
}

/// Reads what follows the first name of a path, a tree of names in braces included; says where the
/// next token is.
fn tree(tokens: &[String], mut i: usize, mut path: Vec<String>, out: &mut Vec<Vec<String>>) -> usize {
    while tokens.get(i).is_some_and(|t| t == "::") {
        i += 1;
        match tokens.get(i).map(String::as_str) {
            Some("{") => {
                i += 1;
                while tokens.get(i).is_some_and(|t| t != "}") {
                    if tokens[i] == "," {
                        i += 1;
                        continue;
                    }
                    let mut branch = path.clone();
                    if tokens[i] != "self" {
                        branch.push(tokens[i].clone());
                    }
                    i = tree(tokens, i + 1, branch, out);
                    if tokens.get(i).is_some_and(|t| t == "as") {
                        i += 2;
                    }
                }
                return i + 1;
            }
            Some("super") => {
                path.pop();
                i += 1;
            }
            Some(name) if is_name(name) || name == "*" => {
                path.push(name.to_string());
                i += 1;
            }
            _ => break,
        }
    }
    out.push(path);
    i
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single marks; no comments, no literals.
pub fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut nested = 1;
            i += 2;
            while i < chars.len() && nested > 0 {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (nested, i) = (nested + 1, i + 2),
                    ('*', '/') => (nested, i) = (nested - 1, i + 2),
                    _ => i += 1,
                }
            }
        } else if c == '"' {
            i = skip_string(&chars, i);
        } else if c == '\'' {
            // A lifetime has no closing quote right behind its first character.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
            }
        } else if c.is_alphabetic() || c == '_' {
            let start = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let name: String = chars[start..i].iter().collect();
            let raw = matches!(name.as_str(), "r" | "br" | "cr") && matches!(at(i), '"' | '#');
            if raw {
                let mut hashes = 0;
                while at(i + hashes) == '#' {
                    hashes += 1;
                }
                if at(i + hashes) == '"' {
                    i += hashes + 1;
                    let close = |i: usize| at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#');
                    while i < chars.len() && !close(i) {
                        i += 1;
                    }
                    i += hashes + 1;
                    continue;
                }
            }
            if matches!(name.as_str(), "b" | "c") && at(i) == '"' {
                i = skip_string(&chars, i);
            } else if name != "b" || at(i) != '\'' {
                out.push(name);
            }
        } else if c == ':' && at(i + 1) == ':' {
            out.push("::".to_string());
            i += 2;
        } else {
            if !c.is_whitespace() {
                out.push(c.to_string());
            }
            i += 1;
        }
    }
    out
}

fn skip_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, module: &str) -> Vec<String> {
        let modules = ["crate", "a", "a::b", "c", "c::d"].map(|m| (m.to_string(), PathBuf::new())).into();
        let module: Vec<String> = module.split("::").map(String::from).collect();
        paths(&tokens(text), &module, &modules).iter().map(|p| join(p)).collect()
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        assert_eq!(named("use crate::{a::{self, b::T as U}, c};", "x"), ["a", "a::b::T", "c"]);
        assert_eq!(named("fn f() -> crate::c::d::Z { super::a::g() }", "c"), ["c::d::Z", "a::g"]);
        assert_eq!(named("pub use b::X; mod tests { use super::*; fn f() { b::y() } }", "a"), ["a::b::X", "a::*"]);
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text =
            "// crate::a::x\n/* crate::a /* */ crate::a */ \"crate::a::y\" r#\"crate::a\"# 'c' '\\'' b\"crate::a\"";
        assert!(named(text, "x").is_empty());
        assert_eq!(named("impl<'a> F<'a> for crate::c::Q {}", "x"), ["c::Q"]);
    }
}
