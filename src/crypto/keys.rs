//! What a key set can do, whatever its role: the key hierarchy.
//!
//! A full key set derives every other key; a writer holds exactly the derived keys of one host. Section "Key
//! hierarchy" of `repo-format.md`.

use x25519_dalek::{PublicKey, StaticSecret};

use super::kdf::{self, PrivateRecordKey};
use super::sign::{self, Statement};
use super::{Entropy, draw};
use crate::base::entropy;
use crate::base::id::{DomainId, HostId, RepositoryId};
use crate::format::codec::FormatError;
use crate::format::keyset::{
    BoxPublicKey, CutKey, DeltaKey, EpochSecret, FullKeys, IdKey, KeySet, Role, RootSecret, SharedRecordKey,
    SnapshotKey, VerifyingKey, WriterKeys,
};

/// The key set cannot do that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Only a full key set can.
    #[error("a writer key set cannot do this: the full key set is needed")]
    NeedsFull,
    /// The writer key set is another host's, or deduplicates in another domain.
    #[error("the writer key set belongs to host {host} in domain {domain}")]
    OtherWriter {
        /// The host it belongs to.
        host: HostId,
        /// The domain it deduplicates in.
        domain: DomainId,
    },
}

/// The keys of one dedup domain.
#[derive(Debug, Clone)]
pub struct DomainKeys {
    /// Names blobs.
    pub id_key: IdKey,
    /// Seals deltas.
    pub delta_key: DeltaKey,
    /// Places cuts.
    pub cut_key: CutKey,
}

/// The public half of an epoch's box key.
pub(super) fn box_public(epoch: &EpochSecret) -> BoxPublicKey {
    let secret = StaticSecret::from(*kdf::box_secret(epoch).bytes());
    BoxPublicKey(PublicKey::from(&secret).to_bytes())
}

impl FullKeys {
    /// Makes the keys of a new repository, with its id and one epoch.
    pub fn generate() -> FullKeys {
        FullKeys::generate_with(&mut entropy::fill)
    }

    /// Makes the keys of a new repository; draws its id, the root, then the epoch.
    pub fn generate_with(entropy: Entropy<'_>) -> FullKeys {
        let repository = RepositoryId(draw(entropy));
        let root = RootSecret::new(draw(entropy));
        let epochs = vec![EpochSecret::new(draw(entropy))];
        FullKeys::new(repository, root, epochs).expect("one epoch is within the limits")
    }

    /// The same keys with a fresh epoch, which becomes the current one.
    ///
    /// # Errors
    /// There are [`crate::base::limits::KEY_EPOCHS_MAX`] epochs already.
    pub fn with_new_epoch(&self, entropy: Entropy<'_>) -> Result<FullKeys, FormatError> {
        let mut epochs = Vec::with_capacity(self.epochs().len() + 1);
        epochs.extend_from_slice(self.epochs());
        epochs.push(EpochSecret::new(draw(entropy)));
        FullKeys::new(self.repository(), self.root().clone(), epochs)
    }

    /// The key set of a host that writes in the current epoch.
    pub fn writer(&self, host: HostId, domain: DomainId) -> WriterKeys {
        let (root, epoch) = (self.root(), self.epochs().last().expect("a full key set has an epoch"));
        WriterKeys {
            repository: self.repository(),
            host,
            domain,
            epoch: self.epoch(),
            host_signing_seed: kdf::host_signing_seed(root, &host),
            id_key: kdf::id_key(root, &domain),
            delta_key: kdf::delta_key(root, &domain),
            cut_key: kdf::cut_key(root, &domain),
            tree_key: kdf::tree_key(epoch, &host),
            snapshot_key: kdf::snapshot_key(root, &host),
            pack_secret: kdf::pack_secret(epoch),
            shared_record_key: kdf::shared_record_key(root),
            repository_public: sign::verifying_key(&kdf::repository_signing_seed(root)),
            box_public: box_public(epoch),
        }
    }

    /// Signs `bytes` as the repository.
    pub fn sign(&self, object_type: u8, sequence: u64, bytes: &[u8]) -> [u8; 64] {
        let repository = self.repository();
        let statement = Statement { object_type, repository, host: None, sequence, bytes };
        sign::sign(&kdf::repository_signing_seed(self.root()), &statement)
    }
}

