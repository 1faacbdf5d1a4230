//! The bytes of one file, in order, each blob verified before it is given.

use super::RepoError;
use super::content::Sections;
use super::reader::{Blob, BlobReader};
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::chunk::{self, BlobSource, JoinError};
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

struct Blobs<'a>(&'a BlobReader<'a>);

impl BlobSource for Blobs<'_> {
    type Blob = Blob;
    type Error = RepoError;

    fn blob(&mut self, id: &BlobId) -> Result<Blob, RepoError> {
        self.0.data(id)
    }
}

/// Gives the bytes of a file to `out`, piece by piece.
///
/// # Errors
/// What comes before a damaged piece has been given then; nothing wrong ever is.
pub fn extract<W>(
    reader: &BlobReader<'_>,
    file: &File,
    interrupt: &Interrupt,
    mut out: impl FnMut(&[u8]) -> Result<(), W>,
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
        chunk::join(&section, &mut Blobs(reader), |bytes| {
            // A piece can be a hole of any size: a person must be able to stop it.
            interrupt.check().map_err(|stop| ExtractError::Repository(stop.into()))?;
            out(bytes).map_err(ExtractError::Write)
        })
        .map_err(|error| match error {
            JoinError::Blob { source, .. } => ExtractError::Repository(source),
            JoinError::Write(error) => error,
            JoinError::Malformed(what) => ExtractError::Recipe(what.to_owned()),
        })?;
    }
    if given == file.size {
        return Ok(());
    }
    Err(ExtractError::Recipe(format!("it gives {given} bytes instead of {}", file.size)))
}
