//! Walking a tree, one folder at a time, depth first.
//!
//! The protocol: [`Event::Enter`] gives a folder with all its entries; then each of its folders, in the order
//! of their names but for [`Shape::put_in_order`], comes as an `Enter` ... [`Event::Leave`] of its own; then `Leave`.
//! Every entry of kind
//! directory gets exactly one such pair, whatever became of it ([`FolderState`]), so that a consumer can
//! build the tree from the bottom up with one stack; but for those that it does not want to see
//! ([`Walk::pass_over`]). Entries that are left out are in no listing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::SourceError;
use super::calls::Calls;
use super::dir::{Listed, OpenDir};
use super::exclude::Excludes;
use super::file_system::FileSystem;
use super::ladder::Ladder;
use super::live::Live;
use super::meta::{FileKey, Kind, Meta};
use super::needless::{Needless, NeedlessCounts, holds_mail};
use super::problem::{Problem, What, join};
use super::shape::{Shape, is_of_messages};
use super::start::{self, Found, Start};
use super::xattr;
use crate::base::{bytes, clock, limits};

/// What a walk takes and leaves out.
#[derive(Debug, Default)]
pub struct Options {
    /// Stay on the file system of the start; a mount point is recorded as an empty folder.
    pub one_file_system: bool,
    /// Patterns to leave out.
    pub excludes: Excludes,
    /// Folders of the backup itself (repository, cache, keys), found by device and inode wherever they lie.
    pub own: Vec<PathBuf>,
    /// Watches the folders of messages from before they are listed.
    pub live: Option<Arc<Mutex<Live>>>,
    /// Also what a mail server makes again by itself: see [`Needless`].
    pub all_files: bool,
}

/// What became of a folder that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderState {
    /// Opened and listed, perhaps with problems.
    Read,
    /// The folder around a start that is no folder itself: holds that one entry, others were not looked at.
    Partial,
    /// Another file system is mounted there and was not entered: an empty folder.
    MountPoint,
    /// Could not be opened: its entry is all that is known.
    Unreadable,
    /// It is gone, or no folder any more: to be left out.
    Vanished,
}

/// A folder that the walk came to.
#[derive(Debug)]
pub struct Folder {
    /// The path below the start; empty for the start itself.
    pub path: Vec<u8>,
    /// What the system said when it was opened, with its extended attributes; as listed if it was not opened.
    pub meta: Meta,
    /// What became of it.
    pub state: FolderState,
    /// The file system it lies on.
    pub file_system: FileSystem,
    /// When it was opened, unix nanoseconds: right before it was listed, and after `meta` was read.
    pub seen: i64,
    /// To open its files with; keep it no longer than needed, it holds a descriptor.
    pub dir: Option<Arc<OpenDir>>,
    /// Its entries, sorted by name.
    pub entries: Vec<Listed>,
    /// What went wrong with the folder or with entries of it.
    pub problems: Vec<Problem>,
    /// Entries left out by a pattern or as part of the backup itself.
    pub left_out: u64,
    /// What it is, by what lies in it.
    pub shape: Shape,
    /// Entries left out because its mail server makes them again.
    pub needless: NeedlessCounts,
}

impl Folder {
    /// Its own name; empty for the start.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }
}

/// Why an entry is in no listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// It belongs to the backup itself.
    Own,
    /// A pattern says so.
    Pattern(String),
    /// Its mail server makes it again.
    Needless(Needless),
}

/// One step of a walk.
#[derive(Debug)]
pub enum Event {
    /// A folder; its own folders follow.
    Enter(Box<Folder>),
    /// All below the folder entered last and not left yet has been given.
    Leave,
}

/// Leaves out of a listing what the folder's mail server makes again.
fn leave_needless(shape: Shape, dir: &OpenDir, entries: &mut Vec<Listed>) -> NeedlessCounts {
    let mut counts = NeedlessCounts::default();
    entries.retain(|listed| match needless(shape, dir, listed) {
        Some(why) => {
            counts.add(why);
            false
        }
        None => true,
    });
    counts
}

fn needless(shape: Shape, dir: &OpenDir, listed: &Listed) -> Option<Needless> {
    let why = Needless::judge(shape, listed)?;
    let is_mail = listed.kind == Kind::Directory && holds_mail(dir, &listed.name);
    (!is_mail).then_some(why)
}

#[derive(Debug)]
struct Child {
    name: Box<[u8]>,
    meta: Meta,
}

#[derive(Debug)]
struct Frame {
    children: VecDeque<Child>,
    /// Length of the walk's path above this folder.
    parent_bytes: usize,
    on_ladder: bool,
    shape: Shape,
}

/// A walk through one start path.
#[derive(Debug)]
pub struct Walk {
    options: Arc<Options>,
    own: HashSet<FileKey>,
    logical: Vec<u8>,
    device: u64,
    calls: Arc<Calls>,
    /// By device.
    file_systems: HashMap<u64, FileSystem>,
    root: Option<Box<Folder>>,
    ladder: Ladder,
    frames: Vec<Frame>,
    /// Path of the folder entered last, below the start.
    path: Vec<u8>,
    /// Absolute path of the start.
    root_path: Vec<u8>,
}

