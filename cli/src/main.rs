//! `lignite`: the command line of the Lignite key-value store.
//!
//! `main` parses, runs one command, and turns its outcome into an exit code and a line on standard
//! error. The contract (names, formats, exit codes) is scripts' ground to stand on.
// The engine's doors to files, time and threads exist so that its tests can stand in for them. The
// command line lives outside of them: it reads the user's files and shows the user's time.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the doors are the engine's, not the command line's"
)]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::Global;
use crate::cmd::Command;
use crate::context::Context;
use crate::exit::{Exit, Outcome};

mod args;
mod chart;
mod choice;
mod cmd;
mod context;
mod exit;
mod formats;
mod interrupt;
mod output;
mod progress;
mod seeded;
mod stream;
mod text;
mod units;

/// Load, read, inspect, check and compact Lignite databases.
#[derive(Parser)]
#[command(
    name = "lignite",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    before_help = cmd::EXAMPLES,
    after_help = "Exit codes, data formats and the syntax of keys: lignite help exit-codes | formats | keys"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that was asked for goes to standard output and is a success; anything else is a
            // wrong command line. A closed pipe is no reason to complain either.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    interrupt::install();
    trace(cli.global);
    let outcome = cmd::run(cli.command, &Context { global: cli.global }, &mut Cli::command());
    finish(outcome, cli.global)
}

/// The last words on standard error, and the code.
fn finish(outcome: Outcome, global: Global) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                let mut stderr = std::io::stderr().lock();
                let colored = global.color.is_on(stderr.is_terminal());
                let (on, off) = if colored { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
                let _ = writeln!(stderr, "{on}error:{off} {message}");
            }
            failure.exit().into()
        }
    }
}

/// What the engine tells, on standard error, for `-v` and `-vv`.
fn trace(global: Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) | (_, 0) => return,
        (_, 1) => tracing_subscriber::filter::LevelFilter::INFO,
        _ => tracing_subscriber::filter::LevelFilter::DEBUG,
    };
    let colored = global.color.is_on(std::io::stderr().is_terminal());
    tracing_subscriber::fmt().with_max_level(level).with_ansi(colored).with_writer(std::io::stderr).init();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The help of every command begins with two examples that parse.
    #[test]
    fn help_begins_with_two_examples() {
        fn visit(command: &mut clap::Command, path: &str) {
            let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_string()).collect();
            let help = command.render_help().to_string();
            let mut lines = help.lines();
            assert_eq!(lines.next(), Some("Examples:"), "{path}");
            for _ in 0..2 {
                let example = lines.next().unwrap();
                let words: Vec<&str> = example.split('#').next().unwrap().split_whitespace().collect();
                assert_eq!(words[0], "lignite", "{path}: {example}");
                if let Err(e) = Cli::try_parse_from(&words) {
                    panic!("{path}: {example}: {e}");
                }
            }
            assert_eq!(lines.next(), Some(""), "{path}");
            for name in names {
                visit(command.find_subcommand_mut(&name).unwrap(), &format!("{path} {name}"));
            }
        }
        let mut cli = Cli::command();
        cli.build();
        visit(&mut cli, "lignite");
    }

    #[test]
    fn what_is_not_built_is_absent() {
        for name in ["report", "bench", "du", "big", "find", "backup"] {
            assert!(Cli::try_parse_from(["lignite", name]).is_err(), "{name}");
            assert!(Cli::command().find_subcommand(name).is_none(), "{name}");
        }
    }

    #[test]
    fn lines_of_the_contract_parse() {
        for line in [
            "lignite create DB",
            "lignite cf create DB packages --codec zstd:3",
            "lignite cf create DB logs --codec lz4 --bottom-codec zstd:3 --block-size 16KiB",
            "lignite import DB --cf packages --format kv --input packages.kv.zst",
            "lignite import DB --cf packages --format kv --input -",
            "lignite export DB --cf packages --format kv --output out.kv",
            "lignite get DB --cf packages 0ad",
            "lignite get DB --cf packages 0ad --raw",
            "lignite put DB --cf default user:1 hello",
            "lignite scan DB --cf packages --prefix 0a --limit 3 --json",
            "lignite count DB --cf packages",
            "lignite compact DB",
            "lignite check DB --deep --json",
            "lignite info DB --json",
            "lignite stats DB --json",
            "lignite tree DB --cf packages",
            "lignite inspect DB/000012.sst --blocks --json",
            "lignite checkpoint DB DEST",
            "lignite cf set DB logs --objective decode:20us",
            "lignite recompress DB --cf packages --codec zstd:3 --dictionary auto --block-size 8KiB --rate 100MB/s --workers 2",
            "lignite codec compare DB --cf packages --sample 5% --timeout 30s --chart codecs.html",
            "lignite codec advise DB --cf packages --objective smallest",
            "lignite codec train DB --cf packages --size 64KiB",
            "lignite codec list",
            "lignite codec bench FILE --block-size 4KiB,16KiB --codecs lz4,zstd:1..9",
            "lignite repair DB --to NEW",
            "lignite salvage DB/000012.sst DB/000013.wal --output OUT.kv",
        ] {
            if let Err(e) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {e}");
            }
        }
    }
}
