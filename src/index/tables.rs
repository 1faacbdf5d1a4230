//! The database of an index: its tables, and the checksums that make every row prove itself.
//!
//! A row's checksum covers its table and all its fields. The single `state` row counts the rows of the other
//! tables (all but `packs`) and adds up their checksums; packs are numbered without gaps inside the range of
//! their delta, so that a missing one is noticed as well.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::database::{Database, checksum, proven};
use super::error::IndexError;
use super::run::RunRow;
use super::{PackInfo, PackNumber, Result};
use crate::base::id::{DomainId, ObjectHash, RepositoryId};

const SCHEMA: [&str; 5] = [
    "CREATE TABLE state (number INTEGER PRIMARY KEY, repository BLOB, generation INTEGER, next_pack INTEGER, \
     row_count INTEGER, row_digest INTEGER, checksum INTEGER)",
    "CREATE TABLE deltas (number INTEGER PRIMARY KEY, hash BLOB, domain BLOB, first_pack INTEGER, \
     pack_count INTEGER, checksum INTEGER)",
    "CREATE TABLE runs (number INTEGER PRIMARY KEY, id BLOB, domain BLOB, records INTEGER, buckets INTEGER, \
     checksum INTEGER)",
    "CREATE TABLE facts (number INTEGER PRIMARY KEY, name TEXT, value_sum INTEGER, checksum INTEGER, \
     value BLOB)",
    "CREATE TABLE packs (number INTEGER PRIMARY KEY, hash BLOB, size INTEGER, table_sum INTEGER, \
     checksum INTEGER, segment_table BLOB)",
];

const DATABASE: Database = Database {
    application: 0x4d6c_6978, // "Mlix"
    version: 1,
    schema: &SCHEMA,
    busy: Duration::from_secs(10),
    // A power cut may tear anything here; the checksums notice it, and a rebuild costs seconds.
    synchronous: "off",
    journal_pages: None,
};

/// What must agree over all tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct StateRow {
    /// Raised by every change; tells a process that another one wrote.
    pub(super) generation: i64,
    /// Packs get the numbers from here.
    pub(super) next_pack: PackNumber,
    pub(super) row_count: i64,
    /// Sum of the checksums of all counted rows.
    pub(super) row_digest: i64,
}

impl StateRow {
    pub(super) fn count_in(&mut self, checksum: i64) {
        self.row_count += 1;
        self.row_digest = self.row_digest.wrapping_add(checksum);
    }

    pub(super) fn count_out(&mut self, checksum: i64) {
        self.row_count -= 1;
        self.row_digest = self.row_digest.wrapping_sub(checksum);
    }

    pub(super) fn checksum(&self, repository: &RepositoryId) -> i64 {
        let numbers = [self.generation, self.next_pack.into(), self.row_count, self.row_digest];
        checksum("state", &[&repository.0], &numbers)
    }
}

/// An applied delta and the numbers of its packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeltaRow {
    pub(super) number: i64,
    pub(super) hash: ObjectHash,
    pub(super) domain: DomainId,
    pub(super) first_pack: PackNumber,
    pub(super) pack_count: u32,
}

impl DeltaRow {
    pub(super) fn packs(&self) -> std::ops::Range<PackNumber> {
        self.first_pack..self.first_pack.saturating_add(self.pack_count)
    }

    pub(super) fn checksum(&self) -> i64 {
        let numbers = [self.number, self.first_pack.into(), self.pack_count.into()];
        checksum("deltas", &[&self.hash.0, &self.domain.0], &numbers)
    }
}

/// Where a key/value row stands and what it must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FactRow {
    pub(super) number: i64,
    pub(super) value_sum: i64,
}

/// The rows that are held in memory.
pub(super) struct Rows {
    pub(super) state: StateRow,
    pub(super) deltas: Vec<DeltaRow>,
    pub(super) runs: Vec<RunRow>,
    pub(super) facts: Vec<(String, FactRow)>,
}

pub(super) fn run_checksum(run: &RunRow) -> i64 {
    checksum("runs", &[&run.id, &run.domain.0], &[run.records.into(), run.buckets.into()])
}

pub(super) fn fact_checksum(name: &str, fact: &FactRow) -> i64 {
    checksum("facts", &[name.as_bytes()], &[fact.number, fact.value_sum])
}

pub(super) fn value_checksum(value: &[u8]) -> i64 {
    checksum("value", &[value], &[])
}

pub(super) fn table_checksum(table: &[u8]) -> i64 {
    checksum("segment table", &[table], &[])
}

/// Binds a pack to its number and its delta, so that no row of another time is taken for it.
pub(super) fn pack_checksum(
    number: PackNumber,
    delta: &ObjectHash,
    hash: &ObjectHash,
    size: i64,
    table_sum: i64,
) -> i64 {
    checksum("packs", &[&delta.0, &hash.0], &[number.into(), size, table_sum])
}

/// Opens a database that is there.
pub(super) fn open(path: &Path) -> Result<Connection> {
    DATABASE.open(path)
}

/// Makes the database of an empty index.
pub(super) fn create(path: &Path, repository: &RepositoryId) -> Result<Connection> {
    DATABASE.create(path, |connection| write_state(connection, repository, &StateRow::default()))
}

/// Makes the database of an empty index in memory.
pub(super) fn create_in_memory(repository: &RepositoryId) -> Result<Connection> {
    DATABASE.create_in_memory(|connection| write_state(connection, repository, &StateRow::default()))
}

