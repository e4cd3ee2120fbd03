//! `repair`: a new database from what is left of a damaged one.

use std::path::PathBuf;

use lignite::{Builder, Options, RepairReport};
use serde::Serialize;

use super::damage::{self, Damage, Lost};
use super::destination;
use crate::args::FormatArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, open_failure};
use crate::interrupt::{self, Polling};
use crate::output::{self, Cell, Format, Report, Table};

/// Make a new database from what is left of a damaged one, which stays as it is.
#[derive(clap::Args)]
#[command(
    before_help = "Examples:
  lignite repair DB --to NEW
  lignite repair DB --to NEW --json   # everything that is wrong and lost",
    after_help = "Every record in the result was written like that: only bytes whose checksums are right are used. \
                  Exits 3 if anything was damaged, also when nothing is lost by it, and 0 if nothing was. What no \
                  readable manifest names is in column families lost+found/.. of the result."
)]
pub struct Args {
    /// The damaged database. Nobody should have it open for writing.
    db: PathBuf,
    /// The directory to make.
    #[arg(long, value_name = "NEW")]
    to: PathBuf,
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
    ok: bool,
    unchanged: bool,
    tables_copied: u64,
    tables_rebuilt: u64,
    tables_found: u64,
    tables_lost: u64,
    log_records: u64,
    log_records_refused: u64,
    torn_tail_bytes: u64,
    families: Vec<Family>,
    problems: Vec<Damage>,
    losses: Vec<Lost>,
    warnings: Vec<String>,
    garbage: Vec<String>,
    nanos: u64,
}

#[derive(Serialize)]
struct Family {
    cf: String,
    entries: u64,
}

/// Repairs.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let mut progress = context.progress("repair", None);
    let _polling = Polling::begin();
    let report = destination::fill(&args.db, &args.to, args.yes, |dest| {
        Builder::new(Options::new())
            .repair(&args.db, dest, &mut |p| {
                progress.set(p.bytes_done, Some(p.bytes));
                !interrupt::requested()
            })
            .map_err(|e| open_failure(&args.db, e))
    })?;
    let nanos = progress.finish().as_nanos() as u64;
    let document = document(args, &report, nanos);
    let exit = if document.ok { Exit::Done } else { Exit::Corruption };
    match print(document, args, context) {
        Err(Failure::PipeClosed) | Ok(()) => Ok(exit),
        Err(e) => Err(e),
    }
}

fn document(args: &Args, report: &RepairReport, nanos: u64) -> Document {
    Document {
        schema: "lignite.repair/1",
        path: args.db.display().to_string(),
        dest: args.to.display().to_string(),
        ok: report.problems.is_empty() && report.losses.is_empty(),
        unchanged: report.unchanged,
        tables_copied: report.tables_copied,
        tables_rebuilt: report.tables_rebuilt,
        tables_found: report.tables_found,
        tables_lost: report.tables_lost,
        log_records: report.log_records,
        log_records_refused: report.log_records_refused,
        torn_tail_bytes: report.torn_tail_bytes,
        families: report.families.iter().map(|(cf, n)| Family { cf: cf.clone(), entries: *n }).collect(),
        problems: report.problems.iter().map(Damage::of).collect(),
        losses: report.losses.iter().map(Lost::of).collect(),
        warnings: report.warnings.clone(),
        garbage: report.garbage.iter().map(|f| f.display().to_string()).collect(),
        nanos,
    }
}

fn print(document: Document, args: &Args, context: &Context) -> Result<(), Failure> {
    damage::tell(&document.problems, &document.losses, &document.warnings);
    let mut out = context.output();
    if args.format.get() != Format::Table {
        let table = damage::table(document.losses.iter().map(|l| &l.damage));
        return out.report(args.format.get(), &Report::new(document, table));
    }
    out.line(&if document.unchanged {
        format!("nothing is wrong; {} is a copy", document.dest)
    } else {
        format!("made {}", document.dest)
    })?;
    for (n, noun, what) in [
        (document.tables_copied, "table", "copied"),
        (document.tables_rebuilt, "table", "written anew from what was left"),
        (document.tables_found, "table", "that nothing named, in families lost+found/.."),
        (document.tables_lost, "table", "lost"),
        (document.log_records, "record", "of the log applied"),
        (document.log_records_refused, "record", "of the log behind a gap, not applied"),
    ] {
        if n > 0 {
            out.line(&format!("{} {what}", output::counted(n, noun)))?;
        }
    }
    if document.torn_tail_bytes > 0 {
        out.line(&format!("{} of a torn tail were never promised", output::bytes(document.torn_tail_bytes)))?;
    }
    let mut families = Table::new(&["cf", "entries"]);
    for family in &document.families {
        families.row(vec![Cell::text(&family.cf), Cell::Count(family.entries)]);
    }
    out.table(&families)?;
    let lost = document.losses.len() as u64;
    out.line(&match lost {
        0 => "nothing is lost".to_string(),
        n => format!("{} named on standard error", output::counted(n, "loss").replace("losss", "losses")),
    })?;
    out.flush()
}
