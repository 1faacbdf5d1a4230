//! What is needed: by the snapshots and open checkpoints that count, and by nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, RwLock};

use super::survey::{Survey, Terms};
use super::verify::Verifier;
use super::{Options, PruneError, Report};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::format::envelope::PackEnvelope;
use crate::format::snapshot::Checkpoint;
use crate::index::{IdSorter, Index, SortedIds};
use crate::repo::ledger::Ledger;
use crate::repo::packs::PackMap;
use crate::repo::reach::Reach;
use crate::repo::snapshots::{self, Listed, SnapshotInfo};
use crate::repo::{RepoError, Repository, deltas};
use crate::store::{Folder, Place};

/// Everything that the snapshots of one moment need.
pub struct Needs {
    /// Blobs by domain.
    pub ids: Vec<(DomainId, SortedIds)>,
    /// Packs that open checkpoints name.
    pub packs: HashSet<ObjectHash>,
    /// Packs of the store and their sizes.
    pub stored: HashMap<ObjectHash, u64>,
}

/// Looks at the repository, and remembers what it has verified.
pub struct Judge<'a> {
    /// Where.
    pub repository: &'a Repository,
    /// The local index.
    pub index: &'a RwLock<Index>,
    /// How.
    pub options: Options,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Raised to stop.
    pub interrupt: &'a Interrupt,
    /// What was read.
    pub verifier: Verifier<'a>,
}