impl Walk {
    /// Opens a start path and lists it.
    pub fn open(start: &Start, options: Arc<Options>) -> Result<Walk, SourceError> {
        let own: HashSet<FileKey> = options.own.iter().filter_map(|path| start::key_of(path)).collect();
        let (dir, single) = match start.find()? {
            Found::Folder(dir) => (dir, None),
            Found::Single(dir, name) => (dir, Some(name)),
        };
        let trouble =
            |error: Errno| SourceError::Start { path: bytes::display(&start.path), error: error.into() };
        let (root_path, device, calls) = (dir.path().to_vec(), dir.key().0, Arc::clone(dir.calls()));
        let mut walk = Walk {
            options,
            own,
            logical: start.logical.clone(),
            device,
            calls,
            file_systems: HashMap::new(),
            root: None,
            ladder: Ladder::default(),
            frames: Vec::new(),
            path: Vec::new(),
            root_path,
        };
        if walk.own.contains(&dir.key()) && single.is_none() {
            return Err(SourceError::Own { path: bytes::display(&start.path) });
        }
        let meta = dir.meta().map_err(trouble)?;
        let root = match single {
            None => walk.read_folder(Arc::new(dir), Vec::new(), meta),
            Some(real) => walk.single(start, dir, &real, meta)?,
        };
        walk.ladder = root.dir.as_ref().map(|dir| Ladder::new(Arc::clone(dir))).unwrap_or_default();
        walk.push_frame(&root, 0);
        walk.root = Some(Box::new(root));
        Ok(walk)
    }

    fn single(
        &mut self,
        start: &Start,
        dir: OpenDir,
        real: &[u8],
        meta: Meta,
    ) -> Result<Folder, SourceError> {
        let (folder, stored) = start::split(&start.logical);
        if stored.is_empty() {
            return Err(SourceError::Logical { path: bytes::display(&start.logical) });
        }
        self.logical = folder.to_vec();
        let dir = dir.with_alias(stored, real);
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        match dir.look(stored.into()) {
            Ok(listed) => entries.push(listed),
            Err(problem) => problems.push(problem),
        }
        let (file_system, seen) = (self.file_system(&dir), clock::now() as i64);
        let dir = Some(Arc::new(dir));
        Ok(Folder {
            path: Vec::new(),
            meta,
            state: FolderState::Partial,
            file_system,
            seen,
            dir,
            entries,
            problems,
            left_out: 0,
            shape: Shape::Plain,
            needless: NeedlessCounts::default(),
        })
    }

    /// Leaves out a folder of the folder entered last: nothing of it comes.
    pub fn pass_over(&mut self, name: &[u8]) {
        if let Some(frame) = self.frames.last_mut() {
            frame.children.retain(|child| *child.name != *name);
        }
    }

    /// Goes down into one folder of the folder entered last, and into no other.
    pub fn keep_to(&mut self, name: &[u8]) {
        if let Some(frame) = self.frames.last_mut() {
            frame.children.retain(|child| *child.name == *name);
        }
    }

    /// Why an entry that is in a folder is not in its listing.
    pub fn leaves_out(&self, folder: &Folder, listed: &Listed) -> Option<LeftOut> {
        let dir = folder.dir.as_ref()?;
        let excludes = &self.options.excludes;
        if self.is_own(listed) {
            return Some(LeftOut::Own);
        }
        match excludes.left_out_by(dir.path(), &listed.name, listed.kind == Kind::Directory) {
            Some(pattern) => Some(LeftOut::Pattern(pattern.to_owned())),
            None if self.options.all_files => None,
            None => needless(folder.shape, dir, listed).map(LeftOut::Needless),
        }
    }

    fn is_own(&self, listed: &Listed) -> bool {
        listed.kind == Kind::Directory && self.own.contains(&listed.meta.key())
    }

    /// The logical path of the first folder: of the start, or of the folder around a start that is none.
    pub fn logical(&self) -> &[u8] {
        &self.logical
    }

    /// What it asks of the system.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// The device that the start lies on.
    pub fn device(&self) -> u64 {
        self.device
    }

    fn file_system(&mut self, dir: &OpenDir) -> FileSystem {
        *self.file_systems.entry(dir.key().0).or_insert_with(|| FileSystem::of(dir.fd()))
    }

