//! `mailark repair index`: lost and damaged deltas come back from the packs.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::progress::Meter;
use crate::cli::session::Session;
use crate::ops::repair::index::{self, Options, Report};

/// Write lost and damaged index files anew, from the packs.
///
/// Reads every pack that no usable index file names, verifies all of it, and writes down what it holds. Damaged
/// index files are then moved to damaged/ in the repository. May be interrupted and run again.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Leave packs alone that are younger than this: a running backup has not written its index yet
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    pub min_age: u32,
    /// Read and verify, and say what would be done; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Repairs the index.
pub(super) fn run(args: &IndexArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let min_age = Duration::from_secs(u64::from(args.min_age) * 60);
    let options = Options { min_age, dry_run: args.dry_run };
    let meter = Meter::start("repair index", context.output.manner());
    let outcome = index::run(&session.repository, options, &meter, context.interrupt);
    meter.finish();
    let report = outcome?;
    match context.output.manner().json {
        true => context.output.json(&as_json(&report, args))?,
        false => tell(&report, args, context)?,
    }
    Ok(if report.left.is_empty() { Exit::Ok } else { Exit::Incomplete })
}

fn tell(report: &Report, args: &IndexArgs, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    let say = |text: &str| if args.dry_run { out.line(text) } else { out.summary(text) };
    let would = if args.dry_run { "would name" } else { "named" };
    say(&format!(
        "{would} {} packs ({}, {} blobs) in {} new index files, in {}",
        count(report.packs),
        size(report.bytes),
        count(report.blobs),
        count(report.deltas_written),
        duration(report.duration)
    ))?;
    for (place, kept) in &report.deltas_removed {
        match args.dry_run {
            true => say(&format!("{place} is damaged, and no longer needed then"))?,
            false => say(&format!("{place} was damaged and is kept as {kept}"))?,
        }
    }
    if report.young > 0 {
        let packs = count(report.young);
        say(&format!("left {packs} packs alone that are younger than {} min (--min-age)", args.min_age))?;
    }
    if report.condemned > 0 {
        say(&format!("left {} packs to the prune that condemned them", count(report.condemned)))?;
    }
    for host in &report.guessed {
        complain(&format!(
            "mailark: no record, index file or snapshot tells of host {host}: its packs were taken for those of a \
             host with a full key\n"
        ));
    }
    for left in &report.left {
        complain(&format!("mailark: {}: {}\n", left.object, left.why));
    }
    Ok(())
}

fn as_json(report: &Report, args: &IndexArgs) -> Value {
    let left: Vec<Value> =
        report.left.iter().map(|left| json!({ "object": left.object, "problem": left.why })).collect();
    let removed: Vec<Value> = report
        .deltas_removed
        .iter()
        .map(|(place, kept)| json!({ "object": place.to_string(), "kept_as": kept }))
        .collect();
    json!({
        "dry_run": args.dry_run,
        "packs": report.packs,
        "bytes": report.bytes,
        "blobs": report.blobs,
        "deltas_written": report.deltas_written,
        "deltas_removed": removed,
        "young_packs": report.young,
        "condemned_packs": report.condemned,
        "guessed_hosts": report.guessed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "left": left,
        "seconds": report.duration.as_secs_f64(),
    })
}
