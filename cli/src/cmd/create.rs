//! `create`: a new database.

use std::path::PathBuf;

use lignite::Options;
use serde::Serialize;

use crate::args::{FamilyOptions, FormatArgs};
use crate::context::{Context, close};
use crate::exit::{Exit, Outcome};
use crate::output::{Cell, Format, Report, Table};

/// Make a new database.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite create DB
  lignite create DB --if-missing --codec zstd:3   # options of the family `default`")]
pub struct Args {
    /// The directory to make.
    db: PathBuf,
    /// Do nothing if the database is there.
    #[arg(long)]
    if_missing: bool,
    #[command(flatten)]
    options: FamilyOptions,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    id: String,
    created: bool,
}

/// Makes it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let existed = args.db.join("CURRENT").exists();
    let defaults = args.options.apply(Default::default())?;
    let db = Options::new().error_if_exists(!args.if_missing).open(&args.db)?;
    if !existed && !args.options.is_empty() {
        db.set_options("default", defaults)?;
    }
    let id = format!("{:032x}", db.id());
    close(db)?;
    let path = args.db.display().to_string();
    if args.format.get() != Format::Table {
        let mut table = Table::new(&["path", "id", "created"]);
        table.row(vec![Cell::text(&path), Cell::text(&id), Cell::text((!existed).to_string())]);
        let document = Document { schema: "lignite.create/1", path, id, created: !existed };
        context.output().report(args.format.get(), &Report::new(document, table))?;
    } else if existed {
        context.note(&format!("{path} exists already"));
    } else {
        context.note(&format!("created {path}"));
    }
    Ok(Exit::Done)
}
