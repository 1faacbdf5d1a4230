//! `mailark mirror`: a second copy of the repository, object for object.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::base::clock;
use crate::cli::commands::Context;
use crate::cli::commands::backup::on_one_disk;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::lock::JobLock;
use crate::cli::mirrors;
use crate::cli::output::{complain, count, duration, local_time, rfc3339, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::format::keyset::Role;
use crate::format::record::Record;
use crate::ops::forget::Period;
use crate::ops::mirror::{self, Finding, Options, Report, Source, Verification};
use crate::ops::status;
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::Listed;
use crate::repo::{Repository, records};
use crate::store::{LocalStore, Storage};

/// Keep a second copy of the repository on another disk or share.
///
/// Every object is verified while it is copied, so damage never spreads. A mirror is a whole repository: restore
/// from it with -r DIR. What the repository removes is removed from the mirror later, and only where a signed
/// record says so; what is lost is kept and named. Runs beside backups and prunes, and goes on where it was broken
/// off. Ends with 3 when something is damaged or lost.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// The mirror's folder
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Make a new mirror: DIR must be absent or empty. Without it, a missing mount is never filled
    #[arg(long)]
    pub init: bool,
    /// Read the whole mirror and name what is damaged or missing; needs no key and no repository
    #[arg(long, conflicts_with_all = ["init", "no_key", "dry_run", "delete_after", "reread"])]
    pub verify: bool,
    /// Work without any key: objects are verified by their names, and nothing is ever removed
    #[arg(long, conflicts_with = "delete_after")]
    pub no_key: bool,
    /// Keep what the repository removed for so long: 36h, 14d, 1m
    #[arg(long, value_name = "PERIOD", default_value = "14d")]
    pub delete_after: Period,
    /// Read what the mirror has too, and replace what is damaged there
    #[arg(long)]
    pub reread: bool,
    /// Say what would be done; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Lost objects that are named one by one.
const NAMED_MAX: usize = 20;
/// A good result is recorded again after so many seconds, so that hourly runs do not fill the records.
const RECORD_AGAIN_S: i64 = 12 * 3_600;

/// Mirrors, or verifies a mirror.
pub fn run(args: &MirrorArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    if args.verify {
        return verify(args, context);
    }
    if args.no_key {
        let store: Arc<dyn Storage> = Arc::new(context.settings.store());
        let source = Source::without_key(store)?;
        return Ok(exit(&copy(args, context, &source)?));
    }
    let session = Session::open(context)?;
    session::complain_of(&Listed::default(), &session.lost()?);
    let repository = &session.repository;
    let report = copy(args, context, &Source::with_key(repository))?;
    if !args.dry_run && repository.role() == Role::Full {
        // The copy is made; that nobody may write in the repository must not make it fail.
        if let Err(failure) = record(args, repository, &report) {
            complain(&format!("mailark: record the result: {}\n", failure.message));
        }
    }
    warn_of_keys(repository)?;
    Ok(exit(&report))
}

fn exit(report: &Report) -> Exit {
    if report.is_whole() { Exit::Ok } else { Exit::Incomplete }
}

fn copy(args: &MirrorArgs, context: &Context<'_>, source: &Source<'_>) -> Result<Report, Failure> {
    let own = &context.settings.repository.value;
    let store = mirror::open(source, own, &args.dir, args.init)?;
    let mut lock = None;
    if !args.dry_run {
        mirror::prepare(source, &context.settings.store(), &store)?;
        lock = Some(lock_mirror(args, &store)?);
        // A read-only home must not keep anybody from mirroring.
        drop(mirrors::remember(&context.settings.state_dir, source.id(), &args.dir));
    }
    if on_one_disk(args.dir.as_os_str().as_encoded_bytes(), own) {
        context.output.remark("mirror and repository are on one disk: a broken disk takes both");
    }
    let now = clock::now();
    let kept = now.saturating_sub(args.delete_after.before(now, &TimeZone::system()));
    let options = Options {
        delete_after_s: i64::try_from(kept / 1_000_000_000).unwrap_or(i64::MAX),
        reread: args.reread,
        dry_run: args.dry_run,
        workers: session::workers().min(4),
    };
    let target: Arc<dyn Storage> = Arc::new(store);
    let meter = Meter::start("mirror", context.output.manner());
    let outcome = mirror::run(source, &target, &options, &meter, context.interrupt);
    meter.finish();
    drop(lock);
    let report = outcome?;
    tell(args, &report, source, context)?;
    Ok(report)
}

fn lock_mirror(args: &MirrorArgs, store: &LocalStore) -> Result<JobLock, Failure> {
    JobLock::at(&store.temporary_file("mirror.lock"), &format!("a mirror run on {}", args.dir.display()))
}

/// Writes the result into the repository, so that `status` knows it.
fn record(args: &MirrorArgs, repository: &Repository, report: &Report) -> Result<(), Failure> {
    repository.need_config()?;
    let ok = report.is_whole();
    let past = Ledger::read(repository)?.results;
    let last = past.iter().rfind(|result| result.verb == "mirror");
    let fresh = last.is_some_and(|last| last.ok && clock::now_seconds() - last.at < RECORD_AGAIN_S);
    if ok && fresh {
        return Ok(());
    }
    let dir = std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone());
    let dir = crate::base::bytes::display(dir.as_os_str().as_encoded_bytes());
    let text = match ok {
        true => format!("{dir}: {} objects, {}", count(report.objects), size(report.bytes)),
        false => format!(
            "{dir}: {} objects damaged, {} lost{}",
            report.damaged.len(),
            report.lost.len(),
            if report.restless { ", new snapshots not copied" } else { "" }
        ),
    };
    records::write(repository, &Record::Result { verb: "mirror".to_owned(), ok, text })?;
    Ok(())
}

