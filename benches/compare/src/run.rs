//! The rounds: every measurement in a process of its own, engines interleaved, results kept as they come.
//!
//! This program starts itself again with the hidden subcommand `case`, which prints one JSON line. A round runs
//! every workload once for every engine; engines take turns in another order each round, so that a slow spell
//! of the machine meets all of them. What a case begins with:
//!
//! * an empty directory;
//! * the loaded database of its engine, made once in a process of its own and kept for all rounds;
//! * a copy of it, for workloads that write;
//! * a database whose process was killed.
//!
//! With `--resume` the lines that are in the file already are not measured again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lignite_bench::measure;
use serde_json::{Value, json};

use crate::Result;
use crate::data::{Data, DataKind};
use crate::engine::{self, EngineKind};
use crate::report;
use crate::workload::{self, Case, Start, Workload};

/// A round of `fillrandom` or `overwrite` whose machine left a thread waiting for longer is measured again,
/// since its latencies would be the machine's.
const GAP_MAX_MS: f64 = 20.0;
/// So often at most.
const TRIES_MAX: u32 = 3;

/// Options of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    /// Engines, of those that this build has
    #[arg(long, value_delimiter = ',', default_values_t = default_engines())]
    engines: Vec<EngineKind>,
    /// Workloads
    #[arg(long, value_delimiter = ',', default_values_t = <Workload as clap::ValueEnum>::value_variants().to_vec())]
    workloads: Vec<Workload>,
    /// Rounds, of which the median is taken
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(flatten)]
    sizes: Sizes,
    /// File for the JSON lines
    #[arg(long, default_value = "compare.jsonl")]
    out: PathBuf,
    /// Keep what is in the file, and measure only what is missing
    #[arg(long)]
    resume: bool,
    /// Where the databases are made and removed again; by default beside this program, under `target`
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A quarter of the records and 2 seconds a case
    #[arg(long)]
    quick: bool,
}

/// What the cases of a run have in common.
#[derive(Clone, Debug, clap::Args)]
pub struct Sizes {
    /// Records: small, json, text, or a set of `shared/data`
    #[arg(long, default_value_t = DataKind::Small)]
    data: DataKind,
    /// How many; by default 2,000,000 small ones, 500,000 of json, 50,000 texts, or a whole set
    #[arg(long)]
    records: Option<u64>,
    /// Seconds of a workload without a natural end
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// Seconds after which a fill ends before all records are in
    #[arg(long, default_value_t = 120.0)]
    fill_secs_max: f64,
    /// Seed of records, orders and draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads for work in the background
    #[arg(long, default_value_t = 2)]
    background_threads: usize,
    /// Compact the load in full before anything is read: every record in the last level, with its codec
    #[arg(long)]
    compacted: bool,
    /// Directory of the record sets
    #[arg(long, default_value_os_t = lignite_bench::records::default_directory())]
    sets: PathBuf,
}

/// Options of one case in its own process.
#[derive(Debug, clap::Args)]
pub struct CaseOptions {
    #[arg(long)]
    engine: EngineKind,
    #[arg(long)]
    workload: Workload,
    #[arg(long)]
    step: Step,
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    sizes: Sizes,
}

/// Which part of a case a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// The load that others begin with.
    Load,
    /// The measurement.
    Measure,
    /// Writing until killed.
    Die,
}

fn default_engines() -> Vec<EngineKind> {
    use EngineKind::*;
    [Lignite, LigniteZstd, RocksdbLz4, RocksdbLz4Small, RocksdbZstd, Fjall, Redb, Lmdb, Canopydb, Surrealkv, ParityDb]
        .into_iter()
        .filter(|e| e.is_built())
        .collect()
}

impl Sizes {
    fn data(&self) -> Result<Data> {
        Data::open(self.data, self.records, self.seed, &self.sets)
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--data={}", self.data),
            format!("--secs={}", self.secs),
            format!("--fill-secs-max={}", self.fill_secs_max),
            format!("--seed={}", self.seed),
            format!("--background-threads={}", self.background_threads),
            format!("--sets={}", self.sets.display()),
        ];
        arguments.extend(self.compacted.then(|| "--compacted".into()));
        arguments.extend(self.records.map(|n| format!("--records={n}")));
        arguments
    }
}

