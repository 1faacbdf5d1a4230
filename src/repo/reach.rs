//! Everything that some snapshots refer to: each page is read once, however many snapshots share it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, RwLock};

use super::packs::PackMap;
use super::presence::Presence;
use super::reader::{Blob, BlobReader};
use super::snapshots::SnapshotInfo;
use super::tree::{self, read_page};
use super::view::join;
use super::{RepoError, Repository};
use crate::base::id::{BlobId, DomainId, HostId};
use crate::base::interrupt::Interrupt;
use crate::base::{bytes, limits};
use crate::crypto::blob_id::BlobNamer;
use crate::format::content::{Content, ContentPage, Section};
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::index::Index;

/// Plaintext of pages that is kept in memory for each host.
const CACHE_BYTES: usize = 16 << 20;
/// The user number of what belongs to no mailbox.
const NOBODY: u32 = u32::MAX;

/// A walk met something that it cannot read: what lies below is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{place} cannot be read")]
pub struct Unreadable {
    /// Snapshot and path.
    pub place: String,
    /// Why.
    pub source: RepoError,
}

/// A blob that is referred to.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Its domain.
    pub domain: DomainId,
    /// Its id.
    pub id: BlobId,
    /// Orders by user, then by folder and arrival: the user's number in the upper half.
    pub order: u64,
}

/// A path as a chain of names: a deep tree must not cost its whole path for each entry.
struct Path {
    above: Option<Arc<Path>>,
    name: Vec<u8>,
    depth: usize,
    /// Tells paths apart.
    key: [u8; 16],
}

impl Path {
    fn new(above: Option<&Arc<Path>>, name: &[u8]) -> Arc<Path> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&above.map_or([0; 16], |above| above.key)).update(name);
        let key = *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a key");
        let depth = above.map_or(0, |above| above.depth + 1);
        Arc::new(Path { above: above.cloned(), name: name.to_vec(), depth, key })
    }

    /// The whole path, for messages.
    fn joined(&self) -> Vec<u8> {
        match &self.above {
            None => self.name.clone(),
            Some(above) => join(&above.joined(), &self.name),
        }
    }
}

enum Item {
    Folder { tree: Tree, path: Arc<Path>, user: u32 },
    Page { id: BlobId, level: u8, path: Arc<Path>, user: u32 },
    Content { id: BlobId, level: u8, path: Arc<Path>, user: u32 },
}

struct OfHost<'a> {
    reader: BlobReader<'a>,
    domain: DomainId,
    seen: HashSet<BlobId>,
}

/// A walk over snapshots; goes on from one to the next without reading a page twice.
pub struct Reach<'a> {
    repository: &'a Repository,
    index: &'a RwLock<Index>,
    packs: &'a PackMap,
    interrupt: &'a Interrupt,
    hosts: BTreeMap<(DomainId, HostId), OfHost<'a>>,
    users: HashMap<[u8; 16], u32>,
    given: u32,
    /// Pages that were read.
    pub pages: u64,
}

type Emit<'e> = dyn FnMut(Reached) -> Result<(), RepoError> + 'e;

