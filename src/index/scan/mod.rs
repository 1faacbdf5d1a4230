//! The scan cache: what the last run of a job saw of each folder and file that no snapshot keeps.
//!
//! It tells an untouched folder from a touched one without listing it, and a message that was renamed, flagged or
//! moved from a new one without reading it. One SQLite file for each job of a host.
//!
//! All of it is hints. A row is used only beside the page of the parent snapshot that it names, and what it claims
//! ("the file with this number, born then, had this page's content") stays true for ever. So a cache that is older,
//! newer, foreign or torn costs time and never makes a wrong snapshot; one that is bound to another snapshot is not
//! used at all.

mod draft;
mod traces;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

pub use draft::Draft;
pub use traces::{Trace, Traces};

use super::Result;
use super::database::{Database, checksum};
use super::error::IndexError;
use super::folder;
use crate::base::bytes::hex;
use crate::base::id::{BlobId, DomainId, HostId, ObjectHash, RepositoryId};

const SCHEMA: [&str; 6] = [
    "CREATE TABLE binding (number INTEGER PRIMARY KEY, owner BLOB, snapshot BLOB, rules BLOB, ended INTEGER, \
     checksum INTEGER)",
    "CREATE TABLE folders (number INTEGER PRIMARY KEY, state BLOB, checksum INTEGER)",
    "CREATE TABLE leaves (number INTEGER PRIMARY KEY, folder INTEGER, page BLOB, traces BLOB, checksum INTEGER)",
    "CREATE INDEX leaves_of ON leaves (folder)",
    "CREATE TABLE contents (folder INTEGER, page BLOB, bytes BLOB, PRIMARY KEY (folder, page)) WITHOUT ROWID",
    "CREATE TABLE places (inode INTEGER, leaf INTEGER, PRIMARY KEY (inode, leaf)) WITHOUT ROWID",
];

const DATABASE: Database = Database {
    application: 0x4d6c_7363, // "Mlsc"
    version: 2,
    schema: &SCHEMA,
    busy: Duration::from_secs(5),
    // Rows of two runs must not mix, whatever a power cut takes.
    synchronous: "normal",
    journal_pages: Some(2_048),
};

/// Whose cache it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The repository.
    pub repository: RepositoryId,
    /// The host.
    pub host: HostId,
    /// Its dedup domain.
    pub domain: DomainId,
    /// The job.
    pub job: String,
}

impl Owner {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.repository.0).update(&self.host.0).update(&self.domain.0);
        *hasher.update(self.job.as_bytes()).finalize().as_bytes()
    }
}

/// What a cache speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The snapshot that the run made.
    pub snapshot: ObjectHash,
    /// A digest of what the run left out: under other rules a folder that was not touched may list otherwise.
    pub rules: [u8; 16],
    /// When the run ended, unix nanoseconds.
    pub ended: i64,
}

/// Names a folder by its path in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FolderKey([u8; 16]);

impl FolderKey {
    /// The folder at an absolute logical path.
    pub fn of(path: &[u8]) -> FolderKey {
        FolderKey(*blake3::hash(path).as_bytes().first_chunk().expect("a digest holds 16 bytes"))
    }

    /// A number that spreads folders evenly.
    pub fn dice(&self) -> u64 {
        u64::from_le_bytes(*self.0.last_chunk().expect("16 bytes hold 8"))
    }

    fn number(&self) -> i64 {
        i64::from_le_bytes(*self.0.first_chunk().expect("16 bytes hold 8"))
    }
}

/// What the system said of a folder right before it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its number.
    pub inode: u64,
    /// Birth time in unix nanoseconds, where there is one.
    pub birth: Option<i64>,
    /// Modification time, unix nanoseconds.
    pub mtime: i64,
    /// Change time, unix nanoseconds.
    pub ctime: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What the cache knows of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderState {
    /// The file system, by a number that outlives a new device number.
    pub file_system: u64,
    /// `None` when it had been touched too shortly before: a change within one tick of the clock would not show.
    pub stamp: Option<Stamp>,
    /// The first page of its listing in the snapshot; `None` for an empty folder.
    pub root: Option<BlobId>,
    /// The day when it was listed last, counted from 1970.
    pub day: u32,
}

const STATE_BYTES: usize = 16 + 8 + 1 + 8 + 9 + 8 + 8 + 4 + 4 + 4 + 17 + 4;

