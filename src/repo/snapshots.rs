//! Snapshots: listed, verified, chosen.

use std::collections::{BTreeMap, HashSet};

use super::ledger::Ledger;
use super::objects::SignedObject;
use super::records;
use super::view::is_within;
use super::{RepoError, Repository, highest};
use crate::base::clock::UnixNanos;
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::format::object::ObjectType;
use crate::format::record::SnapshotName;
use crate::format::snapshot::{Checkpoint, Snapshot};
use crate::store::{Folder, Place};

/// A verified snapshot and where it stands.
#[derive(Debug, Clone)]
pub struct SnapshotInfo {
    /// Hash of the object: the snapshot's id.
    pub hash: ObjectHash,
    /// Who wrote it.
    pub host: HostId,
    /// The domain of its blobs.
    pub domain: DomainId,
    /// Its number among the host's.
    pub sequence: u64,
    /// The number by which it is ordered: its own, or that of the snapshot in whose place it stands.
    pub position: u64,
    /// When the store received it, or the one in whose place it stands.
    pub received: UnixNanos,
    /// What it says.
    pub snapshot: Snapshot,
}

#[cfg(test)]
impl SnapshotInfo {
    /// Puts a snapshot into its place: number `sequence` of host 1, under a hash of that number.
    pub(crate) fn numbered(sequence: u64, snapshot: Snapshot) -> SnapshotInfo {
        SnapshotInfo {
            hash: ObjectHash([sequence as u8; 32]),
            host: HostId([1; 16]),
            domain: DomainId::default(),
            sequence,
            position: sequence,
            received: 0,
            snapshot,
        }
    }
}

/// What `snapshots/` holds, as far as our keys open it.
#[derive(Debug, Default)]
pub struct Listed {
    /// Snapshots, oldest first by host and number.
    pub snapshots: Vec<SnapshotInfo>,
    /// Checkpoints of running or interrupted backups.
    pub checkpoints: Vec<(Place, Checkpoint)>,
    /// Objects that could not be used, each with its reason.
    pub unusable: Vec<(Place, RepoError)>,
    /// Objects of other hosts that our key does not open.
    pub foreign: usize,
    /// Forgotten or replaced by a signed record, and not yet removed.
    pub dropped: Vec<Place>,
    /// Written by a host that had been revoked: they never counted.
    pub revoked: Vec<Place>,
}

impl SnapshotInfo {
    /// As records name it.
    pub fn name(&self) -> SnapshotName {
        SnapshotName { host: self.host, sequence: self.sequence, hash: self.hash }
    }
}

impl Listed {
    /// Checkpoints whose job has no later snapshot of the same host.
    pub fn open_checkpoints(&self) -> impl Iterator<Item = &(Place, Checkpoint)> {
        let mut newest: BTreeMap<(HostId, &str), u64> = BTreeMap::new();
        for info in &self.snapshots {
            let known = newest.entry((info.host, info.snapshot.job.as_str())).or_default();
            *known = info.sequence.max(*known);
        }
        self.checkpoints.iter().filter(move |(place, checkpoint)| {
            let Place::Snapshot(host, sequence, _) = place else { return false };
            newest.get(&(*host, checkpoint.job.as_str())).is_none_or(|newest| newest < sequence)
        })
    }
}

enum Opened {
    Snapshot(Box<SnapshotInfo>),
    Checkpoint(Checkpoint),
    Foreign,
    Revoked,
}

/// Reads and verifies all snapshots that our keys open.
pub fn list(repository: &Repository) -> Result<Listed, RepoError> {
    // Before the records: what they dropped afterwards is still shown, never the other way round.
    let places: Vec<Place> =
        repository.store.list(Folder::Snapshots)?.into_iter().map(|(place, _)| place).collect();
    let ledger = Ledger::read(repository)?;
    let there: HashSet<ObjectHash> = places.iter().filter_map(|place| place.hash().copied()).collect();
    let mut listed = Listed::default();
    for place in places {
        if place.hash().is_some_and(|hash| ledger.drops(hash, &there)) {
            listed.dropped.push(place);
            continue;
        }
        match read(repository, &ledger, &place) {
            Ok(Opened::Snapshot(info)) => listed.snapshots.push(*info),
            Ok(Opened::Checkpoint(checkpoint)) => listed.checkpoints.push((place, checkpoint)),
            Ok(Opened::Foreign) => listed.foreign += 1,
            Ok(Opened::Revoked) => listed.revoked.push(place),
            // Removed by a prune since it was listed.
            Err(RepoError::Store(error)) if error.is_missing() => {}
            Err(error) => listed.unusable.push((place, error)),
        }
    }
    listed.snapshots.sort_by_key(|info| (info.snapshot.started, info.sequence));
    Ok(listed)
}

