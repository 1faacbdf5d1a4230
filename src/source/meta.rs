//! What the system says about an entry, from one `statx`.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Mode, Statx, StatxFlags, readlinkat};
use rustix::io::Result;
use rustix::path::Arg;

/// What kind of thing an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link and the bytes it points to.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
}

/// An extended attribute: its name with prefix, and its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What the system says about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky; no file type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Bytes of a regular file.
    pub size: u64,
    /// Modification time, whole seconds since 1970, rounded down.
    pub mtime_s: i64,
    /// Nanoseconds within the second of the modification time.
    pub mtime_ns: u32,
    /// Nanoseconds within the second of the change time.
    pub ctime_ns: u32,
    /// Change time, whole seconds since 1970.
    pub ctime_s: i64,
    /// Birth time in nanoseconds since 1970, where the file system keeps one.
    pub birth: Option<i64>,
    /// The file system it lies on.
    pub device: u64,
    /// Its number there; used again as soon as a file is deleted.
    pub inode: u64,
    /// Blocks of 512 bytes that it takes.
    pub blocks: u64,
    /// Extended attributes with the POSIX ACLs; empty in a listing, read from an open file or folder.
    pub xattrs: Vec<Xattr>,
}

/// What two looks at one thing have in common.
pub type FileKey = (u64, u64);

impl Meta {
    /// Device and inode.
    pub fn key(&self) -> FileKey {
        (self.device, self.inode)
    }

    /// Modification time, unix nanoseconds.
    pub fn mtime(&self) -> i64 {
        nanos(self.mtime_s, self.mtime_ns)
    }

    /// Change time, unix nanoseconds.
    pub fn ctime(&self) -> i64 {
        nanos(self.ctime_s, self.ctime_ns)
    }

    /// True when a file holds so few blocks that it must have holes worth looking for.
    pub fn maybe_sparse(&self) -> bool {
        self.size >= SPARSE_BYTES_MIN && self.blocks.saturating_mul(512) < self.size
    }
}

/// One number, as far as 64 bits reach: the years 1677 to 2262.
fn nanos(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into())
}

/// Files below this are read as they are: finding their holes costs more than their zeros.
const SPARSE_BYTES_MIN: u64 = 64 << 10;

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// An entry's kind without what only another system call can tell (a link's target).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawKind {
    Known(FileType),
    Device(FileType, u32, u32),
}

impl RawKind {
    /// The kind, given a symbolic link's target.
    pub(super) fn with_target(self, target: impl FnOnce() -> Result<Box<[u8]>>) -> Result<Option<Kind>> {
        Ok(Some(match self {
            RawKind::Known(FileType::RegularFile) => Kind::File,
            RawKind::Known(FileType::Directory) => Kind::Directory,
            RawKind::Known(FileType::Symlink) => Kind::Symlink(target()?),
            RawKind::Known(FileType::Fifo) => Kind::Fifo,
            RawKind::Known(FileType::Socket) => Kind::Socket,
            RawKind::Device(FileType::CharacterDevice, major, minor) => Kind::CharDevice { major, minor },
            RawKind::Device(_, major, minor) => Kind::BlockDevice { major, minor },
            RawKind::Known(_) => return Ok(None),
        }))
    }

    pub(super) fn is(self, file_type: FileType) -> bool {
        self == RawKind::Known(file_type)
    }
}

fn from_statx(stat: &Statx) -> (RawKind, Meta) {
    let mode = u32::from(stat.stx_mode);
    let file_type = FileType::from_raw_mode(mode);
    let kind = match file_type {
        FileType::CharacterDevice | FileType::BlockDevice => {
            RawKind::Device(file_type, stat.stx_rdev_major, stat.stx_rdev_minor)
        }
        other => RawKind::Known(other),
    };
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let birth = stat
        .stx_btime
        .tv_sec
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(stat.stx_btime.tv_nsec.into()))
        .filter(|_| has_birth);
    let meta = Meta {
        mode: Mode::from_raw_mode(mode).bits() & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        nlink: stat.stx_nlink,
        size: stat.stx_size,
        mtime_s: stat.stx_mtime.tv_sec,
        mtime_ns: stat.stx_mtime.tv_nsec,
        ctime_ns: stat.stx_ctime.tv_nsec,
        ctime_s: stat.stx_ctime.tv_sec,
        birth,
        device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
        inode: stat.stx_ino,
        blocks: stat.stx_blocks,
        xattrs: Vec::new(),
    };
    (kind, meta)
}

/// Looks at a name without following a link and without mounting anything.
pub(super) fn look_at(dir: impl AsFd, name: impl Arg) -> Result<(RawKind, Meta)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(from_statx(&rustix::fs::statx(dir, name, flags, WANTED)?))
}

/// Looks at an open file.
pub(super) fn look_at_open(fd: impl AsFd) -> Result<(RawKind, Meta)> {
    Ok(from_statx(&rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, WANTED)?))
}

/// Looks at a name in an open folder without following a link; no kind when it is one nobody knows.
pub fn of_entry(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(Option<Kind>, Meta)> {
    let (kind, meta) = look_at(dir, name)?;
    let kind = kind.with_target(|| Ok(readlinkat(dir, name, Vec::new())?.into_bytes().into()))?;
    Ok((kind, meta))
}

/// Looks at an open file or folder; without its extended attributes.
pub fn of_open(fd: impl AsFd) -> Result<Meta> {
    Ok(look_at_open(fd)?.1)
}
