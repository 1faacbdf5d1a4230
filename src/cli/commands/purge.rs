//! `mailark purge`: content out of all snapshots, for good.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::base::bytes;
use crate::base::id::ObjectHash;
use crate::cli::catalogue;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Side, Table, complain, count, insert_name, local_time, problems, rfc3339, size};
use crate::cli::progress::Meter;
use crate::cli::selection::{Selector, SnapshotFilter, selector};
use crate::cli::session::{self, Session};
use crate::cli::terminal::Terminal;
use crate::mail::message_id;
use crate::ops::purge::{self, Options, Report, Target};
use crate::repo::ledger::Ledger;
use crate::repo::snapshots;
use crate::source::start::logical_path;

/// Take a user, a message or a path out of every snapshot, for good.
///
/// Snapshots are written anew without it; all else stays as it is. The content itself is deleted from the repository
/// by the next prune. A source that still has it does not bring it back: backups leave it out from now on. Copies of
/// the repository elsewhere keep it until they are brought up to date.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Take out all mail of this user: `alice`, or `alice@example.org`; repeat for more
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Take out every copy of the message with this Message-ID; repeat for more
    #[arg(long, value_name = "ID")]
    pub message_id: Vec<String>,
    /// Take out everything at and below this logical path; repeat for more
    #[arg(long, value_name = "PATH")]
    pub path: Vec<PathBuf>,
    /// Only out of this snapshot, and let backups go on saving it; repeat for more [default: all]
    #[arg(long, value_name = "SNAPSHOT", value_parser = selector())]
    pub snapshot: Vec<Selector>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Say what would be taken out; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    /// List earlier purges instead
    #[arg(long, conflicts_with_all = ["user", "message_id", "path", "snapshot", "dry_run", "yes"])]
    pub list: bool,
}

/// Purges, or lists earlier purges.
pub fn run(args: &PurgeArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    if args.list {
        return list(context);
    }
    let targets = targets(args)?;
    let is_person = context.output.manner().stderr_terminal && !context.output.manner().json;
    if !args.yes && !args.dry_run && !is_person {
        return Err(Failure::new(Kind::User, "a purge cannot be undone, and there is nobody to ask")
            .hint("'--dry-run' says what would be taken out, '--yes' takes it out"));
    }
    let session = Session::open(context)?;
    session.repository.need_full("purging")?;
    let options = options(args, targets, &session)?;
    if !args.yes && !args.dry_run {
        let plan = purged(&session, &Options { dry_run: true, ..options.clone() }, context)?;
        tell(&plan, &options, true, context)?;
        if plan.rewritten.is_empty() {
            return Ok(exit(&plan));
        }
        context.output.flush()?;
        confirm(&options.targets, context)?;
    }
    let report = purged(&session, &options, context)?;
    // Also moves on what this client remembers.
    session::complain_of(&Default::default(), &session.look()?.1);
    tell(&report, &options, options.dry_run, context)?;
    if !options.dry_run && !report.rewritten.is_empty() {
        catalogue::follow_purge(&session, context);
    }
    Ok(exit(&report))
}

fn exit(report: &Report) -> Exit {
    if report.problems.is_empty() { Exit::Ok } else { Exit::Incomplete }
}

fn purged(session: &Session, options: &Options, context: &Context<'_>) -> Result<Report, Failure> {
    let meter = Meter::start("purge", context.output.manner());
    let outcome = purge::run(&session.repository, &session.index, options, &meter, context.interrupt);
    meter.finish();
    Ok(outcome?)
}

fn targets(args: &PurgeArgs) -> Result<Vec<Target>, Failure> {
    let wrong = |what: &str| Failure::new(Kind::Usage, what.to_owned());
    let mut targets = Vec::new();
    for user in &args.user {
        if user.is_empty() || user.contains('/') {
            return Err(wrong("--user takes the name of a user, without '/'"));
        }
        targets.push(Target::User(user.clone()));
    }
    for id in &args.message_id {
        let id = message_id::bare(id.as_bytes());
        if id.is_empty() {
            return Err(wrong("--message-id takes what stands in the message's Message-ID field"));
        }
        targets.push(Target::MessageId(id.to_vec()));
    }
    for path in &args.path {
        let path = logical_path(path.as_os_str().as_bytes())
            .map_err(|error| Failure::because(Kind::Usage, "--path", &error))?;
        if path == b"/" {
            return Err(wrong("--path / would empty every snapshot: 'mailark forget' drops snapshots"));
        }
        targets.push(Target::Path(path));
    }
    if targets.is_empty() {
        return Err(wrong("nothing to purge: say --user, --message-id or --path"));
    }
    Ok(targets)
}

fn options(args: &PurgeArgs, targets: Vec<Target>, session: &Session) -> Result<Options, Failure> {
    let filter = args.filter.to_filter();
    let mut chosen: Vec<ObjectHash> = Vec::new();
    if !args.snapshot.is_empty() {
        let listed = snapshots::list(&session.repository)?;
        for selector in &args.snapshot {
            chosen.push(session.resolve(&listed, selector.text(), &filter)?.hash);
        }
    }
    Ok(Options { targets, filter, snapshots: chosen, dry_run: args.dry_run })
}

fn confirm(targets: &[Target], context: &Context<'_>) -> Result<(), Failure> {
    let word = match &targets[0] {
        Target::User(user) => user.clone(),
        Target::MessageId(id) => bytes::display(id),
        Target::Path(path) => bytes::display(path),
    };
    let mut terminal = Terminal::open().map_err(|error| {
        Failure::because(Kind::User, "ask whether to purge", &error).hint("'--yes' does it without asking")
    })?;
    let typed = terminal.ask(
        &format!("This cannot be undone. To go on, type {}: ", bytes::display(word.as_bytes())),
        context.interrupt,
    )?;
    match message_id::bare(typed.as_bytes()) == message_id::bare(word.as_bytes()) {
        true => Ok(()),
        false => Err(Failure::new(Kind::User, "that is not what was asked for: nothing was purged")),
    }
}

