//! One prune: goes on with what was condemned, or condemns anew; deletes when the grace is over.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;
use std::time::Duration;

use super::judge::{Judge, Needs};
use super::plan::{self, Plan};
use super::survey::Survey;
use super::verify::Verifier;
use super::{Options, Packs, PruneError, Report, housekeeping, remove, repack};
use crate::base::clock;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::format::record::Record;
use crate::index::Index;
use crate::repo::ledger::{Condemned, Ledger};
use crate::repo::snapshots::Listed;
use crate::repo::{RepoError, Repository, records};
use crate::store::Place;

/// A pack without a delta belongs to no run that is still on after this time,
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);
/// or after this, when somebody says `--now`.
const ORPHAN_AGE_NOW: Duration = Duration::from_secs(600);

/// Prunes as `options` say.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, PruneError> {
    let stopwatch = clock::stopwatch();
    repository.need_full("pruning")?;
    repository.need_config()?;
    let verifier = Verifier::new(repository, index, interrupt, options.workers);
    let judge = Judge { repository, index, options, progress, interrupt, verifier };
    let mut prune = Prune { judge, report: Report::default() };
    prune.whole()?;
    prune.report.bad_copies += prune.judge.verifier.bad.len() as u64;
    prune.report.duration = stopwatch.elapsed();
    Ok(prune.report)
}

/// Packs that are not as their deltas say.
#[derive(Default)]
struct Strays {
    /// No delta names them: what a crash left, or a run that has not published them yet; the old ones.
    orphans: Packs,
    /// They have another size than their deltas say.
    cut: Packs,
    /// They are not there, and everything needed that they held lies elsewhere: their deltas only mislead.
    lost: Packs,
}

/// Which packs nobody may lean on.
type Shunned<'f> = dyn Fn(&Prune<'_>) -> Result<HashSet<ObjectHash>, PruneError> + 'f;

struct Prune<'a> {
    judge: Judge<'a>,
    report: Report,
}

