//! Would a backup come to this file at all? The walk of a backup goes down to it, and to nothing else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::source::problem::join;
use crate::source::shape::find;
use crate::source::start::{Start, below};
use crate::source::walk::{Event, Folder, FolderState, LeftOut, Options, Walk};

/// How far the walk comes.
pub(super) enum Reached {
    /// Here, where the file is listed.
    Folder(Box<Folder>),
    /// This path, which is left out.
    Barred(Barred),
    /// The file is a start itself, or somebody moves what lies on the way.
    Unknown,
}

/// Something on the way to a file, or the file itself, that no backup comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// Its path on this host.
    pub path: Vec<u8>,
    /// Why; `None` for another file system.
    pub why: Option<LeftOut>,
}

/// Goes from the part of a snapshot that holds `path` down to it.
pub(super) fn reach<'a>(
    path: &Start,
    parts: impl Iterator<Item = &'a [u8]>,
    options: &Arc<Options>,
) -> Reached {
    let rests = parts.filter_map(|part| below(&path.logical, part).map(|rest| (part, rest)));
    // Of parts within each other the inner one.
    let Some((part, rest)) = rests.min_by_key(|(_, rest)| rest.len()) else { return Reached::Unknown };
    walk_to(path, part, rest, options).unwrap_or(Reached::Unknown)
}

fn walk_to(path: &Start, part: &[u8], rest: &[u8], options: &Arc<Options>) -> Option<Reached> {
    // With a slash at the end, for a link there was followed.
    let root = path.path.strip_suffix(rest).filter(|root| root.ends_with(b"/"))?;
    let start = Start::new(Path::new(OsStr::from_bytes(root)), Some(part)).ok()?;
    let mut walk = Walk::open(&start, Arc::clone(options)).ok()?;
    let (mut names, mut come) = (rest.split(|&byte| byte == b'/').peekable(), root.to_vec());
    while let Some(name) = names.next() {
        let Some(Event::Enter(folder)) = walk.next() else { return None };
        if folder.state == FolderState::MountPoint {
            return Some(Reached::Barred(Barred { path: come, why: None }));
        }
        come = join(&come, name);
        if find(&folder.entries, name).is_none() {
            let listed = folder.dir.as_ref()?.look(name.into()).ok()?;
            let why = walk.leaves_out(&folder, &listed)?;
            return Some(Reached::Barred(Barred { path: come, why: Some(why) }));
        }
        if names.peek().is_none() {
            return Some(Reached::Folder(folder));
        }
        walk.keep_to(name);
    }
    None
}
