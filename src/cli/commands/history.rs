//! `mailark history`: what happened to one message.

use clap::Args;
use serde_json::json;

use crate::base::bytes;
use crate::cli::catalogue;
use crate::cli::commands::Context;
use crate::cli::commands::find::{self, minute, named, state, title};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::rfc3339;
use crate::cli::session::Session;
use crate::index::catalogue::{Found, KnownSnapshot, Stay};

/// Tell what happened to a message: arrived, moved, flagged, gone.
///
/// A snapshot shows what was, not the moment it changed: each line says between which two snapshots it happened.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The message: the id that 'find' shows, or its Message-ID
    #[arg(value_name = "MESSAGE")]
    pub message: String,
    /// In the mailbox of this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}

/// What happened.
enum Event<'a> {
    Came(&'a Stay),
    Moved(&'a Stay, &'a Stay),
    Flagged(&'a Stay, &'a Stay),
    Left(&'a Stay),
}

/// Tells.
pub fn run(args: &HistoryArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    session.sync()?;
    let listed = session.snapshots()?.snapshots;
    let catalogue = catalogue::in_step(&session, &listed, context)?;
    let asker = find::ask(&catalogue)?;
    let (query, message) = find::one(&asker, &args.message, args.user.as_deref())?;
    find::note(context, &session, "history", &query, std::slice::from_ref(&message));
    let before = |stay: &Stay| {
        let known = asker.snapshots(stay.series);
        known.iter().rfind(|known| known.number < stay.first.number).cloned()
    };
    let events = events(&message);
    if context.output.manner().json {
        for event in &events {
            context.output.json(&as_json(event, &before))?;
        }
        return Ok(Exit::Ok);
    }
    let out = context.output;
    out.line(&format!("{}  {}", find::handle(&message), title(&message)))?;
    out.line(&format!("mailbox of {}", bytes::display(message.user.as_bytes())))?;
    if let Some(first) = message.stays.first() {
        out.line(&format!("arrived {}", minute(i128::from(first.arrived) * 1_000_000_000)))?;
    }
    for event in &events {
        out.line(&sentence(event, &before))?;
    }
    if let Some(newest) = message.newest().filter(|newest| newest.gone.is_none()) {
        let folder = bytes::display(newest.folder.as_bytes());
        out.line(&format!("{}  is in {folder}: {}", find::moment(&newest.last), state(newest)))?;
    }
    Ok(Exit::Ok)
}

/// Puts stays that follow each other together: one that ends where another begins was moved or flagged.
fn events(message: &Found) -> Vec<Event<'_>> {
    let stays = &message.stays;
    let mut begun: Vec<Option<usize>> = vec![None; stays.len()];
    let mut ended = vec![false; stays.len()];
    for (number, stay) in stays.iter().enumerate() {
        let follows = |before: &Stay| {
            before.series == stay.series
                && before.gone.as_ref().is_some_and(|gone| gone.number == stay.first.number)
        };
        // The same folder first: a flag is more likely than two moves that cross.
        let candidates = || (0..stays.len()).filter(|&at| !ended[at] && follows(&stays[at]));
        let found = candidates().find(|&at| stays[at].path == stay.path).or_else(|| candidates().next());
        if let Some(at) = found {
            begun[number] = Some(at);
            ended[at] = true;
        }
    }
    let mut events: Vec<(i64, Event<'_>)> = Vec::new();
    for (number, stay) in stays.iter().enumerate() {
        let event = match begun[number].map(|at| &stays[at]) {
            None => Event::Came(stay),
            Some(before) if before.path != stay.path => Event::Moved(before, stay),
            Some(before) => Event::Flagged(before, stay),
        };
        events.push((stay.first.started, event));
        if let (Some(gone), false) = (&stay.gone, ended[number]) {
            events.push((gone.started, Event::Left(stay)));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

type Before<'b> = dyn Fn(&Stay) -> Option<KnownSnapshot> + 'b;

fn sentence(event: &Event<'_>, before: &Before<'_>) -> String {
    let folder = |stay: &Stay| bytes::display(stay.folder.as_bytes());
    let since = |stay: &Stay| match before(stay) {
        Some(snapshot) => format!(" (not in {})", named(&snapshot)),
        None => " (in the first snapshot there is)".to_owned(),
    };
    match event {
        Event::Came(stay) => {
            format!("{}  in {}: {}{}", find::moment(&stay.first), folder(stay), state(stay), since(stay))
        }
        Event::Moved(from, to) => {
            format!(
                "{}  moved from {} to {}: {}",
                find::moment(&to.first),
                folder(from),
                folder(to),
                state(to)
            )
        }
        Event::Flagged(from, to) => {
            format!("{}  {} -> {}, in {}", find::moment(&to.first), state(from), state(to), folder(to))
        }
        Event::Left(stay) => {
            let at = stay.gone.as_ref().map(find::moment).unwrap_or_default();
            format!("{at}  GONE from {} (last in {})", folder(stay), named(&stay.last))
        }
    }
}

fn as_json(event: &Event<'_>, before: &Before<'_>) -> serde_json::Value {
    let moment = |snapshot: &KnownSnapshot| json!({ "snapshot": snapshot.hash.to_string(), "started": rfc3339(snapshot.started.into()) });
    let (what, stay, from, at) = match event {
        Event::Came(stay) => ("came", stay, None, Some(&stay.first)),
        Event::Moved(from, to) => ("moved", to, Some(from), Some(&to.first)),
        Event::Flagged(from, to) => ("flagged", to, Some(from), Some(&to.first)),
        Event::Left(stay) => ("gone", stay, None, stay.gone.as_ref()),
    };
    json!({
        "event": what,
        "folder": stay.folder,
        "state": state(stay),
        "from_folder": from.map(|from| from.folder.as_str()),
        "from_state": from.map(|from| state(from)),
        "seen": at.map(moment),
        "not_before": match event {
            Event::Left(stay) => Some(moment(&stay.last)),
            _ => before(stay).as_ref().map(moment),
        },
    })
}
