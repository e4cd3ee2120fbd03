//! `codec list`: the codecs that this version has.

use lignite::Codec;
use serde::Serialize;

use crate::args::FormatArgs;
use crate::context::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{Cell, Report, Table};

/// List the codecs, their levels, and what each is for.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec list
  lignite codec list --json")]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    codecs: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    id: u8,
    level_min: Option<i32>,
    level_max: Option<i32>,
    level_default: Option<i32>,
    dictionary: bool,
    hint: &'static str,
}

/// Name, levels, the level without one, and what it is for.
const CODECS: [(&str, Option<(i32, i32, i32)>, &str); 6] = [
    ("none", None, "data that does not shrink: read at the speed of a copy"),
    ("snappy", None, "for those who are used to it; lz4 is as small and faster to read"),
    ("lz4", None, "young levels and hot data: cheapest to write and to read"),
    ("lz4hc", Some((1, 12, 9)), "data that stays and is read at random: lz4 to the reader, a tenth to a fifth smaller"),
    ("zstd", Some((-7, 22, 3)), "most data at the bottom: much smaller than lz4, a few times dearer to read"),
    ("brotli", Some((0, 11, 4)), "text that is hardly ever read: as small as high zstd levels, slower to read"),
];

fn rows() -> Vec<Row> {
    CODECS
        .iter()
        .map(|&(name, levels, hint)| {
            // Every name of the list is one that parses; a test sees to it.
            let codec = name.parse().unwrap_or(Codec::None);
            Row {
                name,
                id: codec.id(),
                level_min: levels.map(|l| l.0),
                level_max: levels.map(|l| l.1),
                level_default: levels.map(|l| l.2),
                dictionary: codec != Codec::None && codec.takes_dictionary(),
                hint,
            }
        })
        .collect()
}

/// Lists them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let mut table = Table::new(&["codec", "levels", "default", "dictionary", "hint"]);
    let codecs = rows();
    for row in &codecs {
        let levels = row.level_min.zip(row.level_max).map(|(min, max)| format!("{min}..{max}"));
        table.row(vec![
            Cell::text(row.name),
            levels.map_or(Cell::Empty, Cell::Text),
            row.level_default.map_or(Cell::Empty, |level| Cell::text(level.to_string())),
            Cell::Flag(row.dictionary),
            Cell::text(row.hint),
        ]);
    }
    let mut report = Report::new(Document { schema: "lignite.codec-list/1", codecs }, table);
    report.notes = vec![
        String::new(),
        "As options: lz4, zstd:3, lz4hc:9, brotli:4; lists and ranges for codec bench: lz4,zstd:1..9.".to_string(),
    ];
    context.output().report(args.format.get(), &report)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_list_agrees_with_the_codecs() {
        for row in rows() {
            let codec: Codec = row.name.parse().unwrap();
            assert_eq!(codec.id(), row.id);
            let Some(((min, max), default)) = row.level_min.zip(row.level_max).zip(row.level_default) else {
                assert!(format!("{}:1", row.name).parse::<Codec>().is_err(), "{}", row.name);
                continue;
            };
            assert_eq!(codec.to_string(), format!("{}:{default}", row.name));
            for (level, is_right) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
                let typed = format!("{}:{level}", row.name);
                let codec = typed.parse::<Codec>();
                assert_eq!(codec.is_ok_and(|c| c.validate().is_ok()), is_right, "{typed}");
            }
        }
    }
}
