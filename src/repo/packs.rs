//! What is known of each pack: its keys and its segments, as the delta tells.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, RwLock};

use super::RepoError;
use crate::base::id::{BlobId, ObjectHash};
use crate::compress;
use crate::crypto::CryptoError;
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::pack::{FrameKind, PackKeys};
use crate::format::delta::PackContents;
use crate::format::envelope::PackEnvelope;
use crate::format::keyset::KeySet;
use crate::format::pack::{MAGIC, SegmentTable, TRAILER_FRAME_BYTES, Trailer};
use crate::index::{Index, PackInfo, PackNumber};
use crate::store::Place;

/// Packs whose keys are kept ready.
const OPEN_PACKS_MAX: usize = 256;

/// Offset of the first segment in a pack.
pub const FIRST_SEGMENT_OFFSET: u64 = (MAGIC.len() + PackEnvelope::BYTES) as u64;

/// A pack whose keys were opened.
pub struct OpenedPack {
    /// Its name.
    pub hash: ObjectHash,
    /// Its keys, as many as our key set gives.
    pub keys: PackKeys,
    /// Its segments.
    pub table: SegmentTable,
    /// Where each of them begins.
    pub offsets: Vec<u64>,
}

impl OpenedPack {
    /// Does our key set open frames of this kind?
    pub fn opens(&self, kind: FrameKind) -> bool {
        self.keys.frame_cipher(kind).is_ok()
    }

    /// Opens frame number `position` of its kind.
    pub fn open_frame(
        &self,
        kind: FrameKind,
        position: u64,
        mut frame: Vec<u8>,
    ) -> Result<Vec<u8>, RepoError> {
        let opened = self.keys.frame_cipher(kind).map_err(CryptoError::from)?;
        let context = self.keys.context(kind, position);
        opened.open_in_place(&context, &mut frame).map_err(CryptoError::from)?;
        Ok(frame)
    }

    /// Opens a pack's keys.
    pub fn open(
        keys: &KeySet,
        hash: ObjectHash,
        envelope: &[u8],
        table: SegmentTable,
    ) -> Result<OpenedPack, RepoError> {
        let object = || Place::Pack(hash).to_string();
        let envelope = PackEnvelope::decode(envelope)
            .map_err(|error| RepoError::Damaged { object: object(), detail: error.to_string() })?;
        let keys = PackKeys::open(keys, &envelope)
            .map_err(|error| RepoError::Damaged { object: object(), detail: error.to_string() })?;
        Ok(OpenedPack { hash, keys, offsets: offsets(&table), table })
    }

    /// Opens a pack out of its bytes alone, by its own envelope and footer, when no delta tells of it.
    pub fn open_by_footer(keys: &KeySet, hash: ObjectHash, bytes: &[u8]) -> Result<OpenedPack, RepoError> {
        let damaged = |detail: &dyn Display| RepoError::Damaged {
            object: Place::Pack(hash).to_string(),
            detail: detail.to_string(),
        };
        let head = FIRST_SEGMENT_OFFSET as usize;
        let envelope = bytes.get(MAGIC.len()..head).filter(|_| bytes.starts_with(&MAGIC));
        let envelope = envelope.ok_or_else(|| damaged(&"it does not begin as a pack"))?;
        let nothing = SegmentTable { segments: Vec::new() };
        let mut pack = OpenedPack::open(keys, hash, envelope, nothing)?;
        let at = bytes.len().saturating_sub(TRAILER_FRAME_BYTES as usize).max(head);
        let frame = |kind, bytes: &[u8]| {
            pack.open_frame(kind, 0, bytes.to_vec()).map_err(|error| damaged(&format!("its end: {error}")))
        };
        let trailer = frame(FrameKind::Trailer, &bytes[at..])?;
        let trailer = trailer.as_slice().try_into().map_err(|_| damaged(&"its end has another length"))?;
        let trailer = Trailer::decode(trailer, bytes.len() as u64).map_err(|error| damaged(&error))?;
        let footer = frame(FrameKind::Footer, &bytes[trailer.footer_offset as usize..at])?;
        let table = SegmentTable::decode(&footer).map_err(|error| damaged(&error))?;
        (pack.offsets, pack.table) = (offsets(&table), table);
        Ok(pack)
    }

