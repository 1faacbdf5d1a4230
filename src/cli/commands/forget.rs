//! `mailark forget`: which snapshots count no longer.

mod thinning;

pub use thinning::thin;

use std::collections::HashMap;
use std::fmt::Write;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Side, Table, complain, count, local_time, rfc3339};
use crate::cli::retention::KeepArgs;
use crate::cli::selection::{Selector, SnapshotFilter, selector};
use crate::cli::session::Session;
use crate::cli::settings::Settings;
use crate::ops::forget::{self, ForgetError, Group, GroupBy, GroupKey, Plan, Policy, Verdict};
use crate::repo::holds::UserSearch;
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{RepoError, reader::BlobReader};

/// Let snapshots go that no rule keeps; 'mailark prune' then frees their space.
///
/// Without --keep options the policies of mailark.toml count: [retention], and [jobs.NAME.retention] for one job.
/// Snapshots are taken in the order of their numbers and by the times at which the repository received them, not by
/// the clocks of their hosts. The newest of a group stays, and so does what is held. A snapshot that looks too small
/// to be true stands for no day, week or month.
///
/// Of what 'backup --follow' made, only the last of each hour counts once it is a day old (or older than the hold-down),
/// with a policy and without. '--keep-tag follow' keeps all of it.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// Forget exactly these snapshots
    #[arg(value_name = "SNAPSHOT", value_parser = selector())]
    pub snapshots: Vec<Selector>,
    /// Which snapshots are judged.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Judge together what has these in common: any of host, job, tags; '' for all together
    #[arg(long, value_name = "LIST", default_value = "host,job", value_parser = group_by)]
    pub group_by: GroupBy,
    /// Show which rule keeps which snapshot, and forget nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Take the ends of the runs by their hosts' clocks, where the repository was copied and lost its times
    #[arg(long)]
    pub trust_host_clocks: bool,
    /// Forget a named snapshot even if it is the last good one of its host and job
    #[arg(long, requires = "snapshots")]
    pub force: bool,
    // Last: its heading would stand over what follows.
    /// What is kept.
    #[command(flatten)]
    pub keep: KeepArgs,
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy { host: false, job: false, tags: false };
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word {
            "host" => by.host = true,
            "job" => by.job = true,
            "tags" | "tag" => by.tags = true,
            other => return Err(format!("'{other}' is none of host, job, tags")),
        }
    }
    Ok(by)
}

/// What came of all groups.
#[derive(Default)]
struct Outcome<'a> {
    plans: Vec<Plan<'a>>,
    /// Groups that have no policy.
    left_alone: Vec<GroupKey>,
    /// Groups that could not be judged.
    refused: Vec<(GroupKey, ForgetError)>,
}

/// Forgets.
pub fn run(args: &ForgetArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let given = args.keep.given();
    if !args.snapshots.is_empty() && (given.is_some() || args.keep.hold_down.is_some()) {
        return Err(Failure::new(
            Kind::Usage,
            "snapshots are named, and rules are given: it is one or the other",
        ));
    }
    let session = Session::open(context)?;
    session.repository.need_full("forgetting snapshots")?;
    let ledger = Ledger::read(&session.repository)?;
    ledger.need_known()?;
    let listed = session.snapshots()?;
    if !listed.unusable.is_empty() {
        let unusable = listed.unusable.len();
        context.output.remark(&format!("{unusable} unusable snapshots were not judged: they stay"));
    }
    if ledger.holds.iter().any(|hold| !hold.users.is_empty()) {
        session.sync()?;
    }
    let mut search = Search::new(&session, context);
    let mut holds_mail_of = |info: &SnapshotInfo, user: &str| search.finds(info, user);
    let times = forget::effective(&listed.snapshots, args.trust_host_clocks);
    let filter = args.filter.to_filter();
    let outcome = if args.snapshots.is_empty() {
        let groups = forget::groups(&listed.snapshots, &|info| filter.fits(info), args.group_by, &times);
        judge(groups, args, &context.settings, &ledger, &mut holds_mail_of)?
    } else {
        let find = |wanted: &Selector| session.resolve(&listed, wanted.text(), &filter);
        let named = args.snapshots.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let plans =
            forget::by_name(&listed.snapshots, &named, &times, args.force, &ledger, &mut holds_mail_of)?;
        Outcome { plans, ..Outcome::default() }
    };
    let records = match args.dry_run {
        true => vec![None; outcome.plans.len()],
        false => forget::write(&session.repository, &ledger, &outcome.plans)?,
    };
    tell(&outcome, &records, args, context)?;
    end(outcome)
}

