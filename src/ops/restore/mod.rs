//! Restore: plan, read in the order in which the packs lie, write many files at once.

mod apply;
mod marker;
mod run;
mod window;

pub mod letters;
pub mod target;

use std::path::PathBuf;
use std::time::Duration;

pub use run::run;

use crate::repo::RepoError;
use crate::repo::snapshots::SnapshotInfo;
use crate::source::exclude::Excludes;
use target::{Overwrite, Summary, TargetError};

/// What to restore, and how.
pub struct Options {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// The logical path to restore, with everything below it.
    pub path: Vec<u8>,
    /// The logical path under which it is made again, with as many names; `None` for its own.
    pub place: Option<Vec<u8>>,
    /// Only what these match, when there are any.
    pub includes: Option<Excludes>,
    /// Not what these match.
    pub excludes: Excludes,
    /// The folder below which the logical paths are made again.
    pub target: PathBuf,
    /// What happens to files that are there; `None` when the target must be empty.
    pub overwrite: Option<Overwrite>,
    /// Remove what the snapshot does not hold from restored folders.
    pub delete: bool,
    /// Tell what would be done.
    pub dry_run: bool,
    /// Also into a live Maildir.
    pub force: bool,
    /// Bring back what only the system may have: setuid, devices, system attributes.
    pub system: bool,
    /// Owners by number, not by name.
    pub numeric_ids: bool,
    /// Threads that write.
    pub workers: usize,
}

/// A restore could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The target failed as a whole.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target cannot be looked at.
    #[error("look at {path}: {error}")]
    Inspect {
        /// The target.
        path: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The target holds something, and no rule says what to do with it.
    #[error("{path} is not empty")]
    NotEmpty {
        /// The target.
        path: String,
    },
    /// The target holds mail that a server is using.
    #[error("{path} is a live Maildir")]
    LiveMaildir {
        /// The Maildir.
        path: String,
    },
    /// Files that the snapshot lacks may only have been unreadable when it was made.
    #[error("snapshot {snapshot} is incomplete or suspect, so --delete could remove what it failed to save")]
    NotWhole {
        /// The snapshot.
        snapshot: String,
    },
    /// The snapshot holds nothing at that path.
    #[error("the snapshot holds nothing at {path}")]
    NoSuchPath {
        /// The path.
        path: String,
    },
}

/// A file that was not restored, or not as it was.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Its logical path.
    pub path: Vec<u8>,
    /// What happened.
    pub text: String,
}

/// What a restore did, or would do.
#[derive(Debug, Default)]
pub struct Report {
    /// Files, links and special files restored (or planned).
    pub files: u64,
    /// Folders likewise.
    pub folders: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Messages among them.
    pub messages: u64,
    /// Lists of UIDs among them, where the target is not new: see [`run`].
    pub uid_lists: u64,
    /// Bytes that the target's file system has left, before.
    pub available_bytes: Option<u64>,
    /// Names removed because the snapshot does not hold them.
    pub removed: u64,
    /// What was left out or let stand.
    pub summary: Summary,
    /// An earlier restore was taken up again.
    pub resumed: bool,
    /// The first failures.
    pub findings: Vec<Finding>,
    /// All failures.
    pub problem_count: u64,
    /// How long it took.
    pub duration: Duration,
}
