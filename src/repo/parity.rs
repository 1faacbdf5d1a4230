//! Parity: making it, and having a damaged pack again by it.
//!
//! The work goes column by column, a few kilobytes of every shard at a time: each 64 bytes of a shard stand for
//! themselves, so the memory beside the pack is small, whatever its size.

use std::collections::HashMap;

use reed_solomon_simd::Error as CodeError;
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

use super::{RepoError, Repository};
use crate::base::id::ObjectHash;
use crate::base::limits;
use crate::format::codec::FormatError;
use crate::format::parity::{self, Cut, ParityHead, SHARD_BYTES_STEP};
use crate::store::{Folder, Place, Storage};

/// Bytes of each shard that are worked on at a time; every lawful shard is a multiple.
const COLUMN_BYTES: usize = SHARD_BYTES_STEP as usize;

/// A parity object gives nothing back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealError {
    /// The parity object is damaged, or is that of another pack.
    #[error("its parity cannot be read: {0}")]
    Head(#[from] FormatError),
    /// More is lost than the parity makes up for.
    #[error("{lost} of {data} shards are damaged and parity makes up for {left}")]
    TooMuch {
        /// Damaged shards of the pack.
        lost: usize,
        /// Shards of the pack.
        data: usize,
        /// Recovery shards that are whole.
        left: usize,
    },
    /// What came out is not the pack: the sums in the parity object are wrong.
    #[error("its parity does not fit it")]
    Unfit,
}

/// Makes the parity object of a whole pack of at least one byte.
pub fn make(pack: Vec<u8>, hash: ObjectHash, percent: u32) -> Vec<u8> {
    let pack_bytes = pack.len() as u64;
    let Cut { shard_bytes, data, recovery } = parity::cut(pack_bytes, percent);
    let mut shards = pack;
    shards.resize((shard_bytes * data) as usize, 0);
    let shard_bytes = shard_bytes as usize;
    let recovery = encode(&shards, shard_bytes, recovery as usize);
    let sums = |shards: &[u8]| shards.chunks(shard_bytes).map(parity::sum).collect();
    let (data, sums_of_recovery) = (sums(&shards), sums(&recovery));
    let head = ParityHead {
        pack: hash,
        pack_bytes,
        shard_bytes: shard_bytes as u32,
        data,
        recovery: sums_of_recovery,
    };
    let mut object = head.encode();
    object.extend(recovery);
    object
}

/// Computes `recovery` shards of data that is whole shards of `shard_bytes`, a multiple of 64.
///
/// # Panics
/// When there are no data, or more shards than the code has numbers for.
pub fn encode(data: &[u8], shard_bytes: usize, recovery: usize) -> Vec<u8> {
    const LAWFUL: &str = "counts and sizes of shards are within the limits of the code";
    let column = COLUMN_BYTES.min(shard_bytes);
    let shards: Vec<&[u8]> = data.chunks_exact(shard_bytes).collect();
    let mut encoder =
        HighRateEncoder::new(shards.len(), recovery, column, DefaultEngine::new(), None).expect(LAWFUL);
    let mut made = vec![0; recovery * shard_bytes];
    for at in (0..shard_bytes).step_by(column) {
        for shard in &shards {
            encoder.add_original_shard(&shard[at..at + column]).expect(LAWFUL);
        }
        let encoded = encoder.encode().expect(LAWFUL);
        for (shard, stretch) in made.chunks_exact_mut(shard_bytes).zip(encoded.recovery_iter()) {
            shard[at..at + column].copy_from_slice(stretch);
        }
    }
    made
}

