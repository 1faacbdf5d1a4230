//! What a file's bytes are made of: sections of pieces, joined by runs.
//!
//! A section is self-contained: its runs give a stretch of the file, and a file is its sections in order. A
//! message is one section unless it is very large. Structure and blob ids are encoded apart, because ids do not
//! compress and structure does. Section "Content" of `repo-format.md`.

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use crate::base::id::BlobId;
use crate::base::limits;

/// What the blobs of a segment hold; part of every frame's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[repr(u8)]
pub enum BlobKind {
    /// Header block of a message, then its MIME delimiter and part-header lines.
    Head = 0,
    /// Text of messages.
    Text = 1,
    /// Attachments, decoded where that is reversible.
    Attachment = 2,
    /// Files that are not messages.
    File = 3,
    /// Mailbox state that is rewritten all the time (`dovecot-uidlist`).
    State = 4,
    /// Pages of folders and of long contents.
    Tree = 5,
}

impl BlobKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [BlobKind; 6] = [
        BlobKind::Head,
        BlobKind::Text,
        BlobKind::Attachment,
        BlobKind::File,
        BlobKind::State,
        BlobKind::Tree,
    ];
}

/// What a section was cut as; tells the catalogue where headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Shape {
    /// Bytes without mail meaning.
    Bytes,
    /// A message from its first header line; piece 0 is its `head`.
    Message,
    /// More of the message that the previous section began.
    Continued,
    /// A message that cannot be looked into (compressed or encrypted by the mail server).
    Opaque,
}

/// How a decoded run is turned back into the base64 lines that stood in the file.
///
/// Every line holds `width` characters and ends with CRLF or LF, but for the last, which holds what is left
/// (1 to `width` characters) and whose line ending may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Base64Lines {
    /// Characters per line; a multiple of 4.
    pub width: u32,
    /// Lines end with CRLF, else with LF.
    pub crlf: bool,
    /// The last line ends with a line ending too.
    pub closed: bool,
}

/// Bytes of a section in one stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Piece {
    /// The blobs one after the other.
    Plain(Vec<BlobId>),
    /// The blobs one after the other, encoded as one base64 stream.
    Base64(Base64Lines, Vec<BlobId>),
    /// That many zero bytes, a hole of a sparse file.
    Zeros(u64),
}

impl Piece {
    /// The blobs of the piece.
    pub fn blobs(&self) -> &[BlobId] {
        match self {
            Piece::Plain(blobs) | Piece::Base64(_, blobs) => blobs,
            Piece::Zeros(_) => &[],
        }
    }
}

/// The next `length` bytes of the file come from where piece number `piece` was left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Run {
    /// Index into the section's pieces.
    pub piece: u16,
    /// Bytes of the file (after base64 encoding); at least 1.
    pub length: u64,
}

/// A self-contained stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Section {
    /// What it was cut as.
    pub shape: Shape,
    /// The streams.
    pub pieces: Vec<Piece>,
    /// How they interleave; consumes every piece exactly.
    pub runs: Vec<Run>,
}

impl Section {
    /// Bytes of the file that the section gives.
    pub fn length(&self) -> u64 {
        self.runs.iter().map(|run| run.length).sum()
    }
}

/// What the bytes of a file are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// The sections themselves; empty for an empty file.
    Inline(Vec<Section>),
    /// The sections stand in pages of their own.
    Paged {
        /// The top page, a `tree` blob.
        root: BlobId,
        /// Levels of fence pages above the leaves; 0 when `root` is a leaf.
        levels: u8,
        /// Messages in all sections below.
        messages: u64,
    },
}

impl Content {
    /// The content of an empty file.
    pub const EMPTY: Content = Content::Inline(Vec::new());

    /// The first blob of it, where its sections stand here.
    pub fn first_blob(&self) -> Option<&BlobId> {
        let Content::Inline(sections) = self else { return None };
        sections.iter().flat_map(|section| &section.pieces).flat_map(|piece| piece.blobs()).next()
    }

    /// How many messages the file holds.
    pub fn messages(&self) -> u64 {
        match self {
            Content::Inline(sections) => count_messages(sections),
            Content::Paged { messages, .. } => *messages,
        }
    }
}

/// How many messages begin in these sections.
pub fn count_messages(sections: &[Section]) -> u64 {
    sections.iter().filter(|section| matches!(section.shape, Shape::Message | Shape::Opaque)).count() as u64
}

#[derive(Encode, Decode)]
enum WirePiece {
    Plain(u32),
    Base64(Base64Lines, u32),
    Zeros(u64),
}

