//! Removing what a target holds beyond the snapshot.

use std::sync::Arc;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, Result as SystemResult};

use super::folder::Folder;
use super::{Result, Target};
use crate::source::dir::{Name, OpenDir};
use crate::source::ladder::Ladder;

/// Removes one name that is no folder; false when it is one.
fn remove_plain(dir: &OpenDir, name: &[u8]) -> SystemResult<bool> {
    match unlinkat(dir.fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // What POSIX has for folders, and Linux for what really may not be removed.
        Err(Errno::PERM) if dir.open_folder(name).is_ok() => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes the entries of a folder but for its folders, which are returned.
fn clear(dir: &OpenDir, keep: &dyn Fn(&[u8]) -> bool, removed: &mut u64) -> SystemResult<Vec<Name>> {
    let (names, outcome) = dir.names();
    outcome?;
    let mut folders = Vec::new();
    for (_, name) in names.into_iter().filter(|(_, name)| !keep(name)) {
        if remove_plain(dir, &name)? {
            *removed += 1;
        } else {
            folders.push(name);
        }
    }
    Ok(folders)
}

/// Removes a folder and all below it, without following links, crossing mounts, or using the stack.
fn remove_folder(top: Arc<OpenDir>, name: Name, removed: &mut u64) -> SystemResult<()> {
    let device = top.key().0;
    let mut ladder = Ladder::new(top);
    let mut frames: Vec<(Name, Vec<Name>)> = vec![(Name::default(), vec![name])];
    while let Some((_, waiting)) = frames.last_mut() {
        if let Some(name) = waiting.pop() {
            let dir = Arc::new(ladder.last()?.open_folder(&name)?);
            if dir.key().0 != device {
                return Err(Errno::XDEV);
            }
            let folders = clear(&dir, &|_| false, removed)?;
            ladder.push(&name, dir);
            frames.push((name, folders));
            continue;
        }
        let done = frames.pop().map(|(name, _)| name).unwrap_or_default();
        if !frames.is_empty() {
            ladder.pop();
            unlinkat(ladder.last()?.fd(), &*done, AtFlags::REMOVEDIR)?;
            *removed += 1;
        }
    }
    Ok(())
}

impl Target {
    /// Removes the entries of a restored folder whose names `keep` does not want, with all below them.
    ///
    /// Returns how many entries went. Call it when no file of the folder is being written. What cannot be
    /// removed, a mounted file system for one, is an error; the rest of the folder's entries has gone then or
    /// not.
    pub fn remove_extras(&self, folder: &Folder, keep: impl Fn(&[u8]) -> bool) -> Result<u64> {
        let trouble = self.io("remove extra entries of", folder, b"");
        let held = self.open.get(&self.beneath, folder)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(held.as_fd(), c".", flags, Mode::empty()).map_err(&trouble)?;
        let dir = Arc::new(OpenDir::from_fd(fd, folder.path()).map_err(&trouble)?);
        let mut removed = 0;
        for name in clear(&dir, &keep, &mut removed).map_err(&trouble)? {
            let shown = self.io("remove", folder, &name);
            remove_folder(Arc::clone(&dir), name.clone(), &mut removed).map_err(shown)?;
        }
        Ok(removed)
    }
}
