//! Signed objects: written whole, read back only when hash, signature, place and seal all hold.

use super::RepoError;
use crate::base::entropy;
use crate::base::id::{DomainId, HostId, ObjectHash, RepositoryId};
use crate::base::limits;
use crate::crypto::seal::{Context, FrameCipher, SealingKey};
use crate::crypto::sign::{self, Statement};
use crate::format::codec::FormatError;
use crate::format::keyset::{FullKeys, VerifyingKey, WriterKeys};
use crate::format::object::{Header, Object, ObjectType, SUITE};
use crate::store::{Place, Storage, StoreError, StoreErrorKind};

/// What a new object says.
pub struct NewObject {
    /// Its type.
    pub object_type: ObjectType,
    /// Epoch of the keys in use.
    pub epoch: u32,
    /// Who signs; all zero for the repository.
    pub host: HostId,
    /// The domain; all zero where that means nothing.
    pub domain: DomainId,
    /// Its number in its folder.
    pub sequence: u64,
    /// What anyone may read.
    pub clear: Vec<u8>,
    /// What only the seal key opens.
    pub secret: Vec<u8>,
}

/// An object that has proved itself.
pub struct VerifiedObject {
    /// The type byte.
    pub object_type: ObjectType,
    /// The clear header.
    pub header: Header,
    /// The clear part.
    pub clear: Vec<u8>,
    /// The opened part.
    pub secret: Vec<u8>,
    /// Hash of the whole object.
    pub hash: ObjectHash,
}

/// Who signs a new object.
#[derive(Clone, Copy)]
pub enum Signer<'a> {
    /// The repository itself.
    Repository(&'a FullKeys),
    /// A host.
    Host(&'a WriterKeys),
}

impl Signer<'_> {
    fn sign(self, object_type: ObjectType, sequence: u64, bytes: &[u8]) -> [u8; 64] {
        match self {
            Signer::Repository(keys) => keys.sign(object_type as u8, sequence, bytes),
            Signer::Host(keys) => keys.sign(object_type as u8, sequence, bytes),
        }
    }
}

/// Where the sealed part of an object belongs.
fn context(object_type: ObjectType, repository: &RepositoryId, header: &Header) -> Context {
    Context {
        suite: SUITE,
        object_type: object_type as u8,
        epoch: header.epoch,
        repository: *repository,
        salt: header.salt,
        kind: 0,
        position: header.sequence,
    }
}

impl NewObject {
    /// Seals, signs and stores the object; gives its place.
    pub fn write(
        self,
        store: &dyn Storage,
        repository: &RepositoryId,
        seal: Option<&dyn SealingKey>,
        signer: Signer<'_>,
    ) -> Result<Place, RepoError> {
        let (place, bytes) = self.seal(repository, seal, signer);
        store.create(&place, &bytes)?;
        Ok(place)
    }

    /// Seals and signs the object without storing it: its place and its bytes.
    pub fn seal(
        self,
        repository: &RepositoryId,
        seal: Option<&dyn SealingKey>,
        signer: Signer<'_>,
    ) -> (Place, Vec<u8>) {
        let NewObject { object_type, epoch, host, domain, sequence, clear, secret } = self;
        let header = Header { epoch, host, domain, sequence, salt: entropy::random() };
        let sealed = match seal {
            Some(key) => {
                let context = context(object_type, repository, &header);
                let mut sealed = secret;
                FrameCipher::for_object(key, &context).seal_in_place(&context, &mut sealed);
                sealed
            }
            None => Vec::new(),
        };
        let mut bytes = Object { object_type, header, clear, sealed }.encode_unsigned();
        let signature = signer.sign(object_type, sequence, &bytes);
        bytes.extend_from_slice(&signature);
        let hash = ObjectHash(*blake3::hash(&bytes).as_bytes());
        let place = match object_type {
            ObjectType::Config => Place::Config,
            ObjectType::Delta => Place::Delta(host, sequence, hash),
            ObjectType::Snapshot | ObjectType::Checkpoint => Place::Snapshot(host, sequence, hash),
            ObjectType::Record => Place::Record(sequence, hash),
            ObjectType::KeySlot | ObjectType::Pack => {
                unreachable!("slots and packs have frames of their own")
            }
        };
        (place, bytes)
    }
}

