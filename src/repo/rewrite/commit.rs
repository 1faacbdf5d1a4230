//! The order of writes: the records first, then the snapshots, so that no snapshot ever passes for the newest of its
//! job. A crash in between leaves each snapshot as it was or as it is to be.

use std::collections::HashMap;

use super::Rewritten;
use crate::base::id::{HostId, ObjectHash};
use crate::format::keyset::FullKeys;
use crate::format::object::ObjectType;
use crate::format::record::{Record, Replacement, SnapshotName};
use crate::format::snapshot::Snapshot;
use crate::repo::objects::{NewObject, Signer};
use crate::repo::{RepoError, Repository, following, records, snapshots};
use crate::store::{Folder, Place};

/// A snapshot object that cannot be read at all, and when the store received it, unix nanoseconds.
pub type Lost = (SnapshotName, i64);

/// What is written anew, and why.
pub struct Order<'a> {
    /// `purge` or `repair`.
    pub verb: &'a str,
    /// What was taken out, for people who hold a full key.
    pub what: String,
    /// Snapshots that get another in their place.
    pub rewritten: &'a [Rewritten],
    /// Objects that get none.
    pub lost: &'a [Lost],
}

/// Writes the records, then the new snapshots; gives the old and the new hash of each.
///
/// Everything that they refer to was published before.
pub fn commit(repository: &Repository, order: Order<'_>) -> Result<Vec<(ObjectHash, ObjectHash)>, RepoError> {
    if order.rewritten.is_empty() && order.lost.is_empty() {
        return Ok(Vec::new());
    }
    let keys = repository.need_full("writing snapshots anew")?;
    let mut numbers: HashMap<HostId, u64> = HashMap::new();
    let mut objects = Vec::with_capacity(order.rewritten.len());
    let mut replaced = Vec::with_capacity(order.rewritten.len() + order.lost.len());
    let mut made = Vec::with_capacity(order.rewritten.len());
    let mut rewritten: Vec<&Rewritten> = order.rewritten.iter().collect();
    // Writers do not see the record: to them, too, the newest is to be the newest.
    rewritten.sort_by_key(|one| (one.old.host, one.old.position, one.old.sequence));
    for one in rewritten {
        let host = one.old.host;
        let last = match numbers.get(&host) {
            Some(last) => *last,
            None => snapshots::last_sequence(repository, &host)?,
        };
        let sequence = following(last, Folder::Snapshots)?;
        numbers.insert(host, sequence);
        let (place, bytes) = seal(repository, keys, one, sequence);
        let hash = *place.hash().expect("snapshots are named by their hash");
        replaced.push(Replacement {
            old: one.old.name(),
            new: Some(SnapshotName { host, sequence, hash }),
            received: one.old.received as i64,
        });
        made.push((one.old.hash, hash));
        objects.push((place, bytes));
    }
    replaced.extend(order.lost.iter().map(|(old, received)| Replacement {
        old: *old,
        new: None,
        received: *received,
    }));
    let verb = || order.verb.to_owned();
    records::write(repository, &Record::Result { verb: verb(), ok: true, text: order.what })?;
    records::write(repository, &Record::Rewrite { verb: verb(), replaced })?;
    for (place, bytes) in &objects {
        repository.store.create(place, bytes)?;
    }
    Ok(made)
}

fn seal(repository: &Repository, keys: &FullKeys, one: &Rewritten, sequence: u64) -> (Place, Vec<u8>) {
    let (host, domain) = (one.old.host, one.old.domain);
    let writer = keys.writer(host, domain);
    let snapshot = Snapshot {
        parts: one.parts.clone(),
        replaces: Some(one.old.hash),
        program: concat!("mailark ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..one.old.snapshot.clone()
    };
    let object = NewObject {
        object_type: ObjectType::Snapshot,
        epoch: writer.epoch,
        host,
        domain,
        sequence,
        clear: Vec::new(),
        secret: snapshot.encode(),
    };
    object.seal(&repository.id(), Some(&writer.snapshot_key), Signer::Host(&writer))
}
