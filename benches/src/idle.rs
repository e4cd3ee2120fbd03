//! What an idle core is worth: the same work on blocks with a thread of the pool and without, by turns.
//!
//! Works on one record set, put in a random order. `compact` merges its level 0 into the bottom level; `scan` and
//! `check` read what that leaves, in a database opened anew. The bounds: a scan of a Zstandard family is at least
//! 1.6 times as fast, one of an LZ4 family never slower.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lignite::{CfOptions, Codec, Compression, Db, Options};
use lignite_bench::measure::{Table, median, scratch_directory};
use lignite_bench::records::{self, RecordSet};
use lignite_bench::synthetic::Permutation;

use lignite_bench::Result;

/// Bytes of a write batch.
const BATCH_LEN: usize = 256 << 10;
/// Scans and checks of each database.
const READS_A_ROUND: usize = 3;

/// Options of `idle`.
#[derive(Debug, clap::Args)]
pub struct IdleOptions {
    /// Directory of the record sets
    #[arg(long, default_value_os_t = records::default_directory())]
    data: PathBuf,
    /// The record set
    #[arg(long, default_value = "packages")]
    set: String,
    /// Codecs of every level
    #[arg(long, value_delimiter = ',', default_values = ["lz4", "zstd:1", "zstd:3", "zstd:9"])]
    codecs: Vec<Codec>,
    /// Block size, in KiB
    #[arg(long, default_value_t = 16)]
    block_kib: usize,
    /// Rounds, each with and without the thread
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the databases are made; beside this program by default
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Prints medians with and without, and how many times as fast the work is with the thread; the ratio of the
/// fastest times too, for a machine whose other core is not always idle.
pub fn run(options: &IdleOptions) -> Result<()> {
    let set = RecordSet::read(&options.data, &options.set)?;
    let mut table =
        Table::new(&["codec", "work", "alone, s", "with one core, s", "times as fast", "fastest", "assisted"]);
    for &codec in &options.codecs {
        let mut rows: Vec<Row> = ["compact", "scan", "check"].map(Row::new).into();
        for _ in 0..options.rounds {
            for threads in [0, 1] {
                let directory = scratch_directory(options.dir.as_deref())?;
                prepare(options, codec, &set, directory.path())?;
                rows[0].measure(directory.path(), threads, |db| Ok(db.compact()?))?;
            }
            let directory = scratch_directory(options.dir.as_deref())?;
            prepare(options, codec, &set, directory.path())?;
            let db = open(directory.path(), 0)?;
            db.compact()?;
            db.close()?;
            for _ in 0..READS_A_ROUND {
                for threads in [0, 1] {
                    rows[1].measure(directory.path(), threads, scan)?;
                }
                for threads in [0, 1] {
                    rows[2].measure(directory.path(), threads, check)?;
                }
            }
        }
        for row in rows {
            let ratios: Vec<f64> =
                row.seconds[0].iter().zip(&row.seconds[1]).map(|(alone, with)| alone / with).collect();
            table.row(vec![
                codec.to_string(),
                row.work.to_owned(),
                format!("{:.3}", median(&row.seconds[0])),
                format!("{:.3}", median(&row.seconds[1])),
                format!("{:.2}", median(&ratios)),
                format!("{:.2}", fastest(&row.seconds[0]) / fastest(&row.seconds[1])),
                format!("{:.0} %", 100.0 * row.assisted as f64 / (row.assisted + row.inline).max(1) as f64),
            ]);
        }
    }
    print!("{table}");
    Ok(())
}

fn fastest(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The times of one kind of work, without the thread and with it.
struct Row {
    work: &'static str,
    seconds: [Vec<f64>; 2],
    assisted: u64,
    inline: u64,
}

impl Row {
    fn new(work: &'static str) -> Row {
        Row { work, seconds: Default::default(), assisted: 0, inline: 0 }
    }

    fn measure(&mut self, directory: &Path, threads: usize, work: impl Fn(&Db) -> Result<()>) -> Result<()> {
        let db = open(directory, threads)?;
        let start = Instant::now();
        work(&db)?;
        self.seconds[threads].push(start.elapsed().as_secs_f64());
        if threads > 0 {
            let counters = db.stats().counters;
            let encodes = self.work == "compact";
            self.assisted += if encodes { counters.encodes_assisted } else { counters.decodes_assisted };
            self.inline += if encodes { counters.encodes_inline } else { counters.decodes_inline };
        }
        db.close()?;
        Ok(())
    }
}

fn open(directory: &Path, decode_threads: usize) -> Result<Db> {
    Ok(Options::new().memtable_size(8 << 20).background_threads(1).decode_threads(decode_threads).open(directory)?)
}

/// A database whose records lie in level 0, in several tables that overlap.
fn prepare(options: &IdleOptions, codec: Codec, set: &RecordSet, directory: &Path) -> Result<()> {
    let db = open(directory, 0)?;
    let compression = Compression::all(codec);
    let family_options =
        CfOptions::new().compression(compression).block_size(options.block_kib << 10).level0_trigger(1000);
    db.set_options("default", family_options)?;
    let family = db.default_family();
    let starts = set.starts();
    let order = Permutation::new(starts.len() as u64, 1);
    let mut batch = db.batch();
    for place in 0..starts.len() as u64 {
        let (key, value) = set.at(starts[order.at(place) as usize]);
        batch.put(&family, key, value);
        if batch.byte_len() >= BATCH_LEN {
            db.write(std::mem::replace(&mut batch, db.batch()))?;
        }
    }
    db.write(batch)?;
    db.flush()?;
    db.close()?;
    Ok(())
}

fn scan(db: &Db) -> Result<()> {
    let mut cursor = db.default_family().cursor()?;
    cursor.seek_to_first()?;
    let mut bytes = 0;
    while cursor.valid() {
        bytes += cursor.key().len() + cursor.value().len();
        cursor.next()?;
    }
    if bytes == 0 { Err("the database is empty".into()) } else { Ok(()) }
}

fn check(db: &Db) -> Result<()> {
    let report = db.check(true, &mut |_| {})?;
    if report.is_clean() { Ok(()) } else { Err("the check finds fault".into()) }
}
