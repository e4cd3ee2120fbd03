//! Which compaction next: a pure function from a version to a plan.
//!
//! Leveled with dynamic level sizes: the last level is as large as its data, and each level above
//! has a target of a fan-out less, until the target is no larger than a base level should be. That
//! level is the *base level*; level 0 is compacted into it and the levels between stay empty. So at
//! most about a ninth of the data lies above the last level, whatever the size of the database.
//!
//! Tables wholly under a range tombstone go first, unread. Then: a level's *score* is its size by its
//! target (level 0: its tables by their limit); from 1 on it is compacted, highest score first.
//! Within a level the table goes that overlaps the next level least. A table that overlaps nothing
//! is moved. When no level is too large, tables that are mostly tombstones are rewritten, and when
//! nothing else runs those that owe a codec. While nothing is written either, what lies in level 0 is
//! merged although there is room for more.
//!
//! Two compactions never share a table, and never work on the same keys in the same levels: then the
//! outputs of each fit wherever the other has got to, and what lies below a plan's range when it is
//! made lies there when it ends.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::compaction::{Plan, Reason, RunningRange};
use crate::key::{FamilyId, KeyRange, SeqNo};
use crate::metrics::LEVELS;
use crate::options::{CfOptions, Depth};
use crate::sabotage::{self, Bug};
use crate::sync::Arc;
use crate::version::{TableFile, Version, max_upper};

/// A table is moved rather than merged only if it overlaps at most this many times its target size
/// two levels down: a move must not make the next compaction expensive.
const MOVE_OVERLAP_MAX: u64 = 10;
/// A compaction takes at most this many target sizes of inputs from its upper level.
const INPUT_SIZES_MAX: u64 = 8;
/// While nothing is written, level 0 is merged into the base level if that rewrites at most this many
/// times its own size there: what a step down costs between full levels.
const IDLE_REWRITE_MAX: u64 = 10;

/// What the picker must know beside the version.
#[derive(Clone, Copy, Debug)]
pub struct PickerState<'a> {
    /// Numbers of tables that are inputs of running jobs, or must be left alone.
    pub busy: &'a BTreeSet<u64>,
    /// Ranges of running jobs.
    pub running: &'a [RunningRange],
    /// Numbers of tables that lie wholly under a range tombstone that no snapshot is older than.
    pub covered: &'a BTreeSet<u64>,
    /// Where the last compaction of each level ended.
    pub cursors: &'a [Vec<u8>; LEVELS],
    /// The oldest snapshot, or the published number if there is none.
    pub oldest_snapshot: SeqNo,
}

/// How large each level should be, and how urgently each wants compaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// The level that level 0 is compacted into.
    pub base_level: usize,
    /// The last level that holds data, at least the base level.
    pub last_level: usize,
    /// Target sizes; 0 for level 0 and above the base level.
    pub targets: [u64; LEVELS],
    /// Scores; from 1 on a level is too large.
    pub scores: [f64; LEVELS],
}

impl Shape {
    /// How deep a level lies.
    pub fn depth(&self, level: usize) -> Depth {
        if level >= self.last_level {
            Depth::Bottom
        } else if level <= self.base_level {
            Depth::Young
        } else {
            Depth::Deep
        }
    }
}

/// The shape of a version under these options.
pub fn shape(version: &Version, options: &CfOptions) -> Shape {
    let mut targets = [0; LEVELS];
    let base_max = options.base_level_size.max(1);
    let fan_out = u64::from(options.fan_out.max(2));
    let mut base_level = LEVELS - 1;
    // The last level's own data counts, at least a base level of it.
    let mut target = version.level_size(LEVELS - 1).max(base_max);
    targets[base_level] = target;
    while base_level > 1 && (target > base_max || !version.levels[1..base_level].iter().all(Vec::is_empty)) {
        base_level -= 1;
        target = (target / fan_out).max(base_max / fan_out).max(1);
        targets[base_level] = target;
    }
    let mut scores = [0.0; LEVELS];
    scores[0] = version.levels[0].len() as f64 / options.level0_trigger.max(1) as f64;
    for level in 1..LEVELS - 1 {
        let size = version.level_size(level);
        if targets[level] > 0 {
            scores[level] = size as f64 / targets[level] as f64;
        }
    }
    let last_level = version.last_level().max(base_level);
    Shape { base_level, last_level, targets, scores }
}

