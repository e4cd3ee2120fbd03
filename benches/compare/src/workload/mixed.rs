//! Workloads that read and write: YCSB's six, and reads beside a writer with a fixed rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lignite_bench::measure::Latencies;
use lignite_bench::synthetic::Random;
use serde_json::{Value, json};

use super::clock::{Costs, repeat_for};
use super::{Work, Workload};
use crate::Result;
use crate::choice::Choice;
use crate::engine::{Engine, EngineKind, Scan};

/// Threads of the YCSB workloads.
const THREADS: u64 = 2;
/// Puts a second of the writer beside the reads.
const WRITER_RATE: f64 = 20_000.0;
/// The longest scan of workload E.
const SCAN_MAX: u64 = 100;

/// What an operation may be, in percent of all.
struct Mix {
    read: u64,
    update: u64,
    insert: u64,
    scan: u64,
    modify: u64,
}

fn mix(workload: Workload) -> Mix {
    let none = Mix { read: 0, update: 0, insert: 0, scan: 0, modify: 0 };
    match workload {
        Workload::YcsbA => Mix { read: 50, update: 50, ..none },
        Workload::YcsbB => Mix { read: 95, update: 5, ..none },
        Workload::YcsbD => Mix { read: 95, insert: 5, ..none },
        Workload::YcsbE => Mix { scan: 95, insert: 5, ..none },
        Workload::YcsbF => Mix { read: 50, modify: 50, ..none },
        _ => Mix { read: 100, ..none },
    }
}

/// Runs the threads for the time of the case.
pub fn mixed(work: &Work<'_>) -> Result<Value> {
    let workload = work.case.workload;
    let engine = work.open()?;
    engine.settle()?;
    let n = work.data.len();
    let choice = match workload {
        Workload::Readwhilewriting => Choice::Uniform { n },
        Workload::YcsbD => Choice::latest(n),
        _ => Choice::zipf(n, work.case.seed),
    };
    let n_threads = if workload == Workload::Readwhilewriting { 1 } else { THREADS };
    let shared = Shared {
        work,
        engine: &*engine,
        choice,
        n_now: AtomicU64::new(n),
        inserting: [const { AtomicU64::new(u64::MAX) }; THREADS as usize],
        versions: AtomicU64::new(1),
    };
    // A pass like it before, so that caches hold what they will hold.
    shared.run(n_threads, work.case.secs / 2.0, 0xa)?;
    let costs = Costs::begin();
    let outcome = shared.run(n_threads, work.case.secs, 0xb)?;
    let seconds = costs.seconds();
    let facts = engine.facts()?;
    let more = json!({
        "threads": n_threads,
        "writer_puts_per_second": outcome.writer_puts.map(|puts| puts as f64 / seconds),
        "facts": facts,
    });
    let figures = costs.end_after(seconds, outcome.operations, Some(&outcome.latencies), more, work.directory);
    engine.close()?;
    figures
}

struct Outcome {
    operations: u64,
    latencies: Latencies,
    writer_puts: Option<u64>,
}

struct Shared<'a> {
    work: &'a Work<'a>,
    engine: &'a dyn Engine,
    choice: Choice,
    /// Numbers of records that were given out.
    n_now: AtomicU64,
    /// Of each thread, a number that none it is inserting lies below.
    inserting: [AtomicU64; THREADS as usize],
    versions: AtomicU64,
}

impl Shared<'_> {
    fn run(&self, n_threads: u64, secs: f64, salt: u64) -> Result<Outcome> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = (self.work.case.workload == Workload::Readwhilewriting)
                .then(|| scope.spawn(|| self.write_steadily(&over)));
            let threads: Vec<_> = (0..n_threads)
                .map(|thread| {
                    let mut random = Random::new(self.work.case.seed ^ salt ^ (thread + 1) << 32);
                    scope.spawn(move || {
                        let mut latencies = Latencies::new()?;
                        let (mut key, mut value) = (Vec::new(), Vec::new());
                        let n = repeat_for(secs, 1, &mut latencies, |_| {
                            self.operate(thread as usize, &mut random, &mut key, &mut value)
                        })?;
                        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((n, latencies))
                    })
                })
                .collect();
            let mut outcome = Outcome { operations: 0, latencies: Latencies::new()?, writer_puts: None };
            let mut failed = None;
            for thread in threads {
                match thread.join() {
                    Ok(Ok((n, seen))) => {
                        outcome.operations += n;
                        outcome.latencies.add(&seen)?;
                    }
                    Ok(Err(error)) => failed = Some(error),
                    Err(_) => failed = Some("a thread panicked".into()),
                }
            }
            over.store(true, Ordering::Relaxed);
            if let Some(writer) = writer {
                outcome.writer_puts = Some(writer.join().map_err(|_| "the writer panicked")??);
            }
            failed.map_or(Ok(outcome), Err)
        })
    }

    fn operate(&self, thread: usize, random: &mut Random, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<()> {
        let data = self.work.data;
        let mix = mix(self.work.case.workload);
        let mut die = random.below(100);
        if die < mix.insert {
            self.inserting[thread].store(self.n_now.load(Ordering::SeqCst), Ordering::SeqCst);
            let number = self.n_now.fetch_add(1, Ordering::SeqCst);
            data.key_into(number, key);
            data.value_into(number, 0, value);
            self.engine.put(key, value)?;
            self.inserting[thread].store(u64::MAX, Ordering::SeqCst);
            return Ok(());
        }
        die -= mix.insert;
        let n_now = self.n_inserted();
        let number = self.choice.draw(random, n_now);
        data.key_into(number, key);
        if die < mix.scan {
            let mut n = 0;
            let scan = Scan { from: Some(key), backward: false, limit: 1 + random.below(SCAN_MAX) };
            self.engine.scan(scan, &mut |_, _| n += 1)?;
            return if n > 0 || self.is_null() {
                Ok(())
            } else {
                Err("a scan from a key that is there is empty".into())
            };
        }
        die -= mix.scan;
        if die < mix.read + mix.modify {
            let mut right = self.is_null();
            self.engine.get(key, &mut |value| right = data.is_right(number, value, true))?;
            if !right {
                return Err(format!("record {number} is missing or wrong").into());
            }
        }
        if die >= mix.read {
            data.value_into(number, self.version(), value);
            self.engine.put(key, value)?;
        }
        debug_assert!(die < mix.read + mix.modify + mix.update);
        Ok(())
    }

    /// So many records are there for certain.
    fn n_inserted(&self) -> u64 {
        let given = self.n_now.load(Ordering::SeqCst);
        self.inserting.iter().map(|n| n.load(Ordering::SeqCst)).fold(given, u64::min)
    }

    fn is_null(&self) -> bool {
        self.work.case.engine == EngineKind::None
    }

    fn version(&self) -> u32 {
        self.versions.fetch_add(1, Ordering::Relaxed) as u32 % 1_000_000 + 1
    }

    /// Overwrites records at a fixed rate until it is over; how many.
    fn write_steadily(&self, over: &AtomicBool) -> Result<u64> {
        let data = self.work.data;
        let mut random = Random::new(self.work.case.seed ^ 0x3717e);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        let mut n = 0;
        while !over.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * WRITER_RATE) as u64;
            if n >= due {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let number = random.below(data.len());
            data.key_into(number, &mut key);
            data.value_into(number, self.version(), &mut value);
            self.engine.put(&key, &value)?;
            n += 1;
        }
        Ok(n)
    }
}