impl WriterKeys {
    /// Signs `bytes` as this host.
    pub fn sign(&self, object_type: u8, sequence: u64, bytes: &[u8]) -> [u8; 64] {
        let (repository, host) = (self.repository, Some(self.host));
        sign::sign(&self.host_signing_seed, &Statement { object_type, repository, host, sequence, bytes })
    }
}

impl KeySet {
    /// The repository that the keys belong to.
    pub fn repository(&self) -> RepositoryId {
        match self {
            KeySet::Full(keys) => keys.repository(),
            KeySet::Writer(keys) => keys.repository,
        }
    }

    /// What the holder may do.
    pub fn role(&self) -> Role {
        match self {
            KeySet::Full(_) => Role::Full,
            KeySet::Writer(_) => Role::Writer,
        }
    }

    /// The epoch that new packs are sealed in.
    pub fn epoch(&self) -> u32 {
        match self {
            KeySet::Full(keys) => keys.epoch(),
            KeySet::Writer(keys) => keys.epoch,
        }
    }

    /// The keys for writing as `host` into `domain`; a writer has its own only.
    ///
    /// # Errors
    /// [`KeyError::OtherWriter`].
    pub fn writer_for(&self, host: HostId, domain: DomainId) -> Result<WriterKeys, KeyError> {
        match self {
            KeySet::Full(keys) => Ok(keys.writer(host, domain)),
            KeySet::Writer(keys) if keys.host == host && keys.domain == domain => Ok(WriterKeys::clone(keys)),
            KeySet::Writer(keys) => Err(KeyError::OtherWriter { host: keys.host, domain: keys.domain }),
        }
    }

    /// The keys of a domain; a writer has its own only.
    pub fn domain(&self, domain: &DomainId) -> Option<DomainKeys> {
        match self {
            KeySet::Full(keys) => Some(DomainKeys {
                id_key: kdf::id_key(keys.root(), domain),
                delta_key: kdf::delta_key(keys.root(), domain),
                cut_key: kdf::cut_key(keys.root(), domain),
            }),
            KeySet::Writer(keys) => (keys.domain == *domain).then(|| DomainKeys {
                id_key: keys.id_key.clone(),
                delta_key: keys.delta_key.clone(),
                cut_key: keys.cut_key.clone(),
            }),
        }
    }

    /// The key that verifies a host's signatures; a writer knows its own only, others stand in host records.
    pub fn host_verifying_key(&self, host: &HostId) -> Option<VerifyingKey> {
        match self {
            KeySet::Full(keys) => Some(sign::verifying_key(&kdf::host_signing_seed(keys.root(), host))),
            KeySet::Writer(keys) => {
                (keys.host == *host).then(|| sign::verifying_key(&keys.host_signing_seed))
            }
        }
    }

    /// The key that seals a host's snapshots; a writer has its own only.
    pub fn snapshot_key(&self, host: &HostId) -> Option<SnapshotKey> {
        match self {
            KeySet::Full(keys) => Some(kdf::snapshot_key(keys.root(), host)),
            KeySet::Writer(keys) => (keys.host == *host).then(|| keys.snapshot_key.clone()),
        }
    }

    /// The key that verifies `config`, records and key slots; the same in every epoch.
    pub fn repository_verifying_key(&self) -> VerifyingKey {
        match self {
            KeySet::Full(keys) => sign::verifying_key(&kdf::repository_signing_seed(keys.root())),
            KeySet::Writer(keys) => keys.repository_public,
        }
    }

