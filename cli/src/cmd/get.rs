//! `get`: one value.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::args::{Bytes, FamilyArg, FormatArgs, StyleArgs};
use crate::context::{Context, open_read};
use crate::exit::{Exit, Outcome};
use crate::output::{Cell, Format, Report, Table};
use crate::text::{self, Style};

/// Print the value of a key; exit 1 if it is absent.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite get DB --cf packages 0ad
  lignite get DB u64:42 --raw              # the value's bytes alone")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// The key; see: lignite help keys.
    key: Bytes,
    #[command(flatten)]
    family: FamilyArg,
    /// The value's bytes alone: no display rules, no line end.
    #[arg(long, conflicts_with_all = ["format", "json", "values"])]
    raw: bool,
    #[command(flatten)]
    styles: StyleArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    cf: String,
    found: bool,
    k: Option<Value>,
    v: Option<Value>,
}

/// Prints it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.db)?;
    let value = db.column_family(&args.family.cf)?.get(&args.key.0)?;
    let mut out = context.output();
    match (args.format.get(), &value) {
        (Format::Table, None) => context.note("the key is absent"),
        (Format::Table, Some(value)) if args.raw => {
            out.record(value)?;
            out.flush()?;
        }
        (Format::Table, Some(value)) => {
            let style = args.styles.values;
            out.line(&text::show(value, style))?;
            out.flush()?;
            let hides_text = style == Style::Auto && !text::is_printable(value) && std::str::from_utf8(value).is_ok();
            if hides_text && out.is_terminal() {
                context.note("the value is text with control characters; see it with --values text or --raw");
            }
        }
        (format, value) => {
            let mut table = Table::new(&["k", "v"]);
            if let Some(value) = value {
                let cell = |bytes: &[u8], style| Cell::text(text::show(bytes, style));
                table.row(vec![cell(&args.key.0, args.styles.keys), cell(value, args.styles.values)]);
            }
            let document = Document {
                schema: "lignite.get/1",
                cf: args.family.cf.clone(),
                found: value.is_some(),
                k: json(&args.key.0, args.styles.keys),
                v: value.as_ref().and_then(|v| json(v, args.styles.values)),
            };
            out.report(format, &Report::new(document, table))?;
        }
    }
    Ok(if value.is_some() { Exit::Done } else { Exit::Negative })
}

/// Bytes as JSON: a text, or a number for `len`.
pub fn json(bytes: &[u8], style: Style) -> Option<Value> {
    match style {
        Style::None => None,
        Style::Len => Some(Value::from(bytes.len())),
        _ => Some(Value::from(text::show(bytes, style))),
    }
}
