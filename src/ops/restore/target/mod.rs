//! Writes a tree below a folder, and never outside of it.
//!
//! Every name is a single checked file name, created or opened relative to a descriptor of its folder and
//! never through a symbolic link; folders are reached with `openat2` beneath the root. So nothing in a
//! snapshot, and nobody who plants links in the target meanwhile, can lead a write elsewhere. All of it works
//! through `&self` from many threads.
//!
//! Order of an entry's attributes: owner first (it clears setuid and file capabilities), then extended
//! attributes (while the mode still lets the owner write them), then the mode (which an ACL has moved), then
//! the time. Folders are `0700` until [`Target::finish`], which goes from the deepest up.

pub mod attributes;
mod beneath;
mod extras;
pub mod file;
pub mod folder;
pub mod inspect;
mod node;
pub mod summary;

#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, unlinkat};
use rustix::io::Errno;

pub use attributes::{Attributes, Owners};
pub use file::FileWriter;
pub use folder::Folder;
pub use inspect::{TargetState, inspect};
pub use node::{Linked, Made};
pub use summary::Summary;

use self::beneath::Beneath;
use self::folder::{Existing, OpenFolders};
use self::summary::Tally;
use crate::base::{bytes, entropy, limits};
use crate::source::meta::{FileKey, Kind};

/// An entry could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A name that no file can have, or that leads elsewhere.
    #[error("'{name}' is not a file name")]
    Name {
        /// The name.
        name: String,
    },
    /// Something stands there that the overwrite rule or its kind protects.
    #[error("{path}: {what} is in the way")]
    InTheWay {
        /// The path below the target.
        path: String,
        /// What stands there.
        what: &'static str,
    },
    /// A folder was moved or replaced by somebody else during the restore.
    #[error("{path}: replaced during the restore")]
    Moved {
        /// The path below the target.
        path: String,
    },
    /// The system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path below the target.
        path: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
}

impl TargetError {
    /// True when the target's file system is full or its quota used up: going on makes no sense.
    pub fn is_full(&self) -> bool {
        let TargetError::Io { error, .. } = self else { return false };
        [Errno::NOSPC, Errno::DQUOT].iter().any(|full| error.raw_os_error() == Some(full.raw_os_error()))
    }
}

/// Shorthand for results here.
pub type Result<T> = std::result::Result<T, TargetError>;

/// What happens to an entry whose name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// What is there stays.
    #[default]
    Never,
    /// A file is replaced when its size or modification time differs; also how an interrupted restore goes
    /// on.
    IfChanged,
    /// Replaced.
    Always,
}

/// How a target is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What happens to an entry whose name is taken.
    pub overwrite: Overwrite,
    /// Bring back setuid and setgid files, devices and attributes that only the system may set.
    pub system: bool,
    /// Leave out blocks of zeros in any file, not only where the original had holes.
    pub sparse: bool,
}

#[derive(Debug)]
struct Later {
    folder: Folder,
    attributes: Attributes,
}

/// A folder that entries are restored into.
#[derive(Debug)]
pub struct Target {
    options: Options,
    root: Folder,
    beneath: Beneath,
    open: OpenFolders,
    tally: Tally,
    later: Mutex<Vec<Later>>,
}

/// Names that are written first and renamed when complete.
const TEMPORARY_PREFIX: &str = ".mailark-";

fn temporary_name() -> Vec<u8> {
    format!("{TEMPORARY_PREFIX}{}", bytes::hex(&entropy::random::<8>())).into_bytes()
}

/// Refuses what is not the name of one file: this is the only door for names from a snapshot.
pub fn check_name(name: &[u8]) -> Result<()> {
    let wrong = name.is_empty()
        || name.len() > limits::NAME_BYTES_MAX
        || name == b"."
        || name == b".."
        || name.contains(&b'/')
        || name.contains(&0);
    if wrong { Err(TargetError::Name { name: bytes::display(name) }) } else { Ok(()) }
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a folder",
        Kind::Symlink(_) => "a symbolic link",
        _ => "a special file",
    }
}

