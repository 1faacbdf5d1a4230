//! Parity objects: shards from which a damaged pack is had again. Neither sealed nor signed: the pack's own hash
//! proves what comes out.
//!
//! ```text
//! magic "MPAR" | version | head | recovery shard ...
//! ```
//!
//! Section "Parity" of `repo-format.md`.

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use crate::base::id::ObjectHash;
use crate::base::limits;

/// First bytes of every parity object.
pub const MAGIC: [u8; 4] = *b"MPAR";
/// The only version, and with it the only code.
pub const VERSION: u8 = 1;
/// Shards are multiples of this, bytes.
pub const SHARD_BYTES_STEP: u64 = 4_096;
/// A pack is cut into about as many shards.
const SHARDS_AIM: u64 = 512;
/// More than any lawful head takes, bytes.
const HEAD_BYTES_MAX: usize = 64 + 2 * 16 * (limits::PARITY_SHARDS_MAX + 1);

/// First 16 bytes of the BLAKE3 of a shard: tells a whole one from a damaged one.
pub type ShardSum = [u8; 16];

/// The sum of a shard.
pub fn sum(shard: &[u8]) -> ShardSum {
    *blake3::hash(shard).as_bytes().first_chunk().expect("a hash is longer than a sum")
}

/// What stands before the recovery shards.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ParityHead {
    /// The pack.
    pub pack: ObjectHash,
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// Bytes of each shard; zeros fill the last one of the data.
    pub shard_bytes: u32,
    /// Sum of every data shard.
    pub data: Vec<ShardSum>,
    /// Sum of every recovery shard.
    pub recovery: Vec<ShardSum>,
}

/// How a pack is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of a shard.
    pub shard_bytes: u64,
    /// Shards of data.
    pub data: u64,
    /// Shards of recovery.
    pub recovery: u64,
}

/// How a writer cuts a pack of `pack_bytes`, at least 1, for `percent` of parity.
pub fn cut(pack_bytes: u64, percent: u32) -> Cut {
    let shard_bytes =
        pack_bytes.div_ceil(SHARDS_AIM).next_multiple_of(SHARD_BYTES_STEP).max(SHARD_BYTES_STEP);
    let data = pack_bytes.div_ceil(shard_bytes);
    Cut { shard_bytes, data, recovery: (data * u64::from(percent)).div_ceil(100).max(1) }
}

