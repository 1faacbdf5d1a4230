//! Reading packs: the file's hash, every frame, every blob's id.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::structure::NamedPack;
use super::{Check, ReadData};
use crate::base::id::{BlobId, ObjectHash};
use crate::base::{entropy, limits};
use crate::compress;
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::pack::FrameKind;
use crate::format::content::BlobKind;
use crate::format::envelope::PackEnvelope;
use crate::format::keyset::Role;
use crate::format::pack::{MAGIC, SegmentTable, TRAILER_FRAME_BYTES, Trailer};
use crate::repo::packs::OpenedPack;
use crate::repo::{RepoError, Repository};
use crate::store::Place;

impl ReadData {
    fn chooses(self, hash: &ObjectHash, dice: u64) -> bool {
        let number = u64::from_be_bytes(*hash.0.first_chunk().expect("32 bytes hold 8"));
        match self {
            ReadData::No => false,
            ReadData::All => true,
            ReadData::Percent(percent) => {
                // A new die each time, so that repeated partial checks reach every pack.
                let thrown = blake3::keyed_hash(&dice_key(dice), &hash.0);
                let thrown = u64::from_be_bytes(*thrown.as_bytes().first_chunk().expect("32 bytes hold 8"));
                (thrown as f64) < percent / 100.0 * u64::MAX as f64
            }
            ReadData::Share { part, of } => number % of.max(1) == part.saturating_sub(1),
        }
    }
}

fn dice_key(dice: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&dice.to_le_bytes());
    key
}

impl Check<'_> {
    /// Reads the chosen packs.
    pub(super) fn read_packs(&mut self, mut packs: Vec<NamedPack>) -> Result<(), RepoError> {
        let dice = u64::from_le_bytes(entropy::random());
        packs.retain(|pack| self.options.read_data.chooses(&pack.hash, dice));
        self.progress.counters().expect(packs.len() as u64, packs.iter().map(|pack| pack.size).sum());
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<(ObjectHash, String)>> = Mutex::default();
        let check = &*self;
        std::thread::scope(|scope| {
            for _ in 0..check.options.workers.max(1) {
                scope.spawn(|| {
                    while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if check.interrupt.is_raised() {
                            return;
                        }
                        match read_pack(check.repository, pack) {
                            Ok(()) => drop(check.bytes_read.fetch_add(pack.size, Ordering::Relaxed)),
                            Err(text) => found.lock().expect("no holder panics").push((pack.hash, text)),
                        }
                        check.progress.counters().add(1, pack.size);
                    }
                });
            }
        });
        self.interrupt.check()?;
        self.report.packs_read = packs.len() as u64;
        self.report.bytes_read = self.bytes_read.load(Ordering::Relaxed);
        let mut found = found.into_inner().expect("no holder panics");
        found.sort();
        for (hash, text) in found {
            self.find(Place::Pack(hash).to_string(), text);
        }
        Ok(())
    }
}

/// Verifies everything about one pack that our keys allow.
fn read_pack(repository: &Repository, named: &NamedPack) -> Result<(), String> {
    let place = Place::Pack(named.hash);
    let bytes = repository.store.read(&place, limits::PACK_BYTES_MAX).map_err(|error| error.to_string())?;
    if ObjectHash(*blake3::hash(&bytes).as_bytes()) != named.hash {
        return Err("its bytes are not those that its name promises".to_owned());
    }
    let head = MAGIC.len() + PackEnvelope::BYTES;
    let envelope = bytes.get(MAGIC.len()..head).filter(|_| bytes.starts_with(&MAGIC)).ok_or("is no pack")?;
    if *envelope != named.contents.envelope {
        return Err("its envelope is not the one that the index delta repeats".to_owned());
    }
    let table = named.contents.table.clone();
    let pack = match OpenedPack::open(&repository.keys, named.hash, envelope, table) {
        Ok(pack) => pack,
        // Another host's pack under a writer key: its name is all that can be verified.
        Err(_) if repository.role() == Role::Writer => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let Some(keys) = repository.keys.domain(&named.domain) else { return Ok(()) };
    let host = PackEnvelope::decode(envelope).map_err(|error| error.to_string())?.host;
    let namer = BlobNamer::new(&keys.id_key, &host);
    let mut ids = named.contents.ids.iter();
    for number in 0..pack.table.segments.len() {
        let expected: Vec<BlobId> =
            ids.by_ref().take(pack.table.segments[number].lengths.len()).copied().collect();
        segment(&pack, number, &bytes, &namer, &expected)
            .map_err(|text| format!("segment {number}: {text}"))?;
    }
    footer(&pack, &bytes)
}

fn segment(
    pack: &OpenedPack,
    number: usize,
    bytes: &[u8],
    namer: &BlobNamer,
    expected: &[BlobId],
) -> Result<(), String> {
    let entry = &pack.table.segments[number];
    let kind = FrameKind::Blob(entry.kind);
    if !pack.opens(kind) {
        return Ok(());
    }
    let start = pack.offsets[number] as usize;
    let frame = bytes.get(start..start + entry.frame_bytes as usize).ok_or("lies behind the end")?;
    let stored = pack.open_frame(kind, number as u64, frame.to_vec()).map_err(|error| error.to_string())?;
    let plain = compress::decompress(entry.compression, &stored, entry.plain_bytes() as usize);
    let plain = plain.map_err(|error| error.to_string())?;
    let mut rest = plain.as_ref();
    for (length, id) in entry.lengths.iter().zip(expected) {
        let (blob, behind) = rest.split_at(*length as usize);
        rest = behind;
        let kind: BlobKind = entry.kind;
        if namer.name(kind, blob) != *id {
            return Err(format!("blob {id} is not what its id promises"));
        }
    }
    Ok(())
}

/// The footer must say what the delta says, or `repair` could not trust it one day.
fn footer(pack: &OpenedPack, bytes: &[u8]) -> Result<(), String> {
    if !pack.opens(FrameKind::Footer) {
        return Ok(());
    }
    let size = bytes.len() as u64;
    let at = size.checked_sub(TRAILER_FRAME_BYTES).ok_or("is too short")? as usize;
    let trailer =
        pack.open_frame(FrameKind::Trailer, 0, bytes[at..].to_vec()).map_err(|e| format!("trailer: {e}"))?;
    let trailer = trailer.as_slice().try_into().map_err(|_| "trailer: wrong length")?;
    let trailer = Trailer::decode(trailer, size).map_err(|error| error.to_string())?;
    let frame = bytes[trailer.footer_offset as usize..at].to_vec();
    let footer = pack.open_frame(FrameKind::Footer, 0, frame).map_err(|error| format!("footer: {error}"))?;
    let table = SegmentTable::decode(&footer).map_err(|error| error.to_string())?;
    if table == pack.table {
        Ok(())
    } else {
        Err("its footer is not what the index delta repeats".to_owned())
    }
}
