//! Whole-engine runs of Lignite alone, with latencies: `fill`, `read`, `scan`, `mixed`, `sync`.
//!
//! Each prints one JSON line. `fill` leaves its database in `--dir`, where the others find it; without
//! `--dir` each makes one in a temporary directory first.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lignite::{CfOptions, Codec, ColumnFamily, Compression, Db, Durability, Options};
use lignite_bench::synthetic::{Generator, Permutation, Random};
use serde_json::{Value, json};

use lignite_bench::Result;
use lignite_bench::measure::{self, Latencies};

/// What all runs have in common.
#[derive(Clone, Debug, clap::Args)]
pub struct SoloOptions {
    /// Directory of the database; by default a temporary one, filled before the run
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Records in the database
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    value_len: usize,
    /// Seed of records and orders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Codec of every level, such as none, lz4 or zstd:3; by default those of the engine
    #[arg(long)]
    codec: Option<Codec>,
    /// Memory budget, in MiB
    #[arg(long, default_value_t = 256)]
    memory_mib: usize,
    /// Memtable size, in MiB
    #[arg(long, default_value_t = 32)]
    memtable_mib: usize,
}

/// Options of `fill`.
#[derive(Clone, Debug, clap::Args)]
pub struct FillOptions {
    #[command(flatten)]
    common: SoloOptions,
    /// Records in a batch
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Write in the order of keys instead of a random one
    #[arg(long)]
    in_order: bool,
}

/// Options of `read` and `mixed`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReadOptions {
    #[command(flatten)]
    common: SoloOptions,
    /// Operations in all
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// Threads at work
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Share of operations that write, in percent
    #[arg(skip)]
    writes_percent: u64,
}

/// Options of `mixed`.
#[derive(Clone, Debug, clap::Args)]
pub struct MixedOptions {
    #[command(flatten)]
    read: ReadOptions,
    /// Share of operations that overwrite a record, in percent
    #[arg(long, default_value_t = 50)]
    writes: u64,
}

/// Options of `scan`.
#[derive(Clone, Debug, clap::Args)]
pub struct ScanOptions {
    #[command(flatten)]
    common: SoloOptions,
    /// From the last record to the first
    #[arg(long)]
    backwards: bool,
}

/// Options of `sync`.
#[derive(Clone, Debug, clap::Args)]
pub struct SyncOptions {
    #[command(flatten)]
    common: SoloOptions,
    /// Threads that write
    #[arg(long, default_value_t = 8)]
    threads: u64,
    /// Commits of each thread
    #[arg(long, default_value_t = 1000)]
    commits: u64,
}

/// Loads the records.
pub fn fill(options: &FillOptions) -> Result<()> {
    let place = Place::new(&options.common)?;
    let (seconds_to_last_put, latencies, db) = load(&options.common, place.path(), options.batch, options.in_order)?;
    let start = Instant::now();
    settle(&db)?;
    let seconds = seconds_to_last_put + start.elapsed().as_secs_f64();
    let more = json!({ "seconds_to_last_put": seconds_to_last_put, "records_per_batch": options.batch });
    finish("fill", db, options.common.records, seconds, &latencies, more)
}

/// Reads existing keys at random.
pub fn read(options: &ReadOptions) -> Result<()> {
    let place = Place::new(&options.common)?;
    let db = open_loaded(&options.common, &place)?;
    let start = Instant::now();
    let latencies = on_threads(options.threads, |thread| operate(options, &db.default_family(), thread))?;
    let seconds = start.elapsed().as_secs_f64();
    finish("read", db, latencies.len(), seconds, &latencies, json!({ "threads": options.threads }))
}

/// Reads and overwrites existing keys at random.
pub fn mixed(options: &MixedOptions) -> Result<()> {
    let read = ReadOptions { writes_percent: options.writes, ..options.read.clone() };
    let place = Place::new(&read.common)?;
    let db = open_loaded(&read.common, &place)?;
    let start = Instant::now();
    let latencies = on_threads(read.threads, |thread| operate(&read, &db.default_family(), thread))?;
    let seconds = start.elapsed().as_secs_f64();
    let more = json!({ "threads": read.threads, "writes_percent": options.writes });
    finish("mixed", db, latencies.len(), seconds, &latencies, more)
}

/// Reads everything in order; latencies are of one step.
pub fn scan(options: &ScanOptions) -> Result<()> {
    let place = Place::new(&options.common)?;
    let db = open_loaded(&options.common, &place)?;
    let mut latencies = Latencies::new()?;
    let mut bytes = 0;
    let start = Instant::now();
    let mut cursor = db.default_family().cursor()?;
    let mut step = Instant::now();
    match options.backwards {
        true => cursor.seek_to_last()?,
        false => cursor.seek_to_first()?,
    }
    while cursor.valid() {
        latencies.record_since(step);
        bytes += (cursor.key().len() + cursor.value().len()) as u64;
        step = Instant::now();
        match options.backwards {
            true => cursor.prev()?,
            false => cursor.next()?,
        }
    }
    drop(cursor);
    let seconds = start.elapsed().as_secs_f64();
    let more = json!({ "backwards": options.backwards, "megabytes_per_second": bytes as f64 / 1e6 / seconds });
    finish("scan", db, latencies.len(), seconds, &latencies, more)
}

