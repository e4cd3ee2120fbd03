//! `codec advise`: ends in a decision, in what it will cost, and in the command that carries it out.

use lignite::{Advice, Objective};
use serde::Serialize;

use super::rows::{self, Row};
use super::survey::{self, Now, SurveyArgs};
use crate::args::parse_wish;
use crate::context::{Context, open_read};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell, Format, Report, Table};
use crate::text;

/// Measure, decide, and print the command that carries it out; changes nothing.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec advise DB --cf packages
  lignite codec advise DB --cf packages --objective decode:20us --chart advice.html")]
pub struct Args {
    #[command(flatten)]
    survey: SurveyArgs,
    /// What for: smallest, balanced, fastest-reads, or decode:TIME for the smallest blocks that decode within it, such
    /// as decode:20us. Without it the family's own objective, or balanced.
    #[arg(long, value_name = "OBJECTIVE", value_parser = parse_wish)]
    objective: Option<Objective>,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    cf: String,
    objective: String,
    chosen: Row,
    raw_bytes: u64,
    stored_bytes: u64,
    filter_bytes: u64,
    predicted_bytes: u64,
    predicted_decode_nanos: u64,
    predicted_decode_p99_nanos: u64,
    reasons: Vec<String>,
    command: String,
    complete: bool,
    rows: Vec<Row>,
}

/// An encoder below this many bytes a second is not asked to write levels that are soon rewritten.
const YOUNG_RATE_MIN: f64 = 100e6;

/// Advises.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_read(&args.survey.db)?;
    let cf = &args.survey.family.cf;
    let family = db.column_family(cf)?;
    let objective = args.objective.or(family.options().objective).unwrap_or(Objective::Balanced);
    rows::check_chart(args.survey.chart.as_deref(), args.survey.yes)?;
    let now = Now::of(&family)?;
    let options = args.survey.options(&family);
    let advice =
        survey::with_progress(context, "codec advise", |progress| family.advise(objective, &options, progress))?;
    let filter_bytes = survey::filter_bytes(&family);
    let predicted_bytes = advice.predicted_bytes + filter_bytes;
    let mut rows = survey::rows(&advice.comparison, filter_bytes, now.as_ref());
    let at = advice.comparison.rows.iter().position(|m| m.candidate == advice.chosen.candidate);
    let is_current = at.is_some_and(|at| rows[at].ring.is_some());
    if let Some(at) = at {
        rows[at].ring = Some(if is_current { "chosen, current" } else { "chosen" });
    }
    let dictionary_bytes = advice.comparison.dictionary.as_ref().map(|bytes| bytes.len() as u64);
    let chosen = Row {
        pareto: at.is_some_and(|at| rows[at].pareto),
        ..Row::of(&advice.chosen, dictionary_bytes, advice.comparison.raw_bytes, filter_bytes)
    };
    let reasons = reasons(&advice, &chosen, &rows);
    let command = command(args, &advice);

    let facts = survey::facts(cf, &advice.comparison, args.survey.timeout);
    let title = format!("Advice for {cf} of {}: {objective}", args.survey.db.display());
    let decision = decision(&chosen);
    let said =
        || [facts.clone(), vec![format!("Decision: {decision}.")], reasons.clone(), vec![command.clone()]].concat();
    rows::write_chart(args.survey.chart.as_deref(), args.survey.yes, || rows::chart(title, said(), &rows))?;
    let format = args.survey.format.get();
    // People get what the decision was between.
    let matters = |row: &&Row| format != Format::Table || row.pareto || row.ring.is_some();
    let shown: Vec<Row> = rows.iter().filter(matters).cloned().collect();
    let table = rows::table(&shown).titled(facts.join("; "));
    let verdict = Table::facts(vec![
        ("objective", Cell::text(objective.to_string())),
        ("decision", Cell::text(if is_current { format!("{decision}, as it is") } else { decision })),
        ("on disk", Cell::text(on_disk(advice.comparison.stored_bytes, predicted_bytes))),
        (
            "a cold read",
            Cell::text(format!(
                "decodes a block in {} on average, 99 of 100 within {}",
                output::nanos(advice.chosen.decode_nanos),
                output::nanos(advice.chosen.decode_nanos_p99)
            )),
        ),
    ]);
    let notes =
        reasons.iter().map(|r| format!("- {r}")).chain(["To carry it out:".to_string(), format!("  {command}")]);
    let notes = notes.collect();
    let document = Document {
        schema: "lignite.codec-advise/1",
        path: args.survey.db.display().to_string(),
        cf: cf.clone(),
        objective: objective.to_string(),
        chosen,
        raw_bytes: advice.comparison.raw_bytes,
        stored_bytes: advice.comparison.stored_bytes,
        filter_bytes,
        predicted_bytes,
        predicted_decode_nanos: advice.chosen.decode_nanos,
        predicted_decode_p99_nanos: advice.chosen.decode_nanos_p99,
        reasons,
        command,
        complete: advice.comparison.complete,
        rows,
    };
    let mut report = Report::new(document, table);
    report.more = vec![verdict];
    report.notes = notes;
    context.output().report(format, &report)?;
    Ok(Exit::Done)
}