/// Bytes that compactions have yet to rewrite until no level is too large, roughly.
pub fn pending_bytes(version: &Version, options: &CfOptions) -> u64 {
    let shape = shape(version, options);
    let mut pending = 0;
    let mut arriving = 0;
    if version.levels[0].len() >= options.level0_trigger {
        arriving = version.level_size(0);
        pending += arriving + version.level_size(shape.base_level).min(shape.targets[shape.base_level]);
    }
    for level in shape.base_level..LEVELS - 1 {
        let size = version.level_size(level) + arriving;
        arriving = size.saturating_sub(shape.targets[level]);
        if arriving == 0 {
            continue;
        }
        // What leaves a level is merged with its share of the next one.
        let share = version.level_size(level + 1) as f64 / size.max(1) as f64;
        pending += arriving + (arriving as f64 * share.min(f64::from(options.fan_out))) as u64;
    }
    pending
}

/// The most useful compaction that can begin now.
pub fn pick(version: &Version, options: &CfOptions, state: &PickerState<'_>) -> Option<Plan> {
    let mut shape = shape(version, options);
    // What a running job already takes from a level is no reason to take more.
    for level in (1..LEVELS - 1).filter(|&level| shape.targets[level] > 0) {
        let free = version.levels[level].iter().filter(|t| !state.busy.contains(&t.number()));
        shape.scores[level] = free.map(|t| t.meta.size as f64).sum::<f64>() / shape.targets[level] as f64;
    }
    let picker = Picker { version, options, state, shape };
    if let Some(plan) = picker.covered() {
        return Some(plan);
    }
    let mut levels: Vec<usize> = (0..LEVELS - 1).filter(|l| shape.scores[*l] >= 1.0).collect();
    levels.sort_by(|a, b| shape.scores[*b].total_cmp(&shape.scores[*a]));
    let sized = levels
        .into_iter()
        .find_map(|level| if level == 0 { picker.level0(Reason::Level0) } else { picker.level(level) });
    sized.or_else(|| picker.tombstones()).or_else(|| picker.codec())
}

/// A compaction that no limit asks for, for times when nothing is written: the tables of level 0
/// become one run with what they overlap of the base level, so that reads ask one table instead of
/// many. None if that would rewrite much for little.
pub fn pick_idle(version: &Version, options: &CfOptions, state: &PickerState<'_>) -> Option<Plan> {
    if version.levels[0].is_empty() || !state.running.is_empty() {
        return None;
    }
    let picker = Picker { version, options, state, shape: shape(version, options) };
    let plan = picker.level0(Reason::Idle)?;
    let lower = plan.inputs.iter().filter(|(level, _)| *level > 0).flat_map(|(_, tables)| tables);
    let rewritten: u64 = lower.map(|t| t.meta.size).sum();
    (rewritten <= IDLE_REWRITE_MAX * version.level_size(0)).then_some(plan)
}

/// The next step of a manual compaction on `level`: takes tables that touch `range` and have numbers
/// below `older_than` one level down; at the last level, rewrites them in place. None if there is
/// nothing left to do on that level, or what is left is busy.
pub fn plan_range(
    version: &Version,
    options: &CfOptions,
    busy: &BTreeSet<u64>,
    range: &KeyRange,
    level: usize,
    older_than: u64,
) -> Option<Plan> {
    if level >= LEVELS || range.is_empty() {
        return None;
    }
    let none = BTreeSet::new();
    let cursors: [Vec<u8>; LEVELS] = Default::default();
    let state = PickerState { busy, running: &[], covered: &none, cursors: &cursors, oldest_snapshot: 0 };
    let picker = Picker { version, options, state: &state, shape: shape(version, options) };
    let last = range.limit().map_or(Bound::Unbounded, Bound::Excluded);
    let touched = version.overlapping(level, &range.first(), &last);
    let is_old = |t: &Arc<TableFile>| t.number() < older_than;
    if !touched.iter().any(is_old) {
        return None;
    }
    if level == 0 {
        // What is older must not stay above what is newer: all of them go.
        return picker.plan(Reason::Manual, 0, picker.shape.base_level, version.levels[0].clone(), false);
    }
    // A run of neighbours, so that one step stays bounded in time and space.
    let mut size = 0;
    let run = touched.into_iter().skip_while(|t| !is_old(t)).take_while(|t| {
        let first = size == 0;
        size += t.meta.size;
        is_old(t) && (first || size <= INPUT_SIZES_MAX * options.table_size)
    });
    let to_level = if level >= version.last_level() { level } else { level + 1 };
    picker.plan(Reason::Manual, level, to_level, run.collect(), false)
}

