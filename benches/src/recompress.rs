//! A family moved from LZ4 to Zstandard with a dictionary while it is read and written, and killed on the way.
//!
//! The same load runs twice for as long, in one process on one database: first alone, then beside the
//! recompression. After that a copy of the database is recompressed by a child process that is killed
//! after a random time, again and again, then left alone, and every record of the result is compared with
//! the original.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lignite::{CfOptions, Codec, ColumnFamily, Compression, Db, DictionaryPolicy, Options, RecompressOptions};

use lignite_bench::Result;
use lignite_bench::measure::{directory_bytes, scratch_directory};

/// Options of `recompress`.
#[derive(Debug, clap::Args)]
pub struct RecompressArguments {
    /// Bytes of keys and values to load, in MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Seconds of each half
    #[arg(long, default_value_t = 30)]
    secs: u64,
    /// Bytes of keys and values that the recompression may read a second, in MiB; 0 for no limit
    #[arg(long, default_value_t = 0)]
    rate_mib: u64,
    /// How often to kill
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Operations of the load a second, per kind (gets, puts)
    #[arg(long, default_value_t = 2000)]
    ops: u64,
    /// Recompress this database, and nothing else
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
}

/// Runs it.
pub fn run(options: &RecompressArguments) -> Result<()> {
    if let Some(directory) = &options.child {
        let db = open(directory)?;
        let family = db.column_family("f")?;
        family.recompress(&wanted(0), &mut |_| true)?;
        drop(family);
        db.close()?;
        return Ok(());
    }
    let scratch = scratch_directory(None)?;
    let (original, online) = (scratch.path().join("original"), scratch.path().join("online"));
    let records = load(&original, options.mib << 20)?;
    copy(&original, &online)?;
    live(options, &online, records)?;
    killed(options, &original, &scratch.path().join("killed"))?;
    Ok(())
}

fn wanted(rate_mib: u64) -> RecompressOptions {
    let zstd =
        CfOptions::new().compression(Compression::all(Codec::Zstd { level: 3 })).dictionary(DictionaryPolicy::DEFAULT);
    let mut wanted = RecompressOptions::new(zstd);
    wanted.rate = rate_mib << 20;
    wanted
}

fn open(directory: &Path) -> Result<Db> {
    Ok(Options::new().memory_budget(256 << 20).background_threads(2).open(directory)?)
}

