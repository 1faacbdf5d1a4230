//! A folder being assembled: entries arrive in any order, pages are written in order as far as they are complete.
//!
//! Whoever delivers the last entry of a folder finishes it and delivers the folder to its parent, and so on up:
//! no thread waits for another, and a folder of any size holds only what is still missing a predecessor.

use std::sync::{Arc, Mutex};

use super::scan::{SeenPage, Sight};
use super::whole_page::WholePage;
use crate::base::id::BlobId;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;
use crate::index::scan::Trace;
use crate::repo::RepoError;
use crate::repo::tree::{PageCut, TreeBuilder};
use crate::source::meta::{Kind, Meta};

/// What became of one listed name.
pub enum Slot {
    /// An entry of the snapshot, and what the next run is to know of it.
    Entry(Box<Entry>, Trace),
    /// The entries of this and the names that follow, all as they were: a page of the parent.
    Page(Box<WholePage>),
    /// Nothing: it vanished, or could not be read.
    Nothing,
}

struct Assembly<'a> {
    /// One per name, in order; delivered ones before `next` are in the builder already.
    slots: Vec<Option<Slot>>,
    next: usize,
    builder: Option<TreeBuilder<'a>>,
    /// Something that was listed has no entry.
    is_lacking: bool,
    /// Traces of the page at hand.
    traces: Vec<Trace>,
    /// The pages before it.
    pages: Vec<SeenPage>,
    /// Bytes of all pages, where they are kept at hand.
    contents: Vec<(BlobId, Vec<u8>)>,
}

/// A folder on its way into the snapshot.
pub struct FolderJob<'a> {
    /// The folder's own entry, still without its listing; `None` for the listing of a part.
    own: Option<Box<Entry>>,
    parent: Option<(Arc<FolderJob<'a>>, usize)>,
    /// Tells the scan cache what was seen.
    sight: Option<Sight>,
    assembly: Mutex<Assembly<'a>>,
    /// The finished listing of a part.
    finished: Mutex<Option<Tree>>,
}

impl<'a> FolderJob<'a> {
    /// The listing of a part, with `names` entries to come.
    pub fn part(cut: &'a PageCut, names: usize, sight: Option<Sight>) -> Arc<FolderJob<'a>> {
        Self::make(cut, names, None, None, sight)
    }

    /// A folder whose own entry goes into slot `slot` of `parent`.
    pub fn below(
        cut: &'a PageCut,
        names: usize,
        own: Entry,
        parent: (&Arc<FolderJob<'a>>, usize),
        sight: Option<Sight>,
    ) -> Arc<FolderJob<'a>> {
        let (parent, slot) = parent;
        Self::make(cut, names, Some(Box::new(own)), Some((Arc::clone(parent), slot)), sight)
    }

    fn make(
        cut: &'a PageCut,
        names: usize,
        own: Option<Box<Entry>>,
        parent: Option<(Arc<FolderJob<'a>>, usize)>,
        sight: Option<Sight>,
    ) -> Arc<FolderJob<'a>> {
        let mut slots = Vec::new();
        slots.resize_with(names, || None);
        let assembly = Assembly {
            slots,
            next: 0,
            builder: Some(TreeBuilder::new(cut)),
            is_lacking: false,
            traces: Vec::new(),
            pages: Vec::new(),
            contents: Vec::new(),
        };
        Arc::new(FolderJob { own, parent, sight, assembly: Mutex::new(assembly), finished: Mutex::new(None) })
    }

    /// What the next run is to know of a file of this folder.
    pub fn trace(&self, kind: &Kind, meta: &Meta) -> Trace {
        self.sight.as_ref().map_or(Trace::NONE, |sight| sight.trace(kind, meta))
    }

    /// Delivers entries to their slots; `store` stores a page.
    pub fn deliver(
        self: &Arc<Self>,
        delivered: impl IntoIterator<Item = (usize, Slot)>,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, RepoError>,
    ) -> Result<(), RepoError> {
        let mut finished = self.place(delivered, store)?;
        let mut job = Arc::clone(self);
        while let Some(tree) = finished {
            let Some((parent, slot)) = &job.parent else {
                *job.finished.lock().expect("no holder panics") = Some(tree);
                return Ok(());
            };
            let mut own = job.own.clone().expect("a folder below another has an entry");
            own.node = Node::Folder(tree);
            finished = parent.place([(*slot, Slot::Entry(own, Trace::NONE))], store)?;
            let parent = Arc::clone(parent);
            job = parent;
        }
        Ok(())
    }

    /// Places entries; gives the listing when they were the last.
    fn place(
        &self,
        delivered: impl IntoIterator<Item = (usize, Slot)>,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, RepoError>,
    ) -> Result<Option<Tree>, RepoError> {
        let mut assembly = self.assembly.lock().expect("no holder panics");
        let assembly = &mut *assembly;
        for (slot, what) in delivered {
            assembly.slots[slot] = Some(what);
        }
        let Assembly { contents, .. } = assembly;
        let keeps = self.sight.as_ref().is_some_and(Sight::keeps_contents);
        let store = &mut |page: &[u8]| {
            let id = store(page)?;
            if keeps {
                contents.push((id, page.to_vec()));
            }
            Ok::<_, RepoError>(id)
        };
        let Some(builder) = &mut assembly.builder else { return Ok(None) };
        while let Some(slot) = assembly.slots.get_mut(assembly.next) {
            match slot.take() {
                None => return Ok(None),
                Some(Slot::Entry(entry, trace)) => {
                    assembly.traces.push(trace);
                    if let Some(page) = builder.push(*entry, store)? {
                        assembly.pages.push((page, Some(std::mem::take(&mut assembly.traces))));
                    }
                }
                Some(Slot::Page(whole)) => {
                    assembly.next += whole.count();
                    if builder.push_page(whole.page, whole.bounds(), whole.totals, store)? {
                        assembly.pages.push((whole.page, None));
                        continue;
                    }
                    // It does not begin where a page does, for something before it has changed.
                    for (entry, trace) in whole.take_apart()? {
                        assembly.traces.push(trace);
                        if let Some(page) = builder.push(entry, store)? {
                            assembly.pages.push((page, Some(std::mem::take(&mut assembly.traces))));
                        }
                    }
                    continue;
                }
                Some(Slot::Nothing) => assembly.is_lacking = true,
            }
            assembly.next += 1;
        }
        assembly.slots = Vec::new();
        let mut builder = assembly.builder.take().expect("present above");
        if let Some(page) = builder.close_leaf(store)? {
            assembly.pages.push((page, Some(std::mem::take(&mut assembly.traces))));
        }
        let tree = builder.finish(store)?;
        if let Some(sight) = &self.sight {
            let (pages, contents) =
                (std::mem::take(&mut assembly.pages), std::mem::take(&mut assembly.contents));
            sight.tell(&tree, pages, contents, !assembly.is_lacking);
        }
        Ok(Some(tree))
    }

    /// The finished listing of a part; `None` while something is missing.
    pub fn take_finished(&self) -> Option<Tree> {
        self.finished.lock().expect("no holder panics").take()
    }
}
