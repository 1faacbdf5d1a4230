//! `mailark find`: which messages fit, where each is, and when it went.

mod write;

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{count, in_zone, insert_name, local_time, rfc3339, size};
use crate::cli::query::{QueryArgs, flag_names};
use crate::cli::selection::{Selector, SnapshotFilter, selector};
use crate::cli::session::Session;
use crate::cli::{audit, catalogue};
use crate::index::catalogue::Catalogue;
use crate::index::catalogue::{Asker, Found, KnownSnapshot, Query, SeriesNumber, State, Stay};
use crate::mail::folder_name;
use crate::mail::user::is_user;
use crate::repo::snapshots::{self, SnapshotInfo};

pub use write::WriteArgs;

/// Find messages in all snapshots.
///
/// Everything that is asked for must be true of a message. Those that arrived last come first, each with where it is now
/// or when it went, and with an id that 'show', 'history' and 'undelete' take. --restore-to writes them into a folder.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// Which messages.
    #[command(flatten)]
    pub query: QueryArgs,
    /// Only what is gone from every folder of its user
    #[arg(long, conflicts_with = "there")]
    pub gone: bool,
    /// Only what went then
    #[arg(long, value_name = "WHEN", conflicts_with = "there")]
    pub gone_since: Option<String>,
    /// Only what is still there
    #[arg(long)]
    pub there: bool,
    /// As of this snapshot: only what it holds
    #[arg(long, value_name = "SNAPSHOT", value_parser = selector())]
    pub snapshot: Option<Selector>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// At most so many [default: 50 are shown, all are written]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Where to write them.
    #[command(flatten)]
    pub write: WriteArgs,
}

/// Messages that are shown unless more are asked for.
const SHOWN: usize = 50;
/// Most messages that are written in one go.
const WRITTEN_MAX: usize = 100_000;

/// Attachments that are named, and bytes of a name.
const NAMES_SHOWN: usize = 5;
const NAME_SHOWN: usize = 80;

/// Finds.
pub fn run(args: &FindArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let mut query = args.query.to_query()?;
    query.state = match (args.gone, args.there) {
        (true, _) => State::Gone,
        (_, true) => State::There,
        _ => State::Any,
    };
    query.gone = args.query.interval(args.gone_since.as_deref())?;
    let form = args.write.form()?;
    let session = Session::open(context)?;
    if form.is_some() {
        session.repository.need_full("restoring mail")?;
    }
    session.sync()?;
    let listed = session.snapshots()?.snapshots;
    let catalogue = catalogue::in_step(&session, &listed, context)?;
    let asker = ask(&catalogue)?;
    within(&mut query, args, &listed, &asker)?;
    for sentence in args.query.times(&query)? {
        context.output.remark(&sentence);
    }
    if let Some(form) = form {
        let (found, more) = asker.find(&query, args.limit.unwrap_or(WRITTEN_MAX)).map_err(broken)?;
        if more && args.limit.is_none() {
            let what = format!("more than {} messages fit: say more about them", count(WRITTEN_MAX as u64));
            return Err(Failure::new(Kind::User, what));
        }
        note(context, &session, "restore", &query, &found);
        if found.is_empty() {
            return Err(Failure::new(Kind::User, nothing(&query, &asker)));
        }
        let found = write::Answer { query: &query, asker: &asker, found: &found };
        return write::run(args, form, &found, (&session, &listed), context);
    }
    let (found, more) = asker.find(&query, args.limit.unwrap_or(SHOWN)).map_err(broken)?;
    note(context, &session, "find", &query, &found);
    if context.output.manner().json {
        found.iter().try_for_each(|message| context.output.json(&as_json(message, &asker)))?;
        return Ok(Exit::Ok);
    }
    for message in &found {
        tell(message, context)?;
    }
    match (found.len(), more) {
        (0, _) => context.output.remark(&nothing(&query, &asker)),
        (shown, true) => {
            context
                .output
                .remark(&format!("these are the first {}; --limit shows more", count(shown as u64)));
        }
        (shown, false) => context.output.remark(&format!("{} messages", count(shown as u64))),
    }
    Ok(Exit::Ok)
}

/// Begins to ask a catalogue.
pub fn ask(catalogue: &Catalogue) -> Result<Asker<'_>, Failure> {
    catalogue.asker().map_err(broken)
}

/// The catalogue's file failed.
pub fn broken(error: crate::index::IndexError) -> Failure {
    crate::ops::catalogue::CatalogueError::from(error).into()
}

/// Notes who looked for what, and whose mail was shown.
pub fn note(context: &Context<'_>, session: &Session, command: &str, query: &Query, found: &[Found]) {
    let mut users: Vec<&str> = found.iter().map(|message| message.user.as_str()).collect();
    users.sort_unstable();
    users.dedup();
    let asked = json!({ "words": audit::words(), "user": query.user });
    audit::note(context, session.repository.id(), command, &asked, &users);
}

