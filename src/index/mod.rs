//! Layer 2: the local, rebuildable lookup of one repository: which packs there are, and where each blob lies.
//!
//! Everything here is a cache of the deltas that stand in the store. Damage, truncation, foreign content, a
//! rollback or a deletion of any file ends in an empty index that the caller syncs again, never in a wrong
//! answer:
//!
//! - SQLite holds small facts (deltas, packs, the list of runs, key/value rows). Each row carries a checksum,
//!   and the one `state` row the count and the sum of all checksums, so that a row that vanished, came back or
//!   was exchanged is noticed when the index is opened.
//! - Blob locations lie beside it in immutable sorted runs ([`run`]) of checksummed pages, because a B-tree row
//!   for each blob is ten times slower at millions of blobs. Runs of about one size are merged eight to one
//!   ([`merge`]). A filter for each run is held in memory ([`filter`]), so that a new id costs no read.
//!
//! Nothing is synced to disk: after a power cut the index is an older state of itself or noticed as damaged.
//! Several processes may hold the same index: readers never wait, writers take turns.

pub mod catalogue;
mod change;
mod database;
mod error;
mod filter;
mod folder;
mod id_sorter;
mod lookup;
mod merge;
mod pack_cache;
mod page;
mod record;
mod run;
mod run_writer;
pub mod scan;
mod sweep;
mod tables;
mod update;
mod view;

#[cfg(test)]
mod tests;

pub use error::IndexError;
pub use id_sorter::{IdSorter, Pass, SortedIds};
pub use lookup::{Index, Stats};
pub use sweep::Sweep;

use crate::base::id::{BlobId, ObjectHash};

/// Shorthand for results of this module.
pub type Result<T> = std::result::Result<T, IndexError>;

/// Names a pack in this index only: never stored in the repository, never used twice by one index.
pub type PackNumber = u32;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The pack.
    pub pack: PackNumber,
    /// Which segment of the pack.
    pub segment: u16,
    /// Which blob of the segment.
    pub position: u16,
}

/// A pack as its delta describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The name of the pack object.
    pub hash: ObjectHash,
    /// Bytes of the pack object.
    pub size: u64,
    /// Key envelope and segment table, given back as they came.
    pub table: Vec<u8>,
}

/// A pack with the blobs that a delta says it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaPack {
    /// The pack.
    pub info: PackInfo,
    /// Each blob with its segment and its position there.
    pub blobs: Vec<(BlobId, u16, u16)>,
}