impl FolderState {
    fn encode(&self, key: &FolderKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATE_BYTES);
        let empty = Stamp { inode: 0, birth: None, mtime: 0, ctime: 0, mode: 0, uid: 0, gid: 0 };
        let stamp = self.stamp.unwrap_or(empty);
        bytes.extend_from_slice(&key.0);
        bytes.extend_from_slice(&self.file_system.to_le_bytes());
        bytes.push(self.stamp.is_some().into());
        bytes.extend_from_slice(&stamp.inode.to_le_bytes());
        bytes.push(stamp.birth.is_some().into());
        bytes.extend_from_slice(&stamp.birth.unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&stamp.mtime.to_le_bytes());
        bytes.extend_from_slice(&stamp.ctime.to_le_bytes());
        bytes.extend_from_slice(&stamp.mode.to_le_bytes());
        bytes.extend_from_slice(&stamp.uid.to_le_bytes());
        bytes.extend_from_slice(&stamp.gid.to_le_bytes());
        bytes.push(self.root.is_some().into());
        bytes.extend_from_slice(&self.root.unwrap_or(BlobId([0; 16])).0);
        bytes.extend_from_slice(&self.day.to_le_bytes());
        bytes
    }

    /// Reads a row; `None` when it is of another folder, or no row of ours at all.
    fn decode(bytes: &[u8], key: &FolderKey) -> Option<FolderState> {
        let mut fields = Fields(bytes);
        if fields.take::<16>()? != key.0 {
            return None;
        }
        let file_system = u64::from_le_bytes(fields.take()?);
        let is_stamped = fields.flag()?;
        let inode = u64::from_le_bytes(fields.take()?);
        let has_birth = fields.flag()?;
        let birth = Some(i64::from_le_bytes(fields.take()?)).filter(|_| has_birth);
        let (mtime, ctime) = (i64::from_le_bytes(fields.take()?), i64::from_le_bytes(fields.take()?));
        let mut number = || Some(u32::from_le_bytes(fields.take()?));
        let (mode, uid, gid) = (number()?, number()?, number()?);
        let stamp = Stamp { inode, birth, mtime, ctime, mode, uid, gid };
        let has_root = fields.flag()?;
        let root = Some(BlobId(fields.take()?)).filter(|_| has_root);
        let day = u32::from_le_bytes(fields.take()?);
        let stamp = Some(stamp).filter(|_| is_stamped);
        fields.0.is_empty().then_some(FolderState { file_system, stamp, root, day })
    }
}

/// Fields of a row, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take::<1>().map(|[flag]| flag != 0)
    }
}

/// Where a file stood: the page of the listing, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The page.
    pub page: BlobId,
    /// Which of its entries.
    pub position: usize,
    /// What was seen of the file.
    pub trace: Trace,
}

/// A scan cache, for asking.
pub struct ScanCache {
    path: PathBuf,
    owner: [u8; 32],
    connection: Connection,
    binding: Option<Binding>,
}

fn folder_checksum(number: i64, state: &[u8]) -> i64 {
    checksum("folders", &[state], &[number])
}

fn leaf_checksum(folder: i64, page: &[u8], traces: &[u8]) -> i64 {
    checksum("leaves", &[page, traces], &[folder])
}

fn binding_checksum(owner: &[u8], binding: &Binding) -> i64 {
    checksum("binding", &[owner, &binding.snapshot.0, &binding.rules], &[binding.ended])
}

/// The folder of a repository's scan caches below the cache directory.
fn folder_of(cache: &Path, repository: &RepositoryId) -> PathBuf {
    cache.join(repository.to_string()).join("scan")
}

fn create(path: &Path) -> Result<Connection> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
    DATABASE.create(path, |_| Ok(()))
}

impl ScanCache {
    /// Opens the cache of a job below the cache directory; one that is damaged or of another version is made anew.
    pub fn open(cache: &Path, owner: &Owner) -> Result<ScanCache> {
        let digest = owner.digest();
        let folder = folder_of(cache, &owner.repository);
        folder::make_folder(&folder)?;
        let path = folder.join(format!("{}.db", hex(&digest[..8])));
        let connection = match DATABASE.open(&path) {
            Ok(connection) => connection,
            Err(IndexError::Busy) => return Err(IndexError::Busy),
            Err(_) => create(&path)?,
        };
        let mut cache = ScanCache { path, owner: digest, connection, binding: None };
        cache.binding = cache.read_binding()?;
        Ok(cache)
    }