fn decision(chosen: &Row) -> String {
    let dictionary = chosen.dictionary_bytes.map(|n| format!(" with a dictionary of {}", output::bytes(n)));
    format!("{}{} in blocks of {}", chosen.codec, dictionary.unwrap_or_default(), output::bytes(chosen.block_size))
}

fn on_disk(before: u64, after: u64) -> String {
    let change = match before {
        0 => String::new(),
        _ => {
            let percent = 100.0 * (after as f64 / before as f64 - 1.0);
            let word = if percent < 0.0 { "less" } else { "more" };
            format!(", {:.1} % {word} than the {} now", percent.abs(), output::bytes(before))
        }
    };
    format!("about {}{change}", output::bytes(after))
}

/// Why this one: what it is held against, with the figures.
fn reasons(advice: &Advice, chosen: &Row, rows: &[Row]) -> Vec<String> {
    let mut reasons = vec![match advice.objective {
        Objective::Smallest => "it is the smallest of those that are not too slow to write".to_string(),
        Objective::FastestReads => "it is the fastest to read of those about as small as zstd:1".to_string(),
        Objective::Decode(budget) => {
            let budget = budget.as_nanos() as u64;
            let within = advice.chosen.decode_nanos_p99 <= budget;
            let words = if within {
                "it is the smallest whose blocks decode, with room to spare, within"
            } else {
                "nothing decodes 99 of 100 blocks within it; this one comes closest to"
            };
            format!(
                "{words} {}: 99 of 100 take at most {}",
                output::nanos(budget),
                output::nanos(advice.chosen.decode_nanos_p99)
            )
        }
        _ => "it is where size and time to read meet: what is smaller is much slower, what is faster is much larger"
            .to_string(),
    }];
    let is_chosen = |row: &&Row| {
        (row.codec.as_str(), row.block_size, row.dictionary_bytes)
            == (&chosen.codec, chosen.block_size, chosen.dictionary_bytes)
    };
    let others = || rows.iter().filter(|row| !is_chosen(row));
    let against = |row: &Row, words: &str| {
        let size = 100.0 * (row.share() / chosen.share() - 1.0);
        let time = row.decode_nanos_per_block() / chosen.decode_nanos_per_block().max(1.0);
        let size_word = if size < 0.0 { "smaller" } else { "larger" };
        format!(
            "{words} is {}: {:.1} % {size_word}, {time:.1} times the time to decode a block",
            row.label(true),
            size.abs()
        )
    };
    let smaller =
        others().filter(|r| r.pareto && r.share() < chosen.share()).max_by(|a, b| a.share().total_cmp(&b.share()));
    let faster = others()
        .filter(|r| r.pareto && r.decode_nanos_per_block() < chosen.decode_nanos_per_block())
        .max_by(|a, b| a.decode_nanos_per_block().total_cmp(&b.decode_nanos_per_block()));
    reasons.extend(smaller.map(|row| against(row, "the next smaller one")));
    reasons.extend(faster.map(|row| against(row, "the next faster one")));
    reasons.extend(others().find(|r| r.ring == Some("current")).map(|row| against(row, "what is in force")));
    reasons
}

/// A size as options take it.
fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 10) { format!("{}KiB", bytes >> 10) } else { bytes.to_string() }
}

/// The one line that does it.
fn command(args: &Args, advice: &Advice) -> String {
    let m = &advice.chosen;
    let encode_rate = m.user_bytes as f64 / (m.encode_nanos as f64 / 1e9).max(1e-9);
    let levels = if encode_rate >= YOUNG_RATE_MIN { "--codec" } else { "--bottom-codec" };
    let dictionary = if m.candidate.dictionary { "+dict" } else { "" };
    let none = if m.candidate.dictionary { "" } else { " --dictionary none" };
    format!(
        "lignite recompress {} --cf {} {levels} {}{dictionary}{none} --block-size {}",
        text::shell_quoted(&args.survey.db.display().to_string()),
        text::shell_quoted(&args.survey.family.cf),
        m.candidate.codec,
        size(m.candidate.block_size),
    )
}
