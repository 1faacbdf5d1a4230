//! `repair index`: deltas that are lost or damaged are written anew from the packs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::domains::Domains;
use super::reading;
use crate::base::clock::{self, UnixNanos};
use crate::base::id::{BlobId, DomainId, HostId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::base::limits;
use crate::base::progress::Progress;
use crate::crypto::blob_id::BlobNamer;
use crate::format::delta::{PackContents, PackList};
use crate::format::envelope::PackEnvelope;
use crate::format::keyset::FullKeys;
use crate::format::object::{Object, ObjectType};
use crate::repo::ledger::Ledger;
use crate::repo::packer::FinishedPack;
use crate::repo::packs::{FIRST_SEGMENT_OFFSET, OpenedPack};
use crate::repo::{RepoError, Repository, deltas, records};
use crate::store::{Folder, Place, StoreErrorKind};

/// A delta is written after so many packs,
const DELTA_PACKS: usize = 64;
/// or this many blobs, whose ids take memory until then.
const DELTA_BLOBS: usize = 1 << 18;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Packs that the store has for less than this may belong to a run that has not published them yet.
    pub min_age: Duration,
    /// Read everything, write nothing.
    pub dry_run: bool,
}

/// An object that stays as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The object.
    pub object: String,
    /// Why.
    pub why: String,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Packs that no delta named, and that one names now.
    pub packs: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// Deltas that were written.
    pub deltas_written: u64,
    /// Damaged deltas that were set aside, with their names there.
    pub deltas_removed: Vec<(Place, String)>,
    /// Packs that are too young to be touched.
    pub young: u64,
    /// Packs that a prune is about to delete.
    pub condemned: u64,
    /// Hosts that nothing tells of: they were taken for holders of a full key.
    pub guessed: Vec<HostId>,
    /// Packs and deltas that could not be helped.
    pub left: Vec<Left>,
    /// How long it took.
    pub duration: Duration,
}

/// A delta whose bytes are not those that its name promises, or cannot be read.
struct DamagedDelta {
    place: Place,
    /// The packs it seems to name, where that can still be read.
    packs: Option<Vec<ObjectHash>>,
}

/// What the deltas that are there say.
#[derive(Default)]
struct Survey {
    named: HashSet<ObjectHash>,
    hosts: Vec<(HostId, DomainId)>,
    damaged: Vec<DamagedDelta>,
}

struct Repair<'a> {
    repository: &'a Repository,
    full: &'a FullKeys,
    options: Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    domains: Domains,
    /// Verified packs that wait for their delta.
    pending: BTreeMap<(HostId, DomainId), Vec<FinishedPack>>,
    pending_packs: usize,
    pending_blobs: usize,
    report: Report,
}

