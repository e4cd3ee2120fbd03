//! `completions`: a script for the shell.

use clap_complete::Shell;

use crate::context::Context;
use crate::exit::{Exit, Outcome};

/// Print the completion script of a shell.
#[derive(clap::Args)]
#[command(before_help = "Examples:
  lignite completions bash   # > ~/.local/share/bash-completion/completions/lignite
  lignite completions fish   # > ~/.config/fish/completions/lignite.fish")]
pub struct Args {
    /// Which shell.
    shell: Shell,
}

/// Prints it.
pub fn run(args: &Args, context: &Context, cli: &mut clap::Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, cli, "lignite", &mut script);
    let mut out = context.output();
    out.record(&script)?;
    out.flush()?;
    Ok(Exit::Done)
}
