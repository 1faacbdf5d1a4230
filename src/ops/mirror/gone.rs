//! What the mirror has and the repository has no longer: removed there for a signed reason, or lost?

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::listing::Listing;
use super::{MirrorError, Source};
use crate::base::id::ObjectHash;
use crate::base::limits::OBJECT_BYTES_MAX;
use crate::format::delta::PackList;
use crate::format::inventory::State;
use crate::format::object::{Object, ObjectType};
use crate::repo::ledger::Ledger;
use crate::repo::records::RecordCache;
use crate::repo::{RepoError, Repository, deltas, snapshots};
use crate::store::{Folder, Place, Storage};

/// Why an object is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A signed record, or what stands beside it, says so.
    Explained,
    /// Nothing says so.
    Lost,
    /// What could say so does not open with this key.
    Unknown,
}

/// Packs that a delta names, from its clear part; nothing is proven.
pub(super) fn packs_named(store: &dyn Storage, place: &Place) -> Result<PackList, String> {
    let bytes = store.read(place, OBJECT_BYTES_MAX).map_err(|error| error.source.to_string())?;
    named_in(&bytes)
}

/// The same from its bytes.
pub(super) fn named_in(delta: &[u8]) -> Result<PackList, String> {
    Object::decode(delta, &[ObjectType::Delta])
        .and_then(|(object, _, _)| PackList::decode(&object.clear))
        .map_err(|error| error.to_string())
}

/// Judges objects that are gone.
pub(super) struct Judge<'a> {
    source: &'a Source<'a>,
    target: &'a Arc<dyn Storage>,
    listing: &'a Listing,
    ledger: Ledger,
    /// Checkpoints in the mirror that a later snapshot closed; filled when first asked for.
    closed: Option<HashSet<Place>>,
    /// Packs named by the repository's deltas whose signature holds; filled when first asked for.
    named: Option<HashSet<ObjectHash>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        target: &'a Arc<dyn Storage>,
        listing: &'a Listing,
    ) -> Result<Judge<'a>, MirrorError> {
        let ledger = source.repository.map(Ledger::read).transpose()?.unwrap_or_default();
        Ok(Judge { source, target, listing, ledger, closed: None, named: None })
    }

    /// Why is an object gone?
    pub(super) fn verdict(&mut self, place: &Place) -> Result<Verdict, RepoError> {
        let Some(repository) = self.source.repository else { return Ok(Verdict::Unknown) };
        let full = self.source.has_full_key();
        let explained = match place {
            Place::Pack(pack) => self.ledger.deletes(pack),
            Place::Parity(pack, _) => self.ledger.deletes(pack) || self.has_parity(pack),
            Place::Delta(..) => self.is_delta_explained(repository, place)?,
            // A writer removes nothing that was ever backed up, whatever records it can read.
            Place::Snapshot(_, _, hash) => {
                full && (self.ledger.forgotten.contains_key(hash)
                    || self.ledger.replaced.contains_key(hash)
                    || self.ledger.comes_too_late(place)
                    || self.is_closed(repository, place)?)
            }
            // A slot is the only object that is removed without a record.
            Place::KeySlot(_) => full,
            Place::Config | Place::Record(..) | Place::Inventory(..) => false,
        };
        let private = matches!(place, Place::Delta(..) | Place::Snapshot(..) | Place::KeySlot(_));
        Ok(match explained {
            true => Verdict::Explained,
            false if private && !full => Verdict::Unknown,
            false => Verdict::Lost,
        })
    }

    fn has_parity(&self, pack: &ObjectHash) -> bool {
        let mut others = self.listing.of(Folder::Parity).iter();
        others.any(|(place, _)| matches!(place, Place::Parity(of, _) if of == pack))
    }

    /// Is every pack that a delta names doomed, or named by a delta that is still there?
    fn is_delta_explained(&mut self, repository: &Repository, place: &Place) -> Result<bool, RepoError> {
        let Ok(list) = packs_named(self.target.as_ref(), place) else { return Ok(false) };
        let named = match self.named.take() {
            Some(named) => named,
            None => self.packs_in_use(repository)?,
        };
        let holds = |pack: &ObjectHash| self.ledger.deletes(pack) || named.contains(pack);
        let explained = list.packs.iter().all(|(pack, _)| holds(pack));
        self.named = Some(named);
        Ok(explained)
    }

    fn packs_in_use(&self, repository: &Repository) -> Result<HashSet<ObjectHash>, RepoError> {
        let mut named = HashSet::new();
        for (place, _) in self.listing.of(Folder::Deltas) {
            match deltas::read(repository, &self.ledger.hosts, place) {
                Ok(Some(delta)) => named.extend(delta.packs.iter().map(|(pack, _, _)| *pack)),
                Err(error) if error.ends_the_run() => return Err(error),
                // One that does not prove itself explains nothing.
                Ok(None) | Err(_) => {}
            }
        }
        Ok(named)
    }

    /// Is it a checkpoint whose job went on to a snapshot?
    fn is_closed(&mut self, repository: &Repository, place: &Place) -> Result<bool, RepoError> {
        if self.closed.is_none() {
            let mirror = Repository {
                store: Arc::clone(self.target),
                keys: Arc::clone(&repository.keys),
                config: repository.config.clone(),
                config_damage: None,
                opened: None,
                records: RecordCache::default(),
            };
            let listed = snapshots::list(&mirror)?;
            let open: HashSet<Place> = listed.open_checkpoints().map(|(place, _)| *place).collect();
            let all = listed.checkpoints.iter().map(|(place, _)| *place);
            self.closed = Some(all.filter(|place| !open.contains(place)).collect());
        }
        Ok(self.closed.as_ref().is_some_and(|closed| closed.contains(place)))
    }
}

