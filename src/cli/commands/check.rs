//! `mailark check`: is everything there, and whole?

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::ops::check::{self, Finding, Options, ReadData, Report};

/// Look for damage in the repository: every snapshot, page and index; with --read-data every stored byte.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Read and verify all stored content too
    #[arg(long, conflicts_with = "read_data_subset")]
    pub read_data: bool,
    /// Read and verify a share of the content: `5%` at random, or the n-th of t equal shares
    #[arg(long, value_name = "5%|n/t")]
    pub read_data_subset: Option<Subset>,
}

/// A share of all packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// This part of all packs, chosen at random; more than 0, at most 100.
    Percent(f64),
    /// The share `part` of `of`, counted from 1, so that `of` runs read everything once.
    Share {
        /// Which share, from 1.
        part: u32,
        /// How many shares.
        of: u32,
    },
}

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = if let Some(number) = text.strip_suffix('%') {
            number.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0).map(Subset::Percent)
        } else {
            text.split_once('/')
                .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)))
                .filter(|(part, of)| (1..=*of).contains(part))
                .map(|(part, of)| Subset::Share { part, of })
        };
        parsed.ok_or_else(|| format!("'{text}' is neither a percentage like 5% nor a share like 1/7"))
    }
}

/// Checks the repository.
pub fn run(args: &CheckArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let read_data = match (args.read_data, args.read_data_subset) {
        (true, _) => ReadData::All,
        (false, Some(Subset::Percent(percent))) => ReadData::Percent(percent),
        (false, Some(Subset::Share { part, of })) => ReadData::Share { part: part.into(), of: of.into() },
        (false, None) => ReadData::No,
    };
    let options = Options { read_data, workers: session::workers() };
    let meter = Meter::start("check", context.output.manner());
    let outcome = check::run(&session.repository, &session.index, options, &meter, context.interrupt);
    meter.finish();
    let mut report = outcome?;
    // The session's own listing: it also moves on what this client remembers.
    for text in session.look()?.1 {
        complain(&format!("mailark: {text}\n"));
        report.findings.push(Finding { object: "snapshots".to_owned(), text });
    }
    tell(&report, context)?;
    Ok(if report.findings.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn tell(report: &Report, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report));
    }
    out.summary(&format!(
        "checked {} snapshots, {} pages, {} blobs, {} packs ({}) in {}",
        count(report.snapshots),
        count(report.pages),
        count(report.blobs),
        count(report.packs),
        size(report.pack_bytes),
        duration(report.duration)
    ))?;
    match report.packs_read {
        0 => out.summary("stored content was not read: --read-data does that")?,
        packs => {
            out.summary(&format!("read and verified {} packs ({})", count(packs), size(report.bytes_read)))?
        }
    }
    if report.orphan_packs > 0 {
        let packs = count(report.orphan_packs);
        out.summary(&format!("{packs} packs of interrupted runs are not in use (harmless)"))?;
    }
    if report.replaced_packs > 0 {
        let packs = count(report.replaced_packs);
        out.summary(&format!("{packs} lost packs were stored again since (harmless)"))?;
    }
    if report.foreign > 0 {
        out.summary(&format!(
            "{} objects of other hosts could not be opened with this key",
            count(report.foreign)
        ))?;
    }
    if report.findings.is_empty() {
        return out.summary("no damage found");
    }
    complain(&format!(
        "mailark: {} findings. Everything that is not named above is whole and can be restored. What to do: make a \
         copy of the repository; move damaged packs out of its packs/ folder; back up again: what the source still \
         has is stored anew, and the next check names what is truly lost.\n",
        count(report.findings.len() as u64)
    ));
    Ok(())
}

fn as_json(report: &Report) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| json!({ "object": finding.object, "problem": finding.text }))
        .collect();
    json!({
        "snapshots": report.snapshots,
        "pages": report.pages,
        "blobs": report.blobs,
        "deltas": report.deltas,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "orphan_packs": report.orphan_packs,
        "replaced_packs": report.replaced_packs,
        "foreign": report.foreign,
        "findings": findings,
        "seconds": report.duration.as_secs_f64(),
    })
}
