//! `mailark mount`: snapshots as folders.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::cli::audit::{self, Log};
use crate::cli::commands::Context;
use crate::cli::commands::restore::wanted_path;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::selection::{SnapshotFilter, SnapshotPath, snapshot_path};
use crate::cli::session::{self, Session};
use crate::ops::mount::{self, Ended, Options, Report, Vault};

/// Show snapshots as folders, read-only, until Ctrl-C or `umount DIR`.
///
/// snapshots/TIME, hosts/HOST/JOB/TIME and users/USER/TIME each hold what was saved; `latest` in each list leads to
/// the newest snapshot that does not look too small to be true. New snapshots appear by themselves. With a snapshot
/// given, DIR shows its folder PATH and nothing else.
///
/// Needs /dev/fuse, and fusermount3 (package fuse3) unless root mounts. Files that are damaged give an
/// input/output error and are named on standard error; the exit code is 3 then.
///
/// 'mailark audit' tells who mounted, and once a mount which user of this system came to whose mail. The kernel keeps what
/// it was told: whoever reads a file by its name alone, after somebody else did, is not seen.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// The empty folder to mount on
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Show this snapshot only: `latest` or the beginning of its id, and a folder in it
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path())]
    pub only: Option<SnapshotPath>,
    /// Which snapshots are shown.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Show snapshots that hold this logical path only
    #[arg(long, value_name = "PATH", conflicts_with = "only")]
    pub path: Option<std::ffi::OsString>,
    /// Let other users in, as far as owners, modes and access lists allow
    #[arg(long)]
    pub allow_other: bool,
    /// Show owners by number, not by name
    #[arg(long)]
    pub numeric_ids: bool,
    /// Make control and index folders here for a Dovecot that serves users/USER (see the README)
    #[arg(long, value_name = "DIR", conflicts_with = "only", requires = "allow_other")]
    pub dovecot: Option<PathBuf>,
}

/// Mounts and stays.
pub fn run(args: &MountArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    session.repository.need_full("mounting")?;
    session.sync()?;
    let mut filter = args.filter.to_filter();
    if let Some(path) = &args.path {
        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        filter = filter.holding(&wanted_path(Some(path))?);
    }
    let only = match &args.only {
        None => {
            session.snapshots()?;
            None
        }
        Some(only) => {
            let path = wanted_path(only.path.as_deref())?;
            let found = session.snapshot(only.snapshot.text(), &filter.clone().holding(&path))?;
            Some((found, path))
        }
    };
    let is_one = only.is_some();
    let log = Log::of(context, session.repository.id());
    let asked = json!({ "words": audit::words() });
    log.note("mount", &asked, &[]);
    let (repository, index, packs) = session.into_parts();
    let options = Options {
        place: std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone()),
        filter,
        only,
        allow_other: args.allow_other,
        numeric_ids: args.numeric_ids,
        control: args.dovecot.clone(),
        zone: TimeZone::system(),
        users: context.settings.users.clone(),
        threads: session::workers(),
        tell: Arc::new(|line: &str| complain(&format!("mailark: {line}\n"))),
        note: Arc::new(move |uid, user: &str| log.note_other(uid, "mount", &asked, user)),
    };
    let place = args.dir.display().to_string();
    let ready = |snapshots: usize| {
        let out = context.output;
        if out.manner().json {
            out.json(&json!({ "mounted": place, "snapshots": snapshots }))?;
        } else {
            let what = match is_one {
                true => "one snapshot is".to_owned(),
                false => format!("{} snapshots are", count(snapshots as u64)),
            };
            out.summary(&format!("{what} mounted on {place}; Ctrl-C or 'umount {place}' ends it"))?;
        }
        out.flush()
    };
    let report = mount::run(Vault::new(repository, index, packs), options, context.interrupt, ready)?;
    tell(&report, &place, context)?;
    Ok(if report.problem_count == 0 { Exit::Ok } else { Exit::Incomplete })
}

fn tell(report: &Report, place: &str, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&json!({
            "unmounted": place,
            "ended_by": match report.ended {
                Ended::Signal => "signal",
                Ended::Outside => "unmount",
            },
            "in_use": report.in_use,
            "bytes_read": report.bytes_read,
            "problem_count": report.problem_count,
            "seconds": report.duration.as_secs_f64(),
        }));
    }
    let how = match report.ended {
        Ended::Signal => "unmounted",
        Ended::Outside => "was unmounted",
    };
    out.summary(&format!(
        "{place} {how} after {}, {} were read",
        duration(report.duration),
        size(report.bytes_read)
    ))?;
    if report.in_use {
        complain(&format!(
            "mailark: {place} was in use still; what is open there gives errors from now on\n"
        ));
    }
    if report.problem_count > 0 {
        complain(&format!("mailark: {} files or folders could not be read\n", count(report.problem_count)));
    }
    Ok(())
}
