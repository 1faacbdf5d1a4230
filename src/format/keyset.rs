//! Key sets: what a key slot holds once it is open.
//!
//! Every secret has a type of its own, so that a key can never be used for another purpose; all are wiped when
//! dropped and none prints its bytes. Section "Key sets" of `repo-format.md`.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use crate::base::id::{DomainId, HostId, RepositoryId};
use crate::base::limits;

/// Declares 32-byte secrets, each a type of its own.
macro_rules! secret_types {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, bincode::Encode, bincode::Decode, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes the bytes as this secret.
            pub fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret itself.
            pub fn bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    )*};
}
pub(crate) use secret_types;

secret_types! {
    /// What everything that outlives an epoch is derived from.
    RootSecret;
    /// What the keys of one epoch's packs are derived from.
    EpochSecret;
    /// Seed of an Ed25519 signing key.
    SigningSeed;
    /// Names blobs in one dedup domain.
    IdKey;
    /// Seals the deltas of one dedup domain.
    DeltaKey;
    /// Places the content-defined cuts in one dedup domain.
    CutKey;
    /// Opens the listings that one host wrote in one epoch.
    TreeKey;
    /// Seals the snapshots of one host.
    SnapshotKey;
    /// The symmetric half of every pack key of one epoch.
    PackSecret;
    /// Seals the records that writers may read.
    SharedRecordKey;
}

/// An Ed25519 public key as it is stored; whether it is a usable point shows when a signature is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct VerifyingKey(pub [u8; 32]);

/// An X25519 public key as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BoxPublicKey(pub [u8; 32]);

/// What the holder of a key set may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Role {
    /// Open, sign and delete everything.
    Full,
    /// Back up one host and read back its own listings.
    Writer,
}

/// Opens everything in a repository.
#[derive(Debug, Clone)]
pub struct FullKeys {
    repository: RepositoryId,
    root: RootSecret,
    /// By epoch number; never empty.
    epochs: Vec<EpochSecret>,
}

impl FullKeys {
    /// Joins the parts.
    ///
    /// # Errors
    /// No epoch, or more than [`limits::KEY_EPOCHS_MAX`].
    pub fn new(repository: RepositoryId, root: RootSecret, epochs: Vec<EpochSecret>) -> Result<FullKeys> {
        codec::agree(!epochs.is_empty(), "epochs of a full key set")?;
        codec::limit("epochs of a full key set", epochs.len() as u64, limits::KEY_EPOCHS_MAX as u64)?;
        Ok(FullKeys { repository, root, epochs })
    }

    /// The repository that these keys open.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The secret that all epochs share.
    pub fn root(&self) -> &RootSecret {
        &self.root
    }

    /// The current epoch: the last one.
    pub fn epoch(&self) -> u32 {
        self.epochs.len() as u32 - 1
    }

    /// The secret of an epoch, none when there is no such epoch.
    pub fn epoch_secret(&self, epoch: u32) -> Option<&EpochSecret> {
        self.epochs.get(usize::try_from(epoch).ok()?)
    }

    /// All epochs' secrets, the current one last.
    pub fn epochs(&self) -> &[EpochSecret] {
        &self.epochs
    }
}

// Written by hand, because the number of epochs must be checked before memory is taken for them.
impl Encode for FullKeys {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> std::result::Result<(), EncodeError> {
        self.repository.encode(encoder)?;
        self.root.encode(encoder)?;
        (self.epochs.len() as u8).encode(encoder)?;
        self.epochs.iter().try_for_each(|epoch| epoch.encode(encoder))
    }
}

impl<Context> Decode<Context> for FullKeys {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> std::result::Result<Self, DecodeError> {
        let repository = RepositoryId::decode(decoder)?;
        let root = RootSecret::decode(decoder)?;
        let count = usize::from(u8::decode(decoder)?);
        if !(1..=limits::KEY_EPOCHS_MAX).contains(&count) {
            return Err(DecodeError::Other("number of epochs outside its limits"));
        }
        let mut epochs = Vec::with_capacity(count);
        for _ in 0..count {
            epochs.push(EpochSecret::decode(decoder)?);
        }
        Ok(FullKeys { repository, root, epochs })
    }
}
bincode::impl_borrow_decode!(FullKeys);

/// Lets one host back up and read back its own listings, in one epoch.
#[derive(Debug, Clone, Encode, Decode)]
pub struct WriterKeys {
    /// The repository it writes to.
    pub repository: RepositoryId,
    /// The host it writes as.
    pub host: HostId,
    /// The domain it deduplicates in.
    pub domain: DomainId,
    /// The epoch of its tree key, pack secret and box key.
    pub epoch: u32,
    /// Signs its snapshots and deltas.
    pub host_signing_seed: SigningSeed,
    /// Names its blobs.
    pub id_key: IdKey,
    /// Seals its deltas.
    pub delta_key: DeltaKey,
    /// Places its cuts.
    pub cut_key: CutKey,
    /// Opens its own listings.
    pub tree_key: TreeKey,
    /// Seals its snapshots.
    pub snapshot_key: SnapshotKey,
    /// Goes into every pack key.
    pub pack_secret: PackSecret,
    /// Opens the records that writers may read.
    pub shared_record_key: SharedRecordKey,
    /// Verifies `config`, records and key slots.
    pub repository_public: VerifyingKey,
    /// Receives the pack keys.
    pub box_public: BoxPublicKey,
}

