//! Reading packs: the file's hash, every frame, every blob's id.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::Check;
use super::choice::{self, Coverage, Memory};
use super::finding::{Finding, Kind, Subject};
use super::structure::NamedPack;
use crate::base::clock;
use crate::base::id::{BlobId, DomainId, ObjectHash};
use crate::base::limits;
use crate::compress;
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::pack::FrameKind;
use crate::format::content::BlobKind;
use crate::format::delta::PackContents;
use crate::format::envelope::PackEnvelope;
use crate::format::keyset::Role;
use crate::format::pack::{MAGIC, SegmentTable, TRAILER_FRAME_BYTES, Trailer};
use crate::repo::ledger::Ledger;
use crate::repo::packs::OpenedPack;
use crate::repo::{RepoError, Repository, deltas, parity};
use crate::store::{Folder, Place, StoreErrorKind};

/// A pack to be read, as one delta describes it.
struct Claim {
    hash: ObjectHash,
    size: u64,
    contents: PackContents,
    domain: DomainId,
}

/// What became of the packs that were read.
#[derive(Default)]
struct Outcome {
    /// When each was read and found whole by one claim at least.
    whole: HashMap<ObjectHash, i64>,
    wrong: Vec<(ObjectHash, Kind, String)>,
}

impl Check<'_> {
    /// Reads the chosen packs, and remembers those that are whole.
    pub(super) fn read_packs(&mut self, packs: &[NamedPack], memory: &mut Memory) -> Result<(), RepoError> {
        let sizes: HashMap<ObjectHash, u64> = packs.iter().map(|pack| (pack.hash, pack.size)).collect();
        let chosen = choice::choose(self.options.read_data, &sizes, memory, self.now);
        self.progress.counters().expect(chosen.len() as u64, chosen.iter().map(|pack| sizes[pack]).sum());
        self.parity(&chosen)?;
        let outcome = Mutex::new(Outcome::default());
        let fed = self.feed_readers(packs, &chosen, &outcome);
        let Outcome { whole, mut wrong } = outcome.into_inner().expect("no holder panics");
        // Also of a run that is interrupted: the next one goes on from there.
        memory.extend(whole.iter().map(|(hash, at)| (*hash, *at)));
        for (hash, ..) in &wrong {
            memory.remove(hash);
        }
        memory.retain(|hash, _| sizes.contains_key(hash));
        fed?;
        self.report.coverage = Coverage::of(sizes.keys(), memory, clock::now_seconds());
        let read: HashSet<ObjectHash> =
            whole.keys().copied().chain(wrong.iter().map(|(hash, ..)| *hash)).collect();
        self.report.packs_read = read.len() as u64;
        self.report.bytes_read = whole.keys().map(|hash| sizes[hash]).sum();
        if wrong.is_empty() {
            return Ok(());
        }
        let ledger = Ledger::read(self.repository)?;
        wrong.sort_by(|one, other| (one.0, &one.2).cmp(&(other.0, &other.2)));
        wrong.dedup();
        for (hash, kind, text) in wrong {
            // A prune deleted it since it was listed.
            if kind == Kind::Lost && ledger.doomed.contains_key(&hash) {
                self.report.pruned_packs += 1;
                continue;
            }
            self.find(Finding::new(kind, Subject::Pack, Place::Pack(hash).to_string(), text));
        }
        Ok(())
    }

    /// Reads the parity of the chosen packs.
    fn parity(&mut self, chosen: &HashSet<ObjectHash>) -> Result<(), RepoError> {
        for (place, _) in self.repository.store.list(Folder::Parity)? {
            self.interrupt.check()?;
            let Place::Parity(pack, _) = &place else { continue };
            match chosen.contains(pack).then(|| parity::verify(self.repository.store.as_ref(), &place)) {
                // Removed by a prune since it was listed.
                Some(Err(RepoError::Store(error))) if error.is_missing() => {}
                Some(Err(error)) => {
                    let text = format!("{error}: 'mailark repair packs' makes it anew");
                    self.find(Finding::new(Kind::Damaged, Subject::Parity, place.to_string(), text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the deltas of the chosen packs one after the other, so that few tables are in memory at once.
    fn feed_readers(
        &self,
        packs: &[NamedPack],
        chosen: &HashSet<ObjectHash>,
        outcome: &Mutex<Outcome>,
    ) -> Result<(), RepoError> {
        let hosts = Ledger::read(self.repository)?.hosts;
        let workers = self.options.workers.max(1);
        let (sender, receiver) = crossbeam_channel::bounded::<Claim>(workers);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let receiver = receiver.clone();
                scope.spawn(move || receiver.iter().for_each(|claim| self.read_claim(&claim, outcome)));
            }
            drop(receiver);
            // In the order of the deltas.
            let mut wanted = packs.iter().filter(|pack| chosen.contains(&pack.hash)).peekable();
            while let Some(pack) = wanted.next() {
                let mut of_delta = HashSet::from([(pack.hash, pack.size)]);
                while let Some(next) = wanted.next_if(|next| next.delta == pack.delta) {
                    of_delta.insert((next.hash, next.size));
                }
                // What went wrong with a delta was told when it was read first.
                let Ok(Some(delta)) = deltas::read(self.repository, &hosts, &pack.delta) else { continue };
                let claims =
                    delta.packs.into_iter().filter(|(hash, size, _)| of_delta.contains(&(*hash, *size)));
                for (hash, size, contents) in claims {
                    self.interrupt.check()?;
                    let claim = Claim { hash, size, contents, domain: delta.domain };
                    sender.send(claim).expect("readers take claims until the sender is gone");
                }
            }
            drop(sender);
            Ok::<_, RepoError>(())
        })?;
        Ok(self.interrupt.check()?)
    }

    fn read_claim(&self, claim: &Claim, outcome: &Mutex<Outcome>) {
        if self.interrupt.is_raised() {
            return;
        }
        let read = read_pack(self.repository, claim);
        self.progress.counters().add(1, claim.size);
        let mut outcome = outcome.lock().expect("no holder panics");
        match read {
            Ok(()) => {
                outcome.whole.insert(claim.hash, clock::now_seconds());
            }
            Err((kind, text)) => outcome.wrong.push((claim.hash, kind, text)),
        }
    }
}

/// Verifies everything about one pack that our keys allow.
fn read_pack(repository: &Repository, claim: &Claim) -> Result<(), (Kind, String)> {
    let place = Place::Pack(claim.hash);
    let read = repository.store.read(&place, limits::PACK_BYTES_MAX);
    let bytes = read.map_err(|error| {
        let kind = match error.kind {
            StoreErrorKind::Missing => Kind::Lost,
            StoreErrorKind::Size => Kind::Damaged,
            _ => Kind::Unread,
        };
        (kind, error.to_string())
    })?;
    if ObjectHash(*blake3::hash(&bytes).as_bytes()) != claim.hash {
        return Err((Kind::Damaged, "its bytes are not those that its name promises".to_owned()));
    }
    // It is what its writer made: what does not fit now is a false claim.
    verify_pack(repository, claim, &bytes).map_err(|text| (Kind::Refused, text))
}

fn verify_pack(repository: &Repository, claim: &Claim, bytes: &[u8]) -> Result<(), String> {
    let head = MAGIC.len() + PackEnvelope::BYTES;
    let envelope = bytes.get(MAGIC.len()..head).filter(|_| bytes.starts_with(&MAGIC)).ok_or("is no pack")?;
    if *envelope != claim.contents.envelope {
        return Err("its envelope is not the one that the index delta repeats".to_owned());
    }
    let table = claim.contents.table.clone();
    let pack = match OpenedPack::open(&repository.keys, claim.hash, envelope, table) {
        Ok(pack) => pack,
        // Another host's pack under a writer key: its name is all that can be verified.
        Err(_) if repository.role() == Role::Writer => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let Some(keys) = repository.keys.domain(&claim.domain) else { return Ok(()) };
    let host = PackEnvelope::decode(envelope).map_err(|error| error.to_string())?.host;
    let namer = BlobNamer::new(&keys.id_key, &host);
    let mut ids = claim.contents.ids.iter();
    for number in 0..pack.table.segments.len() {
        let expected: Vec<BlobId> =
            ids.by_ref().take(pack.table.segments[number].lengths.len()).copied().collect();
        segment(&pack, number, bytes, &namer, &expected)
            .map_err(|text| format!("segment {number}: {text}"))?;
    }
    footer(&pack, bytes)
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
