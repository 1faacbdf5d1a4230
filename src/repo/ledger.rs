//! What all records together say: hosts, dropped snapshots, holds, running prunes, doomed packs, tombstones.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::records::{self, HostInfo};
use super::{RepoError, Repository};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::format::record::{Record, Replacement, SnapshotName};
use crate::store::{Folder, Place};

/// A hold that was not released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub hold: u64,
    /// Snapshots that are held.
    pub snapshots: Vec<SnapshotName>,
    /// Users that are held.
    pub users: Vec<String>,
    /// Why.
    pub reason: String,
    /// When it was made, unix seconds by its maker's clock.
    pub at: i64,
}

/// A condemn and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// The condemn's own place.
    pub place: Place,
    /// The condemned packs.
    pub packs: Vec<ObjectHash>,
    /// Its prune has ended.
    pub ended: bool,
}

/// Content that must not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The domain whose keys made the marks.
    pub domain: DomainId,
    /// Marks of folders.
    pub scopes: Vec<[u8; 16]>,
    /// Marks of contents.
    pub contents: Vec<[u8; 16]>,
}

/// How a snapshot came to count no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// When, unix seconds by the clock of whoever did it.
    pub at: i64,
    /// `forget`, or whose rewrite it was.
    pub verb: String,
    /// The rule of a forget; else empty.
    pub why: String,
}

/// Result of an earlier check, drill, mirror or prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastResult {
    /// Which.
    pub verb: String,
    /// Did it end well?
    pub ok: bool,
    /// For people.
    pub text: String,
    /// When, unix seconds by its maker's clock.
    pub at: i64,
}

/// All records that our keys open, added up in the order of their numbers.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Hosts that were ever registered, in that order.
    pub hosts: Vec<HostInfo>,
    /// The last number that counts of each host that was revoked.
    pub revoked: HashMap<HostId, u64>,
    /// Snapshots and checkpoints that were dropped by rule.
    pub forgotten: HashMap<ObjectHash, SnapshotName>,
    /// Snapshots that were written anew, by their hash.
    pub replaced: HashMap<ObjectHash, Replacement>,
    /// Holds that stand.
    pub holds: Vec<Hold>,
    /// Highest number that a hold ever had; 0 when there was none.
    pub last_hold: u64,
    /// Every condemn, by its hash.
    pub condemned: HashMap<ObjectHash, Condemned>,
    /// Packs that nobody may lean on ever again, with the dooms' places.
    pub doomed: HashMap<ObjectHash, Place>,
    /// Doomed packs that their prune spared because something needs them: lost, they are a loss.
    pub spared: HashSet<ObjectHash>,
    /// Purged content.
    pub tombstones: Vec<Tombstone>,
    /// Results, oldest first.
    pub results: Vec<PastResult>,
    /// Records of a type that this version does not know.
    pub unknown: Vec<Place>,
    /// Records that cannot be used, each with its reason; they count for nothing.
    pub unusable: Vec<(Place, RepoError)>,
    /// Every record that was counted.
    pub places: HashSet<Place>,
    /// How and when what is forgotten or replaced was dropped.
    dropped: HashMap<ObjectHash, Dropped>,
    /// In whose place a snapshot stands: the number and the time that it inherited.
    inherited: HashMap<ObjectHash, (u64, i64)>,
}

