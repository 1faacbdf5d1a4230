//! `repair packs`: damaged and lost packs are had again from parity, from a mirror, or piece by piece.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use super::domains::Domains;
use super::reading::{self, State};
use super::salvage::{Claim, Claims, Holdings, Ids, Salvager};
use super::upkeep::Upkeep;
use crate::base::clock;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::limits;
use crate::base::progress::Progress;
use crate::index::Index;
use crate::repo::ledger::Ledger;
use crate::repo::{RepoError, Repository, deltas, parity};
use crate::store::{Folder, Place, Storage};

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// A copy of the repository.
    pub mirror: Option<&'a dyn Storage>,
    /// Look at these packs only; none for all.
    pub only: &'a [ObjectHash],
    /// Look only for packs that are missing or have another size; read nothing else.
    pub quick: bool,
    /// Threads that read.
    pub workers: usize,
    /// Find out what could be done, and write nothing.
    pub dry_run: bool,
}

/// How a pack was had again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Whole, by its parity.
    Parity,
    /// Whole, from the mirror.
    Mirror,
    /// What still opened of it was stored again.
    Salvage,
    /// Nothing of it could be had.
    None,
}

/// A pack that was not whole.
#[derive(Debug)]
pub struct Treated {
    /// The pack.
    pub pack: ObjectHash,
    /// What was wrong.
    pub trouble: String,
    /// What was done.
    pub cure: Cure,
    /// Blobs that were stored again from it.
    pub salvaged: u64,
    /// Where the damaged file is kept now.
    pub kept_as: Option<String>,
    /// Why parity or mirror did not help.
    pub notes: Vec<String>,
    /// There is no file of it.
    is_gone: bool,
    /// Blobs that were in it and are in no other pack.
    missing: Ids,
    /// Blobs that were in it and whose ids nobody knows.
    unknown: u64,
}

impl Treated {
    /// Blobs that it held and that are nowhere now.
    pub fn missing(&self) -> u64 {
        self.missing.len() as u64 + self.unknown
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Packs that were looked at.
    pub packs: u64,
    /// Bytes of them that were read.
    pub bytes_read: u64,
    /// Those that were not whole.
    pub treated: Vec<Treated>,
    /// Packs that are gone and whose blobs are all in others.
    pub replaced: u64,
    /// Parity objects that were missing and were made.
    pub parity_made: u64,
    /// Parity objects that were damaged and were made anew.
    pub parity_mended: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// Blobs that are still missing.
    pub fn missing(&self) -> u64 {
        self.treated.iter().map(Treated::missing).sum()
    }
}

struct Repair<'a> {
    repository: &'a Repository,
    options: Options<'a>,
    /// Every pack's parity objects.
    parity: HashMap<ObjectHash, Vec<Place>>,
    claims: HashMap<ObjectHash, Vec<Claim>>,
    domains: Domains,
    holdings: Holdings<'a>,
    /// Blobs that a run which writes would have stored again.
    rehearsed: Ids,
    report: Report,
}

/// Looks for packs that are lost or damaged and mends what can be mended.
///
/// A bad file is replaced only by whole, verified bytes; what is salvaged is durable before the bad file is set
/// aside.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: Options<'_>,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RepoError> {
    let stopwatch = clock::stopwatch();
    repository.need_full("repairing packs")?;
    repository.need_config()?;
    for (place, error) in deltas::sync(repository, index)? {
        progress.problem(&format!("{place}: {error} ('mailark repair index' comes first)"));
    }
    let ledger = Ledger::read(repository)?;
    let stored: HashMap<ObjectHash, u64> = stored(repository)?;
    let named = named(index)?;
    let mut looked_at = choose(&stored, &named, options);
    // A prune deleted these on purpose.
    looked_at.retain(|pack, size| size.is_some() || !ledger.deletes(pack));
    let mut report = Report { packs: looked_at.len() as u64, ..Report::default() };
    let bad = examine(repository, &looked_at, options.workers, progress, interrupt, &mut report)?;
    let claims = match bad.is_empty() {
        true => Claims::default(),
        false => Claims::read(repository, &bad.keys().copied().collect())?,
    };
    let domains = Domains::gather(repository, &ledger, &claims.hosts)?;
    let mut whole = stored;
    let shunned = ledger.shunned();
    whole.retain(|pack, _| !bad.contains_key(pack) && !shunned.contains(pack));
    let parity = parity::list(repository.store.as_ref())?;
    let holdings = Holdings { index, whole };
    let rehearsed = Ids::new();
    let mut repair =
        Repair { repository, options, parity, claims: claims.of, domains, holdings, rehearsed, report };
    for (pack, trouble) in bad {
        interrupt.check()?;
        repair.treat(pack, trouble)?;
    }
    repair.count_missing()?;
    let (whole, mut report) = (repair.holdings.whole, repair.report);
    if options.only.is_empty() {
        let upkeep = Upkeep { repository, quick: options.quick, dry_run: options.dry_run };
        (report.parity_made, report.parity_mended) = upkeep.keep(whole.into_keys(), progress, interrupt)?;
    }
    report.duration = stopwatch.elapsed();
    Ok(report)
}

