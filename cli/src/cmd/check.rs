//! `check`: is what is on disk what was written?

use std::path::PathBuf;

use lignite::Error;
use serde::Serialize;

use crate::args::FormatArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, open_failure};
use crate::output::{self, Cell, Format, Report, Table};
use crate::text::{self, Style};

/// Check every checksum, order, bound and the manifest against the directory; exit 3 on corruption.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite check DB
  lignite check DB --deep --json   # decodes every value as well")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// Decode every value.
    #[arg(long)]
    deep: bool,
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
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    file: Option<String>,
    offset: Option<u64>,
    cf: Option<String>,
    level: Option<usize>,
    first: Option<String>,
    last: Option<String>,
    message: String,
}

/// Checks.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let mut document = Document {
        schema: "lignite.check/1",
        ok: true,
        deep: args.deep,
        tables: 0,
        bytes: 0,
        entries: 0,
        torn_tail_bytes: 0,
        garbage: Vec::new(),
        nanos: 0,
        problems: Vec::new(),
    };
    let mut progress = context.progress("check", None);
    // A database too damaged to open has been checked, too: the damage is the finding.
    match lignite::Options::new().open_read_only(&args.db) {
        Ok(db) => {
            let report = db.check(args.deep, &mut |p| progress.set(p.bytes_done, Some(p.bytes)))?;
            document.tables = report.tables;
            document.bytes = report.bytes;
            document.entries = report.entries;
            document.torn_tail_bytes = report.torn_tail_bytes;
            document.garbage = report.garbage.iter().map(|f| f.display().to_string()).collect();
            document.problems = report.problems.iter().map(Problem::of).collect();
        }
        Err(e) if e.is_corruption() => document.problems.push(Problem::of_error(&e)),
        Err(e) => return Err(open_failure(&args.db, e)),
    }
    document.nanos = progress.finish().as_nanos() as u64;
    document.ok = document.problems.is_empty();
    let exit = if document.ok { Exit::Done } else { Exit::Corruption };
    print(document, args, context)?;
    Ok(exit)
}

impl Problem {
    fn of(problem: &lignite::Problem) -> Problem {
        let key = |key: &Option<Vec<u8>>| key.as_ref().map(|k| text::show(k, Style::Auto));
        Problem {
            file: Some(problem.file.display().to_string()),
            offset: problem.offset,
            cf: problem.column_family.clone(),
            level: problem.level,
            first: key(&problem.first_key),
            last: key(&problem.last_key),
            message: problem.message.clone(),
        }
    }

    fn of_error(error: &Error) -> Problem {
        Problem {
            file: error.file().map(|f| f.display().to_string()),
            offset: error.offset(),
            cf: error.column_family().map(str::to_string),
            level: None,
            first: None,
            last: None,
            message: error.message().to_string(),
        }
    }

    /// One line: file, offset, family, key range, what is wrong.
    fn line(&self) -> String {
        let mut line = String::new();
        let mut part = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!("{name}{value}  "));
            }
        };
        part("", self.file.clone());
        part("offset ", self.offset.map(|o| o.to_string()));
        part("cf ", self.cf.clone());
        part("level ", self.level.map(|l| l.to_string()));
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => part("keys ", Some(format!("{first} .. {last}"))),
            (Some(first), None) => part("keys from ", Some(first.clone())),
            (None, Some(last)) => part("keys to ", Some(last.clone())),
            (None, None) => {}
        }
        format!("{line}{}", self.message)
    }
}

fn print(document: Document, args: &Args, context: &Context) -> Result<(), Failure> {
    // The contract wants damage on standard error in every format.
    for problem in &document.problems {
        output::error_line(&format!("corrupt: {}", problem.line()));
    }
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
        return out.flush();
    }
    let mut table = Table::new(&["file", "offset", "cf", "first", "last", "message"]);
    let text = |text: &Option<String>| text.as_deref().map_or(Cell::Empty, Cell::text);
    for problem in &document.problems {
        table.row(vec![
            text(&problem.file),
            problem.offset.map_or(Cell::Empty, Cell::Count),
            text(&problem.cf),
            text(&problem.first),
            text(&problem.last),
            Cell::text(&problem.message),
        ]);
    }
    out.report(args.format.get(), &Report::new(document, table))
}
