//! What a mirror holds: written by each run into the mirror, so that what is missing shows without any key.
//!
//! Section "Mirrors" of `repo-format.md`.

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use crate::base::id::{ObjectHash, RepositoryId};
use crate::base::limits;

const MAGIC: [u8; 8] = *b"MARKINV1";

/// How an object of the mirror stands to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum State {
    /// The repository has it.
    There,
    /// The repository had it; gone since, unix seconds by the mirror's runs.
    Gone(i64),
    /// No run ever saw it in the repository: somebody wrote into the mirror.
    OnlyHere,
}

/// An object of the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its BLAKE3, where the name does not hold it.
    pub hash: Option<ObjectHash>,
    /// How it stands to the repository.
    pub state: State,
}

/// All objects of a mirror but its inventories.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Inventory {
    /// The mirrored repository.
    pub repository: RepositoryId,
    /// When it was written, unix seconds.
    pub at: i64,
    /// The objects, sorted by name.
    pub objects: Vec<Item>,
}

impl Inventory {
    /// Encodes the whole object.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        codec::encode_into(self, &mut bytes);
        bytes
    }

    /// Decodes the whole object.
    pub fn decode(bytes: &[u8]) -> Result<Inventory> {
        const WHAT: &str = "inventory";
        codec::limit(WHAT, bytes.len() as u64, limits::OBJECT_BYTES_MAX)?;
        let (version, body) = bytes.split_at_checked(MAGIC.len()).ok_or(FormatError::NotA { what: WHAT })?;
        if version[..7] != MAGIC[..7] {
            return Err(FormatError::NotA { what: WHAT });
        }
        if version != MAGIC {
            return Err(FormatError::Unknown { what: "inventory version", value: version[7].into() });
        }
        codec::decode(body, WHAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventories_come_back_and_nothing_else_passes_for_one() {
        let item = |name: &str, state| Item { name: name.to_owned(), bytes: 3, hash: None, state };
        let objects = vec![
            Item { hash: Some(ObjectHash([4; 32])), ..item("config", State::There) },
            item("packs/00/x", State::Gone(-5)),
            item("records/y", State::OnlyHere),
        ];
        let inventory = Inventory { repository: RepositoryId([1; 16]), at: 9, objects };
        let bytes = inventory.encode();
        assert_eq!(Inventory::decode(&bytes), Ok(inventory));
        assert!((0..bytes.len()).all(|cut| Inventory::decode(&bytes[..cut]).is_err()));
        let mut newer = bytes;
        newer[7] = b'2';
        assert!(matches!(Inventory::decode(&newer), Err(FormatError::Unknown { .. })));
    }
}