#[derive(Encode, Decode)]
struct WireSection {
    shape: Shape,
    pieces: Vec<WirePiece>,
    runs: Vec<Run>,
}

#[derive(Encode, Decode)]
enum WireContent {
    Inline(Vec<WireSection>),
    Paged { levels: u8, messages: u64 },
}

fn to_wire(section: &Section, ids: &mut Vec<BlobId>) -> WireSection {
    let pieces = section
        .pieces
        .iter()
        .map(|piece| {
            ids.extend_from_slice(piece.blobs());
            let count = piece.blobs().len() as u32;
            match piece {
                Piece::Plain(_) => WirePiece::Plain(count),
                Piece::Base64(lines, _) => WirePiece::Base64(*lines, count),
                Piece::Zeros(length) => WirePiece::Zeros(*length),
            }
        })
        .collect();
    WireSection { shape: section.shape, pieces, runs: section.runs.clone() }
}

fn take_ids(count: u32, ids: &mut impl Iterator<Item = BlobId>) -> Result<Vec<BlobId>> {
    codec::limit("blobs of a section", count.into(), limits::SECTION_BLOBS_MAX as u64)?;
    let taken: Vec<BlobId> = ids.take(count as usize).collect();
    codec::agree(taken.len() == count as usize, "blob ids of a content")?;
    Ok(taken)
}

fn from_wire(wire: WireSection, ids: &mut impl Iterator<Item = BlobId>) -> Result<Section> {
    codec::limit("pieces of a section", wire.pieces.len() as u64, limits::SECTION_PIECES_MAX as u64)?;
    codec::limit("runs of a section", wire.runs.len() as u64, limits::SECTION_RUNS_MAX as u64)?;
    let mut pieces = Vec::with_capacity(wire.pieces.len());
    for piece in wire.pieces {
        pieces.push(match piece {
            WirePiece::Plain(count) => Piece::Plain(take_ids(count, ids)?),
            WirePiece::Base64(lines, count) => {
                let width = lines.width as usize;
                codec::agree(
                    (limits::BASE64_WIDTH_MIN..=limits::BASE64_WIDTH_MAX).contains(&width)
                        && width.is_multiple_of(4),
                    "base64 line width",
                )?;
                Piece::Base64(lines, take_ids(count, ids)?)
            }
            WirePiece::Zeros(length) => Piece::Zeros(length),
        });
    }
    for run in &wire.runs {
        codec::agree(usize::from(run.piece) < pieces.len() && run.length > 0, "runs of a section")?;
    }
    total("length of a section", wire.runs.iter().map(|run| run.length))?;
    Ok(Section { shape: wire.shape, pieces, runs: wire.runs })
}

fn sections_from_wire(wire: Vec<WireSection>, mut ids: impl Iterator<Item = BlobId>) -> Result<Vec<Section>> {
    codec::limit("sections", wire.len() as u64, limits::PAGE_SECTIONS_MAX as u64)?;
    let sections = wire.into_iter().map(|section| from_wire(section, &mut ids)).collect::<Result<_>>()?;
    codec::agree(ids.next().is_none(), "blob ids of a content")?;
    Ok(sections)
}

/// Bytes that the structure of these sections takes, for the decision between inline and paged.
pub fn recipe_bytes(sections: &[Section]) -> usize {
    let mut ids = Vec::new();
    let wire: Vec<WireSection> = sections.iter().map(|section| to_wire(section, &mut ids)).collect();
    codec::encode(&wire).len() + ids.len() * size_of::<BlobId>()
}

/// Encodes a content: the structure is returned, the ids are appended to `ids`.
pub fn encode(content: &Content, ids: &mut Vec<BlobId>) -> Vec<u8> {
    codec::encode(&match content {
        Content::Inline(sections) => WireContent::Inline(sections.iter().map(|s| to_wire(s, ids)).collect()),
        Content::Paged { root, levels, messages } => {
            ids.push(*root);
            WireContent::Paged { levels: *levels, messages: *messages }
        }
    })
}

/// Decodes a content from its structure and its ids, which must be used up exactly.
pub fn decode(structure: &[u8], ids: &[BlobId]) -> Result<Content> {
    match codec::decode(structure, "content")? {
        WireContent::Inline(wire) => Ok(Content::Inline(sections_from_wire(wire, ids.iter().copied())?)),
        WireContent::Paged { levels, messages } => {
            codec::limit("levels of a content", levels.into(), limits::PAGE_LEVELS_MAX.into())?;
            let [root] = ids else { return Err(FormatError::Inconsistent { what: "blob ids of a content" }) };
            Ok(Content::Paged { root: *root, levels, messages })
        }
    }
}