    /// Opens a segment out of the pack's bytes; it is still compressed.
    pub fn stored_segment(&self, number: usize, bytes: &[u8]) -> Result<Vec<u8>, RepoError> {
        let segment = &self.table.segments[number];
        let start = self.offsets[number] as usize;
        let frame = bytes
            .get(start..start + segment.frame_bytes as usize)
            .ok_or_else(|| self.damaged(number, &"lies behind the end"))?;
        self.open_frame(FrameKind::Blob(segment.kind), number as u64, frame.to_vec())
            .map_err(|error| self.damaged(number, &error))
    }

    /// Names the blobs of an opened segment anew: a claimed id proves nothing.
    pub fn blob_ids(
        &self,
        number: usize,
        stored: &[u8],
        namer: &BlobNamer,
    ) -> Result<Vec<BlobId>, RepoError> {
        let segment = &self.table.segments[number];
        let plain = compress::decompress(segment.compression, stored, segment.plain_bytes() as usize)
            .map_err(|error| self.damaged(number, &error))?;
        let mut rest = plain.as_ref();
        let ids = segment.lengths.iter().map(|length| {
            let (blob, behind) = rest.split_at(*length as usize);
            rest = behind;
            namer.name(segment.kind, blob)
        });
        Ok(ids.collect())
    }

    fn damaged(&self, number: usize, detail: &dyn Display) -> RepoError {
        let object = Place::Pack(self.hash).to_string();
        RepoError::Damaged { object, detail: format!("segment {number}: {detail}") }
    }
}

/// Where each segment begins.
fn offsets(table: &SegmentTable) -> Vec<u64> {
    let mut offset = FIRST_SEGMENT_OFFSET;
    let starts = table.segments.iter().map(|segment| {
        let start = offset;
        offset += u64::from(segment.frame_bytes);
        start
    });
    starts.collect()
}

/// What the index keeps of a pack.
pub fn to_info(hash: ObjectHash, size: u64, contents: &PackContents) -> PackInfo {
    let mut table = contents.envelope.clone();
    table.extend(contents.table.encode());
    PackInfo { hash, size, table }
}

/// The packs opened last.
pub struct PackMap {
    keys: Arc<KeySet>,
    packs: Mutex<HashMap<PackNumber, Arc<OpenedPack>>>,
}

impl PackMap {
    /// An empty map that opens packs with `keys`.
    pub fn new(keys: Arc<KeySet>) -> PackMap {
        PackMap { keys, packs: Mutex::default() }
    }

    /// Gives a pack, opening it if need be.
    pub fn get(&self, index: &RwLock<Index>, number: PackNumber) -> Result<Arc<OpenedPack>, RepoError> {
        if let Some(pack) = self.packs.lock().expect("no holder panics").get(&number) {
            return Ok(Arc::clone(pack));
        }
        let info = index.read().expect("no holder panics").pack(number)?;
        let cached =
            || RepoError::Damaged { object: "index cache".to_owned(), detail: "a pack's table".to_owned() };
        let (envelope, table) = info.table.split_at_checked(PackEnvelope::BYTES).ok_or_else(cached)?;
        let table = SegmentTable::decode(table).map_err(|_| cached())?;
        let pack = Arc::new(OpenedPack::open(&self.keys, info.hash, envelope, table)?);
        let mut packs = self.packs.lock().expect("no holder panics");
        if packs.len() >= OPEN_PACKS_MAX {
            packs.clear();
        }
        packs.insert(number, Arc::clone(&pack));
        Ok(pack)
    }
}