/// Runs the rounds, keeps the lines, prints the table.
pub fn run(options: &RunOptions) -> Result<()> {
    let mut options = options.clone();
    if options.quick {
        options.sizes.secs = options.sizes.secs.min(2.0);
        options.sizes.fill_secs_max = options.sizes.fill_secs_max.min(30.0);
        options.sizes.records.get_or_insert(options.sizes.data.records_default() / 4);
    }
    if let Some(missing) = options.engines.iter().find(|e| !e.is_built()) {
        return Err(format!("this build has no {missing}: see benches/README.md for the features").into());
    }
    let mut known = if options.resume { read_lines(&options.out)? } else { Vec::new() };
    let out = OpenOptions::new()
        .create(true)
        .append(options.resume)
        .write(true)
        .truncate(!options.resume)
        .open(&options.out)?;
    let parent = measure::scratch_directory(options.dir.as_deref())?;
    let data = options.sizes.data()?;
    let mut rounds = Rounds {
        done: known.iter().map(case_name).collect(),
        options: &options,
        parent: parent.path(),
        data: &data,
        out,
        loaded: BTreeMap::new(),
        n_failed: 0,
    };
    for round in 0..options.rounds {
        known.extend(rounds.run(round)?);
    }
    print!("\n{}", report::markdown(&known, EngineKind::RocksdbLz4));
    match rounds.n_failed {
        0 => Ok(()),
        n => Err(format!("{n} cases failed").into()),
    }
}

struct Rounds<'a> {
    options: &'a RunOptions,
    parent: &'a Path,
    data: &'a Data,
    out: File,
    /// Names of the cases that are measured.
    done: BTreeSet<String>,
    /// The line of each load, by engine.
    loaded: BTreeMap<String, Value>,
    /// Cases that failed; a later run with `--resume` tries them again.
    n_failed: u32,
}

