//! `checkpoint`: a copy of the database that shares its tables.

use std::path::PathBuf;

use serde::Serialize;

use super::destination;
use crate::args::FormatArgs;
use crate::context::{Context, close, open_write};
use crate::exit::{Exit, Outcome};
use crate::output::{Cell, Format, Report, Table};

/// Copy the database as it is now to a new directory; tables are linked, not copied.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite checkpoint DB DEST
  lignite checkpoint DB DEST --yes   # replaces a database at DEST")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// The directory to make.
    dest: PathBuf,
    /// Replace a database that is there.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    dest: String,
}

/// Makes it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = destination::fill(&args.db, &args.dest, args.yes, |dest| {
        let db = open_write(&args.db)?;
        db.checkpoint(dest)?;
        Ok(db)
    })?;
    close(db)?;
    let (path, dest) = (args.db.display().to_string(), args.dest.display().to_string());
    if args.format.get() == Format::Table {
        context.note(&format!("checkpoint of {path} at {dest}"));
    } else {
        let mut table = Table::new(&["path", "dest"]);
        table.row(vec![Cell::text(&path), Cell::text(&dest)]);
        let document = Document { schema: "lignite.checkpoint/1", path, dest };
        context.output().report(args.format.get(), &Report::new(document, table))?;
    }
    Ok(Exit::Done)
}
