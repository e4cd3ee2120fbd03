//! Lignite and its peers on the same workloads. `benches/README.md` says how to run it and what each figure means.

mod choice;
mod data;
mod device;
mod engine;
mod plot;
mod report;
mod run;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lignite_bench::Result;

use engine::EngineKind;

/// Lignite and its peers on the same workloads, side by side in one run
#[derive(Parser)]
#[command(name = "lignite-compare", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print the table
    Run(run::RunOptions),
    /// One measurement, in a process of its own
    #[command(hide = true)]
    Case(run::CaseOptions),
    /// Print the table of files with JSON lines
    Report {
        /// The files
        files: Vec<PathBuf>,
        /// The engine that ratios are to
        #[arg(long, default_value_t = EngineKind::RocksdbLz4)]
        yardstick: EngineKind,
    },
    /// Draw rates against numbers of records, from files with JSON lines of runs with several `--records`
    Plot {
        /// The files
        files: Vec<PathBuf>,
        /// The workload
        #[arg(long)]
        workload: workload::Workload,
        /// The kind of records
        #[arg(long, default_value = "small")]
        data: String,
        /// The SVG
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match act(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: &Command) -> Result<()> {
    match command {
        Command::Run(options) => run::run(options),
        Command::Case(options) => run::run_case(options),
        Command::Report { files, yardstick } => {
            print!("{}", report::markdown(&read_all(files)?, *yardstick));
            Ok(())
        }
        Command::Plot { files, workload, data, out } => {
            Ok(std::fs::write(out, plot::svg(&read_all(files)?, &workload.to_string(), data))?)
        }
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<serde_json::Value>> {
    let mut lines = Vec::new();
    for file in files {
        lines.extend(run::read_lines(file)?);
    }
    Ok(lines)
}
