//! A stretch of a section, without what stands before and behind it.

use std::ops::Range;

use super::join::{
    BlobSource, Held, JoinError, Joined, Place, Reader, check_limits, copy, encode, write_zeros,
};
use crate::base::id::BlobId;
use crate::format::content::{Piece, Section};

/// Also knows how long a blob is without reading it.
pub trait MeasuredSource: BlobSource {
    /// Bytes of a blob.
    fn length(&mut self, id: &BlobId) -> Result<u64, Self::Error>;
}

/// Writes the bytes `range` of a section; what of it lies behind the section's end is left out.
///
/// Only the blobs that hold these bytes are read. So it is not seen whether the rest fits the runs: that takes
/// [`super::join()`].
///
/// # Errors
/// As [`super::join()`], possibly after bytes have been written.
pub fn join_range<B: MeasuredSource, W>(
    section: &Section,
    blobs: &mut B,
    range: Range<u64>,
    mut out: impl FnMut(&[u8]) -> Result<(), W>,
) -> Joined<(), B, W> {
    check_limits(section).map_err(JoinError::Malformed)?;
    let mut held = Held::new(blobs);
    // Bytes that the runs so far took from each piece, and bytes of the section that they gave.
    let mut taken = vec![0u64; section.pieces.len()];
    let mut given = 0u64;
    for run in &section.runs {
        let index = usize::from(run.piece);
        let (begin, start) = (given, taken[index]);
        // The sum of all runs is a length still: `check_limits` saw to it.
        given += run.length;
        taken[index] += run.length;
        if given <= range.start {
            continue;
        }
        if begin >= range.end {
            break;
        }
        let skipped = range.start.saturating_sub(begin);
        let length = range.end.min(given) - begin - skipped;
        let piece = &section.pieces[index];
        write(piece, start + skipped, length, &mut held, &mut out)?;
    }
    Ok(())
}

/// Writes `length` bytes of a piece from byte `from` on.
fn write<B: MeasuredSource, W>(
    piece: &Piece,
    from: u64,
    length: u64,
    held: &mut Held<'_, B>,
    out: &mut impl FnMut(&[u8]) -> Result<(), W>,
) -> Joined<(), B, W> {
    let mut reader = Reader::new(piece);
    match piece {
        Piece::Plain(ids) => {
            reader.place = place_of(ids, from, held)?;
            copy(ids, &mut reader.place, length, held, out)
        }
        Piece::Base64(lines, ids) => {
            // Every line but the last is full, so a line's number tells the byte that it begins with.
            let ending = if lines.crlf { 2 } else { 1 };
            let line_bytes = u64::from(lines.width) + ending;
            let mut unwanted = from % line_bytes;
            let length = length.saturating_add(unwanted);
            reader.place = place_of(ids, from / line_bytes * u64::from(lines.width / 4 * 3), held)?;
            let mut wanted = |bytes: &[u8]| {
                let skipped = unwanted.min(bytes.len() as u64);
                unwanted -= skipped;
                match &bytes[skipped as usize..] {
                    [] => Ok(()),
                    rest => out(rest),
                }
            };
            encode(ids, &mut reader, length, held, &mut Vec::new(), &mut wanted)
        }
        Piece::Zeros(all) if from.saturating_add(length) <= *all => write_zeros(length, out),
        Piece::Zeros(_) => Err(JoinError::Malformed("runs beyond a hole")),
    }
}

/// The blob that holds byte `offset` of a piece, and the byte's place there.
fn place_of<B: MeasuredSource, W>(
    ids: &[BlobId],
    mut offset: u64,
    held: &mut Held<'_, B>,
) -> Joined<Place, B, W> {
    for (blob, id) in ids.iter().enumerate() {
        let length = held.source.length(id).map_err(|source| JoinError::Blob { id: *id, source })?;
        if offset < length {
            return Ok(Place { blob, offset: offset as usize });
        }
        offset -= length;
    }
    match offset {
        // Right behind the last: what follows is the end of an encoding, or nothing.
        0 => Ok(Place { blob: ids.len(), offset: 0 }),
        _ => Err(JoinError::Malformed("runs beyond a piece")),
    }
}
