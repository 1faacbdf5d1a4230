//! `mailark snapshots`: what there is.

use std::collections::HashMap;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::id::{HostId, ObjectHash};
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Side, Table, count, in_zone, insert_name, local_time, rfc3339, size};
use crate::cli::selection::SnapshotFilter;
use crate::cli::session::{self, Session};
use crate::repo::snapshots::{self, DropReason, SnapshotInfo};

/// List snapshots, oldest first.
///
/// What 'backup --follow' made in one hour, or before the last day in one day, is one line, which shows the last of it;
/// --all, --latest and --json list each.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Which snapshots to list.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// List the newest N of each host and job only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub latest: Option<u32>,
    /// List each one of 'backup --follow', and forgotten ones too, and those written anew, until they are pruned
    #[arg(long, conflicts_with = "latest")]
    pub all: bool,
}

const DAY_NANOS: i64 = 86_400_000_000_000;

/// Lists snapshots.
pub fn run(args: &SnapshotsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let (listed, lost) = session.look()?;
    session::complain_of(&listed, &lost);
    let filter = args.filter.to_filter();
    let mut chosen: Vec<&SnapshotInfo> = listed.snapshots.iter().filter(|info| filter.fits(info)).collect();
    if let Some(newest) = args.latest {
        keep_newest(&mut chosen, newest);
    }
    let dropped = match args.all {
        true => snapshots::dropped(&session.repository, &listed)?,
        false => Vec::new(),
    };
    chosen.extend(dropped.iter().map(|(info, _)| info).filter(|info| filter.fits(info)));
    chosen.sort_by_key(|info| (info.snapshot.started, info.sequence));
    let dropped: Dropped = dropped.iter().map(|(info, reason)| (info.hash, word(*reason))).collect();
    if context.output.manner().json {
        let with_reason = |info: &&SnapshotInfo| {
            let mut value = as_json(info);
            value["dropped"] = dropped.get(&info.hash).copied().into();
            value
        };
        context.output.json(&chosen.iter().map(with_reason).collect::<Vec<_>>())?;
    } else {
        let lines = match args.all || args.latest.is_some() {
            true => chosen.iter().map(|info| Line::of_one(info)).collect(),
            false => collapsed(&chosen, &TimeZone::system()),
        };
        table(&lines, &dropped).write(context.output)?;
        if listed.foreign > 0 {
            context
                .output
                .remark(&format!("{} snapshots of other hosts are not for this key", listed.foreign));
        }
    }
    Ok(if listed.unusable.is_empty() && lost.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Snapshots that count no longer, and why.
type Dropped = HashMap<ObjectHash, &'static str>;

fn word(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Forgotten => "forgotten",
        DropReason::Replaced => "replaced",
    }
}

fn keep_newest(chosen: &mut Vec<&SnapshotInfo>, newest: u32) {
    let mut kept: HashMap<(String, String), u32> = HashMap::new();
    let mut keep: Vec<bool> = chosen
        .iter()
        .rev()
        .map(|info| {
            let seen = kept.entry((info.snapshot.host_name.clone(), info.snapshot.job.clone())).or_default();
            *seen += 1;
            *seen <= newest
        })
        .collect();
    keep.reverse();
    let mut keep = keep.into_iter();
    chosen.retain(|_| keep.next().unwrap_or(true));
}

/// A line of the list.
struct Line<'a> {
    /// The snapshot, or the last of several.
    info: &'a SnapshotInfo,
    /// How many, and when the first began.
    several: Option<(u64, i64)>,
}

impl<'a> Line<'a> {
    fn of_one(info: &'a SnapshotInfo) -> Line<'a> {
        Line { info, several: None }
    }
}

/// Puts together what followers made in one hour, or before the last day in one day. What has something to tell stands
/// alone.
fn collapsed<'a>(chosen: &[&'a SnapshotInfo], zone: &TimeZone) -> Vec<Line<'a>> {
    let newest = chosen.iter().map(|info| info.snapshot.started).max().unwrap_or_default();
    let mut lines: Vec<Line<'a>> = Vec::new();
    let mut open: HashMap<(HostId, &str, String), usize> = HashMap::new();
    for &info in chosen {
        let snapshot = &info.snapshot;
        let is_plain = snapshot.suspect.is_none() && snapshot.problem_count == 0 && snapshot.tags.len() == 1;
        if !snapshot.is_of_follow() || !is_plain {
            lines.push(Line::of_one(info));
            continue;
        }
        let is_young = newest.saturating_sub(snapshot.started) < DAY_NANOS;
        let format = if is_young { "%Y-%m-%d %H %z" } else { "%Y-%m-%d" };
        let when = in_zone(snapshot.started.into(), format, zone);
        let line = *open.entry((info.host, &snapshot.job, when)).or_insert_with(|| {
            lines.push(Line::of_one(info));
            lines.len() - 1
        });
        let line = &mut lines[line];
        if line.info.hash != info.hash {
            let (count, first) = line.several.unwrap_or((1, line.info.snapshot.started));
            *line = Line { info, several: Some((count + 1, first)) };
        }
    }
    lines.sort_by_key(|line| (line.info.snapshot.started, line.info.sequence));
    lines
}

