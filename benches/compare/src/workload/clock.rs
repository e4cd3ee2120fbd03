//! What an interval of work costs: time, latencies, processor, bytes written, memory, space.

use std::path::Path;
use std::time::{Duration, Instant};

use lignite_bench::measure::{self, Latencies};
use serde_json::{Value, json};

use crate::Result;

/// The costs of this process since [`Costs::begin`].
pub struct Costs {
    start: Instant,
    cpu_seconds: f64,
    bytes_written: u64,
}

impl Costs {
    /// Now.
    pub fn begin() -> Costs {
        let cpu_seconds = measure::cpu_seconds().unwrap_or(0.0);
        let bytes_written = measure::bytes_written().unwrap_or(0);
        Costs { cpu_seconds, bytes_written, start: Instant::now() }
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The figures of so many operations, with `more` among them. Call it when the interval is over.
    pub fn end(&self, operations: u64, latencies: Option<&Latencies>, more: Value, directory: &Path) -> Result<Value> {
        self.end_after(self.seconds(), operations, latencies, more, directory)
    }

    /// The same for an interval that was over after `seconds`.
    pub fn end_after(
        &self,
        seconds: f64,
        operations: u64,
        latencies: Option<&Latencies>,
        more: Value,
        directory: &Path,
    ) -> Result<Value> {
        let cpu = measure::cpu_seconds().unwrap_or(0.0) - self.cpu_seconds;
        let mut figures = json!({
            "operations": operations,
            "seconds": seconds,
            "operations_per_second": operations as f64 / seconds,
            "cpu_us_per_operation": cpu * 1e6 / operations.max(1) as f64,
            "bytes_written": measure::bytes_written().unwrap_or(0).saturating_sub(self.bytes_written),
            "memory_peak": measure::memory_peak(),
            "disk_bytes": measure::disk_bytes(directory, |name| !is_apart(name))?,
            "log_and_reserve_bytes": measure::disk_bytes(directory, is_apart)?,
        });
        let latencies = latencies.filter(|l| !l.is_empty()).map_or(json!({}), Latencies::to_json);
        for part in [latencies, more] {
            if let (Some(figures), Value::Object(part)) = (figures.as_object_mut(), part) {
                figures.extend(part);
            }
        }
        Ok(figures)
    }
}

/// Whether a file is a log, or kept for a full disk: those are no part of what the records take.
pub fn is_apart(name: &str) -> bool {
    name == "RESERVE" || [".wal", ".log", ".jnl"].iter().any(|end| name.ends_with(end))
}

/// Does `operation` until `secs` have passed, at least once, and times every `stride`-th; how many it did.
/// `operation` gets the number of the call.
pub fn repeat_for(
    secs: f64,
    stride: u64,
    latencies: &mut Latencies,
    mut operation: impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let end = Instant::now() + Duration::from_secs_f64(secs);
    let mut n = 0;
    loop {
        let begun = Instant::now();
        operation(n)?;
        latencies.record_since(begun);
        n += 1;
        for _ in 1..stride {
            operation(n)?;
            n += 1;
        }
        if begun >= end {
            return Ok(n);
        }
    }
}
