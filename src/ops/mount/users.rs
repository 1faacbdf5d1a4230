//! Whose mail the snapshots hold, and where it lies in them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use super::folder::{Child, Folder};
use super::inode::Target;
use super::roll::Snapshots;
use super::vault::{Shown, Vault};
use crate::base::id::ObjectHash;
use crate::base::limits;
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::mail::templates::Users;
use crate::repo::RepoError;
use crate::repo::tree::Awaited;
use crate::repo::view::{join, part_folder};

/// What a folder of mailbox files is called, below `/var`, `/var/spool` or a user's home.
const FOLDER_OF_FILES: &[u8] = b"mail";

/// The users of all snapshots, found once for each folder that differs between them.
pub struct Mailboxes {
    templates: Users,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The roots of each user's mail in any snapshot, as logical paths.
    roots: BTreeMap<String, BTreeSet<Vec<u8>>>,
    snapshots: HashSet<ObjectHash>,
    /// Folders by path and content that have been looked at.
    folders: HashSet<u64>,
}

impl Mailboxes {
    /// Nothing is known yet.
    pub fn new(templates: Users) -> Mailboxes {
        Mailboxes { templates, known: Mutex::default() }
    }

    /// Looks at the snapshots that are new.
    pub fn look(&self, vault: &Vault, snapshots: &Snapshots) -> Result<(), RepoError> {
        let mut known = self.known.lock().expect("no holder panics");
        for shown in &snapshots.shown {
            if !known.snapshots.contains(&shown.info.hash) {
                Search { vault, shown, templates: &self.templates, known: &mut known }.all()?;
                known.snapshots.insert(shown.info.hash);
            }
        }
        Ok(())
    }

    /// All users, sorted.
    pub fn users(&self) -> Vec<String> {
        self.known.lock().expect("no holder panics").roots.keys().cloned().collect()
    }

    /// Is that a user?
    pub fn knows(&self, user: &str) -> bool {
        self.known.lock().expect("no holder panics").roots.contains_key(user)
    }

    /// A user's mail in one snapshot, of which `top` is the topmost folder.
    ///
    /// Who has several places has the one with the most messages, and a folder rather than a file.
    pub fn find(&self, vault: &Vault, top: &Arc<Folder>, user: &str) -> Result<Option<Child>, RepoError> {
        let roots = self.known.lock().expect("no holder panics").roots.get(user).cloned();
        let mut best: Option<((bool, u64), Child)> = None;
        for root in roots.unwrap_or_default() {
            let Some(child) = walk(vault, top, &root)? else { continue };
            let worth = match child.entry.as_ref().map(|kept| &kept.entry().node) {
                Some(Node::Folder(tree)) => (true, tree.totals.messages),
                Some(Node::File(file)) => (false, file.content.messages()),
                _ => continue,
            };
            if best.as_ref().is_none_or(|(known, _)| worth > *known) {
                best = Some((worth, child));
            }
        }
        Ok(best.map(|(_, child)| child))
    }
}

/// What stands at a logical path below a folder.
pub fn walk(vault: &Vault, top: &Arc<Folder>, path: &[u8]) -> Result<Option<Child>, RepoError> {
    let mut folder = Arc::clone(top);
    let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        let Some(child) = folder.child(vault, name)? else { return Ok(None) };
        match (&child.target, names.peek()) {
            (_, None) => return Ok(Some(child)),
            (Target::Folder(inner), Some(_)) => folder = Arc::clone(inner),
            (_, Some(_)) => return Ok(None),
        }
    }
    Ok(None)
}

struct Search<'a> {
    vault: &'a Vault,
    shown: &'a Shown,
    templates: &'a Users,
    known: &'a mut Known,
}

impl Search<'_> {
    fn all(&mut self) -> Result<(), RepoError> {
        let parts = self.shown.info.snapshot.parts.iter();
        let mut open: Vec<(Vec<u8>, Tree)> =
            parts.map(|part| (part_folder(&part.path).to_vec(), part.tree)).collect();
        while let Some((path, tree)) = open.pop() {
            // Each folder is looked at once, and only so many are: a tree may be made to have no end.
            if tree.totals.messages == 0 || !self.is_new(&path, &tree) {
                continue;
            }
            let (mut folders, mut files) = (Vec::new(), Vec::new());
            self.list(&tree, |entry| match &entry.node {
                Node::Folder(tree) => folders.push((entry.name.clone(), *tree)),
                Node::File(file) if file.content.messages() > 0 => files.push(entry.name.clone()),
                _ => {}
            })?;
            let has = |name: &[u8]| folders.iter().any(|(folder, _)| folder == name);
            if has(b"cur") && has(b"new") {
                self.note(&path, &path);
            } else {
                if path.rsplit(|&byte| byte == b'/').next() == Some(FOLDER_OF_FILES) {
                    files.iter().for_each(|name| self.note(&join(&path, name), b""));
                }
                open.extend(folders.into_iter().map(|(name, tree)| (join(&path, &name), tree)));
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &[u8], top: &[u8]) {
        if let Some(mailbox) = self.templates.mailbox(path, top) {
            let root = path[..mailbox.root].to_vec();
            self.known.roots.entry(mailbox.user).or_default().insert(root);
        }
    }

    /// Was the same folder at the same path not looked at before?
    fn is_new(&mut self, path: &[u8], tree: &Tree) -> bool {
        let Some(root) = tree.root else { return false };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&root.0).update(&[tree.levels]).update(path);
        let mark = u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes"));
        self.known.folders.len() < limits::mount::SEEN_FOLDERS_MAX && self.known.folders.insert(mark)
    }

    /// Gives the entries of a folder; what cannot be read is passed over, and told when the folder is opened.
    fn list(&self, tree: &Tree, mut out: impl FnMut(&Entry)) -> Result<(), RepoError> {
        let mut pending: Vec<Awaited> = Awaited::top(tree).into_iter().collect();
        while let Some(awaited) = pending.pop() {
            match self.vault.awaited_page(self.shown, &awaited) {
                Ok(page) => match &*page {
                    Page::Leaf(entries) => entries.iter().for_each(&mut out),
                    Page::Fence(fences) => pending.extend(awaited.below(fences.clone())),
                },
                Err(error) if error.ends_the_run() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
