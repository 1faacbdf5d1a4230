//! Where a walk starts, and under which path it is stored.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fd::AsFd;
use rustix::fs::CWD;

use super::SourceError;
use super::dir::OpenDir;
use super::meta;
use super::problem::join;
use crate::base::bytes;

/// A path to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The absolute path on this host, without `.` and `..`.
    pub path: Vec<u8>,
    /// The path it is stored under: the same unless another was asked for.
    pub logical: Vec<u8>,
    /// A trailing slash: a link is followed.
    follow: bool,
}

/// What a start path turned out to be.
pub(super) enum Found {
    Folder(OpenDir),
    /// Anything else: the folder that holds it, and its name there.
    Single(OpenDir, Box<[u8]>),
}

fn start_error(path: &[u8], error: std::io::Error) -> SourceError {
    SourceError::Start { path: bytes::display(path), error }
}

/// Checks an absolute path: returns it without doubled or trailing slashes.
pub fn logical_path(path: &[u8]) -> Result<Vec<u8>, SourceError> {
    let wrong = || SourceError::Logical { path: bytes::display(path) };
    if !path.starts_with(b"/") || path.contains(&0) {
        return Err(wrong());
    }
    let mut clean = Vec::with_capacity(path.len());
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        if name == b"." || name == b".." {
            return Err(wrong());
        }
        clean.push(b'/');
        clean.extend_from_slice(name);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Ok(clean)
}

/// Splits an absolute clean path into its folder and its name; `/` has no name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (&path[..1], &path[1..]),
        Some(cut) => (&path[..cut], &path[cut + 1..]),
        None => (b"", path),
    }
}

/// What of a clean path lies below another one, without a slash in front; empty when they are the same.
pub fn below<'a>(path: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(above)? {
        rest if above.ends_with(b"/") => Some(rest),
        [] => Some(b""),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Makes a path absolute. Links on the way are kept as the user wrote them, unless `..` follows one.
fn absolute(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.components().any(|component| component == Component::ParentDir) {
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => (folder, name),
            _ => (path, OsStr::new("")),
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        return Ok(join(&folder.canonicalize()?.into_os_string().into_vec(), name.as_bytes()));
    }
    Ok(std::path::absolute(path)?.into_os_string().into_vec())
}

impl Start {
    /// Takes a path as a user writes it, and the logical path to store it under if not its own.
    ///
    /// A link is recorded as a link, or followed when the path ends with a slash. Nothing is opened yet.
    pub fn new(path: &Path, logical: Option<&[u8]>) -> Result<Start, SourceError> {
        let given = path.as_os_str().as_bytes();
        let follow = given.ends_with(b"/") || given.ends_with(b"/.");
        let path = absolute(path).map_err(|error| start_error(given, error))?;
        let path = logical_path(&path)?;
        let logical = logical.map(logical_path).transpose()?.unwrap_or_else(|| path.clone());
        Ok(Start { path, logical, follow })
    }

    /// Opens the folder that holds it.
    pub fn around(&self) -> Result<OpenDir, SourceError> {
        let (folder, _) = split(&self.path);
        OpenDir::open_path(folder, folder.to_vec()).map_err(|errno| start_error(folder, errno.into()))
    }

    pub(super) fn find(&self) -> Result<Found, SourceError> {
        let trouble = |error: rustix::io::Errno| start_error(&self.path, error.into());
        let (folder, name) = split(&self.path);
        if !self.follow && !name.is_empty() {
            let parent = OpenDir::open_path(folder, folder.to_vec()).map_err(trouble)?;
            let (kind, _) = meta::look_at(parent.fd().as_fd(), name).map_err(trouble)?;
            if !kind.is(rustix::fs::FileType::Directory) {
                return Ok(Found::Single(parent, name.into()));
            }
            return parent.open_folder(name).map(Found::Folder).map_err(trouble);
        }
        OpenDir::open_path(&self.path, self.path.clone()).map(Found::Folder).map_err(trouble)
    }
}

/// Device and inode of a path, links followed; `None` when it is not there.
pub fn key_of(path: &Path) -> Option<meta::FileKey> {
    let path = path.canonicalize().ok()?;
    meta::look_at(CWD, path.as_path()).ok().map(|(_, meta)| meta.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_paths_are_plain() {
        assert_eq!(logical_path(b"/var//vmail/").unwrap(), b"/var/vmail");
        assert_eq!(logical_path(b"//").unwrap(), b"/");
        for wrong in [&b""[..], b"var", b"/var/../etc", b"/./a", b"/a\0b"] {
            assert!(logical_path(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(split(b"/"), (&b"/"[..], &b""[..]));
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
        assert_eq!(split(b"/a/b"), (&b"/a"[..], &b"b"[..]));
        assert_eq!(below(b"/a/b/c", b"/a"), Some(&b"b/c"[..]));
        assert_eq!(below(b"/a/b", b"/"), Some(&b"a/b"[..]));
        assert_eq!((below(b"/a", b"/a"), below(b"/", b"/")), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!((below(b"/ab", b"/a"), below(b"/a", b"/a/b")), (None, None));
    }

    #[test]
    fn user_paths_become_absolute() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        let start = Start::new(&real.join("a/../a/."), Some(b"/srv//mail/")).unwrap();
        assert_eq!(start.path, real.join("a").as_os_str().as_bytes());
        assert_eq!(start.logical, b"/srv/mail");
        let start = Start::new(&real.join("a/.."), None).unwrap();
        assert_eq!(start.path, real.as_os_str().as_bytes());
        assert!(Start::new(Path::new("a"), None).unwrap().path.ends_with(b"/a"));
        assert!(Start::new(&real.join("a"), Some(b"relative")).is_err());
    }
}
