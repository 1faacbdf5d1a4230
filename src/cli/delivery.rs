//! Giving letters back to live mailboxes: the options that say where, and the deliveries at work, one for each user.
//!
//! Commands that have letters, wherever they come from, hand them to [`Deliveries`] one by one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

mod tell;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

pub use tell::{tell, tell_flags};

use super::commands::Context;
use super::failure::{Failure, Kind};
use super::output::in_zone;
use crate::base::{bytes, clock};
use crate::mail::letter::Letter;
use crate::mail::templates::{Template, Users};
use crate::mail::user::is_user;
use crate::ops::deliver::{
    self, DeliverError, Doveadm, FlagReport, Flagger, Location, Options, Outcome, Post, Report, Undelivered,
};

/// Where letters are given back to.
#[derive(Debug, Clone, Default, Args)]
pub struct DeliveryArgs {
    /// The live mailbox, a Maildir; %u is the user, %n and %d the parts before and after the @ [config: mail]
    #[arg(long, value_name = "DIR")]
    pub mailbox: Option<PathBuf>,
    /// Where the mailbox keeps dovecot-uidlist, when elsewhere (CONTROL=); takes the same variables [config: control]
    #[arg(long, value_name = "DIR", requires = "mailbox")]
    pub control: Option<PathBuf>,
    /// How the folders of the mailbox lie on disk, when what is there does not tell
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<Layout>,
    /// Into a new folder Restored/DATE, or into the folders that the messages were in
    #[arg(long, value_name = "WHERE")]
    pub into: Option<Into>,
    /// Messages of user OLD go to user NEW; repeat for more
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping)]
    pub map_user: Vec<(String, String)>,
    /// Run doveadm so, for keywords that only the mail server can set [config: doveadm]
    #[arg(long, value_name = "COMMAND", value_parser = command)]
    pub doveadm: Option<Doveadm>,
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

fn command(line: &str) -> Result<Doveadm, String> {
    Doveadm::parse(line).map_err(|error| error.to_string())
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
    /// Nobody named user and mailbox together: the users are those that the letters tell.
    pub users_are_told: bool,
}

/// Opens mailboxes, one for each user.
struct Mailboxes<'a, T> {
    args: &'a DeliveryArgs,
    request: Request,
    journals: PathBuf,
    doveadm: Option<Doveadm>,
    /// Where users' mail lies, when no option says it.
    users: Users,
    open: BTreeMap<String, T>,
}

impl<'a, T> Mailboxes<'a, T> {
    fn new(args: &'a DeliveryArgs, request: Request, context: &Context<'_>) -> Mailboxes<'a, T> {
        let configured = || Doveadm::from_words(context.settings.doveadm.clone()?).ok();
        let doveadm = args.doveadm.clone().or_else(configured);
        let users = context.settings.users.clone();
        Mailboxes { args, request, journals: journals(context), doveadm, users, open: BTreeMap::new() }
    }

    /// The mailbox of whoever gets the letters of a user.
    fn of(
        &mut self,
        user: &str,
        open: impl FnOnce(Options) -> deliver::Result<T>,
    ) -> Result<&mut T, Failure> {
        let mapped = self.args.map_user.iter().find(|(old, _)| old == user);
        if mapped.is_none() && self.request.users_are_told {
            self.refuse_foreign(user)?;
        }
        let user = mapped.map_or_else(|| user.to_owned(), |(_, new)| new.clone());
        if !self.open.contains_key(&user) {
            let opened = open(self.options(&user)?)?;
            self.open.insert(user.clone(), opened);
        }
        Ok(self.open.get_mut(&user).expect("it was just opened"))
    }

    fn options(&self, user: &str) -> Result<Options, Failure> {
        let (mailbox, control) = match self.args.mailbox.as_deref() {
            Some(mailbox) => {
                self.refuse_second(mailbox, user)?;
                let control =
                    self.args.control.as_deref().map(|control| expand(control, user)).transpose()?;
                (expand(mailbox, user)?, control)
            }
            None => self.known(user)?,
        };
        let day = || in_zone(clock::now(), "%Y-%m-%d", &TimeZone::system());
        Ok(Options {
            location: Location {
                mailbox,
                control,
                layout: self.args.layout.map(|layout| match layout {
                    Layout::Maildir => deliver::Layout::Maildir,
                    Layout::Fs => deliver::Layout::Fs,
                }),
            },
            into: match self.args.into {
                Some(Into::Original) => deliver::Into::Original,
                Some(Into::Restored) | None => {
                    deliver::Into::Restored { day: day(), several_folders: self.request.several_folders }
                }
            },
            title: self.request.title.clone(),
            user: user.to_owned(),
            journals: self.journals.clone(),
            doveadm: self.doveadm.clone(),
            dry_run: self.request.dry_run,
        })
    }
}

