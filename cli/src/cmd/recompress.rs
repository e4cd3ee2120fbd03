//! `recompress`: moves a family to another codec while it is in use.

use std::path::{Path, PathBuf};

use lignite::{CfOptions, DictionaryPolicy, RecompressDictionary, RecompressOptions};
use serde::Serialize;

use super::shape::OptionsDocument;
use crate::args::{CompressionOptions, FamilyArg, FormatArgs, parse_dictionary};
use crate::context::{Context, close, open_read, open_write};
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::{self, Polling};
use crate::output::{self, Cell, Report, Table};
use crate::units::Rate;

/// Move a column family to another codec: its options, and every table that is not so yet.
///
/// Each new table is decoded and compared before the old one goes, and one table a worker is all the space that it
/// takes. Ended by Ctrl-C, what was moved stays; the same command goes on with the rest.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite recompress DB --cf packages --codec zstd:3+dict --dry-run
  lignite recompress DB --cf packages --codec lz4hc:9 --block-size 4KiB --rate 100MB/s --workers 2")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    compression: CompressionOptions,
    /// auto[:SIZE] makes one where it pays, none goes without, anything else is the file of one that codec train made.
    #[arg(long, value_name = "auto|none|FILE")]
    dictionary: Option<String>,
    /// Read at most so many bytes of keys and values a second.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Tables that are moved at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Say what would be written anew, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    cf: String,
    options: OptionsDocument,
    dry_run: bool,
    /// Of a dry run: that would be.
    tables_rewritten: u64,
    bytes_rewritten: Option<u64>,
    tables_kept: u64,
    bytes_before: u64,
    bytes_after: Option<u64>,
    dictionary_bytes: Option<u64>,
    nanos: Option<u64>,
}

/// Moves it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    if args.compression.is_empty() && args.dictionary.is_none() {
        return Err(Failure::usage("say where to: a codec, a block size, a dictionary or an objective"));
    }
    let (policy, bytes) = match args.dictionary.as_deref() {
        None => (None, None),
        Some("auto" | "none") => (args.dictionary.as_deref(), None),
        Some(auto) if auto.starts_with("auto:") => (Some(auto), None),
        Some(path) => (None, Some(read_dictionary(Path::new(path))?)),
    };
    let policy = policy.map(parse_dictionary).transpose().map_err(Failure::usage)?;
    // Found wrong before the database is opened for writing.
    args.compression.apply(CfOptions::new())?;

    let db = if args.dry_run { open_read(&args.db)? } else { open_write(&args.db)? };
    let family = db.column_family(&args.family.cf)?;
    let mut options = family.options();
    if let Some(policy) = policy {
        options.dictionary = policy;
    }
    let mut wanted = RecompressOptions::new(args.compression.apply(options)?);
    if let Some(bytes) = bytes {
        wanted.dictionary = RecompressDictionary::Bytes(bytes);
    }
    wanted.rate = args.rate.map_or(0, |Rate(rate)| rate);
    wanted.workers = usize::from(args.workers);

    if args.dry_run {
        let plan = family.plan_recompress(&wanted)?;
        context.note(&format!(
            "{} of {} would be written anew, {} of keys and values; {} are so already",
            output::count(plan.tables),
            output::counted(plan.tables + plan.tables_kept, "table"),
            output::bytes(plan.bytes),
            output::count(plan.tables_kept)
        ));
        let document = Document {
            schema: "lignite.recompress/1",
            path: args.db.display().to_string(),
            cf: args.family.cf.clone(),
            options: OptionsDocument::of(&wanted.options),
            dry_run: true,
            tables_rewritten: plan.tables,
            bytes_rewritten: Some(plan.stored_bytes),
            tables_kept: plan.tables_kept,
            bytes_before: plan.bytes_before,
            bytes_after: None,
            dictionary_bytes: None,
            nanos: None,
        };
        return print(&wanted.options, document, args, context);
    }
    let mut progress = context.progress("recompress", None);
    let polling = Polling::begin();
    let mut tables = (0, 0);
    let outcome = family.recompress(&wanted, &mut |now| {
        tables = (now.tables_done, now.tables);
        progress.set(now.bytes_done, Some(now.bytes));
        !interrupt::requested()
    });
    let took = progress.finish();
    let options = family.options();
    drop(family);
    let done = match outcome {
        Ok(report) => report,
        Err(e) => {
            let failure =
                Failure::from(e).and(format!("the {} of {} tables before that are moved", tables.0, tables.1));
            close(db)?;
            return Err(failure);
        }
    };
    close(db)?;
    drop(polling);
    if done.cancelled {
        context.note(&format!(
            "{} of {} are moved, and what is written from now on is as wanted; the same command goes on",
            output::count(done.tables_rewritten),
            output::counted(tables.1, "table")
        ));
        return Err(Failure::Interrupted);
    }
    context.note(&format!(
        "moved {} in {:.2} s, {} were so already",
        output::counted(done.tables_rewritten, "table"),
        took.as_secs_f64(),
        output::count(done.tables_kept)
    ));
    let is_wanted = matches!(options.dictionary, DictionaryPolicy::Wanted { .. }) && options.objective.is_none();
    if is_wanted && done.dictionary_len == 0 && done.tables_rewritten + done.tables_kept > 0 {
        context.note("without a dictionary: one would save too little here, or there is too little to make it of");
    }
    let document = Document {
        schema: "lignite.recompress/1",
        path: args.db.display().to_string(),
        cf: args.family.cf.clone(),
        options: OptionsDocument::of(&options),
        dry_run: false,
        tables_rewritten: done.tables_rewritten,
        bytes_rewritten: None,
        tables_kept: done.tables_kept,
        bytes_before: done.bytes_before,
        bytes_after: Some(done.bytes_after),
        dictionary_bytes: Some(done.dictionary_len).filter(|len| *len > 0),
        nanos: Some(took.as_nanos() as u64),
    };
    print(&options, document, args, context)
}

fn print(options: &CfOptions, document: Document, args: &Args, context: &Context) -> Outcome {
    let mut table =
        Table::new(&["cf", "codec", "tables_rewritten", "tables_kept", "bytes_before", "bytes_after", "dictionary"]);
    let bytes = |n: Option<u64>| n.map_or(Cell::Empty, Cell::Bytes);
    table.row(vec![
        Cell::text(&document.cf),
        Cell::text(options.compression.to_string()),
        Cell::Count(document.tables_rewritten),
        Cell::Count(document.tables_kept),
        Cell::Bytes(document.bytes_before),
        bytes(document.bytes_after),
        bytes(document.dictionary_bytes),
    ]);
    context.output().report(args.format.get(), &Report::new(document, table))?;
    Ok(Exit::Done)
}

/// The bytes of a dictionary, and no more than one can have.
fn read_dictionary(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let max = lignite_codecs::DICTIONARY_LEN_MAX as u64;
    let file = std::fs::File::open(path).map_err(|e| Failure::io("open the dictionary", path, &e))?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|e| Failure::io("read the dictionary", path, &e))?;
    // Whatever is wrong with it is said before anything is written.
    lignite_codecs::Dictionary::from_bytes(bytes.clone())
        .map_err(|e| Failure::usage(format!("{} is no dictionary: {e}", path.display())))?;
    Ok(bytes)
}
