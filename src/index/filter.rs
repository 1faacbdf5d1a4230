//! The approximate membership of one run, which also says where in the run an id must stand.
//!
//! Blob ids are keyed hashes, so they are uniformly distributed and a sorted run of them is nearly its own
//! table: id / 2^128 * buckets gives the bucket (16 ids on average), the 16 bits of the fraction after it a
//! fingerprint, and fingerprint number `i` belongs to record number `i` of the run. It costs 16 bits for the
//! fingerprint and 2 for the bucket's start: 18 bits an id for a false positive rate of 16 / 2^16 = 0.024 %. A
//! Bloom filter of that size is no better once it is blocked, and only says yes or no, so that a known id would
//! still have to be searched for; binary fuse filters are as small but are built in memory from all ids at once,
//! while this one is written as the merge goes by. Ids that somebody chose to crowd into one bucket make that
//! bucket long and slow, nothing worse.

use std::ops::Range;

const BUCKET_IDS: usize = 16;

/// Returns bucket and fingerprint; both never fall as `id` rises.
fn spot(id: u128, buckets: u32) -> (usize, u16) {
    let product = (id >> 64) * u128::from(buckets);
    ((product >> 64) as usize, (product >> 48) as u16)
}

/// Bytes of a filter.
pub(super) fn filter_bytes(records: u32, buckets: u32) -> usize {
    records as usize * 2 + (buckets as usize + 1) * 4
}

/// Collects the ids of a run in ascending order.
pub(super) struct FilterBuilder {
    fingerprints: Vec<u8>,
    starts: Vec<u8>,
    buckets: u32,
}

impl FilterBuilder {
    /// Begins a filter for about `expected` ids.
    pub(super) fn new(expected: usize) -> FilterBuilder {
        let buckets = (expected / BUCKET_IDS).clamp(1, u32::MAX as usize - 1);
        FilterBuilder {
            fingerprints: Vec::with_capacity(expected * 2),
            starts: Vec::with_capacity((buckets + 1) * 4),
            buckets: buckets as u32,
        }
    }

    fn start_buckets_to(&mut self, bucket: usize) {
        let count = (self.fingerprints.len() / 2) as u32;
        while self.starts.len() / 4 <= bucket {
            self.starts.extend_from_slice(&count.to_le_bytes());
        }
    }

    pub(super) fn push(&mut self, id: u128) {
        let (bucket, fingerprint) = spot(id, self.buckets);
        self.start_buckets_to(bucket);
        self.fingerprints.extend_from_slice(&fingerprint.to_le_bytes());
    }

    pub(super) fn finish(mut self) -> Filter {
        self.start_buckets_to(self.buckets as usize);
        let records = (self.fingerprints.len() / 2) as u32;
        let mut bytes = self.fingerprints;
        bytes.reserve_exact(self.starts.len());
        bytes.extend_from_slice(&self.starts);
        Filter { bytes, records, buckets: self.buckets }
    }
}

/// A finished filter: fingerprints (2 bytes each), then bucket starts (4 bytes each, one more than buckets).
pub(super) struct Filter {
    bytes: Vec<u8>,
    records: u32,
    buckets: u32,
}

impl Filter {
    /// Takes stored bytes back; `None` when their number is not right.
    pub(super) fn from_bytes(bytes: Vec<u8>, records: u32, buckets: u32) -> Option<Filter> {
        (bytes.len() == filter_bytes(records, buckets) && buckets > 0).then_some(Filter {
            bytes,
            records,
            buckets,
        })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn buckets(&self) -> u32 {
        self.buckets
    }

    /// Numbers of the records that may have this id; mostly none or one.
    pub(super) fn candidates(&self, id: u128) -> Range<usize> {
        let (bucket, fingerprint) = spot(id, self.buckets);
        let (fingerprints, starts) = self.bytes.split_at(self.records as usize * 2);
        let (fingerprints, _) = fingerprints.as_chunks::<2>();
        let (starts, _) = starts.as_chunks::<4>();
        let start = |bucket: usize| (u32::from_le_bytes(starts[bucket]) as usize).min(fingerprints.len());
        let end = start(bucket + 1);
        let begin = start(bucket).min(end);
        let inside = &fingerprints[begin..end];
        let low = inside.partition_point(|held| u16::from_le_bytes(*held) < fingerprint);
        let count = inside[low..].partition_point(|held| u16::from_le_bytes(*held) == fingerprint);
        begin + low..begin + low + count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(ids: &[u128], expected: usize) -> Filter {
        let mut builder = FilterBuilder::new(expected);
        ids.iter().for_each(|&id| builder.push(id));
        let filter = builder.finish();
        Filter::from_bytes(filter.bytes.clone(), ids.len() as u32, filter.buckets).unwrap()
    }

    proptest! {
        #[test]
        fn every_id_is_a_candidate_at_its_own_place(
            mut ids in prop::collection::vec(prop_oneof![any::<u128>(), 0u128..8, Just(u128::MAX)], 0..400),
            expected in 0usize..500,
        ) {
            ids.sort_unstable();
            let filter = built(&ids, expected);
            for (place, &id) in ids.iter().enumerate() {
                prop_assert!(filter.candidates(id).contains(&place));
            }
        }
    }

    #[test]
    fn few_strangers_pass() {
        let id =
            |n: u64| u128::from_be_bytes(blake3::hash(&n.to_le_bytes()).as_bytes()[..16].try_into().unwrap());
        let mut ids: Vec<u128> = (0..100_000).map(id).collect();
        ids.sort_unstable();
        let filter = built(&ids, ids.len());
        let passed = (100_000..1_100_000).filter(|&n| !filter.candidates(id(n)).is_empty()).count();
        assert!((100..400).contains(&passed), "{passed} of a million");
        assert!(filter.as_bytes().len() * 8 <= ids.len() * 18 + 64);
    }
}
