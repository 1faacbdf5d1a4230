//! Folders held by descriptor, so that no link that somebody plants leads out of a Maildir.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, fsync, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::RebuildError;
use crate::base::bytes;
use crate::source::dir::OpenDir;
use crate::source::problem::join;

/// Makes an error of this room out of the system's.
pub(super) fn trouble<'a>(
    action: &'static str,
    dir: &'a OpenDir,
    name: &'a [u8],
) -> impl Fn(Errno) -> RebuildError + use<'a> {
    move |errno| {
        let path = if name.is_empty() { dir.path().to_vec() } else { join(dir.path(), name) };
        RebuildError::Io { action, path: bytes::display(&path), error: errno.into() }
    }
}

/// Opens a folder by the user's own path; `None` when it is not there.
pub(super) fn open_root(path: &Path) -> Result<Option<OpenDir>, RebuildError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())
        .and_then(|fd| OpenDir::from_fd(fd, path.as_os_str().as_encoded_bytes().to_vec()));
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => {
            Err(RebuildError::Io { action: "open", path: path.display().to_string(), error: errno.into() })
        }
    }
}

/// Opens a folder below another; `None` when it is not there.
pub(super) fn open_below(root: &OpenDir, names: &[Vec<u8>]) -> Result<Option<OpenDir>, RebuildError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let again = openat(root.fd(), ".", flags, Mode::empty())
        .and_then(|fd| OpenDir::from_fd(fd, root.path().to_vec()));
    let mut dir = again.map_err(trouble("open", root, b""))?;
    for name in names {
        match dir.open_folder(name) {
            Ok(below) => dir = below,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(trouble("open", &dir, name)(errno)),
        }
    }
    Ok(Some(dir))
}

/// Reads a small file; `None` when there is none.
pub(super) fn read_file(dir: &OpenDir, name: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, RebuildError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(dir.fd(), name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(trouble("open", dir, name)(errno)),
    };
    let mut content = Vec::new();
    match file.take(bytes_max + 1).read_to_end(&mut content) {
        Ok(_) if content.len() as u64 > bytes_max => Err(trouble("read", dir, name)(Errno::FBIG)),
        Ok(_) => Ok(Some(content)),
        Err(error) => Err(io_trouble("read", dir, name, error)),
    }
}

fn io_trouble(action: &'static str, dir: &OpenDir, name: &[u8], error: io::Error) -> RebuildError {
    RebuildError::Io { action, path: bytes::display(&join(dir.path(), name)), error }
}

/// Writes a file that must not be there yet; owner and mode are those of `like`, or of the folder.
pub(super) fn write_file(
    dir: &OpenDir,
    name: &[u8],
    content: &[u8],
    like: Option<&[u8]>,
) -> Result<(), RebuildError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir.fd(), name, flags, Mode::RUSR | Mode::WUSR).map_err(trouble("create", dir, name))?;
    let mut file = File::from(fd);
    file.write_all(content).map_err(|error| io_trouble("write", dir, name, error))?;
    let stat = match like {
        Some(like) => rustix::fs::statat(dir.fd(), like, AtFlags::SYMLINK_NOFOLLOW),
        None => rustix::fs::fstat(dir.fd()),
    };
    if let Ok(stat) = stat {
        // Only root can give files away; whoever else writes here owns the mail.
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid)).ok();
        rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o666 | 0o600)).ok();
    }
    file.sync_all().map_err(|error| io_trouble("sync", dir, name, error))
}

/// Exchanges what has a name in two folders; where only one has it, it goes to the other.
pub(super) fn exchange(one: &OpenDir, other: &OpenDir, name: &[u8]) -> Result<(), RebuildError> {
    match renameat_with(one.fd(), name, other.fd(), name, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(()),
        // One of them is missing, or the file system cannot do it in one step.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        Err(errno) => return Err(trouble("exchange", one, name)(errno)),
    }
    let spare = [name, b".mailark-old"].concat();
    let had = move_away(other, name, other, &spare)?;
    move_away(one, name, other, name)?;
    if had {
        move_away(other, &spare, one, name)?;
    }
    Ok(())
}

/// Renames; false when there was nothing.
pub(super) fn move_away(
    from: &OpenDir,
    name: &[u8],
    to: &OpenDir,
    as_name: &[u8],
) -> Result<bool, RebuildError> {
    match renameat(from.fd(), name, to.fd(), as_name) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(trouble("move", from, name)(errno)),
    }
}

/// Moves a file to a name that nobody has; false when somebody has it.
pub(super) fn move_new(
    from: &OpenDir,
    name: &[u8],
    to: &OpenDir,
    as_name: &[u8],
) -> Result<bool, RebuildError> {
    let moved = match renameat_with(from.fd(), name, to.fd(), as_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(from.fd(), name, to.fd(), as_name, AtFlags::empty())
                .and_then(|()| unlinkat(from.fd(), name, AtFlags::empty()))
        }
        moved => moved,
    };
    match moved {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(trouble("move", from, name)(errno)),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(dir: &OpenDir, name: &[u8]) -> Result<(), RebuildError> {
    match unlinkat(dir.fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(trouble("remove", dir, name)(errno)),
    }
}

/// What was renamed in a folder stays so after a power cut.
pub(super) fn sync(dir: &OpenDir) -> Result<(), RebuildError> {
    match fsync(dir.fd().as_fd()) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(trouble("sync", dir, b"")(errno)),
    }
}

/// Names in a folder, without `.` and `..`.
pub(super) fn names(dir: &OpenDir) -> Result<Vec<Vec<u8>>, RebuildError> {
    let listed = rustix::fs::Dir::read_from(dir.fd()).map_err(trouble("list", dir, b""))?;
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.map_err(trouble("list", dir, b""))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}
