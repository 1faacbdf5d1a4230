//! Which copy of each needed blob stays, and what every pack is still good for.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;

use super::PruneError;
use crate::base::id::{BlobId, DomainId, HostId, ObjectHash};
use crate::format::envelope::PackEnvelope;
use crate::format::pack::SegmentTable;
use crate::index::{Index, Location, PackNumber, SortedIds};
use crate::repo::RepoError;

/// A segment of a pack, by the pack's number in the index.
pub type SegmentKey = (PackNumber, u16);

/// A pack as a delta describes it.
struct View {
    /// Which pack of the store.
    pack: usize,
    /// Where its bits begin.
    first_bit: usize,
    /// First blob of each segment.
    starts: Vec<u32>,
}

/// A pack of the store.
#[derive(Debug, Clone)]
pub struct PackUse {
    /// Its name.
    pub hash: ObjectHash,
    /// Its bytes.
    pub size: u64,
    /// Its number in the index, by the first delta that names it.
    pub number: PackNumber,
    /// Who wrote it.
    pub host: HostId,
    /// The domain of its blobs.
    pub domain: DomainId,
    /// Deltas that describe it, each in its own way.
    pub views: u32,
    /// Blobs in it.
    pub blobs: u32,
    /// Blobs of which this is the copy that stays.
    pub kept: u32,
    /// Bytes of the file that these blobs take.
    pub kept_bytes: u64,
}

/// What a survey may count on.
pub struct Terms<'a> {
    /// Packs that are there, with their sizes.
    pub stored: &'a HashMap<ObjectHash, u64>,
    /// Packs whose copies stay only where there is no other.
    pub shunned: &'a HashSet<ObjectHash>,
    /// Hosts whose copies go where there is another: nothing new leans on them.
    pub revoked: &'a HashMap<HostId, u64>,
    /// Segments that turned out not to hold what they should.
    pub bad: &'a HashSet<SegmentKey>,
}

/// A blob whose copy in a shunned pack goes because there is another.
#[derive(Debug, Clone, Copy)]
pub struct Relied {
    /// Its domain.
    pub domain: DomainId,
    /// Its id.
    pub id: BlobId,
    /// The copy that stays.
    pub place: Location,
}

/// What all packs are good for.
pub struct Survey {
    /// Every pack that is there and that a delta names.
    pub packs: Vec<PackUse>,
    views: HashMap<PackNumber, View>,
    kept: Vec<u64>,
    /// Needed blobs of which no copy is to be found.
    pub missing: u64,
}

impl Survey {
    /// Finds the copy that stays of each blob in `needed`; `rely` hears of each one on which a deletion rests.
    pub fn take(
        index: &RwLock<Index>,
        needed: &[(DomainId, SortedIds)],
        terms: &Terms<'_>,
        rely: &mut dyn FnMut(Relied) -> Result<(), RepoError>,
    ) -> Result<Survey, PruneError> {
        let index = index.read().expect("no holder panics");
        let mut survey = Survey::empty(&index, terms)?;
        let mut places = Vec::new();
        for domain in index.domains() {
            let mut sweep = index.sweep(&domain)?;
            let Some((_, ids)) = needed.iter().find(|(of, _)| *of == domain) else {
                while sweep.advance(&mut places)?.is_some() {
                    survey.note_domain(domain, &places);
                }
                continue;
            };
            let mut wanted = ids.pass()?;
            let mut next = wanted.advance()?;
            while let Some(id) = sweep.advance(&mut places)? {
                survey.note_domain(domain, &places);
                while let Some((earlier, _)) = next
                    && earlier < id
                {
                    survey.missing += 1;
                    next = wanted.advance()?;
                }
                if next.is_some_and(|(wanted, _)| wanted == id) {
                    next = wanted.advance()?;
                    survey.keep(domain, id, &mut places, terms, rely)?;
                }
            }
            while next.is_some() {
                survey.missing += 1;
                next = wanted.advance()?;
            }
        }
        for (domain, ids) in needed {
            if !index.domains().contains(domain) {
                let mut wanted = ids.pass()?;
                while wanted.advance()?.is_some() {
                    survey.missing += 1;
                }
            }
        }
        survey.weigh(&index)?;
        Ok(survey)
    }

    /// All packs, none of them needed yet.
    fn empty(index: &Index, terms: &Terms<'_>) -> Result<Survey, PruneError> {
        let mut survey = Survey { packs: Vec::new(), views: HashMap::new(), kept: Vec::new(), missing: 0 };
        let mut by_hash: HashMap<ObjectHash, usize> = HashMap::new();
        let mut bits = 0usize;
        for (number, hash, size) in index.packs()? {
            if terms.stored.get(&hash) != Some(&size) {
                continue;
            }
            let (envelope, table) = description(index, number)?;
            let twin = by_hash.get(&hash).map(|pack| survey.packs[*pack].number);
            if let Some(twin) = twin
                && description(index, twin)?.1 == table
            {
                // Two deltas that say the same, as a prune leaves them that was killed between writing and deleting.
                let View { pack, first_bit, starts } = &survey.views[&twin];
                let view = View { pack: *pack, first_bit: *first_bit, starts: starts.clone() };
                survey.views.insert(number, view);
                continue;
            }
            let mut blobs = 0u32;
            let starts: Vec<u32> = table
                .segments
                .iter()
                .map(|segment| {
                    let start = blobs;
                    blobs += segment.lengths.len() as u32;
                    start
                })
                .collect();
            let pack = *by_hash.entry(hash).or_insert_with(|| {
                let (host, domain) = (envelope.host, DomainId::default());
                let (views, kept, kept_bytes) = (0, 0, 0);
                survey.packs.push(PackUse {
                    hash,
                    size,
                    number,
                    host,
                    domain,
                    views,
                    blobs,
                    kept,
                    kept_bytes,
                });
                survey.packs.len() - 1
            });
            survey.packs[pack].views += 1;
            survey.views.insert(number, View { pack, first_bit: bits, starts });
            bits += blobs as usize;
        }
        survey.kept = vec![0; bits.div_ceil(64)];
        Ok(survey)
    }

