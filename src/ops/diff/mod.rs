//! Diff: both trees are walked in step, and what they share is passed over unread.

mod moves;
mod run;

#[cfg(test)]
mod tests;

pub use run::run;

use crate::base::id::BlobId;
use crate::format::page::Entry;
use crate::format::snapshot::Totals;
use crate::repo::RepoError;

/// One of the things that are compared.
pub struct Side<'a, B> {
    /// The logical path that was asked for.
    pub base: Vec<u8>,
    /// What stands there: full logical path and entry.
    pub tops: Vec<(Vec<u8>, Entry)>,
    /// Reads its pages.
    pub fetch: &'a dyn Fn(&BlobId) -> Result<B, RepoError>,
}

/// How to compare.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Tell changed modes, owners, times and attributes too.
    pub metadata: bool,
    /// Both sides lie in one domain, so that equal ids mean equal contents. Else size and time must do.
    pub comparable: bool,
}

/// What sort of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the right side has it.
    Added,
    /// Only the left side has it.
    Removed,
    /// Its content is another.
    Content,
    /// Only mode, owner, time or attributes are others.
    Metadata,
    /// A message got other flags, or moved from `new` to `cur`: it has this logical path now.
    Flags(Vec<u8>),
    /// A listing cannot be read; what it holds was not compared.
    Unreadable(String),
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The logical path: on the left side for what was removed or has other flags, else on the right.
    pub path: Vec<u8>,
    /// It is a folder.
    pub folder: bool,
    /// Bytes of a file on the left side.
    pub size_before: Option<u64>,
    /// Bytes of a file on the right side.
    pub size: Option<u64>,
}

/// All differences added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files (and links and the like), folders, bytes and messages that only the right side has.
    pub added: Totals,
    /// The same for the left side.
    pub removed: Totals,
    /// Files with another content.
    pub content: u64,
    /// Entries that differ in mode, owner, time or attributes alone.
    pub metadata: u64,
    /// Messages whose flags changed.
    pub flags: u64,
    /// Listings that could not be read.
    pub unreadable: u64,
}

impl Summary {
    /// Nothing differs but metadata, and everything could be compared.
    pub fn is_empty(&self) -> bool {
        Summary { metadata: 0, ..*self } == Summary::default()
    }
}
