//! `delete`: one record.

use std::path::PathBuf;

use super::put::done;
use crate::args::{Bytes, FamilyArg, FormatArgs};
use crate::context::{Context, close, open_write};
use crate::exit::Outcome;

/// Delete a key; a key that is absent is no error.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite delete DB user:1
  lignite delete DB --cf index hex:00ff")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// The key; see: lignite help keys.
    key: Bytes,
    #[command(flatten)]
    family: FamilyArg,
    #[command(flatten)]
    format: FormatArgs,
}

/// Deletes it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let db = open_write(&args.db)?;
    let sequence = db.column_family(&args.family.cf)?.delete(&args.key.0)?.seq();
    close(db)?;
    done("lignite.delete/1", &args.family.cf, sequence, args.format.get(), context)
}
