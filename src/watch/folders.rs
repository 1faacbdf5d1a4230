//! The folders below the start paths, watched as far as that goes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::source::dir::{Name, OpenDir};
use crate::source::exclude::Excludes;
use crate::source::file_system::FileSystem;
use crate::source::meta::FileKey;
use crate::source::problem::join;
use crate::source::shape::is_of_messages;
use crate::source::start::{self, Start};
use crate::source::watch::{self, Event, Token, Watcher};

/// Folders that one process watches at most: the kernel keeps about a kilobyte for each.
const LIMIT_MAX: u64 = 1 << 20;
/// Where the system does not say how many one user may watch.
const LIMIT_USUAL: u64 = 8_192;

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How many folders to watch at most: half of what the system grants this user, whose mail server watches, too.
pub fn default_limit() -> usize {
    (watch::system_limit().unwrap_or(LIMIT_USUAL) / 2).min(LIMIT_MAX) as usize
}

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
    /// Most folders to watch.
    pub limit: usize,
}

/// A watched folder.
#[derive(Debug)]
struct Known {
    path: Vec<u8>,
    /// The device of its start.
    device: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// May hold folders.
    Any,
    /// `cur` or `new` of a Maildir: holds messages.
    Messages,
    /// Holds a start that is no folder: nothing else in it counts.
    Around(Name),
}

/// A folder to look into.
struct Wanted {
    path: Vec<u8>,
    /// The device of its start; `None` for the start itself.
    device: Option<u64>,
    of_messages: bool,
}

/// Watched folders.
#[derive(Debug)]
pub(super) struct Folders<'a> {
    what: &'a What<'a>,
    own: HashSet<FileKey>,
    /// `None` where there are no watchers.
    watcher: Option<Watcher>,
    known: HashMap<Token, Known>,
    next: Token,
    remote: HashMap<u64, bool>,
    /// Folders that nobody tells of, or not all.
    blind: u64,
    is_out_of_date: bool,
    /// What stood at the start paths: after a mount it is another folder, and nobody tells.
    starts: Vec<Option<FileKey>>,
}

fn keys_of(starts: &[Start]) -> Vec<Option<FileKey>> {
    starts.iter().map(|start| start::key_of(Path::new(OsStr::from_bytes(&start.path)))).collect()
}

