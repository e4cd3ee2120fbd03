//! The comparison of engines: the same workloads, the same sizes, side by side in one run.
//!
//! Every measurement is a process of its own: this program starts itself again with the hidden
//! subcommand `workload`, which prints one JSON line. A round runs every workload once for every
//! engine; rounds are interleaved, and in every second one the engines change order, so that a slow
//! spell of the machine meets both. The figure of a row is the median over the rounds.
//!
//! * `fillrandom`, `fillseq`: every record once, in random order or by key, one `put` a record, into a
//!   fresh directory. The time includes bringing the last memtable into tables and waiting until no
//!   compaction is left; the time to the last `put` is given apart.
//! * `readrandom`: `--reads` existing keys drawn at random, on the directory that the load before it
//!   in the same round has left. The database is reopened in a fresh process; before the measured
//!   pass comes one like it with other draws.
//! * `readseq`: every record in order, likewise after one such pass.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lignite_bench::synthetic::{Generator, Permutation, Random};
use serde_json::{Value, json};

use crate::Result;
use crate::engines::{self, EngineKind, Phase, Setup};
use crate::measure::{self, Table, megabytes};

/// Options of `compare`.
#[derive(Debug, clap::Args)]
pub struct CompareOptions {
    /// Records to load
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Random reads in a pass; by default a fifth of the records
    #[arg(long)]
    reads: Option<u64>,
    /// Rounds, of which the median is taken
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Engines to compare; ratios are to the last
    #[arg(long, value_delimiter = ',', default_values_t = [EngineKind::Lignite, EngineKind::Rocksdb])]
    engines: Vec<EngineKind>,
    /// Workloads to run, in this order within a round
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [Workload::Fillrandom, Workload::Readrandom, Workload::Readseq, Workload::Fillseq]
    )]
    workloads: Vec<Workload>,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    value_len: usize,
    /// Seed of records and orders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the databases are made and removed again; by default beside this program, under `target`
    #[arg(long)]
    dir: Option<PathBuf>,
    /// File for the JSON lines besides standard output
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    setup: Setup,
}

/// Options of one measurement in its own process.
#[derive(Debug, clap::Args)]
pub struct WorkloadOptions {
    #[arg(long)]
    engine: EngineKind,
    #[arg(long)]
    workload: Workload,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    records: u64,
    #[arg(long)]
    reads: u64,
    #[arg(long)]
    value_len: usize,
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    setup: Setup,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Load in random order.
    Fillrandom,
    /// Load in the order of keys.
    Fillseq,
    /// Read existing keys at random.
    Readrandom,
    /// Read everything in order.
    Readseq,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Workload::Fillrandom => "fillrandom",
            Workload::Fillseq => "fillseq",
            Workload::Readrandom => "readrandom",
            Workload::Readseq => "readseq",
        })
    }
}

impl Workload {
    fn is_load(self) -> bool {
        matches!(self, Workload::Fillrandom | Workload::Fillseq)
    }
}

/// Runs the rounds and prints JSON lines, then the table.
pub fn run(options: &CompareOptions) -> Result<()> {
    let parent = measure::scratch_directory(options.dir.as_deref())?;
    let mut lines = options.json.as_ref().map(File::create).transpose()?;
    let mut results = Vec::new();
    for round in 0..options.rounds {
        let mut engines = options.engines.clone();
        if round % 2 == 1 {
            engines.reverse();
        }
        run_round(options, round, &engines, parent.path(), |line| {
            println!("{line}");
            if let Some(file) = &mut lines {
                writeln!(file, "{line}")?;
            }
            results.push(line);
            Ok(())
        })?;
    }
    print!("\n{}", summary(options, &results));
    Ok(())
}

