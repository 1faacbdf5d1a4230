//! Making and opening a repository.

use std::sync::Arc;

use super::RepoError;
use super::ledger::Ledger;
use super::objects::{NewObject, SignedObject, Signer};
use super::records::{self, RecordCache};
use super::recovery_note;
use crate::base::id::{DomainId, HostId, RepositoryId, SlotId};
use crate::base::{clock, entropy, limits};
use crate::crypto::slot::{self, PasswordCost, Secret, SlotDetails, SlotError};
use crate::format::codec::FormatError;
use crate::format::config::Config;
use crate::format::keyset::{FullKeys, KeySet, Role, VerifyingKey, WriterKeys};
use crate::format::object::ObjectType;
use crate::format::slot::SlotHeader;
use crate::store::{Folder, LocalStore, Place, Storage};

/// An open repository: its store, and the keys that one slot gave.
pub struct Repository {
    /// Where the objects lie.
    pub store: Arc<dyn Storage>,
    /// The keys.
    pub keys: Arc<KeySet>,
    /// What `config` says; the usual values when it is damaged.
    pub config: Config,
    /// Why `config` cannot be used.
    pub config_damage: Option<String>,
    /// The key slot that gave the keys; none when there was no slot yet.
    pub opened: Option<SlotId>,
    /// Records that were read.
    pub records: RecordCache,
}

/// A key slot's name, and what it says in clear or why it cannot be used.
pub type ListedSlot = (SlotId, Result<SlotHeader, RepoError>);

/// A way to open a new repository.
pub struct NewSlot<'a> {
    /// What opens it.
    pub secret: &'a Secret,
    /// A name for people.
    pub label: &'a str,
}

impl Repository {
    /// Makes a repository in an absent or empty folder, openable by each of `slots`; its packs get so much parity,
    /// percent.
    pub fn init(
        store: LocalStore,
        slots: &[NewSlot<'_>],
        parity_percent: u32,
    ) -> Result<Repository, RepoError> {
        if store.read(&Place::Config, limits::SMALL_OBJECT_BYTES_MAX).is_ok() {
            return Err(RepoError::Exists { location: store.location() });
        }
        store.prepare()?;
        let full = FullKeys::generate();
        let id = full.repository();
        recovery_note::ensure(&store, id)?;
        let store: Arc<dyn Storage> = Arc::new(store);
        let keys = Arc::new(KeySet::Full(full.clone()));
        let config = Config { created: clock::now_seconds(), parity_percent, ..Config::new(id) };
        let records = RecordCache::default();
        let mut repository = Repository { store, keys, config, config_damage: None, opened: None, records };
        for slot in slots {
            let id = repository.add_slot(&repository.keys, slot.secret, slot.label, "")?;
            repository.opened = repository.opened.or(Some(id));
        }
        // The config comes last: without it there is no repository, so a half-made one is never taken for one.
        let object = NewObject {
            object_type: ObjectType::Config,
            epoch: 0,
            host: HostId::default(),
            domain: DomainId::default(),
            sequence: 0,
            clear: repository.config.encode(),
            secret: Vec::new(),
        };
        object.write(repository.store.as_ref(), &id, None, Signer::Repository(&full))?;
        Ok(repository)
    }

    /// Opens the repository with the first key slot that `secret` fits.
    pub fn open(store: Arc<dyn Storage>, secret: &Secret) -> Result<Repository, RepoError> {
        if let Err(error) = store.read(&Place::Config, limits::SMALL_OBJECT_BYTES_MAX) {
            let location = store.location();
            if !error.is_missing() {
                return Err(error.into());
            }
            // With keys there is a repository, whatever became of its config.
            if store.list(Folder::Keys)?.is_empty() {
                return Err(RepoError::NoRepository { location });
            }
        }
        let (slot, keys) = find_keys(store.as_ref(), secret)?;
        let (config, config_damage) = match read_config(store.as_ref(), &keys) {
            Ok(config) => (config, None),
            // Restoring needs nothing of it that the keys do not tell; writing must not go on from a guess.
            Err(error @ (RepoError::Damaged { .. } | RepoError::Refused { .. })) => {
                (Config::new(keys.repository()), Some(error.to_string()))
            }
            Err(RepoError::Store(error)) if error.is_missing() => {
                (Config::new(keys.repository()), Some("config is missing".to_owned()))
            }
            Err(error) => return Err(error),
        };
        let (keys, records) = (Arc::new(keys), RecordCache::default());
        Ok(Repository { store, keys, config, config_damage, opened: Some(slot), records })
    }

    /// Fails when `config` is damaged: nothing may be written then.
    pub fn need_config(&self) -> Result<(), RepoError> {
        match &self.config_damage {
            None => Ok(()),
            Some(text) => {
                let detail = format!("nothing can be written ({text})");
                Err(RepoError::Damaged { object: "config".to_owned(), detail })
            }
        }
    }

    /// The repository's name.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// The public key that signs what only a full key may say; pinned by clients.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.keys.repository_verifying_key()
    }

    /// Fails for writer keys.
    pub fn need_full(&self, what: &'static str) -> Result<&FullKeys, RepoError> {
        match self.keys.as_ref() {
            KeySet::Full(keys) => Ok(keys),
            KeySet::Writer(_) => Err(RepoError::NeedsFullKey { what }),
        }
    }

