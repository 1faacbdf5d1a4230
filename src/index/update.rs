//! Feeding an index: deltas come and go, runs are merged, a damaged index starts over.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rusqlite::TransactionBehavior;

use super::change::Change;
use super::folder::Place;
use super::lookup::Index;
use super::merge::{self, MergeJob};
use super::record::Record;
use super::run::Run;
use super::run_writer::RunWriter;
use super::scan::ScanCache;
use super::tables::DeltaRow;
use super::view::View;
use super::{DeltaPack, Location, PackNumber, Result};
use crate::base::bytes::hex;
use crate::base::id::{DomainId, ObjectHash, RepositoryId};

/// Records that are sorted at once: 32 MiB; a larger delta becomes several runs.
const SORTED_MAX: usize = 1 << 20;

impl Index {
    /// Adds a delta of a domain, with its packs and blobs, all or nothing. One that is there already changes
    /// nothing.
    pub fn apply(&mut self, domain: &DomainId, delta: &ObjectHash, packs: &[DeltaPack]) -> Result<()> {
        self.collect_merge(false)?;
        let shelf = self.shelf.clone();
        self.change(|view, change| {
            if view.applied.contains(delta) {
                return Ok(());
            }
            let first = change.add_delta(domain, delta, packs)?;
            let mut records = Vec::new();
            for (number, pack) in (first..).zip(packs) {
                for (id, segment, position) in &pack.blobs {
                    let location = Location { pack: number, segment: *segment, position: *position };
                    records.push(Record::new(id, location));
                    if records.len() == SORTED_MAX {
                        add_sorted(change, RunWriter::create(&shelf, *domain, SORTED_MAX)?, &mut records)?;
                    }
                }
            }
            if records.is_empty() {
                return Ok(());
            }
            add_sorted(change, RunWriter::create(&shelf, *domain, records.len())?, &mut records)
        })?;
        if !std::mem::replace(&mut self.are_strays_removed, true) {
            self.remove_strays()?;
        }
        self.start_merge(domain)
    }

    /// Forgets all deltas that are not in `listed`, with their packs and blobs.
    ///
    /// Rewrites the runs of the domains concerned, at some million blobs a second; happens after a prune.
    pub fn retain(&mut self, listed: &HashSet<ObjectHash>) -> Result<()> {
        // A merge that is going on loses its inputs here and is given up when it ends.
        let shelf = self.shelf.clone();
        self.change(|view, change| {
            let dead: Vec<DeltaRow> =
                view.deltas.iter().filter(|delta| !listed.contains(&delta.hash)).copied().collect();
            let domains: HashSet<DomainId> = dead.iter().map(|delta| delta.domain).collect();
            let ranges: Vec<Range<PackNumber>> =
                dead.iter().map(DeltaRow::packs).filter(|packs| !packs.is_empty()).collect();
            for delta in &dead {
                change.remove_delta(delta)?;
            }
            for run in domains.iter().flat_map(|domain| view.domain_runs(domain)) {
                let kept = merge::merge(&shelf, std::slice::from_ref(run), |pack| !is_in(&ranges, pack))?;
                change.remove_run(run)?;
                kept.map(|kept| change.add_run(kept)).transpose()?;
            }
            Ok(())
        })
    }

