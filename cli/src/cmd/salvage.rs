//! `salvage`: the records of single files, without a database.

use std::path::PathBuf;

use lignite::{Builder, ErrorKind, Options, SalvageReport};
use serde::Serialize;

use super::damage::{self, Damage, Lost};
use crate::args::FormatArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::formats::{DataFormat, push_header, push_record};
use crate::interrupt::{self, Polling};
use crate::output::{self, Cell, Format, Report, Table};
use crate::progress::json_to_stderr;
use crate::stream::Sink;
use crate::text::Style;

/// Write the live records of single tables and logs, whatever is damaged around them.
#[derive(clap::Args)]
#[command(
    before_help = "Examples:
  lignite salvage DB/000012.sst --output OUT.kv
  lignite salvage DB/000012.sst DB/000013.wal --cf-id 0 --output OUT.kv --json",
    after_help = "Of each key the newest version over all files is written, unless a delete among them is newer. \
                  Give the files of one column family: tables do not say which they belong to. Exits 3 if anything \
                  was damaged. import reads OUT.kv."
)]
pub struct Args {
    /// The tables and log segments.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the records go, sorted by key; - for standard output. A name that ends in .ndjson or .csv (or
    /// .kv.zst and so on) gets that format, any other kv.
    #[arg(long, value_name = "OUT.kv")]
    output: String,
    /// Of logs, the column family with this number; needed if they hold more than one.
    #[arg(long, value_name = "N")]
    cf_id: Option<u32>,
    /// Replace an existing file.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Records are written in pieces of about this size.
const PIECE_LEN: usize = 256 << 10;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    output: String,
    ok: bool,
    records: u64,
    raw_bytes: u64,
    written_bytes: u64,
    files: Vec<FileFound>,
    cf_ids: Vec<u32>,
    problems: Vec<Damage>,
    losses: Vec<Lost>,
    warnings: Vec<String>,
    nanos: u64,
}

#[derive(Serialize)]
struct FileFound {
    path: String,
    entries_count: u64,
}

/// Salvages.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let format = DataFormat::of_name(&args.output).unwrap_or(DataFormat::Kv);
    let mut sink = Sink::create(&args.output, args.yes)?;
    let mut progress = context.progress("salvage", None);
    let _polling = Polling::begin();
    let mut piece = Vec::with_capacity(PIECE_LEN + 4096);
    push_header(format, &mut piece);
    // The engine's errors cannot carry ours.
    let mut failure = None;
    let salvaged = Builder::new(Options::new()).salvage(
        &args.files,
        args.cf_id,
        &mut |p| {
            progress.set(p.bytes_done, Some(p.bytes));
            !interrupt::requested()
        },
        &mut |key, value| {
            push_record(format, key, value, Style::Auto, Style::Auto, &mut piece);
            if piece.len() >= PIECE_LEN {
                let written = sink.write(&piece);
                piece.clear();
                if let Err(e) = written {
                    failure = Some(e);
                    return Err(lignite::Error::new(ErrorKind::Cancelled, "the output failed"));
                }
            }
            Ok(())
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    let report = salvaged.map_err(|e| match e.kind() {
        // Here it is a file that is not there, or not a database's.
        ErrorKind::NotFound => Failure::new(Exit::Io, e.to_string()),
        ErrorKind::InvalidArgument if args.cf_id.is_none() => Failure::from(e).and("see --cf-id in the help"),
        _ => Failure::from(e),
    })?;
    sink.write(&piece)?;
    let written_bytes = sink.finish()?;
    let nanos = progress.finish().as_nanos() as u64;
    let document = document(args, &report, written_bytes, nanos);
    let exit = if document.ok { Exit::Done } else { Exit::Corruption };
    match print(document, args, context) {
        Err(Failure::PipeClosed) | Ok(()) => Ok(exit),
        Err(e) => Err(e),
    }
}

fn document(args: &Args, report: &SalvageReport, written_bytes: u64, nanos: u64) -> Document {
    let files = report.files.iter();
    Document {
        schema: "lignite.salvage/1",
        output: args.output.clone(),
        ok: report.is_clean(),
        records: report.records,
        raw_bytes: report.raw_bytes,
        written_bytes,
        files: files.map(|(p, n)| FileFound { path: p.display().to_string(), entries_count: *n }).collect(),
        cf_ids: report.families.clone(),
        problems: report.problems.iter().map(Damage::of).collect(),
        losses: report.losses.iter().map(Lost::of).collect(),
        warnings: report.warnings.clone(),
        nanos,
    }
}

fn print(document: Document, args: &Args, context: &Context) -> Result<(), Failure> {
    damage::tell(&document.problems, &document.losses, &document.warnings);
    let records = output::counted(document.records, "record");
    let summary = format!(
        "salvaged {records}, {}, from {}",
        output::bytes(document.raw_bytes),
        output::counted(document.files.len() as u64, "file")
    );
    let format = args.format.get();
    if args.output == "-" {
        // Standard output has the records.
        if format == Format::Table {
            context.note(&summary)
        } else {
            json_to_stderr(&document)
        }
        return Ok(());
    }
    let mut out = context.output();
    if format == Format::Table {
        out.line(&summary)?;
        if !document.ok {
            out.line("what is damaged is named on standard error")?;
        }
        return out.flush();
    }
    let mut table = Table::new(&["path", "entries"]);
    for file in &document.files {
        table.row(vec![Cell::text(&file.path), Cell::Count(file.entries_count)]);
    }
    out.report(format, &Report::new(document, table))
}
