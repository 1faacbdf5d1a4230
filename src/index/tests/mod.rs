//! The index against a plain map: what a delta holds follows from its number, so any answer can be checked.

mod damage;
mod model;
mod processes;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::*;
use crate::base::id::{DomainId, RepositoryId};

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const DOMAINS: [DomainId; 2] = [DomainId([1; 16]), DomainId([2; 16])];

fn digest(label: &str, number: u64) -> [u8; 32] {
    *blake3::Hasher::new().update(label.as_bytes()).update(&number.to_le_bytes()).finalize().as_bytes()
}

fn blob(number: u64) -> BlobId {
    BlobId(digest("blob", number)[..16].try_into().unwrap())
}

fn delta_hash(delta: u64) -> ObjectHash {
    ObjectHash(digest("delta", delta))
}

/// Pack, segment and position.
type Place = (ObjectHash, u16, u16);

/// Deltas differ in the blobs they share, the number of packs (some have none) and the length of tables.
#[derive(Clone, Copy)]
struct World {
    blobs_per_pack: u64,
    blob_pool: u64,
}

const SMALL: World = World { blobs_per_pack: 12, blob_pool: 60 };

impl World {
    fn domain(&self, delta: u64) -> DomainId {
        DOMAINS[(delta % 3 / 2) as usize]
    }

    fn packs(&self, delta: u64) -> Vec<DeltaPack> {
        (0..delta % 4)
            .map(|pack| {
                let number = delta * 10 + pack;
                let info = PackInfo {
                    hash: ObjectHash(digest("pack", number)),
                    size: 1000 + number,
                    table: digest("table", number).repeat((number % 7) as usize),
                };
                let blobs = (0..self.blobs_per_pack)
                    .map(|at| (blob((number * 31 + at * 7) % self.blob_pool), pack as u16, at as u16))
                    .collect();
                DeltaPack { info, blobs }
            })
            .collect()
    }

    fn apply(&self, index: &mut Index, delta: u64) -> Result<()> {
        index.apply(&self.domain(delta), &delta_hash(delta), &self.packs(delta))
    }

    /// Compares every answer with what these deltas hold.
    fn check(&self, index: &Index, deltas: &BTreeSet<u64>) -> Result<()> {
        let hashes: HashSet<ObjectHash> = deltas.iter().map(|&delta| delta_hash(delta)).collect();
        assert_eq!(index.deltas()?, hashes);
        let mut packs = HashSet::new();
        let mut places: HashMap<(DomainId, BlobId), HashSet<Place>> = HashMap::new();
        for &delta in deltas {
            for pack in self.packs(delta) {
                for (id, segment, position) in &pack.blobs {
                    let place = (pack.info.hash, *segment, *position);
                    places.entry((self.domain(delta), *id)).or_default().insert(place);
                }
                packs.insert((pack.info.hash, pack.info.size));
            }
        }
        let listed = index.packs()?;
        assert!(listed.is_sorted());
        assert_eq!(listed.iter().map(|&(_, hash, size)| (hash, size)).collect::<HashSet<_>>(), packs);
        for domain in &DOMAINS {
            for id in (0..self.blob_pool + 5).map(blob) {
                let locations = index.lookup(domain, &id)?;
                assert!(locations.is_sorted_by(|a, b| a >= b));
                let mut found = HashSet::new();
                for location in &locations {
                    found.insert((index.pack(location.pack)?.hash, location.segment, location.position));
                }
                assert_eq!(index.contains(domain, &id)?, !found.is_empty());
                assert_eq!(found, places.get(&(*domain, id)).cloned().unwrap_or_default());
                assert_eq!(locations.len(), found.len());
            }
        }
        Ok(())
    }

    /// Brings the index to `deltas` as a caller does, starting over when that is asked for.
    fn sync(&self, mut index: Index, deltas: &BTreeSet<u64>) -> Result<Index> {
        let hashes = deltas.iter().map(|&delta| delta_hash(delta)).collect();
        let step = |index: &mut Index| {
            index.retain(&hashes)?;
            let applied = index.deltas()?;
            for &delta in deltas.iter().filter(|&&delta| !applied.contains(&delta_hash(delta))) {
                self.apply(index, delta)?;
            }
            index.settle()?;
            self.check(index, deltas)
        };
        for _ in 0..3 {
            match step(&mut index) {
                Err(error) if error.is_damage() => index = index.start_over()?,
                outcome => return outcome.map(|()| index),
            }
        }
        panic!("an index that started over is damaged again")
    }
}
