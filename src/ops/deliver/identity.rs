//! Who lies where: every message of a mailbox by what Dovecot knows it by.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use rustix::io::Errno;

use super::dirs::{self, trouble};
use super::mailbox::Mailbox;
use super::{DeliverError, Part, Result};
use crate::base::{clock, limits};
use crate::mail::maildir;
use crate::mail::uidlist::Uidlist;
use crate::source::dir::OpenDir;
use crate::source::meta;
use crate::source::problem::join;

/// Nobody comes after this one.
const LAST: u32 = u32::MAX;

/// A message that lies in a folder, or did when it was looked for.
#[derive(Debug, Clone, Copy)]
struct Entry {
    folder: u32,
    part: Part,
    /// Its file name, in the arena.
    start: usize,
    length: u32,
    /// Brought by this run.
    is_brought: bool,
    /// It was there before the folder was looked at again.
    is_old: bool,
}

/// Where a message lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of its folder.
    pub(super) folder: usize,
    /// `cur` or `new`.
    pub(super) part: Part,
    /// Its file name.
    pub(super) name: Vec<u8>,
    /// Brought by this run.
    pub(super) is_brought: bool,
}

/// A folder whose messages are known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Below the root of the mailbox.
    pub(super) path: Vec<u8>,
    /// As people call it.
    pub(super) text: String,
}

/// How often a folder is listed in which names change meanwhile.
const LISTINGS_MAX: usize = 5;
/// A change that is older than this shows in the folder's time, seconds.
const SETTLED_SECONDS: i64 = 1;

/// Base names, and the names that they stand under.
type Names = HashMap<Box<[u8]>, Box<[u8]>>;

/// Names by what identifies them: a listing may miss a message that is renamed meanwhile, two hardly miss the same.
fn steady_names(dir: &OpenDir) -> Result<Names> {
    let trouble = trouble("list", dir, b"");
    let mut all = HashMap::new();
    for _ in 0..LISTINGS_MAX {
        let before = dir.meta().map_err(&trouble)?;
        let (names, outcome) = dir.names();
        outcome.map_err(&trouble)?;
        let known = all.len();
        all.extend(names.into_iter().map(|(_, name)| (maildir::base(&name).into(), name)));
        let quiet = dir.meta().map_err(&trouble)?.mtime() == before.mtime()
            && clock::now_seconds() - before.mtime_s > SETTLED_SECONDS;
        if quiet || all.len() == known {
            break;
        }
    }
    Ok(all)
}

/// What a folder's list says of base names, by their hashes.
#[derive(Default)]
struct Listed {
    /// Those that have a GUID of their own, and its hash.
    guids: HashMap<u64, u64>,
    /// All of them.
    bases: HashSet<u64>,
}

/// Does the mail server's index lie in the folder? Where it lies elsewhere, it may be lost as well.
fn has_index(folder: &OpenDir) -> bool {
    let is_there = |name: &[u8]| meta::of_entry(folder.fd(), name).is_ok();
    is_there(b"dovecot.index") || is_there(b"dovecot.index.log")
}

/// All messages of a mailbox; some 120 bytes each.
#[derive(Debug, Default)]
pub(super) struct Identities {
    hasher: RandomState,
    /// Hash of a base name or GUID -> the last of its links.
    heads: HashMap<u64, u32>,
    /// (entry, link before).
    links: Vec<(u32, u32)>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
    pub(super) folders: Vec<Known>,
    /// Folders, and hashes of base names that their lists still name though no message has them, where no index of the
    /// mail server remembers that it went: under such a name a message would get back a UID that clients saw go.
    relisted: HashSet<(usize, u64)>,
    /// Numbers of folders that cannot be read, and why.
    pub(super) broken: Vec<(usize, DeliverError)>,
    /// The separator of flags that this mailbox uses.
    pub(super) separator: Option<u8>,
}

impl Identities {
    /// Looks at all folders of a mailbox; those that cannot be read are noted.
    pub(super) fn of(mailbox: &Mailbox) -> Result<Identities> {
        let mut all = Identities::default();
        for folder in &mailbox.folders {
            all.folders.push(Known { path: folder.path.clone(), text: folder.text.clone() });
            let number = all.folders.len() - 1;
            match all.read(mailbox, number) {
                Ok(()) => {}
                Err(error) if error.is_full() => return Err(error),
                Err(error) => all.broken.push((number, error)),
            }
        }
        Ok(all)
    }

    /// Adds a folder that is looked at no further, and gives its number.
    pub(super) fn add_folder(&mut self, path: Vec<u8>, text: String) -> usize {
        self.folders.push(Known { path, text });
        self.folders.len() - 1
    }

