//! Reading objects that may be damaged, on disks that may have bad sectors.

use crate::base::id::ObjectHash;
use crate::base::limits;
use crate::store::{Folder, Place, Storage, StoreError, StoreErrorKind};

/// Bytes that are read at a time when a pack is only looked at.
const STRETCH_BYTES: u64 = 4 << 20;
/// Bytes that are lost with a bad sector; the page of the system is as large.
const SECTOR_BYTES: u64 = 4 << 10;

/// How a pack stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Its bytes are those that its name promises.
    Whole,
    /// They are not, or cannot be read; why.
    Damaged(String),
    /// It is not there.
    Missing,
}

/// Reads a pack of `size` bytes and compares it with its name; holds little of it at a time.
///
/// # Errors
/// What says nothing about the pack: the store may not be read.
pub(super) fn examine(store: &dyn Storage, pack: ObjectHash, size: u64) -> Result<State, StoreError> {
    if size > limits::PACK_BYTES_MAX {
        return Ok(State::Damaged(format!("has {size} bytes, more than any pack")));
    }
    let place = Place::Pack(pack);
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let length = STRETCH_BYTES.min(size - at);
        match store.read_range(&place, at, length as usize) {
            Ok(bytes) => hasher.update(&bytes),
            Err(error) if error.is_missing() => return Ok(State::Missing),
            Err(error) if is_damage(&error) => return Ok(State::Damaged(error.to_string())),
            Err(error) => return Err(error),
        };
        at += length;
    }
    Ok(match ObjectHash(*hasher.finalize().as_bytes()) == pack {
        true => State::Whole,
        false => State::Damaged("its bytes are not those that its name promises".to_owned()),
    })
}

/// Does the error tell of a bad object rather than of a store that may not be used?
pub(super) fn is_damage(error: &StoreError) -> bool {
    [StoreErrorKind::Io, StoreErrorKind::Size].contains(&error.kind)
}

/// Reads all of an object that can be read; zeros stand where a disk gives errors. `None` when it is not there.
pub(super) fn what_is_left(store: &dyn Storage, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
    match store.read(place, limits::PACK_BYTES_MAX) {
        Ok(bytes) => return Ok(Some(bytes)),
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) if !is_damage(&error) => return Err(error),
        Err(_) => {}
    }
    let folder = if matches!(place, Place::Parity(..)) { Folder::Parity } else { Folder::Packs };
    let listed = store.list(folder)?;
    let Some((_, size)) = listed.into_iter().find(|(listed, _)| listed == place) else { return Ok(None) };
    let size = size.min(limits::PACK_BYTES_MAX);
    let mut bytes = Vec::with_capacity(size as usize);
    // In large stretches as long as they are good: a bad sector can take seconds.
    while (bytes.len() as u64) < size {
        let at = bytes.len() as u64;
        let length = STRETCH_BYTES.min(size - at);
        match store.read_range(place, at, length as usize) {
            Ok(stretch) => bytes.extend(stretch),
            Err(error) if is_damage(&error) => {
                for at in (at..at + length).step_by(SECTOR_BYTES as usize) {
                    let length = SECTOR_BYTES.min(size - at) as usize;
                    match store.read_range(place, at, length) {
                        Ok(stretch) => bytes.extend(stretch),
                        Err(error) if is_damage(&error) => bytes.resize(bytes.len() + length, 0),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}
