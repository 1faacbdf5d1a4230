//! Reading what messages say of themselves: from their `head` blobs, or from the files where they still lie.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{CatalogueError, Message};
use crate::base::id::{BlobId, DomainId};
use crate::base::interrupt::Interrupt;
use crate::format::content::{self, Content, Section, Shape};
use crate::format::page::File;
use crate::index::catalogue::{Catalogue, ContentId, Facts};
use crate::mail::heading::{Heading, HeadingReader};
use crate::repo::RepoError;
use crate::repo::content::Sections;
use crate::repo::extract::read_small;
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::rewrite::is_loss;

/// Contents that are remembered as met in this run, before the catalogue that others see knows them.
const MET_MAX: usize = 1 << 18;
/// Largest file that is read where it lies.
const LOCAL_BYTES_MAX: u64 = 64 << 20;
/// Largest `dovecot-uidlist` or `dovecot-keywords` that is read.
const STATE_BYTES_MAX: u64 = 256 << 20;

/// Reads heads, each once.
pub(super) struct Heads<'a> {
    /// Sees what was committed before this run.
    catalogue: Option<&'a Catalogue>,
    met: HashSet<ContentId>,
    reader: HeadingReader,
    /// Files may be read where they lie.
    local: bool,
}

/// Names the content of a message.
pub(super) fn content_id(domain: &DomainId, content: &Content) -> ContentId {
    let mut ids = Vec::new();
    let structure = content::encode(content, &mut ids);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&domain.0).update(&structure);
    for id in &ids {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a digest holds 16 bytes")
}

/// The file that lies at a logical path of this host, when it has the size it had.
fn read_local(path: &[u8], size: u64, most: u64) -> Option<Vec<u8>> {
    if size > most {
        return None;
    }
    let mut file = std::fs::File::open(Path::new(OsStr::from_bytes(path))).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() != size {
        return None;
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.by_ref().take(size).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == size).then_some(bytes)
}

impl<'a> Heads<'a> {
    pub(super) fn new(catalogue: Option<&'a Catalogue>, local: bool) -> Heads<'a> {
        Heads { catalogue, met: HashSet::new(), reader: HeadingReader::default(), local }
    }

    /// A message that is a file of its own.
    pub(super) fn of_file(
        &mut self,
        reader: &BlobReader<'_>,
        domain: &DomainId,
        path: &[u8],
        file: &File,
    ) -> Result<Message, CatalogueError> {
        let content = content_id(domain, &file.content);
        if self.is_known(&content)? {
            return Ok(Message::Known(content));
        }
        let first = match &file.content {
            Content::Inline(sections) => sections.first().cloned(),
            paged => {
                let fetch = |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) };
                match Sections::new(paged, fetch).next() {
                    Some(Err(error)) => {
                        let error = RepoError::from(error);
                        if !is_loss(&error) {
                            return Err(error.into());
                        }
                        None
                    }
                    Some(Ok(section)) => Some(section),
                    None => None,
                }
            }
        };
        let facts = self.facts(reader, content, file.size, first.as_ref(), Some(path))?;
        Ok(Message::New(Box::new(facts)))
    }

    /// A message inside a file of several, by its sections.
    pub(super) fn of_sections(
        &mut self,
        reader: &BlobReader<'_>,
        domain: &DomainId,
        sections: Vec<Section>,
    ) -> Result<(ContentId, Message), CatalogueError> {
        let size = sections.iter().map(Section::length).sum();
        let content = content_id(domain, &Content::Inline(sections.clone()));
        if self.is_known(&content)? {
            return Ok((content, Message::Known(content)));
        }
        let facts = self.facts(reader, content, size, sections.first(), None)?;
        Ok((content, Message::New(Box::new(facts))))
    }

    fn is_known(&mut self, content: &ContentId) -> Result<bool, CatalogueError> {
        if self.met.contains(content) {
            return Ok(true);
        }
        if let Some(catalogue) = self.catalogue
            && catalogue.message(content)?.is_some()
        {
            return Ok(true);
        }
        if self.met.len() >= MET_MAX {
            self.met.clear();
        }
        self.met.insert(*content);
        Ok(false)
    }

    fn facts(
        &self,
        reader: &BlobReader<'_>,
        content: ContentId,
        size: u64,
        first: Option<&Section>,
        path: Option<&[u8]>,
    ) -> Result<Facts, CatalogueError> {
        let is_message = first.is_some_and(|section| section.shape == Shape::Message);
        let head = first.filter(|_| is_message).and_then(|section| section.pieces.first()?.blobs().first());
        let Some(head) = head else {
            // A file without a head has none anywhere: compressed, encrypted, or no message at all.
            return Ok(Facts::new(content, size, None, true));
        };
        let heading = match reader.data(head) {
            Ok(blob) => Some(self.reader.read(blob.as_ref())),
            Err(RepoError::NotForThisKey { .. }) => path.and_then(|path| self.of_local_file(path, size)),
            Err(error) if is_loss(&error) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Facts::new(content, size, heading, false))
    }

    /// What the file at a logical path of this host says, while it is there as it was.
    pub(super) fn of_local_file(&self, path: &[u8], size: u64) -> Option<Heading> {
        let bytes = read_local(path, size, LOCAL_BYTES_MAX).filter(|_| self.local)?;
        Some(self.reader.read_whole(&bytes))
    }

    /// The bytes of a small file; `None` where they are lost or not for this key.
    pub(super) fn bytes_of(
        &self,
        reader: &BlobReader<'_>,
        path: &[u8],
        file: &File,
    ) -> Result<Option<Vec<u8>>, CatalogueError> {
        match read_small(reader, file, STATE_BYTES_MAX, &Interrupt::default()) {
            Ok(bytes) => Ok(bytes),
            // It only grows; a later state of it tells as much and more.
            Err(RepoError::NotForThisKey { .. }) if self.local => Ok(local_state(path)),
            Err(error) if is_loss(&error) || matches!(error, RepoError::NotForThisKey { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn local_state(path: &[u8]) -> Option<Vec<u8>> {
    let size = std::fs::metadata(Path::new(OsStr::from_bytes(path))).ok()?.len();
    read_local(path, size, STATE_BYTES_MAX)
}
