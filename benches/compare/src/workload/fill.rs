//! Workloads that fill or rewrite a database.

use std::sync::atomic::{AtomicU64, Ordering};

use lignite_bench::measure::{self, Latencies};
use lignite_bench::synthetic::{Permutation, Random};
use serde_json::{Value, json};

use super::clock::{Costs, is_apart, repeat_for};
use super::{Work, Workload};
use crate::Result;
use crate::device;
use crate::engine::Engine;

/// Records in a batch of `fillbatch`.
const BATCH: u64 = 100;

/// Puts every record, or overwrites as many; says when the last put returned, and when nothing was left to do.
pub fn fill(work: &Work<'_>) -> Result<Value> {
    let engine = work.open()?;
    let mut latencies = Latencies::new()?;
    let gap = device::GapWatch::begin();
    let costs = Costs::begin();
    let operations = match work.case.workload {
        Workload::Fillbatch => put_batches(work, &*engine, BATCH, Some(&mut latencies))?,
        workload => put_singly(work, &*engine, workload, &mut latencies)?,
    };
    let seconds_to_last_put = costs.seconds();
    let gap = gap.end();
    let disk_bytes_at_last_put = measure::disk_bytes(work.directory, |name| !is_apart(name))?;
    engine.settle()?;
    let seconds = costs.seconds();
    let facts = engine.facts()?;
    engine.close()?;
    let raw = work.data.raw_bytes() as f64 * operations as f64 / work.data.len() as f64;
    let more = json!({
        "seconds_to_last_put": seconds_to_last_put,
        "operations_per_second_to_last_put": operations as f64 / seconds_to_last_put,
        "disk_bytes_at_last_put": disk_bytes_at_last_put,
        "is_complete": operations == work.data.len(),
        "raw_bytes_put": raw,
        "spin_gap_ms": gap.as_secs_f64() * 1e3,
        "facts": facts,
    });
    let mut figures = costs.end_after(seconds, operations, Some(&latencies), more, work.directory)?;
    figures["write_amplification"] = json!(figures["bytes_written"].as_f64().unwrap_or(0.0) / raw);
    Ok(figures)
}

fn put_singly(work: &Work<'_>, engine: &dyn Engine, workload: Workload, latencies: &mut Latencies) -> Result<u64> {
    let data = work.data;
    let order = Permutation::new(data.len(), work.case.seed);
    let mut random = Random::new(work.case.seed ^ 0x0e17);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let limit = Costs::begin();
    for place in 0..data.len() {
        let (number, version) = match workload {
            Workload::Fillseq => (place, 0),
            Workload::Overwrite => (random.below(data.len()), 1),
            _ => (order.at(place), 0),
        };
        data.key_into(number, &mut key);
        data.value_into(number, version, &mut value);
        let begun = std::time::Instant::now();
        engine.put(&key, &value)?;
        latencies.record_since(begun);
        if place % 1024 == 0 && limit.seconds() > work.case.fill_secs_max {
            return Ok(place + 1);
        }
    }
    Ok(data.len())
}

/// Puts every record in random order, so many a batch; how many.
pub fn put_batches(
    work: &Work<'_>,
    engine: &dyn Engine,
    batch_len: u64,
    mut latencies: Option<&mut Latencies>,
) -> Result<u64> {
    let data = work.data;
    let order = Permutation::new(data.len(), work.case.seed);
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut place = 0;
    let limit = Costs::begin();
    while place < data.len() {
        let n = batch_len.min(data.len() - place) as usize;
        batch.resize_with(n, Default::default);
        for (key, value) in &mut batch {
            let number = order.at(place);
            data.key_into(number, key);
            data.value_into(number, 0, value);
            place += 1;
        }
        let begun = std::time::Instant::now();
        engine.put_batch(&batch)?;
        if let Some(latencies) = latencies.as_deref_mut() {
            latencies.record_since(begun);
            if limit.seconds() > work.case.fill_secs_max {
                return Ok(place);
            }
        }
    }
    Ok(place)
}

/// Puts of several threads, each waiting for the device, beside what the device itself can do.
pub fn fill_synced(work: &Work<'_>, n_threads: u64) -> Result<Value> {
    let raw_syncs_per_second = device::syncs_per_second(work.directory, work.case.secs / 2.0)?;
    let engine = work.open()?;
    let next = AtomicU64::new(0);
    let order = Permutation::new(work.data.len(), work.case.seed);
    let costs = Costs::begin();
    let results: Vec<Result<(u64, Latencies)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads)
            .map(|_| {
                scope.spawn(|| {
                    let (mut key, mut value) = (Vec::new(), Vec::new());
                    let mut latencies = Latencies::new()?;
                    let n = repeat_for(work.case.secs, 1, &mut latencies, |_| {
                        let number = order.at(next.fetch_add(1, Ordering::Relaxed) % work.data.len());
                        work.data.key_into(number, &mut key);
                        work.data.value_into(number, 0, &mut value);
                        engine.put(&key, &value)
                    })?;
                    Ok((n, latencies))
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let seconds = costs.seconds();
    let mut latencies = Latencies::new()?;
    let mut operations = 0;
    for result in results {
        let (n, seen) = result?;
        operations += n;
        latencies.add(&seen)?;
    }
    engine.close()?;
    let more = json!({ "threads": n_threads, "raw_syncs_per_second": raw_syncs_per_second });
    costs.end_after(seconds, operations, Some(&latencies), more, work.directory)
}

/// A full compaction of what a load in random order has just left.
pub fn compact(work: &Work<'_>) -> Result<Value> {
    let engine = work.open()?;
    put_batches(work, &*engine, 1000, None)?;
    let costs = Costs::begin();
    let is_there = engine.compact()?;
    if !is_there {
        return Ok(json!({ "unsupported": true }));
    }
    engine.settle()?;
    let seconds = costs.seconds();
    let facts = engine.facts()?;
    engine.close()?;
    costs.end_after(seconds, work.data.len(), None, json!({ "facts": facts }), work.directory)
}