impl Ledger {
    /// Adds up all records.
    pub fn read(repository: &Repository) -> Result<Ledger, RepoError> {
        let mut ledger = Ledger::default();
        let mut holds: BTreeMap<u64, Hold> = BTreeMap::new();
        for (place, _) in repository.store.list(Folder::Records)? {
            match records::read(repository, &place) {
                Ok(read) => {
                    ledger.places.insert(place);
                    match &read.1 {
                        Some(Record::Hold { hold, released: true, .. }) => drop(holds.remove(hold)),
                        Some(Record::Hold { hold, snapshots, users, reason, .. }) => {
                            ledger.last_hold = ledger.last_hold.max(*hold);
                            // Two that were made at the same time got the same number: none may be lost.
                            let stands = holds.entry(*hold).or_insert_with(|| Hold {
                                hold: *hold,
                                snapshots: Vec::new(),
                                users: Vec::new(),
                                reason: reason.clone(),
                                at: read.0.at,
                            });
                            stands.snapshots.extend(snapshots);
                            stands.users.extend(users.iter().cloned());
                        }
                        Some(record) => ledger.add(&place, read.0.at, record),
                        None if read.0.record_type > Record::TYPE_MAX => ledger.unknown.push(place),
                        None => {}
                    }
                }
                Err(error) if error.ends_the_run() => return Err(error),
                // A rotten sector, a file of another size or without rights must keep nobody from the others.
                Err(error) => ledger.unusable.push((place, error)),
            }
        }
        ledger.holds = holds.into_values().collect();
        for known in &mut ledger.hosts {
            known.revoked = ledger.revoked.get(&known.host).copied();
        }
        ledger.inherit();
        Ok(ledger)
    }

    fn add(&mut self, place: &Place, at: i64, record: &Record) {
        let own = *place.hash().expect("records are named by their hash");
        match record {
            Record::HostRegistered { host, name, domain, verifying_key } => self.hosts.push(HostInfo {
                host: *host,
                name: name.clone(),
                domain: *domain,
                verifying_key: *verifying_key,
                revoked: None,
            }),
            Record::HostRevoked { host, last_sequence } => {
                // Nothing takes a revocation back, so of several the strictest counts.
                let last = self.revoked.entry(*host).or_insert(*last_sequence);
                *last = (*last).min(*last_sequence);
            }
            Record::Forget { snapshots, rule } => {
                for name in snapshots {
                    let dropped = Dropped { at, verb: "forget".to_owned(), why: rule.clone() };
                    self.dropped.insert(name.hash, dropped);
                }
                self.forgotten.extend(snapshots.iter().map(|name| (name.hash, *name)));
            }
            Record::Rewrite { verb, replaced } => {
                for step in replaced {
                    let dropped = Dropped { at, verb: verb.clone(), why: String::new() };
                    self.dropped.entry(step.old.hash).or_insert(dropped);
                }
                self.replaced.extend(replaced.iter().map(|step| (step.old.hash, step.clone())));
            }
            Record::Condemn { packs } => {
                let condemned = Condemned { place: *place, packs: packs.clone(), ended: false };
                self.condemned.insert(own, condemned);
            }
            Record::Doom { packs, .. } => {
                self.spared.retain(|spared| !packs.contains(spared));
                self.doomed.extend(packs.iter().map(|pack| (*pack, *place)));
            }
            Record::PruneEnded { condemned, spared } => {
                self.spared.extend(spared.iter().filter(|pack| self.doomed.contains_key(*pack)));
                if let Some(condemned) = self.condemned.get_mut(condemned) {
                    condemned.ended = true;
                }
            }
            Record::Tombstone { domain, scopes, contents } => self.tombstones.push(Tombstone {
                domain: *domain,
                scopes: scopes.clone(),
                contents: contents.clone(),
            }),
            Record::Result { verb, ok, text } => {
                self.results.push(PastResult { verb: verb.clone(), ok: *ok, text: text.clone(), at });
            }
            Record::Hold { .. } => unreachable!("holds are added up by their numbers"),
        }
    }

    /// A snapshot written anew twice stands in the place of the first.
    fn inherit(&mut self) {
        let before: HashMap<ObjectHash, &Replacement> =
            self.replaced.values().filter_map(|step| Some((step.new?.hash, step))).collect();
        let mut inherited = HashMap::new();
        for (new, step) in &before {
            let mut first = *step;
            // A chain is no longer than there are steps; a signer that made a ring gets any one of them.
            for _ in 0..before.len() {
                match before.get(&first.old.hash) {
                    Some(earlier) => first = earlier,
                    None => break,
                }
            }
            inherited.insert(*new, (first.old.sequence, step.received));
        }
        self.inherited = inherited;
    }

