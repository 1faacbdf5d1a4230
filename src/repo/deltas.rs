//! Index deltas: written once per group of packs, read to fill the local index.

use std::collections::HashSet;
use std::sync::RwLock;

use super::ledger::Ledger;
use super::objects::{NewObject, SignedObject, Signer};
use super::packer::FinishedPack;
use super::packs::to_info;
use super::records::{self, HostInfo};
use super::{RepoError, Repository, following, highest};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::format::delta::{self, PackContents, PackList};
use crate::format::keyset::WriterKeys;
use crate::format::object::ObjectType;
use crate::index::{DeltaPack, Index};
use crate::store::{Folder, Place};

/// A delta whose signature holds, opened.
pub struct Delta {
    /// Who wrote it.
    pub host: HostId,
    /// The domain of its blobs.
    pub domain: DomainId,
    /// Its packs: name, size, contents.
    pub packs: Vec<(ObjectHash, u64, PackContents)>,
}

/// Reads one delta; `None` when it is sealed for another domain than ours.
pub fn read(repository: &Repository, hosts: &[HostInfo], place: &Place) -> Result<Option<Delta>, RepoError> {
    let id = repository.id();
    if let Place::Delta(host, ..) = place
        && records::host_verifier(repository, hosts, host).is_none()
    {
        return Ok(None);
    }
    let verifier =
        |header: &crate::format::object::Header| records::host_verifier(repository, hosts, &header.host);
    let object = SignedObject::read(repository.store.as_ref(), place, &[ObjectType::Delta], &id, verifier)?;
    let (host, domain) = (object.header().host, object.header().domain);
    let Some(key) = repository.keys.domain(&domain) else { return Ok(None) };
    // It is whole and signed: its writer wrote rubbish. What packs hold that only it names, repair finds.
    let rubbish =
        |_| RepoError::Refused { object: place.to_string(), why: "its writer signed what is no delta" };
    let list = PackList::decode(object.clear()).map_err(rubbish)?;
    let opened = object.open(&id, Some(&key.delta_key))?;
    records::need_domain(hosts, &host, &domain, place)?;
    let contents = delta::decode(&opened.secret, list.packs.len()).map_err(rubbish)?;
    let packs = list.packs.into_iter().zip(contents).map(|((hash, size), contents)| (hash, size, contents));
    Ok(Some(Delta { host, domain, packs: packs.collect() }))
}

/// Writes the delta of some packs and gives its hash; the caller has passed the barrier.
pub fn write(
    repository: &Repository,
    writer: &WriterKeys,
    sequence: u64,
    packs: &[FinishedPack],
) -> Result<ObjectHash, RepoError> {
    let list = PackList { packs: packs.iter().map(|pack| (pack.hash, pack.size)).collect() };
    let contents: Vec<PackContents> = packs.iter().map(|pack| pack.contents.clone()).collect();
    let object = NewObject {
        object_type: ObjectType::Delta,
        epoch: writer.epoch,
        host: writer.host,
        domain: writer.domain,
        sequence,
        clear: list.encode(),
        secret: delta::encode(&contents),
    };
    let key = &writer.delta_key;
    let signer = Signer::Host(writer);
    let place = object.write(repository.store.as_ref(), &repository.id(), Some(key), signer)?;
    Ok(*place.hash().expect("deltas are named by their hash"))
}

/// What the index wants to know of a pack.
pub fn for_index(hash: ObjectHash, size: u64, contents: &PackContents) -> DeltaPack {
    let mut ids = contents.ids.iter();
    let mut blobs = Vec::with_capacity(contents.ids.len());
    for (segment, entry) in contents.table.segments.iter().enumerate() {
        for position in 0..entry.lengths.len() {
            // Both are below 65,536 by the limits table.
            blobs.extend(ids.next().map(|id| (*id, segment as u16, position as u16)));
        }
    }
    DeltaPack { info: to_info(hash, size, contents), blobs }
}

/// Lists that a sync looks at while prunes replace deltas under it.
const LISTS_MAX: usize = 5;