fn tell(report: &Report, options: &Options, plan: bool, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report, options, plan));
    }
    for (place, text) in &report.problems {
        let line = format!("mailark: {}: {}\n", bytes::display(place), bytes::display(text.as_bytes()));
        complain(&line);
    }
    if report.opaque > 0 {
        complain(&format!(
            "mailark: {} messages are compressed or encrypted by the mail server: no Message-ID can be looked for in \
             them\n",
            count(report.opaque)
        ));
    }
    let say = |text: &str| if plan { out.line(text) } else { out.summary(text) };
    if report.rewritten.is_empty() {
        let line = format!("nothing of it in {} snapshots", count(report.looked_at));
        if !plan {
            // Whoever erases must know that nothing was erased.
            complain(&format!("mailark: {line}\n"));
            return Ok(());
        }
        return say(&line);
    }
    if plan || out.manner().tells_success() {
        folders(report, options).write(out)?;
        snapshots_table(report).write(out)?;
    }
    let did = if plan { "would be taken out of" } else { "was taken out of" };
    say(&format!(
        "{} {did} {} of {} snapshots",
        options.targets.iter().map(|target| shown(&target.text())).collect::<Vec<_>>().join(", "),
        count(report.rewritten.len() as u64),
        count(report.looked_at)
    ))?;
    if plan {
        return Ok(());
    }
    say("the next 'mailark prune' deletes the content from this repository ('mailark prune --now' at once)")?;
    say(
        "a backup that was at work meanwhile may have saved it again: run the same purge when it is through",
    )?;
    say("mirrors follow after their delay; other copies of the repository still hold it")
}

fn shown(text: &str) -> String {
    bytes::display(text.as_bytes())
}

fn folders(report: &Report, options: &Options) -> Table {
    let mut table = Table::new(&[
        ("FILES", Side::Right),
        ("MESSAGES", Side::Right),
        ("SIZE", Side::Right),
        ("WHAT", Side::Left),
        ("FOLDER", Side::Left),
    ]);
    for ((target, folder), taken) in &report.folders {
        table.row(vec![
            count(taken.files),
            count(taken.messages),
            size(taken.bytes),
            options.targets.get(*target).map(|target| shown(&target.text())).unwrap_or_default(),
            bytes::display(folder),
        ]);
    }
    table
}

fn snapshots_table(report: &Report) -> Table {
    let made: HashMap<_, _> = report.made.iter().copied().collect();
    let mut table = Table::new(&[
        ("SNAPSHOT", Side::Left),
        ("NOW", Side::Left),
        ("TIME", Side::Left),
        ("FILES", Side::Right),
        ("MESSAGES", Side::Right),
        ("SIZE", Side::Right),
    ]);
    for one in &report.rewritten {
        let taken = one.taken();
        table.row(vec![
            one.old.hash.short(),
            made.get(&one.old.hash).map(ObjectHash::short).unwrap_or_default(),
            local_time(one.old.snapshot.started.into()),
            format!("-{}", count(taken.files)),
            format!("-{}", count(taken.messages)),
            format!("-{}", size(taken.bytes)),
        ]);
    }
    table
}

fn as_json(report: &Report, options: &Options, plan: bool) -> Value {
    let made: HashMap<_, _> = report.made.iter().copied().collect();
    let snapshots = report.rewritten.iter().map(|one| {
        let taken = one.taken();
        json!({
            "id": one.old.hash.to_string(),
            "new_id": made.get(&one.old.hash).map(ObjectHash::to_string),
            "host": one.old.snapshot.host_name,
            "job": one.old.snapshot.job,
            "files": taken.files,
            "messages": taken.messages,
            "bytes": taken.bytes,
        })
    });
    let folders = report.folders.iter().map(|((target, folder), taken)| {
        let mut object = Map::new();
        let what = options.targets.get(*target).map(Target::text);
        object.insert("what".to_owned(), what.into());
        insert_name(&mut object, "folder", folder);
        object.insert("files".to_owned(), taken.files.into());
        object.insert("messages".to_owned(), taken.messages.into());
        object.insert("bytes".to_owned(), taken.bytes.into());
        Value::Object(object)
    });
    json!({
        "dry_run": plan,
        "targets": options.targets.iter().map(Target::text).collect::<Vec<_>>(),
        "looked_at": report.looked_at,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "folders": folders.collect::<Vec<_>>(),
        "marks": report.marks,
        "opaque_messages": report.opaque,
        "problems": problems(report.problems.iter().map(|(place, text)| (place.as_slice(), text.as_str()))),
    })
}

fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    session.repository.need_full("listing purges")?;
    let ledger = Ledger::read(&session.repository)?;
    let purges: Vec<_> = ledger.results.iter().filter(|result| result.verb == "purge").collect();
    let nanos = |at: i64| i128::from(at) * 1_000_000_000;
    if context.output.manner().json {
        let as_json = |at, text: &String| json!({ "time": rfc3339(nanos(at)), "what": text });
        let all: Vec<Value> = purges.iter().map(|result| as_json(result.at, &result.text)).collect();
        context.output.json(&all)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[("TIME", Side::Left), ("WHAT", Side::Left)]);
    for result in purges {
        table.row(vec![local_time(nanos(result.at)), shown(&result.text)]);
    }
    table.write(context.output)?;
    Ok(Exit::Ok)
}