/// The plan that writes one table anew where it lies; none if it, or what it would be written over, is busy.
pub fn plan_rewrite(
    version: &Version,
    options: &CfOptions,
    busy: &BTreeSet<u64>,
    running: &[RunningRange],
    level: usize,
    table: &Arc<TableFile>,
) -> Option<Plan> {
    let none = BTreeSet::new();
    let cursors: [Vec<u8>; LEVELS] = Default::default();
    let state = PickerState { busy, running, covered: &none, cursors: &cursors, oldest_snapshot: 0 };
    let picker = Picker { version, options, state: &state, shape: shape(version, options) };
    let plan = picker.plan(Reason::Recompress, level, level, vec![table.clone()], false)?;
    // One for one: so the space that is taken meanwhile is that of one table.
    Some(Plan { target_size: u64::MAX, grandparents: Vec::new(), ..plan })
}

struct Picker<'a> {
    version: &'a Version,
    options: &'a CfOptions,
    state: &'a PickerState<'a>,
    shape: Shape,
}

impl Picker<'_> {
    fn is_free(&self, table: &TableFile) -> bool {
        !self.state.busy.contains(&table.number())
    }

    fn covered(&self) -> Option<Plan> {
        let drop_only: Vec<(usize, Arc<TableFile>)> = self
            .version
            .tables()
            .filter(|(level, t)| *level > 0 && self.state.covered.contains(&t.number()) && self.is_free(t))
            .map(|(level, t)| (level, t.clone()))
            .collect();
        let (level, _) = drop_only.first()?;
        Some(Plan { drop_only: drop_only.clone(), ..self.empty(Reason::Covered, *level, *level) })
    }

    fn level0(&self, reason: Reason) -> Option<Plan> {
        // Tables of level 0 may overlap in any way, and older ones must not be left above newer
        // ones: all of them or none.
        let tables = self.version.levels[0].clone();
        if tables.iter().any(|t| !self.is_free(t)) || self.state.running.iter().any(|r| r.from_level == 0) {
            return None;
        }
        let skipped = usize::from(sabotage::is(Bug::BaseLevelSkipped) && self.shape.base_level + 1 < LEVELS);
        self.plan(reason, 0, self.shape.base_level + skipped, tables, true)
    }

    fn level(&self, level: usize) -> Option<Plan> {
        let mut candidates: Vec<(f64, &Arc<TableFile>)> = self.version.levels[level]
            .iter()
            .filter(|t| self.is_free(t))
            .map(|t| {
                let below = self.version.overlapping(level + 1, &t.meta.smallest, &t.meta.largest);
                let bytes: u64 = below.iter().map(|t| t.meta.size).sum();
                // Tombstones make a table lighter: getting them down frees space.
                let dead = t.meta.deletes as f64 / t.meta.entries.max(1) as f64;
                (bytes as f64 / (t.meta.size.max(1) as f64 * (1.0 + dead)), t)
            })
            .collect();
        // Least overlap first; among equals, go on where the last compaction ended.
        let cursor = &self.state.cursors[level];
        candidates.sort_by(|(a, t), (b, u)| {
            let behind = |t: &TableFile| t.meta.smallest <= *cursor;
            a.total_cmp(b).then(behind(t).cmp(&behind(u))).then_with(|| t.meta.smallest.cmp(&u.meta.smallest))
        });
        candidates
            .into_iter()
            .find_map(|(_, table)| self.plan(Reason::Size, level, level + 1, vec![table.clone()], true))
    }

    fn tombstones(&self) -> Option<Plan> {
        let percent = u128::from(self.options.tombstone_percent);
        if percent == 0 {
            return None;
        }
        for level in 1..LEVELS {
            for table in &self.version.levels[level] {
                let meta = &table.meta;
                let range_deletes = u128::from(meta.range_deletes);
                let dense = (u128::from(meta.deletes) + range_deletes) * 100
                    > percent * (u128::from(meta.entries) + range_deletes);
                if !dense || !self.is_free(table) {
                    continue;
                }
                if level < self.version.last_level() {
                    let plan = self.plan(Reason::Tombstones, level, level + 1, vec![table.clone()], false);
                    if plan.is_some() {
                        return plan;
                    }
                } else if meta.seq_override.unwrap_or(meta.seq_max) <= self.state.oldest_snapshot {
                    // At the bottom it can shed them, once no snapshot needs them; before, a rewrite
                    // would gain nothing and be due again at once.
                    let plan = self.plan(Reason::Tombstones, level, level, vec![table.clone()], false);
                    if plan.is_some() {
                        return plan;
                    }
                }
            }
        }
        None
    }

    fn codec(&self) -> Option<Plan> {
        if !self.state.running.is_empty() {
            return None;
        }
        // The last level first: what lies above it will be written again anyway.
        (1..LEVELS).rev().find_map(|level| {
            let mut owing = self.version.levels[level].iter().filter(|t| t.meta.owes_codec && self.is_free(t));
            owing.find_map(|t| self.plan(Reason::Codec, level, level, vec![t.clone()], false))
        })
    }

    fn empty(&self, reason: Reason, from_level: usize, to_level: usize) -> Plan {
        Plan {
            family: FamilyId::DEFAULT,
            reason,
            from_level,
            to_level,
            inputs: Vec::new(),
            grandparents: Vec::new(),
            bottom: false,
            trivial_move: false,
            drop_only: Vec::new(),
            from_depth: self.shape.depth(from_level),
            depth: self.shape.depth(to_level),
            target_size: self.options.table_size,
            order: None,
        }
    }

    /// Completes a plan: the overlapping tables of the target level, further tables of the upper
    /// level that come for free, grandparents. None if a table of it is busy or a running job
    /// writes there.
    fn plan(
        &self,
        reason: Reason,
        from_level: usize,
        to_level: usize,
        upper: Vec<Arc<TableFile>>,
        may_move: bool,
    ) -> Option<Plan> {
        let mut upper = upper;
        let (mut smallest, mut largest) = bounds(&upper)?;
        let mut lower = Vec::new();
        if to_level != from_level {
            lower = self.version.overlapping(to_level, &smallest, &largest);
            if from_level > 0 && !lower.is_empty() {
                // Upper tables that overlap only these lower ones add no rewriting below.
                let (low, high) = bounds(&lower)?;
                let (low, high) = (low.min(smallest.clone()), max_upper(&high, &largest).clone());
                let wider = self.version.overlapping(from_level, &low, &high);
                let (s, l) = bounds(&wider)?;
                let below = self.version.overlapping(to_level, &s, &l);
                let size: u64 = wider.iter().map(|t| t.meta.size).sum();
                if below.len() == lower.len()
                    && size <= INPUT_SIZES_MAX * self.options.table_size
                    && wider.iter().all(|t| self.is_free(t))
                {
                    upper = wider;
                    (smallest, largest) = (s, l);
                }
            }
        }
        if !lower.is_empty() {
            let (s, l) = bounds(&lower)?;
            smallest = smallest.min(s);
            largest = max_upper(&largest, &l).clone();
        }
        let collides = |r: &RunningRange| {
            let levels_meet = from_level <= r.to_level && r.from_level <= to_level;
            levels_meet && r.overlaps(&smallest, &largest)
        };
        if upper.iter().chain(&lower).any(|t| !self.is_free(t)) || self.state.running.iter().any(collides) {
            return None;
        }
        let grandparents = match to_level + 1 {
            next if next < LEVELS => self.version.overlapping(next, &smallest, &largest),
            _ => Vec::new(),
        };
        let overlap: u64 = grandparents.iter().map(|t| t.meta.size).sum();
        let disjoint = from_level > 0 || are_disjoint(&upper);
        let trivial_move = may_move
            && lower.is_empty()
            && disjoint
            && to_level != from_level
            && overlap <= MOVE_OVERLAP_MAX * self.options.table_size;
        let mut asked = (smallest.clone(), largest.clone());
        if sabotage::is(Bug::BottomByUpperOnly) {
            asked = bounds(&upper[..1])?;
        }
        let bottom = !self.version.overlaps_at_or_below(to_level + 1, &asked.0, &asked.1);
        let mut plan = self.empty(reason, from_level, to_level);
        plan.inputs.push((from_level, upper));
        if !lower.is_empty() {
            plan.inputs.push((to_level, lower));
        }
        // A merge into a level that nothing deeper exists under makes the bottom.
        if to_level >= self.version.last_level() {
            plan.depth = Depth::Bottom;
        }
        Some(Plan { grandparents, bottom, trivial_move, ..plan })
    }
}

