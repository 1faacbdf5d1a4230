//! `mailark hold`: what may not be forgotten.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::clock::UnixNanos;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Side, Table, local_time, rfc3339};
use crate::cli::selection::{Selector, SnapshotFilter, selector};
use crate::cli::session::Session;
use crate::format::record::SnapshotName;
use crate::ops::hold;
use crate::repo::ledger::{Hold, Ledger};

/// Keep snapshots, or all mail of users, from being forgotten, purged or rewritten.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// What to do with holds.
    #[command(subcommand)]
    pub command: HoldCommand,
}

/// What to do with holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Hold snapshots, or every snapshot that holds mail of a user
    Add(HoldAddArgs),
    /// List the holds that stand
    List,
    /// End a hold
    Remove(HoldRemoveArgs),
}

/// Hold snapshots, or every snapshot that holds mail of a user.
///
/// A user is named as alice, or as alice@example.org. Folders of that name count, and example.org/alice.
#[derive(Debug, Args)]
pub struct HoldAddArgs {
    /// Hold this snapshot; repeat for several
    #[arg(long = "snapshot", value_name = "SNAPSHOT", value_parser = selector())]
    pub snapshots: Vec<Selector>,
    /// Hold every snapshot that holds mail of this user, those to come too; repeat for several
    #[arg(long = "user", value_name = "NAME")]
    pub users: Vec<String>,
    /// Say why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// End a hold.
#[derive(Debug, Args)]
pub struct HoldRemoveArgs {
    /// Its number, as `hold list` shows it
    #[arg(value_name = "NUMBER")]
    pub number: u64,
}

/// Does what is asked with holds.
pub fn run(args: &HoldArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    match &args.command {
        HoldCommand::Add(args) => add(args, &session, context),
        HoldCommand::List => list(&session, context),
        HoldCommand::Remove(args) => remove(args, &session, context),
    }
}

fn add(args: &HoldAddArgs, session: &Session, context: &Context<'_>) -> Result<Exit, Failure> {
    session.repository.need_full("holding")?;
    let mut names: Vec<SnapshotName> = Vec::new();
    if !args.snapshots.is_empty() {
        let listed = session.snapshots()?;
        let filter = SnapshotFilter::default().to_filter();
        for snapshot in &args.snapshots {
            names.push(session.resolve(&listed, snapshot.text(), &filter)?.name());
        }
    }
    let (names, users) = (hold::distinct(names), hold::distinct(args.users.iter().cloned()));
    let number = hold::add(&session.repository, names.clone(), users.clone(), args.reason.clone())?;
    if context.output.manner().json {
        let snapshots: Vec<String> = names.iter().map(|name| name.hash.to_string()).collect();
        let made = json!({ "hold": number, "snapshots": snapshots, "users": users, "reason": args.reason });
        context.output.json(&made)?;
    } else {
        context.output.summary(&format!("hold {number} stands until 'mailark hold remove {number}'"))?;
    }
    Ok(Exit::Ok)
}

fn as_json(hold: &Hold) -> Value {
    let snapshots: Vec<String> = hold.snapshots.iter().map(|name| name.hash.to_string()).collect();
    json!({
        "hold": hold.hold,
        "time": rfc3339(UnixNanos::from(hold.at) * 1_000_000_000),
        "snapshots": snapshots,
        "users": hold.users,
        "reason": hold.reason,
    })
}

fn list(session: &Session, context: &Context<'_>) -> Result<Exit, Failure> {
    session.repository.need_full("listing holds")?;
    let ledger = Ledger::read(&session.repository)?;
    if context.output.manner().json {
        context.output.json(&ledger.holds.iter().map(as_json).collect::<Vec<_>>())?;
    } else {
        table(&ledger.holds).write(context.output)?;
    }
    // One that cannot be read may be a hold.
    match ledger.need_known() {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            Err(Failure::from(error).hint("it may be a hold; forget and prune do nothing until then"))
        }
    }
}

fn table(holds: &[Hold]) -> Table {
    let mut table = Table::new(&[
        ("HOLD", Side::Right),
        ("SINCE", Side::Left),
        ("ON", Side::Left),
        ("REASON", Side::Left),
    ]);
    for hold in holds {
        let snapshots = hold.snapshots.iter().map(|name| name.hash.short());
        let users = hold.users.iter().map(|user| format!("user {}", bytes::display(user.as_bytes())));
        table.row(vec![
            hold.hold.to_string(),
            local_time(UnixNanos::from(hold.at) * 1_000_000_000),
            snapshots.chain(users).collect::<Vec<_>>().join(", "),
            bytes::display(hold.reason.as_bytes()),
        ]);
    }
    table
}

fn remove(args: &HoldRemoveArgs, session: &Session, context: &Context<'_>) -> Result<Exit, Failure> {
    hold::remove(&session.repository, args.number)?;
    if context.output.manner().json {
        context.output.json(&json!({ "removed": args.number }))?;
    } else {
        context.output.summary(&format!("hold {} is removed", args.number))?;
    }
    Ok(Exit::Ok)
}
