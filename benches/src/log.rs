//! The two ways to append to the log, side by side: both run in turns in one process, and the median of the
//! rounds counts, because the machine is never quiet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lignite::internals::fs::disk::DiskFs;
use lignite::internals::metrics::Metrics;
use lignite::internals::record::{LogPosition, RecordHeader, RecordKind};
use lignite::internals::store::LiveLog;
use lignite::internals::store::log::Appending;
use lignite::{Db, Durability, LogMode, Options, SystemClock};
use lignite_bench::Result;
use lignite_bench::synthetic::Generator;
use serde_json::json;

/// Options of `log`.
#[derive(Clone, Debug, clap::Args)]
pub struct LogOptions {
    /// Directory for the databases; a temporary one by default. What counts is its file system
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Records in a round of appends or puts
    #[arg(long, default_value_t = 400_000)]
    records: u64,
    /// Bytes of a record's payload
    #[arg(long, default_value_t = 130)]
    payload_len: usize,
    /// Rounds of each way
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Writes that wait for the device, of each way
    #[arg(long, default_value_t = 1000)]
    syncs: u64,
    /// Threads of the last part
    #[arg(long, default_value_t = 8)]
    threads: u64,
    /// Only appends, without a database
    #[arg(long)]
    appends_only: bool,
}

const MODES: [LogMode; 2] = [LogMode::Positioned, LogMode::Mapped];

/// Measures appends, puts, and writes that wait for the device.
pub fn run(options: &LogOptions) -> Result<()> {
    let folder = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    appends(options, folder.path())?;
    if !options.appends_only {
        puts(options, folder.path())?;
        syncs(options, folder.path())?;
        syncs_of_threads(options, folder.path())?;
    }
    Ok(())
}

/// Nanoseconds an append to the bare log takes: positioned; mapped, with the space written by the writer;
/// mapped, with the space written by another thread.
fn appends(options: &LogOptions, dir: &Path) -> Result<()> {
    let mut nanos = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        for (way, nanos) in nanos.iter_mut().enumerate() {
            let dir = dir.join(format!("appends-{round}-{way}"));
            std::fs::create_dir(&dir)?;
            let mode = MODES[way.min(1)];
            let log = open_log(&dir, mode)?;
            let done = AtomicBool::new(false);
            let spent = std::thread::scope(|scope| {
                if way == 2 {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            log.prepare_room();
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    });
                }
                let spent = append_all(&log, options);
                done.store(true, Ordering::Relaxed);
                spent
            })?;
            nanos.push(spent);
            drop(log);
            std::fs::remove_dir_all(dir)?;
        }
    }
    let [positioned, mapped, ahead] = nanos.map(median);
    println!(
        "{}",
        json!({ "run": "append", "positioned_ns": positioned, "mapped_ns": mapped, "mapped_ahead_ns": ahead })
    );
    Ok(())
}

fn open_log(dir: &Path, mode: LogMode) -> Result<LiveLog> {
    let appending = Appending { mode, segment_size: 32 << 20 };
    let (fs, clock, metrics) = (Arc::new(DiskFs::new()), Arc::new(SystemClock::new()), Arc::new(Metrics::default()));
    Ok(LiveLog::create(fs, dir.to_path_buf(), 1, 1, appending, clock, metrics, 1, Vec::new(), LogPosition::START, 0)?)
}

