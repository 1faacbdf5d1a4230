//! Watches whole file systems for names that come, go and are written to: one mark for each, however many folders.
//!
//! The kernel tells of every folder of a file system, by a handle; whose folder that is the caller finds out. It takes
//! root, a kernel of 5.9 or later, and a file system whose handles can be opened: [`Watcher::watch`] tries all of that.
//! The kernel keeps some ten thousand events and then says [`Told::Overflow`]. Changes by other hosts on a network
//! file system are never told.
//!
//! The only file with unsafe code: `rustix` has none of these four calls.
#![allow(unsafe_code, reason = "system calls that no crate of ours wraps")]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat, readlink};
use rustix::io::{Errno, Result, read, retry_on_intr};

use crate::base::limits::TREE_DEPTH_MAX;

pub use events::{Change, Handle, Told};

mod events;

/// One read of the kernel's queue takes at most this many bytes, some thousand events.
const READ_BYTES: usize = 64 << 10;

/// What is told: as an attentive [`super::watch::Watcher`] tells it, of folders as well as of files.
const WANTED: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

/// A handle as the system takes it.
#[repr(C)]
struct RawHandle {
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; Handle::BYTES_MAX],
}

impl RawHandle {
    fn new(length: usize, kind: i32) -> RawHandle {
        RawHandle { length: length as libc::c_uint, kind, bytes: [0; Handle::BYTES_MAX] }
    }

    fn as_ptr(&mut self) -> *mut libc::file_handle {
        (&raw mut *self).cast()
    }
}

fn outcome(returned: libc::c_int) -> Result<libc::c_int> {
    match returned {
        0.. => Ok(returned),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

fn descriptor(returned: libc::c_int) -> Result<OwnedFd> {
    let number = outcome(returned)?;
    // SAFETY: the system has just given this number to this call, so that nobody else owns or closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Handle {
    /// The handle of an open folder; `EOPNOTSUPP` where the file system gives none.
    fn of(folder: BorrowedFd<'_>) -> Result<Handle> {
        let mut raw = RawHandle::new(Handle::BYTES_MAX, 0);
        let (at, pointer) = (folder.as_raw_fd(), raw.as_ptr());
        let mut mount: libc::c_int = 0;
        // SAFETY: the path is a string that ends with a zero; `raw` has the layout of a `file_handle` with room for
        // the `length` bytes behind it that it says, and is written to by nobody else; so is `mount`.
        outcome(unsafe {
            libc::name_to_handle_at(at, c"".as_ptr(), pointer, &raw mut mount, libc::AT_EMPTY_PATH)
        })?;
        Handle::new(raw.kind, raw.bytes.get(..raw.length as usize).ok_or(Errno::OVERFLOW)?)
            .ok_or(Errno::OVERFLOW)
    }

    /// Opens the folder on the file system that `mount` lies on, for its path alone; `ESTALE` when it is gone.
    fn open(&self, mount: BorrowedFd<'_>) -> Result<OwnedFd> {
        let mut raw = RawHandle::new(self.bytes().len(), self.kind());
        raw.bytes[..self.bytes().len()].copy_from_slice(self.bytes());
        let (at, pointer) = (mount.as_raw_fd(), raw.as_ptr());
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `raw` has the layout of a `file_handle`, and the `length` bytes that it says lie behind its head.
        descriptor(unsafe { libc::open_by_handle_at(at, pointer, flags) })
    }

    /// The path that the folder has by now, as seen through the mount that `mount` lies on; `ESTALE` when it is gone.
    ///
    /// A folder that cannot be reached through it has some other path. Where the path is longer than the system tells,
    /// it is that of the nearest folder above that it does tell.
    pub fn path(&self, mount: BorrowedFd<'_>) -> Result<Vec<u8>> {
        let mut folder = self.open(mount)?;
        for _ in 0..TREE_DEPTH_MAX {
            let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
            match readlink(link.as_str(), Vec::new()) {
                Err(Errno::NAMETOOLONG) => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    folder = openat(&folder, c"..", flags, Mode::empty())?;
                }
                found => return Ok(found?.into_bytes()),
            }
        }
        Err(Errno::NAMETOOLONG)
    }
}

/// Watched file systems.
#[derive(Debug)]
pub struct Watcher {
    group: OwnedFd,
    buffer: Vec<u8>,
}

impl Watcher {
    /// Begins to watch nothing. `EPERM` or `EINVAL` where nobody may, or the kernel is too old.
    ///
    /// The queue has its usual bound: when this program stands still, the memory of the host is not ours to fill.
    pub fn new() -> Result<Watcher> {
        let flags = libc::FAN_CLASS_NOTIF
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_REPORT_DIR_FID
            | libc::FAN_REPORT_NAME;
        // SAFETY: takes two numbers and touches no memory of ours.
        let group = descriptor(unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) })?;
        Ok(Watcher { group, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Watches the file system of an open folder; once more does no harm. Every change after the return is told.
    ///
    /// Fails where what is told would be of no use: `EOPNOTSUPP`, `ENODEV` and `EXDEV` for file systems without
    /// handles, `EPERM` without the right to open them, `ENOENT` when a handle does not lead back to `path`.
    pub fn watch(&self, folder: impl AsFd, path: &Path) -> Result<()> {
        let folder = folder.as_fd();
        if Handle::of(folder)?.path(folder)? != path.as_os_str().as_bytes() {
            return Err(Errno::NOENT);
        }
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
        let (group, at) = (self.group.as_raw_fd(), folder.as_raw_fd());
        // SAFETY: without a path the call means the open folder itself, and touches no memory of ours.
        outcome(unsafe { libc::fanotify_mark(group, flags, WANTED, at, std::ptr::null()) })?;
        Ok(())
    }

    /// What the kernel holds by now, as far as one read goes, in order; nothing when it holds nothing.
    pub fn read(&mut self) -> Result<Vec<Told>> {
        self.buffer.clear();
        match retry_on_intr(|| read(&self.group, rustix::buffer::spare_capacity(&mut self.buffer))) {
            Ok(_) => Ok(events::all(&self.buffer)),
            Err(Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

#[cfg(test)]
mod tests;
