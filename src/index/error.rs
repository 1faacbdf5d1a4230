//! What can go wrong with a cache: it is damaged, somebody else writes it, or the disk under it fails.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;

use super::PackNumber;

/// The index could not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The index does not hold together; [`super::Index::start_over`] gives an empty one to sync again.
    #[error("damaged index: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// Another process kept the index locked for longer than writers wait.
    #[error("index is busy")]
    Busy,
    /// No delta of the index names this pack (any more).
    #[error("no pack number {0} in the index")]
    UnknownPack(PackNumber),
    /// A file of the index cannot be read or written.
    #[error("index file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The database cannot be read or written, for a reason outside it.
    #[error("index database")]
    Database(#[source] rusqlite::Error),
}

impl IndexError {
    pub(super) fn damaged(what: impl Into<String>) -> IndexError {
        IndexError::Damaged { what: what.into() }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> IndexError {
        let path = path.to_owned();
        move |source| IndexError::Io { path, source }
    }

    /// True when only a new, empty index helps.
    pub fn is_damage(&self) -> bool {
        matches!(self, IndexError::Damaged { .. })
    }

    /// True for a file that is not there: damage, unless another process has just merged it away.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, IndexError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<rusqlite::Error> for IndexError {
    /// Sorts errors into busy, the world's fault, and (all the rest) damage: this module's own statements and
    /// types are right, so a statement that fails has met a database that is not ours.
    fn from(error: rusqlite::Error) -> IndexError {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            return IndexError::damaged(error.to_string());
        };
        match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => IndexError::Busy,
            ErrorCode::SystemIoFailure
                if [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ]
                    .contains(&failure.extended_code) =>
            {
                IndexError::damaged(error.to_string())
            }
            ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted => IndexError::Database(error),
            _ => IndexError::damaged(error.to_string()),
        }
    }
}
