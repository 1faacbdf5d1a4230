//! Two listings of a folder side by side: pages that both share are passed over unread.

use std::cmp::Ordering;

use super::tree::{Awaited, TreeError};
use crate::base::id::BlobId;
use crate::format::page::{Entry, Page};
use crate::format::snapshot::Tree;

/// What comes next in the order of the names.
#[derive(Debug)]
pub enum Pair<E: std::error::Error + 'static> {
    /// Only the left listing has this name.
    Left(Box<Entry>),
    /// Only the right one has it.
    Right(Box<Entry>),
    /// Both have it; the entries may still be equal.
    Both(Box<Entry>, Box<Entry>),
    /// A page of one listing cannot be read; the names it covers are passed over in both.
    Broken(TreeError<E>),
}

enum Item {
    Page(Awaited),
    Entry(Box<Entry>),
}

impl Item {
    fn first(&self) -> &[u8] {
        match self {
            Item::Page(page) => page.first(),
            Item::Entry(entry) => &entry.name,
        }
    }
}

/// One of the listings: what is still to come, the next item last.
struct Cursor<F> {
    fetch: F,
    items: Vec<Item>,
}

impl<F, B, E> Cursor<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    fn new(tree: Option<&Tree>, fetch: F) -> Cursor<F> {
        // The top page's first name is not known before it is read: nothing comes before the empty name.
        Cursor { fetch, items: tree.and_then(Awaited::top).map(Item::Page).into_iter().collect() }
    }

    /// Replaces the page that comes next by what it holds; a page that cannot be read is dropped.
    fn expand(&mut self) -> Result<(), TreeError<E>> {
        let Some(Item::Page(page)) = self.items.pop_if(|item| matches!(item, Item::Page(_))) else {
            return Ok(());
        };
        match page.read(&mut self.fetch)? {
            Page::Leaf(entries) => {
                self.items.extend(entries.into_iter().rev().map(|entry| Item::Entry(Box::new(entry))));
            }
            Page::Fence(fences) => self.items.extend(page.below(fences).into_iter().rev().map(Item::Page)),
        }
        Ok(())
    }

    /// Passes over all names before `bound`, or all that are left.
    fn skip_until(&mut self, bound: Option<&[u8]>) {
        while let Some(next) = self.items.last() {
            if bound.is_some_and(|bound| next.first() >= bound) {
                return;
            }
            match next {
                // A page that cannot be read either is dropped like those that can.
                Item::Page(_) => drop(self.expand()),
                Item::Entry(_) => drop(self.items.pop()),
            }
        }
    }

    fn pop_entry(&mut self) -> Option<Box<Entry>> {
        match self.items.pop() {
            Some(Item::Entry(entry)) => Some(entry),
            _ => None,
        }
    }
}

/// Walks two listings in step.
pub struct Lockstep<F> {
    left: Cursor<F>,
    right: Cursor<F>,
    /// Equal ids mean equal pages: both listings lie in one domain.
    comparable: bool,
}

/// What to do next.
enum Move {
    PassOver,
    ExpandLeft,
    ExpandRight,
    Give(Ordering),
}

impl<F, B, E> Lockstep<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    /// Lists two folders, either of which may be absent; each `fetch` reads the pages of its side.
    pub fn new(left: (Option<&Tree>, F), right: (Option<&Tree>, F), comparable: bool) -> Lockstep<F> {
        Lockstep { left: Cursor::new(left.0, left.1), right: Cursor::new(right.0, right.1), comparable }
    }

    fn decide(&self) -> Option<Move> {
        Some(match (self.left.items.last(), self.right.items.last()) {
            (None, None) => return None,
            (Some(Item::Page(_)), None) => Move::ExpandLeft,
            (None, Some(Item::Page(_))) => Move::ExpandRight,
            (Some(Item::Entry(_)), None) => Move::Give(Ordering::Less),
            (None, Some(Item::Entry(_))) => Move::Give(Ordering::Greater),
            (Some(Item::Page(left)), Some(Item::Page(right))) => match left.first().cmp(right.first()) {
                _ if self.comparable && left.page == right.page && left.level == right.level => {
                    Move::PassOver
                }
                Ordering::Less => Move::ExpandLeft,
                Ordering::Greater => Move::ExpandRight,
                Ordering::Equal if left.level >= right.level => Move::ExpandLeft,
                Ordering::Equal => Move::ExpandRight,
            },
            (Some(Item::Entry(left)), Some(Item::Page(right))) if right.first() > left.name.as_slice() => {
                Move::Give(Ordering::Less)
            }
            (Some(Item::Entry(_)), Some(Item::Page(_))) => Move::ExpandRight,
            (Some(Item::Page(left)), Some(Item::Entry(right))) if left.first() > right.name.as_slice() => {
                Move::Give(Ordering::Greater)
            }
            (Some(Item::Page(_)), Some(Item::Entry(_))) => Move::ExpandLeft,
            (Some(Item::Entry(left)), Some(Item::Entry(right))) => Move::Give(left.name.cmp(&right.name)),
        })
    }
}

