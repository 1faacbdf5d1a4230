//! Owner, mode, time and extended attributes of restored entries.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, flistxattr, fremovexattr, fsetxattr, futimens, lsetxattr, setxattr, utimensat,
};
use rustix::io::Errno;

use super::folder::{ACL_ACCESS, ACL_DEFAULT, Born, Folder};
use super::summary::Count;
use super::{Result, Target};
use crate::base::bytes;
use crate::source::meta::{self, Xattr};
use crate::source::names::Accounts;
use crate::source::xattr;

/// What an entry is given after its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner on this host; see [`Owners`].
    pub uid: u32,
    /// Group on this host.
    pub gid: u32,
    /// Modification time, whole seconds since 1970, rounded down.
    pub mtime_s: i64,
    /// Nanoseconds within that second.
    pub mtime_ns: u32,
    /// Extended attributes, the POSIX ACLs among them.
    pub xattrs: Vec<Xattr>,
}

/// Finds the owner an entry gets on this host.
#[derive(Debug, Default)]
pub struct Owners {
    accounts: Accounts,
    numeric: bool,
}

impl Owners {
    /// Goes by name where this host knows the name, else by number; always by number when `numeric`.
    pub fn new(accounts: Accounts, numeric: bool) -> Owners {
        Owners { accounts, numeric }
    }

    /// The user's number on this host.
    pub fn uid(&self, stored: u32, name: Option<&[u8]>) -> u32 {
        name.filter(|_| !self.numeric).and_then(|name| self.accounts.uid(name)).unwrap_or(stored)
    }

    /// The group's number on this host.
    pub fn gid(&self, stored: u32, name: Option<&[u8]>) -> u32 {
        name.filter(|_| !self.numeric).and_then(|name| self.accounts.gid(name)).unwrap_or(stored)
    }
}

const PRIVILEGES: u32 = 0o6000;

/// Modification time alone; a value no clock shows becomes the nearest one, not a special meaning.
pub(super) fn times(attributes: &Attributes) -> Timestamps {
    let nanos = attributes.mtime_ns.min(999_999_999);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: attributes.mtime_s, tv_nsec: nanos.into() },
    }
}

