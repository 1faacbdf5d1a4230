//! The content of files: kept in the entry while it is short, else in pages of its own.

use super::tree::TreeError;
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::content::{self, Content, ContentPage, Section};

/// A content page is cut at the first lawful place after this many bytes of recipe.
const PAGE_BYTES_AIM: usize = 4 << 10;
/// A content page is cut here at the latest.
const PAGE_BYTES_FORCED: usize = 32 << 10;
/// A fence page is cut here at the latest.
const FENCE_ENTRIES_FORCED: usize = 512;

/// Collects the sections of one file.
#[derive(Default)]
pub struct ContentBuilder {
    sections: Vec<Section>,
    recipe_bytes: usize,
    /// Pages of each level that no fence page names yet.
    levels: Vec<Vec<(BlobId, u64)>>,
    messages: u64,
}

/// Ids are keyed hashes, so their last byte is a die that nobody else can load.
fn dice(id: Option<&BlobId>) -> u8 {
    id.map_or(0, |id| id.0[15])
}

impl ContentBuilder {
    /// Adds the next section; `store` stores a page and gives its id.
    pub fn push<E>(
        &mut self,
        section: Section,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        let last = section.pieces.iter().rev().find_map(|piece| piece.blobs().last()).copied();
        self.recipe_bytes += content::recipe_bytes(std::slice::from_ref(&section));
        self.messages += content::count_messages(std::slice::from_ref(&section));
        self.sections.push(section);
        let may_cut = self.recipe_bytes >= PAGE_BYTES_AIM && dice(last.as_ref()) & 31 == 0;
        let must_cut =
            self.recipe_bytes >= PAGE_BYTES_FORCED || self.sections.len() >= limits::PAGE_SECTIONS_MAX;
        if may_cut || must_cut { self.close_leaf(store) } else { Ok(()) }
    }

    fn close_leaf<E>(&mut self, store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>) -> Result<(), E> {
        let sections = std::mem::take(&mut self.sections);
        self.recipe_bytes = 0;
        if sections.is_empty() {
            return Ok(());
        }
        let length = sections.iter().map(Section::length).sum();
        let page = store(&ContentPage::Leaf(sections).encode())?;
        self.add_page(0, page, length, store)
    }

    fn add_page<E>(
        &mut self,
        level: usize,
        page: BlobId,
        length: u64,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let pages = &mut self.levels[level];
        pages.push((page, length));
        let cut = pages.len() >= FENCE_ENTRIES_FORCED || pages.len() >= 32 && dice(Some(&page)) & 63 == 0;
        if cut { self.close_fence(level, store) } else { Ok(()) }
    }

    fn close_fence<E>(
        &mut self,
        level: usize,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        let pages = std::mem::take(&mut self.levels[level]);
        if pages.is_empty() {
            return Ok(());
        }
        let length = pages.iter().map(|(_, length)| length).sum();
        let page = store(&ContentPage::Fence(pages).encode())?;
        self.add_page(level + 1, page, length, store)
    }

    /// Ends the file and makes the builder ready for the next one.
    pub fn finish<E>(&mut self, store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>) -> Result<Content, E> {
        let mut builder = std::mem::take(self);
        if builder.levels.is_empty() && builder.recipe_bytes <= limits::RECIPE_INLINE_MAX {
            return Ok(Content::Inline(builder.sections));
        }
        builder.close_leaf(store)?;
        let mut level = 0;
        loop {
            let is_top = level + 1 == builder.levels.len();
            if let ([(root, _)], true) = (builder.levels[level].as_slice(), is_top) {
                return Ok(Content::Paged { root: *root, levels: level as u8, messages: builder.messages });
            }
            builder.close_fence(level, store)?;
            level += 1;
        }
    }
}

/// A page of a content that is still to be read, and what its place demands of it.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// The page.
    pub page: BlobId,
    level: u8,
    /// Bytes of the file that it has to give, where that is known.
    length: Option<u64>,
}

impl Awaited {
    /// The top page of a content of so many bytes, `levels` fences above the leaves.
    pub fn top(page: BlobId, levels: u8, length: Option<u64>) -> Awaited {
        Awaited { page, level: levels, length }
    }

