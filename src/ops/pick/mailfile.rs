//! Messages inside mailbox files: mbox and dbox.

use std::sync::Arc;

use super::folder::Source;
use super::{Body, MailFolder, Picked, Step};
use crate::format::content::{Content, Section, Shape};
use crate::format::page::{Entry, File, Node};
use crate::mail::hint::{Hint, hint_for};
use crate::mail::letter::Letter;
use crate::mail::mbox_state::{self, MboxState};
use crate::mail::templates::folder_name;
use crate::mail::{dbox, mbox};
use crate::repo::RepoError;
use crate::repo::content::Sections;
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::rewrite::is_loss;

/// What stands around the messages of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frames {
    Mbox,
    Dbox,
}

/// Bytes of a frame that are looked at.
const FRAME_BYTES_MAX: u64 = (dbox::METADATA_MAX + 512) as u64;

/// Is it the name of a dbox file?
pub(super) fn is_dbox_name(name: &[u8]) -> bool {
    hint_for(name, b"") == Hint::Dbox
}

fn sections<'a>(
    reader: &'a BlobReader<'a>,
    content: &Content,
) -> impl Iterator<Item = Result<Section, RepoError>> + use<'a> {
    let fetch = move |id: &_| -> Result<Blob, RepoError> { reader.page(id) };
    Sections::new(content, fetch).map(|section| section.map_err(RepoError::from))
}

/// The bytes of a frame; empty when it is too long to be one, or lost.
fn frame_bytes(reader: &BlobReader<'_>, section: &Section) -> Result<Vec<u8>, RepoError> {
    let first = section.pieces.first().and_then(|piece| piece.blobs().first());
    match first.filter(|_| section.length() <= FRAME_BYTES_MAX).map(|id| reader.data(id)) {
        Some(Ok(blob)) => Ok(blob.as_ref().to_vec()),
        Some(Err(error)) if !is_loss(&error) => Err(error),
        _ => Ok(Vec::new()),
    }
}

/// Does the file begin with a `From ` line, and a message after it?
pub(super) fn is_mbox(reader: &BlobReader<'_>, file: &File) -> Result<bool, RepoError> {
    let Some(first) = sections(reader, &file.content).next().transpose()? else { return Ok(false) };
    if first.shape != Shape::Bytes || first.length() > mbox::FROM_LINE_MAX as u64 {
        return Ok(false);
    }
    Ok(mbox::is_from_line(&frame_bytes(reader, &first)?))
}

/// A message that is being put together.
struct Open {
    before: Vec<u8>,
    sections: Vec<Section>,
}

/// Gives the messages of a file one after the other.
pub(super) fn each<'a, E: From<RepoError>>(
    source: Source<'a>,
    folder: &MailFolder,
    (path, entry): (&[u8], &Entry),
    frames: Frames,
    give: &mut dyn FnMut(Step<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let Node::File(file) = &entry.node else { return Ok(()) };
    let mut cutter = Cutter { source, folder, path, entry, frames, validity: None };
    let mut frame = Vec::new();
    let mut open: Option<Open> = None;
    for section in sections(source.reader, &file.content) {
        source.interrupt.check().map_err(RepoError::from)?;
        let section = match section {
            Ok(section) => section,
            Err(error) if error.ends_the_run() => return Err(error.into()),
            Err(error) => {
                // Nothing can follow bytes that are not there, and the message before may not be whole.
                return give(Step::Broken(path.to_vec(), error));
            }
        };
        match (&mut open, section.shape) {
            (_, Shape::Bytes) => {
                let bytes = frame_bytes(source.reader, &section)?;
                if let Some(open) = open.take() {
                    cutter.close(open, &bytes, give)?;
                }
                frame = bytes;
            }
            (Some(open), Shape::Continued) => open.sections.push(section),
            (_, Shape::Message | Shape::Opaque | Shape::Continued) => {
                if let Some(open) = open.take() {
                    cutter.close(open, b"", give)?;
                }
                open = Some(Open { before: std::mem::take(&mut frame), sections: vec![section] });
            }
        }
    }
    open.map_or(Ok(()), |open| cutter.close(open, b"", give))
}

struct Cutter<'a, 'f> {
    source: Source<'a>,
    folder: &'f MailFolder,
    path: &'f [u8],
    entry: &'f Entry,
    frames: Frames,
    validity: Option<u32>,
}

impl<'a> Cutter<'a, '_> {
    fn close<E: From<RepoError>>(
        &mut self,
        open: Open,
        behind: &[u8],
        give: &mut dyn FnMut(Step<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.letter(open, behind) {
            Ok(Some(picked)) => give(Step::Letter(Box::new(picked))),
            Ok(None) => Ok(()),
            Err(error) if error.ends_the_run() => Err(error.into()),
            Err(error) => give(Step::Broken(self.path.to_vec(), error)),
        }
    }

    fn letter(&mut self, open: Open, behind: &[u8]) -> Result<Option<Picked<'a>>, RepoError> {
        let size = open.sections.iter().map(Section::length).sum();
        let file = File { size, content: Content::Inline(open.sections), sparse: false, link_group: None };
        let body = Body::new(self.source.reader, self.source.interrupt, file);
        let letter = Letter {
            user: self.folder.user.clone(),
            folder: self.folder.name.clone(),
            base: Vec::new(),
            flags: Vec::new(),
            keywords: Vec::new(),
            unseen_by_any: false,
            arrived_s: self.entry.mtime_s,
            arrived_ns: 0,
            size,
            guid: None,
            uid: None,
        };
        let told = match self.frames {
            Frames::Mbox => self.mbox_letter(letter, body, &open.before)?,
            Frames::Dbox => Some((self.dbox_letter(letter, behind), body)),
        };
        let (path, mode, owner) = (self.path.to_vec(), self.entry.mode, Arc::clone(&self.entry.owner));
        Ok(told.map(|(letter, body)| Picked { letter, body, path, mode, owner }))
    }

    fn mbox_letter(
        &mut self,
        mut letter: Letter,
        mut body: Body<'a>,
        before: &[u8],
    ) -> Result<Option<(Letter, Body<'a>)>, RepoError> {
        if let Some(at) = mbox_state::from_date(before).and_then(|date| date.seconds(self.source.zone)) {
            letter.arrived_s = at;
        }
        let Some((head, block)) = body.head_and_block()? else { return Ok(Some((letter, body))) };
        let block = &head.as_ref()[..block];
        let state = MboxState::read(block);
        self.validity = self.validity.or(state.base.map(|(validity, _)| validity));
        if state.is_internal {
            return Ok(None);
        }
        letter.flags = state.flags;
        letter.keywords = state.keywords.into_iter().map(Some).collect();
        letter.unseen_by_any = state.is_new;
        letter.uid = self.validity.zip(state.uid);
        body = body.without_mbox_state(block);
        letter.size = body.size();
        Ok(Some((letter, body)))
    }

    fn dbox_letter(&self, mut letter: Letter, behind: &[u8]) -> Letter {
        let told = dbox::metadata(behind);
        letter.arrived_s = told.received.unwrap_or(letter.arrived_s);
        letter.guid = told.guid.map(<[u8]>::to_vec);
        if let Some(mailbox) = told.mailbox.filter(|_| letter.folder.starts_with('(')) {
            letter.folder = folder_name(mailbox);
        }
        letter
    }
}
