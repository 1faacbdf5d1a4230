//! What one process knows of the index: all small rows, and the runs opened from them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::Connection;

use super::change::Effects;
use super::error::IndexError;
use super::page::RunId;
use super::run::Run;
use super::run_writer::Shelf;
use super::tables::{self, DeltaRow, FactRow, StateRow};
use super::{PackNumber, Result};
use crate::base::id::{DomainId, ObjectHash, RepositoryId};

/// The state of the index at one generation.
#[derive(Default)]
pub(super) struct View {
    pub(super) state: StateRow,
    /// In the order of their packs.
    pub(super) deltas: Vec<DeltaRow>,
    pub(super) applied: HashSet<ObjectHash>,
    pub(super) runs: HashMap<DomainId, Vec<Arc<Run>>>,
    pub(super) facts: HashMap<String, FactRow>,
}

impl View {
    /// Reads the state inside a transaction; runs that were open stay so, with their filters.
    pub(super) fn read(
        connection: &Connection,
        repository: &RepositoryId,
        shelf: &Shelf,
        earlier: &View,
    ) -> Result<View> {
        let rows = tables::read_rows(connection, repository)?;
        let open: HashMap<RunId, &Arc<Run>> = earlier.all_runs().map(|run| (run.row().id, run)).collect();
        let mut view = View { state: rows.state, ..View::default() };
        for row in rows.runs {
            let run = match open.get(&row.id) {
                Some(run) if *run.row() == row => Arc::clone(run),
                _ => Arc::new(shelf.open(row).ok_or_else(|| IndexError::damaged("run in memory"))?),
            };
            view.runs.entry(row.domain).or_default().push(run);
        }
        view.applied = rows.deltas.iter().map(|delta| delta.hash).collect();
        view.deltas = rows.deltas;
        view.facts = rows.facts.into_iter().collect();
        Ok(view)
    }

    pub(super) fn all_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.values().flatten()
    }

    pub(super) fn domain_runs(&self, domain: &DomainId) -> &[Arc<Run>] {
        self.runs.get(domain).map_or(&[], Vec::as_slice)
    }

    /// The delta that brought a pack.
    pub(super) fn delta_of(&self, pack: PackNumber) -> Option<&DeltaRow> {
        // Deltas without packs share their first number with the next one, so the last that begins here counts.
        let after = self.deltas.partition_point(|delta| delta.first_pack <= pack);
        self.deltas[..after].last().filter(|delta| delta.packs().contains(&pack))
    }

    /// Takes over what a committed change did.
    pub(super) fn absorb(&mut self, effects: Effects) {
        self.state = effects.state;
        for run in &effects.removed_runs {
            if let Some(runs) = self.runs.get_mut(&run.row().domain) {
                runs.retain(|held| held.row().id != run.row().id);
            }
        }
        for run in effects.added_runs {
            self.runs.entry(run.row().domain).or_default().push(run);
        }
        if !effects.removed_deltas.is_empty() {
            self.deltas.retain(|delta| !effects.removed_deltas.contains(&delta.hash));
            self.applied.retain(|hash| !effects.removed_deltas.contains(hash));
        }
        self.applied.extend(effects.added_deltas.iter().map(|delta| delta.hash));
        self.deltas.extend(effects.added_deltas);
        self.facts.extend(effects.facts);
    }
}
