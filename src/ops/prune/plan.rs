//! Which packs go, and which are packed anew because too little of them is in use.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::judge::Needs;
use super::survey::PackUse;
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
    /// Decides what becomes of the packs that deltas name, and of others; notes the figures in the report.
    pub fn make(packs: &[PackUse], terms: &Terms<'_>, report: &mut Report) -> Plan {
        let mut plan = Plan::default();
        for size in terms.needs.stored.values() {
            report.stored.add(*size);
        }
        let (mut candidates, mut kept_bytes) = (Vec::new(), 0);
        for pack in packs {
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
        let used: HashSet<ObjectHash> = packs.iter().map(|pack| pack.hash).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    const PACK_BYTES: u64 = 1_000;

    fn hash(number: u32) -> ObjectHash {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        ObjectHash(hash)
    }

    /// A pack of ten blobs of which so many stay.
    fn pack(number: u32, size: u64, kept: u32) -> PackUse {
        PackUse {
            hash: hash(number),
            size,
            number,
            host: HostId::default(),
            domain: DomainId::default(),
            views: 1,
            blobs: 10,
            kept,
            kept_bytes: size * u64::from(kept) / 10,
        }
    }

    /// What is decided about packs of which all are there, with what else is known.
    struct Case {
        packs: Vec<PackUse>,
        needs: Needs,
        doomed: HashSet<ObjectHash>,
        orphans: Packs,
        cut: Packs,
        max_unused: MaxUnused,
        room: Option<u64>,
    }

    impl Case {
        fn new(packs: Vec<PackUse>, max_unused: MaxUnused) -> Case {
            let stored = packs.iter().map(|pack| (pack.hash, pack.size)).collect();
            let needs = Needs { ids: Vec::new(), packs: HashSet::new(), stored };
            let (doomed, orphans, cut) = Default::default();
            Case { packs, needs, doomed, orphans, cut, max_unused, room: None }
        }

        /// The numbers of the packs that go, of those that move, and the report.
        fn decide(&self) -> (Vec<u32>, Vec<u32>, Report) {
            let terms = Terms {
                needs: &self.needs,
                doomed: &self.doomed,
                orphans: &self.orphans,
                cut: &self.cut,
                max_unused: self.max_unused,
                pack_bytes: PACK_BYTES,
                room: self.room,
            };
            let mut report = Report::default();
            let plan = Plan::make(&self.packs, &terms, &mut report);
            let number = |hash: &ObjectHash| u32::from_be_bytes(*hash.0.first_chunk().unwrap());
            let mut moved: Vec<u32> = plan.moved.iter().copied().collect();
            moved.sort_unstable();
            let mut emptied: Vec<u32> = plan.emptied.iter().map(number).collect();
            emptied.sort_unstable();
            assert_eq!(moved, emptied);
            (plan.unneeded.iter().map(number).collect(), moved, report)
        }
    }

    #[test]
    fn what_nothing_needs_goes_and_what_a_backup_counts_on_stays() {
        let packs = vec![pack(1, 900, 0), pack(2, 900, 0), pack(3, 900, 10), pack(4, 900, 1)];
        let mut case = Case::new(packs, MaxUnused::Percent(0.0));
        // Checkpoints count on an empty one and on one that is nearly so.
        case.needs.packs.extend([hash(2), hash(4)]);
        case.needs.stored.extend([(hash(5), 50), (hash(6), 60)]);
        case.orphans = vec![hash(5)];
        // One that a cut file stands for, and one that is used all the same.
        case.cut = vec![hash(6), hash(3)];
        let (unneeded, moved, report) = case.decide();
        assert_eq!((unneeded, moved), (vec![1, 5, 6], vec![]));
        assert_eq!(
            (report.unneeded, report.orphans),
            (Amount { packs: 3, bytes: 1_010 }, Amount { packs: 1, bytes: 50 })
        );
        assert_eq!(report.stored, Amount { packs: 6, bytes: 3_710 });
    }

    #[test]
    fn the_emptiest_move_until_the_rest_may_stay() {
        let packs = || vec![pack(1, 900, 9), pack(2, 900, 2), pack(3, 900, 5), pack(4, 900, 10)];
        for (max_unused, moved, unused) in [
            (MaxUnused::Unlimited, vec![], 1_260),
            (MaxUnused::Bytes(1_260), vec![], 1_260),
            (MaxUnused::Bytes(1_259), vec![2], 540),
            (MaxUnused::Bytes(100), vec![2, 3], 90),
            (MaxUnused::Bytes(0), vec![1, 2, 3], 0),
            // Of 2,340 bytes that stay.
            (MaxUnused::Percent(54.0), vec![], 1_260),
            (MaxUnused::Percent(23.5), vec![2], 540),
            (MaxUnused::Percent(0.0), vec![1, 2, 3], 0),
        ] {
            let (unneeded, chosen, report) = Case::new(packs(), max_unused).decide();
            assert_eq!((unneeded, &chosen, report.unused_bytes), (vec![], &moved, unused), "{max_unused:?}");
            assert_eq!(
                report.repacked,
                Amount { packs: moved.len() as u64, bytes: 900 * moved.len() as u64 }
            );
        }
    }

    #[test]
    fn a_full_pack_never_moves_for_its_waste() {
        // The one with waste does not fit, so that too much stays unused; the full one would fit.
        let packs = vec![pack(1, 9_000, 5), pack(2, 900, 10)];
        let case = Case { room: Some(ROOM_LEFT + 2_000), ..Case::new(packs, MaxUnused::Bytes(0)) };
        let (_, moved, report) = case.decide();
        assert_eq!((moved, report.no_room), (vec![], Amount { packs: 1, bytes: 9_000 }));
        assert_eq!(report.unused_bytes, 4_500);
    }

    #[test]
    fn only_what_fits_moves_and_room_is_used_up() {
        // Each takes 450 bytes and an eighth.
        let packs: Vec<PackUse> = (1..4).map(|number| pack(number, 900, 5)).collect();
        for (room, fitting) in [(505, 0), (506, 1), (1_011, 1), (1_012, 2), (1_518, 3)] {
            let packs = packs.clone();
            let case = Case { room: Some(ROOM_LEFT + room), ..Case::new(packs, MaxUnused::Bytes(0)) };
            let (_, moved, report) = case.decide();
            assert_eq!((moved.len(), report.no_room.packs), (fitting, 3 - fitting as u64), "{room}");
        }
    }

    #[test]
    fn doomed_packs_move_however_full_and_ambiguous_ones_never() {
        let mut packs = vec![pack(1, 900, 10), pack(2, 900, 1)];
        packs[1].views = 2;
        let mut case = Case::new(packs, MaxUnused::Bytes(0));
        case.doomed.extend([hash(1), hash(2)]);
        assert_eq!(case.decide().1, [1]);
    }

    #[test]
    fn small_packs_of_one_host_are_joined_when_they_are_many() {
        let small =
            |count: u32| -> Vec<PackUse> { (1..=count).map(|number| pack(number, 249, 10)).collect() };
        let moves = |packs: Vec<PackUse>| Case::new(packs, MaxUnused::Unlimited).decide().1.len();
        assert_eq!((moves(small(7)), moves(small(8))), (0, 8));
        let mut packs = small(8);
        packs[0].size = 250;
        assert_eq!(moves(packs), 0);
        let mut packs = small(8);
        packs[0].host = HostId([1; 16]);
        assert_eq!(moves(packs), 0);
        let mut packs = small(8);
        packs[0].domain = DomainId([1; 16]);
        assert_eq!(moves(packs), 0);
    }

    #[test]
    fn one_prune_condemns_and_moves_only_so_much() {
        let most = limits::CONDEMNED_PACKS_MAX as u32;
        let empty = |count: u32| -> Vec<PackUse> { (0..count).map(|number| pack(number, 900, 0)).collect() };
        for (count, more) in [(most - 1, false), (most, false), (most + 1, true)] {
            let (unneeded, _, report) = Case::new(empty(count), MaxUnused::Bytes(0)).decide();
            assert_eq!((unneeded.len() as u32, report.more), (count.min(most), more));
        }
        // One more that would move.
        let mut packs = empty(most - 1);
        packs.extend([pack(most, 900, 5), pack(most + 1, 900, 5)]);
        let (_, moved, report) = Case::new(packs, MaxUnused::Bytes(0)).decide();
        assert_eq!((moved.len(), report.more), (1, true));
        // Blobs of which places are held in memory; a single pack may have more.
        let full =
            |number| PackUse { blobs: 3_000_000, kept: 1_200_000, kept_bytes: 450, ..pack(number, 900, 0) };
        let (_, moved, report) = Case::new(vec![full(1), full(2)], MaxUnused::Bytes(0)).decide();
        assert_eq!((moved.len(), report.more), (1, true));
        let single = PackUse { kept: 2_500_000, ..full(1) };
        assert_eq!(Case::new(vec![single], MaxUnused::Bytes(0)).decide().1, [1]);
    }

    #[test]
    fn packs_are_condemned_once() {
        let plan =
            Plan { unneeded: vec![hash(2), hash(1)], emptied: vec![hash(2), hash(3)], ..Plan::default() };
        assert_eq!(plan.condemned(), [hash(1), hash(2), hash(3)]);
        let stored = HashMap::from([(hash(1), 5), (hash(2), 7)]);
        assert_eq!(amount(&plan.condemned(), &stored), Amount { packs: 2, bytes: 12 });
    }
}
