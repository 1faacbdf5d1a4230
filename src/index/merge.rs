//! Merging runs of one domain and of about one size into one, as a stream: a few pages of each in memory.
//!
//! Runs are sorted into levels by a factor of eight in size; eight runs of a level make one of the next. So a
//! location is rewritten once for each level, and the number of runs grows with the logarithm of the locations.
//! The work is done on a thread of its own; only the index itself puts the result in place.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::IndexError;
use super::run::Run;
use super::run_writer::{RunWriter, Shelf};
use super::sweep::Merged;
use super::{PackNumber, Result};
use crate::base::id::DomainId;

/// Runs of one level that are merged into one.
pub(super) const RUNS_MERGED: usize = 8;
/// Runs of one level that are let stand while an earlier merge is still going on.
const RUNS_WAITING_MAX: usize = 64;
/// Records of the largest run of level 0, over eight.
const LEVEL_RECORDS: u32 = 4096;

fn level(run: &Run) -> u32 {
    (run.row().records / LEVEL_RECORDS).max(1).ilog2() / RUNS_MERGED.ilog2()
}

/// The runs to merge next, if there are enough of one level; and whether they are too many to go on without.
pub(super) fn due(runs: &[Arc<Run>]) -> Option<(Vec<Arc<Run>>, bool)> {
    let mut levels: Vec<u32> = runs.iter().map(|run| level(run)).collect();
    levels.sort_unstable();
    let crowded = levels.chunk_by(u32::eq).find(|same| same.len() >= RUNS_MERGED)?[0];
    let inputs: Vec<Arc<Run>> = runs.iter().filter(|run| level(run) == crowded).cloned().collect();
    let records: u64 = inputs.iter().map(|run| u64::from(run.row().records)).sum();
    let is_pressing = inputs.len() >= RUNS_WAITING_MAX;
    // A run counts in 32 bits; four thousand million locations may as well lie in several runs.
    u32::try_from(records).is_ok().then_some((inputs, is_pressing))
}

/// A merge on its thread.
pub(super) struct MergeJob {
    pub(super) inputs: Vec<Arc<Run>>,
    thread: JoinHandle<Result<Option<Run>>>,
}

impl MergeJob {
    pub(super) fn start(shelf: &Shelf, inputs: Vec<Arc<Run>>) -> MergeJob {
        let (shelf, sources) = (shelf.clone(), inputs.clone());
        MergeJob { inputs, thread: thread::spawn(move || merge(&shelf, &sources, |_| true)) }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the merged run and returns it with the runs it replaces.
    pub(super) fn finish(self) -> Result<(Vec<Arc<Run>>, Option<Run>)> {
        let merged = self.thread.join().map_err(|_| IndexError::damaged("a merge ended early"))??;
        Ok((self.inputs, merged))
    }
}

/// Writes one run with those records of `inputs` whose packs are kept; `None` when there are none.
pub(super) fn merge(
    shelf: &Shelf,
    inputs: &[Arc<Run>],
    is_kept: impl Fn(PackNumber) -> bool,
) -> Result<Option<Run>> {
    let Some(first) = inputs.first() else { return Ok(None) };
    let domain: DomainId = first.row().domain;
    let expected = inputs.iter().map(|run| run.row().records as usize).sum();
    let mut writer = RunWriter::create(shelf, domain, expected)?;
    let mut merged = Merged::new(inputs)?;
    while let Some(record) = merged.next()? {
        if is_kept(record.pack()) {
            writer.push(record)?;
        }
    }
    writer.finish()
}