impl Target {
    /// Opens a folder, making it (and those above) when it is not there.
    ///
    /// The path is the user's, so links in it are followed; everything below it is not.
    pub fn open(path: &Path, options: Options) -> Result<Target> {
        let shown = || bytes::display(path.as_os_str().as_encoded_bytes());
        let trouble = |error| TargetError::Io { action: "open", path: shown(), error };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(trouble)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| trouble(errno.into()))?;
        let open = OpenFolders::default();
        let root = open.root(fd).map_err(|errno| trouble(errno.into()))?;
        let (beneath, tally) = (Beneath::default(), Tally::default());
        Ok(Target { options, root, beneath, open, tally, later: Mutex::default() })
    }

    /// The folder itself.
    pub fn root(&self) -> &Folder {
        &self.root
    }

    /// Device and inode of the folder.
    pub fn key(&self) -> FileKey {
        self.root.key()
    }

    fn io<'a>(
        &self,
        action: &'static str,
        folder: &'a Folder,
        name: &'a [u8],
    ) -> impl Fn(Errno) -> TargetError + 'a {
        move |errno| TargetError::Io { action, path: folder.shown(name), error: errno.into() }
    }

    fn in_the_way(&self, folder: &Folder, name: &[u8], kind: &Kind) -> TargetError {
        TargetError::InTheWay { path: folder.shown(name), what: kind_name(kind) }
    }

    /// Makes a folder, or takes one that is there; `attributes` are set by [`Target::finish`].
    ///
    /// Without attributes a new folder stays `0700`; one that was there then stays as it is, and also when
    /// nothing is to be overwritten.
    pub fn make_folder(
        &self,
        parent: &Folder,
        name: &[u8],
        attributes: Option<&Attributes>,
    ) -> Result<Folder> {
        check_name(name)?;
        if parent.depth() >= limits::TREE_DEPTH_MAX + 64 {
            return Err(self.io("make folder", parent, name)(Errno::NAMETOOLONG));
        }
        let dir = self.open.get(&self.beneath, parent)?;
        let created = match mkdirat(&*dir, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => self.make_way_for_folder(&dir, parent, name)?,
            Err(errno) => return Err(self.io("make folder", parent, name)(errno)),
        };
        let fd = self
            .beneath
            .open(dir.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(self.io("open folder", parent, name))?;
        let there = match created {
            true => Existing::New,
            false if attributes.is_some() && self.options.overwrite != Overwrite::Never => Existing::ToBeSet,
            false => Existing::Kept,
        };
        let folder = self.open.add(parent, name, fd, there).map_err(self.io("open folder", parent, name))?;
        if let Some(attributes) = attributes.filter(|_| there != Existing::Kept) {
            self.set_later(&folder, attributes);
        }
        Ok(folder)
    }

    /// Returns true when the folder was made, false when one is there.
    fn make_way_for_folder(&self, dir: &OwnedFd, parent: &Folder, name: &[u8]) -> Result<bool> {
        let trouble = self.io("make folder", parent, name);
        let Some((kind, _)) = node::look(dir.as_fd(), name).map_err(&trouble)? else {
            return mkdirat(dir, name, Mode::RWXU).map(|()| true).map_err(trouble);
        };
        if kind == Kind::Directory {
            return Ok(false);
        }
        if self.options.overwrite == Overwrite::Never {
            return Err(self.in_the_way(parent, name, &kind));
        }
        unlinkat(dir, name, AtFlags::empty()).map_err(&trouble)?;
        mkdirat(dir, name, Mode::RWXU).map(|()| true).map_err(trouble)
    }

    /// Sets a folder's attributes when [`Target::finish`] comes.
    pub fn set_later(&self, folder: &Folder, attributes: &Attributes) {
        let later = Later { folder: folder.clone(), attributes: attributes.clone() };
        self.later.lock().unwrap_or_else(PoisonError::into_inner).push(later);
    }

    /// Sets the attributes of all folders, deepest first; call it after the last entry.
    ///
    /// Folders whose attributes could not be set are told; what was left out is in the [`Summary`].
    pub fn finish(&self) -> (Summary, Vec<TargetError>) {
        let mut later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        later.sort_by_key(|later| std::cmp::Reverse(later.folder.depth()));
        let outcomes = later.iter().map(|Later { folder, attributes }| {
            let dir = self.open.get(&self.beneath, folder)?;
            self.set_on_folder(folder, dir.as_fd(), attributes)
        });
        let errors = outcomes.filter_map(Result::err).collect();
        (self.tally.summary(), errors)
    }

    /// Waits until all that was written is on the disk.
    pub fn sync(&self) -> Result<()> {
        let dir = self.open.get(&self.beneath, &self.root)?;
        rustix::fs::syncfs(&*dir).map_err(self.io("sync", &self.root, b""))
    }

    /// What was left out so far.
    pub fn summary(&self) -> Summary {
        self.tally.summary()
    }
}
