//! Packs being written: sealed segments are appended until a pack is full, then it is synced in the background.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::{RepoError, Repository, parity};
use crate::base::id::{BlobId, ObjectHash};
use crate::base::limits;
use crate::crypto::CryptoError;
use crate::crypto::pack::{FrameKind, PackKeys};
use crate::format::content::BlobKind;
use crate::format::delta::PackContents;
use crate::format::envelope::PackEnvelope;
use crate::format::keyset::WriterKeys;
use crate::format::pack::{self, Compression, Segment, SegmentTable, Trailer};
use crate::store::{PackFile, Storage};

/// Packs that may wait for the disk at the same time; more would only hold memory.
const FINISHING_MAX: usize = 2;

/// A pack closes at this many blobs: their ids stay in memory until its delta is written.
const PACK_BLOBS_AIM: usize = 1 << 17;

/// A pack that has its name; durable after the store's next barrier.
#[derive(Debug)]
pub struct FinishedPack {
    /// Its name.
    pub hash: ObjectHash,
    /// Bytes of the file.
    pub size: u64,
    /// What the delta says about it.
    pub contents: PackContents,
}

/// A compressed segment on its way into a pack.
pub struct PlainSegment {
    /// What its blobs hold.
    pub kind: BlobKind,
    /// How `stored` was compressed.
    pub compression: Compression,
    /// The bytes to be sealed.
    pub stored: Vec<u8>,
    /// Plaintext bytes of each blob.
    pub lengths: Vec<u32>,
    /// Id of each blob.
    pub ids: Vec<BlobId>,
}

struct OpenPack {
    file: PackFile,
    keys: PackKeys,
    envelope: PackEnvelope,
    segments: Vec<Segment>,
    ids: Vec<BlobId>,
}

/// Writes packs for one host; shared by all workers.
pub struct Packer {
    store: Arc<dyn Storage>,
    writer: Arc<WriterKeys>,
    pack_bytes: u64,
    parity: Parity,
    open: Mutex<Option<OpenPack>>,
    finishing: Mutex<VecDeque<JoinHandle<Result<FinishedPack, RepoError>>>>,
    finished: Mutex<Vec<FinishedPack>>,
}

