//! `stats`: counters and sizes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lignite::{CompressionReport, FamilyStats, Stats};
use serde::Serialize;

use super::files::Files;
use super::shape::{CodecDocument, LevelDocument};
use crate::args::FormatArgs;
use crate::context::{Context, open_read};
use crate::exit::{Exit, Outcome};
use crate::output::{Cell, Report, Table};

/// Show counters, memory, log and levels. Counters begin at 0 with each open.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite stats DB
  lignite stats DB --cf packages --json")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// Only this column family; without it, every one.
    #[arg(long, value_name = "NAME")]
    cf: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    read_only: bool,
    sequence: u64,
    counters: BTreeMap<&'static str, u64>,
    log: Log,
    manifest: Manifest,
    memory: Memory,
    snapshots: Snapshots,
    recovered: Recovered,
    health: Health,
    decode_threads: u64,
    families: Vec<Family>,
}

#[derive(Serialize)]
struct Log {
    segments: u64,
    bytes: u64,
    pinned_by: Option<String>,
}

#[derive(Serialize)]
struct Manifest {
    number: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Memory {
    budget_bytes: u64,
    cache_used_bytes: u64,
    cache_capacity_bytes: u64,
    memtable_bytes: u64,
    index_filter_bytes: u64,
}

#[derive(Serialize)]
struct Snapshots {
    count: u64,
    oldest_sequence: Option<u64>,
}

#[derive(Serialize)]
struct Recovered {
    batches: u64,
    log_bytes: u64,
    torn_tail_bytes: u64,
    nanos: u64,
    clean: bool,
}

#[derive(Serialize)]
struct Health {
    poisoned: Option<String>,
    background_error: Option<String>,
    stalled: bool,
}

#[derive(Serialize)]
struct Family {
    name: String,
    memtable_bytes: u64,
    memtable_entries: u64,
    sealed_memtables: u64,
    pending_compaction_bytes: u64,
    entries: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    levels: Vec<LevelDocument>,
    codecs: Vec<CodecDocument>,
    /// None if the tables cannot be looked into.
    compression: Option<Compression>,
}

/// What was promised of tables when they were written, and what came of it.
#[derive(Serialize)]
struct Compression {
    promised_tables: u64,
    raw_bytes: u64,
    promised_bytes: u64,
    stored_bytes: u64,
    promised_decode_nanos: u64,
    decode_nanos: u64,
    promised_decode_p99_nanos: u64,
    decode_p99_nanos: u64,
    owed_bytes: u64,
    dictionaries: Vec<Dictionary>,
}

#[derive(Serialize)]
struct Dictionary {
    hash: String,
    bytes: u64,
    tables: u64,
    gain: f64,
    memory_bytes: u64,
}

impl Compression {
    fn of(report: &CompressionReport) -> Compression {
        let dictionary = |d: &lignite::DictionaryUse| Dictionary {
            hash: format!("{:016x}", d.hash),
            bytes: d.len,
            tables: d.tables,
            gain: d.gain,
            memory_bytes: d.memory_bytes,
        };
        Compression {
            promised_tables: report.tables,
            raw_bytes: report.raw_bytes,
            promised_bytes: report.promised_bytes,
            stored_bytes: report.stored_bytes,
            promised_decode_nanos: report.promised_decode_nanos,
            decode_nanos: report.decode_nanos,
            promised_decode_p99_nanos: report.promised_decode_nanos_p99,
            decode_p99_nanos: report.decode_nanos_p99,
            owed_bytes: report.owed_bytes,
            dictionaries: report.dictionaries.iter().map(dictionary).collect(),
        }
    }
}

impl Family {
    fn of(stats: &FamilyStats, compression: Option<&CompressionReport>) -> Family {
        let codecs = stats.levels.iter().flat_map(|level| {
            level.codecs.iter().map(|(codec, counters)| CodecDocument::of(level.level, codec, counters))
        });
        Family {
            name: stats.name.clone(),
            memtable_bytes: stats.memtable_bytes,
            memtable_entries: stats.memtable_entries,
            sealed_memtables: stats.sealed_memtables as u64,
            pending_compaction_bytes: stats.pending_compaction_bytes,
            entries: stats.entries,
            raw_bytes: stats.raw_bytes,
            stored_bytes: stats.stored_bytes,
            levels: stats.levels.iter().map(LevelDocument::of).collect(),
            codecs: codecs.collect(),
            compression: compression.map(Compression::of),
        }
    }
}

/// Shows them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.db)?;
    if let Some(name) = &args.cf {
        db.column_family(name)?;
    }
    let mut stats = db.stats();
    stats.families.retain(|f| args.cf.as_ref().is_none_or(|name| *name == f.name));
    if stats.read_only {
        // A read-only open replays the log and keeps none; what lies on disk is what is meant.
        let files = Files::in_directory(&args.db)?;
        (stats.log.segments, stats.log.bytes) = (files.logs as usize, files.log_bytes);
        stats.manifest.bytes = files.manifest_bytes;
    }
    let mut compression = Vec::new();
    for family in &stats.families {
        // Damage is what `check` is for: the rest is shown all the same.
        let report = db.column_family(&family.name)?.compression_report();
        compression.push(report.inspect_err(|e| context.note(&format!("cf {}: {e}", family.name))).ok());
    }
    let mut report = Report::new(document(&stats, &compression, args), numbers(&stats));
    report.facts = Some(families(&stats).titled("column families"));
    report.more = vec![promises(&stats, &compression).titled("promised when tables were written, and found")];
    context.output().report(args.format.get(), &report)?;
    Ok(Exit::Done)
}

