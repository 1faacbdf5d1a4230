//! Stats: what the repository holds, and what that costs. Read from the index and from names and sizes alone.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;

use crate::base::id::ObjectHash;
use crate::format::content::BlobKind;
use crate::format::envelope::PackEnvelope;
use crate::format::pack::{SegmentTable, TAG_BYTES, TRAILER_FRAME_BYTES};
use crate::format::snapshot::Totals;
use crate::index::Index;
use crate::repo::packs::FIRST_SEGMENT_OFFSET;
use crate::repo::snapshots::{self, SnapshotInfo};
use crate::repo::{RepoError, Repository};
use crate::store::Folder;

/// What blobs of one kind come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Blobs.
    pub blobs: u64,
    /// Their plaintext, bytes.
    pub plain_bytes: u64,
    /// Their sealed segments, bytes.
    pub stored_bytes: u64,
}

/// What a repository holds.
#[derive(Debug, Default)]
pub struct RepositoryStats {
    /// All snapshots of the repository were counted; else stored bytes and snapshots cannot be compared.
    pub whole: bool,
    /// Snapshots that our keys open.
    pub snapshots: u64,
    /// Hosts that wrote them.
    pub hosts: u64,
    /// Jobs of those hosts.
    pub jobs: u64,
    /// Sums over all snapshots: what restoring each of them would bring.
    pub logical: Totals,
    /// Sums over the newest snapshot of each host and job.
    pub newest: Totals,
    /// Packs in the store.
    pub packs: u64,
    /// Bytes of packs.
    pub pack_bytes: u64,
    /// Packs that no delta which we can read describes: of other hosts, or left by interrupted runs.
    pub unknown_packs: u64,
    /// Bytes of deltas.
    pub delta_bytes: u64,
    /// Bytes of snapshots and checkpoints.
    pub snapshot_bytes: u64,
    /// Bytes of records and key slots.
    pub other_bytes: u64,
    /// Footers, trailers and envelopes of the packs described, bytes.
    pub footer_bytes: u64,
    /// What packs are padded with, bytes.
    pub padding_bytes: u64,
    /// By the number of the [`BlobKind`].
    pub kinds: [KindStats; BlobKind::ALL.len()],
}

impl RepositoryStats {
    /// All objects together, bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.pack_bytes + self.delta_bytes + self.snapshot_bytes + self.other_bytes
    }

    /// Listings, deltas and pack footers, bytes: what it costs to know what is where.
    pub fn overhead_bytes(&self) -> u64 {
        self.kinds[BlobKind::Tree as usize].stored_bytes + self.delta_bytes + self.footer_bytes
    }

    /// Overhead for each message of the newest snapshots; none without messages, or if others have more.
    pub fn overhead_per_message(&self) -> Option<f64> {
        (self.whole && self.newest.messages > 0)
            .then(|| self.overhead_bytes() as f64 / self.newest.messages as f64)
    }

    /// How many bytes of backups each stored byte gives; none in an empty repository, or if others have more.
    pub fn ratio(&self) -> Option<f64> {
        let stored = self.stored_bytes();
        (self.whole && stored > 0 && self.snapshots > 0).then(|| self.logical.bytes as f64 / stored as f64)
    }

    /// Adds a pack as its delta describes it.
    fn add_pack(&mut self, size: u64, table: &SegmentTable) {
        let mut frames = 0;
        for segment in &table.segments {
            let kind = &mut self.kinds[segment.kind as usize];
            kind.blobs += segment.lengths.len() as u64;
            kind.plain_bytes += segment.plain_bytes();
            kind.stored_bytes += u64::from(segment.frame_bytes);
            frames += u64::from(segment.frame_bytes);
        }
        let footer = FIRST_SEGMENT_OFFSET + table.encode().len() as u64 + TAG_BYTES + TRAILER_FRAME_BYTES;
        self.footer_bytes += footer;
        self.padding_bytes += size.saturating_sub(frames + footer);
    }
}

