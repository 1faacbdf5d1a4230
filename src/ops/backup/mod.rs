//! Backup: a walk through the source becomes a snapshot.
//!
//! One thread walks and compares with the parent snapshot; workers read, split, name and store; the worker that
//! completes a folder writes its pages ([`folder`]). Sources fail file by file and are reported, the repository
//! fails as a whole: the two kinds of error never meet.

mod counted_on;
pub mod explain;
mod folder;
mod live;
mod parent;
mod pass;
mod pipeline;
pub mod reason;
mod recorder;
mod report;
mod run;
mod scan;
mod shared;
mod stream;
mod suspect;
mod unchanged;
mod walker;
mod whole_page;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use report::{Finding, Report};
pub use run::run;
pub use scan::Care;

use crate::base::id::ObjectHash;
use crate::repo::RepoError;
use crate::repo::reader::ReadCache;
use crate::source::SourceError;
use crate::source::exclude::Excludes;
use crate::source::start::Start;

/// What to back up, and under which name.
pub struct Options {
    /// Name of this host.
    pub host_name: String,
    /// The job; runs of one job follow each other.
    pub job: String,
    /// Where to start, each a part of the snapshot.
    pub starts: Vec<Start>,
    /// A stream to store besides.
    pub stream: Option<Stream>,
    /// What to leave out.
    pub excludes: Excludes,
    /// Everything, also what a mail server makes again by itself, and as it is now.
    pub all_files: bool,
    /// How long the lock of a mailbox is waited for.
    pub lock_wait: Duration,
    /// Folders of the backup itself.
    pub own: Vec<PathBuf>,
    /// Do not cross into other file systems.
    pub one_file_system: bool,
    /// The user's tags, or the mark of a follower.
    pub tags: Vec<String>,
    /// What is gone is meant to be gone: the snapshot is not held against earlier ones.
    pub accept_loss: bool,
    /// Make no snapshot where nothing changed since the last one.
    pub skip_unchanged: bool,
    /// Look, but store nothing.
    pub dry_run: bool,
    /// How thoroughly to look.
    pub care: Care,
    /// Where caches lie; without, every file is looked at.
    pub cache_dir: Option<PathBuf>,
    /// Where plaintext of the parent's pages is kept, for this run and for who reads them next.
    pub read_cache: Arc<ReadCache>,
    /// Threads that read.
    pub workers: usize,
}

/// A part that comes out of a pipe.
pub struct Stream {
    /// The logical path to store it under.
    pub path: Vec<u8>,
    /// The command whose output it is; standard input when empty.
    pub command: Vec<OsString>,
}

/// A backup did not come to a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// A prune deleted blobs that the snapshot refers to.
    #[error("snapshot {} counted on blobs that a prune deleted meanwhile", snapshot.short())]
    Overtaken {
        /// The snapshot, which is not whole.
        snapshot: ObjectHash,
    },
    /// Nothing at all could be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}