/// Gives the original bytes of a pack, from what is left of it and its parity object.
///
/// `damaged` may be too short or too long, and unreadable stretches may hold anything. What comes back has the
/// pack's hash. The parity object may be damaged itself.
pub fn heal(damaged: &[u8], hash: &ObjectHash, object: &[u8]) -> Result<Vec<u8>, HealError> {
    let (head, recovery) = ParityHead::decode(object)?;
    if head.pack != *hash {
        return Err(HealError::Unfit);
    }
    let (shard_bytes, data) = (head.shard_bytes as usize, head.data.len());
    let pack_bytes = head.pack_bytes as usize;
    let mut bytes = Vec::with_capacity(shard_bytes * data);
    bytes.extend_from_slice(&damaged[..damaged.len().min(pack_bytes)]);
    bytes.resize(shard_bytes * data, 0);
    let is_lost = |(shard, expected): (&[u8], &parity::ShardSum)| parity::sum(shard) != *expected;
    let lost: Vec<bool> = bytes.chunks_exact(shard_bytes).zip(&head.data).map(is_lost).collect();
    let whole: Vec<(usize, &[u8])> = recovery
        .chunks_exact(shard_bytes)
        .zip(&head.recovery)
        .enumerate()
        .filter(|(_, (shard, expected))| parity::sum(shard) == **expected)
        .map(|(number, (shard, _))| (number, shard))
        .collect();
    let missing = lost.iter().filter(|lost| **lost).count();
    if missing > whole.len() {
        return Err(HealError::TooMuch { lost: missing, data, left: whole.len() });
    }
    if missing > 0 {
        restore(&mut bytes, &lost, &head, &whole).map_err(|_| HealError::Unfit)?;
    }
    bytes.truncate(pack_bytes);
    match ObjectHash(*blake3::hash(&bytes).as_bytes()) == *hash {
        true => Ok(bytes),
        false => Err(HealError::Unfit),
    }
}

/// Fills the lost shards.
fn restore(
    bytes: &mut [u8],
    lost: &[bool],
    head: &ParityHead,
    recovery: &[(usize, &[u8])],
) -> Result<(), CodeError> {
    let shard_bytes = head.shard_bytes as usize;
    let (data, of) = (head.data.len(), head.recovery.len());
    let mut decoder = HighRateDecoder::new(data, of, COLUMN_BYTES, DefaultEngine::new(), None)?;
    for at in (0..shard_bytes).step_by(COLUMN_BYTES) {
        for (number, shard) in
            bytes.chunks_exact(shard_bytes).enumerate().filter(|(number, _)| !lost[*number])
        {
            decoder.add_original_shard(number, &shard[at..at + COLUMN_BYTES])?;
        }
        for (number, shard) in recovery {
            decoder.add_recovery_shard(*number, &shard[at..at + COLUMN_BYTES])?;
        }
        for (number, stretch) in decoder.decode()?.restored_original_iter() {
            let start = number * shard_bytes + at;
            bytes[start..start + COLUMN_BYTES].copy_from_slice(stretch);
        }
    }
    Ok(())
}

/// Makes and stores the parity object of a pack that is in the store; gives its place.
///
/// Holds the pack in memory once.
///
/// # Errors
/// Also when the pack is not what its name promises: parity of rubbish helps nobody.
pub fn store(store: &dyn Storage, pack: ObjectHash, percent: u32) -> Result<Place, RepoError> {
    let (place, object) = object_of(store, pack, percent)?;
    store.create(&place, &object)?;
    Ok(place)
}

/// As [`store`], in the place of `damaged` parity objects of the pack.
pub fn renew(
    store: &dyn Storage,
    pack: ObjectHash,
    percent: u32,
    damaged: &[Place],
) -> Result<(), RepoError> {
    let (place, object) = object_of(store, pack, percent)?;
    // The same pack gives the same parity, and so the same name.
    store.replace(&place, &object)?;
    for other in damaged.iter().filter(|other| **other != place) {
        store.set_aside(other)?;
    }
    Ok(())
}

