//! The commands, one file each.

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Outcome;

mod cf;
mod check;
mod checkpoint;
mod codec;
mod compact;
mod completions;
mod count;
mod create;
mod damage;
mod delete;
mod delete_range;
mod demo;
mod destination;
mod export;
mod files;
mod flush;
mod get;
mod help;
mod import;
mod info;
mod inspect;
mod put;
mod recompress;
mod repair;
mod salvage;
mod scan;
mod shape;
mod stats;
mod tree;

/// Two lines that show what the program is for.
pub const EXAMPLES: &str = "Examples:
  lignite demo                               # make a sample database and compare the codecs
  lignite scan DB --prefix user: --limit 3   # look into a database";

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Demo(demo::Args),
    Create(create::Args),
    Get(get::Args),
    Put(put::Args),
    Delete(delete::Args),
    DeleteRange(delete_range::Args),
    Scan(scan::Args),
    Count(count::Args),
    Cf(cf::Args),
    Import(import::Args),
    Export(export::Args),
    Info(info::Args),
    Stats(stats::Args),
    Tree(tree::Args),
    Inspect(inspect::Args),
    Check(check::Args),
    Repair(repair::Args),
    Salvage(salvage::Args),
    Compact(compact::Args),
    Flush(flush::Args),
    Codec(codec::Args),
    Recompress(recompress::Args),
    Checkpoint(checkpoint::Args),
    Completions(completions::Args),
    Help(help::Args),
}

/// Runs a command. `cli` is the description of the command line, for those that print it.
pub fn run(command: Command, context: &Context, cli: &mut clap::Command) -> Outcome {
    match command {
        Command::Demo(args) => demo::run(&args, context),
        Command::Create(args) => create::run(&args, context),
        Command::Get(args) => get::run(&args, context),
        Command::Put(args) => put::run(&args, context),
        Command::Delete(args) => delete::run(&args, context),
        Command::DeleteRange(args) => delete_range::run(&args, context),
        Command::Scan(args) => scan::run(&args, context),
        Command::Count(args) => count::run(&args, context),
        Command::Cf(args) => cf::run(&args, context),
        Command::Import(args) => import::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Info(args) => info::run(&args, context),
        Command::Stats(args) => stats::run(&args, context),
        Command::Tree(args) => tree::run(&args, context),
        Command::Inspect(args) => inspect::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Repair(args) => repair::run(&args, context),
        Command::Salvage(args) => salvage::run(&args, context),
        Command::Compact(args) => compact::run(&args, context),
        Command::Flush(args) => flush::run(&args, context),
        Command::Codec(args) => codec::run(&args, context),
        Command::Recompress(args) => recompress::run(&args, context),
        Command::Checkpoint(args) => checkpoint::run(&args, context),
        Command::Completions(args) => completions::run(&args, context, cli),
        Command::Help(args) => help::run(&args, context, cli),
    }
}