/// Reads a snapshot that counts no longer; `None` for anything else that stands in its place.
pub fn read_dropped(repository: &Repository, place: &Place) -> Result<Option<SnapshotInfo>, RepoError> {
    match read(repository, &Ledger::read(repository)?, place)? {
        Opened::Snapshot(info) => Ok(Some(*info)),
        _ => Ok(None),
    }
}

/// Why a snapshot counts no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// By a `forget`.
    Forgotten,
    /// Another stands in its place.
    Replaced,
}

/// Reads the snapshots that were dropped and still stand there, oldest first; what cannot be read is passed over.
pub fn dropped(
    repository: &Repository,
    listed: &Listed,
) -> Result<Vec<(SnapshotInfo, DropReason)>, RepoError> {
    let ledger = Ledger::read(repository)?;
    let mut found = Vec::new();
    for place in &listed.dropped {
        match read(repository, &ledger, place) {
            Ok(Opened::Snapshot(info)) => {
                let forgotten = ledger.forgotten.contains_key(&info.hash);
                let reason = if forgotten { DropReason::Forgotten } else { DropReason::Replaced };
                found.push((*info, reason));
            }
            Err(error) if error.ends_the_run() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    found.sort_by_key(|(info, _)| (info.snapshot.started, info.sequence));
    Ok(found)
}

fn read(repository: &Repository, ledger: &Ledger, place: &Place) -> Result<Opened, RepoError> {
    let Place::Snapshot(host, sequence, hash) = *place else { return Ok(Opened::Foreign) };
    let Some(key) = repository.keys.snapshot_key(&host) else { return Ok(Opened::Foreign) };
    if ledger.comes_too_late(place) {
        return Ok(Opened::Revoked);
    }
    let (id, hosts) = (repository.id(), &ledger.hosts);
    let expected = [ObjectType::Snapshot, ObjectType::Checkpoint];
    let verifier = |_: &_| records::host_verifier(repository, hosts, &host);
    let object = SignedObject::read(repository.store.as_ref(), place, &expected, &id, verifier)?;
    let opened = object.open(&id, Some(&key))?;
    let damaged = |error: crate::format::codec::FormatError| RepoError::Damaged {
        object: place.to_string(),
        detail: error.to_string(),
    };
    if opened.object_type == ObjectType::Checkpoint {
        return Ok(Opened::Checkpoint(Checkpoint::decode(&opened.secret).map_err(damaged)?));
    }
    let mut snapshot = Snapshot::decode(&opened.secret).map_err(damaged)?;
    // The repository says what a host is called: a writer that calls itself otherwise must not pass for another.
    if let Some(known) = records::registered(hosts, &host) {
        snapshot.host_name.clone_from(&known.name);
    }
    let domain = opened.header.domain;
    records::need_domain(hosts, &host, &domain, place)?;
    let (position, received) = match ledger.stands_for(&hash) {
        Some((position, received)) => (position, received.into()),
        None => (sequence, repository.store.received(place)?),
    };
    let info = SnapshotInfo { hash, host, domain, sequence, position, received, snapshot };
    Ok(Opened::Snapshot(Box::new(info)))
}

/// Highest number in `snapshots/<host>`; 0 when there is none.
pub fn last_sequence(repository: &Repository, host: &HostId) -> Result<u64, RepoError> {
    let listed = repository.store.list(Folder::Snapshots)?;
    let own = listed.into_iter().filter_map(|(place, _)| match place {
        Place::Snapshot(of, sequence, _) if of == *host => Some((sequence, place)),
        _ => None,
    });
    let proves = |place: &Place| {
        let opened = Ledger::read(repository).and_then(|ledger| read(repository, &ledger, place));
        matches!(opened, Ok(Opened::Snapshot(_) | Opened::Checkpoint(_)))
    };
    Ok(highest(own, proves))
}

/// Which snapshots a command is about.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this host name.
    pub host: Option<String>,
    /// Only of this job.
    pub job: Option<String>,
    /// Only with a part that holds this logical path, or lies below it.
    pub path: Option<Vec<u8>>,
    /// Only with all tags of one of these groups; no group lets everything through.
    pub tag_groups: Vec<Vec<String>>,
}

fn holds(info: &SnapshotInfo, path: &[u8]) -> bool {
    let mut parts = info.snapshot.parts.iter();
    parts.any(|part| is_within(path, &part.path) || is_within(&part.path, path))
}

impl Filter {
    /// The same, but only with a part that holds `path`: so `latest:PATH` is plain whatever other jobs there are.
    #[must_use]
    pub fn holding(self, path: &[u8]) -> Filter {
        Filter { path: Some(path.to_vec()), ..self }
    }

    /// Does a snapshot fit?
    pub fn fits(&self, info: &SnapshotInfo) -> bool {
        self.host.as_ref().is_none_or(|host| info.snapshot.host_name == *host)
            && self.job.as_ref().is_none_or(|job| info.snapshot.job == *job)
            && self.tags_fit(&info.snapshot.tags)
            && self.path.as_ref().is_none_or(|path| holds(info, path))
    }

    /// Is one of the tag groups wholly among `tags`, or was none asked for?
    pub fn tags_fit(&self, tags: &[String]) -> bool {
        let has_all = |group: &Vec<String>| group.iter().all(|wanted| tags.contains(wanted));
        self.tag_groups.is_empty() || self.tag_groups.iter().any(has_all)
    }
}

/// The newest snapshot of each host: a host's own numbers tell, whatever its clock said.
///
/// One name can stand for several hosts, as when a server that used a full key got a writer key.
fn newest_of_each_host<'a>(
    snapshots: impl Iterator<Item = &'a SnapshotInfo>,
) -> impl Iterator<Item = &'a SnapshotInfo> {
    let mut newest: BTreeMap<HostId, &SnapshotInfo> = BTreeMap::new();
    for info in snapshots {
        let known = newest.entry(info.host).or_insert(info);
        if (info.position, info.sequence) > (known.position, known.sequence) {
            *known = info;
        }
    }
    newest.into_values()
}

