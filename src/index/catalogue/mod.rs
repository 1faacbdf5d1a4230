//! The catalogue: the searchable list of the messages in all snapshots that our keys open.
//!
//! One SQLite file a repository. It holds no more than what the pages and `head` blobs of the repository tell, so it can
//! be made anew at any time; what it says is a way to find something, and never goes into a restore unproven.
//!
//! A *message* is known by its content. It *stays* under one name in one folder from a first to a last snapshot of a
//! series (one job of one host); a flag changed or a move to another folder ends a stay and begins the next one. Snapshots
//! of a series are numbered in their order, and a stay without a last number goes on.

mod ask;
mod fill;
mod query;
mod words;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

pub use ask::{Asker, Found, Stay};
pub use fill::{Facts, Fill, Mailfolder};
pub use query::{Query, State};

use super::Result;
use super::database::Database;
use super::error::IndexError;
use super::folder;
use crate::base::id::{HostId, ObjectHash, RepositoryId};

const SCHEMA: [&str; 20] = [
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID",
    "CREATE TABLE series (id INTEGER PRIMARY KEY, host BLOB, host_name TEXT, job TEXT)",
    "CREATE TABLE snapshots (series INTEGER, number INTEGER, hash BLOB, started INTEGER, whole INTEGER, \
     PRIMARY KEY (series, number)) WITHOUT ROWID",
    "CREATE TABLE folders (id INTEGER PRIMARY KEY, series INTEGER, path BLOB, top BLOB, kind INTEGER, user TEXT, \
     name TEXT, validity INTEGER, highest INTEGER)",
    "CREATE UNIQUE INDEX folder_at ON folders (series, path)",
    "CREATE INDEX folders_of ON folders (user)",
    "CREATE TABLE keywords (folder INTEGER, letter INTEGER, name BLOB, PRIMARY KEY (folder, letter)) WITHOUT ROWID",
    "CREATE TABLE uids (folder INTEGER, base INTEGER, uid INTEGER, validity INTEGER, guid BLOB, \
     PRIMARY KEY (folder, base)) WITHOUT ROWID",
    "CREATE TABLE messages (id INTEGER PRIMARY KEY, content BLOB UNIQUE, size INTEGER, date INTEGER, \
     message_id INTEGER, read INTEGER)",
    "CREATE TABLE texts (id INTEGER PRIMARY KEY, sender TEXT, receivers TEXT, copies TEXT, subject TEXT, \
     message_id TEXT, attachments TEXT)",
    "CREATE TABLE stays (id INTEGER PRIMARY KEY, folder INTEGER, message INTEGER, name BLOB, arrived INTEGER, \
     first INTEGER, last INTEGER)",
    "CREATE INDEX stays_in ON stays (folder, name)",
    "CREATE VIRTUAL TABLE words USING fts5 (sender, receivers, subject, attachments, content='', \
     contentless_delete=1, tokenize='unicode61 remove_diacritics 2')",
    // Ways to ask, which the first snapshot of all fills as it is without.
    "CREATE INDEX messages_named ON messages (message_id)",
    "CREATE INDEX messages_large ON messages (size)",
    "CREATE INDEX messages_sent ON messages (date)",
    "CREATE INDEX messages_unread ON messages (id) WHERE read = 0",
    "CREATE INDEX stays_of ON stays (message)",
    "CREATE INDEX stays_arrived ON stays (arrived)",
    "CREATE INDEX stays_ended ON stays (arrived) WHERE last NOT NULL",
];

/// Statements of the schema that filling needs.
const TABLES: usize = SCHEMA.len() - 7;

const DATABASE: Database = Database {
    application: 0x4d6c_6361, // "Mlca"
    version: 3,
    schema: &SCHEMA,
    busy: Duration::from_secs(10),
    // Rows of two runs must not mix, whatever a power cut takes.
    synchronous: "normal",
    journal_pages: Some(4_096),
};

/// How long another process that fills the catalogue is waited for.
const FILL_WAIT: Duration = Duration::from_secs(60);
/// Bytes of pages that SQLite keeps in memory while the catalogue is filled.
const FILL_CACHE_KIB: i64 = 48 << 10;
/// Likewise while it is asked.
const ASK_CACHE_KIB: i64 = 16 << 10;

/// Names a message by its content: a digest of its recipe, in its domain.
pub type ContentId = [u8; 16];

/// Numbers a series in this catalogue.
pub type SeriesNumber = i64;

/// What kind of place holds messages; stored as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A folder with `cur` and `new`; a stay's name is `cur/…` or `new/…`.
    Maildir = 0,
    /// A file that holds several messages; a stay's name begins with the content id.
    File = 1,
}

/// One job of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Who writes it.
    pub host: HostId,
    /// What people call the host.
    pub host_name: String,
    /// The job.
    pub job: String,
}

/// A snapshot that the catalogue knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSnapshot {
    /// Its number in its series.
    pub number: i64,
    /// The snapshot.
    pub hash: ObjectHash,
    /// When its run began, unix nanoseconds.
    pub started: i64,
    /// Every listing of it could be read.
    pub whole: bool,
}

/// An open catalogue.
pub struct Catalogue {
    connection: Connection,
    path: PathBuf,
    /// Where it lies until its first snapshot is in: nobody else sees it before.
    begun: Option<PathBuf>,
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        if let Some(begun) = &self.begun {
            // Without a journal nothing of it can be trusted.
            let _ = std::fs::remove_file(begun);
        }
    }
}

fn path_of(cache: &Path, repository: &RepositoryId) -> PathBuf {
    cache.join(repository.to_string()).join("catalogue.db")
}

