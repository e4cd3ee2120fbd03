//! `codec`: what the codecs are, and what they make of data.

use crate::context::Context;
use crate::exit::Outcome;

mod advise;
mod bench;
mod compare;
mod list;
mod material;
mod measure;
mod rows;
mod survey;
mod train;

/// List codecs, try them on data, and advise which to take.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite codec advise DB --cf packages
  lignite codec bench access.log --codecs lz4,zstd:1..9")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    List(list::Args),
    Bench(bench::Args),
    Compare(compare::Args),
    Advise(advise::Args),
    Train(train::Args),
}

/// Does it.
pub fn run(args: &Args, context: &Context) -> Outcome {
    match &args.action {
        Action::List(args) => list::run(args, context),
        Action::Bench(args) => bench::run(args, context),
        Action::Compare(args) => compare::run(args, context),
        Action::Advise(args) => advise::run(args, context),
        Action::Train(args) => train::run(args, context),
    }
}