/// The newest snapshot of each host name and job, sorted by both.
pub fn newest_of_each_job(snapshots: &[SnapshotInfo]) -> Vec<&SnapshotInfo> {
    let mut jobs: BTreeMap<(&str, &str), Vec<&SnapshotInfo>> = BTreeMap::new();
    for info in snapshots {
        jobs.entry((&info.snapshot.host_name, &info.snapshot.job)).or_default().push(info);
    }
    jobs.into_values()
        .filter_map(|of_job| newest_of_each_host(of_job.into_iter()).max_by_key(|info| info.snapshot.started))
        .collect()
}

/// The newest of some snapshots, never a suspect one while there is a better one.
pub fn newest<'a>(snapshots: impl Iterator<Item = &'a SnapshotInfo> + Clone) -> Option<&'a SnapshotInfo> {
    let newest = |suspect: bool| {
        let of_kind = snapshots.clone().filter(|info| info.snapshot.suspect.is_some() == suspect);
        newest_of_each_host(of_kind).max_by_key(|info| info.snapshot.started)
    };
    newest(false).or_else(|| newest(true))
}

/// Says why nothing fits: no snapshot at all, or none with that path, host, job or tag.
fn none_fits(snapshots: &[SnapshotInfo], filter: &Filter) -> String {
    match &filter.path {
        _ if snapshots.is_empty() => "no snapshot yet".to_owned(),
        Some(path) if path != b"/" => format!("no snapshot holds {}", crate::base::bytes::display(path)),
        _ => "no snapshot of that host, job or tag".to_owned(),
    }
}

/// Says why a snapshot that is there does not fit.
fn left_out(text: &str, filter: &Filter) -> String {
    match &filter.path {
        Some(path) if path != b"/" => {
            format!("snapshot '{text}' does not hold {}", crate::base::bytes::display(path))
        }
        _ => format!("snapshot '{text}' is of another host, job or tag"),
    }
}

/// Finds the one snapshot that `text` names: `latest`, or the first hex digits of an id.
///
/// `latest` must be of one host and job, and is never a suspect snapshot while a better one exists.
pub fn resolve<'a>(
    snapshots: &'a [SnapshotInfo],
    text: &str,
    filter: &Filter,
) -> Result<&'a SnapshotInfo, RepoError> {
    let fitting: Vec<&SnapshotInfo> = snapshots.iter().filter(|info| filter.fits(info)).collect();
    if text != "latest" {
        let mut found = fitting.iter().filter(|info| info.hash.to_string().starts_with(text));
        return match (found.next(), found.next()) {
            _ if text.len() < 4 => {
                Err(RepoError::NoSnapshot(format!("'{text}' is too short for a snapshot id")))
            }
            (Some(info), None) => Ok(info),
            (Some(_), Some(_)) => {
                Err(RepoError::NoSnapshot(format!("several snapshots begin with '{text}'")))
            }
            _ if snapshots.iter().any(|info| info.hash.to_string().starts_with(text)) => {
                Err(RepoError::NoSnapshot(left_out(text, filter)))
            }
            _ => Err(RepoError::UnknownSnapshot(text.to_owned())),
        };
    }
    let mut groups: Vec<(&str, &str)> =
        fitting.iter().map(|info| (info.snapshot.host_name.as_str(), info.snapshot.job.as_str())).collect();
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > 1 {
        let names: Vec<String> =
            groups.iter().map(|(host, job)| format!("--host {host} --job {job}")).collect();
        return Err(RepoError::NoSnapshot(format!("'latest' of which? {}", names.join(", or "))));
    }
    newest(fitting.iter().copied()).ok_or_else(|| RepoError::NoSnapshot(none_fits(snapshots, filter)))
}
