//! Mail of one user, message by message, as Maildir, mbox, single files or an archive.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::RestoreArgs;
use super::give::{self, Live, Stream};
use super::messages::{Form, Request};
use super::outlet::{Outlet, Stdout, Tally};
use super::selected::Selection;
use crate::base::bytes;
use crate::base::interrupt::Interrupt;
use crate::cli::commands::Context;
use crate::cli::delivery;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Output, complain, count, problems, size};
use crate::cli::progress::Meter;
use crate::cli::retrieve::Readers;
use crate::cli::session::Session;
use crate::format::letters::Head;
use crate::format::page::Owner;
use crate::mail::keywords::Keywords;
use crate::ops::pick::{self, FolderKind, MailFolder, PickError, Picker, Query, Sieve, Stand, State, Step};
use crate::ops::restore::letters::{
    self, DirSink, EmlWriter, FolderHead, MaildirWriter, MboxFileWriter, TarSink, Writer,
};
use crate::ops::restore::target::Owners;
use crate::repo::RepoError;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::source::names::Accounts;

/// What a folder is known by in its snapshot.
pub fn head_of<'f>(folder: &'f MailFolder, state: &'f State) -> FolderHead<'f> {
    let list = state.uids.as_ref().map(|uids| uids.list());
    FolderHead {
        name: &folder.name,
        validity: state.validity(),
        next_uid: list.as_ref().map_or(0, |list| list.next_uid()),
        guid: list.and_then(|list| list.header.guid),
        keywords: &state.keywords,
        mode: folder.mode | 0o700,
        owner: &folder.owner,
    }
}

/// Gives mail of one user out.
pub fn run(
    args: &RestoreArgs,
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    if args.give.is_live(args.to.as_ref()) {
        return give(args, request, selection, session, context);
    }
    let was_there = target(args).exists();
    let meter = Meter::start("restore", context.output.manner());
    let head = match request.form {
        Form::Letters => Some(head_of_stream(args, request, selection, session, context)?),
        _ => None,
    };
    let outcome = with_writer(args, request, head, context.output, |writer| {
        let with_subjects = matches!(request.form, Form::Eml | Form::Mbox);
        let outlet = Outlet::new(writer, &meter, with_subjects);
        match request.deleted {
            Some(_) => give_deleted(outlet, request, selection, session, context),
            None => give_snapshot(outlet, request, selection, session, context),
        }
    });
    meter.finish();
    let tally = outcome?;
    tell(&tally, args, request, selection, context)?;
    if tally.messages() == 0 && !was_there && !is_stream(request) {
        // An empty folder that nobody asked for; one that is not empty stays.
        std::fs::remove_dir(target(args)).ok();
    }
    if tally.messages() == 0
        && tally.problem_count == 0
        && !request.query.wants_all() | request.deleted.is_some()
    {
        return Err(Failure::new(Kind::User, format!("no message of '{}' fits", request.query.user))
            .hint("times are half-open: A..B ends before B; --existed-at looks into an older snapshot"));
    }
    Ok(if tally.problem_count == 0 { Exit::Ok } else { Exit::Incomplete })
}

/// Does standard output take the messages?
fn is_stream(request: &Request) -> bool {
    matches!(request.form, Form::Tar | Form::Letters)
}

/// Gives messages back to a live mailbox.
fn give(
    args: &RestoreArgs,
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let head = head_of_stream(args, request, selection, session, context)?;
    let mut delivery = give::delivery_args(args);
    if delivery.mailbox.is_none() && delivery.map_user.is_empty() {
        delivery.mailbox = lives_at(request, selection, session, context)?;
    }
    let ask = delivery::Request {
        title: head.title,
        several_folders: head.several_folders,
        dry_run: args.dry_run,
        users_are_told: false,
    };
    let mut live = Live::new(&delivery, args.give.flags_only, ask, context);
    let meter = Meter::start("restore", context.output.manner());
    let outlet = Outlet::new(Some(&mut live), &meter, false);
    let given = match request.deleted {
        Some(_) => give_deleted(outlet, request, selection, session, context),
        None => give_snapshot(outlet, request, selection, session, context),
    };
    meter.finish();
    let why = live.failure.take();
    let exit = live.end(given.is_ok(), args.dry_run, context)?;
    let tally = match (given, why) {
        (Ok(tally), _) => tally,
        (Err(_), Some(failure)) | (Err(failure), None) => return Err(failure),
    };
    if tally.messages() == 0 && tally.problem_count == 0 {
        return Err(Failure::new(Kind::User, format!("no message of '{}' fits", request.query.user))
            .hint("times are half-open: A..B ends before B; --existed-at looks into an older snapshot"));
    }
    if tally.problem_count > 0 {
        complain(&format!("mailark: {} problems: not all messages were given\n", count(tally.problem_count)));
        return Ok(Exit::Incomplete);
    }
    Ok(exit)
}

