//! Builds the sections of one message: a head, a text, attachments, and the runs that interleave them.

use super::Sink;
use super::cdc::{CHUNK_BYTES_MIN, Chunker, Gear};
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::content::{Base64Lines, BlobKind, Piece, Run, Section, Shape};

/// Bytes of the message after which a section is closed and the message goes on in another.
///
/// A stream gives at most a blob per 256 KiB and one at its end, so a section stays below the limit on blobs.
pub const SECTION_SPAN: u64 = 640 << 20;
const _: () = assert!(
    SECTION_SPAN as usize / CHUNK_BYTES_MIN
        + limits::SECTION_PIECES_MAX
        + 2 * limits::BASE64_WIDTH_MAX / CHUNK_BYTES_MIN
        < limits::SECTION_BLOBS_MAX
);

/// What the pieces of a section are while it is built; attachments are numbered from `PART` on.
const HEAD: u16 = 0;
const TEXT: u16 = 1;
const PART: u16 = 2;

/// How an attachment is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it stands.
    Raw,
    /// Decoded from base64 lines of `width` characters that end with CRLF or LF.
    Base64 {
        /// Characters per line.
        width: usize,
        /// Lines end with CRLF.
        crlf: bool,
    },
}

/// One stream of blobs.
#[derive(Default)]
struct Stream {
    chunker: Chunker,
    blobs: Vec<BlobId>,
}

impl Stream {
    fn push<S: Sink>(
        &mut self,
        gear: &Gear,
        kind: BlobKind,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let blobs = &mut self.blobs;
        self.chunker.push(gear, bytes, |chunk| {
            blobs.push(sink.blob(kind, chunk)?);
            Ok(())
        })
    }

    fn finish<S: Sink>(&mut self, kind: BlobKind, sink: &mut S) -> Result<Vec<BlobId>, S::Error> {
        let blobs = &mut self.blobs;
        self.chunker.finish(|chunk| {
            blobs.push(sink.blob(kind, chunk)?);
            Ok(())
        })?;
        Ok(std::mem::take(&mut self.blobs))
    }

    fn reset(&mut self) {
        self.chunker.reset();
        self.blobs.clear();
    }
}

/// The message's section under construction.
pub struct Assembly {
    span: u64,
    shape: Shape,
    head: Vec<u8>,
    text: Stream,
    part: Stream,
    /// The attachment that is being taken, with the kind of its blobs.
    open: Option<(Form, BlobKind)>,
    parts: Vec<Piece>,
    runs: Vec<(u16, u64)>,
    length: u64,
}

impl Assembly {
    /// Makes an assembly whose sections span about `span` bytes.
    pub fn new(span: u64) -> Assembly {
        Assembly {
            span,
            shape: Shape::Message,
            head: Vec::new(),
            text: Stream::default(),
            part: Stream::default(),
            open: None,
            parts: Vec::new(),
            runs: Vec::new(),
            length: 0,
        }
    }

    /// Begins a message, or an opaque one.
    pub fn begin(&mut self, shape: Shape) {
        self.shape = shape;
        self.head.clear();
        self.text.reset();
        self.part.reset();
        self.open = None;
        self.parts.clear();
        self.runs.clear();
        self.length = 0;
    }

    /// True when another attachment still fits; else everything is text.
    pub fn has_room(&self) -> bool {
        self.runs.len() + 1 < limits::SECTION_RUNS_MAX
    }

    /// Bytes of the message until the section should close.
    pub fn left(&self) -> u64 {
        self.span.saturating_sub(self.length)
    }

    fn run(&mut self, piece: u16, length: u64) {
        self.length += length;
        match self.runs.last_mut() {
            Some((last, total)) if *last == piece => *total += length,
            _ => self.runs.push((piece, length)),
        }
    }

    /// Adds header or delimiter lines; what the head cannot take is text.
    pub fn head<S: Sink>(&mut self, gear: &Gear, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let open = self.has_room() || matches!(self.runs.last(), Some((HEAD, _)));
        let room = if open { limits::HEAD_BYTES_MAX - self.head.len() } else { 0 };
        let (fitting, rest) = bytes.split_at(bytes.len().min(room));
        if !fitting.is_empty() {
            self.head.extend_from_slice(fitting);
            self.run(HEAD, fitting.len() as u64);
        }
        self.text(gear, rest, sink)
    }