    /// Removes the caches of a repository.
    pub(super) fn wipe(cache: &Path, repository: &RepositoryId) {
        // What cannot be removed is a hint, no more.
        let _ = std::fs::remove_dir_all(folder_of(cache, repository));
    }

    /// What it speaks of; `None` for a new one.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// The cache, if it speaks of this snapshot.
    pub fn of(self, snapshot: &ObjectHash) -> Option<ScanCache> {
        let is_of_it = self.binding.is_some_and(|binding| binding.snapshot == *snapshot);
        is_of_it.then_some(self)
    }

    fn read_binding(&self) -> Result<Option<Binding>> {
        let mut statement = self
            .connection
            .prepare("SELECT owner, snapshot, rules, ended, checksum FROM binding WHERE number = 0")?;
        let found = statement
            .query_row([], |row| {
                let binding =
                    Binding { snapshot: ObjectHash(row.get(1)?), rules: row.get(2)?, ended: row.get(3)? };
                Ok((row.get::<_, Vec<u8>>(0)?, binding, row.get::<_, i64>(4)?))
            })
            .optional()?;
        let proven = found
            .filter(|(owner, binding, sum)| *owner == self.owner && *sum == binding_checksum(owner, binding));
        Ok(proven.map(|(_, binding, _)| binding))
    }

    /// What is known of a folder.
    pub fn folder(&self, key: &FolderKey) -> Result<Option<FolderState>> {
        let mut statement =
            self.connection.prepare_cached("SELECT state, checksum FROM folders WHERE number = ?")?;
        let found = statement
            .query_row([key.number()], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let proven = found.filter(|(state, sum)| *sum == folder_checksum(key.number(), state));
        Ok(proven.and_then(|(state, _)| FolderState::decode(&state, key)))
    }

    /// What is known of the files of a folder, page by page.
    pub fn traces(&self, key: &FolderKey) -> Result<Traces> {
        let mut statement =
            self.connection.prepare_cached("SELECT page, traces, checksum FROM leaves WHERE folder = ?")?;
        let mut rows = statement.query([key.number()])?;
        let mut traces = Traces::default();
        while let Some(row) = rows.next()? {
            let page: [u8; 16] = row.get(0)?;
            let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
            if row.get::<_, i64>(2)? == leaf_checksum(key.number(), &page, bytes) {
                traces.add(BlobId(page), bytes);
            }
        }
        Ok(traces)
    }

    /// Pages of a folder's listing that are kept here, so that no segment is opened for them. Their ids prove them.
    pub fn contents(&self, key: &FolderKey) -> Result<HashMap<BlobId, Vec<u8>>> {
        let mut statement =
            self.connection.prepare_cached("SELECT page, bytes FROM contents WHERE folder = ?")?;
        let rows = statement
            .query_map([key.number()], |row| Ok((BlobId(row.get(0)?), row.get::<_, Vec<u8>>(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Where the file with this number stood, in whatever folder.
    pub fn spots(&self, inode: u64) -> Result<Vec<Spot>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT folder, page, traces, checksum FROM places JOIN leaves ON number = leaf WHERE inode = ?",
        )?;
        let mut rows = statement.query([inode as i64])?;
        let mut spots = Vec::new();
        while let Some(row) = rows.next()? {
            let (folder, page): (i64, [u8; 16]) = (row.get(0)?, row.get(1)?);
            let bytes = row.get_ref(2)?.as_blob().unwrap_or_default();
            if row.get::<_, i64>(3)? != leaf_checksum(folder, &page, bytes) {
                continue;
            }
            let traces = traces::decode(bytes).unwrap_or_default();
            let same = traces.into_iter().enumerate().filter(|(_, trace)| trace.inode == inode);
            spots.extend(same.map(|(position, trace)| Spot { page: BlobId(page), position, trace }));
        }
        Ok(spots)
    }

    /// Begins to write what a run sees, beside what is there until [`Draft::commit`].
    pub fn draft(&self) -> Result<Draft> {
        let draft = Draft::begin(DATABASE.connect(&self.path)?, self.owner, self.binding.is_some())?;
        // Another run may have been faster.
        if self.read_binding()? == self.binding { Ok(draft) } else { Err(IndexError::Busy) }
    }
}
