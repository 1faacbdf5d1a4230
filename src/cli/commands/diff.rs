//! `mailark diff`: what changed.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::base::bytes;
use crate::base::id::BlobId;
use crate::cli::commands::Context;
use crate::cli::commands::restore::wanted_path;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Output, complain, count, insert_name, size};
use crate::cli::selection::{SnapshotFilter, SnapshotPath, snapshot_path};
use crate::cli::session::Session;
use crate::format::snapshot::Totals;
use crate::ops::diff::{self, Change, ChangeKind, Options, Side, Summary};
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::view;

/// Show what changed from A to B.
///
/// Each line begins with a letter: + added, - removed, M other content, U other mode, owner or time (with
/// --metadata), F a message whose flags changed or that moved from new to cur, ? a listing that cannot be read.
/// A path given for one side counts for both.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The older snapshot, or a path in it
    #[arg(value_name = "A[:PATH]", value_parser = snapshot_path())]
    pub a: SnapshotPath,
    /// The newer snapshot, or a path in it
    #[arg(value_name = "B[:PATH]", value_parser = snapshot_path())]
    pub b: SnapshotPath,
    /// Which snapshots `latest` considers.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Show changed modes, owners and times too
    #[arg(long)]
    pub metadata: bool,
}

/// Compares.
pub fn run(args: &DiffArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let path =
        |own: &SnapshotPath, other: &SnapshotPath| wanted_path(own.path.as_deref().or(other.path.as_deref()));
    let wanted = [path(&args.a, &args.b)?, path(&args.b, &args.a)?];
    let session = Session::open(context)?;
    session.sync()?;
    let listed = session.snapshots()?;
    let filter = args.filter.to_filter();
    let a = session.resolve(&listed, args.a.snapshot.text(), &filter)?;
    let b = session.resolve(&listed, args.b.snapshot.text(), &filter)?;
    let readers = [session.reader(a)?, session.reader(b)?];
    let fetches = readers.each_ref().map(|reader| move |id: &BlobId| reader.page(id));
    let mut unreadable = false;
    let mut tops = Vec::new();
    for ((reader, info), wanted) in readers.iter().zip([a, b]).zip(&wanted) {
        tops.push(look_up(reader, info, wanted, &mut unreadable)?);
    }
    let [left_base, right_base] = wanted;
    let (right_tops, left_tops) = (tops.pop().unwrap_or_default(), tops.pop().unwrap_or_default());
    let left = Side { base: left_base, tops: left_tops, fetch: &fetches[0] };
    let right = Side { base: right_base, tops: right_tops, fetch: &fetches[1] };
    let options = Options { metadata: args.metadata, comparable: a.domain == b.domain };
    if !options.comparable {
        context
            .output
            .remark("the snapshots are of different domains: contents are compared by size and time");
    }
    let mut tell = |change: Change| tell(&change, context.output);
    let summary = diff::run([&left, &right], options, context.interrupt, &mut tell)?;
    summarize(&summary, [a, b], context.output)?;
    Ok(if unreadable || summary.unreadable > 0 { Exit::Failed } else { Exit::Ok })
}

type Tops = Vec<(Vec<u8>, crate::format::page::Entry)>;

fn look_up(
    reader: &BlobReader<'_>,
    info: &SnapshotInfo,
    wanted: &[u8],
    unreadable: &mut bool,
) -> Result<Tops, Failure> {
    let tops = view::tops(reader, &info.snapshot, wanted);
    for (path, error) in &tops.broken {
        *unreadable = true;
        complain(&format!("mailark: {}: {error}\n", bytes::display(path)));
    }
    if tops.entries.is_empty() && wanted != b"/" && tops.broken.is_empty() {
        let what = format!("snapshot {} holds nothing at {}", info.hash.short(), bytes::display(wanted));
        return Err(
            Failure::new(Kind::User, what).hint(format!("'mailark ls {}' shows its top", info.hash.short()))
        );
    }
    Ok(tops.entries)
}

fn tell(change: &Change, out: &Output) -> Result<(), Failure> {
    if let ChangeKind::Unreadable(error) = &change.kind {
        complain(&format!("mailark: {}: {error}\n", bytes::display(&change.path)));
    }
    if out.manner().json {
        return out.json(&as_json(change));
    }
    let shown = bytes::display(&change.path);
    let slash = if change.folder { "/" } else { "" };
    let letter = match &change.kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Content => 'M',
        ChangeKind::Metadata => 'U',
        ChangeKind::Flags(to) => {
            // The Maildir is the same: its `cur` or `new`, and the name, are enough.
            let mut cuts =
                to.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
            let short = &to[cuts.nth(1).unwrap_or(0)..];
            return out.line(&format!("F {shown} -> {}", bytes::display(short)));
        }
        ChangeKind::Unreadable(_) => '?',
    };
    out.line(&format!("{letter} {shown}{slash}"))
}

fn as_json(change: &Change) -> Value {
    let mut object = Map::new();
    object.insert("type".to_owned(), "change".into());
    let name = match &change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Content => "content",
        ChangeKind::Metadata => "metadata",
        ChangeKind::Flags(_) => "flags",
        ChangeKind::Unreadable(_) => "unreadable",
    };
    object.insert("change".to_owned(), name.into());
    insert_name(&mut object, "path", &change.path);
    match &change.kind {
        ChangeKind::Flags(to) => insert_name(&mut object, "to", to),
        ChangeKind::Unreadable(error) => drop(object.insert("problem".to_owned(), error.as_str().into())),
        _ => {}
    }
    object.insert("folder".to_owned(), change.folder.into());
    object.insert("size_before".to_owned(), change.size_before.into());
    object.insert("size".to_owned(), change.size.into());
    object.into()
}

fn summarize(summary: &Summary, [a, b]: [&SnapshotInfo; 2], out: &Output) -> Result<(), Failure> {
    if out.manner().json {
        let sums = |totals: &Totals| {
            json!({
                "files": totals.files, "folders": totals.folders, "bytes": totals.bytes, "messages": totals.messages,
            })
        };
        return out.json(&json!({
            "type": "summary",
            "a": a.hash.to_string(),
            "b": b.hash.to_string(),
            "added": sums(&summary.added),
            "removed": sums(&summary.removed),
            "content": summary.content,
            "metadata": summary.metadata,
            "flags": summary.flags,
            "unreadable": summary.unreadable,
        }));
    }
    if summary.is_empty() {
        let also = match summary.metadata {
            0 => String::new(),
            number => {
                format!(", but {} entries have another mode, owner or time (--metadata)", count(number))
            }
        };
        return out.line(&format!("no difference between {} and {}{also}", a.hash.short(), b.hash.short()));
    }
    let sums = |totals: &Totals| {
        format!(
            "{} files, {} of them messages, {} folders, {}",
            count(totals.files),
            count(totals.messages),
            count(totals.folders),
            size(totals.bytes)
        )
    };
    out.line("")?;
    out.line(&format!("from {} to {}", a.hash.short(), b.hash.short()))?;
    out.line(&format!("added:    {}", sums(&summary.added)))?;
    out.line(&format!("removed:  {}", sums(&summary.removed)))?;
    let rest = [
        (summary.content, "other content"),
        (summary.flags, "other flags"),
        (summary.metadata, "other mode, owner or time"),
        (summary.unreadable, "listings that cannot be read: what they hold was not compared"),
    ];
    let rest: Vec<String> = rest
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    if rest.is_empty() { Ok(()) } else { out.line(&format!("changed:  {}", rest.join(", "))) }
}
