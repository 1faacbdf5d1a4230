//! After the snapshot: did a prune delete anything that it refers to?
//!
//! Section "Prune" of `repo-format.md` says why it is enough to look at the dooms once, after the snapshot is there.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, RwLock};

use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::index::Index;
use crate::repo::ledger::Ledger;
use crate::repo::packs::PackMap;
use crate::repo::presence::Presence;
use crate::repo::reach::Reach;
use crate::repo::snapshots::{self, SnapshotInfo};
use crate::repo::{RepoError, Repository, deltas};
use crate::store::{Folder, Place};

/// What a run counted on when it began.
pub struct CountedOn<'a> {
    /// Where.
    pub repository: &'a Repository,
    /// The local index.
    pub index: &'a RwLock<Index>,
    /// The records before the run began.
    pub ledger: &'a Ledger,
}

impl CountedOn<'_> {
    /// Fails when the host was revoked while the run was on: its snapshot does not count.
    pub fn need_counting(&self, hash: &ObjectHash, now: &Ledger) -> Result<(), RepoError> {
        if now.revoked == self.ledger.revoked {
            return Ok(());
        }
        let listed = self.repository.store.list(Folder::Snapshots)?;
        let late = listed.iter().map(|(place, _)| place).find(|place| place.hash() == Some(hash));
        match late.filter(|place| now.comes_too_late(place)) {
            Some(Place::Snapshot(host, ..)) => self.repository.need_counting(now, host),
            _ => Ok(()),
        }
    }

    /// Is everything that the snapshot refers to still there, whatever prunes have doomed since the run began?
    pub fn still_stands(
        &self,
        hash: &ObjectHash,
        now: &Ledger,
        interrupt: &Interrupt,
    ) -> Result<bool, RepoError> {
        if now.doomed.values().all(|doom| self.ledger.places.contains(doom)) {
            return Ok(true);
        }
        deltas::sync(self.repository, self.index)?;
        let listed = snapshots::list(self.repository)?;
        let Some(info) = listed.snapshots.iter().find(|info| info.hash == *hash) else { return Ok(false) };
        self.reaches_all(info, now, interrupt)
    }

    /// Does it hold everything, with what is doomed `now` left out?
    pub fn reaches_all(
        &self,
        info: &SnapshotInfo,
        now: &Ledger,
        interrupt: &Interrupt,
    ) -> Result<bool, RepoError> {
        let doomed: HashSet<ObjectHash> = now.doomed.keys().copied().collect();
        let presence = Presence::new(self.repository, self.index, info.domain, &doomed, 0)?;
        let packs = PackMap::new(Arc::clone(&self.repository.keys));
        Reach::new(self.repository, self.index, &packs, interrupt).is_whole(info, &presence)
    }

    /// Remembers that this snapshot was looked at. Should that fail, the next run looks closely: it costs time.
    pub fn settle(&self, job: &str, hash: &ObjectHash) {
        let index = self.index.read().expect("no holder panics");
        let _ = index.set(&fact(job), &hash.0);
        let _ = index.set(&revoked_fact(job), &self.revoked());
        let Ok(deltas) = index.deltas() else { return };
        let mut deltas: Vec<[u8; 32]> = deltas.into_iter().map(|hash| hash.0).collect();
        deltas.sort_unstable();
        let _ = index.set(&deltas_fact(job), &deltas.concat());
    }

    /// Is every delta still there that was when the job's last snapshot was made? Where one is gone, blobs that
    /// snapshot refers to may be unknown, though no pack is missing.
    pub fn keeps_deltas(&self, job: &str) -> Result<bool, RepoError> {
        let index = self.index.read().expect("no holder panics");
        let Some(then) = index.get(&deltas_fact(job))? else { return Ok(false) };
        let now = index.deltas()?;
        Ok(then.chunks(32).all(|hash| hash.try_into().is_ok_and(|hash| now.contains(&ObjectHash(hash)))))
    }

    /// Did the job's last run know of every revocation? What it took over may rest on what such a host claims.
    pub fn knows_revoked(&self, job: &str) -> Result<bool, RepoError> {
        let index = self.index.read().expect("no holder panics");
        Ok(index.get(&revoked_fact(job))?.unwrap_or_default() == self.revoked())
    }

    fn revoked(&self) -> Vec<u8> {
        let hosts: BTreeSet<[u8; 16]> = self.ledger.revoked.keys().map(|host| host.0).collect();
        hosts.into_iter().flatten().collect()
    }

    /// Did the run that made this snapshot get to the end? Without any doom nothing can be missing.
    pub fn is_settled(&self, job: &str, hash: &ObjectHash) -> Result<bool, RepoError> {
        if self.ledger.doomed.is_empty() {
            return Ok(true);
        }
        let index = self.index.read().expect("no holder panics");
        Ok(index.get(&fact(job))?.is_some_and(|known| known == hash.0))
    }
}

fn deltas_fact(job: &str) -> String {
    format!("deltas {job}")
}

fn revoked_fact(job: &str) -> String {
    format!("revoked {job}")
}

fn fact(job: &str) -> String {
    format!("settled {job}")
}