/// Looks again for the blobs that were missing: a backup may have stored them since.
pub fn recount(repository: &Repository, index: &RwLock<Index>, report: &mut Report) -> Result<(), RepoError> {
    deltas::sync(repository, index)?;
    let shunned = Ledger::read(repository)?.shunned();
    let mut whole = stored(repository)?;
    whole.retain(|pack, _| !shunned.contains(pack));
    let holdings = Holdings { index, whole };
    for treated in &mut report.treated {
        retain_missing(&mut treated.missing, &holdings)?;
    }
    Ok(())
}

fn retain_missing(missing: &mut Ids, holdings: &Holdings<'_>) -> Result<(), RepoError> {
    let mut still = Ids::new();
    for blob in missing.iter() {
        if !holdings.hold(blob)? {
            still.insert(*blob);
        }
    }
    *missing = still;
    Ok(())
}

fn stored(repository: &Repository) -> Result<HashMap<ObjectHash, u64>, RepoError> {
    let listed = repository.store.list(Folder::Packs)?;
    Ok(listed.into_iter().filter_map(|(place, size)| Some((*place.hash()?, size))).collect())
}

/// The sizes that deltas give each pack.
fn named(index: &RwLock<Index>) -> Result<HashMap<ObjectHash, Vec<u64>>, RepoError> {
    let mut named: HashMap<ObjectHash, Vec<u64>> = HashMap::new();
    for (_, hash, size) in index.read().expect("no holder panics").packs()? {
        let sizes = named.entry(hash).or_default();
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    Ok(named)
}

/// The packs to look at, with the sizes of those that are there.
fn choose(
    stored: &HashMap<ObjectHash, u64>,
    named: &HashMap<ObjectHash, Vec<u64>>,
    options: Options<'_>,
) -> BTreeMap<ObjectHash, Option<u64>> {
    if !options.only.is_empty() {
        return options.only.iter().map(|pack| (*pack, stored.get(pack).copied())).collect();
    }
    let all = stored.keys().chain(named.keys()).map(|pack| (*pack, stored.get(pack).copied()));
    let is_suspect = |pack: &ObjectHash, size: &Option<u64>| {
        named.get(pack).is_some_and(|sizes| sizes.iter().any(|named| Some(*named) != *size))
    };
    all.filter(|(pack, size)| !options.quick || is_suspect(pack, size)).collect()
}

/// Reads packs and gives those that are not whole, with what is wrong.
fn examine(
    repository: &Repository,
    packs: &BTreeMap<ObjectHash, Option<u64>>,
    workers: usize,
    progress: &dyn Progress,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<BTreeMap<ObjectHash, State>, RepoError> {
    let packs: Vec<(ObjectHash, Option<u64>)> = packs.iter().map(|(pack, size)| (*pack, *size)).collect();
    let bytes = packs.iter().filter_map(|(_, size)| *size).sum();
    progress.counters().expect(packs.len() as u64, bytes);
    report.bytes_read = bytes;
    let next = AtomicUsize::new(0);
    let bad: Mutex<BTreeMap<ObjectHash, State>> = Mutex::default();
    let failed: Mutex<Option<RepoError>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some((pack, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if interrupt.is_raised() {
                        return;
                    }
                    let state = match size {
                        None => Ok(State::Missing),
                        Some(size) => reading::examine(repository.store.as_ref(), *pack, *size),
                    };
                    match state {
                        Ok(State::Whole) => {}
                        Ok(state) => drop(bad.lock().expect("no holder panics").insert(*pack, state)),
                        Err(error) => {
                            *failed.lock().expect("no holder panics") = Some(error.into());
                            return;
                        }
                    }
                    progress.counters().add(1, size.unwrap_or_default());
                }
            });
        }
    });
    interrupt.check()?;
    match failed.into_inner().expect("no holder panics") {
        Some(error) => Err(error),
        None => Ok(bad.into_inner().expect("no holder panics")),
    }
}

