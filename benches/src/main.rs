//! Measurements of Lignite. `benches/README.md` says how to run them and what each figure means.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measuring needs the clock and the file system of the machine, not the engine's doors to them"
)]

mod idle;
mod log;
mod noise;
mod profiles;
mod recompress;
mod reference;
mod sizes;
mod solo;
mod subframes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lignite_bench::records;

/// Measurements of Lignite
#[derive(Parser)]
#[command(name = "lignite-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the reference size R of every record set
    Reference {
        /// Directory of the record sets
        #[arg(long, default_value_os_t = records::default_directory())]
        data: PathBuf,
    },
    /// Hold the files of a database with every record set against R
    Size(sizes::SizeOptions),
    /// Make a database of every record set with every objective: bytes, and time of decoding
    Profiles(profiles::ProfileOptions),
    /// Move a family to another codec while it is in use, and kill that on the way
    Recompress(recompress::RecompressArguments),
    /// Load records
    Fill(solo::FillOptions),
    /// Read existing keys at random
    Read(solo::ReadOptions),
    /// Read everything in order
    Scan(solo::ScanOptions),
    /// Read and overwrite existing keys at random
    Mixed(solo::MixedOptions),
    /// Write from several threads, each record synced
    Sync(solo::SyncOptions),
    /// Load what cannot be compressed, with codecs and without
    Noise(noise::NoiseOptions),
    /// Compare work on blocks with one idle core and without
    Idle(idle::IdleOptions),
    /// Hold large blocks of small frames against small blocks
    Subframes(subframes::SubframeOptions),
    /// Compare the two ways to append to the log
    Log(log::LogOptions),
}

fn main() -> ExitCode {
    let result = match &Arguments::parse().command {
        Command::Reference { data } => reference::run(data),
        Command::Size(options) => sizes::run(options),
        Command::Profiles(options) => profiles::run(options),
        Command::Recompress(options) => recompress::run(options),
        Command::Fill(options) => solo::fill(options),
        Command::Read(options) => solo::read(options),
        Command::Scan(options) => solo::scan(options),
        Command::Mixed(options) => solo::mixed(options),
        Command::Sync(options) => solo::sync(options),
        Command::Noise(options) => noise::run(options),
        Command::Idle(options) => idle::run(options),
        Command::Subframes(options) => subframes::run(options),
        Command::Log(options) => log::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
