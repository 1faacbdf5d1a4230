//! What needs no condemn: snapshots that count no longer, closed checkpoints, files of interrupted runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::judge::{Judge, own_parent};
use super::remove::unless_missing;
use super::{PruneError, Report};
use crate::base::id::ObjectHash;
use crate::format::record::{Record, SnapshotName};
use crate::repo::holds;
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
    let open: HashSet<&Place> = match judge.options.drop_checkpoints {
        true => HashSet::new(),
        false => listed.open_checkpoints().map(|(place, _)| place).collect(),
    };
    let closed = listed.checkpoints.iter().map(|(place, _)| place).filter(|place| !open.contains(place));
    let closed: Vec<SnapshotName> = closed.filter_map(name_of).collect();
    let overtaken = overtaken(judge, &listed, ledger)?;
    if judge.options.dry_run {
        report.dropped_snapshots += (closed.len() + overtaken.len()) as u64;
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

/// Snapshots that lack blobs, and that a later, whole one of their own host and job replaces.
fn overtaken(judge: &Judge<'_>, listed: &Listed, ledger: &Ledger) -> Result<Vec<SnapshotName>, PruneError> {
    let mut overtaken = Vec::new();
    for later in listed.snapshots.iter().filter(|later| later.snapshot.replaces.is_some()) {
        let is_replaced = |info: &&SnapshotInfo| {
            later.snapshot.replaces == Some(info.hash)
                && later.host == info.host
                && later.snapshot.job == info.snapshot.job
                && later.sequence > info.sequence
        };
        // One that stands in another's place by a record replaces nothing by its writer's word.
        let Some(info) = listed.snapshots.iter().find(is_replaced) else { continue };
        if ledger.stands_for(&later.hash).is_some() || ledger.stands_for(&info.hash).is_some() {
            continue;
        }
        judge.sync()?;
        let held = holds::held_by(ledger, info, &mut |_| Ok::<_, RepoError>(true))?;
        if !is_whole(judge, info)? && held.is_none() && is_whole(judge, later)? {
            overtaken.push(info.name());
        }
    }
    Ok(overtaken)
}

fn is_whole(judge: &Judge<'_>, info: &SnapshotInfo) -> Result<bool, RepoError> {
    let presence = Presence::new(judge.repository, judge.index, info.domain, &Default::default(), 0)?;
    let packs = PackMap::new(Arc::clone(&judge.repository.keys));
    Reach::new(judge.repository, judge.index, &packs, judge.interrupt).is_whole(info, &presence)
}

/// Removes the objects of snapshots and checkpoints that a record says are dropped, or were written by a host that it
/// had revoked.
pub fn remove_dropped(judge: &Judge<'_>, report: &mut Report) -> Result<(), PruneError> {
    let listed = judge.list()?;
    let open = listed.open_checkpoints().filter(|_| !judge.options.drop_checkpoints);
    let protected: HashSet<ObjectHash> =
        open.filter_map(|(place, checkpoint)| own_parent(place, checkpoint)).collect();
    let is_free = |place: &&Place| !place.hash().is_some_and(|hash| protected.contains(hash));
    for place in listed.dropped.iter().filter(is_free).chain(&listed.revoked) {
        if judge.options.dry_run {
            report.dropped_snapshots += 1;
            continue;
        }
        unless_missing(judge.repository.store.remove(place))?;
        report.dropped_snapshots += 1;
    }
    Ok(())
}
