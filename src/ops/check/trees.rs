//! Every page of every snapshot is read once; every blob that a file needs must be in the index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Check;
use crate::base::bytes;
use crate::base::id::{BlobId, DomainId, HostId};
use crate::crypto::blob_id::BlobNamer;
use crate::format::content::{Content, ContentPage, Section};
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::repo::RepoError;
use crate::repo::packs::PackMap;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tree::read_page;

/// Plaintext of pages that is kept in memory.
const CACHE_BYTES: usize = 32 << 20;
/// Blobs known to be in the index; beyond this they are looked up again.
const KNOWN_BLOBS_MAX: usize = 1 << 20;

/// A page to be read: its id, level, path of the folder, and whether it belongs to a content.
type Pending = (BlobId, u8, Arc<[u8]>, bool);

struct TreeCheck<'a> {
    reader: BlobReader<'a>,
    domain: DomainId,
    /// Pages seen whole; what many snapshots share is read once.
    seen: HashSet<BlobId>,
    known: HashSet<BlobId>,
    pending: Vec<Pending>,
}

impl Check<'_> {
    /// Walks the trees of all snapshots.
    pub(super) fn trees(&mut self, snapshots: &[SnapshotInfo]) -> Result<(), RepoError> {
        let packs = PackMap::new(Arc::clone(&self.repository.keys));
        let mut hosts: HashMap<(DomainId, HostId), TreeCheck<'_>> = HashMap::new();
        for info in snapshots {
            let Some(keys) = self.repository.keys.domain(&info.domain) else { continue };
            let store = Arc::clone(&self.repository.store);
            let namer = BlobNamer::new(&keys.id_key, &info.host);
            let tree_check = hosts.entry((info.domain, info.host)).or_insert_with(|| TreeCheck {
                reader: BlobReader::new(store, &packs, namer, info.domain, self.index, CACHE_BYTES),
                domain: info.domain,
                seen: HashSet::new(),
                known: HashSet::new(),
                pending: Vec::new(),
            });
            let name = format!("snapshot {}", info.hash.short());
            for part in &info.snapshot.parts {
                tree_check.folder(&part.tree, part.path.as_slice().into());
                while let Some(page) = tree_check.pending.pop() {
                    self.interrupt.check()?;
                    self.page(tree_check, page, &name)?;
                }
            }
            self.report.snapshots += 1;
        }
        Ok(())
    }

    fn page(
        &mut self,
        trees: &mut TreeCheck<'_>,
        (id, level, path, is_content): Pending,
        name: &str,
    ) -> Result<(), RepoError> {
        if trees.seen.contains(&id) {
            return Ok(());
        }
        self.report.pages += 1;
        let before = self.report.findings.len();
        let read = if is_content {
            self.content_page(trees, &id, level, &path, name)
        } else {
            self.tree_page(trees, &id, level, &path, name)
        };
        match read {
            Ok(()) if self.report.findings.len() == before => drop(trees.seen.insert(id)),
            Ok(()) => {}
            Err(error) if error.ends_the_run() => return Err(error),
            Err(error) => self.find(format!("{name}, {}", bytes::display(&path)), error.to_string()),
        }
        Ok(())
    }

    fn tree_page(
        &mut self,
        trees: &mut TreeCheck<'_>,
        id: &BlobId,
        level: u8,
        path: &Arc<[u8]>,
        name: &str,
    ) -> Result<(), RepoError> {
        match read_page(id, level, &mut |id: &BlobId| trees.reader.page(id))? {
            Page::Fence(fences) => {
                let below = fences.iter().rev().map(|fence| (fence.page, level - 1, Arc::clone(path), false));
                trees.pending.extend(below);
                Ok(())
            }
            Page::Leaf(entries) => entries.iter().try_for_each(|entry| self.entry(trees, entry, path, name)),
        }
    }

    fn entry(
        &mut self,
        trees: &mut TreeCheck<'_>,
        entry: &Entry,
        folder: &Arc<[u8]>,
        name: &str,
    ) -> Result<(), RepoError> {
        let path = || -> Arc<[u8]> { [folder, &b"/"[..], &entry.name].concat().into() };
        match &entry.node {
            Node::Folder(tree) => trees.folder(tree, path()),
            Node::File(file) => match &file.content {
                Content::Inline(sections) => {
                    if sections.iter().map(Section::length).sum::<u64>() != file.size {
                        let object = format!("{name}, {}", bytes::display(&path()));
                        self.find(object, "its recipe does not give as many bytes as the file has");
                    }
                    self.sections(trees, sections, &path, name)?;
                }
                Content::Paged { root, levels, .. } => trees.pending.push((*root, *levels, path(), true)),
            },
            _ => {}
        }
        Ok(())
    }

    fn content_page(
        &mut self,
        trees: &mut TreeCheck<'_>,
        id: &BlobId,
        level: u8,
        path: &Arc<[u8]>,
        name: &str,
    ) -> Result<(), RepoError> {
        let page = trees.reader.page(id)?;
        let wrong = |detail: String| RepoError::Page { page: *id, detail };
        match ContentPage::decode(page.as_ref()).map_err(|error| wrong(error.to_string()))? {
            ContentPage::Leaf(sections) if level == 0 => {
                self.sections(trees, &sections, &|| Arc::clone(path), name)
            }
            ContentPage::Fence(pages) if level > 0 => {
                let below = pages.iter().rev().map(|(page, _)| (*page, level - 1, Arc::clone(path), true));
                trees.pending.extend(below);
                Ok(())
            }
            _ => Err(wrong(format!("not a content page of level {level}"))),
        }
    }

    fn sections(
        &mut self,
        trees: &mut TreeCheck<'_>,
        sections: &[Section],
        path: &dyn Fn() -> Arc<[u8]>,
        name: &str,
    ) -> Result<(), RepoError> {
        for id in sections.iter().flat_map(|section| &section.pieces).flat_map(|piece| piece.blobs()) {
            if trees.known.contains(id) {
                continue;
            }
            self.report.blobs += 1;
            if self.index.read().expect("no holder panics").contains(&trees.domain, id)? {
                if trees.known.len() < KNOWN_BLOBS_MAX {
                    trees.known.insert(*id);
                }
            } else {
                self.find(format!("{name}, {}", bytes::display(&path())), format!("blob {id} is in no pack"));
            }
        }
        Ok(())
    }
}

impl TreeCheck<'_> {
    fn folder(&mut self, tree: &Tree, path: Arc<[u8]>) {
        self.pending.extend(tree.root.map(|root| (root, tree.levels, path, false)));
    }
}
