//! `demo`: the first five minutes. Makes a database with one family per codec, loads the same
//! seeded data into each, reads it back, compacts, and prints the comparison.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lignite::{CfOptions, ColumnFamily, Compression, Db, Options};
use serde::Serialize;

use super::shape::Totals;
use crate::args::FormatArgs;
use crate::context::{Context, close, megabytes_per_second};
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Cell, Report, Table};
use crate::seeded::Seeded;
use crate::text;

/// Make a sample database, compare the codecs on it, and say what to try next.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite demo                 # in a new temporary directory
  lignite demo ./demo --json")]
pub struct Args {
    /// The directory to make; must be missing or empty.
    dir: Option<PathBuf>,
    /// Where the sample data begins; the same number makes the same data.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    format: FormatArgs,
}

/// Records a family gets.
const RECORDS: usize = 25_000;
/// Records a batch holds.
const BATCH: usize = 500;
/// Point reads that are timed for each family.
const READS: usize = 500;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    seed: u64,
    nanos: u64,
    families: Vec<Row>,
    next: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    cf: String,
    codec: String,
    records: u64,
    raw_bytes: u64,
    disk_bytes: u64,
    load_nanos: u64,
    cold_read_nanos: u64,
    scan_nanos: u64,
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let dir = directory(args)?;
    let begun = Instant::now();
    let records = sample(args.seed);
    let raw_bytes: u64 = records.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum();
    let families = families();

    let mut progress = context.progress("demo", Some(3 * raw_bytes * families.len() as u64));
    let mut done = 0;
    let mut step = || {
        done += raw_bytes;
        progress.set(done, None);
        interrupt::check()
    };
    let mut rows = Vec::new();
    let db = Options::new().open(&dir)?;
    for (name, compression) in &families {
        let family = db.create_column_family(name, CfOptions::new().compression(*compression))?;
        let load = load(&db, &family, &records)?;
        rows.push(Row {
            cf: (*name).to_string(),
            codec: compression.to_string(),
            records: records.len() as u64,
            raw_bytes,
            disk_bytes: 0,
            load_nanos: load.as_nanos() as u64,
            cold_read_nanos: 0,
            scan_nanos: 0,
        });
        step()?;
    }
    for (name, _) in &families {
        db.column_family(name)?.compact()?;
        step()?;
    }
    close(db)?;

    // The smallest memory budget there is keeps next to nothing in the cache: nearly every point
    // read decodes its block.
    let db = Options::new().memory_budget(1 << 20).open_read_only(&dir)?;
    for row in &mut rows {
        let family = db.column_family(&row.cf)?;
        row.scan_nanos = verify(&family, &records)?.as_nanos() as u64;
        row.cold_read_nanos = read(&family, &records, args.seed)?.as_nanos() as u64;
        row.disk_bytes = Totals::of(&family.stats()).bytes;
        step()?;
    }
    drop(db);
    progress.finish();
    print(args, context, &dir, rows, begun.elapsed())?;
    Ok(Exit::Done)
}

/// One family per codec, and the default, which mixes them by level.
fn families() -> [(&'static str, Compression); 6] {
    [
        ("none", Compression::none()),
        ("lz4", Compression::lz4()),
        ("snappy", Compression::snappy()),
        ("zstd", Compression::zstd(3)),
        ("brotli", Compression::brotli(4)),
        ("mixed", Compression::default()),
    ]
}

fn directory(args: &Args) -> Result<PathBuf, Failure> {
    let Some(dir) = &args.dir else {
        let made = tempfile::Builder::new().prefix("lignite-demo-").tempdir();
        return Ok(made.map_err(|e| Failure::io("make a directory in", &std::env::temp_dir(), &e))?.keep());
    };
    match std::fs::read_dir(dir).map(|mut names| names.next().is_some()) {
        Ok(true) => Err(Failure::refused(format!(
            "{} is not empty; nothing was changed; name a new or empty directory",
            dir.display()
        ))),
        Ok(false) => Ok(dir.clone()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(dir.clone()),
        Err(e) => Err(Failure::io("read", dir, &e)),
    }
}

/// Loads everything in batches and waits until it is in tables.
fn load(db: &Db, family: &ColumnFamily, records: &Records) -> Result<Duration, Failure> {
    let begun = Instant::now();
    for part in records.chunks(BATCH) {
        let mut batch = db.batch();
        for (key, value) in part {
            batch.put(family, key, value);
        }
        db.write(batch)?;
    }
    family.flush()?;
    Ok(begun.elapsed())
}

/// Reads everything in order; all must be as it was written.
fn verify(family: &ColumnFamily, records: &Records) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut expected = records.iter();
    for entry in family.iter() {
        let entry = entry?;
        let same =
            expected.next().is_some_and(|(k, v)| entry.key() == k && entry.value().is_ok_and(|value| value == v));
        if !same {
            return Err(different(family));
        }
    }
    if expected.next().is_some() {
        return Err(different(family));
    }
    Ok(begun.elapsed())
}

/// The median time of a point read at a random place.
fn read(family: &ColumnFamily, records: &Records, seed: u64) -> Result<Duration, Failure> {
    let mut random = Seeded::new(seed ^ 1);
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let (key, value) = &records[random.below(records.len() as u64) as usize];
        let begun = Instant::now();
        let found = family.get(key)?;
        times.push(begun.elapsed());
        if found.is_none_or(|found| *found != **value) {
            return Err(different(family));
        }
    }
    times.sort_unstable();
    Ok(times[READS / 2])
}

fn different(family: &ColumnFamily) -> Failure {
    Failure::new(Exit::Corruption, format!("column family {} does not read back what was written", family.name()))
}

