//! Giving letters back to live mailboxes: the options that say where, and the deliveries at work, one for each user.
//!
//! Commands that have letters, wherever they come from, hand them to [`Deliveries`] one by one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::commands::Context;
use super::failure::{Exit, Failure, Kind};
use super::output::{complain, count, in_zone, insert_name, size};
use crate::base::{bytes, clock};
use crate::mail::letter::Letter;
use crate::mail::templates::Template;
use crate::ops::deliver::{self, DeliverError, Options, Outcome, Post, Report, Undelivered};

/// Lines of a kind that people are shown.
const LINES_SHOWN: usize = 20;

/// Where letters are given back to.
#[derive(Debug, Clone, Default, Args)]
pub struct DeliveryArgs {
    /// The live mailbox, a Maildir; %u is the user, %n and %d the parts before and after the @
    #[arg(long, value_name = "DIR")]
    pub mailbox: Option<PathBuf>,
    /// Where the mailbox keeps dovecot-uidlist, when elsewhere (CONTROL=); takes the same variables
    #[arg(long, value_name = "DIR", requires = "mailbox")]
    pub control: Option<PathBuf>,
    /// How the folders of the mailbox lie on disk, when what is there does not tell
    #[arg(long, value_name = "LAYOUT", requires = "mailbox")]
    pub layout: Option<Layout>,
    /// Into a new folder Restored/DATE, or into the folders that the messages were in
    #[arg(long, value_name = "WHERE", requires = "mailbox")]
    pub into: Option<Into>,
    /// Messages of user OLD go to user NEW; repeat for more
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping, requires = "mailbox")]
    pub map_user: Vec<(String, String)>,
}

/// Where in the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Into {
    /// A new folder, Restored/DATE
    Restored,
    /// The folders that the messages were in
    Original,
}

/// How folders lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// .Archive.2024
    #[value(name = "maildir++")]
    Maildir,
    /// Archive/2024
    Fs,
}

fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("OLD=NEW is wanted".to_owned()),
    }
}

/// Where the journals of deliveries lie.
pub fn journals(context: &Context<'_>) -> PathBuf {
    context.settings.state_dir.join("deliveries")
}

/// What is to be known of all letters of a delivery.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What it is; the same request has the same title.
    pub title: String,
    /// The letters stood in more folders than one.
    pub several_folders: bool,
    /// Say what would be done.
    pub dry_run: bool,
}

/// Deliveries at work, one for each user.
pub struct Deliveries<'a> {
    args: &'a DeliveryArgs,
    request: Request,
    journals: PathBuf,
    posts: BTreeMap<String, Post>,
}

impl<'a> Deliveries<'a> {
    /// Nothing is opened before the first letter.
    pub fn new(args: &'a DeliveryArgs, request: Request, context: &Context<'_>) -> Deliveries<'a> {
        Deliveries { args, request, journals: journals(context), posts: BTreeMap::new() }
    }

    /// Who gets the letters of a user.
    fn receiver(&self, user: &str) -> String {
        let mapped = self.args.map_user.iter().find(|(old, _)| old == user);
        mapped.map_or_else(|| user.to_owned(), |(_, new)| new.clone())
    }

    fn open(&self, user: &str) -> Result<Post, Failure> {
        let mailbox = self.args.mailbox.as_deref().expect("clap asks for --mailbox");
        if !has_variables(mailbox)
            && let Some(other) = self.posts.keys().next()
        {
            let what = format!("messages of two users, {other} and {user}, for one mailbox");
            return Err(Failure::new(Kind::User, what)
                .hint("--mailbox /var/vmail/%d/%n/Maildir names one for each user")
                .hint(format!("--map-user {user}={other} gives both to the same")));
        }
        let day = || in_zone(clock::now(), "%Y-%m-%d", &TimeZone::system());
        let options = Options {
            mailbox: expand(mailbox, user)?,
            control: self.args.control.as_deref().map(|control| expand(control, user)).transpose()?,
            layout: self.args.layout.map(|layout| match layout {
                Layout::Maildir => deliver::Layout::Maildir,
                Layout::Fs => deliver::Layout::Fs,
            }),
            into: match self.args.into {
                Some(Into::Original) => deliver::Into::Original,
                Some(Into::Restored) | None => {
                    deliver::Into::Restored { day: day(), several_folders: self.request.several_folders }
                }
            },
            title: self.request.title.clone(),
            user: user.to_owned(),
            journals: self.journals.clone(),
            dry_run: self.request.dry_run,
        };
        Ok(Post::open(options)?)
    }

    /// Brings one letter to whom it belongs; `fill` writes its bytes.
    pub fn deliver<E>(
        &mut self,
        letter: &Letter,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<Outcome, Undelivered<E>>
    where
        E: From<Failure>,
    {
        let user = self.receiver(&letter.user);
        if !self.posts.contains_key(&user) {
            let post = self.open(&user).map_err(|failure| Undelivered::Source(failure.into()))?;
            self.posts.insert(user.clone(), post);
        }
        let post = self.posts.get_mut(&user).expect("it was just opened");
        post.deliver(letter, fill)
    }

    /// All letters have come.
    pub fn finish(self) -> Result<Vec<(String, Report)>, Failure> {
        self.posts.into_iter().map(|(user, post)| Ok((user, post.finish()?))).collect()
    }

    /// No more letters come, though there are some: what came is kept, and the same request goes on from there.
    pub fn pause(self) -> Result<Vec<(String, Report)>, Failure> {
        self.posts.into_iter().map(|(user, post)| Ok((user, post.pause()?))).collect()
    }
}

