//! `mailark backup --follow`: a run after each change.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{BackupArgs, lock, once, remark_on_one_disk, tell};
use crate::base::clock;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::base::progress::{Counters, Progress};
use crate::cli::catalogue;
use crate::cli::commands::{Context, cache, forget};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::ops::backup::{Options, Report};
use crate::repo::snapshots::{Listed, SnapshotInfo};
use crate::watch::{self, Follower, Ran, Times, Watched, What};

/// How long a change settles.
const SETTLE: Duration = Duration::from_secs(60);
/// Shorter than this, a burst would be many snapshots.
const SETTLE_MIN: Duration = Duration::from_secs(1);
/// With a full key, how often the snapshots are thinned out.
const THIN_EVERY: Duration = Duration::from_secs(3_600);
/// Most problems that are known again.
const TOLD_MAX: usize = 1 << 16;

/// Follows until a signal comes.
pub(super) fn run(
    args: &BackupArgs,
    options: Options,
    session: Session,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let settle = args.follow.settle.unwrap_or(SETTLE).max(SETTLE_MIN);
    let times = Times { settle, max_age: args.follow.max_age.unwrap_or(settle).max(SETTLE_MIN) };
    session::complain_of(&Listed::default(), &session.lost()?);
    remark_on_one_disk(&options, context);
    let what = What {
        starts: &options.starts,
        excludes: &options.excludes,
        own: &options.own,
        one_file_system: options.one_file_system,
        limit: args.follow.watch_limit.unwrap_or_else(watch::default_limit),
        each: args.follow.watch_each,
    };
    let config = config_of(&context.settings.repository.value)?;
    let session = Some((session, config));
    let mut runs = Runs { context, options: &options, session, settle, thinned: None, told: Told::default() };
    watch::follow(&what, times, &mut runs, context.interrupt)?;
    Ok(Exit::Ok)
}

/// The config object as it stands there now: tells whether the repository is there, and the same one.
fn config_of(repository: &Path) -> Result<blake3::Hash, Failure> {
    let path = repository.join("config");
    let opened = std::fs::File::open(&path).and_then(|file| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file.take(SMALL_OBJECT_BYTES_MAX)).map(|hasher| hasher.finalize())
    });
    opened.map_err(|error| Failure::because(Kind::Storage, &format!("open {}", path.display()), &error))
}

/// One run after the other; the right to the job is taken for each.
struct Runs<'a> {
    context: &'a Context<'a>,
    options: &'a Options,
    /// The repository, and its config object when it was opened; opened anew after a failure.
    session: Option<(Session, blake3::Hash)>,
    settle: Duration,
    thinned: Option<Instant>,
    told: Told,
}

/// Hashes of problems, those that the last run met and those of this one.
#[derive(Default)]
struct Told {
    before: HashSet<u64>,
    now: HashSet<u64>,
}

/// Tells a problem when it is new, not every minute.
struct News<'a> {
    meter: &'a Meter,
    told: Mutex<&'a mut Told>,
}

impl Progress for News<'_> {
    fn counters(&self) -> &Counters {
        self.meter.counters()
    }

    fn problem(&self, line: &str) {
        let digest = blake3::hash(line.as_bytes());
        let hash = u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest holds 8 bytes"));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.now.len() < TOLD_MAX {
            told.now.insert(hash);
        }
        if !told.before.contains(&hash) {
            self.meter.problem(line);
        }
    }
}

