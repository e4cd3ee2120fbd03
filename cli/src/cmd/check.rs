//! `check`: is what is on disk what was written?

use std::path::PathBuf;

use lignite::{Builder, CheckOptions, Options};
use serde::Serialize;

use super::damage::{self, Damage};
use crate::args::FormatArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, open_failure};
use crate::output::{self, Format, Report};
use crate::units::Rate;

/// Check every checksum, order, bound and the manifest against the directory; exit 3 on corruption.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite check DB
  lignite check DB --deep --json   # decodes every value as well")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// Decode every value, and ask every filter for every key.
    #[arg(long)]
    deep: bool,
    /// Read at most so much, such as 100MB/s.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// How many tables to check at a time; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    ok: bool,
    deep: bool,
    tables: u64,
    bytes: u64,
    entries: u64,
    torn_tail_bytes: u64,
    garbage: Vec<String>,
    nanos: u64,
    problems: Vec<Damage>,
}

/// Checks.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let workers = args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let options = CheckOptions::new().deep(args.deep).rate(args.rate.map(|r| r.0)).threads(workers);
    let mut progress = context.progress("check", None);
    let report = Builder::new(Options::new())
        .check(&args.db, &options, &mut |p| progress.set(p.bytes_done, Some(p.bytes)))
        .map_err(|e| open_failure(&args.db, e))?;
    let document = Document {
        schema: "lignite.check/1",
        ok: report.is_clean(),
        deep: args.deep,
        tables: report.tables,
        bytes: report.bytes,
        entries: report.entries,
        torn_tail_bytes: report.torn_tail_bytes,
        garbage: report.garbage.iter().map(|f| f.display().to_string()).collect(),
        nanos: progress.finish().as_nanos() as u64,
        problems: report.problems.iter().map(Damage::of).collect(),
    };
    let exit = if document.ok { Exit::Done } else { Exit::Corruption };
    match print(document, args, context) {
        // Nobody reads the verdict any more; the code still tells it.
        Err(Failure::PipeClosed) | Ok(()) => Ok(exit),
        Err(e) => Err(e),
    }
}

fn print(document: Document, args: &Args, context: &Context) -> Result<(), Failure> {
    damage::tell(&document.problems, &[], &[]);
    let mut out = context.output();
    if args.format.get() == Format::Table {
        let verdict = if document.ok { "ok" } else { "damaged" };
        let n = document.problems.len();
        out.line(&format!(
            "{verdict}: {}, {}{}{}",
            output::counted(document.tables, "table"),
            output::bytes(document.bytes),
            // Only a deep check decodes, and so counts, entries.
            if document.deep { format!(", {} entries", output::count(document.entries)) } else { String::new() },
            if n > 0 { format!(", {}", output::counted(n as u64, "problem")) } else { String::new() }
        ))?;
        if document.torn_tail_bytes > 0 {
            out.line(&format!(
                "the log ends in {} that were never complete and never promised; they are ignored",
                output::bytes(document.torn_tail_bytes)
            ))?;
        }
        for file in &document.garbage {
            out.line(&format!("{file} belongs to nothing any more; the next open for writing removes it"))?;
        }
        if n > 0 {
            out.line(&format!("make a new database from what is left: lignite repair {} --to NEW", args.db.display()))?;
        }
        return out.flush();
    }
    let table = damage::table(document.problems.iter());
    out.report(args.format.get(), &Report::new(document, table))
}
