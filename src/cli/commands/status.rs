//! `mailark status`: is all well?

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::clock::{self, UnixNanos};
use crate::cli::commands::Context;
use crate::cli::config_file::job_name;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Side, Table, age, count, local_time, rfc3339, size};
use crate::cli::session::Session;
use crate::cli::verified::VerifiedFile;
use crate::format::keyset::Role;
use crate::ops::status::{self, JobStatus, Level, Limits, Status};
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::Filter;

/// Say in one screen whether all is well: last backups, counts, free space, last check, keys.
///
/// Ends with 0 ok, 1 warning, 2 critical, as monitoring systems expect. When the repository cannot be opened at
/// all, the exit code is that of any command. Jobs that never made a snapshot are not known.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Look at this host only
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Look at this job only
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    pub job: Option<String>,
    /// Warn when a last backup is so many hours old
    #[arg(long, value_name = "HOURS", default_value_t = 26)]
    pub warn_after: u32,
    /// Critical when a last backup is so many hours old
    #[arg(long, value_name = "HOURS", default_value_t = 50)]
    pub critical_after: u32,
}

/// What is told besides the verdict.
struct Circumstances {
    repository: String,
    id: String,
    role: Role,
    free_bytes: Option<u64>,
    foreign: usize,
    checkpoints: usize,
    now: UnixNanos,
    /// When the pack was read that this host read longest ago, unix seconds.
    oldest_read: Option<i64>,
}

/// Looks.
pub fn run(args: &StatusArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let repository = &session.repository;
    let (listed, lost) = session.look()?;
    let slots = repository.slots()?;
    let ledger = Ledger::read(repository)?;
    let filter = Filter { host: args.host.clone(), job: args.job.clone(), ..Filter::default() };
    let hours = |number: u32| i64::from(number) * 3_600;
    let limits = Limits { warning_s: hours(args.warn_after), critical_s: hours(args.critical_after) };
    let now = clock::now();
    let signed = slots.iter().map(|(_, slot)| slot.as_ref().ok());
    let status = status::judge(&listed, &|info| filter.fits(info), signed, &lost, &ledger, (now, limits));
    let memory = VerifiedFile::new(&context.settings.state_dir, repository.id(), repository.role()).load();
    let around = Circumstances {
        repository: context.settings.repository.value.display().to_string(),
        id: repository.id().to_string(),
        role: repository.role(),
        free_bytes: repository.store.available_bytes(),
        foreign: listed.foreign,
        checkpoints: listed.checkpoints.len(),
        now,
        oldest_read: memory.into_values().min(),
    };
    match context.output.manner().json {
        true => context.output.json(&as_json(&status, &around))?,
        false => tell(&status, &around, context)?,
    }
    Ok(match status.level() {
        Level::Ok => Exit::Ok,
        Level::Warning => Exit::Warning,
        Level::Critical => Exit::Critical,
    })
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Full => "full",
        Role::Writer => "writer",
    }
}

fn moment(seconds: i64) -> UnixNanos {
    UnixNanos::from(seconds) * 1_000_000_000
}

fn last_check(status: &Status, around: &Circumstances) -> String {
    match &status.last_check {
        None if around.role == Role::Writer => "not for this key".to_owned(),
        None => "never recorded".to_owned(),
        Some(check) => {
            let text = bytes::display(check.text.as_bytes());
            format!("{} ({}): {text}", local_time(moment(check.at)), age(moment(check.at), around.now))
        }
    }
}

fn last_mirror(status: &Status, around: &Circumstances) -> String {
    match &status.mirror {
        None if around.role == Role::Writer => "not for this key".to_owned(),
        None => "never recorded".to_owned(),
        Some(mirror) => {
            let text = bytes::display(mirror.text.as_bytes());
            format!("{} ({}): {text}", local_time(moment(mirror.at)), age(moment(mirror.at), around.now))
        }
    }
}