/// One page of a long content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentPage {
    /// Sections in order.
    Leaf(Vec<Section>),
    /// Pages in order, each with the bytes of the file below it, at least one.
    Fence(Vec<(BlobId, u64)>),
}

#[derive(Encode, Decode)]
enum WirePage {
    Leaf(Vec<WireSection>, Vec<BlobId>),
    Fence(Vec<(BlobId, u64)>),
}

/// Adds lengths up, if the sum is a length still.
fn total(what: &'static str, mut lengths: impl Iterator<Item = u64>) -> Result<u64> {
    lengths
        .try_fold(0u64, |sum, length| sum.checked_add(length))
        .ok_or(FormatError::Limit { what, value: u64::MAX })
}

impl ContentPage {
    /// Bytes of the file that the page gives.
    pub fn length(&self) -> u64 {
        match self {
            ContentPage::Leaf(sections) => sections.iter().map(Section::length).fold(0, u64::saturating_add),
            ContentPage::Fence(children) => {
                children.iter().map(|(_, length)| *length).fold(0, u64::saturating_add)
            }
        }
    }

    /// The plaintext of the page's blob.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&match self {
            ContentPage::Leaf(sections) => {
                let mut ids = Vec::new();
                let wire = sections.iter().map(|section| to_wire(section, &mut ids)).collect();
                WirePage::Leaf(wire, ids)
            }
            ContentPage::Fence(children) => WirePage::Fence(children.clone()),
        })
    }

    /// Reads the plaintext of a page's blob.
    pub fn decode(bytes: &[u8]) -> Result<ContentPage> {
        codec::limit("bytes of a content page", bytes.len() as u64, limits::PAGE_BYTES_MAX as u64)?;
        match codec::decode(bytes, "content page")? {
            WirePage::Leaf(wire, ids) => {
                let sections = sections_from_wire(wire, ids.into_iter())?;
                total("length of a content page", sections.iter().map(Section::length))?;
                Ok(ContentPage::Leaf(sections))
            }
            WirePage::Fence(children) => {
                codec::limit("pages below a fence", children.len() as u64, limits::PAGE_ENTRIES_MAX as u64)?;
                codec::agree(!children.is_empty(), "fence page")?;
                codec::agree(children.iter().all(|(_, length)| *length > 0), "fence page")?;
                total("length of a content page", children.iter().map(|(_, length)| *length))?;
                Ok(ContentPage::Fence(children))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(shape: Shape, pieces: Vec<Piece>, lengths: &[u64]) -> Section {
        let runs = lengths.iter().map(|&length| Run { piece: 0, length }).collect();
        Section { shape, pieces, runs }
    }

    fn text(length: u64) -> Section {
        section(Shape::Message, vec![Piece::Plain(vec![BlobId([1; 16])])], &[length])
    }

    #[test]
    fn only_what_begins_a_message_counts_as_one() {
        let shapes = [Shape::Bytes, Shape::Message, Shape::Continued, Shape::Opaque, Shape::Message];
        let sections = shapes.map(|shape| section(shape, Vec::new(), &[]));
        assert_eq!(count_messages(&sections), 3);
        assert_eq!(Content::Inline(sections.to_vec()).messages(), 3);
        assert_eq!(Content::Paged { root: BlobId::default(), levels: 1, messages: 9 }.messages(), 9);
        assert_eq!(count_messages(&sections[..1]), 0);
    }

    #[test]
    fn the_first_blob_is_that_of_the_first_piece_that_has_one() {
        let (one, two) = (BlobId([1; 16]), BlobId([2; 16]));
        let holes = section(Shape::Bytes, vec![Piece::Zeros(9)], &[9]);
        let plain = section(Shape::Bytes, vec![Piece::Plain(vec![two, one])], &[9]);
        assert_eq!(Content::Inline(vec![plain]).first_blob(), Some(&two));
        assert_eq!(Content::Inline(vec![holes]).first_blob(), None);
        assert_eq!(Content::Inline(Vec::new()).first_blob(), None);
    }

    #[test]
    fn the_weight_of_sections_is_structure_and_16_for_each_id() {
        // The number of sections; shape, one piece of three blobs, one run of piece 0.
        let ids = vec![BlobId([1; 16]); 3];
        let one = section(Shape::Bytes, vec![Piece::Plain(ids.clone())], &[5]);
        assert_eq!(recipe_bytes(std::slice::from_ref(&one)), 1 + 7 + 3 * 16);
        let all = [one.clone(), one, section(Shape::Bytes, vec![Piece::Zeros(9)], &[9])];
        assert_eq!(recipe_bytes(&all), 1 + 2 * 7 + 7 + 6 * 16);
    }

    #[test]
    fn a_page_gives_the_sum_of_what_is_below() {
        let pages = [
            (ContentPage::Leaf(vec![text(5), text(7)]), 12),
            (ContentPage::Leaf(Vec::new()), 0),
            (ContentPage::Fence(vec![(BlobId([2; 16]), 3), (BlobId([3; 16]), 4)]), 7),
        ];
        for (page, length) in pages {
            assert_eq!(page.length(), length);
            assert_eq!(ContentPage::decode(&page.encode()), Ok(page));
        }
    }

    #[test]
    fn hostile_contents_are_refused() {
        let fence = |lengths: &[u64]| {
            ContentPage::Fence(lengths.iter().map(|&length| (BlobId([2; 16]), length)).collect())
        };
        let leaf = |section| ContentPage::Leaf(vec![section]);
        let blobs = |count| section(Shape::Bytes, vec![Piece::Plain(vec![BlobId([1; 16]); count])], &[1]);
        let lines = |width| {
            let lines = Base64Lines { width, crlf: false, closed: false };
            section(Shape::Bytes, vec![Piece::Base64(lines, Vec::new())], &[1])
        };
        let (pieces, runs) = (limits::SECTION_PIECES_MAX, limits::SECTION_RUNS_MAX);
        let many = |pieces, runs| section(Shape::Bytes, vec![Piece::Zeros(1); pieces], &vec![1; runs]);
        let (width_min, width_max) = (limits::BASE64_WIDTH_MIN as u32, limits::BASE64_WIDTH_MAX as u32);
        for good in [
            fence(&[1]),
            fence(&[1, u64::MAX - 1]),
            fence(&[1; limits::PAGE_ENTRIES_MAX]),
            leaf(text(u64::MAX)),
            ContentPage::Leaf(vec![text(1); limits::PAGE_SECTIONS_MAX]),
            leaf(many(pieces, runs)),
            leaf(blobs(limits::SECTION_BLOBS_MAX)),
            leaf(lines(width_min)),
            leaf(lines(width_max)),
        ] {
            assert_eq!(ContentPage::decode(&good.encode()), Ok(good));
        }
        for bad in [
            fence(&[]),
            fence(&[1, 0]),
            fence(&[1, u64::MAX]),
            fence(&[1; limits::PAGE_ENTRIES_MAX + 1]),
            leaf(text(0)),
            leaf(section(Shape::Bytes, Vec::new(), &[1])),
            leaf(section(Shape::Bytes, vec![Piece::Zeros(1)], &[1, u64::MAX])),
            ContentPage::Leaf(vec![text(1), text(u64::MAX)]),
            ContentPage::Leaf(vec![text(1); limits::PAGE_SECTIONS_MAX + 1]),
            leaf(many(pieces + 1, 1)),
            leaf(many(1, runs + 1)),
            leaf(blobs(limits::SECTION_BLOBS_MAX + 1)),
            leaf(lines(width_min - 4)),
            leaf(lines(width_min + 1)),
            leaf(lines(width_max + 4)),
        ] {
            assert!(ContentPage::decode(&bad.encode()).is_err(), "{bad:?}");
        }
        // An id too many, and one too few.
        for count in [0, 2] {
            let page = WirePage::Leaf(vec![to_wire(&text(1), &mut Vec::new())], vec![BlobId([1; 16]); count]);
            assert!(ContentPage::decode(&codec::encode(&page)).is_err());
        }
    }

    #[test]
    fn contents_come_back_from_structure_and_ids() {
        let paged = Content::Paged { root: BlobId([4; 16]), levels: limits::PAGE_LEVELS_MAX, messages: 9 };
        for content in [Content::EMPTY, Content::Inline(vec![text(3), text(4)]), paged] {
            let mut ids = Vec::new();
            let structure = encode(&content, &mut ids);
            assert_eq!(decode(&structure, &ids), Ok(content));
            ids.push(BlobId::default());
            assert!(decode(&structure, &ids).is_err());
        }
        let high = Content::Paged { root: BlobId([4; 16]), levels: limits::PAGE_LEVELS_MAX + 1, messages: 9 };
        let mut ids = Vec::new();
        let structure = encode(&high, &mut ids);
        assert!(decode(&structure, &ids).is_err());
    }
}
