//! `put`: one record.

use std::io::Read;
use std::path::PathBuf;

use lignite::VALUE_LEN_MAX;
use serde::Serialize;

use crate::args::{Bytes, FamilyArg, FormatArgs};
use crate::context::{Context, close, open_write};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Cell, Format, Report, Table};
use crate::stream::open_raw;

/// Write a record; it is on the device when the command ends.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite put DB user:1 hello
  lignite put DB --cf images logo --input logo.png   # the file's bytes as they are")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// The key; see: lignite help keys.
    key: Bytes,
    /// The value, in the same syntax.
    #[arg(required_unless_present = "input")]
    value: Option<Bytes>,
    /// Take the value's bytes from a file, or from standard input for `-`.
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    input: Option<String>,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `put`, `delete` and `delete-range` tell programs.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    cf: String,
    sequence: u64,
}

/// Writes it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let value = match (&args.value, &args.input) {
        (Some(Bytes(value)), _) => value.clone(),
        (None, input) => read_value(input.as_deref().unwrap_or("-"))?,
    };
    let db = open_write(&args.db)?;
    let sequence = db.column_family(&args.family.cf)?.put(&args.key.0, &value)?.seq();
    close(db)?;
    done("lignite.put/1", &args.family.cf, sequence, args.format.get(), context)
}

/// Tells programs what was written; people are told nothing.
pub fn done(schema: &'static str, cf: &str, sequence: u64, format: Format, context: &Context) -> Outcome {
    if format != Format::Table {
        let mut table = Table::new(&["cf", "sequence"]);
        table.row(vec![Cell::text(cf), Cell::Count(sequence)]);
        let document = Document { schema, cf: cf.to_string(), sequence };
        context.output().report(format, &Report::new(document, table))?;
    }
    Ok(Exit::Done)
}

fn read_value(path: &str) -> Result<Vec<u8>, Failure> {
    let (input, _) = open_raw(path)?;
    let mut value = Vec::new();
    let limit = VALUE_LEN_MAX as u64 + 1;
    input.take(limit).read_to_end(&mut value).map_err(|e| Failure::io("read", path.as_ref(), &e))?;
    Ok(value)
}
