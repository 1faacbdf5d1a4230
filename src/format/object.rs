//! The frame of every object that is not a pack: type, header, clear part, sealed part, signature.
//!
//! ```text
//! magic "MARK" | type | suite | header | clear | sealed | Ed25519 signature over all before (64 bytes)
//! ```
//!
//! Section "Objects" of `repo-format.md`.

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use crate::base::id::{DomainId, HostId};

/// First bytes of every object but packs and key slots.
pub const MAGIC: [u8; 4] = *b"MARK";
/// The only suite of format 1: BLAKE3, AES-256-GCM, X25519, Ed25519, Argon2id, zstd.
pub const SUITE: u8 = 1;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What an object is; part of every signature and of all associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// `config`.
    Config = 1,
    /// `keys/<id>`.
    KeySlot = 2,
    /// `packs/<xx>/<hash>`.
    Pack = 3,
    /// `index/<host>/<sequence>-<hash>`.
    Delta = 4,
    /// `snapshots/<host>/<sequence>-<hash>`, a finished backup.
    Snapshot = 5,
    /// The same place, a running one.
    Checkpoint = 6,
    /// `records/<sequence>-<hash>`.
    Record = 7,
}

impl ObjectType {
    /// The type's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ObjectType::Config => "config",
            ObjectType::KeySlot => "key slot",
            ObjectType::Pack => "pack",
            ObjectType::Delta => "index delta",
            ObjectType::Snapshot => "snapshot",
            ObjectType::Checkpoint => "checkpoint",
            ObjectType::Record => "record",
        }
    }
}

/// What stands in clear at the head of an object; signed, and bound into the seal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// Generation of keys it was made with.
    pub epoch: u32,
    /// The host that signed it; all zero for the repository itself.
    pub host: HostId,
    /// The host's dedup domain; all zero where that means nothing.
    pub domain: DomainId,
    /// Its number in its folder, from 1; equal to the number in its name.
    pub sequence: u64,
    /// Makes the key of the sealed part unique.
    pub salt: [u8; 32],
}

/// An object taken apart; nothing of it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The type byte.
    pub object_type: ObjectType,
    /// The clear header.
    pub header: Header,
    /// What anyone may read.
    pub clear: Vec<u8>,
    /// What only some keys open; may be empty.
    pub sealed: Vec<u8>,
}

#[derive(Encode, Decode)]
struct Body {
    header: Header,
    clear: Vec<u8>,
    sealed: Vec<u8>,
}

impl Object {
    /// The bytes that are signed.
    pub fn encode_unsigned(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([self.object_type as u8, SUITE]);
        codec::encode_into(&Body { header: self.header, clear: self.clear, sealed: self.sealed }, &mut bytes);
        bytes
    }

    /// Takes an object of one of the `expected` types apart: the object, the signed bytes, the signature.
    pub fn decode<'a>(
        bytes: &'a [u8],
        expected: &[ObjectType],
    ) -> Result<(Object, &'a [u8], &'a [u8; SIGNATURE_BYTES])> {
        let what = expected[0].name();
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(FormatError::NotA { what })?;
        let head = signed.first_chunk::<6>().ok_or(FormatError::NotA { what })?;
        let object_type = expected.iter().copied().find(|&t| t as u8 == head[4]);
        let object_type = object_type.filter(|_| head[..4] == MAGIC).ok_or(FormatError::NotA { what })?;
        if head[5] != SUITE {
            return Err(FormatError::Unknown { what: "suite", value: head[5].into() });
        }
        let Body { header, clear, sealed } = codec::decode(&signed[6..], what)?;
        Ok((Object { object_type, header, clear, sealed }, signed, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_come_apart_as_they_were_put_together() {
        let header = Header {
            epoch: 0,
            host: HostId([1; 16]),
            domain: DomainId([2; 16]),
            sequence: 300,
            salt: [3; 32],
        };
        let object = Object {
            object_type: ObjectType::Delta,
            header,
            clear: b"clear".to_vec(),
            sealed: b"sealed".to_vec(),
        };
        let mut bytes = object.clone().encode_unsigned();
        bytes.extend([9; SIGNATURE_BYTES]);
        let (read, signed, signature) = Object::decode(&bytes, &[ObjectType::Delta]).unwrap();
        assert_eq!((read, signed.len(), signature), (object, bytes.len() - 64, &[9; 64]));
        assert!(Object::decode(&bytes, &[ObjectType::Snapshot, ObjectType::Checkpoint]).is_err());
        for cut in 0..bytes.len() {
            assert!(Object::decode(&bytes[..cut], &[ObjectType::Delta]).is_err(), "{cut}");
        }
    }
}