fn warn_of_keys(repository: &Repository) -> Result<(), Failure> {
    let slots = repository.slots()?;
    let full = slots.iter().filter_map(|(_, slot)| slot.as_ref().ok()).filter(|slot| slot.role == Role::Full);
    if let Some(text) = status::key_risk(full) {
        complain(&format!("mailark: WARNING: {text}\n"));
    }
    Ok(())
}

fn tell(
    args: &MirrorArgs,
    report: &Report,
    source: &Source<'_>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        out.json(&as_json(args, report, source))?;
    } else {
        let (copied, removed) =
            if args.dry_run { ("would copy", "would remove") } else { ("copied", "removed") };
        let say = |text: &str| if args.dry_run { out.line(text) } else { out.summary(text) };
        say(&format!(
            "mirror {}: {copied} {} objects ({}), {removed} {} ({}) in {}",
            args.dir.display(),
            count(report.copied),
            size(report.copied_bytes),
            count(report.removed),
            size(report.removed_bytes),
            duration(report.duration)
        ))?;
        out.summary(&format!("it holds {} objects ({})", count(report.objects), size(report.bytes)))?;
        if report.waiting > 0 {
            out.summary(&format!("{} that the repository removed are still kept", count(report.waiting)))?;
        }
        if report.unexplained > 0 {
            let number = count(report.unexplained);
            out.summary(&format!("{number} are gone from the repository; only a full key can tell why"))?;
        }
        if let Some(first) = report.only_here.first() {
            let number = count(report.only_here.len() as u64);
            out.summary(&format!("{number} were never seen in the repository ({first}); they are kept"))?;
        }
    }
    complain_of(args, report);
    Ok(())
}

/// Says what is not as it should be, and what to do.
fn complain_of(args: &MirrorArgs, report: &Report) {
    if !report.damaged.is_empty() {
        complain(&format!(
            "mailark: {} damaged objects of the repository were not copied; good copies of them that the mirror has \
             stay there\nhint: 'mailark check --read-data' tells what they hold\n",
            count(report.damaged.len() as u64)
        ));
    }
    for place in report.lost.iter().take(NAMED_MAX) {
        complain(&format!("mailark: LOST in the repository, kept in the mirror: {place}\n"));
    }
    if !report.lost.is_empty() {
        let more = report.lost.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" ({more} are not named here)") } else { String::new() };
        complain(&format!(
            "mailark: {} objects are gone from the repository without a signed reason{more}\nhint: 'mailark repair \
             packs --from {}' brings packs back; anything else can be copied back as it is\n",
            count(report.lost.len() as u64),
            args.dir.display()
        ));
    }
    if report.restless {
        complain(
            "mailark: the repository kept changing, so new snapshots were not copied\nhint: run it again when no \
             prune is at work\n",
        );
    }
}

