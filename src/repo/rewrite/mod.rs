//! Snapshots written anew without some of their content: what purge and repair have in common.
//!
//! A [`Sieve`] says what becomes of each entry. Folders that it leaves as they are keep their pages, and what many
//! snapshots share is looked at once. [`host()`] makes the new listings of one host's snapshots; [`commit()`] writes
//! the record, then the snapshots. Section "Records" of `repo-format.md`.

mod commit;
mod folders;
mod held;
mod host;
mod stand;

pub use commit::{Lost, Order, commit};
pub use held::Held;
pub use host::{Run, host};
pub use stand::still_stand;

use super::RepoError;
use super::blob_writer::LocalWriter;
use super::reader::{Blob, BlobReader};
use super::snapshots::SnapshotInfo;
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::format::content::BlobKind;
use crate::format::page::Entry;
use crate::format::snapshot::{Part, Totals};
use crate::store::StoreErrorKind;

/// What becomes of an entry.
pub enum Verdict {
    /// It stays, and so does everything below it.
    Keep,
    /// A folder stays; what is below it is judged by itself.
    Enter,
    /// It goes, and so does everything below it.
    Drop,
    /// This stands in its place, under the same name.
    Replace(Box<Entry>),
}

/// Decides what stays.
///
/// It is asked at least once about every entry of every page that it does not pass over, but only once or twice about
/// a page that many snapshots share: its answer may depend on the entry and on where it stands, on nothing else.
pub trait Sieve: Send {
    /// Is told which snapshot comes next.
    fn begin(&mut self, _: &SnapshotInfo) {}

    /// Judges an entry of the folder at a logical path.
    fn judge(
        &mut self,
        folder: &[u8],
        entry: &Entry,
        tools: &mut Tools<'_, '_>,
    ) -> Result<Verdict, RepoError>;

    /// A page of a folder cannot be read: it is left out, unless that is an error.
    fn broken(&mut self, folder: &[u8], error: RepoError) -> Result<(), RepoError>;
}

/// What a [`Sieve`] may read and write with.
pub struct Tools<'t, 'a> {
    /// Reads what the snapshots refer to.
    pub reader: &'t BlobReader<'a>,
    /// Raised to stop.
    pub interrupt: &'t Interrupt,
    local: &'t mut LocalWriter<'a>,
}

impl Tools<'_, '_> {
    /// Reads a page, unless somebody asked to stop.
    pub fn page(&self, id: &BlobId) -> Result<Blob, RepoError> {
        self.interrupt.check()?;
        self.reader.page(id)
    }

    /// Stores a blob unless it is there.
    pub fn put(&mut self, kind: BlobKind, plain: &[u8]) -> Result<BlobId, RepoError> {
        self.local.put(kind, plain)
    }
}

/// A snapshot of which something was taken out.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The snapshot as it was.
    pub old: SnapshotInfo,
    /// Its parts as they are to be.
    pub parts: Vec<Part>,
}

impl Rewritten {
    /// Files, folders, bytes and messages that were taken out.
    pub fn taken(&self) -> Totals {
        let (before, mut after) = (self.old.snapshot.totals(), Totals::default());
        self.parts.iter().for_each(|part| after += part.tree.totals);
        Totals {
            files: before.files.saturating_sub(after.files),
            folders: before.folders.saturating_sub(after.folders),
            bytes: before.bytes.saturating_sub(after.bytes),
            messages: before.messages.saturating_sub(after.messages),
            newest: 0,
        }
    }
}

/// Is something lost for good, so far as this repository goes, rather than out of reach for now?
///
/// A share that is away, or a disk that refuses, says nothing about what it holds.
pub fn is_loss(error: &RepoError) -> bool {
    match error {
        RepoError::Store(error) => {
            matches!(error.kind, StoreErrorKind::Missing | StoreErrorKind::Size)
        }
        RepoError::Damaged { .. }
        | RepoError::Refused { .. }
        | RepoError::MissingBlob { .. }
        | RepoError::Page { .. }
        | RepoError::Crypto(_)
        | RepoError::Compress(_) => true,
        _ => false,
    }
}
