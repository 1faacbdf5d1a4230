//! Turns a section back into the bytes it was cut from.
//!
//! Total over hostile sections: never a byte more than the runs say, at most [`HELD_BLOBS`] blobs in memory
//! whatever the runs do, and every piece must be used up exactly.

use super::encode::Encoder;
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::content::{Piece, Section};

/// Blobs that are kept while other pieces are read: a message alternates between its head, its text and an
/// attachment. A dropped blob is fetched again when its piece goes on.
const HELD_BLOBS: usize = 4;
/// Encoded bytes that are collected before they are written.
const WRITE_BYTES: usize = 64 << 10;

/// Gives blobs by their ids.
pub trait BlobSource {
    /// The plaintext of a blob.
    type Blob: AsRef<[u8]>;
    /// Why a blob cannot be given.
    type Error;

    /// Fetches a blob.
    fn blob(&mut self, id: &BlobId) -> Result<Self::Blob, Self::Error>;
}

/// The section could not be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError<B, W> {
    /// A blob could not be fetched.
    #[error("blob {id}")]
    Blob {
        /// The blob.
        id: BlobId,
        /// Why.
        source: B,
    },
    /// The bytes could not be written.
    #[error("write")]
    Write(#[source] W),
    /// The runs do not use up the pieces exactly, or a limit is passed.
    #[error("malformed section: {0}")]
    Malformed(&'static str),
}

/// What joining with this source and this writer gives.
pub(super) type Joined<T, B, W> = Result<T, JoinError<<B as BlobSource>::Error, W>>;

/// Writes the bytes of a section.
///
/// # Errors A section that does not fit its blobs fails, possibly after bytes have been written; a caller
/// that must not leave half a file removes it then.
pub fn join<B: BlobSource, W>(
    section: &Section,
    blobs: &mut B,
    mut out: impl FnMut(&[u8]) -> Result<(), W>,
) -> Joined<(), B, W> {
    check_limits(section).map_err(JoinError::Malformed)?;
    let mut held = Held::new(blobs);
    let mut readers: Vec<Reader> = section.pieces.iter().map(Reader::new).collect();
    let mut lines = Vec::new();
    for run in &section.runs {
        let index = usize::from(run.piece);
        let reader = &mut readers[index];
        let length = run.length;
        match &section.pieces[index] {
            Piece::Plain(ids) => copy(ids, &mut reader.place, length, &mut held, &mut out)?,
            Piece::Base64(_, ids) => encode(ids, reader, length, &mut held, &mut lines, &mut out)?,
            Piece::Zeros(all) => {
                reader.zeros += length;
                if reader.zeros > *all {
                    return Err(JoinError::Malformed("runs beyond a hole"));
                }
                write_zeros(length, &mut out)?;
            }
        }
    }
    let complete = section.pieces.iter().zip(&readers).all(|(piece, reader)| reader.is_used_up(piece));
    if complete { Ok(()) } else { Err(JoinError::Malformed("a piece is not used up")) }
}

pub(super) fn check_limits(section: &Section) -> Result<(), &'static str> {
    let blobs: usize = section.pieces.iter().map(|piece| piece.blobs().len()).sum();
    if section.pieces.len() > limits::SECTION_PIECES_MAX
        || section.runs.len() > limits::SECTION_RUNS_MAX
        || blobs > limits::SECTION_BLOBS_MAX
    {
        return Err("too many pieces, runs or blobs");
    }
    let mut total = 0u64;
    for run in &section.runs {
        if usize::from(run.piece) >= section.pieces.len() || run.length == 0 {
            return Err("a run of no piece or no length");
        }
        total = total.checked_add(run.length).ok_or("its length overflows")?;
    }
    for piece in &section.pieces {
        if let Piece::Base64(lines, _) = piece {
            let width = lines.width as usize;
            if !(limits::BASE64_WIDTH_MIN..=limits::BASE64_WIDTH_MAX).contains(&width)
                || !width.is_multiple_of(4)
            {
                return Err("base64 line width");
            }
        }
    }
    Ok(())
}

/// Where a piece was left off: in which blob, at which byte.
#[derive(Default)]
pub(super) struct Place {
    pub(super) blob: usize,
    pub(super) offset: usize,
}

pub(super) struct Reader {
    pub(super) place: Place,
    zeros: u64,
    encoder: Option<Encoder>,
}

impl Reader {
    pub(super) fn new(piece: &Piece) -> Reader {
        let encoder = match piece {
            Piece::Base64(lines, _) => Some(Encoder::new(*lines)),
            Piece::Plain(_) | Piece::Zeros(_) => None,
        };
        Reader { place: Place::default(), zeros: 0, encoder }
    }

