//! Files wait in a window until there are many: then they are read in the order in which the packs lie.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::apply::Apply;
use super::target::{Folder, Linked};
use crate::base::id::BlobId;
use crate::format::content::Content;
use crate::format::page::{Entry, Node};
use crate::repo::RepoError;

/// Files in a window; about as many as the memory for names and recipes allows.
const WINDOW_FILES: usize = 16_384;
/// Files that a thread takes at a time.
const TAKE_FILES: usize = 32;

/// A file that waits.
pub struct Planned {
    /// The folder it goes into.
    pub folder: Folder,
    /// Its logical path.
    pub path: Vec<u8>,
    /// The entry itself.
    pub entry: Entry,
    /// Where its last piece lies, for the order of reading.
    order: (u32, u16),
}

/// The first restored name of a link group, and what it holds.
struct First {
    folder: Folder,
    name: Vec<u8>,
    content: Content,
}

/// Collects files and restores them window by window.
pub struct Window<'a> {
    apply: &'a Apply<'a>,
    files: Vec<Planned>,
    links: Vec<Planned>,
    firsts: HashMap<u64, First>,
    threads: usize,
}

impl<'a> Window<'a> {
    /// An empty window.
    pub fn new(apply: &'a Apply<'a>, threads: usize) -> Window<'a> {
        let (files, links, firsts) = Default::default();
        Window { apply, files, links, firsts, threads: threads.max(1) }
    }

    /// Adds a file; restores all that wait when there are many.
    pub fn add(&mut self, folder: &Folder, path: Vec<u8>, entry: Entry) -> Result<(), RepoError> {
        let Node::File(file) = &entry.node else { return Ok(()) };
        let order = self.order(&file.content)?;
        let planned = |entry| Planned { folder: folder.clone(), path, entry, order };
        // A mail server gives each message a file of its own, and linking them back would tie them together.
        let group = file.link_group.filter(|_| file.content.messages() == 0);
        if let Some(group) = group {
            match self.firsts.get(&group) {
                Some(first) if first.content == file.content => {
                    self.links.push(planned(entry));
                    return Ok(());
                }
                Some(_) => {}
                None => {
                    let first = First {
                        folder: folder.clone(),
                        name: entry.name.clone(),
                        content: file.content.clone(),
                    };
                    self.firsts.insert(group, first);
                }
            }
        }
        self.files.push(planned(entry));
        if self.files.len() >= WINDOW_FILES { self.flush() } else { Ok(()) }
    }

    fn order(&self, content: &Content) -> Result<(u32, u16), RepoError> {
        let id: Option<BlobId> = match content {
            Content::Paged { root, .. } => Some(*root),
            // The last piece is the attachment, or else the text: what is large and shared.
            Content::Inline(sections) => {
                let pieces = sections.iter().rev().flat_map(|section| section.pieces.iter().rev());
                pieces.flat_map(|piece| piece.blobs().first()).next().copied()
            }
        };
        let Some(id) = id else { return Ok((0, 0)) };
        Ok(self.apply.reader.locate(&id)?.map_or((0, 0), |location| (location.pack, location.segment)))
    }

    /// Restores all files that wait.
    pub fn flush(&mut self) -> Result<(), RepoError> {
        let mut files = std::mem::take(&mut self.files);
        files.sort_by_key(|planned| planned.order);
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<RepoError>> = Mutex::new(None);
        let apply = self.apply;
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(TAKE_FILES, Ordering::Relaxed);
                        if start >= files.len() {
                            return;
                        }
                        for planned in &files[start..files.len().min(start + TAKE_FILES)] {
                            if let Err(error) = apply.file(&planned.folder, &planned.path, &planned.entry) {
                                failure.lock().expect("no holder panics").get_or_insert(error);
                                next.store(files.len(), Ordering::Relaxed);
                                return;
                            }
                        }
                    }
                });
            }
        });
        match failure.into_inner().expect("no holder panics") {
            Some(error) => Err(error),
            None => self.link(),
        }
    }

    fn link(&mut self) -> Result<(), RepoError> {
        for planned in std::mem::take(&mut self.links) {
            let Node::File(file) = &planned.entry.node else { continue };
            let written = self.apply.written_groups.lock().expect("no holder panics");
            let group = file.link_group.filter(|group| written.contains(group));
            drop(written);
            let first = group.and_then(|group| self.firsts.get(&group));
            let linked = first.map(|first| {
                self.apply.target.link(&planned.folder, &planned.entry.name, (&first.folder, &first.name))
            });
            match linked {
                Some(Ok(Linked::Done | Linked::Kept)) => self.apply.count(&planned.entry),
                Some(Err(error)) => self.apply.refused(&planned.path, &error),
                // The file system does not link, or the first name is not there: a file of its own holds as much.
                Some(Ok(Linked::Refused)) | None => {
                    self.apply.file(&planned.folder, &planned.path, &planned.entry)?;
                }
            }
        }
        Ok(())
    }
}
