//! T7: one history under many option sets.
//!
//! A unit makes a history from its number and runs it under several option sets, each compared with
//! the model as it goes; the results must be the same number for all. The sets rotate, so that
//! some tens of units have met all of them. Units of `metamorphic` are functions of their number;
//! those of `metamorphic-threads` run on real background threads and may go another way each time.
//!
//! What fails is cut down and printed with the set that it needs: put the lines into
//! `tests/data/histories/NAME`, and they are run for ever.

use std::sync::Arc;

use super::{Kind, Tally};
use crate::ops::{self, Flavour, Mix, Op};
use crate::reduce::reduce_history;
use crate::rng::Rng;
use crate::sim::{OptionSet, Outcome, Setup, run_fully, sets};

/// The situations that the histories must reach (RELIABILITY 2.2, rows 44 to 63), in which engines
/// have gone wrong: each is a counter of the engine or of the machine that runs the histories.
pub const SITUATIONS: &[&str] = &[
    "trivial_moves",
    "tombstone_compactions",
    "tombstones_dropped",
    "versions_dropped",
    "range_deleted_entries",
    "tables_dropped",
    "range_tombstone_splits",
    "range_tombstones_dropped",
    "grandparent_cuts",
    "forced_flushes",
    "slowdowns",
    "log_segments",
    "files_deleted",
    "ingested_tables",
    "ingests_to_level_0",
    "ingests_below_level_0",
    "ingests_below_other_tables",
    "maintenance_under_snapshots",
    "families_dropped_under_readers",
    "closes_under_readers",
    "readers_kept",
    "replayed_batches",
    "four_levels_deep",
    "filter_negatives",
    "filter_false_positives",
    "memtable_hits",
    "cache_misses",
];

/// Those that need background threads, and processors for them.
pub const SITUATIONS_OF_THREADS: &[&str] = &["compaction_splits"];

/// The kinds of this module.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "metamorphic",
        id: "T7",
        about: "one history of every kind of operation under several option sets, against a model",
        ci_units: 550,
        suite_units: 8,
        at_once: usize::MAX,
        ci_targets: &[("metamorphic_ops", 10_000_000), ("option_sets", 74)],
        long_targets: &[("metamorphic_ops", 200_000_000)],
        run: stepped,
    },
    Kind {
        name: "metamorphic-threads",
        id: "T7",
        about: "the same with real background threads",
        ci_units: 20,
        suite_units: 2,
        at_once: usize::MAX,
        ci_targets: &[],
        long_targets: &[],
        run: threaded,
    },
];

/// How many option sets a unit runs its history under.
const SETS: u64 = 4;
/// Operations of a history.
const OPS: usize = 6000;
/// How often a failing history may be run to make it shorter.
const TRIES: usize = 5000;
/// How many operations all these runs together may have: about a minute's worth.
const TRIED_OPS_MAX: usize = 3_000_000;

/// The history of a unit.
pub fn history(unit: u64, ops: usize) -> Vec<Op> {
    let flavour = Flavour::ALL[(unit % Flavour::ALL.len() as u64) as usize];
    let mut rng = Rng::new(unit ^ 0x7e7a);
    let keys = match flavour {
        Flavour::Versions => rng.pick(&[5, 20, 60]),
        Flavour::Volume => rng.pick(&[1000, 3000]),
        _ => rng.pick(&[30, 200, 1000]),
    };
    let mix = Mix { ops, keys, value_len: rng.pick(&[10, 60, 250]), sync_percent: 5, flavour };
    ops::generate(unit.wrapping_mul(0x9e37_79b9).wrapping_add(7), mix)
}

/// The sets without background threads, and those with.
fn kinds_of_sets() -> (&'static [Arc<OptionSet>], &'static [Arc<OptionSet>]) {
    let all = sets();
    all.split_at(all.iter().position(|s| s.threads > 0).unwrap_or(all.len()))
}

