//! What can go wrong with a repository. None of it is ever a problem of the source.

use super::tree::TreeError;
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupted;
use crate::compress::CompressError;
use crate::crypto::CryptoError;
use crate::crypto::slot::SlotError;
use crate::index::IndexError;
use crate::store::StoreError;

/// An operation on a repository failed.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is no repository at this place.
    #[error("no repository at {location}")]
    NoRepository {
        /// The place.
        location: String,
    },
    /// There is one already.
    #[error("{location} holds a repository already")]
    Exists {
        /// The place.
        location: String,
    },
    /// No key slot opens with what was given.
    #[error("no key slot of {location} opens with this {secret}")]
    WrongKey {
        /// The place.
        location: String,
        /// What was given.
        secret: &'static str,
    },
    /// An object is not what it was when it was written.
    #[error("{object} is damaged: {detail}")]
    Damaged {
        /// The object's name.
        object: String,
        /// What shows it.
        detail: String,
    },
    /// An object proves to be forged, replayed or moved.
    #[error("{object} is refused: {why}")]
    Refused {
        /// The object's name.
        object: String,
        /// Why.
        why: &'static str,
    },
    /// A newer version wrote it.
    #[error("{object}: {detail}")]
    Unsupported {
        /// The object's name.
        object: String,
        /// What is not known.
        detail: String,
    },
    /// The key in use is not meant to open this.
    #[error("{object} is not for this key: it needs a full key or that of the host that wrote it")]
    NotForThisKey {
        /// The object's name.
        object: String,
    },
    /// Only a full key may do this.
    #[error("{what} needs a full key, and this is a writer key")]
    NeedsFullKey {
        /// The operation.
        what: &'static str,
    },
    /// The host whose key this is may write no longer.
    #[error("host {host} was revoked: nothing that it writes counts any more")]
    Revoked {
        /// Its name.
        host: String,
    },
    /// No pack is known to hold the blob.
    #[error("blob {id} is in no pack")]
    MissingBlob {
        /// The blob.
        id: BlobId,
    },
    /// A page is not what its place demands.
    #[error("page {page}: {detail}")]
    Page {
        /// The page.
        page: BlobId,
        /// What is wrong.
        detail: String,
    },
    /// A segment did not come back as it was compressed: memory or processor fail.
    #[error("a compressed segment does not decompress to what it was made of: test this machine's memory")]
    Unfaithful,
    /// No snapshot fits.
    #[error("{0}")]
    NoSnapshot(String),
    /// No snapshot has an id that begins so.
    #[error("no snapshot '{0}'")]
    UnknownSnapshot(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A key or a seal failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A key slot cannot be used.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Compression failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// The user asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl RepoError {
    /// Does it concern the run as a whole, rather than the object at hand?
    ///
    /// A damaged local index says nothing about the repository: the run ends, and goes again with a new index.
    pub fn ends_the_run(&self) -> bool {
        matches!(self, RepoError::Interrupted(_) | RepoError::Index(_))
    }
}

impl From<TreeError<RepoError>> for RepoError {
    fn from(error: TreeError<RepoError>) -> RepoError {
        match error {
            TreeError::Fetch(error) => error,
            TreeError::Page { page, detail } => RepoError::Page { page, detail },
        }
    }
}
