//! SQLite files of this room: how they are told from others, opened, and made; and the checksum of their rows.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::Result;
use super::error::IndexError;
use super::folder;

/// What a database says of its tables, but for those that SQLite makes by itself: of a UNIQUE column, and of a full-text
/// table, which here are all called `words`.
const SCHEMA_SQL: &str =
    "SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND name NOT GLOB 'words_*' ORDER BY rowid";

/// A kind of database.
pub(super) struct Database {
    /// So that `file` and a person can tell whose it is.
    pub(super) application: i32,
    /// Raised with every change of tables or of what they mean; one of another version is made anew.
    pub(super) version: i32,
    /// Makes the tables, in this order.
    pub(super) schema: &'static [&'static str],
    /// How long a writer waits for another process.
    pub(super) busy: Duration,
    /// What SQLite does against power cuts.
    pub(super) synchronous: &'static str,
    /// Pages of 4 KiB that the journal holds before they are written back and synced, once for many small runs that
    /// touch pages all over the file; `None`: whenever the file is closed.
    pub(super) journal_pages: Option<u32>,
}

impl Database {
    /// Opens one that is there, and proves that it is of this kind.
    pub(super) fn open(&self, path: &Path) -> Result<Connection> {
        if !path.is_file() {
            return Err(IndexError::damaged("no database"));
        }
        let connection = self.connect(path)?;
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        let is_ours =
            number("application_id")? == self.application && number("user_version")? == self.version;
        proven(is_ours, "version")?;
        let mut statement = connection.prepare(SCHEMA_SQL)?;
        let found = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        drop(statement);
        proven(found == self.schema, "schema")?;
        Ok(connection)
    }

    /// Opens one that was proven.
    pub(super) fn connect(&self, path: &Path) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.configured(Connection::open_with_flags(path, flags)?)
    }

    /// Opens one that was just made, which gets its journal.
    fn connect_first(&self, path: &Path) -> Result<Connection> {
        let connection = self.connect(path)?;
        // Readers do not wait for a writer; a file system that cannot do it keeps the rollback journal.
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        Ok(connection)
    }

    /// Makes one where there is none; `fill` writes its first rows.
    pub(super) fn create(
        &self,
        path: &Path,
        fill: impl FnOnce(&Connection) -> Result<()>,
    ) -> Result<Connection> {
        folder::create_file(path)?;
        let mut connection = self.connect_first(path)?;
        self.fill(&mut connection, fill)?;
        Ok(connection)
    }

    /// Begins one that counts when [`Database::finish`] has been through, with the first `tables` statements of its schema.
    ///
    /// Without a journal it takes in many rows in half the time; who fails throws it away. No other process can use it.
    pub(super) fn begin(&self, path: &Path, tables: usize) -> Result<Connection> {
        folder::create_file(path)?;
        let connection = self.connect(path)?;
        let silent = |pragma, value| connection.pragma_update_and_check(None, pragma, value, |_| Ok(()));
        silent("locking_mode", "exclusive")?;
        silent("journal_mode", "off")?;
        connection.pragma_update(None, "synchronous", "off")?;
        for statement in &self.schema[..tables] {
            connection.execute_batch(statement)?;
        }
        Ok(connection)
    }

    /// Makes one that was begun count, at `path`; what other processes had there is theirs alone from then on.
    pub(super) fn finish(
        &self,
        connection: Connection,
        begun: &Path,
        tables: usize,
        path: &Path,
    ) -> Result<Connection> {
        for statement in &self.schema[tables..] {
            connection.execute_batch(statement)?;
        }
        self.mark(&connection)?;
        connection.close().map_err(|(_, error)| error)?;
        let synced = std::fs::File::open(begun).and_then(|file| file.sync_all());
        synced.and_then(|()| std::fs::rename(begun, path)).map_err(IndexError::io(begun))?;
        self.connect_first(path)
    }

    /// Is somebody at it, or was it left behind?
    pub(super) fn is_in_use(&self, path: &Path) -> bool {
        let busy = |connection: Connection| {
            connection.busy_timeout(Duration::ZERO)?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        };
        let looked = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(busy);
        matches!(looked.map_err(IndexError::from), Err(IndexError::Busy))
    }

    /// Makes one in memory.
    pub(super) fn create_in_memory(
        &self,
        fill: impl FnOnce(&Connection) -> Result<()>,
    ) -> Result<Connection> {
        let mut connection = self.configured(Connection::open_in_memory()?)?;
        self.fill(&mut connection, fill)?;
        Ok(connection)
    }

    fn configured(&self, connection: Connection) -> Result<Connection> {
        connection.busy_timeout(self.busy)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.pragma_update(None, "synchronous", self.synchronous)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        if let Some(pages) = self.journal_pages {
            connection.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()))?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        Ok(connection)
    }

    fn fill(&self, connection: &mut Connection, fill: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for statement in self.schema {
            transaction.execute_batch(statement)?;
        }
        fill(&transaction)?;
        self.mark(&transaction)?;
        Ok(transaction.commit()?)
    }

    /// Says what it is.
    fn mark(&self, connection: &Connection) -> Result<()> {
        connection.pragma_update(None, "application_id", self.application)?;
        Ok(connection.pragma_update(None, "user_version", self.version)?)
    }
}

/// Calls a table damaged unless it is right.
pub(super) fn proven(is_right: bool, table: &str) -> Result<()> {
    if is_right { Ok(()) } else { Err(IndexError::damaged(format!("table {table}"))) }
}

/// Covers a row's table and all its fields.
pub(super) fn checksum(table: &str, fields: &[&[u8]], numbers: &[i64]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes());
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
    }
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    i64::from_le_bytes(sum)
}
