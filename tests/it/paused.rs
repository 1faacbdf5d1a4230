//! A store in which something happens between any two calls, as if whoever uses it had been suspended.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailark::base::clock::UnixNanos;
use mailark::base::id::{HostId, ObjectHash};
use mailark::repo::Repository;
use mailark::store::{Folder, LocalStore, PackFile, Place, Storage, StoreError, Temporary};

use crate::lab::open_with;

/// What happens meanwhile.
pub type Event = Box<dyn FnOnce() + Send>;

/// A store that lets something happen before its n-th call.
pub struct Paused {
    inner: LocalStore,
    /// Calls so far.
    pub calls: AtomicU64,
    events: Mutex<Vec<(u64, Event)>>,
}

impl Paused {
    /// Counts from here.
    pub fn begin(&self, events: Vec<(u64, Event)>) {
        self.calls.store(0, Ordering::SeqCst);
        *self.events.lock().unwrap() = events;
    }

    fn tick(&self) -> &LocalStore {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let due: Vec<Event> = {
            let mut events = self.events.lock().unwrap();
            let due = events.partition_point(|(at, _)| *at <= call);
            let later = events.split_off(due);
            std::mem::replace(&mut *events, later).into_iter().map(|(_, event)| event).collect()
        };
        due.into_iter().for_each(|event| event());
        &self.inner
    }
}

impl Storage for Paused {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read(&self, place: &Place, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        self.tick().read(place, bytes_max)
    }
    fn read_range(&self, place: &Place, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        self.tick().read_range(place, offset, length)
    }
    fn list(&self, folder: Folder) -> Result<Vec<(Place, u64)>, StoreError> {
        self.tick().list(folder)
    }
    fn create(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.tick().create(place, bytes)
    }
    fn create_pack(&self, host: &HostId) -> Result<PackFile, StoreError> {
        self.tick().create_pack(host)
    }
    fn finish_pack(&self, pack: PackFile) -> Result<(ObjectHash, u64), StoreError> {
        self.tick().finish_pack(pack)
    }
    fn begin_copy(&self, bytes: u64) -> Result<PackFile, StoreError> {
        self.tick().begin_copy(bytes)
    }
    fn finish_copy(&self, copy: PackFile, place: &Place, received: UnixNanos) -> Result<(), StoreError> {
        self.tick().finish_copy(copy, place, received)
    }
    fn barrier(&self) -> Result<(), StoreError> {
        self.tick().barrier()
    }
    fn replace(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.tick().replace(place, bytes)
    }
    fn set_aside(&self, place: &Place) -> Result<String, StoreError> {
        self.tick().set_aside(place)
    }
    fn remove(&self, place: &Place) -> Result<(), StoreError> {
        self.tick().remove(place)
    }
    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }
    fn received(&self, place: &Place) -> Result<UnixNanos, StoreError> {
        self.inner.received(place)
    }
    fn time(&self) -> UnixNanos {
        // A day later than the objects: packs that no delta names are old enough to be rubbish.
        self.inner.time() + 2 * 86_400_000_000_000
    }
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }
    fn temporary(&self) -> Result<Vec<Temporary>, StoreError> {
        self.tick().temporary()
    }
    fn remove_temporary(&self, name: &str) -> Result<(), StoreError> {
        self.tick().remove_temporary(name)
    }
}

/// Opens a repository in which things happen before the calls with these numbers, in ascending order; those that
/// opening makes do not count.
pub fn open(root: &Path, keys: &[Vec<u8>], events: Vec<(u64, Event)>) -> (Repository, Arc<Paused>) {
    let (inner, calls, events_later) = (LocalStore::new(root), AtomicU64::new(0), Mutex::default());
    let store = Arc::new(Paused { inner, calls, events: events_later });
    let shared: Arc<dyn Storage> = store.clone();
    let repository = open_with(&shared, keys).unwrap();
    store.begin(events);
    (repository, store)
}
