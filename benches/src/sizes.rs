//! Holds the files of a database against the reference size R (see [`crate::reference`]).
//!
//! The database has one family for every record set, by the name of the set. Data blocks with their
//! trailers may take 1.00 R, the whole directory 1.05 R, both on the sum of all sets; logs count
//! apart. Sizes are read from the table files themselves, section by section, so that nothing that
//! lies in them is forgotten.

use std::path::{Path, PathBuf};

use lignite::internals::checksum::place_salt;
use lignite::internals::frame::{Frame, FrameHandle};
use lignite::internals::header::{FileHeader, FileKind, HEADER_LEN};
use lignite::internals::table::footer::{FOOTER_TAIL_LEN, Footer};
use lignite::internals::table::index;
use lignite::{CfOptions, Codec, Compression, Db, Options};

use crate::reference::Reference;
use lignite_bench::Result;
use lignite_bench::measure::{Table, directory_bytes, scratch_directory};
use lignite_bench::records::{self, RecordSet, SETS};

/// Most that data blocks may take, in units of R.
const DATA_MAX: f64 = 1.00;
/// Most that the whole directory may take, in units of R.
const DIRECTORY_MAX: f64 = 1.05;
/// Bytes of a write batch while a set is imported.
const BATCH_LEN: usize = 1 << 20;

/// Options of `size`.
#[derive(Debug, clap::Args)]
pub struct SizeOptions {
    /// Directory of the database; needed unless it is built
    #[arg(required_unless_present = "build")]
    database: Option<PathBuf>,
    /// Make the database first: every set in a family of its own, compacted; without a directory in
    /// one that is removed again
    #[arg(long)]
    build: bool,
    /// Directory of the record sets
    #[arg(long, default_value_os_t = records::default_directory())]
    data: PathBuf,
    /// Codec of the built database, in every level
    #[arg(long, default_value = "zstd:3")]
    codec: Codec,
    /// Block size of the built database, in KiB
    #[arg(long, default_value_t = 16)]
    block_kib: usize,
}

/// Prints the sizes of every set, and whether the sums are within bounds.
pub fn run(options: &SizeOptions) -> Result<()> {
    let scratch = scratch_directory(None)?;
    let database = options.database.as_deref().unwrap_or(scratch.path());
    if options.build {
        build(options, database)?;
    }
    let mut table = Table::new(&[
        "set",
        "tables",
        "blocks",
        "data blocks",
        "of it trailers",
        "index",
        "filter",
        "properties",
        "other",
        "all tables",
        "R",
        "data / R",
        "tables / R",
    ]);
    let mut row = |name: &str, sizes: &Sizes, r: u64| {
        table.row(vec![
            name.to_owned(),
            sizes.n_tables.to_string(),
            sizes.n_blocks.to_string(),
            sizes.data.to_string(),
            sizes.trailers.to_string(),
            sizes.index.to_string(),
            sizes.filter.to_string(),
            sizes.properties.to_string(),
            sizes.other.to_string(),
            sizes.all.to_string(),
            r.to_string(),
            format!("{:.4}", sizes.data as f64 / r as f64),
            format!("{:.4}", sizes.all as f64 / r as f64),
        ]);
    };
    let mut sum = Sizes::default();
    let mut sum_r = 0;
    let db = Db::open_read_only(database)?;
    for name in SETS {
        let mut sizes = Sizes::default();
        for info in db.column_family(name)?.tables() {
            sizes.add(&Sizes::of_table(&info.path)?);
        }
        let r = Reference::compute(&RecordSet::read(&options.data, name)?)?.bytes;
        row(name, &sizes, r);
        sum.add(&sizes);
        sum_r += r;
    }
    row("all", &sum, sum_r);
    drop(db);
    print!("{table}");

    let logs = directory_bytes(database, |name| name.ends_with(".wal"))?;
    let directory = directory_bytes(database, |name| !name.ends_with(".wal"))?;
    println!("\nmanifest and other files {} B, logs {logs} B (not counted)", directory - sum.all);
    let is_data_small = verdict("data blocks", sum.data, DATA_MAX, sum_r);
    let is_directory_small = verdict("directory", directory, DIRECTORY_MAX, sum_r);
    match is_data_small && is_directory_small {
        true => Ok(()),
        false => Err("the database is larger than the reference allows".into()),
    }
}

