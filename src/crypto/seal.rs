//! Sealing a frame: AES-256-GCM with a counter nonce, under a key that serves one object only.
//!
//! Every object has a fresh salt and so a fresh key; a position is used once under a key. There is no nonce state
//! anywhere. Section "Seals" of `repo-format.md`.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};

use super::kdf::{self, FrameKey, PrivateRecordKey};
use crate::base::id::RepositoryId;
use crate::format::keyset::{DeltaKey, SharedRecordKey, SnapshotKey};

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// The frame is not what this key sealed in this place: damaged, moved, or another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed frame does not open: damaged, misplaced or sealed with another key")]
pub struct Unopenable;

/// Where a frame belongs; associated data of its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The algorithms.
    pub suite: u8,
    /// Type of the object that holds the frame.
    pub object_type: u8,
    /// Epoch of the keys.
    pub epoch: u32,
    /// The repository.
    pub repository: RepositoryId,
    /// Fresh random bytes of the object.
    pub salt: [u8; 32],
    /// What the frame holds.
    pub kind: u8,
    /// Which of the frames under this key it is, also its nonce: never twice under one key.
    pub position: u64,
}

impl Context {
    /// Bytes of the encoding.
    pub const BYTES: usize = 63;

    /// The fields in their order, integers little endian.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.suite;
        bytes[1] = self.object_type;
        bytes[2..6].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[6..22].copy_from_slice(&self.repository.0);
        bytes[22..54].copy_from_slice(&self.salt);
        bytes[54] = self.kind;
        bytes[55..].copy_from_slice(&self.position.to_le_bytes());
        bytes
    }
}

/// The nonce of a position: four zero bytes, then the position, big endian.
pub(super) fn nonce(position: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&position.to_be_bytes());
    nonce
}

/// A secret from which keys of single objects are derived.
pub trait SealingKey {
    /// The secret itself.
    fn secret(&self) -> &[u8; 32];
}

macro_rules! sealing_keys {
    ($($name:ident)*) => {$(
        impl SealingKey for $name {
            fn secret(&self) -> &[u8; 32] {
                self.bytes()
            }
        }
    )*};
}
sealing_keys! { DeltaKey SnapshotKey SharedRecordKey PrivateRecordKey }

/// A key made ready for sealing and opening; shared between threads.
pub struct FrameCipher(Aes256Gcm);

impl std::fmt::Debug for FrameCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameCipher(secret)")
    }
}

impl FrameCipher {
    /// Makes a key ready.
    pub fn new(key: &FrameKey) -> FrameCipher {
        FrameCipher::from_bytes(key.bytes())
    }

    pub(super) fn from_bytes(key: &[u8; 32]) -> FrameCipher {
        FrameCipher(Aes256Gcm::new(key.into()))
    }

    /// The cipher of one object outside packs (delta, snapshot, record), by its type, repository and salt.
    pub fn for_object(key: &(impl SealingKey + ?Sized), context: &Context) -> FrameCipher {
        let Context { object_type, repository, salt, .. } = context;
        FrameCipher::new(&kdf::object_key(key.secret(), *object_type, repository, salt))
    }

    /// Seals a frame in its place and appends the tag of [`TAG_BYTES`].
    pub fn seal_in_place(&self, context: &Context, frame: &mut Vec<u8>) {
        self.seal_bound(context.position, &context.encode(), frame);
    }

    /// Opens a frame in its place and removes the tag.
    ///
    /// # Errors
    /// [`Unopenable`], with `frame` as it was.
    pub fn open_in_place(&self, context: &Context, frame: &mut Vec<u8>) -> Result<(), Unopenable> {
        let length = self.open_slice(context, frame)?.len();
        frame.truncate(length);
        Ok(())
    }

    /// Opens a frame in its place, for frames that lie inside a larger buffer; returns the plaintext.
    ///
    /// # Errors
    /// [`Unopenable`], with `frame` as it was.
    pub fn open_slice<'a>(&self, context: &Context, frame: &'a mut [u8]) -> Result<&'a mut [u8], Unopenable> {
        self.open_bound(context.position, &context.encode(), frame)
    }

    /// Seals with other associated data than a frame's.
    pub(super) fn seal_bound(&self, position: u64, bound: &[u8], frame: &mut Vec<u8>) {
        let tag = self
            .0
            .encrypt_inout_detached(&Nonce::from(nonce(position)), bound, frame.as_mut_slice().into())
            .expect("every frame is far below the 64 GiB that AES-GCM can seal");
        frame.extend_from_slice(&tag);
    }

    /// Opens what [`FrameCipher::seal_bound`] sealed.
    pub(super) fn open_bound<'a>(
        &self,
        position: u64,
        bound: &[u8],
        frame: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unopenable> {
        let (text, tag) = frame.split_last_chunk_mut::<TAG_BYTES>().ok_or(Unopenable)?;
        // The tag is verified before a byte is touched.
        self.0
            .decrypt_inout_detached(
                &Nonce::from(nonce(position)),
                bound,
                (&mut *text).into(),
                &Tag::from(*tag),
            )
            .map_err(|_| Unopenable)?;
        Ok(text)
    }
}