/// Reads an object, again where it is not what its name promises: what a disk or a share gives the second time was no
/// damage, and a repair must not give up what is there.
fn read_whole(store: &dyn Storage, place: &Place) -> Result<(Vec<u8>, ObjectHash), StoreError> {
    let read = || {
        let bytes = store.read(place, limits::OBJECT_BYTES_MAX)?;
        let hash = ObjectHash(*blake3::hash(&bytes).as_bytes());
        Ok((bytes, hash))
    };
    match read() {
        Ok((_, hash)) if place.hash().is_some_and(|named| *named != hash) => read(),
        Err(error) if error.kind == StoreErrorKind::Size => read(),
        whole => whole,
    }
}

/// An object whose hash, place and signature hold; its seal is still closed.
pub struct SignedObject {
    object: Object,
    hash: ObjectHash,
    place: Place,
}

impl SignedObject {
    /// Reads an object; `verifier` gives the key of the host that the header names, if we know it.
    pub fn read(
        store: &dyn Storage,
        place: &Place,
        expected: &[ObjectType],
        repository: &RepositoryId,
        verifier: impl FnOnce(&Header) -> Option<VerifyingKey>,
    ) -> Result<SignedObject, RepoError> {
        let (bytes, hash) = read_whole(store, place)?;
        let damaged = |detail: String| RepoError::Damaged { object: place.to_string(), detail };
        if place.hash().is_some_and(|named| *named != hash) {
            return Err(damaged("its bytes are not those that its name promises".to_owned()));
        }
        let (object, signed, signature) = Object::decode(&bytes, expected).map_err(|error| match error {
            FormatError::Unknown { .. } => damaged(error.to_string()),
            // Its bytes are those that its name promises, and were never an object: somebody put it there.
            _ if place.hash().is_some() => {
                RepoError::Refused { object: place.to_string(), why: "it is no object of a repository" }
            }
            _ => damaged(error.to_string()),
        })?;
        let header = &object.header;
        let in_place = match place {
            Place::Delta(host, sequence, _) | Place::Snapshot(host, sequence, _) => {
                header.host == *host && header.sequence == *sequence
            }
            Place::Record(sequence, _) => header.sequence == *sequence && header.host == HostId::default(),
            _ => header.sequence == 0 && header.host == HostId::default(),
        };
        if !in_place {
            return Err(RepoError::Refused {
                object: place.to_string(),
                why: "it was made for another place",
            });
        }
        let verifier =
            verifier(header).ok_or_else(|| RepoError::NotForThisKey { object: place.to_string() })?;
        let statement = Statement {
            object_type: object.object_type as u8,
            repository: *repository,
            host: (header.host != HostId::default()).then_some(header.host),
            sequence: header.sequence,
            bytes: signed,
        };
        if sign::verify(&verifier, &statement, signature).is_err() {
            return Err(RepoError::Refused { object: place.to_string(), why: "its signature is not valid" });
        }
        Ok(SignedObject { object, hash, place: *place })
    }

    /// The type byte.
    pub fn object_type(&self) -> ObjectType {
        self.object.object_type
    }

    /// The clear header.
    pub fn header(&self) -> &Header {
        &self.object.header
    }

    /// The clear part.
    pub fn clear(&self) -> &[u8] {
        &self.object.clear
    }

    /// Opens the seal; without a key the object must have no sealed part.
    pub fn open(
        self,
        repository: &RepositoryId,
        seal: Option<&dyn SealingKey>,
    ) -> Result<VerifiedObject, RepoError> {
        let SignedObject { object: Object { object_type, header, clear, sealed }, hash, place } = self;
        let mut secret = sealed;
        match seal {
            Some(key) => {
                let context = context(object_type, repository, &header);
                FrameCipher::for_object(key, &context).open_in_place(&context, &mut secret).map_err(
                    |_| RepoError::Refused { object: place.to_string(), why: "its seal is not valid" },
                )?;
            }
            None => secret.clear(),
        }
        Ok(VerifiedObject { object_type, header, clear, secret, hash })
    }
}