/// Narrows the query to the snapshots that were asked for.
fn within(
    query: &mut Query,
    args: &FindArgs,
    listed: &[SnapshotInfo],
    asker: &Asker<'_>,
) -> Result<(), Failure> {
    let filter = args.filter.to_filter();
    let chosen: Vec<&SnapshotInfo> = match &args.snapshot {
        Some(snapshot) => vec![snapshots::resolve(listed, snapshot.text(), &filter)?],
        None if args.filter.host.is_none() && args.filter.job.is_none() && args.filter.tag.is_empty() => {
            return Ok(());
        }
        None => listed.iter().filter(|info| filter.fits(info)).collect(),
    };
    query.within = numbers(&chosen, asker);
    if query.within.is_empty() {
        return Err(Failure::new(Kind::User, "no snapshot of that host, job or tag"));
    }
    Ok(())
}

/// Snapshots as the catalogue numbers them.
fn numbers(chosen: &[&SnapshotInfo], asker: &Asker<'_>) -> Vec<(SeriesNumber, i64)> {
    let known = asker.series.keys().flat_map(|&series| {
        asker.snapshots(series).iter().map(move |known| (known.hash, (series, known.number)))
    });
    let known: std::collections::HashMap<_, _> = known.collect();
    chosen.iter().filter_map(|info| known.get(&info.hash).copied()).collect()
}

fn nothing(query: &Query, asker: &Asker<'_>) -> String {
    let Some(wanted) = &query.user else { return "nothing found".to_owned() };
    let users = asker.users();
    let is_known = users.iter().any(|user| is_user(wanted, user));
    if is_known || users.is_empty() {
        return "nothing found".to_owned();
    }
    let mut shown: Vec<String> = users.iter().take(10).map(|user| bytes::display(user.as_bytes())).collect();
    if users.len() > shown.len() {
        shown.push(format!("and {} more", count((users.len() - shown.len()) as u64)));
    }
    format!(
        "nothing found: there is no mail of '{wanted}', but of {}; 'mail' in mailark.toml says where users' mail lies",
        shown.join(", ")
    )
}

fn shown(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { bytes::display(text.as_bytes()) }
}

/// The id by which people name a message.
pub fn handle(message: &Found) -> String {
    bytes::hex(&message.content[..5])
}

/// A snapshot for people.
pub fn named(snapshot: &KnownSnapshot) -> String {
    format!("{} of {}", snapshot.hash.short(), minute(snapshot.started.into()))
}

/// A moment to the minute.
pub fn minute(at: i128) -> String {
    in_zone(at, "%Y-%m-%d %H:%M", &jiff::tz::TimeZone::system())
}

/// What its flags and keywords say, for people.
pub fn state(stay: &Stay) -> String {
    let mut words: Vec<String> = flag_names(&stay.flags()).into_iter().map(str::to_owned).collect();
    if stay.is_new() {
        words.push("new".to_owned());
    }
    words.extend(
        stay.keywords
            .iter()
            .map(|keyword| bytes::display(folder_name::decode(keyword.as_bytes()).as_bytes())),
    );
    if words.is_empty() { "unread".to_owned() } else { words.join(", ") }
}

/// Sender and subject, for people.
pub fn title(message: &Found) -> String {
    match &message.heading {
        Some(heading) => {
            format!("{}  {}", shown(&heading.from, "(no sender)"), shown(&heading.subject, "(no subject)"))
        }
        None => "(its headers cannot be read)".to_owned(),
    }
}

/// Shows one message that was found.
pub fn tell(message: &Found, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    let Some(newest) = message.newest() else { return Ok(()) };
    out.line(&format!("{}  {}", minute(i128::from(newest.arrived) * 1_000_000_000), title(message)))?;
    out.line(&format!(
        "    {}  {}, {}, {}, {}",
        handle(message),
        bytes::display(message.user.as_bytes()),
        bytes::display(newest.folder.as_bytes()),
        size(message.size),
        state(newest)
    ))?;
    let attachments =
        message.heading.as_ref().map(|heading| heading.attachments.as_str()).unwrap_or_default();
    if !attachments.is_empty() {
        let short = |name: &str| name[..name.floor_char_boundary(NAME_SHOWN)].to_owned();
        let shown = attachments.lines().take(NAMES_SHOWN).map(|name| bytes::display(short(name).as_bytes()));
        let more = attachments.lines().count().saturating_sub(NAMES_SHOWN);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        out.line(&format!("    attached: {}{more}", shown.collect::<Vec<_>>().join(", ")))?;
    }
    let first = message.stays.iter().map(|stay| &stay.first).min_by_key(|snapshot| snapshot.started);
    let first = first.map(|first| format!("; first in {}", named(first))).unwrap_or_default();
    out.line(&match &newest.gone {
        None => format!("    there, as of {}{first}", named(&newest.last)),
        Some(gone) => format!("    GONE: last in {}, not in {}{first}", named(&newest.last), named(gone)),
    })?;
    others(message, newest, context)
}

