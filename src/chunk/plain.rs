//! Bytes without mail meaning: files, mailbox state, and what stands between messages.

use super::Sink;
use super::cdc::{Chunker, Gear};
use super::lines::LineGroups;
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::content::{BlobKind, Piece, Run, Section, Shape};

/// Blobs of a file in one section: small enough to find a place in a large file, about 64 MiB.
const FILE_BLOBS: usize = 64;
/// Groups of lines in one section.
const STATE_BLOBS: usize = 1024;

const _: () = assert!(STATE_BLOBS <= limits::SECTION_BLOBS_MAX && FILE_BLOBS <= STATE_BLOBS);

/// Emits a stretch of plain bytes as one section with one blob; `bytes` is small.
pub fn emit_small<S: Sink>(kind: BlobKind, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let blob = sink.blob(kind, bytes)?;
    sink.section(one_piece(Piece::Plain(vec![blob]), bytes.len() as u64))
}

/// Emits a hole.
pub fn emit_zeros<S: Sink>(length: u64, sink: &mut S) -> Result<(), S::Error> {
    if length == 0 { Ok(()) } else { sink.section(one_piece(Piece::Zeros(length), length)) }
}

fn one_piece(piece: Piece, length: u64) -> Section {
    Section { shape: Shape::Bytes, pieces: vec![piece], runs: vec![Run { piece: 0, length }] }
}

/// Blobs on their way into sections of one plain piece each.
#[derive(Default)]
struct Gathered {
    blobs: Vec<BlobId>,
    length: u64,
}

impl Gathered {
    fn add<S: Sink>(
        &mut self,
        kind: BlobKind,
        most: usize,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        self.blobs.push(sink.blob(kind, chunk)?);
        self.length += chunk.len() as u64;
        if self.blobs.len() == most { self.close(sink) } else { Ok(()) }
    }

    fn close<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        if self.blobs.is_empty() {
            return Ok(());
        }
        let length = std::mem::take(&mut self.length);
        sink.section(one_piece(Piece::Plain(std::mem::take(&mut self.blobs)), length))
    }
}

/// Cuts a file by content.
#[derive(Default)]
pub struct FileCutter {
    chunker: Chunker,
    gathered: Gathered,
}

impl FileCutter {
    /// Takes the next bytes.
    pub fn push<S: Sink>(&mut self, gear: &Gear, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let gathered = &mut self.gathered;
        self.chunker.push(gear, bytes, |chunk| gathered.add(BlobKind::File, FILE_BLOBS, chunk, sink))
    }

    /// Ends the stretch.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let gathered = &mut self.gathered;
        self.chunker.finish(|chunk| gathered.add(BlobKind::File, FILE_BLOBS, chunk, sink))?;
        self.gathered.close(sink)
    }

    /// Forgets a stretch that was not finished.
    pub fn reset(&mut self) {
        self.chunker.reset();
        self.gathered = Gathered::default();
    }
}

/// Cuts mailbox state into groups of lines.
#[derive(Default)]
pub struct StateCutter {
    groups: LineGroups,
    gathered: Gathered,
}

impl StateCutter {
    /// Takes the next bytes.
    pub fn push<S: Sink>(&mut self, gear: &Gear, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let gathered = &mut self.gathered;
        self.groups.push(gear, bytes, |group| gathered.add(BlobKind::State, STATE_BLOBS, group, sink))
    }

    /// Ends the file.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let gathered = &mut self.gathered;
        self.groups.finish(|group| gathered.add(BlobKind::State, STATE_BLOBS, group, sink))?;
        self.gathered.close(sink)
    }

    /// Forgets a file that was not finished.
    pub fn reset(&mut self) {
        self.groups.reset();
        self.gathered = Gathered::default();
    }
}