fn verdict(what: &str, bytes: u64, bound: f64, r: u64) -> bool {
    let ratio = bytes as f64 / r as f64;
    let is_small = ratio <= bound;
    println!("{} {what}: {bytes} B = {ratio:.4} R, at most {bound:.2} R", if is_small { "PASS" } else { "FAIL" });
    is_small
}

fn build(options: &SizeOptions, directory: &Path) -> Result<()> {
    let family_options =
        CfOptions::new().compression(Compression::all(options.codec)).block_size(options.block_kib << 10);
    let db = Options::new().open(directory)?;
    for name in SETS {
        let family = db.open_column_family(name, family_options.clone())?;
        let set = RecordSet::read(&options.data, name)?;
        let mut batch = db.batch();
        for (key, value) in set.iter() {
            batch.put(&family, key, value);
            if batch.byte_len() >= BATCH_LEN {
                db.write(std::mem::replace(&mut batch, db.batch()))?;
            }
        }
        db.write(batch)?;
        family.flush()?;
    }
    db.compact()?;
    db.wait_for_idle()?;
    db.close()?;
    Ok(())
}

/// Bytes of tables by what they are for.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    n_tables: u64,
    n_blocks: u64,
    /// Data blocks with their trailers.
    data: u64,
    /// Trailers of data blocks.
    trailers: u64,
    index: u64,
    filter: u64,
    properties: u64,
    /// Headers, footers, range tombstones and dictionaries.
    other: u64,
    /// The whole files.
    all: u64,
}

impl Sizes {
    fn of_table(path: &Path) -> Result<Sizes> {
        let bytes = std::fs::read(path)?;
        Self::of_bytes(&bytes).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn of_bytes(bytes: &[u8]) -> Result<Sizes> {
        const SHORT: &str = "the file is cut short";
        let header = FileHeader::decode(bytes.get(..HEADER_LEN).ok_or(SHORT)?, FileKind::Table)?;
        let salt = |offset: u64| place_salt(header.db_id, header.number, offset);
        let section = |handle: FrameHandle| bytes.get(handle.offset as usize..handle.end() as usize).ok_or(SHORT);

        let tail = bytes.last_chunk::<FOOTER_TAIL_LEN>().ok_or(SHORT)?;
        let footer_len = Footer::payload_len(tail)? + FOOTER_TAIL_LEN;
        let footer_at = bytes.len().checked_sub(footer_len).ok_or(SHORT)?;
        let footer = Footer::decode(&bytes[footer_at..], salt(footer_at as u64))?;
        let frame = Frame::open(section(footer.index)?, footer.index.keys_stored, salt(footer.index.offset))?;
        let mut scratch = Vec::new();
        let payload = frame.keys(&[], None, &mut scratch)?;
        let sections = [Some(footer.index), Some(footer.properties), footer.filter, footer.tombstones];
        let dictionaries = footer.dictionaries.iter().map(|dictionary| dictionary.handle);
        let offsets = sections.into_iter().flatten().chain(dictionaries).map(|handle| handle.offset);
        let blocks = index::decode(payload, HEADER_LEN as u64, offsets.min().unwrap_or(0))?;

        let mut sizes = Sizes {
            n_tables: 1,
            n_blocks: blocks.len() as u64,
            index: u64::from(footer.index.stored_len),
            filter: footer.filter.map_or(0, |handle| u64::from(handle.stored_len)),
            properties: u64::from(footer.properties.stored_len),
            all: bytes.len() as u64,
            ..Sizes::default()
        };
        for block in &blocks {
            // The last byte of a frame is the length of its trailer.
            let trailer_len = section(block.handle())?.last().ok_or(SHORT)?;
            sizes.data += u64::from(block.stored_len);
            sizes.trailers += u64::from(*trailer_len);
        }
        sizes.other = sizes.all - sizes.data - sizes.index - sizes.filter - sizes.properties;
        Ok(sizes)
    }

    fn add(&mut self, other: &Sizes) {
        self.n_tables += other.n_tables;
        self.n_blocks += other.n_blocks;
        self.data += other.data;
        self.trailers += other.trailers;
        self.index += other.index;
        self.filter += other.filter;
        self.properties += other.properties;
        self.other += other.other;
        self.all += other.all;
    }
}
