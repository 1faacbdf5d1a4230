//! Where in a file of several the catalogue's message is.

use super::heads::content_id;
use crate::base::id::{BlobId, DomainId};
use crate::format::content::{Content, Section, Shape};
use crate::format::page::File;
use crate::index::catalogue::ContentId;
use crate::repo::RepoError;
use crate::repo::content::Sections;
use crate::repo::reader::{Blob, BlobReader};

/// The number, from 0, of the message that a stay's name means; `None` when the file holds it no more.
pub fn position(
    reader: &BlobReader<'_>,
    domain: &DomainId,
    file: &File,
    name: &[u8],
) -> Result<Option<u64>, RepoError> {
    let Some((wanted, rest)) = name.split_first_chunk::<16>() else { return Ok(None) };
    let Some((turn, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
    let (wanted, mut turns_left) = (*wanted as ContentId, u16::from_be_bytes(*turn));
    let mut number = 0;
    let mut open: Vec<Section> = Vec::new();
    let mut close = |open: &mut Vec<Section>| {
        let sections = std::mem::take(open);
        if sections.is_empty() {
            return None;
        }
        number += 1;
        let content = content_id(domain, &Content::Inline(sections));
        if content != wanted {
            return None;
        }
        let found = turns_left == 0;
        turns_left = turns_left.saturating_sub(1);
        found.then_some(number - 1)
    };
    let fetch = |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) };
    for section in Sections::new(&file.content, fetch) {
        let section = section.map_err(RepoError::from)?;
        let goes_on = section.shape == Shape::Continued && !open.is_empty();
        if !goes_on && let Some(found) = close(&mut open) {
            return Ok(Some(found));
        }
        if section.shape != Shape::Bytes && open.len() < super::walk::MESSAGE_SECTIONS_MAX {
            open.push(section);
        }
    }
    Ok(close(&mut open))
}
