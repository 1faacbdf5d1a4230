//! Trees and contents whose pages are hostile: a walk ends, in order, or with an error.

use std::cell::Cell;

use mailark::base::id::BlobId;
use mailark::format::content::{Content, Section};
use mailark::format::page::Page;
use mailark::format::snapshot::{Totals, Tree};
use mailark::repo::content::Sections;
use mailark::repo::lockstep::Lockstep;
use mailark::repo::tree::{self, Listing};

use super::Input;

/// Pages that a walk may ask for, however often they are named.
const FETCHES_MAX: u32 = 200;

#[derive(Debug, thiserror::Error)]
#[error("no such page")]
struct NoPage;

/// The pages that are the stretches of the input; a page is named by its number.
struct Pages<'a> {
    pages: Vec<&'a [u8]>,
    left: Cell<u32>,
}

impl<'a> Pages<'a> {
    fn of(mut input: Input<'a>) -> Pages<'a> {
        let mut pages = Vec::new();
        while !input.is_empty() {
            pages.push(input.stretch());
        }
        Pages { pages, left: Cell::new(FETCHES_MAX) }
    }

    fn fetch(&self, id: &BlobId) -> Result<&'a [u8], NoPage> {
        self.left.set(self.left.get().checked_sub(1).ok_or(NoPage)?);
        self.pages.get(usize::from(id.0[0])).copied().ok_or(NoPage)
    }

    fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

/// A number of levels, then pages; page 0 is the root.
pub fn tree_walk(bytes: &[u8]) {
    let mut input = Input(bytes);
    let tree = |levels, root| Tree { root: Some(BlobId([root; 16])), levels, totals: Totals::default() };
    let (left, right) = (tree(input.byte(), 0), tree(input.byte(), 1));
    let pages = Pages::of(input);
    let mut last: Option<Vec<u8>> = None;
    for entry in Listing::new(&left, |id: &BlobId| pages.fetch(id)) {
        if pages.is_spent() {
            break;
        }
        let Ok(entry) = entry else { continue };
        assert!(last.as_ref().is_none_or(|last| *last < entry.name), "names out of order");
        last = Some(entry.name);
    }
    if let Some(name) = last {
        pages.left.set(FETCHES_MAX);
        // Fences may lie about names: then it is not found, and nothing else is.
        if let Ok(Some(found)) = tree::find(&left, &name, &mut |id: &BlobId| pages.fetch(id)) {
            assert_eq!(found.name, name);
        }
    }
    pages.left.set(FETCHES_MAX);
    let fetch = |id: &BlobId| pages.fetch(id);
    for _ in Lockstep::new((Some(&left), fetch), (Some(&right), fetch), bytes.len().is_multiple_of(2)) {
        if pages.is_spent() {
            break;
        }
    }
    for page in &pages.pages {
        if let Ok(Page::Leaf(entries)) = Page::decode(page) {
            assert!(!entries.is_empty());
        }
    }
}

/// A number of levels, then pages of one content; page 0 is the top.
pub fn content_walk(bytes: &[u8]) {
    let mut input = Input(bytes);
    let content = Content::Paged { root: BlobId::default(), levels: input.byte(), messages: 0 };
    let pages = Pages::of(input);
    let mut length = 0u64;
    for section in Sections::new(&content, |id: &BlobId| pages.fetch(id)) {
        if pages.is_spent() {
            break;
        }
        length = length.saturating_add(section.as_ref().map_or(0, Section::length));
    }
}
