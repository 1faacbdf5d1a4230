//! What needs no condemn: snapshots that count no longer, closed checkpoints, files of interrupted runs.

use std::sync::Arc;
use std::time::Duration;

use super::judge::Judge;
use super::remove::unless_missing;
use super::{PruneError, Report};
use crate::base::id::ObjectHash;
use crate::format::record::{Record, SnapshotName};
use crate::repo::packs::PackMap;
use crate::repo::presence::Presence;
use crate::repo::reach::Reach;
use crate::repo::records;
use crate::repo::snapshots::{Listed, SnapshotInfo};
use crate::repo::{RepoError, ledger::Ledger};
use crate::store::Place;

/// A file in `tmp/` that nobody wrote to for this long belongs to no run that is still on.
const TEMPORARY_IDLE: Duration = Duration::from_secs(24 * 3600);

/// Removes files that interrupted runs left.
pub fn remove_temporary(judge: &Judge<'_>, report: &mut Report) -> Result<(), PruneError> {
    let store = judge.repository.store.as_ref();
    for file in store.temporary()?.into_iter().filter(|file| file.idle >= TEMPORARY_IDLE) {
        if !judge.options.dry_run {
            unless_missing(store.remove_temporary(&file.name))?;
        }
        report.temporary.0 += 1;
        report.temporary.1 += file.bytes;
    }
    Ok(())
}

/// Drops checkpoints that protect nothing any more and snapshots that a later one of their own run replaced.
///
/// A record names them first, so that the gap in the numbers is explained.
pub fn drop_superseded(judge: &Judge<'_>, ledger: &Ledger, report: &mut Report) -> Result<(), PruneError> {
    let listed = judge.list()?;
    let open: Vec<&Place> = match judge.options.drop_checkpoints {
        true => Vec::new(),
        false => listed.open_checkpoints().map(|(place, _)| place).collect(),
    };
    let closed = listed.checkpoints.iter().map(|(place, _)| place).filter(|place| !open.contains(place));
    let closed: Vec<SnapshotName> = closed.filter_map(name_of).collect();
    let overtaken = overtaken(judge, &listed, ledger)?;
    report.dropped_snapshots += (closed.len() + overtaken.len()) as u64;
    if judge.options.dry_run {
        return Ok(());
    }
    for (names, rule) in [(closed, "closed checkpoints"), (overtaken, "overtaken by a prune and replaced")] {
        if !names.is_empty() {
            let rule = rule.to_owned();
            records::write(judge.repository, &Record::Forget { snapshots: names, rule })?;
        }
    }
    Ok(())
}

fn name_of(place: &Place) -> Option<SnapshotName> {
    match *place {
        Place::Snapshot(host, sequence, hash) => Some(SnapshotName { host, sequence, hash }),
        _ => None,
    }
}

/// Snapshots that lack blobs and that a later one of their own host and job replaces.
fn overtaken(judge: &Judge<'_>, listed: &Listed, ledger: &Ledger) -> Result<Vec<SnapshotName>, PruneError> {
    let is_replaced = |info: &&SnapshotInfo| {
        listed.snapshots.iter().any(|later| {
            later.snapshot.replaces == Some(info.hash)
                && later.host == info.host
                && later.snapshot.job == info.snapshot.job
        }) && ledger.stands_for(&info.hash).is_none()
    };
    let mut overtaken = Vec::new();
    for info in listed.snapshots.iter().filter(is_replaced) {
        judge.sync()?;
        if !is_whole(judge, info)? {
            overtaken.push(info.name());
        }
    }
    Ok(overtaken)
}

fn is_whole(judge: &Judge<'_>, info: &SnapshotInfo) -> Result<bool, RepoError> {
    let presence = Presence::new(judge.repository, judge.index, info.domain, &Default::default(), 0)?;
    let packs = PackMap::new(Arc::clone(&judge.repository.keys));
    let mut reach = Reach::new(judge.repository, judge.index, &packs, judge.interrupt);
    let walked = reach.snapshot(info, &mut |reached| match presence.holds(&reached.id)? {
        true => Ok(()),
        false => Err(RepoError::MissingBlob { id: reached.id }),
    });
    match walked {
        Ok(()) => Ok(true),
        Err(error) if error.source.ends_the_run() => Err(error.source),
        Err(_) => Ok(false),
    }
}

/// Removes the objects of snapshots and checkpoints that a record says are dropped.
pub fn remove_dropped(judge: &Judge<'_>, report: &mut Report) -> Result<(), PruneError> {
    let dropped = judge.list()?.dropped;
    let protected: Vec<ObjectHash> = judge
        .list()?
        .open_checkpoints()
        .filter(|_| !judge.options.drop_checkpoints)
        .filter_map(|(_, checkpoint)| checkpoint.parent)
        .collect();
    for place in dropped.iter().filter(|place| !place.hash().is_some_and(|hash| protected.contains(hash))) {
        if judge.options.dry_run {
            report.dropped_snapshots += 1;
            continue;
        }
        unless_missing(judge.repository.store.remove(place))?;
        report.dropped_snapshots += 1;
    }
    Ok(())
}