fn stepped(unit: u64, tally: &mut Tally) {
    let history = history(unit, OPS);
    let (sets, _) = kinds_of_sets();
    let n = sets.len() as u64;
    let mut first: Option<(u64, &str)> = None;
    for i in 0..SETS {
        let at = unit * SETS + i;
        let set = &sets[(at % n) as usize];
        // The first round has met each of them; then they are merely used again.
        tally.add("option_sets", u64::from(at < n));
        let results = match run_fully(&Setup::of_set(set.clone(), unit), &history) {
            Ok(outcome) => count(tally, outcome),
            Err(what) => panic!("{}", shortened(&what, set, unit, &history)),
        };
        match first {
            None => first = Some((results, &set.name)),
            Some((other, name)) if other != results => panic!(
                "the results under {} differ from those under {name}, though each equals the model: \
                 the history is ops {OPS} of metamorphic unit {unit}",
                set.name
            ),
            Some(_) => {}
        }
    }
}

fn threaded(unit: u64, tally: &mut Tally) {
    let history = history(unit ^ 0x7_0000, OPS);
    let (_, sets) = kinds_of_sets();
    let set = &sets[(unit % sets.len() as u64) as usize];
    match run_fully(&Setup::of_set(set.clone(), unit), &history) {
        Ok(outcome) => drop(count(tally, outcome)),
        Err(what) => panic!("{}", shortened(&what, set, unit, &history)),
    }
}

fn count(tally: &mut Tally, outcome: Outcome) -> u64 {
    for (name, times) in
        SITUATIONS.iter().chain(SITUATIONS_OF_THREADS).filter_map(|name| Some((name, outcome.reached.get(name)?)))
    {
        tally.add(&format!("reached_{name}"), *times);
    }
    tally.add("metamorphic_ops", outcome.done);
    outcome.results
}

/// A failing history in as few lines as possible, under the plainest set that it fails with.
pub fn shortened(what: &str, set: &Arc<OptionSet>, seed: u64, history: &[Op]) -> String {
    let at = what.strip_prefix("operation ").and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
    // Real threads may not fail the same way twice: then the whole history is the report. In the hunt
    // for deliberate bugs nobody reads it.
    let hunting = std::env::var_os(super::sabotage::VARIABLE).is_some();
    let tries = if set.threads == 0 && !hunting { TRIES } else { 0 };
    let quiet = Quiet::new();
    let mut tried_ops = 0;
    let mut fails = |set: &Arc<OptionSet>, ops: &[Op]| {
        tried_ops += ops.len();
        if tried_ops > TRIED_OPS_MAX { None } else { run_fully(&Setup::of_set(set.clone(), seed), ops).err() }
    };
    let short = reduce_history(history, at, tries, |ops| fails(set, ops).is_some());
    let plainest = sets().iter().filter(|s| s.threads == set.threads && tries > 0).take(40);
    let mut plainest = plainest.into_iter();
    let plainest = plainest.find(|s| fails(s, &short).is_some()).unwrap_or(set);
    let short = match plainest.name == set.name {
        true => short,
        false => reduce_history(&short, None, TRIES, |ops| fails(plainest, ops).is_some()),
    };
    let now = if tries > 0 { fails(plainest, &short) } else { None };
    drop(quiet);
    let shown = if short.len() < 300 { ops::print(&short) } else { format!("{} operations\n", short.len()) };
    let now = now.map_or(String::new(), |now| format!("cut down to: {now}\n"));
    format!("under {}: {what}\n{now}# set {}\n# seed {seed}\n{shown}", set.name, plainest.name)
}

/// Keeps panics that are caught from being printed while a history is cut down.
struct Quiet(Option<Box<dyn Fn(&std::panic::PanicHookInfo<'_>) + Sync + Send + 'static>>);

impl Quiet {
    fn new() -> Quiet {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        Quiet(Some(hook))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            std::panic::set_hook(hook);
        }
    }
}

/// Runs a kept history: the lines `# set NAME` and `# seed N` say under which options.
pub fn run_kept(text: &str) -> Result<(), String> {
    let head = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let seed = head("# seed ").and_then(|s| s.parse().ok()).unwrap_or(1);
    let history = ops::parse(text)?;
    let setup = match head("# set ") {
        Some(name) => {
            Setup::of_set(OptionSet::named(name).ok_or_else(|| format!("there is no option set {name}"))?, seed)
        }
        None => Setup::new(Arc::new(lignite::internals::fs::mem::MemFs::new()), seed),
    };
    run_fully(&setup, &history).map(drop)
}