/// Brings the index into step with the store: forgets deltas that are gone, reads those that are new.
///
/// Gives the deltas that could not be used, each with its reason; they block nothing that does not need them.
pub fn sync(repository: &Repository, index: &RwLock<Index>) -> Result<Vec<(Place, RepoError)>, RepoError> {
    let mut index = index.write().expect("no holder panics");
    for _ in 1..LISTS_MAX {
        let (unusable, vanished) = follow(repository, &mut index)?;
        if !vanished {
            return Ok(unusable);
        }
    }
    Ok(follow(repository, &mut index)?.0)
}

/// Follows one list; true when a delta vanished since: what stays of it stands in another, newer one.
fn follow(repository: &Repository, index: &mut Index) -> Result<(Vec<(Place, RepoError)>, bool), RepoError> {
    // Before listing: a delta that another process adds in between must not look vanished.
    let known = index.deltas()?;
    let listed = repository.store.list(Folder::Deltas)?;
    let hashes: HashSet<ObjectHash> = listed.iter().filter_map(|(place, _)| place.hash().copied()).collect();
    if !known.is_subset(&hashes) {
        index.retain(&hashes)?;
    }
    let (mut unusable, mut vanished, mut hosts) = (Vec::new(), false, None);
    for (place, _) in listed {
        let hash = *place.hash().expect("deltas are named by their hash");
        if known.contains(&hash) {
            continue;
        }
        let hosts = match &hosts {
            Some(hosts) => hosts,
            None => hosts.insert(records::hosts(repository)?),
        };
        match read(repository, hosts, &place) {
            Ok(Some(delta)) => {
                let packs: Vec<DeltaPack> = delta
                    .packs
                    .iter()
                    .map(|(hash, size, contents)| for_index(*hash, *size, contents))
                    .collect();
                index.apply(&delta.domain, &hash, &packs)?;
            }
            Ok(None) => index.apply(&DomainId::default(), &hash, &[])?,
            Err(RepoError::Store(error)) if error.is_missing() => vanished = true,
            Err(error) => unusable.push((place, error)),
        }
    }
    Ok((unusable, vanished))
}

/// Packs that only hosts of a domain name which were revoked: nothing new may lean on what they claim.
pub fn of_revoked(
    repository: &Repository,
    index: &RwLock<Index>,
    ledger: &Ledger,
    domain: &DomainId,
) -> Result<HashSet<ObjectHash>, RepoError> {
    let concerned = |host: &HostId| {
        ledger.revoked.contains_key(host)
            && records::registered(&ledger.hosts, host).is_none_or(|known| known.domain == *domain)
    };
    if !ledger.revoked.keys().any(concerned) {
        return Ok(HashSet::new());
    }
    let listed = repository.store.list(Folder::Deltas)?;
    let refused = listed.iter().filter_map(|(place, _)| match place {
        Place::Delta(host, _, hash) if concerned(host) => Some(*hash),
        _ => None,
    });
    let refused: HashSet<ObjectHash> = refused.collect();
    let (mut shunned, mut vouched) = (HashSet::new(), HashSet::new());
    for (delta, packs) in index.read().expect("no holder panics").packs_by_delta()? {
        let named = if refused.contains(&delta) { &mut shunned } else { &mut vouched };
        named.extend(packs);
    }
    shunned.retain(|pack| !vouched.contains(pack));
    Ok(shunned)
}

/// As [`sync`]; true when the index learned of deltas that it did not know.
pub fn learn(repository: &Repository, index: &RwLock<Index>) -> Result<bool, RepoError> {
    let known = || index.read().expect("no holder panics").deltas();
    let before = known()?;
    sync(repository, index)?;
    Ok(!known()?.is_subset(&before))
}

/// The next free number in `index/<host>`.
pub fn next_sequence(repository: &Repository, host: &HostId) -> Result<u64, RepoError> {
    let listed = repository.store.list(Folder::Deltas)?;
    let own = listed.into_iter().filter_map(|(place, _)| match place {
        Place::Delta(of, sequence, _) if of == *host => Some((sequence, place)),
        _ => None,
    });
    let proves =
        |place: &Place| records::hosts(repository).is_ok_and(|hosts| read(repository, &hosts, place).is_ok());
    following(highest(own, proves), Folder::Deltas)
}
