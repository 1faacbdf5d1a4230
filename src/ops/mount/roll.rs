//! The snapshots that a mount shows, under names that stay; new ones come in while it is looked at.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::vault::{Shown, Vault};
use crate::base::clock;
use crate::base::id::ObjectHash;
use crate::repo::snapshots::{self, Filter, SnapshotInfo};
use crate::repo::{RepoError, deltas};
use crate::store::{Folder, Place};

/// The repository is looked at again at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The snapshots of one moment.
#[derive(Default)]
pub struct Snapshots {
    /// Oldest first.
    pub shown: Vec<Arc<Shown>>,
    by_name: HashMap<String, usize>,
}

impl Snapshots {
    /// The snapshot of that name.
    pub fn named(&self, name: &[u8]) -> Option<&Arc<Shown>> {
        let name = std::str::from_utf8(name).ok()?;
        self.by_name.get(name).map(|&at| &self.shown[at])
    }

    /// The newest of some, never a suspect one while there is a better one.
    pub fn newest<'s>(shown: impl Iterator<Item = &'s Arc<Shown>> + Clone) -> Option<&'s Arc<Shown>> {
        let newest = snapshots::newest(shown.clone().map(|shown| &shown.info))?.hash;
        shown.into_iter().find(|shown| shown.info.hash == newest)
    }
}

/// Keeps the list.
pub struct Roll {
    filter: Filter,
    zone: TimeZone,
    current: RwLock<Arc<Snapshots>>,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    /// The names of all snapshots and records, as the list at hand was made from them.
    places: HashSet<Place>,
}

impl Roll {
    /// An empty list of what `filter` lets through, named by the local time of `zone`.
    pub fn new(filter: Filter, zone: TimeZone) -> Roll {
        Roll { filter, zone, current: RwLock::default(), looked: Mutex::default() }
    }

    /// The list at hand.
    pub fn current(&self) -> Arc<Snapshots> {
        Arc::clone(&self.current.read().expect("no holder panics"))
    }

    /// Looks whether snapshots came or went, unless that was done just now; gives what could not be used.
    pub fn look(&self, vault: &Vault) -> Result<Vec<RepoError>, RepoError> {
        // Whoever comes while another looks goes on with the list at hand.
        let Ok(mut looked) = self.looked.try_lock() else { return Ok(Vec::new()) };
        if looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(Vec::new());
        }
        looked.at = Some(clock::stopwatch());
        let store = vault.repository.store.as_ref();
        let mut places = HashSet::new();
        for folder in [Folder::Snapshots, Folder::Records] {
            places.extend(store.list(folder)?.into_iter().map(|(place, _)| place));
        }
        if places == looked.places {
            return Ok(Vec::new());
        }
        let unusable = deltas::sync(&vault.repository, &vault.index)?;
        let listed = snapshots::list(&vault.repository)?;
        looked.places = places;
        let fitting = listed.snapshots.into_iter().filter(|info| self.filter.fits(info));
        let list = self.name(vault, fitting);
        *self.current.write().expect("no holder panics") = Arc::new(list);
        Ok(unusable.into_iter().chain(listed.unusable).map(|(_, error)| error).collect())
    }

    /// Gives each snapshot its name: those that had one keep it.
    fn name(&self, vault: &Vault, fitting: impl Iterator<Item = SnapshotInfo>) -> Snapshots {
        let before = self.current();
        let known: HashMap<ObjectHash, &Arc<Shown>> =
            before.shown.iter().map(|shown| (shown.info.hash, shown)).collect();
        let (kept, new): (Vec<_>, Vec<_>) = fitting.partition(|info| known.contains_key(&info.hash));
        let mut shown: Vec<Arc<Shown>> = kept.iter().map(|info| Arc::clone(known[&info.hash])).collect();
        let mut names: HashSet<String> = shown.iter().map(|shown| shown.name.clone()).collect();
        for info in new {
            let mut name = time_name(&info, &self.zone);
            if names.contains(&name) {
                name = format!("{name}-{}", info.hash.short());
            }
            names.insert(name.clone());
            shown.extend(vault.show(info, name).map(Arc::new));
        }
        shown.sort_by_key(|shown| order(shown));
        let by_name = shown.iter().enumerate().map(|(at, shown)| (shown.name.clone(), at)).collect();
        Snapshots { shown, by_name }
    }
}

fn order(shown: &Shown) -> (i64, ObjectHash) {
    (shown.info.snapshot.started, shown.info.hash)
}

/// When a snapshot was begun, in the time of a zone: `2026-11-24T141500+0100`, or `...Z` where that is UTC.
fn time_name(info: &SnapshotInfo, zone: &TimeZone) -> String {
    let Ok(begun) = Timestamp::from_nanosecond(info.snapshot.started.into()) else {
        return info.hash.short();
    };
    let begun = begun.to_zoned_datetime(zone.clone());
    let offset = if begun.offset().is_zero() { "Z".to_owned() } else { begun.strftime("%z").to_string() };
    format!("{}{offset}", begun.strftime("%Y-%m-%dT%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Snapshot;

    #[test]
    fn names_are_local_times_without_colons() {
        let started = 1_795_526_100_000_000_000;
        let info = SnapshotInfo::numbered(1, Snapshot { started, ..Snapshot::of_nothing() });
        assert_eq!(time_name(&info, &TimeZone::UTC), "2026-11-24T131500Z");
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(time_name(&info, &berlin), "2026-11-24T141500+0100");
    }
}