/// A record of some hundred bytes: the fields of an application's object.
fn record(n: u64) -> (Vec<u8>, Vec<u8>) {
    const STATES: [&str; 6] = ["open", "paid", "packed", "shipped", "returned", "cancelled"];
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let value = format!(
        "{{\"order\":{n},\"state\":\"{}\",\"customer\":{{\"id\":\"c-{:08x}\",\"tier\":{}}},\"items\":[{{\"sku\":\"{:010}\",\"count\":{},\
         \"price\":{}.{:02}}},{{\"sku\":\"{:010}\",\"count\":{},\"price\":{}.{:02}}}],\"warehouse\":\"w{:03}\",\"note\":\"{:016x}{:016x}\"}}",
        STATES[draw(6) as usize],
        draw(1 << 32),
        draw(4),
        draw(5_000),
        draw(9) + 1,
        draw(400),
        draw(100),
        draw(5_000),
        draw(9) + 1,
        draw(400),
        draw(100),
        draw(40),
        draw(u64::MAX),
        draw(u64::MAX)
    );
    (format!("order/{:020}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes(), value.into_bytes())
}

fn load(directory: &Path, bytes: u64) -> Result<u64> {
    let db = open(directory)?;
    let lz4 = CfOptions::new().compression(Compression::lz4()).dictionary(DictionaryPolicy::None);
    let family = db.create_column_family("f", lz4)?;
    let (mut written, mut n) = (0, 0);
    while written < bytes {
        let (key, value) = record(n);
        written += (key.len() + value.len()) as u64;
        family.put(&key, &value)?;
        n += 1;
    }
    db.compact()?;
    db.wait_for_idle()?;
    println!(
        "{n} records, {} MiB of keys and values, {} MiB of tables under LZ4",
        written >> 20,
        tables(directory)? >> 20
    );
    drop(family);
    db.close()?;
    Ok(n)
}

fn tables(directory: &Path) -> Result<u64> {
    directory_bytes(directory, |name| name.ends_with(".sst"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Latencies in nanoseconds.
struct Latencies {
    gets: Histogram<u64>,
    puts: Histogram<u64>,
}

/// Gets and puts at a steady pace until told to stop.
fn load_beside(family: &ColumnFamily, records: u64, ops: u64, stop: &AtomicBool) -> Result<Latencies> {
    let mut latencies = Latencies { gets: Histogram::new(3)?, puts: Histogram::new(3)? };
    let (begun, mut done, mut draw) = (Instant::now(), 0u64, 1u64);
    while !stop.load(Ordering::Relaxed) {
        draw = draw.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let (key, value) = record((draw >> 20) % records);
        let at = Instant::now();
        if family.get(&key)?.is_none() {
            return Err("a record is gone".into());
        }
        latencies.gets.record(at.elapsed().as_nanos() as u64)?;
        let at = Instant::now();
        family.put(&key, &value)?;
        latencies.puts.record(at.elapsed().as_nanos() as u64)?;
        done += 1;
        let due = begun + Duration::from_nanos(done * 1_000_000_000 / ops.max(1));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(latencies)
}

fn live(options: &RecompressArguments, directory: &Path, records: u64) -> Result<()> {
    let db = open(directory)?;
    let family = db.column_family("f")?;
    let stop = Arc::new(AtomicBool::new(false));
    let beside = |stop: &Arc<AtomicBool>| {
        let (family, stop, ops) = (family.clone(), stop.clone(), options.ops);
        std::thread::spawn(move || load_beside(&family, records, ops, &stop).map_err(|e| e.to_string()))
    };
    let joined = |thread: std::thread::JoinHandle<std::result::Result<Latencies, String>>| -> Result<Latencies> {
        thread.join().map_err(|_| "the load panicked")?.map_err(Into::into)
    };

    let thread = beside(&stop);
    std::thread::sleep(Duration::from_secs(options.secs));
    stop.store(true, Ordering::Relaxed);
    let alone = joined(thread)?;

    let before = tables(directory)?;
    let stop = Arc::new(AtomicBool::new(false));
    let thread = beside(&stop);
    let peak = Arc::new(AtomicU64::new(0));
    let watch = {
        let (stop, peak, directory) = (stop.clone(), peak.clone(), directory.to_path_buf());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(tables(&directory).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let begun = Instant::now();
    let report = family.recompress(&wanted(options.rate_mib), &mut |_| true)?;
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let during = joined(thread)?;
    watch.join().map_err(|_| "the watch panicked")?;
    println!(
        "recompressed {} tables in {:.1} s, {} -> {} MiB, dictionary {} B; at the most {} MiB more than before",
        report.tables_rewritten,
        took.as_secs_f64(),
        report.bytes_before >> 20,
        report.bytes_after >> 20,
        report.dictionary_len,
        peak.load(Ordering::Relaxed).saturating_sub(before) >> 20
    );
    let us = |h: &Histogram<u64>, q: f64| h.value_at_quantile(q) as f64 / 1000.0;
    for (name, a, b) in [("gets", &alone.gets, &during.gets), ("puts", &alone.puts, &during.puts)] {
        println!(
            "{name}: p50 {:.1} -> {:.1} us, p99 {:.1} -> {:.1} us ({:.2} times), p99.9 {:.1} -> {:.1} us",
            us(a, 0.5),
            us(b, 0.5),
            us(a, 0.99),
            us(b, 0.99),
            us(b, 0.99) / us(a, 0.99),
            us(a, 0.999),
            us(b, 0.999)
        );
    }
    drop(family);
    db.close()?;
    Ok(())
}

fn killed(options: &RecompressArguments, original: &Path, directory: &Path) -> Result<()> {
    copy(original, directory)?;
    let child = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("recompress").arg("--child").arg(directory).stdout(Stdio::null());
        command.spawn()
    };
    let (mut kills, mut draw) = (0, 7u64);
    while kills < options.kills {
        let mut running = child()?;
        draw = draw.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        std::thread::sleep(Duration::from_millis(100 + (draw >> 33) % 900));
        match running.try_wait()? {
            None => {
                running.kill()?;
                running.wait()?;
                kills += 1;
            }
            Some(status) if status.success() => {
                println!("it was done after {kills} kills; begun again from LZ4");
                std::fs::remove_dir_all(directory)?;
                copy(original, directory)?;
            }
            Some(status) => return Err(format!("the child failed: {status}").into()),
        }
    }
    if !child()?.wait()?.success() {
        return Err("the last child failed".into());
    }
    let (a, b) = (Db::open_read_only(original)?, Db::open_read_only(directory)?);
    let (a, b) = (a.column_family("f")?, b.column_family("f")?);
    let mut count = 0u64;
    let mut others = b.iter();
    for entry in a.iter() {
        let entry = entry?;
        let other = others.next().ok_or("a record is missing")??;
        if entry.key() != other.key() || *entry.value()? != *other.value()? {
            return Err(format!("{} differs", entry.key().escape_ascii()).into());
        }
        count += 1;
    }
    if others.next().is_some() {
        return Err("there is a record too many".into());
    }
    let codecs = b.compression_report()?;
    println!(
        "killed {kills} times and resumed: {count} records equal, {} dictionaries in use",
        codecs.dictionaries.len()
    );
    Ok(())
}
