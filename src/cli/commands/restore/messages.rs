//! The options of `mailark restore --user`, and what they ask for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::selected::Selection;
use super::{RestoreArgs, as_it_lies, letters, rebuild};
use crate::base::clock;
use crate::base::interval::Interval;
use crate::cli::audit;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::interval;
use crate::cli::output::complain;
use crate::cli::session::Session;
use crate::mail::folder_name;
use crate::ops::pick::Query;

/// Which mail of whom, and in which form.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Mail of one user")]
pub struct MessageArgs {
    /// Restore the mail of this user only, wherever the snapshot holds it
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Only messages of this folder: INBOX, Archive/2024, 'Archive/*' with all below; repeat for more
    #[arg(long, value_name = "FOLDER", requires = "user")]
    pub folder: Vec<String>,
    /// Only the message with this Message-ID or file name; repeat for more
    #[arg(long, value_name = "ID", requires = "user")]
    pub message: Vec<OsString>,
    /// Only what arrived then: 2026-03, 2026-03-15, A..B (B itself not), 7d
    #[arg(long, value_name = "WHEN", requires = "user")]
    pub received: Option<String>,
    /// Only what was sent then, by the sender's own clock (Date:)
    #[arg(long, value_name = "WHEN", requires = "user")]
    pub sent: Option<String>,
    /// From the snapshot that stood at this time; of a day or a month, at its end
    #[arg(long, value_name = "TIME", requires = "user", conflicts_with = "from")]
    pub existed_at: Option<String>,
    /// Only what was in a snapshot of that time and no longer in the one at its end
    #[arg(long, value_name = "WHEN", requires = "user", conflicts_with_all = ["from", "existed_at"])]
    pub deleted_between: Option<String>,
    /// The time zone of dates, such as Europe/Berlin or UTC; else that of this host
    #[arg(long, value_name = "ZONE", requires = "user")]
    pub zone: Option<String>,
    /// How the mail is written; `files` unless only some messages are asked for, then `maildir`
    #[arg(long = "as", value_name = "FORM", requires = "user")]
    pub form: Option<Form>,
    /// How the folders of a Maildir lie
    #[arg(long, value_name = "LAYOUT", requires = "user")]
    pub layout: Option<Layout>,
    /// Bring a lost mailbox back into this Maildir, with its UIDs; what lies there now is merged
    #[arg(long, value_name = "MAILDIR", requires = "user", conflicts_with_all = ["to", "form"])]
    pub rebuild: Option<PathBuf>,
    /// Call the user NEW where OLD stands in the paths that are written
    #[arg(long, value_name = "OLD=NEW", requires = "user", value_parser = two_users)]
    pub map_user: Option<(String, String)>,
}

/// In which form mail is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// As it lies: the same files below DIR, under their logical paths
    Files,
    /// A Maildir, with UIDs, flags, keywords and times
    Maildir,
    /// An mbox for each folder
    Mbox,
    /// A file for each message, called by date and subject
    Eml,
    /// A Maildir in a tar archive; --to - writes it to standard output
    Tar,
    /// Messages for 'mailark apply'; --to - writes them to standard output
    Letters,
}

/// How the folders of a Maildir lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// .Archive.2024
    #[default]
    #[value(name = "maildir++")]
    PlusPlus,
    /// Archive/2024
    Fs,
}

impl From<Layout> for folder_name::Layout {
    fn from(layout: Layout) -> folder_name::Layout {
        match layout {
            Layout::PlusPlus => folder_name::Layout::PlusPlus,
            Layout::Fs => folder_name::Layout::Fs,
        }
    }
}

fn two_users(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    match text.split_once('=') {
        Some((old, new)) if is_name(old) && is_name(new) => Ok((old.to_owned(), new.to_owned())),
        _ => Err(format!("'{text}' is not OLD=NEW")),
    }
}

/// What was asked for, understood.
pub struct Request {
    /// Which messages.
    pub query: Query,
    /// In which form.
    pub form: Form,
    /// The zone of dates.
    pub zone: TimeZone,
    /// The snapshot that stood then, unix seconds.
    pub existed_at: Option<i64>,
    /// What went in that time.
    pub deleted: Option<Interval>,
    /// How each of the times was understood.
    pub understood: Vec<(&'static str, String)>,
}

impl Request {
    fn understand(args: &RestoreArgs, user: &str) -> Result<Request, Failure> {
        let given = &args.messages;
        let wrong = |text: String| Failure::new(Kind::Usage, text);
        let zone = interval::zone(given.zone.as_deref()).map_err(wrong)?;
        let now = Timestamp::from_nanosecond(clock::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut understood = Vec::new();
        let mut time = |name: &'static str, text: &Option<String>| -> Result<Option<Interval>, Failure> {
            let Some(text) = text else { return Ok(None) };
            let interval = interval::parse(text, &zone, now).map_err(wrong)?;
            understood.push((name, interval::sentence(&interval, &zone)));
            Ok(Some(interval))
        };
        let received = time("received", &given.received)?;
        let sent = time("sent", &given.sent)?;
        let deleted = time("deleted", &given.deleted_between)?;
        let existed_at = given.existed_at.as_ref().map(|text| moment(text, &zone, now)).transpose();
        let existed_at = existed_at.map_err(wrong)?;
        if let Some(second) = existed_at {
            let at = Interval { from: Some(second), to: None };
            let text = interval::sentence(&at, &zone);
            understood
                .push(("existed at", text.trim_start_matches("from ").trim_end_matches(" on").to_owned()));
        }
        let query = Query {
            user: user.to_owned(),
            folders: given.folder.clone(),
            messages: given.message.iter().map(|id| id.as_bytes().to_vec()).collect(),
            received,
            sent,
        };
        let all = query.wants_all() && query.folders.is_empty() && deleted.is_none();
        let is_stream = args.to.as_ref().is_some_and(|to| to.as_os_str() == "-");
        let is_given = is_stream || args.give.is_live(args.to.as_ref());
        let form = given.form.unwrap_or(match (is_given, all) {
            (true, _) => Form::Letters,
            (false, true) => Form::Files,
            (false, false) => Form::Maildir,
        });
        let request = Request { query, form, zone, existed_at, deleted, understood };
        request.refuse_what_makes_no_sense(args, all)?;
        Ok(request)
    }

