//! What goes wrong with one entry of a source; the walk goes on.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::base::bytes;

/// What went wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// It was listed and is gone: normal on a live system, counted and no error.
    Vanished,
    /// It, or a part of it, could not be read.
    Unreadable,
    /// It became another kind of thing, or another folder, while it was looked at.
    Changed,
    /// It is outside what a backup can hold: a name too long, a tree too deep, attributes too large.
    Unsupported,
}

/// A finding about one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The absolute path on this host.
    pub path: Vec<u8>,
    /// What went wrong.
    pub what: What,
    /// The system's reason, or ours.
    pub error: String,
}

impl Problem {
    /// Makes a finding with a reason of our own.
    pub fn new(path: Vec<u8>, what: What, error: impl Into<String>) -> Problem {
        Problem { path, what, error: error.into() }
    }

    /// Makes a finding from a system error: `ENOENT` is vanished, another kind of file is changed.
    pub fn from_errno(path: Vec<u8>, errno: Errno) -> Problem {
        let what = match errno {
            Errno::NOENT | Errno::STALE => What::Vanished,
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => What::Changed,
            _ => What::Unreadable,
        };
        Problem { path, what, error: io::Error::from(errno).to_string() }
    }

    /// True when the snapshot lacks something that exists: all but `Vanished`.
    pub fn is_loss(&self) -> bool {
        self.what != What::Vanished
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", bytes::display(&self.path), self.error)
    }
}

/// Joins a folder's path and a name.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() && !folder.ends_with(b"/") && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
