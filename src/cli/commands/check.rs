//! `mailark check`: is everything there, and whole?

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::cli::verified::VerifiedFile;
use crate::format::keyset::Role;
use crate::format::record::Record;
use crate::ops::check::{self, Finding, Kind, Options, ReadData, Report, Subject, Verdict};
use crate::repo::ledger::Ledger;
use crate::repo::{RepoError, Repository, records};
use crate::store::StoreErrorKind;

/// Look for damage in the repository: every snapshot, page and index; with --read-data every stored byte.
///
/// Ends with one paragraph: whether mail is lost, what is wrong, and what to do in which order. This machine remembers
/// which packs it read when, so that repeated runs with `--read-data-subset 5%` read everything in turn. A check that
/// read content or found something is recorded in the repository, where `status` finds it.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Read and verify all stored content too
    #[arg(long, conflicts_with = "read_data_subset")]
    pub read_data: bool,
    /// Read and verify a share of the content: `5%` of it, what was read longest ago first, or the n-th of t equal
    /// shares
    #[arg(long, value_name = "5%|n/t")]
    pub read_data_subset: Option<Subset>,
    /// Leave no record of the result in the repository
    #[arg(long)]
    pub no_record: bool,
}

/// A share of all packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// This part of all bytes, in the packs that were read longest ago; more than 0, at most 100.
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
    let repository = &session.repository;
    let read_data = match (args.read_data, args.read_data_subset) {
        (true, _) => ReadData::All,
        (false, Some(Subset::Percent(percent))) => ReadData::Percent(percent),
        (false, Some(Subset::Share { part, of })) => ReadData::Share { part: part.into(), of: of.into() },
        (false, None) => ReadData::No,
    };
    let options = Options { read_data, workers: session::workers() };
    let verified = VerifiedFile::new(&context.settings.state_dir, repository.id(), repository.role());
    let mut memory = verified.load();
    let before = memory.clone();
    let meter = Meter::start("check", context.output.manner());
    let outcome = check::run(repository, &session.index, options, &mut memory, &meter, context.interrupt);
    meter.finish();
    // A read-only home must not keep anybody from checking.
    if memory != before
        && let Err(error) = verified.save(&memory)
    {
        context.output.remark(&format!("what was read is not remembered: {error}"));
    }
    let mut report = outcome?;
    // The session's own listing: it also moves on what this client remembers.
    for text in session.look()?.1 {
        complain(&format!("mailark: {text}\n"));
        report.add(Finding::new(Kind::Gap, Subject::History, "snapshots", text));
    }
    let verdict = report.verdict();
    let recorded = !args.no_record && record(repository, read_data, &report, &verdict)?;
    tell(&report, &verdict, recorded, context)?;
    Ok(if report.findings.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// How the text of a result begins when no content was read.
const NOT_READ: &str = "content not read; ";
/// Longest text of a result, characters.
const RESULT_CHARS: usize = 400;

/// Leaves a record of the result where that is due and allowed; true when there is one.
///
/// Due is one of each check that read content or found something, and one that ends the warning of an earlier one
/// which had read no more than this.
fn record(
    repository: &Repository,
    read_data: ReadData,
    report: &Report,
    verdict: &Verdict,
) -> Result<bool, Failure> {
    // A writer signs no records, and nothing is written beside a damaged config.
    if repository.role() == Role::Writer || repository.config_damage.is_some() {
        return Ok(false);
    }
    let ok = report.findings.is_empty();
    let looked_only = read_data == ReadData::No;
    let ends_a_warning = || {
        let results = Ledger::read(repository)?.results;
        let last = results.into_iter().rfind(|result| result.verb == "check");
        Ok::<_, Failure>(last.is_some_and(|last| !last.ok && last.text.starts_with(NOT_READ)))
    };
    if ok && looked_only && !ends_a_warning()? {
        return Ok(false);
    }
    let scope = if looked_only { NOT_READ.to_owned() } else { format!("{}; ", report.content_text()) };
    let result = match report.findings.first() {
        None => "no damage found".to_owned(),
        Some(first) => {
            format!("{} ({}), the first: {}", findings(report.finding_count), verdict.word, first.object)
        }
    };
    let text = format!("{scope}{result}").chars().take(RESULT_CHARS).collect();
    match records::write(repository, &Record::Result { verb: "check".to_owned(), ok, text }) {
        Ok(_) => Ok(true),
        // A repository that this host may only read can be checked all the same.
        Err(RepoError::Store(error)) if error.kind == StoreErrorKind::Denied => Ok(false),
        Err(error) => {
            complain(&format!("mailark: the result could not be recorded: {error}\n"));
            Ok(false)
        }
    }
}

fn tell(report: &Report, verdict: &Verdict, recorded: bool, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report, verdict, recorded));
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
    if report.packs_read > 0 {
        let packs = count(report.packs_read);
        out.summary(&format!("read and verified {packs} packs ({})", size(report.bytes_read)))?;
    }
    for (number, text) in [
        (report.orphan_packs, "packs of interrupted runs are not in use (harmless)"),
        (report.replaced_packs, "lost packs were stored again since (harmless)"),
        (report.pruned_packs, "packs that the index still names were pruned (harmless)"),
        (
            report.doomed_packs,
            "packs that a prune doomed are still there; the next prune looks at them (harmless)",
        ),
        (report.foreign, "objects of other hosts could not be opened with this key"),
    ] {
        if number > 0 {
            out.summary(&format!("{} {text}", count(number)))?;
        }
    }
    for remark in &report.remarks {
        out.summary(&displayed(&format!("remark: {}: {}", remark.object, remark.text)))?;
    }
    if report.findings.is_empty() {
        return out.summary(&verdict.text);
    }
    let shown = report.findings.len() as u64;
    if report.finding_count > shown {
        complain(&format!("mailark: and {} more\n", count(report.finding_count - shown)));
    }
    complain(&format!("mailark: {}. {}\n", findings(report.finding_count), verdict.text));
    Ok(())
}

fn findings(number: u64) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} finding{plural}", count(number))
}

fn displayed(text: &str) -> String {
    bytes::display(text.as_bytes())
}

fn as_json(report: &Report, verdict: &Verdict, recorded: bool) -> Value {
    let list = |findings: &[Finding]| -> Vec<Value> {
        let as_object = |found: &Finding| {
            json!({
                "kind": found.kind.name(),
                "subject": found.subject.name(),
                "object": found.object,
                "problem": found.text,
            })
        };
        findings.iter().map(as_object).collect()
    };
    json!({
        "snapshots": report.snapshots,
        "pages": report.pages,
        "blobs": report.blobs,
        "deltas": report.deltas,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "packs_never_read": report.coverage.never_read,
        "oldest_read_seconds": report.coverage.oldest_s,
        "orphan_packs": report.orphan_packs,
        "replaced_packs": report.replaced_packs,
        "pruned_packs": report.pruned_packs,
        "doomed_packs": report.doomed_packs,
        "foreign": report.foreign,
        "broken_snapshots": report.broken_snapshots,
        "verdict": verdict.word,
        "advice": verdict.text,
        "commands": verdict.commands,
        "finding_count": report.finding_count,
        "findings": list(&report.findings),
        "remarks": list(&report.remarks),
        "recorded": recorded,
        "seconds": report.duration.as_secs_f64(),
    })
}