fn tell(status: &Status, around: &Circumstances, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    // The first line is what a monitoring system shows.
    let worst = status.findings.first().map_or_else(String::new, |(_, text)| format!(": {text}"));
    out.line(&format!("{}{worst}", word(status.level()).to_uppercase()))?;
    if status.findings.len() > 1 {
        for (level, text) in &status.findings[1..] {
            out.line(&format!("  {}: {text}", word(*level)))?;
        }
    }
    out.line("")?;
    out.line(&format!("repository  {}", around.repository))?;
    out.line(&format!("id          {}", around.id))?;
    out.line(&format!("this key    {}", role_word(around.role)))?;
    let keys = status.keys;
    let recovery = if keys.recovery > 0 { "with a recovery code" } else { "no recovery code" };
    let writers = if keys.writer > 0 { format!(", {} writer", keys.writer) } else { String::new() };
    out.line(&format!("key slots   {} full ({recovery}){writers}", keys.full))?;
    out.line(&format!("free space  {}", around.free_bytes.map_or_else(|| "unknown".to_owned(), size)))?;
    out.line(&format!("last check  {}", last_check(status, around)))?;
    if let Some(at) = around.oldest_read {
        out.line(&format!("read back   the oldest content {}", age(moment(at), around.now)))?;
    }
    out.line(&format!("last mirror {}", last_mirror(status, around)))?;
    if around.foreign > 0 {
        out.line(&format!(
            "not shown   {} snapshots of other hosts, which this key does not open",
            around.foreign
        ))?;
    }
    if status.jobs.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(&[
        ("HOST", Side::Left),
        ("JOB", Side::Left),
        ("LAST BACKUP", Side::Left),
        ("AGE", Side::Left),
        ("MESSAGES", Side::Right),
        ("SIZE", Side::Right),
        ("PROBLEMS", Side::Right),
        ("SNAPSHOTS", Side::Right),
        ("STATE", Side::Left),
    ]);
    for JobStatus { last, snapshots, level, revoked } in &status.jobs {
        let (snapshot, totals) = (&last.snapshot, last.snapshot.totals());
        let suspect = if snapshot.suspect.is_some() { ", suspect" } else { "" };
        table.row(vec![
            bytes::display(snapshot.host_name.as_bytes()),
            bytes::display(snapshot.job.as_bytes()),
            local_time(snapshot.ended.into()),
            age(snapshot.ended.into(), around.now),
            count(totals.messages),
            size(totals.bytes),
            count(snapshot.problem_count),
            count(*snapshots),
            if *revoked { "revoked".to_owned() } else { format!("{}{suspect}", word(*level)) },
        ]);
    }
    table.write(out)
}

fn as_json(status: &Status, around: &Circumstances) -> Value {
    let jobs: Vec<Value> = status
        .jobs
        .iter()
        .map(|JobStatus { last, snapshots, level, revoked }| {
            let (snapshot, totals) = (&last.snapshot, last.snapshot.totals());
            json!({
                "host": snapshot.host_name,
                "job": snapshot.job,
                "level": word(*level),
                "revoked": revoked,
                "snapshot": last.hash.to_string(),
                "time": rfc3339(snapshot.ended.into()),
                "age_seconds": ((around.now - UnixNanos::from(snapshot.ended)) / 1_000_000_000) as i64,
                "messages": totals.messages,
                "files": totals.files,
                "bytes": totals.bytes,
                "problem_count": snapshot.problem_count,
                "suspect": snapshot.suspect,
                "snapshots": snapshots,
            })
        })
        .collect();
    let findings: Vec<Value> = status
        .findings
        .iter()
        .map(|(level, text)| json!({ "level": word(*level), "problem": text }))
        .collect();
    let last_check = status.last_check.as_ref().map(|check| {
        json!({
            "time": rfc3339(moment(check.at)),
            "age_seconds": ((around.now - moment(check.at)) / 1_000_000_000) as i64,
            "ok": check.ok,
            "text": check.text,
        })
    });
    let last_mirror = status.mirror.as_ref().map(|mirror| {
        json!({
            "time": rfc3339(moment(mirror.at)),
            "age_seconds": ((around.now - moment(mirror.at)) / 1_000_000_000) as i64,
            "ok": mirror.ok,
            "text": mirror.text,
        })
    });
    json!({
        "level": word(status.level()),
        "repository": around.repository,
        "id": around.id,
        "role": role_word(around.role),
        "free_bytes": around.free_bytes,
        "last_check": last_check,
        "oldest_read": around.oldest_read.map(|at| rfc3339(moment(at))),
        "last_mirror": last_mirror,
        "checkpoints": around.checkpoints,
        "foreign": around.foreign,
        "keys": {
            "full": status.keys.full,
            "writer": status.keys.writer,
            "recovery": status.keys.recovery,
            "unusable": status.keys.unusable,
        },
        "jobs": jobs,
        "findings": findings,
    })
}
