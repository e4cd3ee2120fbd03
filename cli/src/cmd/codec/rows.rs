//! Candidates side by side: the rows of `codec bench` and `codec compare`, their table and their chart.

use lignite::Measured;
use serde::Serialize;

use crate::chart::{self, Chart, Mark};
use crate::exit::Failure;
use crate::output::{self, Cell, Table};
use crate::stream::Sink;

/// One candidate with its figures.
#[derive(Clone, Serialize)]
pub struct Row {
    /// The codec with its level.
    pub codec: String,
    /// Size of a block before compression.
    pub block_size: u64,
    /// Bytes of its dictionary.
    pub dictionary_bytes: Option<u64>,
    /// Blocks measured.
    pub blocks: u64,
    /// Blocks of which a part stayed raw, where that was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_blocks: Option<u64>,
    /// Bytes before.
    pub raw_bytes: u64,
    /// Bytes after.
    pub stored_bytes: u64,
    /// Time to compress all of them.
    pub encode_nanos: u64,
    /// Time to decompress all of them.
    pub decode_nanos: u64,
    /// The median block.
    pub decode_p50_nanos: u64,
    /// One block of a hundred takes longer.
    pub decode_p99_nanos: u64,
    /// Bytes that the whole family would take, filters too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_bytes: Option<u64>,
    /// True if no other row is both smaller and faster to read.
    pub pareto: bool,
    /// What is in force, or what is advised.
    #[serde(skip)]
    pub ring: Option<&'static str>,
}

impl Row {
    /// Of a candidate that the engine measured, in a family with so many bytes of keys and values, and of filters.
    pub fn of(m: &Measured, dictionary_bytes: Option<u64>, family_bytes: u64, filter_bytes: u64) -> Row {
        Row {
            codec: m.candidate.codec.to_string(),
            block_size: m.candidate.block_size as u64,
            dictionary_bytes: dictionary_bytes.filter(|_| m.candidate.dictionary),
            blocks: m.blocks,
            raw_blocks: None,
            raw_bytes: m.user_bytes,
            stored_bytes: m.stored_bytes,
            encode_nanos: m.encode_nanos,
            decode_nanos: m.decode_nanos.saturating_mul(m.blocks),
            decode_p50_nanos: m.decode_nanos_p50,
            decode_p99_nanos: m.decode_nanos_p99,
            predicted_bytes: Some((family_bytes as f64 * m.stored_share()) as u64 + filter_bytes),
            pareto: false,
            ring: None,
        }
    }

    /// What to call it, with the block size if that differs among the rows.
    pub fn label(&self, with_block_size: bool) -> String {
        let dictionary = if self.dictionary_bytes.is_some() { "+dict" } else { "" };
        match with_block_size {
            true => format!("{}{dictionary} {}", self.codec, short_size(self.block_size)),
            false => format!("{}{dictionary}", self.codec),
        }
    }

    /// Mean time to decode a block.
    pub fn decode_nanos_per_block(&self) -> f64 {
        self.decode_nanos as f64 / self.blocks.max(1) as f64
    }

    /// Stored bytes as a share of raw ones.
    pub fn share(&self) -> f64 {
        self.stored_bytes as f64 / self.raw_bytes.max(1) as f64
    }
}

/// Marks the rows that no other beats in size and in the time to decode a block.
pub fn mark_front(rows: &mut [Row]) {
    let front = chart::front(&rows.iter().map(|r| (r.share(), r.decode_nanos_per_block())).collect::<Vec<_>>());
    rows.iter_mut().zip(front).for_each(|(row, is_on_front)| row.pareto = is_on_front);
}