impl Judge<'_> {
    /// All snapshots and checkpoints, if each of them can be read.
    ///
    /// What is refused was never one of ours: it does not count, and must not stop anybody.
    pub fn list(&self) -> Result<Listed, PruneError> {
        let mut listed = snapshots::list(self.repository)?;
        for (place, error) in std::mem::take(&mut listed.unusable) {
            match error {
                RepoError::Refused { .. } => self.progress.problem(&format!("{error}; it does not count")),
                source => return Err(PruneError::Unreadable { place: place.to_string(), source }),
            }
        }
        match listed.foreign {
            0 => Ok(listed),
            count => {
                let place = format!("snapshots ({count} of them)");
                Err(PruneError::Unreadable {
                    source: RepoError::NotForThisKey { object: place.clone() },
                    place,
                })
            }
        }
    }

    /// Brings the index into step; packs of a delta that cannot be used would look like rubbish.
    pub fn sync(&self) -> Result<(), PruneError> {
        let unusable = deltas::sync(self.repository, self.index)?;
        // A delta that nobody of ours signed says nothing that must be heard.
        let unusable = unusable.iter().filter(|(_, error)| !matches!(error, RepoError::Refused { .. }));
        let count = unusable.inspect(|(_, error)| self.progress.problem(&error.to_string())).count();
        if count > 0 { Err(PruneError::UnusableDeltas { count }) } else { Ok(()) }
    }

    /// Packs of the store and their sizes.
    pub fn stored(&self) -> Result<HashMap<ObjectHash, u64>, PruneError> {
        let stored = self.repository.store.list(Folder::Packs)?;
        Ok(stored.into_iter().filter_map(|(place, size)| Some((*place.hash()?, size))).collect())
    }

    /// Goes through every snapshot that counts.
    pub fn needs(&self, listed: &Listed, report: &mut Report) -> Result<Needs, PruneError> {
        self.sync()?;
        // After the index: a pack that vanished since is no pack to count on.
        let stored = self.stored()?;
        let mut roots: Vec<SnapshotInfo> = listed.snapshots.clone();
        let packs = self.protected(listed, &mut roots, report)?;
        report.snapshots = roots.len() as u64;
        self.progress.counters().expect(roots.len() as u64, 0);
        let ids = self.reach(&roots, report)?;
        Ok(Needs { ids, packs, stored })
    }

    /// The packs that open checkpoints protect; adds what their parents need to the roots.
    ///
    /// A checkpoint protects what its own host wrote, and no other's.
    fn protected(
        &self,
        listed: &Listed,
        roots: &mut Vec<SnapshotInfo>,
        report: &mut Report,
    ) -> Result<HashSet<ObjectHash>, PruneError> {
        let mut named: HashSet<(HostId, ObjectHash)> = HashSet::new();
        report.open_checkpoints = 0;
        if self.options.drop_checkpoints {
            return Ok(HashSet::new());
        }
        for (place, checkpoint) in listed.open_checkpoints() {
            report.open_checkpoints += 1;
            let Place::Snapshot(host, ..) = place else { continue };
            named.extend(checkpoint.packs.iter().map(|pack| (*host, *pack)));
            let parent = own_parent(place, checkpoint);
            let dropped =
                listed.dropped.iter().find(|place| parent.is_some() && place.hash() == parent.as_ref());
            match dropped.map(|place| snapshots::read_dropped(self.repository, place)) {
                Some(Ok(Some(info))) if info.host == *host => roots.push(info),
                Some(Err(error)) if error.ends_the_run() => return Err(error.into()),
                // What cannot be read any more protects nothing.
                _ => {}
            }
        }
        if named.is_empty() {
            return Ok(HashSet::new());
        }
        let index = self.index.read().expect("no holder panics");
        let mut packs = HashSet::new();
        for (number, hash, _) in index.packs()? {
            let info = index.pack(number)?;
            let envelope =
                info.table.get(..PackEnvelope::BYTES).and_then(|bytes| PackEnvelope::decode(bytes).ok());
            if envelope.is_some_and(|envelope| named.contains(&(envelope.host, hash))) {
                packs.insert(hash);
            }
        }
        Ok(packs)
    }

    fn reach(
        &self,
        roots: &[SnapshotInfo],
        report: &mut Report,
    ) -> Result<Vec<(DomainId, SortedIds)>, PruneError> {
        let opened = PackMap::new(Arc::clone(&self.repository.keys));
        let mut reach = Reach::new(self.repository, self.index, &opened, self.interrupt);
        let mut sorters: BTreeMap<DomainId, IdSorter> = BTreeMap::new();
        // The newest first: its order of folders and arrivals is the one that is packed by.
        for info in roots.iter().rev() {
            reach.snapshot(info, &mut |reached| {
                let sorter = sorters
                    .entry(reached.domain)
                    .or_insert_with(|| self.index.read().expect("no holder panics").sorter());
                Ok(sorter.push(&reached.id, reached.order)?)
            })?;
            self.progress.counters().add(1, 0);
        }
        report.pages = reach.pages;
        Ok(sorters.into_iter().map(|(domain, sorter)| (domain, sorter.finish())).collect())
    }

    /// Finds the copy that stays of every needed blob. `firmly`, each copy on which a deletion of a shunned pack
    /// rests is read, and one that is bad is not counted on.
    pub fn survey(
        &mut self,
        needs: &Needs,
        shunned: &HashSet<ObjectHash>,
        firmly: bool,
    ) -> Result<Survey, PruneError> {
        self.survey_of(&needs.ids, &needs.stored, shunned, firmly)
    }

    /// As [`Judge::survey`], with other packs in the store than when the needs were found.
    pub fn survey_of(
        &mut self,
        ids: &[(DomainId, SortedIds)],
        stored: &HashMap<ObjectHash, u64>,
        shunned: &HashSet<ObjectHash>,
        firmly: bool,
    ) -> Result<Survey, PruneError> {
        let revoked = Ledger::read(self.repository)?.revoked;
        loop {
            let bad = self.verifier.bad.clone();
            let terms = Terms { stored, shunned, revoked: &revoked, bad: &bad };
            let verifier = &mut self.verifier;
            let mut rely = |relied| if firmly { verifier.want(relied) } else { Ok(()) };
            let survey = Survey::take(self.index, ids, &terms, &mut rely)?;
            self.verifier.settle()?;
            // Each round finds a bad segment or is the last.
            if self.verifier.bad.len() > bad.len() {
                continue;
            }
            return Ok(survey);
        }
    }
}

/// The parent of a checkpoint's run, by its hash.
pub fn own_parent(place: &Place, checkpoint: &Checkpoint) -> Option<ObjectHash> {
    checkpoint.parent.filter(|_| matches!(place, Place::Snapshot(..)))
}