fn object_of(store: &dyn Storage, pack: ObjectHash, percent: u32) -> Result<(Place, Vec<u8>), RepoError> {
    let place = Place::Pack(pack);
    let bytes = store.read(&place, limits::PACK_BYTES_MAX)?;
    if bytes.is_empty() || ObjectHash(*blake3::hash(&bytes).as_bytes()) != pack {
        let detail = "its bytes are not those that its name promises".to_owned();
        return Err(RepoError::Damaged { object: place.to_string(), detail });
    }
    let object = make(bytes, pack, percent);
    Ok((Place::Parity(pack, ObjectHash(*blake3::hash(&object).as_bytes())), object))
}

/// Every pack's parity objects.
pub fn list(store: &dyn Storage) -> Result<HashMap<ObjectHash, Vec<Place>>, RepoError> {
    let mut found: HashMap<ObjectHash, Vec<Place>> = HashMap::new();
    for (place, _) in store.list(Folder::Parity)? {
        if let Place::Parity(pack, _) = place {
            found.entry(pack).or_default().push(place);
        }
    }
    Ok(found)
}

/// Packs in the store that have no parity object, in a repository whose packs should have one.
pub fn missing(repository: &Repository) -> Result<Vec<ObjectHash>, RepoError> {
    if repository.config.parity_percent == 0 {
        return Ok(Vec::new());
    }
    // In this order: parity comes after its pack, and a running backup is not to be accused.
    let packs = repository.store.list(Folder::Packs)?;
    let known = list(repository.store.as_ref())?;
    let packs = packs.into_iter().filter_map(|(place, _)| place.hash().copied());
    Ok(packs.filter(|pack| !known.contains_key(pack)).collect())
}