    fn is_used_up(&self, piece: &Piece) -> bool {
        let blobs = self.place.blob == piece.blobs().len();
        match piece {
            Piece::Plain(_) => blobs,
            Piece::Zeros(length) => self.zeros == *length,
            Piece::Base64(..) => blobs && self.encoder.as_ref().is_some_and(Encoder::is_used_up),
        }
    }
}

/// The blobs in memory, the most recently used last.
pub(super) struct Held<'a, B: BlobSource> {
    pub(super) source: &'a mut B,
    blobs: Vec<(BlobId, B::Blob)>,
}

impl<'a, B: BlobSource> Held<'a, B> {
    pub(super) fn new(source: &'a mut B) -> Held<'a, B> {
        Held { source, blobs: Vec::with_capacity(HELD_BLOBS) }
    }
}

impl<B: BlobSource> Held<'_, B> {
    fn get<W>(&mut self, id: &BlobId) -> Joined<&[u8], B, W> {
        match self.blobs.iter().position(|(held, _)| held == id) {
            Some(at) => {
                let found = self.blobs.remove(at);
                self.blobs.push(found);
            }
            None => {
                if self.blobs.len() == HELD_BLOBS {
                    self.blobs.remove(0);
                }
                let blob = self.source.blob(id).map_err(|source| JoinError::Blob { id: *id, source })?;
                self.blobs.push((*id, blob));
            }
        }
        let (_, blob) = self.blobs.last().expect("a blob has just been pushed");
        let bytes = blob.as_ref();
        if bytes.is_empty() || bytes.len() > limits::BLOB_BYTES_MAX {
            return Err(JoinError::Malformed("an empty or too large blob"));
        }
        Ok(bytes)
    }

    /// The rest of the blob at `place`; `None` behind the last.
    fn at<W>(&mut self, ids: &[BlobId], place: &Place) -> Joined<Option<&[u8]>, B, W> {
        match ids.get(place.blob) {
            None => Ok(None),
            Some(id) => {
                let offset = place.offset;
                let bytes = self.get(id)?;
                // An offset is below the length of the same blob; another answer for the same id is no panic.
                bytes
                    .get(offset..)
                    .filter(|rest| !rest.is_empty())
                    .map(Some)
                    .ok_or(JoinError::Malformed("a blob changed"))
            }
        }
    }
}

impl Place {
    /// Goes on by `used` bytes in a blob of which `rest` bytes were left.
    fn advance(&mut self, used: usize, rest: usize) {
        if used == rest {
            self.blob += 1;
            self.offset = 0;
        } else {
            self.offset += used;
        }
    }
}

pub(super) fn write_zeros<E, W>(
    mut length: u64,
    out: &mut impl FnMut(&[u8]) -> Result<(), W>,
) -> Result<(), JoinError<E, W>> {
    const ZEROS: &[u8] = &[0; WRITE_BYTES];
    while length > 0 {
        let fitting = length.min(ZEROS.len() as u64);
        out(&ZEROS[..fitting as usize]).map_err(JoinError::Write)?;
        length -= fitting;
    }
    Ok(())
}

pub(super) fn copy<B: BlobSource, W>(
    ids: &[BlobId],
    place: &mut Place,
    mut length: u64,
    held: &mut Held<'_, B>,
    out: &mut impl FnMut(&[u8]) -> Result<(), W>,
) -> Joined<(), B, W> {
    while length > 0 {
        let rest = held.at(ids, place)?.ok_or(JoinError::Malformed("runs beyond a piece"))?;
        let fitting = length.min(rest.len() as u64) as usize;
        out(&rest[..fitting]).map_err(JoinError::Write)?;
        place.advance(fitting, rest.len());
        length -= fitting as u64;
    }
    Ok(())
}

pub(super) fn encode<B: BlobSource, W>(
    ids: &[BlobId],
    reader: &mut Reader,
    mut length: u64,
    held: &mut Held<'_, B>,
    lines: &mut Vec<u8>,
    out: &mut impl FnMut(&[u8]) -> Result<(), W>,
) -> Joined<(), B, W> {
    let encoder = reader.encoder.as_mut().ok_or(JoinError::Malformed("no base64 piece"))?;
    while length > 0 {
        let wanted = length.min(WRITE_BYTES as u64) as usize;
        lines.clear();
        match held.at(ids, &reader.place)? {
            Some(rest) => {
                let used = encoder.feed(rest, wanted, lines);
                reader.place.advance(used, rest.len());
            }
            None => {
                encoder.end(wanted, lines);
                if lines.is_empty() {
                    return Err(JoinError::Malformed("runs beyond a piece"));
                }
            }
        }
        if !lines.is_empty() {
            out(lines).map_err(JoinError::Write)?;
        }
        length -= lines.len() as u64;
    }
    Ok(())
}
