//! The keys of one pack.
//!
//! A pack has a random key: X25519 of a key made for it and the epoch's box key, mixed with the epoch's pack
//! secret, so that a break of either half alone opens nothing. Each kind of frame has its own key under it. The
//! key of `tree` frames is also wrapped for the writing host. Section "Pack keys" of `repo-format.md`.

use std::sync::OnceLock;

use x25519_dalek::{PublicKey, StaticSecret};

use super::kdf::{self, FrameKey, PackKey, PackMaterial};
use super::seal::{Context, FrameCipher, TAG_BYTES};
use super::{Entropy, draw};
use crate::base::entropy;
use crate::base::id::RepositoryId;
use crate::format::content::BlobKind;
use crate::format::envelope::{PACK_OBJECT, PackEnvelope, SUITE};
use crate::format::keyset::{FullKeys, KeySet, PackSecret, TreeKey, WriterKeys};

#[cfg(test)]
mod tests;

/// The keys of a pack cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackKeyError {
    /// A writer asks for another host's pack, or for a kind of frame that is not its to read.
    #[error("this key set may not open that part of the pack")]
    NotForThisKey,
    /// The pack was sealed in an epoch that these keys do not hold.
    #[error("the keys hold no secret of epoch {epoch}")]
    UnknownEpoch {
        /// The pack's epoch.
        epoch: u32,
    },
    /// The pack was sealed with algorithms that this version does not know.
    #[error("unknown suite {suite} in a pack envelope: written by a newer mailark?")]
    UnknownSuite {
        /// The pack's suite.
        suite: u8,
    },
    /// The envelope was changed, or was made for other keys.
    #[error("pack envelope does not fit the keys: damaged or of another repository")]
    Damaged,
    /// A public key is one of the few that give everybody the same shared secret.
    #[error("weak public key in a pack envelope or key set")]
    WeakKey,
}

/// What a frame of a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A segment of blobs of that kind.
    Blob(BlobKind),
    /// The table of segments.
    Footer,
    /// Where the footer is.
    Trailer,
    /// What fills the pack up to its padded size.
    Padding,
}

impl FrameKind {
    /// All kinds.
    pub const ALL: [FrameKind; 9] = [
        FrameKind::Blob(BlobKind::Head),
        FrameKind::Blob(BlobKind::Text),
        FrameKind::Blob(BlobKind::Attachment),
        FrameKind::Blob(BlobKind::File),
        FrameKind::Blob(BlobKind::State),
        FrameKind::Blob(BlobKind::Tree),
        FrameKind::Footer,
        FrameKind::Trailer,
        FrameKind::Padding,
    ];

    /// The number in derivations and associated data.
    pub fn number(self) -> u8 {
        match self {
            FrameKind::Blob(kind) => kind as u8,
            FrameKind::Footer => 0xf0,
            FrameKind::Trailer => 0xf1,
            FrameKind::Padding => 0xf2,
        }
    }

    /// The place in [`FrameKind::ALL`].
    fn index(self) -> usize {
        match self {
            FrameKind::Blob(kind) => kind as usize,
            FrameKind::Footer => 6,
            FrameKind::Trailer => 7,
            FrameKind::Padding => 8,
        }
    }
}

impl From<BlobKind> for FrameKind {
    fn from(kind: BlobKind) -> Self {
        FrameKind::Blob(kind)
    }
}

const TREE: FrameKind = FrameKind::Blob(BlobKind::Tree);

enum Access {
    Whole(PackKey),
    Tree(FrameKey),
}

/// The keys of one pack, as far as a key set may have them; shared between threads.
pub struct PackKeys {
    suite: u8,
    epoch: u32,
    repository: RepositoryId,
    salt: [u8; 32],
    access: Access,
    ciphers: [OnceLock<FrameCipher>; FrameKind::ALL.len()],
}

impl std::fmt::Debug for PackKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = matches!(self.access, Access::Whole(_));
        f.debug_struct("PackKeys").field("epoch", &self.epoch).field("whole", &whole).finish_non_exhaustive()
    }
}

