//! One mirroring from beginning to end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::copy::{Brought, Copier};
use super::gone::{self, Judge, Verdict};
use super::listing::{Listing, Sized};
use super::{Finding, MirrorError, Options, Report, Source, inventory};
use crate::base::clock;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::base::progress::Progress;
use crate::format::inventory::{Inventory, Item, State};
use crate::repo::RepoError;
use crate::store::{Folder, Place, Storage, StoreError};

/// How often the repository is listed again while prunes and backups work on it.
const ROUNDS_MAX: u64 = 10;

/// How often an object is read again until two reads agree.
const READS_MAX: u32 = 3;

/// The order in which objects are removed: what refers before what is referred to.
const REMOVAL: [Folder; 6] =
    [Folder::Snapshots, Folder::Deltas, Folder::Packs, Folder::Parity, Folder::Records, Folder::Keys];

struct Run<'a> {
    source: &'a Source<'a>,
    target: &'a Arc<dyn Storage>,
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    /// What the mirror has, with sizes.
    there: HashMap<Place, u64>,
    /// Objects that this run looked at; none is read twice.
    seen: HashSet<Place>,
    report: Report,
}

/// Mirrors `source` into `target`, a place that [`super::open`] allowed and [`super::prepare`] made ready.
pub fn run(
    source: &Source<'_>,
    target: &Arc<dyn Storage>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, MirrorError> {
    let stopwatch = clock::stopwatch();
    if !options.dry_run {
        clear_leftovers(target.as_ref())?;
    }
    let (there, seen, report) = (all_objects(target.as_ref())?, HashSet::new(), Report::default());
    let mut run = Run { source, target, options, progress, interrupt, there, seen, report };
    let (snapshots, latest) = run.rounds()?;
    if latest.holds(&Place::Config) {
        // The config comes late: what a first run leaves that was killed is not taken for a whole repository.
        run.copy(&[(Place::Config, 0)])?;
    }
    run.copy_snapshots(&snapshots)?;
    run.settle(&latest)?;
    run.report.duration = stopwatch.elapsed();
    Ok(run.report)
}

/// What a killed run began and is not collected by any prune: copies, which with the lock of this run nobody writes any
/// more, and files made to ask for the store's time, which nobody needs once they are open.
fn clear_leftovers(target: &dyn Storage) -> Result<(), StoreError> {
    for left in target.temporary()? {
        if ["mirror-", "probe-"].iter().any(|kind| left.name.starts_with(kind)) {
            target.remove_temporary(&left.name)?;
        }
    }
    Ok(())
}

/// Every object of a place but its inventories.
pub(super) fn all_objects(store: &dyn Storage) -> Result<HashMap<Place, u64>, StoreError> {
    let mut there = HashMap::new();
    for folder in Folder::ALL {
        there.extend(store.list(folder)?);
    }
    match store.read(&Place::Config, SMALL_OBJECT_BYTES_MAX) {
        Ok(config) => drop(there.insert(Place::Config, config.len() as u64)),
        Err(error) if error.is_missing() => {}
        Err(_) => drop(there.insert(Place::Config, 0)),
    }
    Ok(there)
}

impl Run<'_> {
    /// Copies all but config and snapshots until the repository held still for a round. Gives the snapshots whose
    /// needs were copied, and what the repository held last.
    fn rounds(&mut self) -> Result<(Vec<Sized>, Listing), MirrorError> {
        let wanted = self.await_needs()?;
        let (mut snapshots, latest) = self.until_still()?;
        snapshots.retain(|(place, _)| wanted.contains(place));
        Ok((snapshots, latest))
    }

    /// Gives the snapshots that are there, once every list surely shows what they need.
    ///
    /// On a share the lists of two folders may be of different age: a snapshot shows, and its packs not yet, for a
    /// while in which nothing seems to move.
    fn await_needs(&self) -> Result<HashSet<Place>, MirrorError> {
        let store = self.source.store.as_ref();
        let wanted: HashSet<Place> =
            store.list(Folder::Snapshots)?.into_iter().map(|(place, _)| place).collect();
        let is_new = wanted.iter().any(|place| !self.there.contains_key(place));
        if is_new && !self.options.dry_run {
            self.interrupt.sleep(store.staleness()).map_err(RepoError::from)?;
        }
        Ok(wanted)
    }

    fn until_still(&mut self) -> Result<(Vec<Sized>, Listing), MirrorError> {
        let store = self.source.store.as_ref();
        let mut current = Listing::read(store)?;
        let mut shrank_before = false;
        loop {
            self.report.rounds += 1;
            for folder in [Folder::Keys, Folder::Packs, Folder::Parity] {
                self.copy(current.of(folder))?;
            }
            self.copy_named_packs(&current)?;
            for folder in [Folder::Deltas, Folder::Records] {
                self.copy(current.of(folder))?;
            }
            let latest = Listing::read(store)?;
            let (grew, shrank) = (latest.exceeds(&current), current.exceeds(&latest));
            if !grew && !shrank || self.options.dry_run {
                return Ok((current.of(Folder::Snapshots).to_vec(), latest));
            }
            if self.report.rounds == ROUNDS_MAX {
                // What only grows takes nothing away from older snapshots. What a prune moves just now may have
                // been listed here and there, or in neither place.
                self.report.restless = shrank || shrank_before;
                let snapshots = if self.report.restless { &[] } else { current.of(Folder::Snapshots) };
                return Ok((snapshots.to_vec(), latest));
            }
            (current, shrank_before) = (latest, shrank);
        }
    }

    /// Copies the packs that new deltas name: on a share the list of packs may not show them yet.
    fn copy_named_packs(&mut self, current: &Listing) -> Result<(), MirrorError> {
        let store = self.source.store.as_ref();
        if store.staleness().is_zero() {
            return Ok(());
        }
        let new = current.of(Folder::Deltas).iter().filter(|(place, _)| !self.there.contains_key(place));
        // One that cannot be read is told when it is to be copied.
        let lists = new.filter_map(|(place, _)| gone::packs_named(store, place).ok());
        let named = lists.flat_map(|list| list.packs).map(|(pack, size)| (Place::Pack(pack), size));
        let named: Vec<Sized> = named.filter(|(place, _)| !current.holds(place)).collect();
        self.copy(&named)
    }

    /// Copies snapshots in their order. Where one went meanwhile, the record that says why comes before those after
    /// it, or the mirror would show a gap.
    fn copy_snapshots(&mut self, snapshots: &[Sized]) -> Result<(), MirrorError> {
        for snapshot in snapshots {
            self.copy(&[*snapshot])?;
            if !self.there.contains_key(&snapshot.0) && !self.options.dry_run {
                self.copy_records()?;
            }
        }
        Ok(())
    }

    /// Copies the records that are there by now.
    fn copy_records(&mut self) -> Result<(), MirrorError> {
        let store = self.source.store.as_ref();
        self.interrupt.sleep(store.staleness()).map_err(RepoError::from)?;
        self.copy(&store.list(Folder::Records)?)
    }

    /// Sees to it that the mirror has these objects; durable on return.
    fn copy(&mut self, objects: &[Sized]) -> Result<(), MirrorError> {
        let fresh = objects.iter().filter(|(place, _)| self.seen.insert(*place));
        let there = |place: &Place| self.there.get(place).copied();
        let wanted = |(place, size): &&Sized| {
            self.options.reread || place.hash().is_none() || there(place) != Some(*size)
        };
        let wanted: Vec<Sized> = fresh.filter(wanted).copied().collect();
        let lacking = |(place, size): &&Sized| {
            there(place).is_none() || place.hash().is_some() && there(place) != Some(*size)
        };
        if self.options.dry_run {
            for (_, size) in wanted.iter().filter(lacking) {
                self.report.copied += 1;
                self.report.copied_bytes += size;
            }
            return Ok(());
        }
        self.progress.counters().expect(wanted.len() as u64, wanted.iter().map(|(_, size)| size).sum());
        let brought = self.bring_all(&wanted)?;
        self.target.barrier()?;
        for (place, outcome) in brought {
            match outcome {
                Brought::Copied { bytes, replaced } => {
                    self.report.copied += 1;
                    self.report.copied_bytes += bytes;
                    self.report.replaced += u64::from(replaced);
                    self.there.insert(place, bytes);
                }
                Brought::Kept => {}
                // It may come back: a share can show a moment late what is there.
                Brought::Vanished => drop(self.seen.remove(&place)),
                Brought::Damaged(text) => {
                    self.progress.problem(&format!("{place}: not copied: {text}"));
                    self.report.damaged.push(Finding { object: place.to_string(), text });
                }
            }
        }
        Ok(())
    }

    fn bring_all(&self, wanted: &[Sized]) -> Result<Vec<(Place, Brought)>, MirrorError> {
        let (source, target, interrupt) = (self.source, self.target.as_ref(), self.interrupt);
        let copier = Copier { source, target, interrupt, reread: self.options.reread };
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let done: Mutex<Vec<(Place, Brought)>> = Mutex::default();
        let failed: Mutex<Option<StoreError>> = Mutex::default();
        let work = || {
            while let Some(&(place, size)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                if interrupt.is_raised() || stop.load(Ordering::Relaxed) {
                    return;
                }
                match copier.bring(&place, size, self.there.get(&place).copied()) {
                    Ok(outcome) => done.lock().expect("no holder panics").push((place, outcome)),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        failed.lock().expect("no holder panics").get_or_insert(error);
                    }
                }
                self.progress.counters().add(1, size);
            }
        };
        // Snapshots and records follow each other by number: a killed run must not leave gaps that look like removals.
        let numbered = |(place, _): &Sized| matches!(place, Place::Snapshot(..) | Place::Record(..));
        let workers = if wanted.iter().any(numbered) { 1 } else { self.options.workers };
        std::thread::scope(|scope| {
            for _ in 0..workers.clamp(1, wanted.len().max(1)) {
                scope.spawn(work);
            }
        });
        interrupt.check().map_err(RepoError::from)?;
        match failed.into_inner().expect("no holder panics") {
            Some(error) => Err(error.into()),
            None => Ok(done.into_inner().expect("no holder panics")),
        }
    }

    /// Judges what is gone from the repository, writes the inventory, and removes what was gone long enough.
    fn settle(&mut self, latest: &Listing) -> Result<(), MirrorError> {
        let now = clock::now_seconds();
        let before = inventory::newest(self.target.as_ref(), self.source.id)?;
        // A clock that was set back makes nothing older than the last run.
        let now = before.as_ref().map_or(now, |known| now.max(known.at));
        let known = before.map(|known| known.states).unwrap_or_default();
        let mut states: HashMap<Place, State> = HashMap::new();
        let mut leaving = HashSet::new();
        let mut gone = self.judge_gone(latest)?;
        gone.sort_unstable_by_key(|(place, _)| *place);
        for (place, verdict) in gone {
            let is_slot = matches!(place, Place::KeySlot(_));
            let state = gone::state(verdict, is_slot, known.get(&place).copied(), now);
            match (verdict, state) {
                (_, State::OnlyHere) => self.report.only_here.push(place),
                (Verdict::Explained, State::Gone(since)) if now - since >= self.options.delete_after_s => {
                    leaving.insert(place);
                }
                (Verdict::Explained, _) => self.report.waiting += 1,
                (Verdict::Unknown, _) => self.report.unexplained += 1,
                (Verdict::Lost, _) => self.report.lost.push(place),
            }
            states.insert(place, state);
        }
        if !leaving.is_empty() && !self.options.dry_run {
            // The reasons first: the newest of them were judged by, and not copied yet.
            self.copy(&self.source.store.list(Folder::Records)?)?;
        }
        let ripe = leaving.len();
        gone::spare_named_packs(self.target.as_ref(), &self.there, &mut leaving);
        self.report.waiting += (ripe - leaving.len()) as u64;
        self.report.removed = leaving.len() as u64;
        self.report.removed_bytes = leaving.iter().filter_map(|place| self.there.get(place)).sum();
        self.there.retain(|place, _| !leaving.contains(place));
        self.report.objects = self.there.len() as u64;
        self.report.bytes = self.there.values().sum();
        if self.options.dry_run {
            return Ok(());
        }
        // First the list without them: an interrupted removal leaves more than it says, never less.
        self.write_inventory(&states, now)?;
        self.remove(&leaving)
    }

    /// What the mirror has and the repository has not, and why.
    fn judge_gone(&self, latest: &Listing) -> Result<Vec<(Place, Verdict)>, MirrorError> {
        let store = self.source.store.as_ref();
        let judged = self.judge_against(latest, self.there.keys().copied())?;
        let (lost, told): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|(_, verdict)| *verdict == Verdict::Lost);
        if store.staleness().is_zero() || lost.is_empty() {
            return Ok(told.into_iter().chain(lost).collect());
        }
        // A list of a share, or the records, may not show yet what is there; what they explain stays explained.
        self.interrupt.sleep(store.staleness()).map_err(RepoError::from)?;
        let later = Listing::read(store)?;
        let again = self.judge_against(&later, lost.into_iter().map(|(place, _)| place))?;
        Ok(told.into_iter().filter(|(place, _)| !later.holds(place)).chain(again).collect())
    }

    /// Why each of these is gone that is not listed.
    fn judge_against(
        &self,
        latest: &Listing,
        places: impl Iterator<Item = Place>,
    ) -> Result<Vec<(Place, Verdict)>, MirrorError> {
        let mut judge = Judge::new(self.source, self.target, latest)?;
        let mut gone: Vec<Place> = places.filter(|place| !latest.holds(place)).collect();
        gone.sort_unstable();
        let judged = gone.into_iter().map(|place| Ok((place, judge.verdict(&place)?)));
        judged.collect()
    }

    fn write_inventory(&self, states: &HashMap<Place, State>, at: i64) -> Result<(), MirrorError> {
        let item = |(place, size): (&Place, &u64)| {
            let small = if place.hash().is_none() { self.read_surely(place) } else { None };
            Item {
                name: place.to_string(),
                bytes: small.as_ref().map_or(*size, |bytes| bytes.len() as u64),
                hash: small.map(|bytes| ObjectHash(*blake3::hash(&bytes).as_bytes())),
                state: states.get(place).copied().unwrap_or(State::There),
            }
        };
        let mut objects: Vec<Item> = self.there.iter().map(item).collect();
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let inventory = Inventory { repository: self.source.id, at, objects };
        Ok(inventory::write(self.target.as_ref(), &inventory)?)
    }

    /// Reads an object whose name does not prove its bytes, until two reads agree: half a read would be listed for good.
    fn read_surely(&self, place: &Place) -> Option<Vec<u8>> {
        let read = || self.target.read(place, SMALL_OBJECT_BYTES_MAX).ok();
        let mut last = read()?;
        for _ in 0..READS_MAX {
            let next = read()?;
            if next == last {
                return Some(last);
            }
            last = next;
        }
        None
    }

    fn remove(&self, leaving: &HashSet<Place>) -> Result<(), MirrorError> {
        for folder in REMOVAL {
            let prefix = format!("{}/", folder.name());
            for place in leaving.iter().filter(|place| place.to_string().starts_with(&prefix)) {
                self.interrupt.check().map_err(RepoError::from)?;
                match self.target.remove(place) {
                    Err(error) if !error.is_missing() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
