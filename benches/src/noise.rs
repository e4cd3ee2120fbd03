//! What codecs cost where there is nothing to gain: loads of incompressible records, under each codec and under
//! none by turns.
//!
//! A load is all of it: puts in batches, flush, compaction to the bottom. Each round's time counts in units of the
//! same round's time without a codec; at most 1.03 is the bound. The processor time of all rounds together is
//! the same in other words, and for a machine that does other things meanwhile.

use std::path::PathBuf;
use std::time::Instant;

use lignite::{CfOptions, Codec, Compression, Options};
use lignite_bench::measure::{Table, cpu_seconds, median, scratch_directory};
use lignite_bench::records::{self, RecordSet};
use lignite_bench::synthetic::Random;

use lignite_bench::Result;

/// Most that a load may take, in units of one without a codec.
const RATIO_MAX: f64 = 1.03;
/// Bytes of a write batch.
const BATCH_LEN: usize = 256 << 10;

/// Options of `noise`.
#[derive(Debug, clap::Args)]
pub struct NoiseOptions {
    /// Directory of the record sets
    #[arg(long, default_value_os_t = records::default_directory())]
    data: PathBuf,
    /// Codecs of every level
    #[arg(long, value_delimiter = ',', default_values = ["lz4", "snappy", "zstd:1", "zstd:3", "zstd:9", "brotli:5"])]
    codecs: Vec<Codec>,
    /// Rounds, each with every codec
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Megabytes of a load
    #[arg(long, default_value_t = 100)]
    megabytes: usize,
    /// Bytes of a random value
    #[arg(long, default_value_t = 1000)]
    value_len: usize,
    /// Where the databases are made; beside this program by default
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Prints the medians, and whether each is within the bound.
pub fn run(options: &NoiseOptions) -> Result<()> {
    let mut table = Table::new(&[
        "records",
        "codec",
        "s",
        "of none",
        "fastest of none",
        "processor of none",
        "vetoed",
        "within 1.03",
    ]);
    let sources = [("blobs", blobs(options)?), ("random", random(options))];
    for (name, records) in &sources {
        let mut codecs = vec![Codec::None];
        codecs.extend(&options.codecs);
        let mut seconds = vec![Vec::new(); codecs.len()];
        let mut processor = vec![0.0; codecs.len()];
        let mut vetoed = vec![0.0; codecs.len()];
        for round in 0..options.rounds {
            for turn in 0..codecs.len() {
                // Not always in the same order: what one load leaves to be written meets another.
                let at = (turn * if round % 2 == 0 { 1 } else { codecs.len() - 1 } + round) % codecs.len();
                let before = cpu_seconds().unwrap_or(0.0);
                let (taken, share) = load(options, codecs[at], records)?;
                seconds[at].push(taken);
                vetoed[at] = share;
                processor[at] += cpu_seconds().unwrap_or(0.0) - before;
            }
        }
        let fastest = |seconds: &[f64]| seconds.iter().copied().fold(f64::INFINITY, f64::min);
        for (((codec, taken), processor_taken), vetoed) in codecs.iter().zip(&seconds).zip(&processor).zip(&vetoed) {
            let ratios: Vec<f64> = taken.iter().zip(&seconds[0]).map(|(taken, none)| taken / none).collect();
            table.row(vec![
                (*name).to_owned(),
                codec.to_string(),
                format!("{:.3}", median(taken)),
                format!("{:.3}", median(&ratios)),
                format!("{:.3}", fastest(taken) / fastest(&seconds[0])),
                format!("{:.3}", processor_taken / processor[0]),
                format!("{:.1} %", vetoed * 100.0),
                if median(&ratios) <= RATIO_MAX { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    print!("{table}");
    Ok(())
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// The set again and again, under other keys.
fn blobs(options: &NoiseOptions) -> Result<Records> {
    let set = RecordSet::read(&options.data, "blobs")?;
    let n_copies = (options.megabytes << 20).div_ceil(set.raw_bytes().max(1) as usize);
    let copy =
        |n: usize| set.iter().map(move |(key, value)| ([format!("{n:04}/").as_bytes(), key].concat(), value.to_vec()));
    Ok((0..n_copies).flat_map(copy).collect())
}

fn random(options: &NoiseOptions) -> Records {
    let mut random = Random::new(1);
    let n = (options.megabytes << 20) / (options.value_len + 16);
    let mut value = || {
        let mut bytes: Vec<u8> = (0..options.value_len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
        bytes.truncate(options.value_len);
        bytes
    };
    (0..n).map(|i| (format!("{:016}", i * 7919 % n).into_bytes(), value())).collect()
}

/// Seconds, and the share of parts on which the codec was not tried.
fn load(options: &NoiseOptions, codec: Codec, records: &Records) -> Result<(f64, f64)> {
    let directory = scratch_directory(options.dir.as_deref())?;
    let db = Options::new().memtable_size(16 << 20).open(directory.path())?;
    db.set_options("default", CfOptions::new().compression(Compression::all(codec)))?;
    let family = db.default_family();
    let start = Instant::now();
    let mut batch = db.batch();
    for (key, value) in records {
        batch.put(&family, key, value);
        if batch.byte_len() >= BATCH_LEN {
            db.write(std::mem::replace(&mut batch, db.batch()))?;
        }
    }
    db.write(batch)?;
    db.compact()?;
    db.wait_for_idle()?;
    let seconds = start.elapsed().as_secs_f64();
    let stats = db.stats();
    let counters = || stats.families[0].levels.iter().flat_map(|level| &level.codecs).map(|(_, counters)| counters);
    let (vetoed, encoded) =
        (counters().map(|c| c.vetoed_parts).sum::<u64>(), counters().map(|c| c.encoded_parts).sum::<u64>());
    db.close()?;
    Ok((seconds, vetoed as f64 / (vetoed + encoded).max(1) as f64))
}