fn document(stats: &Stats, compression: &[Option<CompressionReport>], args: &Args) -> Document {
    Document {
        schema: "lignite.stats/1",
        path: args.db.display().to_string(),
        read_only: stats.read_only,
        sequence: stats.sequence,
        counters: stats.counters.entries().into_iter().collect(),
        log: Log {
            segments: stats.log.segments as u64,
            bytes: stats.log.bytes,
            pinned_by: stats.log.pinned_by.clone(),
        },
        manifest: Manifest { number: stats.manifest.number, bytes: stats.manifest.bytes },
        memory: Memory {
            budget_bytes: stats.memory.budget,
            cache_used_bytes: stats.memory.cache_used,
            cache_capacity_bytes: stats.memory.cache_capacity,
            memtable_bytes: stats.memory.memtables,
            index_filter_bytes: stats.memory.index_and_filter,
        },
        snapshots: Snapshots { count: stats.snapshots.count as u64, oldest_sequence: stats.snapshots.oldest_seq },
        recovered: Recovered {
            batches: stats.recovered.batches,
            log_bytes: stats.recovered.log_bytes,
            torn_tail_bytes: stats.recovered.torn_tail_bytes,
            nanos: stats.recovered.nanos,
            clean: stats.recovered.clean,
        },
        health: Health {
            poisoned: stats.health.poisoned.clone(),
            background_error: stats.health.background_error.clone(),
            stalled: stats.health.stalled,
        },
        decode_threads: stats.decode_threads as u64,
        families: stats.families.iter().zip(compression).map(|(f, c)| Family::of(f, c.as_ref())).collect(),
    }
}

fn families(stats: &Stats) -> Table {
    let mut table = Table::new(&["cf", "memtable", "tables", "bytes", "raw", "ratio", "pending compaction", "entries"]);
    for f in &stats.families {
        let totals = super::shape::Totals::of(f);
        table.row(vec![
            Cell::text(&f.name),
            Cell::Bytes(f.memtable_bytes),
            Cell::Count(totals.tables),
            Cell::Bytes(totals.bytes),
            Cell::Bytes(totals.raw_bytes),
            Cell::ratio(totals.raw_bytes, totals.bytes),
            Cell::Bytes(f.pending_compaction_bytes),
            Cell::Count(f.entries),
        ]);
    }
    table
}

/// Families whose tables carry a promise: what the choice of their compression was to cost, and what it costs.
fn promises(stats: &Stats, compression: &[Option<CompressionReport>]) -> Table {
    let mut table = Table::new(&[
        "cf",
        "tables",
        "promised",
        "found",
        "decode promised",
        "decode found",
        "p99 promised",
        "p99 found",
        "dictionary",
        "owed",
    ]);
    for (family, report) in stats.families.iter().zip(compression) {
        let Some(report) = report.as_ref().filter(|r| r.tables > 0 || r.owed_bytes > 0) else { continue };
        let nanos = |n: u64| if n == 0 { Cell::Empty } else { Cell::Nanos(n) };
        table.row(vec![
            Cell::text(&family.name),
            Cell::Count(report.tables),
            Cell::Bytes(report.promised_bytes),
            Cell::Bytes(report.stored_bytes),
            nanos(report.promised_decode_nanos),
            nanos(report.decode_nanos),
            nanos(report.promised_decode_nanos_p99),
            nanos(report.decode_nanos_p99),
            report.dictionaries.first().map_or(Cell::Empty, |d| Cell::Bytes(d.len)),
            Cell::Bytes(report.owed_bytes),
        ]);
    }
    table
}

/// Every number by name: what people scroll through and programs without JSON take.
fn numbers(stats: &Stats) -> Table {
    let mut table = Table::new(&["name", "value"]);
    let mut row = |name: &str, cell| table.row(vec![Cell::text(name), cell]);
    row("sequence", Cell::Count(stats.sequence));
    row("log_segments", Cell::Count(stats.log.segments as u64));
    row("log_size_bytes", Cell::Bytes(stats.log.bytes));
    row("log_pinned_by", stats.log.pinned_by.as_deref().map_or(Cell::Empty, Cell::text));
    row("manifest_bytes", Cell::Bytes(stats.manifest.bytes));
    row("memory_budget_bytes", Cell::Bytes(stats.memory.budget));
    row("cache_used_bytes", Cell::Bytes(stats.memory.cache_used));
    row("memtable_bytes", Cell::Bytes(stats.memory.memtables));
    row("index_filter_bytes", Cell::Bytes(stats.memory.index_and_filter));
    row("recovered_batches", Cell::Count(stats.recovered.batches));
    row("recovered_torn_tail_bytes", Cell::Bytes(stats.recovered.torn_tail_bytes));
    row("recovery_nanos", Cell::Nanos(stats.recovered.nanos));
    for (name, n) in stats.counters.entries() {
        let cell = match name {
            _ if name.ends_with("_bytes") || name.starts_with("bytes_") => Cell::Bytes(n),
            _ if name.ends_with("_nanos") => Cell::Nanos(n),
            _ => Cell::Count(n),
        };
        row(name, cell);
    }
    table
}