impl<T> Mailboxes<'_, T> {
    /// Mail of two users goes into one mailbox only when somebody says so.
    fn refuse_second(&self, mailbox: &Path, user: &str) -> Result<(), Failure> {
        let Some(other) = self.open.keys().next().filter(|_| !has_variables(mailbox)) else { return Ok(()) };
        let what = format!("messages of two users, {other} and {user}, for one mailbox");
        Err(Failure::new(Kind::User, what)
            .hint("--mailbox /var/vmail/%d/%n/Maildir names one for each user")
            .hint(format!("--map-user {user}={other} gives both to the same")))
    }

    /// A mailbox that is plainly one user's takes letters of another only when somebody says so.
    fn refuse_foreign(&self, user: &str) -> Result<(), Failure> {
        let Some(mailbox) = self.args.mailbox.as_deref().filter(|mailbox| !has_variables(mailbox)) else {
            return Ok(());
        };
        let path = std::path::absolute(mailbox).unwrap_or_else(|_| mailbox.to_owned());
        let owner = self.users.owner(path.as_os_str().as_encoded_bytes());
        let Some(owner) = owner.filter(|owner| !is_user(owner, user) && !is_user(user, owner)) else {
            return Ok(());
        };
        let shown = |name: &str| bytes::display(name.as_bytes());
        let what = format!(
            "messages of {} for {}, the mailbox of {}",
            shown(user),
            mailbox.display(),
            shown(&owner)
        );
        Err(Failure::new(Kind::User, what)
            .hint(format!("--map-user {user}={owner} gives them to {owner} all the same")))
    }

    /// A user's mailbox and control folder as `mailark.toml` says.
    fn known(&self, user: &str) -> Result<(PathBuf, Option<PathBuf>), Failure> {
        let there = |roots: Vec<Vec<u8>>| {
            roots.into_iter().map(|root| PathBuf::from(OsString::from_vec(root))).find(|root| root.is_dir())
        };
        let shown = bytes::display(user.as_bytes());
        let mailbox = there(self.users.mail_roots(user)).ok_or_else(|| {
            Failure::new(Kind::User, format!("nothing says where the mail of {shown} lies"))
                .hint("--mailbox DIR names it; %u, %n and %d in it stand for the user and the parts of the name")
                .hint("or 'mail' in mailark.toml, for example [\"/var/vmail/%d/%n/Maildir\"]")
        })?;
        Ok((mailbox, there(self.users.control_roots(user))))
    }
}

/// Deliveries at work, one for each user; nothing is opened before the first letter.
pub struct Deliveries<'a>(Mailboxes<'a, Post>);

impl<'a> Deliveries<'a> {
    /// Begins.
    pub fn new(args: &'a DeliveryArgs, request: Request, context: &Context<'_>) -> Deliveries<'a> {
        Deliveries(Mailboxes::new(args, request, context))
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
        let post = self.0.of(&letter.user, Post::open);
        post.map_err(|failure| Undelivered::Source(failure.into()))?.deliver(letter, fill)
    }

    /// All letters have come.
    pub fn finish(self) -> Result<Vec<(String, Report)>, Failure> {
        self.0.open.into_iter().map(|(user, post)| Ok((user, post.finish()?))).collect()
    }

    /// No more letters come, though there are some: what came is kept, and the same request goes on from there.
    pub fn pause(self) -> Result<Vec<(String, Report)>, Failure> {
        self.0.open.into_iter().map(|(user, post)| Ok((user, post.pause()?))).collect()
    }
}

/// Flags given back, one mailbox for each user.
pub struct Flaggings<'a>(Mailboxes<'a, Flagger>);

impl<'a> Flaggings<'a> {
    /// Begins.
    pub fn new(args: &'a DeliveryArgs, request: Request, context: &Context<'_>) -> Flaggings<'a> {
        Flaggings(Mailboxes::new(args, request, context))
    }

    /// Gives the message of a letter its flags.
    pub fn mark(&mut self, letter: &Letter) -> Result<(), Failure> {
        self.0.of(&letter.user, Flagger::open)?.mark(letter)?;
        Ok(())
    }

    /// All letters have come, or no more do.
    pub fn finish(self) -> Result<Vec<(String, FlagReport)>, Failure> {
        self.0.open.into_iter().map(|(user, flagger)| Ok((user, flagger.finish()?))).collect()
    }
}

fn has_variables(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'%')
}

/// The folder of a user.
fn expand(path: &Path, user: &str) -> Result<PathBuf, Failure> {
    if !has_variables(path) {
        // Journals name it.
        return std::path::absolute(path)
            .map_err(|error| Failure::because(Kind::User, &path.display().to_string(), &error));
    }
    let shown = path.display().to_string();
    let template = Template::parse(&shown).map_err(|error| Failure::because(Kind::Usage, "", &error))?;
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
            DeliverError::ForeignLink { .. } => Failure::because(Kind::User, "", &error)
                .hint("--mailbox names the real place, if that is where the mail belongs"),
            DeliverError::NoMaildir { .. } => Failure::because(Kind::User, "", &error)
                .hint("--mailbox names the folder in which the inbox's cur, new and tmp lie"),
            DeliverError::NotNow { .. } => {
                Failure::because(Kind::User, "", &error).hint("'mailark restore --runs' lists what was done")
            }
            DeliverError::Size { .. } => Failure::because(Kind::Damaged, "", &error),
            DeliverError::Io { .. } if full => Failure::because(Kind::Storage, "", &error)
                .hint("make room, and run the same command again: it goes on from here"),
            DeliverError::Io { .. } => Failure::because(Kind::Storage, "", &error),
        }
    }
}
