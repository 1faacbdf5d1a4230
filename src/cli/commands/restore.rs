//! `mailark restore`: back to disk.

mod as_it_lies;
mod doveadm;
pub mod give;
pub mod into;
mod letters;
pub mod messages;
pub mod outlet;
mod rebuild;
mod selected;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{complain, count, duration, problems, size};
use crate::cli::progress::Meter;
use crate::cli::selection::{SnapshotFilter, SnapshotPath, snapshot_path};
use crate::cli::session::{self, Session};
use crate::ops::restore::{self, Options, Report, target};
use crate::repo::snapshots::SnapshotInfo;
use crate::source::exclude::Excludes;
use crate::source::start;

pub use messages::MessageArgs;

/// Write files of a snapshot back to disk, below DIR, under their logical paths.
///
/// A restore that was interrupted is resumed by running the same command again.
///
/// With --user, mail of one user: as it lies, or with --as as a Maildir, as mbox or single files, or as a tar archive.
/// SNAPSHOT may then be left out and is the newest one that holds mail of that user.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// `latest` or the beginning of a snapshot id, and a path in it
    #[arg(
        value_name = "SNAPSHOT[:PATH]",
        value_parser = snapshot_path(),
        required_unless_present_any = ["user", "runs", "undo", "redo"]
    )]
    pub from: Option<SnapshotPath>,
    /// Which snapshots `latest` considers.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Write below this folder; `-` for standard output: messages for 'mailark apply', or an archive with --as tar
    #[arg(
        long,
        visible_alias = "target",
        value_name = "DIR",
        required_unless_present_any = ["rebuild", "into", "mailbox", "flags_only", "runs", "undo", "redo"]
    )]
    pub to: Option<PathBuf>,
    /// Restore only what matches this pattern; repeat for more
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<OsString>,
    /// Leave out what matches this pattern; repeat for more
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// Accept a folder that is not empty, and say what to do with files that are already there
    #[arg(long, value_name = "WHEN")]
    pub overwrite: Option<Overwrite>,
    /// Delete what lies below the restored folders and is not in the snapshot
    #[arg(long, requires = "overwrite")]
    pub delete: bool,
    /// Say what would be done; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Write even where a live mailbox lies
    #[arg(long)]
    pub force: bool,
    /// Restore device files, setuid bits and security attributes too
    #[arg(long)]
    pub system: bool,
    /// Restore owners by number, not by name
    #[arg(long)]
    pub numeric_ids: bool,
    /// Which mail of whom.
    #[command(flatten)]
    pub messages: MessageArgs,
    /// The live mailbox that they go to.
    #[command(flatten)]
    pub give: give::GiveArgs,
    /// What was given back to live mailboxes.
    #[command(flatten)]
    pub runs: into::RunsArgs,
}

/// What to do with a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// Write every file anew
    Always,
    /// Write files whose content differs
    IfChanged,
    /// Leave what is there
    Never,
}

/// Restores.
pub fn run(args: &RestoreArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    if let Some(exit) = into::run(&args.runs, context)? {
        return Ok(exit);
    }
    if let Some(user) = &args.messages.user {
        return messages::run(args, user, context);
    }
    let Some(from) = &args.from else {
        return Err(Failure::new(Kind::Usage, "no snapshot was named").hint("'latest' is the newest one"));
    };
    let session = Session::open(context)?;
    session.repository.need_full("restoring mail")?;
    session.sync()?;
    let path = wanted_path(from.path.as_deref())?;
    let filter = args.filter.to_filter().holding(&path);
    let snapshot = session.snapshot(from.snapshot.text(), &filter)?;
    let reader = session.reader(&snapshot)?;
    let options = options(args, snapshot, path)?;
    let meter = Meter::start("restore", context.output.manner());
    let outcome = restore::run(&reader, &options, &meter, context.interrupt);
    meter.finish();
    let report = outcome?;
    tell(&report, &options, context)?;
    Ok(if report.problem_count == 0 { Exit::Ok } else { Exit::Incomplete })
}