    fn refuse_what_makes_no_sense(&self, args: &RestoreArgs, all: bool) -> Result<(), Failure> {
        let refused = |text: &str| Err(Failure::new(Kind::Usage, text));
        let over =
            args.overwrite.is_some() || args.force || !args.include.is_empty() || !args.exclude.is_empty();
        if given_rebuild(args) {
            return match over {
                true => refused("--rebuild brings whole folders, and never writes over mail"),
                false => Ok(()),
            };
        }
        let is_stream = args.to.as_ref().is_some_and(|to| to.as_os_str() == "-");
        let wants_stream = matches!(self.form, Form::Tar | Form::Letters);
        if is_stream != wants_stream && !args.give.is_live(args.to.as_ref()) {
            return refused("--as tar or letters, and --to -, belong together");
        }
        if self.form == Form::Files {
            return match all {
                true => Ok(()),
                false => refused(
                    "--as files gives all mail of a user; some of it goes --as maildir, mbox, eml or tar",
                ),
            };
        }
        if over {
            return refused(
                "--overwrite, --force, --include and --exclude are for files as they lie (--as files)",
            );
        }
        Ok(())
    }
}

fn given_rebuild(args: &RestoreArgs) -> bool {
    args.messages.rebuild.is_some()
}

/// The second that `--existed-at` means: the end of a day or a longer time.
fn moment(text: &str, zone: &TimeZone, now: Timestamp) -> Result<i64, String> {
    let interval = interval::parse(text, zone, now)?;
    // A moment is a stretch of a second or a minute; a day is meant to its end.
    match (interval.from, interval.to) {
        (Some(from), Some(to)) if to - from <= 60 => Ok(from),
        (_, Some(to)) if !text.contains("..") => Ok(to),
        (Some(from), None) if !text.contains("..") => Ok(from),
        _ => Err(format!("'{text}' is a stretch of time; --existed-at needs one moment or day")),
    }
}

/// Notes who asked for whose mail.
fn note(args: &RestoreArgs, request: &Request, session: &Session, context: &Context<'_>) {
    let query = &request.query;
    let messages: Vec<String> =
        query.messages.iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect();
    let place = args.messages.rebuild.as_ref().or(args.to.as_ref());
    let asked = json!({
        "folders": query.folders,
        "messages": messages,
        "times": request.understood.iter().map(|(name, text)| format!("{name} {text}")).collect::<Vec<_>>(),
        "to": place.map(|place| place.display().to_string()),
        "dry_run": args.dry_run,
    });
    audit::note(context, session.repository.id(), "restore", &asked, &[&query.user]);
}

/// Restores mail of one user.
pub fn run(args: &RestoreArgs, user: &str, context: &Context<'_>) -> Result<Exit, Failure> {
    let request = Request::understand(args, user)?;
    if !context.output.manner().quiet && !context.output.manner().json {
        request.understood.iter().for_each(|(name, text)| complain(&format!("{name} {text}\n")));
    }
    let session = Session::open(context)?;
    session.repository.need_full("restoring mail")?;
    session.sync()?;
    let selection = Selection::make(args, &request, &session, context)?;
    note(args, &request, &session, context);
    match request.form {
        _ if given_rebuild(args) => rebuild::run(args, &request, &selection, &session, context),
        Form::Files => as_it_lies::run(args, &selection, &session, context),
        _ => letters::run(args, &request, &selection, &session, context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_renamed_by_two_names() {
        assert_eq!(two_users("a@x=b@x"), Ok(("a@x".to_owned(), "b@x".to_owned())));
        for wrong in ["a", "=b", "a=", "a=../b", "a=.."] {
            assert!(two_users(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_day_is_meant_to_its_end() {
        let now = "2026-03-29T10:00:00Z".parse().unwrap();
        let at = |text: &str| moment(text, &TimeZone::UTC, now);
        assert_eq!(at("2026-03-15"), Ok(1_773_619_200));
        assert_eq!(at("2026-03-15T10:00"), Ok(1_773_568_800));
        assert_eq!(at("2d"), Ok(1_774_605_600));
        assert!(at("2026-03..2026-04").is_err());
    }
}
