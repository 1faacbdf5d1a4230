//! Mount: the repository as a read-only file system, by time, by host and by user.
//!
//! Nothing below a snapshot ever changes, so the kernel may keep all that it was told of it. Folders are read page by
//! page, files segment by segment; of both a bounded number stays in memory, and every question is answered by one of
//! several threads.

mod ahead;
mod attributes;
mod bridge;
mod control;
mod folder;
mod inode;
mod mounted;
mod roll;
mod run;
mod users;
mod vault;
mod views;
mod witness;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

pub use mounted::Tell;
pub use run::run;
pub use vault::Vault;
pub use witness::Note;

use crate::mail::templates::Users;
use crate::repo::RepoError;
use crate::repo::snapshots::{Filter, SnapshotInfo};

/// What to mount, where, and for whom.
pub struct Options {
    /// The empty folder to mount on.
    pub place: PathBuf,
    /// Which snapshots are shown.
    pub filter: Filter,
    /// One snapshot and a logical path in it, instead of the lists.
    pub only: Option<(SnapshotInfo, Vec<u8>)>,
    /// Other users may look, as far as modes let them.
    pub allow_other: bool,
    /// Owners by number, not by name.
    pub numeric_ids: bool,
    /// Control folders for a mail server are made here.
    pub control: Option<PathBuf>,
    /// The zone of the names of snapshots.
    pub zone: TimeZone,
    /// Whose mail lies where.
    pub users: Users,
    /// Threads that answer.
    pub threads: usize,
    /// Takes lines for people.
    pub tell: Tell,
    /// Learns who looks at whose mail.
    pub note: Note,
}

/// A repository could not be mounted, or a mount could not go on.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The place is no folder.
    #[error("{place} is no folder")]
    NotAFolder {
        /// The place.
        place: String,
    },
    /// The place holds something, which a mount would hide.
    #[error("{place} is not empty")]
    NotEmpty {
        /// The place.
        place: String,
    },
    /// A mount whose program has ended hangs there.
    #[error("{place} is a mount whose program has ended")]
    DeadMount {
        /// The place.
        place: String,
    },
    /// The snapshot holds no folder at that path.
    #[error("the snapshot holds no folder at {path}")]
    NoSuchFolder {
        /// The path.
        path: String,
    },
    /// The control folders cannot be made.
    #[error(transparent)]
    Control(#[from] mounted::PrepareError),
    /// The system does not mount.
    #[error("mount {place}: {source}")]
    Mount {
        /// The place.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// The system failed while it was mounted.
    #[error("serve {place}: {source}")]
    Serve {
        /// The place.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// Who ended a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A signal.
    Signal,
    /// Somebody who unmounted it.
    Outside,
}

/// What a mount did.
#[derive(Debug)]
pub struct Report {
    /// Who ended it.
    pub ended: Ended,
    /// It was still in use: what is open fails from now on.
    pub in_use: bool,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Files and folders that could not be read.
    pub problem_count: u64,
    /// How long it stood.
    pub duration: Duration,
}
