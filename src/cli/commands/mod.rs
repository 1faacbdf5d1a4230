//! One file per command: its options, and what it does with them.

pub mod apply;
pub mod audit;
pub mod backup;
pub mod cache;
pub mod check;
pub mod completions;
pub mod diff;
pub mod dump;
pub mod explain;
pub mod find;
pub mod forget;
pub mod history;
pub mod hold;
pub mod init;
pub mod key;
pub mod ls;
pub mod man;
pub mod mirror;
pub mod mount;
pub mod prune;
pub mod purge;
pub mod repair;
pub mod restore;
pub mod show;
pub mod snapshots;
pub mod stats;
pub mod status;
pub mod undelete;

use super::args::{Cli, Command};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::settings::{Settings, Surroundings};
use crate::base::interrupt::Interrupt;

/// What every command that works on a repository is given.
pub struct Context<'a> {
    /// Repository, key, folders, jobs.
    pub settings: Settings,
    /// Where results go.
    pub output: &'a Output,
    /// Raised by signals.
    pub interrupt: &'a Interrupt,
}

/// Does what the command line asks for.
pub fn run(
    cli: &Cli,
    around: &Surroundings<'_>,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let context = || {
        let settings = Settings::resolve(&cli.globals, around)?;
        Ok::<_, Failure>(Context { settings, output, interrupt })
    };
    match &cli.command {
        Command::Completions(args) => completions::run(args, output),
        Command::Man(args) => man::run(args, output),
        Command::Init(args) => init::run(args, &context()?),
        // Standard input can be read once only: a second try would store its rest as if it were all.
        Command::Backup(args) if matches!(args.input()?, backup::Input::Stdin(_)) => {
            once(&context()?, |context| backup::run(args, context))
        }
        Command::Backup(args) => again_without_cache(&context()?, |context| backup::run(args, context)),
        Command::Restore(args) => again_without_cache(&context()?, |context| restore::run(args, context)),
        Command::Apply(args) => apply::run(args, &context()?),
        Command::Mount(args) => again_without_cache(&context()?, |context| mount::run(args, context)),
        Command::Prune(args) => again_without_cache(&context()?, |context| prune::run(args, context)),
        Command::Check(args) => again_without_cache(&context()?, |context| check::run(args, context)),
        Command::Repair(args) => again_without_cache(&context()?, |context| repair::run(args, context)),
        Command::Purge(args) => once(&context()?, |context| purge::run(args, context)),
        Command::Snapshots(args) => snapshots::run(args, &context()?),
        Command::Forget(args) => again_without_cache(&context()?, |context| forget::run(args, context)),
        Command::Hold(args) => hold::run(args, &context()?),
        Command::Key(args) => key::run(args, &context()?),
        Command::Ls(args) => once(&context()?, |context| ls::run(args, context)),
        Command::Diff(args) => once(&context()?, |context| diff::run(args, context)),
        Command::Dump(args) => once(&context()?, |context| dump::run(args, context)),
        Command::Explain(args) => once(&context()?, |context| explain::run(args, context)),
        Command::Find(args) => again_without_cache(&context()?, |context| find::run(args, context)),
        Command::History(args) => again_without_cache(&context()?, |context| history::run(args, context)),
        Command::Show(args) => again_without_cache(&context()?, |context| show::run(args, context)),
        Command::Undelete(args) => again_without_cache(&context()?, |context| undelete::run(args, context)),
        Command::Audit(args) => audit::run(args, &context()?),
        Command::Stats(args) => again_without_cache(&context()?, |context| stats::run(args, context)),
        Command::Mirror(args) => mirror::run(args, &context()?),
        Command::Status(args) => status::run(args, &context()?),
        Command::Cache(args) => cache::run(args, &context()?),
    }
}

/// Runs a command; when the cache turns out to be damaged, throws it away and runs the command once more.
fn again_without_cache<'a>(
    context: &Context<'a>,
    command: impl Fn(&Context<'a>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    match command(context) {
        Err(failure) if failure.is_index_damage() => {
            context.output.remark(&format!("{}: building it anew", failure.message));
            cache::discard(context)?;
            command(context)
        }
        outcome => outcome,
    }
}

/// Runs a command that must not begin twice; a damaged cache is thrown away for the next run.
fn once<'a>(
    context: &Context<'a>,
    command: impl FnOnce(&Context<'a>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    match command(context) {
        Err(failure) if failure.is_index_damage() => {
            cache::discard(context)?;
            Err(failure.hint("the local index was thrown away: run the command again"))
        }
        outcome => outcome,
    }
}