/// The number that means "leave it" to the system is no owner.
fn owner(uid: u32, gid: u32) -> Option<(Uid, Gid)> {
    (uid != u32::MAX && gid != u32::MAX).then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Tells whether an attribute may be set without the right to restore a system.
fn is_for_all(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == ACL_ACCESS.as_bytes() || name == ACL_DEFAULT.as_bytes()
}

impl Target {
    /// Gives an entry its owner by way of `change`; false when it does not have it in the end.
    fn set_owner(
        &self,
        have: (u32, u32),
        attributes: &Attributes,
        shown: impl Fn() -> String,
        change: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> bool {
        if have == (attributes.uid, attributes.gid) {
            return true;
        }
        let outcome = match owner(attributes.uid, attributes.gid) {
            None => Err(Errno::INVAL),
            Some((uid, gid)) => change(Some(uid), Some(gid)).inspect_err(|_| {
                // Who may not give files away may still move them to a group of their own.
                change(None, Some(gid)).ok();
            }),
        };
        if let Err(errno) = outcome {
            let (uid, gid) = (attributes.uid, attributes.gid);
            self.tally.note(Count::OwnersRefused, || format!("{}: owner {uid}:{gid}: {errno}", shown()));
        }
        outcome.is_ok()
    }

    fn set_xattrs(
        &self,
        attributes: &Attributes,
        shown: impl Fn() -> String,
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) {
        for (name, value) in &attributes.xattrs {
            if !self.options.system && !is_for_all(name) {
                self.tally.add(Count::XattrsLeftOut);
            } else if let Err(errno) = set(name, value) {
                let line = || format!("{}: attribute {}: {errno}", shown(), bytes::display(name));
                self.tally.note(Count::XattrsRefused, line);
            }
        }
    }

    /// The mode that an entry which is no folder gets.
    fn allowed_mode(&self, attributes: &Attributes, owned: bool, shown: impl Fn() -> String) -> u32 {
        let mode = attributes.mode & 0o7777;
        // Another owner's setuid bit would give away the rights of whoever restores.
        if mode & PRIVILEGES != 0 && !(self.options.system && owned) {
            self.tally.note(Count::ModesReduced, || format!("{}: without setuid and setgid", shown()));
            return mode & !PRIVILEGES;
        }
        mode
    }

    /// Counts a mode or time that was not taken: the content is worth keeping without it.
    fn told(&self, outcome: rustix::io::Result<()>, what: &str, shown: impl Fn() -> String) {
        if let Err(errno) = outcome {
            self.tally.note(Count::AttributesRefused, || format!("{}: {what}: {errno}", shown()));
        }
    }

    /// Sets a new regular file's attributes; `born` is what it has.
    pub(super) fn set_on_file(
        &self,
        fd: &OwnedFd,
        (folder, name): (&Folder, &[u8]),
        born: Born,
        attributes: &Attributes,
    ) {
        let shown = || folder.shown(name);
        let owned = self.set_owner((born.uid, born.gid), attributes, shown, |uid, gid| fchown(fd, uid, gid));
        if !attributes.xattrs.is_empty() {
            self.set_xattrs(attributes, shown, |key, value| fsetxattr(fd, key, value, XattrFlags::empty()));
        }
        if folder.gives_acl() && !has(attributes, ACL_ACCESS) {
            // Inherited from the folder it was restored into.
            fremovexattr(fd, ACL_ACCESS).ok();
        }
        let mode = self.allowed_mode(attributes, owned, shown);
        if mode != born.mode || !attributes.xattrs.is_empty() || folder.gives_acl() {
            self.told(fchmod(fd, Mode::from_raw_mode(mode)), "mode", shown);
        }
        self.told(futimens(fd, &times(attributes)), "time", shown);
    }

    /// Sets a folder's attributes; setgid and sticky have no power there and always come back.
    pub(super) fn set_on_folder(
        &self,
        folder: &Folder,
        fd: BorrowedFd<'_>,
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = || folder.shown(b"");
        let have = meta::of_open(fd).map_err(self.io("set attributes of", folder, b""))?;
        self.set_owner((have.uid, have.gid), attributes, shown, |uid, gid| fchown(fd, uid, gid));
        if !folder.is_new() {
            self.drop_other_xattrs(fd, attributes);
        }
        self.set_xattrs(attributes, shown, |key, value| fsetxattr(fd, key, value, XattrFlags::empty()));
        self.told(fchmod(fd, Mode::from_raw_mode(attributes.mode & 0o7777)), "mode", shown);
        self.told(futimens(fd, &times(attributes)), "time", shown);
        Ok(())
    }

    /// A folder that was there loses the attributes that the snapshot's does not have.
    fn drop_other_xattrs(&self, fd: BorrowedFd<'_>, attributes: &Attributes) {
        let mut names = Vec::with_capacity(64 << 10);
        if flistxattr(fd, rustix::buffer::spare_capacity(&mut names)).is_err() {
            return;
        }
        for name in names.split(|&byte| byte == 0).filter(|name| is_for_all(name)) {
            if !attributes.xattrs.iter().any(|(key, _)| key == name) {
                fremovexattr(fd, name).ok();
            }
        }
    }

    /// Sets a symbolic link's own attributes, by calls that never follow it.
    pub(super) fn set_on_link(
        &self,
        dir: BorrowedFd<'_>,
        at: &[u8],
        (folder, name): (&Folder, &[u8]),
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = || folder.shown(name);
        let trouble = self.io("set attributes of", folder, name);
        let have = meta::of_entry(dir, at).map_err(&trouble)?.1;
        self.set_owner((have.uid, have.gid), attributes, shown, |uid, gid| {
            chownat(dir, at, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        });
        if !attributes.xattrs.is_empty() {
            let path = xattr::path_in(dir, at).map_err(&trouble)?;
            self.set_xattrs(attributes, shown, |key, value| {
                lsetxattr(path.as_c_str(), key, value, XattrFlags::empty())
            });
        }
        self.told(utimensat(dir, at, &times(attributes), AtFlags::SYMLINK_NOFOLLOW), "time", shown);
        Ok(())
    }

    /// Sets the attributes of a FIFO or device held by an `O_PATH` descriptor.
    ///
    /// Such a descriptor takes none of the calls itself, but its name in `/proc` leads to exactly what it
    /// holds.
    pub(super) fn set_on_special(
        &self,
        held: &OwnedFd,
        (folder, name): (&Folder, &[u8]),
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = || folder.shown(name);
        let have = meta::of_open(held).map_err(self.io("set attributes of", folder, name))?;
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        let owned = self.set_owner((have.uid, have.gid), attributes, shown, |uid, gid| {
            chownat(held, c"", uid, gid, AtFlags::EMPTY_PATH)
        });
        self.set_xattrs(attributes, shown, |key, value| {
            setxattr(path.as_str(), key, value, XattrFlags::empty())
        });
        let mode = self.allowed_mode(attributes, owned, shown);
        let path = path.as_str();
        self.told(chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()), "mode", shown);
        self.told(utimensat(CWD, path, &times(attributes), AtFlags::empty()), "time", shown);
        Ok(())
    }
}

fn has(attributes: &Attributes, name: &str) -> bool {
    attributes.xattrs.iter().any(|(key, _)| key == name.as_bytes())
}