/// Seals one frame; for many frames under one key, keep a [`FrameCipher`].
pub fn seal_in_place(key: &FrameKey, context: &Context, frame: &mut Vec<u8>) {
    FrameCipher::new(key).seal_in_place(context, frame);
}

/// Opens one frame; for many frames under one key, keep a [`FrameCipher`].
///
/// # Errors
/// [`Unopenable`], with `frame` as it was.
pub fn open_in_place(key: &FrameKey, context: &Context, frame: &mut Vec<u8>) -> Result<(), Unopenable> {
    FrameCipher::new(key).open_in_place(context, frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context() -> Context {
        let repository = RepositoryId([0x33; 16]);
        Context {
            suite: 1,
            object_type: 3,
            epoch: 0x0a0b,
            repository,
            salt: [0x66; 32],
            kind: 1,
            position: 7,
        }
    }

    fn key() -> FrameKey {
        FrameKey::new([0x42; 32])
    }

    proptest! {
        #[test]
        fn frames_round_trip(plain in prop::collection::vec(any::<u8>(), 0..3000), position: u64) {
            let context = Context { position, ..context() };
            let mut frame = plain.clone();
            seal_in_place(&key(), &context, &mut frame);
            prop_assert_eq!(frame.len(), plain.len() + TAG_BYTES);
            let mut inside = [b"before", frame.as_slice(), b"after"].concat();
            let end = inside.len() - 5;
            let cipher = FrameCipher::new(&key());
            prop_assert_eq!(cipher.open_slice(&context, &mut inside[6..end]).unwrap(), plain.as_slice());
            open_in_place(&key(), &context, &mut frame).unwrap();
            prop_assert_eq!(frame, plain);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_length_is_refused() {
        let mut frame = b"Subject: none".to_vec();
        seal_in_place(&key(), &context(), &mut frame);
        for bit in 0..frame.len() * 8 {
            let mut wrong = frame.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let before = wrong.clone();
            assert_eq!(open_in_place(&key(), &context(), &mut wrong), Err(Unopenable), "bit {bit}");
            assert_eq!(wrong, before);
        }
        for length in 0..frame.len() {
            assert!(open_in_place(&key(), &context(), &mut frame[..length].to_vec()).is_err());
        }
        assert!(open_in_place(&FrameKey::new([0x43; 32]), &context(), &mut frame.clone()).is_err());
    }

    #[test]
    fn every_field_of_the_context_is_bound() {
        let good = context();
        let mut frame = b"text".to_vec();
        seal_in_place(&key(), &good, &mut frame);
        let mut wrong = vec![
            Context { suite: 2, ..good },
            Context { object_type: 4, ..good },
            Context { kind: 2, ..good },
            Context { position: 8, ..good },
            Context { position: 7 << 32, ..good },
        ];
        wrong.extend((0..32).map(|bit| Context { epoch: good.epoch ^ 1 << bit, ..good }));
        wrong.extend((0..16).map(|index| {
            let mut repository = good.repository;
            repository.0[index] ^= 1;
            Context { repository, ..good }
        }));
        wrong.extend((0..32).map(|index| {
            let mut salt = good.salt;
            salt[index] ^= 0x80;
            Context { salt, ..good }
        }));
        for context in wrong {
            assert_eq!(open_in_place(&key(), &context, &mut frame.clone()), Err(Unopenable), "{context:?}");
        }
        assert!(open_in_place(&key(), &good, &mut frame).is_ok());
    }

    #[test]
    fn keys_of_objects_differ_by_purpose_type_repository_and_salt() {
        let good = context();
        let sealed = |cipher: FrameCipher| {
            let mut frame = vec![0; 32];
            cipher.seal_bound(0, &[], &mut frame);
            frame
        };
        let key = DeltaKey::new([9; 32]);
        let frames = [
            sealed(FrameCipher::for_object(&key, &good)),
            sealed(FrameCipher::for_object(&key, &Context { object_type: 4, ..good })),
            sealed(FrameCipher::for_object(&key, &Context { repository: RepositoryId([1; 16]), ..good })),
            sealed(FrameCipher::for_object(&key, &Context { salt: [1; 32], ..good })),
            sealed(FrameCipher::for_object(&SnapshotKey::new([8; 32]), &good)),
        ];
        for (index, frame) in frames.iter().enumerate() {
            assert!(!frames[index + 1..].contains(frame));
        }
    }
}
