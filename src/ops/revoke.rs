//! Revocation: from a record on, nothing that a host writes counts.

use crate::base::id::SlotId;
use crate::base::interrupt::Interrupt;
use crate::format::keyset::Role;
use crate::format::record::Record;
use crate::repo::ledger::Ledger;
use crate::repo::records::{self, HostInfo};
use crate::repo::{RepoError, Repository, snapshots};

/// Fewest digits of an id that name a host.
const ID_DIGITS_MIN: usize = 4;

/// A host was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The repository cannot be read or written.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// Nobody of that name or id was ever registered.
    #[error("no host '{name}'")]
    NoSuchHost {
        /// What was asked for.
        name: String,
        /// The names of those that there are.
        known: Vec<String>,
    },
    /// A name that stands for several hosts.
    #[error("{} hosts are called '{name}'", .hosts.len())]
    Several {
        /// The name.
        name: String,
        /// Their ids.
        hosts: Vec<String>,
    },
    /// It is revoked.
    #[error("host {name} is revoked already")]
    Already {
        /// Its name.
        name: String,
    },
}

/// What a revocation did.
#[derive(Debug)]
pub struct Revoked {
    /// The host.
    pub host: HostInfo,
    /// Its last number that counts; 0 when it never wrote a snapshot.
    pub last_sequence: u64,
    /// Key slots for hosts of its name, of which none writes any longer.
    pub slots: Vec<SlotId>,
    /// Other hosts of its domain that still write: what they have in common with it they store again.
    pub neighbours: u64,
}

/// Revokes the host that `text` names: its name, or the first digits of its id. What it saved so far stays.
pub fn run(repository: &Repository, text: &str, interrupt: &Interrupt) -> Result<Revoked, RevokeError> {
    repository.need_full("revoking a host")?;
    let ledger = Ledger::read(repository)?;
    let host = find(&ledger.hosts, text)?.clone();
    // A list may not show yet what the host has saved and reported.
    interrupt.sleep(repository.store.staleness()).map_err(RepoError::from)?;
    let last_sequence = snapshots::last_sequence(repository, &host.host)?;
    let record = Record::HostRevoked { host: host.host, last_sequence };
    records::write_after(repository, &record, ledger.last_record())?;
    let hosts = records::hosts(repository)?;
    let neighbours = hosts.iter().filter(|known| known.domain == host.domain && known.revoked.is_none());
    let (neighbours, slots) = (neighbours.count() as u64, slots_of(repository, &hosts, &host.name)?);
    Ok(Revoked { host, last_sequence, slots, neighbours })
}

fn find<'h>(hosts: &'h [HostInfo], text: &str) -> Result<&'h HostInfo, RevokeError> {
    let fits = |known: &&HostInfo| {
        known.name == text || text.len() >= ID_DIGITS_MIN && known.host.to_string().starts_with(text)
    };
    let mut fitting: Vec<&HostInfo> = hosts.iter().filter(fits).collect();
    // Registered twice, it is one host all the same.
    fitting.sort_by_key(|known| known.host);
    fitting.dedup_by_key(|known| known.host);
    let standing: Vec<&HostInfo> = fitting.iter().filter(|known| known.revoked.is_none()).copied().collect();
    match (standing.as_slice(), fitting.first()) {
        ([host], _) => Ok(host),
        ([], Some(known)) => Err(RevokeError::Already { name: known.name.clone() }),
        ([], None) => {
            let mut known: Vec<String> = hosts.iter().map(|known| known.name.clone()).collect();
            known.sort();
            known.dedup();
            Err(RevokeError::NoSuchHost { name: text.to_owned(), known })
        }
        (several, _) => {
            let hosts = several.iter().map(|known| known.host.to_string()).collect();
            Err(RevokeError::Several { name: text.to_owned(), hosts })
        }
    }
}

fn slots_of(repository: &Repository, hosts: &[HostInfo], name: &str) -> Result<Vec<SlotId>, RepoError> {
    if !records::is_revoked_name(hosts, name) {
        return Ok(Vec::new());
    }
    let slots = repository.slots()?.into_iter().filter_map(|(id, slot)| {
        let header = slot.ok()?;
        (header.role == Role::Writer && header.host_name.as_str() == name).then_some(id)
    });
    Ok(slots.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{DomainId, HostId};

    fn host(id: u8, name: &str, revoked: Option<u64>) -> HostInfo {
        let (host, domain) = (HostId([id; 16]), DomainId([id; 16]));
        HostInfo { host, name: name.to_owned(), domain, verifying_key: [0; 32], revoked }
    }

    #[test]
    fn a_host_is_named_by_name_or_id() {
        let hosts = [
            host(0x11, "mx1", Some(4)),
            host(0x22, "mx1", None),
            host(0x22, "mx1", None),
            host(0x33, "mx2", Some(0)),
            host(0x44, "mx3", None),
            host(0x55, "mx3", None),
        ];
        let found = |text: &str| find(&hosts, text).map(|known| known.host.0[0]);
        assert_eq!(found("mx1").unwrap(), 0x22, "the other is revoked");
        assert_eq!(found("4444").unwrap(), 0x44);
        assert!(matches!(found("444"), Err(RevokeError::NoSuchHost { .. })), "too short for an id");
        assert!(matches!(found("1111"), Err(RevokeError::Already { .. })));
        assert!(matches!(found("mx2"), Err(RevokeError::Already { .. })));
        assert!(matches!(found("mx3"), Err(RevokeError::Several { hosts, .. }) if hosts.len() == 2));
        let Err(RevokeError::NoSuchHost { known, .. }) = found("mx9") else { panic!("it was found") };
        assert_eq!(known, ["mx1", "mx2", "mx3"]);
    }
}