/// Adds up a repository with the given snapshots, which are `whole` when it holds no others; the index must be in step with the store.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    snapshots: &[SnapshotInfo],
    whole: bool,
) -> Result<RepositoryStats, RepoError> {
    let mut stats =
        RepositoryStats { whole, snapshots: snapshots.len() as u64, ..RepositoryStats::default() };
    stats.hosts = snapshots.iter().map(|info| info.host).collect::<HashSet<_>>().len() as u64;
    snapshots.iter().for_each(|info| stats.logical += info.snapshot.totals());
    let newest = snapshots::newest_of_each_job(snapshots);
    stats.jobs = newest.len() as u64;
    newest.iter().for_each(|info| stats.newest += info.snapshot.totals());

    let bytes_of = |folder| -> Result<u64, RepoError> {
        Ok(repository.store.list(folder)?.iter().map(|(_, size)| size).sum())
    };
    stats.delta_bytes = bytes_of(Folder::Deltas)?;
    stats.snapshot_bytes = bytes_of(Folder::Snapshots)?;
    stats.other_bytes = bytes_of(Folder::Records)? + bytes_of(Folder::Keys)?;
    let mut stored: HashMap<ObjectHash, u64> = HashMap::new();
    for (place, size) in repository.store.list(Folder::Packs)? {
        stats.packs += 1;
        stats.pack_bytes += size;
        stored.extend(place.hash().map(|hash| (*hash, size)));
    }
    let index = index.read().expect("no holder panics");
    for (number, hash, _) in index.packs()? {
        // What two deltas name is counted once; what is not there costs nothing.
        let Some(size) = stored.remove(&hash) else { continue };
        let info = index.pack(number)?;
        let table = info.table.get(PackEnvelope::BYTES..).and_then(|table| SegmentTable::decode(table).ok());
        let damaged =
            || RepoError::Damaged { object: "index cache".to_owned(), detail: "a pack's table".to_owned() };
        stats.add_pack(size, &table.ok_or_else(damaged)?);
    }
    stats.unknown_packs = stored.len() as u64;
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Compression, Segment};

    #[test]
    fn every_byte_of_a_pack_is_accounted_for() {
        let segment = |kind, frame_bytes, lengths| Segment {
            kind,
            compression: Compression::Zstd,
            frame_bytes,
            lengths,
        };
        let table = SegmentTable {
            segments: vec![
                segment(BlobKind::Head, 300, vec![400, 500]),
                segment(BlobKind::Tree, 100, vec![250]),
                segment(BlobKind::Head, 50, vec![40]),
            ],
        };
        let mut stats = RepositoryStats::default();
        stats.add_pack(4_096, &table);
        assert_eq!(
            stats.kinds[BlobKind::Head as usize],
            KindStats { blobs: 3, plain_bytes: 940, stored_bytes: 350 }
        );
        assert_eq!(
            stats.kinds[BlobKind::Tree as usize],
            KindStats { blobs: 1, plain_bytes: 250, stored_bytes: 100 }
        );
        assert_eq!(450 + stats.footer_bytes + stats.padding_bytes, 4_096);
    }

    #[test]
    fn costs_are_told_per_message_and_never_of_nothing() {
        let mut stats = RepositoryStats { whole: true, ..RepositoryStats::default() };
        assert_eq!((stats.overhead_per_message(), stats.ratio()), (None, None));
        stats.kinds[BlobKind::Tree as usize].stored_bytes = 500;
        (stats.delta_bytes, stats.footer_bytes, stats.pack_bytes) = (300, 200, 9_700);
        stats.newest.messages = 10;
        (stats.snapshots, stats.logical.bytes) = (3, 50_000);
        assert_eq!(stats.overhead_per_message(), Some(100.0));
        assert_eq!(stats.ratio(), Some(5.0));
        stats.whole = false;
        assert_eq!((stats.overhead_per_message(), stats.ratio()), (None, None));
    }
}