/// The other folders that hold the same message now.
fn others(message: &Found, newest: &Stay, context: &Context<'_>) -> Result<(), Failure> {
    let mut folders: Vec<String> = message
        .stays
        .iter()
        .filter(|stay| stay.gone.is_none() && (&stay.path, &stay.name) != (&newest.path, &newest.name))
        .map(|stay| bytes::display(stay.folder.as_bytes()))
        .collect();
    folders.dedup();
    if folders.is_empty() {
        Ok(())
    } else {
        context.output.line(&format!("    also in {}", folders.join(", ")))
    }
}

fn snapshot_json(snapshot: &KnownSnapshot) -> Value {
    json!({ "snapshot": snapshot.hash.to_string(), "started": rfc3339(snapshot.started.into()) })
}

/// A stay for programs.
pub fn stay_json(stay: &Stay, asker: &Asker<'_>) -> Value {
    let mut value = serde_json::Map::new();
    if let Some(series) = asker.series.get(&stay.series) {
        value.insert("host".to_owned(), series.host_name.clone().into());
        value.insert("job".to_owned(), series.job.clone().into());
    }
    value.insert("folder".to_owned(), stay.folder.clone().into());
    insert_name(&mut value, "path", &stay.path);
    if stay.kind == crate::index::catalogue::Kind::Maildir {
        insert_name(&mut value, "name", &stay.name);
    }
    value.insert("received".to_owned(), rfc3339(i128::from(stay.arrived) * 1_000_000_000).into());
    value.insert("flags".to_owned(), flag_names(&stay.flags()).into());
    value.insert("keywords".to_owned(), stay.keywords.clone().into());
    value.insert("new".to_owned(), stay.is_new().into());
    value.insert("uidvalidity".to_owned(), stay.uid.map(|(validity, _)| validity).into());
    value.insert("uid".to_owned(), stay.uid.map(|(_, uid)| uid).into());
    value.insert("guid".to_owned(), stay.guid.as_ref().map(|guid| String::from_utf8_lossy(guid)).into());
    value.insert("first".to_owned(), snapshot_json(&stay.first));
    value.insert("last".to_owned(), snapshot_json(&stay.last));
    value.insert("gone".to_owned(), stay.gone.as_ref().map(snapshot_json).into());
    value.into()
}

/// A message for programs.
pub fn as_json(message: &Found, asker: &Asker<'_>) -> Value {
    let heading = message.heading.as_ref();
    let text = |field: fn(&crate::mail::heading::Heading) -> &str| heading.map(field);
    json!({
        "id": bytes::hex(&message.content),
        "user": message.user,
        "size": message.size,
        "there": message.is_there(),
        "sent": heading.and_then(|heading| heading.date).map(|date| rfc3339(i128::from(date) * 1_000_000_000)),
        "from": text(|heading| &heading.from),
        "to": text(|heading| &heading.to),
        "cc": text(|heading| &heading.cc),
        "subject": text(|heading| &heading.subject),
        "message_id": text(|heading| &heading.message_id),
        "attachments": heading.map(|heading| heading.attachments.lines().collect::<Vec<_>>()),
        "stays": message.stays.iter().map(|stay| stay_json(stay, asker)).collect::<Vec<_>>(),
    })
}

/// The one message that somebody names by its id, its Message-ID, and perhaps its user.
pub fn one(asker: &Asker<'_>, text: &str, user: Option<&str>) -> Result<(Query, Found), Failure> {
    const CANDIDATES: usize = 20;
    let bare = crate::mail::message_id::bare(text.as_bytes());
    let is_handle = (4..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut query = Query { user: user.map(str::to_owned), ..Query::default() };
    match is_handle {
        true => query.content = Some(text.to_ascii_lowercase()),
        false => query.message_id = Some(String::from_utf8_lossy(bare).into_owned()),
    }
    let (mut found, _) = asker.find(&query, CANDIDATES).map_err(broken)?;
    match found.len() {
        1 => Ok((query, found.remove(0))),
        0 => Err(Failure::new(Kind::User, format!("no message '{}'", bytes::display(text.as_bytes())))
            .hint("'mailark find' shows ids; a Message-ID does as well")),
        _ => {
            let shown = found.iter().map(|message| {
                format!(
                    "{} of {}: {}",
                    handle(message),
                    bytes::display(message.user.as_bytes()),
                    title(message)
                )
            });
            let failure =
                Failure::new(Kind::User, format!("'{text}' is several messages: say --user, or more digits"));
            Err(shown.take(10).fold(failure, |failure, line| failure.hint(line)))
        }
    }
}

/// A moment for people, for other commands on messages.
pub fn moment(snapshot: &KnownSnapshot) -> String {
    local_time(snapshot.started.into())
}
