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

/// The sections of a content in order, read page by page.
pub struct Sections<F> {
    fetch: F,
    pending: Vec<(BlobId, u8)>,
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
            Content::Paged { root, levels, .. } => (Vec::new(), vec![(*root, *levels)]),
        };
        Sections { fetch, pending, sections: sections.into_iter() }
    }

    fn read(&mut self, page: &BlobId, level: u8) -> Result<ContentPage, TreeError<E>> {
        let bytes = (self.fetch)(page).map_err(TreeError::Fetch)?;
        let wrong = |detail| TreeError::Page { page: *page, detail };
        let read = ContentPage::decode(bytes.as_ref()).map_err(|error| wrong(error.to_string()))?;
        match (&read, level) {
            (ContentPage::Leaf(_), 0) | (ContentPage::Fence(_), 1..) => Ok(read),
            _ => Err(wrong(format!("not a content page of level {level}"))),
        }
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
            let (page, level) = self.pending.pop()?;
            match self.read(&page, level) {
                Ok(ContentPage::Leaf(sections)) => self.sections = sections.into_iter(),
                Ok(ContentPage::Fence(pages)) => {
                    self.pending.extend(pages.iter().rev().map(|(page, _)| (*page, level - 1)));
                }
                Err(error) => return Some(Err(error)),
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
}
