//! `mailark show`: one message, for people.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::base::bytes;
use crate::cli::catalogue;
use crate::cli::commands::{Context, find};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Output, count, size};
use crate::cli::retrieve::{self, Wanted};
use crate::cli::session::Session;
use crate::index::catalogue::{Asker, Found, Stay};
use crate::mail::reading::{self, Attachment, Reading};
use crate::ops::pick::Picked;
use crate::repo::extract::ExtractError;

/// Largest message that is taken apart; a larger one can be had with --raw.
const MESSAGE_BYTES_MAX: u64 = 512 << 20;
/// Files of one name that are tried before giving up.
const NAMES_MAX: u32 = 10_000;

/// Show a message: its headers, its text, and what is attached.
///
/// Whatever the mail contains, nothing of it reaches the terminal but printable text; --raw gives every byte as it was.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The message: the id that 'find' shows, or its Message-ID
    #[arg(value_name = "MESSAGE")]
    pub message: String,
    /// In the mailbox of this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Write the message to standard output, byte by byte
    #[arg(long)]
    pub raw: bool,
    /// Write its attachments into this folder; nothing there is overwritten
    #[arg(long, value_name = "DIR", conflicts_with = "raw")]
    pub save_attachments: Option<PathBuf>,
}

/// Shows.
pub fn run(args: &ShowArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    session.repository.need_full("reading mail")?;
    session.sync()?;
    let listed = session.snapshots()?.snapshots;
    let catalogue = catalogue::in_step(&session, &listed, context)?;
    let asker = find::ask(&catalogue)?;
    let (query, message) = find::one(&asker, &args.message, args.user.as_deref())?;
    find::note(context, &session, "show", &query, std::slice::from_ref(&message));
    let wanted = Wanted::newest(&message).into_iter().collect();
    retrieve::each(&session, &listed, wanted, context, &mut |one, picked| {
        show(args, &asker, one.message, one.stay, &picked?, context.output)
    })?;
    Ok(Exit::Ok)
}

fn show(
    args: &ShowArgs,
    asker: &Asker<'_>,
    message: &Found,
    stay: &Stay,
    picked: &Picked<'_>,
    out: &Output,
) -> Result<(), Failure> {
    if args.raw {
        return given(picked, &mut |bytes| out.raw(bytes));
    }
    if picked.letter.size > MESSAGE_BYTES_MAX {
        let what = format!("the message has {}, too much to take apart", size(picked.letter.size));
        return Err(Failure::new(Kind::User, what).hint("--raw writes it as it is"));
    }
    let mut whole = Vec::with_capacity(picked.letter.size as usize);
    given(picked, &mut |bytes| {
        whole.extend_from_slice(bytes);
        Ok(())
    })?;
    let reading = reading::read(&whole);
    let saved = match &args.save_attachments {
        Some(folder) => save(folder, &reading.attachments)?,
        None => Vec::new(),
    };
    if out.manner().json {
        return out.json(&as_json(asker, message, &reading, &saved));
    }
    tell(message, stay, &reading, &saved, out)
}

/// Gives the bytes of a message.
fn given(picked: &Picked<'_>, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    Ok(picked.body.read(|bytes| take(bytes).map_err(ExtractError::Write))?)
}

/// Writes attachments, each under a name that nobody has there; gives the names.
fn save(folder: &Path, attachments: &[Attachment]) -> Result<Vec<String>, Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::because(Kind::Storage, &format!("make {}", folder.display()), &error))?;
    attachments.iter().map(|attachment| save_one(folder, attachment)).collect()
}

fn save_one(folder: &Path, attachment: &Attachment) -> Result<String, Failure> {
    let (stem, end) = match attachment.name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem, format!(".{end}")),
        _ => (attachment.name.as_str(), String::new()),
    };
    for number in 1..NAMES_MAX {
        let name = match number {
            1 => attachment.name.clone(),
            number => format!("{stem}-{number}{end}"),
        };
        let path = folder.join(&name);
        let trouble = |error: &std::io::Error| {
            Failure::because(
                Kind::Storage,
                &format!("write {}", bytes::display(path.as_os_str().as_encoded_bytes())),
                error,
            )
        };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(trouble(&error)),
        };
        file.write_all(&attachment.content).map_err(|error| trouble(&error))?;
        return Ok(name);
    }
    Err(Failure::new(Kind::User, format!("{} is full of files called {}", folder.display(), attachment.name)))
}

fn tell(
    message: &Found,
    stay: &Stay,
    reading: &Reading,
    saved: &[String],
    out: &Output,
) -> Result<(), Failure> {
    let heading = &reading.heading;
    let shown = |text: &str| bytes::display(text.as_bytes());
    let sent = heading.date.map(|date| find::minute(i128::from(date) * 1_000_000_000)).unwrap_or_default();
    for (name, value) in [
        ("From", heading.from.as_str()),
        ("To", &heading.to),
        ("Cc", &heading.cc),
        ("Date", &sent),
        ("Subject", &heading.subject),
        ("Message-ID", &heading.message_id),
    ] {
        if !value.is_empty() {
            out.line(&format!("{:<11} {}", format!("{name}:"), shown(value)))?;
        }
    }
    out.line(&format!(
        "{:<11} {} of {}, {}, received {}",
        "Mailbox:",
        shown(&stay.folder),
        shown(&message.user),
        find::state(stay),
        find::minute(i128::from(stay.arrived) * 1_000_000_000)
    ))?;
    out.line(&match &stay.gone {
        None => format!("{:<11} there, as of {}", "Now:", find::named(&stay.last)),
        Some(gone) => {
            format!("{:<11} GONE: last in {}, not in {}", "Now:", find::named(&stay.last), find::named(gone))
        }
    })?;
    for (number, attachment) in reading.attachments.iter().enumerate() {
        let kept = saved.get(number).map(|name| format!(" -> {}", shown(name))).unwrap_or_default();
        out.line(&format!(
            "{:<11} {} ({}, {}){kept}",
            "Attached:",
            shown(&attachment.name),
            shown(&attachment.media_type),
            size(attachment.content.len() as u64)
        ))?;
    }
    if reading.more > 0 {
        out.line(&format!(
            "{:<11} and {} more; --raw gives all of the message",
            "Attached:",
            count(reading.more as u64)
        ))?;
    }
    out.line("")?;
    reading.text.lines().try_for_each(|line| out.line(&shown(&line.replace('\t', "    "))))
}

fn as_json(asker: &Asker<'_>, message: &Found, reading: &Reading, saved: &[String]) -> serde_json::Value {
    let mut value = find::as_json(message, asker);
    value["text"] = reading.text.clone().into();
    let attachments = reading.attachments.iter().enumerate().map(|(number, attachment)| {
        json!({
            "name": attachment.name,
            "media_type": attachment.media_type,
            "bytes": attachment.content.len(),
            "saved_as": saved.get(number),
        })
    });
    value["attachments_more"] = reading.more.into();
    value["attachments"] = attachments.collect::<Vec<_>>().into();
    value
}
