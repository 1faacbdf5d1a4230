//! Pick: find messages in snapshots by user, folder, message and date, without any catalogue.
//!
//! [`survey`] finds the mail folders of a user, [`letters`] gives the messages of one of them, [`Picker`] the message
//! that stands at a path. A message is a [`Letter`] and its bytes; nobody reads the bytes before they are asked for.

mod body;
mod deleted;
mod folder;
mod mailfile;
mod query;
mod state;
mod survey;

pub use body::Body;
pub use deleted::{Deleted, Gone, Stand, deleted, stands_between, stood_at};
pub use folder::{Picker, Sieve, bases, letters};
pub use query::{Query, is_folder};
pub use state::{State, read_subscriptions};
pub use survey::{FolderKind, MailFolder, Survey, survey};

use std::sync::Arc;

use crate::format::page::Owner;
use crate::mail::letter::Letter;
use crate::repo::RepoError;

/// Messages could not be picked.
#[derive(Debug, thiserror::Error)]
pub enum PickError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// Nobody of that name has mail there.
    #[error("no mail of '{user}' in snapshot {snapshot}")]
    NoSuchUser {
        /// Who was asked for.
        user: String,
        /// Where.
        snapshot: String,
        /// Users that were seen there, some of them.
        seen: Vec<String>,
    },
    /// Several users fit.
    #[error("'{user}' can be {}", users.join(" or "))]
    Ambiguous {
        /// Who was asked for.
        user: String,
        /// Who fits.
        users: Vec<String>,
    },
    /// The user has no folder of that name.
    #[error("'{user}' has no folder '{folder}'")]
    NoSuchFolder {
        /// The user.
        user: String,
        /// The folder that was asked for.
        folder: String,
        /// The folders there are.
        seen: Vec<String>,
    },
    /// No snapshot is of that time.
    #[error("no snapshot stood at {at}")]
    NoSnapshotThen {
        /// The time, for people.
        at: String,
    },
}

/// A message that was found.
pub struct Picked<'a> {
    /// All that its mailbox knew of it.
    pub letter: Letter,
    /// Its bytes.
    pub body: Body<'a>,
    /// The logical path of the file it lies in.
    pub path: Vec<u8>,
    /// Permission bits of that file.
    pub mode: u16,
    /// Owner of that file.
    pub owner: Arc<Owner>,
}

/// What comes when messages are given.
pub enum Step<'a> {
    /// A message.
    Letter(Box<Picked<'a>>),
    /// A file or a stretch of a folder that cannot be read; its messages are passed over.
    Broken(Vec<u8>, RepoError),
}
