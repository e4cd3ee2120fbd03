//! `import`: records from a file or a pipe into a column family.
//!
//! Records are taken in steps of at most 8 MiB. A step whose keys ascend, in a range that holds
//! nothing yet, becomes a finished table; any other step is one write batch. Either way it is all
//! or nothing, and steps become durable in order, so a killed import leaves a prefix of whole steps.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use lignite::{ColumnFamily, Db};
use serde::Serialize;

use super::shape::Totals;
use crate::args::FamilyArg;
use crate::context::{Context, close, megabytes_per_second, open_write};
use crate::exit::{Exit, Failure, Outcome};
use crate::formats::{DataFormat, RecordReader};
use crate::interrupt::{self, Polling};
use crate::output;
use crate::progress::{Mode, Progress, json_to_stderr};
use crate::stream::open_input;

/// Load records; input in Zstandard frames is read directly.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite import DB --cf packages --format kv --input packages.kv.zst
  lignite import DB --format ndjson --input -   # from standard input")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    /// The format of the data; without it, what the name of the file says.
    #[arg(long, value_enum)]
    format: Option<DataFormat>,
    /// The file, or - for standard input.
    #[arg(long, value_name = "FILE")]
    input: String,
    /// Read and check the input, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Keys and values of one step take at most so many bytes (but one record always fits).
const STEP_LEN: usize = 8 << 20;

#[derive(Serialize)]
struct Summary {
    schema: &'static str,
    cf: String,
    records: u64,
    raw_bytes: u64,
    disk_bytes: Option<u64>,
    nanos: u64,
    steps: u64,
    ingested_steps: u64,
    dry_run: bool,
}

/// Imports.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let format = args.format.or_else(|| DataFormat::of_name(&args.input)).ok_or_else(|| {
        Failure::usage("the name of the input does not tell its format; give --format kv, ndjson or csv")
    })?;
    let input = open_input(&args.input)?;
    let _polling = Polling::begin();
    let mut progress = context.progress("import", input.len);
    let consumed = input.consumed;
    let tick = |progress: &mut Progress| progress.set(consumed.load(Ordering::Relaxed), None);
    let mut reader = RecordReader::new(format, input.reader, input.name)?;
    if args.dry_run {
        let mut totals = Totals::default();
        let mut step = Step::default();
        while step.fill(&mut reader)? {
            interrupt::check()?;
            totals.entries += step.len() as u64;
            totals.raw_bytes += step.bytes.len() as u64;
            tick(&mut progress);
        }
        let summary = Summary {
            schema: "lignite.import/1",
            cf: args.family.cf.clone(),
            records: totals.entries,
            raw_bytes: totals.raw_bytes,
            disk_bytes: None,
            nanos: progress.finish().as_nanos() as u64,
            steps: 0,
            ingested_steps: 0,
            dry_run: true,
        };
        tell(&summary, context);
        return Ok(Exit::Done);
    }
    let db = open_write(&args.db)?;
    let family = db.column_family(&args.family.cf)?;
    let disk_before = disk_bytes(&db, &family);
    let mut import = Import { db: &db, family: &family, records: 0, raw_bytes: 0, steps: 0, ingested_steps: 0 };
    let result = import.run(&mut reader, &mut || tick(&mut progress));
    let Import { records, raw_bytes, steps, ingested_steps, .. } = import;
    // What was taken stays, whatever ended the import; so it is made durable in every case.
    db.sync()?;
    let disk_bytes = disk_bytes(&db, &family).saturating_sub(disk_before);
    let nanos = progress.finish().as_nanos() as u64;
    drop(family);
    if let Err(failure) = result {
        close(db)?;
        if let Failure::Interrupted = failure {
            context.note(&format!("{} records were imported", output::count(records)));
        }
        return Err(
            failure.and(format!("the {} records of {steps} steps before it are imported", output::count(records)))
        );
    }
    close(db)?;
    let summary = Summary {
        schema: "lignite.import/1",
        cf: args.family.cf.clone(),
        records,
        raw_bytes,
        disk_bytes: Some(disk_bytes),
        nanos,
        steps,
        ingested_steps,
        dry_run: false,
    };
    tell(&summary, context);
    Ok(Exit::Done)
}

struct Import<'a> {
    db: &'a Db,
    family: &'a ColumnFamily,
    records: u64,
    raw_bytes: u64,
    steps: u64,
    ingested_steps: u64,
}