    /// The same for the same page with the same demands.
    pub fn mark(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.page.0).update(&[self.level, 0]);
        if let Some(length) = self.length {
            hasher.update(&length.to_le_bytes());
        }
        *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a mark")
    }

    /// Reads the page and holds it against its place.
    pub fn read<E: std::error::Error, B: AsRef<[u8]>>(
        &self,
        fetch: &mut impl FnMut(&BlobId) -> Result<B, E>,
    ) -> Result<ContentPage, TreeError<E>> {
        let bytes = fetch(&self.page).map_err(TreeError::Fetch)?;
        let wrong = |detail: String| TreeError::Page { page: self.page, detail };
        let page = ContentPage::decode(bytes.as_ref()).map_err(|error| wrong(error.to_string()))?;
        self.check(&page)?;
        Ok(page)
    }

    /// Holds the page that was read against its place.
    pub fn check<E: std::error::Error>(&self, page: &ContentPage) -> Result<(), TreeError<E>> {
        let wrong = |detail: String| TreeError::Page { page: self.page, detail };
        let fits_level = match page {
            ContentPage::Leaf(_) => self.level == 0,
            ContentPage::Fence(_) => (1..=limits::PAGE_LEVELS_MAX).contains(&self.level),
        };
        if !fits_level {
            return Err(wrong(format!("not a content page of level {}", self.level)));
        }
        match (page.length(), self.length) {
            (given, Some(due)) if given != due => {
                Err(wrong(format!("it gives {given} bytes instead of {due}")))
            }
            _ => Ok(()),
        }
    }

    /// A page below this one, and the bytes that the fence says it gives.
    pub fn one_below(&self, (page, length): (BlobId, u64)) -> Awaited {
        Awaited { page, level: self.level.saturating_sub(1), length: Some(length) }
    }

    /// The pages below this one, in order.
    pub fn below(&self, pages: Vec<(BlobId, u64)>) -> impl DoubleEndedIterator<Item = Awaited> + use<> {
        let above = self.clone();
        pages.into_iter().map(move |below| above.one_below(below))
    }
}

/// The sections of a content in order, read page by page, up to the first error.
///
/// Each page gives exactly the bytes that the fence above it promises, at least one. So between two bytes of the
/// content at most one page a level is read, however often fences name it.
pub struct Sections<F> {
    fetch: F,
    /// The next page is the last one.
    pending: Vec<Awaited>,
    sections: std::vec::IntoIter<Section>,
}

impl<F, B, E> Sections<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    /// Lists the sections of a content.
    pub fn new(content: &Content, fetch: F) -> Sections<F> {
        let (sections, pending) = match content {
            Content::Inline(sections) => (sections.clone(), Vec::new()),
            Content::Paged { root, levels, .. } => (Vec::new(), vec![Awaited::top(*root, *levels, None)]),
        };
        Sections { fetch, pending, sections: sections.into_iter() }
    }
}