/// True if no two of these tables overlap.
fn are_disjoint(tables: &[Arc<TableFile>]) -> bool {
    let mut sorted: Vec<&Arc<TableFile>> = tables.iter().collect();
    sorted.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
    sorted.windows(2).all(|w| !crate::key::upper_contains(&w[0].meta.largest, &w[1].meta.smallest))
}

fn bounds(tables: &[Arc<TableFile>]) -> Option<(Vec<u8>, Bound<Vec<u8>>)> {
    let first = tables.first()?;
    let mut smallest = &first.meta.smallest;
    let mut largest = &first.meta.largest;
    for table in &tables[1..] {
        smallest = smallest.min(&table.meta.smallest);
        largest = max_upper(largest, &table.meta.largest);
    }
    Some((smallest.clone(), largest.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "scripts are read from the source tree")]
    use std::fmt::Write;
    use std::path::Path;

    use super::*;
    use crate::version::{Origin, TableMeta};

    /// Runs every script of tests/data/picker. A block is lines of state and commands, `----`, and
    /// the output up to an empty line. `LIGNITE_REWRITE=1` writes the output into the scripts.
    #[test]
    fn scripts() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/picker");
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty());
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            let actual = run_script(&text);
            if std::env::var_os("LIGNITE_REWRITE").is_some() {
                std::fs::write(&path, actual).unwrap();
            } else {
                assert_eq!(actual, text, "{}", path.display());
            }
        }
    }

    fn run_script(text: &str) -> String {
        let mut out = String::new();
        let mut world = World::default();
        let mut lines = text.lines();
        let mut output = String::new();
        while let Some(line) = lines.next() {
            writeln!(out, "{line}").unwrap();
            if line != "----" {
                world.step(line, &mut output);
                continue;
            }
            out.push_str(&std::mem::take(&mut output));
            out.push('\n');
            lines.by_ref().take_while(|l| !l.is_empty()).for_each(drop);
        }
        while out.ends_with("\n\n") {
            out.pop();
        }
        out
    }

    #[derive(Default)]
    struct World {
        options: CfOptions,
        level: usize,
        tables: Vec<(usize, Arc<TableFile>)>,
        busy: BTreeSet<u64>,
        running: Vec<RunningRange>,
        covered: BTreeSet<u64>,
        snapshot: SeqNo,
        cursors: [Vec<u8>; LEVELS],
    }

    impl World {
        fn step(&mut self, line: &str, output: &mut String) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some((&command, rest)) = words.split_first() else { return };
            if let Some(level) = command.strip_prefix('L') {
                self.level = level.parse().unwrap();
                return;
            }
            let version = Version::new().apply(&self.tables, &[]);
            let state = PickerState {
                busy: &self.busy,
                running: &self.running,
                oldest_snapshot: self.snapshot,
                covered: &self.covered,
                cursors: &self.cursors,
            };
            match command {
                "#" => {}
                "reset" => *self = World::default(),
                "options" => rest.iter().for_each(|word| set_option(&mut self.options, word)),
                "table" => self.tables.push((self.level, table(rest))),
                "gone" => self.tables.retain(|(_, t)| !rest.contains(&t.meta.number.to_string().as_str())),
                "busy" => self.busy = numbers(rest),
                "covered" => self.covered = numbers(rest),
                "snapshot" => self.snapshot = rest[0].parse().unwrap(),
                "cursor" => self.cursors[self.level] = rest[0].into(),
                "running" => {
                    let (smallest, largest) = bounds(rest[2]);
                    let level = |n: usize| rest[n].parse().unwrap();
                    self.running.push(RunningRange { from_level: level(0), to_level: level(1), smallest, largest });
                }
                "pick" => match pick(&version.unwrap(), &self.options, &state) {
                    Some(plan) => writeln!(output, "{plan}").unwrap(),
                    None => writeln!(output, "nothing").unwrap(),
                },
                "idle" => match pick_idle(&version.unwrap(), &self.options, &state) {
                    Some(plan) => writeln!(output, "{plan}").unwrap(),
                    None => writeln!(output, "nothing").unwrap(),
                },
                "range" => {
                    let (start, end) = if rest[1] == "all" { (Vec::new(), Bound::Unbounded) } else { bounds(rest[1]) };
                    let range = KeyRange { start: Bound::Included(start), end };
                    let below = rest.get(2).map_or(u64::MAX, |n| n.parse().unwrap());
                    let level = rest[0].parse().unwrap();
                    match plan_range(&version.unwrap(), &self.options, &self.busy, &range, level, below) {
                        Some(plan) => writeln!(output, "{plan}").unwrap(),
                        None => writeln!(output, "nothing").unwrap(),
                    }
                }
                "shape" => {
                    let shape = shape(&version.unwrap(), &self.options);
                    writeln!(output, "base L{} last L{}", shape.base_level, shape.last_level).unwrap();
                    for level in 0..LEVELS {
                        let (score, target) = (shape.scores[level], shape.targets[level]);
                        if level == 0 || target > 0 {
                            writeln!(output, "L{level} target={target} score={score:.2}").unwrap();
                        }
                    }
                }
                "pending" => writeln!(output, "{}", pending_bytes(&version.unwrap(), &self.options)).unwrap(),
                other => panic!("unknown command {other}"),
            }
        }
    }

    fn numbers(words: &[&str]) -> BTreeSet<u64> {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    /// `a..c` has both ends in it, `a..<c` not the last, `a..` no upper end.
    fn bounds(word: &str) -> (Vec<u8>, Bound<Vec<u8>>) {
        let (first, last) = word.split_once("..").unwrap();
        let last = match last.strip_prefix('<') {
            Some(last) => Bound::Excluded(last.into()),
            None if last.is_empty() => Bound::Unbounded,
            None => Bound::Included(last.into()),
        };
        (first.into(), last)
    }

    fn set_option(options: &mut CfOptions, word: &str) {
        let (name, value) = word.split_once('=').unwrap();
        let value: u64 = value.parse().unwrap();
        match name {
            "table" => options.table_size = value,
            "base" => options.base_level_size = value,
            "fan" => options.fan_out = value as u32,
            "trigger" => options.level0_trigger = value as usize,
            "tombstones" => options.tombstone_percent = value as u8,
            other => panic!("unknown option {other}"),
        }
    }

    /// `table 7 a..c size=100 seq=9 deletes=60 ranges=1 owes`
    fn table(words: &[&str]) -> Arc<TableFile> {
        let number = words[0].parse().unwrap();
        let (smallest, largest) = bounds(words[1]);
        let mut meta = TableMeta {
            number,
            origin: Origin { db_id: 1, number },
            size: 100,
            hash: 0,
            smallest,
            largest,
            seq_min: 0,
            seq_max: number,
            entries: 100,
            deletes: 0,
            range_deletes: 0,
            raw_bytes: 0,
            created: 0,
            oldest_data: 0,
            seq_override: None,
            owes_codec: false,
            unknown: Default::default(),
        };
        for word in &words[2..] {
            let (name, value) = word.split_once('=').unwrap_or((word, "0"));
            let value: u64 = value.parse().unwrap();
            match name {
                "size" => meta.size = value,
                "seq" => meta.seq_max = value,
                "deletes" => meta.deletes = value,
                "ranges" => meta.range_deletes = value,
                "owes" => meta.owes_codec = true,
                other => panic!("unknown property {other}"),
            }
        }
        TableFile::unmanaged(meta)
    }
}
