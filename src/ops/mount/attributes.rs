//! What the system is told of an entry.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo};

use crate::base::clock::{self, UnixNanos};
use crate::format::page::{Entry, Node, Owner};
use crate::source::names::Accounts;

const BLOCK: u64 = 512;

/// Finds the owner of an entry on this host: by name where it knows the name, else by number.
pub struct Owners {
    accounts: Accounts,
    numeric: bool,
    /// The permission bits that are shown.
    shown: u16,
    /// To whom the folders belong that no snapshot holds.
    own: (u32, u32),
}

impl Owners {
    /// With the accounts of this host; always by number when `numeric`. With `sealed` nobody seems to have the right to
    /// write.
    pub fn new(accounts: Accounts, numeric: bool, sealed: bool) -> Owners {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let shown = if sealed { 0o7555 } else { 0o7777 };
        Owners { accounts, numeric, shown, own }
    }

    fn of(&self, owner: &Owner) -> (u32, u32) {
        if self.numeric {
            return (owner.uid, owner.gid);
        }
        let uid = Some(&owner.user).filter(|name| !name.is_empty()).and_then(|name| self.accounts.uid(name));
        let gid = Some(&owner.group).filter(|name| !name.is_empty()).and_then(|name| self.accounts.gid(name));
        (uid.unwrap_or(owner.uid), gid.unwrap_or(owner.gid))
    }

    /// The attributes of an entry.
    pub fn attributes(&self, ino: u64, entry: &Entry) -> FileAttr {
        let (kind, size, rdev) = match &entry.node {
            Node::File(file) => (FileType::RegularFile, file.size, 0),
            Node::Folder(_) => (FileType::Directory, 0, 0),
            Node::Symlink(target) => (FileType::Symlink, target.len() as u64, 0),
            Node::Fifo => (FileType::NamedPipe, 0, 0),
            Node::Socket => (FileType::Socket, 0, 0),
            Node::CharDevice(major, minor) => (FileType::CharDevice, 0, device(*major, *minor)),
            Node::BlockDevice(major, minor) => (FileType::BlockDevice, 0, device(*major, *minor)),
        };
        let nanos = i128::from(entry.mtime_s) * 1_000_000_000 + i128::from(entry.mtime_ns);
        let (uid, gid) = self.of(&entry.owner);
        let shape = Shape { kind, perm: entry.mode & self.shown, size };
        FileAttr { uid, gid, rdev, ..attributes(ino, &shape, clock::system_time(nanos)) }
    }

    /// The attributes of a folder that no snapshot holds, or of a link between them.
    pub fn made_up(&self, ino: u64, shape: &Shape, time: UnixNanos) -> FileAttr {
        let (uid, gid) = self.own;
        FileAttr { uid, gid, ..attributes(ino, shape, clock::system_time(time)) }
    }
}

/// What an entry is, how it may be used, how long it is.
pub struct Shape {
    /// What it is.
    pub kind: FileType,
    /// Permission bits.
    pub perm: u16,
    /// Bytes.
    pub size: u64,
}

fn attributes(ino: u64, shape: &Shape, time: SystemTime) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: shape.size,
        blocks: shape.size.div_ceil(BLOCK),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: shape.kind,
        perm: shape.perm,
        // One is what programs take for "not counted" where folders are concerned.
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A device number as the kernel takes it: 12 bits major, 20 bits minor.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn devices_are_numbered_as_the_kernel_does() {
        for (major, minor) in [(8, 1), (259, 300), (4095, 0xfffff), (0, 0)] {
            let number = device(major, minor);
            let (back_major, back_minor) =
                ((number & 0xfff00) >> 8, (number & 0xff) | ((number >> 12) & 0xfff00));
            assert_eq!((back_major, back_minor), (major, minor));
        }
    }

    #[test]
    fn owners_go_by_name_where_the_host_knows_it() {
        let accounts = || Accounts::parse(b"vmail:x:5000:5000\n", b"mail:x:12:\n");
        let owner = Owner { uid: 150, gid: 8, user: b"vmail".to_vec(), group: b"mail".to_vec() };
        let strange = Owner { uid: 7, gid: 9, user: b"nobody-here".to_vec(), group: Vec::new() };
        assert_eq!(Owners::new(accounts(), false, false).of(&owner), (5000, 12));
        assert_eq!(Owners::new(accounts(), true, false).of(&owner), (150, 8));
        assert_eq!(Owners::new(accounts(), false, false).of(&strange), (7, 9));
    }

    #[test]
    fn times_before_1970_are_told() {
        let entry = Entry {
            name: b"old".to_vec(),
            mode: 0o4755,
            owner: Arc::new(Owner::default()),
            mtime_s: -2,
            mtime_ns: 500_000_000,
            xattrs: Vec::new(),
            node: Node::Symlink(b"there".to_vec()),
        };
        let told = Owners::new(Accounts::default(), false, false).attributes(9, &entry);
        let before = SystemTime::UNIX_EPOCH.duration_since(told.mtime).unwrap();
        assert_eq!((before.as_millis(), told.perm, told.size), (1_500, 0o4755, 5));
        assert_eq!(Owners::new(Accounts::default(), false, true).attributes(9, &entry).perm, 0o4555);
    }
}
