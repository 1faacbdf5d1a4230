//! Folders written anew, each once however many snapshots hold it.

use std::collections::{HashMap, HashSet};

use super::{Sieve, Tools, Verdict};
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::base::limits;
use crate::format::content::BlobKind;
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::repo::RepoError;
use crate::repo::blob_writer::{LocalSegments, LocalWriter};
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tree::{Awaited, PageCut, TreeBuilder};
use crate::repo::view::join;

/// A page, its place in its folder, and the logical path of its folder, in one hash.
type Key = [u8; 16];

/// Writes the folders of one host's snapshots anew.
pub(super) struct Folders<'a, 's> {
    reader: &'s BlobReader<'a>,
    interrupt: &'s Interrupt,
    cut: &'s PageCut,
    local: LocalWriter<'a>,
    sieve: &'s mut dyn Sieve,
    /// Pages at and below which everything stays.
    clean: HashSet<Key>,
    /// Listings of folders of which something went, by their old top page.
    anew: HashMap<Key, Tree>,
    /// Folders and pages looked at for the snapshot at hand.
    visits: u64,
}

/// No lawful snapshot has more; a folder that names another twice on each level would have more than can be counted.
const VISITS_MAX: u64 = 50_000_000;

/// What is left of an entry.
enum Sifted {
    Same(Box<Entry>),
    Other(Box<Entry>),
    Gone,
}

fn key(folder: &[u8], page: &Awaited) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&page.mark()).update(folder);
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a key")
}

impl<'a, 's> Folders<'a, 's> {
    pub(super) fn new(
        reader: &'s BlobReader<'a>,
        local: LocalWriter<'a>,
        cut: &'s PageCut,
        sieve: &'s mut dyn Sieve,
        interrupt: &'s Interrupt,
    ) -> Folders<'a, 's> {
        let (clean, anew) = Default::default();
        Folders { reader, interrupt, cut, local, sieve, clean, anew, visits: 0 }
    }

    pub(super) fn into_segments(self) -> LocalSegments {
        self.local.into_segments()
    }

    /// A snapshot's folders come.
    pub(super) fn begin(&mut self, info: &SnapshotInfo) {
        self.visits = 0;
        self.sieve.begin(info);
    }

    /// The listing of a folder as it is to be; `None` when everything stays.
    pub(super) fn tree(
        &mut self,
        folder: &[u8],
        tree: &Tree,
        depth: usize,
    ) -> Result<Option<Tree>, RepoError> {
        let Some(top) = Awaited::top(tree) else { return Ok(None) };
        if depth > limits::TREE_DEPTH_MAX {
            let error = RepoError::Page { page: top.page, detail: "folders nested too deep".to_owned() };
            self.sieve.broken(folder, error)?;
            return Ok(Some(Tree { root: None, levels: 0, totals: Default::default() }));
        }
        self.visits += 1;
        if self.visits > VISITS_MAX {
            let detail = "folders that repeat without end".to_owned();
            return Err(RepoError::Page { page: top.page, detail });
        }
        let key = key(folder, &top);
        if let Some(made) = self.anew.get(&key) {
            return Ok(Some(*made));
        }
        if self.is_clean(folder, top.clone(), depth)? {
            return Ok(None);
        }
        let made = self.build(folder, tree, depth)?;
        self.anew.insert(key, made);
        Ok(Some(made))
    }

    fn read(&mut self, awaited: &Awaited) -> Result<Page, RepoError> {
        self.interrupt.check()?;
        self.visits += 1;
        Ok(awaited.read(&mut |id: &BlobId| self.reader.page(id))?)
    }

    /// Does everything at and below a page stay?
    fn is_clean(&mut self, folder: &[u8], awaited: Awaited, depth: usize) -> Result<bool, RepoError> {
        let key = key(folder, &awaited);
        if self.clean.contains(&key) {
            return Ok(true);
        }
        match self.read(&awaited) {
            Ok(Page::Fence(fences)) => {
                for below in awaited.below(fences) {
                    if !self.is_clean(folder, below, depth)? {
                        return Ok(false);
                    }
                }
            }
            Ok(Page::Leaf(entries)) => {
                for entry in entries {
                    if !matches!(self.sift(folder, entry, depth)?, Sifted::Same(_)) {
                        return Ok(false);
                    }
                }
            }
            // Told when the folder is built.
            Err(error) if super::is_loss(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.clean.insert(key);
        Ok(true)
    }

    fn sift(&mut self, folder: &[u8], mut entry: Entry, depth: usize) -> Result<Sifted, RepoError> {
        let (reader, interrupt) = (self.reader, self.interrupt);
        let mut tools = Tools { reader, interrupt, local: &mut self.local };
        match self.sieve.judge(folder, &entry, &mut tools)? {
            Verdict::Drop => return Ok(Sifted::Gone),
            Verdict::Replace(other) => return Ok(Sifted::Other(other)),
            Verdict::Enter => {
                if let Node::Folder(tree) = &entry.node
                    && let Some(made) = self.tree(&join(folder, &entry.name), tree, depth + 1)?
                {
                    entry.node = Node::Folder(made);
                    return Ok(Sifted::Other(Box::new(entry)));
                }
            }
            Verdict::Keep => {}
        }
        Ok(Sifted::Same(Box::new(entry)))
    }

    /// Lists a folder anew; pages between which nothing went come out as they were.
    fn build(&mut self, folder: &[u8], tree: &Tree, depth: usize) -> Result<Tree, RepoError> {
        let mut builder = TreeBuilder::new(self.cut);
        let mut pending: Vec<Awaited> = Awaited::top(tree).into_iter().collect();
        while let Some(awaited) = pending.pop() {
            let entries = match self.read(&awaited) {
                Ok(Page::Fence(fences)) => {
                    pending.extend(awaited.below(fences).into_iter().rev());
                    continue;
                }
                Ok(Page::Leaf(entries)) => entries,
                Err(error) if super::is_loss(&error) => {
                    self.sieve.broken(folder, error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let key = key(folder, &awaited);
            let known = self.clean.contains(&key);
            let mut all = true;
            for entry in entries {
                let left =
                    if known { Sifted::Same(Box::new(entry)) } else { self.sift(folder, entry, depth)? };
                all &= matches!(left, Sifted::Same(_));
                if let Sifted::Same(entry) | Sifted::Other(entry) = left {
                    let local = &mut self.local;
                    builder.push(*entry, &mut |page| local.put(BlobKind::Tree, page))?;
                }
            }
            if all {
                self.clean.insert(key);
            }
        }
        let local = &mut self.local;
        builder.finish(&mut |page| local.put(BlobKind::Tree, page))
    }
}