impl Rounds<'_> {
    fn run(&mut self, round: u32) -> Result<Vec<Value>> {
        let mut lines = Vec::new();
        for (turn, &workload) in self.options.workloads.iter().enumerate() {
            let mut engines = self.options.engines.clone();
            let n = engines.len();
            engines.rotate_left((round as usize + turn) % n);
            for engine in engines {
                let impossible = workload.needs_order() && !engine.is_ordered()
                    || workload.inserts() && matches!(self.options.sizes.data, DataKind::Set(_));
                let mut line = json!({
                    "engine": engine,
                    "workload": workload,
                    "data": self.options.sizes.data.to_string(),
                    "records": self.data.len(),
                    "raw_bytes": self.data.raw_bytes(),
                    "round": round,
                });
                if impossible || self.done.contains(&case_name(&line)) {
                    continue;
                }
                eprint!("round {round}, {workload}, {engine}: ");
                let figures = match self.measure(engine, workload) {
                    Ok(figures) => figures,
                    Err(error) => {
                        eprintln!("{error}");
                        self.n_failed += 1;
                        continue;
                    }
                };
                if let (Some(line), Value::Object(figures)) = (line.as_object_mut(), figures) {
                    line.extend(figures);
                }
                match line["operations_per_second"].as_f64() {
                    Some(rate) => eprintln!("{rate:.0} a second"),
                    None => eprintln!("not supported"),
                }
                writeln!(self.out, "{line}")?;
                self.done.insert(case_name(&line));
                lines.push(line);
            }
        }
        Ok(lines)
    }

    fn measure(&mut self, engine: EngineKind, workload: Workload) -> Result<Value> {
        let work = self.parent.join("work");
        let mut tries = 0;
        loop {
            tries += 1;
            let figures = match workload.start() {
                Start::Empty => {
                    fresh(&work)?;
                    self.child(engine, workload, Step::Measure, &work)
                }
                Start::Loaded => {
                    let loaded = self.loaded(engine)?;
                    self.child(engine, workload, Step::Measure, &loaded)
                }
                Start::Copy => {
                    let loaded = self.loaded(engine)?;
                    fresh(&work)?;
                    copy(&loaded, &work)?;
                    self.child(engine, workload, Step::Measure, &work)
                }
                Start::Killed => {
                    fresh(&work)?;
                    self.kill(engine, workload, &work)?;
                    self.child(engine, workload, Step::Measure, &work)
                }
            };
            remove(&work)?;
            let mut figures = figures?;
            let gap = figures["spin_gap_ms"].as_f64().unwrap_or(0.0);
            if gap <= GAP_MAX_MS || tries == TRIES_MAX {
                figures["tries"] = json!(tries);
                return Ok(figures);
            }
        }
    }

    /// The loaded database of an engine, which is made the first time.
    fn loaded(&mut self, engine: EngineKind) -> Result<PathBuf> {
        let directory = self.parent.join(format!("loaded-{engine}"));
        if !self.loaded.contains_key(&engine.to_string()) {
            fresh(&directory)?;
            let line = self.child(engine, Workload::Fillbatch, Step::Load, &directory)?;
            self.loaded.insert(engine.to_string(), line);
        }
        Ok(directory)
    }

    fn command(&self, engine: EngineKind, workload: Workload, step: Step, directory: &Path) -> Result<Command> {
        let step = clap::ValueEnum::to_possible_value(&step).ok_or("a step without a name")?;
        let mut command = Command::new(own_program()?);
        command
            .arg("case")
            .args([
                format!("--engine={engine}"),
                format!("--workload={workload}"),
                format!("--step={}", step.get_name()),
            ])
            .arg("--dir")
            .arg(directory)
            .args(self.options.sizes.arguments())
            .stderr(Stdio::inherit());
        Ok(command)
    }

    fn child(&self, engine: EngineKind, workload: Workload, step: Step, directory: &Path) -> Result<Value> {
        let output = self.command(engine, workload, step, directory)?.output()?;
        if !output.status.success() {
            return Err(format!("{engine} {workload} failed: {}", output.status).into());
        }
        // The last line: an engine may have something to say as well.
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().ok_or("a case printed nothing")?;
        Ok(serde_json::from_str(line)?)
    }

    /// Lets a process write, and kills it.
    fn kill(&self, engine: EngineKind, workload: Workload, directory: &Path) -> Result<()> {
        let mut child = self.command(engine, workload, Step::Die, directory)?.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let ready = BufReader::new(stdout).lines().any(|line| line.is_ok_and(|line| line == "ready"));
        child.kill()?;
        child.wait()?;
        if ready { Ok(()) } else { Err(format!("{engine} {workload} ended before it was killed").into()) }
    }
}

/// Runs one case in this process and prints its line.
pub fn run_case(options: &CaseOptions) -> Result<()> {
    let sizes = &options.sizes;
    let case = Case {
        engine: options.engine,
        workload: options.workload,
        secs: sizes.secs,
        fill_secs_max: sizes.fill_secs_max,
        seed: sizes.seed,
        compacted: options.sizes.compacted,
        background_threads: sizes.background_threads,
    };
    let data = sizes.data()?;
    let mut figures = match options.step {
        Step::Load => workload::load(&case, &data, &options.dir)?,
        Step::Measure => workload::run(&case, &data, &options.dir)?,
        Step::Die => workload::write_until_killed(&case, &data, &options.dir)?,
    };
    let marks: Vec<&str> =
        options.engine.marks(case.workload.class()).iter().map(|m: &engine::Mark| m.sign()).collect();
    figures["marks"] = json!(marks);
    println!("{figures}");
    Ok(())
}

/// What tells a measurement from every other.
fn case_name(line: &Value) -> String {
    ["engine", "workload", "data", "records", "round"].map(|field| line[field].to_string()).join(" ")
}

/// The lines of a file that may not be there yet.
pub fn read_lines(path: &Path) -> Result<Vec<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", path.display()).into()),
    };
    let mut lines = Vec::new();
    for line in BufReader::new(file).lines() {
        lines.push(serde_json::from_str(&line?).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    Ok(lines)
}

/// This program as it runs, even if a build has put another in its place meanwhile.
fn own_program() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    Ok(if running.exists() { running } else { std::env::current_exe()? })
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn fresh(directory: &Path) -> Result<()> {
    remove(directory)?;
    Ok(std::fs::create_dir_all(directory)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
