//! Every page of every snapshot is read once; every blob that a file needs must be in a pack that is there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};

use super::finding::{Finding, Kind, Subject};
use super::structure::holds;
use super::{Check, FINDINGS_MAX};
use crate::base::bytes;
use crate::base::id::{BlobId, DomainId, HostId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::crypto::blob_id::BlobNamer;
use crate::format::content::{Content, ContentPage, Section};
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::index::{Index, PackNumber};
use crate::repo::RepoError;
use crate::repo::ledger::Ledger;
use crate::repo::packs::PackMap;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{content, tree, view};
use crate::store::Folder;

/// Plaintext of pages that is kept in memory.
const CACHE_BYTES: usize = 32 << 20;
/// Blobs known to be in the index; beyond this they are looked up again.
const KNOWN_BLOBS_MAX: usize = 1 << 20;

/// A page to be read.
enum Pending {
    /// Of a folder.
    Folder(tree::Awaited),
    /// Of a content.
    Content(content::Awaited),
}

impl Pending {
    /// The page and all that its place demands of it.
    fn mark(&self) -> [u8; 16] {
        match self {
            Pending::Folder(page) => page.mark(),
            Pending::Content(page) => page.mark(),
        }
    }
}

/// What is wrong below one snapshot.
#[derive(Default)]
struct Troubles {
    findings: Vec<Finding>,
    count: u64,
}

/// What the snapshots of one host share.
struct Shared<'a> {
    reader: BlobReader<'a>,
    index: &'a RwLock<Index>,
    domain: DomainId,
    /// Pages seen whole in their place; what many snapshots share is read once.
    seen: HashSet<[u8; 16]>,
    known: HashSet<BlobId>,
    pages: u64,
    blobs: u64,
}

/// One walk through a snapshot.
struct Walk<'s, 'a> {
    shared: &'s mut Shared<'a>,
    absent: &'s HashSet<PackNumber>,
    /// The snapshot, for messages.
    name: &'s str,
    /// Pages with the path of their folder or file, the next one last.
    pending: Vec<(Pending, Arc<[u8]>)>,
    troubles: Troubles,
}

/// Snapshots that a later one of the same host and job replaces, with that one.
///
/// Such a snapshot may lack blobs: its writer found out that it had leaned on doomed packs, and backed up again.
fn superseded(snapshots: &[SnapshotInfo]) -> HashMap<ObjectHash, ObjectHash> {
    let by_hash: HashMap<&ObjectHash, &SnapshotInfo> =
        snapshots.iter().map(|info| (&info.hash, info)).collect();
    let replaced = |later: &SnapshotInfo| {
        let old = by_hash.get(later.snapshot.replaces.as_ref()?)?;
        let of_one_run =
            old.host == later.host && old.snapshot.job == later.snapshot.job && old.sequence < later.sequence;
        of_one_run.then_some((old.hash, later.hash))
    };
    snapshots.iter().filter_map(replaced).collect()
}

impl Check<'_> {
    /// Walks the trees of all snapshots.
    pub(super) fn trees(&mut self, snapshots: &[SnapshotInfo]) -> Result<(), RepoError> {
        let packs = PackMap::new(Arc::clone(&self.repository.keys));
        let mut hosts: HashMap<(DomainId, HostId), Shared<'_>> = HashMap::new();
        let mut suffering: Vec<(&SnapshotInfo, Troubles)> = Vec::new();
        for info in snapshots {
            let Some(keys) = self.repository.keys.domain(&info.domain) else { continue };
            let (store, index) = (Arc::clone(&self.repository.store), self.index);
            let shared = hosts.entry((info.domain, info.host)).or_insert_with(|| Shared {
                reader: BlobReader::new(
                    store,
                    &packs,
                    BlobNamer::new(&keys.id_key, &info.host),
                    info.domain,
                    index,
                    CACHE_BYTES,
                ),
                index,
                domain: info.domain,
                seen: HashSet::new(),
                known: HashSet::new(),
                pages: 0,
                blobs: 0,
            });
            let mut troubles = Walk::through(info, shared, &self.absent, self.interrupt)?;
            // A prune at work moves blobs to other packs: look again where they are now.
            if troubles.count > 0 && self.index_is_behind()? {
                self.synchronise()?;
                troubles = Walk::through(info, shared, &self.absent, self.interrupt)?;
            }
            if troubles.count > 0 {
                let kept: usize = suffering.iter().map(|(_, troubles)| troubles.findings.len()).sum();
                troubles.findings.truncate(FINDINGS_MAX.saturating_sub(kept));
                suffering.push((info, troubles));
            }
            self.report.snapshots += 1;
        }
        self.report.pages += hosts.values().map(|shared| shared.pages).sum::<u64>();
        self.report.blobs += hosts.values().map(|shared| shared.blobs).sum::<u64>();
        self.tell(snapshots, suffering)
    }

    /// Have deltas come or gone since the index was brought into step?
    fn index_is_behind(&self) -> Result<bool, RepoError> {
        let listed = self.repository.store.list(Folder::Deltas)?;
        Ok(!listed.iter().map(|(place, _)| place).eq(&self.deltas))
    }

    /// Tells what is wrong with snapshots that still count.
    fn tell(
        &mut self,
        snapshots: &[SnapshotInfo],
        suffering: Vec<(&SnapshotInfo, Troubles)>,
    ) -> Result<(), RepoError> {
        if suffering.is_empty() {
            return Ok(());
        }
        // A prune may have taken one of them away while it was read.
        let there: HashSet<ObjectHash> = self
            .repository
            .store
            .list(Folder::Snapshots)?
            .iter()
            .filter_map(|(place, _)| place.hash().copied())
            .collect();
        let ledger = Ledger::read(self.repository)?;
        let superseded = superseded(snapshots);
        for (info, Troubles { findings, count }) in suffering {
            if !there.contains(&info.hash) || ledger.drops(&info.hash, &there) {
                continue;
            }
            if let Some(later) = superseded.get(&info.hash) {
                let text = format!(
                    "it lacks content in {count} places; its writer noticed, and made snapshot {} in its stead",
                    later.short()
                );
                self.remark(Subject::Snapshot, format!("snapshot {}", info.hash.short()), text);
                continue;
            }
            self.report.broken_snapshots += 1;
            self.report.finding_count += count - findings.len() as u64;
            findings.into_iter().for_each(|finding| self.find(finding));
        }
        Ok(())
    }
}