    /// Signs `bytes` as the repository.
    ///
    /// # Errors
    /// [`KeyError::NeedsFull`].
    pub fn sign_as_repository(
        &self,
        object_type: u8,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<[u8; 64], KeyError> {
        match self {
            KeySet::Full(keys) => Ok(keys.sign(object_type, sequence, bytes)),
            KeySet::Writer(_) => Err(KeyError::NeedsFull),
        }
    }

    /// The key of records that writers may read.
    pub fn shared_record_key(&self) -> SharedRecordKey {
        match self {
            KeySet::Full(keys) => kdf::shared_record_key(keys.root()),
            KeySet::Writer(keys) => keys.shared_record_key.clone(),
        }
    }

    /// The key of records that only a full key set may read.
    pub fn private_record_key(&self) -> Option<PrivateRecordKey> {
        match self {
            KeySet::Full(keys) => Some(kdf::private_record_key(keys.root())),
            KeySet::Writer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId([0x44; 16]);
    const OTHER: HostId = HostId([0x45; 16]);

    fn full() -> FullKeys {
        FullKeys::generate()
    }

    #[test]
    fn both_roles_agree_on_what_a_writer_has() {
        let full = full();
        let domain = HOST.own_domain();
        let writer = KeySet::Writer(Box::new(full.writer(HOST, domain)));
        let full = KeySet::Full(full);
        assert_eq!(full.repository(), writer.repository());
        assert_eq!(full.repository_verifying_key(), writer.repository_verifying_key());
        assert_eq!(full.host_verifying_key(&HOST), writer.host_verifying_key(&HOST));
        assert_eq!(full.shared_record_key().bytes(), writer.shared_record_key().bytes());
        let snapshot_key = |keys: &KeySet| *keys.snapshot_key(&HOST).unwrap().bytes();
        assert_eq!(snapshot_key(&full), snapshot_key(&writer));
        let domain_keys = |keys: &KeySet| {
            let DomainKeys { id_key, delta_key, cut_key } = keys.domain(&domain).unwrap();
            [*id_key.bytes(), *delta_key.bytes(), *cut_key.bytes()]
        };
        assert_eq!(domain_keys(&full), domain_keys(&writer));
        let own = writer.writer_for(HOST, domain).unwrap();
        assert_eq!(own.tree_key.bytes(), full.writer_for(HOST, domain).unwrap().tree_key.bytes());
    }

    #[test]
    fn a_writer_has_nothing_else() {
        let writer = KeySet::Writer(Box::new(full().writer(HOST, HOST.own_domain())));
        assert_eq!(writer.role(), Role::Writer);
        assert!(writer.private_record_key().is_none());
        assert!(writer.snapshot_key(&OTHER).is_none());
        assert!(writer.host_verifying_key(&OTHER).is_none());
        assert!(writer.domain(&OTHER.own_domain()).is_none());
        assert_eq!(writer.sign_as_repository(6, 1, b"record"), Err(KeyError::NeedsFull));
        for (host, domain) in
            [(OTHER, OTHER.own_domain()), (HOST, OTHER.own_domain()), (OTHER, HOST.own_domain())]
        {
            assert!(matches!(writer.writer_for(host, domain), Err(KeyError::OtherWriter { .. })));
        }
    }

    #[test]
    fn signatures_bind_their_signer() {
        let full = full();
        let writer = full.writer(HOST, HOST.own_domain());
        let keys = KeySet::Full(full);
        let repository = keys.repository();
        let by_host = writer.sign(5, 7, b"snapshot");
        let by_repository = keys.sign_as_repository(5, 7, b"snapshot").unwrap();
        let of_host =
            Statement { object_type: 5, repository, host: Some(HOST), sequence: 7, bytes: b"snapshot" };
        let of_repository = Statement { host: None, ..of_host };
        let host_key = keys.host_verifying_key(&HOST).unwrap();
        let repository_key = keys.repository_verifying_key();
        assert!(sign::verify(&host_key, &of_host, &by_host).is_ok());
        assert!(sign::verify(&repository_key, &of_repository, &by_repository).is_ok());
        assert!(sign::verify(&repository_key, &of_host, &by_host).is_err());
        assert!(sign::verify(&host_key, &of_repository, &by_repository).is_err());
        assert!(sign::verify(&keys.host_verifying_key(&OTHER).unwrap(), &of_host, &by_host).is_err());
    }

    #[test]
    fn a_new_epoch_changes_pack_keys_and_nothing_else() {
        let first = full();
        let second = first.with_new_epoch(&mut entropy::fill).unwrap();
        let (old, new) = (first.writer(HOST, HOST.own_domain()), second.writer(HOST, HOST.own_domain()));
        assert_eq!((old.epoch, new.epoch), (0, 1));
        assert_eq!(old.repository_public, new.repository_public);
        assert_eq!(old.id_key.bytes(), new.id_key.bytes());
        assert_eq!(old.snapshot_key.bytes(), new.snapshot_key.bytes());
        assert_eq!(old.host_signing_seed.bytes(), new.host_signing_seed.bytes());
        assert_ne!(old.tree_key.bytes(), new.tree_key.bytes());
        assert_ne!(old.pack_secret.bytes(), new.pack_secret.bytes());
        assert_ne!(old.box_public, new.box_public);
        let mut keys = second;
        while keys.epochs().len() < crate::base::limits::KEY_EPOCHS_MAX {
            keys = keys.with_new_epoch(&mut entropy::fill).unwrap();
        }
        assert!(keys.with_new_epoch(&mut entropy::fill).is_err());
    }
}
