//! How the system asks: FUSE requests into questions, answers into replies.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuser::{
    Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyXattr, Request,
};

use super::folder::Child;
use super::inode::{ROOT, Target};
use super::mounted::{Listing, Mounted, Refusal};
use super::vault::is_label;
use crate::format::page::Node;

/// What lies in a snapshot never changes.
const FOR_EVER: Duration = Duration::from_secs(24 * 3_600);
/// Lists of snapshots do, and a snapshot may be forgotten.
const FOR_NOW: Duration = Duration::from_secs(2);

const GENERATION: Generation = Generation(0);
/// What the list of attribute names may take, for the system.
const XATTR_LIST_MAX: usize = 64 << 10;

type Handle = Arc<Mutex<Listing>>;

/// The file system as the system sees it.
pub struct Bridge {
    mounted: Arc<Mounted>,
    /// Others than the mounting user may come: the kernel must know access lists, too.
    for_others: bool,
    listings: Mutex<HashMap<u64, Handle>>,
    next: AtomicU64,
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Errno {
        match refusal {
            Refusal::Missing => Errno::ENOENT,
            Refusal::Stale => Errno::ESTALE,
            Refusal::Kind => Errno::EINVAL,
            Refusal::Damaged => Errno::EIO,
        }
    }
}

fn time_of(stays: bool) -> Duration {
    if stays { FOR_EVER } else { FOR_NOW }
}

