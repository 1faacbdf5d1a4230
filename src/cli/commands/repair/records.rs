//! `mailark repair records`: records that cannot be used come back from a mirror, or go out of the way.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::complain;
use crate::cli::session::Session;
use crate::ops::repair::records::{self, Options, Outcome};
use crate::store::LocalStore;

/// Bring unusable records back from a mirror, or take them out of the way.
///
/// While a record cannot be read, nothing is forgotten, purged or pruned, because it may hold something. What was
/// never a record is moved to damaged/ in the repository; what may have been one only with --drop-unreadable.
#[derive(Debug, Args)]
pub struct RecordsArgs {
    /// Take records from this mirror where it has them whole
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Give up records that may be real: a hold among them ends
    #[arg(long)]
    pub drop_unreadable: bool,
    /// Say what would be done; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Repairs the records.
pub(super) fn run(args: &RecordsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let mirror = args.from.as_deref().map(LocalStore::new);
    let from = mirror.as_ref().map(|mirror| mirror as &dyn crate::store::Storage);
    let options = Options { from, drop_unreadable: args.drop_unreadable, dry_run: args.dry_run };
    let report = records::run(&session.repository, options)?;
    let out = context.output;
    let left = report.iter().filter(|(_, _, outcome)| *outcome == Outcome::Left).count();
    if out.manner().json {
        let files: Vec<Value> = report
            .iter()
            .map(|(place, why, outcome)| json!({ "object": place.to_string(), "problem": why, "outcome": word(outcome) }))
            .collect();
        out.json(&json!({ "dry_run": args.dry_run, "records": files, "left": left }))?;
    } else {
        for (_, why, outcome) in &report {
            let line = format!("{why}: {}", told(outcome, args.dry_run));
            match outcome {
                Outcome::Left => complain(&format!("mailark: {line}\n")),
                _ if args.dry_run => out.line(&line)?,
                _ => out.summary(&line)?,
            }
        }
        if report.is_empty() {
            out.summary("every record can be read")?;
        }
        if left > 0 {
            complain("hint: --from MIRROR brings records back; --drop-unreadable gives them up\n");
        }
    }
    Ok(if left == 0 { Exit::Ok } else { Exit::Incomplete })
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Restored => "restored",
        Outcome::SetAside(_) => "set_aside",
        Outcome::Dropped(_) => "dropped",
        Outcome::Left => "left",
    }
}

fn told(outcome: &Outcome, dry_run: bool) -> String {
    match (outcome, dry_run) {
        (Outcome::Restored, true) => "would come back from the mirror".to_owned(),
        (Outcome::Restored, false) => "came back from the mirror".to_owned(),
        (Outcome::SetAside(_) | Outcome::Dropped(_), true) => "would be moved out of the way".to_owned(),
        (Outcome::SetAside(kept) | Outcome::Dropped(kept), false) => format!("moved to {kept}"),
        (Outcome::Left, _) => "may be a record, and stays".to_owned(),
    }
}
