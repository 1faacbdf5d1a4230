//! After the new snapshots: did a prune delete anything that they refer to?
//!
//! Section "Prune" of `repo-format.md` says why it is enough to look at the dooms once, after the snapshots are there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::commit::commit;
use super::{Order, Rewritten, Run};
use crate::base::id::ObjectHash;
use crate::repo::ledger::Ledger;
use crate::repo::packs::PackMap;
use crate::repo::presence::Presence;
use crate::repo::reach::Reach;
use crate::repo::snapshots::{self, SnapshotInfo};
use crate::repo::{RepoError, deltas};

/// Is everything that the new snapshots refer to still there, whatever prunes have doomed since the run began?
///
/// Where it is not, the listings of the old snapshots, which no prune could touch so far, are put in their place
/// again: nothing is lost, and the run has to be begun anew.
pub fn still_stand(
    run: &Run<'_>,
    rewritten: &[Rewritten],
    made: &[(ObjectHash, ObjectHash)],
) -> Result<bool, RepoError> {
    let now = Ledger::read(run.repository)?;
    if now.doomed.values().all(|doom| run.ledger.places.contains(doom)) {
        return Ok(true);
    }
    deltas::sync(run.repository, run.index)?;
    let listed = snapshots::list(run.repository)?;
    let olds: HashMap<ObjectHash, &Rewritten> = rewritten.iter().map(|one| (one.old.hash, one)).collect();
    let mut back = Vec::new();
    for (old, new) in made {
        let info = listed.snapshots.iter().find(|info| info.hash == *new);
        let (Some(info), Some(one)) = (info, olds.get(old)) else { continue };
        if !reaches_all(run, info, &now)? {
            back.push(Rewritten { old: info.clone(), parts: one.old.snapshot.parts.clone() });
        }
    }
    if back.is_empty() {
        return Ok(true);
    }
    let what = format!("{} snapshots put back, because a prune went on meanwhile", back.len());
    commit(run.repository, Order { verb: "undo", what, rewritten: &back, lost: &[] })?;
    Ok(false)
}

fn reaches_all(run: &Run<'_>, info: &SnapshotInfo, now: &Ledger) -> Result<bool, RepoError> {
    let doomed: HashSet<ObjectHash> = now.doomed.keys().copied().collect();
    let presence = Presence::new(run.repository, run.index, info.domain, &doomed, 0)?;
    let packs = PackMap::new(Arc::clone(&run.repository.keys));
    Reach::new(run.repository, run.index, &packs, run.interrupt).is_whole(info, &presence)
}
