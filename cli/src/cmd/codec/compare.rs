//! `codec compare`: what other codecs would make of a family.

use lignite::{Candidate, CompareOptions};
use serde::Serialize;

use super::rows::{self, Row};
use super::survey::{self, Now, SurveyArgs};
use crate::choice::{self, DICTIONARY_LEN};
use crate::context::{Context, open_read};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Report;
use crate::units::Size;

/// Try codecs, block sizes and dictionaries on a sample of a column family; changes nothing.
///
/// Sizes count trailers, index entries and the dictionary in each table; that of the family its filters too. Times are
/// of one thread; what a read costs is the time to decode a block. Rows marked * are beaten by no other in both.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec compare DB --cf packages --sample 5% --timeout 30s
  lignite codec compare DB --cf packages --codecs zstd:1..9+dict --block-size 4KiB --chart c.html")]
pub struct Args {
    #[command(flatten)]
    survey: SurveyArgs,
    /// Codecs with levels or ranges of levels, +dict for one with a dictionary. Without it lz4, lz4hc:9, zstd:1,
    /// zstd:3 and zstd:9, with and without.
    #[arg(long, value_name = "CODEC,..")]
    codecs: Option<String>,
    /// Sizes of a block before compression. Without it 4, 8 and 16 KiB.
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',')]
    block_size: Vec<Size>,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    cf: String,
    raw_bytes: u64,
    stored_bytes: u64,
    filter_bytes: u64,
    dictionary_bytes: Option<u64>,
    dictionary_gain: f64,
    complete: bool,
    rows: Vec<Row>,
}

/// The most candidates of one run.
const CANDIDATES_MAX: usize = 500;

/// Compares.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let wanted = candidates(args)?;
    let db = open_read(&args.survey.db)?;
    let family = db.column_family(&args.survey.family.cf)?;
    rows::check_chart(args.survey.chart.as_deref(), args.survey.yes)?;
    let mut options = args.survey.options(&family);
    options.candidates = wanted;
    let now = Now::of(&family)?;
    let comparison = survey::with_progress(context, "codec compare", |progress| family.compare(&options, progress))?;
    let filter_bytes = survey::filter_bytes(&family);
    let rows = survey::rows(&comparison, filter_bytes, now.as_ref());
    let facts = survey::facts(&args.survey.family.cf, &comparison, args.survey.timeout);
    let title = format!("Codecs on {} of {}", args.survey.family.cf, args.survey.db.display());
    rows::write_chart(args.survey.chart.as_deref(), args.survey.yes, || rows::chart(title, facts.clone(), &rows))?;
    let table = rows::table(&rows).titled(facts.join("; "));
    let document = Document {
        schema: "lignite.codec-compare/1",
        path: args.survey.db.display().to_string(),
        cf: args.survey.family.cf.clone(),
        raw_bytes: comparison.raw_bytes,
        stored_bytes: comparison.stored_bytes,
        filter_bytes,
        dictionary_bytes: comparison.dictionary.as_ref().map(|bytes| bytes.len() as u64),
        dictionary_gain: comparison.dictionary_gain,
        complete: comparison.complete,
        rows,
    };
    context.output().report(args.survey.format.get(), &Report::new(document, table))?;
    Ok(Exit::Done)
}

fn candidates(args: &Args) -> Result<Vec<Candidate>, Failure> {
    let defaults = CompareOptions::default().candidates;
    let mut sizes: Vec<usize> = Vec::new();
    for &Size(size) in &args.block_size {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    let mut kinds = Vec::new();
    match &args.codecs {
        Some(typed) => {
            for choice in choice::parse_choices(typed)? {
                if choice.dictionary.is_some_and(|size| size != DICTIONARY_LEN) {
                    return Err(Failure::usage(
                        "the size of the dictionary is that of the family's options; give +dict alone here",
                    ));
                }
                kinds.push((choice.codec, choice.dictionary.is_some()));
            }
        }
        None => {
            for candidate in &defaults {
                let kind = (candidate.codec, candidate.dictionary);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
    }
    if args.codecs.is_none() && sizes.is_empty() {
        return Ok(defaults);
    }
    if sizes.is_empty() {
        sizes = [4, 8, 16].map(|kib| kib << 10).to_vec();
    }
    if kinds.len() * sizes.len() > CANDIDATES_MAX {
        return Err(Failure::usage(format!("{} candidates are more than {CANDIDATES_MAX}", kinds.len() * sizes.len())));
    }
    let of = |&(codec, dictionary): &(lignite::Codec, bool)| {
        sizes.iter().map(move |&block_size| Candidate { codec, block_size, dictionary }).collect::<Vec<_>>()
    };
    Ok(kinds.iter().flat_map(of).collect())
}