fn table(lines: &[Line<'_>], dropped: &Dropped) -> Table {
    let mut table = Table::new(&[
        ("ID", Side::Left),
        ("TIME", Side::Left),
        ("HOST", Side::Left),
        ("JOB", Side::Left),
        ("MESSAGES", Side::Right),
        ("SIZE", Side::Right),
        ("NOTES", Side::Left),
    ]);
    for Line { info, several } in lines {
        let (snapshot, totals) = (&info.snapshot, info.snapshot.totals());
        let mut notes: Vec<String> = snapshot.tags.iter().map(|tag| bytes::display(tag.as_bytes())).collect();
        if let Some((number, first)) = several {
            let (first, last) = (time_of_day(*first), time_of_day(snapshot.started));
            notes = vec![format!(
                "{} snapshots of --follow from {first} to {last}, this is the last",
                count(*number)
            )];
        }
        notes.extend(dropped.get(&info.hash).map(|why| why.to_uppercase()));
        if snapshot.problem_count > 0 {
            notes.push(format!("{} problems", snapshot.problem_count));
        }
        if let Some(why) = &snapshot.suspect {
            notes.push(format!("suspect: {why}"));
        }
        table.row(vec![
            info.hash.short(),
            local_time(snapshot.started.into()),
            bytes::display(snapshot.host_name.as_bytes()),
            bytes::display(snapshot.job.as_bytes()),
            count(totals.messages),
            size(totals.bytes),
            notes.join(", "),
        ]);
    }
    table
}

fn time_of_day(at: i64) -> String {
    in_zone(at.into(), "%H:%M", &TimeZone::system())
}

/// A snapshot for programs.
pub fn as_json(info: &SnapshotInfo) -> Value {
    let (snapshot, totals) = (&info.snapshot, info.snapshot.totals());
    let parts: Vec<Value> = snapshot
        .parts
        .iter()
        .map(|part| {
            let mut object = serde_json::Map::new();
            insert_name(&mut object, "path", &part.path);
            object.insert("messages".to_owned(), part.tree.totals.messages.into());
            object.insert("files".to_owned(), part.tree.totals.files.into());
            object.insert("bytes".to_owned(), part.tree.totals.bytes.into());
            object.insert("problems".to_owned(), part.problems.into());
            object.into()
        })
        .collect();
    json!({
        "id": info.hash.to_string(),
        "short_id": info.hash.short(),
        "time": rfc3339(snapshot.started.into()),
        "end": rfc3339(snapshot.ended.into()),
        "host": snapshot.host_name,
        "host_id": info.host.to_string(),
        "job": snapshot.job,
        "sequence": info.sequence,
        "parent": snapshot.previous.map(|hash| hash.to_string()),
        "tags": snapshot.tags,
        "messages": totals.messages,
        "files": totals.files,
        "folders": totals.folders,
        "bytes": totals.bytes,
        "problem_count": snapshot.problem_count,
        "vanished": snapshot.vanished,
        "suspect": snapshot.suspect,
        "program": snapshot.program,
        "parts": parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::format::snapshot::{FOLLOW_TAG, Snapshot};

    const NOON: i64 = 1_767_268_800;

    fn of_follow(number: u8, seconds: i64) -> SnapshotInfo {
        let (started, tags) = ((NOON + seconds) * 1_000_000_000, vec![FOLLOW_TAG.to_owned()]);
        let snapshot = Snapshot { started, tags, ..Snapshot::of_nothing() };
        SnapshotInfo::numbered(number.into(), snapshot)
    }

    /// Which snapshot each line shows, and for how many it stands.
    fn lines(all: &[SnapshotInfo]) -> Vec<(u64, u64)> {
        let chosen: Vec<&SnapshotInfo> = all.iter().collect();
        let lines = collapsed(&chosen, &TimeZone::UTC);
        lines.iter().map(|line| (line.info.sequence, line.several.map_or(1, |(number, _)| number))).collect()
    }

    #[test]
    fn an_hour_is_a_line_and_before_the_last_day_a_day() {
        let (hour, day) = (3_600, 86_400);
        let mut all: Vec<SnapshotInfo> = [
            -2 * day,
            -2 * day + hour,
            -2 * day + 2 * hour,
            -day + 1,
            -day + hour,
            -hour,
            -hour + 60,
            -60,
            0,
        ]
        .into_iter()
        .enumerate()
        .map(|(number, seconds)| of_follow(number as u8 + 1, seconds))
        .collect();
        assert_eq!(lines(&all), [(3, 3), (4, 1), (5, 1), (8, 3), (9, 1)]);
        // Others stand where they belong, and what has something to tell stands alone.
        all[6].snapshot.tags.clear();
        assert_eq!(lines(&all), [(3, 3), (4, 1), (5, 1), (7, 1), (8, 2), (9, 1)]);
        all[1].snapshot.suspect = Some("small".to_owned());
        all[8].snapshot.job = "other".to_owned();
        assert_eq!(lines(&all), [(2, 1), (3, 2), (4, 1), (5, 1), (7, 1), (8, 2), (9, 1)]);
        assert_eq!(lines(&[]), []);
    }
}