fn append_all(log: &LiveLog, options: &LogOptions) -> Result<f64> {
    let payload = vec![7; options.payload_len];
    let start = Instant::now();
    for n in 0..options.records {
        let header = RecordHeader { kind: RecordKind::Batch, first_seq: n + 1, count: 1, synced: LogPosition::START };
        log.append(&mut [(header, &payload)])?;
        if log.current_len() >= 32 << 20 {
            log.rotate(n + 2, n + 2)?;
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / options.records as f64)
}

/// Nanoseconds of a put, in the order of keys.
fn puts(options: &LogOptions, dir: &Path) -> Result<()> {
    let mut nanos = [Vec::new(), Vec::new()];
    let generator = Generator::new(1, 100);
    let mut value = Vec::new();
    for round in 0..options.rounds {
        for (mode, nanos) in MODES.into_iter().zip(&mut nanos) {
            let db = open(&dir.join(format!("puts-{round}-{mode:?}")), mode)?;
            let family = db.default_family();
            let mut spent = Duration::ZERO;
            let start = Instant::now();
            for n in 0..options.records {
                let making = Instant::now();
                generator.value_into(n, &mut value);
                spent += making.elapsed();
                family.put(n.to_be_bytes(), &value)?;
            }
            nanos.push((start.elapsed() - spent).as_nanos() as f64 / options.records as f64);
            let path = db.path().to_path_buf();
            db.close()?;
            std::fs::remove_dir_all(path)?;
        }
    }
    let [positioned, mapped] = nanos.map(median);
    println!("{}", json!({ "run": "put", "positioned_ns": positioned, "mapped_ns": mapped }));
    Ok(())
}

/// Microseconds of a put that waits for the device; the two databases take turns put by put.
fn syncs(options: &LogOptions, dir: &Path) -> Result<()> {
    let open = |mode| open(&dir.join(format!("syncs-{mode:?}")), mode);
    let dbs = [open(MODES[0])?, open(MODES[1])?];
    let mut micros = [Vec::new(), Vec::new()];
    for n in 0..options.syncs {
        for (db, micros) in dbs.iter().zip(&mut micros) {
            let start = Instant::now();
            put_synced(db, n, 0)?;
            micros.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
    }
    let mean = |all: &Vec<f64>| all.iter().sum::<f64>() / all.len() as f64;
    let means = [mean(&micros[0]), mean(&micros[1])];
    let [positioned, mapped] = micros.map(median);
    println!(
        "{}",
        json!({
            "run": "sync", "positioned_us": positioned, "mapped_us": mapped,
            "positioned_mean_us": means[0], "mapped_mean_us": means[1],
        })
    );
    Ok(())
}

/// Puts a second that wait for the device, of several threads.
fn syncs_of_threads(options: &LogOptions, dir: &Path) -> Result<()> {
    let mut rates = [Vec::new(), Vec::new()];
    let mut per_sync = [0.0, 0.0];
    for round in 0..options.rounds {
        for (i, mode) in MODES.into_iter().enumerate() {
            let db = open(&dir.join(format!("threads-{round}-{mode:?}")), mode)?;
            let each = options.syncs / options.threads.max(1);
            let start = Instant::now();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..options.threads)
                    .map(|thread| {
                        let db = db.clone();
                        scope.spawn(move || (0..each).try_for_each(|n| put_synced(&db, n, thread)))
                    })
                    .collect();
                threads.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked")?)
            })?;
            rates[i].push((each * options.threads) as f64 / start.elapsed().as_secs_f64());
            let counters = db.stats().counters.entries();
            let syncs = counters.into_iter().find(|(name, _)| *name == "log_syncs").map_or(1, |(_, n)| n.max(1));
            per_sync[i] = (each * options.threads) as f64 / syncs as f64;
            db.close()?;
        }
    }
    let [positioned, mapped] = rates.map(median);
    println!(
        "{}",
        json!({
            "run": "sync of threads", "threads": options.threads,
            "positioned_per_second": positioned, "mapped_per_second": mapped,
            "positioned_puts_per_sync": per_sync[0], "mapped_puts_per_sync": per_sync[1],
        })
    );
    Ok(())
}

fn open(dir: &Path, mode: LogMode) -> Result<Db> {
    Ok(Options::new().log_mode(mode).open(dir)?)
}

fn put_synced(db: &Db, n: u64, thread: u64) -> Result<()> {
    let mut batch = db.batch();
    batch.put(&db.default_family(), [thread.to_be_bytes(), n.to_be_bytes()].concat(), [7; 100]);
    db.write_with(batch, Durability::Sync)?;
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
