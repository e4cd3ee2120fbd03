//! Standard output: tables for people, JSON, ndjson and CSV for programs.
//!
//! Everything written to standard output goes through [`Output`], which hands whole lines to the
//! system and turns a closed pipe into the quiet end of the command instead of a panic.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, CellAlignment, ContentArrangement};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::Failure;

/// The format of a command's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One document with a schema name.
    Json,
    /// One object a line.
    Ndjson,
    /// A header and a line a row.
    Csv,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// True if text on this stream gets colour.
    pub fn is_on(self, is_terminal: bool) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
                is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
            }
        }
    }
}

/// Bytes are handed to the system in pieces of about this size, cut at the end of a line.
const FLUSH_LEN: usize = 64 << 10;

/// Standard output.
pub struct Output {
    buffer: Vec<u8>,
    colored: bool,
    terminal: bool,
}

impl Output {
    /// Standard output with this use of colour.
    pub fn new(color: Color) -> Output {
        let terminal = std::io::stdout().is_terminal();
        Output { buffer: Vec::new(), colored: color.is_on(terminal), terminal }
    }

    /// True if a person watches.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a text and a line end.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(b'\n');
        self.flush_if_full()
    }

    /// Writes bytes that end a record, as they are.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.buffer.extend_from_slice(bytes);
        self.flush_if_full()
    }

    /// Writes a value as one line of JSON.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        push_json(&mut self.buffer, value);
        self.buffer.push(b'\n');
        self.flush_if_full()
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        let result = stdout.write_all(&self.buffer).and_then(|()| stdout.flush());
        self.buffer.clear();
        result.map_err(|e| Failure::output(&e))
    }

    /// Writes a report in a format.
    pub fn report<D: Serialize>(&mut self, format: Format, report: &Report<D>) -> Result<(), Failure> {
        match format {
            Format::Json => {
                let text = serde_json::to_string_pretty(&report.document)
                    .map_err(|e| Failure::new(crate::exit::Exit::Io, format!("cannot write JSON: {e}")))?;
                self.line(&text)?;
            }
            Format::Ndjson | Format::Csv => self.rows(format, &report.table)?,
            Format::Table => {
                let parts = [report.facts.as_ref(), (!report.table.rows.is_empty()).then_some(&report.table)];
                let mut first = true;
                for part in parts.into_iter().flatten().chain(report.more.iter().filter(|t| !t.rows.is_empty())) {
                    if !std::mem::take(&mut first) {
                        self.line("")?;
                    }
                    self.table(part)?;
                }
                for note in &report.notes {
                    self.line(note)?;
                }
            }
        }
        self.flush()
    }

    /// Writes the rows of a table for programs, as ndjson or CSV.
    pub fn rows(&mut self, format: Format, table: &Table) -> Result<(), Failure> {
        if format == Format::Ndjson {
            return table.objects().try_for_each(|object| self.json_line(&object));
        }
        self.csv_line(table.columns.iter())?;
        table.rows.iter().try_for_each(|row| self.csv_line(row.iter().map(Cell::plain)))
    }

    /// Writes one line of CSV.
    pub fn csv_line(&mut self, fields: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<(), Failure> {
        push_csv(&mut self.buffer, fields);
        self.flush_if_full()
    }

    /// Writes a table for people.
    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        if let Some(title) = &table.title {
            let title = if self.colored { format!("\x1b[1m{title}\x1b[0m") } else { title.clone() };
            self.line(&title)?;
        }
        let mut grid = comfy_table::Table::new();
        grid.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.colored {
            grid.enforce_styling();
        } else {
            grid.force_no_tty();
        }
        if !table.headless {
            let bold = |c: &&str| comfy_table::Cell::new(c).add_attribute(Attribute::Bold);
            grid.set_header(table.columns.iter().map(bold));
        }
        for row in &table.rows {
            grid.add_row(row.iter().map(Cell::pretty));
        }
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
            let index = column.index;
            if table.rows.iter().any(|row| row.get(index).is_some_and(Cell::is_number)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in grid.trim_fmt().lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    fn flush_if_full(&mut self) -> Result<(), Failure> {
        if self.buffer.len() >= FLUSH_LEN { self.flush() } else { Ok(()) }
    }
}

/// A line on standard error. There is nobody left to tell if that is closed.
pub fn error_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Appends a value as JSON.
pub fn push_json(out: &mut Vec<u8>, value: &impl Serialize) {
    let before = out.len();
    // Only a map with keys that are no strings can fail, or a type that says so; none of ours does.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
    }
}