/// Both ends of an agreement: the holder's secret and the two public keys that go into the pack key.
struct Agreement<'a> {
    secret: &'a StaticSecret,
    theirs: &'a [u8; 32],
    ephemeral_public: &'a [u8; 32],
    box_public: &'a [u8; 32],
}

fn agree_on_pack_key(
    agreement: &Agreement<'_>,
    pack_secret: &PackSecret,
    repository: &RepositoryId,
    salt: &[u8; 32],
) -> Result<PackKey, PackKeyError> {
    let shared = agreement.secret.diffie_hellman(&PublicKey::from(*agreement.theirs));
    if !shared.was_contributory() {
        return Err(PackKeyError::WeakKey);
    }
    let Agreement { ephemeral_public, box_public, .. } = *agreement;
    let shared = shared.as_bytes();
    Ok(kdf::pack_key(&PackMaterial { shared, pack_secret, ephemeral_public, box_public, repository, salt }))
}

/// What the wrapped tree key is bound to: the envelope before it, and the repository.
fn wrap_bound(envelope: &PackEnvelope, repository: &RepositoryId) -> Vec<u8> {
    [envelope.encode_head().as_slice(), &repository.0].concat()
}

fn wrap_tree_key(tree_key: &TreeKey, repository: &RepositoryId, envelope: &mut PackEnvelope, key: &FrameKey) {
    let cipher = FrameCipher::new(&kdf::tree_wrap_key(tree_key, repository, &envelope.salt));
    // Room for the tag at once: a growing vector would leave the key behind.
    let mut wrapped = Vec::with_capacity(key.bytes().len() + TAG_BYTES);
    wrapped.extend_from_slice(key.bytes());
    cipher.seal_bound(0, &wrap_bound(envelope, repository), &mut wrapped);
    envelope.wrapped_tree_key.copy_from_slice(&wrapped);
}

fn unwrap_tree_key(
    tree_key: &TreeKey,
    repository: &RepositoryId,
    envelope: &PackEnvelope,
) -> Result<FrameKey, PackKeyError> {
    let cipher = FrameCipher::new(&kdf::tree_wrap_key(tree_key, repository, &envelope.salt));
    let mut wrapped = zeroize::Zeroizing::new(envelope.wrapped_tree_key);
    let key = cipher
        .open_bound(0, &wrap_bound(envelope, repository), wrapped.as_mut_slice())
        .map_err(|_| PackKeyError::Damaged)?;
    Ok(FrameKey::new((&*key).try_into().expect("the wrapped key less its tag is a key")))
}

impl PackKeys {
    /// Makes the keys of a new pack, and the envelope from which they can be had again.
    ///
    /// # Errors
    /// [`PackKeyError::WeakKey`] when the key set holds a weak box key.
    pub fn create(writer: &WriterKeys) -> Result<(PackKeys, PackEnvelope), PackKeyError> {
        PackKeys::create_with(writer, &mut entropy::fill)
    }

    /// As [`PackKeys::create`]; draws the salt, then the ephemeral secret.
    pub fn create_with(
        writer: &WriterKeys,
        entropy: Entropy<'_>,
    ) -> Result<(PackKeys, PackEnvelope), PackKeyError> {
        let salt = draw(entropy);
        let secret = StaticSecret::from(draw::<32>(entropy));
        let ephemeral_public = PublicKey::from(&secret).to_bytes();
        let box_public = &writer.box_public.0;
        let agreement = Agreement {
            secret: &secret,
            theirs: box_public,
            ephemeral_public: &ephemeral_public,
            box_public,
        };
        let key = agree_on_pack_key(&agreement, &writer.pack_secret, &writer.repository, &salt)?;
        let mut envelope = PackEnvelope {
            suite: SUITE,
            epoch: writer.epoch,
            host: writer.host,
            salt,
            ephemeral_public,
            wrapped_tree_key: [0; 48],
        };
        let tree_frame_key = kdf::frame_key(&key, TREE.number());
        wrap_tree_key(&writer.tree_key, &writer.repository, &mut envelope, &tree_frame_key);
        Ok((PackKeys::assemble(writer.repository, &envelope, Access::Whole(key)), envelope))
    }

