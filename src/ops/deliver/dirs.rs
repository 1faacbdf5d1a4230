//! Folders held by descriptor: every name below a mailbox is one checked step that follows no link.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, fsync, linkat, mkdirat, openat,
    renameat_with, unlinkat,
};
use rustix::io::{Errno, Result};

use super::DeliverError;
use crate::base::bytes;
use crate::source::dir::OpenDir;
use crate::source::meta;
use crate::source::problem::join;

/// Owner, group and mode of what a mail server makes in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Likeness {
    uid: u32,
    gid: u32,
    /// Of folders; files have the same without the right to search.
    mode: u32,
}

impl Likeness {
    /// As the folder itself is: Dovecot's rule.
    pub(super) fn of(dir: &OpenDir) -> Result<Likeness> {
        let meta = dir.meta()?;
        Ok(Likeness { uid: meta.uid, gid: meta.gid, mode: meta.mode })
    }

    fn give(self, fd: &OwnedFd, mode: u32) -> Result<()> {
        let have = meta::of_open(fd)?;
        if (have.uid, have.gid) != (self.uid, self.gid) {
            fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        }
        fchmod(fd, Mode::from_raw_mode(mode))
    }

    /// Gives it to a file.
    pub(super) fn give_file(self, fd: &OwnedFd) -> Result<()> {
        self.give(fd, self.mode & 0o666 | 0o600)
    }
}

/// Makes an error of this room out of the system's: what was tried, in which folder, with which name.
pub(super) fn trouble<'a>(
    action: &'static str,
    dir: &'a OpenDir,
    name: &'a [u8],
) -> impl Fn(Errno) -> DeliverError + use<'a> {
    move |errno| {
        let path = match name.is_empty() {
            true => bytes::display(dir.path()),
            false => bytes::display(&join(dir.path(), name)),
        };
        DeliverError::Io { action, path, error: errno.into() }
    }
}

/// Opens a folder by the user's own path, links in it followed.
pub(super) fn open_root(path: &std::path::Path) -> Result<OpenDir> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    OpenDir::from_fd(fd, path.as_os_str().as_encoded_bytes().to_vec())
}

/// Opens a folder below another, name by name; an empty path is the folder itself.
pub(super) fn open_below(dir: &OpenDir, path: &[u8]) -> Result<OpenDir> {
    let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    let Some(first) = names.next() else {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return OpenDir::from_fd(openat(dir.fd(), ".", flags, Mode::empty())?, dir.path().to_vec());
    };
    let mut open = step(dir, first)?;
    for name in names {
        open = step(&open, name)?;
    }
    Ok(open)
}

/// Opens one folder in another.
pub(super) fn step(dir: &OpenDir, name: &[u8]) -> Result<OpenDir> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        name if name.contains(&b'/') => Err(Errno::INVAL),
        name => dir.open_folder(name),
    }
}

/// Opens a folder, making it when it is not there; true when it was made.
pub(super) fn make(dir: &OpenDir, name: &[u8], like: Likeness) -> Result<(OpenDir, bool)> {
    let made = match mkdirat(dir.fd(), name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let open = step(dir, name)?;
    if made {
        let fd = open.fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        like.give(&fd, like.mode | 0o700)?;
    }
    Ok((open, made))
}

/// Opens a regular file to read; never a link, never waits.
pub(super) fn open_file(dir: &OpenDir, name: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(dir.fd(), name, flags, Mode::empty())?);
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        _ => Err(Errno::INVAL),
    }
}

/// Reads a small file; `None` when there is none, an error when it is larger than `max` or no file.
pub(super) fn read_small(dir: &OpenDir, name: &[u8], max: u64) -> Result<Option<Vec<u8>>> {
    let file = match open_file(dir, name) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // A second name may be somebody's way to have another's file read.
    if file.metadata().is_ok_and(|meta| meta.nlink() > 1) {
        return Err(Errno::MLINK);
    }
    let mut content = Vec::new();
    match file.take(max + 1).read_to_end(&mut content) {
        Ok(_) if content.len() as u64 > max => Err(Errno::FBIG),
        Ok(_) => Ok(Some(content)),
        Err(error) => Err(errno_of(&error)),
    }
}

/// Makes a file that is not there yet.
pub(super) fn create(dir: &OpenDir, name: &[u8]) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(dir.fd(), name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Makes a small file with its content, synced.
pub(super) fn write_small(dir: &OpenDir, name: &[u8], content: &[u8], like: Likeness) -> Result<()> {
    fill(create(dir, name)?, content, like)
}

/// Writes a file that was just made.
pub(super) fn fill(mut file: File, content: &[u8], like: Likeness) -> Result<()> {
    io::Write::write_all(&mut file, content).map_err(|error| errno_of(&error))?;
    let fd = OwnedFd::from(file);
    like.give_file(&fd)?;
    fsync(&fd)
}

/// Moves something to a name that nobody has; what has it stays.
pub(super) fn move_new(from: (&OpenDir, &[u8]), to: (&OpenDir, &[u8])) -> Result<()> {
    match renameat_with(from.0.fd(), from.1, to.0.fd(), to.1, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it: a second name fails where one is, too.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(from.0.fd(), from.1, to.0.fd(), to.1, AtFlags::empty())?;
            unlinkat(from.0.fd(), from.1, AtFlags::empty())
        }
        other => other,
    }
}

/// Removes a file; one that is not there is gone already.
pub(super) fn remove(dir: &OpenDir, name: &[u8]) -> Result<()> {
    match unlinkat(dir.fd(), name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes an empty folder; true when it is gone.
pub(super) fn remove_folder(dir: &OpenDir, name: &[u8]) -> Result<bool> {
    match unlinkat(dir.fd(), name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// What was renamed in a folder stays so after a power cut.
pub(super) fn sync(dir: &OpenDir) -> Result<()> {
    match fsync(dir.fd()) {
        // Some network file systems know no such thing for folders.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// The system's number of an error.
pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