fn has_variables(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'%')
}

/// The folder of a user.
fn expand(path: &Path, user: &str) -> Result<PathBuf, Failure> {
    if !has_variables(path) {
        return Ok(path.to_owned());
    }
    let shown = path.display().to_string();
    let template = Template::parse(&shown).map_err(|error| Failure::because(Kind::User, "", &error))?;
    let root = template.root_of(user).ok_or_else(|| {
        Failure::new(
            Kind::User,
            format!("{shown} does not say where the mail of {} lies", bytes::display(user.as_bytes())),
        )
    })?;
    Ok(PathBuf::from(OsString::from_vec(root)))
}

impl From<DeliverError> for Failure {
    fn from(error: DeliverError) -> Failure {
        let full = error.is_full();
        match error {
            DeliverError::Busy { .. } => Failure::because(Kind::Locked, "", &error).hint("wait for that run"),
            DeliverError::NoRun { .. } => {
                Failure::because(Kind::User, "", &error).hint("'mailark restore --runs' lists them")
            }
            DeliverError::NoMaildir { .. } => Failure::because(Kind::User, "", &error)
                .hint("--mailbox names the folder in which the inbox's cur, new and tmp lie"),
            DeliverError::Overtaken { .. } => {
                Failure::because(Kind::Incomplete, "", &error).hint("run the same command again")
            }
            DeliverError::Size { .. } => Failure::because(Kind::Damaged, "", &error),
            DeliverError::Io { .. } if full => Failure::because(Kind::Storage, "", &error)
                .hint("make room, and run the same command again: it goes on from here"),
            DeliverError::Io { .. } => Failure::because(Kind::Storage, "", &error),
        }
    }
}

/// Tells what deliveries did, or would do, and how that ends.
pub fn tell(reports: &[(String, Report)], dry_run: bool, context: &Context<'_>) -> Result<Exit, Failure> {
    let out = context.output;
    if out.manner().json {
        let all: Vec<Value> = reports.iter().map(|(user, report)| as_json(user, report, dry_run)).collect();
        out.json(&json!({ "deliveries": all }))?;
    } else {
        for (user, report) in reports {
            tell_one(user, report, dry_run, context)?;
        }
    }
    let problems: u64 = reports.iter().map(|(_, report)| report.problem_count).sum();
    if problems > 0 {
        let lines = reports.iter().flat_map(|(_, report)| &report.problems).take(LINES_SHOWN);
        for line in lines.filter(|_| !out.manner().json) {
            complain(&format!("mailark: {}\n", bytes::display(line.as_bytes())));
        }
        complain(&format!("mailark: {} problems: not all messages were brought\n", count(problems)));
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Ok)
}

fn tell_one(user: &str, report: &Report, dry_run: bool, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    let say = |text: &str| if dry_run { out.line(text) } else { out.summary(text) };
    let (user, shown) = (bytes::display(user.as_bytes()), |text: &str| bytes::display(text.as_bytes()));
    let verb = if dry_run { "would bring" } else { "brought" };
    for (folder, number) in &report.brought {
        say(&format!("{verb} {} messages of {user} into {}", count(*number), shown(folder)))?;
    }
    if report.brought.is_empty() {
        say(&format!("nothing to bring to {user}"))?;
    }
    if report.resumed {
        say(&format!("an interrupted run was taken up; it had brought {}", count(report.brought_before)))?;
    }
    for there in report.still_there.iter().take(LINES_SHOWN) {
        say(&format!("still there, in {}: {}", shown(&there.lies_in), bytes::display(&there.base)))?;
    }
    let more = report.still_there_count.saturating_sub(LINES_SHOWN as u64);
    if more > 0 {
        say(&format!("and {} more that are still there; --json lists them", count(more)))?;
    }
    if report.renamed > 0 {
        say(&format!("{} under a new name: theirs has another content now", count(report.renamed)))?;
    }
    if report.undeleted > 0 {
        say(&format!(
            "{} without their mark as deleted, or the next expunge would take them",
            count(report.undeleted)
        ))?;
    }
    for (keyword, number) in &report.keywords_left {
        complain(&format!(
            "mailark: keyword {keyword} not set on {} messages: the folder does not know it, and only the mail server \
             can add it\n",
            count(*number)
        ));
    }
    if let Some(run) = report.run.as_ref().filter(|_| !dry_run) {
        say(&format!(
            "{} brought; 'mailark restore --undo {run}' takes them away again",
            size(report.bytes)
        ))?;
    }
    Ok(())
}

fn as_json(user: &str, report: &Report, dry_run: bool) -> Value {
    let there = report.still_there.iter().map(|there| {
        let mut line = serde_json::Map::new();
        line.insert("folder".to_owned(), there.folder.clone().into());
        line.insert("lies_in".to_owned(), there.lies_in.clone().into());
        insert_name(&mut line, "base", &there.base);
        Value::Object(line)
    });
    json!({
        "user": user,
        "run": report.run,
        "dry_run": dry_run,
        "resumed": report.resumed,
        "brought": report.brought_count(),
        "bytes": report.bytes,
        "folders": report.brought,
        "brought_before": report.brought_before,
        "still_there_count": report.still_there_count,
        "still_there": there.collect::<Vec<_>>(),
        "renamed": report.renamed,
        "undeleted": report.undeleted,
        "keywords_left": report.keywords_left,
        "problem_count": report.problem_count,
        "problems": report.problems,
    })
}
