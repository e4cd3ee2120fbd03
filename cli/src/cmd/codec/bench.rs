//! `codec bench`: any file in blocks, under many codecs.

use std::time::{Duration, Instant};

use lignite_codecs::{Dictionary, TRAINING_SAMPLES_MIN};
use serde::Serialize;

use super::material::{Block, Material};
use super::measure::{Candidate, Measured, measure};
use super::rows::{self, Row};
use crate::args::FormatArgs;
use crate::choice::{self, Choice};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Polling;
use crate::output::{self, Report};
use crate::units::{Sample, Size, Time};

/// Try codecs on files: sizes, speeds, and which are worth a thought.
///
/// Files are cut into blocks, each compressed on its own; files that end in .kv or .kv.zst are read as
/// records and cut into blocks as tables have them, keys apart from values. A part that saves less than a
/// sixteenth stays raw, as in a table; trailers and index are not counted. Every candidate sees the same
/// blocks, in turns; times are medians, and rows marked * are beaten by no other in both size and time
/// to decode a block.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec bench access.log --block-size 4KiB,16KiB --codecs lz4,zstd:1..9
  lignite codec bench packages.kv.zst --codecs lz4hc:9,zstd:3 --dictionary 64KiB --chart codecs.html")]
pub struct Args {
    /// Files to try the codecs on.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Sizes of a block before compression.
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',', default_value = "16KiB")]
    block_size: Vec<Size>,
    /// Codecs with levels or ranges of levels; +dict[:SIZE] for one with a dictionary.
    #[arg(long, value_name = "CODEC,..", default_value = "none,lz4,lz4hc:9,snappy,zstd:1,zstd:3,zstd:9,brotli:4")]
    codecs: String,
    /// Try every codec that takes one with a dictionary of this size too. It is trained on every other group of
    /// blocks, and all candidates are measured on the rest.
    #[arg(long, value_name = "SIZE")]
    dictionary: Option<Size>,
    /// How much of the files to look at: a share such as 5%, or at most so many bytes.
    #[arg(long, value_name = "SHARE", default_value = "16MiB")]
    sample: Sample,
    /// When to end at the latest; what is not measured by then is left out for all candidates.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Time,
    /// Write a chart of size against time, one HTML file.
    #[arg(long, value_name = "FILE")]
    chart: Option<String>,
    /// Replace the file of the chart if it is there.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    files: Vec<String>,
    read_bytes: u64,
    records: u64,
    sampled_bytes: u64,
    complete: bool,
    nanos: u64,
    rows: Vec<Row>,
}

/// The smallest and the largest block that a family can have.
const BLOCK_LEN_MIN: u64 = 512;
const BLOCK_LEN_MAX: u64 = 16 << 20;
/// The most candidates of one run.
const CANDIDATES_MAX: usize = 500;
/// Blocks that are trained on, and blocks that are measured, take turns in groups of so many.
const GROUP: usize = 4;
/// The most bytes that a dictionary is trained on.
const TRAINING_LEN: usize = 2 << 20;

/// Tries them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let begun = Instant::now();
    let deadline = begun.checked_add(args.timeout.0).unwrap_or(begun + Duration::from_secs(86_400));
    let sizes = block_sizes(&args.block_size)?;
    let choices = choices(args)?;
    if sizes.len() * choices.len() > CANDIDATES_MAX {
        return Err(Failure::usage(format!(
            "{} codecs and {} block sizes are more than {CANDIDATES_MAX} candidates",
            choices.len(),
            sizes.len()
        )));
    }
    rows::check_chart(args.chart.as_deref(), args.yes)?;
    let _polling = Polling::begin();

    let mut progress = context.progress("codec bench", None);
    let largest = sizes.iter().copied().max().unwrap_or(0);
    // Half of the time is for reading at most.
    let read_by = begun + deadline.saturating_duration_since(begun) / 2;
    let material = Material::read(&args.files, args.sample, largest, read_by, &mut progress)?;
    let sampled_bytes = material.kept_bytes();
    if sampled_bytes == 0 {
        return Err(Failure::usage("the files hold nothing to measure"));
    }
    let mut candidates = Vec::new();
    let mut lists = Vec::new();
    for &size in &sizes {
        let blocks = material.blocks(size);
        let mut dictionaries: Vec<(u64, Dictionary)> = Vec::new();
        let (measured, training) = match choices.iter().any(|c| c.dictionary.is_some()) {
            true => split(blocks),
            false => (blocks, Vec::new()),
        };
        for &choice in &choices {
            let dictionary = match choice.dictionary {
                None => None,
                Some(wanted) => Some(match dictionaries.iter().find(|(len, _)| *len == wanted) {
                    Some((_, known)) => known.clone(),
                    None => {
                        let made = train(&training, wanted)?;
                        dictionaries.push((wanted, made.clone()));
                        made
                    }
                }),
            };
            candidates.push(Candidate { choice, list: lists.len(), dictionary });
        }
        lists.push(measured);
    }
    let whole = sampled_bytes * sizes.len() as u64;
    let measured =
        measure(&candidates, &lists, deadline, |share| progress.set((whole as f64 * share) as u64, Some(whole)))?;
    progress.finish();

    let mut rows: Vec<Row> = candidates.iter().zip(&measured).map(|(c, m)| row(c, m, sizes[c.list])).collect();
    rows::mark_front(&mut rows);
    let complete = candidates.iter().zip(&measured).all(|(c, m)| m.blocks == lists[c.list].len() as u64);
    let facts = facts(&material, &rows, complete, args);
    rows::write_chart(args.chart.as_deref(), args.yes, || {
        rows::chart(format!("Codecs on {}", args.files.join(", ")), facts.clone(), &rows)
    })?;
    let table = rows::table(&rows).titled(facts.join("; "));
    let document = Document {
        schema: "lignite.codec-bench/1",
        files: args.files.clone(),
        read_bytes: material.read_bytes,
        records: material.records,
        sampled_bytes,
        complete: complete && !material.is_cut_short,
        nanos: begun.elapsed().as_nanos() as u64,
        rows,
    };
    context.output().report(args.format.get(), &Report::new(document, table))?;
    Ok(Exit::Done)
}

