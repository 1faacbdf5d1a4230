//! `mailark repair`: mending a damaged repository.

mod snapshots;

use clap::{Args, Subcommand};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};

pub use snapshots::SnapshotsArgs;

/// Mend a damaged repository. Needs a full key.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// What to mend.
    #[command(subcommand)]
    pub command: RepairCommand,
}

/// What to mend.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Write snapshots anew without what is lost, and list what that is
    Snapshots(SnapshotsArgs),
}

/// Mends.
pub fn run(args: &RepairArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    match &args.command {
        RepairCommand::Snapshots(args) => snapshots::run(args, context),
    }
}
