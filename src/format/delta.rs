//! Index deltas: which packs a run stored, and which blobs lie in them.

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use super::envelope::PackEnvelope;
use super::pack::SegmentTable;
use crate::base::id::{BlobId, ObjectHash};
use crate::base::limits;

/// The clear part of a delta: names and sizes of its packs, so that anyone can see whether they are there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PackList {
    /// Hash and file size of each pack.
    pub packs: Vec<(ObjectHash, u64)>,
}

/// The sealed part for one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackContents {
    /// The pack's key envelope, as it stands in the pack.
    pub envelope: Vec<u8>,
    /// The pack's segments.
    pub table: SegmentTable,
    /// Ids of all blobs, segment by segment, in order.
    pub ids: Vec<BlobId>,
}

#[derive(Encode, Decode)]
struct WireContents {
    envelope: Vec<u8>,
    table: SegmentTable,
    ids: Vec<u8>,
}

/// Encodes the sealed part; one element per pack of the [`PackList`].
pub fn encode(packs: &[PackContents]) -> Vec<u8> {
    let wire: Vec<WireContents> = packs
        .iter()
        .map(|pack| WireContents {
            envelope: pack.envelope.clone(),
            table: pack.table.clone(),
            ids: pack.ids.iter().flat_map(|id| id.0).collect(),
        })
        .collect();
    codec::encode(&wire)
}

/// Decodes the sealed part of a delta that names `count` packs.
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<PackContents>> {
    let wire: Vec<WireContents> = codec::decode(bytes, "index delta")?;
    codec::agree(wire.len() == count, "packs of an index delta")?;
    wire.into_iter()
        .map(|pack| {
            codec::agree(pack.envelope.len() == PackEnvelope::BYTES, "envelope of a pack")?;
            pack.table.check()?;
            let blobs: usize = pack.table.segments.iter().map(|segment| segment.lengths.len()).sum();
            let (ids, rest) = pack.ids.as_chunks::<16>();
            codec::agree(ids.len() == blobs && rest.is_empty(), "blob ids of an index delta")?;
            Ok(PackContents {
                envelope: pack.envelope,
                table: pack.table,
                ids: ids.iter().map(|id| BlobId(*id)).collect(),
            })
        })
        .collect()
}

impl PackList {
    /// Encodes the clear part.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the clear part.
    pub fn decode(bytes: &[u8]) -> Result<PackList> {
        let list: PackList = codec::decode(bytes, "index delta")?;
        codec::limit("packs of an index delta", list.packs.len() as u64, limits::DELTA_PACKS_MAX as u64)?;
        match list.packs.iter().find(|(_, size)| *size > limits::PACK_BYTES_MAX) {
            Some(&(_, value)) => Err(FormatError::Limit { what: "bytes of a pack", value }),
            None => Ok(list),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::content::BlobKind;
    use crate::format::pack::{Compression, Segment};

    #[test]
    fn contents_come_back_and_must_fit_their_packs() {
        let segment = |lengths: &[u32]| Segment {
            kind: BlobKind::Text,
            compression: Compression::Zstd,
            frame_bytes: 60,
            lengths: lengths.to_vec(),
        };
        let table = SegmentTable { segments: vec![segment(&[5, 6]), segment(&[7])] };
        let ids = (0..3).map(|number| BlobId([number; 16])).collect();
        let pack = PackContents { envelope: vec![9; PackEnvelope::BYTES], table, ids };
        let two = vec![pack.clone(), PackContents { envelope: vec![8; PackEnvelope::BYTES], ..pack.clone() }];
        assert_eq!(decode(&encode(&two), 2), Ok(two.clone()));
        for count in [0, 1, 3] {
            assert!(decode(&encode(&two), count).is_err());
        }
        let mut bad = vec![pack.clone(); 4];
        bad[0].envelope.pop();
        bad[1].ids.pop();
        bad[2].ids.push(BlobId::default());
        bad[3].table.segments[0].lengths.clear();
        for pack in bad {
            assert!(decode(&encode(&[pack]), 1).is_err());
        }
        for (bytes, is_lawful) in [(limits::PACK_BYTES_MAX, true), (limits::PACK_BYTES_MAX + 1, false)] {
            let list = PackList { packs: vec![(ObjectHash([1; 32]), bytes)] };
            assert_eq!(PackList::decode(&list.encode()).is_ok(), is_lawful, "{bytes}");
        }
        // Half an id.
        let wire = WireContents { envelope: pack.envelope, table: pack.table, ids: vec![1; 3 * 16 + 8] };
        assert!(decode(&codec::encode(&vec![wire]), 1).is_err());
    }
}