/// Looks for held users in snapshot after snapshot.
struct Search<'a> {
    session: &'a Session,
    context: &'a Context<'a>,
    /// For the host and domain at hand; one at a time, each keeps much in memory.
    reader: Option<((HostId, DomainId), BlobReader<'a>)>,
    users: HashMap<String, UserSearch>,
}

impl<'a> Search<'a> {
    fn new(session: &'a Session, context: &'a Context<'a>) -> Search<'a> {
        Search { session, context, reader: None, users: HashMap::new() }
    }

    fn finds(&mut self, info: &SnapshotInfo, user: &str) -> Result<bool, RepoError> {
        let wanted = (info.host, info.domain);
        let reader = match self.reader.take() {
            Some((of, reader)) if of == wanted => reader,
            _ => match self.session.reader(info) {
                Ok(reader) => reader,
                Err(_) => return Ok(true),
            },
        };
        let reader = &self.reader.insert((wanted, reader)).1;
        let search = self.users.entry(user.to_owned()).or_insert_with(|| UserSearch::new(user));
        search.finds(reader, info, self.context.interrupt)
    }
}

fn judge<'a>(
    groups: Vec<Group<'a>>,
    args: &ForgetArgs,
    settings: &Settings,
    ledger: &Ledger,
    holds_mail_of: &mut forget::HoldsMailOf<'_>,
) -> Result<Outcome<'a>, Failure> {
    let zone = TimeZone::system();
    let mut outcome = Outcome::default();
    if groups.is_empty() {
        return Ok(outcome);
    }
    for group in groups {
        let key = group.key.clone();
        let trust = args.trust_host_clocks;
        let judged = match policy_of(&group, args, settings)? {
            Some(policy) => forget::by_policy(group, &policy, &zone, trust, ledger, holds_mail_of),
            None => {
                let hold_down = args.keep.hold_down.unwrap_or_else(|| thinning::hold_down(&group, settings));
                if !group.snapshots.iter().any(|(info, _)| info.snapshot.is_of_follow()) {
                    outcome.left_alone.push(key);
                    continue;
                }
                forget::by_thinning(group, hold_down, &zone, trust, ledger, holds_mail_of)
            }
        };
        match judged {
            Ok(plan) => outcome.plans.push(plan),
            Err(error @ ForgetError::Copied { .. }) => outcome.refused.push((key, error)),
            Err(error) => return Err(error.into()),
        }
    }
    if outcome.plans.is_empty() && outcome.refused.is_empty() {
        return Err(ForgetError::KeepsNothing.into());
    }
    Ok(outcome)
}

/// The policy of the command line, else that of the group's jobs in `mailark.toml`.
fn policy_of(group: &Group<'_>, args: &ForgetArgs, settings: &Settings) -> Result<Option<Policy>, Failure> {
    let global = settings.retention.as_ref();
    let hold_down = global.and_then(|retention| retention.hold_down());
    let mut policy = match args.keep.given() {
        Some(given) => Some(given.policy(hold_down)),
        None => {
            let of_job = |info: &SnapshotInfo| {
                let job = settings.jobs.get(&info.snapshot.job);
                let retention = job.and_then(|job| job.retention.as_ref()).or(global);
                retention.map(|retention| retention.policy(hold_down))
            };
            let mut policies = group.snapshots.iter().map(|(info, _)| of_job(info));
            let first = policies.next().flatten();
            if policies.any(|other| other != first) {
                let what = format!("{} has jobs with different policies", name_of(&group.key));
                return Err(Failure::new(Kind::User, what)
                    .hint("group by job too, or give one policy with --keep options"));
            }
            first
        }
    };
    if let (Some(policy), Some(hold_down)) = (&mut policy, args.keep.hold_down) {
        policy.hold_down = hold_down;
    }
    Ok(policy)
}

fn end(outcome: Outcome<'_>) -> Result<Exit, Failure> {
    let none_judged = outcome.plans.is_empty();
    let Some((key, error)) = outcome.refused.into_iter().next() else { return Ok(Exit::Ok) };
    let mut failure = Failure::from(error);
    failure.message = format!("{}: {}", name_of(&key), failure.message);
    if !none_judged {
        failure.kind = Kind::Incomplete;
    }
    Err(failure)
}

