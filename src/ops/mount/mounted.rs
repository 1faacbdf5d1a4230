//! What a mounted repository answers, without a word about how the system asks.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use fuser::{FileAttr, FileType};

use super::ahead::Ahead;
use super::attributes::{Owners, Shape};
use super::control::Control;
use super::folder::{Child, Cursor, Folder, Kept, Leaf, below};
use super::inode::{Inodes, Number, Target};
use super::roll::{Roll, Snapshots};
use super::users::Mailboxes;
use super::vault::Vault;
use super::views::{LATEST, Sight, View};
use super::witness::Witness;
use crate::base::{bytes, limits};
use crate::format::page::{Node, Xattr};
use crate::repo::extract::ExtractError;
use crate::repo::{RepoError, seek};

/// A question got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing of that name.
    Missing,
    /// The system asks for something that it forgot.
    Stale,
    /// It is no folder, no file, or no link.
    Kind,
    /// It cannot be read; that was told.
    Damaged,
}

/// Tells a person one line.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What a mount consists of.
pub struct Mounted {
    /// The repository.
    pub vault: Vault,
    /// Its snapshots.
    pub roll: Roll,
    /// Whose mail they hold.
    pub mailboxes: Mailboxes,
    /// Who owns what.
    pub owners: Owners,
    /// What the system knows.
    pub inodes: Inodes,
    /// Control folders for a mail server, if they are wanted.
    pub control: Option<Control>,
    /// Where it is mounted.
    pub place: PathBuf,
    /// Takes lines for people.
    pub tell: Tell,
    /// Sees who looks at whose mail.
    pub witness: Witness,
    /// What cannot be read.
    pub troubles: Troubles,
    /// Bytes read so far.
    pub bytes_read: AtomicU64,
    /// Reads ahead, once it is mounted.
    pub ahead: OnceLock<Ahead>,
}

/// What could not be read, told once.
#[derive(Default)]
pub struct Troubles {
    told: Mutex<HashSet<Vec<u8>>>,
    count: AtomicU64,
    fatal: Mutex<Option<RepoError>>,
}

impl Troubles {
    /// Knows of these already.
    pub fn knowing(told: impl Iterator<Item = String>) -> Troubles {
        Troubles { told: Mutex::new(told.map(String::into_bytes).collect()), ..Troubles::default() }
    }

    /// Tells and counts a trouble that is new.
    fn once(&self, key: &[u8], tell: impl FnOnce()) {
        let mut told = self.told.lock().expect("no holder panics");
        if told.contains(key) {
            return;
        }
        if told.len() < limits::mount::TOLD_MAX {
            told.insert(key.to_vec());
        }
        drop(told);
        self.count.fetch_add(1, Ordering::Relaxed);
        tell();
    }

    /// Files and folders that could not be read.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Why the mount cannot go on, if that is so.
    pub fn take_fatal(&self) -> Option<RepoError> {
        self.fatal.lock().expect("no holder panics").take()
    }

    /// Must the mount end?
    pub fn is_fatal(&self) -> bool {
        self.fatal.lock().expect("no holder panics").is_some()
    }
}

/// An open folder.
pub enum Listing {
    /// Of a view, as it was when it was opened.
    View(Vec<Child>),
    /// Of a folder of a snapshot; how many have been given.
    Folder(Box<Cursor>, u64),
}

impl Mounted {
    /// Tells what is wrong with something, unless it was told before.
    fn trouble(&self, path: &[u8], error: &dyn std::error::Error) -> Refusal {
        self.troubles.once(path, || {
            let shown = self.place.join(bytes::display(path));
            (self.tell)(&format!("{}: {error}", shown.display()));
        });
        Refusal::Damaged
    }

    /// What a failed repository means for the question at hand, and for the mount.
    fn failed(&self, path: &[u8], error: RepoError) -> Refusal {
        if error.ends_the_run() {
            self.troubles.fatal.lock().expect("no holder panics").get_or_insert(error);
            return Refusal::Damaged;
        }
        self.trouble(path, &error)
    }

    fn target(&self, ino: u64) -> Result<Target, Refusal> {
        self.inodes.get(ino).ok_or(Refusal::Stale)
    }

    /// The snapshots of this moment.
    fn snapshots(&self) -> Arc<Snapshots> {
        match self.roll.look(&self.vault) {
            Ok(unusable) => {
                for error in unusable.iter().map(ToString::to_string) {
                    self.troubles.once(error.as_bytes(), || (self.tell)(&error));
                }
            }
            Err(error) => drop(self.failed(b"", error)),
        }
        self.roll.current()
    }

