//! The order of writes: packs, barrier, delta, snapshot. Nothing is referred to before it is durable.
//!
//! A crash between two steps leaves packs without a delta (rubbish that prune collects) or a delta without a
//! snapshot (blobs that the next run finds and does not store again), never a snapshot without its blobs.

use std::sync::RwLock;

use super::objects::{NewObject, Signer};
use super::packer::FinishedPack;
use super::snapshots::SnapshotInfo;
use super::{RepoError, Repository, deltas, following, snapshots};
use crate::base::id::ObjectHash;
use crate::format::keyset::WriterKeys;
use crate::format::object::ObjectType;
use crate::format::snapshot::{Checkpoint, Snapshot};
use crate::index::{DeltaPack, Index};
use crate::store::Folder;

/// One backup's writes besides its packs.
pub struct Transaction<'a> {
    repository: &'a Repository,
    writer: &'a WriterKeys,
    index: &'a RwLock<Index>,
    next_delta: u64,
    stored: Vec<ObjectHash>,
    parent: Option<ObjectHash>,
    /// Highest number of the host that this run knows of: a list may lag behind.
    last_number: u64,
}

impl<'a> Transaction<'a> {
    /// Begins to write as a host; `parent` is the snapshot from which unchanged files are taken.
    pub fn begin(
        repository: &'a Repository,
        writer: &'a WriterKeys,
        index: &'a RwLock<Index>,
        parent: Option<&SnapshotInfo>,
    ) -> Result<Transaction<'a>, RepoError> {
        let last_number = parent.map_or(0, |info| info.sequence);
        let parent = parent.map(|info| info.hash);
        let next_delta = deltas::next_sequence(repository, &writer.host)?;
        Ok(Transaction { repository, writer, index, next_delta, stored: Vec::new(), parent, last_number })
    }

    /// Makes packs durable, and their blobs known to everyone.
    pub fn publish(&mut self, packs: &[FinishedPack]) -> Result<(), RepoError> {
        if packs.is_empty() {
            return Ok(());
        }
        self.repository.store.barrier()?;
        let hash = deltas::write(self.repository, self.writer, self.next_delta, packs)?;
        self.next_delta += 1;
        self.stored.extend(packs.iter().map(|pack| pack.hash));
        let packs: Vec<DeltaPack> =
            packs.iter().map(|pack| deltas::for_index(pack.hash, pack.size, &pack.contents)).collect();
        Ok(self.index.write().expect("no holder panics").apply(&self.writer.domain, &hash, &packs)?)
    }

    /// Says that a run is on and what it has stored, so that prune spares it and the next run goes on from it.
    pub fn checkpoint(&mut self, job: &str, started: i64, at: i64) -> Result<(), RepoError> {
        let checkpoint =
            Checkpoint { job: job.to_owned(), started, at, packs: self.stored.clone(), parent: self.parent };
        self.write(ObjectType::Checkpoint, checkpoint.encode()).map(|_| ())
    }

    /// Commits the snapshot; everything it refers to was published before. Gives its number and hash.
    pub fn commit(mut self, snapshot: &Snapshot) -> Result<(u64, ObjectHash), RepoError> {
        self.write(ObjectType::Snapshot, snapshot.encode())
    }

    fn write(&mut self, object_type: ObjectType, secret: Vec<u8>) -> Result<(u64, ObjectHash), RepoError> {
        let last = snapshots::last_sequence(self.repository, &self.writer.host)?;
        let sequence = following(last.max(self.last_number), Folder::Snapshots)?;
        let object = NewObject {
            object_type,
            epoch: self.writer.epoch,
            host: self.writer.host,
            domain: self.writer.domain,
            sequence,
            clear: Vec::new(),
            secret,
        };
        let key = &self.writer.snapshot_key;
        let signer = Signer::Host(self.writer);
        let place = object.write(self.repository.store.as_ref(), &self.repository.id(), Some(key), signer)?;
        self.last_number = sequence;
        Ok((sequence, *place.hash().expect("snapshots are named by their hash")))
    }
}