impl<'s, 'a> Walk<'s, 'a> {
    /// Walks through a snapshot.
    fn through(
        info: &SnapshotInfo,
        shared: &'s mut Shared<'a>,
        absent: &'s HashSet<PackNumber>,
        interrupt: &Interrupt,
    ) -> Result<Troubles, RepoError> {
        let name = format!("snapshot {}", info.hash.short());
        let (pending, troubles) = Default::default();
        let mut walk = Walk { shared, absent, name: &name, pending, troubles };
        for part in &info.snapshot.parts {
            walk.folder(&part.tree, view::part_folder(&part.path).into());
            while let Some((page, path)) = walk.pending.pop() {
                interrupt.check()?;
                walk.page(page, path)?;
            }
        }
        Ok(walk.troubles)
    }

    fn trouble(&mut self, kind: Kind, path: &[u8], text: impl Into<String>) {
        self.troubles.count += 1;
        if self.troubles.findings.len() < FINDINGS_MAX {
            let object = format!("{}, {}", self.name, bytes::display(path));
            self.troubles.findings.push(Finding::new(kind, Subject::File, object, text));
        }
    }

    fn folder(&mut self, tree: &Tree, path: Arc<[u8]>) {
        self.pending.extend(tree::Awaited::top(tree).map(|page| (Pending::Folder(page), path)));
    }

    fn page(&mut self, page: Pending, path: Arc<[u8]>) -> Result<(), RepoError> {
        let mark = page.mark();
        if self.shared.seen.contains(&mark) {
            return Ok(());
        }
        self.shared.pages += 1;
        let before = self.troubles.count;
        let read = match page {
            Pending::Folder(page) => self.tree_page(page, &path),
            Pending::Content(page) => self.content_page(page, &path),
        };
        match read {
            Ok(()) if self.troubles.count == before => drop(self.shared.seen.insert(mark)),
            Ok(()) => {}
            Err(error) if error.ends_the_run() => return Err(error),
            Err(error) => self.trouble(Kind::of(&error), &path, error.to_string()),
        }
        Ok(())
    }

    fn tree_page(&mut self, page: tree::Awaited, path: &Arc<[u8]>) -> Result<(), RepoError> {
        match page.read(&mut |id: &BlobId| self.shared.reader.page(id))? {
            Page::Fence(fences) => {
                let below = page.below(fences).into_iter().rev();
                self.pending.extend(below.map(|page| (Pending::Folder(page), Arc::clone(path))));
                Ok(())
            }
            Page::Leaf(entries) => entries.iter().try_for_each(|entry| self.entry(entry, path)),
        }
    }

    fn entry(&mut self, entry: &Entry, folder: &Arc<[u8]>) -> Result<(), RepoError> {
        let path = || -> Arc<[u8]> { view::join(folder, &entry.name).into() };
        match &entry.node {
            Node::Folder(tree) => self.folder(tree, path()),
            Node::File(file) => match &file.content {
                Content::Inline(sections) => {
                    let length = sections.iter().map(Section::length).fold(0, u64::saturating_add);
                    if length != file.size {
                        let text = "its recipe does not give as many bytes as the file has";
                        self.trouble(Kind::Damaged, &path(), text);
                    }
                    self.sections(sections, &path)?;
                }
                Content::Paged { root, levels, .. } => {
                    let top = content::Awaited::top(*root, *levels, Some(file.size));
                    self.pending.push((Pending::Content(top), path()));
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn content_page(&mut self, page: content::Awaited, path: &Arc<[u8]>) -> Result<(), RepoError> {
        match page.read(&mut |id: &BlobId| self.shared.reader.page(id))? {
            ContentPage::Leaf(sections) => self.sections(&sections, &|| Arc::clone(path)),
            ContentPage::Fence(pages) => {
                let below = page.below(pages).rev();
                self.pending.extend(below.map(|page| (Pending::Content(page), Arc::clone(path))));
                Ok(())
            }
        }
    }

    /// Looks up all blobs of some sections of one file.
    fn sections(&mut self, sections: &[Section], path: &dyn Fn() -> Arc<[u8]>) -> Result<(), RepoError> {
        let mut missing: Option<(BlobId, u64)> = None;
        for id in sections.iter().flat_map(|section| &section.pieces).flat_map(|piece| piece.blobs()) {
            if self.shared.known.contains(id) {
                continue;
            }
            self.shared.blobs += 1;
            let index = self.shared.index.read().expect("no holder panics");
            if holds(&index, &self.shared.domain, id, self.absent)? {
                if self.shared.known.len() < KNOWN_BLOBS_MAX {
                    self.shared.known.insert(*id);
                }
            } else {
                missing = Some(missing.map_or((*id, 1), |(first, count)| (first, count + 1)));
            }
        }
        match missing {
            None => {}
            Some((id, 1)) => self.trouble(Kind::Lost, &path(), format!("blob {id} is in no pack")),
            Some((id, count)) => {
                let text = format!("blob {id} and {} more are in no pack", count - 1);
                self.trouble(Kind::Lost, &path(), text);
            }
        }
        Ok(())
    }
}
