//! The bytes of a message that was found.

use crate::base::interrupt::Interrupt;
use crate::format::content::{Section, Shape};
use crate::format::page::File;
use crate::mail::mbox_state;
use crate::repo::RepoError;
use crate::repo::content::Sections;
use crate::repo::extract::{ExtractError, extract_bytes};
use crate::repo::reader::{Blob, BlobReader};

/// The bytes of a message, verified as they are read.
#[derive(Clone)]
pub struct Body<'a> {
    reader: &'a BlobReader<'a>,
    interrupt: &'a Interrupt,
    file: File,
    /// Of a message in an mbox: its header block without what belongs to the mbox, and the bytes of that block.
    header: Option<(Vec<u8>, u64)>,
}

impl<'a> Body<'a> {
    /// A message that is a file of its own.
    pub(super) fn new(reader: &'a BlobReader<'a>, interrupt: &'a Interrupt, file: File) -> Body<'a> {
        Body { reader, interrupt, file, header: None }
    }

    /// Leaves out what belongs to the mbox and not to the message; `block` is its header block.
    pub(super) fn without_mbox_state(self, block: &[u8]) -> Body<'a> {
        let kept = mbox_state::without_state(block);
        let header = (kept.len() != block.len()).then_some((kept, block.len() as u64));
        Body { header, ..self }
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        let removed = self.header.as_ref().map_or(0, |(kept, block)| block - kept.len() as u64);
        self.file.size.saturating_sub(removed)
    }

    /// The file that holds the message, or the stretch of one that it is.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn first_section(&self) -> Result<Option<Section>, RepoError> {
        let fetch = |id: &_| -> Result<Blob, RepoError> { self.reader.page(id) };
        let first = Sections::new(&self.file.content, fetch).next();
        first.transpose().map_err(RepoError::from)
    }

    /// True for a message that the mail server compressed or encrypted: its header cannot be read.
    pub fn is_opaque(&self) -> Result<bool, RepoError> {
        Ok(self.first_section()?.is_some_and(|section| section.shape == Shape::Opaque))
    }

    /// The header block, then the delimiter and header lines of the parts; `None` for what cannot be looked into.
    pub fn head(&self) -> Result<Option<Blob>, RepoError> {
        Ok(self.head_and_block()?.map(|(head, _)| head))
    }

    /// The head, and how many of its bytes are the header block.
    pub(super) fn head_and_block(&self) -> Result<Option<(Blob, usize)>, RepoError> {
        let Some(section) = self.first_section()?.filter(|section| section.shape == Shape::Message) else {
            return Ok(None);
        };
        let Some(id) = section.pieces.first().and_then(|piece| piece.blobs().first()) else {
            return Ok(None);
        };
        let head = self.reader.data(id)?;
        let run = section.runs.first().filter(|run| run.piece == 0).map_or(0, |run| run.length);
        let block = head.as_ref().len().min(run.try_into().unwrap_or(usize::MAX));
        Ok(Some((head, block)))
    }

    /// Gives the message to `out`, stretch by stretch.
    ///
    /// # Errors
    /// What comes before a damaged piece has been given then; nothing wrong ever is.
    pub fn read<W>(
        &self,
        mut out: impl FnMut(&[u8]) -> Result<(), ExtractError<W>>,
    ) -> Result<(), ExtractError<W>> {
        let mut skip = 0;
        if let Some((kept, block)) = &self.header {
            out(kept)?;
            skip = *block;
        }
        extract_bytes(self.reader, &self.file, self.interrupt, |bytes| {
            let skipped = skip.min(bytes.len() as u64);
            skip -= skipped;
            let rest = &bytes[skipped as usize..];
            if rest.is_empty() { Ok(()) } else { out(rest) }
        })
    }
}