fn block_sizes(typed: &[Size]) -> Result<Vec<usize>, Failure> {
    let mut sizes = Vec::new();
    for &Size(size) in typed {
        if !(BLOCK_LEN_MIN..=BLOCK_LEN_MAX).contains(&size) {
            return Err(Failure::usage(format!(
                "a block size of {size} is not between {BLOCK_LEN_MIN} and {BLOCK_LEN_MAX}"
            )));
        }
        if !sizes.contains(&(size as usize)) {
            sizes.push(size as usize);
        }
    }
    Ok(sizes)
}

/// The codecs that were named, and those with the dictionary behind them.
fn choices(args: &Args) -> Result<Vec<Choice>, Failure> {
    let mut choices = choice::parse_choices(&args.codecs)?;
    let Some(Size(wanted)) = args.dictionary else { return Ok(choices) };
    choice::check_dictionary_size(wanted).map_err(Failure::usage)?;
    let takes_one = |c: &&Choice| c.codec != lignite::Codec::None && c.codec.takes_dictionary();
    let more: Vec<Choice> =
        choices.iter().filter(takes_one).map(|c| Choice { codec: c.codec, dictionary: Some(wanted) }).collect();
    if more.is_empty() {
        return Err(Failure::usage("none of these codecs takes a dictionary; lz4, lz4hc and zstd do"));
    }
    for choice in more {
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    Ok(choices)
}

/// Blocks to measure, and others to train on.
fn split(blocks: Vec<Block>) -> (Vec<Block>, Vec<Block>) {
    let (mut measured, mut training) = (Vec::new(), Vec::new());
    // A few blocks are shared out one by one.
    let group = if blocks.len() < 8 * GROUP { 1 } else { GROUP };
    for (n, block) in blocks.into_iter().enumerate() {
        if (n / group).is_multiple_of(2) { training.push(block) } else { measured.push(block) }
    }
    (measured, training)
}

/// A dictionary from an even sample of these blocks.
fn train(blocks: &[Block], size: u64) -> Result<Dictionary, Failure> {
    let total: usize = blocks.iter().map(Block::len).sum();
    let step = total.div_ceil(TRAINING_LEN).max(1);
    let samples: Vec<&[u8]> = blocks.iter().step_by(step).flat_map(Block::parts).collect();
    if samples.len() < TRAINING_SAMPLES_MIN {
        return Err(Failure::usage(format!(
            "{} blocks are too few to train a dictionary on; give larger files, a larger --sample or a smaller --block-size",
            samples.len()
        )));
    }
    Dictionary::train(&samples, size as usize).map_err(|e| Failure::usage(format!("no dictionary can be made: {e}")))
}

fn row(candidate: &Candidate, m: &Measured, block_size: usize) -> Row {
    Row {
        codec: candidate.choice.codec.to_string(),
        block_size: block_size as u64,
        dictionary_bytes: candidate.dictionary.as_ref().map(|d| d.bytes().len() as u64),
        blocks: m.blocks,
        raw_blocks: Some(m.raw_blocks),
        raw_bytes: m.raw_bytes,
        stored_bytes: m.stored_bytes,
        encode_nanos: m.encode_nanos,
        decode_nanos: m.decode_nanos,
        decode_p50_nanos: m.decode_p50_nanos,
        decode_p99_nanos: m.decode_p99_nanos,
        predicted_bytes: None,
        pareto: false,
        ring: None,
    }
}

/// What was looked at, in words.
fn facts(material: &Material, rows: &[Row], complete: bool, args: &Args) -> Vec<String> {
    let least = rows.iter().map(|r| r.raw_bytes).min().unwrap_or(0);
    let files = output::counted(args.files.len() as u64, "file");
    let cut = if material.is_cut_short { " (there is more)" } else { "" };
    let mut facts =
        vec![format!("measured {} of {} in {files}{cut}", output::bytes(least), output::bytes(material.read_bytes))];
    if material.records > 0 {
        facts.push(output::counted(material.records, "record"));
    }
    if rows.iter().any(|r| r.dictionary_bytes.is_some()) {
        facts.push("dictionaries are trained on other blocks".to_string());
    }
    if !complete {
        facts.push(format!("ended by the timeout of {}", output::nanos(args.timeout.0.as_nanos() as u64)));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_shares_out_everything() {
        let blocks = |n: usize| (0..n).map(|i| Block { keys: Vec::new(), values: vec![i as u8] }).collect::<Vec<_>>();
        for n in [0, 1, 2, 9, 40] {
            let (measured, training) = split(blocks(n));
            assert_eq!(measured.len() + training.len(), n);
            assert!(measured.len().abs_diff(training.len()) <= GROUP);
        }
    }

    #[test]
    fn too_little_to_train_on_is_said() {
        let block = Block { keys: Vec::new(), values: vec![1; 100] };
        assert_eq!(train(&[block], 65536).map(|_| ()).map_err(|e| e.exit()), Err(Exit::Usage));
    }
}
