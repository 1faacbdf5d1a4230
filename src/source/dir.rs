//! A folder open by descriptor: its listing, and its files opened relative to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

use super::calls::Calls;
use super::meta::{self, FileKey, Kind, Meta};
use super::problem::{Problem, What, join};
use super::read::OpenFile;
use super::xattr::{self, Xattrs};
use crate::base::limits;

/// A file name without its folder.
pub type Name = Box<[u8]>;

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name it is stored under.
    pub name: Box<[u8]>,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What the system says; without extended attributes.
    pub meta: Meta,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sorted by name, bytewise, each name once.
    pub entries: Vec<Listed>,
    /// Entries that could not be looked at.
    pub problems: Vec<Problem>,
}

/// An open folder; its entries are reached through it whatever is renamed above.
#[derive(Debug)]
pub struct OpenDir {
    fd: OwnedFd,
    path: Vec<u8>,
    key: FileKey,
    /// Cleared once the system refuses `O_NOATIME`, which only a file's owner may ask for.
    without_atime: AtomicBool,
    /// A lone file that is stored under another name than it has: (stored, real).
    alias: Option<(Name, Name)>,
    /// Shared by all folders of a walk.
    calls: Arc<Calls>,
}

/// One call of `getdents` fills at most this many bytes, about 1,500 names.
const LISTING_BUFFER_BYTES: usize = 64 << 10;

