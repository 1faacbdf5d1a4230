//! One transaction on the index: every row goes in or out together with its share of the `state` row.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::error::IndexError;
use super::run::Run;
use super::tables::{self, DeltaRow, FactRow, StateRow};
use super::{DeltaPack, PackNumber, Result};
use crate::base::id::{DomainId, ObjectHash, RepositoryId};

/// What a change did, for those who hold the state in memory.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) state: StateRow,
    pub(super) added_deltas: Vec<DeltaRow>,
    pub(super) removed_deltas: HashSet<ObjectHash>,
    pub(super) added_runs: Vec<Arc<Run>>,
    pub(super) removed_runs: Vec<Arc<Run>>,
    pub(super) facts: Vec<(String, FactRow)>,
}

impl Effects {
    /// True when nothing was changed and nothing needs to be committed.
    pub(super) fn is_empty(&self) -> bool {
        self.added_deltas.is_empty()
            && self.removed_deltas.is_empty()
            && self.added_runs.is_empty()
            && self.removed_runs.is_empty()
            && self.facts.is_empty()
    }

    /// Removes the files of runs that are not part of the index after all.
    pub(super) fn discard(&self) {
        self.added_runs.iter().for_each(|run| run.remove_file());
    }
}

/// An open transaction.
pub(super) struct Change<'a> {
    connection: &'a Connection,
    repository: &'a RepositoryId,
    pub(super) effects: Effects,
}

impl<'a> Change<'a> {
    /// Begins the generation after `state`, inside a transaction of `connection`.
    pub(super) fn new(
        connection: &'a Connection,
        repository: &'a RepositoryId,
        state: &StateRow,
    ) -> Change<'a> {
        let state = StateRow { generation: state.generation.wrapping_add(1), ..*state };
        Change { connection, repository, effects: Effects { state, ..Effects::default() } }
    }

    /// Executes a statement that must touch exactly one row.
    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        match self.connection.prepare_cached(sql)?.execute(values)? {
            1 => Ok(()),
            count => Err(IndexError::damaged(format!("{count} rows where one was expected"))),
        }
    }

    /// Adds a delta and its packs, and returns the number of the first pack.
    pub(super) fn add_delta(
        &mut self,
        domain: &DomainId,
        hash: &ObjectHash,
        packs: &[DeltaPack],
    ) -> Result<PackNumber> {
        let state = &mut self.effects.state;
        let first_pack = state.next_pack;
        // Numbers are never used twice; after 2^32 packs the index is made anew and counts from 0.
        let pack_count = u32::try_from(packs.len()).ok();
        state.next_pack = pack_count
            .and_then(|count| first_pack.checked_add(count))
            .ok_or_else(|| IndexError::damaged("pack numbers are used up"))?;
        let delta = DeltaRow {
            number: state.generation,
            hash: *hash,
            domain: *domain,
            first_pack,
            pack_count: state.next_pack - first_pack,
        };
        state.count_in(delta.checksum());
        self.execute(
            "INSERT INTO deltas VALUES (?, ?, ?, ?, ?, ?)",
            params![delta.number, hash.0, domain.0, first_pack, delta.pack_count, delta.checksum()],
        )?;
        for (number, pack) in delta.packs().zip(packs) {
            let (info, size) = (&pack.info, pack.info.size as i64);
            let table_sum = tables::table_checksum(&info.table);
            let sum = tables::pack_checksum(number, hash, &info.hash, size, table_sum);
            self.execute(
                "INSERT INTO packs VALUES (?, ?, ?, ?, ?, ?)",
                params![number, info.hash.0, size, table_sum, sum, info.table],
            )?;
        }
        self.effects.added_deltas.push(delta);
        Ok(first_pack)
    }

    /// Removes a delta and its packs; their records stay in the runs until those are written anew.
    pub(super) fn remove_delta(&mut self, delta: &DeltaRow) -> Result<()> {
        self.effects.state.count_out(delta.checksum());
        self.execute("DELETE FROM deltas WHERE number = ?", [delta.number])?;
        let packs = delta.packs();
        self.connection
            .prepare_cached("DELETE FROM packs WHERE number >= ? AND number < ?")?
            .execute([packs.start, packs.end])?;
        self.effects.removed_deltas.insert(delta.hash);
        Ok(())
    }

    pub(super) fn add_run(&mut self, run: Run) -> Result<()> {
        let row = *run.row();
        // First of all, so that a failure from here on removes its file.
        self.effects.added_runs.push(Arc::new(run));
        let sum = tables::run_checksum(&row);
        self.effects.state.count_in(sum);
        self.execute(
            "INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?)",
            params![row.id, row.domain.0, row.records, row.buckets, sum],
        )
    }

    pub(super) fn remove_run(&mut self, run: &Arc<Run>) -> Result<()> {
        self.effects.state.count_out(tables::run_checksum(run.row()));
        self.execute("DELETE FROM runs WHERE id = ?", [run.row().id])?;
        self.effects.removed_runs.push(Arc::clone(run));
        Ok(())
    }

    /// Sets a key/value row in place of `earlier`.
    pub(super) fn set_fact(&mut self, name: &str, value: &[u8], earlier: Option<&FactRow>) -> Result<()> {
        let number = earlier.map_or(self.effects.state.generation, |fact| fact.number);
        let fact = FactRow { number, value_sum: tables::value_checksum(value) };
        if let Some(earlier) = earlier {
            self.effects.state.count_out(tables::fact_checksum(name, earlier));
            self.execute("DELETE FROM facts WHERE number = ?", [number])?;
        }
        let sum = tables::fact_checksum(name, &fact);
        self.effects.state.count_in(sum);
        self.execute(
            "INSERT INTO facts VALUES (?, ?, ?, ?, ?)",
            params![number, name, fact.value_sum, sum, value],
        )?;
        self.effects.facts.push((name.to_owned(), fact));
        Ok(())
    }

    /// Writes the state that belongs to all that was done, as the last step before the commit.
    pub(super) fn finish(&self) -> Result<()> {
        if self.effects.is_empty() {
            return Ok(());
        }
        tables::write_state(self.connection, self.repository, &self.effects.state)
    }
}
