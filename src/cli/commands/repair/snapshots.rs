//! `mailark repair snapshots`: what is lost for good, and snapshots without it.

use std::collections::HashMap;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::base::bytes;
use crate::base::id::ObjectHash;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Side, Table, complain, count, insert_name, local_time, rfc3339, size};
use crate::cli::progress::Meter;
use crate::cli::selection::SnapshotFilter;
use crate::cli::session::{self, Session};
use crate::ops::repair::snapshots::{self, LostFile, Options, Report};

/// Write snapshots anew without what is lost, and list what that is.
///
/// Comes last: 'repair index' and 'repair packs' may bring back what seems lost, and so may a backup of a source that
/// still has it. What can be read stays as it is. Ends with 3 when something is lost.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Read and verify all content too: finds what is there and damaged
    #[arg(long)]
    pub read_data: bool,
    /// Drop snapshots whose own object cannot be read
    #[arg(long)]
    pub drop_unreadable: bool,
    /// Say what is lost; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Repairs snapshots.
pub fn run(args: &SnapshotsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let options = Options {
        filter: args.filter.to_filter(),
        read_data: args.read_data,
        drop_unreadable: args.drop_unreadable,
        dry_run: args.dry_run,
    };
    let meter = Meter::start("repair", context.output.manner());
    let outcome = snapshots::run(&session.repository, &session.index, &options, &meter, context.interrupt);
    meter.finish();
    let report = outcome?;
    session::complain_of(&Default::default(), &session.look()?.1);
    tell(&report, &options, context)?;
    Ok(if report.is_whole() && report.unusable_deltas.is_empty() { Exit::Ok } else { Exit::Incomplete })
}

fn tell(report: &Report, options: &Options, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report, options));
    }
    for (place, why) in &report.unusable_deltas {
        complain(&format!("mailark: {place}: {why}: 'mailark repair index' comes first\n"));
    }
    for (place, why) in &report.unreadable {
        complain(&format!("mailark: {place}: {why}\n"));
    }
    for page in &report.pages {
        let folder = bytes::display(&page.folder);
        complain(&format!(
            "mailark: {folder}: a part of its listing is lost, whatever it held: {}\n",
            page.why
        ));
    }
    for (snapshot, hold, reason) in &report.held {
        let reason = bytes::display(reason.as_bytes());
        complain(&format!("mailark: snapshot {} stays as it is: hold {hold} ({reason})\n", snapshot.short()));
    }
    if report.is_whole() {
        return out.summary(&format!("nothing is lost in {} snapshots", count(report.looked_at)));
    }
    if !report.files.is_empty() {
        table(&report.files).write(out)?;
    }
    let there = report.files.iter().filter(|file| file.still_there.is_some()).count();
    let did = if options.dry_run { "would be written anew" } else { "were written anew" };
    complain(&format!(
        "mailark: {} files are lost, {there} of them stand elsewhere; {} of {} snapshots {did} without what is lost\n",
        count(report.files.len() as u64),
        count(report.rewritten.len() as u64),
        count(report.looked_at)
    ));
    match (report.unreadable.len() as u64, report.dropped) {
        (0, _) => {}
        (_, dropped @ 1..) => {
            complain(&format!("mailark: {} unreadable snapshots dropped\n", count(dropped)))
        }
        (unreadable, 0) => complain(&format!(
            "mailark: {} snapshots cannot be read at all: --drop-unreadable drops them\n",
            count(unreadable)
        )),
    }
    Ok(())
}

fn table(files: &[LostFile]) -> Table {
    let mut table = Table::new(&[
        ("SIZE", Side::Right),
        ("TIME", Side::Left),
        ("STILL IN", Side::Left),
        ("MAILBOX", Side::Left),
        ("LOST", Side::Left),
    ]);
    for file in files {
        let below = file.folder.strip_prefix(file.mailbox.as_slice()).unwrap_or(&file.folder);
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let still = match &file.still_there {
            Some((snapshot, path)) => format!("{}:{}", snapshot.short(), bytes::display(path)),
            None => "nowhere".to_owned(),
        };
        table.row(vec![
            size(file.size),
            local_time(i128::from(file.mtime_s) * 1_000_000_000),
            still,
            bytes::display(&file.mailbox),
            bytes::display(&[below, b"/".as_slice(), &file.name].concat()),
        ]);
    }
    table
}

fn as_json(report: &Report, options: &Options) -> Value {
    let made: HashMap<_, _> = report.made.iter().copied().collect();
    let files = report.files.iter().map(|file| {
        let mut object = Map::new();
        insert_name(&mut object, "mailbox", &file.mailbox);
        insert_name(&mut object, "folder", &file.folder);
        insert_name(&mut object, "name", &file.name);
        object.insert("bytes".to_owned(), file.size.into());
        object.insert("mtime".to_owned(), rfc3339(i128::from(file.mtime_s) * 1_000_000_000).into());
        object.insert("snapshot".to_owned(), file.snapshot.to_string().into());
        object.insert("problem".to_owned(), file.why.clone().into());
        let still = file.still_there.as_ref().map(|(snapshot, path)| {
            let mut still = Map::new();
            still.insert("snapshot".to_owned(), snapshot.to_string().into());
            insert_name(&mut still, "path", path);
            Value::Object(still)
        });
        object.insert("still_there".to_owned(), still.into());
        Value::Object(object)
    });
    let pages = report.pages.iter().map(|page| {
        let mut object = Map::new();
        insert_name(&mut object, "folder", &page.folder);
        object.insert("snapshot".to_owned(), page.snapshot.to_string().into());
        object.insert("problem".to_owned(), page.why.clone().into());
        Value::Object(object)
    });
    let object =
        |(place, why): &(crate::store::Place, String)| json!({ "object": place.to_string(), "problem": why });
    json!({
        "dry_run": options.dry_run,
        "looked_at": report.looked_at,
        "snapshots": report.rewritten.iter().map(|one| json!({
            "id": one.old.hash.to_string(),
            "new_id": made.get(&one.old.hash).map(ObjectHash::to_string),
            "files": one.taken().files,
            "messages": one.taken().messages,
            "bytes": one.taken().bytes,
        })).collect::<Vec<_>>(),
        "files": files.collect::<Vec<_>>(),
        "pages": pages.collect::<Vec<_>>(),
        "unreadable": report.unreadable.iter().map(object).collect::<Vec<_>>(),
        "dropped": report.dropped,
        "held": report.held.iter().map(|(snapshot, hold, reason)| {
            json!({ "snapshot": snapshot.to_string(), "hold": hold, "reason": reason })
        }).collect::<Vec<_>>(),
        "unusable_deltas": report.unusable_deltas.iter().map(object).collect::<Vec<_>>(),
    })
}