    /// Has the keys of a stored pack again: all of them for a full key set, those of its own listings for the
    /// writer that wrote the pack.
    ///
    /// A full key set also proves the whole envelope, because it derives the wrapped key itself.
    ///
    /// # Errors
    /// All of [`PackKeyError`].
    pub fn open(keys: &KeySet, envelope: &PackEnvelope) -> Result<PackKeys, PackKeyError> {
        if envelope.suite != SUITE {
            return Err(PackKeyError::UnknownSuite { suite: envelope.suite });
        }
        let access = match keys {
            KeySet::Full(full) => Access::Whole(open_whole(full, envelope)?),
            KeySet::Writer(writer) => {
                if envelope.host != writer.host {
                    return Err(PackKeyError::NotForThisKey);
                }
                if envelope.epoch != writer.epoch {
                    return Err(PackKeyError::UnknownEpoch { epoch: envelope.epoch });
                }
                Access::Tree(unwrap_tree_key(&writer.tree_key, &writer.repository, envelope)?)
            }
        };
        Ok(PackKeys::assemble(keys.repository(), envelope, access))
    }

    fn assemble(repository: RepositoryId, envelope: &PackEnvelope, access: Access) -> PackKeys {
        let PackEnvelope { suite, epoch, salt, .. } = *envelope;
        let ciphers = std::array::from_fn(|_| OnceLock::new());
        PackKeys { suite, epoch, repository, salt, access, ciphers }
    }

    /// The cipher for frames of a kind.
    ///
    /// # Errors
    /// [`PackKeyError::NotForThisKey`] for a writer that opened the pack and asks for another kind than `tree`.
    pub fn frame_cipher(&self, kind: impl Into<FrameKind>) -> Result<&FrameCipher, PackKeyError> {
        let kind = kind.into();
        let cipher = &self.ciphers[kind.index()];
        match cipher.get() {
            Some(cipher) => Ok(cipher),
            None => {
                let key = self.frame_key(kind)?;
                Ok(cipher.get_or_init(|| FrameCipher::new(&key)))
            }
        }
    }

    fn frame_key(&self, kind: FrameKind) -> Result<FrameKey, PackKeyError> {
        match &self.access {
            Access::Whole(key) => Ok(kdf::frame_key(key, kind.number())),
            Access::Tree(key) if kind == TREE => Ok(key.clone()),
            Access::Tree(_) => Err(PackKeyError::NotForThisKey),
        }
    }

    /// The associated data of a frame. `position` must be sealed once only for each kind in this pack, and never
    /// in a pack that was opened.
    pub fn context(&self, kind: impl Into<FrameKind>, position: u64) -> Context {
        let PackKeys { suite, epoch, repository, salt, .. } = *self;
        let kind = kind.into().number();
        Context { suite, object_type: PACK_OBJECT, epoch, repository, salt, kind, position }
    }
}

fn open_whole(full: &FullKeys, envelope: &PackEnvelope) -> Result<PackKey, PackKeyError> {
    let repository = full.repository();
    let epoch = envelope.epoch;
    let secret = full.epoch_secret(epoch).ok_or(PackKeyError::UnknownEpoch { epoch })?;
    let box_secret = StaticSecret::from(*kdf::box_secret(secret).bytes());
    let agreement = Agreement {
        secret: &box_secret,
        theirs: &envelope.ephemeral_public,
        ephemeral_public: &envelope.ephemeral_public,
        box_public: &PublicKey::from(&box_secret).to_bytes(),
    };
    let key = agree_on_pack_key(&agreement, &kdf::pack_secret(secret), &repository, &envelope.salt)?;
    let wrapped = unwrap_tree_key(&kdf::tree_key(secret, &envelope.host), &repository, envelope)?;
    let derived = kdf::frame_key(&key, TREE.number());
    // Compared as hashes, which takes the same time wherever they differ.
    if blake3::Hash::from(*wrapped.bytes()) == blake3::Hash::from(*derived.bytes()) {
        Ok(key)
    } else {
        Err(PackKeyError::Damaged)
    }
}
