//! The house rules of DESIGN 1, read off the source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lignite_tests::source::{Graph, code_lines, rust_files, tokens, workspace};

/// The crates whose modules stand on floors.
const CRATES: [&str; 3] = ["codecs/src/lib.rs", "engine/src/lib.rs", "cli/src/main.rs"];

/// The storeys of the engine, from the ground up. A module belongs to the storey of the longest
/// prefix of its path that is named here, and imports only from its own storey and those below.
const STOREYS: [(&str, &[&str]); 4] = [
    (
        "ground",
        &[
            "error", "coding", "checksum", "clock", "sync", "slice", "fs", "cache", "metrics", "event", "arena",
            "buffer", "pages", "pool", "sabotage",
        ],
    ),
    (
        "formats",
        &[
            "key",
            "options",
            "filename",
            "field",
            "header",
            "frame",
            "record",
            "wal",
            "batch",
            "tombstone",
            "iter",
            "memtable",
        ],
    ),
    ("mechanics", &["table", "tables", "version", "read", "flush", "compaction", "tune"]),
    (
        "engine",
        &["recovery", "store", "write", "worker", "check", "repair", "db", "format_examples", "internals", "crate"],
    ),
];

#[test]
fn no_import_goes_round_in_a_circle() {
    let mut faults = Vec::new();
    for root in CRATES {
        let graph = Graph::read(&workspace().join(root));
        for knot in graph.cycles() {
            let edges: Vec<String> = knot
                .iter()
                .flat_map(|m| graph.imports[m].iter().filter(|t| knot.contains(t)).map(move |t| format!("{m} -> {t}")))
                .collect();
            faults.push(format!("{root}: a cycle of {} modules: {}", knot.len(), edges.join(", ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_engine_imports_only_downwards() {
    let graph = Graph::read(&workspace().join("engine/src/lib.rs"));
    let storey = |module: &str| {
        STOREYS.iter().position(|(_, modules)| {
            let top = module.split("::").next().unwrap();
            modules.contains(&top)
        })
    };
    let mut faults = Vec::new();
    for (module, targets) in &graph.imports {
        let Some(own) = storey(module) else {
            faults.push(format!("{module} stands on no storey: give it one in tests/suite/tidy.rs"));
            continue;
        };
        for target in targets {
            match storey(target) {
                Some(theirs) if theirs > own => {
                    faults.push(format!("{module} ({}) imports {target} ({})", STOREYS[own].0, STOREYS[theirs].0))
                }
                _ => {}
            }
        }
        if module != "crate" && module != "internals" && targets.contains("crate") {
            faults.push(format!("{module} imports from the root of the crate: name the module that defines it"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_frame_and_options_know_the_codecs() {
    let graph = Graph::read(&workspace().join("engine/src/lib.rs"));
    let allowed = ["frame", "options", "crate", "internals"];
    let naming: Vec<&String> = graph
        .modules
        .iter()
        .filter(|(module, file)| {
            let text = std::fs::read_to_string(file).unwrap();
            tokens(&text).iter().any(|t| t == "lignite_codecs") && !allowed.contains(&module.as_str())
        })
        .map(|(module, _)| module)
        .collect();
    assert!(naming.is_empty(), "these modules name lignite_codecs: {naming:?}");
}

#[test]
fn every_file_is_reached_by_a_mod_line() {
    let mut dead = Vec::new();
    for root in CRATES {
        dead.extend(Graph::read(&workspace().join(root)).dead);
    }
    let suite = Graph::read(&workspace().join("tests/suite/main.rs"));
    dead.extend(suite.dead);
    let harness = Graph::read(&workspace().join("tests/src/lib.rs"));
    dead.extend(harness.dead.into_iter().filter(|f| !f.ends_with("xtask.rs")));
    assert!(dead.is_empty(), "no mod line leads to {dead:?}");
}

#[test]
fn nothing_is_left_to_do() {
    // Written in two halves, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let macros = [concat!("db", "g!"), concat!("to", "do!"), concat!("unimpl", "emented!")];
    let mut found = Vec::new();
    for file in every_source_file() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let tagged = line.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| words.contains(&w));
            if tagged || macros.iter().any(|m| line.contains(m)) {
                found.push(format!("{}:{}: {}", file.display(), n + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_stands_only_where_it_is_named() {
    let named = [
        "codecs/src/zdict.rs",
        "engine/src/arena.rs",
        "engine/src/buffer.rs",
        "engine/src/fs/mapped.rs",
        "engine/src/memtable/tree.rs",
        "engine/src/pages.rs",
    ];
    let mut found = Vec::new();
    for krate in ["codecs", "engine", "cli"] {
        for file in rust_files(&workspace().join(krate).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            if tokens(&text).iter().any(|t| t == "unsafe") {
                let name = file.strip_prefix(workspace()).unwrap().to_str().unwrap().to_string();
                let (n_uses, n_notes) = (
                    text.matches("unsafe {").count() + text.matches("unsafe impl").count(),
                    text.matches("// SAFETY: ").count(),
                );
                assert!(n_uses <= n_notes, "{name} has {n_uses} uses of unsafe code, {n_notes} of them with a note");
                found.push(name);
            }
        }
    }
    found.sort();
    assert_eq!(
        found, named,
        "unsafe code stands elsewhere than it is named. A module that needs it has duties: ARCHITECTURE.md names \
         it, a safe twin stands beside it as its oracle, each use says why it is sound, and `.ci/run` runs its \
         tests under Miri (TESTING.md, \"Models, sanitizers, and what is not covered\")"
    );
}

#[test]
fn every_ban_names_the_allowed_door() {
    let text = std::fs::read_to_string(workspace().join("engine/clippy.toml")).unwrap();
    let bans: Vec<&str> = text.lines().filter(|l| l.trim_start().starts_with("{ path")).collect();
    assert!(bans.len() >= 40, "only {} bans", bans.len());
    for ban in &bans {
        assert!(ban.contains("reason = \""), "this ban names no door: {ban}");
    }
    for path in ["std::fs::File::open", "std::time::Instant::now", "std::thread::spawn", "u64::to_ne_bytes"] {
        assert!(bans.iter().any(|b| b.contains(&format!("\"{path}\""))), "{path} is not banned");
    }
}

/// A report of sizes and floors. It never fails.
#[test]
fn report() {
    for root in CRATES {
        let graph = Graph::read(&workspace().join(root));
        let sizes: BTreeMap<&String, usize> = graph
            .modules
            .iter()
            .map(|(module, file)| (module, code_lines(&std::fs::read_to_string(file).unwrap())))
            .collect();
        println!("{root}: {} modules, {} lines of code", sizes.len(), sizes.values().sum::<usize>());
        if !graph.cycles().is_empty() {
            continue;
        }
        let mut floors: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (module, floor) in graph.floors() {
            floors.entry(floor).or_default().push(format!("{module} ({})", sizes[&module]));
        }
        for (floor, modules) in floors.iter().rev() {
            println!("  floor {floor:>2}: {}", modules.join(" "));
        }
    }
}

fn every_source_file() -> Vec<PathBuf> {
    let mut out = Vec::new();
    for folder in ["codecs", "engine", "cli", "tests", "benches", "fuzz"] {
        let folder: PathBuf = workspace().join(folder);
        out.extend(rust_files(&folder).into_iter().filter(|f| !has_folder(f, "target")));
        out.extend([folder.join("Cargo.toml")].into_iter().filter(|f| f.exists()));
    }
    out
}

fn has_folder(file: &Path, name: &str) -> bool {
    file.components().any(|c| c.as_os_str() == name)
}