fn as_findings(findings: &[Finding]) -> Vec<Value> {
    findings.iter().map(|found| json!({ "object": found.object, "problem": found.text })).collect()
}

fn as_json(args: &MirrorArgs, report: &Report, source: &Source<'_>) -> Value {
    let names = |places: &[crate::store::Place]| places.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "mirror": args.dir.display().to_string(),
        "repository_id": source.id().to_string(),
        "dry_run": args.dry_run,
        "objects": report.objects,
        "bytes": report.bytes,
        "copied": report.copied,
        "copied_bytes": report.copied_bytes,
        "replaced": report.replaced,
        "removed": report.removed,
        "removed_bytes": report.removed_bytes,
        "waiting": report.waiting,
        "unexplained": report.unexplained,
        "only_here": names(&report.only_here),
        "damaged": as_findings(&report.damaged),
        "lost": names(&report.lost),
        "rounds": report.rounds,
        "restless": report.restless,
        "seconds": report.duration.as_secs_f64(),
    })
}

fn verify(args: &MirrorArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let store = LocalStore::new(&args.dir);
    let _lock = match lock_mirror_if_there(args, &store) {
        Err(failure) if failure.kind == Kind::Locked => return Err(failure),
        // On a read-only medium nobody can be writing.
        lock => lock.ok(),
    };
    let meter = Meter::start("verify", context.output.manner());
    let outcome = mirror::verify(&store, session::workers(), &meter, context.interrupt);
    meter.finish();
    let (seen, strays) = (outcome?, store.strays()?);
    tell_verified(args, &seen, &strays, context)?;
    Ok(if seen.findings.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Never makes a folder: the name may be mistyped.
fn lock_mirror_if_there(args: &MirrorArgs, store: &LocalStore) -> Result<Option<JobLock>, Failure> {
    let there = store.temporary_file("mirror.lock").exists();
    there.then(|| lock_mirror(args, store)).transpose()
}

fn tell_verified(
    args: &MirrorArgs,
    seen: &Verification,
    strays: &[String],
    context: &Context<'_>,
) -> Result<(), Failure> {
    let out = context.output;
    let moment = |at: i64| i128::from(at) * 1_000_000_000;
    if out.manner().json {
        return out.json(&json!({
            "mirror": args.dir.display().to_string(),
            "repository_id": seen.repository.map(|id| id.to_string()),
            "inventory": seen.inventory_at.map(|at| rfc3339(moment(at))),
            "objects": seen.objects,
            "bytes": seen.bytes,
            "unlisted": seen.unlisted,
            "strays": strays,
            "findings": as_findings(&seen.findings),
            "seconds": seen.duration.as_secs_f64(),
        }));
    }
    let (number, bytes) = (count(seen.objects), size(seen.bytes));
    out.summary(&format!("read {number} objects ({bytes}) in {}", duration(seen.duration)))?;
    if let Some(at) = seen.inventory_at {
        out.summary(&format!("compared with the inventory of {}", local_time(moment(at))))?;
    }
    if seen.unlisted > 0 {
        out.summary(&format!("{} objects are not in that inventory (harmless)", count(seen.unlisted)))?;
    }
    for stray in strays {
        complain(&format!("mailark: {stray} does not belong there\n"));
    }
    if seen.findings.is_empty() {
        return out.summary("nothing is damaged or missing");
    }
    complain(&format!(
        "mailark: {} objects are damaged or missing in the mirror; all others are whole\nhint: 'mailark mirror \
         --reread {}' copies them again from the repository\n",
        count(seen.findings.len() as u64),
        args.dir.display()
    ));
    Ok(())
}
