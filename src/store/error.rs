//! What can go wrong with a store; never mixed up with what can go wrong with a source.

use std::io;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The object is not there.
    Missing,
    /// The object is larger than any lawful one of its kind, or shorter than asked for.
    Size,
    /// No space is left, or the reserve was reached.
    Full,
    /// The store may not be read or written.
    Denied,
    /// Anything else.
    Io,
}

/// An operation on one object of a store failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {object}: {source}")]
pub struct StoreError {
    /// What was tried.
    pub verb: &'static str,
    /// The object's name in the repository.
    pub object: String,
    /// What happened, for programs.
    pub kind: StoreErrorKind,
    /// What happened, for people.
    pub source: io::Error,
}

impl StoreError {
    pub(super) fn new(verb: &'static str, object: impl Into<String>, source: io::Error) -> StoreError {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => StoreErrorKind::Missing,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
            io::ErrorKind::UnexpectedEof => StoreErrorKind::Size,
            _ => StoreErrorKind::Io,
        };
        StoreError { verb, object: object.into(), kind, source }
    }

    pub(super) fn sized(verb: &'static str, object: impl Into<String>, detail: String) -> StoreError {
        let source = io::Error::new(io::ErrorKind::InvalidData, detail);
        StoreError { verb, object: object.into(), kind: StoreErrorKind::Size, source }
    }

    /// The object is simply not there.
    pub fn is_missing(&self) -> bool {
        self.kind == StoreErrorKind::Missing
    }
}
