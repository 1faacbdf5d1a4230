//! `mailark repair`: mending a damaged repository.

mod index;
mod packs;
mod records;
mod snapshots;

use clap::{Args, Subcommand};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};

pub use index::IndexArgs;
pub use packs::PacksArgs;
pub use records::RecordsArgs;
pub use snapshots::SnapshotsArgs;

/// Mend a damaged repository. Nothing is deleted: what is damaged is moved to damaged/ in the repository.
///
/// In this order: index, packs, a backup of every job, snapshots. Needs a full key.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// What to mend.
    #[command(subcommand)]
    pub command: RepairCommand,
}

/// What to mend.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Write lost and damaged index files anew, from the packs
    Index(IndexArgs),
    /// Mend lost and damaged packs by parity, from a mirror, or piece by piece
    Packs(PacksArgs),
    /// Bring unusable records back from a mirror, or take them out of the way
    Records(RecordsArgs),
    /// Write snapshots anew without what is lost, and list what that is
    Snapshots(SnapshotsArgs),
}

/// Mends.
pub fn run(args: &RepairArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    match &args.command {
        RepairCommand::Index(args) => index::run(args, context),
        RepairCommand::Packs(args) => packs::run(args, context),
        RepairCommand::Records(args) => records::run(args, context),
        RepairCommand::Snapshots(args) => snapshots::run(args, context),
    }
}
