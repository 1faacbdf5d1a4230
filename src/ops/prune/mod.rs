//! Prune: deletes what no snapshot needs, beside running backups, and packs anew what is half empty.
//!
//! Condemn, grace, doom, look again, delete: section "Prune" of `repo-format.md` says why nothing that a snapshot
//! needs can be deleted. Needs are found by going through all trees once ([`crate::repo::reach`]) and then through
//! the index in the order of ids ([`survey`]): memory does not grow with the number of blobs.

mod housekeeping;
mod judge;
mod plan;
mod remove;
mod repack;
mod run;
mod survey;
mod verify;

use std::time::Duration;

pub use run::run;

use crate::base::id::ObjectHash;
use crate::repo::RepoError;
use crate::repo::reach::Unreadable;

/// How much unused space may stay in packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// Any: nothing is packed anew because of it.
    Unlimited,
    /// That share of what is in use, percent.
    Percent(f64),
    /// That many bytes.
    Bytes(u64),
}

/// How to prune.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Time between condemning and deleting; a store's own staleness comes on top.
    pub grace: Duration,
    /// Unused space that may stay in packs.
    pub max_unused: MaxUnused,
    /// Close checkpoints of interrupted runs: what they protect is rubbish, and they begin from nothing.
    pub drop_checkpoints: bool,
    /// Plan only.
    pub dry_run: bool,
    /// Threads.
    pub workers: usize,
}

impl Options {
    /// Is this `--now`?
    pub fn is_now(&self) -> bool {
        self.grace.is_zero()
    }
}

/// Packs and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub packs: u64,
    /// Their bytes in the store.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// What a prune found and did; in a dry run, what it would do.
#[derive(Debug, Default)]
pub struct Report {
    /// Snapshots and open checkpoints that were read.
    pub snapshots: u64,
    /// Pages that were read.
    pub pages: u64,
    /// Packs in the store.
    pub stored: Amount,
    /// Bytes in packs that stay and that nothing needs.
    pub unused_bytes: u64,
    /// Packs that nothing needs.
    pub unneeded: Amount,
    /// Packs that no delta names, old enough to be rubbish; they are among the unneeded ones.
    pub orphans: Amount,
    /// Packs whose content was packed anew, and the bytes written for it.
    pub repacked: Amount,
    /// Bytes of the new packs.
    pub repacked_into: u64,
    /// Packs that were to be packed anew, had there been room.
    pub no_room: Amount,
    /// Packs condemned and not yet deleted.
    pub condemned: Amount,
    /// Time until a prune may delete them.
    pub wait: Option<Duration>,
    /// Packs deleted.
    pub deleted: Amount,
    /// Packs spared because a snapshot needs them after all.
    pub spared: u64,
    /// Blobs that snapshots need and that are in no pack: packs that no delta names may hold them, and stay.
    pub missing_blobs: u64,
    /// Copies that were not what their ids promise; the others were kept.
    pub bad_copies: u64,
    /// Forgotten and rewritten snapshots, and closed checkpoints, that were removed.
    pub dropped_snapshots: u64,
    /// Deltas removed.
    pub deltas_removed: u64,
    /// Files of interrupted runs removed, and their bytes.
    pub temporary: (u64, u64),
    /// Checkpoints of running or interrupted backups that protect packs.
    pub open_checkpoints: u64,
    /// More is to be done than one prune does.
    pub more: bool,
    /// How long it took.
    pub duration: Duration,
}

/// A prune did not come to its end; what it deleted until then, nothing needs.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// Something below cannot be read, so what it refers to is unknown.
    #[error("{place} cannot be read: nothing is deleted")]
    Unreadable {
        /// The object, or the path in a snapshot.
        place: String,
        /// Why.
        source: RepoError,
    },
    /// An index delta cannot be used, so what its packs hold is unknown.
    #[error("{count} index deltas cannot be used: nothing is deleted")]
    UnusableDeltas {
        /// How many.
        count: usize,
    },
    /// A run is on, or was interrupted.
    #[error("{count} backups are running or were interrupted, and would lose what they stored")]
    OpenCheckpoints {
        /// How many.
        count: usize,
    },
    /// Another prune began at the same time.
    #[error("another prune began at the same moment")]
    AnotherPrune,
}

impl From<Unreadable> for PruneError {
    fn from(error: Unreadable) -> PruneError {
        match error.source {
            source if source.ends_the_run() => PruneError::Repository(source),
            source => PruneError::Unreadable { place: error.place, source },
        }
    }
}

impl From<crate::index::IndexError> for PruneError {
    fn from(error: crate::index::IndexError) -> PruneError {
        PruneError::Repository(error.into())
    }
}

impl From<crate::store::StoreError> for PruneError {
    fn from(error: crate::store::StoreError) -> PruneError {
        PruneError::Repository(error.into())
    }
}

/// A list of packs, as records hold it.
type Packs = Vec<ObjectHash>;