    /// Does a snapshot or checkpoint count no longer? `there` are the objects that stand in `snapshots/`.
    pub fn drops(&self, hash: &ObjectHash, there: &HashSet<ObjectHash>) -> bool {
        let is_replaced = |step: &Replacement| {
            step.new.is_none_or(|new| there.contains(&new.hash) || self.is_gone(&new.hash))
        };
        self.forgotten.contains_key(hash) || self.replaced.get(hash).is_some_and(is_replaced)
    }

    /// Was it written by a host that had been revoked? What the repository itself wrote anew counts, whenever that was.
    pub fn comes_too_late(&self, place: &Place) -> bool {
        let Place::Snapshot(host, sequence, hash) = place else { return false };
        self.revoked.get(host).is_some_and(|last| sequence > last) && self.stands_for(hash).is_none()
    }

    /// Was this one dropped in its turn?
    fn is_gone(&self, hash: &ObjectHash) -> bool {
        self.forgotten.contains_key(hash) || self.replaced.contains_key(hash)
    }

    /// Every snapshot and checkpoint that some record drops, and how.
    pub fn dropped(&self) -> impl Iterator<Item = (&ObjectHash, &Dropped)> {
        self.dropped.iter()
    }

    /// What stands in the place of a snapshot that was written anew, however often; `None` when nothing does.
    pub fn successor(&self, hash: &ObjectHash) -> Option<ObjectHash> {
        let mut new = self.replaced.get(hash)?.new?.hash;
        for _ in 0..self.replaced.len() {
            match self.replaced.get(&new) {
                Some(step) => new = step.new?.hash,
                None => break,
            }
        }
        Some(new)
    }

    /// Number and time of receipt that a snapshot took over from the one in whose place it stands.
    pub fn stands_for(&self, hash: &ObjectHash) -> Option<(u64, i64)> {
        self.inherited.get(hash).copied()
    }

    /// The snapshots and checkpoints that some record says were dropped; they explain gaps in the numbers.
    pub fn explains(&self) -> impl Iterator<Item = &SnapshotName> {
        self.forgotten.values().chain(self.replaced.values().map(|step| &step.old))
    }

    /// Condemns whose prune has not ended, by their hash.
    pub fn open_condemns(&self) -> impl Iterator<Item = (&ObjectHash, &Condemned)> {
        self.condemned.iter().filter(|(_, condemned)| !condemned.ended)
    }

    /// Was this pack deleted on purpose, or is it about to be?
    pub fn deletes(&self, pack: &ObjectHash) -> bool {
        self.doomed.contains_key(pack) && !self.spared.contains(pack)
    }

    /// Packs whose blobs a writer treats as absent: condemned ones, and doomed ones for ever.
    pub fn shunned(&self) -> HashSet<ObjectHash> {
        let condemned = self.open_condemns().flat_map(|(_, condemned)| &condemned.packs);
        condemned.chain(self.doomed.keys()).copied().collect()
    }

    /// Fails while some record cannot be read.
    pub fn need_whole(&self) -> Result<(), RepoError> {
        if let Some((place, error)) = self.unusable.first() {
            let detail = match error {
                RepoError::Damaged { detail, .. } => detail.clone(),
                RepoError::Refused { why, .. } => (*why).to_owned(),
                error => error.to_string(),
            };
            return Err(RepoError::Damaged { object: place.to_string(), detail });
        }
        Ok(())
    }

    /// The highest number of a record that was counted; 0 when there is none.
    pub fn last_record(&self) -> u64 {
        let numbers = self.places.iter().map(|place| match place {
            Place::Record(sequence, _) => *sequence,
            _ => 0,
        });
        numbers.max().unwrap_or(0)
    }

    /// Fails while some record cannot be read, or is of a type that this version does not know.
    ///
    /// What drops, rewrites or deletes something must know every hold.
    pub fn need_known(&self) -> Result<(), RepoError> {
        self.need_whole()?;
        match self.unknown.first() {
            Some(place) => Err(RepoError::Unsupported {
                object: place.to_string(),
                detail: "a newer version wrote this record, and what it protects is not known here"
                    .to_owned(),
            }),
            None => Ok(()),
        }
    }
}
