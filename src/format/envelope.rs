//! The key envelope of a pack: what a holder of keys needs to find the pack's keys again.
//!
//! It opens every pack file and is repeated by the delta that names the pack. Section "Pack envelope" of
//! `repo-format.md`.

use super::codec::{FormatError, Result};
use crate::base::id::HostId;

pub use super::object::SUITE;

/// Number of the object type "pack" in associated data.
pub const PACK_OBJECT: u8 = super::object::ObjectType::Pack as u8;

/// How the keys of one pack were made; 133 bytes, integers little endian.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 1 | suite |
/// | 1 | 4 | epoch |
/// | 5 | 16 | host |
/// | 21 | 32 | salt |
/// | 53 | 32 | ephemeral public key |
/// | 85 | 48 | wrapped tree key (32 bytes and tag) |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackEnvelope {
    /// The algorithms.
    pub suite: u8,
    /// The epoch whose box key and pack secret were used.
    pub epoch: u32,
    /// The host that wrote the pack.
    pub host: HostId,
    /// Fresh random bytes of this pack.
    pub salt: [u8; 32],
    /// X25519 public key made for this pack.
    pub ephemeral_public: [u8; 32],
    /// The frame key of kind `tree`, sealed for the host that wrote it.
    pub wrapped_tree_key: [u8; 48],
}

fn part<const N: usize>(bytes: &[u8; PackEnvelope::BYTES], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the table of offsets lies inside the envelope")
}

impl PackEnvelope {
    /// Bytes of an encoded envelope.
    pub const BYTES: usize = Self::HEAD_BYTES + 48;
    /// Bytes before the wrapped key.
    pub const HEAD_BYTES: usize = 85;

    /// Encodes what stands before the wrapped key.
    pub fn encode_head(&self) -> [u8; Self::HEAD_BYTES] {
        let mut head = [0; Self::HEAD_BYTES];
        head[0] = self.suite;
        head[1..5].copy_from_slice(&self.epoch.to_le_bytes());
        head[5..21].copy_from_slice(&self.host.0);
        head[21..53].copy_from_slice(&self.salt);
        head[53..85].copy_from_slice(&self.ephemeral_public);
        head
    }

    /// Encodes the envelope.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..Self::HEAD_BYTES].copy_from_slice(&self.encode_head());
        bytes[Self::HEAD_BYTES..].copy_from_slice(&self.wrapped_tree_key);
        bytes
    }

    /// Reads an envelope that fills `bytes` exactly.
    ///
    /// # Errors
    /// Another length, or a suite that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<PackEnvelope> {
        const WHAT: &str = "pack envelope";
        let Some((head, rest)) = bytes.split_first_chunk::<{ Self::BYTES }>() else {
            let detail = format!("{} of {} bytes", bytes.len(), Self::BYTES);
            return Err(FormatError::Malformed { what: WHAT, detail });
        };
        if !rest.is_empty() {
            return Err(FormatError::Trailing { what: WHAT, count: rest.len() });
        }
        if head[0] != SUITE {
            return Err(FormatError::Unknown { what: "suite", value: head[0].into() });
        }
        Ok(PackEnvelope {
            suite: head[0],
            epoch: u32::from_le_bytes(part(head, 1)),
            host: HostId(part(head, 5)),
            salt: part(head, 21),
            ephemeral_public: part(head, 53),
            wrapped_tree_key: part(head, 85),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn envelopes_round_trip(
            epoch: u32,
            host: [u8; 16],
            salt: [u8; 32],
            ephemeral_public: [u8; 32],
            wrapped in prop::collection::vec(any::<u8>(), 48),
        ) {
            let wrapped_tree_key = wrapped.try_into().unwrap();
            let envelope =
                PackEnvelope { suite: SUITE, epoch, host: HostId(host), salt, ephemeral_public, wrapped_tree_key };
            prop_assert_eq!(PackEnvelope::decode(&envelope.encode()), Ok(envelope));
        }

        #[test]
        fn other_lengths_are_refused(bytes in prop::collection::vec(Just(SUITE), 0..300)) {
            prop_assert_eq!(PackEnvelope::decode(&bytes).is_ok(), bytes.len() == PackEnvelope::BYTES);
        }
    }
}
