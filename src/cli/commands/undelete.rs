//! `mailark undelete`: what was deleted comes back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;

use crate::base::bytes;
use crate::cli::commands::{Context, find};
use crate::cli::delivery::{Deliveries, DeliveryArgs, Into, Layout, Request, tell};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{complain, count};
use crate::cli::query::QueryArgs;
use crate::cli::retrieve::Wanted;
use crate::cli::session::Session;
use crate::cli::terminal::Terminal;
use crate::cli::{catalogue, retrieve};
use crate::index::catalogue::{Found, State};
use crate::mail::templates::Users;
use crate::ops::deliver::Undelivered;
use crate::ops::pick::Picked;
use crate::repo::extract::ExtractError;

/// Messages that are shown before somebody is asked.
const SHOWN: usize = 20;
/// Messages that come back in one go.
const MESSAGES_MAX: usize = 100_000;

/// Bring deleted messages of a user back into the live mailbox.
///
/// Shows what it found and asks. The messages come into a new folder, Restored/DATE, as they were: read, flagged, with
/// their times. What the user still has anywhere is not brought twice, and 'restore --undo' takes all of it away again.
#[derive(Debug, Args)]
pub struct UndeleteArgs {
    /// Which messages.
    #[command(flatten)]
    pub query: QueryArgs,
    /// Only what went then: 7d, 2026-03, 2026-03-01..2026-03-15
    #[arg(long, visible_alias = "gone-since", value_name = "WHEN")]
    pub deleted_since: Option<String>,
    /// Into a new folder Restored/DATE, or into the folders that the messages were in
    #[arg(long, value_name = "WHERE", default_value = "restored")]
    pub into: Into,
    /// The live mailbox, when it is not where the backup found it
    #[arg(long, value_name = "DIR")]
    pub mailbox: Option<PathBuf>,
    /// Where the mailbox keeps dovecot-uidlist, when elsewhere (CONTROL=)
    #[arg(long, value_name = "DIR")]
    pub control: Option<PathBuf>,
    /// How the folders of the mailbox lie on disk, when what is there does not tell
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<Layout>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would come back; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Brings them back.
pub fn run(args: &UndeleteArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let Some(user) = &args.query.user else {
        return Err(Failure::new(Kind::Usage, "--user says whose mail"));
    };
    let manner = context.output.manner();
    let is_person = manner.stdout_terminal && manner.stderr_terminal;
    if !args.yes && !args.dry_run && !is_person {
        return Err(Failure::new(Kind::User, "there is nobody to ask")
            .hint("'--dry-run' shows what would come back, '--yes' brings it back"));
    }
    let mut query = args.query.to_query()?;
    query.state = State::Gone;
    query.gone = args.query.interval(args.deleted_since.as_deref())?;
    let session = Session::open(context)?;
    session.repository.need_full("restoring mail")?;
    session.sync()?;
    let listed = session.snapshots()?.snapshots;
    let catalogue = catalogue::in_step(&session, &listed, context)?;
    let asker = find::ask(&catalogue)?;
    for sentence in args.query.times(&query)? {
        context.output.remark(&sentence);
    }
    let (found, more) = asker.find(&query, MESSAGES_MAX).map_err(find::broken)?;
    find::note(context, &session, "undelete", &query, &found);
    if more {
        let what = format!("more than {} messages fit: say more about them", count(MESSAGES_MAX as u64));
        return Err(Failure::new(Kind::User, what));
    }
    let users: BTreeSet<&str> = found.iter().map(|message| message.user.as_str()).collect();
    if users.len() > 1 {
        let failure = Failure::new(Kind::User, format!("'{user}' is several users: say which"));
        return Err(users
            .iter()
            .take(SHOWN)
            .fold(failure, |failure, user| failure.hint(bytes::display(user.as_bytes()))));
    }
    if found.is_empty() {
        return Err(Failure::new(Kind::User, "nothing that was deleted fits").hint(format!(
            "'mailark find --user {}' shows what is known of",
            bytes::display(user.as_bytes())
        )));
    }
    let delivery = delivery(args, &found, &context.settings.users);
    if !args.dry_run && !args.yes && !agreed(args, &found, context)? {
        return Ok(Exit::Ok);
    }
    bring(args, &delivery, &session, &listed, &found, context)
}

/// Where to: the mailbox that was named, or the one that the backup saw; else `mailark.toml` has to say it.
fn delivery(args: &UndeleteArgs, found: &[Found], users: &Users) -> DeliveryArgs {
    let seen = || {
        let stay = found.iter().find_map(Found::newest)?;
        let root = users.mailbox(&stay.path, &stay.top).map(|mailbox| mailbox.root)?;
        Some(PathBuf::from(OsStr::from_bytes(&stay.path[..root]))).filter(|root| root.join("cur").is_dir())
    };
    DeliveryArgs {
        mailbox: args.mailbox.clone().or_else(seen),
        control: args.control.clone(),
        layout: args.layout,
        into: Some(args.into),
        ..DeliveryArgs::default()
    }
}

fn agreed(args: &UndeleteArgs, found: &[Found], context: &Context<'_>) -> Result<bool, Failure> {
    for message in found.iter().take(SHOWN) {
        find::tell(message, context)?;
    }
    if found.len() > SHOWN {
        context.output.line(&format!("... and {} more", count((found.len() - SHOWN) as u64)))?;
    }
    context.output.flush()?;
    let place = match args.into {
        Into::Restored => "a new folder Restored/...",
        Into::Original => "the folders they were in",
    };
    let user = found.first().map(|message| bytes::display(message.user.as_bytes())).unwrap_or_default();
    let question =
        format!("\nBring {} messages back to {user}, into {place}? [y/N] ", count(found.len() as u64));
    let mut terminal = Terminal::open().map_err(|error| {
        Failure::because(Kind::User, "ask whether to bring them back", &error)
            .hint("'--yes' does it without asking")
    })?;
    let answer = terminal.ask(&question, context.interrupt)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn bring(
    args: &UndeleteArgs,
    delivery: &DeliveryArgs,
    session: &Session,
    listed: &[crate::repo::snapshots::SnapshotInfo],
    found: &[Found],
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let folders: BTreeSet<&str> =
        found.iter().filter_map(Found::newest).map(|stay| stay.folder.as_str()).collect();
    let title = format!("undelete {:?} {:?} {:?}", args.query, args.deleted_since, args.into);
    let request =
        Request { title, several_folders: folders.len() > 1, dry_run: args.dry_run, users_are_told: false };
    let mut deliveries = Deliveries::new(delivery, request, context);
    let mut lost = 0;
    let wanted = found.iter().filter_map(Wanted::newest).collect();
    let brought = retrieve::each(session, listed, wanted, context, &mut |one, picked| {
        let delivered = picked.and_then(|picked| deliver(&mut deliveries, &picked));
        match delivered {
            Err(failure) if matches!(failure.kind, Kind::Damaged) => {
                lost += 1;
                complain(&format!("mailark: {}: {}\n", find::handle(one.message), failure.message));
                Ok(())
            }
            delivered => delivered,
        }
    });
    let reports = match &brought {
        Ok(()) => deliveries.finish()?,
        Err(_) => deliveries.pause()?,
    };
    let exit = tell(&reports, args.dry_run, context)?;
    brought?;
    if lost > 0 {
        complain(&format!("mailark: {} messages cannot be read\n", count(lost)));
        return Ok(Exit::Incomplete);
    }
    Ok(exit)
}

fn deliver(deliveries: &mut Deliveries<'_>, picked: &Picked<'_>) -> Result<(), Failure> {
    let fill = |sink: &mut dyn std::io::Write| {
        let wrote = |error| ExtractError::Write(Failure::because(Kind::Storage, "", &error));
        Ok::<_, Failure>(picked.body.read(|bytes| sink.write_all(bytes).map_err(wrote))?)
    };
    match deliveries.deliver(&picked.letter, fill) {
        Ok(_) => Ok(()),
        Err(Undelivered::Source(failure)) => Err(failure),
        Err(Undelivered::Mailbox(error)) => Err(error.into()),
    }
}
