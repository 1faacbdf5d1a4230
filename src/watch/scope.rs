//! Which folders and names count: the same, however they are watched.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use crate::source::dir::Name;
use crate::source::exclude::Excludes;
use crate::source::meta::{self, FileKey, Kind};
use crate::source::problem::join;
use crate::source::start::{self, Start, below};

/// What is watched.
#[derive(Debug)]
pub struct What<'a> {
    /// The start paths.
    pub starts: &'a [Start],
    /// What a backup leaves out: nobody is woken for that.
    pub excludes: &'a Excludes,
    /// Folders of the backup itself.
    pub own: &'a [PathBuf],
    /// Do not cross into other file systems.
    pub one_file_system: bool,
    /// Most folders to watch one by one.
    pub limit: usize,
    /// Watch no file system as a whole.
    pub each: bool,
}

/// What stands at a start path, by paths without links.
#[derive(Debug)]
pub(super) struct Ground {
    /// The folder itself, and its device; `None` when it is none.
    pub(super) folder: Option<(Vec<u8>, u64)>,
    /// The folder that holds it, and its name there.
    pub(super) above: Option<(Vec<u8>, Name)>,
}

/// How a folder counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// As a part of what is backed up, by its path there.
    Within(Vec<u8>),
    /// Holds a start path: nothing else in it counts.
    Around(Name),
}

/// The rules.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) what: &'a What<'a>,
    own: HashSet<FileKey>,
    /// One for each start path.
    pub(super) grounds: Vec<Ground>,
}

fn real(path: &[u8]) -> Option<Vec<u8>> {
    Path::new(OsStr::from_bytes(path)).canonicalize().ok().map(|path| path.into_os_string().into_vec())
}

fn folder_key(path: &[u8]) -> Option<FileKey> {
    let (kind, meta) = meta::of_entry(CWD, path).ok()?;
    (kind == Some(Kind::Directory)).then(|| meta.key())
}

fn is_there(folder: &[u8], name: &[u8]) -> bool {
    meta::of_entry(CWD, &join(folder, name)).is_ok()
}

impl Ground {
    fn of(start: &Start) -> Ground {
        let folder = real(&start.path).and_then(|path| folder_key(&path).map(|(device, _)| (path, device)));
        let (above, name) = start::split(&start.path);
        let above = real(if above.is_empty() { b"/" } else { above }).filter(|_| !name.is_empty());
        Ground { folder, above: above.map(|above| (above, name.into())) }
    }

    /// The folder that has to be watched for this start.
    pub(super) fn root(&self) -> Option<&[u8]> {
        let above = self.above.as_ref().map(|(path, _)| path.as_slice());
        self.folder.as_ref().map(|(path, _)| path.as_slice()).or(above)
    }
}

impl<'a> Scope<'a> {
    /// Looks at what stands at the start paths now.
    pub(super) fn new(what: &'a What<'a>) -> Scope<'a> {
        let own = what.own.iter().filter_map(|path| start::key_of(path)).collect();
        Scope { what, own, grounds: what.starts.iter().map(Ground::of).collect() }
    }

    /// Is a folder one that a backup looks into, whose parent is? `device` is that of its start.
    pub(super) fn takes(&self, path: &[u8], key: FileKey, device: u64) -> bool {
        !self.own.contains(&key)
            && (!self.what.one_file_system || key.0 == device)
            && (path == b"/" || !self.is_left_out(path))
    }

    fn is_left_out(&self, path: &[u8]) -> bool {
        let (folder, name) = start::split(path);
        // A start itself is never left out.
        !self.what.starts.iter().any(|start| start.path == path)
            && self.what.excludes.leave_out(folder, name, true)
    }

    /// All ways in which the folder that has this path without links counts.
    pub(super) fn sights(&self, path: &[u8]) -> Vec<Sight> {
        let mut sights = Vec::new();
        for (start, ground) in self.what.starts.iter().zip(&self.grounds) {
            sights.extend(self.path_within(start, ground, path).map(Sight::Within));
            let above = ground.above.as_ref().filter(|(above, _)| above == path);
            sights.extend(above.map(|(_, name)| Sight::Around(name.clone())));
        }
        sights
    }

    /// The path by which a backup reaches a folder from a start; `None` when it does not, or the folder is gone.
    pub(super) fn path_within(&self, start: &Start, ground: &Ground, path: &[u8]) -> Option<Vec<u8>> {
        let (root, device) = ground.folder.as_ref()?;
        let rest = below(path, root)?;
        let (mut real, mut reached) = (root.clone(), start.path.clone());
        if !self.takes(&reached, folder_key(&real)?, *device) {
            return None;
        }
        for name in rest.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            // Deliveries begin in `tmp`; those that come to something end in `new`.
            if name == b"tmp" && is_there(&real, b"cur") && is_there(&real, b"new") {
                return None;
            }
            (real, reached) = (join(&real, name), join(&reached, name));
            if !self.takes(&reached, folder_key(&real)?, *device) {
                return None;
            }
        }
        Some(reached)
    }

    /// The start paths without links, as far as there is something.
    pub(super) fn places(&self) -> Vec<Vec<u8>> {
        let places = self.what.starts.iter().zip(&self.grounds);
        places.map(|(start, ground)| ground.root().unwrap_or(&start.path).to_vec()).collect()
    }
}
