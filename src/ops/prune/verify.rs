//! The copies on which a deletion rests are read before anything is deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, RwLock};

use super::survey::{Relied, SegmentKey};
use crate::base::id::{DomainId, HostId};
use crate::base::interrupt::Interrupt;
use crate::crypto::blob_id::BlobNamer;
use crate::format::envelope::PackEnvelope;
use crate::index::{Index, PackNumber};
use crate::repo::packs::PackMap;
use crate::repo::reader::BlobReader;
use crate::repo::{RepoError, Repository};

/// Blobs that are held until they are read together, 48 bytes each.
const HELD_MAX: usize = 1 << 20;
/// Plaintext that each reader keeps: blobs come in the order in which they lie.
const CACHE_BYTES: usize = 4 << 20;

/// Reads copies and remembers which segments are bad.
pub struct Verifier<'a> {
    repository: &'a Repository,
    index: &'a RwLock<Index>,
    interrupt: &'a Interrupt,
    workers: usize,
    held: Vec<Relied>,
    /// Segments that do not hold what they should.
    pub bad: HashSet<SegmentKey>,
    /// Segments of which every asked-for blob was right.
    good: HashMap<SegmentKey, HashSet<u16>>,
}

impl<'a> Verifier<'a> {
    /// A verifier that has read nothing yet.
    pub fn new(
        repository: &'a Repository,
        index: &'a RwLock<Index>,
        interrupt: &'a Interrupt,
        workers: usize,
    ) -> Verifier<'a> {
        let (held, bad, good) = Default::default();
        Verifier { repository, index, interrupt, workers, held, bad, good }
    }

    /// Wants a copy verified.
    pub fn want(&mut self, relied: Relied) -> Result<(), RepoError> {
        let key = (relied.place.pack, relied.place.segment);
        if self.good.get(&key).is_some_and(|known| known.contains(&relied.place.position)) {
            return Ok(());
        }
        self.held.push(relied);
        if self.held.len() >= HELD_MAX { self.settle() } else { Ok(()) }
    }

    /// Reads what is still wanted, in the order in which it lies.
    pub fn settle(&mut self) -> Result<(), RepoError> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_unstable_by_key(|relied| relied.place);
        let groups: Vec<&[Relied]> = held.chunk_by(|a, b| a.place.pack == b.place.pack).collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let outcome: Mutex<(Vec<SegmentKey>, Option<RepoError>)> = Mutex::default();
        let this = &*self;
        std::thread::scope(|scope| {
            for _ in 0..this.workers.max(1) {
                scope.spawn(|| {
                    let packs = PackMap::new(Arc::clone(&this.repository.keys));
                    let mut readers = BTreeMap::new();
                    while let Some(group) =
                        groups.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                    {
                        let read = this.read_pack(&packs, &mut readers, group);
                        let mut outcome = outcome.lock().expect("no holder panics");
                        match read {
                            Ok(bad) => outcome.0.extend(bad),
                            Err(error) => {
                                outcome.1.get_or_insert(error);
                                return;
                            }
                        }
                    }
                });
            }
        });
        let (bad, error) = outcome.into_inner().expect("no holder panics");
        if let Some(error) = error {
            return Err(error);
        }
        self.bad.extend(bad);
        for relied in held {
            let key = (relied.place.pack, relied.place.segment);
            if !self.bad.contains(&key) {
                self.good.entry(key).or_default().insert(relied.place.position);
            }
        }
        Ok(())
    }

    fn read_pack<'p>(
        &self,
        packs: &'p PackMap,
        readers: &mut BTreeMap<(DomainId, HostId), BlobReader<'p>>,
        group: &[Relied],
    ) -> Result<Vec<SegmentKey>, RepoError>
    where
        'a: 'p,
    {
        let mut bad = Vec::new();
        let Some(first) = group.first() else { return Ok(bad) };
        let host = self.host(first.place.pack)?;
        for relied in group {
            self.interrupt.check()?;
            let key = (first.place.pack, relied.place.segment);
            if bad.last() == Some(&key) {
                continue;
            }
            let reader = match readers.entry((relied.domain, host)) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(reader(self.repository, self.index, packs, relied.domain, host)?)
                }
            };
            match reader.read_at(&relied.id, None, relied.place) {
                Ok(_) => {}
                Err(error) if error.ends_the_run() => return Err(error),
                Err(_) => bad.push(key),
            }
        }
        Ok(bad)
    }

    fn host(&self, pack: PackNumber) -> Result<HostId, RepoError> {
        let info = self.index.read().expect("no holder panics").pack(pack)?;
        let envelope =
            info.table.get(..PackEnvelope::BYTES).and_then(|bytes| PackEnvelope::decode(bytes).ok());
        envelope.map(|envelope| envelope.host).ok_or_else(|| RepoError::Damaged {
            object: "index cache".to_owned(),
            detail: "a pack's envelope".to_owned(),
        })
    }
}

/// A reader for what one host wrote into one domain.
pub fn reader<'a>(
    repository: &Repository,
    index: &'a RwLock<Index>,
    packs: &'a PackMap,
    domain: DomainId,
    host: HostId,
) -> Result<BlobReader<'a>, RepoError> {
    let keys = repository
        .keys
        .domain(&domain)
        .ok_or(RepoError::NeedsFullKey { what: "reading what all hosts stored" })?;
    let namer = BlobNamer::new(&keys.id_key, &host);
    Ok(BlobReader::new(Arc::clone(&repository.store), packs, namer, domain, index, CACHE_BYTES))
}
