//! `delete-range`: every record of a range.

use std::path::PathBuf;

use super::put::done;
use crate::args::{FamilyArg, FormatArgs, RangeArgs};
use crate::context::{Context, close, open_read, open_write};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Delete every key of a range; needs --yes.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite delete-range DB --prefix user: --dry-run
  lignite delete-range DB --cf logs --to 2026-01-01 --yes")]
pub struct Args {
    /// The database.
    db: PathBuf,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    range: RangeArgs,
    /// Every key of the family.
    #[arg(long, conflicts_with_all = ["from", "to", "prefix"])]
    all: bool,
    /// Say what would be deleted, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Deletes them.
pub fn run(args: &Args, context: &Context) -> Outcome {
    if args.range.is_everything() && !args.all {
        return Err(Failure::usage("give --from, --to or --prefix, or --all for every key"));
    }
    let range = args.range.get();
    if args.dry_run || !args.yes {
        let db = open_read(&args.db)?;
        let bytes = db.column_family(&args.family.cf)?.approximate_size((range.start, range.end))?;
        let plan = format!(
            "would delete {} of column family {}, about {} on disk",
            args.range.describe(),
            args.family.cf,
            output::bytes(bytes)
        );
        if args.dry_run {
            let mut out = context.output();
            out.line(&plan)?;
            out.flush()?;
            return Ok(Exit::Done);
        }
        return Err(Failure::refused(format!("{plan}; nothing was changed; add --yes to do it")));
    }
    let db = open_write(&args.db)?;
    let sequence = db.column_family(&args.family.cf)?.delete_range((range.start, range.end))?.seq();
    close(db)?;
    done("lignite.delete-range/1", &args.family.cf, sequence, args.format.get(), context)
}
