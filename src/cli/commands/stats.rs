//! `mailark stats`: what is stored, and what it costs.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::commands::snapshots::as_json;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, Side, Table, count, size};
use crate::cli::selection::{Selector, SnapshotFilter, selector};
use crate::cli::session::Session;
use crate::format::content::BlobKind;
use crate::format::snapshot::{PartType, Totals};
use crate::ops::stats::{self, RepositoryStats};
use crate::repo::snapshots::SnapshotInfo;

/// Count messages, attachments and bytes, and what they cost in the repository.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Count one snapshot; none to count the repository
    #[arg(value_name = "SNAPSHOT", value_parser = selector())]
    pub snapshot: Option<Selector>,
    /// Which snapshots count.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// Counts.
pub fn run(args: &StatsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let listed = session.snapshots()?;
    let filter = args.filter.to_filter();
    let out = context.output;
    if let Some(selector) = &args.snapshot {
        let info = session.resolve(&listed, selector.text(), &filter)?;
        match out.manner().json {
            true => out.json(&as_json(info))?,
            false => tell_snapshot(info, out)?,
        }
        return Ok(Exit::Ok);
    }
    session.sync()?;
    let all = listed.snapshots.len();
    let counted: Vec<SnapshotInfo> = listed.snapshots.into_iter().filter(|info| filter.fits(info)).collect();
    let whole = counted.len() == all && listed.foreign == 0;
    let stats = stats::run(&session.repository, &session.index, &counted, whole)?;
    if out.manner().json {
        out.json(&stats_json(&stats))?
    } else {
        tell_repository(&stats, out)?
    }
    Ok(Exit::Ok)
}

fn tell_snapshot(info: &SnapshotInfo, out: &Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("TYPE", Side::Left),
        ("MESSAGES", Side::Right),
        ("FILES", Side::Right),
        ("FOLDERS", Side::Right),
        ("SIZE", Side::Right),
        ("PROBLEMS", Side::Right),
        ("PATH", Side::Left),
    ]);
    let mut row = |name: &str, totals: Totals, problems: u64, path: String| {
        table.row(vec![
            name.to_owned(),
            count(totals.messages),
            count(totals.files),
            count(totals.folders),
            size(totals.bytes),
            count(problems),
            path,
        ]);
    };
    let snapshot = &info.snapshot;
    for part in &snapshot.parts {
        let name = match part.part_type {
            PartType::Mail => "mail",
            PartType::Config => "config",
            PartType::UserDb => "userdb",
            PartType::Queue => "queue",
            PartType::Keys => "keys",
            PartType::Logs => "logs",
            PartType::Stream => "stream",
        };
        row(name, part.tree.totals, part.problems, bytes::display(&part.path));
    }
    if snapshot.parts.len() != 1 {
        row("all", snapshot.totals(), snapshot.problem_count, String::new());
    }
    let name = bytes::display(format!("{} {}", snapshot.host_name, snapshot.job).as_bytes());
    out.line(&format!("snapshot {} of {name}", info.hash.short()))?;
    table.write(out)
}

fn kind_name(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Head => "head",
        BlobKind::Text => "text",
        BlobKind::Attachment => "attachment",
        BlobKind::File => "file",
        BlobKind::State => "state",
        BlobKind::Tree => "tree",
    }
}

fn tell_repository(stats: &RepositoryStats, out: &Output) -> Result<(), Failure> {
    let (snapshots, logical) = (count(stats.snapshots), size(stats.logical.bytes));
    out.line(&format!(
        "snapshots   {snapshots} of {} hosts and {} jobs",
        count(stats.hosts),
        count(stats.jobs)
    ))?;
    out.line(&format!(
        "newest      {} messages, {} files, {}",
        count(stats.newest.messages),
        count(stats.newest.files),
        size(stats.newest.bytes)
    ))?;
    out.line(&format!("stored      {} in {} packs", size(stats.stored_bytes()), count(stats.packs)))?;
    if let Some(ratio) = stats.ratio() {
        out.line(&format!("ratio       {ratio:.1} : 1 (all snapshots together are {logical})"))?;
    }
    if let Some(bytes) = stats.overhead_per_message() {
        let overhead = size(stats.overhead_bytes());
        out.line(&format!(
            "overhead    {overhead} for listings, index and pack footers: {bytes:.0} bytes a message"
        ))?;
    }
    if stats.unknown_packs > 0 {
        out.line(&format!(
            "not counted {} packs of other hosts or of interrupted runs",
            count(stats.unknown_packs)
        ))?;
    }
    out.line("")?;
    let columns = [
        ("KIND", Side::Left),
        ("BLOBS", Side::Right),
        ("PLAIN", Side::Right),
        ("STORED", Side::Right),
        ("RATIO", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for kind in BlobKind::ALL {
        let of_kind = stats.kinds[kind as usize];
        if of_kind.blobs == 0 {
            continue;
        }
        let ratio = of_kind.plain_bytes as f64 / of_kind.stored_bytes.max(1) as f64;
        let (plain, stored) = (size(of_kind.plain_bytes), size(of_kind.stored_bytes));
        table.row(vec![
            kind_name(kind).to_owned(),
            count(of_kind.blobs),
            plain,
            stored,
            format!("{ratio:.1}"),
        ]);
    }
    for (name, bytes) in [
        ("footers", stats.footer_bytes),
        ("padding", stats.padding_bytes),
        ("index", stats.delta_bytes),
        ("snapshots", stats.snapshot_bytes),
        ("other", stats.other_bytes),
    ] {
        table.row(vec![name.to_owned(), String::new(), String::new(), size(bytes)]);
    }
    table.write(out)
}

fn stats_json(stats: &RepositoryStats) -> Value {
    let kinds: Map<String, Value> = BlobKind::ALL
        .iter()
        .map(|&kind| {
            let of_kind = stats.kinds[kind as usize];
            let value = json!({
                "blobs": of_kind.blobs, "plain_bytes": of_kind.plain_bytes, "stored_bytes": of_kind.stored_bytes,
            });
            (kind_name(kind).to_owned(), value)
        })
        .collect();
    let sums = |totals: &Totals| {
        json!({
            "messages": totals.messages, "files": totals.files, "folders": totals.folders, "bytes": totals.bytes,
        })
    };
    json!({
        "snapshots": stats.snapshots,
        "hosts": stats.hosts,
        "jobs": stats.jobs,
        "all_snapshots": sums(&stats.logical),
        "newest_snapshots": sums(&stats.newest),
        "packs": stats.packs,
        "unknown_packs": stats.unknown_packs,
        "stored_bytes": stats.stored_bytes(),
        "pack_bytes": stats.pack_bytes,
        "index_bytes": stats.delta_bytes,
        "snapshot_bytes": stats.snapshot_bytes,
        "other_bytes": stats.other_bytes,
        "footer_bytes": stats.footer_bytes,
        "padding_bytes": stats.padding_bytes,
        "overhead_bytes": stats.overhead_bytes(),
        "overhead_bytes_per_message": stats.overhead_per_message(),
        "ratio": stats.ratio(),
        "kinds": kinds,
    })
}
