//! One purge from beginning to end.

use std::collections::{BTreeMap, HashSet};
use std::sync::RwLock;

use super::messages::Searcher;
use super::sieve::PurgeSieve;
use super::stones::Stones;
use super::{Options, PurgeError, Report, Target};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::index::Index;
use crate::repo::ledger::Ledger;
use crate::repo::rewrite::{self, Held, Order, Rewritten, Run};
use crate::repo::snapshots::{self, SnapshotInfo};
use crate::repo::tombstones::Marker;
use crate::repo::{RepoError, Repository, deltas};

/// Listings of the snapshots in one purge: backups that end meanwhile are purged too.
const ROUNDS_MAX: usize = 4;

/// Purges as `options` say.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, PurgeError> {
    repository.need_full("purging")?;
    repository.need_config()?;
    let mut report = Report::default();
    let wanted = options.targets.iter().filter_map(|target| match target {
        Target::MessageId(id) => Some(id.clone()),
        _ => None,
    });
    let mut searcher = Searcher::new(wanted.collect());
    let mut seen: HashSet<ObjectHash> = HashSet::new();
    for round in 0..ROUNDS_MAX {
        let unusable = deltas::sync(repository, index)?;
        let listed = snapshots::list(repository)?;
        let fits = |info: &&SnapshotInfo| {
            let named = options.snapshots.is_empty() || options.snapshots.contains(&info.hash);
            named && options.filter.fits(info) && !seen.contains(&info.hash)
        };
        let chosen: Vec<&SnapshotInfo> = listed.snapshots.iter().filter(fits).collect();
        if round == 0 {
            let unread = listed.unusable.iter().map(|(place, error)| (place.to_string(), error.to_string()));
            let unread = unread.chain(unusable.iter().map(|(p, error)| (p.to_string(), error.to_string())));
            report.problems.extend(unread.map(|(object, text)| (object.into_bytes(), text)));
        }
        if chosen.is_empty() {
            break;
        }
        progress.counters().expect(chosen.len() as u64, 0);
        let ledger = Ledger::read(repository)?;
        ledger.need_known()?;
        let (unusable_deltas, dry_run) = (unusable.len(), options.dry_run);
        let run = Run { repository, index, ledger: &ledger, unusable_deltas, dry_run, progress, interrupt };
        let made = purge(&run, &chosen, options, &mut searcher, &mut report)?;
        seen.extend(chosen.iter().map(|info| info.hash));
        seen.extend(made.iter().map(|(_, new)| *new));
        report.made.extend(made);
        if options.dry_run {
            break;
        }
    }
    report.opaque = searcher.opaque();
    Ok(report)
}

/// Looks through some snapshots and makes new listings of those that hold anything of it.
fn look(
    run: &Run<'_>,
    chosen: &[&SnapshotInfo],
    options: &Options,
    searcher: &mut Searcher,
    report: &mut Report,
) -> Result<(Vec<Rewritten>, Vec<Stones>), RepoError> {
    let mut hosts: BTreeMap<(DomainId, HostId), Vec<&SnapshotInfo>> = BTreeMap::new();
    for info in chosen {
        hosts.entry((info.domain, info.host)).or_default().push(*info);
    }
    let (mut rewritten, mut all_stones) = (Vec::new(), Vec::new());
    for ((domain, _), mut infos) in hosts {
        infos.sort_by_key(|info| (info.position, info.sequence));
        let keys = run.repository.keys.domain(&domain).expect("a full key gives the keys of any domain");
        searcher.forget_heads();
        let stones = Stones::new(domain, Marker::new(&keys.cut_key));
        let mut sieve = PurgeSieve::new(&options.targets, stones, searcher);
        rewritten.extend(rewrite::host(run, &infos, &mut sieve)?);
        report.problems.append(&mut sieve.problems);
        for (place, taken) in std::mem::take(&mut sieve.folders) {
            let sum = report.folders.entry(place).or_default();
            sum.files += taken.files;
            sum.messages += taken.messages;
            sum.bytes += taken.bytes;
        }
        all_stones.push(sieve.stones);
    }
    Ok((rewritten, all_stones))
}

/// Purges some snapshots: looks at all of them before any of them changes.
fn purge(
    run: &Run<'_>,
    chosen: &[&SnapshotInfo],
    options: &Options,
    searcher: &mut Searcher,
    report: &mut Report,
) -> Result<Vec<(ObjectHash, ObjectHash)>, PurgeError> {
    let (repository, ledger) = (run.repository, run.ledger);
    if !run.dry_run && !ledger.holds.is_empty() {
        // A purge that is refused stores nothing.
        let (rewritten, _) =
            look(&Run { dry_run: true, ..*run }, chosen, options, searcher, &mut Report::default())?;
        refuse_held(run, ledger, &rewritten, options)?;
    }
    let (rewritten, all_stones) = look(run, chosen, options, searcher, report)?;
    report.looked_at += chosen.len() as u64;
    refuse_held(run, ledger, &rewritten, options)?;
    let mut made = Vec::new();
    if !run.dry_run && !rewritten.is_empty() {
        // What was found stored already may be about to be deleted.
        let now = Ledger::read(repository)?;
        if now.doomed.len() != ledger.doomed.len() || now.condemned.len() != ledger.condemned.len() {
            return Err(PurgeError::Overtaken);
        }
        refuse_held(run, &now, &rewritten, options)?;
        // Before the snapshots change: a backup that begins now must know already. What goes out of some snapshots
        // only may well be saved again.
        if options.snapshots.is_empty() {
            for stones in &all_stones {
                report.marks += stones.write(repository, &ledger.tombstones)?;
            }
        }
        let targets: Vec<String> = options.targets.iter().map(Target::text).collect();
        let what = format!("{} out of {} snapshots", targets.join(", "), rewritten.len());
        made = rewrite::commit(repository, Order { verb: "purge", what, rewritten: &rewritten, lost: &[] })?;
        if !rewrite::still_stand(run, &rewritten, &made)? {
            return Err(PurgeError::Overtaken);
        }
    }
    report.rewritten.extend(rewritten);
    Ok(made)
}

fn refuse_held(
    run: &Run<'_>,
    ledger: &Ledger,
    rewritten: &[Rewritten],
    options: &Options,
) -> Result<(), PurgeError> {
    let mut held = Held::new(run);
    // Whoever is named may go although somebody else is held; a path or a message may be anybody's.
    let local = |user: &str| user.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let concerns = |held: &str| {
        options.targets.iter().any(|target| match target {
            Target::User(user) => local(user) == local(held),
            Target::MessageId(_) | Target::Path(_) => true,
        })
    };
    for one in rewritten {
        if let Some(hold) = held.by(ledger, &one.old, &concerns)? {
            let what = format!("snapshot {}", one.old.hash.short());
            return Err(PurgeError::Held { hold: hold.hold, reason: hold.reason.clone(), what });
        }
    }
    Ok(())
}
