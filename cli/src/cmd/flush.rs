//! `flush`: memtables to tables.

use std::path::PathBuf;

use super::compact::{Sizes, finish};
use crate::args::FormatArgs;
use crate::context::{Context, families, open_write};
use crate::exit::Outcome;

/// Write what is only in the log to tables.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite flush DB
  lignite flush DB --cf packages --json")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// Only this column family; without it, every one.
    #[arg(long, value_name = "NAME")]
    cf: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Flushes.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_write(&args.db)?;
    let chosen = families(&db, args.cf.as_deref())?;
    let before: Vec<Sizes> = chosen.iter().map(Sizes::of).collect();
    match &args.cf {
        Some(_) => chosen.iter().try_for_each(lignite::ColumnFamily::flush)?,
        None => db.flush()?,
    }
    finish("lignite.flush/1", db, chosen, before, args.format.get(), context)
}
