//! Folders of a snapshot: those that were backed up, and those above them that make up their logical paths.

use std::collections::HashSet;
use std::sync::Arc;

use super::inode::{Number, Target};
use super::vault::{Shown, Vault};
use crate::base::id::BlobId;
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::repo::RepoError;
use crate::repo::tree::Awaited;
use crate::repo::view::{is_within, join, part_folder};

/// A folder.
pub struct Folder {
    /// The snapshot.
    pub shown: Arc<Shown>,
    /// Its inode number.
    pub ino: u64,
    /// That of the folder it lies in.
    pub up: u64,
    /// Where it stands below the mount's own folder, without a slash at either end.
    pub path: Vec<u8>,
    /// Its logical path in the snapshot.
    pub logical: Vec<u8>,
    /// What was backed up; nothing for a folder that only leads to what was.
    pub entry: Option<Entry>,
}

/// A leaf of a folder's listing.
pub struct Leaf {
    /// The folder.
    pub folder: Arc<Folder>,
    /// The leaf.
    pub page: BlobId,
}

/// Something in a folder.
pub struct Child {
    /// Its name.
    pub name: Vec<u8>,
    /// Its inode number.
    pub number: Number,
    /// What it is.
    pub target: Target,
    /// What was backed up; nothing for what no snapshot holds.
    pub entry: Option<Kept>,
}

/// An entry inside its page.
pub struct Kept {
    page: Arc<Page>,
    at: usize,
}

impl Kept {
    /// Entry number `at` of a leaf.
    pub fn new(page: &Arc<Page>, at: usize) -> Option<Kept> {
        match &**page {
            Page::Leaf(entries) if at < entries.len() => Some(Kept { page: Arc::clone(page), at }),
            _ => None,
        }
    }

    /// The entry.
    pub fn entry(&self) -> &Entry {
        match &*self.page {
            Page::Leaf(entries) => &entries[self.at],
            Page::Fence(_) => unreachable!("a leaf when it was made"),
        }
    }
}

/// Joins a path below the mount's own folder and a name.
pub fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { join(path, name) }
}

impl Folder {
    /// The topmost folder of a snapshot.
    pub fn top(shown: &Arc<Shown>, ino: u64, up: u64, path: Vec<u8>) -> Arc<Folder> {
        let shown = Arc::clone(shown);
        Arc::new(Folder { shown, ino, up, path, logical: b"/".to_vec(), entry: None })
    }

    /// The same folder in another place of the mount.
    pub fn moved(&self, ino: u64, up: u64, path: Vec<u8>) -> Arc<Folder> {
        let (shown, logical) = (Arc::clone(&self.shown), self.logical.clone());
        Arc::new(Folder { shown, ino, up, path, logical, entry: self.entry.clone() })
    }

    fn tree(&self) -> Option<&Tree> {
        match &self.entry.as_ref()?.node {
            Node::Folder(tree) => Some(tree),
            _ => None,
        }
    }

    fn inner(self: &Arc<Folder>, number: Number, name: &[u8], entry: Option<Entry>) -> Target {
        Target::Folder(Arc::new(Folder {
            shown: Arc::clone(&self.shown),
            ino: number.ino,
            up: self.ino,
            path: below(&self.path, name),
            logical: join(&self.logical, name),
            entry,
        }))
    }

    fn number(&self, name: &[u8]) -> Number {
        Number::of(self.ino, name, b"")
    }

    /// A folder on the way to a part.
    fn on_the_way(self: &Arc<Folder>, name: &[u8]) -> Child {
        let number = self.number(name);
        Child { name: name.to_vec(), number, target: self.inner(number, name, None), entry: None }
    }

    /// Finds a name.
    pub fn child(self: &Arc<Folder>, vault: &Vault, name: &[u8]) -> Result<Option<Child>, RepoError> {
        let find = |tree: &Tree| -> Result<Option<Child>, RepoError> {
            let Some(found) = vault.find(&self.shown, tree, name)? else { return Ok(None) };
            let leaf = Arc::new(Leaf { folder: Arc::clone(self), page: found.page });
            Ok(leaf.child(&found.leaf, found.at))
        };
        if let Some(tree) = self.tree() {
            return find(tree);
        }
        for part in self.parts_here() {
            if let Some(child) = find(part)? {
                return Ok(Some(child));
            }
        }
        Ok(self.names_on_the_way().contains(name).then(|| self.on_the_way(name)))
    }