impl<'a> Folders<'a> {
    /// Watches what is there now. Every change after the return is told, as far as [`Folders::sees_all`].
    pub(super) fn survey(what: &'a What<'a>) -> Folders<'a> {
        let own = what.own.iter().filter_map(|path| start::key_of(path)).collect();
        let mut folders = Folders {
            what,
            own,
            watcher: Watcher::attentive(what.limit).ok(),
            known: HashMap::new(),
            next: 0,
            remote: HashMap::new(),
            blind: 0,
            is_out_of_date: false,
            starts: keys_of(what.starts),
        };
        for start in what.starts {
            folders.begin(start);
        }
        folders
    }

    /// Is every folder watched, and told of by whoever changes it?
    pub(super) fn sees_all(&self) -> bool {
        self.blind == 0
    }

    /// Watched folders, and those that nobody tells of.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.watcher.as_ref().map_or(0, Watcher::count), self.blind)
    }

    /// Does it not know any more what it watches? Then a new survey is due before the next run.
    pub(super) fn is_out_of_date(&self) -> bool {
        self.is_out_of_date || self.starts != keys_of(self.what.starts)
    }

    /// Did anything change since the last call? Watches folders that are new.
    pub(super) fn have_changed(&mut self) -> bool {
        let events = self.watcher.as_mut().map(Watcher::drain).unwrap_or_default();
        let mut changed = false;
        for event in events {
            changed |= self.counts_as_change(event);
        }
        changed
    }

    fn counts_as_change(&mut self, event: Event) -> bool {
        let (token, name, has_come) = match event {
            Event::Overflow => {
                self.is_out_of_date = true;
                return true;
            }
            Event::FolderGone { token } => {
                // Moved away, perhaps: then what is below it has other paths now.
                self.is_out_of_date |= self.known.contains_key(&token);
                return true;
            }
            Event::Came { token, name, .. } => (token, name, true),
            Event::Went { token, name, .. } => (token, name, false),
        };
        let Some(known) = self.known.get(&token) else { return true };
        let (path, device) = (join(&known.path, &name), known.device);
        match &known.kind {
            Kind::Around(only) => return *only == name,
            _ if !name.is_empty() && self.what.excludes.leave_out(&known.path, &name, false) => return false,
            Kind::Messages => {}
            Kind::Any if has_come && !name.is_empty() => {
                self.add(Wanted { path, device: Some(device), of_messages: false });
            }
            Kind::Any => {}
        }
        true
    }

    fn begin(&mut self, start: &Start) {
        match openat(CWD, start.path.as_slice(), FOLDER_FLAGS, Mode::empty()) {
            Ok(_) => self.add(Wanted { path: start.path.clone(), device: None, of_messages: false }),
            Err(_) => {
                let (above, name) = start::split(&start.path);
                let above = if above.is_empty() { b"/" } else { above };
                let kind = Kind::Around(name.into());
                match self.open(above, None) {
                    Ok(dir) => self.watch(&dir, dir.key().0, kind),
                    Err(_) => self.blind += 1,
                }
            }
        }
    }

    fn open(&self, path: &[u8], device: Option<u64>) -> Result<OpenDir, Errno> {
        // A link at the end is followed for a start alone.
        let flags = if device.is_some() { FOLDER_FLAGS | OFlags::NOFOLLOW } else { FOLDER_FLAGS };
        OpenDir::from_fd(openat(CWD, path, flags, Mode::empty())?, path.to_vec())
    }

    /// Watches a folder and everything below it that a backup reads.
    fn add(&mut self, first: Wanted) {
        let mut left = vec![first];
        while let Some(Wanted { path, device, of_messages }) = left.pop() {
            let dir = match self.open(&path, device) {
                Ok(dir) => dir,
                // Nearly every name is a file, and some are gone again.
                Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => continue,
                Err(_) => {
                    self.blind += 1;
                    continue;
                }
            };
            let here = dir.key().0;
            let device = device.unwrap_or(here);
            if self.own.contains(&dir.key())
                || self.what.one_file_system && here != device
                || path != b"/" && self.is_left_out(&path)
            {
                continue;
            }
            self.watch(&dir, device, if of_messages { Kind::Messages } else { Kind::Any });
            if of_messages {
                continue;
            }
            // After the watch: what comes meanwhile is told.
            let (names, listed) = dir.names();
            if listed.is_err() {
                self.blind += 1;
            }
            let has = |wanted: &[u8]| names.iter().any(|(_, name)| **name == *wanted);
            let is_maildir = has(b"cur") && has(b"new");
            for (_, name) in names {
                // Deliveries begin in `tmp`; those that come to something end in `new`.
                if is_maildir && *name == *b"tmp" {
                    continue;
                }
                let of_messages = is_maildir && is_of_messages(&name);
                left.push(Wanted { path: join(&path, &name), device: Some(device), of_messages });
            }
        }
    }

    fn is_left_out(&self, path: &[u8]) -> bool {
        let (folder, name) = start::split(path);
        // A start itself is never left out.
        !self.what.starts.iter().any(|start| start.path == path)
            && self.what.excludes.leave_out(folder, name, true)
    }

    fn watch(&mut self, dir: &OpenDir, device: u64, kind: Kind) {
        let is_remote = *self.remote.entry(dir.key().0).or_insert_with(|| FileSystem::of(dir.fd()).is_remote);
        let token = self.next;
        let is_watched = match &mut self.watcher {
            Some(watcher) => watcher.watch(dir, token).unwrap_or(false),
            None => false,
        };
        if is_watched {
            self.next += 1;
            self.known.insert(token, Known { path: dir.path().to_vec(), device, kind });
        }
        if is_remote || !is_watched {
            self.blind += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Tree(tempfile::TempDir, Excludes);

    impl Tree {
        fn new() -> Tree {
            let root = tempfile::tempdir().unwrap();
            for folder in ["user/cur", "user/new", "user/tmp", "user/.Sent/cur", "user/.Sent/new", "own"] {
                fs::create_dir_all(root.path().join(folder)).unwrap();
            }
            Tree(root, Excludes::new(vec![b"*.lock".to_vec()]).unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn starts(&self, name: &str) -> Vec<Start> {
            vec![Start::new(&self.path(name), None).unwrap()]
        }

        fn what<'a>(&'a self, starts: &'a [Start], own: &'a [PathBuf], limit: usize) -> What<'a> {
            What { starts, excludes: &self.1, own, one_file_system: false, limit }
        }

        fn write(&self, name: &str) {
            fs::write(self.path(name), name).unwrap();
        }
    }

    fn make(path: &Path) {
        fs::create_dir_all(path).unwrap();
    }

    #[test]
    fn everything_but_what_is_left_out_wakes() {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), [tree.path("own")]);
        let what = tree.what(&starts, &own, 100);
        let mut folders = Folders::survey(&what);
        assert!(folders.sees_all());
        assert_eq!(folders.counts(), (7, 0), "neither tmp nor own");
        assert!(!folders.have_changed());
        for quiet in ["own/pack", "user/tmp/1", "user/uidlist.lock"] {
            tree.write(quiet);
            assert!(!folders.have_changed(), "{quiet}");
        }
        for loud in ["user/new/1", "user/.Sent/cur/2", "user/subscriptions", "user/subscriptions"] {
            tree.write(loud);
            assert!(folders.have_changed(), "{loud}");
        }
        fs::rename(tree.path("user/new/1"), tree.path("user/cur/1:2,S")).unwrap();
        assert!(folders.have_changed());
        fs::remove_file(tree.path("user/cur/1:2,S")).unwrap();
        assert!(folders.have_changed() && !folders.have_changed());
    }

    #[test]
    fn new_folders_are_watched_with_what_is_in_them() {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), []);
        let what = tree.what(&starts, &own, 100);
        let mut folders = Folders::survey(&what);
        make(&tree.path("moved/deep/er"));
        assert!(folders.have_changed());
        tree.write("moved/deep/er/1");
        assert!(folders.have_changed() && !folders.is_out_of_date());
        fs::rename(tree.path("moved"), tree.path("elsewhere")).unwrap();
        assert!(folders.have_changed() && folders.is_out_of_date());
        let mut folders = Folders::survey(&what);
        tree.write("elsewhere/deep/er/2");
        assert!(folders.have_changed());
    }

    #[test]
    fn what_is_over_the_limit_is_counted() {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), []);
        let what = tree.what(&starts, &own, 3);
        let folders = Folders::survey(&what);
        assert_eq!(folders.counts(), (3, 5));
        assert!(!folders.sees_all());
    }

    #[test]
    fn after_an_overflow_nothing_is_known() {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), []);
        let what = tree.what(&starts, &own, 100);
        let mut folders = Folders::survey(&what);
        assert!(folders.counts_as_change(Event::Overflow) && folders.is_out_of_date());
    }

    #[test]
    fn of_a_lone_file_only_its_own_changes_count() {
        let tree = Tree::new();
        tree.write("user/mbox");
        let (starts, own) = (tree.starts("user/mbox"), []);
        let what = tree.what(&starts, &own, 100);
        let mut folders = Folders::survey(&what);
        tree.write("user/other");
        assert!(!folders.have_changed());
        tree.write("user/mbox");
        assert!(folders.have_changed());
        let starts = tree.starts("not/there");
        let what = tree.what(&starts, &own, 100);
        let folders = Folders::survey(&what);
        assert!(!folders.sees_all() && !folders.is_out_of_date());
        make(&tree.path("not/there"));
        assert!(folders.is_out_of_date());
        assert!(Folders::survey(&what).sees_all());
    }
}
