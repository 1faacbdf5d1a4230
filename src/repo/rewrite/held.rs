//! Which snapshots are held, and must stay as they are.

use std::collections::HashMap;
use std::sync::Arc;

use super::Run;
use crate::base::id::ObjectHash;
use crate::crypto::blob_id::BlobNamer;
use crate::repo::RepoError;
use crate::repo::holds::{UserSearch, held_by};
use crate::repo::ledger::{Hold, Ledger};
use crate::repo::packs::PackMap;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;

/// Plaintext that is kept in memory for each snapshot that is looked at.
const CACHE_BYTES: usize = 8 << 20;

/// Looks for the hold that keeps a snapshot.
pub struct Held<'a> {
    run: &'a Run<'a>,
    packs: PackMap,
    searches: HashMap<String, UserSearch>,
}

impl<'a> Held<'a> {
    /// Looks in the records of a run.
    pub fn new(run: &'a Run<'a>) -> Held<'a> {
        let packs = PackMap::new(Arc::clone(&run.repository.keys));
        Held { run, packs, searches: HashMap::new() }
    }

    /// The first hold of `ledger` that keeps a snapshot as it is; `concerns` tells whether what is taken out may be
    /// mail of a held user.
    pub fn by<'l>(
        &mut self,
        ledger: &'l Ledger,
        info: &SnapshotInfo,
        concerns: &dyn Fn(&str) -> bool,
    ) -> Result<Option<&'l Hold>, RepoError> {
        if ledger.holds.is_empty() {
            return Ok(None);
        }
        let run = self.run;
        let object = || format!("snapshot {}", info.hash.short());
        let keys = run.repository.keys.domain(&info.domain);
        let keys = keys.ok_or_else(|| RepoError::NotForThisKey { object: object() })?;
        let namer = BlobNamer::new(&keys.id_key, &info.host);
        let store = Arc::clone(&run.repository.store);
        let reader = BlobReader::new(store, &self.packs, namer, info.domain, run.index, CACHE_BYTES);
        let searches = &mut self.searches;
        held_by(ledger, info, &mut |user: &str| {
            if !concerns(user) {
                return Ok(false);
            }
            let search = searches.entry(user.to_owned()).or_insert_with(|| UserSearch::new(user));
            search.finds(&reader, info, run.interrupt)
        })
    }

    /// The first hold that keeps a snapshot of which nothing but its hash can be read: it may hold anybody's mail.
    pub fn unread_by<'l>(ledger: &'l Ledger, hash: &ObjectHash) -> Option<&'l Hold> {
        let names = |hold: &Hold| hold.snapshots.iter().any(|name| name.hash == *hash);
        ledger.holds.iter().find(|hold| !hold.users.is_empty() || names(hold))
    }
}
