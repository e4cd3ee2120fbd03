//! How long an open takes: of a database that was closed, and of one whose process was killed.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use lignite_bench::measure::Latencies;
use serde_json::{Value, json};

use super::clock::Costs;
use super::{Case, Work, Workload};
use crate::Result;
use crate::data::Data;
use crate::engine::{self, EngineKind, Setup};

/// Bytes of records that the killed process has put.
const KILLED_BYTES: usize = 64 << 20;

/// Opens and reads one record, as often as the time allows; of a killed process once.
pub fn open(work: &Work<'_>) -> Result<Value> {
    let mut latencies = Latencies::new()?;
    let (mut key, mut seconds, mut n_opens) = (Vec::new(), 0.0, 0u64);
    let is_killed = work.case.workload == Workload::OpenKilled;
    let setup = if is_killed { killed_setup(work.case) } else { work.setup };
    // Of the killed process, the last record that it is sure to have put.
    let number = if is_killed { killed_records(work.data) - 1 } else { work.data.len() / 2 };
    work.data.key_into(number, &mut key);
    let n_opens_max = if is_killed || !work.case.engine.can_reopen() { 1 } else { 20 };
    let costs = Costs::begin();
    while n_opens == 0 || n_opens < n_opens_max && costs.seconds() < work.case.secs {
        let begun = Instant::now();
        let engine = engine::open(work.case.engine, work.directory, &setup)?;
        let mut right = work.case.engine == EngineKind::None;
        engine.get(&key, &mut |value| right = work.data.is_right(number, value, false))?;
        seconds += begun.elapsed().as_secs_f64();
        latencies.record_since(begun);
        n_opens += 1;
        if !right && work.case.engine.marks(setup.class).contains(&engine::Mark::Weaker) {
            // Its class did not promise the record.
            return Ok(json!({ "unsupported": true }));
        }
        if !right {
            return Err("the record is not there after the open".into());
        }
        engine.close()?;
    }
    costs.end_after(seconds, n_opens, Some(&latencies), json!({}), work.directory)
}

/// Puts records until there are 64 MiB of them, says so on standard output, and goes on waiting until somebody
/// kills the process.
pub fn write_until_killed(case: &Case, data: &Data, directory: &Path) -> Result<Value> {
    let engine = engine::open(case.engine, directory, &killed_setup(case))?;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for number in 0..killed_records(data) {
        data.key_into(number, &mut key);
        data.value_into(number, 0, &mut value);
        engine.put(&key, &value)?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// Write buffers so large that nothing leaves the log.
fn killed_setup(case: &Case) -> Setup {
    Setup { budget: 1 << 30, ..case.setup(0) }
}

fn killed_records(data: &Data) -> u64 {
    let record = (data.raw_bytes() / data.len()).max(1);
    (KILLED_BYTES as u64 / record).clamp(1, data.len())
}
