//! What is known of each pack: its keys and its segments, as the delta tells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use super::RepoError;
use crate::base::id::ObjectHash;
use crate::crypto::CryptoError;
use crate::crypto::pack::{FrameKind, PackKeys};
use crate::format::delta::PackContents;
use crate::format::envelope::PackEnvelope;
use crate::format::keyset::KeySet;
use crate::format::pack::{MAGIC, SegmentTable};
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
        let mut offset = FIRST_SEGMENT_OFFSET;
        let offsets = table.segments.iter().map(|segment| {
            let start = offset;
            offset += u64::from(segment.frame_bytes);
            start
        });
        Ok(OpenedPack { hash, keys, offsets: offsets.collect(), table })
    }
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
