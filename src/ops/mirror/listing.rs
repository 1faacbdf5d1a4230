//! What the repository holds, listed against the order of writing: what a listed snapshot needs is listed after it.

use std::collections::HashSet;

use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::store::{Folder, Place, Storage, StoreError};

/// An object and its size, bytes.
pub(super) type Sized = (Place, u64);

/// The reverse of the order in which objects are written.
const ORDER: [Folder; 6] =
    [Folder::Snapshots, Folder::Records, Folder::Deltas, Folder::Packs, Folder::Parity, Folder::Keys];

/// All objects of a repository at about one time.
pub(super) struct Listing {
    folders: Vec<(Folder, Vec<Sized>)>,
    all: HashSet<Place>,
}

impl Listing {
    /// Lists all folders.
    pub(super) fn read(store: &dyn Storage) -> Result<Listing, StoreError> {
        let mut folders = Vec::with_capacity(ORDER.len());
        let mut all = HashSet::new();
        for folder in ORDER {
            let objects = store.list(folder)?;
            all.extend(objects.iter().map(|(place, _)| *place));
            folders.push((folder, objects));
        }
        match store.read(&Place::Config, SMALL_OBJECT_BYTES_MAX) {
            Err(error) if error.is_missing() => {}
            // One that cannot be read is there all the same.
            _ => drop(all.insert(Place::Config)),
        }
        Ok(Listing { folders, all })
    }

    /// The objects of a folder, sorted.
    pub(super) fn of(&self, folder: Folder) -> &[Sized] {
        let found = self.folders.iter().find(|(of, _)| *of == folder);
        found.map_or(&[], |(_, objects)| objects.as_slice())
    }

    /// Is the object there?
    pub(super) fn holds(&self, place: &Place) -> bool {
        self.all.contains(place)
    }

    /// Does this one hold deltas or packs that `other` does not?
    pub(super) fn exceeds(&self, other: &Listing) -> bool {
        let mut objects = self.of(Folder::Deltas).iter().chain(self.of(Folder::Packs));
        objects.any(|(place, _)| !other.holds(place))
    }
}
