//! Records: signed administrative facts, read, verified and written; what they say together is the [`Ledger`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::ledger::Ledger;
use super::objects::{NewObject, SignedObject, Signer};
use super::{RepoError, Repository, following, highest};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::base::{clock, entropy};
use crate::crypto::seal::SealingKey;
use crate::format::codec;
use crate::format::keyset::{KeySet, VerifyingKey};
use crate::format::object::ObjectType;
use crate::format::record::{Record, RecordHead};
use crate::store::{Folder, Place};

/// The domain of all hosts that hold a full key: they could read each other anyway.
pub const SHARED_DOMAIN: DomainId = DomainId([0; 16]);

/// A host that may write.
#[derive(Debug, Clone)]
pub struct HostInfo {
    /// Its id.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Its dedup domain.
    pub domain: DomainId,
    /// Its Ed25519 public key.
    pub verifying_key: [u8; 32],
    /// Its last snapshot that counts, when it was revoked.
    pub revoked: Option<u64>,
}

impl HostInfo {
    /// Does it deduplicate with all holders of a full key?
    pub fn shared_domain(&self) -> bool {
        self.domain == SHARED_DOMAIN
    }
}

/// A record's clear part, and what our keys open of it.
pub type ReadRecord = (RecordHead, Option<Record>);

/// Records that were verified: they never change, so each is read once.
#[derive(Debug, Default)]
pub struct RecordCache(Mutex<HashMap<Place, Arc<ReadRecord>>>);

/// Reads and verifies one record; its sealed part is `None` when our keys do not open it or its type is unknown.
pub fn read(repository: &Repository, place: &Place) -> Result<Arc<ReadRecord>, RepoError> {
    let known = |cache: &RecordCache| cache.0.lock().expect("no holder panics").get(place).cloned();
    if let Some(record) = known(&repository.records) {
        return Ok(record);
    }
    let record = Arc::new(read_stored(repository, place)?);
    repository.records.0.lock().expect("no holder panics").insert(*place, Arc::clone(&record));
    Ok(record)
}

fn read_stored(repository: &Repository, place: &Place) -> Result<ReadRecord, RepoError> {
    let id = repository.id();
    let damaged = |error: codec::FormatError| RepoError::Damaged {
        object: place.to_string(),
        detail: error.to_string(),
    };
    let verifier = |_: &_| Some(repository.verifying_key());
    let object = SignedObject::read(repository.store.as_ref(), place, &[ObjectType::Record], &id, verifier)?;
    let head: RecordHead = codec::decode(object.clear(), "record").map_err(damaged)?;
    let Some(key) = key_of(repository, head.private) else { return Ok((head, None)) };
    if head.record_type > Record::TYPE_MAX {
        return Ok((head, None));
    }
    let opened = object.open(&id, Some(key.as_ref()))?;
    let record = Record::decode(&opened.secret, &head).map_err(damaged)?;
    Ok((head, Some(record)))
}

fn key_of(repository: &Repository, private: bool) -> Option<Box<dyn SealingKey>> {
    match private {
        true => repository.keys.private_record_key().map(|key| Box::new(key) as Box<dyn SealingKey>),
        false => Some(Box::new(repository.keys.shared_record_key())),
    }
}

/// All hosts that were ever registered, in that order.
///
/// A record that is damaged or refused is passed over, as if it had been removed: it must not keep anybody from
/// mail that does not need it. `check` names it.
pub fn hosts(repository: &Repository) -> Result<Vec<HostInfo>, RepoError> {
    Ok(Ledger::read(repository)?.hosts)
}

/// What the last record says that registers this host.
pub fn registered<'h>(hosts: &'h [HostInfo], host: &HostId) -> Option<&'h HostInfo> {
    hosts.iter().rev().find(|known| known.host == *host)
}

/// Does a host's name stand for hosts that were all revoked?
pub fn is_revoked_name(hosts: &[HostInfo], name: &str) -> bool {
    let mut named = hosts.iter().filter(|known| known.name == name).peekable();
    named.peek().is_some() && named.all(|known| known.revoked.is_some())
}

