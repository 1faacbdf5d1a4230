//! Opening below a folder without ever leaving it or following a link.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{Errno, Result};

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens with `openat2` where the kernel lets us, else name by name; both refuse the same.
#[derive(Debug, Default)]
pub(super) struct Beneath {
    /// The kernel, or a sandbox around us, does not know `openat2`.
    by_steps: AtomicBool,
}

fn open_by_steps(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.split(|&byte| byte == b'/').peekable();
    let mut held: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Errno::INVAL);
        }
        let from = held.as_ref().map_or(dir, AsFd::as_fd);
        if names.peek().is_none() {
            return openat(from, name, flags | OFlags::NOFOLLOW, mode);
        }
        held = Some(openat(from, name, through, Mode::empty())?);
    }
    Err(Errno::INVAL)
}

impl Beneath {
    /// Opens `path`, names joined by slashes, below `dir`; a link anywhere on it is refused with `ELOOP`
    /// (or `ENOTDIR`, when a folder was asked for).
    pub(super) fn open(
        &self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd> {
        if self.by_steps.load(Ordering::Relaxed) {
            return open_by_steps(dir, path, flags, mode);
        }
        match openat2(dir, path, flags | OFlags::NOFOLLOW, mode, RESOLVE) {
            Err(Errno::NOSYS) => {
                self.by_steps.store(true, Ordering::Relaxed);
                open_by_steps(dir, path, flags, mode)
            }
            // A sandbox's refusal looks like a file's: only success the other way tells them apart.
            Err(Errno::PERM) => {
                let opened = open_by_steps(dir, path, flags, mode)?;
                self.by_steps.store(true, Ordering::Relaxed);
                Ok(opened)
            }
            other => other,
        }
    }

    #[cfg(test)]
    pub(super) fn without_openat2() -> Beneath {
        Beneath { by_steps: AtomicBool::new(true) }
    }
}
