//! The bytes of one file, in order, each blob verified before it is given.

use super::RepoError;
use super::content::Sections;
use super::reader::{Blob, BlobReader};
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::chunk::{self, BlobSource, JoinError, MeasuredSource};
use crate::format::content::{Piece, Section};
use crate::format::page::File;

/// A file's bytes could not be given.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError<W> {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The bytes found no taker.
    #[error("write")]
    Write(W),
    /// The file's pieces do not give the file.
    #[error("its recipe is damaged: {0}")]
    Recipe(String),
}

/// The next stretch of a file.
#[derive(Debug)]
pub enum Stretch<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// That many zeros, a hole of a sparse file.
    Hole(u64),
}

/// Zeros that are given at a time where a hole cannot be kept.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A reader as the source of a section's blobs.
pub(super) struct Blobs<'a>(pub(super) &'a BlobReader<'a>);

impl BlobSource for Blobs<'_> {
    type Blob = Blob;
    type Error = RepoError;

    fn blob(&mut self, id: &BlobId) -> Result<Blob, RepoError> {
        self.0.data(id)
    }
}

impl MeasuredSource for Blobs<'_> {
    fn length(&mut self, id: &BlobId) -> Result<u64, RepoError> {
        self.0.length(id)
    }
}

/// What went wrong while a section was joined; `of_write` says what a failed write is.
pub(super) fn of_join<W, E>(
    error: JoinError<RepoError, W>,
    of_write: impl FnOnce(W) -> ExtractError<E>,
) -> ExtractError<E> {
    match error {
        JoinError::Blob { source, .. } => ExtractError::Repository(source),
        JoinError::Write(error) => of_write(error),
        JoinError::Malformed(what) => ExtractError::Recipe(what.to_owned()),
    }
}

/// Gives a file to `out`, stretch by stretch, and never more than its size.
///
/// # Errors
/// What comes before a damaged piece has been given then; nothing wrong ever is.
pub fn extract<W>(
    reader: &BlobReader<'_>,
    file: &File,
    interrupt: &Interrupt,
    mut out: impl FnMut(Stretch<'_>) -> Result<(), W>,
) -> Result<(), ExtractError<W>> {
    let fetch = |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) };
    let mut given = 0u64;
    for section in Sections::new(&file.content, fetch) {
        let section = section.map_err(RepoError::from)?;
        interrupt.check().map_err(RepoError::from)?;
        given = given.saturating_add(section.length());
        if given > file.size {
            return Err(ExtractError::Recipe(format!("it gives more than {} bytes", file.size)));
        }
        if let Some(length) = hole(&section) {
            out(Stretch::Hole(length)).map_err(ExtractError::Write)?;
            continue;
        }
        chunk::join(&section, &mut Blobs(reader), |bytes| {
            // A piece can be a hole of any size: a person must be able to stop it.
            interrupt.check().map_err(|stop| ExtractError::Repository(stop.into()))?;
            out(Stretch::Bytes(bytes)).map_err(ExtractError::Write)
        })
        .map_err(|error| of_join(error, |stopped| stopped))?;
    }
    if given == file.size {
        return Ok(());
    }
    Err(ExtractError::Recipe(format!("it gives {given} bytes instead of {}", file.size)))
}

/// As [`extract`], with the zeros of holes as bytes.
pub fn extract_bytes<W>(
    reader: &BlobReader<'_>,
    file: &File,
    interrupt: &Interrupt,
    mut out: impl FnMut(&[u8]) -> Result<(), ExtractError<W>>,
) -> Result<(), ExtractError<W>> {
    let extracted = extract(reader, file, interrupt, |stretch| match stretch {
        Stretch::Bytes(bytes) => out(bytes),
        Stretch::Hole(mut left) => {
            while left > 0 {
                interrupt.check().map_err(|stop| ExtractError::Repository(stop.into()))?;
                let zeros = left.min(ZEROS.len() as u64);
                out(&ZEROS[..zeros as usize])?;
                left -= zeros;
            }
            Ok(())
        }
    });
    extracted.map_err(|error| match error {
        ExtractError::Write(error) => error,
        ExtractError::Repository(error) => ExtractError::Repository(error),
        ExtractError::Recipe(text) => ExtractError::Recipe(text),
    })
}

/// Reads a small file whole; `None` when it is larger than `bytes_max` and so not what it should be.
pub fn read_small(
    reader: &BlobReader<'_>,
    file: &File,
    bytes_max: u64,
    interrupt: &Interrupt,
) -> Result<Option<Vec<u8>>, RepoError> {
    if file.size > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = extract_bytes::<std::convert::Infallible>(reader, file, interrupt, |stretch| {
        bytes.extend_from_slice(stretch);
        Ok(())
    });
    match read {
        Ok(()) => Ok(Some(bytes)),
        Err(ExtractError::Repository(error)) => Err(error),
        Err(ExtractError::Recipe(detail)) => Err(RepoError::Damaged { object: "a file".to_owned(), detail }),
        Err(ExtractError::Write(never)) => match never {},
    }
}

/// The length of a section that is one hole and nothing else.
fn hole(section: &Section) -> Option<u64> {
    match (section.pieces.as_slice(), section.runs.as_slice()) {
        ([Piece::Zeros(length)], [run]) if run.length == *length => Some(*length),
        _ => None,
    }
}