    /// Looks at one folder (again): its list first, `new` before `cur`, since messages go that way.
    pub(super) fn read(&mut self, mailbox: &Mailbox, folder: usize) -> Result<()> {
        let path = self.folders[folder].path.clone();
        self.entries
            .iter_mut()
            .filter(|entry| entry.folder as usize == folder)
            .for_each(|entry| entry.is_old = true);
        let Listed { guids, mut bases } = match mailbox.control_of(&path)? {
            Some(control) => self.listed(&control)?,
            None => Listed::default(),
        };
        for part in [Part::New, Part::Cur] {
            let place = join(&path, part.name());
            let dir = match dirs::open_below(&mailbox.root, &place) {
                Ok(dir) => dir,
                // Half a folder, or one that was just removed.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(trouble("open", &mailbox.root, &place)(errno)),
            };
            for name in steady_names(&dir)?.values().filter(|name| !name.starts_with(b".")) {
                bases.remove(&self.hash(maildir::base(name)));
                self.add(folder, part, name, false, &guids);
            }
        }
        self.relisted.retain(|(of, _)| *of != folder);
        if !bases.is_empty() && !has_index(&mailbox.open_folder(&path)?) {
            self.relisted.extend(bases.into_iter().map(|base| (folder, base)));
        }
        Ok(())
    }

    /// Would a message of this base name get a UID that the folder gave away once?
    pub(super) fn is_relisted(&self, folder: &[u8], base: &[u8]) -> bool {
        let number = self.folders.iter().position(|known| known.path == folder);
        number.is_some_and(|number| self.relisted.contains(&(number, self.hash(base))))
    }

    /// What a folder's list says.
    fn listed(&self, control: &OpenDir) -> Result<Listed> {
        let bytes = dirs::read_small(control, b"dovecot-uidlist", limits::OBJECT_BYTES_MAX)
            .map_err(trouble("read", control, b"dovecot-uidlist"))?;
        let Some(list) = bytes.as_deref().and_then(Uidlist::parse) else { return Ok(Listed::default()) };
        let mut listed = Listed::default();
        for line in list.lines() {
            let base = self.hash(line.base());
            listed.bases.insert(base);
            if let Some(guid) = line.guid {
                listed.guids.insert(base, self.hash(guid));
            }
        }
        Ok(listed)
    }

    /// A number for a base name or GUID, of this process alone.
    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Adds a message.
    pub(super) fn bring(&mut self, folder: usize, part: Part, name: &[u8]) {
        self.add(folder, part, name, true, &HashMap::new());
    }

    fn add(&mut self, folder: usize, part: Part, name: &[u8], is_brought: bool, guids: &HashMap<u64, u64>) {
        let parsed = maildir::parse(name);
        if parsed.flags.is_some() && self.separator != Some(b':') {
            self.separator = Some(name[parsed.base.len()]);
        }
        let base = self.hash(parsed.base);
        let number = self.entries.len() as u32;
        self.entries.push(Entry {
            folder: folder as u32,
            part,
            start: self.arena.len(),
            length: name.len() as u32,
            is_brought,
            is_old: false,
        });
        self.arena.extend_from_slice(name);
        for hash in [Some(&base), guids.get(&base)].into_iter().flatten() {
            let before = self.heads.insert(*hash, self.links.len() as u32).unwrap_or(LAST);
            self.links.push((number, before));
        }
    }

    /// Says of the messages of a folder which ones this run brought, by the number of their base names.
    pub(super) fn mark_brought(&mut self, folder: usize, is_brought: impl Fn(u64) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| entry.folder as usize == folder) {
            let name = &self.arena[entry.start..entry.start + entry.length as usize];
            entry.is_brought |= is_brought(self.hasher.hash_one(maildir::base(name)));
        }
    }

    /// Messages with that base name or GUID, the last that was seen first; a few too many are possible.
    pub(super) fn find(&self, identity: &[u8]) -> Vec<Place> {
        let mut found = Vec::new();
        let mut at = self.heads.get(&self.hash(identity)).copied().unwrap_or(LAST);
        while let Some(&(entry, before)) = self.links.get(at as usize) {
            let Entry { folder, part, start, length, is_brought, is_old } = self.entries[entry as usize];
            at = before;
            if is_old {
                continue;
            }
            let name = self.arena[start..start + length as usize].to_vec();
            let place = Place { folder: folder as usize, part, name, is_brought };
            if !found.contains(&place) {
                found.push(place);
            }
        }
        found
    }
}
