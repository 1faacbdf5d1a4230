//! What still opens of a damaged pack goes into new packs; what is lost is known by its ids.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};

use super::domains::Domains;
use crate::base::id::{BlobId, DomainId, HostId, ObjectHash};
use crate::crypto::blob_id::BlobNamer;
use crate::format::envelope::PackEnvelope;
use crate::format::pack::SegmentTable;
use crate::index::Index;
use crate::repo::packer::{Packer, PlainSegment};
use crate::repo::packs::{FIRST_SEGMENT_OFFSET, OpenedPack};
use crate::repo::txn::Transaction;
use crate::repo::{RepoError, Repository, deltas, records};
use crate::store::Folder;

/// What somebody says that a pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    domain: DomainId,
    envelope: Vec<u8>,
    table: SegmentTable,
    /// Ids of all blobs in order; none when the pack's own footer is all there is.
    ids: Option<Vec<BlobId>>,
}

/// Blobs of a domain.
pub(super) type Ids = HashSet<(DomainId, BlobId)>;

/// What all deltas say of some packs.
#[derive(Default)]
pub(super) struct Claims {
    /// Of each pack.
    pub(super) of: HashMap<ObjectHash, Vec<Claim>>,
    /// Who signed deltas, and for which domain.
    pub(super) hosts: Vec<(HostId, DomainId)>,
}

impl Claims {
    /// Reads all deltas and keeps what they say of these packs.
    pub(super) fn read(repository: &Repository, packs: &HashSet<ObjectHash>) -> Result<Claims, RepoError> {
        let hosts = records::hosts(repository)?;
        let mut claims = Claims::default();
        for (place, _) in repository.store.list(Folder::Deltas)? {
            // Those that cannot be used were told when the index was brought into step.
            let Ok(Some(delta)) = deltas::read(repository, &hosts, &place) else { continue };
            claims.hosts.push((delta.host, delta.domain));
            for (hash, _, contents) in delta.packs.into_iter().filter(|(hash, ..)| packs.contains(hash)) {
                let (envelope, table, ids) = (contents.envelope, contents.table, Some(contents.ids));
                let claim = Claim { domain: delta.domain, envelope, table, ids };
                let known = claims.of.entry(hash).or_default();
                if !known.contains(&claim) {
                    known.push(claim);
                }
            }
        }
        Ok(claims)
    }
}

impl Claim {
    /// What the pack itself says, as far as its end still opens.
    pub(super) fn of_footer(
        repository: &Repository,
        domains: &mut Domains,
        pack: ObjectHash,
        bytes: &[u8],
    ) -> Option<Claim> {
        let opened = OpenedPack::open_by_footer(&repository.keys, pack, bytes).ok()?;
        let end = FIRST_SEGMENT_OFFSET as usize;
        let envelope = bytes[end - PackEnvelope::BYTES..end].to_vec();
        let host = PackEnvelope::decode(&envelope).ok()?.host;
        Some(Claim { domain: domains.of(host), envelope, table: opened.table, ids: None })
    }

    /// The ids of each segment; the number of blobs where they are not known.
    fn segments(&self) -> impl Iterator<Item = Result<&[BlobId], usize>> {
        let mut at = 0;
        self.table.segments.iter().map(move |segment| {
            let start = at;
            at += segment.lengths.len();
            self.ids.as_ref().map(|ids| &ids[start..at]).ok_or(segment.lengths.len())
        })
    }

    /// All blobs whose ids are known.
    pub(super) fn ids(&self) -> impl Iterator<Item = (DomainId, BlobId)> {
        self.ids.iter().flatten().map(|id| (self.domain, *id))
    }
}

/// Which blobs are in packs that are whole.
pub(super) struct Holdings<'a> {
    pub(super) index: &'a RwLock<Index>,
    /// Packs that are whole and stay, with their sizes.
    pub(super) whole: HashMap<ObjectHash, u64>,
}

impl Holdings<'_> {
    pub(super) fn hold(&self, (domain, id): &(DomainId, BlobId)) -> Result<bool, RepoError> {
        let index = self.index.read().expect("no holder panics");
        for location in index.lookup(domain, id)? {
            let pack = index.pack(location.pack)?;
            if self.whole.get(&pack.hash) == Some(&pack.size) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What was had out of a damaged pack.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// Blobs that were stored again.
    pub(super) ids: Ids,
    /// Blobs of segments that do not open, where their ids are not known.
    pub(super) unknown: u64,
}

/// Damaged packs are emptied by this.
pub(super) struct Salvager<'a> {
    pub(super) repository: &'a Repository,
    pub(super) dry_run: bool,
}

impl Salvager<'_> {
    /// Stores again what opens of a damaged pack and is in no other pack; published when this returns.
    pub(super) fn empty(
        &self,
        pack: ObjectHash,
        bytes: &[u8],
        claim: &Claim,
        holdings: &mut Holdings<'_>,
    ) -> Result<Salvaged, RepoError> {
        let mut salvaged = Salvaged::default();
        let opened = OpenedPack::open(&self.repository.keys, pack, &claim.envelope, claim.table.clone());
        let (Ok(opened), Ok(envelope)) = (opened, PackEnvelope::decode(&claim.envelope)) else {
            // A claim that does not fit any key is worth nothing.
            return Ok(salvaged);
        };
        let full = self.repository.need_full("repairing packs")?;
        let writer = Arc::new(full.writer(envelope.host, claim.domain));
        let namer = BlobNamer::new(&writer.id_key, &envelope.host);
        let packer = Packer::of(self.repository, Arc::clone(&writer));
        for (number, expected) in claim.segments().enumerate() {
            let is_elsewhere = match expected {
                Ok(ids) => all_held(ids, claim.domain, holdings)?,
                Err(_) => false,
            };
            if is_elsewhere {
                continue;
            }
            let found = opened
                .stored_segment(number, bytes)
                .and_then(|stored| Ok((opened.blob_ids(number, &stored, &namer)?, stored)));
            let (ids, stored) = match (found, expected) {
                (Ok((ids, stored)), Ok(expected)) if ids == expected => (ids, stored),
                (Ok((ids, stored)), Err(_)) => (ids, stored),
                (_, Ok(_)) => continue,
                (Err(_), Err(count)) => {
                    salvaged.unknown += count as u64;
                    continue;
                }
            };
            salvaged.ids.extend(ids.iter().map(|id| (claim.domain, *id)));
            if !self.dry_run {
                let segment = &opened.table.segments[number];
                let (kind, compression, lengths) =
                    (segment.kind, segment.compression, segment.lengths.clone());
                packer.append(PlainSegment { kind, compression, stored, lengths, ids })?;
            }
        }
        let packs = packer.flush()?;
        Transaction::begin(self.repository, &writer, holdings.index, None)?.publish(&packs)?;
        holdings.whole.extend(packs.iter().map(|pack| (pack.hash, pack.size)));
        Ok(salvaged)
    }
}

fn all_held(ids: &[BlobId], domain: DomainId, holdings: &Holdings<'_>) -> Result<bool, RepoError> {
    for id in ids {
        if !holdings.hold(&(domain, *id))? {
            return Ok(false);
        }
    }
    Ok(true)
}
