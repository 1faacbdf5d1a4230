//! `mailark prune`: give back the space that no snapshot needs.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::commands::{Context, forget};
use crate::cli::config_file::waiting_time;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::ops::prune::{self, Amount, MaxUnused, Options, Report};

/// Give back the space that no snapshot needs.
///
/// Safe beside running backups, without locks: packs are condemned first, and deleted by a later prune, when the
/// grace is over and still no snapshot needs them. Needs a full key. Half-empty and small packs are packed anew. What
/// 'backup --follow' made is thinned to one snapshot an hour first, when it is a day old.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Say what would be done; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Delete at once, without a grace; wants no open checkpoint
    #[arg(long, conflicts_with = "grace")]
    pub now: bool,
    /// Delete what was condemned this long ago: 90m, 12h, 2d
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = waiting_time)]
    pub grace: Duration,
    /// Let this much unused space stay in packs: 5%, 200M, unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = max_unused)]
    pub max_unused: MaxUnused,
    /// Give up what interrupted backups have stored; their next runs begin from nothing
    #[arg(long)]
    pub drop_checkpoints: bool,
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    let wrong = || format!("'{text}' is neither a share like 5%, a size like 200M, nor 'unlimited'");
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = f64::from_str(percent).ok().filter(|percent| (0.0..=100.0).contains(percent));
        return percent.map(MaxUnused::Percent).ok_or_else(wrong);
    }
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let bytes = u64::from_str(digits).ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.map(MaxUnused::Bytes).ok_or_else(wrong)
}

/// Prunes the repository.
pub fn run(args: &PruneArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let options = Options {
        grace: if args.now { Duration::ZERO } else { args.grace },
        max_unused: args.max_unused,
        drop_checkpoints: args.drop_checkpoints,
        dry_run: args.dry_run,
        workers: session::workers(),
    };
    // What vanished before this prune must be noticed before it explains anything away.
    let (listed, lost) = session.look()?;
    session::complain_of(&Default::default(), &lost);
    let thinned = match args.dry_run {
        true => 0,
        false => forget::thin(&session, &listed, &|_| true, context)?,
    };
    let meter = Meter::start("prune", context.output.manner());
    let outcome = prune::run(&session.repository, &session.index, options, &meter, context.interrupt);
    meter.finish();
    let report = outcome?;
    if thinned > 0 {
        context.output.remark(&format!(
            "forgot {} snapshots of --follow, but for the last of each hour",
            count(thinned)
        ));
    }
    tell(&report, options, context)?;
    Ok(if report.bad_copies > 0 || report.no_room.packs > 0 || report.missing_blobs > 0 {
        Exit::Incomplete
    } else {
        Exit::Ok
    })
}

fn packs(amount: Amount) -> String {
    format!("{} packs ({})", count(amount.packs), size(amount.bytes))
}

fn tell(report: &Report, options: Options, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report, options));
    }
    // A plan is what a dry run was asked for; the rest is told where success is.
    let say = |text: &str| if options.dry_run { out.line(text) } else { out.summary(text) };
    let would = |done: &'static str, planned: &'static str| if options.dry_run { planned } else { done };
    if report.stored.packs > 0 {
        say(&format!("{} in the repository, {} snapshots", packs(report.stored), count(report.snapshots)))?;
        let orphans = match report.orphans.packs {
            0 => String::new(),
            number => format!(", of them {} of interrupted runs", count(number)),
        };
        say(&format!("{} that nothing needs{orphans}", packs(report.unneeded)))?;
    }
    if report.repacked.packs > 0 {
        let into =
            if options.dry_run { String::new() } else { format!(" into {}", size(report.repacked_into)) };
        say(&format!("{} {}{into}", would("packed anew", "would pack anew"), packs(report.repacked)))?;
    }
    if report.unused_bytes > 0 {
        say(&format!("unused space that stays in packs: {}", size(report.unused_bytes)))?;
    }
    if report.dropped_snapshots > 0 {
        let number = count(report.dropped_snapshots);
        say(&format!(
            "{} {number} snapshots and checkpoints that count no longer",
            would("removed", "would remove")
        ))?;
    }
    let (files, bytes) = report.temporary;
    if files > 0 {
        let done = would("removed", "would remove");
        say(&format!("{done} {} files of interrupted runs ({})", count(files), size(bytes)))?;
    }
    if report.open_checkpoints > 0 {
        say(&format!(
            "{} backups are running or were interrupted; what they stored stays (--drop-checkpoints gives it up)",
            count(report.open_checkpoints)
        ))?;
    }
    if report.deleted.packs > 0 {
        say(&format!("deleted {} in {}", packs(report.deleted), duration(report.duration)))?;
    }
    if report.spared > 0 {
        say(&format!("spared {} packs that a snapshot needs after all", count(report.spared)))?;
    }
    if let Some(wait) = report.wait {
        let condemned = packs(report.condemned);
        say(&format!(
            "condemned {condemned}; a prune in {} deletes them, --now does at once",
            duration(wait)
        ))?;
    }
    if report.more {
        say("there is more than one prune does: run it again")?;
    }
    warn(report);
    Ok(())
}

fn warn(report: &Report) {
    if report.missing_blobs > 0 {
        complain(&format!(
            "mailark: {} blobs that snapshots need are in no pack; what may hold them was kept. In this order: \
             'mailark repair index', 'mailark repair packs', a backup, 'mailark repair snapshots'\n",
            count(report.missing_blobs)
        ));
    }
    if report.no_room.packs > 0 {
        complain(&format!(
            "mailark: no room on the disk to pack {} anew; what is deleted now makes room for the next prune\n",
            packs(report.no_room)
        ));
    }
    if report.bad_copies > 0 {
        complain(&format!(
            "mailark: {} copies of blobs are damaged; what needs them was kept. 'mailark check --read-data' tells \
             more, 'mailark repair packs' mends\n",
            count(report.bad_copies)
        ));
    }
}

fn as_json(report: &Report, options: Options) -> Value {
    let amount = |amount: Amount| json!({ "packs": amount.packs, "bytes": amount.bytes });
    json!({
        "dry_run": options.dry_run,
        "snapshots": report.snapshots,
        "pages": report.pages,
        "open_checkpoints": report.open_checkpoints,
        "stored": amount(report.stored),
        "unneeded": amount(report.unneeded),
        "orphans": amount(report.orphans),
        "repacked": amount(report.repacked),
        "repacked_into_bytes": report.repacked_into,
        "no_room": amount(report.no_room),
        "unused_bytes": report.unused_bytes,
        "condemned": amount(report.condemned),
        "wait_seconds": report.wait.map(|wait| wait.as_secs()),
        "deleted": amount(report.deleted),
        "spared": report.spared,
        "bad_copies": report.bad_copies,
        "missing_blobs": report.missing_blobs,
        "dropped_snapshots": report.dropped_snapshots,
        "deltas_removed": report.deltas_removed,
        "temporary": { "files": report.temporary.0, "bytes": report.temporary.1 },
        "more": report.more,
        "seconds": report.duration.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_understood() {
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(max_unused("200M"), Ok(MaxUnused::Bytes(200 << 20)));
        assert_eq!(max_unused("0"), Ok(MaxUnused::Bytes(0)));
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for text in ["", "%", "101%", "NaN%", "5Q", "-3", "99999999999T"] {
            assert!(max_unused(text).is_err(), "{text}");
        }
    }
}
