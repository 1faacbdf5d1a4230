//! Tombstones in the making: marks of what was taken out, by the folder in which they count.

use std::collections::{BTreeMap, HashSet};

use crate::base::id::DomainId;
use crate::format::record::Record;
use crate::repo::ledger::Tombstone;
use crate::repo::tombstones::{Mark, Marker};
use crate::repo::{RepoError, Repository, records};

/// Most contents in one record.
const CONTENTS_MAX: usize = 100_000;

/// Marks of one domain.
pub struct Stones {
    domain: DomainId,
    /// Makes them.
    pub marker: Marker,
    contents: BTreeMap<Mark, HashSet<Mark>>,
}

impl Stones {
    /// None yet.
    pub fn new(domain: DomainId, marker: Marker) -> Stones {
        Stones { domain, marker, contents: BTreeMap::new() }
    }

    /// Notes that a content must not come back below a folder.
    pub fn add(&mut self, scope: &[u8], contents: impl IntoIterator<Item = Mark>) {
        let scope = self.marker.folder(scope);
        self.contents.entry(scope).or_default().extend(contents);
    }

    /// Writes what no record says yet; gives the number of marks.
    pub fn write(&self, repository: &Repository, known: &[Tombstone]) -> Result<u64, RepoError> {
        let mut written = 0;
        for (scope, contents) in &self.contents {
            let same = |stone: &&Tombstone| stone.domain == self.domain && stone.scopes.contains(scope);
            let said: HashSet<Mark> =
                known.iter().filter(same).flat_map(|stone| stone.contents.iter().copied()).collect();
            let mut fresh: Vec<Mark> = contents.difference(&said).copied().collect();
            fresh.sort_unstable();
            for contents in fresh.chunks(CONTENTS_MAX) {
                written += contents.len() as u64;
                let (scopes, contents) = (vec![*scope], contents.to_vec());
                records::write(repository, &Record::Tombstone { domain: self.domain, scopes, contents })?;
            }
        }
        Ok(written)
    }
}
