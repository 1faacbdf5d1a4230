//! `catalogue`: brings the searchable list of messages into step with the snapshots.
//!
//! Snapshot by snapshot, only what differs from the one before is walked: the pages that both share are passed over.
//! The head of a message is read once in its life, from its `head` blob; a writer key, which opens none, reads the file
//! that still lies on its own host. Everything is a stream; what is held in memory does not grow with the mailboxes.

mod apply;
mod heads;
mod position;
mod sync;
mod walk;

use crate::base::id::HostId;
use crate::format::page::File;
use crate::index::IndexError;
use crate::index::catalogue::{ContentId, Facts, Kind};
use crate::mail::templates::Users;
use crate::repo::RepoError;

pub use position::{Mark, Marks, mark_of};
pub use sync::{OpenReader, sync};

/// The catalogue could not be brought into step.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The catalogue's own file failed.
    #[error(transparent)]
    Catalogue(#[from] IndexError),
}

/// How it is done.
pub struct Options<'a> {
    /// Whose mail lies where.
    pub users: &'a Users,
    /// The host whose files may be read where they lie, because no key opens their heads.
    pub local: Option<HostId>,
    /// The one series that is brought into step; `None` for all.
    pub only: Option<(HostId, &'a str)>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Snapshots that are listed now and were not before.
    pub snapshots: u64,
    /// Snapshots that were listed before and are no more.
    pub gone: u64,
    /// Messages that were not known before.
    pub messages: u64,
    /// Of those, heads that could not be read.
    pub unread: u64,
    /// Listings that could not be read: what they hold is not known.
    pub broken: u64,
}

/// Where messages lie: a mail folder or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: Vec<u8>,
    top: Vec<u8>,
    kind: Kind,
}

/// A message whose head was read, if it was not known.
#[derive(Debug)]
enum Message {
    Known(ContentId),
    New(Box<Facts>),
}

/// One difference between a snapshot and the one before it.
#[derive(Debug)]
enum Change {
    /// A message stands there no more.
    Left { folder: Vec<u8>, name: Vec<u8> },
    /// A message stands there now.
    Arrived { folder: Place, name: Vec<u8>, message: Message, arrived: i64 },
    /// What a file of several messages holds now follows.
    Opened { file: Place },
    /// A message of that file; the line before it may say when it arrived, else that is reckoned.
    Inside { content: ContentId, message: Message, line: Option<i64>, arrived: i64 },
    /// That was all; what the file held before and holds no more has left it.
    Closed,
    /// The bytes of a folder's `dovecot-uidlist`.
    Uids { folder: Place, bytes: Vec<u8> },
    /// The bytes of a folder's `dovecot-keywords`.
    Keywords { folder: Place, bytes: Vec<u8> },
}

/// A file of a mail server that says something about a folder's messages.
#[derive(Debug, Clone)]
struct StateFile {
    /// The folder it lies in.
    folder: Place,
    path: Vec<u8>,
    file: File,
    is_uidlist: bool,
}
