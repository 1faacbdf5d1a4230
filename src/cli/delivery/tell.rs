//! What deliveries did, told to people and programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{complain, count, insert_name, size};
use crate::ops::deliver::{FlagReport, Report};

/// Lines of a kind that people are shown.
const LINES_SHOWN: usize = 20;

/// Tells what deliveries did, or would do, and how that ends.
pub fn tell(reports: &[(String, Report)], dry_run: bool, context: &Context<'_>) -> Result<Exit, Failure> {
    let out = context.output;
    if out.manner().json {
        let all: Vec<Value> = reports.iter().map(|(user, report)| as_json(user, report, dry_run)).collect();
        out.json(&json!({ "deliveries": all }))?;
    } else {
        for (user, report) in reports {
            tell_one(user, report, dry_run, context)?;
        }
    }
    let problems: u64 = reports.iter().map(|(_, report)| report.problem_count).sum();
    if problems > 0 {
        let lines = reports.iter().flat_map(|(_, report)| &report.problems).take(LINES_SHOWN);
        for line in lines.filter(|_| !out.manner().json) {
            complain(&format!("mailark: {}\n", bytes::display(line.as_bytes())));
        }
        complain(&format!("mailark: {} problems: not all messages were brought\n", count(problems)));
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Ok)
}

fn tell_one(user: &str, report: &Report, dry_run: bool, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    let say = |text: &str| if dry_run { out.line(text) } else { out.summary(text) };
    let (user, shown) = (bytes::display(user.as_bytes()), |text: &str| bytes::display(text.as_bytes()));
    let verb = if dry_run { "would bring" } else { "brought" };
    for (folder, number) in &report.brought {
        say(&format!("{verb} {} messages of {user} into {}", count(*number), shown(folder)))?;
    }
    if report.brought.is_empty() {
        say(&format!("nothing to bring to {user}"))?;
    }
    if report.resumed {
        say(&format!("an interrupted run was taken up; it had brought {}", count(report.brought_before)))?;
    }
    for (folder, name) in &report.respelled {
        say(&format!("folder {} comes as {}", shown(folder), shown(name)))?;
    }
    for there in report.still_there.iter().take(LINES_SHOWN) {
        say(&format!("still there, in {}: {}", shown(&there.lies_in), bytes::display(&there.base)))?;
    }
    let more = report.still_there_count.saturating_sub(LINES_SHOWN as u64);
    if more > 0 {
        say(&format!("and {} more that are still there; --json lists them", count(more)))?;
    }
    if report.renamed > 0 {
        say(&format!("{} under a new name: theirs has another content now", count(report.renamed)))?;
    }
    if report.renumbered > 0 {
        say(&format!(
            "{} under a new name: under theirs the mail server would give them UIDs that clients saw go",
            count(report.renumbered)
        ))?;
    }
    if report.undeleted > 0 {
        say(&format!(
            "{} without their mark as deleted, or the next expunge would take them",
            count(report.undeleted)
        ))?;
    }
    tell_keywords(&report.keywords_left, report.doveadm_failed.as_deref());
    for folder in &report.not_subscribed {
        complain(&format!("mailark: {} is not subscribed: subscriptions.lock is held\n", shown(folder)));
    }
    if report.is_open {
        say("the run is not finished: new folders appear when the same command has gone on to its end")?;
    }
    for run in &report.open_runs {
        say(&format!(
            "run {run} was interrupted: its command goes on with it, 'mailark restore --undo {run}' drops it"
        ))?;
    }
    if let Some(run) = report.run.as_ref().filter(|_| !dry_run) {
        say(&format!(
            "{} brought; 'mailark restore --undo {run}' takes them away again",
            size(report.bytes)
        ))?;
    }
    Ok(())
}

fn as_json(user: &str, report: &Report, dry_run: bool) -> Value {
    let there = report.still_there.iter().map(|there| {
        let mut line = serde_json::Map::new();
        line.insert("folder".to_owned(), there.folder.clone().into());
        line.insert("lies_in".to_owned(), there.lies_in.clone().into());
        insert_name(&mut line, "base", &there.base);
        Value::Object(line)
    });
    json!({
        "user": user,
        "run": report.run,
        "dry_run": dry_run,
        "resumed": report.resumed,
        "finished": !report.is_open,
        "brought": report.brought_count(),
        "bytes": report.bytes,
        "folders": report.brought,
        "brought_before": report.brought_before,
        "respelled": report.respelled,
        "still_there_count": report.still_there_count,
        "still_there": there.collect::<Vec<_>>(),
        "renamed": report.renamed,
        "renumbered": report.renumbered,
        "undeleted": report.undeleted,
        "keywords_left": report.keywords_left,
        "doveadm_failed": report.doveadm_failed,
        "not_subscribed": report.not_subscribed,
        "open_runs": report.open_runs,
        "problem_count": report.problem_count,
        "problems": report.problems,
    })
}

/// Tells of keywords that were not set.
fn tell_keywords(left: &BTreeMap<String, u64>, failed: Option<&str>) {
    for (keyword, number) in left {
        let number = count(*number);
        complain(&format!(
            "mailark: keyword {keyword} not set on {number} messages: their folder does not know it yet\n"
        ));
    }
    match failed {
        Some(text) => complain(&format!("mailark: {}\n", bytes::display(text.as_bytes()))),
        None if !left.is_empty() => {
            complain("hint: with --doveadm COMMAND, or doveadm in mailark.toml, the mail server sets them\n");
        }
        None => {}
    }
}

/// Tells which flags were given back, or would be, and how that ends.
pub fn tell_flags(
    reports: &[(String, FlagReport)],
    dry_run: bool,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let out = context.output;
    if out.manner().json {
        let all: Vec<Value> =
            reports.iter().map(|(user, report)| flags_as_json(user, report, dry_run)).collect();
        out.json(&json!({ "flags": all }))?;
    }
    let problems: Vec<&String> = reports.iter().flat_map(|(_, report)| &report.problems).collect();
    let exit = if problems.is_empty() { Exit::Ok } else { Exit::Incomplete };
    if out.manner().json {
        return Ok(exit);
    }
    for line in problems {
        complain(&format!("mailark: {}\n", bytes::display(line.as_bytes())));
    }
    let say = |text: &str| if dry_run { out.line(text) } else { out.summary(text) };
    let verb = if dry_run { "would set" } else { "set" };
    for (user, report) in reports {
        let user = bytes::display(user.as_bytes());
        for (folder, number) in &report.set {
            let folder = bytes::display(folder.as_bytes());
            say(&format!("{verb} the flags of {} messages of {user} in {folder}", count(*number)))?;
        }
        for (number, what) in [
            (report.same, "have them already"),
            (report.gone, "are not in the mailbox any more"),
            (report.unclear, "left alone: copies lie in several folders, and none in that one"),
        ] {
            if number > 0 {
                say(&format!("{} {what}", count(number)))?;
            }
        }
        tell_keywords(&report.keywords_left, report.doveadm_failed.as_deref());
        if let Some(run) = &report.run {
            say(&format!("'mailark restore --undo {run}' turns them back"))?;
        }
    }
    Ok(exit)
}

fn flags_as_json(user: &str, report: &FlagReport, dry_run: bool) -> Value {
    json!({
        "user": user,
        "run": report.run,
        "dry_run": dry_run,
        "set": report.set.values().sum::<u64>(),
        "folders": report.set,
        "same": report.same,
        "gone": report.gone,
        "unclear": report.unclear,
        "problems": report.problems,
        "keywords_left": report.keywords_left,
        "doveadm_failed": report.doveadm_failed,
    })
}
