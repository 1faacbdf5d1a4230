//! Packs: segments of sealed blobs, a sealed footer that lists them, a sealed trailer that finds the footer.
//!
//! ```text
//! magic "MPCK" | envelope | segment frame ... | padding frame | footer frame | trailer frame (32 bytes)
//! ```
//!
//! Section "Packs" of `repo-format.md`.

use bincode::{Decode, Encode};

use super::codec::{self, Result};
use super::content::BlobKind;
use crate::base::limits;

/// First bytes of every pack.
pub const MAGIC: [u8; 4] = *b"MPCK";
/// Bytes that sealing adds to a frame.
pub const TAG_BYTES: u64 = 16;
/// Bytes of the trailer frame.
pub const TRAILER_FRAME_BYTES: u64 = 16 + TAG_BYTES;

/// How a segment's blobs were compressed before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Compression {
    /// Not at all: it would not have become smaller.
    None,
    /// One zstd frame.
    Zstd,
}

/// A segment, as footers and deltas list it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Segment {
    /// What its blobs hold; chooses the frame key.
    pub kind: BlobKind,
    /// How it was compressed.
    pub compression: Compression,
    /// Bytes of the sealed frame in the pack, tag included.
    pub frame_bytes: u32,
    /// Plaintext bytes of each blob, in order.
    pub lengths: Vec<u32>,
}

impl Segment {
    /// Plaintext bytes of all its blobs.
    pub fn plain_bytes(&self) -> u64 {
        self.lengths.iter().map(|&length| u64::from(length)).sum()
    }
}

/// All segments of a pack, in the order in which they lie there from `first_offset` on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SegmentTable {
    /// The segments.
    pub segments: Vec<Segment>,
}

impl SegmentTable {
    /// Refuses what is beyond the limits table, before anything is allocated for it.
    pub fn check(&self) -> Result<()> {
        codec::limit("segments of a pack", self.segments.len() as u64, limits::PACK_SEGMENTS_MAX as u64)?;
        for segment in &self.segments {
            codec::limit(
                "blobs of a segment",
                segment.lengths.len() as u64,
                limits::SEGMENT_BLOBS_MAX as u64,
            )?;
            codec::limit("bytes of a segment", segment.plain_bytes(), limits::SEGMENT_BYTES_MAX as u64)?;
            let frame = u64::from(segment.frame_bytes);
            codec::limit("bytes of a frame", frame, limits::SEGMENT_BYTES_MAX as u64 + TAG_BYTES)?;
            codec::agree(frame >= TAG_BYTES, "bytes of a frame")?;
            let stored = frame - TAG_BYTES;
            codec::agree(
                segment.compression != Compression::None || stored == segment.plain_bytes(),
                "frame length",
            )?;
            codec::agree(segment.lengths.iter().all(|&l| l > 0), "length of a blob")?;
        }
        Ok(())
    }

    /// Offset in the pack of segment number `number`, when the first begins at `first_offset`.
    pub fn offset(&self, number: usize, first_offset: u64) -> u64 {
        first_offset + self.segments[..number].iter().map(|s| u64::from(s.frame_bytes)).sum::<u64>()
    }

    /// Encodes the table.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes a table and checks its limits.
    pub fn decode(bytes: &[u8]) -> Result<SegmentTable> {
        let table: SegmentTable = codec::decode(bytes, "segment table")?;
        table.check()?;
        Ok(table)
    }
}

/// Where the footer lies; the plaintext of the trailer, both numbers little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Offset of the footer frame in the pack.
    pub footer_offset: u64,
    /// Bytes of the footer frame.
    pub footer_bytes: u64,
}

impl Trailer {
    /// The 16 bytes of plaintext.
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.footer_bytes.to_le_bytes());
        bytes
    }

    /// Reads the plaintext for a pack of `pack_bytes`; the footer must end where the trailer begins.
    pub fn decode(bytes: &[u8; 16], pack_bytes: u64) -> Result<Trailer> {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 of 16 bytes"));
        let trailer = Trailer { footer_offset: number(0), footer_bytes: number(8) };
        let end = trailer.footer_offset.checked_add(trailer.footer_bytes);
        let expected = pack_bytes.checked_sub(TRAILER_FRAME_BYTES);
        codec::agree(
            end.is_some() && end == expected && trailer.footer_bytes >= TAG_BYTES,
            "trailer of a pack",
        )?;
        Ok(trailer)
    }
}

/// Bytes to which a pack of `bytes` is padded: Padmé, which leaks log log of the size and costs 12 % at most.
///
/// Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019.
pub fn padded_bytes(bytes: u64) -> u64 {
    if bytes < 2 {
        return bytes;
    }
    let exponent = u64::from(bytes.ilog2());
    let mantissa_bits = u64::from(exponent.max(1).ilog2()) + 1;
    let mask = (1u64 << exponent.saturating_sub(mantissa_bits)) - 1;
    (bytes + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_small_and_never_shrinks() {
        for bytes in (0..100_000).chain([1 << 25, (1 << 25) + 1, 33_554_000, 99_999_999]) {
            let padded = padded_bytes(bytes);
            assert!(padded >= bytes && padded as f64 <= bytes as f64 * 1.12 + 1.0, "{bytes} {padded}");
            assert_eq!(padded_bytes(padded), padded);
        }
    }

    #[test]
    fn a_segment_lies_behind_all_before_it() {
        let segment = |frame_bytes| Segment {
            kind: BlobKind::Text,
            compression: Compression::Zstd,
            frame_bytes,
            lengths: vec![7],
        };
        let table = SegmentTable { segments: vec![segment(60), segment(50), segment(40)] };
        assert_eq!([0, 1, 2, 3].map(|number| table.offset(number, 100)), [100, 160, 210, 250]);
    }

    #[test]
    fn hostile_tables_are_refused() {
        let table = |segment| SegmentTable { segments: vec![segment] };
        let good = Segment {
            kind: BlobKind::Text,
            compression: Compression::Zstd,
            frame_bytes: 60,
            lengths: vec![7],
        };
        assert_eq!(SegmentTable::decode(&table(good.clone()).encode()).unwrap(), table(good.clone()));
        for bad in [
            Segment { frame_bytes: 15, ..good.clone() },
            Segment { frame_bytes: u32::MAX, ..good.clone() },
            Segment { lengths: vec![u32::MAX; 9], ..good.clone() },
            Segment { lengths: vec![0], ..good.clone() },
            Segment { compression: Compression::None, ..good.clone() },
            Segment { lengths: vec![1; limits::SEGMENT_BLOBS_MAX + 1], ..good },
        ] {
            assert!(SegmentTable::decode(&table(bad).encode()).is_err());
        }
    }

    #[test]
    fn trailers_must_meet_the_end() {
        let trailer = Trailer { footer_offset: 100, footer_bytes: 50 };
        assert_eq!(Trailer::decode(&trailer.encode(), 182).unwrap(), trailer);
        assert!(Trailer::decode(&trailer.encode(), 183).is_err());
        assert!(Trailer::decode(&[0xff; 16], 183).is_err());
        assert!(Trailer::decode(&trailer.encode(), 3).is_err());
    }
}
