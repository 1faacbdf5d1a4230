//! Folders that are watched one by one, as far as that goes: where file systems cannot be watched as a whole.

use std::collections::{HashMap, HashSet};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::scope::Scope;
use crate::source::dir::{Name, OpenDir};
use crate::source::file_system::FileSystem;
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
pub(super) struct Wanted {
    pub(super) path: Vec<u8>,
    /// The device of its start; `None` for the start itself.
    pub(super) device: Option<u64>,
    pub(super) of_messages: bool,
}

/// Watched folders.
#[derive(Debug)]
pub(super) struct EachFolder {
    limit: usize,
    /// Made when the first folder is watched; `Err` where there are no watchers.
    watcher: Option<Result<Watcher, Errno>>,
    /// Devices that somebody else tells of.
    told: HashSet<u64>,
    known: HashMap<Token, Known>,
    next: Token,
    remote: HashMap<u64, bool>,
    /// Folders that nobody tells of, or not all.
    blind: u64,
    is_out_of_date: bool,
}

impl EachFolder {
    /// Watches none yet, and at most `limit`; never those on the devices that are `told` of otherwise.
    pub(super) fn new(limit: usize, told: HashSet<u64>) -> EachFolder {
        EachFolder {
            limit,
            watcher: None,
            told,
            known: HashMap::new(),
            next: 0,
            remote: HashMap::new(),
            blind: 0,
            is_out_of_date: false,
        }
    }

    /// Watched folders, and those that nobody tells of.
    pub(super) fn counts(&self) -> (usize, u64) {
        (
            self.watcher.as_ref().and_then(|watcher| watcher.as_ref().ok()).map_or(0, Watcher::count),
            self.blind,
        )
    }

    /// Does it not know any more what it watches?
    pub(super) fn is_out_of_date(&self) -> bool {
        self.is_out_of_date
    }

    /// Did anything change since the last call? Watches folders that are new.
    pub(super) fn have_changed(&mut self, scope: &Scope<'_>) -> bool {
        let Some(Ok(watcher)) = &mut self.watcher else { return false };
        let mut changed = false;
        for event in watcher.drain() {
            changed |= self.counts_as_change(scope, event);
        }
        changed
    }

    pub(super) fn counts_as_change(&mut self, scope: &Scope<'_>, event: Event) -> bool {
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
            _ if !name.is_empty() && scope.what.excludes.leave_out(&known.path, &name, false) => {
                return false;
            }
            Kind::Messages => {}
            Kind::Any if has_come && !name.is_empty() => {
                self.add(scope, Wanted { path, device: Some(device), of_messages: false });
            }
            Kind::Any => {}
        }
        true
    }

    /// Watches a start and everything below it.
    pub(super) fn begin(&mut self, scope: &Scope<'_>, start: &Start) {
        match openat(CWD, start.path.as_slice(), FOLDER_FLAGS, Mode::empty()) {
            Ok(_) => self.add(scope, Wanted { path: start.path.clone(), device: None, of_messages: false }),
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
    pub(super) fn add(&mut self, scope: &Scope<'_>, first: Wanted) {
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
            let device = device.unwrap_or(dir.key().0);
            if self.told.contains(&dir.key().0) || !scope.takes(&path, dir.key(), device) {
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

    fn watch(&mut self, dir: &OpenDir, device: u64, kind: Kind) {
        let is_remote = *self.remote.entry(dir.key().0).or_insert_with(|| FileSystem::of(dir.fd()).is_remote);
        let token = self.next;
        let limit = self.limit;
        let watcher = self.watcher.get_or_insert_with(|| Watcher::attentive(limit));
        let is_watched = match watcher {
            Ok(watcher) => watcher.watch(dir, token).unwrap_or(false),
            Err(_) => false,
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