    /// The listings of the parts that stand in this folder.
    fn parts_here(&self) -> impl Iterator<Item = &Tree> {
        let parts = self.shown.info.snapshot.parts.iter();
        parts.filter(|part| part_folder(&part.path) == self.logical).map(|part| &part.tree)
    }

    /// The names here that lead to parts further down.
    fn names_on_the_way(&self) -> HashSet<&[u8]> {
        let parts = self.shown.info.snapshot.parts.iter().map(|part| part_folder(&part.path));
        let further = parts.filter(|folder| is_within(folder, &self.logical) && *folder != self.logical);
        let skip = if self.logical == b"/" { 1 } else { self.logical.len() + 1 };
        further.filter_map(|folder| folder[skip..].split(|&byte| byte == b'/').next()).collect()
    }

    /// Begins a listing.
    pub fn open(self: &Arc<Folder>) -> Cursor {
        let (pending, given): (Vec<Awaited>, _) = match self.tree() {
            Some(tree) => (Awaited::top(tree).into_iter().collect(), None),
            None => (self.parts_here().filter_map(Awaited::top).collect(), Some(HashSet::new())),
        };
        Cursor { folder: Arc::clone(self), pending, leaf: None, given, peeked: None, trouble: None }
    }
}

impl Leaf {
    /// The entry number `at` of the leaf, of which `page` is the content.
    pub fn child(self: &Arc<Leaf>, page: &Arc<Page>, at: usize) -> Option<Child> {
        let kept = Kept::new(page, at)?;
        let entry = kept.entry();
        let number = self.folder.number(&entry.name);
        let target = match &entry.node {
            Node::Folder(_) => self.folder.inner(number, &entry.name, Some(entry.clone())),
            _ => Target::Entry(Arc::clone(self), u16::try_from(at).ok()?),
        };
        Some(Child { name: entry.name.clone(), number, target, entry: Some(kept) })
    }
}

/// A listing on its way, leaf by leaf; what cannot be read is passed over and told at the end.
pub struct Cursor {
    folder: Arc<Folder>,
    /// The next page is the last one.
    pending: Vec<Awaited>,
    leaf: Option<(Arc<Leaf>, Arc<Page>, usize)>,
    /// The names given so far, in a folder that several parts may stand in.
    given: Option<HashSet<Vec<u8>>>,
    /// What comes next, where somebody looked.
    peeked: Option<Child>,
    /// Why it is not complete.
    pub trouble: Option<RepoError>,
}

impl Cursor {
    /// The same listing from its beginning.
    pub fn rewound(&self) -> Cursor {
        self.folder.open()
    }

    /// What comes next in the folder, without going on.
    pub fn peek(&mut self, vault: &Vault) -> Option<&Child> {
        if self.peeked.is_none() {
            self.peeked = self.next(vault);
        }
        self.peeked.as_ref()
    }

    /// Goes on behind what was looked at.
    pub fn advance(&mut self) {
        self.peeked = None;
    }

    fn next(&mut self, vault: &Vault) -> Option<Child> {
        while let Some(child) = self.listed(vault) {
            if self.given.as_mut().is_none_or(|given| given.insert(child.name.clone())) {
                return Some(child);
            }
        }
        let given = self.given.as_mut()?;
        let name = self.folder.names_on_the_way().into_iter().find(|name| !given.contains(*name))?;
        given.insert(name.to_vec());
        Some(self.folder.on_the_way(name))
    }

    /// The next thing that stands in a listing.
    fn listed(&mut self, vault: &Vault) -> Option<Child> {
        loop {
            if let Some((leaf, page, at)) = &mut self.leaf {
                *at += 1;
                match leaf.child(page, *at - 1) {
                    Some(child) => return Some(child),
                    None => self.leaf = None,
                }
            }
            let awaited = self.pending.pop()?;
            match vault.awaited_page(&self.folder.shown, &awaited) {
                Ok(page) => match &*page {
                    Page::Fence(fences) => {
                        self.pending.extend(awaited.below(fences.clone()).into_iter().rev());
                    }
                    Page::Leaf(_) => {
                        let leaf = Leaf { folder: Arc::clone(&self.folder), page: awaited.page };
                        self.leaf = Some((Arc::new(leaf), page, 0));
                    }
                },
                Err(error) => self.trouble = self.trouble.take().or(Some(error)),
            }
        }
    }
}