/// Writes deltas for the packs that no usable delta names.
///
/// Reads the packs one after the other and holds one in memory. What was written before an interruption stays.
pub fn run(
    repository: &Repository,
    options: Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RepoError> {
    let stopwatch = clock::stopwatch();
    let full = repository.need_full("repairing the index")?;
    repository.need_config()?;
    let ledger = Ledger::read(repository)?;
    let mut report = Report::default();
    // Before the deltas: a pack that a run publishes in between is named then.
    let stored = repository.store.list(Folder::Packs)?;
    let survey = survey(repository, progress, &mut report)?;
    let domains = Domains::gather(repository, &ledger, &survey.hosts)?;
    let (pending, pending_packs, pending_blobs) = Default::default();
    let mut repair = Repair {
        repository,
        full,
        options,
        progress,
        interrupt,
        domains,
        pending,
        pending_packs,
        pending_blobs,
        report,
    };
    let shunned = ledger.shunned();
    let stored = stored.into_iter().filter_map(|(place, size)| Some((*place.hash()?, size)));
    let mut unnamed: BTreeMap<ObjectHash, u64> =
        stored.filter(|(hash, _)| !survey.named.contains(hash)).collect();
    let all = unnamed.len();
    unnamed.retain(|hash, _| !shunned.contains(hash));
    repair.report.condemned = (all - unnamed.len()) as u64;
    let adopted = repair.adopt_all(&unnamed)?;
    unnamed.retain(|hash, _| !adopted.contains(hash));
    repair.set_aside(survey.damaged, &unnamed)?;
    let mut report = repair.report;
    report.guessed = repair.domains.guessed.into_iter().collect();
    report.duration = stopwatch.elapsed();
    Ok(report)
}

/// Reads all deltas.
fn survey(
    repository: &Repository,
    progress: &dyn Progress,
    report: &mut Report,
) -> Result<Survey, RepoError> {
    let hosts = records::hosts(repository)?;
    let mut survey = Survey::default();
    for (place, _) in repository.store.list(Folder::Deltas)? {
        let error = match deltas::read(repository, &hosts, &place) {
            Ok(Some(delta)) => {
                survey.hosts.push((delta.host, delta.domain));
                survey.named.extend(delta.packs.iter().map(|(hash, ..)| *hash));
                continue;
            }
            Ok(None) => continue,
            // A prune removed it since it was listed.
            Err(RepoError::Store(error)) if error.is_missing() => continue,
            Err(error) => error,
        };
        match damage(repository, &place)? {
            Some(packs) => survey.damaged.push(DamagedDelta { place, packs }),
            // Its bytes are what somebody wrote: a newer version, or one who may not.
            None => {
                progress.problem(&format!("{place}: {error}"));
                report.left.push(Left { object: place.to_string(), why: error.to_string() });
            }
        }
    }
    Ok(survey)
}

/// The packs that a damaged delta seems to name; `None` when its bytes are those that its name promises.
fn damage(repository: &Repository, place: &Place) -> Result<Option<Option<Vec<ObjectHash>>>, RepoError> {
    let bytes = match repository.store.read(place, limits::OBJECT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if [StoreErrorKind::Io, StoreErrorKind::Size].contains(&error.kind) => {
            return Ok(Some(None));
        }
        Err(error) => return Err(error.into()),
    };
    if place.hash() == Some(&ObjectHash(*blake3::hash(&bytes).as_bytes())) {
        return Ok(None);
    }
    let object = Object::decode(&bytes, &[ObjectType::Delta]).ok();
    let list = object.and_then(|(object, ..)| PackList::decode(&object.clear).ok());
    Ok(Some(list.map(|list| list.packs.into_iter().map(|(hash, _)| hash).collect())))
}

impl Repair<'_> {
    /// Writes deltas for all of these packs that can be verified; gives those.
    fn adopt_all(&mut self, unnamed: &BTreeMap<ObjectHash, u64>) -> Result<HashSet<ObjectHash>, RepoError> {
        let received = self.received(unnamed)?;
        let youngest = self.repository.store.time() - self.options.min_age.as_nanos() as UnixNanos;
        self.progress.counters().expect(unnamed.len() as u64, unnamed.values().sum());
        let mut adopted = HashSet::new();
        for (&hash, &size) in unnamed {
            if let Err(stop) = self.interrupt.check() {
                self.publish()?;
                return Err(stop.into());
            }
            match received.get(&hash) {
                None => continue,
                Some(at) if *at > youngest => self.report.young += 1,
                Some(_) => match self.verify(hash)? {
                    Ok((host, contents)) => {
                        adopted.insert(hash);
                        self.adopt(host, FinishedPack { hash, size, contents })?;
                    }
                    Err(why) => {
                        let object = Place::Pack(hash).to_string();
                        self.progress.problem(&format!("{object}: {why}"));
                        self.report.left.push(Left { object, why });
                    }
                },
            }
            self.progress.counters().add(1, size);
        }
        self.publish()?;
        Ok(adopted)
    }

    /// When the store received each of these packs; those that are gone by now are left out.
    fn received(
        &self,
        packs: &BTreeMap<ObjectHash, u64>,
    ) -> Result<HashMap<ObjectHash, UnixNanos>, RepoError> {
        let mut received = HashMap::new();
        for hash in packs.keys() {
            match self.repository.store.received(&Place::Pack(*hash)) {
                Ok(at) => drop(received.insert(*hash, at)),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(received)
    }

    /// Reads a pack, opens all of it and names all its blobs anew. The inner error says why it cannot be named.
    fn verify(&mut self, hash: ObjectHash) -> Result<Result<(HostId, PackContents), String>, RepoError> {
        let Some(bytes) = reading::what_is_left(self.repository.store.as_ref(), &Place::Pack(hash))? else {
            return Ok(Err("was removed meanwhile".to_owned()));
        };
        if ObjectHash(*blake3::hash(&bytes).as_bytes()) != hash {
            return Ok(Err("is damaged: 'mailark repair packs' comes first".to_owned()));
        }
        Ok(self.open(hash, &bytes).map_err(|error| error.to_string()))
    }

    fn open(&mut self, hash: ObjectHash, bytes: &[u8]) -> Result<(HostId, PackContents), RepoError> {
        let pack = OpenedPack::open_by_footer(&self.repository.keys, hash, bytes)?;
        let envelope =
            &bytes[FIRST_SEGMENT_OFFSET as usize - PackEnvelope::BYTES..FIRST_SEGMENT_OFFSET as usize];
        let host = PackEnvelope::decode(envelope).expect("the pack was opened by it").host;
        let keys = self.full.writer(host, self.domains.of(host));
        let namer = BlobNamer::new(&keys.id_key, &host);
        let mut ids: Vec<BlobId> = Vec::new();
        for number in 0..pack.table.segments.len() {
            let stored = pack.stored_segment(number, bytes)?;
            ids.extend(pack.blob_ids(number, &stored, &namer)?);
        }
        Ok((host, PackContents { envelope: envelope.to_vec(), table: pack.table, ids }))
    }

    fn adopt(&mut self, host: HostId, pack: FinishedPack) -> Result<(), RepoError> {
        let domain = self.domains.of(host);
        self.report.packs += 1;
        self.report.bytes += pack.size;
        self.report.blobs += pack.contents.ids.len() as u64;
        self.pending_packs += 1;
        self.pending_blobs += pack.contents.ids.len();
        self.pending.entry((host, domain)).or_default().push(pack);
        match self.pending_packs >= DELTA_PACKS || self.pending_blobs >= DELTA_BLOBS {
            true => self.publish(),
            false => Ok(()),
        }
    }

    /// Writes the deltas of what waits, signed as the hosts that wrote the packs.
    fn publish(&mut self) -> Result<(), RepoError> {
        for ((host, domain), packs) in std::mem::take(&mut self.pending) {
            self.report.deltas_written += 1;
            if self.options.dry_run {
                continue;
            }
            let sequence = deltas::next_sequence(self.repository, &host)?;
            deltas::write(self.repository, &self.full.writer(host, domain), sequence, &packs)?;
        }
        (self.pending_packs, self.pending_blobs) = (0, 0);
        Ok(())
    }

    /// Takes damaged deltas out of the way when nothing needs them any more.
    fn set_aside(
        &mut self,
        damaged: Vec<DamagedDelta>,
        unnamed: &BTreeMap<ObjectHash, u64>,
    ) -> Result<(), RepoError> {
        for DamagedDelta { place, packs } in damaged {
            let is_needed = match &packs {
                Some(packs) => packs.iter().any(|pack| unnamed.contains_key(pack)),
                None => !unnamed.is_empty(),
            };
            if is_needed {
                let why = "is damaged, and some pack that it may name is in no other delta".to_owned();
                self.report.left.push(Left { object: place.to_string(), why });
                continue;
            }
            let kept = match self.options.dry_run {
                true => String::new(),
                false => self.repository.store.set_aside(&place)?,
            };
            self.report.deltas_removed.push((place, kept));
        }
        Ok(())
    }
}