/// What a key slot opens.
#[derive(Debug, Clone, Encode, Decode)]
pub enum KeySet {
    /// Everything.
    Full(FullKeys),
    /// One host's backups.
    Writer(Box<WriterKeys>),
}

impl KeySet {
    /// Bytes that a key set takes in its slot, whatever its role.
    pub const PADDED_BYTES: usize = 4096;

    /// Appends the encoding, filled up with zeros to [`KeySet::PADDED_BYTES`].
    pub fn encode_padded(&self, out: &mut Vec<u8>) {
        let end = out.len() + Self::PADDED_BYTES;
        // One reservation for everything the caller appends too: a growing vector would leave copies behind.
        out.reserve(2 * Self::PADDED_BYTES);
        codec::encode_into(self, out);
        assert!(out.len() <= end, "the limit of epochs keeps a key set below its padded size");
        out.resize(end, 0);
    }

    /// Reads what [`KeySet::encode_padded`] wrote.
    pub fn decode_padded(bytes: &[u8]) -> Result<KeySet> {
        const WHAT: &str = "key set";
        if bytes.len() != Self::PADDED_BYTES {
            return Err(FormatError::Inconsistent { what: "size of a key set" });
        }
        let (keys, padding) = codec::decode_prefix(bytes, WHAT)?;
        codec::agree(padding.iter().all(|&byte| byte == 0), "padding of a key set")?;
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn writer(fill: u8, epoch: u32) -> WriterKeys {
        WriterKeys {
            repository: RepositoryId([fill; 16]),
            host: HostId([fill ^ 1; 16]),
            domain: DomainId([fill ^ 2; 16]),
            epoch,
            host_signing_seed: SigningSeed([fill ^ 3; 32]),
            id_key: IdKey([fill ^ 4; 32]),
            delta_key: DeltaKey([fill ^ 5; 32]),
            cut_key: CutKey([fill ^ 6; 32]),
            tree_key: TreeKey([fill ^ 7; 32]),
            snapshot_key: SnapshotKey([fill ^ 8; 32]),
            pack_secret: PackSecret([fill ^ 9; 32]),
            shared_record_key: SharedRecordKey([fill ^ 10; 32]),
            repository_public: VerifyingKey([fill ^ 11; 32]),
            box_public: BoxPublicKey([fill ^ 12; 32]),
        }
    }

    fn padded(keys: &KeySet) -> Vec<u8> {
        let mut bytes = Vec::new();
        keys.encode_padded(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn key_sets_round_trip(fill: u8, epoch: u32, epochs in prop::collection::vec(any::<[u8; 32]>(), 1..=120)) {
            let full = FullKeys::new(
                RepositoryId([fill; 16]),
                RootSecret([!fill; 32]),
                epochs.into_iter().map(EpochSecret).collect(),
            );
            for keys in [KeySet::Full(full.unwrap()), KeySet::Writer(Box::new(writer(fill, epoch)))] {
                let bytes = padded(&keys);
                prop_assert_eq!(padded(&KeySet::decode_padded(&bytes).unwrap()), bytes);
            }
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut bytes = bytes;
            let _ = codec::decode::<KeySet>(&bytes, "key set");
            bytes.resize(KeySet::PADDED_BYTES, 0);
            let _ = KeySet::decode_padded(&bytes);
        }
    }

    #[test]
    fn impossible_epoch_counts_are_refused() {
        let id = RepositoryId([1; 16]);
        assert!(FullKeys::new(id, RootSecret([2; 32]), Vec::new()).is_err());
        assert!(FullKeys::new(id, RootSecret([2; 32]), vec![EpochSecret([3; 32]); 121]).is_err());
        let keys = FullKeys::new(id, RootSecret([2; 32]), vec![EpochSecret([3; 32])]).unwrap();
        let bytes = padded(&KeySet::Full(keys));
        for count in [0, 2, 121, 255] {
            let mut wrong = bytes.clone();
            wrong[1 + 16 + 32] = count;
            let decoded = KeySet::decode_padded(&wrong);
            // Two epochs decode, the second being padding: the seal around the key set rules that out.
            assert_eq!(decoded.is_ok(), count == 2, "{count}");
        }
        let mut dirty = bytes.clone();
        dirty[KeySet::PADDED_BYTES - 1] = 1;
        assert!(KeySet::decode_padded(&dirty).is_err());
        assert!(KeySet::decode_padded(&bytes[1..]).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secrets = KeySet::Writer(Box::new(writer(0xa0, 1)));
        let text = format!("{secrets:?}");
        for fill in 0xa3u8..=0xaa {
            assert!(
                !text.contains(&format!("{fill}, {fill}"))
                    && !text.contains(&format!("{fill:02x}{fill:02x}"))
            );
        }
    }
}
