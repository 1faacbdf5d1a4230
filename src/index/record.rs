//! One blob location as 24 bytes that sort by id.

use super::{Location, PackNumber};
use crate::base::id::BlobId;

pub(super) const RECORD_BYTES: usize = 24;

/// A blob id and a location; ordered by id, then by location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    /// The blob id as a big-endian number.
    pub(super) id: u128,
    /// Pack, segment and position, from the highest bits down.
    place: u64,
}

impl Record {
    pub(super) fn new(id: &BlobId, location: Location) -> Record {
        let place =
            u64::from(location.pack) << 32 | u64::from(location.segment) << 16 | u64::from(location.position);
        Record { id: u128::from_be_bytes(id.0), place }
    }

    pub(super) fn pack(&self) -> PackNumber {
        (self.place >> 32) as PackNumber
    }

    pub(super) fn location(&self) -> Location {
        Location { pack: self.pack(), segment: (self.place >> 16) as u16, position: self.place as u16 }
    }

    pub(super) fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_be_bytes());
        bytes[16..].copy_from_slice(&self.place.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Record {
        let (id, place) = bytes.split_at(16);
        Record {
            id: u128::from_be_bytes(id.try_into().expect("16 of 24 bytes")),
            place: u64::from_be_bytes(place.try_into().expect("the other 8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_sort_as_records_do() {
        let at = |id, pack, segment, position| {
            Record::new(&BlobId([id; 16]), Location { pack, segment, position })
        };
        let records =
            [at(0, u32::MAX, 1, 2), at(1, 0, 0, 1), at(1, 0, 1, 0), at(1, 7, 0, 0), at(255, 0, 0, 0)];
        for pair in records.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
        }
        for record in records {
            assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        }
        assert_eq!(records[0].location(), Location { pack: u32::MAX, segment: 1, position: 2 });
    }
}
