//! The repository as a mount holds it: readers on demand, and pages that stay decoded for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::base::id::BlobId;
use crate::base::limits;
use crate::base::recent::Recent;
use crate::crypto::blob_id::BlobNamer;
use crate::format::content::{Content, ContentPage, Section};
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::index::Index;
use crate::repo::content::Awaited;
use crate::repo::packs::PackMap;
use crate::repo::reader::{BlobReader, ReadCache};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tree::{self, Found, TreeError};
use crate::repo::{RepoError, Repository, deltas};

/// A snapshot that is shown, and how its blobs are read.
pub struct Shown {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// Its name in every list.
    pub name: String,
    namer: BlobNamer,
    /// Which segments and pages are its own kind's: those of one host and domain.
    space: u32,
}

/// Space, page, level; contents stand apart from folders.
type PageKey = (u32, BlobId, u8, bool);

#[derive(Clone)]
enum Decoded {
    Folder(Arc<Page>),
    Content(Arc<ContentPage>),
}

/// An opened repository that many threads read at once.
pub struct Vault {
    /// The repository.
    pub repository: Repository,
    /// Where its blobs lie.
    pub index: RwLock<Index>,
    packs: PackMap,
    segments: Arc<ReadCache>,
    pages: Mutex<Recent<PageKey, Decoded>>,
    labelled: AtomicBool,
}

impl Vault {
    /// Takes an opened repository, with an index that is in step.
    pub fn new(repository: Repository, index: RwLock<Index>, packs: PackMap) -> Vault {
        Vault {
            repository,
            index,
            packs,
            segments: Arc::new(ReadCache::new(limits::mount::SEGMENT_CACHE_BYTES)),
            pages: Mutex::new(Recent::new(limits::mount::PAGE_CACHE_BYTES)),
            labelled: AtomicBool::new(false),
        }
    }

    /// Makes a snapshot ready to be read; `None` when it is not for our key.
    pub fn show(&self, info: SnapshotInfo, name: String) -> Option<Shown> {
        let keys = self.repository.keys.domain(&info.domain)?;
        let namer = BlobNamer::new(&keys.id_key, &info.host);
        let space = self.segments.space(&info.host, &info.domain);
        Some(Shown { info, name, namer, space })
    }

    /// Reads what a snapshot refers to.
    pub fn reader(&self, shown: &Shown) -> BlobReader<'_> {
        let (store, namer) = (Arc::clone(&self.repository.store), shown.namer.clone());
        BlobReader::new(store, &self.packs, namer, shown.info.domain, &self.index, 0)
            .sharing(&self.segments, shown.space)
            .refreshing(Box::new(|| deltas::learn(&self.repository, &self.index)))
    }

    /// A page of a folder, so many levels above the leaves.
    pub fn page(&self, shown: &Shown, id: &BlobId, level: u8) -> Result<Arc<Page>, RepoError> {
        let key = (shown.space, *id, level, false);
        if let Some(Decoded::Folder(page)) = self.pages.lock().expect("no holder panics").get(&key) {
            return Ok(page);
        }
        let reader = self.reader(shown);
        let page = Arc::new(tree::read_page(id, level, &mut |id: &BlobId| reader.page(id))?);
        if is_labelled(&page) {
            self.labelled.store(true, Ordering::Relaxed);
        }
        self.keep(key, Decoded::Folder(Arc::clone(&page)), weight(&page));
        Ok(page)
    }

    /// Did anything that was looked at so far have an access list or a security label?
    pub fn is_labelled(&self) -> bool {
        self.labelled.load(Ordering::Relaxed)
    }

    /// A page of a folder that was promised by a fence, held against its place.
    pub fn awaited_page(&self, shown: &Shown, awaited: &tree::Awaited) -> Result<Arc<Page>, RepoError> {
        let page = self.page(shown, &awaited.page, awaited.level)?;
        awaited.check(&page).map_err(|error: TreeError<RepoError>| RepoError::from(error))?;
        Ok(page)
    }

    /// A page of a file's content, held against its place.
    pub fn content_page(&self, shown: &Shown, awaited: &Awaited) -> Result<Arc<ContentPage>, RepoError> {
        let key = (shown.space, awaited.page, 0, true);
        let held = self.pages.lock().expect("no holder panics").get(&key);
        if let Some(Decoded::Content(page)) = held {
            awaited.check(&page).map_err(|error: TreeError<RepoError>| RepoError::from(error))?;
            return Ok(page);
        }
        let reader = self.reader(shown);
        let page = Arc::new(awaited.read(&mut |id: &BlobId| reader.page(id))?);
        let weight = match &*page {
            ContentPage::Leaf(sections) => sections_weight(sections),
            ContentPage::Fence(pages) => pages.len() * size_of::<(BlobId, u64)>(),
        };
        self.keep(key, Decoded::Content(Arc::clone(&page)), weight);
        Ok(page)
    }

    /// Finds a name in a folder.
    pub fn find(
        &self,
        shown: &Shown,
        tree: &Tree,
        name: &[u8],
    ) -> Result<Option<Found<Arc<Page>>>, RepoError> {
        tree::find_in(tree, name, |id, level| self.page(shown, id, level))
    }

    fn keep(&self, key: PageKey, page: Decoded, weight: usize) {
        // The map and the shared pointers around it weigh, too.
        self.pages.lock().expect("no holder panics").insert(key, page, weight + 128);
    }
}

/// Is the name that of an access list or a security label?
pub fn is_label(name: &[u8]) -> bool {
    name.starts_with(b"system.") || name.starts_with(b"security.")
}

fn is_labelled(page: &Page) -> bool {
    let Page::Leaf(entries) = page else { return false };
    entries.iter().flat_map(|entry| &entry.xattrs).any(|(name, _)| is_label(name))
}

/// About the bytes that a decoded page takes in memory.
fn weight(page: &Page) -> usize {
    match page {
        Page::Leaf(entries) => entries.iter().map(entry_weight).sum(),
        Page::Fence(fences) => fences.iter().map(|fence| 128 + fence.first.len()).sum(),
    }
}

fn entry_weight(entry: &Entry) -> usize {
    let node = match &entry.node {
        Node::File(file) => match &file.content {
            Content::Inline(sections) => sections_weight(sections),
            Content::Paged { .. } => 0,
        },
        Node::Symlink(target) => target.len(),
        _ => 0,
    };
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
    size_of::<Entry>() + entry.name.len() + node + xattrs
}

fn sections_weight(sections: &[Section]) -> usize {
    let of_section = |section: &Section| {
        let blobs: usize = section.pieces.iter().map(|piece| 48 + 16 * piece.blobs().len()).sum();
        size_of::<Section>() + blobs + 16 * section.runs.len()
    };
    sections.iter().map(of_section).sum()
}