impl Import<'_> {
    fn run<R: std::io::BufRead>(
        &mut self,
        reader: &mut RecordReader<R>,
        tick: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let mut step = Step::default();
        while step.fill(reader)? {
            interrupt::check()?;
            if self.can_ingest(&step)? {
                self.family.ingest(step.iter())?;
                self.ingested_steps += 1;
            } else {
                let mut batch = self.db.batch();
                for (key, value) in step.iter() {
                    batch.put(self.family, key, value);
                }
                self.db.write(batch)?;
            }
            self.steps += 1;
            self.records += step.len() as u64;
            self.raw_bytes += step.bytes.len() as u64;
            tick();
        }
        interrupt::check()
    }

    /// True if the step can be a finished table: its keys ascend, and its range is empty.
    fn can_ingest(&self, step: &Step) -> Result<bool, Failure> {
        let (Some((first, _)), Some((last, _)), true) = (step.get(0), step.get(step.len() - 1), step.ascends()) else {
            return Ok(false);
        };
        match self.family.range::<&[u8]>((Bound::Included(first), Bound::Included(last))).next() {
            None => Ok(true),
            Some(found) => {
                found?;
                Ok(false)
            }
        }
    }
}

/// Records that are committed together.
#[derive(Default)]
struct Step {
    /// Keys and values, back to back.
    bytes: Vec<u8>,
    /// Where each key begins, each value begins, and each value ends.
    places: Vec<(usize, usize, usize)>,
    /// A record that was read but did not fit any more.
    next: Option<(Vec<u8>, Vec<u8>)>,
}

impl Step {
    /// Takes as many records as fit; false if there are none left.
    fn fill<R: std::io::BufRead>(&mut self, reader: &mut RecordReader<R>) -> Result<bool, Failure> {
        self.bytes.clear();
        self.places.clear();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        if let Some((key, value)) = self.next.take() {
            self.push(&key, &value);
        }
        while reader.read(&mut key, &mut value)? {
            if !self.places.is_empty() && self.bytes.len() + key.len() + value.len() > STEP_LEN {
                self.next = Some((key, value));
                return Ok(true);
            }
            self.push(&key, &value);
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
        }
        Ok(!self.places.is_empty())
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.places.push((start, start + key.len(), self.bytes.len()));
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let (start, middle, end) = *self.places.get(index)?;
        Some((&self.bytes[start..middle], &self.bytes[middle..end]))
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|&(start, middle, end)| (&self.bytes[start..middle], &self.bytes[middle..end]))
    }

    fn ascends(&self) -> bool {
        self.iter().zip(self.iter().skip(1)).all(|((a, _), (b, _))| a < b)
    }
}

/// What a family takes on disk: its tables, and the log, where its latest records are.
fn disk_bytes(db: &Db, family: &ColumnFamily) -> u64 {
    Totals::of(&family.stats()).bytes + db.stats().log.bytes
}

fn tell(summary: &Summary, context: &Context) {
    if context.global.progress == Mode::Json {
        json_to_stderr(summary);
        return;
    }
    let seconds = std::time::Duration::from_nanos(summary.nanos);
    let rate = megabytes_per_second(summary.raw_bytes, seconds);
    let (records, raw) = (output::count(summary.records), output::bytes(summary.raw_bytes));
    let text = match summary.disk_bytes {
        None => format!("would import {records} records, {raw} raw; nothing was changed"),
        Some(disk) => format!(
            "imported {records} records into {}: {raw} raw, {} on disk, {:.2} s, {rate:.0} MB/s \
             ({} of {} steps straight to tables)",
            summary.cf,
            output::bytes(disk),
            seconds.as_secs_f64(),
            summary.ingested_steps,
            summary.steps
        ),
    };
    context.note(&text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::formats::push_record;
    use crate::text::Style;

    #[test]
    fn steps_are_cut_by_size_and_lose_nothing() {
        let mut input = Vec::new();
        for i in 0..5u32 {
            let value = vec![0; 3 << 20];
            push_record(DataFormat::Kv, &i.to_be_bytes(), &value, Style::Auto, Style::Auto, &mut input);
        }
        let mut reader = RecordReader::new(DataFormat::Kv, input.as_slice(), "test").unwrap();
        let mut step = Step::default();
        let mut lens = Vec::new();
        while step.fill(&mut reader).unwrap() {
            assert!(step.bytes.len() <= STEP_LEN && step.ascends());
            lens.push(step.len());
        }
        assert_eq!(lens, [2, 2, 1]);
    }

    #[test]
    fn equal_or_falling_keys_do_not_ascend() {
        for (keys, ascends) in
            [(vec!["a", "b"], true), (vec!["a", "a"], false), (vec!["b", "a"], false), (vec!["a"], true)]
        {
            let mut step = Step::default();
            keys.iter().for_each(|k| step.push(k.as_bytes(), b"v"));
            assert_eq!(step.ascends(), ascends);
        }
    }
}