/// Refuses an object whose domain is not the one that its host was registered with.
pub fn need_domain(
    hosts: &[HostInfo],
    host: &HostId,
    domain: &DomainId,
    place: &Place,
) -> Result<(), RepoError> {
    match registered(hosts, host) {
        Some(known) if known.domain != *domain => Err(RepoError::Refused {
            object: place.to_string(),
            why: "it claims another host's dedup domain",
        }),
        _ => Ok(()),
    }
}

/// Registers a new host; without a `domain` it joins that of the full keys.
pub fn register_host(
    repository: &Repository,
    name: &str,
    domain: Option<DomainId>,
) -> Result<(HostId, DomainId), RepoError> {
    let host = HostId(entropy::random());
    let domain = domain.unwrap_or(SHARED_DOMAIN);
    register(repository, host, name, domain)?;
    Ok((host, domain))
}

/// Registers a new host that has a domain of its own.
pub fn register_lone_host(repository: &Repository, name: &str) -> Result<(HostId, DomainId), RepoError> {
    let host = HostId(entropy::random());
    register(repository, host, name, host.own_domain())?;
    Ok((host, host.own_domain()))
}

/// The domain that hosts share on purpose by naming it alike.
pub fn named_domain(name: &str) -> DomainId {
    let hash = blake3::derive_key("mailark 2026-11 domain name", name.as_bytes());
    DomainId(*hash.first_chunk().expect("16 of 32 bytes"))
}

/// The host of that name and domain (one of its own without `domain`), registered when it is not.
///
/// Two writer keys made for one name are two keys of one host.
pub fn host_named(
    repository: &Repository,
    name: &str,
    domain: Option<DomainId>,
) -> Result<(HostId, DomainId), RepoError> {
    let known = hosts(repository)?.into_iter().rev().find(|known| {
        known.name == name
            && known.revoked.is_none()
            && known.domain == domain.unwrap_or_else(|| known.host.own_domain())
    });
    match (known, domain) {
        (Some(known), _) => Ok((known.host, known.domain)),
        (None, Some(domain)) => register_host(repository, name, Some(domain)),
        (None, None) => register_lone_host(repository, name),
    }
}

fn register(repository: &Repository, host: HostId, name: &str, domain: DomainId) -> Result<(), RepoError> {
    repository.need_full("registering a host")?;
    let key = repository.keys.host_verifying_key(&host).expect("a full key gives the key of any host");
    let name = name.to_owned();
    write(repository, &Record::HostRegistered { host, name, domain, verifying_key: key.0 }).map(drop)
}

/// Signs and stores a record; gives its hash.
pub fn write(repository: &Repository, record: &Record) -> Result<ObjectHash, RepoError> {
    write_after(repository, record, 0)
}

/// As [`write`], with a number above `known`, that of a record which must come before it whatever a list shows.
pub fn write_after(repository: &Repository, record: &Record, known: u64) -> Result<ObjectHash, RepoError> {
    let signer = Signer::Repository(repository.need_full("writing a record")?);
    let (record_type, private) = record.class();
    let last = repository.store.list(Folder::Records)?.into_iter().filter_map(|(place, _)| match place {
        Place::Record(sequence, _) => Some((sequence, place)),
        _ => None,
    });
    let proves = |place: &Place| read(repository, place).is_ok();
    let sequence = following(highest(last, proves).max(known), Folder::Records)?;
    let key = key_of(repository, private).ok_or(RepoError::NeedsFullKey { what: "writing a record" })?;
    let object = NewObject {
        object_type: ObjectType::Record,
        epoch: repository.keys.epoch(),
        host: HostId::default(),
        domain: DomainId::default(),
        sequence,
        clear: codec::encode(&RecordHead { record_type, private, at: clock::now_seconds() }),
        secret: record.encode(),
    };
    let place = object.write(repository.store.as_ref(), &repository.id(), Some(key.as_ref()), signer)?;
    Ok(*place.hash().expect("records are named by their hash"))
}

/// The key that verifies what `host` signs, if these keys or a record tell it.
pub fn host_verifier(repository: &Repository, hosts: &[HostInfo], host: &HostId) -> Option<VerifyingKey> {
    if let KeySet::Full(_) = repository.keys.as_ref() {
        return repository.keys.host_verifying_key(host);
    }
    let own = repository.keys.host_verifying_key(host);
    let registered = || {
        let known = hosts.iter().find(|known| known.host == *host)?;
        Some(VerifyingKey(known.verifying_key))
    };
    own.or_else(registered)
}