impl<F, B, E> Iterator for Sections<F>
where
    F: FnMut(&BlobId) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Result<Section, TreeError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(section) = self.sections.next() {
                return Some(Ok(section));
            }
            let awaited = self.pending.pop()?;
            match awaited.read(&mut self.fetch) {
                Ok(ContentPage::Leaf(sections)) => self.sections = sections.into_iter(),
                Ok(ContentPage::Fence(pages)) => self.pending.extend(awaited.below(pages).rev()),
                Err(error) => {
                    // Nothing can follow bytes that are not there.
                    self.pending.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;
    use crate::format::content::{Piece, Run, Shape};

    fn section(number: u32) -> Section {
        let id = BlobId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap());
        let runs = vec![Run { piece: 0, length: 1 + u64::from(number) }];
        Section { shape: Shape::Message, pieces: vec![Piece::Plain(vec![id])], runs }
    }

    #[test]
    fn short_contents_stay_inline_and_long_ones_are_paged() {
        for count in [0, 1, 20, 60, 2_000, 200_000] {
            let mut pages = HashMap::new();
            let mut store = |bytes: &[u8]| {
                let id = BlobId(*blake3::hash(bytes).as_bytes().first_chunk().unwrap());
                assert!(bytes.len() < limits::PAGE_BYTES_MAX);
                pages.insert(id, bytes.to_vec());
                Ok::<_, Infallible>(id)
            };
            let mut builder = ContentBuilder::default();
            (0..count).for_each(|n| builder.push(section(n), &mut store).unwrap());
            let content = builder.finish(&mut store).unwrap();
            assert_eq!(matches!(content, Content::Inline(_)), count <= 20);
            assert_eq!(content.messages(), u64::from(count));
            let fetch = |id: &BlobId| pages.get(id).cloned().ok_or(std::fmt::Error);
            let read: Vec<Section> = Sections::new(&content, fetch).map(Result::unwrap).collect();
            assert!(read.into_iter().eq((0..count).map(section)));
        }
    }

    /// Reads a content to its end; gives its bytes, its errors, and the pages that were asked for.
    fn walk(pages: &[ContentPage], levels: u8) -> (u64, usize, u32) {
        const FETCHES_MAX: u32 = 100_000;
        let encoded: Vec<Vec<u8>> = pages.iter().map(ContentPage::encode).collect();
        let mut fetches = 0;
        let fetch = |id: &BlobId| {
            fetches += 1;
            assert!(fetches < FETCHES_MAX, "it reads on and on");
            encoded.get(usize::from(id.0[0])).cloned().ok_or(std::fmt::Error)
        };
        let content = Content::Paged { root: BlobId::default(), levels, messages: 0 };
        let (mut length, mut errors) = (0, 0);
        for section in Sections::new(&content, fetch) {
            match section {
                Ok(section) => length += section.length(),
                Err(_) => errors += 1,
            }
        }
        (length, errors, fetches)
    }

    /// Twelve levels of fences, each 4,096 times over the next page, above this one.
    fn tower(below: ContentPage, promise: u64) -> Vec<ContentPage> {
        let levels = limits::PAGE_LEVELS_MAX;
        let fence = |level: u8| ContentPage::Fence(vec![(BlobId([level + 1; 16]), promise); 4_096]);
        (0..levels).map(fence).chain([below]).collect()
    }

    #[test]
    fn pages_that_repeat_without_end_are_an_error_after_a_few() {
        let levels = limits::PAGE_LEVELS_MAX;
        let nothing = Section { shape: Shape::Bytes, pieces: Vec::new(), runs: Vec::new() };
        for below in [
            ContentPage::Leaf(Vec::new()),
            ContentPage::Leaf(vec![nothing.clone()]),
            ContentPage::Leaf(vec![section(1)]),
            // No leaf at all.
            ContentPage::Fence(vec![(BlobId([9; 16]), 1)]),
        ] {
            for promise in [0, 1, 2, 1 << 40, u64::MAX] {
                let (length, errors, fetches) = walk(&tower(below.clone(), promise), levels);
                assert!(
                    length <= 2 && errors == 1 && fetches <= u32::from(levels) + 1,
                    "{length} {errors} {fetches}"
                );
            }
        }
        // A page that names itself, and more levels than there can be.
        let own = ContentPage::Fence(vec![(BlobId::default(), 1); 4_096]);
        for levels in [1, levels, u8::MAX] {
            assert!(walk(std::slice::from_ref(&own), levels).2 <= u32::from(limits::PAGE_LEVELS_MAX) + 1);
        }
        // Sections of nothing in a leaf that gives something.
        let sections = [vec![nothing; 4_000], vec![section(1)]].concat();
        assert_eq!(walk(&[ContentPage::Leaf(sections)], 0), (2, 0, 1));
    }

    #[test]
    fn a_fence_over_other_bytes_than_it_says_is_an_error() {
        let leaf = |number| ContentPage::Leaf(vec![section(number)]);
        let fence =
            |first, second| ContentPage::Fence(vec![(BlobId([1; 16]), first), (BlobId([2; 16]), second)]);
        let pages = |first, second| [fence(first, second), leaf(4), leaf(7)];
        assert_eq!(walk(&pages(5, 8), 1), (13, 0, 3));
        assert_eq!(walk(&pages(5, 7), 1), (5, 1, 3));
        assert_eq!(walk(&pages(6, 7), 1), (0, 1, 2));
        assert_eq!(walk(&pages(0, 13), 1), (0, 1, 1));
        assert_eq!(walk(&pages(u64::MAX, 8), 1), (0, 1, 1));
        // A lost page ends the content: nothing can follow bytes that are not there.
        assert_eq!(walk(&[fence(5, 8), leaf(4)], 1), (5, 1, 3));
        assert_eq!(
            walk(&[ContentPage::Fence(vec![(BlobId([9; 16]), 5), (BlobId([1; 16]), 5)]), leaf(4)], 1),
            (0, 1, 2)
        );
    }
}
