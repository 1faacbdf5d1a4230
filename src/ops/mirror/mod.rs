//! Mirror: a second place that holds the same objects, copied one by one and verified, in an order in which it is
//! a whole repository at each moment.
//!
//! [`target`] decides whether a folder may be written to, [`run`] copies and says what is gone, [`verify`] reads a
//! mirror without any key.

mod copy;
mod gone;
mod inventory;
mod listing;
mod run;
mod target;
mod verify;

use std::sync::Arc;
use std::time::Duration;

pub use run::run;
pub use target::{open, prepare};
pub use verify::{Verification, verify};

use crate::base::id::RepositoryId;
use crate::format::keyset::Role;
use crate::repo::{RepoError, Repository};
use crate::store::{Place, Storage, StoreError};

/// How to mirror.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seconds for which an object stays in the mirror after the repository removed it.
    pub delete_after_s: i64,
    /// Read the mirror's objects too, and replace those that are damaged.
    pub reread: bool,
    /// Look, but write nothing.
    pub dry_run: bool,
    /// Threads that copy.
    pub workers: usize,
}

/// The repository that is mirrored.
pub struct Source<'a> {
    store: Arc<dyn Storage>,
    repository: Option<&'a Repository>,
    id: RepositoryId,
}

impl<'a> Source<'a> {
    /// With a key, which tells why objects are gone.
    pub fn with_key(repository: &'a Repository) -> Source<'a> {
        Source { store: Arc::clone(&repository.store), repository: Some(repository), id: repository.id() }
    }

    /// Without any key: objects are known by their names alone.
    pub fn without_key(store: Arc<dyn Storage>) -> Result<Source<'static>, MirrorError> {
        let location = store.location();
        match target::identity(store.as_ref())? {
            target::Identity::Repository(id) => Ok(Source { store, repository: None, id }),
            target::Identity::Unreadable(detail) => {
                Err(RepoError::Damaged { object: "config".to_owned(), detail }.into())
            }
            target::Identity::Absent => Err(RepoError::NoRepository { location }.into()),
        }
    }

    /// The repository's name.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    fn has_full_key(&self) -> bool {
        self.repository.is_some_and(|repository| repository.role() == Role::Full)
    }
}

/// An object and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object.
    pub object: String,
    /// What is wrong.
    pub text: String,
}

/// What a run did, or would do.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects in the mirror at the end, but inventories.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects that were copied.
    pub copied: u64,
    /// Bytes of them.
    pub copied_bytes: u64,
    /// Objects among them that took the place of damaged ones.
    pub replaced: u64,
    /// Objects that were removed, because the repository removed them long enough ago.
    pub removed: u64,
    /// Bytes of them.
    pub removed_bytes: u64,
    /// Objects that the repository removed, still kept.
    pub waiting: u64,
    /// Objects that are gone from the repository; this key cannot tell why.
    pub unexplained: u64,
    /// Objects that no run ever saw in the repository.
    pub only_here: Vec<Place>,
    /// Objects of the repository that are damaged; they were not copied.
    pub damaged: Vec<Finding>,
    /// Objects that the repository lost; the mirror keeps them.
    pub lost: Vec<Place>,
    /// Rounds until nothing moved any more.
    pub rounds: u64,
    /// The repository never held still, so new snapshots were not copied.
    pub restless: bool,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// Is the mirror as good as the repository, and the repository whole as far as was seen?
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_empty() && !self.restless
    }
}

/// A mirror cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// One of the two places failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// Nothing is there.
    #[error("no mirror at {location}")]
    NoMirror {
        /// The place.
        location: String,
    },
    /// It was to be made, and is there.
    #[error("{location} is a mirror of this repository already")]
    Already {
        /// The place.
        location: String,
    },
    /// It mirrors, or is, another repository.
    #[error("{location} holds another repository, {found} instead of {expected}")]
    OtherRepository {
        /// The place.
        location: String,
        /// What is there.
        found: RepositoryId,
        /// What should be.
        expected: RepositoryId,
    },
    /// It holds something else.
    #[error("{location} is no mirror of this repository and not empty: it holds {what}")]
    NotAMirror {
        /// The place.
        location: String,
        /// The first thing that was found there.
        what: String,
    },
    /// It lies inside a repository, or a mirror of one.
    #[error("{location} lies inside the repository at {around}")]
    Inside {
        /// The place.
        location: String,
        /// The repository around it.
        around: String,
    },
    /// One of the two lies inside the other.
    #[error("{location} and the repository lie within each other")]
    Nested {
        /// The place.
        location: String,
    },
}

impl From<StoreError> for MirrorError {
    fn from(error: StoreError) -> MirrorError {
        MirrorError::Repository(error.into())
    }
}
