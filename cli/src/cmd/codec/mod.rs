//! `codec`: what the codecs are, and what they make of data.

use crate::context::Context;
use crate::exit::Outcome;

mod bench;
mod list;
mod material;
mod measure;
mod rows;

/// List codecs, and try them on data.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec list
  lignite codec bench access.log --codecs lz4,zstd:1..9")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    List(list::Args),
    Bench(bench::Args),
}

/// Does it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    match &args.action {
        Action::List(args) => list::run(args, context),
        Action::Bench(args) => bench::run(args, context),
    }
}
