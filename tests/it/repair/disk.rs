//! Disks that fail while they are read, and runs that are stopped.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use mailark::base::clock::UnixNanos;
use mailark::base::id::{HostId, ObjectHash};
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::{Counters, Progress, Quiet};
use mailark::format::content::BlobKind;
use mailark::index::Index;
use mailark::ops::repair::packs::Cure;
use mailark::ops::repair::{index, packs};
use mailark::repo::RepoError;
use mailark::store::{Folder, LocalStore, PackFile, Place, Storage, StoreError, StoreErrorKind, Temporary};

use super::{Stored, name};
use crate::library::{Forger, open};
use crate::support::{TestEnv, noise};

/// A disk on which a stretch of one pack cannot be read until the pack is written anew.
struct BadSectors {
    disk: LocalStore,
    pack: Place,
    bad: Range<u64>,
    is_bad: AtomicBool,
}

impl Storage for BadSectors {
    fn location(&self) -> String {
        self.disk.location()
    }
    fn read(&self, place: &Place, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        match *place == self.pack {
            true => self.read_range(place, 0, self.bad.end as usize),
            false => self.disk.read(place, bytes_max),
        }
    }
    fn read_range(&self, place: &Place, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let is_hit = offset < self.bad.end && offset + length as u64 > self.bad.start;
        if *place == self.pack && is_hit && self.is_bad.load(Ordering::Relaxed) {
            let (object, source) = (place.to_string(), std::io::Error::from_raw_os_error(5));
            return Err(StoreError { verb: "read", object, kind: StoreErrorKind::Io, source });
        }
        self.disk.read_range(place, offset, length)
    }
    fn list(&self, folder: Folder) -> Result<Vec<(Place, u64)>, StoreError> {
        self.disk.list(folder)
    }
    fn create(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk.create(place, bytes)
    }
    fn create_pack(&self, host: &HostId) -> Result<PackFile, StoreError> {
        self.disk.create_pack(host)
    }
    fn finish_pack(&self, pack: PackFile) -> Result<(ObjectHash, u64), StoreError> {
        self.disk.finish_pack(pack)
    }
    fn begin_copy(&self, bytes: u64) -> Result<PackFile, StoreError> {
        self.disk.begin_copy(bytes)
    }
    fn finish_copy(&self, copy: PackFile, place: &Place, received: UnixNanos) -> Result<(), StoreError> {
        self.disk.finish_copy(copy, place, received)
    }
    fn barrier(&self) -> Result<(), StoreError> {
        self.disk.barrier()
    }
    fn remove(&self, place: &Place) -> Result<(), StoreError> {
        self.disk.remove(place)
    }
    fn replace(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.is_bad.store(false, Ordering::Relaxed);
        self.disk.replace(place, bytes)
    }
    fn set_aside(&self, place: &Place) -> Result<String, StoreError> {
        self.disk.set_aside(place)
    }
    fn available_bytes(&self) -> Option<u64> {
        self.disk.available_bytes()
    }
    fn received(&self, place: &Place) -> Result<UnixNanos, StoreError> {
        self.disk.received(place)
    }
    fn time(&self) -> UnixNanos {
        self.disk.time()
    }
    fn staleness(&self) -> Duration {
        self.disk.staleness()
    }
    fn temporary(&self) -> Result<Vec<Temporary>, StoreError> {
        self.disk.temporary()
    }
    fn remove_temporary(&self, name: &str) -> Result<(), StoreError> {
        self.disk.remove_temporary(name)
    }
}

#[test]
fn bad_sectors_are_as_good_as_wrong_bytes() {
    for (init, cure, missing) in [(&["--parity"][..], Cure::Parity, 0), (&[][..], Cure::Salvage, 1)] {
        let stored = Stored::new(init);
        let pack = stored.pack_of(2);
        let (bytes, packs) = (fs::read(&pack).unwrap(), stored.bytes("packs"));
        let middle = bytes.len() as u64 / 2;
        let mut repository = open(&stored.env.repository, &stored.env.key_file).unwrap();
        repository.store = Arc::new(BadSectors {
            disk: LocalStore::new(&stored.env.repository),
            pack: Place::Pack(name(&pack).parse().unwrap()),
            bad: middle..middle + 700,
            is_bad: AtomicBool::new(true),
        });
        let index = RwLock::new(Index::in_memory(&repository.id()));
        let options = packs::Options { mirror: None, only: &[], quick: false, workers: 2, dry_run: false };
        let report =
            packs::run(&repository, &index, options, &Quiet::default(), &Interrupt::default()).unwrap();
        assert_eq!(report.treated.len(), 1);
        assert_eq!((report.treated[0].cure, report.missing()), (cure, missing), "{report:?}");
        match cure {
            Cure::Parity => assert_eq!(stored.bytes("packs"), packs),
            _ => assert_eq!(stored.lacking(), BTreeSet::from([PathBuf::from("files/2")])),
        }
    }
}

/// Stops a run after so many packs.
struct StopAfter {
    counters: Counters,
    left: AtomicU64,
    interrupt: Interrupt,
}

impl Progress for StopAfter {
    fn counters(&self) -> &Counters {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.interrupt.raise();
        }
        &self.counters
    }
    fn problem(&self, line: &str) {
        panic!("{line}");
    }
}

#[test]
fn an_interrupted_repair_of_the_index_goes_on_where_it_was() {
    let env = TestEnv::with_repository();
    let forger = Forger::new(&env, "mx1");
    for number in 0..150u64 {
        forger.blob(BlobKind::File, &noise(number, 50));
        assert_eq!(forger.packs().len(), 1);
    }
    let interrupt = Interrupt::default();
    let (counters, left) = (Counters::default(), AtomicU64::new(70));
    let progress = StopAfter { counters, left, interrupt: interrupt.clone() };
    let options = index::Options { min_age: Duration::ZERO, dry_run: false };
    let stopped = index::run(&forger.repository, options, &progress, &interrupt);
    assert!(matches!(stopped, Err(RepoError::Interrupted(_))), "{stopped:?}");
    assert_eq!(env.objects("index").len(), 2, "64 packs and the rest of them");
    let report = index::run(&forger.repository, options, &Quiet::default(), &Interrupt::default()).unwrap();
    assert_eq!((report.packs, report.deltas_written), (80, 2), "{report:?}");
    env.check();
}