    /// Stores a small local fact under `key`, in place of an earlier one.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.change(|view, change| change.set_fact(key, value, view.facts.get(key)))
    }

    /// Waits until the runs are merged as far as they should be; dropping the index does it too.
    pub fn settle(&mut self) -> Result<()> {
        while self.merge.is_some() {
            self.collect_merge(true)?;
        }
        Ok(())
    }

    /// Gives up a damaged index for an empty one.
    ///
    /// When another process has already done so, its new index is opened instead of being thrown away.
    pub fn start_over(mut self) -> Result<Index> {
        let repository = self.repository;
        let place = self.place.clone();
        self.merge = None;
        let Some(place) = place else { return Ok(Index::in_memory(&repository)) };
        let lock = place.lock()?;
        let ours = self.shelf.folder.as_ref().map(|folder| folder.path());
        if place.current().is_ok_and(|current| Some(current.path()) == ours) {
            place.clear(&lock)?;
        }
        drop((self, lock));
        Index::open_at(&place, &repository)
    }

    /// Removes the index of a repository from the cache directory `dir`.
    pub fn wipe(dir: &Path, repository: &RepositoryId) -> Result<()> {
        let place = Place::create(dir, repository)?;
        let lock = place.lock()?;
        ScanCache::wipe(dir, repository);
        place.clear(&lock)
    }

    /// Runs a change in a transaction of its own: all of it happens, or nothing does.
    fn change(&self, body: impl FnOnce(&View, &mut Change<'_>) -> Result<()>) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.refresh(&transaction)?;
        let mut change = Change::new(&transaction, &self.repository, &self.view().state);
        let outcome = body(&self.view(), &mut change).and_then(|()| change.finish());
        let effects = change.effects;
        if outcome.is_ok() && effects.is_empty() {
            return Ok(());
        }
        if let Err(error) = outcome.and_then(|()| Ok(transaction.commit()?)) {
            effects.discard();
            return Err(error);
        }
        let removed = effects.removed_runs.clone();
        self.view_mut().absorb(effects);
        // Only now: no row names them any more.
        removed.iter().for_each(|run| run.remove_file());
        Ok(())
    }

    /// Removes what a killed writer left: files that no row names.
    fn remove_strays(&self) -> Result<()> {
        let Some(folder) = &self.shelf.folder else { return Ok(()) };
        let mut connection = self.connection();
        // No other process adds runs within our transaction; a merge that loses its file to us gives up.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.refresh(&transaction)?;
        let named: HashSet<String> = self.view().all_runs().map(|run| hex(&run.row().id)).collect();
        folder.remove_strays(|stem| named.contains(stem));
        Ok(())
    }

    /// Puts a finished merge in place; with `is_waited_for` one that is not finished too.
    fn collect_merge(&mut self, is_waited_for: bool) -> Result<()> {
        let Some(job) = self.merge.take_if(|job| is_waited_for || job.is_finished()) else { return Ok(()) };
        let (inputs, merged) = match job.finish() {
            Ok((inputs, Some(merged))) => (inputs, merged),
            Ok((_, None)) => return Ok(()),
            // Another process was first and removed what it had merged.
            Err(error) if error.is_gone() => return Ok(()),
            Err(error) => return Err(error),
        };
        let domain = merged.row().domain;
        self.replace(&inputs, merged)?;
        self.start_merge(&domain)
    }

    fn replace(&self, inputs: &[Arc<Run>], merged: Run) -> Result<()> {
        self.change(|view, change| {
            let held: HashSet<_> =
                view.domain_runs(&merged.row().domain).iter().map(|run| run.row().id).collect();
            let is_there = merged.check_length().is_ok();
            if is_there && inputs.iter().all(|run| held.contains(&run.row().id)) {
                inputs.iter().try_for_each(|run| change.remove_run(run))?;
                change.add_run(merged)
            } else {
                // Another process merged or forgot some of them, or took our file for a stray.
                merged.remove_file();
                Ok(())
            }
        })
    }

    /// Starts a merge in the domain if one is due and none is going on; waits when runs pile up.
    fn start_merge(&mut self, domain: &DomainId) -> Result<()> {
        let due = merge::due(self.view().domain_runs(domain));
        let Some((inputs, is_pressing)) = due else { return Ok(()) };
        match self.merge {
            None => self.merge = Some(MergeJob::start(&self.shelf, inputs)),
            Some(_) if is_pressing => self.collect_merge(true)?,
            Some(_) => {}
        }
        Ok(())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // A merge that cannot be put in place is done again by the next process.
        let _ = self.settle();
    }
}

fn add_sorted(change: &mut Change<'_>, mut writer: RunWriter, records: &mut Vec<Record>) -> Result<()> {
    records.sort_unstable();
    records.drain(..).try_for_each(|record| writer.push(record))?;
    writer.finish()?.map_or(Ok(()), |run| change.add_run(run))
}

/// True for a pack in one of the ascending ranges.
fn is_in(ranges: &[Range<PackNumber>], pack: PackNumber) -> bool {
    let after = ranges.partition_point(|range| range.start <= pack);
    ranges[..after].last().is_some_and(|range| range.contains(&pack))
}