    fn with_sight<T>(
        &self,
        view: &View,
        ask: impl FnOnce(&Sight<'_>) -> Result<T, RepoError>,
    ) -> Result<T, Refusal> {
        let snapshots = self.snapshots();
        let sight = Sight { vault: &self.vault, snapshots: &snapshots, mailboxes: &self.mailboxes };
        ask(&sight).map_err(|error| self.failed(&view.path(), error))
    }

    /// A user of this system lists a folder, or found something in it.
    pub fn saw(&self, uid: u32, ino: u64, child: Option<&Child>) {
        if let Some(Target::Folder(folder)) = self.inodes.get(ino) {
            // What cannot be read is told to whoever reads it.
            self.witness.saw(&self.vault, uid, &folder, child).ok();
        }
    }

    /// Finds a name in a folder. Does it stay as it is for ever?
    pub fn lookup(&self, up: u64, name: &[u8]) -> Result<(Child, bool), Refusal> {
        match self.target(up)? {
            Target::View(view) => {
                let child = self.with_sight(&view, |sight| view.child(sight, name))?;
                let child = child.ok_or(Refusal::Missing)?;
                self.prepare(&view, &child);
                Ok((child, false))
            }
            Target::Folder(folder) => {
                let found = folder.child(&self.vault, name);
                let child = found.map_err(|error| self.failed(&folder.path, error))?;
                Ok((child.ok_or(Refusal::Missing)?, true))
            }
            Target::Link(_) | Target::Entry(..) => Err(Refusal::Kind),
        }
    }

    /// Prepares a mail server's control folders for a user, or for a user's snapshot, that is entered now.
    fn prepare(&self, view: &View, child: &Child) {
        let Some(control) = &self.control else { return };
        let prepared = match (view, &child.target) {
            (View::User(user), Target::Folder(folder)) => control.prepare(self, user, folder),
            (View::User(_), Target::Link(name)) => self.prepare_latest(control, view, name),
            // Dovecot makes what is missing itself, or tries to, as soon as it has seen that the user is there.
            (View::Users, Target::View(user)) => {
                let latest = self.with_sight(user, |sight| user.child(sight, LATEST));
                match latest.ok().flatten().map(|latest| latest.target) {
                    Some(Target::Link(name)) => self.prepare_latest(control, user, &name),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        };
        if let Err(error) = prepared {
            self.trouble(&below(&view.path(), &child.name), &error);
        }
    }

    /// The link first, since whoever follows it may know already what it leads to.
    fn prepare_latest(&self, control: &Control, view: &View, name: &[u8]) -> Result<(), PrepareError> {
        let View::User(user) = view else { return Ok(()) };
        if let Ok(Some(Target::Folder(folder))) =
            self.with_sight(view, |sight| Ok(view.child(sight, name)?.map(|child| child.target)))
        {
            control.prepare(self, user, &folder)?;
        }
        control.point(user, name)
    }

    /// Must the system ask for a name in this folder each time, since something is done when it is entered?
    pub fn is_watched(&self, ino: u64) -> bool {
        let prepares = |target| matches!(target, Target::View(View::Users | View::User(_)));
        self.control.is_some() && self.inodes.get(ino).is_some_and(prepares)
    }

    /// The attributes of something that was just found, under the number that it got.
    pub fn attributes_of(&self, child: &Child, ino: u64) -> FileAttr {
        match (&child.entry, &child.target) {
            (Some(kept), _) => self.owners.attributes(ino, kept.entry()),
            (None, target) => self.made_up(ino, target),
        }
    }

    fn made_up(&self, ino: u64, target: &Target) -> FileAttr {
        let (shape, time) = match target {
            Target::View(view) => (Shape { kind: FileType::Directory, perm: view.mode(), size: 0 }, 0),
            Target::Link(to) => (Shape { kind: FileType::Symlink, perm: 0o777, size: to.len() as u64 }, 0),
            Target::Folder(folder) => {
                let started = folder.shown.info.snapshot.started;
                (Shape { kind: FileType::Directory, perm: 0o555, size: 0 }, started.into())
            }
            Target::Entry(..) => (Shape { kind: FileType::RegularFile, perm: 0, size: 0 }, 0),
        };
        self.owners.made_up(ino, &shape, time)
    }

    fn kept(&self, leaf: &Leaf, at: u16) -> Result<Kept, Refusal> {
        let page = self.vault.page(&leaf.folder.shown, &leaf.page, 0);
        let page = page.map_err(|error| self.failed(&leaf.folder.path, error))?;
        Kept::new(&page, usize::from(at)).ok_or(Refusal::Stale)
    }

    /// The attributes of an inode. Do they stay as they are for ever?
    pub fn attributes(&self, ino: u64) -> Result<(FileAttr, bool), Refusal> {
        let target = self.target(ino)?;
        let attributes = match &target {
            Target::Entry(leaf, at) => self.owners.attributes(ino, self.kept(leaf, *at)?.entry()),
            Target::Folder(folder) => match &folder.entry {
                Some(entry) => self.owners.attributes(ino, entry),
                None => self.made_up(ino, &target),
            },
            Target::View(_) | Target::Link(_) => self.made_up(ino, &target),
        };
        Ok((attributes, !matches!(target, Target::View(_))))
    }

    /// Where a link leads.
    pub fn link(&self, ino: u64) -> Result<Vec<u8>, Refusal> {
        match self.target(ino)? {
            Target::Link(to) => Ok(to.to_vec()),
            Target::Entry(leaf, at) => match &self.kept(&leaf, at)?.entry().node {
                Node::Symlink(to) => Ok(to.clone()),
                _ => Err(Refusal::Kind),
            },
            Target::View(_) | Target::Folder(_) => Err(Refusal::Kind),
        }
    }

    /// Gives the extended attributes of an inode to `ask`.
    pub fn xattrs<T>(&self, ino: u64, ask: impl FnOnce(&[Xattr]) -> T) -> Result<T, Refusal> {
        Ok(match self.target(ino)? {
            Target::Entry(leaf, at) => ask(&self.kept(&leaf, at)?.entry().xattrs),
            Target::Folder(folder) => ask(folder.entry.as_ref().map_or(&[], |entry| &entry.xattrs)),
            Target::View(_) | Target::Link(_) => ask(&[]),
        })
    }

    /// Opens a folder. Does what is in it stay as it is for ever?
    pub fn open(&self, ino: u64) -> Result<(Listing, bool), Refusal> {
        match self.target(ino)? {
            Target::View(view) => {
                let children = self.with_sight(&view, |sight| view.children(sight))?;
                Ok((Listing::View(children), false))
            }
            Target::Folder(folder) => Ok((Listing::Folder(Box::new(folder.open()), 0), true)),
            Target::Link(_) | Target::Entry(..) => Err(Refusal::Kind),
        }
    }

    /// Gives what is in an open folder from number `from` on, until `out` is full.
    pub fn list(
        &self,
        ino: u64,
        listing: &mut Listing,
        from: u64,
        mut out: impl FnMut(u64, &Child) -> bool,
    ) -> Result<(), Refusal> {
        match listing {
            Listing::View(children) => {
                for (number, child) in (0..).zip(children.iter()).skip(from as usize) {
                    if out(number, child) {
                        break;
                    }
                }
                Ok(())
            }
            Listing::Folder(cursor, given) => {
                if from < *given {
                    **cursor = cursor.rewound();
                    *given = 0;
                }
                let mut nothing = true;
                while let Some(child) = cursor.peek(&self.vault) {
                    if *given >= from {
                        if out(*given, child) {
                            return Ok(());
                        }
                        nothing = false;
                    }
                    *given += 1;
                    cursor.advance();
                }
                // What could be read was given; who asks for more learns that it is not all.
                match cursor.trouble.take() {
                    Some(error) if error.ends_the_run() => Err(self.failed(b"", error)),
                    Some(error) => {
                        let path = self.path(ino);
                        let refusal = self.trouble(&path, &error);
                        cursor.trouble = Some(error);
                        if nothing { Err(refusal) } else { Ok(()) }
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn path(&self, ino: u64) -> Vec<u8> {
        match self.inodes.get(ino) {
            Some(Target::Folder(folder)) => folder.path.clone(),
            Some(Target::View(view)) => view.path(),
            _ => Vec::new(),
        }
    }

    /// The folder that a folder lies in.
    pub fn up(&self, ino: u64) -> Result<u64, Refusal> {
        match self.target(ino)? {
            Target::View(view) => Ok(view.up().number().ino),
            Target::Folder(folder) => Ok(folder.up),
            Target::Link(_) | Target::Entry(..) => Err(Refusal::Kind),
        }
    }

    /// Reads a stretch of a file.
    pub fn read(&self, ino: u64, offset: u64, length: u32) -> Result<Vec<u8>, Refusal> {
        let Target::Entry(leaf, at) = self.target(ino)? else { return Err(Refusal::Kind) };
        let kept = self.kept(&leaf, at)?;
        if let (0, Some(ahead)) = (offset, self.ahead.get()) {
            ahead.note(&leaf, at);
        }
        let mut out = Vec::new();
        self.read_kept(&leaf.folder, &kept, offset..offset.saturating_add(length.into()), &mut out)?;
        self.bytes_read.fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(out)
    }

    /// Appends a stretch of an entry that lies in `folder`.
    pub fn read_kept(
        &self,
        folder: &Folder,
        kept: &Kept,
        range: std::ops::Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Node::File(file) = &kept.entry().node else { return Err(Refusal::Kind) };
        let (shown, vault) = (&folder.shown, &self.vault);
        let reader = vault.reader(shown);
        let read =
            seek::read_range(&reader, file, range, out, &mut |awaited| vault.content_page(shown, awaited));
        read.map_err(|error| {
            let path = below(&folder.path, &kept.entry().name);
            match error {
                ExtractError::Repository(error) => self.failed(&path, error),
                error => self.trouble(&path, &error),
            }
        })
    }

    /// Counts a lookup of something found.
    pub fn hold(&self, child: &Child) -> u64 {
        let number: Number = child.number;
        self.inodes.hold(number, || child.target.clone())
    }
}

/// A mail server's folder could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {path}: {source}")]
pub struct PrepareError {
    /// What was tried.
    pub verb: &'static str,
    /// With what.
    pub path: String,
    /// Why it failed.
    pub source: io::Error,
}
