//! Purge: content is taken out of all snapshots, and tombstones keep sources that still have it from bringing it
//! back. The next prune deletes what nothing refers to any more.

mod messages;
mod run;
mod sieve;
mod stones;

use std::collections::BTreeMap;

pub use run::run;

use crate::base::id::ObjectHash;
use crate::repo::RepoError;
use crate::repo::rewrite::Rewritten;
use crate::repo::snapshots::Filter;

/// What is to be taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Everything in this user's folder, or the user's mbox.
    User(String),
    /// Every copy of the message with this id, without angle brackets.
    MessageId(Vec<u8>),
    /// Everything at and below this logical path.
    Path(Vec<u8>),
}

impl Target {
    /// As it is told to people, and kept in the record.
    pub fn text(&self) -> String {
        match self {
            Target::User(user) => format!("user {user}"),
            Target::MessageId(id) => format!("message-id <{}>", String::from_utf8_lossy(id)),
            Target::Path(path) => format!("path {}", String::from_utf8_lossy(path)),
        }
    }
}

/// What to purge, and from where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Any of these.
    pub targets: Vec<Target>,
    /// Which snapshots.
    pub filter: Filter,
    /// Only these of them; all when there is none.
    pub snapshots: Vec<ObjectHash>,
    /// Look, but change nothing.
    pub dry_run: bool,
}

/// What was taken out of one folder; the same file in many snapshots counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files.
    pub files: u64,
    /// Messages, those in files and those that were cut out of files.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What a purge did, or would do.
#[derive(Debug, Default)]
pub struct Report {
    /// Snapshots that were looked through.
    pub looked_at: u64,
    /// Snapshots of which something was taken out, as they were and as they are.
    pub rewritten: Vec<Rewritten>,
    /// Their new hashes, by the old ones; empty after a dry run.
    pub made: Vec<(ObjectHash, ObjectHash)>,
    /// By number of the target and by folder.
    pub folders: BTreeMap<(usize, Vec<u8>), Taken>,
    /// Marks in the tombstones that were written.
    pub marks: u64,
    /// Messages that cannot be looked into, because the mail server compressed or encrypted them.
    pub opaque: u64,
    /// What could not be done: where, and why.
    pub problems: Vec<(Vec<u8>, String)>,
}

/// A purge did not take place, or stopped on its way.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// A hold forbids it.
    #[error("hold {hold} ({reason}) protects {what}: nothing was purged")]
    Held {
        /// Number of the hold.
        hold: u64,
        /// Why it was made.
        reason: String,
        /// What it protects.
        what: String,
    },
    /// A prune went on at the same time.
    #[error("a prune went on meanwhile: nothing was purged")]
    Overtaken,
}
