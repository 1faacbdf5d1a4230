//! File systems that are watched as a whole: no folder is looked for, and there is no limit.
//!
//! What is told of other folders of such a file system is passed over. Nobody empties the kernel's queue while a
//! backup runs: if it runs over, the backup is followed by another one, that is all.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::{Errno, Result};

use super::scope::{Scope, Sight};
use crate::source::fanotify::{Change, Handle, Told, Watcher};
use crate::source::file_system::FileSystem;
use crate::source::meta;
use crate::source::shape::is_of_messages;

/// Folders whose paths are kept in mind at most.
const KNOWN_MAX: usize = 1 << 15;
/// Reads of the kernel's queue in one look, so that it ends although more comes all the time.
const READS_MAX: usize = 1_024;

const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A mount through which folders have paths.
#[derive(Debug)]
struct Entrance {
    file_system: u64,
    /// The mount's number, where the kernel tells it.
    mount: Option<u64>,
    /// A folder there. It is opened when it is needed: an open one would keep the mount.
    root: Vec<u8>,
}

/// Watched file systems.
#[derive(Debug)]
pub(super) struct FileSystems {
    watcher: Watcher,
    entrances: Vec<Entrance>,
    devices: HashSet<u64>,
    /// How folders count. What is moved may count otherwise, with all that is below it.
    known: HashMap<(u64, Handle), Vec<Sight>>,
    is_lost: bool,
}

fn open(root: &[u8]) -> Result<OwnedFd> {
    openat(CWD, root, FOLDER_FLAGS, Mode::empty())
}

fn mount_of(folder: &OwnedFd) -> Option<u64> {
    let found = statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

impl FileSystems {
    /// Begins with none; `None` where this program may watch none.
    pub(super) fn new() -> Option<FileSystems> {
        let watcher = Watcher::new().ok()?;
        let (entrances, devices, known) = (Vec::new(), HashSet::new(), HashMap::new());
        Some(FileSystems { watcher, entrances, devices, known, is_lost: false })
    }

    /// Watches the file system of a folder, by its path without links; false when that cannot be, or would not tell
    /// all.
    pub(super) fn watch(&mut self, root: &[u8]) -> bool {
        let Ok(folder) = open(root) else { return false };
        let (found, mount) = (FileSystem::of(&folder), mount_of(&folder));
        let Ok(meta) = meta::of_open(&folder) else { return false };
        if found.is_remote || self.watcher.watch(&folder, Path::new(OsStr::from_bytes(root))).is_err() {
            return false;
        }
        self.devices.insert(meta.device);
        if mount.is_none() || self.entrances.iter().all(|entrance| entrance.mount != mount) {
            self.entrances.push(Entrance { file_system: found.id, mount, root: root.to_vec() });
        }
        true
    }

    /// Watches all once more, if they are there: what was unmounted for a moment is forgotten by the kernel.
    pub(super) fn watch_again(&self) -> bool {
        self.entrances.iter().all(|entrance| {
            let path = Path::new(OsStr::from_bytes(&entrance.root));
            open(&entrance.root).and_then(|folder| self.watcher.watch(&folder, path)).is_ok()
        })
    }

    /// The devices of which all is told.
    pub(super) fn devices(&self) -> &HashSet<u64> {
        &self.devices
    }

    /// File systems watched.
    pub(super) fn count(&self) -> usize {
        self.entrances.iter().map(|entrance| entrance.file_system).collect::<HashSet<_>>().len()
    }

    /// Is a folder gone through which the others were seen?
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Did anything change that counts since the last call?
    pub(super) fn have_changed(&mut self, scope: &Scope<'_>) -> bool {
        let mut changed = false;
        let mounts = self.entrances.iter().map(|_| None).collect();
        let mut look = Look { scope, mounts, is_lost: false };
        for _ in 0..READS_MAX {
            let told = self.watcher.read().unwrap_or_else(|_| {
                changed = true;
                Vec::new()
            });
            if told.is_empty() {
                break;
            }
            for told in told {
                changed |= self.counts(told, changed, &mut look);
            }
        }
        changed
    }

    /// Does it count? Not asked when something has `changed` anyhow.
    fn counts(&mut self, told: Told, changed: bool, look: &mut Look<'_>) -> bool {
        let Told::Change(Change { file_system, folder, name, is_folder, has_moved_or_gone }) = told else {
            self.known.clear();
            return true;
        };
        // `cur` and `new` make a Maildir of the folder, so that its `tmp` does not count.
        if is_folder && (has_moved_or_gone || is_of_messages(&name)) {
            self.known.clear();
        }
        if changed {
            return true;
        }
        let key = (file_system, folder);
        if !self.known.contains_key(&key) {
            let Ok(sights) = look.sights(&self.entrances, &key) else {
                // To be on the safe side.
                self.is_lost |= look.is_lost;
                return true;
            };
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(key.clone(), sights);
        }
        let excludes = look.scope.what.excludes;
        let counts = |sight: &Sight| match sight {
            Sight::Around(only) => *only == name,
            Sight::Within(path) => name.is_empty() || !excludes.leave_out(path, &name, is_folder),
        };
        self.known.get(&key).is_some_and(|sights| sights.iter().any(counts))
    }
}

/// One look at what was told.
struct Look<'a> {
    scope: &'a Scope<'a>,
    /// Open folders, one for each entrance that was needed.
    mounts: Vec<Option<OwnedFd>>,
    /// One of them is gone.
    is_lost: bool,
}

impl Look<'_> {
    fn sights(
        &mut self,
        entrances: &[Entrance],
        (file_system, folder): &(u64, Handle),
    ) -> Result<Vec<Sight>> {
        let mut sights = Vec::new();
        for (entrance, mount) in entrances.iter().zip(&mut self.mounts) {
            if entrance.file_system != *file_system {
                continue;
            }
            let mount = match mount {
                Some(mount) => mount,
                None => {
                    let opened = open(&entrance.root);
                    self.is_lost |= opened.is_err();
                    mount.insert(opened?)
                }
            };
            match folder.path(mount.as_fd()) {
                Ok(path) => sights.extend(self.scope.sights(&path)),
                // That it is gone its parent tells, or whatever of those above it is still there.
                Err(Errno::STALE | Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sights)
    }
}