/// Verifies a parity object: its hash, its head, every recovery shard.
pub fn verify(store: &dyn Storage, place: &Place) -> Result<(), RepoError> {
    let object = store.read(place, limits::OBJECT_BYTES_MAX)?;
    let damaged = |detail: String| Err(RepoError::Damaged { object: place.to_string(), detail });
    if place.hash() != Some(&ObjectHash(*blake3::hash(&object).as_bytes())) {
        return damaged("its bytes are not those that its name promises".to_owned());
    }
    let (head, recovery) = match ParityHead::decode(&object) {
        Ok(decoded) => decoded,
        Err(error) => return damaged(error.to_string()),
    };
    if !matches!(place, Place::Parity(pack, _) if *pack == head.pack) {
        return damaged("it is the parity of another pack".to_owned());
    }
    let shards = recovery.chunks(head.shard_bytes as usize).map(parity::sum);
    match recovery.len() == head.recovery.len() * head.shard_bytes as usize && shards.eq(head.recovery) {
        true => Ok(()),
        false => damaged("its shards are not what its head says".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn hash(bytes: &[u8]) -> ObjectHash {
        ObjectHash(*blake3::hash(bytes).as_bytes())
    }

    /// Damages one byte in each of these shards.
    fn damage(pack: &mut [u8], shard_bytes: usize, shards: impl IntoIterator<Item = usize>) {
        let length = pack.len();
        shards.into_iter().for_each(|shard| pack[(shard * shard_bytes + 77).min(length - 1)] ^= 4);
    }

    #[test]
    fn a_pack_of_32_mib_survives_any_16_shards() {
        let pack = noise(1, 32 << 20);
        let (name, object) = (hash(&pack), make(pack.clone(), hash(&pack), 3));
        assert!(object.len() <= (1 << 20) + 9_000, "{}", object.len());
        for shards in [(0..16).collect::<Vec<_>>(), (496..512).collect(), (0..512).step_by(32).collect()] {
            let mut damaged = pack.clone();
            damage(&mut damaged, 64 << 10, shards.iter().copied());
            assert!(heal(&damaged, &name, &object).unwrap() == pack, "{shards:?}");
            let seventeenth = (0..512).find(|number| !shards.contains(number)).unwrap();
            damage(&mut damaged, 64 << 10, [seventeenth]);
            let too_much = HealError::TooMuch { lost: 17, data: 512, left: 16 };
            assert_eq!(heal(&damaged, &name, &object), Err(too_much));
        }
    }

    #[test]
    fn lost_and_superfluous_ends_heal() {
        let pack = noise(2, 700_000);
        let (name, object) = (hash(&pack), make(pack.clone(), hash(&pack), 3));
        let recovery = parity::cut(700_000, 3).recovery as usize;
        assert_eq!(recovery, 6);
        // 171 shards, the last of 3,680 bytes: five whole ones and it may go.
        let least = 170 * 4_096 - 5 * 4_096;
        for kept in [least, least + 1, 699_999] {
            assert!(heal(&pack[..kept], &name, &object).unwrap() == pack, "{kept}");
        }
        assert!(matches!(heal(&pack[..least - 1], &name, &object), Err(HealError::TooMuch { lost: 7, .. })));
        assert!(matches!(heal(&[], &name, &object), Err(HealError::TooMuch { lost: 171, .. })));
        assert!(heal(&[&pack[..], &noise(3, 100_000)].concat(), &name, &object).unwrap() == pack);
        assert!(heal(&pack, &name, &object).unwrap() == pack);
    }

    #[test]
    fn damaged_parity_helps_as_far_as_it_is_whole() {
        let pack = noise(4, 700_000);
        let name = hash(&pack);
        let object = make(pack.clone(), name, 3);
        let mut damaged = pack.clone();
        damage(&mut damaged, 4_096, [3, 90]);
        let shards = object.len() - 6 * 4_096;
        for place in [shards, shards + 5 * 4_096, shards - 20, 60] {
            let mut object = object.clone();
            object[place] ^= 1;
            assert!(heal(&damaged, &name, &object).unwrap() == pack, "{place}");
        }
        assert!(heal(&damaged, &name, &object[..shards + 2 * 4_096]).unwrap() == pack, "two shards are left");
        let too_much = heal(&damaged, &name, &object[..shards + 2 * 4_096 - 1]);
        assert_eq!(too_much, Err(HealError::TooMuch { lost: 2, data: 171, left: 1 }));
        assert!(matches!(heal(&damaged, &name, b"MPAR"), Err(HealError::Head(_))));
        assert_eq!(heal(&damaged, &ObjectHash([1; 32]), &object), Err(HealError::Unfit));
    }

    #[test]
    fn lying_parity_gives_nothing() {
        let (pack, other) = (noise(5, 50_000), noise(6, 50_000));
        // Parity of other bytes under this pack's name.
        let object = make(other, hash(&pack), 3);
        assert!(heal(&pack, &hash(&pack), &object).is_err());
        assert!(heal(&[], &hash(&pack), &make(vec![1], hash(&pack), 3)).is_err());
    }

    #[test]
    fn a_tiny_pack_can_be_had_from_parity_alone() {
        let pack = noise(7, 600);
        assert!(heal(&[], &hash(&pack), &make(pack.clone(), hash(&pack), 3)).unwrap() == pack);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_healed_is_the_pack(
            seed: u64,
            length in 1usize..300_000,
            percent in 1u32..=50,
            flips in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            kept in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let pack = noise(seed, length);
            let object = make(pack.clone(), hash(&pack), percent);
            let mut damaged = pack.clone();
            flips.iter().for_each(|place| damaged[place.index(length)] ^= 1);
            if let Some(kept) = kept {
                damaged.truncate(kept.index(length));
            }
            let recovery = parity::cut(length as u64, percent).recovery as usize;
            let end = damaged.len().min(length);
            let mut shards: Vec<usize> = (0..end).filter(|&at| damaged[at] != pack[at]).map(|at| at / 4_096).collect();
            shards.extend((end..length).map(|at| at / 4_096));
            shards.sort_unstable();
            shards.dedup();
            match heal(&damaged, &hash(&pack), &object) {
                Ok(healed) => prop_assert!(healed == pack),
                Err(error) => prop_assert!(shards.len() > recovery, "{error}"),
            }
        }
    }
}
