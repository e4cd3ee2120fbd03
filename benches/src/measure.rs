//! What every measurement needs: latencies, the process's own costs, sizes of directories, tables.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;

/// Latencies beyond this, 10 minutes, count as this.
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

/// Latencies of one kind of operation, with three significant digits.
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// Nothing yet.
    pub fn new() -> Result<Latencies> {
        Ok(Latencies { histogram: Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)? })
    }

    /// Takes the time since `start`.
    pub fn record_since(&mut self, start: Instant) {
        self.histogram.saturating_record(start.elapsed().as_nanos() as u64);
    }

    /// Takes over what another thread has seen.
    pub fn add(&mut self, other: &Latencies) -> Result<()> {
        Ok(self.histogram.add(&other.histogram)?)
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Operations seen.
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Microseconds at the usual quantiles.
    pub fn to_json(&self) -> Value {
        let micros = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1000.0;
        json!({
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
            "p999_us": micros(0.999),
            "max_us": self.histogram.max() as f64 / 1000.0,
        })
    }
}

/// Peak resident memory of this process in bytes, where the system tells.
pub fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Seconds of processor time that all threads of this process have used, where the system tells.
pub fn cpu_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0; // USER_HZ: the same on every Linux that Rust supports.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Bytes that this process has caused to be written to the device, where the system tells.
pub fn bytes_written() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(field("write_bytes:")?.saturating_sub(field("cancelled_write_bytes:")?))
}

/// Bytes that the files in `directory`, and in those within, whose names `wanted` accepts, take on the device.
pub fn disk_bytes(directory: &Path, wanted: impl Fn(&str) -> bool + Copy) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // A file may go while one looks.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            bytes += disk_bytes(&entry.path(), wanted)?;
        } else if wanted(&entry.file_name().to_string_lossy()) {
            bytes += blocks(&metadata);
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn blocks(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn blocks(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// A directory that goes away with the value: in `parent`, else beside this program, so under `target`.
/// Not in the system's place for temporary files, which is often memory.
pub fn scratch_directory(parent: Option<&Path>) -> Result<TempDir> {
    let program = std::env::current_exe()?;
    let parent = parent.or(program.parent()).ok_or("this program lies nowhere")?;
    std::fs::create_dir_all(parent)?;
    Ok(tempfile::Builder::new().prefix("lignite-bench-").tempdir_in(parent)?)
}

/// Bytes of the files in `directory` whose names `wanted` accepts; folders within are not entered.
pub fn directory_bytes(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && wanted(&entry.file_name().to_string_lossy()) {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

/// The middle one of `values`, or the mean of the middle two; 0 for none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Decimal megabytes with two places.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}

/// A Markdown table with aligned columns: the first to the left, the others to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new(heads: &[&str]) -> Table {
        Table { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// Adds a row, which has a cell for every head.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (i, row) in self.rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "| {cell:<width$} ")?,
                    _ => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")?;
            if i == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width);
                    match column {
                        0 => write!(f, "| {dashes} ")?,
                        _ => write!(f, "| {}: ", &dashes[1..])?,
                    }
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}