pub(super) fn write_state(
    connection: &Connection,
    repository: &RepositoryId,
    state: &StateRow,
) -> Result<()> {
    connection.prepare_cached("INSERT OR REPLACE INTO state VALUES (0, ?, ?, ?, ?, ?, ?)")?.execute(
        params![
            repository.0,
            state.generation,
            state.next_pack,
            state.row_count,
            state.row_digest,
            state.checksum(repository)
        ],
    )?;
    Ok(())
}

/// Reads the generation alone, to learn whether another process wrote.
pub(super) fn generation(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT generation FROM state WHERE number = 0")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn read_state(connection: &Connection, repository: &RepositoryId) -> Result<StateRow> {
    let mut statement = connection.prepare_cached("SELECT * FROM state WHERE number = 0")?;
    let (owner, state, sum) = statement.query_row([], |row| {
        let state = StateRow {
            generation: row.get(2)?,
            next_pack: row.get(3)?,
            row_count: row.get(4)?,
            row_digest: row.get(5)?,
        };
        Ok((row.get::<_, [u8; 16]>(1)?, state, row.get::<_, i64>(6)?))
    })?;
    proven(owner == repository.0 && sum == state.checksum(repository), "state")?;
    Ok(state)
}

/// Reads and proves all rows that are held in memory; inside a transaction.
pub(super) fn read_rows(connection: &Connection, repository: &RepositoryId) -> Result<Rows> {
    let state = read_state(connection, repository)?;
    let mut counted = StateRow::default();
    let mut rows = Rows { state, deltas: Vec::new(), runs: Vec::new(), facts: Vec::new() };
    each(connection, "SELECT * FROM deltas ORDER BY first_pack, number", |row| {
        let (number, first_pack, pack_count) = (row.get(0)?, row.get(3)?, row.get(4)?);
        let (hash, domain) = (ObjectHash(row.get(1)?), DomainId(row.get(2)?));
        let delta = DeltaRow { number, hash, domain, first_pack, pack_count };
        proven(row.get::<_, i64>(5)? == delta.checksum(), "deltas")?;
        counted.count_in(delta.checksum());
        rows.deltas.push(delta);
        Ok(())
    })?;
    each(connection, "SELECT * FROM runs ORDER BY number", |row| {
        let domain = DomainId(row.get(2)?);
        let run = RunRow { id: row.get(1)?, domain, records: row.get(3)?, buckets: row.get(4)? };
        proven(row.get::<_, i64>(5)? == run_checksum(&run), "runs")?;
        counted.count_in(run_checksum(&run));
        rows.runs.push(run);
        Ok(())
    })?;
    // Values are proven when they are read, so that opening does not read them.
    each(connection, "SELECT number, name, value_sum, checksum FROM facts", |row| {
        let name: String = row.get(1)?;
        let fact = FactRow { number: row.get(0)?, value_sum: row.get(2)? };
        proven(row.get::<_, i64>(3)? == fact_checksum(&name, &fact), "facts")?;
        counted.count_in(fact_checksum(&name, &fact));
        rows.facts.push((name, fact));
        Ok(())
    })?;
    proven(
        counted.row_count == state.row_count && counted.row_digest == state.row_digest,
        "state: rows missing or too many",
    )?;
    Ok(rows)
}

fn each(connection: &Connection, sql: &str, mut take: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

/// Reads and proves the value of a key/value row.
pub(super) fn read_fact(connection: &Connection, fact: &FactRow) -> Result<Vec<u8>> {
    let mut statement = connection.prepare_cached("SELECT value FROM facts WHERE number = ?")?;
    let value: Vec<u8> = statement.query_row([fact.number], |row| row.get(0))?;
    proven(value_checksum(&value) == fact.value_sum, "facts")?;
    Ok(value)
}

/// Reads and proves one pack of a delta.
pub(super) fn read_pack(connection: &Connection, number: PackNumber, delta: &DeltaRow) -> Result<PackInfo> {
    let mut statement = connection.prepare_cached(
        "SELECT hash, size, table_sum, checksum, segment_table FROM packs WHERE number = ?",
    )?;
    let found = statement
        .query_row([number], |row| {
            let (hash, size) = (ObjectHash(row.get(0)?), row.get::<_, i64>(1)?);
            Ok((hash, size, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, row.get::<_, Vec<u8>>(4)?))
        })
        .optional()?;
    let Some((hash, size, table_sum, sum, table)) = found else {
        return Err(IndexError::damaged(format!("pack number {number} is missing")));
    };
    let is_right = sum == pack_checksum(number, &delta.hash, &hash, size, table_sum)
        && table_sum == table_checksum(&table);
    proven(is_right, "packs")?;
    Ok(PackInfo { hash, size: size as u64, table })
}

/// Reads and proves number, name and size of every pack of these deltas, which are in the order of their packs.
pub(super) fn read_packs(
    connection: &Connection,
    deltas: &[DeltaRow],
) -> Result<Vec<(PackNumber, ObjectHash, u64)>> {
    let mut wanted = deltas.iter().flat_map(|delta| delta.packs().map(move |number| (number, delta)));
    let mut packs = Vec::new();
    each(connection, "SELECT number, hash, size, table_sum, checksum FROM packs ORDER BY number", |row| {
        let (hash, size) = (ObjectHash(row.get(1)?), row.get::<_, i64>(2)?);
        let is_right = wanted.next().is_some_and(|(number, delta)| {
            let table_sum = row.get::<_, i64>(3).ok();
            row.get(0) == Ok(number)
                && table_sum.map(|sum| pack_checksum(number, &delta.hash, &hash, size, sum))
                    == row.get(4).ok()
        });
        proven(is_right, "packs")?;
        packs.push((row.get(0)?, hash, size as u64));
        Ok(())
    })?;
    proven(wanted.next().is_none(), "packs")?;
    Ok(packs)
}
