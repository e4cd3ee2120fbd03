//! `scan`: the records of a range, in order.

use std::path::PathBuf;

use lignite::{ColumnFamily, Entry, Result};
use serde::Serialize;
use serde_json::Value;

use super::get::json;
use crate::args::{FamilyArg, FormatArgs, RangeArgs, StyleArgs};
use crate::context::{Context, open_read};
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::{self, Polling};
use crate::output::{Format, Output};
use crate::text::{self, Style};

/// Print the records of a range in order of their keys.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite scan DB --cf packages --prefix 0a --limit 3
  lignite scan DB --from user:1 --to user:9 --reverse --values len --format ndjson")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    range: RangeArgs,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    styles: StyleArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<Value>,
}

/// Prints them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.db)?;
    let family = db.column_family(&args.family.cf)?;
    let mut out = context.output();
    let _polling = Polling::begin();
    let format = args.format.get();
    match format {
        Format::Json => {
            let cf = serde_json::to_string(&args.family.cf).unwrap_or_default();
            out.record(format!("{{\"schema\":\"lignite.scan/1\",\"cf\":{cf},\"records\":[").as_bytes())?;
        }
        Format::Csv => out.line("k,v")?,
        Format::Table | Format::Ndjson => {}
    }
    let mut written = 0;
    // Whatever ends the scan early, what was printed stays whole: lines, and one JSON document.
    let result = print_all(args, &family, format, &mut out, &mut written);
    let finished = match &result {
        Err(Failure::PipeClosed) => return result.map(|()| Exit::Done),
        other => other.is_ok(),
    };
    if format == Format::Json {
        let complete = if finished { "" } else { ",\"complete\":false" };
        let break_line = if written > 0 { "\n" } else { "" };
        out.line(&format!("{break_line}],\"count\":{written}{complete}}}"))?;
    }
    out.flush()?;
    result.map(|()| Exit::Done)
}

fn print_all(
    args: &Args,
    family: &ColumnFamily,
    format: Format,
    out: &mut Output,
    written: &mut u64,
) -> std::result::Result<(), Failure> {
    let range = args.range.get();
    let records = family.range((range.start, range.end));
    let records: Box<dyn Iterator<Item = Result<Entry>>> =
        if args.reverse { Box::new(records.rev()) } else { Box::new(records) };
    let (keys, values) = (args.styles.keys, args.styles.values);
    for entry in records.take(args.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))) {
        interrupt::check()?;
        let entry = entry?;
        let (k, v) = (entry.key(), if values == Style::None { &[] } else { entry.value()? });
        match format {
            Format::Table => out.line(&join(text::show(k, keys), text::show(v, values), keys, values))?,
            Format::Json => {
                let mut line = if *written > 0 { b",\n".to_vec() } else { b"\n".to_vec() };
                crate::output::push_json(&mut line, &Record { k: json(k, keys), v: json(v, values) });
                out.record(&line)?;
            }
            Format::Ndjson => out.json_line(&Record { k: json(k, keys), v: json(v, values) })?,
            Format::Csv => out.csv_line([text::show(k, keys), text::show(v, values)].iter())?,
        }
        *written += 1;
        // A person who watches wants to see the records come.
        if out.is_terminal() {
            out.flush()?;
        }
    }
    Ok(())
}

/// Key, tab, value; without the tab where one of them is not shown.
fn join(key: String, value: String, keys: Style, values: Style) -> String {
    match (keys, values) {
        (Style::None, _) => value,
        (_, Style::None) => key,
        _ => format!("{key}\t{value}"),
    }
}