/// The rows for people and for programs.
pub fn table(rows: &[Row]) -> Table {
    let predicts = rows.iter().any(|r| r.predicted_bytes.is_some());
    let mut columns = vec!["codec", "block", "dict", "stored", "ratio"];
    columns.extend(predicts.then_some("size of cf"));
    columns.extend(["enc MB/s", "dec MB/s", "dec p50", "dec p99", "pareto"]);
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = vec![
            Cell::text(&row.codec),
            Cell::Bytes(row.block_size),
            row.dictionary_bytes.map_or(Cell::Empty, Cell::Bytes),
            Cell::Bytes(row.stored_bytes),
            Cell::ratio(row.raw_bytes, row.stored_bytes),
        ];
        if predicts {
            cells.push(row.predicted_bytes.map_or(Cell::Empty, Cell::Bytes));
        }
        cells.extend([
            rate(row.raw_bytes, row.encode_nanos),
            rate(row.raw_bytes, row.decode_nanos),
            Cell::Nanos(row.decode_p50_nanos),
            Cell::Nanos(row.decode_p99_nanos),
            Cell::text(match (row.pareto, row.ring) {
                (true, None) => "*".to_string(),
                (false, None) => String::new(),
                (true, Some(word)) => format!("* {word}"),
                (false, Some(word)) => word.to_string(),
            }),
        ]);
        table.row(cells);
    }
    table
}

fn rate(bytes: u64, nanos: u64) -> Cell {
    if nanos == 0 { Cell::Empty } else { Cell::Number(1e3 * bytes as f64 / nanos as f64, 0) }
}

/// The chart of the rows.
pub fn chart(title: String, facts: Vec<String>, rows: &[Row]) -> String {
    let has_sizes = rows.iter().any(|r| r.block_size != rows[0].block_size);
    let marks = rows
        .iter()
        .map(|row| Mark {
            label: row.label(has_sizes),
            codec: row.codec.split(':').next().unwrap_or_default().to_string(),
            has_dictionary: row.dictionary_bytes.is_some(),
            decode_nanos: row.decode_nanos_per_block(),
            share: row.share(),
            ring: row.ring,
            cells: vec![
                output::bytes(row.block_size),
                row.dictionary_bytes.map_or("-".to_string(), output::bytes),
                format!("{:.1} %", 100.0 * row.share()),
                format!("{:.2}x", row.raw_bytes as f64 / row.stored_bytes.max(1) as f64),
                format!("{:.0} MB/s", 1e3 * row.raw_bytes as f64 / row.encode_nanos.max(1) as f64),
                format!("{:.0} MB/s", 1e3 * row.raw_bytes as f64 / row.decode_nanos.max(1) as f64),
                chart::nanos(row.decode_nanos_per_block()),
                chart::nanos(row.decode_p50_nanos as f64),
                chart::nanos(row.decode_p99_nanos as f64),
            ],
        })
        .collect();
    let columns = vec!["block", "dictionary", "size", "ratio", "encode", "decode", "mean block", "p50", "p99"];
    chart::page(&Chart { title, facts, columns, marks })
}

/// Fails if no chart can be written there, so that this is said before anything is measured. Nothing is left behind:
/// whoever interrupts the measurement finds no half of a file.
pub fn check_chart(path: Option<&str>, replace: bool) -> Result<(), Failure> {
    match path {
        None => Ok(()),
        Some("-") => Err(Failure::usage("a chart goes to a file, not to standard output")),
        Some(path) => Sink::create(path, replace).map(drop),
    }
}

/// Writes the chart to its file.
pub fn write_chart(path: Option<&str>, replace: bool, page: impl FnOnce() -> String) -> Result<(), Failure> {
    if let Some(path) = path {
        let mut sink = Sink::create(path, replace)?;
        sink.write(page().as_bytes())?;
        sink.finish()?;
    }
    Ok(())
}

fn short_size(bytes: u64) -> String {
    match bytes {
        n if n.is_multiple_of(1 << 20) && n > 0 => format!("{}M", n >> 20),
        n if n.is_multiple_of(1 << 10) && n > 0 => format!("{}K", n >> 10),
        n => format!("{n}B"),
    }
}