impl<'a> Reach<'a> {
    /// A walk that has seen nothing yet; the index must be in step.
    pub fn new(
        repository: &'a Repository,
        index: &'a RwLock<Index>,
        packs: &'a PackMap,
        interrupt: &'a Interrupt,
    ) -> Reach<'a> {
        let (hosts, users) = Default::default();
        Reach { repository, index, packs, interrupt, hosts, users, given: 0, pages: 0 }
    }

    /// Gives every blob that a snapshot refers to and that this walk has not given from the same page before.
    ///
    /// # Errors
    /// [`Unreadable`] with the first page that cannot be read; the reason may also be that `emit` failed or that
    /// the user wants to stop.
    pub fn snapshot(&mut self, info: &SnapshotInfo, emit: &mut Emit<'_>) -> Result<(), Unreadable> {
        let key = (info.domain, info.host);
        let mut of_host = match self.hosts.remove(&key) {
            Some(of_host) => of_host,
            None => self.enter(info)?,
        };
        let walked = self.walk(&mut of_host, info, emit);
        self.hosts.insert(key, of_host);
        walked
    }

    /// Does `presence` hold everything that a snapshot refers to?
    ///
    /// # Errors
    /// What cannot be read for now is an error, not an answer.
    pub fn is_whole(&mut self, info: &SnapshotInfo, presence: &Presence<'_>) -> Result<bool, RepoError> {
        let mut lacking = None;
        let walked = self.snapshot(info, &mut |reached| match presence.holds(&reached.id)? {
            true => Ok(()),
            false => {
                lacking = Some(reached.id);
                Err(RepoError::MissingBlob { id: reached.id })
            }
        });
        match walked {
            Ok(()) => Ok(true),
            Err(_) if lacking.is_some() => Ok(false),
            Err(Unreadable { source: RepoError::MissingBlob { .. }, .. }) => Ok(false),
            Err(Unreadable { source: RepoError::Store(error), .. }) if error.is_missing() => Ok(false),
            Err(error) => Err(error.source),
        }
    }

    fn enter(&self, info: &SnapshotInfo) -> Result<OfHost<'a>, Unreadable> {
        let place = format!("snapshot {}", info.hash.short());
        let keys = self.repository.keys.domain(&info.domain).ok_or_else(|| Unreadable {
            source: RepoError::NotForThisKey { object: place.clone() },
            place,
        })?;
        let (store, namer) = (Arc::clone(&self.repository.store), BlobNamer::new(&keys.id_key, &info.host));
        let reader = BlobReader::new(store, self.packs, namer, info.domain, self.index, CACHE_BYTES);
        Ok(OfHost { reader, domain: info.domain, seen: HashSet::new() })
    }

    fn walk(
        &mut self,
        host: &mut OfHost<'a>,
        info: &SnapshotInfo,
        emit: &mut Emit<'_>,
    ) -> Result<(), Unreadable> {
        let mut pending: Vec<Item> = Vec::new();
        for part in info.snapshot.parts.iter().rev() {
            let path = Path::new(None, super::view::part_folder(&part.path));
            pending.push(Item::Folder { tree: part.tree, path, user: NOBODY });
        }
        while let Some(item) = pending.pop() {
            let path = match &item {
                Item::Folder { path, .. } | Item::Page { path, .. } | Item::Content { path, .. } => {
                    path.clone()
                }
            };
            let step = self.interrupt.check().map_err(RepoError::from);
            step.and_then(|()| self.step(host, item, &mut pending, emit)).map_err(|source| Unreadable {
                place: format!("{} in snapshot {}", bytes::display(&path.joined()), info.hash.short()),
                source,
            })?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        host: &mut OfHost<'a>,
        item: Item,
        pending: &mut Vec<Item>,
        emit: &mut Emit<'_>,
    ) -> Result<(), RepoError> {
        match item {
            Item::Folder { tree, path, user } => {
                let Some(root) = tree.root else { return Ok(()) };
                if path.depth > limits::TREE_DEPTH_MAX + 64 {
                    let detail = "folders nested too deep".to_owned();
                    return Err(RepoError::Page { page: root, detail });
                }
                let user = if user == NOBODY && !host.seen.contains(&root) {
                    self.mailbox_at(host, &tree, &path)?
                } else {
                    user
                };
                pending.push(Item::Page { id: root, level: tree.levels, path, user });
                Ok(())
            }
            Item::Page { id, level, path, user } => {
                if !self.give(host, id, user, emit)? {
                    return Ok(());
                }
                match read_page(&id, level, &mut |id: &BlobId| host.reader.page(id))? {
                    Page::Fence(fences) => pending.extend(fences.iter().rev().map(|fence| Item::Page {
                        id: fence.page,
                        level: level - 1,
                        path: path.clone(),
                        user,
                    })),
                    Page::Leaf(entries) => {
                        let below = pending.len();
                        for entry in entries {
                            self.entry(host, &entry, (&path, user), pending, emit)?;
                        }
                        pending[below..].reverse();
                    }
                }
                Ok(())
            }
            Item::Content { id, level, path, user } => {
                if !self.give(host, id, user, emit)? {
                    return Ok(());
                }
                let page: Blob = host.reader.page(&id)?;
                let wrong = |detail: String| RepoError::Page { page: id, detail };
                match ContentPage::decode(page.as_ref()).map_err(|error| wrong(error.to_string()))? {
                    ContentPage::Leaf(sections) if level == 0 => self.sections(host, &sections, user, emit),
                    ContentPage::Fence(pages) if level > 0 => {
                        pending.extend(pages.iter().rev().map(|(id, _)| Item::Content {
                            id: *id,
                            level: level - 1,
                            path: path.clone(),
                            user,
                        }));
                        Ok(())
                    }
                    _ => Err(wrong(format!("not a content page of level {level}"))),
                }
            }
        }
    }

    /// The number of the mailbox whose root this folder is; a Maildir shows itself by its `cur`.
    fn mailbox_at(&mut self, host: &OfHost<'a>, tree: &Tree, path: &Arc<Path>) -> Result<u32, RepoError> {
        let found = tree::find(tree, b"cur", &mut |id: &BlobId| host.reader.page(id))?;
        match found {
            Some(Entry { node: Node::Folder(_), .. }) => Ok(self.user(path)),
            _ => Ok(NOBODY),
        }
    }

    fn user(&mut self, path: &Arc<Path>) -> u32 {
        let next = (self.users.len() as u32).min(NOBODY - 1);
        *self.users.entry(path.key).or_insert(next)
    }

    fn entry(
        &mut self,
        host: &OfHost<'a>,
        entry: &Entry,
        (folder, user): (&Arc<Path>, u32),
        pending: &mut Vec<Item>,
        emit: &mut Emit<'_>,
    ) -> Result<(), RepoError> {
        let path = || Path::new(Some(folder), &entry.name);
        match &entry.node {
            Node::Folder(tree) => pending.push(Item::Folder { tree: *tree, path: path(), user }),
            Node::File(file) => {
                // A mailbox file is somebody's own, wherever it lies.
                let is_mailbox = user == NOBODY && file.content.messages() > 1;
                let user = if is_mailbox { self.user(&path()) } else { user };
                match &file.content {
                    Content::Inline(sections) => self.sections(host, sections, user, emit)?,
                    Content::Paged { root, levels, .. } => {
                        pending.push(Item::Content { id: *root, level: *levels, path: path(), user });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn sections(
        &mut self,
        host: &OfHost<'a>,
        sections: &[Section],
        user: u32,
        emit: &mut Emit<'_>,
    ) -> Result<(), RepoError> {
        let ids = sections.iter().flat_map(|section| &section.pieces).flat_map(|piece| piece.blobs());
        for id in ids {
            emit(self.reached(host.domain, *id, user))?;
        }
        Ok(())
    }

    /// Gives a page, unless it was given before: then it is not to be read again.
    fn give(
        &mut self,
        host: &mut OfHost<'a>,
        id: BlobId,
        user: u32,
        emit: &mut Emit<'_>,
    ) -> Result<bool, RepoError> {
        if !host.seen.insert(id) {
            return Ok(false);
        }
        self.pages += 1;
        emit(self.reached(host.domain, id, user))?;
        Ok(true)
    }

    fn reached(&mut self, domain: DomainId, id: BlobId, user: u32) -> Reached {
        self.given = self.given.saturating_add(1);
        Reached { domain, id, order: u64::from(user) << 32 | u64::from(self.given) }
    }
}
