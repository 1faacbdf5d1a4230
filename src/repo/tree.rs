//! Folders as trees of pages: cut where the names say so, so that one new message rewrites two or three pages.
//!
//! Section "Tree" of `repo-format.md`.

use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::page::{Entry, Fence, Node, Page};
use crate::format::snapshot::{Totals, Tree};
use crate::mail::maildir;

mod outlines;

pub use outlines::{Leaf, OutlinedLeaf, Outlines};

/// No page is cut before this many entries.
const PAGE_ENTRIES_MIN: usize = 32;
/// Up to here one name in 128 cuts, then one in 8.
const PAGE_ENTRIES_AIM: usize = 64;
/// Here a page is cut whatever the name.
const PAGE_ENTRIES_FORCED: usize = 128;
/// Likewise, bytes.
const PAGE_BYTES_FORCED: usize = 16 << 10;

/// Decides where pages end; the key keeps an attacker from choosing names that never cut.
#[derive(Clone)]
pub struct PageCut {
    key: [u8; 32],
}

impl PageCut {
    /// A rule under the domain's key.
    pub fn new(key: [u8; 32]) -> PageCut {
        PageCut { key }
    }

    /// Does a page of `count` entries and `bytes` bytes end after `name`?
    fn ends_after(&self, name: &[u8], level: u8, count: usize, bytes: usize) -> bool {
        if count >= PAGE_ENTRIES_FORCED || bytes >= PAGE_BYTES_FORCED {
            return true;
        }
        if count < PAGE_ENTRIES_MIN {
            return false;
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // The flags of a message change, its base name does not.
        hasher.update(&[level]).update(maildir::base(name));
        let dice = hasher.finalize().as_bytes()[0];
        if count < PAGE_ENTRIES_AIM { dice & 127 == 0 } else { dice & 7 == 0 }
    }
}

/// Builds the pages of one folder from its entries, given in ascending order of their names.
pub struct TreeBuilder<'a> {
    cut: &'a PageCut,
    entries: Vec<Entry>,
    entry_bytes: usize,
    levels: Vec<Vec<Fence>>,
    totals: Totals,
}