/// What kind of thing something is, without looking at anything else.
fn kind(child: &Child) -> FileType {
    match (&child.target, child.entry.as_ref().map(|kept| &kept.entry().node)) {
        (Target::View(_) | Target::Folder(_), _) => FileType::Directory,
        (Target::Link(_), _) | (_, Some(Node::Symlink(_))) => FileType::Symlink,
        (_, Some(Node::Fifo)) => FileType::NamedPipe,
        (_, Some(Node::Socket)) => FileType::Socket,
        (_, Some(Node::CharDevice(..))) => FileType::CharDevice,
        (_, Some(Node::BlockDevice(..))) => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

impl Bridge {
    /// Asks `mounted`.
    pub fn new(mounted: Arc<Mounted>, for_others: bool) -> Bridge {
        Bridge { mounted, for_others, listings: Mutex::default(), next: AtomicU64::new(1) }
    }

    /// The answer to who asks for an attribute that is not there.
    ///
    /// `ls -l` asks each file for an access list and a label, twice as much as all else it asks for, unless it learns
    /// that there are none here. The kernel, when it asks for others, would take that for a failure.
    fn absent(&self, name: &[u8]) -> Errno {
        match is_label(name) && !self.for_others && !self.mounted.vault.is_labelled() {
            true => Errno::EOPNOTSUPP,
            false => Errno::NO_XATTR,
        }
    }

    fn listing(&self, handle: FileHandle) -> Option<Handle> {
        self.listings.lock().expect("no holder panics").get(&handle.0).cloned()
    }

    /// Gives what is in an open folder from `offset` on; the first two are the folder itself and the one above.
    fn list(
        &self,
        ino: u64,
        handle: FileHandle,
        offset: u64,
        mut out: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let listing = self.listing(handle).ok_or(Errno::EBADF)?;
        let mut listing = listing.lock().expect("no holder panics");
        let up = self.mounted.up(ino)?;
        for (number, ino, name) in [(1, ino, "."), (2, up, "..")] {
            if offset < number && out(Listed::Dots(number, ino, name)) {
                return Ok(());
            }
        }
        let time = match *listing {
            Listing::Folder(..) => FOR_EVER,
            Listing::View(_) if self.mounted.is_watched(ino) => Duration::ZERO,
            Listing::View(_) => FOR_NOW,
        };
        let listed = self.mounted.list(ino, &mut listing, offset.saturating_sub(2), |number, child| {
            out(Listed::Child(number + 3, child, time))
        });
        match listed {
            // What was given already is worth more than the error, which comes back.
            Err(_) if offset < 2 => Ok(()),
            listed => Ok(listed?),
        }
    }
}

/// Something in a folder, with the offset of what follows it.
enum Listed<'a> {
    Dots(u64, u64, &'static str),
    Child(u64, &'a Child, Duration),
}

impl Filesystem for Bridge {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What an older kernel does not know costs time, and nothing else.
        for wanted in [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_PARALLEL_DIROPS] {
            let _ = config.add_capabilities(wanted);
        }
        if self.for_others && config.add_capabilities(InitFlags::FUSE_POSIX_ACL).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel knows no access lists in FUSE",
            ));
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.mounted.lookup(parent.0, name.as_bytes()) {
            Ok((child, stays)) => {
                self.mounted.saw(request.uid(), parent.0, Some(&child));
                let ino = self.mounted.hold(&child);
                let attributes = self.mounted.attributes_of(&child, ino);
                reply.entry(&time_of(stays), &attributes, GENERATION);
            }
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.mounted.inodes.forget(ino.0, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.mounted.attributes(ino.0) {
            Ok((attributes, stays)) => reply.attr(&time_of(stays), &attributes),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.mounted.link(ino.0) {
            Ok(to) => reply.data(&to),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The kernel then opens and closes files by itself, and keeps what was read.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.mounted.read(ino.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.mounted.open(ino.0) {
            Ok((listing, stays)) => {
                self.mounted.saw(request.uid(), ino.0, None);
                let handle = self.next.fetch_add(1, Ordering::Relaxed);
                let mut listings = self.listings.lock().expect("no holder panics");
                listings.insert(handle, Arc::new(Mutex::new(listing)));
                let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                reply.opened(FileHandle(handle), if stays { keep } else { FopenFlags::empty() });
            }
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.list(ino.0, handle, offset, |listed| match listed {
            Listed::Dots(next, ino, name) => reply.add(INodeNo(ino), next, FileType::Directory, name),
            Listed::Child(next, child, _) => {
                let name = OsStr::from_bytes(&child.name);
                reply.add(INodeNo(child.number.ino), next, kind(child), name)
            }
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mounted = &self.mounted;
        let listed = self.list(ino.0, handle, offset, |listed| match listed {
            // The kernel takes these two for names alone; they count as no lookup.
            Listed::Dots(next, ino, name) => {
                let folder = mounted.attributes(ROOT).map(|(root, _)| fuser::FileAttr {
                    ino: INodeNo(ino),
                    kind: FileType::Directory,
                    ..root
                });
                folder.is_ok_and(|folder| {
                    reply.add(INodeNo(ino), next, name, &Duration::ZERO, &folder, GENERATION)
                })
            }
            Listed::Child(next, child, time) => {
                let name = OsStr::from_bytes(&child.name);
                let ino = mounted.hold(child);
                let attributes = mounted.attributes_of(child, ino);
                let full = reply.add(INodeNo(ino), next, name, &time, &attributes, GENERATION);
                if full {
                    mounted.inodes.forget(ino, 1);
                }
                full
            }
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().expect("no holder panics").remove(&handle.0);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.mounted.xattrs(ino.0, |xattrs| {
            xattrs.iter().find(|(own, _)| own == name.as_bytes()).map(|(_, value)| value.clone())
        });
        match value {
            Ok(Some(value)) => give(&value, size, reply),
            Ok(None) => reply.error(self.absent(name.as_bytes())),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.mounted.xattrs(ino.0, |xattrs| {
            xattrs.iter().flat_map(|(name, _)| [name.as_slice(), b"\0"].concat()).collect::<Vec<u8>>()
        });
        match names {
            Ok(names) if names.len() > XATTR_LIST_MAX => reply.error(Errno::E2BIG),
            Ok(names) => give(&names, size, reply),
            Err(refusal) => reply.error(refusal.into()),
        }
    }
}

/// Gives a value, or its length where nothing but that is asked for.
fn give(value: &[u8], size: u32, reply: ReplyXattr) {
    match size {
        0 => reply.size(value.len() as u32),
        size if value.len() <= size as usize => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
