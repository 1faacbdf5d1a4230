//! Reading a mirror without any key: every byte against its name, every name against what should be there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::copy::{hash_of, slot_proves};
use super::gone::named_in;
use super::run::all_objects;
use super::target::{Identity, identity};
use super::{Finding, MirrorError, inventory};
use crate::base::clock;
use crate::base::id::{ObjectHash, RepositoryId};
use crate::base::interrupt::Interrupt;
use crate::base::limits::{OBJECT_BYTES_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::base::progress::Progress;
use crate::format::delta::PackList;
use crate::format::inventory::{Inventory, Item, State};
use crate::repo::RepoError;
use crate::store::{Folder, Place, Storage};

/// What was seen.
#[derive(Debug, Default)]
pub struct Verification {
    /// The repository that the mirror says to hold.
    pub repository: Option<RepositoryId>,
    /// When the newest inventory was written, unix seconds.
    pub inventory_at: Option<i64>,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects that came after the newest inventory, or stayed from before.
    pub unlisted: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub duration: Duration,
}

/// Reads everything.
pub fn verify(
    store: &dyn Storage,
    workers: usize,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Verification, MirrorError> {
    let stopwatch = clock::stopwatch();
    let there = all_objects(store)?;
    if there.is_empty() {
        return Err(MirrorError::NoMirror { location: store.location() });
    }
    let mut findings: BTreeMap<Place, String> = BTreeMap::new();
    let mut seen = Verification::default();
    match identity(store)? {
        Identity::Repository(id) => seen.repository = Some(id),
        Identity::Unreadable(text) => drop(findings.insert(Place::Config, text)),
        Identity::Absent => drop(findings.insert(Place::Config, "is missing".to_owned())),
    }
    let newest = newest_inventory(store, &mut findings)?;
    seen.inventory_at = newest.as_ref().map(|inventory| inventory.at);
    let listed: HashMap<Place, Item> = newest
        .map(|inventory| inventory.objects)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|item| Some((Place::parse(&item.name)?, item)))
        .collect();
    compare(&there, &listed, &mut findings);
    seen.unlisted = there.keys().filter(|place| !listed.contains_key(place)).count() as u64;

    let mut objects: Vec<(Place, u64)> = there.iter().map(|(place, size)| (*place, *size)).collect();
    objects.sort_unstable();
    seen.objects = objects.len() as u64;
    seen.bytes = there.values().sum();
    progress.counters().expect(seen.objects, seen.bytes);
    let reading = Reading { store, listed: &listed, there: &there, progress, interrupt };
    for (place, text) in reading.all(&objects, workers)? {
        findings.entry(place).or_insert(text);
    }
    seen.findings =
        findings.into_iter().map(|(place, text)| Finding { object: place.to_string(), text }).collect();
    if seen.inventory_at.is_none() {
        let text = "there is none that can be read, so not all that is missing shows".to_owned();
        seen.findings.push(Finding { object: Folder::Inventory.name().to_owned(), text });
    }
    for finding in &seen.findings {
        progress.problem(&format!("{}: {}", finding.object, finding.text));
    }
    seen.duration = stopwatch.elapsed();
    Ok(seen)
}

/// The newest inventory that can be read; each that cannot is a finding.
fn newest_inventory(
    store: &dyn Storage,
    findings: &mut BTreeMap<Place, String>,
) -> Result<Option<Inventory>, MirrorError> {
    let mut newest = None;
    for (place, _) in store.list(Folder::Inventory)? {
        match inventory::read(store, &place) {
            Ok(inventory) => newest = Some(inventory),
            Err(text) => drop(findings.insert(place, text)),
        }
    }
    Ok(newest)
}

/// Is what the inventory lists there, with its size?
fn compare(
    there: &HashMap<Place, u64>,
    listed: &HashMap<Place, Item>,
    findings: &mut BTreeMap<Place, String>,
) {
    for (place, item) in listed {
        let text = match there.get(place) {
            None => "is missing".to_owned(),
            Some(size) if *size != item.bytes => format!("has {size} bytes instead of {}", item.bytes),
            Some(_) => continue,
        };
        findings.entry(*place).or_insert(text);
    }
}

/// What the threads that read share.
struct Reading<'a> {
    store: &'a dyn Storage,
    listed: &'a HashMap<Place, Item>,
    there: &'a HashMap<Place, u64>,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

impl Reading<'_> {
    /// Reads all objects; gives what is wrong, in any order.
    fn all(&self, objects: &[(Place, u64)], workers: usize) -> Result<Vec<(Place, String)>, MirrorError> {
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<(Place, String)>> = Mutex::default();
        let work = || {
            while let Some((place, size)) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.interrupt.is_raised() {
                    return;
                }
                let wrong = match self.object(place, *size) {
                    Ok(wrong) => wrong,
                    Err(text) => vec![(*place, text)],
                };
                found.lock().expect("no holder panics").extend(wrong);
                self.progress.counters().add(1, *size);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..workers.max(1) {
                scope.spawn(work);
            }
        });
        self.interrupt.check().map_err(RepoError::from)?;
        Ok(found.into_inner().expect("no holder panics"))
    }

    /// Reads an object; gives what is wrong with others that it names.
    ///
    /// # Errors
    /// What is wrong with itself.
    fn object(&self, place: &Place, size: u64) -> Result<Vec<(Place, String)>, String> {
        let whole = |most: u64| self.store.read(place, most).map_err(|error| error.source.to_string());
        let same = |found: ObjectHash, expected: &ObjectHash| match found == *expected {
            true => Ok(()),
            false => Err("its bytes are not those that were written".to_owned()),
        };
        let hash = |bytes: &[u8]| ObjectHash(*blake3::hash(bytes).as_bytes());
        match (place, place.hash()) {
            (Place::Delta(..), Some(expected)) => {
                let bytes = whole(OBJECT_BYTES_MAX)?;
                same(hash(&bytes), expected)?;
                return Ok(self.packs_of(place, &named_in(&bytes)?));
            }
            (_, Some(expected)) => {
                let found = hash_of(self.store, place, size).map_err(|error| error.source.to_string())?;
                same(found, expected)?;
            }
            (_, None) => {
                let bytes = whole(SMALL_OBJECT_BYTES_MAX)?;
                if let Some(expected) = self.listed.get(place).and_then(|item| item.hash) {
                    same(hash(&bytes), &expected)?;
                }
                if let Place::KeySlot(id) = place {
                    slot_proves(&bytes, *id)?;
                }
            }
        }
        Ok(Vec::new())
    }

    /// Packs that a delta names, and that are not there as it says.
    ///
    /// Where the repository has another delta in its place, a prune may have deleted some before they were copied.
    fn packs_of(&self, delta: &Place, list: &PackList) -> Vec<(Place, String)> {
        let is_kept_only = self.listed.get(delta).is_some_and(|item| matches!(item.state, State::Gone(_)));
        let wrong = list.packs.iter().filter_map(|(pack, size)| {
            let pack = Place::Pack(*pack);
            match self.there.get(&pack) {
                None if is_kept_only && !self.listed.contains_key(&pack) => None,
                None => Some((pack, format!("is missing ({delta} names it)"))),
                Some(found) if found != size => Some((pack, format!("has {found} bytes instead of {size}"))),
                Some(_) => None,
            }
        });
        wrong.collect()
    }
}
