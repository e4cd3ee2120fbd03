//! Carries a plan out: merges the inputs, writes what survives into new tables, checks them, and
//! returns the edit.
//!
//! Outputs are cut between user keys only: at the target size, and at table borders of the level
//! below the target, so that the next compaction of an output overlaps few tables. Range tombstones
//! are cut at the same places. Every output is read back and compared (count, order, a hash over all
//! keys, tags and values, and the range tombstones) before anybody may rely on it, and every key must
//! pass its filter and be found by its index. On any error the outputs begun are removed; inputs are
//! never touched.

use crate::compaction::job::JobContext;
use crate::compaction::{Plan, Reason, merging};
use crate::error::Result;
use crate::options::Depth;
use crate::sync::Arc;
use crate::table::{Table, TableWriteOptions};
use crate::tune::{self, Request};
use crate::version::TableMeta;

/// What a compaction did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// New tables and those described anew, by level.
    pub added: Vec<(usize, TableMeta)>,
    /// Tables taken out, by level.
    pub deleted: Vec<(usize, u64)>,
    /// Bytes of tables read.
    pub read_bytes: u64,
    /// Bytes of tables written.
    pub write_bytes: u64,
}

/// Carries `plan` out.
pub fn run(context: &JobContext<'_>, plan: &Plan) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (level, tables) in &plan.inputs {
        outcome.deleted.extend(tables.iter().map(|t| (*level, t.number())));
    }
    for (level, table) in &plan.drop_only {
        outcome.deleted.push((*level, table.number()));
        context.metrics.tables_dropped.inc();
        context.metrics.range_deleted_entries.add(table.meta.entries);
    }
    if plan.trivial_move {
        move_tables(context, plan, &mut outcome);
        return Ok(outcome);
    }
    if plan.inputs.iter().all(|(_, tables)| tables.is_empty()) {
        return Ok(outcome);
    }
    let pressed = owes(context, plan);
    let options = write_options(context, plan, pressed);
    if plan.reason == Reason::Codec && is_written_so(context, plan, &options) {
        settle_tables(plan, &mut outcome);
        return Ok(outcome);
    }
    let written = merging::run(context, plan, options, pressed)?;
    outcome.read_bytes = plan.inputs.iter().flat_map(|(_, t)| t.iter().map(|t| t.meta.size)).sum();
    outcome.write_bytes = written.iter().map(|meta| meta.size).sum();
    outcome.added = written.into_iter().map(|meta| (plan.to_level, meta)).collect();
    context.metrics.compactions.inc();
    context.metrics.compaction_read_bytes.add(outcome.read_bytes);
    context.metrics.compaction_write_bytes.add(outcome.write_bytes);
    if plan.reason.is_for_tombstones() {
        context.metrics.tombstone_compactions.inc();
    }
    Ok(outcome)
}

/// True if the outputs are to be quick to encode, and written anew later. Who pays a debt makes no new one, or it
/// would never end.
fn owes(context: &JobContext<'_>, plan: &Plan) -> bool {
    plan.order.is_none()
        && plan.reason != Reason::Codec
        && context.pressed
        && context.options.objective.is_some()
        && plan.depth != Depth::Bottom
}

/// How the outputs are to be written: as somebody ordered, or as looking at the inputs suggests. An input that
/// cannot be opened is not looked at; the merge will say what is wrong with it.
fn write_options(context: &JobContext<'_>, plan: &Plan, pressed: bool) -> TableWriteOptions {
    if let Some(order) = &plan.order {
        return order.write.clone();
    }
    context.tuning.table_options(&Request {
        options: context.options,
        depth: plan.depth,
        zeroed: plan.bottom,
        inputs: &inputs(context, plan),
        clock: &*context.clock,
        pressed,
    })
}

fn inputs(context: &JobContext<'_>, plan: &Plan) -> Vec<Arc<Table>> {
    let all = plan.inputs.iter().flat_map(|(level, files)| files.iter().map(move |file| (*level, file)));
    all.filter_map(|(level, file)| context.tables.get_at(file, context.family, level).ok()).collect()
}

/// True if the tables that owe a codec would come out as they are.
fn is_written_so(context: &JobContext<'_>, plan: &Plan, options: &TableWriteOptions) -> bool {
    let count: usize = plan.inputs.iter().map(|(_, files)| files.len()).sum();
    let tables = inputs(context, plan);
    tables.len() == count && tables.iter().all(|table| options.is_that_of(table.properties()))
}

/// They owe nothing, after all.
fn settle_tables(plan: &Plan, outcome: &mut Outcome) {
    for (level, tables) in &plan.inputs {
        for table in tables {
            let meta = TableMeta { owes_codec: false, ..table.meta.clone() };
            outcome.added.push((*level, meta));
        }
    }
}

/// A move is an edit only. A table whose codec is not the one its new depth wants is marked, to be
/// rewritten when there is nothing better to do.
fn move_tables(context: &JobContext<'_>, plan: &Plan, outcome: &mut Outcome) {
    for (level, tables) in &plan.inputs {
        for table in tables {
            let mut meta = table.meta.clone();
            let from = if *level == 0 { Depth::Young } else { plan.from_depth };
            let (options, raw) = (context.options, meta.raw_bytes);
            meta.owes_codec |= tune::owes(options, from, plan.depth, raw);
            outcome.added.push((plan.to_level, meta));
            context.metrics.trivial_moves.inc();
        }
    }
}