    /// Adds text.
    pub fn text<S: Sink>(&mut self, gear: &Gear, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.spread(bytes, sink, |assembly, bytes, sink| {
            assembly.text.push(gear, BlobKind::Text, bytes, sink)?;
            assembly.run(TEXT, bytes.len() as u64);
            Ok(())
        })
    }

    /// Adds bytes of the open raw attachment.
    pub fn raw<S: Sink>(&mut self, gear: &Gear, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.spread(bytes, sink, |assembly, bytes, sink| assembly.part(gear, bytes, bytes.len(), sink))
    }

    /// Adds base64 lines to the open attachment: their decoded bytes and the length of what they replace.
    pub fn lines<S: Sink>(
        &mut self,
        gear: &Gear,
        decoded: &[u8],
        encoded: usize,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        self.part(gear, decoded, encoded, sink)
    }

    fn part<S: Sink>(
        &mut self,
        gear: &Gear,
        bytes: &[u8],
        length: usize,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let (_, kind) = self.open.expect("an attachment is open while its bytes come");
        if length > 0 {
            self.part.push(gear, kind, bytes, sink)?;
            self.run(PART + self.parts.len() as u16, length as u64);
        }
        Ok(())
    }

    /// Feeds bytes piecewise, so that sections close after exactly `span` bytes.
    fn spread<S: Sink>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut S,
        mut add: impl FnMut(&mut Assembly, &[u8], &mut S) -> Result<(), S::Error>,
    ) -> Result<(), S::Error> {
        while !bytes.is_empty() {
            if self.left() == 0 {
                self.next_section(sink)?;
            }
            let fitting = self.left().min(bytes.len() as u64) as usize;
            add(self, &bytes[..fitting], sink)?;
            bytes = &bytes[fitting..];
        }
        Ok(())
    }

    /// Begins an attachment; asked only when `has_room`.
    pub fn open_part(&mut self, form: Form, kind: BlobKind) {
        self.open = Some((form, kind));
    }

    /// Ends the open attachment; `closed` when its last base64 line has a line ending.
    pub fn close_part<S: Sink>(&mut self, closed: bool, sink: &mut S) -> Result<(), S::Error> {
        let Some((form, kind)) = self.open.take() else { return Ok(()) };
        let blobs = self.part.finish(kind, sink)?;
        if !blobs.is_empty() {
            self.parts.push(match form {
                Form::Raw => Piece::Plain(blobs),
                Form::Base64 { width, crlf } => {
                    Piece::Base64(Base64Lines { width: width as u32, crlf, closed }, blobs)
                }
            });
        }
        Ok(())
    }

    /// Closes the section and goes on with the message in another; called at a line start inside base64.
    pub fn next_section<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let open = self.open;
        self.close_part(true, sink)?;
        self.close_section(sink)?;
        self.open = open;
        Ok(())
    }

    /// Ends the message.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.close_part(false, sink)?;
        self.close_section(sink)
    }

    fn close_section<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let mut pieces = Vec::with_capacity(self.parts.len() + 2);
        if !self.head.is_empty() {
            pieces.push(Piece::Plain(vec![sink.blob(BlobKind::Head, &self.head)?]));
            self.head.clear();
        }
        let text = self.text.finish(BlobKind::Text, sink)?;
        let text_at = pieces.len() as u16;
        if !text.is_empty() {
            pieces.push(Piece::Plain(text));
        }
        let parts_at = pieces.len() as u16;
        pieces.append(&mut self.parts);
        let place = |piece: u16| match piece {
            HEAD => 0,
            TEXT => text_at,
            part => parts_at + (part - PART),
        };
        let runs = self.runs.drain(..).map(|(piece, length)| Run { piece: place(piece), length }).collect();
        let shape = std::mem::replace(&mut self.shape, Shape::Continued);
        self.length = 0;
        sink.section(Section { shape, pieces, runs })
    }
}
