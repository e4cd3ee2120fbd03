//! `checkpoint`: a copy of the database that shares its tables.

use std::path::{Path, PathBuf};

use lignite::Db;
use serde::Serialize;

use crate::args::FormatArgs;
use crate::context::{Context, close, open_write};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Cell, Format, Report, Table};

/// Copy the database as it is now to a new directory; tables are linked, not copied.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite checkpoint DB DEST
  lignite checkpoint DB DEST --yes   # replaces a database at DEST")]
pub struct Args {
    /// The database.
    db: PathBuf,
    /// The directory to make.
    dest: PathBuf,
    /// Replace a database that is there.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: String,
    dest: String,
}

/// Makes it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let occupied = is_occupied(&args.dest)?;
    if occupied && !args.yes {
        let dest = args.dest.display();
        return Err(Failure::refused(format!("{dest} is not empty; nothing was changed; add --yes to replace it")));
    }
    let db = open_write(&args.db)?;
    if same_directory(&args.db, &args.dest) {
        return Err(Failure::usage("the destination is the database itself"));
    }
    if occupied {
        replace(&db, &args.dest)?;
    } else {
        if args.dest.is_dir() {
            std::fs::remove_dir(&args.dest).map_err(|e| Failure::io("replace", &args.dest, &e))?;
        }
        db.checkpoint(&args.dest)?;
    }
    close(db)?;
    let (path, dest) = (args.db.display().to_string(), args.dest.display().to_string());
    if args.format.get() == Format::Table {
        context.note(&format!("checkpoint of {path} at {dest}"));
    } else {
        let mut table = Table::new(&["path", "dest"]);
        table.row(vec![Cell::text(&path), Cell::text(&dest)]);
        let document = Document { schema: "lignite.checkpoint/1", path, dest };
        context.output().report(args.format.get(), &Report::new(document, table))?;
    }
    Ok(Exit::Done)
}

/// Puts a checkpoint in the place of the database at `dest`, which goes only when the new one is
/// complete. Files that are not a database's are never removed.
fn replace(db: &Db, dest: &Path) -> Result<(), Failure> {
    let mut beside = dest.as_os_str().to_os_string();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    db.checkpoint(&beside)?;
    let swap = || -> Result<(), Failure> {
        Db::destroy(dest)?;
        if is_occupied(dest)? {
            let dest = dest.display();
            return Err(Failure::refused(format!("{dest} holds files that are not a database's; remove them first")));
        }
        std::fs::rename(&beside, dest).map_err(|e| Failure::io("rename to", dest, &e))
    };
    swap().inspect_err(|_| {
        // The failure that is on its way says more than one of cleaning up would.
        let _ = Db::destroy(&beside);
    })
}

fn is_occupied(dest: &Path) -> Result<bool, Failure> {
    match std::fs::read_dir(dest) {
        Ok(mut names) => Ok(names.next().is_some()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Failure::usage(format!("{} is not a directory", dest.display())))
        }
        Err(e) => Err(Failure::io("read", dest, &e)),
    }
}

fn same_directory(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