    /// A delta of this domain describes these packs.
    fn note_domain(&mut self, domain: DomainId, places: &[Location]) {
        for place in places {
            if let Some(view) = self.views.get(&place.pack) {
                self.packs[view.pack].domain = domain;
            }
        }
    }

    fn keep(
        &mut self,
        domain: DomainId,
        id: BlobId,
        places: &mut Vec<Location>,
        terms: &Terms<'_>,
        rely: &mut dyn FnMut(Relied) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        places.retain(|place| {
            let view = self.views.get(&place.pack);
            view.is_some_and(|view| usize::from(place.segment) < view.starts.len())
                && !terms.bad.contains(&(place.pack, place.segment))
        });
        let is_shunned = |place: &Location| terms.shunned.contains(&self.pack_at(place).hash);
        let is_revoked = |place: &&Location| terms.revoked.contains_key(&self.pack_at(place).host);
        let firm: Vec<&Location> = places.iter().filter(|place| !is_shunned(place)).collect();
        let firm = firm.iter().find(|place| !is_revoked(place)).or(firm.first()).map(|place| **place);
        if let Some(place) = firm {
            if places.iter().any(is_shunned) {
                rely(Relied { domain, id, place })?;
            }
            self.mark(&place);
        } else if places.is_empty() {
            self.missing += 1;
        } else {
            // Another prune may count on any of them, and none was read: all of them stay.
            std::mem::take(places).iter().for_each(|place| self.mark(place));
        }
        Ok(())
    }

    /// This copy stays.
    fn mark(&mut self, place: &Location) {
        let view = &self.views[&place.pack];
        let Some(start) = view.starts.get(usize::from(place.segment)) else { return };
        let bit = view.first_bit + *start as usize + usize::from(place.position);
        let pack = view.pack;
        if let Some(word) = self.kept.get_mut(bit / 64)
            && *word & 1 << (bit % 64) == 0
        {
            *word |= 1 << (bit % 64);
            self.packs[pack].kept += 1;
        }
    }

    fn pack_at(&self, place: &Location) -> &PackUse {
        &self.packs[self.views[&place.pack].pack]
    }

    /// Is this the copy that stays?
    pub fn is_kept(&self, place: &Location) -> bool {
        let Some(view) = self.views.get(&place.pack) else { return false };
        let Some(start) = view.starts.get(usize::from(place.segment)) else { return false };
        let bit = view.first_bit + *start as usize + usize::from(place.position);
        self.kept.get(bit / 64).is_some_and(|word| word & 1 << (bit % 64) != 0)
    }

    /// Works out how many bytes of each pack the needed blobs take: their share of each frame.
    fn weigh(&mut self, index: &Index) -> Result<(), PruneError> {
        let mut weighed = HashSet::new();
        for (number, view) in &self.views {
            if self.packs[view.pack].kept == 0 || !weighed.insert(view.first_bit) {
                continue;
            }
            let (_, table) = description(index, *number)?;
            let mut bytes = 0;
            for (segment, start) in table.segments.iter().zip(&view.starts) {
                let first = view.first_bit + *start as usize;
                let kept = segment.lengths.iter().enumerate().filter(|(at, _)| {
                    let bit = first + at;
                    self.kept[bit / 64] & 1 << (bit % 64) != 0
                });
                let kept: u64 = kept.map(|(_, length)| u64::from(*length)).sum();
                let share = u128::from(segment.frame_bytes) * u128::from(kept);
                bytes += (share / u128::from(segment.plain_bytes().max(1))) as u64;
            }
            self.packs[view.pack].kept_bytes += bytes;
        }
        Ok(())
    }
}

/// Envelope and segments of a pack, as its delta tells.
fn description(index: &Index, number: PackNumber) -> Result<(PackEnvelope, SegmentTable), PruneError> {
    let info = index.pack(number)?;
    let broken =
        || RepoError::Damaged { object: "index cache".to_owned(), detail: "a pack's table".to_owned() };
    let (envelope, table) = info.table.split_at_checked(PackEnvelope::BYTES).ok_or_else(broken)?;
    let envelope = PackEnvelope::decode(envelope).map_err(|_| broken())?;
    Ok((envelope, SegmentTable::decode(table).map_err(|_| broken())?))
}
