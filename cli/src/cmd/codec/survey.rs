//! What `codec compare` and `codec advise` have in common: which family, how much of it, for how long, and the
//! chart.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lignite::internals::checksum::place_salt;
use lignite::internals::header::{FileHeader, FileKind, HEADER_LEN};
use lignite::internals::table::footer::{FOOTER_TAIL_LEN, Footer};
use lignite::{ColumnFamily, CompareOptions, CompareProgress, Comparison};

use super::rows::Row;
use crate::args::{FamilyArg, FormatArgs};
use crate::cmd::shape::Totals;
use crate::context::Context;
use crate::exit::Failure;
use crate::interrupt::{self, Polling};
use crate::output;
use crate::units::{Sample, Time};

/// Arguments of both.
#[derive(clap::Args)]
pub struct SurveyArgs {
    /// The database.
    pub db: PathBuf,
    #[command(flatten)]
    pub family: FamilyArg,
    /// How much of the family to look at: a share such as 5%, or at most so many bytes.
    #[arg(long, value_name = "SHARE", default_value = "8MiB")]
    pub sample: Sample,
    /// When to end at the latest; candidates that are not reached are left out.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub timeout: Time,
    /// Write a chart of size against time, one HTML file.
    #[arg(long, value_name = "FILE")]
    pub chart: Option<String>,
    /// Replace the file of the chart if it is there.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub format: FormatArgs,
}

impl SurveyArgs {
    /// What the engine is asked.
    pub fn options(&self, family: &ColumnFamily) -> CompareOptions {
        let mut options = CompareOptions::default();
        let wanted = self.sample.of(Totals::of(&family.stats()).raw_bytes);
        options.sample_bytes = wanted.clamp(SAMPLE_LEN_MIN, SAMPLE_LEN_MAX);
        options.time_max = self.timeout.0;
        options
    }
}

/// Runs `measure` and shows how far it is: a step is a candidate.
pub fn with_progress<T>(
    context: &Context,
    command: &'static str,
    measure: impl FnOnce(&mut dyn FnMut(&CompareProgress) -> bool) -> lignite::Result<T>,
) -> Result<T, Failure> {
    let mut progress = context.steps(command);
    let polling = Polling::begin();
    let measured = measure(&mut |now| {
        progress.set(now.candidates_done as u64, Some(now.candidates as u64));
        !interrupt::requested()
    });
    progress.finish();
    drop(polling);
    interrupt::check()?;
    Ok(measured?)
}

/// Less than this is read in a moment, and says too little.
const SAMPLE_LEN_MIN: u64 = 256 << 10;
/// A sample is held in memory, and more than this says nothing more.
const SAMPLE_LEN_MAX: u64 = 256 << 20;

/// What is in force at the bottom of a family, where most of its data lies.
pub struct Now {
    codec: String,
    block_size: u64,
    has_dictionary: bool,
}

impl Now {
    /// None if the engine chooses for an objective.
    pub fn of(family: &ColumnFamily) -> Result<Option<Now>, Failure> {
        let options = family.options();
        if options.objective.is_some() {
            return Ok(None);
        }
        let report = family.compression_report()?;
        Ok(Some(Now {
            codec: options.compression.bottom.to_string(),
            block_size: report.block_size,
            has_dictionary: !report.dictionaries.is_empty(),
        }))
    }

    /// True if a row measured just this.
    pub fn is(&self, row: &Row) -> bool {
        row.codec == self.codec
            && row.block_size == self.block_size
            && row.dictionary_bytes.is_some() == self.has_dictionary
    }
}

/// The rows of a comparison, with the mark on what is in force.
pub fn rows(comparison: &Comparison, filter_bytes: u64, now: Option<&Now>) -> Vec<Row> {
    let dictionary_bytes = comparison.dictionary.as_ref().map(|bytes| bytes.len() as u64);
    let measured = comparison.rows.iter().zip(&comparison.pareto);
    measured
        .map(|(m, &pareto)| {
            let mut row = Row { pareto, ..Row::of(m, dictionary_bytes, comparison.raw_bytes, filter_bytes) };
            if now.is_some_and(|now| now.is(&row)) {
                row.ring = Some("current");
            }
            row
        })
        .collect()
}

/// Bytes of the filters in a family's tables. They stay what they are under any codec, and what is predicted of
/// blocks does not count them.
pub fn filter_bytes(family: &ColumnFamily) -> u64 {
    // A table that has gone meanwhile, or is damaged, is somebody else's affair: this is for a prediction.
    family.tables().iter().filter_map(|table| filter_len(&table.path)).sum()
}

fn filter_len(path: &Path) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let mut head = [0; HEADER_LEN];
    file.read_exact(&mut head).ok()?;
    let header = FileHeader::decode(&head, FileKind::Table).ok()?;
    let len = file.metadata().ok()?.len();
    let mut tail = [0; FOOTER_TAIL_LEN];
    file.seek(SeekFrom::Start(len.checked_sub(FOOTER_TAIL_LEN as u64)?)).ok()?;
    file.read_exact(&mut tail).ok()?;
    let footer_len = Footer::payload_len(&tail).ok()? + FOOTER_TAIL_LEN;
    let offset = len.checked_sub(footer_len as u64)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_to_end(&mut bytes).ok()?;
    let footer = Footer::decode(&bytes, place_salt(header.db_id, header.number, offset)).ok()?;
    footer.filter.map(|handle| u64::from(handle.stored_len))
}

/// What was looked at, in words.
pub fn facts(cf: &str, comparison: &Comparison, timeout: Time) -> Vec<String> {
    let sampled = comparison.rows.iter().map(|m| m.user_bytes).max().unwrap_or(0);
    let mut facts = vec![format!(
        "cf {cf}: {} of keys and values, {} on disk; measured on {}",
        output::bytes(comparison.raw_bytes),
        output::bytes(comparison.stored_bytes),
        output::bytes(sampled)
    )];
    if let Some(dictionary) = &comparison.dictionary {
        let percent = 100.0 * comparison.dictionary_gain;
        facts.push(format!(
            "a dictionary of {} made of other blocks {} {:.1} %",
            output::bytes(dictionary.len() as u64),
            if percent < 0.0 { "costs" } else { "saves" },
            percent.abs()
        ));
    }
    if !comparison.complete {
        facts.push(format!("ended by the timeout of {}", output::nanos(timeout.0.as_nanos() as u64)));
    }
    facts
}
