//! Folders of a target: cheap names for them, and a bounded number of them open.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fchmod, fgetxattr_query, fremovexattr, fstat};
use rustix::io::Result;

use super::beneath::Beneath;
use super::{Result as TargetResult, TargetError};
use crate::base::bytes;
use crate::source::meta::{self, FileKey, Meta};

/// Folders kept open at a time; the usual limit is 1,024 descriptors for the whole process.
const OPEN_MAX: usize = 256;

/// A path is handed to the system in parts below its limit of 4,096 bytes.
const PATH_PART_MAX: usize = 3_800;

pub(super) const ACL_ACCESS: &str = "system.posix_acl_access";
pub(super) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// Owner, group and mode that a new file has before anything is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Born {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

#[derive(Debug)]
struct Node {
    parent: Option<Folder>,
    name: Box<[u8]>,
    depth: usize,
    key: FileKey,
    /// New entries get an ACL from the folder's default ACL.
    gives_acl: bool,
    /// Made by this restore.
    created: bool,
    open: Mutex<Option<Arc<OwnedFd>>>,
    /// Asked for since the last look of the one who closes folders.
    used: AtomicBool,
    born: OnceLock<Born>,
}

/// How a folder came to be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// This restore made it.
    New,
    /// It was there and gets the snapshot's attributes.
    ToBeSet,
    /// It was there and stays as it is.
    Kept,
}

/// A folder of a target; holds no descriptor of its own and may be kept in any number.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Node>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves a descriptor or a list of them, both of use to nobody but whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Folder {
    /// Folders above it in the target; 0 for the root.
    pub fn depth(&self) -> usize {
        self.0.depth
    }

    /// True when this restore made it.
    pub fn is_new(&self) -> bool {
        self.0.created
    }

    /// Device and inode.
    pub fn key(&self) -> FileKey {
        self.0.key
    }

    /// Its path below the target; empty for the root.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::with_capacity(self.0.depth);
        let mut folder = self;
        while let Some(parent) = &folder.0.parent {
            names.push(&*folder.0.name);
            folder = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path below the target of an entry, for people.
    pub(super) fn shown(&self, name: &[u8]) -> String {
        let path = crate::source::problem::join(&self.path(), name);
        if path.is_empty() { ".".to_owned() } else { bytes::display(&path) }
    }

    pub(super) fn gives_acl(&self) -> bool {
        self.0.gives_acl
    }

    /// What new files in it are born with; `fresh` is asked once per folder.
    pub(super) fn born(&self, fresh: &OwnedFd) -> Result<Born> {
        if let Some(born) = self.0.born.get() {
            return Ok(*born);
        }
        let stat = fstat(fresh)?;
        let born = Born { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 };
        Ok(*self.0.born.get_or_init(|| born))
    }
}

/// The folders that are open; the one that was not used for longest is closed first, roughly.
#[derive(Debug, Default)]
pub(super) struct OpenFolders {
    queue: Mutex<VecDeque<Weak<Node>>>,
}

impl OpenFolders {
    /// Takes the root, which is never closed.
    pub(super) fn root(&self, fd: OwnedFd) -> Result<Folder> {
        let key = meta::of_open(&fd)?.key();
        Ok(Folder(Arc::new(Node {
            parent: None,
            name: Box::default(),
            depth: 0,
            key,
            gives_acl: fgetxattr_query(&fd, ACL_DEFAULT).is_ok(),
            created: false,
            open: Mutex::new(Some(Arc::new(fd))),
            used: AtomicBool::new(true),
            born: OnceLock::new(),
        })))
    }

    /// Takes a folder that was just made or opened.
    pub(super) fn add(&self, parent: &Folder, name: &[u8], fd: OwnedFd, there: Existing) -> Result<Folder> {
        let created = there == Existing::New;
        let Meta { mode, device, inode, .. } = meta::of_open(&fd)?;
        if created && parent.gives_acl() {
            // Inherited, so it is not the snapshot's; its own comes at the end.
            for acl in [ACL_DEFAULT, ACL_ACCESS] {
                fremovexattr(&fd, acl).ok();
            }
        }
        if let Existing::ToBeSet = there
            && mode & 0o700 != 0o700
        {
            // A read-only folder of our own must let us in until it gets its real mode; not ours: try anyway.
            fchmod(&fd, Mode::from_raw_mode(mode | 0o700)).ok();
        }
        let gives_acl = !created && fgetxattr_query(&fd, ACL_DEFAULT).is_ok();
        let folder = Folder(Arc::new(Node {
            parent: Some(parent.clone()),
            name: name.into(),
            depth: parent.depth() + 1,
            key: (device, inode),
            gives_acl,
            created,
            open: Mutex::new(Some(Arc::new(fd))),
            used: AtomicBool::new(true),
            born: OnceLock::new(),
        }));
        self.enter(&folder);
        Ok(folder)
    }

    fn enter(&self, folder: &Folder) {
        let mut queue = lock(&self.queue);
        queue.push_back(Arc::downgrade(&folder.0));
        let mut spared = 0;
        while queue.len() > OPEN_MAX {
            let Some(oldest) = queue.pop_front() else { return };
            let Some(node) = oldest.upgrade() else { continue };
            if node.used.swap(false, Ordering::Relaxed) && spared < OPEN_MAX {
                spared += 1;
                queue.push_back(oldest);
            } else {
                // Whoever works in it right now holds the descriptor on its own.
                lock(&node.open).take();
            }
        }
    }

    /// The descriptor of a folder, opened again when it was closed meanwhile.
    pub(super) fn get(&self, beneath: &Beneath, folder: &Folder) -> TargetResult<Arc<OwnedFd>> {
        if let Some(fd) = &*lock(&folder.0.open) {
            folder.0.used.store(true, Ordering::Relaxed);
            return Ok(Arc::clone(fd));
        }
        let trouble = |error: rustix::io::Errno| TargetError::Io {
            action: "open folder",
            path: folder.shown(b""),
            error: error.into(),
        };
        let fd = reopen(beneath, folder).map_err(trouble)?;
        if meta::of_open(&fd).map_err(trouble)?.key() != folder.key() {
            return Err(TargetError::Moved { path: folder.shown(b"") });
        }
        let fd = Arc::new(fd);
        *lock(&folder.0.open) = Some(Arc::clone(&fd));
        self.enter(folder);
        Ok(fd)
    }
}

fn reopen(beneath: &Beneath, folder: &Folder) -> Result<OwnedFd> {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut above = folder;
    let mut from = loop {
        names.push(&above.0.name);
        // The root has no parent and is always open, so this ends there at the latest.
        above = above.0.parent.as_ref().ok_or(rustix::io::Errno::STALE)?;
        if let Some(fd) = &*lock(&above.0.open) {
            break Arc::clone(fd);
        }
    };
    let mut part: Vec<u8> = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    while let Some(name) = names.pop() {
        if !part.is_empty() {
            part.push(b'/');
        }
        part.extend_from_slice(name);
        if part.len() > PATH_PART_MAX && !names.is_empty() {
            from = Arc::new(beneath.open(from.as_fd(), &part, flags, Mode::empty())?);
            part.clear();
        }
    }
    beneath.open(from.as_fd(), &part, flags, Mode::empty())
}