/// What the command line says about a restore of files.
fn options(args: &RestoreArgs, snapshot: SnapshotInfo, path: Vec<u8>) -> Result<Options, Failure> {
    Ok(Options {
        snapshot,
        path,
        place: None,
        includes: if args.include.is_empty() { None } else { Some(patterns(&args.include)?) },
        excludes: patterns(&args.exclude)?,
        target: args.to.clone().unwrap_or_default(),
        overwrite: args.overwrite.map(|rule| match rule {
            Overwrite::Always => target::Overwrite::Always,
            Overwrite::IfChanged => target::Overwrite::IfChanged,
            Overwrite::Never => target::Overwrite::Never,
        }),
        delete: args.delete,
        dry_run: args.dry_run,
        force: args.force,
        system: args.system,
        numeric_ids: args.numeric_ids,
        workers: session::workers(),
    })
}

fn patterns(given: &[OsString]) -> Result<Excludes, Failure> {
    Excludes::new(given.iter().map(|pattern| pattern.as_bytes()))
        .map_err(|error| Failure::because(Kind::Usage, "", &error))
}

/// The logical path after the colon; all of the snapshot when there is none.
pub fn wanted_path(path: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
    match path {
        None | Some(b"") => Ok(b"/".to_vec()),
        Some(path) => start::logical_path(path).map_err(|error| Failure::because(Kind::Usage, "", &error)),
    }
}

fn tell(report: &Report, options: &Options, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report, options));
    }
    let verb = if options.dry_run { "would restore" } else { "restored" };
    let say = |text: &str| if options.dry_run { out.line(text) } else { out.summary(text) };
    say(&format!(
        "{verb} {} messages, {} files, {} folders, {} of snapshot {} below {} in {}",
        count(report.messages),
        count(report.files),
        count(report.folders),
        size(report.bytes),
        options.snapshot.hash.short(),
        options.target.display(),
        duration(report.duration)
    ))?;
    if report.resumed {
        out.summary("an interrupted restore was taken up again")?;
    }
    if let (true, Some(available)) = (options.dry_run, report.available_bytes) {
        out.summary(&format!("free space there: {}", size(available)))?;
        if available < report.bytes {
            complain("mailark: that is not enough\n");
        }
    }
    if report.uid_lists > 0 && !out.manner().quiet {
        complain(&format!(
            "mailark: WARNING: {} lists of UIDs go where something lies: a mail server that goes on from them gives UIDs \
             away again that clients have seen since; 'mailark restore --user U --rebuild MAILDIR' leaves room\n",
            count(report.uid_lists)
        ));
    }
    let left = &report.summary;
    for (number, what) in [
        (report.removed, "names removed that the snapshot does not hold"),
        (left.kept, "files that were there kept"),
        (left.owners_refused, "owners that only root can set"),
        (left.modes_reduced, "setuid or setgid bits left out (--system brings them back)"),
        (left.xattrs_left_out, "system attributes left out (--system brings them back)"),
        (left.xattrs_refused, "attributes that this file system does not take"),
        (left.attributes_refused, "modes or times that this file system does not take"),
        (left.sockets_left_out, "sockets left out"),
        (left.devices_left_out, "devices left out (--system brings them back)"),
    ] {
        if number > 0 {
            out.summary(&format!("{} {what}", count(number)))?;
        }
    }
    if report.problem_count > 0 {
        complain(&format!("mailark: {} problems: the restore is incomplete\n", count(report.problem_count)));
    }
    Ok(())
}

fn as_json(report: &Report, options: &Options) -> Value {
    let problems = problems(report.findings.iter().map(|found| (found.path.as_slice(), found.text.as_str())));
    json!({
        "snapshot": options.snapshot.hash.to_string(),
        "target": options.target.display().to_string(),
        "dry_run": options.dry_run,
        "resumed": report.resumed,
        "messages": report.messages,
        "files": report.files,
        "folders": report.folders,
        "bytes": report.bytes,
        "available_bytes": report.available_bytes,
        "removed": report.removed,
        "uid_lists": report.uid_lists,
        "kept": report.summary.kept,
        "owners_refused": report.summary.owners_refused,
        "devices_left_out": report.summary.devices_left_out,
        "problem_count": report.problem_count,
        "problems": problems,
        "seconds": report.duration.as_secs_f64(),
    })
}
