//! Storing blobs: what the repository already holds is only referred to, the rest is gathered into segments.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RepoError;
use super::packer::{FinishedPack, Packer};
use super::presence::Presence;
use super::segment::OpenSegment;
use crate::base::id::BlobId;
use crate::base::limits;
use crate::compress::Effort;
use crate::crypto::blob_id::BlobNamer;
use crate::format::content::BlobKind;

/// Ids are uniform already; their first bytes are as good a hash as any.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

type IdSet = HashSet<BlobId, BuildHasherDefault<IdHasher>>;

const SHARDS: usize = 64;

/// What was stored, and what was there already.
#[derive(Debug, Default)]
pub struct BlobCounters {
    /// Plaintext bytes of blobs that were new.
    pub new_bytes: AtomicU64,
    /// Blobs that were new.
    pub new_blobs: AtomicU64,
    /// Bytes of all blobs handed in, new or not.
    pub seen_bytes: AtomicU64,
    /// Bytes written into packs.
    pub stored_bytes: AtomicU64,
}

/// Where all workers of a run store their blobs.
pub struct BlobWriter<'a> {
    packer: Packer,
    namer: BlobNamer,
    presence: &'a Presence<'a>,
    /// Blobs of this run whose delta is not yet durable.
    pending: Vec<Mutex<IdSet>>,
    /// Count what would be new, and store none of it.
    rehearsal: bool,
    /// Counts over all workers.
    pub counters: BlobCounters,
}

impl<'a> BlobWriter<'a> {
    /// A writer for the blobs of one domain.
    pub fn new(packer: Packer, namer: BlobNamer, presence: &'a Presence<'a>) -> BlobWriter<'a> {
        let pending = (0..SHARDS).map(|_| Mutex::default()).collect();
        BlobWriter { packer, namer, presence, pending, rehearsal: false, counters: BlobCounters::default() }
    }

    /// The same, but only the counters move: nothing is written to the repository.
    #[must_use]
    pub fn rehearsing(self, rehearsal: bool) -> BlobWriter<'a> {
        BlobWriter { rehearsal, ..self }
    }

    fn shard(&self, id: &BlobId) -> &Mutex<IdSet> {
        &self.pending[usize::from(id.0[15]) % SHARDS]
    }

    /// True when the blob must be stored by the caller, who is then the only one to do it.
    fn claim(&self, id: &BlobId) -> Result<bool, RepoError> {
        if self.shard(id).lock().expect("no holder panics").contains(id) {
            return Ok(false);
        }
        if self.presence.holds(id)? {
            return Ok(false);
        }
        Ok(self.shard(id).lock().expect("no holder panics").insert(*id))
    }

    fn store(&self, segment: OpenSegment, kind: BlobKind) -> Result<(), RepoError> {
        let frame = segment.store(&self.packer, kind, Effort::Usual)?;
        self.counters.stored_bytes.fetch_add(frame, Ordering::Relaxed);
        Ok(())
    }

    /// Packs finished so far; they still need a barrier and a delta.
    pub fn take_ready(&self) -> Result<Vec<FinishedPack>, RepoError> {
        self.packer.take_ready()
    }

    /// Stores what several workers left over and closes the open pack.
    pub fn flush(&self, locals: Vec<LocalSegments>) -> Result<Vec<FinishedPack>, RepoError> {
        let mut joined = LocalSegments::default();
        for local in locals {
            for (kind, segment) in BlobKind::ALL.into_iter().zip(local.0) {
                let target = &mut joined.0[kind as usize];
                let bytes = target.plain.len() + segment.plain.len();
                let blobs = target.ids.len() + segment.ids.len();
                if bytes > limits::SEGMENT_BYTES_MAX / 2 || blobs > limits::SEGMENT_BLOBS_MAX {
                    self.store(std::mem::take(target), kind)?;
                }
                target.plain.extend_from_slice(&segment.plain);
                target.lengths.extend(segment.lengths);
                target.ids.extend(segment.ids);
            }
        }
        for (kind, segment) in BlobKind::ALL.into_iter().zip(joined.0) {
            self.store(segment, kind)?;
        }
        self.packer.flush()
    }

    /// The delta of these packs is durable and in the index: their blobs need no other memory.
    pub fn settle(&self, packs: &[FinishedPack]) {
        for id in packs.iter().flat_map(|pack| &pack.contents.ids) {
            self.shard(id).lock().expect("no holder panics").remove(id);
        }
    }
}

/// The segments that one worker is filling, one per kind.
#[derive(Default)]
pub struct LocalSegments([OpenSegment; BlobKind::ALL.len()]);

/// One worker's door to the [`BlobWriter`].
pub struct LocalWriter<'a> {
    shared: &'a BlobWriter<'a>,
    segments: LocalSegments,
}

impl<'a> LocalWriter<'a> {
    /// A door with empty segments.
    pub fn new(shared: &'a BlobWriter<'a>) -> LocalWriter<'a> {
        LocalWriter { shared, segments: LocalSegments::default() }
    }

    /// Names blobs without storing them.
    pub fn namer(&self) -> &'a BlobNamer {
        &self.shared.namer
    }

    /// Names a blob and stores it unless it is there.
    pub fn put(&mut self, kind: BlobKind, plain: &[u8]) -> Result<BlobId, RepoError> {
        let shared = self.shared;
        let id = shared.namer.name(kind, plain);
        shared.counters.seen_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        if !shared.claim(&id)? {
            return Ok(id);
        }
        shared.counters.new_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        shared.counters.new_blobs.fetch_add(1, Ordering::Relaxed);
        if shared.rehearsal {
            return Ok(id);
        }
        let segment = &mut self.segments.0[kind as usize];
        segment.push(id, plain);
        let full = segment.plain.len() >= limits::SEGMENT_BYTES_AIM
            || segment.ids.len() >= limits::SEGMENT_BLOBS_MAX / 2;
        if full {
            let capacity = segment.plain.capacity();
            let fresh = OpenSegment { plain: Vec::with_capacity(capacity), ..OpenSegment::default() };
            let segment = std::mem::replace(segment, fresh);
            shared.store(segment, kind)?;
        }
        Ok(id)
    }

    /// Gives up the door; the segments go to [`BlobWriter::flush`].
    pub fn into_segments(self) -> LocalSegments {
        self.segments
    }
}