/// Writes from several threads, each waiting for the device after every record.
pub fn sync(options: &SyncOptions) -> Result<()> {
    let place = Place::new(&options.common)?;
    let db = open(&options.common, place.path())?;
    let before = db.stats().counters;
    let start = Instant::now();
    let latencies = on_threads(options.threads, |thread| {
        let family = db.default_family();
        let generator = Generator::new(options.common.seed, options.common.value_len);
        let mut latencies = Latencies::new()?;
        let mut value = Vec::new();
        for i in 0..options.commits {
            let number = thread * options.commits + i;
            generator.value_into(number, &mut value);
            let start = Instant::now();
            family.put_with(generator.key(number), &value, Durability::Sync)?;
            latencies.record_since(start);
        }
        Ok(latencies)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let after = db.stats().counters;
    let (commits, syncs) = (after.commits - before.commits, after.log_syncs - before.log_syncs);
    let more = json!({
        "threads": options.threads,
        "log_syncs": syncs,
        "commit_groups": after.commit_groups - before.commit_groups,
        "syncs_per_commit": syncs as f64 / commits as f64,
    });
    finish("sync", db, latencies.len(), seconds, &latencies, more)
}

/// The directory of a run, removed at its end if it is a temporary one.
enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn new(options: &SoloOptions) -> Result<Place> {
        Ok(match &options.dir {
            Some(dir) => Place::Given(dir.clone()),
            None => Place::Temporary(measure::scratch_directory(None)?),
        })
    }

    fn path(&self) -> &Path {
        match self {
            Place::Given(path) => path,
            Place::Temporary(directory) => directory.path(),
        }
    }
}

fn open(options: &SoloOptions, directory: &Path) -> Result<Db> {
    let db = Options::new()
        .memory_budget(options.memory_mib << 20)
        .memtable_size(options.memtable_mib << 20)
        .open(directory)?;
    if let Some(codec) = options.codec {
        db.set_options("default", CfOptions::new().compression(Compression::all(codec)))?;
    }
    Ok(db)
}

/// Opens the database of a run that reads; fills it first if it is a temporary one.
fn open_loaded(options: &SoloOptions, place: &Place) -> Result<Db> {
    if let Place::Temporary(directory) = place {
        let (_, _, db) = load(options, directory.path(), 100, false)?;
        settle(&db)?;
        db.close()?;
    }
    open(options, place.path())
}

fn load(options: &SoloOptions, directory: &Path, batch_len: u64, in_order: bool) -> Result<(f64, Latencies, Db)> {
    let db = open(options, directory)?;
    let family = db.default_family();
    let generator = Generator::new(options.seed, options.value_len);
    let order = Permutation::new(options.records, options.seed);
    let mut latencies = Latencies::new()?;
    let mut value = Vec::new();
    let start = Instant::now();
    let mut place = 0;
    while place < options.records {
        let mut batch = db.batch();
        let end = options.records.min(place + batch_len.max(1));
        for place in place..end {
            let number = if in_order { place } else { order.at(place) };
            generator.value_into(number, &mut value);
            batch.put(&family, generator.key(number), &value);
        }
        place = end;
        let start = Instant::now();
        db.write(batch)?;
        latencies.record_since(start);
    }
    Ok((start.elapsed().as_secs_f64(), latencies, db))
}

/// One thread's share of the operations.
fn operate(options: &ReadOptions, family: &ColumnFamily, thread: u64) -> Result<Latencies> {
    let generator = Generator::new(options.common.seed, options.common.value_len);
    let mut random = Random::new(options.common.seed ^ (thread + 1) << 32);
    let mut latencies = Latencies::new()?;
    let mut value = Vec::new();
    for _ in 0..options.operations / options.threads.max(1) {
        let number = random.below(options.common.records);
        let key = generator.key(number);
        if random.below(100) < options.writes_percent {
            generator.value_into(number, &mut value);
            let start = Instant::now();
            family.put(key, &value)?;
            latencies.record_since(start);
        } else {
            let start = Instant::now();
            let found = family.get(key)?;
            latencies.record_since(start);
            if !found.is_some_and(|found| generator.value_begins_right(number, &found)) {
                return Err(format!("record {number} is missing or wrong; was it loaded with the same options?").into());
            }
        }
    }
    Ok(latencies)
}

/// Runs `work` on so many threads, each with its number, and puts their latencies together.
fn on_threads(n_threads: u64, work: impl Fn(u64) -> Result<Latencies> + Sync) -> Result<Latencies> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..n_threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let mut all = Latencies::new()?;
        for thread in threads {
            all.add(&thread.join().map_err(|_| "a thread of the workload panicked")??)?;
        }
        Ok(all)
    })
}

fn settle(db: &Db) -> Result<()> {
    db.flush()?;
    db.wait_for_idle()?;
    Ok(())
}

fn finish(run: &str, db: Db, n_operations: u64, seconds: f64, latencies: &Latencies, more: Value) -> Result<()> {
    let directory = db.path().to_owned();
    let counters = db.stats().counters.entries().into_iter().filter(|&(_, n)| n > 0);
    let counters: serde_json::Map<String, Value> = counters.map(|(name, n)| (name.to_owned(), json!(n))).collect();
    db.close()?;
    let mut line = json!({
        "run": run,
        "operations": n_operations,
        "seconds": seconds,
        "operations_per_second": n_operations as f64 / seconds,
        "latency": latencies.to_json(),
        "cpu_seconds": measure::cpu_seconds(),
        "memory_peak": measure::memory_peak(),
        "directory_bytes": measure::directory_bytes(&directory, |_| true)?,
        "counters": counters,
    });
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    println!("{line}");
    Ok(())
}
