//! Snapshots written anew without what is lost, and a list of what that is.

mod elsewhere;
mod sieve;

use std::collections::{BTreeMap, HashSet};
use std::sync::RwLock;

use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::format::record::SnapshotName;
use crate::index::Index;
use crate::repo::ledger::Ledger;
use crate::repo::presence::Presence;
use crate::repo::rewrite::{self, Held, Lost, Order, Rewritten, Run};
use crate::repo::snapshots::{self, Filter, Listed, SnapshotInfo};
use crate::repo::{RepoError, Repository, deltas};
use crate::store::{Folder, Place};
use elsewhere::Elsewhere;
use sieve::{Looker, RepairSieve};

/// What to repair.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which snapshots.
    pub filter: Filter,
    /// Read all content too: finds what is there and damaged.
    pub read_data: bool,
    /// Drop snapshots whose own object cannot be read.
    pub drop_unreadable: bool,
    /// Look, but change nothing.
    pub dry_run: bool,
}

/// A file whose content is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFile {
    /// The snapshot in which it was met first.
    pub snapshot: ObjectHash,
    /// The mailbox it belongs to, as far as its path tells.
    pub mailbox: Vec<u8>,
    /// Its folder.
    pub folder: Vec<u8>,
    /// Its name, without flags.
    pub name: Vec<u8>,
    /// Its bytes.
    pub size: u64,
    /// When it was last changed, unix seconds.
    pub mtime_s: i64,
    /// Why it cannot be read.
    pub why: String,
    /// A file of the same name, size and time that can be read: its snapshot and path.
    pub still_there: Option<(ObjectHash, Vec<u8>)>,
}

/// A part of a folder's listing that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPage {
    /// The snapshot in which it was met first.
    pub snapshot: ObjectHash,
    /// The folder.
    pub folder: Vec<u8>,
    /// Why it cannot be read.
    pub why: String,
}

/// What a repair found and did.
#[derive(Debug, Default)]
pub struct Report {
    /// Snapshots that were looked through.
    pub looked_at: u64,
    /// Snapshots that are written anew.
    pub rewritten: Vec<Rewritten>,
    /// Their new hashes, by the old ones; empty after a dry run.
    pub made: Vec<(ObjectHash, ObjectHash)>,
    /// Files that are lost.
    pub files: Vec<LostFile>,
    /// Stretches of folders that are lost; what they held is not known.
    pub pages: Vec<LostPage>,
    /// Snapshot objects that cannot be read, and why.
    pub unreadable: Vec<(Place, String)>,
    /// So many of them were dropped.
    pub dropped: u64,
    /// Snapshots that lack something and are held: they stay as they are. The hold's number and reason.
    pub held: Vec<(ObjectHash, u64, String)>,
    /// Deltas that cannot be used: `repair index` comes first.
    pub unusable_deltas: Vec<(Place, String)>,
}

impl Report {
    /// Is nothing lost?
    pub fn is_whole(&self) -> bool {
        self.files.is_empty() && self.pages.is_empty() && self.unreadable.is_empty()
    }
}

/// A repair did not take place.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// Packs are there that no delta names: they may hold what seems lost.
    #[error(
        "{count} packs are there that the index does not know, and may hold what seems lost: nothing was written"
    )]
    Unnamed {
        /// How many.
        count: usize,
    },
    /// A prune went on at the same time.
    #[error("a prune went on meanwhile: nothing was written")]
    Overtaken,
}

type ByHost<'i> = BTreeMap<(DomainId, HostId), Vec<&'i SnapshotInfo>>;

/// Repairs as `options` say.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RepairError> {
    repository.need_full("repairing snapshots")?;
    repository.need_config()?;
    // What a disk or a share refuses once is not lost: it is asked again before anything is given up.
    let is_passing = |(_, error): &(Place, RepoError)| !rewrite::is_loss(error);
    let mut unusable = deltas::sync(repository, index)?;
    if unusable.iter().any(is_passing) {
        unusable = deltas::sync(repository, index)?;
    }
    let mut listed = snapshots::list(repository)?;
    if listed.unusable.iter().any(is_passing) {
        listed = snapshots::list(repository)?;
    }
    let ledger = Ledger::read(repository)?;
    ledger.need_known()?;
    let (unusable_deltas, dry_run) = (unusable.len(), options.dry_run);
    let run = Run { repository, index, ledger: &ledger, unusable_deltas, dry_run, progress, interrupt };
    let mut report = Report::default();
    let unusable = unusable.into_iter().map(|(place, error)| (place, error.to_string()));
    report.unusable_deltas = unusable.collect();
    let rewritten = look(&run, &listed, options, &mut report)?;
    if !report.files.is_empty() {
        let mut elsewhere = Elsewhere::new(&report.files);
        for infos in by_host(&listed.snapshots, &Filter::default()).values() {
            elsewhere.search(&run, infos, options.read_data)?;
        }
        report.files.iter_mut().for_each(|file| file.still_there = elsewhere.found(file));
    }
    let lost = unreadable(&run, &listed, options, &mut report)?;
    let is_idle = rewritten.is_empty() && lost.is_empty();
    if !dry_run && !is_idle {
        match unnamed_packs(&run)? {
            0 => {}
            count => return Err(RepairError::Unnamed { count }),
        }
        let now = Ledger::read(repository)?;
        if now.doomed.len() != ledger.doomed.len() || now.condemned.len() != ledger.condemned.len() {
            return Err(RepairError::Overtaken);
        }
        let (files, pages) = (report.files.len(), report.pages.len());
        let what = format!(
            "{files} files and {pages} pages of folders out of {} snapshots; {} snapshots dropped",
            rewritten.len(),
            lost.len()
        );
        let order = Order { verb: "repair", what, rewritten: &rewritten, lost: &lost };
        report.made = rewrite::commit(repository, order)?;
        if !rewrite::still_stand(&run, &rewritten, &report.made)? {
            return Err(RepairError::Overtaken);
        }
        report.dropped = lost.len() as u64;
    }
    report.rewritten = rewritten;
    Ok(report)
}