/// How an object that the repository does not have stands, given what the last inventory said of it.
///
/// `before` is `None` when it said nothing, or there was none.
pub(super) fn state(verdict: Verdict, is_slot: bool, before: Option<State>, now: i64) -> State {
    match before {
        Some(State::Gone(since)) => State::Gone(since),
        Some(State::There) => State::Gone(now),
        // A slot that was made in the mirror looks like one that was removed in the repository.
        Some(State::OnlyHere) | None if is_slot || verdict != Verdict::Explained => State::OnlyHere,
        Some(State::OnlyHere) | None => State::Gone(now),
    }
}

/// Leaves out packs that some delta names which stays: what a delta names must be there.
pub(super) fn spare_named_packs(
    store: &dyn Storage,
    there: &HashMap<Place, u64>,
    leaving: &mut HashSet<Place>,
) {
    if !leaving.iter().any(|place| matches!(place, Place::Pack(_))) {
        return;
    }
    let staying = there.keys().filter(|place| matches!(place, Place::Delta(..)) && !leaving.contains(place));
    // One that cannot be read is damaged in the mirror, and told by its verification.
    let lists: Vec<PackList> = staying.filter_map(|place| packs_named(store, place).ok()).collect();
    for (pack, _) in lists.into_iter().flat_map(|list| list.packs) {
        leaving.remove(&Place::Pack(pack));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_an_object_is_gone_is_remembered() {
        use State::{Gone, OnlyHere, There};
        for (verdict, is_slot, before, after) in [
            (Verdict::Explained, false, Some(There), Gone(9)),
            (Verdict::Lost, false, Some(There), Gone(9)),
            (Verdict::Explained, false, Some(Gone(4)), Gone(4)),
            (Verdict::Lost, false, Some(Gone(4)), Gone(4)),
            (Verdict::Explained, false, None, Gone(9)),
            (Verdict::Lost, false, None, OnlyHere),
            (Verdict::Unknown, false, Some(OnlyHere), OnlyHere),
            (Verdict::Explained, true, Some(There), Gone(9)),
            (Verdict::Explained, true, None, OnlyHere),
            (Verdict::Explained, true, Some(OnlyHere), OnlyHere),
        ] {
            assert_eq!(state(verdict, is_slot, before, 9), after, "{verdict:?} {before:?}");
        }
    }
}
