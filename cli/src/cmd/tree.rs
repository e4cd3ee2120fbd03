//! `tree`: the levels of each family.

use std::path::PathBuf;

use lignite::{ColumnFamily, FamilyStats, TableInfo};
use serde::Serialize;

use super::shape::{LevelDocument, OptionsDocument, Totals};
use crate::args::FormatArgs;
use crate::context::{Context, families, open_read};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell, Report, Table};
use crate::text::{self, Style};

/// Show the levels of each column family: files, sizes, ratio and how full they are.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite tree DB --cf packages
  lignite tree DB --tables          # every table with its key range")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// Only this column family; without it, every one.
    #[arg(long, value_name = "NAME")]
    cf: Option<String>,
    /// Every table with its key range.
    #[arg(long)]
    tables: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    families: Vec<Family>,
}

#[derive(Serialize)]
struct Family {
    name: String,
    id: u32,
    #[serde(flatten)]
    totals: Totals,
    memtable_entries: u64,
    memtable_bytes: u64,
    pending_compaction_bytes: u64,
    options: OptionsDocument,
    levels: Vec<LevelDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table_list: Option<Vec<TableDocument>>,
}

#[derive(Serialize)]
struct TableDocument {
    number: u64,
    level: usize,
    bytes: u64,
    raw_bytes: u64,
    entries: u64,
    deletes: u64,
    range_deletes: u64,
    sequence_min: u64,
    sequence_max: u64,
    first: String,
    last: Option<String>,
}

impl TableDocument {
    fn of(info: &TableInfo) -> TableDocument {
        TableDocument {
            number: info.number,
            level: info.level,
            bytes: info.size,
            raw_bytes: info.raw_bytes,
            entries: info.entries,
            deletes: info.deletes,
            range_deletes: info.range_deletes,
            sequence_min: info.seq_min,
            sequence_max: info.seq_max,
            first: text::show(&info.smallest, Style::Auto),
            last: match &info.largest {
                std::ops::Bound::Included(key) | std::ops::Bound::Excluded(key) => Some(text::show(key, Style::Auto)),
                std::ops::Bound::Unbounded => None,
            },
        }
    }
}

/// Shows them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.db)?;
    let chosen = families(&db, args.cf.as_deref())?;
    let all: Vec<(FamilyStats, Vec<TableInfo>)> = chosen.iter().map(|f| (f.stats(), list_of(f, args.tables))).collect();
    let document = Document {
        schema: "lignite.tree/1",
        families: all
            .iter()
            .map(|(stats, tables)| Family {
                name: stats.name.clone(),
                id: stats.id,
                totals: Totals::of(stats),
                memtable_entries: stats.memtable_entries,
                memtable_bytes: stats.memtable_bytes,
                pending_compaction_bytes: stats.pending_compaction_bytes,
                options: OptionsDocument::of(&stats.options),
                levels: stats.levels.iter().map(LevelDocument::of).collect(),
                table_list: args.tables.then(|| tables.iter().map(TableDocument::of).collect()),
            })
            .collect(),
    };
    // Programs get one table over all families; people get one each, with a line above it.
    let columns = ["cf", "level", "files", "bytes", "raw", "ratio", "entries", "deletes", "score", "fill"];
    let mut flat = Table::new(&columns);
    let mut trees = Vec::new();
    for (stats, tables) in &all {
        let mut tree = Table::new(&columns[1..]).titled(title(stats));
        for level in stats.levels.iter().filter(|l| l.tables > 0) {
            flat.row(std::iter::once(Cell::text(&stats.name)).chain(row(level)).collect());
            tree.row(row(level));
        }
        tree.row(total(Totals::of(stats)));
        trees.push(tree);
        if args.tables {
            trees.push(list(tables));
        }
    }
    let mut report = Report::new(document, flat);
    if args.format.get() == output::Format::Table {
        report.table = Table::new(&columns);
        report.more = trees;
    }
    context.output().report(args.format.get(), &report)?;
    Ok(Exit::Done)
}

fn list_of(family: &ColumnFamily, wanted: bool) -> Vec<TableInfo> {
    if wanted { family.tables() } else { Vec::new() }
}

fn title(stats: &FamilyStats) -> String {
    let memtable = if stats.memtable_entries > 0 {
        format!("   in memory {} entries", output::count(stats.memtable_entries))
    } else {
        String::new()
    };
    let objective = stats.options.objective.map(|o| format!("   objective {o}")).unwrap_or_default();
    format!(
        "cf {}   codec {}   block {}{objective}   fan-out {}{memtable}",
        stats.name,
        stats.options.compression,
        output::block_size(stats.options.block_size as u64),
        stats.options.fan_out
    )
}

fn row(level: &lignite::LevelStats) -> Vec<Cell> {
    let score = if level.score.is_finite() { level.score } else { 0.0 };
    let fill = if level.target_bytes > 0 { level.bytes as f64 / level.target_bytes as f64 } else { score };
    vec![
        Cell::text(format!("L{}", level.level)),
        Cell::Count(level.tables as u64),
        Cell::Bytes(level.bytes),
        Cell::Bytes(level.raw_bytes),
        Cell::ratio(level.raw_bytes, level.bytes),
        Cell::Count(level.entries),
        Cell::Count(level.deletes + level.range_deletes),
        Cell::Number(score, 2),
        Cell::Fill(fill),
    ]
}

fn total(totals: Totals) -> Vec<Cell> {
    vec![
        Cell::text("total"),
        Cell::Count(totals.tables),
        Cell::Bytes(totals.bytes),
        Cell::Bytes(totals.raw_bytes),
        Cell::ratio(totals.raw_bytes, totals.bytes),
        Cell::Count(totals.entries),
        Cell::text(""),
        Cell::text(""),
        Cell::text(""),
    ]
}

fn list(tables: &[TableInfo]) -> Table {
    let mut list = Table::new(&["level", "table", "bytes", "raw", "ratio", "entries", "first", "last"]);
    for info in tables {
        let document = TableDocument::of(info);
        list.row(vec![
            Cell::text(format!("L{}", info.level)),
            Cell::text(format!("{:06}.sst", info.number)),
            Cell::Bytes(info.size),
            Cell::Bytes(info.raw_bytes),
            Cell::ratio(info.raw_bytes, info.size),
            Cell::Count(info.entries),
            Cell::text(document.first),
            document.last.map_or(Cell::Empty, Cell::text),
        ]);
    }
    list
}