fn name_of(key: &GroupKey) -> String {
    let shown = |text: &String| bytes::display(text.as_bytes());
    let mut parts: Vec<String> = Vec::new();
    parts.extend(key.host.iter().map(|host| format!("host {}", shown(host))));
    parts.extend(key.job.iter().map(|job| format!("job {}", shown(job))));
    parts.extend(key.tags.iter().map(|tags| match tags.is_empty() {
        true => "no tags".to_owned(),
        false => format!("tags {}", tags.iter().map(shown).collect::<Vec<_>>().join(",")),
    }));
    if parts.is_empty() { "all snapshots".to_owned() } else { parts.join(", ") }
}

fn tell(
    outcome: &Outcome<'_>,
    records: &[Option<ObjectHash>],
    args: &ForgetArgs,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(outcome, records, args.dry_run));
    }
    for plan in &outcome.plans {
        let goes = plan.goes().count();
        let stays = plan.verdicts.len() - goes;
        let name = name_of(&plan.key);
        if args.dry_run {
            out.line(&format!("{name}: {}", bytes::display(plan.rule.as_bytes())))?;
            table(plan).write(out)?;
            out.line(&format!("would keep {}, forget {}\n", count(stays as u64), count(goes as u64)))?;
        } else {
            let mut text = format!("{name}: forgot {}", count(goes as u64));
            if args.snapshots.is_empty() {
                write!(text, ", kept {}", count(stays as u64)).expect("writing to a string cannot fail");
            }
            out.summary(&text)?;
        }
    }
    if outcome.plans.is_empty() && outcome.refused.is_empty() {
        out.remark("there is no snapshot to judge");
    }
    for key in &outcome.left_alone {
        out.remark(&format!("{}: no policy in mailark.toml: left alone", name_of(key)));
    }
    for (key, error) in outcome.refused.iter().skip(1) {
        complain(&format!("mailark: {}: {error}\n", name_of(key)));
    }
    if records.iter().any(Option::is_some) {
        out.remark("'mailark prune' frees the space");
    }
    Ok(())
}

fn reasons(verdict: &Verdict<'_>) -> Vec<String> {
    verdict.reasons.iter().map(ToString::to_string).collect()
}

fn table(plan: &Plan<'_>) -> Table {
    let mut table = Table::new(&[
        ("", Side::Left),
        ("ID", Side::Left),
        ("RECEIVED", Side::Left),
        ("HOST", Side::Left),
        ("JOB", Side::Left),
        ("KEPT BY", Side::Left),
    ]);
    for verdict in &plan.verdicts {
        let (info, reasons) = (verdict.info, reasons(verdict));
        let suspect = if info.snapshot.suspect.is_some() { " (suspect)" } else { "" };
        table.row(vec![
            (if reasons.is_empty() { "forget" } else { "keep" }).to_owned(),
            info.hash.short(),
            local_time(verdict.at),
            bytes::display(info.snapshot.host_name.as_bytes()),
            bytes::display(info.snapshot.job.as_bytes()),
            format!("{}{suspect}", reasons.join(", ")),
        ]);
    }
    table
}

fn as_json(outcome: &Outcome<'_>, records: &[Option<ObjectHash>], dry_run: bool) -> Value {
    let group = |key: &GroupKey| json!({ "host": key.host, "job": key.job, "tags": key.tags });
    let snapshot = |verdict: &Verdict<'_>| {
        json!({
            "id": verdict.info.hash.to_string(),
            "host": verdict.info.snapshot.host_name,
            "job": verdict.info.snapshot.job,
            "received": rfc3339(verdict.at),
            "suspect": verdict.info.snapshot.suspect,
            "reasons": reasons(verdict),
        })
    };
    let plans: Vec<Value> = outcome
        .plans
        .iter()
        .zip(records)
        .map(|(plan, record)| {
            let (forget, keep): (Vec<_>, Vec<_>) =
                plan.verdicts.iter().partition(|verdict| verdict.reasons.is_empty());
            json!({
                "group": group(&plan.key),
                "rule": plan.rule,
                "keep": keep.into_iter().map(snapshot).collect::<Vec<_>>(),
                "forget": forget.into_iter().map(snapshot).collect::<Vec<_>>(),
                "record": record.map(|hash| hash.to_string()),
            })
        })
        .collect();
    let refused: Vec<Value> = outcome
        .refused
        .iter()
        .map(|(key, error)| json!({ "group": group(key), "problem": error.to_string() }))
        .collect();
    json!({
        "dry_run": dry_run,
        "groups": plans,
        "left_alone": outcome.left_alone.iter().map(group).collect::<Vec<_>>(),
        "refused": refused,
    })
}
