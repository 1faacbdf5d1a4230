//! A stretch of a file, read without what stands before and behind it.

use std::ops::{Deref, Range};

use super::RepoError;
use super::content::Awaited;
use super::extract::{Blobs, ExtractError, of_join};
use super::reader::BlobReader;
use crate::chunk;
use crate::format::content::{Content, ContentPage, Section};
use crate::format::page::File;

/// Appends the bytes `range` of a file to `out`; what of it lies behind the file's end is left out.
///
/// Content pages come from `pages`, decoded; it may keep them. One page a level is asked for, and only the blobs that
/// hold these bytes are read.
///
/// # Errors
/// As [`super::extract::extract`], possibly after bytes have been appended.
pub fn read_range<P: Deref<Target = ContentPage>>(
    reader: &BlobReader<'_>,
    file: &File,
    range: Range<u64>,
    out: &mut Vec<u8>,
    pages: &mut impl FnMut(&Awaited) -> Result<P, RepoError>,
) -> Result<(), ExtractError<()>> {
    let range = range.start..range.end.min(file.size);
    if range.is_empty() {
        return Ok(());
    }
    let mut stretch = Stretch { reader, range, out };
    match &file.content {
        Content::Inline(sections) => {
            let given = sections.iter().map(Section::length).fold(0, u64::saturating_add);
            if given != file.size {
                let detail = format!("it gives {given} bytes instead of {}", file.size);
                return Err(ExtractError::Recipe(detail));
            }
            stretch.sections(sections, 0)
        }
        Content::Paged { root, levels, .. } => {
            stretch.page(&Awaited::top(*root, *levels, Some(file.size)), 0, pages)
        }
    }
}

struct Stretch<'a> {
    reader: &'a BlobReader<'a>,
    range: Range<u64>,
    out: &'a mut Vec<u8>,
}

impl Stretch<'_> {
    /// The part that lies between two places of the file, counted from the first of them.
    fn within(&self, begin: u64, end: u64) -> Option<Range<u64>> {
        let (from, to) = (self.range.start.max(begin), self.range.end.min(end));
        (from < to).then(|| from - begin..to - begin)
    }

    /// Goes down from a page whose bytes begin at `begin`; each level is lower, so it ends.
    fn page<P: Deref<Target = ContentPage>>(
        &mut self,
        awaited: &Awaited,
        mut begin: u64,
        pages: &mut impl FnMut(&Awaited) -> Result<P, RepoError>,
    ) -> Result<(), ExtractError<()>> {
        match &*pages(awaited)? {
            ContentPage::Leaf(sections) => self.sections(sections, begin),
            ContentPage::Fence(below) => {
                for &(page, length) in below {
                    let end = begin.saturating_add(length);
                    if self.within(begin, end).is_some() {
                        self.page(&awaited.one_below((page, length)), begin, pages)?;
                    }
                    begin = end;
                }
                Ok(())
            }
        }
    }

    fn sections(&mut self, sections: &[Section], mut begin: u64) -> Result<(), ExtractError<()>> {
        for section in sections {
            let length = section.length();
            let end = begin.saturating_add(length);
            if let Some(range) = self.within(begin, end) {
                let out = &mut *self.out;
                let mut append = |bytes: &[u8]| {
                    out.extend_from_slice(bytes);
                    Ok(())
                };
                let mut blobs = Blobs(self.reader);
                let joined = match range == (0..length) {
                    true => chunk::join(section, &mut blobs, &mut append),
                    false => chunk::join_range(section, &mut blobs, range, &mut append),
                };
                joined.map_err(|error| of_join(error, ExtractError::Write))?;
            }
            begin = end;
        }
        Ok(())
    }
}
