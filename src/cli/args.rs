//! The command line: global options and the list of commands. The doc comments are the help texts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::commands::{
    apply::ApplyArgs, audit::AuditArgs, backup::BackupArgs, cache::CacheArgs, check::CheckArgs,
    completions::CompletionsArgs, diff::DiffArgs, dump::DumpArgs, explain::ExplainArgs, find::FindArgs,
    forget::ForgetArgs, history::HistoryArgs, hold::HoldArgs, init::InitArgs, key::KeyArgs, ls::LsArgs,
    man::ManArgs, mirror::MirrorArgs, mount::MountArgs, prune::PruneArgs, purge::PurgeArgs,
    repair::RepairArgs, restore::RestoreArgs, show::ShowArgs, snapshots::SnapshotsArgs, stats::StatsArgs,
    status::StatusArgs, undelete::UndeleteArgs,
};
use super::failure::Exit;

/// Back up a mail server into an encrypted, deduplicating repository, and give it back.
#[derive(Debug, Parser)]
#[command(name = "mailark", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Use the repository in this folder [env: MAILARK_REPO]
    #[arg(short, long = "repo", value_name = "DIR", global = true)]
    pub repository: Option<OsString>,
    /// Open the repository with the bytes of this file [env: MAILARK_KEY_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,
    /// Open the repository with the password in this file [env: MAILARK_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "key_file")]
    pub password_file: Option<PathBuf>,
    /// Open the repository with the password that this shell command prints [env: MAILARK_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", global = true, conflicts_with_all = ["key_file", "password_file"])]
    pub password_command: Option<String>,
    /// Open the repository with the recovery code, asked for at the terminal
    #[arg(long, global = true, conflicts_with_all = ["key_file", "password_file", "password_command"])]
    pub recovery_code: bool,
    /// Open the repository with the recovery code in this file
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        conflicts_with_all = ["key_file", "password_file", "password_command", "recovery_code"]
    )]
    pub recovery_code_file: Option<PathBuf>,
    /// Read settings and jobs from this file [env: MAILARK_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Keep the local index in this folder [env: MAILARK_CACHE_DIR]
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "no_cache")]
    pub cache_dir: Option<PathBuf>,
    /// Keep no local index: slower, leaves nothing behind
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Report exactly, as JSON, on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and problems
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for each file
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository and the key that opens it
    Init(InitArgs),
    /// Save files and folders as a new snapshot
    Backup(BackupArgs),
    /// List snapshots
    Snapshots(SnapshotsArgs),
    /// List what a snapshot holds
    Ls(LsArgs),
    /// Show what changed between two snapshots
    Diff(DiffArgs),
    /// Say whether the next backup would read a file, and why
    Explain(ExplainArgs),
    /// Find messages in all snapshots
    Find(Box<FindArgs>),
    /// Tell what happened to a message: arrived, moved, flagged, gone
    History(HistoryArgs),
    /// Show a message: its headers, its text, and what is attached
    Show(ShowArgs),
    /// Bring deleted messages of a user back into the live mailbox
    Undelete(Box<UndeleteArgs>),
    /// Write one file of a snapshot to standard output
    Dump(DumpArgs),
    /// Count messages, attachments and bytes, and what they cost
    Stats(StatsArgs),
    /// Say in one screen whether all is well
    Status(StatusArgs),
    /// Write files of a snapshot back to disk
    Restore(Box<RestoreArgs>),
    /// Give messages that come through a pipe back to a live mailbox
    Apply(ApplyArgs),
    /// Show snapshots as folders of a read-only file system
    Mount(MountArgs),
    /// Look for damage in the repository
    Check(CheckArgs),
    /// Let snapshots go that no rule keeps
    Forget(ForgetArgs),
    /// Keep snapshots or users' mail from being forgotten
    Hold(HoldArgs),
    /// Give back the space that no snapshot needs
    Prune(PruneArgs),
    /// Mend a damaged repository
    Repair(RepairArgs),
    /// Take a user, a message or a path out of every snapshot, for good
    Purge(PurgeArgs),
    /// Keep a second copy of the repository on another disk or share
    Mirror(MirrorArgs),
    /// List, add, remove and test what opens the repository
    Key(KeyArgs),
    /// Show who looked for whose mail on this machine
    Audit(AuditArgs),
    /// Show or delete the local index
    Cache(CacheArgs),
    /// Write a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// The whole command line as clap knows it, with the exit codes under every help text.
pub fn definition() -> clap::Command {
    with_exit_codes(Cli::command())
}

fn with_exit_codes(command: clap::Command) -> clap::Command {
    command.after_help(Exit::help()).mut_subcommands(with_exit_codes)
}

/// Understands a command line.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut definition = definition();
    let mut matches = definition.try_get_matches_from_mut(line)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut definition))
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
