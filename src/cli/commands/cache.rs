//! `mailark cache`: the local index and the catalogue.

use clap::{Args, Subcommand};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::session::{Session, index_dir};
use crate::index::Index;
use crate::index::catalogue::Catalogue;

/// Show or delete the local index and the catalogue; both rebuild themselves from the repository.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do with the cache.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// Say where the local index lies and how large it is
    Info,
    /// Delete the local index and the catalogue of this repository
    Clean,
}

/// Shows or deletes the cache.
pub fn run(args: &CacheArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    match args.command {
        CacheCommand::Info => info(context),
        CacheCommand::Clean => {
            discard(context)?;
            context.output.summary("the local index is gone; it rebuilds itself")?;
            Ok(Exit::Ok)
        }
    }
}

/// Throws the cache of this repository away.
pub fn discard(context: &Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context)?;
    let Some(dir) = index_dir(context, &session.repository) else { return Ok(()) };
    Catalogue::wipe(&dir, &session.repository.id());
    Index::wipe(&dir, &session.repository.id()).map_err(|error| Failure::because(Kind::Storage, "", &error))
}

fn info(context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    session.sync()?;
    let stats = session.index.read().expect("no holder panics").stats();
    let place = context.settings.cache_dir.as_ref().map(|dir| dir.display().to_string());
    if context.output.manner().json {
        let info = serde_json::json!({
            "cache_dir": place,
            "deltas": stats.delta_count,
            "packs": stats.pack_count,
            "locations": stats.location_count,
            "runs": stats.run_count,
            "run_bytes": stats.run_bytes,
        });
        context.output.json(&info)?;
        return Ok(Exit::Ok);
    }
    context
        .output
        .line(&format!("cache      {}", place.unwrap_or_else(|| "none (--no-cache)".to_owned())))?;
    context.output.line(&format!("deltas     {}", stats.delta_count))?;
    context.output.line(&format!("packs      {}", stats.pack_count))?;
    context.output.line(&format!(
        "locations  {} in {} runs, {}",
        stats.location_count,
        stats.run_count,
        crate::cli::output::size(stats.run_bytes)
    ))?;
    Ok(Exit::Ok)
}
