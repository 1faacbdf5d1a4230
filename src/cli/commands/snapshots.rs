//! `mailark snapshots`: what there is.

use std::collections::HashMap;

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::id::ObjectHash;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Side, Table, count, insert_name, local_time, rfc3339, size};
use crate::cli::selection::SnapshotFilter;
use crate::cli::session::{self, Session};
use crate::repo::snapshots::{self, DropReason, SnapshotInfo};

/// List snapshots, oldest first.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Which snapshots to list.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// List the newest N of each host and job only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub latest: Option<u32>,
    /// List forgotten ones too, and those written anew, until they are pruned
    #[arg(long, conflicts_with = "latest")]
    pub all: bool,
}

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
        table(&chosen, &dropped).write(context.output)?;
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

fn table(snapshots: &[&SnapshotInfo], dropped: &Dropped) -> Table {
    let mut table = Table::new(&[
        ("ID", Side::Left),
        ("TIME", Side::Left),
        ("HOST", Side::Left),
        ("JOB", Side::Left),
        ("MESSAGES", Side::Right),
        ("SIZE", Side::Right),
        ("NOTES", Side::Left),
    ]);
    for info in snapshots {
        let (snapshot, totals) = (&info.snapshot, info.snapshot.totals());
        let mut notes: Vec<String> = snapshot.tags.iter().map(|tag| bytes::display(tag.as_bytes())).collect();
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
