//! The mirror's own list of what it holds.

use std::collections::HashMap;

use crate::base::id::{ObjectHash, RepositoryId};
use crate::base::limits::{OBJECT_BYTES_MAX, SEQUENCE_MAX};
use crate::format::inventory::{Inventory, State};
use crate::repo::RepoError;
use crate::store::{Folder, Place, Storage, StoreError};

/// How many are kept.
const KEPT: usize = 2;

/// Reads one inventory, or says what is wrong with it.
pub(super) fn read(store: &dyn Storage, place: &Place) -> Result<Inventory, String> {
    let bytes = store.read(place, OBJECT_BYTES_MAX).map_err(|error| error.source.to_string())?;
    if place.hash() != Some(&ObjectHash(*blake3::hash(&bytes).as_bytes())) {
        return Err("its bytes are not those that its name promises".to_owned());
    }
    Inventory::decode(&bytes).map_err(|error| error.to_string())
}

/// What an inventory says.
pub(super) struct Known {
    /// When it was written, unix seconds.
    pub(super) at: i64,
    /// How each object stood.
    pub(super) states: HashMap<Place, State>,
}

/// Reads the newest inventory that can be used; `None` when there is none.
pub(super) fn newest(store: &dyn Storage, id: RepositoryId) -> Result<Option<Known>, StoreError> {
    for (place, _) in store.list(Folder::Inventory)?.into_iter().rev() {
        if let Ok(inventory) = read(store, &place)
            && inventory.repository == id
        {
            let states = inventory.objects.iter();
            let states = states.filter_map(|item| Some((Place::parse(&item.name)?, item.state))).collect();
            return Ok(Some(Known { at: inventory.at, states }));
        }
    }
    Ok(None)
}

/// Writes an inventory, and removes all but the newest.
pub(super) fn write(store: &dyn Storage, inventory: &Inventory) -> Result<(), RepoError> {
    let bytes = inventory.encode();
    let too_many = |detail: String| RepoError::Damaged { object: "inventory".to_owned(), detail };
    if bytes.len() as u64 > OBJECT_BYTES_MAX {
        return Err(too_many(format!("{} objects are too many for it", inventory.objects.len())));
    }
    let listed: Vec<Place> = store.list(Folder::Inventory)?.into_iter().map(|(place, _)| place).collect();
    let last = listed.last().map_or(0, |place| match place {
        Place::Inventory(number, _) => *number,
        _ => 0,
    });
    if last >= SEQUENCE_MAX {
        return Err(too_many(format!("number {last} leaves no number for a new one: move it away")));
    }
    store.create(&Place::Inventory(last + 1, ObjectHash(*blake3::hash(&bytes).as_bytes())), &bytes)?;
    for place in listed.iter().rev().skip(KEPT - 1) {
        store.remove(place)?;
    }
    Ok(())
}
