//! In which domain a host's blobs have their names.

use std::collections::{BTreeSet, HashMap};

use crate::base::id::{DomainId, HostId};
use crate::repo::ledger::Ledger;
use crate::repo::records::SHARED_DOMAIN;
use crate::repo::{RepoError, Repository, snapshots};

/// The domains of all hosts that anything tells of.
#[derive(Debug, Default)]
pub(super) struct Domains {
    known: HashMap<HostId, DomainId>,
    /// Hosts that nothing tells of; they are taken for holders of a full key.
    pub(super) guessed: BTreeSet<HostId>,
}

impl Domains {
    /// Asks the records first, then what the hosts signed themselves: their deltas and their snapshots.
    pub(super) fn gather(
        repository: &Repository,
        ledger: &Ledger,
        deltas: &[(HostId, DomainId)],
    ) -> Result<Domains, RepoError> {
        let mut known = HashMap::new();
        let listed = snapshots::list(repository)?;
        known.extend(listed.snapshots.iter().map(|info| (info.host, info.domain)));
        known.extend(deltas.iter().copied());
        known.extend(ledger.hosts.iter().map(|host| (host.host, host.domain)));
        Ok(Domains { known, guessed: BTreeSet::new() })
    }

    /// The domain of a host.
    pub(super) fn of(&mut self, host: HostId) -> DomainId {
        self.known.get(&host).copied().unwrap_or_else(|| {
            self.guessed.insert(host);
            SHARED_DOMAIN
        })
    }
}
