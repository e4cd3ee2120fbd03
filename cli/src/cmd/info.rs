//! `info`: what a database is and what it holds.

use std::path::PathBuf;

use serde::Serialize;

use super::files::Files;
use super::shape::{OptionsDocument, Totals};
use crate::args::FormatArgs;
use crate::context::{Context, open_read};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell, Report, Table};

/// Show what a database is: format, families, files, and what its next open costs.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite info DB
  lignite info DB --json")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    id: String,
    format: u32,
    created_unix: u64,
    clean: bool,
    sequence: u64,
    files: Files,
    torn_tail_bytes: u64,
    codecs: Vec<&'static str>,
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
    options: OptionsDocument,
}

/// Shows it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.db)?;
    let stats = db.stats();
    let document = Document {
        schema: "lignite.info/1",
        path: args.db.display().to_string(),
        id: format!("{:032x}", stats.db_id),
        format: stats.format,
        created_unix: stats.created,
        clean: stats.recovered.clean,
        sequence: stats.sequence,
        files: Files::in_directory(&args.db)?,
        torn_tail_bytes: stats.recovered.torn_tail_bytes,
        codecs: vec!["none", "lz4", "lz4hc", "snappy", "zstd", "brotli"],
        families: stats
            .families
            .iter()
            .map(|f| Family {
                name: f.name.clone(),
                id: f.id,
                totals: Totals::of(f),
                memtable_entries: f.memtable_entries,
                memtable_bytes: f.memtable_bytes,
                options: OptionsDocument::of(&f.options),
            })
            .collect(),
    };
    let mut table = Table::new(&["cf", "id", "codec", "block", "entries", "tables", "bytes", "raw", "ratio"]);
    for (f, family) in stats.families.iter().zip(&document.families) {
        table.row(vec![
            Cell::text(&f.name),
            Cell::Count(u64::from(f.id)),
            Cell::text(f.options.compression.to_string()),
            Cell::BlockSize(f.options.block_size as u64),
            Cell::Count(f.entries),
            Cell::Count(family.totals.tables),
            Cell::Bytes(family.totals.bytes),
            Cell::Bytes(family.totals.raw_bytes),
            Cell::ratio(family.totals.raw_bytes, family.totals.bytes),
        ]);
    }
    let facts = facts(&document);
    let mut report = Report::new(document, table);
    report.facts = Some(facts);
    context.output().report(args.format.get(), &report)?;
    Ok(Exit::Done)
}

fn facts(document: &Document) -> Table {
    let files = &document.files;
    let state = match (document.clean, document.torn_tail_bytes) {
        (true, _) => "closed cleanly".to_string(),
        (false, 0) => "open in another process, or not closed cleanly".to_string(),
        (false, torn) => format!("not closed cleanly; {} of torn log tail are ignored", output::bytes(torn)),
    };
    let part = |n, noun, bytes| format!("{} {}", output::counted(n, noun), output::bytes(bytes));
    let sizes = [
        part(files.tables, "table", files.table_bytes),
        part(files.logs, "log", files.log_bytes),
        part(files.manifests, "manifest", files.manifest_bytes),
    ];
    Table::facts(vec![
        ("database", Cell::text(&document.path)),
        ("format", Cell::text(format!("{}, id {}", document.format, document.id))),
        ("state", Cell::text(state)),
        ("sequence", Cell::Count(document.sequence)),
        ("files", Cell::text(sizes.join(", "))),
        ("codecs", Cell::text(document.codecs.join(" "))),
    ])
}
