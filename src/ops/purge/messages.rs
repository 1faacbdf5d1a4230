//! Finding messages by their Message-ID, and cutting them out of an mbox.

use std::collections::HashSet;

use crate::base::id::BlobId;
use crate::format::content::{BlobKind, Content, Piece, Section, Shape};
use crate::format::page::File;
use crate::mail::mbox_cuts::{Bytes, MboxCuts};
use crate::mail::message_id;
use crate::repo::RepoError;
use crate::repo::content::{ContentBuilder, Sections};
use crate::repo::reader::Blob;
use crate::repo::rewrite::{Tools, is_loss};
use crate::repo::tombstones::{Mark, Marker, Marking, Stretch, each_section};

/// Heads that are remembered as not wanted; beyond this they are read again.
const KNOWN_HEADS_MAX: usize = 1 << 20;

/// What was found in a file.
pub enum Found {
    /// No wanted message.
    Nothing,
    /// The file is the wanted message.
    Whole,
    /// Wanted messages in an mbox: the bytes to cut, how many they are, and their marks.
    Cut(Vec<Bytes>, u64, Vec<Mark>),
    /// So many wanted messages in a file of which no part can go.
    NotPossible(u64),
}

/// Looks for messages; each head is read about once, however many snapshots and mailboxes hold it.
pub struct Searcher {
    wanted: HashSet<Vec<u8>>,
    others: HashSet<BlobId>,
    found: HashSet<BlobId>,
    opaque: HashSet<BlobId>,
    /// Messages of the file at hand whose head is lost.
    unread: u64,
}

impl Searcher {
    /// Looks for these ids, which are without angle brackets.
    pub fn new(wanted: HashSet<Vec<u8>>) -> Searcher {
        let (others, found, opaque) = Default::default();
        Searcher { wanted, others, found, opaque, unread: 0 }
    }

    /// Is there anything to look for?
    pub fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Messages that could not be looked into, up to a million.
    pub fn opaque(&self) -> u64 {
        self.opaque.len() as u64
    }

    /// Messages in the file that was searched last whose head is lost.
    pub fn take_unread(&mut self) -> u64 {
        std::mem::take(&mut self.unread)
    }

    /// Heads of another domain have other names.
    pub fn forget_heads(&mut self) {
        self.others.clear();
        self.found.clear();
    }

    fn is_wanted(&mut self, message: &Section, tools: &Tools<'_, '_>) -> Result<bool, RepoError> {
        let Some(head) = message.pieces.first().and_then(|piece| piece.blobs().first()) else {
            return Ok(false);
        };
        if message.shape != Shape::Message {
            if self.opaque.len() < KNOWN_HEADS_MAX {
                self.opaque.insert(*head);
            }
            return Ok(false);
        }
        if self.others.contains(head) {
            return Ok(false);
        }
        if self.found.contains(head) {
            return Ok(true);
        }
        let blob = match tools.reader.data(head) {
            Ok(blob) => blob,
            Err(error) if is_loss(&error) => {
                self.unread += 1;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let wanted = message_id::find(blob.as_ref()).is_some_and(|id| self.wanted.contains(&id));
        let known = if wanted { &mut self.found } else { &mut self.others };
        if known.len() >= KNOWN_HEADS_MAX {
            known.clear();
        }
        known.insert(*head);
        Ok(wanted)
    }

    /// Looks through one file.
    pub fn search(
        &mut self,
        content: &Content,
        marker: &Marker,
        tools: &Tools<'_, '_>,
    ) -> Result<Found, RepoError> {
        if content.messages() == 0 {
            return Ok(Found::Nothing);
        }
        let mut marking = Marking::new(marker);
        let mut tally = Tally::default();
        let mut stretches: Vec<Stretch> = Vec::new();
        let (page, data) = (|id: &BlobId| tools.page(id), |id: &BlobId| tools.reader.data(id));
        each_section(content, page, data, |section, begin| {
            marking.add(&section, begin, &mut |stretch| stretches.push(stretch));
            stretches.drain(..).try_for_each(|stretch| tally.add(self, stretch, tools))
        })?;
        let is_mbox = marking.is_mbox();
        marking.finish(&mut |stretch| stretches.push(stretch));
        stretches.into_iter().try_for_each(|stretch| tally.add(self, stretch, tools))?;
        Ok(match tally.hits {
            0 => Found::Nothing,
            hits if is_mbox => Found::Cut(tally.cuts.finish(), hits, tally.marks),
            _ if tally.first_is_message && tally.messages == 1 => Found::Whole,
            hits => Found::NotPossible(hits),
        })
    }
}

/// What a search has met in one file.
#[derive(Default)]
struct Tally {
    begun: bool,
    first_is_message: bool,
    messages: u64,
    hits: u64,
    cuts: MboxCuts,
    marks: Vec<Mark>,
}

impl Tally {
    fn add(
        &mut self,
        searcher: &mut Searcher,
        stretch: Stretch,
        tools: &Tools<'_, '_>,
    ) -> Result<(), RepoError> {
        self.first_is_message |= !self.begun && stretch.message.is_some();
        self.begun = true;
        let Some(message) = &stretch.message else {
            self.cuts.frame(stretch.length, stretch.blank);
            return Ok(());
        };
        let wanted = searcher.is_wanted(message, tools)?;
        self.messages += 1;
        self.cuts.message(stretch.length, wanted);
        if wanted {
            self.hits += 1;
            self.marks.extend(stretch.mark);
        }
        Ok(())
    }
}

/// Takes ranges of bytes, as [`MboxCuts`] gives them, out of a file.
pub fn cut(file: &File, cuts: &[Bytes], tools: &mut Tools<'_, '_>) -> Result<File, RepoError> {
    let mut builder = ContentBuilder::default();
    let (mut at, mut size) = (0, 0);
    let (reader, interrupt) = (tools.reader, tools.interrupt);
    let fetch = |id: &BlobId| -> Result<Blob, RepoError> {
        interrupt.check()?;
        reader.page(id)
    };
    for section in Sections::new(&file.content, fetch) {
        let section = section.map_err(RepoError::from)?;
        let (start, end) = (at, at + section.length());
        at = end;
        let gone = cuts.iter().find(|range| range.start < end && range.end > start);
        let left = match gone {
            None => section,
            Some(range) if range.start <= start && range.end >= end => continue,
            Some(range) => behind(&section, (range.end - start) as usize, tools)?,
        };
        size += left.length();
        builder.push(left, &mut |page| tools.put(BlobKind::Tree, page))?;
    }
    let content = builder.finish(&mut |page| tools.put(BlobKind::Tree, page))?;
    Ok(File { size, content, ..file.clone() })
}

/// A frame without the blank line that it began with.
fn behind(frame: &Section, from: usize, tools: &mut Tools<'_, '_>) -> Result<Section, RepoError> {
    let [Piece::Plain(ids)] = frame.pieces.as_slice() else { return Ok(frame.clone()) };
    let [id] = ids.as_slice() else { return Ok(frame.clone()) };
    let blob = tools.reader.data(id)?;
    let rest = blob.as_ref().get(from..).unwrap_or_default();
    let id = tools.put(BlobKind::Text, rest)?;
    let runs = frame.runs.iter().map(|run| crate::format::content::Run { length: rest.len() as u64, ..*run });
    Ok(Section { shape: frame.shape, pieces: vec![Piece::Plain(vec![id])], runs: runs.collect() })
}
