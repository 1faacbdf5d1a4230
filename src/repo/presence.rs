//! Which blobs need not be stored again: those that the index knows and whose packs are really there.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;

use super::ledger::Ledger;
use super::{RepoError, Repository};
use crate::base::id::{BlobId, DomainId, ObjectHash};
use crate::index::{Index, PackNumber};
use crate::store::{Folder, Place};

/// What a backup may lean on.
pub struct Presence<'a> {
    index: &'a RwLock<Index>,
    domain: DomainId,
    /// Packs that a delta names and that nobody may lean on: missing, of another size, condemned or doomed.
    absent: HashSet<PackNumber>,
    /// How many of them no record explains.
    lost: usize,
    /// Something was lost: what earlier snapshots refer to is looked at closely.
    ///
    /// What a prune is about to delete is no loss: it spares what a snapshot refers to.
    pub doubtful: bool,
}

impl<'a> Presence<'a> {
    /// Compares the index, which is in step with the deltas, with the packs that are there; `shunned` are those
    /// that a prune is about to delete ([`super::ledger::Ledger::shunned`]).
    ///
    /// So a lost pack heals by itself: what it held is stored again as far as the source still has it.
    pub fn new(
        repository: &Repository,
        index: &'a RwLock<Index>,
        domain: DomainId,
        shunned: &HashSet<ObjectHash>,
        unusable_deltas: usize,
    ) -> Result<Presence<'a>, RepoError> {
        let stored = repository.store.list(Folder::Packs)?;
        let stored: HashMap<ObjectHash, u64> =
            stored.into_iter().filter_map(|(place, size)| place.hash().map(|hash| (*hash, size))).collect();
        let known = index.read().expect("no holder panics").packs()?;
        let (mut absent, mut lost) = (HashSet::new(), Vec::new());
        for (number, hash, size) in known {
            if shunned.contains(&hash) {
                absent.insert(number);
            } else if stored.get(&hash) != Some(&size)
                && (stored.contains_key(&hash) || !shows_late(repository, hash, size))
            {
                absent.insert(number);
                lost.push(hash);
            }
        }
        if !lost.is_empty() {
            // A prune may have doomed and deleted some since those records were read.
            let now = Ledger::read(repository)?;
            lost.retain(|pack| !now.doomed.contains_key(pack));
        }
        let lost = lost.len();
        let doubtful = unusable_deltas > 0 || lost > 0;
        Ok(Presence { index, domain, absent, lost, doubtful })
    }

    /// Packs that should be there and are not.
    pub fn lost_packs(&self) -> usize {
        self.lost
    }

    /// Is the blob stored?
    pub fn holds(&self, id: &BlobId) -> Result<bool, RepoError> {
        let index = self.index.read().expect("no holder panics");
        if !index.contains(&self.domain, id)? {
            return Ok(false);
        }
        if self.absent.is_empty() {
            return Ok(true);
        }
        Ok(index.lookup(&self.domain, id)?.iter().any(|location| !self.absent.contains(&location.pack)))
    }
}

/// On a share a list may lag behind: asked for by its name, the pack is there.
fn shows_late(repository: &Repository, pack: ObjectHash, size: u64) -> bool {
    let store = repository.store.as_ref();
    let last = || store.read_range(&Place::Pack(pack), size.checked_sub(1)?, 1).ok();
    !store.staleness().is_zero() && last().is_some()
}
