//! `export`: the records of a column family to a file or a pipe.

use std::path::PathBuf;

use serde::Serialize;

use crate::args::{FamilyArg, RangeArgs};
use crate::context::{Context, megabytes_per_second, open_read};
use crate::exit::{Exit, Failure, Outcome};
use crate::formats::{DataFormat, push_header, push_record};
use crate::interrupt::{self, Polling};
use crate::output;
use crate::progress::{Mode, json_to_stderr};
use crate::stream::Sink;
use crate::text::Style;

/// Write the records of a family in order; `import` reads them back as the same bytes.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite export DB --cf packages --format kv --output out.kv
  lignite export DB --format ndjson --prefix user:   # to standard output")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    range: RangeArgs,
    /// The format of the data; without it, what the name of the file says.
    #[arg(long, value_enum)]
    format: Option<DataFormat>,
    /// The file, or - for standard output. It appears under its name when it is complete.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: String,
    /// How to show keys in ndjson and csv: auto, hex, b64, esc or u64.
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, value_name = "STYLE")]
    keys: Style,
    /// How to show values in ndjson and csv.
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, value_name = "STYLE")]
    values: Style,
    /// Replace an existing file.
    #[arg(long)]
    yes: bool,
}

/// Records are written in pieces of about this size.
const PIECE_LEN: usize = 256 << 10;

#[derive(Serialize)]
struct Summary {
    schema: &'static str,
    cf: String,
    records: u64,
    raw_bytes: u64,
    written_bytes: u64,
    nanos: u64,
}

/// Exports.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let format = args.format.or_else(|| DataFormat::of_name(&args.output)).ok_or_else(|| {
        Failure::usage("the name of the output does not tell its format; give --format kv, ndjson or csv")
    })?;
    if !args.keys.reads_back() || !args.values.reads_back() {
        return Err(Failure::usage("an export must be readable again: use auto, hex, b64, esc or u64"));
    }
    let db = open_read(&args.db)?;
    let family = db.column_family(&args.family.cf)?;
    let mut sink = Sink::create(&args.output, args.yes)?;
    let range = args.range.get();
    let total = args.range.is_everything().then(|| family.stats().raw_bytes);
    let mut progress = context.progress("export", total);
    let _polling = Polling::begin();
    let (mut records, mut raw_bytes) = (0, 0);
    let mut piece = Vec::with_capacity(PIECE_LEN + 4096);
    push_header(format, &mut piece);
    let result = family.range((range.start, range.end)).try_for_each(|entry| {
        interrupt::check()?;
        let entry = entry?;
        let (key, value) = (entry.key(), entry.value()?);
        push_record(format, key, value, args.keys, args.values, &mut piece);
        records += 1;
        raw_bytes += (key.len() + value.len()) as u64;
        if piece.len() >= PIECE_LEN {
            sink.write(&piece)?;
            piece.clear();
            progress.set(raw_bytes, None);
        }
        Ok::<(), Failure>(())
    });
    // On standard output the records before a failure are worth having; a file stays away.
    if !matches!(result, Err(Failure::PipeClosed)) && (result.is_ok() || args.output == "-") {
        sink.write(&piece)?;
    }
    result?;
    let written_bytes = sink.finish()?;
    let took = progress.finish();
    let summary = Summary {
        schema: "lignite.export/1",
        cf: args.family.cf.clone(),
        records,
        raw_bytes,
        written_bytes,
        nanos: took.as_nanos() as u64,
    };
    if context.global.progress == Mode::Json {
        json_to_stderr(&summary);
    } else {
        context.note(&format!(
            "exported {} records from {}: {} raw, {} written, {:.2} s, {:.0} MB/s",
            output::count(records),
            summary.cf,
            output::bytes(raw_bytes),
            output::bytes(written_bytes),
            took.as_secs_f64(),
            megabytes_per_second(raw_bytes, took)
        ));
    }
    Ok(Exit::Done)
}