impl<F, B, E> Iterator for Lockstep<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Pair<E>;

    fn next(&mut self) -> Option<Pair<E>> {
        loop {
            let (expanded, broken, other) = match self.decide()? {
                Move::PassOver => {
                    self.left.items.pop();
                    self.right.items.pop();
                    continue;
                }
                Move::Give(Ordering::Less) => return self.left.pop_entry().map(Pair::Left),
                Move::Give(Ordering::Greater) => return self.right.pop_entry().map(Pair::Right),
                Move::Give(Ordering::Equal) => {
                    let both = self.left.pop_entry().zip(self.right.pop_entry());
                    return both.map(|(left, right)| Pair::Both(left, right));
                }
                Move::ExpandLeft => (self.left.expand(), &mut self.left, &mut self.right),
                Move::ExpandRight => (self.right.expand(), &mut self.right, &mut self.left),
            };
            if let Err(error) = expanded {
                // What the page held is not known, so the other side's names there are neither new nor gone.
                other.skip_until(broken.items.last().map(Item::first));
                return Some(Pair::Broken(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::{BTreeMap, HashMap};
    use std::convert::Infallible;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::format::content::Content;
    use crate::format::page::{Fence, File, Node, Owner};
    use crate::format::snapshot::Totals;
    use crate::repo::tree::{PageCut, TreeBuilder, read_page};

    type Pages = HashMap<BlobId, Vec<u8>>;

    fn build(names: &BTreeMap<u32, u64>, pages: &mut Pages) -> Tree {
        let cut = PageCut::new([1; 32]);
        let mut builder = TreeBuilder::new(&cut);
        let mut store = |bytes: &[u8]| {
            let id = BlobId(*blake3::hash(bytes).as_bytes().first_chunk().unwrap());
            pages.insert(id, bytes.to_vec());
            Ok::<_, Infallible>(id)
        };
        for (name, &size) in names {
            let node = Node::File(File { size, content: Content::EMPTY, sparse: false, link_group: None });
            let name = format!("{name:08}").into_bytes();
            let owner = Arc::new(Owner::default());
            let entry = Entry { name, mode: 0o600, owner, mtime_s: 0, mtime_ns: 0, xattrs: Vec::new(), node };
            builder.push(entry, &mut store).unwrap();
        }
        builder.finish(&mut store).unwrap()
    }

    fn name_of(entry: &Entry) -> u32 {
        std::str::from_utf8(&entry.name).unwrap().parse().unwrap()
    }

    /// Names gone, new, and changed in size.
    fn changes(pages: &Pages, left: &Tree, right: &Tree, reads: &Cell<usize>) -> [Vec<u32>; 3] {
        let fetch = |id: &BlobId| {
            reads.set(reads.get() + 1);
            pages.get(id).cloned().ok_or(std::fmt::Error)
        };
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        for pair in Lockstep::new((Some(left), fetch), (Some(right), fetch), true) {
            match pair {
                Pair::Left(entry) => found[0].push(name_of(&entry)),
                Pair::Right(entry) => found[1].push(name_of(&entry)),
                Pair::Both(left, right) if left != right => found[2].push(name_of(&left)),
                Pair::Both(..) => {}
                Pair::Broken(error) => panic!("{error}"),
            }
        }
        found
    }

    proptest! {
        #[test]
        fn all_differences_are_found(
            common in prop::collection::btree_map(0u32..20_000, 0u64..3, 0..3_000),
            edits in prop::collection::btree_map(0u32..20_000, prop::option::of(5u64..9), 0..60),
        ) {
            let mut edited = common.clone();
            for (name, edit) in &edits {
                match edit {
                    Some(size) => edited.insert(*name, *size),
                    None => edited.remove(name),
                };
            }
            let mut pages = Pages::new();
            let (left, right) = (build(&common, &mut pages), build(&edited, &mut pages));
            let expected = [
                common.keys().copied().filter(|name| !edited.contains_key(name)).collect::<Vec<_>>(),
                edited.keys().copied().filter(|name| !common.contains_key(name)).collect(),
                common.keys().copied().filter(|name| edited.get(name).is_some_and(|size| *size != common[name])).collect(),
            ];
            prop_assert_eq!(changes(&pages, &left, &right, &Cell::new(0)), expected);
        }
    }

    #[test]
    fn one_change_in_100_000_reads_few_pages() {
        let common: BTreeMap<u32, u64> = (0..100_000).map(|n| (n * 7, 1)).collect();
        let mut edited = common.clone();
        edited.insert(350_001, 1);
        let mut pages = Pages::new();
        let (left, right) = (build(&common, &mut pages), build(&edited, &mut pages));
        let reads = Cell::new(0);
        assert_eq!(changes(&pages, &left, &right, &reads), [vec![], vec![350_001], vec![]]);
        assert!(reads.get() <= 12, "{} of {} pages read", reads.get(), pages.len());
    }

    #[test]
    fn a_lost_page_hides_only_its_own_names() {
        let common: BTreeMap<u32, u64> = (0..5_000).map(|n| (n, 1)).collect();
        let mut edited = common.clone();
        edited.extend((0..5_000).step_by(10).map(|name| (name, 2)));
        edited.insert(9_999, 1);
        let mut pages = Pages::new();
        let (left, right) = (build(&common, &mut pages), build(&edited, &mut pages));
        // The first leaf.
        let mut lost = left.root.unwrap();
        for level in (1..=left.levels).rev() {
            let read =
                read_page(&lost, level, &mut |id: &BlobId| pages.get(id).cloned().ok_or(std::fmt::Error));
            let Ok(Page::Fence(fences)) = read else { panic!("{read:?}") };
            lost = fences[0].page;
        }
        pages.remove(&lost);
        let fetch = |id: &BlobId| pages.get(id).cloned().ok_or(std::fmt::Error);
        let (mut broken, mut changed, mut added, mut gone) = (0, 0, Vec::new(), 0);
        for pair in Lockstep::new((Some(&left), fetch), (Some(&right), fetch), true) {
            match pair {
                Pair::Left(_) => gone += 1,
                Pair::Right(entry) => added.push(name_of(&entry)),
                Pair::Both(left, right) => changed += usize::from(left != right),
                Pair::Broken(_) => broken += 1,
            }
        }
        assert_eq!((broken, gone, added), (1, 0, vec![9_999]));
        assert!((480..500).contains(&changed), "{changed}");
    }
    #[test]
    fn pages_that_repeat_are_read_about_once() {
        // A page of each level for each first name; each goes on to the last name, so that all of them overlap.
        const NAMES: u8 = 40;
        let levels = crate::base::limits::PAGE_LEVELS_MAX;
        let id = |level: u8, name: u8| BlobId([[level, name]; 8].concat().try_into().unwrap());
        let mut pages = Pages::new();
        for name in 0..NAMES {
            let node = Node::Fifo;
            let owner = Arc::new(Owner::default());
            let entry = Entry {
                name: vec![b'a', name + 1],
                mode: 0o600,
                owner,
                mtime_s: 0,
                mtime_ns: 0,
                xattrs: Vec::new(),
                node,
            };
            pages.insert(id(0, name), Page::Leaf(vec![entry]).encode());
            for level in 1..=levels {
                let below = (name..NAMES).map(|name| Fence {
                    first: vec![b'a', name + 1],
                    page: id(level - 1, name),
                    totals: Totals::default(),
                });
                pages.insert(id(level, name), Page::Fence(below.collect()).encode());
            }
        }
        let tree = Tree { root: Some(id(levels, 0)), levels, totals: Totals::default() };
        let fetches = Cell::new(0);
        let fetch = |id: &BlobId| {
            fetches.set(fetches.get() + 1);
            assert!(fetches.get() < 100_000, "it reads on and on");
            pages.get(id).cloned().ok_or(std::fmt::Error)
        };
        let whole = Lockstep::new((Some(&tree), fetch), (None, fetch), true).count();
        let named = usize::from(levels) * usize::from(NAMES) + 1;
        assert!(whole <= named && fetches.get() <= named, "{whole} {}", fetches.get());
    }
}
