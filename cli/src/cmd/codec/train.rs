//! `codec train`: a dictionary of a family's blocks, and what it is worth.

use std::path::PathBuf;

use serde::Serialize;

use crate::args::{FamilyArg, FormatArgs};
use crate::choice::check_dictionary_size;
use crate::context::{Context, open_read};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Report, Table};
use crate::stream::Sink;
use crate::units::Size;

/// Make a dictionary of a column family's blocks, and say what blocks that it was not made of save with it.
///
/// Compactions make dictionaries of their own where they pay, so this is for trying sizes, and for a dictionary that
/// `lignite recompress --dictionary FILE` is to use. It changes nothing in the database.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec train DB --cf packages --size 64KiB
  lignite codec train DB --cf packages --size 32KiB --output packages.dict")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    /// The most bytes that it may have.
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    size: Size,
    /// Write the dictionary to a file.
    #[arg(long, value_name = "FILE")]
    output: Option<String>,
    /// Replace the file if it is there.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    cf: String,
    codec: String,
    block_size: u64,
    dictionary_bytes: u64,
    gain: f64,
    output: Option<String>,
}

/// Trains.
pub fn run(args: &Args, context: &Context) -> Outcome {
    check_dictionary_size(args.size.0).map_err(Failure::usage)?;
    match args.output.as_deref() {
        None => {}
        Some("-") => return Err(Failure::usage("a dictionary goes to a file, not to standard output")),
        // Whatever is wrong with it is said before the work begins, and nothing is left behind if that is interrupted.
        Some(path) => drop(Sink::create(path, args.yes)?),
    }
    let db = open_read(&args.db)?;
    let family = db.column_family(&args.family.cf)?;
    let trained = family.train_dictionary(usize::try_from(args.size.0).unwrap_or(usize::MAX))?;
    if let Some(path) = args.output.as_deref() {
        let mut sink = Sink::create(path, args.yes)?;
        sink.write(&trained.bytes)?;
        sink.finish()?;
    }
    let table = Table::facts(vec![
        ("dictionary", Cell::Bytes(trained.bytes.len() as u64)),
        ("for", Cell::text(format!("{} in blocks of {}", trained.codec, output::bytes(trained.block_size as u64)))),
        ("gain", Cell::text(format!("{:.1} % of the size without one", 100.0 * trained.gain))),
    ]);
    let document = Document {
        schema: "lignite.codec-train/1",
        path: args.db.display().to_string(),
        cf: args.family.cf.clone(),
        codec: trained.codec.to_string(),
        block_size: trained.block_size as u64,
        dictionary_bytes: trained.bytes.len() as u64,
        gain: trained.gain,
        output: args.output.clone(),
    };
    let mut rows = Table::new(&["codec", "block", "dictionary", "gain"]);
    rows.row(vec![
        Cell::text(&document.codec),
        Cell::Bytes(document.block_size),
        Cell::Bytes(document.dictionary_bytes),
        Cell::Number(document.gain, 3),
    ]);
    let format = args.format.get();
    let report = Report::new(document, if format == output::Format::Table { table } else { rows });
    context.output().report(format, &report)?;
    Ok(Exit::Done)
}
