//! `mailark completions`: scripts for shells.

use clap::Args;
use clap_complete::Shell;

use crate::cli::args;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;

/// Write a completion script for a shell to standard output.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Writes the script.
pub fn run(args: &CompletionsArgs, output: &Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::definition(), "mailark", &mut script);
    output.raw(&script)?;
    Ok(Exit::Ok)
}