fn several(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

fn in_words(watched: Watched, settle: Duration) -> String {
    let Watched { file_systems, folders, blind } = watched;
    let whole = several(file_systems as u64, "file system");
    let each = several(folders as u64, "folder");
    let what = match (file_systems, folders) {
        (0, _) => each,
        (_, 0) => whole,
        _ => format!("{whole} and {each}"),
    };
    match blind {
        0 => format!("watching {what}"),
        blind => format!(
            "watching {what}; of {} more nobody tells (too many, or on a network): all are looked at every {}",
            several(blind, "folder"),
            duration(settle)
        ),
    }
}

/// Will it be the same however often it is tried?
fn is_final(kind: Kind) -> bool {
    matches!(kind, Kind::Usage | Kind::User | Kind::Config | Kind::Key | Kind::ReaderGone)
}

impl Follower for Runs<'_> {
    type Error = Failure;

    fn run(&mut self) -> Result<Ran, Failure> {
        let context = self.context;
        let outcome = self.attempt();
        context.output.flush()?;
        let Err(failure) = outcome else { return Ok(Ran::Done) };
        match failure.kind {
            // The follower looks at the signal itself.
            Kind::Interrupted => return Ok(Ran::Failed),
            Kind::Locked => {
                context.output.remark(&failure.message);
                return Ok(Ran::Busy);
            }
            kind if is_final(kind) => return Err(failure),
            _ => {}
        }
        self.session = None;
        if failure.is_index_damage() {
            context.output.remark(&format!("{}: building it anew", failure.message));
            // What stands in the way of that is told by the next run.
            drop(cache::discard(context));
        } else {
            complain(&failure.for_people());
            if context.output.manner().json {
                complain(&format!("{}\n", failure.for_programs()));
            }
        }
        Ok(Ran::Failed)
    }

    fn surveyed(&mut self, watched: Watched) {
        self.context.output.remark(&in_words(watched, self.settle));
    }

    fn pauses(&mut self, pause: Duration) {
        complain(&format!("mailark: trying again in {}\n", duration(pause)));
    }
}

impl Runs<'_> {
    fn attempt(&mut self) -> Result<(), Failure> {
        let (context, options) = (self.context, self.options);
        let repository = &context.settings.repository.value;
        // Never into the empty folder where a disk is mounted on other days.
        let there = config_of(repository)?;
        let session = match self.session.take() {
            Some((session, config)) if config == there => session,
            _ => Session::open(context)?,
        };
        let session = &self.session.insert((session, there)).0;
        let _lock = lock(session.repository.id(), &options.job, context)?;
        self.told.before = std::mem::take(&mut self.told.now);
        let meter = Meter::start("backup", context.output.manner());
        let news = News { meter: &meter, told: Mutex::new(&mut self.told) };
        let outcome = once(session, options, &news, context);
        meter.finish();
        let report = outcome?;
        say(&report, options, context)?;
        if let Some(made) = &report.snapshot {
            catalogue::keep(session, made, context);
        }
        let due = self.thinned.is_none_or(|last| last.elapsed() >= THIN_EVERY);
        if report.snapshot.is_some() && due {
            self.thinned = Some(clock::stopwatch());
            thin(session, options, context);
        }
        Ok(())
    }
}

fn thin(session: &Session, options: &Options, context: &Context<'_>) {
    let own = |info: &SnapshotInfo| {
        info.snapshot.job == options.job && info.snapshot.host_name == options.host_name
    };
    let listed = session.look().map(|(listed, _)| listed);
    let thinned = listed.and_then(|listed| forget::thin(session, &listed, &own, context));
    match thinned {
        Ok(0) => {}
        Ok(number) => context.output.remark(&format!("forgot {} snapshots of --follow", count(number))),
        // The mail is safe; whoever thins next does this too.
        Err(failure) => complain(&failure.for_people()),
    }
}

/// One line for each snapshot, in a log too; for programs one object for each run.
fn say(report: &Report, options: &Options, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return tell(report, options, context);
    }
    let Some(made) = report.snapshot else { return Ok(()) };
    if !out.manner().quiet {
        out.line(&format!(
            "snapshot {} of {}: {} messages, {} files, read {}, added {} in {}",
            made.short(),
            options.job,
            count(report.totals.messages),
            count(report.totals.files),
            count(report.files_read),
            size(report.stored_bytes),
            duration(report.duration)
        ))?;
    }
    if report.problem_count > 0 {
        complain(&format!("mailark: {} problems: the snapshot is incomplete\n", count(report.problem_count)));
    }
    if let Some(why) = &report.suspect {
        complain(&format!("mailark: snapshot {} is suspect: {why}\n", made.short()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_said_in_words() {
        let words = |file_systems, folders, blind| {
            in_words(Watched { file_systems, folders, blind }, Duration::from_secs(60))
        };
        assert_eq!(words(1, 0, 0), "watching 1 file system");
        assert_eq!(words(2, 1, 0), "watching 2 file systems and 1 folder");
        assert_eq!(words(0, 40_123, 0), "watching 40,123 folders");
        let blind = words(0, 7, 3);
        assert!(blind.starts_with("watching 7 folders; of 3 folders more nobody tells"), "{blind}");
    }
}
