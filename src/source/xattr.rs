//! Extended attributes, the POSIX ACLs among them, as the system lists them.

use std::ffi::CString;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs;
use rustix::io::{Errno, Result};

use super::meta::Xattr;
use crate::base::limits;

/// Attributes of one entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Xattrs {
    /// Sorted by name.
    pub list: Vec<Xattr>,
    /// The attributes together passed [`limits::XATTR_INLINE_MAX`], so that some were left out.
    pub cut: bool,
}

/// The kernel's own bound for a list and for a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const SYSTEM_BYTES_MAX: usize = 64 << 10;

/// Nearly every entry has none, or one ACL: this is enough to learn so in one call.
const FIRST_GUESS: usize = 256;

fn read_growing(mut read: impl FnMut(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FIRST_GUESS);
    loop {
        match read(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(Errno::INTR) => {}
            Err(Errno::RANGE) if bytes.capacity() < SYSTEM_BYTES_MAX => {
                bytes = Vec::with_capacity(SYSTEM_BYTES_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

fn collect(names: &[u8], mut value: impl FnMut(&[u8]) -> Result<Vec<u8>>) -> Result<Xattrs> {
    let mut found = Xattrs::default();
    let mut total = 0;
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let value = match value(name) {
            Ok(value) => value,
            // Removed since it was listed, or listed by a file system that does not give it.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
        total += name.len() + value.len();
        if total > limits::XATTR_INLINE_MAX {
            found.cut = true;
            break;
        }
        found.list.push((name.to_vec(), value));
    }
    found.list.sort_unstable();
    Ok(found)
}

/// A file system without attributes has none.
fn none_if_unsupported(names: Result<Vec<u8>>) -> Result<Vec<u8>> {
    match names {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
        other => other,
    }
}

/// Reads the attributes of an open file or folder; one system call when it has none.
pub fn read_xattrs(fd: impl AsFd) -> Result<Xattrs> {
    let fd = fd.as_fd();
    let names = none_if_unsupported(read_growing(|buffer| fs::flistxattr(fd, spare_capacity(buffer))))?;
    collect(&names, |name| read_growing(|buffer| fs::fgetxattr(fd, name, spare_capacity(buffer))))
}

/// Reads the attributes of a link or a special file, which cannot be opened for reading, without following
/// it.
///
/// `name` is looked up in the folder `dir` by way of `/proc`, since no system call takes both; without
/// `/proc` the answer is `ENOENT`.
pub fn read_xattrs_path(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs> {
    let path = path_in(dir, name)?;
    let names =
        none_if_unsupported(read_growing(|buffer| fs::llistxattr(path.as_c_str(), spare_capacity(buffer))))?;
    collect(&names, |key| read_growing(|buffer| fs::lgetxattr(path.as_c_str(), key, spare_capacity(buffer))))
}

/// The path of a name in an open folder for the calls that take only paths.
pub fn path_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    CString::new(path).map_err(|_| Errno::INVAL)
}
