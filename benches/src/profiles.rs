//! What each objective makes of the record sets: bytes on disk, and the time of decoding a block, promised and
//! measured.
//!
//! Each set is loaded in a family of its own in a database of its own, compacted, and closed. `all` is every byte
//! of its tables: blocks, index, filter, dictionary. `whole stream` is the set as `shared/data` has it, one
//! stream of Zstandard 19. Decoding is from the stored block to the form that the cache keeps, checksums
//! included, shortest of three.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lignite::{CfOptions, Codec, ColumnFamily, Compression, CompressionReport, Objective, Options};

use lignite_bench::Result;
use lignite_bench::measure::{Table, scratch_directory};
use lignite_bench::records::{self, RecordSet, SETS};

/// Options of `profiles`.
#[derive(Debug, clap::Args)]
pub struct ProfileOptions {
    /// Directory of the record sets
    #[arg(long, default_value_os_t = records::default_directory())]
    data: PathBuf,
    /// Sets to measure
    #[arg(long, value_delimiter = ',', default_values_t = SETS.map(String::from))]
    sets: Vec<String>,
    /// Profiles to measure, of those that are listed without this
    #[arg(long, value_delimiter = ',')]
    profiles: Vec<String>,
}

fn profiles() -> Vec<(&'static str, CfOptions)> {
    let decode = |micros| CfOptions::new().objective(Objective::Decode(Duration::from_micros(micros)));
    vec![
        ("default", CfOptions::new()),
        ("smallest", CfOptions::new().objective(Objective::Smallest)),
        ("balanced", CfOptions::new().objective(Objective::Balanced)),
        ("fastest-reads", CfOptions::new().objective(Objective::FastestReads)),
        ("decode:20us", decode(20)),
        ("decode:5us", decode(5)),
        ("zstd:1", CfOptions::new().compression(Compression::zstd(1)).block_size(16 << 10)),
        ("zstd:3 plain", {
            let plain = CfOptions::new().compression(Compression::all(Codec::Zstd { level: 3 })).block_size(16 << 10);
            plain.dictionary(lignite::DictionaryPolicy::None)
        }),
    ]
}

/// Prints the table.
pub fn run(options: &ProfileOptions) -> Result<()> {
    let mut table = Table::new(&[
        "set",
        "profile",
        "written as",
        "block",
        "dictionary",
        "all",
        "ratio",
        "whole stream",
        "share of it",
        "us mean",
        "promised",
        "us p99",
        "promised",
        "load s",
    ]);
    for name in &options.sets {
        let set = RecordSet::read(&options.data, name)?;
        let whole = std::fs::metadata(options.data.join(format!("{name}.kv.zst")))?.len();
        for (profile, family) in profiles() {
            if !options.profiles.is_empty() && !options.profiles.iter().any(|p| p == profile) {
                continue;
            }
            let made = measure(&set, family)?;
            let raw = set.raw_bytes() as f64;
            let us = |nanos: u64| format!("{:.1}", nanos as f64 / 1000.0);
            table.row(vec![
                name.clone(),
                profile.into(),
                made.compression,
                made.block_size.to_string(),
                made.report.dictionaries.first().map_or(0, |d| d.len).to_string(),
                made.all.to_string(),
                format!("{:.3}", raw / made.all as f64),
                whole.to_string(),
                format!("{:.3}", whole as f64 / made.all as f64),
                us(made.report.decode_nanos),
                us(made.report.promised_decode_nanos),
                us(made.report.decode_nanos_p99),
                us(made.report.promised_decode_nanos_p99),
                format!("{:.2}", made.took.as_secs_f64()),
            ]);
            eprintln!("{name} {profile}: {} B", made.all);
        }
    }
    print!("{table}");
    Ok(())
}

struct Made {
    compression: String,
    block_size: u64,
    all: u64,
    took: Duration,
    report: CompressionReport,
}

fn measure(set: &RecordSet, options: CfOptions) -> Result<Made> {
    let scratch = scratch_directory(None)?;
    let db = Options::new().open(scratch.path())?;
    let family = db.create_column_family("set", options)?;
    let begun = Instant::now();
    let mut batch = db.batch();
    for (key, value) in set.iter() {
        batch.put(&family, key, value);
        if batch.byte_len() >= 1 << 20 {
            db.write(std::mem::replace(&mut batch, db.batch()))?;
        }
    }
    db.write(batch)?;
    db.compact()?;
    let took = begun.elapsed();
    let made = described(&family, took)?;
    drop(family);
    db.close()?;
    Ok(made)
}

fn described(family: &ColumnFamily, took: Duration) -> Result<Made> {
    let tables = family.tables();
    let all = tables.iter().map(|t| t.size).sum();
    let largest = tables.iter().max_by_key(|t| t.size).ok_or("there is no table")?;
    let (compression, block_size) = properties(&largest.path)?;
    Ok(Made { compression, block_size, all, took, report: family.compression_report()? })
}

fn properties(path: &Path) -> Result<(String, u64)> {
    use lignite::internals::cache::BlockCache;
    use lignite::internals::clock::SystemClock;
    use lignite::internals::fs::disk::DiskFs;
    use lignite::internals::metrics::{FamilyMetrics, Metrics};
    use lignite::internals::table::{Table, TableContext};
    let context = TableContext {
        cache: std::sync::Arc::new(BlockCache::new(1 << 20)),
        metrics: std::sync::Arc::new(Metrics::default()),
        family: std::sync::Arc::new(FamilyMetrics::default()),
        level: 0,
        clock: std::sync::Arc::new(SystemClock::new()),
        pool: None,
    };
    let (table, _) = Table::open_file(&DiskFs::new(), path, &context)?;
    let p = table.properties();
    Ok((p.compression.clone(), p.block_size))
}