fn begun_at(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

/// Held while a catalogue is opened, made and brought into step: who comes second finds it done.
pub struct FillLock {
    _file: Option<File>,
}

impl FillLock {
    /// Waits for whoever is at it; [`IndexError::Busy`] after a minute.
    pub fn wait(cache: &Path, repository: &RepositoryId) -> Result<FillLock> {
        let path = path_of(cache, repository).with_extension("lock");
        folder::make_folder(path.parent().expect("a file in a folder"))?;
        match folder::lock_file(&path, FILL_WAIT) {
            Err(IndexError::Busy) => Err(IndexError::Busy),
            // Where nothing can be written nobody fills anything.
            locked => Ok(FillLock { _file: locked.ok() }),
        }
    }
}

fn settled(connection: Connection, path: PathBuf) -> Result<Catalogue> {
    // What was purged must not stand in the file any more.
    connection.pragma_update(None, "secure_delete", "fast")?;
    Ok(Catalogue { connection, path, begun: None })
}

impl Catalogue {
    /// Opens the catalogue below the cache directory; one that is damaged or of another version is made anew.
    pub fn open(cache: &Path, repository: &RepositoryId) -> Result<Catalogue> {
        let path = path_of(cache, repository);
        folder::make_folder(path.parent().expect("a file in a folder"))?;
        let connection = match DATABASE.open(&path) {
            Ok(connection) => connection,
            Err(IndexError::Busy) => return Err(IndexError::Busy),
            Err(_) => {
                remove(&path);
                return Catalogue::begin(path);
            }
        };
        settled(connection, path)
    }

    /// Begins a new one.
    fn begin(path: PathBuf) -> Result<Catalogue> {
        let begun = begun_at(&path);
        if begun.exists() {
            if DATABASE.is_in_use(&begun) {
                return Err(IndexError::Busy);
            }
            remove(&begun);
        }
        let connection = DATABASE.begin(&begun, TABLES)?;
        Ok(Catalogue { connection, path, begun: Some(begun) })
    }

    /// Makes a new one count: it is kept, and others see it. One that counts already stays as it is.
    pub fn finish(&mut self) -> Result<()> {
        let Some(begun) = &self.begun else { return Ok(()) };
        let connection = std::mem::replace(&mut self.connection, Connection::open_in_memory()?);
        let connection = DATABASE.finish(connection, begun, TABLES, &self.path)?;
        self.begun = None;
        *self = settled(connection, self.path.clone())?;
        Ok(())
    }

    /// One in memory, for who may not keep anything.
    pub fn in_memory() -> Result<Catalogue> {
        let connection = DATABASE.create_in_memory(|_| Ok(()))?;
        Ok(Catalogue { connection, path: PathBuf::new(), begun: None })
    }

    /// Does a repository have one?
    pub fn exists(cache: &Path, repository: &RepositoryId) -> bool {
        path_of(cache, repository).is_file()
    }

    /// Removes the catalogue of a repository.
    pub fn wipe(cache: &Path, repository: &RepositoryId) {
        let path = path_of(cache, repository);
        remove(&path);
        remove(&begun_at(&path));
    }

    /// Is there one that knows a snapshot?
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM snapshots)", [], |row| row.get(0))?)
    }

    /// A second way to the same catalogue, for another thread: it sees what was committed. None for one in memory and for a new one.
    pub fn second(&self) -> Result<Option<Catalogue>> {
        if self.path.as_os_str().is_empty() || self.begun.is_some() {
            return Ok(None);
        }
        let connection = DATABASE.connect(&self.path)?;
        Ok(Some(Catalogue { connection, path: self.path.clone(), begun: None }))
    }

    /// A fact about the catalogue as a whole.
    pub fn fact(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM facts WHERE name = ?")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }

    /// The series, with their numbers.
    pub fn series(&self) -> Result<Vec<(SeriesNumber, Series)>> {
        let mut statement =
            self.connection.prepare_cached("SELECT id, host, host_name, job FROM series ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            let series = Series { host: HostId(row.get(1)?), host_name: row.get(2)?, job: row.get(3)? };
            Ok((row.get(0)?, series))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The snapshots of a series, in order.
    pub fn snapshots(&self, series: SeriesNumber) -> Result<Vec<KnownSnapshot>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, hash, started, whole FROM snapshots WHERE series = ? ORDER BY number",
        )?;
        let rows = statement.query_map([series], |row| {
            let hash = ObjectHash(row.get(1)?);
            Ok(KnownSnapshot { number: row.get(0)?, hash, started: row.get(2)?, whole: row.get(3)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The number of a message, if its content is known.
    pub fn message(&self, content: &ContentId) -> Result<Option<i64>> {
        let mut statement = self.connection.prepare_cached("SELECT id FROM messages WHERE content = ?")?;
        Ok(statement.query_row([content], |row| row.get(0)).optional()?)
    }

    /// Are there messages whose head could not be read so far?
    pub fn has_unread(&self) -> Result<bool> {
        let mut statement = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM messages INDEXED BY messages_unread WHERE read = 0)",
        )?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Empties the journal beside the file, where what was taken out still stands.
    pub fn settle(&self) -> Result<()> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// How many messages are listed, and how many of them could not be looked into.
    pub fn count(&self) -> Result<(u64, u64)> {
        let counts = self.connection.query_row(
            "SELECT count(*), count(*) FILTER (WHERE read <> 1) FROM messages",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        Ok((counts.0.unsigned_abs(), counts.1.unsigned_abs()))
    }
}

/// Names a base name, or a Message-ID, by a number.
fn number_of(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(*blake3::hash(bytes).as_bytes().first_chunk().expect("a digest holds 8 bytes"))
}