/// How much parity packs get, and who makes it: one thread at a time, because each holds a whole pack.
#[derive(Clone, Default)]
struct Parity {
    percent: u32,
    turn: Arc<Mutex<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Packer {
    /// A packer whose packs close at about `pack_bytes`.
    pub fn new(store: Arc<dyn Storage>, writer: Arc<WriterKeys>, pack_bytes: u64) -> Packer {
        let (open, finishing, finished) = Default::default();
        Packer { store, writer, pack_bytes, parity: Parity::default(), open, finishing, finished }
    }

    /// A packer whose packs are as large, and get as much parity, as the repository wants.
    pub fn of(repository: &Repository, writer: Arc<WriterKeys>) -> Packer {
        let packer = Packer::new(Arc::clone(&repository.store), writer, repository.config.pack_bytes);
        let parity = Parity { percent: repository.config.parity_percent, ..Parity::default() };
        Packer { parity, ..packer }
    }

    /// Seals a segment and appends it to the open pack; gives the bytes it takes there.
    pub fn append(&self, segment: PlainSegment) -> Result<u64, RepoError> {
        let mut open = locked(&self.open);
        if open.is_none() {
            *open = Some(OpenPack::create(self.store.as_ref(), &self.writer)?);
        }
        let pack = open.as_mut().expect("opened above");
        let frame_bytes = pack.append(segment)?;
        let full = pack.file.bytes() >= self.pack_bytes
            || pack.segments.len() >= limits::PACK_SEGMENTS_MAX
            || pack.ids.len() >= PACK_BLOBS_AIM;
        if full && let Some(pack) = open.take() {
            drop(open);
            self.finish_in_background(pack)?;
        }
        Ok(frame_bytes)
    }

    fn finish_in_background(&self, pack: OpenPack) -> Result<(), RepoError> {
        let mut finishing = locked(&self.finishing);
        while finishing.len() >= FINISHING_MAX {
            let oldest = finishing.pop_front().expect("not empty");
            self.take_finished(oldest)?;
        }
        let (store, parity) = (Arc::clone(&self.store), self.parity.clone());
        finishing.push_back(std::thread::spawn(move || {
            let finished = pack.finish(store.as_ref())?;
            parity.add(store.as_ref(), finished.hash);
            Ok(finished)
        }));
        Ok(())
    }

    fn take_finished(&self, handle: JoinHandle<Result<FinishedPack, RepoError>>) -> Result<(), RepoError> {
        let pack = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        locked(&self.finished).push(pack);
        Ok(())
    }

    /// Packs finished since the last call, without waiting for the one that is open.
    pub fn take_ready(&self) -> Result<Vec<FinishedPack>, RepoError> {
        let mut finishing = locked(&self.finishing);
        while let Some(oldest) = finishing.pop_front() {
            self.take_finished(oldest)?;
        }
        Ok(std::mem::take(&mut locked(&self.finished)))
    }

    /// Packs that are finished by now; waits for none.
    pub fn take_finished_so_far(&self) -> Vec<FinishedPack> {
        std::mem::take(&mut locked(&self.finished))
    }

    /// Closes the open pack and gives every pack finished since the last call.
    pub fn flush(&self) -> Result<Vec<FinishedPack>, RepoError> {
        let open = locked(&self.open).take();
        if let Some(pack) = open {
            self.finish_in_background(pack)?;
        }
        self.take_ready()
    }
}

impl Parity {
    fn add(&self, store: &dyn Storage, pack: ObjectHash) {
        // What the store keeps in reserve belongs to deltas and snapshots.
        let is_tight = store.available_bytes().is_some_and(|left| left < 2 * limits::PACK_BYTES_AIM);
        if self.percent > 0 && !is_tight {
            let _turn = locked(&self.turn);
            // A pack without parity is a pack all the same: `check` tells, and `repair packs` makes what is missing.
            let _ = parity::store(store, pack, self.percent);
        }
    }
}

impl OpenPack {
    fn create(store: &dyn Storage, writer: &WriterKeys) -> Result<OpenPack, RepoError> {
        let (keys, envelope) = PackKeys::create(writer).map_err(CryptoError::from)?;
        let mut file = store.create_pack(&writer.host)?;
        file.write(&pack::MAGIC)?;
        file.write(&envelope.encode())?;
        Ok(OpenPack { file, keys, envelope, segments: Vec::new(), ids: Vec::new() })
    }

    /// Seals `plain` as frame number `position` and appends it.
    fn write_frame(&mut self, kind: FrameKind, position: u64, plain: Vec<u8>) -> Result<u64, RepoError> {
        let mut frame = plain;
        self.keys
            .frame_cipher(kind)
            .map_err(CryptoError::from)?
            .seal_in_place(&self.keys.context(kind, position), &mut frame);
        self.file.write(&frame)?;
        Ok(frame.len() as u64)
    }

    fn append(&mut self, segment: PlainSegment) -> Result<u64, RepoError> {
        let PlainSegment { kind, compression, stored, lengths, ids } = segment;
        let position = self.segments.len() as u64;
        let frame_bytes = self.write_frame(FrameKind::Blob(kind), position, stored)?;
        self.segments.push(Segment { kind, compression, frame_bytes: frame_bytes as u32, lengths });
        self.ids.extend(ids);
        Ok(frame_bytes)
    }

    fn finish(mut self, store: &dyn Storage) -> Result<FinishedPack, RepoError> {
        let table = SegmentTable { segments: std::mem::take(&mut self.segments) };
        // What readers would refuse is not written.
        table.check().map_err(|error| RepoError::Damaged {
            object: "a new pack".to_owned(),
            detail: error.to_string(),
        })?;
        let footer = table.encode();
        let least = self.file.bytes() + footer.len() as u64 + 2 * pack::TAG_BYTES + pack::TRAILER_FRAME_BYTES;
        let padding = pack::padded_bytes(least) - least;
        self.write_frame(FrameKind::Padding, 0, vec![0; padding as usize])?;
        let footer_offset = self.file.bytes();
        let footer_bytes = self.write_frame(FrameKind::Footer, 0, footer)?;
        let trailer = Trailer { footer_offset, footer_bytes };
        self.write_frame(FrameKind::Trailer, 0, trailer.encode().to_vec())?;
        let contents = PackContents { envelope: self.envelope.encode().to_vec(), table, ids: self.ids };
        let (hash, size) = store.finish_pack(self.file)?;
        Ok(FinishedPack { hash, size, contents })
    }
}