fn print(args: &Args, context: &Context, dir: &Path, rows: Vec<Row>, took: Duration) -> Result<(), Failure> {
    let mut table = Table::new(&["cf", "codec", "raw", "on disk", "ratio", "load MB/s", "cold read us", "scan MB/s"]);
    let mut records = 0;
    for row in &rows {
        let rate = |nanos| Cell::Number(megabytes_per_second(row.raw_bytes, Duration::from_nanos(nanos)), 0);
        records += row.records;
        table.row(vec![
            Cell::text(&row.cf),
            Cell::text(&row.codec),
            Cell::Bytes(row.raw_bytes),
            Cell::Bytes(row.disk_bytes),
            Cell::ratio(row.raw_bytes, row.disk_bytes),
            rate(row.load_nanos),
            Cell::Number(row.cold_read_nanos as f64 / 1e3, 1),
            rate(row.scan_nanos),
        ]);
    }
    let path = dir.display().to_string();
    let shell = text::shell_quoted(&path);
    let next = vec![
        format!("lignite tree {shell} --cf zstd"),
        format!("lignite scan {shell} --cf mixed --prefix event/ --limit 3"),
        format!("lignite check {shell} --deep"),
    ];
    let title = format!(
        "{} records in {} column families, written, compacted and read back in {:.1} s",
        output::count(records),
        rows.len(),
        took.as_secs_f64()
    );
    let mut notes = vec![String::new(), format!("The database is at {path}. Try next:")];
    notes.extend(next.iter().map(|command| format!("  {command}")));
    let document = Document {
        schema: "lignite.demo/1",
        path,
        seed: args.seed,
        nanos: took.as_nanos() as u64,
        families: rows,
        next,
    };
    let mut report = Report::new(document, table.titled(title));
    report.notes = notes;
    context.output().report(args.format.get(), &report)
}

/// Events as JSON, lines of a web server's log, readings of sensors, and random tokens, in order.
fn sample(seed: u64) -> Records {
    let mut random = Seeded::new(seed);
    let mut records: Records = (0..RECORDS)
        .map(|i| match i % 25 {
            0..10 => event(i, &mut random),
            10..18 => log_line(i, &mut random),
            18..24 => reading(i, &mut random),
            _ => token(i, &mut random),
        })
        .collect();
    records.sort_unstable();
    records
}

const PATHS: [&str; 8] = [
    "/",
    "/login",
    "/api/v2/orders",
    "/api/v2/orders/search",
    "/static/app.js",
    "/static/style.css",
    "/health",
    "/account",
];

fn event(i: usize, random: &mut Seeded) -> (Vec<u8>, Vec<u8>) {
    let action = random.pick(&["page_view", "add_to_cart", "purchase", "search", "sign_in"]);
    let country = random.pick(&["DE", "FR", "US", "JP", "BR", "IN"]);
    let browser = random.pick(&["Firefox 140.0", "Chrome 142.0.7444", "Safari 26.1"]);
    let value = format!(
        "{{\"action\":\"{action}\",\"user\":{{\"id\":{},\"country\":\"{country}\",\"plan\":\"{}\"}},\"path\":\"{}\",\
         \"browser\":\"{browser}\",\"duration_ms\":{},\"cart\":[{},{}],\"ok\":{}}}",
        random.below(40_000),
        random.pick(&["free", "team", "enterprise"]),
        random.pick(&PATHS),
        random.below(900),
        random.below(5_000),
        random.below(5_000),
        random.below(50) > 0,
    );
    (format!("event/2026-11-{:02}T{}/{i:07}", 1 + i * 28 / RECORDS, clock(i)).into_bytes(), value.into_bytes())
}

fn log_line(i: usize, random: &mut Seeded) -> (Vec<u8>, Vec<u8>) {
    let host = random.below(12);
    let level = random.pick(&["INFO ", "INFO ", "INFO ", "WARN ", "ERROR"]);
    let value = format!(
        "{} {level} http: {} {} HTTP/1.1 {} {}us from 10.0.{}.{} request={:016x}",
        clock(i),
        random.pick(&["GET", "GET", "GET", "POST", "PUT"]),
        random.pick(&PATHS),
        random.pick(&["200", "200", "200", "304", "404", "500"]),
        random.below(90_000),
        random.below(4),
        random.below(250),
        random.next(),
    );
    (format!("log/web-{host:02}/{i:09}").into_bytes(), value.into_bytes())
}

/// Four doubles that drift slowly, as a sensor's do.
fn reading(i: usize, random: &mut Seeded) -> (Vec<u8>, Vec<u8>) {
    let sensor = random.below(20);
    let drift = (i as f64 / 400.0).sin();
    let mut noise = |scale: f64| random.below(200) as f64 * scale;
    let values =
        [20.0 + (drift * 50.0).round() / 10.0 + noise(0.01), 1013.0 + noise(0.1), 45.0 + noise(0.5), sensor as f64];
    let mut key = format!("sensor/{sensor:04}/").into_bytes();
    key.extend_from_slice(&(1_795_000_000 + i as u64).to_be_bytes());
    (key, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// What no codec can shrink.
fn token(i: usize, random: &mut Seeded) -> (Vec<u8>, Vec<u8>) {
    (format!("token/{i:07}").into_bytes(), (0..6).flat_map(|_| random.next().to_le_bytes()).collect())
}

fn clock(i: usize) -> String {
    let second = i * 7 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_data_with_unique_sorted_keys() {
        let records = sample(42);
        assert_eq!(records.len(), RECORDS);
        assert!(records.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!(records, sample(42));
        assert_ne!(records, sample(43));
    }
}
