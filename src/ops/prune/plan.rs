//! Which packs go, and which are packed anew because too little of them is in use.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::judge::Needs;
use super::survey::{PackUse, Survey};
use super::{Amount, MaxUnused, Packs, Report};
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::base::limits;
use crate::index::PackNumber;

/// A pack below this share of the usual size is small.
const SMALL_SHARE: u64 = 4;
/// So many small packs of one host are worth joining.
const SMALL_PACKS_MIN: usize = 8;
/// Blobs that one prune packs anew; their places are held in memory, 48 bytes each.
const REPACKED_BLOBS_MAX: u64 = 2_000_000;
/// Room that repacking leaves on the disk.
const ROOM_LEFT: u64 = 64 << 20;

/// What a prune is going to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Packs that nothing needs.
    pub unneeded: Packs,
    /// Packs whose content moves, by their number in the index.
    pub moved: HashSet<PackNumber>,
    /// The same packs by name.
    pub emptied: Packs,
}

/// What a plan goes by besides the survey.
pub struct Terms<'a> {
    /// What is needed, and what is there.
    pub needs: &'a Needs,
    /// Packs that nobody leans on any more.
    pub doomed: &'a HashSet<ObjectHash>,
    /// Packs that no delta names and that are old enough.
    pub orphans: &'a [ObjectHash],
    /// Packs that have another size than their deltas say.
    pub cut: &'a [ObjectHash],
    /// Unused space that may stay.
    pub max_unused: MaxUnused,
    /// The usual size of a pack.
    pub pack_bytes: u64,
    /// Bytes that can be stored, where that is known.
    pub room: Option<u64>,
}

impl Plan {
    /// Decides, and notes the figures in the report.
    pub fn make(survey: &Survey, terms: &Terms<'_>, report: &mut Report) -> Plan {
        let mut plan = Plan::default();
        for size in terms.needs.stored.values() {
            report.stored.add(*size);
        }
        let (mut candidates, mut kept_bytes) = (Vec::new(), 0);
        for pack in &survey.packs {
            if terms.needs.packs.contains(&pack.hash) {
                continue;
            }
            kept_bytes += pack.kept_bytes;
            match pack.kept {
                0 => {
                    report.unneeded.add(pack.size);
                    plan.unneeded.push(pack.hash);
                }
                _ => candidates.push(pack),
            }
        }
        for orphan in terms.orphans {
            let size = terms.needs.stored.get(orphan).copied().unwrap_or_default();
            report.unneeded.add(size);
            report.orphans.add(size);
            plan.unneeded.push(*orphan);
        }
        // A delta names them, and they are not as long as it says: nothing in them can be counted on.
        let used: HashSet<ObjectHash> = survey.packs.iter().map(|pack| pack.hash).collect();
        for hash in terms.cut.iter().filter(|hash| !used.contains(*hash)) {
            report.unneeded.add(terms.needs.stored.get(hash).copied().unwrap_or_default());
            plan.unneeded.push(*hash);
        }
        plan.unneeded.sort_unstable();
        plan.unneeded.dedup();
        report.more |= plan.unneeded.len() > limits::CONDEMNED_PACKS_MAX;
        plan.unneeded.truncate(limits::CONDEMNED_PACKS_MAX);
        plan.choose(candidates, kept_bytes, terms, report);
        plan
    }

    /// Chooses the packs that are packed anew: those that nobody leans on, the emptiest, the small ones.
    fn choose(
        &mut self,
        mut candidates: Vec<&PackUse>,
        kept_bytes: u64,
        terms: &Terms<'_>,
        report: &mut Report,
    ) {
        // What two deltas describe differently cannot be moved by the word of one of them.
        candidates.retain(|pack| pack.views == 1);
        candidates.sort_by(|a, b| share(b).total_cmp(&share(a)).then(a.hash.cmp(&b.hash)));
        let limit = match terms.max_unused {
            MaxUnused::Unlimited => u64::MAX,
            MaxUnused::Percent(percent) => (percent / 100.0 * kept_bytes as f64) as u64,
            MaxUnused::Bytes(bytes) => bytes,
        };
        let mut unused: u64 = candidates.iter().map(|pack| waste(pack)).sum();
        let small = small_ones(&candidates, terms.pack_bytes);
        let mut room = terms.room.map(|room| room.saturating_sub(ROOM_LEFT));
        let mut blobs = 0;
        for pack in candidates {
            let is_wanted = terms.doomed.contains(&pack.hash)
                || unused > limit && waste(pack) > 0
                || small.contains(&pack.hash);
            if !is_wanted {
                continue;
            }
            let needed = pack.kept_bytes + pack.kept_bytes / 8;
            if blobs + u64::from(pack.kept) > REPACKED_BLOBS_MAX && blobs > 0
                || self.emptied.len() + self.unneeded.len() >= limits::CONDEMNED_PACKS_MAX
            {
                report.more = true;
            } else if room.is_some_and(|room| room < needed) {
                report.no_room.add(pack.size);
            } else {
                room = room.map(|room| room - needed);
                blobs += u64::from(pack.kept);
                unused -= waste(pack);
                self.moved.insert(pack.number);
                self.emptied.push(pack.hash);
                report.repacked.add(pack.size);
            }
        }
        report.unused_bytes = unused;
    }
}

/// Bytes that packing anew would free; padding and footers are not among them.
fn waste(pack: &PackUse) -> u64 {
    if pack.kept == pack.blobs { 0 } else { pack.size.saturating_sub(pack.kept_bytes) }
}

fn share(pack: &PackUse) -> f64 {
    waste(pack) as f64 / pack.size.max(1) as f64
}

/// Small packs of hosts that have many of them.
fn small_ones(candidates: &[&PackUse], pack_bytes: u64) -> HashSet<ObjectHash> {
    let mut by_host: BTreeMap<(DomainId, HostId), Vec<ObjectHash>> = BTreeMap::new();
    for pack in candidates.iter().filter(|pack| pack.size < pack_bytes / SMALL_SHARE) {
        by_host.entry((pack.domain, pack.host)).or_default().push(pack.hash);
    }
    by_host.into_values().filter(|packs| packs.len() >= SMALL_PACKS_MIN).flatten().collect()
}

impl Plan {
    /// Packs that are to be condemned, and whether there are any.
    pub fn condemned(&self) -> Packs {
        let mut packs: Packs = self.unneeded.iter().chain(&self.emptied).copied().collect();
        packs.sort_unstable();
        packs.dedup();
        packs
    }
}

/// Sums the sizes of packs that are there.
pub fn amount(packs: &[ObjectHash], stored: &HashMap<ObjectHash, u64>) -> Amount {
    let mut amount = Amount::default();
    packs.iter().filter_map(|pack| stored.get(pack)).for_each(|size| amount.add(*size));
    amount
}