/// From so many entries on, a second thread costs less than it saves.
const PARALLEL_MIN: usize = 512;

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn is_dot(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

fn open_without_atime(
    at: BorrowedFd<'_>,
    name: impl Arg + Copy,
    flags: OFlags,
    try_it: &AtomicBool,
) -> Result<OwnedFd> {
    if try_it.load(Ordering::Relaxed) {
        match openat(at, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => try_it.store(false, Ordering::Relaxed),
            other => return other,
        }
    }
    openat(at, name, flags, Mode::empty())
}

impl OpenDir {
    /// Wraps a descriptor of a folder; `path` is what people are told about it.
    pub fn from_fd(fd: OwnedFd, path: Vec<u8>) -> Result<OpenDir> {
        let key = meta::of_open(&fd)?.key();
        let (without_atime, calls) = (AtomicBool::new(true), Arc::default());
        Ok(OpenDir { fd, path, key, without_atime, alias: None, calls })
    }

    /// Opens a folder by its path, following links on the way and at the end.
    pub(super) fn open_path(path: &[u8], shown: Vec<u8>) -> Result<OpenDir> {
        let try_it = AtomicBool::new(true);
        let fd = open_without_atime(CWD, path, FOLDER_FLAGS, &try_it)?;
        let key = meta::of_open(&fd)?.key();
        Ok(OpenDir { fd, path: shown, key, without_atime: try_it, alias: None, calls: Arc::default() })
    }

    /// Opens a folder once more by the path it had; another one that lies there now is refused.
    pub fn open_again(path: &[u8], key: FileKey) -> std::result::Result<OpenDir, Problem> {
        let dir = OpenDir::open_path(path, path.to_vec())
            .map_err(|errno| Problem::from_errno(path.to_vec(), errno))?;
        match dir.key == key {
            true => Ok(dir),
            false => Err(Problem::new(path.to_vec(), What::Changed, "another folder lies there now")),
        }
    }

    /// Makes the folder hand out the file `real` when it is asked for `stored`.
    pub(super) fn with_alias(mut self, stored: &[u8], real: &[u8]) -> OpenDir {
        self.alias = (stored != real).then(|| (stored.into(), real.into()));
        self
    }

    fn open_beside(&self, name: &[u8], path: Vec<u8>, no_follow: OFlags) -> Result<OpenDir> {
        let fd = open_without_atime(self.fd(), name, FOLDER_FLAGS | no_follow, &self.without_atime)?;
        let key = meta::of_open(&fd)?.key();
        let without_atime = AtomicBool::new(self.without_atime.load(Ordering::Relaxed));
        Ok(OpenDir { fd, path, key, without_atime, alias: None, calls: Arc::clone(&self.calls) })
    }

    /// Opens a folder in this one; a link is refused.
    pub fn open_folder(&self, name: &[u8]) -> Result<OpenDir> {
        self.open_beside(name, join(&self.path, name), OFlags::NOFOLLOW)
    }

    /// Opens the folder that holds this one now; the caller compares [`OpenDir::key`].
    pub fn open_parent(&self) -> Result<OpenDir> {
        let cut = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.open_beside(b"..", self.path[..cut.max(1).min(self.path.len())].to_vec(), OFlags::empty())
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The absolute path on this host, as it was when the folder was opened.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// What was asked of the system through this folder and all others of its walk.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Device and inode.
    pub fn key(&self) -> FileKey {
        self.key
    }

    /// Looks at the folder itself, now.
    pub fn meta(&self) -> Result<Meta> {
        meta::of_open(&self.fd)
    }

    pub(super) fn real<'a>(&'a self, name: &'a [u8]) -> &'a [u8] {
        match &self.alias {
            Some((stored, real)) if **stored == *name => real,
            _ => name,
        }
    }

    /// Reads all names with their inode numbers, as the file system orders them, without `.` and `..`.
    ///
    /// What was read before an error is kept.
    pub fn names(&self) -> (Vec<(u64, Name)>, Result<()>) {
        Calls::count(&self.calls.folders_listed);
        let mut names = Vec::new();
        if let Err(error) = seek(&self.fd, SeekFrom::Start(0)) {
            return (names, Err(error));
        }
        let mut buffer = Vec::with_capacity(LISTING_BUFFER_BYTES);
        let mut entries = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if is_dot(entry.file_name().to_bytes()) => {}
                Ok(entry) => names.push((entry.ino(), entry.file_name().to_bytes().into())),
                Err(Errno::INTR) => {}
                Err(error) => return (names, Err(error)),
            }
        }
        (names, Ok(()))
    }

    /// Lists the folder with one `statx` for each entry.
    pub fn list(&self) -> Listing {
        let (mut names, outcome) = self.names();
        let mut listing = Listing::default();
        if let Err(error) = outcome {
            listing.problems.push(Problem::from_errno(self.path.clone(), error));
        }
        // By number first: a disk that holds the inodes in that order is then read in one direction.
        names.sort_unstable_by_key(|(inode, _)| *inode);
        let names = names.into_iter().map(|(_, name)| name).collect();
        for looked in self.look_at_all(names) {
            match looked {
                Ok(listed) => listing.entries.push(listed),
                Err(problem) => listing.problems.push(problem),
            }
        }
        listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        // A rename during the listing may show a name twice.
        listing.entries.dedup_by(|a, b| a.name == b.name);
        listing
    }

    /// Looks at many entries; on two processors in half the time.
    fn look_at_all(&self, mut names: Vec<Name>) -> Vec<std::result::Result<Listed, Problem>> {
        let look = |names: Vec<Name>| -> Vec<_> { names.into_iter().map(|name| self.look(name)).collect() };
        if names.len() < PARALLEL_MIN {
            return look(names);
        }
        let others = names.split_off(names.len() / 2);
        std::thread::scope(|scope| {
            let others = scope.spawn(|| look(others));
            let mut looked = look(names);
            looked.append(&mut others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            looked
        })
    }

    /// Looks at one entry of the folder.
    pub fn look(&self, name: Box<[u8]>) -> std::result::Result<Listed, Problem> {
        Calls::count(&self.calls.entries_looked_at);
        let real = self.real(&name);
        let trouble = |errno| Problem::from_errno(join(&self.path, real), errno);
        let unsupported = |why| Problem::new(join(&self.path, real), What::Unsupported, why);
        if name.len() > limits::NAME_BYTES_MAX {
            return Err(unsupported("name too long"));
        }
        let (kind, meta) = meta::of_entry(self.fd(), real).map_err(trouble)?;
        let kind = kind.ok_or_else(|| unsupported("unknown kind of file"))?;
        match &kind {
            Kind::Symlink(target) if target.len() > limits::LINK_BYTES_MAX => {
                Err(unsupported("symbolic link too long"))
            }
            _ => Ok(Listed { name, kind, meta }),
        }
    }

    /// Opens a listed regular file for reading; never waits for a FIFO and never follows a link.
    ///
    /// The file may have been replaced by another regular file since: then that one is given, with its own
    /// [`OpenFile::meta`] and [`OpenFile::replaced`] set. Anything else in its place is a problem.
    pub fn open_file(&self, listed: &Listed) -> std::result::Result<OpenFile, Problem> {
        Calls::count(&self.calls.files_opened);
        let name = self.real(&listed.name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Owners differ from file to file, so the refusal for one says nothing about the next.
        let opened = open_without_atime(self.fd(), name, flags, &AtomicBool::new(true))
            .and_then(|fd| meta::look_at_open(&fd).map(|(kind, meta)| (fd, kind, meta)));
        match opened {
            Ok((fd, kind, meta)) if kind.is(FileType::RegularFile) => {
                let replaced = meta.key() != listed.meta.key();
                Ok(OpenFile::new(fd, meta, listed.meta.size, replaced))
            }
            Ok(_) => Err(Problem::new(join(&self.path, name), What::Changed, "is no longer a regular file")),
            Err(errno) => Err(Problem::from_errno(join(&self.path, name), errno)),
        }
    }

    /// Reads the extended attributes of a link or special file of the folder, without following it.
    pub fn xattrs_of(&self, name: &[u8]) -> Result<Xattrs> {
        xattr::read_xattrs_path(self.fd(), self.real(name))
    }
}
