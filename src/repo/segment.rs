//! A segment that is being filled: blobs of one kind, compressed and verified together when it closes.

use super::RepoError;
use super::packer::{Packer, PlainSegment};
use crate::base::id::BlobId;
use crate::compress::{self, Effort};
use crate::format::content::BlobKind;
use crate::format::pack::Compression;

/// Blobs of one kind on their way into a pack.
#[derive(Default)]
pub struct OpenSegment {
    /// All blobs, one after the other.
    pub plain: Vec<u8>,
    /// Bytes of each.
    pub lengths: Vec<u32>,
    /// Id of each.
    pub ids: Vec<BlobId>,
}

impl OpenSegment {
    /// Adds a blob.
    pub fn push(&mut self, id: BlobId, plain: &[u8]) {
        self.plain.extend_from_slice(plain);
        self.lengths.push(plain.len() as u32);
        self.ids.push(id);
    }

    /// Compresses the blobs and appends them to the open pack; gives the bytes they take there.
    pub fn store(self, packer: &Packer, kind: BlobKind, effort: Effort) -> Result<u64, RepoError> {
        let OpenSegment { plain, lengths, ids } = self;
        if ids.is_empty() {
            return Ok(0);
        }
        let (compression, stored) = match compress::compress(kind, &plain, effort)? {
            Some(stored) => {
                // What cannot be read back must never be referred to: memory fails too.
                if compress::decompress(Compression::Zstd, &stored, plain.len())?.as_ref() != plain {
                    return Err(RepoError::Unfaithful);
                }
                (Compression::Zstd, stored)
            }
            None => (Compression::None, plain),
        };
        packer.append(PlainSegment { kind, compression, stored, lengths, ids })
    }
}