impl ParityHead {
    /// Encodes magic, version and head.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        codec::encode_into(self, &mut bytes);
        bytes
    }

    /// Decodes what stands before the recovery shards, checks its limits, and gives what follows.
    pub fn decode(bytes: &[u8]) -> Result<(ParityHead, &[u8])> {
        const WHAT: &str = "parity object";
        let rest = bytes.strip_prefix(&MAGIC).ok_or(FormatError::NotA { what: WHAT })?;
        let (&version, rest) = rest.split_first().ok_or(FormatError::NotA { what: WHAT })?;
        if version != VERSION {
            return Err(FormatError::Unknown { what: "version of a parity object", value: version.into() });
        }
        let bounded = &rest[..rest.len().min(HEAD_BYTES_MAX)];
        let (head, behind) = codec::decode_prefix::<ParityHead>(bounded, WHAT)?;
        let used = bounded.len() - behind.len();
        head.check()?;
        Ok((head, &rest[used..]))
    }

    fn check(&self) -> Result<()> {
        let shard_bytes = u64::from(self.shard_bytes);
        codec::limit("bytes of a pack", self.pack_bytes, limits::PACK_BYTES_MAX)?;
        codec::limit("bytes of a shard", shard_bytes, limits::PACK_BYTES_MAX)?;
        codec::agree(shard_bytes > 0 && shard_bytes % SHARD_BYTES_STEP == 0, "bytes of a shard")?;
        for (what, sums) in [("data shards", &self.data), ("recovery shards", &self.recovery)] {
            codec::limit(what, sums.len() as u64, limits::PARITY_SHARDS_MAX as u64)?;
        }
        let data = self.pack_bytes.div_ceil(shard_bytes);
        codec::agree(data > 0 && self.data.len() as u64 == data, "number of data shards")?;
        codec::agree(!self.recovery.is_empty(), "number of recovery shards")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(pack_bytes: u64, percent: u32) -> ParityHead {
        let Cut { shard_bytes, data, recovery } = cut(pack_bytes, percent);
        let sums = |count: u64| (0..count).map(|number| sum(&number.to_le_bytes())).collect();
        let pack = ObjectHash([7; 32]);
        ParityHead {
            pack,
            pack_bytes,
            shard_bytes: shard_bytes as u32,
            data: sums(data),
            recovery: sums(recovery),
        }
    }

    #[test]
    fn packs_are_cut_into_some_hundred_shards() {
        let cut = |bytes, percent| {
            let Cut { shard_bytes, data, recovery } = cut(bytes, percent);
            (shard_bytes, data, recovery)
        };
        assert_eq!(cut(1, 3), (4_096, 1, 1));
        assert_eq!(cut(4_097, 3), (4_096, 2, 1));
        assert_eq!(cut(1 << 20, 3), (4_096, 256, 8));
        assert_eq!(cut(32 << 20, 3), (65_536, 512, 16));
        assert_eq!(cut((32 << 20) + 1, 3), (69_632, 482, 15));
        assert_eq!(cut(limits::PACK_BYTES_MAX, limits::PARITY_PERCENT_MAX), (262_144, 512, 256));
    }

    #[test]
    fn a_sum_is_the_beginning_of_the_hash() {
        assert_eq!(sum(b"shard"), blake3::hash(b"shard").as_bytes()[..16]);
        assert_ne!(sum(b"shard"), sum(b"Shard"));
    }

    #[test]
    fn hostile_heads_are_refused() {
        let good = head(10_000, 50);
        assert!(ParityHead::decode(&good.encode()).is_ok());
        let many = vec![[0; 16]; limits::PARITY_SHARDS_MAX + 1];
        for bad in [
            ParityHead { pack_bytes: 0, ..good.clone() },
            ParityHead { pack_bytes: u64::MAX, ..good.clone() },
            ParityHead { pack_bytes: 20_000, ..good.clone() },
            ParityHead { shard_bytes: 0, ..good.clone() },
            ParityHead { shard_bytes: 4_095, ..good.clone() },
            ParityHead { shard_bytes: u32::MAX, ..good.clone() },
            ParityHead { data: Vec::new(), ..good.clone() },
            ParityHead { recovery: Vec::new(), ..good.clone() },
            ParityHead { recovery: many, ..good.clone() },
        ] {
            assert!(ParityHead::decode(&bad.encode()).is_err(), "{bad:?}");
        }
        let bytes = good.encode();
        for end in 0..bytes.len() {
            assert!(ParityHead::decode(&bytes[..end]).is_err(), "{end}");
        }
        let newer = [&MAGIC[..], &[VERSION + 1], &bytes[5..]].concat();
        assert!(matches!(ParityHead::decode(&newer), Err(FormatError::Unknown { .. })));
    }

    proptest! {
        #[test]
        fn heads_round_trip(
            pack_bytes in 1..limits::PACK_BYTES_MAX,
            percent in 1..=limits::PARITY_PERCENT_MAX,
            tail in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let head = head(pack_bytes, percent);
            let mut bytes = head.encode();
            bytes.extend(&tail);
            let (read, rest) = ParityHead::decode(&bytes).unwrap();
            prop_assert_eq!((read, rest), (head, tail.as_slice()));
        }

        #[test]
        fn any_bytes_give_a_head_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&MAGIC[..], &[VERSION], bytes.as_slice()].concat();
            if let Ok((head, rest)) = ParityHead::decode(&bytes) {
                let again = [&head.encode(), rest].concat();
                prop_assert_eq!(ParityHead::decode(&again), Ok((head, rest)));
            }
        }
    }
}