/// Where the backup found the user's mail, if a mailbox is there on this machine.
fn lives_at(
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Option<PathBuf>, Failure> {
    let reader = session.reader(&selection.snapshot)?;
    let roots = selection.survey(&reader, &request.query.user, context)?.roots();
    let roots = roots.into_iter().map(|root| PathBuf::from(OsString::from_vec(root)));
    Ok(roots.into_iter().find(|root| root.join("cur").is_dir()))
}

/// What a delivery has to know before the first message comes.
fn head_of_stream(
    args: &RestoreArgs,
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Head, Failure> {
    let reader = session.reader(&selection.snapshot)?;
    let several_folders = match request.deleted {
        Some(_) => request.query.folders.len() != 1,
        None => selection.survey(&reader, &request.query.user, context)?.wanted(&request.query)?.len() > 1,
    };
    let title = give::title(args, &selection.snapshot.hash.short());
    Ok(Head { title, several_folders, without_bytes: args.give.flags_only })
}

fn target(args: &RestoreArgs) -> &Path {
    args.to.as_deref().unwrap_or(Path::new(""))
}

/// Makes the writer that the command line asks for.
fn with_writer(
    args: &RestoreArgs,
    request: &Request,
    head: Option<Head>,
    output: &Output,
    work: impl FnOnce(Option<&mut dyn Writer>) -> Result<Tally, Failure>,
) -> Result<Tally, Failure> {
    if args.dry_run {
        return work(None);
    }
    let layout = args.messages.layout.unwrap_or_default().into();
    if request.form == Form::Tar {
        let user = match &args.messages.map_user {
            Some((_, new)) => new.as_str(),
            None => request.query.user.as_str(),
        };
        return work(Some(&mut MaildirWriter::new(TarSink::new(Stdout(output), user), layout)));
    }
    if let Some(head) = head {
        let broken = |error: io::Error| Failure::from(letters::PutError::Stream(error));
        let mut stream = Stream::new(Stdout(output), &head).map_err(broken)?;
        let tally = work(Some(&mut stream))?;
        stream.close().map_err(broken)?;
        return Ok(tally);
    }
    let target = letters::empty_target(target(args))?;
    let owners = Owners::new(Accounts::of_this_host(), args.numeric_ids);
    let sink = DirSink::new(&target, &owners);
    match request.form {
        Form::Mbox => work(Some(&mut MboxFileWriter::new(sink))),
        Form::Eml => work(Some(&mut EmlWriter::new(sink, request.zone.clone()))),
        _ => work(Some(&mut MaildirWriter::new(sink, layout))),
    }
}

fn give_snapshot(
    mut outlet: Outlet<'_, '_>,
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Tally, Failure> {
    let reader = session.reader(&selection.snapshot)?;
    let survey = selection.survey(&reader, &request.query.user, context)?;
    survey.broken.iter().for_each(|(path, error)| outlet.broken(path, error));
    for folder in survey.wanted(&request.query)? {
        let state = State::read(&reader, folder, context.interrupt)?;
        state.broken.iter().for_each(|(path, error)| outlet.broken(path, error));
        let source = (&reader, context.interrupt, &request.zone);
        let head = head_of(folder, &state);
        let is_storage = matches!(folder.kind, FolderKind::Dbox(_)) && folder.name.starts_with('(');
        if request.query.wants_all() && !is_storage {
            outlet.folder(&head)?;
        }
        // The files of an mdbox hold messages of all folders; each folder is written at a time.
        let names =
            if is_storage { storage_folders(source, folder, &state)? } else { vec![folder.name.clone()] };
        for name in &names {
            let head = FolderHead { name, ..head.clone() };
            pick::letters(source, folder, &state, &request.query, &mut |step| match step {
                Step::Letter(picked) if picked.letter.folder == *name => outlet.letter(&head, &picked),
                Step::Letter(_) => Ok(()),
                Step::Broken(path, error) => {
                    outlet.broken(&path, &error);
                    Ok(())
                }
            })?;
        }
    }
    let subscriptions = survey.subscriptions.as_ref().filter(|_| request.query.wants_all());
    let subscriptions = match subscriptions {
        Some(file) => pick::read_subscriptions(&reader, file, context.interrupt)?,
        None => None,
    };
    outlet.finish(subscriptions.as_deref())
}

/// What reads messages.
type Source<'a> = (&'a BlobReader<'a>, &'a Interrupt, &'a TimeZone);

/// The folders that the messages of an mdbox say they are of.
fn storage_folders<'a>(
    source: Source<'a>,
    folder: &MailFolder,
    state: &State,
) -> Result<Vec<String>, Failure> {
    let mut names = BTreeSet::new();
    pick::letters(source, folder, state, &Query::default(), &mut |step| {
        if let Step::Letter(picked) = step {
            names.insert(picked.letter.folder.clone());
        }
        Ok::<_, RepoError>(())
    })?;
    Ok(names.into_iter().collect())
}

fn give_deleted(
    mut outlet: Outlet<'_, '_>,
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Tally, Failure> {
    let nanos = |second: i64| i128::from(second) * 1_000_000_000;
    let interval = request.deleted.unwrap_or_default();
    let job: Vec<&SnapshotInfo> = selection.job.iter().collect();
    let infos = pick::stands_between(&job, interval.from.map(nanos), interval.to.map(nanos));
    let readers = Readers::new(session, infos.iter().copied())?;
    let stands: Vec<Stand<'_>> = infos.iter().map(|info| Stand { info, reader: readers.of(info) }).collect();
    if let (Some(first), Some(last)) = (infos.first(), infos.last()) {
        let time = |info: &SnapshotInfo| crate::cli::output::local_time(info.snapshot.started.into());
        context.output.remark(&format!(
            "compared {} snapshots from {} to {}",
            infos.len(),
            time(first),
            time(last)
        ));
    }
    let users = &context.settings.users;
    let around = (context.interrupt, &request.zone);
    let gone = pick::deleted(&stands, (users, &selection.below), &request.query, around)?;
    gone.broken.iter().for_each(|(path, error)| outlet.broken(path, error));
    let sieve = Sieve::new(&request.query);
    let mut pickers: Vec<Picker<'_>> = stands
        .iter()
        .map(|stand| {
            Picker::new((stand.reader, context.interrupt, &request.zone), &stand.info.snapshot, users)
        })
        .collect();
    let (none, nobody) = (Keywords::default(), Owner::default());
    for of_file in
        gone.messages.chunk_by(|a, b| (&a.folder, a.stand, &a.path) == (&b.folder, b.stand, &b.path))
    {
        let numbers: BTreeSet<u64> = of_file.iter().map(|deleted| deleted.number).collect();
        let first = &of_file[0];
        let picked = match pickers[first.stand].messages(&first.path, &numbers) {
            Ok(picked) => picked,
            Err(PickError::Repository(error)) if !error.ends_the_run() => {
                outlet.broken(&first.path, &error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for picked in picked {
            if !sieve.wants(&picked)? {
                continue;
            }
            let head = FolderHead {
                name: &first.folder,
                validity: picked.letter.uid.map(|(validity, _)| validity),
                next_uid: 0,
                guid: None,
                keywords: &none,
                mode: 0o700,
                owner: if picked.owner.user.is_empty() && picked.owner.uid == 0 {
                    &nobody
                } else {
                    &picked.owner
                },
            };
            outlet.letter(&head, &picked)?;
        }
    }
    outlet.finish(None)
}

fn tell(
    tally: &Tally,
    args: &RestoreArgs,
    request: &Request,
    selection: &Selection,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json && !is_stream(request) {
        return out.json(&as_json(tally, args, request, selection));
    }
    // An archive has standard output for itself.
    let is_stream = is_stream(request) && !args.dry_run;
    let say = |text: &str| match (is_stream, args.dry_run) {
        (true, _) => {
            out.remark(text);
            Ok(())
        }
        (false, true) => out.line(text),
        (false, false) => out.summary(text),
    };
    for (name, (messages, bytes)) in &tally.folders {
        say(&format!("{:>9}  {:>10}  {}", count(*messages), size(*bytes), bytes::display(name.as_bytes())))?;
    }
    let verb = if args.dry_run { "would write" } else { "wrote" };
    let place = if is_stream { "standard output".to_owned() } else { target(args).display().to_string() };
    say(&format!("{verb} {} messages, {} to {place}", count(tally.messages()), size(tally.bytes())))?;
    tally.gaps().iter().try_for_each(|gap| say(gap))?;
    if tally.problem_count > 0 {
        complain(&format!("mailark: {} problems: the restore is incomplete\n", count(tally.problem_count)));
    }
    Ok(())
}

fn as_json(tally: &Tally, args: &RestoreArgs, request: &Request, selection: &Selection) -> Value {
    let folders: Vec<Value> = tally
        .folders
        .iter()
        .map(|(name, (messages, bytes))| json!({"folder": name, "messages": messages, "bytes": bytes}))
        .collect();
    let times: serde_json::Map<String, Value> =
        request.understood.iter().map(|(name, text)| (name.replace(' ', "_"), text.clone().into())).collect();
    json!({
        "snapshot": selection.snapshot.hash.to_string(),
        "user": request.query.user,
        "target": target(args).display().to_string(),
        "dry_run": args.dry_run,
        "times": times,
        "messages": tally.messages(),
        "bytes": tally.bytes(),
        "folders": folders,
        "opaque": tally.opaque,
        "keywords_lost": tally.lost.keywords,
        "problem_count": tally.problem_count,
        "problems": problems(tally.problems.iter().map(|(path, text)| (path.as_slice(), text.as_str()))),
    })
}
