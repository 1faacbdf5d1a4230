//! Layer 3: what is backed up. Walks file trees by descriptor, reads files, runs commands; knows no
//! repository.
//!
//! A [`walk::Walk`] yields one folder at a time; the consumer opens the files it wants through the folder's
//! [`dir::OpenDir`]. Trouble with one entry is a [`problem::Problem`] and never ends a walk; [`SourceError`]
//! is for a source that cannot be used at all. Neither can be made from a repository's error, so that a
//! failed write is never taken for a source problem.

pub mod calls;
pub mod command;
pub mod dir;
pub mod exclude;
pub mod extents;
pub mod fanotify;
pub mod file_system;
pub mod ladder;
pub mod links;
pub mod live;
pub mod mailbox_lock;
pub mod meta;
pub mod moves;
pub mod names;
pub mod needless;
pub mod problem;
pub mod read;
pub mod shape;
pub mod start;
pub mod walk;
pub mod watch;
pub mod xattr;

#[cfg(test)]
mod tests;

use std::io;

/// A source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The start path, or a folder above it, cannot be opened.
    #[error("open {path}")]
    Start {
        /// The path as given.
        path: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// The start path is the repository, the cache or a key directory.
    #[error("{path} belongs to the backup itself")]
    Own {
        /// The path as given.
        path: String,
    },
    /// A logical path is not absolute or holds `.`, `..` or NUL.
    #[error("'{path}' is not a plain absolute path")]
    Logical {
        /// The path as given.
        path: String,
    },
    /// An exclude pattern cannot be understood.
    #[error("exclude pattern '{pattern}': {detail}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of exclude patterns cannot be read.
    #[error("read exclude file {path}")]
    ExcludeFile {
        /// The file.
        path: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// A command cannot be started or read.
    #[error("run {command}")]
    Command {
        /// The program.
        command: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// A command ended with failure, so that its output is not to be trusted.
    #[error("{command} {outcome}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    CommandFailed {
        /// The program.
        command: String,
        /// How it ended.
        outcome: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
}
