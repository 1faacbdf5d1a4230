//! Keys, deltas, packs and snapshots: is each there, whole, and signed by whom it should be?

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Check;
use crate::base::id::ObjectHash;
use crate::format::delta::PackContents;
use crate::repo::presence::Presence;
use crate::repo::snapshots::{self, Listed, SnapshotInfo};
use crate::repo::{RepoError, deltas, records};
use crate::store::{Folder, Place};

/// A pack as its delta describes it.
pub(super) struct NamedPack {
    pub(super) hash: ObjectHash,
    pub(super) size: u64,
    pub(super) contents: PackContents,
    pub(super) domain: crate::base::id::DomainId,
}

impl Check<'_> {
    /// Verifies key slots and records.
    pub(super) fn keys(&mut self) -> Result<(), RepoError> {
        if let Some(damage) = self.repository.config_damage.clone() {
            self.find("config", damage);
        }
        for (id, slot) in self.repository.slots()? {
            if let Err(error) = slot {
                self.find(Place::KeySlot(id).to_string(), error.to_string());
            }
        }
        let mut expected = 1;
        for (place, _) in self.repository.store.list(Folder::Records)? {
            if let Err(error) = records::read(self.repository, &place) {
                self.find(place.to_string(), error.to_string());
            }
            // A removed record may have been a revocation.
            if let Place::Record(sequence, _) = place {
                if let Some(text) = missing_numbers(expected, sequence) {
                    self.find("records", text);
                }
                expected = sequence + 1;
            }
        }
        Ok(())
    }

    /// Verifies all deltas and that each pack they name is there with its size.
    pub(super) fn packs_of_deltas(&mut self) -> Result<Vec<NamedPack>, RepoError> {
        let hosts = records::hosts(self.repository)?;
        // All claims are kept: one host's word about a pack must not hide another's.
        let mut packs: Vec<NamedPack> = Vec::new();
        for (place, _) in self.repository.store.list(Folder::Deltas)? {
            self.interrupt.check()?;
            self.report.deltas += 1;
            match deltas::read(self.repository, &hosts, &place) {
                Ok(Some(delta)) => {
                    packs.extend(delta.packs.into_iter().map(|(hash, size, contents)| NamedPack {
                        hash,
                        size,
                        contents,
                        domain: delta.domain,
                    }));
                }
                Ok(None) => self.report.foreign += 1,
                Err(error) => self.find(place.to_string(), error.to_string()),
            }
        }
        let stored: HashMap<ObjectHash, u64> = self
            .repository
            .store
            .list(Folder::Packs)?
            .into_iter()
            .filter_map(|(place, size)| place.hash().map(|hash| (*hash, size)))
            .collect();
        let named: HashSet<ObjectHash> = packs.iter().map(|pack| pack.hash).collect();
        self.report.orphan_packs = stored.keys().filter(|hash| !named.contains(hash)).count() as u64;
        packs.sort_by_key(|pack| pack.hash);
        for pack in &packs {
            self.report.packs += 1;
            self.report.pack_bytes += pack.size;
            let text = match stored.get(&pack.hash) {
                None => "is missing".to_owned(),
                Some(size) if *size != pack.size => format!("has {size} bytes instead of {}", pack.size),
                Some(_) => continue,
            };
            if self.is_replaced(pack)? {
                self.report.replaced_packs += 1;
            } else {
                self.find(Place::Pack(pack.hash).to_string(), text);
            }
        }
        packs.retain(|pack| stored.get(&pack.hash) == Some(&pack.size));
        Ok(packs)
    }

    /// Does another pack hold everything that this lost one held?
    fn is_replaced(&self, pack: &NamedPack) -> Result<bool, RepoError> {
        let presence = Presence::new(self.repository, self.index, pack.domain, &HashSet::new(), 0)?;
        for id in &pack.contents.ids {
            if !presence.holds(id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Verifies all snapshots, their chain, and everything they refer to.
    pub(super) fn snapshots(&mut self) -> Result<(), RepoError> {
        let listed = snapshots::list(self.repository)?;
        for (place, error) in &listed.unusable {
            self.find(place.to_string(), error.to_string());
        }
        self.report.foreign += listed.foreign as u64;
        self.chain(&listed);
        self.trees(&listed.snapshots)
    }

    /// Each host numbers its snapshots without a gap, and each names its predecessor.
    fn chain(&mut self, listed: &Listed) {
        let mut by_host: BTreeMap<_, Vec<&SnapshotInfo>> = BTreeMap::new();
        for info in &listed.snapshots {
            by_host.entry(info.host).or_default().push(info);
        }
        for (host, mut infos) in by_host {
            infos.sort_by_key(|info| info.sequence);
            let mut taken: Vec<u64> = infos.iter().map(|info| info.sequence).collect();
            taken.extend(listed.checkpoints.iter().filter_map(|(place, _)| sequence_of(place, host)));
            taken.extend(listed.unusable.iter().filter_map(|(place, _)| sequence_of(place, host)));
            taken.sort_unstable();
            taken.dedup();
            let name = infos.last().map_or("", |info| info.snapshot.host_name.as_str());
            let mut expected = 1;
            for number in taken {
                if let Some(text) = missing_numbers(expected, number) {
                    self.find(format!("snapshots/{host}"), format!("{text} (host {name})"));
                }
                expected = number + 1;
            }
            for info in &infos {
                if let Some(previous) = info.snapshot.previous
                    && !infos.iter().any(|other| other.hash == previous && other.sequence < info.sequence)
                {
                    let text = format!("its predecessor {} is not there", previous.short());
                    self.find(format!("snapshot {}", info.hash.short()), text);
                }
            }
        }
    }
}

/// Says which numbers are missing when `found` comes where `expected` should.
fn missing_numbers(expected: u64, found: u64) -> Option<String> {
    match found.checked_sub(expected)? {
        0 => None,
        1 => Some(format!("number {expected} was removed")),
        _ => Some(format!("numbers {expected} to {} were removed", found - 1)),
    }
}

fn sequence_of(place: &Place, host: crate::base::id::HostId) -> Option<u64> {
    match place {
        Place::Snapshot(of, sequence, _) if *of == host => Some(*sequence),
        _ => None,
    }
}