fn run_round(
    options: &CompareOptions,
    round: u32,
    engines: &[EngineKind],
    parent: &Path,
    mut report: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let directory = |engine: EngineKind| parent.join(engine.to_string());
    let remove = |engine: EngineKind| match std::fs::remove_dir_all(directory(engine)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let mut is_loaded = false;
    for &workload in &options.workloads {
        for &engine in engines {
            if workload.is_load() || !is_loaded {
                remove(engine)?;
                std::fs::create_dir(directory(engine))?;
            }
            if !workload.is_load() && !is_loaded {
                run_in_process(options, engine, Workload::Fillrandom, &directory(engine))?;
            }
            let mut line = run_in_process(options, engine, workload, &directory(engine))?;
            line["round"] = json!(round);
            report(line)?;
        }
        is_loaded = true;
    }
    for &engine in engines {
        remove(engine)?;
    }
    Ok(())
}

fn run_in_process(options: &CompareOptions, engine: EngineKind, workload: Workload, directory: &Path) -> Result<Value> {
    let output = Command::new(own_program()?)
        .arg("workload")
        .args([format!("--engine={engine}"), format!("--workload={workload}")])
        .arg("--dir")
        .arg(directory)
        .args([
            format!("--records={}", options.records),
            format!("--reads={}", options.reads.unwrap_or(options.records / 5).max(1)),
            format!("--value-len={}", options.value_len),
            format!("--seed={}", options.seed),
        ])
        .args(options.setup.arguments())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{engine} {workload} failed: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// This program as it runs, even if a build has put another in its place meanwhile.
fn own_program() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    Ok(if running.exists() { running } else { std::env::current_exe()? })
}

/// Runs one workload in this process and prints its line.
pub fn run_workload(options: &WorkloadOptions) -> Result<()> {
    let phase = if options.workload.is_load() { Phase::Load } else { Phase::Read };
    let engine = engines::open(options.engine, &options.dir, &options.setup, phase)?;
    let generator = Generator::new(options.seed, options.value_len);
    let n_operations;
    let mut seconds_to_last_put = None;
    let cpu_before;
    let start;
    match options.workload {
        Workload::Fillrandom | Workload::Fillseq => {
            let order = Permutation::new(options.records, options.seed);
            let is_random = options.workload == Workload::Fillrandom;
            let mut value = Vec::new();
            cpu_before = measure::cpu_seconds();
            start = Instant::now();
            for place in 0..options.records {
                let number = if is_random { order.at(place) } else { place };
                generator.value_into(number, &mut value);
                engine.put(&generator.key(number), &value)?;
            }
            seconds_to_last_put = Some(start.elapsed().as_secs_f64());
            engine.settle()?;
            n_operations = options.records;
        }
        Workload::Readrandom => {
            engine.settle()?;
            read_random(&*engine, options, &generator, options.seed ^ 0x5eed)?;
            cpu_before = measure::cpu_seconds();
            start = Instant::now();
            read_random(&*engine, options, &generator, options.seed ^ 0xfeed)?;
            n_operations = options.reads;
        }
        Workload::Readseq => {
            engine.settle()?;
            read_in_order(&*engine, options, &generator)?;
            cpu_before = measure::cpu_seconds();
            start = Instant::now();
            read_in_order(&*engine, options, &generator)?;
            n_operations = options.records;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = measure::cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    let facts = engine.facts()?;
    engine.close()?;
    let line = json!({
        "engine": options.engine.to_string(),
        "workload": options.workload.to_string(),
        "records": options.records,
        "operations": n_operations,
        "seconds": seconds,
        "seconds_to_last_put": seconds_to_last_put,
        "operations_per_second": n_operations as f64 / seconds,
        "cpu_seconds": cpu_seconds,
        "memory_peak": measure::memory_peak(),
        "directory_bytes": measure::directory_bytes(&options.dir, |_| true)?,
        "facts": facts,
    });
    println!("{line}");
    Ok(())
}

fn read_random(
    engine: &dyn engines::Engine,
    options: &WorkloadOptions,
    generator: &Generator,
    seed: u64,
) -> Result<()> {
    let mut random = Random::new(seed);
    let mut n_right = 0;
    for _ in 0..options.reads {
        let number = random.below(options.records);
        engine.get(&generator.key(number), &mut |value| {
            n_right += u64::from(generator.value_begins_right(number, value));
        })?;
    }
    if n_right != options.reads {
        return Err(format!("{} of {} reads gave a wrong value or none", options.reads - n_right, options.reads).into());
    }
    Ok(())
}

fn read_in_order(engine: &dyn engines::Engine, options: &WorkloadOptions, generator: &Generator) -> Result<()> {
    let mut number = 0;
    let mut n_right = 0;
    engine.scan(&mut |key, value| {
        n_right += u64::from(key == generator.key(number) && generator.value_begins_right(number, value));
        number += 1;
    })?;
    if (number, n_right) != (options.records, options.records) {
        return Err(format!("the scan gave {number} records, {n_right} right ones of {}", options.records).into());
    }
    Ok(())
}

/// The table: a row for every workload and engine, medians and the ratio to the last engine.
fn summary(options: &CompareOptions, results: &[Value]) -> Table {
    let mut table = Table::new(&[
        "workload",
        "engine",
        "operations/s",
        "ratio",
        "rounds (1000/s)",
        "to last put/s",
        "CPU s",
        "peak MB",
        "files MB",
    ]);
    for &workload in &options.workloads {
        let of = |engine: EngineKind, field: &str| -> Vec<f64> {
            let wanted = |line: &&Value| {
                line["engine"] == engine.to_string().as_str() && line["workload"] == workload.to_string().as_str()
            };
            results.iter().filter(wanted).filter_map(|line| line[field].as_f64()).collect()
        };
        let Some(&yardstick) = options.engines.last() else { continue };
        let base = measure::median(&of(yardstick, "operations_per_second"));
        for &engine in &options.engines {
            let rates = of(engine, "operations_per_second");
            let last_put = match measure::median(&of(engine, "seconds_to_last_put")) {
                0.0 => "-".to_owned(),
                seconds => format!("{:.0}", options.records as f64 / seconds),
            };
            let rounds: Vec<String> = rates.iter().map(|rate| format!("{:.0}", rate / 1e3)).collect();
            let rate = measure::median(&rates);
            table.row(vec![
                workload.to_string(),
                engine.to_string(),
                format!("{rate:.0}"),
                format!("{:.2}", rate / base),
                rounds.join(" "),
                last_put,
                format!("{:.1}", measure::median(&of(engine, "cpu_seconds"))),
                megabytes(measure::median(&of(engine, "memory_peak")) as u64),
                megabytes(measure::median(&of(engine, "directory_bytes")) as u64),
            ]);
        }
    }
    table
}
