//! `cf`: column families.

use std::path::PathBuf;

use lignite::{CfOptions, ErrorKind, FamilyStats};
use serde::Serialize;

use super::shape::{OptionsDocument, Totals};
use crate::args::{FamilyOptions, FormatArgs};
use crate::context::{Context, close, open_read, open_write};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format, Report, Table};

/// List, create, drop or change column families.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite cf list DB
  lignite cf create DB packages --codec zstd:3")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the column families with their options and sizes.
    #[command(before_help = "Examples:
  lignite cf list DB
  lignite cf list DB --json")]
    List {
        /// The database.
        db: PathBuf,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Make a column family.
    #[command(before_help = "Examples:
  lignite cf create DB packages --codec zstd:3
  lignite cf create DB logs --codec lz4 --bottom-codec zstd:3 --block-size 16KiB")]
    Create {
        /// The database.
        db: PathBuf,
        /// Its name.
        name: String,
        /// Do nothing if it is there.
        #[arg(long)]
        if_missing: bool,
        #[command(flatten)]
        options: FamilyOptions,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Drop a column family with everything in it; needs --yes.
    #[command(before_help = "Examples:
  lignite cf drop DB logs --dry-run
  lignite cf drop DB logs --yes")]
    Drop {
        /// The database.
        db: PathBuf,
        /// Its name.
        name: String,
        /// Say what would be dropped, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Do it.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Change options of a column family; they hold for blocks written from then on.
    #[command(before_help = "Examples:
  lignite cf set DB logs --bottom-codec zstd:9+dict
  lignite cf set DB logs --objective decode:20us   # the engine measures and chooses")]
    Set {
        /// The database.
        db: PathBuf,
        /// Its name.
        name: String,
        #[command(flatten)]
        options: FamilyOptions,
        #[command(flatten)]
        format: FormatArgs,
    },
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    families: Vec<Family>,
}

#[derive(Serialize)]
struct Change {
    schema: &'static str,
    action: &'static str,
    changed: bool,
    family: Family,
}

#[derive(Serialize)]
struct Family {
    name: String,
    id: u32,
    #[serde(flatten)]
    totals: Totals,
    options: OptionsDocument,
}

impl Family {
    fn of(stats: &FamilyStats) -> Family {
        Family {
            name: stats.name.clone(),
            id: stats.id,
            totals: Totals::of(stats),
            options: OptionsDocument::of(&stats.options),
        }
    }
}

/// Does it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    match &args.action {
        Action::List { db, format } => {
            let db = open_read(db)?;
            let stats = db.stats();
            let document =
                Document { schema: "lignite.cf-list/1", families: stats.families.iter().map(Family::of).collect() };
            context.output().report(format.get(), &Report::new(document, table(&stats.families)))?;
            Ok(Exit::Done)
        }
        Action::Create { db, name, if_missing, options, format } => {
            let options = options.apply(CfOptions::new())?;
            let db = open_write(db)?;
            let changed = match db.create_column_family(name, options) {
                Ok(_) => true,
                Err(e) if *if_missing && e.kind() == ErrorKind::AlreadyExists => false,
                Err(e) => return Err(e.into()),
            };
            let stats = db.column_family(name)?.stats();
            close(db)?;
            tell("create", changed, &stats, format.get(), context)
        }
        Action::Drop { db, name, dry_run, yes, format } => {
            if *dry_run || !*yes {
                let db = open_read(db)?;
                let stats = db.column_family(name)?.stats();
                let totals = Totals::of(&stats);
                let plan = format!(
                    "would drop column family {name}: {}, {}, about {} keys",
                    output::counted(totals.tables, "table"),
                    output::bytes(totals.bytes),
                    output::count(stats.entries)
                );
                if !*dry_run {
                    return Err(Failure::refused(format!("{plan}; nothing was changed; add --yes to do it")));
                }
                if format.get() != Format::Table {
                    return tell("drop", false, &stats, format.get(), context);
                }
                let mut out = context.output();
                out.line(&plan)?;
                out.flush()?;
                return Ok(Exit::Done);
            }
            let db = open_write(db)?;
            let stats = db.column_family(name)?.stats();
            db.drop_column_family(name)?;
            close(db)?;
            tell("drop", true, &stats, format.get(), context)
        }
        Action::Set { db, name, options, format } => {
            if options.is_empty() {
                return Err(Failure::usage("give at least one option to change; see: lignite cf set --help"));
            }
            let db = open_write(db)?;
            let kept = db.column_family(name)?.options();
            let new = options.apply(kept.clone())?;
            let changed = new != kept;
            if changed {
                db.set_options(name, new)?;
            }
            let stats = db.column_family(name)?.stats();
            close(db)?;
            context.note("the options hold for blocks written from now on; lignite recompress rewrites the others");
            tell("set", changed, &stats, format.get(), context)
        }
    }
}

fn tell(action: &'static str, changed: bool, stats: &FamilyStats, format: Format, context: &Context) -> Outcome {
    if format != Format::Table {
        let document = Change { schema: "lignite.cf/1", action, changed, family: Family::of(stats) };
        context.output().report(format, &Report::new(document, table(std::slice::from_ref(stats))))?;
    }
    Ok(Exit::Done)
}

fn table(families: &[FamilyStats]) -> Table {
    let mut table = Table::new(&["cf", "codec", "block", "dictionary", "objective", "tables", "bytes", "raw", "ratio"]);
    for stats in families {
        let totals = Totals::of(stats);
        table.row(vec![
            Cell::text(&stats.name),
            Cell::text(stats.options.compression.to_string()),
            Cell::BlockSize(stats.options.block_size as u64),
            Cell::text(stats.options.dictionary.to_string()),
            stats.options.objective.map_or(Cell::Empty, |o| Cell::text(o.to_string())),
            Cell::Count(totals.tables),
            Cell::Bytes(totals.bytes),
            Cell::Bytes(totals.raw_bytes),
            Cell::ratio(totals.raw_bytes, totals.bytes),
        ]);
    }
    table
}
