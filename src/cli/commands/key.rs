//! `mailark key`: what opens the repository.

mod revoke;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::clock::UnixNanos;
use crate::base::id::SlotId;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Output, Side, Table, complain, local_time, rfc3339};
use crate::cli::secret::{self, Secret};
use crate::cli::session::Session;
use crate::crypto::recovery::RecoveryCode;
use crate::format::keyset::{KeySet, Role};
use crate::format::slot::{SlotHeader, SlotKind};
use crate::repo::records::{self, HostInfo};
use crate::repo::{Repository, ledger::Ledger};

use revoke::KeyRevokeArgs;

/// Fewest digits of an id that name a key slot.
const ID_DIGITS_MIN: usize = 4;

/// List, add, remove, test and revoke what opens the repository.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the key slots
    List,
    /// Add a key slot: a password, a key file or a recovery code
    Add(KeyAddArgs),
    /// Remove a key slot; the last full one stays
    Remove(KeyRemoveArgs),
    /// Replace the key slot in use by a new password or key file
    Change(NewKey),
    /// Say which key slot the given key opens, and what it may do
    Test,
    /// Let nothing count that a host writes from now on
    Revoke(KeyRevokeArgs),
}

/// Where a new key comes from; a person is asked for a password when nothing is said.
#[derive(Debug, Clone, Default, Args)]
pub struct NewKey {
    /// Use the bytes of this file; made when it is missing
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_file")]
    pub new_key_file: Option<PathBuf>,
    /// Use the password in this file
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// Add a key slot: a password, a key file or a recovery code.
#[derive(Debug, Args)]
pub struct KeyAddArgs {
    /// Where the new key comes from.
    #[command(flatten)]
    pub new: NewKey,
    /// Make a recovery code and print it once
    #[arg(long, conflicts_with_all = ["new_key_file", "new_password_file", "writer"])]
    pub recovery: bool,
    /// Let the new key only write, for one host: it can read no mail and delete nothing
    #[arg(long, requires = "host")]
    pub writer: bool,
    /// The host that the writer key is for
    #[arg(long, value_name = "NAME", requires = "writer")]
    pub host: Option<String>,
    /// Deduplicate against the hosts of this domain, not against the host's own mail alone
    #[arg(long, value_name = "NAME", requires = "writer")]
    pub domain: Option<String>,
    /// Remember the key slot by this label
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
}

/// Remove a key slot; the last full one stays.
#[derive(Debug, Args)]
pub struct KeyRemoveArgs {
    /// The key slot, as `key list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Does what is asked with keys.
pub fn run(args: &KeyArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let repository = Session::open(context)?.repository;
    match &args.command {
        KeyCommand::List => list(&repository, context.output),
        KeyCommand::Add(args) => add(args, &repository, context),
        KeyCommand::Remove(args) => remove(args, &repository, context.output),
        KeyCommand::Change(new) => change(new, &repository, context),
        KeyCommand::Test => test(&repository, context.output),
        KeyCommand::Revoke(args) => revoke::run(args, &repository, context),
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Full => "full",
        Role::Writer => "writer",
    }
}

fn kind_word(kind: &SlotKind) -> &'static str {
    match kind {
        SlotKind::Password { .. } => "password",
        SlotKind::KeyFile { .. } => "key file",
        SlotKind::Recovery { .. } => "recovery code",
    }
}

fn created(header: &SlotHeader) -> UnixNanos {
    UnixNanos::from(header.created) * 1_000_000_000
}

/// Does a slot open the keys of a host that was revoked?
fn is_revoked(header: &SlotHeader, hosts: &[HostInfo]) -> bool {
    header.role == Role::Writer && records::is_revoked_name(hosts, header.host_name.as_str())
}

fn as_json(id: SlotId, header: &SlotHeader, in_use: bool, hosts: &[HostInfo]) -> Value {
    json!({
        "id": id.to_string(),
        "kind": kind_word(&header.kind),
        "role": role_word(header.role),
        "host": Some(header.host_name.as_str()).filter(|name| !name.is_empty()),
        "label": header.label.as_str(),
        "created": rfc3339(created(header)),
        "in_use": in_use,
        "revoked": is_revoked(header, hosts),
    })
}

fn list(repository: &Repository, out: &Output) -> Result<Exit, Failure> {
    let (slots, hosts) = (repository.slots()?, records::hosts(repository)?);
    let in_use = |id: &SlotId| repository.opened.as_ref() == Some(id);
    let all_signed = slots.iter().all(|(_, slot)| slot.is_ok());
    let exit = if all_signed { Exit::Ok } else { Exit::Failed };
    if out.manner().json {
        let slots: Vec<Value> = slots
            .iter()
            .map(|(id, slot)| match slot {
                Ok(header) => as_json(*id, header, in_use(id), &hosts),
                Err(error) => json!({ "id": id.to_string(), "problem": error.to_string() }),
            })
            .collect();
        out.json(&slots)?;
        return Ok(exit);
    }
    let titles = ["", "ID", "OPENED BY", "ROLE", "HOST", "CREATED", "LABEL"];
    let mut table = Table::new(&titles.map(|title| (title, Side::Left)));
    for (id, slot) in &slots {
        let mark = if in_use(id) { "*" } else { "" };
        let mut row = vec![mark.to_owned(), id.to_string()];
        match slot {
            Ok(header) => row.extend([
                kind_word(&header.kind).to_owned(),
                if is_revoked(header, &hosts) { "revoked" } else { role_word(header.role) }.to_owned(),
                bytes::display(header.host_name.as_str().as_bytes()),
                local_time(created(header)),
                bytes::display(header.label.as_str().as_bytes()),
            ]),
            Err(_) => row.push("NOT VALID".to_owned()),
        }
        table.row(row);
    }
    table.write(out)?;
    for (id, slot) in &slots {
        if let Err(error) = slot {
            complain(&format!("mailark: keys/{id}: {error}\n"));
        }
    }
    Ok(exit)
}

/// The new secret, and what to call it; a recovery code comes with its text.
struct Fresh {
    secret: Secret,
    label: String,
    code: Option<RecoveryCode>,
    key_file: Option<PathBuf>,
}

fn fresh(new: &NewKey, recovery: bool, context: &Context<'_>) -> Result<Fresh, Failure> {
    let made =
        |secret, label: &str, key_file| Fresh { secret, label: label.to_owned(), code: None, key_file };
    if recovery {
        let code = RecoveryCode::generate();
        let secret = Secret::Recovery(code.text().to_string());
        return Ok(Fresh { code: Some(code), ..made(secret, "recovery code", None) });
    }
    if let Some(path) = &new.new_key_file {
        let secret = if path.exists() { secret::key_file(path)? } else { secret::make_key_file(path)? };
        return Ok(made(secret, "key file", Some(path.clone())));
    }
    let secret = match &new.new_password_file {
        Some(path) => secret::password_file(path)?,
        None => secret::ask_new_password(context.interrupt)?,
    };
    Ok(made(secret, "password", None))
}

fn add(args: &KeyAddArgs, repository: &Repository, context: &Context<'_>) -> Result<Exit, Failure> {
    repository.need_full("adding a key")?;
    let fresh = fresh(&args.new, args.recovery, context)?;
    let host = args.host.as_deref().unwrap_or_default();
    let keys = match args.writer {
        true => {
            let domain = args.domain.as_deref().map(records::named_domain);
            let (host, domain) = records::host_named(repository, host, domain)?;
            Arc::new(KeySet::Writer(Box::new(repository.need_full("adding a key")?.writer(host, domain))))
        }
        false => Arc::clone(&repository.keys),
    };
    let label = args.label.clone().unwrap_or_else(|| fresh.label.clone());
    let id = repository.add_slot(&keys, &fresh.secret, &label, host)?;
    tell_new(id, &keys, &fresh, host, context)?;
    Ok(Exit::Ok)
}

fn tell_new(
    id: SlotId,
    keys: &KeySet,
    fresh: &Fresh,
    host: &str,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let out = context.output;
    let key_file = fresh.key_file.as_ref().map(|path| path.display().to_string());
    if out.manner().json {
        let mut result = json!({
            "id": id.to_string(),
            "role": role_word(keys.role()),
            "host": Some(host).filter(|name| !name.is_empty()),
            "key_file": key_file,
        });
        if let Some(code) = &fresh.code {
            result["recovery_code"] = code.text().as_str().into();
        }
        return out.json(&result);
    }
    out.line(&format!("added {} key {id}", role_word(keys.role())))?;
    if let Some(code) = &fresh.code {
        out.line(&format!("recovery code   {}", code.text().as_str()))?;
        out.line("Write it down now; it is not shown again.")?;
    }
    if let (Some(path), KeySet::Writer(_)) = (&key_file, keys) {
        let host = bytes::display(host.as_bytes());
        out.line(&format!("Move {path} to {host}: it can save there, and read no mail."))?;
    }
    Ok(())
}

fn remove(args: &KeyRemoveArgs, repository: &Repository, out: &Output) -> Result<Exit, Failure> {
    repository.need_full("removing a key")?;
    let (slots, hosts) = (repository.slots()?, records::hosts(repository)?);
    let wanted = args.id.to_ascii_lowercase();
    let user = |what: String| Failure::new(Kind::User, what).hint("'mailark key list' shows them");
    if wanted.len() < ID_DIGITS_MIN {
        return Err(user(format!("'{}' is too short for a key slot's id", args.id)));
    }
    let mut fitting = slots.iter().filter(|(id, _)| id.to_string().starts_with(&wanted));
    let (id, slot) = match (fitting.next(), fitting.next()) {
        (Some(found), None) => found,
        (None, _) => return Err(user(format!("no key slot '{}'", args.id))),
        (Some(_), Some(_)) => return Err(user(format!("several key slots begin with '{}'", args.id))),
    };
    let is_full = |slot: &Result<SlotHeader, _>| slot.as_ref().is_ok_and(|header| header.role == Role::Full);
    let another_full = slots.iter().any(|(other, slot)| other != id && is_full(slot));
    if !another_full {
        return Err(Failure::new(
            Kind::User,
            format!("key slot {id} stays: without it no full key would be left"),
        )
        .hint("add another with 'mailark key add' first"));
    }
    repository.remove_slot(*id)?;
    if out.manner().json {
        out.json(&json!({ "removed": id.to_string() }))?;
        return Ok(Exit::Ok);
    }
    out.line(&format!("removed key slot {id}"))?;
    if repository.opened == Some(*id) {
        out.line("It is the one you used: the next command needs another key.")?;
    }
    let header = slot.as_ref().ok();
    if !header.is_some_and(|header| is_revoked(header, &hosts)) {
        out.line(&copies(header))?;
    }
    Ok(Exit::Ok)
}

/// What the removal of a slot does not do.
fn copies(slot: Option<&SlotHeader>) -> String {
    let whoever = "Whoever copied the slot before, and has what opens it, can still";
    match slot {
        Some(header) if header.role == Role::Writer => {
            let host = bytes::display(header.host_name.as_str().as_bytes());
            format!("{whoever} save as {host}: 'mailark key revoke {host}' ends that.")
        }
        _ => format!("{whoever} read, sign and delete everything: against that only a new repository helps."),
    }
}

fn change(new: &NewKey, repository: &Repository, context: &Context<'_>) -> Result<Exit, Failure> {
    repository.need_full("changing a key")?;
    let slots = repository.slots()?;
    let in_use = slots.iter().find(|(id, _)| repository.opened == Some(*id));
    let Some((old, Ok(header))) = in_use else {
        return Err(Failure::new(Kind::Damaged, "the key slot in use is not there any more"));
    };
    if matches!(header.kind, SlotKind::Recovery { .. }) {
        return Err(Failure::new(Kind::User, "the key in use is the recovery code, which stays as it is")
            .hint("'mailark --recovery-code key add' adds a new key beside it"));
    }
    let fresh = fresh(new, false, context)?;
    let kinds = [fresh.label.as_str(), kind_word(&header.kind)];
    // A name that only said what it was must not go on saying it.
    let label = if header.label.as_str() == kinds[1] { kinds[0] } else { header.label.as_str() };
    let id = repository.add_slot(&repository.keys, &fresh.secret, label, "")?;
    // The new slot is durable: whatever happens now, one of the two opens.
    repository.remove_slot(*old)?;
    let out = context.output;
    if out.manner().json {
        out.json(&json!({ "id": id.to_string(), "removed": old.to_string() }))?;
        return Ok(Exit::Ok);
    }
    out.line(&format!("key slot {id} took the place of {old}"))?;
    if let Some(path) = &fresh.key_file {
        out.line(&format!(
            "From now on use --key-file {}; keep a copy of it away from this machine.",
            path.display()
        ))?;
    }
    Ok(Exit::Ok)
}

fn test(repository: &Repository, out: &Output) -> Result<Exit, Failure> {
    let (slots, ledger) = (repository.slots()?, Ledger::read(repository)?);
    let in_use = slots.iter().find(|(id, _)| repository.opened == Some(*id));
    let Some((id, Ok(header))) = in_use else {
        return Err(Failure::new(Kind::Damaged, "the key slot in use is not there any more"));
    };
    if out.manner().json {
        out.json(&as_json(*id, header, true, &ledger.hosts))?;
        return Ok(Exit::Ok);
    }
    out.line(&format!("this {} opens key slot {id}", kind_word(&header.kind)))?;
    out.line(&format!("label     {}", bytes::display(header.label.as_str().as_bytes())))?;
    out.line(&format!("created   {}", local_time(created(header))))?;
    let host = bytes::display(header.host_name.as_str().as_bytes());
    let is_revoked = match repository.keys.as_ref() {
        KeySet::Writer(keys) => ledger.revoked.contains_key(&keys.host),
        KeySet::Full(_) => false,
    };
    out.line(&match header.role {
        Role::Writer if is_revoked => {
            format!("role      writer for host {host}, which was revoked: what it saves counts no longer")
        }
        Role::Full => "role      full: reads, writes and changes everything".to_owned(),
        Role::Writer => {
            format!("role      writer for host {host}: saves and lists its own backups, reads no mail")
        }
    })?;
    Ok(Exit::Ok)
}
