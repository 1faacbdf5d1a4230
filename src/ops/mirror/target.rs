//! May this folder be written to? Only an empty one when a mirror is made, only a mirror of this repository after.
//!
//! A share that is not mounted looks like an empty folder, and must never be filled in silence.

use std::path::{Path, PathBuf};

use super::{MirrorError, Source};
use crate::base::id::RepositoryId;
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::format::config::Config;
use crate::format::object::{Object, ObjectType};
use crate::repo::recovery_note;
use crate::store::{Folder, LocalStore, Place, RECOVERY_NOTE, Storage, StoreError, StoreErrorKind};

/// Which repository a folder says to hold.
pub(super) enum Identity {
    /// This one.
    Repository(RepositoryId),
    /// There is a config, and it cannot be read: why.
    Unreadable(String),
    /// There is no config.
    Absent,
}

/// Reads the clear part of `config`; nothing of it is proven.
pub(super) fn identity(store: &dyn Storage) -> Result<Identity, StoreError> {
    let bytes = match store.read(&Place::Config, SMALL_OBJECT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return Ok(Identity::Absent),
        Err(error) if error.kind == StoreErrorKind::Size => {
            return Ok(Identity::Unreadable(error.source.to_string()));
        }
        Err(error) => return Err(error),
    };
    let config = Object::decode(&bytes, &[ObjectType::Config])
        .and_then(|(object, _, _)| Config::decode(&object.clear));
    Ok(match config {
        Ok(config) => Identity::Repository(config.repository),
        Err(error) => Identity::Unreadable(error.to_string()),
    })
}

/// What a folder holds, seen from one repository.
enum Standing {
    /// Nothing, or the empty folders of a mirror that was never filled.
    Blank,
    /// A mirror whose first run did not come to its end, or that lost its config.
    Begun,
    /// A mirror.
    Mirror,
}

/// Opens the folder `path` as a mirror of `source`, which lies at `own`; with `new` it must not be one yet.
///
/// Nothing is written; see [`prepare`].
pub fn open(source: &Source<'_>, own: &Path, path: &Path, new: bool) -> Result<LocalStore, MirrorError> {
    let store = LocalStore::new(path);
    let location = store.location();
    if nested(own, path) {
        return Err(MirrorError::Nested { location });
    }
    if let Some(around) = around(path) {
        return Err(MirrorError::Inside { location, around: around.display().to_string() });
    }
    match (stand(source, &store)?, new) {
        (Standing::Blank, false) => Err(MirrorError::NoMirror { location }),
        (Standing::Mirror, true) => Err(MirrorError::Already { location }),
        (Standing::Blank | Standing::Begun, true) | (Standing::Mirror | Standing::Begun, false) => Ok(store),
    }
}

/// Makes the folders of a mirror, and the note that says how to get the data back.
pub fn prepare(source: &Source<'_>, own: &LocalStore, mirror: &LocalStore) -> Result<(), MirrorError> {
    mirror.make_folders()?;
    // A repository of an older version has no note; a read-only one stays without.
    drop(recovery_note::ensure(own, source.id));
    if mirror.recovery_note()?.is_none() {
        // The administrator may have added to it.
        match own.recovery_note()? {
            Some(note) => mirror.write_recovery_note(&note)?,
            None => recovery_note::ensure(mirror, source.id)?,
        }
    }
    Ok(())
}

fn nested(own: &Path, path: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    // A folder that is to be made lies where its nearest existing ancestor lies.
    let place = std::path::absolute(path).ok();
    let there = place.as_deref().and_then(|path| path.ancestors().find_map(whole));
    match (whole(own), there) {
        (Some(own), Some(there)) => {
            let reaches = |a: &Path, b: &Path| a.starts_with(b);
            reaches(&there, &own) || (whole(path).is_some() && reaches(&own, &there))
        }
        _ => false,
    }
}

/// The repository or mirror in one of whose folders a place lies: it is lost with that one, and what looks after that
/// one does not know its objects.
fn around(path: &Path) -> Option<PathBuf> {
    let place = std::path::absolute(path).ok()?;
    let there = place.ancestors().find_map(|path| path.canonicalize().ok())?;
    let is_repository =
        |folder: &&Path| matches!(identity(&LocalStore::new(folder)), Ok(Identity::Repository(_)));
    // The place itself may be a mirror.
    let own = usize::from(place.exists());
    there.ancestors().skip(own).find(is_repository).map(Path::to_owned)
}

fn stand(source: &Source<'_>, store: &LocalStore) -> Result<Standing, MirrorError> {
    let location = store.location();
    if !store.exists()? {
        return Ok(Standing::Blank);
    }
    let found = identity(store)?;
    if matches!(found, Identity::Repository(found) if found == source.id) {
        // Each run that came to its end left an inventory.
        let whole = !store.list(Folder::Inventory)?.is_empty();
        return Ok(if whole { Standing::Mirror } else { Standing::Begun });
    }
    // Its config was not copied yet, or is damaged: the key slots tell. Without a key it may be ours that is.
    let readable = matches!(found, Identity::Repository(_));
    if (source.repository.is_some() || !readable) && shares_a_slot(source, store)? {
        return Ok(Standing::Begun);
    }
    if let Identity::Repository(found) = found {
        return Err(MirrorError::OtherRepository { location, found, expected: source.id });
    }
    for folder in Folder::ALL {
        if let Some((place, _)) = store.list(folder)?.first() {
            return Err(MirrorError::NotAMirror { location, what: place.to_string() });
        }
    }
    match store.strays()?.into_iter().next() {
        Some(what) => Err(MirrorError::NotAMirror { location, what }),
        None if matches!(found, Identity::Unreadable(_)) => {
            Err(MirrorError::NotAMirror { location, what: "config".to_owned() })
        }
        None => match store.recovery_note()? {
            // Written by a first run that was killed early; that of another repository names another id.
            Some(note) if !String::from_utf8_lossy(&note).contains(&source.id.to_string()) => {
                Err(MirrorError::NotAMirror { location, what: RECOVERY_NOTE.to_owned() })
            }
            _ => Ok(Standing::Blank),
        },
    }
}

/// Has the folder a key slot of this repository, byte for byte?
fn shares_a_slot(source: &Source<'_>, store: &LocalStore) -> Result<bool, MirrorError> {
    let shared = store.list(Folder::Keys)?.into_iter().any(|(place, _)| {
        let held = store.read(&place, SMALL_OBJECT_BYTES_MAX);
        held.is_ok_and(|held| {
            source.store.read(&place, SMALL_OBJECT_BYTES_MAX).is_ok_and(|slot| slot == held)
        })
    });
    Ok(shared)
}
