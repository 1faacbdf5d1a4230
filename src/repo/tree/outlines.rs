//! The leaves of a folder, taken apart no further than to tell whether its files are as they were.

use super::{Awaited, TreeError};
use crate::base::id::BlobId;
use crate::format::page::{Entry, Outline, Page};
use crate::format::snapshot::{Totals, Tree};

/// A leaf.
pub enum Leaf {
    /// Of plain files.
    Outlined(Box<OutlinedLeaf>),
    /// Of other things, too.
    Whole(BlobId, Vec<Entry>),
}

/// A leaf of plain files that is not taken apart.
pub struct OutlinedLeaf {
    /// Its page.
    pub page: BlobId,
    /// What is in it.
    pub outline: Outline,
    /// Sums over its files, as what is above it says.
    pub totals: Totals,
    /// It ends with the folder, and perhaps where no name would have cut.
    pub is_last: bool,
}

/// The leaves of a folder in order, read one by one, like [`super::Leaves`].
pub struct Outlines<F> {
    fetch: F,
    /// The next page is the last one.
    pending: Vec<Awaited>,
}

impl<F, B, E> Outlines<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    /// Lists a folder.
    pub fn new(tree: &Tree, fetch: F) -> Outlines<F> {
        Outlines { fetch, pending: Awaited::top(tree).into_iter().collect() }
    }

    fn leaf(&mut self, awaited: Awaited) -> Result<Leaf, TreeError<E>> {
        let page = awaited.page;
        let wrong = |detail: String| TreeError::Page { page, detail };
        let bytes = (self.fetch)(&page).map_err(TreeError::Fetch)?;
        let outline = Outline::decode(bytes.as_ref()).map_err(|error| wrong(error.to_string()))?;
        if let Some((first, last)) = outline.bounds() {
            awaited.holds(first, last)?;
            let (totals, is_last) = (awaited.totals, self.pending.is_empty());
            return Ok(Leaf::Outlined(Box::new(OutlinedLeaf { page, outline, totals, is_last })));
        }
        let entries = outline.into_entries().map_err(|error| wrong(error.to_string()))?;
        awaited.holds(&entries[0].name, &entries[entries.len() - 1].name)?;
        Ok(Leaf::Whole(page, entries))
    }
}

impl<F, B, E> Iterator for Outlines<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Result<Leaf, TreeError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let awaited = self.pending.pop()?;
            if awaited.level == 0 {
                return Some(self.leaf(awaited));
            }
            match awaited.read(&mut self.fetch) {
                Ok(Page::Fence(fences)) => self.pending.extend(awaited.below(fences).into_iter().rev()),
                // `read` gives fences above the leaves.
                Ok(Page::Leaf(_)) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