impl<'a> TreeBuilder<'a> {
    /// An empty folder.
    pub fn new(cut: &'a PageCut) -> TreeBuilder<'a> {
        TreeBuilder {
            cut,
            entries: Vec::new(),
            entry_bytes: 0,
            levels: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Adds the next entry; `store` stores a page and gives its id. Gives the leaf that this entry ends.
    pub fn push<E>(
        &mut self,
        entry: Entry,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<Option<BlobId>, E> {
        self.totals += entry.totals();
        self.entry_bytes += entry_bytes(&entry);
        self.entries.push(entry);
        let last = self.entries.last().expect("just pushed");
        if self.cut.ends_after(&last.name, 0, self.entries.len(), self.entry_bytes) {
            return self.close_leaf(store);
        }
        Ok(None)
    }

    /// Ends the leaf at hand and gives it, if it holds anything.
    pub fn close_leaf<E>(
        &mut self,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<Option<BlobId>, E> {
        let entries = std::mem::take(&mut self.entries);
        self.entry_bytes = 0;
        let Some(first) = entries.first().map(|entry| entry.name.clone()) else { return Ok(None) };
        let mut totals = Totals::default();
        entries.iter().for_each(|entry| totals += entry.totals());
        let last = entries.last().expect("not empty").name.clone();
        let page = store(&Page::Leaf(entries).encode())?;
        self.add_fence(0, Fence { first, page, totals }, &last, store)?;
        Ok(Some(page))
    }

    /// Adds a stored page as a whole: its next entries, from `first` to `last`, are those of the folder; false, and
    /// nothing is added, when no page begins with the first of them.
    ///
    /// It must have been cut after its last entry, unless the folder ends with it: so it is the page that these entries
    /// would give again.
    pub fn push_page<E>(
        &mut self,
        page: BlobId,
        (first, last): (&[u8], &[u8]),
        totals: Totals,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<bool, E> {
        if !self.entries.is_empty() {
            return Ok(false);
        }
        self.totals += totals;
        self.add_fence(0, Fence { first: first.to_vec(), page, totals }, last, store)?;
        Ok(true)
    }

    /// Adds a page that ends with `last` to the fences of `level`, closing the fence page where the name says so.
    fn add_fence<E>(
        &mut self,
        level: usize,
        fence: Fence,
        last: &[u8],
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(fence);
        if self.cut.ends_after(last, level as u8 + 1, self.levels[level].len(), 0) {
            self.close_fence(level, last, store)?;
        }
        Ok(())
    }

    fn close_fence<E>(
        &mut self,
        level: usize,
        last: &[u8],
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        let fences = std::mem::take(&mut self.levels[level]);
        let Some(first) = fences.first().map(|fence| fence.first.clone()) else { return Ok(()) };
        let mut totals = Totals::default();
        fences.iter().for_each(|fence| totals += fence.totals);
        let page = store(&Page::Fence(fences).encode())?;
        self.add_fence(level + 1, Fence { first, page, totals }, last, store)
    }

    /// Ends the folder.
    pub fn finish<E>(mut self, store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>) -> Result<Tree, E> {
        self.close_leaf(store)?;
        let mut level = 0;
        while level < self.levels.len() {
            let is_top = level + 1 == self.levels.len();
            if is_top && self.levels[level].len() == 1 {
                let root = Some(self.levels[level][0].page);
                return Ok(Tree { root, levels: level as u8, totals: self.totals });
            }
            // The end of the folder cuts what is left of each level, whatever its name.
            self.close_fence(level, b"", store)?;
            level += 1;
        }
        Ok(Tree { root: None, levels: 0, totals: self.totals })
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    let node = match &entry.node {
        Node::File(file) => {
            let mut ids = Vec::new();
            crate::format::content::encode(&file.content, &mut ids).len() + ids.len() * size_of::<BlobId>()
        }
        Node::Symlink(target) => target.len(),
        _ => 40,
    };
    entry.name.len() + node + entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}

/// A tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E: std::error::Error + 'static> {
    /// A page cannot be fetched.
    #[error(transparent)]
    Fetch(E),
    /// A page is not what its place demands.
    #[error("page {page}: {detail}")]
    Page {
        /// The page.
        page: BlobId,
        /// What is wrong.
        detail: String,
    },
}

/// Reads and checks one page that stands `level` levels above the leaves.
pub fn read_page<E: std::error::Error, B: AsRef<[u8]>>(
    id: &BlobId,
    level: u8,
    fetch: &mut impl FnMut(&BlobId) -> Result<B, E>,
) -> Result<Page, TreeError<E>> {
    let bytes = fetch(id).map_err(TreeError::Fetch)?;
    let wrong = |detail: String| TreeError::Page { page: *id, detail };
    let page = Page::decode(bytes.as_ref()).map_err(|error| wrong(error.to_string()))?;
    match (&page, level) {
        (Page::Leaf(_), 0) => Ok(page),
        (Page::Fence(_), 1..=limits::PAGE_LEVELS_MAX) => Ok(page),
        _ => Err(wrong(format!("not a page of level {level}"))),
    }
}

/// A page of a folder that is still to be read, and what its place demands of it.
///
/// A page begins with the name that the fence above it gives, and ends before the next page there begins. So the names
/// of a walk ascend over all pages, and no page is walked through twice on one level, however often fences name it.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// The page.
    pub page: BlobId,
    /// Fences between it and the leaves.
    pub level: u8,
    /// What the fence above it, or the folder's entry, says is below.
    totals: Totals,
    /// Its first name; empty for the top page, of which nothing is known.
    first: Vec<u8>,
    /// All its names come before this one.
    before: Option<Vec<u8>>,
}

impl Awaited {
    /// The top page of a folder, if it is not empty.
    pub fn top(tree: &Tree) -> Option<Awaited> {
        let (level, totals) = (tree.levels, tree.totals);
        Some(Awaited { page: tree.root?, level, totals, first: Vec::new(), before: None })
    }

    /// The name it has to begin with; empty when that is not known.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// The same for the same page with the same demands.
    pub fn mark(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.page.0).update(&[self.level, self.first.len() as u8]).update(&self.first);
        if let Some(before) = &self.before {
            hasher.update(before);
        }
        *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a mark")
    }

    /// Reads the page and holds it against its place.
    pub fn read<E: std::error::Error, B: AsRef<[u8]>>(
        &self,
        fetch: &mut impl FnMut(&BlobId) -> Result<B, E>,
    ) -> Result<Page, TreeError<E>> {
        let page = read_page(&self.page, self.level, fetch)?;
        self.check(&page)?;
        Ok(page)
    }

    /// Holds the names of the page that was read against its place.
    pub fn check<E: std::error::Error>(&self, page: &Page) -> Result<(), TreeError<E>> {
        let (first, last) = match page {
            Page::Leaf(entries) => (&entries[0].name, &entries[entries.len() - 1].name),
            Page::Fence(fences) => (&fences[0].first, &fences[fences.len() - 1].first),
        };
        self.holds(first, last)
    }

    /// May a page with these names stand here?
    fn holds<E: std::error::Error>(&self, first: &[u8], last: &[u8]) -> Result<(), TreeError<E>> {
        let begins_right = self.first.is_empty() || *first == self.first;
        if begins_right && self.before.as_ref().is_none_or(|before| last < before.as_slice()) {
            return Ok(());
        }
        Err(TreeError::Page { page: self.page, detail: "names are out of order".to_owned() })
    }

    /// The pages below this one, in order.
    pub fn below(self, fences: Vec<Fence>) -> Vec<Awaited> {
        let level = self.level.saturating_sub(1);
        let ends: Vec<_> = fences.iter().skip(1).map(|fence| Some(fence.first.clone())).collect();
        let ends = ends.into_iter().chain([self.before]);
        let below = fences.into_iter().zip(ends);
        let await_it =
            |(Fence { first, page, totals }, before)| Awaited { page, level, totals, first, before };
        below.map(await_it).collect()
    }
}

/// The leaves of a folder in order, read one by one, with their names; a page that cannot be read hides its own.
pub struct Leaves<F> {
    fetch: F,
    /// The next page is the last one.
    pending: Vec<Awaited>,
}

impl<F, B, E> Leaves<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    /// Lists a folder.
    pub fn new(tree: &Tree, fetch: F) -> Leaves<F> {
        Leaves { fetch, pending: Awaited::top(tree).into_iter().collect() }
    }
}

impl<F, B, E> Iterator for Leaves<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Result<(BlobId, Vec<Entry>), TreeError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let awaited = self.pending.pop()?;
            match awaited.read(&mut self.fetch) {
                Ok(Page::Leaf(entries)) => return Some(Ok((awaited.page, entries))),
                Ok(Page::Fence(fences)) => self.pending.extend(awaited.below(fences).into_iter().rev()),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The entries of a folder in order of their names, read page by page.
pub struct Listing<F> {
    leaves: Leaves<F>,
    entries: std::vec::IntoIter<Entry>,
}

impl<F, B, E> Listing<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    /// Lists a folder.
    pub fn new(tree: &Tree, fetch: F) -> Listing<F> {
        Listing { leaves: Leaves::new(tree, fetch), entries: Vec::new().into_iter() }
    }
}

impl<F, B, E> Iterator for Listing<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Result<Entry, TreeError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            match self.leaves.next()? {
                Ok((_, entries)) => self.entries = entries.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Finds one entry of a folder, reading one page a level.
pub fn find<E: std::error::Error, B: AsRef<[u8]>>(
    tree: &Tree,
    name: &[u8],
    fetch: &mut impl FnMut(&BlobId) -> Result<B, E>,
) -> Result<Option<Entry>, TreeError<E>> {
    let found = find_in(tree, name, |page, level| read_page(page, level, fetch).map(Box::new))?;
    Ok(found.and_then(|found| match *found.leaf {
        Page::Leaf(entries) => entries.into_iter().nth(found.at),
        Page::Fence(_) => None,
    }))
}

/// An entry, and the leaf that holds it.
#[derive(Debug)]
pub struct Found<P> {
    /// The leaf's id.
    pub page: BlobId,
    /// The leaf.
    pub leaf: P,
    /// Which of its entries it is.
    pub at: usize,
}

/// As [`find`], with pages that `read` has decoded and checked for their level.
pub fn find_in<E, P: std::ops::Deref<Target = Page>>(
    tree: &Tree,
    name: &[u8],
    mut read: impl FnMut(&BlobId, u8) -> Result<P, E>,
) -> Result<Option<Found<P>>, E> {
    let Some(mut page) = tree.root else { return Ok(None) };
    let mut level = tree.levels;
    loop {
        let read = read(&page, level)?;
        match &*read {
            Page::Leaf(entries) => {
                let found = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name));
                return Ok(found.ok().map(|at| Found { page, leaf: read, at }));
            }
            Page::Fence(fences) => {
                let after = fences.partition_point(|fence| fence.first.as_slice() <= name);
                let Some(fence) = after.checked_sub(1).map(|at| &fences[at]) else { return Ok(None) };
                page = fence.page;
                // A fence page stands above the leaves: reading it at level 0 fails.
                level = level.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;
    use crate::format::content::Content;
    use crate::format::page::{File, Owner};

    fn entry(name: String) -> Entry {
        let node = Node::File(File { size: 3, content: Content::EMPTY, sparse: false, link_group: None });
        let (mode, owner, xattrs) = (0o600, std::sync::Arc::new(Owner::default()), Vec::new());
        Entry { name: name.into_bytes(), mode, owner, mtime_s: 5, mtime_ns: 0, xattrs, node }
    }

    fn build(names: &[String], pages: &mut HashMap<BlobId, Vec<u8>>) -> Tree {
        let cut = PageCut::new([1; 32]);
        let mut builder = TreeBuilder::new(&cut);
        let mut store = |bytes: &[u8]| {
            let id = BlobId(*blake3::hash(bytes).as_bytes().first_chunk().unwrap());
            pages.insert(id, bytes.to_vec());
            Ok::<_, Infallible>(id)
        };
        for name in names {
            builder.push(entry(name.clone()), &mut store).unwrap();
        }
        builder.finish(&mut store).unwrap()
    }

    fn fetch(pages: &HashMap<BlobId, Vec<u8>>) -> impl FnMut(&BlobId) -> Result<Vec<u8>, std::fmt::Error> {
        |id| pages.get(id).cloned().ok_or(std::fmt::Error)
    }

    #[test]
    fn folders_of_any_size_list_and_find() {
        for count in [0, 1, 31, 32, 127, 5_000, 60_000] {
            let mut pages = HashMap::new();
            let names: Vec<String> = (0..count).map(|n| format!("{:08}.M{n}P3.mx:2,S", n * 7)).collect();
            let tree = build(&names, &mut pages);
            assert_eq!(tree.totals.files, count);
            let listed: Vec<Vec<u8>> = Listing::new(&tree, fetch(&pages)).map(|e| e.unwrap().name).collect();
            assert!(listed.iter().map(Vec::as_slice).eq(names.iter().map(String::as_bytes)));
            for name in names.iter().step_by(997) {
                let found = find(&tree, name.as_bytes(), &mut fetch(&pages)).unwrap();
                assert_eq!(found.unwrap().name, name.as_bytes());
            }
            assert_eq!(find(&tree, b"0", &mut fetch(&pages)).unwrap(), None);
            assert_eq!(find(&tree, b"zzz", &mut fetch(&pages)).unwrap(), None);
        }
    }

    #[test]
    fn one_new_name_in_100_000_rewrites_few_pages() {
        let mut names: Vec<String> = (0..100_000).map(|n| format!("{:08}.M{n}P3.mx:2,S", n * 7)).collect();
        let mut pages = HashMap::new();
        build(&names, &mut pages);
        let before = pages.len();
        names.push("00350001.M9P3.mx:2,".to_owned());
        names.sort();
        build(&names, &mut pages);
        assert!(pages.len() - before <= 6, "{}", pages.len() - before);
    }

    #[test]
    fn missing_and_misplaced_pages_are_errors() {
        let mut pages = HashMap::new();
        let names: Vec<String> = (0..9_000).map(|n| format!("{n:06}")).collect();
        let tree = build(&names, &mut pages);
        assert!(tree.levels >= 1);
        let flat = Tree { levels: 0, ..tree };
        assert!(Listing::new(&flat, fetch(&pages)).any(|entry| entry.is_err()));
        assert!(Listing::new(&tree, fetch(&HashMap::new())).all(|entry| entry.is_err()));
    }

    /// Stores a page under a number.
    fn put(pages: &mut HashMap<BlobId, Vec<u8>>, number: u8, page: &Page) -> BlobId {
        pages.insert(BlobId([number; 16]), page.encode());
        BlobId([number; 16])
    }

    fn fence(first: String, page: BlobId) -> Fence {
        Fence { first: first.into_bytes(), page, totals: Totals::default() }
    }

    #[test]
    fn pages_that_repeat_are_read_about_once() {
        let lost = BlobId([99; 16]);
        for below in [
            None,
            Some(Page::Leaf(vec![entry("0000".to_owned())])),
            Some(Page::Leaf(vec![entry("0063".to_owned())])),
        ] {
            let mut pages = HashMap::new();
            let mut page = below.map_or(lost, |leaf| put(&mut pages, 0, &leaf));
            for level in 1..=limits::PAGE_LEVELS_MAX {
                // The last name stands on every level, so that each fence page could follow itself.
                let fences = (0..64).map(|n| fence(format!("{n:04}"), page)).collect();
                page = put(&mut pages, level, &Page::Fence(fences));
            }
            let mut fetches = 0;
            let counting = |id: &BlobId| {
                fetches += 1;
                assert!(fetches < 100_000, "it reads on and on");
                pages.get(id).cloned().ok_or(std::fmt::Error)
            };
            let tree = Tree { root: Some(page), levels: limits::PAGE_LEVELS_MAX, totals: Totals::default() };
            let good = Listing::new(&tree, counting).filter(Result::is_ok).count();
            // Each fence page once, and its 64 pages.
            assert!(good <= 1 && fetches <= 12 * 65, "{good} {fetches}");
        }
    }

    #[test]
    fn a_page_with_other_names_than_its_fence_says_hides_only_itself() {
        let mut pages = HashMap::new();
        let leaf = |names: &[&str]| Page::Leaf(names.iter().map(|name| entry((*name).to_owned())).collect());
        let leaves = [leaf(&["b", "c"]), leaf(&["d", "g"]), leaf(&["e", "f"]), leaf(&["x"]), leaf(&["y"])];
        let ids: Vec<BlobId> =
            (0u8..).zip(&leaves).map(|(number, leaf)| put(&mut pages, number, leaf)).collect();
        // The second reaches into the third, the fourth begins later than it should.
        let firsts = ["b", "d", "e", "w", "y"];
        let fences = firsts.iter().zip(&ids).map(|(first, id)| fence((*first).to_owned(), *id)).collect();
        let root = Some(put(&mut pages, 50, &Page::Fence(fences)));
        let tree = Tree { root, levels: 1, totals: Totals::default() };
        let listed: Vec<_> =
            Listing::new(&tree, fetch(&pages)).map(|read| read.map(|entry| entry.name).ok()).collect();
        let name = |name: &str| Some(name.as_bytes().to_vec());
        assert_eq!(listed, [name("b"), name("c"), None, name("e"), name("f"), None, name("y")]);
    }
}
