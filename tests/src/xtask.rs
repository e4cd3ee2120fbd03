//! Chores of the workspace: `cargo xtask CHORE`.
//!
//! `crash-writer` is for the suite alone: a process that writes until it is killed.
#![allow(clippy::disallowed_methods, reason = "the ban list is the engine's")]

use std::io::Write as _;
use std::process::ExitCode;

use lignite::{Db, Durability, Options};

const USAGE: &str = "usage: cargo xtask CHORE

There is no chore for people yet. For the suite: crash-writer DIR FIRST SYNC, which writes batches
n = FIRST, FIRST+1, .. to two families, each put to both under key n, prints n when the batch is
acknowledged, and never ends by itself. SYNC of 1 waits for the device.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["crash-writer", dir, first, sync] => match (first.parse(), sync.parse::<u8>()) {
            (Ok(first), Ok(sync)) => match crash_writer(dir, first, sync == 1) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("error: {e}");
                    ExitCode::FAILURE
                }
            },
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// Writes until it is killed.
fn crash_writer(dir: &str, first: u64, sync: bool) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::new()
        .memtable_size(64 << 10)
        .memory_budget(4 << 20)
        .log_segment_size(64 << 10)
        .log_size_max(256 << 10);
    let db: Db = options.open(dir)?;
    let left =
        db.open_column_family("left", lignite::CfOptions::new().table_size(64 << 10).base_level_size(128 << 10))?;
    let right = db.open_column_family("right", lignite::CfOptions::new())?;
    let durability = if sync { Durability::Sync } else { Durability::Buffered };
    let mut out = std::io::stdout().lock();
    for n in first.. {
        let mut batch = db.batch();
        let value = format!("value {n} ").repeat(1 + n as usize % 40);
        batch.put(&left, n.to_be_bytes(), &value).put(&right, n.to_be_bytes(), &value);
        if n % 3 == 2 {
            batch.delete(&left, (n - 1).to_be_bytes()).delete(&right, (n - 1).to_be_bytes());
        }
        db.write_with(batch, durability)?;
        writeln!(out, "{n}")?;
        out.flush()?;
    }
    Ok(())
}
