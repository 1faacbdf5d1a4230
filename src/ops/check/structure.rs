//! Deltas, packs and snapshots: is each there, whole, and signed by whom it should be?

use std::collections::{BTreeMap, HashSet};

use super::finding::{Finding, Kind, Subject};
use super::{Check, chain};
use crate::base::id::{BlobId, DomainId, HostId, ObjectHash};
use crate::index::{Index, PackNumber};
use crate::repo::ledger::Ledger;
use crate::repo::snapshots;
use crate::repo::{RepoError, deltas, parity};
use crate::store::{Folder, Place};

/// A pack that is there with the size that a delta names.
pub(super) struct NamedPack {
    pub(super) hash: ObjectHash,
    pub(super) size: u64,
    /// The delta.
    pub(super) delta: Place,
}

/// A pack that is not there, or has another size.
struct LostPack {
    text: String,
    kind: Kind,
    /// Everything that it held is in another pack too.
    replaced: bool,
    /// Only hosts that were revoked name it.
    claimed: bool,
}

/// Is a blob in a pack that is there?
pub(super) fn holds(
    index: &Index,
    domain: &DomainId,
    id: &BlobId,
    absent: &HashSet<PackNumber>,
) -> Result<bool, RepoError> {
    // The plain question is mostly answered from memory.
    if absent.is_empty() || !index.contains(domain, id)? {
        return Ok(index.contains(domain, id)?);
    }
    Ok(index.lookup(domain, id)?.iter().any(|location| !absent.contains(&location.pack)))
}

impl Check<'_> {
    /// Brings the index into step with the deltas, and lists deltas and packs, in this order.
    pub(super) fn synchronise(&mut self) -> Result<(), RepoError> {
        deltas::sync(self.repository, self.index)?;
        let store = &self.repository.store;
        self.deltas = store.list(Folder::Deltas)?.into_iter().map(|(place, _)| place).collect();
        let packs = store.list(Folder::Packs)?.into_iter();
        self.stored = packs.filter_map(|(place, size)| place.hash().map(|hash| (*hash, size))).collect();
        let known = self.index.read().expect("no holder panics").packs()?.into_iter();
        self.absent = known
            .filter(|(_, hash, size)| self.stored.get(hash) != Some(size))
            .map(|(number, ..)| number)
            .collect();
        Ok(())
    }

    /// Verifies all deltas and that each pack they name is there with its size.
    pub(super) fn packs_of_deltas(&mut self, ledger: &Ledger) -> Result<Vec<NamedPack>, RepoError> {
        // All claims are kept: one host's word about a pack must not hide another's.
        let mut packs: Vec<NamedPack> = Vec::new();
        let mut lost: BTreeMap<ObjectHash, LostPack> = BTreeMap::new();
        for place in self.deltas.clone() {
            self.interrupt.check()?;
            self.report.deltas += 1;
            let delta = match deltas::read(self.repository, &ledger.hosts, &place) {
                Ok(Some(delta)) => delta,
                Ok(None) => {
                    self.report.foreign += 1;
                    continue;
                }
                // Removed by a prune since it was listed.
                Err(RepoError::Store(error)) if error.is_missing() => continue,
                Err(error) => {
                    self.find(Finding::at(&place, &error));
                    continue;
                }
            };
            let is_revoked = ledger.revoked.contains_key(&delta.host);
            for (hash, size, contents) in delta.packs {
                let (kind, text) = match self.stored.get(&hash) {
                    Some(stored) if *stored == size => {
                        packs.push(NamedPack { hash, size, delta: place });
                        continue;
                    }
                    Some(stored) => (Kind::Damaged, format!("has {stored} bytes instead of {size}")),
                    None => (Kind::Lost, "is missing".to_owned()),
                };
                let replaced = self.all_held(&delta.domain, &contents.ids)?;
                let other = lost.remove(&hash);
                let of_others = other.as_ref().is_none_or(|other| other.replaced);
                let claimed = is_revoked && other.is_none_or(|other| other.claimed);
                lost.insert(hash, LostPack { text, kind, replaced: replaced && of_others, claimed });
            }
        }
        self.count(&packs, &lost);
        for (hash, LostPack { text, kind, replaced, claimed }) in lost {
            if kind == Kind::Lost && ledger.doomed.contains_key(&hash) {
                // Whatever still needs it is told by its path.
                self.report.pruned_packs += 1;
            } else if replaced {
                self.report.replaced_packs += 1;
            } else if claimed {
                // Whoever has its key can claim anything; here, too, what is needed is told by its path.
                let text = format!("{text}; only a host names it that was revoked");
                self.remark(Subject::Pack, Place::Pack(hash).to_string(), text);
            } else {
                self.find(Finding::new(kind, Subject::Pack, Place::Pack(hash).to_string(), text));
            }
        }
        let bare = parity::missing(self.repository)?.len();
        if bare > 0 {
            let text = format!("{bare} packs have no parity: 'mailark repair packs' makes it");
            self.remark(Subject::Pack, "parity", text);
        }
        Ok(packs)
    }

    fn count(&mut self, packs: &[NamedPack], lost: &BTreeMap<ObjectHash, LostPack>) {
        let mut named: HashSet<ObjectHash> = lost.keys().copied().collect();
        for pack in packs {
            if named.insert(pack.hash) {
                self.report.pack_bytes += pack.size;
            }
        }
        self.report.packs = named.len() as u64;
        self.report.orphan_packs = self.stored.keys().filter(|hash| !named.contains(hash)).count() as u64;
    }

    /// Do packs that are there hold all of these?
    fn all_held(&self, domain: &DomainId, ids: &[BlobId]) -> Result<bool, RepoError> {
        let index = self.index.read().expect("no holder panics");
        for id in ids {
            if !holds(&index, domain, id, &self.absent)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Verifies all snapshots, their chain, and everything they refer to.
    pub(super) fn snapshots(&mut self, ledger: &Ledger) -> Result<(), RepoError> {
        let listed = snapshots::list(self.repository)?;
        for (place, error) in &listed.unusable {
            self.find(Finding::at(place, error));
        }
        for place in &listed.revoked {
            let text =
                "its host was revoked before it was written: it is ignored, and goes with the next prune";
            self.remark(Subject::Snapshot, place.to_string(), text);
        }
        self.report.foreign += listed.foreign as u64;
        // Records that came since may name what is gone since.
        let newer = Ledger::read(self.repository)?;
        let repository = self.repository;
        let opens = |host: &HostId| repository.keys.snapshot_key(host).is_some();
        let is_mirror = !repository.store.list(Folder::Inventory)?.is_empty();
        for finding in chain::judge(&listed, &newer, &opens, is_mirror) {
            self.find(finding);
        }
        self.strangers(ledger, &listed);
        self.doomed(&newer);
        self.trees(&listed.snapshots)
    }
}