    fn read_folder(&mut self, dir: Arc<OpenDir>, path: Vec<u8>, mut meta: Meta) -> Folder {
        let (file_system, seen) = (self.file_system(&dir), clock::now() as i64);
        let mut listing = dir.list();
        match xattr::read_xattrs(dir.fd()) {
            Ok(xattrs) => {
                meta.xattrs = xattrs.list;
                if xattrs.cut {
                    let why = "extended attributes too large";
                    listing.problems.push(Problem::new(dir.path().to_vec(), What::Unsupported, why));
                }
            }
            Err(errno) => listing.problems.push(Problem::from_errno(dir.path().to_vec(), errno)),
        }
        // Before anything is left out of it: a pattern makes no other folder of it.
        let above = self.frames.last().map(|frame| frame.shape).unwrap_or_default();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let shape = Shape::of_dir(above, name, &dir, &listing.entries);
        let before = listing.entries.len();
        if !self.own.is_empty() || !self.options.excludes.is_empty() {
            listing.entries.retain(|listed| {
                let is_folder = listed.kind == Kind::Directory;
                !self.is_own(listed) && !self.options.excludes.leave_out(dir.path(), &listed.name, is_folder)
            });
        }
        let left_out = (before - listing.entries.len()) as u64;
        let needless = match self.options.all_files {
            true => NeedlessCounts::default(),
            false => leave_needless(shape, &dir, &mut listing.entries),
        };
        Folder {
            path,
            meta,
            state: FolderState::Read,
            file_system,
            seen,
            dir: Some(dir),
            left_out,
            entries: listing.entries,
            problems: listing.problems,
            shape,
            needless,
        }
    }

    fn push_frame(&mut self, folder: &Folder, parent_bytes: usize) {
        let mut children: Vec<Child> = folder
            .entries
            .iter()
            .filter(|listed| listed.kind == Kind::Directory)
            .map(|listed| Child { name: listed.name.clone(), meta: listed.meta.clone() })
            .collect();
        folder.shape.put_in_order(&mut children, |child| &child.name);
        let (on_ladder, shape) = (folder.state == FolderState::Read, folder.shape);
        self.frames.push(Frame { children: children.into(), parent_bytes, on_ladder, shape });
    }

    fn open_child(&mut self, child: &Child) -> Result<(Arc<OpenDir>, Meta), (FolderState, Option<Problem>)> {
        let path = || join(&self.root_path, &self.path);
        let unreadable = |what, why| (FolderState::Unreadable, Some(Problem::new(path(), what, why)));
        if self.options.one_file_system && child.meta.device != self.device {
            return Err((FolderState::MountPoint, None));
        }
        if self.ladder.depth() >= limits::TREE_DEPTH_MAX || self.path.len() > limits::PATH_BYTES_MAX {
            return Err(unreadable(What::Unsupported, "folders nested too deep"));
        }
        let parent = self
            .ladder
            .last()
            .map_err(|_| unreadable(What::Changed, "a folder above was moved while it was read"))?;
        let opened = parent.open_folder(&child.name).and_then(|dir| Ok((dir.meta()?, dir)));
        let (meta, dir) = opened.map_err(|errno| {
            let problem = Problem::from_errno(path(), errno);
            let gone = matches!(problem.what, What::Vanished | What::Changed);
            (if gone { FolderState::Vanished } else { FolderState::Unreadable }, Some(problem))
        })?;
        // What was listed may have been mounted over, or replaced, before it was opened.
        if self.own.contains(&dir.key()) || self.options.one_file_system && meta.device != self.device {
            return Err((FolderState::MountPoint, None));
        }
        Ok((Arc::new(dir), meta))
    }

    /// Watches a folder of messages that is about to be listed.
    fn watch(&mut self, name: &[u8], dir: &OpenDir, meta: &Meta) {
        let in_mail_folder = self.frames.last().is_some_and(|frame| frame.shape == Shape::Maildir);
        if let Some(live) = self.options.live.clone().filter(|_| in_mail_folder && is_of_messages(name)) {
            let is_remote = self.file_system(dir).is_remote;
            let logical = join(&self.logical, &self.path);
            live.lock().expect("no holder panics").list(dir, logical, meta, is_remote);
        }
    }

    fn descend(&mut self, child: Child) -> Folder {
        let parent_bytes = self.path.len();
        self.path = join(&self.path, &child.name);
        let folder = match self.open_child(&child) {
            Ok((dir, meta)) => {
                self.ladder.push(&child.name, Arc::clone(&dir));
                self.watch(&child.name, &dir, &meta);
                self.read_folder(dir, self.path.clone(), meta)
            }
            Err((state, problem)) => Folder {
                path: self.path.clone(),
                meta: child.meta,
                state,
                file_system: FileSystem { id: 0, settle: i64::MAX, tick: i64::MAX, is_remote: true },
                seen: 0,
                dir: None,
                entries: Vec::new(),
                problems: problem.into_iter().collect(),
                left_out: 0,
                shape: Shape::Plain,
                needless: NeedlessCounts::default(),
            },
        };
        self.push_frame(&folder, parent_bytes);
        folder
    }
}

impl Iterator for Walk {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if let Some(root) = self.root.take() {
            return Some(Event::Enter(root));
        }
        if let Some(child) = self.frames.last_mut()?.children.pop_front() {
            return Some(Event::Enter(Box::new(self.descend(child))));
        }
        let frame = self.frames.pop()?;
        self.path.truncate(frame.parent_bytes);
        if frame.on_ladder {
            self.ladder.pop();
        }
        Some(Event::Leave)
    }
}
