//! `mailark audit`: who looked for whose mail.

use clap::Args;
use serde_json::Value;

use crate::base::bytes;
use crate::cli::audit;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::session::Session;

/// Show who looked for whose mail on this machine.
///
/// find, history, show, undelete, restores of messages and mounts are noted in a local log, each line bound to the one before.
/// Ends with 1 when a line was changed or taken out.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only where mail of this user was shown
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}

/// Shows the log.
pub fn run(args: &AuditArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let entries = audit::read(&context.settings.state_dir, session.repository.id())
        .map_err(|error| Failure::because(Kind::Storage, "read the log", &error))?;
    let mut exit = Exit::Ok;
    for (entry, follows) in &entries {
        if !follows {
            exit = Exit::Failed;
            crate::cli::output::complain("mailark: a line before this one was changed or taken out:\n");
        }
        let users = entry["mail_of"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_of = |user: &String| users.iter().any(|found| found.as_str() == Some(user));
        if !args.user.as_ref().is_none_or(is_of) {
            continue;
        }
        if context.output.manner().json {
            context.output.json(entry)?;
            continue;
        }
        let text = |value: &Value| bytes::display(value.as_str().unwrap_or_default().as_bytes());
        let list = |value: &Value| {
            let words = value.as_array().map(Vec::as_slice).unwrap_or_default();
            words.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let who = match (entry["sudo_user"].as_str(), entry["user"].as_str()) {
            (Some(name), _) | (None, Some(name)) => bytes::display(name.as_bytes()),
            (None, None) => "somebody".to_owned(),
        };
        let saw = match users.is_empty() {
            true => String::new(),
            false => format!("  saw mail of: {}", list(&entry["mail_of"])),
        };
        context.output.line(&format!(
            "{}  {who} (uid {})  {}{saw}",
            text(&entry["at"]),
            entry["uid"],
            list(&entry["query"]["words"]),
        ))?;
    }
    Ok(exit)
}
