//! Deleting: new deltas for what stays, then packs and their parity, then the old deltas.

use std::collections::{BTreeMap, HashSet};

use super::judge::Judge;
use super::{PruneError, Report};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::repo::packer::FinishedPack;
use crate::repo::{deltas, records};
use crate::store::{Folder, Place, StoreError};

/// Packs that one new delta describes; bounds what is held in memory.
const DELTA_PACKS: usize = 64;

/// Packs of a delta that is written anew, by who signs it.
type Staying = BTreeMap<(HostId, DomainId), Vec<FinishedPack>>;

/// Deletes packs. `gone` are all that count as deleted, also by earlier prunes that came to no end.
pub fn delete(
    judge: &Judge<'_>,
    doomed: &[ObjectHash],
    gone: &HashSet<ObjectHash>,
    report: &mut Report,
) -> Result<(), PruneError> {
    let old_deltas = rewrite_deltas(judge, gone)?;
    let store = judge.repository.store.as_ref();
    for pack in doomed {
        judge.interrupt.check().map_err(crate::repo::RepoError::from)?;
        unless_missing(store.remove(&Place::Pack(*pack)))?;
    }
    for (place, _) in store.list(Folder::Parity)? {
        if matches!(&place, Place::Parity(pack, _) if gone.contains(pack)) {
            unless_missing(store.remove(&place))?;
        }
    }
    for place in &old_deltas {
        unless_missing(store.remove(place))?;
    }
    report.deltas_removed += old_deltas.len() as u64;
    judge.sync()
}

/// What is gone already was removed by an earlier prune, or by another one.
pub fn unless_missing(removed: Result<(), StoreError>) -> Result<(), StoreError> {
    match removed {
        Err(error) if error.is_missing() => Ok(()),
        removed => removed,
    }
}

/// Writes deltas for the packs that stay of those deltas that name packs which go; gives the old ones.
fn rewrite_deltas(judge: &Judge<'_>, gone: &HashSet<ObjectHash>) -> Result<Vec<Place>, PruneError> {
    let by_delta = judge.index.read().expect("no holder panics").packs_by_delta()?;
    let concerned: HashSet<ObjectHash> = by_delta
        .into_iter()
        .filter(|(_, packs)| packs.iter().any(|pack| gone.contains(pack)))
        .map(|(delta, _)| delta)
        .collect();
    let hosts = records::hosts(judge.repository)?;
    let (mut staying, mut old) = (Staying::new(), Vec::new());
    for (place, _) in judge.repository.store.list(Folder::Deltas)? {
        if !place.hash().is_some_and(|hash| concerned.contains(hash)) {
            continue;
        }
        judge.interrupt.check().map_err(crate::repo::RepoError::from)?;
        let Some(delta) = deltas::read(judge.repository, &hosts, &place)? else { continue };
        let packs = staying.entry((delta.host, delta.domain)).or_default();
        for (hash, size, contents) in delta.packs {
            if !gone.contains(&hash) {
                packs.push(FinishedPack { hash, size, contents });
            }
        }
        if packs.len() >= DELTA_PACKS {
            let packs = std::mem::take(packs);
            write(judge, (delta.host, delta.domain), &packs)?;
        }
        old.push(place);
    }
    for (signer, packs) in staying {
        write(judge, signer, &packs)?;
    }
    Ok(old)
}

fn write(
    judge: &Judge<'_>,
    (host, domain): (HostId, DomainId),
    packs: &[FinishedPack],
) -> Result<(), PruneError> {
    if packs.is_empty() {
        return Ok(());
    }
    let repository = judge.repository;
    let keys = repository.need_full("pruning")?.writer(host, domain);
    deltas::write(repository, &keys, deltas::next_sequence(repository, &host)?, packs)?;
    Ok(())
}
