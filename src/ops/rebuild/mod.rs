//! Rebuild: a lost or damaged Maildir comes back with its UIDs, and no UID ever names two messages.
//!
//! Mail clients remember messages by UIDVALIDITY and UID. What a snapshot does not know is which UIDs were given away
//! after it: the next UID is put so far up that none of them comes again ([`room`]). A live folder with the same
//! UIDVALIDITY keeps its own list and only gets back what it lacks; one with another UIDVALIDITY is moved aside as a
//! whole, and what only it holds comes back as new mail ([`place`]).

mod dirs;
pub mod live;
pub mod place;
pub mod room;

pub use live::{Live, LiveFolder};
pub use place::{Placed, Way};

use std::io;

use crate::repo::RepoError;

/// A Maildir could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The system refused.
    #[error("{action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// The system's reason.
        error: io::Error,
    },
    /// Something lies there that is no Maildir.
    #[error("{path} is neither empty nor a Maildir")]
    NotAMaildir {
        /// The place.
        path: String,
    },
    /// The folders there lie in another way than was said.
    #[error("the folders of {path} do not lie as --layout says")]
    Layout {
        /// The place.
        path: String,
    },
    /// A mail server gave a folder new numbers meanwhile.
    #[error("folder '{folder}' got another UIDVALIDITY meanwhile")]
    Changed {
        /// The folder.
        folder: String,
    },
    /// A mail program holds the lock of a folder.
    #[error("{path} is locked by a mail program")]
    Locked {
        /// The lock.
        path: String,
    },
}