impl Prune<'_> {
    fn whole(&mut self) -> Result<(), PruneError> {
        let options = self.judge.options;
        let ledger = self.ledger()?;
        let open = self.judge.list()?.open_checkpoints().count();
        if options.is_now() && open > 0 && !options.drop_checkpoints {
            return Err(PruneError::OpenCheckpoints { count: open });
        }
        housekeeping::remove_temporary(&self.judge, &mut self.report)?;
        housekeeping::drop_superseded(&self.judge, &ledger, &mut self.report)?;
        let condemned: Vec<(ObjectHash, Condemned)> =
            ledger.open_condemns().map(|(hash, condemned)| (*hash, condemned.clone())).collect();
        match condemned.as_slice() {
            [] => {}
            [(hash, condemned)] => {
                let due = self.wait_for(&condemned.place)?;
                if !due.is_zero() {
                    self.report.condemned = plan::amount(&condemned.packs, &self.judge.stored()?);
                    self.report.wait = Some(due);
                    return housekeeping::remove_dropped(&self.judge, &mut self.report);
                }
                if !options.dry_run {
                    let (_, needed) = self.needed()?;
                    let still = |pack: &&ObjectHash| !needed.contains(pack);
                    let doom = condemned.packs.iter().filter(still).copied().collect();
                    self.finish(*hash, &condemned.packs, doom)?;
                }
            }
            // Two prunes began at the same moment and both died before they saw each other.
            several => {
                for (hash, condemned) in several {
                    self.end(*hash, condemned.packs.clone())?;
                }
            }
        }
        self.begin()
    }

    fn ledger(&self) -> Result<Ledger, PruneError> {
        let ledger = Ledger::read(self.judge.repository)?;
        ledger.need_known()?;
        Ok(ledger)
    }

    /// Those of the packs without which everything needed is still there, in copies that were read.
    fn firm(
        &mut self,
        needs: &Needs,
        shunned: &HashSet<ObjectHash>,
        packs: Packs,
    ) -> Result<Packs, PruneError> {
        if packs.is_empty() {
            return Ok(packs);
        }
        // What was packed anew a moment ago counts.
        let stored = self.judge.stored()?;
        let without: HashSet<ObjectHash> = shunned.iter().chain(&packs).copied().collect();
        let survey = self.judge.survey_of(&needs.ids, &stored, &without, true)?;
        let kept: HashSet<ObjectHash> =
            survey.packs.iter().filter(|pack| pack.kept > 0).map(|pack| pack.hash).collect();
        Ok(packs.into_iter().filter(|pack| !kept.contains(pack)).collect())
    }

    /// How long the grace of a condemn still is, by the store's own clock.
    fn wait_for(&self, condemn: &Place) -> Result<Duration, PruneError> {
        let store = self.judge.repository.store.as_ref();
        let age = store.time().saturating_sub(store.received(condemn)?);
        // A clock that was set back says nothing of the age; the grace then begins again, and only costs time.
        let age = Duration::from_nanos(age.clamp(0, i64::MAX.into()) as u64);
        Ok(self.judge.options.grace.saturating_sub(age))
    }

    /// Plans, packs anew, condemns; and without a grace goes on to the end.
    fn begin(&mut self) -> Result<(), PruneError> {
        let ledger = self.ledger()?;
        let doomed: HashSet<ObjectHash> = ledger.doomed.keys().copied().collect();
        let shunned = ledger.shunned();
        let (needs, survey) = self.look(&|_| Ok(shunned.clone()), false)?;
        let strays = self.strays(&needs, &ledger, survey.missing > 0)?;
        let repository = self.judge.repository;
        let terms = plan::Terms {
            needs: &needs,
            doomed: &doomed,
            orphans: &strays.orphans,
            cut: &strays.cut,
            max_unused: self.judge.options.max_unused,
            pack_bytes: repository.config.pack_bytes,
            room: repository.store.available_bytes(),
        };
        let mut plan = Plan::make(&survey.packs, &terms, &mut self.report);
        if self.judge.options.dry_run {
            return housekeeping::remove_dropped(&self.judge, &mut self.report);
        }
        if !plan.moved.is_empty() {
            let mut failed = HashSet::new();
            self.report.repacked_into = repack::repack(&self.judge, &survey, &needs, &plan, &mut failed)?;
            self.report.bad_copies += failed.len() as u64;
            let failed = survey.packs.iter().filter(|pack| failed.contains(&pack.number));
            failed.for_each(|pack| plan.emptied.retain(|hash| *hash != pack.hash));
        }
        let packs = self.firm(&needs, &shunned, plan.condemned())?;
        let packs: Packs = packs.into_iter().chain(strays.lost).collect();
        self.report.condemned = plan::amount(&packs, &needs.stored);
        // A snapshot that counts no longer goes only now: what it refers to was found above to be needed or not.
        housekeeping::remove_dropped(&self.judge, &mut self.report)?;
        if packs.is_empty() {
            return Ok(());
        }
        let condemn = records::write(repository, &Record::Condemn { packs: packs.clone() })?;
        self.sleep(repository.store.staleness())?;
        if self.ledger()?.open_condemns().count() > 1 {
            self.end(condemn, packs)?;
            return Err(PruneError::AnotherPrune);
        }
        if self.judge.options.is_now() {
            // What was found a moment ago is as good as what would be found now.
            return self.finish(condemn, &packs, packs.clone());
        }
        self.report.wait = Some(self.judge.options.grace);
        Ok(())
    }

    /// Dooms, waits, looks again, deletes what is still not needed.
    fn finish(&mut self, condemn: ObjectHash, packs: &[ObjectHash], doom: Packs) -> Result<(), PruneError> {
        let repository = self.judge.repository;
        if !doom.is_empty() {
            records::write(repository, &Record::Doom { condemned: condemn, packs: doom })?;
        }
        // Every doom that is known now is older than the wait when the snapshots are listed again.
        let doomed: HashSet<ObjectHash> = self.ledger()?.doomed.into_keys().collect();
        self.sleep(repository.store.staleness() * 2)?;
        let (needs, needed) = self.needed()?;
        let mut deleted: Packs = doomed
            .iter()
            .filter(|pack| needs.stored.contains_key(pack) && !needed.contains(pack))
            .copied()
            .collect();
        deleted.sort_unstable();
        let gone: HashSet<ObjectHash> =
            doomed.iter().filter(|pack| !needs.stored.contains_key(pack)).chain(&deleted).copied().collect();
        remove::delete(&self.judge, &deleted, &gone, &mut self.report)?;
        let spared: Packs = packs.iter().filter(|pack| needed.contains(pack)).copied().collect();
        let done = plan::amount(&deleted, &needs.stored);
        self.report.deleted.packs += done.packs;
        self.report.deleted.bytes += done.bytes;
        self.report.condemned = Default::default();
        self.report.spared += spared.len() as u64;
        self.end(condemn, spared)
    }

    /// Everything that snapshots need now, and the packs without which they would not have it.
    fn needed(&mut self) -> Result<(Needs, HashSet<ObjectHash>), PruneError> {
        // After the snapshots: a doom that is not known here was written after its prune saw them too.
        let (needs, survey) = self.look(&|prune| Ok(prune.ledger()?.shunned()), true)?;
        let kept = survey.packs.iter().filter(|pack| pack.kept > 0).map(|pack| pack.hash);
        let mut needed: HashSet<ObjectHash> = kept.chain(needs.packs.iter().copied()).collect();
        if survey.missing > 0 {
            // A pack that no delta describes, or not as it is, may hold what is missing.
            let described: HashSet<ObjectHash> = survey.packs.iter().map(|pack| pack.hash).collect();
            needed.extend(needs.stored.keys().filter(|pack| !described.contains(*pack)));
        }
        Ok((needs, needed))
    }

    /// What is needed now, and which copies of it stay; `shunned` is asked once the snapshots are known.
    fn look(&mut self, shunned: &Shunned<'_>, firmly: bool) -> Result<(Needs, Survey), PruneError> {
        let staleness = self.judge.repository.store.staleness();
        let listed = self.judge.list()?;
        let first = self.look_at(&listed, shunned, firmly);
        let is_whole = match &first {
            Ok((_, survey)) => survey.missing == 0,
            Err(error) => !matches!(error, PruneError::Unreadable { .. }),
        };
        if is_whole || staleness.is_zero() {
            return first;
        }
        // On a share the list of the snapshots may be younger than those of what they need.
        self.sleep(staleness)?;
        self.look_at(&listed, shunned, firmly)
    }

    fn look_at(
        &mut self,
        listed: &Listed,
        shunned: &Shunned<'_>,
        firmly: bool,
    ) -> Result<(Needs, Survey), PruneError> {
        let needs = self.judge.needs(listed, &mut self.report)?;
        let shunned = shunned(self)?;
        let survey = self.judge.survey(&needs, &shunned, firmly)?;
        self.report.missing_blobs = survey.missing;
        Ok((needs, survey))
    }

    fn end(&self, condemned: ObjectHash, spared: Packs) -> Result<(), PruneError> {
        records::write(self.judge.repository, &Record::PruneEnded { condemned, spared })?;
        Ok(())
    }

    /// Packs that are not as their deltas say. While blobs are `missing`, any of them may hold those.
    fn strays(&self, needs: &Needs, ledger: &Ledger, missing: bool) -> Result<Strays, PruneError> {
        let mut strays = Strays::default();
        if missing {
            return Ok(strays);
        }
        let named = self.judge.index.read().expect("no holder panics").packs()?;
        let named: HashMap<ObjectHash, u64> = named.into_iter().map(|(_, hash, size)| (hash, size)).collect();
        let is_lost = |pack: &&ObjectHash| {
            !needs.stored.contains_key(*pack)
                && !ledger.doomed.contains_key(*pack)
                && !needs.packs.contains(*pack)
        };
        strays.lost = named.keys().filter(is_lost).copied().collect();
        let store = self.judge.repository.store.as_ref();
        let age_min = if self.judge.options.is_now() { ORPHAN_AGE_NOW } else { ORPHAN_AGE };
        let now = store.time();
        for (hash, size) in needs.stored.iter().filter(|(hash, _)| !needs.packs.contains(*hash)) {
            match named.get(hash) {
                Some(told) if told == size => {}
                Some(_) => strays.cut.push(*hash),
                None => {
                    let received = store.received(&Place::Pack(*hash));
                    if received.is_ok_and(|received| now - received >= age_min.as_nanos() as i128) {
                        strays.orphans.push(*hash);
                    }
                }
            }
        }
        Ok(strays)
    }

    fn sleep(&self, time: Duration) -> Result<(), PruneError> {
        Ok(self.judge.interrupt.sleep(time).map_err(RepoError::from)?)
    }
}