/// Appends one line of CSV, quoted where need be.
pub fn push_csv(out: &mut Vec<u8>, fields: impl Iterator<Item = impl AsRef<[u8]>>) {
    for (i, field) in fields.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let field = field.as_ref();
        let needs_quotes = field.iter().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r'))
            || field.first().is_some_and(u8::is_ascii_whitespace)
            || field.last().is_some_and(u8::is_ascii_whitespace);
        if needs_quotes {
            out.push(b'"');
            for &byte in field {
                if byte == b'"' {
                    out.push(b'"');
                }
                out.push(byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(field);
        }
    }
    out.push(b'\n');
}

/// What a command found, for every format at once.
pub struct Report<D> {
    /// The JSON document. Its first field is the schema.
    pub document: D,
    /// Facts of the whole, shown above the table to people.
    pub facts: Option<Table>,
    /// The rows, for every format but JSON.
    pub table: Table,
    /// More tables for people.
    pub more: Vec<Table>,
    /// Lines behind it, for people.
    pub notes: Vec<String>,
}

impl<D: Serialize> Report<D> {
    /// A report of one table.
    pub fn new(document: D, table: Table) -> Report<D> {
        Report { document, facts: None, table, more: Vec::new(), notes: Vec::new() }
    }
}

/// Rows of cells under named columns.
pub struct Table {
    title: Option<String>,
    headless: bool,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// No rows yet.
    pub fn new(columns: &[&'static str]) -> Table {
        Table { title: None, headless: false, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Names and values, shown without a header.
    pub fn facts(rows: Vec<(&str, Cell)>) -> Table {
        let rows = rows.into_iter().map(|(name, cell)| vec![Cell::text(name), Cell::Text(cell.pretty())]).collect();
        Table { title: None, headless: true, columns: vec!["name", "value"], rows }
    }

    /// The same with a line above it.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Table {
        self.title = Some(title.into());
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }
}

impl Table {
    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Each row as an object.
    pub fn objects(&self) -> impl Iterator<Item = Value> {
        self.rows.iter().map(|row| {
            let names = self.columns.iter().map(|c| (*c).to_string());
            Value::Object(names.zip(row.iter().map(Cell::json)).collect::<Map<String, Value>>())
        })
    }
}

/// One value of a table: plain for programs, pretty for people.
pub enum Cell {
    /// Text.
    Text(String),
    /// A count.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// The size of a block; 0, for programs, is auto.
    BlockSize(u64),
    /// A place in a file, exact for everybody.
    Offset(u64),
    /// Yes or no.
    Flag(bool),
    /// A time in nanoseconds.
    Nanos(u64),
    /// A number with so many digits behind the point.
    Number(f64, usize),
    /// How many times smaller.
    Ratio(f64),
    /// A share of the whole, drawn as a bar.
    Fill(f64),
    /// Nothing to say.
    Empty,
}

impl Cell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    /// Raw bytes over stored bytes.
    pub fn ratio(raw: u64, stored: u64) -> Cell {
        if stored == 0 { Cell::Empty } else { Cell::Ratio(raw as f64 / stored as f64) }
    }

    fn is_number(&self) -> bool {
        !matches!(self, Cell::Text(_) | Cell::Flag(_) | Cell::Fill(_) | Cell::Empty)
    }

    fn pretty(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Count(n) => count(*n),
            Cell::Bytes(n) => bytes(*n),
            Cell::BlockSize(n) => block_size(*n),
            Cell::Offset(n) => n.to_string(),
            Cell::Flag(yes) => (if *yes { "yes" } else { "no" }).to_string(),
            Cell::Nanos(n) => nanos(*n),
            Cell::Number(n, digits) => format!("{n:.digits$}"),
            Cell::Ratio(n) => format!("{n:.2}x"),
            Cell::Fill(share) => {
                let full = (share.clamp(0.0, 1.0) * 20.0).round() as usize;
                format!("[{}{}]", "#".repeat(full), "-".repeat(20 - full))
            }
            Cell::Empty => "-".to_string(),
        }
    }

    fn plain(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Count(n) | Cell::Bytes(n) | Cell::BlockSize(n) | Cell::Offset(n) | Cell::Nanos(n) => n.to_string(),
            Cell::Flag(yes) => yes.to_string(),
            Cell::Number(n, _) | Cell::Ratio(n) | Cell::Fill(n) => n.to_string(),
            Cell::Empty => String::new(),
        }
    }

    /// The value for programs.
    pub fn json(&self) -> Value {
        match self {
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Count(n) | Cell::Bytes(n) | Cell::BlockSize(n) | Cell::Offset(n) | Cell::Nanos(n) => Value::from(*n),
            Cell::Flag(yes) => Value::from(*yes),
            Cell::Number(n, _) | Cell::Ratio(n) | Cell::Fill(n) => Value::from(*n),
            Cell::Empty => Value::Null,
        }
    }
}

/// A number of bytes for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The size of a block for people; 0 is the engine's choice.
pub fn block_size(n: u64) -> String {
    if n == 0 { "auto".to_string() } else { bytes(n) }
}

/// A count for people: digits in groups of three.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun, which gets an s unless there is one.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A time for people.
pub fn nanos(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} ns"),
        1_000..1_000_000 => format!("{:.1} us", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", n as f64 / 1e6),
        _ => format!("{:.2} s", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(16 << 10), "16.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(nanos(1_500), "1.5 us");
    }

    #[test]
    fn csv_is_quoted_where_need_be() {
        let mut out = Vec::new();
        push_csv(&mut out, ["a", "b,c", "d\"e", " f", ""].iter());
        assert_eq!(out, b"a,\"b,c\",\"d\"\"e\",\" f\",\n");
    }
}
