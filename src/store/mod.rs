//! Layer 2: where a repository's objects lie. Objects are created if absent and never changed.

mod beside;
pub mod disk;
mod error;
pub mod fault;
mod local;
mod place;
mod spare;

pub use beside::RECOVERY_NOTE;
pub use error::{StoreError, StoreErrorKind};
pub use local::{LocalStore, PackFile};
pub use place::{Folder, Place};

use std::time::Duration;

use crate::base::clock::UnixNanos;
use crate::base::id::{HostId, ObjectHash};

/// A file that was begun and is no object yet, or never becomes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    /// Its name; begins with the host that writes it, with `object`, or with `mirror`.
    pub name: String,
    /// Its bytes so far.
    pub bytes: u64,
    /// Time since it was last written, by the store's own clock.
    pub idle: Duration,
}

/// A place that holds the objects of one repository.
///
/// The one joint behind which other kinds of places (SFTP, S3) will stand.
pub trait Storage: Send + Sync {
    /// Where this is, for messages.
    fn location(&self) -> String;
    /// Reads an object whole; one larger than `bytes_max` is refused.
    fn read(&self, place: &Place, bytes_max: u64) -> Result<Vec<u8>, StoreError>;
    /// Reads `length` bytes from `offset`; fewer is an error.
    fn read_range(&self, place: &Place, offset: u64, length: usize) -> Result<Vec<u8>, StoreError>;
    /// Lists a folder: every object that has a lawful name, with its size; other files are passed over.
    fn list(&self, folder: Folder) -> Result<Vec<(Place, u64)>, StoreError>;
    /// Creates an object; durable on return. An object that is there already is left as it is.
    fn create(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError>;
    /// Starts an object that is too large for memory, on behalf of `host`.
    fn create_pack(&self, host: &HostId) -> Result<PackFile, StoreError>;
    /// Names a finished pack by its hash; durable after the next [`Storage::barrier`]. Gives hash and size.
    fn finish_pack(&self, pack: PackFile) -> Result<(ObjectHash, u64), StoreError>;
    /// Starts a copy of an object that another store holds, `bytes` long.
    fn begin_copy(&self, bytes: u64) -> Result<PackFile, StoreError>;
    /// Names a verified copy, in place of what may stand there, with the time at which the other store received it.
    /// Durable after the next [`Storage::barrier`].
    fn finish_copy(&self, copy: PackFile, place: &Place, received: UnixNanos) -> Result<(), StoreError>;
    /// Makes everything durable that was created before. Once it has failed it fails for ever.
    fn barrier(&self) -> Result<(), StoreError>;
    /// Removes an object (a key slot; packs belong to prune).
    fn remove(&self, place: &Place) -> Result<(), StoreError>;
    /// Puts an object in the place of a damaged one of the same name, or where it is missing; durable on return.
    ///
    /// At every moment the name shows the old bytes or the new ones.
    fn replace(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError>;
    /// Takes a damaged object out of its folder and keeps it where no reader looks; gives its name there.
    fn set_aside(&self, place: &Place) -> Result<String, StoreError>;
    /// Bytes that can still be stored, where that is known.
    fn available_bytes(&self) -> Option<u64>;
    /// When the store received an object, by its own clock, which no client sets.
    fn received(&self, place: &Place) -> Result<UnixNanos, StoreError>;
    /// What the store's own clock says now.
    fn time(&self) -> UnixNanos;
    /// The longest time after which a list surely shows what was created, and a removal is seen everywhere.
    fn staleness(&self) -> Duration;
    /// Files that were begun and never became objects.
    fn temporary(&self) -> Result<Vec<Temporary>, StoreError>;
    /// Removes one of them.
    fn remove_temporary(&self, name: &str) -> Result<(), StoreError>;
}
