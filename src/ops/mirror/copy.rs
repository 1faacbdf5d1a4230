//! Copying one object: verified while it is copied, so that damage never spreads.

use super::Source;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::limits::{OBJECT_BYTES_MAX, PACK_BYTES_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::format::object::ObjectType;
use crate::format::slot;
use crate::repo::objects::SignedObject;
use crate::store::{Place, Storage, StoreError};

use super::target::{Identity, identity};

/// Bytes that are copied at a time.
const BLOCK_BYTES: u64 = 1 << 20;
const NOT_ITS_BYTES: &str = "its bytes are not those that its name promises";

/// What became of an object.
pub(super) enum Brought {
    /// It was copied.
    Copied {
        /// Its size.
        bytes: u64,
        /// A damaged object stood there.
        replaced: bool,
    },
    /// The mirror has it.
    Kept,
    /// It is no longer in the repository.
    Vanished,
    /// It cannot be copied: why.
    Damaged(String),
}

/// Copies single objects; used by many threads.
pub(super) struct Copier<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) target: &'a dyn Storage,
    pub(super) interrupt: &'a Interrupt,
    /// Read what the mirror has.
    pub(super) reread: bool,
}

impl Copier<'_> {
    /// Sees to it that the mirror has a good copy of an object of `size` bytes; `there` is the size of what it has.
    ///
    /// # Errors
    /// Only those of the mirror: the repository's are what becomes of the object.
    pub(super) fn bring(&self, place: &Place, size: u64, there: Option<u64>) -> Result<Brought, StoreError> {
        match self.bring_once(place, size, there)? {
            // What a disk or a share gives the second time was no damage.
            Brought::Damaged(_) if !self.interrupt.is_raised() => self.bring_once(place, size, there),
            brought => Ok(brought),
        }
    }

    fn bring_once(&self, place: &Place, size: u64, there: Option<u64>) -> Result<Brought, StoreError> {
        let Some(hash) = place.hash() else { return self.bring_small(place, there.is_some()) };
        if there == Some(size) && (!self.reread || self.is_good(place, size, hash)) {
            return Ok(Brought::Kept);
        }
        let most = if matches!(place, Place::Pack(_)) { PACK_BYTES_MAX } else { OBJECT_BYTES_MAX };
        if size > most {
            return Ok(Brought::Damaged(format!("{size} bytes are too many for such an object")));
        }
        let received = match self.source.store.received(place) {
            Ok(received) => received,
            Err(error) => return Ok(unreadable(&error)),
        };
        let mut copy = self.target.begin_copy(size)?;
        let mut failed = Ok(());
        let read = each_block(self.source.store.as_ref(), place, size, |block| {
            failed = copy.write(block);
            failed.is_ok() && !self.interrupt.is_raised()
        });
        failed?;
        match read {
            Err(error) => Ok(unreadable(&error)),
            // Dropped with its run.
            Ok(()) if self.interrupt.is_raised() => Ok(Brought::Vanished),
            Ok(()) if copy.hash() != *hash => Ok(Brought::Damaged(NOT_ITS_BYTES.to_owned())),
            Ok(()) => {
                self.target.finish_copy(copy, place, received)?;
                Ok(Brought::Copied { bytes: size, replaced: there.is_some() })
            }
        }
    }

    fn is_good(&self, place: &Place, size: u64, hash: &ObjectHash) -> bool {
        hash_of(self.target, place, size).is_ok_and(|found| found == *hash)
    }

    /// Config and key slots: their names do not tell their bytes, so each proves itself as well as it can.
    fn bring_small(&self, place: &Place, there: bool) -> Result<Brought, StoreError> {
        let source = self.source.store.as_ref();
        let bytes = match source.read(place, SMALL_OBJECT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(unreadable(&error)),
        };
        if let Err(text) = self.proves(source, place, &bytes) {
            return Ok(Brought::Damaged(text));
        }
        if there {
            let held = self.target.read(place, SMALL_OBJECT_BYTES_MAX);
            // The mirror's own good one stays, whatever stands in the repository now.
            if held.is_ok_and(|held| held == bytes || self.proves(self.target, place, &held).is_ok()) {
                return Ok(Brought::Kept);
            }
        }
        let received = match source.received(place) {
            Ok(received) => received,
            Err(error) => return Ok(unreadable(&error)),
        };
        let mut copy = self.target.begin_copy(bytes.len() as u64)?;
        copy.write(&bytes)?;
        self.target.finish_copy(copy, place, received)?;
        Ok(Brought::Copied { bytes: bytes.len() as u64, replaced: there })
    }

    /// Are these the bytes of a whole config or key slot?
    fn proves(&self, store: &dyn Storage, place: &Place, bytes: &[u8]) -> Result<(), String> {
        match (place, self.source.repository) {
            (Place::KeySlot(id), _) => slot_proves(bytes, *id),
            (_, Some(repository)) => {
                let verifier = |_: &_| Some(repository.verifying_key());
                SignedObject::read(store, place, &[ObjectType::Config], &self.source.id, verifier)
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
            (_, None) => match identity(store).map_err(|error| error.to_string())? {
                // Which of two that differ is damaged cannot be known, so the mirror's stays.
                Identity::Repository(_) => Ok(()),
                Identity::Unreadable(text) => Err(text),
                Identity::Absent => Err("is missing".to_owned()),
            },
        }
    }
}

/// A slot's checksum needs no key.
pub(super) fn slot_proves(bytes: &[u8], id: crate::base::id::SlotId) -> Result<(), String> {
    match slot::split(bytes) {
        Ok(parts) if parts.header.id == id => Ok(()),
        Ok(_) => Err("it was made for another name".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// BLAKE3 of a stored object of that size.
pub(super) fn hash_of(store: &dyn Storage, place: &Place, size: u64) -> Result<ObjectHash, StoreError> {
    let mut hasher = blake3::Hasher::new();
    each_block(store, place, size, |block| {
        hasher.update(block);
        true
    })?;
    Ok(ObjectHash(*hasher.finalize().as_bytes()))
}

/// Reads an object block by block, until `take` has enough.
fn each_block(
    store: &dyn Storage,
    place: &Place,
    size: u64,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), StoreError> {
    let mut offset = 0;
    while offset < size {
        let length = BLOCK_BYTES.min(size - offset);
        if !take(&store.read_range(place, offset, length as usize)?) {
            break;
        }
        offset += length;
    }
    Ok(())
}

fn unreadable(error: &StoreError) -> Brought {
    if error.is_missing() { Brought::Vanished } else { Brought::Damaged(error.source.to_string()) }
}
