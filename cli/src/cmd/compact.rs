//! `compact`: rewrite tables down to the bottom level.

use std::path::PathBuf;
use std::time::Instant;

use lignite::{ColumnFamily, Db};
use serde::Serialize;

use crate::args::{FormatArgs, RangeArgs};
use crate::context::{Context, close, families, open_read, open_write};
use crate::exit::{Exit, Outcome};
use crate::output::{Cell, Format, Report, Table};

/// Rewrite tables down to the bottom level: drops what is deleted, applies the family's codecs.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite compact DB
  lignite compact DB --cf packages --from a --to b --json")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// Only this column family; without it, every one.
    #[arg(long, value_name = "NAME")]
    cf: Option<String>,
    #[command(flatten)]
    range: RangeArgs,
    /// Say what would be rewritten, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Size of a family on disk.
#[derive(Clone, Copy)]
pub struct Sizes {
    tables: u64,
    bytes: u64,
}

impl Sizes {
    /// As it is now.
    pub fn of(family: &ColumnFamily) -> Sizes {
        let stats = family.stats();
        Sizes {
            tables: stats.levels.iter().map(|l| l.tables as u64).sum(),
            bytes: stats.levels.iter().map(|l| l.bytes).sum(),
        }
    }
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    dry_run: bool,
    families: Vec<FamilyChange>,
}

#[derive(Serialize)]
struct FamilyChange {
    cf: String,
    tables_before: u64,
    bytes_before: u64,
    tables_after: Option<u64>,
    bytes_after: Option<u64>,
}

/// Compacts.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let format = args.format.get();
    if args.dry_run {
        let db = open_read(&args.db)?;
        let changes = families(&db, args.cf.as_deref())?.iter().map(|f| change(f.name(), Sizes::of(f), None)).collect();
        print(Document { schema: "lignite.compact/1", dry_run: true, families: changes }, format, context)?;
        return Ok(Exit::Done);
    }
    let db = open_write(&args.db)?;
    let chosen = families(&db, args.cf.as_deref())?;
    let before: Vec<Sizes> = chosen.iter().map(Sizes::of).collect();
    let mut progress = context.progress("compact", Some(before.iter().map(|s| s.bytes).sum()));
    let begun = Instant::now();
    let mut done = 0;
    for (family, sizes) in chosen.iter().zip(&before) {
        if args.range.is_everything() {
            family.compact()?;
        } else {
            let range = args.range.get();
            family.compact_range((range.start, range.end))?;
        }
        done += sizes.bytes;
        progress.set(done, None);
    }
    progress.finish();
    let noun = if chosen.len() == 1 { "column family" } else { "column families" };
    context.note(&format!("compacted {} {noun} in {:.2} s", chosen.len(), begun.elapsed().as_secs_f64()));
    finish("lignite.compact/1", db, chosen, before, format, context)
}

/// Closes the database and prints what changed.
pub fn finish(
    schema: &'static str,
    db: Db,
    chosen: Vec<ColumnFamily>,
    before: Vec<Sizes>,
    format: Format,
    context: &Context,
) -> Outcome {
    let families = chosen.iter().zip(before).map(|(f, before)| change(f.name(), before, Some(Sizes::of(f)))).collect();
    drop(chosen);
    close(db)?;
    print(Document { schema, dry_run: false, families }, format, context)?;
    Ok(Exit::Done)
}

fn change(cf: String, before: Sizes, after: Option<Sizes>) -> FamilyChange {
    FamilyChange {
        cf,
        tables_before: before.tables,
        bytes_before: before.bytes,
        tables_after: after.map(|s| s.tables),
        bytes_after: after.map(|s| s.bytes),
    }
}

fn print(document: Document, format: Format, context: &Context) -> Result<(), crate::exit::Failure> {
    let mut table = Table::new(&["cf", "tables_before", "bytes_before", "tables_after", "bytes_after"]);
    for f in &document.families {
        table.row(vec![
            Cell::text(&f.cf),
            Cell::Count(f.tables_before),
            Cell::Bytes(f.bytes_before),
            f.tables_after.map_or(Cell::Empty, Cell::Count),
            f.bytes_after.map_or(Cell::Empty, Cell::Bytes),
        ]);
    }
    context.output().report(format, &Report::new(document, table))
}
