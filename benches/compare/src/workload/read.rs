//! Workloads that only read.

use lignite_bench::measure::Latencies;
use lignite_bench::synthetic::Random;
use serde_json::{Value, json};

use super::clock::{Costs, repeat_for};
use super::{Work, Workload};
use crate::Result;
use crate::choice::Choice;
use crate::data::Data;
use crate::engine::{Engine, EngineKind, Scan};

/// Keys of one call of `multiget`.
const KEYS: usize = 32;
/// Records of one operation of `seek50`.
const RECORDS: u64 = 50;
/// Every so many operations one is timed: reads take little longer than looking at the clock.
const STRIDE: u64 = 16;

/// Gets, by one key or 32 at a time.
pub fn points(work: &Work<'_>) -> Result<Value> {
    let (data, workload) = (work.data, work.case.workload);
    let engine = work.open()?;
    engine.settle()?;
    let choice = match workload {
        Workload::ReadzipfTenth => Choice::zipf(data.len(), work.case.seed),
        _ => Choice::Uniform { n: data.len() },
    };
    let mut reader =
        Reader { engine: &*engine, data, choice, random: Random::new(work.case.seed ^ 0x5eed), n_right: 0 };
    if matches!(workload, Workload::Readrandom | Workload::Readmissing) {
        reader.touch_all()?;
    }
    let mut unused = Latencies::new()?;
    let operation = |reader: &mut Reader<'_>, buffers: &mut Buffers| match workload {
        Workload::Readmissing => reader.get_missing(buffers),
        Workload::MultigetTenth => reader.multi_get(buffers),
        _ => reader.get(buffers),
    };
    let mut buffers = Buffers::default();
    repeat_for(work.case.secs / 2.0, STRIDE, &mut unused, |_| operation(&mut reader, &mut buffers))?;
    let mut latencies = Latencies::new()?;
    reader.n_right = 0;
    let costs = Costs::begin();
    let n_calls = repeat_for(work.case.secs, STRIDE, &mut latencies, |_| operation(&mut reader, &mut buffers))?;
    let seconds = costs.seconds();
    let operations = if workload == Workload::MultigetTenth { n_calls * KEYS as u64 } else { n_calls };
    let wanted = if workload == Workload::Readmissing { 0 } else { operations };
    if reader.n_right != wanted && work.case.engine != EngineKind::None {
        return Err(format!("{} of {operations} reads were right, {wanted} should be", reader.n_right).into());
    }
    let facts = engine.facts()?;
    let figures = costs.end_after(seconds, operations, Some(&latencies), json!({ "facts": facts }), work.directory);
    engine.close()?;
    figures
}

#[derive(Default)]
struct Buffers {
    key: Vec<u8>,
    keys: Vec<Vec<u8>>,
    numbers: Vec<u64>,
}

struct Reader<'a> {
    engine: &'a dyn Engine,
    data: &'a Data,
    choice: Choice,
    random: Random,
    n_right: u64,
}

impl Reader<'_> {
    /// Reads everything once, so that what fits the cache is there.
    fn touch_all(&mut self) -> Result<()> {
        let mut key = Vec::new();
        for number in 0..self.data.len() {
            self.data.key_into(number, &mut key);
            self.engine.get(&key, &mut |_| {})?;
        }
        Ok(())
    }

    fn get(&mut self, buffers: &mut Buffers) -> Result<()> {
        let number = self.choice.draw(&mut self.random, self.data.len());
        self.data.key_into(number, &mut buffers.key);
        let mut right = false;
        self.engine.get(&buffers.key, &mut |value| right = self.data.is_right(number, value, false))?;
        self.n_right += u64::from(right);
        Ok(())
    }

    fn get_missing(&mut self, buffers: &mut Buffers) -> Result<()> {
        let number = self.choice.draw(&mut self.random, self.data.len());
        self.data.missing_key_into(number, &mut buffers.key);
        self.engine.get(&buffers.key, &mut |_| self.n_right += 1)
    }

    fn multi_get(&mut self, buffers: &mut Buffers) -> Result<()> {
        buffers.keys.resize_with(KEYS, Vec::new);
        buffers.numbers.clear();
        for key in &mut buffers.keys {
            let number = self.choice.draw(&mut self.random, self.data.len());
            self.data.key_into(number, key);
            buffers.numbers.push(number);
        }
        self.engine.multi_get(&buffers.keys, &mut |place, value| {
            self.n_right += u64::from(self.data.is_right(buffers.numbers[place], value, false));
        })
    }
}

/// Scans of everything, or of 50 records from a random key.
pub fn ranges(work: &Work<'_>) -> Result<Value> {
    let (data, workload, secs) = (work.data, work.case.workload, work.case.secs);
    let engine = work.open()?;
    let is_real = work.case.engine != EngineKind::None;
    let mut latencies = Latencies::new()?;
    let scan = Scan { backward: workload == Workload::Readreverse, ..Scan::ALL };
    if workload != Workload::ReadseqFirst {
        engine.settle()?;
        scan_all(&*engine, data, scan, is_real)?;
    }
    let costs = Costs::begin();
    let operations = match workload {
        Workload::ReadseqFirst => scan_all(&*engine, data, scan, is_real)?,
        Workload::Seek50 => {
            let mut random = Random::new(work.case.seed ^ 0x5eec);
            let mut key = Vec::new();
            repeat_for(secs, 4, &mut latencies, |_| {
                let first = random.below(data.len().saturating_sub(RECORDS) + 1);
                data.key_into(first, &mut key);
                let mut number = first;
                let mut n_right = 0;
                let scan = Scan { from: Some(&key), backward: false, limit: RECORDS };
                engine.scan(scan, &mut |_, value| {
                    n_right += u64::from(data.is_right(number, value, false));
                    number += 1;
                })?;
                let wanted = RECORDS.min(data.len() - first);
                if is_real && n_right != wanted {
                    return Err(format!("{n_right} records behind {first} are right, {wanted} should be").into());
                }
                Ok(())
            })?
        }
        _ => {
            let mut records = 0;
            while records == 0 || costs.seconds() < secs {
                records += scan_all(&*engine, data, scan, is_real)?;
            }
            records
        }
    };
    let seconds = costs.seconds();
    let facts = engine.facts()?;
    let figures = costs.end_after(seconds, operations, Some(&latencies), json!({ "facts": facts }), work.directory);
    engine.close()?;
    figures
}

fn scan_all(engine: &dyn Engine, data: &Data, scan: Scan<'_>, is_real: bool) -> Result<u64> {
    let mut place = 0;
    let mut n_right = 0;
    engine.scan(scan, &mut |_, value| {
        if place < data.len() {
            let number = if scan.backward { data.len() - 1 - place } else { place };
            n_right += u64::from(data.is_right(number, value, false));
        }
        place += 1;
    })?;
    if is_real && (place, n_right) != (data.len(), data.len()) {
        return Err(format!("a scan gave {place} records, {n_right} right ones of {}", data.len()).into());
    }
    Ok(data.len())
}
