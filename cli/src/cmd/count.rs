//! `count`: how many records.

use std::path::PathBuf;

use serde::Serialize;

use crate::args::{FamilyArg, FormatArgs, RangeArgs};
use crate::context::{Context, open_read};
use crate::exit::{Exit, Outcome};
use crate::interrupt::{self, Polling};
use crate::output::{Cell, Format, Report, Table};

/// Count the records of a family or a range, exactly.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite count DB --cf packages
  lignite count DB --prefix user: --json")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    cf: String,
    count: u64,
    key_bytes: u64,
    value_bytes: u64,
}

/// Counts them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.db)?;
    let family = db.column_family(&args.family.cf)?;
    let range = args.range.get();
    let _polling = Polling::begin();
    let mut document =
        Document { schema: "lignite.count/1", cf: args.family.cf.clone(), count: 0, key_bytes: 0, value_bytes: 0 };
    for entry in family.range((range.start, range.end)) {
        interrupt::check()?;
        let entry = entry?;
        document.count += 1;
        document.key_bytes += entry.key().len() as u64;
        document.value_bytes += entry.value()?.len() as u64;
    }
    let mut out = context.output();
    if args.format.get() == Format::Table {
        out.line(&document.count.to_string())?;
        out.flush()?;
    } else {
        let mut table = Table::new(&["cf", "count", "key_bytes", "value_bytes"]);
        table.row(vec![
            Cell::text(&document.cf),
            Cell::Count(document.count),
            Cell::Bytes(document.key_bytes),
            Cell::Bytes(document.value_bytes),
        ]);
        out.report(args.format.get(), &Report::new(document, table))?;
    }
    Ok(Exit::Done)
}
