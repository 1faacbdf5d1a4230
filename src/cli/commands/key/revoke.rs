//! `mailark key revoke`: a host whose key is in other hands.

use clap::Args;
use serde_json::json;

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::ops::revoke::{self, Revoked};
use crate::repo::Repository;

/// Let nothing count that a host writes from now on.
///
/// For a host that is given up, or whose key somebody else may have. What it saved so far stays, and can be restored
/// and forgotten like all else. It cannot be taken back; a new writer key under the same name makes a new host.
#[derive(Debug, Args)]
pub struct KeyRevokeArgs {
    /// The host, as `snapshots` names it, or its id
    #[arg(value_name = "HOST")]
    pub host: String,
}

/// Revokes.
pub fn run(args: &KeyRevokeArgs, repository: &Repository, context: &Context<'_>) -> Result<Exit, Failure> {
    let revoked = revoke::run(repository, &args.host, context.interrupt)?;
    let out = context.output;
    let slots: Vec<String> = revoked.slots.iter().map(ToString::to_string).collect();
    if out.manner().json {
        out.json(&json!({
            "host": revoked.host.name,
            "id": revoked.host.host.to_string(),
            "last_number": revoked.last_sequence,
            "full_key": revoked.host.shared_domain(),
            "slots": slots,
        }))?;
        return Ok(Exit::Ok);
    }
    tell(&revoked, &slots, context)?;
    Ok(Exit::Ok)
}

fn tell(revoked: &Revoked, slots: &[String], context: &Context<'_>) -> Result<(), Failure> {
    let (out, name) = (context.output, bytes::display(revoked.host.name.as_bytes()));
    let kept = match revoked.last_sequence {
        0 => "it never made a snapshot".to_owned(),
        last => format!("its snapshots up to number {last} stay"),
    };
    out.line(&format!("revoked host {name}: {kept}, and nothing that it writes from now on counts"))?;
    if revoked.host.shared_domain() {
        out.line(&format!(
            "{name} wrote with a full key. Whoever has a copy of that can still read, sign and delete everything: \
             against that only a new repository helps."
        ))?;
    } else {
        out.line(
            "Whoever has its key can still read what the host itself stored. Take away its access to the place where \
             the repository lies, too.",
        )?;
    }
    for id in slots {
        out.line(&format!(
            "'mailark key remove {id}' removes a key slot of it, which is of no use any more."
        ))?;
    }
    if revoked.neighbours > 0 {
        out.line(&format!(
            "{} other hosts of its domain store again, once, what they have in common with it.",
            revoked.neighbours
        ))?;
    }
    Ok(())
}
