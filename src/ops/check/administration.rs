//! Key slots and records: each verified, none missing, and what they say together makes sense.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::finding::{Finding, Kind, Subject};
use super::{Check, chain};
use crate::base::bytes;
use crate::base::clock;
use crate::base::id::{DomainId, HostId};
use crate::format::keyset::Role;
use crate::repo::RepoError;
use crate::repo::ledger::Ledger;
use crate::repo::records::{self, HostInfo};
use crate::repo::snapshots::Listed;
use crate::store::Place;

/// How long ago something was, in words.
pub(super) fn ago(seconds: i64) -> String {
    match seconds {
        ..7_200 => format!("{} minutes ago", (seconds / 60).max(0)),
        7_200..172_800 => format!("{} hours ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

impl Check<'_> {
    /// Verifies config and key slots.
    pub(super) fn keys(&mut self) -> Result<(), RepoError> {
        if let Some(damage) = self.repository.config_damage.clone() {
            self.find(Finding::new(Kind::Keys, Subject::Config, "config", damage));
        }
        for (id, slot) in self.repository.slots()? {
            if let Err(error) = slot {
                let place = Place::KeySlot(id);
                let kind = match Kind::of(&error) {
                    Kind::Damaged => Kind::Keys,
                    kind => kind,
                };
                self.find(Finding::new(kind, Subject::Key, place.to_string(), error.to_string()));
            }
        }
        Ok(())
    }

    /// Verifies all records, and tells what they leave open.
    pub(super) fn records(&mut self, ledger: &Ledger) -> Result<(), RepoError> {
        for (place, error) in &ledger.unusable {
            self.find(Finding::at(place, error));
        }
        // A removed record may have been a revocation. A name alone fills a gap and opens none.
        let number = |place: &Place| match place {
            Place::Record(sequence, _) => Some(*sequence),
            _ => None,
        };
        let mut numbers: BTreeSet<u64> = ledger.places.iter().filter_map(number).collect();
        let last = numbers.last().copied().unwrap_or(0);
        let claimed = ledger.unusable.iter().filter_map(|(place, _)| number(place));
        numbers.extend(claimed.filter(|claimed| *claimed < last));
        for text in chain::gaps(numbers) {
            self.find(Finding::new(Kind::Gap, Subject::History, "records", text));
        }
        let mut unknown: Vec<String> = ledger.unknown.iter().map(Place::to_string).collect();
        unknown.sort();
        for place in unknown {
            let text = "a newer version wrote this record; prune, forget and purge refuse to work beside it";
            self.remark(Subject::Record, place, text);
        }
        self.prunes(ledger)?;
        self.registrations(&ledger.hosts);
        self.revoked_slots(&ledger.hosts)
    }

    /// Prunes that were begun and not ended, and what they doomed.
    fn prunes(&mut self, ledger: &Ledger) -> Result<(), RepoError> {
        let mut open: Vec<&Place> = ledger.open_condemns().map(|(_, condemned)| &condemned.place).collect();
        open.sort();
        for place in open {
            // When the store received it, which no writer sets.
            let age = (clock::now() - self.repository.store.received(place)?) / 1_000_000_000;
            let begun = ago(age as i64);
            let text = format!("a prune was begun {begun} and not ended; `mailark prune` goes on with it");
            self.remark(Subject::Record, place.to_string(), text);
        }
        Ok(())
    }

    /// One name for hosts of two domains: they do not deduplicate against each other.
    fn registrations(&mut self, hosts: &[HostInfo]) {
        let mut names: BTreeMap<&str, BTreeSet<(DomainId, HostId)>> = BTreeMap::new();
        for known in hosts.iter().filter(|known| known.revoked.is_none()) {
            names.entry(&known.name).or_default().insert((known.domain, known.host));
        }
        for (name, registered) in names {
            let domains: HashSet<DomainId> = registered.iter().map(|(domain, _)| *domain).collect();
            if domains.len() > 1 {
                let hosts: Vec<String> = registered.iter().map(|(_, host)| host.short()).collect();
                let text = format!(
                    "is registered with {} domains (hosts {}): they store the same mail more than once, unless one \
                     is no longer in use",
                    domains.len(),
                    hosts.join(", ")
                );
                self.remark(Subject::History, format!("host {name}"), text);
            }
        }
    }

    /// Slots that open the keys of hosts which were revoked.
    fn revoked_slots(&mut self, hosts: &[HostInfo]) -> Result<(), RepoError> {
        for (id, slot) in self.repository.slots()? {
            let Ok(header) = slot else { continue };
            if header.role == Role::Writer && records::is_revoked_name(hosts, header.host_name.as_str()) {
                let text = format!(
                    "opens the keys of host {}, which was revoked: 'mailark key remove {id}'",
                    bytes::display(header.host_name.as_str().as_bytes())
                );
                self.remark(Subject::Key, Place::KeySlot(id).to_string(), text);
            }
        }
        Ok(())
    }

    /// Every host that wrote a snapshot must be registered: else the record of it was removed.
    pub(super) fn strangers(&mut self, ledger: &Ledger, listed: &Listed) {
        if !ledger.unusable.is_empty() {
            // One of these may be the registration, and is told already.
            return;
        }
        let writers: BTreeSet<HostId> = listed.snapshots.iter().map(|info| info.host).collect();
        for host in writers {
            if records::registered(&ledger.hosts, &host).is_none() {
                let text = "it wrote snapshots, and no record registers it: that record was removed";
                self.find(Finding::new(Kind::Gap, Subject::History, format!("host {host}"), text));
            }
        }
    }

    /// Packs that a prune doomed and that are still there.
    pub(super) fn doomed(&mut self, ledger: &Ledger) {
        let left = ledger.doomed.keys().filter(|pack| self.stored.contains_key(pack)).count() as u64;
        self.report.doomed_packs = left;
    }
}
