//! The names of blobs.

use super::kdf;
use crate::base::id::{BlobId, HostId};
use crate::format::content::BlobKind;
use crate::format::keyset::IdKey;

/// Names the blobs of one domain: the first 16 bytes of the keyed BLAKE3 of their plaintext.
///
/// Pages are named under a key of their host, so that nothing a mail holds can ever pass for a page, and so that a
/// writer never leans on a page in another host's pack, which it could not open. All other kinds share their
/// names, and so their blobs, in the whole domain.
#[derive(Debug, Clone)]
pub struct BlobNamer {
    data: IdKey,
    pages: IdKey,
}

impl BlobNamer {
    /// A namer under a domain's key, for the pages of one of its hosts.
    pub fn new(key: &IdKey, host: &HostId) -> BlobNamer {
        BlobNamer { data: key.clone(), pages: kdf::page_id_key(key, host) }
    }

    /// Names a blob.
    pub fn name(&self, kind: BlobKind, plaintext: &[u8]) -> BlobId {
        let key = if kind == BlobKind::Tree { &self.pages } else { &self.data };
        let hash = blake3::keyed_hash(key.bytes(), plaintext);
        BlobId(*hash.as_bytes().first_chunk().expect("a hash is longer than an id"))
    }
}