/// A pack that is younger may belong to a backup that has not published it yet.
const UNPUBLISHED_S: i128 = 600;

/// Packs that no delta names and that no prune deletes.
fn unnamed_packs(run: &Run<'_>) -> Result<usize, RepoError> {
    let store = run.repository.store.as_ref();
    let named = run.index.read().expect("no holder panics").packs()?;
    let named: HashSet<ObjectHash> = named.into_iter().map(|(_, hash, _)| hash).collect();
    let shunned = run.ledger.shunned();
    let now = store.time();
    let is_unnamed = |place: &Place| {
        let young = || store.received(place).is_ok_and(|at| now - at < UNPUBLISHED_S * 1_000_000_000);
        place.hash().is_some_and(|hash| !named.contains(hash) && !shunned.contains(hash)) && !young()
    };
    Ok(store.list(Folder::Packs)?.iter().filter(|(place, _)| is_unnamed(place)).count())
}

fn by_host<'i>(infos: &'i [SnapshotInfo], filter: &Filter) -> ByHost<'i> {
    let mut hosts: ByHost<'i> = BTreeMap::new();
    for info in infos.iter().filter(|info| filter.fits(info)) {
        hosts.entry((info.domain, info.host)).or_default().push(info);
    }
    hosts.values_mut().for_each(|infos| infos.sort_by_key(|info| (info.position, info.sequence)));
    hosts
}

/// Finds what is lost, and makes new listings without it.
fn look(
    run: &Run<'_>,
    listed: &Listed,
    options: &Options,
    report: &mut Report,
) -> Result<Vec<Rewritten>, RepoError> {
    let hosts = by_host(&listed.snapshots, &options.filter);
    let chosen: usize = hosts.values().map(Vec::len).sum();
    report.looked_at = chosen as u64;
    run.progress.counters().expect(chosen as u64, 0);
    let mut rewritten = Vec::new();
    let mut held = Held::new(run);
    for ((domain, _), infos) in &hosts {
        // Packs that a prune is about to delete are still there: what is in them is not lost.
        let there = Presence::new(run.repository, run.index, *domain, &HashSet::new(), run.unusable_deltas)?;
        let mut sieve = RepairSieve::new(Looker::new(&there, options.read_data));
        for one in rewrite::host(run, infos, &mut sieve)? {
            // Only what is lost goes: a user who is held loses nothing by that.
            match held.by(run.ledger, &one.old, &|_| false)? {
                Some(hold) => report.held.push((one.old.hash, hold.hold, hold.reason.clone())),
                None => rewritten.push(one),
            }
        }
        report.files.append(&mut sieve.files);
        report.pages.append(&mut sieve.pages);
    }
    report.files.sort_by(|a, b| (&a.mailbox, &a.folder, &a.name).cmp(&(&b.mailbox, &b.folder, &b.name)));
    Ok(rewritten)
}

/// Snapshot objects that cannot be read, and those of them that are to be dropped.
fn unreadable(
    run: &Run<'_>,
    listed: &Listed,
    options: &Options,
    report: &mut Report,
) -> Result<Vec<Lost>, RepoError> {
    let mut lost = Vec::new();
    for (place, error) in &listed.unusable {
        let Place::Snapshot(host, sequence, hash) = *place else { continue };
        report.unreadable.push((*place, error.to_string()));
        // A disk that refuses says nothing about what it holds.
        if !options.drop_unreadable || !rewrite::is_loss(error) {
            continue;
        }
        let was_ours = !matches!(error, RepoError::Refused { .. });
        match Held::unread_by(run.ledger, &hash) {
            // What was never a snapshot holds nobody's mail.
            Some(hold) if was_ours => report.held.push((hash, hold.hold, hold.reason.clone())),
            _ => {
                let received = run.repository.store.received(place)?;
                lost.push((SnapshotName { host, sequence, hash }, received as i64));
            }
        }
    }
    Ok(lost)
}