    /// Stores a key slot that opens `keys`.
    pub fn add_slot(
        &self,
        keys: &KeySet,
        secret: &Secret,
        label: &str,
        host: &str,
    ) -> Result<SlotId, RepoError> {
        let signer = self.need_full("adding a key")?;
        let details = SlotDetails {
            label,
            host_name: host,
            created: clock::now_seconds(),
            cost: PasswordCost::default(),
        };
        let (id, bytes) = slot::create_slot(signer, keys, secret, &details)?;
        self.store.create(&Place::KeySlot(id), &bytes)?;
        Ok(id)
    }

    /// Removes a key slot.
    pub fn remove_slot(&self, id: SlotId) -> Result<(), RepoError> {
        self.need_full("removing a key")?;
        Ok(self.store.remove(&Place::KeySlot(id))?)
    }

    /// What anyone can read of each slot, and whether the repository's signature on it holds.
    pub fn slots(&self) -> Result<Vec<ListedSlot>, RepoError> {
        let places = self.store.list(Folder::Keys)?;
        let slots = places.into_iter().filter_map(|(place, _)| match place {
            Place::KeySlot(id) => Some(id),
            _ => None,
        });
        Ok(slots.map(|id| (id, self.slot(id))).collect())
    }

    fn slot(&self, id: SlotId) -> Result<SlotHeader, RepoError> {
        let bytes = self.store.read(&Place::KeySlot(id), limits::SMALL_OBJECT_BYTES_MAX)?;
        Ok(slot::inspect_slot(&bytes, id, self.id(), &self.verifying_key())?)
    }

    /// The keys with which this key set writes as a host: the host of a writer key, or the one registered for
    /// `name`, or a new one.
    pub fn writer_for(&self, name: &str) -> Result<WriterKeys, RepoError> {
        self.writer_or(name, || records::register_host(self, name, None))
    }

    /// As [`Repository::writer_for`], but a new host is only imagined: nothing may be written with these keys.
    pub fn writer_for_rehearsal(&self, name: &str) -> Result<WriterKeys, RepoError> {
        self.writer_or(name, || Ok((HostId(entropy::random()), records::SHARED_DOMAIN)))
    }

    fn writer_or(
        &self,
        name: &str,
        new_host: impl FnOnce() -> Result<(HostId, DomainId), RepoError>,
    ) -> Result<WriterKeys, RepoError> {
        let keys = match self.keys.as_ref() {
            KeySet::Writer(keys) => {
                self.need_counting(&Ledger::read(self)?, &keys.host)?;
                return Ok(keys.as_ref().clone());
            }
            KeySet::Full(keys) => keys,
        };
        let known = records::hosts(self)?;
        let host = known
            .iter()
            .rev()
            .find(|host| host.name == name && host.revoked.is_none() && host.shared_domain());
        let (host, domain) = match host {
            Some(host) => (host.host, host.domain),
            None => {
                // While a record cannot be read, the host may well be registered.
                Ledger::read(self)?.need_whole()?;
                new_host()?
            }
        };
        Ok(keys.writer(host, domain))
    }

    /// Fails for a host that was revoked.
    pub fn need_counting(&self, ledger: &Ledger, host: &HostId) -> Result<(), RepoError> {
        match ledger.revoked.contains_key(host) {
            true => {
                let known = records::registered(&ledger.hosts, host);
                let host = known.map_or_else(|| host.short(), |known| known.name.clone());
                Err(RepoError::Revoked { host })
            }
            false => Ok(()),
        }
    }

    /// The role of the keys in use.
    pub fn role(&self) -> Role {
        self.keys.role()
    }
}

fn find_keys(store: &dyn Storage, secret: &Secret) -> Result<(SlotId, KeySet), RepoError> {
    let mut broken = None;
    for (place, _) in store.list(Folder::Keys)? {
        let Place::KeySlot(id) = place else { continue };
        let opened =
            store.read(&place, limits::SMALL_OBJECT_BYTES_MAX).map_err(RepoError::from).and_then(|bytes| {
                let keys = slot::open_slot(&bytes, secret)?;
                // A slot under another name opens all the same; `check` tells.
                Ok(keys)
            });
        match opened {
            Ok(keys) => return Ok((id, keys)),
            Err(RepoError::Slot(SlotError::WrongKey | SlotError::KindMismatch { .. })) => {}
            Err(RepoError::Slot(error @ (SlotError::UnusableSecret { .. } | SlotError::RecoveryCode(_)))) => {
                return Err(error.into());
            }
            // A damaged slot blocks nobody who holds another key.
            Err(error) => {
                broken = Some(RepoError::Damaged { object: place.to_string(), detail: error.to_string() })
            }
        }
    }
    let secret = secret.name();
    Err(broken.unwrap_or(RepoError::WrongKey { location: store.location(), secret }))
}

fn read_config(store: &dyn Storage, keys: &KeySet) -> Result<Config, RepoError> {
    let repository = keys.repository();
    let verifier = |_: &_| Some(keys.repository_verifying_key());
    let object = SignedObject::read(store, &Place::Config, &[ObjectType::Config], &repository, verifier)?;
    let config = Config::decode(object.clear()).map_err(|error| match error {
        FormatError::Unknown { .. } => {
            RepoError::Unsupported { object: "config".to_owned(), detail: error.to_string() }
        }
        _ => RepoError::Damaged { object: "config".to_owned(), detail: error.to_string() },
    })?;
    if config.repository != repository {
        return Err(RepoError::Refused {
            object: "config".to_owned(),
            why: "it belongs to another repository",
        });
    }
    Ok(config)
}