impl Repair<'_> {
    fn store(&self) -> &dyn Storage {
        self.repository.store.as_ref()
    }

    /// Does for one pack what can be done.
    fn treat(&mut self, pack: ObjectHash, state: State) -> Result<(), RepoError> {
        let trouble = match state {
            State::Damaged(trouble) => trouble,
            _ => "is missing".to_owned(),
        };
        let left = reading::what_is_left(self.store(), &Place::Pack(pack))?;
        if let Some(bytes) = &left
            && ObjectHash(*blake3::hash(bytes).as_bytes()) == pack
        {
            // The disk gave it this time.
            self.holdings.whole.insert(pack, bytes.len() as u64);
            return Ok(());
        }
        if left.is_none() && Ledger::read(self.repository)?.deletes(&pack) {
            // A prune came by since.
            return Ok(());
        }
        let mut treated = Treated {
            pack,
            trouble,
            cure: Cure::None,
            salvaged: 0,
            kept_as: None,
            notes: Vec::new(),
            is_gone: left.is_none(),
            missing: Ids::new(),
            unknown: 0,
        };
        let whole = match self.by_parity(pack, left.as_deref().unwrap_or_default(), &mut treated)? {
            Some(bytes) => Some((Cure::Parity, bytes)),
            None => self.by_mirror(pack, &mut treated)?.map(|bytes| (Cure::Mirror, bytes)),
        };
        match (whole, left) {
            (Some((cure, bytes)), _) => {
                if !self.options.dry_run {
                    self.store().replace(&Place::Pack(pack), &bytes)?;
                }
                self.holdings.whole.insert(pack, bytes.len() as u64);
                treated.cure = cure;
            }
            (None, Some(bytes)) => self.salvage(&bytes, &mut treated)?,
            (None, None) => {}
        }
        self.report.treated.push(treated);
        Ok(())
    }

    fn by_parity(
        &self,
        pack: ObjectHash,
        left: &[u8],
        treated: &mut Treated,
    ) -> Result<Option<Vec<u8>>, RepoError> {
        for place in self.parity.get(&pack).into_iter().flatten() {
            let Some(object) = reading::what_is_left(self.store(), place)? else { continue };
            match parity::heal(left, &pack, &object) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) => treated.notes.push(error.to_string()),
            }
        }
        Ok(None)
    }

    fn by_mirror(&self, pack: ObjectHash, treated: &mut Treated) -> Result<Option<Vec<u8>>, RepoError> {
        let Some(mirror) = self.options.mirror else { return Ok(None) };
        let bytes = match mirror.read(&Place::Pack(pack), limits::PACK_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => {
                treated.notes.push("the mirror does not have it".to_owned());
                return Ok(None);
            }
            Err(error) => {
                treated.notes.push(format!("the mirror: {error}"));
                return Ok(None);
            }
        };
        if ObjectHash(*blake3::hash(&bytes).as_bytes()) == pack {
            return Ok(Some(bytes));
        }
        treated.notes.push("the mirror's copy is damaged too".to_owned());
        Ok(None)
    }

    /// Stores again what opens of a pack, then takes its file out of the way.
    fn salvage(&mut self, bytes: &[u8], treated: &mut Treated) -> Result<(), RepoError> {
        let pack = treated.pack;
        if !self.claims.contains_key(&pack) {
            let claim = Claim::of_footer(self.repository, &mut self.domains, pack, bytes);
            self.claims.insert(pack, claim.into_iter().collect());
        }
        let salvager = Salvager { repository: self.repository, dry_run: self.options.dry_run };
        let mut ids = Ids::new();
        for claim in &self.claims[&pack] {
            let salvaged = salvager.empty(pack, bytes, claim, &mut self.holdings)?;
            treated.unknown += salvaged.unknown;
            ids.extend(salvaged.ids);
        }
        if !ids.is_empty() {
            treated.cure = Cure::Salvage;
            treated.salvaged = ids.len() as u64;
        }
        if self.claims[&pack].is_empty() {
            treated.notes.push("no delta names it, and its end does not open".to_owned());
        }
        match self.options.dry_run {
            true => self.rehearsed.extend(ids),
            false => treated.kept_as = Some(self.store().set_aside(&Place::Pack(pack))?),
        }
        Ok(())
    }

    /// Counts what was in packs that were not had again whole and is nowhere else.
    fn count_missing(&mut self) -> Result<(), RepoError> {
        for treated in &mut self.report.treated {
            if matches!(treated.cure, Cure::Parity | Cure::Mirror) {
                continue;
            }
            let claims = self.claims.get(&treated.pack).into_iter().flatten();
            treated.missing = claims.flat_map(Claim::ids).filter(|id| !self.rehearsed.contains(id)).collect();
            retain_missing(&mut treated.missing, &self.holdings)?;
        }
        let all = self.report.treated.len();
        let is_replaced =
            |treated: &Treated| treated.cure == Cure::None && treated.is_gone && treated.missing() == 0;
        self.report.treated.retain(|treated| !is_replaced(treated));
        self.report.replaced = (all - self.report.treated.len()) as u64;
        Ok(())
    }
}
